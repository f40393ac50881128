//! What gateways of other communities are answered (ITI-38, ITI-39, RAD-75), and queries over many patients (ITI-51).

use idr_ihe::soap::HeaderName;
use idr_ihe::transaction::iti_18::{self, Definition, ReturnType};
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::{RegistryResponse, Status};
use idr_ihe::transaction::table::action;
use idr_profile::access::Claims;
use idr_profile::xds::XdsRules;

use crate::testing::soap::{Answer, HOME, REPOSITORY, envelope, imaging, message_id, plain, query, retrieve};
use crate::testing::{EXPLICIT, Instance, PKI, Party, STUDY, World, other_patient, patient};

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";
const FOREIGN: &str = "urn:oid:1.2.246.10.90000099.12.1";

async fn ask(world: &World, party: &Party, claims: &Claims, action: &str, body: &str) -> Answer {
    world.soap(party, plain(envelope(&party.security(claims), action, &message_id(), body))).await
}

fn find(home: Option<&str>) -> String {
    let parameters = [("$XDSDocumentEntryPatientId", vec![patient().to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
    iti_18::encode(Definition::of_name("FindDocuments").expect("a query"), ReturnType::LeafClass, home, &parameters)
}

fn by_id(home: Option<&str>, uid: &str) -> String {
    let definition = Definition::of_name("GetDocuments").expect("a query");
    iti_18::encode(definition, ReturnType::LeafClass, home, &[("$XDSDocumentEntryUniqueId", vec![uid.to_owned()])])
}

fn document(home: Option<&str>, uid: &str) -> DocumentRequest {
    let [home, repository, unique] = [home, Some(REPOSITORY), Some(uid)].map(|value| value.map(str::to_owned));
    DocumentRequest { home_community_id: home, repository_unique_id: repository, document_unique_id: unique }
}

fn images(documents: Vec<DocumentRequest>) -> String {
    let series = SeriesRequest { series_instance_uid: Some(format!("{STUDY}.1")), documents };
    let studies = vec![StudyRequest { study_instance_uid: Some(STUDY.to_owned()), series: vec![series] }];
    rad_69::encode(&RetrieveImagingRequest { studies, transfer_syntaxes: Some(vec![Some(EXPLICIT.to_owned())]) })
}

/// Codes of the errors with their location.
fn errors(response: &RegistryResponse) -> Vec<(&str, Option<&str>)> {
    response.errors.iter().map(|error| (error.error_code.as_str(), error.location.as_deref())).collect()
}

async fn world() -> (World, String, String) {
    let world = World::new().await;
    let instance = Instance::ct(1);
    world.stored(std::slice::from_ref(&instance)).await;
    let revision = world.registered(std::slice::from_ref(&instance)).await;
    (world, revision.document_uid.clone(), instance.sop_instance_uid)
}

/// H-02, H-05, H-06, H-10.
#[tokio::test]
async fn a_query_between_communities_names_the_community_it_asks() {
    let (world, uid, _) = world().await;
    let own = PKI.hospital.physician(&patient());
    for body in [find(None), find(Some(HOME)), by_id(Some(HOME), &uid)] {
        let answer = ask(&world, &PKI.hospital, &own, action::ITI_38, &body).await;
        assert_eq!(answer.soap().value(HeaderName::Action), Some(action::ITI_38_RESPONSE));
        let entries = answer.objects().entries;
        assert_eq!(entries.iter().map(|entry| entry.home_community_id.as_deref()).collect::<Vec<_>>(), [Some(HOME)], "{body}");
    }
    for (body, code) in [(by_id(None, &uid), "XDSMissingHomeCommunityId"), (find(Some(FOREIGN)), "XDSUnknownCommunity")] {
        let found = ask(&world, &PKI.hospital, &own, action::ITI_38, &body).await.found();
        assert_eq!((found.registry.status, errors(&found.registry)), (Status::Failure, vec![(code, Some(HOME))]), "{body}");
    }
    // Asked by a consumer, the same errors name nothing.
    let found = ask(&world, &PKI.hospital, &own, action::ITI_18, &find(Some(FOREIGN))).await.found();
    assert_eq!(errors(&found.registry), [("XDSUnknownCommunity", None)]);
}

/// The gate is that of ITI-18.
#[tokio::test]
async fn another_community_is_shown_what_its_subject_may_see() {
    let (world, uid, instance) = world().await;
    let other = PKI.other.physician(&patient());
    for consent in [false, true] {
        let found = ask(&world, &PKI.other, &other, action::ITI_38, &find(Some(HOME))).await;
        assert_eq!(found.objects().entries.len(), usize::from(consent));
        let documents = iti_43::encode(&[document(Some(HOME), &uid)]);
        let retrieved = ask(&world, &PKI.other, &other, action::ITI_39, &documents).await;
        assert_eq!(retrieved.soap().value(HeaderName::Action), Some(action::ITI_39_RESPONSE));
        let imaging = ask(&world, &PKI.other, &other, action::RAD_75, &images(vec![document(Some(HOME), &instance)])).await;
        assert_eq!(imaging.soap().value(HeaderName::Action), Some(action::RAD_75_RESPONSE));
        for answer in [retrieved, imaging] {
            let response = answer.retrieved();
            if consent {
                assert_eq!((response.registry.status, answer.parts.len()), (Status::Success, 1));
                assert_eq!(response.documents[0].home_community_id.as_deref(), Some(HOME), "H-09");
            } else {
                let expected = vec![("XDSDocumentUniqueIdError", Some(HOME))];
                assert_eq!((response.registry.status, errors(&response.registry)), (Status::Failure, expected));
            }
        }
        world.consented().await;
    }
}

/// H-08, H-09, R-05: per document.
#[tokio::test]
async fn a_retrieve_between_communities_names_it_in_each_document() {
    let (world, uid, instance) = world().await;
    let own = PKI.hospital.physician(&patient());
    let cases = [(None, "XDSMissingHomeCommunityId"), (Some(FOREIGN), "XDSUnknownCommunity"), (Some("1.2.3"), "XDSUnknownCommunity")];
    for (home, code) in cases {
        let documents = iti_43::encode(&[document(Some(HOME), &uid), document(home, &uid)]);
        let series = images(vec![document(Some(HOME), &instance), document(home, &instance)]);
        for (action, body) in [(action::ITI_39, documents), (action::RAD_75, series)] {
            let answer = ask(&world, &PKI.hospital, &own, action, &body).await;
            let response = answer.retrieved();
            let expected = (Status::PartialSuccess, vec![(code, Some(HOME))]);
            assert_eq!((response.registry.status, errors(&response.registry)), expected, "{home:?} {action}");
            assert_eq!((response.documents.len(), answer.parts.len()), (1, 1));
        }
    }
    // The whole request.
    let answer = ask(&world, &PKI.hospital, &own, action::ITI_39, &iti_43::encode(&[])).await.retrieved();
    assert_eq!(errors(&answer.registry), [("XDSRepositoryMetadataError", Some(HOME))]);
    // Between consumer and repository a document is named (H-10).
    let answer = world.soap(&PKI.hospital, retrieve(&PKI.hospital, &own, &["1.2.3"])).await.retrieved();
    assert_eq!(errors(&answer.registry), [("XDSDocumentUniqueIdError", Some("1.2.3"))]);
    let answer = world.soap(&PKI.hospital, imaging(&PKI.hospital, &own, &["1.2.3"], &[EXPLICIT])).await.retrieved();
    assert_eq!(errors(&answer.registry), [("XDSDocumentUniqueIdError", Some("1.2.3"))]);
}

#[tokio::test]
async fn a_row_that_lists_the_transactions_of_consumers_is_no_gateway() {
    let all = crate::testing::LISTED.as_str();
    let world = World::with("", &[(all, &crate::testing::listed(&["ITI-18", "ITI-43", "RAD-69"]))]).await;
    let own = PKI.hospital.physician(&patient());
    for (action, body) in [(action::ITI_38, find(Some(HOME))), (action::ITI_39, iti_43::encode(&[document(Some(HOME), "1.2.3")]))] {
        assert_eq!(ask(&world, &PKI.hospital, &own, action, &body).await.refusal(), "IDR-S-11", "{action}");
    }
}

fn many(patients: &[String], returned: ReturnType) -> String {
    let definition = Definition::of_name("FindDocumentsForMultiplePatients").expect("a query");
    let format = ("$XDSDocumentEntryFormatCode", vec!["1.2.840.10008.5.1.4.1.1.88.59^^1.2.840.10008.2.6.1".to_owned()]);
    let class = ("$XDSDocumentEntryClassCode", vec!["IMAGES^^1.3.6.1.4.1.19376.1.2.6.1".to_owned()]);
    let status = ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()]);
    let mut parameters = vec![status, format];
    match patients.is_empty() {
        true => parameters.push(class),
        false => parameters.push(("$XDSDocumentEntryPatientId", patients.to_vec())),
    }
    iti_18::encode(definition, returned, None, &parameters)
}

/// 08 §7: off as shipped; own units, technical users without a patient.
#[tokio::test]
async fn a_query_over_many_patients_gives_own_entries_and_is_off_as_shipped() {
    let rules = || XdsRules::load(&["mpq.enabled = true"]).expect("loads");
    let claims = |party: &Party| Claims { patient: None, ..party.site(&patient()) };
    let both = [patient().to_cx(), other_patient().to_cx()];
    let off = World::new().await;
    let body = many(&both, ReturnType::LeafClass);
    assert_eq!(ask(&off, &PKI.hospital, &claims(&PKI.hospital), action::ITI_51, &body).await.refusal(), "IDR-S-11");

    let world = World::under(rules(), "", &[]).await;
    let (one, mut two) = (Instance::ct(1), Instance::ct(1).of(&other_patient()));
    two.sop_instance_uid = format!("{STUDY}.1.2");
    let first = world.registered(std::slice::from_ref(&one)).await;
    let second = crate::testing::soap::Recipe::of(std::slice::from_ref(&two)).sent_by("1.2.246.10.90000011.12.8").about(&other_patient());
    let second = second.revision();
    let sent = crate::testing::soap::register(&PKI.hospital, &PKI.hospital.site(&other_patient()), &second);
    let answer = world.soap(&PKI.hospital, sent).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    let mut expected = vec![first.entry_uuid.clone(), second.entry_uuid.clone()];
    expected.sort();
    let answer = ask(&world, &PKI.hospital, &claims(&PKI.hospital), action::ITI_51, &body).await;
    assert_eq!(answer.soap().value(HeaderName::Action), Some(action::ITI_51_RESPONSE));
    let mut told: Vec<String> = answer.objects().entries.into_iter().map(|entry| entry.entry_uuid).collect();
    told.sort();
    assert_eq!(told, expected, "LeafClass over several patients is what it is for");
    let one = ask(&world, &PKI.hospital, &claims(&PKI.hospital), action::ITI_51, &many(&both[..1], ReturnType::ObjectRef)).await;
    assert_eq!(one.found().objects.objects.len(), 1);
    let other = ask(&world, &PKI.other, &claims(&PKI.other), action::ITI_51, &body).await;
    assert_eq!((other.found().registry.status, other.objects().entries.len()), (Status::Success, 0), "another's entries");
    let everybody = ask(&world, &PKI.hospital, &claims(&PKI.hospital), action::ITI_51, &many(&[], ReturnType::LeafClass)).await;
    assert_eq!(errors(&everybody.found().registry), [("XDSTooManyResults", None)]);
    let person = ask(&world, &PKI.hospital, &PKI.hospital.physician(&patient()), action::ITI_51, &body).await;
    assert_eq!(person.refusal(), "IDR-X-25");
    // Its ids belong to it alone.
    let definition = Definition::of_name("FindDocuments").expect("a query").name;
    let parameters = [("$XDSDocumentEntryPatientId", vec![patient().to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
    let own = PKI.hospital.physician(&patient());
    assert_eq!(
        world.soap(&PKI.hospital, query(&PKI.hospital, &own, definition, ReturnType::LeafClass, &parameters)).await.objects().entries.len(),
        1
    );
    let wrong = ask(&world, &PKI.hospital, &own, action::ITI_18, &body).await;
    assert_eq!(errors(&wrong.found().registry), [("XDSUnknownStoredQuery", None)]);
}

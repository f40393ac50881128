//! ITI-62 and ITI-86: what is removed is gone for everybody who asks, and its bytes stay.

use idr_ihe::ebxml::rim::ObjectRef;
use idr_ihe::metadata::Submission;
use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::iti_43::DocumentRequest;
use idr_ihe::transaction::table::of_number;
use idr_ihe::transaction::{iti_62, iti_86};
use idr_profile::access::Claims;

use crate::audit::Stream;
use crate::testing::soap::{
    Answer, REPOSITORY, Recipe, WORKED_EVENT, envelope, imaging, message_id, plain, query, register, register_as, retrieve,
};
use crate::testing::{EXPLICIT, Instance, PKI, Party, World, patient};

const UNKNOWN: &str = "urn:uuid:00000000-0000-4000-8000-0000000000af";

async fn sent(world: &World, party: &Party, claims: &Claims, number: &str, body: &str, id: &str) -> Answer {
    let action = of_number(number).expect("a transaction").request_action;
    world.soap(party, plain(envelope(&party.security(claims), action, id, body))).await
}

/// ITI-62 as the hospital's site.
async fn removed(world: &World, ids: &[&str]) -> Answer {
    let references: Vec<ObjectRef> = ids.iter().map(|id| ObjectRef { id: Some((*id).to_owned()), home: None }).collect();
    sent(world, &PKI.hospital, &PKI.hospital.site(&patient()), "ITI-62", &iti_62::encode(&references), &message_id()).await
}

fn ids(submission: &Submission) -> Vec<&str> {
    let sets = submission.submission_sets.iter().map(|set| set.entry_uuid.as_str());
    let entries = submission.entries.iter().map(|entry| entry.entry_uuid.as_str());
    sets.chain(entries).chain(submission.associations.iter().map(|association| association.entry_uuid.as_str())).collect()
}

/// A person of the district, in care under the worked example's service event.
fn person() -> Claims {
    Claims { service_event: Some(WORKED_EVENT.to_owned()), care_reason: None, ..PKI.district.physician(&patient()) }
}

fn documents(uid: &str, repository: &str) -> String {
    let request = DocumentRequest {
        home_community_id: None,
        repository_unique_id: Some(repository.to_owned()),
        document_unique_id: Some(uid.to_owned()),
    };
    iti_86::encode(&[request])
}

#[tokio::test]
async fn a_removed_submission_is_gone_with_its_images_and_its_bytes_stay() {
    let world = World::new().await;
    world.stored(&[Instance::ct(1)]).await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let files = world.object_files();
    let all = ids(&revision.submission);
    // Alone the set is referred to; without its set the entry would be left alone.
    let referenced = removed(&world, &[all[0]]).await;
    assert!(referenced.contexts()[0].starts_with("IDR-M-704 ReferencesExistException"), "{:?}", referenced.contexts());
    let alone = removed(&world, &[all[0], all[2]]).await;
    assert!(alone.contexts()[0].starts_with("IDR-M-705 XDSUnreferencedObjectException"), "{:?}", alone.contexts());
    let twice = removed(&world, &[all[0], all[0]]).await;
    assert!(twice.contexts()[0].starts_with("IDR-M-707 XDSRegistryMetadataError"), "{:?}", twice.contexts());

    let references: Vec<ObjectRef> = all.iter().map(|id| ObjectRef { id: Some((*id).to_owned()), home: None }).collect();
    let (body, id) = (iti_62::encode(&references), message_id());
    let site = PKI.hospital.site(&patient());
    let answer = sent(&world, &PKI.hospital, &site, "ITI-62", &body, &id).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    assert_eq!(answer.soap().action(), "urn:ihe:iti:2010:DeleteDocumentSetResponse");
    let again = sent(&world, &PKI.hospital, &site, "ITI-62", &body, &id).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(removed(&world, &all).await.contexts()[0].starts_with("IDR-M-703"), "they are unknown now");

    let physician = PKI.hospital.physician(&patient());
    let everything = query(
        &PKI.hospital,
        &physician,
        "GetAll",
        ReturnType::ObjectRef,
        &[
            ("$patientId", vec![patient().to_cx()]),
            ("$XDSDocumentEntryStatus", vec!["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved".to_owned()]),
            ("$XDSSubmissionSetStatus", vec!["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved".to_owned()]),
            ("$XDSFolderStatus", vec!["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved".to_owned()]),
        ],
    );
    let everything = world.soap(&PKI.hospital, everything).await;
    assert!(everything.found().objects.objects.is_empty(), "{}", everything.envelope);
    let uid = Instance::ct(1).sop_instance_uid;
    let image = world.soap(&PKI.hospital, imaging(&PKI.hospital, &physician, &[&uid], &[EXPLICIT])).await;
    let document = world.soap(&PKI.hospital, retrieve(&PKI.hospital, &physician, &[&revision.document_uid])).await;
    assert_eq!((image.parts.len(), document.parts.len()), (0, 0));
    assert_eq!(world.object_files(), files, "no byte of a patient's is deleted");
    let uses = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Use);
    let openings: Vec<_> = uses.map(|(_, value)| value).filter(|value| value["opening"]["transaction"] == "ITI-62").collect();
    assert_eq!(openings.last().expect("recorded")["opening"]["object"]["documents"][0], all[0]);

    // A manifest of the same images, of another content, brings them back.
    let new = Recipe::of(&[Instance::ct(1), Instance::ct(2)]).revision();
    let answer = world.soap(&PKI.hospital, register(&PKI.hospital, &site, &new)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let image = world.soap(&PKI.hospital, imaging(&PKI.hospital, &physician, &[&uid], &[EXPLICIT])).await;
    assert_eq!(image.parts.len(), 1);
}

#[tokio::test]
async fn what_another_register_has_is_unknown_to_a_removal() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let site = PKI.other.site(&patient());
    let ask = async |id: &str| {
        let body = iti_62::encode(&[ObjectRef { id: Some(id.to_owned()), home: None }]);
        sent(&world, &PKI.other, &site, "ITI-62", &body, &message_id()).await
    };
    let (foreign, unknown) = (ask(&revision.entry_uuid).await, ask(UNKNOWN).await);
    assert!(foreign.contexts()[0].starts_with("IDR-M-703 UnresolvedReferenceException"), "{:?}", foreign.contexts());
    assert_eq!(foreign.normal(&[&revision.entry_uuid]), unknown.normal(&[UNKNOWN]), "09 §8 D-10");
    let other =
        Claims { care_reason: None, service_event: Some("1.2.246.10.90000038.14.2026.1".to_owned()), ..PKI.other.physician(&patient()) };
    let ask = async |uid: &str| sent(&world, &PKI.other, &other, "ITI-86", &documents(uid, REPOSITORY), &message_id()).await;
    let (foreign, unknown) = (ask(&revision.document_uid).await, ask("2.25.99").await);
    assert!(foreign.contexts()[0].starts_with("IDR-M-710 XDSDocumentUniqueIdError"), "{:?}", foreign.contexts());
    assert_eq!(foreign.normal(&[&revision.document_uid]), unknown.normal(&["2.25.99"]), "09 §8 D-10");
}

#[tokio::test]
async fn a_removed_document_is_not_retrieved_and_an_approved_manifest_is_not_removed() {
    let world = World::new().await;
    let manifest = Recipe::worked_example().revision();
    let answer = world.soap(&PKI.district, register(&PKI.district, &PKI.district.worked_site(), &manifest)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let mut report = Recipe::worked_example().revision().submission;
    let entry = &mut report.entries[0];
    entry.mime_type = "application/pdf".to_owned();
    entry.format_code.as_mut().unwrap().code = "urn:ihe:rad:PDF".to_owned();
    (entry.hash, entry.size, entry.unique_id) = (None, None, "2.25.86".to_owned());
    entry.entry_uuid = "report".to_owned();
    let set = &mut report.submission_sets[0];
    (set.entry_uuid, set.unique_id) = ("set".to_owned(), "2.25.87".to_owned());
    let link = &mut report.associations[0];
    (link.entry_uuid, link.source, link.target) = ("link".to_owned(), "set".to_owned(), "report".to_owned());
    let answer = world.soap(&PKI.district, register_as(&PKI.district, &person(), &report, b"%PDF-1.7", &message_id())).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let files = world.object_files();

    let ask = async |uid: &str, repository: &str| {
        sent(&world, &PKI.district, &person(), "ITI-86", &documents(uid, repository), &message_id()).await
    };
    let held = ask(&manifest.document_uid, REPOSITORY).await;
    assert!(held.contexts()[0].starts_with("IDR-M-711 XDSRemoveDocumentsError"), "{:?}", held.contexts());
    let elsewhere = ask("2.25.86", "1.2.3").await;
    assert!(elsewhere.contexts()[0].starts_with("IDR-R-06 XDSUnknownRepositoryId"), "{:?}", elsewhere.contexts());
    let answer = ask("2.25.86", REPOSITORY).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    assert_eq!(answer.soap().action(), "urn:ihe:iti:2017:RemoveDocumentsResponse");
    let physician = PKI.district.physician(&patient());
    let gone = world.soap(&PKI.district, retrieve(&PKI.district, &physician, &["2.25.86"])).await;
    assert!(gone.retrieved().registry.errors[0].code_context.starts_with("IDR-R-07"));
    assert!(ask("2.25.86", REPOSITORY).await.contexts()[0].starts_with("IDR-M-710"));
    assert_eq!(world.object_files(), files, "no byte of a patient's is deleted");
}

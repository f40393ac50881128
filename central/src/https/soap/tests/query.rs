//! Stored queries.

use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::registry_response::Status;
use idr_profile::access::{Claims, DenialTarget};
use jiff::civil::date;

use crate::audit::Stream;
use crate::consent::declarations::{Act, Ending, Performer, Recording, end, list, record};
use crate::testing::soap::{Answer, HOME, query};
use crate::testing::{EXPLICIT, HOSPITAL, Instance, PKI, Party, World, patient};

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";

type Parameters = Vec<(&'static str, Vec<String>)>;

fn find() -> Parameters {
    vec![("$XDSDocumentEntryPatientId", vec![patient().to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])]
}

async fn ask(world: &World, party: &Party, claims: &Claims, name: &str, parameters: &[(&str, Vec<String>)]) -> Answer {
    world.soap(party, query(party, claims, name, ReturnType::LeafClass, parameters)).await
}

fn kinds(world: &World) -> Vec<String> {
    let kind = |value: &serde_json::Value| value["opening"]["kind"].as_str().map(str::to_owned);
    world.sink.entries().iter().filter_map(|(_, value)| kind(value)).collect()
}

#[tokio::test]
async fn own_register_needs_no_consent_and_another_does() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let (own, other) = (PKI.hospital.physician(&patient()), PKI.other.physician(&patient()));
    let found = ask(&world, &PKI.hospital, &own, "FindDocuments", &find()).await;
    let entry = found.objects().entries.remove(0);
    assert_eq!((entry.entry_uuid.as_str(), entry.home_community_id.as_deref()), (revision.entry_uuid.as_str(), Some(HOME)));
    assert_eq!((entry.logical_id.as_deref(), entry.version), (Some(revision.entry_uuid.as_str()), Some(1)));
    assert_eq!(entry.repository_unique_id.as_deref(), Some("1.2.246.10.12345671.12.100"));

    let before = kinds(&world).len();
    let nothing = ask(&world, &PKI.other, &other, "FindDocuments", &find()).await;
    assert_eq!((nothing.found().registry.status, nothing.objects().entries.len()), (Status::Success, 0));
    assert_eq!(kinds(&world)[before..], ["U", "X"], "the use, and the omission for the privacy officer");

    world.consented().await;
    let before = kinds(&world).len();
    let shown = ask(&world, &PKI.other, &other, "FindDocuments", &find()).await;
    assert_eq!(shown.objects().entries.len(), 1);
    assert_eq!(kinds(&world)[before..], ["U", "D"]);
    let disclosure = world.sink.entries().into_iter().find(|(stream, _)| *stream == Stream::Disclosure).unwrap().1;
    assert_eq!(disclosure["opening"]["source"]["controller"], format!("{HOSPITAL}.19.0"));
    assert_eq!(disclosure["opening"]["rule"], "E12");
}

/// Kinds of the records that a request left, with the objects that they name, and the units of its decision.
async fn recorded(world: &World, party: &Party, request: http::Request<axum::body::Body>) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let before = world.sink.entries().len();
    let answer = world.soap(party, request).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.envelope);
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let (mut records, mut units) = (Vec::new(), Vec::new());
    for (stream, entry) in &world.sink.entries()[before..] {
        if let Some(kind) = entry["opening"]["kind"].as_str() {
            let documents = entry["opening"]["object"]["documents"].as_array().into_iter().flatten();
            records.push((kind.to_owned(), documents.map(text).collect()));
        }
        if *stream == Stream::Decision && entry["note"]["event"] == "decision" {
            let decided = entry["note"]["data"]["units"].as_array().expect("a list").iter();
            units.extend(decided.map(|unit| format!("{} {}", text(&unit["result"]), text(&unit["unit"]["id"]))));
        }
    }
    (records, units)
}

#[tokio::test]
async fn sets_and_associations_of_another_register_are_disclosed_with_their_records() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let set = revision.submission.submission_sets[0].unique_id.clone();
    let entry = revision.document_uid.clone();
    let of = |names: &[&String]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
        names.sort();
        names
    };
    let sets = vec![("$XDSSubmissionSetPatientId", vec![patient().to_cx()]), ("$XDSSubmissionSetStatus", vec![APPROVED.to_owned()])];
    let contents = vec![("$XDSSubmissionSetUniqueId", vec![set.clone()])];
    let associations = vec![("$uuid", vec![revision.entry_uuid.clone()])];
    let asked = |claims: &Claims, name: &str, parameters: &Parameters| query(&PKI.other, claims, name, ReturnType::LeafClass, parameters);
    let association = {
        let own = PKI.hospital.physician(&patient());
        ask(&world, &PKI.hospital, &own, "GetAssociations", &associations).await.objects().associations.remove(0).entry_uuid
    };
    let unit = |result: &str| vec![format!("{result} {}", revision.entry_uuid)];

    let (records, units) = recorded(&world, &PKI.other, asked(&PKI.other.physician(&patient()), "FindSubmissionSets", &sets)).await;
    let kinds: Vec<&str> = records.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!((kinds, units), (vec!["U", "X"], unit("omit")), "without consent");
    world.consented().await;
    let (consent, emergency) = (PKI.other.physician(&patient()), PKI.other.emergency(&patient()));
    for (claims, kinds) in [(&consent, &["U", "D"][..]), (&emergency, &["U", "D", "S", "N"])] {
        for (name, parameters, told) in [
            ("FindSubmissionSets", &sets, of(&[&set])),
            ("GetSubmissionSetAndContents", &contents, of(&[&set, &entry, &association])),
            ("GetAssociations", &associations, of(&[&association])),
        ] {
            let (records, units) = recorded(&world, &PKI.other, asked(claims, name, parameters)).await;
            let expected: Vec<(String, Vec<String>)> = kinds.iter().map(|kind| ((*kind).to_owned(), told.clone())).collect();
            assert_eq!((records, units), (expected, unit("permit")), "{name}");
        }
    }
}

#[tokio::test]
async fn a_unit_is_recorded_once_for_a_request_however_many_of_its_instances_are_asked_for() {
    use crate::testing::soap::imaging;
    let world = World::new().await;
    let instances = [1, 2, 3].map(Instance::ct);
    world.stored(&instances).await;
    world.registered(&instances).await;
    let uids: Vec<&str> = instances.iter().map(|instance| instance.sop_instance_uid.as_str()).collect();
    let request = || imaging(&PKI.other, &PKI.other.physician(&patient()), &uids, &[EXPLICIT]);
    let kinds = |records: &[(String, Vec<String>)]| records.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
    let (records, units) = recorded(&world, &PKI.other, request()).await;
    assert_eq!((kinds(&records), units.len()), (vec!["U".to_owned(), "X".to_owned()], 1), "{units:?}");
    world.consented().await;
    let (records, units) = recorded(&world, &PKI.other, request()).await;
    assert_eq!((kinds(&records), units.len()), (vec!["U".to_owned(), "D".to_owned()], 1), "{units:?}");
}

#[tokio::test]
async fn a_denial_counts_at_once_and_until_it_is_ended() {
    let world = World::new().await;
    world.registered(&[Instance::ct(1)]).await;
    world.consented().await;
    let other = PKI.other.physician(&patient());
    let shown = async || ask(&world, &PKI.other, &other, "FindDocuments", &find()).await.objects().entries.len();
    assert_eq!(shown().await, 1);
    let denial = Recording {
        patient: patient(),
        act: Act::Denial {
            target: DenialTarget::Provider { controller: format!("{HOSPITAL}.19.0") },
            emergency_allowed: true,
            data_from: None,
            data_to: None,
            valid_from: None,
        },
        performer: Performer::Patient,
        decided_on: date(2026, 1, 20),
        document_sha256: None,
    };
    let recorded = record(&world.central, "clerk", &denial).await.unwrap();
    let again = record(&world.central, "clerk", &denial).await.unwrap();
    assert_eq!((again.id.as_str(), again.repeated), (recorded.id.as_str(), true), "one denial");
    assert_eq!(shown().await, 0);
    end(&world.central, "clerk", &recorded.id, Ending::Ended, &Performer::Patient, date(2026, 1, 20)).await.unwrap();
    assert_eq!(shown().await, 1);
    let listed = list(&world.central, "clerk", &patient()).await.unwrap();
    assert_eq!(listed.len(), 3, "informing, consent, the denial in its last version");
    assert_eq!(listed[2].detail["recorder"], "clerk");
}

#[tokio::test]
async fn what_must_not_be_recorded_is_named() {
    let world = World::new().await;
    let recording =
        |act, decided_on| Recording { patient: patient(), act, performer: Performer::Patient, decided_on, document_sha256: None };
    let consent = Act::Consent { sector: idr_profile::access::Sector::Health };
    let denial = |controller: &str| Act::Denial {
        target: DenialTarget::Provider { controller: controller.to_owned() },
        emergency_allowed: false,
        data_from: None,
        data_to: None,
        valid_from: None,
    };
    for (code, act, day) in [
        ("IDR-A-09", consent.clone(), date(2026, 1, 20)),
        ("IDR-A-12", denial("1.2.3"), date(2026, 1, 21)),
        ("IDR-A-12", denial("1.2.3"), date(2025, 12, 20)),
        ("IDR-A-10", denial("nobody"), date(2026, 1, 20)),
    ] {
        let refused = record(&world.central, "clerk", &recording(act, day)).await.expect_err(code);
        assert!(refused.to_string().starts_with(code), "{refused}");
    }
    assert_eq!(world.central.store.read().await.unwrap().store_version().await.unwrap(), 0);
}

#[tokio::test]
async fn an_entry_is_found_by_id_accession_and_slot() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let own = PKI.hospital.physician(&patient());
    let accession = "T042059118706^^^&1.2.246.10.12345671.12.5&ISO^urn:ihe:iti:xds:2013:accession";
    let mut by_reference = find();
    by_reference.push(("$XDSDocumentEntryReferenceIdList", vec![accession.to_owned()]));
    let mut by_slot = find();
    by_slot.push(("$urn:x-idr:fi:controllerId", vec![format!("{HOSPITAL}.19.0")]));
    let mut by_other_slot = find();
    by_other_slot.push(("$urn:x-idr:fi:controllerId", vec!["1.2.3".to_owned()]));
    let mut excluded = find();
    excluded.push(("$XDSDocumentEntryClassCodeExclude", vec!["IMAGES^^1.3.6.1.4.1.19376.1.2.6.1".to_owned()]));
    for (name, parameters, count) in [
        ("FindDocumentsByReferenceId", by_reference, 1),
        ("FindDocuments", by_slot, 1),
        ("FindDocuments", by_other_slot, 0),
        ("FindDocumentsExclude", excluded, 0),
        ("GetDocuments", vec![("$XDSDocumentEntryUniqueId", vec![revision.document_uid.clone()])], 1),
        ("GetDocuments", vec![("$XDSDocumentEntryEntryUUID", vec![revision.entry_uuid.clone()])], 1),
        ("GetDocuments", vec![("$XDSDocumentEntryUniqueId", vec!["2.25.1".to_owned()])], 0),
    ] {
        let answer = ask(&world, &PKI.hospital, &own, name, &parameters).await;
        assert_eq!(answer.found().registry.status, Status::Success, "{name}: {}", answer.envelope);
        assert_eq!(answer.objects().entries.len(), count, "{name} {parameters:?}");
    }
}

#[tokio::test]
async fn sets_and_associations_are_shown_by_what_they_hold() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let (own, other) = (PKI.hospital.physician(&patient()), PKI.other.physician(&patient()));
    let set = &revision.submission.submission_sets[0];
    let queries: [(&str, Parameters, (usize, usize, usize)); 8] = [
        (
            "FindSubmissionSets",
            vec![("$XDSSubmissionSetPatientId", vec![patient().to_cx()]), ("$XDSSubmissionSetStatus", vec![APPROVED.to_owned()])],
            (1, 0, 0),
        ),
        ("GetSubmissionSets", vec![("$uuid", vec![revision.entry_uuid.clone()])], (1, 0, 1)),
        ("GetSubmissionSetAndContents", vec![("$XDSSubmissionSetUniqueId", vec![set.unique_id.clone()])], (1, 1, 1)),
        ("GetAssociations", vec![("$uuid", vec![revision.entry_uuid.clone()])], (0, 0, 1)),
        ("GetDocumentsAndAssociations", vec![("$XDSDocumentEntryUniqueId", vec![revision.document_uid.clone()])], (0, 1, 1)),
        (
            "GetAll",
            vec![
                ("$patientId", vec![patient().to_cx()]),
                ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()]),
                ("$XDSSubmissionSetStatus", vec![APPROVED.to_owned()]),
                ("$XDSFolderStatus", vec![APPROVED.to_owned()]),
            ],
            (1, 1, 1),
        ),
        ("GetFoldersForDocument", vec![("$XDSDocumentEntryUniqueId", vec![revision.document_uid.clone()])], (0, 0, 0)),
        ("FindFolders", vec![("$XDSFolderPatientId", vec![patient().to_cx()]), ("$XDSFolderStatus", vec![APPROVED.to_owned()])], (0, 0, 0)),
    ];
    for (name, parameters, expected) in queries {
        let counts = async |party: &Party, claims: &Claims| {
            let answer = ask(&world, party, claims, name, &parameters).await;
            assert_eq!(answer.found().registry.status, Status::Success, "{name}: {}", answer.envelope);
            let objects = answer.objects();
            (objects.submission_sets.len(), objects.entries.len(), objects.associations.len())
        };
        assert_eq!(counts(&PKI.hospital, &own).await, expected, "{name}");
        assert_eq!(counts(&PKI.other, &other).await, (0, 0, 0), "{name}, another register without consent");
    }
}

#[tokio::test]
async fn related_documents_come_with_their_relation_and_alone_not_at_all() {
    use crate::testing::soap::{Recipe, register};
    let world = World::new().await;
    let first = world.registered(&[Instance::ct(1)]).await;
    let own = PKI.hospital.physician(&patient());
    let related = || {
        vec![
            ("$XDSDocumentEntryEntryUUID", vec![first.entry_uuid.clone()]),
            ("$AssociationTypes", vec!["urn:ihe:iti:2007:AssociationType:RPLC".to_owned()]),
        ]
    };
    let alone = ask(&world, &PKI.hospital, &own, "GetRelatedDocuments", &related()).await.objects();
    assert_eq!((alone.entries.len(), alone.associations.len()), (0, 0));
    let second = Recipe::of(&[Instance::ct(1), Instance::ct(2)]).replacing(&first.entry_uuid).revision();
    world.soap(&PKI.hospital, register(&PKI.hospital, &PKI.hospital.site(&patient()), &second)).await;
    let both = ask(&world, &PKI.hospital, &own, "GetRelatedDocuments", &related()).await.objects();
    assert_eq!((both.entries.len(), both.associations.len()), (2, 1));
    assert_eq!(both.associations[0].target, first.entry_uuid);
}

#[tokio::test]
async fn a_technical_user_sees_its_own_entries_only() {
    let world = World::new().await;
    world.registered(&[Instance::ct(1)]).await;
    world.consented().await;
    let own = ask(&world, &PKI.hospital, &PKI.hospital.site(&patient()), "FindDocuments", &find()).await;
    assert_eq!(own.objects().entries.len(), 1);
    let foreign = ask(&world, &PKI.other, &PKI.other.site(&patient()), "FindDocuments", &find()).await;
    assert_eq!(foreign.objects().entries.len(), 0, "consent opens nothing to reconciliation");
}

#[tokio::test]
async fn references_carry_the_community_and_equal_questions_have_equal_answers() {
    let world = World::new().await;
    world.registered(&[Instance::ct(1)]).await;
    let own = PKI.hospital.physician(&patient());
    let ask = async || world.soap(&PKI.hospital, query(&PKI.hospital, &own, "FindDocuments", ReturnType::ObjectRef, &find())).await;
    let (first, second) = (ask().await, ask().await);
    assert!(first.envelope.contains(&format!("home=\"{HOME}\"")));
    assert_eq!(first.normal(&[]), second.normal(&[]));
}

#[tokio::test]
async fn broken_queries_name_their_rule() {
    let world = World::new().await;
    let own = PKI.hospital.physician(&patient());
    let mut twice = find();
    twice.push(("$XDSDocumentEntryClassCode", vec!["no scheme".to_owned()]));
    for (rule, parameters) in [("IDR-Q-02", vec![find().remove(0)]), ("IDR-Q-07", twice)] {
        let answer = ask(&world, &PKI.hospital, &own, "FindDocuments", &parameters).await;
        assert_eq!(answer.found().registry.status, Status::Failure);
        assert!(answer.found().registry.errors[0].code_context.starts_with(rule), "{rule}");
    }
    let foreign = idr_ihe::transaction::iti_18::Definition::of_name("FindDocuments").unwrap();
    let body = idr_ihe::transaction::iti_18::encode(foreign, ReturnType::LeafClass, Some("urn:oid:1.2.3"), &find());
    let text = crate::testing::soap::envelope(
        &PKI.hospital.security(&own),
        idr_ihe::transaction::table::action::ITI_18,
        &crate::testing::soap::message_id(),
        &body,
    );
    let answer = world.soap(&PKI.hospital, crate::testing::soap::plain(text)).await;
    assert!(answer.found().registry.errors[0].code_context.starts_with("IDR-Q-14 XDSUnknownCommunity"));
}

#[tokio::test]
async fn a_limit_counts_what_is_permitted() {
    use idr_profile::xds::XdsRules;
    let rules = XdsRules::load(&["[query]\nmax_leafclass = 1\nmax_objectref = 2\n"]).unwrap();
    let world = World::under(rules, "", &[]).await;
    let site = PKI.hospital.site(&patient());
    for source in ["1.2.246.10.90000011.12.8", "1.2.246.10.90000011.12.9"] {
        let revision = crate::testing::soap::Recipe::of(&[Instance::ct(1)]).sent_by(source).revision();
        world.soap(&PKI.hospital, crate::testing::soap::register(&PKI.hospital, &site, &revision)).await;
    }
    let own = PKI.hospital.physician(&patient());
    let answer = ask(&world, &PKI.hospital, &own, "FindDocuments", &find()).await;
    assert_eq!(answer.found().registry.errors[0].code_context, "IDR-Q-17 XDSTooManyResults limit=1: limit is exceeded");
    assert!(answer.found().objects.objects.is_empty());
    let references = world.soap(&PKI.hospital, query(&PKI.hospital, &own, "FindDocuments", ReturnType::ObjectRef, &find())).await;
    assert_eq!(references.found().objects.objects.len(), 2);
    let nothing = ask(&world, &PKI.other, &PKI.other.physician(&patient()), "FindDocuments", &find()).await;
    assert_eq!(nothing.found().registry.status, Status::Success, "09 §8 D-04");
}

//! ITI-57: new versions, changes of status, associations between what is registered.

use idr_ihe::ebxml::scheme::association::{APND, HAS_MEMBER, SUBMIT_ASSOCIATION, UPDATE_AVAILABILITY_STATUS};
use idr_ihe::ebxml::{Placement, encode};
use idr_ihe::metadata::{Association, AvailabilityStatus, DocumentEntry, Submission};
use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::iti_42;
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::action;
use idr_profile::access::Claims;

use crate::audit::Stream;
use crate::testing::soap::{Answer, Recipe, imaging, message_id, objects, query, register, retrieve};
use crate::testing::{EXPLICIT, Instance, PKI, Party, World, other_patient, patient};

const NEW: &str = "urn:uuid:00000000-0000-4000-8000-0000000000a1";
const SET: &str = "urn:uuid:00000000-0000-4000-8000-0000000000a2";
const UNKNOWN: &str = "urn:uuid:00000000-0000-4000-8000-0000000000af";
const APPROVED: &str = AvailabilityStatus::Approved.urn();
const DEPRECATED: &str = AvailabilityStatus::Deprecated.urn();

fn association(id: u32, kind: &str, source: &str, target: &str, slots: &[(&str, &str)]) -> Association {
    Association {
        entry_uuid: format!("urn:uuid:00000000-0000-4000-8000-0000000{id:05}"),
        association_type: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        status: None,
        slots: slots.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect(),
        documentation: None,
    }
}

/// An update without operation, its set named by `n`.
fn update(submission: &Submission, n: u32) -> Submission {
    let mut set = submission.submission_sets[0].clone();
    (set.entry_uuid, set.unique_id) = (SET.replace("a2", &format!("{n:02}")), format!("2.25.57{n}"));
    Submission { submission_sets: vec![set], ..Submission::default() }
}

fn set_of(update: &Submission) -> String {
    update.submission_sets[0].entry_uuid.clone()
}

fn status(submission: &Submission, n: u32, target: &str, original: &str, new: &str) -> Submission {
    let mut update = update(submission, n);
    let slots = [("OriginalStatus", original), ("NewStatus", new)];
    update.associations.push(association(1000 + n, UPDATE_AVAILABILITY_STATUS, &set_of(&update), target, &slots));
    update
}

/// The next version of an entry.
fn version(submission: &Submission, n: u32, previous: u32, change: impl FnOnce(&mut DocumentEntry)) -> Submission {
    let mut update = update(submission, n);
    let mut entry = submission.entries[0].clone();
    entry.logical_id = Some(entry.entry_uuid.clone());
    entry.entry_uuid = NEW.replace("a1", &format!("{:02x}", 0xb0 + n));
    entry.repository_unique_id = Some(crate::testing::soap::REPOSITORY.to_owned());
    change(&mut entry);
    let slots = [("SubmissionSetStatus", "Original"), ("PreviousVersion", &previous.to_string())];
    update.associations.push(association(2000 + n, HAS_MEMBER, &set_of(&update), &entry.entry_uuid, &slots));
    update.entries.push(entry);
    update
}

async fn sent_by(world: &World, party: &Party, claims: &Claims, update: &Submission) -> Answer {
    world.soap(party, objects(party, claims, action::ITI_57, update, &message_id())).await
}

/// As the hospital's site.
async fn sent(world: &World, update: &Submission) -> Answer {
    sent_by(world, &PKI.hospital, &PKI.hospital.site(&patient()), update).await
}

async fn found(world: &World, name: &str, parameters: &[(&str, Vec<String>)]) -> Submission {
    let request = query(&PKI.hospital, &PKI.hospital.physician(&patient()), name, ReturnType::LeafClass, parameters);
    world.soap(&PKI.hospital, request).await.objects()
}

async fn entries(world: &World, name: &str, value: &str) -> Vec<(String, Option<AvailabilityStatus>, Option<u32>)> {
    let found = found(world, "GetDocuments", &[(name, vec![value.to_owned()]), ("$MetadataLevel", vec!["2".to_owned()])]).await;
    let mut entries: Vec<_> = found.entries.into_iter().map(|entry| (entry.entry_uuid, entry.status, entry.version)).collect();
    entries.sort_by_key(|entry| entry.2);
    entries
}

async fn images(world: &World) -> usize {
    let uid = Instance::ct(1).sop_instance_uid;
    let physician = PKI.hospital.physician(&patient());
    world.soap(&PKI.hospital, imaging(&PKI.hospital, &physician, &[&uid], &[EXPLICIT])).await.parts.len()
}

#[tokio::test]
async fn a_withdrawn_manifest_takes_its_images_out_of_search_and_retrieve_until_it_is_approved_again() {
    let world = World::new().await;
    world.stored(&[Instance::ct(1)]).await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    assert_eq!(images(&world).await, 1);
    let withdrawal = status(&revision.submission, 1, &revision.entry_uuid, APPROVED, DEPRECATED);
    let answer = sent(&world, &withdrawal).await;
    assert_eq!((answer.contexts(), answer.registry().status), (Vec::new(), Status::Success), "{}", answer.envelope);
    assert_eq!(answer.soap().action(), "urn:ihe:iti:2010:UpdateDocumentSetResponse");
    assert_eq!(answer.headers["content-type"].to_str().unwrap().split(';').next(), Some("application/soap+xml"), "a plain answer");

    assert_eq!(images(&world).await, 0);
    assert!(entries(&world, "$XDSDocumentEntryEntryUUID", &revision.entry_uuid).await.is_empty());
    let physician = PKI.hospital.physician(&patient());
    let document = world.soap(&PKI.hospital, retrieve(&PKI.hospital, &physician, &[&revision.document_uid])).await;
    assert!(document.retrieved().registry.errors[0].code_context.starts_with("IDR-R-07"));
    // From another status than the current one: nothing.
    let again = status(&revision.submission, 2, &revision.entry_uuid, APPROVED, DEPRECATED);
    assert!(sent(&world, &again).await.contexts()[0].starts_with("IDR-M-618 XDSMetadataUpdateError"));

    let restored = status(&revision.submission, 3, &revision.entry_uuid, DEPRECATED, APPROVED);
    assert_eq!(sent(&world, &restored).await.contexts(), Vec::<String>::new());
    assert_eq!(images(&world).await, 1, "nothing was lost");
    let records = world.sink.entries().into_iter().filter(|(stream, value)| *stream == Stream::Use && !value["opening"].is_null());
    let of_updates: Vec<_> = records.map(|(_, value)| value).filter(|value| value["opening"]["transaction"] == "ITI-57").collect();
    assert_eq!(of_updates.len(), 3);
    assert_eq!(of_updates[0]["opening"]["operation"], "correct");
    assert_eq!(of_updates[0]["opening"]["object"]["documents"][0], revision.entry_uuid.as_str());
}

#[tokio::test]
async fn the_withdrawal_that_a_site_makes_is_the_example_and_is_taken() {
    let world = World::new().await;
    let (party, site) = (&PKI.district, PKI.district.site(&patient()));
    let recipe = Recipe::worked_example();
    let revision = recipe.revision();
    let answer = world.soap(party, register(party, &PKI.district.worked_site(), &revision)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let (withdrawal, id) = recipe.withdrawal(&revision);
    let body = iti_42::encode(&encode(&withdrawal, Placement::Beside));
    let example = include_str!("../../../../../docs/examples/iti-57-withdrawal.xml");
    assert_eq!(body.replace("><", ">\n<"), example.trim_end(), "docs/examples/iti-57-withdrawal.xml");
    let answer = world.soap(party, objects(party, &site, action::ITI_57, &withdrawal, &id)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    let parameters = [("$XDSDocumentEntryEntryUUID", vec![revision.entry_uuid])];
    let request = query(party, &party.physician(&patient()), "GetDocuments", ReturnType::LeafClass, &parameters);
    assert!(world.soap(party, request).await.objects().entries.is_empty());
}

#[tokio::test]
async fn a_manifest_is_not_approved_again_beside_its_replacement() {
    let world = World::new().await;
    let first = world.registered(&[Instance::ct(1)]).await;
    let second = Recipe::of(&[Instance::ct(1), Instance::ct(2)]).replacing(&first.entry_uuid).revision();
    world.soap(&PKI.hospital, register(&PKI.hospital, &PKI.hospital.site(&patient()), &second)).await.registry();
    let again = sent(&world, &status(&first.submission, 1, &first.entry_uuid, DEPRECATED, APPROVED)).await;
    assert!(again.contexts()[0].starts_with("IDR-M-435"), "{:?}", again.contexts());
}

#[tokio::test]
async fn a_new_version_takes_the_place_of_the_one_before_and_governs_its_images() {
    let world = World::new().await;
    world.stored(&[Instance::ct(1)]).await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let second = version(&revision.submission, 1, 1, |entry| {
        entry.title = Some("Toinen".to_owned());
        entry.extra.push(("urn:x-idr:fi:releaseDate".to_owned(), vec!["20260701".to_owned()]));
    });
    let request = |id: &str| objects(&PKI.hospital, &PKI.hospital.site(&patient()), action::ITI_57, &second, id);
    let id = message_id();
    let answer = world.soap(&PKI.hospital, request(&id)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    let again = world.soap(&PKI.hospital, request(&id)).await;
    assert_eq!((again.headers["idempotency-replayed"].to_str().unwrap(), again.registry()), ("true", answer.registry()));
    let fresh = world.soap(&PKI.hospital, request(&message_id())).await;
    assert_eq!(fresh.headers["idempotency-replayed"], "true", "the set is known");

    let new = second.entries[0].entry_uuid.clone();
    let versions = [
        (revision.entry_uuid.clone(), Some(AvailabilityStatus::Deprecated), Some(1)),
        (new.clone(), Some(AvailabilityStatus::Approved), Some(2)),
    ];
    assert_eq!(entries(&world, "$XDSDocumentEntryLogicalID", &revision.entry_uuid).await, versions);
    let latest = found(&world, "GetDocuments", &[("$XDSDocumentEntryUniqueId", vec![revision.document_uid.clone()])]).await.entries;
    assert_eq!(
        (latest.len(), latest[0].title.as_deref(), latest[0].logical_id.as_deref()),
        (1, Some("Toinen"), Some(&*revision.entry_uuid))
    );
    let physician = PKI.hospital.physician(&patient());
    let document = world.soap(&PKI.hospital, retrieve(&PKI.hospital, &physician, &[&revision.document_uid])).await;
    assert_eq!(document.parts, std::slice::from_ref(&revision.kos), "the document is the same");
    assert_eq!(images(&world).await, 1);
    let unit = world.central.store.read().await.unwrap().unit_of(&Instance::ct(1).sop_instance_uid).await.unwrap().unwrap();
    assert_eq!(unit.release_date, Some(jiff::civil::date(2026, 7, 1)), "the images follow the new version");

    let stale = sent(&world, &version(&revision.submission, 2, 1, |_| {})).await;
    assert!(stale.contexts()[0].starts_with("IDR-M-608 XDSMetadataVersionError"), "{:?}", stale.contexts());
    let old = sent(&world, &status(&revision.submission, 4, &revision.entry_uuid, DEPRECATED, APPROVED)).await;
    assert!(old.contexts().iter().any(|context| context.starts_with("IDR-M-618")), "an older version: {:?}", old.contexts());
    let third = sent(&world, &version(&revision.submission, 3, 2, |_| {})).await;
    assert_eq!(third.contexts(), Vec::<String>::new());
    // A late image replaces the newest version.
    let late = Recipe::of(&[Instance::ct(1), Instance::ct(2)]).replacing(&NEW.replace("a1", "b3")).revision();
    let answer = world.soap(&PKI.hospital, register(&PKI.hospital, &PKI.hospital.site(&patient()), &late)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
}

#[tokio::test]
async fn an_update_that_changes_what_identifies_a_manifest_changes_nothing() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    type Change = fn(&mut DocumentEntry);
    let cases: [(&str, Change); 4] = [
        ("IDR-M-631 XDSMetadataUpdateError", |entry| entry.size = Some(1)),
        ("IDR-M-614 XDSMetadataUpdateError", |entry| entry.unique_id = "1.2.3".to_owned()),
        ("IDR-M-613 XDSMetadataUpdateError", |entry| entry.repository_unique_id = Some("1.2.3".to_owned())),
        ("IDR-M-616 XDSPatientIDReconciliationError", |entry| entry.patient_id = other_patient()),
    ];
    for (n, (expected, change)) in (1..).zip(cases) {
        let answer = sent(&world, &version(&revision.submission, n, 1, change)).await;
        assert!(answer.contexts()[0].starts_with(expected), "{expected}: {:?}", answer.contexts());
        assert_eq!(entries(&world, "$XDSDocumentEntryLogicalID", &revision.entry_uuid).await.len(), 1, "{expected}");
    }
}

#[tokio::test]
async fn what_another_register_has_is_unknown_and_nothing_moves_into_it() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let (own, other) = (PKI.hospital.site(&patient()), PKI.other.site(&patient()));
    let of_other = |entry: &mut DocumentEntry| {
        for (name, values) in &mut entry.extra {
            if name.ends_with(":controllerId") {
                *values = vec![PKI.other.controller()];
            }
        }
    };
    // A version of a foreign entry, in the caller's own register: as for an entry that does not exist.
    let foreign = sent_by(&world, &PKI.other, &other, &version(&revision.submission, 1, 1, of_other)).await;
    let mut unknown = version(&revision.submission, 1, 1, of_other);
    unknown.entries[0].logical_id = Some(UNKNOWN.to_owned());
    let unknown = sent_by(&world, &PKI.other, &other, &unknown).await;
    assert!(foreign.contexts()[0].starts_with("IDR-M-604 XDSMetadataVersionError"), "{:?}", foreign.contexts());
    assert_eq!(foreign.normal(&[]), unknown.normal(&[]), "09 §8 D-09");
    let change = |target: &str| status(&revision.submission, 2, target, APPROVED, DEPRECATED);
    let foreign = sent_by(&world, &PKI.other, &other, &change(&revision.entry_uuid)).await;
    let unknown = sent_by(&world, &PKI.other, &other, &change(UNKNOWN)).await;
    assert!(foreign.contexts()[0].starts_with("IDR-M-620 UnresolvedReferenceException"), "{:?}", foreign.contexts());
    assert_eq!(foreign.normal(&[&revision.entry_uuid]), unknown.normal(&[UNKNOWN]), "09 §8 D-09");
    // An own entry into another's register: S3.
    let moved = sent_by(&world, &PKI.hospital, &own, &version(&revision.submission, 3, 1, of_other)).await;
    assert_eq!(moved.refusal(), "IDR-X-24");
    // With an assertion for another patient.
    let wrong = PKI.hospital.site(&other_patient());
    let refused = sent_by(&world, &PKI.hospital, &wrong, &change(&revision.entry_uuid)).await;
    assert_eq!(refused.refusal(), "IDR-X-26");
    assert_eq!(entries(&world, "$XDSDocumentEntryEntryUUID", &revision.entry_uuid).await[0].1, Some(AvailabilityStatus::Approved));
}

#[tokio::test]
async fn associations_are_repeated_for_a_new_version_unless_it_says_no() {
    for (propagation, expected) in [("yes", 2), ("no", 1)] {
        let world = World::new().await;
        let (party, site) = (&PKI.district, PKI.district.worked_site());
        let first = Recipe::worked_example().in_folder().revision();
        let folder = first.submission.folders[0].clone();
        let answer = world.soap(party, register(party, &site, &first)).await;
        assert_eq!(answer.contexts(), Vec::<String>::new());
        let mut second = version(&first.submission, 1, 1, |_| {});
        second.associations[0].slots.push(("AssociationPropagation".to_owned(), vec![propagation.to_owned()]));
        assert_eq!(sent_by(&world, party, &site, &second).await.contexts(), Vec::<String>::new());
        let parameters = [("$XDSFolderUniqueId", vec![folder.unique_id.clone()])];
        let request = query(party, &party.physician(&patient()), "GetFolderAndContents", ReturnType::LeafClass, &parameters);
        let held = world.soap(party, request).await.objects();
        assert_eq!(held.entries.len(), expected, "{propagation}");
        let members = held.associations.iter().filter(|of| of.source == folder.entry_uuid).count();
        assert_eq!(members, expected, "{propagation}: the membership of the first version stays");
    }
}

#[tokio::test]
async fn an_association_is_added_between_entries_that_are_there() {
    let world = World::new().await;
    let first = world.registered(&[Instance::ct(1)]).await;
    let other = Recipe::of(&[Instance::ct(1)]).sent_by("1.2.246.10.90000011.12.8").revision();
    let answer = world.soap(&PKI.hospital, register(&PKI.hospital, &PKI.hospital.site(&patient()), &other)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let mut submitted = update(&first.submission, 1);
    let append = association(31, APND, &other.entry_uuid, &first.entry_uuid, &[]);
    submitted.associations = vec![association(32, SUBMIT_ASSOCIATION, &set_of(&submitted), &append.entry_uuid, &[]), append.clone()];
    assert_eq!(sent(&world, &submitted).await.contexts(), Vec::<String>::new());
    let related = found(
        &world,
        "GetRelatedDocuments",
        &[("$XDSDocumentEntryEntryUUID", vec![first.entry_uuid.clone()]), ("$AssociationTypes", vec![APND.to_owned()])],
    )
    .await;
    assert_eq!((related.entries.len(), related.associations.len()), (2, 1));
    let broken = status(&first.submission, 2, &append.entry_uuid, APPROVED, DEPRECATED);
    assert_eq!(sent(&world, &broken).await.contexts(), Vec::<String>::new(), "an association has a status too");
}

#[tokio::test]
async fn of_sixteen_updates_of_one_version_one_wins() {
    let world = std::sync::Arc::new(World::new().await);
    let revision = world.registered(&[Instance::ct(1)]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (world, update) = (world.clone(), version(&revision.submission, n, 1, |_| {}));
        tasks.spawn(async move { sent(&world, &update).await.contexts() });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|contexts| contexts.is_empty()).count(), 1);
    assert!(answers.iter().flatten().all(|context| context.starts_with("IDR-M-608")), "{answers:?}");
    assert_eq!(entries(&world, "$XDSDocumentEntryLogicalID", &revision.entry_uuid).await.len(), 2);
}

#[tokio::test]
async fn every_target_of_an_update_is_recorded() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    let membership = revision.submission.associations[0].entry_uuid.clone();
    let mut update = status(&revision.submission, 1, &revision.entry_uuid, APPROVED, DEPRECATED);
    update.associations.extend(status(&revision.submission, 2, &membership, APPROVED, DEPRECATED).associations);
    update.associations[1].source = set_of(&update);
    let answer = sent(&world, &update).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    let openings = world.sink.entries().into_iter().map(|(_, value)| value["opening"].clone());
    let documents = openings.filter(|opening| opening["transaction"] == "ITI-57").flat_map(|opening| {
        let documents = opening["object"]["documents"].as_array().cloned();
        documents.unwrap_or_default()
    });
    let documents: std::collections::BTreeSet<String> = documents.filter_map(|id| id.as_str().map(str::to_owned)).collect();
    assert_eq!(documents, [revision.entry_uuid, membership].into());
}

//! ITI-42, ITI-61 and ITI-92: metadata of other repositories, and updates that may change less.

use idr_ihe::metadata::{AvailabilityStatus, EntryType, Submission};
use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::{action, of_number};
use idr_profile::access::Claims;
use idr_profile::xds::XdsRules;

use crate::testing::soap::{Answer, HOME, REPOSITORY, Recipe, WORKED_EVENT, message_id, objects, query, register, retrieve};
use crate::testing::{DISTRICT, PKI, World, patient};

const THEIRS: &str = "1.2.246.10.12345671.12.200";
/// The first line of the first peer row of the test's main file.
const FIRST_PEER: &str = "[[peer]]";

/// A centre that knows a repository of the district's.
async fn world(xds: XdsRules) -> World {
    let row = format!("[[repository]]\nunique_id = \"{THEIRS}\"\norganisation = \"{DISTRICT}\"\n[[peer]]\n");
    let row = row.trim_end();
    World::under(xds, "", &[(&format!("\n{FIRST_PEER}"), &format!("\n{row}"))]).await
}

/// The worked example as its repository registers it.
fn submission() -> Submission {
    let revision = Recipe::worked_example().revision();
    let mut submission = revision.submission;
    submission.entries[0].repository_unique_id = Some(THEIRS.to_owned());
    submission
}

async fn sent(world: &World, number: &str, submission: &Submission, id: &str) -> Answer {
    let action = of_number(number).expect("a transaction").request_action;
    // ITI-92 is a person's (04 §2).
    let physician = PKI.district.physician(&patient());
    let person = Claims { service_event: Some(WORKED_EVENT.to_owned()), care_reason: None, ..physician };
    let claims = if number == "ITI-92" { person } else { PKI.district.worked_site() };
    world.soap(&PKI.district, objects(&PKI.district, &claims, action, submission, id)).await
}

async fn found(world: &World, uid: &str, types: &[&str]) -> Submission {
    let physician = PKI.district.physician(&patient());
    let mut parameters = vec![
        ("$XDSDocumentEntryPatientId", vec![patient().to_cx()]),
        ("$XDSDocumentEntryStatus", vec![AvailabilityStatus::Approved.urn().to_owned()]),
    ];
    if !types.is_empty() {
        parameters.push(("$XDSDocumentEntryType", types.iter().map(|of| (*of).to_owned()).collect()));
    }
    let request = query(&PKI.district, &physician, "FindDocuments", ReturnType::LeafClass, &parameters);
    let mut found = world.soap(&PKI.district, request).await.objects();
    found.entries.retain(|entry| entry.unique_id == uid);
    found
}

#[tokio::test]
async fn an_allowed_repository_registers_its_documents_and_keeps_them() {
    let world = world(XdsRules::shipped()).await;
    let (submission, id) = (submission(), message_id());
    let answer = sent(&world, "ITI-42", &submission, &id).await;
    assert_eq!((answer.contexts(), answer.registry().status), (Vec::new(), Status::Success), "{}", answer.envelope);
    assert_eq!(answer.soap().action(), action::ITI_42_RESPONSE);
    let again = sent(&world, "ITI-42", &submission, &id).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let uid = &submission.entries[0].unique_id;
    let entry = found(&world, uid, &[]).await.entries.remove(0);
    assert_eq!((entry.repository_unique_id.as_deref(), entry.hash), (Some(THEIRS), submission.entries[0].hash.clone()));
    let physician = PKI.district.physician(&patient());
    let here = world.soap(&PKI.district, retrieve(&PKI.district, &physician, &[uid])).await;
    assert!(here.retrieved().registry.errors[0].code_context.starts_with("IDR-R-07"), "its bytes are not here");
    // The study has its manifest: a second one of the source needs RPLC, wherever it is kept.
    let second = Recipe::worked_example().sent_again().revision();
    let answer = world.soap(&PKI.district, register(&PKI.district, &PKI.district.worked_site(), &second)).await;
    assert!(answer.contexts()[0].starts_with("IDR-M-435"), "{:?}", answer.contexts());
}

#[tokio::test]
async fn what_a_repository_must_say_is_asked_for() {
    let world = world(XdsRules::shipped()).await;
    let refused = async |change: fn(&mut Submission)| {
        let mut submission = submission();
        change(&mut submission);
        sent(&world, "ITI-42", &submission, &message_id()).await.contexts()
    };
    for (change, expected) in [
        ((|of| of.entries[0].hash = None) as fn(&mut Submission), "IDR-M-112"),
        (|of| of.entries[0].size = None, "IDR-M-114"),
        (|of| of.entries[0].repository_unique_id = None, "IDR-M-117"),
        (|of| of.entries[0].repository_unique_id = Some("1.2.246.10.12345671.12.201".to_owned()), "IDR-M-119"),
        (|of| of.entries[0].repository_unique_id = Some(REPOSITORY.to_owned()), "IDR-M-119"),
        (|of| of.entries[0].entry_type = EntryType::OnDemand, "IDR-M-138"),
    ] {
        let contexts = refused(change).await;
        assert!(contexts[0].starts_with(expected), "{expected}: {contexts:?}");
    }
    // Another organisation's repository.
    let mut of_hospital = Recipe::of(&[crate::testing::Instance::ct(1)]).revision().submission;
    of_hospital.entries[0].repository_unique_id = Some(THEIRS.to_owned());
    let request = objects(&PKI.hospital, &PKI.hospital.site(&patient()), action::ITI_42, &of_hospital, &message_id());
    assert!(world.soap(&PKI.hospital, request).await.contexts()[0].starts_with("IDR-M-119"));
}

#[tokio::test]
async fn on_demand_entries_are_taken_only_where_they_are_switched_on() {
    let mut submission = submission();
    let entry = &mut submission.entries[0];
    entry.entry_type = EntryType::OnDemand;
    (entry.creation_time, entry.hash, entry.size) = (None, None, None);
    let off = world(XdsRules::shipped()).await;
    assert_eq!(sent(&off, "ITI-61", &submission, &message_id()).await.refusal(), "IDR-S-11");
    let on = world(XdsRules::load(&["iti61.enabled = true"]).expect("loads")).await;
    let answer = sent(&on, "ITI-61", &submission, &message_id()).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    assert_eq!(answer.soap().action(), "urn:ihe:iti:2010:RegisterOnDemandDocumentResponse");
    let uid = &submission.entries[0].unique_id;
    assert!(found(&on, uid, &[]).await.entries.is_empty(), "Stable entries alone by default");
    assert_eq!(found(&on, uid, &[idr_ihe::ebxml::scheme::ON_DEMAND]).await.entries.len(), 1);
}

#[tokio::test]
async fn a_restricted_update_makes_a_version_and_changes_nothing_else() {
    let world = world(XdsRules::shipped()).await;
    let first = submission();
    assert_eq!(sent(&world, "ITI-42", &first, &message_id()).await.contexts(), Vec::<String>::new());
    let restricted = |change: fn(&mut Submission)| {
        let mut update = submission();
        let lid = update.entries[0].entry_uuid.clone();
        let (set, new) = ("urn:uuid:00000000-0000-4000-8000-0000000000c1", "urn:uuid:00000000-0000-4000-8000-0000000000c2");
        let of_set = &mut update.submission_sets[0];
        (of_set.entry_uuid, of_set.unique_id, of_set.home_community_id) = (set.to_owned(), "2.25.92".to_owned(), Some(HOME.to_owned()));
        (update.entries[0].logical_id, update.entries[0].entry_uuid) = (Some(lid), new.to_owned());
        let link = &mut update.associations[0];
        (link.entry_uuid, link.source, link.target) = (set.replace("c1", "c3"), set.to_owned(), new.to_owned());
        link.slots.push(("PreviousVersion".to_owned(), vec!["1".to_owned()]));
        update.entries[0].title = Some("Toinen".to_owned());
        change(&mut update);
        update
    };
    let without = restricted(|update| update.submission_sets[0].home_community_id = None);
    let answer = sent(&world, "ITI-92", &without, &message_id()).await;
    assert!(answer.contexts()[0].starts_with("IDR-M-640 XDSMissingHomeCommunityId"), "{:?}", answer.contexts());
    let slots = restricted(|update| update.entries[0].extra.push(("urn:x-idr:fi:releaseDate".to_owned(), vec!["20260701".to_owned()])));
    let answer = sent(&world, "ITI-92", &slots, &message_id()).await;
    assert!(answer.contexts()[0].starts_with("IDR-M-645 LocalPolicyRestrictionError"), "{:?}", answer.contexts());
    let answer = sent(&world, "ITI-92", &restricted(|_| {}), &message_id()).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    assert_eq!(answer.soap().action(), "urn:ihe:iti:2018:RestrictedUpdateDocumentSetResponse");
    let entry = found(&world, &first.entries[0].unique_id, &[]).await.entries.remove(0);
    assert_eq!((entry.version, entry.title.as_deref()), (Some(2), Some("Toinen")));
}

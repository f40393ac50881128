//! Submissions.

use std::sync::Arc;

use base64::Engine as _;
use idr_ihe::ebxml::{Placement, encode};
use idr_ihe::metadata::AvailabilityStatus;
use idr_ihe::soap::HeaderName;
use idr_ihe::soap::xop::Content;
use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::iti_41;
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::action;
use idr_profile::receipt::{Carried, Commits, Statement};
use serde_json::Value;

use crate::audit::Stream;
use crate::testing::soap::{Answer, Recipe, WORKED_STUDY, envelope, message_id, mtom, plain, query, register, register_as, registration};
use crate::testing::{Instance, PKI, World, patient};

/// The R4 in the answer's header.
fn receipt(answer: &Answer) -> Carried {
    let envelope = answer.soap();
    let text = envelope.value(HeaderName::Receipt).expect("idr:Receipt").to_owned();
    let json = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    Carried::parse(&String::from_utf8(json).expect("UTF-8")).expect("a receipt")
}

fn uses(world: &World) -> Vec<Value> {
    world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Use).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn the_worked_example_registers_with_a_verifiable_r4() {
    let world = World::new().await;
    let revision = Recipe::worked_example().revision();
    assert_eq!((revision.entry_uuid.as_str(), revision.kos.len()), ("urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c", 3060));
    let answer = world.soap(&PKI.district, register(&PKI.district, &PKI.district.worked_site(), &revision)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    assert_eq!((answer.registry().status, answer.parts.len()), (Status::Success, 0));
    assert_eq!(answer.soap().value(HeaderName::RelatesTo), Some(revision.message_id.as_str()));
    assert_eq!(answer.soap().action(), action::ITI_41_RESPONSE);
    assert!(answer.headers.contains_key("x-request-id") && !answer.headers.contains_key("server"));
    assert_eq!(answer.headers["cache-control"], "no-store");

    let carried = receipt(&answer);
    world.verifier.verify(&carried).expect("the centre's key");
    let Statement::Registration { study_uid, document_uid, commits, .. } = &carried.receipt().statement else { panic!("no R4") };
    assert_eq!((study_uid.as_str(), document_uid.as_str()), (WORKED_STUDY, revision.document_uid.as_str()));
    assert_eq!(*commits, Commits::Listed(Vec::new()), "no instance is there yet");

    let missing = world.central.store.read().await.unwrap().missing_references(Some(WORKED_STUDY), 10).await.unwrap();
    assert_eq!(missing.len(), 3, "instances that are not there are listed, not refused");
    let records = uses(&world);
    assert_eq!(records[0]["opening"]["object"]["documents"][0], revision.document_uid.as_str());
    assert_eq!((&records[0]["opening"]["transaction"], &records[0]["opening"]["rule"]), (&"RAD-68".into(), &"S1".into()));
    assert_eq!(records[1]["closing"]["outcome"], "permit");
}

#[tokio::test]
async fn a_repeated_message_is_answered_again_and_registers_nothing() {
    let world = World::new().await;
    let revision = Recipe::worked_example().revision();
    let site = PKI.district.worked_site();
    let first = world.soap(&PKI.district, register(&PKI.district, &site, &revision)).await;
    let again = world.soap(&PKI.district, register(&PKI.district, &site, &revision)).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!((again.registry(), receipt(&again)), (first.registry(), receipt(&first)));
    // In-line instead of XOP: the same fingerprint (08 §4.2).
    let document = iti_41::Document { id: Some(revision.entry_uuid.clone()), content: Content::Inline(revision.kos.clone()) };
    let body = iti_41::encode(&encode(&revision.submission, Placement::Beside), &[document]);
    let text = envelope(&PKI.district.security(&site), action::ITI_41, &revision.message_id, &body);
    let inline = world.soap(&PKI.district, plain(text)).await;
    assert_eq!(inline.headers["idempotency-replayed"], "true");
    assert_eq!(world.object_files(), 1, "one document");
    let last = uses(&world).pop().unwrap();
    assert_eq!(last["record"]["status"], "replayed");

    let mut other = revision.submission.clone();
    other.entries[0].title = Some("Toinen".to_owned());
    let other = world.soap(&PKI.district, register_as(&PKI.district, &site, &other, &revision.kos, &revision.message_id)).await;
    assert_eq!((other.status.as_u16(), other.refusal().as_str()), (500, "IDR-S-20"));
    // Another MessageID, equal content: the set is known (02 §5.3.2).
    let fresh = register_as(&PKI.district, &site, &revision.submission, &revision.kos, &message_id());
    let fresh = world.soap(&PKI.district, fresh).await;
    assert_eq!((fresh.registry().status, receipt(&fresh)), (Status::Success, receipt(&first)));
    assert_eq!(world.object_files(), 1);
}

#[tokio::test]
async fn sixty_four_equal_messages_register_one_entry() {
    let world = Arc::new(World::new().await);
    let revision = Arc::new(Recipe::worked_example().revision());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (world, revision) = (world.clone(), revision.clone());
        tasks.spawn(async move {
            let request = register(&PKI.district, &PKI.district.worked_site(), &revision);
            world.soap(&PKI.district, request).await.registry().status
        });
    }
    assert!(tasks.join_all().await.into_iter().all(|status| status == Status::Success));
    let claims = PKI.district.worked_site();
    let found = query(
        &PKI.district,
        &claims,
        "GetDocuments",
        ReturnType::LeafClass,
        &[("$XDSDocumentEntryUniqueId", vec![revision.document_uid.clone()])],
    );
    assert_eq!(world.soap(&PKI.district, found).await.objects().entries.len(), 1);
}

#[tokio::test]
async fn a_wrong_size_is_answered_as_the_profile_prints_it_and_leaves_nothing() {
    let world = World::new().await;
    let revision = Recipe::worked_example().revision();
    let mut submission = revision.submission.clone();
    submission.entries[0].size = Some(3061);
    let site = PKI.district.worked_site();
    let answer = world.soap(&PKI.district, register_as(&PKI.district, &site, &submission, &revision.kos, &revision.message_id)).await;
    let error = &answer.registry().errors[0];
    assert_eq!(answer.registry().status, Status::Failure);
    assert_eq!(error.error_code, "XDSRepositoryMetadataError");
    assert_eq!(
        error.code_context,
        "IDR-M-404 XDSRepositoryMetadataError obj=urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c attr=size: size does not match the document"
    );
    assert_eq!(error.location.as_deref(), Some("urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c"));
    assert_eq!(world.object_files(), 0, "the staged document is gone");
    // The same MessageID is judged afresh (08 §4.5).
    let answer = world.soap(&PKI.district, register(&PKI.district, &site, &revision)).await;
    assert_eq!(answer.registry().status, Status::Success);
}

#[tokio::test]
async fn a_replacement_deprecates_its_target_and_a_second_manifest_needs_one() {
    let world = World::new().await;
    let instances = [Instance::ct(1), Instance::ct(2)];
    world.stored(&instances).await;
    let first = world.registered(&instances[..1]).await;
    let site = PKI.hospital.site(&patient());
    let without = Recipe::of(&instances).revision();
    let refused = world.soap(&PKI.hospital, register(&PKI.hospital, &site, &without)).await;
    assert!(refused.contexts()[0].starts_with("IDR-M-435"), "{:?}", refused.contexts());

    let second = Recipe::of(&instances).replacing(&first.entry_uuid).revision();
    let answer = world.soap(&PKI.hospital, register(&PKI.hospital, &site, &second)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let carried = receipt(&answer);
    let Statement::Registration { commits: Commits::Listed(commits), .. } = &carried.receipt().statement else { panic!("no R4") };
    assert_eq!(commits.len(), 2, "the R3 of both instances");
    let both = vec![first.entry_uuid.clone(), second.entry_uuid.clone()];
    let found = query(&PKI.hospital, &site, "GetDocuments", ReturnType::LeafClass, &[("$XDSDocumentEntryEntryUUID", both)]);
    let entries = world.soap(&PKI.hospital, found).await.objects().entries;
    let status = |uuid: &str| entries.iter().find(|entry| entry.entry_uuid == uuid).and_then(|entry| entry.status);
    assert_eq!(status(&first.entry_uuid), Some(AvailabilityStatus::Deprecated));
    assert_eq!(status(&second.entry_uuid), Some(AvailabilityStatus::Approved));

    let third = Recipe::of(&instances).sent_by("1.2.246.10.90000011.12.8").replacing(&first.entry_uuid).revision();
    let late = world.soap(&PKI.hospital, register(&PKI.hospital, &site, &third)).await;
    assert!(late.contexts().iter().any(|context| context.starts_with("IDR-M-031")), "{:?}", late.contexts());
}

#[tokio::test]
async fn another_register_and_another_patient_are_refused_before_any_rule() {
    let world = World::new().await;
    let revision = Recipe::of(&[Instance::ct(1)]).revision();
    let of_other = PKI.other.site(&patient());
    let refused = world.soap(&PKI.other, register(&PKI.other, &of_other, &revision)).await;
    assert_eq!((refused.status.as_u16(), refused.refusal().as_str()), (500, "IDR-X-24"));
    let wrong = PKI.hospital.site(&crate::testing::other_patient());
    let refused = world.soap(&PKI.hospital, register(&PKI.hospital, &wrong, &revision)).await;
    assert_eq!(refused.refusal(), "IDR-X-26");
    let refusals: Vec<Value> =
        world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Security).map(|(_, value)| value).collect();
    let rules: Vec<&Value> = refusals.iter().map(|value| &value["record"]["rule"]).collect();
    assert_eq!(rules, [&Value::from("S3"), &Value::from("IDR-X-26")]);
}

#[tokio::test]
async fn a_foreign_entry_cannot_be_replaced_and_counts_as_unknown() {
    let world = World::new().await;
    let first = world.registered(&[Instance::ct(1)]).await;
    let foreign = Recipe::worked_example().replacing(&first.entry_uuid).revision();
    let unknown = Recipe::worked_example().replacing("urn:uuid:00000000-0000-4000-8000-000000000001").revision();
    let mut answers = Vec::new();
    for revision in [&foreign, &unknown] {
        let answer = world.soap(&PKI.district, register(&PKI.district, &PKI.district.worked_site(), revision)).await;
        assert!(answer.contexts()[0].starts_with("IDR-M-028"), "{:?}", answer.contexts());
        answers.push(answer.normal(&[]));
    }
    assert_eq!(answers[0], answers[1], "09 §8 D-08");
}

#[tokio::test]
async fn a_source_without_slots_gets_those_of_its_peer_row_or_is_told_which_is_missing() {
    let row = format!(
        "controller = \"{0}.19.0\"\nregister = \"2\"\n[[peer]]\nname = \"unused\"\norganisation = \"1.2.3\"\nmodel = \"C1\"\n",
        PKI.district.organisation
    );
    let mut submission = Recipe::worked_example().revision().submission;
    submission.entries[0].extra.retain(|(name, _)| !name.ends_with(":controllerId") && !name.ends_with(":registerCode"));
    let revision = Recipe::worked_example().revision();
    let send = async |world: &World| {
        let request = register_as(&PKI.district, &PKI.district.worked_site(), &submission, &revision.kos, &message_id());
        world.soap(&PKI.district, request).await
    };
    let refused = send(&World::new().await).await.contexts();
    assert!(
        refused[0].starts_with(
            "IDR-M-501 XDSRegistryMetadataError obj=urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c slot=urn:x-idr:fi:controllerId"
        ),
        "{refused:?}"
    );
    let marker = format!("name = \"{0}\"\n", PKI.district.organisation);
    let world = World::with("", &[(&marker, &format!("{marker}{}", row.split("[[peer]]").next().unwrap_or_default()))]).await;
    let answer = send(&world).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let claims = PKI.district.worked_site();
    let found =
        query(&PKI.district, &claims, "GetDocuments", ReturnType::LeafClass, &[("$XDSDocumentEntryUniqueId", vec![revision.document_uid])]);
    let entry = world.soap(&PKI.district, found).await.objects().entries.remove(0);
    assert!(entry.extra.iter().any(|(name, values)| name == "urn:x-idr:fi:controllerId" && values == &["1.2.246.10.12345671.19.0"]));
}

#[tokio::test]
async fn an_instance_that_comes_after_its_manifest_gets_a_new_r4() {
    let world = World::new().await;
    let revision = world.registered(&[Instance::ct(1)]).await;
    world.stored(&[Instance::ct(1)]).await;
    let mut tx = world.central.store.read().await.unwrap();
    let newest = tx.registration_receipt(&revision.entry_uuid).await.unwrap().unwrap();
    let Statement::Registration { commits: Commits::Listed(commits), .. } = &newest.receipt().statement else { panic!("no R4") };
    assert_eq!(commits.len(), 1);
}

#[tokio::test]
async fn nothing_is_registered_while_the_audit_takes_no_records() {
    let world = World::new().await;
    world.sink.fail("the disk is gone");
    let revision = Recipe::worked_example().revision();
    let answer = world.soap(&PKI.district, register(&PKI.district, &PKI.district.worked_site(), &revision)).await;
    assert_eq!((answer.status.as_u16(), answer.refusal().as_str()), (503, "IDR-X-32"));
    assert_eq!(answer.headers["retry-after"], "60");
    assert!(
        world
            .central
            .store
            .read()
            .await
            .unwrap()
            .submission_set(&revision.submission.submission_sets[0].unique_id)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_part_that_nobody_references_is_dropped_and_one_that_is_missing_is_told() {
    let world = World::new().await;
    let revision = Recipe::worked_example().revision();
    let site = PKI.district.worked_site();
    let text = || envelope(&PKI.district.security(&site), action::ITI_41, &revision.message_id, &registration(&revision.submission));
    let missing = world.soap(&PKI.district, mtom(&text(), &[])).await;
    assert_eq!(missing.refusal(), "IDR-S-24");
    let extra = world.soap(&PKI.district, mtom(&text(), &[&revision.kos, b"nobody asks for this"])).await;
    assert_eq!(extra.registry().status, Status::Success);
    assert_eq!(world.object_files(), 1);
}

#[tokio::test]
async fn a_replacing_entry_joins_the_folders_of_its_target() {
    let world = World::new().await;
    let site = PKI.district.worked_site();
    let first = Recipe::worked_example().in_folder().revision();
    let folder = first.submission.folders[0].clone();
    let answer = world.soap(&PKI.district, register(&PKI.district, &site, &first)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let second = Recipe::worked_example().sent_again().replacing(&first.entry_uuid).revision();
    let answer = world.soap(&PKI.district, register(&PKI.district, &site, &second)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new());
    let physician = PKI.district.physician(&patient());
    let ask = async |name, parameters: Vec<(&str, Vec<String>)>| {
        let request = query(&PKI.district, &physician, name, ReturnType::LeafClass, &parameters);
        world.soap(&PKI.district, request).await.objects()
    };
    let held = ask("GetFolderAndContents", vec![("$XDSFolderUniqueId", vec![folder.unique_id.clone()])]).await;
    let mut entries: Vec<&str> = held.entries.iter().map(|entry| entry.entry_uuid.as_str()).collect();
    entries.sort_unstable();
    let mut expected = [first.entry_uuid.as_str(), second.entry_uuid.as_str()];
    expected.sort_unstable();
    assert_eq!(entries, expected);
    assert_eq!((held.folders.len(), held.associations.len()), (1, 2));
    let of_new = ask("GetFoldersForDocument", vec![("$XDSDocumentEntryUniqueId", vec![second.document_uid.clone()])]).await;
    assert_eq!(of_new.folders[0].entry_uuid, folder.entry_uuid);
    assert_eq!(of_new.folders[0].last_update_time.as_deref(), Some("20260120090000"));
    let set = second.submission.submission_sets[0].unique_id.clone();
    let contents = ask("GetSubmissionSetAndContents", vec![("$XDSSubmissionSetUniqueId", vec![set])]).await;
    assert_eq!((contents.entries.len(), contents.associations.len()), (1, 3), "membership of the entry, link to the folder's, and that");
}

#[tokio::test]
async fn a_report_is_registered_by_a_person_and_comes_back() {
    let world = World::new().await;
    let mut submission = Recipe::worked_example().revision().submission;
    let entry = &mut submission.entries[0];
    entry.mime_type = "application/pdf".to_owned();
    entry.format_code.as_mut().unwrap().code = "urn:ihe:rad:PDF".to_owned();
    (entry.hash, entry.size) = (None, None);
    entry.entry_uuid = "report".to_owned();
    submission.associations[0].target = "report".to_owned();
    let physician = PKI.district.physician(&patient());
    let storing = idr_profile::access::Claims {
        service_event: Some(crate::testing::soap::WORKED_EVENT.to_owned()),
        care_reason: None,
        ..physician.clone()
    };
    let request = register_as(&PKI.district, &storing, &submission, b"%PDF-1.7", &message_id());
    let answer = world.soap(&PKI.district, request).await;
    assert_eq!((answer.contexts(), answer.soap().value(HeaderName::Receipt)), (Vec::<String>::new(), None), "no manifest, no R4");
    let uid = submission.entries[0].unique_id.clone();
    let found =
        query(&PKI.district, &physician, "GetDocuments", ReturnType::LeafClass, &[("$XDSDocumentEntryUniqueId", vec![uid.clone()])]);
    let entry = world.soap(&PKI.district, found).await.objects().entries.remove(0);
    assert!(entry.entry_uuid.starts_with("urn:uuid:"), "a symbolic id becomes a UUID");
    assert_eq!((entry.size, entry.hash.map(|hash| hash.len())), (Some(8), Some(40)));
    let back = world.soap(&PKI.district, crate::testing::soap::retrieve(&PKI.district, &physician, &[&uid])).await;
    assert_eq!(back.parts, [b"%PDF-1.7".to_vec()]);
}

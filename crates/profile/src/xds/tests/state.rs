//! Stage 3: the registry's facts, and that nothing is told of what the caller may not see.

use super::super::*;
use super::support::*;
use idr_ihe::metadata::{Association, AvailabilityStatus, EntryType, Submission};

const ON_DEMAND: &str = "urn:uuid:00000000-0000-4000-8000-00000000000c";
const OLD_FOLDER: &str = "urn:uuid:00000000-0000-4000-8000-00000000000d";

fn judged(submission: &Submission, transaction: SubmitTransaction, documents: &[Document], view: &RegistryView) -> Vec<String> {
    let verdict = Node::default().state(transaction, &list(submission), documents, view);
    match verdict {
        StateVerdict::Register(findings) => {
            assert!(findings.is_empty());
            Vec::new()
        }
        StateVerdict::Refuse(findings) => rules(&findings).into_iter().map(str::to_owned).collect(),
        StateVerdict::Repeated => vec!["repeated".to_owned()],
    }
}

fn of_report(submission: &Submission, view: &RegistryView) -> Vec<String> {
    judged(submission, SubmitTransaction::Iti41, &[report_document()], view)
}

fn of_manifest(change: impl FnOnce(&mut Submission, &mut RegistryView)) -> Vec<String> {
    let (mut submission, content) = manifest();
    let document = manifest_document(&mut submission, &content);
    let mut view = view();
    change(&mut submission, &mut view);
    judged(&submission, SubmitTransaction::Iti41, &[document], &view)
}

fn join(submission: &mut Submission, kind: &str, source: &str, target: &str) {
    submission.associations.push(Association {
        entry_uuid: RELATION.to_owned(),
        association_type: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        status: None,
        slots: Vec::new(),
        documentation: None,
    });
}

fn related(kind: &str, target: &str, change: impl FnOnce(&mut RegistryView)) -> Vec<String> {
    let mut submission = report();
    join(&mut submission, kind, ENTRY, target);
    let mut view = view();
    change(&mut view);
    of_report(&submission, &view)
}

const NONE: Vec<String> = Vec::new();

#[test]
fn a_new_submission_of_a_known_patient_is_registered() {
    assert_eq!(of_report(&report(), &view()), NONE);
    assert_eq!(of_manifest(|_, _| {}), NONE);
    assert_eq!(judged(&report(), SubmitTransaction::Iti42, &[], &view()), NONE);
}

#[test]
fn what_must_be_looked_up_is_named_and_nothing_else() {
    let (mut submission, content) = manifest();
    let document = manifest_document(&mut submission, &content);
    join(&mut submission, RPLC, ENTRY, REGISTERED);
    let list = list(&submission);
    let message = Message::new(SubmitTransaction::Iti41, Some(&list));
    assert_eq!(message.manifest_ids().collect::<Vec<_>>(), [ENTRY]);
    let needs = needs(&message, &[document]);
    let objects = [ENTRY, SET, FOLDER, SET_ENTRY, SET_FOLDER, FOLDER_ENTRY, SET_MEMBERSHIP, RELATION, REGISTERED];
    assert_eq!(needs.objects, objects.map(str::to_owned).into());
    assert_eq!(needs.unique_ids.len(), 3);
    assert_eq!(needs.patients, [patient()].into());
    assert_eq!(needs.manifests, [(STUDY.to_owned(), SOURCE.to_owned())].into());
    assert_eq!(needs.instances, [format!("{STUDY}.3.1")].into());
}

#[test]
fn ids_of_registered_objects_are_taken_even_if_they_are_hidden() {
    let mut view = view();
    view.objects.insert(ENTRY.to_owned(), StoredObject { visible: false, ..stored_entry() });
    assert_eq!(of_report(&report(), &view), ["M-008"]);
}

#[test]
fn the_patient_must_be_known_and_the_answer_tells_the_id_that_was_sent() {
    let mut view = view();
    view.patients.clear();
    let StateVerdict::Refuse(findings) = Node::default().state(SubmitTransaction::Iti41, &list(&report()), &[report_document()], &view)
    else {
        panic!("an unknown patient is refused")
    };
    assert_eq!(rules(&findings), ["M-140", "M-140", "M-140"]);
    assert_eq!(
        findings.problems[1].code_context(),
        "IDR-M-140 XDSUnknownPatientId pid=010190-900P^^^&1.2.246.21&ISO conflict=set: patient is unknown"
    );
    assert!(!format!("{findings:?}").contains("010190"), "Debug tells no patient");
}

#[test]
fn targets_of_relationships_are_registered_approved_and_of_the_same_patient() {
    for kind in [RPLC, APND, "urn:ihe:iti:2007:AssociationType:XFRM", "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"] {
        let unknown = if kind == APND || kind.ends_with(":XFRM") { "M-029" } else { "M-028" };
        assert_eq!(related(kind, REGISTERED, |_| {}), NONE, "{kind}");
        assert_eq!(related(kind, REGISTERED, |view| view.objects.clear()), [unknown], "{kind}");
        let hidden = |view: &mut RegistryView| stored(view).visible = false;
        assert_eq!(related(kind, REGISTERED, hidden), [unknown], "{kind}: hidden equals unknown");
        let deprecated = |view: &mut RegistryView| stored(view).status = AvailabilityStatus::Deprecated;
        assert_eq!(related(kind, REGISTERED, deprecated), ["M-031"], "{kind}");
        let other = |view: &mut RegistryView| stored(view).patient = other_patient();
        assert_eq!(related(kind, REGISTERED, other), ["M-143"], "{kind}");
        let merged = |view: &mut RegistryView| {
            stored(view).patient = other_patient();
            view.patients.insert(other_patient(), patient());
        };
        assert_eq!(related(kind, REGISTERED, merged), NONE, "{kind}: merges are resolved");
    }
}

fn stored(view: &mut RegistryView) -> &mut StoredObject {
    view.objects.get_mut(REGISTERED).expect("the view has it")
}

#[test]
fn a_snapshot_is_of_an_on_demand_entry() {
    let kind = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf";
    assert_eq!(related(kind, REGISTERED, |_| {}), ["M-033"]);
    let on_demand = |view: &mut RegistryView| {
        let kind = StoredKind::Entry { entry_type: EntryType::OnDemand, manifest: None };
        view.objects.insert(ON_DEMAND.to_owned(), StoredObject { kind, ..stored_entry() });
    };
    assert_eq!(related(kind, ON_DEMAND, on_demand), NONE);
}

#[test]
fn references_and_folders_are_registered_and_approved() {
    let reference = |change: fn(&mut RegistryView)| {
        let mut submission = report();
        join(&mut submission, HAS_MEMBER, SET, REGISTERED);
        submission.associations.last_mut().expect("it was just added").slots =
            vec![("SubmissionSetStatus".to_owned(), vec!["Reference".to_owned()])];
        let mut view = view();
        change(&mut view);
        of_report(&submission, &view)
    };
    assert_eq!(reference(|_| {}), NONE);
    assert_eq!(reference(|view| view.objects.clear()), ["M-025"]);
    assert_eq!(reference(|view| stored(view).kind = StoredKind::Folder), ["M-025"]);

    let into_folder = |change: fn(&mut RegistryView)| {
        let mut submission = report();
        join(&mut submission, HAS_MEMBER, OLD_FOLDER, ENTRY);
        let mut view = view();
        view.objects.insert(OLD_FOLDER.to_owned(), StoredObject { kind: StoredKind::Folder, ..stored_entry() });
        change(&mut view);
        of_report(&submission, &view)
    };
    assert_eq!(into_folder(|_| {}), NONE);
    assert_eq!(into_folder(|view| old_folder(view).status = AvailabilityStatus::Deprecated), ["M-032"]);
    assert_eq!(into_folder(|view| old_folder(view).visible = false), ["M-032"]);
    assert_eq!(into_folder(|view| old_folder(view).patient = other_patient()), ["M-144"]);
}

fn old_folder(view: &mut RegistryView) -> &mut StoredObject {
    view.objects.get_mut(OLD_FOLDER).expect("the view has it")
}

#[test]
fn a_known_document_is_accepted_with_equal_bytes_only() {
    let registered = |hash: &str, size: u64| {
        let mut view = view();
        let entry = RegisteredUniqueId::Entry { entry_type: EntryType::Stable, hash: Some(hash.to_owned()), size: Some(size) };
        view.unique_ids.insert(MANIFEST_UID.to_owned(), vec![entry]);
        view
    };
    let (hash, size) = (report_document().sha1, report_document().size);
    assert_eq!(of_report(&report(), &registered(&hash, size)), NONE);
    assert_eq!(of_report(&report(), &registered(&"0".repeat(40), size)), ["M-136"]);
    assert_eq!(of_report(&report(), &registered(&hash, size + 1)), ["M-137"]);
    assert_eq!(judged(&report(), SubmitTransaction::Iti42, &[], &registered(&"0".repeat(40), size + 1)), ["M-136", "M-137"]);
}

#[test]
fn an_on_demand_entry_has_an_id_of_no_stable_one() {
    let mut submission = report();
    let entry = &mut submission.entries[0];
    entry.entry_type = EntryType::OnDemand;
    (entry.creation_time, entry.hash, entry.size) = (None, None, None);
    let known = |entry_type| {
        let mut view = view();
        view.unique_ids.insert(MANIFEST_UID.to_owned(), vec![RegisteredUniqueId::Entry { entry_type, hash: None, size: None }]);
        view
    };
    assert_eq!(rules(&Node::default().message(SubmitTransaction::Iti61, &list(&submission))), Vec::<&str>::new());
    assert_eq!(judged(&submission, SubmitTransaction::Iti61, &[], &known(EntryType::Stable)), ["M-134"]);
    assert_eq!(judged(&submission, SubmitTransaction::Iti61, &[], &known(EntryType::OnDemand)), NONE);
    assert_eq!(judged(&submission, SubmitTransaction::Iti61, &[], &view()), NONE);
}

#[test]
fn unique_ids_of_sets_and_folders_are_nobodys_yet() {
    let mut view = view();
    view.unique_ids.insert(
        report().folders[0].unique_id.clone(),
        vec![RegisteredUniqueId::Entry { entry_type: EntryType::Stable, hash: None, size: None }],
    );
    assert_eq!(of_report(&report(), &view), ["M-322"]);
    view.unique_ids = [(report().submission_sets[0].unique_id.clone(), vec![RegisteredUniqueId::Folder])].into();
    assert_eq!(of_report(&report(), &view), ["M-308"]);
}

#[test]
fn the_same_set_again_is_a_repeat_for_its_organisation_and_content_only() {
    let submission = report();
    let list = list(&submission);
    let message = Message::new(SubmitTransaction::Iti41, Some(&list));
    let canonical = canonical_digest(&message, &[report_document()]);
    let set = |organisation: &str, canonical| {
        let mut view = view();
        // All of it is registered: without the repeat each id would be a clash.
        view.objects.insert(ENTRY.to_owned(), stored_entry());
        let used = RegisteredUniqueId::SubmissionSet { organisation: organisation.to_owned(), canonical };
        view.unique_ids.insert(submission.submission_sets[0].unique_id.clone(), vec![used]);
        view
    };
    assert_eq!(of_report(&submission, &set("1.2.246.10.12345671", canonical)), ["repeated"]);
    assert_eq!(of_report(&submission, &set("1.2.246.10.99999999", canonical)), ["M-008", "M-308"]);
    assert_eq!(of_report(&submission, &set("1.2.246.10.12345671", [0; 32])), ["M-008", "M-308"]);
    let strict = Node { rules: XdsRules::load(&["idempotency.submission_set = \"strict\""]).expect("loads"), ..Node::default() };
    let verdict = strict.state(SubmitTransaction::Iti41, &list, &[report_document()], &set("1.2.246.10.12345671", canonical));
    assert!(matches!(verdict, StateVerdict::Refuse(_)));
}

#[test]
fn repositories_and_sources_are_those_of_the_submitter() {
    let mut view = view();
    view.submitter.repositories.clear();
    assert_eq!(judged(&report(), SubmitTransaction::Iti42, &[], &view), ["M-119"]);
    assert_eq!(of_report(&report(), &view), NONE);
    view.submitter.source_ids = vec!["1.2.3".to_owned()];
    assert_eq!(of_report(&report(), &view), ["M-311"]);
    view.submitter.source_ids.push(SOURCE.to_owned());
    assert_eq!(of_report(&report(), &view), NONE);
}

#[test]
fn codes_are_in_their_value_set_whatever_their_display() {
    let mut view = view();
    let set = |code: &str| [(code.to_owned(), "1.3.6.1.4.1.19376.1.2.6.1".to_owned())].into();
    view.value_sets.insert("classCode".to_owned(), set("IMAGES"));
    assert_eq!(of_report(&report(), &view), NONE);
    view.value_sets.insert("classCode".to_owned(), set("OTHER"));
    assert_eq!(of_report(&report(), &view), ["M-214"]);
}

#[test]
fn a_manifest_is_of_its_patient_and_of_a_known_imaging_source() {
    assert_eq!(of_manifest(|_, view| view.imaging_sources = vec!["1.2.3".to_owned()]), ["M-426"]);
    assert_eq!(of_manifest(|_, view| view.imaging_sources = vec!["1.2.246.10.12345671.12.100".to_owned()]), NONE);
    assert_eq!(
        of_manifest(|submission, view| {
            for patient in [
                &mut submission.entries[0].patient_id,
                &mut submission.submission_sets[0].patient_id,
                &mut submission.folders[0].patient_id,
            ] {
                *patient = other_patient();
            }
            view.patients.insert(other_patient(), other_patient());
        }),
        ["M-428"]
    );
}

#[test]
fn a_manifest_references_nothing_that_is_rejected() {
    assert_eq!(of_manifest(|_, view| view.barred_instances = [format!("{STUDY}.3.1")].into()), ["M-431"]);
}

#[test]
fn a_study_has_one_approved_manifest_per_source() {
    let key = || (STUDY.to_owned(), SOURCE.to_owned());
    let registered = |view: &mut RegistryView, of: (String, String)| {
        view.manifests.insert(key(), vec![REGISTERED.to_owned()]);
        stored(view).kind = StoredKind::Entry { entry_type: EntryType::Stable, manifest: Some(of) };
    };
    assert_eq!(of_manifest(|_, view| registered(view, key())), ["M-435"]);
    let replaced = |submission: &mut Submission, view: &mut RegistryView, of| {
        registered(view, of);
        join(submission, RPLC, ENTRY, REGISTERED);
    };
    assert_eq!(of_manifest(|submission, view| replaced(submission, view, key())), NONE);
    let other = of_manifest(|submission, view| {
        replaced(submission, view, ("1.2.3".to_owned(), SOURCE.to_owned()));
        view.manifests.clear();
    });
    assert_eq!(other, ["M-436"]);
    let not_one = of_manifest(|submission, view| {
        replaced(submission, view, key());
        view.manifests.clear();
        stored(view).kind = StoredKind::Entry { entry_type: EntryType::Stable, manifest: None };
    });
    assert_eq!(not_one, ["M-436"]);
    // Registered without its document: the study is that of referenceIdList.
    let (submission, _) = manifest();
    let mut view = view();
    registered(&mut view, key());
    assert_eq!(judged(&submission, SubmitTransaction::Iti42, &[], &view), ["M-435"]);
}

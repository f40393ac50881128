//! Updates (ITI-57): what each asks for, and that nothing is told of what the caller may not correct.

use super::super::*;
use super::support::*;
use idr_ihe::metadata::{Association, AvailabilityStatus, DocumentEntry, EntryType, Submission};

const STATUS: &str = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus";
const SUBMIT: &str = "urn:ihe:iti:2010:AssociationType:SubmitAssociation";
const OTHER: &str = "urn:uuid:00000000-0000-4000-8000-00000000000b";
const LINK: &str = "urn:uuid:00000000-0000-4000-8000-00000000000e";
const FOLDER_LID: &str = "urn:uuid:00000000-0000-4000-8000-00000000000f";
const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";
const DEPRECATED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated";
const NONE: Vec<String> = Vec::new();

fn slots(pairs: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
}

fn associate(id: &str, kind: &str, source: &str, target: &str, pairs: &[(&str, &str)]) -> Association {
    Association {
        entry_uuid: id.to_owned(),
        association_type: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        status: None,
        slots: slots(pairs),
        documentation: None,
    }
}

/// The registered entry in its second version.
fn version() -> Submission {
    let mut update = report();
    update.folders.clear();
    update.entries[0].logical_id = Some(REGISTERED.to_owned());
    update.associations =
        vec![associate(SET_ENTRY, HAS_MEMBER, SET, ENTRY, &[("SubmissionSetStatus", "Original"), ("PreviousVersion", "1")])];
    update
}

fn operation(associations: Vec<Association>) -> Submission {
    let mut update = report();
    update.entries.clear();
    update.folders.clear();
    update.associations = associations;
    update
}

fn status(original: &str, new: &str) -> Submission {
    operation(vec![associate(RELATION, STATUS, SET, REGISTERED, &[("OriginalStatus", original), ("NewStatus", new)])])
}

fn submitted(kind: &str) -> Submission {
    operation(vec![associate(LINK, SUBMIT, SET, RELATION, &[]), associate(RELATION, kind, REGISTERED, OTHER, &[])])
}

fn of_entry(entry: DocumentEntry) -> LatestVersion {
    LatestVersion {
        entry_uuid: REGISTERED.to_owned(),
        version: 1,
        status: AvailabilityStatus::Approved,
        patient: patient(),
        correctable: true,
        manifest: None,
        content: Versioned::Entry(Box::new(entry)),
    }
}

/// A registry with the first versions of the report and of a folder, and another entry.
fn registry() -> RegistryView {
    let mut view = view();
    view.objects.insert(OTHER.to_owned(), stored_entry());
    view.latest.insert(REGISTERED.to_owned(), of_entry(report().entries.remove(0)));
    let folder = Versioned::Folder(Box::new(report().folders.remove(0)));
    view.latest.insert(FOLDER_LID.to_owned(), LatestVersion { content: folder, ..of_entry(report().entries.remove(0)) });
    view
}

fn stored(view: &mut RegistryView) -> &mut StoredObject {
    view.objects.get_mut(REGISTERED).expect("the view has it")
}

fn latest(view: &mut RegistryView) -> &mut LatestVersion {
    view.latest.get_mut(REGISTERED).expect("the view has it")
}

/// Rules that an update breaks, in the stage that finds them.
fn broken_in(transaction: SubmitTransaction, update: &Submission, view: &RegistryView) -> Vec<String> {
    let node = Node::default();
    let list = list(update);
    let owned = |findings: &Findings| rules(findings).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let first = node.message(transaction, &list);
    if first.has_errors() {
        return owned(&first);
    }
    match node.state(transaction, &list, &[], view) {
        StateVerdict::Register(_) => NONE,
        StateVerdict::Refuse(findings) => owned(&findings),
        StateVerdict::Repeated => vec!["repeated".to_owned()],
    }
}

fn broken(update: &Submission) -> Vec<String> {
    broken_in(SubmitTransaction::Iti57, update, &registry())
}

fn changed(update: Submission, change: impl FnOnce(&mut Submission)) -> Vec<String> {
    let mut update = update;
    change(&mut update);
    broken(&update)
}

fn against(update: &Submission, change: impl FnOnce(&mut RegistryView)) -> Vec<String> {
    let mut view = registry();
    change(&mut view);
    broken_in(SubmitTransaction::Iti57, update, &view)
}

fn set_slot(update: &mut Submission, name: &str, value: &str) {
    let slots = &mut update.associations[0].slots;
    slots.retain(|(known, _)| known != name);
    if !value.is_empty() {
        slots.push((name.to_owned(), vec![value.to_owned()]));
    }
}

fn changes_of(update: &Submission) -> Changes {
    let list = list(update);
    changes(&Message::new(SubmitTransaction::Iti57, Some(&list)), &registry())
}

#[test]
fn a_new_version_follows_the_current_one() {
    assert_eq!(broken(&version()), NONE);
    let new = |propagate| NewVersion {
        id: ENTRY.to_owned(),
        logical_id: REGISTERED.to_owned(),
        previous: REGISTERED.to_owned(),
        version: 2,
        propagate,
    };
    assert_eq!(changes_of(&version()), Changes { versions: vec![new(true)], statuses: Vec::new() });
    let mut alone = version();
    set_slot(&mut alone, "AssociationPropagation", "no");
    assert_eq!(changes_of(&alone).versions, [new(false)]);
    // In ITI-42 the same is no new object.
    let list = list(&version());
    assert_eq!(rules(&Node::default().message(SubmitTransaction::Iti42, &list)), ["M-145"]);
}

#[test]
fn what_must_be_looked_up_of_an_update_is_named() {
    let list = list(&version());
    let message = Message::new(SubmitTransaction::Iti57, Some(&list));
    assert_eq!(needs(&message, &[]).logical_ids, [REGISTERED.to_owned()].into());
    let message = Message::new(SubmitTransaction::Iti42, Some(&list));
    assert!(needs(&message, &[]).logical_ids.is_empty());
}

#[test]
fn a_folder_has_versions_too() {
    let mut update = report();
    update.entries.clear();
    update.folders[0].logical_id = Some(FOLDER_LID.to_owned());
    update.associations = vec![associate(SET_FOLDER, HAS_MEMBER, SET, FOLDER, &[("PreviousVersion", "1")])];
    assert_eq!(broken(&update), NONE);
    assert_eq!(changes_of(&update).versions.len(), 1);
    let known = |view: &mut RegistryView| {
        view.unique_ids.insert(update.folders[0].unique_id.clone(), vec![RegisteredUniqueId::Folder]);
    };
    assert_eq!(against(&update, known), NONE, "its uniqueId is its own");
    let entry_as_folder = changed(update.clone(), |update| update.folders[0].logical_id = Some(REGISTERED.to_owned()));
    assert_eq!(entry_as_folder, ["M-604"]);
    assert_eq!(changed(update, |update| update.folders[0].unique_id = "1.2.3".to_owned()), ["M-614"]);
}

#[test]
fn each_rule_of_the_message_is_broken_alone() {
    type Case = (&'static str, fn() -> Submission, fn(&mut Submission));
    let cases: [Case; 21] = [
        ("M-601", || operation(Vec::new()), |_| {}),
        ("M-601", version, |update| update.associations.push(associate(RELATION, RPLC, REGISTERED, OTHER, &[]))),
        ("M-601", version, |update| {
            update.associations.push(associate(RELATION, HAS_MEMBER, SET, OTHER, &[("SubmissionSetStatus", "Reference")]));
        }),
        ("M-602", version, |update| update.entries[0].logical_id = None),
        ("M-602", version, |update| update.entries[0].logical_id = Some(ENTRY.to_owned())),
        ("M-603", version, |update| update.entries[0].logical_id = Some("entry".to_owned())),
        ("M-605", version, |update| {
            let mut twin = update.entries[0].clone();
            (twin.entry_uuid, twin.unique_id) = (FOLDER.to_owned(), "1.2.3".to_owned());
            update.entries.push(twin);
            let link = associate(SET_FOLDER, HAS_MEMBER, SET, FOLDER, &[("SubmissionSetStatus", "Original"), ("PreviousVersion", "1")]);
            update.associations.push(link);
        }),
        ("M-606", version, |update| set_slot(update, "PreviousVersion", "")),
        ("M-607", version, |update| set_slot(update, "PreviousVersion", "0")),
        ("M-607", version, |update| set_slot(update, "PreviousVersion", "one")),
        ("M-607", version, |update| set_slot(update, "PreviousVersion", "+1")),
        ("M-607", version, |update| update.associations[0].slots[1].1.push("2".to_owned())),
        ("M-607", version, |update| set_slot(update, "AssociationPropagation", "maybe")),
        ("M-607", version, |update| set_slot(update, "NewStatus", APPROVED)),
        ("M-607", || status(APPROVED, DEPRECATED), |update| set_slot(update, "PreviousVersion", "1")),
        ("M-607", || submitted(APND), |update| set_slot(update, "OriginalStatus", APPROVED)),
        ("M-617", || status(APPROVED, APPROVED), |_| {}),
        ("M-617", || status(APPROVED, "Deprecated"), |_| {}),
        ("M-617", || status(APPROVED, DEPRECATED), |update| set_slot(update, "OriginalStatus", "")),
        ("M-617", || status(APPROVED, DEPRECATED), |update| set_slot(update, "NewStatus", "")),
        ("M-014", version, |update| update.associations[0].association_type = "HasMember".to_owned()),
    ];
    for (rule, update, change) in cases {
        let found = changed(update(), change);
        assert!(found.iter().any(|found| found == rule), "{rule}: {found:?}");
        let besides: Vec<_> = found.iter().filter(|found| *found != rule && !["M-601", "M-607"].contains(&found.as_str())).collect();
        assert!(besides.is_empty(), "{rule}: {found:?}");
    }
    // A HasMember of the set is what makes it an update.
    let unlinked = changed(version(), |update| update.associations.clear());
    assert_eq!(unlinked, ["M-607", "M-601"]);
    let to_set = changed(status(APPROVED, DEPRECATED), |update| update.associations[0].target = SET.to_owned());
    assert!(to_set.contains(&"M-617".to_owned()), "{to_set:?}");
}

#[test]
fn a_version_follows_what_is_there_and_the_caller_may_correct() {
    assert_eq!(against(&version(), |view| view.latest.clear()), ["M-604"]);
    assert_eq!(against(&version(), |view| latest(view).correctable = false), ["M-604"], "denied equals unknown");
    assert_eq!(against(&version(), |view| latest(view).version = 2), ["M-608"]);
    let withdrawn = |view: &mut RegistryView| latest(view).status = AvailabilityStatus::Deprecated;
    assert_eq!(against(&version(), withdrawn), ["M-608"], "what was withdrawn does not come back by a correction");
}

#[test]
fn what_identifies_an_entry_does_not_change() {
    assert_eq!(changed(version(), |update| update.entries[0].repository_unique_id = Some("1.2.3".to_owned())), ["M-613"]);
    assert_eq!(changed(version(), |update| update.entries[0].repository_unique_id = None), ["M-613"]);
    assert_eq!(changed(version(), |update| update.entries[0].entry_type = EntryType::OnDemand), ["M-613"]);
    assert_eq!(changed(version(), |update| update.entries[0].unique_id = "1.2.3".to_owned()), ["M-614"]);
    let moved = |update: &mut Submission| update.entries[0].patient_id = other_patient();
    let mut view = registry();
    view.patients.insert(other_patient(), other_patient());
    let mut update = version();
    moved(&mut update);
    assert_eq!(broken_in(SubmitTransaction::Iti57, &update, &view), ["M-616"]);
    view.patients.insert(other_patient(), patient());
    assert_eq!(broken_in(SubmitTransaction::Iti57, &update, &view), NONE, "merges are resolved");
    // Everything else may.
    let other = changed(version(), |update| {
        let entry = &mut update.entries[0];
        (entry.title, entry.hash, entry.size) = (Some("Toinen".to_owned()), Some("0".repeat(40)), Some(1));
        entry.mime_type = "application/pdf".to_owned();
    });
    assert_eq!(other, NONE);
}

#[test]
fn a_manifest_keeps_what_it_describes() {
    let (mut update, content) = manifest();
    manifest_document(&mut update, &content);
    let mut view = registry();
    *latest(&mut view) = LatestVersion { manifest: Some((STUDY.to_owned(), "1.2.3".to_owned())), ..of_entry(update.entries[0].clone()) };
    let links = version();
    (update.folders, update.associations) = (Vec::new(), links.associations);
    update.entries[0].logical_id = Some(REGISTERED.to_owned());
    let judged = |update: &Submission, view: &RegistryView| broken_in(SubmitTransaction::Iti57, update, view);
    assert_eq!(judged(&update, &view), NONE);
    let changed = |change: fn(&mut DocumentEntry)| {
        let mut update = update.clone();
        change(&mut update.entries[0]);
        judged(&update, &view)
    };
    assert_eq!(changed(|entry| entry.title = Some("Toinen".to_owned())), NONE);
    assert_eq!(changed(|entry| entry.size = Some(1)), ["M-631"]);
    assert_eq!(changed(|entry| entry.hash = None), ["M-631"]);
    assert_eq!(changed(|entry| entry.mime_type = "text/plain".to_owned()), ["M-631"]);
    assert_eq!(changed(|entry| entry.reference_ids[0] = "1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID".to_owned()), ["M-631"]);
    assert_eq!(changed(|entry| entry.format_code = Some(code("x", "1.2.3"))), ["M-631"]);
    // Of its own source it is the one Approved manifest; another one Approved is one too many.
    view.manifests.insert((STUDY.to_owned(), "1.2.3".to_owned()), vec![REGISTERED.to_owned()]);
    assert_eq!(judged(&update, &view), NONE);
    view.manifests.insert((STUDY.to_owned(), "1.2.3".to_owned()), vec![OTHER.to_owned()]);
    assert_eq!(judged(&update, &view), ["M-435"]);
}

#[test]
fn a_status_changes_from_the_current_one() {
    let update = status(APPROVED, DEPRECATED);
    assert_eq!(broken(&update), NONE);
    let change = StatusChange { target: REGISTERED.to_owned(), status: AvailabilityStatus::Deprecated };
    assert_eq!(changes_of(&update).statuses, [change]);
    assert_eq!(against(&update, |view| stored(view).status = AvailabilityStatus::Deprecated), ["M-618"]);
    assert_eq!(against(&update, |view| stored(view).newest = false), ["M-618"], "an older version");
    assert_eq!(against(&update, |view| view.objects.clear()), ["M-620"]);
    assert_eq!(against(&update, |view| stored(view).correctable = false), ["M-620"], "denied equals unknown");
    assert_eq!(against(&update, |view| stored(view).kind = StoredKind::SubmissionSet), ["M-620"]);
    assert_eq!(against(&update, |view| stored(view).kind = StoredKind::Folder), NONE);
    assert_eq!(against(&update, |view| stored(view).kind = StoredKind::Association), NONE);
    assert_eq!(broken_in(SubmitTransaction::Iti92, &update, &registry()), ["M-601", "M-640", "M-601"], "ITI-92 changes no status");
}

#[test]
fn a_status_given_with_a_new_version_is_that_of_the_version() {
    let mut update = version();
    update.associations.extend(status(APPROVED, DEPRECATED).associations);
    assert_eq!(broken(&update), NONE);
    assert_eq!(changes_of(&update).statuses[0].target, ENTRY);
}

#[test]
fn a_manifest_is_not_approved_beside_another() {
    let again = status(DEPRECATED, APPROVED);
    let key = || (STUDY.to_owned(), SOURCE.to_owned());
    let withdrawn = |view: &mut RegistryView| {
        stored(view).status = AvailabilityStatus::Deprecated;
        stored(view).kind = StoredKind::Entry { entry_type: EntryType::Stable, manifest: Some(key()) };
    };
    assert_eq!(against(&again, withdrawn), NONE);
    let beside = |view: &mut RegistryView| {
        withdrawn(view);
        view.manifests.insert(key(), vec![OTHER.to_owned()]);
    };
    assert_eq!(against(&again, beside), ["M-435"]);
    // Two that were withdrawn, approved again by one message.
    let mut both = status(DEPRECATED, APPROVED);
    both.associations.push(associate(LINK, STATUS, SET, OTHER, &[("OriginalStatus", DEPRECATED), ("NewStatus", APPROVED)]));
    let two_withdrawn = |view: &mut RegistryView| {
        withdrawn(view);
        view.objects.insert(OTHER.to_owned(), view.objects[REGISTERED].clone());
    };
    assert_eq!(against(&both, two_withdrawn), ["M-435", "M-435"]);
    both.associations[1] = associate(LINK, STATUS, SET, OTHER, &[("OriginalStatus", APPROVED), ("NewStatus", DEPRECATED)]);
    let one_withdrawn = |view: &mut RegistryView| {
        two_withdrawn(view);
        view.objects.get_mut(OTHER).unwrap().status = AvailabilityStatus::Approved;
        view.manifests.insert(key(), vec![OTHER.to_owned()]);
    };
    assert_eq!(against(&both, one_withdrawn), ["M-435"], "what is registered when the message comes counts too");
}

#[test]
fn an_association_is_submitted_between_two_of_one_patient() {
    for kind in [APND, RPLC] {
        assert_eq!(broken(&submitted(kind)), NONE, "{kind}");
        assert!(changes_of(&submitted(kind)).versions.is_empty());
    }
    let into_folder = |view: &mut RegistryView| stored(view).kind = StoredKind::Folder;
    assert_eq!(against(&submitted(HAS_MEMBER), into_folder), NONE);
    assert_eq!(against(&submitted(APND), |view| drop(view.objects.remove(OTHER))), ["M-620"]);
    assert_eq!(against(&submitted(APND), |view| stored(view).visible = false), ["M-620"], "denied equals unknown");
    assert_eq!(against(&submitted(APND), |view| stored(view).status = AvailabilityStatus::Deprecated), ["M-622"]);
    assert_eq!(against(&submitted(APND), |view| stored(view).patient = other_patient()), ["M-623"]);
    let both_anothers = |view: &mut RegistryView| {
        for object in view.objects.values_mut() {
            (object.patient, object.correctable) = (other_patient(), false);
        }
    };
    assert_eq!(against(&submitted(APND), both_anothers), ["M-620", "M-620"]);
}

#[test]
fn a_restricted_update_names_its_community_and_changes_what_is_listed() {
    let restricted = || {
        let mut update = version();
        update.submission_sets[0].home_community_id = Some(HOME.to_owned());
        update
    };
    let judged = |change: fn(&mut Submission)| {
        let mut update = restricted();
        change(&mut update);
        let node = Node::default();
        let list = list(&update);
        let first = node.message(SubmitTransaction::Iti92, &list);
        let findings = match (first.has_errors(), node.state(SubmitTransaction::Iti92, &list, &[], &registry())) {
            (true, _) => first,
            (false, StateVerdict::Refuse(findings) | StateVerdict::Register(findings)) => findings,
            (false, StateVerdict::Repeated) => panic!("it is new"),
        };
        findings.problems.iter().map(|problem| format!("{} {}", problem.rule, problem.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(judged(|_| {}), NONE);
    assert_eq!(judged(|update| update.entries[0].title = Some("Toinen".to_owned())), NONE);
    for (change, expected) in [
        ((|update| update.submission_sets[0].home_community_id = None) as fn(&mut Submission), "M-640 XDSMissingHomeCommunityId"),
        (|update| update.submission_sets[0].home_community_id = Some("urn:oid:1.2.3".to_owned()), "M-641 XDSUnknownCommunity"),
        (|update| set_slot(update, "AssociationPropagation", "no"), "M-643 XDSMetadataAnnotationError"),
        (|update| update.entries[0].logical_id = None, "M-602 XDSInvalidRequestException"),
        (|update| update.entries[0].unique_id = "1.2.3".to_owned(), "M-614 XDSMetadataIdentifierError"),
        (|update| update.entries[0].repository_unique_id = Some("1.2.3".to_owned()), "M-613 UnmodifiableMetadataError"),
        (|update| update.entries[0].source_patient_id = Some(other_patient()), "M-644 UnmodifiableMetadataError"),
        (|update| update.entries[0].extra = slots(&[("urn:x-test", "1")]), "M-645 LocalPolicyRestrictionError"),
    ] {
        assert_eq!(judged(change), [expected]);
    }
    let folder = judged(|update| {
        let mut folder = report().folders.remove(0);
        folder.logical_id = Some(FOLDER_LID.to_owned());
        update.folders.push(folder);
        update.associations.push(associate(SET_FOLDER, HAS_MEMBER, SET, FOLDER, &[("PreviousVersion", "1")]));
    });
    assert_eq!(folder, ["M-642 XDSObjectTypeError"]);
}

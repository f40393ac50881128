//! Stage 1: each rule fires for a message that breaks it, with its keys, and for nothing else.

use super::super::*;
use super::support::*;
use idr_ihe::ebxml::rim::{
    Association, Classification, ExternalIdentifier, LocalizedString, Object, RegistryObject, RegistryObjectList, Slot,
};
use idr_ihe::ebxml::scheme::{self, document_entry, folder, submission_set};
use std::collections::BTreeSet;

/// Rule, where it holds, how to break it, and the rules that break with it.
struct Case {
    rule: &'static str,
    transaction: SubmitTransaction,
    change: fn(&mut RegistryObjectList),
    /// Other rules that the same change breaks.
    besides: &'static [&'static str],
}

fn case(rule: &'static str, change: fn(&mut RegistryObjectList)) -> Case {
    Case { rule, transaction: SubmitTransaction::Iti42, change, besides: &[] }
}

fn on_demand(list: &mut RegistryObjectList) {
    object(list, ENTRY).object_type = Some(scheme::ON_DEMAND.to_owned());
}

fn with(rule: &'static str, besides: &'static [&'static str], change: fn(&mut RegistryObjectList)) -> Case {
    Case { besides, ..case(rule, change) }
}

fn slot(name: &str, values: &[&str]) -> Slot {
    Slot { name: Some(name.to_owned()), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn set_slot(list: &mut RegistryObjectList, id: &str, name: &str, values: &[&str]) {
    let object = object(list, id);
    object.slots.retain(|slot| slot.name.as_deref() != Some(name));
    object.slots.push(slot(name, values));
}

fn remove_slot(list: &mut RegistryObjectList, id: &str, name: &str) {
    object(list, id).slots.retain(|slot| slot.name.as_deref() != Some(name));
}

fn remove_code(list: &mut RegistryObjectList, id: &str, scheme: &str) {
    object(list, id).classifications.retain(|x| x.classification_scheme.as_deref() != Some(scheme));
}

fn the_code<'a>(list: &'a mut RegistryObjectList, id: &str, scheme: &str) -> &'a mut Classification {
    let codes = &mut object(list, id).classifications;
    codes.iter_mut().find(|x| x.classification_scheme.as_deref() == Some(scheme)).expect("the code is there")
}

fn author(list: &mut RegistryObjectList) -> &mut RegistryObject {
    &mut the_code(list, ENTRY, document_entry::AUTHOR).object
}

fn set_author(list: &mut RegistryObjectList, name: &str, values: &[&str]) {
    let author = author(list);
    author.slots.retain(|slot| slot.name.as_deref() != Some(name));
    author.slots.push(slot(name, values));
}

fn remove_identifier(list: &mut RegistryObjectList, id: &str, scheme: &str) {
    object(list, id).external_identifiers.retain(|x| x.identification_scheme.as_deref() != Some(scheme));
}

fn identifier<'a>(list: &'a mut RegistryObjectList, id: &str, scheme: &str) -> &'a mut ExternalIdentifier {
    let identifiers = &mut object(list, id).external_identifiers;
    identifiers.iter_mut().find(|x| x.identification_scheme.as_deref() == Some(scheme)).expect("the identifier is there")
}

fn set_identifier(list: &mut RegistryObjectList, id: &str, scheme: &str, value: &str) {
    identifier(list, id, scheme).value = Some(value.to_owned());
}

fn association<'a>(list: &'a mut RegistryObjectList, id: &str) -> &'a mut Association {
    let found = list.objects.iter_mut().find_map(|object| match object {
        Object::Association(x) if x.object.id.as_deref() == Some(id) => Some(x),
        _ => None,
    });
    found.expect("the association is there")
}

fn add_association(list: &mut RegistryObjectList, id: &str, kind: &str, source: &str, target: &str) {
    list.objects.push(Object::Association(Association {
        object: RegistryObject { id: Some(id.to_owned()), ..RegistryObject::default() },
        association_type: Some(kind.to_owned()),
        source_object: Some(source.to_owned()),
        target_object: Some(target.to_owned()),
    }));
}

fn documentation(list: &mut RegistryObjectList, id: &str, code: &str) {
    let association = association(list, id);
    association.object.classifications.push(Classification {
        object: RegistryObject {
            id: Some("doc1".to_owned()),
            slots: vec![slot("codingScheme", &["1.2.3"])],
            name: Some(vec![text("Documentation")]),
            ..RegistryObject::default()
        },
        classification_scheme: Some(scheme::ASSOCIATION_DOCUMENTATION.to_owned()),
        classified_object: Some(id.to_owned()),
        classification_node: None,
        node_representation: Some(code.to_owned()),
    });
}

fn text(value: &str) -> LocalizedString {
    LocalizedString { value: Some(value.to_owned()), ..LocalizedString::default() }
}

fn duplicate(list: &mut RegistryObjectList, id: &str, new_id: &str) {
    let mut copy = list.objects.iter().find(|object| object.id() == Some(id)).expect("the object is there").clone();
    if let Object::Association(association) = &mut copy {
        association.object.id = Some(new_id.to_owned());
    }
    list.objects.push(copy);
}

fn cases() -> Vec<Case> {
    vec![
        case("M-001", |list| list.objects.clear()),
        case("M-002", |list| list.objects.push(Object::Other("Organization".to_owned()))),
        with("M-003", &[], |list| {
            let set = list.objects.iter().find(|object| object.id() == Some(SET)).expect("the set is there").clone();
            let Object::RegistryPackage(mut set) = set else { panic!("a set is a package") };
            let id = "urn:uuid:00000000-0000-4000-8000-0000000000ff".to_owned();
            for classification in &mut set.object.classifications {
                classification.classified_object = Some(id.clone());
            }
            for identifier in &mut set.object.external_identifiers {
                identifier.registry_object = Some(id.clone());
            }
            set.object
                .external_identifiers
                .iter_mut()
                .find(|x| x.identification_scheme.as_deref() == Some(submission_set::UNIQUE_ID))
                .expect("it has one")
                .value = Some("1.2.3.4".to_owned());
            set.object.classifications.push(Classification {
                object: RegistryObject { id: Some("n1".to_owned()), ..RegistryObject::default() },
                classification_node: Some(scheme::SUBMISSION_SET_NODE.to_owned()),
                classified_object: Some(id.clone()),
                ..Classification::default()
            });
            set.object.id = Some(id);
            list.objects.push(Object::RegistryPackage(set));
        }),
        with("M-004", &["M-018", "M-020"], |list| {
            list.objects.retain(|object| !matches!(object, Object::Classification(x) if x.classified_object.as_deref() == Some(FOLDER)));
        }),
        case("M-005", |list| the_code(list, ENTRY, document_entry::CLASS_CODE).object.id = None),
        with("M-006", &["M-013"], |list| duplicate(list, SET_ENTRY, SET_ENTRY)),
        case("M-007", |list| the_code(list, ENTRY, document_entry::CLASS_CODE).object.id = Some("urn:uuid:1-2".to_owned())),
        case("M-010", |list| object(list, ENTRY).home = Some("urn:oid:1.2.3".to_owned())),
        with("M-011", &["M-023", "M-024"], |list| association(list, SET_ENTRY).target_object = Some(REGISTERED.to_owned())),
        with("M-012", &[], |list| list.objects.retain(|object| object.id() != Some(SET_FOLDER))),
        case("M-013", |list| duplicate(list, SET_ENTRY, RELATION)),
        case("M-014", |list| add_association(list, RELATION, "RPLC", ENTRY, REGISTERED)),
        with("M-015", &[], |list| add_association(list, RELATION, RPLC, ENTRY, "")),
        case("M-016", |list| add_association(list, RELATION, APND, ENTRY, ENTRY)),
        with("M-017", &["M-030"], |list| add_association(list, RELATION, APND, ENTRY, SET)),
        case("M-018", |list| add_association(list, RELATION, HAS_MEMBER, ENTRY, REGISTERED)),
        case("M-019", |list| list.objects.retain(|object| object.id() != Some(SET_MEMBERSHIP))),
        case("M-020", |list| remove_slot(list, SET_ENTRY, "SubmissionSetStatus")),
        case("M-021", |list| set_slot(list, SET_ENTRY, "SubmissionSetStatus", &["New"])),
        case("M-022", |list| set_slot(list, SET_ENTRY, "SubmissionSetStatus", &["Original", "Original"])),
        with("M-023", &["M-011"], |list| association(list, SET_ENTRY).target_object = Some(REGISTERED.to_owned())),
        case("M-024", |list| set_slot(list, SET_ENTRY, "SubmissionSetStatus", &["Reference"])),
        case("M-026", |list| documentation(list, SET_ENTRY, "A")),
        case("M-027", |list| add_association(list, RELATION, RPLC, REGISTERED, REGISTERED_2)),
        case("M-030", |list| add_association(list, RELATION, APND, ENTRY, FOLDER)),
        case("M-034", |list| {
            add_association(list, RELATION, RPLC, ENTRY, REGISTERED);
            add_association(
                list,
                "urn:uuid:00000000-0000-4000-8000-000000000009",
                "urn:ihe:iti:2007:AssociationType:XFRM_RPLC",
                ENTRY,
                REGISTERED,
            );
        }),
        case("M-035", |list| {
            add_association(list, RELATION, RPLC, ENTRY, REGISTERED);
            documentation(list, RELATION, "A");
            documentation(list, RELATION, "B");
        }),
        case("M-048", |list| (0..1_000).for_each(|n| add_association(list, &format!("a{n}"), RPLC, ENTRY, REGISTERED))),
        case("M-101", |list| object(list, ENTRY).object_type = Some("urn:uuid:00000000-0000-4000-8000-000000000001".to_owned())),
        case("M-102", |list| mime_type(list, "")),
        case("M-103", |list| mime_type(list, "text")),
        case("M-105", |list| object(list, ENTRY).status = Some(scheme::DEPRECATED.to_owned())),
        case("M-106", |list| remove_slot(list, ENTRY, "languageCode")),
        case("M-107", |list| set_slot(list, ENTRY, "creationTime", &["2026", "2025"])),
        case("M-108", |list| set_slot(list, SET, "submissionTime", &["20260115082741+0200"])),
        case("M-109", |list| set_slot(list, ENTRY, "serviceStopTime", &["20260114"])),
        case("M-110", |list| set_slot(list, ENTRY, "creationTime", &["20260117"])),
        case("M-112", |list| remove_slot(list, ENTRY, "hash")),
        case("M-113", |list| set_slot(list, ENTRY, "hash", &["lol"])),
        case("M-114", |list| remove_slot(list, ENTRY, "size")),
        case("M-115", |list| set_slot(list, ENTRY, "size", &["9223372036854775808"])),
        case("M-116", |list| set_slot(list, ENTRY, "size", &["0"])),
        case("M-117", |list| remove_slot(list, ENTRY, "repositoryUniqueId")),
        case("M-118", |list| set_slot(list, ENTRY, "repositoryUniqueId", &["repository"])),
        case("M-121", |list| set_slot(list, ENTRY, "languageCode", &["123lol"])),
        case("M-122", |list| set_slot(list, ENTRY, "sourcePatientId", &["010190-900P"])),
        case("M-123", |list| set_slot(list, ENTRY, "sourcePatientInfo", &["PID-x|F"])),
        case("M-124", |list| set_slot(list, ENTRY, "sourcePatientInfo", &["PID-19|1"])),
        case("M-125", |list| remove_identifier(list, FOLDER, folder::PATIENT_ID)),
        with("M-126", &["M-142"], |list| set_identifier(list, FOLDER, folder::PATIENT_ID, "^^^&1.2.246.21&ISO")),
        with("M-127", &["M-142"], |list| set_identifier(list, FOLDER, folder::PATIENT_ID, "010190-900P^^^A&1.2.246.21&ISO")),
        with("M-128", &["M-142"], |list| set_identifier(list, FOLDER, folder::PATIENT_ID, "010190-900P^^^&1.2.246.21")),
        case("M-130", |list| remove_identifier(list, ENTRY, document_entry::UNIQUE_ID)),
        case("M-131", |list| set_identifier(list, ENTRY, document_entry::UNIQUE_ID, &format!("urn:x:{}", "1".repeat(123)))),
        case("M-132", |list| set_identifier(list, FOLDER, folder::UNIQUE_ID, &format!("1.2.{}", "1".repeat(61)))),
        case("M-133", |list| set_identifier(list, ENTRY, document_entry::UNIQUE_ID, "a document")),
        case("M-135", |list| set_identifier(list, FOLDER, folder::UNIQUE_ID, MANIFEST_UID)),
        case("M-138", |list| object(list, ENTRY).object_type = Some(scheme::ON_DEMAND.to_owned())),
        case("M-141", |list| set_identifier(list, ENTRY, document_entry::PATIENT_ID, &other_patient().to_cx())),
        case("M-142", |list| set_identifier(list, FOLDER, folder::PATIENT_ID, &other_patient().to_cx())),
        case("M-145", |list| object(list, ENTRY).lid = Some(REGISTERED.to_owned())),
        case("M-146", |list| {
            for object in &mut list.objects {
                if let Object::ExtrinsicObject(entry) = object {
                    entry.holds_document = true;
                }
            }
        }),
        case("M-147", |list| object(list, ENTRY).name = Some(vec![text(&"ä".repeat(129))])),
        case("M-148", |list| object(list, SET).description = Some(vec![text("a\u{b}b")])),
        case("M-149", |list| set_slot(list, ENTRY, "URI", &[":lol:"])),
        case("M-150", |list| set_slot(list, ENTRY, "documentAvailability", &["Online"])),
        case("M-151", |list| set_slot(list, ENTRY, "legalAuthenticator", &["^^^^^Dr"])),
        case("M-152", |list| set_slot(list, ENTRY, REFERENCE_IDS, &["^^^^urn:ihe:iti:xds:2013:accession"])),
        case("M-153", |list| set_slot(list, ENTRY, REFERENCE_IDS, &["ACC1^^^&1.2.3^urn:ihe:iti:xds:2013:accession"])),
        case("M-154", |list| set_slot(list, ENTRY, REFERENCE_IDS, &["ACC1^^^&1.2.3&ISO"])),
        case("M-201", |list| remove_code(list, ENTRY, document_entry::CLASS_CODE)),
        case("M-202", |list| remove_code(list, ENTRY, document_entry::TYPE_CODE)),
        case("M-203", |list| remove_code(list, ENTRY, document_entry::FORMAT_CODE)),
        case("M-204", |list| remove_code(list, ENTRY, document_entry::CONFIDENTIALITY_CODE)),
        case("M-205", |list| remove_code(list, ENTRY, document_entry::FACILITY_TYPE_CODE)),
        case("M-206", |list| remove_code(list, ENTRY, document_entry::PRACTICE_SETTING_CODE)),
        case("M-207", |list| {
            let second = the_code(list, ENTRY, document_entry::CLASS_CODE).clone();
            object(list, ENTRY).classifications.push(second);
        }),
        case("M-208", |list| the_code(list, ENTRY, document_entry::CLASS_CODE).node_representation = Some(String::new())),
        case("M-209", |list| {
            let mut unknown = the_code(list, ENTRY, document_entry::CLASS_CODE).clone();
            unknown.classification_scheme = Some("urn:uuid:00000000-0000-4000-8000-0000000000aa".to_owned());
            object(list, ENTRY).classifications.push(unknown);
        }),
        case("M-210", |list| the_code(list, ENTRY, document_entry::CLASS_CODE).classified_object = Some(SET.to_owned())),
        case("M-212", |list| the_code(list, ENTRY, document_entry::CLASS_CODE).object.slots.clear()),
        case("M-213", |list| the_code(list, ENTRY, document_entry::CLASS_CODE).object.name = None),
        case("M-215", |list| the_code(list, ENTRY, document_entry::AUTHOR).node_representation = Some("A".to_owned())),
        case("M-216", |list| author(list).slots = vec![slot("authorRole", &["Attending"])]),
        case("M-217", |list| set_author(list, "authorPerson", &["^A^B", "^C^D"])),
        case("M-218", |list| set_author(list, "authorPerson", &["^^^^^Dr"])),
        case("M-219", |list| set_author(list, "authorPerson", &["^A^B^^^^^^&1.2.3&ISO"])),
        case("M-220", |list| set_author(list, "authorInstitution", &["^^^^^^^^^1.2.3"])),
        case("M-221", |list| set_author(list, "authorInstitution", &["Otto^lol"])),
        case("M-222", |list| set_author(list, "authorInstitution", &["Otto^^^^^^^^^45"])),
        case("M-223", |list| set_author(list, "authorTelecommunication", &["^PRN^Internet^a@example.fi"])),
        case("M-224", |list| {
            object(list, ENTRY).classifications.push(Classification {
                object: RegistryObject { id: Some("lm".to_owned()), ..RegistryObject::default() },
                classification_node: Some(scheme::LIMITED_METADATA_NODES[0].to_owned()),
                classified_object: Some(ENTRY.to_owned()),
                ..Classification::default()
            });
        }),
        case("M-225", |list| remove_code(list, SET, submission_set::CONTENT_TYPE_CODE)),
        case("M-226", |list| remove_code(list, FOLDER, folder::CODE)),
        case("M-301", |list| {
            let mut unknown = identifier(list, ENTRY, document_entry::UNIQUE_ID).clone();
            unknown.identification_scheme = Some("urn:uuid:00000000-0000-4000-8000-0000000000bb".to_owned());
            object(list, ENTRY).external_identifiers.push(unknown);
        }),
        case("M-302", |list| {
            let second = identifier(list, ENTRY, document_entry::UNIQUE_ID).clone();
            object(list, ENTRY).external_identifiers.push(second);
        }),
        case("M-303", |list| identifier(list, ENTRY, document_entry::UNIQUE_ID).object.name = Some(vec![text("uniqueId")])),
        case("M-304", |list| identifier(list, ENTRY, document_entry::UNIQUE_ID).registry_object = Some(SET.to_owned())),
        case("M-306", |list| remove_identifier(list, SET, submission_set::UNIQUE_ID)),
        case("M-307", |list| set_identifier(list, SET, submission_set::UNIQUE_ID, "set")),
        case("M-309", |list| remove_identifier(list, SET, submission_set::SOURCE_ID)),
        case("M-312", |list| remove_slot(list, SET, "submissionTime")),
        case("M-313", |list| set_slot(list, SET, "intendedRecipient", &["||"])),
        case("M-320", |list| remove_identifier(list, FOLDER, folder::UNIQUE_ID)),
        case("M-321", |list| set_identifier(list, FOLDER, folder::UNIQUE_ID, "folder")),
        case("M-323", |list| object(list, FOLDER).name = None),
        case("M-324", |list| set_slot(list, FOLDER, "lastUpdateTime", &["202601150827"])),
        case("M-330", |list| object(list, ENTRY).slots.push(Slot { name: None, values: vec!["x".to_owned()] })),
        case("M-331", |list| object(list, ENTRY).slots.push(slot("languageCode", &["fi-FI"]))),
        case("M-332", |list| set_slot(list, ENTRY, "urn:x-test:a", &[])),
        case("M-333", |list| set_slot(list, ENTRY, "urn:x-test:a", &[&"x".repeat(257)])),
        case("M-334", |list| set_slot(list, ENTRY, "urn:ihe:iti:unknown", &["x"])),
        case("M-335", |list| set_slot(list, ENTRY, "unknown", &["x"])),
        Case { transaction: SubmitTransaction::Iti61, ..case("M-139", on_demand) },
        case("M-336", |list| (0..33).for_each(|n| object(list, ENTRY).slots.push(slot(&format!("urn:x-test:{n}"), &["x"])))),
    ]
}

const REGISTERED_2: &str = "urn:uuid:00000000-0000-4000-8000-00000000000b";
const REFERENCE_IDS: &str = "urn:ihe:iti:xds:2013:referenceIdList";

fn mime_type(list: &mut RegistryObjectList, value: &str) {
    for object in &mut list.objects {
        if let Object::ExtrinsicObject(entry) = object {
            entry.mime_type = Some(value.to_owned());
        }
    }
}

#[test]
fn a_good_submission_breaks_no_rule_in_either_transaction() {
    let node = Node::default();
    for submission in [report(), manifest().0] {
        for transaction in [SubmitTransaction::Iti41, SubmitTransaction::Iti42] {
            assert_eq!(rules(&node.message(transaction, &list(&submission))), Vec::<&str>::new());
        }
    }
}

#[test]
fn each_rule_is_broken_by_its_message_alone() {
    let node = Node::default();
    for case in cases() {
        let mut list = list(&report());
        (case.change)(&mut list);
        let findings = node.message(case.transaction, &list);
        let found: BTreeSet<&str> = rules(&findings).into_iter().collect();
        let expected: BTreeSet<&str> = case.besides.iter().copied().chain([case.rule]).collect();
        assert!(found.contains(case.rule), "{}: {found:?}", case.rule);
        assert!(found.is_subset(&expected), "{}: {found:?}", case.rule);
        let told = findings.problems.iter().find(|problem| problem.rule == case.rule).expect("it was found");
        let context = CodeContext::parse(&told.code_context()).unwrap_or_else(|| panic!("{}: {}", case.rule, told.code_context()));
        assert_eq!((context.rule.as_str(), context.text.as_str()), (case.rule, told.text.as_str()));
    }
}

/// Rules of stage 1 that need another message, another set of rules or another transaction than those of [`cases`].
const ELSEWHERE: [&str; 6] = ["M-104", "M-501", "M-502", "M-503", "M-504", "M-505"];

#[test]
fn every_rule_of_the_message_has_a_case() {
    let rules = XdsRules::shipped();
    let tried: BTreeSet<String> = cases().iter().map(|case| case.rule.to_owned()).chain(ELSEWHERE.map(str::to_owned)).collect();
    for id in rules.rule_ids() {
        let check = rules.check_name(id).expect("the rule has a row");
        // Those of updates and removals have their own files.
        if !["Document(", "Registry(", "Removal(", "Update(", "Updated("].iter().any(|stage| check.starts_with(stage)) {
            assert!(tried.contains(id), "{id} {check}");
        }
    }
}

#[test]
fn media_types_are_those_of_the_set_in_force() {
    let node = Node { rules: XdsRules::load(&["mime_types = [\"application/dicom\"]"]).expect("loads"), ..Node::default() };
    let findings = node.message(SubmitTransaction::Iti41, &list(&report()));
    assert_eq!(rules(&findings), ["M-104"]);
    assert_eq!(findings.problems[0].key(Key::Val), Some("text/plain"));
}

#[test]
fn a_manifest_entry_names_controller_and_register_or_its_sender_does() {
    let slot = |name: &str, value: &str| (format!("urn:x-idr:fi:{name}"), vec![value.to_owned()]);
    let controller = || slot("controllerId", "1.2.246.10.12345671.19.0");
    for (extra, expected) in [
        (vec![], vec!["M-501", "M-502"]),
        (vec![controller()], vec!["M-502"]),
        (vec![slot("controllerId", "1.2.246.10.12345671.10.0"), slot("registerCode", "2")], vec!["M-501"]),
        (vec![controller(), slot("registerCode", "8")], vec!["M-502"]),
        (vec![controller(), slot("registerCode", "4")], vec!["M-503"]),
        (vec![controller(), slot("registerCode", "4"), slot("registerSpecifier", "1.2.246.10.12345671")], vec![]),
        (vec![controller(), slot("registerCode", "4"), slot("registerSpecifier", "1.2.246.10.12345672")], vec!["M-503"]),
        (vec![controller(), slot("registerCode", "2"), slot("registerSpecifier", "1.2.246.10.12345671")], vec!["M-503"]),
        (vec![controller(), slot("registerCode", "2"), slot("serviceEventId", "1.2.246.10.12345671.15.2026.1")], vec!["M-504"]),
        (vec![controller(), slot("registerCode", "2"), slot("releaseDate", "20260230")], vec!["M-505"]),
        (vec![controller(), slot("registerCode", "2"), slot("releaseDate", "20260228"), slot("minorDisclosure", "5")], vec!["M-505"]),
        (
            vec![
                controller(),
                slot("registerCode", "2"),
                slot("serviceEventId", "1.2.246.10.12345671.14.2026.1001"),
                slot("minorDisclosure", "1"),
            ],
            vec![],
        ),
    ] {
        let (mut submission, _) = manifest();
        submission.entries[0].extra = extra;
        assert_eq!(
            rules(&Node::default().message(SubmitTransaction::Iti41, &list(&submission))),
            expected,
            "{:?}",
            submission.entries[0].extra
        );
    }
    let (mut submission, _) = manifest();
    submission.entries[0].extra.clear();
    let defaults = SenderDefaults {
        controller_id: Some("1.2.246.10.12345671.19.0".to_owned()),
        register_code: Some("4".to_owned()),
        register_specifier: Some("1.2.246.10.12345671".to_owned()),
    };
    let node = Node { defaults, ..Node::default() };
    assert_eq!(rules(&node.message(SubmitTransaction::Iti41, &list(&submission))), Vec::<&str>::new());
    fill_sender_defaults(&mut submission, &node.defaults, &node.slots);
    let values: Vec<&str> = submission.entries[0].extra.iter().map(|(_, values)| values[0].as_str()).collect();
    assert_eq!(values, ["1.2.246.10.12345671.19.0", "4", "1.2.246.10.12345671"]);
    assert_eq!(rules(&Node::default().message(SubmitTransaction::Iti41, &list(&submission))), Vec::<&str>::new());
    submission.entries[0].extra.clear();
    let off = Node { rules: XdsRules::load(&["national_rules = \"off\""]).expect("loads"), ..Node::default() };
    assert_eq!(rules(&off.message(SubmitTransaction::Iti41, &list(&submission))), Vec::<&str>::new());
}

#[test]
fn rules_of_one_transaction_are_not_asked_in_the_other() {
    let node = Node::default();
    let mut list = list(&report());
    for name in ["hash", "size", "repositoryUniqueId"] {
        remove_slot(&mut list, ENTRY, name);
    }
    assert_eq!(rules(&node.message(SubmitTransaction::Iti42, &list)), ["M-112", "M-114", "M-117"]);
    assert_eq!(rules(&node.message(SubmitTransaction::Iti41, &list)), Vec::<&str>::new());
}

#[test]
fn problems_stand_in_message_order_then_by_id_and_an_answer_has_fifty() {
    let node = Node::default();
    let mut submission = report();
    let template = submission.entries[0].clone();
    submission.entries = (0..51)
        .map(|n| {
            let mut entry = template.clone();
            entry.entry_uuid = format!("entry{n}");
            entry.unique_id = format!("1.2.3.{n}");
            entry.language_code = Some("123lol".to_owned());
            entry
        })
        .collect();
    submission.associations.clear();
    submission.folders.clear();
    let findings = node.message(SubmitTransaction::Iti41, &list(&submission));
    assert_eq!(findings.problems.len(), 102);
    assert_eq!(rules(&findings)[..4], ["M-011", "M-121", "M-011", "M-121"]);
    let answer = findings.response();
    assert_eq!(answer.errors.len(), 50);
    let locations: Vec<_> = answer.errors.iter().step_by(2).map(|error| error.location.clone()).collect();
    assert_eq!(locations, (0..25).map(|n| Some(format!("entry{n}"))).collect::<Vec<_>>());
}

#[test]
fn warnings_leave_a_submission_registered_and_say_what_is_lost() {
    let node = Node::default();
    let (mut submission, _) = manifest();
    submission.entries[0].extra.extend((0..34).map(|n| (format!("urn:x-test:{n}"), vec!["x".to_owned()])));
    let findings = node.message(SubmitTransaction::Iti41, &list(&submission));
    assert!(!findings.has_errors());
    let answer = findings.response();
    assert_eq!(answer.status, idr_ihe::transaction::registry_response::Status::Success);
    let slots: Vec<_> = findings.problems.iter().map(|problem| problem.key(Key::Slot)).collect();
    assert_eq!(slots, [Some("urn:x-test:32"), Some("urn:x-test:33")]);
    drop_extra_slots(&mut submission, &node.rules, &node.slots);
    let kept: Vec<&str> = submission.entries[0].extra.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((kept.len(), kept[0], kept[33]), (34, "urn:x-idr:fi:controllerId", "urn:x-test:31"));
}

#[test]
fn a_flood_of_broken_objects_is_counted_and_not_kept() {
    let node = Node::default();
    let mut list = list(&report());
    list.objects.extend((0..50_000).map(|_| Object::Other("Organization".to_owned())));
    let findings = node.message(SubmitTransaction::Iti41, &list);
    assert_eq!((findings.problems.len(), findings.further), (1_000, 49_000));
}

#[test]
fn an_error_is_not_crowded_out_by_warnings() {
    let node = Node::default();
    let mut list = list(&report());
    (0..2_000).for_each(|n| object(&mut list, ENTRY).slots.push(slot(&format!("urn:x-test:{n}"), &["x"])));
    set_slot(&mut list, SET, "submissionTime", &["now"]);
    let answer = node.message(SubmitTransaction::Iti42, &list).response();
    assert!(answer.is_consistent());
    assert_eq!(answer.errors.len(), 1);
    assert!(answer.errors[0].code_context.starts_with("IDR-M-108 "), "{}", answer.errors[0].code_context);
}

#[test]
fn nested_nodes_and_symbolic_ids_are_as_good_as_top_level_nodes_and_uuids() {
    let node = Node::default();
    let mut submission = report();
    for (uuid, symbol) in [(ENTRY, "Document01"), (SET, "SubmissionSet01"), (FOLDER, "Folder01"), (FOLDER_ENTRY, "member")] {
        let rename = |id: &mut String| {
            if id == uuid {
                symbol.clone_into(id);
            }
        };
        submission.entries.iter_mut().for_each(|entry| rename(&mut entry.entry_uuid));
        submission.submission_sets.iter_mut().for_each(|set| rename(&mut set.entry_uuid));
        submission.folders.iter_mut().for_each(|folder| rename(&mut folder.entry_uuid));
        for association in &mut submission.associations {
            rename(&mut association.entry_uuid);
            rename(&mut association.source);
            rename(&mut association.target);
        }
    }
    let list = idr_ihe::ebxml::encode(&submission, idr_ihe::ebxml::Placement::Nested);
    assert_eq!(rules(&node.message(SubmitTransaction::Iti42, &list)), Vec::<&str>::new());
}

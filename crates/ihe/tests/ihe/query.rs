//! Stored queries: checked, typed, matched.

use idr_ihe::ebxml;
use idr_ihe::ebxml::rim::ObjectRef;
use idr_ihe::metadata::{AvailabilityStatus, EntryType};
use idr_ihe::transaction::iti_18::{
    self, AdhocQueryRequest, Cardinality, Definition, Kind, ObjectIds, Options, Presence, Query, Results, ReturnType, Selection,
    definitions,
};
use idr_ihe::transaction::registry_response::RegistryResponse;

use crate::example::submission;
use crate::shared::{shared, without_declaration};
use crate::transactions::read;

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";
const PATIENT: &str = "010190-900P^^^&1.2.246.21&ISO";

fn definition(name: &str) -> &'static Definition {
    Definition::of_name(name).expect(name)
}

fn sent(name: &str, parameters: &[(&str, &[&str])]) -> AdhocQueryRequest {
    let parameters: Vec<(&str, Vec<String>)> =
        parameters.iter().map(|(name, values)| (*name, values.iter().map(|v| (*v).to_owned()).collect())).collect();
    let body = iti_18::encode(definition(name), ReturnType::LeafClass, None, &parameters);
    read(&body, iti_18::read).expect("readable")
}

fn query(name: &str, parameters: &[(&str, &[&str])]) -> Query {
    iti_18::interpret(&sent(name, parameters), &Options { extra_slots: &["urn:x-idr:fi:registerCode"], ..Options::default() }).expect(name)
}

fn rules(request: &AdhocQueryRequest) -> Vec<&'static str> {
    iti_18::interpret(request, &Options::default()).err().unwrap_or_default().iter().map(|error| error.rule).collect()
}

#[test]
fn a_client_finds_a_manifest_by_accession_number() {
    let reference = "T042059118706^^^&1.2.246.10.12345671.12.5&ISO^urn:ihe:iti:xds:2013:accession";
    let query = query(
        "FindDocumentsByReferenceId",
        &[
            ("$XDSDocumentEntryPatientId", &[PATIENT]),
            ("$XDSDocumentEntryStatus", &[APPROVED]),
            ("$XDSDocumentEntryReferenceIdList", &[reference]),
        ],
    );
    let Selection::FindDocuments(filter) = query.selection() else { panic!("a document filter") };
    assert_eq!(filter.entry_types, [EntryType::Stable]);
    let mut entry = submission().entries.remove(0);
    entry.status = Some(AvailabilityStatus::Approved);
    assert!(filter.matches(&entry));
    entry.reference_ids.remove(1);
    assert!(!filter.matches(&entry));
}

#[test]
fn each_parameter_of_find_documents_selects_by_its_attribute() {
    let mut entry = submission().entries.remove(0);
    entry.status = Some(AvailabilityStatus::Approved);
    entry.service_stop_time = Some("202601150816".to_owned());
    let base: [(&str, &[&str]); 2] = [("$XDSDocumentEntryPatientId", &[PATIENT]), ("$XDSDocumentEntryStatus", &[APPROVED])];
    let head = "69536005^^2.16.840.1.113883.6.96";
    for (name, hit, miss) in [
        ("$XDSDocumentEntryClassCode", "IMAGES^^1.3.6.1.4.1.19376.1.2.6.1", "IMAGES^^1.2"),
        ("$XDSDocumentEntryTypeCode", "AA1AD^^1.2.246.537.6.2", "AA1BD^^1.2.246.537.6.2"),
        ("$XDSDocumentEntryPracticeSettingCode", "394914008^^2.16.840.1.113883.6.96", "1^^2.16.840.1.113883.6.96"),
        ("$XDSDocumentEntryHealthcareFacilityTypeCode", "22232009^^2.16.840.1.113883.6.96", "1^^2.16.840.1.113883.6.96"),
        ("$XDSDocumentEntryFormatCode", "1.2.840.10008.5.1.4.1.1.88.59^^1.2.840.10008.2.6.1", "x^^1.2.840.10008.2.6.1"),
        ("$XDSDocumentEntryEventCodeList", head, "MR^^1.2.840.10008.2.16.4"),
        ("$XDSDocumentEntryConfidentialityCode", "N^^2.16.840.1.113883.5.25", "R^^2.16.840.1.113883.5.25"),
        ("$XDSDocumentEntryAuthorPerson", "%Testaaja^T_ina%", "%testaaja%"),
        ("$XDSDocumentEntryCreationTimeFrom", "20260115082741", "20260115082742"),
        ("$XDSDocumentEntryCreationTimeTo", "20260115082742", "20260115082741"),
        ("$XDSDocumentEntryServiceStartTimeFrom", "2026", "2027"),
        ("$XDSDocumentEntryServiceStartTimeTo", "20260116", "20260115"),
        ("$XDSDocumentEntryServiceStopTimeFrom", "20260115081600", "20260115081601"),
        ("$XDSDocumentEntryServiceStopTimeTo", "20260115081601", "20260115081600"),
        ("$XDSDocumentEntryType", "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1", "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"),
        ("$urn:x-idr:fi:registerCode", "2", "3"),
    ] {
        for (value, expected) in [(hit, true), (miss, false)] {
            let mut parameters = base.to_vec();
            let values = [value];
            parameters.push((name, &values));
            let Selection::FindDocuments(filter) = query("FindDocuments", &parameters).selection() else { panic!("a document filter") };
            assert_eq!(filter.matches(&entry), expected, "{name} {value}");
        }
    }
    // Values of one Slot are alternatives, repeated Slots all have to match.
    let any: &[&str] = &["MR^^1.2.840.10008.2.16.4", head];
    for (repeated, expected) in [(head, true), ("MR^^1.2.840.10008.2.16.4", false)] {
        let values = [repeated];
        let parameters = [base[0], base[1], ("$XDSDocumentEntryEventCodeList", any), ("$XDSDocumentEntryEventCodeList", &values[..])];
        let Selection::FindDocuments(filter) = query("FindDocuments", &parameters).selection() else { panic!("a document filter") };
        assert_eq!(filter.matches(&entry), expected, "{repeated}");
    }
    let values = [head];
    let parameters = [base[0], base[1], ("$XDSDocumentEntryEventCodeListExclude", &values[..])];
    let Selection::FindDocuments(filter) = query("FindDocumentsExclude", &parameters).selection() else { panic!("a document filter") };
    assert!(!filter.matches(&entry));
}

/// A value that fits a parameter.
fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::Cx => PATIENT,
        Kind::Code => "a^^1.2",
        Kind::Dtm => "20260115",
        Kind::Like => "%Testaaja%",
        Kind::Status => APPROVED,
        Kind::EntryType => "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1",
        Kind::Uuid => "urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c",
        Kind::UniqueId | Kind::Text => "1.2.3",
        Kind::Cxi => "1^^^^urn:x",
        Kind::AssociationType => "urn:ihe:iti:2007:AssociationType:RPLC",
        Kind::Level => "2",
    }
}

/// The least set of parameters that a query needs.
fn least(definition: &'static Definition) -> Vec<(&'static str, Vec<String>)> {
    let mut one_taken = false;
    let needed = definition.parameters.iter().filter(|parameter| match parameter.presence {
        Presence::Required => true,
        Presence::OneOf | Presence::Selector => !std::mem::replace(&mut one_taken, true),
        Presence::Not(_) | Presence::Optional => false,
    });
    needed.map(|parameter| (parameter.name, vec![sample(parameter.kind).to_owned()])).collect()
}

#[test]
fn every_query_of_the_table_is_checked_by_its_row() {
    for definition in definitions() {
        let options = Options { multi_patient: definition.multi_patient, ..Options::default() };
        let judge = |parameters: &[(&str, Vec<String>)]| {
            let request = read(&iti_18::encode(definition, ReturnType::ObjectRef, None, parameters), iti_18::read).expect("readable");
            iti_18::interpret(&request, &options).map(drop).map_err(|errors| errors.iter().map(|error| error.rule).collect::<Vec<_>>())
        };
        let least = least(definition);
        assert_eq!(judge(&least), Ok(()), "{}", definition.name);
        for (at, (name, _)) in least.iter().enumerate() {
            let mut fewer = least.clone();
            fewer.remove(at);
            let expected = match definition.parameter(name).map(|parameter| parameter.presence) {
                Some(Presence::Selector) => "Q-19",
                _ => "Q-02",
            };
            assert_eq!(judge(&fewer), Err(vec![expected]), "{} without {name}", definition.name);
        }
        for parameter in &definition.parameters {
            let value = || vec![sample(parameter.kind).to_owned()];
            let mut more = least.clone();
            if !more.iter().any(|(name, _)| *name == parameter.name) {
                more.push((parameter.name, value()));
            }
            let taken = parameter.presence == Presence::OneOf && more.len() > least.len();
            assert_eq!(judge(&more), if taken { Err(vec!["Q-03"]) } else { Ok(()) }, "{} with {}", definition.name, parameter.name);
            if taken {
                continue;
            }
            let mut repeated = more.clone();
            repeated.push((parameter.name, value()));
            let expected = if parameter.cardinality == Cardinality::ManyAnd { Ok(()) } else { Err(vec!["Q-05"]) };
            assert_eq!(judge(&repeated), expected, "{} with {} twice", definition.name, parameter.name);
            let mut several = more.clone();
            several.iter_mut().filter(|(name, _)| *name == parameter.name).for_each(|(_, values)| values.extend(value()));
            let expected = if parameter.cardinality == Cardinality::One { Err(vec!["Q-04"]) } else { Ok(()) };
            assert_eq!(judge(&several), expected, "{} with two values of {}", definition.name, parameter.name);
            if let Presence::Not(plain) = parameter.presence
                && let Some(plain) = definition.parameter(plain)
            {
                let mut both = more.clone();
                both.push((plain.name, vec![sample(plain.kind).to_owned()]));
                assert_eq!(judge(&both), Err(vec!["Q-03"]), "{} with {} and its exclusion", definition.name, plain.name);
            }
        }
    }
}

#[test]
fn what_is_wrong_with_the_request_itself_is_named() {
    let good = || sent("GetDocuments", &[("$XDSDocumentEntryUniqueId", &["1.2"])]);
    assert!(rules(&good()).is_empty());
    let change = |change: &dyn Fn(&mut AdhocQueryRequest)| {
        let mut request = good();
        change(&mut request);
        rules(&request)
    };
    let query =
        |request: &mut AdhocQueryRequest, change: &dyn Fn(&mut ebxml::rim::AdhocQuery)| change(request.query.as_mut().expect("query"));
    assert_eq!(change(&|r| r.return_type = None), ["Q-11"]);
    assert_eq!(change(&|r| r.return_type = Some("RegistryObject".to_owned())), ["Q-11"]);
    assert_eq!(change(&|r| r.query = None), ["Q-12"]);
    assert_eq!(change(&|r| query(r, &|q| q.object.id = None)), ["Q-12"]);
    assert_eq!(change(&|r| query(r, &|q| q.has_expression = true)), ["Q-12"]);
    assert_eq!(change(&|r| query(r, &|q| q.object.home = Some("1.2.3".to_owned()))), ["Q-13"]);
    assert_eq!(change(&|r| query(r, &|q| q.object.id = Some("urn:uuid:00000000-0000-0000-0000-000000000000".to_owned()))), ["Q-01"]);
    let mpq = definition("FindFoldersForMultiplePatients").id;
    assert_eq!(change(&|r| query(r, &|q| q.object.id = Some(mpq.to_owned()))), ["Q-01"]);
    assert_eq!(change(&|r| query(r, &|q| q.object.slots[0].values = vec!["1.2".to_owned()])), ["Q-06"]);
    assert_eq!(change(&|r| query(r, &|q| q.object.slots[0].values.clear())), ["Q-02"]);
}

#[test]
fn ids_values_and_slots_are_bounded() {
    let with = |count: usize| {
        let ids: Vec<String> = (0..count).map(|n| format!("('1.2.{n}')")).collect();
        let mut request = sent("GetDocuments", &[("$XDSDocumentEntryUniqueId", &["1.2"])]);
        request.query.as_mut().expect("query").object.slots[0].values = ids;
        iti_18::interpret(&request, &Options::default()).map(drop).map_err(|errors| (errors[0].rule, errors[0].error_code()))
    };
    assert_eq!(with(1_000), Ok(()));
    assert_eq!(with(1_001), Err(("Q-17", "XDSStoredQueryParamNumber")));
    let mut request = sent("GetDocuments", &[("$XDSDocumentEntryUniqueId", &["1.2"])]);
    let slots = &mut request.query.as_mut().expect("query").object.slots;
    slots.extend((0..63).map(|n| ebxml::rim::Slot { name: Some(format!("$x{n}")), values: vec!["'x'".to_owned()] }));
    assert!(rules(&request).is_empty());
    request.query.as_mut().expect("query").object.slots.push(ebxml::rim::Slot::default());
    assert_eq!(rules(&request), ["Q-17"]);
}

#[test]
fn queries_by_id_say_which_objects_and_versions() {
    let uuid = "urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c";
    let documents = query("GetDocuments", &[("$XDSDocumentEntryLogicalID", &[uuid]), ("$MetadataLevel", &["2"])]);
    assert_eq!(documents.selection(), Selection::GetDocuments { ids: ObjectIds::LogicalId(vec![uuid.to_owned()]), all_versions: true });
    let related = query(
        "GetRelatedDocuments",
        &[("$XDSDocumentEntryEntryUUID", &[&uuid.to_uppercase()]), ("$AssociationTypes", &["urn:ihe:iti:2007:AssociationType:RPLC"])],
    );
    assert_eq!(
        related.selection(),
        Selection::GetRelatedDocuments {
            ids: ObjectIds::EntryUuid(vec![uuid.to_owned()]),
            association_types: vec!["urn:ihe:iti:2007:AssociationType:RPLC".to_owned()],
            entry_types: vec![EntryType::Stable],
        }
    );
}

#[test]
fn an_error_names_the_parameter_and_no_value() {
    let request = sent("FindDocuments", &[("$XDSDocumentEntryPatientId", &["X"]), ("$XDSDocumentEntryStatus", &[APPROVED])]);
    let errors = iti_18::interpret(&request, &Options::default()).expect_err("malformed");
    let error = errors[0].registry_error();
    assert_eq!(error.error_code, "XDSRegistryError");
    assert_eq!(error.code_context, "IDR-Q-09 XDSRegistryError param=%24XDSDocumentEntryPatientId: identifier is malformed");
}

#[test]
fn answers_are_read_back() {
    let mut stored = submission();
    stored.entries[0].status = Some(AvailabilityStatus::Approved);
    stored.entries[0].logical_id = Some(stored.entries[0].entry_uuid.clone());
    stored.entries[0].version = Some(1);
    stored.entries[0].home_community_id = Some("urn:oid:1.2.246.10.12345671.12.1".to_owned());
    let body = iti_18::encode_response(&RegistryResponse::SUCCESS, Results::Objects(&stored));
    let response = read(&body, iti_18::read_response).expect("readable");
    assert!(ebxml::decode(&response.objects).submission == stored);

    let references = [ObjectRef { id: Some("urn:uuid:1".to_owned()), home: Some("urn:oid:1.2".to_owned()) }];
    let body = iti_18::encode_response(&RegistryResponse::SUCCESS, Results::References(&references));
    let response = read(&body, iti_18::read_response).expect("readable");
    assert!(response.objects.objects == [ebxml::rim::Object::ObjectRef(references[0].clone())]);
}

#[test]
fn third_party_queries_that_must_fail_do() {
    let Some(table) = shared("ihe/query-negative-cases.tsv") else { return };
    let table = std::fs::read_to_string(table).expect("readable");
    for row in table.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let path = shared(&format!("ihe/query-negative/{}", columns[0])).expect("listed file");
        let text = std::fs::read_to_string(path).expect("readable");
        let request = read(without_declaration(&text), iti_18::read).expect(columns[0]);
        let errors = iti_18::interpret(&request, &Options::default()).expect_err(columns[0]);
        assert!(errors.iter().any(|error| error.error_code() == columns[2]), "{}: {errors:?}", columns[0]);
    }
}

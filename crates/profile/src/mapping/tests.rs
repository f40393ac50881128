//! The worked example of profile 02 §9, and what holds for every study.

use super::*;
use crate::digest::Digest;
use crate::scan::testing::{CT_IMAGE, EXPLICIT, Set};
use crate::scan::{Limits, Scanner};
use dicom_dictionary_std::tags;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

const STUDY: &str = "1.2.246.10.12345671.77.20260115.1";
const SOURCE: &str = "1.2.246.10.12345671.12.9";
const SERVICE_EVENT: &str = "1.2.246.10.12345671.14.2026.1001";
const ENTRY: &str = "urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c";
const SET: &str = "urn:uuid:6b1f6bd7-2f53-5cdf-ae91-e41007c0c9ba";

/// Header of each image of §9.
fn header() -> Set {
    let mut set = Set::default();
    set.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192")
        .set(tags::STUDY_DATE, "20260115")
        .set(tags::STUDY_TIME, "101530")
        .set(tags::ACCESSION_NUMBER, "T042059118706")
        .items(
            tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
            vec![Set::item(|item| {
                item.set(tags::UNIVERSAL_ENTITY_ID, "1.2.246.10.12345671.12.5").set(tags::UNIVERSAL_ENTITY_ID_TYPE, "ISO");
            })],
        )
        .set(tags::MODALITY, "CT")
        .set(tags::INSTITUTION_NAME, "Testisairaala")
        .items(
            tags::INSTITUTION_CODE_SEQUENCE,
            vec![Set::item(|item| {
                item.set(tags::CODE_MEANING, "Testisairaala").set(tags::URN_CODE_VALUE, "urn:oid:1.2.246.10.12345671.10.0");
            })],
        )
        .set(tags::REFERRING_PHYSICIAN_NAME, "Lähettäjä^Testi")
        .set(tags::STUDY_DESCRIPTION, "AA1AD Pään TT")
        .items(tags::PROCEDURE_CODE_SEQUENCE, vec![code("AA1AD", "1.2.246.537.6.2", "Pään TT")])
        .set(tags::PERFORMING_PHYSICIAN_NAME, "Testaaja^Tiina")
        .items(
            tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
            vec![Set::item(|item| {
                item.items(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE, vec![code("12345678901", "1.2.246.537.26", "Testaaja")]);
            })],
        )
        .set(tags::PATIENT_NAME, "Öhman^Sanni")
        .set(tags::PATIENT_ID, "010190-900P")
        .set(tags::ISSUER_OF_PATIENT_ID, "1.2.246.21")
        .set(tags::PATIENT_BIRTH_DATE, "19900101")
        .set(tags::PATIENT_SEX, "F")
        .set(tags::BODY_PART_EXAMINED, "HEAD")
        .set(tags::STUDY_ID, "1");
    set
}

fn code(value: &str, scheme: &str, meaning: &str) -> Set {
    Set::item(|item| {
        item.set(tags::CODE_VALUE, value).set(tags::CODING_SCHEME_DESIGNATOR, scheme).set(tags::CODE_MEANING, meaning);
    })
}

fn attributes(set: &Set) -> Attributes {
    let mut scanner = Scanner::new(EXPLICIT, Limits::default());
    scanner.feed(&set.explicit());
    Attributes::of(scanner.finish().data_set())
}

/// Member whose digest is the SHA-256 of a text, as in §9.
fn member(series: &str, instance: &str, content: &str, header: &Set) -> Member {
    Member {
        sop_instance_uid: format!("1.2.246.10.12345671.77.20260115.1.3.{instance}"),
        sop_class_uid: CT_IMAGE.into(),
        series_instance_uid: format!("1.2.246.10.12345671.77.20260115.1.2.{series}"),
        digest: Digest::parse(&hex::encode(Sha256::digest(content))).expect("64 digits"),
        received: "2026-01-15T08:27:41.9Z".parse().expect("valid"),
        value_type: value_type("IMG"),
        attributes: attributes(header),
    }
}

fn members() -> Vec<Member> {
    let header = header();
    vec![member("2", "3", "A3", &header), member("1", "1", "A1", &header), member("2", "2", "A2", &header)]
}

/// Everything around the members that §9 states.
struct World {
    domain: AffinityDomain,
    zone: TimeZone,
    row: ControllerRow,
    patient: PatientId,
    schemes: Vec<String>,
}

impl World {
    fn new() -> Self {
        let map = "revision = 1\n[[row]]\ncontroller = \"1.2.246.10.12345671.19.0\"\ncontroller_type = \"1\"\nregister = \"2\"\n";
        let map = ControllerMap::load(map, jiff::civil::date(2026, 1, 15)).expect("loads");
        Self {
            domain: AffinityDomain::shipped(),
            zone: TimeZone::get("Europe/Helsinki").expect("bundled"),
            row: map.rows.into_iter().next().expect("one row"),
            patient: PatientId { id: "010190-900P".into(), authority: "1.2.246.21".into() },
            schemes: vec!["1.2.246.537.6.2".into()],
        }
    }

    fn study<'a>(&'a self, members: &'a [Member]) -> Study<'a> {
        Study {
            study_instance_uid: STUDY,
            source: SOURCE,
            members,
            changed: None,
            source_patient: &self.patient,
            patient: &self.patient,
            accession_issuer: None,
            language: None,
            facility_type: None,
            service_event: Some(SERVICE_EVENT),
            controlled: &self.row,
            map_revision: 1,
            rule_set: "fi-2.4.1/1",
            replaces: None,
            folder: FolderUse::None,
        }
    }

    fn map(&self, study: &Study<'_>) -> Result<Revision, MappingError> {
        Revision::map(study, &self.settings())
    }

    fn settings(&self) -> Settings<'_> {
        Settings {
            domain: &self.domain,
            zone: &self.zone,
            registrable: &|modality| matches!(modality, "CT" | "MR" | "ECG"),
            study_codes: &|code| {
                let system = "1.2.246.537.6.2".to_owned();
                (code == "AA1AD").then(|| Code { code: code.to_owned(), system, display: "Pään TT".to_owned() })
            },
            procedure_coding_schemes: &self.schemes,
        }
    }
}

/// Maps the example after its header was changed.
fn with(change: impl FnOnce(&mut Set) -> &mut Set) -> Result<Revision, MappingError> {
    let mut header = header();
    change(&mut header);
    let world = World::new();
    world.map(&world.study(&[member("1", "1", "A1", &header)]))
}

fn entry(revision: &Revision) -> &idr_ihe::metadata::DocumentEntry {
    &revision.submission.entries[0]
}

fn slot<'a>(revision: &'a Revision, name: &str) -> Option<&'a str> {
    let extra = &entry(revision).extra;
    extra.iter().find(|(slot, _)| slot.ends_with(&format!(":{name}"))).map(|(_, values)| values[0].as_str())
}

#[test]
fn the_worked_example_comes_out_exactly() {
    let (world, members) = (World::new(), members());
    let revision = world.map(&world.study(&members)).expect("maps");
    assert_eq!(revision.content_key, "1146443bc8abc95db2c605e868bab6598aca1b856069dead100fc6d4b2d4579d");
    assert_eq!(ids::series_uid(STUDY, SOURCE), "2.25.119397770252631468224129525926898996379");
    assert_eq!(revision.document_uid, "2.25.174944059483789521284782653158387731653");
    assert_eq!(revision.kos.len(), 3060);
    assert_eq!(hex::encode(Sha256::digest(&revision.kos)), "173df887100898a4d797a9c095c6a358f9676ec1926d3c7d38b44bbbf07e6429");
    assert_eq!(entry(&revision).hash.as_deref(), Some("b21ab02e2d64a2e2ac04d1ff782c072deca5a462"));
    assert_eq!(entry(&revision).size, Some(3060));
    assert_eq!(revision.submission.submission_sets[0].unique_id, "2.25.84040103891449539320224718399689375542");
    assert_eq!(revision.message_id, "urn:uuid:6da25a5b-8fd6-5273-8e0e-38fa353d75b5");
    assert_eq!(revision.entry_uuid, ENTRY);
    assert_eq!(revision.submission.submission_sets[0].entry_uuid, SET);
    let [association] = revision.submission.associations.as_slice() else { panic!("one association") };
    assert_eq!(association.entry_uuid, "urn:uuid:80932bda-c972-5914-9f79-9067cac35898");
    assert_eq!((association.source.as_str(), association.target.as_str()), (SET, ENTRY));
}

#[test]
fn the_metadata_is_the_registry_object_list_of_the_profile() {
    let shared = std::env::var_os("IDR_SHARED")
        .map_or_else(|| std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), std::path::PathBuf::from);
    let Ok(text) = std::fs::read_to_string(shared.join("profile/02-metadata-model.md")) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the profile is needed");
        println!("skipped: the profile is not here");
        return;
    };
    let (_, rest) = text.split_once("```xml\n").expect("the example");
    let (objects, _) = rest.split_once("```").expect("its end");
    let xml = format!("<RegistryObjectList xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\">{objects}</RegistryObjectList>");
    let mut reader = idr_ihe::xml::Reader::new(xml.as_bytes(), Default::default()).expect("UTF-8");
    reader.root().expect("an element");
    let list = idr_ihe::ebxml::read_registry_object_list(&mut reader).expect("well formed");
    let decoded = idr_ihe::ebxml::decode(&list);
    assert_eq!(decoded.problems, []);
    let (world, members) = (World::new(), members());
    assert_eq!(world.map(&world.study(&members)).expect("maps").submission, decoded.submission);
}

#[test]
fn a_second_revision_replaces_the_first_and_keeps_the_series() {
    let (world, mut members) = (World::new(), members());
    members.push(member("2", "4", "A4", &header()));
    members[3].received = "2026-01-15T09:00:00Z".parse().expect("valid");
    let study = Study { replaces: Some(ENTRY), ..world.study(&members) };
    let revision = world.map(&study).expect("maps");
    let read = idr_ihe::manifest::Manifest::read(&revision.kos).expect("reads");
    assert_eq!(read.series_instance_uid.as_deref(), Some("2.25.119397770252631468224129525926898996379"));
    assert_ne!(revision.entry_uuid, ENTRY);
    assert_eq!(entry(&revision).creation_time.as_deref(), Some("20260115090000"));
    let [_, replaces] = revision.submission.associations.as_slice() else { panic!("two associations") };
    assert_eq!(replaces.association_type, "urn:ihe:iti:2007:AssociationType:RPLC");
    assert_eq!((replaces.source.as_str(), replaces.target.as_str()), (revision.entry_uuid.as_str(), ENTRY));
    assert_eq!(replaces.slots, []);
    let name = format!("assoc|urn:ihe:iti:2007:AssociationType:RPLC|{}|{ENTRY}", revision.entry_uuid);
    assert_eq!(replaces.entry_uuid, ids::uuid(&name));
    let original = world.map(&world.study(&members)).expect("maps");
    assert_eq!(original.document_uid, revision.document_uid, "the operation is no part of the content");
    assert_ne!(original.message_id, revision.message_id);
}

#[test]
fn a_withdrawal_names_the_entry_and_both_states() {
    let world = World::new();
    let study = Study { changed: Some("2026-01-16T10:00:00Z".parse().expect("valid")), ..world.study(&[]) };
    let document = "2.25.174944059483789521284782653158387731653";
    let (submission, message_id) = withdraw(&study, &world.settings(), &attributes(&header()), document, ENTRY).expect("maps");
    let set = &submission.submission_sets[0];
    assert_eq!(set.unique_id, ids::uid(&format!("set|{document}|deprecate|{ENTRY}")));
    assert_eq!(set.submission_time.as_deref(), Some("20260116100000"));
    assert_eq!(message_id, ids::uuid(&format!("message|{}", set.unique_id)));
    let [association] = submission.associations.as_slice() else { panic!("one association") };
    assert_eq!(association.association_type, "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus");
    assert_eq!((&association.source, association.target.as_str()), (&set.entry_uuid, ENTRY));
    let status = |name: &str| vec![format!("urn:oasis:names:tc:ebxml-regrep:StatusType:{name}")];
    assert_eq!(association.slots, [("OriginalStatus".to_owned(), status("Approved")), ("NewStatus".to_owned(), status("Deprecated"))]);
    assert!(submission.entries.is_empty());
}

#[test]
fn equal_input_gives_equal_output_in_any_order() {
    let (world, mut members) = (World::new(), members());
    let first = world.map(&world.study(&members)).expect("maps");
    for _ in 0..members.len() {
        members.rotate_left(1);
        let again = world.map(&world.study(&members)).expect("maps");
        assert!(again.kos == first.kos && again.submission == first.submission && again.message_id == first.message_id);
    }
}

#[test]
fn every_part_of_the_content_key_changes_the_revision() {
    let (world, members) = (World::new(), members());
    let base = world.map(&world.study(&members)).expect("maps").content_key;
    let key = |study: &Study<'_>| world.map(study).expect("maps").content_key;
    let merged = PatientId { id: "010190-901R".into(), authority: "1.2.246.21".into() };
    let later = Some("2026-01-16T00:00:00Z".parse().expect("valid"));
    let mut altered = members.clone();
    altered[0].digest = altered[1].digest;
    for study in [
        Study { patient: &merged, ..world.study(&members) },
        Study { changed: later, ..world.study(&members) },
        Study { map_revision: 2, ..world.study(&members) },
        Study { rule_set: "fi-2.4.1/2", ..world.study(&members) },
        Study { members: &altered, ..world.study(&members) },
        Study { members: &members[..2], ..world.study(&members) },
    ] {
        assert_ne!(key(&study), base);
    }
    let title_only = Study { language: Some("sv-FI"), ..world.study(&members) };
    assert_eq!(key(&title_only), base, "what is no part of the key");
}

#[test]
fn manifest_and_members_name_the_same_instances() {
    let (world, mut members) = (World::new(), members());
    let mut report = header();
    report.set(tags::MODALITY, "SR");
    members.push(Member { value_type: value_type("SR"), ..member("9", "9", "S", &report) });
    let revision = world.map(&world.study(&members)).expect("maps");
    let read = idr_ihe::manifest::Manifest::read(&revision.kos).expect("reads");
    assert_eq!(read.reference_count(), members.len());
    let [study] = read.evidence.as_slice() else { panic!("one study") };
    let mut series: Vec<_> = study.series.iter().filter_map(|series| series.series_instance_uid.clone()).collect();
    let mut expected: Vec<_> = members.iter().map(|member| member.series_instance_uid.clone()).collect();
    series.sort();
    expected.sort();
    expected.dedup();
    assert_eq!(series, expected);
    assert_eq!(entry(&revision).event_codes.iter().map(|code| code.code.as_str()).collect::<Vec<_>>(), ["CT", "69536005"], "no SR");
}

#[test]
fn the_reference_instance_is_the_lowest_registrable_one() {
    let (mut other, mut report) = (header(), header());
    other.set(tags::STUDY_ID, "2");
    report.set(tags::MODALITY, "SR").set(tags::STUDY_ID, "3");
    let world = World::new();
    let members = [member("10", "1", "B", &header()), member("2", "1", "C", &other), member("1", "1", "D", &report)];
    let settings = world.settings();
    let chosen = reference(&members, &settings).expect("two are registrable");
    assert_eq!(chosen.attributes.study_id, "1", "series …1.2.10 sorts before …1.2.2 as bytes, and a report is no reference");
    assert!(matches!(world.map(&world.study(&members[2..])), Err(MappingError::NothingRegistrable)));
}

#[test]
fn a_manifest_is_published_when_complete_or_after_its_time() {
    let (world, members) = (World::new(), members());
    let settings = world.settings();
    let publishable =
        |all, since, after| is_publishable(&members, settings.registrable, all, Duration::from_secs(since), Duration::from_secs(after));
    assert!(publishable(true, 0, 3600) && publishable(false, 3600, 3600) && publishable(true, 0, 0));
    assert!(!publishable(false, 3599, 3600) && !publishable(false, 1_000_000, 0));
    assert!(!is_publishable(&[], settings.registrable, true, Duration::ZERO, Duration::ZERO));
}

#[test]
fn an_author_without_person_or_without_id_is_written_as_far_as_known() {
    let person = |change: fn(&mut Set) -> &mut Set| entry(&with(change).expect("maps")).authors[0].person.clone();
    assert_eq!(person(|set| set).as_deref(), Some("12345678901^Testaaja^Tiina^^^^^^&1.2.246.537.26&ISO"));
    let without_id = person(|set| set.remove(tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE));
    assert_eq!(without_id.as_deref(), Some("^Testaaja^Tiina"));
    let without_oid = person(|set| {
        let code = code("12345678901", "99LOCAL", "x");
        let item = Set::item(|item| {
            item.items(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE, vec![code]);
        });
        set.items(tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE, vec![item])
    });
    assert_eq!(without_oid.as_deref(), Some("^Testaaja^Tiina"));
    let operator = person(|set| {
        set.remove(tags::PERFORMING_PHYSICIAN_NAME).remove(tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE);
        set.set(tags::OPERATORS_NAME, "Von & Test^O^M^Dr^Jr\\Toinen^T")
    });
    assert_eq!(operator.as_deref(), Some("^Von \\T\\ Test^O^M^Jr^Dr"));
    let nobody = person(|set| set.remove(tags::PERFORMING_PHYSICIAN_NAME).remove(tags::PERFORMING_PHYSICIAN_IDENTIFICATION_SEQUENCE));
    assert_eq!(nobody, None);
}

#[test]
fn an_institution_comes_from_the_object_or_the_controller_map() {
    let institutions = |revision: &Revision| entry(revision).authors[0].institutions.clone();
    let without_oid = with(|set| set.remove(tags::INSTITUTION_CODE_SEQUENCE)).expect("maps");
    assert_eq!(institutions(&without_oid), ["Testisairaala"]);
    let by_code = with(|set| set.items(tags::INSTITUTION_CODE_SEQUENCE, vec![code("1.2.246.10.12345671.10.7", "x", "y")]));
    assert_eq!(institutions(&by_code.expect("maps")), ["Testisairaala^^^^^^^^^1.2.246.10.12345671.10.7"]);
    let mut nothing = header();
    nothing.remove(tags::INSTITUTION_NAME).remove(tags::INSTITUTION_CODE_SEQUENCE);
    let members = [member("1", "1", "A1", &nothing)];
    let mut world = World::new();
    assert!(matches!(world.map(&world.study(&members)), Err(MappingError::Institution)));
    world.row.service_unit = Some("1.2.246.10.12345671.10.1".into());
    world.row.service_unit_name = Some("Poliklinikka".into());
    let mapped = world.map(&world.study(&members)).expect("maps");
    assert_eq!(institutions(&mapped), ["Poliklinikka^^^^^^^^^1.2.246.10.12345671.10.1"]);
    assert_eq!(slot(&mapped, "serviceUnitId"), Some("1.2.246.10.12345671.10.1"));
}

#[test]
fn a_birth_date_never_has_time_or_zone_and_is_left_out_when_it_is_none() {
    let info = |date: &str| {
        let revision = with(|set| set.set(tags::PATIENT_BIRTH_DATE, date)).expect("maps");
        entry(&revision).source_patient_info.iter().find(|value| value.starts_with("PID-7")).cloned()
    };
    assert_eq!(info("19900101").as_deref(), Some("PID-7|19900101"));
    assert_eq!([info("19900100"), info(""), info("1990")], [None, None, None]);
    let sex = with(|set| set.set(tags::PATIENT_SEX, "X")).expect("maps");
    assert!(!entry(&sex).source_patient_info.iter().any(|value| value.starts_with("PID-8")));
}

#[test]
fn a_study_without_any_date_has_no_start_time() {
    let revision = with(|set| set.remove(tags::STUDY_DATE).remove(tags::STUDY_TIME)).expect("maps");
    assert_eq!(entry(&revision).service_start_time, None);
    let read = idr_ihe::manifest::Manifest::read(&revision.kos);
    assert!(read.is_ok());
}

#[test]
fn a_register_specifier_stands_in_its_slot() {
    let mut world = World::new();
    let members = members();
    for specifier in ["1.2.246.10.12345671", "010190-900P^^^&1.2.246.21&ISO", "1.2.246.537.30.5"] {
        world.row = ControllerRow { register: "4".into(), specifier: Some(specifier.into()), ..world.row };
        let revision = world.map(&world.study(&members)).expect("maps");
        assert_eq!(slot(&revision, "registerSpecifier"), Some(specifier));
        assert_eq!(slot(&revision, "registerCode"), Some("4"));
    }
}

#[test]
fn the_type_is_the_study_code_else_the_procedure_else_the_default() {
    let of = |revision: Result<Revision, MappingError>| {
        let revision = revision.expect("maps");
        (entry(&revision).type_code.clone().expect("always one").code, entry(&revision).title.clone())
    };
    let text = |title: &str| Some(title.to_owned());
    assert_eq!(of(with(|set| set.set(tags::STUDY_DESCRIPTION, " aa1ad muuta"))), ("AA1AD".into(), text("AA1AD Pään TT")));
    let unlisted = with(|set| {
        set.set(tags::STUDY_DESCRIPTION, "ZZ9ZZ tutkimus");
        set.items(tags::PROCEDURE_CODE_SEQUENCE, vec![code("LOCAL", "99X", "y"), code("GD1AA", "1.2.246.537.6.2", "y")])
    });
    assert_eq!(of(unlisted), ("GD1AA".into(), text("ZZ9ZZ tutkimus")));
    let neither = with(|set| set.remove(tags::STUDY_DESCRIPTION).remove(tags::PROCEDURE_CODE_SEQUENCE));
    assert_eq!(of(neither), ("18748-4".into(), None));
    let long = "ä".repeat(200);
    assert_eq!(of(with(|set| set.set(tags::STUDY_DESCRIPTION, &long))).1, Some("ä".repeat(128)));
}

#[test]
fn every_accession_and_order_of_the_study_is_a_reference_once() {
    let request = |number: &str, order: &str| {
        let (number, order) = (number.to_owned(), order.to_owned());
        Set::item(move |item| {
            item.set(tags::ACCESSION_NUMBER, &number).set(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, &order);
            item.set(tags::REQUESTED_PROCEDURE_ID, "P1").items(
                tags::ORDER_PLACER_IDENTIFIER_SEQUENCE,
                vec![Set::item(|item| {
                    item.set(tags::UNIVERSAL_ENTITY_ID, "1.2.3").set(tags::UNIVERSAL_ENTITY_ID_TYPE, "ISO");
                })],
            );
        })
    };
    let requests = vec![request("T042059118706", "O1"), request("T2^", "O1")];
    let revision = with(|set| set.items(tags::REQUEST_ATTRIBUTES_SEQUENCE, requests)).expect("maps");
    assert_eq!(
        entry(&revision).reference_ids,
        [
            format!("{STUDY}^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
            "T042059118706^^^^urn:ihe:iti:xds:2013:accession".into(),
            "T042059118706^^^&1.2.246.10.12345671.12.5&ISO^urn:ihe:iti:xds:2013:accession".into(),
            "T2\\S\\^^^^urn:ihe:iti:xds:2013:accession".into(),
            "O1^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:order".into(),
            format!("{SERVICE_EVENT}^^^^urn:ihe:iti:xds:2015:encounterId"),
        ]
    );
    let read = idr_ihe::manifest::Manifest::read(&revision.kos).expect("reads");
    assert_eq!(read.accessions.len(), 3, "(0040,A370) has an item for each pair");
}

#[test]
fn the_issuer_of_an_accession_is_that_of_the_inbound_row_when_the_object_has_none() {
    let mut header = header();
    header.remove(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE);
    let (world, members) = (World::new(), [member("1", "1", "A1", &header)]);
    let study = Study { accession_issuer: Some("1.2.246.10.12345671.12.7"), ..world.study(&members) };
    let revision = world.map(&study).expect("maps");
    assert!(entry(&revision).reference_ids[1].contains("&1.2.246.10.12345671.12.7&ISO"));
    assert_ne!(revision.content_key, world.map(&world.study(&members)).expect("maps").content_key);
}

#[test]
fn regions_come_from_the_sequence_before_the_body_part() {
    let codes = |change: fn(&mut Set) -> &mut Set| {
        let revision = with(change).expect("maps");
        entry(&revision).event_codes.iter().skip(1).map(|code| code.code.clone()).collect::<Vec<_>>()
    };
    assert_eq!(codes(|set| set.remove(tags::BODY_PART_EXAMINED)), Vec::<String>::new());
    assert_eq!(codes(|set| set.set(tags::BODY_PART_EXAMINED, "UNHEARD")), Vec::<String>::new());
    assert_eq!(codes(|set| set.items(tags::ANATOMIC_REGION_SEQUENCE, vec![code("816092008", "SCT", "Pelvis")])), ["816092008"]);
    assert_eq!(codes(|set| set.items(tags::ANATOMIC_REGION_SEQUENCE, vec![code("X", "99LOCAL", "x")])), ["69536005"]);
}

#[test]
fn a_merged_patient_is_named_by_the_surviving_id_and_the_object_keeps_its_own() {
    let (world, members) = (World::new(), members());
    let surviving = PatientId { id: "010190-901R".into(), authority: "1.2.246.21".into() };
    let revision = world.map(&Study { patient: &surviving, ..world.study(&members) }).expect("maps");
    assert_eq!(entry(&revision).patient_id, surviving);
    assert_eq!(revision.submission.submission_sets[0].patient_id, surviving);
    assert_eq!(entry(&revision).source_patient_id.as_ref(), Some(&world.patient));
    let read = idr_ihe::manifest::Manifest::read(&revision.kos).expect("reads");
    assert_eq!(read.patient_id.as_deref(), Some("010190-900P"));
}

#[test]
fn a_folder_is_made_once_and_joined_later() {
    let (world, members) = (World::new(), members());
    let made = world.map(&Study { folder: FolderUse::Create, ..world.study(&members) }).expect("maps").submission;
    let folder = &made.folders[0];
    assert_eq!(folder.title.as_deref(), Some(SERVICE_EVENT));
    assert_eq!(folder.unique_id, ids::uid(&format!("folder|{SERVICE_EVENT}")));
    let joined = world.map(&Study { folder: FolderUse::Existing(&folder.entry_uuid), ..world.study(&members) }).expect("maps").submission;
    assert!(joined.folders.is_empty());
    let joins = |submission: &Submission| {
        let find = |source: &str, target: &str| submission.associations.iter().find(|a| a.source == source && a.target == target).cloned();
        let inner = find(&folder.entry_uuid, ENTRY).expect("folder has the entry");
        assert!(find(SET, &inner.entry_uuid).is_some(), "and the set has that association");
        find(SET, &folder.entry_uuid).is_some()
    };
    assert!(joins(&made), "a new folder is a member of its set");
    assert!(!joins(&joined));
}

#[test]
fn a_value_that_no_slot_can_hold_holds_the_study() {
    let long = "9".repeat(300);
    let error = with(|set| set.set(tags::INSTITUTION_NAME, &long)).err();
    assert_eq!(error, Some(MappingError::TooLong { attribute: "authorInstitution".into() }));
}

#[test]
fn derived_ids_of_notes_and_corrections_are_as_the_profile_names_them() {
    assert_eq!(ids::rejection_note_uid("113001", "1.2", &["1.2.4", "1.2.3"]), ids::uid("reject|113001|1.2|1.2.3,1.2.4"));
    assert_eq!(ids::corrected_uid(ids::Corrected::Series, "1.2", "c1"), ids::uid("correct|series|1.2|c1"));
}

/// One member of a generated study: series, instance, modality and which attributes its header lacks.
type Generated = (u8, u8, usize, Vec<usize>);

fn generated() -> impl proptest::strategy::Strategy<Value = Vec<Generated>> {
    proptest::collection::vec((0..3_u8, 0..200_u8, 0..4_usize, proptest::collection::vec(0..12_usize, 0..4)), 1..12)
}

fn generated_member((series, instance, modality, lacks): &Generated) -> Member {
    let removable = [
        tags::STUDY_DATE,
        tags::STUDY_TIME,
        tags::ACCESSION_NUMBER,
        tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
        tags::INSTITUTION_CODE_SEQUENCE,
        tags::STUDY_DESCRIPTION,
        tags::PROCEDURE_CODE_SEQUENCE,
        tags::PERFORMING_PHYSICIAN_NAME,
        tags::PATIENT_NAME,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
        tags::BODY_PART_EXAMINED,
    ];
    let mut header = header();
    header.set(tags::MODALITY, ["CT", "MR", "SR", "PR"][*modality]);
    for index in lacks {
        header.remove(removable[*index]);
    }
    member(&series.to_string(), &instance.to_string(), &instance.to_string(), &header)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

    /// Profile 02 §3 invariants and §4 cardinalities.
    #[test]
    fn every_study_gives_a_manifest_of_its_members_and_complete_metadata(mut rows in generated()) {
        rows.sort();
        rows.dedup_by_key(|(_, instance, ..)| *instance);
        let mut seen = BTreeSet::new();
        rows.retain(|(_, instance, ..)| seen.insert(*instance));
        let (world, members) = (World::new(), rows.iter().map(generated_member).collect::<Vec<_>>());
        let registrable = rows.iter().any(|(_, _, modality, _)| *modality < 2);
        let revision = match world.map(&world.study(&members)) {
            Ok(revision) => revision,
            Err(error) => {
                assert_eq!(error, MappingError::NothingRegistrable);
                assert!(!registrable);
                return Ok(());
            }
        };
        assert!(registrable);
        let read = idr_ihe::manifest::Manifest::read(&revision.kos).expect("reads");
        let [study] = read.evidence.as_slice() else { panic!("one study") };
        assert_eq!(study.study_instance_uid.as_deref(), Some(STUDY));
        assert_eq!(read.reference_count(), members.len());
        let entry = entry(&revision);
        let digits = |dtm: &String| dtm.bytes().all(|b| b.is_ascii_digit());
        assert!(entry.creation_time.iter().chain(&entry.service_start_time).all(digits));
        assert!((1..=4).contains(&entry.source_patient_info.len()));
        assert!((3..=8).contains(&entry.extra.len()));
        assert!(!entry.event_codes.is_empty() && !entry.reference_ids.is_empty());
        assert_eq!((entry.authors.len(), entry.authors[0].institutions.len()), (1, 1));
        assert!(entry.class_code.is_some() && entry.type_code.is_some() && entry.practice_setting_code.is_some());
        assert!(entry.title.as_ref().is_none_or(|title| (1..=128).contains(&title.chars().count())));
        let values = entry.extra.iter().flat_map(|(_, values)| values).chain(&entry.reference_ids).chain(&entry.source_patient_info);
        assert!(values.into_iter().all(|value| (1..=256).contains(&value.chars().count())));
        assert_eq!(revision.document_uid, entry.unique_id);
        assert_eq!(entry.size, Some(revision.kos.len() as u64));
    }
}

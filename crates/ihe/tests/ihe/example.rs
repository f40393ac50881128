//! The worked example of profile 02 §9.

use idr_ihe::ebxml::{self, Placement};
use idr_ihe::manifest::{CodeItem, Content, ReferencedInstance, ReferencedRequest, ReferencedSeries, ValueType};
use idr_ihe::metadata::{Association, Author, Code, DocumentEntry, EntryType, PatientId, Submission, SubmissionSet};
use idr_ihe::soap::Envelope;
use idr_ihe::soap::xop::Content as DocumentContent;
use idr_ihe::transaction::table::action;
use idr_ihe::transaction::{iti_42, rad_68};
use idr_ihe::xml::Limits;

use crate::shared::{envelope, shared};

pub const STUDY: &str = "1.2.246.10.12345671.77.20260115.1";
const ENTRY: &str = "urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c";
const SET: &str = "urn:uuid:6b1f6bd7-2f53-5cdf-ae91-e41007c0c9ba";
pub const HASH: &str = "b21ab02e2d64a2e2ac04d1ff782c072deca5a462";

fn code(code: &str, system: &str, display: &str) -> Code {
    Code { code: code.to_owned(), system: system.to_owned(), display: display.to_owned() }
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// The first submission.
pub fn submission() -> Submission {
    let patient = PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() };
    let institutions = vec!["Testisairaala^^^^^^^^^1.2.246.10.12345671.10.0".to_owned()];
    let slot = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
    let entry = DocumentEntry {
        entry_uuid: ENTRY.to_owned(),
        logical_id: None,
        version: None,
        status: None,
        entry_type: EntryType::Stable,
        mime_type: "application/dicom".to_owned(),
        unique_id: "2.25.174944059483789521284782653158387731653".to_owned(),
        patient_id: patient.clone(),
        source_patient_id: Some(patient.clone()),
        source_patient_info: ["PID-3|010190-900P^^^&1.2.246.21&ISO", "PID-5|Öhman^Sanni", "PID-7|19900101", "PID-8|F"]
            .map(str::to_owned)
            .to_vec(),
        creation_time: text("20260115082741"),
        service_start_time: text("20260115081530"),
        service_stop_time: None,
        language_code: text("fi-FI"),
        hash: text(HASH),
        size: Some(3060),
        repository_unique_id: None,
        home_community_id: None,
        title: text("AA1AD Pään TT"),
        comments: None,
        authors: vec![Author {
            person: text("12345678901^Testaaja^Tiina^^^^^^&1.2.246.537.26&ISO"),
            institutions: institutions.clone(),
            ..Author::default()
        }],
        class_code: Some(code("IMAGES", "1.3.6.1.4.1.19376.1.2.6.1", "Images")),
        type_code: Some(code("AA1AD", "1.2.246.537.6.2", "Pään TT")),
        format_code: Some(code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1", "Key Object Selection Document")),
        confidentiality_codes: vec![code("N", "2.16.840.1.113883.5.25", "Normal")],
        event_codes: vec![code("CT", "1.2.840.10008.2.16.4", "Computed Tomography"), code("69536005", "2.16.840.1.113883.6.96", "Head")],
        facility_type_code: Some(code("22232009", "2.16.840.1.113883.6.96", "Hospital")),
        practice_setting_code: Some(code("394914008", "2.16.840.1.113883.6.96", "Radiology")),
        reference_ids: [
            "1.2.246.10.12345671.77.20260115.1^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
            "T042059118706^^^&1.2.246.10.12345671.12.5&ISO^urn:ihe:iti:xds:2013:accession",
            "1.2.246.10.12345671.14.2026.1001^^^^urn:ihe:iti:xds:2015:encounterId",
        ]
        .map(str::to_owned)
        .to_vec(),
        legal_authenticator: None,
        uri: None,
        document_availability: None,
        extra: vec![
            slot("urn:x-idr:fi:controllerId", "1.2.246.10.12345671.19.0"),
            slot("urn:x-idr:fi:controllerType", "1"),
            slot("urn:x-idr:fi:registerCode", "2"),
            slot("urn:x-idr:fi:serviceEventId", "1.2.246.10.12345671.14.2026.1001"),
            slot("urn:x-idr:fi:ruleSet", "fi-2.4.1/1"),
        ],
    };
    let set = SubmissionSet {
        entry_uuid: SET.to_owned(),
        unique_id: "2.25.84040103891449539320224718399689375542".to_owned(),
        source_id: "1.2.246.10.12345671.12.9".to_owned(),
        patient_id: patient,
        submission_time: text("20260115082741"),
        content_type_code: Some(code("18748-4", "2.16.840.1.113883.6.1", "Diagnostic imaging study")),
        authors: vec![Author { institutions, ..Author::default() }],
        title: None,
        comments: None,
        intended_recipients: Vec::new(),
        home_community_id: None,
        status: None,
        extra: Vec::new(),
    };
    let member = Association {
        entry_uuid: "urn:uuid:80932bda-c972-5914-9f79-9067cac35898".to_owned(),
        association_type: "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember".to_owned(),
        source: SET.to_owned(),
        target: ENTRY.to_owned(),
        status: None,
        slots: vec![slot("SubmissionSetStatus", "Original")],
        documentation: None,
    };
    Submission { submission_sets: vec![set], entries: vec![entry], folders: Vec::new(), associations: vec![member] }
}

/// The manifest.
pub fn manifest() -> Content {
    let instance = |number: &str| ReferencedInstance {
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
        sop_instance_uid: format!("{STUDY}.3.{number}"),
        value_type: ValueType::Image,
    };
    let series = |number: &str, instances: &[&str]| ReferencedSeries {
        series_instance_uid: format!("{STUDY}.2.{number}"),
        retrieve_ae_title: "IDRCENTRAL".to_owned(),
        retrieve_url: Some(format!("https://central.idr.example/dicomweb/studies/{STUDY}/series/{STUDY}.2.{number}")),
        retrieve_location_uid: "1.2.246.10.12345671.12.100".to_owned(),
        instances: instances.iter().map(|number| instance(number)).collect(),
    };
    let issuer = text("1.2.246.10.12345671.12.5");
    Content {
        sop_instance_uid: "2.25.174944059483789521284782653158387731653".to_owned(),
        series_instance_uid: "2.25.119397770252631468224129525926898996379".to_owned(),
        study_instance_uid: STUDY.to_owned(),
        study_date: "20260115".to_owned(),
        study_time: "101530".to_owned(),
        content_date: "20260115".to_owned(),
        content_time: "102741".to_owned(),
        timezone_offset: text("+0200"),
        accession_number: "T042059118706".to_owned(),
        accession_issuer: issuer.clone(),
        institution_name: text("Testisairaala"),
        institution_code: Some(vec![CodeItem {
            code_meaning: text("Testisairaala"),
            urn_code_value: text("urn:oid:1.2.246.10.12345671.10.0"),
            ..CodeItem::default()
        }]),
        referring_physician_name: "Lähettäjä^Testi".to_owned(),
        study_description: text("AA1AD Pään TT"),
        procedure_code: Some(vec![CodeItem {
            code_value: text("AA1AD"),
            coding_scheme_designator: text("1.2.246.537.6.2"),
            code_meaning: text("Pään TT"),
            ..CodeItem::default()
        }]),
        patient_name: "Öhman^Sanni".to_owned(),
        patient_id: "010190-900P".to_owned(),
        issuer_of_patient_id: text("1.2.246.21"),
        patient_id_issuer: "1.2.246.21".to_owned(),
        patient_birth_date: "19900101".to_owned(),
        patient_sex: "F".to_owned(),
        study_id: "1".to_owned(),
        series_number: 0,
        title: idr_ihe::manifest::Title::Manifest,
        requests: vec![ReferencedRequest {
            accession_number: "T042059118706".to_owned(),
            accession_issuer: issuer,
            ..ReferencedRequest::default()
        }],
        // Out of order: the writer sorts.
        series: vec![series("2", &["3", "2"]), series("1", &["1"])],
        description: None,
    }
}

/// The RegistryObjectList that the profile prints, as the Body of ITI-42.
fn printed() -> Option<iti_42::SubmitObjectsRequest> {
    let path = shared("profile/02-metadata-model.md")?;
    let profile = std::fs::read_to_string(path).expect("readable profile");
    let after = profile.split_once("RegistryObjectList of the first submission").expect("worked example").1;
    let xml = after.split_once("```xml").expect("XML block").1.split_once("```").expect("end of XML block").0;
    let body = format!(
        "<lcm:SubmitObjectsRequest xmlns:lcm=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\"><RegistryObjectList \
         xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\">{xml}</RegistryObjectList></lcm:SubmitObjectsRequest>"
    );
    let text = envelope(action::ITI_42, &body);
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
    Some(iti_42::read(&envelope).expect("readable"))
}

#[test]
fn the_worked_example_is_written_element_by_element() {
    let Some(printed) = printed() else { return };
    let written = ebxml::encode(&submission(), Placement::Beside);
    let printed = printed.objects.expect("list");
    assert_eq!(written.objects.len(), printed.objects.len());
    for (ours, theirs) in written.objects.iter().zip(&printed.objects) {
        assert!(ours == theirs, "object {:?} differs", theirs.id());
    }
}

#[test]
fn the_worked_example_is_read_as_the_metadata_it_means() {
    let Some(printed) = printed() else { return };
    let decoded = ebxml::decode(&printed.objects.expect("list"));
    assert_eq!(decoded.problems, []);
    assert!(decoded.submission == submission());
}

#[test]
fn a_rad_68_message_is_read_back_as_sent() {
    let objects = ebxml::encode(&submission(), Placement::Beside);
    for content in [DocumentContent::Part("1@idr".to_owned()), DocumentContent::Inline(manifest().to_part10().expect("manifest"))] {
        let document = rad_68::Document { id: Some(ENTRY.to_owned()), content };
        let text = envelope(action::ITI_41, &rad_68::encode(&objects, std::slice::from_ref(&document)));
        let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
        let request = rad_68::read(&envelope).expect("readable");
        assert_eq!(request.objects.as_ref(), Some(&objects));
        assert_eq!(request.documents, [document]);
    }
}

//! A submission for seeds.

use idr_ihe::ebxml::rim::RegistryObjectList;
use idr_ihe::ebxml::{Placement, encode};
use idr_ihe::metadata::{Association, Author, Code, DocumentEntry, EntryType, Folder, PatientId, Slots, Submission, SubmissionSet};

/// One of each kind of object, with most attributes.
pub fn submission() -> RegistryObjectList {
    let text = |text: &str| Some(text.to_owned());
    let code = |code: &str| Code { code: code.to_owned(), system: "1.2.3".to_owned(), display: "Näyttö".to_owned() };
    let patient = PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() };
    let extra: Slots = vec![("urn:x-idr:fi:registerCode".to_owned(), vec!["2".to_owned()])];
    let author = Author {
        person: text("1^Lääkäri^Testi^^^^^^&1.2.246.21&ISO"),
        institutions: vec!["Testisairaala^^^^^^^^^1.2.246.10.90000011".to_owned()],
        roles: vec!["role".to_owned()],
        specialties: vec!["specialty".to_owned()],
        telecommunications: vec!["^^Internet^a@b".to_owned()],
    };
    let entry = DocumentEntry {
        entry_uuid: "urn:uuid:6da25a5b-8fd6-5273-8e0e-38fa353d75b5".to_owned(),
        logical_id: None,
        version: Some(1),
        status: None,
        entry_type: EntryType::Stable,
        mime_type: "application/dicom".to_owned(),
        unique_id: "2.25.1".to_owned(),
        patient_id: patient.clone(),
        source_patient_id: Some(patient.clone()),
        source_patient_info: vec!["PID-5|Öhman^Sanni".to_owned()],
        creation_time: text("20260115081530"),
        service_start_time: text("20260115"),
        service_stop_time: None,
        language_code: text("fi-FI"),
        hash: text("da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        size: Some(0),
        repository_unique_id: text("1.2.3"),
        home_community_id: text("urn:oid:1.2.3"),
        title: text("Pään TT"),
        comments: None,
        authors: vec![author.clone()],
        class_code: Some(code("IMAGES")),
        type_code: Some(code("18748-4")),
        format_code: Some(code("1.2.840.10008.5.1.4.1.1.88.59")),
        confidentiality_codes: vec![code("N")],
        event_codes: vec![code("CT")],
        facility_type_code: Some(code("22232009")),
        practice_setting_code: Some(code("394914008")),
        reference_ids: vec!["T1^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:accession".to_owned()],
        legal_authenticator: None,
        uri: None,
        document_availability: None,
        extra: extra.clone(),
    };
    let set = SubmissionSet {
        entry_uuid: "set".to_owned(),
        unique_id: "2.25.2".to_owned(),
        source_id: "1.2.3".to_owned(),
        patient_id: patient.clone(),
        submission_time: text("20260115081530"),
        content_type_code: Some(code("18748-4")),
        authors: vec![author],
        title: None,
        comments: text("<&>\"'"),
        intended_recipients: vec![],
        home_community_id: None,
        status: None,
        extra,
    };
    let folder = Folder {
        entry_uuid: "folder".to_owned(),
        logical_id: None,
        version: None,
        unique_id: "2.25.3".to_owned(),
        patient_id: patient,
        codes: vec![code("F")],
        title: text("Kansio"),
        comments: None,
        last_update_time: None,
        home_community_id: None,
        status: None,
        extra: vec![],
    };
    let association = Association {
        entry_uuid: "association".to_owned(),
        association_type: "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember".to_owned(),
        source: "set".to_owned(),
        target: entry.entry_uuid.clone(),
        status: None,
        slots: vec![("SubmissionSetStatus".to_owned(), vec!["Original".to_owned()])],
        documentation: Some(code("D")),
    };
    encode(
        &Submission { submission_sets: vec![set], entries: vec![entry], folders: vec![folder], associations: vec![association] },
        Placement::Nested,
    )
}

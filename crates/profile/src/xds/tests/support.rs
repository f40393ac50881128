//! A submission that breaks no rule, and what the tests do with it.

use super::super::*;
use crate::mapping::Slots;
use idr_ihe::ebxml::rim::{Object, RegistryObject, RegistryObjectList};
use idr_ihe::ebxml::{Placement, encode};
use idr_ihe::manifest::{Content, ReferencedInstance, ReferencedSeries, ValueType};
use idr_ihe::metadata::{Association, Author, Code, DocumentEntry, EntryType, Folder, PatientId, Submission, SubmissionSet};
use idr_ihe::transaction::iti_42;
use jiff::Timestamp;
use jiff::civil::date;

pub const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";
pub const RPLC: &str = "urn:ihe:iti:2007:AssociationType:RPLC";
pub const APND: &str = "urn:ihe:iti:2007:AssociationType:APND";
pub const HOME: &str = "urn:oid:1.2.246.10.12345671.12.1";
pub const ENTRY: &str = "urn:uuid:00000000-0000-4000-8000-000000000001";
pub const SET: &str = "urn:uuid:00000000-0000-4000-8000-000000000002";
pub const FOLDER: &str = "urn:uuid:00000000-0000-4000-8000-000000000003";
pub const SET_ENTRY: &str = "urn:uuid:00000000-0000-4000-8000-000000000004";
pub const SET_FOLDER: &str = "urn:uuid:00000000-0000-4000-8000-000000000005";
pub const FOLDER_ENTRY: &str = "urn:uuid:00000000-0000-4000-8000-000000000006";
pub const SET_MEMBERSHIP: &str = "urn:uuid:00000000-0000-4000-8000-000000000007";
pub const RELATION: &str = "urn:uuid:00000000-0000-4000-8000-000000000008";
pub const REGISTERED: &str = "urn:uuid:00000000-0000-4000-8000-00000000000a";
pub const STUDY: &str = "1.2.246.10.12345671.77.20260115.1";
pub const SOURCE: &str = "1.2.246.10.12345671.12.9";
pub const MANIFEST_UID: &str = "2.25.174944059483789521284782653158387731653";

pub fn patient() -> PatientId {
    PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() }
}

pub fn other_patient() -> PatientId {
    PatientId { id: "T-17".to_owned(), authority: "1.2.246.10.90000011.22.2025".to_owned() }
}

pub fn code(code: &str, system: &str) -> Code {
    Code { code: code.to_owned(), system: system.to_owned(), display: "Display".to_owned() }
}

fn author() -> Author {
    Author {
        person: Some("12345678901^Testaaja^Tiina^^^^^^&1.2.246.537.26&ISO".to_owned()),
        institutions: vec!["Testisairaala^^^^^^^^^1.2.246.10.12345671.10.0".to_owned()],
        ..Author::default()
    }
}

/// A report in a new folder: every rule of groups 0–3 has something to look at.
pub fn report() -> Submission {
    let association = |id: &str, source: &str, target: &str, original: bool| Association {
        entry_uuid: id.to_owned(),
        association_type: HAS_MEMBER.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        status: None,
        slots: if original { vec![("SubmissionSetStatus".to_owned(), vec!["Original".to_owned()])] } else { Vec::new() },
        documentation: None,
    };
    Submission {
        submission_sets: vec![SubmissionSet {
            entry_uuid: SET.to_owned(),
            unique_id: "2.25.84040103891449539320224718399689375542".to_owned(),
            source_id: SOURCE.to_owned(),
            patient_id: patient(),
            submission_time: Some("20260115082741".to_owned()),
            content_type_code: Some(code("18748-4", "2.16.840.1.113883.6.1")),
            authors: vec![author()],
            title: None,
            comments: None,
            intended_recipients: Vec::new(),
            home_community_id: None,
            status: None,
            extra: Vec::new(),
        }],
        entries: vec![entry()],
        folders: vec![Folder {
            entry_uuid: FOLDER.to_owned(),
            logical_id: None,
            version: None,
            unique_id: "1.2.246.10.12345671.15.1".to_owned(),
            patient_id: patient(),
            codes: vec![code("F", "1.2.3")],
            title: Some("Folder".to_owned()),
            comments: None,
            last_update_time: None,
            home_community_id: None,
            status: None,
            extra: Vec::new(),
        }],
        associations: vec![
            association(SET_ENTRY, SET, ENTRY, true),
            association(SET_FOLDER, SET, FOLDER, true),
            association(FOLDER_ENTRY, FOLDER, ENTRY, false),
            association(SET_MEMBERSHIP, SET, FOLDER_ENTRY, true),
        ],
    }
}

pub const DOCUMENT: &[u8] = b"report";

fn entry() -> DocumentEntry {
    DocumentEntry {
        entry_uuid: ENTRY.to_owned(),
        logical_id: None,
        version: None,
        status: None,
        entry_type: EntryType::Stable,
        mime_type: "text/plain".to_owned(),
        unique_id: MANIFEST_UID.to_owned(),
        patient_id: patient(),
        source_patient_id: Some(patient()),
        source_patient_info: vec!["PID-3|010190-900P^^^&1.2.246.21&ISO".to_owned(), "PID-8|F".to_owned()],
        creation_time: Some("20260115082741".to_owned()),
        service_start_time: Some("20260115081530".to_owned()),
        service_stop_time: Some("202601150816".to_owned()),
        language_code: Some("fi-FI".to_owned()),
        hash: Some(Document::of(None, DOCUMENT, false).sha1),
        size: Some(DOCUMENT.len() as u64),
        repository_unique_id: Some("1.2.246.10.12345671.12.100".to_owned()),
        home_community_id: None,
        title: Some("Lausunto".to_owned()),
        comments: None,
        authors: vec![author()],
        class_code: Some(code("IMAGES", "1.3.6.1.4.1.19376.1.2.6.1")),
        type_code: Some(code("18748-4", "2.16.840.1.113883.6.1")),
        format_code: Some(code("urn:ihe:rad:TEXT", "1.3.6.1.4.1.19376.1.2.3")),
        confidentiality_codes: vec![code("N", "2.16.840.1.113883.5.25")],
        event_codes: vec![code("CT", "1.2.840.10008.2.16.4")],
        facility_type_code: Some(code("22232009", "2.16.840.1.113883.6.96")),
        practice_setting_code: Some(code("394914008", "2.16.840.1.113883.6.96")),
        reference_ids: vec![
            format!("{STUDY}^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
            "T042059118706^^^&1.2.246.10.12345671.12.5&ISO^urn:ihe:iti:xds:2013:accession".to_owned(),
        ],
        legal_authenticator: None,
        uri: None,
        document_availability: None,
        extra: Vec::new(),
    }
}

/// A manifest's submission, and the manifest.
pub fn manifest() -> (Submission, Content) {
    let mut submission = report();
    let entry = &mut submission.entries[0];
    entry.mime_type = "application/dicom".to_owned();
    entry.format_code = Some(code("1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1"));
    let slot = |name: &str, value: &str| (format!("urn:x-idr:fi:{name}"), vec![value.to_owned()]);
    entry.extra = vec![slot("controllerId", "1.2.246.10.12345671.19.0"), slot("registerCode", "2")];
    (submission, content())
}

fn content() -> Content {
    Content {
        sop_instance_uid: MANIFEST_UID.to_owned(),
        series_instance_uid: "2.25.119397770252631468224129525926898996379".to_owned(),
        study_instance_uid: STUDY.to_owned(),
        study_date: "20260115".to_owned(),
        study_time: "101530".to_owned(),
        content_date: "20260115".to_owned(),
        content_time: "102741".to_owned(),
        timezone_offset: Some("+0200".to_owned()),
        accession_number: "T042059118706".to_owned(),
        accession_issuer: Some("1.2.246.10.12345671.12.5".to_owned()),
        institution_name: None,
        institution_code: None,
        referring_physician_name: String::new(),
        study_description: None,
        procedure_code: None,
        patient_name: "Testi^Potilas".to_owned(),
        patient_id: patient().id,
        issuer_of_patient_id: None,
        patient_id_issuer: patient().authority,
        patient_birth_date: "19900101".to_owned(),
        patient_sex: "F".to_owned(),
        study_id: "1".to_owned(),
        series_number: 0,
        requests: Vec::new(),
        title: idr_ihe::manifest::Title::Manifest,
        series: vec![ReferencedSeries {
            series_instance_uid: format!("{STUDY}.2.1"),
            retrieve_ae_title: "IDRCENTRAL".to_owned(),
            retrieve_url: None,
            retrieve_location_uid: "1.2.246.10.12345671.12.100".to_owned(),
            instances: vec![ReferencedInstance {
                sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
                sop_instance_uid: format!("{STUDY}.3.1"),
                value_type: ValueType::Image,
            }],
        }],
        description: None,
    }
}

/// The manifest as a document that its entry describes.
pub fn manifest_document(submission: &mut Submission, content: &Content) -> Document {
    let bytes = content.to_part10().expect("the content of the test is a manifest");
    let document = Document::of(Some(ENTRY), &bytes, true);
    submission.entries[0].hash = Some(document.sha1.clone());
    submission.entries[0].size = Some(document.size);
    document
}

pub fn report_document() -> Document {
    Document::of(Some(ENTRY), DOCUMENT, false)
}

pub fn list(submission: &Submission) -> RegistryObjectList {
    encode(submission, Placement::Beside)
}

/// Rules, error table, node: what every judgement is made with.
pub struct Node {
    pub rules: XdsRules,
    pub errors: Errors,
    pub slots: Slots,
    pub defaults: SenderDefaults,
    pub now: Timestamp,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            rules: XdsRules::shipped(),
            errors: Errors::shipped(),
            slots: Slots::default(),
            defaults: SenderDefaults::default(),
            now: "2026-01-15T08:30:00Z".parse().expect("an instant"),
        }
    }
}

impl Node {
    pub fn circumstances(&self) -> Circumstances<'_> {
        Circumstances { home_community_id: HOME, slots: &self.slots, defaults: &self.defaults, now: self.now, today: date(2026, 1, 15) }
    }

    pub fn message(&self, transaction: SubmitTransaction, list: &RegistryObjectList) -> Findings {
        self.rules.judge_message(&self.errors, &Message::new(transaction, Some(list)), &self.circumstances())
    }

    pub fn documents(&self, list: &RegistryObjectList, documents: &[Document]) -> Findings {
        let message = Message::new(SubmitTransaction::Iti41, Some(list));
        self.rules.judge_documents(&self.errors, &message, documents, &self.circumstances())
    }

    pub fn state(
        &self,
        transaction: SubmitTransaction,
        list: &RegistryObjectList,
        documents: &[Document],
        view: &RegistryView,
    ) -> StateVerdict {
        let message = Message::new(transaction, Some(list));
        self.rules.judge_state(&self.errors, &message, documents, &self.circumstances(), view)
    }
}

/// Ids of the rules that fired.
pub fn rules(findings: &Findings) -> Vec<&str> {
    findings.problems.iter().map(|problem| problem.rule.as_str()).collect()
}

/// A registry that knows the patient and one entry of theirs, and lets the submitter in.
pub fn view() -> RegistryView {
    RegistryView {
        patients: [(patient(), patient())].into(),
        objects: [(REGISTERED.to_owned(), stored_entry())].into(),
        submitter: Submitter {
            organisation: "1.2.246.10.12345671".to_owned(),
            repositories: vec!["1.2.246.10.12345671.12.100".to_owned()],
            source_ids: Vec::new(),
        },
        ..RegistryView::default()
    }
}

pub fn stored_entry() -> StoredObject {
    StoredObject {
        kind: StoredKind::Entry { entry_type: EntryType::Stable, manifest: None },
        status: idr_ihe::metadata::AvailabilityStatus::Approved,
        patient: patient(),
        visible: true,
        correctable: true,
        newest: true,
    }
}

pub fn object<'a>(list: &'a mut RegistryObjectList, id: &str) -> &'a mut RegistryObject {
    let object = list.objects.iter_mut().find(|object| object.id() == Some(id)).expect("the object is there");
    match object {
        Object::ExtrinsicObject(x) => &mut x.object,
        Object::RegistryPackage(x) => &mut x.object,
        Object::Association(x) => &mut x.object,
        Object::Classification(x) => &mut x.object,
        Object::ObjectRef(_) | Object::Other(_) => panic!("no registry object"),
    }
}

/// A body as it stands in a file, in an envelope.
pub fn envelope(body: &str) -> String {
    let body = body.trim_start_matches('\u{feff}');
    let body = match body.find("?>") {
        Some(end) if body.starts_with("<?xml") => &body[end + 2..],
        _ => body,
    };
    format!(r#"<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body>{body}</e:Body></e:Envelope>"#)
}

/// The object list of an ITI-42 body.
pub fn read_list(body: &str) -> RegistryObjectList {
    let text = envelope(body);
    let envelope = idr_ihe::soap::Envelope::read(text.as_bytes(), idr_ihe::xml::Limits::default()).expect("an envelope");
    iti_42::read(&envelope).expect("a SubmitObjectsRequest").objects.unwrap_or_default()
}

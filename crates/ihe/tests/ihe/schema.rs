//! What is written is valid against the published schemas.

use std::io::Write;
use std::process::{Command, Stdio};

use idr_ihe::audit::{Action, ActiveParticipant, AuditCode, AuditMessage, Description, Outcome, ParticipantObject, SchemaYear};
use idr_ihe::ebxml::rim::ObjectRef;
use idr_ihe::ebxml::{self, Placement};
use idr_ihe::metadata::AvailabilityStatus;
use idr_ihe::soap::xop::Content;
use idr_ihe::transaction::iti_18::{self, Definition, Results, ReturnType};
use idr_ihe::transaction::registry_response::RegistryResponse;
use idr_ihe::transaction::{iti_41, iti_42, iti_43, iti_62, iti_86, rad_69, registry_response};

use crate::example::submission;
use crate::shared::shared;
use crate::transactions::{document_request, imaging_request, partial_success, retrieve_response};

/// Validates by xmllint; skipped with a printed line where it is not installed, except in CI.
fn assert_valid(schema: &str, xml: &str) {
    let Some(schema) = shared(schema) else { return };
    let started = Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema"])
        .arg(&schema)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "xmllint: {error}");
            println!("skipped: no xmllint: {error}");
            return;
        }
    };
    child.stdin.take().expect("piped").write_all(xml.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}: {}\n{xml}", schema.display(), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn submissions_and_removals() {
    let mut submission = submission();
    submission.folders.push(idr_ihe::metadata::Folder {
        entry_uuid: "urn:uuid:1b1f6bd7-2f53-5cdf-ae91-e41007c0c9ba".to_owned(),
        logical_id: None,
        version: None,
        unique_id: "1.2.3".to_owned(),
        patient_id: submission.entries[0].patient_id.clone(),
        codes: submission.entries[0].event_codes.clone(),
        title: Some("1.2.246.10.12345671.14.2026.1001".to_owned()),
        comments: Some("comment".to_owned()),
        last_update_time: None,
        home_community_id: None,
        status: None,
        extra: Vec::new(),
    });
    let objects = ebxml::encode(&submission, Placement::Beside);
    assert_valid("ihe/schemas/nist-v3/lcm.xsd", &iti_42::encode(&objects));
    let document = iti_41::Document { id: Some("urn:uuid:1".to_owned()), content: Content::Inline(b"DICM".to_vec()) };
    assert_valid("ihe/schemas/nist-v3/XDS.b_DocumentRepository.xsd", &iti_41::encode(&objects, &[document]));
    let reference = ObjectRef { id: Some("urn:uuid:1".to_owned()), home: None };
    assert_valid("ihe/schemas/nist-v3/lcm.xsd", &iti_62::encode(&[reference]));
    assert_valid("ihe/schemas/nist-v3/rmd.xsd", &iti_86::encode(&[document_request("1.2")]));
    for response in [RegistryResponse::SUCCESS, partial_success()] {
        assert_valid("ihe/schemas/nist-v3/rs.xsd", &registry_response::encode(&response));
    }
}

#[test]
fn queries_and_their_answers() {
    let schema = "ihe/schemas/nist-v3/query.xsd";
    let parameters = [("$XDSDocumentEntryUniqueId", vec!["1.2".to_owned(), "1.3".to_owned()])];
    let definition = Definition::of_name("GetDocuments").expect("known");
    assert_valid(schema, &iti_18::encode(definition, ReturnType::ObjectRef, Some("urn:oid:1.2"), &parameters));
    let mut stored = submission();
    stored.entries[0].status = Some(AvailabilityStatus::Approved);
    stored.entries[0].version = Some(1);
    stored.entries[0].comments = Some("comment".to_owned());
    assert_valid(schema, &iti_18::encode_response(&RegistryResponse::SUCCESS, Results::Objects(&stored)));
    let reference = ObjectRef { id: Some("urn:uuid:1".to_owned()), home: Some("urn:oid:1.2".to_owned()) };
    assert_valid(schema, &iti_18::encode_response(&partial_success(), Results::References(&[reference])));
    assert_valid(schema, &iti_18::encode_response(&RegistryResponse::SUCCESS, Results::None));
}

#[test]
fn retrieves_and_their_answers() {
    let schema = "ihe/schemas/nist-v3/XDS.b_DocumentRepository.xsd";
    assert_valid(schema, &iti_43::encode(&[document_request("1.2")]));
    assert_valid(schema, &iti_43::encode_response(&retrieve_response(Content::Inline(b"DICM".to_vec()))));
    assert_valid("ihe/schemas/nist-v3/XDSI.b_ImagingDocumentSource.xsd", &rad_69::encode(&imaging_request()));
}

#[test]
fn audit_messages() {
    let code = AuditCode::new;
    let message = AuditMessage {
        event: code("110104", "DCM", "DICOM Instances Transferred"),
        event_types: vec![code("RAD-69", "IHE Transactions", "Retrieve Imaging Document Set")],
        action: Action::Read,
        at: "2026-01-15T08:27:41.5Z".parse().expect("instant"),
        outcome: Outcome::Success,
        purpose_of_use: Some(code("TREAT", "2.16.840.1.113883.1.11.20448", "treatment")),
        participants: vec![
            ActiveParticipant {
                user_id: "https://central.idr.example/ihe/gateway".to_owned(),
                alternative_user_id: Some("4711".to_owned()),
                roles: vec![code("110153", "DCM", "Source Role ID")],
                network_access_point: Some(("192.0.2.1".to_owned(), 2)),
                ..ActiveParticipant::default()
            },
            ActiveParticipant { user_id: "user".to_owned(), is_human: true, is_requestor: true, ..ActiveParticipant::default() },
        ],
        source_id: "idr-central@node1".to_owned(),
        enterprise_site_id: Some("1.2.246.10.12345671.10.0".to_owned()),
        source_type: 4,
        objects: vec![
            ParticipantObject {
                id: "1.2.3".to_owned(),
                type_code: 2,
                role: 3,
                life_cycle: Some(6),
                id_type: code("110180", "DCM", "Study Instance UID"),
                query: None,
                details: vec![("Repository Unique Id".to_owned(), "1.2".to_owned())],
                description: Description {
                    sop_classes: vec![("1.2.840.10008.5.1.4.1.1.2".to_owned(), 2)],
                    studies: vec!["1.2.3".to_owned()],
                },
            },
            ParticipantObject {
                id: "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d".to_owned(),
                type_code: 2,
                role: 24,
                life_cycle: None,
                id_type: code("ITI-18", "IHE Transactions", "Registry Stored Query"),
                query: Some(b"<query/>".to_vec()),
                details: Vec::new(),
                description: Description::default(),
            },
        ],
    };
    // The published copy is of the edition that has no PurposeOfUse in EventIdentification.
    let xml = message.to_xml(SchemaYear::Y2011);
    assert_valid("ihe/schemas/audit/dicom-ps3.15-audit-message.xsd", &xml);
    assert!(xml.contains("EventDateTime=\"2026-01-15T08:27:41.500Z\""), "{xml}");
    assert_eq!(xml.matches("TREAT").count(), 1);
    let newer = message.to_xml(SchemaYear::Y2017);
    assert!(newer.contains("<PurposeOfUse csd-code=\"TREAT\""), "{newer}");
}

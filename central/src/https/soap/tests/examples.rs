//! `docs/examples/`: one request and one answer for each transaction that reads or registers, as this program writes them.
//!
//! The messages are made here, and compared with the files; `IDR_EXAMPLES=write` writes the files anew. What differs from one run
//! to the next has a fixed value in them: MessageIDs, the assertion (profile 04 §15 has one), receipts and their signatures.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::body::{Body, to_bytes};
use http::Request;
use idr_ihe::ebxml::rim::ObjectRef;
use idr_ihe::soap::Framing;
use idr_ihe::transaction::iti_18::{self, Definition, ReturnType};
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::iti_62;
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::table::{of_number, transactions};
use idr_profile::access::Claims;
use idr_profile::xds::XdsRules;
use serde_json::Value;

use crate::testing::soap::{Answer, HOME, REPOSITORY, Recipe, envelope, message_id, plain, register};
use crate::testing::{EXPLICIT, Instance, PKI, Party, STUDY, World, patient};

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";

/// Transactions that change what is registered, beside RAD-68 and ITI-57 (`iti-57-withdrawal.xml`), have no example yet.
const WITHOUT: [&str; 5] = ["ITI-41", "ITI-42", "ITI-61", "ITI-86", "ITI-92"];

#[tokio::test]
async fn the_examples_are_what_is_sent_and_answered() {
    let rules = XdsRules::load(&["mpq.enabled = true"]).expect("loads");
    let world = World::under(rules, "", &[]).await;
    let made = made(&world).await;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    if std::env::var("IDR_EXAMPLES").is_ok_and(|value| value == "write") {
        for (name, text) in &made {
            std::fs::write(folder.join(name), text).expect("written");
        }
    }
    for (name, text) in &made {
        let kept = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(&kept, text, "docs/examples/{name}: IDR_EXAMPLES=write writes it anew");
    }
    for transaction in transactions() {
        let name = format!("{}-request.xml", transaction.number.to_lowercase());
        let excused = WITHOUT.contains(&transaction.number) || transaction.number == "ITI-57";
        assert_eq!(made.contains_key(&name), !excused, "{name}");
    }
}

/// Files by name.
async fn made(world: &World) -> BTreeMap<String, String> {
    let mut made = BTreeMap::new();
    let hospital = &PKI.hospital;
    let image = Instance::ct(1);
    world.stored(std::slice::from_ref(&image)).await;
    let revision = Recipe::of(std::slice::from_ref(&image)).revision();
    let site = hospital.site(&patient());
    soap(world, &mut made, "RAD-68", hospital, register(hospital, &site, &revision)).await;

    let physician = hospital.physician(&patient());
    let by_patient = [("$XDSDocumentEntryPatientId", vec![patient().to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
    let query = |name: &str, home, parameters: &[(&str, Vec<String>)]| {
        iti_18::encode(Definition::of_name(name).expect("a stored query"), ReturnType::LeafClass, home, parameters)
    };
    let ask = |number: &str, claims: &Claims, body: &str| {
        let action = of_number(number).expect("a transaction").request_action;
        plain(envelope(&hospital.security(claims), action, &message_id(), body))
    };
    soap(world, &mut made, "ITI-18", hospital, ask("ITI-18", &physician, &query("FindDocuments", None, &by_patient))).await;
    soap(world, &mut made, "ITI-38", hospital, ask("ITI-38", &physician, &query("FindDocuments", Some(HOME), &by_patient))).await;
    let nobody = Claims { patient: None, ..site.clone() };
    let many = [
        ("$XDSDocumentEntryPatientId", vec![patient().to_cx()]),
        ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()]),
        ("$XDSDocumentEntryFormatCode", vec!["1.2.840.10008.5.1.4.1.1.88.59^^1.2.840.10008.2.6.1".to_owned()]),
    ];
    let body = query("FindDocumentsForMultiplePatients", None, &many);
    soap(world, &mut made, "ITI-51", hospital, ask("ITI-51", &nobody, &body)).await;

    for (number, home) in [("ITI-43", None), ("ITI-39", Some(HOME))] {
        let body = iti_43::encode(&[document(home, &revision.document_uid)]);
        soap(world, &mut made, number, hospital, ask(number, &physician, &body)).await;
    }
    for (number, home) in [("RAD-69", None), ("RAD-75", Some(HOME))] {
        // One that is there, and one that is not.
        let documents = vec![document(home, &image.sop_instance_uid), document(home, &format!("{}9", image.sop_instance_uid))];
        let series = vec![SeriesRequest { series_instance_uid: Some(format!("{STUDY}.1")), documents }];
        let studies = vec![StudyRequest { study_instance_uid: Some(STUDY.to_owned()), series }];
        let request = RetrieveImagingRequest { studies, transfer_syntaxes: Some(vec![Some(EXPLICIT.to_owned())]) };
        soap(world, &mut made, number, hospital, ask(number, &physician, &rad_69::encode(&request))).await;
    }
    for (name, path) in [
        ("qido-rs-studies", "/dicomweb/studies?PatientID=010190-900P&IssuerOfPatientID=1.2.246.21".to_owned()),
        ("wado-rs-metadata", format!("/dicomweb/studies/{STUDY}/metadata")),
    ] {
        let scope = if name.starts_with("qido") { "idr.query" } else { "idr.retrieve" };
        let request = Request::get(&path).header(http::header::AUTHORIZATION, hospital.bearer(&physician, scope));
        let answer = world.send(hospital, request.body(Body::empty()).expect("a request")).await;
        let body = to_bytes(answer.into_body(), 1 << 20).await.expect("whole");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let text = format!("{:#}\n", serde_json::json!({ "request": format!("GET {path}"), "answer": body }));
        made.insert(format!("{name}.json"), text);
    }
    // Set, entry and what joins them, together: nothing is left that refers to another.
    let submission = &revision.submission;
    let sets = submission.submission_sets.iter().map(|set| &set.entry_uuid);
    let entries = submission.entries.iter().map(|entry| &entry.entry_uuid);
    let all = sets.chain(entries).chain(submission.associations.iter().map(|association| &association.entry_uuid));
    let references: Vec<ObjectRef> = all.map(|id| ObjectRef { id: Some(id.clone()), home: None }).collect();
    soap(world, &mut made, "ITI-62", hospital, ask("ITI-62", &site, &iti_62::encode(&references))).await;

    // A query that two other communities are asked too; one of them does not answer.
    let (federated, _there) = crate::federation::tests::one_of_two_answers().await;
    let query = query("FindDocuments", None, &by_patient);
    soap(&federated, &mut made, "ITI-18-communities", hospital, ask("ITI-18", &physician, &query)).await;
    made
}

fn document(home: Option<&str>, uid: &str) -> DocumentRequest {
    let [home, repository, unique] = [home, Some(REPOSITORY), Some(uid)].map(|value| value.map(str::to_owned));
    DocumentRequest { home_community_id: home, repository_unique_id: repository, document_unique_id: unique }
}

/// Sends a request; both envelopes go into the files.
async fn soap(world: &World, made: &mut BTreeMap<String, String>, number: &str, party: &Party, request: Request<Body>) {
    let (head, body) = request.into_parts();
    let bytes = to_bytes(body, 1 << 26).await.expect("a whole body");
    let framing = Framing::of(head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok())).expect("a frame");
    let sent = match framing {
        Framing::Plain => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        Framing::Mtom { .. } => {
            let copy = Answer::read(
                http::Response::builder()
                    .header(http::header::CONTENT_TYPE, head.headers[http::header::CONTENT_TYPE].clone())
                    .body(Body::from(bytes.clone()))
                    .expect("a message"),
            );
            copy.await.envelope
        }
    };
    let answer = world.soap(party, Request::from_parts(head, Body::from(bytes))).await;
    assert!(answer.envelope.contains(":Success\"") || answer.envelope.contains(":PartialSuccess\""), "{number}: {}", answer.envelope);
    let name = number.to_lowercase();
    // RAD-68 has the action of ITI-41.
    made.insert(format!("{name}-request.xml"), settled(&sent));
    made.insert(format!("{name}-response.xml"), settled(&answer.envelope));
}

/// The text with what differs between two runs replaced, an element a line.
fn settled(text: &str) -> String {
    let mut text = replaced(text, "<saml2:Assertion", "</saml2:Assertion>", "<!-- an assertion: profile 04 §15 -->");
    text = replaced(&text, "<saml:Assertion", "</saml:Assertion>", "<!-- an assertion: profile 04 §15 -->");
    text = within(&text, "<wsa:MessageID>", "</wsa:MessageID>", "urn:uuid:00000000-0000-4000-8000-000000000001");
    text = within(&text, "<wsa:RelatesTo>", "</wsa:RelatesTo>", "urn:uuid:00000000-0000-4000-8000-000000000001");
    text = within(&text, "<idr:Receipt xmlns:idr=\"urn:x-idr:custody\">", "</idr:Receipt>", "…");
    text.replace("><", ">\n<") + "\n"
}

/// From `start` to the end of `end`, each time.
fn replaced(text: &str, start: &str, end: &str, with: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(start) {
        let Some(length) = rest[at..].find(end) else { break };
        out.push_str(&rest[..at]);
        out.push_str(with);
        rest = &rest[at + length + end.len()..];
    }
    out + rest
}

/// What stands between `start` and `end`.
fn within(text: &str, start: &str, end: &str, with: &str) -> String {
    replaced(text, start, end, &format!("{start}{with}{end}"))
}

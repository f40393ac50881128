//! A SOAP request or answer: envelope, addressing, every body that a transaction has, stored queries (ITI TF-2 Appendix V).
#![no_main]

use idr_fuzz::{seed, seeds};
use idr_ihe::metadata::Submission;
use idr_ihe::soap::{Answer, Envelope, HeaderName, Rejected, Request, SOAP_FAULT, fingerprint, write_answer, write_fault, write_request};
use idr_ihe::transaction::table::{Transaction, of_action, of_number, transactions};
use idr_ihe::transaction::{iti_18, iti_41, iti_42, iti_43, iti_62, iti_86, rad_69, registry_response};
use idr_ihe::xml::{Limits, Reader};
use libfuzzer_sys::fuzz_target;

const ID: &str = "urn:uuid:6da25a5b-8fd6-5273-8e0e-38fa353d75b5";

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let envelope = match Envelope::read(data, Limits::default()) {
        Ok(envelope) => envelope,
        Err(rejected) => return fault(&rejected),
    };
    if let Err(rejected) = envelope.check(|action| of_action(action).is_some()) {
        fault(&rejected);
    } else {
        let answer = Answer { action: SOAP_FAULT, message_id: ID, relates_to: Some(envelope.message_id()), headers: "", body: "<x xmlns=\"urn:x\"/>" };
        let text = write_answer(&answer);
        let read = Envelope::read(text.as_bytes(), Limits::default()).unwrap_or_else(|_| panic!("an answer that cannot be read"));
        assert_eq!(read.value(HeaderName::RelatesTo), Some(envelope.message_id()));
    }
    assert!(envelope.security().all(|header| data.windows(header.len()).any(|window| window == header)));
    body(&envelope);
});

/// Whatever the reason, our answer is well-formed.
fn fault(rejected: &Rejected) {
    if let Some(fault) = rejected.refusal.fault() {
        let text = write_fault(&fault, ID, rejected.relates_to.as_deref(), true);
        let read = Envelope::read(text.as_bytes(), Limits::default()).unwrap_or_else(|_| panic!("a fault that cannot be read"));
        assert!(read.fault().expect("readable").is_some());
    }
}

fn body(envelope: &Envelope<'_>) {
    let document = envelope.body_document();
    if let Ok(mut reader) = Reader::new(&document, Limits::default())
        && let Ok(root) = reader.root()
    {
        assert_eq!((root.ns, root.local()), envelope.body_name());
    }
    let _ = (fingerprint(envelope, &[], Limits::default()), fingerprint(envelope, &[[0; 32]], Limits::default()));
    if let Ok(request) = iti_18::read(envelope) {
        for multi_patient in [false, true] {
            let options = iti_18::Options { multi_patient, ..iti_18::Options::default() };
            match iti_18::interpret(&request, &options) {
                Ok(query) => drop(query.selection()),
                Err(errors) => errors.iter().for_each(|error| drop(error.registry_error())),
            }
        }
    }
    if let Ok(request) = iti_41::read(envelope)
        && let Some(objects) = &request.objects
    {
        let _: Submission = idr_ihe::ebxml::decode(objects).submission;
    }
    let _ = (iti_42::read(envelope), iti_62::read(envelope), iti_86::read(envelope));
    if let Ok(request) = iti_43::read(envelope) {
        let _ = iti_43::problem(&request);
    }
    if let Ok(request) = rad_69::read(envelope) {
        let _ = (request.problem(), request.instance_count());
    }
    let _ = iti_43::read_response(envelope);
    let _ = (iti_18::read_response(envelope), registry_response::read(envelope), envelope.fault());
}

fn all() -> Vec<Vec<u8>> {
    let security = "<wsse:Security xmlns:wsse=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\"><a/></wsse:Security>";
    let message = |transaction: &Transaction, body: &str| {
        let request =
            Request { action: transaction.request_action, message_id: ID, to: "https://central.idr.example/ihe/gateway", security, body };
        write_request(&request)
    };
    let uid = || Some("1.2.3".to_owned());
    let document =
        || iti_43::DocumentRequest { repository_unique_id: uid(), document_unique_id: uid(), ..iti_43::DocumentRequest::default() };
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    // The forms of the values of a query: patient, code, status, time, list.
    let find = iti_18::Definition::of_name("FindDocuments").expect("in the table");
    let values = |text: &str| vec![text.to_owned()];
    let parameters = [
        ("$XDSDocumentEntryPatientId", values("010190-900P^^^&1.2.246.21&ISO")),
        ("$XDSDocumentEntryStatus", values("urn:oasis:names:tc:ebxml-regrep:StatusType:Approved")),
        ("$XDSDocumentEntryClassCode", values("IMAGES^^1.3.6.1.4.1.19376.1.2.6.1")),
        ("$XDSDocumentEntryAuthorPerson", values("%L_k'ri%")),
        ("$XDSDocumentEntryCreationTimeFrom", values("20260115")),
    ];
    let query = iti_18::encode(find, iti_18::ReturnType::LeafClass, Some("urn:oid:1.2.3"), &parameters);
    seeds.push(message(of_number("ITI-18").expect("row"), &query).into());
    let get = iti_18::Definition::of_name("GetAssociations").expect("in the table");
    let query = iti_18::encode(get, iti_18::ReturnType::ObjectRef, None, &[("$uuid", values(ID))]);
    seeds.push(message(of_number("ITI-18").expect("row"), &query).into());
    seeds.push(message(of_number("ITI-43").expect("row"), &iti_43::encode(&[document()])).into());
    seeds.push(message(of_number("ITI-86").expect("row"), &iti_86::encode(&[document()])).into());
    let series = rad_69::SeriesRequest { series_instance_uid: uid(), documents: vec![document()] };
    let study = rad_69::StudyRequest { study_instance_uid: uid(), series: vec![series] };
    let images =
        rad_69::RetrieveImagingRequest { studies: vec![study], transfer_syntaxes: Some(vec![Some("1.2.840.10008.1.2.1".to_owned())]) };
    seeds.push(message(of_number("RAD-69").expect("row"), &rad_69::encode(&images)).into());
    let objects = idr_fuzz::metadata::submission();
    seeds.push(message(of_number("ITI-42").expect("row"), &iti_42::encode(&objects)).into());
    let provided = iti_41::Document { id: Some("entry".to_owned()), content: idr_ihe::soap::xop::Content::Inline(b"text".to_vec()) };
    let part = iti_41::Document { id: Some("other".to_owned()), content: idr_ihe::soap::xop::Content::Part("1@idr".to_owned()) };
    seeds.push(message(of_number("ITI-41").expect("row"), &iti_41::encode(&objects, &[provided, part])).into());
    let answer = registry_response::encode(&registry_response::RegistryResponse::failure(vec![]));
    seeds.push(
        write_answer(&Answer {
            action: transactions()[0].response_action,
            message_id: ID,
            relates_to: Some(ID),
            headers: "",
            body: &answer,
        })
        .into(),
    );
    let refusal = idr_ihe::soap::Fault::sender("no");
    seeds.push(write_fault(&refusal, ID, Some(ID), true).into());
    seeds.into_iter().map(|text| seed(&[], text)).collect()
}

//! Rules of the SOAP layer (profile 08 §3, 09 §4).

use idr_ihe::soap::multipart::MultipartError;
use idr_ihe::soap::xop::XopError;
use idr_ihe::soap::{
    ADDRESSING_FAULT, Answer, Detail, Envelope, FaultCode, HeaderName, Refusal, SOAP_FAULT, fingerprint, write_answer, write_fault,
};
use idr_ihe::transaction::table::of_action;
use idr_ihe::xml::{Limits, XmlError};
use proptest::prelude::*;

const ID: &str = "urn:uuid:6da25a5b-8fd6-5273-8e0e-38fa353d75b5";
const ACTION: &str = "urn:ihe:iti:2007:RetrieveDocumentSet";
const BODY: &str = "<d:RetrieveDocumentSetRequest xmlns:d='urn:ihe:iti:xds-b:2007'/>";

fn message(headers: &str, body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope' xmlns:a='http://www.w3.org/2005/08/addressing'>\
         <s:Header>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn headers() -> String {
    format!(
        "<a:Action s:mustUnderstand='true'>{ACTION}</a:Action><a:MessageID> {ID} </a:MessageID><a:To>https://x/</a:To>\
         <a:ReplyTo><a:Address>http://www.w3.org/2005/08/addressing/anonymous</a:Address></a:ReplyTo>"
    )
}

/// Rule and MessageID of the refusal; `None` if the message is accepted.
fn judge(text: &str) -> Option<(&'static str, Option<String>)> {
    let checked = Envelope::read(text.as_bytes(), Limits::default()).and_then(|envelope| {
        envelope.check(|action| of_action(action).is_some())?;
        envelope.body(idr_ihe::xml::Ns::Xdsb, "RetrieveDocumentSetRequest").map(drop).map_err(|refusal| envelope.rejected(refusal))
    });
    checked.err().map(|rejected| (rejected.refusal.rule(), rejected.relates_to))
}

#[test]
fn messages_that_clients_send_are_accepted() {
    let all = headers();
    for (what, headers) in [
        ("as the profile shows", all.clone()),
        ("no ReplyTo (S-14)", all.split("<a:ReplyTo>").next().expect("part").to_owned()),
        ("no To (S-18)", all.replace("<a:To>https://x/</a:To>", "")),
        ("Action without mustUnderstand (S-16)", all.replace(" s:mustUnderstand='true'", "")),
        ("foreign header", format!("{all}<x:y xmlns:x='urn:x'/>")),
        ("foreign header for another role", format!("{all}<x:y xmlns:x='urn:x' s:mustUnderstand='1' s:role='urn:other'/>")),
        ("other addressing header", format!("{all}<a:IsReferenceParameter s:mustUnderstand='1'/>")),
    ] {
        assert_eq!(judge(&message(&headers, BODY)), None, "{what}");
    }
}

#[test]
fn every_rule_is_found_with_the_message_it_relates_to() {
    let all = headers();
    let good = message(&all, BODY);
    let without = |name: &str| {
        let (before, rest) = all.split_once(&format!("<a:{name}")).expect(name);
        message(&format!("{before}{}", rest.split_once(&format!("</a:{name}>")).expect(name).1), BODY)
    };
    for (rule, text, has_id) in [
        ("S-03", good.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/"), false),
        ("S-06", format!("<!DOCTYPE x>{good}"), false),
        ("S-06", good.replace("</s:Body>", "<?x?></s:Body>"), true),
        ("S-06", format!("{good}<x/>"), true),
        ("S-06", message(&format!("{all}{}", "<x:y xmlns:x='urn:x'/>".repeat(61)), BODY), true),
        ("S-07", message(&all, ""), true),
        ("S-07", message(&all, &BODY.repeat(2)), true),
        ("S-07", message(&all, &format!("text{BODY}")), true),
        ("S-07", good.replace("</s:Body>", "</s:Body><s:Body/>"), true),
        ("S-07", good.replace("<s:Body>", "<s:Header/><s:Body>"), true),
        ("S-17", message(&format!("{all}<x:y xmlns:x='urn:x' s:mustUnderstand='1'/>"), BODY), true),
        ("S-08", without("Action"), true),
        ("S-09", without("MessageID"), false),
        ("S-09", good.replace(ID, ""), false),
        ("S-10", message(&format!("{all}<a:To>https://y/</a:To>"), BODY), true),
        ("S-11", good.replace(ACTION, "urn:x:unknown"), true),
        ("S-15", good.replace("http://www.w3.org/2005/08/addressing/anonymous", "http://www.w3.org/2005/08/addressing/none"), true),
        ("S-19", good.replace(ID, "no-iri"), false),
        ("S-19", good.replace(ID, &format!("urn:{}", "x".repeat(253))), false),
        ("S-12", message(&all, "<d:RetrieveDocumentSetResponse xmlns:d='urn:ihe:iti:xds-b:2007'/>"), true),
        (
            "S-25",
            message(
                &all,
                "<d:RetrieveDocumentSetRequest xmlns:d='urn:ihe:iti:xds-b:2007'><x:Include xmlns:x='http://www.w3.org/2004/08/xop/include' href='cid:1'/></d:RetrieveDocumentSetRequest>",
            ),
            true,
        ),
    ] {
        let relates_to = has_id.then(|| ID.to_owned());
        assert_eq!(judge(&text), Some((rule, relates_to)), "{text}");
    }
}

#[test]
fn the_longest_message_id_is_accepted() {
    let id = format!("urn:{}", "x".repeat(252));
    assert_eq!(judge(&message(&headers().replace(ID, &id), BODY)), None);
}

#[test]
fn the_security_header_is_handed_out_byte_for_byte() {
    let security = "<w:Security xmlns:w='http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd'>\
                    <x:Include xmlns:x='http://www.w3.org/2004/08/xop/include' href='cid:1'/> text</w:Security>";
    let text = message(&format!("{}{security}", headers()), BODY);
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
    assert_eq!(envelope.security().collect::<Vec<_>>(), [security.as_bytes()]);
    assert_eq!(envelope.bytes(), text.as_bytes());
}

#[test]
fn an_answer_relates_to_its_request_and_carries_the_receipt() {
    let headers = "<idr:Receipt xmlns:idr=\"urn:x-idr:custody\">eyJ9</idr:Receipt>";
    let answer = Answer { action: "urn:a", message_id: "urn:uuid:1", relates_to: Some(ID), headers, body: "<x xmlns=\"urn:x\"/>" };
    let text = write_answer(&answer);
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
    assert_eq!(envelope.value(HeaderName::RelatesTo), Some(ID));
    assert_eq!(envelope.value(HeaderName::Receipt), Some("eyJ9"));
    assert!(envelope.check(|action| action == "urn:a").is_ok());
}

#[test]
fn every_refusal_becomes_the_fault_of_the_table_and_is_read_back() {
    let wsa = |locals: &[&str]| locals.iter().map(|local| (idr_ihe::xml::Ns::Addressing, (*local).to_owned())).collect::<Vec<_>>();
    let sender = FaultCode::Sender;
    let xml = Refusal::Xml(XmlError::Malformed { position: 1 });
    for (refusal, code, subcodes, action, status) in [
        (Refusal::Version, FaultCode::VersionMismatch, vec![], SOAP_FAULT, 500),
        (Refusal::NotUnderstood { blocks: vec![("urn:x".to_owned(), "y".to_owned())] }, FaultCode::MustUnderstand, vec![], SOAP_FAULT, 500),
        (Refusal::Charset, sender, vec![], SOAP_FAULT, 500),
        (xml, sender, vec![], SOAP_FAULT, 500),
        (Refusal::Body, sender, vec![], SOAP_FAULT, 500),
        (Refusal::Multipart(MultipartError::Truncated), sender, vec![], SOAP_FAULT, 500),
        (Refusal::Xop(XopError::NoPart), sender, vec![], SOAP_FAULT, 500),
        (Refusal::HeaderMissing { header: "Action" }, sender, wsa(&["MessageAddressingHeaderRequired"]), ADDRESSING_FAULT, 500),
        (Refusal::HeaderTwice { header: "To" }, sender, wsa(&["InvalidAddressingHeader", "InvalidCardinality"]), ADDRESSING_FAULT, 500),
        (Refusal::MessageId, sender, wsa(&["InvalidAddressingHeader"]), ADDRESSING_FAULT, 500),
        (
            Refusal::NotAnonymous { header: "ReplyTo" },
            sender,
            wsa(&["InvalidAddressingHeader", "OnlyAnonymousAddressSupported"]),
            ADDRESSING_FAULT,
            500,
        ),
        (Refusal::DuplicateMessageId, sender, wsa(&["InvalidAddressingHeader", "DuplicateMessageID"]), ADDRESSING_FAULT, 500),
        (Refusal::ActionNotSupported { action: "urn:x".to_owned() }, sender, wsa(&["ActionNotSupported"]), ADDRESSING_FAULT, 500),
        (Refusal::Destination { iri: "https://x/".to_owned() }, sender, wsa(&["DestinationUnreachable"]), ADDRESSING_FAULT, 500),
        (Refusal::Unavailable, FaultCode::Receiver, wsa(&["EndpointUnavailable"]), ADDRESSING_FAULT, 503),
        (Refusal::Internal { incident: "i-1".to_owned() }, FaultCode::Receiver, vec![], SOAP_FAULT, 500),
    ] {
        let fault = refusal.fault().expect("has a fault");
        assert_eq!((fault.code, &fault.subcodes, fault.action()), (code, &subcodes, action), "{refusal}");
        assert_eq!(refusal.http_status(), status, "{refusal}");
        let text = write_fault(&fault, "urn:uuid:1", Some(ID), true);
        let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
        assert_eq!(envelope.action(), action);
        let mut read = envelope.fault().expect("readable").expect("a fault");
        // What was not understood stands in header blocks.
        read.not_understood.clone_from(&fault.not_understood);
        assert_eq!(read, fault);
        let hidden = write_fault(&fault, "urn:uuid:1", None, false);
        assert!(!hidden.contains("Refusal"), "{hidden}");
    }
    assert_eq!(Refusal::MediaType.fault(), None);
    assert_eq!((Refusal::MediaType.http_status(), Refusal::TooLarge { limit: 1 }.http_status()), (415, 413));
    assert_eq!(Refusal::Unavailable.fault().and_then(|f| f.detail), Some(Detail::RetryAfter { seconds: 120 }));
}

#[test]
fn the_fingerprint_ignores_frame_and_headers_and_sees_content() {
    let body = |document: &str, id: &str| {
        format!(
            "<d:ProvideAndRegisterDocumentSetRequest xmlns:d='urn:ihe:iti:xds-b:2007'><d:Document   id='{id}'>{document}</d:Document></d:ProvideAndRegisterDocumentSetRequest>"
        )
    };
    let include = "<x:Include xmlns:x='http://www.w3.org/2004/08/xop/include' href='cid:1'/>";
    let of = |headers: &str, body: &str, digest: u8| {
        let text = message(headers, body);
        let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
        fingerprint(&envelope, &[[digest; 32]], Limits::default()).expect("canonical")
    };
    let reference = of(&headers(), &body(include, "e"), 1);
    assert_eq!(of(&headers(), &body("aGVsbG8=", "e"), 1), reference, "in line or XOP");
    assert_eq!(of(&headers(), &body("", "e").replace("></d:Document>", "/>"), 1), reference, "empty element");
    assert_eq!(of(&format!("{}<x:y xmlns:x='urn:x'/>", headers()), &body(include, "e"), 1), reference, "other headers");
    assert_eq!(of(&headers(), &body(include, "e").replace("   id='e'", " id=\"e\" "), 1), reference, "white space in tags");
    assert_ne!(of(&headers(), &body(include, "e"), 2), reference, "other document");
    assert_ne!(of(&headers(), &body(include, "f"), 1), reference, "other body");
    assert_ne!(of(&headers().replace(ACTION, "urn:ihe:iti:2007:RegisterDocumentSet-b"), &body(include, "e"), 1), reference, "other action");
    let text = message(&headers(), &body(include, "e"));
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
    assert!(fingerprint(&envelope, &[], Limits::default()).is_err());
    assert!(fingerprint(&envelope, &[[1; 32]; 2], Limits::default()).is_err());
}

#[test]
fn the_fingerprint_is_that_of_the_canonical_form() {
    // Prefixes declared outside of the Body come with it, unused ones do not.
    let body = "<s:x b='2' a='1'><!-- c --><a:y/></s:x>";
    let text = message(&headers(), body);
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("well formed");
    let canonical = "<s:x xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" a=\"1\" b=\"2\"><a:y xmlns:a=\"http://www.w3.org/2005/08/addressing\"></a:y></s:x>";
    let mut input = ACTION.as_bytes().to_vec();
    input.push(0);
    input.extend_from_slice(canonical.as_bytes());
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input);
    assert_eq!(fingerprint(&envelope, &[], Limits::default()).expect("canonical"), expected.as_ref());
}

proptest! {
    #[test]
    fn changed_messages_never_panic(changes in prop::collection::vec((0_usize..1000, any::<u8>()), 0..6)) {
        let mut bytes = message(&headers(), BODY).into_bytes();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Ok(envelope) = Envelope::read(&bytes, Limits::default()) {
            let _ = envelope.check(|_| true);
            let _ = envelope.fault();
            let _ = envelope.body_document();
        }
    }
}

#[test]
fn a_security_header_is_taken_out_with_the_declarations_that_it_inherits_and_no_other_change() {
    let assertion = "<saml2:Assertion ID=\"_1\"><a b='c'  xmlns:d=\"urn:d\"/><!--x-->\r\n</saml2:Assertion>";
    let text = format!(
        "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope' xmlns:saml2='urn:\"2' xmlns='urn:default' xmlns:w='urn:outer'>\
         <s:Header><w:Security xmlns:w='http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd' \
         s:mustUnderstand='1'>{assertion}</w:Security></s:Header><s:Body>{BODY}</s:Body></s:Envelope>"
    );
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("an envelope");
    let [security] = envelope.security_documents().collect::<Vec<_>>().try_into().expect("one header");
    let security = String::from_utf8(security).expect("UTF-8");
    assert!(security.ends_with(&format!("s:mustUnderstand='1'>{assertion}</w:Security>")), "{security}");
    for declared in ["xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"", "xmlns:saml2=\"urn:&quot;2\"", "xmlns=\"urn:default\""] {
        assert_eq!(security.matches(declared).count(), 1, "{security}");
    }
    assert_eq!(security.matches("xmlns:w=").count(), 1, "its own stays: {security}");
}

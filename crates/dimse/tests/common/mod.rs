//! What the tests of this crate share: a request, its answer, and PDUs as bytes.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use idr_dimse::association::negotiation::{Implementation, Policy, Request, Support};
use idr_dimse::codec::encode;
use idr_dimse::pdu::Pdu;

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
pub const COMMITMENT: &str = "1.2.840.10008.1.20.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

pub fn implementation() -> Implementation {
    Implementation { class_uid: "1.2.246.10.1.1".to_owned(), version_name: None }
}

/// Verification in context 1, CT Image Storage in context 3.
pub fn request() -> Request {
    let mut request = Request::new("CT01", "IDRSITE", implementation());
    request.propose(VERIFICATION, &[IMPLICIT]);
    request.propose(CT, &[EXPLICIT, IMPLICIT]);
    request
}

pub fn policy() -> Policy {
    let support = |transfer_syntaxes: &[&str]| Support {
        transfer_syntaxes: transfer_syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
        ..Support::default()
    };
    Policy {
        abstract_syntaxes: Arc::new(BTreeMap::from([
            (VERIFICATION.to_owned(), support(&[IMPLICIT])),
            (CT.to_owned(), support(&[IMPLICIT, EXPLICIT])),
        ])),
        ..Policy::default()
    }
}

pub fn bytes(pdu: &Pdu) -> Vec<u8> {
    let mut out = Vec::new();
    encode(pdu, &mut out).expect("the PDUs of the tests can be written");
    out
}

/// An item or sub-item of an association PDU.
pub fn item(item_type: u8, value: &[u8]) -> Vec<u8> {
    let mut item = vec![item_type, 0];
    item.extend((value.len() as u16).to_be_bytes());
    item.extend(value);
    item
}

/// A PDU with this body.
pub fn pdu(pdu_type: u8, body: &[u8]) -> Vec<u8> {
    let mut pdu = vec![pdu_type, 0];
    pdu.extend((body.len() as u32).to_be_bytes());
    pdu.extend(body);
    pdu
}

/// An A-ASSOCIATE-RQ (1) or -AC (2) with these items.
pub fn association(pdu_type: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend(b"IDRSITE         CT01            ");
    body.extend([0; 32]);
    body.extend(items.concat());
    pdu(pdu_type, &body)
}

pub fn application_context() -> Vec<u8> {
    item(0x10, b"1.2.840.10008.3.1.1.1")
}

/// A presentation context item: `context_type` 20H or 21H.
pub fn context(context_type: u8, id: u8, result: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let mut value = vec![id, 0, result, 0];
    value.extend(items.concat());
    item(context_type, &value)
}

pub fn proposed(id: u8) -> Vec<u8> {
    context(0x20, id, 0, &[item(0x30, CT.as_bytes()), item(0x40, IMPLICIT.as_bytes())])
}

/// A presentation data value as it stands in a P-DATA-TF.
pub fn pdv(context_id: u8, control: u8, data: &[u8]) -> Vec<u8> {
    let mut pdv = (2 + data.len() as u32).to_be_bytes().to_vec();
    pdv.extend([context_id, control]);
    pdv.extend(data);
    pdv
}

//! Refusal codes and their answers (profile 04 §12).

use std::fmt;

use idr_ihe::assertion::{AssertionError, Defect};

use crate::access::Gate;

/// A refusal code, `IDR-X-01` … `IDR-X-33`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the causes stand in xua.toml, one per code")]
pub enum Code {
    Missing = 1,
    Location = 2,
    Syntax = 3,
    Bound = 4,
    Shape = 5,
    TokenType = 6,
    Identifier = 7,
    SignatureCount = 8,
    SignatureShape = 9,
    Algorithm = 10,
    Mismatch = 11,
    Key = 12,
    Certificate = 13,
    Issuer = 14,
    Expired = 15,
    NotYetValid = 16,
    Lifetime = 17,
    Audience = 18,
    Confirmation = 19,
    TlsClient = 20,
    Replay = 21,
    Attribute = 22,
    ValueSet = 23,
    Contradiction = 24,
    Class = 25,
    Patient = 26,
    CareBasis = 27,
    JwtHeader = 28,
    JwtKey = 29,
    JwtBinding = 30,
    Carriage = 31,
    Unavailable = 32,
    Withdrawn = 33,
}

impl Code {
    /// 13 for `IDR-X-13`.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn because(self, what: &'static str) -> Refusal {
        Refusal { code: self, what, store_rule: false }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IDR-X-{:02}", self.number())
    }
}

/// Why a request is refused: the code for the peer, a sentence for the journal. Neither holds anything of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {what}")]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// What is wrong, and where.
    pub what: &'static str,
    /// The refusal of store rule S3 (05 §4.2), which is 403.
    pub store_rule: bool,
}

impl Refusal {
    /// V18: the assertion or token was used before.
    pub fn replayed() -> Self {
        Code::Replay.because("the assertion was used before, or by another TLS client")
    }

    /// The TLS client is nobody here: no organisation, no row, or suspended (10 §2).
    pub fn stranger() -> Self {
        Code::TlsClient.because("the TLS client is not registered here")
    }

    /// V18, V19: replay or audit store cannot be reached or is full. Never let through.
    pub fn unavailable(what: &'static str) -> Self {
        Code::Unavailable.because(what)
    }

    /// Store rule S3 (05 §4.2): neither own register nor a storage authorisation.
    pub fn store_rule() -> Self {
        Self { store_rule: true, ..Code::Contradiction.because("the assertion's register may not store this") }
    }
}

impl From<Gate> for Refusal {
    /// The code that 05 §4.1 gives a gate.
    fn from(gate: Gate) -> Self {
        let (code, what) = match gate {
            Gate::G1 => (Code::Expired, "the assertion has expired"),
            Gate::G2 => (Code::Class, "the operation is not allowed for this kind of subject and purpose"),
            Gate::G3 => (Code::Patient, "the request is about another patient than the assertion"),
            Gate::G4 => (Code::Attribute, "controller, register or register specifier is missing"),
            Gate::G5 => (Code::CareBasis, "care basis or emergency reason is missing"),
            Gate::S3 => return Self::store_rule(),
        };
        code.because(what)
    }
}

impl From<AssertionError> for Refusal {
    fn from(error: AssertionError) -> Self {
        let code = match error.defect {
            Defect::Missing => Code::Missing,
            Defect::Location => Code::Location,
            Defect::Syntax => Code::Syntax,
            Defect::Bound => Code::Bound,
            Defect::TokenType => Code::TokenType,
            Defect::Identifier => Code::Identifier,
            Defect::SignatureCount => Code::SignatureCount,
            Defect::SignatureShape => Code::SignatureShape,
            Defect::Algorithm => Code::Algorithm,
            Defect::Mismatch => Code::Mismatch,
            Defect::Key => Code::Key,
            Defect::Certificate => Code::Certificate,
            Defect::Header => Code::JwtHeader,
            Defect::Encoding => Code::Carriage,
            _ => Code::Shape,
        };
        code.because(error.what)
    }
}

/// How a refusal is answered (04 §12). The reason text of a fault is always [`Answer::REASON`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The code; in `env:Detail/idr:Refusal/@code` (namespace `urn:x-idr:fault`) if `detail`.
    pub code: Code,
    /// `fault_detail`.
    pub detail: bool,
    /// `env:Receiver`, else `env:Sender`.
    pub receiver: bool,
    /// `env:Subcode/env:Value`, `wsse:…`; none for codes that SOAP does not have.
    pub subcode: Option<String>,
    /// HTTP status of the SOAP fault.
    pub soap_http_status: u16,
    /// HTTP status of DICOMweb, FHIR and light queries.
    pub http_status: u16,
    /// `WWW-Authenticate` of a 401.
    pub challenge: Option<String>,
    /// `Retry-After` in seconds.
    pub retry_after_seconds: Option<u32>,
}

impl Answer {
    /// `env:Reason/env:Text`, xml:lang en.
    pub const REASON: &'static str = "The assertion was refused.";
}

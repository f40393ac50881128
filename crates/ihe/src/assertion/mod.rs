//! Assertions: SAML 2.0 and JWT, built and checked without IO (ITI TF-2 §3.40, SAML 2.0 Core, RFC 7515).
//!
//! Sending: [`build`] makes an unsigned SAML assertion of an [`Assertion`], an [`XmlSigner`] signs it; [`jws::sign`] makes a JWT.
//! Receiving: [`Presented::read`] takes an envelope or a lone assertion through the steps V1–V5 of profile 04 §11,
//! [`Certificate`] and [`TrustStore`] answer V6, and [`Presented::verify`] runs V8–V10 and returns the [`Assertion`] that was
//! signed. [`jws::Token`] is the JWT twin. Who may say what (V7, V11–V19) is the profile's.
//!
//! # What is read is what was signed
//! The assertion element is found by its place, never by its id. Its canonical bytes are made from that node, digested, compared,
//! parsed again, and only this second tree is read into values. A signature wrapped around another element can therefore be
//! valid without anything unsigned being read.
//!
//! # Bounds
//! [`Limits`]: bytes, depth, elements, attributes, namespaces and value lengths of the header part are counted by a pass that
//! keeps nothing, before a tree is built. The envelope's body is only passed over.
//!
//! # Failure
//! [`AssertionError`] carries the step's refusal code and a fixed sentence; nothing of the message is in it.

mod algorithm;
mod build;
mod certificate;
mod instant;
pub mod jws;
mod model;
mod name;
mod presented;
mod read;
mod revocation;
mod scan;
mod signature;
mod tree;
mod trust_store;

pub use algorithm::{Curve, Hash, KeyType, PublicKey, SignError, SignatureMethod, Signer, SigningKey, sha256};
pub use build::{EnvelopedSigner, Unsigned, XmlSigner, build};
pub use certificate::Certificate;
pub use instant::parse_instant;
pub use model::{Assertion, Attribute, Confirmation, ConfirmationData, NameId, Value, ValueElement};
pub use presented::{Presented, SecurityTimestamp, Signed};
pub use revocation::{CrlError, Revocation, RevocationMode, RevocationStatus};
pub use scan::{Carriage, Limits};
pub use signature::{Bergshamra, XmlVerifier};
pub use trust_store::{IssuerPath, TrustStore, TrustStoreError};

/// Namespace of SAML 2.0 assertions.
pub const NS_SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// Namespace of SAML 1.x assertions, which are refused.
pub const NS_SAML1: &str = "urn:oasis:names:tc:SAML:1.0:assertion";
/// Namespace of XML Signature.
pub const NS_DS: &str = "http://www.w3.org/2000/09/xmldsig#";
/// Namespace of `wsse:Security`.
pub const NS_WSSE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
/// Namespace of `wsu:Timestamp` and `wsu:Id`.
pub const NS_WSU: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
/// Namespace of SOAP 1.2.
pub const NS_SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
/// Namespace of HL7 v3 data types, in which coded attribute values stand.
pub const NS_HL7: &str = "urn:hl7-org:v3";
/// `cm:bearer`.
pub const CONFIRMATION_BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
/// `cm:holder-of-key`.
pub const CONFIRMATION_HOLDER_OF_KEY: &str = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key";
/// `nameid-format:persistent`.
pub const NAMEID_PERSISTENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
/// `nameid-format:entity`.
pub const NAMEID_ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";
/// `attrname-format:uri`.
pub const NAME_FORMAT_URI: &str = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri";

/// What is wrong with an assertion or token: the causes of profile 04 §12 that can be told without the trust file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Defect {
    /// No security header or no assertion.
    Missing = 1,
    /// Several headers, assertions or tokens, or an assertion elsewhere.
    Location = 2,
    /// DTD, entity, processing instruction, comment, CDATA, not UTF-8, not well-formed.
    Syntax = 3,
    /// Size, depth or count.
    Bound = 4,
    /// Element or attribute not allowed, missing, out of order, or of a wrong form.
    Shape = 5,
    /// Encrypted assertion, SAML 1.x, other token.
    TokenType = 6,
    /// ID malformed or not unique.
    Identifier = 7,
    /// No signature, or more than one.
    SignatureCount = 8,
    /// Reference, transform, object, or mismatch when read again.
    SignatureShape = 9,
    /// Algorithm not allowed.
    Algorithm = 10,
    /// Digest or signature value wrong.
    Mismatch = 11,
    /// KeyInfo, or a key that does not fit the method.
    Key = 12,
    /// Certificate not trusted, not valid now, revoked, or of a wrong profile.
    Certificate = 13,
    /// JWT header or JSON form.
    Header = 28,
    /// Encoding of a token.
    Encoding = 31,
}

impl Defect {
    /// Number of the refusal code: 13 for `IDR-X-13`.
    pub fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn because(self, what: &'static str) -> AssertionError {
        AssertionError { defect: self, what }
    }
}

/// Why an assertion is refused: the code and a sentence for the journal that holds nothing of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("IDR-X-{:02}: {what}", defect.number())]
pub struct AssertionError {
    /// The kind, which is the code on the wire.
    pub defect: Defect,
    /// What is wrong, and where.
    pub what: &'static str,
}

#[cfg(test)]
mod tests;

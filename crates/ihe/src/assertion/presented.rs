//! An assertion as presented: located and of the right shape, not yet verified (profile 04 §11 V1–V5, V8–V10).

use jiff::Timestamp;
use uppsala::{Document, NodeId, Parser};

use super::algorithm::{PublicKey, SignatureMethod};
use super::certificate::Certificate;
use super::model::Assertion;
use super::name::{decimal_equals, names_equal};
use super::read::{self, Tree};
use super::scan::{Carriage, Limits, Scanned, scan};
use super::signature::{SignatureParts, XmlVerifier, shape};
use super::tree::{Element, Sequence, is_xml_space};
use super::{AssertionError, Defect, NS_DS, NS_SAML, NS_SAML1, NS_SOAP, NS_WSSE, NS_WSU};

const NS_XOP: &str = "http://www.w3.org/2004/08/xop/include";
const ROLE_ULTIMATE: &str = "http://www.w3.org/2003/05/soap-envelope/role/ultimateReceiver";

/// `wsu:Timestamp` beside the assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityTimestamp {
    /// `wsu:Expires`.
    pub expires: Option<Timestamp>,
}

/// An assertion that passed V1–V5. Its values are not to be trusted: only the issuer and the certificate are told, for V6 and V7.
pub struct Presented {
    document: Document<'static>,
    id: String,
    issuer: String,
    parts: SignatureParts,
    timestamp: Option<SecurityTimestamp>,
    received: Vec<u8>,
}

/// What was signed.
pub struct Signed {
    /// The values, read from [`Signed::canonical`] alone.
    pub assertion: Assertion,
    /// Canonical bytes of the assertion without its signature.
    pub canonical: Vec<u8>,
}

impl Presented {
    /// Steps V1–V5 over an envelope, or a lone assertion.
    ///
    /// # Errors
    /// [`AssertionError`] with the code of the first step that fails: IDR-X-01 … -10, -12.
    pub fn read(bytes: &[u8], carriage: Carriage, limits: &Limits, allow_ed25519: bool) -> Result<Self, AssertionError> {
        let scanned = scan(bytes, carriage, limits)?;
        let (assertion, timestamp) = locate(&scanned, carriage)?;
        let document = &scanned.document;
        let element = Element { document, node: assertion };
        let shaped = read::assertion(element, Tree::Message)?;
        if scanned.ids.iter().filter(|id| **id == shaped.id).count() != 1 {
            return Err(Defect::Identifier.because("Assertion/@ID is not unique in the message"));
        }
        let parts = shape(element, &shaped.id, limits, allow_ed25519)?;
        Ok(Self { id: shaped.id, issuer: shaped.issuer, parts, timestamp, document: scanned.document, received: scanned.received })
    }

    /// `Issuer`, not yet verified.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// DER of the certificate in `KeyInfo`, as sent.
    pub fn signing_certificate(&self) -> &[u8] {
        &self.parts.certificate
    }

    /// The assertion element as received, signature included: the evidence.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Signature method.
    pub fn method(&self) -> SignatureMethod {
        self.parts.method
    }

    /// `wsu:Timestamp` of the security header.
    pub fn timestamp(&self) -> Option<SecurityTimestamp> {
        self.timestamp
    }

    /// The message's part of V6: `X509SubjectName` and `X509IssuerSerial` match the certificate, key and value fit the method.
    ///
    /// # Errors
    /// [`Defect::Key`].
    pub fn fits(&self, certificate: &Certificate) -> Result<(), AssertionError> {
        if let Some(name) = &self.parts.subject_name
            && !names_equal(name, certificate.subject())
        {
            return Err(Defect::Key.because("X509SubjectName is not that of the certificate"));
        }
        if let Some((name, serial)) = &self.parts.issuer_serial
            && !(names_equal(name, certificate.issuer()) && decimal_equals(serial, certificate.serial()))
        {
            return Err(Defect::Key.because("X509IssuerSerial is not that of the certificate"));
        }
        certificate.public_key()?.fits(self.parts.method, &self.parts.value)
    }

    /// Steps V8–V10 with the key of V6.
    ///
    /// # Errors
    /// [`Defect::Mismatch`], or [`Defect::SignatureShape`] if the signed bytes do not read as the same assertion.
    pub fn verify(&self, key: &PublicKey, verifier: &dyn XmlVerifier, limits: &Limits) -> Result<Signed, AssertionError> {
        let canonical = verifier.verify(&self.document, &self.parts, key, limits)?;
        let again = Defect::SignatureShape.because("the signed bytes do not read as this assertion");
        let text = std::str::from_utf8(&canonical).map_err(|_| again)?;
        let document = Parser::new().with_forbid_dtd(true).with_forbid_entities(true).parse(text).map_err(|_| again)?.into_static();
        let root = Element { document: &document, node: document.document_element().ok_or(again)? };
        if !root.is(NS_SAML, "Assertion") || root.descendants().any(|e| e.is(NS_DS, "Signature")) {
            return Err(again);
        }
        let assertion = read::assertion(root, Tree::Canonical).map_err(|_| again)?;
        if assertion.id != self.id || assertion.issuer != self.issuer {
            return Err(again);
        }
        Ok(Signed { assertion, canonical })
    }
}

/// V3: the one assertion at its place.
fn locate(scanned: &Scanned, carriage: Carriage) -> Result<(NodeId, Option<SecurityTimestamp>), AssertionError> {
    let document = &scanned.document;
    let root = document.document_element().ok_or(Defect::Missing.because("an empty document"))?;
    let root = Element { document, node: root };
    if carriage == Carriage::Alone {
        if root.is(NS_SAML1, "Assertion") || root.is(NS_SAML, "EncryptedAssertion") {
            return Err(Defect::TokenType.because("a SAML 1.x or encrypted assertion"));
        }
        if !root.is(NS_SAML, "Assertion") {
            return Err(Defect::Missing.because("the document element is no SAML 2.0 assertion"));
        }
        return if scanned.assertions == 1 {
            Ok((root.node, None))
        } else {
            Err(Defect::Location.because("an assertion inside the assertion"))
        };
    }
    if scanned.security_headers == 0 {
        return Err(Defect::Missing.because("no wsse:Security header"));
    }
    let header = root.child_elements().find(|e| e.is(NS_SOAP, "Header")).ok_or(Defect::Missing.because("the envelope has no header"))?;
    let mut headers = header.child_elements().filter(|e| e.is(NS_WSSE, "Security"));
    let (Some(security), None, 1) = (headers.next(), headers.next(), scanned.security_headers) else {
        return Err(Defect::Location.because("not exactly one wsse:Security, in the header of the envelope"));
    };
    if header.descendants().any(|e| e.is(NS_XOP, "Include")) {
        return Err(Defect::Location.because("xop:Include in the header"));
    }
    let role = security.attributes().iter().find(|a| a.name.namespace_uri.is_some() && matches!(&*a.name.local_name, "role" | "actor"));
    if role.is_some_and(|role| role.value.trim_matches(is_xml_space) != ROLE_ULTIMATE) {
        return Err(Defect::Location.because("wsse:Security is for another role"));
    }
    let (mut assertion, mut timestamp, mut others) = (None, None, Vec::new());
    for child in security.children(Defect::Location)? {
        if child.is(NS_SAML, "Assertion") && assertion.is_none() {
            assertion = Some(child);
        } else if child.is(NS_WSU, "Timestamp") && timestamp.is_none() {
            timestamp = Some(child);
        } else {
            others.push(child);
        }
    }
    match assertion {
        None if others.is_empty() => Err(Defect::Missing.because("wsse:Security holds no assertion")),
        None => Err(Defect::TokenType.because("wsse:Security holds another token than a SAML 2.0 assertion")),
        Some(_) if scanned.assertions != 1 => Err(Defect::Location.because("more than one assertion in the envelope")),
        Some(_) if !others.is_empty() => Err(Defect::Location.because("wsse:Security holds something beside the assertion")),
        Some(found) => Ok((found.node, timestamp.map(security_timestamp).transpose()?)),
    }
}

fn security_timestamp(element: Element<'_>) -> Result<SecurityTimestamp, AssertionError> {
    let mut children = Sequence::of(element, Defect::Shape)?;
    let instant = |e: Element<'_>| {
        let text = e.text(Defect::Shape)?;
        text.trim_matches(is_xml_space).parse::<Timestamp>().map_err(|_| Defect::Shape.because("wsu:Timestamp holds no instant"))
    };
    children.optional(NS_WSU, "Created").map(instant).transpose()?;
    let expires = children.optional(NS_WSU, "Expires").map(instant).transpose()?;
    children.end("wsu:Timestamp has another child than Created and Expires")?;
    Ok(SecurityTimestamp { expires })
}

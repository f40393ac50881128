//! An assertion as XML, and its enveloped signature (profile 04 §3, §6, §13).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::algorithm::{Hash, SignError, Signer};
use super::model::{Assertion, NameId, Value};
use super::signature::{ENVELOPED, EXC_C14N, canonical};
use super::{NAME_FORMAT_URI, NAMEID_PERSISTENT, NS_DS, NS_SAML};

const NS_XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// An assertion without its signature, open at the place where the signature goes: directly after `Issuer`.
#[derive(Clone)]
pub struct Unsigned {
    id: String,
    head: String,
    tail: String,
}

impl Unsigned {
    /// `@ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole, as it is digested.
    pub fn to_xml(&self) -> String {
        format!("{}{}", self.head, self.tail)
    }

    /// The whole with a signature in its place.
    pub fn with_signature(&self, signature: &str) -> String {
        format!("{}{signature}{}", self.head, self.tail)
    }
}

/// Writes an assertion in schema order, with no white space between elements.
///
/// # Errors
/// [`SignError::Content`] if a list is empty, a value has no XML form, or a text has a character that XML does not have.
pub fn build(assertion: &Assertion) -> Result<Unsigned, SignError> {
    if assertion.audiences.is_empty() || assertion.attributes.is_empty() {
        return Err(SignError::Content("an assertion without audience or attribute"));
    }
    let mut head = String::with_capacity(512);
    write!(
        head,
        r#"<saml2:Assertion xmlns:saml2="{NS_SAML}" ID="{}" IssueInstant="{}" Version="2.0"><saml2:Issuer>{}</saml2:Issuer>"#,
        attribute(&assertion.id)?,
        assertion.issue_instant,
        text(&assertion.issuer)?,
    )
    .expect("a String takes all text");
    let mut out = Writer(String::with_capacity(6144));
    out.raw("<saml2:Subject>");
    out.name_id(&assertion.name_id)?;
    let confirmation = &assertion.confirmation;
    out.open("saml2:SubjectConfirmation", &[("Method", Some(&confirmation.method))])?;
    if let Some(name_id) = &confirmation.name_id {
        out.name_id(name_id)?;
    }
    if let Some(data) = &confirmation.data {
        let until = data.not_on_or_after.map(|t| t.to_string());
        let key = data.certificate.is_some();
        out.open(
            "saml2:SubjectConfirmationData",
            &[
                ("xmlns:xsi", key.then_some(NS_XSI)),
                ("NotOnOrAfter", until.as_deref()),
                ("Recipient", data.recipient.as_deref()),
                ("xsi:type", key.then_some("saml2:KeyInfoConfirmationDataType")),
            ],
        )?;
        if let Some(certificate) = &data.certificate {
            out.raw(&key_info(certificate, true));
        }
        out.raw("</saml2:SubjectConfirmationData>");
    }
    out.raw("</saml2:SubjectConfirmation></saml2:Subject>");
    let (not_before, not_on_or_after) = (assertion.not_before.to_string(), assertion.not_on_or_after.to_string());
    out.open("saml2:Conditions", &[("NotBefore", Some(&not_before)), ("NotOnOrAfter", Some(&not_on_or_after))])?;
    out.raw("<saml2:AudienceRestriction>");
    for audience in &assertion.audiences {
        out.element("saml2:Audience", audience)?;
    }
    out.raw("</saml2:AudienceRestriction>");
    if assertion.one_time_use {
        out.raw("<saml2:OneTimeUse/>");
    }
    out.raw("</saml2:Conditions>");
    let (instant, end) = (assertion.authn_instant.to_string(), assertion.session_not_on_or_after.map(|t| t.to_string()));
    out.open(
        "saml2:AuthnStatement",
        &[("AuthnInstant", Some(&instant)), ("SessionIndex", assertion.session_index.as_deref()), ("SessionNotOnOrAfter", end.as_deref())],
    )?;
    out.raw("<saml2:AuthnContext>");
    out.element("saml2:AuthnContextClassRef", &assertion.authn_context)?;
    out.raw("</saml2:AuthnContext></saml2:AuthnStatement><saml2:AttributeStatement>");
    for attribute in &assertion.attributes {
        out.open("saml2:Attribute", &[("Name", Some(&attribute.name)), ("NameFormat", Some(NAME_FORMAT_URI))])?;
        for value in &attribute.values {
            out.raw("<saml2:AttributeValue>");
            out.value(value)?;
            out.raw("</saml2:AttributeValue>");
        }
        out.raw("</saml2:Attribute>");
    }
    out.raw("</saml2:AttributeStatement></saml2:Assertion>");
    Ok(Unsigned { id: assertion.id.clone(), head, tail: out.0 })
}

struct Writer(String);

impl Writer {
    fn raw(&mut self, xml: &str) {
        self.0.push_str(xml);
    }

    fn open(&mut self, name: &str, attributes: &[(&str, Option<&str>)]) -> Result<(), SignError> {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            if let Some(value) = value {
                write!(self.0, r#" {name}="{}""#, attribute(value)?).expect("a String takes all text");
            }
        }
        self.0.push('>');
        Ok(())
    }

    fn element(&mut self, name: &str, content: &str) -> Result<(), SignError> {
        write!(self.0, "<{name}>{}</{name}>", text(content)?).expect("a String takes all text");
        Ok(())
    }

    fn name_id(&mut self, id: &NameId) -> Result<(), SignError> {
        self.open(
            "saml2:NameID",
            &[
                ("Format", Some(NAMEID_PERSISTENT)),
                ("NameQualifier", id.name_qualifier.as_deref()),
                ("SPProvidedID", id.sp_provided_id.as_deref()),
            ],
        )?;
        self.0.push_str(&text(&id.value)?);
        self.raw("</saml2:NameID>");
        Ok(())
    }

    fn value(&mut self, value: &Value) -> Result<(), SignError> {
        match value {
            Value::Text(content) => self.0.push_str(&text(content)?),
            Value::Element(element) => {
                write!(self.0, r#"<{} xmlns="{}""#, element.name, attribute(&element.namespace)?).expect("a String takes all text");
                for (name, value) in &element.attributes {
                    write!(self.0, r#" {name}="{}""#, attribute(value)?).expect("a String takes all text");
                }
                self.raw("/>");
            }
            Value::Other => return Err(SignError::Content("an attribute value of no known form")),
        }
        Ok(())
    }
}

/// Escaped as exclusive C14N writes text.
fn text(value: &str) -> Result<String, SignError> {
    escaped(value, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#xD;"),
        _ => None,
    })
}

/// Escaped as exclusive C14N writes attribute values.
fn attribute(value: &str) -> Result<String, SignError> {
    escaped(value, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '"' => Some("&quot;"),
        '\t' => Some("&#x9;"),
        '\n' => Some("&#xA;"),
        '\r' => Some("&#xD;"),
        _ => None,
    })
}

fn escaped(value: &str, replace: impl Fn(char) -> Option<&'static str>) -> Result<String, SignError> {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if c < ' ' && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}') {
            return Err(SignError::Content("a character that XML does not have"));
        }
        match replace(c) {
            Some(entity) => out.push_str(entity),
            None => out.push(c),
        }
    }
    Ok(out)
}

fn key_info(certificate: &[u8], declare: bool) -> String {
    let declaration = if declare { format!(r#" xmlns:ds="{NS_DS}""#) } else { String::new() };
    let certificate = STANDARD.encode(certificate);
    format!("<ds:KeyInfo{declaration}><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>")
}

/// Signs an assertion enveloped: the seam over the XML signature library.
pub trait XmlSigner {
    /// The assertion with its signature.
    ///
    /// # Errors
    /// [`SignError`].
    fn sign(&self, unsigned: &Unsigned) -> Result<String, SignError>;
}

/// [`XmlSigner`] with bergshamra's canonicalization, a [`Signer`] and the DER of its certificate. SHA-256 digest; the method is
/// [`Signer::xml_method`].
pub struct EnvelopedSigner<'a> {
    /// The key.
    pub key: &'a dyn Signer,
    /// DER of the signing certificate, which goes into `KeyInfo` alone.
    pub certificate: &'a [u8],
}

impl XmlSigner for EnvelopedSigner<'_> {
    fn sign(&self, unsigned: &Unsigned) -> Result<String, SignError> {
        let digest = STANDARD.encode(Hash::Sha256.digest(&canonical_root(&unsigned.to_xml(), None)?));
        let method = self.key.xml_method();
        let signed_info = format!(
            concat!(
                r#"<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{c14n}"></ds:CanonicalizationMethod>"#,
                r#"<ds:SignatureMethod Algorithm="{method}"></ds:SignatureMethod>"#,
                r##"<ds:Reference URI="#{id}"><ds:Transforms><ds:Transform Algorithm="{enveloped}"></ds:Transform>"##,
                r#"<ds:Transform Algorithm="{c14n}"></ds:Transform></ds:Transforms>"#,
                r#"<ds:DigestMethod Algorithm="{digest_method}"></ds:DigestMethod><ds:DigestValue>{digest}</ds:DigestValue>"#,
                r#"</ds:Reference></ds:SignedInfo>"#,
            ),
            c14n = EXC_C14N,
            method = method.uri(),
            id = unsigned.id,
            enveloped = ENVELOPED,
            digest_method = Hash::Sha256.uri(),
            digest = digest,
        );
        let open = format!(r#"<ds:Signature xmlns:ds="{NS_DS}">"#);
        let bytes = canonical_root(&format!("{open}{signed_info}</ds:Signature>"), Some("SignedInfo"))?;
        let value = STANDARD.encode(self.key.sign(method, &bytes)?);
        let key_info = key_info(self.certificate, false);
        Ok(unsigned.with_signature(&format!("{open}{signed_info}<ds:SignatureValue>{value}</ds:SignatureValue>{key_info}</ds:Signature>")))
    }
}

/// Canonical bytes of the document element, or of its child of a name.
fn canonical_root(xml: &str, child: Option<&str>) -> Result<Vec<u8>, SignError> {
    let document = uppsala::parse(xml).map_err(|_| SignError::Content("not well-formed"))?;
    let root = document.document_element().ok_or(SignError::Content("empty"))?;
    let node = match child {
        None => root,
        Some(name) => document.first_child_element_by_name_ns(root, NS_DS, name).ok_or(SignError::Content("no such child"))?,
    };
    canonical(&document, node, None, &[]).map_err(|_| SignError::Content("no canonical form"))
}

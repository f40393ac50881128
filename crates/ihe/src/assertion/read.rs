//! The shape of an assertion and its values (profile 04 §3, §11 V4): one reading, used on the message and on the signed bytes.

use jiff::Timestamp;

use super::model::{Assertion, Attribute, Confirmation, ConfirmationData, NameId, Value, ValueElement};
use super::tree::{Element, NS_XSI, Sequence, is_blank, is_xml_space};
use super::{AssertionError, Defect, NAME_FORMAT_URI, NAMEID_ENTITY, NAMEID_PERSISTENT, NS_DS, NS_HL7, NS_SAML, parse_instant};

const NS_XS: &str = "http://www.w3.org/2001/XMLSchema";
const SHAPE: Defect = Defect::Shape;

/// Which tree is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// The message: signatures may stand after `Issuer`, `xsi:type` is judged.
    Message,
    /// The canonical bytes: no signature; a type prefix may have lost its declaration and is not read.
    Canonical,
}

/// Reads an assertion element.
///
/// # Errors
/// [`Defect::Shape`], and [`Defect::Identifier`] for the form of `@ID`.
pub(super) fn assertion(element: Element<'_>, tree: Tree) -> Result<Assertion, AssertionError> {
    let reader = Reader { tree };
    reader.assertion(element)
}

struct Reader {
    tree: Tree,
}

impl Reader {
    fn assertion(&self, element: Element<'_>) -> Result<Assertion, AssertionError> {
        element.allow(&["Version", "ID", "IssueInstant"], true, SHAPE)?;
        self.typed(element, &[(NS_SAML, "AssertionType")])?;
        if element.attribute("Version") != Some("2.0") {
            return Err(SHAPE.because("Assertion/@Version is not 2.0"));
        }
        let id = element.attribute("ID").ok_or(Defect::Identifier.because("Assertion/@ID is missing"))?;
        if !is_assertion_id(id) {
            return Err(Defect::Identifier.because("Assertion/@ID is not a letter or _ and 15 to 127 of [A-Za-z0-9_.-]"));
        }
        let issue_instant = instant(element, "IssueInstant", "Assertion/@IssueInstant is missing or not xs:dateTime in Z")?;

        let mut children = Sequence::of(element, SHAPE)?;
        let issuer = issuer(children.required(NS_SAML, "Issuer", "Issuer is missing or not first")?)?;
        if self.tree == Tree::Message {
            while children.optional(NS_DS, "Signature").is_some() {}
        }
        let (name_id, confirmation) = self.subject(children.required(NS_SAML, "Subject", "Subject is missing or out of order")?)?;
        let conditions = conditions(children.required(NS_SAML, "Conditions", "Conditions is missing or out of order")?)?;
        let (mut authn, mut attributes) = (None, None);
        while let Some(child) = children.next() {
            if child.is(NS_SAML, "AuthnStatement") && authn.is_none() {
                authn = Some(authn_statement(child)?);
            } else if child.is(NS_SAML, "AttributeStatement") && attributes.is_none() {
                attributes = Some(self.attribute_statement(child)?);
            } else {
                return Err(SHAPE.because("a child of Assertion that is not allowed, repeated or out of order"));
            }
        }
        let authn = authn.ok_or(SHAPE.because("AuthnStatement is missing"))?;
        Ok(Assertion {
            id: id.to_owned(),
            issue_instant,
            issuer,
            name_id,
            confirmation,
            not_before: conditions.not_before,
            not_on_or_after: conditions.not_on_or_after,
            audiences: conditions.audiences,
            one_time_use: conditions.one_time_use,
            authn_instant: authn.instant,
            session_index: authn.session_index,
            session_not_on_or_after: authn.session_not_on_or_after,
            authn_context: authn.context,
            attributes: attributes.ok_or(SHAPE.because("AttributeStatement is missing"))?,
        })
    }

    fn subject(&self, element: Element<'_>) -> Result<(NameId, Confirmation), AssertionError> {
        element.allow(&[], false, SHAPE)?;
        let mut children = Sequence::of(element, SHAPE)?;
        let id =
            name_id(children.required(NS_SAML, "NameID", "Subject/NameID is missing, or BaseID or EncryptedID stands in its place")?)?;
        let confirmation = self.confirmation(children.required(NS_SAML, "SubjectConfirmation", "SubjectConfirmation is missing")?)?;
        children.end("more than one SubjectConfirmation, or another child of Subject")?;
        Ok((id, confirmation))
    }

    fn confirmation(&self, element: Element<'_>) -> Result<Confirmation, AssertionError> {
        element.allow(&["Method"], false, SHAPE)?;
        let method = element.attribute("Method").ok_or(SHAPE.because("SubjectConfirmation/@Method is missing"))?.to_owned();
        let mut children = Sequence::of(element, SHAPE)?;
        let name_id = children.optional(NS_SAML, "NameID").map(name_id).transpose()?;
        let data = children.optional(NS_SAML, "SubjectConfirmationData").map(|data| self.confirmation_data(data)).transpose()?;
        children.end("a child of SubjectConfirmation that is not allowed or out of order")?;
        Ok(Confirmation { method, name_id, data })
    }

    fn confirmation_data(&self, element: Element<'_>) -> Result<ConfirmationData, AssertionError> {
        element.allow(&["NotOnOrAfter", "Recipient", "Address"], true, SHAPE)?;
        let typed = self.typed(element, &[(NS_SAML, "KeyInfoConfirmationDataType")])?;
        let not_on_or_after = optional_instant(element, "NotOnOrAfter", "SubjectConfirmationData/@NotOnOrAfter is not xs:dateTime in Z")?;
        let mut children = Sequence::of(element, SHAPE)?;
        let certificate = match children.optional(NS_DS, "KeyInfo") {
            None => None,
            Some(_) if !typed => {
                return Err(SHAPE.because("SubjectConfirmationData with KeyInfo has no xsi:type KeyInfoConfirmationDataType"));
            }
            Some(key_info) => {
                let mut inner = Sequence::of(key_info.allow(&[], false, SHAPE)?, SHAPE)?;
                let data =
                    inner.required(NS_DS, "X509Data", "KeyInfo of SubjectConfirmationData has no X509Data")?.allow(&[], false, SHAPE)?;
                inner.end("KeyInfo of SubjectConfirmationData has more than one child")?;
                let mut inner = Sequence::of(data, SHAPE)?;
                let certificate = inner.required(NS_DS, "X509Certificate", "X509Data of SubjectConfirmationData has no X509Certificate")?;
                inner.end("X509Data of SubjectConfirmationData has more than one child")?;
                Some(base64(&certificate.allow(&[], false, SHAPE)?.text(SHAPE)?).ok_or(SHAPE.because("X509Certificate is not base64"))?)
            }
        };
        children.end("a child of SubjectConfirmationData that is not allowed or repeated")?;
        Ok(ConfirmationData { not_on_or_after, recipient: element.attribute("Recipient").map(str::to_owned), certificate })
    }

    fn attribute_statement(&self, element: Element<'_>) -> Result<Vec<Attribute>, AssertionError> {
        element.allow(&[], false, SHAPE)?;
        let attributes: Vec<Attribute> =
            element.children(SHAPE)?.into_iter().map(|child| self.attribute(child)).collect::<Result<_, _>>()?;
        if attributes.is_empty() { Err(SHAPE.because("AttributeStatement has no Attribute")) } else { Ok(attributes) }
    }

    fn attribute(&self, element: Element<'_>) -> Result<Attribute, AssertionError> {
        if !element.is(NS_SAML, "Attribute") {
            return Err(SHAPE.because("a child of AttributeStatement that is no Attribute"));
        }
        // FriendlyName is for people and names nothing (SAML Core §2.7.3.1).
        element.allow(&["Name", "NameFormat", "FriendlyName"], false, SHAPE)?;
        if element.attribute("NameFormat").is_some_and(|format| format != NAME_FORMAT_URI) {
            return Err(SHAPE.because("Attribute/@NameFormat is not attrname-format:uri"));
        }
        let name = element.attribute("Name").ok_or(SHAPE.because("Attribute/@Name is missing"))?;
        if !(1..=1024).contains(&name.len()) {
            return Err(SHAPE.because("Attribute/@Name is empty or too long"));
        }
        let values = element.children(SHAPE)?.into_iter().map(|child| self.value(child)).collect::<Result<_, _>>()?;
        Ok(Attribute { name: name.to_owned(), values })
    }

    fn value(&self, element: Element<'_>) -> Result<Value, AssertionError> {
        if !element.is(NS_SAML, "AttributeValue") {
            return Err(SHAPE.because("a child of Attribute that is no AttributeValue"));
        }
        element.allow(&[], true, SHAPE)?;
        let mut inner = element.child_elements();
        let Some(first) = inner.next() else {
            self.typed(element, &[(NS_XS, "string"), (NS_XS, "anyURI"), (NS_XS, "dateTime"), (NS_XS, "anyType")])?;
            return Ok(Value::Text(element.text(SHAPE)?));
        };
        let hl7 = [(NS_HL7, "CE"), (NS_HL7, "CD"), (NS_HL7, "CV"), (NS_HL7, "II"), (NS_XS, "anyType")];
        self.typed(element, &hl7)?;
        let name = first.name().expect("a child element has a name");
        let namespace = name.namespace_uri.as_deref().unwrap_or_default();
        // An unknown attribute may carry anything that is well-formed; only what can be a coded value is read.
        let alone = inner.next().is_none() && element.children(SHAPE).is_ok();
        if !alone || first.child_elements().next().is_some() || !first.text(SHAPE).is_ok_and(|text| is_blank(&text)) {
            return Ok(Value::Other);
        }
        if namespace == NS_HL7 {
            self.typed(first, &hl7)?;
        }
        let mut read = ValueElement {
            namespace: namespace.to_owned(),
            name: name.local_name.to_string(),
            attributes: Vec::new(),
            foreign_attributes: false,
        };
        for attribute in first.attributes() {
            match attribute.name.namespace_uri.as_deref() {
                None => read.attributes.push((attribute.name.local_name.to_string(), attribute.value.to_string())),
                Some(NS_XSI) if attribute.name.local_name == "type" => {}
                Some(_) => read.foreign_attributes = true,
            }
        }
        Ok(Value::Element(read))
    }

    /// Whether an `xsi:type` is there; refuses one that names no type of `known`.
    fn typed(&self, element: Element<'_>, known: &[(&str, &str)]) -> Result<bool, AssertionError> {
        let Some(declared) = element.attribute_ns(NS_XSI, "type") else { return Ok(false) };
        if self.tree == Tree::Canonical {
            return Ok(true);
        }
        let (prefix, name) = declared.trim_matches(is_xml_space).split_once(':').unwrap_or(("", declared.trim_matches(is_xml_space)));
        let namespace = element.namespace_of(prefix).unwrap_or_default();
        if known.contains(&(namespace, name)) { Ok(true) } else { Err(SHAPE.because("xsi:type names a type that does not belong here")) }
    }
}

/// `^[A-Za-z_][A-Za-z0-9_.\-]{15,127}$`, also the form of a JWT's `jti`.
pub(super) fn is_assertion_id(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn issuer(element: Element<'_>) -> Result<String, AssertionError> {
    element.allow(&["Format"], false, SHAPE)?;
    if element.attribute("Format").is_some_and(|format| format != NAMEID_ENTITY) {
        return Err(SHAPE.because("Issuer/@Format is not nameid-format:entity"));
    }
    let text = element.text(SHAPE)?;
    if (1..=1024).contains(&text.chars().count()) { Ok(text) } else { Err(SHAPE.because("Issuer is empty or too long")) }
}

fn name_id(element: Element<'_>) -> Result<NameId, AssertionError> {
    element.allow(&["Format", "NameQualifier", "SPProvidedID"], false, SHAPE)?;
    if element.attribute("Format") != Some(NAMEID_PERSISTENT) {
        return Err(SHAPE.because("NameID/@Format is not nameid-format:persistent"));
    }
    let text = element.text(SHAPE)?;
    let value = text.trim_matches(is_xml_space);
    if !(1..=256).contains(&value.chars().count()) || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(SHAPE.because("NameID is empty, too long, or has a space inside"));
    }
    let owned = |name| element.attribute(name).map(str::to_owned);
    Ok(NameId { value: value.to_owned(), name_qualifier: owned("NameQualifier"), sp_provided_id: owned("SPProvidedID") })
}

struct Conditions {
    not_before: Timestamp,
    not_on_or_after: Timestamp,
    audiences: Vec<String>,
    one_time_use: bool,
}

fn conditions(element: Element<'_>) -> Result<Conditions, AssertionError> {
    element.allow(&["NotBefore", "NotOnOrAfter"], false, SHAPE)?;
    let mut read = Conditions {
        not_before: instant(element, "NotBefore", "Conditions/@NotBefore is missing or not xs:dateTime in Z")?,
        not_on_or_after: instant(element, "NotOnOrAfter", "Conditions/@NotOnOrAfter is missing or not xs:dateTime in Z")?,
        audiences: Vec::new(),
        one_time_use: false,
    };
    for child in element.children(SHAPE)? {
        if child.is(NS_SAML, "AudienceRestriction") && read.audiences.is_empty() {
            for audience in child.allow(&[], false, SHAPE)?.children(SHAPE)? {
                if !audience.is(NS_SAML, "Audience") {
                    return Err(SHAPE.because("a child of AudienceRestriction that is no Audience"));
                }
                read.audiences.push(short_text(audience, 1024, "Audience is empty or too long")?);
            }
            if !(1..=4).contains(&read.audiences.len()) {
                return Err(SHAPE.because("AudienceRestriction has not 1 to 4 audiences"));
            }
        } else if child.is(NS_SAML, "OneTimeUse") && !read.one_time_use && child.children(SHAPE)?.is_empty() {
            child.allow(&[], false, SHAPE)?;
            read.one_time_use = true;
        } else {
            return Err(SHAPE.because("a condition that is unknown or repeated"));
        }
    }
    if read.audiences.is_empty() { Err(SHAPE.because("AudienceRestriction is missing")) } else { Ok(read) }
}

struct Authn {
    instant: Timestamp,
    session_index: Option<String>,
    session_not_on_or_after: Option<Timestamp>,
    context: String,
}

fn authn_statement(element: Element<'_>) -> Result<Authn, AssertionError> {
    element.allow(&["AuthnInstant", "SessionIndex", "SessionNotOnOrAfter"], false, SHAPE)?;
    let session_index = element.attribute("SessionIndex").map(str::to_owned);
    if session_index.as_deref().is_some_and(|index| index.chars().count() > 128) {
        return Err(SHAPE.because("AuthnStatement/@SessionIndex is too long"));
    }
    let mut children = Sequence::of(element, SHAPE)?;
    let context = children.required(NS_SAML, "AuthnContext", "AuthnContext is missing")?.allow(&[], false, SHAPE)?;
    children.end("a child of AuthnStatement that is not allowed")?;
    let mut children = Sequence::of(context, SHAPE)?;
    let class = children.required(NS_SAML, "AuthnContextClassRef", "AuthnContextClassRef is missing")?;
    children.end("a child of AuthnContext that is not allowed")?;
    Ok(Authn {
        instant: instant(element, "AuthnInstant", "AuthnStatement/@AuthnInstant is missing or not xs:dateTime in Z")?,
        session_not_on_or_after: optional_instant(
            element,
            "SessionNotOnOrAfter",
            "AuthnStatement/@SessionNotOnOrAfter is not xs:dateTime in Z",
        )?,
        session_index,
        context: short_text(class, 1024, "AuthnContextClassRef is empty or too long")?,
    })
}

fn short_text(element: Element<'_>, most: usize, what: &'static str) -> Result<String, AssertionError> {
    let text = element.allow(&[], false, SHAPE)?.text(SHAPE)?;
    let text = text.trim_matches(is_xml_space);
    if (1..=most).contains(&text.chars().count()) { Ok(text.to_owned()) } else { Err(SHAPE.because(what)) }
}

fn instant(element: Element<'_>, name: &str, what: &'static str) -> Result<Timestamp, AssertionError> {
    element.attribute(name).and_then(parse_instant).ok_or(SHAPE.because(what))
}

fn optional_instant(element: Element<'_>, name: &str, what: &'static str) -> Result<Option<Timestamp>, AssertionError> {
    element.attribute(name).map(|text| parse_instant(text).ok_or(SHAPE.because(what))).transpose()
}

/// RFC 4648 §4 with XML white space between the characters; padding required, padding bits zero.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    use ::base64::Engine as _;
    let packed: String = text.chars().filter(|c| !is_xml_space(*c)).collect();
    ::base64::engine::general_purpose::STANDARD.decode(packed).ok()
}

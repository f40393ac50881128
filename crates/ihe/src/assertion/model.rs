//! An assertion as plain values.

use std::fmt;

use jiff::Timestamp;

/// A SAML 2.0 assertion of profile 04 §3. Text is as carried, with surrounding XML white space cut from everything but `issuer`
/// and attribute values.
///
/// `Debug` prints ids and instants only: a name id or an attribute may name a patient.
#[derive(Clone, PartialEq)]
pub struct Assertion {
    /// `@ID`: a letter or `_`, then 15–127 of `[A-Za-z0-9_.-]`.
    pub id: String,
    /// `@IssueInstant`.
    pub issue_instant: Timestamp,
    /// `Issuer`, 1–1024 characters.
    pub issuer: String,
    /// `Subject/NameID`.
    pub name_id: NameId,
    /// `Subject/SubjectConfirmation`.
    pub confirmation: Confirmation,
    /// `Conditions/@NotBefore`.
    pub not_before: Timestamp,
    /// `Conditions/@NotOnOrAfter`.
    pub not_on_or_after: Timestamp,
    /// `AudienceRestriction/Audience`, 1–4.
    pub audiences: Vec<String>,
    /// `OneTimeUse` is there.
    pub one_time_use: bool,
    /// `AuthnStatement/@AuthnInstant`.
    pub authn_instant: Timestamp,
    /// `AuthnStatement/@SessionIndex`, at most 128 characters.
    pub session_index: Option<String>,
    /// `AuthnStatement/@SessionNotOnOrAfter`.
    pub session_not_on_or_after: Option<Timestamp>,
    /// `AuthnContextClassRef`.
    pub authn_context: String,
    /// `AttributeStatement/Attribute`, at least one, in message order.
    pub attributes: Vec<Attribute>,
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion")
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .field("not_before", &self.not_before)
            .field("not_on_or_after", &self.not_on_or_after)
            .finish_non_exhaustive()
    }
}

/// `NameID` of persistent format, 1–256 characters without white space.
#[derive(Clone, PartialEq, Eq)]
pub struct NameId {
    /// The identifier.
    pub value: String,
    /// `@NameQualifier`.
    pub name_qualifier: Option<String>,
    /// `@SPProvidedID`.
    pub sp_provided_id: Option<String>,
}

impl fmt::Debug for NameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// `SubjectConfirmation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `@Method`.
    pub method: String,
    /// `NameID`: the technical user, when the subject is the responsible professional.
    pub name_id: Option<NameId>,
    /// `SubjectConfirmationData`.
    pub data: Option<ConfirmationData>,
}

/// `SubjectConfirmationData`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfirmationData {
    /// `@NotOnOrAfter`.
    pub not_on_or_after: Option<Timestamp>,
    /// `@Recipient`.
    pub recipient: Option<String>,
    /// DER of the one `ds:X509Certificate`: the holder of key.
    pub certificate: Option<Vec<u8>>,
}

/// `Attribute` with the URI name format.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `@Name`.
    pub name: String,
    /// `AttributeValue` in order; the profile wants exactly one.
    pub values: Vec<Value>,
}

/// `AttributeValue`.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Character data, untrimmed.
    Text(String),
    /// One empty element with attributes: an HL7 coded value or instance identifier.
    Element(ValueElement),
    /// Anything else; no attribute of the profile has such a value.
    Other,
}

/// The empty element of a coded value.
#[derive(Clone, PartialEq, Eq)]
pub struct ValueElement {
    /// Namespace, `urn:hl7-org:v3`.
    pub namespace: String,
    /// `Role`, `PurposeOfUse`, `CodedValue` or `id`.
    pub name: String,
    /// Attributes without a namespace, in message order.
    pub attributes: Vec<(String, String)>,
    /// It has attributes in a namespace other than `xsi:type`.
    pub foreign_attributes: bool,
}

impl ValueElement {
    /// Value of an attribute without a namespace.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attribute").field("name", &self.name).field("values", &self.values.len()).finish()
    }
}

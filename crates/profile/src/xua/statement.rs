//! What an assertion states, whichever way it was carried.

use idr_ihe::assertion::{Assertion, Attribute, CONFIRMATION_BEARER, CONFIRMATION_HOLDER_OF_KEY};
use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::attribute::{Attributes, from_saml};
use super::jwt;
use super::refusal::{Code, Refusal};
use super::rules::{Unknown, XuaRules};

/// Who confirms the subject.
pub(super) enum Confirmation {
    /// SAML bearer; whether `SubjectConfirmationData` is there.
    Bearer { data: bool },
    /// SAML holder-of-key with the certificate's DER.
    HolderOfKey(Option<Vec<u8>>),
    /// JWT, with `cnf.x5t#S256`.
    Token(Option<String>),
    /// Any other method.
    Other,
}

/// Where the attributes are still in their carried form: they are read in V13.
pub(super) enum Carried {
    Saml(Vec<Attribute>),
    Jwt(Map<String, Json>),
}

/// An identifier with its qualifier.
pub(super) struct Name {
    pub(super) value: String,
    pub(super) qualifier: Option<String>,
}

/// The statement of a verified assertion or token.
pub(super) struct Statement {
    pub(super) id: String,
    pub(super) issuer: String,
    pub(super) subject: Name,
    /// `SPProvidedID`: an alias for the audit.
    pub(super) alias: Option<String>,
    /// The technical user, when the subject is the responsible professional.
    pub(super) technical_user: Option<Name>,
    pub(super) confirmation: Confirmation,
    pub(super) confirmation_until: Option<Timestamp>,
    pub(super) recipient: Option<String>,
    pub(super) issued: Timestamp,
    pub(super) not_before: Timestamp,
    pub(super) not_on_or_after: Timestamp,
    pub(super) audiences: Vec<String>,
    pub(super) authenticated: Timestamp,
    pub(super) session_until: Option<Timestamp>,
    pub(super) authn_context: String,
    /// JWT `scope`, `client_id`.
    pub(super) scope: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) carried: Carried,
    /// All that was signed, as text: searched for withdrawn values.
    pub(super) signed_text: String,
}

impl Statement {
    pub(super) fn of_saml(assertion: Assertion, canonical: &[u8]) -> Self {
        let has_data = assertion.confirmation.data.is_some();
        let data = assertion.confirmation.data.unwrap_or_default();
        Self {
            id: assertion.id,
            issuer: assertion.issuer,
            subject: Name { value: assertion.name_id.value, qualifier: assertion.name_id.name_qualifier },
            alias: assertion.name_id.sp_provided_id,
            technical_user: assertion.confirmation.name_id.map(|id| Name { value: id.value, qualifier: id.name_qualifier }),
            confirmation: match assertion.confirmation.method.as_str() {
                CONFIRMATION_BEARER => Confirmation::Bearer { data: has_data },
                CONFIRMATION_HOLDER_OF_KEY => Confirmation::HolderOfKey(data.certificate),
                _ => Confirmation::Other,
            },
            confirmation_until: data.not_on_or_after,
            recipient: data.recipient,
            issued: assertion.issue_instant,
            not_before: assertion.not_before,
            not_on_or_after: assertion.not_on_or_after,
            audiences: assertion.audiences,
            authenticated: assertion.authn_instant,
            session_until: assertion.session_not_on_or_after,
            authn_context: assertion.authn_context,
            scope: None,
            client_id: None,
            carried: Carried::Saml(assertion.attributes),
            signed_text: String::from_utf8_lossy(canonical).into_owned(),
        }
    }

    /// The attributes by key (V13).
    pub(super) fn attributes(&self, rules: &XuaRules) -> Result<Attributes, Refusal> {
        let attributes = match &self.carried {
            Carried::Saml(carried) => {
                let mut attributes = Attributes::default();
                for attribute in carried {
                    let Some(key) = rules.key(&attribute.name) else {
                        attributes.unknown += 1;
                        continue;
                    };
                    let [value] = attribute.values.as_slice() else {
                        return Err(Code::Attribute.because("an attribute has not exactly one value"));
                    };
                    attributes.insert(key, from_saml(value)?)?;
                }
                attributes
            }
            Carried::Jwt(extensions) => jwt::attributes(extensions, rules)?,
        };
        match rules.unknown_attributes() {
            Unknown::Refuse if attributes.unknown > 0 => Err(Code::Attribute.because("an attribute that the rules do not name")),
            _ => Ok(attributes),
        }
    }

    /// Whether a withdrawn value or name stands anywhere.
    pub(super) fn has_withdrawn(&self, rules: &XuaRules) -> bool {
        rules.withdrawn.iter().any(|value| self.signed_text.contains(value.as_str()))
    }
}

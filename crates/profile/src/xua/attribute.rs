//! The attributes of 04 §4: internal names, values of either carriage, and their forms.

use std::collections::BTreeMap;

use idr_ihe::assertion::{NS_HL7, Value, ValueElement, parse_instant};
use idr_ihe::metadata::{Code as Coded, PatientId, is_oid};
use jiff::Timestamp;
use jiff::civil::Date;
use unicode_normalization::is_nfc;

use super::refusal::{Code, Refusal};
use super::rules::{AttributeRule, ValueType, XuaRules};
use crate::identifier::Specifier;
use crate::identifier::organisation::{business_id_arc, service_event_organisation};

macro_rules! keys {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// Internal name of an attribute (04 §4).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Key {
            $(#[doc = concat!("`", $name, "`.")] $variant),+
        }

        impl Key {
            /// Every attribute, in the order of the profile.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The internal name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

keys! {
    SubjectName "subject_name",
    Organisation "organisation",
    OrganisationId "organisation_id",
    Role "role",
    Purpose "purpose",
    Patient "patient",
    HomeCommunity "home_community",
    ProviderIdentifier "provider_identifier",
    Unit "unit",
    Controller "controller",
    Register "register",
    RegisterSpecifier "register_specifier",
    ServiceEvent "service_event",
    CareReason "care_reason",
    EmergencyReason "emergency_reason",
    EmergencyText "emergency_text",
    OutsourcedAuthorisation "outsourced_authorisation",
    Software "software",
    Site "site",
    Representation "representation",
    RepresentationSource "representation_source",
    RepresentationChecked "representation_checked",
    Acp "acp",
    ConsentDoc "consent_doc",
}

/// A value as carried, before its form is judged.
#[derive(Clone)]
pub(super) enum Raw {
    Text(String),
    Code { element: Option<String>, code: String, system: String, display: String },
    Instance { root: String, extension: Option<String> },
}

/// The values of one assertion by key, each once.
#[derive(Default)]
pub(super) struct Attributes {
    values: BTreeMap<Key, Raw>,
    /// Attributes that the rules do not name.
    pub(super) unknown: u32,
}

const ATTRIBUTE: Code = Code::Attribute;

impl Attributes {
    pub(super) fn insert(&mut self, key: Key, value: Raw) -> Result<(), Refusal> {
        match self.values.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(ATTRIBUTE.because("an attribute stands twice, under one name or two")),
        }
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.values.contains_key(&key)
    }

    fn raw(&self, key: Key) -> Option<&Raw> {
        self.values.get(&key)
    }

    /// A text: surrounding XML white space cut, no control character or line break inside, NFC, of the rule's length.
    pub(super) fn text(&self, key: Key, rules: &XuaRules) -> Result<Option<String>, Refusal> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        let Raw::Text(text) = raw else { return Err(ATTRIBUTE.because("an attribute that is a text has another value")) };
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        if text.chars().any(char::is_control) || !is_nfc(text) {
            return Err(ATTRIBUTE.because("a text has a line break or control character, or is not in NFC"));
        }
        let rule = rules.attribute(key);
        let [least, most] = rule.length;
        if !(least..=most).contains(&text.chars().count()) {
            return Err(ATTRIBUTE.because("a text is shorter or longer than its bounds"));
        }
        let holds = match rule.value_type {
            ValueType::Site => is_site(text),
            ValueType::Uri => text.len() <= 1024 && text.contains(':') && !text.contains(char::is_whitespace),
            _ => true,
        };
        if holds { Ok(Some(text.to_owned())) } else { Err(ATTRIBUTE.because("a text is not of the form of its attribute")) }
    }

    /// `urn:oid:` + OID, below the rule's node; without the prefix.
    pub(super) fn oid(&self, key: Key, rules: &XuaRules) -> Result<Option<String>, Refusal> {
        let Some(text) = self.text(key, rules)? else { return Ok(None) };
        let oid =
            text.strip_prefix("urn:oid:").filter(|oid| is_oid(oid)).ok_or(ATTRIBUTE.because("an identifier is not urn:oid: and an OID"))?;
        let rule = rules.attribute(key);
        let holds = match (rule.value_type, &rule.node) {
            (ValueType::ServiceEvent, _) => service_event_organisation(oid).is_some(),
            (_, Some(node)) => below_node(oid, node),
            _ => true,
        };
        if holds { Ok(Some(oid.to_owned())) } else { Err(ATTRIBUTE.because("an OID is not of the form of its attribute")) }
    }

    /// A coded value. Its value set is judged elsewhere.
    pub(super) fn code(&self, key: Key, rules: &XuaRules) -> Result<Option<Coded>, Refusal> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        let Raw::Code { element, code, system, display } = raw else {
            return Err(ATTRIBUTE.because("an attribute that is a code has another value"));
        };
        let rule = rules.attribute(key);
        let named = element.as_deref().is_none_or(|name| is_code_element(name, rule));
        if !named || !(1..=64).contains(&code.chars().count()) || !is_oid(system) {
            return Err(ATTRIBUTE.because("a code has another element name, or no code of 1 to 64 characters and code system OID"));
        }
        Ok(Some(Coded { code: code.clone(), system: system.clone(), display: display.clone() }))
    }

    /// Extension of an instance identifier below the rule's root.
    pub(super) fn instance(&self, key: Key, rules: &XuaRules) -> Result<Option<String>, Refusal> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        match raw {
            Raw::Instance { root, extension: Some(extension) }
                if rules.attribute(key).root.as_deref() == Some(root) && (1..=64).contains(&extension.chars().count()) =>
            {
                Ok(Some(extension.clone()))
            }
            _ => Err(ATTRIBUTE.because("an identifier has not the root of its attribute and an extension of 1 to 64 characters")),
        }
    }

    /// The register specifier in its canonical form.
    pub(super) fn specifier(&self, today: Date) -> Result<Option<Specifier>, Refusal> {
        match self.raw(Key::RegisterSpecifier) {
            None => Ok(None),
            Some(Raw::Instance { root, extension }) if is_oid(root) && extension.as_ref().is_none_or(|e| e.chars().count() <= 64) => {
                let read = Specifier::from_ii(root, extension.as_deref(), today);
                read.map(Some).map_err(|_| ATTRIBUTE.because("the register specifier has another root, or its identifier does not hold"))
            }
            Some(_) => Err(ATTRIBUTE.because("the register specifier is no instance identifier")),
        }
    }

    /// The patient as carried: `id^^^&oid&ISO` and nothing more.
    pub(super) fn patient(&self, rules: &XuaRules) -> Result<Option<PatientId>, Refusal> {
        let Some(text) = self.text(Key::Patient, rules)? else { return Ok(None) };
        let form = ATTRIBUTE.because("the patient is not id^^^&oid&ISO");
        let id = PatientId::parse_cx(&text).map_err(|_| form)?;
        let plain = id.id.chars().count() <= 64 && !id.id.contains(['&', '|', '~', '\\']);
        if plain && id.to_cx() == text { Ok(Some(id)) } else { Err(form) }
    }

    /// An instant in UTC.
    pub(super) fn instant(&self, key: Key, rules: &XuaRules) -> Result<Option<Timestamp>, Refusal> {
        let Some(text) = self.text(key, rules)? else { return Ok(None) };
        parse_instant(&text).map(Some).ok_or(ATTRIBUTE.because("an instant is not xs:dateTime in Z"))
    }

    /// The role's code and system without judgement, for times that depend on the kind.
    pub(super) fn role(&self) -> Option<(&str, &str)> {
        match self.raw(Key::Role) {
            Some(Raw::Code { code, system, .. }) => Some((code, system)),
            _ => None,
        }
    }
}

/// A value of SAML: text, or one HL7 element with the attributes of a coded value or an instance identifier.
pub(super) fn from_saml(value: &Value) -> Result<Raw, Refusal> {
    match value {
        Value::Text(text) => Ok(Raw::Text(text.clone())),
        Value::Element(element) if element.namespace == NS_HL7 && !element.foreign_attributes => from_element(element),
        _ => Err(ATTRIBUTE.because("a value is neither a text nor one empty HL7 element")),
    }
}

fn from_element(element: &ValueElement) -> Result<Raw, Refusal> {
    let owned = |name| element.attribute(name).map(str::to_owned);
    let only = |allowed: &[&str]| element.attributes.iter().all(|(name, _)| allowed.contains(&name.as_str()));
    match element.name.as_str() {
        "id" if only(&["root", "extension"]) => match owned("root") {
            Some(root) => Ok(Raw::Instance { root, extension: owned("extension") }),
            None => Err(ATTRIBUTE.because("an instance identifier has no root")),
        },
        "Role" | "PurposeOfUse" | "CodedValue" if only(&["code", "codeSystem", "codeSystemName", "codeSystemVersion", "displayName"]) => {
            match (owned("code"), owned("codeSystem")) {
                (Some(code), Some(system)) => {
                    let display = owned("displayName").unwrap_or_default();
                    Ok(Raw::Code { element: Some(element.name.clone()), code, system, display })
                }
                _ => Err(ATTRIBUTE.because("a coded value has no code or codeSystem")),
            }
        }
        _ => Err(ATTRIBUTE.because("an HL7 element is none of Role, PurposeOfUse, CodedValue, id, or has another attribute")),
    }
}

fn is_code_element(name: &str, rule: &AttributeRule) -> bool {
    rule.elements.is_empty() || rule.elements.iter().any(|known| known == name)
}

/// `^[a-z0-9][a-z0-9\-]{1,31}$`.
fn is_site(text: &str) -> bool {
    (2..=32).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Below `1.2.246.10.<Y>.<node>`, or that node itself.
pub(super) fn below_node(oid: &str, node: &str) -> bool {
    business_id_arc(oid)
        .and_then(|arc| oid.strip_prefix("1.2.246.10.")?.strip_prefix(arc)?.strip_prefix('.'))
        .and_then(|rest| rest.split('.').next())
        == Some(node)
}

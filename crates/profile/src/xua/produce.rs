//! Assertions and tokens of our own, made of the same [`Claims`] that verification gives (profile 04 §13).
//!
//! One assertion per SOAP request, made when the request is sent; for STOW one JWT per patient. Key, instant and random bytes are
//! arguments.

use idr_ihe::assertion::{
    Assertion, Attribute, CONFIRMATION_BEARER, Confirmation, NS_HL7, NameId, SignError, Signer, Unsigned, Value, ValueElement, XmlSigner,
    build, jws,
};
use idr_ihe::metadata::{Code as Coded, PatientId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value as Json, json};

use super::attribute::Key;
use super::jwt::{BPPC, IUA, SUB_QUALIFIER, is_own, thumbprint};
use super::rules::{ValueType, XuaRules};
use crate::access::{Claims, Kind, Purpose};
use crate::identifier::{NO_ID_CUSTOMER_ROOT, Specifier};

/// Why nothing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The rule set names no code for the kind or purpose.
    #[error("xua.toml names no role or purpose code for a technical user")]
    Code,
    /// The signature or the XML.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// The software that acts: constant for a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TechnicalUser {
    /// `Issuer`, `iss`.
    pub issuer: String,
    /// NameID: OID under `1.2.246.10.<Y>.12` or `.13`, without `urn:oid:`.
    pub oid: String,
    /// Display name.
    pub name: String,
    /// Display name of the organisation.
    pub organisation: String,
    /// OID of the organisation.
    pub organisation_id: String,
    /// OID of the software, node 12.
    pub software: String,
    /// The site.
    pub site: String,
    /// OID of the home community.
    pub home_community: Option<String>,
}

/// Whose data one request carries: from the site's routing rules and the validated data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// OID of the controller.
    pub controller: String,
    /// Register code.
    pub register: String,
    /// Register specifier, for register 4.
    pub specifier: Option<Specifier>,
    /// Service event of the entry or study; must be there if the submission carries it.
    pub service_event: Option<String>,
    /// OID of an outsourced service's authorisation.
    pub outsourced_authorisation: Option<String>,
    /// OID of the unit.
    pub unit: Option<String>,
    /// The patient; none for reconciliation over many.
    pub patient: Option<PatientId>,
}

/// The claims of class AU: a technical user with automatic purpose.
///
/// # Errors
/// [`ProduceError::Code`].
pub fn automatic_upload(user: &TechnicalUser, upload: &Upload, rules: &XuaRules) -> Result<Claims, ProduceError> {
    let coded = |(code, system): (&str, &str)| Coded { code: code.to_owned(), system: system.to_owned(), display: String::new() };
    let qualifier = rules.kind(Kind::Technical).and_then(|rule| rule.name_qualifiers.first()).ok_or(ProduceError::Code)?;
    Ok(Claims {
        kind: Kind::Technical,
        purpose: Purpose::Automatic,
        purpose_code: coded(rules.purpose_code(Purpose::Automatic, Kind::Technical).ok_or(ProduceError::Code)?),
        name_id: format!("urn:oid:{}", user.oid),
        name_qualifier: qualifier.clone(),
        name: user.name.clone(),
        organisation: Some(user.organisation.clone()),
        organisation_id: user.organisation_id.clone(),
        role: coded(rules.role_of_kind(Kind::Technical).ok_or(ProduceError::Code)?),
        unit: upload.unit.clone(),
        controller: Some(upload.controller.clone()),
        register: Some(upload.register.clone()),
        specifier: upload.specifier.clone(),
        patient: upload.patient.clone(),
        provider_identifier: None,
        service_event: upload.service_event.clone(),
        care_reason: None,
        emergency_reason: None,
        emergency_text: None,
        outsourced_authorisation: upload.outsourced_authorisation.clone(),
        software: user.software.clone(),
        site: Some(user.site.clone()),
        representation: None,
        home_community: user.home_community.clone(),
        assertion_id: String::new(),
        issuer: user.issuer.clone(),
        issuer_organisation: String::new(),
        assertion_sha256: String::new(),
        not_on_or_after: Timestamp::UNIX_EPOCH,
    })
}

/// One assertion or token to make.
#[derive(Debug, Clone, Copy)]
pub struct Production<'a> {
    /// What is claimed; `assertion_id`, `issuer_organisation`, `assertion_sha256` and `not_on_or_after` are not read.
    pub claims: &'a Claims,
    /// Audience: [`XuaRules::audience`] or the endpoint's URL.
    pub audience: &'a str,
    /// AuthnContextClassRef of 04 §5.5.
    pub authn_context: &'a str,
    /// When the subject authenticated; not after `now`.
    pub authn_instant: Timestamp,
    /// Issue instant; validity is from `production.not_before_seconds` before it to `production.lifetime_seconds` after it.
    pub now: Timestamp,
    /// 128 random bits: the ID is `_` and their 32 hex digits.
    pub random: [u8; 16],
}

impl Production<'_> {
    fn id(&self) -> String {
        format!("_{}", hex::encode(self.random))
    }

    /// Issue instant in whole seconds, and validity.
    fn times(&self, rules: &XuaRules) -> (Timestamp, Timestamp, Timestamp) {
        let now = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        let seconds = |seconds: u32| SignedDuration::from_secs(i64::from(seconds));
        let before = now.checked_sub(seconds(rules.production.not_before_seconds)).unwrap_or(now);
        let after = now.checked_add(seconds(rules.production.lifetime_seconds)).unwrap_or(Timestamp::MAX);
        (now, before, after)
    }
}

/// The assertion of a production, unsigned.
///
/// # Errors
/// [`ProduceError::Sign`] if a value has a character that XML does not have.
pub fn unsigned(production: &Production<'_>, rules: &XuaRules) -> Result<Unsigned, ProduceError> {
    let claims = production.claims;
    let (issue_instant, not_before, not_on_or_after) = production.times(rules);
    let assertion = Assertion {
        id: production.id(),
        issue_instant,
        issuer: claims.issuer.clone(),
        name_id: NameId { value: claims.name_id.clone(), name_qualifier: Some(claims.name_qualifier.clone()), sp_provided_id: None },
        confirmation: Confirmation { method: CONFIRMATION_BEARER.to_owned(), name_id: None, data: None },
        not_before,
        not_on_or_after,
        audiences: vec![production.audience.to_owned()],
        one_time_use: false,
        authn_instant: production.authn_instant.min(issue_instant),
        session_index: None,
        session_not_on_or_after: None,
        authn_context: production.authn_context.to_owned(),
        attributes: attributes(claims, rules),
    };
    Ok(build(&assertion)?)
}

/// A signed SAML assertion (04 §3, §6).
///
/// # Errors
/// [`ProduceError`].
pub fn saml(production: &Production<'_>, rules: &XuaRules, signer: &dyn XmlSigner) -> Result<String, ProduceError> {
    Ok(signer.sign(&unsigned(production, rules)?)?)
}

/// The attributes of 04 §4 that the claims have, in its order.
pub fn attributes(claims: &Claims, rules: &XuaRules) -> Vec<Attribute> {
    Key::ALL
        .into_iter()
        .filter_map(|key| Some(Attribute { name: rules.attribute(key).name.clone(), values: vec![value(key, claims, rules)?] }))
        .collect()
}

fn value(key: Key, claims: &Claims, rules: &XuaRules) -> Option<Value> {
    let element = |name: &str, pairs: &[(&str, &str)]| {
        let attributes = pairs.iter().filter(|(_, value)| !value.is_empty()).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Value::Element(ValueElement { namespace: NS_HL7.to_owned(), name: name.to_owned(), attributes, foreign_attributes: false })
    };
    Some(match carried(key, claims, rules)? {
        Plain::Text(text) => Value::Text(text),
        Plain::Code(code) => {
            let name = rules.attribute(key).elements.first().map_or("CodedValue", String::as_str);
            element(name, &[("code", &code.code), ("codeSystem", &code.system), ("displayName", &code.display)])
        }
        Plain::Instance(root, extension) => element("id", &[("root", &root), ("extension", &extension)]),
    })
}

enum Plain {
    Text(String),
    Code(Coded),
    Instance(String, String),
}

/// The value of a key in the claims.
fn carried(key: Key, claims: &Claims, rules: &XuaRules) -> Option<Plain> {
    let oid = |value: &Option<String>| value.as_ref().map(|oid| Plain::Text(format!("urn:oid:{oid}")));
    let text = |value: &Option<String>| value.clone().map(Plain::Text);
    match key {
        Key::SubjectName => Some(Plain::Text(claims.name.clone())),
        Key::Organisation => text(&claims.organisation),
        Key::OrganisationId => Some(Plain::Text(format!("urn:oid:{}", claims.organisation_id))),
        Key::Role => Some(Plain::Code(claims.role.clone())),
        Key::Purpose => Some(Plain::Code(claims.purpose_code.clone())),
        Key::Patient => claims.patient.as_ref().map(|patient| Plain::Text(patient.to_cx())),
        Key::HomeCommunity => oid(&claims.home_community),
        Key::ProviderIdentifier => {
            let root = rules.attribute(key).root.clone().unwrap_or_default();
            claims.provider_identifier.clone().map(|extension| Plain::Instance(root, extension))
        }
        Key::Unit => oid(&claims.unit),
        Key::Controller => oid(&claims.controller),
        Key::Register => claims
            .register
            .as_ref()
            .map(|code| Plain::Code(Coded { code: code.clone(), system: rules.register_system().to_owned(), display: String::new() })),
        Key::RegisterSpecifier => claims.specifier.as_ref().map(|specifier| {
            let (root, extension) = instance(specifier);
            Plain::Instance(root, extension)
        }),
        Key::ServiceEvent => oid(&claims.service_event),
        Key::CareReason => claims.care_reason.clone().map(Plain::Code),
        Key::EmergencyReason => claims.emergency_reason.clone().map(Plain::Code),
        Key::EmergencyText => text(&claims.emergency_text),
        Key::OutsourcedAuthorisation => oid(&claims.outsourced_authorisation),
        Key::Software => Some(Plain::Text(format!("urn:oid:{}", claims.software))),
        Key::Site => text(&claims.site),
        // The profile names the codes and no code system.
        Key::Representation => claims
            .representation
            .as_ref()
            .map(|r| Plain::Code(Coded { code: r.code.clone(), system: "2.16.840.1.113883.5.111".to_owned(), display: String::new() })),
        Key::RepresentationSource => claims.representation.as_ref().map(|r| Plain::Text(r.source.clone())),
        Key::RepresentationChecked => claims.representation.as_ref().map(|r| Plain::Text(r.checked.to_string())),
        Key::Acp | Key::ConsentDoc => None,
    }
}

/// A specifier as an instance identifier: root and extension (04 §5.4).
fn instance(specifier: &Specifier) -> (String, String) {
    let text = specifier.as_str();
    if let Ok(cx) = PatientId::parse_cx(text) {
        return (cx.authority, cx.id);
    }
    let root = if text.starts_with(NO_ID_CUSTOMER_ROOT) { NO_ID_CUSTOMER_ROOT } else { crate::identifier::organisation::ORGANISATION_ROOT };
    let extension = text.strip_prefix(root).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
    (root.to_owned(), extension.to_owned())
}

/// What a JWT needs beside the claims.
#[derive(Clone, Copy)]
pub struct TokenBinding<'a> {
    /// SHA-256 of the DER of the signing certificate: `kid`.
    pub signer_sha256: [u8; 32],
    /// SHA-256 of the DER of the TLS client certificate the token will be used with: `cnf`.
    pub tls_sha256: [u8; 32],
    /// Space-separated scopes of 04 §10.3.
    pub scope: &'a str,
}

/// A signed JWT (04 §10.3): PS256, ES256 or ES384 by key.
///
/// # Errors
/// [`ProduceError`].
pub fn jwt(production: &Production<'_>, rules: &XuaRules, binding: &TokenBinding<'_>, key: &dyn Signer) -> Result<String, ProduceError> {
    let claims = production.claims;
    let (issued, not_before, not_on_or_after) = production.times(rules);
    let mut groups: [Map<String, Json>; 3] = Default::default();
    groups[2].insert(SUB_QUALIFIER.to_owned(), claims.name_qualifier.clone().into());
    for attribute in Key::ALL {
        let Some(plain) = carried(attribute, claims, rules) else { continue };
        let member = |table: &[(&str, Key)]| table.iter().find(|(_, key)| *key == attribute).map(|(name, _)| (*name).to_owned());
        let (group, name) = match (member(&IUA), member(&BPPC)) {
            (Some(name), _) => (0, name),
            (_, Some(name)) => (1, name),
            _ => (2, attribute.name().to_owned()),
        };
        let value = match plain {
            Plain::Text(text) => text.into(),
            Plain::Code(code) => {
                let coding = json!({ "system": format!("urn:oid:{}", code.system), "code": code.code });
                if is_own(attribute) { coding } else { Json::Array(vec![coding]) }
            }
            Plain::Instance(root, extension) if rules.attribute(attribute).value_type == ValueType::Specifier => {
                json!({ "system": format!("urn:oid:{root}"), "value": extension })
            }
            Plain::Instance(_, extension) => extension.into(),
        };
        groups[group].insert(name, value);
    }
    let [iua, bppc, own] = groups;
    let mut extensions = json!({ "ihe_iua": iua, "idr": own });
    if !bppc.is_empty() {
        extensions["ihe_bppc"] = Json::Object(bppc);
    }
    let payload = json!({
        "iss": claims.issuer,
        "sub": claims.name_id,
        "client_id": claims.software,
        "aud": production.audience,
        "jti": production.id(),
        "iat": issued.as_second(),
        "nbf": not_before.as_second(),
        "exp": not_on_or_after.as_second(),
        "auth_time": production.authn_instant.min(issued).as_second(),
        "acr": production.authn_context,
        "scope": binding.scope,
        "cnf": { "x5t#S256": thumbprint(&binding.tls_sha256) },
        "extensions": extensions,
    });
    let Json::Object(payload) = payload else { return Err(ProduceError::Sign(SignError::Content("not an object"))) };
    Ok(jws::sign(&payload, &thumbprint(&binding.signer_sha256), key)?)
}

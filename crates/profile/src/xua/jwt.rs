//! The claims of the JWT profile (04 §10.3), in and out.
//!
//! Coded values are FHIR Codings `{"system", "code"}` with `system` = `urn:oid:` + OID or the ActReason URI; the register specifier
//! is a FHIR Identifier `{"system": "urn:oid:…", "value": …}` without `value` for the form by OID. OIDs, instants and texts are strings
//! as in SAML.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::attribute::{Attributes, Key, Raw};
use super::refusal::{Code, Refusal};
use super::rules::{ValueType, XuaRules};
use super::statement::{Carried, Confirmation, Name, Statement};

/// Members of `extensions.ihe_iua`, with their keys.
pub(super) const IUA: [(&str, Key); 7] = [
    ("subject_name", Key::SubjectName),
    ("subject_organization", Key::Organisation),
    ("subject_organization_id", Key::OrganisationId),
    ("subject_role", Key::Role),
    ("purpose_of_use", Key::Purpose),
    ("home_community_id", Key::HomeCommunity),
    ("national_provider_identifier", Key::ProviderIdentifier),
];
/// Members of `extensions.ihe_bppc`.
pub(super) const BPPC: [(&str, Key); 3] = [("patient_id", Key::Patient), ("acp", Key::Acp), ("doc_id", Key::ConsentDoc)];
/// Members of `extensions.idr` are named as the attributes; this one is no attribute.
pub(super) const SUB_QUALIFIER: &str = "sub_qualifier";

/// Reads the registered claims and keeps the extensions for V13.
pub(super) fn statement(mut claims: Map<String, Value>, signed_text: String) -> Result<Statement, Refusal> {
    let shape = Code::Shape;
    let id = text(&claims, "jti")
        .filter(|id| is_id(id))
        .ok_or(Code::Identifier.because("jti is missing or not of the form of an assertion id"))?;
    let required = |name: &str, what: &'static str| text(&claims, name).ok_or(shape.because(what));
    let instant = |name: &str, what: &'static str| {
        claims.get(name).and_then(Value::as_i64).and_then(|seconds| Timestamp::from_second(seconds).ok()).ok_or(shape.because(what))
    };
    let audiences = match claims.get("aud") {
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(Value::Array(many)) if (1..=4).contains(&many.len()) => many.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let subject = required("sub", "sub is missing")?;
    if !(1..=256).contains(&subject.chars().count()) || subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(shape.because("sub is empty, too long, or has a space inside"));
    }
    let cnf = claims.get("cnf").and_then(Value::as_object).and_then(|cnf| text(cnf, "x5t#S256"));
    let statement = Statement {
        issuer: required("iss", "iss is missing")?,
        alias: None,
        technical_user: None,
        confirmation: Confirmation::Token(cnf),
        confirmation_until: None,
        recipient: None,
        issued: instant("iat", "iat is missing or no whole number of seconds")?,
        not_before: instant("nbf", "nbf is missing or no whole number of seconds")?,
        not_on_or_after: instant("exp", "exp is missing or no whole number of seconds")?,
        audiences: audiences.ok_or(shape.because("aud is not 1 to 4 strings"))?,
        authenticated: instant("auth_time", "auth_time is missing or no whole number of seconds")?,
        session_until: None,
        authn_context: required("acr", "acr is missing")?,
        scope: Some(required("scope", "scope is missing")?),
        client_id: Some(required("client_id", "client_id is missing")?),
        subject: Name { value: subject, qualifier: None },
        id,
        carried: Carried::Jwt(Map::new()),
        signed_text,
    };
    let extensions = match claims.remove("extensions") {
        Some(Value::Object(extensions)) => extensions,
        _ => return Err(shape.because("extensions is missing")),
    };
    let qualifier = extensions.get("idr").and_then(Value::as_object).and_then(|idr| text(idr, SUB_QUALIFIER));
    Ok(Statement { subject: Name { qualifier, ..statement.subject }, carried: Carried::Jwt(extensions), ..statement })
}

/// The attributes of `extensions` (V13).
pub(super) fn attributes(extensions: &Map<String, Value>, rules: &XuaRules) -> Result<Attributes, Refusal> {
    let mut read = Attributes::default();
    for (group, members) in extensions {
        let Some(members) = members.as_object() else { return Err(Code::Attribute.because("a group of extensions is no object")) };
        for (member, value) in members {
            let key = match group.as_str() {
                "ihe_iua" => IUA.iter().find(|(name, _)| name == member).map(|(_, key)| *key),
                "ihe_bppc" => BPPC.iter().find(|(name, _)| name == member).map(|(_, key)| *key),
                "idr" if member == SUB_QUALIFIER => continue,
                "idr" => Key::ALL.into_iter().find(|key| key.name() == member && is_own(*key)),
                _ => None,
            };
            match key {
                None => read.unknown += 1,
                Some(key) => read.insert(key, raw(key, value, rules)?)?,
            }
        }
    }
    Ok(read)
}

/// Whether the attribute is a member of `extensions.idr`.
pub(super) fn is_own(key: Key) -> bool {
    !IUA.iter().chain(&BPPC).any(|(_, other)| *other == key)
}

fn raw(key: Key, value: &Value, rules: &XuaRules) -> Result<Raw, Refusal> {
    let form = Code::Attribute.because("a member of extensions has not the JSON form of its attribute");
    let rule = rules.attribute(key);
    match rule.value_type {
        ValueType::Code => {
            // Arrays of exactly one Coding in ihe_iua, a Coding in idr.
            let coding = match value {
                Value::Array(one) if !is_own(key) && one.len() == 1 => one.first(),
                Value::Object(_) if is_own(key) => Some(value),
                _ => None,
            };
            let coding = coding.and_then(Value::as_object).ok_or(form)?;
            let system = text(coding, "system").ok_or(form)?;
            let system = system.strip_prefix("urn:oid:").map_or_else(|| rules.system(&system).to_owned(), str::to_owned);
            let display = text(coding, "display").unwrap_or_default();
            Ok(Raw::Code { element: None, code: text(coding, "code").ok_or(form)?, system, display })
        }
        ValueType::Instance => {
            let extension = value.as_str().ok_or(form)?.to_owned();
            Ok(Raw::Instance { root: rule.root.clone().unwrap_or_default(), extension: Some(extension) })
        }
        ValueType::Specifier => {
            let identifier = value.as_object().ok_or(form)?;
            let system = text(identifier, "system").ok_or(form)?;
            let root = system.strip_prefix("urn:oid:").ok_or(form)?.to_owned();
            Ok(Raw::Instance { root, extension: text(identifier, "value") })
        }
        _ => Ok(Raw::Text(value.as_str().ok_or(form)?.to_owned())),
    }
}

fn text(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// 16–128 characters of `[A-Za-z0-9_.-]`, first a letter or `_`.
fn is_id(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// `kid` of a certificate: base64url of the SHA-256 of its DER; also the form of `x5t#S256`.
pub fn thumbprint(sha256: &[u8; 32]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256)
}

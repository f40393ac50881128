//! Who asks: fresh signed assertions, made from the text of profile 04 and not by the code under test.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_ihe::assertion::{
    Assertion, Attribute, CONFIRMATION_BEARER, Confirmation, EnvelopedSigner, NS_HL7, NS_WSSE, NameId, SigningKey, Value, ValueElement,
    XmlSigner as _, build, jws, sha256,
};
use idr_ihe::metadata::PatientId;
use jiff::{SignedDuration, Timestamp};
use rand::RngCore as _;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use crate::harness::Party;

/// Audience of the centre.
const AUDIENCE: &str = "urn:x-idr:audience:central";
/// Code system of roles (profile 04 §5.1).
const ROLES: &str = "2.25.92986732269339172263163926569331261487";
/// HL7 ActReason.
const ACT_REASON: &str = "2.16.840.1.113883.5.8";
/// The project's purposes (profile 04 §5.2).
const PURPOSES: &str = "2.25.42871813607994744811749460580566241484";
/// Code system of registers.
const REGISTERS: &str = "1.2.246.537.5.40150";
/// Code system of care reasons (profile 04 §5.6).
const CARE_REASONS: &str = "2.25.90606782813441076564387547608149857321";
/// Terhikki numbers.
const TERHIKKI: &str = "1.2.246.537.26";

/// A subject with the key of its organisation.
pub struct Requester {
    /// `Issuer`.
    pub issuer: String,
    /// NameID and its qualifier.
    pub name_id: (String, String),
    /// `AuthnContextClassRef`.
    pub authn_context: String,
    /// Attributes but the patient, in message order.
    pub attributes: Vec<(&'static str, Claim)>,
    /// Audiences of assertions.
    pub audiences: Vec<String>,
    /// OID of the software.
    pub software: String,
    /// JWT scopes.
    pub scope: String,
    key: SigningKey,
    certificate: Vec<u8>,
}

/// A value of an attribute.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Text.
    Text(String),
    /// `urn:oid:` and an OID.
    Oid(String),
    /// HL7 coded value: element name, code, code system.
    Code(&'static str, String, String),
    /// HL7 instance identifier: root, extension.
    Instance(String, String),
}

impl Requester {
    /// A physician of an organisation, treating a patient who asked by telephone.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn professional(party: &Party) -> anyhow::Result<Self> {
        let number = "90000000001";
        let mut attributes = common(party, "Testaaja Tiina", ("PHYS", "TREAT", ACT_REASON));
        attributes.push(("provider_identifier", Claim::Instance(TERHIKKI.to_owned(), number.to_owned())));
        attributes.push(("care_reason", Claim::Code("CodedValue", "PHONE".to_owned(), CARE_REASONS.to_owned())));
        let name_id = (number.to_owned(), format!("urn:oid:{TERHIKKI}"));
        Self::new(party, name_id, "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI", attributes, "idr.query idr.retrieve idr.store")
    }

    /// The same when storing: it gives no reason of care (profile 04 §4).
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn storing(party: &Party) -> anyhow::Result<Self> {
        let mut professional = Self::professional(party)?;
        professional.attributes.retain(|(key, _)| *key != "care_reason");
        Ok(professional)
    }

    /// A technical user, who may store and reconcile, and nothing else.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn technical(party: &Party) -> anyhow::Result<Self> {
        let mut attributes = common(party, "idr-tests", ("TECH", "AUTO", PURPOSES));
        attributes.push(("site", Claim::Text("site-1".to_owned())));
        let name_id = (format!("urn:oid:{}", party.software()), "urn:x-idr:technical-user".to_owned());
        Self::new(party, name_id, "urn:oasis:names:tc:SAML:2.0:ac:classes:X509", attributes, "idr.store")
    }

    fn new(
        party: &Party,
        name_id: (String, String),
        authn_context: &str,
        attributes: Vec<(&'static str, Claim)>,
        scope: &str,
    ) -> anyhow::Result<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_file(&party.signature.key)?;
        Ok(Self {
            issuer: party.entity_id(),
            name_id,
            authn_context: authn_context.to_owned(),
            attributes,
            audiences: vec![AUDIENCE.to_owned()],
            software: party.software(),
            scope: scope.to_owned(),
            key: SigningKey::from_pkcs8(key.secret_pkcs8_der())?,
            certificate: party.signature.der.clone(),
        })
    }

    /// The assertion as values, to be changed by whoever needs a wrong one.
    pub fn assertion(&self, patient: Option<&PatientId>, now: Timestamp) -> Assertion {
        let mut attributes: Vec<Attribute> = self.attributes.iter().map(|(key, claim)| saml(wire_name(key), claim)).collect();
        attributes.extend(patient.map(|patient| saml(wire_name("patient"), &Claim::Text(patient.to_cx()))));
        Assertion {
            id: random_id(),
            issue_instant: now,
            issuer: self.issuer.clone(),
            name_id: NameId { value: self.name_id.0.clone(), name_qualifier: Some(self.name_id.1.clone()), sp_provided_id: None },
            confirmation: Confirmation { method: CONFIRMATION_BEARER.to_owned(), name_id: None, data: None },
            not_before: now - SignedDuration::from_secs(5),
            not_on_or_after: now + SignedDuration::from_secs(240),
            audiences: self.audiences.clone(),
            one_time_use: false,
            authn_instant: now - SignedDuration::from_mins(10),
            session_index: None,
            session_not_on_or_after: None,
            authn_context: self.authn_context.clone(),
            attributes,
        }
    }

    /// Signs an assertion.
    ///
    /// # Errors
    /// A value has no XML form.
    pub fn sign(&self, assertion: &Assertion) -> anyhow::Result<String> {
        let signer = EnvelopedSigner { key: &self.key, certificate: &self.certificate };
        Ok(signer.sign(&build(assertion)?)?)
    }

    /// A fresh signed SAML assertion.
    ///
    /// # Errors
    /// A value has no XML form.
    pub fn saml(&self, patient: Option<&PatientId>) -> anyhow::Result<String> {
        self.sign(&self.assertion(patient, Timestamp::now()))
    }

    /// The `wsse:Security` header with a fresh assertion.
    ///
    /// # Errors
    /// A value has no XML form.
    pub fn security(&self, patient: Option<&PatientId>) -> anyhow::Result<String> {
        Ok(security(&self.saml(patient)?))
    }

    /// A fresh JWT for a TLS client certificate (profile 04 §10.3).
    ///
    /// # Errors
    /// The key signs no JWS.
    pub fn jwt(&self, patient: Option<&PatientId>, tls_certificate: &[u8]) -> anyhow::Result<String> {
        let now = Timestamp::now().as_second();
        let claim = |key: &str| self.attributes.iter().find(|(name, _)| *name == key).map(|(_, claim)| claim);
        let coding = |claim: Option<&Claim>| match claim {
            Some(Claim::Code(_, code, system)) => json!({"system": format!("urn:oid:{system}"), "code": code}),
            _ => json!(null),
        };
        let text = |key: &str| match claim(key) {
            Some(Claim::Text(text)) => json!(text),
            Some(Claim::Oid(oid)) => json!(format!("urn:oid:{oid}")),
            Some(Claim::Instance(_, extension)) => json!(extension),
            _ => json!(null),
        };
        let present = |pairs: Vec<(&str, serde_json::Value)>| -> serde_json::Map<String, serde_json::Value> {
            pairs.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let iua = present(vec![
            ("subject_name", text("subject_name")),
            ("subject_organization", text("organisation")),
            ("subject_organization_id", text("organisation_id")),
            ("subject_role", json!([coding(claim("role"))])),
            ("purpose_of_use", json!([coding(claim("purpose"))])),
            ("national_provider_identifier", text("provider_identifier")),
        ]);
        let own = present(vec![
            ("sub_qualifier", json!(self.name_id.1)),
            ("unit", text("unit")),
            ("controller", text("controller")),
            ("register", coding(claim("register"))),
            ("care_reason", coding(claim("care_reason"))),
            ("software", text("software")),
            ("site", text("site")),
        ]);
        let mut extensions = json!({"ihe_iua": iua, "idr": own});
        if let Some(patient) = patient {
            extensions["ihe_bppc"] = json!({"patient_id": patient.to_cx()});
        }
        let payload = json!({
            "iss": self.issuer, "sub": self.name_id.0, "client_id": format!("urn:oid:{}", self.software), "aud": AUDIENCE, "jti": random_id(),
            "iat": now, "nbf": now - 5, "exp": now + 240, "auth_time": now - 600, "acr": self.authn_context, "scope": self.scope,
            "cnf": {"x5t#S256": URL_SAFE_NO_PAD.encode(sha256(tls_certificate))}, "extensions": extensions,
        });
        let kid = URL_SAFE_NO_PAD.encode(sha256(&self.certificate));
        Ok(jws::sign(payload.as_object().expect("an object"), &kid, &self.key)?)
    }
}

/// `wsse:Security` around an assertion.
pub fn security(assertion: &str) -> String {
    format!(
        r#"<wsse:Security xmlns:wsse="{NS_WSSE}" xmlns:env="http://www.w3.org/2003/05/soap-envelope" env:mustUnderstand="1">{assertion}</wsse:Security>"#
    )
}

fn common(party: &Party, name: &str, (role, purpose, purposes): (&str, &str, &str)) -> Vec<(&'static str, Claim)> {
    vec![
        ("subject_name", Claim::Text(name.to_owned())),
        ("organisation", Claim::Text("Testisairaala".to_owned())),
        ("organisation_id", Claim::Oid(party.organisation.to_owned())),
        ("role", Claim::Code("Role", role.to_owned(), ROLES.to_owned())),
        ("purpose", Claim::Code("PurposeOfUse", purpose.to_owned(), purposes.to_owned())),
        ("unit", Claim::Oid(party.unit())),
        ("controller", Claim::Oid(party.controller.to_owned())),
        ("register", Claim::Code("CodedValue", party.register.to_owned(), REGISTERS.to_owned())),
        ("software", Claim::Oid(party.software())),
    ]
}

/// Names of profile 04 §4.
fn wire_name(key: &str) -> &'static str {
    match key {
        "subject_name" => "urn:oasis:names:tc:xspa:1.0:subject:subject-id",
        "organisation" => "urn:oasis:names:tc:xspa:1.0:subject:organization",
        "organisation_id" => "urn:oasis:names:tc:xspa:1.0:subject:organization-id",
        "role" => "urn:oasis:names:tc:xacml:2.0:subject:role",
        "purpose" => "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse",
        "patient" => "urn:oasis:names:tc:xacml:2.0:resource:resource-id",
        "provider_identifier" => "urn:ihe:iti:xua:2017:subject:provider-identifier",
        "unit" => "urn:x-idr:xua:unit",
        "controller" => "urn:x-idr:xua:controller",
        "register" => "urn:x-idr:xua:register",
        "care_reason" => "urn:x-idr:xua:care-reason",
        "software" => "urn:x-idr:xua:software",
        "site" => "urn:x-idr:xua:site",
        other => unreachable!("no attribute {other} here"),
    }
}

fn saml(name: &str, claim: &Claim) -> Attribute {
    let element = |name: &str, attributes: Vec<(&str, &str)>| {
        Value::Element(ValueElement {
            namespace: NS_HL7.to_owned(),
            name: name.to_owned(),
            attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            foreign_attributes: false,
        })
    };
    let value = match claim {
        Claim::Text(text) => Value::Text(text.clone()),
        Claim::Oid(oid) => Value::Text(format!("urn:oid:{oid}")),
        Claim::Code(name, code, system) => element(name, vec![("code", code), ("codeSystem", system)]),
        Claim::Instance(root, extension) => element("id", vec![("root", root), ("extension", extension)]),
    };
    Attribute { name: name.to_owned(), values: vec![value] }
}

/// `_` and 32 hex digits.
fn random_id() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    format!("_{}", hex::encode(bytes))
}

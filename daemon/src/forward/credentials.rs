//! Signed assertions of this site (profile 04 §13): one for each SOAP request, one JWT for each STOW-RS request.
//!
//! An assertion is made when its request is sent, never when it is queued.

use anyhow::Context as _;
use idr_host::files::read_private;
use idr_ihe::assertion::{EnvelopedSigner, NS_WSSE, SigningKey, sha256};
use idr_ihe::metadata::PatientId;
use idr_profile::identifier::Specifier;
use idr_profile::mapping::ControllerRow;
use idr_profile::xua::XuaRules;
use idr_profile::xua::produce::{self, Production, TechnicalUser, TokenBinding, Upload};
use jiff::Timestamp;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::Config;

/// AuthnContextClassRef of a technical user: it authenticated by its certificate (profile 04 §5.5).
const AUTHN_CONTEXT: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:X509";

/// Signs for this site.
pub struct Credentials {
    user: TechnicalUser,
    rules: XuaRules,
    key: SigningKey,
    certificate: Vec<u8>,
    tls_sha256: [u8; 32],
    audience: String,
}

/// Whose data a request carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bearing {
    /// The patient of the data set.
    pub patient: PatientId,
    /// OID of the controller.
    pub controller: String,
    /// Register code.
    pub register: String,
    /// Register specifier, for register 4.
    pub specifier: Option<String>,
    /// OID of the unit.
    pub unit: Option<String>,
    /// Service event of the study.
    pub service_event: Option<String>,
}

impl Bearing {
    /// Of a study with this row of the controller map.
    pub fn new(patient: PatientId, row: &ControllerRow, service_event: Option<String>) -> Self {
        Self {
            patient,
            controller: row.controller.clone(),
            register: row.register.clone(),
            specifier: row.specifier.clone(),
            unit: row.service_unit.clone(),
            service_event,
        }
    }
}

impl Credentials {
    /// Reads key and certificate. `tls_sha256` is the fingerprint of the TLS client certificate that tokens are bound to.
    ///
    /// # Errors
    /// Names the file.
    pub fn load(config: &Config, tls_sha256: [u8; 32]) -> anyhow::Result<Self> {
        let assertion = config.assertion.as_ref().context("[assertion] is missing")?;
        let path = &assertion.certificate;
        let pem = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let certificate = idr_profile::tls::certificates(&pem, "assertion.certificate")?.remove(0).to_vec();
        let pem = read_private(&assertion.key)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .map_err(|_| anyhow::anyhow!("{}: no PKCS#8 private key in PEM", assertion.key.display()))?;
        let key = SigningKey::from_pkcs8(der.secret_pkcs8_der()).with_context(|| format!("{}: cannot sign", assertion.key.display()))?;
        let xua = config.files.rules.join("base").join("xua.toml");
        let text = std::fs::read_to_string(&xua).with_context(|| format!("{}: cannot be read", xua.display()))?;
        Ok(Self {
            user: TechnicalUser {
                issuer: assertion.issuer.clone(),
                oid: assertion.technical_user.clone(),
                name: config.site.id.clone(),
                organisation: config.site.organisation_name.clone(),
                organisation_id: config.site.organisation.clone(),
                software: config.site.source_oid.clone(),
                site: config.site.id.clone(),
                home_community: None,
            },
            rules: XuaRules::parse(&text)?,
            key,
            certificate,
            tls_sha256,
            audience: assertion.audience.clone(),
        })
    }

    /// Throw-away key and names.
    #[cfg(test)]
    pub(super) fn for_tests(key: SigningKey) -> Self {
        Self {
            user: TechnicalUser {
                issuer: "urn:oid:1.2.246.10.12345671".to_owned(),
                oid: "1.2.246.10.12345671.12.9".to_owned(),
                name: "site-1".to_owned(),
                organisation: "Testisairaala".to_owned(),
                organisation_id: "1.2.246.10.12345671".to_owned(),
                software: "1.2.246.10.12345671.12.9".to_owned(),
                site: "site-1".to_owned(),
                home_community: None,
            },
            rules: XuaRules::shipped(),
            key,
            certificate: vec![1, 2, 3],
            tls_sha256: [4; 32],
            audience: "urn:x-idr:audience:central".to_owned(),
        }
    }

    fn upload(bearing: &Bearing, now: Timestamp) -> anyhow::Result<Upload> {
        let today = jiff::tz::TimeZone::UTC.to_datetime(now).date();
        let specifier = bearing.specifier.as_deref().map(|text| Specifier::from_slot(text, today)).transpose()?;
        Ok(Upload {
            controller: bearing.controller.clone(),
            register: bearing.register.clone(),
            specifier,
            service_event: bearing.service_event.clone(),
            outsourced_authorisation: None,
            unit: bearing.unit.clone(),
            patient: Some(bearing.patient.clone()),
        })
    }

    /// `Authorization` of a request about many patients of one controller and register (profile 04 §4 C1).
    ///
    /// # Errors
    /// As [`Credentials::authorization`].
    pub fn custody(&self, bearing: &Bearing, now: Timestamp, random: [u8; 16]) -> anyhow::Result<String> {
        let upload = Upload { patient: None, service_event: None, ..Self::upload(bearing, now)? };
        Ok(format!("Bearer {}", self.token(&produce::automatic_upload(&self.user, &upload, &self.rules)?, now, random)?))
    }

    fn production<'a>(&'a self, claims: &'a idr_profile::access::Claims, now: Timestamp, random: [u8; 16]) -> Production<'a> {
        Production { claims, audience: &self.audience, authn_context: AUTHN_CONTEXT, authn_instant: now, now, random }
    }

    /// `wsse:Security` with a fresh SAML assertion; `random` makes its ID.
    ///
    /// # Errors
    /// The key cannot sign, or the specifier is none.
    pub fn security(&self, bearing: &Bearing, now: Timestamp, random: [u8; 16]) -> anyhow::Result<String> {
        let assertion = self.assertion(bearing, now, random)?;
        Ok(format!("<wsse:Security xmlns:wsse=\"{NS_WSSE}\">{assertion}</wsse:Security>"))
    }

    /// A fresh SAML assertion by itself, as a user identity carries it.
    ///
    /// # Errors
    /// As [`Credentials::security`].
    pub fn assertion(&self, bearing: &Bearing, now: Timestamp, random: [u8; 16]) -> anyhow::Result<String> {
        let claims = produce::automatic_upload(&self.user, &Self::upload(bearing, now)?, &self.rules)?;
        let signer = EnvelopedSigner { key: &self.key, certificate: &self.certificate };
        Ok(produce::saml(&self.production(&claims, now, random), &self.rules, &signer)?)
    }

    /// `Authorization` with a fresh JWT; `random` makes its id.
    ///
    /// # Errors
    /// The key cannot sign, or the specifier is none.
    pub fn authorization(&self, bearing: &Bearing, now: Timestamp, random: [u8; 16]) -> anyhow::Result<String> {
        Ok(format!("Bearer {}", self.jwt(bearing, now, random)?))
    }

    /// A fresh JWT by itself, as a user identity carries it.
    ///
    /// # Errors
    /// As [`Credentials::authorization`].
    pub fn jwt(&self, bearing: &Bearing, now: Timestamp, random: [u8; 16]) -> anyhow::Result<String> {
        self.token(&produce::automatic_upload(&self.user, &Self::upload(bearing, now)?, &self.rules)?, now, random)
    }

    fn token(&self, claims: &idr_profile::access::Claims, now: Timestamp, random: [u8; 16]) -> anyhow::Result<String> {
        let binding = TokenBinding { signer_sha256: sha256(&self.certificate), tls_sha256: self.tls_sha256, scope: "idr.store" };
        Ok(produce::jwt(&self.production(claims, now, random), &self.rules, &binding, &self.key)?)
    }
}

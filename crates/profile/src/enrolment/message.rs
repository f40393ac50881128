//! Bodies of `/enrol/v1` (profile 10 §6.2, §6.3). Members that are unknown are refused.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Mode;
use crate::receipt::ReceiptKey;

/// Longest body, bytes: two chains of 24 KiB, with what JSON adds.
pub const BODY_BYTES_MAX: usize = 65_536;
/// Longest chain, bytes of PEM.
pub const CHAIN_BYTES_MAX: usize = 24_576;

/// `POST join`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Of the join string.
    pub token: String,
    /// `site.id`.
    pub site: String,
    /// Program and version.
    pub software: String,
    /// TLS key.
    pub tls: Offer,
    /// Signing key.
    pub sign: Offer,
    /// Public Ed25519 keys.
    pub k6: PublicKeys,
    /// Of `GET nonce`; needed with proofs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("site", &self.site).field("token", &"<redacted>").finish_non_exhaustive()
    }
}

/// One key: a request (mode issue), or a certificate with the proof that the site has its key (mode register).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// PKCS#10, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
    /// Chain, PEM, the certificate first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Signature over [`super::over`], base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// Public keys of kind K6, base64url of 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    /// Of a signed audit log; a site without one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<String>,
    /// Of receipts.
    pub receipt: String,
}

/// `GET nonce`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nonce {
    /// base64url of 32 bytes, for one use within 300 s.
    pub nonce: String,
}

/// 201 of `POST join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Site, as the centre knows it now.
    pub site: String,
    /// Its organisation.
    pub organisation: String,
    /// Who made the certificates.
    pub mode: Mode,
    /// `Issuer` of its assertions.
    pub issuer: String,
    /// Controllers that it may speak for.
    pub controllers: Vec<String>,
    /// AE titles that it may call with.
    pub ae_titles: Vec<String>,
    /// Chain of its TLS certificate, PEM (mode issue).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Chain of its signing certificate, PEM (mode issue).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<String>,
    /// Whom the site shall believe.
    pub trust: TrustBundle,
    /// Pins of the centre's certificate.
    pub pins: Vec<String>,
    /// Addresses.
    pub endpoints: Endpoints,
    /// Names of rule sets.
    pub rule_sets: Vec<String>,
    /// Public receipt keys of the centre.
    pub receipt_keys: Vec<ReceiptKey>,
    /// Public keys of the centre's audit checkpoints, base64url.
    pub audit_keys: Vec<String>,
    /// Last instant for `POST confirm`.
    pub confirm_by: Timestamp,
    /// Consent snapshot; none is made.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Id of the site's secret of 05 §15; none is made.
    #[serde(default)]
    pub site_secret_id: Option<String>,
}

/// Certificates to believe, each PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    /// Of TLS.
    pub tls_anchors: Vec<String>,
    /// Intermediates of TLS.
    pub tls_intermediates: Vec<String>,
    /// Of signatures.
    pub signing_anchors: Vec<String>,
}

/// Addresses of the centre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// `https://host[:port]`: mutual TLS.
    pub url: String,
    /// Path of DICOMweb.
    pub dicomweb: String,
    /// Path of SOAP.
    pub gateway: String,
    /// Path of `confirm` and `renew`.
    pub enrol: String,
}

/// 200 of `POST confirm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The site.
    pub site: String,
    /// Its row is in force.
    pub active: bool,
}

/// `POST renew`, over mutual TLS: new keys for old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// TLS key.
    pub tls: Offer,
    /// Signing key.
    pub sign: Offer,
    /// Of `GET nonce`; needed with proofs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// 200 of `POST renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// Chain of the TLS certificate, PEM (mode issue).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// Chain of the signing certificate, PEM (mode issue).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<String>,
    /// So long the earlier certificates count beside the new ones.
    pub earlier_until: Timestamp,
}

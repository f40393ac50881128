//! Other communities and repositories that the centre asks (profile 08 §5; 10 F09): `[federation]`, `[[community]]` and the
//! endpoint of a `[[repository]]`. Nobody is asked until rows are added.

use std::path::PathBuf;

use idr_host::config::Fault;
use serde::Deserialize;

/// Bounds of what is asked of others, and who we are to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Federation {
    /// Own TLS client certificate, PEM; absent: that of `[https]`.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, mode 0600 or 0400.
    pub key: Option<PathBuf>,
    /// TCP connect and TLS handshake together, seconds.
    pub connect_seconds: u64,
    /// All communities of one query, seconds.
    pub query_seconds: u64,
    /// All communities and repositories of one retrieve, seconds.
    pub retrieve_seconds: u64,
    /// Those that are asked side by side for one request.
    pub parallel_max: usize,
    /// Requests of clients that wait for others at the same time; what more there is does without the others' part.
    pub waiting_max: usize,
    /// Requests to one of them at the same time.
    pub requests_max: usize,
    /// One answer to a query, bytes.
    pub query_bytes_max: u64,
    /// One answer to a retrieve, bytes.
    pub retrieve_bytes_max: u64,
    /// Objects of one answer to a query.
    pub objects_max: usize,
    /// Errors of one answer.
    pub errors_max: usize,
    /// Failures in a row after which nothing is asked for a while.
    pub failures_max: u32,
    /// How long then, seconds.
    pub pause_seconds: u64,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            connect_seconds: 10,
            query_seconds: 25,
            retrieve_seconds: 120,
            parallel_max: 8,
            waiting_max: 24,
            requests_max: 32,
            query_bytes_max: 8 << 20,
            retrieve_bytes_max: 1 << 30,
            objects_max: 20_000,
            errors_max: 200,
            failures_max: 5,
            pause_seconds: 30,
        }
    }
}

/// What a community may be asked.
pub const COMMUNITY_TRANSACTIONS: [&str; 3] = ["ITI-38", "ITI-39", "RAD-75"];

/// Another community (08 §5): its row binds its homeCommunityId to an address and a certificate (10 B9-S1).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Community {
    /// homeCommunityId, OID.
    pub home: String,
    /// Address of its responding gateway, `https://host[:port]/path`.
    pub endpoint: String,
    /// `sha256/<base64 of the SHA-256 of the SPKI>` of its certificate or an authority above it; at least one.
    pub pins: Vec<String>,
    /// Its name in the AudienceRestriction of assertions (H-07, 04 §8): it is asked for those alone whose assertion lists it.
    pub audience: String,
    /// What it may be asked, of [`COMMUNITY_TRANSACTIONS`].
    #[serde(default)]
    pub transactions: Vec<String>,
    /// Also asked when a query names a patient and no community (H-03).
    #[serde(default)]
    pub query_by_patient: bool,
    /// Longest wait for the head of its answer to a retrieve, and for its whole answer to a query, seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
}

pub(super) fn default_timeout() -> u64 {
    20
}

impl Federation {
    /// # Errors
    /// The key, and what is allowed.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.certificate.is_some() != self.key.is_some() {
            return fault("federation.key", "certificate and key stand together or not at all".to_owned());
        }
        for (key, value, (least, most)) in [
            ("connect_seconds", self.connect_seconds, (1, 60)),
            ("query_seconds", self.query_seconds, (1, 300)),
            ("retrieve_seconds", self.retrieve_seconds, (1, 1_200)),
            ("parallel_max", self.parallel_max as u64, (1, 64)),
            ("waiting_max", self.waiting_max as u64, (1, 1_024)),
            ("requests_max", self.requests_max as u64, (1, 1_024)),
            ("query_bytes_max", self.query_bytes_max, (65_536, 8 << 20)),
            ("retrieve_bytes_max", self.retrieve_bytes_max, (65_536, 4 << 30)),
            ("objects_max", self.objects_max as u64, (1, 100_000)),
            ("errors_max", self.errors_max as u64, (1, 10_000)),
            ("failures_max", u64::from(self.failures_max), (1, 1_000)),
            ("pause_seconds", self.pause_seconds, (1, 3_600)),
        ] {
            within(&format!("federation.{key}"), value, least, most)?;
        }
        Ok(())
    }
}

impl Community {
    /// # Errors
    /// The key, and what is allowed.
    pub(super) fn check(&self, at: usize, own: &str, before: &[Self]) -> Result<(), Fault> {
        let key = |name: &str| format!("community[{at}].{name}");
        if !idr_ihe::metadata::is_oid(&self.home) {
            return fault(&key("home"), format!("'{}' is no OID", self.home));
        }
        if self.home == own || before.iter().any(|other| other.home == self.home) {
            return fault(&key("home"), format!("'{}' is used already", self.home));
        }
        if let Some(unknown) = self.transactions.iter().find(|name| !COMMUNITY_TRANSACTIONS.contains(&name.as_str())) {
            return fault(&key("transactions"), format!("'{unknown}' is unknown; allowed: {}", COMMUNITY_TRANSACTIONS.join(", ")));
        }
        if self.query_by_patient && !self.transactions.iter().any(|name| name == "ITI-38") {
            return fault(&key("query_by_patient"), "needs ITI-38 in transactions".to_owned());
        }
        check_audience(&key, &self.audience)?;
        check_endpoint(&key, &self.endpoint, &self.pins, self.timeout_seconds)
    }
}

/// An address, who must answer there, and how soon.
pub(super) fn check_endpoint(key: &dyn Fn(&str) -> String, endpoint: &str, pins: &[String], timeout: u64) -> Result<(), Fault> {
    let host = endpoint.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let is_url = reqwest::Url::parse(endpoint).is_ok_and(|url| url.has_host());
    if !is_url || host.is_empty() || host.contains('@') || endpoint.contains(['?', '#']) || endpoint.chars().any(char::is_whitespace) {
        return fault(&key("endpoint"), format!("'{endpoint}' is not allowed; https://host[:port]/path"));
    }
    if pins.is_empty() || pins.iter().any(|pin| !is_pin(pin)) {
        return fault(&key("pins"), "at least one is needed; each is sha256/<base64 of the SHA-256 of the SPKI>".to_owned());
    }
    within(&key("timeout_seconds"), timeout, 1, 300)
}

/// A URI as it stands in an assertion.
pub(super) fn check_audience(key: &dyn Fn(&str) -> String, audience: &str) -> Result<(), Fault> {
    if audience.is_empty() || audience.len() > 1024 || audience.chars().any(char::is_whitespace) {
        return fault(&key("audience"), "needed: the URI by which assertions name it as their audience".to_owned());
    }
    Ok(())
}

fn is_pin(pin: &str) -> bool {
    use base64::Engine as _;
    let digest = pin.strip_prefix("sha256/").and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    digest.is_some_and(|digest| digest.len() == 32)
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<(), Fault> {
    if (least..=most).contains(&value) { Ok(()) } else { fault(key, format!("{value} is outside {least}–{most}")) }
}

fn fault(key: &str, problem: String) -> Result<(), Fault> {
    Err((key.to_owned(), problem))
}

//! Enrolment of sites (profile 10 §6).

use std::net::SocketAddr;
use std::path::PathBuf;

use idr_host::config::{Fault, check_base_url};
use serde::Deserialize;

/// The door by which sites join, and what is made there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enrolment {
    /// TLS 1.3 without a client certificate, for `nonce` and `join` alone; off until it has an address.
    pub listen: Vec<SocketAddr>,
    /// Address of that door as sites reach it, for join strings: `https://enrol.central.idr.example`.
    pub public_url: String,
    /// Further pins of the centre, `sha256/<base64 SPKI digest>`, beside that of `https.certificate`: the key that comes next.
    pub pins: Vec<String>,
    /// An invite counts only after a second operator has approved it.
    pub two_person: bool,
    /// Certificate of the authority that signs for sites (K5), PEM; in `enrolment_authorities` of `trust.toml` too. Absent: every
    /// site brings certificates of its own authority (mode register).
    pub authority_certificate: Option<PathBuf>,
    /// Its key, PEM, mode 0600 or 0400.
    pub authority_key: Option<PathBuf>,
    /// Days of a TLS certificate that is issued, 1–366.
    pub tls_days: u32,
    /// Days of a signing certificate that is issued, 1–731.
    pub signature_days: u32,
    /// Days for which the earlier certificates count beside renewed ones, 0–7.
    pub overlap_days: u32,
    /// Transactions of the rows of enrolled sites.
    pub transactions: Vec<String>,
    /// TCP connections at once.
    pub connections_max: usize,
    /// Requests of one address in 60 s.
    pub requests_per_address: u32,
    /// Requests in 60 s, all together.
    pub requests: u32,
    /// After how long a refusal is answered, milliseconds.
    pub refusal_milliseconds: u64,
}

impl Default for Enrolment {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            public_url: "https://enrol.central.idr.example".to_owned(),
            pins: Vec::new(),
            two_person: true,
            authority_certificate: None,
            authority_key: None,
            tls_days: 366,
            signature_days: 731,
            overlap_days: 7,
            transactions: ["STOW-RS", "RAD-68", "ITI-18", "ITI-57", "CUSTODY"].map(str::to_owned).to_vec(),
            connections_max: 64,
            requests_per_address: 10,
            requests: 100,
            refusal_milliseconds: 500,
        }
    }
}

impl Enrolment {
    pub(super) fn check(&self) -> Result<(), Fault> {
        let fault = |key: &str, problem: String| Err((format!("enrol.{key}"), problem));
        check_base_url("enrol.public_url", &self.public_url)?;
        for (key, days, most) in
            [("tls_days", self.tls_days, 366), ("signature_days", self.signature_days, 731), ("overlap_days", self.overlap_days + 1, 8)]
        {
            if !(1..=most).contains(&days) {
                return fault(key, format!("outside the days that the profile allows, at most {most}"));
            }
        }
        if self.authority_certificate.is_some() != self.authority_key.is_some() {
            return fault("authority_certificate", "certificate and key belong together; name both or none".to_owned());
        }
        if let Some(unknown) = self.transactions.iter().find(|name| !super::TRANSACTIONS.contains(&name.as_str())) {
            return fault("transactions", format!("'{unknown}' is unknown; allowed: {}", super::TRANSACTIONS.join(", ")));
        }
        for (key, value) in [("requests_per_address", self.requests_per_address), ("requests", self.requests)] {
            if !(1..=100_000).contains(&value) {
                return fault(key, format!("{value} is outside 1–100000"));
            }
        }
        if !(1..=65_536).contains(&self.connections_max) {
            return fault("connections_max", format!("{} is outside 1–65536", self.connections_max));
        }
        if self.refusal_milliseconds > 10_000 {
            return fault("refusal_milliseconds", format!("{} is outside 0–10000", self.refusal_milliseconds));
        }
        Ok(())
    }

    /// Files named here.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.authority_certificate, &mut self.authority_key].into_iter().flatten()
    }
}

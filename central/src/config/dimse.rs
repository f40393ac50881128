//! `[dimse]` and `[commitment]`: DICOM over TLS (profile 10 F06, F07, §8, §11 BD-01 … BD-09).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use idr_dimse::association::negotiation::is_ae_title;
use idr_host::config::{Fault, check_fingerprints};
use idr_host::inbound::Least;
use serde::Deserialize;

use super::Peer;

/// The listener for PACS and gateways that store by C-STORE; off until it has an address.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dimse {
    /// TLS listeners; a client certificate is always needed. Empty: none.
    pub listen: Vec<SocketAddr>,
    /// AE titles that may be called (01 D002).
    pub local_ae_titles: Vec<String>,
    /// Certificate chain, PEM; absent: that of `[https]`.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, mode 0600 or 0400; absent: that of `[https]`.
    pub key: Option<PathBuf>,
    /// TCP connections at once (BD-01).
    pub connections_max: usize,
    /// TCP connections at once of one address (BD-01).
    pub connections_per_address_max: usize,
    /// TLS handshakes in progress (BD-02).
    pub handshakes_max: usize,
    /// Longest TLS handshake, seconds (BD-02).
    pub handshake_seconds: u64,
    /// ARTIM timer, seconds (BD-03).
    pub artim_seconds: u64,
    /// Silence between messages of an open association, seconds (BD-09).
    pub idle_seconds: u64,
    /// Whole life of an association, seconds (BD-09).
    pub association_seconds: u64,
    /// Least pace of a message that is under way, bytes per second; 0: none.
    pub pace_bytes_per_second: u64,
    /// It is averaged over so much waiting for the peer, seconds.
    pub pace_seconds: u64,
    /// Maximum PDU length announced, bytes (BD-04).
    pub pdu_length_max: u32,
}

impl Default for Dimse {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            local_ae_titles: Vec::new(),
            certificate: None,
            key: None,
            connections_max: 1024,
            connections_per_address_max: 64,
            handshakes_max: 256,
            handshake_seconds: 10,
            artim_seconds: 30,
            idle_seconds: 900,
            association_seconds: 86_400,
            pace_bytes_per_second: 256,
            pace_seconds: 60,
            pdu_length_max: 131_072,
        }
    }
}

/// Storage commitment, asked by peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commitment {
    /// Most instances of one request.
    pub references_max: usize,
    /// Most requests of one peer without a report.
    pub requests_max: usize,
    /// Longest wait for the answer to a report on the association of the request, seconds.
    pub answer_seconds: u64,
}

impl Default for Commitment {
    fn default() -> Self {
        Self { references_max: 10_000, requests_max: 1_000, answer_seconds: 30 }
    }
}

impl Commitment {
    pub(super) fn check(&self) -> Result<(), Fault> {
        for (key, value, allowed) in [
            ("references_max", self.references_max as u64, 1..=100_000),
            ("requests_max", self.requests_max as u64, 1..=100_000),
            ("answer_seconds", self.answer_seconds, 1..=3_600),
        ] {
            if !allowed.contains(&value) {
                return Err((format!("commitment.{key}"), format!("{value} is outside {}–{}", allowed.start(), allowed.end())));
            }
        }
        Ok(())
    }
}

impl Dimse {
    /// Least pace of a message.
    pub fn least_pace(&self) -> Least {
        Least { bytes_per_second: self.pace_bytes_per_second, window: Duration::from_secs(self.pace_seconds) }
    }

    /// Longest life of an association.
    pub fn association_max(&self) -> Duration {
        Duration::from_secs(self.association_seconds)
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        let fault = |key: &str, problem: String| Err((format!("dimse.{key}"), problem));
        if self.local_ae_titles.is_empty() && !self.listen.is_empty() {
            return fault("local_ae_titles", "name at least one AE title that peers call".to_owned());
        }
        self.local_ae_titles.iter().try_for_each(|title| check_ae_title("dimse.local_ae_titles", title))?;
        if self.certificate.is_some() != self.key.is_some() {
            return fault("certificate", "certificate and key are given both or not at all".to_owned());
        }
        for (key, value, allowed) in [
            ("connections_max", self.connections_max as u64, 1..=65_536),
            ("connections_per_address_max", self.connections_per_address_max as u64, 1..=65_536),
            ("handshakes_max", self.handshakes_max as u64, 1..=65_536),
            ("handshake_seconds", self.handshake_seconds, 1..=300),
            ("artim_seconds", self.artim_seconds, 1..=300),
            ("idle_seconds", self.idle_seconds, 1..=86_400),
            ("association_seconds", self.association_seconds, 1..=86_400),
            ("pace_bytes_per_second", self.pace_bytes_per_second, 0..=65_536),
            ("pace_seconds", self.pace_seconds, 1..=3_600),
            ("pdu_length_max", u64::from(self.pdu_length_max), 4_096..=1_048_576),
        ] {
            if !allowed.contains(&value) {
                return fault(key, format!("{value} is outside {}–{}", allowed.start(), allowed.end()));
            }
        }
        Ok(())
    }
}

/// What a row needs to be a DIMSE peer (04 §10.4: the calling AE title is listed for the organisation).
pub(super) fn check_peer(at: usize, row: &Peer) -> Result<(), Fault> {
    let key = |name: &str| format!("peer[{at}].{name}");
    row.ae_titles.iter().try_for_each(|title| check_ae_title(&key("ae_titles"), title))?;
    row.commitment_ae_title.iter().try_for_each(|title| check_ae_title(&key("commitment_ae_title"), title))?;
    check_fingerprints(&key("commitment_certificates"), &row.commitment_certificates)?;
    let by_dimse = |name: &&String| matches!(name.as_str(), "C-STORE" | "N-ACTION");
    match row.transactions.iter().find(by_dimse) {
        Some(transaction) if row.ae_titles.is_empty() => {
            Err((key("ae_titles"), format!("{transaction} needs the AE titles that the peer calls with")))
        }
        _ => Ok(()),
    }
}

fn check_ae_title(key: &str, title: &str) -> Result<(), Fault> {
    let valid = is_ae_title(title) && title.trim_matches(' ') == title;
    if valid { Ok(()) } else { Err((key.to_owned(), format!("'{title}' is no AE title; 1–16 printable characters without '\\'"))) }
}

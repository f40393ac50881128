//! `[mllp]`: HL7 messages of patient administration (profile 06 §1).

use std::net::SocketAddr;

use idr_host::config::{Fault, check_loopback};
use serde::Deserialize;

/// MLLP listeners and their bounds. Off until an address is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mllp {
    /// Mutual TLS, with the certificate of `[https]`; 2575 is the usual port.
    pub listen: Vec<SocketAddr>,
    /// Without TLS, on loopback only.
    pub plain_listen: Vec<SocketAddr>,
    /// Connections at once (BD-01).
    pub connections_max: usize,
    /// Connections at once of one address (BD-01).
    pub connections_per_address_max: usize,
    /// Connections at once of one organisation.
    pub connections_per_organisation_max: usize,
    /// TLS handshakes in progress (BD-02).
    pub handshakes_max: usize,
    /// Longest TLS handshake, seconds (BD-02).
    pub handshake_seconds: u64,
    /// Longest silence between messages, seconds.
    pub idle_seconds: u64,
    /// Longest time from the first byte of a message to its last, and for an answer to be taken, seconds.
    pub message_seconds: u64,
    /// Bytes of a message (IDR-H-16).
    pub message_bytes_max: usize,
    /// Bytes between two messages; more closes the connection.
    pub skipped_bytes_max: usize,
    /// Segments of a message (IDR-H-16).
    pub segments_max: usize,
    /// Bytes of a field (IDR-H-16).
    pub field_bytes_max: usize,
    /// Repetitions of a field (IDR-H-16).
    pub repetitions_max: usize,
}

impl Default for Mllp {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            plain_listen: Vec::new(),
            connections_max: 1024,
            connections_per_address_max: 64,
            connections_per_organisation_max: 64,
            handshakes_max: 64,
            handshake_seconds: 10,
            idle_seconds: 3600,
            message_seconds: 30,
            message_bytes_max: 1_048_576,
            skipped_bytes_max: 4096,
            segments_max: 500,
            field_bytes_max: 65_536,
            repetitions_max: 200,
        }
    }
}

impl Mllp {
    pub(super) fn check(&self) -> Result<(), Fault> {
        for address in &self.plain_listen {
            check_loopback("mllp.plain_listen", Some(*address))?;
        }
        for (key, value, most) in [
            ("connections_max", self.connections_max, 65_536),
            ("connections_per_address_max", self.connections_per_address_max, 65_536),
            ("connections_per_organisation_max", self.connections_per_organisation_max, 65_536),
            ("handshakes_max", self.handshakes_max, 65_536),
            ("message_bytes_max", self.message_bytes_max, 16 << 20),
            ("skipped_bytes_max", self.skipped_bytes_max, 1 << 20),
            ("segments_max", self.segments_max, 10_000),
            ("field_bytes_max", self.field_bytes_max, 16 << 20),
            ("repetitions_max", self.repetitions_max, 10_000),
        ] {
            if !(1..=most).contains(&value) {
                return Err((format!("mllp.{key}"), format!("{value} is outside 1–{most}")));
            }
        }
        for (key, value) in
            [("handshake_seconds", self.handshake_seconds), ("idle_seconds", self.idle_seconds), ("message_seconds", self.message_seconds)]
        {
            if !(1..=86_400).contains(&value) {
                return Err((format!("mllp.{key}"), format!("{value} is outside 1–86400")));
            }
        }
        Ok(())
    }
}

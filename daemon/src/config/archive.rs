//! A destination that is served by C-STORE and storage commitment in place of STOW-RS (profile 10 F06).

use std::ops::RangeInclusive;

use idr_host::config::{Fault, check_name};
use idr_profile::identifier::Environment;
use serde::{Deserialize, Serialize};

use super::check_ae_title;

/// Where instances go by DIMSE. Manifests, receipts and questions stay with the URL of the centre.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Host name or address, and port.
    pub address: String,
    /// AE title that is called.
    pub ae_title: String,
    /// AE title of this site there.
    #[serde(default = "default_calling")]
    pub calling_ae_title: String,
    /// TLS with the certificate of `[centre]`; without it in `environment = "test"` only.
    #[serde(default = "default_true")]
    pub tls: bool,
    /// Name that its certificate must have; absent: that of `address`.
    pub server_name: Option<String>,
    /// `sha256/<base64 of the SPKI digest>` of its certificate's path, one of these; empty: any of the TLS anchors.
    #[serde(default)]
    pub pins: Vec<String>,
    /// Assertion that each association carries (profile 04 §10.4).
    #[serde(default)]
    pub identity: Identity,
    /// It is the centre, which gives receipts; without them what it commits is all that is known (profile 11 §3).
    #[serde(default = "default_true")]
    pub receipts: bool,
    /// How long a report of storage commitment is waited for on the association of its request, seconds; 0 = not at all.
    #[serde(default = "default_report_seconds")]
    pub report_seconds: u64,
    /// Row of `inbound` by which it calls this site to report; absent: on the association of the request alone.
    pub report_row: Option<String>,
    /// Instances in one request for storage commitment.
    #[serde(default = "default_references")]
    pub references_max: usize,
    /// Dialect of its C-STORE statuses (profile 03 §4.4).
    pub dialect: Option<String>,
}

/// User identity of an association.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// None: a foreign archive.
    None,
    /// A SAML assertion (type 4).
    Saml,
    /// A JWT (type 5).
    #[default]
    Jwt,
}

fn default_true() -> bool {
    true
}
fn default_calling() -> String {
    "IDRSITE".to_owned()
}
fn default_report_seconds() -> u64 {
    30
}
fn default_references() -> usize {
    1000
}

impl Archive {
    /// Host and port of `address`.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty() && !host.contains(char::is_whitespace)).then_some((host, port))
    }

    /// # Errors
    /// The first key that cannot be.
    pub(super) fn check(&self, environment: Environment, rows: &[super::Inbound], dialects: &[&str]) -> Result<(), Fault> {
        let fault = |key: &str, problem: String| Err((format!("centre.dimse.{key}"), problem));
        if self.host_and_port().is_none() {
            return fault("address", format!("'{}' is no host and port, as \"central.example:2762\"", self.address));
        }
        check_ae_title("centre.dimse.ae_title", &self.ae_title)?;
        check_ae_title("centre.dimse.calling_ae_title", &self.calling_ae_title)?;
        if !self.tls && environment == Environment::Production {
            return fault("tls", "images leave in production over TLS alone".to_owned());
        }
        if !self.tls && self.identity != Identity::None {
            return fault("identity", "an assertion goes over TLS alone: set tls = true or identity = \"none\"".to_owned());
        }
        let ranges: [(&str, u64, RangeInclusive<u64>); 2] =
            [("report_seconds", self.report_seconds, 0..=600), ("references_max", self.references_max as u64, 1..=10_000)];
        if let Some((key, value, range)) = ranges.into_iter().find(|(_, value, range)| !range.contains(value)) {
            return fault(key, format!("{value} is outside {}–{}", range.start(), range.end()));
        }
        if let Some(row) = &self.report_row {
            check_name("centre.dimse.report_row", row)?;
            if !rows.iter().any(|other| other.name == *row) {
                return fault("report_row", format!("there is no [[inbound]] row named '{row}'"));
            }
        }
        match &self.dialect {
            Some(dialect) if !dialects.contains(&dialect.as_str()) => {
                fault("dialect", format!("'{dialect}' is none of {}", dialects.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(more: &str) -> Archive {
        toml::from_str(&format!("address = \"pacs.example:104\"\nae_title = \"PACS\"\n{more}")).expect("an archive")
    }

    fn fault_of(more: &str, environment: Environment) -> Option<String> {
        archive(more).check(environment, &[], &["dcm4chee"]).err().map(|(key, _)| key)
    }

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        use Environment::{Production, Test};
        assert_eq!(fault_of("", Production), None);
        assert_eq!(fault_of("dialect = \"dcm4chee\"", Production), None);
        for (more, environment, key) in [
            ("tls = false", Production, "centre.dimse.tls"),
            ("tls = false", Test, "centre.dimse.identity"),
            ("calling_ae_title = \"A\\\\B\"", Test, "centre.dimse.calling_ae_title"),
            ("report_seconds = 601", Test, "centre.dimse.report_seconds"),
            ("references_max = 0", Test, "centre.dimse.references_max"),
            ("report_row = \"nobody\"", Test, "centre.dimse.report_row"),
            ("dialect = \"other\"", Test, "centre.dimse.dialect"),
        ] {
            assert_eq!(fault_of(more, environment).as_deref(), Some(key), "{more}");
        }
        assert_eq!(fault_of("tls = false\nidentity = \"none\"", Test), None);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let of = |address: &str| Archive { address: address.to_owned(), ..archive("") };
        assert_eq!(of("central.example:2762").host_and_port(), Some(("central.example", 2762)));
        assert_eq!(of("[::1]:104").host_and_port(), Some(("::1", 104)));
        for wrong in ["central.example", ":104", "a b:104", "central.example:0", "central.example:70000", ""] {
            assert_eq!(of(wrong).host_and_port(), None, "{wrong}");
        }
    }
}

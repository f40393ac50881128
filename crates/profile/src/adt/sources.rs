//! `hl7-sources.toml`: who may send, what, and whose names for authorities and places mean which OIDs.

use std::collections::{BTreeMap, BTreeSet};

use idr_ihe::hl7::Charset;
use idr_ihe::metadata::is_oid;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::identifier::is_same_or_below;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    receiver: Vec<Receiver>,
    #[serde(default)]
    source: Vec<SourceRow>,
    #[serde(default)]
    namespace_map: BTreeMap<String, String>,
    #[serde(default)]
    local_issuers: Vec<String>,
    #[serde(default)]
    location_map: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Receiver {
    application: String,
    facility: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceRow {
    application: String,
    facility: String,
    organisation: String,
    #[serde(default)]
    events: BTreeSet<String>,
    roots: Vec<String>,
    #[serde(default)]
    may_merge: bool,
    #[serde(default)]
    may_change_hetu: bool,
    #[serde(default = "helsinki")]
    time_zone: String,
    #[serde(default = "latin1")]
    default_charset: String,
    #[serde(default = "priority")]
    priority: u32,
}

fn helsinki() -> String {
    "Europe/Helsinki".to_owned()
}
fn latin1() -> String {
    "8859/1".to_owned()
}
fn priority() -> u32 {
    100
}

/// A sender: one MSH-3 and MSH-4 of one organisation.
#[derive(Debug, Clone)]
pub struct Source {
    /// MSH-3.1.
    pub application: String,
    /// MSH-4.1.
    pub facility: String,
    /// Organisation of the TLS client certificate, OID.
    pub organisation: String,
    /// Events that it may send; empty: all that are read.
    pub events: BTreeSet<String>,
    /// Authorities that it may speak for, with all below them.
    pub roots: Vec<String>,
    /// A40, A18, A47, A24, A37.
    pub may_merge: bool,
    /// A hetu may become another hetu.
    pub may_change_hetu: bool,
    /// Of time stamps without an offset.
    pub time_zone: TimeZone,
    /// Of messages without MSH-18.
    pub default_charset: Charset,
    /// Whose demographics count if several tell them: the lowest; then the newest.
    pub priority: u32,
}

impl Source {
    /// `MSH-3|MSH-4`, the key of order and idempotency.
    pub fn key(&self) -> String {
        format!("{}|{}", self.application, self.facility)
    }

    /// Whether it may speak for ids of an authority.
    pub fn speaks_for(&self, authority: &str) -> bool {
        self.roots.iter().any(|root| is_same_or_below(authority, root))
    }
}

/// Everybody who may send.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    receivers: Vec<(String, String)>,
    sources: Vec<Source>,
    namespaces: BTreeMap<String, String>,
    /// Authorities whose ids are secondary ids.
    pub local_issuers: Vec<String>,
    locations: BTreeMap<String, String>,
}

/// Why a `hl7-sources.toml` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// Not TOML, a key unknown or missing.
    #[error("hl7-sources.toml: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value that does not hold.
    #[error("hl7-sources.toml: {key}: {problem}")]
    Value {
        /// Which key.
        key: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

impl Sources {
    /// Reads the file.
    ///
    /// # Errors
    /// [`SourcesError`] names the key.
    pub fn parse(text: &str) -> Result<Self, SourcesError> {
        let file: File = toml::from_str(text)?;
        let fault = |key: String, problem: String| Err(SourcesError::Value { key, problem });
        for (key, oid) in
            file.namespace_map.values().map(|oid| ("namespace_map", oid)).chain(file.local_issuers.iter().map(|oid| ("local_issuers", oid)))
        {
            if !is_oid(oid) {
                return fault(key.to_owned(), format!("'{oid}' is no OID"));
            }
        }
        if let Some(unit) = file.location_map.values().find(|oid| !is_oid(oid)) {
            return fault("location_map".to_owned(), format!("'{unit}' is no OID"));
        }
        let mut sources: Vec<Source> = Vec::new();
        for (at, row) in file.source.into_iter().enumerate() {
            let key = |name: &str| format!("source[{at}].{name}");
            if !is_oid(&row.organisation) {
                return fault(key("organisation"), format!("'{}' is no OID", row.organisation));
            }
            if row.application.is_empty() || row.facility.is_empty() {
                return fault(key("application"), "application and facility are MSH-3.1 and MSH-4.1; neither is empty".to_owned());
            }
            if let Some(root) = row.roots.iter().find(|root| !is_oid(root)) {
                return fault(key("roots"), format!("'{root}' is no OID"));
            }
            let Ok(time_zone) = TimeZone::get(&row.time_zone) else {
                return fault(key("time_zone"), format!("'{}' is not in the time zone database", row.time_zone));
            };
            let Some(default_charset) = Charset::by_name(&row.default_charset) else {
                return fault(key("default_charset"), "allowed: ASCII, 8859/1, 8859/15, UNICODE UTF-8".to_owned());
            };
            // One connection must not match two rows (10 §3).
            if sources.iter().any(|other| (&other.application, &other.facility) == (&row.application, &row.facility)) {
                return fault(key("application"), format!("'{}' of '{}' is listed twice", row.application, row.facility));
            }
            sources.push(Source {
                application: row.application,
                facility: row.facility,
                organisation: row.organisation,
                events: row.events,
                roots: row.roots,
                may_merge: row.may_merge,
                may_change_hetu: row.may_change_hetu,
                time_zone,
                default_charset,
                priority: row.priority,
            });
        }
        Ok(Self {
            receivers: file.receiver.into_iter().map(|row| (row.application, row.facility)).collect(),
            sources,
            namespaces: file.namespace_map,
            local_issuers: file.local_issuers,
            locations: file.location_map,
        })
    }

    /// The source of MSH-3.1 and MSH-4.1.
    pub fn source(&self, application: &str, facility: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.application == application && source.facility == facility)
    }

    /// Priority of a source by its key; those no longer listed come last.
    pub fn priority(&self, key: &str) -> u32 {
        self.sources.iter().find(|source| source.key() == key).map_or(u32::MAX, |source| source.priority)
    }

    /// Whether MSH-5.1 and MSH-6.1 are ours.
    pub fn receives(&self, application: &str, facility: &str) -> bool {
        self.receivers.iter().any(|(a, f)| a == application && f == facility)
    }

    /// The authority that a name in CX.4.1 stands for.
    pub fn authority(&self, namespace: &str) -> Option<&str> {
        self.namespaces.get(namespace).map(String::as_str)
    }

    /// The service unit of a place, `point-of-care^facility` (PV1-3.1, PV1-3.4), or of the point of care alone.
    pub fn unit(&self, point_of_care: &str, facility: &str) -> Option<&str> {
        self.locations.get(&format!("{point_of_care}^{facility}")).or_else(|| self.locations.get(point_of_care)).map(String::as_str)
    }
}

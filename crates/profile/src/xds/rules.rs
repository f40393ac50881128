//! `xds.toml`: rows of rules, limits and switches (profile 08).

use super::check::Check;
use super::message::{Class, Message, Subject, SubmitTransaction};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The shipped set `base`.
const BASE: &str = include_str!("../../../../configs/rules/base/xds.toml");

/// Why a table file is refused. The one in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XdsRulesError {
    /// Not TOML, an unknown key, a value of another type, a check kind that does not exist, a bad pattern.
    #[error("xds.toml: {0}")]
    Toml(String),
    /// Ids do not rise: two rows of one id, or rows in another order.
    #[error("xds.toml: rule {0} stands twice or out of order")]
    Order(String),
    /// A key outside of its range.
    #[error("xds.toml: {key} must be {range}")]
    Range {
        /// Key.
        key: &'static str,
        /// What is allowed.
        range: &'static str,
    },
    /// `off` names a rule that has no row.
    #[error("xds.toml: off names {0}, which is no rule")]
    Unknown(String),
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Rules of the group are asked.
    On,
    /// They are not.
    Off,
}

/// Bounds of a submission (08 §6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Entries, folders and associations together.
    pub submission_objects: usize,
    /// Documents of one ITI-41.
    pub documents: usize,
    /// Instances that one manifest references.
    pub manifest_references: usize,
}

/// Bounds of a query (08 §6, §8).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryLimits {
    /// Permitted objects of all kinds in a LeafClass answer.
    pub max_leafclass: usize,
    /// Permitted objects in an ObjectRef answer.
    pub max_objectref: usize,
    /// Ids of one Slot.
    pub max_ids: usize,
    /// Values of one Slot.
    pub max_values: usize,
    /// Slots of one query.
    pub max_slots: usize,
    /// What a query for an unknown patient gets.
    pub unknown_patient: UnknownPatient,
}

/// Answer to a query for an unknown patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPatient {
    /// Success without objects.
    Empty,
}

/// Bounds of ITI-43 and ITI-39.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrieveLimits {
    /// Documents of one request.
    pub max_documents: usize,
}

/// Bounds of RAD-69 and RAD-75.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imaging {
    /// Instances of one request.
    pub max_instances: usize,
    /// Bytes of one answer.
    pub max_response_bytes: u64,
    /// What is done for a requester that does not list the stored transfer syntax.
    pub transcode: Transcode,
}

/// Bounds of QIDO-RS (09 §6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qido {
    /// Permitted matches of one answer.
    pub max_results: usize,
}

/// Change of transfer syntax on retrieval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transcode {
    /// Bytes go out as stored or not at all.
    Off,
    /// Losslessly coded instances may go out uncompressed.
    Lossless,
}

/// Time limits, seconds (08 §6).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// A query.
    pub query: u32,
    /// A submission, after its last byte.
    pub submit: u32,
    /// First byte of a retrieve's answer.
    pub first_byte: u32,
}

/// ITI-61.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iti61 {
    /// Is it served?
    pub enabled: bool,
}

/// ITI-51.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mpq {
    /// Is it served?
    pub enabled: bool,
}

/// ITI-92.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rmu {
    /// Attributes that it may change.
    pub attributes: BTreeSet<String>,
}

/// Requests of a kind at the same time, per node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Submissions.
    pub submit: usize,
    /// Queries.
    pub query: usize,
    /// Retrieves.
    pub retrieve: usize,
    /// Seconds in the queue before IDR-B-01.
    pub queue_seconds: u32,
}

/// MessageID as idempotency key (08 §4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// Life of an `in_progress` record, seconds.
    pub lease_seconds: u32,
    /// Wait for another node's `in_progress`, seconds.
    pub wait_seconds: u32,
    /// How long a committed answer is kept, 86 400–2 592 000 seconds.
    pub retention_seconds: u32,
    /// What a known SubmissionSet.uniqueId means.
    pub submission_set: Resubmission,
}

/// What a known SubmissionSet.uniqueId means (08 §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resubmission {
    /// Success again, if organisation and canonical content are equal.
    Content,
    /// Always an error (ITI TF-2 §3.42.4.1.3).
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    wait: u32,
}

/// When by-id queries must name a community (08 H-04).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequireHome {
    /// Always.
    Always,
    /// If a foreign community is configured.
    WhenFederated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    Entry,
    Set,
    Folder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Group {
    Manifest,
    National,
}

/// One rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub id: String,
    on: Option<Vec<On>>,
    transactions: Option<Vec<SubmitTransaction>>,
    group: Option<Group>,
    updates: Option<bool>,
    code: String,
    restricted: Option<String>,
    pub text: String,
    pub check: Check,
    #[serde(default)]
    pub stops: bool,
}

impl Row {
    /// Is the rule asked of this object?
    pub fn is_asked_of(&self, subject: &Subject<'_>, message: &Message<'_>) -> bool {
        let class = self.on.as_ref().is_none_or(|on| {
            on.iter()
                .any(|on| matches!((on, subject.class), (On::Entry, Class::Entry) | (On::Set, Class::Set) | (On::Folder, Class::Folder)))
        });
        class && (self.group != Some(Group::National) || message.is_manifest(subject))
    }

    pub fn is_asked_in(&self, transaction: SubmitTransaction) -> bool {
        self.transactions.as_ref().is_none_or(|transactions| transactions.contains(&transaction))
            && self.updates.is_none_or(|updates| updates == transaction.is_update())
    }

    /// errorCode in a transaction.
    pub fn code(&self, transaction: Option<SubmitTransaction>) -> &str {
        let restricted = self.restricted.as_ref().filter(|_| transaction == Some(SubmitTransaction::Iti92));
        restricted.unwrap_or(&self.code)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    rules: Vec<Row>,
}

/// The table file in force.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XdsRules {
    off: BTreeSet<String>,
    manifest_rules: Switch,
    national_rules: Switch,
    /// Accepted media types; empty: any.
    pub mime_types: Vec<String>,
    /// How far creationTime may lie ahead, seconds; 0: not asked.
    pub future_tolerance_s: u32,
    /// Extra slots kept per object.
    pub extra_slots_max: usize,
    /// Must `wsa:To` be an own endpoint (S-18)?
    pub check_to: bool,
    /// When by-id queries must name a community (H-04).
    pub require_home: RequireHome,
    /// Read the misprinted id as FindDocumentsByReferenceId (§8).
    pub accept_misprinted_query_id: bool,
    /// Bounds of a submission.
    pub limits: Limits,
    /// Bounds of a query.
    pub query: QueryLimits,
    /// Bounds of ITI-43 and ITI-39.
    pub retrieve: RetrieveLimits,
    /// Bounds of RAD-69 and RAD-75.
    pub imaging: Imaging,
    /// Bounds of QIDO-RS.
    pub qido: Qido,
    /// On-Demand entries.
    pub iti61: Iti61,
    /// Queries over many patients.
    pub mpq: Mpq,
    /// Restricted updates.
    pub rmu: Rmu,
    /// Time limits.
    pub timeout: Timeouts,
    lock: Lock,
    /// Requests at the same time.
    pub concurrency: Concurrency,
    /// MessageID as idempotency key.
    pub idempotency: Idempotency,
    codes: BTreeMap<String, String>,
    not_built: BTreeMap<String, String>,
    metadata: Metadata,
}

impl XdsRules {
    /// The shipped set.
    pub fn shipped() -> Self {
        Self::load(&[]).expect("the shipped xds.toml is read by a test")
    }

    /// The shipped set with the files of the sets that extend it, from the nearest to it outward. A later file repeats only
    /// the keys and rows that differ.
    ///
    /// # Errors
    /// [`XdsRulesError`].
    pub fn load(extensions: &[&str]) -> Result<Self, XdsRulesError> {
        let parse = |text: &str| text.parse::<toml::Table>().map_err(|error| XdsRulesError::Toml(error.to_string()));
        let mut table = parse(BASE)?;
        for extension in extensions {
            merge(&mut table, parse(extension)?);
        }
        let mut rules: Self =
            toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| XdsRulesError::Toml(error.to_string()))?;
        rules.check()?;
        for row in &mut rules.metadata.rules {
            for short in [Some(&mut row.code), row.restricted.as_mut()].into_iter().flatten() {
                if let Some(code) = rules.codes.get(short) {
                    short.clone_from(code);
                }
            }
        }
        Ok(rules)
    }

    fn check(&self) -> Result<(), XdsRulesError> {
        let rows = &self.metadata.rules;
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return Err(XdsRulesError::Order(pair[1].id.to_string()));
        }
        if let Some(id) = self.off.iter().find(|id| !rows.iter().any(|row| row.id == **id)) {
            return Err(XdsRulesError::Unknown(id.clone()));
        }
        let ranges = [
            ("idempotency.retention_seconds", "86400-2592000", (86_400..=2_592_000).contains(&self.idempotency.retention_seconds)),
            ("idempotency.lease_seconds", "60-86400", (60..=86_400).contains(&self.idempotency.lease_seconds)),
            ("limits.submission_objects", "1-10000", (1..=10_000).contains(&self.limits.submission_objects)),
            ("limits.documents", "1-1000", (1..=1_000).contains(&self.limits.documents)),
            ("limits.manifest_references", "1-100000", (1..=idr_ihe::manifest::REFERENCES_MAX).contains(&self.limits.manifest_references)),
            ("query.max_slots", "1-1000", (1..=1_000).contains(&self.query.max_slots)),
            ("query.max_values", "1-10000", (1..=10_000).contains(&self.query.max_values)),
            ("query.max_ids", "1-10000", (1..=10_000).contains(&self.query.max_ids)),
            ("qido.max_results", "1-100000", (1..=100_000).contains(&self.qido.max_results)),
            ("lock.wait", "1-120", (1..=120).contains(&self.lock.wait)),
        ];
        match ranges.into_iter().find(|(.., holds)| !holds) {
            Some((key, range, _)) => Err(XdsRulesError::Range { key, range }),
            None => Ok(()),
        }
    }

    /// Wait for the lock of a patient, seconds.
    pub fn lock_wait_seconds(&self) -> u32 {
        self.lock.wait
    }

    /// Rules in the order of their ids that are asked in a transaction.
    pub(super) fn rows(&self, transaction: SubmitTransaction) -> impl Iterator<Item = &Row> {
        self.metadata.rules.iter().filter(move |row| {
            let group = match row.group {
                Some(Group::Manifest) => self.manifest_rules,
                Some(Group::National) => self.national_rules,
                None => Switch::On,
            };
            group == Switch::On && !self.off.contains(&row.id) && row.is_asked_in(transaction)
        })
    }

    /// All rules that are not switched off, whatever asks them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Row> {
        self.metadata.rules.iter().filter(|row| !self.off.contains(&row.id))
    }

    /// errorCode and fixed sentence of a metadata rule such as `M-140`.
    pub fn rule(&self, id: &str) -> Option<(&str, &str)> {
        self.metadata.rules.iter().find(|row| row.id == id).map(|row| (row.code.as_str(), row.text.as_str()))
    }

    /// errorCode of a metadata rule in ITI-92, if it is another there.
    pub fn restricted_code(&self, id: &str) -> Option<&str> {
        self.metadata.rules.iter().find(|row| row.id == id)?.restricted.as_deref()
    }

    /// Ids of all metadata rules.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.metadata.rules.iter().map(|row| row.id.as_str())
    }

    /// Rules of the profile without a check here, with the reason.
    pub fn not_built(&self) -> &BTreeMap<String, String> {
        &self.not_built
    }

    #[cfg(test)]
    pub(super) fn check_name(&self, id: &str) -> Option<String> {
        self.metadata.rules.iter().find(|row| row.id == id).map(|row| format!("{:?}", row.check))
    }
}

/// Puts the keys of an extension over a table; rows of `metadata.rules` are matched by their id, other lists replaced.
fn merge(table: &mut toml::Table, extension: toml::Table) {
    for (key, value) in extension {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => merge(inner, over),
            (Some(toml::Value::Array(rows)), toml::Value::Array(over)) if key == "rules" => {
                for row in over {
                    let id = row.get("id");
                    match rows.iter_mut().find(|known| id.is_some() && known.get("id") == id) {
                        Some(known) => merge_row(known, row),
                        None => rows.push(row),
                    }
                }
                rows.sort_by(|a, b| id_of(a).cmp(id_of(b)));
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn merge_row(known: &mut toml::Value, row: toml::Value) {
    match (known, row) {
        (toml::Value::Table(known), toml::Value::Table(row)) => known.extend(row),
        (known, row) => *known = row,
    }
}

fn id_of(row: &toml::Value) -> &str {
    row.get("id").and_then(toml::Value::as_str).unwrap_or_default()
}

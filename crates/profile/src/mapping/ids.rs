//! Derived identifiers and content key (profile 02 §5.1, §5.2): equal input gives equal ids, on every node, for ever.

use crate::digest::Digest;
use idr_ihe::metadata::PatientId;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use uuid::Uuid;

/// The namespace N.
const NAMESPACE: Uuid = Uuid::from_u128(0x564c_21b4_8f42_5346_ac03_6c18_6142_c317);

/// `urn:uuid:` and UUIDv5(N, name) in lower case.
pub fn uuid(name: &str) -> String {
    format!("urn:uuid:{}", Uuid::new_v5(&NAMESPACE, name.as_bytes()).as_hyphenated())
}

/// `2.25.` and UUIDv5(N, name) as a decimal number (PS3.5 §B.2).
pub fn uid(name: &str) -> String {
    format!("2.25.{}", Uuid::new_v5(&NAMESPACE, name.as_bytes()).as_u128())
}

/// What a submission does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// First entry of the study and source, or one after a withdrawal.
    Original,
    /// Replaces the published entry.
    Replace,
    /// Withdraws the published entry (ITI-57).
    Deprecate,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Replace => "replace",
            Self::Deprecate => "deprecate",
        }
    }
}

/// Series Instance UID of all manifests of one study and source.
pub fn series_uid(study: &str, source: &str) -> String {
    uid(&format!("series|{study}|{source}"))
}

/// SOP Instance UID of a manifest, which is the uniqueId of its DocumentEntry.
pub fn kos_uid(study: &str, source: &str, content_key: &str) -> String {
    uid(&format!("kos|{study}|{source}|{content_key}"))
}

/// entryUUID of the DocumentEntry of a manifest.
pub fn entry_uuid(kos_uid: &str) -> String {
    uuid(&format!("entry|{kos_uid}"))
}

/// SubmissionSet.uniqueId. `target`: entryUUID that is replaced or withdrawn.
pub fn set_uid(kos_uid: &str, operation: Operation, target: Option<&str>) -> String {
    uid(&format!("set|{kos_uid}|{}|{}", operation.name(), target.unwrap_or_default()))
}

/// entryUUID of the SubmissionSet.
pub fn set_uuid(set_uid: &str) -> String {
    uuid(&format!("setid|{set_uid}"))
}

/// Id of an association of this type between these objects.
pub fn association_uuid(association_type: &str, source: &str, target: &str) -> String {
    uuid(&format!("assoc|{association_type}|{source}|{target}"))
}

/// wsa:MessageID of every attempt of a submission.
pub fn message_id(set_uid: &str) -> String {
    uuid(&format!("message|{set_uid}"))
}

/// entryUUID and uniqueId of the folder of a service event (§4.3).
pub fn folder_ids(service_event: &str) -> (String, String) {
    let name = format!("folder|{service_event}");
    (uuid(&name), uid(&name))
}

/// SOP Instance UID of a rejection note made here. `title` is the code value of its document title.
pub fn rejection_note_uid(title: &str, study: &str, sop_instance_uids: &[&str]) -> String {
    let mut uids = sop_instance_uids.to_vec();
    uids.sort_unstable();
    uid(&format!("reject|{title}|{study}|{}", uids.join(",")))
}

/// Series Instance UID of a rejection note made here: a series of its own.
pub fn rejection_series_uid(note_uid: &str) -> String {
    uid(&format!("reject-series|{note_uid}"))
}

/// What a correction gives a new UID (01 §8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrected {
    /// SOP Instance UID.
    Instance,
    /// Series Instance UID.
    Series,
    /// Study Instance UID.
    Study,
}

/// UID of a corrected instance, series or study.
pub fn corrected_uid(kind: Corrected, old: &str, correction_id: &str) -> String {
    let kind = match kind {
        Corrected::Instance => "instance",
        Corrected::Series => "series",
        Corrected::Study => "study",
    };
    uid(&format!("correct|{kind}|{old}|{correction_id}"))
}

/// What a content key is made of besides the members.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// Study Instance UID.
    pub study: &'a str,
    /// OID of the source.
    pub source: &'a str,
    /// Surviving patient id.
    pub patient: &'a PatientId,
    /// Accession number and its issuer, empty if unknown.
    pub accession: (&'a str, &'a str),
    /// `YYYYMMDDhhmmss`, UTC.
    pub as_of: &'a str,
    /// Revision of the affinity domain.
    pub domain_revision: u32,
    /// Revision of the controller map.
    pub map_revision: u32,
    /// `<id>/<revision>`.
    pub rule_set: &'a str,
}

/// One member in a content key; sorted by series and instance, bytes compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyMember<'a> {
    /// Series Instance UID.
    pub series: &'a str,
    /// SOP Instance UID.
    pub instance: &'a str,
    /// SOP Class UID.
    pub class: &'a str,
    /// Digest (01 §3.1).
    pub digest: Digest,
}

/// Content key of a revision (§5.2): 64 lower-case hex digits.
pub fn content_key(parts: &KeyParts<'_>, mut members: Vec<KeyMember<'_>>) -> String {
    members.sort_unstable();
    let KeyParts { study, source, patient, accession: (accession, issuer), as_of, domain_revision, map_revision, rule_set } = parts;
    let mut hash = Sha256::new();
    let mut line = format!(
        "idr-manifest/1\n{study}\n{source}\n{}|{}\n{accession}|{issuer}\n{as_of}\n{domain_revision}|{map_revision}|{rule_set}\n",
        patient.id, patient.authority
    );
    hash.update(&line);
    for KeyMember { series, instance, class, digest } in members {
        line.clear();
        writeln!(line, "{class}|{series}|{instance}|{digest}").expect("writing to a string");
        hash.update(&line);
    }
    hex::encode(hash.finalize())
}

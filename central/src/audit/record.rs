//! What a record says: the fields of profile 07 §2.

use super::{AuditError, Stream};
use idr_ihe::metadata::PatientId;
use idr_profile::receipt::canonical;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

/// Kind of a record (profile 05 §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Use.
    U,
    /// Citizen view.
    C,
    /// Omission; seen by privacy officer and auditor only.
    X,
    /// Disclosure.
    D,
    /// Security event.
    S,
    /// Refusal.
    R,
    /// Follow-up task.
    N,
}

impl Kind {
    /// The log that holds records of this kind (profile 07 §1).
    pub fn stream(self) -> Stream {
        match self {
            Self::U | Self::C | Self::X => Stream::Use,
            Self::D => Stream::Disclosure,
            Self::S | Self::R | Self::N => Stream::Security,
        }
    }
}

/// What was decided, or what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Allowed.
    Permit,
    /// Left out as if it did not exist.
    Omit,
    /// Refused openly.
    Refuse,
    /// Permitted, not delivered; or a change whose commit did not happen.
    Failed,
}

/// How much of what was permitted left the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Everything.
    Complete,
    /// A part.
    Partial,
    /// Nothing.
    None,
    /// A restart or 24 h came before the closing: partial, unknown.
    Unknown,
}

/// `delivered` of a closing record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// How much.
    pub extent: Extent,
    /// Documents or instances whose last byte left.
    pub instances: u64,
    /// Body bytes sent.
    pub bytes: u64,
}

/// What [`super::AuditSink::close`] adds to opening records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When, UTC.
    pub time: Timestamp,
    /// `permit` when it was carried out, `failed` when not.
    pub outcome: Outcome,
    /// What was delivered; `None` for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
    /// Wire status as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<String>,)+
        }
    };
}

part! {
    /// The person or technical user who asked.
    User {
        /// NameID.
        id,
        /// NameQualifier.
        qualifier,
        /// Subject name.
        name,
        /// Role code.
        role,
        /// Responsible professional of a technical user.
        on_behalf,
    }
}
part! {
    /// Purpose of use.
    Purpose {
        /// The profile's own name: `normal`, `emergency` …
        internal,
        /// Code as asserted.
        code,
        /// Its code system.
        system,
    }
}
part! {
    /// Break-glass.
    Emergency {
        /// Reason code.
        reason,
        /// Reason text.
        text,
    }
}
part! {
    /// Guardian's right.
    Representation {
        /// Code.
        code,
        /// Register it was read from.
        source,
        /// When it was checked.
        checked,
    }
}
part! {
    /// Whose data it is.
    Source {
        /// Controller OID.
        controller,
        /// Register code.
        register,
        /// Specifier.
        specifier,
        /// Service unit OID.
        unit,
        /// Service event OID.
        service_event,
    }
}
part! {
    /// Link to the evidence.
    AssertionRef {
        /// ID or jti.
        id,
        /// Issuer.
        issuer,
        /// SHA-256 of the assertion, hex.
        sha256,
    }
}
part! {
    /// The TLS client.
    Tls {
        /// SHA-256 of the certificate, hex.
        sha256,
        /// Organisation OID the certificate is bound to.
        organisation,
    }
}

/// What was used.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Object {
    /// Document uniqueIds, at most 1 000; empty for a query that found nothing.
    pub documents: Vec<String>,
    /// Study Instance UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    /// Series Instance UIDs, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<String>,
    /// uniqueId of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// SOP Class UID → number of instances.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sop_classes: BTreeMap<String, u64>,
    /// SHA-256 of the list, when it is in an attachment record of the same stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_sha256: Option<String>,
}

/// One use, disclosure, view, omission, refusal or security event. Absent fields do not apply. `Debug` shows no person.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// UUIDv7.
    pub id: Uuid,
    /// UTC; kept to the millisecond.
    pub time: Timestamp,
    /// Which kind, and so which stream.
    pub kind: Kind,
    /// Node that wrote it.
    pub node: String,
    /// OID and version of the software.
    pub software: String,
    /// `ITI-18`, `RAD-69`, `STOW-RS` … (profile 07 §4).
    pub transaction: String,
    /// Operation of profile 05 §3.
    pub operation: String,
    /// What was decided.
    pub outcome: Outcome,
    /// Who asked.
    #[serde(default)]
    pub user: User,
    /// Requester's organisation OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Requester's service unit OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Requester's controller OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Requester's register code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// Requester's register specifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specifier: Option<String>,
    /// Purpose of use.
    #[serde(default)]
    pub purpose: Purpose,
    /// Basis of care: service event OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_event: Option<String>,
    /// Basis of care: reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub care_reason: Option<String>,
    /// Break-glass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<Emergency>,
    /// Guardian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub representation: Option<Representation>,
    /// The patient, as known now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<PatientId>,
    /// As the request named the patient, if differently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_as_asked: Option<PatientId>,
    /// Whose data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Which data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
    /// Basis of profile 05 §4.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// Consent or authorisation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis_ref: Option<String>,
    /// Denials that an emergency set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden_denials: Vec<String>,
    /// Deciding rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Decision record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<Uuid>,
    /// SHA-256 of the policy files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_hash: Option<String>,
    /// Version of the declarations decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_version: Option<u64>,
    /// Evidence.
    #[serde(default)]
    pub assertion: AssertionRef,
    /// `wsa:MessageID`, `X-Request-Id`, or association and message id.
    pub request_id: String,
    /// TLS client.
    #[serde(default)]
    pub tls: Tls,
    /// IP address of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Wire status, as far as known now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Where disclosed data went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Id of a disclosure notice filed elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

impl Record {
    /// A record with nothing but what every record has.
    #[expect(clippy::too_many_arguments, reason = "one argument per field that is always there")]
    pub fn new(
        id: Uuid,
        time: Timestamp,
        kind: Kind,
        node: &str,
        software: &str,
        transaction: &str,
        operation: &str,
        outcome: Outcome,
        request_id: &str,
    ) -> Self {
        Self {
            id,
            time,
            kind,
            node: node.to_owned(),
            software: software.to_owned(),
            transaction: transaction.to_owned(),
            operation: operation.to_owned(),
            outcome,
            user: User::default(),
            organisation: None,
            unit: None,
            controller: None,
            register: None,
            specifier: None,
            purpose: Purpose::default(),
            service_event: None,
            care_reason: None,
            emergency: None,
            representation: None,
            patient: None,
            patient_as_asked: None,
            source: None,
            object: None,
            basis: None,
            basis_ref: None,
            overridden_denials: Vec::new(),
            rule: None,
            decision_id: None,
            policy_hash: None,
            store_version: None,
            assertion: AssertionRef::default(),
            request_id: request_id.to_owned(),
            tls: Tls::default(),
            peer: None,
            status: None,
            recipient: None,
            notice: None,
        }
    }

    fn check(&self) -> Result<(), AuditError> {
        let object = self.object.as_ref();
        for (field, count, limit) in [
            ("object.document", object.map_or(0, |object| object.documents.len()), DOCUMENTS_MAX),
            ("object.series", object.map_or(0, |object| object.series.len()), SERIES_MAX),
        ] {
            if count > limit {
                return Err(AuditError::TooLarge { field, count, limit });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("transaction", &self.transaction)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// A record of the `decision` or `system` stream, whose shape is its writer's: a decision record, an attachment list,
/// a start, a reload, a recovery.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// UUIDv7; `None` for what the store itself writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// UTC.
    pub time: Timestamp,
    /// What it is: `start`, `stop`, `decision`, `attachment`, `torn-tail` …
    pub event: String,
    /// Its content.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").field("event", &self.event).finish_non_exhaustive()
    }
}

/// Something that is complete in itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// Goes to the stream of its kind.
    Record(Box<Record>),
    /// Goes to the named stream.
    Note(Stream, Note),
}

impl Entry {
    /// The log it goes to.
    pub fn stream(&self) -> Stream {
        match self {
            Self::Record(record) => record.kind.stream(),
            Self::Note(stream, _) => *stream,
        }
    }
}

/// The body of one record in a log, as canonical JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Body {
    /// A record whose closing follows.
    Opening(Box<Record>),
    /// A record without one.
    Record(Box<Record>),
    /// What came of an opening.
    Closing {
        closes: Uuid,
        #[serde(flatten)]
        closing: Closing,
    },
    Note(Note),
}

impl Body {
    pub(super) fn from_entry(entry: Entry) -> Self {
        match entry {
            Entry::Record(record) => Self::Record(record),
            Entry::Note(_, note) => Self::Note(note),
        }
    }

    /// RFC 8785 JSON within the bounds of profile 07 §2: strings in NFC and cut at 1 024 characters.
    pub(super) fn encode(&self) -> Result<Vec<u8>, AuditError> {
        if let Self::Opening(record) | Self::Record(record) = self {
            record.check()?;
        }
        let mut value = serde_json::to_value(self).expect("records have string keys");
        // A note may carry a signed assertion or a list as text: it is bounded by the record alone.
        if !matches!(self, Self::Note(_)) {
            bound_strings(&mut value);
        }
        let bytes = canonical(&value).map_err(|_| AuditError::NotCanonical)?.into_bytes();
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(AuditError::TooLarge { field: "record", count: bytes.len(), limit: RECORD_BYTES_MAX });
        }
        Ok(bytes)
    }
}

fn bound_strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if !text.is_ascii() {
                *text = text.nfc().collect();
            }
            if let Some((cut, _)) = text.char_indices().nth(STRING_CHARS_MAX) {
                text.truncate(cut);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(bound_strings),
        Value::Object(members) => members.values_mut().for_each(bound_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Bytes of one record's JSON.
pub(super) const RECORD_BYTES_MAX: usize = 262_144;
const STRING_CHARS_MAX: usize = 1024;
const DOCUMENTS_MAX: usize = 1000;
const SERIES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let time = Timestamp::from_millisecond(1_768_467_912_345).unwrap();
        Record::new(Uuid::from_u128(1), time, Kind::U, "n1", "1.2/0.1", "ITI-18", "search", Outcome::Permit, "urn:uuid:1")
    }

    #[test]
    fn a_body_is_canonical_json_and_is_read_back() {
        let mut record = record();
        record.patient = Some(PatientId { id: "010190-900P".into(), authority: "1.2.246.21".into() });
        record.user.name = Some("Äijö \"é\"\u{1}".nfd().collect());
        let text = String::from_utf8(Body::Opening(record.clone().into()).encode().unwrap()).unwrap();
        assert!(text.contains(r#""name":"Äijö \"é\"\u0001""#), "{text}");
        let keys: Vec<_> =
            text.match_indices("\"id\"").chain(text.match_indices("\"kind\"")).chain(text.match_indices("\"node\"")).collect();
        assert!(keys.windows(2).all(|pair| pair[0].0 != pair[1].0) && text.find("\"kind\"") < text.find("\"node\""), "sorted: {text}");
        record.user.name = Some("Äijö \"é\"\u{1}".nfc().collect());
        assert_eq!(serde_json::from_str::<Body>(&text).unwrap(), Body::Opening(record.into()));
    }

    #[test]
    fn a_record_is_bounded() {
        let mut long = record();
        long.emergency = Some(Emergency { text: Some("ö".repeat(5000)), ..Emergency::default() });
        let Body::Record(cut) = serde_json::from_slice(&Body::Record(long.into()).encode().unwrap()).unwrap() else { panic!("a record") };
        assert_eq!(cut.emergency.unwrap().text.unwrap().chars().count(), 1024);
        let mut wide = record();
        wide.object = Some(Object { documents: vec!["1.2".into(); 1001], ..Object::default() });
        assert!(matches!(Body::Record(wide.into()).encode(), Err(AuditError::TooLarge { field: "object.document", .. })));
        let mut heavy = record();
        heavy.overridden_denials = vec!["1".repeat(1000); 300];
        assert!(matches!(Body::Record(heavy.into()).encode(), Err(AuditError::TooLarge { field: "record", .. })));
    }

    #[test]
    fn debug_shows_no_person() {
        let mut record = record();
        record.user.name = Some("Testi Henkilö".into());
        record.patient = Some(PatientId { id: "010190-900P".into(), authority: "1.2.246.21".into() });
        let text = format!("{:?} {:?}", record, Body::Record(record.clone().into()));
        assert!(!text.contains("Testi") && !text.contains("010190"), "{text}");
    }
}

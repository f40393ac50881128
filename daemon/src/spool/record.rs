//! What the spool knows about one object: who announced it, what stands in it, where it is on its way.
//!
//! [`Announced`] is known before the first byte, [`Facts`] after the last, [`Record`] is both with what the spool
//! measured itself; it is written into the object file and never changed. [`Progress`] is the part that changes; it
//! lives in the journal. [`Entry`] is both together.
//!
//! # Bounds
//! Every text is bounded by [`Announced::check`] and [`Facts::check`]; a record is ≤ [`RECORD_BYTES_MAX`] as JSON.

use idr_ihe::metadata::PatientId;
use idr_profile::digest::Digest;
use idr_profile::receipt::ReceiptHash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Largest record as JSON, bytes; a usual one has 1 100. All texts at their bounds together stay below.
pub const RECORD_BYTES_MAX: usize = 2560;
/// Longest [`Decision::reason`], bytes.
pub const REASON_BYTES_MAX: usize = 200;
/// Most [`Progress::reasons`].
pub const REASONS_MAX: usize = 16;
/// Largest [`Progress::memo`], bytes.
pub const MEMO_BYTES_MAX: usize = 512;

/// Name of an object in the spool: a counter of ours, 16 hex digits as text. Rises in order of opening, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SpoolId(pub u64);

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that should be one of our own tokens and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0}")]
pub struct ParseError(&'static str);

impl FromStr for SpoolId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let ours = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let value = ours.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        value.map(Self).ok_or(ParseError("a spool id of 16 lower-case hex digits"))
    }
}

/// An organisation behind this site: `^[a-z0-9][a-z0-9-]{1,31}$` (profile 10 §2.1). Safe as a folder name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tenant(String);

impl Tenant {
    /// The tenant id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tenant {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (2..=32).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(|b| plain(b) || b == b'-');
        ok.then(|| Self(text.to_owned())).ok_or(ParseError("a tenant id (2–32 of a–z, 0–9, hyphen; no hyphen first)"))
    }
}

/// Why an item is held or quarantined: 1–48 of A–Z, a–z, 0–9, `-`, `_`, `.`; a rule id, an outcome row or a word.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cause(String);

impl Cause {
    /// The cause of a study that waits for its last instance (profile 01 §6.1).
    pub fn incomplete() -> Self {
        Self("incomplete".to_owned())
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cause {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let ok = (1..=48).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        ok.then(|| Self(text.to_owned())).ok_or(ParseError("a cause (1–48 of letters, digits, - _ .)"))
    }
}

/// The state of an item, in the operator's words; there are no others. Text form: `held(incomplete)`, `queued`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Bytes are still coming; never stored.
    Receiving,
    /// Waits for the named cause.
    Held(Cause),
    /// May be sent when due.
    Queued,
    /// Leased to a sender; never stored, so that a restart finds it queued.
    Sending,
    /// The peer answered `done`; R2 exists.
    Sent,
    /// The peer has taken responsibility (R3 or commitment).
    Committed,
    /// The manifest that lists it is registered (R4).
    Registered,
    /// The local copy is given up (R5), by retention alone. Final.
    Released,
    /// Kept and not forwarded until a person decides.
    Quarantined(Cause),
    /// A person decided that it is never forwarded. Kept. Final.
    Rejected,
    /// Corrected objects stand in its place. Kept. Final.
    Superseded,
}

impl State {
    /// The word without its cause, also the metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Held(_) => "held",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Committed => "committed",
            Self::Registered => "registered",
            Self::Released => "released",
            Self::Quarantined(_) => "quarantined",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it is kept and takes part in nothing any more: it was rejected, or corrected objects stand in its place.
    pub fn is_set_aside(&self) -> bool {
        matches!(self, Self::Rejected | Self::Superseded)
    }

    /// Whether an accepted object may begin in this state.
    pub fn may_begin(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Queued | Self::Quarantined(_))
    }

    /// Whether an item may be moved from here to there by [`super::Spool::advance`]. The way forward has no short cut;
    /// the way back (retry, replay, hold, quarantine) is open until something final; `released` follows `registered` alone.
    pub fn may_become(&self, to: &Self) -> bool {
        use State as S;
        match (self, to) {
            (S::Released | S::Rejected | S::Superseded | S::Receiving, _) | (_, S::Receiving | S::Sending) => false,
            (_, S::Held(_) | S::Queued | S::Quarantined(_) | S::Rejected | S::Superseded) => true,
            (from, S::Sent) => matches!(from, S::Queued | S::Sending | S::Sent),
            (from, S::Committed) => matches!(from, S::Sent | S::Committed),
            (from, S::Registered) => matches!(from, S::Committed | S::Registered),
            (from, S::Released) => matches!(from, S::Registered),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(cause) | Self::Quarantined(cause) => write!(f, "{}({cause})", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

impl FromStr for State {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = ParseError("a state");
        if let Some((word, rest)) = text.split_once('(') {
            let cause = rest.strip_suffix(')').ok_or(error)?.parse()?;
            return match word {
                "held" => Ok(Self::Held(cause)),
                "quarantined" => Ok(Self::Quarantined(cause)),
                _ => Err(error),
            };
        }
        use State as S;
        [S::Receiving, S::Queued, S::Sending, S::Sent, S::Committed, S::Registered, S::Released, S::Rejected, S::Superseded]
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or(error)
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(SpoolId, Tenant, Cause, State);

/// What is known before the first byte of a data set: the association (or request) and the command set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announced {
    /// Whose object it is; chosen by the inbound row, never by the object.
    pub tenant: Tenant,
    /// Name of the inbound row.
    pub inbound: String,
    /// Calling AE title, ≤ 16 characters; for STOW and the drop folder the name of the source in that form.
    pub calling_ae: String,
    /// Called AE title, ≤ 16 characters.
    pub called_ae: String,
    /// Address the bytes came from; none for the drop folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<IpAddr>,
    /// SHA-256 of the peer's certificate, 64 hex digits, when TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_peer_sha256: Option<String>,
    /// Affected SOP Class UID.
    pub sop_class_uid: String,
    /// Affected SOP Instance UID.
    pub sop_instance_uid: String,
    /// Transfer syntax UID of the presentation context.
    pub transfer_syntax_uid: String,
}

/// What is known after the last byte: from the scan, the rules and the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// When the last byte had come; kept to the millisecond.
    pub received: Timestamp,
    /// Study Instance UID (0020,000D).
    pub study_uid: String,
    /// Series Instance UID (0020,000E).
    pub series_uid: String,
    /// Modality (0008,0060).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// Patient ID with its issuer (profile 01 §3.2); none when undetermined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_id: Option<PatientId>,
    /// Whether an accession number stands in the object.
    pub accession_present: bool,
    /// Name of number and issuer ([`idr_profile::rules::study::accession_name`]): other studies are found by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accession: Option<String>,
    /// Rule set and revision that judged it, `fi-2.4.1/1`.
    pub rule_set: String,
    /// Ids of the findings, ascending, ≤ 32; the journal carries them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// OID of the controller, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Code of the patient data register, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// OID of the service event, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_event: Option<String>,
    /// It came by an inbound row whose objects go before others ([`Progress::urgent`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
    /// State in which the accepted object begins.
    pub state: State,
}

/// What stands in the object file for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name here.
    pub id: SpoolId,
    /// Data set, bytes.
    pub size_bytes: u64,
    /// Digest of the data set (profile 01 §3.1), computed while the bytes were written.
    pub digest: Digest,
    /// For a repeated hand-over: the hash of the R1 that exists already (profile 11 §2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_r1: Option<ReceiptHash>,
    /// From before the first byte.
    pub announced: Announced,
    /// From after the last byte.
    pub facts: Facts,
}

/// A field that cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct Unusable {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it; never its value.
    pub why: &'static str,
}

fn text(field: &'static str, value: &str, max: usize) -> Result<(), Unusable> {
    match value {
        "" => Err(Unusable { field, why: "is empty" }),
        v if v.len() > max => Err(Unusable { field, why: "is too long" }),
        v if !v.bytes().all(|b| (b' '..=b'~').contains(&b)) => Err(Unusable { field, why: "has a character outside 20H–7EH" }),
        _ => Ok(()),
    }
}

fn uid(field: &'static str, value: &str) -> Result<(), Unusable> {
    text(field, value, 64)?;
    let digits = value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits.then_some(()).ok_or(Unusable { field, why: "is no UID" })
}

impl Announced {
    /// Bounds every text, so that file meta has a bounded size (UI and AE lengths of PS3.5 §6.2).
    ///
    /// # Errors
    /// [`Unusable`] names the first field that cannot be kept.
    pub fn check(&self) -> Result<(), Unusable> {
        text("inbound row", &self.inbound, 64)?;
        text("calling AE title", &self.calling_ae, 16)?;
        text("called AE title", &self.called_ae, 16)?;
        if let Some(sha256) = &self.tls_peer_sha256 {
            text("peer certificate SHA-256", sha256, 64)?;
        }
        uid("SOP Class UID (0000,0002)", &self.sop_class_uid)?;
        uid("SOP Instance UID (0000,1000)", &self.sop_instance_uid)?;
        uid("transfer syntax UID (0002,0010)", &self.transfer_syntax_uid)
    }
}

/// Whether a record can have this patient ID: 1–64 characters, no control characters.
pub fn fits(patient: &PatientId) -> bool {
    (1..=64).contains(&patient.id.chars().count()) && !patient.id.contains(char::is_control) && patient.authority.len() <= 64
}

impl Facts {
    /// Bounds every text.
    ///
    /// # Errors
    /// [`Unusable`] names the first field that cannot be kept.
    pub fn check(&self) -> Result<(), Unusable> {
        uid("Study Instance UID (0020,000D)", &self.study_uid)?;
        uid("Series Instance UID (0020,000E)", &self.series_uid)?;
        text("rule set", &self.rule_set, 64)?;
        let short = [
            ("Modality (0008,0060)", &self.modality, 16),
            ("accession", &self.accession, 32),
            ("controller", &self.controller, 64),
            ("register", &self.register, 64),
            ("service event", &self.service_event, 64),
        ];
        for (field, value, max) in short {
            value.as_deref().map_or(Ok(()), |value| text(field, value, max))?;
        }
        if self.patient_id.as_ref().is_some_and(|patient| !fits(patient)) {
            return Err(Unusable { field: "Patient ID (0010,0020)", why: "is empty, longer than 64 characters or has control characters" });
        }
        if self.findings.len() > 32 {
            return Err(Unusable { field: "findings", why: "are more than 32" });
        }
        self.findings.iter().try_for_each(|id| text("finding", id, 8))?;
        self.state.may_begin().then_some(()).ok_or(Unusable { field: "state", why: "is none an accepted object may begin in" })
    }
}

/// What an operator decided about an object: a quarantined one (profile 01 §7.4), or one on its way (03 §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What.
    pub verb: Verb,
    /// When.
    pub at: Timestamp,
    /// User id of the operator, from the socket that the command came by.
    pub user: u32,
    /// Why, in the operator's words: 1–[`REASON_BYTES_MAX`] bytes without control characters, no patient data.
    pub reason: String,
}

/// The decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// It goes on unchanged, its reasons overridden.
    Release,
    /// It is never forwarded, and kept.
    Reject,
    /// All rules are asked again, those in force.
    ReEvaluate,
    /// Of two copies with other bytes the first stays, this one is never forwarded.
    KeepFirst,
    /// Of two copies with other bytes this one goes on, the others are never forwarded.
    KeepSecond,
    /// A corrected object stands in its place; it is kept.
    Correct,
    /// It is on its way and waits, until an operator releases it.
    Hold,
    /// It was on its way, is never forwarded, and kept.
    Cancel,
}

impl Decision {
    /// Bounds the reason.
    ///
    /// # Errors
    /// [`Unusable`] says what is wrong with it.
    pub fn check(&self) -> Result<(), Unusable> {
        check_reason(&self.reason)
    }
}

/// Bounds the words that an operator gives as a reason: 1–[`REASON_BYTES_MAX`] bytes without control characters.
///
/// # Errors
/// [`Unusable`] says what is wrong with them.
pub fn check_reason(reason: &str) -> Result<(), Unusable> {
    let why = match reason {
        text if text.trim().is_empty() => "is empty",
        text if text.len() > REASON_BYTES_MAX => "is longer than 200 bytes",
        text if text.contains(char::is_control) => "has control characters",
        _ => return Ok(()),
    };
    Err(Unusable { field: "reason", why })
}

/// How far an item has come; replaced as a whole by every [`Move`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Not to be claimed before.
    pub not_before: Timestamp,
    /// Attempts so far in this round; the scheduler counts.
    #[serde(default)]
    pub attempts: u32,
    /// Row of profile 03 that the last attempt ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Rule ids that an operator has overridden; they go into R2 (profile 11 §2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// The last decision of an operator; the journal has all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Rules for which it is quarantined, when they were last asked here; empty if only at its reception. ≤ 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Edition of the rules that it was last judged by here ([`idr_profile::rules::RuleSet::edition`]); none: only at its
    /// reception, or an operator wants it judged again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<String>,
    /// It stands in no manifest of ours (profile 02 §2.1): a rejection note, a manifest of a sender, what a note rejects, a
    /// second encoding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlisted: bool,
    /// What the mover must remember across a restart, in its own words; ≤ [`MEMO_BYTES_MAX`], no patient data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    /// How far storage commitment has come, when it was sent by C-STORE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<Commitment>,
    /// It is claimed in the urgent lane ([`super::Lane`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
}

/// Storage commitment of one instance by the destination that it was sent to (PS3.4 Annex J).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// Transaction UID of the last request that lists it, kept before the request leaves; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The report to it is waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaited: bool,
    /// The destination said that it had it before (profile 03 §1 `done-duplicate`): only the report shows that it is the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// The destination has taken responsibility.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub taken: bool,
}

impl Progress {
    /// Where an accepted object begins.
    pub fn begin(record: &Record) -> Self {
        let at = record.facts.received;
        Self {
            state: record.facts.state.clone(),
            since: at,
            not_before: at,
            attempts: 0,
            outcome: None,
            overrides: Vec::new(),
            decision: None,
            reasons: Vec::new(),
            judged: None,
            unlisted: false,
            memo: None,
            commitment: None,
            urgent: record.facts.urgent,
        }
    }

    /// Bounds the texts, so that an index value stays below 4 KiB.
    ///
    /// # Errors
    /// [`Unusable`] names the field.
    pub fn check(&self) -> Result<(), Unusable> {
        self.decision.as_ref().map_or(Ok(()), Decision::check)?;
        let memo = self.memo.as_ref().is_none_or(|memo| memo.len() <= MEMO_BYTES_MAX);
        let outcome = self.outcome.as_ref().is_none_or(|row| row.len() <= 32);
        let overrides = self.overrides.len() <= 32 && self.overrides.iter().all(|id| id.len() <= 8);
        let reasons = self.reasons.len() <= REASONS_MAX && self.reasons.iter().all(|id| id.len() <= 8);
        let judged = self.judged.as_ref().is_none_or(|edition| edition.len() <= 16);
        let of_transaction = self.commitment.as_ref().and_then(|commitment| commitment.transaction.as_ref());
        let transaction = of_transaction.is_none_or(|uid| uid.len() <= 64);
        let bounds = [
            (transaction, "Transaction UID", "is too long"),
            (memo, "memo", "is too long"),
            (outcome, "outcome", "is too long"),
            (overrides, "overrides", "are too many or too long"),
            (reasons, "reasons", "are too many or too long"),
            (judged, "edition of the rules", "is too long"),
        ];
        match bounds.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, why)) => Err(Unusable { field, why }),
            None => Ok(()),
        }
    }
}

/// One change of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which.
    pub id: SpoolId,
    /// What stands from now on.
    pub to: Progress,
}

/// One object of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What stands in its file.
    pub record: Record,
    /// Hash of its R1; of the first one's R1 when the first file was given up before this one came.
    pub r1: ReceiptHash,
    /// How far it has come.
    pub progress: Progress,
}

impl Entry {
    /// Its name.
    pub fn id(&self) -> SpoolId {
        self.record.id
    }

    /// Whether storage commitment has come for it.
    pub fn is_taken(&self) -> bool {
        self.progress.commitment.as_ref().is_some_and(|commitment| commitment.taken)
    }
}

/// How many, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Data set bytes.
    pub bytes: u64,
}

/// A study as far as its objects came to this site; all of it follows from records and journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Study {
    /// Whose.
    pub tenant: Tenant,
    /// Study Instance UID.
    pub study_uid: String,
    /// Receive time of its first object: starts `study_force_h` (profile 01 §6.1 d).
    pub first_arrival: Timestamp,
    /// Receive time of its last object: starts `study_quiet_s` (profile 01 §6.1 a).
    pub last_arrival: Timestamp,
    /// By state name; a state without objects is absent.
    pub states: BTreeMap<String, Amount>,
    /// Facts about the study that no object carries (released by an operator, expected instances, revision), by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

/// A study in which something occurs that should occur in one only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// Study Instance UID.
    pub study_uid: String,
    /// When its first object with it came.
    pub first_arrival: Timestamp,
    /// That object.
    pub object: SpoolId,
    /// Its patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_id: Option<PatientId>,
}

/// A fact about a study for the journal; the last one of a name stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whose.
    pub tenant: Tenant,
    /// Study Instance UID; the study must have an object here.
    pub study_uid: String,
    /// 1–32 characters; at most 16 names per study.
    pub name: String,
    /// ≤ 256 bytes, no patient data; none takes the note back.
    pub value: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_back_as_the_operator_sees_it() {
        let cause = Cause::incomplete();
        for (state, text) in [
            (State::Held(cause.clone()), "held(incomplete)"),
            (State::Quarantined("D701".parse().unwrap()), "quarantined(D701)"),
            (State::Sent, "sent"),
        ] {
            assert_eq!(state.to_string(), text);
            assert_eq!(text.parse(), Ok(state));
        }
        assert!("held".parse::<State>().is_err() && "error".parse::<State>().is_err() && "sent(x)".parse::<State>().is_err());
    }

    #[test]
    fn released_is_reached_from_registered_alone_and_final_states_stay() {
        let all =
            ["held(x)", "queued", "sending", "sent", "committed", "registered", "released", "quarantined(x)", "rejected", "superseded"];
        for from in all {
            let state: State = from.parse().unwrap();
            assert_eq!(state.may_become(&State::Released), from == "registered", "{from}");
            let stuck = all.iter().all(|to| !state.may_become(&to.parse().unwrap()));
            assert_eq!(stuck, ["released", "rejected", "superseded"].contains(&from), "{from}");
        }
    }

    #[test]
    fn a_tenant_is_safe_as_a_folder_name() {
        for bad in ["", "a", "-a", "..", "a/b", "A1", "a.b", &"a".repeat(33)] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad}");
        }
        assert!("hus-kuvantaminen-1".parse::<Tenant>().is_ok());
    }
}

//! Audit: who used whose data, when, by which right (profile 07).
//!
//! [`AuditSink`] is the seam; [`FileSink`] the default, [`MemorySink`] for unit tests. What is recorded is
//! [`Record`]; [`verify`] checks a log offline, [`tail`] reads its end.
//!
//! # Order
//! A use is two records: [`AuditSink::open`] before the reply (and before the commit it belongs to), which returns when
//! the record is on stable storage, and [`AuditSink::close`] after the last byte, which says what was really delivered.
//! What happened at once and is over (a refusal, a start) is one record: [`AuditSink::append`].
//!
//! # Failure
//! A sink that could not write or sync refuses everything from then on ([`AuditSink::refusing`]): nothing is disclosed
//! without its record. An opening without a closing is found after a restart and closed as `partial, unknown`.
//!
//! # Standard
//! Profile 07 §1 (streams), §2 (fields), §6 (layout, chain, checkpoints, durability, recovery).

mod file;
mod format;
mod log;
mod memory;
mod record;
mod segment;
mod verify;

#[cfg(test)]
mod contract;

pub use file::{FileConfig, FileSink, Orphan};
pub use format::{BodyKey, CheckpointKey};
pub use log::hold;
pub use memory::MemorySink;
pub use record::{
    AssertionRef, Closing, Delivered, Emergency, Entry, Extent, Kind, Note, Object, Outcome, Purpose, Record, Representation, Source, Tls,
    User,
};
pub use verify::{Tailed, Verified, VerifyError, each, tail, verify};

use async_trait::async_trait;
use uuid::Uuid;

/// One append-only log of a node (profile 07 §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Kinds U, C, X.
    Use,
    /// Kind D.
    Disclosure,
    /// Kinds S, R, N.
    Security,
    /// Decision records and signed assertions.
    Decision,
    /// Start, stop, reload, key change, verification, recovery.
    System,
}

impl Stream {
    /// All streams, in the order of profile 07 §1.
    pub const ALL: [Stream; 5] = [Self::Use, Self::Disclosure, Self::Security, Self::Decision, Self::System];

    /// Second part of a log's id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Disclosure => "disclosure",
            Self::Security => "security",
            Self::Decision => "decision",
            Self::System => "system",
        }
    }
}

/// Records that were opened together and wait for their closing. Losing it (a crash, a cancelled request) is what the
/// recovery closes as `partial, unknown`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an opening is closed with what was delivered"]
pub struct Opening {
    items: Vec<(Stream, Uuid)>,
}

impl Opening {
    /// Ids of the opening records, in the order given.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.items.iter().map(|(_, id)| *id)
    }
}

/// Why a record could not be kept. The request that needed it must not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The store cannot take records; nothing may be disclosed until an operator has repaired it (profile 07 §8).
    #[error("the audit store takes no records: {reason}")]
    Unavailable {
        /// What happened first.
        reason: String,
    },
    /// A record above its bounds: a mistake of the caller, which should have used a digest and an attachment.
    #[error("audit record: {field} has {count} items or bytes, at most {limit} are allowed")]
    TooLarge {
        /// Field of profile 07 §2, or `record`.
        field: &'static str,
        /// What was given.
        count: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A note holds a fraction, or an integer above 2^53 − 1, which RFC 8785 readers do not keep.
    #[error("audit note holds a number that is no integer of at most 2^53 - 1")]
    NotCanonical,
    /// A log was changed by something other than a torn write: it must be looked at before anything is disclosed.
    #[error("audit log {log_id} is broken after record {after}: {what}; run audit verify")]
    Broken {
        /// `<node>.<stream>`.
        log_id: String,
        /// Last record that verifies; 0 for none.
        after: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// A log directory could not be opened, read or repaired.
    #[error("audit log {log_id}: cannot {doing}")]
    Storage {
        /// `<node>.<stream>`.
        log_id: String,
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// Where audit records go.
#[async_trait]
pub trait AuditSink: Send + Sync {
    /// Keeps opening records: one per access unit and kind. Returns after all of them are on stable storage. Called
    /// before the first byte of a reply that carries or acknowledges patient data, and before the commit of a change.
    ///
    /// # Errors
    /// [`AuditError::TooLarge`] before anything is written; [`AuditError::Unavailable`].
    async fn open(&self, records: Vec<Record>) -> Result<Opening, AuditError>;

    /// Says what came of an opening, for each of its records. Returns after that is on stable storage.
    ///
    /// # Errors
    /// [`AuditError::Unavailable`]; the opening then stays open until the recovery.
    async fn close(&self, opening: Opening, closing: Closing) -> Result<(), AuditError>;

    /// Keeps entries that are complete in themselves. Returns after they are on stable storage.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    async fn append(&self, entries: Vec<Entry>) -> Result<(), AuditError>;

    /// Why nothing may be disclosed now, if it may not. No IO: asked before every request.
    fn refusing(&self) -> Option<String>;
}

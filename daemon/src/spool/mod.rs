//! Spool: accepted instances waiting for central.
//!
//! [`Spool`] is the seam. [`FileSpool`] is the implementation that keeps patients' images: one file per object on a
//! [`disk::Disk`], a [`journal`], receipts, and an [`index`] that may be lost. [`MemorySpool`] is for the tests of others.
//! In the order in which an object meets them: [`object_file`] (its form), [`record`] (what is known of it),
//! [`catalog`] (how it is found again), [`journal`] (what happens to it later).
//!
//! # On disk
//! Below the spool folder: `objects/` (the truth; [`object_file`]), `journal/` ([`journal`]), `torn/` (files that do not
//! hold, with a report each; never removed by us), `headers/` (of released objects; never removed), `index/` or `index.redb` (may be deleted), `lock`. Below the state
//! folder: `receipts/`, `keys/` ([`crate::receipts`]). Files are 0600, folders 0700; a name is a counter or a number of
//! ours.
//!
//! # Failure
//! A commit returns after the file's bytes, its record and R1, and its name are durable, by one fdatasync of the file and
//! a sync of its folder that other commits share. Cut the power at any instant: what was acknowledged is found, with its
//! digest and exactly one R1; what was not may be found or gone. A failed sync, a full disk, a broken receipt chain: new
//! objects are refused ([`Refusal`]) until [`FileSpool::tend`] has removed what failed and written a test file. What is
//! lost or altered on the disk itself is reported ([`Recovery`], [`FileSpool::fsck`]), never skipped.
//!
//! # Bounds
//! One writer holds at most two buffers of [`files::CHUNK_BYTES`]; the caller bounds the number of writers and the size
//! of an object.
//!
//! # Standard
//! Profile 01 §2 (order before the answer), 11 §2 (receipts), 03 §3 (nothing is lost), 10 §2.1 (tenants).

pub mod catalog;
#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod crash;
pub mod disk;
pub mod files;
pub mod index;
pub mod journal;
#[cfg(test)]
mod lives;
mod memory;
pub mod object_file;
pub mod record;
#[cfg(test)]
pub(crate) mod sample;

pub use files::{FileSpool, Recovery};
pub use memory::MemorySpool;
pub use record::{
    Amount, Announced, Cause, Commitment, Decision, Entry, Facts, Move, Note, Occurrence, Progress, Record, SpoolId, State, Study, Tenant,
    Verb, fits,
};

use crate::receipts::ReceiptError;
use async_trait::async_trait;
use bytes::Bytes;
use idr_profile::digest::Digest;
use idr_profile::receipt::{Carried, ReceiptHash};
use index::IndexError;
use jiff::Timestamp;
use std::io;
use std::sync::Arc;

/// Holds accepted instances until central has them.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Opens a place for one incoming data set; nothing is visible until [`Writer::commit`].
    ///
    /// # Errors
    /// [`SpoolError::Refused`] for the reason [`Spool::refusing`] gives; [`SpoolError::Unusable`]. The disk speaks later, by the
    /// writer.
    async fn open(&self, announced: Announced) -> Result<Box<dyn Writer>, SpoolError>;

    /// Why new instances of a tenant must be refused, if they must. No IO: asked before every C-STORE.
    fn refusing(&self, tenant: &Tenant) -> Option<Refusal>;

    /// Objects of a tenant in a state and a lane that are due at `now`, longest due first, leased to the caller until
    /// `lease_until`, [`Spool::advance`] or [`Spool::give_back`]. A lease does not survive a restart.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn claim(&self, claim: Claim) -> Result<Vec<Entry>, SpoolError>;

    /// Ends a lease without moving the item.
    fn give_back(&self, id: SpoolId);

    /// Moves items; returns when that is durable. All or none are tried; each ends its lease. `released` removes the file.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`], [`SpoolError::Transition`] or [`SpoolError::Busy`], then nothing moved; the disk, then any
    /// may have moved.
    async fn advance(&self, moves: Vec<Move>) -> Result<(), SpoolError>;

    /// As [`Spool::advance`], for moves that were decided on what was read before: all hold only if every object still is as its
    /// caller saw it.
    ///
    /// # Errors
    /// [`SpoolError::Changed`], then nothing moved; as [`Spool::advance`].
    async fn advance_seen(&self, moves: Vec<Seen>) -> Result<(), SpoolError>;

    /// As [`Spool::advance_seen`], without those that were changed; gives them.
    ///
    /// # Errors
    /// As [`Spool::advance`].
    async fn advance_unchanged(&self, mut moves: Vec<Seen>) -> Result<Vec<SpoolId>, SpoolError> {
        let mut changed = Vec::new();
        while !moves.is_empty() {
            match self.advance_seen(moves.clone()).await {
                Ok(()) => break,
                Err(SpoolError::Changed(id)) => {
                    moves.retain(|one| one.go.id != id);
                    changed.push(id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    /// Notes a fact about a study; returns when it is durable.
    ///
    /// # Errors
    /// [`SpoolError::UnknownStudy`], [`SpoolError::Unusable`]; the disk.
    async fn note(&self, note: Note) -> Result<(), SpoolError>;

    /// Opens the bytes of an object for reading.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`], also for a released object; [`SpoolError::Damaged`]; the disk.
    async fn read(&self, id: SpoolId) -> Result<Box<dyn Stored>, SpoolError>;

    /// Keeps the elements outside bulk data of an object that is to be released, as an Explicit VR Little Endian data set:
    /// returns when they are durable. Done before the release, they are there after it.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`], also for a released object; the disk.
    async fn keep_header(&self, id: SpoolId, header: Bytes) -> Result<(), SpoolError>;

    /// What [`Spool::keep_header`] kept; `None` if nothing.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`]; the disk.
    async fn kept_header(&self, id: SpoolId) -> Result<Option<Bytes>, SpoolError>;

    /// One object, also a released one.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn entry(&self, id: SpoolId) -> Result<Option<Entry>, SpoolError>;

    /// All objects with a SOP Instance UID, whatever their bytes; at most 100.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn instances(&self, tenant: &Tenant, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError>;

    /// All objects with a SOP Instance UID that an inbound row has handed over, as the first or again, also released ones;
    /// at most 200. The objects that others handed over under the same UID are none of its business.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn handed_over(&self, tenant: &Tenant, inbound: &str, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError>;

    /// A study.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn study(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Study>, SpoolError>;

    /// Studies in which a series (0020,000E) occurs, in objects that are not set aside ([`State::is_set_aside`]); at most 100.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn series(&self, tenant: &Tenant, series_uid: &str) -> Result<Vec<Occurrence>, SpoolError>;

    /// Studies in which an accession number occurs, by its name ([`Facts::accession`]), in objects that are not set aside; at most 100.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn accession(&self, tenant: &Tenant, name: &str) -> Result<Vec<Occurrence>, SpoolError>;

    /// Objects of a study, a page after an id, in order of id.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn members(&self, tenant: &Tenant, study_uid: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError>;

    /// Objects in a state (by its name), a page after an id, in order of id: the oldest first.
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn in_state(&self, tenant: &Tenant, state: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError>;

    /// Studies with held objects whose last object came before an instant, the longest quiet first (profile 01 §6.1).
    ///
    /// # Errors
    /// [`SpoolError::Index`].
    async fn waiting(&self, tenant: &Tenant, last_arrival_before: Timestamp, limit: usize) -> Result<Vec<Study>, SpoolError>;

    /// Objects and bytes by tenant and state, without IO. `sending` are those leased from `queued`; `receiving` are open.
    fn totals(&self) -> catalog::Totals;
}

/// A place for one data set. Dropped without commit it is discarded.
#[async_trait]
pub trait Writer: Send {
    /// Bytes as they come; bounded buffering: when the disk is behind this waits, and the driver stops reading the socket.
    ///
    /// # Errors
    /// The disk; the writer is of no use then.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError>;

    /// Bytes so far.
    fn size_bytes(&self) -> u64;

    /// Returns after bytes, record and receipt are durable; never before. Dropping the future does not stop it.
    ///
    /// # Errors
    /// Nothing was kept that could be mistaken for an accepted object.
    async fn commit(self: Box<Self>, facts: Facts) -> Result<Committed, SpoolError>;

    /// Gives the place up.
    async fn discard(self: Box<Self>);
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The object that holds the bytes: for a repeated hand-over the first one.
    pub id: SpoolId,
    /// Digest of the data set.
    pub digest: Digest,
    /// Hash of the one R1.
    pub r1: ReceiptHash,
    /// Whether the same bytes were handed over before.
    pub repeated: bool,
}

/// The bytes of an object.
#[async_trait]
pub trait Stored: Send {
    /// Its record.
    fn record(&self) -> &Record;
    /// Its R1; `None` if the file names the R1 of one that was given up before.
    fn r1(&self) -> Option<&Carried>;
    /// Preamble, prefix and file meta information as it is sent (profile 01 §8.1): what stands before the data set.
    fn head(&self) -> Bytes;
    /// The next bytes of the data set, ≤ 256 KiB; `None` at the end.
    ///
    /// # Errors
    /// The disk. [`SpoolError::Damaged`] in place of the last bytes when the data set does not have its digest, so that a
    /// transfer of altered bytes cannot end well.
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError>;
}

/// What to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub tenant: Tenant,
    /// In this state (by its name): `queued` to send, `sent` to ask for commitment, `committed` to register.
    pub state: &'static str,
    /// Of these alone.
    pub lane: Lane,
    /// Due at this instant.
    pub now: Timestamp,
    /// Leased until then.
    pub lease_until: Timestamp,
    /// At most so many.
    pub limit: usize,
}

/// What waits in a state stands in one of two lanes, so that what is urgent is found at once, however long the other is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// [`Progress::urgent`].
    Urgent,
    /// The rest.
    Normal,
}

impl Lane {
    /// That of what is urgent, or not.
    pub fn of(urgent: bool) -> Self {
        if urgent { Self::Urgent } else { Self::Normal }
    }
}

/// A move with what it was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the caller read of the object by [`Spool::entry`] or a page: that it is leased from `queued` shows there as `sending`,
    /// and a lease that began or ended since is a change.
    pub progress: Progress,
    /// What follows from it.
    pub go: Move,
}

impl Seen {
    /// An object as it was read goes there.
    pub fn new(entry: &Entry, to: Progress) -> Self {
        Self { progress: entry.progress.clone(), go: Move { id: entry.id(), to } }
    }
}

/// Why new objects are refused. `Display` is the sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Less room than the reserve.
    #[error(
        "the spool has {free_bytes} bytes free and keeps {reserve_bytes}: free disk space or restore the centre link; nothing accepted is lost"
    )]
    Space {
        /// Free now.
        free_bytes: u64,
        /// To be kept.
        reserve_bytes: u64,
    },
    /// The tenant has used up its share.
    #[error("tenant {tenant} has used its {limit} in the spool: raise the limit or restore its centre link; nothing accepted is lost")]
    Quota {
        /// Whose.
        tenant: Tenant,
        /// `bytes` or `objects`.
        limit: &'static str,
    },
    /// A write or sync failed and the disk has not proven itself since.
    #[error("the spool's disk failed: check it; the spool goes on by itself when a test file can be written and synced")]
    Disk,
    /// The receipt chain or log is not in order.
    #[error("the receipt log cannot be written: check the disk of the state folder; the spool goes on by itself")]
    Receipts,
    /// The index failed.
    #[error("the spool's index failed: restart; it is made again from the files")]
    Index,
    /// The program ends.
    #[error("the spool is closing")]
    Closing,
}

/// What can go wrong in the spool. Carries no patient data.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// New objects are refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The disk is full.
    #[error("the spool's disk is full")]
    Full,
    /// The disk failed.
    #[error("{doing} failed in the spool")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the disk says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The receipt could not be made or logged.
    #[error("no receipt for the object")]
    Receipt(#[from] ReceiptError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Something the caller gave cannot be kept.
    #[error(transparent)]
    Unusable(#[from] record::Unusable),
    /// No such object, or its bytes are released.
    #[error("there is no object {0}")]
    Unknown(SpoolId),
    /// No such study here.
    #[error("there is no such study in the spool")]
    UnknownStudy,
    /// The state machine does not have this step.
    #[error("object {id} is {from} and cannot become {to}")]
    Transition {
        /// Which.
        id: SpoolId,
        /// Where it is.
        from: State,
        /// Where it should go.
        to: State,
    },
    /// Another move of the same object is on its way.
    #[error("object {0} is being moved by another caller; look again")]
    Busy(SpoolId),
    /// It is not as its caller saw it any more.
    #[error("object {0} was changed meanwhile by another caller, and stays as that one left it")]
    Changed(SpoolId),
    /// The file does not hold what was accepted.
    #[error("object {id} is damaged: {what}; restore it from the modality or a backup")]
    Damaged {
        /// Which.
        id: SpoolId,
        /// What does not hold.
        what: &'static str,
    },
    /// The program ends.
    #[error("the spool was stopped")]
    Stopped,
}

impl SpoolError {
    /// Whether the answer to a modality is "Refused: Out of Resources" (A700H) and not "Processing failure" (0110H)
    /// (profile 01 §2).
    pub fn is_out_of_resources(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Full)
    }

    /// One sentence for the operator's journal.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::Full => "Free disk space or restore the centre link; nothing accepted is lost.",
            Self::Disk { .. } => "Check the disk and the kernel log; the modality keeps the object and sends it again.",
            Self::Receipt(_) => "Check the disk of the state folder; the modality keeps the object and sends it again.",
            Self::Index(_) => "Restart the program or run `idr-site rebuild`; objects are not affected.",
            Self::Unusable(_) => "Report the fault with the version of the program; the object was not kept.",
            Self::Unknown(_) | Self::UnknownStudy | Self::Transition { .. } | Self::Busy(_) | Self::Changed(_) => {
                "Look at the present state and decide again."
            }
            Self::Damaged { .. } => "Run `idr-site fsck`, check the disk, and send the study again from its source.",
            Self::Stopped => "Start the program; nothing accepted is lost.",
        }
    }
}

/// Tells a full disk from a failing one.
pub(crate) fn disk_error(doing: &'static str) -> impl Fn(io::Error) -> SpoolError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::Full,
        _ => SpoolError::Disk { doing, source: Arc::new(error) },
    }
}

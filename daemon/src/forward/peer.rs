//! The seam to the centre: what the forwarder asks of a peer, and what it may hear.
//!
//! [`Peer`] has seven questions: store these instances, which receipts are there, register this manifest, withdraw this
//! one, what is registered under this id, what of these studies is held, what time is it. Every answer, and every failure to get one, is a value that
//! [`idr_profile::outcome`] has a row for; a peer never decides what an answer means.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use idr_profile::outcome::{Event, InstanceResult, Severity, Signal};
use idr_profile::receipt::Carried;
use jiff::SignedDuration;
use uuid::Uuid;

use crate::spool::{Entry, SpoolError, Stored};

/// Opens the bytes of an instance when their turn comes.
#[async_trait]
pub trait Source: Send + Sync {
    /// The bytes of one of the entries.
    ///
    /// # Errors
    /// The spool's; the request then ends unfinished.
    async fn open(&self, entry: &Entry) -> Result<Box<dyn Stored>, SpoolError>;
}

/// Instances of one patient and one study.
#[derive(Clone)]
pub struct Batch {
    /// Study Instance UID of all of them.
    pub study_uid: String,
    /// In the order sent.
    pub entries: Vec<Entry>,
    /// Where their bytes are.
    pub source: Arc<dyn Source>,
    /// `Authorization` of the request.
    pub authorization: String,
}

/// How an HTTP exchange ended.
#[derive(Debug, Clone)]
pub enum Heard<T> {
    /// With a status, `Retry-After` if there was one, and what the body says.
    Answer {
        /// HTTP status.
        status: u16,
        /// Header `Retry-After`, as sent.
        retry_after: Option<String>,
        /// How far the peer's clock is ahead of ours, by its `Date`.
        ahead: Option<SignedDuration>,
        /// Of the body.
        body: T,
    },
    /// Without an answer.
    Nothing(Failure),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Anything that has no number.
    Event(Event),
    /// The peer ended the TLS connection with this alert (RFC 8446 §6).
    TlsAlert(u8),
}

impl Failure {
    /// As the table of outcomes takes it.
    pub fn signal(self) -> Signal<'static> {
        match self {
            Self::Event(event) => Signal::Event(event),
            Self::TlsAlert(alert) => Signal::TlsAlert(alert),
        }
    }
}

impl From<Event> for Failure {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Body of a STOW-RS answer.
#[derive(Debug, Clone)]
pub enum StoreBody {
    /// Results in the order sent; `Warning` header texts for the journal.
    Results(Vec<InstanceResult>),
    /// The same from a peer that says why: the last three hexadecimal digits of the statuses whose rules it names.
    Reasoned(Vec<InstanceResult>, Vec<u16>),
    /// No body, or one that cannot be read.
    None,
    /// Of another media type.
    OtherType,
}

/// Body of the answer about receipts.
#[derive(Debug, Clone)]
pub enum ReceiptsBody {
    /// A page of the study's R3 and R4.
    Some {
        /// Not yet verified.
        receipts: Vec<Carried>,
        /// The next page has the receipts after this id; none: this is the last one.
        next: Option<Uuid>,
    },
    /// Nothing usable.
    None,
}

/// One submission, as stored and as sent in every attempt. Holds patient data and an assertion; `Debug` shows neither.
#[derive(Clone)]
pub struct Registration {
    /// `wsa:MessageID`, equal in all attempts (profile 02 §5.1).
    pub message_id: String,
    /// Body's child with an XOP reference to the one document.
    pub body: String,
    /// The KOS file.
    pub document: Bytes,
    /// `wsse:Security` with a fresh assertion.
    pub security: String,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({}, {} bytes <redacted>)", self.message_id, self.document.len())
    }
}

/// A withdrawal (ITI-57), as stored and as sent in every attempt. Holds patient data and an assertion; `Debug` shows neither.
#[derive(Clone)]
pub struct Withdrawal {
    /// `wsa:MessageID`, equal in all attempts (profile 02 §5.1).
    pub message_id: String,
    /// Body's child.
    pub body: String,
    /// `wsse:Security` with a fresh assertion.
    pub security: String,
}

impl fmt::Debug for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Withdrawal({} <redacted>)", self.message_id)
    }
}

/// Body of the answer to a submission or query. No `Debug`: a `codeContext` may name a patient.
#[derive(Clone)]
pub enum SoapBody {
    /// RegistryResponse: status URN, errors, and the R4 of the header, not yet verified.
    Response {
        /// `status`.
        status: String,
        /// `errorCode`, severity, `codeContext` of each error.
        errors: Vec<(String, Severity, String)>,
        /// `idr:Receipt`.
        receipt: Option<Box<Carried>>,
        /// Entries of a query: entryUUID, uniqueId, status Approved, hash.
        entries: Vec<Registered>,
    },
    /// A fault.
    Fault {
        /// `Code/Value`.
        code: Option<String>,
        /// Subcodes, outermost first.
        subcodes: Vec<String>,
        /// `idr:Refusal/@code`.
        refusal: Option<String>,
    },
    /// An envelope that cannot be read or does not answer the request.
    Unusable(Event),
    /// No envelope; whether the media type was another.
    None {
        /// The media type is none of SOAP 1.2.
        other_type: bool,
    },
}

/// A registered entry, as far as the forwarder needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// `id`.
    pub entry_uuid: String,
    /// `uniqueId`.
    pub unique_id: String,
    /// Whether `status` is Approved.
    pub approved: bool,
    /// SHA-1.
    pub hash: Option<String>,
    /// Whether it is a manifest (by `formatCode`).
    pub manifest: bool,
}

/// The centre, as the forwarder sees it.
#[async_trait]
pub trait Peer: Send + Sync {
    /// STOW-RS of one batch (PS3.18 §10.5).
    async fn store(&self, batch: &Batch) -> Heard<StoreBody>;

    /// Receipts of a study (profile 11 §3), the first page or that after a receipt.
    async fn receipts(&self, study_uid: &str, after: Option<Uuid>, authorization: &str) -> Heard<ReceiptsBody>;

    /// RAD-68.
    async fn register(&self, registration: &Registration) -> Heard<SoapBody>;

    /// ITI-57.
    async fn withdraw(&self, withdrawal: &Withdrawal) -> Heard<SoapBody>;

    /// ITI-18 with this Body's child.
    async fn query(&self, message_id: &str, body: &str, security: &str) -> Heard<SoapBody>;

    /// Reconciliation (profile 11 §5) with this question; the body of the answer as it came.
    async fn reconcile(&self, question: Vec<u8>, authorization: &str) -> Heard<Vec<u8>>;

    /// How far the peer's clock is ahead of ours, asked without data of anybody; `None` without an answer.
    async fn clock(&self) -> Option<SignedDuration>;
}

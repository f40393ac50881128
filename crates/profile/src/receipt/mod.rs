//! Custody receipts (profile 11): what one holder says about one object, signed and chained.
//!
//! Start at [`Receipt`] (what is said) and [`Signer::sign`] (it becomes a [`Carried`]). Reading goes the other way:
//! [`Carried::parse`] then [`Verifier::verify`]; a whole log through [`LogWalk`], the names between receipts of several
//! holders through [`check_references`]. [`Ids`] gives the identifiers their order, [`gaps`] what a recovery record names.
//!
//! The canonical form (RFC 8785) is what is hashed and signed. A receipt has no field that is not in its canonical form,
//! so reading and writing again gives the same bytes; unknown fields are refused.
//!
//! # Bounds
//! [`CARRIED_BYTES_MAX`] for one carried receipt. An acceptance is ≤ 1 KiB, a registration ≤ 6 KiB (11 §6).

mod canonical;
mod carried;
mod id;
mod log;
mod merkle;
pub mod reconcile;
mod wire;

pub use canonical::{NotCanonical, canonical};
pub use carried::{CARRIED_BYTES_MAX, Carried, KeyError, PublicKey, ReceiptKey, SignatureFault, Signer, Verifier};
pub use id::Ids;
pub use log::{LogFault, LogWalk, ReferenceFault, check_object, check_references, gaps};
pub use merkle::merkle_root;
pub use wire::FormFault;

use crate::digest::Digest;
use jiff::Timestamp;
use std::fmt;
use uuid::Uuid;

/// More R3 than this in one R4 are named by their Merkle root (11 §2).
pub const COMMITS_LISTED_MAX: usize = 64;

/// What a holder says, before it is signed. `alg` and `kid` come with the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// UUIDv7; its order is the order of the holder's chain. From [`Ids::next`].
    pub id: Uuid,
    /// Written with milliseconds; the rest is cut.
    pub at: Timestamp,
    /// Who says it.
    pub holder: Holder,
    /// Hash of the previous receipt of this holder; `None` for its first.
    pub log_prev: Option<ReceiptHash>,
    /// What is said.
    pub statement: Statement,
}

/// The seven things a holder can say (11 §2). `type` on the wire: R1–R5, `recovery`, `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// R1: this AE handed over this object; the site holds it.
    Acceptance {
        /// The object.
        object: Object,
        /// Who handed it over.
        source: Source,
    },
    /// R2: the object was sent to the centre, and the answer was `done` or `done-duplicate`.
    HandOver {
        /// The object.
        object: Object,
        /// Who handed it over to the site.
        source: Source,
        /// Hash of R1.
        acceptance: ReceiptHash,
        /// Id of the attempt.
        attempt: String,
        /// Rule ids released by an operator (01 §7); empty: the field is left out.
        overrides: Vec<String>,
        /// After transcoding (01 §8.1): the digest that R3 is compared with.
        sent_digest: Option<Digest>,
    },
    /// R3: the centre holds the digest.
    Commit {
        /// The object.
        object: Object,
        /// Who sent it to the centre.
        source: Source,
        /// Hash of the R1 that came with the object, if one came.
        acceptance: Option<ReceiptHash>,
    },
    /// R4: the manifest that lists the objects is registered.
    Registration {
        /// The study of the manifest.
        study_uid: String,
        /// Who submitted it.
        source: Source,
        /// DocumentEntry uniqueId.
        document_uid: String,
        /// Every R3 of it.
        commits: Commits,
    },
    /// R5: the local copy is evicted; the site holds it no more.
    Release {
        /// The object.
        object: Object,
        /// Who had handed it over.
        source: Source,
        /// Why it may go.
        ground: Ground,
    },
    /// Some earlier receipts did not become durable.
    Recovery {
        /// Their hashes, in the order of the receipts that name them.
        missing: Vec<ReceiptHash>,
    },
    /// The next key of this holder, signed by the old one.
    Key {
        /// Ed25519 public key, 32 bytes.
        new_key: [u8; 32],
    },
}

/// Fields of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0020,000D)
    pub study_uid: String,
    /// (0002,0010) of the bytes that the digest covers.
    pub transfer_syntax_uid: String,
    /// Profile 01 §3.1.
    pub digest: Digest,
    /// Bytes of the data set, below 2^53.
    pub size_bytes: u64,
}

/// Who handed something over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Calling AE title, ≤ 16 characters; `None` where none is known (HTTP).
    pub calling_ae_title: Option<String>,
    /// SHA-256 of the peer's certificate, when TLS.
    pub certificate_sha256: Option<[u8; 32]>,
}

/// Organisation and node, written `<oid>/<node>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    organisation: String,
    node: String,
}

/// Why a text names no holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holder is not `<organisation OID>/<node id>` with a node id of 1-32 characters A-Z a-z 0-9 . _ -")]
pub struct HolderError;

impl Holder {
    /// `organisation` is an OID; `node` 1–32 characters of `A-Z a-z 0-9 . _ -`.
    ///
    /// # Errors
    /// [`HolderError`] if either part has another form.
    pub fn new(organisation: &str, node: &str) -> Result<Self, HolderError> {
        let node_ok = (1..=32).contains(&node.len()) && node.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match node_ok && idr_ihe::metadata::is_oid(organisation) {
            true => Ok(Self { organisation: organisation.to_owned(), node: node.to_owned() }),
            false => Err(HolderError),
        }
    }

    /// Reads `<oid>/<node>`.
    ///
    /// # Errors
    /// [`HolderError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, HolderError> {
        let (organisation, node) = text.split_once('/').ok_or(HolderError)?;
        Self::new(organisation, node)
    }

    /// OID of the organisation.
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// Node id within the organisation.
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.node)
    }
}

/// The R3 that an R4 names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commits {
    /// At most [`COMMITS_LISTED_MAX`] hashes, sorted as bytes.
    Listed(Vec<ReceiptHash>),
    /// Merkle root of more.
    Root([u8; 32]),
}

impl Commits {
    /// The form that the number of hashes asks for.
    pub fn of(mut hashes: Vec<ReceiptHash>) -> Self {
        hashes.sort_unstable();
        match hashes.len() <= COMMITS_LISTED_MAX {
            true => Self::Listed(hashes),
            false => Self::Root(merkle_root(hashes.iter().map(|hash| *hash.as_bytes()))),
        }
    }

    /// Whether these are exactly the hashes meant. A root needs all of them.
    pub fn are(&self, hashes: &[ReceiptHash]) -> bool {
        *self == Self::of(hashes.to_vec())
    }
}

/// What R5 names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// R3 and R4 of the centre.
    Receipts {
        /// Hash of R3.
        commit: ReceiptHash,
        /// Hash of R4.
        registration: ReceiptHash,
    },
    /// A peer without receipts: Transaction UID of the storage commitment.
    Commitment(String),
}

/// Type of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// R1.
    #[serde(rename = "R1")]
    Acceptance,
    /// R2.
    #[serde(rename = "R2")]
    HandOver,
    /// R3.
    #[serde(rename = "R3")]
    Commit,
    /// R4.
    #[serde(rename = "R4")]
    Registration,
    /// R5.
    #[serde(rename = "R5")]
    Release,
    /// Recovery record.
    #[serde(rename = "recovery")]
    Recovery,
    /// Key record.
    #[serde(rename = "key")]
    Key,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acceptance => "R1",
            Self::HandOver => "R2",
            Self::Commit => "R3",
            Self::Registration => "R4",
            Self::Release => "R5",
            Self::Recovery => "recovery",
            Self::Key => "key",
        })
    }
}

impl Receipt {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self.statement {
            Statement::Acceptance { .. } => Kind::Acceptance,
            Statement::HandOver { .. } => Kind::HandOver,
            Statement::Commit { .. } => Kind::Commit,
            Statement::Registration { .. } => Kind::Registration,
            Statement::Release { .. } => Kind::Release,
            Statement::Recovery { .. } => Kind::Recovery,
            Statement::Key { .. } => Kind::Key,
        }
    }

    /// The object it speaks of; `None` for R4, recovery and key records.
    pub fn object(&self) -> Option<&Object> {
        match &self.statement {
            Statement::Acceptance { object, .. }
            | Statement::HandOver { object, .. }
            | Statement::Commit { object, .. }
            | Statement::Release { object, .. } => Some(object),
            Statement::Registration { .. } | Statement::Recovery { .. } | Statement::Key { .. } => None,
        }
    }

    /// Field `prev`: R2 and R3 name the R1, R5 the R4.
    pub fn prev(&self) -> Option<ReceiptHash> {
        match &self.statement {
            Statement::HandOver { acceptance, .. } => Some(*acceptance),
            Statement::Commit { acceptance, .. } => *acceptance,
            Statement::Release { ground: Ground::Receipts { registration, .. }, .. } => Some(*registration),
            _ => None,
        }
    }
}

/// SHA-256 of the canonical form of a receipt. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiptHash([u8; 32]);

impl ReceiptHash {
    /// Hash of canonical bytes.
    pub fn of(canonical: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self(Sha256::digest(canonical).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 32 bytes, as an index stores them.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 lower-case hex digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        wire::hex32(text).map(Self)
    }
}

impl fmt::Display for ReceiptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ReceiptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for ReceiptHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ReceiptHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("receipt hash is not 64 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests;

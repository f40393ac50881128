//! Offline reading of a log: does it hold (`audit verify`), and what stands at its end (`audit tail`).

use super::format::{self, BodyKey};
use super::segment::{self, Place, Segment};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// What a log that holds was found to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// `<node>.<stream>`.
    pub log_id: String,
    /// Last record; 0 for an empty log.
    pub last_seq: u64,
    /// Its hash, hex.
    pub last_hash: String,
    /// Last record that a checkpoint vouches for; 0 for none. Records after it are chained but not signed yet.
    pub signed_seq: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Bytes at the end that are no whole record: a write going on now, or a torn tail that the next start cuts.
    pub unfinished_bytes: u64,
}

/// Why a log does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The folder or a segment cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// What could not be read.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Something was changed, removed, added or re-ordered.
    #[error("{path}: broken after record {after}: {what}")]
    Broken {
        /// The segment.
        path: PathBuf,
        /// Last record that holds.
        after: u64,
        /// What does not hold.
        what: &'static str,
    },
}

/// Checks every record of the log in `folder`: framing, sequence, chain over all segments, and each checkpoint against
/// `keys` (Ed25519 public keys of the node, old ones too). Needs no body key.
///
/// # Errors
/// [`VerifyError`] with the first thing that does not hold.
pub fn verify(folder: &Path, keys: &[[u8; 32]]) -> Result<Verified, VerifyError> {
    let keys = keys.iter().map(|key| (hex::encode(Sha256::digest(key)), *key)).collect();
    let segments = segment::list(folder).map_err(|source| VerifyError::Read { path: folder.to_owned(), source })?;
    let mut place: Option<(String, Place)> = None;
    let (mut signed_seq, mut checkpoints, mut unfinished_bytes) = (0, 0, 0);
    let count = segments.len();
    for (n, (first, path)) in segments.into_iter().enumerate() {
        let broken = |after, what| VerifyError::Broken { path: path.clone(), after, what };
        let segment = Segment::read(&path).map_err(|source| VerifyError::Read { path: path.clone(), source })?;
        let before = place.as_ref().map_or(0, |(_, place)| place.seq);
        let segment = segment.ok_or_else(|| broken(before, "the segment has no readable header"))?;
        let (log_id, start) = place.unwrap_or_else(|| {
            let log_id = segment.header.log_id.clone();
            let hash = format::genesis(&log_id);
            (log_id, Place { seq: 0, hash })
        });
        if segment.header.log_id != log_id {
            return Err(broken(start.seq, "the segment belongs to another log"));
        }
        if first != start.seq + 1 || segment.header.first_seq != first {
            return Err(broken(start.seq, "records are missing before the segment"));
        }
        if segment.header.prev() != Some(start.hash) {
            return Err(broken(start.seq, "the segment does not follow the one before it"));
        }
        let each = |_: &format::Frame<'_>, checkpoint: Option<&format::Checkpoint>| {
            if let Some(checkpoint) = checkpoint {
                (signed_seq, checkpoints) = (checkpoint.seq, checkpoints + 1);
            }
        };
        let end = match segment::walk(&log_id, &segment.bytes, segment.body_at, start, &keys, each) {
            Ok(end) => end,
            Err(fault) => {
                let tail = &segment.bytes[fault.offset..];
                if !fault.torn || n + 1 < count || segment::synced_beyond(&log_id, tail, fault.after, &keys) {
                    return Err(broken(fault.after, fault.what));
                }
                unfinished_bytes = tail.len() as u64;
                let whole = &segment.bytes[..fault.offset];
                segment::walk(&log_id, whole, segment.body_at, start, &keys, |_, _| {}).map_err(|fault| broken(fault.after, fault.what))?
            }
        };
        place = Some((log_id, end));
    }
    let (log_id, end) = place.ok_or_else(|| VerifyError::Broken { path: folder.to_owned(), after: 0, what: "there is no segment" })?;
    Ok(Verified { log_id, last_seq: end.seq, last_hash: hex::encode(end.hash), signed_seq, checkpoints, unfinished_bytes })
}

/// One record as [`tail`] shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tailed {
    /// Sequence number.
    pub seq: u64,
    /// When it was written.
    pub time: Timestamp,
    /// The record; `None` if it is encrypted and `key` does not open it.
    pub body: Option<Value>,
}

/// Tells every record of the log in `folder`, oldest first, checkpoints left out, one segment in memory at a time. Whether the
/// chain holds is [`verify`]'s to say.
///
/// # Errors
/// [`VerifyError::Read`].
pub fn each(folder: &Path, key: Option<&BodyKey>, mut tell: impl FnMut(Tailed)) -> Result<(), VerifyError> {
    let segments = segment::list(folder).map_err(|source| VerifyError::Read { path: folder.to_owned(), source })?;
    for (_, path) in segments {
        let Some(segment) = Segment::read(&path).map_err(|source| VerifyError::Read { path, source })? else { continue };
        records(&segment, key, &mut tell);
    }
    Ok(())
}

fn records(segment: &Segment, key: Option<&BodyKey>, tell: &mut impl FnMut(Tailed)) {
    let mut rest = &segment.bytes[segment.body_at..];
    while let Some((frame, length)) = format::Frame::decode(rest) {
        rest = &rest[length..];
        if format::Checkpoint::decode(frame.body).is_none() {
            let body = format::plain_body(&segment.header.log_id, &frame, key).and_then(|body| serde_json::from_slice(&body).ok());
            tell(Tailed { seq: frame.seq, time: format::timestamp(frame.time_ns), body });
        }
    }
}

/// The last `count` records of the log in `folder`, oldest first, checkpoints left out.
///
/// # Errors
/// [`VerifyError::Read`].
pub fn tail(folder: &Path, count: usize, key: Option<&BodyKey>) -> Result<Vec<Tailed>, VerifyError> {
    let segments = segment::list(folder).map_err(|source| VerifyError::Read { path: folder.to_owned(), source })?;
    let mut found: Vec<Tailed> = Vec::new();
    for (_, path) in segments.into_iter().rev() {
        if found.len() >= count {
            break;
        }
        let Some(segment) = Segment::read(&path).map_err(|source| VerifyError::Read { path, source })? else { continue };
        let mut here = Vec::new();
        records(&segment, key, &mut |record| here.push(record));
        here.append(&mut found);
        found = here;
    }
    found.drain(..found.len().saturating_sub(count));
    Ok(found)
}

//! Reading of a log's segments: which there are, and whether the chain through them holds.

use super::format::{Checkpoint, FRAME_BYTES, Frame, Hash, Header};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// Public keys of checkpoints by kid.
pub(super) type Keys = HashMap<String, [u8; 32]>;

/// `<first_seq, 20 digits>.idral`, in order. Other files of the folder are not ours to judge.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == EXTENSION) && stem.len() == 20 {
            segments.extend(stem.parse().ok().map(|first| (first, path)));
        }
    }
    segments.sort();
    Ok(segments)
}

pub(super) fn path(folder: &Path, first_seq: u64) -> PathBuf {
    folder.join(format!("{first_seq:020}.{EXTENSION}"))
}

/// Where a chain stands: the record before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// 0 before the first record.
    pub seq: u64,
    pub hash: Hash,
}

/// Why a walk stopped before the end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Last record that holds.
    pub after: u64,
    /// Byte of the segment at which the next one begins.
    pub offset: usize,
    pub what: &'static str,
    /// A write that was cut short leaves this and nothing else: a record that is not whole.
    pub torn: bool,
}

/// Walks the records of one segment from byte `offset` (after the header), and tells each that holds.
pub(super) fn walk<'a>(
    log_id: &str,
    segment: &'a [u8],
    mut offset: usize,
    mut place: Place,
    keys: &Keys,
    mut each: impl FnMut(&Frame<'a>, Option<&Checkpoint>),
) -> Result<Place, Fault> {
    while offset < segment.len() {
        let fault = |what, torn| Fault { after: place.seq, offset, what, torn };
        let Some((frame, length)) = Frame::decode(&segment[offset..]) else {
            return Err(fault("the record is not whole", true));
        };
        if frame.seq != place.seq + 1 {
            return Err(fault("the sequence number is not the next one", false));
        }
        if frame.prev != place.hash {
            return Err(fault("the record does not follow the one before it", false));
        }
        let checkpoint = Checkpoint::decode(frame.body);
        if checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.holds(log_id, place.seq, &place.hash, keys)) {
            return Err(fault("the checkpoint does not hold, or its key is unknown", false));
        }
        each(&frame, checkpoint.as_ref());
        place = Place { seq: frame.seq, hash: frame.hash() };
        offset += length;
    }
    Ok(place)
}

/// Whether what stands behind a torn record was synced once, so that cutting it would lose evidence: more records than
/// one sync writes, or a checkpoint.
pub(super) fn synced_beyond(log_id: &str, tail: &[u8], after: u64, keys: &Keys) -> bool {
    (1..tail.len().saturating_sub(FRAME_BYTES)).any(|offset| {
        let tail = &tail[offset..];
        // Cheap look at the sequence number first; the CRC decides.
        let seq = tail.get(8..).and_then(|rest| rest.first_chunk()).map(|seq| u64::from_be_bytes(*seq));
        seq.is_some_and(|seq| seq > after && seq - after < IMPLAUSIBLE)
            && Frame::decode(tail).is_some_and(|(frame, _)| {
                frame.seq - after > super::file::BATCH_RECORDS as u64 + 1
                    || Checkpoint::decode(frame.body).is_some_and(|checkpoint| checkpoint.holds(log_id, frame.seq - 1, &frame.prev, keys))
            })
    })
}

/// A segment with its header.
pub(super) struct Segment {
    pub header: Header,
    pub bytes: Vec<u8>,
    pub body_at: usize,
}

impl Segment {
    /// Reads a segment. `Ok(None)`: it has no whole header of this format.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = std::fs::read(path)?;
        Ok(Header::decode(&bytes).map(|(header, body_at)| Self { header, bytes, body_at }))
    }
}

const EXTENSION: &str = "idral";
const IMPLAUSIBLE: u64 = 1 << 32;

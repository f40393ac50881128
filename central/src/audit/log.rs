//! One log on disk: its only writer, and what it does after a crash (profile 07 §6.1, §6.4, §6.5).

use super::AuditError;
use super::format::{self, BodyKey, Checkpoint, CheckpointKey, FORMAT, Frame, Header};
use super::record::{Body, Closing, Delivered, Extent, Outcome, Record};
use super::segment::{self, Keys, Place, Segment};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Makes a file's data durable; another one in tests of a failing disk.
pub(super) type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// Keys of a node's logs.
#[derive(Clone)]
pub(super) struct LogKeys {
    pub body: Option<Arc<BodyKey>>,
    pub checkpoint: Arc<CheckpointKey>,
    /// Old and present checkpoint keys.
    pub trusted: Arc<Keys>,
}

/// One record to be written.
pub(super) struct Prepared {
    pub body: Vec<u8>,
    pub mark: Mark,
}

/// What a record does to the set of openings.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Opens(Uuid),
    Closes(Uuid),
    Nothing,
}

/// What opening a log found.
#[derive(Default)]
pub(super) struct Recovered {
    /// Last whole record before a torn tail, and the bytes cut.
    pub cut: Option<(u64, u64)>,
    /// Openings without a closing.
    pub orphans: Vec<Record>,
}

pub(super) struct Log {
    log_id: String,
    folder: PathBuf,
    keys: LogKeys,
    sync: SyncFile,
    file: File,
    bytes: u64,
    created: Timestamp,
    place: Place,
    unsigned: u64,
    signed_at: Timestamp,
    /// Opening records that wait, by id, with the time they were written.
    open: BTreeMap<Uuid, Timestamp>,
    _lock: File,
}

/// Keeps every other process off the logs below `root`, for a command that works on the state beside them; until it is dropped.
///
/// # Errors
/// A log is being written.
pub fn hold(root: &Path) -> io::Result<Vec<File>> {
    let mut held = Vec::new();
    let folders = match std::fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(held),
        folders => folders?,
    };
    for folder in folders {
        let lock = folder?.path().join("lock");
        if lock.exists() {
            let lock = OpenOptions::new().write(true).open(lock)?;
            lock.try_lock().map_err(io::Error::from)?;
            held.push(lock);
        }
    }
    Ok(held)
}

impl Log {
    /// Opens or creates `<root>/<log_id>` and repairs a torn tail.
    pub(super) fn open(root: &Path, log_id: &str, keys: LogKeys, sync: SyncFile, now: Timestamp) -> Result<(Self, Recovered), AuditError> {
        let storage = |doing| {
            let log_id = log_id.to_owned();
            move |source| AuditError::Storage { log_id, doing, source }
        };
        let folder = root.join(log_id);
        DirBuilder::new().recursive(true).mode(0o750).create(&folder).map_err(storage("make the folder"))?;
        sync_folder(root).map_err(storage("sync the folder"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o640)
            .open(folder.join("lock"))
            .map_err(storage("open the lock"))?;
        lock.try_lock().map_err(|error| storage("take the lock; another process writes this log")(error.into()))?;

        let mut segments = segment::list(&folder).map_err(storage("list the segments"))?;
        let mut recovered = Recovered::default();
        let mut last = None;
        while let Some((_, path)) = segments.last() {
            last = Segment::read(path).map_err(storage("read a segment"))?;
            if last.is_some() {
                break;
            }
            // The header is synced before the first record is written: a segment that ends within its header line never
            // held a record. Anything else without a readable header was changed.
            let bytes = std::fs::read(path).map_err(storage("read a segment"))?;
            if bytes.len() >= format::HEADER_BYTES_MAX || bytes.contains(&b'\n') {
                let after = segments.last().map_or(0, |(first, _)| first.saturating_sub(1));
                return Err(AuditError::Broken { log_id: log_id.to_owned(), after, what: "a segment has no readable header" });
            }
            std::fs::remove_file(path).map_err(storage("remove a segment without header"))?;
            sync_folder(&folder).map_err(storage("sync the folder"))?;
            segments.pop();
        }
        let genesis = Place { seq: 0, hash: format::genesis(log_id) };
        let Some(last) = last else {
            let (file, bytes) = create(log_id, &folder, genesis, &keys, &sync, now).map_err(storage("create the first segment"))?;
            let log = Self::at(log_id, folder, keys, sync, file, bytes, now, genesis, now, lock);
            return Ok((log, recovered));
        };

        let (place, cut, unsigned) = check_last(log_id, &last, &keys.trusted)?;
        let file = OpenOptions::new().append(true).open(&segments[segments.len() - 1].1).map_err(storage("open the last segment"))?;
        let mut bytes = last.bytes.len() as u64;
        if let Some(at) = cut {
            recovered.cut = Some((place.seq, bytes - at));
            file.set_len(at).map_err(storage("cut the torn tail"))?;
            bytes = at;
            sync(&file).map_err(storage("sync the last segment"))?;
        }
        recovered.orphans = orphans(log_id, &segments, last.header.created, &keys).map_err(storage("read a segment"))?;
        let mut log = Self::at(log_id, folder, keys, sync, file, bytes, last.header.created, place, now, lock);
        log.open = recovered.orphans.iter().map(|record| (record.id, record.time)).collect();
        // What the last checkpoint did not cover is covered with the first write.
        log.unsigned = unsigned;
        log.signed_at = Timestamp::UNIX_EPOCH;
        Ok((log, recovered))
    }

    #[expect(clippy::too_many_arguments, reason = "the two ways to start, in one place")]
    fn at(
        log_id: &str,
        folder: PathBuf,
        keys: LogKeys,
        sync: SyncFile,
        file: File,
        bytes: u64,
        created: Timestamp,
        place: Place,
        signed_at: Timestamp,
        lock: File,
    ) -> Self {
        let log_id = log_id.to_owned();
        Self { log_id, folder, keys, sync, file, bytes, created, place, unsigned: 0, signed_at, open: BTreeMap::new(), _lock: lock }
    }

    pub(super) fn log_id(&self) -> &str {
        &self.log_id
    }

    /// Writes a batch, with a checkpoint when one is due, and returns after one sync. After an error the log is not to
    /// be written again: what is on disk is known only after the next [`open`](Self::open).
    pub(super) fn append(&mut self, batch: &[Prepared], now: Timestamp) -> io::Result<()> {
        let stale = self.stale(now);
        if batch.is_empty() && stale.is_empty() && !self.checkpoint_due(0, now) {
            return Ok(());
        }
        let due = now.duration_since(self.created) >= SEGMENT_AGE;
        if self.place.seq >= 1 && (self.bytes >= SEGMENT_BYTES || due) {
            self.rotate(now)?;
        }
        let mut out = Vec::new();
        let mut place = self.place;
        for prepared in batch.iter().chain(&stale) {
            let sealed;
            let body = match &self.keys.body {
                Some(key) => {
                    let seal = key.seal(&self.log_id, place.seq + 1, format::nanoseconds(now), &prepared.body);
                    sealed = seal.ok_or_else(|| io::Error::other("the record cannot be encrypted"))?;
                    &sealed
                }
                None => &prepared.body,
            };
            place = push(&mut out, place, now, body);
        }
        let written = (batch.len() + stale.len()) as u64;
        let checkpoint = self.checkpoint_due(written, now);
        if checkpoint {
            place = self.push_checkpoint(&mut out, place, now);
        }
        self.write(&out)?;
        for prepared in batch.iter().chain(&stale) {
            match prepared.mark {
                Mark::Opens(id) => drop(self.open.insert(id, now)),
                Mark::Closes(id) => drop(self.open.remove(&id)),
                Mark::Nothing => {}
            }
        }
        self.place = place;
        self.signed(checkpoint, written, now);
        Ok(())
    }

    /// Signs what is not yet signed. Called at the end of a run.
    pub(super) fn checkpoint(&mut self, now: Timestamp) -> io::Result<()> {
        if self.unsigned == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        let place = self.push_checkpoint(&mut out, self.place, now);
        self.write(&out)?;
        self.place = place;
        self.signed(true, 0, now);
        Ok(())
    }

    fn write(&mut self, out: &[u8]) -> io::Result<()> {
        self.file.write_all(out)?;
        (self.sync)(&self.file)?;
        self.bytes += out.len() as u64;
        Ok(())
    }

    fn push_checkpoint(&self, out: &mut Vec<u8>, place: Place, now: Timestamp) -> Place {
        let signed = Checkpoint::sign(&self.keys.checkpoint, &self.log_id, place.seq, &place.hash, format::nanoseconds(now));
        push(out, place, now, &signed.encode())
    }

    fn signed(&mut self, checkpoint: bool, written: u64, now: Timestamp) {
        if checkpoint {
            self.unsigned = 0;
            self.signed_at = now;
        } else {
            self.unsigned += written;
        }
    }

    fn checkpoint_due(&self, more: u64, now: Timestamp) -> bool {
        let unsigned = self.unsigned + more;
        unsigned >= CHECKPOINT_RECORDS || unsigned > 0 && now.duration_since(self.signed_at) >= CHECKPOINT_AGE
    }

    /// Closings of openings that nobody closed in time (07 §6.4).
    fn stale(&mut self, now: Timestamp) -> Vec<Prepared> {
        let old: Vec<Uuid> =
            self.open.iter().filter(|(_, at)| now.duration_since(**at) >= OPENING_AGE).map(|(id, _)| *id).take(BATCH_STALE).collect();
        old.into_iter()
            .filter_map(|closes| {
                let body = Body::Closing { closes, closing: unknown(now) }.encode().ok()?;
                Some(Prepared { body, mark: Mark::Closes(closes) })
            })
            .collect()
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.checkpoint(now)?;
        let (file, bytes) = create(&self.log_id, &self.folder, self.place, &self.keys, &self.sync, now)?;
        (self.file, self.bytes, self.created) = (file, bytes, now);
        Ok(())
    }
}

/// `partial, unknown`: what is said of an opening whose end nobody saw.
pub(super) fn unknown(now: Timestamp) -> Closing {
    Closing {
        time: now,
        outcome: Outcome::Failed,
        delivered: Some(Delivered { extent: Extent::Unknown, instances: 0, bytes: 0 }),
        status: None,
    }
}

fn push(out: &mut Vec<u8>, place: Place, now: Timestamp, body: &[u8]) -> Place {
    let frame = Frame { seq: place.seq + 1, time_ns: format::nanoseconds(now), prev: place.hash, body };
    frame.encode(out);
    Place { seq: frame.seq, hash: frame.hash() }
}

fn create(log_id: &str, folder: &Path, place: Place, keys: &LogKeys, sync: &SyncFile, now: Timestamp) -> io::Result<(File, u64)> {
    let header = Header {
        format: FORMAT.to_owned(),
        log_id: log_id.to_owned(),
        first_seq: place.seq + 1,
        prev_hash: hex::encode(place.hash),
        created: now,
        kid: keys.body.as_ref().map(|key| key.kid().to_owned()),
    }
    .encode();
    let path = segment::path(folder, place.seq + 1);
    let mut file = OpenOptions::new().create_new(true).append(true).mode(0o640).open(path)?;
    file.write_all(&header)?;
    sync(&file)?;
    sync_folder(folder)?;
    Ok((file, header.len() as u64))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Where the log stands, at which byte a torn tail must be cut, and how many records no checkpoint covers.
fn check_last(log_id: &str, last: &Segment, keys: &Keys) -> Result<(Place, Option<u64>, u64), AuditError> {
    let broken = |after, what| AuditError::Broken { log_id: log_id.to_owned(), after, what };
    let first = last.header.first_seq;
    let prev = last.header.prev().filter(|_| first > 0 && last.header.log_id == log_id);
    let start = Place { seq: first.saturating_sub(1), hash: prev.ok_or_else(|| broken(0, "a segment header belongs to another log"))? };
    let walk = |bytes| {
        let mut unsigned = 0;
        let count = |_: &Frame<'_>, checkpoint: Option<&Checkpoint>| unsigned = if checkpoint.is_some() { 0 } else { unsigned + 1 };
        segment::walk(log_id, bytes, last.body_at, start, keys, count).map(|place| (place, unsigned))
    };
    match walk(&last.bytes) {
        Ok((place, unsigned)) => Ok((place, None, unsigned)),
        Err(fault) if fault.torn && !segment::synced_beyond(log_id, &last.bytes[fault.offset..], fault.after, keys) => {
            let (place, unsigned) = walk(&last.bytes[..fault.offset]).map_err(|fault| broken(fault.after, fault.what))?;
            Ok((place, Some(fault.offset as u64), unsigned))
        }
        Err(fault) => Err(broken(fault.after, fault.what)),
    }
}

/// Openings of the last [`OPENING_AGE`] (older ones were closed by the run that wrote them) that have no closing. A body
/// that cannot be read, because its key is gone, opens nothing.
fn orphans(log_id: &str, segments: &[(u64, PathBuf)], newest: Timestamp, keys: &LogKeys) -> io::Result<Vec<Record>> {
    let oldest = newest.saturating_sub(OPENING_AGE * 2).unwrap_or(Timestamp::MIN);
    let mut wanted = Vec::new();
    for (_, path) in segments.iter().rev() {
        let Some(segment) = Segment::read(path)? else { break };
        let enough = segment.header.created <= oldest;
        wanted.push(path);
        if enough {
            break;
        }
    }
    let mut open: BTreeMap<Uuid, Record> = BTreeMap::new();
    for path in wanted.into_iter().rev() {
        let Some(segment) = Segment::read(path)? else { continue };
        let mut rest = &segment.bytes[segment.body_at..];
        while let Some((frame, length)) = Frame::decode(rest) {
            rest = &rest[length..];
            let body = format::plain_body(log_id, &frame, keys.body.as_deref());
            match body.and_then(|body| serde_json::from_slice::<Body>(&body).ok()) {
                Some(Body::Opening(record)) => drop(open.insert(record.id, *record)),
                Some(Body::Closing { closes, .. }) => drop(open.remove(&closes)),
                _ => {}
            }
        }
    }
    Ok(open.into_values().collect())
}

const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const SEGMENT_AGE: SignedDuration = SignedDuration::from_hours(24);
const CHECKPOINT_RECORDS: u64 = 1000;
const CHECKPOINT_AGE: SignedDuration = SignedDuration::from_secs(60);
const OPENING_AGE: SignedDuration = SignedDuration::from_hours(24);
/// Stale openings closed in one batch.
const BATCH_STALE: usize = 64;

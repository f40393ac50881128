//! The receipt log on disk.
//!
//! `receipts/<number of the first line, 20 digits>.jsonl`, append only, one carried receipt per line as
//! [`Carried::to_json`] writes it, a new segment after [`SEGMENT_BYTES`]. A writing of several lines becomes durable by one
//! sync, so after a crash its lines may be readable in part: the end is then cut before the first that is not, and what
//! stood there is kept as `<segment>-<offset>.torn`, from which the readable receipts are logged again in their order.
//!
//! Rows in the index find receipts again: `h` hash → segment, offset, length; `c` study `\0` id → the same. They follow from
//! the log.

use super::ReceiptError;
use crate::spool::disk::{Disk, DiskFile, create_folders, files_ending, make_sure, read_from};
use crate::spool::index::Change;
use idr_profile::receipt::{Carried, ReceiptHash, Statement};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment is closed when it is longer, bytes.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Folder of the segments.
pub const FOLDER: &str = "receipts";
/// Row that says how far the rows go.
pub(super) const POSITION: &[u8] = b"!receipts";

pub(super) fn disk_error(doing: &'static str) -> impl Fn(io::Error) -> ReceiptError {
    move |error| ReceiptError::Disk { doing, source: Arc::new(error) }
}

/// Where a receipt stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Number of the first line of its segment.
    pub segment: u64,
    offset: u64,
    length: u32,
}

impl Place {
    pub(super) fn of(segment: u64, offset: u64, carried: &Carried) -> Self {
        Self { segment, offset, length: u32::try_from(carried.to_json().len()).expect("CARRIED_BYTES_MAX is less") }
    }

    fn row(self) -> Vec<u8> {
        [&self.segment.to_be_bytes()[..], &self.offset.to_be_bytes()[..], &self.length.to_be_bytes()[..]].concat()
    }

    pub(super) fn read(row: &[u8]) -> Option<Self> {
        let (segment, rest) = row.split_first_chunk::<8>()?;
        let (offset, length) = rest.split_first_chunk::<8>()?;
        let length = length.try_into().ok()?;
        Some(Self { segment: u64::from_be_bytes(*segment), offset: u64::from_be_bytes(*offset), length: u32::from_be_bytes(length) })
    }
}

/// The log, open for appending.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    segment: Option<Open>,
    /// Lines so far.
    lines: u64,
    /// Bytes behind the durable length may be left from a failure.
    dirty: bool,
}

struct Open {
    first: u64,
    file: Arc<dyn DiskFile>,
    /// Durable bytes.
    length: u64,
}

impl Log {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, segment: None, lines: 0, dirty: false }
    }

    /// Writes receipts and returns, when they are durable, the rows that find them.
    pub(super) fn append(&mut self, batch: &[Carried]) -> Result<Vec<Change>, ReceiptError> {
        let written = self.write(batch);
        self.dirty = written.is_err();
        if let (true, Some(open)) = (self.dirty, &self.segment) {
            // What was half written must not be found by a restart; if this fails too, the next call cuts.
            let _ = open.file.set_length(open.length).and_then(|()| open.file.sync_data());
        }
        written
    }

    fn write(&mut self, batch: &[Carried]) -> Result<Vec<Change>, ReceiptError> {
        if self.segment.as_ref().is_none_or(|open| open.length > SEGMENT_BYTES) {
            let first = self.lines + 1;
            let file = match self.disk.create(&path(first)) {
                // Begun before, and without one durable line.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.dirty = true;
                    self.disk.open(&path(first))
                }
                other => other,
            };
            let file = file.map_err(disk_error("begun"))?;
            self.disk.sync_folder(Path::new(FOLDER)).map_err(disk_error("begun"))?;
            self.segment = Some(Open { first, file, length: 0 });
        }
        let Open { first, file, length } = self.segment.as_mut().expect("begun above");
        if self.dirty {
            file.set_length(*length).map_err(disk_error("cut"))?;
        }
        let mut text = String::new();
        let mut rows = Vec::new();
        for carried in batch {
            rows.extend(rows_of(carried, Place::of(*first, *length + text.len() as u64, carried)));
            text.push_str(&carried.to_json());
            text.push('\n');
        }
        file.write_at(*length, text.as_bytes()).map_err(disk_error("written"))?;
        file.sync_data().map_err(disk_error("synced"))?;
        *length += text.len() as u64;
        rows.push(position_row(*first, *length));
        self.lines += batch.len() as u64;
        Ok(rows)
    }
}

/// The segments of a log, for reading.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    firsts: Vec<u64>,
}

/// What stands in a segment.
pub(super) struct Segment {
    /// Number of its first line.
    pub first: u64,
    /// Offset and receipt.
    pub receipts: Vec<(u64, Carried)>,
    /// Offsets of unreadable lines before the last readable one.
    broken: Vec<u64>,
    /// As many.
    pub broken_lines: u64,
    /// Lines up to the end of the last readable one.
    lines: u64,
    /// Bytes up to there.
    pub good_bytes: u64,
    bytes: u64,
}

impl Segments {
    pub(super) fn list(disk: Arc<dyn Disk>) -> Result<Self, ReceiptError> {
        create_folders(&*disk, Path::new(FOLDER)).map_err(disk_error("made"))?;
        let names = files_ending(&*disk, Path::new(FOLDER), ".jsonl").map_err(disk_error("listed"))?;
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        firsts.sort_unstable();
        Ok(Self { disk, firsts })
    }

    pub(super) fn count(&self) -> usize {
        self.firsts.len()
    }

    /// Position of the segment whose first line has that number.
    pub(super) fn position(&self, first: u64) -> Option<usize> {
        self.firsts.iter().position(|known| *known == first)
    }

    pub(super) fn read(&self, position: usize) -> Result<Segment, ReceiptError> {
        let first = self.firsts[position];
        let file = self.disk.open(&path(first)).map_err(disk_error("opened"))?;
        Ok(read_segment(first, &read_from(&*file, 0).map_err(disk_error("read"))?))
    }

    /// Cuts the end of the last segment where a writing was not finished; gives the bytes that were cut. `safe`: nothing
    /// before this offset can be unfinished; `None`: only what no readable line follows is.
    pub(super) fn mend(&self, segment: &mut Segment, safe: Option<u64>) -> Result<u64, ReceiptError> {
        let torn = safe.and_then(|safe| segment.broken.iter().copied().find(|offset| *offset >= safe));
        let end = torn.unwrap_or(segment.good_bytes);
        let cut = segment.bytes - end;
        if cut == 0 {
            return Ok(0);
        }
        let file = self.disk.open(&path(segment.first)).map_err(disk_error("opened"))?;
        if torn.is_some() {
            let bytes = read_from(&*file, end).map_err(disk_error("read"))?;
            let aside = Path::new(FOLDER).join(format!("{:020}-{end:020}.torn", segment.first));
            let aside = match self.disk.create(&aside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&aside),
                other => other,
            };
            let kept = aside.and_then(|aside| aside.write_at(0, &bytes).and_then(|()| aside.sync_data()));
            kept.and_then(|()| self.disk.sync_folder(Path::new(FOLDER))).map_err(disk_error("mended"))?;
        }
        file.set_length(end).map_err(disk_error("cut"))?;
        *segment = read_segment(segment.first, &read_from(&*file, 0).map_err(disk_error("read"))?);
        Ok(cut)
    }

    /// Opens the last segment for appending, durable as far as it was read.
    pub(super) fn open_last(&self, segment: &Segment) -> Result<Log, ReceiptError> {
        let file = self.disk.open(&path(segment.first)).map_err(disk_error("opened"))?;
        make_sure(&*file, |_| {}).map_err(disk_error("synced"))?;
        let lines = segment.first - 1 + segment.lines;
        let open = Open { first: segment.first, file, length: segment.good_bytes };
        Ok(Log { disk: Arc::clone(&self.disk), segment: Some(open), lines, dirty: false })
    }

    /// Readable receipts of ends that were torn, now or at an earlier start.
    pub(super) fn strays(&self) -> Result<Vec<Carried>, ReceiptError> {
        let mut strays = Vec::new();
        for name in files_ending(&*self.disk, Path::new(FOLDER), ".torn").map_err(disk_error("listed"))? {
            let file = self.disk.open(&Path::new(FOLDER).join(name)).map_err(disk_error("opened"))?;
            let bytes = read_from(&*file, 0).map_err(disk_error("read"))?;
            strays.extend(read_segment(0, &bytes).receipts.into_iter().map(|(_, carried)| carried));
        }
        Ok(strays)
    }

    pub(super) fn sync(&self) -> Result<(), ReceiptError> {
        self.disk.sync_folder(Path::new(FOLDER)).map_err(disk_error("synced"))
    }
}

fn read_segment(first: u64, bytes: &[u8]) -> Segment {
    let mut segment =
        Segment { first, receipts: Vec::new(), broken: Vec::new(), broken_lines: 0, lines: 0, good_bytes: 0, bytes: bytes.len() as u64 };
    let (mut offset, mut broken) = (0, Vec::new());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n'));
        match text.and_then(|text| Carried::parse(text).ok()) {
            Some(carried) => {
                segment.receipts.push((offset, carried));
                // Counts only if a readable line follows; otherwise it is an unfinished end.
                segment.broken.append(&mut broken);
                segment.good_bytes = offset + line.len() as u64;
            }
            None => broken.push(offset),
        }
        offset += line.len() as u64;
    }
    segment.broken_lines = segment.broken.len() as u64;
    segment.lines = segment.receipts.len() as u64 + segment.broken_lines;
    segment
}

/// Every receipt in a log on a disk, in order, for verification without opening it, and how many lines are unreadable.
///
/// # Errors
/// [`ReceiptError::Disk`].
pub fn read_log(disk: Arc<dyn Disk>) -> Result<(Vec<Carried>, u64), ReceiptError> {
    let segments = Segments::list(disk)?;
    let (mut receipts, mut broken) = (Vec::new(), 0);
    for position in 0..segments.count() {
        let segment = segments.read(position)?;
        receipts.extend(segment.receipts.into_iter().map(|(_, carried)| carried));
        broken += segment.broken_lines;
    }
    Ok((receipts, broken))
}

pub(super) fn read_at(disk: &dyn Disk, place: Place) -> Result<Carried, ReceiptError> {
    let file = disk.open(&path(place.segment)).map_err(disk_error("opened"))?;
    let mut bytes = vec![0; place.length as usize];
    let read = file.read_at(place.offset, &mut bytes).map_err(disk_error("read"))?;
    let text = bytes.get(..read).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let carried = text.and_then(|text| Carried::parse(text).ok());
    carried.ok_or_else(|| disk_error("read")(io::Error::new(io::ErrorKind::InvalidData, "no receipt stands where the index says")))
}

pub(super) fn rows_of(carried: &Carried, place: Place) -> Vec<Change> {
    let receipt = carried.receipt();
    let study = match &receipt.statement {
        Statement::Registration { study_uid, .. } => Some(study_uid),
        _ => receipt.object().map(|object| &object.study_uid),
    };
    let mut rows = vec![(hash_key(&carried.hash()), Some(place.row()))];
    rows.extend(study.map(|study| ([&b"c"[..], study.as_bytes(), &[0], receipt.id.as_bytes()].concat(), Some(place.row()))));
    rows
}

pub(super) fn position_row(segment: u64, offset: u64) -> Change {
    (POSITION.to_vec(), Some(Place { segment, offset, length: 0 }.row()))
}

pub(super) fn hash_key(hash: &ReceiptHash) -> Vec<u8> {
    [&b"h"[..], &hash.as_bytes()[..]].concat()
}

fn path(first: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{first:020}.jsonl"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".jsonl").filter(|digits| digits.len() == 20)?.parse().ok().filter(|number| *number > 0)
}

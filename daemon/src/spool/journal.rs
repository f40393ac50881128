//! Journal: what happened to objects and studies that their files cannot say.
//!
//! # On disk
//! `journal/<number of the first line, 20 digits>.log`, append only, a new segment at every start and after
//! [`SEGMENT_BYTES`]. One line per event: its number, the number of the first line written with it, the first 16 hex digits
//! of the SHA-256 of `<number> <first> <json>`, JSON, line feed. Numbers rise by one; the first line of a segment is
//! [`Event::Begun`]. Nothing is ever changed or removed: about 1.5 KiB per object that went all the way.
//!
//! # Failure
//! [`Journal::append`] returns after the lines are durable; concurrent calls share one sync. After a failed write the next
//! call begins a new segment with the number that failed: lines in an older segment that a newer one has too do not count.
//! A line that does not match its sum is skipped: events carry whole values, so later lines stand by themselves. Lines
//! that are missing among the last ones written together are the trace of a crash before an answer; others are reported.

use super::disk::{Disk, DiskFile, create_folders, files_ending, make_sure, read_from};
use super::record::{Announced, Entry, Move, Note, SpoolId};
use idr_profile::receipt::ReceiptHash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use uuid::Uuid;

/// A segment is closed when it is longer, bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Folder of the segments.
pub const FOLDER: &str = "journal";
/// Format of files and journal; a number we do not know is refused.
pub const FORMAT: u32 = 1;

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A segment begins.
    Begun {
        /// Which spool this is; an index of another one is not used.
        spool: Uuid,
        /// [`FORMAT`].
        format: u32,
    },
    /// An item moved.
    Moved(Move),
    /// An item was released: its file goes, this line is what remains of it.
    Released {
        /// The item, in its last state.
        entry: Box<Entry>,
    },
    /// The same bytes were handed over again; the file of that hand-over collapses into the first.
    Repeated {
        /// Name the file had.
        id: SpoolId,
        /// The object that stays.
        first: SpoolId,
        /// Its R1, the only one.
        r1: ReceiptHash,
        /// Who handed it over again.
        announced: Box<Announced>,
        /// When the last byte had come.
        received: Timestamp,
    },
    /// A fact about a study.
    Noted(Note),
    /// What is settled.
    Mark(Mark),
}

/// What is settled: a start after a crash looks at the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Every object file with a lower id is durable, its R1 is in the receipt log, and nothing about it is in flight.
    pub low: SpoolId,
    /// The receipt of ours up to which the log is whole.
    pub logged: Option<ReceiptHash>,
}

/// The journal, open for appending.
pub struct Journal {
    disk: Arc<dyn Disk>,
    spool: Uuid,
    queue: Mutex<Vec<(Vec<Event>, Arc<Outcome>)>>,
    writer: Mutex<Writer>,
}

type Outcome = OnceLock<Result<(), Arc<io::Error>>>;

struct Writer {
    /// None after a failure, until a new segment could be begun.
    segment: Option<Segment>,
    /// Number of the last durable line.
    last: u64,
}

struct Segment {
    file: Arc<dyn DiskFile>,
    length: u64,
}

/// What reading a journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The spool the segments belong to.
    pub spool: Option<Uuid>,
    /// Number of the first line there is.
    pub first: u64,
    /// Number of the last line; 0 when empty.
    pub last: u64,
    /// The last [`Event::Mark`].
    pub mark: Option<Mark>,
    /// Lines that were written and do not hold; those at the very end were never acknowledged.
    pub broken_lines: u64,
    /// Numbers that no line has, other than among the last lines that were written together into a segment.
    pub missing_lines: u64,
}

/// Reads the lines with a number above `after`, in order, and reports on all segments read. Segments that end before are
/// not opened, unless `after` is 0.
///
/// # Errors
/// What the disk says; `InvalidData` for a format or a second spool id that this program does not know.
pub fn read(disk: &dyn Disk, after: u64, mut visit: impl FnMut(u64, Event)) -> io::Result<Findings> {
    let mut firsts: Vec<u64> = files_ending(disk, Path::new(FOLDER), ".log")?.iter().filter_map(|name| number_of(name)).collect();
    firsts.sort_unstable();
    let mut findings = Findings { first: firsts.first().copied().unwrap_or(0), ..Findings::default() };
    for (position, first) in firsts.iter().enumerate() {
        let next = firsts.get(position + 1).copied();
        if next.is_some_and(|next| next <= after.saturating_add(1)) {
            findings.last = next.unwrap_or(1) - 1;
            continue;
        }
        let bytes = read_from(&*disk.open(&path(*first))?, 0)?;
        let mut expected = *first;
        // Gaps count once a line follows that was written after the one that would have filled them.
        let mut gaps: Vec<Range<u64>> = Vec::new();
        let mut written_together = *first;
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some((number, together, event)) = parse(text).filter(|(number, ..)| *number >= expected) else {
                findings.broken_lines += 1;
                continue;
            };
            if next.is_some_and(|next| number >= next) {
                break;
            }
            if number > expected {
                gaps.push(expected..number);
            }
            written_together = together;
            expected = number + 1;
            findings.last = number;
            match &event {
                Event::Begun { format, .. } if *format != FORMAT => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("journal format {format}, this program knows {FORMAT}"),
                    ));
                }
                Event::Begun { spool, .. } if findings.spool.is_some_and(|known| known != *spool) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the journal has segments of two spools; restore one of them"));
                }
                Event::Begun { spool, .. } => findings.spool = Some(*spool),
                Event::Mark(mark) => findings.mark = Some(*mark),
                _ => {}
            }
            if number > after {
                visit(number, event);
            }
        }
        gaps.extend(next.filter(|next| *next > expected).map(|next| expected..next));
        findings.missing_lines += gaps.iter().map(|gap| gap.end.min(written_together).saturating_sub(gap.start)).sum::<u64>();
    }
    Ok(findings)
}

impl Journal {
    /// Begins a new segment behind what [`read`] found. `fresh` names the spool when there is no segment yet.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: Arc<dyn Disk>, findings: &Findings, fresh: Uuid) -> io::Result<Self> {
        create_folders(&*disk, Path::new(FOLDER))?;
        let spool = findings.spool.unwrap_or(fresh);
        let journal = Self { disk, spool, queue: Mutex::default(), writer: Mutex::new(Writer { segment: None, last: findings.last }) };
        // Lines of a killed process may be readable and not yet durable; nothing may be built on them before.
        for name in files_ending(&*journal.disk, Path::new(FOLDER), ".log")?.iter().rev().take(2) {
            make_sure(&*journal.disk.open(&Path::new(FOLDER).join(name))?, |_| {})?;
        }
        journal.append(Vec::new(), |_, _| {}).map_err(|error| io::Error::new(error.kind(), error))?;
        Ok(journal)
    }

    /// Which spool this is.
    pub fn spool(&self) -> Uuid {
        self.spool
    }

    /// Number of the last durable line.
    pub fn last(&self) -> u64 {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Writes events and returns when they are durable. `apply` is called for each durable event, in the order of their
    /// numbers over all callers, before any caller returns; whoever syncs calls it for all who wait.
    ///
    /// # Errors
    /// What the disk says. The events may or may not be found after a restart.
    pub fn append(&self, events: Vec<Event>, mut apply: impl FnMut(u64, &Event)) -> Result<(), Arc<io::Error>> {
        let outcome = Arc::new(Outcome::new());
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push((events, Arc::clone(&outcome)));
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.get().is_none() {
            let batch = std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
            let result = self.write(&mut writer, &batch, &mut apply).map_err(Arc::new);
            if result.is_err() {
                writer.segment = None;
            }
            for (_, waiting) in &batch {
                // Nobody else sets it: the batch was taken under the lock.
                let _ = waiting.set(result.clone());
            }
        }
        outcome.get().cloned().expect("set by whoever took the batch, before the lock was given back")
    }

    fn write(&self, writer: &mut Writer, batch: &[(Vec<Event>, Arc<Outcome>)], apply: &mut dyn FnMut(u64, &Event)) -> io::Result<()> {
        if writer.segment.as_ref().is_none_or(|segment| segment.length > SEGMENT_BYTES) {
            writer.segment = None;
            writer.segment = Some(self.begin(writer.last + 1)?);
            writer.last += 1;
        }
        let segment = writer.segment.as_mut().expect("begun above");
        let mut text = String::new();
        let mut number = writer.last;
        let together = number + 1;
        for event in batch.iter().flat_map(|(events, _)| events) {
            number += 1;
            text.push_str(&line(number, together, event)?);
        }
        if text.is_empty() {
            return Ok(());
        }
        segment.file.write_at(segment.length, text.as_bytes())?;
        segment.file.sync_data()?;
        segment.length += text.len() as u64;
        for event in batch.iter().flat_map(|(events, _)| events) {
            writer.last += 1;
            apply(writer.last, event);
        }
        Ok(())
    }

    fn begin(&self, first: u64) -> io::Result<Segment> {
        let text = line(first, first, &Event::Begun { spool: self.spool, format: FORMAT })?;
        let file = match self.disk.create(&path(first)) {
            // A segment of this number without one durable line: begun, and never used.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open(&path(first))?;
                file.set_length(0)?;
                file
            }
            other => other?,
        };
        file.write_at(0, text.as_bytes())?;
        file.sync_data()?;
        self.disk.sync_folder(Path::new(FOLDER))?;
        Ok(Segment { file, length: text.len() as u64 })
    }
}

fn path(first: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{first:020}.log"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 20)?.parse().ok()
}

fn sum(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..8])
}

fn line(number: u64, together: u64, event: &Event) -> io::Result<String> {
    let json = serde_json::to_string(event)?;
    let sum = sum(&format!("{number} {together} {json}"));
    let mut line = String::new();
    writeln!(line, "{number} {together} {sum} {json}").expect("a String takes everything");
    Ok(line)
}

fn parse(line: &[u8]) -> Option<(u64, u64, Event)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let mut parts = line.splitn(4, ' ');
    let (number, together, found, json) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (sum(&format!("{number} {together} {json}")) == found).then_some(())?;
    Some((number.parse().ok()?, together.parse().ok()?, serde_json::from_str(json).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::disk::{Fault, MemoryDisk};
    use super::*;

    fn mark(low: u64) -> Event {
        Event::Mark(Mark { low: SpoolId(low), logged: None })
    }

    fn open(disk: &MemoryDisk) -> (Journal, Vec<Event>, Findings) {
        let mut events = Vec::new();
        let findings = read(disk, 0, |_, event| events.push(event)).expect("readable");
        events.retain(|event| !matches!(event, Event::Begun { .. }));
        let journal = Journal::open(Arc::new(disk.clone()), &findings, Uuid::from_u128(1)).expect("a working disk");
        (journal, events, findings)
    }

    #[test]
    fn what_append_returned_ok_for_is_read_after_a_cut_at_every_step() {
        for cut in 1.. {
            let disk = MemoryDisk::default();
            disk.cut_power_at(cut);
            let mut acknowledged = Vec::new();
            let findings = Findings::default();
            if let Ok(journal) = Journal::open(Arc::new(disk.clone()), &findings, Uuid::from_u128(1)) {
                for low in 0..4 {
                    if journal.append(vec![mark(low)], |_, _| {}).is_ok() {
                        acknowledged.push(mark(low));
                    }
                }
            }
            let done = !disk.is_dead();
            let disk = disk.power_cut(cut);
            let (_, events, found) = open(&disk);
            assert!(events.starts_with(&acknowledged), "cut at {cut}: {events:?}");
            assert_eq!(found.missing_lines, 0, "cut at {cut}");
            let (_, again, _) = open(&disk);
            assert_eq!(again, events, "reading twice gives the same");
            if done {
                return;
            }
        }
    }

    #[test]
    fn after_a_failed_sync_the_next_append_stands_in_a_new_segment_and_the_failed_line_does_not_count() {
        let disk = MemoryDisk::default();
        let (journal, _, _) = open(&disk);
        journal.append(vec![mark(1)], |_, _| {}).expect("a working disk");
        disk.fail(disk.steps() + 2, Fault::Eio);
        journal.append(vec![mark(2)], |_, _| panic!("not durable")).expect_err("the sync failed");
        journal.append(vec![mark(3)], |_, _| {}).expect("a working disk");
        for seed in 0..8 {
            let disk = disk.power_cut(seed);
            let (_, events, findings) = open(&disk);
            assert_eq!((events, findings.missing_lines), (vec![mark(1), mark(3)], 0));
        }
    }

    #[test]
    fn a_rotten_line_is_reported_and_the_lines_after_it_are_read() {
        let disk = MemoryDisk::default();
        let (journal, _, _) = open(&disk);
        for low in 1..=3 {
            journal.append(vec![mark(low)], |_, _| {}).expect("a working disk");
        }
        let text = read_from(&*disk.open(&path(1)).expect("there"), 0).expect("readable");
        let second = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).map(|(at, _)| at + 30).expect("four lines");
        assert!(disk.rot(&path(1), second as u64));
        let (_, events, findings) = open(&disk);
        assert_eq!((events, findings.broken_lines, findings.missing_lines), (vec![mark(1), mark(3)], 1, 1));
    }

    #[test]
    fn a_torn_writing_at_the_end_is_no_alarm_and_stays_none_when_others_follow() {
        let disk = MemoryDisk::default();
        let (journal, _, _) = open(&disk);
        journal.append(vec![mark(1)], |_, _| {}).expect("a working disk");
        journal.append(vec![mark(2), mark(3), mark(4)], |_, _| {}).expect("a working disk");
        let text = read_from(&*disk.open(&path(1)).expect("there"), 0).expect("readable");
        let third = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).map(|(at, _)| at + 30).expect("five lines");
        assert!(disk.rot(&path(1), third as u64), "as if its sector had not been written");
        let (journal, events, findings) = open(&disk);
        assert_eq!((events, findings.broken_lines, findings.missing_lines), (vec![mark(1), mark(3), mark(4)], 1, 0));
        journal.append(vec![mark(5)], |_, _| {}).expect("a working disk");
        let (_, events, findings) = open(&disk);
        assert_eq!((events.last(), findings.missing_lines), (Some(&mark(5)), 0));
    }

    #[test]
    fn callers_who_wait_share_one_sync_and_all_get_an_answer() {
        let disk = MemoryDisk::default();
        let (journal, _, _) = open(&disk);
        let applied = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for low in 0..16 {
                let (journal, applied) = (&journal, &applied);
                scope.spawn(move || {
                    journal.append(vec![mark(low)], |number, _| applied.lock().expect("whole").push(number)).expect("a working disk")
                });
            }
        });
        let applied = applied.into_inner().expect("whole");
        assert_eq!(applied, (2..18).collect::<Vec<_>>(), "each once, in order");
    }
}

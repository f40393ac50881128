//! ZIP archives of the drop folder: every Part 10 file in them is an object. Blocks.
//!
//! It knows bytes and an [`Object`] that takes them, no file and no spool, so that the fuzzer drives the same code.
//!
//! Entries are told by their content; no name of the archive is used as a path. Entries that are no DICOM are passed over, but
//! for those that begin as a data set without file meta: they are refused, so that the archive is kept. A DICOMDIR is passed over
//! too: it names the files beside it, which are taken anyway.
//!
//! # Failure
//! An entry that is refused or damaged does not stop the others: what is good is in the spool, and the archive as a whole goes
//! to `refused/`. If the spool fails the archive stays claimed and is read again from its start; what it gave before is
//! repeated, not doubled.
//!
//! # Bounds
//! Profile 10 BD-22: unpacked bytes of an archive, ratio and size of an entry, no archive in an archive. What is read to find
//! the entries is bounded too, and with it their number and what they take in memory.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use idr_profile::rules::Finding;
use zip::ZipArchive;

/// Bytes read to find the entries; with names of 50 characters that is 80 000 of them.
const DIRECTORY_BYTES_MAX: u64 = 8 << 20;
/// Unpacked bytes of one archive (BD-22).
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
/// Unpacked bytes per packed one (BD-22), after [`RATIO_FREE_BYTES`].
const RATIO_MAX: u64 = 100;
const RATIO_FREE_BYTES: u64 = 1 << 20;
/// Refused entries that are remembered with their reasons.
pub const REFUSED_MAX: usize = 100;
const BUFFER_BYTES: usize = 256 << 10;

/// Whether a file that begins so is a ZIP archive. A preamble may hold anything, so that `DICM` goes first.
pub fn is_zip(first: &[u8]) -> bool {
    !is_part10(first) && (first.starts_with(b"PK\x03\x04") || first.starts_with(b"PK\x05\x06"))
}

fn is_part10(first: &[u8]) -> bool {
    first.get(128..132) == Some(b"DICM")
}

/// It begins with an element of group 0002 or 0008, as objects that were written without preamble do.
fn is_bare_data_set(first: &[u8]) -> bool {
    !is_part10(first) && matches!(first, [2 | 8, 0, _, 0, ..] | [0, 2 | 8, 0, _, ..])
}

/// What became of the entries.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// In the spool.
    pub kept: u64,
    /// Not DICOM, or a DICOMDIR.
    pub passed: u64,
    /// Refused, all of them.
    pub refused: u64,
    /// The first [`REFUSED_MAX`] of them.
    pub reasons: Vec<Refused>,
    /// The spool failed, or a stop came: not all entries were read.
    pub unfinished: bool,
}

/// An entry that is not in the spool.
#[derive(Debug)]
pub struct Refused {
    /// Its name in the archive, as its bytes stand there; for people, not for paths.
    pub name: Vec<u8>,
    /// Why.
    pub why: Why,
}

/// Why an entry is not in the spool.
#[derive(Debug)]
pub enum Why {
    /// Rules that it fails.
    Rules(Vec<Finding>),
    /// It cannot be unpacked, or not within the bounds.
    Unpacking(&'static str),
}

/// What takes the bytes of an entry, in order. It is ended by one of its last two calls.
pub trait Object {
    /// The next bytes; whether they showed it to be a DICOMDIR.
    fn feed(&mut self, bytes: &[u8]) -> bool;

    /// The entry is no object, damaged, or left for later: what came of it is given up.
    fn give_back(self);

    /// All bytes came. `Ok(false)`: the spool failed.
    ///
    /// # Errors
    /// The rules that refuse it.
    fn conclude(self) -> Result<bool, Vec<Finding>>;
}

/// Reads all entries, each into an object of its own, until `stopped` says so.
///
/// # Errors
/// A sentence: the archive itself cannot be read.
pub fn take<O: Object>(
    file: impl Read + Seek,
    receive: impl Fn() -> O,
    entry_bytes_max: u64,
    stopped: impl Fn() -> bool,
) -> Result<Unpacked, &'static str> {
    let bound = Rc::new(Cell::new(Some(DIRECTORY_BYTES_MAX)));
    let mut archive = ZipArchive::new(Bounded { inner: file, left: bound.clone() })
        .map_err(|_| "it is no ZIP archive that can be read, or has too many entries")?;
    // Of entries with one name only the last can be read: the others would be lost without a word.
    if archive.has_duplicate_names() {
        return Err("two of its files have the same name, and only one of them can be read");
    }
    // The entries are found: what each may cost is bounded below.
    bound.set(None);
    let mut unpacked = Unpacked::default();
    let mut left = UNPACKED_BYTES_MAX;
    for index in 0..archive.len() {
        if stopped() {
            unpacked.unfinished = true;
            break;
        }
        let name = match archive.name_for_index(index) {
            Some(Ok(name)) => name.as_bytes().to_vec(),
            _ => format!("entry {index}").into_bytes(),
        };
        let ended = match archive.by_index(index) {
            Err(_) => End::Refused(Why::Unpacking("it is encrypted, damaged, or packed by a method other than deflate")),
            Ok(entry) if entry.is_dir() || entry.is_symlink() => continue,
            Ok(mut entry) => {
                let ratio = entry.compressed_size().saturating_mul(RATIO_MAX).saturating_add(RATIO_FREE_BYTES);
                let mut bounded = Unpacking { inner: &mut entry, left: left.min(entry_bytes_max).min(ratio), exceeded: false };
                let before = bounded.left;
                let ended = read(&mut bounded, &receive, &stopped);
                left -= before - bounded.left;
                ended
            }
        };
        match ended {
            End::Kept => unpacked.kept += 1,
            End::Passed => unpacked.passed += 1,
            End::Refused(why) => {
                unpacked.refused += 1;
                if unpacked.reasons.len() < REFUSED_MAX {
                    unpacked.reasons.push(Refused { name, why });
                }
            }
            End::Unfinished => {
                unpacked.unfinished = true;
                break;
            }
        }
    }
    Ok(unpacked)
}

enum End {
    Kept,
    Passed,
    Refused(Why),
    Unfinished,
}

fn read<O: Object>(entry: &mut Unpacking<impl Read>, receive: impl Fn() -> O, stopped: impl Fn() -> bool) -> End {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    // Enough to see what it is.
    while filled < 132 {
        match entry.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(_) => return End::Refused(entry.fault()),
        }
    }
    if is_zip(&buffer[..filled]) {
        return End::Refused(Why::Unpacking("it is an archive in an archive"));
    }
    if is_bare_data_set(&buffer[..filled]) {
        return End::Refused(Why::Unpacking("it begins as a DICOM data set and has no file meta information (PS3.10 §7.1)"));
    }
    if !is_part10(&buffer[..filled]) {
        return End::Passed;
    }
    let mut object = receive();
    loop {
        if object.feed(&buffer[..filled]) {
            object.give_back();
            return End::Passed;
        }
        // The last read also says whether the checksum holds.
        let read = if stopped() { None } else { Some(entry.read(&mut buffer)) };
        match read {
            Some(Ok(0)) => break,
            Some(Ok(read)) => filled = read,
            Some(Err(_)) => {
                object.give_back();
                return End::Refused(entry.fault());
            }
            None => {
                object.give_back();
                return End::Unfinished;
            }
        }
    }
    match object.conclude() {
        Ok(true) => End::Kept,
        Ok(false) => End::Unfinished,
        Err(findings) => End::Refused(Why::Rules(findings)),
    }
}

/// An entry that ends in an error when it unpacks to more than it may.
struct Unpacking<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R> Unpacking<R> {
    fn fault(&self) -> Why {
        Why::Unpacking(if self.exceeded {
            "it unpacks to more than is allowed: 100 times its packed size, drop_folders.file_bytes_max, or 64 GiB of the archive"
        } else {
            "it is damaged"
        })
    }
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        Ok(read)
    }
}

/// The archive's file: bounded until the entries are found.
struct Bounded<F> {
    inner: F,
    left: Rc<Cell<Option<u64>>>,
}

impl<F: Read> Read for Bounded<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?));
        }
        Ok(read)
    }
}

impl<F: Seek> Seek for Bounded<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

//! The folder itself: what lies in it, what is complete, and the claim by rename. Blocks.
//!
//! # On disk
//! In the drop folder: `.idr/` (0700, ours; `<id>` is a claimed file, `<id>.name` the path it was found under), `refused/`
//! (`<id>` is a file that was not taken, `<id>.txt` says why). An id is 32 random hex digits. Nothing in `refused/` is
//! removed by us.
//!
//! # Failure
//! The name is written before the rename, so that a claim whose name is missing is one that lost it in a power cut. A
//! claim that is there at a start was interrupted and is taken again.
//!
//! # Bounds
//! Entries and levels by the configuration; folders on other file systems, links and special files are passed over. All
//! steps go from folder descriptor to folder descriptor and follow no link, so that nobody who writes into the folder can
//! turn them elsewhere.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use tokio::time::Instant;

use crate::config::DropFolders;

/// Folder of claimed files.
pub const CLAIMED: &str = ".idr";
/// Folder of files that were not taken.
pub const REFUSED: &str = "refused";
/// Files that are claimed ahead of the readers.
pub const CLAIMS_MAX: usize = 1_000;
/// Longest path that is remembered of a file, bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// A file that is ours to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name in the folder of claimed files.
    pub id: String,
    /// Where it was found, below the drop folder; for people, never used as a path.
    pub found: String,
}

/// Why a folder cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there, or not ours to read and write.
    #[error("the folder cannot be used: it must exist, and this program must be allowed to read it and to rename in it")]
    Unusable(#[source] io::Error),
    /// `.idr` is there and somebody else's.
    #[error("{CLAIMED}/ in the folder belongs to another user: remove it")]
    NotOurs,
    /// It and the state folder lie in one another.
    #[error("the folder and the state folder overlap: name another folder")]
    Overlap,
}

impl From<Errno> for FolderError {
    fn from(error: Errno) -> Self {
        Self::Unusable(error.into())
    }
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        Self::Unusable(error)
    }
}

/// The opened folders.
#[derive(Debug)]
pub struct Places {
    root: OwnedFd,
    claimed: OwnedFd,
    refused: OwnedFd,
    device: u64,
    /// Device and inode of the state folder.
    state: (u64, u64),
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Looked {
    /// Claimed now.
    pub claims: Vec<Claim>,
    /// Files that are not quiet yet.
    pub growing: bool,
    /// Files that are quiet and had no room.
    pub more: bool,
    /// What was passed over.
    pub passed: Passed,
}

/// What a look passed over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Links and special files.
    pub special: usize,
    /// Folders on another file system, or the state folder.
    pub elsewhere: usize,
    /// Folders below the deepest level.
    pub deep: usize,
    /// What may not be read or renamed.
    pub forbidden: usize,
    /// The look ended before the folder did.
    pub cut: bool,
}

/// A file when it was seen first as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    changed: (i64, u64),
    since: Instant,
}

impl Places {
    /// Opens a drop folder and makes ours in it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(root: &Path, state: &Path) -> Result<Self, FolderError> {
        let (own, other) = (root.canonicalize()?, state.canonicalize()?);
        if own.starts_with(&other) || other.starts_with(&own) {
            return Err(FolderError::Overlap);
        }
        let root = openat(CWD, root, FOLDER & !OFlags::NOFOLLOW, Mode::empty())?;
        let claimed = folder(root.as_fd(), CLAIMED, Mode::RWXU)?;
        if fstat(&claimed)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(FolderError::NotOurs);
        }
        let refused = folder(root.as_fd(), REFUSED, Mode::RWXU | Mode::RWXG)?;
        let (device, state) = (fstat(&root)?.st_dev, statat(CWD, state, AtFlags::empty())?);
        Ok(Self { root, claimed, refused, device, state: (state.st_dev, state.st_ino) })
    }

    /// Claims that a stop or a crash left, at most [`CLAIMS_MAX`]; names without a file are removed.
    ///
    /// # Errors
    /// The disk.
    pub fn left(&self) -> io::Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for entry in Dir::read_from(&self.claimed)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            match name.strip_suffix(NAME) {
                Some(id) if is_id(id) && matches!(statat(&self.claimed, id, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT)) => {
                    unlinkat(&self.claimed, name, AtFlags::empty())?;
                }
                None if is_id(name) && claims.len() < CLAIMS_MAX => {
                    claims.push(Claim { id: name.to_owned(), found: self.found(name).unwrap_or_else(|| UNKNOWN.to_owned()) });
                }
                _ => {}
            }
        }
        Ok(claims)
    }

    fn found(&self, id: &str) -> Option<String> {
        let mut text = String::new();
        let file = openat(&self.claimed, format!("{id}{NAME}"), READ, Mode::empty()).ok()?;
        File::from(file).take(2 * NAME_BYTES_MAX as u64).read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// Opens a claimed file; `None` if it is no regular file.
    ///
    /// # Errors
    /// The disk.
    pub fn read(&self, claim: &Claim) -> io::Result<Option<File>> {
        let file = match openat(&self.claimed, &claim.id, READ, Mode::empty()) {
            // What O_NOFOLLOW and O_RDONLY say of a link and of a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
            opened => opened?,
        };
        let regular = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile;
        Ok(regular.then(|| file.into()))
    }

    /// Removes a claimed file that is held in the spool as it was when it had that mark.
    ///
    /// # Errors
    /// The disk, or the file was written to since; the claim stays and is taken again.
    pub fn remove(&self, claim: &Claim, read: Mark) -> io::Result<()> {
        let now = self.read(claim)?.as_ref().map(mark).transpose()?;
        if now != Some(read) {
            return Err(io::Error::other("it was written to after it was read"));
        }
        unlinkat(&self.claimed, &claim.id, AtFlags::empty())?;
        self.forget(claim)
    }

    /// Puts a claimed file into `refused/` with what people need to know; both are durable then.
    ///
    /// # Errors
    /// The disk; the claim stays and is taken again.
    pub fn refuse(&self, claim: &Claim, note: &str) -> io::Result<()> {
        // The note first: a note without its file is written again, a file without its note would stay without.
        let text = openat(&self.refused, format!("{}.txt", claim.id), WRITE, FILE_MODE)?;
        let mut text = File::from(text);
        text.write_all(note.as_bytes())?;
        text.sync_all()?;
        if let Some(file) = self.read(claim)? {
            file.sync_all()?;
        }
        renameat(&self.claimed, &claim.id, &self.refused, &claim.id)?;
        fsync(&self.refused)?;
        self.forget(claim)
    }

    fn forget(&self, claim: &Claim) -> io::Result<()> {
        match unlinkat(&self.claimed, format!("{}{NAME}", claim.id), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => Ok(done?),
        }
    }

    fn claim(&self, folder: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> rustix::io::Result<Claim> {
        // What may not be read stays where its owner sees it.
        openat(folder, name, READ, Mode::empty())?;
        let claim = Claim { id: format!("{:032x}", rand::random::<u128>()), found: readable(path) };
        let found = openat(&self.claimed, format!("{}{NAME}", claim.id), WRITE, FILE_MODE)?;
        File::from(found).write_all(claim.found.as_bytes()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        renameat(folder, name, &self.claimed, &claim.id).inspect_err(|_| _ = self.forget(&claim))?;
        Ok(claim)
    }
}

/// What earlier looks saw in a folder.
#[derive(Debug)]
pub struct Watch {
    bounds: DropFolders,
    seen: HashMap<Vec<u8>, Seen>,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(bounds: DropFolders) -> Self {
        Self { bounds, seen: HashMap::new() }
    }

    /// Looks through the folder; claims what is complete, at most `room` files.
    ///
    /// # Errors
    /// The folder itself cannot be read.
    pub fn look(&mut self, places: &Places, now: Instant, room: usize) -> io::Result<Looked> {
        let earlier = std::mem::take(&mut self.seen);
        let mut look = Look { places, now, room, left: self.bounds.entries_max, watch: self, earlier, looked: Looked::default() };
        look.folder(places.root.as_fd(), &mut Vec::new(), 0)?;
        Ok(look.looked)
    }
}

struct Look<'a> {
    places: &'a Places,
    now: Instant,
    room: usize,
    left: usize,
    watch: &'a mut Watch,
    earlier: HashMap<Vec<u8>, Seen>,
    looked: Looked,
}

impl Look<'_> {
    /// `path` is that of the folder, and is so again at the end.
    fn folder(&mut self, folder: BorrowedFd<'_>, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let ours = depth == 0 && name == REFUSED.as_bytes();
            if name == b"." || name == b".." || ours {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else {
                self.looked.passed.cut = true;
                break;
            };
            self.left = left;
            if !name.starts_with(b".") && !name.ends_with(b".tmp") {
                names.push(entry.file_name().to_owned());
            }
        }
        let length = path.len();
        for name in &names {
            // Gone since: somebody took it back.
            let Ok(stat) = statat(folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if depth > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => self.file(folder, name, path, &stat),
                FileType::Directory if stat.st_dev != self.places.device || (stat.st_dev, stat.st_ino) == self.places.state => {
                    self.looked.passed.elsewhere += 1;
                }
                FileType::Directory if depth >= self.watch.bounds.depth_max => self.looked.passed.deep += 1,
                FileType::Directory => {
                    let inner = openat(folder, name.as_c_str(), FOLDER, Mode::empty()).map_err(io::Error::from);
                    if inner.and_then(|inner| self.folder(inner.as_fd(), path, depth + 1)).is_err() {
                        self.looked.passed.forbidden += 1;
                    }
                }
                _ => self.looked.passed.special += 1,
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn file(&mut self, folder: BorrowedFd<'_>, name: &CStr, path: &[u8], stat: &Stat) {
        let (bytes, changed) = (stat.st_size.cast_unsigned(), (stat.st_mtime, stat.st_mtime_nsec));
        let same = |seen: &&Seen| (seen.bytes, seen.changed) == (bytes, changed);
        let since = self.earlier.get(path).filter(same).map_or(self.now, |seen| seen.since);
        let quiet = self.now.duration_since(since) >= Duration::from_secs(self.watch.bounds.quiet_seconds);
        if quiet && self.looked.claims.len() < self.room {
            match self.places.claim(folder, name, path) {
                Ok(claim) => return self.looked.claims.push(claim),
                Err(Errno::NOENT) => return,
                Err(_) => self.looked.passed.forbidden += 1,
            }
        } else if quiet {
            self.looked.more = true;
        } else {
            self.looked.growing = true;
        }
        self.watch.seen.insert(path.to_owned(), Seen { bytes, changed, since });
    }
}

/// Size and time of change: what a file that is being read must keep.
pub type Mark = (u64, (i64, u64));

/// The mark of an open file.
///
/// # Errors
/// The disk.
pub fn mark(file: &File) -> io::Result<Mark> {
    let stat = fstat(file)?;
    Ok((stat.st_size.cast_unsigned(), (stat.st_mtime, stat.st_mtime_nsec)))
}

/// Whether a path lies in a folder of ours: our own renames are no news.
pub fn is_ours(root: &Path, path: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|path| path.starts_with(CLAIMED) || path.starts_with(REFUSED))
}

fn folder(root: BorrowedFd<'_>, name: &str, mode: Mode) -> rustix::io::Result<OwnedFd> {
    match mkdirat(root, name, mode) {
        Ok(()) | Err(Errno::EXIST) => openat(root, name, FOLDER, Mode::empty()),
        Err(error) => Err(error),
    }
}

/// A path as one line of bounded length.
pub(super) fn readable(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    text[..text.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

fn is_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Ending of the file that says where a claim was found.
const NAME: &str = ".name";
const UNKNOWN: &str = "(not known)";
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without waiting: a pipe would keep an open waiting for its other end.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const WRITE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::TRUNC).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);

//! What the spool asks of a disk, so small that a simulated one can stand in its place.
//!
//! [`Disk`] is the seam; [`FileSystem`] is a folder of the machine, [`MemoryDisk`] forgets at a simulated power cut what
//! was not synced, tears what was half written, and fails on order.
//!
//! All calls block. Paths are relative to the disk's root and are made of our own names alone.

mod file_system;
mod memory;

pub use file_system::{FileSystem, FileSystemError, refused_kind};
pub use memory::{Fault, MemoryDisk};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name; one that is not UTF-8 is shown with U+FFFD and matches none of ours.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
}

/// Room on the disk, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Usable by us.
    pub free: u64,
    /// Size of the file system.
    pub total: u64,
}

/// A disk. What a call returned `Ok` for is visible to later calls; it survives a power cut only when the file
/// ([`DiskFile::sync_data`]) and the folder that names it ([`Disk::sync_folder`]) were synced after.
pub trait Disk: Send + Sync {
    /// Creates a file that does not exist yet, for reading and writing. `AlreadyExists` if it does.
    ///
    /// # Errors
    /// What the file system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing. `NotFound` if there is none.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a folder in an existing one; one that exists is fine.
    ///
    /// # Errors
    /// What the file system says.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable: those created, renamed and removed.
    ///
    /// # Errors
    /// What the file system says; then nothing may be assumed.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. `NotFound` if there is none.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in no order. `NotFound` if there is no such folder.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;
    /// Room left.
    ///
    /// # Errors
    /// What the file system says.
    fn space(&self) -> io::Result<Space>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes all bytes at an offset, growing the file.
    ///
    /// # Errors
    /// What the file system says; then any part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads at an offset until the buffer is full or the file ends; gives the number of bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Length, bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or zero-extends the file.
    ///
    /// # Errors
    /// What the file system says.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
    /// Asks the disk to begin with bytes that were written, so that a later sync waits for less of them. Promises nothing.
    fn write_back(&self, _offset: u64, _bytes: u64) {}
    /// Makes the bytes and the length durable (fdatasync).
    ///
    /// # Errors
    /// What the file system says; then the bytes may be lost though a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;
    /// Has the next reads come from the medium, where the system can: its memory of durable bytes of the file is given up.
    fn forget_cached(&self) {}
}

/// Creates a folder and its ancestors and makes their names durable.
///
/// # Errors
/// What the file system says.
pub fn create_folders(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut at = PathBuf::new();
    for part in path.components() {
        let parent = at.clone();
        at.push(part);
        disk.create_folder(&at)?;
        disk.sync_folder(&parent)?;
    }
    Ok(())
}

/// Names of the files in a folder that end with `suffix`, ascending; none when there is no folder.
///
/// # Errors
/// What the file system says.
pub fn files_ending(disk: &dyn Disk, folder: &Path, suffix: &str) -> io::Result<Vec<String>> {
    let listed = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut names: Vec<_> = listed.into_iter().filter(|item| !item.folder && item.name.ends_with(suffix)).map(|item| item.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a file of ours from an offset to its end. Only for files whose size we bound ourselves (log segments).
///
/// # Errors
/// What the file system says.
pub fn read_from(file: &dyn DiskFile, offset: u64) -> io::Result<Vec<u8>> {
    let length = file.length()?.saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = file.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes what can be read of a file durable for certain, by writing the same bytes again before the sync: after a sync that
/// failed in an earlier life of the program, Linux shows bytes that it will never write, and a sync alone succeeds.
/// `see` is given all bytes in order.
///
/// # Errors
/// What the file system says.
pub fn make_sure(file: &dyn DiskFile, mut see: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    loop {
        let read = file.read_at(at, &mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return file.sync_data();
        }
        see(bytes);
        file.write_at(at, bytes)?;
        at += read as u64;
    }
}

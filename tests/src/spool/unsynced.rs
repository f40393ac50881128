//! A disk that syncs nothing, and whose object files may be hollow: for filling a spool, never for images.

use std::io;
use std::path::Path;
use std::sync::Arc;

use idr_site::spool::disk::{Disk, DiskFile, FileSystem, Listed, Space};

/// What becomes of the bytes of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects {
    /// They are written: 8 KiB an object at the least.
    Whole,
    /// They are not: the files are names alone, 10⁶ of which fit everywhere. A start after a clean stop, queries and new
    /// commits do not read them; `fsck`, `rebuild` and sending do.
    Hollow,
}

/// The file system without syncs.
pub struct Unsynced {
    under: FileSystem,
    objects: Objects,
}

struct File {
    under: Arc<dyn DiskFile>,
    hollow: bool,
}

impl Unsynced {
    /// Over a folder.
    pub fn new(under: FileSystem, objects: Objects) -> Self {
        Self { under, objects }
    }

    fn file(&self, path: &Path, under: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(File { under, hollow: self.objects == Objects::Hollow && path.starts_with("objects") })
    }
}

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.under.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.under.open(path)?))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.under.create_folder(path)
    }
    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.under.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.under.remove(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.under.list(path)
    }
    fn space(&self) -> io::Result<Space> {
        self.under.space()
    }
}

impl DiskFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.hollow { Ok(()) } else { self.under.write_at(offset, bytes) }
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.under.read_at(offset, buffer)
    }
    fn length(&self) -> io::Result<u64> {
        self.under.length()
    }
    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.under.set_length(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

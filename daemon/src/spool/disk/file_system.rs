//! A folder of the machine as a [`Disk`].

use super::{Disk, DiskFile, Listed, Space};
use rustix::fs::{Advice, FlockOperation, fadvise, flock, statfs, statvfs};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder, locked for us alone as long as this value lives. Files are made with mode 0600, folders with 0700.
#[derive(Debug)]
pub struct FileSystem {
    root: PathBuf,
    _lock: File,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileSystemError {
    /// The folder cannot be made or read.
    #[error("{} cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Another process holds it.
    #[error("{} is in use by another process; stop it first", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It lies on a kind of file system whose syncs or locks promise less than we need.
    #[error("{} lies on {kind}, which does not promise what the spool needs; put it on ext4 or XFS", path.display())]
    Kind {
        /// The folder.
        path: PathBuf,
        /// Its name.
        kind: &'static str,
    },
}

/// Magic numbers of statfs(2) of file systems that are refused: locks, or sync of single files, are not what they seem.
const REFUSED: [(u64, &str); 6] =
    [(0x6969, "NFS"), (0x6573_5546, "FUSE"), (0x9123_683E, "btrfs"), (0xFF53_4D42, "CIFS"), (0xFE53_4D42, "SMB2"), (0x0102_1997, "9P")];

/// The kind of file system of a folder, if it is one that is refused.
///
/// # Errors
/// What the file system says.
pub fn refused_kind(folder: &Path) -> io::Result<Option<&'static str>> {
    // The type of f_type differs between machines; the magic numbers are 32 bits wide everywhere.
    #[allow(clippy::unnecessary_cast, reason = "f_type is i64, u32 or i32, by machine")]
    let magic = statfs(folder)?.f_type as u64 & 0xFFFF_FFFF;
    Ok(REFUSED.iter().find(|(number, _)| *number == magic).map(|(_, kind)| *kind))
}

impl FileSystem {
    /// Opens a folder, making it when it is not there, and locks it.
    ///
    /// `any_kind` accepts file systems that are refused otherwise: for trying things out, not for patients' images.
    ///
    /// # Errors
    /// [`FileSystemError`].
    pub fn open(root: &Path, any_kind: bool) -> Result<Self, FileSystemError> {
        let folder = |source| FileSystemError::Folder { path: root.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(folder)?;
        if let Some(kind) = refused_kind(root).map_err(folder)?.filter(|_| !any_kind) {
            return Err(FileSystemError::Kind { path: root.to_owned(), kind });
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(root.join("lock")).map_err(folder)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| FileSystemError::InUse { path: root.to_owned() })?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Disk for FileSystem {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.root.join(path))?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.root.join(path))?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(self.root.join(path))?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        fs::read_dir(self.root.join(path))?
            .map(|item| {
                let item = item?;
                Ok(Listed { name: item.file_name().to_string_lossy().into_owned(), folder: item.file_type()?.is_dir() })
            })
            .collect()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = statvfs(&self.root)?;
        Ok(Space { free: stat.f_bavail.saturating_mul(stat.f_frsize), total: stat.f_blocks.saturating_mul(stat.f_frsize) })
    }
}

impl DiskFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match std::os::unix::fs::FileExt::read_at(self, rest, offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn write_back(&self, offset: u64, bytes: u64) {
        // Dirty pages are not dropped by this, their writing is begun (mm/fadvise.c). What it says is of no use: the sync tells.
        let _ = fadvise(self, offset, NonZeroU64::new(bytes), Advice::DontNeed);
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn forget_cached(&self) {
        // A wish: a system that does not grant it reads what it has.
        fadvise(self, 0, None, Advice::DontNeed).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let first = FileSystem::open(root.path(), true).expect("free");
        assert!(matches!(FileSystem::open(root.path(), true), Err(FileSystemError::InUse { .. })));
        drop(first);
        FileSystem::open(root.path(), true).expect("free again");
    }
}

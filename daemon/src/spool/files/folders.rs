//! Syncing the folders of object files, once for all who wait.

use super::super::disk::{Disk, create_folders};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The folders in use.
#[derive(Default)]
pub struct Folders {
    known: Mutex<HashMap<PathBuf, Arc<Folder>>>,
}

/// A folder; names made in it are numbered.
#[derive(Default)]
pub struct Folder {
    path: PathBuf,
    made: AtomicU64,
    synced: Mutex<Synced>,
}

#[derive(Default)]
struct Synced {
    /// Names up to this number are durable,
    up_to: u64,
    /// but those up to this number never will be for sure: a sync failed, and a later success proves nothing for them.
    failed: u64,
}

impl Folders {
    /// The folder of that path, made with its ancestors at first use.
    pub fn folder(&self, disk: &dyn Disk, path: &Path) -> io::Result<Arc<Folder>> {
        if let Some(folder) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(Arc::clone(folder));
        }
        create_folders(disk, path)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = known.entry(path.to_owned()).or_insert_with(|| Arc::new(Folder { path: path.to_owned(), ..Folder::default() }));
        Ok(Arc::clone(folder))
    }
}

impl Folder {
    /// Numbers a name that was made in the folder.
    pub fn made(&self) -> u64 {
        self.made.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Returns when the name of that number is durable. Whoever comes first syncs for all names made by then.
    pub fn sync(&self, disk: &dyn Disk, number: u64) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if number <= synced.failed {
            return Err(io::Error::other("an earlier sync of the folder failed"));
        }
        if number <= synced.up_to {
            return Ok(());
        }
        let made = self.made.load(Ordering::SeqCst);
        let result = disk.sync_folder(&self.path);
        match &result {
            Ok(()) => synced.up_to = made,
            Err(_) => synced.failed = made,
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::disk::{Fault, MemoryDisk};
    use super::*;

    #[test]
    fn one_sync_serves_all_names_made_before_it_and_a_failed_one_serves_none_of_them_ever() {
        let disk = MemoryDisk::default();
        let folder = Folders::default().folder(&disk, Path::new("objects/t/00")).expect("made");
        let (first, second) = (folder.made(), folder.made());
        let before = disk.steps();
        folder.sync(&disk, first).expect("works");
        folder.sync(&disk, second).expect("served by the first");
        assert_eq!(disk.steps(), before + 1);
        let third = folder.made();
        disk.fail(disk.steps() + 1, Fault::Eio);
        folder.sync(&disk, third).expect_err("the sync failed");
        folder.sync(&disk, third).expect_err("the name may be lost though the next sync succeeds");
        folder.sync(&disk, folder.made()).expect("a new name is another matter");
    }
}

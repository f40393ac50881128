//! What a device has said and was told that we keep: one JSON file each, in a folder below the state folder.
//!
//! [`Ledger`] is the folder, [`Kept`] what its files hold.
//!
//! # On disk
//! `<folder>/<16 hex digits>.json`, named by a counter of ours; made whole under another name, synced, renamed.
//!
//! # Failure
//! [`Ledger::write`] and [`Ledger::replace`] return after file and name are durable. After an error of `write` nothing is
//! there; after one of `replace` what was there before, or after a restart perhaps the new one. A file that cannot be read at a
//! start is told and left where it is.
//!
//! # Bounds
//! Those of who writes.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::spool::disk::{Disk, create_folders, files_ending, read_from};

/// What the files of a ledger hold.
pub trait Kept: Serialize + DeserializeOwned {
    /// Name of the folder.
    const FOLDER: &'static str;
    /// Number of the present format; another one is not read.
    const FORMAT: u32;
    /// What it means that one cannot be read, as a sentence for the journal.
    const UNREADABLE: &'static str;

    /// The number of its format.
    fn format(&self) -> u32;
}

/// The folder, what is in it, and the first free number.
pub type Opened<T> = (Ledger<T>, Vec<(u64, T)>, u64);

/// The folder. All calls block.
pub struct Ledger<T> {
    disk: Arc<dyn Disk>,
    holds: PhantomData<fn() -> T>,
}

impl<T: Kept> Ledger<T> {
    /// Opens the folder, and reads what is in it, as [`Ledger::visit`], and keeps all of it in memory.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<Opened<T>> {
        let mut all = Vec::new();
        let (ledger, next) = Self::visit(disk, |id, kept| all.push((id, kept)))?;
        Ok((ledger, all, next))
    }

    /// Opens the folder, and shows what is in it one by one, the oldest first. The number is free, and so are all above it: a file that
    /// cannot be read keeps its own.
    ///
    /// # Errors
    /// What the disk says.
    pub fn visit(disk: Arc<dyn Disk>, mut see: impl FnMut(u64, T)) -> io::Result<(Self, u64)> {
        let folder = Path::new(T::FOLDER);
        create_folders(&*disk, folder)?;
        for unfinished in files_ending(&*disk, folder, ".part")? {
            disk.remove(&folder.join(unfinished))?;
        }
        let ledger = Self { disk, holds: PhantomData };
        let mut next = 0;
        for name in files_ending(&*ledger.disk, folder, ".json")? {
            let Some(id) = name.strip_suffix(".json").and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { continue };
            next = next.max(id.saturating_add(1));
            match ledger.read(id) {
                Ok(kept) => see(id, kept),
                Err(error) => tracing::error!(folder = T::FOLDER, file = name, cause = %error, "{}", T::UNREADABLE),
            }
        }
        Ok((ledger, next))
    }

    /// Keeps one under a free number; returns when it is durable.
    ///
    /// # Errors
    /// What the disk says; then it is not kept.
    pub fn write(&self, id: u64, kept: &T) -> io::Result<()> {
        self.replace(id, kept).inspect_err(|_| {
            let _ = self.disk.remove(&path::<T>(id));
        })
    }

    /// Puts one in the place of what has its number; returns when it is durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn replace(&self, id: u64, kept: &T) -> io::Result<()> {
        let text = serde_json::to_vec(kept)?;
        let part = Path::new(T::FOLDER).join(format!("{id:016x}.part"));
        let written = self.disk.create(&part).and_then(|file| {
            file.write_at(0, &text)?;
            file.sync_data()?;
            self.disk.rename(&part, &path::<T>(id))?;
            self.disk.sync_folder(Path::new(T::FOLDER))
        });
        written.inspect_err(|_| {
            let _ = self.disk.remove(&part);
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` for another format.
    pub fn read(&self, id: u64) -> io::Result<T> {
        let kept: T = serde_json::from_slice(&read_from(&*self.disk.open(&path::<T>(id))?, 0)?)?;
        match kept.format() {
            format if format == T::FORMAT => Ok(kept),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("format {other}, this program knows {}", T::FORMAT))),
        }
    }

    /// Gives one up.
    ///
    /// # Errors
    /// What the disk says; it may come back at the next start.
    pub fn remove(&self, id: u64) -> io::Result<()> {
        self.disk.remove(&path::<T>(id))
    }
}

fn path<T: Kept>(id: u64) -> PathBuf {
    Path::new(T::FOLDER).join(format!("{id:016x}.json"))
}

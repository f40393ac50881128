//! Index: ordered rows of keys and values that can be made again from files, journal and receipts.
//!
//! [`Index`] is the seam; [`SledStore`] is the default, [`RedbStore`] its twin, [`MemoryStore`] forgets like a disk. A site
//! chooses by [`IndexKind`].
//! The spool works through [`Behind`], which gathers many changes into one batch of theirs.
//! It may be stale, torn or gone: nothing is true because it stands here.

mod behind;
mod kind;
mod memory;
mod redb;
mod sled;

pub use behind::{Behind, WAITING_BYTES};
pub use kind::IndexKind;
pub use memory::{MemoryStore, Remembers};
pub use redb::RedbStore;
pub use sled::SledStore;

use std::path::{Path, PathBuf};

/// Why the index cannot serve.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the index cannot be used: {0}; it is made again at the next start, or by `rebuild`")]
pub struct IndexError(pub String);

/// Key and value of a row; a value of `None` removes the row.
pub type Change = (Vec<u8>, Option<Vec<u8>>);
/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Rows in the order of their keys.
pub trait Index: Send + Sync {
    /// One row.
    ///
    /// # Errors
    /// [`IndexError`].
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// At most `limit` rows from `from` up to, not with, `to`.
    ///
    /// # Errors
    /// [`IndexError`].
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError>;
    /// Makes all changes or none, visible at once; durable some time, and never before an earlier call's changes.
    ///
    /// # Errors
    /// [`IndexError`].
    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError>;
    /// Makes durable what was applied before.
    ///
    /// # Errors
    /// [`IndexError`].
    fn persist(&self) -> Result<(), IndexError>;
}

/// Where an index lies.
pub trait IndexStore: Send + Sync {
    /// Opens what is there, or an empty index.
    ///
    /// # Errors
    /// [`IndexError`] when what is there cannot be used.
    fn open(&self) -> Result<Box<dyn Index>, IndexError>;
    /// Moves what is there out of the way, so that the next [`IndexStore::open`] gives an empty index. Only one such
    /// relic is kept.
    ///
    /// # Errors
    /// [`IndexError`].
    fn set_aside(&self) -> Result<(), IndexError>;
}

/// `<path>.aside`.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".aside");
    path.with_file_name(name)
}

/// Renames `path` to `<path>.aside`, removing an older one.
fn move_aside(path: &Path) -> std::io::Result<()> {
    use std::fs;
    let aside = aside(path);
    if aside.is_dir() {
        fs::remove_dir_all(&aside)?;
    } else if aside.exists() {
        fs::remove_file(&aside)?;
    }
    match fs::rename(path, aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The promise, for every implementation.
    fn keeps_rows(store: &dyn IndexStore) {
        let key = |n: u8| vec![b'k', n];
        {
            let index = store.open().expect("empty");
            assert_eq!(index.read(&key(1)).expect("works"), None);
            index.apply((0..100).map(|n| (key(n), Some(vec![n; usize::from(n) * 30]))).collect()).expect("works");
            index.apply(vec![(key(7), None), (key(8), Some(b"new".to_vec())), (key(200), None)]).expect("works");
            let rows = index.scan(&key(5), &key(10), 10).expect("works");
            assert_eq!(rows.iter().map(|(key, _)| key[1]).collect::<Vec<_>>(), [5, 6, 8, 9], "in order, without the upper end");
            assert_eq!(rows[2].1, b"new");
            assert_eq!(index.scan(&key(5), &key(10), 2).expect("works").len(), 2);
            index.persist().expect("works");
        }
        {
            let index = store.open().expect("there");
            assert_eq!(index.scan(&[], &[0xFF], 1000).expect("works").len(), 99);
            assert_eq!(index.read(&key(99)).expect("works"), Some(vec![99; 99 * 30]));
        }
        store.set_aside().expect("works");
        store.set_aside().expect("nothing there is fine");
        assert_eq!(store.open().expect("empty").scan(&[], &[0xFF], 10).expect("works"), []);
        store.set_aside().expect("the relic is replaced");
    }

    #[test]
    fn sled_keeps_rows() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        keeps_rows(&SledStore::new(folder.path().join("index")));
    }

    #[test]
    fn redb_keeps_rows() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        keeps_rows(&RedbStore::new(folder.path().join("index.redb")));
    }

    #[test]
    fn memory_keeps_rows() {
        keeps_rows(&MemoryStore::default());
    }

    #[test]
    fn a_broken_index_is_an_error_and_not_a_panic() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["conf", "db", "snap.0000000000000000"] {
            let path = folder.path().join(name);
            let store = SledStore::new(path.clone());
            store.open().expect("empty").apply(vec![(vec![1], Some(vec![1]))]).expect("works");
            std::fs::create_dir_all(&path).expect("there");
            std::fs::write(path.join(name), vec![0xA5; 4096]).expect("writable");
            if store.open().is_err() {
                store.set_aside().expect("works");
            }
            store.open().expect("usable again");
        }
        let path = folder.path().join("index.redb");
        std::fs::write(&path, vec![0xA5; 4096]).expect("writable");
        assert!(RedbStore::new(path).open().is_err());
    }
}

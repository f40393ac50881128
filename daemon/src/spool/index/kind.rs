//! Which index a site has.

use super::{IndexStore, RedbStore, SledStore};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// The choice of `[storage] index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// [`SledStore`], in the folder `index`.
    #[default]
    Sled,
    /// [`RedbStore`], in the file `index.redb`.
    Redb,
}

impl IndexKind {
    const ALL: [Self; 2] = [Self::Sled, Self::Redb];

    fn path(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Sled => "index",
            Self::Redb => "index.redb",
        })
    }

    /// The store of that kind in a spool folder, whose lock the caller holds. Indices of the other kinds are removed, with
    /// what was set aside of them: they would only get older, and after a change of the key the new one is made from the
    /// files.
    ///
    /// # Errors
    /// What the file system says about removing.
    pub fn store(self, folder: &Path) -> io::Result<Arc<dyn IndexStore>> {
        for other in Self::ALL.into_iter().filter(|other| *other != self) {
            let path = other.path(folder);
            remove(&super::aside(&path))?;
            remove(&path)?;
        }
        let path = self.path(folder);
        Ok(match self {
            Self::Sled => Arc::new(SledStore::new(path)),
            Self::Redb => Arc::new(RedbStore::new(path)),
        })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_kind_begins_empty_and_leaves_nothing_of_the_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let row = || vec![(b"k".to_vec(), Some(b"v".to_vec()))];
        for kind in [IndexKind::Sled, IndexKind::Redb, IndexKind::Sled] {
            let store = kind.store(folder.path()).expect("a folder of ours");
            {
                let index = store.open().expect("empty");
                assert_eq!(index.read(b"k").expect("works"), None, "{kind:?}: a row of an earlier index");
                index.apply(row()).and_then(|()| index.persist()).expect("works");
            }
            store.set_aside().expect("works");
            store.open().and_then(|index| index.apply(row())).expect("works");
            let again = kind.store(folder.path()).and_then(|store| store.open().map_err(io::Error::other)).expect("there");
            assert_eq!(again.read(b"k").expect("works"), Some(b"v".to_vec()), "{kind:?} unchanged keeps its rows");
            drop(again);
            let names: Vec<_> = fs::read_dir(folder.path()).expect("there").map(|item| item.expect("readable").path()).collect();
            for other in IndexKind::ALL.into_iter().filter(|other| *other != kind) {
                assert!(
                    !names
                        .iter()
                        .any(|name| *name == other.path(folder.path()) || *name == crate::spool::index::aside(&other.path(folder.path()))),
                    "{names:?}"
                );
            }
        }
    }
}

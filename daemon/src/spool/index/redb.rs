//! The index in redb: the way out of sled, behind the same contract.

use super::{Change, Index, IndexError, IndexStore, Row, move_aside};
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};
use std::path::PathBuf;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Memory redb may use for pages, bytes.
const CACHE_BYTES: usize = 16 << 20;

/// A redb file.
#[derive(Debug, Clone)]
pub struct RedbStore {
    file: PathBuf,
}

impl RedbStore {
    /// The file is made at the first opening. It must lie beside the spool's own folders, under the same lock.
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

impl IndexStore for RedbStore {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(&self.file).map_err(said)?;
        let index = RedbIndex { db };
        index.write(Vec::new(), Durability::Immediate)?;
        Ok(Box::new(index))
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        move_aside(&self.file).map_err(|error| IndexError(error.to_string()))
    }
}

struct RedbIndex {
    db: Database,
}

fn said(error: impl Into<redb::Error>) -> IndexError {
    IndexError(error.into().to_string())
}

impl RedbIndex {
    fn write(&self, changes: Vec<Change>, durability: Durability) -> Result<(), IndexError> {
        let mut transaction = self.db.begin_write().map_err(said)?;
        transaction.set_durability(durability).map_err(|error| IndexError(error.to_string()))?;
        {
            let mut rows = transaction.open_table(ROWS).map_err(said)?;
            for (key, value) in changes {
                match value {
                    Some(value) => rows.insert(&key[..], &value[..]),
                    None => rows.remove(&key[..]),
                }
                .map_err(said)?;
            }
        }
        transaction.commit().map_err(said)
    }
}

impl Index for RedbIndex {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let rows = self.db.begin_read().map_err(said)?.open_table(ROWS).map_err(said)?;
        Ok(rows.get(key).map_err(said)?.map(|value| value.value().to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        let rows = self.db.begin_read().map_err(said)?.open_table(ROWS).map_err(said)?;
        let range = rows.range(from..to).map_err(said)?;
        range.take(limit).map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(said)).collect()
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        self.write(changes, Durability::None)
    }

    fn persist(&self) -> Result<(), IndexError> {
        self.write(Vec::new(), Durability::Immediate)
    }
}

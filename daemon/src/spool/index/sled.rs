//! The index in sled 0.34.
//!
//! What its use demands (measured; docs/decisions/0003-spool.md): small values only, no background flush, `flush` and
//! then a `sync_data` of its `db` file (sled's own flush is not durable at a power cut), opening in a thread of its own
//! because a broken file can make it panic.

use super::{Change, Index, IndexError, IndexStore, Row, move_aside};
use std::fs::File;
use std::path::PathBuf;

/// Memory sled may use for pages, bytes.
const CACHE_BYTES: u64 = 16 << 20;

/// A folder with a sled database.
#[derive(Debug, Clone)]
pub struct SledStore {
    folder: PathBuf,
}

impl SledStore {
    /// The folder is made at the first opening. It must lie beside the spool's own folders, under the same lock.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

impl IndexStore for SledStore {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        let folder = self.folder.clone();
        // A panic ends the thread, not the program.
        let opening = std::thread::spawn(move || {
            let config = sled::Config::new().path(&folder).mode(sled::Mode::LowSpace).cache_capacity(CACHE_BYTES).flush_every_ms(None);
            config.open().map(|db| SledIndex { db, file: folder.join("db") })
        });
        let opened = opening.join().map_err(|_| IndexError("sled panicked while opening".to_owned()))?;
        Ok(Box::new(opened.map_err(said)?))
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        move_aside(&self.folder).map_err(|error| IndexError(error.to_string()))
    }
}

struct SledIndex {
    db: sled::Db,
    file: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err asks for")]
fn said(error: sled::Error) -> IndexError {
    IndexError(error.to_string())
}

impl Index for SledIndex {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.db.get(key).map_err(said)?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        self.db.range(from..to).take(limit).map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(said)).collect()
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(said)
    }

    fn persist(&self) -> Result<(), IndexError> {
        self.db.flush().map_err(said)?;
        File::open(&self.file).and_then(|file| file.sync_data()).map_err(|error| IndexError(error.to_string()))
    }
}

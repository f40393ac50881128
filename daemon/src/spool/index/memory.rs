//! An index in memory, which remembers after a simulated stop as much or as little as a test asks for.

use super::{Change, Index, IndexError, IndexStore, Row};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an index still knows after a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembers {
    /// All that was applied.
    Everything,
    /// What the last [`Index::persist`] made durable.
    Persisted,
    /// What the last but one made durable: a copy from a backup.
    Older,
    /// Nothing: the file was deleted.
    Nothing,
    /// It cannot be opened.
    Broken,
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct Kept {
    live: Rows,
    persisted: Rows,
    older: Rows,
    broken: bool,
}

/// Clones are the same index.
#[derive(Clone, Default)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index as the next process finds it.
    pub fn stopped(&self, remembers: Remembers) -> Self {
        let kept = self.kept();
        let rows = match remembers {
            Remembers::Everything | Remembers::Broken => kept.live.clone(),
            Remembers::Persisted => kept.persisted.clone(),
            Remembers::Older => kept.older.clone(),
            Remembers::Nothing => Rows::new(),
        };
        let kept = Kept { live: rows.clone(), persisted: rows.clone(), older: rows, broken: remembers == Remembers::Broken };
        Self { kept: Arc::new(Mutex::new(kept)) }
    }

    /// All rows.
    pub fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.kept().live.clone()
    }

    /// Changes or removes a row behind everyone's back.
    pub fn disturb(&self, key: &[u8], value: Option<Vec<u8>>) {
        let mut kept = self.kept();
        match value {
            Some(value) => kept.live.insert(key.to_vec(), value),
            None => kept.live.remove(key),
        };
    }
}

impl IndexStore for MemoryStore {
    fn open(&self) -> Result<Box<dyn Index>, IndexError> {
        if self.kept().broken { Err(IndexError("broken on purpose".to_owned())) } else { Ok(Box::new(self.clone())) }
    }

    fn set_aside(&self) -> Result<(), IndexError> {
        *self.kept() = Kept::default();
        Ok(())
    }
}

impl Index for MemoryStore {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.kept().live.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let kept = self.kept();
        Ok(kept.live.range(from.to_vec()..to.to_vec()).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        let mut kept = self.kept();
        for (key, value) in changes {
            match value {
                Some(value) => kept.live.insert(key, value),
                None => kept.live.remove(&key),
            };
        }
        Ok(())
    }

    fn persist(&self) -> Result<(), IndexError> {
        let mut kept = self.kept();
        kept.older = std::mem::take(&mut kept.persisted);
        kept.persisted = kept.live.clone();
        Ok(())
    }
}

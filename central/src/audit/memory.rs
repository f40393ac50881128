//! A sink for unit tests.

use super::record::{Body, Closing, Entry, Record};
use super::{AuditError, AuditSink, Opening, Stream};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// Keeps entries in memory, as the JSON that a file would hold.
#[derive(Default)]
pub struct MemorySink {
    entries: Mutex<Vec<(Stream, Value)>>,
    failed: Mutex<Option<String>>,
    fails_at_opening: Mutex<Option<String>>,
}

impl MemorySink {
    /// An empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything kept so far, in order.
    pub fn entries(&self) -> Vec<(Stream, Value)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on takes nothing, as after a failed write.
    pub fn fail(&self, reason: &str) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    /// The next opening fails, and with it everything after it: until then nobody is told, as before a write that fails.
    pub fn fail_at_opening(&self, reason: &str) {
        *self.fails_at_opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    fn keep(&self, bodies: Vec<(Stream, Body)>) -> Result<(), AuditError> {
        let mut values = Vec::with_capacity(bodies.len());
        for (stream, body) in bodies {
            values.push((stream, serde_json::from_slice(&body.encode()?).expect("a body is JSON")));
        }
        match self.refusing() {
            Some(reason) => Err(AuditError::Unavailable { reason }),
            None => {
                self.entries.lock().unwrap_or_else(PoisonError::into_inner).extend(values);
                Ok(())
            }
        }
    }
}

#[async_trait]
impl AuditSink for MemorySink {
    async fn open(&self, records: Vec<Record>) -> Result<Opening, AuditError> {
        if let Some(reason) = self.fails_at_opening.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.fail(&reason);
        }
        let items = records.iter().map(|record| (record.kind.stream(), record.id)).collect();
        self.keep(records.into_iter().map(|record| (record.kind.stream(), Body::Opening(Box::new(record)))).collect())?;
        Ok(Opening { items })
    }

    async fn close(&self, opening: Opening, closing: Closing) -> Result<(), AuditError> {
        let close = |(stream, closes)| (stream, Body::Closing { closes, closing: closing.clone() });
        self.keep(opening.items.into_iter().map(close).collect())
    }

    async fn append(&self, entries: Vec<Entry>) -> Result<(), AuditError> {
        self.keep(entries.into_iter().map(|entry| (entry.stream(), Body::from_entry(entry))).collect())
    }

    fn refusing(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! Buffers of writers, used again: making and freeing half a megabyte for every object costs as much as writing it.

use super::lock;
use super::writer::CHUNK_BYTES;
use std::sync::Mutex;

/// Buffers that are kept while nobody uses them.
const KEPT_MAX: usize = 16;

/// See the module.
#[derive(Default)]
pub struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        lock(&self.free).pop().unwrap_or_default()
    }

    /// Gives one back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = lock(&self.free);
        if free.len() < KEPT_MAX && (1..=CHUNK_BYTES).contains(&buffer.capacity()) {
            free.push(buffer);
        }
    }
}

//! What a walk keeps in memory, and what it may keep after so many more bytes.
//!
//! For whoever must bound many walks together: [`Limits`] bounds each of them alone. Counted is what grows with the bytes: nodes, kept
//! values, notes of bulk data, by their capacity. What is the same for every walk (frames, a token, the inflater) is a few tens of KiB
//! and not counted.

use super::super::bulk::{HEADS_MAX, NOTES_MAX};
use super::super::header::Node;
use super::{Bulk, Encoding, Limits, State, Walk};

/// Least bytes of an element, an item or a fragment header.
const HEAD_BYTES: usize = 8;
/// First and last bytes of a bulk element, with the room in which the last ones are collected.
const EDGES_BYTES: usize = 6 << 10;

impl Walk {
    /// Bytes kept now.
    pub(in crate::scan) fn memory_bytes(&self) -> usize {
        let bulk: usize = self.bulk.iter().map(note_bytes).sum();
        self.header.memory_bytes() + self.bulk.capacity() * size_of::<Bulk>() + bulk
    }

    /// Bytes of bulk data that pass by next, of which nothing but edges is kept.
    pub(in crate::scan) fn passing_bytes(&self) -> usize {
        match self.state {
            State::Bulk { left, .. } | State::Fragment { left, table: false, .. } => left as usize,
            State::Ended(_) => usize::MAX,
            _ => 0,
        }
    }

    /// Most that is kept when `more` bytes have been fed: never less than [`Walk::memory_bytes`] then.
    pub(in crate::scan) fn memory_bytes_after(&self, more: usize) -> usize {
        let (now, passing) = (self.memory_bytes(), self.passing_bytes());
        let edges = if passing > 0 { EDGES_BYTES } else { 0 };
        let more = more.saturating_sub(passing);
        if more == 0 {
            return now + edges;
        }
        // One that is under way may be complete with a byte.
        let heads = more / HEAD_BYTES + 1;
        let elements = usize::try_from(self.limits.elements_max).unwrap_or(usize::MAX).saturating_add(1);
        let elements = heads.min(elements.saturating_sub(self.header.nodes.len()));
        let values = more.min(self.limits.kept_bytes_max.saturating_sub(self.header.bytes.len()));
        now + edges
            + growth(&self.header.nodes, elements) * size_of::<Node>()
            + growth(&self.header.bytes, values)
            + self.bulk_growth(more, heads)
    }

    fn bulk_growth(&self, more: usize, heads: usize) -> usize {
        let tables = more.min(self.tables_room);
        // Only the last one grows; and new ones, which begin with nothing.
        let last = self.bulk.last().and_then(|note| note.fragments.as_ref()).map_or(0, |fragments| {
            growth(&fragments.offsets, tables)
                + growth(&fragments.lengths, heads) * size_of::<u32>()
                + growth(&fragments.heads, heads.min(HEADS_MAX.saturating_sub(fragments.heads.len()))) * HEAD_BYTES
        });
        let notes = heads.min(NOTES_MAX.saturating_sub(self.bulk.len()));
        let new = if notes == 0 { 0 } else { 2 * tables + heads * (2 * size_of::<u32>() + 2 * HEAD_BYTES) + notes * SMALLEST_BYTES };
        growth(&self.bulk, notes) * size_of::<Bulk>() + last + new + EDGES_BYTES + (4 * more).min(EDGES_BYTES * notes)
    }
}

/// Most that a new walk keeps after `more` bytes.
pub(in crate::scan) fn memory_bytes_of_new(limits: Limits, more: usize) -> usize {
    Walk::new(Encoding::Explicit, limits).memory_bytes_after(more)
}

/// How far its capacity may grow when `more` are added, one by one or together: below the double of what is needed.
fn growth<T>(vec: &Vec<T>, more: usize) -> usize {
    let needed = vec.len().saturating_add(more);
    if needed <= vec.capacity() { 0 } else { needed.saturating_mul(2).max(SMALLEST) - vec.capacity() }
}

/// The least capacity that a `Vec` takes, and what that is for those of a note.
const SMALLEST: usize = 8;
const SMALLEST_BYTES: usize = 256;

fn note_bytes(note: &Bulk) -> usize {
    let fragments = note.fragments.as_ref().map_or(0, |fragments| {
        fragments.offsets.capacity() + fragments.lengths.capacity() * size_of::<u32>() + fragments.heads.capacity() * HEAD_BYTES
    });
    note.head.capacity() + note.tail.capacity() + fragments
}

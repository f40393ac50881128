//! What of a data set is replaced, and the second pass that does it.

use super::{Fault, REPLACED_BYTES_MAX};
use std::fmt;

/// `removed` bytes at offset `at` give way to `inserted`.
#[derive(Clone, PartialEq, Eq)]
struct Splice {
    at: u64,
    removed: u32,
    inserted: Vec<u8>,
}

/// The replacements while they are found, in any order.
#[derive(Default)]
pub(super) struct Splices {
    all: Vec<Splice>,
    bytes: usize,
}

impl Splices {
    /// Adds one; returns by how many bytes the data set grows.
    pub(super) fn push(&mut self, at: u64, removed: u32, inserted: Vec<u8>) -> Result<i64, Fault> {
        self.bytes += inserted.len() + size_of::<Splice>();
        if self.bytes > REPLACED_BYTES_MAX {
            return Err(Fault::TooMuch);
        }
        let grown = inserted.len() as i64 - i64::from(removed);
        self.all.push(Splice { at, removed, inserted });
        Ok(grown)
    }

    /// In the order of the data set; what was found first at one place comes first.
    pub(super) fn into_plan(mut self, size_bytes: u64) -> Result<Plan, Fault> {
        self.all.sort_by_key(|splice| splice.at);
        let mut end = 0;
        let mut grown = 0_i64;
        for splice in &self.all {
            if splice.at < end {
                return Err(Fault::Changed);
            }
            end = splice.at + u64::from(splice.removed);
            grown += splice.inserted.len() as i64 - i64::from(splice.removed);
        }
        if end > size_bytes {
            return Err(Fault::Changed);
        }
        Ok(Plan { splices: self.all, size_bytes, new_size_bytes: size_bytes.saturating_add_signed(grown) })
    }
}

/// What of one data set is replaced. `Debug` prints counts only: replacements are patient data.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    splices: Vec<Splice>,
    size_bytes: u64,
    new_size_bytes: u64,
}

impl Plan {
    /// Bytes of the new data set.
    pub fn new_size_bytes(&self) -> u64 {
        self.new_size_bytes
    }

    /// Begins the second pass.
    pub fn rewrite(&self) -> Rewrite<'_> {
        Rewrite { plan: self, next: 0, skip: 0, at: 0 }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({} replacements, {} bytes → {})", self.splices.len(), self.size_bytes, self.new_size_bytes)
    }
}

/// The second pass: feed it every byte of the original, in order, in chunks of any size.
pub struct Rewrite<'a> {
    plan: &'a Plan,
    next: usize,
    /// Bytes of the original that are left out from here.
    skip: u64,
    at: u64,
}

impl Rewrite<'_> {
    /// The next bytes of the original; `out` gets the bytes of the new data set, in order.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        loop {
            self.insert(out);
            let until = match self.plan.splices.get(self.next) {
                _ if self.skip > 0 => self.skip,
                Some(splice) => splice.at - self.at,
                None => u64::MAX,
            };
            let taken = usize::try_from(until).unwrap_or(usize::MAX).min(bytes.len());
            if taken == 0 {
                return;
            }
            let (now, rest) = bytes.split_at(taken);
            match self.skip {
                0 => out(now),
                _ => self.skip -= taken as u64,
            }
            self.at += taken as u64;
            bytes = rest;
        }
    }

    /// What begins at this byte.
    fn insert(&mut self, out: &mut dyn FnMut(&[u8])) {
        while self.skip == 0
            && let Some(splice) = self.plan.splices.get(self.next).filter(|splice| splice.at == self.at)
        {
            out(&splice.inserted);
            self.skip = splice.removed.into();
            self.next += 1;
        }
    }

    /// The last byte of the original has been fed.
    ///
    /// # Errors
    /// [`Fault::Changed`]: it is not as long as it was in the first pass.
    pub fn finish(mut self, out: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        self.insert(out);
        let whole = self.at == self.plan.size_bytes && self.skip == 0 && self.next == self.plan.splices.len();
        whole.then_some(()).ok_or(Fault::Changed)
    }
}

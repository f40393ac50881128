//! What is counted since the start.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idr_host::monitor::{Counter, Durations};

/// See the module.
#[derive(Debug, Default)]
pub struct Counters {
    by_ae: Mutex<BTreeMap<String, Arc<Ingested>>>,
    rejected: Mutex<BTreeMap<String, u64>>,
    /// From the first byte of an object, or its announcement, to its answer, whatever it is.
    pub ingest: Durations,
    /// From the last byte of an accepted object until object, name and R1 are durable.
    pub commit: Durations,
    /// Associations that were ended because a message came too slowly.
    pub associations_too_slow: Counter,
    /// Configurations that were read again and are in force.
    pub reloads: Counter,
    /// Configurations that were read again and refused.
    pub reloads_refused: Counter,
}

/// Objects that came by the inbound rows of one AE title.
#[derive(Debug, Default)]
pub struct Ingested {
    /// Accepted.
    pub stored: Counter,
    /// Data set bytes of those.
    pub stored_bytes: Counter,
    /// Refused by a rule.
    pub refused: Counter,
    /// Could not be kept: A700H, 0110H.
    pub failed: Counter,
}

impl Counters {
    /// Of the AE title of an inbound row: as many as the configuration has had.
    pub fn of_ae(&self, ae_title: &str) -> Arc<Ingested> {
        let mut by_ae = lock(&self.by_ae);
        if let Some(known) = by_ae.get(ae_title) {
            return known.clone();
        }
        by_ae.entry(ae_title.to_owned()).or_default().clone()
    }

    /// By AE title.
    pub fn by_ae(&self) -> Vec<(String, Arc<Ingested>)> {
        lock(&self.by_ae).iter().map(|(ae, counters)| (ae.clone(), counters.clone())).collect()
    }

    /// Objects accepted and their bytes, of all AE titles.
    pub fn stored(&self) -> (u64, u64) {
        lock(&self.by_ae).values().fold((0, 0), |(objects, bytes), of| (objects + of.stored.value(), bytes + of.stored_bytes.value()))
    }

    /// An association is rejected by that rule, or for that reason of ours.
    pub fn rejected(&self, reason: &str) {
        let mut rejected = lock(&self.rejected);
        match rejected.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(rejected.insert(reason.to_owned(), 1)),
        }
    }

    /// Associations rejected, by reason.
    pub fn rejections(&self) -> Vec<(String, u64)> {
        lock(&self.rejected).iter().map(|(reason, count)| (reason.clone(), *count)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

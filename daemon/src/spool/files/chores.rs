//! What is done behind the answers: taking receipts over, letting files go, looking at the disk, checkpoints.

use super::super::disk::Disk;
use super::super::journal::{Event, Mark};
use super::super::record::SpoolId;
use super::super::{SpoolError, disk_error};
use super::{FileSpool, Shared, Unsettled, lock};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Name of the file that proves that the disk works again.
const PROBE: &str = "probe";
/// Rest between two rounds of chores, milliseconds.
const ROUND_MS: u64 = 250;
/// Rounds between two checkpoints: what came since must be read again after a crash.
const ROUNDS_PER_CHECKPOINT: u32 = 20;

impl FileSpool {
    /// Does what waits behind the answers; blocks. Everything is tried, the first error is returned; the next call tries
    /// again.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn tend(&self, now: Timestamp) -> Result<(), SpoolError> {
        let shared = &*self.shared;
        let looked = shared.disk.space().map(|space| shared.health.looked(space)).map_err(disk_error("looking at the disk's space"));
        let repeats = shared.journal_repeats();
        let leftovers = shared.remove_leftovers();
        // The disk proves itself before the chain goes on: what failed is gone by then.
        let proven = leftovers.and_then(|()| shared.prove_disk());
        let receipts = match &proven {
            Ok(()) => shared.receipts.repair(now).map_err(SpoolError::from),
            Err(_) => Ok(()),
        };
        shared.forget_logged();
        [looked, repeats, proven, receipts].into_iter().collect()
    }

    /// Bounds what the next start must look at: makes the index durable and notes in the journal what is settled. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`]; nothing is lost by it.
    pub fn checkpoint(&self) -> Result<(), SpoolError> {
        let shared = &*self.shared;
        if !shared.health.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        // In this order: what becomes settled in between is looked at once more, nothing is missed.
        let logged = shared.receipts.logged_head();
        let mark = Mark { low: shared.low(), logged };
        shared.catalog.set_mark(mark).and_then(|()| shared.catalog.index().persist()).inspect_err(|error| shared.index_failed(error))?;
        shared.record(vec![Event::Mark(mark)])?;
        shared.health.changed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Takes nothing more and leaves as little as possible for the next start. Call it when no writer is open; blocks.
    ///
    /// # Errors
    /// [`SpoolError`]; nothing is lost by it.
    pub fn close(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.shared.health.closing.store(true, Ordering::SeqCst);
        self.tend(now)?;
        self.shared.health.changed.store(true, Ordering::Relaxed);
        self.checkpoint()
    }

    /// Does the chores until stopped, then closes.
    pub async fn run(self, clock: impl Fn() -> Timestamp + Send + Sync, stop: CancellationToken) {
        let mut round = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(ROUND_MS)) => {}
            }
            // Without work only every fourth round looks at the disk.
            round = round.wrapping_add(1);
            let work = tokio::time::timeout(Duration::ZERO, self.shared.work.notified()).await.is_ok();
            if !work && !round.is_multiple_of(4) {
                continue;
            }
            let (spool, now, checkpoint) = (self.clone(), clock(), round.is_multiple_of(ROUNDS_PER_CHECKPOINT));
            let done =
                self.shared.hop.run(move || spool.tend(now).and_then(|()| if checkpoint { spool.checkpoint() } else { Ok(()) })).await;
            report(done);
        }
        let (spool, now) = (self.clone(), clock());
        let done = self.shared.hop.run(move || spool.close(now)).await;
        report(done);
    }
}

fn report(done: Result<Result<(), SpoolError>, SpoolError>) {
    if let Err(error) = done.and_then(|done| done) {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(error = %error, cause, "work behind the spool did not end well; it is tried again");
    }
}

impl Shared {
    /// Below this id nothing is in flight.
    fn low(&self) -> SpoolId {
        let flight = lock(&self.flight);
        flight.unsettled.keys().next().copied().unwrap_or(SpoolId(flight.next))
    }

    /// Repeated hand-overs: first the journal line, then the file may go.
    fn journal_repeats(&self) -> Result<(), SpoolError> {
        let repeats: Vec<_> = {
            let flight = lock(&self.flight);
            let repeat = |(id, what): (&SpoolId, &Unsettled)| match what {
                Unsettled::Repeat(line, path) => Some((*id, (**line).clone(), path.clone())),
                _ => None,
            };
            flight.unsettled.iter().filter_map(repeat).collect()
        };
        if repeats.is_empty() {
            return Ok(());
        }
        self.record(repeats.iter().map(|(_, line, _)| line.clone()).collect())?;
        for (id, _, path) in repeats {
            self.unsettled(id, Unsettled::Leftover(path));
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> Result<(), SpoolError> {
        let leftovers: Vec<(SpoolId, PathBuf)> = {
            let flight = lock(&self.flight);
            let leftover = |(id, what): (&SpoolId, &Unsettled)| match what {
                Unsettled::Leftover(path) => Some((*id, path.clone())),
                _ => None,
            };
            flight.unsettled.iter().filter_map(leftover).collect()
        };
        remove_files(&*self.disk, leftovers.iter().map(|(_, path)| path))
            .map_err(|error| self.disk_failed(disk_error("removing files")(error)))?;
        let mut flight = lock(&self.flight);
        for (id, _) in &leftovers {
            flight.unsettled.remove(id);
        }
        Ok(())
    }

    /// After a failure: a small file is written, synced, named and removed.
    fn prove_disk(&self) -> Result<(), SpoolError> {
        if !self.health.disk_failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let probe = Path::new(PROBE);
        let prove = || -> io::Result<()> {
            remove_if_there(&*self.disk, probe)?;
            let file = self.disk.create(probe)?;
            file.write_at(0, &[0xA5; 4096])?;
            file.sync_data()?;
            self.disk.sync_folder(Path::new(""))?;
            self.disk.remove(probe)?;
            self.disk.sync_folder(Path::new(""))
        };
        prove().map_err(disk_error("writing a test file"))?;
        self.health.disk_failed.store(false, Ordering::SeqCst);
        tracing::info!("the spool's disk works again");
        Ok(())
    }

    fn forget_logged(&self) {
        let mut flight = lock(&self.flight);
        flight.unsettled.retain(|_, what| !matches!(what, Unsettled::Owes(hash) if !self.receipts.owes(hash)));
    }
}

/// Removes files, those that are gone already too, and syncs their folders.
pub(super) fn remove_files<'a>(disk: &dyn Disk, paths: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for path in paths {
        // The file of a hand-over that failed early may have no folder either.
        if remove_if_there(disk, path)? {
            folders.extend(path.parent());
        }
    }
    folders.into_iter().try_for_each(|folder| disk.sync_folder(folder))
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

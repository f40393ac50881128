//! Worlds with a fault, to show that the harness finds it. The fault stands in the world, never in the product.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{Wrong, run};
use crate::spool::catalog::Totals;
use crate::spool::disk::{Disk, DiskFile, Listed, MemoryDisk, Space};
use crate::spool::{
    Announced, Claim, Entry, Move, Note, Occurrence, Progress, Refusal, Seen, Spool, SpoolError, SpoolId, State, Stored, Study, Tenant,
    Writer,
};

/// Worlds in which a fault must be found.
const SEEDS: u64 = 200;

/// A disk whose syncs of one kind do nothing.
pub struct Careless {
    disk: MemoryDisk,
    wrong: Wrong,
}

impl Careless {
    pub fn new(disk: MemoryDisk, wrong: Wrong) -> Self {
        Self { disk, wrong }
    }

    fn file(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        match self.wrong == Wrong::ReceiptSync && path.starts_with("receipts") {
            true => Arc::new(Unsynced(file)),
            false => file,
        }
    }
}

impl Disk for Careless {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.disk.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path, self.disk.open(path)?))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.create_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if self.wrong == Wrong::FolderSync { Ok(()) } else { self.disk.sync_folder(path) }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.disk.list(path)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

struct Unsynced(Arc<dyn DiskFile>);

impl DiskFile for Unsynced {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.0.set_length(bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A spool in which what is claimed to be sent is `committed` at once.
pub struct Hasty(pub Arc<dyn Spool>);

#[async_trait]
impl Spool for Hasty {
    async fn open(&self, announced: Announced) -> Result<Box<dyn Writer>, SpoolError> {
        self.0.open(announced).await
    }
    fn refusing(&self, tenant: &Tenant) -> Option<Refusal> {
        self.0.refusing(tenant)
    }
    async fn claim(&self, claim: Claim) -> Result<Vec<Entry>, SpoolError> {
        let (state, now) = (claim.state, claim.now);
        let entries = self.0.claim(claim).await?;
        if state == State::Queued.name() {
            for entry in &entries {
                for state in [State::Sent, State::Committed] {
                    let to = Progress { state, since: now, not_before: now, ..entry.progress.clone() };
                    self.0.advance(vec![Move { id: entry.id(), to }]).await?;
                }
            }
        }
        Ok(entries)
    }
    fn give_back(&self, id: SpoolId) {
        self.0.give_back(id);
    }
    async fn advance(&self, moves: Vec<Move>) -> Result<(), SpoolError> {
        self.0.advance(moves).await
    }
    async fn advance_seen(&self, moves: Vec<Seen>) -> Result<(), SpoolError> {
        self.0.advance_seen(moves).await
    }
    async fn note(&self, note: Note) -> Result<(), SpoolError> {
        self.0.note(note).await
    }
    async fn read(&self, id: SpoolId) -> Result<Box<dyn Stored>, SpoolError> {
        self.0.read(id).await
    }
    async fn keep_header(&self, id: SpoolId, header: Bytes) -> Result<(), SpoolError> {
        self.0.keep_header(id, header).await
    }
    async fn kept_header(&self, id: SpoolId) -> Result<Option<Bytes>, SpoolError> {
        self.0.kept_header(id).await
    }
    async fn entry(&self, id: SpoolId) -> Result<Option<Entry>, SpoolError> {
        self.0.entry(id).await
    }
    async fn instances(&self, tenant: &Tenant, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        self.0.instances(tenant, sop_instance_uid).await
    }
    async fn handed_over(&self, tenant: &Tenant, inbound: &str, uid: &str) -> Result<Vec<Entry>, SpoolError> {
        self.0.handed_over(tenant, inbound, uid).await
    }
    async fn study(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Study>, SpoolError> {
        self.0.study(tenant, study_uid).await
    }
    async fn series(&self, tenant: &Tenant, series_uid: &str) -> Result<Vec<Occurrence>, SpoolError> {
        self.0.series(tenant, series_uid).await
    }
    async fn accession(&self, tenant: &Tenant, name: &str) -> Result<Vec<Occurrence>, SpoolError> {
        self.0.accession(tenant, name).await
    }
    async fn members(&self, tenant: &Tenant, study_uid: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        self.0.members(tenant, study_uid, after, limit).await
    }
    async fn in_state(&self, tenant: &Tenant, state: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        self.0.in_state(tenant, state, after, limit).await
    }
    async fn waiting(&self, tenant: &Tenant, last_arrival_before: Timestamp, limit: usize) -> Result<Vec<Study>, SpoolError> {
        self.0.waiting(tenant, last_arrival_before, limit).await
    }
    fn totals(&self) -> Totals {
        self.0.totals()
    }
}

/// The first promise that breaks.
fn found(wrong: Wrong) -> (u64, String) {
    for seed in 1..=SEEDS {
        if let Err(promise) = run(seed, wrong) {
            println!("{wrong:?}: found by seed {seed}: {promise}");
            return (seed, promise);
        }
    }
    panic!("{wrong:?} is not found within {SEEDS} worlds");
}

#[test]
fn folders_that_are_not_synced_are_found() {
    assert!(found(Wrong::FolderSync).1.contains("11 §7.1"));
}

#[test]
fn a_receipt_log_that_is_not_synced_is_found() {
    found(Wrong::ReceiptSync);
}

#[test]
fn what_is_marked_before_the_answer_is_found() {
    found(Wrong::Hasty);
}

#[test]
fn a_success_before_the_commit_is_found() {
    assert!(found(Wrong::EarlySuccess).1.contains("11 §7.1"));
}

#[test]
fn an_instance_that_the_centre_lost_is_found() {
    assert!(found(Wrong::Loses).1.contains("the centre does not have it"));
}

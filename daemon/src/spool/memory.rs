//! A spool in memory, for the tests of those who use one. Forgets everything when dropped.

use super::catalog::{Catalog, Totals, takes_note};
use super::files::{check_note, object, source};
use super::index::MemoryStore;
use super::journal::Event;
use super::object_file;
use super::record::{Amount, Announced, Entry, Facts, Move, Note, Occurrence, Progress, Record, SpoolId, State, Study, Tenant, Unusable};
use super::{Claim, Committed, Refusal, Seen, Spool, SpoolError, Stored, Writer};
use crate::receipts::Receipts;
use async_trait::async_trait;
use bytes::Bytes;
use idr_profile::digest::Digester;
use idr_profile::receipt::{Carried, Statement};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The spool; clones are the same spool.
#[derive(Clone)]
pub struct MemorySpool {
    shared: Arc<Shared>,
}

struct Shared {
    receipts: Arc<Receipts>,
    catalog: Catalog,
    held: Mutex<Held>,
    moving: Mutex<()>,
}

#[derive(Default)]
struct Held {
    next: u64,
    events: u64,
    open: BTreeMap<SpoolId, Tenant>,
    objects: BTreeMap<SpoolId, (Option<Carried>, Bytes)>,
    headers: BTreeMap<SpoolId, Bytes>,
    leases: BTreeMap<SpoolId, Timestamp>,
    refusal: Option<Refusal>,
}

impl MemorySpool {
    /// An empty spool that signs with these receipts.
    pub fn new(receipts: Arc<Receipts>) -> Self {
        let catalog = Catalog::open(Arc::new(MemoryStore::default())).expect("an empty index has no row that cannot be read");
        Self { shared: Arc::new(Shared { receipts, catalog, held: Mutex::default(), moving: Mutex::default() }) }
    }

    /// Ends all leases, as a restart does.
    pub fn restart(&self) {
        self.held().leases.clear();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, event: &Event) -> Result<(), SpoolError> {
        let number = {
            let mut held = self.held();
            held.events += 1;
            held.events
        };
        self.shared.catalog.apply(number, event)?;
        Ok(())
    }

    fn move_all(&self, moves: Vec<Move>, seen: &[Progress]) -> Result<(), SpoolError> {
        // Claims and other moves wait.
        let _moving = self.shared.moving.lock().unwrap_or_else(PoisonError::into_inner);
        for (Move { id, .. }, seen) in moves.iter().zip(seen) {
            let entry = self.shared.catalog.entry(*id)?.ok_or(SpoolError::Unknown(*id))?;
            if self.seen(entry).progress != *seen {
                return Err(SpoolError::Changed(*id));
            }
        }
        let mut events = Vec::with_capacity(moves.len());
        for Move { id, to } in moves {
            to.check()?;
            let entry = self.shared.catalog.entry(id)?.ok_or(SpoolError::Unknown(id))?;
            if !entry.progress.state.may_become(&to.state) {
                return Err(SpoolError::Transition { id, from: entry.progress.state, to: to.state });
            }
            events.push(Event::Moved(Move { id, to }));
        }
        for event in &events {
            self.record(event)?;
            if let Event::Moved(Move { id, to }) = event {
                let mut held = self.held();
                held.leases.remove(id);
                if to.state == State::Released {
                    held.objects.remove(id);
                }
            }
        }
        Ok(())
    }

    fn seen(&self, mut entry: Entry) -> Entry {
        if entry.progress.state == State::Queued && self.held().leases.contains_key(&entry.id()) {
            entry.progress.state = State::Sending;
        }
        entry
    }

    fn seen_all(&self, entries: Vec<Entry>) -> Vec<Entry> {
        entries.into_iter().map(|entry| self.seen(entry)).collect()
    }
}

#[async_trait]
impl Spool for MemorySpool {
    async fn open(&self, announced: Announced) -> Result<Box<dyn Writer>, SpoolError> {
        announced.check()?;
        let mut held = self.held();
        if let Some(refusal) = &held.refusal {
            return Err(SpoolError::Refused(refusal.clone()));
        }
        let id = SpoolId(held.next);
        held.next += 1;
        held.open.insert(id, announced.tenant.clone());
        drop(held);
        Ok(Box::new(MemoryWriter { spool: self.clone(), id, announced, bytes: Vec::new() }))
    }

    fn refusing(&self, _: &Tenant) -> Option<Refusal> {
        self.held().refusal.clone()
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Entry>, SpoolError> {
        let _moving = self.shared.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held();
        held.leases.retain(|_, until| *until > claim.now);
        let due =
            self.shared.catalog.due(&claim.tenant, claim.state, claim.lane, claim.now, claim.limit, |id| !held.leases.contains_key(&id))?;
        held.leases.extend(due.iter().map(|entry| (entry.id(), claim.lease_until)));
        drop(held);
        Ok(due)
    }

    fn give_back(&self, id: SpoolId) {
        self.held().leases.remove(&id);
    }

    async fn advance(&self, moves: Vec<Move>) -> Result<(), SpoolError> {
        self.move_all(moves, &[])
    }

    async fn advance_seen(&self, moves: Vec<Seen>) -> Result<(), SpoolError> {
        let (seen, moves): (Vec<_>, Vec<_>) = moves.into_iter().map(|one| (one.progress, one.go)).unzip();
        self.move_all(moves, &seen)
    }

    async fn note(&self, note: Note) -> Result<(), SpoolError> {
        check_note(&note)?;
        let study = self.shared.catalog.study(&note.tenant, &note.study_uid)?.ok_or(SpoolError::UnknownStudy)?;
        if note.value.is_some() && !takes_note(&study, &note.name) {
            return Err(Unusable { field: "notes of the study", why: "are too many" }.into());
        }
        self.record(&Event::Noted(note))
    }

    async fn read(&self, id: SpoolId) -> Result<Box<dyn Stored>, SpoolError> {
        let entry = self.shared.catalog.entry(id)?.ok_or(SpoolError::Unknown(id))?;
        let (r1, bytes) = self.held().objects.get(&id).cloned().ok_or(SpoolError::Unknown(id))?;
        Ok(Box::new(MemoryStored { record: entry.record, r1, bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) }))
    }

    async fn keep_header(&self, id: SpoolId, header: Bytes) -> Result<(), SpoolError> {
        let mut held = self.held();
        if !held.objects.contains_key(&id) {
            return Err(SpoolError::Unknown(id));
        }
        held.headers.insert(id, header);
        Ok(())
    }

    async fn kept_header(&self, id: SpoolId) -> Result<Option<Bytes>, SpoolError> {
        Ok(self.held().headers.get(&id).cloned())
    }

    async fn entry(&self, id: SpoolId) -> Result<Option<Entry>, SpoolError> {
        Ok(self.shared.catalog.entry(id)?.map(|entry| self.seen(entry)))
    }

    async fn instances(&self, tenant: &Tenant, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        Ok(self.seen_all(self.shared.catalog.instances(tenant, sop_instance_uid)?))
    }

    async fn handed_over(&self, tenant: &Tenant, inbound: &str, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        Ok(self.seen_all(self.shared.catalog.handed_over(tenant, inbound, sop_instance_uid)?))
    }

    async fn study(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Study>, SpoolError> {
        Ok(self.shared.catalog.study(tenant, study_uid)?)
    }

    async fn series(&self, tenant: &Tenant, series_uid: &str) -> Result<Vec<Occurrence>, SpoolError> {
        Ok(self.shared.catalog.series(tenant, series_uid)?)
    }

    async fn accession(&self, tenant: &Tenant, name: &str) -> Result<Vec<Occurrence>, SpoolError> {
        Ok(self.shared.catalog.accession(tenant, name)?)
    }

    async fn members(&self, tenant: &Tenant, study_uid: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        Ok(self.seen_all(self.shared.catalog.members(tenant, study_uid, after, limit)?))
    }

    async fn in_state(&self, tenant: &Tenant, state: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        Ok(self.seen_all(self.shared.catalog.in_state(tenant, state, after, limit)?))
    }

    async fn waiting(&self, tenant: &Tenant, last_arrival_before: Timestamp, limit: usize) -> Result<Vec<Study>, SpoolError> {
        Ok(self.shared.catalog.waiting(tenant, last_arrival_before, limit)?)
    }

    fn totals(&self) -> Totals {
        let mut totals = self.shared.catalog.totals();
        let held = self.held();
        for tenant in held.open.values() {
            totals.entry((tenant.clone(), State::Receiving.name())).or_default().objects += 1;
        }
        for id in held.leases.keys() {
            let Ok(Some(entry)) = self.shared.catalog.entry(*id) else { continue };
            if entry.progress.state == State::Queued {
                let tenant = entry.record.announced.tenant.clone();
                let sending = totals.entry((tenant.clone(), State::Sending.name())).or_default();
                *sending = Amount { objects: sending.objects + 1, bytes: sending.bytes + entry.record.size_bytes };
                let queued = totals.entry((tenant, State::Queued.name())).or_default();
                *queued = Amount { objects: queued.objects.saturating_sub(1), bytes: queued.bytes.saturating_sub(entry.record.size_bytes) };
            }
        }
        totals.retain(|_, amount| amount.objects > 0);
        totals
    }
}

struct MemoryWriter {
    spool: MemorySpool,
    id: SpoolId,
    announced: Announced,
    bytes: Vec<u8>,
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn commit(mut self: Box<Self>, facts: Facts) -> Result<Committed, SpoolError> {
        facts.check()?;
        let mut digester = Digester::new(&self.announced.transfer_syntax_uid);
        digester.update(&self.bytes);
        let digest = digester.finish();
        let shared = &self.spool.shared;
        let first = shared.catalog.holder(&self.announced.tenant, &self.announced.sop_instance_uid, &digest)?;
        if let Some(first) = first.as_ref().filter(|first| first.progress.state != State::Released) {
            let (id, received) = (self.id, facts.received);
            let announced = Box::new(self.announced.clone());
            self.spool.record(&Event::Repeated { id, first: first.id(), r1: first.r1, announced, received })?;
            return Ok(Committed { id: first.id(), digest, r1: first.r1, repeated: true });
        }
        let announced = self.announced.clone();
        let first_r1 = first.map(|first| first.r1);
        let record = Record { id: self.id, size_bytes: self.bytes.len() as u64, digest, first_r1, announced, facts };
        object_file::seal(&record, None)?;
        let (r1, hash) = match first_r1 {
            Some(hash) => (None, hash),
            None => {
                let statement = Statement::Acceptance { object: object(&record), source: source(&record.announced) };
                let r1 = shared.receipts.issue(statement, record.facts.received)?;
                shared.receipts.settle(&r1.hash(), true);
                let hash = r1.hash();
                (Some(r1), hash)
            }
        };
        let bytes = std::mem::take(&mut self.bytes);
        self.spool.held().objects.insert(self.id, (r1, bytes.into()));
        let progress = Progress::begin(&record);
        shared.catalog.add(&Entry { record, r1: hash, progress })?;
        Ok(Committed { id: self.id, digest, r1: hash, repeated: first_r1.is_some() })
    }

    async fn discard(self: Box<Self>) {}
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.spool.held().open.remove(&self.id);
    }
}

struct MemoryStored {
    record: Record,
    r1: Option<Carried>,
    bytes: Option<Bytes>,
}

#[async_trait]
impl Stored for MemoryStored {
    fn record(&self) -> &Record {
        &self.record
    }

    fn r1(&self) -> Option<&Carried> {
        self.r1.as_ref()
    }

    fn head(&self) -> Bytes {
        object_file::plain_head(&self.record.announced).into()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        Ok(self.bytes.take())
    }
}

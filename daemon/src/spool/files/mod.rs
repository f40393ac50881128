//! The spool on files: [`FileSpool`].
//!
//! `writer` (from the first byte to the answer), `reader` (back out), `recovery` (what a start finds), `chores` (what is
//! done behind the answers), `fsck` (is everything as it should be), `scrub` (objects once more from the
//! disk), `headers` (what stays of a released object), `folders`, `listing` and `hop` (tools).

mod buffers;
mod chores;
mod folders;
mod fsck;
mod headers;
mod hop;
mod listing;
mod reader;
mod recovery;
mod scrub;
mod writer;

pub use fsck::{Fault, Finding};
pub use hop::Hop;
pub use recovery::{IndexFate, OpenError, Recovery, Torn};
pub use writer::CHUNK_BYTES;
pub(super) use writer::{object, source};

use super::catalog::{Catalog, Totals, takes_note};
use super::disk::{Disk, Space};
use super::index::{IndexError, IndexStore};
use super::journal::{Event, Journal};
use super::object_file;
use super::record::{Amount, Announced, Entry, Move, Note, Occurrence, Progress, SpoolId, State, Study, Tenant, Unusable};
use super::{Claim, Refusal, Seen, Spool, SpoolError, Stored, Writer, disk_error};
use crate::receipts::Receipts;
use async_trait::async_trait;
use buffers::Buffers;
use bytes::Bytes;
use folders::Folders;
use idr_profile::digest::Digest;
use idr_profile::receipt::{Holder, ReceiptHash, Signer};
use jiff::Timestamp;
use rand::RngCore;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, watch};

/// What [`FileSpool::open`] works with.
pub struct Parts {
    /// The spool folder.
    pub disk: Arc<dyn Disk>,
    /// The state folder; may be the same disk.
    pub state_disk: Arc<dyn Disk>,
    /// Where the index lies.
    pub index: Arc<dyn IndexStore>,
    /// Who signs receipts here.
    pub holder: Holder,
    /// The current receipt key, and the next if a rotation was begun.
    pub signers: Vec<Signer>,
    /// For receipt ids and the name of a new spool.
    pub random: Box<dyn RngCore + Send>,
    /// Limits.
    pub settings: Settings,
    /// How much of the index waits in memory, bytes: see [`super::index::Behind`].
    pub index_waits_bytes: usize,
    /// Where blocking work runs.
    pub hop: Hop,
    /// Makes the index again though it could be used.
    pub rebuild: bool,
}

/// Limits that the configuration sets and a reload may change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Room that is kept free, bytes; below it new objects are refused (profile 01 D006).
    pub reserve_bytes: u64,
    /// Shares of tenants (profile 10 §2.1); a tenant without one has no limit of its own.
    pub quotas: BTreeMap<Tenant, Quota>,
}

/// Share of a tenant: what it may hold here at most. The object that is being received may go beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Data set bytes.
    pub bytes: Option<u64>,
    /// Objects.
    pub objects: Option<u64>,
}

/// The spool on files. Clones are the same spool.
#[derive(Clone)]
pub struct FileSpool {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    hop: Hop,
    catalog: Catalog,
    journal: Journal,
    receipts: Arc<Receipts>,
    settings: RwLock<Settings>,
    folders: Folders,
    buffers: Buffers,
    flight: Mutex<Flight>,
    /// Digests whose first commit is on its way; the second waits for its outcome (profile 01 §2).
    committing: Mutex<HashMap<Bytes3, watch::Receiver<()>>>,
    leases: Mutex<HashMap<SpoolId, Lease>>,
    moving: Mutex<HashSet<SpoolId>>,
    health: Health,
    /// Told when there is something to do behind the answers.
    work: Notify,
}

/// Tenant, SOP Instance UID, digest.
type Bytes3 = (Tenant, String, Digest);

struct Lease {
    until: Timestamp,
    tenant: Tenant,
    from_queued: bool,
    bytes: u64,
}

/// Ids that are not settled: the lowest of them bounds what a restart must look at.
struct Flight {
    next: u64,
    unsettled: BTreeMap<SpoolId, Unsettled>,
}

enum Unsettled {
    /// Bytes are coming.
    Receiving { tenant: Tenant, bytes: u64 },
    /// Accepted; the log has not taken its R1 over.
    Owes(ReceiptHash),
    /// A repeated hand-over whose file goes when the journal has its line.
    Repeat(Box<Event>, PathBuf),
    /// A file that has to go: discarded, failed, or released.
    Leftover(PathBuf),
}

#[derive(Default)]
struct Health {
    /// At the last look, bytes.
    free: AtomicU64,
    /// Since then, bytes.
    written: AtomicU64,
    disk_failed: AtomicBool,
    index_failed: AtomicBool,
    closing: AtomicBool,
    /// Something has happened since the last checkpoint.
    changed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSpool {
    /// Opens what is on the disks, mends what a crash left, and says what it found. Blocks: seconds after a clean stop,
    /// longer when files must be verified or the index is made again.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(parts: Parts, now: Timestamp) -> Result<(Self, Recovery), OpenError> {
        let (shared, recovery) = recovery::open(parts, now)?;
        Ok((Self { shared: Arc::new(shared) }, recovery))
    }

    /// The receipts of this node.
    pub fn receipts(&self) -> &Arc<Receipts> {
        &self.shared.receipts
    }

    /// Puts other limits in force.
    pub fn set_settings(&self, settings: Settings) {
        *self.shared.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The same spool, for sharing with others that need the seam alone.
    pub fn seam(&self) -> Arc<dyn Spool> {
        Arc::new(self.clone())
    }

    /// The disk of the spool folder: what else is kept beside the objects lies there too, under the same lock.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.shared.disk)
    }

    /// Room left at the last look, bytes, less what was written since.
    pub fn free_bytes(&self) -> u64 {
        self.shared.health.free_bytes()
    }
}

impl Health {
    fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed).saturating_sub(self.written.load(Ordering::Relaxed))
    }

    fn looked(&self, space: Space) {
        self.written.store(0, Ordering::Relaxed);
        self.free.store(space.free, Ordering::Relaxed);
    }
}

impl Shared {
    /// Names a new object.
    fn name(&self, tenant: &Tenant) -> SpoolId {
        let mut flight = lock(&self.flight);
        let id = SpoolId(flight.next);
        flight.next += 1;
        flight.unsettled.insert(id, Unsettled::Receiving { tenant: tenant.clone(), bytes: 0 });
        id
    }

    fn unsettled(&self, id: SpoolId, what: Unsettled) {
        lock(&self.flight).unsettled.insert(id, what);
        self.health.changed.store(true, Ordering::Relaxed);
        self.work.notify_one();
    }

    /// The disk failed while something was to become durable: nothing new is taken until it has proven itself.
    fn disk_failed(&self, error: SpoolError) -> SpoolError {
        match error {
            SpoolError::Full => self.health.free.store(0, Ordering::Relaxed),
            _ => self.health.disk_failed.store(true, Ordering::SeqCst),
        }
        error
    }

    fn index_failed(&self, error: &IndexError) {
        tracing::error!(error = %error, "the spool's index failed; new objects are refused until a restart makes it again");
        self.health.index_failed.store(true, Ordering::SeqCst);
    }

    /// The first objects of hand-overs by an inbound row that the journal does not know yet.
    fn repeated(&self, tenant: &Tenant, inbound: &str, sop_instance_uid: &str) -> Vec<SpoolId> {
        let of_it = |what: &Unsettled| match what {
            Unsettled::Repeat(line, _) => match &**line {
                Event::Repeated { first, announced, .. }
                    if announced.tenant == *tenant && announced.inbound == inbound && announced.sop_instance_uid == sop_instance_uid =>
                {
                    Some(*first)
                }
                _ => None,
            },
            _ => None,
        };
        lock(&self.flight).unsettled.values().filter_map(of_it).collect()
    }

    /// What keeps anything from being accepted, also what is on its way.
    fn refusing_all(&self) -> Option<Refusal> {
        let health = &self.health;
        if health.closing.load(Ordering::SeqCst) {
            return Some(Refusal::Closing);
        }
        if health.index_failed.load(Ordering::SeqCst) {
            return Some(Refusal::Index);
        }
        if health.disk_failed.load(Ordering::SeqCst) {
            return Some(Refusal::Disk);
        }
        self.receipts.is_broken().then_some(Refusal::Receipts)
    }

    fn refusing(&self, tenant: &Tenant) -> Option<Refusal> {
        if let Some(refusal) = self.refusing_all() {
            return Some(refusal);
        }
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let (free_bytes, reserve_bytes) = (self.health.free_bytes(), settings.reserve_bytes);
        if free_bytes < reserve_bytes {
            return Some(Refusal::Space { free_bytes, reserve_bytes });
        }
        let quota = settings.quotas.get(tenant)?;
        let mut used = self.catalog.used(tenant);
        for what in lock(&self.flight).unsettled.values() {
            if let Unsettled::Receiving { tenant: whose, bytes } = what
                && whose == tenant
            {
                used.objects += 1;
                used.bytes += bytes;
            }
        }
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used >= limit);
        let limit = if over(quota.bytes, used.bytes) {
            "bytes"
        } else if over(quota.objects, used.objects) {
            "objects"
        } else {
            return None;
        };
        Some(Refusal::Quota { tenant: tenant.clone(), limit })
    }

    /// Makes events durable and takes them into the rows.
    fn record(&self, events: Vec<Event>) -> Result<(), SpoolError> {
        let mut failed = None;
        let result = self.journal.append(events, |number, event| {
            // The line is durable and counts; an index that cannot take it is made again at the next start.
            if let Err(error) = self.catalog.apply(number, event) {
                failed.get_or_insert(error);
            }
        });
        if let Some(error) = &failed {
            self.index_failed(error);
        }
        self.health.changed.store(true, Ordering::Relaxed);
        result.map_err(|source| {
            let error = std::io::Error::new(source.kind(), source);
            self.disk_failed(disk_error("writing the journal")(error))
        })
    }

    fn advance(&self, moves: Vec<Move>, seen: &[Progress]) -> Result<(), SpoolError> {
        // From here on no other move and no claim takes one of them.
        let _moving = Moving::begin(self, &moves)?;
        for (Move { id, .. }, seen) in moves.iter().zip(seen) {
            let entry = self.catalog.entry(*id)?.ok_or(SpoolError::Unknown(*id))?;
            if self.seen(entry).progress != *seen {
                return Err(SpoolError::Changed(*id));
            }
        }
        let mut events = Vec::with_capacity(moves.len());
        let mut released = Vec::new();
        for Move { id, to } in moves {
            to.check()?;
            let entry = self.catalog.entry(id)?.ok_or(SpoolError::Unknown(id))?;
            if !entry.progress.state.may_become(&to.state) {
                return Err(SpoolError::Transition { id, from: entry.progress.state, to: to.state });
            }
            if to.state == State::Released {
                // The log holds the R1 durably before the file may go (profile 11 §2).
                if self.receipts.owes(&entry.r1) {
                    self.receipts.flush()?;
                }
                released.push((id, object_file::path(&entry.record.announced, id)));
                events.push(Event::Released { entry: Box::new(Entry { progress: to, ..entry }) });
            } else {
                events.push(Event::Moved(Move { id, to }));
            }
        }
        let ids: Vec<_> = events.iter().filter_map(moved_id).collect();
        self.record(events)?;
        let mut leases = lock(&self.leases);
        for id in &ids {
            leases.remove(id);
        }
        drop(leases);
        for (id, path) in released {
            self.unsettled(id, Unsettled::Leftover(path));
        }
        Ok(())
    }

    fn claim(&self, claim: &Claim) -> Result<Vec<Entry>, SpoolError> {
        let mut leases = lock(&self.leases);
        leases.retain(|_, lease| lease.until > claim.now);
        let moving = lock(&self.moving);
        let due = self
            .catalog
            .due(&claim.tenant, claim.state, claim.lane, claim.now, claim.limit, |id| !leases.contains_key(&id) && !moving.contains(&id))?;
        drop(moving);
        for entry in &due {
            let lease = Lease {
                until: claim.lease_until,
                tenant: claim.tenant.clone(),
                from_queued: entry.progress.state == State::Queued,
                bytes: entry.record.size_bytes,
            };
            leases.insert(entry.id(), lease);
        }
        drop(leases);
        Ok(due)
    }

    /// An entry as the operator sees it: a queued one that is leased is being sent.
    fn seen(&self, mut entry: Entry) -> Entry {
        if entry.progress.state == State::Queued && lock(&self.leases).contains_key(&entry.id()) {
            entry.progress.state = State::Sending;
        }
        entry
    }

    fn totals(&self) -> Totals {
        let mut totals = self.catalog.totals();
        for lease in lock(&self.leases).values().filter(|lease| lease.from_queued) {
            let sending = totals.entry((lease.tenant.clone(), State::Sending.name())).or_default();
            *sending = Amount { objects: sending.objects + 1, bytes: sending.bytes + lease.bytes };
            if let Some(queued) = totals.get_mut(&(lease.tenant.clone(), State::Queued.name())) {
                *queued = Amount { objects: queued.objects.saturating_sub(1), bytes: queued.bytes.saturating_sub(lease.bytes) };
            }
        }
        for what in lock(&self.flight).unsettled.values() {
            if let Unsettled::Receiving { tenant, bytes } = what {
                let receiving = totals.entry((tenant.clone(), State::Receiving.name())).or_default();
                *receiving = Amount { objects: receiving.objects + 1, bytes: receiving.bytes + bytes };
            }
        }
        totals.retain(|_, amount| amount.objects > 0);
        totals
    }
}

fn moved_id(event: &Event) -> Option<SpoolId> {
    match event {
        Event::Moved(moved) => Some(moved.id),
        Event::Released { entry } => Some(entry.id()),
        _ => None,
    }
}

/// Keeps two moves of one object from crossing: the second caller must look again.
struct Moving<'a> {
    shared: &'a Shared,
    ids: Vec<SpoolId>,
}

impl<'a> Moving<'a> {
    fn begin(shared: &'a Shared, moves: &[Move]) -> Result<Self, SpoolError> {
        let mut moving = lock(&shared.moving);
        let mut begun = Self { shared, ids: Vec::with_capacity(moves.len()) };
        for Move { id, .. } in moves {
            if !moving.insert(*id) {
                drop(moving);
                return Err(SpoolError::Busy(*id));
            }
            begun.ids.push(*id);
        }
        Ok(begun)
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        let mut moving = lock(&self.shared.moving);
        for id in &self.ids {
            moving.remove(id);
        }
    }
}

impl FileSpool {
    /// Looks something up off the async threads.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Shared) -> Result<T, IndexError> + Send + 'static) -> Result<T, SpoolError> {
        let shared = Arc::clone(&self.shared);
        Ok(self.shared.hop.run(move || look(&shared)).await??)
    }
}

#[async_trait]
impl Spool for FileSpool {
    async fn open(&self, announced: Announced) -> Result<Box<dyn Writer>, SpoolError> {
        announced.check()?;
        match self.shared.refusing(&announced.tenant) {
            Some(refusal) => Err(SpoolError::Refused(refusal)),
            None => Ok(Box::new(writer::FileWriter::new(Arc::clone(&self.shared), announced))),
        }
    }

    fn refusing(&self, tenant: &Tenant) -> Option<Refusal> {
        self.shared.refusing(tenant)
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Entry>, SpoolError> {
        let shared = Arc::clone(&self.shared);
        self.shared.hop.run(move || shared.claim(&claim)).await?
    }

    fn give_back(&self, id: SpoolId) {
        lock(&self.shared.leases).remove(&id);
    }

    async fn advance(&self, moves: Vec<Move>) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        self.shared.hop.run(move || shared.advance(moves, &[])).await?
    }

    async fn advance_seen(&self, moves: Vec<Seen>) -> Result<(), SpoolError> {
        let (seen, moves): (Vec<_>, Vec<_>) = moves.into_iter().map(|one| (one.progress, one.go)).unzip();
        let shared = Arc::clone(&self.shared);
        self.shared.hop.run(move || shared.advance(moves, &seen)).await?
    }

    async fn note(&self, note: Note) -> Result<(), SpoolError> {
        check_note(&note)?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let study = shared.catalog.study(&note.tenant, &note.study_uid)?.ok_or(SpoolError::UnknownStudy)?;
            if note.value.is_some() && !takes_note(&study, &note.name) {
                return Err(Unusable { field: "notes of the study", why: "are too many" }.into());
            }
            shared.record(vec![Event::Noted(note)])
        };
        self.shared.hop.run(work).await?
    }

    async fn read(&self, id: SpoolId) -> Result<Box<dyn Stored>, SpoolError> {
        let shared = Arc::clone(&self.shared);
        let stored = self.shared.hop.run(move || reader::FileStored::open(&shared, id)).await??;
        Ok(Box::new(stored))
    }

    async fn keep_header(&self, id: SpoolId, header: Bytes) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let held = shared.catalog.entry(id)?.is_some_and(|entry| entry.progress.state != State::Released);
            if held { headers::keep(&*shared.disk, id, &header) } else { Err(SpoolError::Unknown(id)) }
        };
        self.shared.hop.run(work).await?
    }

    async fn kept_header(&self, id: SpoolId) -> Result<Option<Bytes>, SpoolError> {
        let shared = Arc::clone(&self.shared);
        self.shared.hop.run(move || headers::read(&*shared.disk, id)).await?
    }

    async fn entry(&self, id: SpoolId) -> Result<Option<Entry>, SpoolError> {
        self.look(move |shared| Ok(shared.catalog.entry(id)?.map(|entry| shared.seen(entry)))).await
    }

    async fn instances(&self, tenant: &Tenant, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        let (tenant, uid) = (tenant.clone(), sop_instance_uid.to_owned());
        self.look(move |shared| Ok(shared.catalog.instances(&tenant, &uid)?.into_iter().map(|entry| shared.seen(entry)).collect())).await
    }

    async fn handed_over(&self, tenant: &Tenant, inbound: &str, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        let (tenant, inbound, uid) = (tenant.clone(), inbound.to_owned(), sop_instance_uid.to_owned());
        self.look(move |shared| {
            // Repeated hand-overs whose journal line is not written yet; looked at first, since they go into the rows next.
            let repeated = shared.repeated(&tenant, &inbound, &uid);
            let mut entries = shared.catalog.handed_over(&tenant, &inbound, &uid)?;
            for id in repeated {
                if entries.iter().all(|entry| entry.id() != id) {
                    entries.extend(shared.catalog.entry(id)?);
                }
            }
            Ok(entries.into_iter().map(|entry| shared.seen(entry)).collect())
        })
        .await
    }

    async fn study(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Study>, SpoolError> {
        let (tenant, uid) = (tenant.clone(), study_uid.to_owned());
        self.look(move |shared| shared.catalog.study(&tenant, &uid)).await
    }

    async fn series(&self, tenant: &Tenant, series_uid: &str) -> Result<Vec<Occurrence>, SpoolError> {
        let (tenant, uid) = (tenant.clone(), series_uid.to_owned());
        self.look(move |shared| shared.catalog.series(&tenant, &uid)).await
    }

    async fn accession(&self, tenant: &Tenant, name: &str) -> Result<Vec<Occurrence>, SpoolError> {
        let (tenant, name) = (tenant.clone(), name.to_owned());
        self.look(move |shared| shared.catalog.accession(&tenant, &name)).await
    }

    async fn members(&self, tenant: &Tenant, study_uid: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        let (tenant, uid) = (tenant.clone(), study_uid.to_owned());
        self.look(move |shared| {
            Ok(shared.catalog.members(&tenant, &uid, after, limit)?.into_iter().map(|entry| shared.seen(entry)).collect())
        })
        .await
    }

    async fn in_state(&self, tenant: &Tenant, state: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        let (tenant, state) = (tenant.clone(), state.to_owned());
        self.look(move |shared| {
            Ok(shared.catalog.in_state(&tenant, &state, after, limit)?.into_iter().map(|entry| shared.seen(entry)).collect())
        })
        .await
    }

    async fn waiting(&self, tenant: &Tenant, last_arrival_before: Timestamp, limit: usize) -> Result<Vec<Study>, SpoolError> {
        let tenant = tenant.clone();
        self.look(move |shared| shared.catalog.waiting(&tenant, last_arrival_before, limit)).await
    }

    fn totals(&self) -> Totals {
        self.shared.totals()
    }
}

/// Bounds a note, so that a study's row stays below 4 KiB.
pub(super) fn check_note(note: &Note) -> Result<(), Unusable> {
    if note.name.is_empty() || note.name.len() > 32 || note.value.as_ref().is_some_and(|value| value.len() > 256) {
        return Err(Unusable { field: "note", why: "has an empty or too long name, or a too long value" });
    }
    Ok(())
}

//! What a start finds, and what it makes of it.
//!
//! 1. The journal is read and synced; the index is opened, or set aside and made again.
//! 2. Every object file that the index does not cover is looked at. Not sealed: an unfinished hand-over, removed. Sealed,
//!    but perhaps never synced (not below the last mark): synced now, and its digest verified; only then it counts. If that
//!    does not hold it was never acknowledged (an answer is given after the sync) and goes to `torn/` with a report.
//! 3. Below the mark, or in the index, an object was acknowledged: if it does not hold now, the disk broke its promise.
//!    The file stays where it is and every start says so until it is restored.
//! 4. Journal lines behind the index are applied. R1 in the files that the log does not have are taken over; a gap in the
//!    chain is closed by a recovery record. Files of repeated hand-overs collapse.
//!
//! An index that is whole is trusted for the ids below its bound as long as there are as many files as it has objects;
//! otherwise all files are compared with it.

use super::super::catalog::{Applied, Catalog, Covers, Live};
use super::super::disk::{Disk, create_folders, make_sure};
use super::super::index::{Behind, IndexError, IndexStore};
use super::super::journal::{self, Event, Journal, Mark};
use super::super::object_file::{self, Content, HEAD_BYTES_MAX, Sealed};
use super::super::record::{Entry, Move, Progress, SpoolId, State};
use super::chores::remove_files;
use super::listing::Listing;
use super::reader::{verify, verify_length};
use super::{Buffers, Flight, Folders, Health, Parts, Shared, Unsettled};
use crate::receipts::{self, LogFindings, Opened, ReceiptError, Receipts, TakenOver};
use idr_profile::digest::Digest;
use idr_profile::receipt::{Carried, ReceiptHash, Statement};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::Notify;

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk.
    #[error("the spool cannot be opened: {doing} failed")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the disk says.
        #[source]
        source: io::Error,
    },
    /// The index, also after it was made again.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The receipt log.
    #[error("the receipts cannot be opened")]
    Receipts(#[from] ReceiptError),
}

fn disk(doing: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Disk { doing, source }
}

/// What became of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexFate {
    /// It was used.
    Kept,
    /// It was set aside and made again, for this reason.
    Rebuilt(String),
}

/// A file that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Which.
    pub id: SpoolId,
    /// Where it is now.
    pub path: PathBuf,
    /// What does not hold.
    pub what: &'static str,
    /// Whether a modality may have been told that it was accepted. Then the disk lost what it had confirmed, and the
    /// object must be sent again from its source.
    pub acknowledged: bool,
}

/// What a start found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What became of the index.
    pub index: IndexFate,
    /// Objects taken into the index.
    pub added: u64,
    /// Of these, files whose digest was verified because they may not have been synced.
    pub verified: u64,
    /// Hand-overs that were never finished nor acknowledged; their files were removed.
    pub unfinished: u64,
    /// Files that do not hold.
    pub torn: Vec<Torn>,
    /// Objects without a file. An alarm: they were acknowledged.
    pub lost: Vec<SpoolId>,
    /// R1 in the log for which there is neither an object nor a release; looked for when the index is made again. An alarm.
    pub acceptances_without_object: Vec<ReceiptHash>,
    /// Two files with an R1 of their own for the same bytes: the disk holds parts of two histories. An alarm.
    pub second_acceptances: Vec<SpoolId>,
    /// Files of repeated hand-overs that collapse now.
    pub repeated: u64,
    /// Names under `objects/` that are not ours; not touched.
    pub foreign: Vec<PathBuf>,
    /// Journal lines that do not hold; those at its very end were never acknowledged.
    pub journal_broken_lines: u64,
    /// Journal lines that are missing. An alarm.
    pub journal_missing_lines: u64,
    /// The journal ended before the index; states were written into it again. An alarm.
    pub journal_behind_index: bool,
    /// Journal lines about objects or studies that are not here.
    pub journal_unknown: u64,
    /// What reading the receipt log found.
    pub log: LogFindings,
    /// What taking receipts over did.
    pub taken: TakenOver,
}

impl Recovery {
    /// One sentence for each thing that an operator must know of; none: all is as it should be.
    pub fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        for Torn { id, path, what, acknowledged } in &self.torn {
            alarms.push(match acknowledged {
                true => format!("Object {id} was accepted and is damaged: {what} ({}). The disk lost what it had confirmed. Send the study again from its source and check the disk.", path.display()),
                false => format!("Object {id} was torn by a crash before it was acknowledged: {what}. It is kept as {}; the modality sends it again. Nothing to do.", path.display()),
            });
        }
        for id in &self.lost {
            alarms
                .push(format!("Object {id} was accepted and its file is gone. Send the study again from its source, or restore a backup."));
        }
        for hash in &self.acceptances_without_object {
            alarms.push(format!("Receipt {hash} says that an object was accepted, and no file holds it. `receipt show {hash}` names it; send it again from its source."));
        }
        for id in &self.second_acceptances {
            alarms.push(format!("Object {id} has a second receipt for bytes that another file holds. Both are kept. Was a backup restored beside newer files?"));
        }
        if self.journal_missing_lines > 0 {
            alarms.push(format!("{} lines of the spool's journal are missing: states of objects may be older than they were. Restore it from a backup or compare `queue list` with the centre.", self.journal_missing_lines));
        }
        if self.journal_behind_index {
            alarms.push("The spool's journal ended before its index; the states were written into it again. Was a backup of one and not of the other restored?".to_owned());
        }
        for hash in &self.log.gone {
            alarms.push(format!("Receipt {hash} was logged and is gone from the receipt log. Restore it from a backup; `receipt verify --log` shows the break."));
        }
        if self.taken.cut_short {
            alarms.push("The receipt log is shorter than it was: its last receipts are gone. Restore it from a backup; `receipt verify --log` shows the break.".to_owned());
        }
        if self.log.broken_lines > 0 {
            alarms.push(format!(
                "{} lines of the receipt log cannot be read. Restore it from a backup; `receipt verify --log` names the place.",
                self.log.broken_lines
            ));
        }
        alarms
    }
}

pub(super) fn open(parts: Parts, now: Timestamp) -> Result<(Shared, Recovery), OpenError> {
    let Parts { disk: spool_disk, state_disk, index: store, holder, signers, mut random, settings, index_waits_bytes, hop, rebuild } =
        parts;
    for folder in ["objects", "torn"] {
        create_folders(&*spool_disk, Path::new(folder)).map_err(disk("making folders"))?;
    }
    let mut id = [0; 16];
    random.fill_bytes(&mut id);
    let fresh = uuid::Builder::from_random_bytes(id).into_uuid();

    // The index, and the journal as far as the index asks for it.
    let kept = if rebuild { Err("as asked for".to_owned()) } else { usable(&*spool_disk, &*store, index_waits_bytes)? };
    let (catalog, covers, fate) = match kept {
        Ok((catalog, covers)) => (catalog, Some(covers), IndexFate::Kept),
        Err(reason) => {
            store.set_aside()?;
            (Catalog::open(Arc::new(Behind::new(store.open()?, index_waits_bytes)))?, None, IndexFate::Rebuilt(reason))
        }
    };
    let mut released = Vec::new();
    let after = covers.map_or(0, |covers| covers.journal);
    let reading = journal::read(&*spool_disk, after, |_, event| {
        // Their files are gone, and a file that names the R1 of one of them is an object in its own right: known first.
        if let Event::Released { entry } = event {
            released.push(*entry);
        }
    });
    let mut findings = reading.map_err(disk("reading the journal"))?;
    let journal_behind_index = after > findings.last;
    findings.last = findings.last.max(after);
    let journal = Journal::open(Arc::clone(&spool_disk), &findings, fresh).map_err(disk("opening the journal"))?;
    let covers = match covers {
        Some(covers) => covers,
        None => {
            let mark = Mark { low: SpoolId(0), logged: None };
            let covers = Covers { spool: journal.spool(), journal: 0, mark };
            catalog.set_covers(covers)?;
            covers
        }
    };

    // The journal's mark is the newer one, when there is one behind what the index covers.
    let mark = findings.mark.unwrap_or(covers.mark);
    let mut acceptances = (fate != IndexFate::Kept).then(HashMap::new);
    let parts = receipts::Parts { disk: state_disk, index: Arc::clone(catalog.index()), holder, signers, random, noted: mark.logged };
    let opened = Receipts::open(parts, |carried| remember(&mut acceptances, carried))?;

    let mut start = Start {
        disk: &*spool_disk,
        catalog: &catalog,
        log: &opened,
        known: covers.mark.low.max(mark.low),
        recovery: Recovery {
            index: fate,
            added: 0,
            verified: 0,
            unfinished: 0,
            torn: Vec::new(),
            lost: Vec::new(),
            acceptances_without_object: Vec::new(),
            second_acceptances: Vec::new(),
            repeated: 0,
            foreign: Vec::new(),
            journal_broken_lines: findings.broken_lines,
            journal_missing_lines: findings.missing_lines,
            journal_behind_index,
            journal_unknown: 0,
            log: opened.findings.clone(),
            taken: TakenOver::default(),
        },
        next: covers.mark.low.max(mark.low).0,
        r1s: Vec::new(),
        remove: Vec::new(),
        aside: Vec::new(),
        sync: BTreeSet::new(),
        first_named: Vec::new(),
    };
    let files = start.list()?;
    for entry in released {
        start.saw(entry.id());
        catalog.release(&entry)?;
    }
    let from = start.bound(&files, covers)?;
    for (id, path) in files.from(from) {
        start.look(id, &path)?;
    }
    start.make_durable()?;
    let repeats = start.collapse()?;
    let unknown = start.replay(after, &files)?;
    start.find_lost(&files, from)?;
    start.find_unheld(acceptances)?;

    let Start { mut recovery, next, r1s, remove, .. } = start;
    recovery.journal_unknown = unknown;
    if journal_behind_index {
        write_states_again(&catalog, &journal).map_err(disk("writing the journal"))?;
    }
    let (receipts, taken) = opened.take_over(r1s, now)?;
    recovery.taken = taken;
    recovery.repeated = repeats.len() as u64;
    let lines: Vec<_> = repeats.iter().map(|(_, line, _)| line.clone()).collect();
    append(&journal, &catalog, lines)?;
    let gone: Vec<PathBuf> = remove.into_iter().chain(repeats.into_iter().map(|(_, _, path)| path)).collect();
    remove_files(&*spool_disk, &gone).map_err(disk("removing files"))?;

    // From here on the next start needs to look at nothing that is older.
    let mark = Mark { low: SpoolId(next), logged: receipts.logged_head() };
    catalog.set_mark(mark)?;
    catalog.index().persist()?;
    append(&journal, &catalog, vec![Event::Mark(mark)])?;
    let health = Health::default();
    health.looked(spool_disk.space().map_err(disk("looking at the disk's space"))?);
    let shared = Shared {
        disk: spool_disk,
        hop,
        catalog,
        journal,
        receipts: Arc::new(receipts),
        settings: RwLock::new(settings),
        folders: Folders::default(),
        buffers: Buffers::default(),
        flight: Mutex::new(Flight { next, unsettled: BTreeMap::<SpoolId, Unsettled>::new() }),
        committing: Mutex::new(HashMap::new()),
        leases: Mutex::new(HashMap::new()),
        moving: Mutex::new(HashSet::new()),
        health,
        work: Notify::new(),
    };
    Ok((shared, recovery))
}

/// The index if it can be used, or why not.
fn usable(disk: &dyn Disk, store: &dyn IndexStore, waits_bytes: usize) -> Result<Result<(Catalog, Covers), String>, OpenError> {
    let opened = store.open().and_then(|index| {
        let catalog = Catalog::open(Arc::new(Behind::new(index, waits_bytes)))?;
        let covers = catalog.covers()?;
        Ok((catalog, covers))
    });
    let (catalog, covers) = match opened {
        Ok((catalog, Some(covers))) => (catalog, covers),
        Ok((_, None)) => return Ok(Err("it is empty".to_owned())),
        Err(error) => return Ok(Err(error.0)),
    };
    let findings = journal::read(disk, covers.journal, |_, _| {}).map_err(self::disk("reading the journal"))?;
    match findings.spool {
        Some(spool) if spool != covers.spool => Ok(Err("it belongs to another spool".to_owned())),
        _ => Ok(Ok((catalog, covers))),
    }
}

/// R1 by the bytes they speak of, as long as no release follows.
type Acceptances = HashMap<(String, Digest), ReceiptHash>;

fn remember(acceptances: &mut Option<Acceptances>, carried: &Carried) {
    let (Some(acceptances), Some(object)) = (acceptances, carried.receipt().object()) else { return };
    let key = (object.sop_instance_uid.clone(), object.digest);
    match carried.receipt().statement {
        Statement::Acceptance { .. } => drop(acceptances.insert(key, carried.hash())),
        Statement::Release { .. } => drop(acceptances.remove(&key)),
        _ => {}
    }
}

fn append(journal: &Journal, catalog: &Catalog, events: Vec<Event>) -> Result<(), OpenError> {
    let mut failed = None;
    let appended = journal.append(events, |number, event| {
        if let Err(error) = catalog.apply(number, event) {
            failed = Some(error);
        }
    });
    appended.map_err(|error| disk("writing the journal")(io::Error::new(error.kind(), error)))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The journal is gone or older than the index: what only the index knows is made lasting again.
fn write_states_again(catalog: &Catalog, journal: &Journal) -> io::Result<()> {
    let mut from = SpoolId(0);
    loop {
        let page = catalog.all(from, 500).map_err(io::Error::other)?;
        let Some(last) = page.last() else { return Ok(()) };
        from = SpoolId(last.id().0 + 1);
        let changed = page.into_iter().filter(|entry| entry.progress != Progress::begin(&entry.record));
        let events = changed.map(|entry| match entry.progress.state {
            State::Released => Event::Released { entry: Box::new(entry) },
            _ => Event::Moved(Move { id: entry.id(), to: entry.progress }),
        });
        journal.append(events.collect(), |_, _| {}).map_err(|error| io::Error::new(error.kind(), error))?;
    }
}

struct Start<'a> {
    disk: &'a dyn Disk,
    catalog: &'a Catalog,
    log: &'a Opened,
    /// Sealed files with a lower id were synced.
    known: SpoolId,
    recovery: Recovery,
    next: u64,
    /// R1 that the log does not have.
    r1s: Vec<Carried>,
    /// Files that go when all else is durable.
    remove: Vec<PathBuf>,
    /// Files that go to `torn/`: id, where from, why.
    aside: Vec<(SpoolId, PathBuf, &'static str)>,
    /// Folders whose names may not be durable.
    sync: BTreeSet<PathBuf>,
    /// Sealed files that name the R1 of another.
    first_named: Vec<(PathBuf, Sealed)>,
}

impl Start<'_> {
    fn saw(&mut self, id: SpoolId) {
        self.next = self.next.max(id.0 + 1);
    }

    fn list(&mut self) -> Result<Listing, OpenError> {
        let mut files = Listing::read(self.disk).map_err(disk("listing object files"))?;
        files.last().into_iter().for_each(|last| self.saw(last));
        self.recovery.foreign = std::mem::take(&mut files.foreign);
        Ok(files)
    }

    /// From which id on files are looked at: all of them unless the index knows the same ids below its bound.
    fn bound(&mut self, files: &Listing, covers: Covers) -> Result<SpoolId, OpenError> {
        let mut indexed = self.catalog.live()?;
        let in_studies: u64 =
            self.catalog.totals().iter().filter(|((_, state), _)| *state != State::Released.name()).map(|(_, amount)| amount.objects).sum();
        let whole = in_studies == indexed.objects;
        let mut from = covers.mark.low;
        loop {
            let page = self.catalog.all(from, 500)?;
            let Some(last) = page.last() else { break };
            from = SpoolId(last.id().0 + 1);
            self.saw(last.id());
            page.iter().filter(|entry| entry.progress.state != State::Released).for_each(|entry| indexed.toggle(entry.id(), false));
        }
        let mut on_disk = Live::default();
        files.below(covers.mark.low).for_each(|id| on_disk.toggle(id, true));
        Ok(if whole && on_disk == indexed { covers.mark.low } else { SpoolId(0) })
    }

    fn look(&mut self, id: SpoolId, path: &Path) -> Result<(), OpenError> {
        let doing = disk("reading an object file");
        let entry = self.catalog.entry(id)?;
        if entry.as_ref().is_some_and(|entry| entry.progress.state == State::Released) {
            self.remove.push(path.to_owned());
            return Ok(());
        }
        let file = self.disk.open(path).map_err(&doing)?;
        let mut head = vec![0; HEAD_BYTES_MAX];
        let read = file.read_at(0, &mut head).map_err(&doing)?;
        let (sealed, data_at) = match object_file::read_head(id, &head[..read]) {
            Content::Sealed(sealed, data_at) => (*sealed, data_at),
            Content::Unfinished if entry.is_none() && id >= self.known => {
                self.recovery.unfinished += 1;
                self.remove.push(path.to_owned());
                return Ok(());
            }
            Content::Unfinished => {
                return {
                    self.torn(id, path, "its record is gone", entry.is_some());
                    Ok(())
                };
            }
            Content::Damaged(what) => {
                return {
                    self.torn(id, path, what, entry.is_some());
                    Ok(())
                };
            }
        };
        if let Some(entry) = &entry
            && entry.record != sealed.record
        {
            return {
                self.torn(id, path, "its record is not the one that was accepted", true);
                Ok(())
            };
        }
        if object_file::path(&sealed.record.announced, id) != path {
            return {
                self.torn(id, path, "it lies in the folder of another tenant", entry.is_some());
                Ok(())
            };
        }
        // In the index, or below the mark: it was synced before it came there.
        let fault = if entry.is_some() || id < self.known {
            verify_length(&*file, &sealed.record, data_at)
        } else {
            // A killed process leaves bytes that can be read and are not durable yet.
            self.recovery.verified += 1;
            self.sync.extend(path.parent().map(Path::to_owned));
            make_sure(&*file, |_| {}).and_then(|()| verify(&*file, &sealed.record, data_at))
        };
        if let Some(what) = fault.map_err(&doing)? {
            return {
                self.torn(id, path, what, entry.is_some());
                Ok(())
            };
        }
        if let Some(r1) = &sealed.r1
            && !self.log.has(&r1.hash())?
        {
            self.r1s.push(r1.clone());
        }
        match (entry, &sealed.r1) {
            (Some(_), _) => {}
            (None, Some(r1)) => {
                let held = self.catalog.holder(
                    &sealed.record.announced.tenant,
                    &sealed.record.announced.sop_instance_uid,
                    &sealed.record.digest,
                )?;
                if held.is_some_and(|held| held.record.first_r1.is_none() && held.progress.state != State::Released) {
                    self.recovery.second_acceptances.push(id);
                }
                let hash = r1.hash();
                self.add(sealed.record, hash)?;
            }
            (None, None) => self.first_named.push((path.to_owned(), sealed)),
        }
        Ok(())
    }

    fn add(&mut self, record: super::super::record::Record, r1: ReceiptHash) -> Result<(), OpenError> {
        self.recovery.added += 1;
        let progress = Progress::begin(&record);
        Ok(self.catalog.add(&Entry { record, r1, progress })?)
    }

    fn torn(&mut self, id: SpoolId, path: &Path, what: &'static str, indexed: bool) {
        let acknowledged = indexed || id < self.known;
        let path = if acknowledged {
            path.to_owned()
        } else {
            self.aside.push((id, path.to_owned(), what));
            Path::new("torn").join(object_file::name(id))
        };
        self.recovery.torn.push(Torn { id, path, what, acknowledged });
    }

    /// Names of files that count from now on, and the moves to `torn/`, before anything is built on them.
    fn make_durable(&mut self) -> Result<(), OpenError> {
        let doing = disk("moving torn files");
        for (id, from, what) in std::mem::take(&mut self.aside) {
            let report = Path::new("torn").join(format!("{id}.txt"));
            let report = match self.disk.create(&report) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&report),
                other => other,
            };
            let text = format!("{}: {what}. Never acknowledged; moved here at a start after a crash.\n", from.display());
            report.and_then(|file| file.write_at(0, text.as_bytes()).and_then(|()| file.sync_data())).map_err(&doing)?;
            self.disk.rename(&from, &Path::new("torn").join(object_file::name(id))).map_err(&doing)?;
            self.sync.extend(from.parent().map(Path::to_owned));
            self.sync.insert(PathBuf::from("torn"));
        }
        std::mem::take(&mut self.sync).iter().try_for_each(|folder| self.disk.sync_folder(folder)).map_err(disk("syncing folders"))
    }

    /// Repeated hand-overs: those whose first object is here collapse, the others are objects in their own right.
    fn collapse(&mut self) -> Result<Vec<(SpoolId, Event, PathBuf)>, OpenError> {
        let mut repeats = Vec::new();
        for (path, sealed) in std::mem::take(&mut self.first_named) {
            let record = sealed.record;
            let Some(r1) = record.first_r1 else { continue };
            let held = self.catalog.holder(&record.announced.tenant, &record.announced.sop_instance_uid, &record.digest)?;
            match held.filter(|held| held.progress.state != State::Released) {
                Some(first) => {
                    let line = Event::Repeated {
                        id: record.id,
                        first: first.id(),
                        r1: first.r1,
                        announced: Box::new(record.announced.clone()),
                        received: record.facts.received,
                    };
                    repeats.push((record.id, line, path));
                }
                None => self.add(record, r1)?,
            }
        }
        Ok(repeats)
    }

    /// Journal lines behind the index.
    fn replay(&mut self, after: u64, files: &Listing) -> Result<u64, OpenError> {
        let (mut unknown, mut failed, mut highest) = (0, None, 0);
        let (catalog, remove) = (self.catalog, &mut self.remove);
        let read = journal::read(self.disk, after, |number, event| {
            highest = highest.max(match &event {
                Event::Moved(moved) => moved.id.0,
                Event::Released { entry } => entry.id().0,
                Event::Repeated { id, .. } => id.0,
                _ => 0,
            });
            if let Event::Released { entry } = &event {
                remove.extend(files.get(entry.id()));
            }
            match catalog.apply(number, &event) {
                Ok(Applied::Yes) => {}
                Ok(Applied::Unknown) => unknown += 1,
                Err(error) => failed = Some(error),
            }
        });
        read.map_err(disk("reading the journal"))?;
        if highest > 0 {
            self.saw(SpoolId(highest));
        }
        failed.map_or(Ok(unknown), |error| Err(error.into()))
    }

    /// Objects from `from` on that have no file.
    fn find_lost(&mut self, files: &Listing, from: SpoolId) -> Result<(), OpenError> {
        let mut at = from;
        loop {
            let page = self.catalog.all(at, 500)?;
            let Some(last) = page.last() else { return Ok(()) };
            at = SpoolId(last.id().0 + 1);
            for entry in page {
                if entry.progress.state != State::Released && files.get(entry.id()).is_none() {
                    self.recovery.lost.push(entry.id());
                }
            }
        }
    }

    /// R1 in the log whose bytes nobody holds.
    fn find_unheld(&mut self, acceptances: Option<Acceptances>) -> Result<(), OpenError> {
        let Some(mut acceptances) = acceptances.filter(|acceptances| !acceptances.is_empty()) else { return Ok(()) };
        let mut at = SpoolId(0);
        loop {
            let page = self.catalog.all(at, 500)?;
            let Some(last) = page.last() else { break };
            at = SpoolId(last.id().0 + 1);
            for entry in page {
                acceptances.remove(&(entry.record.announced.sop_instance_uid, entry.record.digest));
            }
        }
        self.recovery.acceptances_without_object = acceptances.into_values().collect();
        self.recovery.acceptances_without_object.sort_unstable();
        Ok(())
    }
}

//! Receipts of this node: one chain, one log (profile 11 §2).
//!
//! [`Receipts::issue`] gives a statement its place in the chain and signs it; whoever asked says by [`Receipts::settle`]
//! whether it became durable elsewhere (an R1 does, inside its object file). [`Receipts::say`] does both for R2 and R5;
//! [`Receipts::keep`] takes R3 and R4 of the centre. [`Receipts::flush`] takes settled receipts over into the log, behind
//! the answers they belong to.
//!
//! The chain is a mutex and not a task of its own: giving a place and signing takes some 30 µs, less than a hop to a task
//! and back, and writers that wait for their disk do not hold it (docs/decisions/0003-spool.md).
//!
//! # On disk
//! The log: [`log`]. Receipts of this holder stand there in the order of their ids: one that is settled waits until all
//! before it are. The key: [`key`].
//!
//! # Failure
//! A receipt that was issued and did not become durable breaks the chain when later ones did. Then nothing is issued until
//! all in flight are settled and [`Receipts::repair`] has logged one signed recovery record (or nothing later was issued,
//! and its place is given again). After a crash [`Opened::take_over`] does the same with what the object files hold. Only
//! what comes after the head that the spool last noted as logged can be missing because of a crash: an earlier gap, or a
//! log without that head, is reported and never signed away.
//!
//! What stands in the log is never written again, also when the index did not take the rows that find it: they wait in memory
//! and go first with the next flush, before anything more is logged. A start reads them from the log.
//!
//! # Bounds
//! At most [`OWED_MAX`] receipts wait for the log; then none is issued. The rows that wait are those of one flush.

pub mod key;
pub mod log;
#[cfg(test)]
mod tests;

pub use key::{KeyFile, KeyFileError};

use crate::spool::disk::Disk;
use crate::spool::index::{Change, Index, IndexError};
use idr_profile::receipt::{Carried, Holder, Ids, Receipt, ReceiptHash, ReceiptKey, Signer, Statement};
use jiff::Timestamp;
use log::{Log, Place};
use rand::RngCore;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Most receipts that wait for the log.
pub const OWED_MAX: usize = 10_000;

/// Why a receipt cannot be made or kept.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The chain has a receipt that did not become durable and is not repaired yet, or the log does not keep up.
    #[error("no receipt can be made until the log is repaired; that is tried again by itself")]
    Unsettled,
    /// The disk of the log.
    #[error("the receipt log cannot be {doing}")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the disk says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The rows that find receipts.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The log goes on under a key that is not here.
    #[error("the receipt log goes on under key {kid}, which is not here; restore the key file or join again")]
    Key {
        /// The key that is wanted.
        kid: String,
    },
}

/// The receipts of this node.
pub struct Receipts {
    disk: Arc<dyn Disk>,
    index: Arc<dyn Index>,
    holder: Holder,
    chain: Mutex<Chain>,
    /// Told when the front of the chain moves.
    moved: Condvar,
    log: Mutex<Logged>,
}

/// The log, and the rows of what stands in it that the index has not taken yet.
struct Logged {
    log: Log,
    unapplied: Vec<Change>,
}

struct Chain {
    signer: Signer,
    ids: Ids,
    random: Box<dyn RngCore + Send>,
    /// Of the last issued.
    head: Option<ReceiptHash>,
    /// Of the durable receipt with the greatest id.
    durable: Option<ReceiptHash>,
    in_flight: VecDeque<Slot>,
    /// Settled and not logged yet, in order.
    ready: VecDeque<Carried>,
    /// Last of ours in the log, as long as nothing before it is missing.
    logged: Option<ReceiptHash>,
    /// Issued, not failed, not logged.
    owed: HashSet<ReceiptHash>,
    /// `log_prev` of durable receipts that no durable receipt has.
    missing: Vec<ReceiptHash>,
    /// A receipt failed; nothing is issued until repaired.
    broken: bool,
    /// The key changes; whoever asks waits.
    rotating: bool,
}

struct Slot {
    carried: Carried,
    durable: Option<bool>,
}

/// What opening the log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFindings {
    /// Receipts read.
    pub read: u64,
    /// Bytes cut from the end: a writing that was never finished.
    pub cut_bytes: u64,
    /// Lines before the end that cannot be read. An alarm.
    pub broken_lines: u64,
    /// Receipts that were logged and are not there: their hashes as later receipts name them. An alarm, and no recovery
    /// record covers it.
    pub gone: Vec<ReceiptHash>,
}

/// What taking over from object files did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// R1 that were not in the log yet.
    pub receipts: u64,
    /// Hashes that the recovery record names; none: no record was needed.
    pub missing: Vec<ReceiptHash>,
    /// The log does not have the receipt that was last noted as logged: somebody shortened it, or an old copy was put in
    /// its place. An alarm, and no recovery record is made.
    pub cut_short: bool,
}

/// A log that is read but not yet open for new receipts: what is in the object files must be taken over first.
pub struct Opened {
    receipts: Receipts,
    walk: Walk,
    /// Receipts beside the log, from an end that was torn.
    strays: Vec<Carried>,
    /// What reading found.
    pub findings: LogFindings,
}

/// Follows the chain of one holder through the log.
struct Walk {
    holder: Holder,
    /// Receipts up to this one were logged for certain; none: nothing was.
    noted: Option<ReceiptHash>,
    /// Whether it has come by.
    noted_seen: bool,
    last: Option<(Uuid, ReceiptHash)>,
    /// `log_prev` that no receipt has, before and after the noted one.
    gone: Vec<ReceiptHash>,
    missing: Vec<ReceiptHash>,
    /// Key of the next receipt.
    kid: Option<String>,
}

impl Walk {
    fn new(holder: Holder, noted: Option<ReceiptHash>) -> Self {
        Self { holder, noted, noted_seen: noted.is_none(), last: None, gone: Vec::new(), missing: Vec::new(), kid: None }
    }

    /// Offset in the last segment behind which a writing may be unfinished: of the noted receipt, or the beginning when that
    /// stands in an earlier one. `None` when it is nowhere: then nothing can be said.
    fn safe(&self, receipts: &[(u64, Carried)]) -> Option<u64> {
        let Some(noted) = self.noted.filter(|_| !self.noted_seen) else { return Some(0) };
        let here = receipts.iter().find(|(_, carried)| carried.hash() == noted).map(|(offset, _)| *offset);
        let first = receipts.iter().find(|(_, carried)| carried.receipt().holder == self.holder);
        let before = self.last.is_none() && first.is_some_and(|(_, carried)| carried.receipt().log_prev == Some(noted));
        here.or(before.then_some(0))
    }

    /// The next receipt in the order of the log. `first_of_all`: nothing was ever before it.
    fn push(&mut self, carried: &Carried, first_of_all: bool) {
        let receipt = carried.receipt();
        if receipt.holder != self.holder {
            return;
        }
        // A walk that begins in the middle trusts what was closed before.
        let expected = match self.last {
            Some((_, hash)) => Some(hash),
            None if first_of_all => None,
            None => receipt.log_prev,
        };
        if self.last.is_none() && self.noted.is_some() && expected == self.noted {
            self.noted_seen = true;
        }
        if receipt.log_prev != expected {
            let gap = if self.noted_seen { &mut self.missing } else { &mut self.gone };
            gap.extend(receipt.log_prev);
        }
        match &receipt.statement {
            Statement::Recovery { missing } => {
                self.missing.retain(|hash| !missing.contains(hash));
                self.gone.retain(|hash| !missing.contains(hash));
                self.kid = Some(carried.kid().to_owned());
            }
            // The name of a key is the SHA-256 of its bytes.
            Statement::Key { new_key } => self.kid = Some(ReceiptHash::of(new_key).to_string()),
            _ => self.kid = Some(carried.kid().to_owned()),
        }
        self.noted_seen |= self.noted == Some(carried.hash());
        self.last = Some((receipt.id, carried.hash()));
    }
}

/// What [`Receipts::open`] works with.
pub struct Parts {
    /// Disk of the state folder.
    pub disk: Arc<dyn Disk>,
    /// Rows that find receipts go here.
    pub index: Arc<dyn Index>,
    /// This node.
    pub holder: Holder,
    /// The current key, and the next one if a rotation was begun.
    pub signers: Vec<Signer>,
    /// For receipt ids.
    pub random: Box<dyn RngCore + Send>,
    /// [`Receipts::logged_head`] as the spool last noted it durably.
    pub noted: Option<ReceiptHash>,
}

impl Receipts {
    /// Reads the log from where the index has it (or all, into an empty index) and cuts an unfinished end.
    /// `visit` sees every receipt that is read.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn open(parts: Parts, mut visit: impl FnMut(&Carried)) -> Result<Opened, ReceiptError> {
        let Parts { disk, index, holder, mut signers, random, noted } = parts;
        let mut findings = LogFindings::default();
        let mut walk = Walk::new(holder.clone(), noted);
        let segments = log::Segments::list(Arc::clone(&disk))?;
        let indexed = index.read(log::POSITION)?.and_then(|row| Place::read(&row));
        let start = indexed.and_then(|place| segments.position(place.segment)).unwrap_or(0);
        // The walk needs an own receipt to begin with: older segments are read until there is one.
        let mut from = start;
        while from > 0 {
            let segment = segments.read(from)?;
            if segment.receipts.iter().any(|(_, carried)| carried.receipt().holder == holder) {
                break;
            }
            from -= 1;
        }
        let mut log = Log::new(Arc::clone(&disk));
        for position in from..segments.count() {
            let mut segment = segments.read(position)?;
            let last = position + 1 == segments.count();
            if last {
                let safe = walk.safe(&segment.receipts);
                findings.cut_bytes = segments.mend(&mut segment, safe)?;
                log = segments.open_last(&segment)?;
            }
            segment.receipts.iter().for_each(|(_, carried)| walk.push(carried, from == 0));
            findings.broken_lines += segment.broken_lines;
            let mut rows = Vec::new();
            for (offset, carried) in &segment.receipts {
                findings.read += 1;
                visit(carried);
                rows.extend(log::rows_of(carried, Place::of(segment.first, *offset, carried)));
            }
            rows.push(log::position_row(segment.first, segment.good_bytes));
            index.apply(rows)?;
        }
        let strays = segments.strays()?;
        segments.sync()?;
        let wanted = walk.kid.as_deref().map_or(Some(0), |kid| signers.iter().position(|signer| signer.kid() == kid));
        let signer = match wanted.filter(|position| *position < signers.len()) {
            Some(position) => signers.swap_remove(position),
            None => return Err(ReceiptError::Key { kid: walk.kid.unwrap_or_else(|| "(any)".to_owned()) }),
        };
        findings.gone.clone_from(&walk.gone);
        let chain = Chain {
            signer,
            ids: Ids::default(),
            random,
            head: None,
            durable: None,
            logged: None,
            in_flight: VecDeque::new(),
            ready: VecDeque::new(),
            owed: HashSet::new(),
            missing: Vec::new(),
            broken: false,
            rotating: false,
        };
        let log = Mutex::new(Logged { log, unapplied: Vec::new() });
        let receipts = Self { disk, index, holder, chain: Mutex::new(chain), moved: Condvar::new(), log };
        Ok(Opened { receipts, walk, strays, findings })
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Logged> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who signs here.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The row of `trust.toml` that lets others verify what is signed here.
    pub fn public_key(&self) -> ReceiptKey {
        self.chain().signer.to_receipt_key(&self.holder)
    }

    /// Whether nothing is issued at present.
    pub fn is_broken(&self) -> bool {
        let chain = self.chain();
        chain.broken || chain.owed.len() >= OWED_MAX
    }

    /// Whether a receipt of ours was issued and does not stand in the log yet.
    pub fn owes(&self, hash: &ReceiptHash) -> bool {
        self.chain().owed.contains(hash)
    }

    /// The last receipt of ours in the log, when all before it are there too. Noted durably, it lets the next start tell a
    /// crash from a log that somebody shortened.
    pub fn logged_head(&self) -> Option<ReceiptHash> {
        self.chain().logged
    }

    /// Gives a statement its place in the chain and signs it. It must be settled, whatever happens.
    ///
    /// # Errors
    /// [`ReceiptError::Unsettled`].
    pub fn issue(&self, statement: Statement, at: Timestamp) -> Result<Carried, ReceiptError> {
        let mut chain = self.chain();
        while chain.rotating {
            chain = self.moved.wait(chain).unwrap_or_else(PoisonError::into_inner);
        }
        if chain.broken || chain.owed.len() >= OWED_MAX {
            return Err(ReceiptError::Unsettled);
        }
        let carried = chain.sign(&self.holder, statement, at);
        chain.head = Some(carried.hash());
        chain.owed.insert(carried.hash());
        chain.in_flight.push_back(Slot { carried: carried.clone(), durable: None });
        Ok(carried)
    }

    /// Says whether an issued receipt is durable where it was written. One that is unknown or settled stays as it is.
    pub fn settle(&self, hash: &ReceiptHash, durable: bool) {
        let mut chain = self.chain();
        let slot = chain.in_flight.iter_mut().find(|slot| slot.carried.hash() == *hash && slot.durable.is_none());
        let Some(slot) = slot else { return };
        slot.durable = Some(durable);
        if !durable {
            chain.broken = true;
            chain.owed.remove(hash);
        }
        while let Some(slot) = chain.in_flight.pop_front_if(|slot| slot.durable.is_some()) {
            if slot.durable == Some(true) {
                let prev = slot.carried.receipt().log_prev;
                if prev != chain.durable {
                    chain.missing.extend(prev);
                }
                chain.durable = Some(slot.carried.hash());
                chain.ready.push_back(slot.carried);
            }
        }
        self.moved.notify_all();
    }

    /// Writes what is settled into the log; returns when it is durable there. Concurrent calls share the work.
    ///
    /// # Errors
    /// [`ReceiptError::Disk`] or [`ReceiptError::Index`]; nothing is lost, the next call tries again.
    pub fn flush(&self) -> Result<(), ReceiptError> {
        let mut logged = self.log();
        self.apply(&mut logged)?;
        let batch: Vec<Carried> = self.chain().ready.iter().cloned().collect();
        if batch.is_empty() {
            return Ok(());
        }
        logged.unapplied = logged.log.append(&batch)?;
        {
            let mut chain = self.chain();
            for carried in &batch {
                chain.owed.remove(&carried.hash());
                chain.ready.pop_front();
            }
            let own = batch.iter().rfind(|carried| carried.receipt().holder == self.holder);
            if let (Some(own), false) = (own, chain.broken) {
                chain.logged = Some(own.hash());
            }
        }
        self.apply(&mut logged)
    }

    /// Gives the index the rows that it has not taken.
    fn apply(&self, logged: &mut Logged) -> Result<(), ReceiptError> {
        if !logged.unapplied.is_empty() {
            self.index.apply(logged.unapplied.clone())?;
            logged.unapplied.clear();
        }
        Ok(())
    }

    /// Makes receipts that live in the log alone (R2, R5) and returns when all are durable, by one sync. May wait for
    /// receipts in flight before them, each as long as one commit takes; blocks.
    ///
    /// # Errors
    /// [`ReceiptError`]; receipts may still reach the log later.
    pub fn say(&self, statements: Vec<Statement>, at: Timestamp) -> Result<Vec<Carried>, ReceiptError> {
        let mut said = Vec::with_capacity(statements.len());
        for statement in statements {
            let carried = self.issue(statement, at)?;
            self.settle(&carried.hash(), true);
            said.push(carried);
        }
        // The log has the chain's order: when the last has left the flight, so have those before it.
        if let Some(last) = said.last().map(Carried::hash) {
            let mut chain = self.chain();
            while chain.in_flight.iter().any(|slot| slot.carried.hash() == last) {
                chain = self.moved.wait(chain).unwrap_or_else(PoisonError::into_inner);
            }
            drop(chain);
            self.flush()?;
        }
        Ok(said)
    }

    /// Keeps receipts of others (R3, R4), verified by the caller; returns when they are durable. Those that are here
    /// already are left out.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn keep(&self, foreign: Vec<Carried>) -> Result<(), ReceiptError> {
        {
            // While this is held nothing goes from `ready` into the log: what failed to be written before still waits there.
            let mut logged = self.log();
            // What is in the log and in no row would be taken for new.
            self.apply(&mut logged)?;
            let mut waiting: HashSet<ReceiptHash> = self.chain().ready.iter().map(Carried::hash).collect();
            let mut new = Vec::with_capacity(foreign.len());
            for carried in foreign {
                let hash = carried.hash();
                if carried.receipt().holder != self.holder && self.place(&hash)?.is_none() && waiting.insert(hash) {
                    new.push(carried);
                }
            }
            self.chain().ready.extend(new);
        }
        self.flush()
    }

    /// Signs the next key with the current one and goes on under it; returns when the key record is durable. The file of
    /// the next key must be durable before ([`key::KeyFile::prepare`]). Whoever asks for a receipt meanwhile waits, so that
    /// none is signed by a key that the log does not know. Blocks.
    ///
    /// # Errors
    /// [`ReceiptError`]; then the current key stays.
    pub fn rotate(&self, next: Signer, at: Timestamp) -> Result<Carried, ReceiptError> {
        {
            let mut chain = self.chain();
            if chain.broken || chain.rotating {
                return Err(ReceiptError::Unsettled);
            }
            chain.rotating = true;
            while !chain.in_flight.is_empty() {
                chain = self.moved.wait(chain).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let record = self.flush().and_then(|()| self.log_alone(Statement::Key { new_key: next.public_key() }, at));
        let mut chain = self.chain();
        if record.is_ok() {
            chain.signer = next;
        }
        chain.rotating = false;
        self.moved.notify_all();
        record
    }

    /// Mends the chain after a failure, when all in flight is settled: gives the failed places again if nothing later
    /// became durable, logs a recovery record otherwise. What failed must be gone from the disk before. Nothing to do: Ok.
    ///
    /// # Errors
    /// [`ReceiptError`]; try again later.
    pub fn repair(&self, now: Timestamp) -> Result<(), ReceiptError> {
        self.flush()?;
        let missing = {
            let mut chain = self.chain();
            if !chain.broken || !chain.in_flight.is_empty() {
                return Ok(());
            }
            chain.head = chain.durable;
            std::mem::take(&mut chain.missing)
        };
        if !missing.is_empty()
            && let Err(error) = self.log_alone(Statement::Recovery { missing: missing.clone() }, now)
        {
            self.chain().missing = missing;
            return Err(error);
        }
        let mut chain = self.chain();
        chain.broken = false;
        chain.logged = chain.durable;
        Ok(())
    }

    /// Logs a receipt while nothing is in flight and nothing can be issued. Once it stands in the log it is the head, also if
    /// the index did not take its rows.
    fn log_alone(&self, statement: Statement, at: Timestamp) -> Result<Carried, ReceiptError> {
        let carried = {
            let mut chain = self.chain();
            let carried = chain.sign(&self.holder, statement, at);
            chain.ready.push_back(carried.clone());
            carried
        };
        let flushed = self.flush();
        // Not while a flush counts what it has taken from `ready`.
        let _log = self.log();
        let mut chain = self.chain();
        if let Some(at) = chain.ready.iter().position(|waiting| waiting.hash() == carried.hash()) {
            // It did not reach the log and is taken back; the next try makes another.
            chain.ready.remove(at);
            return Err(flushed.err().unwrap_or(ReceiptError::Unsettled));
        }
        chain.head = Some(carried.hash());
        chain.durable = chain.head;
        Ok(carried)
    }

    /// The receipt with that hash, ours or another's; `None` when it is not in the log.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn by_hash(&self, hash: &ReceiptHash) -> Result<Option<Carried>, ReceiptError> {
        self.place(hash)?.map(|place| self.at(place)).transpose()
    }

    /// All receipts of a study in the log, in order of id.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn of_study(&self, study_uid: &str) -> Result<Vec<Carried>, ReceiptError> {
        let prefix = [&b"c"[..], study_uid.as_bytes(), &[0]].concat();
        let end = [&b"c"[..], study_uid.as_bytes(), &[1]].concat();
        let mut from = prefix;
        let mut found = Vec::new();
        loop {
            let rows = self.index.scan(&from, &end, 1000)?;
            let Some((last, _)) = rows.last() else { return Ok(found) };
            from = [&last[..], &[0]].concat();
            for (_, row) in &rows {
                let place = Place::read(row).ok_or_else(|| IndexError("the row of a receipt cannot be read".to_owned()))?;
                found.push(self.at(place)?);
            }
        }
    }

    fn place(&self, hash: &ReceiptHash) -> Result<Option<Place>, ReceiptError> {
        Ok(self.index.read(&log::hash_key(hash))?.and_then(|row| Place::read(&row)))
    }

    fn at(&self, place: Place) -> Result<Carried, ReceiptError> {
        log::read_at(&*self.disk, place)
    }
}

impl Chain {
    fn sign(&mut self, holder: &Holder, statement: Statement, at: Timestamp) -> Carried {
        let mut random = [0; 10];
        self.random.fill_bytes(&mut random);
        let receipt = Receipt { id: self.ids.next(at, random), at, holder: holder.clone(), log_prev: self.head, statement };
        self.signer.sign(receipt)
    }
}

impl Opened {
    /// Whether the log has this receipt.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn has(&self, hash: &ReceiptHash) -> Result<bool, ReceiptError> {
        match self.findings.cut_bytes {
            0 => Ok(self.receipts.place(hash)?.is_some()),
            // Rows may point behind the cut.
            _ => Ok(self.receipts.by_hash(hash).is_ok_and(|found| found.is_some_and(|found| found.hash() == *hash))),
        }
    }

    /// Takes over the R1 that stand in durable object files and not in the log yet, closes gaps in the chain by one
    /// recovery record, and opens the log for new receipts. Returns when all that is durable.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn take_over(self, from_files: Vec<Carried>, now: Timestamp) -> Result<(Receipts, TakenOver), ReceiptError> {
        let mut new = Vec::new();
        let mut seen = HashSet::new();
        for carried in from_files.into_iter().chain(self.strays.iter().cloned()) {
            if seen.insert(carried.hash()) && !self.has(&carried.hash())? {
                new.push(carried);
            }
        }
        let Self { receipts, mut walk, findings, .. } = self;
        let logged = walk.last;
        new.sort_by_key(|carried| carried.receipt().id);
        new.iter().for_each(|carried| walk.push(carried, findings.read == 0));
        // Without what was noted as logged a gap is no trace of a crash: it stays open for everyone to see.
        let cut_short = !walk.noted_seen;
        let mut head = walk.last.map(|(_, hash)| hash);
        if cut_short && walk.last == logged {
            // The next receipt follows on what is gone, so that the log shows the break.
            head = walk.noted;
        }
        let missing = if cut_short { Vec::new() } else { walk.missing };
        let taken = TakenOver { receipts: new.len() as u64, missing: missing.clone(), cut_short };
        {
            let mut chain = receipts.chain();
            chain.ids = Ids::after(walk.last.map(|(id, _)| id));
            chain.head = head;
            chain.ready.extend(new);
            if !missing.is_empty() {
                let recovery = chain.sign(&receipts.holder, Statement::Recovery { missing }, now);
                chain.head = Some(recovery.hash());
                chain.ready.push_back(recovery);
            }
            chain.durable = chain.head;
            chain.logged = chain.head;
        }
        receipts.flush()?;
        Ok((receipts, taken))
    }
}

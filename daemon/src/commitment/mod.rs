//! Storage Commitment: a device asks whether its objects are safe here, and is told (PS3.4 Annex J).
//!
//! [`Commitments::accept`] keeps a request durably, [`Commitments::report`] decides each instance against the spool,
//! [`Commitments::answered`] takes what the device said to the report. The listener reports on the association of the
//! request; [`Commitments::run`] on one of our own ([`outbound`]), again and again, for what could not be reported there.
//! Whoever reports has a [`Ticket`].
//!
//! An instance is committed if an object with this UID and SOP class was handed over by the same inbound row and is durable
//! here, whatever its state: also quarantined (profile 01 §7.1), passed on, or given up with the centre's receipts. What
//! another row handed over under the same UID may be another object, and is no ground for success.
//!
//! # On disk
//! [`ledger`]. Nothing but the requests is kept: who is tried when is decided anew at a start.
//!
//! # Failure
//! After a crash every request that was answered with success and not reported is reported. A report may therefore come
//! twice. Where a row has no `commitment_address`, or a device does not want the report, the request is held: shown in
//! `status`, tried again at the next start, or when the device repeats it with the same Transaction UID.
//!
//! # Bounds
//! `[commitment]` of the configuration: instances of one request, requests of one row; as many held ones, of which the
//! oldest is given up. [`REPORTS_MAX`] reports at once, one for each row. Times: profile 03 §2.1 class `net`, §2.7, §4.7.
//!
//! # Standard
//! PS3.4 Annex J as SCP; profile 01 §7.1, 03 §4.7, 10 F01, F02, F16. What a request says of the completeness of a study
//! (01 §6.1 (b), D721): [`crate::completeness`].

pub mod ledger;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use idr_dimse::limits::Limits;
use idr_dimse::service::storage_commitment::{ActionInformation, EventInformation, FailureReason, Reference, data_set_bytes_max};
use idr_dimse::status::Status;
use idr_profile::outcome::{Class, Context, Outcome, Outcomes, Signal};
use idr_profile::xua::Trust;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Admitted;
use crate::config::{Config, TlsDemand};
use crate::outbound::{self, Target, Waits, report};
use crate::spool::disk::Disk;
use crate::spool::{Entry, Spool, SpoolError, State, Tenant};
use ledger::{Ledger, Request};

/// Reports on associations of our own at once.
pub const REPORTS_MAX: usize = 4;
/// Longest attempt to report on an association of our own.
const ATTEMPT_MAX: Duration = Duration::from_secs(600);
/// Pause of the worker after a fault of ours.
const AFTER_FAULT: Duration = Duration::from_secs(5);
/// Longest sleep of the worker.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Why a request is held.
const NO_ADDRESS: &str = "no commitment_address";
const NO_CONNECTION: &str = "no answer for too long";

/// Requests for storage commitment, from their answer to their report.
pub struct Commitments {
    config: Arc<Config>,
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger>,
    /// By name of the inbound row.
    targets: ArcSwap<Targets>,
    outcomes: Outcomes,
    clock: fn() -> Timestamp,
    random: Mutex<StdRng>,
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Default)]
struct Book {
    next: u64,
    leases: u64,
    requests: BTreeMap<u64, Waiting>,
    /// Rows whose device could not be reached: how often in a row, and when it is tried next.
    unreached: HashMap<String, (u32, Instant)>,
}

/// A request that is not reported.
struct Waiting {
    tenant: Tenant,
    inbound: String,
    transaction_uid: String,
    /// Of the references, to tell a repeated request from another one with its Transaction UID.
    digest: [u8; 32],
    /// Its age when it was taken or read, by the wall clock, and when that was: a clock that is set later changes no age.
    age: (Duration, Instant),
    failures: u32,
    /// Its file is; before that nothing is answered with success.
    durable: bool,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// With who has the ticket of this number.
    Leased(u64),
    /// For an association of our own, at this instant.
    Due(Instant),
    /// Until a start or a repeated request; for this reason.
    Held(&'static str),
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Device {
    /// Organisation of its inbound row.
    pub tenant: Tenant,
    /// Name of the row.
    pub inbound: String,
    /// Its AE title.
    pub calling_ae: String,
    /// The AE title that it called.
    pub called_ae: String,
}

impl From<&Admitted> for Device {
    fn from(admitted: &Admitted) -> Self {
        Self {
            tenant: admitted.tenant.clone(),
            inbound: admitted.row.name.clone(),
            calling_ae: admitted.calling_ae.clone(),
            called_ae: admitted.called_ae.clone(),
        }
    }
}

/// The right to report a request. Dropped without an answer, the request goes to the worker.
pub struct Ticket {
    commitments: Arc<Commitments>,
    id: u64,
    lease: u64,
}

impl Ticket {
    /// Whether both are for one request.
    pub fn is_for_that_of(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.commitments.give_back(self.id, self.lease);
    }
}

/// Why no report can be made. Carries no patient data.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The request cannot be read.
    #[error("the request cannot be read: {0}")]
    Ledger(#[from] std::io::Error),
    /// The spool cannot say what it has.
    #[error("the spool cannot be asked: {0}")]
    Spool(#[from] SpoolError),
    /// The program ends.
    #[error("stopping")]
    Stopped,
}

impl Commitments {
    /// What `check-config` checks: that every row that is reported to over TLS has what it needs.
    ///
    /// # Errors
    /// The first problem, by key.
    pub fn check(config: &Config, trust: &Trust) -> anyhow::Result<()> {
        Targets::of(config, trust).map(drop)
    }

    /// Reports to these from now on; what was held for want of an address and has one now is due.
    pub fn reload(&self, targets: Targets) {
        let now = Instant::now();
        let mut book = self.book();
        for waiting in book.requests.values_mut().filter(|waiting| waiting.place == Place::Held(NO_ADDRESS)) {
            if targets.0.contains_key(&waiting.inbound) {
                waiting.place = Place::Due(now);
            }
        }
        drop(book);
        self.targets.store(Arc::new(targets));
        self.changed.notify_one();
    }

    /// Opens the ledger on `disk`. Blocks.
    ///
    /// # Errors
    /// The disk; as [`Commitments::check`].
    pub fn open(
        config: Arc<Config>,
        trust: &Trust,
        disk: Arc<dyn Disk>,
        spool: Arc<dyn Spool>,
        clock: fn() -> Timestamp,
    ) -> anyhow::Result<Arc<Self>> {
        let targets = Targets::of(&config, trust)?;
        let (ledger, requests, next) = Ledger::open(disk).context("commitments: the folder cannot be read")?;
        let now = Instant::now();
        let mut book = Book { next, ..Book::default() };
        for (id, request) in requests {
            let place = if targets.0.contains_key(&request.inbound) { Place::Due(now) } else { Place::Held(NO_ADDRESS) };
            book.requests.insert(id, Waiting::new(&request, place, clock()));
        }
        if !book.requests.is_empty() {
            tracing::info!(requests = book.requests.len(), "requests for storage commitment wait for their report");
        }
        Ok(Arc::new(Self {
            config,
            spool,
            ledger: Arc::new(ledger),
            targets: ArcSwap::from_pointee(targets),
            outcomes: Outcomes::base(),
            clock,
            random: Mutex::new(StdRng::from_os_rng()),
            book: Mutex::new(book),
            changed: Notify::new(),
        }))
    }

    /// Keeps a request; after it returned, success may be answered. The same request again, by the same row, gives a ticket
    /// for the one that is kept.
    ///
    /// # Errors
    /// The status of the N-ACTION-RSP: 0131H if the Transaction UID is in use for another list, 0213H if the row has too many
    /// requests without a report, 0110H if the request cannot be kept.
    pub async fn accept(self: &Arc<Self>, device: Device, information: ActionInformation) -> Result<Ticket, Status> {
        let ActionInformation { transaction_uid, references } = information;
        let references: Vec<(String, String)> = references.into_iter().map(|one| (one.sop_class_uid, one.sop_instance_uid)).collect();
        let Device { tenant, inbound, calling_ae, called_ae } = device;
        let request = Request::new(tenant, inbound, (calling_ae, called_ae), (self.clock)(), transaction_uid, references);
        let listed = request.references.len();
        let ticket = match self.enter(&request)? {
            Entered::Kept(ticket) => {
                tracing::info!(inbound = request.inbound, instances = listed, "storage commitment asked for again");
                return Ok(ticket);
            }
            Entered::New(ticket) => ticket,
        };
        let (ledger, id) = (self.ledger.clone(), ticket.id);
        let (inbound, kept) = (request.inbound.clone(), tokio::task::spawn_blocking(move || ledger.write(id, &request)).await);
        let kept = kept.unwrap_or_else(|_| Err(std::io::Error::other("the program ends")));
        if let Err(error) = kept {
            tracing::error!(cause = %error, inbound, "a request for storage commitment could not be kept; the device asks again");
            self.book().requests.remove(&id);
            return Err(Status::PROCESSING_FAILURE);
        }
        if let Some(waiting) = self.book().requests.get_mut(&id) {
            waiting.durable = true;
        }
        tracing::info!(inbound, instances = listed, "storage commitment asked for");
        Ok(ticket)
    }

    fn enter(self: &Arc<Self>, request: &Request) -> Result<Entered, Status> {
        let mut book = self.book();
        let same = |waiting: &Waiting| {
            waiting.tenant == request.tenant && waiting.inbound == request.inbound && waiting.transaction_uid == request.transaction_uid
        };
        book.leases += 1;
        let lease = book.leases;
        let ticket = |id| Ticket { commitments: self.clone(), id, lease };
        if let Some((id, waiting)) = book.requests.iter_mut().find(|(_, waiting)| same(waiting)) {
            if waiting.digest != digest(&request.references) || !waiting.durable {
                return Err(Status::DUPLICATE_TRANSACTION_UID);
            }
            // The association of the first time may be dead without our knowing: who asks now is told now.
            waiting.place = Place::Leased(lease);
            return Ok(Entered::Kept(ticket(*id)));
        }
        let open = |waiting: &&Waiting| waiting.inbound == request.inbound && !matches!(waiting.place, Place::Held(_));
        if book.requests.values().filter(open).count() >= self.config.commitment.requests_max {
            tracing::warn!(
                inbound = request.inbound,
                "too many requests for storage commitment without a report (commitment.requests_max)"
            );
            return Err(Status::RESOURCE_LIMITATION);
        }
        let id = book.next;
        book.next += 1;
        book.requests.insert(id, Waiting::new(request, Place::Leased(lease), (self.clock)()));
        Ok(Entered::New(ticket(id)))
    }

    /// Decides every instance of a request, by what is here now. Each is listed once.
    ///
    /// # Errors
    /// [`DecideError`]; then nothing is known, and nothing may be reported.
    pub async fn report(&self, ticket: &Ticket) -> Result<EventInformation, DecideError> {
        let (ledger, id) = (self.ledger.clone(), ticket.id);
        let request = tokio::task::spawn_blocking(move || ledger.read(id)).await.map_err(|_| DecideError::Stopped)??;
        let mut report = EventInformation { transaction_uid: request.transaction_uid.clone(), committed: Vec::new(), failed: Vec::new() };
        let mut seen = std::collections::HashSet::new();
        for (sop_class_uid, sop_instance_uid) in request.references.iter().filter(|reference| seen.insert(*reference)) {
            let reference = Reference { sop_class_uid: sop_class_uid.clone(), sop_instance_uid: sop_instance_uid.clone() };
            let entries = self.spool.handed_over(&request.tenant, &request.inbound, sop_instance_uid).await?;
            match self.decide(&entries, sop_class_uid).await {
                Ok(()) => report.committed.push(reference),
                Err(reason) => report.failed.push((reference, reason)),
            }
        }
        tracing::info!(
            inbound = request.inbound,
            committed = report.committed.len(),
            failed = report.failed.len(),
            "storage commitment decided"
        );
        Ok(report)
    }

    async fn decide(&self, entries: &[Entry], sop_class_uid: &str) -> Result<(), FailureReason> {
        if entries.is_empty() {
            return Err(FailureReason::NO_SUCH_OBJECT_INSTANCE);
        }
        let mut found = Err(FailureReason::CLASS_INSTANCE_CONFLICT);
        // Which of several the device means is not said: all must be here.
        for entry in entries.iter().filter(|entry| entry.record.announced.sop_class_uid == sop_class_uid) {
            found = Ok(());
            // Given up means that the centre holds it, with its receipts (profile 11 §2, R5).
            if entry.progress.state == State::Released {
                continue;
            }
            // The index is no proof: the file is, with its record and its whole length.
            if let Err(error) = self.spool.read(entry.id()).await {
                tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object that was accepted cannot be committed");
                return Err(FailureReason::PROCESSING_FAILURE);
            }
        }
        found
    }

    /// The device has answered a report (profile 03 §4.7).
    pub async fn answered(&self, ticket: Ticket, status: Status) {
        {
            let mut book = self.book();
            let inbound = book.requests.get(&ticket.id).map(|waiting| waiting.inbound.clone()).unwrap_or_default();
            book.unreached.remove(&inbound);
        }
        let decided = self.outcomes.decide(Signal::NEventReport(status.0), &Context::default());
        match decided.outcome {
            Outcome::Done => self.close(ticket.id, ticket.lease).await,
            Outcome::Retry(class) => self.again(&ticket, class, &format!("status {status}, row {}", decided.row)),
            _ => {
                let row = self.outcomes.explain(&decided.row).first().map_or("", |row| row.effect.as_ref());
                tracing::error!(%status, row = %decided.row, inbound = self.inbound(ticket.id), "the device does not take its storage commitment report: {row}");
                self.hold(ticket.id, ticket.lease, "refused by the device");
            }
        }
    }

    /// Whether a row can be reported to on an association of our own.
    pub fn has_address(&self, inbound: &str) -> bool {
        self.targets.load().0.contains_key(inbound)
    }

    /// Requests that wait for a report, and those that are held.
    pub fn totals(&self) -> (usize, usize) {
        let book = self.book();
        let held = book.requests.values().filter(|waiting| matches!(waiting.place, Place::Held(_))).count();
        (book.requests.len() - held, held)
    }

    /// Longest wait for the answer to a report on the association of the request.
    pub fn answer_wait(&self) -> Duration {
        Duration::from_secs(self.config.commitment.answer_seconds)
    }

    /// Most instances of one request.
    pub fn references_max(&self) -> usize {
        self.config.commitment.references_max
    }

    /// Most bytes of the data set of a request: two UIDs to a reference, and what devices put beside them.
    pub fn request_bytes_max(&self) -> usize {
        data_set_bytes_max(self.config.commitment.references_max)
    }

    /// Reports what could not be reported where it was asked for, until `stop` is cancelled. What is on its way then is
    /// reported again at the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut attempts: JoinSet<String> = JoinSet::new();
        let mut busy: Vec<String> = Vec::new();
        loop {
            while attempts.len() < REPORTS_MAX
                && let Some((ticket, inbound)) = self.due(&busy)
            {
                busy.push(inbound.clone());
                let commitments = self.clone();
                attempts.spawn(async move {
                    commitments.attempt(ticket, &inbound).await;
                    inbound
                });
            }
            let sleep = self.next_due(&busy).map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()).min(SLEEP_MAX));
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.changed.notified() => {}
                Some(ended) = attempts.join_next() => {
                    match ended {
                        Ok(inbound) => busy.retain(|row| *row != inbound),
                        // A fault of ours; it may come again at once.
                        Err(error) => {
                            tracing::error!(cause = %error, "a storage commitment report ended in a fault");
                            tokio::time::sleep(AFTER_FAULT).await;
                        }
                    }
                    if attempts.is_empty() {
                        busy.clear();
                    }
                }
                () = tokio::time::sleep(sleep), if attempts.len() < REPORTS_MAX => {}
            }
        }
        attempts.shutdown().await;
    }

    async fn attempt(self: &Arc<Self>, ticket: Ticket, inbound: &str) {
        let targets = self.targets.load_full();
        let Some(target) = targets.0.get(inbound) else { return };
        let calling = {
            let (ledger, id) = (self.ledger.clone(), ticket.id);
            let request = tokio::task::spawn_blocking(move || ledger.read(id)).await;
            request.map_err(std::io::Error::other).flatten().map(|request| (request.called_ae, request.calling_ae))
        };
        let (calling, target) = match calling {
            Ok((called, asked)) if target.ae_title.is_empty() => (called, Target { ae_title: asked, ..target.clone() }),
            Ok((called, _)) => (called, target.clone()),
            Err(error) => return self.again(&ticket, Class::Net, &error.to_string()),
        };
        let information = match self.report(&ticket).await {
            Ok(information) => information,
            Err(error) => return self.again(&ticket, Class::Net, &error.to_string()),
        };
        let limits = Limits { pdu_length_max: self.config.dimse.pdu_length_max, ..Limits::default() };
        let request = outbound::request(&calling, &target.ae_title);
        let delivering = report::deliver(&target, request, &information, limits, Waits::from(&self.outcomes.limits));
        match tokio::time::timeout(ATTEMPT_MAX, delivering).await {
            Ok(Ok(status)) => self.answered(ticket, status).await,
            Ok(Err(error)) => self.unreached(&ticket, &error.to_string()),
            Err(_) => self.unreached(&ticket, "the attempt took too long"),
        }
    }

    /// No answer: nothing else goes to this device before it is tried again, and then another of its requests first.
    fn unreached(&self, ticket: &Ticket, cause: &str) {
        let uniform = self.uniform();
        let mut book = self.book();
        let Some(inbound) = book.requests.get(&ticket.id).map(|waiting| waiting.inbound.clone()) else { return };
        let (failures, until) = book.unreached.entry(inbound).or_insert((0, Instant::now()));
        *until = Instant::now() + self.outcomes.delay_capped(Class::Net, *failures, uniform, self.outcomes.device_report.cap_s);
        *failures += 1;
        drop(book);
        self.later(ticket, Duration::ZERO, cause);
    }

    /// The longest due request of a row that is not busy, leased.
    fn due(self: &Arc<Self>, busy: &[String]) -> Option<(Ticket, String)> {
        let now = Instant::now();
        let mut book = self.book();
        let due = |waiting: &Waiting| book.due(waiting, busy).filter(|(next, _)| *next <= now).map(|(_, since)| since);
        let id = book.requests.iter().filter_map(|(id, waiting)| Some((due(waiting)?, *id))).min()?.1;
        book.leases += 1;
        let lease = book.leases;
        let waiting = book.requests.get_mut(&id)?;
        waiting.place = Place::Leased(lease);
        let inbound = waiting.inbound.clone();
        Some((Ticket { commitments: self.clone(), id, lease }, inbound))
    }

    fn next_due(&self, busy: &[String]) -> Option<Instant> {
        let book = self.book();
        book.requests.values().filter_map(|waiting| book.due(waiting, busy)).map(|(next, _)| next).min()
    }

    fn give_back(&self, id: u64, lease: u64) {
        let address = {
            let mut book = self.book();
            let Some(waiting) = book.requests.get_mut(&id).filter(|waiting| waiting.place == Place::Leased(lease)) else { return };
            let address = self.has_address(&waiting.inbound);
            if address {
                waiting.place = Place::Due(Instant::now());
            }
            address
        };
        match address {
            true => self.changed.notify_one(),
            false => {
                tracing::warn!(
                    inbound = self.inbound(id),
                    "a storage commitment report has nowhere to go: its row has no commitment_address"
                );
                self.hold(id, lease, NO_ADDRESS);
            }
        }
    }

    /// Tries this request again after the delay of a class.
    fn again(&self, ticket: &Ticket, class: Class, cause: &str) {
        let failures = self.book().requests.get(&ticket.id).map_or(0, |waiting| waiting.failures);
        self.later(ticket, self.outcomes.delay(class, failures, self.uniform()), cause);
    }

    fn uniform(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Tries this request again, unless that has gone on for too long (profile 03 §4.7).
    fn later(&self, ticket: &Ticket, delay: Duration, cause: &str) {
        let mut book = self.book();
        let Some(waiting) = book.requests.get_mut(&ticket.id).filter(|waiting| waiting.place == Place::Leased(ticket.lease)) else {
            return;
        };
        let (before, since) = waiting.age;
        let too_long = before + since.elapsed() > Duration::from_secs(self.outcomes.device_report.give_up_s);
        let address = self.has_address(&waiting.inbound);
        waiting.failures += 1;
        tracing::warn!(inbound = waiting.inbound, failures = waiting.failures, cause, "a storage commitment report was not taken");
        match (too_long, address) {
            (false, true) => {
                waiting.place = Place::Due(Instant::now() + delay);
                drop(book);
                self.changed.notify_one();
            }
            (too_long, _) => {
                drop(book);
                self.hold(ticket.id, ticket.lease, if too_long { NO_CONNECTION } else { NO_ADDRESS });
            }
        }
    }

    /// Holds a request, and gives up the oldest held one of its row when there are too many.
    fn hold(&self, id: u64, lease: u64, cause: &'static str) {
        let mut book = self.book();
        let Some(waiting) = book.requests.get_mut(&id).filter(|waiting| waiting.place == Place::Leased(lease)) else { return };
        waiting.place = Place::Held(cause);
        let inbound = waiting.inbound.clone();
        let held = |(_, waiting): &(&u64, &Waiting)| waiting.inbound == inbound && matches!(waiting.place, Place::Held(_));
        if book.requests.iter().filter(held).count() <= self.config.commitment.requests_max {
            return;
        }
        let Some(oldest) = book.requests.iter().find(held).map(|(id, _)| *id) else { return };
        book.requests.remove(&oldest);
        drop(book);
        tracing::warn!(inbound, "the oldest held request for storage commitment is given up; its device has had no report");
        if let Err(error) = self.ledger.remove(oldest) {
            tracing::warn!(cause = %error, "its file stays until the next start");
        }
    }

    /// The report was taken.
    async fn close(&self, id: u64, lease: u64) {
        // Whoever has asked again in the meantime is told again.
        let closed = {
            let mut book = self.book();
            let taken = book.requests.get(&id).is_some_and(|waiting| waiting.place == Place::Leased(lease));
            if taken { book.requests.remove(&id) } else { None }
        };
        if closed.is_none() {
            return;
        }
        let ledger = self.ledger.clone();
        let removed = tokio::task::spawn_blocking(move || ledger.remove(id)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(cause = %error, "the file of a reported request stays; it is reported again at the next start");
        }
        if let Some(waiting) = closed {
            tracing::info!(inbound = waiting.inbound, "storage commitment reported");
        }
    }

    fn inbound(&self, id: u64) -> String {
        self.book().requests.get(&id).map(|waiting| waiting.inbound.clone()).unwrap_or_default()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entered {
    New(Ticket),
    Kept(Ticket),
}

impl Book {
    /// When a request may be tried, and since when it waits; `None` if it does not wait for the worker, or its row is busy.
    fn due(&self, waiting: &Waiting, busy: &[String]) -> Option<(Instant, Instant)> {
        match waiting.place {
            Place::Due(at) if !busy.contains(&waiting.inbound) => {
                Some((self.unreached.get(&waiting.inbound).map_or(at, |(_, until)| at.max(*until)), at))
            }
            _ => None,
        }
    }
}

impl Waiting {
    fn new(request: &Request, place: Place, now: Timestamp) -> Self {
        let age = Duration::try_from(now.duration_since(request.received)).unwrap_or_default();
        Self {
            tenant: request.tenant.clone(),
            inbound: request.inbound.clone(),
            transaction_uid: request.transaction_uid.clone(),
            digest: digest(&request.references),
            age: (age, Instant::now()),
            failures: 0,
            durable: !matches!(place, Place::Leased(_)),
            place,
        }
    }
}

fn digest(references: &[(String, String)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (class, instance) in references {
        // No UID has a line feed.
        hash.update(format!("{class}\n{instance}\n"));
    }
    hash.finalize().into()
}

/// Where the rows are reported to, by name. An empty AE title stands for the one that asks.
pub struct Targets(HashMap<String, Target>);

impl Targets {
    /// Of these rows.
    ///
    /// # Errors
    /// As [`Commitments::check`].
    pub fn of(config: &Config, trust: &Trust) -> anyhow::Result<Self> {
        targets(config, trust).map(Self)
    }
}

fn targets(config: &Config, trust: &Trust) -> anyhow::Result<HashMap<String, Target>> {
    let mut client: Option<Arc<rustls::ClientConfig>> = None;
    let mut targets = HashMap::new();
    for (at, row) in config.inbound.iter().enumerate() {
        let Some(address) = row.commitment_address else { continue };
        let tls = match row.tls {
            TlsDemand::Optional => None,
            TlsDemand::Required | TlsDemand::Mutual => {
                let config = match &client {
                    Some(config) => config.clone(),
                    None => client
                        .insert(Arc::new(outbound::client_tls(config, trust).with_context(|| format!("inbound[{at}].commitment_address"))?))
                        .clone(),
                };
                Some((config, outbound::server_name(row.commitment_server_name.as_deref(), address).context("commitment_server_name")?))
            }
        };
        let ae_title = row.commitment_ae_title.clone().unwrap_or_default();
        targets.insert(row.name.clone(), Target { address, ae_title, tls, certificates: row.certificates.clone() });
    }
    Ok(targets)
}

#[cfg(test)]
mod tests;

//! Forwarding: instances to the centre, their commitment, and the manifest of each study.
//!
//! Three loops look at three queues of the spool. `queued` instances are sent by STOW-RS, or by C-STORE where the destination has
//! an [`Archive`], and become `sent` (R2); `sent` ones become `committed` when the centre's R3 is here, after C-STORE when storage
//! commitment has come besides; when every instance of a study is, its manifest is built
//! ([`revisions`]), sent by RAD-68 and the instances become `registered` (R4). They run beside each other, so that one
//! large object on a slow line delays no commitment and no manifest. Between them and the centre stands the seam
//! [`peer::Peer`]; what an answer means is [`idr_profile::outcome`], and nothing here decides it again. A fourth loop
//! looks at ages and clocks. Clock and random numbers are [`Parts`].
//!
//! # Failure
//! Every step may be repeated: the centre answers an identical instance or submission with success. A state is durable
//! before the next step starts, so a crash repeats at most the step in flight. A retry waits in the spool with its due
//! time, which the monotonic clock guards (`waits`); the breaker suspends the peer, never an item. A request that fails as a
//! whole is taken apart: each of its instances goes alone next time. A round that ends in an error gives back what it had claimed.
//!
//! # Bounds
//! Requests at once: the breaker's parallelism and `parallel_max`. Instances and bytes of a request: `batch_*_max`. Bytes a
//! second and times of day: `[wan]` (`pacing`).

mod ages;
mod archive;
mod associated;
mod clock;
pub mod credentials;
pub mod decisions;
mod gate;
mod https;
mod lanes;
mod lookup;
pub(crate) mod maps;
mod pacing;
mod pages;
pub mod peer;
pub mod priority;
mod probes;
pub mod reconcile;
mod register;
mod registration;
pub mod replay;
pub mod responsibility;
pub mod revisions;
#[cfg(test)]
mod simulation;
mod store;
mod storms;
#[cfg(test)]
mod tests;
mod waits;
mod watch;
mod withdrawal;

use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures::FutureExt as _;
use idr_host::files;
use idr_profile::outcome::{AgeAlarm, Class, Decided, Decider, Effect, Event, Outcome, Outcomes, Storm};
use idr_profile::receipt::{Carried, Verifier};
use idr_profile::rules::RuleSets;
use idr_profile::tls;
use idr_profile::xua::Trust;
use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, RngCore, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use archive::Archive;
pub use clock::{Clock, SystemClock};
pub use https::HttpsPeer;
pub use maps::{Described, Maps, describe, load_maps, read_header};

use crate::config::{Centre, Config};
use crate::receipts::Receipts;
use crate::spool::disk::Disk;
use crate::spool::files::Hop;
use crate::spool::{Cause, Entry, Lane, Move, Note, Progress, Seen, Spool, SpoolError, State, Study, Tenant, Verb};
use ages::Aging;
use associated::Ended;
use clock::{Drift, Level};
use credentials::{Bearing, Credentials};
use gate::{Breakers, Channel};
use lanes::Turns;
use pacing::{Pace, Plan};
use peer::Peer;
use probes::Probes;
use register::{Hold, Turn};
use registration::Missing;
use responsibility::Counters;
use revisions::Revisions;
use waits::{Memo, Wait, Waits};

/// How long an item may be in flight before another attempt may take it: longer than any request.
const LEASE: SignedDuration = SignedDuration::from_hours(2);
/// Pause of a loop when there was nothing to do.
const IDLE: Duration = Duration::from_millis(500);
/// Pause of a loop after a round that ended in an error of ours.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// Studies that are looked at for `queue list`, per tenant.
const HELD_MAX: usize = 10_000;
/// Bearings that are remembered.
const BEARINGS_MAX: usize = 4096;
/// Cause of what has failed for too long while the peer was well (03 §2.2.3).
const AGED: &str = "aged";
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

fn client_tls(centre: &Centre, trust: &Trust) -> anyhow::Result<(rustls::ClientConfig, [u8; 32])> {
    let chain = std::fs::read(&centre.certificate).with_context(|| format!("{}: cannot be read", centre.certificate.display()))?;
    let key = files::read_private(&centre.key)?;
    let own = tls::certificates(&chain, "centre.certificate")?;
    let config = tls::client(&chain, &key, &files::anchors(trust.tls_anchors()), &centre.pins, &[b"h2", b"http/1.1"])
        .with_context(|| format!("centre.certificate {}, centre.key {}", centre.certificate.display(), centre.key.display()))?;
    Ok((config, idr_ihe::assertion::sha256(&own[0])))
}

/// A queue of the spool, and the loop that looks at it.
#[derive(Debug, Clone, Copy)]
enum Queue {
    Instances,
    Commitments,
    Manifests,
}

/// What is remembered between rounds; all of it can be found again.
#[derive(Default)]
struct Memory {
    /// By study and calling AE title: another device of the same study may belong to another controller.
    bearings: HashMap<(Tenant, String, String), Bearing>,
    /// Studies with committed instances.
    agenda: HashMap<(Tenant, String), Turn>,
    /// Studies with committed instances that are urgent.
    urgent: HashSet<(Tenant, String)>,
    /// Studies whose pending revision was answered: no attempt of it can have arrived unseen.
    answered: HashSet<(Tenant, String)>,
    /// Studies whose revision was refused and that an operator has released.
    reconsider: HashSet<(Tenant, String)>,
    /// Receipts R4 that have not come.
    missing: Missing,
    /// Last answer, for `status`.
    last: Option<(Timestamp, String)>,
    /// A batch was refused as a whole: single instances until then; monotonic.
    split_until: Option<Duration>,
    /// Age alarm that was told.
    age_told: Option<AgeAlarm>,
    /// Age of the oldest.
    aging: Aging,
}

/// What speaks with the centre: exchanged as one, since a token is bound to the certificate of its connection.
pub struct Link {
    /// The centre.
    pub peer: Arc<dyn Peer>,
    /// Where instances go by C-STORE; none: to the centre by STOW-RS.
    pub archive: Option<Arc<Archive>>,
    /// Signs the assertions.
    pub credentials: Credentials,
    /// Receipt keys of the centre.
    pub centre_keys: Verifier,
}

impl Link {
    /// That by which instances leave.
    fn channel(&self) -> Channel {
        if self.archive.is_some() { Channel::Dimse } else { Channel::Stow }
    }

    /// Over HTTPS, with the keys and certificates that the configuration names; `None` without a centre.
    ///
    /// # Errors
    /// The first problem, with its file.
    pub fn load(config: &Config, trust: &Trust, now: fn() -> Timestamp) -> anyhow::Result<Option<Self>> {
        let Some(centre) = &config.centre else { return Ok(None) };
        let (tls, tls_sha256) = client_tls(centre, trust)?;
        Ok(Some(Self {
            peer: Arc::new(HttpsPeer::new(centre, tls, now, &Outcomes::base().limits)?),
            archive: Archive::load(config, centre, trust)?.map(Arc::new),
            credentials: Credentials::load(config, tls_sha256)?,
            centre_keys: Verifier::new(trust.receipt_keys())?,
        }))
    }
}

/// What a forwarder is made of.
pub struct Parts {
    /// Checked configuration.
    pub config: Arc<Config>,
    /// The centre's section of it.
    pub centre: Centre,
    /// Rule sets in force.
    pub rules: Arc<ArcSwap<RuleSets>>,
    /// Where the instances are.
    pub spool: Arc<dyn Spool>,
    /// Where receipts are kept and R2 is signed.
    pub receipts: Arc<Receipts>,
    /// How a study is described and whose it is.
    pub maps: Arc<Maps>,
    /// Whose instances.
    pub tenants: Vec<Tenant>,
    /// What speaks with the centre.
    pub link: Link,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// For back-off and message ids.
    pub random: Box<dyn RngCore + Send>,
    /// The state folder.
    pub disk: Arc<dyn Disk>,
    /// Where blocking work runs.
    pub hop: Hop,
}

/// The forwarder.
pub struct Forward {
    config: ArcSwap<Config>,
    peer_name: String,
    rules: Arc<ArcSwap<RuleSets>>,
    spool: Arc<dyn Spool>,
    receipts: Arc<Receipts>,
    link: ArcSwap<Link>,
    outcomes: Outcomes,
    maps: ArcSwap<Maps>,
    revisions: Revisions,
    hop: Hop,
    tenants: Vec<Tenant>,
    clock: Arc<dyn Clock>,
    random: Mutex<Box<dyn RngCore + Send>>,
    drift: Mutex<Drift>,
    breakers: Mutex<Breakers>,
    memory: Mutex<Memory>,
    waits: Mutex<Waits>,
    probes: Mutex<Probes>,
    /// What was answered, one after the other.
    storm: tokio::sync::Mutex<Storm>,
    pace: Arc<Pace>,
    /// Of requests with instances, and of manifests.
    turns: [Mutex<Turns>; 2],
    /// Instances under which associations ended.
    ended: Mutex<Ended>,
    /// A report of storage commitment has come.
    reported: Notify,
    /// What came of storage commitment, for monitors.
    pub counters: Counters,
    /// Held while the note of a missing R4 is read and written.
    r4: tokio::sync::Mutex<()>,
    wake: Notify,
    /// Of [`Forward::run`].
    stop: OnceLock<CancellationToken>,
    parallel_max: u32,
    batch_instances_max: usize,
    batch_bytes_max: u64,
}

impl Forward {
    /// What `check-config` checks: keys and certificates of the centre and of the assertion.
    ///
    /// # Errors
    /// The first problem, with its file.
    pub fn check(config: &Config) -> anyhow::Result<()> {
        load_maps(config)?;
        Link::load(config, &files::trust(&config.files.trust)?, idr_host::now).map(drop)
    }

    /// The forwarder of a site with a centre over HTTPS; `None` without one.
    ///
    /// # Errors
    /// As [`Forward::check`].
    #[expect(clippy::too_many_arguments, reason = "each is a part of the site that exists once")]
    pub fn start(
        config: Arc<Config>,
        rules: Arc<ArcSwap<RuleSets>>,
        spool: Arc<dyn Spool>,
        receipts: Arc<Receipts>,
        trust: &Trust,
        maps: Arc<Maps>,
        tenants: Vec<Tenant>,
        disk: Arc<dyn Disk>,
        now: fn() -> Timestamp,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let (Some(centre), Some(link)) = (config.centre.clone(), Link::load(&config, trust, now)?) else { return Ok(None) };
        Ok(Some(Arc::new(Self::new(Parts {
            link,
            clock: Arc::new(SystemClock::new(now)),
            random: Box::new(rand::rngs::StdRng::from_os_rng()),
            disk,
            hop: Hop::Blocking,
            config,
            centre,
            rules,
            spool,
            receipts,
            maps,
            tenants,
        }))))
    }

    /// A forwarder of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, centre, rules, spool, receipts, maps, tenants, link, clock, random, disk, hop } = parts;
        let outcomes = Outcomes::base();
        Self {
            peer_name: centre.name,
            revisions: Revisions::new(disk),
            hop,
            random: Mutex::new(random),
            drift: Mutex::default(),
            breakers: Mutex::new(Breakers::new(&outcomes)),
            memory: Mutex::default(),
            waits: Mutex::default(),
            probes: Mutex::default(),
            storm: tokio::sync::Mutex::default(),
            pace: Arc::new(Pace::new(Plan::new(config.wan.clone(), maps.zone.clone()), clock.clone())),
            turns: [(); 2].map(|()| Mutex::new(Turns::new(centre.urgent_in_a_row_max))),
            ended: Mutex::default(),
            reported: Notify::new(),
            counters: Counters::default(),
            r4: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            stop: OnceLock::new(),
            parallel_max: u32::try_from(centre.parallel_max).unwrap_or(u32::MAX),
            batch_instances_max: centre.batch_instances_max,
            batch_bytes_max: centre.batch_bytes_max,
            config: ArcSwap::new(config),
            rules,
            spool,
            receipts,
            link: ArcSwap::from_pointee(link),
            outcomes,
            maps: ArcSwap::new(maps),
            tenants,
            clock,
        }
    }

    /// Goes on with these; a request in flight ends with what it began with.
    pub fn reload(&self, config: Arc<Config>, maps: Arc<Maps>, link: Option<Link>) {
        self.pace.reload(Plan::new(config.wan.clone(), maps.zone.clone()));
        self.config.store(config);
        self.maps.store(maps);
        if let Some(link) = link {
            self.link.store(Arc::new(link));
            self.probe_at_once();
        }
        self.memory().bearings.clear();
        self.wake.notify_waiters();
    }

    /// Whether a receipt is the centre's, and holds by its keys of this moment.
    pub fn is_of_centre(&self, carried: &Carried) -> bool {
        self.link().centre_keys.verify(carried).is_ok()
    }

    fn link(&self) -> Arc<Link> {
        self.link.load_full()
    }

    /// Works until stopped. A request in flight is ended, not cut; of its round no other begins.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let stop = self.stop.get_or_init(|| stop).clone();
        tokio::join!(
            self.rounds(Queue::Instances, &stop),
            self.rounds(Queue::Commitments, &stop),
            self.rounds(Queue::Manifests, &stop),
            self.watch(&stop)
        );
    }

    async fn rounds(&self, queue: Queue, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let (mut busy, mut failed) = (false, false);
            for tenant in &self.tenants {
                // A fault ends its round and not the forwarder; what was claimed comes back with its lease.
                match AssertUnwindSafe(self.round(queue, tenant)).catch_unwind().await {
                    Ok(Ok(some)) => busy |= some,
                    Ok(Err(error)) => {
                        failed = true;
                        tracing::error!(?queue, cause = %error, remedy = error.remedy(), "a round of the forwarder did not end well; it is tried again");
                    }
                    Err(_) => {
                        failed = true;
                        tracing::error!(?queue, "a round of the forwarder ended by a fault; report it with the version of the program");
                    }
                }
            }
            let pause = match (failed, busy) {
                (true, _) => AFTER_ERROR,
                (false, true) => continue,
                (false, false) => IDLE,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified(), if !failed => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn stopping(&self) -> bool {
        self.stop.get().is_some_and(CancellationToken::is_cancelled)
    }

    /// One look at a queue. Says whether there was anything to do.
    async fn round(&self, queue: Queue, tenant: &Tenant) -> Result<bool, SpoolError> {
        match queue {
            Queue::Instances => self.send_round(tenant).await,
            Queue::Commitments => self.commit_round(tenant).await,
            Queue::Manifests => self.register_round(tenant).await,
        }
    }

    /// What `status` shows of the centre.
    pub fn status(&self) -> Value {
        let [stow, soap, dimse] = {
            let breakers = self.breakers();
            [Channel::Stow, Channel::Soap, Channel::Dimse].map(|channel| breakers.is_open(channel))
        };
        let archive = self.link().archive.clone();
        let custody = if archive.as_ref().is_none_or(|archive| archive.receipts) { "receipts" } else { "commitment-only" };
        let ahead = self.drift().ahead(self.clock.now(), self.clock.monotonic());
        let clock = self.clock_level() == Level::Stop;
        let allowed = self.pace.allowed();
        let (last, missing) = {
            let memory = self.memory();
            (memory.last.clone(), memory.missing.count())
        };
        json!({
            "configured": true, "suspended": {"stow": stow, "soap": soap, "dimse": dimse, "clock": clock},
            "driver": if archive.is_some() { "c-store" } else { "stow-rs" }, "custody": custody,
            "clock_offset_seconds": ahead.map(|ahead| ahead.as_secs_f64()), "receipts_missing": missing,
            "wan": {"open": allowed.open, "bytes_per_second": allowed.bytes_per_second},
            "last_answer": last.map(|(at, row)| json!({"at": at, "row": row})),
        })
    }

    /// Studies whose manifest waits for an operator, with the row that says why; of those with objects on their way.
    ///
    /// # Errors
    /// The spool.
    pub async fn held_manifests(&self) -> Result<Vec<(Study, String)>, SpoolError> {
        Ok(self.manifests_on_hold().await?.into_iter().map(|(study, hold)| (study, hold.row)).collect())
    }

    async fn manifests_on_hold(&self) -> Result<Vec<(Study, Hold)>, SpoolError> {
        let mut found = Vec::new();
        for tenant in &self.tenants {
            let mut looked_at = HashSet::new();
            for state in ["committed", "held", "sent", "quarantined"] {
                let mut after = None;
                while looked_at.len() < HELD_MAX {
                    let page = self.spool.in_state(tenant, state, after, 500).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.id());
                    for entry in page {
                        let study_uid = entry.record.facts.study_uid;
                        if !looked_at.insert(study_uid.clone()) {
                            continue;
                        }
                        let Some(study) = self.spool.study(tenant, &study_uid).await? else { continue };
                        if let Some(hold) = Hold::read(study.notes.get(register::HOLD)) {
                            found.push((study, hold));
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Ends the holds of a study and makes its items due now. What was sent and never got its R3 is sent again: the centre
    /// answers what it has with success (profile 03 §3.4).
    ///
    /// # Errors
    /// The spool.
    pub async fn release(&self, study_uid: &str) -> Result<usize, SpoolError> {
        let now = self.clock.now();
        let mut released = 0;
        for tenant in &self.tenants {
            let Some(study) = self.spool.study(tenant, study_uid).await? else { continue };
            let key = (tenant.clone(), study_uid.to_owned());
            // First of all: what is let go while it stands is held again.
            if let Some(hold) = Hold::read(study.notes.get(register::HOLD)) {
                self.note(tenant, study_uid, register::HOLD, None).await?;
                // Of a later revision, or of one that was not refused, it would drop an attempt that may still arrive.
                if study.notes.contains_key(register::PENDING) && hold.row != decisions::OPERATOR {
                    self.memory().reconsider.insert(key.clone());
                }
                released += 1;
            }
            let mut after = None;
            loop {
                let page = self.spool.members(tenant, study_uid, after, 500).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id());
                let waits = |entry: &&Entry| match &entry.progress.state {
                    State::Held(cause) => *cause != Cause::incomplete() && *cause != Maps::undetermined(),
                    state => *state == State::Sent,
                };
                let seen = |entry: &Entry| Seen { progress: entry.progress.clone(), go: queued(entry, now) };
                let moves: Vec<Seen> = page.iter().filter(waits).map(seen).collect();
                let asked = moves.len();
                released += asked - self.spool.advance_unchanged(moves).await?.len();
            }
            self.memory().agenda.insert(key, Turn::at(self.clock.monotonic()));
        }
        self.wake.notify_waiters();
        Ok(released)
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probes(&self) -> MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is among what a queue has to do.
    fn turn(&self, queue: Queue, urgent: bool, normal: bool) -> Option<Lane> {
        let turns = &self.turns[usize::from(matches!(queue, Queue::Manifests))];
        turns.lock().unwrap_or_else(PoisonError::into_inner).next(urgent, normal)
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drift(&self) -> MutexGuard<'_, Drift> {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uniform in 0 … 1.
    fn uniform(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    fn random(&self) -> [u8; 16] {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Keeps receipts of the centre; returns when they are durable.
    async fn keep(&self, foreign: Vec<Carried>) -> Result<(), SpoolError> {
        let receipts = self.receipts.clone();
        Ok(self.hop.run(move || receipts.keep(foreign)).await??)
    }

    /// Where an item goes after a decision on it; `None` if it stays where it is.
    fn next(&self, entry: &Entry, decided: &Decided, done: State, again: State, now: Timestamp) -> Option<Move> {
        let memo = Memo::read(entry.progress.memo.as_deref());
        let healthy = Duration::from_secs(memo.healthy_s) + self.waits().healthy_since(entry.id(), self.healthy());
        let mut aged = decided.clone();
        let is_aged = self.outcomes.age_out(&mut aged, healthy);
        let cause = if is_aged { cause_of(AGED) } else { cause_of(&decided.row) };
        let (state, memo) = match aged.outcome {
            Outcome::Done | Outcome::DoneDuplicate => (done, None),
            Outcome::Retry(class) => {
                let resends = decided.effects.iter().any(|effect| match effect {
                    Effect::Resend => true,
                    Effect::ResendWhenOld => healthy > Duration::from_secs(self.outcomes.ages.resend_after_s),
                    _ => false,
                });
                return Some(self.retry(entry, &decided.row, class, if resends { State::Queued } else { again }, now));
            }
            // Its age stays with it: the daily probe is one more attempt, and no new beginning.
            Outcome::Hold(_) if is_aged => (State::Held(cause), Memo { healthy_s: healthy.as_secs(), ..memo }.text()),
            Outcome::Hold(Decider::Operator | Decider::Study) => (State::Held(cause), None),
            Outcome::Quarantine => (State::Quarantined(cause), None),
            Outcome::Queued => return None,
            // The exchange is over and brought no answer (HTTP 1xx): to send again at once would have no end.
            Outcome::Continue | Outcome::Wait | Outcome::Ignored => return Some(self.retry(entry, &decided.row, Class::Net, again, now)),
        };
        self.waits().end(entry.id());
        // The age of an item counts from the state, not from the attempt (profile 03 §2.2).
        let since = if state == entry.progress.state { entry.progress.since } else { now };
        let progress =
            Progress { state, since, not_before: now, attempts: 0, outcome: Some(decided.row.to_string()), memo, ..entry.progress.clone() };
        if matches!(progress.state, State::Held(_) | State::Quarantined(_)) {
            let explained = self.outcomes.explain(&decided.row).first().map(|row| row.effect.clone());
            tracing::warn!(
                object = %entry.id(), study = %entry.record.facts.study_uid, row = %decided.row, state = %progress.state, effect = explained,
                "an item waits for a decision"
            );
        }
        Some(Move { id: entry.id(), to: progress })
    }

    /// An item waits for its next attempt.
    fn retry(&self, entry: &Entry, row: &Arc<str>, class: Class, again: State, now: Timestamp) -> Move {
        let memo = Memo::read(entry.progress.memo.as_deref());
        let failures = if memo.class == Some(class) { entry.progress.attempts } else { 0 };
        let delay = self.outcomes.delay(class, failures, self.uniform());
        let (monotonic, healthy, not_before) = (self.clock.monotonic(), self.healthy(), Self::not_before(now, delay));
        let mut waits = self.waits();
        let healthy_s = memo.healthy_s + waits.healthy_since(entry.id(), healthy).as_secs();
        let alone = memo.alone || waits.take_alone(entry.id());
        waits.begin(entry.id(), Wait { due: monotonic + delay, not_before, healthy }, monotonic);
        let progress = Progress {
            since: if again == entry.progress.state { entry.progress.since } else { now },
            state: again,
            not_before,
            attempts: failures + 1,
            outcome: Some(row.to_string()),
            memo: Memo { class: Some(class), healthy_s, alone }.text(),
            ..entry.progress.clone()
        };
        Move { id: entry.id(), to: progress }
    }

    /// Whether something has failed for too long while the peer was well (03 §2.2.3).
    fn is_too_old(&self, healthy: Duration) -> bool {
        healthy > Duration::from_secs(self.outcomes.ages.hold_after_s)
    }

    /// How long objects could be sent, since monotonic zero.
    fn healthy(&self) -> Duration {
        let now = self.clock.monotonic();
        self.breakers().healthy(self.link().channel(), now)
    }

    /// Whose data the requests about a study carry; `None` while the controller map has no row for it.
    async fn bearing(&self, tenant: &Tenant, entry: &Entry) -> Result<Option<Bearing>, SpoolError> {
        let key = (tenant.clone(), entry.record.facts.study_uid.clone(), entry.record.announced.calling_ae.clone());
        if let Some(bearing) = self.memory().bearings.get(&key) {
            // One study of two patients is held by the rules of stage T; until then each instance bears its own.
            if Some(&bearing.patient) == entry.record.facts.patient_id.as_ref() {
                return Ok(Some(bearing.clone()));
            }
        }
        let described = describe(self.spool.as_ref(), entry, &self.rules.load()).await?;
        let maps = self.maps.load_full();
        let (Some(row), Some(patient)) = (maps.controlled(entry, &described), entry.record.facts.patient_id.clone()) else {
            return Ok(None);
        };
        let bearing = Bearing::new(patient, row, described.service_event);
        let mut memory = self.memory();
        if memory.bearings.len() >= BEARINGS_MAX {
            memory.bearings.clear();
        }
        memory.bearings.insert(key, bearing.clone());
        Ok(Some(bearing))
    }

    async fn note(&self, tenant: &Tenant, study_uid: &str, name: &str, value: Option<String>) -> Result<(), SpoolError> {
        let note = Note { tenant: tenant.clone(), study_uid: study_uid.to_owned(), name: name.to_owned(), value };
        self.spool.note(note).await
    }
}

/// A row of the outcome table as the cause of a hold.
fn cause_of(row: &str) -> Cause {
    row.parse().unwrap_or_else(|_| "unknown".parse().expect("a word is a cause"))
}

/// The row of an object that could not be read (profile 03 §4.1): its file or the disk under it is at fault, which somebody has
/// to look at; a limit of the machine; or what no row names (03 §3.2), an index or a file system that is damaged.
fn unread(error: &SpoolError) -> Event {
    match error {
        SpoolError::Damaged { .. } => Event::SpoolRead,
        SpoolError::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(EIO) => {
            Event::SpoolRead
        }
        SpoolError::Disk { source, .. } => match Event::from_socket_error(source.kind(), source.raw_os_error()) {
            Event::LocalLimit => Event::LocalLimit,
            _ => Event::Unknown,
        },
        SpoolError::Full => Event::DiskFull,
        SpoolError::Stopped => Event::Stopping,
        _ => Event::Unknown,
    }
}

/// An item as it is when an operator or the map has released it.
fn queued(entry: &Entry, now: Timestamp) -> Move {
    // A hold that has ended is no decision about it any more.
    let decision = entry.progress.decision.clone().filter(|decision| decision.verb != Verb::Hold);
    let to = Progress { state: State::Queued, since: now, not_before: now, attempts: 0, memo: None, decision, ..entry.progress.clone() };
    Move { id: entry.id(), to }
}

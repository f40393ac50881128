//! Forwarding: instances to the centre, their commitment, and the manifest of each study.
//!
//! Three loops look at three queues of the spool. `queued` instances are sent by STOW-RS and become `sent` (R2); `sent`
//! ones become `committed` when the centre's R3 is here; when every instance of a study is, its manifest is built
//! ([`revisions`]), sent by RAD-68 and the instances become `registered` (R4). They run beside each other, so that one
//! large object on a slow line delays no commitment and no manifest. Between them and the centre stands the seam
//! [`peer::Peer`]; what an answer means is [`idr_profile::outcome`], and nothing here decides it again.
//!
//! # Failure
//! Every step may be repeated: the centre answers an identical instance or submission with success. A state is durable
//! before the next step starts, so a crash repeats at most the step in flight. A retry waits in the spool with its due
//! time; the breaker suspends the peer, never an item. A round that ends in an error gives back what it had claimed.
//!
//! # Bounds
//! Requests at once: the breaker's parallelism and `parallel_max`. Instances and bytes of a request: `batch_*_max`.

pub mod credentials;
mod https;
mod maps;
pub mod peer;
mod register;
pub mod revisions;
mod store;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures::FutureExt as _;
use idr_profile::outcome::{Admission, Breaker, BreakerChange, Class, Context, Decided, Decider, Event, Outcome, Outcomes, Signal};
use idr_profile::receipt::Verifier;
use idr_profile::rules::RuleSets;
use idr_profile::tls;
use idr_profile::xua::Trust;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use https::HttpsPeer;
pub use maps::{Described, Maps, describe, load_maps};

use crate::config::{Centre, Config};
use crate::receipts::Receipts;
use crate::spool::{Cause, Entry, Move, Note, Progress, Spool, SpoolError, State, Tenant};
use credentials::{Bearing, Credentials};
use peer::Peer;
use revisions::Revisions;

/// How long an item may be in flight before another attempt may take it: longer than any request.
const LEASE: SignedDuration = SignedDuration::from_hours(2);
/// Pause of a loop when there was nothing to do.
const IDLE: Duration = Duration::from_millis(500);
/// Pause of a loop after a round that ended in an error of ours.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// Bearings that are remembered.
const BEARINGS_MAX: usize = 4096;

/// Reads `trust.toml` and the certificate files that it names, from its own folder.
///
/// # Errors
/// The first problem.
pub fn load_trust(config: &Config) -> anyhow::Result<Trust> {
    let path = &config.files.trust;
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let trust = Trust::parse(&text, &mut |name| std::fs::read(folder.join(name))).with_context(|| path.display().to_string())?;
    Ok(trust)
}

/// Certificates of a trust list as rustls takes them.
pub fn anchors(list: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    list.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

fn client_tls(centre: &Centre, trust: &Trust) -> anyhow::Result<(rustls::ClientConfig, [u8; 32])> {
    let chain = std::fs::read(&centre.certificate).with_context(|| format!("{}: cannot be read", centre.certificate.display()))?;
    let key = crate::site::read_private(&centre.key)?;
    let own = tls::certificates(&chain, "centre.certificate")?;
    let config = tls::client(&chain, &key, &anchors(trust.tls_anchors()), &centre.pins, &[b"h2", b"http/1.1"])?;
    Ok((config, idr_ihe::assertion::sha256(&own[0])))
}

/// Channels with a breaker of their own (profile 03 §2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Stow,
    Soap,
}

/// A queue of the spool, and the loop that looks at it.
#[derive(Debug, Clone, Copy)]
enum Queue {
    Instances,
    Commitments,
    Manifests,
}

/// Breaker of a channel.
struct Gate {
    breaker: Breaker,
    /// Answers that it was told of.
    answers: u64,
}

struct Breakers {
    stow: Gate,
    soap: Gate,
}

impl Breakers {
    fn of(&mut self, channel: Channel) -> &mut Gate {
        match channel {
            Channel::Stow => &mut self.stow,
            Channel::Soap => &mut self.soap,
        }
    }
}

/// The right to make requests on a channel, for one round. A probe that brought no answer is given back at its end: without
/// that, a round that found nothing due, or failed before its request, would leave the breaker waiting for ever.
struct Pass<'a> {
    forward: &'a Forward,
    channel: Channel,
    /// Requests at once.
    parallel: u32,
    /// One request, and nothing else until its answer (profile 03 §2.4.3).
    probe: bool,
    /// [`Gate::answers`] when it was given.
    answers: u64,
}

impl Pass<'_> {
    /// Whether the next request may be made: the breaker may have opened since.
    fn holds(&self) -> bool {
        let now = self.forward.monotonic();
        let mut breakers = self.forward.breakers();
        let gate = breakers.of(self.channel);
        match gate.breaker.is_open() {
            true => self.probe && gate.answers == self.answers,
            // Of a closed one asking changes nothing. A Retry-After may have come meanwhile.
            false => matches!(gate.breaker.admit(now), Admission::Go { .. }),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            // A row that is not counted: it changes nothing but a probe that nobody has answered.
            let untried = self.forward.outcomes.decide(Signal::Event(Event::BreakerOpen), &Context::default());
            let now = self.forward.monotonic();
            let _ = self.forward.breakers().of(self.channel).breaker.record(0, &untried, now, uniform(), &self.forward.outcomes);
        }
    }
}

/// What is remembered between rounds; all of it can be found again.
#[derive(Default)]
struct Memory {
    /// By study and calling AE title: another device of the same study may belong to another controller.
    bearings: HashMap<(Tenant, String, String), Bearing>,
    /// Studies with committed instances: when each is looked at next, and class and number of its consecutive failures.
    agenda: HashMap<(Tenant, String), (Timestamp, Class, u32)>,
    /// Studies whose revision was refused and that an operator has released.
    reconsider: HashSet<(Tenant, String)>,
    /// Last answer, for `status`.
    last: Option<(Timestamp, String)>,
    /// A batch was refused as a whole: single instances until then.
    split_until: Option<Instant>,
}

/// The forwarder.
pub struct Forward {
    config: Arc<Config>,
    rules: Arc<ArcSwap<RuleSets>>,
    spool: Arc<dyn Spool>,
    receipts: Arc<Receipts>,
    peer: Arc<dyn Peer>,
    outcomes: Outcomes,
    maps: Arc<Maps>,
    credentials: Credentials,
    centre_keys: Verifier,
    revisions: Revisions,
    tenants: Vec<Tenant>,
    clock: fn() -> Timestamp,
    started: Instant,
    breakers: Mutex<Breakers>,
    memory: Mutex<Memory>,
    wake: Notify,
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
        let Some(centre) = &config.centre else { return Ok(()) };
        let (_, sha256) = client_tls(centre, &load_trust(config)?)?;
        Credentials::load(config, sha256)?;
        Ok(())
    }

    /// The forwarder of a site with a centre; `None` without one.
    ///
    /// # Errors
    /// As [`Forward::check`].
    #[expect(clippy::too_many_arguments, reason = "each is a part of the site that exists once")]
    pub fn start(
        config: Arc<Config>,
        rules: Arc<ArcSwap<RuleSets>>,
        spool: Arc<dyn Spool>,
        receipts: Arc<Receipts>,
        trust: Arc<Trust>,
        maps: Arc<Maps>,
        tenants: Vec<Tenant>,
        clock: fn() -> Timestamp,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(centre) = config.centre.clone() else { return Ok(None) };
        let (tls, tls_sha256) = client_tls(&centre, &trust)?;
        let outcomes = Outcomes::base();
        let breaker = Breaker::new(&outcomes.breaker);
        Ok(Some(Arc::new(Self {
            peer: Arc::new(HttpsPeer::new(&centre, tls)?),
            credentials: Credentials::load(&config, tls_sha256)?,
            centre_keys: Verifier::new(trust.receipt_keys())?,
            revisions: Revisions::new(&config.storage.path),
            breakers: Mutex::new(Breakers { stow: Gate { breaker: breaker.clone(), answers: 0 }, soap: Gate { breaker, answers: 0 } }),
            memory: Mutex::default(),
            wake: Notify::new(),
            started: Instant::now(),
            parallel_max: u32::try_from(centre.parallel_max).unwrap_or(u32::MAX),
            batch_instances_max: centre.batch_instances_max,
            batch_bytes_max: centre.batch_bytes_max,
            config,
            rules,
            spool,
            receipts,
            outcomes,
            maps,
            tenants,
            clock,
        })))
    }

    /// Works until stopped. A round in flight is ended, not cut.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.rounds(Queue::Instances, &stop), self.rounds(Queue::Commitments, &stop), self.rounds(Queue::Manifests, &stop));
    }

    async fn rounds(&self, queue: Queue, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let (mut busy, mut failed) = (false, false);
            for tenant in &self.tenants {
                let round = async {
                    match queue {
                        Queue::Instances => self.send_round(tenant).await,
                        Queue::Commitments => self.commit_round(tenant).await,
                        Queue::Manifests => self.register_round(tenant).await,
                    }
                };
                // A fault ends its round and not the forwarder; what was claimed comes back with its lease.
                match AssertUnwindSafe(round).catch_unwind().await {
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

    /// What `status` shows of the centre.
    pub fn status(&self) -> Value {
        let (stow, soap) = {
            let breakers = self.breakers();
            (breakers.stow.breaker.is_open(), breakers.soap.breaker.is_open())
        };
        let last = self.memory().last.clone();
        json!({
            "configured": true, "suspended": {"stow": stow, "soap": soap},
            "last_answer": last.map(|(at, row)| json!({"at": at, "row": row})),
        })
    }

    /// Ends the holds of a study and makes its items due now.
    ///
    /// # Errors
    /// The spool.
    pub async fn release(&self, study_uid: &str) -> Result<usize, SpoolError> {
        let now = (self.clock)();
        let mut released = 0;
        for tenant in &self.tenants {
            let mut after = None;
            loop {
                let page = self.spool.members(tenant, study_uid, after, 500).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id());
                let held = |entry: &&Entry| matches!(&entry.progress.state, State::Held(cause) if *cause != Cause::incomplete() && *cause != Maps::undetermined());
                let moves: Vec<Move> = page.iter().filter(held).map(|entry| queued(entry, now)).collect();
                released += moves.len();
                if !moves.is_empty() {
                    self.spool.advance(moves).await?;
                }
            }
            let Some(study) = self.spool.study(tenant, study_uid).await? else { continue };
            let key = (tenant.clone(), study_uid.to_owned());
            if study.notes.contains_key(register::HOLD) {
                self.note(tenant, study_uid, register::HOLD, None).await?;
                self.memory().reconsider.insert(key.clone());
                released += 1;
            }
            self.memory().agenda.insert(key, (now, Class::Net, 0));
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

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    /// The right to make requests on a channel now; `None` while it is suspended.
    fn admitted(&self, channel: Channel) -> Option<Pass<'_>> {
        let now = self.monotonic();
        let mut breakers = self.breakers();
        let gate = breakers.of(channel);
        let (parallel, probe) = match gate.breaker.admit(now) {
            Admission::Go { parallel } => (parallel.min(self.parallel_max), false),
            Admission::Probe => (1, true),
            Admission::Wait { .. } => return None,
        };
        Some(Pass { forward: self, channel, parallel, probe, answers: gate.answers })
    }

    /// Tells the breaker of an attempt, the journal of a change, and `status` of the row.
    fn record(&self, channel: Channel, item: u64, decided: &Decided, retry_after: Option<&str>) {
        let (now, at) = (self.monotonic(), (self.clock)());
        let mut breakers = self.breakers();
        let Gate { breaker, answers } = breakers.of(channel);
        *answers += 1;
        if let Some(wait) = retry_after.and_then(|value| self.outcomes.retry_after.http(value, at)) {
            breaker.close_gate(now + self.outcomes.retry_after.gate(wait, uniform()));
        }
        let change = breaker.record(item, decided, now, uniform(), &self.outcomes);
        drop(breakers);
        self.memory().last = Some((at, decided.row.to_string()));
        match change {
            Some(BreakerChange::Opened { row, until, openings }) => tracing::warn!(
                ?channel, %row, openings, seconds = until.saturating_sub(now).as_secs(),
                "the centre is suspended; its items are safe here and wait; it is tried again by itself"
            ),
            Some(BreakerChange::Closed) => tracing::info!(?channel, "the centre works again"),
            None => {}
        }
    }

    /// Where an item goes after a decision on it; `None` if it stays where it is.
    fn next(&self, entry: &Entry, decided: &Decided, done: State, again: State, now: Timestamp) -> Option<Move> {
        let cause = || decided.row.parse().unwrap_or_else(|_| "unknown".parse().expect("a word is a cause"));
        let class = entry.progress.memo.as_deref();
        let (state, attempts, delay, memo) = match decided.outcome {
            Outcome::Done | Outcome::DoneDuplicate => (done, 0, Duration::ZERO, None),
            Outcome::Retry(next) => {
                let name = format!("{next:?}");
                let failures = if class == Some(name.as_str()) { entry.progress.attempts } else { 0 };
                (again, failures + 1, self.outcomes.delay(next, failures, uniform()), Some(name))
            }
            Outcome::Hold(Decider::Operator | Decider::Study) => (State::Held(cause()), 0, Duration::ZERO, None),
            Outcome::Quarantine => (State::Quarantined(cause()), 0, Duration::ZERO, None),
            Outcome::Queued | Outcome::Continue | Outcome::Wait | Outcome::Ignored => return None,
        };
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::ZERO);
        // The age of an item counts from the state, not from the attempt (profile 03 §2.2).
        let since = if state == entry.progress.state { entry.progress.since } else { now };
        let progress = Progress {
            state,
            since,
            not_before: now.checked_add(delay).unwrap_or(now),
            attempts,
            outcome: Some(decided.row.to_string()),
            memo,
            ..entry.progress.clone()
        };
        if matches!(progress.state, State::Held(_) | State::Quarantined(_)) {
            let explained = self.outcomes.explain(&decided.row).first().map(|row| row.effect.clone());
            tracing::warn!(object = %entry.id(), row = %decided.row, state = %progress.state, effect = explained, "an item waits for a decision");
        }
        Some(Move { id: entry.id(), to: progress })
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
        let (Some(row), Some(patient)) = (self.maps.controlled(entry, &described), entry.record.facts.patient_id.clone()) else {
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

/// An item as it is when an operator or the map has released it.
fn queued(entry: &Entry, now: Timestamp) -> Move {
    let to = Progress { state: State::Queued, since: now, not_before: now, attempts: 0, memo: None, ..entry.progress.clone() };
    Move { id: entry.id(), to }
}

fn uniform() -> f64 {
    use rand::Rng as _;
    rand::rng().random()
}

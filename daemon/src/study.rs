//! When a study is complete, and what happens then (profile 01 §6).
//!
//! A study waits as `held(incomplete)` until it has been quiet for `study_quiet_s`, all that devices listed of it is here
//! ([`crate::completeness`]), an operator releases it, or `study_force_h` have passed since its first instance. Then its waiting instances become `queued`. A later instance
//! comes in as `held(incomplete)` again and takes the same way; nothing that was queued goes back.
//!
//! Whose register a study belongs to is asked here too (D437, D438): without an answer of the controller map the study
//! stays held with that cause, and releases itself when the map has the row.
//!
//! # Failure
//! Everything is read from the spool: times of arrival stand in the records, a release by an operator in the journal. A
//! restart forgets nothing.
//!
//! A study that cannot be dealt with delays no other.
//!
//! # Bounds
//! One round looks at [`STUDIES_PER_ROUND`] studies, the longest quiet first; when there are more, the next round goes on
//! behind those that stayed. A study in which nothing could be moved rests for [`REST`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_profile::rules::RuleSets;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::completeness::Completeness;
use crate::config::Config;
use crate::forward::{self, Maps};
use crate::spool::{Cause, Entry, Move, Note, Progress, Spool, SpoolError, SpoolId, State, Study, Tenant};

/// Studies that one round looks at, per tenant.
pub const STUDIES_PER_ROUND: usize = 1000;
/// Instances of a study that are moved at once.
const PAGE: usize = 500;
/// Studies that are evaluated and have instances that wait for something else are left alone for so long.
pub const REST: SignedDuration = SignedDuration::from_secs(30);
/// Resting studies that are remembered.
const RESTING_MAX: usize = 100_000;
/// Name of the note of an operator's release; its value is the instant.
const RELEASED: &str = "released";

/// Looks after all studies of the spool.
pub struct Studies {
    config: ArcSwap<Config>,
    rules: Arc<ArcSwap<RuleSets>>,
    spool: Arc<dyn Spool>,
    tenants: Vec<Tenant>,
    maps: ArcSwap<Maps>,
    completeness: Arc<Completeness>,
    clock: fn() -> Timestamp,
    wake: Notify,
    memory: Mutex<Memory>,
}

/// What is remembered between rounds.
#[derive(Default)]
struct Memory {
    /// Last arrival of a study that rests, and until when.
    resting: HashMap<(Tenant, String), (Timestamp, Timestamp)>,
    /// Waiting studies that the next round passes by.
    passed: HashMap<Tenant, usize>,
}

/// Why a study is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complete {
    Quiet,
    Listed,
    Released,
    Forced,
}

impl Studies {
    /// Studies of these tenants.
    pub fn new(
        config: Arc<Config>,
        rules: Arc<ArcSwap<RuleSets>>,
        spool: Arc<dyn Spool>,
        tenants: Vec<Tenant>,
        maps: Arc<Maps>,
        completeness: Arc<Completeness>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let (config, maps) = (ArcSwap::new(config), ArcSwap::new(maps));
        Self { config, rules, spool, tenants, maps, completeness, clock, wake: Notify::new(), memory: Mutex::default() }
    }

    /// Goes on with these. Studies that rest are looked at again: the map may know them now.
    pub fn reload(&self, config: Arc<Config>, maps: Arc<Maps>) {
        self.config.store(config);
        self.maps.store(maps);
        self.memory().resting.clear();
        self.wake.notify_one();
    }

    /// Ends the wait of a study, and nothing else (profile 01 §6.1 c). Returns whether the study is here.
    ///
    /// # Errors
    /// The spool.
    pub async fn release(&self, study_uid: &str) -> Result<bool, SpoolError> {
        let mut found = false;
        for tenant in &self.tenants {
            let note = Note {
                tenant: tenant.clone(),
                study_uid: study_uid.to_owned(),
                name: RELEASED.to_owned(),
                value: Some((self.clock)().to_string()),
            };
            match self.spool.note(note).await {
                Ok(()) => {
                    found = true;
                    self.memory().resting.remove(&(tenant.clone(), study_uid.to_owned()));
                }
                Err(SpoolError::UnknownStudy) => {}
                Err(error) => return Err(error),
            }
        }
        self.wake.notify_one();
        Ok(found)
    }

    /// An instance of a study waits again: the study is looked at without its rest.
    pub fn again(&self, tenant: &Tenant, study_uid: &str) {
        self.memory().resting.remove(&(tenant.clone(), study_uid.to_owned()));
        self.wake.notify_one();
    }

    /// Rounds until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            for tenant in &self.tenants {
                if let Err(error) = self.round(tenant).await {
                    tracing::warn!(%tenant, cause = %error, remedy = error.remedy(), "studies could not be looked at; next round in 1 s");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn round(&self, tenant: &Tenant) -> Result<(), SpoolError> {
        let now = (self.clock)();
        let passed = self.memory().passed.get(tenant).copied().unwrap_or(0);
        let limit = passed.saturating_add(STUDIES_PER_ROUND);
        let mut waiting = self.spool.waiting(tenant, now, limit).await?;
        let more = waiting.len() >= limit;
        let mut stayed = passed;
        for study in waiting.split_off(passed.min(waiting.len())) {
            if !self.evaluate(&study, now).await {
                stayed += 1;
            }
        }
        self.memory().passed.insert(tenant.clone(), if more { stayed } else { 0 });
        Ok(())
    }

    /// Whether instances of a study were moved.
    async fn evaluate(&self, study: &Study, now: Timestamp) -> bool {
        let key = (study.tenant.clone(), study.study_uid.clone());
        if self.memory().resting.get(&key).is_some_and(|(arrival, until)| *arrival == study.last_arrival && *until > now) {
            return false;
        }
        let Some(why) = self.complete(study, now).await else { return false };
        let moved = self.queue(study, why, now).await.unwrap_or_else(|error| {
            tracing::warn!(tenant = %study.tenant, cause = %error, remedy = error.remedy(), "a study could not be evaluated; it is tried again");
            0
        });
        if moved == 0 {
            let mut memory = self.memory();
            if memory.resting.len() >= RESTING_MAX {
                memory.resting.clear();
            }
            memory.resting.insert(key, (study.last_arrival, now + REST));
        }
        moved > 0
    }

    async fn complete(&self, study: &Study, now: Timestamp) -> Option<Complete> {
        let rules = self.rules.load();
        let set = rules.in_force(&self.config.load().site.rule_sets, now)?;
        let parameters = set.rules_for(None).parameters();
        let since = |instant: Timestamp| now.duration_since(instant);
        let released = study.notes.get(RELEASED).and_then(|at| at.parse::<Timestamp>().ok());
        if released.is_some_and(|at| at >= study.last_arrival) {
            Some(Complete::Released)
        } else if since(study.last_arrival) >= SignedDuration::from_secs(i64::from(parameters.study_quiet_s)) {
            Some(Complete::Quiet)
        } else if since(study.first_arrival) >= SignedDuration::from_hours(i64::from(parameters.study_force_h)) {
            Some(Complete::Forced)
        } else {
            let settle = SignedDuration::from_secs(i64::from(parameters.listed_settle_s));
            self.completeness.of(study, settle, now).await.then_some(Complete::Listed)
        }
    }

    /// Lets go what waits for the study to be complete; says how many instances were moved.
    async fn queue(&self, study: &Study, why: Complete, now: Timestamp) -> Result<usize, SpoolError> {
        let mut after: Option<SpoolId> = None;
        let mut decided: HashMap<String, State> = HashMap::new();
        let mut moved = 0_usize;
        loop {
            let members = self.spool.members(&study.tenant, &study.study_uid, after, PAGE).await?;
            let Some(last) = members.last() else { break };
            after = Some(last.id());
            let mut moves: Vec<Move> = Vec::new();
            for entry in &members {
                moves.extend(self.next(entry, &mut decided, now).await?);
            }
            if !moves.is_empty() {
                moved += moves.len();
                self.spool.advance(moves).await?;
            }
        }
        if moved > 0 {
            tracing::info!(tenant = %study.tenant, instances = moved, ?why, "a study was evaluated and moved on");
        }
        Ok(moved)
    }

    /// The next state of a waiting instance; `None` if it stays as it is. One instance of each AE title is asked whose the
    /// study is; the others follow it.
    async fn next(&self, entry: &Entry, decided: &mut HashMap<String, State>, now: Timestamp) -> Result<Option<Move>, SpoolError> {
        let State::Held(cause) = &entry.progress.state else { return Ok(None) };
        // Other causes (an operator's hold, an outcome of the forwarder) are not ours to end.
        if *cause != Cause::incomplete() && *cause != Maps::undetermined() {
            return Ok(None);
        }
        let calling_ae = &entry.record.announced.calling_ae;
        let to = match decided.get(calling_ae) {
            // Without a patient no request about it can be made.
            _ if entry.record.facts.patient_id.is_none() => State::Held(Maps::undetermined()),
            Some(state) => state.clone(),
            None => match forward::describe(self.spool.as_ref(), entry, &self.rules.load()).await {
                Ok(described) => {
                    let state = match self.maps.load().controlled(entry, &described) {
                        Some(_) => State::Queued,
                        None => State::Held(Maps::undetermined()),
                    };
                    decided.insert(calling_ae.clone(), state.clone());
                    state
                }
                // It says nothing of the others. The forwarder meets the same and deals with it by the row of that fault.
                Err(error @ (SpoolError::Damaged { .. } | SpoolError::Disk { .. })) => {
                    tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object cannot be read; the others go on");
                    State::Queued
                }
                Err(error) => return Err(error),
            },
        };
        if to == entry.progress.state {
            return Ok(None);
        }
        let to = Progress { state: to, since: now, not_before: now, attempts: 0, ..entry.progress.clone() };
        Ok(Some(Move { id: entry.id(), to }))
    }
}

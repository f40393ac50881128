//! When a study is complete, and what happens then (profile 01 §6).
//!
//! A study waits as `held(incomplete)` until it has been quiet for `study_quiet_s`, all that devices listed of it is here
//! ([`crate::completeness`]), an operator releases it, or `study_force_h` have passed since its first instance. Then stage T judges
//! the set ([`stage_t`]) and its waiting instances become `queued`, `quarantined` or stay `held`. A later instance comes in as
//! `held(incomplete)` and the whole set is judged again; nothing that was sent comes back.
//!
//! What devices listed and have not sent `count_wait_s` later (D721) is found when a study is evaluated, and the study is evaluated
//! again for it when that time has come.
//!
//! A clock that is set while studies wait lets their waits begin anew (`steps`).
//!
//! Without an answer of the controller map (D437, D438) the study stays held with that cause, and releases itself when the map
//! has the row.
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

pub mod stage_t;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_profile::rules::{Parameters, RuleSets};
use jiff::{SignedDuration, Timestamp};
use steps::Steps;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::completeness::Completeness;
use crate::config::Config;
use crate::forward::Maps;
use stage_t::Moved;

use crate::spool::{Note, Spool, SpoolError, Study, Tenant};

/// Studies that one round looks at, per tenant.
pub const STUDIES_PER_ROUND: usize = 1000;
/// Instances of a study that are moved at once.
const PAGE: usize = 500;
/// Studies that are evaluated and have instances that wait for something else are left alone for so long.
pub const REST: SignedDuration = SignedDuration::from_secs(30);
/// How long one rests of which an instance is being sent that is to be moved.
const WHILE_SENDING: SignedDuration = SignedDuration::from_secs(2);
/// Resting studies that are remembered.
const RESTING_MAX: usize = 100_000;
/// Name of the note of an operator's release; its value is the instant.
const RELEASED: &str = "released";

/// Since the first time that it was asked.
fn since_start() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Looks after all studies of the spool.
pub struct Studies {
    config: ArcSwap<Config>,
    rules: Arc<ArcSwap<RuleSets>>,
    spool: Arc<dyn Spool>,
    tenants: Vec<Tenant>,
    maps: ArcSwap<Maps>,
    completeness: Arc<Completeness>,
    clock: fn() -> Timestamp,
    /// Since any fixed start.
    monotonic: fn() -> Duration,
    steps: Mutex<Steps>,
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
    /// Studies that are judged again when they are complete, although nothing of them may wait: all of it may be quarantined.
    again: BTreeSet<(Tenant, String)>,
    /// Quarantined objects were listed since the start or the last reload.
    begun: bool,
}

impl Memory {
    /// Studies of a tenant that are to be judged again and do not rest, for one round. Those that rest take no place.
    fn due_again(&self, tenant: &Tenant, now: Timestamp) -> Vec<String> {
        let rests = |key: &(Tenant, String)| self.resting.get(key).is_some_and(|(_, until)| *until > now);
        let due = self.again.iter().filter(|key| key.0 == *tenant && !rests(key));
        due.map(|(_, uid)| uid.clone()).take(STUDIES_PER_ROUND).collect()
    }
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
        let steps = Mutex::new(Steps::new(clock()));
        let (wake, memory) = (Notify::new(), Mutex::default());
        Self { config, rules, spool, tenants, maps, completeness, clock, monotonic: since_start, steps, wake, memory }
    }

    /// With a clock of a test.
    #[cfg(test)]
    pub(crate) fn with_monotonic(self, monotonic: fn() -> Duration) -> Self {
        Self { monotonic, ..self }
    }

    /// Goes on with these. Studies that rest and studies with quarantined objects are looked at again: map or rules may let them go
    /// now (profile 01 §7.4).
    pub fn reload(&self, config: Arc<Config>, maps: Arc<Maps>) {
        self.config.store(config);
        self.maps.store(maps);
        let mut memory = self.memory();
        memory.resting.clear();
        memory.begun = false;
        drop(memory);
        self.wake.notify_one();
    }

    /// Ends the wait of a study, and nothing else (profile 01 §6.1 c). Returns whether the study is here.
    ///
    /// # Errors
    /// The spool.
    pub async fn release(&self, study_uid: &str) -> Result<bool, SpoolError> {
        let mut found = false;
        for tenant in &self.tenants {
            // Of all that came so far, also by a clock that was set back since.
            let last = self.spool.study(tenant, study_uid).await?.map(|study| study.last_arrival);
            let at = Some((self.clock)()).max(last).map(|at| at.to_string());
            let note = Note { tenant: tenant.clone(), study_uid: study_uid.to_owned(), name: RELEASED.to_owned(), value: at };
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

    /// Something of a study was decided: it is judged again, without its rest.
    pub fn again(&self, tenant: &Tenant, study_uid: &str) {
        let key = (tenant.clone(), study_uid.to_owned());
        let mut memory = self.memory();
        memory.resting.remove(&key);
        memory.again.insert(key);
        drop(memory);
        self.wake.notify_one();
    }

    /// Studies with quarantined objects are judged again at a start: rules, code lists or decisions may have changed (profile 01
    /// §7.4). Those in which nothing has changed are told by their notes.
    async fn begin(&self, tenant: &Tenant) -> Result<(), SpoolError> {
        let mut after = None;
        loop {
            let page = self.spool.in_state(tenant, "quarantined", after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id());
            self.memory().again.extend(page.into_iter().map(|entry| (tenant.clone(), entry.record.facts.study_uid)));
        }
    }

    /// Once after a start or a reload.
    async fn begin_again(&self) {
        if std::mem::replace(&mut self.memory().begun, true) {
            return;
        }
        for tenant in &self.tenants {
            if let Err(error) = self.begin(tenant).await {
                tracing::error!(%tenant, cause = %error, remedy = error.remedy(), "quarantined objects cannot be listed; those of changed rules are judged at the next start");
            }
        }
    }

    /// Rounds until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            self.begin_again().await;
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

    pub(crate) async fn round(&self, tenant: &Tenant) -> Result<(), SpoolError> {
        let now = (self.clock)();
        self.look_at_clocks(now);
        let passed = self.memory().passed.get(tenant).copied().unwrap_or(0);
        let limit = passed.saturating_add(STUDIES_PER_ROUND);
        // Those too that came by a clock that was ahead.
        let mut waiting = self.spool.waiting(tenant, Timestamp::MAX, limit).await?;
        let more = waiting.len() >= limit;
        let mut stayed = passed;
        for study in waiting.split_off(passed.min(waiting.len())) {
            if !self.evaluate(&study, now).await {
                stayed += 1;
            }
        }
        self.memory().passed.insert(tenant.clone(), if more { stayed } else { 0 });
        self.count(tenant, now).await;
        let again = self.memory().due_again(tenant, now);
        for study_uid in again {
            let study = self.spool.study(tenant, &study_uid).await?;
            // What is still coming is judged as a whole when it is complete.
            if let Some(study) = &study
                && self.complete(study, now).await.is_none()
            {
                continue;
            }
            self.memory().again.remove(&(tenant.clone(), study_uid));
            if let Some(study) = study {
                self.evaluate(&study, now).await;
            }
        }
        Ok(())
    }

    fn look_at_clocks(&self, now: Timestamp) {
        if self.steps.lock().unwrap_or_else(PoisonError::into_inner).look(now, (self.monotonic)()) {
            tracing::warn!(%now, "the clock was set by more than a minute: the waits of all studies begin anew");
            self.memory().resting.clear();
        }
    }

    /// Has studies judged again of which something that was listed did not come in time (D721).
    async fn count(&self, tenant: &Tenant, now: Timestamp) {
        let Some(wait) = self.parameter(now, |parameters| parameters.count_wait_s) else { return };
        let then = now.checked_sub(SignedDuration::from_secs(i64::from(wait))).unwrap_or(Timestamp::MIN);
        let studies = self.completeness.overdue(tenant, then).await;
        let mut memory = self.memory();
        for study_uid in studies {
            let key = (tenant.clone(), study_uid);
            memory.resting.remove(&key);
            memory.again.insert(key);
        }
    }

    fn parameter<T>(&self, now: Timestamp, of: impl Fn(&Parameters) -> T) -> Option<T> {
        let rules = self.rules.load();
        rules.in_force(&self.config.load().site.rule_sets, now).map(|set| of(set.rules_for(None).parameters()))
    }

    /// Whether instances of a study were moved.
    async fn evaluate(&self, study: &Study, now: Timestamp) -> bool {
        let key = (study.tenant.clone(), study.study_uid.clone());
        if self.memory().resting.get(&key).is_some_and(|(arrival, until)| *arrival == study.last_arrival && *until > now) {
            return false;
        }
        let Some(why) = self.complete(study, now).await else { return false };
        let moved = self.evaluate_set(study, now).await.unwrap_or_else(|error| {
            // Nothing of it may wait, so that no round would find it by that.
            self.memory().again.insert(key.clone());
            tracing::warn!(tenant = %study.tenant, cause = %error, remedy = error.remedy(), "a study could not be evaluated; it is tried again");
            Moved::default()
        });
        if moved.undone {
            self.memory().again.insert(key.clone());
        }
        if moved.instances > 0 {
            tracing::info!(tenant = %study.tenant, instances = moved.instances, ?why, "a study was evaluated and moved on");
        } else {
            let mut memory = self.memory();
            if memory.resting.len() >= RESTING_MAX {
                memory.resting.clear();
            }
            let rest = if moved.undone { WHILE_SENDING } else { REST };
            memory.resting.insert(key, (study.last_arrival, now + rest));
        }
        moved.instances > 0
    }

    async fn complete(&self, study: &Study, now: Timestamp) -> Option<Complete> {
        let rules = self.rules.load();
        let set = rules.in_force(&self.config.load().site.rule_sets, now)?;
        let parameters = set.rules_for(None).parameters();
        let from = |instant: Timestamp| self.steps.lock().unwrap_or_else(PoisonError::into_inner).from(instant, now);
        let since = |instant: Timestamp| now.duration_since(from(instant));
        let released = study.notes.get(RELEASED).and_then(|at| at.parse::<Timestamp>().ok());
        if released.is_some_and(|at| at >= study.last_arrival) {
            Some(Complete::Released)
        } else if since(study.last_arrival) >= SignedDuration::from_secs(i64::from(parameters.study_quiet_s)) {
            Some(Complete::Quiet)
        } else if since(study.first_arrival) >= SignedDuration::from_hours(i64::from(parameters.study_force_h)) {
            Some(Complete::Forced)
        } else {
            let settle = SignedDuration::from_secs(i64::from(parameters.listed_settle_s));
            self.completeness.of(study, settle, now, from).await.then_some(Complete::Listed)
        }
    }
}

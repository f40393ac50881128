//! When a study is complete, and what happens then (profile 01 §6).
//!
//! A study waits as `held(incomplete)` until it has been quiet for `study_quiet_s`, an operator releases it, or
//! `study_force_h` have passed since its first instance. Then its waiting instances become `queued`. A later instance
//! comes in as `held(incomplete)` again and takes the same way; nothing that was queued goes back.
//!
//! Whose register a study belongs to is asked here too (D437, D438): without an answer of the controller map the study
//! stays held with that cause, and releases itself when the map has the row.
//!
//! # Failure
//! Everything is read from the spool: times of arrival stand in the records, a release by an operator in the journal. A
//! restart forgets nothing.
//!
//! # Bounds
//! One round looks at [`STUDIES_PER_ROUND`] studies; the longest quiet come first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_profile::rules::RuleSets;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::forward::{self, Maps};
use crate::spool::{Cause, Entry, Move, Note, Progress, Spool, SpoolError, SpoolId, State, Study, Tenant};

/// Studies that one round looks at, per tenant.
pub const STUDIES_PER_ROUND: usize = 1000;
/// Instances of a study that are moved at once.
const PAGE: usize = 500;
/// Name of the note of an operator's release; its value is the instant.
const RELEASED: &str = "released";

/// Looks after all studies of the spool.
pub struct Studies {
    config: Arc<Config>,
    rules: Arc<ArcSwap<RuleSets>>,
    spool: Arc<dyn Spool>,
    tenants: Vec<Tenant>,
    maps: Arc<Maps>,
    clock: fn() -> Timestamp,
    wake: Notify,
}

/// Why a study is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complete {
    Quiet,
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
        clock: fn() -> Timestamp,
    ) -> Self {
        Self { config, rules, spool, tenants, maps, clock, wake: Notify::new() }
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
                Ok(()) => found = true,
                Err(SpoolError::UnknownStudy) => {}
                Err(error) => return Err(error),
            }
        }
        self.wake.notify_one();
        Ok(found)
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

    async fn round(&self, tenant: &Tenant) -> Result<(), SpoolError> {
        let now = (self.clock)();
        for study in self.spool.waiting(tenant, now, STUDIES_PER_ROUND).await? {
            if let Some(why) = self.complete(&study, now) {
                self.queue(&study, why, now).await?;
            }
        }
        Ok(())
    }

    fn complete(&self, study: &Study, now: Timestamp) -> Option<Complete> {
        let rules = self.rules.load();
        let set = rules.in_force(&self.config.site.rule_sets, now)?;
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
            None
        }
    }

    async fn queue(&self, study: &Study, why: Complete, now: Timestamp) -> Result<(), SpoolError> {
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
        Ok(())
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
            Some(state) => state.clone(),
            None => {
                let described = forward::describe(self.spool.as_ref(), entry, &self.rules.load()).await?;
                let state = match self.maps.controlled(entry, &described) {
                    Some(_) => State::Queued,
                    None => State::Held(Maps::undetermined()),
                };
                decided.insert(calling_ae.clone(), state.clone());
                state
            }
        };
        if to == entry.progress.state {
            return Ok(None);
        }
        let to = Progress { state: to, since: now, not_before: now, attempts: 0, ..entry.progress.clone() };
        Ok(Some(Move { id: entry.id(), to }))
    }
}

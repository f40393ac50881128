//! What an operator decides about what is on its way: `queue hold` and `queue cancel` (profile 03 §6).
//!
//! A hold of a study is its note `hold` with who, when and why, and stops every step of it, also of what comes later, until
//! `queue release`. What is queued becomes `held(operator)`; what was sent still gets its receipt, and stands in no manifest before.
//! A hold of an object is its state and its [`Decision`] alone. A cancelled object is `rejected`: kept, and never sent. Nothing
//! here deletes anything.
//!
//! # Failure
//! What was decided stands in the journal before it is answered. The same decision again changes nothing. A request that is under
//! way is not cut: what is in it is not cancelled, and if it is held meanwhile, stays held whatever the centre answers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use idr_profile::digest::Digest;
use idr_profile::receipt::Statement;
use serde::Serialize;

use super::register::{HOLD, Hold};
use super::{Forward, Maps, queued};
use crate::receipts::ReceiptError;
use crate::spool::{Cause, Decision, Entry, Progress, Seen, SpoolError, SpoolId, State, Tenant, Verb};
use crate::study::stage_t;

/// Row of the note and cause of the objects: words that no table has.
pub(super) const OPERATOR: &str = "operator";
/// Members of a study that are moved at once.
const PAGE: usize = 500;
// A note has room for 256 bytes: this stands before the reason.
const _: () = assert!("operator study 2026-01-15T06:00:00Z 4294967295 ".len() + crate::spool::record::REASON_BYTES_MAX <= 256);

/// What became of a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Objects for which it holds now.
    pub decided: u64,
    /// Objects for which it does not hold, by the reason.
    pub refused: BTreeMap<String, u64>,
}

impl Outcome {
    fn refuse(&mut self, why: impl Into<String>) {
        *self.refused.entry(why.into()).or_default() += 1;
    }
}

fn operator() -> Cause {
    OPERATOR.parse().expect("a word is a cause")
}

/// It ends with `queue release`; other causes end when what they wait for comes.
fn is_let_go(cause: &Cause) -> bool {
    *cause != Cause::incomplete() && *cause != Maps::undetermined() && !stage_t::is_ours(cause)
}

fn moved(entry: &Entry, state: State, decision: &Decision) -> Seen {
    let at = decision.at;
    let decision = Some(decision.clone());
    Seen::new(entry, Progress { state, since: at, not_before: at, attempts: 0, memo: None, decision, ..entry.progress.clone() })
}

/// Where a decision leads from a state; `None`: it holds there. What it does not hold for is said in words.
fn next(entry: &Entry, decision: &Decision) -> Result<Option<State>, String> {
    let was = entry.progress.decision.as_ref().is_some_and(|before| before.verb == decision.verb);
    match (&entry.progress.state, decision.verb) {
        (State::Queued | State::Sending, Verb::Hold) => Ok(Some(State::Held(operator()))),
        (State::Held(cause), Verb::Hold) if *cause == operator() => Ok(None),
        (State::Held(cause), Verb::Hold) if is_let_go(cause) => Ok(Some(State::Held(operator()))),
        (State::Queued | State::Sending | State::Held(_), Verb::Cancel) => Ok(Some(State::Rejected)),
        (State::Rejected, Verb::Cancel) if was => Ok(None),
        (State::Held(_), _) => Err("it waits for its study or its controller: hold the study".to_owned()),
        (State::Quarantined(_), _) => Err("it is in quarantine, where `idr-site quarantine` decides about it".to_owned()),
        (State::Sent | State::Committed | State::Registered | State::Released, Verb::Cancel) => {
            Err(format!("it is {}: the centre has it, and a correction or rejection note takes it out there", entry.progress.state.name()))
        }
        (state, _) => Err(format!("it is {}", state.name())),
    }
}

impl Forward {
    /// Holds or cancels an object, or the objects of a study. `None`: there is no such object or study here.
    ///
    /// # Errors
    /// The reason cannot be kept; the spool, then what was decided before it stands.
    pub async fn decide(&self, target: &str, decision: &Decision) -> Result<Option<Outcome>, SpoolError> {
        decision.check()?;
        let mut outcome = None;
        if let Ok(id) = target.parse::<SpoolId>() {
            if let Some(entry) = self.spool.entry(id).await?.filter(|entry| self.tenants.contains(&entry.record.announced.tenant)) {
                self.decide_page(&[entry], decision, outcome.insert(Outcome::default())).await?;
            }
        } else {
            for tenant in &self.tenants {
                if self.spool.study(tenant, target).await?.is_some() {
                    self.decide_study(tenant, target, decision, outcome.get_or_insert_default()).await?;
                }
            }
        }
        if let Some(outcome) = &outcome {
            // The operator's own words stay in the journal of the spool: nobody can say what is in them.
            tracing::info!(target, user = decision.user, verb = ?decision.verb, objects = outcome.decided, refused = ?outcome.refused, "an operator decided about what is on its way");
        }
        self.wake.notify_waiters();
        Ok(outcome)
    }

    async fn decide_study(&self, tenant: &Tenant, study_uid: &str, decision: &Decision, outcome: &mut Outcome) -> Result<(), SpoolError> {
        if decision.verb == Verb::Hold {
            // First of all: what is queued after this is held when it is to be sent.
            let note = format!("{OPERATOR} study {:.0} {} {}", decision.at, decision.user, decision.reason);
            self.note(tenant, study_uid, HOLD, Some(note)).await?;
        }
        let mut after = None;
        loop {
            let mut page = self.spool.members(tenant, study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id());
            match decision.verb {
                // The note holds what waits for something else, and what was sent, as it is.
                Verb::Hold => {
                    outcome.decided += page.iter().filter(|entry| matches!(entry.progress.state, State::Held(_))).count() as u64;
                    page.retain(|entry| matches!(entry.progress.state, State::Queued | State::Sending));
                }
                _ => page.retain(|entry| !entry.progress.state.is_set_aside() || next(entry, decision).is_ok()),
            }
            self.decide_page(&page, decision, outcome).await?;
        }
    }

    async fn decide_page(&self, page: &[Entry], decision: &Decision, outcome: &mut Outcome) -> Result<(), SpoolError> {
        let mut moves = Vec::with_capacity(page.len());
        let handed = match decision.verb {
            Verb::Cancel => self.given(page).await?,
            _ => HashSet::new(),
        };
        for entry in page {
            if decision.verb == Verb::Cancel && self.waits().is_flying(entry.id()) {
                outcome.refuse("a request with it is under way: give the command again");
                continue;
            }
            match next(entry, decision) {
                Ok(Some(_)) if handed.contains(&(entry.record.announced.sop_instance_uid.clone(), entry.record.digest)) => {
                    outcome.refuse("the centre has had it: a correction or rejection note takes it out there");
                }
                Ok(Some(state)) => moves.push(moved(entry, state, decision)),
                Ok(None) => outcome.decided += 1,
                Err(why) => outcome.refuse(why),
            }
        }
        let asked = moves.len() as u64;
        let changed = self.spool.advance_unchanged(moves).await?.len() as u64;
        outcome.decided += asked - changed;
        for _ in 0..changed {
            outcome.refuse("it was moved meanwhile: give the command again");
        }
        Ok(())
    }

    /// What of the studies of these was given to the centre with success, whatever state it is in again: by SOP Instance UID and digest.
    async fn given(&self, page: &[Entry]) -> Result<HashSet<(String, Digest)>, SpoolError> {
        let studies: BTreeSet<String> = page.iter().map(|entry| entry.record.facts.study_uid.clone()).collect();
        let receipts = self.receipts.clone();
        let read = move || -> Result<_, ReceiptError> {
            let mut handed = HashSet::new();
            for study in &studies {
                for carried in receipts.of_study(study)? {
                    if let Statement::HandOver { object, .. } | Statement::Commit { object, .. } = &carried.receipt().statement {
                        handed.insert((object.sop_instance_uid.clone(), object.digest));
                    }
                }
            }
            Ok(handed)
        };
        Ok(self.hop.run(read).await??)
    }

    /// Lets an object go that is held by itself; whether it was. `None`: there is no such object here.
    ///
    /// # Errors
    /// The spool.
    pub async fn release_object(&self, id: SpoolId) -> Result<Option<Result<(), String>>, SpoolError> {
        let Some(entry) = self.spool.entry(id).await?.filter(|entry| self.tenants.contains(&entry.record.announced.tenant)) else {
            return Ok(None);
        };
        let (tenant, study_uid) = (&entry.record.announced.tenant, &entry.record.facts.study_uid);
        let study = self.spool.study(tenant, study_uid).await?;
        if Hold::read(study.as_ref().and_then(|study| study.notes.get(HOLD))).is_some_and(|hold| hold.of_study) {
            return Ok(Some(Err(format!("its study is held: `idr-site queue release {study_uid}`"))));
        }
        match &entry.progress.state {
            State::Held(cause) if is_let_go(cause) => {}
            state => return Ok(Some(Err(format!("it is {state}, and waits for no release")))),
        }
        let seen = Seen { go: queued(&entry, self.clock.now()), progress: entry.progress };
        let changed = self.spool.advance_unchanged(vec![seen]).await?;
        self.wake.notify_waiters();
        Ok(Some(if changed.is_empty() { Ok(()) } else { Err("it was moved meanwhile: give the command again".to_owned()) }))
    }

    /// Notes why nothing of a study, or no manifest of it, goes on. What an operator has held stays held for that.
    pub(super) async fn note_hold(&self, tenant: &Tenant, study_uid: &str, note: String) -> Result<(), SpoolError> {
        let study = self.spool.study(tenant, study_uid).await?;
        match Hold::read(study.as_ref().and_then(|study| study.notes.get(HOLD))) {
            Some(hold) if hold.row == OPERATOR => Ok(()),
            _ => self.note(tenant, study_uid, HOLD, Some(note)).await,
        }
    }
}

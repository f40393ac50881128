//! What an operator has sent again: `idr-site replay` (profile 11 §5, 02 §7 row 14).
//!
//! The centre is asked about the studies as by a reconciliation ([`super::reconcile`]), whatever `reconcile.auto` says, and what it does
//! not hold as it was handed over is queued again. With `republish` a study also gets a new revision of its manifest, made by the maps
//! and code lists that are in force now. Given twice, the second finds on its way what the first has queued; the centre takes what it
//! holds as it is.
//!
//! # On disk
//! A note of the study in the journal, `replayed`: when, by which user, and what for. `republish`: as of when its manifest is described
//! anew; every later revision is described as of then or later, so a site that is rebuilt makes the same one.

use std::path::Path;

use jiff::Timestamp;

use super::reconcile::{Findings, Which};
use super::register::{HOLD, PENDING, PUBLISHED};
use super::{Forward, queued};
use crate::spool::{Progress, Seen, SpoolError, State, Study, Tenant};

/// Name of the note that says who had a study sent again.
const REPLAYED: &str = "replayed";
/// Name of the note that says as of when a manifest is described anew.
const REPUBLISH: &str = "republish";

/// What was done.
#[derive(Debug, Default, serde::Serialize)]
pub struct Replayed {
    /// What the centre answered, and what was queued again.
    pub found: Findings,
    /// A new revision of the manifest is on its way.
    pub republished: bool,
}

impl Forward {
    /// Has sent again what the centre does not hold of some studies.
    ///
    /// # Errors
    /// There is no such study; nothing of it was handed over; it cannot be published anew, and why; why the question ended early.
    pub async fn replay(&self, which: Which<'_>, republish: bool, user: u32, folder: &Path) -> anyhow::Result<Replayed> {
        let mut replayed = Replayed::default();
        if let Which::Study(study_uid) = which {
            let mut known = false;
            for tenant in &self.tenants {
                let Some(study) = self.spool.study(tenant, study_uid).await? else { continue };
                known = true;
                let value = format!("{} by user {user}{}", self.clock.now(), if republish { ", published anew" } else { "" });
                self.note(tenant, study_uid, REPLAYED, Some(value)).await?;
                if republish {
                    self.republish(tenant, &study).await?;
                    replayed.republished = true;
                }
            }
            anyhow::ensure!(known, "no study {study_uid} is here");
        }
        tracing::info!(
            user,
            study = which.study(),
            since = which.since().map(tracing::field::display),
            republish,
            "an operator has sent again what the centre does not hold"
        );
        self.reconcile(which, true, folder, &mut replayed.found).await?;
        Ok(replayed)
    }

    /// Makes items of a study due that wait for their next try; how many.
    ///
    /// # Errors
    /// The spool.
    pub async fn retry_now(&self, study_uid: &str) -> Result<usize, SpoolError> {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let mut due = 0;
        for tenant in &self.tenants {
            let mut after = None;
            loop {
                let page = self.spool.members(tenant, study_uid, after, 500).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id());
                let waits = page.iter().filter(|entry| entry.progress.state == State::Queued && entry.progress.not_before > now);
                let moves: Vec<Seen> =
                    waits.map(|entry| Seen::new(entry, Progress { not_before: now, ..entry.progress.clone() })).collect();
                let asked = moves.len();
                due += asked - self.spool.advance_unchanged(moves).await?.len();
            }
            // Its manifest too, if that waits for its next try.
            if let Some(turn) = self.memory().agenda.get_mut(&(tenant.clone(), study_uid.to_owned())) {
                turn.due = turn.due.min(monotonic);
            }
        }
        self.wake.notify_waiters();
        Ok(due)
    }

    /// Has a study described anew. One instance goes to the centre again, which takes it as it is: by it the study is found again, also
    /// after a restart.
    async fn republish(&self, tenant: &Tenant, study: &Study) -> anyhow::Result<()> {
        let notes = &study.notes;
        anyhow::ensure!(notes.contains_key(PUBLISHED), "the study has no manifest at the centre");
        anyhow::ensure!(!notes.contains_key(PENDING), "a manifest of the study is on its way; try again when it is registered");
        anyhow::ensure!(!notes.contains_key(HOLD), "the study waits for a decision: `idr-site queue release {}`", study.study_uid);
        let mut after = None;
        let here = loop {
            let page = self.spool.members(tenant, &study.study_uid, after, 500).await?;
            let Some(last) = page.last() else {
                anyhow::bail!("no instance of its manifest is here any more");
            };
            after = Some(last.id());
            let here = |state: &State| matches!(state, State::Registered | State::Committed);
            if let Some(entry) = page.into_iter().find(|entry| here(&entry.progress.state) && !entry.progress.unlisted) {
                break entry;
            }
        };
        let now = self.clock.now();
        self.note(tenant, &study.study_uid, REPUBLISH, Some(now.to_string())).await?;
        let again = Seen { progress: here.progress.clone(), go: queued(&here, now) };
        match self.spool.advance_seen(vec![again]).await {
            // Whoever moved it meanwhile sends it or has it registered: the study is looked at either way.
            Ok(()) | Err(SpoolError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.wake.notify_waiters();
        Ok(())
    }
}

/// As of when an operator has had a study described anew.
pub(super) fn described_anew(study: &Study) -> Option<Timestamp> {
    study.notes.get(REPUBLISH)?.parse().ok()
}

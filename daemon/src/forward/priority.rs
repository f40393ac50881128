//! What an operator says of the priority of a study.
//!
//! It stands in a note of the study, with instant, user and reason, and in each of its objects that is on its way
//! ([`Progress::urgent`]): both in the journal, so that a restart or an index that is made again finds the same. What comes later
//! goes by the note, which also overrules the inbound row.
//!
//! # Failure
//! The note is durable before the first object is moved. What is not moved then, because it was moved by somebody else, is found
//! by the note when it is to be sent.

use jiff::Timestamp;

use super::Forward;
use crate::spool::record::{REASON_BYTES_MAX, check_reason};
use crate::spool::{Entry, Progress, Seen, SpoolError, State, Study, Tenant};

/// Name of the note: `urgent|normal <instant> <user> <reason>`.
const PRIORITY: &str = "priority";
const URGENT: &str = "urgent";
const NORMAL: &str = "normal";
/// Members of a study that are moved at once.
const PAGE: usize = 500;
// A note has room for 256 bytes: word, instant and user id stand before the reason.
const _: () = assert!("normal 2026-01-15T06:00:00Z 4294967295 ".len() + REASON_BYTES_MAX <= 256);

/// Whether an operator wants a study to be urgent; `None` if none has said.
pub(crate) fn wanted(study: &Study) -> Option<bool> {
    match study.notes.get(PRIORITY)?.split(' ').next()? {
        URGENT => Some(true),
        NORMAL => Some(false),
        _ => None,
    }
}

/// Who says it, when and why.
#[derive(Debug, Clone)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// User id, from the socket.
    pub user: u32,
    /// 1–[`REASON_BYTES_MAX`] bytes without control characters or patient data.
    pub reason: String,
}

impl Said {
    fn note(&self, urgent: bool) -> String {
        format!("{} {:.0} {} {}", if urgent { URGENT } else { NORMAL }, self.at, self.user, self.reason)
    }
}

/// It takes part in the queue, now or later.
fn is_on_its_way(state: &State) -> bool {
    !state.is_set_aside() && !matches!(state, State::Registered | State::Released)
}

/// In a lane, and as it is besides.
fn in_lane(entry: &Entry, urgent: bool) -> Seen {
    let state = if entry.progress.state == State::Sending { State::Queued } else { entry.progress.state.clone() };
    Seen::new(entry, Progress { urgent, state, ..entry.progress.clone() })
}

/// What an operator wants before others has waited long enough (03 §2.1: a decision of an operator begins anew).
fn wanted_now(mut seen: Seen, now: Timestamp) -> Seen {
    let to = &mut seen.go.to;
    if to.urgent && to.state == State::Queued {
        (to.not_before, to.attempts) = (to.not_before.min(now), 0);
    }
    seen
}

impl Forward {
    /// Puts a study into a lane; how many objects that are on their way are in it now. `None`: there is no such study here.
    ///
    /// # Errors
    /// The spool, or a reason that cannot be kept.
    pub async fn prioritise(&self, study_uid: &str, urgent: bool, said: &Said) -> Result<Option<u64>, SpoolError> {
        check_reason(&said.reason)?;
        let mut found = None;
        for tenant in &self.tenants {
            if self.spool.study(tenant, study_uid).await?.is_none() {
                continue;
            }
            self.note(tenant, study_uid, PRIORITY, Some(said.note(urgent))).await?;
            if !urgent {
                self.memory().urgent.remove(&(tenant.clone(), study_uid.to_owned()));
            }
            *found.get_or_insert(0) += self.put_in_lane(tenant, study_uid, urgent).await?;
            tracing::info!(%tenant, study = study_uid, user = said.user, urgent, "an operator set the priority of a study");
        }
        // A manifest that waits for its turn is found by the objects.
        self.wake.notify_waiters();
        Ok(found)
    }

    async fn put_in_lane(&self, tenant: &Tenant, study_uid: &str, urgent: bool) -> Result<u64, SpoolError> {
        let now = self.clock.now();
        let (mut objects, mut after) = (0, None);
        loop {
            let page = self.spool.members(tenant, study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            let on_their_way = || page.iter().filter(|entry| is_on_its_way(&entry.progress.state));
            objects += on_their_way().count() as u64;
            let others = on_their_way().filter(|entry| entry.progress.urgent != urgent || urgent && entry.progress.not_before > now);
            let moves: Vec<Seen> = others.map(|entry| wanted_now(in_lane(entry, urgent), now)).collect();
            let changed = self.spool.advance_unchanged(moves).await?;
            for id in changed {
                // Moved meanwhile: once more, as it is now. What then changes again is found by the note.
                if let Some(entry) = self.spool.entry(id).await?.filter(|entry| is_on_its_way(&entry.progress.state)) {
                    self.spool.advance_unchanged(vec![wanted_now(in_lane(&entry, urgent), now)]).await?;
                }
            }
        }
        Ok(objects)
    }

    /// Puts claimed objects into the lane that an operator wants for their study; whether they were in the other one, so that
    /// they are not to be sent now.
    pub(super) async fn settle_lane(&self, study: &Study, entries: &[Entry]) -> Result<bool, SpoolError> {
        let Some(urgent) = wanted(study) else { return Ok(false) };
        if entries.iter().all(|entry| entry.progress.urgent == urgent) {
            return Ok(false);
        }
        let mut moves = Vec::with_capacity(entries.len());
        for claimed in entries {
            let now = self.spool.entry(claimed.id()).await?;
            moves.extend(now.filter(|entry| is_on_its_way(&entry.progress.state)).map(|entry| in_lane(&entry, urgent)));
        }
        self.go(moves).await?;
        Ok(true)
    }

    /// Of what was claimed, what still is as it was claimed: an operator may have held or cancelled it, or put it into the other
    /// lane, while it waited for its request.
    pub(super) async fn still_claimed(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, SpoolError> {
        let mut left = Vec::with_capacity(entries.len());
        for entry in entries {
            if self.is_still_claimed(&entry).await? {
                left.push(entry);
            }
        }
        Ok(left)
    }

    pub(super) async fn is_still_claimed(&self, claimed: &Entry) -> Result<bool, SpoolError> {
        let now = self.spool.entry(claimed.id()).await?;
        let same = |now: &Entry| now.progress.state == State::Sending && now.progress.urgent == claimed.progress.urgent;
        Ok(now.as_ref().is_some_and(same))
    }
}

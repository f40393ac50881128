//! What follows when a correction is whole here: in which order its objects go to the centre (profile 01 §8.3).
//!
//! | originals at the centre | order, each step after the success of the one before |
//! |---|---|
//! | none | successors |
//! | some or all, successors in another study | rejection note; manifest of the old study without them, or withdrawn; successors |
//! | some or all, successors in the same study | successors; rejection note; then the manifest, which waits for both |
//!
//! What waits for its step is quarantined, with a cause of its own. A round looks every [`EVERY`] how far each correction has come;
//! nothing is remembered that is not read again from the spool.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::kept::{Kept, Phase};
use super::{Corrections, NOTE_CAUSE, PAGE, at_rest, cause_of, successors_waiting};
use crate::spool::{Progress, Seen, State};

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(2);

impl Corrections {
    /// Goes on with corrections until stopped: first what is held for none is let go, then those that a stop interrupted, then with those that follow.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if let Err(error) = self.let_strays_go().await {
            tracing::error!(cause = %error, "what a correction held that was not begun stays held: give its command, or start again");
        }
        let interrupted: Vec<Kept> = {
            let book = self.book.lock().await;
            book.0.values().filter(|kept| kept.phase == Phase::Replacing).cloned().collect()
        };
        for kept in interrupted {
            if stop.is_cancelled() {
                return;
            }
            match self.correct(kept.asked, kept.user, false).await {
                Ok(answer) if answer["refused"].as_array().is_some_and(|refused| !refused.is_empty()) => tracing::error!(
                    correction = kept.id,
                    "the rules reject what an interrupted correction would make now: give its command again to see which"
                ),
                Ok(_) => tracing::info!(correction = kept.id, "an interrupted correction went on"),
                Err(error) => tracing::error!(
                    correction = kept.id, cause = %error,
                    "an interrupted correction cannot go on: give its command again; nothing of it is forwarded"
                ),
            }
        }
        loop {
            self.round().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn round(&self) {
        let mut book = self.book.lock().await;
        let following: Vec<u64> = book.0.iter().filter(|(_, kept)| kept.phase == Phase::Following).map(|(number, _)| *number).collect();
        for number in following {
            let Some(kept) = book.0.get_mut(&number) else { continue };
            if let Err(error) = self.follow(number, kept).await {
                tracing::error!(correction = kept.id, cause = %error, "a correction cannot go on now; it is tried again");
            }
        }
    }

    /// Makes the steps that are due; says what it waits for.
    pub(super) async fn follow(&self, number: u64, kept: &mut Kept) -> anyhow::Result<Option<&'static str>> {
        let now = (self.ingress.clock)();
        let waits_for = if kept.notes.is_empty() {
            self.let_successors_go(kept, now).await?;
            None
        } else if kept.moves_study() {
            self.let_notes_go(kept, now).await?;
            if !self.are_at_centre(kept, kept.notes.keys()).await? {
                Some("the rejection note to be at the centre")
            } else if self.manifest_names_originals(kept).await? {
                Some("the manifest of the old study to be replaced or withdrawn")
            } else {
                self.let_successors_go(kept, now).await?;
                None
            }
        } else {
            self.let_successors_go(kept, now).await?;
            if self.are_at_centre(kept, kept.instances.values()).await? {
                self.let_notes_go(kept, now).await?;
                None
            } else {
                Some("the corrected instances to be at the centre")
            }
        };
        let phase = if waits_for.is_some() { Phase::Following } else { Phase::Done };
        if kept.phase != phase {
            let next = Kept { phase, ..kept.clone() };
            self.keep(number, &next).await?;
            *kept = next;
            if phase == Phase::Done {
                tracing::info!(correction = kept.id, "all of a correction is on its way");
                self.studies.again(&kept.tenant, &kept.corrected_study_uid);
            }
        }
        Ok(waits_for)
    }

    /// The published manifest still names an original, or another one is under way.
    async fn manifest_names_originals(&self, kept: &Kept) -> anyhow::Result<bool> {
        match &self.forward {
            Some(forward) => Ok(forward.names_set_aside(&kept.tenant, &kept.study_uid).await?),
            None => Ok(true),
        }
    }

    /// What somebody has rejected, or corrected again, is waited for no more.
    async fn are_at_centre(&self, kept: &Kept, uids: impl Iterator<Item = &String>) -> anyhow::Result<bool> {
        for uid in uids {
            let entries = self.spool().instances(&kept.tenant, uid).await?;
            let arrived = |state: &State| matches!(state, State::Committed | State::Registered | State::Released) || state.is_set_aside();
            if !entries.iter().any(|entry| arrived(&entry.progress.state)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The successors go on as any accepted object does.
    async fn let_successors_go(&self, kept: &Kept, now: Timestamp) -> anyhow::Result<()> {
        let config = self.ingress.in_force().config.clone();
        let mut moves = Vec::new();
        for entry in successors_waiting(self.spool(), kept).await? {
            let early = config.inbound.iter().any(|row| row.name == entry.record.announced.inbound && row.forward_early);
            let state = if early { State::Queued } else { State::Held(crate::spool::Cause::incomplete()) };
            moves.push(Seen::new(&entry, at_rest(&entry, state, now)));
        }
        for page in moves.chunks(PAGE) {
            self.spool().advance_seen(page.to_vec()).await?;
        }
        Ok(())
    }

    /// A note waits for no study to be complete.
    async fn let_notes_go(&self, kept: &Kept, now: Timestamp) -> anyhow::Result<()> {
        for uid in kept.notes.keys() {
            let entries = self.spool().instances(&kept.tenant, uid).await?;
            let waits = State::Quarantined(cause_of(NOTE_CAUSE));
            let moves: Vec<Seen> = entries
                .iter()
                .filter(|entry| entry.progress.state == waits)
                .map(|entry| Seen::new(entry, Progress { unlisted: true, ..at_rest(entry, State::Queued, now) }))
                .collect();
            if !moves.is_empty() {
                self.spool().advance_seen(moves).await?;
            }
        }
        Ok(())
    }
}

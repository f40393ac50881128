//! Storm guard (profile 03 §2.5): a peer that refuses every object for a fault of its own quarantines none.
//!
//! A refusal that names its rule is none of a storm: of our centre's answers by STOW-RS, one whose rule stands in a header
//! `Warning` (profile 08 §2).

use std::collections::HashSet;
use std::sync::Arc;

use idr_profile::outcome::{Answered, Class, Decided, InstanceResult, Outcome};
use sha2::{Digest as _, Sha256};

use super::gate::Channel;
use super::{Forward, cause_of};
use crate::spool::{Entry, Seen, SpoolError, SpoolId, State};

/// What a peer answered to the instances of one request, in the order sent.
pub(super) struct Results<'a> {
    pub entries: Vec<Entry>,
    pub decided: Vec<Decided>,
    pub results: &'a [InstanceResult],
    /// Rules that the answer names, as the last three digits of their statuses.
    pub rules: &'a [u16],
    pub retry_after: Option<&'a str>,
}

impl Forward {
    /// Moves instances by what was answered on each, but for those that a storm sends back: the breaker opens then, and the answer to
    /// the request as a whole says nothing.
    pub(super) async fn apply_results(&self, channel: Channel, of: Results<'_>, request: &Decided) -> Result<(), SpoolError> {
        let rules = &self.outcomes.storm;
        let monotonic = self.clock.monotonic();
        let first = of.entries.first().map_or(0, |entry| entry.id().0);
        // Held over the moves if there is anything to take back: what another request quarantines stands before it is asked for.
        let mut storm = self.storm.lock().await;
        let (mut back, mut row, mut begins) = (Vec::new(), None, false);
        let results = of.results.iter().copied().chain(std::iter::repeat(InstanceResult::Missing));
        for ((entry, decided), result) in of.entries.iter().zip(&of.decided).zip(results) {
            let status = if let InstanceResult::Failed(status) = result { status } else { 0 };
            let reasoned = of.rules.contains(&(status & 0x0FFF));
            let answered = Answered { item: entry.id().0, study: number(&entry.record.facts.study_uid), status, reasoned };
            if let Some(blow) = storm.record(answered, decided, monotonic, rules) {
                back.extend(blow.items);
                begins |= blow.begins;
                row = Some(decided.row.clone());
            }
        }
        match &row {
            Some(row) => self.suspend(channel, rules.class, row),
            None => self.record(channel, first, request, of.retry_after),
        }
        let guard = of.decided.iter().any(|decided| decided.outcome == Outcome::Quarantine).then_some(storm);
        let taken_back: HashSet<u64> = back.iter().copied().collect();
        let mut earlier: HashSet<u64> = taken_back.clone();
        let mut decided = Vec::with_capacity(of.entries.len());
        for (entry, of_entry) in of.entries.into_iter().zip(of.decided) {
            earlier.remove(&entry.id().0);
            let outcome = if taken_back.contains(&entry.id().0) { Outcome::Retry(rules.class) } else { of_entry.outcome };
            decided.push((entry, Decided { outcome, ..of_entry }));
        }
        self.apply(decided, State::Sent, State::Queued).await?;
        if let Some(row) = row {
            self.take_back(earlier, &row, rules.class).await?;
            if begins {
                tracing::error!(
                    peer = self.peer_name, %row, objects = taken_back.len(),
                    "peer refuses everything: it is suspended, its objects are queued again and safe here; ask the centre what is wrong"
                );
            }
        }
        drop(guard);
        Ok(())
    }

    /// What was quarantined before the storm was seen as one. What a person has decided about since stays.
    async fn take_back(&self, items: HashSet<u64>, row: &Arc<str>, class: Class) -> Result<(), SpoolError> {
        let (now, refused) = (self.clock.now(), State::Quarantined(cause_of(row)));
        let mut moves = Vec::new();
        for item in items {
            let Some(entry) = self.spool.entry(SpoolId(item)).await? else { continue };
            if entry.progress.state == refused && entry.progress.decision.is_none() {
                let again = self.retry(&entry, row, class, State::Queued, now);
                moves.push(Seen::new(&entry, again.to));
            }
        }
        if !moves.is_empty() {
            self.spool.advance_unchanged(moves).await?;
        }
        Ok(())
    }
}

/// A study as a number: two may share one, and then a storm is seen a study later.
fn number(study_uid: &str) -> u64 {
    let digest = Sha256::digest(study_uid);
    u64::from_be_bytes(digest[..8].try_into().expect("32 bytes"))
}

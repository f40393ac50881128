//! Storm guard (profile 03 §2.5): a peer that refuses every object for a fault of its own quarantines none.
//!
//! A refusal that names its rule is none of a storm: of our centre's answers by STOW-RS, one whose rule stands in a header
//! `Warning` (profile 08 §2), by C-STORE one whose Error Comment begins with it. By C-STORE the guard is told when an association
//! is over, so that a storm is seen no later than one batch after it began; while it blows, an association ends with its first answer.

use std::collections::HashSet;
use std::sync::Arc;

use idr_profile::outcome::{Answered, Class, Decided, InstanceResult, Outcome};
use sha2::{Digest as _, Sha256};

use super::gate::Channel;
use super::store::Way;
use super::{Forward, cause_of};
use crate::spool::{Entry, Progress, Seen, SpoolError, SpoolId, State};

/// What a peer answered to the instances of one request, in the order sent.
pub(super) struct Results<'a> {
    pub entries: Vec<Entry>,
    pub decided: Vec<Decided>,
    pub results: &'a [InstanceResult],
    /// Rules that the answer names, as the last three digits of their statuses.
    pub rules: &'a [u16],
    pub retry_after: Option<&'a str>,
}

/// What became of one instance.
pub(super) struct Met {
    pub entry: Entry,
    pub decided: Decided,
    /// Status, and whether the answer names a rule of the centre's; none: the peer has said nothing of it.
    pub said: Option<(u16, bool)>,
}

impl Forward {
    /// Moves instances by what was answered on each by STOW-RS, but for those that a storm sends back: the breaker opens then, and the
    /// answer to the request as a whole says nothing.
    pub(super) async fn apply_results(&self, channel: Channel, of: Results<'_>, request: &Decided) -> Result<(), SpoolError> {
        let first = of.entries.first().map_or(0, |entry| entry.id().0);
        let results = of.results.iter().copied().chain(std::iter::repeat(InstanceResult::Missing));
        let met = of.entries.into_iter().zip(of.decided).zip(results).map(|((entry, decided), result)| {
            let status = if let InstanceResult::Failed(status) = result { status } else { 0 };
            Met { entry, decided, said: Some((status, of.rules.contains(&(status & 0x0FFF)))) }
        });
        let way = Way { done: State::Sent, again: State::Queued, handed: true };
        let calm = || self.record(channel, first, request, of.retry_after);
        self.apply_met(channel, met.collect(), way, calm, |_, _| {}).await
    }

    /// Moves instances by what became of each, but for those that a storm sends back: the breaker opens then, else `calm` is called.
    /// `beside` as in [`Forward::apply_as`].
    pub(super) async fn apply_met(
        &self,
        channel: Channel,
        met: Vec<Met>,
        way: Way,
        calm: impl FnOnce() + Send,
        beside: impl Fn(&mut Progress, &Decided) + Send,
    ) -> Result<(), SpoolError> {
        let rules = &self.outcomes.storm;
        let monotonic = self.clock.monotonic();
        // Held over the moves if there is anything to take back: what another request quarantines stands before it is asked for.
        let mut storm = self.storm.lock().await;
        let (mut back, mut row, mut begins) = (Vec::new(), None, false);
        for Met { entry, decided, said } in &met {
            let Some((status, reasoned)) = *said else { continue };
            let answered = Answered { item: entry.id().0, study: number(&entry.record.facts.study_uid), status, reasoned };
            if let Some(blow) = storm.record(answered, decided, monotonic, rules) {
                back.extend(blow.items);
                begins |= blow.begins;
                row = Some(decided.row.clone());
            }
        }
        match &row {
            Some(row) => self.suspend(channel, rules.class, row),
            None => calm(),
        }
        let guard = met.iter().any(|met| met.decided.outcome == Outcome::Quarantine).then_some(storm);
        let taken_back: HashSet<u64> = back.iter().copied().collect();
        let mut earlier: HashSet<u64> = taken_back.clone();
        let mut decided = Vec::with_capacity(met.len());
        for Met { entry, decided: of_entry, .. } in met {
            earlier.remove(&entry.id().0);
            let outcome = if taken_back.contains(&entry.id().0) { Outcome::Retry(rules.class) } else { of_entry.outcome };
            decided.push((entry, Decided { outcome, ..of_entry }));
        }
        self.apply_as(decided, way, beside).await?;
        if let Some(row) = row {
            self.take_back(earlier, &row, rules.class).await?;
            if begins {
                tracing::error!(
                    peer = self.peer_name, ?channel, %row, objects = taken_back.len(),
                    "peer refuses everything: it is suspended, its objects are queued again and safe here; ask whoever runs it what is wrong"
                );
            }
        }
        drop(guard);
        Ok(())
    }

    /// Whether a storm goes on, to which this answer belongs: the next instance would meet the same.
    pub(super) async fn is_storm(&self, status: u16, decided: &Decided) -> bool {
        decided.outcome == Outcome::Quarantine && self.storm.lock().await.blows(status)
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

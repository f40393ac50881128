//! When an item may be tried again, whatever becomes of the wall clock (profile 03 §2.2.4).
//!
//! A due time stands in the spool as wall time, so that it survives a restart. While the program runs the monotonic clock
//! decides: the spool is asked for what is due at the furthest instant that the wall clock has pointed to since the start
//! ([`Waits::lead`]), so that a clock put back keeps nothing waiting, and what comes then and has waited for less than its
//! delay is left leased until it has ([`Waits::is_due`]), so that a clock put forward lets nothing go early. After a start,
//! what the spool says is clamped to the longest delay of its class ([`super::Forward::reclamp`]).
//!
//! # Bounds
//! [`WAITS_MAX`] waits are remembered; what is beyond goes by the wall clock alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use idr_profile::outcome::{Class, reclamp};
use jiff::{SignedDuration, Timestamp};

use super::{Forward, LEASE};
use crate::spool::{Claim, Entry, Lane, Progress, Seen, SpoolError, SpoolId, Tenant};

/// Waits that are remembered.
const WAITS_MAX: usize = 200_000;
/// Entries of a page when the spool is walked.
const PAGE: usize = 500;

/// What the scheduler remembers of an item across a restart: `<class> <healthy age, s>[ alone]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memo {
    /// Class of its consecutive failures.
    pub class: Option<Class>,
    /// How long it has failed while the peer was not suspended (03 §2.2.3), seconds.
    pub healthy_s: u64,
    /// It goes in a request of its own: one with others failed, and which of them was the reason is not known.
    pub alone: bool,
}

impl Memo {
    /// Whatever cannot be read says nothing.
    pub fn read(memo: Option<&str>) -> Self {
        let mut words = memo.unwrap_or_default().split(' ');
        let class = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "net" => Class::Net,
            "busy" => Class::Busy,
            "slow" => Class::Slow,
            "config" => Class::Config,
            "auth" => Class::Auth,
            "commit" => Class::Commit,
            _ => return Self::default(),
        };
        let healthy_s = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { class: Some(class), healthy_s, alone: words.next() == Some("alone") }
    }

    pub fn text(self) -> Option<String> {
        let alone = if self.alone { " alone" } else { "" };
        self.class.map(|class| format!("{class} {}{alone}", self.healthy_s))
    }
}

/// One wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// Monotonic.
    pub due: Duration,
    /// As the spool has it: another one there, and somebody else has moved the item since.
    pub not_before: Timestamp,
    /// Healthy time of the peer when it began ([`super::gate::Breakers::healthy`]).
    pub healthy: Duration,
}

/// The waits of this life of the program.
#[derive(Default)]
pub(super) struct Waits {
    /// The latest that the wall clock has said of our monotonic zero.
    zero: Option<Timestamp>,
    of: HashMap<SpoolId, Wait>,
    /// Claimed and not due, by when they are.
    parked: BTreeSet<(Duration, SpoolId)>,
    /// In a request, or about to be.
    /// True: it was claimed again meanwhile, in whatever state it is by then, and is left leased until the request is over.
    flying: HashMap<SpoolId, bool>,
    /// Their request with others failed as a whole, and it is not decided yet when they go again.
    alone: HashSet<SpoolId>,
}

impl Waits {
    /// The furthest instant that the wall clock has pointed to since the start, as it would be by now.
    pub fn lead(&mut self, now: Timestamp, monotonic: Duration) -> Timestamp {
        let zero = now.checked_sub(monotonic).unwrap_or(now);
        let zero = *self.zero.insert(self.zero.map_or(zero, |before| before.max(zero)));
        zero.checked_add(monotonic).unwrap_or(now)
    }

    /// An item waits.
    pub fn begin(&mut self, id: SpoolId, wait: Wait, monotonic: Duration) {
        if self.of.len() >= WAITS_MAX && !self.of.contains_key(&id) {
            self.of.retain(|_, wait| wait.due > monotonic);
        }
        if self.of.len() < WAITS_MAX || self.of.contains_key(&id) {
            self.of.insert(id, wait);
        }
    }

    /// It does not wait any more.
    pub fn end(&mut self, id: SpoolId) {
        self.of.remove(&id);
        self.alone.remove(&id);
    }

    /// A request with several of them failed as a whole: each goes in one of its own next time, so that the one that may be
    /// the reason delays no other.
    pub fn part(&mut self, entries: &[Entry]) {
        if entries.len() > 1 {
            self.alone.extend(entries.iter().map(Entry::id));
        }
    }

    /// Whether [`Waits::part`] was said of it since it was asked last.
    pub fn take_alone(&mut self, id: SpoolId) -> bool {
        self.alone.remove(&id)
    }

    /// How long the peer was healthy since an item's last attempt of this life; nothing without one.
    pub fn healthy_since(&self, id: SpoolId, healthy: Duration) -> Duration {
        self.of.get(&id).map_or(Duration::ZERO, |wait| healthy.saturating_sub(wait.healthy))
    }

    /// Whether a request with it is under way, or about to be.
    pub fn is_flying(&self, id: SpoolId) -> bool {
        self.flying.contains_key(&id)
    }

    /// Whether what was claimed may go now; what may not keeps its lease.
    fn is_due(&mut self, entry: &Entry, monotonic: Duration) -> bool {
        let id = entry.id();
        if let Some(again) = self.flying.get_mut(&id) {
            *again = true;
            return false;
        }
        let waits = self
            .of
            .get(&id)
            .filter(|wait| wait.due > monotonic && wait.not_before.as_millisecond() == entry.progress.not_before.as_millisecond());
        if let Some(wait) = waits {
            self.parked.insert((wait.due, id));
            return false;
        }
        true
    }

    /// What was left leased and is due now.
    fn ripe(&mut self, monotonic: Duration) -> Vec<SpoolId> {
        let later = self.parked.split_off(&(monotonic + Duration::from_nanos(1), SpoolId(0)));
        std::mem::replace(&mut self.parked, later).into_iter().map(|(_, id)| id).collect()
    }
}

/// What is claimed for a request: nobody else is given it while this lives, however the clock goes and however early its next
/// state can be claimed; what was claimed meanwhile is free again when this ends.
pub(super) struct Flying<'a> {
    forward: &'a Forward,
    ids: Vec<SpoolId>,
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        let again: Vec<SpoolId> = {
            let mut waits = self.forward.waits();
            self.ids.iter().filter(|id| waits.flying.remove(id) == Some(true)).copied().collect()
        };
        if !again.is_empty() {
            again.into_iter().for_each(|id| self.forward.spool.give_back(id));
            self.forward.wake.notify_waiters();
        }
    }
}

impl Forward {
    /// What of a lane of a queue is due, the longest first, leased; at most `limit`.
    pub(super) async fn claim(&self, tenant: &Tenant, state: &'static str, lane: Lane, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        loop {
            let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
            let (lead, ripe) = {
                let mut waits = self.waits();
                (waits.lead(now, monotonic), waits.ripe(monotonic))
            };
            ripe.into_iter().for_each(|id| self.spool.give_back(id));
            let lease_until = lead.checked_add(LEASE).unwrap_or(lead);
            let mut entries = self.spool.claim(Claim { tenant: tenant.clone(), state, lane, now: lead, lease_until, limit }).await?;
            let found = entries.len();
            {
                let mut waits = self.waits();
                entries.retain(|entry| waits.is_due(entry, monotonic));
            }
            // Each that is not due is leased now and does not come again.
            if found == 0 || !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// Keeps what was claimed from being claimed again.
    pub(super) fn fly(&self, entries: &[Entry]) -> Flying<'_> {
        let ids: Vec<SpoolId> = entries.iter().map(Entry::id).collect();
        self.waits().flying.extend(ids.iter().map(|id| (*id, false)));
        Flying { forward: self, ids }
    }

    /// After a start: no due time lies further ahead than the longest delay of its class, and what waits for nothing is due.
    ///
    /// # Errors
    /// The spool.
    pub(super) async fn reclamp(&self) -> Result<(), SpoolError> {
        for tenant in &self.tenants {
            for state in ["queued", "sent", "committed"] {
                let mut after = None;
                loop {
                    let page = self.spool.in_state(tenant, state, after, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.id());
                    let now = self.clock.now();
                    let moves = page.iter().filter(|entry| entry.progress.state.name() == state).filter_map(|entry| {
                        let class = Memo::read(entry.progress.memo.as_deref()).class;
                        let cap = class.map_or(Duration::ZERO, |class| self.outcomes.cap(class));
                        // A report of storage commitment is waited for besides.
                        let awaited = entry.progress.commitment.as_ref().is_some_and(|commitment| commitment.awaited);
                        let cap = if awaited { cap.max(Duration::from_secs(self.outcomes.limits.commitment_report_s)) } else { cap };
                        let due = reclamp(entry.progress.not_before, now, cap);
                        (due < entry.progress.not_before).then(|| Seen::new(entry, Progress { not_before: due, ..entry.progress.clone() }))
                    });
                    let moves: Vec<Seen> = moves.collect();
                    if !moves.is_empty() {
                        tracing::warn!(%tenant, state, objects = moves.len(), "due times lay too far ahead, by a clock that was wrong; they are put right");
                        self.spool.advance_unchanged(moves).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A delay, as what the spool has.
    pub(super) fn not_before(now: Timestamp, delay: Duration) -> Timestamp {
        now.checked_add(SignedDuration::try_from(delay).unwrap_or(SignedDuration::ZERO)).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sample::at;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_memo_is_read_back_and_one_of_an_earlier_program_too() {
        for memo in [
            Memo { class: Some(Class::Net), healthy_s: 0, alone: false },
            Memo { class: Some(Class::Commit), healthy_s: 259_201, alone: true },
            Memo::default(),
        ] {
            assert_eq!(Memo::read(memo.text().as_deref()), memo);
        }
        assert_eq!(Memo::read(Some("Slow")), Memo { class: Some(Class::Slow), ..Memo::default() });
        assert_eq!(Memo::read(Some("of somebody else")), Memo::default());
    }

    #[test]
    fn the_lead_never_goes_back_and_never_stands_still() {
        let mut waits = Waits::default();
        assert_eq!(waits.lead(at(100), SECOND), at(100));
        // A day back, a day forward, and back again.
        assert_eq!(waits.lead(at(101 - 86_400), 2 * SECOND), at(101));
        assert_eq!(waits.lead(at(102 + 86_400), 3 * SECOND), at(102 + 86_400));
        assert_eq!(waits.lead(at(103), 4 * SECOND), at(103 + 86_400));
    }

    #[test]
    fn what_is_parked_ripens_in_order() {
        let mut waits = Waits::default();
        waits.parked.extend([(3 * SECOND, SpoolId(1)), (SECOND, SpoolId(9)), (2 * SECOND, SpoolId(5))]);
        assert_eq!(waits.ripe(2 * SECOND), [SpoolId(9), SpoolId(5)]);
        assert_eq!(waits.ripe(2 * SECOND), []);
        assert_eq!(waits.ripe(4 * SECOND), [SpoolId(1)]);
    }
}

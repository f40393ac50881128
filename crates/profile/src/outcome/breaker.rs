//! Circuit breaker and storm guard of one peer and channel (03 §2.4, §2.5): state machines without a clock.
//!
//! `now` is monotonic time since any fixed start. An item is named by a number that the caller chooses.

use super::table::Outcomes;
use super::{Class, Decided, Mark, Outcome};
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Parameters of §2.4.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerRules {
    /// Consecutive failures that open.
    pub failures: usize,
    /// Different items they must come from.
    pub items: usize,
    /// Window of the share rule, seconds.
    pub window_s: u64,
    /// Attempts within the window that the share rule needs.
    pub attempts: usize,
    /// Share of failures that opens.
    pub share: f64,
    /// Attempts at the same time when the peer is well.
    pub parallel_max: u32,
    /// Successes after which the parallelism doubles.
    pub successes: u32,
    /// How long a halved parallelism stays, seconds.
    pub halved_s: u64,
    /// Tables whose failures say nothing of the item.
    pub any_item: Vec<String>,
}

/// Whether an item of the peer may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes, up to so many at the same time.
    Go {
        /// Attempts in flight at most.
        parallel: u32,
    },
    /// One probe, and nothing else until its result: C-ECHO on `dimse`, the oldest due item on `stow` and `soap`.
    Probe,
    /// Not before then.
    Wait {
        /// Monotonic time.
        until: Duration,
    },
}

/// A change to be told in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakerChange {
    /// The peer is `suspended`.
    Opened {
        /// Row of the failure that opened it.
        row: Arc<str>,
        /// Probe is due then.
        until: Duration,
        /// Consecutive openings, 1 for the first.
        openings: u32,
    },
    /// The peer works again.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    HalfOpen { probing: bool },
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    at: Duration,
    item: u64,
    failed: bool,
    any_item: bool,
}

/// Attempts kept for the share rule; more within the window only repeat what these say.
const ATTEMPTS_KEPT: usize = 256;

/// Breaker of one peer and channel.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: State,
    openings: u32,
    attempts: VecDeque<Attempt>,
    gate: Duration,
    parallel: u32,
    successes: u32,
    halved_until: Duration,
}

impl Breaker {
    /// Closed, at full parallelism.
    pub fn new(rules: &BreakerRules) -> Self {
        Self {
            state: State::Closed,
            openings: 0,
            attempts: VecDeque::new(),
            gate: Duration::ZERO,
            parallel: rules.parallel_max.max(1),
            successes: 0,
            halved_until: Duration::ZERO,
        }
    }

    /// Whether the peer is `suspended`; healthy age stands still meanwhile.
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Asked before each attempt. [`Admission::Probe`] is given once; its result comes by
    /// [`Breaker::record`].
    pub fn admit(&mut self, now: Duration) -> Admission {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.state = State::HalfOpen { probing: false };
        }
        match self.state {
            State::Open { until } => Admission::Wait { until: until.max(self.gate) },
            _ if now < self.gate => Admission::Wait { until: self.gate },
            State::Closed if now < self.halved_until => Admission::Go { parallel: (self.parallel / 2).max(1) },
            State::Closed => Admission::Go { parallel: self.parallel },
            State::HalfOpen { probing: false } => {
                self.state = State::HalfOpen { probing: true };
                Admission::Probe
            }
            // The probe of another worker is under way; the due time is not known before its result.
            State::HalfOpen { probing: true } => Admission::Wait { until: now + Duration::from_secs(1) },
        }
    }

    /// No attempt before then (Retry-After).
    pub fn close_gate(&mut self, until: Duration) {
        self.gate = self.gate.max(until);
    }

    /// Row A-RJ-132: half the parallelism for a while.
    pub fn halve(&mut self, now: Duration, rules: &BreakerRules) {
        self.halved_until = now + Duration::from_secs(rules.halved_s);
    }

    /// The result of an attempt, the probe of a half-open breaker included.
    pub fn record(&mut self, item: u64, decided: &Decided, now: Duration, uniform: f64, outcomes: &Outcomes) -> Option<BreakerChange> {
        let class = decided.class().unwrap_or(Class::Config);
        match (self.state, decided.breaker) {
            (State::HalfOpen { .. }, Mark::Success) => Some(self.close()),
            (State::HalfOpen { .. }, Mark::Failure | Mark::Opens) | (State::Closed, Mark::Opens) => {
                Some(self.open(class, &decided.row, now, uniform, outcomes))
            }
            // A probe that ended for a reason of ours says nothing: probe again.
            (State::HalfOpen { .. }, Mark::Uncounted) => {
                self.state = State::HalfOpen { probing: false };
                None
            }
            (State::Closed, Mark::Success) => {
                self.remember(Attempt { at: now, item, failed: false, any_item: false });
                self.succeed(&outcomes.breaker);
                None
            }
            (State::Closed, Mark::Failure) => {
                self.remember(Attempt { at: now, item, failed: true, any_item: decided.any_item });
                self.too_many(now, &outcomes.breaker).then(|| self.open(class, &decided.row, now, uniform, outcomes))
            }
            // Attempts that were under way when it opened change nothing.
            (State::Closed, Mark::Uncounted) | (State::Open { .. }, _) => None,
        }
    }

    /// Opens because of something else: the storm guard, an operator.
    pub fn open(&mut self, class: Class, row: &Arc<str>, now: Duration, uniform: f64, outcomes: &Outcomes) -> BreakerChange {
        let until = now + outcomes.delay(class, self.openings, uniform);
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open { until };
        self.attempts.clear();
        BreakerChange::Opened { row: row.clone(), until, openings: self.openings }
    }

    fn close(&mut self) -> BreakerChange {
        self.state = State::Closed;
        self.openings = 0;
        self.parallel = 1;
        self.successes = 0;
        BreakerChange::Closed
    }

    fn succeed(&mut self, rules: &BreakerRules) {
        self.successes += 1;
        if self.successes >= rules.successes && self.parallel < rules.parallel_max {
            self.successes = 0;
            self.parallel = self.parallel.saturating_mul(2).min(rules.parallel_max);
        }
    }

    fn remember(&mut self, attempt: Attempt) {
        if self.attempts.len() == ATTEMPTS_KEPT {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }

    /// §2.4.2.
    fn too_many(&self, now: Duration, rules: &BreakerRules) -> bool {
        let run: Vec<&Attempt> = self.attempts.iter().rev().take_while(|attempt| attempt.failed).collect();
        let about_the_peer = run.iter().take_while(|attempt| attempt.any_item).count() >= rules.failures;
        if about_the_peer || run.len() >= rules.failures && items(run.iter().copied()) >= rules.items {
            return true;
        }
        let start = now.saturating_sub(Duration::from_secs(rules.window_s));
        let window: Vec<&Attempt> = self.attempts.iter().rev().take_while(|attempt| attempt.at >= start).collect();
        let failed = window.iter().filter(|attempt| attempt.failed).count();
        window.len() >= rules.attempts && failed as f64 >= rules.share * window.len() as f64 && items(window.iter().copied()) >= rules.items
    }
}

fn items<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> usize {
    let mut items: Vec<u64> = attempts.map(|attempt| attempt.item).collect();
    items.sort_unstable();
    items.dedup();
    items.len()
}

/// Parameters of §2.5.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StormRules {
    /// Consecutive instances.
    pub instances: usize,
    /// Studies they must come from.
    pub studies: usize,
    /// Within, seconds.
    pub within_s: u64,
    /// Class of the opening.
    pub class: Class,
}

/// One answer, for the storm guard. Items and studies are named by numbers that the caller chooses.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// The item.
    pub item: u64,
    /// Its study.
    pub study: u64,
    /// C-STORE status or Failure Reason.
    pub status: u16,
    /// The answer carries a rule id of ours in its Error Comment, so it is no storm.
    pub reasoned: bool,
}

/// Guards against a peer that refuses every object for a fault of its own (§2.5).
#[derive(Debug, Clone, Default)]
pub struct Storm {
    status: Option<u16>,
    run: VecDeque<(Duration, u64, u64)>,
    /// It has been a storm, and no other answer has come since.
    blowing: bool,
}

/// A storm: the breaker is to be opened with [`StormRules::class`], and the items go back to `queued`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blow {
    /// It begins with this answer: the operator is paged.
    pub begins: bool,
    /// What the peer did not mean, the item of this answer last.
    pub items: Vec<u64>,
}

impl Storm {
    /// Whether a storm of this status goes on.
    pub fn blows(&self, status: u16) -> bool {
        self.blowing && self.status == Some(status)
    }

    /// An instance was answered. From the beginning of a storm to the first other answer, everything that is answered so
    /// belongs to it: requests under way when it began, and the probes after it.
    pub fn record(&mut self, answer: Answered, decided: &Decided, now: Duration, rules: &StormRules) -> Option<Blow> {
        let Answered { item, study, status, reasoned } = answer;
        if decided.outcome != Outcome::Quarantine || reasoned {
            *self = Self::default();
            return None;
        }
        if self.status != Some(status) {
            *self = Self { status: Some(status), ..Self::default() };
        }
        if self.blowing {
            return Some(Blow { begins: false, items: vec![item] });
        }
        self.run.push_back((now, item, study));
        let start = now.saturating_sub(Duration::from_secs(rules.within_s));
        while self.run.front().is_some_and(|(at, _, _)| *at < start) {
            self.run.pop_front();
        }
        let mut studies: Vec<u64> = self.run.iter().map(|(_, _, study)| *study).collect();
        studies.sort_unstable();
        studies.dedup();
        if self.run.len() < rules.instances || studies.len() < rules.studies {
            // A long run of one study is kept to its bound: what matters is what the next study meets.
            while self.run.len() > ATTEMPTS_KEPT {
                self.run.pop_front();
            }
            return None;
        }
        self.blowing = true;
        let items = std::mem::take(&mut self.run).into_iter().map(|(_, item, _)| item).collect();
        Some(Blow { begins: true, items })
    }
}

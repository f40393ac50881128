//! Whether a request may be made now: one breaker for each channel (profile 03 §2.4), and the clock (03 L-CLOCK).
//!
//! A clock that is too far off lets no request pass, as an open breaker does: nothing is claimed, no attempt counts. It has
//! no back-off of its own: what ends it is known here, and it ends at once. A stop is seen here too, so that a round ends
//! with the requests that are under way.

use std::sync::Arc;
use std::time::Duration;

use idr_profile::outcome::{Admission, Breaker, BreakerChange, Class, Context, Decided, Effect, Event, Outcomes, Signal};
use jiff::SignedDuration;

use super::Forward;
use super::clock::Level;

/// How often a suspension is told while it lasts (03 §2.4.5).
const TOLD_EVERY: Duration = Duration::from_secs(3600);

/// Channels with a breaker of their own (profile 03 §2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Stow,
    Soap,
    Dimse,
}

/// Breaker of a channel.
struct Gate {
    breaker: Breaker,
    /// Answers that it was told of.
    answers: u64,
    /// When its suspension was told last, and since when it is suspended; monotonic.
    suspended: Option<(Duration, Duration)>,
    /// How long it was suspended before.
    away: Duration,
}

/// The breakers of a peer.
pub(super) struct Breakers {
    stow: Gate,
    soap: Gate,
    dimse: Gate,
}

impl Breakers {
    pub(super) fn new(outcomes: &Outcomes) -> Self {
        let gate = || Gate { breaker: Breaker::new(&outcomes.breaker), answers: 0, suspended: None, away: Duration::ZERO };
        Self { stow: gate(), soap: gate(), dimse: gate() }
    }

    fn of(&mut self, channel: Channel) -> &mut Gate {
        match channel {
            Channel::Stow => &mut self.stow,
            Channel::Soap => &mut self.soap,
            Channel::Dimse => &mut self.dimse,
        }
    }

    pub(super) fn is_open(&self, channel: Channel) -> bool {
        match channel {
            Channel::Stow => self.stow.breaker.is_open(),
            Channel::Soap => self.soap.breaker.is_open(),
            Channel::Dimse => self.dimse.breaker.is_open(),
        }
    }
}

impl Breakers {
    /// How long a channel was not suspended, since monotonic zero: healthy age (03 §2.2.3) is a difference of two of these.
    pub(super) fn healthy(&mut self, channel: Channel, now: Duration) -> Duration {
        let gate = self.of(channel);
        let away = gate.suspended.map_or(Duration::ZERO, |(_, since)| now.saturating_sub(since));
        now.saturating_sub(gate.away + away)
    }
}

/// The right to make requests on a channel, for one round. A probe that brought no answer is given back at its end: without
/// that, a round that found nothing due, or failed before its request, would leave the breaker waiting for ever.
pub(super) struct Pass<'a> {
    forward: &'a Forward,
    channel: Channel,
    /// Requests at once.
    pub(super) parallel: u32,
    /// One request, and nothing else until its answer (profile 03 §2.4.3).
    probe: bool,
    /// [`Gate::answers`] when it was given.
    answers: u64,
}

impl Pass<'_> {
    /// Whether the breaker was told of an answer since.
    pub(super) fn has_answer(&self) -> bool {
        self.forward.breakers().of(self.channel).answers != self.answers
    }

    /// The peer is suspended, and one item is to show whether it still has to be.
    pub(super) fn is_probe(&self) -> bool {
        self.probe
    }

    /// Requests at once by now: while a round lasts, successes double it.
    pub(super) fn parallel_now(&self) -> u32 {
        let now = self.forward.clock.monotonic();
        let mut breakers = self.forward.breakers();
        let gate = breakers.of(self.channel);
        if self.probe || gate.breaker.is_open() {
            return 1;
        }
        match gate.breaker.admit(now) {
            Admission::Go { parallel } => parallel.min(self.forward.parallel_max),
            _ => 1,
        }
    }

    /// Whether the next request may be made: the breaker may have opened since, the clock been found wrong, or the program be
    /// about to end.
    pub(super) fn holds(&self) -> bool {
        if self.forward.stopping() || self.forward.clock_level() == Level::Stop {
            return false;
        }
        let now = self.forward.clock.monotonic();
        let mut breakers = self.forward.breakers();
        let gate = breakers.of(self.channel);
        match gate.breaker.is_open() {
            true => self.probe && gate.answers == self.answers,
            // Of a closed one asking changes nothing. A Retry-After may have come meanwhile.
            false => matches!(gate.breaker.admit(now), Admission::Go { .. }),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            // A row that is not counted: it changes nothing but a probe that nobody has answered.
            let untried = self.forward.outcomes.decide(Signal::Event(Event::BreakerOpen), &Context::default());
            let (now, uniform) = (self.forward.clock.monotonic(), self.forward.uniform());
            let _ = self.forward.breakers().of(self.channel).breaker.record(0, &untried, now, uniform, &self.forward.outcomes);
        }
    }
}

impl Gate {
    /// Since when it is suspended.
    fn note(&mut self, change: Option<&BreakerChange>, now: Duration) {
        match change {
            Some(BreakerChange::Opened { .. }) => self.suspended = self.suspended.or(Some((now, now))),
            Some(BreakerChange::Closed) => {
                if let Some((_, since)) = self.suspended.take() {
                    self.away += now.saturating_sub(since);
                }
            }
            None => {}
        }
    }
}

/// Tells the journal of a change.
fn tell(channel: Channel, change: Option<BreakerChange>, now: Duration) {
    match change {
        Some(BreakerChange::Opened { row, until, openings: 1 }) => tracing::warn!(
            ?channel, %row, seconds = until.saturating_sub(now).as_secs(),
            "the centre is suspended; its items are safe here and wait; it is tried again by itself"
        ),
        Some(BreakerChange::Opened { row, until, openings }) => {
            tracing::debug!(?channel, %row, openings, seconds = until.saturating_sub(now).as_secs(), "the centre stays suspended");
        }
        Some(BreakerChange::Closed) => tracing::info!(?channel, "the centre works again"),
        None => {}
    }
}

impl Forward {
    /// The right to make requests on a channel now; `None` while it is suspended, while the clock is not to be trusted, or when
    /// the program is about to end.
    pub(super) fn admitted(&self, channel: Channel) -> Option<Pass<'_>> {
        if self.stopping() || self.clock_level() == Level::Stop {
            return None;
        }
        let now = self.clock.monotonic();
        let mut breakers = self.breakers();
        let gate = breakers.of(channel);
        let (parallel, probe) = match gate.breaker.admit(now) {
            Admission::Go { parallel } => (parallel.min(self.parallel_max), false),
            Admission::Probe => (1, true),
            Admission::Wait { .. } => return None,
        };
        Some(Pass { forward: self, channel, parallel, probe, answers: gate.answers })
    }

    /// Tells the breaker of an attempt, the journal of a change, and `status` of the row.
    pub(super) fn record(&self, channel: Channel, item: u64, decided: &Decided, retry_after: Option<&str>) {
        let (now, at, uniform) = (self.clock.monotonic(), self.clock.now(), self.uniform());
        let change = {
            let mut breakers = self.breakers();
            let gate = breakers.of(channel);
            gate.answers += 1;
            if decided.effects.contains(&Effect::HalveParallelism) {
                gate.breaker.halve(now, &self.outcomes.breaker);
            }
            if let Some(wait) = retry_after.and_then(|value| self.outcomes.retry_after.http(value, at)) {
                gate.breaker.close_gate(now + self.outcomes.retry_after.gate(wait, uniform));
            }
            if decided.effects.contains(&Effect::HalveParallelism) {
                gate.breaker.halve(now, &self.outcomes.breaker);
            }
            let change = gate.breaker.record(item, decided, now, uniform, &self.outcomes);
            gate.note(change.as_ref(), now);
            change
        };
        self.memory().last = Some((at, decided.row.to_string()));
        tell(channel, change, now);
    }

    /// Suspends the peer for something that no single answer says (03 §2.5).
    pub(super) fn suspend(&self, channel: Channel, class: Class, row: &Arc<str>) {
        let (now, uniform) = (self.clock.monotonic(), self.uniform());
        let change = {
            let mut breakers = self.breakers();
            let gate = breakers.of(channel);
            gate.answers += 1;
            let change = gate.breaker.open(class, row, now, uniform, &self.outcomes);
            gate.note(Some(&change), now);
            change
        };
        self.memory().last = Some((self.clock.now(), row.to_string()));
        tell(channel, Some(change), now);
    }

    /// One line an hour for each channel that is still suspended.
    pub(super) fn tell_suspensions(&self) {
        let now = self.clock.monotonic();
        let mut breakers = self.breakers();
        for channel in [Channel::Stow, Channel::Soap, Channel::Dimse] {
            let Some((told, since)) = &mut breakers.of(channel).suspended else { continue };
            if now.saturating_sub(*told) >= TOLD_EVERY {
                *told = now;
                tracing::warn!(
                    ?channel,
                    seconds = now.saturating_sub(*since).as_secs(),
                    "the centre is still suspended; its items are safe here"
                );
            }
        }
    }

    /// An answer said what time it is at the centre.
    pub(super) fn heard_clock(&self, ahead: Option<SignedDuration>) {
        if let Some(ahead) = ahead {
            self.drift().heard(ahead, self.clock.now(), self.clock.monotonic());
            self.tell_clock();
        }
    }

    /// Asked before every request and every look, so that whatever the wall clock shows is seen by [`super::waits`].
    pub(super) fn clock_level(&self) -> Level {
        let _ = self.waits().lead(self.clock.now(), self.clock.monotonic());
        self.drift().level(self.clock.now(), self.clock.monotonic(), &self.outcomes.clock)
    }

    /// Tells the journal when the offset has crossed a limit.
    pub(super) fn tell_clock(&self) {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let (change, ahead) = {
            let mut drift = self.drift();
            (drift.change(now, monotonic, &self.outcomes.clock), drift.ahead(now, monotonic))
        };
        let seconds = ahead.map_or(0.0, |ahead| ahead.as_secs_f64());
        match change {
            None => {}
            Some(Level::Good) => tracing::info!(seconds, "this clock and the centre's agree again"),
            Some(Level::Warn) => tracing::warn!(seconds, "the centre's clock is ahead of this one by so much; check NTP at both"),
            Some(Level::Alarm) => {
                tracing::error!(seconds, "the centre's clock is ahead of this one by so much; correct NTP before sending stops")
            }
            Some(Level::Stop) => {
                let row = self.outcomes.decide(Signal::Event(Event::Clock), &Context::default()).row;
                tracing::error!(seconds, %row, "the centre's clock is ahead of this one by so much: nothing is sent until they agree; items are safe here; correct NTP");
                self.memory().last = Some((now, row.to_string()));
            }
        }
    }
}

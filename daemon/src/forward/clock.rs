//! Time: the two clocks of the forwarder, and how far ours is from the centre's (profile 04 §13, 10 §10; 03 L-CLOCK).
//!
//! Every answer of the centre has a `Date`. From it [`Drift`] keeps what the centre's clock showed at our monotonic zero, so
//! that a wall clock that is put right is seen at once, without another answer; an answer makes it new.

use std::time::Duration;

use idr_profile::outcome::ClockLimits;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall clock, and a clock that is never put forward or back.
pub trait Clock: Send + Sync {
    /// Wall time.
    fn now(&self) -> Timestamp;

    /// Since any fixed start.
    fn monotonic(&self) -> Duration;
}

/// The clocks of the machine.
pub struct SystemClock {
    now: fn() -> Timestamp,
    started: Instant,
}

impl SystemClock {
    /// `now` reads the wall clock.
    pub fn new(now: fn() -> Timestamp) -> Self {
        Self { now, started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// How far is too far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Good,
    Warn,
    Alarm,
    /// Nothing is sent.
    Stop,
}

/// How far the centre's clock is ahead of ours.
#[derive(Default)]
pub(super) struct Drift {
    measured: Option<Measured>,
    told: Level,
}

struct Measured {
    /// What the centre's clock showed at our monotonic zero.
    centre_at_zero: Timestamp,
    /// Monotonic.
    at: Duration,
}

impl Drift {
    /// An answer came. A date that no clock shows is no measurement.
    pub(super) fn heard(&mut self, ahead: SignedDuration, now: Timestamp, monotonic: Duration) {
        let centre = now.checked_add(ahead).and_then(|centre| centre.checked_sub(monotonic));
        if let Ok(centre_at_zero) = centre {
            self.measured = Some(Measured { centre_at_zero, at: monotonic });
        }
    }

    /// The centre's clock minus ours; `None` before the first answer.
    pub(super) fn ahead(&self, now: Timestamp, monotonic: Duration) -> Option<SignedDuration> {
        let centre = self.measured.as_ref()?.centre_at_zero.checked_add(monotonic).ok()?;
        Some(centre.duration_since(now))
    }

    /// Whether it is to be measured again.
    pub(super) fn is_old(&self, monotonic: Duration, limits: &ClockLimits) -> bool {
        let old = |measured: &Measured| monotonic.saturating_sub(measured.at) >= Duration::from_secs(limits.measure_every_s);
        self.measured.as_ref().is_none_or(old)
    }

    pub(super) fn level(&self, now: Timestamp, monotonic: Duration, limits: &ClockLimits) -> Level {
        let Some(ahead) = self.ahead(now, monotonic) else { return Level::Good };
        let off = Duration::try_from(ahead.abs()).unwrap_or(Duration::MAX);
        match off {
            off if off > Duration::from_secs(limits.max_s) => Level::Stop,
            off if off > Duration::from_secs(limits.alarm_s) => Level::Alarm,
            off if off > Duration::from_secs(limits.warn_s) => Level::Warn,
            _ => Level::Good,
        }
    }

    /// The level, when it is another than was told last. A warning ends at half its limit: a `Date` has whole seconds, and
    /// an offset near the limit would be told with every answer.
    pub(super) fn change(&mut self, now: Timestamp, monotonic: Duration, limits: &ClockLimits) -> Option<Level> {
        let level = self.level(now, monotonic, limits);
        let near = || self.ahead(now, monotonic).is_some_and(|ahead| ahead.abs() * 2 > SignedDuration::from_secs(limits.warn_s as i64));
        if level == self.told || level == Level::Good && self.told == Level::Warn && near() {
            return None;
        }
        self.told = level;
        Some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClockLimits = ClockLimits { warn_s: 2, alarm_s: 30, max_s: 60, measure_every_s: 300 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_768_460_400 + seconds).expect("in range")
    }

    #[test]
    fn the_levels_of_an_offset_are_those_of_the_profile_on_both_sides() {
        use Level as L;
        for (ahead, level) in [(0, L::Good), (2, L::Good), (3, L::Warn), (30, L::Warn), (31, L::Alarm), (60, L::Alarm), (61, L::Stop)] {
            for ahead in [ahead, -ahead] {
                let mut drift = Drift::default();
                drift.heard(SignedDuration::from_secs(ahead), at(0), Duration::from_secs(5));
                assert_eq!(drift.level(at(0), Duration::from_secs(5), &LIMITS), level, "{ahead}");
            }
        }
    }

    #[test]
    fn a_clock_that_is_put_right_or_wrong_is_seen_without_another_answer() {
        let mut drift = Drift::default();
        drift.heard(SignedDuration::from_secs(86_400), at(0), Duration::ZERO);
        assert_eq!(drift.level(at(10), Duration::from_secs(10), &LIMITS), Level::Stop);
        assert_eq!(drift.level(at(86_400 + 20), Duration::from_secs(20), &LIMITS), Level::Good);
        assert_eq!(drift.level(at(86_400 + 20 - 61), Duration::from_secs(20), &LIMITS), Level::Stop);
    }

    #[test]
    fn a_date_beyond_all_clocks_is_no_measurement() {
        let mut drift = Drift::default();
        drift.heard(SignedDuration::MAX, at(0), Duration::ZERO);
        drift.heard(SignedDuration::MIN, at(0), Duration::ZERO);
        assert_eq!(drift.ahead(at(0), Duration::ZERO), None);
    }

    #[test]
    fn an_offset_around_a_limit_is_told_once() {
        let mut drift = Drift::default();
        let mut told = Vec::new();
        for ahead in [0, 3, 2, 3, 2, 1, 0, 3] {
            drift.heard(SignedDuration::from_secs(ahead), at(0), Duration::ZERO);
            told.extend(drift.change(at(0), Duration::ZERO, &LIMITS));
        }
        assert_eq!(told, [Level::Warn, Level::Good, Level::Warn]);
    }
}

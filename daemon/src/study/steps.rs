//! A wall clock that is set while studies wait (profile 10 §10).
//!
//! Times of arrival are wall times: they stand in the records and survive a restart. When the clock is set by more than [`STEP`],
//! which a clock that never jumps shows, nothing can be said of the time between an arrival before that and now. The waits of
//! all studies then begin anew: a study is not evaluated while its images still come, and none waits for the day by which the clock
//! was set back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// What counts as a step.
pub const STEP: SignedDuration = SignedDuration::from_secs(60);

/// What is known of both clocks.
pub struct Steps {
    /// When this began.
    begun: Timestamp,
    last: Option<(Timestamp, Duration)>,
    /// The wall clock after its last step.
    stepped: Option<Timestamp>,
}

impl Steps {
    /// From now on.
    pub fn new(now: Timestamp) -> Self {
        Self { begun: now, last: None, stepped: None }
    }

    /// Looks at both clocks; whether the wall clock was set since the last look.
    pub fn look(&mut self, now: Timestamp, monotonic: Duration) -> bool {
        let stepped = self.last.is_some_and(|(then, before)| {
            let gone = SignedDuration::try_from(monotonic.saturating_sub(before)).unwrap_or(SignedDuration::MAX);
            now.duration_since(then).saturating_sub(gone).abs() > STEP
        });
        self.last = Some((now, monotonic));
        if stepped {
            self.stepped = Some(now);
        }
        stepped
    }

    /// From when a wait is measured that began at `at` by the wall clock of then.
    pub fn from(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        match self.stepped {
            // It was set back, before this began if not since.
            None if at.duration_since(now) > STEP => self.begun,
            None => at,
            Some(stepped) if at.duration_since(now) > STEP => stepped,
            Some(stepped) => at.max(stepped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sample::at;

    const DAY: i64 = 86_400;

    #[test]
    fn a_clock_that_is_slewed_has_not_stepped_and_one_that_is_set_has() {
        for (seconds, stepped) in [(10, false), (70, false), (-50, false), (71, true), (-51, true), (DAY, true), (-DAY, true)] {
            let mut steps = Steps::new(at(0));
            assert!(!steps.look(at(0), Duration::ZERO), "the first look shows nothing");
            assert_eq!(steps.look(at(seconds), Duration::from_secs(10)), stepped, "{seconds}");
            assert!(!steps.look(at(seconds + 5), Duration::from_secs(15)), "once");
        }
    }

    #[test]
    fn a_wait_begins_anew_with_a_step_and_else_with_what_it_waits_after() {
        let mut steps = Steps::new(at(100));
        assert_eq!(steps.from(at(50), at(200)), at(50), "it came before the start");
        assert_eq!(steps.from(at(220), at(200)), at(220), "a little ahead is no step");
        assert_eq!(steps.from(at(DAY), at(200)), at(100), "the clock was set back while nobody looked");
        steps.look(at(200), Duration::ZERO);
        steps.look(at(DAY), Duration::from_secs(1));
        assert_eq!(steps.from(at(150), at(DAY + 10)), at(DAY), "forward");
        assert_eq!(steps.from(at(DAY + 5), at(DAY + 10)), at(DAY + 5), "what came after the step");
        steps.look(at(210), Duration::from_secs(12));
        assert_eq!(steps.from(at(DAY + 5), at(215)), at(210), "and back");
    }
}

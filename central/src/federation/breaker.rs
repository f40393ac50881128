//! Whether a peer is asked at all: after several failures in a row it is left alone for a while, then one request tries.
//!
//! Simpler than the breaker of what is sent (profile 03 §2.4): a reader waits, so that nothing is queued, and nothing is tried
//! again by itself. `now` is monotonic.

use std::time::Duration;

/// State of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    failures_max: u32,
    pause: Duration,
    failures: u32,
    /// Nothing is asked before then; afterwards one request at a time, until one is answered.
    open_until: Option<Duration>,
    probing: bool,
}

/// May a request go out?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Go,
    /// Yes, and its result decides.
    Probe,
    /// No.
    Paused,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The peer answered, whatever it said.
    Answered,
    /// It did not, or not as its protocol says.
    Failed,
    /// Ended for a reason of ours.
    Uncounted,
}

impl Breaker {
    /// Closed. `failures_max`: failures in a row that open it, at least 1.
    pub fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max: failures_max.max(1), pause, failures: 0, open_until: None, probing: false }
    }

    /// Asked before each request.
    pub fn admit(&mut self, now: Duration) -> Admission {
        match self.open_until {
            None => Admission::Go,
            Some(until) if now < until || self.probing => Admission::Paused,
            Some(_) => {
                self.probing = true;
                Admission::Probe
            }
        }
    }

    /// Told after each admitted request. Gives whether it is paused from now on and was not before.
    pub fn record(&mut self, admitted: Admission, verdict: Verdict, now: Duration) -> bool {
        if admitted == Admission::Probe {
            self.probing = false;
        }
        match verdict {
            Verdict::Answered => {
                (self.failures, self.open_until) = (0, None);
                false
            }
            Verdict::Failed => {
                self.failures = self.failures.saturating_add(1);
                let opens = self.failures >= self.failures_max;
                let was_open = self.open_until.is_some();
                if opens {
                    self.open_until = Some(now + self.pause);
                }
                opens && !was_open
            }
            Verdict::Uncounted => false,
        }
    }

    /// Whether nothing but a probe is asked.
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed(breaker: &mut Breaker, at: u32) -> bool {
        let admitted = breaker.admit(SECOND * at);
        assert_ne!(admitted, Admission::Paused);
        breaker.record(admitted, Verdict::Failed, SECOND * at)
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let mut breaker = Breaker::new(3, SECOND * 30);
        assert!(!failed(&mut breaker, 0) && !failed(&mut breaker, 1));
        assert!(!breaker.record(Admission::Go, Verdict::Answered, SECOND), "counted anew");
        assert!(!failed(&mut breaker, 2) && !failed(&mut breaker, 3) && failed(&mut breaker, 4));
        assert_eq!(breaker.admit(SECOND * 33), Admission::Paused);
        assert_eq!(breaker.admit(SECOND * 34), Admission::Probe);
        assert_eq!(breaker.admit(SECOND * 34), Admission::Paused, "one tries");
        assert!(!breaker.record(Admission::Probe, Verdict::Failed, SECOND * 35), "it was paused before");
        assert_eq!(breaker.admit(SECOND * 64), Admission::Paused);
        assert_eq!(breaker.admit(SECOND * 65), Admission::Probe);
        breaker.record(Admission::Probe, Verdict::Answered, SECOND * 66);
        assert_eq!((breaker.admit(SECOND * 66), breaker.is_open()), (Admission::Go, false));
    }

    #[test]
    fn a_probe_that_says_nothing_is_made_again() {
        let mut breaker = Breaker::new(1, SECOND);
        assert!(failed(&mut breaker, 0));
        assert_eq!(breaker.admit(SECOND), Admission::Probe);
        breaker.record(Admission::Probe, Verdict::Uncounted, SECOND);
        assert_eq!(breaker.admit(SECOND), Admission::Probe);
    }

    #[test]
    fn requests_that_began_before_it_opened_do_not_end_a_probe() {
        let mut breaker = Breaker::new(1, SECOND);
        let early = breaker.admit(Duration::ZERO);
        assert!(failed(&mut breaker, 0));
        assert_eq!(breaker.admit(SECOND), Admission::Probe);
        breaker.record(early, Verdict::Failed, SECOND);
        assert_eq!(breaker.admit(SECOND * 2), Admission::Paused, "the probe is still under way");
    }
}

//! Claims that are tried again: how often each has failed, and when it is due.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::folder::Claim;

/// Claims that wait; at most [`super::CLAIMS_MAX`], which bounds what is remembered of them.
pub struct Later {
    rescan: Duration,
    retry_max: Duration,
    waiting: Vec<(Instant, Claim)>,
    /// By the claim's id, until it is taken.
    failures: HashMap<String, u32>,
}

impl Later {
    /// Again after `rescan`; after failures twice as long each time, at most `retry_max` or `rescan` if that is longer.
    pub fn new(rescan: Duration, retry_max: Duration) -> Self {
        Self { rescan, retry_max: retry_max.max(rescan), waiting: Vec::new(), failures: HashMap::new() }
    }

    /// Claims that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Again after `rescan`, by no fault.
    pub fn again(&mut self, claim: Claim, now: Instant) {
        self.waiting.push((now + self.rescan, claim));
    }

    /// Again, later than the last time.
    pub fn failed(&mut self, inbound: &str, claim: Claim, now: Instant) {
        let failures = self.failures.entry(claim.id.clone()).or_default();
        *failures = failures.saturating_add(1);
        let wait = self.rescan.saturating_mul(2_u32.saturating_pow(*failures - 1)).min(self.retry_max);
        tracing::warn!(
            inbound,
            file = claim.id,
            failures,
            again_seconds = wait.as_secs(),
            remedy = "its cause stands before this line; a restart tries it at once",
            "a file of the drop folder could not be taken by a fault of this site; it stays claimed and is tried again"
        );
        self.waiting.push((now + wait, claim));
    }

    /// It was taken.
    pub fn done(&mut self, claim: &Claim) {
        self.failures.remove(&claim.id);
    }

    /// Those whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<Claim> {
        self.waiting.extract_if(.., |(due, _)| *due <= now).map(|(_, claim)| claim).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_is_tried_again_ever_later_and_what_was_taken_is_forgotten() {
        let second = Duration::from_secs(1);
        let mut later = Later::new(30 * second, 3_600 * second);
        let claim = || Claim { id: "one".to_owned(), found: "one.dcm".to_owned() };
        let mut now = Instant::now();
        for wait in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            later.failed("cd", claim(), now);
            assert!(later.due(now + wait * second - second).is_empty(), "{wait}: too early");
            now += wait * second;
            assert_eq!((later.due(now).len(), later.len()), (1, 0), "{wait}");
        }
        later.again(claim(), now);
        now += 30 * second;
        assert_eq!(later.due(now).len(), 1, "a file that was still written waits for no failures");
        later.done(&claim());
        later.failed("cd", claim(), now);
        assert_eq!(later.due(now + 30 * second).len(), 1, "another file of that name begins anew");
    }
}

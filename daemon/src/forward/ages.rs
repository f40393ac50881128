//! How old the oldest waiting item is (profile 03 §2.2.2), whatever becomes of the wall clock.

use std::time::Duration;

use jiff::Timestamp;

/// The age at the last look.
#[derive(Debug, Default)]
pub(super) struct Aging {
    last: Option<Look>,
}

#[derive(Debug)]
struct Look {
    /// Monotonic.
    at: Duration,
    /// Of the oldest; none: nothing waited.
    since: Option<Timestamp>,
    age: Duration,
}

impl Aging {
    /// What waits longest waits since then by the wall clock: its age. What is the oldest still has aged by the time that went
    /// by, and nothing is older than the oldest was.
    pub fn look(&mut self, since: Option<Timestamp>, now: Timestamp, monotonic: Duration) -> Duration {
        let by_wall = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()).unwrap_or_default();
        let age = match &self.last {
            None => by_wall,
            Some(last) => {
                let most = last.age + monotonic.saturating_sub(last.at);
                if since.is_some() && since == last.since { most } else { by_wall.min(most) }
            }
        };
        let age = if since.is_some() { age } else { Duration::ZERO };
        self.last = Some(Look { at: monotonic, since, age });
        age
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sample::at;

    const HOUR: u64 = 3600;

    #[test]
    fn an_age_goes_by_the_time_that_went_by_when_the_clock_is_set() {
        let mut aging = Aging::default();
        let seconds = Duration::from_secs;
        assert_eq!(aging.look(Some(at(0)), at(HOUR as i64), seconds(0)), seconds(HOUR), "of an earlier life");
        for wrong in [86_400, -86_400, 0] {
            let mut aging = Aging::default();
            aging.look(Some(at(0)), at(10), seconds(10));
            assert_eq!(aging.look(Some(at(0)), at(60 + wrong), seconds(60)), seconds(60), "{wrong}: the same one");
            let next = aging.look(Some(at(30)), at(90 + wrong), seconds(90));
            assert!(next <= seconds(90), "{wrong}: no other is older than it");
        }
        aging.look(None, at(0), seconds(HOUR));
        assert_eq!(aging.look(Some(at(0)), at(86_400), seconds(HOUR + 60)), seconds(60), "nothing waited a minute ago");
    }
}

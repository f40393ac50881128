//! When the next attempt is due (03 §2.1–§2.3). Random numbers are arguments, uniform in 0 … 1.

use super::table::Outcomes;
use super::{Class, Decided, Decider, Outcome};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::time::Duration;

impl Outcomes {
    /// Delay after the `n`-th consecutive failure of an item in one class, `n` from 0:
    /// `max(floor, U(0, min(cap, base × 2^min(n,20))))`.
    pub fn delay(&self, class: Class, n: u32, uniform: f64) -> Duration {
        self.delay_capped(class, n, uniform, self.classes[&class].cap_s)
    }

    /// The same with another cap, seconds: §4.7 tries a device for longer apart than the class does.
    pub fn delay_capped(&self, class: Class, n: u32, uniform: f64, cap_s: u64) -> Duration {
        let class = &self.classes[&class];
        let most = cap_s.min(class.base_s << n.min(20));
        let drawn = Duration::from_secs(most).mul_f64(uniform.clamp(0.0, 1.0));
        drawn.max(Duration::from_secs(class.floor_s.min(cap_s)))
    }

    /// Longest delay of a class.
    pub fn cap(&self, class: Class) -> Duration {
        Duration::from_secs(self.classes[&class].cap_s)
    }

    /// An item in `retry` with a healthy age beyond the limit becomes hold(operator) (§2.2.3); the cause is then `aged`.
    /// Gives back whether that happened.
    pub fn age_out(&self, decided: &mut Decided, healthy_age: Duration) -> bool {
        let aged = decided.class().is_some() && healthy_age > Duration::from_secs(self.ages.hold_after_s);
        if aged {
            decided.outcome = Outcome::Hold(Decider::Operator);
        }
        aged
    }
}

/// A due time read from disk, after a restart or a clock step: at most `now` + cap of the class (§2.2.4).
pub fn reclamp(due: Timestamp, now: Timestamp, cap: Duration) -> Timestamp {
    now.checked_add(cap).map_or(due, |latest| due.min(latest))
}

/// Ages of §2.2 and §2.6, seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ages {
    /// Oldest age per peer above this: WARN.
    pub warn_s: u64,
    /// Above this: PAGE.
    pub page_s: u64,
    /// Healthy age above this: hold(operator).
    pub hold_after_s: u64,
    /// Healthy age above this: [`super::Effect::ResendWhenOld`] applies.
    pub resend_after_s: u64,
    /// One held item per peer, channel and cause is tried this often.
    pub probe_every_s: u64,
}

/// Alarm by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeAlarm {
    /// Above `warn_s`.
    Warn,
    /// Above `page_s`.
    Page,
}

impl Ages {
    /// Alarm for the oldest age of a peer.
    pub fn alarm(&self, oldest: Duration) -> Option<AgeAlarm> {
        match oldest.as_secs_f64() {
            age if age > self.page_s as f64 => Some(AgeAlarm::Page),
            age if age > self.warn_s as f64 => Some(AgeAlarm::Warn),
            _ => None,
        }
    }
}

/// Bounds of a peer's wish to be left alone (§2.3). It gates the whole peer channel; the larger of gate and class delay wins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryAfter {
    /// Shortest, seconds.
    pub min_s: u64,
    /// Longest, seconds.
    pub max_s: u64,
    /// Share of the value that is added at most, at random.
    pub jitter: f64,
}

impl RetryAfter {
    /// HTTP `Retry-After` (RFC 9110 §10.2.3): seconds, or a date in one of the three forms of §5.6.7. `None`: not parsable,
    /// ignored. The result is within the bounds.
    pub fn http(&self, value: &str, now: Timestamp) -> Option<Duration> {
        let value = value.trim();
        if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
            // A number beyond u64 is beyond the upper bound as well.
            return Some(self.clamp(Duration::from_secs(value.parse().unwrap_or(u64::MAX))));
        }
        let wait = http_date(value)?.duration_since(now);
        Some(self.clamp(Duration::try_from(wait).unwrap_or(Duration::ZERO)))
    }

    /// `wsa:RetryAfter`: milliseconds (WS-Addressing SOAP binding §6.4.5).
    pub fn wsa(&self, milliseconds: &str) -> Option<Duration> {
        let text = milliseconds.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| self.clamp(Duration::from_millis(text.parse().unwrap_or(u64::MAX))))
    }

    /// How long no attempt is made: `r × (1 + U(0, jitter))`.
    pub fn gate(&self, wait: Duration, uniform: f64) -> Duration {
        self.clamp(wait).mul_f64(1.0 + self.jitter * uniform.clamp(0.0, 1.0))
    }

    fn clamp(&self, wait: Duration) -> Duration {
        wait.clamp(Duration::from_secs(self.min_s), Duration::from_secs(self.max_s.max(self.min_s)))
    }
}

/// IMF-fixdate, RFC 850 and asctime; all are UTC.
fn http_date(text: &str) -> Option<Timestamp> {
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| DateTime::strptime(form, text).ok())
        .and_then(|date| TimeZone::UTC.to_timestamp(date).ok())
}

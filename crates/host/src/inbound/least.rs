//! The least pace of a message: a peer that sends a byte now and then keeps a place that others need, and is never silent.
//!
//! What counts is the time in which we waited for the peer while a message of it was under way, and the bytes that came in that
//! time. Between messages nothing is measured, nor while the peer waits for us. As [`crate::pace`] does for HTTP (BD-12), but far
//! lower: a slow device is honest as long as it gets on.

use std::time::Duration;

/// Of one association.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

/// What a peer must keep to.
#[derive(Debug, Clone, Copy)]
pub struct Least {
    /// Bytes per second; 0: any pace will do.
    pub bytes_per_second: u64,
    /// Averaged over so much waiting.
    pub window: Duration,
}

impl Least {
    /// Any pace will do.
    pub const ANY: Self = Self { bytes_per_second: 0, window: Duration::ZERO };
}

impl Pace {
    /// A message has ended, or none has begun.
    pub fn rest(&mut self) {
        *self = Self::default();
    }

    /// How long can be waited before there is something to decide; `None`: for ever.
    pub fn left(&self, least: Least) -> Option<Duration> {
        (least.bytes_per_second > 0).then(|| least.window.saturating_sub(self.waited))
    }

    /// So long was waited, and so much came; `false`: too little over the whole window.
    pub fn keeps(&mut self, least: Least, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if least.bytes_per_second == 0 || self.waited < least.window {
            return true;
        }
        let wanted = u128::from(least.bytes_per_second) * least.window.as_millis() / 1_000;
        let keeps = u128::from(self.bytes) >= wanted;
        self.rest();
        keeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Least = Least { bytes_per_second: 256, window: Duration::from_secs(60) };
    const SECOND: Duration = Duration::from_secs(1);

    /// Whether every second of these bytes is enough.
    fn keeps(bytes: impl IntoIterator<Item = usize>) -> bool {
        let mut pace = Pace::default();
        bytes.into_iter().all(|bytes| pace.keeps(LEAST, SECOND, bytes))
    }

    #[test]
    fn the_least_pace_is_enough_and_a_byte_less_is_not() {
        assert!(keeps([256; 600]));
        assert!(!keeps([vec![256; 59], vec![255]].concat()));
        assert!(!keeps([1; 60]));
    }

    #[test]
    fn a_pause_is_allowed_to_who_is_fast_in_the_rest() {
        assert!(keeps((0..600).map(|second| if second % 60 < 59 { 0 } else { 15_360 })));
        assert!(!keeps([vec![1 << 20; 60], vec![0; 60]].concat()), "what was sent before does not count");
    }

    #[test]
    fn only_waiting_in_a_message_counts() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            // A short message after a long wait.
            assert!(pace.keeps(LEAST, 59 * SECOND, 10));
            pace.rest();
        }
        assert_eq!(pace.left(LEAST), Some(LEAST.window));
        let any = Least { bytes_per_second: 0, ..LEAST };
        assert!((0..1_000).all(|_| pace.keeps(any, SECOND, 0)) && pace.left(any).is_none());
    }
}

//! What is kept of those who are not known yet: requests of the last minute, and nonces. Both bounded.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Over which time requests are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a nonce is good.
const NONCE: Duration = Duration::from_secs(300);
/// Nonces at once. More than the requests of their time are never asked for as shipped.
const NONCES_MAX: usize = 1_000;

/// Requests of the last minute.
#[derive(Debug, Default)]
pub struct Limiter {
    recent: VecDeque<(Instant, IpAddr)>,
}

impl Limiter {
    /// Whether one more may come, and counts it.
    pub fn admit(&mut self, address: IpAddr, (of_address, of_all): (u32, u32), now: Instant) -> bool {
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        let own = self.recent.iter().filter(|(_, other)| *other == address).count();
        let fits = own < of_address as usize && self.recent.len() < of_all as usize;
        if fits {
            self.recent.push_back((now, address));
        }
        fits
    }
}

/// Nonces that were given and not used.
#[derive(Debug, Default)]
pub struct Nonces {
    given: HashMap<[u8; 32], Instant>,
}

impl Nonces {
    /// Gives one; `false`: there are too many.
    pub fn give(&mut self, nonce: [u8; 32], now: Instant) -> bool {
        self.given.retain(|_, at| now.duration_since(*at) < NONCE);
        let fits = self.given.len() < NONCES_MAX;
        if fits {
            self.given.insert(nonce, now);
        }
        fits
    }

    /// Uses one up; `false`: it is none of ours, too old, or was used.
    pub fn take(&mut self, nonce: &[u8; 32], now: Instant) -> bool {
        self.given.remove(nonce).is_some_and(|at| now.duration_since(at) < NONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_all_addresses_have_a_number_of_requests_a_minute() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!((0..12).filter(|_| limiter.admit(address(1), (10, 15), now)).count(), 10, "of one address");
        assert_eq!((0..12).filter(|_| limiter.admit(address(2), (10, 15), now)).count(), 5, "of all together");
        assert!(limiter.admit(address(1), (10, 15), now + WINDOW), "a minute later");
    }

    #[test]
    fn a_nonce_is_good_once_and_for_300_seconds() {
        let (mut nonces, now) = (Nonces::default(), Instant::now());
        assert!(nonces.give([1; 32], now) && nonces.give([2; 32], now));
        assert!(nonces.take(&[1; 32], now) && !nonces.take(&[1; 32], now), "once");
        assert!(!nonces.take(&[2; 32], now + NONCE) && !nonces.take(&[3; 32], now), "too late, unknown");
        assert_eq!((0..2_000_u32).filter(|n| nonces.give([n.to_be_bytes(); 8].concat().try_into().expect("32"), now)).count(), NONCES_MAX);
    }
}

//! How many things of a kind there are at once, in all and of one network address (profile 10 §11 BD-01, BD-02; 01 D005).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A count of what is open.
#[derive(Debug, Clone, Default)]
pub struct Places {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The limit of all together.
    #[error("limit of all peers together reached")]
    All,
    /// The limit of one address.
    #[error("limit of one address reached")]
    OfPeer,
}

/// A place in such a count; given back on drop.
#[derive(Debug)]
pub struct Place {
    places: Places,
    peer: IpAddr,
}

impl Places {
    /// A place for `peer`. An IPv4 address mapped into IPv6 counts as IPv4.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&self, peer: IpAddr, all_max: usize, of_peer_max: usize) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or(0);
        if open.all >= all_max {
            return Err(Full::All);
        }
        if of_peer >= of_peer_max {
            return Err(Full::OfPeer);
        }
        open.all += 1;
        open.by_peer.insert(peer, of_peer + 1);
        drop(open);
        Ok(Place { places: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.by_peer.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_peer.remove(&self.peer);
            }
        }
    }
}

/// Connections of the listeners that share it.
#[derive(Debug, Clone)]
pub struct Connections {
    places: Places,
    all_max: usize,
    per_address_max: usize,
    handshakes: Arc<Semaphore>,
}

impl Connections {
    /// None yet. At once at most `all_max`, `per_address_max` of one address (BD-01) and `handshakes_max` TLS handshakes (BD-02).
    pub fn new(all_max: usize, per_address_max: usize, handshakes_max: usize) -> Self {
        Self { places: Places::default(), all_max, per_address_max, handshakes: Arc::new(Semaphore::new(handshakes_max)) }
    }

    /// A place for a connection that was accepted; `None`, with a line in the journal: close it.
    pub fn admit(&self, peer: IpAddr) -> Option<Place> {
        let place = self.places.take(peer, self.all_max, self.per_address_max);
        place.inspect_err(|full| tracing::warn!(code = "IDR-T-15", %peer, bound = "BD-01", "connection closed: {full}")).ok()
    }

    /// A place for its TLS handshake; `None`, with a line in the journal: close it. Never waited for: the handshakes of some must
    /// not keep others from theirs.
    pub fn handshake(&self, peer: IpAddr) -> Option<OwnedSemaphorePermit> {
        let place = self.handshakes.clone().try_acquire_owned();
        place.inspect_err(|_| tracing::warn!(%peer, bound = "BD-02", "connection closed: too many TLS handshakes in progress")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_never_waited_for() {
        let (connections, peer) = (Connections::new(9, 9, 1), "192.0.2.1".parse().expect("address"));
        let first = connections.handshake(peer);
        assert!(first.is_some() && connections.handshake(peer).is_none());
        drop(first);
        assert!(connections.handshake(peer).is_some());
    }

    #[test]
    fn a_place_is_bounded_in_all_and_by_address_and_comes_back() {
        let places = Places::default();
        let (a, mapped, b): (IpAddr, IpAddr, IpAddr) =
            ("192.0.2.1".parse().expect("a"), "::ffff:192.0.2.1".parse().expect("a"), "192.0.2.2".parse().expect("b"));
        let first = places.take(a, 3, 2).expect("free");
        let _second = places.take(mapped, 3, 2).expect("free");
        assert_eq!(places.take(a, 3, 2).expect_err("two of one address"), Full::OfPeer);
        let _third = places.take(b, 3, 2).expect("free");
        assert_eq!(places.take(b, 3, 2).expect_err("three in all"), Full::All);
        drop(first);
        let _again = places.take(a, 3, 2).expect("given back");
    }
}

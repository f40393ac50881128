//! How many things of a kind there are at once, in all and of one network address (profile 10 §11 BD-01, BD-02; 01 D005).
//!
//! A place may be [replaceable](Places::take_replaceable): while its holder has proven nothing, it goes to a newcomer rather than
//! keep it out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A count of what is open.
#[derive(Debug, Clone, Default)]
pub struct Places {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
    /// Those that may be given to another, the oldest first.
    replaceable: BTreeMap<u64, (IpAddr, CancellationToken)>,
    next: u64,
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
    /// While it may be given to another: its number.
    replaceable: Option<u64>,
    lost: CancellationToken,
}

impl Places {
    /// A place for `peer`. An IPv4 address mapped into IPv6 counts as IPv4.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&self, peer: IpAddr, all_max: usize, of_peer_max: usize) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        let mut open = self.lock();
        open.room(peer, all_max, of_peer_max)?;
        open.add(peer);
        drop(open);
        Ok(Place { places: self.clone(), peer, replaceable: None, lost: CancellationToken::new() })
    }

    /// A place that may be given to another until [`Place::keep`]. If there is none left, the oldest of such places of the address
    /// that has most of them goes to `peer`, and its holder [has lost](Place::lost) it: who only waits keeps nobody out, and an
    /// address with many connections takes none from one with few. Of `peer`'s own if the limit of one address is reached.
    ///
    /// # Errors
    /// [`Full`]: all places are kept.
    pub fn take_replaceable(&self, peer: IpAddr, all_max: usize, of_peer_max: usize) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        let mut open = self.lock();
        if let Err(full) = open.room(peer, all_max, of_peer_max) {
            let number = match full {
                Full::OfPeer => open.replaceable.iter().find(|(_, (of, _))| *of == peer).map(|(number, _)| *number),
                Full::All => open.oldest_of_the_largest(),
            };
            let (of, lost) = number.and_then(|number| open.replaceable.remove(&number)).ok_or(full)?;
            open.remove(of);
            lost.cancel();
            // The address may be at its limit too.
            open.room(peer, all_max, of_peer_max)?;
        }
        open.add(peer);
        open.next += 1;
        let (number, lost) = (open.next, CancellationToken::new());
        open.replaceable.insert(number, (peer, lost.clone()));
        drop(open);
        Ok(Place { places: self.clone(), peer, replaceable: Some(number), lost })
    }

    /// How many are taken.
    pub fn open(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The limit of the address first: one that has reached it takes no place from others.
    fn room(&self, peer: IpAddr, all_max: usize, of_peer_max: usize) -> Result<(), Full> {
        if self.by_peer.get(&peer).copied().unwrap_or(0) >= of_peer_max {
            return Err(Full::OfPeer);
        }
        if self.all >= all_max { Err(Full::All) } else { Ok(()) }
    }

    fn add(&mut self, peer: IpAddr) {
        self.all += 1;
        *self.by_peer.entry(peer).or_default() += 1;
    }

    fn remove(&mut self, peer: IpAddr) {
        self.all = self.all.saturating_sub(1);
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }

    fn oldest_of_the_largest(&self) -> Option<u64> {
        let mut of: HashMap<IpAddr, (usize, Reverse<u64>)> = HashMap::new();
        for (number, (peer, _)) in &self.replaceable {
            of.entry(*peer).or_insert((0, Reverse(*number))).0 += 1;
        }
        of.into_values().max().map(|(_, Reverse(number))| number)
    }
}

impl Place {
    /// From now on it is not given to another. `false`: it was already.
    pub fn keep(&mut self) -> bool {
        let Some(number) = self.replaceable else { return true };
        let held = self.places.lock().replaceable.remove(&number).is_some();
        if held {
            self.replaceable = None;
        }
        held
    }

    /// Cancelled when the place went to another: its holder ends.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        // One that went to another is counted there.
        if self.replaceable.is_none_or(|number| open.replaceable.remove(&number).is_some()) {
            open.remove(self.peer);
        }
    }
}

/// Connections of the listeners that share it.
#[derive(Debug, Clone)]
pub struct Connections {
    places: Places,
    all_max: usize,
    per_address_max: usize,
    handshakes: Places,
    handshakes_max: usize,
    breaches: Arc<Breaches>,
}

impl Connections {
    /// None yet. At once at most `all_max`, `per_address_max` of one address (BD-01) and `handshakes_max` TLS handshakes (BD-02).
    pub fn new(all_max: usize, per_address_max: usize, handshakes_max: usize) -> Self {
        let (places, handshakes) = (Places::default(), Places::default());
        Self { places, all_max, per_address_max, handshakes, handshakes_max, breaches: Arc::default() }
    }

    /// A place for a connection that was accepted; `None`, with a line in the journal: close it.
    pub fn admit(&self, peer: IpAddr) -> Option<Place> {
        let place = self.places.take(peer, self.all_max, self.per_address_max);
        place.inspect_err(|full| self.breaches.tell("BD-01", peer, full)).ok()
    }

    /// As [`Connections::admit`], but the place may go to another connection until it is [kept](Place::keep): if there is none
    /// left, one that has waited longest ends for it. The bound holds, and who only connects keeps nobody out.
    pub fn admit_replaceable(&self, peer: IpAddr) -> Option<Place> {
        let place = self.places.take_replaceable(peer, self.all_max, self.per_address_max);
        place.inspect_err(|full| self.breaches.tell("BD-01", peer, full)).ok()
    }

    /// A place for its TLS handshake; `None`, with a line in the journal: close it. Never waited for, since the handshakes of some
    /// must not keep others from theirs; and [lost](Place::lost) to another handshake when all places are taken.
    pub fn handshake(&self, peer: IpAddr) -> Option<Place> {
        let place = self.handshakes.take_replaceable(peer, self.handshakes_max, usize::MAX);
        place.inspect_err(|full| self.breaches.tell("BD-02", peer, full)).ok()
    }

    /// A connection was closed because its place went to another.
    pub fn replaced(&self, bound: &'static str, peer: IpAddr) {
        self.breaches.tell(bound, peer, &"its place was needed for another");
    }

    /// How often each bound closed a connection, since the start.
    pub fn breaches(&self) -> BTreeMap<&'static str, u64> {
        self.breaches.lock().counts.clone()
    }
}

/// Between two lines in the journal about one address and one bound (profile 10 §11).
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Addresses that are remembered for it.
const TOLD_MAX: usize = 4_096;

/// Breaches of bounds: all counted, told once per address and minute.
#[derive(Debug, Default)]
struct Breaches(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    counts: BTreeMap<&'static str, u64>,
    told: HashMap<(&'static str, IpAddr), Instant>,
}

impl Breaches {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, bound: &'static str, peer: IpAddr, cause: &dyn std::fmt::Display) {
        let mut breaches = self.lock();
        *breaches.counts.entry(bound).or_default() += 1;
        if breaches.told.len() >= TOLD_MAX {
            breaches.told.retain(|_, at| at.elapsed() < TOLD_AGAIN);
        }
        let told = breaches.told.get(&(bound, peer)).is_some_and(|at| at.elapsed() < TOLD_AGAIN);
        if !told && breaches.told.len() < TOLD_MAX {
            breaches.told.insert((bound, peer), Instant::now());
            drop(breaches);
            tracing::warn!(code = "IDR-T-15", %peer, bound, "connection closed: {cause}; told once a minute for this address");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_never_waited_for_and_the_oldest_goes_for_it() {
        let (connections, peer) = (Connections::new(9, 9, 1), "192.0.2.1".parse().expect("address"));
        let first = connections.handshake(peer).expect("free");
        let second = connections.handshake(peer).expect("replaces the first");
        assert!(first.lost().is_cancelled() && !second.lost().is_cancelled());
        drop((first, second));
        assert!(connections.handshakes.lock().all == 0 && connections.handshake(peer).is_some());
    }

    #[test]
    fn who_waits_makes_room_and_who_is_at_work_stays() {
        let places = Places::default();
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let take = |n: u8| places.take_replaceable(address(n), 4, 3);
        let mut works = take(1).expect("free");
        assert!(works.keep() && works.keep());
        let (few, many) = (take(2).expect("free"), [take(3).expect("free"), take(3).expect("free")]);
        // Full: the oldest of the address that has most goes.
        let new = take(4).expect("replaces");
        assert!(many[0].lost().is_cancelled() && [&works, &few, &many[1], &new].iter().all(|place| !place.lost().is_cancelled()));
        // One that was lost cannot be kept, and gives back nothing.
        let [mut lost, still] = many;
        assert!(!lost.keep());
        drop(lost);
        assert_eq!(places.lock().all, 4);
        drop((works, few, still, new));
        assert!(places.lock().all == 0 && places.lock().by_peer.is_empty() && places.lock().replaceable.is_empty());
    }

    #[test]
    fn an_address_at_its_limit_gives_up_its_own_and_if_all_are_kept_gets_none() {
        let places = Places::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let take = |peer| places.take_replaceable(peer, 3, 2);
        let (of_other, mut first, second) = (take(other).expect("free"), take(one).expect("free"), take(one).expect("free"));
        assert!(first.keep());
        let mut third = take(one).expect("replaces its own");
        assert!(second.lost().is_cancelled() && !of_other.lost().is_cancelled());
        assert!(third.keep());
        assert_eq!(take(one).expect_err("both are kept"), Full::OfPeer);
        assert!(!of_other.lost().is_cancelled(), "others do not pay for it");
    }

    #[test]
    fn breaches_are_counted() {
        let (connections, peer) = (Connections::new(1, 1, 1), "192.0.2.1".parse().expect("address"));
        let _one = connections.admit(peer);
        assert!(connections.admit(peer).is_none() && connections.admit(peer).is_none());
        assert_eq!(connections.breaches(), BTreeMap::from([("BD-01", 2)]));
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

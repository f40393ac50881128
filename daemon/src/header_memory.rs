//! One budget for what all receptions together keep in memory of the data set headers that are on their way.
//!
//! What one of them may keep is bounded by the rule set ([`idr_profile::scan::Limits`]); how many there are, by the places of
//! associations, requests and drop folders. Their product is more than a gateway has. So each [`Held`] says what it will keep before
//! it reads on, and waits while there is no room: the sender is held back by its own connection, and nothing is refused or failed
//! for want of memory.
//!
//! # No deadlock
//! Objects that each hold a part and each wait for more would wait for ever. So one of those that wait, the first in the line, has a
//! seat beyond the budget: it gets what it asks for, whatever the others hold, until its object has ended. The seat then goes to the
//! next in the line. Who waits is thus waited for by nobody but those behind, and who moves ends, by its last byte or by the bounds of
//! time of its connection. It is the first that waits and not the oldest of all: an object whose header is read and whose pixels
//! still come asks for nothing, and a seat would be lost on it.
//!
//! # Bounds
//! The budget, and one object above it. Each object has [`SHARE_BYTES`] that are not counted, so that senders of ordinary headers do
//! not wait for those of large ones. Who waits, waits in order; a small wish does not pass a large one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idr_host::monitor::Counter;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What every object may keep without being counted, bytes.
pub const SHARE_BYTES: usize = 512 << 10;
/// Between two lines in the journal.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// The budget; clones share it.
#[derive(Clone)]
pub struct HeaderMemory {
    shared: Arc<Shared>,
}

struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
    /// How often an object began to wait.
    waits: Counter,
}

#[derive(Default)]
struct State {
    next: u64,
    used: usize,
    /// Counted bytes of each object that has any.
    counted: HashMap<u64, usize>,
    line: VecDeque<Waiting>,
    seat: Option<u64>,
    told: Option<Instant>,
}

struct Waiting {
    object: u64,
    to: usize,
    wake: Arc<Notify>,
}

/// How much is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Counted bytes.
    pub bytes: usize,
    /// The budget.
    pub bytes_max: usize,
    /// Objects that wait.
    pub waiting: usize,
    /// How often one began to wait, since the start.
    pub waits: u64,
}

/// What one object keeps; given back on drop.
pub struct Held {
    shared: Arc<Shared>,
    object: u64,
    /// Uncounted and counted bytes that it may keep without asking.
    granted: usize,
}

impl HeaderMemory {
    /// `bytes_max` for all objects together.
    pub fn new(bytes_max: usize) -> Self {
        Self { shared: Arc::new(Shared { bytes_max, state: Mutex::default(), waits: Counter::default() }) }
    }

    /// For an object that begins.
    pub fn begin(&self) -> Held {
        let mut state = self.shared.lock();
        state.next += 1;
        Held { shared: self.shared.clone(), object: state.next, granted: SHARE_BYTES }
    }

    /// How much is in use now.
    pub fn usage(&self) -> Usage {
        let state = self.shared.lock();
        let (bytes, waiting) = (state.used, state.line.len());
        Usage { bytes, bytes_max: self.shared.bytes_max, waiting, waits: self.shared.waits.value() }
    }
}

impl Held {
    /// Waits until the object may keep `bytes` in all. If the future is dropped it may be called again.
    pub async fn grow_to(&mut self, bytes: usize) {
        if bytes <= self.granted {
            return;
        }
        let counted = bytes.saturating_sub(SHARE_BYTES);
        let wake = Arc::new(Notify::new());
        {
            let mut state = self.shared.lock();
            state.leave(self.object);
            state.line.push_back(Waiting { object: self.object, to: counted, wake: wake.clone() });
            state.serve(self.shared.bytes_max);
            if state.waits(self.object) {
                self.shared.waits.add(1);
                state.tell(self.shared.bytes_max);
            }
        }
        while self.shared.lock().waits(self.object) {
            wake.notified().await;
        }
        self.granted = bytes;
    }

    /// It keeps `bytes` now, which may be less than it asked for.
    pub fn settle(&mut self, bytes: usize) {
        let bytes = bytes.max(SHARE_BYTES);
        if bytes < self.granted {
            self.granted = bytes;
            self.shared.set(self.object, bytes - SHARE_BYTES);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.leave(self.object);
        state.count(self.object, 0);
        if state.seat == Some(self.object) {
            state.seat = None;
        }
        state.serve(self.shared.bytes_max);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, object: u64, counted: usize) {
        let mut state = self.lock();
        state.count(object, counted);
        state.serve(self.bytes_max);
    }
}

impl State {
    fn of(&self, object: u64) -> usize {
        self.counted.get(&object).copied().unwrap_or(0)
    }

    fn count(&mut self, object: u64, counted: usize) {
        self.used = self.used - self.of(object) + counted;
        if counted == 0 {
            self.counted.remove(&object);
        } else {
            self.counted.insert(object, counted);
        }
    }

    fn waits(&self, object: u64) -> bool {
        self.line.iter().any(|waiting| waiting.object == object)
    }

    fn leave(&mut self, object: u64) {
        self.line.retain(|waiting| waiting.object != object);
    }

    /// Gives to those in the line what there is, and to the first that does not fit the seat.
    fn serve(&mut self, bytes_max: usize) {
        // Who has the seat is not waited for by others and waits for nobody.
        if let Some(at) = self.line.iter().position(|waiting| self.seat == Some(waiting.object)) {
            self.grant(at);
        }
        while let Some(first) = self.line.front() {
            let fits = self.used - self.of(first.object) + first.to <= bytes_max;
            if !fits && self.seat.is_some() {
                return;
            }
            if !fits {
                self.seat = Some(first.object);
            }
            self.grant(0);
        }
    }

    fn grant(&mut self, at: usize) {
        if let Some(waiting) = self.line.remove(at) {
            self.count(waiting.object, waiting.to);
            waiting.wake.notify_one();
        }
    }

    fn tell(&mut self, bytes_max: usize) {
        if self.told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(
                bytes = self.used,
                bytes_max,
                waiting = self.line.len(),
                remedy = "if it lasts, raise reception.header_memory_bytes, or have fewer devices send such objects at once",
                "senders are held back: the data set headers on their way take all the memory that they may"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

    use super::*;

    /// Bytes of an object with so many counted ones.
    fn counted(bytes: usize) -> usize {
        SHARE_BYTES + bytes
    }

    fn granted(held: &mut Held, bytes: usize) -> bool {
        held.grow_to(bytes).now_or_never().is_some()
    }

    fn used(memory: &HeaderMemory) -> usize {
        memory.usage().bytes
    }

    #[test]
    fn all_of_the_budget_is_given_and_one_byte_past_it_waits_for_the_seat() {
        let memory = HeaderMemory::new(1_000);
        let (mut a, mut b, mut c) = (memory.begin(), memory.begin(), memory.begin());
        assert!(granted(&mut a, counted(600)) && granted(&mut b, counted(400)));
        assert_eq!((used(&memory), memory.usage().waits), (1_000, 0), "at the limit nobody waits");
        assert!(granted(&mut a, counted(601)), "the first past it has the seat");
        assert_eq!(used(&memory), 1_001);
        assert!(!granted(&mut b, counted(401)) && !granted(&mut c, counted(1)), "the others are held back");
        assert_eq!((used(&memory), memory.usage().waits), (1_001, 2));
        assert!(granted(&mut c, counted(0)), "but an ordinary header is not");
    }

    #[test]
    fn who_has_the_seat_gets_all_it_asks_for_and_it_goes_to_the_first_in_the_line() {
        let memory = HeaderMemory::new(1_000);
        let (mut a, mut b, mut c, mut d) = (memory.begin(), memory.begin(), memory.begin(), memory.begin());
        assert!(granted(&mut a, counted(500)) && granted(&mut b, counted(500)));
        assert!(granted(&mut a, counted(5_000)) && granted(&mut a, counted(9_000)), "the seat, for as long as it needs");
        let (mut b_waits, mut c_waits, mut d_waits) =
            (Box::pin(b.grow_to(counted(9_000))), pin!(c.grow_to(counted(900))), pin!(d.grow_to(counted(1))));
        assert!(b_waits.as_mut().now_or_never().is_none() && c_waits.as_mut().now_or_never().is_none());
        assert!(d_waits.as_mut().now_or_never().is_none(), "a small wish does not pass the large ones");
        assert_eq!(memory.usage().waiting, 3);
        drop(a);
        assert!(b_waits.as_mut().now_or_never().is_some(), "the next in the line");
        drop(b_waits);
        assert!(c_waits.as_mut().now_or_never().is_none());
        drop(b);
        assert!(c_waits.as_mut().now_or_never().is_some() && d_waits.as_mut().now_or_never().is_some());
        assert_eq!(memory.usage(), Usage { bytes: 901, bytes_max: 1_000, waiting: 0, waits: 3 });
    }

    #[tokio::test]
    async fn objects_that_each_hold_a_part_and_each_want_more_all_end() {
        let memory = HeaderMemory::new(1_000);
        let mut tasks = tokio::task::JoinSet::new();
        let highest = Arc::new(Mutex::new(0));
        for _ in 0..32 {
            let (mut held, memory, highest) = (memory.begin(), memory.clone(), highest.clone());
            tasks.spawn(async move {
                for bytes in (0..=800).step_by(50) {
                    held.grow_to(counted(bytes)).await;
                    {
                        let mut highest = highest.lock().expect("not poisoned");
                        *highest = usize::max(*highest, memory.usage().bytes);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        let ended = tokio::time::timeout(Duration::from_secs(30), async { while tasks.join_next().await.is_some() {} });
        ended.await.expect("nobody waits for ever");
        let highest = *highest.lock().expect("not poisoned");
        assert!(highest > 1_000 && highest <= 1_800, "the budget and one object: {highest}");
        let Usage { bytes, waiting, waits, .. } = memory.usage();
        assert!(bytes == 0 && waiting == 0 && waits > 0, "all is given back: {bytes} {waiting} {waits}");
    }

    #[test]
    fn what_is_not_needed_is_given_to_who_waits() {
        let memory = HeaderMemory::new(1_000);
        let (mut seat, mut a, mut b) = (memory.begin(), memory.begin(), memory.begin());
        assert!(granted(&mut a, counted(1_000)) && granted(&mut seat, counted(1)));
        let mut waits = pin!(b.grow_to(counted(600)));
        assert!(waits.as_mut().now_or_never().is_none());
        a.settle(counted(400));
        assert!(waits.as_mut().now_or_never().is_none(), "one byte is missing");
        a.settle(counted(399));
        assert!(waits.as_mut().now_or_never().is_some());
        assert_eq!(used(&memory), 1_000);
    }

    #[test]
    fn who_gives_up_the_wait_leaves_the_line_and_what_it_held() {
        let memory = HeaderMemory::new(100);
        let (mut seat, mut gone, mut next) = (memory.begin(), memory.begin(), memory.begin());
        assert!(granted(&mut seat, counted(101)) && !granted(&mut gone, counted(50)));
        let mut waits = pin!(next.grow_to(counted(10)));
        assert!(waits.as_mut().now_or_never().is_none());
        drop((seat, gone));
        assert!(waits.as_mut().now_or_never().is_some());
        assert_eq!(used(&memory), 10);
    }
}

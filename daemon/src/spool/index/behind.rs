//! An index that is written behind: rows wait in memory, and many calls become one batch of the index under it.
//!
//! A row of a study changes with every object of it, and sled or redb would write each change. Here the changes of some
//! hundred objects meet in memory, and only the last value of a row goes on (docs/decisions/0003-spool.md). What waits is
//! lost with the process, which the index may be: nothing is true because it stands there.
//!
//! # Failure
//! A change that was taken is in force, whatever becomes of its batch. A batch that the index under this one does not take
//! waits on and is tried again with each further measure; [`Index::persist`] says what is wrong.
//!
//! # Bounds
//! At most a measure of keys and values ([`WAITING_BYTES`] of a site) waits, and as much again is on its way; whoever fills
//! it writes. Of an index that takes nothing up to [`MEASURES_MAX`] measures wait, then no further change is taken.

use super::{Change, Index, IndexError, Row};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keys and values that wait at a site, bytes.
pub const WAITING_BYTES: usize = 512 << 10;
/// Measures that wait while the index under this one takes nothing.
const MEASURES_MAX: usize = 32;

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// See the module.
pub struct Behind {
    under: Box<dyn Index>,
    measure: usize,
    waiting: Mutex<Waiting>,
    /// Held by who writes: batches keep their order.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    rows: Rows,
    bytes: usize,
    /// Measures that were tried in vain since the last one that was taken.
    refused: usize,
    /// Taken from `rows` and not yet confirmed by the index under this one.
    leaving: Arc<Rows>,
}

impl Behind {
    /// Over an index; with a measure of 0 bytes each change is written at once.
    pub fn new(under: Box<dyn Index>, measure: usize) -> Self {
        Self { under, measure, waiting: Mutex::default(), writing: Mutex::new(()) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the index under this one what waits. After an error it waits on, and the next call begins with it.
    fn write(&self) -> Result<(), IndexError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_leaving()?;
        {
            let mut waiting = self.waiting();
            waiting.leaving = Arc::new(std::mem::take(&mut waiting.rows));
            waiting.bytes = 0;
        }
        self.write_leaving()
    }

    fn write_leaving(&self) -> Result<(), IndexError> {
        let leaving = Arc::clone(&self.waiting().leaving);
        if !leaving.is_empty() {
            self.under.apply(leaving.iter().map(|(key, value)| (key.clone(), value.clone())).collect())?;
            let mut waiting = self.waiting();
            (waiting.leaving, waiting.refused) = (Arc::default(), 0);
        }
        Ok(())
    }
}

impl Waiting {
    fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.rows.get(key).or_else(|| self.leaving.get(key)).cloned()
    }

    /// The rows that wait from `from` on, in order, up to `limit` that have a value: what is removed comes with them. With
    /// the key up to which this is all there is.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> (Rows, Vec<u8>) {
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let (mut newer, mut older) = (self.rows.range::<[u8], _>(bounds).peekable(), self.leaving.range::<[u8], _>(bounds).peekable());
        let mut rows = Rows::new();
        let mut values = 0;
        loop {
            let (key, value) = match (newer.peek(), older.peek()) {
                (None, None) => return (rows, to.to_vec()),
                (Some(new), Some(old)) if new.0 == old.0 => {
                    older.next();
                    continue;
                }
                (Some(new), Some(old)) if new.0 > old.0 => *old,
                (None, Some(old)) => *old,
                (Some(new), _) => *new,
            };
            if values == limit {
                return (rows, key.clone());
            }
            values += usize::from(value.is_some());
            rows.insert(key.clone(), value.clone());
            if newer.peek().is_some_and(|new| new.0 == key) {
                newer.next()
            } else {
                older.next()
            };
        }
    }
}

impl Index for Behind {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        // What leaves this memory after the look is in the index under it by then.
        let waiting = self.waiting().get(key);
        waiting.map_or_else(|| self.under.read(key), Ok)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        let mut found: Vec<Row> = Vec::new();
        let mut from = from.to_vec();
        while found.len() < limit && from[..] < *to {
            let wanted = limit - found.len();
            let (mut rows, mut end) = self.waiting().range(&from, to, wanted);
            let under = self.under.scan(&from, &end, wanted)?;
            if let (Some((last, _)), true) = (under.last(), under.len() == wanted) {
                // There may be more under this one: what is known is known up to here.
                end = [last, &[0][..]].concat();
            }
            for (key, value) in under {
                rows.entry(key).or_insert(Some(value));
            }
            let known = rows.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&end[..])));
            found.extend(known.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).take(wanted));
            from = end;
        }
        Ok(found)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        let full = {
            let mut waiting = self.waiting();
            if waiting.refused >= MEASURES_MAX {
                return Err(IndexError("it has not taken what waits for it".to_owned()));
            }
            for (key, value) in changes {
                waiting.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
                waiting.rows.insert(key, value);
            }
            waiting.bytes >= self.measure.saturating_mul(waiting.refused + 1)
        };
        if full && let Err(error) = self.write() {
            let mut waiting = self.waiting();
            waiting.refused += 1;
            if waiting.refused == 1 {
                tracing::error!(%error, "the index does not take what waits for it");
            }
        }
        Ok(())
    }

    fn persist(&self) -> Result<(), IndexError> {
        self.write()?;
        self.under.persist()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IndexStore as _, MemoryStore};
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Apply(Vec<(u8, Option<u8>)>),
        Write,
        Read(u8),
        Scan(u8, u8, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop::collection::vec((0..24_u8, any::<Option<u8>>()), 1..6).prop_map(Step::Apply),
            1 => Just(Step::Write),
            2 => (0..24_u8).prop_map(Step::Read),
            3 => (0..24_u8, 0..24_u8, 0..8_usize).prop_map(|(from, to, limit)| Step::Scan(from, to, limit)),
        ]
    }

    proptest! {
        #[test]
        fn it_answers_as_an_index_that_writes_at_once(steps in prop::collection::vec(step(), 1..60)) {
            let plain = MemoryStore::default().open().expect("empty");
            let behind = Behind::new(MemoryStore::default().open().expect("empty"), WAITING_BYTES);
            for step in steps {
                match step {
                    Step::Apply(changes) => {
                        let changes: Vec<Change> = changes.into_iter().map(|(key, value)| (vec![key], value.map(|value| vec![value]))).collect();
                        plain.apply(changes.clone()).expect("works");
                        behind.apply(changes).expect("works");
                    }
                    Step::Write => behind.persist().expect("works"),
                    Step::Read(key) => prop_assert_eq!(behind.read(&[key]).expect("works"), plain.read(&[key]).expect("works")),
                    Step::Scan(from, to, limit) => {
                        prop_assert_eq!(behind.scan(&[from], &[to], limit).expect("works"), plain.scan(&[from], &[to], limit).expect("works"));
                    }
                }
            }
        }
    }

    /// An index that takes nothing for a while.
    struct Stubborn {
        under: Box<dyn Index>,
        refuses: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Index for Stubborn {
        fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
            self.under.read(key)
        }
        fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
            self.under.scan(from, to, limit)
        }
        fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
            match self.refuses.load(std::sync::atomic::Ordering::SeqCst) {
                true => Err(IndexError("refuses".to_owned())),
                false => self.under.apply(changes),
            }
        }
        fn persist(&self) -> Result<(), IndexError> {
            self.under.persist()
        }
    }

    #[test]
    fn what_the_index_did_not_take_is_read_on_and_given_to_it_again_before_what_came_later() {
        let store = MemoryStore::default();
        let refuses = Arc::<std::sync::atomic::AtomicBool>::default();
        let behind = Behind::new(Box::new(Stubborn { under: store.open().expect("empty"), refuses: Arc::clone(&refuses) }), WAITING_BYTES);
        let row = |value: u8| vec![(vec![1], Some(vec![value]))];
        behind.apply(row(1)).expect("waits");
        refuses.store(true, std::sync::atomic::Ordering::SeqCst);
        behind.persist().expect_err("the index refuses");
        behind.apply(row(2)).expect("waits");
        assert_eq!(behind.read(&[1]).expect("works"), Some(vec![2]));
        refuses.store(false, std::sync::atomic::Ordering::SeqCst);
        behind.persist().expect("works again");
        drop(behind);
        assert_eq!(store.open().expect("there").read(&[1]).expect("works"), Some(vec![2]));
    }

    #[test]
    fn what_waits_has_a_bound() {
        let behind = Behind::new(MemoryStore::default().open().expect("empty"), WAITING_BYTES);
        for n in 0..64_u8 {
            behind.apply(vec![(vec![n], Some(vec![n; WAITING_BYTES / 16]))]).expect("works");
            assert!(behind.waiting().bytes < WAITING_BYTES);
        }
        let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let under = Stubborn { under: MemoryStore::default().open().expect("empty"), refuses: Arc::clone(&refuses) };
        let behind = Behind::new(Box::new(under), 1_000);
        let row = |n: u64| (n.to_be_bytes().to_vec(), Some(vec![0; 100]));
        let taken = (0..10_000).take_while(|n| behind.apply(vec![row(*n)]).is_ok()).count() as u64;
        assert!(taken < 500, "an index that takes nothing ends the taking: {taken} rows wait");
        assert_eq!(behind.read(&row(taken - 1).0).expect("works"), row(0).1, "what was taken is in force");
        assert_eq!(behind.read(&row(taken).0).expect("works"), None, "what was not is nowhere");
        refuses.store(false, std::sync::atomic::Ordering::SeqCst);
        behind.persist().expect("works again");
        behind.apply(vec![row(taken)]).expect("and takes on");
    }
}

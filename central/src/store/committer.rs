//! One committer per node: instances that arrive side by side share a commit, its sync and the order of
//! their receipts.
//!
//! # Failure
//! A batch that cannot be committed is tried again one by one, so that nobody fails for another's instance. A caller
//! that goes away before its answer changes nothing: the commit happens or not, and the next copy learns which.
//!
//! # Bounds
//! [`BATCH`] instances per commit, [`QUEUE`] waiting; more callers wait to be queued. Nothing waits for others to come.

use super::instances::{Arrival, NewInstance};
use super::receipts::Custody;
use super::{CentralStore, StoreError};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Time of commits.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Gathers instances into commits. Clones share one queue; the committer ends with the last of them.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    new: NewInstance,
    done: oneshot::Sender<Result<Arrival, StoreError>>,
}

impl Committer {
    /// Starts the committer as a task of the present runtime.
    pub fn start(store: Arc<dyn CentralStore>, custody: Custody, clock: Clock) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Waiting>(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while waiting.recv_many(&mut batch, BATCH).await > 0 {
                commit_all(&*store, &custody, &clock, std::mem::take(&mut batch)).await;
            }
        });
        Self { queue }
    }

    /// Commits one instance, whose bytes are durable and whose audit opening is synced. Returns after the commit is on
    /// stable storage.
    ///
    /// # Errors
    /// [`StoreError`]: this instance was not committed.
    pub async fn commit(&self, new: NewInstance) -> Result<Arrival, StoreError> {
        let (done, arrival) = oneshot::channel();
        self.queue.send(Waiting { new, done }).await.map_err(|_| StoreError::Ended)?;
        arrival.await.map_err(|_| StoreError::Ended)?
    }
}

async fn commit_all(store: &dyn CentralStore, custody: &Custody, clock: &Clock, batch: Vec<Waiting>) {
    let (new, done): (Vec<_>, Vec<_>) = batch.into_iter().map(|waiting| (waiting.new, waiting.done)).unzip();
    match commit(store, custody, clock, &new).await {
        Ok(arrivals) => {
            for (done, arrival) in done.into_iter().zip(arrivals) {
                let _ = done.send(Ok(arrival));
            }
        }
        Err(error) if new.len() == 1 => drop(done.into_iter().next().map(|done| done.send(Err(error)))),
        Err(_) => {
            for (new, done) in new.iter().zip(done) {
                let alone = commit(store, custody, clock, std::slice::from_ref(new)).await;
                let alone = alone.and_then(|arrivals| arrivals.into_iter().next().ok_or(StoreError::Ended));
                let _ = done.send(alone);
            }
        }
    }
}

async fn commit(store: &dyn CentralStore, custody: &Custody, clock: &Clock, new: &[NewInstance]) -> Result<Vec<Arrival>, StoreError> {
    let mut tx = store.begin().await?;
    let commit = tx.commit_instances(new, custody, clock()).await?;
    tx.commit().await?;
    Ok(commit.arrivals)
}

/// Instances of one commit.
pub const BATCH: usize = 128;
/// Instances that wait for one.
pub const QUEUE: usize = 1024;

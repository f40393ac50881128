//! The default sink: one hash-chained log per stream in a folder of the node (profile 07 §6).
//!
//! Each log has one task, which takes what has queued up while the last sync ran, writes it and syncs once. A record
//! never waits for others to come: alone it costs one sync, in company a share of one.

use super::format::{BodyKey, CheckpointKey};
use super::log::{self, Log, LogKeys, Mark, Prepared, Recovered, SyncFile};
use super::record::{Body, Closing, Entry, Note, Record};
use super::{AuditError, AuditSink, Opening, Stream};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

/// Where and how a node keeps its logs.
pub struct FileConfig {
    /// `<state>/audit`; made if absent (mode 0750).
    pub root: PathBuf,
    /// First part of every log id.
    pub node: String,
    /// Key of record bodies; `None` writes plain JSON.
    pub body_key: Option<BodyKey>,
    /// Present key of checkpoints.
    pub checkpoint_key: CheckpointKey,
    /// Earlier public keys of checkpoints.
    pub earlier_keys: Vec<[u8; 32]>,
    /// Time of records that the store itself writes.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// An opening that a crash left without a closing. Who opened it (profile 07 §6.4) looks whether its commit is there and
/// closes it; [`FileSink::close_orphans`] closes the rest as `partial, unknown`.
#[derive(Debug)]
pub struct Orphan {
    /// To be closed.
    pub opening: Opening,
    /// As it was written.
    pub record: Record,
}

/// Local files, hash-chained, encrypted, group-committed.
pub struct FileSink {
    queues: [mpsc::Sender<Item>; Stream::ALL.len()],
    failed: Arc<OnceLock<String>>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Item {
    prepared: Option<Prepared>,
    /// Told after the sync; only the last item of a caller has one.
    done: Option<oneshot::Sender<()>>,
}

impl FileSink {
    /// Opens the five logs, repairs torn tails (each is told by a `system` note) and starts their writers. Gives the
    /// openings that nobody closed.
    ///
    /// # Errors
    /// [`AuditError::Storage`]; [`AuditError::Broken`] when a log was changed otherwise: no disclosure before
    /// an operator has looked at it (profile 07 §6.5).
    pub async fn start(config: FileConfig) -> Result<(Self, Vec<Orphan>), AuditError> {
        Self::start_with(config, Arc::new(File::sync_data)).await
    }

    pub(super) async fn start_with(config: FileConfig, sync: SyncFile) -> Result<(Self, Vec<Orphan>), AuditError> {
        let clock = Arc::clone(&config.clock);
        let opened = spawn_blocking(move || open_all(config, &sync)).await.map_err(|error| unavailable(&error.to_string()))??;
        let failed = Arc::new(OnceLock::new());
        let (mut queues, mut tasks, mut orphans, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((log, recovered), stream) in opened.into_iter().zip(Stream::ALL) {
            if let Some((after, bytes)) = recovered.cut {
                let data = json!({"log_id": log.log_id(), "after": after, "bytes": bytes});
                notes.push(Entry::Note(Stream::System, Note { id: None, time: clock(), event: "torn-tail".to_owned(), data }));
            }
            let orphan = |record: Record| Orphan { opening: Opening { items: vec![(stream, record.id)] }, record };
            orphans.extend(recovered.orphans.into_iter().map(orphan));
            let (queue, items) = mpsc::channel(QUEUE_ITEMS);
            queues.push(queue);
            tasks.push(tokio::spawn(write(log, items, Arc::clone(&clock), Arc::clone(&failed))));
        }
        let queues = queues.try_into().unwrap_or_else(|_| unreachable!("one queue was made per stream"));
        let sink = Self { queues, failed, clock, tasks: Mutex::new(tasks) };
        sink.append(notes).await?;
        Ok((sink, orphans))
    }

    /// Closes what a crash left open as `partial, unknown`.
    ///
    /// # Errors
    /// As [`AuditSink::close`].
    pub async fn close_orphans(&self, orphans: Vec<Orphan>) -> Result<(), AuditError> {
        for orphan in orphans {
            self.close(orphan.opening, log::unknown((self.clock)())).await?;
        }
        Ok(())
    }

    /// Writes what is queued, signs every log and ends the writers. Later calls are refused.
    pub async fn shutdown(&self) {
        let _ = self.failed.set("the audit store has been shut down".to_owned());
        for queue in &self.queues {
            // A writer ends at an item without a record.
            let _ = queue.send(Item { prepared: None, done: None }).await;
        }
        for task in self.tasks.lock().await.drain(..) {
            let _ = task.await;
        }
    }

    async fn keep(&self, bodies: Vec<(Stream, Prepared)>) -> Result<(), AuditError> {
        if let Some(reason) = self.refusing() {
            return Err(unavailable(&reason));
        }
        let mut waiting = Vec::new();
        let mut by_stream: [Vec<Prepared>; Stream::ALL.len()] = Default::default();
        for (stream, prepared) in bodies {
            by_stream[stream as usize].push(prepared);
        }
        for (queue, prepared) in self.queues.iter().zip(by_stream) {
            let count = prepared.len();
            for (n, prepared) in prepared.into_iter().enumerate() {
                let (done, synced) = match n + 1 == count {
                    true => Some(oneshot::channel()).unzip(),
                    false => (None, None),
                };
                waiting.extend(synced);
                queue.send(Item { prepared: Some(prepared), done }).await.map_err(|_| self.why_not())?;
            }
        }
        for synced in waiting {
            synced.await.map_err(|_| self.why_not())?;
        }
        Ok(())
    }

    fn why_not(&self) -> AuditError {
        unavailable(self.failed.get().map_or("its writer has ended", |reason| reason))
    }
}

#[async_trait]
impl AuditSink for FileSink {
    async fn open(&self, records: Vec<Record>) -> Result<Opening, AuditError> {
        let mut items = Vec::with_capacity(records.len());
        let mut bodies = Vec::with_capacity(records.len());
        for record in records {
            let (stream, id) = (record.kind.stream(), record.id);
            items.push((stream, id));
            bodies.push((stream, Prepared { body: Body::Opening(Box::new(record)).encode()?, mark: Mark::Opens(id) }));
        }
        self.keep(bodies).await?;
        Ok(Opening { items })
    }

    async fn close(&self, opening: Opening, closing: Closing) -> Result<(), AuditError> {
        let mut bodies = Vec::with_capacity(opening.items.len());
        for (stream, closes) in opening.items {
            let body = Body::Closing { closes, closing: closing.clone() }.encode()?;
            bodies.push((stream, Prepared { body, mark: Mark::Closes(closes) }));
        }
        self.keep(bodies).await
    }

    async fn append(&self, entries: Vec<Entry>) -> Result<(), AuditError> {
        let mut bodies = Vec::with_capacity(entries.len());
        for entry in entries {
            bodies.push((entry.stream(), Prepared { body: Body::from_entry(entry).encode()?, mark: Mark::Nothing }));
        }
        self.keep(bodies).await
    }

    fn refusing(&self) -> Option<String> {
        self.failed.get().cloned()
    }
}

fn open_all(config: FileConfig, sync: &SyncFile) -> Result<Vec<(Log, Recovered)>, AuditError> {
    let now = (config.clock)();
    let present = config.checkpoint_key.public_key();
    let trusted = config.earlier_keys.into_iter().chain([present]).map(|key| (hex::encode(Sha256::digest(key)), key)).collect();
    let keys = LogKeys { body: config.body_key.map(Arc::new), checkpoint: Arc::new(config.checkpoint_key), trusted: Arc::new(trusted) };
    Stream::ALL
        .iter()
        .map(|stream| Log::open(&config.root, &format!("{}.{}", config.node, stream.name()), keys.clone(), Arc::clone(sync), now))
        .collect()
}

async fn write(
    mut log: Log,
    mut queue: mpsc::Receiver<Item>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    failed: Arc<OnceLock<String>>,
) {
    let mut items = Vec::with_capacity(BATCH_RECORDS);
    let mut last = false;
    while !last {
        // A quiet log is looked at too: its checkpoint and its stale openings come due.
        let quiet = tokio::time::timeout(QUIET, queue.recv_many(&mut items, BATCH_RECORDS)).await;
        last = quiet == Ok(0) || items.iter().any(|item| item.prepared.is_none());
        let (batch, done): (Vec<_>, Vec<_>) = items.drain(..).map(|item| (item.prepared, item.done)).unzip();
        let batch: Vec<Prepared> = batch.into_iter().flatten().collect();
        let now = clock();
        let wrote = spawn_blocking(move || {
            let result = log.append(&batch, now).and_then(|()| if last { log.checkpoint(now) } else { Ok(()) });
            (log, result)
        });
        match wrote.await {
            Ok((back, Ok(()))) => log = back,
            // What is on disk is not known: nothing more is written until a restart has read it (07 §6.5). The callers
            // learn it from their dropped senders.
            Ok((log, Err(error))) => {
                let _ = failed.set(format!("audit log {} cannot be written: {error}", log.log_id()));
                return;
            }
            Err(error) => {
                let _ = failed.set(format!("an audit writer ended: {error}"));
                return;
            }
        }
        for done in done.into_iter().flatten() {
            let _ = done.send(());
        }
    }
}

fn unavailable(reason: &str) -> AuditError {
    AuditError::Unavailable { reason: reason.to_owned() }
}

/// Records of one sync (profile 07 §6.4).
pub(super) const BATCH_RECORDS: usize = 256;
const QUEUE_ITEMS: usize = 1024;
const QUIET: Duration = Duration::from_secs(10);

//! Scrub: every object that is held is read again in turn, at a bounded rate, and compared with its digest and receipt.
//!
//! A disk may lose what it had confirmed, and nobody reads an image for months. A pass goes through all objects that have
//! their bytes, in the order of their ids, and begins again `interval_days` after it began, or by `scrub --now`.
//!
//! # On disk
//! `scrub.json` in the state folder, replaced as a whole and durably: how far the pass is, and what it found damaged. It is no
//! truth: without it the next pass begins at once, and finds the same.
//!
//! # Failure
//! What does not hold is an alarm in the log, stands in `scrub` and `status`, and is counted for monitors, until a pass reads it
//! whole again or it is released. Nothing is moved or removed: the object may still be read in part, and its source may have it.
//!
//! # Bounds
//! `bytes_per_second`; an object counts as at least [`OBJECT_BYTES_MIN`]. Of the damaged objects [`DAMAGED_MAX`] are named,
//! the others counted.
//!
//! # Standard
//! Profile 10 B6-T1 (scrub every 30 d), 03 §3 (no row deletes data).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idr_host::files;
use idr_host::monitor::Counter;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::spool::{FileSpool, Spool as _, SpoolError, SpoolId, State};

/// What an object counts at the least, bytes: opening it costs the disk as much.
pub const OBJECT_BYTES_MIN: u64 = 16 << 10;
/// Damaged objects that are named.
pub const DAMAGED_MAX: usize = 1_000;
/// Objects looked up at once.
const PAGE: usize = 200;
/// Time that is owed to the rate before it is waited for.
const REST: Duration = Duration::from_millis(20);
/// Between two writings of the state.
const SAVE: Duration = Duration::from_secs(5);
/// Longest wait before the clock is looked at again, and the wait after a fault of the index.
const LOOK: Duration = Duration::from_secs(60);

/// The scrub of a spool.
pub struct Scrub {
    spool: FileSpool,
    settings: config::Scrub,
    file: PathBuf,
    clock: fn() -> Timestamp,
    progress: Mutex<Progress>,
    asked: Notify,
    /// Objects read since the start of the program.
    pub objects_read: Counter,
    /// Data set bytes read since the start of the program.
    pub bytes_read: Counter,
}

/// How far it is; the form of `scrub.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Passes that were begun.
    pub pass: u64,
    /// When the last pass began.
    pub begun: Option<Timestamp>,
    /// Whether it goes on.
    pub running: bool,
    /// When the last complete pass ended.
    pub finished: Option<Timestamp>,
    /// The pass goes on with this object.
    pub next: SpoolId,
    /// Objects of this pass so far.
    pub objects: u64,
    /// Their data set bytes.
    pub bytes: u64,
    /// What does not hold.
    pub damaged: BTreeMap<SpoolId, Damage>,
    /// Further damaged objects of this pass, which are not named.
    pub unnamed: u64,
}

/// What does not hold of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// In words; no patient data.
    pub what: String,
    /// First seen.
    pub found: Timestamp,
    /// Last seen.
    pub seen: Timestamp,
    /// In this pass.
    #[serde(default)]
    pub pass: u64,
}

impl Scrub {
    /// Over a spool; `file` is where the state is kept. What stands there and cannot be read is reported and given up.
    pub fn new(spool: FileSpool, settings: config::Scrub, file: PathBuf, clock: fn() -> Timestamp) -> Self {
        let progress = match files::read_text_if_there(&file).map(|text| text.map(|text| serde_json::from_str(&text))) {
            Ok(Some(Ok(progress))) => progress,
            Ok(None) => Progress::default(),
            Ok(Some(Err(_))) | Err(_) => {
                tracing::warn!(file = %file.display(), "the state of the scrub cannot be read; a pass begins anew");
                Progress::default()
            }
        };
        let (objects_read, bytes_read) = (Counter::default(), Counter::default());
        Self { spool, settings, file, clock, progress: Mutex::new(progress), asked: Notify::new(), objects_read, bytes_read }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the state.
    pub fn state(&self) -> Progress {
        self.progress().clone()
    }

    /// Objects that do not hold, as far as is known.
    pub fn damaged(&self) -> u64 {
        let progress = self.progress();
        progress.damaged.len() as u64 + progress.unnamed
    }

    /// Begins a pass now, unless one goes on.
    pub fn ask(&self) {
        begin(&mut self.progress(), (self.clock)());
        self.save();
        self.asked.notify_one();
    }

    /// For operators.
    pub fn show(&self) -> Value {
        let held: u64 =
            self.spool.totals().iter().filter(|((_, state), _)| *state != State::Released.name()).map(|(_, amount)| amount.objects).sum();
        let Progress { begun, running, finished, objects, bytes, damaged, unnamed, .. } = self.state();
        let named: Vec<Value> = damaged
            .iter()
            .map(|(id, damage)| json!({"object": id, "what": damage.what, "found": damage.found, "seen": damage.seen}))
            .collect();
        json!({
            "running": running, "begun": begun, "finished": finished, "objects": objects, "bytes": bytes, "held_objects": held,
            "damaged_objects": named.len() as u64 + unnamed, "damaged": named,
            "interval_days": self.settings.interval_days, "bytes_per_second": self.settings.bytes_per_second,
        })
    }

    /// Reads and reads again until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let step = async {
            loop {
                while !self.due() {
                    tokio::time::timeout(LOOK, self.asked.notified()).await.ok();
                }
                if let Err(error) = self.pass().await {
                    tracing::warn!(%error, "the scrub cannot go on; it tries again in a minute");
                    self.save();
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = step => {}
        }
        self.save();
    }

    /// Whether a pass goes on or must begin, which it then does.
    fn due(&self) -> bool {
        let now = (self.clock)();
        let mut progress = self.progress();
        let interval = SignedDuration::from_hours(24 * i64::from(self.settings.interval_days));
        // A pass that began in the future: the clock was set back, and says nothing about the time that went by.
        let elapsed = progress.begun.is_none_or(|begun| begun > now || now.duration_since(begun) >= interval);
        if !progress.running && elapsed && self.settings.interval_days > 0 {
            begin(&mut progress, now);
        }
        progress.running
    }

    /// The rest of a pass.
    async fn pass(&self) -> Result<(), SpoolError> {
        let mut pace = Pace { bytes_per_second: self.settings.bytes_per_second.max(1), owed: Duration::ZERO };
        let mut saved = Instant::now();
        loop {
            let from = self.progress().next;
            let (ids, next) = self.spool.held(from, PAGE).await?;
            for id in ids {
                let result = self.read(id, &mut pace).await;
                self.note(id, result)?;
                if saved.elapsed() >= SAVE {
                    self.save();
                    saved = Instant::now();
                }
            }
            match next {
                Some(next) => self.progress().next = next,
                None => break,
            }
        }
        self.finish();
        Ok(())
    }

    /// Reads one object to its end; its size, `None` if it is not here any more.
    async fn read(&self, id: SpoolId, pace: &mut Pace) -> Result<Option<u64>, SpoolError> {
        let Some(mut stored) = self.spool.read_again(id).await? else { return Ok(None) };
        let mut bytes = 0;
        while let Some(piece) = stored.next().await? {
            bytes += piece.len() as u64;
            self.bytes_read.add(piece.len() as u64);
            pace.keep(piece.len() as u64).await;
        }
        pace.keep(OBJECT_BYTES_MIN.saturating_sub(bytes)).await;
        Ok(Some(bytes))
    }

    /// What became of one object.
    fn note(&self, id: SpoolId, result: Result<Option<u64>, SpoolError>) -> Result<(), SpoolError> {
        let now = (self.clock)();
        let what = match result {
            Ok(bytes) => {
                let mut progress = self.progress();
                progress.next = SpoolId(id.0.saturating_add(1));
                if progress.damaged.remove(&id).is_some() {
                    tracing::info!(object = %id, "an object that was damaged can be read whole again");
                }
                if let Some(bytes) = bytes {
                    progress.objects += 1;
                    progress.bytes += bytes;
                    self.objects_read.add(1);
                }
                return Ok(());
            }
            Err(SpoolError::Damaged { what, .. }) => what.to_owned(),
            Err(SpoolError::Disk { source, .. }) => format!("it cannot be read: {}", source.kind()),
            Err(error) => return Err(error),
        };
        tracing::error!(object = %id, what, "an object that was accepted is damaged; it is kept as it is. Send its study again from the source or restore it from a backup, and check the disk");
        let mut progress = self.progress();
        progress.next = SpoolId(id.0.saturating_add(1));
        progress.objects += 1;
        self.objects_read.add(1);
        let room = progress.damaged.len() < DAMAGED_MAX || progress.damaged.contains_key(&id);
        if room {
            let found = progress.damaged.get(&id).map_or(now, |known| known.found);
            let pass = progress.pass;
            progress.damaged.insert(id, Damage { what, found, seen: now, pass });
        } else {
            progress.unnamed += 1;
        }
        drop(progress);
        self.save();
        Ok(())
    }

    fn finish(&self) {
        let now = (self.clock)();
        let mut progress = self.progress();
        progress.running = false;
        progress.finished = Some(now);
        // What this pass did not meet again was released since it was found. Told by its number: a clock may be set meanwhile.
        let pass = progress.pass;
        progress.damaged.retain(|_, damage| damage.pass == pass);
        tracing::info!(
            objects = progress.objects,
            bytes = progress.bytes,
            damaged = progress.damaged.len() as u64 + progress.unnamed,
            "scrub: every object was read again"
        );
        drop(progress);
        self.save();
    }

    fn save(&self) {
        let progress = self.state();
        if let Err(error) = files::keep_json(&self.file, &progress) {
            tracing::warn!(error = format!("{error:#}"), "the state of the scrub cannot be written");
        }
    }
}

fn begin(progress: &mut Progress, now: Timestamp) {
    if progress.running {
        return;
    }
    progress.running = true;
    progress.pass += 1;
    progress.begun = Some(now);
    (progress.next, progress.objects, progress.bytes, progress.unnamed) = (SpoolId(0), 0, 0, 0);
}

/// Keeps the rate.
struct Pace {
    bytes_per_second: u64,
    owed: Duration,
}

impl Pace {
    /// How long to wait after these bytes, if it is worth waiting.
    fn read(&mut self, bytes: u64) -> Option<Duration> {
        self.owed += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        (self.owed >= REST).then(|| std::mem::take(&mut self.owed))
    }

    async fn keep(&mut self, bytes: u64) {
        if let Some(wait) = self.read(bytes) {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::MemoryDisk;
    use crate::spool::index::MemoryStore;
    use crate::spool::object_file;
    use crate::spool::sample::{announced, at, data, facts, hand_over, open};

    const SETTINGS: config::Scrub = config::Scrub { interval_days: 30, bytes_per_second: 1 << 40 };

    async fn spool(disk: &MemoryDisk, objects: u64) -> (FileSpool, Vec<SpoolId>) {
        let (spool, _) = open(disk, &MemoryStore::default(), false).expect("an empty disk");
        let mut ids = Vec::new();
        for n in 0..objects {
            let committed = hand_over(&spool, announced(n), facts(n), &data(n, 3_000)).await.expect("a working disk");
            ids.push(committed.id);
        }
        (spool, ids)
    }

    fn path(n: u64, id: SpoolId) -> PathBuf {
        object_file::path(&announced(n), id)
    }

    #[tokio::test]
    async fn damage_is_named_and_kept_over_a_restart_and_cleared_when_the_object_is_whole_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (disk, file) = (MemoryDisk::default(), folder.path().join("scrub.json"));
        let (spool, ids) = spool(&disk, 5).await;
        let scrub = Scrub::new(spool.clone(), SETTINGS, file.clone(), || at(10));
        assert!(scrub.due(), "no pass yet");
        scrub.pass().await.expect("works");
        assert_eq!((scrub.state().objects, scrub.damaged(), scrub.state().finished), (5, 0, Some(at(10))));

        assert!(disk.rot(&path(3, ids[3]), 6_000), "a byte of the data set");
        scrub.ask();
        scrub.pass().await.expect("works");
        let state = scrub.state();
        assert_eq!(state.damaged.keys().collect::<Vec<_>>(), [&ids[3]]);
        assert_eq!(state.objects, 5, "the others were read all the same");
        assert_eq!(scrub.show()["damaged"][0]["what"], "its data set does not have its digest");
        assert!(disk.paths().contains(&path(3, ids[3])), "nothing is removed");

        let scrub = Scrub::new(spool, SETTINGS, file, || at(20));
        assert_eq!(scrub.state(), state, "the state survives");
        assert!(disk.rot(&path(3, ids[3]), 6_000), "the same bits again");
        scrub.ask();
        scrub.pass().await.expect("works");
        assert_eq!((scrub.damaged(), scrub.state().objects), (0, 5));
    }

    #[tokio::test]
    async fn a_pass_goes_on_where_the_last_life_ended() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (disk, file) = (MemoryDisk::default(), folder.path().join("scrub.json"));
        let (spool, ids) = spool(&disk, 4).await;
        files::replace_json(&file, &Progress { begun: Some(at(1)), running: true, next: ids[2], objects: 2, ..Progress::default() })
            .expect("written");
        let scrub = Scrub::new(spool, SETTINGS, file, || at(10));
        assert!(scrub.due());
        scrub.pass().await.expect("works");
        assert_eq!((scrub.state().objects, scrub.objects_read.value()), (4, 2));
    }

    #[tokio::test]
    async fn a_pass_is_due_after_its_interval_whichever_way_the_clock_is_set() {
        const DAY: i64 = 86_400;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (spool, _) = spool(&MemoryDisk::default(), 0).await;
        for (begun, now, interval_days, due) in [
            (None, at(0), 30, true),
            (None, at(0), 0, false),
            (Some(at(0)), at(29 * DAY), 30, false),
            (Some(at(0)), at(30 * DAY), 30, true),
            (Some(at(0)), at(30 * DAY), 0, false),
            (Some(at(2 * DAY)), at(DAY), 30, true),
        ] {
            let settings = config::Scrub { interval_days, ..SETTINGS };
            let clock: fn() -> Timestamp = match now {
                now if now == at(0) => || at(0),
                now if now == at(29 * DAY) => || at(29 * DAY),
                now if now == at(30 * DAY) => || at(30 * DAY),
                _ => || at(DAY),
            };
            let scrub = Scrub::new(spool.clone(), settings, folder.path().join("scrub.json"), clock);
            *scrub.progress() = Progress { begun, ..Progress::default() };
            assert_eq!(scrub.due(), due, "{begun:?} {now} {interval_days}");
        }
    }

    #[tokio::test]
    async fn damage_stays_known_when_the_clock_is_set_back_or_forward_during_a_pass() {
        const DAY: i64 = 86_400;
        for (begun, now) in [(at(2 * DAY), (|| at(DAY)) as fn() -> Timestamp), (at(0), || at(DAY))] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let disk = MemoryDisk::default();
            let (spool, ids) = spool(&disk, 3).await;
            let scrub = Scrub::new(spool, SETTINGS, folder.path().join("scrub.json"), now);
            assert!(disk.rot(&path(1, ids[1]), 6_000), "a byte of the data set");
            begin(&mut scrub.progress(), begun);
            scrub.pass().await.expect("works");
            assert_eq!((scrub.damaged(), scrub.state().running), (1, false), "begun {begun}");
            scrub.ask();
            scrub.pass().await.expect("works");
            assert_eq!(scrub.damaged(), 1, "begun {begun}, and found again");
        }
    }

    #[test]
    fn the_rate_is_kept_whatever_the_sizes_are() {
        for piece in [512, 4_096, 262_144] {
            let mut pace = Pace { bytes_per_second: 1 << 20, owed: Duration::ZERO };
            let waited: Duration = (0..(4 << 20) / piece).filter_map(|_| pace.read(piece)).sum();
            assert!(waited + REST >= Duration::from_secs(4) && waited <= Duration::from_millis(4_040), "{piece}: {waited:?}");
        }
    }
}

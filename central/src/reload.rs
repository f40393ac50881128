//! What is read again while the centre runs (profile 04 §7, 10 §5.5): on `idr-central reload`, on SIGHUP, and when a file of it
//! has changed.
//!
//! Exchanged are `trust.toml` with the files that it names (issuers, organisations, anchors, receipt keys), the revocation lists,
//! and certificate and key of the listeners. Everything is read and checked aside, then exchanged: a request is judged by what
//! was in force when it began, a handshake by what was when it began; no connection is ended by a reload. The main file, the
//! rule sets and `hl7-sources.toml` are read at the start alone, and so is what peers are told of storage commitment by.
//!
//! # Failure
//! A file that cannot be read, is not valid or does not fit the others leaves all of what runs in force: journal and metric say
//! so, and the command ends with 1. With `reload.watch` it is tried again after a minute, and then ever more rarely, up to an hour.
//!
//! # Bounds
//! One reload at a time. Looking for changes is one `stat` of each file every `reload.poll_seconds`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use idr_host::files;
use idr_profile::tls;
use idr_profile::xua::Trust;
use jiff::Timestamp;
use rustls::ServerConfig;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::{Entry, Note, Stream};
use crate::central::Central;
use crate::config::Config;
use crate::revocation::Revocations;
use crate::run;

/// First and longest pause before a refused reload is tried again.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// TLS of each listener that there is.
#[derive(Clone)]
pub struct Doors {
    /// HTTPS.
    pub https: Arc<ArcSwap<ServerConfig>>,
    /// Enrolment.
    pub enrol: Option<Arc<ArcSwap<ServerConfig>>>,
    /// DICOM over TLS.
    pub dimse: Option<Arc<ArcSwap<ServerConfig>>>,
    /// ADT messages over TLS.
    pub mllp: Option<Arc<ArcSwap<ServerConfig>>>,
}

impl Doors {
    /// Those of the configuration.
    ///
    /// # Errors
    /// File and cause.
    pub fn open(config: &Config, trust: &Trust) -> anyhow::Result<Self> {
        let Set { https, enrol, dimse, mllp } = Set::of(config, trust)?;
        let door = |tls| Arc::new(ArcSwap::from_pointee(tls));
        Ok(Self { https: door(https), enrol: enrol.map(door), dimse: dimse.map(door), mllp: mllp.map(door) })
    }
}

/// What the listeners show and whom they take, made of one reading.
struct Set {
    https: ServerConfig,
    enrol: Option<ServerConfig>,
    dimse: Option<ServerConfig>,
    mllp: Option<ServerConfig>,
}

impl Set {
    fn of(config: &Config, trust: &Trust) -> anyhow::Result<Self> {
        Ok(Self {
            https: run::tls_listener(config, trust, run::HTTP)?,
            enrol: (!config.enrol.listen.is_empty()).then(|| run::enrol_listener(config)).transpose()?,
            dimse: (!config.dimse.listen.is_empty()).then(|| run::dimse_listener(config, trust)).transpose()?,
            mllp: (!config.mllp.listen.is_empty()).then(|| run::tls_listener(config, trust, &[])).transpose()?,
        })
    }
}

/// Reads again.
pub struct Reload {
    central: Arc<Central>,
    doors: Doors,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
    /// Certificate files in use: one that has expired meanwhile keeps no other file from being exchanged.
    chains: Mutex<Chains>,
}

type Chains = BTreeMap<&'static str, Vec<u8>>;

/// A file as far as it shows that it changed: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);

/// Files as they were before they were read.
type Seen = BTreeMap<PathBuf, Option<Stamp>>;

struct Next {
    trust: Trust,
    revocations: Revocations,
    set: Set,
    chains: Chains,
}

impl Reload {
    /// Nothing was read again yet. Blocks.
    pub fn new(central: Arc<Central>, doors: Doors) -> Self {
        let seen = look(&files_of(&central.config));
        let chains = own_certificates(&central.config).filter_map(|(key, path)| Some((key, std::fs::read(path).ok()?))).collect();
        Self { central, doors, turn: tokio::sync::Mutex::default(), seen: Mutex::new(seen), chains: Mutex::new(chains) }
    }

    /// Reads everything and, if it is in order, goes on with it.
    ///
    /// # Errors
    /// File and cause of the first problem; nothing has changed then.
    pub async fn reload(&self, why: &'static str) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let (config, now, in_use) = (self.central.config.clone(), self.central.now(), self.chains().clone());
        let read = tokio::task::spawn_blocking(move || {
            // Before it is read: what changes meanwhile is a change to the next look.
            let seen = look(&files_of(&config));
            (Next::read(&config, &in_use, now), seen)
        });
        let (read, seen) = read.await.context("reading the files ended by a fault")?;
        *self.seen() = seen;
        let counters = &self.central.counters;
        let done = match read {
            Ok(next) => {
                self.exchange(next);
                counters.reloads.add(1);
                tracing::info!(why, "trust, revocation lists and certificates were read again and are in force");
                Ok(())
            }
            Err(error) => {
                counters.reloads_refused.add(1);
                let cause = format!("{error:#}");
                tracing::error!(why, cause, "the files are not accepted; the earlier ones stay in force");
                Err(anyhow::anyhow!("{cause}; what runs stays in force"))
            }
        };
        let data = json!({ "why": why, "refused": done.as_ref().err().map(ToString::to_string) });
        let note = Note { id: Some(self.central.new_id()), time: self.central.now(), event: "reload".to_owned(), data };
        if let Err(error) = self.central.audit.append(vec![Entry::Note(Stream::System, note)]).await {
            tracing::error!(cause = %error, "a reload could not be recorded");
        }
        done
    }

    fn exchange(&self, next: Next) {
        let Next { trust, revocations, set, chains } = next;
        *self.chains() = chains;
        // What is revoked comes before who is trusted: nobody is taken by new anchors without their lists.
        self.central.revocation.store(Arc::new(revocations));
        self.central.enrolment.take_trust(&self.central, trust);
        let Doors { https, enrol, dimse, mllp } = &self.doors;
        https.store(Arc::new(set.https));
        for (door, tls) in [(enrol, set.enrol), (dimse, set.dimse), (mllp, set.mllp)] {
            if let (Some(door), Some(tls)) = (door, tls) {
                door.store(Arc::new(tls));
            }
        }
    }

    /// Reads again on SIGHUP and, if `reload.watch`, when a file has changed and then stayed as it is from one look to the next.
    ///
    /// # Errors
    /// The signal cannot be caught.
    pub fn watch(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let mut hangup = signal(SignalKind::hangup())?;
        let settings = self.central.config.reload.clone();
        Ok(async move {
            let mut earlier = None;
            let mut again: Option<(Instant, Duration)> = None;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = hangup.recv() => drop(self.reload("SIGHUP").await),
                    () = tokio::time::sleep(Duration::from_secs(settings.poll_seconds)), if settings.watch => {
                        let config = self.central.config.clone();
                        let Ok(seen) = tokio::task::spawn_blocking(move || look(&files_of(&config))).await else { continue };
                        let settled = earlier.replace(seen.clone()).as_ref() == Some(&seen);
                        let changed = seen != *self.seen();
                        if settled && (changed || again.is_some_and(|(due, _)| Instant::now() >= due)) {
                            let before = again.filter(|_| !changed).map(|(_, pause)| pause);
                            let done = self.reload(if changed { "a file changed" } else { "the earlier reload was refused" }).await;
                            again = done.err().map(|_| pause(before)).map(|pause| (Instant::now() + pause, pause));
                        }
                    }
                }
            }
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chains(&self) -> MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long after a refused reload it is tried again although no file changed: what kept a file from being read may be gone.
fn pause(before: Option<Duration>) -> Duration {
    before.map_or(PAUSE_MIN, |before| PAUSE_MAX.min(before * 2))
}

impl Next {
    fn read(config: &Config, in_use: &Chains, now: Timestamp) -> anyhow::Result<Self> {
        let trust = files::trust(&config.files.trust)?;
        let mut chains = Chains::new();
        for (key, path) in own_certificates(config) {
            let pem = std::fs::read(path).with_context(|| format!("{key}: {}: cannot be read", path.display()))?;
            // One that is taken anew is valid and leads to an anchor (10 §5.5); that its key fits, rustls says below.
            if in_use.get(key) != Some(&pem) {
                let (anchors, intermediates) = (files::anchors(trust.tls_anchors()), files::anchors(trust.tls_intermediates()));
                tls::check_validity(&pem, now).with_context(|| format!("{key}: {}", path.display()))?;
                tls::check_path(&pem, &anchors, &intermediates, now).with_context(|| format!("{key}: {}", path.display()))?;
            }
            chains.insert(key, pem);
        }
        let revocations = Revocations::load(config, &trust)?;
        Ok(Self { set: Set::of(config, &trust)?, revocations, trust, chains })
    }
}

/// Certificates of the listeners, by key.
fn own_certificates(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let dimse = config.dimse.certificate.as_deref().map(|path| ("dimse.certificate", path));
    std::iter::once(("https.certificate", config.https.certificate.as_path())).chain(dimse)
}

/// Every file that is read again.
fn files_of(config: &Config) -> BTreeSet<PathBuf> {
    let (https, dimse) = (&config.https, &config.dimse);
    let mut found: BTreeSet<PathBuf> =
        [&https.certificate, &https.key, &config.files.trust, &config.files.revocation_lists].into_iter().cloned().collect();
    found.extend(dimse.certificate.iter().chain(&dimse.key).cloned());
    let folder = config.files.trust.parent().unwrap_or(Path::new(".")).to_owned();
    if let Ok(text) = files::read_text(&config.files.trust) {
        // Its own faults are told when it is read to be used.
        let _ = Trust::parse(&text, &mut |name| {
            let path = folder.join(name);
            let content = std::fs::read(&path);
            found.insert(path);
            content
        });
    }
    for entry in std::fs::read_dir(&config.files.revocation_lists).into_iter().flatten().flatten() {
        found.insert(entry.path());
    }
    found
}

fn look(files: &BTreeSet<PathBuf>) -> Seen {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    files.iter().map(|path| (path.clone(), stamp(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_is_tried_again_ever_more_rarely() {
        let pauses: Vec<u64> =
            std::iter::successors(Some(pause(None)), |before| Some(pause(Some(*before)))).map(|pause| pause.as_secs()).take(9).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]);
    }
}

//! The configuration read again while the site runs (profile 10 §5.5): on `idr-site reload`, on SIGHUP, and when a file of it
//! has changed.
//!
//! Everything is read and checked aside, then exchanged. What begins after that (connection, association, file, request to the
//! centre) goes by the new; what had begun ends by what it began with, except that a peer whose inbound row is gone stores
//! nothing more (0124H, profile 01 §2). Exchanged are the keys of [`crate::config::Reloaded`], the certificate and key of the
//! listener, those of the centre and of the assertion, `trust.toml`, the rule sets and site rules, the controller map and the
//! affinity domain. Other keys that changed are named in the answer and wait for a restart.
//!
//! # Failure
//! A file that cannot be read, is not valid or does not fit the others leaves all of the running configuration in force: the
//! journal, `status` and the metric say so, and the command ends with 1.
//!
//! # Bounds
//! One reload at a time. Looking for changes is one `stat` of each file every `reload.poll_seconds`; no events are asked for,
//! which would miss a file behind a symbolic link.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use idr_host::files;
use idr_profile::rules::RuleSets;
use idr_profile::tls;
use idr_profile::xua::Trust;
use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admission::{InForce, Ingress};
use crate::commitment::{Commitments, Targets};
use crate::config::{Config, Reloaded};
use crate::drop_folder::Folders;
use crate::forward::{Forward, Link, Maps, load_maps};
use crate::health::Counters;
use crate::rule_updates::{self, Loaded, Preview};
use crate::site;
use crate::spool::Tenant;
use crate::study::Studies;

/// Deepest folder below the rules folder that is looked into.
const RULE_FOLDERS_MAX: usize = 3;

/// What is exchanged, and where.
pub struct Parts {
    /// Every way in.
    pub ingress: Arc<Ingress>,
    /// The TLS listener of DIMSE, if it listens.
    pub dimse_tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    /// The TLS listener of STOW-RS, if it listens.
    pub stow_tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    /// Rule sets of those that ask for them by name.
    pub rules: Arc<ArcSwap<RuleSets>>,
    /// Where devices are reported to.
    pub commitments: Arc<Commitments>,
    /// When studies are complete, and whose they are.
    pub studies: Arc<Studies>,
    /// The forwarder, if there is a centre.
    pub forward: Option<Arc<Forward>>,
    /// Drop folders.
    pub folders: Folders,
    /// Tenants since the start.
    pub tenants: Vec<Tenant>,
    /// Counters of the health port.
    pub counters: Arc<Counters>,
    /// The clock of this program.
    pub clock: fn() -> Timestamp,
}

/// The last reload, as `status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Last {
    /// When.
    pub at: Timestamp,
    /// Why it was refused; the earlier configuration is in force then.
    pub refused: Option<String>,
    /// Keys that changed and wait for a restart.
    pub restart: Vec<String>,
}

/// Reads the configuration again.
pub struct Reload {
    parts: Parts,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Option<Last>>,
    seen: Mutex<Seen>,
    chains: Mutex<Chains>,
}

/// Certificate files in use, by key: one that has expired meanwhile keeps no table from being exchanged.
type Chains = BTreeMap<&'static str, Vec<u8>>;

/// A file as far as it shows that it changed: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);

/// Files of the last attempt, as they were before they were read.
type Seen = BTreeMap<PathBuf, Option<Stamp>>;

impl Reload {
    /// Nothing was read again yet. Blocks.
    pub fn new(parts: Parts) -> Self {
        let config = parts.ingress.config();
        let seen = look(&files_of(&config));
        let chains = own_certificates(&config).filter_map(|(key, path)| Some((key, std::fs::read(path).ok()?))).collect();
        Self { parts, turn: tokio::sync::Mutex::default(), last: Mutex::default(), seen: Mutex::new(seen), chains: Mutex::new(chains) }
    }

    /// The last reload; `None` since the start.
    pub fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything and, if it is in order, goes on with it.
    ///
    /// # Errors
    /// File, key and cause of the first problem; nothing has changed then.
    pub async fn reload(&self, why: &'static str) -> anyhow::Result<Last> {
        let _turn = self.turn.lock().await;
        let running = self.parts.ingress.config();
        let (tenants, now) = (self.parts.tenants.clone(), (self.parts.clock)());
        let (known, chains) = (self.seen().keys().cloned().collect(), self.chains().clone());
        let read = tokio::task::spawn_blocking(move || {
            // Before it is read: what changes meanwhile is a change to the next look.
            let before = look(&known);
            let next = Config::load(running.path());
            let mut seen = look(&files_of(next.as_ref().unwrap_or(&running)));
            seen.iter_mut().for_each(|(path, stamp)| *stamp = before.get(path).copied().unwrap_or(*stamp));
            (next.map_err(anyhow::Error::from).and_then(|next| Next::read(&running, &next, (&tenants, &chains), now)), seen)
        });
        let (read, seen) = read.await.context("reading the configuration ended by a fault")?;
        *self.seen() = seen;
        let last = match read {
            Ok(next) => {
                let restart = next.restart.clone();
                self.exchange(next).await;
                self.parts.counters.reloads.add(1);
                tracing::info!(why, ?restart, "the configuration was read again and is in force");
                Last { at: now, refused: None, restart }
            }
            Err(error) => {
                self.parts.counters.reloads_refused.add(1);
                let cause = format!("{error:#}");
                tracing::error!(why, cause, "the configuration is not accepted; the earlier one stays in force");
                Last { at: now, refused: Some(cause), restart: Vec::new() }
            }
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.clone());
        match &last.refused {
            Some(cause) => Err(anyhow::anyhow!("{cause}; the earlier configuration stays in force")),
            None => Ok(last),
        }
    }

    /// Puts a preview on record and reads everything again, so that what it is about comes into force.
    ///
    /// # Errors
    /// It cannot be written; or as [`Reload::reload`], with the preview on record.
    pub async fn previewed(&self, preview: Preview) -> anyhow::Result<Last> {
        let config = self.parts.ingress.config();
        let turn = self.turn.lock().await;
        let (rule_set, edition, user) = (preview.rule_set.clone(), preview.edition.clone(), preview.user);
        tokio::task::spawn_blocking(move || rule_updates::record(&config, preview)).await??;
        // The operator's own words stay in the record: nobody can say what is in them.
        tracing::info!(rule_set, edition, user, "a preview of rules is on record");
        drop(turn);
        self.reload("a preview of rules").await
    }

    async fn exchange(&self, next: Next) {
        let Next { config, loaded, maps, dimse_tls, stow_tls, targets, link, chains, .. } = next;
        let rules = Arc::new(loaded.sets.clone());
        let parts = &self.parts;
        *self.chains() = chains;
        // Where devices are told comes before who may ask; sets by name before the table that names them.
        parts.commitments.reload(targets);
        parts.rules.store(rules.clone());
        let organisation_oids = maps.organisation_oids();
        parts.ingress.reload(InForce { config: config.clone(), rules, organisation_oids });
        for (listener, tls) in [(&parts.dimse_tls, dimse_tls), (&parts.stow_tls, stow_tls)] {
            if let (Some(listener), Some(tls)) = (listener, tls) {
                listener.store(Arc::new(tls));
            }
        }
        parts.ingress.query.reload(maps.clone());
        parts.studies.reload(config.clone(), maps.clone());
        if let Some(forward) = &parts.forward {
            forward.reload(config.clone(), maps, link);
        }
        parts.folders.follow(&config.inbound).await;
        // They are in force; a crash before this is on record has the next start compare with what stood before, again.
        match tokio::task::spawn_blocking(move || rule_updates::adopt(&config, &loaded)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(cause = format!("{error:#}"), "the levels in force are not on record"),
            Err(error) => tracing::error!(cause = %error, "the levels in force are not on record"),
        }
    }

    /// Reads again on SIGHUP and, if `watch`, when a file has changed and then stayed as it is from one look to the next.
    ///
    /// # Errors
    /// The signal cannot be caught.
    pub fn watch(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = self.parts.ingress.config().reload.clone();
        Ok(async move {
            let mut earlier = None;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = hangup.recv() => drop(self.reload("SIGHUP").await),
                    () = tokio::time::sleep(Duration::from_secs(reload.poll_seconds)), if reload.watch => {
                        let known = self.seen().clone();
                        let files = known.keys().cloned().collect();
                        let Ok(seen) = tokio::task::spawn_blocking(move || look(&files)).await else { continue };
                        let settled = earlier.replace(seen.clone()).as_ref() == Some(&seen);
                        if settled && seen != known {
                            drop(self.reload("a file changed").await);
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

/// What was read aside.
struct Next {
    config: Arc<Config>,
    restart: Vec<String>,
    loaded: Loaded,
    maps: Arc<Maps>,
    dimse_tls: Option<rustls::ServerConfig>,
    stow_tls: Option<rustls::ServerConfig>,
    targets: Targets,
    link: Option<Link>,
    chains: Chains,
}

impl Next {
    fn read(running: &Config, next: &Config, (tenants, in_use): (&[Tenant], &Chains), now: Timestamp) -> anyhow::Result<Self> {
        let Reloaded { config, restart } = running.reloaded(next, tenants)?;
        let trust = files::trust(&config.files.trust)?;
        let mut chains = Chains::new();
        for (key, path) in own_certificates(&config) {
            let pem = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
            if in_use.get(key) != Some(&pem) {
                // One that has expired, or is not valid yet, is not put in the place of another.
                tls::check_validity(&pem, now).with_context(|| format!("{key}: {}", path.display()))?;
            }
            check_path(key, path, &pem, &trust, now)?;
            chains.insert(key, pem);
        }
        Ok(Self {
            loaded: site::load_rules(&config, now)?,
            maps: load_maps(&config)?,
            dimse_tls: (!config.dimse.listen_tls.is_empty()).then(|| site::tls_listener(&config, &trust)).transpose()?,
            stow_tls: (!config.stow.listen_tls.is_empty()).then(|| site::stow_tls_listener(&config, &trust)).transpose()?,
            targets: Targets::of(&config, &trust)?,
            link: Link::load(&config, &trust, idr_host::now)?,
            config: Arc::new(config),
            restart,
            chains,
        })
    }
}

/// Whether every TLS certificate that is shown to others leads to a configured anchor (profile 10 §5.5).
///
/// # Errors
/// Key, file and what to do.
pub fn check_paths(config: &Config, trust: &Trust, now: Timestamp) -> anyhow::Result<()> {
    for (key, path) in own_certificates(config) {
        let pem = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        check_path(key, path, &pem, trust, now)?;
    }
    Ok(())
}

fn check_path(key: &str, path: &Path, pem: &[u8], trust: &Trust, now: Timestamp) -> anyhow::Result<()> {
    // A listener of devices may show a certificate of the site's own authority (10 §5.2 K4), which the centre never accepts.
    let mut anchors = files::anchors(trust.tls_anchors());
    if key != "centre.certificate" {
        anchors.extend(files::anchors(trust.modality_anchors()));
    }
    let intermediates = files::anchors(trust.tls_intermediates());
    tls::check_path(pem, &anchors, &intermediates, now).with_context(|| format!("{key}: {}", path.display()))
}

/// TLS certificates that are shown to others, by key.
fn own_certificates(config: &Config) -> impl Iterator<Item = (&'static str, &Path)> {
    let dimse = config.dimse.certificate.as_deref().map(|path| ("dimse.certificate", path));
    let centre = config.centre.as_ref().map(|centre| ("centre.certificate", centre.certificate.as_path()));
    let stow = config.stow.certificate.as_deref().map(|path| ("stow.certificate", path));
    dimse.into_iter().chain(stow).chain(centre)
}

/// Every file that a configuration is made of.
fn files_of(config: &Config) -> BTreeSet<PathBuf> {
    let files = &config.files;
    let mut found: BTreeSet<PathBuf> =
        [config.path(), &files.site_rules, &files.affinity_domain, &files.controller_map, &files.trust].map(Path::to_path_buf).into();
    found.extend(config.dimse.certificate.iter().chain(&config.dimse.key).chain(&config.stow.certificate).chain(&config.stow.key).cloned());
    found.extend(config.centre.iter().flat_map(|centre| [centre.certificate.clone(), centre.key.clone()]));
    found.extend(config.assertion.iter().flat_map(|assertion| [assertion.certificate.clone(), assertion.key.clone()]));
    let folder = files.trust.parent().unwrap_or(Path::new(".")).to_owned();
    if let Ok(text) = files::read_text(&files.trust) {
        // Its own faults are told when it is read to be used.
        let _ = Trust::parse(&text, &mut |name| {
            let path = folder.join(name);
            let content = std::fs::read(&path);
            found.insert(path);
            content
        });
    }
    below(&files.rules, RULE_FOLDERS_MAX, &mut found);
    found
}

fn below(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    found.insert(folder.to_owned());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => below(&entry.path(), depth - 1, found),
            Ok(_) => drop(found.insert(entry.path())),
            Err(_) => {}
        }
    }
}

fn look(files: &BTreeSet<PathBuf>) -> Seen {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    files.iter().map(|path| (path.clone(), stamp(path))).collect()
}

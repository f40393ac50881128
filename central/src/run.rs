//! The running centre: everything the configuration names, started in order and stopped in the reverse.
//!
//! Start: rule sets, trust, keys, audit logs (recovery), database, objects, listeners, `READY=1`. Stop: no new connections,
//! requests in flight are answered, the audit logs are signed, the database is closed.
//!
//! # On disk
//! `storage.path`: `central.db` (SQLite, WAL), `objects/`, `audit/`, `keys/`, `control.sock`, `listening.json`.
//!
//! # Failure
//! What a crash left is settled at the next start: openings of the use log without a closing are closed (as `failed` when
//! nothing of their study was committed after them, else as `partial, unknown`), staged bytes and objects that no row names
//! are removed after an hour.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use idr_host::places::Connections;
use idr_host::process::{self, Phase};
use idr_host::{files, monitor, service_manager};
use idr_profile::access::{Policy, PolicyFiles};
use idr_profile::adt::Sources;
use idr_profile::identifier::IdentityRules;
use idr_profile::mapping::{AffinityDomain, Slots};
use idr_profile::receipt::Holder;
use idr_profile::rules::RuleSets;
use idr_profile::tls::{self, ClientAuth};
use idr_profile::xds::{Errors, XdsRules};
use idr_profile::xua::{Trust, XuaRules};
use jiff::{SignedDuration, Timestamp};
use rand::RngCore as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{AuditSink as _, Closing, Delivered, Entry, Extent, FileConfig, FileSink, Note, Orphan, Outcome, Stream};
use crate::central::{Central, Counters, Places, RECEIVING_MAX, Space};
use crate::config::{Config, Engine, Https};
use crate::consent::log;
use crate::control;
use crate::dimse::commitment::Commitments;
use crate::dimse::{self, Dimse};
use crate::enrolment::Enrolment;
use crate::enrolment::authority::Authority;
use crate::federation::Federation;
use crate::https::{self, enrol, server};
use crate::identity::mllp;
use crate::keys::Keys;
use crate::objects::Objects;
use crate::policy::{self, Reading};
use crate::reload::{Doors, Reload};
use crate::revocation::Revocations;
use crate::store::committer::Committer;
use crate::store::receipts::Custody;
use crate::store::{CentralStore, PostgresStore, SqliteOptions, SqliteStore};

/// Longest wait for requests in flight at a stop.
const STOP_REQUESTS: Duration = Duration::from_secs(40);
/// Longest wait for an operator's command and the sweep at a stop.
const STOP_BEHIND: Duration = Duration::from_secs(20);
/// Longest wait for the last signature of the audit logs and the database at a stop.
const STOP_STORES: Duration = Duration::from_secs(15);
/// Protocols of the HTTPS listener.
pub(crate) const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
/// How often staged bytes, used assertions and old answers are looked through.
const SWEEP: Duration = Duration::from_secs(600);
/// Bytes that no row names are removed when nobody has written them for this long (08 §6.3: within 3 600 s).
const STRAY_AGE: SignedDuration = SignedDuration::from_mins(30);

/// What the rule and trust files say.
pub struct Loaded {
    rules: RuleSets,
    trust: Trust,
    revocation: Revocations,
    xua: XuaRules,
    policy: Policy,
    policy_files: PolicyFiles,
    identity: IdentityRules,
    sources: Sources,
    xds: XdsRules,
    errors: Errors,
    slots: Slots,
}

impl Loaded {
    /// Reads all files.
    ///
    /// # Errors
    /// File and key of the first problem.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let xds = policy::set_files(config, "xds.toml")?;
        let errors = policy::base_file(config, "errors.toml")?;
        let reading = Reading::read(config)?;
        let trust = files::trust(&config.files.trust)?;
        // The shipped base of xds.toml is in the program; a base file in the folder stands over it.
        Ok(Self {
            rules: files::rule_sets(
                &config.files.rules,
                &config.files.site_rules,
                config.environment,
                "central.rule_sets",
                &config.central.rule_sets,
            )?,
            revocation: Revocations::load(config, &trust)?,
            trust,
            xua: reading.xua,
            policy: reading.policy,
            policy_files: reading.files,
            identity: reading.identity,
            sources: load_sources(config)?,
            xds: XdsRules::load(&policy::texts(&xds))?,
            errors: Errors::load(&errors)?,
            slots: load_slots(config)?,
        })
    }
}

fn load_sources(config: &Config) -> anyhow::Result<Sources> {
    let path = &config.files.hl7_sources;
    let text = files::read_text_if_there(path)?.unwrap_or_default();
    Sources::parse(&text).with_context(|| path.display().to_string())
}

fn load_slots(config: &Config) -> anyhow::Result<Slots> {
    let path = &config.files.affinity_domain;
    match files::read_text_if_there(path)? {
        None => Ok(Slots::default()),
        Some(text) => Ok(AffinityDomain::load(&text).with_context(|| path.display().to_string())?.slots),
    }
}

pub(crate) fn tls_listener(config: &Config, trust: &Trust, protocols: &[&[u8]]) -> anyhow::Result<rustls::ServerConfig> {
    let path = &config.https.certificate;
    let chain = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let key = files::read_private(&config.https.key)?;
    Ok(tls::server(&chain, &key, &files::anchors(trust.tls_anchors()), ClientAuth::Required, protocols)?)
}

/// The door of enrolment: the certificate of HTTPS, and nobody is asked for one.
pub(crate) fn enrol_listener(config: &Config) -> anyhow::Result<rustls::ServerConfig> {
    let path = &config.https.certificate;
    let chain = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(tls::server_for_anyone(&chain, &files::read_private(&config.https.key)?, HTTP)?)
}

/// Certificate and key of DICOM over TLS: its own, or those of HTTPS.
fn dimse_identity(config: &Config) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let (certificate, key) = match (&config.dimse.certificate, &config.dimse.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        _ => (&config.https.certificate, &config.https.key),
    };
    let chain = std::fs::read(certificate).with_context(|| format!("{}: cannot be read", certificate.display()))?;
    Ok((chain, files::read_private(key)?))
}

pub(crate) fn dimse_listener(config: &Config, trust: &Trust) -> anyhow::Result<rustls::ServerConfig> {
    let (chain, key) = dimse_identity(config)?;
    Ok(tls::server(&chain, &key, &files::anchors(trust.tls_anchors()), ClientAuth::Required, &[])?)
}

/// TLS towards peers that are told of their storage commitment; `None`: there are none.
fn dimse_client(config: &Config, trust: &Trust) -> anyhow::Result<Option<Arc<rustls::ClientConfig>>> {
    if config.peer.iter().all(|row| row.commitment_address.is_none()) {
        return Ok(None);
    }
    let (chain, key) = dimse_identity(config)?;
    Ok(Some(Arc::new(tls::client(&chain, &key, &files::anchors(trust.tls_anchors()), &[], &[])?)))
}

/// Everything that `check-config` checks: files, keys, rule sets, trust; nothing is opened or bound.
///
/// # Errors
/// The first problem.
pub fn check(config: &Config) -> anyhow::Result<()> {
    let loaded = Loaded::read(config)?;
    Authority::load(config, &loaded.trust)?;
    tls_listener(config, &loaded.trust, HTTP)?;
    if !config.dimse.listen.is_empty() {
        dimse_listener(config, &loaded.trust)?;
        dimse_client(config, &loaded.trust)?;
    }
    Federation::open(config, &loaded.trust)?;
    Ok(())
}

/// An opened centre, before it listens and after it has ended.
pub struct Open {
    /// What routes and commands use.
    pub central: Arc<Central>,
    sink: Arc<FileSink>,
}

impl Open {
    /// Opens keys, audit logs, database and objects, and settles what a crash left.
    ///
    /// # Errors
    /// The first thing that cannot be opened. Another process that has the state open is one of them.
    pub async fn open(config: Arc<Config>, clock: fn() -> Timestamp) -> anyhow::Result<Self> {
        let loaded = Loaded::read(&config)?;
        let state = config.storage.path.clone();
        prepare(&state)?;
        let keys = Keys::new(state.join("keys"));
        let no_log = is_empty(&state.join("audit"));
        let audit = FileConfig {
            root: state.join("audit"),
            node: config.central.node.clone(),
            body_key: config.audit.encrypt.then(|| keys.body(no_log)).transpose()?,
            checkpoint_key: keys.checkpoint(no_log)?,
            earlier_keys: keys.earlier_checkpoints()?,
            clock: Arc::new(clock),
        };
        let (sink, orphans) = FileSink::start(audit).await?;
        let sink = Arc::new(sink);
        let store = open_store(&config, true).await?;
        let holder = Holder::new(&config.central.organisation, &config.central.node)?;
        anyhow::ensure!(
            !store.read().await?.was_moved().await?,
            "database.engine = \"{}\": its content was moved to the other database by `migrate`; set that one",
            config.database.engine.name()
        );
        let nothing_signed = store.read().await?.nothing_signed(&holder).await?;
        let random = || {
            let mut bytes = [0; 10];
            rand::rng().fill_bytes(&mut bytes);
            bytes
        };
        let custody = Custody::new(holder, Arc::new(keys.receipt(nothing_signed)?), Arc::new(random));
        settle(&sink, &*store, orphans, clock).await?;
        // The audit log's lock says that no other process works on this state, and the store that none works on its database.
        let mut tx = store.begin().await?;
        let forgotten = tx.forget_running_messages().await?;
        tx.commit().await?;
        if forgotten > 0 {
            tracing::info!(count = forgotten, "messages that a crash interrupted may be sent again at once");
        }
        let federation = Federation::open(&config, &loaded.trust)?;
        let enrolment = Enrolment::open(&config, &loaded.trust)?;
        let central = Central {
            rules: ArcSwap::from_pointee(loaded.rules),
            trust: ArcSwap::from_pointee(loaded.trust),
            revocation: ArcSwap::from_pointee(loaded.revocation),
            xua: loaded.xua,
            policy: loaded.policy,
            policy_sha256: loaded.policy_files.hash().to_owned(),
            policy_files: loaded.policy_files,
            identity: loaded.identity,
            sources: loaded.sources,
            places: Places::new(&loaded.xds.concurrency),
            xds: loaded.xds,
            errors: loaded.errors,
            slots: loaded.slots,
            committer: Committer::start(store.clone(), custody.clone(), Arc::new(clock)),
            store,
            enrolment,
            custody,
            objects: Objects::local(&state.join("objects"))?,
            audit: sink.clone(),
            space: Space::new(state, config.storage.reserve_bytes),
            receiving: Arc::new(tokio::sync::Semaphore::new(RECEIVING_MAX)),
            federation,
            counters: Counters::default(),
            config,
            clock,
        };
        central.enrolment.refresh(&central).await?;
        Ok(Self { central: Arc::new(central), sink })
    }

    /// Signs the audit logs and closes the database.
    pub async fn close(self) {
        self.sink.shutdown().await;
        let store = self.central.store.clone();
        drop(self.central);
        store.close().await;
    }
}

/// Opens the database of a configuration; `alone`: for a process that writes. Commands that only read beside a running centre are not
/// alone.
///
/// # Errors
/// [`crate::store::StoreError::Open`]; a file of the configuration cannot be read.
pub async fn open_store(config: &Config, alone: bool) -> anyhow::Result<Arc<dyn CentralStore>> {
    open_engine(config, config.database.engine, alone).await
}

/// [`open_store`] of a database that the configuration may not have in use.
///
/// # Errors
/// As [`open_store`].
pub async fn open_engine(config: &Config, engine: Engine, alone: bool) -> anyhow::Result<Arc<dyn CentralStore>> {
    Ok(match engine {
        Engine::Sqlite => Arc::new(SqliteStore::open(&database(config), SqliteOptions::default()).await?),
        Engine::Postgresql => {
            let server = &config.database;
            let opened = PostgresStore::open(server.postgres(alone)?).await;
            Arc::new(opened.with_context(|| format!("database {} at {}:{}", server.name, server.host, server.port))?)
        }
    })
}

/// The database file of SQLite.
pub fn database(config: &Config) -> PathBuf {
    config.storage.path.join("central.db")
}

/// Whether no centre has worked on this state yet, as far as can be seen without opening it.
pub fn never_ran(config: &Config) -> bool {
    match config.database.engine {
        Engine::Sqlite => !database(config).exists(),
        // What the database holds is not asked; a centre that ran has left its logs.
        Engine::Postgresql => is_empty(&config.storage.path.join("audit")),
    }
}

fn prepare(state: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    for folder in [state.to_owned(), state.join("objects"), state.join("audit")] {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("storage.path: {} cannot be made", folder.display()))?;
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Closes the openings that a crash left: a store of which nothing was committed is `failed`, anything else `unknown`.
async fn settle(sink: &FileSink, store: &dyn CentralStore, orphans: Vec<Orphan>, clock: fn() -> Timestamp) -> anyhow::Result<()> {
    if !orphans.is_empty() {
        tracing::warn!(count = orphans.len(), "audit: records of a crash are closed");
    }
    let mut unknown = Vec::new();
    for orphan in orphans {
        let study = orphan.record.object.as_ref().and_then(|object| object.study.clone());
        let committed = match study
            .filter(|_| matches!(orphan.record.transaction.as_str(), "STOW-RS" | "C-STORE") && orphan.record.operation == "store")
        {
            Some(study) => store.read().await?.stored_since(&study, orphan.record.time).await?,
            None => true,
        };
        if committed {
            unknown.push(orphan);
        } else {
            let delivered = Some(Delivered { extent: Extent::None, instances: 0, bytes: 0 });
            sink.close(orphan.opening, Closing { time: clock(), outcome: Outcome::Failed, delivered, status: None }).await?;
        }
    }
    sink.close_orphans(unknown).await?;
    Ok(())
}

/// Runs until `stop` is cancelled and everything has ended in order.
///
/// # Errors
/// What keeps the centre from starting. Once it runs, nothing ends it but `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let open = Open::open(config.clone(), idr_host::now).await?;
    let central = open.central.clone();
    let doors = Doors::open(&config, &central.trust.load())?;
    let reload = Arc::new(Reload::new(central.clone(), doors.clone()));

    let mut bound = Bound::default();
    let mut listeners = Vec::new();
    for address in &config.https.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("https.listen: {address} cannot be bound"))?;
        bound.https.push(listener.local_addr()?.to_string());
        listeners.push(listener);
    }
    let mut dimse_listeners = Vec::new();
    for address in &config.dimse.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("dimse.listen: {address} cannot be bound"))?;
        bound.dimse.push(listener.local_addr()?.to_string());
        dimse_listeners.push(listener);
    }
    let mut enrol_listeners = Vec::new();
    for address in &config.enrol.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("enrol.listen: {address} cannot be bound"))?;
        bound.enrol.push(listener.local_addr()?.to_string());
        enrol_listeners.push(listener);
    }
    let feeds = bind_feeds(&config, doors.mllp.clone(), &mut bound).await?;
    let health_listener = match config.health_listen {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("health_listen: {address} cannot be bound"))?),
        None => None,
    };
    if let Some(listener) = &health_listener {
        bound.health.push(listener.local_addr()?.to_string());
    }

    let after_requests = CancellationToken::new();
    let (requests, behind) = (TaskTracker::new(), TaskTracker::new());
    behind.spawn(control::serve(&config.control_socket(), central.clone(), Some(reload.clone()), after_requests.clone())?);
    behind.spawn(reload.watch(after_requests.clone())?);
    if let Some(listener) = health_listener {
        behind.spawn(monitor::serve(listener, central.clone(), after_requests.clone()));
    }
    behind.spawn(sweep(central.clone(), after_requests.clone()));
    let router = https::router(central.clone());
    let Https { connections_max, connections_per_address_max, handshakes_max, .. } = config.https;
    let connections = Connections::new(connections_max, connections_per_address_max, handshakes_max);
    let bounds = server::Bounds { handshake: Duration::from_secs(config.https.handshake_seconds), ..server::Bounds::default() };
    for listener in listeners {
        requests.spawn(server::serve(listener, doors.https.clone(), router.clone(), connections.clone(), bounds.clone(), stop.clone()));
    }
    drop(router);
    let (door, most) = (enrol::door(central.clone()), config.enrol.connections_max);
    let connections = Connections::new(most, most.min(16), most.min(16));
    for listener in enrol_listeners {
        let Some(tls) = doors.enrol.clone() else { break };
        requests.spawn(server::serve_anyone(listener, tls, door.clone(), connections.clone(), bounds.clone(), stop.clone()));
    }
    drop(door);
    serve_dimse(&central, (dimse_listeners, doors.dimse), (&requests, &stop), (&behind, &after_requests)).await?;
    let m = &config.mllp;
    let connections = Connections::new(m.connections_max, m.connections_per_address_max, m.handshakes_max);
    for (listener, door) in feeds {
        requests.spawn(mllp::serve(listener, door, central.clone(), connections.clone(), stop.clone()));
    }
    central.audit.append(vec![log::policy_note(&central)]).await?;
    note(&central, "start", json!({"version": env!("CARGO_PKG_VERSION"), "https": bound.https, "dimse": bound.dimse, "mllp": bound.mllp}))
        .await?;
    files::replace_json(&config.storage.path.join("listening.json"), &bound)?;
    tracing::info!(https = ?bound.https, dimse = ?bound.dimse, health = ?bound.health, "ready");
    service_manager::notify("READY", "1");
    behind.spawn(service_manager::watchdog(after_requests.clone()));

    stop.cancelled().await;
    service_manager::notify("STOPPING", "1");
    tracing::info!("stopping: no new connections; requests in flight are answered");
    process::end([
        Phase { name: "requests", tasks: requests, limit: STOP_REQUESTS, then: after_requests },
        Phase { name: "background work", tasks: behind, limit: STOP_BEHIND, then: CancellationToken::new() },
    ])
    .await;
    if let Err(error) = note(&central, "stop", serde_json::Value::Null).await {
        tracing::error!(cause = %error, "the stop could not be recorded");
    }
    drop(central);
    if tokio::time::timeout(STOP_STORES, open.close()).await.is_err() {
        tracing::warn!("audit logs and database did not close in time; the next start settles what is open");
    }
    Ok(())
}

/// DICOM over TLS, if it has an address.
async fn serve_dimse(
    central: &Arc<Central>,
    (listeners, tls): (Vec<TcpListener>, Option<Arc<ArcSwap<rustls::ServerConfig>>>),
    (requests, stop): (&TaskTracker, &CancellationToken),
    (behind, after_requests): (&TaskTracker, &CancellationToken),
) -> anyhow::Result<()> {
    let Some(tls) = tls else { return Ok(()) };
    let (config, trust) = (&central.config, central.trust.load());
    let commitments = Commitments::open(central.clone(), dimse_client(config, &trust)?).await?;
    let connections = Connections::new(config.dimse.connections_max, config.dimse.connections_per_address_max, config.dimse.handshakes_max);
    let shared = Arc::new(Dimse::new(central.clone(), commitments.clone()));
    for listener in listeners {
        requests.spawn(dimse::serve(listener, tls.clone(), shared.clone(), connections.clone(), stop.clone()));
    }
    behind.spawn(commitments.run(after_requests.clone()));
    Ok(())
}

/// Binds the listeners of ADT messages.
async fn bind_feeds(
    config: &Config,
    tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    bound: &mut Bound,
) -> anyhow::Result<Vec<(TcpListener, mllp::Door)>> {
    let mut feeds = Vec::new();
    if let Some(tls) = tls {
        for address in &config.mllp.listen {
            let listener = TcpListener::bind(address).await.with_context(|| format!("mllp.listen: {address} cannot be bound"))?;
            bound.mllp.push(listener.local_addr()?.to_string());
            feeds.push((listener, mllp::Door::Tls(tls.clone())));
        }
    }
    for address in &config.mllp.plain_listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("mllp.plain_listen: {address} cannot be bound"))?;
        bound.mllp_plain.push(listener.local_addr()?.to_string());
        feeds.push((listener, mllp::Door::Plain));
    }
    Ok(feeds)
}

async fn note(central: &Central, event: &str, data: serde_json::Value) -> anyhow::Result<()> {
    let note = Note { id: Some(central.new_id()), time: central.now(), event: event.to_owned(), data };
    central.audit.append(vec![Entry::Note(Stream::System, note)]).await?;
    Ok(())
}

/// Looks after what grows: bytes that no row names, used assertions, old answers.
async fn sweep(central: Arc<Central>, stop: CancellationToken) {
    // The first round looks back a day, for what was staged before a stop.
    let mut back = SignedDuration::from_hours(24);
    loop {
        if let Err(error) = sweep_once(&central, back).await {
            tracing::warn!(cause = %format!("{error:#}"), "sweep not finished; it is tried again");
        }
        back = SignedDuration::from_hours(4);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
    }
}

/// Used assertions, and kept answers, that one unit of work forgets.
const PURGED_AT_ONCE: u32 = 1000;

async fn sweep_once(central: &Central, back: SignedDuration) -> anyhow::Result<()> {
    crate::enrolment::join::sweep(central).await?;
    let now = central.now();
    let old = now.checked_sub(STRAY_AGE)?;
    let made = now.checked_sub(back)?..old;
    let unfinished = central.objects.remove_unfinished(made.clone(), old).await?;
    let strays = central.objects.strays(made, old, 10_000).await?;
    let unreferenced = central.store.read().await?.unreferenced(&strays).await?;
    for key in &unreferenced {
        central.objects.discard(key).await?;
    }
    let retention = SignedDuration::from_secs(i64::from(central.xds.idempotency.retention_seconds));
    // In small units of work, so that a store waits for none of them long; but all of it, or the replay store would fill up.
    let mut purged = 0;
    loop {
        let mut tx = central.store.begin().await?;
        let done = SignedDuration::from_hours(24 * i64::from(central.identity.feed.repeat_days));
        let round = tx.purge_messages(retention, PURGED_AT_ONCE, now).await?.max(tx.purge_feed_messages(done, PURGED_AT_ONCE, now).await?);
        tx.commit().await?;
        purged += round;
        if round < u64::from(PURGED_AT_ONCE) {
            break;
        }
    }
    if unfinished + unreferenced.len() > 0 {
        tracing::info!(unfinished, unreferenced = unreferenced.len(), purged, "bytes without a row are removed");
    }
    Ok(())
}

/// Addresses that were bound, for operators and tests: `listening.json` in the state folder.
#[derive(Debug, Default, serde::Serialize)]
struct Bound {
    https: Vec<String>,
    enrol: Vec<String>,
    dimse: Vec<String>,
    health: Vec<String>,
    mllp: Vec<String>,
    mllp_plain: Vec<String>,
}

#[cfg(test)]
mod tests;

//! The running site: everything the configuration names, started in order and stopped in the reverse.
//!
//! Start: configuration, rule sets, trust, spool (recovery), commitments, listeners, `READY=1`. Stop: no new associations, messages in
//! flight are answered, the forwarder ends its step, the spool is closed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use idr_host::places::Connections;
use idr_host::process::Phase;
use idr_host::{files, monitor, now, process, service_manager};
use idr_profile::receipt::{Carried, Holder};
use idr_profile::tls::{self, ClientAuth};
use rand::SeedableRng as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{InForce, Ingress};
use crate::backup::RESTORING;
use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::config::{Config, DEFAULT_TENANT, Dimse, Environment};
use crate::control;
use crate::drop_folder::Folders;
use crate::enrol;
use crate::forward::{self, Forward};
use crate::health::{Counters, Monitor};
use crate::listener::{self, Transport};
use crate::quarantine::correction::Corrections;
use crate::query::Query;
use crate::receipts::KeyFile;
use crate::reconcile::Reconcile;
use crate::reload::{self, Reload};
use crate::retention::Retention;
use crate::rule_updates;
use crate::scrub::Scrub;
use crate::spool::disk::FileSystem;
use crate::spool::files::{Hop, Parts, Settings};
use crate::spool::index::WAITING_BYTES;
use crate::spool::{FileSpool, Recovery, Tenant};
use crate::stow::{self, Stow};
use crate::study::Studies;

/// Files and sockets beside the connections of devices: the spool, one file for each instance on its way (64 associations, and the
/// forwarder), drop folders, the centre, operators and monitors.
const DESCRIPTORS_BESIDE: u64 = 1_024;
/// Longest wait for messages in flight at a stop.
const STOP_ASSOCIATIONS: Duration = Duration::from_secs(25);
/// Longest wait for a request to the centre in flight at a stop; one that is cut is repeated at the next start.
const STOP_FORWARDING: Duration = Duration::from_secs(35);
/// Longest wait for the spool's checkpoint at a stop; without one the next start scans more files.
const STOP_SPOOL: Duration = Duration::from_secs(15);

/// Reads the rule sets in use, and checks that they and the manifest use one zone of device times.
///
/// # Errors
/// File, key and rule of the first problem.
pub fn load_rules(config: &Config, now: jiff::Timestamp) -> anyhow::Result<rule_updates::Loaded> {
    let loaded = rule_updates::load(config, now)?;
    for (name, set) in config.site.rule_sets.iter().filter_map(|name| Some((name, loaded.sets.set(name)?))) {
        // What the rules judge by is what the manifest is written by.
        let zone = set.rules_for(None).parameters().timezone.iana_name().map(str::to_owned);
        anyhow::ensure!(
            zone.as_deref() == Some(config.site.timezone.as_str()),
            "site.timezone is {}, but the parameter timezone of rule set {name} is {}; set both to the same zone",
            config.site.timezone,
            zone.unwrap_or_default()
        );
        for problem in &set.problems {
            tracing::error!(rule_set = name, "{problem}");
        }
    }
    for line in loaded.lines() {
        tracing::warn!("{line}");
    }
    Ok(loaded)
}

/// Everything that `check-config` checks: files, keys, rule sets, trust; nothing is opened or bound.
///
/// # Errors
/// The first problem.
pub fn check(config: &Config) -> anyhow::Result<()> {
    load_rules(config, now())?;
    let trust = files::trust(&config.files.trust)?;
    if !config.dimse.listen_tls.is_empty() {
        tls_listener(config, &trust)?;
    }
    if !config.stow.listen_tls.is_empty() {
        stow_tls_listener(config, &trust)?;
    }
    reload::check_paths(config, &trust, now())?;
    Commitments::check(config, &trust)?;
    Query::check(config, &trust)?;
    Forward::check(config)?;
    Ok(())
}

/// The TLS configuration of the DIMSE listener, read anew.
///
/// # Errors
/// A file that is missing, cannot be read, or does not fit the others.
pub fn tls_listener(config: &Config, trust: &idr_profile::xua::Trust) -> anyhow::Result<rustls::ServerConfig> {
    let (Some(certificate), Some(key)) = (&config.dimse.certificate, &config.dimse.key) else {
        anyhow::bail!("dimse.certificate and dimse.key are needed with dimse.listen_tls");
    };
    let chain = std::fs::read(certificate).with_context(|| format!("{}: cannot be read", certificate.display()))?;
    let anchors = files::anchors(trust.modality_anchors());
    let server = tls::server(&chain, &files::read_private(key)?, &anchors, ClientAuth::Optional, &[]);
    server.with_context(|| format!("dimse.certificate {}, dimse.key {}", certificate.display(), key.display()))
}

/// The TLS configuration of the STOW-RS listener, read anew.
///
/// # Errors
/// As [`tls_listener`].
pub fn stow_tls_listener(config: &Config, trust: &idr_profile::xua::Trust) -> anyhow::Result<rustls::ServerConfig> {
    let (Some(certificate), Some(key)) = (&config.stow.certificate, &config.stow.key) else {
        anyhow::bail!("stow.certificate and stow.key are needed with stow.listen_tls");
    };
    let chain = std::fs::read(certificate).with_context(|| format!("{}: cannot be read", certificate.display()))?;
    let anchors = files::anchors(trust.modality_anchors());
    let server = tls::server(&chain, &files::read_private(key)?, &anchors, ClientAuth::Required, &[b"http/1.1"]);
    server.with_context(|| format!("stow.certificate {}, stow.key {}", certificate.display(), key.display()))
}

/// Opens the spool of a configuration; blocks.
///
/// # Errors
/// The folder, its file system, the receipt key, the index.
pub fn open_spool(config: &Config, rebuild: bool) -> anyhow::Result<(FileSpool, Recovery)> {
    let state = &config.storage.path;
    anyhow::ensure!(
        !state.join(RESTORING).exists(),
        "{}: a restore is under way or broke off; let it end, or move everything but keys/ away and restore again",
        state.display()
    );
    let disk = Arc::new(FileSystem::open(state, config.environment == Environment::Test)?);
    let log_is_empty = std::fs::read_dir(state.join("receipts")).map_or(true, |mut entries| entries.next().is_none());
    let keys = KeyFile::new(state.join("keys"));
    let signers = keys.load_or_create(log_is_empty)?;
    let parts = Parts {
        disk: disk.clone(),
        state_disk: disk,
        index: config
            .storage
            .index
            .store(state)
            .with_context(|| format!("{}: an index of another kind cannot be removed", state.display()))?,
        holder: Holder::new(&config.site.organisation, &config.site.id)?,
        signers,
        random: Box::new(rand::rngs::StdRng::from_os_rng()),
        settings: Settings { reserve_bytes: config.storage.reserve_bytes, ..Settings::default() },
        index_waits_bytes: WAITING_BYTES,
        hop: Hop::Blocking,
        rebuild,
    };
    let (spool, recovery) = FileSpool::open(parts, now())?;
    // A rotation that a crash interrupted ends here: the key that the log names is the current one.
    keys.settle(&spool.receipts().public_key().kid)?;
    Ok((spool, recovery))
}

/// Tenants of the inbound table, each once; without rows the default one, so that a reload may bring the first row.
pub fn tenants(config: &Config) -> Vec<Tenant> {
    let mut tenants: Vec<Tenant> = config.inbound.iter().filter_map(|row| row.tenant.parse().ok()).collect();
    if tenants.is_empty() {
        tenants.extend(DEFAULT_TENANT.parse());
    }
    tenants.sort();
    tenants.dedup();
    tenants
}

/// Runs until `stop` is cancelled and everything has ended in order.
///
/// # Errors
/// What keeps the site from starting. Once it runs, nothing ends it but `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let loaded = load_rules(&config, now())?;
    let trust = Arc::new(files::trust(&config.files.trust)?);
    let tenants = tenants(&config);

    let opening = config.clone();
    let (spool, recovery) = tokio::task::spawn_blocking(move || open_spool(&opening, false)).await??;
    tracing::info!(index = ?recovery.index, added = recovery.added, verified = recovery.verified, unfinished = recovery.unfinished, "spool opened");
    for alarm in recovery.alarms() {
        tracing::error!("{alarm}");
    }
    let (adopting, loaded) = (config.clone(), Arc::new(loaded));
    let adopted = loaded.clone();
    // No reason not to take images: the next start compares with what stood before, again.
    if let Err(error) = tokio::task::spawn_blocking(move || rule_updates::adopt(&adopting, &adopted)).await? {
        tracing::error!(cause = format!("{error:#}"), "the levels in force are not on record");
    }
    let rules = Arc::new(ArcSwap::from_pointee(loaded.sets.clone()));
    let seam = spool.seam();
    let counters = Arc::new(Counters::default());
    let maps = forward::load_maps(&config)?;
    let commitments = {
        let (config, trust, disk, seam) = (config.clone(), trust.clone(), spool.disk(), seam.clone());
        tokio::task::spawn_blocking(move || Commitments::open(config, &trust, disk, seam, now)).await??
    };
    let completeness = {
        let (config, disk, seam) = (config.clone(), spool.disk(), seam.clone());
        tokio::task::spawn_blocking(move || Completeness::open(config, disk, seam, now))
            .await?
            .context("listings: the folder cannot be read")?
    };
    let query = Query::new(config.clone(), &trust, rules.clone(), seam.clone(), maps.clone(), now)?;
    let in_force = InForce { config: config.clone(), rules: rules.load_full(), organisation_oids: maps.organisation_oids() };
    let ingress = Ingress::new(in_force, seam.clone(), (commitments.clone(), completeness.clone(), query), counters.clone(), now);
    let ingress = Arc::new(ingress);

    let Dimse { connections_max, connections_per_address_max, handshakes_max, .. } = config.dimse;
    process::descriptors((connections_max + config.stow.connections_max) as u64 + DESCRIPTORS_BESIDE);
    let connections = Connections::new(connections_max, connections_per_address_max, handshakes_max);
    let of_stow = &config.stow;
    let stow_connections = Connections::new(of_stow.connections_max, of_stow.connections_per_address_max, of_stow.handshakes_max);

    let mut bound = Bound::default();
    let tls_config = match config.dimse.listen_tls.is_empty() {
        true => None,
        false => Some(Arc::new(ArcSwap::from_pointee(tls_listener(&config, &trust)?))),
    };
    let mut listeners = Vec::new();
    for address in &config.dimse.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("dimse.listen: {address} cannot be bound"))?;
        bound.dimse.push(listener.local_addr()?.to_string());
        listeners.push((listener, Transport::Plain));
    }
    if let Some(tls_config) = &tls_config {
        for address in &config.dimse.listen_tls {
            let listener = TcpListener::bind(address).await.with_context(|| format!("dimse.listen_tls: {address} cannot be bound"))?;
            bound.dimse_tls.push(listener.local_addr()?.to_string());
            listeners.push((listener, Transport::Tls(tls_config.clone())));
        }
    }
    let stow_tls = match config.stow.listen_tls.is_empty() {
        true => None,
        false => Some(Arc::new(ArcSwap::from_pointee(stow_tls_listener(&config, &trust)?))),
    };
    let mut stow_listeners = Vec::new();
    for address in &config.stow.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("stow.listen: {address} cannot be bound"))?;
        bound.stow.push(listener.local_addr()?.to_string());
        stow_listeners.push((listener, Transport::Plain));
    }
    for (address, tls) in config.stow.listen_tls.iter().zip(stow_tls.iter().cycle()) {
        let listener = TcpListener::bind(address).await.with_context(|| format!("stow.listen_tls: {address} cannot be bound"))?;
        bound.stow_tls.push(listener.local_addr()?.to_string());
        stow_listeners.push((listener, Transport::Tls(tls.clone())));
    }
    let health_listener = match config.health.listen {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("health.listen: {address} cannot be bound"))?),
        None => None,
    };
    if let Some(listener) = &health_listener {
        bound.health.push(listener.local_addr()?.to_string());
    }

    // Three stops, so that the ways in end before what they hand to.
    let (after_ingress, after_all) = (CancellationToken::new(), CancellationToken::new());
    let (inward, behind, last) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    last.spawn(spool.clone().run(now, after_all.clone()));
    let (of_studies, maps_of_studies) = (completeness.clone(), maps.clone());
    let studies = Arc::new(Studies::new(config.clone(), rules.clone(), seam.clone(), tenants.clone(), maps_of_studies, of_studies, now));
    behind.spawn(studies.clone().run(after_ingress.clone()));
    let forward = Forward::start(
        config.clone(),
        rules.clone(),
        seam.clone(),
        spool.receipts().clone(),
        &trust,
        maps,
        tenants.clone(),
        spool.disk(),
        now,
    )?;
    if let Some(forward) = &forward {
        ingress.reports.set(forward.clone()).ok();
        behind.spawn(forward.clone().run(after_ingress.clone()));
    }
    behind.spawn(commitments.clone().run(after_ingress.clone()));
    let folders = Folders::new(ingress.clone(), inward.clone(), stop.clone());
    folders.follow(&config.inbound).await;
    let reload = reload::Parts {
        ingress: ingress.clone(),
        dimse_tls: tls_config,
        stow_tls,
        rules: rules.clone(),
        commitments: commitments.clone(),
        studies: studies.clone(),
        forward: forward.clone(),
        folders,
        tenants: tenants.clone(),
        counters: counters.clone(),
        clock: now,
    };
    let reload = Arc::new(tokio::task::spawn_blocking(move || Reload::new(reload)).await?);
    behind.spawn(reload.clone().watch(after_ingress.clone())?);
    behind.spawn(enrol::renewal::run(config.clone(), reload.clone(), after_ingress.clone()));
    let scrub = Arc::new(Scrub::new(spool.clone(), config.scrub.clone(), config.storage.path.join("scrub.json"), now));
    behind.spawn(scrub.clone().run(after_ingress.clone()));
    let corrections = {
        let (disk, ingress, receipts) = (spool.disk(), ingress.clone(), spool.receipts().clone());
        let (studies, tenants, forward) = (studies.clone(), tenants.clone(), forward.clone());
        let opened = tokio::task::spawn_blocking(move || Corrections::open(disk, ingress, receipts, studies, tenants, forward)).await?;
        Arc::new(opened.context("corrections: the folder cannot be read")?)
    };
    let retention = forward.clone().map(|of_centre| {
        let verifies = Box::new(move |carried: &Carried| of_centre.is_of_centre(carried));
        let (cache, receipts) = (config.cache.clone(), spool.receipts().clone());
        Arc::new(Retention::new(cache, seam.clone(), receipts, verifies, tenants.clone(), Box::new(now)))
    });
    if let Some(retention) = &retention {
        behind.spawn(retention.clone().run(after_ingress.clone()));
    }
    behind.spawn(corrections.clone().run(after_ingress.clone()));
    // A destination without receipts is not asked: the centre has nothing of what it holds.
    let gives_receipts = config.centre.as_ref().and_then(|centre| centre.dimse.as_ref()).is_none_or(|archive| archive.receipts);
    let reconcile = forward.as_ref().filter(|_| gives_receipts).map(|forward| reconciliation(forward.clone(), &config, now)).transpose()?;
    if let Some(reconcile) = &reconcile {
        behind.spawn(reconcile.clone().run(after_ingress.clone()));
    }
    let of_monitor = forward.clone();
    let operator = control::Operator {
        spool: spool.clone(),
        counters: counters.clone(),
        started: now(),
        studies,
        forward,
        commitments: commitments.clone(),
        completeness: completeness.clone(),
        tenants: tenants.clone(),
        corrections,
        rules,
        reload: reload.clone(),
        scrub: scrub.clone(),
        header_memory: ingress.header_memory.clone(),
        retention: retention.clone(),
        reconcile: reconcile.clone(),
    };
    behind.spawn(control::serve(&config.control_socket(), operator, after_ingress.clone())?);
    if let Some(listener) = health_listener {
        let connections = [connections.clone(), stow_connections.clone()];
        let monitor = Monitor {
            ingress: ingress.clone(),
            spool,
            commitments,
            completeness,
            connections,
            reload,
            retention,
            scrub,
            reconcile,
            forward: of_monitor,
            tenants,
        };
        let monitor = Arc::new(monitor);
        behind.spawn(monitor::serve(listener, monitor, after_ingress.clone()));
    }
    for (listener, transport) in listeners {
        inward.spawn(listener::serve(listener, transport, ingress.clone(), connections.clone(), inward.clone(), stop.clone()));
    }
    let stow = Arc::new(Stow::new(ingress.clone(), inward.clone()));
    let head = Duration::from_secs(config.stow.head_seconds);
    for (listener, transport) in stow_listeners {
        inward.spawn(stow::server::serve(listener, transport, stow.clone(), stow_connections.clone(), head, inward.clone(), stop.clone()));
    }
    files::replace_json(&config.storage.path.join("listening.json"), &bound)?;
    tracing::info!(dimse = ?bound.dimse, dimse_tls = ?bound.dimse_tls, stow = ?bound.stow, stow_tls = ?bound.stow_tls, "ready");
    service_manager::notify("READY", "1");
    behind.spawn(service_manager::watchdog(after_ingress.clone()));

    stop.cancelled().await;
    service_manager::notify("STOPPING", "1");
    tracing::info!("stopping: no new associations; messages in flight are answered");
    process::end([
        Phase { name: "associations", tasks: inward, limit: STOP_ASSOCIATIONS, then: after_ingress },
        Phase { name: "forwarding", tasks: behind, limit: STOP_FORWARDING, then: after_all },
        Phase { name: "spool", tasks: last, limit: STOP_SPOOL, then: CancellationToken::new() },
    ])
    .await;
    Ok(())
}

fn reconciliation(forward: Arc<Forward>, config: &Config, now: fn() -> jiff::Timestamp) -> anyhow::Result<Arc<Reconcile>> {
    let zone = jiff::tz::TimeZone::get(&config.site.timezone)?;
    Ok(Arc::new(Reconcile::new(forward, config.reconcile.clone(), zone, config.storage.path.clone(), now)))
}

/// Addresses that were bound, for operators and tests: `listening.json` in the state folder.
#[derive(Debug, Default, serde::Serialize)]
struct Bound {
    dimse: Vec<String>,
    dimse_tls: Vec<String>,
    stow: Vec<String>,
    stow_tls: Vec<String>,
    health: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_allows_a_socket_for_every_connection() {
        let connections = Dimse::default().connections_max + crate::config::Stow::default().connections_max;
        let needed = connections as u64 + DESCRIPTORS_BESIDE;
        assert!(process::descriptors_of_unit(include_str!("../../systemd/idr-site.service")) >= needed, "{needed}");
    }

    #[test]
    fn a_stop_ends_by_itself_before_systemd_ends_it() {
        let phases = STOP_ASSOCIATIONS + STOP_FORWARDING + STOP_SPOOL + process::STOP_BLOCKING;
        let timeout = process::stop_timeout(include_str!("../../systemd/idr-site.service"));
        assert!(phases + Duration::from_secs(5) <= timeout, "{phases:?} of {timeout:?}");
    }
}

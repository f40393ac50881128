//! What of `doctor` is about this machine: configuration, certificates, the state folder and its disk, what the appliance says of itself.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use idr_profile::outcome::{AgeAlarm, Outcomes};
use jiff::Timestamp;
use serde_json::Value;

use super::{Check, Level, level_of};
use crate::config::{Config, Environment};
use crate::{backup, certificates, control};

/// Days that a certificate should have left (profile 10 §6.3), and with how few it is a problem.
const CERTIFICATE_DAYS: [i64; 2] = [30, 7];
/// Days of room that a disk should have left, and with how few it is a problem.
const DISK_DAYS: [f64; 2] = [30.0, 7.0];
/// Days that a backup should not be older than, and with how many it is a problem.
const BACKUP_DAYS: [f64; 2] = [2.0, 14.0];
/// Milliseconds that a sync should not take longer than, and with how many it is a problem.
const SYNC_MILLISECONDS: [f64; 2] = [100.0, 2_000.0];
/// Hours after which a reconciliation is overdue, and with how many it is a problem.
const RECONCILED_HOURS: [f64; 2] = [48.0, 168.0];
/// Syncs that are timed.
const SYNCS: u32 = 5;

/// Configuration and own certificates.
pub(super) fn configuration(config: &Config, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![match crate::site::check(config) {
        Ok(()) => Check::ok("configuration", format!("{}: in order", config.path().display())),
        Err(error) => {
            Check::new("configuration", Level::Problem, format!("{error:#}"), "mend it; `idr-site check-config` says what is next")
        }
    }];
    // What is wrong with the sets themselves is said by the check before.
    if let Ok(loaded) = crate::rule_updates::load(config, now) {
        let raised: Vec<String> = loaded.raised.iter().map(|raised| format!("{} of {}", raised.rule, raised.set)).collect();
        checks.push(match raised.is_empty() {
            true => Check::ok("rule updates", "every rule is as its set says".to_owned()),
            false => {
                let what = format!("not raised to REJECT before a preview: {}", raised.join(", "));
                Check::new("rule updates", Level::Degraded, what, "`idr-site rules list` names the command")
            }
        });
    }
    for (key, path) in certificates::own(config) {
        checks.push(match certificates::read(key, path) {
            None => Check::new(key, Level::Problem, format!("{}: cannot be read", path.display()), "put the certificate in place"),
            Some(certificate) => {
                let (left, level) = super::certificate(&certificate, now);
                Check::new(key, level, format!("{left} days left"), "get a new one, put it in place with its key; `idr-site reload`")
            }
        });
    }
    let listeners = config.dimse.listen.iter().chain(&config.stow.listen);
    let open: Vec<String> = listeners.filter(|address| !address.ip().is_loopback()).map(ToString::to_string).collect();
    checks.push(match (open.is_empty(), config.environment) {
        (true, _) => Check::ok("plain listeners", "on loopback alone"),
        (false, Environment::Test) => Check::ok("plain listeners", open.join(", ")),
        (false, _) => {
            let remedy = "use listen_tls, or see that nothing but the named devices reaches them";
            Check::new("plain listeners", Level::Degraded, format!("{} without TLS", open.join(", ")), remedy)
        }
    });
    checks
}

/// How so many days are, for a certificate.
pub(super) fn by_days(left: i64) -> Level {
    match left {
        left if left < CERTIFICATE_DAYS[1] => Level::Problem,
        left if left < CERTIFICATE_DAYS[0] => Level::Degraded,
        _ => Level::Ok,
    }
}

/// The state folder, its disk and its backup.
pub(super) fn storage(config: &Config, running: Option<&Value>, now: Timestamp) -> Vec<Check> {
    let folder = &config.storage.path;
    let name = "state folder";
    let found = match std::fs::metadata(folder) {
        Err(error) => {
            let seen = format!("{}: {error}", folder.display());
            return vec![Check::new(name, Level::Problem, seen, "make it, mode 0700, of the service user")];
        }
        Ok(found) => found,
    };
    let mut checks = Vec::new();
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    let seen = format!("{}: user {owner}, mode {:04o}", folder.display(), found.mode() & 0o7777);
    let level = match found.mode() & 0o077 {
        0 if owner == user || user == 0 => Level::Ok,
        0 => Level::Degraded,
        _ => Level::Problem,
    };
    checks.push(Check::new(name, level, seen, "it belongs to the service user, mode 0700; run this command as that user"));
    checks.push(match crate::spool::disk::refused_kind(folder) {
        Ok(None) => Check::ok("file system", "of a kind that keeps its promises"),
        Ok(Some(kind)) => Check::new("file system", Level::Problem, kind, "put the state folder on ext4 or XFS, on a disk of this machine"),
        Err(error) => Check::new("file system", Level::Degraded, error.to_string(), "see why it cannot be read"),
    });
    checks.push(room(config, running, now));
    checks.push(match sync_milliseconds(folder) {
        Ok(worst) => {
            let level = level_of(worst, SYNC_MILLISECONDS[0], SYNC_MILLISECONDS[1]);
            Check::new(
                "sync",
                level,
                format!("{worst:.1} ms for the slowest of {SYNCS}"),
                "every image waits for one: use a faster disk, or give this one less to do",
            )
        }
        Err(error) => Check::new("sync", Level::Degraded, error.to_string(), "run this command as the service user; else check the disk"),
    });
    let backup = match backup::last(folder) {
        None => Check::new("backup", Level::Degraded, "none was made", "`idr-site backup create FOLDER`, every day, onto another disk"),
        Some(at) => {
            let age = now.duration_since(at).as_secs_f64() / 86_400.0;
            let level = level_of(age, BACKUP_DAYS[0], BACKUP_DAYS[1]);
            Check::new("backup", level, format!("as of {at}, {age:.1} days old"), "`idr-site backup create FOLDER`")
        }
    };
    checks.push(backup);
    checks
}

/// Room until the reserve, in days by what came in since the appliance started.
fn room(config: &Config, running: Option<&Value>, now: Timestamp) -> Check {
    let reserve = config.storage.reserve_bytes;
    let free = match rustix::fs::statvfs(&config.storage.path) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return Check::new("room", Level::Degraded, error.to_string(), "see why the disk cannot be asked"),
    };
    let left = free.saturating_sub(reserve);
    if left == 0 {
        let seen = format!("{free} bytes free, and {reserve} are kept in reserve: new objects are refused");
        return Check::new("room", Level::Problem, seen, "free disk space, or restore the centre link");
    }
    let ingest = running.map(|status| &status["ingest"]);
    let since = ingest.and_then(|ingest| ingest["since"].as_str()?.parse::<Timestamp>().ok());
    let bytes = ingest.and_then(|ingest| ingest["bytes"].as_u64()).unwrap_or_default();
    let days = since.map(|since| now.duration_since(since).as_secs_f64() / 86_400.0);
    match days.filter(|days| *days >= 1.0 / 24.0 && bytes > 0) {
        None => Check::ok("room", format!("{left} bytes until the reserve; it runs too short to say how many days")),
        Some(days) => {
            let lasts = left as f64 / (bytes as f64 / days);
            let level = match lasts {
                lasts if lasts < DISK_DAYS[1] => Level::Problem,
                lasts if lasts < DISK_DAYS[0] => Level::Degraded,
                _ => Level::Ok,
            };
            let seen = format!("{left} bytes until the reserve, {lasts:.0} days at the rate since {}", since.unwrap_or(now));
            Check::new("room", level, seen, "add disk space, or set cache.release")
        }
    }
}

/// The slowest of some syncs of a small file.
fn sync_milliseconds(folder: &Path) -> std::io::Result<f64> {
    let path = folder.join("doctor.probe");
    let timed = || -> std::io::Result<f64> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut worst = Duration::ZERO;
        for _ in 0..SYNCS {
            file.write_all(&[0; 4_096])?;
            let begun = idr_host::now();
            file.sync_data()?;
            worst = worst.max(Duration::try_from(idr_host::now().duration_since(begun)).unwrap_or_default());
        }
        Ok(worst.as_secs_f64() * 1_000.0)
    };
    let worst = timed();
    std::fs::remove_file(&path).ok();
    worst
}

/// What the appliance says of itself.
pub(super) fn running(config: &Config, running: Option<&Value>, now: Timestamp) -> Vec<Check> {
    let Some(status) = running else {
        let remedy = "`systemctl start idr-site`; the journal says why it does not";
        return vec![
            Check::new("appliance", Level::Degraded, "it does not answer: it is stopped, or of another user", remedy),
            Check::new("index and objects", Level::PassedOver, "`idr-site fsck --deep` checks them while it is stopped", ""),
        ];
    };
    let mut checks = vec![match status["refusing"].as_str() {
        None => Check::ok("appliance", "runs and takes objects"),
        Some(refusal) => {
            Check::new("appliance", Level::Problem, format!("new objects are refused: {refusal}"), "do what it says; devices repeat")
        }
    }];
    let damaged = status["damaged_objects"].as_u64().unwrap_or_default();
    let level = if damaged > 0 { Level::Problem } else { Level::Ok };
    checks.push(Check::new(
        "index and objects",
        level,
        format!("{damaged} objects are damaged"),
        "`idr-site scrub` names them; check the disk",
    ));
    let reload = &status["reload"];
    if let Some(cause) = reload["refused"].as_str() {
        checks.push(Check::new("reload", Level::Degraded, cause, "mend the configuration and `idr-site reload`"));
    }
    checks.push(oldest(config, now));
    let report = control::ask(config, &control::Request::Reconcile { now: false }).ok();
    checks.extend(report.map(|report| reconciled(&report, now)));
    checks
}

/// Since when the longest waiting object waits for the centre.
fn oldest(config: &Config, now: Timestamp) -> Check {
    let Ok(queue) = control::ask(config, &control::Request::QueueList) else {
        return Check::new("queue", Level::Degraded, "it cannot be asked", "see the journal");
    };
    let waits = |row: &&Value| ["queued", "sending", "sent"].iter().any(|state| row["state"] == *state);
    let rows = queue["groups"].as_array().into_iter().flatten().filter(waits);
    let oldest = rows.filter_map(|row| row["oldest"].as_str()?.parse::<Timestamp>().ok()).min();
    let held = queue["manifests"].as_array().map_or(0, Vec::len);
    let age = oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok()).unwrap_or_default();
    let level = match Outcomes::base().ages.alarm(age) {
        Some(AgeAlarm::Page) => Level::Problem,
        Some(AgeAlarm::Warn) => Level::Degraded,
        None if held > 0 => Level::Degraded,
        None => Level::Ok,
    };
    let seen = match oldest {
        None => format!("nothing waits for the centre; {held} manifests are held"),
        Some(oldest) => format!("the oldest waits since {oldest}, {:.1} h; {held} manifests are held", age.as_secs_f64() / 3_600.0),
    };
    Check::new("queue", level, seen, "`idr-site queue list` says why, `idr-site explain` what that means")
}

fn reconciled(report: &Value, now: Timestamp) -> Check {
    let count = |key: &str| report["found"][key].as_u64().unwrap_or_default();
    let open = (count("missing") + count("different")).saturating_sub(count("acknowledged"));
    let finished = report["finished"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let hours = finished.map(|at| now.duration_since(at).as_secs_f64() / 3_600.0);
    let (level, seen) = match hours {
        _ if open > 0 => (Level::Problem, format!("the centre does not hold {open} instances as they were handed over")),
        None => (Level::PassedOver, "no run has come to its end yet".to_owned()),
        Some(hours) => {
            (level_of(hours, RECONCILED_HOURS[0], RECONCILED_HOURS[1]), format!("nothing is missing; the last run ended {hours:.0} h ago"))
        }
    };
    Check::new("reconciliation", level, seen, "`idr-site reconcile report`, then `replay` or `reconcile acknowledge`")
}

//! `doctor`: what an operator would look at one by one, looked at at once; and `echo`, one peer of it.
//!
//! It looks by itself and changes nothing, but for a file that it writes and removes to time the disk. What only the running appliance
//! knows is asked over its socket; without one those checks are passed over. Exit status: 0 all in order, 3 something will become a
//! problem or cannot be said, 1 something is one.
//!
//! # Bounds
//! Peers are looked at one after the other, each for at most a minute.

mod own;
mod peers;

use std::process::ExitCode;

use idr_host::files;
use idr_ihe::assertion::Certificate;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::config::Config;

/// Names of checks that are about no peer.
const OURS: [&str; 17] = [
    "appliance",
    "assertion.certificate",
    "backup",
    "centre.certificate",
    "clock",
    "configuration",
    "dimse.certificate",
    "file system",
    "index and objects",
    "plain listeners",
    "queue",
    "reconciliation",
    "reload",
    "room",
    "state folder",
    "stow.certificate",
    "sync",
];
/// Exit status of something that will become a problem.
pub const DEGRADED: u8 = 3;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It was not looked at, and why that is no fault.
    PassedOver,
    /// It will become a problem, or nobody can say.
    Degraded,
    /// It is one.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it is.
    pub level: Level,
    /// What was seen, with figures.
    pub seen: String,
    /// What to do; empty if nothing.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remedy: &'static str,
}

impl Check {
    fn new(name: impl Into<String>, level: Level, seen: impl Into<String>, remedy: &'static str) -> Self {
        let remedy = if level <= Level::PassedOver { "" } else { remedy };
        Self { name: name.into(), level, seen: seen.into(), remedy }
    }

    /// Whether its name is one of ours, and none of a peer.
    pub fn is_of_ours(&self) -> bool {
        OURS.contains(&self.name.as_str())
    }

    fn ok(name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, seen, "")
    }
}

/// The worst of some figures decides: a problem beyond the second bound, degraded beyond the first.
fn level_of(value: f64, degraded: f64, problem: f64) -> Level {
    match value {
        value if value > problem => Level::Problem,
        value if value > degraded => Level::Degraded,
        _ => Level::Ok,
    }
}

/// Looks at everything, and says it.
///
/// # Errors
/// As [`look`].
pub fn execute(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    Ok(report(&look(config)?, json))
}

/// Looks at everything.
///
/// # Errors
/// None but a runtime that cannot be made: what cannot be looked at is a check of its own.
pub fn look(config: &Config) -> anyhow::Result<Vec<Check>> {
    let now = idr_host::now();
    let running = crate::control::ask(config, &crate::control::Request::Status).ok();
    let mut checks = own::configuration(config, now);
    checks.extend(own::storage(config, running.as_ref(), now));
    checks.extend(own::running(config, running.as_ref(), now));
    match files::trust(&config.files.trust) {
        Ok(trust) => checks.extend(runtime()?.block_on(peers::all(config, &trust))),
        Err(error) => checks.push(Check::new("trust", Level::Problem, format!("{error:#}"), "mend the file; no peer was looked at")),
    }
    Ok(checks)
}

/// Looks at one peer.
///
/// # Errors
/// There is none of that name; the trust file.
pub fn echo(config: &Config, peer: &str, json: bool) -> anyhow::Result<ExitCode> {
    let trust = files::trust(&config.files.trust)?;
    let checks = runtime()?.block_on(peers::named(config, &trust, peer));
    anyhow::ensure!(!checks.is_empty(), "there is no peer '{peer}': `idr-site peer list` names them");
    Ok(report(&checks, json))
}

/// The peers of the configuration, a line or an object each.
pub fn list_peers(config: &Config, json: bool) -> ExitCode {
    let peers = peers::rows(config);
    if json {
        println!("{}", Value::Array(peers));
    } else {
        for peer in peers {
            let text = |key: &str| peer[key].as_str().unwrap_or("-").to_owned();
            println!("{:<16} {:<22} {:<32} {}", text("name"), text("role"), text("address"), text("ae_title"));
        }
    }
    ExitCode::SUCCESS
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn report(checks: &[Check], json: bool) -> ExitCode {
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if json {
        println!("{}", serde_json::json!({"worst": worst, "checks": checks}));
    } else {
        lines(checks).iter().for_each(|line| println!("{line}"));
    }
    exit_code(worst)
}

/// How long a certificate lasts, days, and how that is.
pub fn certificate(certificate: &Certificate, now: Timestamp) -> (i64, Level) {
    let left = days(certificate.not_after(), now);
    (left, own::by_days(left))
}

/// The exit status of the worst that was seen.
pub fn exit_code(worst: Level) -> ExitCode {
    match worst {
        Level::Ok | Level::PassedOver => ExitCode::SUCCESS,
        Level::Degraded => ExitCode::from(DEGRADED),
        Level::Problem => ExitCode::FAILURE,
    }
}

fn lines(checks: &[Check]) -> Vec<String> {
    let mut lines = Vec::new();
    for Check { name, level, seen, remedy } in checks {
        let word = match level {
            Level::Ok => "ok",
            Level::PassedOver => "--",
            Level::Degraded => "DEGRADED",
            Level::Problem => "PROBLEM",
        };
        lines.push(format!("{word:<9} {name}: {seen}"));
        lines.extend((!remedy.is_empty()).then(|| format!("          {remedy}")));
    }
    lines
}

/// Days until an instant, rounded down.
fn days(until: Timestamp, now: Timestamp) -> i64 {
    until.duration_since(now).as_hours().div_euclid(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_only_what_is_not_in_order_has_a_remedy() {
        let checks = [
            Check::ok("a", "seen"),
            Check::new("b", Level::PassedOver, "not asked", "nothing"),
            Check::new("c", level_of(3.0, 2.0, 30.0), "3 s", "do this"),
        ];
        assert_eq!(checks.iter().map(|check| check.level).max(), Some(Level::Degraded));
        assert_eq!(lines(&checks), ["ok        a: seen", "--        b: not asked", "DEGRADED  c: 3 s", "          do this"]);
        assert_eq!([1.9, 2.0, 31.0].map(|value| level_of(value, 2.0, 30.0)), [Level::Ok, Level::Ok, Level::Problem]);
        let now: Timestamp = "2026-01-20T12:00:00Z".parse().expect("an instant");
        assert_eq!(
            [now + jiff::SignedDuration::from_hours(47), now - jiff::SignedDuration::from_hours(1)].map(|at| days(at, now)),
            [1, -1]
        );
    }
}

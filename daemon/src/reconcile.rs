//! Reconciliation, every day and by command: the centre is asked whether it holds what was handed over to it (profile 11 §5).
//!
//! [`Forward::reconcile`] asks and repairs; this file says when, and keeps what the last run found.
//!
//! # On disk
//! `reconcile.json` in the state folder: when the last run was, and what it found. It is no truth: without it the next run finds the
//! same.
//!
//! # Failure
//! A run that ends early says why, in `reconcile report` and the log, and is tried again after 15 min. What the centre does not hold is
//! an alarm in the log, stands in the report, and is counted for monitors, until a run finds it held.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idr_host::files;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::forward::Forward;
use crate::forward::reconcile::{Findings, Which};
use crate::forward::replay::Replayed;

/// Pause after a run that ended early.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);
/// Longest delay behind `reconcile.at`, so that not all sites ask at once.
const JITTER_SECONDS: i64 = 1_800;
/// Longest wait before the clock is looked at again.
const LOOK: Duration = Duration::from_secs(60);

/// The reconciliation of a site.
pub struct Reconcile {
    forward: Arc<Forward>,
    settings: config::Reconcile,
    zone: TimeZone,
    folder: PathBuf,
    clock: fn() -> Timestamp,
    report: Mutex<Report>,
    jitter: SignedDuration,
    begun: Timestamp,
    asked: Notify,
}

/// The last run; the form of `reconcile.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When it began.
    pub begun: Option<Timestamp>,
    /// Whether it goes on.
    pub running: bool,
    /// When the last run that came to its end did.
    pub finished: Option<Timestamp>,
    /// Why the last run ended early.
    pub failed: Option<String>,
    /// What it found.
    pub found: Findings,
}

impl Reconcile {
    /// Of what `forward` hands over; `folder` is the state folder.
    pub fn new(forward: Arc<Forward>, settings: config::Reconcile, zone: TimeZone, folder: PathBuf, clock: fn() -> Timestamp) -> Self {
        let report =
            match files::read_text_if_there(&folder.join("reconcile.json")).map(|text| text.map(|text| serde_json::from_str(&text))) {
                Ok(Some(Ok(report))) => Report { running: false, ..report },
                Ok(None) => Report::default(),
                Ok(Some(Err(_))) | Err(_) => {
                    tracing::warn!("the result of the last reconciliation cannot be read; the next run finds it again");
                    Report::default()
                }
            };
        let jitter = SignedDuration::from_secs(rand::rng().random_range(0..JITTER_SECONDS));
        Self { forward, settings, zone, folder, clock, report: Mutex::new(report), jitter, begun: clock(), asked: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the last run's report.
    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    /// Begins a run now, unless one goes on.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// What the centre does not hold of some studies is sent again ([`Forward::replay`]); the report of the daily run stays.
    ///
    /// # Errors
    /// Why nothing was done, or the question ended early.
    pub async fn replay(&self, which: Which<'_>, republish: bool, user: u32) -> anyhow::Result<Replayed> {
        self.forward.replay(which, republish, user, &self.folder.join("reconcile")).await
    }

    /// An operator has looked into the differences of a study; how many they are.
    ///
    /// # Errors
    /// A run goes on, the last one found none of the study, or the reason cannot be kept.
    pub async fn acknowledge(&self, study_uid: &str, reason: &str, user: u32) -> anyhow::Result<u64> {
        let mut report = self.report();
        anyhow::ensure!(!report.running, "a run goes on; try again when `idr-site reconcile report` has its result");
        let instances = self.forward.acknowledge(&mut report.found, study_uid, reason, user).await?;
        {
            let mut now = self.lock();
            // A run that has begun since reads what the journal says.
            if now.begun == report.begun {
                now.found = report.found;
            }
        }
        self.save();
        Ok(instances)
    }

    /// For operators.
    pub fn show(&self) -> Value {
        serde_json::to_value(self.report()).unwrap_or_default()
    }

    /// Runs every day, and when asked, until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = self.asked.notified() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            if !asked && (self.clock)() < self.next() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return self.end(Err(anyhow::anyhow!("the program ended")), None),
                () = self.once() => {}
            }
        }
    }

    /// When the next run is due: at the time of day after the last one began, or a while after one that ended early.
    fn next(&self) -> Timestamp {
        let report = self.lock();
        let after = report.begun.unwrap_or(self.begun);
        if report.failed.is_some() {
            return after.saturating_add(AGAIN).unwrap_or(Timestamp::MAX);
        }
        next_at(after, self.settings.at, &self.zone).saturating_add(self.jitter).unwrap_or(Timestamp::MAX)
    }

    async fn once(&self) {
        let now = (self.clock)();
        {
            let mut report = self.lock();
            (report.begun, report.running) = (Some(now), true);
        }
        self.save();
        let since = now.saturating_sub(SignedDuration::from_hours(24 * i64::from(self.settings.days))).unwrap_or(Timestamp::MIN);
        let mut found = Findings::default();
        let ended = self.forward.reconcile(Which::Open(since), self.settings.auto, &self.folder.join("reconcile"), &mut found).await;
        self.end(ended, Some(found));
    }

    fn end(&self, ended: anyhow::Result<()>, found: Option<Findings>) {
        {
            let mut report = self.lock();
            report.running = false;
            // A run that ended early and found nothing by then says nothing about what an earlier one found.
            if let Some(found) = found.filter(|found| ended.is_ok() || found.to_repair() > 0) {
                report.found = found;
            }
            let Findings { studies, instances, queued, .. } = report.found;
            match ended {
                Ok(()) => {
                    (report.finished, report.failed) = (Some((self.clock)()), None);
                    let (missing, different) = (report.found.missing, report.found.different);
                    tracing::info!(
                        studies,
                        instances,
                        missing,
                        different,
                        queued,
                        "reconciliation: the centre was asked about all that it has taken"
                    );
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), studies, "the reconciliation ended early; it is tried again");
                    report.failed = Some(format!("{error:#}"));
                }
            }
        }
        self.save();
    }

    fn save(&self) {
        if let Err(error) = files::replace_json(&self.folder.join("reconcile.json"), &self.report()) {
            tracing::warn!(error = format!("{error:#}"), "the result of the reconciliation cannot be written");
        }
    }
}

/// The first instant after another at which it is so late in the zone.
fn next_at(after: Timestamp, at: jiff::civil::Time, zone: &TimeZone) -> Timestamp {
    let mut date = zone.to_datetime(after).date();
    // Today or tomorrow; one day more where a change of the clock skips the time.
    for _ in 0..3 {
        if let Ok(next) = zone.to_timestamp(date.to_datetime(at))
            && next > after
        {
            return next;
        }
        date = date.saturating_add(jiff::Span::new().days(1));
    }
    after.saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX)
}

/// What `reconcile report` says to people.
pub fn lines(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("never").to_owned();
    let found = &answer["found"];
    let mut lines = vec![format!("last run began {}, last complete run {}", text(&answer["begun"]), text(&answer["finished"]))];
    if answer["running"] == true {
        lines.push("a run goes on".to_owned());
    }
    lines.extend(answer["failed"].as_str().map(|cause| format!("the last run ended early: {cause}")));
    lines.push(format!(
        "{} studies with {} instances asked about, {} studies equal; {} instances missing at the centre, {} different, {} queued again, {} more there",
        found["studies"], found["instances"], found["equal"], found["missing"], found["different"], found["queued"], found["extra"]
    ));
    if found["acknowledged"].as_u64().is_some_and(|instances| instances > 0) {
        lines.push(format!("{} of these are acknowledged", found["acknowledged"]));
    }
    for row in found["differences"].as_array().into_iter().flatten() {
        let queued = if row["queued"] == true { "queued again" } else { "not queued" };
        let acknowledged = if row["acknowledged"] == true { ", acknowledged" } else { "" };
        lines.push(format!(
            "{} {} of study {}: {queued}{acknowledged}",
            text(&row["what"]),
            text(&row["sop_instance_uid"]),
            text(&row["study_uid"])
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_due_once_a_day_at_its_time() {
        let zone = TimeZone::get("Europe/Helsinki").expect("in the database");
        let at = jiff::civil::time(2, 30, 0, 0);
        for (after, next) in [
            ("2026-01-20T00:29:59Z", "2026-01-20T00:30:00Z"),
            ("2026-01-20T00:30:00Z", "2026-01-21T00:30:00Z"),
            ("2026-01-20T12:00:00Z", "2026-01-21T00:30:00Z"),
            // In summer it is an hour earlier by UTC.
            ("2026-07-20T12:00:00Z", "2026-07-20T23:30:00Z"),
        ] {
            let (after, next): (Timestamp, Timestamp) = (after.parse().expect("an instant"), next.parse().expect("an instant"));
            assert_eq!(next_at(after, at, &zone), next, "after {after}");
        }
    }
}

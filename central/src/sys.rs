//! systemd: readiness, watchdog, and what stands outside every other module's business.
//!
//! A program that was not started by systemd has no `NOTIFY_SOCKET`; then nothing is sent.

use std::time::Duration;

use jiff::Timestamp;

/// The clock of this program.
#[expect(clippy::disallowed_methods, reason = "the one place where the centre reads its clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Tells the service manager a state: `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=…`.
pub fn notify(key: &'static str, value: &str) {
    if let Err(error) = systemd::daemon::notify([(key, value)].iter()) {
        tracing::debug!(%error, key, "the service manager was not told");
    }
}

/// How often the watchdog wants to hear of us; `None` if it does not watch.
pub fn watchdog_interval() -> Option<Duration> {
    let micros = systemd::daemon::watchdog_enabled().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros / 2))
}

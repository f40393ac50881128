//! systemd: readiness, state and watchdog. A program that systemd did not start has no `NOTIFY_SOCKET`; then nothing is sent.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells the service manager a state: `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=…`.
pub fn notify(key: &'static str, value: &str) {
    if let Err(error) = systemd::daemon::notify([(key, value)].iter()) {
        tracing::debug!(%error, key, "the service manager was not told");
    }
}

/// Tells the watchdog that the program's runtime works, until stopped; returns at once if nobody watches.
pub async fn watchdog(stop: CancellationToken) {
    let Some(micros) = systemd::daemon::watchdog_enabled().ok().filter(|micros| *micros > 0) else { return };
    let interval = Duration::from_micros(micros / 2);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => notify("WATCHDOG", "1"),
        }
    }
}

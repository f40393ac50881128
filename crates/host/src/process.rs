//! Start, signals, orderly stop and exit status of a program.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Exit status of a configuration that is refused (`EX_CONFIG` of sysexits.h).
pub const CONFIGURATION: u8 = 78;

/// Longest wait for writings to disk in flight at the end of the process.
pub const STOP_BLOCKING: Duration = Duration::from_secs(5);

/// Installs the one cryptographic provider; two in one process panic at start.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Tells the operator why the configuration is refused.
pub fn refuse(program: &str, error: &impl Display) -> ExitCode {
    eprintln!("{program}: {error:#}");
    ExitCode::from(CONFIGURATION)
}

/// Tells the operator what kept a command from being done.
pub fn fail(program: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{program}: {error:#}");
    ExitCode::FAILURE
}

/// Starts logging to standard error.
pub fn log() {
    // Journald takes lines from standard error; colours and a second time stamp would only be in its way.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// Runs `work` on a runtime until it ends by itself; its token is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// Those of `work`, and a runtime that cannot be made.
pub fn run(work: impl AsyncFnOnce(CancellationToken) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = stop.clone();
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            signals.cancel();
        });
        work(stop).await
    });
    runtime.shutdown_timeout(STOP_BLOCKING);
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Makes room for `needed` open files and sockets, as far as the limits of the process let it; says so if they do not.
pub fn descriptors(needed: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
    let raised = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    if raised.is_err() || current.is_some_and(|current| current < needed) {
        tracing::warn!(
            needed,
            limit = limit.maximum,
            "too few open files are allowed for the connections that the configuration allows; \
             raise LimitNOFILE of the unit, or lower connections_max"
        );
    }
}

/// The most open files that a unit file allows, for tests that it is enough.
///
/// # Panics
/// If the unit does not name it.
pub fn descriptors_of_unit(unit: &str) -> u64 {
    let limit = unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE=")).expect("the unit names LimitNOFILE");
    limit.parse().expect("a number")
}

/// One phase of a stop: what must have ended before the next is told to.
pub struct Phase {
    /// Name in the journal.
    pub name: &'static str,
    /// What runs.
    pub tasks: TaskTracker,
    /// Longest wait for it. What is cut was not yet answered, or is durable.
    pub limit: Duration,
    /// Cancelled when it has ended or the wait is over.
    pub then: CancellationToken,
}

/// Ends one phase after the other.
pub async fn end(phases: impl IntoIterator<Item = Phase>) {
    for Phase { name, tasks, limit, then } in phases {
        tasks.close();
        if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
            tracing::warn!(name, seconds = limit.as_secs(), "did not end in time; going on: what was acknowledged is on disk");
        }
        then.cancel();
    }
}

/// The stop must end before the service manager ends it: `TimeoutStopSec` of a unit file, for tests of that promise.
///
/// # Panics
/// If the unit does not name it in seconds.
pub fn stop_timeout(unit: &str) -> Duration {
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("the unit names TimeoutStopSec");
    Duration::from_secs(seconds.parse().expect("seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_that_hangs_does_not_keep_the_next_from_its_stop() {
        let (hangs, first, second) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        hangs.spawn(std::future::pending::<()>());
        let (waits, told) = (TaskTracker::new(), first.clone());
        waits.spawn(async move { told.cancelled().await });
        end([
            Phase { name: "hangs", tasks: hangs, limit: Duration::from_millis(20), then: first },
            Phase { name: "waits", tasks: waits.clone(), limit: Duration::from_secs(60), then: second.clone() },
        ])
        .await;
        assert!(second.is_cancelled());
        assert!(waits.is_empty(), "the second phase was told and waited for");
    }
}

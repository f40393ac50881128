//! Waiting for a condition with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a scenario waits for anything, unless it says otherwise. Long, because two cores run many programs at once; a
/// condition that holds ends the wait at once.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks until the answer is `Some`; fails after `deadline` with what was waited for.
///
/// # Errors
/// The condition did not hold in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, deadline: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < end, "waited {} s in vain: {what}", deadline.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`until`], for a question that needs no waiting.
///
/// # Errors
/// The condition did not hold in time.
pub async fn holds(what: &str, deadline: Duration, mut ask: impl FnMut() -> bool) -> anyhow::Result<()> {
    until(what, deadline, || {
        let answer = ask().then_some(());
        async move { answer }
    })
    .await
}

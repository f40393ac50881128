//! Health and metrics: a small HTTP port on loopback (profile 10 F14).
//!
//! `/healthz` answers while the program runs, `/readyz` while it takes what it is there for, `/metrics` in the Prometheus text
//! format. No label carries patient data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

mod page;

pub use page::{Durations, Label, Page};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a monitor is told.
pub trait Monitored: Send + Sync + 'static {
    /// Why the program does not take what it is there for now, if it does not.
    fn refusing(&self) -> Option<String>;
    /// Writes its metrics.
    ///
    /// # Errors
    /// Of the page.
    fn metrics(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, program: Arc<dyn Monitored>, stop: CancellationToken) {
    let registry = page::registry(program.clone());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One at a time: it is a monitor's port, and a request is answered at once or not at all.
        let answered = tokio::time::timeout(Duration::from_secs(2), answer(stream, program.as_ref(), &registry));
        if let Ok(Err(error)) = answered.await {
            tracing::debug!(%error, "health request not answered");
        }
    }
}

async fn answer(mut stream: TcpStream, program: &dyn Monitored, registry: &Registry) -> io::Result<()> {
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..read]);
    let (status, body) = match head.split_whitespace().nth(1).unwrap_or_default() {
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/readyz" => match program.refusing() {
            None => ("200 OK", "ready\n".to_owned()),
            Some(reason) => ("503 Service Unavailable", format!("{reason}\n")),
        },
        "/metrics" => ("200 OK", page::text(registry).map_err(io::Error::other)?),
        _ => ("404 Not Found", "not found: /healthz /readyz /metrics\n".to_owned()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# HELP objects_total Objects taken.
# TYPE objects_total counter
objects_total 7
# HELP items Items that wait.
# TYPE items gauge
items{state=\"held\"} 2
items{state=\"a \\\"quoted\\\" one\"} 0
# HELP took_seconds How long it took.
# TYPE took_seconds histogram
took_seconds_bucket{le=\"0.001\"} 0
took_seconds_bucket{le=\"0.002\"} 0
took_seconds_bucket{le=\"0.004\"} 1
";

    struct Full;

    impl Monitored for Full {
        fn refusing(&self) -> Option<String> {
            Some("the disk is full".to_owned())
        }
        fn metrics(&self, page: &mut Page<'_>) -> fmt::Result {
            let took = Durations::default();
            took.observe(Duration::from_millis(3));
            page.counter("objects_total", "Objects taken.", 7)?;
            page.gauges("items", "Items that wait.", [([("state", "held")], 2_u64), ([("state", "a \"quoted\" one")], 0)])?;
            page.durations("took_seconds", "How long it took.", &took)
        }
    }

    #[tokio::test]
    async fn a_program_that_refuses_lives_and_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::new(Full), stop.clone()));
        for (path, status, body) in
            [("/healthz", "200", "ok"), ("/readyz", "503", "the disk is full"), ("/metrics", "200", METRICS), ("/", "404", "/metrics")]
        {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(body), "{path}: {answer}");
        }
        stop.cancel();
        serving.await.expect("ended");
    }
}

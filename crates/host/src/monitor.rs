//! Health and metrics: a small HTTP port on loopback (profile 10 F14).
//!
//! `/healthz` answers while the program runs, `/readyz` while it takes what it is there for, `/metrics` in the Prometheus text
//! format. No label carries patient data.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

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
    /// Metrics, Prometheus text format.
    fn metrics(&self) -> String;
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, program: Arc<dyn Monitored>, stop: CancellationToken) {
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
        let answered = tokio::time::timeout(Duration::from_secs(2), answer(stream, program.as_ref()));
        if let Ok(Err(error)) = answered.await {
            tracing::debug!(%error, "health request not answered");
        }
    }
}

async fn answer(mut stream: TcpStream, program: &dyn Monitored) -> io::Result<()> {
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..read]);
    let (status, body) = match head.split_whitespace().nth(1).unwrap_or_default() {
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/readyz" => match program.refusing() {
            None => ("200 OK", "ready\n".to_owned()),
            Some(reason) => ("503 Service Unavailable", format!("{reason}\n")),
        },
        "/metrics" => ("200 OK", program.metrics()),
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

    struct Full;

    impl Monitored for Full {
        fn refusing(&self) -> Option<String> {
            Some("the disk is full".to_owned())
        }
        fn metrics(&self) -> String {
            "objects 7\n".to_owned()
        }
    }

    #[tokio::test]
    async fn a_program_that_refuses_lives_and_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::new(Full), stop.clone()));
        for (path, status, body) in
            [("/healthz", "200", "ok"), ("/readyz", "503", "the disk is full"), ("/metrics", "200", "objects 7"), ("/", "404", "/metrics")]
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

//! Health and metrics: counters, and a small HTTP port on loopback (profile 10 F14).
//!
//! `/healthz` answers while the program runs, `/readyz` while it takes objects in, `/metrics` in the Prometheus text
//! format. No label carries patient data.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::spool::{Spool, Tenant};

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

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Objects accepted.
    pub objects_stored: Counter,
    /// Data set bytes of accepted objects.
    pub bytes_stored: Counter,
    /// Objects refused by a rule.
    pub objects_refused: Counter,
    /// Objects that could not be kept: A700H, 0110H.
    pub objects_failed: Counter,
    /// Associations refused.
    pub associations_rejected: Counter,
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, counters: Arc<Counters>, spool: Arc<dyn Spool>, tenants: Vec<Tenant>, stop: CancellationToken) {
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
        let answered = tokio::time::timeout(Duration::from_secs(2), answer(stream, &counters, spool.as_ref(), &tenants));
        if let Ok(Err(error)) = answered.await {
            tracing::debug!(%error, "health request not answered");
        }
    }
}

async fn answer(mut stream: TcpStream, counters: &Counters, spool: &dyn Spool, tenants: &[Tenant]) -> io::Result<()> {
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..read]);
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let refusal = tenants.iter().find_map(|tenant| spool.refusing(tenant));
    let (status, body) = match path {
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/readyz" => match refusal {
            None => ("200 OK", "ready\n".to_owned()),
            Some(refusal) => ("503 Service Unavailable", format!("{refusal}\n")),
        },
        "/metrics" => ("200 OK", metrics(counters, spool)),
        _ => ("404 Not Found", "not found: /healthz /readyz /metrics\n".to_owned()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn metrics(counters: &Counters, spool: &dyn Spool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, labels: &str, value: u64| writeln!(text, "{name}{labels} {value}").expect("writing to memory");
    line("idr_site_ingest_objects_total", "{result=\"stored\"}", counters.objects_stored.value());
    line("idr_site_ingest_objects_total", "{result=\"refused\"}", counters.objects_refused.value());
    line("idr_site_ingest_objects_total", "{result=\"failed\"}", counters.objects_failed.value());
    line("idr_site_ingest_bytes_total", "", counters.bytes_stored.value());
    line("idr_site_associations_rejected_total", "", counters.associations_rejected.value());
    for ((tenant, state), amount) in spool.totals().iter() {
        let labels = format!("{{tenant=\"{tenant}\",state=\"{state}\"}}");
        line("idr_site_queue_items", &labels, amount.objects);
        line("idr_site_queue_bytes", &labels, amount.bytes);
    }
    text
}

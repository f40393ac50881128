//! Health and metrics: a small HTTP port on loopback (profile 10 F14).
//!
//! `/healthz` answers while the program runs, `/readyz` while it takes requests, `/metrics` in the Prometheus text format. No
//! label carries patient data, and none names a rule that omitted (05 §10).

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::central::Central;

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, central: Arc<Central>, stop: CancellationToken) {
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
        let answered = tokio::time::timeout(Duration::from_secs(2), answer(stream, &central));
        if let Ok(Err(error)) = answered.await {
            tracing::debug!(%error, "health request not answered");
        }
    }
}

/// Why requests that store or disclose are refused now, if they are.
pub fn refusing(central: &Central) -> Option<String> {
    if let Some(reason) = central.audit.refusing() {
        return Some(format!("the audit store takes no records: {reason}"));
    }
    if central.space.is_short() {
        return Some("less than storage.reserve_bytes is left: stores are refused (IDR-B-03)".to_owned());
    }
    central.rules_in_force().is_none().then(|| "no rule set of central.rule_sets is in force: stores are refused".to_owned())
}

async fn answer(mut stream: TcpStream, central: &Central) -> io::Result<()> {
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..read]);
    let (status, body) = match head.split_whitespace().nth(1).unwrap_or_default() {
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/readyz" => match refusing(central) {
            None => ("200 OK", "ready\n".to_owned()),
            Some(reason) => ("503 Service Unavailable", format!("{reason}\n")),
        },
        "/metrics" => ("200 OK", metrics(central)),
        _ => ("404 Not Found", "not found: /healthz /readyz /metrics\n".to_owned()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn metrics(central: &Central) -> String {
    let counters = &central.counters;
    let mut text = String::new();
    let mut line = |name: &str, labels: &str, value: u64| writeln!(text, "{name}{labels} {value}").expect("writing to memory");
    for (result, counter) in [
        ("stored", &counters.instances_stored),
        ("duplicate", &counters.instances_duplicate),
        ("refused", &counters.instances_refused),
        ("failed", &counters.instances_failed),
        ("sent", &counters.instances_sent),
    ] {
        line("idr_central_instances_total", &format!("{{result=\"{result}\"}}"), counter.value());
    }
    line("idr_central_stored_bytes_total", "", counters.bytes_stored.value());
    for (hundred, counter) in (1..).zip(&counters.answers) {
        line("idr_central_answers_total", &format!("{{status=\"{hundred}xx\"}}"), counter.value());
    }
    line("idr_central_panics_total", "", counters.panics.value());
    if let Some(free) = central.space.free_bytes() {
        line("idr_central_storage_free_bytes", "", free);
    }
    text
}

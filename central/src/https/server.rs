//! HTTPS listener: TCP, mutual TLS, HTTP bounds; hands each request to the router with the client's certificate.
//!
//! # Bounds
//! Connections at once, in all and by address (BD-01), handshakes at once and their time (BD-02), request head size, fields and time (BD-10), HTTP/2 streams and
//! resets (BD-11), an answer that is not taken, a connection that is not used: [`Bounds`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use idr_host::accept::{self, Holding};
use idr_host::places::Connections;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::enrol::Visitor;
use super::pace::Taken;

/// Who is at the other end of the connection. Stands in the extensions of every request.
#[derive(Debug, Clone)]
pub struct Client {
    /// The verified client certificate.
    pub certificate: CertificateDer<'static>,
    /// Its SHA-256, 64 lower-case hex digits.
    pub sha256: Arc<str>,
    /// Network address, for the journal.
    pub address: SocketAddr,
}

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest wait for a request head.
    pub head: Duration,
    /// Bytes of a request head.
    pub head_bytes_max: usize,
    /// Fields of a request head.
    pub head_fields_max: usize,
    /// HTTP/2 streams of one connection at once.
    pub streams_max: u32,
    /// Longest time in which a client takes nothing of an answer; it is then given up.
    pub untaken: Duration,
    /// Longest silence of a connection without a request in flight, after its first request. Before that: [`Bounds::head`].
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            head_bytes_max: 65_536,
            head_fields_max: 100,
            streams_max: 100,
            untaken: Duration::from_secs(60),
            idle: Duration::from_secs(900),
        }
    }
}

/// Whether somebody without a certificate is served: at the door of enrolment alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stranger {
    Refused,
    Served,
}

/// Serves until `stop` is cancelled, then lets requests in flight end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    router: Router,
    connections: Connections,
    bounds: Bounds,
    stop: CancellationToken,
) {
    serve_whom(listener, tls, router, connections, (bounds, Stranger::Refused), stop).await;
}

/// As [`serve`], for clients that show no certificate; a request has a [`Visitor`] in its extensions.
pub async fn serve_anyone(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    router: Router,
    connections: Connections,
    bounds: Bounds,
    stop: CancellationToken,
) {
    serve_whom(listener, tls, router, connections, (bounds, Stranger::Served), stop).await;
}

async fn serve_whom(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    router: Router,
    connections: Connections,
    (bounds, stranger): (Bounds, Stranger),
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    accept::serve(listener, (&connections, Holding::Kept), &tasks, &stop, |stream, address, place| {
        let (config, router, bounds, stop) = (tls.load_full(), router.clone(), bounds.clone(), stop.clone());
        let connections = connections.clone();
        async move {
            connection(stream, address, config, &connections, router, (&bounds, stranger), stop).await;
            drop(place);
        }
    })
    .await;
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    connections: &Connections,
    router: Router,
    (bounds, stranger): (&Bounds, Stranger),
    stop: CancellationToken,
) {
    let Some(stream) = accept::handshake(stream, address.ip(), config, connections, bounds.handshake).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|c| c.clone().into_owned());
    let client = match (certificate, stranger) {
        (Some(certificate), Stranger::Refused) => {
            Some(Client { sha256: idr_profile::tls::fingerprint(&certificate).into(), certificate, address })
        }
        (_, Stranger::Served) => None,
        (None, Stranger::Refused) => {
            tracing::error!(code = "IDR-T-04", peer = %address.ip(), "TLS connection without a client certificate closed");
            return;
        }
    };
    let activity = Activity::new(bounds);
    let (watched, untaken) = (activity.clone(), bounds.untaken);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (router, client, in_flight) = (router.clone(), client.clone(), watched.begin());
        async move {
            let mut request = request.map(Body::new);
            match client {
                Some(client) => drop(request.extensions_mut().insert(client)),
                None => drop(request.extensions_mut().insert(Visitor { address })),
            }
            let response = router.oneshot(request).await?;
            Ok::<_, Infallible>(response.map(|body| Taken::new(body, in_flight, untaken)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(bounds.head_bytes_max)
        .max_headers(bounds.head_fields_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams_max)
        .max_header_list_size(u32::try_from(bounds.head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(bounds.streams_max as usize);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = activity.idle() => {
            tracing::debug!(peer = %address.ip(), "idle connection closed");
            connection.as_mut().graceful_shutdown();
            // A client that does not even take the end of the connection is not waited for.
            tokio::time::timeout(bounds.handshake, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address.ip(), cause = %error, "connection ended early");
    }
}

/// Whether anything happens on a connection.
#[derive(Clone)]
struct Activity {
    head: Duration,
    idle: Duration,
    state: Arc<Mutex<ActivityState>>,
}

struct ActivityState {
    in_flight: usize,
    any: bool,
    since: Instant,
}

/// A request from its head to the last byte of its answer.
struct InFlight(Activity);

impl Activity {
    fn new(bounds: &Bounds) -> Self {
        let state = ActivityState { in_flight: 0, any: false, since: Instant::now() };
        Self { head: bounds.head, idle: bounds.idle, state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.any = true;
        drop(state);
        InFlight(self.clone())
    }

    /// Returns when the connection has been unused for its time.
    async fn idle(&self) {
        loop {
            let until = {
                let state = self.lock();
                let limit = if state.any { self.idle } else { self.head };
                match state.in_flight {
                    0 if state.since.elapsed() >= limit => return,
                    0 => state.since + limit,
                    _ => Instant::now() + self.idle,
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_without_a_request_ends_and_one_with_a_request_stays() {
        let (head, idle) = (Duration::from_millis(50), Duration::from_millis(150));
        let activity = Activity::new(&Bounds { head, idle, ..Bounds::default() });
        let begin = Instant::now();
        activity.idle().await;
        assert!((head..idle).contains(&begin.elapsed()), "nothing was asked: {:?}", begin.elapsed());

        let in_flight = activity.begin();
        assert!(tokio::time::timeout(3 * idle, activity.idle()).await.is_err(), "a request is in flight");
        drop(in_flight);
        let begin = Instant::now();
        activity.idle().await;
        assert!(begin.elapsed() >= idle, "the time counts from the last answer: {:?}", begin.elapsed());
    }
}

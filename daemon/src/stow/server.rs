//! HTTP listener of STOW-RS: TCP or mutual TLS, HTTP/1.1, bounds; hands each request to [`Stow`].
//!
//! # Bounds
//! Connections in all and by address (BD-01), handshakes and their time (BD-02), request head (BD-10), an answer that is not taken.
//! A connection whose client was not admitted yet makes room for others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use idr_host::accept::{self, Holding};
use idr_host::pace::Taken;
use idr_host::places::{Connections, Place};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{HEAD_BYTES_MAX, Stow};
use crate::admission::Peer;
use crate::listener::Transport;

/// Longest TLS handshake (BD-02).
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Fields of a request head (BD-10).
const HEAD_FIELDS_MAX: usize = 100;
/// Longest time in which a client takes nothing of an answer.
const UNTAKEN: Duration = Duration::from_secs(60);

/// Accepts connections until `stop`, then lets requests in flight end.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    stow: Arc<Stow>,
    connections: Connections,
    head: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    accept::serve(listener, (&connections, Holding::Replaceable), &tasks, &stop, |stream, address, place| {
        let (transport, stow, connections, stop) = (transport.clone(), stow.clone(), connections.clone(), stop.clone());
        async move { connection(stream, address, (transport, &connections), place, stow, head, stop).await }
    })
    .await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    (transport, connections): (Transport, &Connections),
    place: Place,
    stow: Arc<Stow>,
    head: Duration,
    stop: CancellationToken,
) {
    match transport {
        Transport::Plain => {
            let peer = Peer { address: address.ip(), tls: false, certificate_sha256: None };
            http(stream, peer, place, stow, head, stop).await;
        }
        Transport::Tls(config) => {
            let handshake = accept::handshake(stream, address.ip(), config.load_full(), connections, HANDSHAKE);
            let Some(stream) = handshake.await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate_sha256 = certificate.map(idr_profile::tls::fingerprint);
            let peer = Peer { address: address.ip(), tls: true, certificate_sha256 };
            http(stream, peer, place, stow, head, stop).await;
        }
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    place: Place,
    stow: Arc<Stow>,
    head: Duration,
    stop: CancellationToken,
) {
    let (address, place) = (peer.address, Arc::new(Mutex::new(place)));
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (stow, peer, place) = (stow.clone(), peer.clone(), place.clone());
        async move {
            let keep = || place.lock().unwrap_or_else(PoisonError::into_inner).keep();
            let mut response = stow.answer(peer, request.map(Body::new), keep).await;
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok::<_, Infallible>(response.map(|body| Taken::new(body, (), UNTAKEN)))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(HEAD_BYTES_MAX).max_headers(HEAD_FIELDS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, cause = %error, "connection ended early");
    }
}

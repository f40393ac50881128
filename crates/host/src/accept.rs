//! Accepting connections: the loop of a listener and the TLS handshake, within their bounds (profile 10 §11 BD-01, BD-02).
//!
//! # Failure
//! An error of `accept` is logged and waited out, never fatal. A handshake that fails or takes too long ends its connection with
//! the TLS alert and one journal line that names the cause (profile 10 §5.6); nothing is sent in plain.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::places::{Connections, Place};

/// Pause after an error of `accept`: out of descriptors, or the peer went away before it was accepted.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Whether a connection has its place for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// From the beginning.
    Kept,
    /// From [`Place::keep`] on; before that it may be ended to make room for another.
    Replaceable,
}

/// Accepts connections until `stop` is cancelled; each runs in `tasks`, and no longer than it has its place.
pub async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    (connections, holding): (&Connections, Holding),
    tasks: &TaskTracker,
    stop: &CancellationToken,
    each: impl Fn(TcpStream, SocketAddr, Place) -> F,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; next attempt in 100 ms");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let place = match holding {
            Holding::Kept => connections.admit(address.ip()),
            Holding::Replaceable => connections.admit_replaceable(address.ip()),
        };
        let Some(place) = place else { continue };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
        let (lost, connections) = (place.lost(), connections.clone());
        let connection = each(stream, address, place);
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = lost.cancelled() => connections.replaced("BD-01", address.ip()),
                () = connection => {}
            }
        });
    }
}

/// The TLS handshake of an accepted connection, at most `limit`; `None`: it failed, and the journal says why.
pub async fn handshake(
    stream: TcpStream,
    peer: IpAddr,
    config: Arc<ServerConfig>,
    connections: &Connections,
    limit: Duration,
) -> Option<TlsStream<TcpStream>> {
    let place = connections.handshake(peer)?;
    let lost = place.lost();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream)) => shaken,
        () = lost.cancelled() => {
            connections.replaced("BD-02", peer);
            return None;
        }
    };
    match shaken {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::info!(%peer, cause = %error, "TLS handshake refused");
            None
        }
        Err(_) => {
            tracing::info!(code = "IDR-T-14", %peer, "TLS handshake not finished in time");
            None
        }
    }
}

//! MLLP listener: TLS by client certificate, or plain from this host; one message after the other on each connection.
//!
//! # Failure
//! A connection that breaks a bound of the framing is closed with a line in the journal; what was answered on it is done. A message in
//! work when the program stops is answered first.
//!
//! # Bounds
//! Connections, in all, of one address (BD-01) and of one organisation (06 §1), handshakes (BD-02), size of a message, bytes between messages, silence
//! of a connection, time for the rest of a message that has begun, time for an answer to be taken: `[mllp]`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_host::accept::{self, Holding};
use idr_host::places::{Connections, Place};
use idr_ihe::hl7::mllp::{Deframer, FrameLimits, frame};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feed::{self, Sender};
use crate::central::Central;
use crate::https::server::Client;
use crate::peer;

/// How a listener takes connections.
#[derive(Clone)]
pub enum Door {
    /// Mutual TLS.
    Tls(Arc<ArcSwap<ServerConfig>>),
    /// Plain, on loopback.
    Plain,
}

/// Name of the transactions of patient administration in peer rows.
pub const ADT: &str = "ADT";

/// Connections of each organisation.
#[derive(Debug, Clone, Default)]
struct Organisations(Arc<Mutex<HashMap<String, usize>>>);

/// A connection of an organisation, given back when dropped.
struct Counted {
    of: Organisations,
    organisation: String,
}

impl Organisations {
    fn admit(&self, organisation: &str, most: usize) -> Option<Counted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(organisation.to_owned()).or_default();
        (*count < most).then(|| {
            *count += 1;
            Counted { of: self.clone(), organisation: organisation.to_owned() }
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.organisation) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.organisation);
            }
        }
    }
}

/// Serves until `stop` is cancelled, then lets messages in work be answered.
pub async fn serve(listener: TcpListener, door: Door, central: Arc<Central>, connections: Connections, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let organisations = Organisations::default();
    let each = |stream, address, place| {
        let (door, central, stop) = (door.clone(), central.clone(), stop.clone());
        let (connections, organisations) = (connections.clone(), organisations.clone());
        async move {
            connection(stream, address, door, &central, &connections, &organisations, stop).await;
            drop::<Place>(place);
        }
    };
    accept::serve(listener, (&connections, Holding::Kept), &tasks, &stop, each).await;
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    door: Door,
    central: &Central,
    connections: &Connections,
    organisations: &Organisations,
    stop: CancellationToken,
) {
    let most = central.config.mllp.connections_per_organisation_max;
    match door {
        Door::Plain => {
            let Some(_counted) = organisations.admit("", most) else { return told_full(address) };
            let sender = Sender { organisation: None, certificate: None, address: address.ip().to_string() };
            converse(stream, central, &sender, stop).await;
        }
        Door::Tls(config) => {
            let limit = Duration::from_secs(central.config.mllp.handshake_seconds);
            let Some(stream) = accept::handshake(stream, address.ip(), config.load_full(), connections, limit).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|c| c.clone().into_owned());
            let Some(certificate) = certificate else {
                return tracing::error!(code = "IDR-T-04", peer = %address.ip(), "TLS connection without a client certificate closed");
            };
            let client = Client { sha256: idr_profile::tls::fingerprint(&certificate).into(), certificate, address };
            let admitted = match peer::admit(central, &client) {
                Ok(admitted) if admitted.row.transactions.iter().any(|name| name == ADT) => admitted,
                Ok(_) => return refused(&client, "IDR-T-12", "the [[peer]] row does not list ADT"),
                Err(cause) => return refused(&client, cause.code(), &cause.to_string()),
            };
            let Some(_counted) = organisations.admit(&admitted.organisation, most) else { return told_full(address) };
            let sender = Sender {
                organisation: Some(admitted.organisation),
                certificate: Some(client.sha256.to_string()),
                address: address.ip().to_string(),
            };
            converse(stream, central, &sender, stop).await;
        }
    }
}

fn refused(client: &Client, code: &'static str, cause: &str) {
    tracing::warn!(code, peer = %client.address.ip(), certificate = %client.sha256, "peer refused: {cause}");
}

fn told_full(address: SocketAddr) {
    tracing::warn!(peer = %address.ip(), "mllp.connections_per_organisation_max is reached; connection closed");
}

/// Messages of one connection, in order.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, central: &Central, sender: &Sender, stop: CancellationToken) {
    let mllp = &central.config.mllp;
    let limits = FrameLimits { message_bytes_max: mllp.message_bytes_max, skipped_bytes_max: mllp.skipped_bytes_max };
    let (idle, rest) = (Duration::from_secs(mllp.idle_seconds), Duration::from_secs(mllp.message_seconds));
    let mut deframer = Deframer::new(limits);
    let mut buffer = vec![0; 16_384];
    // When the message that is being received must be complete.
    let mut due = None;
    loop {
        let until = due.unwrap_or_else(|| tokio::time::Instant::now() + idle);
        let length = tokio::select! {
            // Between messages a stop ends the connection at once; a message that has begun was not answered and is sent again.
            () = stop.cancelled() => break,
            read = tokio::time::timeout_at(until, stream.read(&mut buffer)) => match read {
                Ok(Ok(0)) => break,
                Ok(Ok(length)) => length,
                Ok(Err(error)) => return tracing::debug!(peer = %sender.address, cause = %error, "MLLP connection ended"),
                Err(_) if due.is_some() => {
                    tracing::warn!(peer = %sender.address, "MLLP message not complete in time; connection closed");
                    break;
                }
                Err(_) => break,
            },
        };
        let mut input = &buffer[..length];
        loop {
            let skipped = deframer.skipped();
            let found = deframer.push(&mut input);
            central.counters.feed.skipped_bytes.add(deframer.skipped() - skipped);
            match found {
                Ok(Some(message)) => {
                    let answer = feed::receive(central, sender, message).await;
                    let taken = tokio::time::timeout(rest, async {
                        stream.write_all(&frame(&answer.bytes)).await?;
                        stream.flush().await
                    });
                    if !matches!(taken.await, Ok(Ok(()))) {
                        return tracing::warn!(peer = %sender.address, "an acknowledgement was not taken; the message is done and is known again");
                    }
                    due = None;
                    if answer.close {
                        return shut(stream).await;
                    }
                }
                Ok(None) => break,
                Err(unframed) => {
                    tracing::warn!(code = "IDR-H-16", peer = %sender.address, "MLLP connection closed: {unframed}");
                    return shut(stream).await;
                }
            }
        }
        due = deframer.is_within().then(|| due.unwrap_or_else(|| tokio::time::Instant::now() + rest));
    }
    shut(stream).await;
}

async fn shut(mut stream: impl AsyncWrite + Unpin) {
    // What a peer does not take now, it does not get.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.shutdown()).await;
}

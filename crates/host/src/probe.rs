//! Looking at a peer over HTTPS step by step, so that what does not work has a name: its address, the connection, the TLS handshake, an
//! answer. For operators; what is learnt opens nothing.
//!
//! # Bounds
//! Each step has `STEP`; an answer's head is at most [`HEAD_BYTES_MAX`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longest wait for each step.
const STEP: Duration = Duration::from_secs(10);
/// Longest head of an answer, bytes.
pub const HEAD_BYTES_MAX: usize = 16_384;

/// Where a look ended.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The name has no address.
    #[error("its name has no address: {0}")]
    Name(#[source] io::Error),
    /// Nobody takes the connection.
    #[error("{address} takes no connection: {source}")]
    Connection {
        /// The first address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The handshake failed: certificates, names, pins.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// Connected, and no answer.
    #[error("no answer: {0}")]
    Answer(#[source] io::Error),
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Address that answered.
    pub address: SocketAddr,
    /// Chain that was shown, its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// HTTP status.
    pub status: u16,
    /// The peer's clock minus ours, to a second; `None` without a `Date`.
    pub ahead: Option<SignedDuration>,
}

async fn step<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("took longer than {} s", STEP.as_secs()))))
}

/// Connects by mutual TLS and asks for the head of `/`.
///
/// # Errors
/// [`Fault`]: the first step that did not work.
pub async fn https(host: &str, port: u16, config: ClientConfig, now: fn() -> Timestamp) -> Result<Seen, Fault> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = step(tokio::net::lookup_host((bare, port))).await.map_err(Fault::Name)?;
    let addresses: Vec<SocketAddr> = found.collect();
    let address = *addresses.first().ok_or_else(|| Fault::Name(io::ErrorKind::NotFound.into()))?;
    let tcp = step(TcpStream::connect(&addresses[..])).await.map_err(|source| Fault::Connection { address, source })?;
    let address = tcp.peer_addr().unwrap_or(address);
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| Fault::Tls(io::Error::other(error)))?;
    let mut stream = step(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.map_err(Fault::Tls)?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect();
    let asking = async {
        stream.write_all(format!("HEAD / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok(head)
    };
    let head = step(asking).await.map_err(Fault::Answer)?;
    let here = now();
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).filter(|_| head.starts_with("HTTP/1.")).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Fault::Answer(io::Error::new(io::ErrorKind::InvalidData, "it is none of HTTP")))?;
    let date = head.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("date"));
    let date = date.and_then(|(_, date)| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok());
    // A date has whole seconds: in the middle of its second the peer is right.
    let ahead = date.map(|date| (date + SignedDuration::from_millis(500)).duration_since(here));
    Ok(Seen { address, chain, status, ahead })
}

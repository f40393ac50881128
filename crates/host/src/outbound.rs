//! Associations that we open: the driver of [`Requestor`] over TCP or TLS (profile 10 F16).
//!
//! # Failure
//! [`Failure`] says why there is no answer; what was sent may have arrived all the same. After the answers the association is
//! released, and whatever becomes of that changes nothing.
//!
//! # Bounds
//! [`Waits`]; PDUs and messages as for the listener.
//!
//! # Standard
//! PS3.8 §9.2, requestor.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use idr_dimse::association::negotiation::Request;
use idr_dimse::association::requestor::{Action, Confirmation, Event};
use idr_dimse::association::{Cause, Context, Requestor, SendError};
use idr_dimse::codec::{PduDecoder, data_header, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::CommandSet;
use idr_dimse::pdu::{Pdu, Rejection};
use idr_profile::outcome;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

pub mod report;

/// Where a device listens.
#[derive(Clone)]
pub struct Target {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its AE title.
    pub ae_title: String,
    /// TLS, and the name that its certificate must have; `None`: plain.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// SHA-256 of its certificate, one of these; empty: any that leads to the anchors.
    pub certificates: Vec<String>,
}

/// How long each step may take (profile 03 §2.7).
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// TCP connection.
    pub connect: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// A-ASSOCIATE-AC, and the end of the association.
    pub associate: Duration,
    /// The response to a request.
    pub response: Duration,
    /// A write that makes no progress.
    pub progress: Duration,
}

impl From<&outcome::Limits> for Waits {
    fn from(limits: &outcome::Limits) -> Self {
        Self {
            connect: Duration::from_secs(limits.connect_s),
            handshake: Duration::from_secs(limits.tls_handshake_s),
            associate: Duration::from_secs(limits.associate_s),
            response: Duration::from_secs(limits.dimse_response_s),
            progress: Duration::from_secs(limits.no_progress_s),
        }
    }
}

/// The name that a peer's certificate must have; without one its address.
///
/// # Errors
/// It is no host name.
pub fn server_name(name: Option<&str>, address: SocketAddr) -> anyhow::Result<ServerName<'static>> {
    match name {
        Some(name) => ServerName::try_from(name.to_owned()).with_context(|| format!("'{name}' is no host name")),
        None => Ok(ServerName::from(address.ip())),
    }
}

/// Why there is no association, or no answer on it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// A step took too long.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// The peer showed another certificate than is configured for it (IDR-T-13).
    #[error("IDR-T-13: the device showed a certificate that its row does not name")]
    Certificate,
    /// A-ASSOCIATE-RJ.
    #[error("rejected: {0}")]
    Rejected(Rejection),
    /// The association ended before the answer.
    #[error("the association ended before the answer: {0}")]
    Ended(Cause),
    /// The peer released the association before the answer.
    #[error("the device released the association before the answer")]
    Released,
    /// Nothing can be sent.
    #[error("cannot send: {0}")]
    Send(#[from] SendError),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// Commands of the device that wait to be looked at.
const COMMANDS_MAX: usize = 16;

/// An association that we have opened.
pub struct Session {
    stream: Box<dyn Stream>,
    requestor: Requestor,
    decoder: PduDecoder,
    waits: Waits,
    actions: Vec<Action>,
    commands: VecDeque<CommandSet>,
    confirmation: Option<Confirmation>,
    artim: Option<Instant>,
    out: Vec<u8>,
    ended: Option<Cause>,
    closed: bool,
}

impl Session {
    /// Connects and asks for the association; with the presentation contexts that were accepted it is open.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open(target: &Target, request: Request, limits: Limits, waits: Waits) -> Result<Self, Failure> {
        let connecting = timeout(waits.connect, TcpStream::connect(target.address));
        let tcp = connecting.await.map_err(|_| Failure::TimedOut("the connection"))??;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(tcp),
            Some((config, name)) => {
                let handshake = TlsConnector::from(config.clone()).connect(name.clone(), tcp);
                let stream = timeout(waits.handshake, handshake).await.map_err(|_| Failure::TimedOut("the TLS handshake"))??;
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(idr_profile::tls::fingerprint);
                let named = |shown: String| target.certificates.iter().any(|pin| pin.eq_ignore_ascii_case(&shown));
                if !target.certificates.is_empty() && !shown.is_some_and(named) {
                    return Err(Failure::Certificate);
                }
                Box::new(stream)
            }
        };
        let timeouts = Timeouts { association: waits.associate, response: waits.response, ..Timeouts::default() };
        let mut session = Self {
            stream,
            requestor: Requestor::new(request, limits, timeouts),
            decoder: PduDecoder::new(limits),
            waits,
            actions: Vec::new(),
            commands: VecDeque::new(),
            confirmation: None,
            artim: None,
            out: Vec::new(),
            ended: None,
            closed: false,
        };
        session.event(Event::TransportOpened).await?;
        match session.confirmation().await? {
            Confirmation::Accepted(_) => Ok(session),
            Confirmation::Rejected(rejection) => Err(Failure::Rejected(rejection)),
        }
    }

    /// The presentation contexts that were accepted.
    pub fn contexts(&self) -> &[Context] {
        self.requestor.contexts()
    }

    /// For the next request.
    pub fn next_message_id(&mut self) -> u16 {
        self.requestor.next_message_id()
    }

    /// Sends a command set.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn command(&mut self, context_id: u8, command: &CommandSet) -> Result<(), Failure> {
        self.requestor.send_command(context_id, command, &mut self.actions)?;
        self.act().await
    }

    /// Sends a piece of the data set; all but the last have an even length.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn data(&mut self, context_id: u8, piece: Bytes, last: bool) -> Result<(), Failure> {
        self.requestor.send_data(context_id, piece, last, &mut self.actions)?;
        self.act().await
    }

    /// The next command of the peer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn received(&mut self) -> Result<CommandSet, Failure> {
        loop {
            if let Some(command) = self.commands.pop_front() {
                return Ok(command);
            }
            if let Some(over) = self.over() {
                return Err(over);
            }
            self.read().await?;
        }
    }

    async fn confirmation(&mut self) -> Result<Confirmation, Failure> {
        loop {
            if let Some(confirmation) = self.confirmation.take() {
                return Ok(confirmation);
            }
            if let Some(over) = self.over() {
                return Err(over);
            }
            self.read().await?;
        }
    }

    fn over(&mut self) -> Option<Failure> {
        match self.ended.take() {
            Some(cause) => Some(Failure::Ended(cause)),
            None => self.closed.then_some(Failure::Released),
        }
    }

    /// Ends the association, in good order if the peer plays along; the answers are known, or there will be none.
    pub async fn release(mut self) {
        let limit = self.waits.associate;
        let releasing = async {
            self.event(Event::Release).await?;
            while !self.closed && self.ended.is_none() {
                self.read().await?;
            }
            Ok::<(), Failure>(())
        };
        match timeout(limit, releasing).await {
            Ok(Ok(())) => {}
            other => {
                tracing::debug!(ended = ?other.map(|ended| ended.map_err(|error| error.to_string())), "association not released in good order")
            }
        }
        self.stream.shutdown().await.ok();
    }

    /// Waits for bytes or a timer, and does what follows.
    async fn read(&mut self) -> Result<(), Failure> {
        let idle = Instant::now() + self.requestor.idle_limit().unwrap_or(self.waits.response);
        let deadline = self.artim.map_or(idle, |artim| artim.min(idle));
        match tokio::time::timeout_at(deadline, self.stream.read_buf(self.decoder.buffer())).await {
            Err(_) if self.artim.is_some_and(|artim| artim <= Instant::now()) => {
                self.artim = None;
                self.event(Event::ArtimExpired).await
            }
            Err(_) => self.event(Event::IdleExpired).await,
            // A device that resets the connection after its answer has still answered.
            Ok(Ok(0) | Err(_)) => {
                self.event(Event::TransportClosed).await?;
                self.closed = true;
                Ok(())
            }
            Ok(Ok(_)) => loop {
                match self.decoder.decode() {
                    Ok(Some(pdu)) => self.event(Event::Pdu(pdu)).await?,
                    Ok(None) => return Ok(()),
                    Err(error) => return self.event(Event::Invalid(error)).await,
                }
            },
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), Failure> {
        self.requestor.handle(event, &mut self.actions);
        self.act().await
    }

    async fn act(&mut self) -> Result<(), Failure> {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Send(Pdu::Data(pdvs)) => {
                        for pdv in &pdvs {
                            self.out.extend_from_slice(&data_header(pdv));
                            self.out.extend_from_slice(&pdv.data);
                        }
                    }
                    Action::Send(pdu) => encode(&pdu, &mut self.out).map_err(io::Error::other)?,
                    Action::Associate(confirmation) => self.confirmation = Some(confirmation),
                    // What comes after the answer is of no use, and a device does not fill our memory with it.
                    Action::Command { command, .. } if self.commands.len() < COMMANDS_MAX => self.commands.push_back(command),
                    Action::Command { .. } => {}
                    // An event reply has nothing for us.
                    Action::Data { .. } | Action::Released => {}
                    Action::StartArtim(limit) => self.artim = Some(Instant::now() + limit),
                    Action::StopArtim => self.artim = None,
                    Action::ReleaseRequested => self.requestor.handle(Event::ReleaseResponse, &mut self.actions),
                    Action::Aborted(cause) => self.ended = Some(cause),
                    Action::CloseTransport => self.closed = true,
                }
            }
        }
        let out = std::mem::take(&mut self.out);
        for chunk in out.chunks(65_536) {
            let written = timeout(self.waits.progress, self.stream.write_all(chunk)).await;
            written.map_err(|_| Failure::TimedOut("a write"))??;
        }
        timeout(self.waits.progress, self.stream.flush()).await.map_err(|_| Failure::TimedOut("a write"))??;
        Ok(())
    }
}

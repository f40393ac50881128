//! Associations that we open: the driver of [`Requestor`] over TCP or TLS (profile 10 F06, F07, F16), and what is done on them:
//! [`store`], [`commitment`] (as who asks), [`report`] (as who is asked).
//!
//! # Failure
//! [`Failure`] says why there is no answer; what was sent may have arrived all the same. After the answers the association is
//! released, and whatever becomes of that changes nothing.
//!
//! # Bounds
//! [`Waits`]; PDUs and messages as for the listener. A data set of the peer is kept up to [`Session::keep_data_sets`].
//!
//! # Standard
//! PS3.8 §9.2, requestor.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use idr_dimse::association::negotiation::{Answered, ContextResult, Proposal, Request};
use idr_dimse::association::requestor::{Action, Confirmation, Event};
use idr_dimse::association::{Cause, Context, Requestor, SendError};
use idr_dimse::codec::{PduDecoder, data_header, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::CommandSet;
use idr_dimse::pdu::{Abort, Pdu, Rejection};
use idr_profile::outcome;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

pub mod commitment;
pub mod report;
pub mod store;

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

/// A step with a wait of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// TCP connection.
    Connect,
    /// TLS handshake.
    Handshake,
    /// Bytes of ours that the peer does not take.
    Write,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection",
            Self::Handshake => "the TLS handshake",
            Self::Write => "a write",
        })
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
    TimedOut(Step),
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

/// Messages of the peer that wait to be looked at.
const MESSAGES_MAX: usize = 16;
/// Longest wait for what a peer said before it closed the connection under a write.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A command of the peer, with its data set.
#[derive(Debug)]
pub struct Message {
    /// Presentation context that it came on.
    pub context_id: u8,
    /// The command set.
    pub command: CommandSet,
    /// Its data set; `None`: it has none, or one that is longer than [`Session::keep_data_sets`] allows.
    pub data: Option<Bytes>,
}

/// An association that we have opened.
pub struct Session {
    stream: Box<dyn Stream>,
    requestor: Requestor,
    decoder: PduDecoder,
    waits: Waits,
    actions: Vec<Action>,
    messages: VecDeque<Message>,
    /// The message that is coming, while it has a data set.
    coming: Option<(Message, Vec<u8>)>,
    data_set_bytes_max: usize,
    proposed: Vec<Proposal>,
    answered: Vec<Answered>,
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
        let tcp = connecting.await.map_err(|_| Failure::TimedOut(Step::Connect))??;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(tcp),
            Some((config, name)) => {
                let handshake = TlsConnector::from(config.clone()).connect(name.clone(), tcp);
                let stream = timeout(waits.handshake, handshake).await.map_err(|_| Failure::TimedOut(Step::Handshake))??;
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(idr_profile::tls::fingerprint);
                let named = |shown: String| target.certificates.iter().any(|pin| pin.eq_ignore_ascii_case(&shown));
                if !target.certificates.is_empty() && !shown.is_some_and(named) {
                    return Err(Failure::Certificate);
                }
                Box::new(stream)
            }
        };
        let timeouts = Timeouts { association: waits.associate, response: waits.response, ..Timeouts::default() };
        let proposed = request.contexts.clone();
        let mut session = Self {
            stream,
            requestor: Requestor::new(request, limits, timeouts),
            decoder: PduDecoder::new(limits),
            waits,
            actions: Vec::new(),
            messages: VecDeque::new(),
            coming: None,
            data_set_bytes_max: 0,
            proposed,
            answered: Vec::new(),
            confirmation: None,
            artim: None,
            out: Vec::new(),
            ended: None,
            closed: false,
        };
        session.event(Event::TransportOpened).await?;
        match session.confirmation().await? {
            Confirmation::Accepted(acceptance) => {
                session.answered = acceptance.contexts;
                Ok(session)
            }
            Confirmation::Rejected(rejection) => Err(Failure::Rejected(rejection)),
        }
    }

    /// The presentation contexts that were accepted.
    pub fn contexts(&self) -> &[Context] {
        self.requestor.contexts()
    }

    /// What the peer said of the presentation context for this abstract and transfer syntax: its identifier, or why there is
    /// none; `None`: it was not proposed.
    pub fn result_of(&self, abstract_syntax: &str, transfer_syntax: &str) -> Option<Result<u8, ContextResult>> {
        let fits = |context: &&Context| context.abstract_syntax == abstract_syntax && context.transfer_syntax == transfer_syntax;
        if let Some(context) = self.contexts().iter().find(fits) {
            return Some(Ok(context.id));
        }
        let of_it = |proposal: &&Proposal| {
            proposal.abstract_syntax == abstract_syntax && proposal.transfer_syntaxes.iter().any(|syntax| syntax == transfer_syntax)
        };
        let id = self.proposed.iter().find(of_it)?.id;
        let result = self.answered.iter().find(|answer| answer.id == id).map(|answer| answer.result);
        // Accepted, and with another transfer syntax: this one was not.
        let refused = result.filter(|result| *result != ContextResult::Acceptance);
        Some(Err(refused.unwrap_or(ContextResult::TransferSyntaxesNotSupported)))
    }

    /// From now on data sets of the peer are kept up to so many bytes; without this none is.
    pub fn keep_data_sets(&mut self, bytes_max: usize) {
        self.data_set_bytes_max = bytes_max;
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
        Ok(self.message().await?.command)
    }

    /// The next message of the peer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            if let Some(over) = self.over() {
                return Err(over);
            }
            self.read().await?;
        }
    }

    /// A message that was taken and is for somebody else: it is the next one again.
    pub fn put_back(&mut self, message: Message) {
        self.messages.push_front(message);
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

    /// Ends the association at once by A-ABORT; what was sent of a message stays without its end.
    pub async fn abort(mut self) {
        let limit = self.waits.associate;
        let aborting = async {
            self.event(Event::Abort).await?;
            self.stream.shutdown().await.map_err(Failure::from)
        };
        if !matches!(timeout(limit, aborting).await, Ok(Ok(()))) {
            tracing::debug!("the peer was not told of an abort");
        }
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
                    Action::Command { context_id, command } => {
                        let message = Message { context_id, command, data: None };
                        match message.command.has_data_set() {
                            true => self.coming = Some((message, Vec::new())),
                            false => self.arrived(message),
                        }
                    }
                    Action::Data { fragment, last, .. } => self.data_came(&fragment, last),
                    Action::Released => {}
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
            if let Err(error) = written.map_err(|_| Failure::TimedOut(Step::Write))? {
                return Err(self.last_words().await.map_or(Failure::Connection(error), |abort| Failure::Ended(Cause::Peer(abort))));
            }
        }
        timeout(self.waits.progress, self.stream.flush()).await.map_err(|_| Failure::TimedOut(Step::Write))??;
        Ok(())
    }

    /// A peer that aborts in the middle of what it is sent closes its end: what it said before stands in our buffers still.
    async fn last_words(&mut self) -> Option<Abort> {
        loop {
            while let Ok(Some(pdu)) = self.decoder.decode() {
                if let Pdu::Abort(abort) = pdu {
                    return Some(abort);
                }
            }
            match timeout(LAST_WORDS, self.stream.read_buf(self.decoder.buffer())).await {
                Ok(Ok(read)) if read > 0 => {}
                _ => return None,
            }
        }
    }

    /// What nobody asks for is of no use, and a peer does not fill our memory with it.
    fn arrived(&mut self, message: Message) {
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push_back(message);
        }
    }

    fn data_came(&mut self, fragment: &Bytes, last: bool) {
        let Some((_, data)) = &mut self.coming else { return };
        if data.len() <= self.data_set_bytes_max {
            data.extend_from_slice(fragment);
        }
        if last && let Some((message, data)) = self.coming.take() {
            let data = (data.len() <= self.data_set_bytes_max && self.data_set_bytes_max > 0).then(|| data.into());
            self.arrived(Message { data, ..message });
        }
    }
}

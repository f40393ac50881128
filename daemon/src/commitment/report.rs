//! One report on an association of our own: the driver of [`Requestor`] over TCP or TLS (profile 10 F16).
//!
//! # Failure
//! [`Undelivered`] says why there is no answer; the report may have arrived all the same. After the answer the association
//! is released, and whatever becomes of that changes nothing.
//!
//! # Bounds
//! [`Waits`]; PDUs and messages as for the listener.
//!
//! # Standard
//! PS3.8 §9.2, requestor; PS3.4 §J.3.3: we propose the SCP role. Many devices accept the presentation context and leave the
//! role selection out of their answer: the report is sent to them too, they asked for it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use idr_dimse::association::negotiation::{Implementation, Request};
use idr_dimse::association::requestor::{Action, Confirmation, Event};
use idr_dimse::association::{Cause, Requestor, SendError};
use idr_dimse::codec::{PduDecoder, data_header, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::CommandSet;
use idr_dimse::pdu::{Pdu, Rejection};
use idr_dimse::service::storage_commitment::{self as service, EventInformation};
use idr_dimse::status::Status;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::listener::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

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
    /// N-EVENT-REPORT-RSP.
    pub response: Duration,
    /// A write that makes no progress.
    pub progress: Duration,
}

/// Why a report has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// No connection, or it broke.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// A step took too long.
    #[error("{0} took too long")]
    TimedOut(&'static str),
    /// The device showed another certificate than its row names (IDR-T-13).
    #[error("IDR-T-13: the device showed a certificate that its row does not name")]
    Certificate,
    /// A-ASSOCIATE-RJ.
    #[error("rejected: {0}")]
    Rejected(Rejection),
    /// The presentation context was not accepted.
    #[error("the device does not accept storage commitment")]
    NotAccepted,
    /// The association ended before the answer.
    #[error("the association ended before the answer: {0}")]
    Ended(Cause),
    /// The device released the association before the answer.
    #[error("the device released the association before the answer")]
    Released,
    /// The report could not be sent.
    #[error("cannot send: {0}")]
    Send(#[from] SendError),
    /// The report cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(#[from] service::ReadError),
}

/// Opens an association as `calling`, sends the report and gives the device's answer.
///
/// # Errors
/// [`Undelivered`].
pub async fn deliver(
    target: &Target,
    calling: &str,
    information: &EventInformation,
    limits: Limits,
    waits: Waits,
) -> Result<Status, Undelivered> {
    let connecting = timeout(waits.connect, TcpStream::connect(target.address));
    let tcp = connecting.await.map_err(|_| Undelivered::TimedOut("the connection"))??;
    tcp.set_nodelay(true)?;
    let mut request = Request::new(
        calling,
        &target.ae_title,
        Implementation { class_uid: IMPLEMENTATION_CLASS_UID.to_owned(), version_name: Some(IMPLEMENTATION_VERSION_NAME.to_owned()) },
    );
    request.propose(service::SOP_CLASS_UID, &service::TRANSFER_SYNTAXES);
    request.roles.push((service::SOP_CLASS_UID.to_owned(), service::REPORTING_ROLES));
    match &target.tls {
        None => Session::new(tcp, request, limits, waits).report(information).await,
        Some((config, name)) => {
            let handshake = TlsConnector::from(config.clone()).connect(name.clone(), tcp);
            let stream = timeout(waits.handshake, handshake).await.map_err(|_| Undelivered::TimedOut("the TLS handshake"))??;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(idr_profile::tls::fingerprint);
            let named = |shown: String| target.certificates.iter().any(|pin| pin.eq_ignore_ascii_case(&shown));
            if !target.certificates.is_empty() && !shown.is_some_and(named) {
                return Err(Undelivered::Certificate);
            }
            Session::new(stream, request, limits, waits).report(information).await
        }
    }
}

/// Commands of the device that wait to be looked at.
const COMMANDS_MAX: usize = 16;

struct Session<S> {
    stream: S,
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

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(stream: S, request: Request, limits: Limits, waits: Waits) -> Self {
        let timeouts = Timeouts { association: waits.associate, response: waits.response, ..Timeouts::default() };
        Self {
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
        }
    }

    async fn report(mut self, information: &EventInformation) -> Result<Status, Undelivered> {
        self.event(Event::TransportOpened).await?;
        match self.confirmation().await? {
            Confirmation::Accepted(_) => {}
            Confirmation::Rejected(rejection) => return Err(Undelivered::Rejected(rejection)),
        }
        let accepted = self.requestor.contexts().iter().find(|context| context.abstract_syntax == service::SOP_CLASS_UID);
        let Some((context_id, transfer_syntax)) = accepted.map(|context| (context.id, context.transfer_syntax.clone())) else {
            self.release().await;
            return Err(Undelivered::NotAccepted);
        };
        let data = information.encode(&transfer_syntax)?;
        let message_id = self.requestor.next_message_id();
        let command = service::event_report_request(message_id, information.event_type());
        self.requestor.send_command(context_id, &command, &mut self.actions)?;
        self.requestor.send_data(context_id, data, true, &mut self.actions)?;
        self.act().await?;
        let status = loop {
            while let Some(command) = self.commands.pop_front() {
                if let Some(status) = service::event_report_status(&command, message_id) {
                    self.release().await;
                    return Ok(status);
                }
            }
            if let Some(over) = self.over() {
                break over;
            }
            self.read().await?;
        };
        Err(status)
    }

    async fn confirmation(&mut self) -> Result<Confirmation, Undelivered> {
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

    fn over(&mut self) -> Option<Undelivered> {
        match self.ended.take() {
            Some(cause) => Some(Undelivered::Ended(cause)),
            None => self.closed.then_some(Undelivered::Released),
        }
    }

    /// In good order if the device plays along; the answer is known, or there will be none.
    async fn release(&mut self) {
        let limit = self.waits.associate;
        let releasing = async {
            self.event(Event::Release).await?;
            while !self.closed && self.ended.is_none() {
                self.read().await?;
            }
            Ok::<(), Undelivered>(())
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
    async fn read(&mut self) -> Result<(), Undelivered> {
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

    async fn event(&mut self, event: Event) -> Result<(), Undelivered> {
        self.requestor.handle(event, &mut self.actions);
        self.act().await
    }

    async fn act(&mut self) -> Result<(), Undelivered> {
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
            written.map_err(|_| Undelivered::TimedOut("a write"))??;
        }
        timeout(self.waits.progress, self.stream.flush()).await.map_err(|_| Undelivered::TimedOut("a write"))??;
        Ok(())
    }
}

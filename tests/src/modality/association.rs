//! One association: the driver of [`Requestor`].

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use idr_dimse::association::negotiation::{ContextResult, Implementation, Request};
use idr_dimse::association::requestor::{Action, Confirmation, Event};
use idr_dimse::association::{Cause, Requestor, SendError};
use idr_dimse::codec::{PduDecoder, data_header, encode};
use idr_dimse::limits::{Limits, Timeouts};
use idr_dimse::message::command_set::{CommandSet, Priority};
use idr_dimse::pdu::{Pdu, Rejection};
use idr_dimse::service::storage::Outcome;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::{Answer, Modality, Outgoing};

/// Bytes gathered before a write.
const WRITE_BYTES: usize = 262_144;

/// Why an association ended early, or did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AssociationError {
    /// No connection, or it broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// A-ASSOCIATE-RJ.
    #[error("rejected: {0}")]
    Rejected(Rejection),
    /// Abort, silence, or a breach of the protocol.
    #[error("{0}")]
    Ended(Cause),
    /// The association was gone when something was to be sent.
    #[error("cannot send: {0}")]
    Send(#[from] SendError),
    /// The answer is of another operation, or a failure.
    #[error("unexpected answer: {0}")]
    Answer(String),
}

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// An open association.
pub struct Association {
    stream: Box<dyn Transport>,
    requestor: Requestor,
    decoder: PduDecoder,
    /// Result of each proposed abstract syntax and its first transfer syntax.
    results: Vec<(String, String, ContextResult)>,
    actions: Vec<Action>,
    commands: VecDeque<CommandSet>,
    confirmation: Option<Confirmation>,
    artim: Option<Instant>,
    out: Vec<u8>,
    ended: Option<Cause>,
    closed: bool,
}

impl Association {
    /// Connects and proposes `contexts`: abstract syntax and its transfer syntaxes, at most 128.
    ///
    /// # Errors
    /// [`AssociationError`].
    pub async fn open(modality: &Modality, contexts: &[(String, Vec<String>)]) -> Result<Self, AssociationError> {
        let tcp = TcpStream::connect(modality.address).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Transport> = match &modality.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::from(modality.address.ip());
                Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?)
            }
        };
        let implementation =
            Implementation { class_uid: "1.2.246.10.90000011.12.99".to_owned(), version_name: Some("IDR-TESTS".to_owned()) };
        let mut request = Request::new(&modality.calling, &modality.called, implementation);
        request.user_identity.clone_from(&modality.identity);
        for (abstract_syntax, transfer_syntaxes) in contexts {
            let syntaxes: Vec<&str> = transfer_syntaxes.iter().map(String::as_str).collect();
            request.propose(abstract_syntax, &syntaxes).expect("at most 128 contexts");
        }
        let limits = Limits::default();
        let mut association = Self {
            stream,
            requestor: Requestor::new(request, limits, Timeouts::default()),
            decoder: PduDecoder::new(limits),
            results: Vec::new(),
            actions: Vec::new(),
            commands: VecDeque::new(),
            confirmation: None,
            artim: None,
            out: Vec::new(),
            ended: None,
            closed: false,
        };
        association.event(Event::TransportOpened).await?;
        loop {
            match association.confirmation.take() {
                Some(Confirmation::Rejected(rejection)) => return Err(AssociationError::Rejected(rejection)),
                Some(Confirmation::Accepted(acceptance)) => {
                    let proposed = contexts.iter().zip(acceptance.contexts);
                    association.results = proposed
                        .map(|((class, syntaxes), answered)| {
                            (class.clone(), syntaxes.first().cloned().unwrap_or_default(), answered.result)
                        })
                        .collect();
                    return Ok(association);
                }
                None => {
                    if let Some(cause) = association.ended.take() {
                        return Err(AssociationError::Ended(cause));
                    }
                    if association.closed {
                        return Err(AssociationError::Ended(Cause::TransportClosed));
                    }
                    association.read().await?;
                }
            }
        }
    }

    /// C-ECHO.
    ///
    /// # Errors
    /// [`AssociationError`].
    pub async fn echo(&mut self) -> Result<(), AssociationError> {
        let context = self.requestor.contexts().first().map(|context| context.id);
        let context = context.ok_or_else(|| AssociationError::Answer("Verification was not accepted".to_owned()))?;
        let command = CommandSet::c_echo_rq(self.requestor.next_message_id());
        self.requestor.send_command(context, &command, &mut self.actions)?;
        self.act().await?;
        let response = self.response().await?;
        match response.status() {
            Some(status) if status.is_done() => Ok(()),
            other => Err(AssociationError::Answer(format!("{other:?} to C-ECHO"))),
        }
    }

    /// C-STORE of one object; its data set streams out with bounded memory.
    ///
    /// # Errors
    /// [`AssociationError`]: then there is no answer.
    pub async fn store(&mut self, object: &Outgoing) -> Result<Answer, AssociationError> {
        let Some(context) = self.requestor.context_for(&object.sop_class, &object.transfer_syntax).map(|context| context.id) else {
            let known = self.results.iter().find(|(class, syntax, _)| *class == object.sop_class && *syntax == object.transfer_syntax);
            return Ok(Answer::NotNegotiated(known.map_or(ContextResult::NoReason, |(_, _, result)| *result)));
        };
        let command = CommandSet::c_store_rq(self.requestor.next_message_id(), &object.sop_class, &object.sop_instance, Priority::Medium);
        self.requestor.send_command(context, &command, &mut self.actions)?;
        let mut pieces = object.data_set.pieces().peekable();
        if pieces.peek().is_none() {
            self.send_data(context, Bytes::new(), true).await?;
        }
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            let step = (WRITE_BYTES / self.requestor.fragment_length_max()).max(1) * self.requestor.fragment_length_max();
            let mut rest = piece;
            while rest.len() > step {
                let part = rest.split_to(step);
                self.send_data(context, part, false).await?;
            }
            self.send_data(context, rest, last).await?;
        }
        self.flush().await?;
        let response = self.response().await?;
        Outcome::read(&response).map(Answer::Status).ok_or_else(|| AssociationError::Answer("no C-STORE-RSP".to_owned()))
    }

    /// Sends a command with its data set on the first context of its SOP class, and gives the response, whatever its status.
    ///
    /// # Errors
    /// [`AssociationError`]: then there is no answer.
    pub async fn perform(&mut self, sop_class: &str, command: &CommandSet, data: Bytes) -> Result<CommandSet, AssociationError> {
        let context = self.requestor.contexts().iter().find(|context| context.abstract_syntax == sop_class).map(|context| context.id);
        let context = context.ok_or_else(|| AssociationError::Answer(format!("{sop_class} was not accepted")))?;
        self.requestor.send_command(context, command, &mut self.actions)?;
        self.send_data(context, data, true).await?;
        self.flush().await?;
        self.response().await
    }

    /// Releases the association and waits for the peer's answer.
    ///
    /// # Errors
    /// [`AssociationError`] if it ended otherwise.
    pub async fn release(mut self) -> Result<(), AssociationError> {
        self.event(Event::Release).await?;
        while !self.closed {
            self.read().await?;
        }
        self.stream.shutdown().await.ok();
        match self.ended {
            None => Ok(()),
            Some(cause) => Err(AssociationError::Ended(cause)),
        }
    }

    async fn send_data(&mut self, context: u8, data: Bytes, last: bool) -> Result<(), AssociationError> {
        self.requestor.send_data(context, data, last, &mut self.actions)?;
        self.gather()?;
        if self.out.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn response(&mut self) -> Result<CommandSet, AssociationError> {
        loop {
            if let Some(command) = self.commands.pop_front() {
                return Ok(command);
            }
            if let Some(cause) = self.ended.take() {
                return Err(AssociationError::Ended(cause));
            }
            if self.closed {
                return Err(AssociationError::Ended(Cause::TransportClosed));
            }
            self.read().await?;
        }
    }

    /// Waits for bytes or a timer, and does what follows.
    async fn read(&mut self) -> Result<(), AssociationError> {
        let idle = self.requestor.idle_limit().unwrap_or(Duration::from_secs(600));
        let deadline = self.artim.unwrap_or(Instant::now() + idle);
        match tokio::time::timeout_at(deadline, self.stream.read_buf(self.decoder.buffer())).await {
            Err(_) if self.artim.is_some() => self.event(Event::ArtimExpired).await,
            Err(_) => self.event(Event::IdleExpired).await,
            // A peer that resets the connection after its answer has still answered.
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

    async fn event(&mut self, event: Event) -> Result<(), AssociationError> {
        self.requestor.handle(event, &mut self.actions);
        self.act().await
    }

    async fn act(&mut self) -> Result<(), AssociationError> {
        self.gather()?;
        self.flush().await
    }

    /// Does every action but writing.
    fn gather(&mut self) -> Result<(), AssociationError> {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Send(Pdu::Data(pdvs)) => {
                        for pdv in &pdvs {
                            self.out.extend_from_slice(&data_header(pdv));
                            self.out.extend_from_slice(&pdv.data);
                        }
                    }
                    Action::Send(pdu) => encode(&pdu, &mut self.out).map_err(|error| AssociationError::Answer(error.to_string()))?,
                    Action::Associate(confirmation) => self.confirmation = Some(confirmation),
                    Action::Command { command, .. } => self.commands.push_back(command),
                    Action::Data { .. } | Action::Released => {}
                    Action::StartArtim(limit) => self.artim = Some(Instant::now() + limit),
                    Action::StopArtim => self.artim = None,
                    Action::ReleaseRequested => self.requestor.handle(Event::ReleaseResponse, &mut self.actions),
                    Action::Aborted(cause) => self.ended = Some(cause),
                    Action::CloseTransport => self.closed = true,
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), AssociationError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        self.out = out;
        self.out.clear();
        Ok(())
    }
}

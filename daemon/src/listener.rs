//! DIMSE listener: tokio and rustls around [`idr_dimse::association::Acceptor`], one task per association.
//!
//! The machine decides, this file reads, writes and runs timers. Whether an association or an instance is wanted is
//! [`crate::admission`]; what happens to the bytes of an instance is [`crate::reception`]; what a device is told about them
//! later is [`crate::commitment`]; what it says of a study is [`crate::completeness`]; what it may see is [`crate::query`].
//!
//! # Failure
//! An error of `accept` is logged and waited out. An association that ends early, for whatever reason, discards the
//! instance in flight and nothing else (D014); a storage commitment report without an answer goes on another one. At shutdown the message in flight is answered, then the association ends.
//!
//! # Bounds
//! TCP connections at once, handshake time, ARTIM, silence in and between messages, least pace of a message ([`pace`]), life of an
//! association, time to write: `[dimse]` of the configuration (profile 10 §11 BD-01 … BD-09).
//!
//! # Standard
//! PS3.8 §9.2; PS3.7 §9.3.1, §9.3.5, §10.1.1, §10.1.4; PS3.15 §B.12.

mod asked;
mod pace;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_dimse::association::acceptor::{Acceptor, Action, Answer, Event};
use idr_dimse::association::negotiation::{Implementation, negotiate};
use idr_dimse::codec::{PduDecoder, data_header, encode};
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::pdu::Pdu;
use idr_dimse::service::storage::{self, Outcome, StoreRequest};
use idr_dimse::service::storage_commitment::{self as commitment, ActionInformation};
use idr_dimse::service::{Dispatched, Dispatcher, normalized, verification};
use idr_dimse::status::Status;
use idr_host::places::{Connections, Place};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admitted, Ingress, Peer};
use crate::commitment::Ticket;
use crate::completeness::Operation;
use crate::reception::Reception;
pub use pace::Least;
use pace::Pace;

/// (0002,0012) of 01 §8.1: who we are on the wire too.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.43041129811698765480295093093450571436";
/// Implementation Version Name.
pub const IMPLEMENTATION_VERSION_NAME: &str = "IDR_SITE";

/// Storage commitment reports that wait on one association.
const REPORTS_MAX: usize = 64;
const QUERIES: [CommandField; 3] = [CommandField::C_FIND_RQ, CommandField::C_GET_RQ, CommandField::C_MOVE_RQ];
const OPERATIONS: &[CommandField] = &[
    CommandField::C_ECHO_RQ,
    CommandField::C_STORE_RQ,
    CommandField::N_ACTION_RQ,
    CommandField::N_CREATE_RQ,
    CommandField::N_SET_RQ,
    CommandField::C_FIND_RQ,
    CommandField::C_GET_RQ,
    CommandField::C_MOVE_RQ,
];

/// How connections of one listener are carried.
#[derive(Clone)]
pub enum Transport {
    /// Plain TCP.
    Plain,
    /// TLS from the first byte; the configuration is read anew for each connection, so that it can be swapped.
    Tls(Arc<ArcSwap<rustls::ServerConfig>>),
}

/// Accepts connections until `stop` is cancelled. Associations run in `tasks`.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    ingress: Arc<Ingress>,
    connections: Connections,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the peer went away before it was accepted: wait, then go on.
                tracing::warn!(%error, "cannot accept a connection; next attempt in 100 ms");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = connections.admit_replaceable(address.ip()) else { continue };
        let (transport, connections, ingress, stop) = (transport.clone(), connections.clone(), ingress.clone(), stop.clone());
        tasks.spawn(async move {
            let lost = place.lost();
            tokio::select! {
                biased;
                // Only before an association is accepted: nothing is in flight.
                () = lost.cancelled() => connections.replaced("BD-01", address.ip()),
                () = connection(stream, address, transport, &connections, place, ingress, stop) => {}
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    transport: Transport,
    connections: &Connections,
    place: Place,
    ingress: Arc<Ingress>,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY refused");
    }
    let ended = match transport {
        Transport::Plain => {
            let peer = Peer { address: address.ip(), tls: false, certificate_sha256: None };
            Association::new(stream, peer, place, ingress, stop).run().await
        }
        Transport::Tls(config) => {
            let limit = Duration::from_secs(ingress.config().dimse.handshake_seconds);
            let Some(handshake) = connections.handshake(address.ip()) else { return };
            let lost = handshake.lost();
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(limit, TlsAcceptor::from(config.load_full()).accept(stream)) => shaken,
                () = lost.cancelled() => return connections.replaced("BD-02", address.ip()),
            };
            drop(handshake);
            match shaken {
                Ok(Ok(stream)) => {
                    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let certificate_sha256 = certificate.map(idr_profile::tls::fingerprint);
                    let peer = Peer { address: address.ip(), tls: true, certificate_sha256 };
                    Association::new(stream, peer, place, ingress, stop).run().await
                }
                Ok(Err(error)) => {
                    tracing::info!(peer = %address.ip(), cause = %error, "TLS handshake refused");
                    return;
                }
                Err(_) => {
                    tracing::info!(code = "IDR-T-14", peer = %address.ip(), "TLS handshake not finished in time");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::info!(peer = %address.ip(), cause = %error, "connection broke");
    }
}

/// What the bytes of the data set in flight are for.
enum InFlight {
    /// An instance.
    Store { command: CommandSet, reception: Box<Reception> },
    /// A request for storage commitment; `None`: more bytes than it may have.
    Action { command: CommandSet, information: Option<Vec<u8>> },
    /// What a device says of a study; `None`: more bytes than it may have.
    Said { command: CommandSet, operation: Operation, data: Option<Vec<u8>> },
    /// A query or retrieve; `None`: a longer identifier than it may have.
    Ask { command: CommandSet, identifier: Option<Vec<u8>> },
    /// Nothing: the operation is refused, and answered when its data set has passed.
    Refused { response: CommandSet },
}

/// A storage commitment report to be made on this association.
struct Report {
    ticket: Ticket,
    context_id: u8,
    /// Once it is sent: its Message ID, and how long its answer is waited for.
    sent: Option<(u16, Instant)>,
}

struct Association<S> {
    stream: S,
    peer: Peer,
    /// Its place among the connections; kept from the acceptance on.
    place: Place,
    ingress: Arc<Ingress>,
    stop: CancellationToken,
    decoder: PduDecoder,
    acceptor: Acceptor,
    dispatcher: Dispatcher,
    actions: VecDeque<Action>,
    admitted: Option<Admitted>,
    in_flight: Option<InFlight>,
    /// A query or retrieve under way.
    asked: Option<asked::Asked>,
    /// One after the other, the first may be sent.
    reports: VecDeque<Report>,
    message_id: u16,
    artim: Option<Instant>,
    pace: Pace,
    /// Bytes to write, gathered so that a PDU leaves in one write.
    out: Vec<u8>,
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Association<S> {
    fn new(stream: S, peer: Peer, place: Place, ingress: Arc<Ingress>, stop: CancellationToken) -> Self {
        let implementation =
            Implementation { class_uid: IMPLEMENTATION_CLASS_UID.to_owned(), version_name: Some(IMPLEMENTATION_VERSION_NAME.to_owned()) };
        let (limits, timeouts) = (ingress.limits(), ingress.timeouts());
        Self {
            stream,
            peer,
            place,
            ingress,
            stop,
            decoder: PduDecoder::new(limits),
            acceptor: Acceptor::new(implementation, limits, timeouts),
            dispatcher: Dispatcher::new(OPERATIONS),
            actions: VecDeque::new(),
            admitted: None,
            in_flight: None,
            asked: None,
            reports: VecDeque::new(),
            message_id: 0,
            artim: None,
            pace: Pace::default(),
            out: Vec::new(),
            closing: false,
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let end = Instant::now() + self.ingress.config().association_max();
        self.feed(Event::TransportOpened);
        // The end of a silence that goes on.
        let mut silent_until: Option<Instant> = None;
        let ended = loop {
            if let Err(error) = self.act().await {
                break Err(error);
            }
            if self.closing {
                break Ok(());
            }
            if self.report().await {
                continue;
            }
            let busy = self.may_go_on();
            let idle = silent_until.take().or_else(|| self.acceptor.idle_limit().map(|limit| Instant::now() + limit));
            // A device that can be told nowhere else is waited for as long as the association lasts.
            let elsewhere = self.admitted.as_ref().is_some_and(|admitted| self.ingress.commitments.has_address(&admitted.row.name));
            let unanswered = self.reports.front().filter(|_| elsewhere).and_then(|report| report.sent).map(|(_, until)| until);
            // A PDU that is not complete is the front of a message, or as good as one.
            let under_way = self.acceptor.is_receiving() || self.admitted.is_some() && self.decoder.buffered() > 0;
            let least = self.ingress.least_pace();
            if !under_way {
                self.pace.rest();
            }
            let too_slow = self.pace.left(least).filter(|_| under_way).map(|left| Instant::now() + left);
            // With something to do, the socket is looked at and not waited for.
            let at_once = busy.then(Instant::now);
            let deadline = [at_once, idle, self.artim, unanswered, too_slow].into_iter().flatten().chain([end]).min().unwrap_or(end);
            let draining = self.stop.is_cancelled();
            if draining && self.in_flight.is_none() {
                // The peer is told; its end of the connection is not waited for.
                self.feed(Event::Abort);
                break self.act().await;
            }
            // Bytes first: the timers are looked at only when the peer has sent nothing, except for the end of it all.
            let waiting = Instant::now();
            let read = if waiting >= end {
                None
            } else {
                tokio::select! {
                    biased;
                    read = self.stream.read_buf(self.decoder.buffer()) => Some(read),
                    () = tokio::time::sleep_until(deadline) => None,
                    () = self.stop.cancelled(), if !draining => continue,
                }
            };
            let came = read.as_ref().and_then(|read| read.as_ref().ok()).copied().unwrap_or(0);
            if under_way && !self.pace.keeps(least, waiting.elapsed(), came) {
                self.ingress.counters.associations_too_slow.add(1);
                tracing::warn!(
                    peer = %self.peer.address, bytes_per_second = least.bytes_per_second, seconds = least.window.as_secs(),
                    remedy = "if the device is honest and its network so slow, lower dimse.pace_bytes_per_second",
                    "a message came below the least pace: association aborted"
                );
                self.feed(Event::Abort);
                // Its place is free at once, whether the peer closes or not.
                self.abandon().await;
                continue;
            }
            match read {
                Some(Ok(0)) => {
                    // The machine closes no connection that is closed: nothing would end this loop.
                    self.feed(Event::TransportClosed);
                    self.act().await.ok();
                    break Ok(());
                }
                Some(Ok(_)) => {
                    if let Err(error) = self.decode().await {
                        break Err(error);
                    }
                }
                Some(Err(error)) => {
                    self.feed(Event::TransportClosed);
                    self.act().await.ok();
                    break Err(error);
                }
                None if busy && Instant::now() < end && !draining => {
                    if let Err(error) = self.go_on().await {
                        break Err(error);
                    }
                }
                None if self.artim.is_some_and(|at| at <= Instant::now()) => {
                    self.artim = None;
                    self.feed(Event::ArtimExpired);
                }
                None if Instant::now() >= end => {
                    self.feed(Event::Abort);
                    if self.actions.is_empty() {
                        // Before and after an association there is nothing to abort.
                        break Ok(());
                    }
                }
                // Another association may do better; the answer may still come on this one, and is then of no use.
                None if unanswered.is_some_and(|until| until <= Instant::now()) => drop(self.reports.pop_front()),
                // A window of the least pace is over, and enough came in it.
                None if idle.is_some_and(|until| until > Instant::now()) => silent_until = idle,
                None => self.feed(Event::IdleExpired),
            }
        };
        self.abandon().await;
        ended
    }

    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.acceptor.handle(event, &mut actions);
        self.actions.extend(actions);
    }

    /// Hands over every PDU that is complete, doing its actions before the next: the machine's answers keep their order.
    async fn decode(&mut self) -> io::Result<()> {
        loop {
            match self.decoder.decode() {
                Ok(Some(pdu)) => self.feed(Event::Pdu(pdu)),
                Ok(None) => return Ok(()),
                Err(error) => {
                    if let Some(bound) = error.bound() {
                        tracing::warn!(bound, peer = %self.peer.address, "a bound was exceeded: association aborted");
                    }
                    self.feed(Event::Invalid(error));
                    return self.act().await;
                }
            }
            self.act().await?;
            if self.closing {
                return Ok(());
            }
        }
    }

    async fn act(&mut self) -> io::Result<()> {
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::Send(Pdu::Data(pdvs)) => {
                    for pdv in &pdvs {
                        self.out.extend_from_slice(&data_header(pdv));
                        self.out.extend_from_slice(&pdv.data);
                    }
                }
                Action::Send(pdu) => encode(&pdu, &mut self.out).map_err(io::Error::other)?,
                Action::Associate(request) => {
                    let answer = match self.ingress.associate(&request, &self.peer) {
                        Ok(admitted) => match negotiate(&request, &admitted.policy) {
                            // The place went to another just now: this task is ended.
                            Ok(_) if !self.place.keep() => return Err(io::Error::other("its place was needed for another")),
                            Ok(acceptance) => {
                                self.ingress.note_contexts(&admitted, &acceptance);
                                self.admitted = Some(admitted);
                                Answer::Accept(acceptance)
                            }
                            Err(rejection) => Answer::Reject(self.ingress.refused_context(&request, &self.peer, rejection)),
                        },
                        Err(rejection) => Answer::Reject(rejection),
                    };
                    self.feed(Event::Answer(answer));
                }
                Action::Command { context_id, command } => self.command(context_id, command).await?,
                Action::Data { context_id, fragment, last } => self.data(context_id, &fragment, last).await?,
                Action::StartArtim(limit) => self.artim = Some(Instant::now() + limit),
                Action::StopArtim => self.artim = None,
                Action::ReleaseRequested => self.feed(Event::ReleaseResponse),
                Action::Released => self.abandon().await,
                Action::Aborted(cause) => {
                    tracing::info!(peer = %self.peer.address, %cause, "association ended early");
                    self.abandon().await;
                }
                Action::CloseTransport => self.closing = true,
            }
            if self.actions.is_empty() || self.out.len() > 65_536 {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let limit = self.ingress.timeouts().receive;
        let stream = &mut self.stream;
        let out = &self.out;
        let written = tokio::time::timeout(limit, async {
            stream.write_all(out).await?;
            stream.flush().await
        });
        let result = written.await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")));
        self.out.clear();
        result
    }

    async fn command(&mut self, context_id: u8, command: CommandSet) -> io::Result<()> {
        match self.dispatcher.dispatch(&command) {
            Dispatched::Perform if command.command_field() == CommandField::C_ECHO_RQ => {
                self.answer(context_id, &command, &verification::response(&command));
            }
            Dispatched::Perform if command.command_field() == CommandField::N_ACTION_RQ => {
                let of_it = self.acceptor.context(context_id).is_some_and(|context| context.abstract_syntax == commitment::SOP_CLASS_UID);
                let admitted = self.admitted.as_ref().is_some_and(|one| self.ingress.still_admits(&one.row, &one.in_force, &self.peer));
                let checked = if !admitted {
                    Err(Status::NOT_AUTHORIZED)
                } else if of_it {
                    commitment::check_action(&command)
                } else {
                    Err(Status::UNRECOGNIZED_OPERATION)
                };
                self.in_flight = Some(match checked {
                    Ok(()) => InFlight::Action { command, information: Some(Vec::new()) },
                    Err(status) => {
                        self.dispatcher.answered(command.message_id());
                        InFlight::Refused { response: commitment::action_response(&command, status) }
                    }
                });
            }
            Dispatched::Perform if matches!(command.command_field(), CommandField::N_CREATE_RQ | CommandField::N_SET_RQ) => {
                let context = self.acceptor.context(context_id);
                let operation = Operation::of(context.map_or("", |context| &context.abstract_syntax), &command);
                self.in_flight = Some(match operation {
                    Ok(operation) => InFlight::Said { command, operation, data: Some(Vec::new()) },
                    Err(refused) => {
                        self.dispatcher.answered(command.message_id());
                        InFlight::Refused { response: normalized::response(&command, None, Err(&refused)) }
                    }
                });
            }
            Dispatched::Perform if QUERIES.contains(&command.command_field()) => {
                self.in_flight = Some(InFlight::Ask { command, identifier: Some(Vec::new()) });
            }
            Dispatched::Perform => {
                let (Some(request), Some(context), Some(admitted)) =
                    (StoreRequest::read(&command), self.acceptor.context(context_id), self.admitted.as_ref())
                else {
                    // Not reached: nothing else is performed, and on an accepted context. Refuse rather than trust.
                    self.answer(context_id, &command, &CommandSet::response(&command, Status::PROCESSING_FAILURE));
                    return Ok(());
                };
                if !self.ingress.still_admits(&admitted.row, &admitted.in_force, &self.peer) {
                    let outcome = Outcome::new(Status::NOT_AUTHORIZED);
                    self.dispatcher.answered(command.message_id());
                    self.in_flight = Some(InFlight::Refused { response: storage::response(&command, &outcome) });
                    return Ok(());
                }
                let reception = self.ingress.receive(admitted, &self.peer, context, &request).await;
                self.in_flight = Some(InFlight::Store { command, reception: Box::new(reception) });
            }
            Dispatched::Refuse(response) if command.has_data_set() => self.in_flight = Some(InFlight::Refused { response }),
            Dispatched::Refuse(response) => self.respond(context_id, &response),
            Dispatched::Response if self.stored(&command) => {}
            Dispatched::Response => self.reported(&command).await,
            Dispatched::Cancel(message_id) => self.cancel(message_id),
            Dispatched::Nothing => {}
        }
        Ok(())
    }

    async fn data(&mut self, context_id: u8, fragment: &[u8], last: bool) -> io::Result<()> {
        match &mut self.in_flight {
            Some(InFlight::Store { reception, .. }) => reception.feed(fragment).await,
            Some(InFlight::Action { information, .. }) => gather(information, fragment, self.ingress.commitments.request_bytes_max()),
            Some(InFlight::Said { data, .. }) => gather(data, fragment, self.ingress.completeness.request_bytes_max()),
            Some(InFlight::Ask { identifier, .. }) => gather(identifier, fragment, self.ingress.query.identifier_bytes_max()),
            Some(InFlight::Refused { .. }) | None => {}
        }
        if !last {
            return Ok(());
        }
        match self.in_flight.take() {
            Some(InFlight::Store { command, reception }) => {
                let outcome = reception.finish().await;
                self.answer(context_id, &command, &storage::response(&command, &outcome));
            }
            Some(InFlight::Said { command, operation, data }) => {
                let response = match (self.acceptor.context(context_id), &self.admitted) {
                    (Some(context), Some(admitted)) => {
                        let message = (&command, context.transfer_syntax.as_str(), data.as_deref());
                        self.ingress.completeness.perform(&admitted.into(), operation, message).await
                    }
                    // Not reached: without them nothing is in flight.
                    _ => CommandSet::response(&command, Status::PROCESSING_FAILURE),
                };
                self.answer(context_id, &command, &response);
            }
            Some(InFlight::Action { command, information }) => {
                let taken = match (self.action(context_id, information), &self.admitted) {
                    (Ok(information), Some(admitted)) => {
                        self.ingress.completeness.requested(&admitted.into(), &information).await;
                        self.ingress.commitments.accept(admitted.into(), information).await
                    }
                    (Ok(_), None) => Err(Status::PROCESSING_FAILURE),
                    (Err(status), _) => Err(status),
                };
                let status = taken.as_ref().err().copied().unwrap_or(Status::SUCCESS);
                self.answer(context_id, &command, &commitment::action_response(&command, status));
                if let Ok(ticket) = taken {
                    // A request that is repeated is reported once; what is too much here goes to who reports elsewhere.
                    self.reports.retain(|report| report.sent.is_some() || !report.ticket.is_for_that_of(&ticket));
                    if self.reports.len() < REPORTS_MAX {
                        self.reports.push_back(Report { ticket, context_id, sent: None });
                    }
                }
            }
            Some(InFlight::Ask { command, identifier }) => self.ask(context_id, command, identifier).await,
            Some(InFlight::Refused { response }) => self.respond(context_id, &response),
            None => {}
        }
        Ok(())
    }

    /// A request for storage commitment is complete; the error is the status of its answer.
    fn action(&self, context_id: u8, information: Option<Vec<u8>>) -> Result<ActionInformation, Status> {
        let (Some(context), Some(admitted)) = (self.acceptor.context(context_id), self.admitted.as_ref()) else {
            return Err(Status::PROCESSING_FAILURE);
        };
        let commitments = &self.ingress.commitments;
        let refused = |status: Status, cause: &str| {
            let inbound = admitted.row.name.as_str();
            tracing::warn!(inbound, calling_ae_title = admitted.calling_ae, %status, "a request for storage commitment is refused: {cause}");
            status
        };
        let Some(bytes) = information else {
            return Err(refused(Status::RESOURCE_LIMITATION, "it is longer than commitment.references_max allows"));
        };
        let read = ActionInformation::read(&context.transfer_syntax, &bytes, commitments.references_max());
        read.map_err(|error| refused(error.status(), &error.to_string()))
    }

    /// Sends the next storage commitment report, if one waits and no message is on its way; gives back whether there is
    /// something to do now. Its decision is made here, when the answer to the request has left.
    async fn report(&mut self) -> bool {
        let Some(next) = self.reports.front().filter(|next| next.sent.is_none() && self.in_flight.is_none()) else { return false };
        let context = self.acceptor.context(next.context_id);
        let information = self.ingress.commitments.report(&next.ticket).await;
        let encoded = match (information, context) {
            (Ok(information), Some(context)) => {
                information.encode(&context.transfer_syntax).map(|data| (information.event_type(), data)).map_err(|error| error.to_string())
            }
            (Err(error), _) => Err(error.to_string()),
            (Ok(_), None) => Err("its presentation context is gone".to_owned()),
        };
        let context_id = next.context_id;
        self.message_id = self.message_id.wrapping_add(1);
        let mut actions = Vec::new();
        let sent = encoded.and_then(|(event_type, data)| {
            let command = commitment::event_report_request(self.message_id, event_type);
            let sent = self.acceptor.send_command(context_id, &command, &mut actions);
            let sent = sent.and_then(|()| self.acceptor.send_data(context_id, data, true, &mut actions));
            sent.map_err(|error| error.to_string())
        });
        match sent {
            Ok(()) => {
                let until = Instant::now() + self.ingress.commitments.answer_wait();
                self.reports.iter_mut().take(1).for_each(|report| report.sent = Some((self.message_id, until)));
            }
            Err(cause) => {
                tracing::warn!(peer = %self.peer.address, cause, "a storage commitment report cannot be made on this association");
                self.reports.pop_front();
            }
        }
        self.actions.extend(actions);
        true
    }

    /// A response: to the report that is on its way, or to none that is waited for any more.
    async fn reported(&mut self, response: &CommandSet) {
        let Some((message_id, _)) = self.reports.front().and_then(|report| report.sent) else { return };
        if let Some(status) = commitment::event_report_status(response, message_id)
            && let Some(report) = self.reports.pop_front()
        {
            self.ingress.commitments.answered(report.ticket, status).await;
        }
    }

    fn answer(&mut self, context_id: u8, request: &CommandSet, response: &CommandSet) {
        self.dispatcher.answered(request.message_id());
        self.respond(context_id, response);
    }

    fn respond(&mut self, context_id: u8, response: &CommandSet) {
        let mut actions = Vec::new();
        if let Err(error) = self.acceptor.send_command(context_id, response, &mut actions) {
            tracing::debug!(%error, "the association ended before the answer");
        }
        self.actions.extend(actions);
    }

    /// The association ends: what is incomplete is discarded, and the place in the count of associations is free.
    async fn abandon(&mut self) {
        if let Some(InFlight::Store { reception, .. }) = self.in_flight.take() {
            reception.abort().await;
        }
        self.asked = None;
        // Their tickets go to who reports elsewhere.
        self.reports.clear();
        self.admitted = None;
    }
}

/// Adds a fragment to the bytes so far; from the first one that has no room on there are none.
fn gather(so_far: &mut Option<Vec<u8>>, fragment: &[u8], room: usize) {
    *so_far = so_far.take().filter(|so_far| so_far.len() + fragment.len() <= room);
    so_far.iter_mut().for_each(|so_far| so_far.extend_from_slice(fragment));
}

//! DIMSE listener: one task per association, over [`idr_host::inbound`].
//!
//! This file answers what a device asks for. Whether an association or an instance is wanted is
//! [`crate::admission`]; what happens to the bytes of an instance is [`crate::reception`]; what a device is told about them
//! later is [`crate::commitment`]; what the destination of what was forwarded reports, [`crate::forward::responsibility`]; what it says of a study is [`crate::completeness`]; what it may see is [`crate::query`].
//!
//! # Failure
//! An association that ends early, for whatever reason, discards the
//! instance in flight and nothing else (D014); a storage commitment report without an answer goes on another one. At shutdown the message in flight is answered, then the association ends.
//!
//! # Bounds
//! TCP connections at once, handshake time, ARTIM, silence in and between messages, least pace of a message ([`idr_host::inbound::Least`]), life of an
//! association, time to write: `[dimse]` of the configuration (profile 10 §11 BD-01 … BD-09).
//!
//! # Standard
//! PS3.8 §9.2; PS3.7 §9.3.1, §9.3.5, §10.1.1, §10.1.4; PS3.15 §B.12.

mod asked;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_dimse::association::acceptor::Answer;
use idr_dimse::association::negotiation::{Implementation, negotiate};
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::service::storage::{self, Outcome, StoreRequest};
use idr_dimse::service::storage_commitment::{self as commitment, ActionInformation};
use idr_dimse::service::{Dispatched, Dispatcher, normalized, verification};
use idr_dimse::status::Status;
use idr_host::accept::{self, Holding};
use idr_host::inbound::{Channel, Indication, Woken};
use idr_host::outbound::commitment::read as read_report;
use idr_host::places::{Connections, Place};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admitted, Ingress, Peer};
use crate::commitment::Ticket;
use crate::completeness::Operation;
use crate::reception::Reception;

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
    CommandField::N_EVENT_REPORT_RQ,
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
    accept::serve(listener, (&connections, Holding::Replaceable), &tasks, &stop, |stream, address, place| {
        let (transport, connections, ingress, stop) = (transport.clone(), connections.clone(), ingress.clone(), stop.clone());
        async move { connection(stream, address, transport, &connections, place, ingress, stop).await }
    })
    .await;
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
    let ended = match transport {
        Transport::Plain => {
            let peer = Peer { address: address.ip(), tls: false, certificate_sha256: None };
            Association::new(stream, peer, place, ingress, stop).run().await
        }
        Transport::Tls(config) => {
            let limit = Duration::from_secs(ingress.config().dimse.handshake_seconds);
            let Some(stream) = accept::handshake(stream, address.ip(), config.load_full(), connections, limit).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let certificate_sha256 = certificate.map(idr_profile::tls::fingerprint);
            let peer = Peer { address: address.ip(), tls: true, certificate_sha256 };
            Association::new(stream, peer, place, ingress, stop).run().await
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
    /// A report of storage commitment of what was forwarded; `None`: more bytes than it may have.
    Reported { command: CommandSet, data: Option<Vec<u8>> },
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
    channel: Channel<S>,
    peer: Peer,
    /// Its place among the connections; kept from the acceptance on.
    place: Place,
    ingress: Arc<Ingress>,
    stop: CancellationToken,
    dispatcher: Dispatcher,
    admitted: Option<Admitted>,
    in_flight: Option<InFlight>,
    /// A query or retrieve under way.
    asked: Option<asked::Asked>,
    /// One after the other, the first may be sent.
    reports: VecDeque<Report>,
    message_id: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Association<S> {
    fn new(stream: S, peer: Peer, place: Place, ingress: Arc<Ingress>, stop: CancellationToken) -> Self {
        let implementation =
            Implementation { class_uid: IMPLEMENTATION_CLASS_UID.to_owned(), version_name: Some(IMPLEMENTATION_VERSION_NAME.to_owned()) };
        let life = ingress.config().association_max();
        Self {
            channel: Channel::new((stream, peer.address), implementation, ingress.limits(), ingress.timeouts(), life)
                .with_least(ingress.least_pace()),
            peer,
            place,
            ingress,
            stop,
            dispatcher: Dispatcher::new(OPERATIONS),
            admitted: None,
            in_flight: None,
            asked: None,
            reports: VecDeque::new(),
            message_id: 0,
        }
    }

    async fn run(mut self) -> io::Result<()> {
        let ended = self.work().await;
        self.abandon().await;
        ended
    }

    async fn work(&mut self) -> io::Result<()> {
        loop {
            while let Some(indication) = self.channel.indication().await? {
                self.indicated(indication).await?;
            }
            if self.channel.is_over() {
                return Ok(());
            }
            if self.report().await {
                continue;
            }
            let busy = self.may_go_on();
            // A device that can be told nowhere else is waited for as long as the association lasts.
            let elsewhere = self.admitted.as_ref().is_some_and(|admitted| self.ingress.commitments.has_address(&admitted.row.name));
            let unanswered = self.reports.front().filter(|_| elsewhere).and_then(|report| report.sent).map(|(_, until)| until);
            let draining = self.stop.is_cancelled();
            if draining && self.in_flight.is_none() {
                // The peer is told; its end of the connection is not waited for.
                self.channel.abort();
                while let Some(indication) = self.channel.indication().await? {
                    self.indicated(indication).await?;
                }
                return Ok(());
            }
            // With something to do, the socket is looked at and not waited for.
            let until = if busy { Some(Instant::now()) } else { unanswered };
            let woken = tokio::select! {
                biased;
                woken = self.channel.wait(until) => woken?,
                () = self.stop.cancelled(), if !draining => continue,
            };
            match woken {
                Woken::Heard => {}
                Woken::TooSlow => {
                    self.ingress.counters.associations_too_slow.add(1);
                    // Its place is free at once, whether the peer closes or not.
                    self.abandon().await;
                }
                Woken::Until if busy => self.go_on().await?,
                // Another association may do better; the answer may still come on this one, and is then of no use.
                Woken::Until => drop(self.reports.pop_front()),
            }
        }
    }

    async fn indicated(&mut self, indication: Indication) -> io::Result<()> {
        match indication {
            Indication::Associate(request) => {
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
                self.channel.answer(answer);
                Ok(())
            }
            Indication::Command { context_id, command } => self.command(context_id, command).await,
            Indication::Data { context_id, fragment, last } => self.data(context_id, &fragment, last).await,
            Indication::Ended(cause) => {
                if let Some(cause) = cause {
                    tracing::info!(peer = %self.peer.address, %cause, "association ended early");
                }
                self.abandon().await;
                Ok(())
            }
        }
    }

    /// Whether its row still stands and fits (0124H, profile 01 §2).
    fn is_still_admitted(&self) -> bool {
        self.admitted.as_ref().is_some_and(|one| self.ingress.still_admits(&one.row, &one.in_force, &self.peer))
    }

    async fn command(&mut self, context_id: u8, command: CommandSet) -> io::Result<()> {
        match self.dispatcher.dispatch(&command) {
            Dispatched::Perform if command.command_field() == CommandField::C_ECHO_RQ => {
                self.answer(context_id, &command, &verification::response(&command));
            }
            Dispatched::Perform if command.command_field() == CommandField::N_ACTION_RQ => {
                let of_it = self.channel.context(context_id).is_some_and(|context| context.abstract_syntax == commitment::SOP_CLASS_UID);
                let checked = if !self.is_still_admitted() {
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
                let context = self.channel.context(context_id);
                let operation = Operation::of(context.map_or("", |context| &context.abstract_syntax), &command);
                let operation = if self.is_still_admitted() { operation } else { Err(Status::NOT_AUTHORIZED.into()) };
                self.in_flight = Some(match operation {
                    Ok(operation) => InFlight::Said { command, operation, data: Some(Vec::new()) },
                    Err(refused) => {
                        self.dispatcher.answered(command.message_id());
                        InFlight::Refused { response: normalized::response(&command, None, Err(&refused)) }
                    }
                });
            }
            Dispatched::Perform if command.command_field() == CommandField::N_EVENT_REPORT_RQ => {
                let taker = self.admitted.as_ref().and_then(|admitted| self.ingress.report_taker(&admitted.row));
                let status = if !self.is_still_admitted() {
                    Some(Status::NOT_AUTHORIZED)
                } else {
                    taker.is_none().then_some(Status::UNRECOGNIZED_OPERATION)
                };
                self.in_flight = Some(match status {
                    None => InFlight::Reported { command, data: Some(Vec::new()) },
                    Some(status) => {
                        self.dispatcher.answered(command.message_id());
                        InFlight::Refused { response: commitment::event_report_response(&command, status) }
                    }
                });
            }
            Dispatched::Perform if QUERIES.contains(&command.command_field()) => {
                self.in_flight = Some(InFlight::Ask { command, identifier: Some(Vec::new()) });
            }
            Dispatched::Perform => {
                let (Some(request), Some(context), Some(admitted)) =
                    (StoreRequest::read(&command), self.channel.context(context_id), self.admitted.as_ref())
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
        let report_bytes_max = commitment::data_set_bytes_max(self.reported_max());
        match &mut self.in_flight {
            Some(InFlight::Store { reception, .. }) => reception.feed(fragment).await,
            Some(InFlight::Action { information, .. }) => gather(information, fragment, self.ingress.commitments.request_bytes_max()),
            Some(InFlight::Said { data, .. }) => gather(data, fragment, self.ingress.completeness.request_bytes_max()),
            Some(InFlight::Reported { data, .. }) => gather(data, fragment, report_bytes_max),
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
                let response = match (self.channel.context(context_id), &self.admitted) {
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
            Some(InFlight::Reported { command, data }) => {
                let taker = self.admitted.as_ref().and_then(|admitted| self.ingress.report_taker(&admitted.row)).cloned();
                let status = match (taker, self.channel.context(context_id)) {
                    (Some(taker), Some(context)) => {
                        let syntax = context.transfer_syntax.as_str();
                        taker.report_came(&read_report(&command, data.as_deref(), syntax, self.reported_max())).await
                    }
                    _ => Status::UNRECOGNIZED_OPERATION,
                };
                self.answer(context_id, &command, &commitment::event_report_response(&command, status));
            }
            Some(InFlight::Ask { command, identifier }) => self.ask(context_id, command, identifier).await,
            Some(InFlight::Refused { response }) => self.respond(context_id, &response),
            None => {}
        }
        Ok(())
    }

    /// A request for storage commitment is complete; the error is the status of its answer.
    fn action(&self, context_id: u8, information: Option<Vec<u8>>) -> Result<ActionInformation, Status> {
        let (Some(context), Some(admitted)) = (self.channel.context(context_id), self.admitted.as_ref()) else {
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

    /// Most instances of a report of the destination.
    fn reported_max(&self) -> usize {
        let config = self.ingress.config();
        config.centre.as_ref().and_then(|centre| centre.dimse.as_ref()).map_or(0, |archive| archive.references_max)
    }

    /// Sends the next storage commitment report, if one waits and no message is on its way; gives back whether there is
    /// something to do now. Its decision is made here, when the answer to the request has left.
    async fn report(&mut self) -> bool {
        let Some(next) = self.reports.front().filter(|next| next.sent.is_none() && self.in_flight.is_none()) else { return false };
        let context = self.channel.context(next.context_id);
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
        let sent = encoded.and_then(|(event_type, data)| {
            let command = commitment::event_report_request(self.message_id, event_type);
            let sent = self.channel.send_command(context_id, &command);
            let sent = sent.and_then(|()| self.channel.send_data(context_id, data, true));
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
        if let Err(error) = self.channel.send_command(context_id, response) {
            tracing::debug!(%error, "the association ended before the answer");
        }
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

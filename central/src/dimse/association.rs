//! One association of a peer, over [`idr_host::inbound`]: what it asks for, and its answers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use idr_dimse::association::acceptor::Answer;
use idr_dimse::association::negotiation::{Request, negotiate};
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::service::storage::{self, Outcome, StoreRequest};
use idr_dimse::service::storage_commitment::{self as commitment, ActionInformation};
use idr_dimse::service::{Dispatched, Dispatcher, verification};
use idr_dimse::status::Status;
use idr_host::inbound::{Channel, Indication, Woken};
use idr_host::places::Place;
use idr_profile::access::Gate;
use idr_profile::rules::Occurrence;
use idr_profile::xua::Transaction;
use idr_profile::xua::dimse::error_comment;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::admission::Admitted;
use super::commitment::{Asking, Ticket};
use super::{Dimse, implementation, limits};
use crate::archive::receive::{self, Announced, Cause, Incoming, StoreRefused, Storing, Way};
use crate::assertion::{self, Asked};
use crate::https::server::Client;

const OPERATIONS: &[CommandField] = &[CommandField::C_ECHO_RQ, CommandField::C_STORE_RQ, CommandField::N_ACTION_RQ];
/// Storage commitment reports that wait on one association.
const REPORTS_MAX: usize = 64;

/// What the bytes of the data set in flight are for.
enum InFlight {
    /// An instance.
    Store { command: CommandSet, incoming: Box<Incoming> },
    /// A request for storage commitment; `None`: more bytes than it may have.
    Action { command: CommandSet, information: Option<Vec<u8>> },
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

/// An association from its connection to its end.
pub(super) struct Association<S> {
    channel: Channel<S>,
    client: Client,
    /// Its place among the connections; kept from the acceptance on.
    place: Place,
    dimse: Arc<Dimse>,
    stop: CancellationToken,
    dispatcher: Dispatcher,
    admitted: Option<Admitted>,
    /// All that it stores is one request, with one opening record for each study.
    storing: Option<Arc<Storing>>,
    /// C-STOREs so far.
    instances: usize,
    /// That its identity is over has its record.
    expired: bool,
    in_flight: Option<InFlight>,
    /// One after the other, the first may be sent.
    reports: VecDeque<Report>,
    message_id: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Association<S> {
    pub(super) fn new(stream: S, client: Client, place: Place, dimse: Arc<Dimse>, stop: CancellationToken) -> Self {
        let life = dimse.central.config.dimse.association_max();
        let limits = limits(&dimse.central.config);
        let least = dimse.central.config.dimse.least_pace();
        let channel = Channel::new((stream, client.address.ip()), implementation(), limits, dimse.timeouts(), life).with_least(least);
        let dispatcher = Dispatcher::new(OPERATIONS);
        let reports = VecDeque::new();
        Self {
            channel,
            client,
            place,
            dimse,
            stop,
            dispatcher,
            admitted: None,
            storing: None,
            instances: 0,
            expired: false,
            in_flight: None,
            reports,
            message_id: 0,
        }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        let ended = self.work().await;
        self.abandon(false).await;
        ended
    }

    async fn work(&mut self) -> io::Result<()> {
        loop {
            self.settle().await?;
            if self.channel.is_over() {
                return Ok(());
            }
            if self.report().await {
                continue;
            }
            // A peer that can be told nowhere else is waited for as long as the association lasts.
            let elsewhere = self.admitted.as_ref().is_some_and(|admitted| self.dimse.commitments.has_address(&admitted.peer.row.name));
            let unanswered = self.reports.front().filter(|_| elsewhere).and_then(|report| report.sent).map(|(_, until)| until);
            let draining = self.stop.is_cancelled();
            if draining && self.in_flight.is_none() {
                // The peer is told; its end of the connection is not waited for.
                self.channel.abort();
                return self.settle().await;
            }
            tokio::select! {
                biased;
                woken = self.channel.wait(unanswered) => if woken? == Woken::Until {
                    // Another association may do better; the answer may still come on this one, and is then of no use.
                    self.reports.pop_front();
                },
                () = self.stop.cancelled(), if !draining => {}
            }
        }
    }

    async fn settle(&mut self) -> io::Result<()> {
        while let Some(indication) = self.channel.indication().await? {
            match indication {
                Indication::Associate(request) => self.associate(&request).await?,
                Indication::Command { context_id, command } => self.command(context_id, command).await,
                Indication::Data { context_id, fragment, last } => self.data(context_id, fragment, last).await,
                Indication::Ended(cause) => {
                    if let Some(cause) = &cause {
                        tracing::info!(peer = %self.client.address.ip(), %cause, "association ended early");
                    }
                    self.abandon(cause.is_none()).await;
                }
            }
        }
        Ok(())
    }

    async fn associate(&mut self, request: &Request) -> io::Result<()> {
        let counters = &self.dimse.central.counters;
        let answer = match self.dimse.associate(request, &self.client).await {
            Ok(admitted) => match negotiate(request, &admitted.policy) {
                // The place went to another just now: this task is ended.
                Ok(_) if !self.place.keep() => return Err(io::Error::other("its place was needed for another")),
                Ok(acceptance) => {
                    tracing::info!(
                        row = admitted.peer.row.name,
                        calling_ae_title = admitted.calling_ae,
                        contexts = acceptance.accepted().len(),
                        identity = admitted.who.is_some(),
                        "association accepted"
                    );
                    self.admitted = Some(admitted);
                    Answer::Accept(acceptance)
                }
                Err(rejection) => Answer::Reject(rejection),
            },
            Err(rejection) => Answer::Reject(rejection),
        };
        match answer {
            Answer::Accept(_) => counters.associations_accepted.add(1),
            Answer::Reject(_) => counters.associations_rejected.add(1),
        }
        self.channel.answer(answer);
        Ok(())
    }

    async fn command(&mut self, context_id: u8, command: CommandSet) {
        match self.dispatcher.dispatch(&command) {
            Dispatched::Perform if command.command_field() == CommandField::C_ECHO_RQ => {
                self.answer(context_id, &command, &verification::response(&command));
            }
            Dispatched::Perform if command.command_field() == CommandField::N_ACTION_RQ => {
                self.in_flight = Some(match self.may_ask(context_id, &command).await {
                    Ok(()) => InFlight::Action { command, information: Some(Vec::new()) },
                    Err(status) => {
                        self.dispatcher.answered(command.message_id());
                        InFlight::Refused { response: commitment::action_response(&command, status) }
                    }
                });
            }
            Dispatched::Perform => match self.begin(context_id, &command).await {
                Ok(incoming) => self.in_flight = Some(InFlight::Store { command, incoming: Box::new(incoming) }),
                Err(outcome) => {
                    self.dispatcher.answered(command.message_id());
                    self.in_flight = Some(InFlight::Refused { response: storage::response(&command, &outcome) });
                }
            },
            Dispatched::Refuse(response) if command.has_data_set() => self.in_flight = Some(InFlight::Refused { response }),
            Dispatched::Refuse(response) => self.respond(context_id, &response),
            Dispatched::Response => self.reported(&command).await,
            Dispatched::Cancel(_) | Dispatched::Nothing => {}
        }
    }

    /// Begins an instance; the error is the answer to it.
    async fn begin(&mut self, context_id: u8, command: &CommandSet) -> Result<Incoming, Outcome> {
        let (Some(request), Some(context), Some(admitted)) =
            (StoreRequest::read(command), self.channel.context(context_id), &self.admitted)
        else {
            // Not reached: nothing else is performed, and on an accepted context. Refuse rather than trust.
            return Err(Outcome::new(Status::PROCESSING_FAILURE));
        };
        let central = &self.dimse.central;
        let who = match self.dimse.still_good(admitted, &self.client) {
            Ok(who) => who,
            Err(refusal) => {
                if let (Some(who), Some(refusal)) = (&admitted.who, refusal)
                    && !std::mem::replace(&mut self.expired, true)
                {
                    assertion::refused(central, &who.asked, Some(who.claims()), refusal).await;
                }
                return Err(with_comment(Status::NOT_AUTHORIZED, refusal.as_ref().map(error_comment).unwrap_or_default()));
            }
        };
        let storing = match &self.storing {
            Some(storing) => storing.clone(),
            None => {
                let storing = Storing::begin(central.clone(), who.clone(), None).await.map_err(|refused| as_a_whole(&refused))?;
                self.storing.insert(Arc::new(storing)).clone()
            }
        };
        let way = Way::Dimse {
            affected_class: request.sop_class_uid.unwrap_or_default(),
            affected_instance: request.sop_instance_uid.unwrap_or_default(),
            abstract_syntax: context.abstract_syntax.clone(),
            transfer_syntax: context.transfer_syntax.clone(),
            calling_ae_title: admitted.calling_ae.clone(),
        };
        let announced = Announced { part: self.instances, way, acceptance: None };
        self.instances += 1;
        Ok(storing.open(announced).await)
    }

    /// Whether a request for storage commitment may be made here; the error is the status of its answer.
    async fn may_ask(&mut self, context_id: u8, command: &CommandSet) -> Result<(), Status> {
        let of_it = self.channel.context(context_id).is_some_and(|context| context.abstract_syntax == commitment::SOP_CLASS_UID);
        if !of_it {
            return Err(Status::UNRECOGNIZED_OPERATION);
        }
        let who = self.admitted.as_ref().ok_or(Status::NOT_AUTHORIZED).map(|admitted| self.dimse.still_good(admitted, &self.client))?;
        let who = who.map_err(|_| Status::NOT_AUTHORIZED)?;
        // In class AU alone (04 §2): a person does not ask for it.
        if Transaction::StorageCommitment.class(who.claims().purpose) != Some(who.class) {
            let asked = Asked { transaction: Some(Transaction::StorageCommitment), ..who.asked.clone() };
            assertion::refused(&self.dimse.central, &asked, Some(who.claims()), Gate::G2.into()).await;
            return Err(Status::NOT_AUTHORIZED);
        }
        commitment::check_action(command)
    }

    /// A request for storage commitment is complete; the error is the status of its answer.
    async fn action(&mut self, context_id: u8, information: Option<Vec<u8>>) -> Result<Ticket, Status> {
        let (Some(context), Some(admitted)) = (self.channel.context(context_id), &self.admitted) else {
            return Err(Status::PROCESSING_FAILURE);
        };
        let Some(who) = &admitted.who else { return Err(Status::NOT_AUTHORIZED) };
        let (commitments, peer) = (&self.dimse.commitments, admitted.peer.row.name.as_str());
        let refused = |status: Status, cause: &str| {
            tracing::warn!(peer, calling_ae_title = admitted.calling_ae, %status, "a request for storage commitment is refused: {cause}");
            status
        };
        let Some(bytes) = information else {
            return Err(refused(Status::RESOURCE_LIMITATION, "it is longer than commitment.references_max allows"));
        };
        let read = ActionInformation::read(&context.transfer_syntax, &bytes, commitments.references_max());
        let information = read.map_err(|error| refused(error.status(), &error.to_string()))?;
        commitments.accept(&Asking { who, peer, calling_ae: &admitted.calling_ae, called_ae: &admitted.called_ae }, information).await
    }

    /// Sends the next storage commitment report, if one waits and no message is on its way; gives back whether there is
    /// something to do now.
    async fn report(&mut self) -> bool {
        let Some(next) = self.reports.front().filter(|next| next.sent.is_none() && self.in_flight.is_none()) else { return false };
        let (information, context_id) = (self.dimse.commitments.report(&next.ticket).await, next.context_id);
        let encoded = match (information, self.channel.context(context_id)) {
            (Ok(Some(information)), Some(context)) => {
                information.encode(&context.transfer_syntax).map(|data| (information.event_type(), data)).map_err(|error| error.to_string())
            }
            (Err(error), _) => Err(error.to_string()),
            (Ok(None), _) => Err("it was made elsewhere".to_owned()),
            (_, None) => Err("its presentation context is gone".to_owned()),
        };
        self.message_id = self.message_id.wrapping_add(1);
        let sent = encoded.and_then(|(event_type, data)| {
            let command = commitment::event_report_request(self.message_id, event_type);
            let sent = self.channel.send_command(context_id, &command);
            sent.and_then(|()| self.channel.send_data(context_id, data, true)).map_err(|error| error.to_string())
        });
        match sent {
            Ok(()) => {
                let until = Instant::now() + self.dimse.commitments.answer_wait();
                self.reports.iter_mut().take(1).for_each(|report| report.sent = Some((self.message_id, until)));
            }
            Err(cause) => {
                tracing::warn!(peer = %self.client.address.ip(), cause, "a storage commitment report cannot be made on this association");
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
            self.dimse.commitments.answered(report.ticket, status).await;
        }
    }

    async fn data(&mut self, context_id: u8, fragment: Bytes, last: bool) {
        match &mut self.in_flight {
            Some(InFlight::Store { incoming, .. }) => incoming.feed(fragment).await,
            Some(InFlight::Action { information, .. }) => {
                let room = self.dimse.commitments.request_bytes_max();
                *information = information.take().filter(|so_far| so_far.len() + fragment.len() <= room);
                information.iter_mut().for_each(|so_far| so_far.extend_from_slice(&fragment));
            }
            Some(InFlight::Refused { .. }) | None => {}
        }
        if !last {
            return;
        }
        match self.in_flight.take() {
            Some(InFlight::Store { command, incoming }) => {
                let received = incoming.finish().await;
                self.answer(context_id, &command, &storage::response(&command, &outcome(received.outcome)));
            }
            Some(InFlight::Action { command, information }) => {
                let taken = self.action(context_id, information).await;
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
            Some(InFlight::Refused { response }) => self.respond(context_id, &response),
            None => {}
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

    /// The association ends: what is incomplete is discarded, its records are closed.
    async fn abandon(&mut self, in_good_order: bool) {
        if let Some(InFlight::Store { incoming, .. }) = self.in_flight.take() {
            let central = &self.dimse.central;
            let finding = central.rules_in_force().and_then(|rules| rules.occurrence(Occurrence::TransferAborted, central.now()));
            if let Some(finding) = finding {
                tracing::warn!(rule = finding.rule, peer = %self.client.address.ip(), remedy = finding.remedy, "{}", finding.comment);
            }
            incoming.abort().await;
        }
        if let Some(storing) = self.storing.take() {
            storing.end(in_good_order.then(|| Status::SUCCESS.to_string())).await;
        }
        // Their tickets go to who reports elsewhere.
        self.reports.clear();
        self.admitted = None;
    }
}

/// What became of an instance, as its answer.
fn outcome(of: receive::Outcome) -> Outcome {
    match of {
        receive::Outcome::Stored { warning, .. } => Outcome::new(warning.map_or(Status::SUCCESS, Status)),
        receive::Outcome::Failed { reason, cause: Cause::Identity(refusal), .. } => with_comment(Status(reason), error_comment(&refusal)),
        receive::Outcome::Failed { reason, comment, offending, .. } => {
            Outcome { offending_elements: offending, ..with_comment(Status(reason), comment.unwrap_or_default()) }
        }
    }
}

/// Why nothing of an association can be stored, as the answer to an instance.
fn as_a_whole(refused: &StoreRefused) -> Outcome {
    match refused {
        StoreRefused::Identity(refusal) => with_comment(Status::NOT_AUTHORIZED, error_comment(refusal)),
        StoreRefused::NoRules | StoreRefused::NoSpace | StoreRefused::NoAudit => {
            tracing::error!("{refused}");
            Outcome::new(Status::OUT_OF_RESOURCES)
        }
        StoreRefused::Store(error) => {
            tracing::error!(cause = %error, "the store does not answer");
            Outcome::new(Status::PROCESSING_FAILURE)
        }
    }
}

fn with_comment(status: Status, error_comment: String) -> Outcome {
    Outcome { error_comment, ..Outcome::new(status) }
}

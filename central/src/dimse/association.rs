//! One association of a peer, over [`idr_host::inbound`]: what it asks for, and its answers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use idr_dimse::association::acceptor::Answer;
use idr_dimse::association::negotiation::{Request, negotiate};
use idr_dimse::message::command_set::{CommandField, CommandSet};
use idr_dimse::service::storage::{self, Outcome, StoreRequest};
use idr_dimse::service::{Dispatched, Dispatcher, verification};
use idr_dimse::status::Status;
use idr_host::inbound::{Channel, Indication};
use idr_host::places::Place;
use idr_profile::access::Gate;
use idr_profile::rules::Occurrence;
use idr_profile::xua::dimse::error_comment;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::admission::Admitted;
use super::{Dimse, implementation};
use crate::archive::receive::{self, Announced, Cause, Incoming, StoreRefused, Storing, Way};
use crate::assertion;
use crate::https::server::Client;

const OPERATIONS: &[CommandField] = &[CommandField::C_ECHO_RQ, CommandField::C_STORE_RQ];

/// What the bytes of the data set in flight are for.
enum InFlight {
    /// An instance.
    Store { command: CommandSet, incoming: Box<Incoming> },
    /// Nothing: the operation is refused, and answered when its data set has passed.
    Refused { response: CommandSet },
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
}

impl<S: AsyncRead + AsyncWrite + Unpin> Association<S> {
    pub(super) fn new(stream: S, client: Client, place: Place, dimse: Arc<Dimse>, stop: CancellationToken) -> Self {
        let life = dimse.central.config.dimse.association_max();
        let channel = Channel::new((stream, client.address.ip()), implementation(), dimse.limits(), dimse.timeouts(), life);
        let dispatcher = Dispatcher::new(OPERATIONS);
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
            let draining = self.stop.is_cancelled();
            if draining && self.in_flight.is_none() {
                // The peer is told; its end of the connection is not waited for.
                self.channel.abort();
                return self.settle().await;
            }
            tokio::select! {
                biased;
                woken = self.channel.wait(None) => drop(woken?),
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
            Dispatched::Perform => match self.begin(context_id, &command).await {
                Ok(incoming) => self.in_flight = Some(InFlight::Store { command, incoming: Box::new(incoming) }),
                Err(outcome) => {
                    self.dispatcher.answered(command.message_id());
                    self.in_flight = Some(InFlight::Refused { response: storage::response(&command, &outcome) });
                }
            },
            Dispatched::Refuse(response) if command.has_data_set() => self.in_flight = Some(InFlight::Refused { response }),
            Dispatched::Refuse(response) => self.respond(context_id, &response),
            Dispatched::Response | Dispatched::Cancel(_) | Dispatched::Nothing => {}
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
        let Some(who) = &admitted.who else { return Err(Outcome::new(Status::NOT_AUTHORIZED)) };
        if !self.dimse.still_admits(admitted, &self.client) {
            return Err(Outcome::new(Status::NOT_AUTHORIZED));
        }
        if who.subject.usable_until() <= central.now() {
            let mut refusal = Gate::G1.into();
            if !self.expired {
                refusal = assertion::refused(central, &who.asked, Some(who.claims()), refusal).await;
                self.expired = true;
            }
            return Err(with_comment(Status::NOT_AUTHORIZED, error_comment(&refusal)));
        }
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

    async fn data(&mut self, context_id: u8, fragment: Bytes, last: bool) {
        if let Some(InFlight::Store { incoming, .. }) = &mut self.in_flight {
            incoming.feed(fragment).await;
        }
        if !last {
            return;
        }
        match self.in_flight.take() {
            Some(InFlight::Store { command, incoming }) => {
                let received = incoming.finish().await;
                self.answer(context_id, &command, &storage::response(&command, &outcome(received.outcome)));
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

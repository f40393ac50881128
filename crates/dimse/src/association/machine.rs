//! What acceptor and requestor have in common: the state, the messages in both directions, and the actions of Tables 9-7
//! to 9-9.

use std::time::Duration;

use bytes::Bytes;

use super::table::{Role, State, Step, Trigger, transition};
use super::{Action, Cause, Context, SendError};
use crate::limits::{Limits, Timeouts};
use crate::message::MessageError;
use crate::message::assembler::{Assembler, Part};
use crate::message::command_set::CommandSet;
use crate::message::fragmenter::Fragmenter;
use crate::pdu::{Fragment, Pdu, Pdv};

#[derive(Debug)]
pub(super) struct Machine {
    pub state: State,
    role: Role,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub contexts: Vec<Context>,
    assembler: Assembler,
    fragmenter: Fragmenter,
    /// Presentation context of the data set that we are sending.
    sending: Option<u8>,
    /// Requests we sent that have no final response yet.
    unanswered: usize,
}

impl Machine {
    pub fn new(role: Role, state: State, limits: Limits, timeouts: Timeouts) -> Self {
        Machine {
            state,
            role,
            limits,
            timeouts,
            contexts: Vec::new(),
            assembler: Assembler::new(limits.command_set_length_max),
            fragmenter: Fragmenter::new(limits.send_length_max, limits.send_length_max),
            sending: None,
            unanswered: 0,
        }
    }

    /// Looks the trigger up and moves on; `None` for a blank cell.
    pub fn enter(&mut self, trigger: Trigger) -> Option<Step> {
        let (step, next) = transition(trigger, self.state, self.role)?;
        self.state = next;
        Some(step)
    }

    /// The association is agreed. `peer_length_max` as in the peer's maximum length sub-item, 0 for unlimited.
    pub fn establish(&mut self, contexts: Vec<Context>, peer_length_max: u32) {
        self.contexts = contexts;
        self.fragmenter = Fragmenter::new(peer_length_max, self.limits.send_length_max);
    }

    /// Whether P-DATA-TF of this length at most (0 for unlimited) can carry anything.
    pub fn peer_length_works(&self, peer_length_max: u32) -> bool {
        peer_length_max == 0 || peer_length_max >= self.limits.peer_length_min
    }

    pub fn fragment_length_max(&self) -> usize {
        self.fragmenter.fragment_length_max()
    }

    /// Longest silence on the connection in this state; `None` where it is not the peer's turn, or ARTIM bounds the whole.
    pub fn idle_limit(&self) -> Option<Duration> {
        match self.state {
            State::Sta5 | State::Sta7 | State::Sta10 | State::Sta11 => Some(self.timeouts.association),
            State::Sta6 if !self.assembler.is_between_messages() => Some(self.timeouts.receive),
            State::Sta6 if self.unanswered > 0 => Some(self.timeouts.response),
            State::Sta6 => Some(self.timeouts.between_messages),
            _ => None,
        }
    }

    /// A message of the peer has begun and is not complete.
    pub fn is_receiving(&self) -> bool {
        self.state == State::Sta6 && !self.assembler.is_between_messages()
    }

    /// The actions that do not depend on the role. `cause` says why, should the step end the association.
    pub fn run<I>(&mut self, step: Step, pdvs: Vec<Pdv>, cause: Cause, out: &mut Vec<Action<I>>) {
        match step {
            Step::AE5 => out.push(Action::StartArtim(self.timeouts.artim)),
            Step::DT2 | Step::AR6 => self.receive(pdvs, out),
            Step::AR1 => out.push(Action::Send(Pdu::ReleaseRq)),
            Step::AR2 => out.push(Action::ReleaseRequested),
            // In a collision the acceptor may answer only after the requestor did: it is told with AR-10, when it can.
            Step::AR8 if self.state == State::Sta10 => {}
            Step::AR8 | Step::AR10 => out.push(Action::ReleaseRequested),
            Step::AR3 => out.extend([Action::Released, Action::CloseTransport]),
            Step::AR4 => out.extend([Action::Send(Pdu::ReleaseRp), Action::StartArtim(self.timeouts.artim), Action::Released]),
            Step::AR5 | Step::AA5 => out.push(Action::StopArtim),
            Step::AR9 => out.push(Action::Send(Pdu::ReleaseRp)),
            Step::AA1 | Step::AA8 => self.abort(cause, out),
            Step::AA2 => out.extend([Action::StopArtim, Action::CloseTransport]),
            Step::AA3 => out.extend([Action::Aborted(cause), Action::CloseTransport]),
            Step::AA4 => out.push(Action::Aborted(cause)),
            Step::AA6 => {}
            Step::AA7 => out.push(Action::Send(Pdu::Abort(cause.abort()))),
            // The role's own, or not made by an event: `send_command` and `send_data` are DT-1 and AR-7.
            Step::AE2 | Step::AE3 | Step::AE4 | Step::AE6 | Step::AE7 | Step::AE8 | Step::DT1 | Step::AR7 => {}
        }
    }

    /// Sends A-ABORT and waits for the peer to close.
    pub fn abort<I>(&mut self, cause: Cause, out: &mut Vec<Action<I>>) {
        self.state = State::Sta13;
        out.extend([Action::Send(Pdu::Abort(cause.abort())), Action::StartArtim(self.timeouts.artim), Action::Aborted(cause)]);
    }

    fn receive<I>(&mut self, pdvs: Vec<Pdv>, out: &mut Vec<Action<I>>) {
        for pdv in pdvs {
            let part = match self.contexts.iter().any(|context| context.id == pdv.context_id) {
                true => self.assembler.push(pdv),
                false => Err(MessageError::Context(pdv.context_id)),
            };
            match part {
                Ok(None) => {}
                Ok(Some(Part::Data { context_id, fragment, last })) => out.push(Action::Data { context_id, fragment, last }),
                Ok(Some(Part::Command { context_id, command })) => {
                    if command.is_final_response() {
                        self.unanswered = self.unanswered.saturating_sub(1);
                    }
                    out.push(Action::Command { context_id, command });
                }
                Err(error) => return self.abort(Cause::Message(error), out),
            }
        }
    }

    pub fn send_command<I>(&mut self, context_id: u8, command: &CommandSet, out: &mut Vec<Action<I>>) -> Result<(), SendError> {
        self.may_send(context_id)?;
        if self.sending.is_some() {
            return Err(SendError::Order(context_id));
        }
        self.sending = command.has_data_set().then_some(context_id);
        if command.awaits_response() {
            self.unanswered += 1;
        }
        self.send(context_id, Fragment::Command, command.encode(), true, out);
        Ok(())
    }

    pub fn send_data<I>(&mut self, context_id: u8, data: Bytes, last: bool, out: &mut Vec<Action<I>>) -> Result<(), SendError> {
        self.may_send(context_id)?;
        if self.sending != Some(context_id) {
            return Err(SendError::Order(context_id));
        }
        if !last && data.len() % 2 == 1 {
            return Err(SendError::OddLength(data.len()));
        }
        if last {
            self.sending = None;
        }
        self.send(context_id, Fragment::Data, data, last, out);
        Ok(())
    }

    fn may_send(&self, context_id: u8) -> Result<(), SendError> {
        if !matches!(transition(Trigger::DataReq, self.state, self.role), Some((Step::DT1 | Step::AR7, _))) {
            return Err(SendError::NotEstablished(self.state));
        }
        match self.contexts.iter().any(|context| context.id == context_id) {
            true => Ok(()),
            false => Err(SendError::Context(context_id)),
        }
    }

    fn send<I>(&self, context_id: u8, kind: Fragment, data: Bytes, last: bool, out: &mut Vec<Action<I>>) {
        out.extend(self.fragmenter.fragments(context_id, kind, data, last).map(|pdv| Action::Send(Pdu::Data(vec![pdv]))));
    }
}

/// The row of the table for a received PDU, what it carries, and the cause should it end the association.
pub(super) fn received(pdu: Pdu, state: State) -> (Trigger, Carried, Cause) {
    let cause = Cause::Unexpected { pdu_type: pdu.pdu_type(), state };
    match pdu {
        Pdu::AssociateRq(rq) => (Trigger::RqPdu, Carried::Request(rq), cause),
        Pdu::AssociateAc(ac) => (Trigger::AcPdu, Carried::Accept(ac), cause),
        Pdu::AssociateRj(rejection) => (Trigger::RjPdu, Carried::Reject(rejection), cause),
        Pdu::Data(pdvs) => (Trigger::DataPdu, Carried::Pdvs(pdvs), cause),
        Pdu::ReleaseRq => (Trigger::ReleaseRqPdu, Carried::Nothing, cause),
        Pdu::ReleaseRp => (Trigger::ReleaseRpPdu, Carried::Nothing, cause),
        Pdu::Abort(abort) => (Trigger::AbortPdu, Carried::Nothing, Cause::Peer(abort)),
    }
}

/// What comes with an event.
#[derive(Debug)]
pub(super) enum Carried {
    Nothing,
    Request(Box<dicom_ul::pdu::AssociationRQ>),
    Accept(Box<dicom_ul::pdu::AssociationAC>),
    Reject(crate::pdu::Rejection),
    Answer(super::acceptor::Answer),
    Pdvs(Vec<Pdv>),
}

impl Carried {
    /// The presentation data values, if that is what it is.
    pub fn pdvs(self) -> Vec<Pdv> {
        match self {
            Carried::Pdvs(pdvs) => pdvs,
            _ => Vec::new(),
        }
    }
}

//! The requesting side of an association (PS3.8 §9.2).
//!
//! The driver opens the transport connection (AE-1) and makes the machine; it starts in Sta4.

use std::time::Duration;

use bytes::Bytes;

use super::machine::{Carried, Machine, received};
use super::negotiation::{Acceptance, Request};
use super::table::{Role, State, Step, Trigger};
use super::{Cause, Context, SendError};
use crate::codec::DecodeError;
use crate::limits::{Limits, Timeouts};
use crate::message::command_set::CommandSet;
use crate::pdu::{Pdu, Rejection};

/// What the driver shall do; the confirmation of the association is a [`Confirmation`].
pub type Action = super::Action<Confirmation>;

/// The peer's answer to our request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmation {
    /// The association is established. It may have no accepted presentation context; then release it.
    Accepted(Acceptance),
    /// The peer rejects.
    Rejected(Rejection),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The transport connection is open.
    TransportOpened,
    /// The decoder yielded a PDU.
    Pdu(Pdu),
    /// The decoder refused the bytes.
    Invalid(DecodeError),
    /// The local user wants to release the association.
    Release,
    /// The local user has finished: the release that the peer asked for can be answered.
    ReleaseResponse,
    /// The local user aborts the association, or gives the attempt up. In Sta13 there is none: close the transport
    /// connection.
    Abort,
    /// ARTIM ended.
    ArtimExpired,
    /// Nothing was read or written for as long as [`Requestor::idle_limit`] says.
    IdleExpired,
    /// The transport connection could not be opened, was closed by the peer, or broke.
    TransportClosed,
}

/// One association that we open.
#[derive(Debug)]
pub struct Requestor {
    machine: Machine,
    request: Request,
    message_id: u16,
}

impl Requestor {
    /// A requestor in Sta4, for one transport connection. Its announced maximum length is `limits.pdu_length_max`.
    pub fn new(request: Request, limits: Limits, timeouts: Timeouts) -> Self {
        let request = Request { pdu_length_max: limits.pdu_length_max, ..request };
        Requestor { machine: Machine::new(Role::Requestor, State::Sta4, limits, timeouts), request, message_id: 0 }
    }

    /// Takes an event and appends what has to be done. A local event that the state does not know changes nothing.
    pub fn handle(&mut self, event: Event, out: &mut Vec<Action>) {
        let (trigger, carried, cause) = match event {
            Event::TransportOpened => (Trigger::TransportConfirmed, Carried::Nothing, Cause::Local),
            Event::Pdu(pdu) => received(pdu, self.machine.state),
            Event::Invalid(error) => (Trigger::InvalidPdu, Carried::Nothing, Cause::Invalid(error)),
            Event::Release => (Trigger::ReleaseReq, Carried::Nothing, Cause::Local),
            Event::ReleaseResponse => (Trigger::ReleaseRsp, Carried::Nothing, Cause::Local),
            Event::Abort => (Trigger::AbortReq, Carried::Nothing, Cause::Local),
            Event::ArtimExpired => (Trigger::ArtimExpired, Carried::Nothing, Cause::Artim),
            Event::IdleExpired => (Trigger::AbortReq, Carried::Nothing, Cause::Idle),
            Event::TransportClosed => (Trigger::TransportClosed, Carried::Nothing, Cause::TransportClosed),
        };
        let Some(step) = self.machine.enter(trigger) else { return };
        match (step, carried) {
            (Step::AE2, _) => out.push(Action::Send(self.request.to_pdu())),
            (Step::AE3, Carried::Accept(ac)) => self.accepted(Acceptance::from_pdu(*ac, &self.request), out),
            (Step::AE4, Carried::Reject(rejection)) => {
                out.extend([Action::Associate(Confirmation::Rejected(rejection)), Action::CloseTransport]);
            }
            (step, carried) => self.machine.run(step, carried.pdvs(), cause, out),
        }
    }

    /// AE-3.
    fn accepted(&mut self, acceptance: Acceptance, out: &mut Vec<Action>) {
        if !self.machine.peer_length_works(acceptance.pdu_length_max) {
            return self.machine.abort(Cause::PeerLength(acceptance.pdu_length_max), out);
        }
        self.machine.establish(acceptance.accepted(), acceptance.pdu_length_max);
        out.push(Action::Associate(Confirmation::Accepted(acceptance)));
    }

    /// A Message ID for the next request; different from the 65 535 before it.
    pub fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }

    /// Sends a command set (DT-1, AR-7), in fragments that the peer accepts.
    ///
    /// # Errors
    /// Nothing is sent: the association has ended, the context was not accepted, or a data set is incomplete.
    pub fn send_command(&mut self, context_id: u8, command: &CommandSet, out: &mut Vec<Action>) -> Result<(), SendError> {
        self.machine.send_command(context_id, command, out)
    }

    /// Sends a piece of the data set that the last command announced, in fragments that the peer accepts. All pieces but
    /// the last have an even length; multiples of [`fragment_length_max`](Self::fragment_length_max) fill the PDUs.
    ///
    /// # Errors
    /// Nothing is sent: as for [`send_command`](Self::send_command), or no command announced a data set.
    pub fn send_data(&mut self, context_id: u8, data: Bytes, last: bool, out: &mut Vec<Action>) -> Result<(), SendError> {
        self.machine.send_data(context_id, data, last, out)
    }

    /// The state of Table 9-10.
    pub fn state(&self) -> State {
        self.machine.state
    }

    /// How long nothing may be read or written before the driver reports `IdleExpired`; `None` where ARTIM or the local
    /// user bounds the state. Ask again after each event: it depends on the state.
    pub fn idle_limit(&self) -> Option<Duration> {
        self.machine.idle_limit()
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[Context] {
        &self.machine.contexts
    }

    /// The first accepted presentation context for this abstract and transfer syntax.
    pub fn context_for(&self, abstract_syntax: &str, transfer_syntax: &str) -> Option<&Context> {
        let fits = |context: &&Context| context.abstract_syntax == abstract_syntax && context.transfer_syntax == transfer_syntax;
        self.machine.contexts.iter().find(fits)
    }

    /// Most bytes of one fragment that the peer accepts; even.
    pub fn fragment_length_max(&self) -> usize {
        self.machine.fragment_length_max()
    }
}

//! The accepting side of an association (PS3.8 §9.2).

use std::time::Duration;

use bytes::Bytes;

use super::machine::{Carried, Machine, received};
use super::negotiation::{Acceptance, Implementation, Request, accept_pdu, is_ae_title};
use super::table::{Role, State, Step, Trigger};
use super::{Cause, Context, SendError};
use crate::codec::DecodeError;
use crate::limits::{Limits, Timeouts};
use crate::message::command_set::CommandSet;
use crate::pdu::{Pdu, Rejection};

/// What the driver shall do; the indication of an association is its [`Request`], to be answered with [`Event::Answer`].
pub type Action = super::Action<Request>;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A peer opened the transport connection.
    TransportOpened,
    /// The decoder yielded a PDU.
    Pdu(Pdu),
    /// The decoder refused the bytes.
    Invalid(DecodeError),
    /// The local answer to the request of the association.
    Answer(Answer),
    /// The local user wants to release the association.
    Release,
    /// The local user has finished: the release that the peer asked for can be answered.
    ReleaseResponse,
    /// The local user aborts the association. In Sta2 and Sta13 there is none: close the transport connection.
    Abort,
    /// ARTIM ended.
    ArtimExpired,
    /// Nothing was read or written for as long as [`Acceptor::idle_limit`] says.
    IdleExpired,
    /// The peer closed the transport connection, or it broke.
    TransportClosed,
}

/// The local answer to the request of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With these presentation contexts, as [`negotiate`](super::negotiation::negotiate) gives them.
    Accept(Acceptance),
    /// For this reason.
    Reject(Rejection),
}

/// One association that a peer opens.
#[derive(Debug)]
pub struct Acceptor {
    machine: Machine,
    implementation: Implementation,
    /// The request between indication and answer.
    request: Option<Request>,
}

impl Acceptor {
    /// An acceptor in Sta1, for one transport connection.
    pub fn new(implementation: Implementation, limits: Limits, timeouts: Timeouts) -> Self {
        Acceptor { machine: Machine::new(Role::Acceptor, State::Sta1, limits, timeouts), implementation, request: None }
    }

    /// Takes an event and appends what has to be done. A local event that the state does not know changes nothing.
    pub fn handle(&mut self, event: Event, out: &mut Vec<Action>) {
        let (trigger, carried, cause) = match event {
            Event::TransportOpened => (Trigger::TransportIndicated, Carried::Nothing, Cause::Local),
            Event::Pdu(pdu) => received(pdu, self.machine.state),
            Event::Invalid(error) => (Trigger::InvalidPdu, Carried::Nothing, Cause::Invalid(error)),
            Event::Answer(answer @ Answer::Accept(_)) => (Trigger::AcceptRsp, Carried::Answer(answer), Cause::Local),
            Event::Answer(answer @ Answer::Reject(_)) => (Trigger::RejectRsp, Carried::Answer(answer), Cause::Local),
            Event::Release => (Trigger::ReleaseReq, Carried::Nothing, Cause::Local),
            Event::ReleaseResponse => (Trigger::ReleaseRsp, Carried::Nothing, Cause::Local),
            Event::Abort => (Trigger::AbortReq, Carried::Nothing, Cause::Local),
            Event::ArtimExpired => (Trigger::ArtimExpired, Carried::Nothing, Cause::Artim),
            Event::IdleExpired => (Trigger::AbortReq, Carried::Nothing, Cause::Idle),
            Event::TransportClosed => (Trigger::TransportClosed, Carried::Nothing, Cause::TransportClosed),
        };
        let Some(step) = self.machine.enter(trigger) else { return };
        match (step, carried) {
            (Step::AE6, Carried::Request(rq)) => self.request(Request::from_pdu(*rq), out),
            (Step::AE7, Carried::Answer(Answer::Accept(acceptance))) => self.accept(acceptance, out),
            (Step::AE8, Carried::Answer(Answer::Reject(rejection))) => self.reject(rejection, out),
            (step, carried) => self.machine.run(step, carried.pdvs(), cause, out),
        }
    }

    /// AE-6: what the service-provider itself must refuse, before the user is asked.
    fn request(&mut self, request: Request, out: &mut Vec<Action>) {
        out.push(Action::StopArtim);
        let refusal = if request.protocol_version & 1 == 0 {
            Some(Rejection::PROTOCOL_VERSION)
        } else if !is_ae_title(&request.calling_ae_title) {
            Some(Rejection::CALLING_AE_TITLE)
        } else if !is_ae_title(&request.called_ae_title) {
            Some(Rejection::CALLED_AE_TITLE)
        } else if !self.machine.peer_length_works(request.pdu_length_max) {
            Some(Rejection::PROVIDER_NO_REASON)
        } else {
            None
        };
        match refusal {
            Some(rejection) => {
                self.reject(rejection, out);
                out.push(Action::Aborted(Cause::Rejected(rejection)));
            }
            None => {
                self.request = Some(request.clone());
                out.push(Action::Associate(request));
            }
        }
    }

    /// AE-7.
    fn accept(&mut self, acceptance: Acceptance, out: &mut Vec<Action>) {
        let Some(request) = self.request.take() else { return };
        out.push(Action::Send(accept_pdu(&request, &acceptance, &self.implementation, self.machine.limits.pdu_length_max)));
        self.machine.establish(acceptance.accepted(), request.pdu_length_max);
    }

    /// AE-8, and the second half of AE-6.
    fn reject(&mut self, rejection: Rejection, out: &mut Vec<Action>) {
        self.machine.state = State::Sta13;
        self.request = None;
        out.extend([Action::Send(Pdu::AssociateRj(rejection)), Action::StartArtim(self.machine.timeouts.artim)]);
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

    /// A message of the peer has begun and is not complete.
    pub fn is_receiving(&self) -> bool {
        self.machine.is_receiving()
    }

    /// The accepted presentation contexts.
    pub fn contexts(&self) -> &[Context] {
        &self.machine.contexts
    }

    /// The accepted presentation context with this identifier.
    pub fn context(&self, id: u8) -> Option<&Context> {
        self.machine.contexts.iter().find(|context| context.id == id)
    }

    /// Most bytes of one fragment that the peer accepts; even.
    pub fn fragment_length_max(&self) -> usize {
        self.machine.fragment_length_max()
    }
}

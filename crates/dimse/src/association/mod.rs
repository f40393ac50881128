//! Associations: the state machines of PS3.8 §9.2 for both sides, without IO.
//!
//! [`Acceptor`] and [`Requestor`] take events and give actions. The driver is a loop: read bytes, decode them, hand over
//! each PDU, do the actions in order.
//!
//! ```no_run
//! use idr_dimse::association::acceptor::{Acceptor, Action, Event};
//! use idr_dimse::codec::{PduDecoder, data_header, encode};
//! use idr_dimse::pdu::Pdu;
//! # fn write(_: &[u8]) {} fn read(_: &mut bytes::BytesMut, _: Option<std::time::Duration>) -> usize { 0 }
//! # fn drive(mut acceptor: Acceptor, mut decoder: PduDecoder) {
//! let mut actions = Vec::new();
//! acceptor.handle(Event::TransportOpened, &mut actions);
//! loop {
//!     for action in actions.drain(..) {
//!         match action {
//!             // The fragment is written from where it is.
//!             Action::Send(Pdu::Data(pdvs)) => pdvs.iter().for_each(|pdv| { write(&data_header(pdv)); write(&pdv.data) }),
//!             Action::Send(pdu) => { let mut out = Vec::new(); encode(&pdu, &mut out).expect("of our making"); write(&out) }
//!             Action::CloseTransport => return,
//!             other => { /* timers, and the indications: ask admission, hand over data, answer */ }
//!         }
//!     }
//!     match read(decoder.buffer(), acceptor.idle_limit()) {
//!         0 => acceptor.handle(Event::TransportClosed, &mut actions),
//!         _ => loop {
//!             match decoder.decode() {
//!                 Ok(Some(pdu)) => acceptor.handle(Event::Pdu(pdu), &mut actions),
//!                 Ok(None) => break,
//!                 Err(error) => acceptor.handle(Event::Invalid(error), &mut actions),
//!             }
//!         },
//!     }
//! }
//! # }
//! ```
//!
//! # Failure
//! What the table forbids is not an error of a function: the machine sends A-ABORT and says why with [`Action::Aborted`],
//! once, however the association came to its end. A local request that arrives after the end changes nothing.
//!
//! # Bounds
//! [`Limits`](crate::limits::Limits) and [`Timeouts`](crate::limits::Timeouts). ARTIM is the driver's timer, started and
//! stopped by actions. Silence is bounded by `idle_limit`, to be applied to every read after all is written, and reported as
//! `IdleExpired`. The length of the whole association, and a peer that does not read what we write, are for the driver,
//! which ends it with `Abort`.
//!
//! # Standard
//! PS3.8 §9.2 and Table 9-10. The exceptions:
//!
//! ```text
//! //= PS3.8 §9.2, Table 9-10, Sta2, AA-1
//! //= type=exception
//! //= reason=The abort of a PDU that is invalid in Sta2 carries the service-provider's reason (2/1, 2/2, 2/6) where AA-1 says
//! //=        service-user: no user has been told of an association yet, and the reason is what helps the peer's technician.
//! //= PS3.8 §9.2, Table 9-10
//! //= type=exception
//! //= reason=Silence beyond `idle_limit` counts as an A-ABORT request of the local user (AA-1).
//! ```

pub mod acceptor;
mod machine;
pub mod negotiation;
pub mod requestor;
mod table;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub use acceptor::Acceptor;
pub use requestor::Requestor;
pub use table::State;

use crate::codec::DecodeError;
use crate::message::MessageError;
use crate::message::command_set::CommandSet;
use crate::pdu::{Abort, Pdu, PduType, Rejection};

/// What the driver shall do, in the order given. `I` is the association indication (acceptor) or confirmation (requestor).
#[derive(Debug, Clone, PartialEq)]
pub enum Action<I> {
    /// Write this PDU.
    Send(Pdu),
    /// The association is requested (acceptor), or the request is answered (requestor).
    Associate(I),
    /// A command set is complete. Fragments of a data set follow if it says so.
    Command {
        /// Presentation context of the message.
        context_id: u8,
        /// The command set.
        command: CommandSet,
    },
    /// A fragment of the data set of the last command, as received.
    Data {
        /// Presentation context of the message.
        context_id: u8,
        /// The fragment, possibly empty.
        fragment: Bytes,
        /// Nothing follows: the data set is complete.
        last: bool,
    },
    /// Start ARTIM, or start it anew; when it ends, hand over `ArtimExpired`.
    StartArtim(Duration),
    /// Stop ARTIM.
    StopArtim,
    /// The peer asks to release the association. Finish what is open, then hand over `ReleaseResponse`.
    ReleaseRequested,
    /// The association ended in good order.
    Released,
    /// The association, or the attempt, ended otherwise. Whatever was incomplete stays so.
    Aborted(Cause),
    /// Close the transport connection. The machine has come to its end.
    CloseTransport,
}

/// Why an association ended without a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The peer sent A-ABORT.
    #[error("the peer aborted the association: {0}")]
    Peer(Abort),
    /// The transport connection ended.
    #[error("the transport connection ended")]
    TransportClosed,
    /// The peer sent bytes that are not an acceptable PDU.
    #[error("the peer sent an invalid PDU: {0}")]
    Invalid(DecodeError),
    /// The peer sent a PDU that the state does not allow.
    #[error("the peer sent {pdu_type} in {state}")]
    Unexpected {
        /// The PDU.
        pdu_type: PduType,
        /// The state it came in.
        state: State,
    },
    /// The peer broke the rules of messages inside P-DATA-TF.
    #[error("the peer sent an invalid message: {0}")]
    Message(MessageError),
    /// The peer accepts no P-DATA-TF of a workable length.
    #[error("the peer accepts only P-DATA-TF up to {0} bytes")]
    PeerLength(u32),
    /// The request was rejected before anybody was asked (AE-6).
    #[error("the request was rejected: {0}")]
    Rejected(Rejection),
    /// The peer was silent for longer than `idle_limit`.
    #[error("the peer was silent for too long")]
    Idle,
    /// ARTIM expired.
    #[error("ARTIM expired")]
    Artim,
    /// The local user asked for it.
    #[error("aborted locally")]
    Local,
}

impl Cause {
    /// The A-ABORT that tells the peer (PS3.8 §9.3.8).
    pub(crate) fn abort(&self) -> Abort {
        match self {
            Cause::Invalid(error) => error.abort(),
            Cause::Unexpected { .. } => Abort::UNEXPECTED_PDU,
            Cause::Message(error) => error.abort(),
            Cause::PeerLength(_) => Abort::INVALID_PARAMETER,
            Cause::Peer(_) | Cause::TransportClosed | Cause::Rejected(_) | Cause::Idle | Cause::Artim | Cause::Local => Abort::USER,
        }
    }
}

/// An accepted presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Its identifier.
    pub id: u8,
    /// Abstract syntax UID, mostly a SOP class.
    pub abstract_syntax: String,
    /// The transfer syntax UID that was agreed.
    pub transfer_syntax: String,
    /// Roles of the requestor.
    pub roles: negotiation::Roles,
}

/// Why a message cannot be sent. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The association is not established, or not any more.
    #[error("there is no association to send on: {0}")]
    NotEstablished(State),
    /// The presentation context was not accepted.
    #[error("presentation context {0} was not accepted")]
    Context(u8),
    /// A command set while a data set is incomplete, or data without a command set that announces it.
    #[error("the fragment is out of order on presentation context {0}")]
    Order(u8),
    /// A fragment other than the last has an odd length (PS3.8 Annex E.1).
    #[error("a fragment that is not the last has the odd length {0}")]
    OddLength(usize),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.definition())
    }
}

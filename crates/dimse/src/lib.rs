//! What DICOM says: associations, messages and services, without IO.
//!
//! Bytes come in and bytes go out through the caller. There is no socket, file, clock or random number here; a program
//! drives these machines with what it reads and with the timers that it runs.
//!
//! ```text
//!  bytes ─▶ codec::PduDecoder ─▶ association::Acceptor ─▶ Action::Send        ─▶ codec::encode ─▶ bytes
//!           (bounds, PDVs)       association::Requestor   Action::Command     ─▶ service::Dispatcher ─▶ an operation
//!                                (PS3.8 Table 9-10)       Action::Data        ─▶ a fragment of a data set, never gathered
//! ```
//!
//! In data-flow order:
//! * [`limits`]: every bound and wait, with its default.
//! * [`pdu`]: protocol data units as values; [`codec`]: their bytes (PS3.8 §9.3).
//! * [`association`]: the state machines of PS3.8 §9.2 for both sides, and the negotiation (PS3.7 Annex D).
//! * [`message`]: command sets, and messages as presentation data values (PS3.7 §6.3, PS3.8 Annex E).
//! * [`service`]: which operation a command asks for, and its answer (PS3.4 Annexes A, B and J, PS3.7 §9, §10).
//! * [`status`]: the codes of a response, named (PS3.7 Annex C, PS3.4 Table B.2-1).
//!
//! # Bounds
//! A length or count that the peer chose is compared with [`limits::Limits`] before anything is allocated for it.
//!
//! # Standard
//! PS3.7 and PS3.8. Three places where the wire differs from the letter of PS3.8 are marked `type=exception` in
//! [`association`] and [`association::negotiation`].

pub mod association;
pub mod codec;
pub mod limits;
pub mod message;
pub mod pdu;
pub mod service;
pub mod status;

pub use dicom_core::Tag;

//! SOAP 1.2 with WS-Addressing and MTOM, as the gateway speaks it (ITI TF-2 Appendix V; profile 08 §3, 09 §4).
//!
//! A request: [`Framing::of`] its Content-Type; plain bytes, or [`mtom::Reader`] for the root part and the documents;
//! [`Envelope::read`] (S-03 … S-07); [`Envelope::check`] (S-17, S-08 … S-11, S-15, S-19); the assertion, by the caller;
//! [`Envelope::body`] (S-12) for the decoders of [`crate::transaction`].
//! An answer: [`write_answer`] or [`write_fault`], framed by [`mtom::Writer`] where the transaction says so.
//!
//! [`multipart`] is shared with STOW-RS and WADO-RS. It is our own: the ready-made reader wants an async stream, and this
//! crate holds no IO.
//!
//! # Bounds
//! Header blocks ≤ 64; XML by [`crate::xml::Limits`]; parts by [`multipart::Limits`]. The whole body is bounded by the
//! caller for plain messages (BD-13) and by [`multipart::Limits::total_bytes`] otherwise (BD-14).

mod base64_stream;
mod content_type;
mod envelope;
mod fault;
mod fingerprint;
pub mod mtom;
pub mod multipart;
mod refusal;
mod write;
pub mod xop;

pub use base64_stream::{Base64Stream, NotBase64};
pub use content_type::{ContentTypeError, Framing, MediaType};
pub use envelope::{Envelope, Header, HeaderName};
pub use fault::{Detail, Fault, FaultCode, read_fault, write_fault};
pub use fingerprint::fingerprint;
pub use refusal::{Refusal, Rejected};
pub use write::{Answer, Request, write_answer, write_request};

/// Address that stands for "the connection this came on".
pub const ANONYMOUS: &str = "http://www.w3.org/2005/08/addressing/anonymous";
/// Action of faults of WS-Addressing.
pub const ADDRESSING_FAULT: &str = "http://www.w3.org/2005/08/addressing/fault";
/// Action of all other faults.
pub const SOAP_FAULT: &str = "http://www.w3.org/2005/08/addressing/soap/fault";
/// Bytes of a plain SOAP body and of the root part (profile 10 BD-13, BD-14).
pub const ENVELOPE_MAX_BYTES: usize = 8_388_608;

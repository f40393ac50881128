//! HL7 v2: messages of patient administration, and the frames that carry them.
//!
//! In the order of a message: [`mllp`] takes it out of the stream, [`Header`] says how it is written and how it is to be
//! answered, [`Message`] is its text, read field by field; [`time`] reads its time stamps, [`Ack`] is the answer. What the
//! fields mean here is said elsewhere (profile 06).
//!
//! # Bounds
//! [`Limits`]; a frame is bounded before it is read. Text is split where it is asked for, so that a message takes about the memory of its bytes.
//!
//! # Standard
//! HL7 v2.3 to 2.5.1 chapter 2: §2.5 (fields), §2.7 (escapes), §2.9 (acknowledgement); MLLP of the HL7 transport appendix C.

mod ack;
mod charset;
mod header;
mod message;
pub mod mllp;
pub mod time;

#[cfg(test)]
mod tests;

pub use ack::{Ack, AckCode, AckError, Condition, Location, Severity};
pub use charset::Charset;
pub use header::{Header, HeaderError, Separators};
pub use message::{Limits, Message, MessageError, Part, Segment, Text};

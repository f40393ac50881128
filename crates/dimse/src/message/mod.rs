//! Messages: a command set and, after some, a data set (PS3.7 §6.3), as presentation data values (PS3.8 Annex E).
//!
//! [`command_set::CommandSet`] is read and written whole. A data set is never gathered: [`assembler`] passes its fragments
//! on as they come, [`fragmenter`] cuts what is to be sent.

pub mod assembler;
pub mod command_set;
pub mod fragmenter;

use crate::pdu::Abort;
use command_set::CommandSetError;

/// How a peer broke the rules of messages inside P-DATA-TF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A presentation data value names a context that was not accepted.
    #[error("presentation context {0} was not accepted")]
    Context(u8),
    /// A data set fragment where a command set has to begin.
    #[error("a data set fragment on presentation context {0} has no command set before it")]
    CommandExpected(u8),
    /// A command set fragment before the data set was complete.
    #[error("a command set on presentation context {0} began before the data set was complete")]
    DataExpected(u8),
    /// A fragment of another presentation context inside a message (PS3.8 Annex E.1).
    #[error("a fragment of presentation context {found} came inside a message of context {expected}")]
    Interleaved {
        /// Context of the message.
        expected: u8,
        /// Context of the fragment.
        found: u8,
    },
    /// The fragments of a command set exceed the bound (BD-06).
    #[error("the command set is longer than {0} bytes")]
    CommandTooLong(usize),
    /// The command set is not acceptable (profile rule D012).
    #[error("the command set cannot be decoded: {0}")]
    Command(CommandSetError),
}

impl MessageError {
    /// The A-ABORT that tells the peer: by the service-user for a command set (D012, BD-06), else by the service-provider
    /// (D013).
    pub fn abort(self) -> Abort {
        match self {
            MessageError::Context(_) => Abort::INVALID_PARAMETER,
            MessageError::CommandExpected(_) | MessageError::DataExpected(_) | MessageError::Interleaved { .. } => Abort::UNEXPECTED_PDU,
            MessageError::CommandTooLong(_) | MessageError::Command(_) => Abort::USER,
        }
    }

    /// Identifier of the input bound that was exceeded, for the counter of breaches.
    pub fn bound(self) -> Option<&'static str> {
        matches!(self, MessageError::CommandTooLong(_)).then_some("BD-06")
    }
}

//! Status (0000,0900) of a response, named (PS3.7 Annex C; PS3.4 Tables B.2-1, C.4-1 to C.4-3).

use std::fmt;

/// A status code. Services may use others than those named here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u16);

/// What a status means for the requester (PS3.7 Annex C).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Done.
    Success,
    /// Done, with a remark.
    Warning,
    /// Not done.
    Failure,
    /// Ended by a cancel request.
    Cancel,
    /// More responses follow.
    Pending,
}

impl Status {
    /// Success.
    pub const SUCCESS: Status = Status(0x0000);

    /// No such attribute.
    pub const NO_SUCH_ATTRIBUTE: Status = Status(0x0105);
    /// Invalid attribute value.
    pub const INVALID_ATTRIBUTE_VALUE: Status = Status(0x0106);
    /// Attribute list error (warning).
    pub const ATTRIBUTE_LIST_ERROR: Status = Status(0x0107);
    /// Processing failure: a fault of ours, nothing was kept.
    pub const PROCESSING_FAILURE: Status = Status(0x0110);
    /// Duplicate SOP instance.
    pub const DUPLICATE_SOP_INSTANCE: Status = Status(0x0111);
    /// No such SOP instance.
    pub const NO_SUCH_SOP_INSTANCE: Status = Status(0x0112);
    /// No such event type.
    pub const NO_SUCH_EVENT_TYPE: Status = Status(0x0113);
    /// No such argument.
    pub const NO_SUCH_ARGUMENT: Status = Status(0x0114);
    /// Invalid argument value.
    pub const INVALID_ARGUMENT_VALUE: Status = Status(0x0115);
    /// Attribute value out of range (warning).
    pub const ATTRIBUTE_VALUE_OUT_OF_RANGE: Status = Status(0x0116);
    /// Invalid SOP instance.
    pub const INVALID_SOP_INSTANCE: Status = Status(0x0117);
    /// No such SOP class.
    pub const NO_SUCH_SOP_CLASS: Status = Status(0x0118);
    /// The SOP instance is not of that SOP class.
    pub const CLASS_INSTANCE_CONFLICT: Status = Status(0x0119);
    /// Missing attribute.
    pub const MISSING_ATTRIBUTE: Status = Status(0x0120);
    /// Missing attribute value.
    pub const MISSING_ATTRIBUTE_VALUE: Status = Status(0x0121);
    /// Refused: SOP class not supported.
    pub const SOP_CLASS_NOT_SUPPORTED: Status = Status(0x0122);
    /// No such action type.
    pub const NO_SUCH_ACTION_TYPE: Status = Status(0x0123);
    /// Refused: not authorized.
    pub const NOT_AUTHORIZED: Status = Status(0x0124);
    /// Storage commitment: the Transaction UID is in use for another request.
    pub const DUPLICATE_TRANSACTION_UID: Status = Status(0x0131);
    /// Duplicate invocation: the Message ID is in use.
    pub const DUPLICATE_INVOCATION: Status = Status(0x0210);
    /// Unrecognized operation.
    pub const UNRECOGNIZED_OPERATION: Status = Status(0x0211);
    /// Mistyped argument.
    pub const MISTYPED_ARGUMENT: Status = Status(0x0212);
    /// Resource limitation.
    pub const RESOURCE_LIMITATION: Status = Status(0x0213);

    /// Storage, query and retrieve: refused, out of resources.
    pub const OUT_OF_RESOURCES: Status = Status(0xA700);
    /// Retrieve: unable to calculate the number of matches.
    pub const UNABLE_TO_CALCULATE_MATCHES: Status = Status(0xA701);
    /// Retrieve: unable to perform sub-operations.
    pub const UNABLE_TO_PERFORM_SUB_OPERATIONS: Status = Status(0xA702);
    /// C-MOVE: move destination unknown.
    pub const MOVE_DESTINATION_UNKNOWN: Status = Status(0xA801);
    /// Storage and query: the data set (identifier) does not match the SOP class.
    pub const DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Status = Status(0xA900);
    /// Storage: coercion of data elements (warning).
    pub const COERCION_OF_DATA_ELEMENTS: Status = Status(0xB000);
    /// Storage: elements discarded (warning).
    pub const ELEMENTS_DISCARDED: Status = Status(0xB006);
    /// Storage: the data set does not match the SOP class (warning).
    pub const DATA_SET_DOES_NOT_MATCH_WARNING: Status = Status(0xB007);
    /// Storage: cannot understand. Query and retrieve: unable to process.
    pub const CANNOT_UNDERSTAND: Status = Status(0xC000);
    /// Terminated by a cancel request.
    pub const CANCEL: Status = Status(0xFE00);
    /// More responses follow.
    pub const PENDING: Status = Status(0xFF00);
    /// More responses follow; an optional key was not supported.
    pub const PENDING_WITH_WARNING: Status = Status(0xFF01);

    /// The class of the code. A code of no known class counts as a failure: whoever sent the instance keeps it.
    pub const fn class(self) -> Class {
        match self.0 {
            0x0000 => Class::Success,
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => Class::Warning,
            0xFE00 => Class::Cancel,
            0xFF00 | 0xFF01 => Class::Pending,
            _ => Class::Failure,
        }
    }

    /// Whether the operation was done: success or warning.
    pub const fn is_done(self) -> bool {
        matches!(self.class(), Class::Success | Class::Warning)
    }

    /// Whether more responses follow.
    pub const fn is_pending(self) -> bool {
        matches!(self.class(), Class::Pending)
    }

    /// Whether the response may name Offending Elements: A9xx and Cxxx (PS3.4 Table B.2-1).
    pub const fn has_offending_elements(self) -> bool {
        matches!(self.0, 0xA900..=0xA9FF | 0xC000..=0xCFFF)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}H", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_class_of_annex_c() {
        for code in 0..=u16::MAX {
            let expected = match code {
                0 => Class::Success,
                0x0001 | 0x0107 | 0x0116 => Class::Warning,
                _ if code >> 12 == 0xB => Class::Warning,
                0xFE00 => Class::Cancel,
                0xFF00 | 0xFF01 => Class::Pending,
                _ => Class::Failure,
            };
            assert_eq!(Status(code).class(), expected, "{}", Status(code));
        }
    }
}

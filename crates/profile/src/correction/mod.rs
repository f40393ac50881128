//! Correction: a new data set from a held one, with some attributes changed and every other byte kept.
//!
//! The original passes twice. [`Survey`] walks it and ends in a [`Plan`]: where which bytes are replaced. [`Plan::rewrite`]
//! passes it again and gives the new data set. Whatever no replacement names comes out as it went in: pixel data, private
//! elements, order, odd lengths. [`Order`] says what is changed and why, [`UidMap`] what the corrected objects are called.
//!
//! - Bounds: neither pass holds more than one value of 1 MiB, the values that are changed (64 KiB each), and the
//!   replacements ([`REPLACED_BYTES_MAX`]). Bulk data is never held.
//! - What it does not: references inside a value of VR UN with a defined length stay, whatever they name; a deflated data set
//!   is not corrected.
//! - Standard: profile 01 §8.2; PS3.3 §C.12.1.1.9 (Original Attributes), §C.7.5 (Contributing Equipment); PS3.5 §7.5.

mod attributes;
mod encode;
mod order;
mod plan;
mod survey;
#[cfg(test)]
mod tests;
mod uids;
mod walk;

pub use attributes::{Attributes, AttributesError, ReasonRule, Scope};
pub use order::{Author, Given, NewValue, Order, OrderError};
pub use plan::{Plan, Rewrite};
pub use survey::Survey;
pub use uids::{StudyUid, UidMap};

use dicom_core::Tag;

/// Bytes of all replacements of one data set.
pub const REPLACED_BYTES_MAX: usize = 64 << 20;
/// Bytes of one value that is changed, as it was before.
pub const PRIOR_BYTES_MAX: usize = 64 << 10;

/// Why a data set cannot be corrected. Carries no value of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Deflated or big endian.
    #[error("transfer syntax {0} cannot be corrected here: correct the object at its source")]
    TransferSyntax(String),
    /// The bytes do not read as a data set.
    #[error("the data set cannot be read at byte {at} (behind {tag}): correct the object at its source")]
    Encoding {
        /// Offset in the data set.
        at: u64,
        /// Last element that was begun.
        tag: Tag,
    },
    /// An element to be changed stands behind one with a higher tag, or twice.
    #[error("{0} is out of order or stands twice, so that it cannot be changed safely: correct the object at its source")]
    Order(Tag),
    /// The attribute is longer than what an Original Attributes item keeps.
    #[error("{0} is longer than 64 KiB and would not be kept whole as the prior value: correct the object at its source")]
    PriorTooLong(Tag),
    /// The prior text is no text of its character set, so that it cannot be encoded anew.
    #[error(
        "{0} holds bytes that are not valid in (0008,0005), and a new value needs another character set: set (0008,0005) to what the bytes are"
    )]
    Text(Tag),
    /// A value is too long for the element.
    #[error("{0} would be longer than its encoding allows")]
    TooLong(Tag),
    /// The element has a VR in which it cannot be changed.
    #[error("{0} has a value representation in which it cannot be changed: correct the object at its source")]
    Form(Tag),
    /// SOP or Series Instance UID is missing or none of the unit.
    #[error("{0} is missing or names no object of the unit that is corrected")]
    NotOfUnit(Tag),
    /// More than [`REPLACED_BYTES_MAX`].
    #[error("too much of the data set would change: correct the object at its source")]
    TooMuch,
    /// The two passes saw different bytes.
    #[error("the data set changed between two reads: run `idr-site fsck`")]
    Changed,
}

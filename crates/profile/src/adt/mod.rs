//! Messages of patient administration: what an ADT message asks for, and why it is refused (profile 06 §3 to §5, §7.2, §10).
//!
//! [`Desk::judge`] reads one message: who sent it ([`Sources`], the deployment file `hl7-sources.toml`), whether type, event, version
//! and segments are those of the table ([`FeedRules`], in `identity.toml`), and what its fields say. It gives an [`Order`]: what is to be done, in the
//! words of the profile, with nothing of HL7 in it; or a [`Refusal`], which is the answer. What depends on what is known of a patient is
//! decided where that is known; [`merge_rule`] is the part of it that needs no more than the identifiers.

mod fault;
mod judge;
mod person;
mod rules;
mod sources;

#[cfg(test)]
mod tests;

pub use fault::{Code, Refusal, Warned, Warning, accepted};
pub use judge::{Desk, Judged, digest, merge_rule};
pub use person::{Change, Demographics, Known, Name, Person};
pub use rules::{Does, EventRow, FeedRules};
pub use sources::{Source, Sources, SourcesError};

use crate::identifier::Checked;
use jiff::Timestamp;
use jiff::civil::Date;

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// MSH-9.2.
    pub event: String,
    /// MSH-10: with the source the key of idempotency.
    pub control_id: String,
    /// PID-33, else EVN-2, else MSH-7.
    pub as_of: Timestamp,
    /// EVN-5.1, for the journal.
    pub operator: Option<String>,
    /// What is to be done.
    pub act: Act,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A patient is made or its demographics are brought up to date.
    Upsert {
        /// Who.
        person: Box<Person>,
        /// The visit of PV1.
        visit: Option<Visit>,
        /// Whether an unknown patient is made.
        creates: bool,
    },
    /// Old ids go into a survivor: all groups or none.
    Merge(Vec<Pair>),
    /// The patient of an old id gets another primary id.
    Rename(Box<Pair>),
    /// Two patients are one set.
    Link(Box<[Person; 2]>),
    /// They are not.
    Unlink(Box<[Person; 2]>),
    /// The message is taken and does nothing.
    Nothing,
}

/// One group of A40.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// PID.
    pub survivor: Person,
    /// MRG-1: hetu and temporary ids.
    pub old: Vec<Checked>,
    /// The group, from 1.
    pub number: usize,
}

/// A visit (PV1), as far as it says something about access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// OID of the service event.
    pub service_event: String,
    /// Controller of the service event, from its OID.
    pub controller: String,
    /// Service unit, by the map of locations.
    pub unit: Option<String>,
    /// First day.
    pub start: Option<Date>,
    /// Last day.
    pub end: Option<Date>,
}

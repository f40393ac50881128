//! `[feed]` of `identity.toml`: events, and what of the reading of a message is data.

use serde::Deserialize;

/// What an event does, and so which segments it has (profile 06 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// `MSH EVN PID PV1`: a patient and a visit.
    Visit,
    /// `MSH EVN PID PV1`: an update of both.
    UpdateVisit,
    /// `MSH EVN PID [PV1]`: a patient.
    Person,
    /// `MSH EVN PID [PV1]`: an update of a patient.
    UpdatePerson,
    /// `MSH EVN {PID MRG [PV1]}+`.
    Merge,
    /// `MSH EVN PID MRG [PV1]`.
    MergeOne,
    /// `MSH EVN PID MRG [PV1]`.
    Rename,
    /// `MSH EVN PID [PV1] PID [PV1]`.
    Link,
    /// `MSH EVN PID [PV1] PID [PV1]`.
    Unlink,
}

/// An event that does something.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRow {
    /// MSH-9.2.
    pub event: String,
    /// MSH-9.3, if it is given.
    pub structure: String,
    /// What it does.
    pub does: Does,
}

/// How messages are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedRules {
    /// A18 is done as A40; else it is refused.
    pub accept_a18: bool,
    /// Events that are taken and do nothing.
    pub ignored_events: Vec<String>,
    /// MSH-12 that are read.
    pub versions: Vec<String>,
    /// MSH-5 and MSH-6 must be a `[[receiver]]` of `hl7-sources.toml`.
    pub check_receiver: bool,
    /// Seconds by which a time stamp may lie in the future.
    pub future_tolerance_seconds: u32,
    /// An answer AA names the warnings.
    pub ack_warnings: bool,
    /// Groups of one A40.
    pub groups_max: usize,
    /// Days for which a message is known again by MSH-10.
    pub repeat_days: u32,
    /// Seconds that a message waits for other writers of its patient.
    pub lock_wait_seconds: u32,
    /// Seconds after which a message is answered, whatever happens.
    pub answer_seconds: u32,
    /// What each event does.
    pub event: Vec<EventRow>,
}

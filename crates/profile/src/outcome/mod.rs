//! Outcomes (profile 03): what an answer of a peer, or the lack of one, does to the item that waited for it.
//!
//! [`Outcomes`] is the table file `outcomes.toml`; [`Outcomes::decide`] is the decision function of §5 for one item,
//! [`Outcomes::stow`] for a STOW-RS request with several instances. [`Outcomes::delay`] and [`RetryAfter`] say when the
//! next attempt is due, [`Breaker`] and [`Storm`] whether the peer is tried at all, [`Outcomes::explain`] what a row means.
//!
//! Everything is a pure function or a pure state machine: time and random numbers are arguments. No code names a row.
//! Nothing here can delete anything: the widest an outcome goes is to hold an item.

mod backoff;
mod breaker;
mod decide;
mod event;
mod row;
mod table;

pub use backoff::{AgeAlarm, Ages, RetryAfter, reclamp};
pub use breaker::{Admission, Answered, Blow, Breaker, BreakerChange, BreakerRules, Storm, StormRules};
pub use decide::{Context, Fault, InstanceResult, ReceiptAnswer, Response, Service, Severity, Signal, Soap, Stow, StowBody};
pub use event::Event;
pub use row::Row;
pub use table::{ClockLimits, DeviceReport, Limits, Outcomes, OutcomesError, Overrides};

use std::fmt;
use std::sync::Arc;

/// What becomes of an item (03 §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Next state, next step.
    Done,
    /// As done, but the next step waits until a commitment or a query has confirmed it; not confirmed: hold(study).
    DoneDuplicate,
    /// Stays `queued`, the same step after the delay of the class.
    Retry(Class),
    /// `held`; who decides.
    Hold(Decider),
    /// `quarantined` (01 §7).
    Quarantine,
    /// Stays `queued`, and this was no failure: window closed, breaker open.
    Queued,
    /// The step goes on: presentation context accepted, lists of a report decide.
    Continue,
    /// The final answer is awaited (HTTP 1xx).
    Wait,
    /// Changes nothing.
    Ignored,
}

/// Back-off class (03 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Connection, transport, unknown result.
    Net,
    /// Peer says it is short of something.
    Busy,
    /// Peer failed; nonsense statuses.
    Slow,
    /// Only people can repair it.
    Config,
    /// Credentials are renewed before the attempt.
    Auth,
    /// Storage commitment report has not come.
    Commit,
}

/// Whose decision releases a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decider {
    /// The cause lies at a peer, in configuration or in this program.
    Operator,
    /// An operator decides about this study; all its steps wait.
    Study,
}

/// Breaker column (03 §2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// `+`: the peer works, whatever it thinks of the object.
    Success,
    /// `!`: failure.
    Failure,
    /// `‼`: opens at once.
    Opens,
    /// `–`: not counted.
    Uncounted,
}

/// What the forwarder does besides changing the state of the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Abort the association and use a new one.
    AbortAssociation,
    /// Release the association.
    ReleaseAssociation,
    /// Send this instance alone on its own association.
    Alone,
    /// Halve the parallelism to this peer for a while.
    HalveParallelism,
    /// Keep the local copy until an operator accepts the peer.
    KeepCopy,
    /// Use a new connection, no early data.
    NewConnection,
    /// Use a new Transaction UID.
    NewTransaction,
    /// Next attempt without `Expect`.
    NoExpect,
    /// Tell the operator at once.
    Page,
    /// Record a finding on the peer.
    Warn,
    /// ITI-18 on the study UID first, then 02 §7 row 15.
    ReDerive,
    /// Send the instance again before the commitment is asked for.
    Resend,
    /// The same, once its healthy age is above [`Ages::resend_after_s`].
    ResendWhenOld,
}

/// The decision on one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Row id; [`Outcomes::explain`] prints it.
    pub row: Arc<str>,
    /// What becomes of the item.
    pub outcome: Outcome,
    /// What the breaker counts.
    pub breaker: Mark,
    /// The failure says nothing of the item, so that any items count for the breaker (§2.4.2).
    pub any_item: bool,
    /// What else is done.
    pub effects: Vec<Effect>,
    /// Status of the N-EVENT-REPORT response that we send, where the row gives one.
    pub answer: Option<u16>,
}

impl Decided {
    /// Back-off class of a retry.
    pub fn class(&self) -> Option<Class> {
        match self.outcome {
            Outcome::Retry(class) => Some(class),
            _ => None,
        }
    }
}

impl Outcome {
    /// Reads `done`, `done-duplicate`, `retry(<class>)`, `hold(operator)`, `hold(study)`, `quarantine`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "done" => Self::Done,
            "done-duplicate" => Self::DoneDuplicate,
            "hold(operator)" => Self::Hold(Decider::Operator),
            "hold(study)" => Self::Hold(Decider::Study),
            "quarantine" => Self::Quarantine,
            "retry(net)" => Self::Retry(Class::Net),
            "retry(busy)" => Self::Retry(Class::Busy),
            "retry(slow)" => Self::Retry(Class::Slow),
            "retry(config)" => Self::Retry(Class::Config),
            "retry(auth)" => Self::Retry(Class::Auth),
            "retry(commit)" => Self::Retry(Class::Commit),
            _ => return None,
        })
    }

    /// Order of *worst* in §4.11; greater is worse. Outcomes that no error code has stand at the ends.
    fn rank(self) -> u8 {
        match self {
            Self::Continue | Self::Wait | Self::Ignored | Self::Queued => 0,
            Self::Done => 1,
            Self::DoneDuplicate => 2,
            Self::Retry(Class::Net | Class::Commit) => 3,
            Self::Retry(Class::Busy) => 4,
            Self::Retry(Class::Slow) => 5,
            Self::Retry(Class::Auth) => 6,
            Self::Retry(Class::Config) => 7,
            Self::Hold(Decider::Operator) => 8,
            Self::Hold(Decider::Study) => 9,
            Self::Quarantine => 10,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Net => "net",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Commit => "commit",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::DoneDuplicate => f.write_str("done-duplicate"),
            Self::Retry(class) => write!(f, "retry({class})"),
            Self::Hold(Decider::Operator) => f.write_str("hold(operator)"),
            Self::Hold(Decider::Study) => f.write_str("hold(study)"),
            Self::Quarantine => f.write_str("quarantine"),
            Self::Queued => f.write_str("queued"),
            Self::Continue => f.write_str("continue"),
            Self::Wait => f.write_str("wait"),
            Self::Ignored => f.write_str("ignored"),
        }
    }
}

#[cfg(test)]
mod tests;

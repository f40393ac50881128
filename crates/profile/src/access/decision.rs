//! The answer: permit, omit, refuse; and what each is logged as (profile 05 §4, §10).

use super::policy::Operation;
use super::state::UnitId;
use super::subject::Kind;
use idr_ihe::metadata::PatientId;
use jiff::Timestamp;
use std::fmt;

/// What is asked: the operation, and the patient that the request names, if any (G3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Operation.
    pub operation: Operation,
    /// Patient named by the message itself: a query's parameter, a data set's Patient ID.
    pub patient: Option<PatientId>,
}

/// A rule of the decision (05 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The gates alone: an operation without an access unit.
    G,
    /// Another patient's unit.
    E1,
    /// Invalidated, rejected or erased.
    E2,
    /// Reconciliation of own units.
    E3,
    /// Release to the patient is delayed.
    E4a,
    /// A guardian's view.
    E4b,
    /// The patient's view.
    E4c,
    /// Own use.
    E5,
    /// Declarations, policy or unit cannot be relied on.
    E6,
    /// Outsourced service.
    E7,
    /// An absolute denial.
    E8a,
    /// A denial, and no emergency.
    E8b,
    /// Emergency.
    E9,
    /// Emergency that overrode denials.
    E9E8c,
    /// Not informed.
    E10,
    /// No consent.
    E11,
    /// Disclosure.
    E12,
    /// Store or correct in the own register.
    S1,
    /// Store under an authorisation.
    S2,
    /// Correction of another's unit.
    S4,
}

impl Rule {
    /// The profile's id; `E9+E8c` for an emergency that overrode denials.
    pub fn id(self) -> &'static str {
        match self {
            Self::G => "G",
            Self::E1 => "E1",
            Self::E2 => "E2",
            Self::E3 => "E3",
            Self::E4a => "E4a",
            Self::E4b => "E4b",
            Self::E4c => "E4c",
            Self::E5 => "E5",
            Self::E6 => "E6",
            Self::E7 => "E7",
            Self::E8a => "E8a",
            Self::E8b => "E8b",
            Self::E9 => "E9",
            Self::E9E8c => "E9+E8c",
            Self::E10 => "E10",
            Self::E11 => "E11",
            Self::E12 => "E12",
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S4 => "S4",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A gate that refused. Explicit, and never dependent on the patient's data or declarations (05 §8 rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Gate {
    /// The assertion has expired since it was verified.
    #[error("the assertion has expired")]
    G1,
    /// Operation not allowed for this kind and purpose.
    #[error("the operation is not allowed for this kind of user and purpose of use")]
    G2,
    /// The request names another patient than the assertion.
    #[error("the patient of the request is not the assertion's patient")]
    G3,
    /// Controller, register or specifier missing.
    #[error("controller, register or register specifier is missing from the assertion")]
    G4,
    /// No basis of care, or no emergency reason.
    #[error("care basis or emergency reason is missing from the assertion")]
    G5,
    /// The submission belongs to another register and no authorisation covers it.
    #[error("the submission's controller and register are not the assertion's, and no authorisation covers it")]
    S3,
}

impl Gate {
    /// The profile's id.
    pub fn id(self) -> &'static str {
        match self {
            Self::G1 => "G1",
            Self::G2 => "G2",
            Self::G3 => "G3",
            Self::G4 => "G4",
            Self::G5 => "G5",
            Self::S3 => "S3",
        }
    }

    /// Code on the wire (04 §12).
    pub fn code(self) -> &'static str {
        match self {
            Self::G1 => "IDR-X-15",
            Self::G2 => "IDR-X-25",
            Self::G3 => "IDR-X-26",
            Self::G4 => "IDR-X-22",
            Self::G5 => "IDR-X-27",
            Self::S3 => "IDR-X-24",
        }
    }
}

/// On what a permit rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// Own register.
    Own,
    /// Outsourced service, by the authorisation with this id.
    Outsourced(String),
    /// Disclosure by consent.
    Disclosure,
    /// Break-glass.
    Emergency {
        /// Ids of the denials that would have omitted without it.
        overridden_denials: Vec<String>,
    },
    /// The patient.
    SelfView,
    /// A guardian.
    Guardian,
    /// Reconciliation of own units.
    Reconcile,
    /// The gates alone: an operation without an access unit.
    Operation,
}

impl Basis {
    /// Name in the log (07 §2 `basis`).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Outsourced(_) => "outsourced",
            Self::Disclosure => "disclosure",
            Self::Emergency { .. } => "emergency",
            Self::SelfView => "self",
            Self::Guardian => "guardian",
            Self::Reconcile => "reconcile",
            Self::Operation => "operation",
        }
    }
}

/// Log records of a decision (05 §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum LogKind {
    /// Use log.
    U,
    /// Disclosure log.
    D,
    /// Citizen-view log.
    C,
    /// Security event.
    S,
    /// Follow-up task.
    N,
    /// Omission record.
    X,
    /// Refusal record.
    R,
}

/// Proof that access was decided for one subject, operation and access unit, until [`Permit::expires`].
///
/// Made only by [`super::decide`], by [`super::decide_own`] for own use alone, and by [`Permit::recheck`], which decides again. It cannot be built, read from a
/// message or stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub(super) basis: Basis,
    pub(super) rule: Rule,
    pub(super) unit: Option<UnitId>,
    pub(super) operation: Operation,
    pub(super) kind: Kind,
    pub(super) assertion_id: String,
    pub(super) store_version: u64,
    pub(super) expires: Timestamp,
    pub(super) operation_ends: Timestamp,
    pub(super) withholds_location: bool,
}

impl Permit {
    /// On what it rests.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The rule that permitted.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The unit it is for; `None` for an operation without one.
    pub fn unit(&self) -> Option<&UnitId> {
        self.unit.as_ref()
    }

    /// The operation it is for.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The assertion it was decided for.
    pub fn assertion_id(&self) -> &str {
        &self.assertion_id
    }

    /// Version of the declaration store that it was decided at.
    pub fn store_version(&self) -> u64 {
        self.store_version
    }

    /// First instant at which it is nothing any more.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether values that tell where the patient was treated stay out of the answer: unit, facility, author institution
    /// and address, for a guardian of a patient with `TURVAKIELTO` (05 §7).
    pub fn withholds_location(&self) -> bool {
        self.withholds_location
    }

    /// Whether it opens `unit` for `operation` at `now`.
    pub fn opens(&self, unit: &UnitId, operation: Operation, now: Timestamp) -> bool {
        self.unit.as_ref() == Some(unit) && self.operation == operation && now < self.expires
    }

    /// Records to write, in the order of 05 §10.
    pub fn logs(&self) -> &'static [LogKind] {
        use LogKind::{C, D, N, S, U};
        match (self.operation, &self.basis) {
            (Operation::DeclWrite | Operation::Identity, _) => &[U, S],
            (Operation::AuditRead, _) => &[S],
            (Operation::Explain | Operation::DeclRead, _) if self.kind == Kind::Citizen => &[C],
            (Operation::Explain, _) => &[S],
            (Operation::DeclRead | Operation::State | Operation::Events | Operation::Ops, _) => &[U],
            (_, Basis::Own | Basis::Outsourced(_) | Basis::Reconcile | Basis::Operation) => &[U],
            (_, Basis::Disclosure) => &[U, D],
            (_, Basis::Emergency { .. }) => &[U, D, S, N],
            (_, Basis::SelfView | Basis::Guardian) => &[C],
        }
    }
}

/// The answer of [`super::decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a decision that nobody looks at protects nobody"]
pub enum Decision {
    /// May be shown, stored, done.
    Permit(Permit),
    /// Answered as if it did not exist (05 §8).
    Omit(Rule),
    /// Told openly.
    Refuse(Gate),
}

impl Decision {
    /// Id of the rule or gate that decided.
    pub fn rule_id(&self) -> &'static str {
        match self {
            Self::Permit(permit) => permit.rule.id(),
            Self::Omit(rule) => rule.id(),
            Self::Refuse(gate) => gate.id(),
        }
    }

    /// Records to write.
    pub fn logs(&self) -> &'static [LogKind] {
        match self {
            Self::Permit(permit) => permit.logs(),
            Self::Omit(_) => &[LogKind::X],
            Self::Refuse(_) => &[LogKind::R],
        }
    }
}

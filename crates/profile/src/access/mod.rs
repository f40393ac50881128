//! Access: who may see what of a patient (profile 05 §1–§11).
//!
//! [`decide`] is the one decision: values in, [`Decision`] out. A [`Subject`] comes from a verified assertion only (gate
//! G1, [`crate::xua`]); a [`Permit`] comes from [`decide`] only, or for a device's own use from [`decide_own`]; a response is made of [`Disclosed`] values only, and
//! [`gate()`] is the only way from a [`Candidate`] to one. [`explain()`] tells which rule fired and why.
//!
//! ```text
//! Subject ─┐
//! Request ─┼─ gates G1–G5 ─ entry rules E1–E12 ─▶ Permit | Omit(rule) | Refuse(gate)
//! unit? ───┤                store rules S1–S3
//! state ───┘  policy = access.toml, now = argument
//! ```
//!
//! # Failure
//! What is unreadable, unknown or stale permits nothing but own use: rule E6 stands before every rule that opens
//! another register's data. A refusal depends on the requester's claims only; an omission is answered as absence
//! (05 §8), and what was omitted is told to the audit alone ([`OmissionRecord`]).
//!
//! # Bounds
//! Linear in declarations and units; the caller bounds both (05 §14: 50 declarations and 200 units in 5 ms).

mod case;
mod combine;
mod decide;
mod decision;
mod denial;
mod explain;
mod gate;
mod outsourced;
mod own_device;
mod policy;
mod policy_files;
mod state;
mod subject;
#[cfg(test)]
mod tests;

pub use case::{CASE_FORMAT, CASES_MAX, Case, CaseError, CaseFile, Decided, Expected};
pub use combine::{Combined, combine};
pub use decide::{check_gates, decide};
pub use decision::{Basis, Decision, Gate, LogKind, Permit, Request, Rule};
pub use explain::{Explanation, Outcome, Step, StepResult, WouldChange, explain};
pub use gate::{Candidate, Dependent, Disclosed, Gated, OmissionRecord, Shown, Withdrawn, gate};
pub use outsourced::{StoredUnder, stored_under};
pub use own_device::{OwnDevice, decide_own, gate_own};
pub use policy::{
    CarePolicy, CareVerification, CitizenPolicy, ControllerRow, DenialPolicy, EmergencyPolicy, FreshnessPolicy, GuardianPolicy,
    LabelPolicy, OfflinePolicy, Operation, OutsourcedPolicy, PermitPolicy, Policy, PolicyError, RegisterPolicy, RepresentativePolicy,
    UnknownAttribute,
};
pub use policy_files::{PolicyFiles, PolicyFilesError};
pub use state::{
    AccessUnit, Authorisation, AuthorisationType, Consent, DateRange, Denial, DenialStatus, DenialTarget, Freshness, Informed, KnownEvent,
    PatientState, RegisterEntry, Sector, Status, UnitId,
};
pub use subject::{Claims, Kind, Limits, Purpose, Representation, Subject};

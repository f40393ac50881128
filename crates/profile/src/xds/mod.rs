//! What the registry and repository check, and what they say when it does not hold (profile 08 §4, §6, §9–§11; 09).
//!
//! [`XdsRules`] is the table file `xds.toml` with its limits and switches, [`Errors`] is `errors.toml`. A submission is put
//! into a [`Message`] and judged in three stages: [`XdsRules::judge_message`] (the message alone),
//! [`XdsRules::judge_documents`] (its documents), and, inside the patient's lock, [`XdsRules::judge_state`] against the
//! facts that [`needs`] names and the registry puts into a [`RegistryView`]. Each gives [`Findings`], whose
//! [`Findings::response`] is the answer. [`canonical_digest`] is the content that makes a repeated submission the same one.
//! The fingerprint behind the MessageID is [`idr_ihe::soap::fingerprint`]. Broken query and retrieve rules become
//! [`RegistryProblem`]s in [`request`].
//!
//! Rules are data: a row names its code, its fixed sentence and one of the check kinds of `check/`; no code names a rule.
//!
//! # Bounds
//! Every check is linear in the message. `limits.submission_objects` and `limits.documents` stop the evaluation;
//! `limits.problems_kept` bounds what is kept, the rest is counted; an answer has at most `limits.errors_in_answer` errors.

mod canonical;
mod check;
mod context;
mod datatype;
mod document;
mod errors;
mod judge;
mod message;
mod problem;
mod removal;
pub mod request;
mod rules;
mod state;
mod update;

#[cfg(test)]
mod tests;

pub use canonical::canonical_digest;
pub use context::{Circumstances, SenderDefaults};
pub use document::Document;
pub use errors::{Answerer, ErrorRow, Errors, ErrorsError, FaultRow, ForeignRow, ProblemRow};
pub use judge::{Findings, drop_extra_slots, fill_sender_defaults};
pub use message::{Message, SubmitTransaction};
pub use problem::{CodeContext, Key, RegistryProblem};
pub use removal::{Removable, RemovableDocument, RemovalView, Tie};
pub use rules::{
    Concurrency, Idempotency, Imaging, Iti61, Limits, QueryLimits, RequireHome, Resubmission, RetrieveLimits, Rmu, Switch, Timeouts,
    Transcode, UnknownPatient, XdsRules, XdsRulesError,
};
pub use state::{
    LatestVersion, Needs, RegisteredUniqueId, RegistryView, StateVerdict, StoredKind, StoredObject, Submitter, ValueSets, Versioned, needs,
};
pub use update::{Changes, NewVersion, StatusChange, changes, study_of};

//! Who asks: user assertions, from bytes to a verified [`Subject`](crate::access::Subject) (profile 04).
//!
//! A carriage gives bytes: SOAP hands over the envelope, [`http::credentials`] reads the `Authorization` header, [`dimse::identity`]
//! the user identity of an association. [`Verifier`] holds the snapshots a request is judged by and runs V1–V17 of 04 §11:
//! [`Verifier::verify_saml`], [`Verifier::verify_jwt`]. [`Verified`] carries the subject and the [`ReplayKey`] for V18; the replay
//! store (V18) and the audit record (V19) are the caller's, before any answer. [`produce`] is the way back, for `idr-site`.
//!
//! Rules are data: [`XuaRules`] from `xua.toml`, [`Trust`] from `trust.toml`.
//!
//! # Failure
//! [`Refusal`]: one code of 04 §12 and a fixed sentence; [`XuaRules::answer`] gives subcode, HTTP status and challenge. Neither
//! names a patient, a person, or which of two values differed.

mod attribute;
mod claims;
mod class;
pub mod dimse;
pub mod http;
mod jwt;
pub mod produce;
mod refusal;
mod rules;
mod statement;
mod trust;
mod verify;

pub use attribute::Key;
pub use class::{Class, Transaction};
pub use refusal::{Answer, Code, Refusal};
pub use rules::{ReplayMode, Unknown, XuaRules, XuaRulesError};
pub use trust::{Enrolled, Issuer, Organisation, Trust, TrustError};
pub use verify::{Carriage, ReplayKey, RequestFacts, SubmittedEvent, Verified, Verifier, Warning, patient_binding};

#[cfg(test)]
mod tests;

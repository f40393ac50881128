//! The registry: submissions and updates in ([`submit`]), stored queries out ([`query`]), removal ([`remove`]).
//!
//! A submission passes: [`submit::Received`] (as read, documents staged) → gates S1–S3 on its [`units`] → [`once`] (MessageID)
//! → rules on message and documents → opening record → in one transaction the registry's `view`, the † rules, and
//! `registration`: objects, documents, deprecations, idempotency record, R4.
//!
//! # Standard
//! Profile 08 §4, §6.3, §7, §9; 02 §5.3; ITI TF-2 §3.41, §3.42, §3.18.

pub mod once;
pub mod query;
mod registration;
pub mod remove;
pub mod submit;
pub mod units;
mod view;

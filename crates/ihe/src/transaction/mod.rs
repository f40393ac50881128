//! The transactions: request and answer of each, as values.
//!
//! [`table`] says which `wsa:Action` is which transaction. Requests are read in two steps: `read` takes the body of an
//! [`crate::soap::Envelope`] as it stands — what goes wrong there is a fault — and the values keep what is absent or
//! doubled, so that rules can answer with a RegistryResponse. RAD-68 is ITI-41 with a manifest as the document; ITI-57,
//! 61 and 92 have the body of ITI-42; ITI-38, 39 and RAD-75 that of ITI-18, 43 and RAD-69.

pub mod iti_18;
pub mod iti_41;
pub mod iti_42;
pub mod iti_43;
pub mod iti_62;
pub mod iti_86;
pub mod rad_69;
pub mod registry_response;
mod rules;
pub mod table;

/// RAD-68 Provide and Register Imaging Document Set: ITI-41 whose document is a manifest.
pub use iti_41 as rad_68;
pub use rules::RuleText;

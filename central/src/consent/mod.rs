//! Consent: what the patient declared, and what that leaves of an answer.
//!
//! In the order of a request: [`gate`] decides what was found ([`Decided`](gate::Decided)), [`log`] writes what has to be
//! written before the answer leaves, [`replay`] makes decisions again from it, [`disclosure`] says what a refused or guarded caller is told. [`declarations`] records
//! and lists declarations, for the operator's commands.

pub mod declarations;
pub mod disclosure;
pub mod gate;
pub mod log;
pub mod replay;

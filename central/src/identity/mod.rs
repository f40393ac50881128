//! Patient identity: what patient administration tells by HL7 ADT messages, and what operators merge, link and split (profile 06).
//!
//! In the order of a message: [`mllp`] (listener, bounds, who is connected), [`feed`] (one message: judged by `idr_profile::adt`, done in
//! one transaction, answered), [`merging`] (the checks of a merge that need to know both patients; messages and operators share it).
//!
//! # Order
//! Effect, the note that the message is done, and what it leaves to be looked at are one transaction. The opening records are durable
//! before its commit, and the answer leaves after it.

pub mod feed;
pub mod merging;
pub mod mllp;

#[cfg(test)]
mod tests;

//! What the national profile says: data and pure rules.
//!
//! In the order an image meets them: [`scan`] (bounded walk over a data set while it streams), [`digest`],
//! [`rules`] (rule sets: checks → findings → answer), [`correction`] (a new object in place of a wrong one), [`receipt`] (custody), [`mapping`] (study → manifest and
//! metadata), [`outcome`] (a peer's answer → what to do next), [`xua`] (who asks), [`access`] (what they may see),
//! [`xds`] (metadata and query rules with their codes), [`identifier`] (hetu, temporary ids, organisation OIDs), [`adt`] (what
//! patient administration tells), [`enrolment`] (how a site joins), [`tls`] (the TLS profile as rustls configurations).
//!
//! No IO, clock or randomness. Tables of the profile are data in `configs/rules/<set>/`.

pub mod access;
pub mod adt;
pub mod correction;
pub mod digest;
pub mod enrolment;
pub mod identifier;
pub mod mapping;
pub mod outcome;
pub mod receipt;
pub mod rules;
pub mod scan;
pub mod tls;
pub mod xds;
pub mod xua;

#[cfg(test)]
mod testing;

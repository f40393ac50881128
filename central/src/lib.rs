//! `idr-central`: the national instance.
//!
//! The modules, in the order in which a request meets them: [`config`], [`https`] (listener, routes) and [`dimse`] (DICOM over TLS), [`peer`] (whose
//! certificate this is, whether it is [revoked](revocation), and what its row allows), [`assertion`] (who asks; by the files of [`policy`]), then by what is asked: [`archive`] (instances
//! in and out), [`registry`] (submissions and stored queries), [`repository`] (documents), [`consent`] (declarations, and
//! what a refused caller is told), [`federation`] (what other communities are asked for it), [`identity`] (ADT messages: patients, merges, links), [`enrolment`] (how sites join). Below them [`store`] (one transactional store), [`objects`] (bytes), [`audit`] (what is
//! written before each reply). [`central`] holds what all of them share; [`run`] starts and stops it, [`reload`] exchanges what is read again while it runs; [`control`] and [`health`]
//! are what operators and monitors see.
//!
//! # Nothing leaves without a `Permit`
//! A look-up gives `Candidate`s, which no route can read. [`idr_profile::access::gate`] turns the permitted ones into
//! `Disclosed`, and only those have a payload. Bytes come from an [`objects::Reader`], which a permit makes. What operators see
//! of the store is not decided; it asks for a [`control::Operator`], and only commands and their socket make one. A route that
//! bypasses the gate does not compile.

pub mod archive;
pub mod assertion;
pub mod audit;
pub mod central;
pub mod config;
pub mod consent;
pub mod control;
pub mod dimse;
pub mod enrolment;
pub mod federation;
pub mod health;
pub mod https;
pub mod identity;
pub mod keys;
pub mod objects;
pub mod peer;
pub mod policy;
pub mod registry;
pub mod reload;
pub mod repository;
pub mod revocation;
pub mod run;
pub mod store;
#[cfg(test)]
mod testing;

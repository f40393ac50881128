//! Fixtures and harness of the scenarios, peers and the demo. Nothing here is published.
//!
//! [`fixtures`] makes everything that goes in: persons, studies, keys. All of it is synthetic and deterministic where
//! it can be; persons have identity codes of the range 900–999 only.

pub mod fixtures;

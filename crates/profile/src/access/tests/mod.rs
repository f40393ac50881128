//! Tests of the decision: the profile's golden cases, its edges, and what must hold for any input.

mod cases;
mod edges;
mod explain;
pub(super) mod fixtures;
mod gate;
mod golden;
mod policy;
mod properties;

//! What the messages promise, checked from outside of the crate: the worked example of the profile, third-party samples,
//! schemas, round trips and the rules of the SOAP layer.
//!
//! Public IHE data is found by the variable `IDR_SHARED`, else beside the workspace; where it is absent such a test says
//! so and passes, except in CI.

mod example;
mod manifest;
mod query;
mod round_trip;
mod samples;
mod schema;
mod shared;
mod soap;
mod transactions;

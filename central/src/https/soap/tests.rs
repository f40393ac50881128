//! The gateway through the router, with real assertions, a database in memory and objects on disk.

mod examples;
mod faults;
mod gateway;
mod nist;
mod query;
mod register;
mod remove;
mod retrieve;
mod routes;
mod samples;
mod submit;
mod update;

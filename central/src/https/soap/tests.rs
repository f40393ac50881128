//! The gateway through the router, with real assertions, a database in memory and objects on disk.

mod faults;
mod gateway;
mod nist;
mod query;
mod register;
mod remove;
mod retrieve;
mod routes;
mod submit;
mod update;

//! Tests of rules, tables and codeContext; the profile's tables and the public cases are read where they are at hand.

mod canonical;
mod cases;
mod context;
mod documents;
mod message;
mod removal;
mod requests;
mod state;
mod support;
mod tables;
mod update;

//! `idr-site`: the appliance on a hospital's gateway.
//!
//! The modules, in the order in which an image meets them: [`config`] (what is allowed), [`listener`] (associations),
//! [`admission`] (who may send), [`stow`] (HTTP requests) and [`drop_folder`] (files) in place of associations, [`reception`] (one instance: scan, judge,
//! commit; [`header_memory`] bounds them together), [`spool`] and [`receipts`] (held until central has it, and provably so), [`commitment`] (is told to whoever asks),
//! [`scrub`] (is read again in turn), [`completeness`] (what devices say of a study), [`study`] (when a study is complete),
//! [`forward`] (to central, and its manifest), [`reconcile`] (whether central holds it), [`retention`] (what may be given up here then),
//! [`query`] (what devices of its own may see of what is held), [`control`] and
//! [`health`] (what operators and monitors see), [`quarantine`] (what waits for a decision, and the decisions), [`rulebook`], [`rule_updates`] and
//! [`rejudge`] (what rules are, and what others would say of what is held), and what stands beside the
//! control socket: [`backup`], [`doctor`], [`certificates`], [`effective`], [`setup`], [`enrol`], [`queue_command`], [`support_bundle`], [`test_send`], [`watch`]. [`ledger`] is how what devices were promised is kept,
//! [`outbound`] how we call them. [`site`] puts them together, and [`reload`] exchanges what is read again while it runs.

pub mod admission;
pub mod backup;
pub mod certificates;
pub mod commitment;
pub mod completeness;
pub mod config;
pub mod control;
pub mod doctor;
pub mod drop_folder;
pub mod effective;
pub mod enrol;
pub mod forward;
pub mod header_memory;
pub mod health;
pub mod ledger;
pub mod listener;
pub mod outbound;
pub mod quarantine;
pub mod query;
pub mod queue_command;
pub mod receipts;
pub mod reception;
pub mod reconcile;
pub mod rejudge;
pub mod reload;
pub mod retention;
pub mod rule_updates;
pub mod rulebook;
pub mod scrub;
pub mod setup;
pub mod site;
pub mod spool;
pub mod stow;
pub mod study;
pub mod support_bundle;
pub mod test_send;
pub mod watch;

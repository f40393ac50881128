//! The forwarder over a spool in memory, a scripted centre and clocks that are moved by hand.
//!
//! [`rig`] puts them together, [`archive`] is a destination over real sockets, [`centre`] answers as the real one does (it signs R3 and R4), [`crash`] drops the forwarder at
//! every step.

mod archive;
mod associated;
pub(super) mod centre;
mod clocks;
mod crash;
mod decisions;
mod instances;
mod lanes;
mod manifests;
mod poison;
mod receipts;
mod reconciliations;
mod releases;
pub(super) mod rig;
mod scheduling;
mod withdrawals;

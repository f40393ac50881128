//! The imaging archive: instances in ([`receive`]), instances out ([`retrieve`]) and
//! what describes them ([`header`]).
//!
//! The bytes of the first arrival are kept as they came, a Part 10 file in [`crate::objects`]; the index row, its access
//! unit and the R3 stand in one commit of [`crate::store`].

pub mod header;
pub mod receive;
pub mod retrieve;

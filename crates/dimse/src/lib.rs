//! crates/dimse

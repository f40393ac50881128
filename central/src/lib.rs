//! central

pub mod audit;
pub mod objects;
pub mod store;

//! central

pub mod audit;
pub mod objects;

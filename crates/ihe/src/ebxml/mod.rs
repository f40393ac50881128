//! The document sharing model as ebRIM 3.0 XML, and back (ITI TF-3 §4.2.3).
//!
//! Two layers. [`rim`] holds the objects as they stand in a message — attributes that may be absent, values that may be
//! doubled — so that the rules of profile 08 §9 can name what is wrong. [`decode`] turns them into
//! [`crate::metadata`] values and lists what did not fit; [`encode`] is the way back.

mod decode;
mod encode;
mod read;
pub mod rim;
pub mod scheme;
mod write;

pub use decode::{Decoded, Problem, decode, lower_uuid};
pub use encode::{Placement, encode};
pub use read::{read_adhoc_query, read_registry_object_list, read_slot_list};
pub use write::{write_object_ref, write_registry_object_list, write_slot};

pub(crate) use write::write_adhoc_query;

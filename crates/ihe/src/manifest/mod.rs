//! The manifest: a Key Object Selection document that lists the instances of one study (RAD TF-3 §4.68.4.1.2.1,
//! PS3.3 A.35.4, PS3.16 TID 2010).
//!
//! [`Content::to_part10`] writes the file byte-exact by profile 02 §3: equal content gives equal bytes.
//! [`Content::to_data_set`] writes the data set alone, for a rejection note ([`Title::Rejection`]). [`Manifest::read`] takes what rules and access need from a file of any source.
//!
//! # Bounds
//! Reading: ≤ 100 000 references, nesting ≤ 64, ≤ 2 000 000 elements and items; no declared length sizes a buffer.

mod read;
mod write;

pub use read::{Manifest, ManifestReadError, SeriesReference, StudyReference};
pub use write::{CodeItem, Content, ManifestWriteError, ReferencedInstance, ReferencedRequest, ReferencedSeries, Title, ValueType, dcm};

/// Key Object Selection Document Storage.
pub const SOP_CLASS_UID: &str = "1.2.840.10008.5.1.4.1.1.88.59";
/// Transfer syntax that manifests are written in.
pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Implementation Class UID of the writer.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.43041129811698765480295093093450571436";
/// Implementation Version Name of the writer.
pub const IMPLEMENTATION_VERSION_NAME: &str = "IDR_KOS_1";
/// References read at most (profile 08 M-432).
pub const REFERENCES_MAX: usize = 100_000;

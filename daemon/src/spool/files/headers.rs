//! What stays of an object whose bytes were given up: its elements outside bulk data.
//!
//! A study can be described again without them only as long as nothing more of it comes: a later manifest lists all instances.
//!
//! # On disk
//! `headers/<id / 4 096>/<id>`, both in hex: SHA-256 of the rest, then an Explicit VR Little Endian data set. Durable before the object
//! is released, and never removed.

use super::super::disk::{Disk, create_folders, read_from};
use super::super::record::SpoolId;
use super::super::{SpoolError, disk_error};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::PathBuf;

/// Objects of one folder.
const FOLDER_OBJECTS: u64 = 4_096;
const SUM_BYTES: usize = 32;

fn path(id: SpoolId) -> PathBuf {
    PathBuf::from("headers").join(format!("{:013x}", id.0 / FOLDER_OBJECTS)).join(id.to_string())
}

/// Keeps a header; durable when it returns.
pub(super) fn keep(disk: &dyn Disk, id: SpoolId, header: &[u8]) -> Result<(), SpoolError> {
    let doing = disk_error("keeping a header");
    let path = path(id);
    let folder = path.parent().expect("three parts");
    create_folders(disk, folder).map_err(&doing)?;
    let file = match disk.create(&path) {
        // Of a release that did not come to its end.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = disk.open(&path).map_err(&doing)?;
            file.set_length(0).map_err(&doing)?;
            file
        }
        other => other.map_err(&doing)?,
    };
    let sum: [u8; SUM_BYTES] = Sha256::digest(header).into();
    file.write_at(0, &[&sum[..], header].concat()).map_err(&doing)?;
    file.sync_data().map_err(&doing)?;
    disk.sync_folder(folder).map_err(&doing)
}

/// A header that was kept; `None` if none was.
pub(super) fn read(disk: &dyn Disk, id: SpoolId) -> Result<Option<Bytes>, SpoolError> {
    let doing = disk_error("reading a header");
    let file = match disk.open(&path(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(&doing)?,
    };
    let bytes = read_from(&*file, 0).map_err(&doing)?;
    let whole = bytes.split_first_chunk::<SUM_BYTES>().is_some_and(|(sum, header)| Sha256::digest(header)[..] == sum[..]);
    match whole {
        true => Ok(Some(Bytes::from(bytes).slice(SUM_BYTES..))),
        false => Err(SpoolError::Damaged { id, what: "its kept header does not have its sum" }),
    }
}

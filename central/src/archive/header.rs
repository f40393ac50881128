//! The header of a stored instance: what of its bytes describes it.
//!
//! Only the front of the object is read, so that its digest is not checked here: who retrieves the instance gets it checked, and
//! `idr-central fsck` looks at all of them.

use futures::TryStreamExt as _;
use idr_profile::scan::{Limits, Scan, Scanner};

use crate::objects::{ObjectError, Reader};
use crate::store::instances::StoredInstance;

/// How far a header is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To the first bulk data: enough for what queries ask for.
    Bulk,
    /// To the pixel data, past other bulk data: all that metadata gives.
    PixelData,
    /// To the end: with the fragments of encapsulated pixel data.
    End,
}

/// Reads a header under the permit of its instance. What cannot be read on, by a defect of the data set, ends where it stands.
///
/// # Errors
/// [`ObjectError`]; an object of another size than was committed is altered.
pub async fn read(objects: Reader<'_>, stored: &StoredInstance, until: Until) -> Result<Scan, ObjectError> {
    let (size, mut bytes) = objects.open(&stored.object_key, Some(stored.data_set_offset..stored.object_size)).await?;
    if size != stored.object_size {
        return Err(ObjectError::Altered { key: stored.object_key.clone() });
    }
    let mut scanner = Scanner::new(&stored.transfer_syntax_uid, Limits::default());
    while let Some(chunk) = bytes.try_next().await? {
        scanner.feed(&chunk);
        let enough = match until {
            Until::Bulk => scanner.has_bulk(),
            Until::PixelData => scanner.has_pixel_data(),
            Until::End => false,
        };
        if enough || scanner.failed() {
            break;
        }
    }
    Ok(scanner.finish())
}

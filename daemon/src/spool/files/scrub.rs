//! Objects once more from the disk, in the order of their ids: what [`crate::scrub`] reads.

use super::super::record::{SpoolId, State};
use super::super::{SpoolError, Stored};
use super::FileSpool;
use super::reader::FileStored;
use std::sync::Arc;

impl FileSpool {
    /// Ids of the next `limit` objects from `from` on, those that have their bytes, in order; and where the next page
    /// begins, `None` after the last one.
    ///
    /// # Errors
    /// [`SpoolError::Index`], [`SpoolError::Stopped`].
    pub async fn held(&self, from: SpoolId, limit: usize) -> Result<(Vec<SpoolId>, Option<SpoolId>), SpoolError> {
        self.look(move |shared| {
            let page = shared.catalog.all(from, limit)?;
            let next = page.last().map(|last| SpoolId(last.id().0.saturating_add(1)));
            Ok((page.iter().filter(|entry| entry.progress.state != State::Released).map(super::Entry::id).collect(), next))
        })
        .await
    }

    /// Opens an object as [`super::Spool::read`] does, its bytes from the medium and not from the system's memory, and its R1
    /// compared with the one that was made for it. `None` if it was released meanwhile.
    ///
    /// # Errors
    /// As [`super::Spool::read`].
    pub async fn read_again(&self, id: SpoolId) -> Result<Option<Box<dyn Stored>>, SpoolError> {
        let shared = Arc::clone(&self.shared);
        let opened = self.shared.hop.run(move || {
            let Some(entry) = shared.catalog.entry(id)?.filter(|entry| entry.progress.state != State::Released) else { return Ok(None) };
            let stored = FileStored::open_from_medium(&shared, id)?;
            let r1 = stored.r1().map(idr_profile::receipt::Carried::hash).or(stored.record().first_r1);
            if r1 != Some(entry.r1) {
                return Err(SpoolError::Damaged { id, what: "its receipt is not the one that was made for it" });
            }
            Ok(Some(stored))
        });
        match opened.await? {
            Ok(stored) => Ok(stored.map(|stored| Box::new(stored) as Box<dyn Stored>)),
            Err(SpoolError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

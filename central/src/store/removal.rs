//! What ITI-62 and ITI-86 take away (profile 08 §7.2). Rows and bytes stay; they are marked, and nothing that answers sees
//! them. The images of a manifest that was removed leave search and retrieve with it, as those of one that was withdrawn.

use idr_profile::access::Status;
use idr_profile::xds::Tie;
use jiff::Timestamp;

use super::sql::sql;
use super::units;
use super::{StoreError, Tx};

impl Tx {
    /// Associations that have one of these objects as an end, for the rules of a removal. Not for answers: undecided.
    ///
    /// # Errors
    /// [`StoreError::TooMany`]: more than `limit`.
    pub async fn ties(&mut self, ids: &[String], limit: usize) -> Result<Vec<Tie>, StoreError> {
        let found = self.association_rows(ids, &[], limit).await?;
        let tie =
            |of: idr_ihe::metadata::Association| Tie { id: of.entry_uuid, kind: of.association_type, source: of.source, target: of.target };
        Ok(found.into_iter().map(tie).collect())
    }

    /// Marks entries, sets, folders and associations as removed. Unknown ids are passed over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_metadata(&mut self, ids: &[String], now: Timestamp) -> Result<(), StoreError> {
        for id in ids {
            let update = sql("UPDATE entries SET removed_at = $2, access_status = $3 WHERE entry_uuid = $1 AND removed_at IS NULL");
            self.execute(update.bind(id).bind(now).bind(units::name(&Status::Erased))).await?;
            for table in ["submission_sets", "folders", "associations"] {
                let update = sql(&format!("UPDATE {table} SET removed_at = $2 WHERE entry_uuid = $1 AND removed_at IS NULL"));
                self.execute(update.bind(id).bind(now)).await?;
            }
        }
        Ok(())
    }

    /// Is a document of this uniqueId here and not removed?
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_document(&mut self, unique_id: &str) -> Result<bool, StoreError> {
        let select = sql("SELECT unique_id FROM documents WHERE unique_id = $1 AND removed_at IS NULL");
        Ok(self.row(select.bind(unique_id)).await?.is_some())
    }

    /// Marks a document as removed: its bytes stay and can be retrieved no more. `false`: no such document.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_document(&mut self, unique_id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let update = sql("UPDATE documents SET removed_at = $2 WHERE unique_id = $1 AND removed_at IS NULL");
        Ok(self.execute(update.bind(unique_id).bind(now)).await? == 1)
    }
}

//! Requests for storage commitment, from their answer to the end of their report.

use super::sql::{Row, sql};
use super::{StoreError, Tx};
use jiff::Timestamp;
use uuid::Uuid;

/// A request that was answered with success, and what its report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// Of the first time that it was asked for.
    pub id: Uuid,
    /// Name of the peer row.
    pub peer: String,
    /// AE title of the peer.
    pub calling_ae: String,
    /// AE title that it called.
    pub called_ae: String,
    /// Transaction UID (0008,1195); one request of a peer has it.
    pub transaction_uid: String,
    /// SHA-256 of its references, 64 hex digits.
    pub digest: String,
    /// When it was asked for first.
    pub received_at: Timestamp,
    /// What was decided.
    pub report: Report,
}

/// What a report says.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// SOP class and instance of what is committed.
    pub committed: Vec<(String, String)>,
    /// SOP class, instance and Failure Reason (0008,1197) of what is not.
    pub failed: Vec<(String, String, u16)>,
}

/// Why a request is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// Its Transaction UID is in use for another list.
    OtherList,
    /// The peer has too many without a report.
    TooMany,
}

impl Tx {
    /// Keeps a request, or what was decided now of one that is asked for again. Gives its id.
    ///
    /// # Errors
    /// [`StoreError`]; inside, why it is not kept: nothing was changed then.
    pub async fn keep_commitment(&mut self, new: &Commitment, requests_max: usize) -> Result<Result<Uuid, NotKept>, StoreError> {
        let select = sql("SELECT id, digest FROM commitments WHERE peer = $1 AND transaction_uid = $2");
        let report = serde_json::to_string(&new.report).map_err(|_| StoreError::Contradiction { what: "a report" })?;
        if let Some(row) = self.row(select.bind(&new.peer).bind(&new.transaction_uid)).await? {
            if row.text("digest")? != new.digest {
                return Ok(Err(NotKept::OtherList));
            }
            let id = row.parsed("id", |text| Uuid::try_parse(text).ok())?;
            self.execute(sql("UPDATE commitments SET report = $2 WHERE id = $1").bind(id.to_string()).bind(report)).await?;
            return Ok(Ok(id));
        }
        let count = self.row(sql("SELECT COUNT(*) AS requests FROM commitments WHERE peer = $1").bind(&new.peer)).await?;
        if count.map(|row| row.unsigned("requests")).transpose()?.unwrap_or(0) >= requests_max as u64 {
            return Ok(Err(NotKept::TooMany));
        }
        let insert = "INSERT INTO commitments (id, peer, calling_ae, called_ae, transaction_uid, digest, received_at, report) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let insert = sql(insert).bind(new.id.to_string()).bind(&new.peer).bind(&new.calling_ae).bind(&new.called_ae);
        self.execute(insert.bind(&new.transaction_uid).bind(&new.digest).bind(new.received_at).bind(report)).await?;
        Ok(Ok(new.id))
    }

    /// A request that is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commitment(&mut self, id: Uuid) -> Result<Option<Commitment>, StoreError> {
        let select = "SELECT id, peer, calling_ae, called_ae, transaction_uid, digest, received_at, report FROM commitments WHERE id = $1";
        self.row(sql(select).bind(id.to_string())).await?.as_ref().map(commitment).transpose()
    }

    /// Ids and peers of all requests that are kept, in the order in which they were asked for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commitments(&mut self) -> Result<Vec<(Uuid, String)>, StoreError> {
        let rows = self.rows(sql("SELECT id, peer FROM commitments ORDER BY id")).await?;
        rows.iter().map(|row| Ok((row.parsed("id", |text| Uuid::try_parse(text).ok())?, row.text("peer")?))).collect()
    }

    /// The report was taken, or is given up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_commitment(&mut self, id: Uuid) -> Result<(), StoreError> {
        self.execute(sql("DELETE FROM commitments WHERE id = $1").bind(id.to_string())).await.map(drop)
    }
}

fn commitment(row: &Row) -> Result<Commitment, StoreError> {
    Ok(Commitment {
        id: row.parsed("id", |text| Uuid::try_parse(text).ok())?,
        peer: row.text("peer")?,
        calling_ae: row.text("calling_ae")?,
        called_ae: row.text("called_ae")?,
        transaction_uid: row.text("transaction_uid")?,
        digest: row.text("digest")?,
        received_at: row.time("received_at")?,
        report: row.json("report")?,
    })
}

//! What patient administration tells: demographics by source, messages that were done, what a person has to look at
//! (profile 06 §7.2, §8).

use super::patients::PatientKey;
use super::sql::sql;
use super::{StoreError, Tx};
use idr_profile::adt::Known;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// What one source tells of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `MSH-3|MSH-4`.
    pub source: String,
    /// How new it is.
    pub as_of: Timestamp,
    /// What.
    pub known: Known,
}

/// Something that a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Review {
    /// Names it.
    pub id: String,
    /// The merge it is about.
    pub merge_id: Option<String>,
    /// Why, in a sentence without a value.
    pub reason: String,
    /// Since when.
    pub raised_at: Timestamp,
    /// Until when.
    pub closed_at: Option<Timestamp>,
    /// By whom.
    pub closed_by: Option<String>,
}

impl Tx {
    /// The digest of a message that was done before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn feed_message(&mut self, source: &str, control_id: &str) -> Result<Option<String>, StoreError> {
        let select = sql("SELECT digest FROM feed_messages WHERE source = $1 AND control_id = $2").bind(source).bind(control_id);
        self.row(select).await?.map(|row| row.text("digest")).transpose()
    }

    /// Keeps that a message is done, with what it does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_feed_message(&mut self, source: &str, control_id: &str, digest: &str, now: Timestamp) -> Result<(), StoreError> {
        let insert = sql("INSERT INTO feed_messages (source, control_id, digest, received_at) VALUES ($1, $2, $3, $4)");
        self.execute(insert.bind(source).bind(control_id).bind(digest).bind(now)).await.map(|_| ())
    }

    /// Forgets messages that are older than `retention`, at most `limit`. Gives how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge_feed_messages(&mut self, retention: SignedDuration, limit: u32, now: Timestamp) -> Result<u64, StoreError> {
        let oldest = now.saturating_sub(retention).unwrap_or(Timestamp::MIN);
        let select = sql("SELECT source, control_id FROM feed_messages WHERE received_at < $1 ORDER BY received_at LIMIT $2");
        let rows = self.rows(select.bind(oldest).bind(limit)).await?;
        for row in &rows {
            let delete = sql("DELETE FROM feed_messages WHERE source = $1 AND control_id = $2");
            self.execute(delete.bind(row.text("source")?).bind(row.text("control_id")?)).await?;
        }
        Ok(rows.len() as u64)
    }

    /// What every source tells of a patient.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn told(&mut self, patient: &PatientKey) -> Result<Vec<Told>, StoreError> {
        let select = sql("SELECT source, as_of, body FROM demographics WHERE patient_key = $1 ORDER BY source").bind(&patient.0);
        let rows = self.rows(select).await?;
        rows.iter().map(|row| Ok(Told { source: row.text("source")?, as_of: row.time("as_of")?, known: row.json("body")? })).collect()
    }

    /// Keeps what a source tells now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell(&mut self, patient: &PatientKey, told: &Told) -> Result<(), StoreError> {
        let insert = "INSERT INTO demographics (patient_key, source, as_of, body) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (patient_key, source) DO UPDATE SET as_of = $3, body = $4";
        let insert = sql(insert).bind(&patient.0).bind(&told.source).bind(told.as_of).bind(super::units::json(&told.known));
        self.execute(insert).await.map(|_| ())
    }

    /// Leaves something for a person to look at, unless the same is open already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise_review(
        &mut self,
        id: &str,
        patient: &PatientKey,
        merge_id: Option<&str>,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let insert = "INSERT INTO identity_reviews (review_id, patient_key, merge_id, reason, raised_at) SELECT $1, $2, $3, $4, $5 \
                      WHERE NOT EXISTS (SELECT r.review_id FROM identity_reviews r WHERE r.patient_key = $2 AND r.reason = $4 \
                      AND r.closed_at IS NULL AND COALESCE(r.merge_id, '') = COALESCE($3, ''))";
        self.execute(sql(insert).bind(id).bind(&patient.0).bind(merge_id).bind(reason).bind(now)).await.map(|_| ())
    }

    /// What has to be looked at, the oldest first; of one patient, or all that is open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reviews(&mut self, patient: Option<&PatientKey>, limit: u32) -> Result<Vec<Review>, StoreError> {
        let columns = "SELECT review_id, merge_id, reason, raised_at, closed_at, closed_by FROM identity_reviews";
        let select = match patient {
            Some(patient) => sql(&format!("{columns} WHERE patient_key = $1 ORDER BY raised_at, review_id LIMIT $2")).bind(&patient.0),
            None => sql(&format!("{columns} WHERE closed_at IS NULL AND $1 = '' ORDER BY raised_at, review_id LIMIT $2")).bind(""),
        };
        let rows = self.rows(select.bind(limit)).await?;
        rows.iter()
            .map(|row| {
                let closed = row.optional_integer("closed_at")?.map(Timestamp::from_millisecond).transpose();
                Ok(Review {
                    id: row.text("review_id")?,
                    merge_id: row.optional_text("merge_id")?,
                    reason: row.text("reason")?,
                    raised_at: row.time("raised_at")?,
                    closed_at: closed.map_err(|_| StoreError::Unreadable { column: "closed_at" })?,
                    closed_by: row.optional_text("closed_by")?,
                })
            })
            .collect()
    }

    /// Somebody has looked at it. `false`: there is no such open task.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_review(&mut self, id: &str, by: &str, now: Timestamp) -> Result<bool, StoreError> {
        let update = sql("UPDATE identity_reviews SET closed_at = $2, closed_by = $3 WHERE review_id = $1 AND closed_at IS NULL");
        Ok(self.execute(update.bind(id).bind(now).bind(by)).await? == 1)
    }
}

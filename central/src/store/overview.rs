//! What operators see of the store: counts, states, and where bytes are. No patient identifier, name or clinical value. What
//! tells of one study or object is not decided by a permit, so it asks for the [`Operator`], whom no route can make.

use super::sql::sql;
use super::{StoreError, Tx};
use crate::control::Operator;
use crate::objects::ObjectKey;
use idr_ihe::metadata::PatientId;
use idr_profile::digest::Digest;
use jiff::Timestamp;
use serde::Serialize;

/// How much is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Stored instances.
    pub instances: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
    /// Document entries, whatever their status.
    pub entries: u64,
    /// Receipts.
    pub receipts: u64,
}

/// A study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StudyOverview {
    /// Study Instance UID.
    pub study_uid: String,
    /// Stored instances, rejected ones included.
    pub instances: u64,
    /// Of them rejected.
    pub rejected: u64,
    /// Series.
    pub series: u64,
    /// Bytes of the data sets.
    pub bytes: u64,
    /// First and last commit.
    pub first_stored: Option<Timestamp>,
    /// First and last commit.
    pub last_stored: Option<Timestamp>,
    /// Its manifests.
    pub manifests: Vec<ManifestOverview>,
    /// Receipts R3.
    pub commits: u64,
    /// Receipts R4.
    pub registrations: u64,
}

/// A registered manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestOverview {
    /// DocumentEntry.uniqueId.
    pub document_unique_id: String,
    /// `Approved`, `Deprecated`.
    pub status: String,
    /// Version of the entry.
    pub version: u64,
    /// When.
    pub registered_at: Timestamp,
    /// Instances that it lists.
    pub references: u64,
    /// Of them not stored.
    pub missing: u64,
}

/// Where the bytes of one instance are, and what they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldObject {
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// Where the Part 10 file is.
    pub object_key: ObjectKey,
    /// Bytes of the file.
    pub object_size: u64,
    /// Where the data set begins in it.
    pub data_set_offset: u64,
    /// (0002,0010)
    pub transfer_syntax_uid: String,
    /// Digest of the data set.
    pub digest: Digest,
}

/// Where the bytes of one document are, and what they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldDocument {
    /// DocumentEntry.uniqueId.
    pub unique_id: String,
    /// Where it is.
    pub object_key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// SHA-1, 40 hex digits.
    pub sha1: String,
}

impl Tx {
    /// How much is held.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn totals(&mut self) -> Result<Totals, StoreError> {
        let select = "SELECT (SELECT COUNT(*) FROM instances) AS instances, (SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM instances) AS bytes, \
                      (SELECT COUNT(*) FROM entries) AS entries, (SELECT COUNT(*) FROM receipts) AS receipts";
        let row = self.row(sql(select)).await?.ok_or(StoreError::Unreadable { column: "instances" })?;
        Ok(Totals {
            instances: row.unsigned("instances")?,
            bytes: row.unsigned("bytes")?,
            entries: row.unsigned("entries")?,
            receipts: row.unsigned("receipts")?,
        })
    }

    /// A study by its UID; `None` if nothing of it is known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn study_overview(&mut self, _: &Operator, study_uid: &str) -> Result<Option<StudyOverview>, StoreError> {
        let select = "SELECT COUNT(*) AS instances, COUNT(rejected_title) AS rejected, COUNT(DISTINCT series_uid) AS series, \
                      CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS bytes, MIN(stored_at) AS first_stored, MAX(stored_at) AS last_stored \
                      FROM instances WHERE study_uid = $1";
        let row = self.row(sql(select).bind(study_uid)).await?.ok_or(StoreError::Unreadable { column: "instances" })?;
        let time = |column| -> Result<Option<Timestamp>, StoreError> {
            let milliseconds: Option<i64> = row.optional_integer(column)?;
            milliseconds.map(|ms| Timestamp::from_millisecond(ms).map_err(|_| StoreError::Unreadable { column })).transpose()
        };
        let mut study = StudyOverview {
            study_uid: study_uid.to_owned(),
            instances: row.unsigned("instances")?,
            rejected: row.unsigned("rejected")?,
            series: row.unsigned("series")?,
            bytes: row.unsigned("bytes")?,
            first_stored: time("first_stored")?,
            last_stored: time("last_stored")?,
            manifests: Vec::new(),
            commits: 0,
            registrations: 0,
        };
        let select = "SELECT m.document_unique_id, e.status, e.version, e.registered_at, \
                      (SELECT COUNT(*) FROM manifest_references r WHERE r.entry_uuid = m.entry_uuid) AS listed, \
                      (SELECT COUNT(*) FROM manifest_references r LEFT JOIN instances i ON i.sop_instance_uid = r.sop_instance_uid \
                       WHERE r.entry_uuid = m.entry_uuid AND i.sop_instance_uid IS NULL) AS missing \
                      FROM manifests m JOIN entries e ON e.entry_uuid = m.entry_uuid WHERE m.study_uid = $1 ORDER BY e.registered_at, e.version";
        for row in self.rows(sql(select).bind(study_uid)).await? {
            study.manifests.push(ManifestOverview {
                document_unique_id: row.text("document_unique_id")?,
                status: row.text("status")?,
                version: row.unsigned("version")?,
                registered_at: row.time("registered_at")?,
                references: row.unsigned("listed")?,
                missing: row.unsigned("missing")?,
            });
        }
        let select = "SELECT kind, COUNT(*) AS receipts FROM receipts WHERE study_uid = $1 GROUP BY kind";
        for row in self.rows(sql(select).bind(study_uid)).await? {
            match row.text("kind")?.as_str() {
                "R3" => study.commits = row.unsigned("receipts")?,
                "R4" => study.registrations = row.unsigned("receipts")?,
                _ => {}
            }
        }
        Ok((study.instances > 0 || !study.manifests.is_empty()).then_some(study))
    }

    /// Studies of a patient, of any of its identifiers, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn studies_of(&mut self, _: &Operator, patient: &PatientId, limit: u32) -> Result<Vec<String>, StoreError> {
        let Some(key) = self.patient_key(patient).await? else { return Ok(Vec::new()) };
        let select = "SELECT study_uid FROM imaging_units WHERE patient_key = $1 UNION \
                      SELECT m.study_uid FROM manifests m JOIN entries e ON e.entry_uuid = m.entry_uuid WHERE e.patient_key = $1 \
                      ORDER BY study_uid LIMIT $2";
        self.rows(sql(select).bind(&key.0).bind(limit)).await?.iter().map(|row| row.text("study_uid")).collect()
    }

    /// Whether an instance of the study was committed at or after `since`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stored_since(&mut self, study_uid: &str, since: Timestamp) -> Result<bool, StoreError> {
        let select = "SELECT sop_instance_uid FROM instances WHERE study_uid = $1 AND stored_at >= $2 LIMIT 1";
        Ok(self.row(sql(select).bind(study_uid).bind(since)).await?.is_some())
    }

    /// A page of instances with their objects, in the order of their UIDs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_objects(&mut self, _: &Operator, after: Option<&str>, limit: u32) -> Result<Vec<HeldObject>, StoreError> {
        let select = "SELECT sop_instance_uid, object_key, object_size, data_set_offset, transfer_syntax_uid, digest FROM instances \
                      WHERE sop_instance_uid > $1 ORDER BY sop_instance_uid LIMIT $2";
        let held = |row: &super::sql::Row| {
            Ok(HeldObject {
                sop_instance_uid: row.text("sop_instance_uid")?,
                object_key: row.parsed("object_key", ObjectKey::parse)?,
                object_size: row.unsigned("object_size")?,
                data_set_offset: row.unsigned("data_set_offset")?,
                transfer_syntax_uid: row.text("transfer_syntax_uid")?,
                digest: row.parsed("digest", Digest::parse)?,
            })
        };
        self.rows(sql(select).bind(after.unwrap_or_default()).bind(limit)).await?.iter().map(held).collect()
    }

    /// A page of documents with their objects, in the order of their uniqueIds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_documents(&mut self, _: &Operator, after: Option<&str>, limit: u32) -> Result<Vec<HeldDocument>, StoreError> {
        let select = "SELECT unique_id, object_key, size, sha1 FROM documents WHERE unique_id > $1 ORDER BY unique_id LIMIT $2";
        let held = |row: &super::sql::Row| {
            Ok(HeldDocument {
                unique_id: row.text("unique_id")?,
                object_key: row.parsed("object_key", ObjectKey::parse)?,
                size: row.unsigned("size")?,
                sha1: row.text("sha1")?,
            })
        };
        self.rows(sql(select).bind(after.unwrap_or_default()).bind(limit)).await?.iter().map(held).collect()
    }
}

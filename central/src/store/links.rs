//! Links between patients that are not merged (A24, A37; profile 06 §6).
//!
//! A link is kept between the ids that were linked; whom they name is looked up, so that a merge, and its reversal, need not touch it.
//! The set of a patient is everybody who is reached by links.

use super::patients::PatientKey;
use super::sql::sql;
use super::{StoreError, Tx};
use idr_ihe::metadata::PatientId;
use jiff::Timestamp;

/// Patients in a set beside the one that is asked about.
pub const LINKED_MAX: usize = 64;

impl Tx {
    /// Links two ids. `false`: they were linked already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn link(&mut self, a: &PatientId, b: &PatientId, now: Timestamp) -> Result<bool, StoreError> {
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        let insert = "INSERT INTO patient_links (a_authority, a_id, b_authority, b_id, linked_at) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (a_authority, a_id, b_authority, b_id) DO UPDATE SET linked_at = $5, ended_at = NULL \
                      WHERE patient_links.ended_at IS NOT NULL";
        let insert = sql(insert).bind(&a.authority).bind(&a.id).bind(&b.authority).bind(&b.id).bind(now);
        let linked = self.execute(insert).await? == 1;
        if linked {
            self.count("store_version", 1).await?;
        }
        Ok(linked)
    }

    /// Ends every link between two patients. `false`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unlink(&mut self, a: &PatientKey, b: &PatientKey, now: Timestamp) -> Result<bool, StoreError> {
        let select = "SELECT l.a_authority, l.a_id, l.b_authority, l.b_id FROM patient_links l \
                      JOIN patient_aliases x ON x.authority = l.a_authority AND x.id = l.a_id \
                      JOIN patient_aliases y ON y.authority = l.b_authority AND y.id = l.b_id \
                      WHERE l.ended_at IS NULL AND ((x.patient_key = $1 AND y.patient_key = $2) OR (x.patient_key = $2 AND y.patient_key = $1))";
        let rows = self.rows(sql(select).bind(&a.0).bind(&b.0)).await?;
        for row in &rows {
            let update = "UPDATE patient_links SET ended_at = $5 WHERE a_authority = $1 AND a_id = $2 AND b_authority = $3 AND b_id = $4";
            let update = sql(update).bind(row.text("a_authority")?).bind(row.text("a_id")?);
            self.execute(update.bind(row.text("b_authority")?).bind(row.text("b_id")?).bind(now)).await?;
        }
        if !rows.is_empty() {
            self.count("store_version", 1).await?;
        }
        Ok(!rows.is_empty())
    }

    /// Everybody else in a patient's set; `None`: more than [`LINKED_MAX`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn linked_with(&mut self, patient: &PatientKey) -> Result<Option<Vec<PatientKey>>, StoreError> {
        const NEXT: &str = "SELECT y.patient_key FROM patient_links l \
            JOIN patient_aliases x ON x.authority = l.a_authority AND x.id = l.a_id \
            JOIN patient_aliases y ON y.authority = l.b_authority AND y.id = l.b_id WHERE l.ended_at IS NULL AND x.patient_key = $1 \
            UNION SELECT x.patient_key FROM patient_links l \
            JOIN patient_aliases x ON x.authority = l.a_authority AND x.id = l.a_id \
            JOIN patient_aliases y ON y.authority = l.b_authority AND y.id = l.b_id WHERE l.ended_at IS NULL AND y.patient_key = $1";
        let mut found = vec![patient.clone()];
        let mut next = 0;
        while let Some(key) = found.get(next).cloned() {
            next += 1;
            for row in self.rows(sql(NEXT).bind(&key.0)).await? {
                let other = PatientKey(row.text("patient_key")?);
                if !found.contains(&other) {
                    found.push(other);
                }
            }
            if found.len() > LINKED_MAX + 1 {
                return Ok(None);
            }
        }
        found.remove(0);
        Ok(Some(found))
    }
}

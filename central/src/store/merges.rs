//! Merges, and their reversal (profile 06 §7.4, §7.5, §9).
//!
//! A merge moves everything of one patient to another: ids, registered objects, access units, service events, declarations. Each of them
//! keeps the id that it was recorded under, and the journal keeps which ids were whose: that is what a reversal goes by, also
//! for what came later. The row of the patient that went into the other stays, as it was.
//!
//! # Bounds
//! One statement per table, whatever the number of rows. A reversal reads the metadata of the survivor's submission sets and folders.

use super::declarations::{Declaration, NewDeclaration};
use super::patients::{Patient, PatientKey, patient_id};
use super::sql::{Row, Statement, sql};
use super::{StoreError, Tx};
use idr_ihe::metadata::{Folder, PatientId, SubmissionSet};
use idr_profile::access::{DenialStatus, combine};
use idr_profile::identifier::NoneAndActive;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A merge to be done. Both patients are locked.
#[derive(Debug)]
pub struct NewMerge<'a> {
    /// Names it.
    pub id: &'a str,
    /// `A40`, `A18`, `A47`, `operator`.
    pub kind: &'a str,
    /// Who stays.
    pub survivor: &'a Patient,
    /// Who goes into it.
    pub old: &'a Patient,
    /// Another primary id of the survivor from now on; one of the old patient's (A47).
    pub primary: Option<&'a PatientId>,
    /// `MSH-3|MSH-4`, or the operator.
    pub told_by: &'a str,
    /// MSH-10.
    pub message: Option<&'a str>,
    /// How consents of "none" and "active" are combined.
    pub rule: NoneAndActive,
    /// When.
    pub now: Timestamp,
}

/// A merge in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Names it.
    pub id: String,
    /// Its place in the order of merges.
    pub number: u64,
    /// `A40`, `A18`, `A47`, `operator`.
    pub kind: String,
    /// Who stayed.
    pub survivor_key: PatientKey,
    /// Who went into it.
    pub old_key: PatientKey,
    /// Primary id of the survivor, before.
    pub survivor: PatientId,
    /// Primary id of the old patient, before.
    pub old: PatientId,
    /// Who told it.
    pub told_by: String,
    /// When.
    pub merged_at: Timestamp,
    /// The first of two persons who take it back, and when.
    pub split_asked: Option<(String, Timestamp)>,
    /// When it was taken back.
    pub split_at: Option<Timestamp>,
}

/// What was before.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PreImage {
    survivor: Side,
    old: Side,
    /// Ids of the old patient.
    old_ids: Vec<PatientId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Side {
    primary: PatientId,
    labels: Vec<String>,
}

/// Tables whose rows know the id that they were recorded under.
const RECORDED: [&str; 4] = ["entries", "imaging_units", "service_events", "declarations"];
/// Tables whose metadata tells it.
const SETS: [&str; 2] = ["submission_sets", "folders"];

impl Tx {
    /// Whether anything but demographics is kept of a patient.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_data(&mut self, patient: &PatientKey) -> Result<bool, StoreError> {
        for table in RECORDED.iter().chain(&SETS) {
            let select = sql(&format!("SELECT patient_key FROM {table} WHERE patient_key = $1 LIMIT 1")).bind(&patient.0);
            if self.row(select).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes two patients one. Gives whether a person should look at what became of their declarations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn merge(&mut self, new: &NewMerge<'_>) -> Result<bool, StoreError> {
        let (survivor, old) = (new.survivor, new.old);
        let combined = combine(&self.own_state(survivor, new.now).await?, &self.own_state(old, new.now).await?, new.rule);
        let side = |patient: &Patient| Side { primary: patient.ids[0].clone(), labels: patient.labels.clone() };
        let before = PreImage { survivor: side(survivor), old: side(old), old_ids: old.ids.clone() };
        let (number, version) = (self.count("merges", 1).await?, self.store_version().await?);
        let insert = "INSERT INTO merges (merge_id, number, kind, survivor_key, old_key, survivor_authority, survivor_id, old_authority, old_id, \
                      told_by, message, merged_at, store_version, pre_image) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let insert = sql(insert)
            .bind(new.id)
            .bind(number)
            .bind(new.kind)
            .bind(&survivor.key.0)
            .bind(&old.key.0)
            .bind(&survivor.ids[0].authority)
            .bind(&survivor.ids[0].id)
            .bind(&old.ids[0].authority)
            .bind(&old.ids[0].id)
            .bind(new.told_by)
            .bind(new.message)
            .bind(new.now)
            .bind(version)
            .bind(super::units::json(&before));
        self.execute(insert).await?;
        for table in RECORDED.iter().chain(&SETS).chain(&["patient_aliases"]) {
            let update = sql(&format!("UPDATE {table} SET patient_key = $1 WHERE patient_key = $2"));
            self.execute(update.bind(&survivor.key.0).bind(&old.key.0)).await?;
        }
        self.execute(sql("UPDATE patients SET merged_by = $1 WHERE patient_key = $2").bind(new.id).bind(&old.key.0)).await?;
        let mut labels = survivor.labels.clone();
        labels.extend(old.labels.iter().filter(|label| !survivor.labels.contains(label)).cloned());
        self.set_primary(&survivor.key, new.primary.unwrap_or(&survivor.ids[0]), &labels).await?;
        let combination =
            Declaration::Combination { informed: combined.informed, consents: combined.consents, absolute: combined.absolute };
        self.record_version(new.id, &survivor.ids[0], &combination, new.now).await?;
        Ok(combined.differs)
    }

    /// A merge by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn merge_by_id(&mut self, id: &str) -> Result<Option<Merge>, StoreError> {
        self.row(sql(&format!("{MERGE} WHERE merge_id = $1")).bind(id)).await?.as_ref().map(merge).transpose()
    }

    /// Merges that a patient took part in, in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn merges_of(&mut self, patient: &PatientKey, limit: u32) -> Result<Vec<Merge>, StoreError> {
        let select = sql(&format!("{MERGE} WHERE survivor_key = $1 OR old_key = $1 ORDER BY number LIMIT $2"));
        self.rows(select.bind(&patient.0).bind(limit)).await?.iter().map(merge).collect()
    }

    /// The newest merge, not taken back, that must be taken back before `merge`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn later_merge(&mut self, merge: &Merge) -> Result<Option<String>, StoreError> {
        let select = "SELECT merge_id FROM merges WHERE number > $1 AND split_at IS NULL AND (survivor_key = $2 OR old_key = $2) \
                      ORDER BY number DESC LIMIT 1";
        self.row(sql(select).bind(merge.number).bind(&merge.survivor_key.0)).await?.map(|row| row.text("merge_id")).transpose()
    }

    /// Notes the first of two persons who take a merge back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ask_split(&mut self, id: &str, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let update = sql("UPDATE merges SET split_asked_by = $2, split_asked_at = $3 WHERE merge_id = $1 AND split_at IS NULL");
        self.execute(update.bind(id).bind(by).bind(now)).await.map(|_| ())
    }

    /// Takes a merge back. What was recorded under an id of the old patient goes back to it; denials and withdrawals that were recorded since
    /// hold for both. `fresh` makes ids of declarations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn split(
        &mut self,
        merge: &Merge,
        by: &str,
        reason: &str,
        now: Timestamp,
        fresh: &mut (dyn FnMut() -> String + Send),
    ) -> Result<(), StoreError> {
        let select = sql("SELECT store_version, pre_image FROM merges WHERE merge_id = $1").bind(&merge.id);
        let row = self.row(select).await?.ok_or(StoreError::Unreadable { column: "merge_id" })?;
        let (version, before): (u64, PreImage) = (row.unsigned("store_version")?, row.json("pre_image")?);
        let since = self.declared_since(&merge.survivor_key, version).await?;
        for id in &before.old_ids {
            let update = sql("UPDATE patient_aliases SET patient_key = $1 WHERE patient_key = $2 AND authority = $3 AND id = $4");
            self.execute(update.bind(&merge.old_key.0).bind(&merge.survivor_key.0).bind(&id.authority).bind(&id.id)).await?;
            for table in RECORDED {
                let update = sql(&format!(
                    "UPDATE {table} SET patient_key = $1 WHERE patient_key = $2 AND recorded_authority = $3 AND recorded_id = $4"
                ));
                self.execute(update.bind(&merge.old_key.0).bind(&merge.survivor_key.0).bind(&id.authority).bind(&id.id)).await?;
            }
        }
        for table in SETS {
            let select = sql(&format!("SELECT entry_uuid, metadata FROM {table} WHERE patient_key = $1")).bind(&merge.survivor_key.0);
            for row in self.rows(select).await? {
                let patient = match table {
                    "folders" => row.json::<Folder>("metadata")?.patient_id,
                    _ => row.json::<SubmissionSet>("metadata")?.patient_id,
                };
                if before.old_ids.contains(&patient) {
                    let update = sql(&format!("UPDATE {table} SET patient_key = $1 WHERE entry_uuid = $2"));
                    self.execute(update.bind(&merge.old_key.0).bind(row.text("entry_uuid")?)).await?;
                }
            }
        }
        self.execute(sql("UPDATE patients SET merged_by = NULL WHERE patient_key = $1").bind(&merge.old_key.0)).await?;
        let labels = sql("SELECT labels FROM patients WHERE patient_key = $1").bind(&merge.survivor_key.0);
        let mut labels: Vec<String> = self.row(labels).await?.ok_or(StoreError::Unreadable { column: "labels" })?.json("labels")?;
        // What the old patient brought goes with it; what was added since stays.
        labels.retain(|label| before.survivor.labels.contains(label) || !before.old.labels.contains(label));
        self.set_primary(&merge.survivor_key, &before.survivor.primary, &labels).await?;
        self.record_version(&merge.id, &before.survivor.primary, &Declaration::Separation, now).await?;
        for (recorded_under, declaration) in since {
            let other = if before.old_ids.contains(&recorded_under) { &before.survivor.primary } else { &before.old.primary };
            let id = fresh();
            let copy = match declaration {
                Declaration::Denial(denial) => Declaration::Denial(idr_profile::access::Denial { id: id.clone(), ..denial }),
                other => other,
            };
            self.record_version(&id, other, &copy, now).await?;
        }
        let update = sql("UPDATE merges SET split_by = $2, split_at = $3, split_reason = $4 WHERE merge_id = $1");
        self.execute(update.bind(&merge.id).bind(by).bind(now).bind(reason)).await.map(|_| ())
    }

    /// Active denials and withdrawals that were recorded after a version, with the id that each was recorded under.
    async fn declared_since(&mut self, patient: &PatientKey, version: u64) -> Result<Vec<(PatientId, Declaration)>, StoreError> {
        let select = "SELECT d.body, d.recorded_authority AS authority, d.recorded_id AS id FROM declarations d WHERE d.patient_key = $1 \
                      AND d.store_version > $2 AND d.store_version = \
                      (SELECT MAX(v.store_version) FROM declarations v WHERE v.declaration_id = d.declaration_id) ORDER BY d.store_version";
        let mut found = Vec::new();
        for row in self.rows(sql(select).bind(&patient.0).bind(version)).await? {
            let declaration: Declaration = row.json("body")?;
            let closes = match &declaration {
                Declaration::Denial(denial) => denial.status == DenialStatus::Active,
                declaration => matches!(declaration, Declaration::Withdrawal { .. }),
            };
            if closes {
                found.push((patient_id(&row)?, declaration));
            }
        }
        Ok(found)
    }

    async fn record_version(&mut self, id: &str, patient: &PatientId, declaration: &Declaration, now: Timestamp) -> Result<(), StoreError> {
        let new = NewDeclaration { id, patient: Some(patient), declaration, detail: "{\"recorder\":\"merge\"}", recorded_at: now };
        self.record_declaration(&new).await.map(|_| ())
    }

    async fn set_primary(&mut self, patient: &PatientKey, primary: &PatientId, labels: &[String]) -> Result<(), StoreError> {
        let update: Statement = sql("UPDATE patients SET authority = $2, id = $3, labels = $4 WHERE patient_key = $1").bind(&patient.0);
        self.execute(update.bind(&primary.authority).bind(&primary.id).bind(super::units::json(labels))).await.map(|_| ())
    }
}

const MERGE: &str = "SELECT merge_id, number, kind, survivor_key, old_key, survivor_authority, survivor_id, old_authority, old_id, told_by, \
    merged_at, split_asked_by, split_asked_at, split_at FROM merges";

fn merge(row: &Row) -> Result<Merge, StoreError> {
    let instant = |column: &'static str| -> Result<Option<Timestamp>, StoreError> {
        let found = row.optional_integer(column)?.map(Timestamp::from_millisecond).transpose();
        found.map_err(|_| StoreError::Unreadable { column })
    };
    Ok(Merge {
        id: row.text("merge_id")?,
        number: row.unsigned("number")?,
        kind: row.text("kind")?,
        survivor_key: PatientKey(row.text("survivor_key")?),
        old_key: PatientKey(row.text("old_key")?),
        survivor: PatientId { id: row.text("survivor_id")?, authority: row.text("survivor_authority")? },
        old: PatientId { id: row.text("old_id")?, authority: row.text("old_authority")? },
        told_by: row.text("told_by")?,
        merged_at: row.time("merged_at")?,
        split_asked: row.optional_text("split_asked_by")?.zip(instant("split_asked_at")?),
        split_at: instant("split_at")?,
    })
}

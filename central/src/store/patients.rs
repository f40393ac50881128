//! Patients and their identifiers (profile 06 §6, §7.1).

use super::sql::{Row, Value, sql};
use super::{CHUNK, StoreError, Tx};
use idr_ihe::metadata::PatientId;
use idr_profile::access::KnownEvent;
use jiff::Timestamp;
use jiff::civil::Date;
use std::fmt;
use uuid::Uuid;

/// Name of a patient in our tables. Made from the first identifier; stays when that changes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatientKey(pub(super) String);

impl fmt::Debug for PatientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A patient as known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    /// Name in our tables.
    pub key: PatientKey,
    /// Every identifier, the primary (surviving) one first.
    pub ids: Vec<PatientId>,
    /// Birth date, if a feed told it.
    pub birth_date: Option<Date>,
    /// Labels.
    pub labels: Vec<String>,
}

/// How a patient became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The first object of an unseen id (06 §6 `auto_create`).
    Registration,
    /// An ADT or identity feed.
    Feed,
}

impl Tx {
    /// head(id): the patient whom an identifier names, old ids of merges included. `None`: unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn patient(&mut self, id: &PatientId) -> Result<Option<Patient>, StoreError> {
        let Some(key) = self.patient_key(id).await? else { return Ok(None) };
        let select = sql("SELECT authority, id, birth_date, labels FROM patients WHERE patient_key = $1").bind(&key.0);
        let row = self.row(select).await?.ok_or(StoreError::Unreadable { column: "patient_key" })?;
        let primary = patient_id(&row)?;
        let birth_date = row.optional_text("birth_date")?;
        let birth_date = birth_date.map(|date| date.parse().map_err(|_| StoreError::Unreadable { column: "birth_date" })).transpose()?;
        let labels = row.json("labels")?;
        let select =
            sql("SELECT authority, id FROM patient_aliases WHERE patient_key = $1 ORDER BY created_at, authority, id").bind(&key.0);
        let mut ids = vec![primary.clone()];
        for row in self.rows(select).await? {
            ids.extend(Some(patient_id(&row)?).filter(|id| *id != primary));
        }
        Ok(Some(Patient { key, ids, birth_date, labels }))
    }

    /// Primary identifier of a patient.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn primary_of(&mut self, patient: &PatientKey) -> Result<PatientId, StoreError> {
        let select = sql("SELECT authority, id FROM patients WHERE patient_key = $1").bind(&patient.0);
        patient_id(&self.row(select).await?.ok_or(StoreError::Unreadable { column: "patient_key" })?)
    }

    /// Key of the patient whom an identifier names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn patient_key(&mut self, id: &PatientId) -> Result<Option<PatientKey>, StoreError> {
        let select = sql("SELECT patient_key FROM patient_aliases WHERE authority = $1 AND id = $2").bind(&id.authority).bind(&id.id);
        self.row(select).await?.map(|row| row.text("patient_key").map(PatientKey)).transpose()
    }

    /// The patient of an identifier, made if it is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_patient(&mut self, id: &PatientId, origin: Origin, now: Timestamp) -> Result<PatientKey, StoreError> {
        if let Some(key) = self.patient_key(id).await? {
            return Ok(key);
        }
        let key = Uuid::new_v5(&NAMESPACE, format!("patient|{}|{}", id.authority, id.id).as_bytes()).to_string();
        let origin = match origin {
            Origin::Registration => "registration",
            Origin::Feed => "feed",
        };
        let insert = "INSERT INTO patients (patient_key, authority, id, labels, origin, created_at) VALUES ($1, $2, $3, '[]', $4, $5) \
                      ON CONFLICT DO NOTHING";
        self.execute(sql(insert).bind(&key).bind(&id.authority).bind(&id.id).bind(origin).bind(now)).await?;
        let insert = "INSERT INTO patient_aliases (authority, id, patient_key, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        self.execute(sql(insert).bind(&id.authority).bind(&id.id).bind(&key).bind(now)).await?;
        self.patient_key(id).await?.ok_or(StoreError::Unreadable { column: "patient_key" })
    }

    /// Lets an identifier that nothing is stored under name a known patient (06 §7.3, old id unknown). `false`: it already
    /// names somebody; joining two patients who both have data is a merge.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_alias(&mut self, alias: &PatientId, patient: &PatientKey, now: Timestamp) -> Result<bool, StoreError> {
        let insert = "INSERT INTO patient_aliases (authority, id, patient_key, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let insert = sql(insert).bind(&alias.authority).bind(&alias.id).bind(&patient.0).bind(now);
        Ok(self.execute(insert).await? == 1)
    }

    /// Holds other writers of this patient off until the end of the transaction (08 §6.4). Patients are locked in the
    /// order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another writer holds it for too long.
    pub async fn lock_patient(&mut self, patient: &PatientKey) -> Result<(), StoreError> {
        let mut select = sql("SELECT patient_key FROM patients WHERE patient_key = $1").bind(&patient.0);
        select.push(self.connection.for_update());
        self.row(select).await?.map(|_| ()).ok_or(StoreError::Unreadable { column: "patient_key" })
    }

    /// Birth date and labels as a feed tells them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn describe_patient(&mut self, patient: &PatientKey, birth_date: Option<Date>, labels: &[String]) -> Result<(), StoreError> {
        let update = sql("UPDATE patients SET birth_date = $1, labels = $2 WHERE patient_key = $3");
        self.execute(update.bind(birth_date).bind(super::units::json(labels)).bind(&patient.0)).await.map(|_| ())
    }

    /// Birth date as shown, which decisions about minors read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_birth_date(&mut self, patient: &PatientKey, birth_date: Option<Date>) -> Result<(), StoreError> {
        let update = sql("UPDATE patients SET birth_date = $1 WHERE patient_key = $2").bind(birth_date).bind(&patient.0);
        self.execute(update).await.map(|_| ())
    }

    /// Records or renews a service event (06 §6), as told of the patient under one of its ids. `false`: it is another patient's, and
    /// stays so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_service_event(
        &mut self,
        oid: &str,
        patient: &PatientKey,
        recorded_under: &PatientId,
        event: &KnownEvent,
        unit: Option<&str>,
    ) -> Result<bool, StoreError> {
        let insert = "INSERT INTO service_events (oid, patient_key, controller, unit, start_date, end_date, recorded_authority, recorded_id) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (oid) DO UPDATE SET controller = $3, \
                      unit = COALESCE($4, service_events.unit), start_date = COALESCE($5, service_events.start_date), \
                      end_date = $6 WHERE service_events.patient_key = $2";
        let insert = sql(insert).bind(oid).bind(&patient.0).bind(&event.controller).bind(unit).bind(event.start).bind(event.end);
        Ok(self.execute(insert.bind(&recorded_under.authority).bind(&recorded_under.id)).await? == 1)
    }

    /// Which of these ids are known, for a rule over many of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn patient_keys(&mut self, ids: &[PatientId]) -> Result<Vec<(PatientId, PatientKey)>, StoreError> {
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK / 2) {
            let mut select = sql("SELECT authority, id, patient_key FROM patient_aliases WHERE ");
            for (n, id) in chunk.iter().enumerate() {
                select.push(if n == 0 { "(authority = " } else { " OR (authority = " });
                select.push_bind(Value::from(&id.authority)).push(" AND id = ").push_bind(&id.id).push(")");
            }
            for row in self.rows(select).await? {
                found.push((patient_id(&row)?, PatientKey(row.text("patient_key")?)));
            }
        }
        Ok(found)
    }
}

pub(super) fn patient_id(row: &Row) -> Result<PatientId, StoreError> {
    Ok(PatientId { id: row.text("id")?, authority: row.text("authority")? })
}

/// Namespace of names that we make (profile 02 §5.1).
pub(super) const NAMESPACE: Uuid = Uuid::from_u128(0x564c_21b4_8f42_5346_ac03_6c18_6142_c317);

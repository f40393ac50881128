//! Access units as columns (profile 05 §1, §2).

use super::patients::patient_id;
use super::sql::Row;
use super::{StoreError, Tx};
use crate::store::sql::sql;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry, PatientId};
use idr_profile::access::{AccessUnit, Sector, Status, UnitId};
use idr_profile::identifier::Specifier;
use jiff::civil::Date;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// Columns of [`entry`], over `entries e` and [`NEWEST`]. What decides on access is what the newest version says of the document, removed
/// or not: an older version shows nothing that the newest hides.
pub(super) const ENTRY: &str = "e.entry_uuid, e.logical_id, e.version, e.status, e.metadata, e.recorded_authority, e.recorded_id, \
    n.controller, n.register, n.specifier, n.service_event, n.service_unit, n.episode, n.access_date, n.sector, e.access_status, \
    n.release_date, n.minor_code, n.labels, n.unreadable, p.authority, p.id";

/// What `entries e` is joined with for [`ENTRY`].
pub(super) const NEWEST: &str = "JOIN patients p ON p.patient_key = e.patient_key JOIN entries n ON n.logical_id = e.logical_id \
    AND n.version = (SELECT MAX(w.version) FROM entries w WHERE w.logical_id = e.logical_id)";

/// A document entry as it is now: the registered metadata with the patient's surviving id, status and version.
pub(super) fn entry(row: &Row) -> Result<(AccessUnit, DocumentEntry), StoreError> {
    let unit = entry_unit(row)?;
    let mut entry: DocumentEntry = row.json("metadata")?;
    entry.patient_id = unit.patient.clone();
    entry.logical_id = Some(row.text("logical_id")?);
    entry.version = Some(u32::try_from(row.integer("version")?).map_err(|_| StoreError::Unreadable { column: "version" })?);
    entry.status = Some(availability(row)?);
    Ok((unit, entry))
}

/// The access unit of a document entry. What cannot be read makes the unit `unreadable`: only own use opens it.
pub(super) fn entry_unit(row: &Row) -> Result<AccessUnit, StoreError> {
    let patient = patient_id(row)?;
    let mut unreadable = row.integer("unreadable")? != 0;
    let unit = AccessUnit {
        id: UnitId(row.text("entry_uuid")?),
        recorded_under: recorded_under(row, &patient)?,
        patient,
        controller: row.text("controller")?,
        register: row.text("register")?,
        specifier: specifier(row, &mut unreadable)?,
        unit: row.optional_text("service_unit")?,
        episode: row.optional_text("episode")?,
        service_event: row.text_or_none("service_event")?,
        date: date(row, "access_date", &mut unreadable)?,
        sector: row.parsed("sector", named).unwrap_or_else(|_| {
            unreadable = true;
            Sector::Unknown
        }),
        status: row.parsed("access_status", named)?,
        release_date: date(row, "release_date", &mut unreadable)?,
        minor_code: row.optional_text("minor_code")?,
        labels: row.json("labels")?,
        unreadable: false,
    };
    Ok(AccessUnit { unreadable, ..unit })
}

/// Columns of an imaging unit, over `imaging_units u JOIN patients p`.
pub(super) const IMAGING_UNIT: &str = "u.unit_id, u.study_uid, u.patient_key, u.recorded_authority, u.recorded_id, u.controller, \
    u.register, u.specifier, u.service_event, u.study_date, p.authority, p.id";

/// The access unit of stored instances, before its manifest entry is taken in.
fn imaging_unit(row: &Row) -> Result<AccessUnit, StoreError> {
    let patient = patient_id(row)?;
    let mut unreadable = false;
    let unit = AccessUnit {
        id: UnitId(row.text("unit_id")?),
        recorded_under: recorded_under(row, &patient)?,
        patient,
        controller: row.text("controller")?,
        register: row.text("register")?,
        specifier: specifier(row, &mut unreadable)?,
        unit: None,
        episode: None,
        service_event: row.text_or_none("service_event")?,
        date: date(row, "study_date", &mut unreadable)?,
        sector: Sector::Health,
        status: Status::Active,
        release_date: None,
        minor_code: None,
        labels: Vec::new(),
        unreadable: false,
    };
    Ok(AccessUnit { unreadable, ..unit })
}

/// Units met in one look-up, so that each is made once.
pub(super) type Units = HashMap<String, AccessUnit>;

impl Tx {
    /// The access unit of an instance row that has the columns [`IMAGING_UNIT`]. The manifest entry with the same study,
    /// patient, controller, register, specifier and service event gives what the assertion did not say, by its newest version, whatever
    /// service event that names; the Approved one, the newest if there are several. If the instance was stored without a service event, an entry with one serves too:
    /// otherwise a delayed release or a minor's code on it would not hold for its images.
    pub(super) async fn unit_of_instance(&mut self, row: &Row, units: &mut Units) -> Result<AccessUnit, StoreError> {
        let id = row.text("unit_id")?;
        if let Some(unit) = units.get(&id) {
            return Ok(unit.clone());
        }
        let mut unit = imaging_unit(row)?;
        let select = format!(
            "SELECT {ENTRY} FROM manifests m JOIN entries o ON o.entry_uuid = m.entry_uuid JOIN entries e ON e.logical_id = o.logical_id {NEWEST} \
             WHERE e.version = n.version AND m.study_uid = $1 AND o.patient_key = $2 AND o.controller = $3 AND o.register = $4 \
             AND o.specifier = $5 AND (o.service_event = $6 OR $6 = '') \
             ORDER BY CASE WHEN o.service_event = $6 THEN 0 ELSE 1 END, CASE WHEN e.removed_at IS NULL THEN 0 ELSE 1 END, \
             CASE e.status WHEN 'Approved' THEN 0 ELSE 1 END, \
             e.registered_at DESC, e.version DESC, e.entry_uuid LIMIT 1"
        );
        let mut select = sql(&select);
        for column in ["study_uid", "patient_key", "controller", "register", "specifier", "service_event"] {
            select = select.bind(row.text(column)?);
        }
        if let Some(row) = self.row(select).await? {
            let manifest = entry_unit(&row)?;
            unit.unit = manifest.unit;
            unit.episode = manifest.episode;
            unit.date = manifest.date.or(unit.date);
            unit.sector = manifest.sector;
            unit.status = manifest.status;
            unit.release_date = manifest.release_date;
            unit.minor_code = manifest.minor_code;
            unit.labels = manifest.labels;
            unit.unreadable |= manifest.unreadable;
        }
        units.insert(id, unit.clone());
        Ok(unit)
    }
}

pub(super) fn availability(row: &Row) -> Result<AvailabilityStatus, StoreError> {
    row.parsed("status", named)
}

fn recorded_under(row: &Row, patient: &PatientId) -> Result<Option<PatientId>, StoreError> {
    let recorded = PatientId { id: row.text("recorded_id")?, authority: row.text("recorded_authority")? };
    Ok((recorded != *patient).then_some(recorded))
}

fn specifier(row: &Row, unreadable: &mut bool) -> Result<Option<Specifier>, StoreError> {
    let specifier = row.text_or_none("specifier")?.map(Specifier::try_from).transpose();
    *unreadable |= specifier.is_err();
    Ok(specifier.unwrap_or_default())
}

fn date(row: &Row, column: &'static str, unreadable: &mut bool) -> Result<Option<Date>, StoreError> {
    let date = row.optional_text(column)?.as_deref().map(str::parse).transpose();
    *unreadable |= date.is_err();
    Ok(date.unwrap_or_default())
}

/// A value that serde writes as one string.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// Reads back what [`name`] wrote.
pub(super) fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

pub(super) fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("our types have string keys")
}

/// A specifier in a key column.
pub(super) fn specifier_column(specifier: Option<&Specifier>) -> &str {
    specifier.map_or("", Specifier::as_str)
}

//! Stored instances: commit, look-up, rejection, and what a manifest lists but nobody stored.

use super::patients::{NAMESPACE, Origin};
use super::receipts::{Custody, ManifestRow, carried};
use super::sql::{Row, sql};
use super::units::{IMAGING_UNIT, Units, specifier_column};
use super::{CHUNK, Found, StoreError, Tx, candidates};
use crate::objects::ObjectKey;
use idr_ihe::metadata::PatientId;
use idr_profile::access::{AccessUnit, Candidate, Status, StoredUnder};
use idr_profile::digest::Digest;
use idr_profile::receipt::{Carried, Object, ReceiptHash, Source, Statement};
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::BTreeMap;
use uuid::Uuid;

/// An instance whose bytes are durable under `object_key` and that is to be committed.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0020,000D)
    pub study_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// (0002,0010)
    pub transfer_syntax_uid: String,
    /// Profile 01 §3.1.
    pub digest: Digest,
    /// Bytes of the data set.
    pub size_bytes: u64,
    /// Where the Part 10 file is.
    pub object_key: ObjectKey,
    /// Bytes of the Part 10 file.
    pub object_size: u64,
    /// Where the data set begins in it.
    pub data_set_offset: u64,
    /// Patient of the instance, canonical.
    pub patient: PatientId,
    /// Access unit it is stored under (05 §4.2).
    pub stored_under: StoredUnder,
    /// (0008,0020), if it is a date.
    pub study_date: Option<Date>,
    /// Organisation of the assertion's issuer, OID.
    pub stored_by: String,
    /// Who sent it, for the receipts.
    pub source: Source,
    /// Hash of the R1 that came with it.
    pub acceptance: Option<ReceiptHash>,
    /// What keeps it from being stored: the rules that are at REJECT now, in their order.
    pub enforced: Vec<Inconsistency>,
}

/// How an instance contradicts what is stored of its study or series (01 D701, D702, D711, D713). Rejected instances and
/// deprecated manifests do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inconsistency {
    /// The study has an instance with another Patient ID.
    PatientId,
    /// The study has an instance with another issuer.
    Issuer,
    /// The series is known in another study.
    SeriesElsewhere,
    /// The study is known for another patient, merges applied.
    StudyOfAnother,
}

impl Inconsistency {
    /// All, in the order of their rules.
    pub const ALL: [Self; 4] = [Self::PatientId, Self::Issuer, Self::SeriesElsewhere, Self::StudyOfAnother];
}

/// A stored instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInstance {
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0020,000D)
    pub study_uid: String,
    /// (0020,000E)
    pub series_uid: String,
    /// (0002,0010) of the stored bytes.
    pub transfer_syntax_uid: String,
    /// Profile 01 §3.1.
    pub digest: Digest,
    /// Bytes of the data set.
    pub size_bytes: u64,
    /// Where the Part 10 file is.
    pub object_key: ObjectKey,
    /// Bytes of the Part 10 file.
    pub object_size: u64,
    /// Where the data set begins in it.
    pub data_set_offset: u64,
    /// Title of the rejection note that took it out of search and retrieve.
    pub rejected_title: Option<String>,
    /// When it was committed.
    pub stored_at: Timestamp,
}

/// What became of one instance of a commit. The bytes of anything but `New` belong to nobody: the caller discards them
/// after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Stored, with its R3.
    New {
        /// R3.
        receipt: Box<Carried>,
    },
    /// The same SOP Instance UID and digest is held already (01 D731): success, stored once.
    Identical {
        /// Whether it stands under the same access unit, so that its receipts are the sender's to read.
        same_unit: bool,
        /// R3 of the first arrival, if `same_unit`.
        receipt: Option<Box<Carried>>,
    },
    /// The SOP Instance UID is held with another digest (01 D732, D733). Nothing was changed.
    Conflict {
        /// What is held. Its owner is not told to the sender (05 §8 rule 5).
        held: Box<StoredInstance>,
    },
    /// It contradicts what is stored of its study or series. Nothing was changed.
    Inconsistent(Inconsistency),
    /// The instance was rejected and may not come back (01 D734; after 113039 it may, which is not done here).
    Rejected {
        /// Title of the rejection note.
        title: String,
    },
}

/// Outcome of [`Tx::commit_instances`].
#[derive(Debug)]
pub struct Commit {
    /// One per instance, in their order.
    pub arrivals: Vec<Arrival>,
    /// R4 of each registered manifest that had waited for one of the new instances.
    pub registrations: Vec<Carried>,
}

/// Which instances of a study.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// All.
    Study,
    /// One series.
    Series(&'a str),
    /// These SOP Instance UIDs.
    Instances(&'a [String]),
    /// One instance of one series.
    Instance {
        /// Series Instance UID.
        series_uid: &'a str,
        /// SOP Instance UID.
        sop_instance_uid: &'a str,
    },
}

/// A reference of an Approved manifest whose instance is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingReference {
    /// DocumentEntry.uniqueId of the manifest.
    pub document_unique_id: String,
    /// Study Instance UID.
    pub study_uid: String,
    /// Series Instance UID.
    pub series_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// When the manifest was registered.
    pub registered_at: Timestamp,
}

impl Tx {
    /// Commits instances: each is inserted if its SOP Instance UID is new, its R3 stands in the same commit, and so does
    /// a new R4 of every registered manifest that lists one of them (11 §2). Makes unknown patients (06 §6).
    ///
    /// # Errors
    /// [`StoreError`]: nothing of the batch may be committed.
    pub async fn commit_instances(&mut self, new: &[NewInstance], custody: &Custody, now: Timestamp) -> Result<Commit, StoreError> {
        let mut arrivals = Vec::with_capacity(new.len());
        let mut waiting: BTreeMap<String, (ManifestRow, &Source)> = BTreeMap::new();
        for instance in new {
            let arrival = self.commit_instance(instance, custody, now).await?;
            if matches!(arrival, Arrival::New { .. }) {
                for manifest in self.manifests_of(instance).await? {
                    waiting.entry(manifest.entry_uuid.clone()).or_insert((manifest, &instance.source));
                }
            }
            arrivals.push(arrival);
        }
        let mut registrations = Vec::with_capacity(waiting.len());
        for (manifest, source) in waiting.into_values() {
            registrations.push(self.issue_registration(custody, now, source, &manifest).await?);
        }
        Ok(Commit { arrivals, registrations })
    }

    async fn commit_instance(&mut self, new: &NewInstance, custody: &Custody, now: Timestamp) -> Result<Arrival, StoreError> {
        let before = match self.arrived_before(new).await? {
            Some(known @ (Arrival::Identical { .. } | Arrival::New { .. })) => return Ok(known),
            before => before,
        };
        if let Some(inconsistency) = self.inconsistency(new).await? {
            return Ok(Arrival::Inconsistent(inconsistency));
        }
        if let Some(arrival) = before {
            return Ok(arrival);
        }
        let unit_id = self.ensure_unit(new, now).await?;
        let insert = "INSERT INTO instances (sop_instance_uid, study_uid, series_uid, sop_class_uid, transfer_syntax_uid, digest, \
                      size_bytes, object_key, object_size, data_set_offset, unit_id, stored_by, stored_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (sop_instance_uid) DO NOTHING";
        let insert = sql(insert)
            .bind(&new.sop_instance_uid)
            .bind(&new.study_uid)
            .bind(&new.series_uid)
            .bind(&new.sop_class_uid)
            .bind(&new.transfer_syntax_uid)
            .bind(new.digest.to_string())
            .bind(new.size_bytes)
            .bind(new.object_key.to_string())
            .bind(new.object_size)
            .bind(new.data_set_offset)
            .bind(unit_id)
            .bind(&new.stored_by)
            .bind(now);
        if self.execute(insert).await? == 0 {
            // Another node was faster between the look and the insert.
            return self.arrived_before(new).await?.ok_or(StoreError::Busy);
        }
        let object = Object {
            sop_instance_uid: new.sop_instance_uid.clone(),
            sop_class_uid: new.sop_class_uid.clone(),
            study_uid: new.study_uid.clone(),
            transfer_syntax_uid: new.transfer_syntax_uid.clone(),
            digest: new.digest,
            size_bytes: new.size_bytes,
        };
        let statement = Statement::Commit { object, source: new.source.clone(), acceptance: new.acceptance };
        Ok(Arrival::New { receipt: Box::new(self.issue(custody, now, statement).await?) })
    }

    async fn arrived_before(&mut self, new: &NewInstance) -> Result<Option<Arrival>, StoreError> {
        let select = format!(
            "SELECT {INSTANCE}, {IMAGING_UNIT} FROM instances i JOIN imaging_units u ON u.unit_id = i.unit_id \
             JOIN patients p ON p.patient_key = u.patient_key WHERE i.sop_instance_uid = $1"
        );
        let Some(row) = self.row(sql(&select).bind(&new.sop_instance_uid)).await? else { return Ok(None) };
        let held = instance(&row)?;
        if let Some(title) = held.rejected_title {
            return Ok(Some(Arrival::Rejected { title }));
        }
        if held.digest != new.digest {
            return Ok(Some(Arrival::Conflict { held: Box::new(held) }));
        }
        let under = &new.stored_under;
        let same_unit = row.text("controller")? == under.controller
            && row.text("register")? == under.register
            && row.text("specifier")? == specifier_column(under.specifier.as_ref())
            && row.text_or_none("service_event")? == under.service_event;
        let mut receipt = None;
        if same_unit {
            let select = sql("SELECT carried FROM receipts WHERE sop_instance_uid = $1 AND kind = 'R3' ORDER BY id LIMIT 1");
            let found = self.row(select.bind(&new.sop_instance_uid)).await?;
            receipt = found.as_ref().map(carried).transpose()?.map(Box::new);
            if held.object_key == new.object_key {
                // Its own row, of a commit whose success was not told: these bytes have an owner and must not be discarded.
                let receipt = receipt.ok_or(StoreError::Unreadable { column: "carried" })?;
                return Ok(Some(Arrival::New { receipt }));
            }
        }
        Ok(Some(Arrival::Identical { same_unit, receipt }))
    }

    /// The first of the enforced inconsistencies that there is.
    async fn inconsistency(&mut self, new: &NewInstance) -> Result<Option<Inconsistency>, StoreError> {
        let select = "SELECT DISTINCT u.recorded_authority, u.recorded_id, u.patient_key FROM imaging_units u WHERE u.study_uid = $1 \
                      AND EXISTS (SELECT 1 FROM instances i WHERE i.study_uid = $1 AND i.unit_id = u.unit_id AND i.rejected_title IS NULL)";
        let units = self.rows(sql(select).bind(&new.study_uid)).await?;
        for inconsistency in &new.enforced {
            let found = match inconsistency {
                Inconsistency::PatientId => differs(&units, "recorded_id", &new.patient.id)?,
                Inconsistency::Issuer => differs(&units, "recorded_authority", &new.patient.authority)?,
                Inconsistency::SeriesElsewhere => {
                    let select = "SELECT sop_instance_uid FROM instances WHERE series_uid = $1 AND study_uid <> $2 \
                                  AND rejected_title IS NULL LIMIT 1";
                    self.row(sql(select).bind(&new.series_uid).bind(&new.study_uid)).await?.is_some()
                }
                Inconsistency::StudyOfAnother => {
                    let select = "SELECT DISTINCT e.patient_key FROM manifests m JOIN entries e ON e.entry_uuid = m.entry_uuid \
                                  WHERE m.study_uid = $1 AND e.status = 'Approved'";
                    let manifests = self.rows(sql(select).bind(&new.study_uid)).await?;
                    // An unknown patient has no key, so it is nobody whose study this could be.
                    let own = self.patient_key(&new.patient).await?.map(|key| key.0).unwrap_or_default();
                    differs(&units, "patient_key", &own)? || differs(&manifests, "patient_key", &own)?
                }
            };
            if found {
                return Ok(Some(*inconsistency));
            }
        }
        Ok(None)
    }

    async fn ensure_unit(&mut self, new: &NewInstance, now: Timestamp) -> Result<String, StoreError> {
        let patient = self.ensure_patient(&new.patient, Origin::Registration, now).await?;
        let under = &new.stored_under;
        let event = under.service_event.as_deref().unwrap_or_default();
        // Named after the first instance: unique, and no patient data.
        let name = format!("unit|{}|{}", new.study_uid, new.sop_instance_uid);
        let insert = "INSERT INTO imaging_units (unit_id, study_uid, patient_key, recorded_authority, recorded_id, controller, register, \
                      specifier, service_event, study_date) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
        let insert = sql(insert)
            .bind(Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string())
            .bind(&new.study_uid)
            .bind(&patient.0)
            .bind(&new.patient.authority)
            .bind(&new.patient.id)
            .bind(&under.controller)
            .bind(&under.register)
            .bind(specifier_column(under.specifier.as_ref()))
            .bind(event)
            .bind(new.study_date);
        self.execute(insert).await?;
        let select = "SELECT unit_id FROM imaging_units WHERE study_uid = $1 AND recorded_authority = $2 AND recorded_id = $3 \
                      AND controller = $4 AND register = $5 AND specifier = $6 AND service_event = $7";
        let select = sql(select)
            .bind(&new.study_uid)
            .bind(&new.patient.authority)
            .bind(&new.patient.id)
            .bind(&under.controller)
            .bind(&under.register)
            .bind(specifier_column(under.specifier.as_ref()))
            .bind(event);
        self.row(select).await?.ok_or(StoreError::Unreadable { column: "unit_id" })?.text("unit_id")
    }

    async fn manifests_of(&mut self, new: &NewInstance) -> Result<Vec<ManifestRow>, StoreError> {
        let select = "SELECT m.entry_uuid, m.document_unique_id, m.study_uid FROM manifest_references r \
             JOIN manifests m ON m.entry_uuid = r.entry_uuid JOIN entries e ON e.entry_uuid = m.entry_uuid \
             JOIN patient_aliases a ON a.patient_key = e.patient_key AND a.authority = $3 AND a.id = $4 \
             WHERE r.sop_instance_uid = $1 AND m.study_uid = $2 AND e.status = 'Approved' AND e.removed_at IS NULL \
             AND e.controller = $5 AND e.register = $6 AND e.specifier = $7 ORDER BY m.entry_uuid";
        let select = sql(select)
            .bind(&new.sop_instance_uid)
            .bind(&new.study_uid)
            .bind(&new.patient.authority)
            .bind(&new.patient.id)
            .bind(&new.stored_under.controller)
            .bind(&new.stored_under.register)
            .bind(specifier_column(new.stored_under.specifier.as_ref()));
        let manifest = |row: &Row| {
            Ok(ManifestRow {
                entry_uuid: row.text("entry_uuid")?,
                document_unique_id: row.text("document_unique_id")?,
                study_uid: row.text("study_uid")?,
            })
        };
        self.rows(select).await?.iter().map(manifest).collect()
    }

    /// Instances of a study, rejected ones included (their unit says so), in the order of series and arrival.
    ///
    /// # Errors
    /// [`StoreError::TooMany`].
    pub async fn instances(
        &mut self,
        study_uid: &str,
        which: Which<'_>,
        limit: usize,
    ) -> Result<Vec<Candidate<StoredInstance>>, StoreError> {
        self.instances_found(study_uid, which, limit).await.map(candidates)
    }

    pub(super) async fn instances_found(
        &mut self,
        study_uid: &str,
        which: Which<'_>,
        limit: usize,
    ) -> Result<Found<StoredInstance>, StoreError> {
        let lists: Vec<&[String]> = match which {
            Which::Study | Which::Series(_) | Which::Instance { .. } => vec![&[]],
            Which::Instances(uids) => uids.chunks(CHUNK).collect(),
        };
        let (mut found, mut known) = (Vec::new(), Units::new());
        for list in lists {
            let mut select = sql(&format!(
                "SELECT {INSTANCE}, {IMAGING_UNIT} FROM instances i JOIN imaging_units u ON u.unit_id = i.unit_id \
                 JOIN patients p ON p.patient_key = u.patient_key WHERE i.study_uid = $1"
            ))
            .bind(study_uid);
            if let Which::Series(series_uid) | Which::Instance { series_uid, .. } = which {
                select.push(" AND i.series_uid = ").push_bind(series_uid);
            }
            if let Which::Instance { sop_instance_uid, .. } = which {
                select.push(" AND i.sop_instance_uid = ").push_bind(sop_instance_uid);
            }
            select.and_in("i.sop_instance_uid", list);
            select.push(" ORDER BY i.series_uid, i.stored_at, i.sop_instance_uid LIMIT ").push_bind(limit as u64 + 1);
            for row in self.rows(select).await? {
                if found.len() == limit {
                    return Err(StoreError::TooMany { limit });
                }
                found.push((self.unit_with_rejection(&row, &mut known).await?, instance(&row)?));
            }
        }
        Ok(found)
    }

    /// One instance, whatever its study.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn instance(&mut self, sop_instance_uid: &str) -> Result<Option<Candidate<StoredInstance>>, StoreError> {
        let select = format!(
            "SELECT {INSTANCE}, {IMAGING_UNIT} FROM instances i JOIN imaging_units u ON u.unit_id = i.unit_id \
             JOIN patients p ON p.patient_key = u.patient_key WHERE i.sop_instance_uid = $1"
        );
        match self.row(sql(&select).bind(sop_instance_uid)).await? {
            Some(row) => Ok(Some(Candidate::new(self.unit_with_rejection(&row, &mut Units::new()).await?, instance(&row)?))),
            None => Ok(None),
        }
    }

    /// The access unit of an instance as it is now, for the check before its bytes go out (05 §9).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unit_of(&mut self, sop_instance_uid: &str) -> Result<Option<AccessUnit>, StoreError> {
        let select = format!(
            "SELECT i.rejected_title, {IMAGING_UNIT} FROM instances i JOIN imaging_units u ON u.unit_id = i.unit_id \
             JOIN patients p ON p.patient_key = u.patient_key WHERE i.sop_instance_uid = $1"
        );
        match self.row(sql(&select).bind(sop_instance_uid)).await? {
            Some(row) => Ok(Some(self.unit_with_rejection(&row, &mut Units::new()).await?)),
            None => Ok(None),
        }
    }

    pub(super) async fn unit_with_rejection(&mut self, row: &Row, known: &mut Units) -> Result<AccessUnit, StoreError> {
        let mut unit = self.unit_of_instance(row, known).await?;
        if row.optional_text("rejected_title")?.is_some() {
            unit.status = Status::Rejected;
        }
        Ok(unit)
    }

    /// Takes instances of a study out of search and retrieve (RAD-66). The caller has decided that they are its own to
    /// reject. Gives the ones that are not stored. Bytes and rows stay.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reject_instances(&mut self, study_uid: &str, uids: &[String], title: &str) -> Result<Vec<String>, StoreError> {
        let mut unknown = Vec::new();
        for uid in uids {
            let update = sql("UPDATE instances SET rejected_title = $3 WHERE study_uid = $1 AND sop_instance_uid = $2");
            if self.execute(update.bind(study_uid).bind(uid).bind(title)).await? == 0 {
                unknown.push(uid.clone());
            }
        }
        Ok(unknown)
    }

    /// Which of these SOP Instance UIDs a manifest may not list (08 M-431): rejected instances, stored key object
    /// selections (rejection notes, manifests of a sender), registered manifests.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unusable_references(&mut self, uids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut unusable = Vec::new();
        for chunk in uids.chunks(CHUNK) {
            let mut select = sql("SELECT sop_instance_uid AS uid FROM instances WHERE (rejected_title IS NOT NULL OR sop_class_uid = $1)")
                .bind(KEY_OBJECT_SELECTION);
            select.and_in("sop_instance_uid", chunk);
            select.push(" UNION SELECT document_unique_id AS uid FROM manifests WHERE document_unique_id IN ").push_list(chunk);
            for row in self.rows(select).await? {
                unusable.push(row.text("uid")?);
            }
        }
        Ok(unusable)
    }

    /// References of Approved manifests whose instances are not stored, oldest manifest first: what the daily
    /// reconciliation looks at (08 §7 RAD-68, N). With a study, that study's only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn missing_references(&mut self, study_uid: Option<&str>, limit: u32) -> Result<Vec<MissingReference>, StoreError> {
        let mut select = sql("SELECT m.document_unique_id, m.study_uid, r.series_uid, r.sop_instance_uid, e.registered_at \
             FROM entries e JOIN manifests m ON m.entry_uuid = e.entry_uuid JOIN manifest_references r ON r.entry_uuid = m.entry_uuid \
             LEFT JOIN instances i ON i.sop_instance_uid = r.sop_instance_uid \
             WHERE e.status = 'Approved' AND e.removed_at IS NULL AND i.sop_instance_uid IS NULL");
        select.and_in("m.study_uid", study_uid);
        select.push(" ORDER BY e.registered_at, m.entry_uuid, r.sop_instance_uid LIMIT ").push_bind(limit);
        let missing = |row: &Row| {
            Ok(MissingReference {
                document_unique_id: row.text("document_unique_id")?,
                study_uid: row.text("study_uid")?,
                series_uid: row.text("series_uid")?,
                sop_instance_uid: row.text("sop_instance_uid")?,
                registered_at: row.time("registered_at")?,
            })
        };
        self.rows(select).await?.iter().map(missing).collect()
    }

    /// Which of these objects no committed row names. Together with [`crate::objects::Objects::strays`]: bytes that a
    /// failed commit left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unreferenced(&mut self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>, StoreError> {
        let mut unreferenced = Vec::new();
        for chunk in keys.chunks(CHUNK / 2) {
            let texts: Vec<String> = chunk.iter().map(ObjectKey::to_string).collect();
            let mut select = sql("SELECT object_key FROM instances WHERE object_key IN ");
            select.push_list(&texts).push(" UNION SELECT object_key FROM documents WHERE object_key IN ").push_list(&texts);
            let rows = self.rows(select).await?;
            let referenced = rows.iter().map(|row| row.text("object_key")).collect::<Result<std::collections::HashSet<_>, _>>()?;
            unreferenced.extend(chunk.iter().zip(texts).filter(|(_, text)| !referenced.contains(text)).map(|(key, _)| key.clone()));
        }
        Ok(unreferenced)
    }
}

/// A row whose column is something else.
fn differs(rows: &[Row], column: &'static str, own: &str) -> Result<bool, StoreError> {
    for row in rows {
        if row.text(column)? != own {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) const INSTANCE: &str = "i.sop_instance_uid, i.sop_class_uid, i.study_uid, i.series_uid, i.transfer_syntax_uid, i.digest, i.size_bytes, \
    i.object_key, i.object_size, i.data_set_offset, i.rejected_title, i.stored_at";

pub(super) fn instance(row: &Row) -> Result<StoredInstance, StoreError> {
    Ok(StoredInstance {
        sop_instance_uid: row.text("sop_instance_uid")?,
        sop_class_uid: row.text("sop_class_uid")?,
        study_uid: row.text("study_uid")?,
        series_uid: row.text("series_uid")?,
        transfer_syntax_uid: row.text("transfer_syntax_uid")?,
        digest: row.parsed("digest", Digest::parse)?,
        size_bytes: row.unsigned("size_bytes")?,
        object_key: row.parsed("object_key", ObjectKey::parse)?,
        object_size: row.unsigned("object_size")?,
        data_set_offset: row.unsigned("data_set_offset")?,
        rejected_title: row.optional_text("rejected_title")?,
        stored_at: row.time("stored_at")?,
    })
}

/// Key Object Selection Document Storage.
const KEY_OBJECT_SELECTION: &str = "1.2.840.10008.5.1.4.1.1.88.59";

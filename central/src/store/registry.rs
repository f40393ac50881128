//! Registration: a submission with its documents in one commit, and the registry state that the † rules of profile 08 §9
//! ask for.

use super::patients::{Origin, PatientKey};
use super::query::{code_column, padded};
use super::receipts::{Custody, ManifestRow};
use super::sql::{Row, Value, sql};
use super::units::{self, ENTRY, NEWEST, specifier_column};
use super::{CHUNK, StoreError, Tx};
use crate::objects::ObjectKey;
use idr_ihe::metadata::{Association, Author, AvailabilityStatus, DocumentEntry, EntryType, Folder, PatientId, Submission, SubmissionSet};
use idr_profile::access::{AccessUnit, Status, StoredUnder};
use idr_profile::receipt::{Carried, Source};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// A document whose bytes are durable and that becomes visible with the registration.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// `uniqueId` of its entry.
    pub unique_id: String,
    /// Where its bytes are.
    pub object_key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// SHA-1, hex.
    pub sha1: String,
    /// Media type.
    pub mime_type: String,
}

/// What a manifest (KOS) lists.
#[derive(Debug, Clone)]
pub struct NewManifest {
    /// Entry of the submission.
    pub entry_uuid: String,
    /// Study Instance UID.
    pub study_uid: String,
    /// Instances in its evidence.
    pub references: Vec<Reference>,
    /// Is its document here? A manifest of another repository (ITI-42) lists nothing and has no R4.
    pub held: bool,
}

/// One instance of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Series Instance UID.
    pub series_uid: String,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
}

/// A submission that passed every rule, with `urn:uuid:` ids, inside the lock of its patient.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    /// Objects as they are stored; status, version 1 and `lid` are set here.
    pub submission: &'a Submission,
    /// Access unit of each entry, in the order of the entries. Its `id` and `patient` are set here.
    pub units: &'a [AccessUnit],
    /// Register of the submitter: of sets and folders.
    pub stored_under: &'a StoredUnder,
    /// Documents (ITI-41); none for ITI-42.
    pub documents: &'a [NewDocument],
    /// Manifests among the entries.
    pub manifests: &'a [NewManifest],
    /// SHA-256 of the canonical content, hex (08 §4.7).
    pub content_sha256: &'a str,
    /// Organisation of the assertion's issuer, OID.
    pub stored_by: &'a str,
    /// Who submitted, for R4.
    pub source: &'a Source,
    /// When.
    pub now: Timestamp,
}

/// Outcome of [`Tx::register`].
#[derive(Debug)]
pub struct Registered {
    /// One R4 per manifest whose document is here, in their order.
    pub receipts: Vec<Carried>,
    /// Entries deprecated by RPLC, with their transformations and appendices.
    pub deprecated: Vec<String>,
    /// Staged bytes that nobody owns because the same document was stored before; discarded after the commit.
    pub unused_objects: Vec<ObjectKey>,
}

/// Class of a registry object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// DocumentEntry.
    Entry,
    /// SubmissionSet.
    SubmissionSet,
    /// Folder.
    Folder,
    /// Association.
    Association,
}

/// What a rule may know of a stored object. Not for answers: it is undecided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectState {
    /// Class.
    pub class: Class,
    /// `entryUUID`.
    pub entry_uuid: String,
    /// `uniqueId`; `None` for an association.
    pub unique_id: Option<String>,
    /// Status.
    pub status: AvailabilityStatus,
    /// Whose it is, for the visibility of 08 §9; `None` for an association, which is seen by its ends.
    pub unit: Option<AccessUnit>,
    /// Of an entry or folder.
    pub logical_id: Option<String>,
    /// Of an entry or folder.
    pub version: Option<u32>,
    /// Of an entry.
    pub entry: Option<EntryFacts>,
    /// Source and target of an association.
    pub ends: Option<(String, String)>,
}

/// What the rules compare of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFacts {
    /// `objectType`.
    pub entry_type: EntryType,
    /// SHA-1, lower-case hex.
    pub hash: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Study and sourceId, if it is a manifest.
    pub manifest: Option<(String, String)>,
}

/// A stored SubmissionSet, as M-308 and 08 §4.7 compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFacts {
    /// Organisation that submitted it.
    pub stored_by: String,
    /// SHA-256 of its canonical content.
    pub content_sha256: String,
    /// entryUUIDs of its manifests, whose R4 are given again.
    pub manifests: Vec<String>,
}

impl Tx {
    /// Registers a submission: objects, documents, manifests, deprecations and R4, in this transaction. Makes an unknown
    /// patient; whether that is allowed (M-140) was decided before.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if an id of it is used by an object that the rules did not see; [`StoreError::Contradiction`]
    /// for arguments that do not fit together. The transaction must then be dropped.
    pub async fn register(&mut self, new: &Registration<'_>, custody: &Custody) -> Result<Registered, StoreError> {
        let [set] = new.submission.submission_sets.as_slice() else {
            return Err(StoreError::Contradiction { what: "not exactly one SubmissionSet" });
        };
        if new.units.len() != new.submission.entries.len() {
            return Err(StoreError::Contradiction { what: "not one access unit per entry" });
        }
        let patient = self.ensure_patient(&set.patient_id, Origin::Registration, new.now).await?;
        self.insert_set(set, &patient, new).await?;
        for (entry, unit) in new.submission.entries.iter().zip(new.units) {
            self.insert_entry(entry, unit, &set.entry_uuid, new).await?;
        }
        for folder in &new.submission.folders {
            self.insert_folder(folder, &set.entry_uuid, new).await?;
        }
        let mut deprecated = Vec::new();
        for association in &new.submission.associations {
            self.insert_association(association, &set.entry_uuid, new.now).await?;
            if REPLACING.contains(&association.association_type.as_str()) {
                deprecated.extend(self.deprecate_replaced(&association.target).await?);
            }
        }
        let mut unused_objects = Vec::new();
        for document in new.documents {
            unused_objects.extend(self.insert_document(document, new).await?);
        }
        let mut receipts = Vec::with_capacity(new.manifests.len());
        for manifest in new.manifests {
            let entry = new.submission.entries.iter().find(|entry| entry.entry_uuid == manifest.entry_uuid);
            let entry = entry.ok_or(StoreError::Contradiction { what: "a manifest is no entry of the submission" })?;
            let row = self.insert_manifest(manifest, entry, &set.source_id).await?;
            if manifest.held {
                receipts.push(self.issue_registration(custody, new.now, new.source, &row).await?);
            }
        }
        Ok(Registered { receipts, deprecated, unused_objects })
    }

    async fn insert_set(&mut self, set: &SubmissionSet, patient: &PatientKey, new: &Registration<'_>) -> Result<(), StoreError> {
        let insert = "INSERT INTO submission_sets (entry_uuid, unique_id, source_id, patient_key, status, content_type, submission_time, \
                      content_sha256, controller, register, specifier, stored_by, registered_at, metadata) \
                      VALUES ($1, $2, $3, $4, 'Approved', $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING";
        let insert = sql(insert)
            .bind(&set.entry_uuid)
            .bind(&set.unique_id)
            .bind(&set.source_id)
            .bind(&patient.0)
            .bind(set.content_type_code.as_ref().map(code_column))
            .bind(set.submission_time.as_deref().map(padded))
            .bind(new.content_sha256)
            .bind(&new.stored_under.controller)
            .bind(&new.stored_under.register)
            .bind(specifier_column(new.stored_under.specifier.as_ref()))
            .bind(new.stored_by)
            .bind(new.now)
            .bind(units::json(set));
        if self.execute(insert).await? == 0 {
            return Err(StoreError::Taken { what: "the SubmissionSet's uniqueId or entryUUID" });
        }
        self.insert_authors(&set.entry_uuid, &set.authors).await
    }

    async fn insert_entry(
        &mut self,
        entry: &DocumentEntry,
        unit: &AccessUnit,
        set: &str,
        new: &Registration<'_>,
    ) -> Result<(), StoreError> {
        let patient = self.ensure_patient(&entry.patient_id, Origin::Registration, new.now).await?;
        let uuid = &entry.entry_uuid;
        let recorded = self.recorded_before(entry).await?.unwrap_or_else(|| entry.patient_id.clone());
        let values: [(&str, Value); 37] = [
            ("entry_uuid", uuid.into()),
            ("logical_id", entry.logical_id.as_ref().unwrap_or(uuid).into()),
            ("version", entry.version.unwrap_or(1).into()),
            ("status", "Approved".into()),
            ("entry_type", units::name(&entry.entry_type).into()),
            ("unique_id", (&entry.unique_id).into()),
            ("patient_key", patient.0.into()),
            ("recorded_authority", recorded.authority.into()),
            ("recorded_id", recorded.id.into()),
            ("mime_type", (&entry.mime_type).into()),
            ("hash", entry.hash.as_ref().map(|hash| hash.to_ascii_lowercase()).into()),
            ("size", entry.size.into()),
            ("repository_unique_id", entry.repository_unique_id.clone().into()),
            ("class_code", entry.class_code.as_ref().map(code_column).into()),
            ("type_code", entry.type_code.as_ref().map(code_column).into()),
            ("format_code", entry.format_code.as_ref().map(code_column).into()),
            ("practice_setting", entry.practice_setting_code.as_ref().map(code_column).into()),
            ("facility_type", entry.facility_type_code.as_ref().map(code_column).into()),
            ("creation_time", entry.creation_time.as_deref().map(padded).into()),
            ("service_start_time", entry.service_start_time.as_deref().map(padded).into()),
            ("service_stop_time", entry.service_stop_time.as_deref().map(padded).into()),
            ("controller", (&unit.controller).into()),
            ("register", (&unit.register).into()),
            ("specifier", specifier_column(unit.specifier.as_ref()).into()),
            ("service_event", unit.service_event.clone().unwrap_or_default().into()),
            ("service_unit", unit.unit.clone().into()),
            ("episode", unit.episode.clone().into()),
            ("access_date", unit.date.into()),
            ("sector", units::name(&unit.sector).into()),
            ("access_status", units::name(&Status::Active).into()),
            ("release_date", unit.release_date.into()),
            ("minor_code", unit.minor_code.clone().into()),
            ("labels", units::json(&unit.labels).into()),
            ("unreadable", unit.unreadable.into()),
            ("submission_uuid", set.into()),
            ("stored_by", new.stored_by.into()),
            ("registered_at", new.now.into()),
        ];
        let mut insert = sql("INSERT INTO entries (");
        for (column, _) in &values {
            insert.push(column).push(", ");
        }
        let values = values.into_iter().map(|(_, value)| value).chain([units::json(entry).into()]);
        insert.push("metadata)").push_rows([values.collect()]).push(" ON CONFLICT DO NOTHING");
        if self.execute(insert).await? == 0 {
            return Err(StoreError::Taken { what: "an entryUUID" });
        }
        let events = entry.event_codes.iter().map(|code| ("event", code));
        let codes: BTreeSet<(&str, String)> = events
            .chain(entry.confidentiality_codes.iter().map(|code| ("confidentiality", code)))
            .map(|(list, code)| (list, code_column(code)))
            .collect();
        let codes = codes.into_iter().map(|(list, code)| vec![uuid.into(), list.into(), code.into()]).collect();
        self.insert_all("INSERT INTO entry_codes (entry_uuid, list, code)", codes).await?;
        let references: BTreeSet<&String> = entry.reference_ids.iter().collect();
        let references = references.into_iter().map(|value| vec![uuid.into(), value.into()]).collect();
        self.insert_all("INSERT INTO entry_references (entry_uuid, value)", references).await?;
        self.insert_authors(uuid, &entry.authors).await
    }

    /// The id that the version before an entry was recorded under: a merge that is taken back parts patients, not versions of an
    /// object.
    async fn recorded_before(&mut self, entry: &DocumentEntry) -> Result<Option<PatientId>, StoreError> {
        let Some(logical_id) = entry.logical_id.as_ref().filter(|logical_id| **logical_id != entry.entry_uuid) else { return Ok(None) };
        let select =
            "SELECT recorded_authority AS authority, recorded_id AS id FROM entries WHERE logical_id = $1 ORDER BY version DESC LIMIT 1";
        self.row(sql(select).bind(logical_id)).await?.as_ref().map(super::patients::patient_id).transpose()
    }

    async fn insert_authors(&mut self, uuid: &str, authors: &[Author]) -> Result<(), StoreError> {
        let persons: BTreeSet<&String> = authors.iter().filter_map(|author| author.person.as_ref()).collect();
        let persons = persons.into_iter().map(|person| vec![uuid.into(), person.into()]).collect();
        self.insert_all("INSERT INTO object_authors (object_uuid, person)", persons).await
    }

    async fn insert_folder(&mut self, folder: &Folder, set: &str, new: &Registration<'_>) -> Result<(), StoreError> {
        let patient = self.ensure_patient(&folder.patient_id, Origin::Registration, new.now).await?;
        // As for an entry; a folder's metadata has the id that it was recorded under.
        let mut recorded = folder.clone();
        if let Some(logical_id) = folder.logical_id.as_ref().filter(|logical_id| **logical_id != folder.entry_uuid) {
            let select = sql("SELECT metadata FROM folders WHERE logical_id = $1 ORDER BY version DESC LIMIT 1").bind(logical_id);
            if let Some(before) = self.row(select).await? {
                recorded.patient_id = before.json::<Folder>("metadata")?.patient_id;
            }
        }
        let insert = "INSERT INTO folders (entry_uuid, logical_id, version, unique_id, patient_key, status, last_update_time, controller, \
                      register, specifier, submission_uuid, stored_by, registered_at, metadata) \
                      VALUES ($1, $2, $3, $4, $5, 'Approved', $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING";
        let insert = sql(insert)
            .bind(&folder.entry_uuid)
            .bind(folder.logical_id.as_ref().unwrap_or(&folder.entry_uuid))
            .bind(folder.version.unwrap_or(1))
            .bind(&folder.unique_id)
            .bind(&patient.0)
            .bind(dtm(new.now))
            .bind(&new.stored_under.controller)
            .bind(&new.stored_under.register)
            .bind(specifier_column(new.stored_under.specifier.as_ref()))
            .bind(set)
            .bind(new.stored_by)
            .bind(new.now)
            .bind(units::json(&recorded));
        if self.execute(insert).await? == 0 {
            return Err(StoreError::Taken { what: "a folder's entryUUID" });
        }
        let codes: BTreeSet<String> = folder.codes.iter().map(code_column).collect();
        let codes = codes.into_iter().map(|code| vec![(&folder.entry_uuid).into(), code.into()]).collect();
        self.insert_all("INSERT INTO folder_codes (entry_uuid, code)", codes).await
    }

    pub(super) async fn insert_association(&mut self, association: &Association, set: &str, now: Timestamp) -> Result<(), StoreError> {
        let insert = "INSERT INTO associations (entry_uuid, association_type, source, target, status, submission_uuid, registered_at, metadata) \
                      VALUES ($1, $2, $3, $4, 'Approved', $5, $6, $7) ON CONFLICT DO NOTHING";
        let insert = sql(insert)
            .bind(&association.entry_uuid)
            .bind(&association.association_type)
            .bind(&association.source)
            .bind(&association.target)
            .bind(set)
            .bind(now)
            .bind(units::json(association));
        match self.execute(insert).await? {
            0 => Err(StoreError::Taken { what: "an association's entryUUID" }),
            _ => Ok(()),
        }
    }

    async fn insert_document(&mut self, document: &NewDocument, new: &Registration<'_>) -> Result<Option<ObjectKey>, StoreError> {
        let insert = "INSERT INTO documents (unique_id, object_key, sha1, size, mime_type, stored_by, stored_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (unique_id) DO NOTHING";
        let insert = sql(insert)
            .bind(&document.unique_id)
            .bind(document.object_key.to_string())
            .bind(&document.sha1)
            .bind(document.size)
            .bind(&document.mime_type)
            .bind(new.stored_by)
            .bind(new.now);
        if self.execute(insert).await? == 1 {
            return Ok(None);
        }
        let select = sql("SELECT sha1, size FROM documents WHERE unique_id = $1").bind(&document.unique_id);
        let row = self.row(select).await?.ok_or(StoreError::Unreadable { column: "unique_id" })?;
        match row.text("sha1")? == document.sha1 && row.unsigned("size")? == document.size {
            true => {
                // Provided again after ITI-86: the bytes have stayed.
                let update = sql("UPDATE documents SET removed_at = NULL WHERE unique_id = $1 AND removed_at IS NOT NULL");
                self.execute(update.bind(&document.unique_id)).await?;
                Ok(Some(document.object_key.clone()))
            }
            false => Err(StoreError::Taken { what: "a document's uniqueId" }),
        }
    }

    async fn insert_manifest(&mut self, manifest: &NewManifest, entry: &DocumentEntry, source_id: &str) -> Result<ManifestRow, StoreError> {
        let insert = "INSERT INTO manifests (entry_uuid, document_unique_id, study_uid, source_id) VALUES ($1, $2, $3, $4)";
        let insert = sql(insert).bind(&manifest.entry_uuid).bind(&entry.unique_id).bind(&manifest.study_uid).bind(source_id);
        self.execute(insert).await?;
        let row = |reference: &Reference| {
            vec![
                (&manifest.entry_uuid).into(),
                (&reference.sop_instance_uid).into(),
                (&reference.series_uid).into(),
                (&reference.sop_class_uid).into(),
            ]
        };
        let insert = "INSERT INTO manifest_references (entry_uuid, sop_instance_uid, series_uid, sop_class_uid)";
        self.insert_all(insert, manifest.references.iter().map(row).collect()).await?;
        Ok(ManifestRow {
            entry_uuid: manifest.entry_uuid.clone(),
            document_unique_id: entry.unique_id.clone(),
            study_uid: manifest.study_uid.clone(),
        })
    }

    pub(super) async fn insert_all(&mut self, into: &str, rows: Vec<Vec<Value>>) -> Result<(), StoreError> {
        for chunk in rows.chunks(CHUNK / 4) {
            let mut insert = sql(into);
            insert.push_rows(chunk.iter().cloned());
            self.execute(insert).await?;
        }
        Ok(())
    }

    /// Deprecates an entry that is replaced, and its Approved transformations and appendices with theirs (ITI TF-2
    /// §3.42.4.1.3.5). Gives what was deprecated; nothing if it was deprecated before.
    async fn deprecate_replaced(&mut self, target: &str) -> Result<Vec<String>, StoreError> {
        let mut deprecated = Vec::new();
        let mut next = vec![target.to_owned()];
        while let Some(uuid) = next.pop() {
            if !self.set_status(&uuid, AvailabilityStatus::Deprecated, Status::Superseded).await? {
                continue;
            }
            let mut select =
                sql("SELECT source FROM associations WHERE status = 'Approved' AND removed_at IS NULL AND target = $1").bind(&uuid);
            select.and_in("association_type", DEPENDING.iter().copied());
            for row in self.rows(select).await? {
                next.push(row.text("source")?);
            }
            deprecated.push(uuid);
        }
        Ok(deprecated)
    }

    /// Sets the status of an entry, and what it means for access: `Superseded` after a replacement or a new version,
    /// `Invalidated` when a manifest became empty (02 §7). `false`: no such entry, or it has the status already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_status(&mut self, entry_uuid: &str, status: AvailabilityStatus, access: Status) -> Result<bool, StoreError> {
        let update = "UPDATE entries SET status = $2, access_status = $3 WHERE entry_uuid = $1 AND status <> $2";
        let update = sql(update).bind(entry_uuid).bind(units::name(&status)).bind(units::name(&access));
        Ok(self.execute(update).await? == 1)
    }

    /// Approved folders that hold an entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn folders_holding(&mut self, entry_uuid: &str) -> Result<Vec<String>, StoreError> {
        let select = "SELECT f.entry_uuid FROM folders f JOIN associations a ON a.source = f.entry_uuid \
                      WHERE a.target = $1 AND a.association_type = $2 AND a.status = 'Approved' AND f.status = 'Approved' \
                      AND a.removed_at IS NULL AND f.removed_at IS NULL \
                      ORDER BY f.entry_uuid";
        let rows = self.rows(sql(select).bind(entry_uuid).bind(super::graph::HAS_MEMBER)).await?;
        rows.iter().map(|row| row.text("entry_uuid")).collect()
    }

    /// Sets lastUpdateTime of folders whose members changed (08 §9, effects).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_folders(&mut self, entry_uuids: &[String], now: Timestamp) -> Result<(), StoreError> {
        for uuid in entry_uuids {
            let update = sql("UPDATE folders SET last_update_time = $2 WHERE entry_uuid = $1");
            self.execute(update.bind(uuid).bind(dtm(now))).await?;
        }
        Ok(())
    }

    /// State of the stored objects with these ids; unknown ids are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn objects_by_id(&mut self, ids: &[String]) -> Result<Vec<ObjectState>, StoreError> {
        let mut found = self.states("entry_uuid", ids).await?;
        for chunk in ids.chunks(CHUNK) {
            let mut select = sql("SELECT entry_uuid, status, source, target FROM associations WHERE removed_at IS NULL AND entry_uuid IN ");
            for row in self.rows_of(select.push_list(chunk)).await? {
                found.push(ObjectState {
                    class: Class::Association,
                    entry_uuid: row.text("entry_uuid")?,
                    unique_id: None,
                    status: units::availability(&row)?,
                    unit: None,
                    logical_id: None,
                    version: None,
                    entry: None,
                    ends: Some((row.text("source")?, row.text("target")?)),
                });
            }
        }
        Ok(found)
    }

    /// State of the stored entries, sets and folders with these uniqueIds, all versions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn objects_by_unique_id(&mut self, unique_ids: &[String]) -> Result<Vec<ObjectState>, StoreError> {
        self.states("unique_id", unique_ids).await
    }

    /// Approved manifests of a study from one source (M-435, M-436).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approved_manifests(&mut self, study_uid: &str, source_id: &str) -> Result<Vec<ObjectState>, StoreError> {
        let select = format!(
            "SELECT {ENTRY}, {FACTS} FROM manifests m JOIN entries e ON e.entry_uuid = m.entry_uuid \
             {NEWEST} WHERE m.study_uid = $1 AND m.source_id = $2 AND e.status = 'Approved' \
             AND e.removed_at IS NULL \
             ORDER BY e.registered_at, e.entry_uuid"
        );
        self.rows(sql(&select).bind(study_uid).bind(source_id)).await?.iter().map(entry_state).collect()
    }

    /// The SubmissionSet with this uniqueId (M-308, 08 §4.7).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn submission_set(&mut self, unique_id: &str) -> Result<Option<SetFacts>, StoreError> {
        let select = sql("SELECT entry_uuid, stored_by, content_sha256 FROM submission_sets WHERE unique_id = $1 AND removed_at IS NULL")
            .bind(unique_id);
        let Some(set) = self.row(select).await? else { return Ok(None) };
        let select = sql("SELECT m.entry_uuid FROM entries e JOIN manifests m ON m.entry_uuid = e.entry_uuid \
                          WHERE e.submission_uuid = $1 ORDER BY m.entry_uuid");
        let manifests = self.rows(select.bind(set.text("entry_uuid")?)).await?;
        let manifests = manifests.iter().map(|row| row.text("entry_uuid")).collect::<Result<_, _>>()?;
        Ok(Some(SetFacts { stored_by: set.text("stored_by")?, content_sha256: set.text("content_sha256")?, manifests }))
    }

    /// The newest R4 of a manifest entry, for an answer that is given again (08 §4.4).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn registration_receipt(&mut self, entry_uuid: &str) -> Result<Option<Carried>, StoreError> {
        let select = sql("SELECT carried FROM receipts WHERE entry_uuid = $1 AND kind = 'R4' ORDER BY id DESC LIMIT 1");
        self.row(select.bind(entry_uuid)).await?.as_ref().map(super::receipts::carried).transpose()
    }

    async fn states(&mut self, column: &str, values: &[String]) -> Result<Vec<ObjectState>, StoreError> {
        let mut found = Vec::new();
        for chunk in values.chunks(CHUNK) {
            let mut select = sql(&format!(
                "SELECT {ENTRY}, {FACTS} FROM entries e {NEWEST} \
                 LEFT JOIN manifests m ON m.entry_uuid = e.entry_uuid WHERE e.removed_at IS NULL AND e.{column} IN "
            ));
            for row in self.rows_of(select.push_list(chunk)).await? {
                found.push(entry_state(&row)?);
            }
            for (class, table, versions) in [
                (Class::SubmissionSet, "submission_sets", "NULL AS logical_id, NULL AS version"),
                (Class::Folder, "folders", "o.logical_id, o.version"),
            ] {
                let mut select = sql(&format!(
                    "SELECT o.entry_uuid, o.unique_id, o.status, o.controller, o.register, o.specifier, {versions}, p.authority, p.id \
                     FROM {table} o JOIN patients p ON p.patient_key = o.patient_key \
                     WHERE o.removed_at IS NULL AND o.{column} IN "
                ));
                for row in self.rows_of(select.push_list(chunk)).await? {
                    found.push(package_state(&row, class)?);
                }
            }
        }
        Ok(found)
    }

    async fn rows_of(&mut self, statement: &mut super::sql::Statement) -> Result<Vec<Row>, StoreError> {
        self.rows(std::mem::replace(statement, sql(""))).await
    }
}

pub(super) fn entry_state(row: &Row) -> Result<ObjectState, StoreError> {
    let manifest = row.optional_text("manifest_study")?.zip(row.optional_text("manifest_source")?);
    Ok(ObjectState {
        class: Class::Entry,
        entry_uuid: row.text("entry_uuid")?,
        unique_id: Some(row.text("unique_id")?),
        status: units::availability(row)?,
        unit: Some(units::entry_unit(row)?),
        logical_id: Some(row.text("logical_id")?),
        version: u32::try_from(row.integer("version")?).ok(),
        entry: Some(EntryFacts {
            entry_type: row.parsed("entry_type", units::named)?,
            hash: row.optional_text("hash")?,
            size: row.optional_integer("size")?.and_then(|size| size.try_into().ok()),
            manifest,
        }),
        ends: None,
    })
}

pub(super) fn package_state(row: &Row, class: Class) -> Result<ObjectState, StoreError> {
    let unit = super::graph::unit(row)?;
    Ok(ObjectState {
        class,
        entry_uuid: row.text("entry_uuid")?,
        unique_id: Some(row.text("unique_id")?),
        status: units::availability(row)?,
        unit: Some(unit),
        logical_id: row.optional_text("logical_id")?,
        version: row.optional_integer("version")?.and_then(|version| version.try_into().ok()),
        entry: None,
        ends: None,
    })
}

/// `YYYYMMDDhhmmss`, UTC.
fn dtm(time: Timestamp) -> String {
    time.strftime("%Y%m%d%H%M%S").to_string()
}

pub(super) const FACTS: &str = "e.unique_id, e.entry_type, e.hash, e.size, m.study_uid AS manifest_study, m.source_id AS manifest_source";
/// Associations whose target is deprecated (ITI TF-3 §4.2.2.2).
pub(super) const REPLACING: [&str; 2] = ["urn:ihe:iti:2007:AssociationType:RPLC", "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"];
/// Associations whose source follows its target into deprecation.
const DEPENDING: [&str; 2] = ["urn:ihe:iti:2007:AssociationType:APND", "urn:ihe:iti:2007:AssociationType:XFRM"];

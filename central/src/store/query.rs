//! Look-ups of document entries, their associations and documents (profile 08 §8). Everything comes as candidates.

use super::sql::{Row, Statement, sql};
use super::units::{self, ENTRY, NEWEST};
use super::{CHUNK, Found, StoreError, Tx, candidates};
use crate::objects::ObjectKey;
use idr_ihe::metadata::{Association, AvailabilityStatus, Code, DocumentEntry, EntryType, PatientId};
use idr_profile::access::{Candidate, Dependent, Shown};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// `From ≤ t < To` on DTM values, each padded to 14 digits (08 §8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// 4–14 digits.
    pub from: Option<String>,
    /// 4–14 digits.
    pub to: Option<String>,
}

/// FindDocuments and FindDocumentsByReferenceId. An empty list means "any"; the lists of lists are AND of OR.
#[derive(Debug, Clone, Default)]
pub struct DocumentFilter {
    /// `availabilityStatus`.
    pub statuses: Vec<AvailabilityStatus>,
    /// `objectType`; the query's default is the caller's.
    pub types: Vec<EntryType>,
    /// `classCode`.
    pub class_codes: Vec<Code>,
    /// `typeCode`.
    pub type_codes: Vec<Code>,
    /// `practiceSettingCode`.
    pub practice_settings: Vec<Code>,
    /// `healthcareFacilityTypeCode`.
    pub facility_types: Vec<Code>,
    /// `formatCode`.
    pub format_codes: Vec<Code>,
    /// `eventCodeList`.
    pub event_codes: Vec<Vec<Code>>,
    /// `confidentialityCode`.
    pub confidentiality_codes: Vec<Vec<Code>>,
    /// `referenceIdList`, CXi as registered.
    pub reference_ids: Vec<Vec<String>>,
    /// `authorPerson`, LIKE patterns (`%`, `_`), case-sensitive.
    pub author_persons: Vec<String>,
    /// `creationTime`.
    pub creation_time: TimeRange,
    /// `serviceStartTime`.
    pub service_start_time: TimeRange,
    /// `serviceStopTime`.
    pub service_stop_time: TimeRange,
    /// Controller of the register, OID.
    pub controllers: Vec<String>,
    /// Register code.
    pub registers: Vec<String>,
}

/// How entries are named in GetDocuments.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    /// `entryUUID`: that version.
    EntryUuids(&'a [String]),
    /// `uniqueId`.
    UniqueIds(&'a [String]),
    /// `logicalID`.
    LogicalIds(&'a [String]),
}

/// Which versions of a logical object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// The latest: `$MetadataLevel` 1.
    Latest,
    /// All: `$MetadataLevel` 2.
    All,
}

/// GetRelatedDocuments.
pub struct Related {
    /// The given entries and those reached.
    pub entries: Vec<Candidate<DocumentEntry>>,
    /// The associations that reach them, each shown if both ends are.
    pub associations: Vec<Dependent<Association>>,
}

/// Where the bytes of a document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In our repository.
    Here(ObjectKey),
    /// In another one; the key is set when they have been fetched and staged.
    Elsewhere(Arc<OnceLock<ObjectKey>>),
}

/// A document, of our repository or of another one that registered it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// `repositoryUniqueId`.
    pub repository: String,
    /// `uniqueId`.
    pub unique_id: String,
    /// Where its bytes are.
    pub place: Place,
    /// Bytes.
    pub size: u64,
    /// SHA-1 of the bytes, hex.
    pub sha1: String,
    /// Media type.
    pub mime_type: String,
}

impl StoredDocument {
    /// Where its bytes are; `None`: elsewhere, and they have not been fetched.
    pub fn object_key(&self) -> Option<&ObjectKey> {
        match &self.place {
            Place::Here(key) => Some(key),
            Place::Elsewhere(fetched) => fetched.get(),
        }
    }
}

impl Tx {
    pub(super) async fn documents_found(
        &mut self,
        patient: &PatientId,
        filter: &DocumentFilter,
        limit: usize,
    ) -> Result<Found<DocumentEntry>, StoreError> {
        let Some(key) = self.patient_key(patient).await? else { return Ok(Vec::new()) };
        let mut select = entries();
        select.push("e.patient_key = ").push_bind(&key.0);
        select.and_in("e.status", filter.statuses.iter().map(units::name));
        select.and_in("e.entry_type", filter.types.iter().map(units::name));
        for (column, codes) in [
            ("e.class_code", &filter.class_codes),
            ("e.type_code", &filter.type_codes),
            ("e.practice_setting", &filter.practice_settings),
            ("e.facility_type", &filter.facility_types),
            ("e.format_code", &filter.format_codes),
        ] {
            select.and_in(column, codes.iter().map(code_column));
        }
        select.and_in("e.controller", &filter.controllers);
        select.and_in("e.register", &filter.registers);
        for (column, range) in [
            ("e.creation_time", &filter.creation_time),
            ("e.service_start_time", &filter.service_start_time),
            ("e.service_stop_time", &filter.service_stop_time),
        ] {
            if let Some(from) = &range.from {
                select.push(" AND ").push(column).push(" >= ").push_bind(padded(from));
            }
            if let Some(to) = &range.to {
                select.push(" AND ").push(column).push(" < ").push_bind(padded(to));
            }
        }
        for (list, slots) in [("event", &filter.event_codes), ("confidentiality", &filter.confidentiality_codes)] {
            for slot in slots.iter().filter(|slot| !slot.is_empty()) {
                select.push(" AND EXISTS (SELECT 1 FROM entry_codes c WHERE c.entry_uuid = e.entry_uuid AND c.list = ").push_bind(list);
                select.and_in("c.code", slot.iter().map(code_column)).push(")");
            }
        }
        for slot in filter.reference_ids.iter().filter(|slot| !slot.is_empty()) {
            select.push(" AND EXISTS (SELECT 1 FROM entry_references r WHERE r.entry_uuid = e.entry_uuid");
            select.and_in("r.value", slot).push(")");
        }
        if !filter.author_persons.is_empty() {
            select.push(" AND EXISTS (SELECT 1 FROM object_authors a WHERE a.object_uuid = e.entry_uuid AND (");
            for (n, pattern) in filter.author_persons.iter().enumerate() {
                select.push(if n == 0 { "" } else { " OR " });
                self.connection.like(&mut select, "a.person", pattern);
            }
            select.push("))");
        }
        self.entries_found(select, limit).await
    }

    /// Entries by name, by first registration time, then entryUUID. Unknown names give nothing.
    ///
    /// # Errors
    /// [`StoreError::TooMany`].
    pub async fn get_documents(
        &mut self,
        names: Names<'_>,
        versions: Versions,
        limit: usize,
    ) -> Result<Vec<Candidate<DocumentEntry>>, StoreError> {
        self.documents_named(names, versions, limit).await.map(candidates)
    }

    pub(super) async fn documents_named(
        &mut self,
        names: Names<'_>,
        versions: Versions,
        limit: usize,
    ) -> Result<Found<DocumentEntry>, StoreError> {
        let (column, values, latest) = match names {
            Names::EntryUuids(values) => ("e.entry_uuid", values, false),
            Names::UniqueIds(values) => ("e.unique_id", values, versions == Versions::Latest),
            Names::LogicalIds(values) => ("e.logical_id", values, versions == Versions::Latest),
        };
        let values: BTreeSet<&String> = values.iter().collect();
        let values: Vec<&String> = values.into_iter().collect();
        let mut found = Vec::new();
        for chunk in values.chunks(CHUNK) {
            let mut select = entries();
            select.push(column).push(" IN ").push_list(chunk.iter().copied());
            if latest {
                select.push(
                    " AND e.version = (SELECT MAX(v.version) FROM entries v WHERE v.logical_id = e.logical_id AND v.removed_at IS NULL)",
                );
            }
            found.extend(self.entries_found(select, limit - found.len()).await?);
        }
        Ok(found)
    }

    /// The given entry, the entries reached from it by `types` in either direction, and those associations. Without any:
    /// empty (08 §8).
    ///
    /// # Errors
    /// [`StoreError::TooMany`].
    pub async fn get_related_documents(&mut self, entry_uuid: &str, types: &[String], limit: usize) -> Result<Related, StoreError> {
        let associations = self.association_rows(&[entry_uuid.to_owned()], types, limit).await?;
        let ends: BTreeSet<String> = associations.iter().flat_map(|of| [of.source.clone(), of.target.clone()]).collect();
        let ends: Vec<String> = ends.into_iter().collect();
        let entries = self.get_documents(Names::EntryUuids(&ends), Versions::All, limit).await?;
        Ok(Related { entries, associations: associations.into_iter().map(dependent).collect() })
    }

    pub(super) async fn association_rows(
        &mut self,
        ids: &[String],
        types: &[String],
        limit: usize,
    ) -> Result<Vec<Association>, StoreError> {
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK / 2) {
            let mut select =
                sql("SELECT metadata, status, entry_uuid, registered_at FROM associations WHERE removed_at IS NULL AND (source IN ");
            select.push_list(chunk).push(" OR target IN ").push_list(chunk).push(")");
            select.and_in("association_type", types);
            select.push(" ORDER BY registered_at, entry_uuid LIMIT ").push_bind(limit as u64 + 1);
            for row in self.rows(select).await? {
                let mut association: Association = row.json("metadata")?;
                association.status = Some(units::availability(&row)?);
                found.push((row.integer("registered_at")?, association));
            }
        }
        found.sort_by(|(at, a), (bt, b)| (at, &a.entry_uuid).cmp(&(bt, &b.entry_uuid)));
        found.dedup_by(|(_, a), (_, b)| a.entry_uuid == b.entry_uuid);
        match found.len() > limit {
            true => Err(StoreError::TooMany { limit }),
            false => Ok(found.into_iter().map(|(_, association)| association).collect()),
        }
    }

    /// A document by uniqueId, once for each registered entry (latest version) that has it: it may be given if one of
    /// them is permitted. Unknown: empty.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn document(&mut self, repository: &str, unique_id: &str) -> Result<Vec<Candidate<StoredDocument>>, StoreError> {
        self.document_found(repository, unique_id).await.map(candidates)
    }

    pub(super) async fn document_found(&mut self, repository: &str, unique_id: &str) -> Result<Found<StoredDocument>, StoreError> {
        let select =
            sql("SELECT object_key, size, sha1, mime_type FROM documents WHERE unique_id = $1 AND removed_at IS NULL").bind(unique_id);
        let Some(row) = self.row(select).await? else { return Ok(Vec::new()) };
        let document = StoredDocument {
            repository: repository.to_owned(),
            unique_id: unique_id.to_owned(),
            place: Place::Here(row.parsed("object_key", ObjectKey::parse)?),
            size: row.unsigned("size")?,
            sha1: row.text("sha1")?,
            mime_type: row.text("mime_type")?,
        };
        let rows = self.entries_of_document(repository, unique_id).await?;
        rows.iter().map(|row| Ok((units::entry_unit(row)?, document.clone()))).collect()
    }

    /// A document that another repository holds, once for each registered entry (latest version) that has it. Unknown, or registered
    /// without the hash and size by which it could be checked: empty.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn document_elsewhere(&mut self, repository: &str, unique_id: &str) -> Result<Vec<Candidate<StoredDocument>>, StoreError> {
        let place = Place::Elsewhere(Arc::default());
        let mut found: Found<StoredDocument> = Vec::new();
        for row in self.entries_of_document(repository, unique_id).await? {
            let (unit, entry) = units::entry(&row)?;
            let (Some(sha1), Some(size)) = (entry.hash, entry.size) else { continue };
            let (repository, unique_id, place) = (repository.to_owned(), unique_id.to_owned(), place.clone());
            let document =
                StoredDocument { repository, unique_id, place, size, sha1: sha1.to_ascii_lowercase(), mime_type: entry.mime_type };
            found.push((unit, document));
        }
        Ok(candidates(found))
    }

    async fn entries_of_document(&mut self, repository: &str, unique_id: &str) -> Result<Vec<Row>, StoreError> {
        let mut select = entries();
        // An entry of another repository gives no right to bytes of ours, whatever its uniqueId.
        select.push("e.unique_id = ").push_bind(unique_id).push(" AND e.repository_unique_id = ").push_bind(repository);
        select.push(" AND e.version = (SELECT MAX(v.version) FROM entries v WHERE v.logical_id = e.logical_id AND v.removed_at IS NULL)");
        select.push(" ORDER BY e.registered_at, e.entry_uuid");
        self.rows(select).await
    }

    async fn entries_found(&mut self, mut select: Statement, limit: usize) -> Result<Found<DocumentEntry>, StoreError> {
        select.push(" ORDER BY e.registered_at, e.entry_uuid LIMIT ").push_bind(limit as u64 + 1);
        let rows = self.rows(select).await?;
        if rows.len() > limit {
            return Err(StoreError::TooMany { limit });
        }
        rows.iter().map(units::entry).collect()
    }
}

/// An association is shown if both its ends are (05 §9).
fn dependent(association: Association) -> Dependent<Association> {
    let ends = vec![association.source.clone(), association.target.clone()];
    Dependent::new(association.entry_uuid.clone(), Shown::All(ends), association)
}

/// `SELECT … WHERE `.
fn entries() -> Statement {
    sql(&format!("SELECT {ENTRY} FROM entries e {NEWEST} WHERE e.removed_at IS NULL AND "))
}

/// `code^^scheme`.
pub(super) fn code_column(code: &Code) -> String {
    format!("{}^^{}", code.code, code.system)
}

/// A DTM with the digits it lacks set to the lowest: `2026` → `20260101000000`.
pub(super) fn padded(dtm: &str) -> String {
    const LOWEST: &str = "00000101000000";
    let mut padded = dtm.to_owned();
    padded.push_str(LOWEST.get(dtm.len()..).unwrap_or_default());
    padded
}

#[cfg(test)]
mod tests {
    use super::padded;

    #[test]
    fn times_are_padded_with_the_lowest_digits() {
        for (given, expected) in [
            ("2026", "20260101000000"),
            ("202602", "20260201000000"),
            ("20260215", "20260215000000"),
            ("2026021513", "20260215130000"),
            ("202602151359", "20260215135900"),
            ("20260215135958", "20260215135958"),
        ] {
            assert_eq!(padded(given), expected);
        }
    }
}

//! Look-ups of sets, folders and associations, with what proves that they may be shown (profile 05 §9, 08 §8).
//!
//! A set or folder is shown if one of its members of the same patient is, an association if both its ends are. So a look-up
//! brings the wanted objects and, beside them, the entries they depend on, as candidates; what is answered is the caller's
//! choice among those that were disclosed.

use super::query::{DocumentFilter, Names, Versions};
use super::sql::{Row, Statement, sql};
use super::units::{self, ENTRY, NEWEST};
use super::{CHUNK, Found, StoreError, Tx};
use idr_ihe::metadata::{Association, DocumentEntry, Folder, PatientId, SubmissionSet};
use idr_profile::access::{AccessUnit, Candidate, Dependent, Sector, Shown, Status, UnitId};
use idr_profile::identifier::Specifier;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Membership in a set or folder.
pub(super) const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";

/// An object of the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Thing {
    /// DocumentEntry.
    Entry(Box<DocumentEntry>),
    /// SubmissionSet.
    Set(Box<SubmissionSet>),
    /// Folder.
    Folder(Box<Folder>),
    /// Association.
    Association(Box<Association>),
}

impl Thing {
    /// `entryUUID`.
    pub fn entry_uuid(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.entry_uuid,
            Self::Set(set) => &set.entry_uuid,
            Self::Folder(folder) => &folder.entry_uuid,
            Self::Association(association) => &association.entry_uuid,
        }
    }
}

/// What a query starts from.
#[derive(Debug, Clone, Copy)]
pub enum Seeds<'a> {
    /// Entries by name.
    Entries(Names<'a>, Versions),
    /// An entry, the entries reached from it by associations of these types in either direction, and those.
    Related(Names<'a>, &'a [String]),
    /// All sets of a patient.
    SetsOf(&'a PatientId),
    /// All folders of a patient.
    FoldersOf(&'a PatientId),
    /// Sets, entries, folders of a patient, and associations with both ends among them.
    AllOf(&'a PatientId),
    /// Folders by name.
    Folders(Names<'a>, Versions),
    /// A set, its entries and folders, and the memberships among them.
    SetAndContents(Names<'a>),
    /// A folder, its entries, and those memberships.
    FolderAndContents(Names<'a>),
    /// Sets that hold the objects, and those memberships.
    SetsWith(&'a [String]),
    /// Folders that hold an entry.
    FoldersWith(Names<'a>),
    /// Associations that have one of the objects as an end.
    AssociationsOf(&'a [String]),
    /// Entries, and associations that have them as an end.
    EntriesWithAssociations(Names<'a>),
}

/// A look-up: what was found, and what of it was asked for.
#[derive(Default)]
pub struct Graph {
    /// Entries, and sets and folders without members, which are shown in own use only.
    pub candidates: Vec<Candidate<Thing>>,
    /// Sets and folders with members, and associations.
    pub dependents: Vec<Dependent<Thing>>,
    /// entryUUIDs of what was asked for.
    pub wanted: HashSet<String>,
}

#[derive(Default)]
struct Ids {
    wanted: BTreeSet<String>,
    entries: BTreeSet<String>,
    sets: BTreeSet<String>,
    folders: BTreeSet<String>,
    associations: BTreeMap<String, Association>,
}

impl Tx {
    /// Looks up. Each class is in the order of first registration, then of entryUUID.
    ///
    /// # Errors
    /// [`StoreError::TooMany`]: more than `limit` objects of a class, before any access decision.
    pub async fn graph(&mut self, seeds: Seeds<'_>, limit: usize) -> Result<Graph, StoreError> {
        let mut ids = self.seeds(seeds, limit).await?;
        self.close_over(&mut ids, limit).await?;
        let mut graph = Graph { candidates: Vec::new(), dependents: Vec::new(), wanted: ids.wanted.into_iter().collect() };
        let mut patients: HashMap<String, PatientId> = HashMap::new();
        for (unit, entry) in self.entries_of(&ids.entries, limit).await? {
            patients.insert(entry.entry_uuid.clone(), unit.patient.clone());
            graph.candidates.push(Candidate::new(unit, Thing::Entry(Box::new(entry))));
        }
        let mut members: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for association in ids.associations.values().filter(|association| association.association_type == HAS_MEMBER) {
            members.entry(&association.source).or_default().push(association.target.clone());
        }
        let sets = self.packages("submission_sets", &ids.sets, set).await?;
        let folders = self.packages("folders", &ids.folders, folder).await?;
        for (unit, thing) in sets.into_iter().chain(folders) {
            match members.get(thing.entry_uuid()) {
                Some(members) => {
                    // A set may refer to an entry of another patient: who may see that entry is not told whose the set is.
                    let of_patient = |id: &&String| patients.get(*id).is_none_or(|patient| *patient == unit.patient);
                    let members = members.iter().filter(of_patient).cloned().collect();
                    graph.dependents.push(Dependent::new(thing.entry_uuid().to_owned(), Shown::Any(members), thing));
                }
                None => graph.candidates.push(Candidate::own_only(unit, thing)),
            }
        }
        let associations: Vec<String> = ids.associations.into_keys().filter(|id| graph.wanted.contains(id)).collect();
        for association in self.associations_named(&associations, limit).await? {
            let ends = vec![association.source.clone(), association.target.clone()];
            let key = association.entry_uuid.clone();
            graph.dependents.push(Dependent::new(key, Shown::All(ends), Thing::Association(Box::new(association))));
        }
        Ok(graph)
    }

    /// FindDocuments: entries of a patient, old ids of merges resolved. An unknown patient has none.
    ///
    /// # Errors
    /// [`StoreError::TooMany`].
    pub async fn documents_of(&mut self, patient: &PatientId, filter: &DocumentFilter, limit: usize) -> Result<Graph, StoreError> {
        let mut graph = Graph::default();
        for (unit, entry) in self.documents_found(patient, filter, limit).await? {
            graph.wanted.insert(entry.entry_uuid.clone());
            graph.candidates.push(Candidate::new(unit, Thing::Entry(Box::new(entry))));
        }
        Ok(graph)
    }

    async fn entries_of(&mut self, ids: &BTreeSet<String>, limit: usize) -> Result<Found<DocumentEntry>, StoreError> {
        let ids: Vec<&String> = ids.iter().collect();
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let mut select = sql(&format!(
                "SELECT {ENTRY}, e.registered_at FROM entries e {NEWEST} \
                 WHERE e.removed_at IS NULL AND e.entry_uuid IN "
            ));
            select.push_list(chunk.iter().copied());
            for row in self.rows(select).await? {
                found.push((row.integer("registered_at")?, units::entry(&row)?));
            }
        }
        if found.len() > limit {
            return Err(StoreError::TooMany { limit });
        }
        found.sort_by(|(at, (_, a)), (bt, (_, b))| (at, &a.entry_uuid).cmp(&(bt, &b.entry_uuid)));
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }

    async fn seeds(&mut self, seeds: Seeds<'_>, limit: usize) -> Result<Ids, StoreError> {
        let mut ids = Ids::default();
        match seeds {
            Seeds::Entries(names, versions) => ids.want_entries(self.named("entries", names, versions).await?),
            Seeds::Related(names, types) => {
                let entries = self.named("entries", names, Versions::Latest).await?;
                let relations = self.association_rows(&entries, types, limit).await?;
                let ends: Vec<String> = relations.iter().flat_map(|of| [of.source.clone(), of.target.clone()]).collect();
                ids.want_associations(relations.into_iter());
                ids.want_entries(self.among("entries", &ends).await?);
            }
            Seeds::SetsOf(patient) => ids.want_sets(self.of_patient("submission_sets", patient).await?),
            Seeds::FoldersOf(patient) => ids.want_folders(self.of_patient("folders", patient).await?),
            Seeds::AllOf(patient) => {
                ids.want_sets(self.of_patient("submission_sets", patient).await?);
                ids.want_folders(self.of_patient("folders", patient).await?);
                ids.want_entries(self.of_patient("entries", patient).await?);
                let all: Vec<String> = ids.wanted.iter().cloned().collect();
                let known: HashSet<&String> = all.iter().collect();
                let among = |of: &Association| known.contains(&of.source) && known.contains(&of.target);
                let found = self.association_rows(&all, &[], limit).await?;
                ids.want_associations(found.into_iter().filter(among));
            }
            Seeds::Folders(names, versions) => ids.want_folders(self.named("folders", names, versions).await?),
            Seeds::SetAndContents(names) => {
                let sets = self.named("submission_sets", names, Versions::Latest).await?;
                ids.want_sets(sets.clone());
                let held = self.held_by(&sets, limit).await?;
                let inside: Vec<String> = held.iter().map(|of| of.target.clone()).collect();
                ids.want_associations(held.into_iter());
                let folders = self.among("folders", &inside).await?;
                ids.want_folders(folders);
                ids.want_entries(self.among("entries", &inside).await?);
                // A member may be the membership of an entry in a folder.
                let memberships = self.associations_named(&inside, limit).await?;
                ids.want_associations(memberships.into_iter());
            }
            Seeds::FolderAndContents(names) => {
                let folders = self.named("folders", names, Versions::Latest).await?;
                ids.want_folders(folders.clone());
                let held = self.held_by(&folders, limit).await?;
                let inside: Vec<String> = held.iter().map(|of| of.target.clone()).collect();
                ids.want_associations(held.into_iter());
                ids.want_entries(self.among("entries", &inside).await?);
            }
            Seeds::SetsWith(uuids) => {
                let holding = self.association_rows(uuids, &[HAS_MEMBER.to_owned()], limit).await?;
                let holding: Vec<Association> = holding.into_iter().filter(|of| uuids.contains(&of.target)).collect();
                let sources: Vec<String> = holding.iter().map(|of| of.source.clone()).collect();
                let sets = self.among("submission_sets", &sources).await?;
                ids.want_associations(holding.into_iter().filter(|of| sets.contains(&of.source)));
                ids.want_sets(sets);
            }
            Seeds::FoldersWith(names) => {
                let entries = self.named("entries", names, Versions::Latest).await?;
                let holding = self.association_rows(&entries, &[HAS_MEMBER.to_owned()], limit).await?;
                let sources: Vec<String> = holding.into_iter().filter(|of| entries.contains(&of.target)).map(|of| of.source).collect();
                ids.want_folders(self.among("folders", &sources).await?);
            }
            Seeds::AssociationsOf(uuids) => ids.want_associations(self.association_rows(uuids, &[], limit).await?.into_iter()),
            Seeds::EntriesWithAssociations(names) => {
                let entries = self.named("entries", names, Versions::Latest).await?;
                ids.want_associations(self.association_rows(&entries, &[], limit).await?.into_iter());
                ids.want_entries(entries);
            }
        }
        Ok(ids)
    }

    /// Adds the ends of associations, and the members of sets and folders, until nothing new comes.
    async fn close_over(&mut self, ids: &mut Ids, limit: usize) -> Result<(), StoreError> {
        let mut asked: HashSet<String> = HashSet::new();
        for _ in 0..ROUNDS {
            let packages: Vec<String> = ids.sets.iter().chain(&ids.folders).filter(|id| asked.insert((*id).clone())).cloned().collect();
            for association in self.held_by(&packages, limit).await? {
                ids.associations.entry(association.entry_uuid.clone()).or_insert(association);
            }
            let known = |id: &String| ids.entries.contains(id) || ids.sets.contains(id) || ids.folders.contains(id);
            let ends = ids.associations.values().flat_map(|of| [&of.source, &of.target]);
            let new: Vec<String> = ends.filter(|id| !known(id)).cloned().collect::<BTreeSet<_>>().into_iter().collect();
            if new.is_empty() && packages.is_empty() {
                break;
            }
            ids.entries.extend(self.among("entries", &new).await?);
            ids.sets.extend(self.among("submission_sets", &new).await?);
            ids.folders.extend(self.among("folders", &new).await?);
            if ids.entries.len() > limit || ids.associations.len() > limit {
                return Err(StoreError::TooMany { limit });
            }
        }
        Ok(())
    }

    async fn held_by(&mut self, packages: &[String], limit: usize) -> Result<Vec<Association>, StoreError> {
        let found = self.association_rows(packages, &[HAS_MEMBER.to_owned()], limit).await?;
        let packages: HashSet<&String> = packages.iter().collect();
        Ok(found.into_iter().filter(|of| packages.contains(&of.source)).collect())
    }

    async fn of_patient(&mut self, table: &str, patient: &PatientId) -> Result<Vec<String>, StoreError> {
        let Some(key) = self.patient_key(patient).await? else { return Ok(Vec::new()) };
        let select = sql(&format!(
            "SELECT entry_uuid FROM {table} WHERE patient_key = $1 AND removed_at IS NULL ORDER BY registered_at, entry_uuid"
        ));
        self.uuids(select.bind(&key.0)).await
    }

    async fn named(&mut self, table: &str, names: Names<'_>, versions: Versions) -> Result<Vec<String>, StoreError> {
        let (column, values, latest) = match names {
            Names::EntryUuids(values) => ("entry_uuid", values, false),
            Names::UniqueIds(values) => ("unique_id", values, versions == Versions::Latest && table != "submission_sets"),
            Names::LogicalIds(values) => ("logical_id", values, versions == Versions::Latest),
        };
        let mut found = Vec::new();
        for chunk in values.chunks(CHUNK) {
            let mut select = sql(&format!("SELECT o.entry_uuid FROM {table} o WHERE o.removed_at IS NULL AND o.{column} IN "));
            select.push_list(chunk);
            if latest {
                select.push(&format!(
                    " AND o.version = (SELECT MAX(v.version) FROM {table} v WHERE v.logical_id = o.logical_id AND v.removed_at IS NULL)"
                ));
            }
            found.extend(self.uuids(select).await?);
        }
        Ok(found)
    }

    /// Which of these ids are objects of the table.
    async fn among(&mut self, table: &str, ids: &[String]) -> Result<Vec<String>, StoreError> {
        self.named(table, Names::EntryUuids(ids), Versions::All).await
    }

    async fn uuids(&mut self, select: Statement) -> Result<Vec<String>, StoreError> {
        self.rows(select).await?.iter().map(|row| row.text("entry_uuid")).collect()
    }

    async fn associations_named(&mut self, ids: &[String], limit: usize) -> Result<Vec<Association>, StoreError> {
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let mut select =
                sql("SELECT metadata, status, entry_uuid, registered_at FROM associations WHERE removed_at IS NULL AND entry_uuid IN ");
            select.push_list(chunk);
            for row in self.rows(select).await? {
                let mut association: Association = row.json("metadata")?;
                association.status = Some(units::availability(&row)?);
                found.push((row.integer("registered_at")?, association));
            }
        }
        if found.len() > limit {
            return Err(StoreError::TooMany { limit });
        }
        found.sort_by(|(at, a), (bt, b)| (at, &a.entry_uuid).cmp(&(bt, &b.entry_uuid)));
        Ok(found.into_iter().map(|(_, association)| association).collect())
    }

    async fn packages(
        &mut self,
        table: &str,
        ids: &BTreeSet<String>,
        read: fn(&Row) -> Result<Thing, StoreError>,
    ) -> Result<Vec<(AccessUnit, Thing)>, StoreError> {
        let ids: Vec<&String> = ids.iter().collect();
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let columns = if table == "folders" { ", o.logical_id, o.version, o.last_update_time" } else { "" };
            let mut select = sql(&format!(
                "SELECT o.entry_uuid, o.metadata, o.status, o.controller, o.register, o.specifier, o.registered_at{columns}, p.authority, p.id \
                 FROM {table} o JOIN patients p ON p.patient_key = o.patient_key WHERE o.removed_at IS NULL AND o.entry_uuid IN "
            ));
            select.push_list(chunk.iter().copied());
            for row in self.rows(select).await? {
                found.push((row.integer("registered_at")?, unit(&row)?, read(&row)?));
            }
        }
        found.sort_by(|(at, _, a), (bt, _, b)| (at, a.entry_uuid()).cmp(&(bt, b.entry_uuid())));
        Ok(found.into_iter().map(|(_, unit, thing)| (unit, thing)).collect())
    }
}

impl Ids {
    fn want_sets(&mut self, ids: Vec<String>) {
        self.wanted.extend(ids.iter().cloned());
        self.sets.extend(ids);
    }

    fn want_folders(&mut self, ids: Vec<String>) {
        self.wanted.extend(ids.iter().cloned());
        self.folders.extend(ids);
    }

    fn want_entries(&mut self, ids: Vec<String>) {
        self.wanted.extend(ids.iter().cloned());
        self.entries.extend(ids);
    }

    fn want_associations(&mut self, associations: impl Iterator<Item = Association>) {
        for association in associations {
            self.wanted.insert(association.entry_uuid.clone());
            self.associations.insert(association.entry_uuid.clone(), association);
        }
    }
}

fn set(row: &Row) -> Result<Thing, StoreError> {
    let mut set: SubmissionSet = row.json("metadata")?;
    set.patient_id = super::patients::patient_id(row)?;
    set.status = Some(units::availability(row)?);
    Ok(Thing::Set(Box::new(set)))
}

fn folder(row: &Row) -> Result<Thing, StoreError> {
    Ok(Thing::Folder(Box::new(folder_as_now(row)?)))
}

/// A folder as it is now.
pub(super) fn folder_as_now(row: &Row) -> Result<Folder, StoreError> {
    let mut folder: Folder = row.json("metadata")?;
    folder.patient_id = super::patients::patient_id(row)?;
    folder.status = Some(units::availability(row)?);
    folder.logical_id = Some(row.text("logical_id")?);
    folder.version = Some(u32::try_from(row.integer("version")?).map_err(|_| StoreError::Unreadable { column: "version" })?);
    folder.last_update_time = Some(row.text("last_update_time")?);
    Ok(folder)
}

/// Whose a set or folder without members is.
pub(super) fn unit(row: &Row) -> Result<AccessUnit, StoreError> {
    let specifier = row.text_or_none("specifier")?.map(Specifier::try_from).transpose();
    Ok(AccessUnit {
        id: UnitId(row.text("entry_uuid")?),
        patient: super::patients::patient_id(row)?,
        recorded_under: None,
        controller: row.text("controller")?,
        register: row.text("register")?,
        unreadable: specifier.is_err(),
        specifier: specifier.unwrap_or_default(),
        unit: None,
        episode: None,
        service_event: None,
        date: None,
        sector: Sector::Unknown,
        status: Status::Active,
        release_date: None,
        minor_code: None,
        labels: Vec::new(),
    })
}

/// Rounds of [`Tx::graph`]: association → set → folder → entry is three.
const ROUNDS: usize = 4;

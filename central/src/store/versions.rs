//! New versions and changes of status of what is registered (ITI-57, ITI-92; profile 08 §7.1). Nothing is taken away: the
//! version before stays, Deprecated, with its associations.

use std::collections::{BTreeMap, BTreeSet};

use idr_ihe::ebxml::scheme::association::{SUBMIT_ASSOCIATION, UPDATE_AVAILABILITY_STATUS};
use idr_ihe::metadata::{Association, AvailabilityStatus, DocumentEntry, Folder};
use idr_profile::access::Status;
use idr_profile::mapping::ids::association_uuid;
use jiff::Timestamp;

use super::graph::HAS_MEMBER;
use super::registry::{FACTS, ObjectState, REPLACING, entry_state, package_state};
use super::sql::sql;
use super::units::{self, ENTRY, NEWEST};
use super::{CHUNK, StoreError, Tx};

/// The newest version of a logical object, for the rules of an update. Not for answers: it is undecided.
#[derive(Debug, Clone, PartialEq)]
pub struct Latest {
    /// What the rules may know of any object.
    pub state: ObjectState,
    /// As it is registered.
    pub content: Content,
}

/// An object that has versions.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// DocumentEntry.
    Entry(Box<DocumentEntry>),
    /// Folder.
    Folder(Box<Folder>),
}

/// A version that was registered, and the one that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    /// entryUUID of the version before.
    pub previous: String,
    /// entryUUID of the new version, which is registered in this transaction.
    pub new: String,
    /// Are the Approved associations of the version before repeated for it?
    pub propagate: bool,
}

impl Tx {
    /// The newest versions of these logical objects; unknown ids are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_versions(&mut self, logical_ids: &[String]) -> Result<Vec<Latest>, StoreError> {
        let mut found = Vec::new();
        for chunk in logical_ids.chunks(CHUNK) {
            let mut select = sql(&format!(
                "SELECT {ENTRY}, {FACTS} FROM entries e {NEWEST} \
                 LEFT JOIN manifests m ON m.entry_uuid = e.entry_uuid \
                 WHERE e.removed_at IS NULL AND e.version = (SELECT MAX(v.version) FROM entries v WHERE v.logical_id = e.logical_id) \
                 AND e.logical_id IN "
            ));
            select.push_list(chunk);
            for row in self.rows(select).await? {
                let (_, entry) = units::entry(&row)?;
                found.push(Latest { state: entry_state(&row)?, content: Content::Entry(Box::new(entry)) });
            }
            let mut select = sql("SELECT o.entry_uuid, o.unique_id, o.status, o.controller, o.register, o.specifier, o.metadata, \
                 o.last_update_time, o.logical_id, o.version, p.authority, p.id \
                 FROM folders o JOIN patients p ON p.patient_key = o.patient_key \
                 WHERE o.removed_at IS NULL AND o.version = (SELECT MAX(v.version) FROM folders v WHERE v.logical_id = o.logical_id) \
                 AND o.logical_id IN ");
            select.push_list(chunk);
            for row in self.rows(select).await? {
                let folder = super::graph::folder_as_now(&row)?;
                let state = package_state(&row, super::registry::Class::Folder)?;
                found.push(Latest { state, content: Content::Folder(Box::new(folder)) });
            }
        }
        Ok(found)
    }

    /// Puts new versions in the place of those before: these become Deprecated, a manifest stays the manifest of its study and
    /// source, and, where it is asked, Approved associations are repeated with the new version as their end (memberships of
    /// SubmissionSets are not, nor what leads to something Deprecated). `set`: entryUUID of the update's SubmissionSet; `limit`: of
    /// what is repeated.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] above the limit; [`StoreError`]. The transaction must then be dropped.
    pub async fn succeed(&mut self, successions: &[Succession], set: &str, limit: usize, now: Timestamp) -> Result<(), StoreError> {
        for succession in successions {
            if !self.set_status(&succession.previous, AvailabilityStatus::Deprecated, Status::Superseded).await? {
                self.set_folder_status(&succession.previous, AvailabilityStatus::Deprecated).await?;
            }
            let insert = "INSERT INTO manifests (entry_uuid, document_unique_id, study_uid, source_id) \
                          SELECT $1, document_unique_id, study_uid, source_id FROM manifests WHERE entry_uuid = $2";
            self.execute(sql(insert).bind(&succession.new).bind(&succession.previous)).await?;
            let insert = "INSERT INTO manifest_references (entry_uuid, sop_instance_uid, series_uid, sop_class_uid) \
                          SELECT $1, sop_instance_uid, series_uid, sop_class_uid FROM manifest_references WHERE entry_uuid = $2";
            self.execute(sql(insert).bind(&succession.new).bind(&succession.previous)).await?;
        }
        let propagated = successions.iter().filter(|succession| succession.propagate);
        let new: BTreeMap<&str, &str> = propagated.map(|of| (of.previous.as_str(), of.new.as_str())).collect();
        let repeated = self.propagated(&new, set, limit).await?;
        for association in &repeated {
            self.insert_association(association, set, now).await?;
        }
        let touched: Vec<String> =
            repeated.iter().filter(|of| of.association_type == HAS_MEMBER).map(|membership| membership.source.clone()).collect();
        self.touch_folders(&touched, now).await
    }

    /// The associations of versions before, with the new ones as their ends.
    async fn propagated(&mut self, new: &BTreeMap<&str, &str>, set: &str, limit: usize) -> Result<Vec<Association>, StoreError> {
        let ids: Vec<&str> = new.keys().copied().collect();
        let (mut seen, mut repeated) = (BTreeSet::new(), Vec::new());
        for chunk in ids.chunks(CHUNK) {
            for end in ["source", "target"] {
                let mut select = sql(&format!(
                    "SELECT a.metadata FROM associations a WHERE a.status = 'Approved' AND a.removed_at IS NULL AND a.submission_uuid <> $1 \
                     AND a.association_type <> $2 AND a.association_type <> $3 \
                     AND NOT EXISTS (SELECT 1 FROM submission_sets s WHERE s.entry_uuid = a.source) AND a.{end} IN "
                ))
                .bind(set)
                .bind(UPDATE_AVAILABILITY_STATUS)
                .bind(SUBMIT_ASSOCIATION);
                select.push_list(chunk.iter().copied()).push(" ORDER BY a.registered_at, a.entry_uuid LIMIT ").push_bind(limit as u64 + 1);
                let rows = self.rows(select).await?;
                if rows.len() > limit {
                    return Err(StoreError::TooMany { limit });
                }
                for row in rows {
                    let association: Association = row.json("metadata")?;
                    let now = |id: &String| new.get(id.as_str()).map_or_else(|| id.clone(), |new| (*new).to_owned());
                    let (source, target) = (now(&association.source), now(&association.target));
                    if seen.insert((association.association_type.clone(), source.clone(), target.clone())) {
                        let entry_uuid = association_uuid(&association.association_type, &source, &target);
                        repeated.push(Association { entry_uuid, source, target, ..association });
                    }
                }
            }
        }
        let ends: BTreeSet<String> = repeated.iter().flat_map(|of| [of.source.clone(), of.target.clone()]).collect();
        let deprecated = self.deprecated_among(&ends.into_iter().collect::<Vec<_>>()).await?;
        repeated.retain(|of| !deprecated.contains(&of.source) && !deprecated.contains(&of.target));
        if repeated.len() > limit {
            return Err(StoreError::TooMany { limit });
        }
        Ok(repeated)
    }

    async fn deprecated_among(&mut self, ids: &[String]) -> Result<BTreeSet<String>, StoreError> {
        let mut found = BTreeSet::new();
        for chunk in ids.chunks(CHUNK) {
            for table in ["entries", "folders"] {
                let mut select = sql(&format!("SELECT entry_uuid FROM {table} WHERE status = 'Deprecated' AND entry_uuid IN "));
                select.push_list(chunk);
                for row in self.rows(select).await? {
                    found.insert(row.text("entry_uuid")?);
                }
            }
        }
        Ok(found)
    }

    /// Sets the status of an entry, folder or association. A manifest that becomes Deprecated was withdrawn (02 §7 row 5): its
    /// images leave search and retrieve with it, and so do the manifests that it followed. `false`: no such object, or it has
    /// the status already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_status(&mut self, entry_uuid: &str, status: AvailabilityStatus) -> Result<bool, StoreError> {
        let manifest = self.row(sql("SELECT entry_uuid FROM manifests WHERE entry_uuid = $1").bind(entry_uuid)).await?.is_some();
        let access = match status {
            AvailabilityStatus::Approved => Status::Active,
            AvailabilityStatus::Deprecated if manifest => Status::Invalidated,
            AvailabilityStatus::Deprecated => Status::Superseded,
        };
        if self.set_status(entry_uuid, status, access).await? {
            if manifest {
                self.predecessors_follow(entry_uuid, status).await?;
            }
            return Ok(true);
        }
        if self.set_folder_status(entry_uuid, status).await? {
            return Ok(true);
        }
        let update = sql("UPDATE associations SET status = $2 WHERE entry_uuid = $1 AND status <> $2");
        Ok(self.execute(update.bind(entry_uuid).bind(units::name(&status))).await? == 1)
    }

    /// What a manifest shows is withdrawn whole: earlier manifests of its study, source, patient and register are closed with
    /// it. When it is approved again, those that it took the place of are as before; one that was withdrawn itself stays so.
    async fn predecessors_follow(&mut self, entry_uuid: &str, status: AvailabilityStatus) -> Result<(), StoreError> {
        let select = "SELECT o.entry_uuid FROM entries e JOIN manifests m ON m.entry_uuid = e.entry_uuid \
                      JOIN manifests n ON n.study_uid = m.study_uid AND n.source_id = m.source_id \
                      JOIN entries o ON o.entry_uuid = n.entry_uuid AND o.patient_key = e.patient_key AND o.controller = e.controller \
                      AND o.register = e.register AND o.specifier = e.specifier \
                      WHERE e.entry_uuid = $1 AND o.entry_uuid <> $1 AND o.status = 'Deprecated' AND o.access_status = $2";
        let (from, to) = match status {
            AvailabilityStatus::Deprecated => (Status::Superseded, Status::Invalidated),
            AvailabilityStatus::Approved => (Status::Invalidated, Status::Superseded),
        };
        let rows = self.rows(sql(select).bind(entry_uuid).bind(units::name(&from))).await?;
        let mut earlier = rows.iter().map(|row| row.text("entry_uuid")).collect::<Result<BTreeSet<_>, _>>()?;
        if status == AvailabilityStatus::Approved {
            earlier = earlier.intersection(&self.followed(entry_uuid).await?).cloned().collect();
        }
        for uuid in earlier {
            let update = sql("UPDATE entries SET access_status = $2 WHERE entry_uuid = $1");
            self.execute(update.bind(uuid).bind(units::name(&to))).await?;
        }
        Ok(())
    }

    /// Entries whose place one has taken, as a version or a replacement, at any remove.
    async fn followed(&mut self, entry_uuid: &str) -> Result<BTreeSet<String>, StoreError> {
        let (mut followed, mut next) = (BTreeSet::new(), vec![entry_uuid.to_owned()]);
        while let Some(uuid) = next.pop() {
            let versions = "SELECT o.entry_uuid FROM entries e JOIN entries o ON o.logical_id = e.logical_id AND o.version < e.version \
                            WHERE e.entry_uuid = $1";
            let mut replaced = sql("SELECT target AS entry_uuid FROM associations WHERE source = $1").bind(&uuid);
            replaced.and_in("association_type", REPLACING.iter().copied());
            for select in [sql(versions).bind(&uuid), replaced] {
                for row in self.rows(select).await? {
                    let earlier = row.text("entry_uuid")?;
                    if followed.insert(earlier.clone()) {
                        next.push(earlier);
                    }
                }
            }
        }
        Ok(followed)
    }

    async fn set_folder_status(&mut self, entry_uuid: &str, status: AvailabilityStatus) -> Result<bool, StoreError> {
        let update = sql("UPDATE folders SET status = $2 WHERE entry_uuid = $1 AND status <> $2");
        Ok(self.execute(update.bind(entry_uuid).bind(units::name(&status))).await? == 1)
    }
}

//! From a submission that passed every rule to what is stored of it (profile 08 §7, effects of §9).

use std::collections::{HashMap, HashSet};

use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::scheme::association::{HAS_MEMBER, RPLC, UPDATE_AVAILABILITY_STATUS, XFRM_RPLC};
use idr_ihe::manifest::Manifest;
use idr_ihe::metadata::{Association, DocumentEntry, Submission};
use idr_profile::access::{AccessUnit, StoredUnder};
use idr_profile::mapping::ids::association_uuid;
use idr_profile::receipt::Source;
use idr_profile::xds::{
    Changes, Document, Message, NewVersion, SenderDefaults, SubmitTransaction, canonical_digest, drop_extra_slots, fill_sender_defaults,
    study_of,
};

use crate::assertion::Authenticated;
use crate::central::Central;
use crate::https::soap::receive::Part;
use crate::store::registry::{NewDocument, NewManifest, Reference, Registered, Registration};
use crate::store::versions::Succession;
use crate::store::{StoreError, Tx};
use jiff::Timestamp;

/// What is to be registered, owned.
pub struct Prepared {
    submission: Submission,
    units: Vec<AccessUnit>,
    documents: Vec<NewDocument>,
    manifests: Vec<NewManifest>,
    content_sha256: String,
    /// UUIDs of symbolic ids.
    names: HashMap<String, String>,
}

impl Prepared {
    /// Puts the attributes that the registry sets, the defaults of the peer row and UUIDs for symbolic ids into the metadata.
    /// `units`: one per entry, in their order.
    pub fn new(
        central: &Central,
        message: &Message<'_>,
        documents: &[Document],
        parts: &[Part],
        units: Vec<AccessUnit>,
        defaults: &SenderDefaults,
    ) -> Self {
        let content_sha256 = hex::encode(canonical_digest(message, documents));
        let mut submission = message.submission().clone();
        drop_extra_slots(&mut submission, &central.xds, &central.slots);
        fill_sender_defaults(&mut submission, defaults, &central.slots);
        let repository = &central.config.central.repository_unique_id;
        let (mut new_documents, mut manifests) = (Vec::new(), Vec::new());
        for entry in &mut submission.entries {
            let of_entry =
                |document: &&(&Document, &Part)| document.0.id.as_deref().map(lower_uuid).as_deref() == Some(entry.entry_uuid.as_str());
            let pairs: Vec<(&Document, &Part)> = documents.iter().zip(parts).collect();
            let Some((document, part)) = pairs.iter().find(of_entry).copied() else { continue };
            entry.hash = Some(document.sha1.clone());
            entry.size = Some(document.size);
            entry.repository_unique_id = Some(repository.clone());
            new_documents.push(NewDocument {
                unique_id: entry.unique_id.clone(),
                object_key: part.written.key().clone(),
                size: document.size,
                sha1: document.sha1.clone(),
                mime_type: entry.mime_type.clone(),
            });
            manifests.extend(document.manifest().and_then(|manifest| listed(&entry.entry_uuid, manifest)));
        }
        if message.transaction() == SubmitTransaction::Iti42 {
            let listed: Vec<&str> = message.manifest_ids().collect();
            let manifest = |entry: &DocumentEntry| {
                let is_manifest = listed.iter().any(|id| lower_uuid(id) == entry.entry_uuid);
                let study_uid = study_of(entry).filter(|_| is_manifest)?;
                Some(NewManifest { entry_uuid: entry.entry_uuid.clone(), study_uid, references: Vec::new(), held: false })
            };
            manifests.extend(submission.entries.iter().filter_map(manifest));
        }
        for entry in &mut submission.entries {
            entry.patient_id = central.canonical(&entry.patient_id);
            entry.home_community_id = None;
        }
        for set in &mut submission.submission_sets {
            set.patient_id = central.canonical(&set.patient_id);
            set.home_community_id = None;
        }
        for folder in &mut submission.folders {
            folder.patient_id = central.canonical(&folder.patient_id);
            folder.home_community_id = None;
        }
        let mut prepared = Self { submission, units, documents: new_documents, manifests, content_sha256, names: HashMap::new() };
        prepared.name_all(|| format!("urn:uuid:{}", central.random_id()));
        prepared
    }

    /// Replaces symbolic ids by UUIDs, consistently (08 §9, accepted on purpose).
    fn name_all(&mut self, mut fresh: impl FnMut() -> String) {
        let (names, submission) = (&mut self.names, &mut self.submission);
        let own = submission.submission_sets.iter_mut().map(|set| &mut set.entry_uuid);
        let own = own.chain(submission.entries.iter_mut().map(|entry| &mut entry.entry_uuid));
        let own = own.chain(submission.folders.iter_mut().map(|folder| &mut folder.entry_uuid));
        let own = own.chain(submission.associations.iter_mut().map(|association| &mut association.entry_uuid));
        for id in own {
            if !id.starts_with("urn:uuid:") {
                let name = names.entry(id.clone()).or_insert_with(&mut fresh).clone();
                *id = name;
            }
        }
        let ends = submission.associations.iter_mut().flat_map(|association| [&mut association.source, &mut association.target]);
        for id in ends.chain(self.manifests.iter_mut().map(|manifest| &mut manifest.entry_uuid)) {
            if let Some(name) = names.get(id) {
                id.clone_from(name);
            }
        }
    }

    /// The uniqueIds of the entries, and the manifests with their studies, for the records.
    pub fn named(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.submission.entries.iter().map(|entry| {
            let study = self.manifests.iter().find(|manifest| manifest.entry_uuid == entry.entry_uuid);
            (entry.unique_id.as_str(), study.map(|manifest| manifest.study_uid.as_str()))
        })
    }

    /// entryUUIDs of the objects whose status is to change, for the records.
    pub fn status_targets(&self) -> impl Iterator<Item = &str> {
        let changes = self.submission.associations.iter().filter(|of| of.association_type == UPDATE_AVAILABILITY_STATUS);
        changes.map(|change| change.target.as_str())
    }

    /// Registers all of it in the transaction.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction must then be dropped.
    pub async fn register(
        &mut self,
        central: &Central,
        tx: &mut Tx,
        who: &Authenticated,
        stored_under: &StoredUnder,
        now: Timestamp,
    ) -> Result<Registered, StoreError> {
        let touched = self.join_folders(tx).await?;
        let mut certificate = [0; 32];
        let known = hex::decode_to_slice(who.asked.client.sha256.as_bytes(), &mut certificate).is_ok();
        let registration = Registration {
            submission: &self.submission,
            units: &self.units,
            stored_under,
            documents: &self.documents,
            manifests: &self.manifests,
            content_sha256: &self.content_sha256,
            stored_by: &who.claims().issuer_organisation,
            source: &Source { calling_ae_title: None, certificate_sha256: known.then_some(certificate) },
            now,
        };
        let registered = tx.register(&registration, &central.custody).await?;
        tx.touch_folders(&touched, now).await?;
        Ok(registered)
    }

    /// Gives new versions their place after those before (08 §7.1); to be called before [`register`](Self::register).
    pub fn follow(&mut self, changes: &Changes) {
        let submission = &mut self.submission;
        for new in &changes.versions {
            let id = self.names.get(&new.id).unwrap_or(&new.id);
            for entry in submission.entries.iter_mut().filter(|entry| entry.entry_uuid == *id) {
                (entry.logical_id, entry.version) = (Some(new.logical_id.clone()), Some(new.version));
            }
            for folder in submission.folders.iter_mut().filter(|folder| folder.entry_uuid == *id) {
                (folder.logical_id, folder.version) = (Some(new.logical_id.clone()), Some(new.version));
            }
        }
    }

    /// Does what an update asks for besides registering its objects, in the same transaction. `limit`: of associations that its versions
    /// repeat.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction must then be dropped.
    pub async fn change(&self, tx: &mut Tx, changes: &Changes, limit: usize, now: Timestamp) -> Result<(), StoreError> {
        let named = |id: &String| self.names.get(id).unwrap_or(id).clone();
        let succession = |new: &NewVersion| Succession { previous: new.previous.clone(), new: named(&new.id), propagate: new.propagate };
        let successions: Vec<Succession> = changes.versions.iter().map(succession).collect();
        let set = self.submission.submission_sets.first().map_or("", |set| set.entry_uuid.as_str());
        tx.succeed(&successions, set, limit, now).await?;
        for change in &changes.statuses {
            tx.change_status(&named(&change.target), change.status).await?;
        }
        let memberships = self.submission.associations.iter().filter(|of| of.association_type == HAS_MEMBER);
        let holders: Vec<String> = memberships.map(|membership| membership.source.clone()).collect();
        tx.touch_folders(&holders, now).await
    }

    /// A replacing entry joins each Approved folder of its target, linked to the set. Gives the folders whose members change.
    async fn join_folders(&mut self, tx: &mut Tx) -> Result<Vec<String>, StoreError> {
        let Some(set) = self.submission.submission_sets.first().map(|set| set.entry_uuid.clone()) else { return Ok(Vec::new()) };
        let members = |association: &Association| (association.source.clone(), association.target.clone());
        let mut known: HashSet<(String, String)> =
            self.submission.associations.iter().filter(|association| association.association_type == HAS_MEMBER).map(members).collect();
        let mut touched: Vec<String> = known.iter().map(|(source, _)| source.clone()).filter(|source| *source != set).collect();
        let replacing: Vec<(String, String)> = self
            .submission
            .associations
            .iter()
            .filter(|association| [RPLC, XFRM_RPLC].contains(&association.association_type.as_str()))
            .map(members)
            .collect();
        for (source, target) in replacing {
            for folder in tx.folders_holding(&target).await? {
                touched.push(folder.clone());
                if !known.insert((folder.clone(), source.clone())) {
                    continue;
                }
                let membership = has_member(&folder, &source, Vec::new());
                let status = vec![("SubmissionSetStatus".to_owned(), vec!["Original".to_owned()])];
                let link = has_member(&set, &membership.entry_uuid, status);
                self.submission.associations.extend([membership, link]);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        Ok(touched)
    }
}

fn has_member(source: &str, target: &str, slots: idr_ihe::metadata::Slots) -> Association {
    Association {
        entry_uuid: association_uuid(HAS_MEMBER, source, target),
        association_type: HAS_MEMBER.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        status: None,
        slots,
        documentation: None,
    }
}

/// What a manifest lists. Instances that are not stored yet are listed all the same (N).
fn listed(entry_uuid: &str, manifest: &Manifest) -> Option<NewManifest> {
    let study_uid = manifest.study_instance_uid.clone()?;
    let mut seen = HashSet::new();
    let mut references = Vec::new();
    for series in manifest.evidence.iter().flat_map(|study| &study.series) {
        for (sop_class_uid, sop_instance_uid) in &series.instances {
            if seen.insert(sop_instance_uid) {
                references.push(Reference {
                    series_uid: series.series_instance_uid.clone().unwrap_or_default(),
                    sop_class_uid: sop_class_uid.clone(),
                    sop_instance_uid: sop_instance_uid.clone(),
                });
            }
        }
    }
    Some(NewManifest { entry_uuid: entry_uuid.to_owned(), study_uid, references, held: true })
}

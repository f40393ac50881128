//! What the † rules of profile 08 §9 ask of the registry, read at one commit point inside the patient's lock.

use std::collections::{BTreeMap, BTreeSet};

use idr_ihe::metadata::PatientId;
use idr_profile::access::{AccessUnit, Decision, Operation, PatientState, Request, decide};
use idr_profile::identifier;
use idr_profile::xds::{LatestVersion, Needs, RegisteredUniqueId, RegistryView, StoredKind, StoredObject, Submitter, ValueSets, Versioned};
use jiff::Timestamp;

use crate::assertion::Authenticated;
use crate::central::Central;
use crate::store::registry::{Class, ObjectState};
use crate::store::versions::{Content, Latest};
use crate::store::{StoreError, Tx};

/// Looks up what a submission needs.
pub async fn view(
    central: &Central,
    tx: &mut Tx,
    who: &Authenticated,
    state: &PatientState,
    needs: &Needs,
    now: Timestamp,
) -> Result<RegistryView, StoreError> {
    let sight = Sight { central, who, state, now };
    let mut view = RegistryView {
        imaging_sources: vec![central.config.central.repository_unique_id.clone()],
        value_sets: ValueSets::new(),
        submitter: submitter(central, &who.claims().issuer_organisation),
        ..RegistryView::default()
    };
    let ids: Vec<String> = needs.objects.iter().cloned().collect();
    let objects = tx.objects_by_id(&ids).await?;
    let ends: BTreeSet<&String> = objects.iter().filter_map(|object| object.ends.as_ref()).flat_map(|(a, b)| [a, b]).collect();
    let ends: Vec<String> = ends.into_iter().filter(|id| !needs.objects.contains(*id)).cloned().collect();
    let ends = if sight.corrects() { tx.objects_by_id(&ends).await? } else { Vec::new() };
    let seen: BTreeMap<String, bool> =
        objects.iter().chain(&ends).map(|object| (object.entry_uuid.clone(), sight.corrects_unit(object.unit.as_ref()))).collect();
    let mut manifests = needs.manifests.clone();
    let of_versions: Vec<String> = objects.iter().filter_map(|object| object.logical_id.clone()).collect();
    let newest = if sight.corrects() { tx.latest_versions(&of_versions).await? } else { Vec::new() };
    let newest: BTreeMap<Option<String>, Option<u32>> =
        newest.into_iter().map(|latest| (latest.state.logical_id, latest.state.version)).collect();
    for object in objects {
        let of_ends = object.ends.as_ref().is_some_and(|(a, b)| [a, b].iter().all(|id| seen.get(*id) == Some(&true)));
        let is_newest = newest.get(&object.logical_id).is_none_or(|version| *version == object.version);
        let stored = StoredObject { newest: is_newest, ..sight.object(&object, of_ends) };
        if sight.corrects()
            && let StoredKind::Entry { manifest: Some(key), .. } = &stored.kind
        {
            manifests.insert(key.clone());
        }
        view.objects.insert(object.entry_uuid, stored);
    }
    let logical_ids: Vec<String> = needs.logical_ids.iter().cloned().collect();
    for latest in tx.latest_versions(&logical_ids).await? {
        let Some(logical_id) = latest.state.logical_id.clone() else { continue };
        let version = sight.latest(latest);
        manifests.extend(version.manifest.clone());
        view.latest.insert(logical_id, version);
    }
    let unique_ids: Vec<String> = needs.unique_ids.iter().cloned().collect();
    for object in tx.objects_by_unique_id(&unique_ids).await? {
        let Some(unique_id) = object.unique_id.clone() else { continue };
        let registered = match object.class {
            Class::Entry => {
                let facts = object.entry.unwrap_or_else(no_facts);
                RegisteredUniqueId::Entry { entry_type: facts.entry_type, hash: facts.hash, size: facts.size }
            }
            Class::SubmissionSet => {
                let Some(set) = tx.submission_set(&unique_id).await? else { continue };
                let mut canonical = [0; 32];
                hex::decode_to_slice(&set.content_sha256, &mut canonical)
                    .map_err(|_| StoreError::Unreadable { column: "content_sha256" })?;
                RegisteredUniqueId::SubmissionSet { organisation: set.stored_by, canonical }
            }
            Class::Folder => RegisteredUniqueId::Folder,
            Class::Association => continue,
        };
        view.unique_ids.entry(unique_id).or_default().push(registered);
    }
    for patient in &needs.patients {
        if let Some(head) = head(central, tx, patient).await? {
            view.patients.insert(patient.clone(), head);
        }
    }
    for (study, source) in &manifests {
        let found = tx.approved_manifests(study, source).await?;
        let visible = found.into_iter().filter(|manifest| sight.sees(manifest.unit.as_ref()));
        view.manifests.insert((study.clone(), source.clone()), visible.map(|manifest| manifest.entry_uuid).collect());
    }
    let instances: Vec<String> = needs.instances.iter().cloned().collect();
    view.barred_instances = tx.unusable_references(&instances).await?.into_iter().collect();
    Ok(view)
}

fn submitter(central: &Central, organisation: &str) -> Submitter {
    let own = central.config.repository.iter().filter(|row| row.organisation == organisation);
    let repositories = own.map(|row| row.unique_id.clone()).collect();
    Submitter { organisation: organisation.to_owned(), repositories, ..Submitter::default() }
}

/// The patient that an id names now (06 §7.1); itself where it may be created (06 §6); `None` for M-140.
async fn head(central: &Central, tx: &mut Tx, patient: &PatientId) -> Result<Option<PatientId>, StoreError> {
    let checked = identifier::check(patient, &central.identity, central.config.environment, &[], central.today());
    let Ok(checked) = checked else { return Ok(None) };
    match tx.patient(&checked.id).await? {
        Some(known) => Ok(known.ids.into_iter().next()),
        None if central.identity.auto_create && checked.may_be_primary() => Ok(Some(checked.id)),
        None => Ok(None),
    }
}

/// Which stored objects the submitter may know of.
pub(super) struct Sight<'a> {
    pub central: &'a Central,
    pub who: &'a Authenticated,
    pub state: &'a PatientState,
    pub now: Timestamp,
}

impl Sight<'_> {
    /// An object that the caller may not correct or reference counts as unknown (08 §9 *Visibility*): one in whose register
    /// it may not store. Whose patient's it is does not count here: M-143 is told.
    fn sees(&self, unit: Option<&AccessUnit>) -> bool {
        let (Some(unit), Some(patient)) = (unit, self.state.ids.first()) else { return false };
        let unit = AccessUnit { patient: patient.clone(), ..unit.clone() };
        let request = Request { operation: Operation::Store, patient: None };
        let decision = decide(&self.who.subject, &request, Some(&unit), self.state, &self.central.policy, self.now);
        matches!(decision, Decision::Permit(_))
    }

    /// Is the request one that corrects (05 §3)?
    fn corrects(&self) -> bool {
        self.who.operation() == Operation::Correct
    }

    /// An object that the caller may correct: of its register, and of the assertion's patient (05 E1, S1).
    pub fn corrects_unit(&self, unit: Option<&AccessUnit>) -> bool {
        let Some(unit) = unit.filter(|_| self.corrects()) else { return false };
        let request = Request { operation: Operation::Correct, patient: None };
        let decision = decide(&self.who.subject, &request, Some(unit), self.state, &self.central.policy, self.now);
        matches!(decision, Decision::Permit(_))
    }

    fn latest(&self, latest: Latest) -> LatestVersion {
        let Latest { state, content } = latest;
        LatestVersion {
            correctable: self.corrects_unit(state.unit.as_ref()),
            entry_uuid: state.entry_uuid,
            version: state.version.unwrap_or(1),
            status: state.status,
            patient: state.unit.map_or_else(nobody, |unit| unit.patient),
            manifest: state.entry.and_then(|facts| facts.manifest),
            content: match content {
                Content::Entry(entry) => Versioned::Entry(entry),
                Content::Folder(folder) => Versioned::Folder(folder),
            },
        }
    }

    /// `of_ends`: may both ends of an association be corrected?
    fn object(&self, object: &ObjectState, of_ends: bool) -> StoredObject {
        let kind = match object.class {
            Class::Entry => {
                let facts = object.entry.clone().unwrap_or_else(no_facts);
                StoredKind::Entry { entry_type: facts.entry_type, manifest: facts.manifest }
            }
            Class::SubmissionSet => StoredKind::SubmissionSet,
            Class::Folder => StoredKind::Folder,
            Class::Association => StoredKind::Association,
        };
        let association = object.class == Class::Association;
        let visible = self.sees(object.unit.as_ref()) || association && of_ends;
        let correctable = if association { of_ends } else { self.corrects_unit(object.unit.as_ref()) };
        // An association has no patient of its own, and no rule compares one.
        let patient = object.unit.as_ref().map_or_else(nobody, |unit| unit.patient.clone());
        StoredObject { kind, status: object.status, patient, visible, correctable, newest: true }
    }
}

fn nobody() -> PatientId {
    PatientId { id: String::new(), authority: String::new() }
}

/// An entry always has its facts; without them it is nobody's manifest.
fn no_facts() -> crate::store::registry::EntryFacts {
    crate::store::registry::EntryFacts { entry_type: idr_ihe::metadata::EntryType::Stable, hash: None, size: None, manifest: None }
}

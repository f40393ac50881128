//! Checks against what is registered. All of them run inside the patient's lock, on facts of one commit point.

use super::super::document::Document;
use super::super::message::{Class, Ends, Membership, Message, Operation, Subject, codes_of};
use super::super::problem::Key;
use super::super::state::{RegisteredUniqueId, RegistryView, StoredKind, StoredObject, study_and_source};
use super::super::update;
use super::{DocumentScope, Emit, Scope};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::scheme::{self, association, slot};
use idr_ihe::metadata::{AvailabilityStatus, EntryType, PatientId};
use std::collections::{HashMap, HashSet};

/// Stage 3, once per object.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum RegistryCheck {
    /// The id belongs to a registered object.
    UuidRegistered,
    /// A Reference member is no registered entry.
    ReferenceUnknown,
    /// Target of one of these types is no registered entry.
    TargetNotRegistered(Vec<String>),
    /// Target of one of these types is neither registered nor here.
    TargetNowhere(Vec<String>),
    /// Target of a relationship is deprecated.
    TargetDeprecated,
    /// Folder or entry of a membership is not there, or not Approved.
    FolderMembershipNotApproved,
    /// IsSnapshotOf from or to an entry of the wrong type.
    SnapshotTypes,
    /// repositoryUniqueId is none of the submitter's.
    RepositoryUnregistered,
    /// The uniqueId is registered with another hash.
    HashNotIdentical,
    /// The uniqueId is registered with another size.
    SizeNotIdentical,
    /// The uniqueId is a Stable entry's.
    UniqueIdOfStable,
    /// The patient is not known.
    PatientUnknown,
    /// A relationship joins two patients.
    RelationshipPatients,
    /// Folder and member are of two patients.
    FolderMembershipPatients,
    /// A code outside of the attribute's value set; reported for each.
    CodeNotInValueSet,
    /// The uniqueId of a set or folder is any object's.
    UniqueIdRegistered,
    /// sourceId is none of the submitter's.
    SourceUnregistered,
    /// A Retrieve Location UID is no imaging source's.
    ImagingSourceUnknown,
    /// The manifest is of another patient.
    ManifestPatient,
    /// The manifest references a rejected object, a rejection note or a manifest.
    ManifestReferencesBarred,
    /// The study has an Approved manifest from this source that is not replaced here.
    SecondManifest,
    /// The manifest replaces one of another study or source.
    OtherManifestReplaced,
}

/// The registry's facts beside the message and its documents.
pub(in crate::xds) struct RegistryScope<'a> {
    view: &'a RegistryView,
    documents: &'a DocumentScope<'a>,
    /// Replaced entries by the id of the new one.
    replaced: HashMap<String, Vec<String>>,
    /// entryUUIDs, or ids in the message, of the manifests that an update leaves Approved, by study and source.
    left_approved: HashMap<(String, String), HashSet<String>>,
    /// First manifest of each study and source in the message.
    first_manifests: HashMap<(String, String), usize>,
    /// uniqueIds of the message's manifests.
    manifest_ids: HashSet<&'a str>,
}

impl<'a> RegistryScope<'a> {
    pub fn new(scope: &Scope<'a>, documents: &'a DocumentScope<'a>, view: &'a RegistryView) -> Self {
        let message = scope.message;
        let mut replaced: HashMap<String, Vec<String>> = HashMap::new();
        let (mut first_manifests, mut manifest_ids) = (HashMap::new(), HashSet::new());
        for subject in message.subjects() {
            if let Some(ends) = subject.ends().filter(|_| subject.is_replacement()) {
                replaced.entry(ends.source).or_default().push(ends.target);
            }
            if message.is_manifest(&subject) {
                if let Some(key) = study_and_source(message, &subject, documents.of(&subject)) {
                    first_manifests.entry(key).or_insert(subject.index);
                }
                manifest_ids.extend(subject.identifier("uniqueId"));
            }
        }
        let left_approved = left_approved(message, view, replaced.values().flatten());
        Self { view, documents, replaced, left_approved, first_manifests, manifest_ids }
    }

    /// Does the update leave more than one manifest of a study and source Approved?
    fn leaves_two(&self, key: &(String, String)) -> bool {
        self.left_approved.get(key).is_some_and(|approved| approved.len() > 1)
    }

    fn entry(&self, id: &str) -> Option<&'a StoredObject> {
        self.view.visible(id).filter(|object| matches!(object.kind, StoredKind::Entry { .. }))
    }

    /// Survivor of the patient of an object, of the message or registered.
    fn patient(&self, scope: &Scope<'_>, id: &str) -> Option<PatientId> {
        match scope.message.subject(id) {
            Some(subject) => Some(self.view.head(&patient_of(&subject)?).clone()),
            None => self.view.visible(id).map(|object| self.view.head(&object.patient).clone()),
        }
    }
}

fn patient_of(subject: &Subject<'_>) -> Option<PatientId> {
    PatientId::parse_cx(subject.identifier("patientId")?).ok()
}

impl RegistryCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, registry: &RegistryScope<'_>, emit: Emit<'_>) {
        match self {
            Self::UuidRegistered => {
                let own = matches!(subject.class, Class::Entry | Class::Set | Class::Folder | Class::Association);
                if let Some(id) = subject.id().filter(|id| own && registry.view.objects.contains_key(&lower_uuid(id))) {
                    emit(&[(Key::Attr, "id"), (Key::Val, id)]);
                }
            }
            Self::PatientUnknown => {
                let patient = patient_of(subject).filter(|patient| !registry.view.patients.contains_key(patient));
                if let Some(patient) = patient {
                    emit(&[(Key::Attr, "patientId"), (Key::Pid, &patient.to_cx()), (Key::Conflict, "set")]);
                }
            }
            Self::UniqueIdRegistered => {
                let kind = if subject.class == Class::Set { "set" } else { "folder" };
                let used = |id: &&str| registry.view.unique_ids.get(*id).is_some_and(|uses| !uses.is_empty());
                // A new version has the uniqueId of its folder, or breaks M-614.
                let version = subject.class == Class::Folder && scope.message.transaction.is_update();
                if let Some(id) = subject.identifier("uniqueId").filter(|id| !version && used(id)) {
                    emit(&[(Key::Kind, kind), (Key::Uid, id)]);
                }
            }
            Self::SourceUnregistered => {
                let known = &registry.view.submitter.source_ids;
                if let Some(id) = subject.identifier("sourceId").filter(|id| !known.is_empty() && !known.iter().any(|known| known == id)) {
                    emit(&[(Key::Attr, "sourceId"), (Key::Val, id)]);
                }
            }
            Self::CodeNotInValueSet => codes(subject, registry.view, emit),
            Self::RepositoryUnregistered => {
                let known = &registry.view.submitter.repositories;
                let repository = subject.object().and_then(|object| object.values(slot::REPOSITORY_UNIQUE_ID).first());
                if let Some(repository) = repository.filter(|repository| !known.contains(repository)) {
                    emit(&[(Key::Slot, slot::REPOSITORY_UNIQUE_ID), (Key::Val, repository)]);
                }
            }
            Self::UniqueIdOfStable => {
                let stable = |used: &RegisteredUniqueId| matches!(used, RegisteredUniqueId::Entry { entry_type: EntryType::Stable, .. });
                let uses = subject.identifier("uniqueId").and_then(|id| registry.view.unique_ids.get(id));
                if uses.is_some_and(|uses| uses.iter().any(stable)) {
                    emit(&[(Key::Attr, "uniqueId"), (Key::Val, subject.identifier("uniqueId").unwrap_or_default())]);
                }
            }
            Self::HashNotIdentical | Self::SizeNotIdentical => self.resubmitted(subject, registry, emit),
            Self::ImagingSourceUnknown
            | Self::ManifestPatient
            | Self::ManifestReferencesBarred
            | Self::SecondManifest
            | Self::OtherManifestReplaced => {
                if scope.message.is_manifest(subject) {
                    self.manifest(subject, scope, registry, emit);
                } else if matches!(self, Self::SecondManifest) {
                    approved_again(subject, scope, registry, emit);
                }
            }
            _ => {
                if let Some(ends) = subject.ends() {
                    self.association(subject, &ends, scope, registry, emit);
                }
            }
        }
    }

    fn resubmitted(&self, subject: &Subject<'_>, registry: &RegistryScope<'_>, emit: Emit<'_>) {
        let (Some(id), Some(object)) = (subject.identifier("uniqueId"), subject.object()) else { return };
        let document = registry.documents.of(subject);
        let sent = |name: &str| object.values(name).first().cloned();
        let hash = document.map(|document| document.sha1.clone()).or_else(|| sent(slot::HASH).map(|hash| hash.to_ascii_lowercase()));
        let size = document.map(|document| document.size).or_else(|| sent(slot::SIZE).and_then(|size| size.parse().ok()));
        let differs = |registered: &RegisteredUniqueId| match (self, registered) {
            (Self::HashNotIdentical, RegisteredUniqueId::Entry { hash: Some(known), .. }) => hash.as_ref() != Some(known),
            (Self::SizeNotIdentical, RegisteredUniqueId::Entry { size: Some(known), .. }) => size != Some(*known),
            _ => false,
        };
        if registry.view.unique_ids.get(id).is_some_and(|uses| uses.iter().any(differs)) {
            emit(&[(Key::Uid, id)]);
        }
    }

    fn association(&self, subject: &Subject<'_>, ends: &Ends, scope: &Scope<'_>, registry: &RegistryScope<'_>, emit: Emit<'_>) {
        let message = scope.message;
        let kind = subject.association_type().unwrap_or_default();
        let is = |kinds: &[String]| kinds.iter().any(|known| known == kind);
        let here = message.class_of(&ends.target).is_some();
        let membership = message.membership(subject);
        let of_folder = membership == Some(Membership::FolderToEntry);
        let target = registry.entry(&ends.target);
        let raw = subject.association();
        let reference = raw.and_then(|association| association.target_object.as_deref()).unwrap_or_default();
        let finding = [(Key::Attr, "targetObject"), (Key::Ref, reference)];
        match self {
            Self::ReferenceUnknown if membership == Some(Membership::SetToEntry) && !here && target.is_none() => emit(&finding),
            Self::TargetNotRegistered(kinds) if is(kinds) && target.is_none() => emit(&finding),
            Self::TargetNowhere(kinds) if is(kinds) && !here && target.is_none() => emit(&finding),
            Self::TargetDeprecated => {
                let deprecated = target.is_some_and(|object| object.status == AvailabilityStatus::Deprecated);
                if subject.is_relationship() && !here && deprecated {
                    emit(&finding);
                }
            }
            Self::FolderMembershipNotApproved if of_folder => {
                let approved = |id: &str, is_kind: fn(&StoredKind) -> bool| {
                    message.class_of(id).is_some()
                        || registry
                            .view
                            .visible(id)
                            .is_some_and(|object| object.status == AvailabilityStatus::Approved && is_kind(&object.kind))
                };
                let source = raw.and_then(|association| association.source_object.as_deref()).unwrap_or_default();
                if !approved(&ends.source, |kind| matches!(kind, StoredKind::Folder)) {
                    emit(&[(Key::Attr, "sourceObject"), (Key::Ref, source)]);
                } else if !approved(&ends.target, |kind| matches!(kind, StoredKind::Entry { .. })) {
                    emit(&finding);
                }
            }
            Self::SnapshotTypes if kind == association::IS_SNAPSHOT_OF => {
                let source = message.subject(&ends.source).and_then(|source| source.object()?.object_type.as_deref().map(lower_uuid));
                let of_on_demand =
                    target.is_none_or(|object| matches!(object.kind, StoredKind::Entry { entry_type: EntryType::OnDemand, .. }));
                if source.as_deref() != Some(scheme::STABLE) || !of_on_demand {
                    emit(&finding);
                }
            }
            Self::RelationshipPatients if subject.is_relationship() => {
                patients(ends, scope, registry, "target", emit);
            }
            Self::FolderMembershipPatients if of_folder => patients(ends, scope, registry, "member", emit),
            _ => {}
        }
    }

    fn manifest(&self, subject: &Subject<'_>, scope: &Scope<'_>, registry: &RegistryScope<'_>, emit: Emit<'_>) {
        let document = registry.documents.of(subject);
        let manifest = document.and_then(Document::manifest);
        let series = || manifest.iter().flat_map(|manifest| &manifest.evidence).flat_map(|study| &study.series);
        let uid = subject.identifier("uniqueId").unwrap_or_default();
        let key = study_and_source(scope.message, subject, document);
        let none = Vec::new();
        let replaced = subject.id().and_then(|id| registry.replaced.get(&lower_uuid(id))).unwrap_or(&none);
        match self {
            Self::ImagingSourceUnknown => {
                let known = &registry.view.imaging_sources;
                let mut locations = series().filter_map(|series| series.retrieve_location_uid.as_ref());
                if !known.is_empty() && locations.any(|location| !known.contains(location)) {
                    emit(&[(Key::Uid, uid)]);
                }
            }
            Self::ManifestPatient => {
                let of_entry = patient_of(subject);
                let of_manifest = document.and_then(|document| document.manifest_patient.as_ref());
                let same = match (&of_entry, of_manifest) {
                    (Some(of_entry), Some(of_manifest)) => registry.view.head(of_entry) == registry.view.head(of_manifest),
                    _ => false,
                };
                if manifest.is_some() && !same {
                    let sent = subject.identifier("patientId").unwrap_or_default();
                    emit(&[(Key::Attr, "patientId"), (Key::Pid, sent), (Key::Conflict, "kos")]);
                }
            }
            Self::ManifestReferencesBarred => {
                let mut instances = series().flat_map(|series| &series.instances);
                if instances.any(|(_, uid)| registry.view.barred_instances.contains(uid) || registry.manifest_ids.contains(uid.as_str())) {
                    emit(&[(Key::Uid, uid)]);
                }
            }
            Self::SecondManifest => {
                // An update stays the manifest of its source, whoever sends it.
                let of_latest = update::latest(subject, registry.view).and_then(|latest| latest.manifest.clone());
                let Some(key) = of_latest.or(key) else { return };
                let approved = registry.view.manifests.get(&key).unwrap_or(&none);
                let follows = update::latest(subject, registry.view).map(|latest| &latest.entry_uuid);
                let second_here = registry.first_manifests.get(&key).is_some_and(|first| *first != subject.index);
                let two = follows.is_some() && registry.leaves_two(&key);
                if two || second_here || approved.iter().any(|id| !replaced.contains(id) && Some(id) != follows) {
                    emit(&[(Key::Attr, "referenceIdList")]);
                }
            }
            Self::OtherManifestReplaced => {
                let is_other = |id: &&String| match registry.entry(id).map(|object| &object.kind) {
                    Some(StoredKind::Entry { manifest, .. }) => *manifest != key,
                    _ => false,
                };
                if let Some(target) = replaced.iter().find(is_other) {
                    emit(&[(Key::Attr, "targetObject"), (Key::Ref, target), (Key::Val, target)]);
                }
            }
            _ => {}
        }
    }
}

/// What an update leaves Approved, by study and source: its versions in the place of those that they follow, its changes of status,
/// without what it replaces.
fn left_approved<'r>(
    message: &Message<'_>,
    view: &RegistryView,
    replaced: impl Iterator<Item = &'r String>,
) -> HashMap<(String, String), HashSet<String>> {
    let changes = update::changes(message, view);
    if changes == update::Changes::default() {
        return HashMap::new();
    }
    let mut left: HashMap<(String, String), HashSet<String>> =
        view.manifests.iter().map(|(key, approved)| (key.clone(), approved.iter().cloned().collect())).collect();
    for replaced in replaced {
        for approved in left.values_mut() {
            approved.remove(replaced);
        }
    }
    let mut keys: HashMap<&str, &(String, String)> = HashMap::new();
    for new in &changes.versions {
        let Some(key) = view.latest.get(&new.logical_id).and_then(|latest| latest.manifest.as_ref()) else { continue };
        keys.insert(&new.id, key);
        let approved = left.entry(key.clone()).or_default();
        approved.remove(&new.previous);
        approved.insert(new.id.clone());
    }
    for change in &changes.statuses {
        let registered = || match view.visible(&change.target).map(|object| &object.kind) {
            Some(StoredKind::Entry { manifest, .. }) => manifest.as_ref(),
            _ => None,
        };
        let Some(key) = keys.get(change.target.as_str()).copied().or_else(registered) else { continue };
        let approved = left.entry(key.clone()).or_default();
        match change.status {
            AvailabilityStatus::Approved => approved.insert(change.target.clone()),
            AvailabilityStatus::Deprecated => approved.remove(&change.target),
        };
    }
    left
}

/// A manifest's entry that ITI-57 would make Approved beside another of its study and source.
fn approved_again(subject: &Subject<'_>, scope: &Scope<'_>, registry: &RegistryScope<'_>, emit: Emit<'_>) {
    let status = || super::status(subject.object()?, slot::NEW_STATUS);
    let (Some(ends), Some(Operation::Status), Some(AvailabilityStatus::Approved)) =
        (subject.ends(), scope.message.operation(subject), status())
    else {
        return;
    };
    let Some(StoredKind::Entry { manifest: Some(key), .. }) = registry.entry(&ends.target).map(|object| &object.kind) else { return };
    let beside = registry.view.manifests.get(key).is_some_and(|approved| approved.iter().any(|id| *id != ends.target));
    if beside || registry.leaves_two(key) {
        emit(&[(Key::Attr, "referenceIdList")]);
    }
}

/// Both ends known, and of two patients. The patient id told is one that the sender sent.
fn patients(ends: &Ends, scope: &Scope<'_>, registry: &RegistryScope<'_>, conflict: &str, emit: Emit<'_>) {
    let (source, target) = (registry.patient(scope, &ends.source), registry.patient(scope, &ends.target));
    if let (Some(source), Some(target)) = (source, target)
        && source != target
    {
        let here = [&ends.source, &ends.target].into_iter().find_map(|id| scope.message.subject(id));
        let sent = here.or_else(|| scope.message.set()).and_then(|subject| subject.identifier("patientId"));
        emit(&[(Key::Pid, sent.unwrap_or_default()), (Key::Conflict, conflict)]);
    }
}

fn codes(subject: &Subject<'_>, view: &RegistryView, emit: Emit<'_>) {
    let Some(object) = subject.object() else { return };
    for attribute in codes_of(subject.class) {
        let Some(set) = view.value_sets.get(attribute.name) else { continue };
        for classification in object.classified(attribute.scheme) {
            let code = classification.node_representation.clone().unwrap_or_default();
            let scheme = classification.object.values(slot::CODING_SCHEME).first().cloned().unwrap_or_default();
            let value = format!("{code}^^{scheme}");
            if !set.contains(&(code, scheme)) {
                emit(&[(Key::Attr, attribute.name), (Key::Val, &value)]);
            }
        }
    }
}

//! Stage 3: what the registry must look up, and how it hands it over.

use super::check::DocumentScope;
use super::datatype::Components;
use super::document::Document;
use super::judge::Findings;
use super::message::Message;
use idr_ihe::ebxml::scheme::slot;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry, EntryType, Folder, PatientId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What [`RegistryView`] must hold. All of it is to be read at one commit point, inside the patient's lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// entryUUIDs, `urn:uuid:` in lower case: for [`RegistryView::objects`].
    pub objects: BTreeSet<String>,
    /// logicalIDs of an update: for [`RegistryView::latest`].
    pub logical_ids: BTreeSet<String>,
    /// uniqueIds: for [`RegistryView::unique_ids`].
    pub unique_ids: BTreeSet<String>,
    /// Patient ids, those of manifests included: for [`RegistryView::patients`].
    pub patients: BTreeSet<PatientId>,
    /// (Study Instance UID, sourceId): for [`RegistryView::manifests`].
    pub manifests: BTreeSet<(String, String)>,
    /// SOP Instance UIDs that manifests reference: for [`RegistryView::barred_instances`]. Up to `limits.manifest_references`
    /// per manifest.
    pub instances: BTreeSet<String>,
}

/// Class of a registered object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredKind {
    /// DocumentEntry.
    Entry {
        /// Stable or On-Demand.
        entry_type: EntryType,
        /// Study Instance UID and sourceId of the set, if it is a manifest's.
        manifest: Option<(String, String)>,
    },
    /// SubmissionSet.
    SubmissionSet,
    /// Folder.
    Folder,
    /// Association.
    Association,
}

/// A registered object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// What it is.
    pub kind: StoredKind,
    /// Its status.
    pub status: AvailabilityStatus,
    /// Its patient, survivor of merges.
    pub patient: PatientId,
    /// May the caller correct or reference it (05 S1)? If not, it counts as unknown where something refers to it; that its
    /// id is taken shows all the same (09 §8 D-14).
    pub visible: bool,
    /// May the caller correct it (05 S1, its own patient's)? Asked of updates and removals only.
    pub correctable: bool,
    /// Is it the newest version of its logical object, or one that has no versions? Asked of updates only.
    pub newest: bool,
}

/// What an update follows: the newest version of a logical object.
#[derive(Debug, Clone, PartialEq)]
pub struct LatestVersion {
    /// entryUUID of this version.
    pub entry_uuid: String,
    /// 1 for the first.
    pub version: u32,
    /// Its status.
    pub status: AvailabilityStatus,
    /// Its patient, survivor of merges.
    pub patient: PatientId,
    /// May the caller correct it (05 S1)? If not, it counts as unknown.
    pub correctable: bool,
    /// Study Instance UID and sourceId, if it is a manifest's.
    pub manifest: Option<(String, String)>,
    /// As it is registered.
    pub content: Versioned,
}

/// An object that has versions.
#[derive(Debug, Clone, PartialEq)]
pub enum Versioned {
    /// DocumentEntry.
    Entry(Box<DocumentEntry>),
    /// Folder.
    Folder(Box<Folder>),
}

/// A registered object with a uniqueId of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisteredUniqueId {
    /// DocumentEntry.
    Entry {
        /// Stable or On-Demand.
        entry_type: EntryType,
        /// Lower-case hex SHA-1.
        hash: Option<String>,
        /// Bytes.
        size: Option<u64>,
    },
    /// SubmissionSet.
    SubmissionSet {
        /// OID of the organisation that issued the assertion it came with.
        organisation: String,
        /// [`super::canonical_digest`] of its submission.
        canonical: [u8; 32],
    },
    /// Folder.
    Folder,
}

/// What the configuration says of the organisation that submits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submitter {
    /// OID of the organisation that issued the assertion.
    pub organisation: String,
    /// repositoryUniqueIds of its `repository[]` rows (08 H-13).
    pub repositories: Vec<String>,
    /// Its `source_ids`; empty: any.
    pub source_ids: Vec<String>,
}

/// Value sets: coded attribute → code and coding scheme (02 §8). An attribute without one takes any code.
pub type ValueSets = BTreeMap<String, BTreeSet<(String, String)>>;

/// Facts of the registry and of the configuration at one commit point. What is not in a map does not exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RegistryView {
    /// By entryUUID.
    pub objects: HashMap<String, StoredObject>,
    /// By logicalID: what the objects of an update follow.
    pub latest: HashMap<String, LatestVersion>,
    /// By uniqueId: every object that has it.
    pub unique_ids: HashMap<String, Vec<RegisteredUniqueId>>,
    /// Patients that are known or may be created here (06 §6), with the survivor of merges; itself if none.
    pub patients: HashMap<PatientId, PatientId>,
    /// entryUUIDs of the Approved manifests of a study and source.
    pub manifests: HashMap<(String, String), Vec<String>>,
    /// Which of the instances are under an applied rejection, are rejection notes, or are manifests.
    pub barred_instances: HashSet<String>,
    /// Retrieve Location UIDs of the imaging sources known here; empty: any.
    pub imaging_sources: Vec<String>,
    /// Value sets.
    pub value_sets: ValueSets,
    /// Who submits.
    pub submitter: Submitter,
}

impl RegistryView {
    /// The object, if the caller may know of it.
    pub(super) fn visible(&self, id: &str) -> Option<&StoredObject> {
        self.objects.get(id).filter(|object| object.visible)
    }

    /// The survivor of a patient; the id itself if it is not known.
    pub(super) fn head<'a>(&'a self, patient: &'a PatientId) -> &'a PatientId {
        self.patients.get(patient).unwrap_or(patient)
    }
}

/// Outcome of stage 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateVerdict {
    /// To be registered; the findings are warnings only, or nothing.
    Register(Findings),
    /// Registered already, by the same organisation and with equal content: Success, nothing stored, the event of a replay
    /// (08 §4.7).
    Repeated,
    /// Refused.
    Refuse(Findings),
}

/// What must be looked up for a message that passed stages 1 and 2.
pub fn needs(message: &Message<'_>, documents: &[Document]) -> Needs {
    let documents = DocumentScope::new(documents);
    let submission = message.submission();
    let mut needs = Needs::default();
    let ids = submission.submission_sets.iter().map(|set| &set.entry_uuid).chain(submission.entries.iter().map(|entry| &entry.entry_uuid));
    let ids = ids.chain(submission.folders.iter().map(|folder| &folder.entry_uuid));
    let ends = submission.associations.iter().flat_map(|association| [&association.entry_uuid, &association.source, &association.target]);
    needs.objects.extend(ids.chain(ends).filter(|id| super::datatype::is_uuid_urn(id)).cloned());
    if message.transaction.is_update() {
        let lids = submission.entries.iter().map(|entry| &entry.logical_id);
        let lids = lids.chain(submission.folders.iter().map(|folder| &folder.logical_id)).flatten();
        needs.logical_ids.extend(lids.filter(|lid| super::datatype::is_uuid_urn(lid)).cloned());
    }
    for set in &submission.submission_sets {
        needs.unique_ids.insert(set.unique_id.clone());
        needs.patients.insert(set.patient_id.clone());
    }
    for folder in &submission.folders {
        needs.unique_ids.insert(folder.unique_id.clone());
        needs.patients.insert(folder.patient_id.clone());
    }
    for entry in &submission.entries {
        needs.unique_ids.insert(entry.unique_id.clone());
        needs.patients.insert(entry.patient_id.clone());
    }
    for subject in message.subjects().filter(|subject| message.is_manifest(subject)) {
        let document = documents.of(&subject);
        needs.patients.extend(document.and_then(|document| document.manifest_patient.clone()));
        needs.manifests.extend(study_and_source(message, &subject, document));
        for series in document.and_then(Document::manifest).iter().flat_map(|manifest| &manifest.evidence).flat_map(|study| &study.series) {
            needs.instances.extend(series.instances.iter().map(|(_, uid)| uid.clone()));
        }
    }
    needs
}

/// Study and source of a manifest's entry: from the document, else from referenceIdList.
pub(super) fn study_and_source(
    message: &Message<'_>,
    subject: &super::message::Subject<'_>,
    document: Option<&Document>,
) -> Option<(String, String)> {
    let source = message.set()?.identifier("sourceId")?.to_owned();
    let of_document = document.and_then(Document::manifest).and_then(|manifest| manifest.study_instance_uid.clone());
    let of_entry = || {
        let ids = subject.object()?.values(slot::REFERENCE_ID_LIST);
        let mut studies = ids.iter().map(|value| Components::of(value)).filter(|id| id.get(5) == super::check::STUDY_INSTANCE_UID);
        studies.next().map(|id| id.get(1).to_owned())
    };
    Some((of_document.or_else(of_entry)?, source))
}

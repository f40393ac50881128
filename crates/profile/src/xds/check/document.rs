//! Checks of documents against their entries, and of manifests against what is written of them.

use super::super::datatype::Components;
use super::super::document::Document;
use super::super::message::{Class, Subject, has_manifest_format};
use super::super::problem::Key;
use super::{Emit, Scope};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::scheme::{document_entry, slot};
use idr_ihe::manifest::{Manifest, ManifestReadError, SOP_CLASS_UID};
use std::collections::{HashMap, HashSet};

/// Stage 2. Each is asked of the message, of an entry with its document, or of a document.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum DocumentCheck {
    /// More documents than allowed (message).
    TooManyDocuments,
    /// An entry without document.
    DocumentMissing,
    /// A document without entry.
    DocumentWithoutEntry,
    /// hash of the entry is not that of the bytes.
    HashDiffers,
    /// size of the entry is not that of the bytes.
    SizeDiffers,
    /// A document whose id an earlier one has, or that is empty where its entry does not say so.
    DocumentUnusable,
    /// An earlier object has the uniqueId.
    DocumentUniqueIdRepeated,
    /// No Part 10 file with a manifest under the format of a manifest.
    NotAManifest,
    /// uniqueId is not the SOP Instance UID.
    ManifestUid,
    /// Document title is not (113030, DCM).
    ManifestTitle,
    /// Evidence empty, of several studies, a series without instance, an instance twice.
    ManifestEvidence,
    /// A series that says neither Retrieve AE Title nor Retrieve Location UID.
    RetrieveLocationMissing,
    /// referenceIdList lacks the study, or names another.
    StudyNotReferenced,
    /// referenceIdList lacks an accession number; reported for each.
    AccessionNotReferenced,
    /// No eventCodeList code of one of these schemes.
    ModalityMissing(Vec<String>),
    /// More references than allowed.
    ManifestTooLarge,
}

/// The documents of a message by the entry they belong to.
pub(in crate::xds) struct DocumentScope<'a> {
    documents: &'a [Document],
    first: HashMap<String, usize>,
}

impl<'a> DocumentScope<'a> {
    pub fn new(documents: &'a [Document]) -> Self {
        let mut first = HashMap::new();
        for (index, document) in documents.iter().enumerate() {
            first.entry(lower_uuid(document.id.as_deref().unwrap_or_default())).or_insert(index);
        }
        Self { documents, first }
    }

    /// First document of an entry.
    pub fn of(&self, subject: &Subject<'_>) -> Option<&'a Document> {
        self.documents.get(*self.first.get(&lower_uuid(subject.id()?))?)
    }

    pub fn documents(&self) -> &'a [Document] {
        self.documents
    }

    fn is_first(&self, index: usize, id: &str) -> bool {
        self.first.get(&lower_uuid(id)) == Some(&index)
    }
}

impl DocumentCheck {
    /// Asked of the message.
    pub fn judge_message(&self, documents: &DocumentScope<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        if matches!(self, Self::TooManyDocuments) && documents.documents.len() > scope.rules.limits.documents {
            emit(&[(Key::Attr, "Document")]);
        }
    }

    /// Asked of a document that has no entry, or not the first place with its id.
    pub fn judge_document(&self, index: usize, documents: &DocumentScope<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        let Some(document) = documents.documents.get(index) else { return };
        let id = document.id.as_deref().unwrap_or_default();
        match self {
            Self::DocumentWithoutEntry if scope.message.class_of(&lower_uuid(id)) != Some(Class::Entry) => emit(&[]),
            Self::DocumentUnusable if !documents.is_first(index, id) => emit(&[(Key::Attr, "Document")]),
            _ => {}
        }
    }

    /// Asked of an entry.
    pub fn judge_entry(&self, subject: &Subject<'_>, documents: &DocumentScope<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        if let Self::DocumentUniqueIdRepeated = self {
            let repeated = subject.identifier("uniqueId").filter(|id| scope.message.first_unique_id(id) != Some(subject.index));
            if let Some(id) = repeated {
                emit(&[(Key::Uid, id)]);
            }
            return;
        }
        let Some(object) = subject.object().filter(|_| subject.class == Class::Entry) else { return };
        let Some(document) = documents.of(subject) else {
            if matches!(self, Self::DocumentMissing) {
                emit(&[]);
            }
            return;
        };
        let sent = |name: &str| object.values(name).first().map(String::as_str);
        match self {
            Self::HashDiffers if sent(slot::HASH).is_some_and(|hash| !hash.eq_ignore_ascii_case(&document.sha1)) => {
                emit(&[(Key::Attr, slot::HASH)]);
            }
            Self::SizeDiffers if sent(slot::SIZE).is_some_and(|size| size.parse() != Ok(document.size)) => {
                emit(&[(Key::Attr, slot::SIZE)]);
            }
            // An empty document must be announced; that the values are those of nothing is checked by hash and size.
            Self::DocumentUnusable if document.size == 0 && (sent(slot::SIZE).is_none() || sent(slot::HASH).is_none()) => {
                emit(&[(Key::Attr, "Document")]);
            }
            _ if scope.message.is_manifest(subject) => self.manifest(subject, document, scope, emit),
            _ => {}
        }
    }

    fn manifest(&self, subject: &Subject<'_>, document: &Document, scope: &Scope<'_>, emit: Emit<'_>) {
        let Some(object) = subject.object() else { return };
        let unique_id = subject.identifier("uniqueId").unwrap_or_default();
        let uid = (Key::Uid, unique_id);
        let limit = scope.rules.limits.manifest_references;
        match (self, &document.manifest) {
            (Self::ManifestTooLarge, Some(Err(ManifestReadError::TooManyReferences))) => emit(&[uid]),
            (Self::ManifestTooLarge, Some(Ok(manifest))) if manifest.reference_count() > limit => emit(&[uid]),
            (Self::NotAManifest, read) => {
                let fits = match read {
                    Some(Ok(manifest)) => manifest.sop_class_uid.as_deref() == Some(SOP_CLASS_UID) && has_manifest_format(object),
                    Some(Err(ManifestReadError::TooManyReferences)) => true,
                    _ => false,
                };
                if !fits {
                    emit(&[uid]);
                }
            }
            (_, Some(Ok(manifest))) => self.content(subject, manifest, emit),
            _ => {}
        }
    }

    fn content(&self, subject: &Subject<'_>, manifest: &Manifest, emit: Emit<'_>) {
        let Some(object) = subject.object() else { return };
        let unique_id = subject.identifier("uniqueId").unwrap_or_default();
        let uid = (Key::Uid, unique_id);
        let references = || object.values(slot::REFERENCE_ID_LIST).iter().map(|value| Components::of(value));
        match self {
            Self::ManifestUid if manifest.sop_instance_uid.as_deref() != Some(unique_id) => emit(&[uid]),
            Self::ManifestTitle
                if manifest.title.as_ref().is_none_or(|title| (title.code.as_str(), title.system.as_str()) != ("113030", "DCM")) =>
            {
                emit(&[uid]);
            }
            Self::ManifestEvidence if !is_evidence(manifest) => emit(&[uid]),
            Self::RetrieveLocationMissing => {
                let mut series = manifest.evidence.iter().flat_map(|study| &study.series);
                if series.any(|series| series.retrieve_ae_title.is_none() && series.retrieve_location_uid.is_none()) {
                    emit(&[uid]);
                }
            }
            Self::StudyNotReferenced => {
                let study = manifest.study_instance_uid.as_deref();
                let studies: Vec<&str> = references().filter(|id| id.get(5) == STUDY_INSTANCE_UID).map(|id| id.get(1)).collect();
                if studies.is_empty() || studies.iter().any(|named| Some(*named) != study) {
                    emit(&[(Key::Slot, slot::REFERENCE_ID_LIST)]);
                }
            }
            Self::AccessionNotReferenced => {
                for (accession, _) in &manifest.accessions {
                    if !references().any(|id| id.get(5) == ACCESSION && id.get(1) == accession) {
                        emit(&[(Key::Slot, slot::REFERENCE_ID_LIST)]);
                    }
                }
            }
            Self::ModalityMissing(schemes) => {
                let is_modality = |code: &idr_ihe::ebxml::rim::Classification| {
                    code.object.values(slot::CODING_SCHEME).iter().any(|scheme| schemes.contains(scheme))
                };
                if !object.classified(document_entry::EVENT_CODE).any(is_modality) {
                    emit(&[(Key::Attr, "eventCodeList")]);
                }
            }
            _ => {}
        }
    }
}

/// Type of a study in referenceIdList.
pub(in crate::xds) const STUDY_INSTANCE_UID: &str = "urn:ihe:iti:xds:2016:studyInstanceUID";
const ACCESSION: &str = "urn:ihe:iti:xds:2013:accession";

/// One study, the manifest's own; every series has instances; no instance twice.
fn is_evidence(manifest: &Manifest) -> bool {
    let [study] = manifest.evidence.as_slice() else { return false };
    let mut seen = HashSet::new();
    study.study_instance_uid.is_some()
        && study.study_instance_uid == manifest.study_instance_uid
        && !study.series.is_empty()
        && study.series.iter().all(|series| series.series_instance_uid.is_some() && !series.instances.is_empty())
        && study.series.iter().flat_map(|series| &series.instances).all(|(_, uid)| !uid.is_empty() && seen.insert(uid.as_str()))
}

//! [`rim`](super::rim) objects → [`crate::metadata`].

use super::rim::{Association, Classification, ExtrinsicObject, Object, RegistryObject, RegistryObjectList, RegistryPackage};
use super::scheme::{self, document_entry, folder, slot, submission_set};
use crate::metadata::{
    self, Author, AvailabilityStatus, Code, DocumentEntry, EntryType, Folder, PatientId, Slots, Submission, SubmissionSet,
};

/// What [`decode`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The objects that could be read.
    pub submission: Submission,
    /// What did not fit, in message order.
    pub problems: Vec<Problem>,
}

/// One thing of one object that has no place in [`crate::metadata`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object {index}: {attribute} is {kind}")]
pub struct Problem {
    /// Position in the list, from 0.
    pub index: usize,
    /// `@id` of the object as sent.
    pub id: Option<String>,
    /// Metadata attribute, or XML attribute.
    pub attribute: &'static str,
    /// What is wrong.
    pub kind: Kind,
    /// The object is left out of [`Decoded::submission`]; otherwise only the attribute is.
    pub omitted: bool,
}

/// What is wrong with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Absent.
    Missing,
    /// Cannot be read.
    Malformed,
    /// More than one where one is possible; the first was taken.
    Several,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Several => "given more than once",
        })
    }
}

/// A `urn:uuid:` id in lower case; any other id unchanged (profile 08 M-007).
pub fn lower_uuid(id: &str) -> String {
    let is_uuid = id.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("urn:uuid:"));
    if is_uuid { id.to_ascii_lowercase() } else { id.to_owned() }
}

/// Reads the objects of a list. Ids of the form `urn:uuid:` and hashes are lowered. ObjectRefs, classifications of other
/// objects and unknown objects are passed over.
pub fn decode(list: &RegistryObjectList) -> Decoded {
    // Node classifications beside their packages, found once: a list may hold thousands of both.
    let mut beside = std::collections::HashMap::<&str, (bool, bool)>::new();
    for object in &list.objects {
        if let Object::Classification(Classification { classified_object: Some(id), classification_node: Some(node), .. }) = object {
            let nodes = beside.entry(id.as_str()).or_default();
            nodes.0 |= node == scheme::SUBMISSION_SET_NODE;
            nodes.1 |= node == scheme::FOLDER_NODE;
        }
    }
    let mut decoded = Decoded::default();
    for (index, object) in list.objects.iter().enumerate() {
        let mut scope = Scope { index, id: object.id(), problems: Vec::new() };
        let submission = &mut decoded.submission;
        let read = match object {
            Object::ExtrinsicObject(entry) => scope.document_entry(entry).map(|entry| submission.entries.push(entry)),
            Object::RegistryPackage(package) => {
                let nested = |node: &str| package.object.classifications.iter().any(|c| c.classification_node.as_deref() == Some(node));
                let beside = object.id().and_then(|id| beside.get(id)).copied().unwrap_or_default();
                match (beside.0 || nested(scheme::SUBMISSION_SET_NODE), beside.1 || nested(scheme::FOLDER_NODE)) {
                    (true, false) => scope.submission_set(package).map(|set| submission.submission_sets.push(set)),
                    (false, true) => scope.folder(package).map(|folder| submission.folders.push(folder)),
                    (false, false) => scope.lost("classificationNode", Kind::Missing),
                    (true, true) => scope.lost("classificationNode", Kind::Several),
                }
            }
            Object::Association(association) => scope.association(association).map(|association| submission.associations.push(association)),
            Object::Classification(_) | Object::ObjectRef(_) | Object::Other(_) => Some(()),
        };
        if read.is_none() {
            scope.problems.iter_mut().for_each(|problem| problem.omitted = true);
        }
        decoded.problems.append(&mut scope.problems);
    }
    decoded
}

/// One object while it is read.
struct Scope<'a> {
    index: usize,
    id: Option<&'a str>,
    problems: Vec<Problem>,
}

impl Scope<'_> {
    fn note(&mut self, attribute: &'static str, kind: Kind) {
        self.problems.push(Problem { index: self.index, id: self.id.map(str::to_owned), attribute, kind, omitted: false });
    }

    /// The object cannot be read without this attribute.
    fn lost<T>(&mut self, attribute: &'static str, kind: Kind) -> Option<T> {
        self.note(attribute, kind);
        None
    }

    fn required(&mut self, attribute: &'static str, value: Option<&str>) -> Option<String> {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => Some(value.to_owned()),
            None => self.lost(attribute, Kind::Missing),
        }
    }

    fn entry_uuid(&mut self, object: &RegistryObject) -> Option<String> {
        self.required("entryUUID", object.id.as_deref()).map(|id| lower_uuid(&id))
    }

    fn identifier(&mut self, object: &RegistryObject, scheme: &str, attribute: &'static str) -> Option<String> {
        let mut values = object.identified(scheme);
        let value = values.next().and_then(|identifier| identifier.value.as_deref());
        if values.next().is_some() {
            self.note(attribute, Kind::Several);
        }
        self.required(attribute, value)
    }

    fn patient_id(&mut self, object: &RegistryObject, scheme: &str) -> Option<PatientId> {
        let cx = self.identifier(object, scheme, "patientId")?;
        match PatientId::parse_cx(&cx) {
            Ok(id) => Some(id),
            Err(_) => self.lost("patientId", Kind::Malformed),
        }
    }

    fn one(&mut self, object: &RegistryObject, name: &'static str) -> Option<String> {
        let mut values = object.slots_named(name).flat_map(|slot| &slot.values);
        let value = values.next().cloned();
        if values.next().is_some() {
            self.note(name, Kind::Several);
        }
        value
    }

    fn status(&mut self, object: &RegistryObject) -> Option<AvailabilityStatus> {
        let urn = object.status.as_deref()?;
        let status = AvailabilityStatus::from_urn(urn);
        if status.is_none() {
            self.note("availabilityStatus", Kind::Malformed);
        }
        status
    }

    fn code(&mut self, object: &RegistryObject, scheme: &str, attribute: &'static str) -> Option<Code> {
        let mut codes = self.codes(object, scheme, attribute);
        if codes.len() > 1 {
            self.note(attribute, Kind::Several);
        }
        if codes.is_empty() { None } else { Some(codes.swap_remove(0)) }
    }

    fn codes(&mut self, object: &RegistryObject, scheme: &str, attribute: &'static str) -> Vec<Code> {
        let mut codes = Vec::new();
        for classification in object.classified(scheme) {
            match (classification.node_representation.as_deref(), classification.object.values(slot::CODING_SCHEME)) {
                (Some(code), [system]) if !code.is_empty() => codes.push(Code {
                    code: code.to_owned(),
                    system: system.clone(),
                    display: classification.object.name_value().unwrap_or_default().to_owned(),
                }),
                _ => self.note(attribute, Kind::Malformed),
            }
        }
        codes
    }

    fn authors(&mut self, object: &RegistryObject, scheme: &str) -> Vec<Author> {
        object
            .classified(scheme)
            .map(|classification| {
                let values = |name| classification.object.values(name).to_vec();
                let persons = classification.object.values(slot::AUTHOR_PERSON);
                if persons.len() > 1 {
                    self.note(slot::AUTHOR_PERSON, Kind::Several);
                }
                Author {
                    person: persons.first().cloned(),
                    institutions: values(slot::AUTHOR_INSTITUTION),
                    roles: values(slot::AUTHOR_ROLE),
                    specialties: values(slot::AUTHOR_SPECIALTY),
                    telecommunications: values(slot::AUTHOR_TELECOMMUNICATION),
                }
            })
            .collect()
    }

    fn document_entry(&mut self, source: &ExtrinsicObject) -> Option<DocumentEntry> {
        let object = &source.object;
        let entry_type = match object.object_type.as_deref().map(lower_uuid).as_deref() {
            Some(scheme::STABLE) => Some(EntryType::Stable),
            Some(scheme::ON_DEMAND) => Some(EntryType::OnDemand),
            Some(_) => self.lost("objectType", Kind::Malformed),
            None => self.lost("objectType", Kind::Missing),
        };
        let entry_uuid = self.entry_uuid(object);
        let mime_type = self.required("mimeType", source.mime_type.as_deref());
        let unique_id = self.identifier(object, document_entry::UNIQUE_ID, "uniqueId");
        let patient_id = self.patient_id(object, document_entry::PATIENT_ID);
        let source_patient_id = self
            .one(object, slot::SOURCE_PATIENT_ID)
            .and_then(|cx| PatientId::parse_cx(&cx).map_err(|_| self.note(slot::SOURCE_PATIENT_ID, Kind::Malformed)).ok());
        let size = self.one(object, slot::SIZE).and_then(|size| size.parse().map_err(|_| self.note(slot::SIZE, Kind::Malformed)).ok());
        Some(DocumentEntry {
            logical_id: object.lid.as_deref().map(lower_uuid),
            version: version(object),
            status: self.status(object),
            source_patient_id,
            source_patient_info: object.values(slot::SOURCE_PATIENT_INFO).to_vec(),
            creation_time: self.one(object, slot::CREATION_TIME),
            service_start_time: self.one(object, slot::SERVICE_START_TIME),
            service_stop_time: self.one(object, slot::SERVICE_STOP_TIME),
            language_code: self.one(object, slot::LANGUAGE_CODE),
            hash: self.one(object, slot::HASH).map(|hash| hash.to_ascii_lowercase()),
            size,
            repository_unique_id: self.one(object, slot::REPOSITORY_UNIQUE_ID),
            home_community_id: object.home.clone(),
            title: object.name_value().map(str::to_owned),
            comments: object.description_value().map(str::to_owned),
            authors: self.authors(object, document_entry::AUTHOR),
            class_code: self.code(object, document_entry::CLASS_CODE, "classCode"),
            type_code: self.code(object, document_entry::TYPE_CODE, "typeCode"),
            format_code: self.code(object, document_entry::FORMAT_CODE, "formatCode"),
            confidentiality_codes: self.codes(object, document_entry::CONFIDENTIALITY_CODE, "confidentialityCode"),
            event_codes: self.codes(object, document_entry::EVENT_CODE, "eventCodeList"),
            facility_type_code: self.code(object, document_entry::FACILITY_TYPE_CODE, "healthcareFacilityTypeCode"),
            practice_setting_code: self.code(object, document_entry::PRACTICE_SETTING_CODE, "practiceSettingCode"),
            reference_ids: object.values(slot::REFERENCE_ID_LIST).to_vec(),
            legal_authenticator: self.one(object, slot::LEGAL_AUTHENTICATOR),
            uri: self.one(object, slot::URI),
            document_availability: self.one(object, slot::DOCUMENT_AVAILABILITY),
            extra: extra(
                object,
                &[
                    slot::CREATION_TIME,
                    slot::DOCUMENT_AVAILABILITY,
                    slot::HASH,
                    slot::LANGUAGE_CODE,
                    slot::LEGAL_AUTHENTICATOR,
                    slot::REFERENCE_ID_LIST,
                    slot::REPOSITORY_UNIQUE_ID,
                    slot::SERVICE_START_TIME,
                    slot::SERVICE_STOP_TIME,
                    slot::SIZE,
                    slot::SOURCE_PATIENT_ID,
                    slot::SOURCE_PATIENT_INFO,
                    slot::URI,
                ],
            ),
            entry_type: entry_type?,
            entry_uuid: entry_uuid?,
            mime_type: mime_type?,
            unique_id: unique_id?,
            patient_id: patient_id?,
        })
    }

    fn submission_set(&mut self, source: &RegistryPackage) -> Option<SubmissionSet> {
        let object = &source.object;
        let entry_uuid = self.entry_uuid(object);
        let unique_id = self.identifier(object, submission_set::UNIQUE_ID, "uniqueId");
        let source_id = self.identifier(object, submission_set::SOURCE_ID, "sourceId");
        let patient_id = self.patient_id(object, submission_set::PATIENT_ID);
        Some(SubmissionSet {
            submission_time: self.one(object, slot::SUBMISSION_TIME),
            content_type_code: self.code(object, submission_set::CONTENT_TYPE_CODE, "contentTypeCode"),
            authors: self.authors(object, submission_set::AUTHOR),
            title: object.name_value().map(str::to_owned),
            comments: object.description_value().map(str::to_owned),
            intended_recipients: object.values(slot::INTENDED_RECIPIENT).to_vec(),
            home_community_id: object.home.clone(),
            status: self.status(object),
            extra: extra(object, &[slot::SUBMISSION_TIME, slot::INTENDED_RECIPIENT]),
            entry_uuid: entry_uuid?,
            unique_id: unique_id?,
            source_id: source_id?,
            patient_id: patient_id?,
        })
    }

    fn folder(&mut self, source: &RegistryPackage) -> Option<Folder> {
        let object = &source.object;
        let entry_uuid = self.entry_uuid(object);
        let unique_id = self.identifier(object, folder::UNIQUE_ID, "uniqueId");
        let patient_id = self.patient_id(object, folder::PATIENT_ID);
        Some(Folder {
            logical_id: object.lid.as_deref().map(lower_uuid),
            version: version(object),
            codes: self.codes(object, folder::CODE, "codeList"),
            title: object.name_value().map(str::to_owned),
            comments: object.description_value().map(str::to_owned),
            last_update_time: self.one(object, slot::LAST_UPDATE_TIME),
            home_community_id: object.home.clone(),
            status: self.status(object),
            extra: extra(object, &[slot::LAST_UPDATE_TIME]),
            entry_uuid: entry_uuid?,
            unique_id: unique_id?,
            patient_id: patient_id?,
        })
    }

    fn association(&mut self, source: &Association) -> Option<metadata::Association> {
        let object = &source.object;
        let entry_uuid = self.entry_uuid(object);
        let association_type = self.required("associationType", source.association_type.as_deref());
        let source_object = self.required("sourceObject", source.source_object.as_deref());
        let target_object = self.required("targetObject", source.target_object.as_deref());
        Some(metadata::Association {
            status: self.status(object),
            slots: extra(object, &[]),
            documentation: self.code(object, scheme::ASSOCIATION_DOCUMENTATION, "associationDocumentation"),
            entry_uuid: entry_uuid?,
            association_type: association_type?,
            source: lower_uuid(&source_object?),
            target: lower_uuid(&target_object?),
        })
    }
}

/// The schema's default `1.1` and other non-integers count as no version.
fn version(object: &RegistryObject) -> Option<u32> {
    object.version_name.as_deref().and_then(|name| name.parse().ok())
}

fn extra(object: &RegistryObject, known: &[&str]) -> Slots {
    object
        .slots
        .iter()
        .filter_map(|slot| slot.name.as_deref().map(|name| (name, &slot.values)))
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, values)| (name.to_owned(), values.clone()))
        .collect()
}

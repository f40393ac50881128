//! [`crate::metadata`] → [`rim`](super::rim) objects.

use super::rim::{
    Association, Classification, ExternalIdentifier, ExtrinsicObject, LocalizedString, Object, RegistryObject, RegistryObjectList,
    RegistryPackage, Slot,
};
use super::scheme::{self, document_entry, folder, slot, submission_set};
use crate::metadata::{
    self, Author, AvailabilityStatus, Code, DocumentEntry, EntryType, Folder, PatientId, Slots, Submission, SubmissionSet,
};

/// Where the node classification of a SubmissionSet or Folder stands; both forms are equal (ITI TF-3 §4.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Beside the package: submissions.
    Beside,
    /// Inside the package: answers, which hold the three object classes only (profile 08 §6.2).
    Nested,
}

/// Entries, packages (sets, then folders), node classifications if [`Placement::Beside`], associations.
///
/// Classifications and external identifiers get the symbolic ids `c1…`, `x1…` in order; node classifications beside
/// their packages `c90…`, or the next free number.
pub fn encode(submission: &Submission, placement: Placement) -> RegistryObjectList {
    let mut ids = Ids::default();
    let mut objects = Vec::new();
    let mut packages = Vec::new();
    for entry in &submission.entries {
        objects.push(Object::ExtrinsicObject(ids.document_entry(entry)));
    }
    for set in &submission.submission_sets {
        packages.push((ids.submission_set(set), scheme::SUBMISSION_SET_NODE));
    }
    for item in &submission.folders {
        packages.push((ids.folder(item), scheme::FOLDER_NODE));
    }
    let associations: Vec<Association> = submission.associations.iter().map(|association| ids.association(association)).collect();
    let mut nodes = Vec::new();
    if placement == Placement::Beside {
        ids.classifications = ids.classifications.max(89);
    }
    for (mut package, node) in packages {
        let id = package.object.id.clone().unwrap_or_default();
        let mut classification = ids.classification(&id);
        classification.classification_node = Some(node.to_owned());
        match placement {
            Placement::Beside => nodes.push(Object::Classification(classification)),
            Placement::Nested => package.object.classifications.push(classification),
        }
        objects.push(Object::RegistryPackage(package));
    }
    objects.append(&mut nodes);
    objects.extend(associations.into_iter().map(Object::Association));
    RegistryObjectList { objects }
}

/// Counters of symbolic ids.
#[derive(Default)]
struct Ids {
    classifications: usize,
    identifiers: usize,
}

impl Ids {
    fn document_entry(&mut self, entry: &DocumentEntry) -> ExtrinsicObject {
        let id = entry.entry_uuid.as_str();
        let mut slots = Vec::new();
        one(&mut slots, slot::REPOSITORY_UNIQUE_ID, entry.repository_unique_id.as_deref());
        one(&mut slots, slot::CREATION_TIME, entry.creation_time.as_deref());
        one(&mut slots, slot::SERVICE_START_TIME, entry.service_start_time.as_deref());
        one(&mut slots, slot::SERVICE_STOP_TIME, entry.service_stop_time.as_deref());
        one(&mut slots, slot::LANGUAGE_CODE, entry.language_code.as_deref());
        one(&mut slots, slot::HASH, entry.hash.as_deref());
        one(&mut slots, slot::SIZE, entry.size.map(|size| size.to_string()).as_deref());
        one(&mut slots, slot::SOURCE_PATIENT_ID, entry.source_patient_id.as_ref().map(PatientId::to_cx).as_deref());
        many(&mut slots, slot::SOURCE_PATIENT_INFO, &entry.source_patient_info);
        many(&mut slots, slot::REFERENCE_ID_LIST, &entry.reference_ids);
        one(&mut slots, slot::LEGAL_AUTHENTICATOR, entry.legal_authenticator.as_deref());
        one(&mut slots, slot::URI, entry.uri.as_deref());
        one(&mut slots, slot::DOCUMENT_AVAILABILITY, entry.document_availability.as_deref());
        extra(&mut slots, &entry.extra);

        let mut classifications: Vec<Classification> =
            entry.authors.iter().map(|author| self.author(id, document_entry::AUTHOR, author)).collect();
        let codes = entry
            .class_code
            .iter()
            .map(|code| (document_entry::CLASS_CODE, code))
            .chain(entry.type_code.iter().map(|code| (document_entry::TYPE_CODE, code)))
            .chain(entry.format_code.iter().map(|code| (document_entry::FORMAT_CODE, code)))
            .chain(entry.confidentiality_codes.iter().map(|code| (document_entry::CONFIDENTIALITY_CODE, code)))
            .chain(entry.facility_type_code.iter().map(|code| (document_entry::FACILITY_TYPE_CODE, code)))
            .chain(entry.practice_setting_code.iter().map(|code| (document_entry::PRACTICE_SETTING_CODE, code)))
            .chain(entry.event_codes.iter().map(|code| (document_entry::EVENT_CODE, code)));
        classifications.extend(codes.map(|(scheme, code)| self.code(id, scheme, code)));

        ExtrinsicObject {
            object: RegistryObject {
                id: Some(entry.entry_uuid.clone()),
                lid: entry.logical_id.clone(),
                home: entry.home_community_id.clone(),
                status: status(entry.status),
                object_type: Some(
                    match entry.entry_type {
                        EntryType::Stable => scheme::STABLE,
                        EntryType::OnDemand => scheme::ON_DEMAND,
                    }
                    .to_owned(),
                ),
                slots,
                name: text(entry.title.as_deref(), entry.language_code.as_deref()),
                description: text(entry.comments.as_deref(), entry.language_code.as_deref()),
                version_name: entry.version.map(|version| version.to_string()),
                classifications,
                external_identifiers: vec![
                    self.identifier(id, document_entry::PATIENT_ID, "XDSDocumentEntry.patientId", &entry.patient_id.to_cx()),
                    self.identifier(id, document_entry::UNIQUE_ID, "XDSDocumentEntry.uniqueId", &entry.unique_id),
                ],
            },
            mime_type: Some(entry.mime_type.clone()),
            holds_document: false,
        }
    }

    fn submission_set(&mut self, set: &SubmissionSet) -> RegistryPackage {
        let id = set.entry_uuid.as_str();
        let mut slots = Vec::new();
        one(&mut slots, slot::SUBMISSION_TIME, set.submission_time.as_deref());
        many(&mut slots, slot::INTENDED_RECIPIENT, &set.intended_recipients);
        extra(&mut slots, &set.extra);
        let mut classifications: Vec<Classification> =
            set.authors.iter().map(|author| self.author(id, submission_set::AUTHOR, author)).collect();
        classifications.extend(set.content_type_code.iter().map(|code| self.code(id, submission_set::CONTENT_TYPE_CODE, code)));
        RegistryPackage {
            object: RegistryObject {
                id: Some(set.entry_uuid.clone()),
                lid: None,
                home: set.home_community_id.clone(),
                status: status(set.status),
                object_type: Some(object_type("RegistryPackage")),
                slots,
                name: text(set.title.as_deref(), None),
                description: text(set.comments.as_deref(), None),
                version_name: None,
                classifications,
                external_identifiers: vec![
                    self.identifier(id, submission_set::PATIENT_ID, "XDSSubmissionSet.patientId", &set.patient_id.to_cx()),
                    self.identifier(id, submission_set::UNIQUE_ID, "XDSSubmissionSet.uniqueId", &set.unique_id),
                    self.identifier(id, submission_set::SOURCE_ID, "XDSSubmissionSet.sourceId", &set.source_id),
                ],
            },
        }
    }

    fn folder(&mut self, item: &Folder) -> RegistryPackage {
        let id = item.entry_uuid.as_str();
        let mut slots = Vec::new();
        one(&mut slots, slot::LAST_UPDATE_TIME, item.last_update_time.as_deref());
        extra(&mut slots, &item.extra);
        RegistryPackage {
            object: RegistryObject {
                id: Some(item.entry_uuid.clone()),
                lid: item.logical_id.clone(),
                home: item.home_community_id.clone(),
                status: status(item.status),
                object_type: Some(object_type("RegistryPackage")),
                slots,
                name: text(item.title.as_deref(), None),
                description: text(item.comments.as_deref(), None),
                version_name: item.version.map(|version| version.to_string()),
                classifications: item.codes.iter().map(|code| self.code(id, folder::CODE, code)).collect(),
                external_identifiers: vec![
                    self.identifier(id, folder::PATIENT_ID, "XDSFolder.patientId", &item.patient_id.to_cx()),
                    self.identifier(id, folder::UNIQUE_ID, "XDSFolder.uniqueId", &item.unique_id),
                ],
            },
        }
    }

    fn association(&mut self, association: &metadata::Association) -> Association {
        let id = association.entry_uuid.as_str();
        let mut slots = Vec::new();
        extra(&mut slots, &association.slots);
        Association {
            object: RegistryObject {
                id: Some(association.entry_uuid.clone()),
                status: status(association.status),
                object_type: Some(object_type("Association")),
                slots,
                classifications: association
                    .documentation
                    .iter()
                    .map(|code| self.code(id, scheme::ASSOCIATION_DOCUMENTATION, code))
                    .collect(),
                ..RegistryObject::default()
            },
            association_type: Some(association.association_type.clone()),
            source_object: Some(association.source.clone()),
            target_object: Some(association.target.clone()),
        }
    }

    fn author(&mut self, object: &str, scheme: &str, author: &Author) -> Classification {
        let mut classification = self.classification(object);
        classification.classification_scheme = Some(scheme.to_owned());
        classification.node_representation = Some(String::new());
        let slots = &mut classification.object.slots;
        one(slots, slot::AUTHOR_PERSON, author.person.as_deref());
        many(slots, slot::AUTHOR_INSTITUTION, &author.institutions);
        many(slots, slot::AUTHOR_ROLE, &author.roles);
        many(slots, slot::AUTHOR_SPECIALTY, &author.specialties);
        many(slots, slot::AUTHOR_TELECOMMUNICATION, &author.telecommunications);
        classification
    }

    fn code(&mut self, object: &str, scheme: &str, code: &Code) -> Classification {
        let mut classification = self.classification(object);
        classification.classification_scheme = Some(scheme.to_owned());
        classification.node_representation = Some(code.code.clone());
        one(&mut classification.object.slots, slot::CODING_SCHEME, Some(&code.system));
        if !code.display.is_empty() {
            classification.object.name = plain_text(&code.display);
        }
        classification
    }

    fn classification(&mut self, object: &str) -> Classification {
        self.classifications += 1;
        Classification {
            object: RegistryObject {
                id: Some(format!("c{}", self.classifications)),
                object_type: Some(object_type("Classification")),
                ..RegistryObject::default()
            },
            classified_object: Some(object.to_owned()),
            ..Classification::default()
        }
    }

    fn identifier(&mut self, object: &str, scheme: &str, name: &str, value: &str) -> ExternalIdentifier {
        self.identifiers += 1;
        ExternalIdentifier {
            object: RegistryObject {
                id: Some(format!("x{}", self.identifiers)),
                object_type: Some(object_type("ExternalIdentifier")),
                name: plain_text(name),
                ..RegistryObject::default()
            },
            registry_object: Some(object.to_owned()),
            identification_scheme: Some(scheme.to_owned()),
            value: Some(value.to_owned()),
        }
    }
}

fn object_type(class: &str) -> String {
    format!("{}{class}", scheme::OBJECT_TYPE)
}

fn status(status: Option<AvailabilityStatus>) -> Option<String> {
    status.map(|status| status.urn().to_owned())
}

fn one(slots: &mut Vec<Slot>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        slots.push(Slot { name: Some(name.to_owned()), values: vec![value.to_owned()] });
    }
}

fn many(slots: &mut Vec<Slot>, name: &str, values: &[String]) {
    if !values.is_empty() {
        slots.push(Slot { name: Some(name.to_owned()), values: values.to_vec() });
    }
}

fn extra(slots: &mut Vec<Slot>, extra: &Slots) {
    slots.extend(extra.iter().map(|(name, values)| Slot { name: Some(name.clone()), values: values.clone() }));
}

fn text(value: Option<&str>, language: Option<&str>) -> Option<Vec<LocalizedString>> {
    let value = value?;
    Some(vec![LocalizedString { lang: language.map(str::to_owned), charset: Some("UTF-8".to_owned()), value: Some(value.to_owned()) }])
}

fn plain_text(value: &str) -> Option<Vec<LocalizedString>> {
    Some(vec![LocalizedString { value: Some(value.to_owned()), ..LocalizedString::default() }])
}

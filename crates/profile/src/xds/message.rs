//! A submission laid out for the rules: classes, ids and memberships found once.

use crate::mapping;
use idr_ihe::ebxml::rim::{Association, Classification, ExtrinsicObject, Object, RegistryObject, RegistryObjectList};
use idr_ihe::ebxml::scheme::{self, association, document_entry, folder, submission_set};
use idr_ihe::ebxml::{Decoded, decode, lower_uuid};
use idr_ihe::metadata::Submission;
use std::collections::{HashMap, HashSet};

/// Transactions whose submissions are judged here. RAD-68 is ITI-41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
pub enum SubmitTransaction {
    /// Provide and Register Document Set-b, and RAD-68.
    #[serde(rename = "ITI-41")]
    Iti41,
    /// Register Document Set-b.
    #[serde(rename = "ITI-42")]
    Iti42,
    /// Update Document Set.
    #[serde(rename = "ITI-57")]
    Iti57,
    /// Register On-Demand Document Entry.
    #[serde(rename = "ITI-61")]
    Iti61,
    /// Restricted Update Document Set.
    #[serde(rename = "ITI-92")]
    Iti92,
}

impl SubmitTransaction {
    /// ITI-57 and ITI-92: new versions of what is registered (08 §7.1).
    pub fn is_update(self) -> bool {
        matches!(self, Self::Iti57 | Self::Iti92)
    }
}

/// What an association of an update asks for (08 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// HasMember of the set with an entry or folder of the message, Original: a new version of it.
    Version,
    /// UpdateAvailabilityStatus from the set.
    Status,
    /// SubmitAssociation from the set to an association of the message.
    Submit,
    /// An association that a SubmitAssociation names.
    Submitted,
}

/// What an object of the list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Entry,
    Set,
    Folder,
    /// Classified as neither or as both.
    Package,
    Association,
    Classification,
    Reference,
    Other,
}

/// What a HasMember association joins. An end outside of the message can only be a registered object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "a membership may have a membership as its end")]
pub(super) enum Membership {
    SetToEntry,
    SetToFolder,
    SetToMembership,
    FolderToEntry,
    Wrong,
}

/// A submission as sent, with what the rules ask of it again and again.
pub struct Message<'a> {
    pub(super) transaction: SubmitTransaction,
    pub(super) list: &'a RegistryObjectList,
    classes: Vec<Class>,
    /// First object of each id, ids of UUID form in lower case.
    by_id: HashMap<String, usize>,
    /// Targets of HasMember whose source is a SubmissionSet of the message.
    members_of_set: HashSet<String>,
    /// The SubmissionSet, if there is one.
    set: Option<usize>,
    /// First entry, set or folder of each uniqueId.
    first_unique_ids: HashMap<&'a str, usize>,
    /// Ids as sent that a node of limited metadata beside the objects names.
    limited: HashSet<&'a str>,
    /// First HasMember of each source and target.
    first_memberships: HashMap<(String, String), usize>,
    /// First replacement of each target.
    first_replacements: HashMap<String, usize>,
    /// Associations that a SubmitAssociation of the set names.
    submitted: HashSet<String>,
    /// First entry or folder of each `lid`.
    first_logical_ids: HashMap<String, usize>,
    decoded: Decoded,
}

/// One object of the message.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub index: usize,
    pub class: Class,
    pub raw: &'a Object,
}

/// Both ends of an association, ids of UUID form in lower case.
pub(super) struct Ends {
    pub source: String,
    pub target: String,
}

impl<'a> Message<'a> {
    /// Lays out the objects; `None`, an absent list, counts as an empty one.
    pub fn new(transaction: SubmitTransaction, list: Option<&'a RegistryObjectList>) -> Self {
        static EMPTY: RegistryObjectList = RegistryObjectList { objects: Vec::new() };
        let list = list.unwrap_or(&EMPTY);
        let classes = classes(list);
        let mut by_id = HashMap::new();
        for (index, object) in list.objects.iter().enumerate() {
            let named = matches!(classes[index], Class::Entry | Class::Set | Class::Folder | Class::Package | Class::Association);
            if let Some(id) = object.id().filter(|id| named && !id.is_empty()) {
                by_id.entry(lower_uuid(id)).or_insert(index);
            }
        }
        let limited = list.objects.iter().filter_map(|object| match object {
            Object::Classification(Classification { classified_object: Some(id), classification_node: Some(node), .. }) => {
                scheme::LIMITED_METADATA_NODES.contains(&node.as_str()).then_some(id.as_str())
            }
            _ => None,
        });
        let mut message = Self {
            transaction,
            list,
            set: classes.iter().position(|class| *class == Class::Set),
            first_unique_ids: HashMap::new(),
            limited: limited.collect(),
            classes,
            by_id,
            members_of_set: HashSet::new(),
            first_memberships: HashMap::new(),
            first_replacements: HashMap::new(),
            submitted: HashSet::new(),
            first_logical_ids: HashMap::new(),
            decoded: decode(list),
        };
        let unique_ids: Vec<_> = message.subjects().filter_map(|subject| Some((subject.identifier("uniqueId")?, subject.index))).collect();
        for (id, index) in unique_ids {
            message.first_unique_ids.entry(id).or_insert(index);
        }
        let versioned = |subject: &Subject<'_>| matches!(subject.class, Class::Entry | Class::Folder);
        let logical_ids: Vec<_> =
            message.subjects().filter(versioned).filter_map(|subject| Some((subject.logical_id()?, subject.index))).collect();
        for (id, index) in logical_ids {
            message.first_logical_ids.entry(id).or_insert(index);
        }
        let associations: Vec<_> = message.subjects().filter_map(|subject| Some((subject, subject.ends()?))).collect();
        for (subject, ends) in associations {
            if subject.is_replacement() {
                message.first_replacements.entry(ends.target).or_insert(subject.index);
            } else if subject.association_type() == Some(association::SUBMIT_ASSOCIATION) {
                if message.class_of(&ends.source) == Some(Class::Set) {
                    message.submitted.insert(ends.target);
                }
            } else if subject.is_membership() {
                if message.class_of(&ends.source) == Some(Class::Set) {
                    message.members_of_set.insert(ends.target.clone());
                }
                message.first_memberships.entry((ends.source, ends.target)).or_insert(subject.index);
            }
        }
        message
    }

    /// The transaction that it came by.
    pub fn transaction(&self) -> SubmitTransaction {
        self.transaction
    }

    /// The objects as metadata; complete once stage 1 has found nothing.
    pub fn submission(&self) -> &Submission {
        &self.decoded.submission
    }

    pub(super) fn subjects(&self) -> impl Iterator<Item = Subject<'a>> + '_ {
        let list = self.list;
        list.objects.iter().enumerate().map(|(index, raw)| Subject { index, class: self.classes[index], raw })
    }

    /// The object with an id (already lowered).
    pub(super) fn subject(&self, id: &str) -> Option<Subject<'a>> {
        let index = *self.by_id.get(id)?;
        Some(Subject { index, class: self.classes[index], raw: &self.list.objects[index] })
    }

    pub(super) fn class_of(&self, id: &str) -> Option<Class> {
        self.by_id.get(id).map(|index| self.classes[*index])
    }

    pub(super) fn count(&self, class: Class) -> usize {
        self.classes.iter().filter(|known| **known == class).count()
    }

    /// The SubmissionSet; the first if there are several.
    pub(super) fn set(&self) -> Option<Subject<'a>> {
        self.set.map(|index| Subject { index, class: Class::Set, raw: &self.list.objects[index] })
    }

    /// Index of the first entry, set or folder with a uniqueId.
    pub(super) fn first_unique_id(&self, id: &str) -> Option<usize> {
        self.first_unique_ids.get(id).copied()
    }

    /// Index of the first entry or folder with a `lid`.
    pub(super) fn first_logical_id(&self, lid: &str) -> Option<usize> {
        self.first_logical_ids.get(lid).copied()
    }

    /// Does a node of limited metadata stand beside the object?
    pub(super) fn is_limited(&self, id: &str) -> bool {
        self.limited.contains(id)
    }

    pub(super) fn is_member_of_set(&self, id: &str) -> bool {
        self.members_of_set.contains(id)
    }

    /// Index of the first HasMember with these ends.
    pub(super) fn first_membership(&self, ends: &Ends) -> Option<usize> {
        self.first_memberships.get(&(ends.source.clone(), ends.target.clone())).copied()
    }

    /// Index of the first RPLC or XFRM_RPLC to a target.
    pub(super) fn first_replacement(&self, target: &str) -> Option<usize> {
        self.first_replacements.get(target).copied()
    }

    /// What a HasMember association joins; `None` if it is another association or an end is missing.
    pub(super) fn membership(&self, subject: &Subject<'_>) -> Option<Membership> {
        let ends = subject.ends().filter(|_| subject.is_membership())?;
        Some(match (self.class_of(&ends.source), self.class_of(&ends.target)) {
            (Some(Class::Set), None | Some(Class::Entry)) => Membership::SetToEntry,
            (Some(Class::Set), Some(Class::Folder)) => Membership::SetToFolder,
            (Some(Class::Set), Some(Class::Association)) => {
                let member = self.subject(&ends.target).filter(Subject::is_membership).and_then(|target| target.ends());
                let of_folder = member.is_some_and(|member| self.is_folder_to_entry(&member));
                if of_folder { Membership::SetToMembership } else { Membership::Wrong }
            }
            _ if self.is_folder_to_entry(&ends) => Membership::FolderToEntry,
            _ => Membership::Wrong,
        })
    }

    /// What an association of an update asks for; `None`: nothing that is known, or an end is missing.
    pub(super) fn operation(&self, subject: &Subject<'_>) -> Option<Operation> {
        let ends = subject.ends()?;
        let of_set = self.class_of(&ends.source) == Some(Class::Set);
        let target = self.class_of(&ends.target);
        let kind = subject.association_type()?;
        match kind {
            // ITI-92 has new versions alone.
            _ if self.transaction == SubmitTransaction::Iti92 && kind != association::HAS_MEMBER => None,
            association::UPDATE_AVAILABILITY_STATUS => of_set.then_some(Operation::Status),
            association::SUBMIT_ASSOCIATION => (of_set && target == Some(Class::Association)).then_some(Operation::Submit),
            association::HAS_MEMBER if of_set => {
                let original = subject.object()?.values(scheme::slot::SUBMISSION_SET_STATUS) == ["Original"];
                // A folder's membership needs no SubmissionSetStatus (M-020).
                let named = original || target == Some(Class::Folder);
                (named && matches!(target, Some(Class::Entry | Class::Folder))).then_some(Operation::Version)
            }
            _ => subject.id().is_some_and(|id| self.submitted.contains(&lower_uuid(id))).then_some(Operation::Submitted),
        }
    }

    /// The HasMember of the set that an object of the message has.
    pub(super) fn link_of(&self, id: &str) -> Option<Subject<'a>> {
        let set = lower_uuid(self.set()?.id()?);
        let index = self.first_membership(&Ends { source: set, target: id.to_owned() })?;
        Some(Subject { index, class: Class::Association, raw: &self.list.objects[index] })
    }

    fn is_folder_to_entry(&self, ends: &Ends) -> bool {
        let end = |id: &str, class| match self.class_of(id) {
            Some(known) => known == class,
            None => super::datatype::is_uuid_urn(id),
        };
        end(&ends.source, Class::Folder) && end(&ends.target, Class::Entry)
    }

    /// A manifest's entry: a DICOM document, or one that says it is a manifest (08 M-421, 02 §1.3).
    pub(super) fn is_manifest(&self, subject: &Subject<'_>) -> bool {
        subject.entry().is_some_and(|entry| entry.mime_type.as_deref() == Some("application/dicom") || has_manifest_format(&entry.object))
    }

    /// Ids, as sent, of the entries whose documents must be read as manifests.
    pub fn manifest_ids(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.subjects().filter(|subject| self.is_manifest(subject)).filter_map(|subject| subject.id())
    }
}

/// formatCode of a manifest (RAD TF-3 §4.68.4.1.2.3.2).
pub(super) fn has_manifest_format(object: &RegistryObject) -> bool {
    object.classified(document_entry::FORMAT_CODE).any(|code| {
        code.node_representation.as_deref() == Some(idr_ihe::manifest::SOP_CLASS_UID)
            && code.object.values(scheme::slot::CODING_SCHEME) == [DICOM_UID_REGISTRY]
    })
}

const DICOM_UID_REGISTRY: &str = "1.2.840.10008.2.6.1";

fn classes(list: &RegistryObjectList) -> Vec<Class> {
    let mut beside: HashMap<&str, (bool, bool)> = HashMap::new();
    for object in &list.objects {
        if let Object::Classification(Classification { classified_object: Some(id), classification_node: Some(node), .. }) = object {
            let nodes = beside.entry(id.as_str()).or_default();
            nodes.0 |= node == scheme::SUBMISSION_SET_NODE;
            nodes.1 |= node == scheme::FOLDER_NODE;
        }
    }
    let package = |object: &RegistryObject| {
        let nested = |node: &str| object.classifications.iter().any(|c| c.classification_node.as_deref() == Some(node));
        let beside = object.id.as_deref().and_then(|id| beside.get(id)).copied().unwrap_or_default();
        match (beside.0 || nested(scheme::SUBMISSION_SET_NODE), beside.1 || nested(scheme::FOLDER_NODE)) {
            (true, false) => Class::Set,
            (false, true) => Class::Folder,
            _ => Class::Package,
        }
    };
    let class = |object: &Object| match object {
        Object::ExtrinsicObject(_) => Class::Entry,
        Object::RegistryPackage(package_) => package(&package_.object),
        Object::Association(_) => Class::Association,
        Object::Classification(_) => Class::Classification,
        Object::ObjectRef(_) => Class::Reference,
        Object::Other(_) => Class::Other,
    };
    list.objects.iter().map(class).collect()
}

impl<'a> Subject<'a> {
    /// The common part.
    pub fn object(&self) -> Option<&'a RegistryObject> {
        self.raw.object()
    }

    /// `@id` as sent, if there is one.
    pub fn id(&self) -> Option<&'a str> {
        self.raw.id().filter(|id| !id.is_empty())
    }

    pub fn entry(&self) -> Option<&'a ExtrinsicObject> {
        match self.raw {
            Object::ExtrinsicObject(entry) => Some(entry),
            _ => None,
        }
    }

    pub fn association(&self) -> Option<&'a Association> {
        match self.raw {
            Object::Association(association) => Some(association),
            _ => None,
        }
    }

    /// `lid` as sent, an UUID in lower case; `None` if it is absent or empty.
    pub fn logical_id(&self) -> Option<String> {
        self.object()?.lid.as_deref().filter(|lid| !lid.is_empty()).map(lower_uuid)
    }

    pub fn association_type(&self) -> Option<&'a str> {
        self.association()?.association_type.as_deref()
    }

    pub fn is_membership(&self) -> bool {
        self.association_type() == Some(association::HAS_MEMBER)
    }

    /// One of the types that join an entry to another.
    pub fn is_relationship(&self) -> bool {
        use association::{APND, IS_SNAPSHOT_OF, RPLC, SIGNS, XFRM, XFRM_RPLC};
        self.association_type().is_some_and(|kind| [RPLC, XFRM, APND, XFRM_RPLC, SIGNS, IS_SNAPSHOT_OF].contains(&kind))
    }

    /// RPLC or XFRM_RPLC.
    pub fn is_replacement(&self) -> bool {
        self.association_type().is_some_and(|kind| [association::RPLC, association::XFRM_RPLC].contains(&kind))
    }

    /// Both ends; `None` if one is missing or this is no association.
    pub fn ends(&self) -> Option<Ends> {
        let association = self.association()?;
        let end = |id: &Option<String>| id.as_deref().filter(|id| !id.is_empty()).map(lower_uuid);
        Some(Ends { source: end(&association.source_object)?, target: end(&association.target_object)? })
    }

    /// Value of the first external identifier of an attribute, if it is not empty.
    pub fn identifier(&self, attribute: &str) -> Option<&'a str> {
        let scheme = identification_scheme(self.class, attribute)?;
        self.object()?
            .external_identifiers
            .iter()
            .find(|x| x.identification_scheme.as_deref() == Some(scheme))?
            .value
            .as_deref()
            .filter(|value| !value.is_empty())
    }
}

/// A coded attribute: name, classification scheme, whether it may occur once only.
pub(super) struct Coded {
    pub name: &'static str,
    pub scheme: &'static str,
    pub single: bool,
}

const fn coded(name: &'static str, scheme: &'static str, single: bool) -> Coded {
    Coded { name, scheme, single }
}

static ENTRY_CODES: [Coded; 7] = [
    coded("classCode", document_entry::CLASS_CODE, true),
    coded("typeCode", document_entry::TYPE_CODE, true),
    coded("formatCode", document_entry::FORMAT_CODE, true),
    coded("confidentialityCode", document_entry::CONFIDENTIALITY_CODE, false),
    coded("healthcareFacilityTypeCode", document_entry::FACILITY_TYPE_CODE, true),
    coded("practiceSettingCode", document_entry::PRACTICE_SETTING_CODE, true),
    coded("eventCodeList", document_entry::EVENT_CODE, false),
];
static SET_CODES: [Coded; 1] = [coded("contentTypeCode", submission_set::CONTENT_TYPE_CODE, true)];
static FOLDER_CODES: [Coded; 1] = [coded("codeList", folder::CODE, false)];
static ASSOCIATION_CODES: [Coded; 1] = [coded("associationDocumentation", scheme::ASSOCIATION_DOCUMENTATION, false)];

/// Coded attributes of a class (ITI TF-3 §4.2.5.1).
pub(super) fn codes_of(class: Class) -> &'static [Coded] {
    match class {
        Class::Entry => &ENTRY_CODES,
        Class::Set => &SET_CODES,
        Class::Folder => &FOLDER_CODES,
        Class::Association => &ASSOCIATION_CODES,
        _ => &[],
    }
}

/// Classification scheme of the author of a class.
pub(super) fn author_scheme(class: Class) -> Option<&'static str> {
    match class {
        Class::Entry => Some(document_entry::AUTHOR),
        Class::Set => Some(submission_set::AUTHOR),
        _ => None,
    }
}

/// External identifiers of a class: attribute, scheme, fixed Name (ITI TF-3 §4.2.5.1).
pub(super) fn identifiers_of(class: Class) -> &'static [(&'static str, &'static str, &'static str)] {
    match class {
        Class::Entry => &[
            ("patientId", document_entry::PATIENT_ID, "XDSDocumentEntry.patientId"),
            ("uniqueId", document_entry::UNIQUE_ID, "XDSDocumentEntry.uniqueId"),
        ],
        Class::Set => &[
            ("patientId", submission_set::PATIENT_ID, "XDSSubmissionSet.patientId"),
            ("uniqueId", submission_set::UNIQUE_ID, "XDSSubmissionSet.uniqueId"),
            ("sourceId", submission_set::SOURCE_ID, "XDSSubmissionSet.sourceId"),
        ],
        Class::Folder => &[("patientId", folder::PATIENT_ID, "XDSFolder.patientId"), ("uniqueId", folder::UNIQUE_ID, "XDSFolder.uniqueId")],
        _ => &[],
    }
}

fn identification_scheme(class: Class, attribute: &str) -> Option<&'static str> {
    identifiers_of(class).iter().find(|(name, _, _)| *name == attribute).map(|(_, scheme, _)| *scheme)
}

/// Slots that have a meaning on an object of a class.
pub(super) fn known_slots(class: Class) -> &'static [&'static str] {
    use scheme::slot;
    match class {
        Class::Entry => &[
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
        Class::Set => &[slot::SUBMISSION_TIME, slot::INTENDED_RECIPIENT],
        Class::Folder => &[slot::LAST_UPDATE_TIME],
        Class::Association => {
            &[slot::SUBMISSION_SET_STATUS, slot::PREVIOUS_VERSION, slot::ASSOCIATION_PROPAGATION, slot::ORIGINAL_STATUS, slot::NEW_STATUS]
        }
        _ => &[],
    }
}

/// Slots of a nested classification: of a code or of an author.
pub(super) const CLASSIFICATION_SLOTS: [&str; 6] = [
    scheme::slot::CODING_SCHEME,
    scheme::slot::AUTHOR_PERSON,
    scheme::slot::AUTHOR_INSTITUTION,
    scheme::slot::AUTHOR_ROLE,
    scheme::slot::AUTHOR_SPECIALTY,
    scheme::slot::AUTHOR_TELECOMMUNICATION,
];

/// Names of extra metadata of an object that count against `extra_slots_max`: all but the national ones, in order.
pub(super) fn extra_slot_names<'a>(object: &'a RegistryObject, class: Class, national: &mapping::Slots) -> Vec<&'a str> {
    let names = object.slots.iter().filter_map(|slot| slot.name.as_deref());
    names.filter(|name| !known_slots(class).contains(name) && !is_national(national, name)).collect()
}

pub(super) fn is_national(national: &mapping::Slots, name: &str) -> bool {
    national.all().iter().any(|(_, known)| *known == name)
}

//! Queries as typed filters.

use super::interpret::Query;
use super::value::{CodeValue, LikePattern, Value, pad_dtm};
use crate::metadata::{Author, AvailabilityStatus, Code, DocumentEntry, EntryType, Folder, PatientId, SubmissionSet};

/// What a query asks for (profile 08 §8 says which objects each returns).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// FindDocuments, …ByReferenceId, …Exclude and their multi-patient forms.
    FindDocuments(Box<DocumentFilter>),
    /// FindSubmissionSets.
    FindSubmissionSets(SubmissionSetFilter),
    /// FindFolders and its multi-patient form.
    FindFolders(FolderFilter),
    /// GetAll.
    GetAll(AllFilter),
    /// GetDocuments.
    GetDocuments {
        /// Which.
        ids: ObjectIds,
        /// `$MetadataLevel` 2: all versions.
        all_versions: bool,
    },
    /// GetFolders.
    GetFolders {
        /// Which.
        ids: ObjectIds,
        /// `$MetadataLevel` 2: all versions.
        all_versions: bool,
    },
    /// GetAssociations: those with one of the UUIDs as source or target.
    GetAssociations {
        /// entryUUIDs.
        uuids: Vec<String>,
        /// Statuses of the associations; empty: any.
        statuses: Vec<AvailabilityStatus>,
    },
    /// GetDocumentsAndAssociations.
    GetDocumentsAndAssociations {
        /// Which entries.
        ids: ObjectIds,
        /// Statuses of the associations; empty: any.
        statuses: Vec<AvailabilityStatus>,
    },
    /// GetSubmissionSets that contain the UUIDs.
    GetSubmissionSets {
        /// entryUUIDs of members.
        uuids: Vec<String>,
    },
    /// GetSubmissionSetAndContents.
    GetSubmissionSetAndContents {
        /// Which set.
        ids: ObjectIds,
        /// Which of its entries.
        content: Content,
    },
    /// GetFolderAndContents.
    GetFolderAndContents {
        /// Which folder.
        ids: ObjectIds,
        /// Which of its entries.
        content: Content,
    },
    /// GetFoldersForDocument.
    GetFoldersForDocument {
        /// Which entry.
        ids: ObjectIds,
    },
    /// GetRelatedDocuments.
    GetRelatedDocuments {
        /// Which entry.
        ids: ObjectIds,
        /// Association type URNs to follow, in either direction.
        association_types: Vec<String>,
        /// Types of the entries answered.
        entry_types: Vec<EntryType>,
    },
}

/// How objects are named: by exactly one of three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectIds {
    /// entryUUIDs.
    EntryUuid(Vec<String>),
    /// uniqueIds.
    UniqueId(Vec<String>),
    /// logicalIDs.
    LogicalId(Vec<String>),
}

/// `From ≤ t < To`, 14 digits each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// First instant inside.
    pub from: Option<String>,
    /// First instant after.
    pub to: Option<String>,
}

/// Filter of the FindDocuments family. Empty lists and absent bounds do not filter; `statuses` and `entry_types` always do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentFilter {
    /// One for ITI-18; any number, none included, for ITI-51.
    pub patients: Vec<PatientId>,
    /// Statuses, at least one.
    pub statuses: Vec<AvailabilityStatus>,
    /// Types; Stable if the query names none.
    pub entry_types: Vec<EntryType>,
    /// `classCode`.
    pub class_codes: Vec<CodeValue>,
    /// `typeCode`.
    pub type_codes: Vec<CodeValue>,
    /// `practiceSettingCode`.
    pub practice_setting_codes: Vec<CodeValue>,
    /// `healthcareFacilityTypeCode`.
    pub facility_type_codes: Vec<CodeValue>,
    /// `formatCode`.
    pub format_codes: Vec<CodeValue>,
    /// `eventCodeList`: each group must match.
    pub event_codes: Vec<Vec<CodeValue>>,
    /// `confidentialityCode`: each group must match.
    pub confidentiality_codes: Vec<Vec<CodeValue>>,
    /// `referenceIdList`: each group must match.
    pub reference_ids: Vec<Vec<String>>,
    /// authorPerson.
    pub author_persons: Vec<LikePattern>,
    /// `creationTime`.
    pub creation_time: TimeRange,
    /// `serviceStartTime`.
    pub service_start_time: TimeRange,
    /// `serviceStopTime`.
    pub service_stop_time: TimeRange,
    /// What must not match (FindDocumentsExclude).
    pub excluded: Excluded,
    /// Extra metadata: Slot name and values, one of which the entry must have.
    pub extra: Vec<(String, Vec<String>)>,
}

/// Values that an entry must not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    /// Types.
    pub entry_types: Vec<EntryType>,
    /// `classCode`.
    pub class_codes: Vec<CodeValue>,
    /// `typeCode`.
    pub type_codes: Vec<CodeValue>,
    /// `practiceSettingCode`.
    pub practice_setting_codes: Vec<CodeValue>,
    /// `healthcareFacilityTypeCode`.
    pub facility_type_codes: Vec<CodeValue>,
    /// `formatCode`.
    pub format_codes: Vec<CodeValue>,
    /// `eventCodeList`.
    pub event_codes: Vec<CodeValue>,
    /// `confidentialityCode`.
    pub confidentiality_codes: Vec<CodeValue>,
    /// `referenceIdList`.
    pub reference_ids: Vec<String>,
    /// authorPerson.
    pub author_persons: Vec<LikePattern>,
}

/// Filter of FindSubmissionSets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionSetFilter {
    /// Patient.
    pub patient: PatientId,
    /// Statuses, at least one.
    pub statuses: Vec<AvailabilityStatus>,
    /// `sourceId`.
    pub source_ids: Vec<String>,
    /// `submissionTime`.
    pub submission_time: TimeRange,
    /// authorPerson.
    pub author_person: Option<LikePattern>,
    /// `contentTypeCode`.
    pub content_types: Vec<CodeValue>,
}

/// Filter of FindFolders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFilter {
    /// One for ITI-18; any number for ITI-51.
    pub patients: Vec<PatientId>,
    /// Statuses, at least one.
    pub statuses: Vec<AvailabilityStatus>,
    /// `lastUpdateTime`.
    pub last_update_time: TimeRange,
    /// `codeList`: each group must match.
    pub codes: Vec<Vec<CodeValue>>,
}

/// Filter of GetAll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllFilter {
    /// Patient.
    pub patient: PatientId,
    /// Statuses of entries.
    pub entry_statuses: Vec<AvailabilityStatus>,
    /// Statuses of SubmissionSets.
    pub submission_set_statuses: Vec<AvailabilityStatus>,
    /// Statuses of folders.
    pub folder_statuses: Vec<AvailabilityStatus>,
    /// Which entries.
    pub content: Content,
}

/// Filter of the entries inside a set, a folder or GetAll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// `formatCode`.
    pub format_codes: Vec<CodeValue>,
    /// `confidentialityCode`: each group must match.
    pub confidentiality_codes: Vec<Vec<CodeValue>>,
    /// Types; Stable if the query names none.
    pub entry_types: Vec<EntryType>,
}

impl Query {
    /// The query as a typed filter.
    pub fn selection(&self) -> Selection {
        match self.definition.name {
            "FindSubmissionSets" => match self.patients("$XDSSubmissionSetPatientId").next() {
                Some(patient) => Selection::FindSubmissionSets(SubmissionSetFilter {
                    patient,
                    statuses: self.statuses("$XDSSubmissionSetStatus"),
                    source_ids: self.texts("$XDSSubmissionSetSourceId"),
                    submission_time: self.range("$XDSSubmissionSetSubmissionTime"),
                    author_person: self.patterns("$XDSSubmissionSetAuthorPerson").pop(),
                    content_types: self.codes("$XDSSubmissionSetContentType"),
                }),
                None => self.nothing(),
            },
            "FindFolders" | "FindFoldersForMultiplePatients" => Selection::FindFolders(FolderFilter {
                patients: self.patients("$XDSFolderPatientId").collect(),
                statuses: self.statuses("$XDSFolderStatus"),
                last_update_time: self.range("$XDSFolderLastUpdateTime"),
                codes: self.code_groups("$XDSFolderCodeList"),
            }),
            "GetAll" => match self.patients("$patientId").next() {
                Some(patient) => Selection::GetAll(AllFilter {
                    patient,
                    entry_statuses: self.statuses("$XDSDocumentEntryStatus"),
                    submission_set_statuses: self.statuses("$XDSSubmissionSetStatus"),
                    folder_statuses: self.statuses("$XDSFolderStatus"),
                    content: self.content(),
                }),
                None => self.nothing(),
            },
            "GetDocuments" => Selection::GetDocuments { ids: self.ids("$XDSDocumentEntry"), all_versions: self.all_versions() },
            "GetFolders" => Selection::GetFolders { ids: self.ids("$XDSFolder"), all_versions: self.all_versions() },
            "GetAssociations" => {
                Selection::GetAssociations { uuids: self.texts("$uuid"), statuses: self.statuses("$XDSAssociationStatus") }
            }
            "GetDocumentsAndAssociations" => Selection::GetDocumentsAndAssociations {
                ids: self.ids("$XDSDocumentEntry"),
                statuses: self.statuses("$XDSAssociationStatus"),
            },
            "GetSubmissionSets" => Selection::GetSubmissionSets { uuids: self.texts("$uuid") },
            "GetSubmissionSetAndContents" => {
                Selection::GetSubmissionSetAndContents { ids: self.ids("$XDSSubmissionSet"), content: self.content() }
            }
            "GetFolderAndContents" => Selection::GetFolderAndContents { ids: self.ids("$XDSFolder"), content: self.content() },
            "GetFoldersForDocument" => Selection::GetFoldersForDocument { ids: self.ids("$XDSDocumentEntry") },
            "GetRelatedDocuments" => Selection::GetRelatedDocuments {
                ids: self.ids("$XDSDocumentEntry"),
                association_types: self.texts("$AssociationTypes"),
                entry_types: self.entry_types(),
            },
            _ => Selection::FindDocuments(Box::new(self.document_filter())),
        }
    }

    /// `interpret` has refused a query without its patient; a query made otherwise finds nothing.
    fn nothing(&self) -> Selection {
        Selection::GetSubmissionSets { uuids: Vec::new() }
    }

    fn document_filter(&self) -> DocumentFilter {
        let known = |name: &str| self.definition.parameter(name).is_some();
        DocumentFilter {
            patients: self.patients("$XDSDocumentEntryPatientId").collect(),
            statuses: self.statuses("$XDSDocumentEntryStatus"),
            entry_types: self.entry_types(),
            class_codes: self.codes("$XDSDocumentEntryClassCode"),
            type_codes: self.codes("$XDSDocumentEntryTypeCode"),
            practice_setting_codes: self.codes("$XDSDocumentEntryPracticeSettingCode"),
            facility_type_codes: self.codes("$XDSDocumentEntryHealthcareFacilityTypeCode"),
            format_codes: self.codes("$XDSDocumentEntryFormatCode"),
            event_codes: self.code_groups("$XDSDocumentEntryEventCodeList"),
            confidentiality_codes: self.code_groups("$XDSDocumentEntryConfidentialityCode"),
            reference_ids: self.groups("$XDSDocumentEntryReferenceIdList").iter().map(|group| texts(group.iter())).collect(),
            author_persons: self.patterns("$XDSDocumentEntryAuthorPerson"),
            creation_time: self.range("$XDSDocumentEntryCreationTime"),
            service_start_time: self.range("$XDSDocumentEntryServiceStartTime"),
            service_stop_time: self.range("$XDSDocumentEntryServiceStopTime"),
            excluded: Excluded {
                entry_types: self.entry_types_of("$XDSDocumentEntryTypeExclude"),
                class_codes: self.codes("$XDSDocumentEntryClassCodeExclude"),
                type_codes: self.codes("$XDSDocumentEntryTypeCodeExclude"),
                practice_setting_codes: self.codes("$XDSDocumentEntryPracticeSettingCodeExclude"),
                facility_type_codes: self.codes("$XDSDocumentEntryHealthcareFacilityTypeCodeExclude"),
                format_codes: self.codes("$XDSDocumentEntryFormatCodeExclude"),
                event_codes: self.codes("$XDSDocumentEntryEventCodeListExclude"),
                confidentiality_codes: self.codes("$XDSDocumentEntryConfidentialityCodeExclude"),
                reference_ids: self.texts("$XDSDocumentEntryReferenceIdListExclude"),
                author_persons: self.patterns("$XDSDocumentEntryAuthorPersonExclude"),
            },
            extra: self
                .parameters
                .iter()
                .filter(|parameter| !known(&parameter.name))
                .filter_map(|parameter| Some((parameter.name.strip_prefix('$')?.to_owned(), texts(parameter.groups.iter().flatten()))))
                .collect(),
        }
    }

    fn content(&self) -> Content {
        Content {
            format_codes: self.codes("$XDSDocumentEntryFormatCode"),
            confidentiality_codes: self.code_groups("$XDSDocumentEntryConfidentialityCode"),
            entry_types: self.entry_types(),
        }
    }

    fn ids(&self, prefix: &str) -> ObjectIds {
        let by = |suffix: &str| Some(self.texts(&format!("{prefix}{suffix}"))).filter(|ids| !ids.is_empty());
        if let Some(ids) = by("UniqueId") {
            ObjectIds::UniqueId(ids)
        } else if let Some(ids) = by("LogicalID") {
            ObjectIds::LogicalId(ids)
        } else {
            ObjectIds::EntryUuid(by("EntryUUID").unwrap_or_default())
        }
    }

    fn all_versions(&self) -> bool {
        self.values("$MetadataLevel").any(|value| *value == Value::Level(2))
    }

    fn entry_types(&self) -> Vec<EntryType> {
        let given = self.entry_types_of("$XDSDocumentEntryType");
        // With an exclusion the default would leave the On-Demand entries out before it is applied.
        if given.is_empty() && self.groups("$XDSDocumentEntryTypeExclude").is_empty() {
            return vec![EntryType::Stable];
        }
        if given.is_empty() { vec![EntryType::Stable, EntryType::OnDemand] } else { given }
    }

    fn entry_types_of(&self, name: &str) -> Vec<EntryType> {
        self.values(name).filter_map(|value| if let Value::EntryType(kind) = value { Some(*kind) } else { None }).collect()
    }

    fn patients(&self, name: &str) -> impl Iterator<Item = PatientId> {
        self.values(name).filter_map(|value| if let Value::Patient(id) = value { Some(id.clone()) } else { None })
    }

    fn statuses(&self, name: &str) -> Vec<AvailabilityStatus> {
        self.values(name).filter_map(|value| if let Value::Status(status) = value { Some(*status) } else { None }).collect()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        texts(self.values(name))
    }

    fn patterns(&self, name: &str) -> Vec<LikePattern> {
        self.values(name).filter_map(|value| if let Value::Like(pattern) = value { Some(pattern.clone()) } else { None }).collect()
    }

    fn codes(&self, name: &str) -> Vec<CodeValue> {
        codes(self.values(name))
    }

    fn code_groups(&self, name: &str) -> Vec<Vec<CodeValue>> {
        self.groups(name).iter().map(|group| codes(group.iter())).collect()
    }

    fn range(&self, prefix: &str) -> TimeRange {
        let bound = |suffix: &str| {
            self.values(&format!("{prefix}{suffix}"))
                .find_map(|value| if let Value::Time(time) = value { Some(time.clone()) } else { None })
        };
        TimeRange { from: bound("From"), to: bound("To") }
    }
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values.filter_map(|value| if let Value::Text(text) = value { Some(text.clone()) } else { None }).collect()
}

fn codes<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<CodeValue> {
    values.filter_map(|value| if let Value::Code(code) = value { Some(code.clone()) } else { None }).collect()
}

impl TimeRange {
    /// Does a time lie inside? An object without the time lies inside only if nothing bounds it.
    pub fn contains(&self, time: Option<&str>) -> bool {
        if self.from.is_none() && self.to.is_none() {
            return true;
        }
        let Some(time) = time.and_then(pad_dtm) else { return false };
        self.from.as_ref().is_none_or(|from| *from <= time) && self.to.as_ref().is_none_or(|to| time < *to)
    }
}

impl DocumentFilter {
    /// Does an entry match?
    pub fn matches(&self, entry: &DocumentEntry) -> bool {
        let extra = |name: &str, wanted: &[String]| {
            entry.extra.iter().any(|(slot, values)| slot == name && values.iter().any(|value| wanted.contains(value)))
        };
        (self.patients.is_empty() || self.patients.contains(&entry.patient_id))
            && entry.status.is_some_and(|status| self.statuses.contains(&status))
            && self.entry_types.contains(&entry.entry_type)
            && any_code(&self.class_codes, &entry.class_code)
            && any_code(&self.type_codes, &entry.type_code)
            && any_code(&self.practice_setting_codes, &entry.practice_setting_code)
            && any_code(&self.facility_type_codes, &entry.facility_type_code)
            && any_code(&self.format_codes, &entry.format_code)
            && all_groups(&self.event_codes, &entry.event_codes)
            && all_groups(&self.confidentiality_codes, &entry.confidentiality_codes)
            && self.reference_ids.iter().all(|group| group.iter().any(|id| entry.reference_ids.contains(id)))
            && (self.author_persons.is_empty() || any_author(&self.author_persons, &entry.authors))
            && self.creation_time.contains(entry.creation_time.as_deref())
            && self.service_start_time.contains(entry.service_start_time.as_deref())
            && self.service_stop_time.contains(entry.service_stop_time.as_deref())
            && self.extra.iter().all(|(name, wanted)| extra(name, wanted))
            && !self.excluded.matches(entry)
    }
}

impl Excluded {
    /// Has an entry one of the values?
    fn matches(&self, entry: &DocumentEntry) -> bool {
        self.entry_types.contains(&entry.entry_type)
            || has_code(&self.class_codes, &entry.class_code)
            || has_code(&self.type_codes, &entry.type_code)
            || has_code(&self.practice_setting_codes, &entry.practice_setting_code)
            || has_code(&self.facility_type_codes, &entry.facility_type_code)
            || has_code(&self.format_codes, &entry.format_code)
            || has_code(&self.event_codes, &entry.event_codes)
            || has_code(&self.confidentiality_codes, &entry.confidentiality_codes)
            || self.reference_ids.iter().any(|id| entry.reference_ids.contains(id))
            || any_author(&self.author_persons, &entry.authors)
    }
}

impl SubmissionSetFilter {
    /// Does a SubmissionSet match?
    pub fn matches(&self, set: &SubmissionSet) -> bool {
        self.patient == set.patient_id
            && set.status.is_some_and(|status| self.statuses.contains(&status))
            && (self.source_ids.is_empty() || self.source_ids.contains(&set.source_id))
            && self.submission_time.contains(set.submission_time.as_deref())
            && self.author_person.as_ref().is_none_or(|pattern| any_author(std::slice::from_ref(pattern), &set.authors))
            && any_code(&self.content_types, &set.content_type_code)
    }
}

impl FolderFilter {
    /// Does a folder match?
    pub fn matches(&self, folder: &Folder) -> bool {
        (self.patients.is_empty() || self.patients.contains(&folder.patient_id))
            && folder.status.is_some_and(|status| self.statuses.contains(&status))
            && self.last_update_time.contains(folder.last_update_time.as_deref())
            && all_groups(&self.codes, &folder.codes)
    }
}

impl Content {
    /// Does an entry match?
    pub fn matches(&self, entry: &DocumentEntry) -> bool {
        any_code(&self.format_codes, &entry.format_code)
            && all_groups(&self.confidentiality_codes, &entry.confidentiality_codes)
            && self.entry_types.contains(&entry.entry_type)
    }
}

fn has_code<'a>(wanted: &[CodeValue], codes: impl IntoIterator<Item = &'a Code>) -> bool {
    codes.into_iter().any(|code| wanted.iter().any(|value| value.code == code.code && value.system == code.system))
}

fn any_code(wanted: &[CodeValue], code: &Option<Code>) -> bool {
    wanted.is_empty() || has_code(wanted, code)
}

fn all_groups(groups: &[Vec<CodeValue>], codes: &[Code]) -> bool {
    groups.iter().all(|group| has_code(group, codes))
}

fn any_author(patterns: &[LikePattern], authors: &[Author]) -> bool {
    authors.iter().filter_map(|author| author.person.as_deref()).any(|person| patterns.iter().any(|pattern| pattern.matches(person)))
}

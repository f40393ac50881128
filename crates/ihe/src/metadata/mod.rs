//! Document sharing metadata (ITI TF-3 §4.1, §4.2): what a registry knows about a document.
//!
//! [`DocumentEntry`], [`SubmissionSet`], [`Folder`] and [`Association`] are plain values; their XML form is
//! [`crate::ebxml`]. Absent attributes are `None` or empty; nothing is defaulted here.

mod code;
mod patient_id;

pub use code::Code;
pub use patient_id::{PatientId, PatientIdError, is_oid};

/// Slot name → values, in message order: extra metadata (ITI TF-3 §4.2.3.1.6) and other slots without a field here.
pub type Slots = Vec<(String, Vec<String>)>;

/// `availabilityStatus` (ITI TF-3 §4.2.3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum AvailabilityStatus {
    /// `urn:oasis:names:tc:ebxml-regrep:StatusType:Approved`
    Approved,
    /// `urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated`
    Deprecated,
}

impl AvailabilityStatus {
    /// The status URN.
    pub const fn urn(self) -> &'static str {
        match self {
            Self::Approved => "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved",
            Self::Deprecated => "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated",
        }
    }

    /// The status of a URN; `None` for any other text.
    pub fn from_urn(urn: &str) -> Option<Self> {
        [Self::Approved, Self::Deprecated].into_iter().find(|status| status.urn() == urn)
    }
}

/// `objectType` of a DocumentEntry (ITI TF-3 §4.2.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum EntryType {
    /// `urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1`
    Stable,
    /// `urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248`
    OnDemand,
}

/// One `author` classification (ITI TF-3 §4.2.3.1.4). Values are the HL7 strings as carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Author {
    /// XCN, at most one.
    pub person: Option<String>,
    /// XON, any number.
    pub institutions: Vec<String>,
    /// `authorRole`, CX or text.
    pub roles: Vec<String>,
    /// `authorSpecialty`.
    pub specialties: Vec<String>,
    /// `authorTelecommunication`, XTN.
    pub telecommunications: Vec<String>,
}

/// DocumentEntry (ITI TF-3 §4.2.3.2).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DocumentEntry {
    /// `urn:uuid:…` in lower case, or the symbolic id of a submission.
    pub entry_uuid: String,
    /// `lid`; the registry sets it to the first `entry_uuid`.
    pub logical_id: Option<String>,
    /// VersionInfo; 1 for a new entry.
    pub version: Option<u32>,
    /// Set by the registry.
    pub status: Option<AvailabilityStatus>,
    /// Stable or On-Demand.
    pub entry_type: EntryType,
    /// `mimeType`.
    pub mime_type: String,
    /// `uniqueId` (XDSDocumentEntry.uniqueId).
    pub unique_id: String,
    /// `patientId`.
    pub patient_id: PatientId,
    /// `sourcePatientId`.
    pub source_patient_id: Option<PatientId>,
    /// `sourcePatientInfo`: values `PID-n|…`.
    pub source_patient_info: Vec<String>,
    /// DTM, UTC, no zone.
    pub creation_time: Option<String>,
    /// DTM.
    pub service_start_time: Option<String>,
    /// DTM.
    pub service_stop_time: Option<String>,
    /// RFC 5646.
    pub language_code: Option<String>,
    /// SHA-1, 40 lower-case hex digits.
    pub hash: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// `repositoryUniqueId`, OID.
    pub repository_unique_id: Option<String>,
    /// `home`, `urn:oid:…`.
    pub home_community_id: Option<String>,
    /// `title` (Name).
    pub title: Option<String>,
    /// `comments` (Description).
    pub comments: Option<String>,
    /// `author`.
    pub authors: Vec<Author>,
    /// `classCode`.
    pub class_code: Option<Code>,
    /// `typeCode`.
    pub type_code: Option<Code>,
    /// `formatCode`.
    pub format_code: Option<Code>,
    /// `confidentialityCode`, 1–n.
    pub confidentiality_codes: Vec<Code>,
    /// `eventCodeList`.
    pub event_codes: Vec<Code>,
    /// `healthcareFacilityTypeCode`.
    pub facility_type_code: Option<Code>,
    /// `practiceSettingCode`.
    pub practice_setting_code: Option<Code>,
    /// `referenceIdList`: CXi values.
    pub reference_ids: Vec<String>,
    /// `legalAuthenticator`, XCN.
    pub legal_authenticator: Option<String>,
    /// `URI`.
    pub uri: Option<String>,
    /// `documentAvailability` URN.
    pub document_availability: Option<String>,
    /// Slots without a field above, in message order.
    pub extra: Slots,
}

/// SubmissionSet (ITI TF-3 §4.2.3.3).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SubmissionSet {
    /// `urn:uuid:…` or symbolic.
    pub entry_uuid: String,
    /// OID.
    pub unique_id: String,
    /// OID of the sending software.
    pub source_id: String,
    /// Equal to the entries' patient.
    pub patient_id: PatientId,
    /// DTM, UTC.
    pub submission_time: Option<String>,
    /// `contentTypeCode`.
    pub content_type_code: Option<Code>,
    /// `author`.
    pub authors: Vec<Author>,
    /// `title`.
    pub title: Option<String>,
    /// `comments`.
    pub comments: Option<String>,
    /// `intendedRecipient` values.
    pub intended_recipients: Vec<String>,
    /// `home`.
    pub home_community_id: Option<String>,
    /// Set by the registry.
    pub status: Option<AvailabilityStatus>,
    /// Slots without a field above.
    pub extra: Slots,
}

/// Folder (ITI TF-3 §4.2.3.4).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Folder {
    /// `urn:uuid:…` or symbolic.
    pub entry_uuid: String,
    /// `lid`.
    pub logical_id: Option<String>,
    /// VersionInfo.
    pub version: Option<u32>,
    /// OID.
    pub unique_id: String,
    /// Patient of the folder.
    pub patient_id: PatientId,
    /// `codeList`.
    pub codes: Vec<Code>,
    /// `title`.
    pub title: Option<String>,
    /// `comments`.
    pub comments: Option<String>,
    /// DTM, set by the registry.
    pub last_update_time: Option<String>,
    /// `home`.
    pub home_community_id: Option<String>,
    /// Set by the registry.
    pub status: Option<AvailabilityStatus>,
    /// Slots without a field above.
    pub extra: Slots,
}

/// Association (ITI TF-3 §4.2.2).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Association {
    /// `urn:uuid:…` or symbolic.
    pub entry_uuid: String,
    /// Full URN: `urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember`, `urn:ihe:iti:2007:AssociationType:RPLC` …
    pub association_type: String,
    /// `sourceObject`.
    pub source: String,
    /// `targetObject`.
    pub target: String,
    /// Set by the registry.
    pub status: Option<AvailabilityStatus>,
    /// SubmissionSetStatus, PreviousVersion, OriginalStatus, NewStatus …
    pub slots: Slots,
    /// `associationDocumentation` code.
    pub documentation: Option<Code>,
}

/// The four object classes of one submission, in message order.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Submission {
    /// Exactly one in a valid submission.
    pub submission_sets: Vec<SubmissionSet>,
    /// Document entries.
    pub entries: Vec<DocumentEntry>,
    /// Folders.
    pub folders: Vec<Folder>,
    /// Associations.
    pub associations: Vec<Association>,
}

//! Identifiers of ebRIM objects, schemes and slots (ITI TF-3 §4.2.5).

/// `objectType` of a stable DocumentEntry.
pub const STABLE: &str = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1";
/// `objectType` of an On-Demand DocumentEntry.
pub const ON_DEMAND: &str = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248";

/// Prefix of the ebRIM `objectType` of associations, classifications, packages and external identifiers.
pub const OBJECT_TYPE: &str = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:";

/// Availability status.
pub const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";
/// Availability status.
pub const DEPRECATED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated";

/// Classification node of a SubmissionSet.
pub const SUBMISSION_SET_NODE: &str = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd";
/// Classification node of a Folder.
pub const FOLDER_NODE: &str = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2";
/// Classification nodes of limited metadata: DocumentEntry, SubmissionSet, Folder.
pub const LIMITED_METADATA_NODES: [&str; 3] = [
    "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85",
    "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707",
    "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03",
];

/// Classification schemes of a DocumentEntry.
pub mod document_entry {
    /// `author`.
    pub const AUTHOR: &str = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d";
    /// `classCode`.
    pub const CLASS_CODE: &str = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a";
    /// `typeCode`.
    pub const TYPE_CODE: &str = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983";
    /// `formatCode`.
    pub const FORMAT_CODE: &str = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d";
    /// `confidentialityCode`.
    pub const CONFIDENTIALITY_CODE: &str = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f";
    /// `healthcareFacilityTypeCode`.
    pub const FACILITY_TYPE_CODE: &str = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1";
    /// `practiceSettingCode`.
    pub const PRACTICE_SETTING_CODE: &str = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead";
    /// `eventCodeList`.
    pub const EVENT_CODE: &str = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4";
    /// Identification scheme of `patientId`.
    pub const PATIENT_ID: &str = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427";
    /// Identification scheme of `uniqueId`.
    pub const UNIQUE_ID: &str = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab";
}

/// Schemes of a SubmissionSet.
pub mod submission_set {
    /// `author`.
    pub const AUTHOR: &str = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";
    /// `contentTypeCode`.
    pub const CONTENT_TYPE_CODE: &str = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500";
    /// Identification scheme of `patientId`.
    pub const PATIENT_ID: &str = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446";
    /// Identification scheme of `uniqueId`.
    pub const UNIQUE_ID: &str = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8";
    /// Identification scheme of `sourceId`.
    pub const SOURCE_ID: &str = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832";
}

/// Schemes of a Folder.
pub mod folder {
    /// `codeList`.
    pub const CODE: &str = "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5";
    /// Identification scheme of `patientId`.
    pub const PATIENT_ID: &str = "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a";
    /// Identification scheme of `uniqueId`.
    pub const UNIQUE_ID: &str = "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a";
}

/// Classification scheme of the documentation of an Association.
pub const ASSOCIATION_DOCUMENTATION: &str = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3";

/// Association types.
pub mod association {
    /// Membership in a SubmissionSet or Folder.
    pub const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";
    /// Replacement.
    pub const RPLC: &str = "urn:ihe:iti:2007:AssociationType:RPLC";
    /// Transformation.
    pub const XFRM: &str = "urn:ihe:iti:2007:AssociationType:XFRM";
    /// Addendum.
    pub const APND: &str = "urn:ihe:iti:2007:AssociationType:APND";
    /// Transformation and replacement.
    pub const XFRM_RPLC: &str = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC";
    /// Digital signature.
    pub const SIGNS: &str = "urn:ihe:iti:2007:AssociationType:signs";
    /// Snapshot of an On-Demand entry.
    pub const IS_SNAPSHOT_OF: &str = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf";
    /// ITI-57: change of availability status.
    pub const UPDATE_AVAILABILITY_STATUS: &str = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus";
    /// ITI-57: submission of an association.
    pub const SUBMIT_ASSOCIATION: &str = "urn:ihe:iti:2010:AssociationType:SubmitAssociation";
}

/// Slot names.
pub mod slot {
    /// `authorPerson`
    pub const AUTHOR_PERSON: &str = "authorPerson";
    /// `authorInstitution`
    pub const AUTHOR_INSTITUTION: &str = "authorInstitution";
    /// `authorRole`
    pub const AUTHOR_ROLE: &str = "authorRole";
    /// `authorSpecialty`
    pub const AUTHOR_SPECIALTY: &str = "authorSpecialty";
    /// `authorTelecommunication`
    pub const AUTHOR_TELECOMMUNICATION: &str = "authorTelecommunication";
    /// `codingScheme`
    pub const CODING_SCHEME: &str = "codingScheme";
    /// `creationTime`
    pub const CREATION_TIME: &str = "creationTime";
    /// `documentAvailability`
    pub const DOCUMENT_AVAILABILITY: &str = "documentAvailability";
    /// `hash`
    pub const HASH: &str = "hash";
    /// `intendedRecipient`
    pub const INTENDED_RECIPIENT: &str = "intendedRecipient";
    /// `languageCode`
    pub const LANGUAGE_CODE: &str = "languageCode";
    /// `lastUpdateTime`
    pub const LAST_UPDATE_TIME: &str = "lastUpdateTime";
    /// `legalAuthenticator`
    pub const LEGAL_AUTHENTICATOR: &str = "legalAuthenticator";
    /// `urn:ihe:iti:xds:2013:referenceIdList`
    pub const REFERENCE_ID_LIST: &str = "urn:ihe:iti:xds:2013:referenceIdList";
    /// `repositoryUniqueId`
    pub const REPOSITORY_UNIQUE_ID: &str = "repositoryUniqueId";
    /// `serviceStartTime`
    pub const SERVICE_START_TIME: &str = "serviceStartTime";
    /// `serviceStopTime`
    pub const SERVICE_STOP_TIME: &str = "serviceStopTime";
    /// `size`
    pub const SIZE: &str = "size";
    /// `sourcePatientId`
    pub const SOURCE_PATIENT_ID: &str = "sourcePatientId";
    /// `sourcePatientInfo`
    pub const SOURCE_PATIENT_INFO: &str = "sourcePatientInfo";
    /// `submissionTime`
    pub const SUBMISSION_TIME: &str = "submissionTime";
    /// `URI`
    pub const URI: &str = "URI";
    /// `SubmissionSetStatus` of a HasMember association.
    pub const SUBMISSION_SET_STATUS: &str = "SubmissionSetStatus";
    /// ITI-57 `PreviousVersion`.
    pub const PREVIOUS_VERSION: &str = "PreviousVersion";
    /// ITI-57 `AssociationPropagation`.
    pub const ASSOCIATION_PROPAGATION: &str = "AssociationPropagation";
    /// ITI-57 `OriginalStatus`.
    pub const ORIGINAL_STATUS: &str = "OriginalStatus";
    /// ITI-57 `NewStatus`.
    pub const NEW_STATUS: &str = "NewStatus";
}

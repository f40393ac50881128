//! Mapping (profile 02): the committed instances of one study → manifest (KOS) and its metadata.
//!
//! [`Revision::map`] makes everything that one submission needs: the KOS bytes, the [`Submission`] and the MessageID, all
//! derived from [`Study`] and [`Settings`] alone, so that a retry, a restart and another node send the same. [`withdraw`]
//! makes the ITI-57 submission when no instance is left, [`RejectionNote`] the note that says to the centre which instances were. [`AffinityDomain`] and [`ControllerMap`] are the two deployment
//! files, [`Attributes`] what is taken from each instance, [`start`] the time rule, [`ids`] the derived identifiers.
//!
//! # Failure
//! [`MappingError`]: the study cannot be described (03 row L-BUILD) and is held until a person has acted.

mod affinity_domain;
mod attributes;
mod controller_map;
mod entry;
pub mod ids;
mod rejection_note;
mod time;

pub use affinity_domain::{
    AffinityDomain, Author, Central, Codes, Folder, FolderMode, Mado, Manifest, ModalitySystem, OnEmpty, Person, Slots,
};
pub use attributes::{Attributes, Coded, PersonName, Request};
pub use controller_map::{ControllerMap, ControllerRow, Origin};
pub use rejection_note::{Rejected, RejectionNote};
pub use time::{Dates, Irregular, Start, da, dtm, offset, start};

use crate::digest::Digest;
use idr_ihe::manifest::{self, Content, ManifestWriteError, ReferencedInstance, ReferencedRequest, ReferencedSeries, ValueType};
use idr_ihe::metadata::{Association, Code, PatientId, Submission};
use ids::{KeyMember, KeyParts, Operation};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// Why a deployment file is refused. The one in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML, an unknown key, a value of another type.
    #[error("{file}: {message}")]
    Toml {
        /// File name.
        file: &'static str,
        /// With line and column.
        message: String,
    },
    /// A value that would make bad metadata.
    #[error("{file}: {key}: {problem}")]
    Value {
        /// File name.
        file: &'static str,
        /// Key, or row and key.
        key: String,
        /// What is wrong, or what is allowed.
        problem: &'static str,
    },
}

/// Why a study cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// No member has a registrable modality.
    #[error("no instance of the study has a registrable modality; nothing is registered")]
    NothingRegistrable,
    /// Neither the object nor the controller map names an institution.
    #[error("authorInstitution: neither Institution Name (0008,0080) nor a service unit in controller-map.toml; add one")]
    Institution,
    /// A value is longer than a slot may be.
    #[error("metadata attribute {attribute} is longer than 256 characters; correct it at its source")]
    TooLong {
        /// Slot or attribute.
        attribute: String,
    },
    /// The manifest cannot be written.
    #[error("the manifest cannot be written")]
    Manifest(#[source] ManifestWriteError),
}

/// One instance of M (02 §2).
#[derive(Clone)]
pub struct Member {
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0020,000E)
    pub series_instance_uid: String,
    /// Of the stored bytes (01 §3.1).
    pub digest: Digest,
    /// When it was received.
    pub received: Timestamp,
    /// Kind of its content item: [`value_type`] of the family of its SOP class.
    pub value_type: ValueType,
    /// What its header says.
    pub attributes: Attributes,
}

/// Value type of a content item, by the family of the SOP class (01 §9, 02 §3).
pub fn value_type(family: &str) -> ValueType {
    match family {
        "IMG" | "MF" | "EMF" | "WSI" | "OPH" | "VID" => ValueType::Image,
        "WAV" => ValueType::Waveform,
        _ => ValueType::Composite,
    }
}

/// What one revision of a manifest is made of.
#[derive(Clone, Copy)]
pub struct Study<'a> {
    /// (0020,000D)
    pub study_instance_uid: &'a str,
    /// `site.source_oid`
    pub source: &'a str,
    /// M, in any order.
    pub members: &'a [Member],
    /// Latest receive time of the rejection notes and corrections that were applied, or the time of `replay --republish`.
    pub changed: Option<Timestamp>,
    /// (0010,0020) with the resolved issuer (01 §3.2).
    pub source_patient: &'a PatientId,
    /// The surviving id, if a merge is known; else the same.
    pub patient: &'a PatientId,
    /// `accession_issuer` of the inbound row.
    pub accession_issuer: Option<&'a str>,
    /// `language` of the inbound row.
    pub language: Option<&'a str>,
    /// healthcareFacilityTypeCode of the inbound row.
    pub facility_type: Option<&'a Code>,
    /// Service event id that passes D422.
    pub service_event: Option<&'a str>,
    /// Row of the controller map.
    pub controlled: &'a ControllerRow,
    /// Revision of the controller map.
    pub map_revision: u32,
    /// `<id>/<revision>` of the rule set.
    pub rule_set: &'a str,
    /// entryUUID of the Approved entry that this one replaces.
    pub replaces: Option<&'a str>,
    /// Folder of the service event, when folders are on.
    pub folder: FolderUse<'a>,
}

/// What is known of the folder of the service event (02 §4.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FolderUse<'a> {
    /// Folders are off, or the study has no service event.
    #[default]
    None,
    /// The registry has none yet: this submission makes it.
    Create,
    /// entryUUID of the folder that GetFolders found.
    Existing(&'a str),
}

/// What of the deployment the mapping needs.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// `affinity-domain.toml`
    pub domain: &'a AffinityDomain,
    /// `site.timezone`
    pub zone: &'a TimeZone,
    /// `modalities_registrable` of the rule set (01 §10).
    pub registrable: &'a dyn Fn(&str) -> bool,
    /// Study code lists: first five characters of Study Description → code, OID of the list, display in the language.
    pub study_codes: &'a dyn Fn(&str) -> Option<Code>,
    /// `procedure_coding_schemes` of the rule set: OIDs.
    pub procedure_coding_schemes: &'a [String],
}

/// One revision, ready to send. KOS and submission are stored before the first attempt and sent as stored.
#[derive(Clone)]
pub struct Revision {
    /// 64 hex digits; equal keys are equal revisions.
    pub content_key: String,
    /// uniqueId of the entry and SOP Instance UID of the manifest.
    pub document_uid: String,
    /// entryUUID of the entry.
    pub entry_uuid: String,
    /// Part 10 file.
    pub kos: Vec<u8>,
    /// Metadata of the RAD-68 submission.
    pub submission: Submission,
    /// wsa:MessageID, `urn:uuid:…`, of every attempt.
    pub message_id: String,
}

/// Whether a manifest is published now (02 §2.2).
///
/// `all_committed`: every instance of the study that passed stage T is in M. `since_first_commitment`: time since then;
/// `partial_after`: `manifest_partial_after_min`, zero for never.
pub fn is_publishable(
    members: &[Member],
    registrable: &dyn Fn(&str) -> bool,
    all_committed: bool,
    since_first_commitment: std::time::Duration,
    partial_after: std::time::Duration,
) -> bool {
    let due = !partial_after.is_zero() && since_first_commitment >= partial_after;
    (all_committed || due) && members.iter().any(|member| registrable(&member.attributes.modality))
}

impl Revision {
    /// Maps a study.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn map(study: &Study<'_>, settings: &Settings<'_>) -> Result<Self, MappingError> {
        let reference = reference(study.members, settings).ok_or(MappingError::NothingRegistrable)?;
        let as_of = as_of(study);
        let as_of_dtm = dtm(as_of);
        let accession = &reference.attributes.accession_number;
        let accession_issuer = accession_issuer(&reference.attributes.accession_issuer, study);
        let key = ids::content_key(
            &KeyParts {
                study: study.study_instance_uid,
                source: study.source,
                patient: study.patient,
                accession: (accession, accession_issuer.unwrap_or_default()),
                as_of: &as_of_dtm,
                domain_revision: settings.domain.revision,
                map_revision: study.map_revision,
                rule_set: study.rule_set,
            },
            study.members.iter().map(key_member).collect(),
        );
        let document_uid = ids::kos_uid(study.study_instance_uid, study.source, &key);
        let entry_uuid = ids::entry_uuid(&document_uid);
        let kos = content(study, settings, reference, &document_uid, as_of).to_part10().map_err(MappingError::Manifest)?;
        let operation = if study.replaces.is_some() { Operation::Replace } else { Operation::Original };
        let set_uid = ids::set_uid(&document_uid, operation, study.replaces);
        let submission = entry::submission(&entry::Parts {
            study,
            settings,
            reference,
            document_uid: &document_uid,
            entry_uuid: &entry_uuid,
            set_uid: &set_uid,
            as_of: &as_of_dtm,
            kos: &kos,
        })?;
        Ok(Self { content_key: key, document_uid, entry_uuid, kos, submission, message_id: ids::message_id(&set_uid) })
    }
}

/// The ITI-57 submission that withdraws the published entry of a study whose M became empty, and its MessageID (02 §7 row 5).
///
/// `reference`: the reference instance of the published revision, which the author of the set is taken from; `document_uid`
/// and `target` are its uniqueId and entryUUID.
///
/// # Errors
/// [`MappingError`].
pub fn withdraw(
    study: &Study<'_>,
    settings: &Settings<'_>,
    reference: &Attributes,
    document_uid: &str,
    target: &str,
) -> Result<(Submission, String), MappingError> {
    let set_uid = ids::set_uid(document_uid, Operation::Deprecate, Some(target));
    let set = entry::submission_set(study, settings, reference, &set_uid, &dtm(as_of(study)))?;
    let urn = |status: idr_ihe::metadata::AvailabilityStatus| status.urn().to_owned();
    let association = Association {
        slots: vec![
            ("OriginalStatus".to_owned(), vec![urn(idr_ihe::metadata::AvailabilityStatus::Approved)]),
            ("NewStatus".to_owned(), vec![urn(idr_ihe::metadata::AvailabilityStatus::Deprecated)]),
        ],
        ..entry::association(UPDATE_AVAILABILITY_STATUS, &set.entry_uuid, target)
    };
    let submission = Submission { submission_sets: vec![set], associations: vec![association], ..Submission::default() };
    Ok((submission, ids::message_id(&set_uid)))
}

const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";
const REPLACES: &str = "urn:ihe:iti:2007:AssociationType:RPLC";
const UPDATE_AVAILABILITY_STATUS: &str = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus";

/// The member with a registrable modality and the lowest (series, instance), bytes compared (02 §2.4).
fn reference<'a>(members: &'a [Member], settings: &Settings<'_>) -> Option<&'a Member> {
    let registrable = members.iter().filter(|member| (settings.registrable)(&member.attributes.modality));
    registrable.min_by_key(|member| (&member.series_instance_uid, &member.sop_instance_uid))
}

/// Latest receive time of M and of what was applied to it, cut to seconds (02 §5.2).
fn as_of(study: &Study<'_>) -> Timestamp {
    let latest = study.members.iter().map(|member| member.received).chain(study.changed).max().unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(latest.as_second()).expect("an instant in range stays in range")
}

fn accession_issuer<'a>(own: &'a Option<String>, study: &Study<'a>) -> Option<&'a str> {
    own.as_deref().or(study.accession_issuer)
}

fn key_member(member: &Member) -> KeyMember<'_> {
    KeyMember {
        series: &member.series_instance_uid,
        instance: &member.sop_instance_uid,
        class: &member.sop_class_uid,
        digest: member.digest,
    }
}

/// Distinct (accession number, issuer) of M, at top level and in (0040,0275), sorted.
fn accessions<'a>(study: &Study<'a>) -> BTreeSet<(&'a str, Option<&'a str>)> {
    let mut all = BTreeSet::new();
    for Attributes { accession_number, accession_issuer: issuer, requests, .. } in study.members.iter().map(|member| &member.attributes) {
        let own = std::iter::once((accession_number, issuer));
        let requested = requests.iter().map(|request| (&request.accession_number, &request.accession_issuer));
        for (number, issuer) in own.chain(requested).filter(|(number, _)| !number.is_empty()) {
            all.insert((number.as_str(), accession_issuer(issuer, study)));
        }
    }
    all
}

/// The KOS document (02 §3).
fn content(study: &Study<'_>, settings: &Settings<'_>, reference: &Member, document_uid: &str, as_of: Timestamp) -> Content {
    let from = &reference.attributes;
    let domain = settings.domain;
    let offset = time::manifest_offset(&from.dates(), settings.zone, as_of);
    let local = offset.to_datetime(as_of);
    let mut series: BTreeMap<&str, Vec<ReferencedInstance>> = BTreeMap::new();
    for member in study.members {
        series.entry(&member.series_instance_uid).or_default().push(ReferencedInstance {
            sop_class_uid: member.sop_class_uid.clone(),
            sop_instance_uid: member.sop_instance_uid.clone(),
            value_type: member.value_type,
        });
    }
    let url = |series: &str| {
        let base = &domain.central.wado_rs;
        (!base.is_empty()).then(|| format!("{base}/studies/{}/series/{series}", study.study_instance_uid))
    };
    let series = series
        .into_iter()
        .map(|(uid, instances)| ReferencedSeries {
            series_instance_uid: uid.to_owned(),
            retrieve_ae_title: domain.central.retrieve_ae_title.clone(),
            retrieve_url: url(uid),
            retrieve_location_uid: domain.central.retrieve_location_uid.clone(),
            instances,
        })
        .collect();
    // Type 1C: present if (0008,0050) of the manifest is not empty.
    let requests = match from.accession_number.is_empty() {
        true => Vec::new(),
        false => accessions(study).into_iter().map(|(number, issuer)| request(number, issuer, &from.requests)).collect(),
    };
    Content {
        sop_instance_uid: document_uid.to_owned(),
        series_instance_uid: ids::series_uid(study.study_instance_uid, study.source),
        study_instance_uid: study.study_instance_uid.to_owned(),
        study_date: from.study_date.clone(),
        study_time: from.study_time.clone(),
        content_date: local.strftime("%Y%m%d").to_string(),
        content_time: local.strftime("%H%M%S").to_string(),
        timezone_offset: Some(time::write_offset(offset)),
        accession_number: from.accession_number.clone(),
        accession_issuer: accession_issuer(&from.accession_issuer, study).map(str::to_owned),
        institution_name: from.institution_name.clone(),
        institution_code: from.institution_code.as_ref().map(|codes| attributes::items(codes)),
        referring_physician_name: from.referring_physician_name.clone(),
        study_description: from.study_description.clone(),
        procedure_code: from.procedure_code.as_ref().map(|codes| attributes::items(codes)),
        patient_name: from.patient_name.clone(),
        patient_id: from.patient_id.clone(),
        issuer_of_patient_id: from.issuer_of_patient_id.clone(),
        patient_id_issuer: study.source_patient.authority.clone(),
        patient_birth_date: from.patient_birth_date.clone(),
        patient_sex: from.patient_sex.clone(),
        study_id: from.study_id.clone(),
        series_number: domain.manifest.series_number,
        requests,
        series,
        description: Some(domain.manifest.description.clone()).filter(|text| !text.is_empty()),
        title: manifest::Title::Manifest,
    }
}

/// Item of (0040,A370): details from the item of (0040,0275) with that accession number, or from the only one without any.
fn request(number: &str, issuer: Option<&str>, requests: &[Request]) -> ReferencedRequest {
    let named = requests.iter().find(|request| request.accession_number == number);
    let only = requests.first().filter(|request| requests.len() == 1 && request.accession_number.is_empty());
    let details = named.or(only).cloned().unwrap_or_default();
    ReferencedRequest {
        accession_number: number.to_owned(),
        accession_issuer: issuer.map(str::to_owned),
        requested_procedure_description: details.description,
        requested_procedure_code: attributes::items(&details.code),
        requested_procedure_id: details.procedure_id,
        placer_order_number: details.placer_order_number,
        filler_order_number: details.filler_order_number,
    }
}

/// Coding system of formatCode, and its value: the SOP class of the manifest (RAD TF-3 §4.68.4.1.2.3.2).
const DICOM_UID_REGISTRY: &str = "1.2.840.10008.2.6.1";

fn format_code() -> Code {
    Code {
        code: manifest::SOP_CLASS_UID.to_owned(),
        system: DICOM_UID_REGISTRY.to_owned(),
        display: "Key Object Selection Document".to_owned(),
    }
}

#[cfg(test)]
mod tests;

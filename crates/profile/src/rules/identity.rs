//! What an accepted instance is, with its UIDs checked once.

use super::checks::uid;
use super::facts::Facts;
use crate::scan::tags;
use idr_ihe::metadata::PatientId;
use std::fmt;

/// The attributes that place an instance: UIDs of the right form, patient, order. Holds patient data; `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceIdentity {
    /// (0008,0016).
    pub sop_class_uid: String,
    /// (0008,0018).
    pub sop_instance_uid: String,
    /// (0020,000D).
    pub study_uid: String,
    /// (0020,000E).
    pub series_uid: String,
    /// Transfer syntax as received.
    pub transfer_syntax_uid: String,
    /// (0008,0060).
    pub modality: Option<String>,
    /// (0010,0020) with its resolved issuer; `None` if either is missing.
    pub patient_id: Option<PatientId>,
    /// Step of profile 01 §3.2 that gave the issuer, 1–5.
    pub issuer_step: Option<u8>,
    /// (0010,0010).
    pub patient_name: Option<String>,
    /// (0010,0030), as is.
    pub birth_date: Option<String>,
    /// (0010,0040).
    pub sex: Option<String>,
    /// (0008,0050).
    pub accession_number: Option<String>,
    /// ISO OID of (0008,0051), else of the inbound row.
    pub accession_issuer: Option<String>,
    /// (0008,0020), as is.
    pub study_date: Option<String>,
    /// (0008,0030), as is.
    pub study_time: Option<String>,
    /// (0008,1030).
    pub study_description: Option<String>,
    /// (0008,103E).
    pub series_description: Option<String>,
    /// (0020,0011).
    pub series_number: Option<String>,
    /// (0020,0013).
    pub instance_number: Option<String>,
    /// (0028,0008).
    pub number_of_frames: Option<u32>,
}

impl InstanceIdentity {
    /// `None` if a UID is absent or not of the form that D204–D208 and D211 demand.
    pub(super) fn of(facts: &Facts<'_>) -> Option<Self> {
        let uid = |tag| facts.top.uid(tag).filter(|text| uid::is_well_formed(text)).map(str::to_owned);
        let text = |tag| facts.text(tag);
        let issuer = facts.issuer.as_ref();
        Some(Self {
            sop_class_uid: uid(tags::SOP_CLASS_UID)?,
            sop_instance_uid: uid(tags::SOP_INSTANCE_UID)?,
            study_uid: uid(tags::STUDY_INSTANCE_UID)?,
            series_uid: uid(tags::SERIES_INSTANCE_UID)?,
            transfer_syntax_uid: facts.scan.transfer_syntax.clone(),
            modality: facts.top.first_text(tags::MODALITY),
            patient_id: facts.patient_id.clone().zip(issuer).map(|(id, issuer)| PatientId { id, authority: issuer.oid.clone() }),
            issuer_step: issuer.map(|issuer| issuer.step),
            patient_name: text(tags::PATIENT_NAME),
            birth_date: text(tags::PATIENT_BIRTH_DATE),
            sex: text(tags::PATIENT_SEX),
            accession_number: text(tags::ACCESSION_NUMBER),
            accession_issuer: super::facts::iso_oid(facts.top, tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE)
                .or_else(|| facts.context.accession_issuer.map(str::to_owned)),
            study_date: text(tags::STUDY_DATE),
            study_time: text(tags::STUDY_TIME),
            study_description: text(tags::STUDY_DESCRIPTION),
            series_description: text(tags::SERIES_DESCRIPTION),
            series_number: facts.top.first_text(tags::SERIES_NUMBER),
            instance_number: facts.top.first_text(tags::INSTANCE_NUMBER),
            number_of_frames: facts.top.unsigned(tags::NUMBER_OF_FRAMES).and_then(|frames| frames.try_into().ok()),
        })
    }
}

impl fmt::Debug for InstanceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceIdentity")
            .field("sop_class_uid", &self.sop_class_uid)
            .field("sop_instance_uid", &self.sop_instance_uid)
            .field("transfer_syntax_uid", &self.transfer_syntax_uid)
            .field("modality", &self.modality)
            .finish_non_exhaustive()
    }
}

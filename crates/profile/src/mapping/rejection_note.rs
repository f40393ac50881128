//! Rejection note made here: what of a study the centre shall show no more, and why (RAD TF-2 §4.66; profile 01 §8.3).
//!
//! It belongs to the study of what it rejects, as a series of its own, and describes patient and study as they stand in the
//! rejected objects. Equal input gives equal bytes under an equal UID (02 §5.1).

use super::{Attributes, attributes, ids, time};
use idr_ihe::manifest::{Content, ManifestWriteError, ReferencedInstance, ReferencedSeries, Title, ValueType, dcm};
use idr_ihe::metadata::PatientId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// One instance that is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// (0008,0016)
    pub sop_class_uid: String,
    /// (0020,000E)
    pub series_instance_uid: String,
    /// (0008,0018)
    pub sop_instance_uid: String,
    /// By the family of its SOP class ([`super::value_type`]).
    pub value_type: ValueType,
}

/// What a rejection note says.
#[derive(Clone, Copy)]
pub struct RejectionNote<'a> {
    /// (0020,000D)
    pub study_instance_uid: &'a str,
    /// Code value and meaning of the title (PS3.16 CID 7010).
    pub title: (&'a str, &'a str),
    /// Code value and meaning of the reason (PS3.16 CID 7011), for 113001.
    pub modifier: Option<(&'a str, &'a str)>,
    /// Exactly these, in any order.
    pub rejected: &'a [Rejected],
    /// What the header of one of them says of patient and study.
    pub attributes: &'a Attributes,
    /// (0010,0020) with the resolved issuer (01 §3.2).
    pub patient: &'a PatientId,
    /// `accession_issuer` of the inbound row.
    pub accession_issuer: Option<&'a str>,
    /// When they were rejected.
    pub at: Timestamp,
    /// `site.timezone`
    pub zone: &'a TimeZone,
}

impl RejectionNote<'_> {
    /// (0008,0018) of the note.
    pub fn uid(&self) -> String {
        let rejected: Vec<&str> = self.rejected.iter().map(|one| one.sop_instance_uid.as_str()).collect();
        ids::rejection_note_uid(self.title.0, self.study_instance_uid, &rejected)
    }

    /// The data set, in Explicit VR Little Endian.
    ///
    /// # Errors
    /// [`ManifestWriteError`]: nothing is rejected, or an instance twice; a value is too long.
    pub fn to_data_set(&self) -> Result<Vec<u8>, ManifestWriteError> {
        let (from, uid) = (self.attributes, self.uid());
        let offset = time::manifest_offset(&from.dates(), self.zone, self.at);
        let local = offset.to_datetime(self.at);
        let mut series: BTreeMap<&str, Vec<ReferencedInstance>> = BTreeMap::new();
        for one in self.rejected {
            series.entry(&one.series_instance_uid).or_default().push(ReferencedInstance {
                sop_class_uid: one.sop_class_uid.clone(),
                sop_instance_uid: one.sop_instance_uid.clone(),
                value_type: one.value_type,
            });
        }
        let series = series.into_iter().map(|(uid, instances)| ReferencedSeries {
            series_instance_uid: uid.to_owned(),
            instances,
            ..ReferencedSeries::default()
        });
        Content {
            series_instance_uid: ids::rejection_series_uid(&uid),
            sop_instance_uid: uid,
            study_instance_uid: self.study_instance_uid.to_owned(),
            study_date: from.study_date.clone(),
            study_time: from.study_time.clone(),
            content_date: local.strftime("%Y%m%d").to_string(),
            content_time: local.strftime("%H%M%S").to_string(),
            timezone_offset: Some(time::write_offset(offset)),
            accession_number: from.accession_number.clone(),
            accession_issuer: from.accession_issuer.as_deref().or(self.accession_issuer).map(str::to_owned),
            institution_name: from.institution_name.clone(),
            institution_code: from.institution_code.as_ref().map(|codes| attributes::items(codes)),
            referring_physician_name: from.referring_physician_name.clone(),
            study_description: from.study_description.clone(),
            procedure_code: from.procedure_code.as_ref().map(|codes| attributes::items(codes)),
            patient_name: from.patient_name.clone(),
            patient_id: from.patient_id.clone(),
            issuer_of_patient_id: from.issuer_of_patient_id.clone(),
            patient_id_issuer: self.patient.authority.clone(),
            patient_birth_date: from.patient_birth_date.clone(),
            patient_sex: from.patient_sex.clone(),
            study_id: from.study_id.clone(),
            series_number: SERIES_NUMBER,
            requests: Vec::new(),
            series: series.collect(),
            description: None,
            title: Title::Rejection {
                code: Box::new(dcm(self.title.0, self.title.1)),
                modifier: self.modifier.map(|(code, meaning)| Box::new(dcm(code, meaning))),
            },
        }
        .to_data_set()
    }
}

/// (0020,0011): behind the series of devices.
const SERIES_NUMBER: u32 = 9_998;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::study::rejects_others;
    use crate::scan::{Limits, Scanner, tags};

    fn scanned(bytes: &[u8]) -> crate::scan::Scan {
        let mut scanner = Scanner::new("1.2.840.10008.1.2.1", Limits::default());
        scanner.feed(bytes);
        scanner.finish()
    }

    #[test]
    fn a_note_rejects_exactly_what_it_names_in_its_own_study_and_is_the_same_every_time() {
        let study = "1.2.246.10.12345671.5.1";
        let one = |n: u32, series: u32| Rejected {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
            series_instance_uid: format!("1.2.246.10.12345671.6.{series}"),
            sop_instance_uid: format!("1.2.246.10.12345671.7.{n}"),
            value_type: ValueType::Image,
        };
        let attributes = Attributes {
            study_date: "20260115".to_owned(),
            patient_name: "Öhman^Testi".to_owned(),
            patient_id: "010190-900P".to_owned(),
            ..Attributes::default()
        };
        let patient = PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() };
        let zone = TimeZone::get("Europe/Helsinki").expect("bundled");
        let note = |rejected: &[Rejected], title: (&str, &str), modifier| {
            let note = RejectionNote {
                study_instance_uid: study,
                title,
                modifier,
                rejected,
                attributes: &attributes,
                patient: &patient,
                accession_issuer: None,
                at: "2026-01-15T08:00:00Z".parse().expect("an instant"),
                zone: &zone,
            };
            (note.uid(), note.to_data_set())
        };
        let worklist = ("113038", "Incorrect Modality Worklist Entry");
        let (uid, bytes) = note(&[one(1, 1), one(2, 1), one(3, 2)], worklist, None);
        assert_eq!(note(&[one(3, 2), one(1, 1), one(2, 1)], worklist, None), (uid.clone(), bytes.clone()), "in any order");
        assert_ne!(note(&[one(1, 1), one(2, 1)], worklist, None).0, uid);
        let scan = scanned(&bytes.expect("a note"));
        let top = scan.data_set();
        assert!(rejects_others(top, study) && !rejects_others(top, "1.2.3"));
        assert_eq!(top.uid(tags::SOP_INSTANCE_UID), Some(uid.as_str()));
        assert_eq!(top.text(tags::PATIENT_ID).as_deref(), Some("010190-900P"));
        // A note for quality has its reason; without one it would not hold.
        let quality = ("113001", "Rejected for Quality Reasons");
        let with = note(&[one(1, 1)], quality, Some(("111207", "Image artifact(s)"))).1.expect("a note");
        assert!(rejects_others(scanned(&with).data_set(), study));
        let without = note(&[one(1, 1)], quality, None).1.expect("a note");
        assert!(!rejects_others(scanned(&without).data_set(), study));
        assert_eq!(note(&[], worklist, None).1, Err(ManifestWriteError::Empty));
        assert_eq!(note(&[one(1, 1), one(1, 1)], worklist, None).1, Err(ManifestWriteError::InstanceTwice));
    }
}

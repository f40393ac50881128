//! What the study rules ask of one instance.

use super::key_object::{self, Role};
use super::{Name, Patient, name};
use crate::rules::check::{Check, ReadAs};
use crate::rules::checks::order::study_code_of;
use crate::rules::facts::{Context, Facts};
use crate::rules::set::Rules;
use crate::scan::{DataSet, Element, Scan, tags};
use dicom_core::Tag;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

const RELATED_OF_STUDY: Tag = Tag(0x0020, 0x1208);
const RELATED_OF_SERIES: Tag = Tag(0x0020, 0x1209);
const CONCATENATION_UID: Tag = Tag(0x0020, 0x9161);
const IN_CONCATENATION_NUMBER: Tag = Tag(0x0020, 0x9162);
const IN_CONCATENATION_TOTAL: Tag = Tag(0x0020, 0x9163);
/// Families whose objects refer to others of their study.
const REFERRING: [&str; 3] = ["PR", "SR", "KO"];

/// One instance of a study. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct StudyInstance {
    pub(super) sop_instance: Name,
    pub(super) series_uid: String,
    pub(super) received: Timestamp,
    /// By element and way of reading; `None` is an empty value.
    pub(super) values: Vec<(Tag, ReadAs, Option<Name>)>,
    pub(super) modality: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) patient: Option<Patient>,
    pub(super) number: Option<i64>,
    /// (0020,1208) and (0020,1209).
    pub(super) declared: [Option<u64>; 2],
    /// UID, number and total.
    pub(super) concatenation: Option<(Name, Option<u64>, Option<u64>)>,
    pub(super) references: BTreeSet<Name>,
    pub(super) role: Role,
}

impl fmt::Debug for StudyInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StudyInstance(<redacted>)")
    }
}

impl StudyInstance {
    /// Reads an instance that was accepted; the walk needs to have come to its bulk data. `None` if it has no study, series or
    /// SOP Instance UID.
    pub fn of(scan: &Scan, context: &Context<'_>, rules: &Rules) -> Option<Self> {
        let facts = Facts::new(scan, context, rules);
        let top = facts.top;
        let study_uid = top.uid(tags::STUDY_INSTANCE_UID)?;
        let family = facts.class.map_or("", |class| class.family.as_str());
        let referring = REFERRING.contains(&family);
        let issuer = facts.issuer.as_ref().map(|issuer| issuer.oid.clone());
        Some(Self {
            sop_instance: name(top.uid(tags::SOP_INSTANCE_UID)?.as_bytes()),
            series_uid: top.uid(tags::SERIES_INSTANCE_UID)?.to_owned(),
            received: context.received,
            values: asked(rules).into_iter().map(|(tag, read)| (tag, read, value(top, tag, read))).collect(),
            modality: top.first_text(tags::MODALITY),
            patient: facts.patient_id.as_deref().zip(issuer.as_deref()).map(|(id, issuer)| Patient::new(id, issuer)),
            issuer,
            number: top.first_text(tags::INSTANCE_NUMBER).and_then(|text| text.parse().ok()),
            declared: [RELATED_OF_STUDY, RELATED_OF_SERIES].map(|tag| top.unsigned(tag)),
            concatenation: top
                .uid(CONCATENATION_UID)
                .map(|uid| (name(uid.as_bytes()), top.unsigned(IN_CONCATENATION_NUMBER), top.unsigned(IN_CONCATENATION_TOTAL))),
            references: if referring { key_object::references(top, study_uid).collect() } else { BTreeSet::new() },
            role: if family == "KO" { key_object::role(top, study_uid) } else { Role::Plain },
        })
    }

    /// Its patient, if ID and issuer are known.
    pub fn patient(&self) -> Option<Patient> {
        self.patient
    }
}

/// Name of an accession number with its issuer, 32 hex digits: what an index finds other studies by without keeping the number.
pub fn accession_name(number: &str, issuer: Option<&str>) -> String {
    hex::encode(name(format!("{number}\0{}", issuer.unwrap_or_default()).as_bytes()))
}

/// Elements that the rules compare, and how.
fn asked(rules: &Rules) -> BTreeSet<(Tag, ReadAs)> {
    let of_check = |check: &Check| match check {
        Check::StudyValues { tags, read, .. } => tags.iter().map(|tag| (*tag, *read)).collect(),
        _ => Vec::new(),
    };
    rules.iter().flat_map(|rule| of_check(rule.check())).collect()
}

/// What is compared; `None` if it is empty.
fn value(top: DataSet<'_>, tag: Tag, read: ReadAs) -> Option<Name> {
    let element = top.element(tag).filter(|element| !element.is_empty())?;
    match read {
        ReadAs::Value => Some(content(element)),
        ReadAs::PersonName => {
            let text = element.text()?;
            let alphabetic: String = text.split('=').next().unwrap_or_default().nfc().collect();
            let folded: String = alphabetic.to_lowercase().nfc().collect();
            let folded = folded.trim_end_matches(['^', ' ']);
            (!folded.is_empty()).then(|| name(folded.as_bytes()))
        }
        ReadAs::StudyCode => element.text().map(|text| name(study_code_of(&text).as_bytes())),
    }
}

/// Text as it reads, whatever the character set; else the bytes without padding; of a sequence all that stands in its items.
fn content(element: Element<'_>) -> Name {
    let mut hasher = Sha256::new();
    feed(element, &mut hasher);
    let digest: [u8; 32] = hasher.finalize().into();
    *digest.first_chunk().expect("32 bytes have 16")
}

fn feed(element: Element<'_>, hasher: &mut Sha256) {
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    if !element.is_sequence() {
        return match element.text() {
            Some(text) => part(text.as_bytes()),
            None => part(element.unpadded()),
        };
    }
    for item in element.items() {
        hasher.update(b"(");
        for inner in item.elements() {
            hasher.update(inner.tag().0.to_le_bytes());
            hasher.update(inner.tag().1.to_le_bytes());
            feed(inner, hasher);
        }
        hasher.update(b")");
    }
}

/// Name of all elements outside groups 0002, 0028 and 7FE0, however they are encoded (D733); `None` if one of them is bulk data
/// or was not kept whole, so that nothing can be said. The walk needs to have come to the end.
pub fn content_outside_pixels(scan: &Scan) -> Option<[u8; 16]> {
    let mut hasher = Sha256::new();
    let mut whole = true;
    for element in scan.data_set().elements().filter(|element| ![0x0028, 0x7FE0].contains(&element.tag().0)) {
        whole &= element.is_whole();
        for item in element.items() {
            item.for_each(&mut |inner| whole &= inner.is_whole());
        }
        hasher.update(element.tag().0.to_le_bytes());
        hasher.update(element.tag().1.to_le_bytes());
        feed(element, &mut hasher);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    whole.then(|| *digest.first_chunk().expect("32 bytes have 16"))
}

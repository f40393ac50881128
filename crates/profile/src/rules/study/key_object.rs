//! Key Object Selection documents that act on others: rejection notes and manifests (RAD TF-2 §4.66, TF-3 §4.68).

use super::{Name, name};
use crate::scan::{DataSet, tags};
use dicom_core::Tag;

const CONCEPT_NAME: Tag = Tag(0x0040, 0xA043);
const CONCEPT_CODE: Tag = Tag(0x0040, 0xA168);
const CONTENT: Tag = Tag(0x0040, 0xA730);
const EVIDENCE: Tag = Tag(0x0040, 0xA375);
const REFERENCED_SERIES: Tag = Tag(0x0008, 0x1115);
const REFERENCED_IMAGE: Tag = Tag(0x0008, 0x1140);
const REFERENCED_SOP: Tag = Tag(0x0008, 0x1199);
const REFERENCED_INSTANCE: Tag = Tag(0x0008, 0x1155);

/// What a key object does to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing: any other object.
    Plain,
    /// 113030, 113031.
    Manifest,
    /// A rejection note.
    Note {
        /// 113039: what comes after it is stored as new.
        retention: bool,
        /// It has references, none outside its study, and a reason where one is needed (D736).
        valid: bool,
    },
}

/// Whether an object of family KO is a rejection note that holds (D736): what it names stands in no manifest of ours.
pub fn rejects_others(top: DataSet<'_>, study_uid: &str) -> bool {
    matches!(role(top, study_uid), Role::Note { valid: true, .. })
}

/// Role of an object of family KO.
pub(super) fn role(top: DataSet<'_>, study_uid: &str) -> Role {
    let Some(title) = top.items(CONCEPT_NAME).next().and_then(dcm_code) else { return Role::Plain };
    let retention = match title.as_str() {
        "113030" | "113031" => return Role::Manifest,
        "113001" | "113037" | "113038" => false,
        "113039" => true,
        _ => return Role::Plain,
    };
    let mut referenced = evidence(top).peekable();
    let own = referenced.peek().is_some() && evidence(top).all(|(study, _)| study == study_uid);
    let reason = || {
        top.items(CONTENT)
            .filter(|item| item.items(CONCEPT_NAME).next().and_then(dcm_code).as_deref() == Some("113011"))
            .any(|item| item.items(CONCEPT_CODE).next().is_some_and(|code| code.has(tags::CODE_VALUE)))
    };
    Role::Note { retention, valid: own && (title != "113001" || reason()) }
}

/// Instances of its own study that a PR, SR or KO refers to.
pub(super) fn references<'a>(top: DataSet<'a>, study_uid: &'a str) -> impl Iterator<Item = Name> + 'a {
    let presented = top.items(REFERENCED_SERIES).flat_map(|series| series.items(REFERENCED_IMAGE));
    let presented = presented.filter_map(|item| item.uid(REFERENCED_INSTANCE));
    let evident = evidence(top).filter(move |(study, _)| *study == study_uid).map(|(_, instance)| instance);
    presented.chain(evident).map(|uid| name(uid.as_bytes()))
}

/// Study and instance of each reference of Current Requested Procedure Evidence Sequence.
fn evidence(top: DataSet<'_>) -> impl Iterator<Item = (&str, &str)> {
    top.items(EVIDENCE).flat_map(|study| {
        let uid = study.uid(tags::STUDY_INSTANCE_UID).unwrap_or_default();
        let instances = study.items(REFERENCED_SERIES).flat_map(|series| series.items(REFERENCED_SOP));
        instances.filter_map(move |item| Some((uid, item.uid(REFERENCED_INSTANCE)?)))
    })
}

fn dcm_code(item: DataSet<'_>) -> Option<String> {
    (item.first_text(tags::CODING_SCHEME_DESIGNATOR)? == "DCM").then(|| item.first_text(tags::CODE_VALUE)).flatten()
}

//! What is to be corrected, by whom and why: checked once, before any object is read (profile 01 §8.2).

use super::attributes::{Attributes, Scope};
use super::uids::StudyUid;
use crate::rules::tag_of;
use crate::scan::{Vr, implicit_vr, tags};
use dicom_core::Tag;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

/// Attributes of one order.
const CHANGES_MAX: usize = 64;
/// Characters of a text of unbounded VR.
const TEXT_MAX: usize = 1024;

/// The new value of an attribute.
#[derive(Clone, PartialEq, Eq)]
pub enum NewValue {
    /// Of an element; empty for no value.
    Text(String),
    /// Of a sequence: its one item; empty for no item.
    Item(BTreeMap<Tag, String>),
}

/// Who corrects, as Original Attributes and Contributing Equipment say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Id of the site, for (0400,0563).
    pub site_id: String,
    /// Institution that the objects came from, for (0400,0564); may be empty.
    pub source_institution: String,
    /// Manufacturer of the modifying equipment, (0008,0070).
    pub manufacturer: String,
}

/// An order of correction. `Debug` leaves out the values: they are patient data.
#[derive(Clone, PartialEq, Eq)]
pub struct Order {
    pub(super) changes: BTreeMap<Tag, NewValue>,
    pub(super) at: Timestamp,
    pub(super) author: Author,
    reason: String,
    title: String,
    modifier: Option<(String, String)>,
    scope: Scope,
    study_uid: StudyUid,
}

/// Why an order is not taken. `Display` names tags, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Not `(gggg,eeee)=value` or `(gggg,eeee)/(gggg,eeee)=value`.
    #[error("--set takes (gggg,eeee)=value, in the item of a sequence (gggg,eeee)/(gggg,eeee)=value; the {0}. one is neither")]
    Form(usize),
    /// Not in `correction.toml`.
    #[error("{0} is not correctable: the source has to correct it and send a rejection note and new instances")]
    NotCorrectable(Tag),
    /// Given twice, or as element and as item.
    #[error("{0} is given twice")]
    Twice(Tag),
    /// A value for a sequence, or an item for an element.
    #[error("{0} is {1}")]
    Kind(Tag, &'static str),
    /// A value that the VR does not allow.
    #[error("the new value of {tag} is not allowed: {why}")]
    Value {
        /// Of which.
        tag: Tag,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not one of the reasons.
    #[error("{0} is no reason: 113038 wrong worklist entry, 113037 patient safety, 113001 quality")]
    Reason(String),
    /// Reason 113001 without a code of CID 7011, or another one with it, or an unknown code.
    #[error("{0}")]
    Modifier(&'static str),
    /// Nothing would change.
    #[error("nothing is to be changed: name attributes with --set, or the study of the right order with --study-uid")]
    Nothing,
    /// More than 64 attributes.
    #[error("more than 64 values are given")]
    TooMany,
}

/// An order as it was given.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// `(0010,0020)=010190-900P`, `(0010,0024)/(0040,0032)=1.2.246.21`.
    pub sets: &'a [String],
    /// Code value of the reason.
    pub reason: &'a str,
    /// Code of CID 7011.
    pub modifier: Option<&'a str>,
    /// Study Instance UID of the right order.
    pub study_uid: Option<&'a str>,
}

impl Order {
    /// Checks what was given. `at` and `author` stand in every corrected object.
    ///
    /// # Errors
    /// [`OrderError`] names the attribute.
    pub fn new(attributes: &Attributes, given: Given<'_>, at: Timestamp, author: Author) -> Result<Self, OrderError> {
        let mut changes = parse(attributes, given.sets)?;
        let rule = attributes.reasons.get(given.reason).ok_or_else(|| OrderError::Reason(given.reason.chars().take(16).collect()))?;
        match given.modifier {
            None if rule.modifier_required => Err(OrderError::Modifier("this reason needs --modifier with a code of CID 7011")),
            Some(_) if !rule.modifier_required => Err(OrderError::Modifier("--modifier goes with reason 113001 alone")),
            Some(code) if !attributes.modifiers.contains_key(code) => Err(OrderError::Modifier("--modifier is no code of CID 7011")),
            _ => Ok(()),
        }?;
        if let Some(uid) = given.study_uid
            && changes.insert(tags::STUDY_INSTANCE_UID, NewValue::Text(uid.to_owned())).is_some()
        {
            return Err(OrderError::Twice(tags::STUDY_INSTANCE_UID));
        }
        for (tag, value) in &changes {
            check(*tag, value)?;
        }
        for (field, text) in [(Tag(0x0400, 0x0563), &author.site_id), (Tag(0x0400, 0x0564), &author.source_institution)] {
            text_of(field, Vr(*b"LO"), text)?;
        }
        let moves = rule.moves_study || changes.keys().any(|tag| is_identity(*tag));
        let study_uid = match changes.remove(&tags::STUDY_INSTANCE_UID) {
            Some(NewValue::Text(uid)) if uid.is_empty() => {
                return Err(OrderError::Value { tag: tags::STUDY_INSTANCE_UID, why: "a study has a UID" });
            }
            Some(NewValue::Text(uid)) => StudyUid::Given(uid),
            _ if moves => StudyUid::Derived,
            _ => StudyUid::Kept,
        };
        if changes.is_empty() && !matches!(study_uid, StudyUid::Given(_)) {
            return Err(OrderError::Nothing);
        }
        let widest = changes.keys().filter_map(|tag| attributes.attributes.get(tag)).max().copied().unwrap_or(Scope::Series);
        let scope = if study_uid == StudyUid::Kept { widest } else { Scope::Study };
        let meaning = |code: &str| (code.to_owned(), attributes.modifiers.get(code).cloned().unwrap_or_default());
        let (reason, title, modifier) = (given.reason.to_owned(), rule.words.clone(), given.modifier.map(meaning));
        Ok(Self { changes, at, author, reason, title, modifier, scope, study_uid })
    }

    /// What is corrected together.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Which Study Instance UID the corrected objects get.
    pub fn study_uid(&self) -> &StudyUid {
        &self.study_uid
    }

    /// Code value of the reason, scheme DCM.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Title of the rejection note that says the same, and its modifier: code value and meaning, scheme DCM.
    pub fn title(&self) -> ((&str, &str), Option<(&str, &str)>) {
        let modifier = self.modifier.as_ref().map(|(code, meaning)| (code.as_str(), meaning.as_str()));
        ((&self.reason, &self.title), modifier)
    }

    /// Attributes that are set, in order.
    pub fn tags(&self) -> impl Iterator<Item = Tag> {
        self.changes.keys().copied()
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags: Vec<String> = self.tags().map(|tag| tag.to_string()).collect();
        write!(f, "Order({} at {}: {})", self.reason, self.at, tags.join(" "))
    }
}

/// The patient's id and issuer, and the study: with another of these it is another study (profile 01 §8.2.2).
fn is_identity(tag: Tag) -> bool {
    matches!(tag, tags::PATIENT_ID | tags::ISSUER_OF_PATIENT_ID | tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE | tags::STUDY_INSTANCE_UID)
}

fn parse(attributes: &Attributes, sets: &[String]) -> Result<BTreeMap<Tag, NewValue>, OrderError> {
    if sets.len() > CHANGES_MAX {
        return Err(OrderError::TooMany);
    }
    let mut changes: BTreeMap<Tag, NewValue> = BTreeMap::new();
    for (number, text) in sets.iter().enumerate() {
        let form = OrderError::Form(number + 1);
        let (path, value) = text.split_once('=').ok_or_else(|| form.clone())?;
        let (outer, inner) = match path.split_once('/') {
            Some((outer, inner)) => (outer, Some(tag_of(inner).ok_or_else(|| form.clone())?)),
            None => (path, None),
        };
        let tag = tag_of(outer).ok_or(form)?;
        if !attributes.attributes.contains_key(&tag) {
            return Err(OrderError::NotCorrectable(tag));
        }
        let sequence = implicit_vr(tag) == Vr::SQ;
        match (inner, sequence) {
            (Some(_), false) => return Err(OrderError::Kind(tag, "no sequence")),
            (None, true) if !value.is_empty() => {
                return Err(OrderError::Kind(tag, "a sequence: name the elements of its item, (gggg,eeee)/(gggg,eeee)=value"));
            }
            (Some(inner), true) => match changes.entry(tag).or_insert_with(|| NewValue::Item(BTreeMap::new())) {
                NewValue::Item(item) if !item.contains_key(&inner) => drop(item.insert(inner, value.to_owned())),
                _ => return Err(OrderError::Twice(inner)),
            },
            (None, _) => {
                let new = if sequence { NewValue::Item(BTreeMap::new()) } else { NewValue::Text(value.to_owned()) };
                if changes.insert(tag, new).is_some() {
                    return Err(OrderError::Twice(tag));
                }
            }
        }
    }
    Ok(changes)
}

fn check(tag: Tag, value: &NewValue) -> Result<(), OrderError> {
    match value {
        NewValue::Text(text) => text_of(tag, implicit_vr(tag), text),
        NewValue::Item(item) => item.iter().try_for_each(|(tag, text)| match implicit_vr(*tag) {
            vr if vr.is_string() && *tag != tags::SPECIFIC_CHARACTER_SET => text_of(*tag, vr, text),
            _ => Err(OrderError::Value { tag: *tag, why: "it is no text element" }),
        }),
    }
}

/// Length and repertoire of PS3.5 Table 6.2-1. What the value means is asked by the rules, of the corrected object.
fn text_of(tag: Tag, vr: Vr, text: &str) -> Result<(), OrderError> {
    let wrong = |why| Err(OrderError::Value { tag, why });
    if text.contains(char::is_control) {
        return wrong("it has control characters");
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return wrong("it begins or ends with a space");
    }
    if text.contains('\\') && tag != tags::SPECIFIC_CHARACTER_SET {
        return wrong("it has a backslash, which separates values");
    }
    let most = match &vr.0 {
        b"SH" | b"CS" | b"AE" | b"TM" => 16,
        b"DA" => 8,
        b"LO" | b"UI" => 64,
        b"PN" => 3 * 64 + 2,
        _ => TEXT_MAX,
    };
    if tag != tags::SPECIFIC_CHARACTER_SET && text.chars().count() > most {
        return wrong("it is longer than its value representation allows");
    }
    let all = |allowed: fn(char) -> bool| text.chars().all(allowed);
    let term = |text: &str| text.split('\\').all(|value| value.len() <= 16);
    match &vr.0 {
        b"PN" if text.split('=').count() > 3 || text.split('=').any(|group| group.chars().count() > 64) => {
            wrong("a name has at most 3 component groups of 64 characters")
        }
        b"CS" if !all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, ' ' | '_' | '\\')) || !term(text) => {
            wrong("a code string has at most 16 of A–Z, 0–9, space and underscore")
        }
        b"DA" if !text.is_empty() && (text.len() != 8 || !all(|c| c.is_ascii_digit())) => wrong("a date is YYYYMMDD"),
        b"TM" if !all(|c| c.is_ascii_digit() || c == '.') => wrong("a time is HHMMSS.FFFFFF"),
        b"UI" if !all(|c| c.is_ascii_digit() || c == '.') => wrong("a UID has digits and dots"),
        b"UI" if text.split('.').any(|part| part.is_empty() || part.len() > 1 && part.starts_with('0')) && !text.is_empty() => {
            wrong("a component of a UID is empty or begins with 0")
        }
        _ if !vr.is_text() && !text.is_ascii() => wrong("it has characters outside ASCII"),
        _ => Ok(()),
    }
}

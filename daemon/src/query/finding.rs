//! A C-FIND under way: one candidate after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use idr_dimse::service::query_retrieve::matching::matches;
use idr_dimse::service::query_retrieve::{Identifier, Level, QUERY_RETRIEVE_LEVEL, Returned, SPECIFIC_CHARACTER_SET};
use idr_dimse::status::Status;
use idr_profile::access::Operation;
use idr_profile::scan::{CharacterSet, Scan};

use super::attributes::{ATTRIBUTES, Attribute, COUNTED, attribute};
use super::look_up::{Instance, Part};
use super::{Asker, Place, Query};
use crate::spool::SpoolError;

/// VRs whose elements have a longer head than the others (PS3.5 §7.1.2), beside SQ.
const LONG: [[u8; 2]; 12] = [*b"OB", *b"OD", *b"OF", *b"OL", *b"OV", *b"OW", *b"SV", *b"UC", *b"UN", *b"UR", *b"UT", *b"UV"];

/// What the next step of a C-FIND is.
pub enum Found {
    /// A match: the elements of its response, to be sent with this status (FF00H, or FF01H if a key is not known).
    Match(Vec<Returned>, Status),
    /// One candidate less, and no match.
    Nothing,
    /// The final status.
    End(Status),
}

/// A C-FIND under way.
pub struct Finding {
    query: Arc<Query>,
    asker: Option<Asker>,
    identifier: Identifier,
    /// Keys, decoded.
    keys: Vec<(Tag, String)>,
    pending: Status,
    candidates: VecDeque<Vec<Part>>,
    answers: usize,
    _place: Place,
}

impl Finding {
    pub(super) fn new(query: Arc<Query>, place: Place, asker: Option<Asker>, identifier: Identifier, parts: Vec<Part>) -> Self {
        let characters = CharacterSet::of(identifier.value(SPECIFIC_CHARACTER_SET));
        let decoded = |tag: Tag| characters.decode(identifier.value(tag)).text;
        let keys = identifier.keys.iter().filter(|key| key.tag != SPECIFIC_CHARACTER_SET).map(|key| (key.tag, decoded(key.tag))).collect();
        let known = |tag: Tag| attribute(tag, identifier.level).is_some() || ALWAYS.contains(&tag);
        let all_known = identifier.keys.iter().all(|key| known(key.tag));
        let pending = if all_known { Status::PENDING } else { Status::PENDING_WITH_WARNING };
        let candidates = grouped(identifier.level, parts);
        Self { query, asker, identifier, keys, pending, candidates, answers: 0, _place: place }
    }

    /// The next step.
    pub async fn next(&mut self) -> Found {
        let (Some(parts), Some(asker)) = (self.candidates.pop_front(), self.asker.clone()) else {
            if let Some(asker) = &self.asker {
                tracing::info!(
                    inbound = asker.device.row,
                    level = self.identifier.level.value(),
                    answers = self.answers,
                    "a query was answered"
                );
            }
            return Found::End(Status::SUCCESS);
        };
        match self.look(&asker, parts).await {
            Ok(None) => Found::Nothing,
            Ok(Some(_)) if self.answers >= self.query.config.query.results_max => {
                tracing::warn!(inbound = asker.device.row, "a query has more answers than query.results_max");
                Found::End(Status::OUT_OF_RESOURCES)
            }
            Ok(Some(elements)) => {
                self.answers += 1;
                Found::Match(elements, self.pending)
            }
            Err(error) => {
                tracing::warn!(cause = %error, remedy = error.remedy(), "a query ends early");
                Found::End(Status::CANNOT_UNDERSTAND)
            }
        }
    }

    async fn look(&self, asker: &Asker, parts: Vec<Part>) -> Result<Option<Vec<Returned>>, SpoolError> {
        let shown = self.query.disclosed(asker, Operation::Search, parts).await?;
        let Some(first) = shown.first() else { return Ok(None) };
        let instances: Vec<(&str, &Instance)> =
            shown.iter().flat_map(|shown| shown.part.instances.iter().map(|instance| (shown.part.study.as_str(), instance))).collect();
        let value = |attribute: &Attribute| {
            if COUNTED.contains(&attribute.tag) { counted(attribute.tag, &instances) } else { text(&first.header, attribute.tag) }
        };
        for (tag, key) in &self.keys {
            if let Some(attribute) = attribute(*tag, self.identifier.level)
                && !matches(attribute.matching, key, &value(attribute))
            {
                return Ok(None);
            }
        }
        Ok(Some(self.elements(asker, value)))
    }

    /// What was asked for, the unique keys down to the level, and where to retrieve it.
    fn elements(&self, asker: &Asker, value: impl Fn(&Attribute) -> String) -> Vec<Returned> {
        let level = self.identifier.level;
        let unique = |tag: Tag| Level::ALL.into_iter().any(|one| one <= level && one.unique_key() == tag);
        let asked = |tag: Tag| self.keys.iter().any(|(key, _)| *key == tag);
        let mut elements: Vec<Returned> = ATTRIBUTES
            .iter()
            .filter(|attribute| attribute.level <= level && (asked(attribute.tag) || unique(attribute.tag)))
            .map(|attribute| Returned { tag: attribute.tag, vr: attribute.vr, value: value(attribute).into_bytes() })
            .collect();
        elements.push(Returned { tag: QUERY_RETRIEVE_LEVEL, vr: *b"CS", value: level.value().into() });
        elements.push(Returned { tag: tags::RETRIEVE_AE_TITLE, vr: *b"AE", value: asker.called_ae.clone().into() });
        elements.push(Returned { tag: tags::INSTANCE_AVAILABILITY, vr: *b"CS", value: b"ONLINE".to_vec() });
        if elements.iter().any(|element| !element.value.is_ascii()) {
            elements.push(Returned { tag: SPECIFIC_CHARACTER_SET, vr: *b"CS", value: b"ISO_IR 192".to_vec() });
        }
        // A key that is not known comes back without a value.
        for key in &self.identifier.keys {
            let vr = key.vr.unwrap_or(*b"LO");
            if elements.iter().all(|element| element.tag != key.tag) && key.tag != SPECIFIC_CHARACTER_SET && !LONG.contains(&vr) {
                elements.push(Returned { tag: key.tag, vr, value: Vec::new() });
            }
        }
        elements
    }
}

/// Keys that are no attributes of a level and are returned with every match.
const ALWAYS: [Tag; 3] = [SPECIFIC_CHARACTER_SET, tags::RETRIEVE_AE_TITLE, tags::INSTANCE_AVAILABILITY];

/// Candidates of a level, each by the parts that it lies in.
fn grouped(level: Level, parts: Vec<Part>) -> VecDeque<Vec<Part>> {
    let mut groups: BTreeMap<(String, String, String), Vec<Part>> = BTreeMap::new();
    for part in parts {
        match level {
            Level::Patient => {
                let patient = part.instances.first().map(|instance| instance.patient.clone()).unwrap_or_default();
                groups.entry((patient, String::new(), String::new())).or_default().push(part);
            }
            Level::Study => groups.entry((part.study.clone(), String::new(), String::new())).or_default().push(part),
            Level::Series | Level::Image => {
                let mut split: BTreeMap<(String, String), Vec<Instance>> = BTreeMap::new();
                for instance in part.instances {
                    let image = if level == Level::Image { instance.sop_instance.clone() } else { String::new() };
                    split.entry((instance.series.clone(), image)).or_default().push(instance);
                }
                for ((series, image), instances) in split {
                    let piece = Part { study: part.study.clone(), calling_ae: part.calling_ae.clone(), instances };
                    groups.entry((part.study.clone(), series, image)).or_default().push(piece);
                }
            }
        }
    }
    groups.into_values().collect()
}

/// The value of an element as text, its values separated by `\`.
pub(super) fn text(header: &Scan, tag: Tag) -> String {
    let data_set = header.data_set();
    match data_set.uid(tag) {
        Some(uid) if uid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => uid.to_owned(),
        _ => data_set.text(tag).unwrap_or_default(),
    }
}

/// Values that are made of what is here and may be shown.
fn counted(tag: Tag, instances: &[(&str, &Instance)]) -> String {
    let distinct = |of: fn(&(&str, &Instance)) -> Option<String>| instances.iter().filter_map(of).collect::<BTreeSet<String>>();
    match tag {
        tags::NUMBER_OF_PATIENT_RELATED_STUDIES => distinct(|(study, _)| Some((*study).to_owned())).len().to_string(),
        tags::NUMBER_OF_STUDY_RELATED_SERIES => distinct(|(_, instance)| Some(instance.series.clone())).len().to_string(),
        tags::MODALITIES_IN_STUDY => Vec::from_iter(distinct(|(_, instance)| instance.modality.clone())).join("\\"),
        tags::SOP_CLASSES_IN_STUDY => Vec::from_iter(distinct(|(_, instance)| Some(instance.sop_class.clone()))).join("\\"),
        _ => distinct(|(_, instance)| Some(instance.sop_instance.clone())).len().to_string(),
    }
}

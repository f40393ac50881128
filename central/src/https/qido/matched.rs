//! From permitted candidates to the objects of an answer: grouped by level, matched on their headers, cut into the page.

use std::collections::BTreeSet;
use std::ops::Range;

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use idr_dimse::service::query_retrieve::Level;
use idr_dimse::service::query_retrieve::matching::{Matching, matches};
use idr_profile::access::Disclosed;
use idr_profile::scan::json::{self, Attributes};
use idr_profile::scan::{DataSet, Scan, Tag, Vr};
use serde_json::Value;

use super::attributes::{
    ATTRIBUTES, Attribute, INSTANCE_AVAILABILITY, ISSUER_OF_PATIENT_ID, MODALITIES_IN_STUDY, MODALITY, PATIENT_ID, RETRIEVE_URL,
    SERIES_RELATED_INSTANCES, SOP_CLASS_UID, SOP_CLASSES_IN_STUDY, STUDY_RELATED_INSTANCES, STUDY_RELATED_SERIES,
};
use super::parameters::Parameters;
use crate::archive::header::{self, Until};
use crate::central::Central;
use crate::consent::gate::Decided;
use crate::https::wado::Target;
use crate::store::search::Gathered;

/// Headers that are read side by side.
const HEADERS_IN_FLIGHT: usize = 4;

/// What could match, in the order of the answer.
pub struct Matches {
    level: Level,
    /// Levels that a match tells of.
    told: Vec<Level>,
    /// Each by the permitted candidates that it is made of.
    groups: Vec<Range<usize>>,
}

/// A match: the candidates that it is made of, and its object.
type Looked = (Range<usize>, Value);

/// What did.
pub struct Evaluated {
    /// The page.
    pub objects: Vec<Value>,
    /// Candidates that the page is made of.
    pub told: BTreeSet<usize>,
    /// All matches.
    pub total: usize,
    /// Matches after the page.
    pub remaining: usize,
}

impl Matches {
    /// Groups what is permitted. Candidates come in the order of study, series and instance.
    pub fn of(level: Level, below: Option<&Target>, decided: &Decided<Gathered>) -> Self {
        let uid = |disclosed: &Disclosed<Gathered>| {
            let first = &disclosed.payload().first;
            let series = if level >= Level::Series { first.series_uid.clone() } else { String::new() };
            let instance = if level == Level::Image { first.sop_instance_uid.clone() } else { String::new() };
            (first.study_uid.clone(), series, instance)
        };
        let mut groups: Vec<Range<usize>> = Vec::new();
        let disclosed = &decided.gated.disclosed;
        for (index, pair) in disclosed.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if uid(&disclosed[group.start]) == uid(pair) => group.end = index + 1,
                _ => groups.push(index..index + 1),
            }
        }
        // What the path names is told only when it is asked for (PS3.18 §10.6.3.3).
        let named = match below {
            None => 0,
            Some(target) if target.series.is_none() => 1,
            Some(_) => 2,
        };
        let told = [Level::Study, Level::Series, Level::Image];
        let told = told.into_iter().filter(|one| *one <= level).skip(named.min(level_number(level))).collect();
        Self { level, told, groups }
    }

    /// Matches them and makes the page. Headers are read of what is on the page, or of all if a key needs them.
    pub async fn evaluate(&self, central: &Central, decided: &Decided<Gathered>, parameters: &Parameters, max: usize) -> Evaluated {
        let limit = parameters.limit.unwrap_or(max).min(max);
        let page = parameters.offset..parameters.offset.saturating_add(limit);
        let by_header = parameters.keys.iter().any(|(tag, _)| !in_index(*tag));
        let mut evaluated = Evaluated { objects: Vec::new(), told: BTreeSet::new(), total: 0, remaining: 0 };
        let groups = self.groups.iter().enumerate();
        let wanted = groups.filter(|(number, _)| by_header || page.contains(number)).map(|(_, group)| group.clone());
        let looked: Vec<BoxFuture<'_, Option<Looked>>> =
            wanted.map(|group| self.look(central, decided, parameters, group).boxed()).collect();
        let mut looked = stream::iter(looked).buffered(HEADERS_IN_FLIGHT);
        let mut at = if by_header { 0 } else { page.start };
        while let Some(object) = looked.next().await {
            let Some((group, object)) = object else { continue };
            if page.contains(&at) {
                evaluated.objects.push(object);
                evaluated.told.extend(group);
            }
            at += 1;
        }
        evaluated.total = if by_header { at } else { self.groups.len() };
        evaluated.remaining = evaluated.total.saturating_sub(page.start.saturating_add(evaluated.objects.len()));
        if evaluated.objects.is_empty() {
            evaluated.remaining = 0;
        }
        evaluated
    }

    /// The object of one match; `None`: a key does not match.
    async fn look(&self, central: &Central, decided: &Decided<Gathered>, parameters: &Parameters, group: Range<usize>) -> Option<Looked> {
        let members = &decided.gated.disclosed[group.clone()];
        let first = members.first()?;
        let header = read(central, first).await;
        let mut modalities = BTreeSet::new();
        if self.level == Level::Study {
            modalities.extend(header.as_ref().and_then(|header| header.data_set().first_text(MODALITY)));
            let mut series = &first.payload().first.series_uid;
            for member in members {
                // One header for each series.
                if member.payload().first.series_uid != *series {
                    series = &member.payload().first.series_uid;
                    let header = read(central, member).await;
                    modalities.extend(header.and_then(|header| header.data_set().first_text(MODALITY)));
                }
            }
        }
        let found = Match { central, decided, level: self.level, members, header: header.as_ref(), modalities: &modalities };
        for (tag, key) in &parameters.keys {
            let attribute = ATTRIBUTES.iter().find(|attribute| attribute.tag == *tag)?;
            if !found.fits(attribute, key, parameters) {
                return None;
            }
        }
        let asked = |attribute: &Attribute| {
            parameters.include.contains(&attribute.tag) || parameters.keys.iter().any(|(tag, _)| *tag == attribute.tag)
        };
        let mut object = Attributes::new();
        for attribute in ATTRIBUTES.iter().filter(|attribute| attribute.level <= self.level) {
            let told = attribute.always && self.told.contains(&attribute.level);
            // Which study and series it is of is told in any case.
            let unique = [Level::Study, Level::Series].into_iter().any(|level| level.unique_key() == attribute.tag);
            let own = attribute.tag == RETRIEVE_URL || attribute.tag == INSTANCE_AVAILABILITY;
            if (told || unique || own || asked(attribute))
                && let Some(value) = found.json(attribute)
            {
                object.insert(json::name(attribute.tag), value);
            }
        }
        // At the level of an instance its header speaks for all that it has.
        if let (Level::Image, Some(header)) = (self.level, &header) {
            for tag in parameters.include.iter().filter(|tag| super::attributes::attribute(**tag).is_none()) {
                if let Some(value) = header.data_set().element(*tag).and_then(|element| element.to_json(&|_| None)) {
                    object.insert(json::name(*tag), value);
                }
            }
        }
        object.insert("00080005".to_owned(), json::texts(Vr::CS, "ISO_IR 192"));
        Some((group, Value::Object(object)))
    }
}

fn level_number(level: Level) -> usize {
    match level {
        Level::Patient | Level::Study => 0,
        Level::Series => 1,
        Level::Image => 2,
    }
}

/// Whether the look-up has matched it already.
fn in_index(tag: Tag) -> bool {
    [Level::Study, Level::Series, Level::Image].into_iter().any(|level| level.unique_key() == tag)
}

/// A header that cannot be read costs what it would tell, and nothing else: UIDs and counts stand in the index.
async fn read(central: &Central, disclosed: &Disclosed<Gathered>) -> Option<Scan> {
    match header::read(central.objects.permitted(disclosed.permit()), &disclosed.payload().first, Until::Bulk).await {
        Ok(scan) => Some(scan),
        Err(error) => {
            tracing::error!(code = "IDR-R-09", cause = %error, "a header cannot be read for a search");
            None
        }
    }
}

/// One match, as it is told.
struct Match<'a> {
    central: &'a Central,
    decided: &'a Decided<Gathered>,
    level: Level,
    /// At least one.
    members: &'a [Disclosed<Gathered>],
    header: Option<&'a Scan>,
    modalities: &'a BTreeSet<String>,
}

impl Match<'_> {
    fn first(&self) -> &Gathered {
        self.members[0].payload()
    }

    /// Whether a key matches. A patient is found by each of its ids, the id and its issuer by one and the same.
    fn fits(&self, attribute: &Attribute, key: &str, parameters: &Parameters) -> bool {
        if attribute.tag == PATIENT_ID || attribute.tag == ISSUER_OF_PATIENT_ID {
            let unit = self.members[0].unit();
            // The ids of the assertion's patient, if the unit is of that one.
            let of_patient = self.decided.state.ids.iter().filter(|_| self.decided.state.ids.contains(&unit.patient));
            let mut ids = [Some(&unit.patient), unit.recorded_under.as_ref()].into_iter().flatten().chain(of_patient);
            let key_of = |tag| parameters.keys.iter().find(|(asked, _)| *asked == tag).map(|(_, key)| key.as_str());
            let fit = |tag, value: &str| key_of(tag).is_none_or(|key| matches(Matching::Text, key, value));
            return ids.any(|id| fit(PATIENT_ID, &id.id) && fit(ISSUER_OF_PATIENT_ID, &id.authority));
        }
        matches(attribute.matching, key, &self.text(attribute).unwrap_or_default())
    }

    /// What is known without the header, values separated by `\`.
    fn known(&self, tag: Tag) -> Option<String> {
        let (first, patient) = (&self.first().first, &self.members[0].unit().patient);
        let url = || {
            let base = format!("{}/dicomweb/studies/{}", self.central.config.https.public_url, first.study_uid);
            match self.level {
                Level::Patient | Level::Study => base,
                Level::Series => format!("{base}/series/{}", first.series_uid),
                Level::Image => format!("{base}/series/{}/instances/{}", first.series_uid, first.sop_instance_uid),
            }
        };
        let distinct = |of: fn(&Gathered) -> &String| self.members.iter().map(|member| of(member.payload())).collect::<BTreeSet<_>>();
        let instances = || self.members.iter().map(|member| member.payload().instances).sum::<u64>().to_string();
        let study = self.level == Level::Study;
        Some(match tag {
            PATIENT_ID => patient.id.clone(),
            ISSUER_OF_PATIENT_ID => patient.authority.clone(),
            INSTANCE_AVAILABILITY => "ONLINE".to_owned(),
            RETRIEVE_URL => url(),
            SOP_CLASS_UID => first.sop_class_uid.clone(),
            MODALITIES_IN_STUDY if study => Vec::from_iter(self.modalities.iter().cloned()).join("\\"),
            SOP_CLASSES_IN_STUDY if study => Vec::from_iter(distinct(|found| &found.first.sop_class_uid).into_iter().cloned()).join("\\"),
            STUDY_RELATED_SERIES if study => distinct(|found| &found.first.series_uid).len().to_string(),
            STUDY_RELATED_INSTANCES if study => instances(),
            SERIES_RELATED_INSTANCES if self.level == Level::Series => instances(),
            _ if tag == Level::Study.unique_key() => first.study_uid.clone(),
            _ if tag == Level::Series.unique_key() => first.series_uid.clone(),
            _ if tag == Level::Image.unique_key() => first.sop_instance_uid.clone(),
            _ => return None,
        })
    }

    fn data_set(&self) -> Option<DataSet<'_>> {
        self.header.map(Scan::data_set)
    }

    fn text(&self, attribute: &Attribute) -> Option<String> {
        self.known(attribute.tag).or_else(|| self.data_set()?.text(attribute.tag))
    }

    /// The attribute as it is told; `None`: it says nothing at this level.
    fn json(&self, attribute: &Attribute) -> Option<Value> {
        if let Some(text) = self.known(attribute.tag) {
            return Some(if text.is_empty() { json::empty(Vr(attribute.vr)) } else { json::texts(Vr(attribute.vr), &text) });
        }
        let counted = [MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY, STUDY_RELATED_SERIES, STUDY_RELATED_INSTANCES, SERIES_RELATED_INSTANCES];
        if counted.contains(&attribute.tag) {
            return None;
        }
        match self.data_set().and_then(|data_set| data_set.element(attribute.tag)) {
            Some(element) => element.to_json(&|_| None),
            None => Some(json::empty(Vr(attribute.vr))),
        }
    }
}

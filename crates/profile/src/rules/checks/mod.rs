//! Evaluation of the check kinds. A check returns the elements it found, or `None` if it does not fail.

mod object;
pub(super) mod order;
mod patient;
mod pixel;
mod start;
mod text;
pub(super) mod uid;

use super::check::{Check, Operand, SourceKind};
use super::classes::is_class;
use super::facts::{Facts, Source};
use super::time;
use crate::scan::{Element, is_native, tags};
use dicom_core::Tag;

/// Elements that a failed check found; empty where it names none.
pub(super) type Found = Option<Vec<Tag>>;

/// Fails if `holds`, naming no element.
fn fails(holds: bool) -> Found {
    holds.then(Vec::new)
}

/// Fails if any element was found.
fn any(tags: impl IntoIterator<Item = Tag>) -> Found {
    let tags: Vec<Tag> = tags.into_iter().collect();
    (!tags.is_empty()).then_some(tags)
}

impl Facts<'_> {
    pub(super) fn source_kind(&self) -> SourceKind {
        match self.context.source {
            Source::Dimse { .. } => SourceKind::Dimse,
            Source::Stow { .. } => SourceKind::Stow,
            Source::DropFolder => SourceKind::DropFolder,
        }
    }

    /// Calls `each` for every element of the data set but `except` at the top level.
    fn for_each_except<'a>(&'a self, except: &[Tag], each: &mut dyn FnMut(Element<'a>)) {
        for element in self.top.elements() {
            if !except.contains(&element.tag()) {
                each(element);
            }
            for item in element.items() {
                item.for_each(each);
            }
        }
    }

    /// Tags of all elements but `except` for which `holds`.
    fn elements_where<'a>(&'a self, except: &[Tag], holds: impl Fn(Element<'a>) -> bool) -> Found {
        let mut found = std::collections::BTreeSet::new();
        self.for_each_except(except, &mut |element| {
            if !found.contains(&element.tag()) && holds(element) {
                found.insert(element.tag());
            }
        });
        any(found)
    }

    fn missing(&self, tag: Tag) -> bool {
        !self.top.has(tag) && self.scan.passed(tag)
    }
}

impl Check {
    /// `excluded`: elements that a rule below has already found.
    pub(super) fn evaluate(&self, facts: &Facts<'_>, excluded: &[Tag]) -> Found {
        let top = facts.top;
        match self {
            // Met elsewhere, or asked of a whole study.
            Self::Occurrence { .. } | Self::StudyValues { .. } | Self::Study { .. } => None,
            Self::Defect { is } => facts.scan.defect(*is).map(|defect| defect.tags.clone()),
            Self::Any { of } => {
                let found: Vec<_> = of.iter().filter_map(|check| check.evaluate(facts, excluded)).collect();
                (!found.is_empty()).then(|| found.concat())
            }
            Self::For { classes, families, except, of } => {
                let uid = facts.class_uid?;
                let family = facts.class.map(|class| class.family.as_str());
                let named = classes.iter().any(|class| is_class(class, uid)) || families.iter().any(|name| Some(name.as_str()) == family);
                (named && !except.iter().any(|class| is_class(class, uid))).then(|| of.evaluate(facts, excluded)).flatten()
            }
            Self::Differs { left, right } => {
                let (left, right) = (facts.operand(*left)?, facts.operand(*right)?);
                fails(!left.is_empty() && !right.is_empty() && left != right)
            }
            Self::AnnouncedUid { of } => fails(!uid::is_well_formed(facts.operand(*of)?)),
            Self::TransferSyntaxUnlisted {} => {
                let syntax = facts.operand(Operand::TransferSyntax)?;
                fails(!syntax.is_empty() && !facts.classes.lists_transfer_syntax(syntax))
            }
            Self::TransferSyntaxForClass {} => {
                let syntax = facts.operand(Operand::TransferSyntax)?;
                let listed = facts.class?.transfer_syntaxes.iter().any(|known| known == syntax);
                fails(!listed && facts.classes.lists_transfer_syntax(syntax))
            }
            Self::ClassUnlisted {} => fails(facts.classes.accepted(facts.class_uid?).is_none()),
            Self::Missing { tags } => any(tags.iter().copied().filter(|tag| facts.missing(*tag))),
            Self::AllAbsent { tags } => tags.iter().all(|tag| top.element(*tag).is_none()).then(|| tags.clone()),
            Self::MissingInItems { sequence, tags } => {
                let items: Vec<_> = top.items(*sequence).collect();
                any(tags.iter().copied().filter(|tag| items.iter().any(|item| !item.has(*tag))))
            }
            Self::Uid { tags, fault } => any(tags
                .iter()
                .copied()
                .filter(|tag| !excluded.contains(tag))
                .filter(|tag| top.element(*tag).is_some_and(|element| uid::has_fault(element.bytes(), *fault)))),
            Self::OtherUids { except } => facts.elements_where(except, uid::is_malformed_reference),
            Self::SameValue { tags } => {
                let values: Vec<_> =
                    tags.iter().filter(|tag| !excluded.contains(tag)).filter_map(|tag| Some((*tag, top.uid(*tag)?))).collect();
                any(values
                    .iter()
                    .filter(|(tag, value)| values.iter().any(|other| other.0 != *tag && other.1 == *value))
                    .map(|(tag, _)| *tag))
            }
            Self::Unmatched { tags, pattern } => {
                any(tags.iter().copied().filter(|tag| facts.text(*tag).is_some_and(|text| !pattern.is_match(&text))))
            }
            Self::StudyUidForm { tags } => {
                let pattern = &facts.parameters.study_uid_pattern;
                let differs = |tag: &Tag| top.uid(*tag).is_some_and(|uid| !pattern.is_match(uid));
                any(tags.iter().copied().filter(|tag| !excluded.contains(tag) && !pattern.is_none() && differs(tag)))
            }
            Self::Issuer { fault } => patient::issuer(facts, *fault),
            Self::Hetu { fault } => patient::hetu(facts, *fault),
            Self::Temporary { fault } => patient::temporary(facts, *fault),
            Self::Name { fault } => patient::name(facts, *fault),
            Self::OtherHetu {} => patient::other_hetu(facts),
            Self::NonPatient { tags } => any(tags
                .iter()
                .copied()
                .filter(|tag| facts.text(*tag).is_some_and(|text| facts.parameters.non_patient_patterns.is_match(&text.to_uppercase())))),
            Self::Date { tags } => any(tags.iter().copied().filter(|tag| {
                top.element(*tag).and_then(|element| Some((element.value_vr(), element.text()?))).is_some_and(|(vr, text)| match &vr.0 {
                    b"DT" => time::date_time(&text).is_none(),
                    _ => time::date(&text).is_none(),
                })
            })),
            Self::Time { tags } => {
                any(tags.iter().copied().filter(|tag| facts.text(*tag).is_some_and(|text| time::time(&text, false).is_none())))
            }
            Self::NotOneOf { tag, values, required } => {
                let wrong = facts.text(*tag).map_or(*required, |text| !values.contains(&text));
                wrong.then(|| vec![*tag])
            }
            Self::Equals { tag, value } => (facts.text(*tag).as_ref() == Some(value)).then(|| vec![*tag]),
            Self::Longer { tag, than } => facts.text(*tag).is_some_and(|text| text.chars().count() > *than).then(|| vec![*tag]),
            Self::Below { tag, least } => top.unsigned(*tag).is_some_and(|number| number < *least).then(|| vec![*tag]),
            Self::MissingWithFrames { tag } => {
                (top.unsigned(tags::NUMBER_OF_FRAMES).is_some_and(|frames| frames > 1) && facts.missing(*tag)).then(|| vec![*tag])
            }
            Self::ItemsPerFrame { sequence } => {
                let frames = top.unsigned(tags::NUMBER_OF_FRAMES)?;
                top.element(*sequence)?;
                (top.items(*sequence).count() as u64 != frames).then(|| vec![*sequence])
            }
            Self::StudyCode { fault } => order::study_code(facts, *fault),
            Self::CodingScheme { sequence } => order::coding_scheme(facts, *sequence),
            Self::AccessionIssuer {} => order::accession_issuer(facts),
            Self::ItemDiffers { sequence, tag } => order::item_differs(facts, *sequence, *tag),
            Self::Carrier { fault } => order::carrier(facts, *fault),
            Self::Institution { fault } => order::institution(facts, *fault),
            Self::OrganisationNumber {} => order::organisation_number(facts),
            Self::Charset { fault } => text::charset(facts, *fault),
            Self::Text { fault, only, except } => text::text(facts, *fault, only, except),
            Self::Form { fault, except } => text::form(facts, *fault, except),
            Self::Pixel { fault } => pixel::pixel(facts, *fault),
            Self::Photometric { one_sample, three_samples, other } => pixel::photometric(facts, one_sample, three_samples, other),
            Self::Waveform { fault } => object::waveform(facts, *fault),
            Self::Document { fault } => object::document(facts, *fault),
            Self::Start { fault } => start::start(facts, *fault),
            Self::ModalityUnknown {} => {
                let modality = facts.text(tags::MODALITY)?;
                (!facts.parameters.modalities_known.contains(&modality)).then(|| vec![tags::MODALITY])
            }
            Self::ClassModality {} => {
                let (uid, modality) = (facts.class_uid?, facts.text(tags::MODALITY)?);
                let rows = &facts.parameters.class_modalities;
                let row = rows.iter().find(|row| row.classes.iter().any(|class| is_class(class, uid)))?;
                (!row.modalities.contains(&modality)).then(|| vec![tags::MODALITY])
            }
            Self::Module { fault, except } => {
                let faults = facts.iods.faults(facts.class_uid?, top, *fault);
                any(faults.into_iter().filter(|tag| !except.contains(tag) && !excluded.contains(tag)))
            }
            Self::ClassOneOf { classes } => {
                let uid = facts.class_uid?;
                classes.iter().any(|class| is_class(class, uid)).then(|| vec![tags::SOP_CLASS_UID])
            }
        }
    }
}

/// Pixel data in native form is here.
fn has_native_pixels(facts: &Facts<'_>) -> bool {
    is_native(&facts.scan.transfer_syntax) && facts.scan.bulk(tags::PIXEL_DATA).is_some_and(|bulk| bulk.length.is_some())
}

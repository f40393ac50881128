//! Which keys a query may have, how each is matched, and where its value comes from (PS3.4 §C.6.1, §C.6.2).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use idr_dimse::service::query_retrieve::Level;
use idr_dimse::service::query_retrieve::matching::Matching;

/// One attribute of the information models.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Its tag.
    pub tag: Tag,
    /// Its VR.
    pub vr: [u8; 2],
    /// Where it is a key; below that level it is returned.
    pub level: Level,
    /// How it is matched.
    pub matching: Matching,
}

const fn at(level: Level, tag: Tag, vr: &[u8; 2], matching: Matching) -> Attribute {
    Attribute { tag, vr: *vr, level, matching }
}

/// Number of Patient Related Studies, of Study Related Series and Instances, of Series Related Instances; Modalities and SOP
/// Classes in Study: made of what is here and may be shown.
pub const COUNTED: [Tag; 6] = [
    tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
    tags::MODALITIES_IN_STUDY,
    tags::SOP_CLASSES_IN_STUDY,
];

/// All that are known; others are returned empty, with the warning FF01H.
pub const ATTRIBUTES: [Attribute; 30] = [
    at(Level::Patient, tags::PATIENT_NAME, b"PN", Matching::Name),
    at(Level::Patient, tags::PATIENT_ID, b"LO", Matching::Text),
    at(Level::Patient, tags::ISSUER_OF_PATIENT_ID, b"LO", Matching::Text),
    at(Level::Patient, tags::PATIENT_BIRTH_DATE, b"DA", Matching::Date),
    at(Level::Patient, tags::PATIENT_SEX, b"CS", Matching::Text),
    at(Level::Patient, tags::NUMBER_OF_PATIENT_RELATED_STUDIES, b"IS", Matching::No),
    at(Level::Study, tags::STUDY_INSTANCE_UID, b"UI", Matching::Uid),
    at(Level::Study, tags::STUDY_DATE, b"DA", Matching::Date),
    at(Level::Study, tags::STUDY_TIME, b"TM", Matching::Time),
    at(Level::Study, tags::ACCESSION_NUMBER, b"SH", Matching::Text),
    at(Level::Study, tags::STUDY_ID, b"SH", Matching::Text),
    at(Level::Study, tags::STUDY_DESCRIPTION, b"LO", Matching::Text),
    at(Level::Study, tags::REFERRING_PHYSICIAN_NAME, b"PN", Matching::Name),
    at(Level::Study, tags::MODALITIES_IN_STUDY, b"CS", Matching::Text),
    at(Level::Study, tags::SOP_CLASSES_IN_STUDY, b"UI", Matching::Uid),
    at(Level::Study, tags::NUMBER_OF_STUDY_RELATED_SERIES, b"IS", Matching::No),
    at(Level::Study, tags::NUMBER_OF_STUDY_RELATED_INSTANCES, b"IS", Matching::No),
    at(Level::Series, tags::SERIES_INSTANCE_UID, b"UI", Matching::Uid),
    at(Level::Series, tags::MODALITY, b"CS", Matching::Text),
    at(Level::Series, tags::SERIES_NUMBER, b"IS", Matching::Number),
    at(Level::Series, tags::SERIES_DESCRIPTION, b"LO", Matching::Text),
    at(Level::Series, tags::SERIES_DATE, b"DA", Matching::Date),
    at(Level::Series, tags::SERIES_TIME, b"TM", Matching::Time),
    at(Level::Series, tags::BODY_PART_EXAMINED, b"CS", Matching::Text),
    at(Level::Series, tags::NUMBER_OF_SERIES_RELATED_INSTANCES, b"IS", Matching::No),
    at(Level::Image, tags::SOP_INSTANCE_UID, b"UI", Matching::Uid),
    at(Level::Image, tags::SOP_CLASS_UID, b"UI", Matching::Uid),
    at(Level::Image, tags::INSTANCE_NUMBER, b"IS", Matching::Number),
    at(Level::Image, tags::CONTENT_DATE, b"DA", Matching::Date),
    at(Level::Image, tags::CONTENT_TIME, b"TM", Matching::Time),
];

/// The attribute of a tag, if it is one of this level or above.
pub fn attribute(tag: Tag, level: Level) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| attribute.tag == tag && attribute.level <= level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attribute_stands_twice_and_every_unique_key_is_one() {
        for (n, attribute) in ATTRIBUTES.iter().enumerate() {
            assert!(ATTRIBUTES[..n].iter().all(|other| other.tag != attribute.tag), "{}", attribute.tag);
        }
        for level in Level::ALL {
            assert!(ATTRIBUTES.iter().any(|attribute| attribute.tag == level.unique_key() && attribute.level == level));
        }
    }
}

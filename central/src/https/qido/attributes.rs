//! What a search can match and gives back, by level (PS3.18 Tables 10.6.1-5 and 10.6.3-3 to 10.6.3-5).

use idr_dimse::service::query_retrieve::Level;
use idr_dimse::service::query_retrieve::matching::Matching;
use idr_profile::scan::Tag;

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Its tag.
    pub tag: Tag,
    /// Its VR.
    pub vr: [u8; 2],
    /// The level that it belongs to: it is a key of searches at and below it.
    pub level: Level,
    /// How it is matched.
    pub matching: Matching,
    /// Given back without being asked for.
    pub always: bool,
}

const fn always(level: Level, tag: Tag, vr: &[u8; 2], matching: Matching) -> Attribute {
    Attribute { tag, vr: *vr, level, matching, always: true }
}

const fn asked(level: Level, tag: Tag, vr: &[u8; 2], matching: Matching) -> Attribute {
    Attribute { tag, vr: *vr, level, matching, always: false }
}

/// (0008,0054) to (0008,1190): what is known of the object and not of its header.
pub const INSTANCE_AVAILABILITY: Tag = Tag(0x0008, 0x0056);
/// (0008,1190)
pub const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);
/// (0008,0061)
pub const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
/// (0008,0062)
pub const SOP_CLASSES_IN_STUDY: Tag = Tag(0x0008, 0x0062);
/// (0020,1206)
pub const STUDY_RELATED_SERIES: Tag = Tag(0x0020, 0x1206);
/// (0020,1208)
pub const STUDY_RELATED_INSTANCES: Tag = Tag(0x0020, 0x1208);
/// (0020,1209)
pub const SERIES_RELATED_INSTANCES: Tag = Tag(0x0020, 0x1209);
/// (0010,0020)
pub const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
/// (0010,0021)
pub const ISSUER_OF_PATIENT_ID: Tag = Tag(0x0010, 0x0021);
/// (0008,0060)
pub const MODALITY: Tag = Tag(0x0008, 0x0060);
/// (0008,0016)
pub const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);

use Level::{Image, Series, Study};
use Matching::{Date, Name, No, Number, Text, Time, Uid};

/// All of them. Values of a patient stand at the level of the study.
pub const ATTRIBUTES: [Attribute; 43] = [
    always(Study, Tag(0x0008, 0x0020), b"DA", Date),
    always(Study, Tag(0x0008, 0x0030), b"TM", Time),
    always(Study, Tag(0x0008, 0x0050), b"SH", Text),
    always(Study, INSTANCE_AVAILABILITY, b"CS", No),
    always(Study, MODALITIES_IN_STUDY, b"CS", Text),
    asked(Study, SOP_CLASSES_IN_STUDY, b"UI", Uid),
    always(Study, Tag(0x0008, 0x0090), b"PN", Name),
    always(Study, Tag(0x0008, 0x0201), b"SH", No),
    asked(Study, Tag(0x0008, 0x1030), b"LO", Text),
    always(Study, RETRIEVE_URL, b"UR", No),
    always(Study, Tag(0x0010, 0x0010), b"PN", Name),
    always(Study, PATIENT_ID, b"LO", Text),
    always(Study, ISSUER_OF_PATIENT_ID, b"LO", Text),
    always(Study, Tag(0x0010, 0x0030), b"DA", Date),
    always(Study, Tag(0x0010, 0x0040), b"CS", Text),
    always(Study, Tag(0x0020, 0x000D), b"UI", Uid),
    always(Study, Tag(0x0020, 0x0010), b"SH", Text),
    always(Study, STUDY_RELATED_SERIES, b"IS", No),
    always(Study, STUDY_RELATED_INSTANCES, b"IS", No),
    always(Series, MODALITY, b"CS", Text),
    always(Series, Tag(0x0008, 0x103E), b"LO", Text),
    always(Series, Tag(0x0020, 0x000E), b"UI", Uid),
    always(Series, Tag(0x0020, 0x0011), b"IS", Number),
    always(Series, SERIES_RELATED_INSTANCES, b"IS", No),
    always(Series, Tag(0x0040, 0x0244), b"DA", Date),
    always(Series, Tag(0x0040, 0x0245), b"TM", Time),
    always(Series, Tag(0x0040, 0x0275), b"SQ", No),
    asked(Series, Tag(0x0008, 0x0021), b"DA", Date),
    asked(Series, Tag(0x0008, 0x0031), b"TM", Time),
    asked(Series, Tag(0x0018, 0x0015), b"CS", Text),
    asked(Series, Tag(0x0020, 0x0060), b"CS", Text),
    always(Image, SOP_CLASS_UID, b"UI", Uid),
    always(Image, Tag(0x0008, 0x0018), b"UI", Uid),
    always(Image, Tag(0x0020, 0x0013), b"IS", Number),
    always(Image, Tag(0x0028, 0x0008), b"IS", No),
    always(Image, Tag(0x0028, 0x0010), b"US", No),
    always(Image, Tag(0x0028, 0x0011), b"US", No),
    always(Image, Tag(0x0028, 0x0100), b"US", No),
    asked(Image, Tag(0x0008, 0x0008), b"CS", Text),
    asked(Image, Tag(0x0008, 0x0023), b"DA", Date),
    asked(Image, Tag(0x0008, 0x0033), b"TM", Time),
    asked(Image, Tag(0x0008, 0x0022), b"DA", Date),
    asked(Image, Tag(0x0008, 0x0032), b"TM", Time),
];

/// The attribute of a tag.
pub fn attribute(tag: Tag) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| attribute.tag == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attribute_stands_twice_and_every_unique_key_is_one() {
        for (n, attribute) in ATTRIBUTES.iter().enumerate() {
            assert!(ATTRIBUTES[..n].iter().all(|other| other.tag != attribute.tag), "{}", attribute.tag);
        }
        for level in [Study, Series, Image] {
            assert!(ATTRIBUTES.iter().any(|attribute| attribute.tag == level.unique_key() && attribute.level == level));
        }
    }
}

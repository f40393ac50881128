//! What can be wrong with an encoding, and where.

use dicom_core::Tag;
use std::collections::BTreeSet;

/// Offending tags of one answer or finding (profile 01 §4 no. 2).
pub const TAGS_MAX: usize = 16;

/// A kind of defect. Rule sets refer to it by the snake_case name (`check = { kind = "defect", is = "tag_order" }`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefectKind {
    /// Data set of 0 bytes, or a file shorter than preamble and prefix.
    Empty,
    /// Bytes 128–131 of a file are not `DICM`.
    NoPreamble,
    /// File meta lacks SOP class, SOP instance or transfer syntax.
    FileMetaIncomplete,
    /// (0002,0000) differs from the length of the group.
    FileMetaLength,
    /// Group 0002 is not Explicit VR Little Endian, or longer than 1 MiB.
    FileMetaEncoding,
    /// VR bytes outside A–Z, an item tag without a sequence, or a first group above 0008H.
    Encoding,
    /// A defined length runs past the end of the data set or of the item around it.
    LengthPastEnd,
    /// The data set ends inside an element header or with an undefined-length sequence or item open.
    Truncated,
    /// A tag is lower than the one before it.
    TagOrder,
    /// A tag occurs twice at one level.
    TagRepeated,
    /// Two letters that are no VR.
    VrUnknown,
    /// The VR is not one of the data dictionary.
    VrDiffers,
    /// A defined length is odd.
    OddLength,
    /// More levels of sequences than the limit.
    NestingTooDeep,
    /// Bytes after pixel data that are no higher element.
    TrailingBytes,
    /// Retired group length element.
    GroupLength,
    /// Group 0000–0007 or FFFF.
    ForbiddenGroup,
    /// Private element without its creator.
    PrivateNoCreator,
    /// The deflate stream is invalid, ends early or inflates past the limit.
    Deflate,
    /// Undefined length on an element that may not have it.
    UndefinedLength,
    /// Bytes inside a sequence that are no item.
    SequenceContent,
    /// Pixel data, or one of its fragments, is longer than what is left.
    PixelTruncated,
    /// Encapsulated pixel data is not items of defined even length with a delimiter.
    FragmentStructure,
    /// More bytes than the limit.
    InstanceTooLarge,
    /// More elements and items than the limit.
    ElementsTooMany,
    /// More bytes outside bulk data than the limit.
    HeaderTooLarge,
}

/// A kind of defect with the elements that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// What is wrong.
    pub kind: DefectKind,
    /// The first [`TAGS_MAX`] different tags that have it, ascending; empty where no element can be named.
    pub tags: Vec<Tag>,
}

/// Defects of a walk, one set of tags per kind.
#[derive(Debug, Default)]
pub(super) struct Defects(std::collections::BTreeMap<DefectKind, BTreeSet<Tag>>);

impl Defects {
    pub(super) fn note(&mut self, kind: DefectKind, tag: Option<Tag>) {
        let tags = self.0.entry(kind).or_default();
        if let Some(tag) = tag
            && tags.len() < TAGS_MAX
        {
            tags.insert(tag);
        }
    }

    pub(super) fn into_vec(self) -> Vec<Defect> {
        self.0.into_iter().map(|(kind, tags)| Defect { kind, tags: tags.into_iter().collect() }).collect()
    }
}

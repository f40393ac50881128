//! Tags as `(gggg,eeee)` in TOML and JSON.

use dicom_core::Tag;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Reads `(gggg,eeee)`, hexadecimal digits of either case.
pub fn parse(text: &str) -> Option<Tag> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let (group, element) = inner.split_once(',')?;
    let part = |text: &str| (text.len() == 4).then(|| u16::from_str_radix(text, 16).ok()).flatten();
    Some(Tag(part(group)?, part(element)?))
}

/// One tag.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tag, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("{text} is no tag like (0010,0020)")))
}

/// A list of tags.
pub(super) mod list {
    use super::*;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Tag>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| parse(text).ok_or_else(|| D::Error::custom(format!("{text} is no tag like (0010,0020)")))).collect()
    }

    pub(in super::super) fn serialize<S: Serializer>(tags: &[Tag], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(tags.iter().map(ToString::to_string))
    }
}

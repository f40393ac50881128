//! `correction.toml`: attributes that may be changed, and the reasons (profile 01 §8.2.1, §8.3).

use crate::rules::tag_of;
use dicom_core::Tag;
use std::collections::BTreeMap;

/// The shipped base set.
const SHIPPED: &str = include_str!("../../../../configs/rules/base/correction.toml");

/// What is corrected together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All instances of the series.
    Series,
    /// All instances of the study.
    Study,
}

/// What holds for one reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonRule {
    /// Code meaning.
    pub words: String,
    /// The study gets a new UID, whatever is changed.
    #[serde(default)]
    pub moves_study: bool,
    /// A code of CID 7011 is given with it.
    #[serde(default)]
    pub modifier_required: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    attributes: BTreeMap<String, Scope>,
    reasons: BTreeMap<String, ReasonRule>,
    modifiers: BTreeMap<String, String>,
}

/// What may be corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// By tag.
    pub attributes: BTreeMap<Tag, Scope>,
    /// By code value of scheme DCM.
    pub reasons: BTreeMap<String, ReasonRule>,
    /// Codes of CID 7011 with their meaning.
    pub modifiers: BTreeMap<String, String>,
}

/// Why a `correction.toml` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AttributesError {
    /// Not TOML, a key unknown or missing, a value of another type.
    #[error("correction.toml: {0}")]
    Toml(#[from] toml::de::Error),
    /// A key of `[attributes]` is no tag.
    #[error("correction.toml: {0} is no tag like (0010,0020)")]
    Tag(String),
    /// An attribute that no correction may touch.
    #[error("correction.toml: {0} is not correctable by profile 01 §8.2.1")]
    Never(Tag),
}

/// (0008,0016), (0042,0011), groups 0002, 0018, 0028, 5400, 60xx, 7FE0 (profile 01 §8.2.1), and the UIDs that are derived.
fn is_never_correctable(tag: Tag) -> bool {
    match tag {
        Tag(0x0008, 0x0016 | 0x0018) | Tag(0x0020, 0x000E) | Tag(0x0042, 0x0011) => true,
        Tag(group, _) => matches!(group, 0x0002 | 0x0018 | 0x0028 | 0x5400 | 0x7FE0) || group & 0xFF00 == 0x6000,
    }
}

impl Attributes {
    /// Reads a complete file.
    ///
    /// # Errors
    /// [`AttributesError`] names the key.
    pub fn parse(text: &str) -> Result<Self, AttributesError> {
        let file: File = toml::from_str(text)?;
        let mut attributes = BTreeMap::new();
        for (text, scope) in file.attributes {
            let tag = tag_of(&text).ok_or(AttributesError::Tag(text))?;
            if is_never_correctable(tag) {
                return Err(AttributesError::Never(tag));
            }
            attributes.insert(tag, scope);
        }
        Ok(Self { attributes, reasons: file.reasons, modifiers: file.modifiers })
    }

    /// The shipped base set.
    pub fn shipped() -> Self {
        Self::parse(SHIPPED).expect("the shipped correction.toml is read by a test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_what_the_profile_lists() {
        let listed = "(0010,0010) (0010,0020) (0010,0021) (0010,0024) (0010,0030) (0010,0040) (0008,0020) (0008,0030) (0008,0050) \
                      (0008,0051) (0008,0080) (0008,0082) (0008,0090) (0008,1030) (0008,1032) (0008,0005) (0038,0010) (0038,0014) \
                      (0038,0060) (0038,0064) (0008,0060) (0020,000D)";
        let mut listed: Vec<Tag> = listed.split_whitespace().map(|text| tag_of(text).expect("a tag")).collect();
        listed.sort_unstable();
        let shipped = Attributes::shipped();
        assert_eq!(shipped.attributes.keys().copied().collect::<Vec<_>>(), listed, "profile 01 §8.2.1");
        assert_eq!(shipped.reasons.keys().collect::<Vec<_>>(), ["113001", "113037", "113038"]);
        assert!(shipped.reasons["113038"].moves_study && shipped.reasons["113001"].modifier_required);
    }

    #[test]
    fn what_may_never_be_changed_cannot_be_listed() {
        for tag in ["(0008,0016)", "(0018,0060)", "(0028,0010)", "(5400,0100)", "(6002,0010)", "(7FE0,0010)", "(0042,0011)", "(0020,000E)"]
        {
            let text = format!("[attributes]\n\"{tag}\" = \"study\"\n[reasons]\n[modifiers]");
            assert!(matches!(Attributes::parse(&text), Err(AttributesError::Never(_))), "{tag}");
        }
        assert!(Attributes::parse("[attributes]\nPatientID = \"study\"\n[reasons]\n[modifiers]").is_err());
    }
}

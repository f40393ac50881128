//! What goes back over the wire, and what goes to the journal (profile 01 §4).

use super::level::Level;
use super::tag_text;
use crate::scan::TAGS_MAX;
use dicom_core::Tag;

/// The status column of a rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// DIMSE status, STOW-RS Failure Reason.
    Status(u16),
    /// `RJ r/s/d`: A-ASSOCIATE-RJ result, source, reason (PS3.8 §9.3.4).
    Reject {
        /// 1 permanent, 2 transient.
        result: u8,
        /// 1 user, 2 ACSE provider, 3 presentation provider.
        source: u8,
        /// Reason or diagnostic.
        reason: u8,
    },
    /// `PC n`: result of the presentation context (PS3.8 §9.3.3.2).
    Context(u8),
    /// `ABORT s/d`: A-ABORT source and reason (PS3.8 §9.3.8); several where the case decides.
    Abort(Vec<(u8, u8)>),
    /// `no answer`: the peer is gone.
    Nothing,
}

impl Reply {
    /// Reads `C101H`, `RJ 1/1/3`, `PC 3`, `ABORT 2/1, 2/2`, `no answer`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let numbers = |text: &str| text.split('/').map(|part| part.trim().parse().ok()).collect::<Option<Vec<u8>>>();
        if text == "no answer" {
            return Some(Self::Nothing);
        }
        if let Some(rest) = text.strip_prefix("RJ ") {
            let [result, source, reason] = numbers(rest)?.try_into().ok()?;
            return Some(Self::Reject { result, source, reason });
        }
        if let Some(rest) = text.strip_prefix("PC ") {
            return rest.parse().ok().map(Self::Context);
        }
        if let Some(rest) = text.strip_prefix("ABORT ") {
            let pairs = rest.split(',').map(|pair| Some(<[u8; 2]>::try_from(numbers(pair)?).ok()?.into()));
            return pairs.collect::<Option<Vec<_>>>().map(Self::Abort);
        }
        let digits = text.strip_suffix('H').filter(|digits| digits.len() == 4)?;
        u16::from_str_radix(digits, 16).ok().map(Self::Status)
    }
}

/// Column (0000,0901) of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offending {
    /// `–`: not sent.
    Nothing,
    /// Always these.
    Fixed(Vec<Tag>),
    /// Those that the check found (`that tag`, `the absent tags` …).
    Found,
}

impl Offending {
    pub(super) fn parse(text: &str) -> Self {
        if text == "–" {
            return Self::Nothing;
        }
        text.split('\\').map(tag_text::parse).collect::<Option<Vec<_>>>().map_or(Self::Found, Self::Fixed)
    }

    /// Ascending, ≤ 16.
    pub(super) fn tags(&self, found: &[Tag]) -> Vec<Tag> {
        let mut tags = match self {
            Self::Nothing => Vec::new(),
            Self::Fixed(tags) => tags.clone(),
            Self::Found => found.to_vec(),
        };
        tags.sort_unstable();
        tags.dedup();
        tags.truncate(TAGS_MAX);
        tags
    }
}

/// The answer to a refused instance: exactly what the wire carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status (0000,0900); STOW-RS Failure Reason (0008,1197).
    pub status: u16,
    /// Offending Element (0000,0901), ascending, ≤ 16; empty: not sent.
    pub offending: Vec<Tag>,
    /// Error Comment (0000,0902), ≤ 64 characters of 20H–7EH.
    pub comment: String,
}

/// Stages of evaluation (profile 01 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Stage {
    /// Association.
    A,
    /// While the data set arrives.
    S,
    /// After the last byte, before the answer.
    I,
    /// All instances of a study.
    T,
    /// Before the first instance is queued.
    R,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// An association.
    Association,
    /// One instance.
    Instance,
    /// A series.
    Series,
    /// A study.
    Study,
}

/// A rule that failed, as the journal takes it. Carries no value of the object.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// `D303`.
    pub rule: String,
    /// `issuer-not-accepted`.
    pub name: String,
    /// Stage of the rule.
    pub stage: Stage,
    /// Level in force when it failed.
    pub level: Level,
    /// What the sender gets if it is a reason to refuse.
    pub reply: Reply,
    /// Offending elements, ascending, ≤ 16.
    #[serde(with = "tag_text::list")]
    pub tags: Vec<Tag>,
    /// Error Comment of the rule.
    pub comment: String,
    /// What an operator can do.
    pub remedy: String,
    /// Rule set and revision, `fi-2.4.1/1`.
    pub rule_set: String,
}

/// What becomes of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Success.
    Accept,
    /// Success, held until an operator decides.
    Quarantine,
    /// Failure; the sender keeps custody.
    Refuse(Answer),
}

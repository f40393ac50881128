//! The files: `dicom.toml` of a rule set, and `site-rules.toml` (profile 01 §11).

use super::check::{Check, Occurrence, SourceKind};
use super::classes::{ExtraClassFile, FamilyFile};
use super::code_list::CodeListFile;
use super::level::Levels;
use super::reply::{Scope, Stage};
use jiff::civil::Date;
use std::collections::BTreeMap;

/// `dicom.toml`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetFile {
    pub rule_set: HeadFile,
    #[serde(default)]
    pub levels: BTreeMap<String, Levels>,
    #[serde(default)]
    pub parameters: toml::Table,
    #[serde(default)]
    pub transfer_syntaxes: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub families: Vec<FamilyFile>,
    #[serde(default)]
    pub extra_classes: Vec<ExtraClassFile>,
    #[serde(default)]
    pub study_code_lists: Vec<CodeListFile>,
    #[serde(default)]
    pub rules: Vec<RuleFile>,
    /// Rows of the profile that have no check yet.
    #[serde(default)]
    pub not_built: Vec<String>,
}

/// `[rule_set]`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadFile {
    pub id: String,
    pub revision: u32,
    pub extends: Option<String>,
    #[serde(default, deserialize_with = "date")]
    pub certification_from: Option<Date>,
    #[serde(default, deserialize_with = "date")]
    pub certification_until: Option<Date>,
    #[serde(default, deserialize_with = "date")]
    pub production_from: Option<Date>,
    #[serde(default, deserialize_with = "date")]
    pub production_until: Option<Date>,
}

/// One `[[rules]]` entry: a row of the profile.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    pub id: String,
    pub name: String,
    pub scope: Scope,
    pub stage: Stage,
    pub level: Levels,
    /// As in the table: `C101H`, `RJ 1/1/3`, …
    pub status: String,
    /// Column (0000,0901), as in the table.
    pub tags: String,
    pub comment: String,
    /// Decimal Failure Reason; absent where the table has none.
    pub stow: Option<u16>,
    pub remedy: String,
    pub source: String,
    pub check: Check,
    /// The centre, which decides before its answer (§2), meets it in its index as this.
    pub met: Option<Occurrence>,
    /// Evaluated for these sources only.
    #[serde(default)]
    pub sources: Vec<SourceKind>,
    /// Not evaluated when one of these has failed …
    #[serde(default)]
    pub after: Vec<String>,
    /// … on the same element.
    #[serde(default)]
    pub after_same_tag: bool,
}

/// `site-rules.toml`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteFile {
    #[serde(default)]
    pub allow_stricter: bool,
    #[serde(default)]
    pub levels: BTreeMap<String, Levels>,
    #[serde(default)]
    pub parameters: toml::Table,
    #[serde(default)]
    pub extra_classes: Vec<ExtraClassFile>,
    #[serde(default)]
    pub ae: Vec<AeFile>,
}

/// One `[[ae]]` entry.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AeFile {
    pub title: String,
    #[serde(default)]
    pub levels: BTreeMap<String, Levels>,
    #[serde(default)]
    pub parameters: toml::Table,
}

fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    let value: toml::Value = serde::Deserialize::deserialize(deserializer)?;
    value.to_string().parse().map(Some).map_err(|_| serde::de::Error::custom(format!("{value} is no date like 2026-01-01")))
}

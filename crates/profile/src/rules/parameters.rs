//! Parameters of a rule set (profile 01 §3.3 and the limits of the rules).

use super::tag_text;
use crate::scan::Limits;
use dicom_core::Tag;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;

/// A regular expression of a rule set; compiled once, matched in linear time.
#[derive(Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// The text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The expression is empty: there is no pattern.
    pub fn is_none(&self) -> bool {
        self.0.as_str().is_empty()
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Where a service event id can stand: an element and the sequence with its issuer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    /// Element that holds the id.
    #[serde(deserialize_with = "tag_text::deserialize")]
    pub value: Tag,
    /// Sequence that holds its issuer.
    #[serde(deserialize_with = "tag_text::deserialize")]
    pub issuer: Tag,
}

/// Modalities that fit some SOP classes (D834).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassModalities {
    /// `P` notation or UIDs.
    pub classes: Vec<String>,
    /// Values of (0008,0060).
    pub modalities: Vec<String>,
}

/// Status of a success with warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum WarnStatus {
    /// 0000H.
    #[serde(rename = "0000")]
    Success,
    /// B007H.
    #[serde(rename = "B007")]
    Warning,
}

/// All parameters, complete. Names are the keys of the files; units are in the names.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained once, in configs/rules/base/dicom.toml")]
pub struct Parameters {
    pub associations_max: u32,
    pub associations_per_peer_max: u32,
    pub receive_idle_s: u32,
    pub instance_bytes_max: u64,
    pub header_bytes_max: u64,
    pub elements_max: u64,
    pub nesting_depth_max: usize,
    pub inflate_bytes_max: u64,
    pub frames_max: u64,
    pub decoded_bytes_max: u64,
    pub stow_body_bytes_max: u64,
    pub evaluation_max_s: u32,
    pub refused_header_days: u32,
    pub warn_status: WarnStatus,

    pub hetu_issuer: String,
    pub assume_hetu_without_issuer: bool,
    pub patient_id_issuers: Vec<String>,
    pub namespace_map: BTreeMap<String, String>,
    pub temp_issuer_pattern: Pattern,
    pub temp_id_pattern: Pattern,
    pub non_patient_patterns: Pattern,

    pub study_uid_pattern: Pattern,
    pub study_code_shape: Pattern,
    pub procedure_coding_schemes: Vec<String>,
    pub service_event_carriers: Vec<Carrier>,
    pub service_event_pattern: Pattern,
    pub charsets_expected: Vec<String>,

    #[serde(deserialize_with = "time_zone")]
    pub timezone: TimeZone,
    pub future_tolerance_s: i64,
    #[serde(deserialize_with = "compact_date")]
    pub study_date_min: Date,
    pub late_days: i64,
    pub dates_spread_days: i64,

    pub accept_retired: bool,
    pub modalities_known: Vec<String>,
    pub modalities_registrable: Vec<String>,
    pub class_modalities: Vec<ClassModalities>,

    pub study_quiet_s: u32,
    pub study_force_h: u32,
    pub listed_settle_s: u32,
    pub count_wait_s: u32,
    pub study_instances_max: u64,
    pub hold_study_on_quarantine: bool,
}

impl Parameters {
    /// Bounds of the walk.
    pub fn limits(&self) -> Limits {
        Limits {
            instance_bytes_max: self.instance_bytes_max,
            header_bytes_max: self.header_bytes_max,
            elements_max: self.elements_max,
            nesting_depth_max: self.nesting_depth_max,
            inflate_bytes_max: self.inflate_bytes_max,
            ..Limits::default()
        }
    }

    /// Values that the memory and the stack of one association allow. The error names key and range.
    pub(super) fn check(&self) -> Result<(), String> {
        let ranges = [
            ("nesting_depth_max", self.nesting_depth_max as u64, 1, 256),
            ("elements_max", self.elements_max, 1_000, 2_000_000),
            ("header_bytes_max", self.header_bytes_max, 1 << 16, 1 << 30),
            ("inflate_bytes_max", self.inflate_bytes_max, 1 << 20, 1 << 40),
            ("instance_bytes_max", self.instance_bytes_max, 1 << 20, 1 << 44),
        ];
        match ranges.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((key, value, least, most)) => Err(format!("{key} = {value} is outside {least}…{most}")),
            None => Ok(()),
        }
    }
}

fn time_zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name: String = serde::Deserialize::deserialize(deserializer)?;
    TimeZone::get(&name).map_err(|_| serde::de::Error::custom(format!("{name} is no time zone of the tz database")))
}

fn compact_date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text: String = serde::Deserialize::deserialize(deserializer)?;
    super::time::date(&text).ok_or_else(|| serde::de::Error::custom(format!("{text} is no date like 19700101")))
}

//! Study code lists (profile 01 §11, D402–D408).

use jiff::civil::Date;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// One `[[study_code_lists]]` entry of a rule set.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeListFile {
    pub oid: String,
    /// In the folder of the set.
    pub file: String,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyCode {
    /// OID of the list.
    pub list: String,
    /// Finnish name.
    pub name_fi: String,
    /// Swedish name; empty if the list has none.
    pub name_sv: String,
    /// First day; `None`: open.
    pub valid_from: Option<Date>,
    /// Last day; `None`: open.
    pub valid_until: Option<Date>,
    /// Modalities that fit; empty: not stated.
    pub modalities: Vec<String>,
}

impl StudyCode {
    /// In force on the day.
    pub fn is_in_force(&self, date: Date) -> bool {
        self.valid_from.is_none_or(|from| from <= date) && self.valid_until.is_none_or(|until| date <= until)
    }
}

/// All study codes of a rule set. A code can have several rows, for several intervals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyCodes(BTreeMap<String, Vec<StudyCode>>);

impl StudyCodes {
    /// No list is loaded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rows of a code.
    pub fn rows(&self, code: &str) -> &[StudyCode] {
        self.0.get(code).map_or(&[], Vec::as_slice)
    }

    /// Adds a list: tab-separated, one heading line, columns code, name_fi, name_sv, valid_from, valid_until (`2019-01-01`
    /// or empty), modalities (separated by SPACE). The error names line and column; nothing is added in part.
    pub(super) fn add(&mut self, list: &CodeListFile, text: &str) -> Result<(), String> {
        if hex::encode(Sha256::digest(text)) != list.sha256 {
            return Err("sha256 differs from the rule set's".to_owned());
        }
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
            let problem = |what: &str| format!("line {}: {what}", number + 1);
            let [code, name_fi, name_sv, from, until, modalities] = *line.split('\t').collect::<Vec<_>>().as_slice() else {
                return Err(problem("has other than 6 columns"));
            };
            let date = |text: &str, what: &str| match text {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| problem(&format!("{what} is no date like 2019-01-01"))),
            };
            let row = StudyCode {
                list: list.oid.clone(),
                name_fi: name_fi.to_owned(),
                name_sv: name_sv.to_owned(),
                valid_from: date(from, "valid_from")?,
                valid_until: date(until, "valid_until")?,
                modalities: modalities.split_whitespace().map(str::to_owned).collect(),
            };
            rows.push((code.to_uppercase(), row));
        }
        for (code, row) in rows {
            self.0.entry(code).or_default().push(row);
        }
        Ok(())
    }
}

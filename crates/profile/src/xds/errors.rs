//! `errors.toml`: what each error code carries, which answer it makes, and what an operator reads (profile 09).

use super::problem::{CodeContext, Key, RegistryProblem};
use idr_ihe::transaction::registry_response::Severity;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The shipped set `base`.
const BASE: &str = include_str!("../../../../configs/rules/base/errors.toml");

/// Why a table file is refused. The one in force stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorsError {
    /// Not TOML, an unknown key, a value of another type.
    #[error("errors.toml: {0}")]
    Toml(String),
    /// Two rows for one error code and rule, or two rows of one id.
    #[error("errors.toml: {0} has two rows")]
    Twice(String),
}

/// A row of 09 §3.1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRow {
    /// `errorCode`.
    pub error_code: String,
    /// Transactions that can answer it.
    pub transactions: Vec<String>,
    /// Rules that give it; empty: all other rules of `xds.toml` with this code.
    pub rules: Vec<String>,
    /// Error, or a warning.
    #[serde(default)]
    severity: RowSeverity,
    /// Keys of codeContext in order.
    pub keys: Vec<Key>,
    /// At most one per object (InvalidDocumentContent, ITI TF-3 §4.2.4).
    #[serde(default)]
    pub per_object: bool,
    /// Status of the answer: F Failure, S Success, P PartialSuccess when another item succeeded, else F.
    pub status: String,
    /// Row of 03 §4.10 and outcome at the client.
    pub client: String,
    /// Sentence of the sending site's journal; `<key>` and `<text>` are filled from codeContext.
    pub operator: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RowSeverity {
    #[default]
    Error,
    Warning,
}

impl ErrorRow {
    /// Severity of the RegistryError.
    pub fn severity(&self) -> Severity {
        match self.severity {
            RowSeverity::Error => Severity::Error,
            RowSeverity::Warning => Severity::Warning,
        }
    }
}

/// A row of 09 §3.2: known from other systems, never sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignRow {
    /// `errorCode`.
    pub error_code: String,
    /// Why we do not send it.
    pub why_not_sent: String,
    /// Row of 03 §4.10.
    pub client: String,
}

/// A row of 09 §4; the faults themselves are made by [`idr_ihe::soap::Refusal`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRow {
    /// Code and subcodes, joined by ` / `.
    pub fault: String,
    /// Rules of 08 §3 and 04 §12 that give it.
    pub rules: Vec<String>,
    /// HTTP status.
    pub http_status: u16,
    /// `A1` addressing fault, `A2` SOAP fault.
    pub action: String,
    /// Row of 03 §4.9 and outcome.
    pub client: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceRow {
    rule: String,
    text: String,
    registry: String,
    repository: String,
}

/// A row of 09 §6.1: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemRow {
    /// `W-04`; the code in the body is `IDR-` and this.
    pub code: String,
    /// HTTP statuses it is used with.
    pub status: Vec<u16>,
    /// `title`.
    pub title: String,
    /// `detail`.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorLimits {
    pub errors_in_answer: usize,
    pub problems_kept: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    limits: ErrorLimits,
    national: BTreeMap<String, String>,
    errors: Vec<ErrorRow>,
    foreign: Vec<ForeignRow>,
    faults: Vec<FaultRow>,
    resources: Vec<ResourceRow>,
    problems: Vec<ProblemRow>,
}

/// Who answers: decides between the registry's and the repository's code of one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answerer {
    /// ITI-18, 38, 42, 51, 57, 61, 62, 92.
    Registry,
    /// ITI-41, 43, 39, 86, RAD-68, 69, 75.
    Repository,
}

/// The tables of `errors.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    pub(super) limits: ErrorLimits,
    national: BTreeMap<String, String>,
    rows: Vec<ErrorRow>,
    foreign: Vec<ForeignRow>,
    faults: Vec<FaultRow>,
    resources: Vec<ResourceRow>,
    problems: Vec<ProblemRow>,
}

impl Errors {
    /// The shipped tables.
    pub fn shipped() -> Self {
        Self::load(BASE).expect("the shipped errors.toml is read by a test")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ErrorsError`].
    pub fn load(text: &str) -> Result<Self, ErrorsError> {
        let file: File = toml::from_str(text).map_err(|error| ErrorsError::Toml(error.to_string()))?;
        let mut seen = BTreeSet::new();
        let pairs = file.errors.iter().flat_map(|row| {
            let any = row.rules.is_empty().then(|| String::from("*"));
            row.rules.iter().cloned().chain(any).map(|rule| format!("{} for {rule}", row.error_code))
        });
        let ids = pairs
            .chain(file.resources.iter().map(|row| row.rule.to_string()))
            .chain(file.problems.iter().map(|row| row.code.clone()))
            .chain(file.faults.iter().flat_map(|row| row.rules.clone()));
        for id in ids {
            if !seen.insert(id.clone()) {
                return Err(ErrorsError::Twice(id));
            }
        }
        Ok(Self {
            limits: file.limits,
            national: file.national,
            rows: file.errors,
            foreign: file.foreign,
            faults: file.faults,
            resources: file.resources,
            problems: file.problems,
        })
    }

    /// The row of an error code that a rule gives.
    pub fn row(&self, error_code: &str, rule: &str) -> Option<&ErrorRow> {
        let of_code = || self.rows.iter().filter(|row| row.error_code == error_code);
        of_code().find(|row| row.rules.iter().any(|known| known == rule)).or_else(|| of_code().find(|row| row.rules.is_empty()))
    }

    /// All rows of 09 §3.1.
    pub fn rows(&self) -> &[ErrorRow] {
        &self.rows
    }

    /// All rows of 09 §3.2.
    pub fn foreign(&self) -> &[ForeignRow] {
        &self.foreign
    }

    /// All rows of 09 §4.
    pub fn faults(&self) -> &[FaultRow] {
        &self.faults
    }

    /// The row of 09 §6.1 for a code such as `W-04`.
    pub fn problem_json(&self, code: &str) -> Option<&ProblemRow> {
        self.problems.iter().find(|row| row.code == code)
    }

    /// A problem of a rule: the keys are put into the order of the error code, those that it does not carry are left out,
    /// and so are empty values. The national code comes first.
    pub fn problem(&self, rule: &str, error_code: &str, text: &str, keys: &[(Key, String)], location: Option<String>) -> RegistryProblem {
        let row = self.row(error_code, rule);
        let carried = row.map_or(&[][..], |row| &row.keys);
        let national = self.national.get(rule).map(|code| (Key::Nat, code.clone()));
        let ordered = carried.iter().filter_map(|key| keys.iter().find(|(known, value)| known == key && !value.is_empty()).cloned());
        RegistryProblem {
            rule: rule.to_owned(),
            error_code: error_code.to_owned(),
            severity: row.map_or(Severity::Error, ErrorRow::severity),
            keys: national.into_iter().chain(ordered).collect(),
            text: text.to_owned(),
            location,
        }
    }

    /// A problem of 09 §7: busy, time limit, resources, internal error, registry away, read-only. `keys`: the limit or the
    /// incident. `None` if the table has no such rule.
    pub fn resource(&self, rule: &str, answerer: Answerer, keys: &[(Key, String)]) -> Option<RegistryProblem> {
        let row = self.resources.iter().find(|row| row.rule == rule)?;
        let error_code = match answerer {
            Answerer::Registry => &row.registry,
            Answerer::Repository => &row.repository,
        };
        Some(self.problem(&row.rule, error_code, &row.text, keys, None))
    }

    /// What the operator of the sending system reads; a key that is not there is shown as `-`. `None`: no code of ours.
    pub fn operator_sentence(&self, context: &CodeContext) -> Option<String> {
        let mut sentence = self.row(&context.error_code, &context.rule)?.operator.replace("<text>", &context.text);
        for key in Key::ALL {
            let named = format!("<{}>", key.as_str());
            if sentence.contains(&named) {
                // A rule names a slot where its row says attribute.
                let other = if key == Key::Attr { context.key(Key::Slot) } else { None };
                sentence = sentence.replace(&named, context.key(key).or(other).unwrap_or("-"));
            }
        }
        Some(sentence)
    }
}

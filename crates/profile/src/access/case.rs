//! Cases written in JSON, decided one by one: what other models of the access rules are compared with ours by.
//!
//! The form is documented, with an example of every rule, in `docs/consent-decide.md`. A file has a `base`, and each case is
//! the base changed by a merge patch (RFC 7396): a member replaces, an object is merged, `null` removes. [`CaseFile::read`]
//! makes [`Case`]s of it, [`Case::decide`] decides as [`super::decide`] does and gives a [`Decided`], which opens nothing:
//! it holds no permit. A decision that was taken is decided again the same way, from its record (05 §13).
//!
//! # Failure
//! [`CaseError`] names case and member. It never repeats a value of the file: that may be a patient's.
//!
//! # Bounds
//! [`CASES_MAX`] cases; the caller bounds the bytes.

use super::decide::{Facts, Window};
use super::decision::{Basis, Decision, LogKind, Request};
use super::explain::{Outcome, Step};
use super::policy::{Operation, Policy, PolicyError};
use super::state::{AccessUnit, PatientState};
use super::subject::{Claims, Limits, Subject};
use idr_ihe::metadata::PatientId;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `format` of a file.
pub const CASE_FORMAT: &str = "idr-decide/1";
/// Cases of one file.
pub const CASES_MAX: usize = 100_000;

/// Everything that one decision depends on, except the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Names it in the answer.
    pub id: String,
    /// Who asks.
    pub subject: Claims,
    /// Times of `xua.toml`; absent: the defaults of 04 §8.
    pub limits: Limits,
    /// What is asked for.
    pub operation: Operation,
    /// Patient that the request names (G3); absent: none.
    pub patient: Option<PatientId>,
    /// What it is about; absent: an operation without an access unit.
    pub unit: Option<AccessUnit>,
    /// What is known of the assertion's patient.
    pub state: PatientState,
    /// The instant of the decision.
    pub now: Timestamp,
    /// Keys of `access.toml` that stand over those in force; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Value>,
    /// What should come of it; absent: nothing is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expected>,
}

/// What another model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Outcome.
    pub decision: Outcome,
    /// Id of the rule or gate; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// What came of a case. It opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// Of the case.
    pub id: String,
    /// Outcome.
    pub decision: Outcome,
    /// Id of the rule or gate that decided.
    pub rule: &'static str,
    /// Code that the caller is told (04 §12); of a refusal only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Basis of a permit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<&'static str>,
    /// The authorisation, or the denials that an emergency overrode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declarations: Vec<String>,
    /// First instant at which the permit is nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Records that are written (05 §10): `U`, `D`, `C`, `S`, `N`, `X`, `R`.
    pub logs: Vec<LogKind>,
    /// Every rule judged, in order; the last one fired.
    pub trace: Vec<Step>,
    /// Whether it is what the case expects; absent: it expects nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_expected: Option<bool>,
}

/// Why a file or a case cannot be decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// The file is not JSON, or not of the form.
    #[error("no file of cases: {0}")]
    File(String),
    /// A case lacks a member, has one that nobody knows, or one that cannot be read.
    #[error("case {number} ({id}): {member}: {what}")]
    Member {
        /// 1 for the first.
        number: usize,
        /// Its id; `-` if it has none.
        id: String,
        /// The member.
        member: String,
        /// What is wrong; values are left out.
        what: String,
    },
    /// The keys over the policy make no policy.
    #[error("case {id}: policy: {source}")]
    Policy {
        /// Of the case.
        id: String,
        /// Why.
        source: PolicyError,
    },
}

/// A file of cases, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFile {
    /// In the order of the file.
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    #[serde(default)]
    base: Map<String, Value>,
    cases: Vec<Map<String, Value>>,
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CaseError`] of the first case that cannot be read.
    pub fn read(text: &str) -> Result<Self, CaseError> {
        let written: Written = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            CaseError::File(format!("{place}: {}", without_values(&error.to_string())))
        })?;
        if written.format != CASE_FORMAT {
            return Err(CaseError::File(format!("format is not {CASE_FORMAT}")));
        }
        if written.cases.len() > CASES_MAX {
            return Err(CaseError::File(format!("{} cases, at most {CASES_MAX} are taken", written.cases.len())));
        }
        let case = |(index, patch): (usize, Map<String, Value>)| {
            let mut whole = Value::Object(written.base.clone());
            merge_patch(&mut whole, Value::Object(patch));
            let Value::Object(members) = whole else { unreachable!("an object patched by an object is one") };
            Case::of_members(index + 1, members)
        };
        Ok(Self { cases: written.cases.into_iter().enumerate().map(case).collect::<Result<_, _>>()? })
    }
}

/// RFC 7396.
fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge_patch(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Members of a case that are being read.
struct Members {
    number: usize,
    id: String,
    left: Map<String, Value>,
}

impl Members {
    fn wrong(&self, member: &str, what: impl Into<String>) -> CaseError {
        CaseError::Member { number: self.number, id: self.id.clone(), member: member.to_owned(), what: what.into() }
    }

    fn optional<T: DeserializeOwned>(&mut self, member: &str) -> Result<Option<T>, CaseError> {
        let Some(value) = self.left.remove(member) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|error| self.wrong(member, without_values(&error.to_string())))
    }

    fn required<T: DeserializeOwned>(&mut self, member: &str) -> Result<T, CaseError> {
        self.optional(member)?.ok_or_else(|| self.wrong(member, "is missing"))
    }
}

/// What serde says, without what it quotes: that is a value of the file.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}…{}", &message[..first], &message[last + 1..]),
        _ => message.to_owned(),
    }
}

impl Case {
    /// A case from its members.
    fn of_members(number: usize, mut left: Map<String, Value>) -> Result<Self, CaseError> {
        let id = left.get("id").and_then(Value::as_str).unwrap_or("-").to_owned();
        // For its readers.
        left.remove("note");
        let mut members = Members { number, id, left };
        let case = Self {
            id: members.required("id")?,
            subject: members.required("subject")?,
            limits: members.optional("limits")?.unwrap_or_default(),
            operation: members.required("operation")?,
            patient: members.optional("patient")?,
            unit: members.optional("unit")?,
            state: members.required("state")?,
            now: members.required("now")?,
            policy: members.optional("policy")?,
            expect: members.optional("expect")?,
        };
        match members.left.keys().next() {
            Some(unknown) => Err(members.wrong(unknown, "is no member of a case")),
            None => Ok(case),
        }
    }

    /// Decides it. `files`: the texts of `access.toml` in force, the base set first.
    ///
    /// # Errors
    /// [`CaseError::Policy`].
    pub fn decide(&self, files: &[&str]) -> Result<Decided, CaseError> {
        let wrong = |source| CaseError::Policy { id: self.id.clone(), source };
        let policy = match &self.policy {
            None => Policy::layered(files),
            Some(patch) => Policy::patched(files, patch),
        };
        Ok(self.decide_by(&policy.map_err(wrong)?))
    }

    /// Decides it by a policy, whatever the case says of one.
    pub fn decide_by(&self, policy: &Policy) -> Decided {
        let subject = Subject::verified(self.subject.clone(), self.limits);
        let request = Request { operation: self.operation, patient: self.patient.clone() };
        let window = Window::start(&subject, self.now);
        let facts = Facts { subject: &subject, request: &request, state: &self.state, policy, now: self.now, window };
        let mut trace = Vec::new();
        let decision = facts.judge(self.unit.as_ref(), &mut trace);
        let rule = decision.rule_id();
        let logs = decision.logs().to_vec();
        let (outcome, code, permit) = match &decision {
            Decision::Permit(permit) => (Outcome::Permit, None, Some(permit)),
            Decision::Omit(_) => (Outcome::Omit, None, None),
            Decision::Refuse(gate) => (Outcome::Refuse, Some(gate.code()), None),
        };
        let declarations = match permit.map(|permit| permit.basis()) {
            Some(Basis::Outsourced(id)) => vec![id.clone()],
            Some(Basis::Emergency { overridden_denials }) => overridden_denials.clone(),
            _ => Vec::new(),
        };
        let as_expected = self
            .expect
            .as_ref()
            .map(|expected| expected.decision == outcome && expected.rule.as_deref().is_none_or(|expected| expected == rule));
        Decided {
            id: self.id.clone(),
            decision: outcome,
            rule,
            code,
            basis: permit.map(|permit| permit.basis().name()),
            declarations,
            expires: permit.map(|permit| permit.expires()),
            logs,
            trace,
            as_expected,
        }
    }
}

//! Why a decision is as it is (profile 05 §13).

use super::decide::{Facts, Window, Witness};
use super::decision::{Decision, Request};
use super::denial;
use super::policy::Policy;
use super::state::{
    AccessUnit, Authorisation, AuthorisationType, Consent, DateRange, DenialStatus, Informed, PatientState, RegisterEntry, Sector, Status,
};
use super::subject::{Claims, Limits, Purpose, Subject};
use idr_ihe::metadata::Code;
use jiff::Timestamp;
use std::fmt;

/// Facts listed in `would_change`, at most.
const WOULD_CHANGE_MAX: usize = 5;

/// What a rule found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// A gate let through.
    Pass,
    /// The rule's condition is not met.
    No,
    /// Met, and the rules go on (E8c).
    Noted,
    /// Met: this decided.
    Fired,
}

/// One judged rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Id of the rule or gate.
    pub rule: &'static str,
    /// What it found.
    pub result: StepResult,
    /// Why; empty where the result says all. Names OIDs, dates and declaration ids, never a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Witness for Vec<Step> {
    fn step(&mut self, rule: &'static str, result: StepResult, why: impl FnOnce() -> String) {
        self.push(Step { rule, result, why: why() });
    }
}

/// A decision's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Permitted.
    Permit,
    /// Omitted.
    Omit,
    /// Refused.
    Refuse,
}

/// A single fact that would make it a permit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WouldChange {
    /// The fact.
    pub fact: String,
    /// `permit <rule>`.
    pub then: String,
}

/// The trace of one decision. It shows denials: for privacy officers and the patient only. It carries no permit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// Outcome.
    pub decision: Outcome,
    /// Rule or gate that decided.
    pub rule: &'static str,
    /// Basis of a permit.
    pub basis: Option<&'static str>,
    /// Unit.
    pub unit: Option<String>,
    /// Purpose of use.
    pub purpose: Purpose,
    /// Every rule judged, in order; the last one fired.
    pub trace: Vec<Step>,
    /// Single facts that would permit, in the order of 05 §13, at most five; empty for a permit, or if none is enough.
    pub would_change: Vec<WouldChange>,
    /// Version of the declaration store.
    pub store_version: u64,
    /// Set by the caller, who holds the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_hash: Option<String>,
    /// `<id>/<revision>`, set by the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<String>,
    /// The instant that was decided for.
    pub evaluated_at: Timestamp,
}

/// Decides as [`super::decide`] does and tells how. `claims` may be anybody's: nothing is opened.
pub fn explain(
    claims: &Claims,
    limits: Limits,
    request: &Request,
    unit: Option<&AccessUnit>,
    state: &PatientState,
    policy: &Policy,
    now: Timestamp,
) -> Explanation {
    let run = |claims: &Claims, unit: Option<&AccessUnit>, state: &PatientState, trace: &mut Vec<Step>| {
        let subject = Subject::verified(claims.clone(), limits);
        Facts { subject: &subject, request, state, policy, now, window: Window::start(&subject, now) }.judge(unit, trace)
    };
    let mut trace = Vec::new();
    let decision = run(claims, unit, state, &mut trace);
    let mut would_change = Vec::new();
    if let (false, Some(unit)) = (matches!(decision, Decision::Permit(_)), unit) {
        for (fact, other) in alternatives(claims, limits, request, unit, state, policy, now) {
            if let Decision::Permit(permit) = run(&other.claims, Some(&other.unit), &other.state, &mut Vec::new()) {
                would_change.push(WouldChange { fact, then: format!("permit {}", permit.rule()) });
            }
            if would_change.len() == WOULD_CHANGE_MAX {
                break;
            }
        }
    }
    let (outcome, basis) = match &decision {
        Decision::Permit(permit) => (Outcome::Permit, Some(permit.basis().name())),
        Decision::Omit(_) => (Outcome::Omit, None),
        Decision::Refuse(_) => (Outcome::Refuse, None),
    };
    Explanation {
        decision: outcome,
        rule: decision.rule_id(),
        basis,
        unit: unit.map(|unit| unit.id.to_string()),
        purpose: claims.purpose,
        trace,
        would_change,
        store_version: state.store_version,
        policy_hash: None,
        rule_set: None,
        evaluated_at: now,
    }
}

/// The same case with one fact changed.
#[derive(Clone)]
struct Case {
    claims: Claims,
    unit: AccessUnit,
    state: PatientState,
}

/// One fact flipped at a time, in the order of 05 §13.
fn alternatives(
    claims: &Claims,
    limits: Limits,
    request: &Request,
    unit: &AccessUnit,
    state: &PatientState,
    policy: &Policy,
    now: Timestamp,
) -> Vec<(String, Case)> {
    let subject = Subject::verified(claims.clone(), limits);
    let today = Facts { subject: &subject, request, state, policy, now, window: Window::start(&subject, now) }.today();
    let case = Case { claims: claims.clone(), unit: unit.clone(), state: state.clone() };
    let with = |fact: &str, change: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        change(&mut case);
        (fact.to_owned(), case)
    };
    let mut cases = vec![with("patient informed", &|c| c.state.informed = Informed::Given { since: today })];
    if unit.sector != Sector::Unknown {
        cases.push(with("consent active", &|c| {
            c.state.consents.insert(c.unit.sector, Consent::Active { since: today });
        }));
    }
    let hits = denial::hits(state, claims.controller.as_deref(), unit, policy, today);
    for denial in hits.absolute.iter().chain(&hits.emergency_allowed) {
        let fact = match state.linked_denials.contains(&denial.id) {
            true => "a denial of the link set ended".to_owned(),
            false => format!("denial {} ended", denial.id),
        };
        cases.push(with(&fact, &|c| {
            for other in c.state.denials.iter_mut().filter(|other| other.id == denial.id) {
                other.status = DenialStatus::Ended;
            }
        }));
    }
    let (purpose, name) = match claims.purpose {
        Purpose::Emergency => (Purpose::Normal, "purpose = normal"),
        _ => (Purpose::Emergency, "purpose = emergency"),
    };
    cases.push(with(name, &|c| {
        c.claims.purpose = purpose;
        // The fact is the purpose: a reason and text would come with it.
        c.claims.emergency_reason.get_or_insert_with(|| Code { code: "LIFE".to_owned(), system: String::new(), display: String::new() });
        c.claims.emergency_text.get_or_insert_with(|| "-".repeat(policy.emergency.text_min));
    }));
    cases.push(with("specifier = the unit's", &|c| c.claims.specifier = c.unit.specifier.clone()));
    if let Some(producer) = &claims.controller {
        cases.push(with("authorisation of the unit's controller", &|c| {
            let entry = RegisterEntry { register: c.unit.register.clone(), specifier: c.unit.specifier.clone() };
            c.state.authorisations.push(Authorisation {
                id: "-".to_owned(),
                scope: AuthorisationType::Population,
                producer: producer.clone(),
                organiser: c.unit.controller.clone(),
                search: vec![entry.clone()],
                storage: vec![entry],
                valid: DateRange { from: today, to: today },
                all_documents: true,
                dates: None,
                service_events: Vec::new(),
            });
        }));
    }
    cases.push(with("no release date", &|c| c.unit.release_date = None));
    for code in &policy.guardian.minor_codes {
        cases.push(with(&format!("minor code {code}"), &|c| c.unit.minor_code = Some(code.clone())));
    }
    cases.push(with("status = active", &|c| c.unit.status = Status::Active));
    cases
}

impl fmt::Display for Explanation {
    /// One line per traced rule, then what would change it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |result| match result {
            StepResult::Pass => "pass",
            StepResult::No => "no",
            StepResult::Noted => "noted",
            StepResult::Fired => "fired",
        };
        for step in &self.trace {
            writeln!(f, "{:<6} {:<5} {}", step.rule, name(step.result), step.why)?;
        }
        let outcome = match self.decision {
            Outcome::Permit => "permit",
            Outcome::Omit => "omit",
            Outcome::Refuse => "refuse",
        };
        writeln!(f, "{outcome} by {} at store version {}", self.rule, self.store_version)?;
        for change in &self.would_change {
            writeln!(f, "if {}: {}", change.fact, change.then)?;
        }
        Ok(())
    }
}

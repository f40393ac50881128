//! Decisions made again from their records (profile 05 §13): the same inputs give the same decision by the same rule.
//!
//! The decision log holds for each request who asked, the state of the patient, the access units with what was decided of each,
//! and under its hash the policy that was in force ([`super::log`]). [`Replay`] takes the records in their order and decides
//! every unit again; it needs the log and its body key, and neither the store nor a running centre.
//!
//! # Failure
//! What cannot be decided again is counted by reason and is no difference: a policy that the log does not hold (it was written
//! by an earlier version), a state above the bound of a record, a record that this version cannot read.
//!
//! # Bounds
//! One decision at a time is in memory, and the policies by hash.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use idr_ihe::metadata::PatientId;
use idr_profile::access::{
    AccessUnit, Case, Claims, Decided, Explanation, Limits, Operation, Outcome, PatientState, Policy, PolicyFiles, Request, explain,
};
use idr_profile::receipt::canonical;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Which decisions are made again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Only those from this instant on.
    pub since: Option<Timestamp>,
    /// Only this one.
    pub id: Option<Uuid>,
}

/// One unit of a decision, decided again.
#[derive(Debug, Clone, Serialize)]
pub struct Again {
    /// The decision.
    pub decision_id: Uuid,
    /// When it was taken.
    pub evaluated_at: Timestamp,
    /// The policy it followed.
    pub policy_hash: String,
    /// The access unit.
    pub unit: String,
    /// What the record says.
    pub recorded: Recorded,
    /// What comes of it now.
    pub now: Decided,
    /// Whether both are the same.
    pub same: bool,
}

/// What a record says of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Outcome.
    pub result: Outcome,
    /// Rule.
    pub rule: String,
    /// Basis of a permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
}

/// What came of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Decisions whose units were decided again; of those without a unit there is nothing to decide.
    pub decisions: u64,
    /// Their units.
    pub units: u64,
    /// Units that are decided otherwise now.
    pub differ: u64,
    /// Decisions that cannot be made again, by reason.
    pub not_replayable: BTreeMap<&'static str, u64>,
}

/// Takes the records of a decision log, oldest first.
pub struct Replay {
    wanted: Wanted,
    policies: HashMap<String, Arc<Policy>>,
    current: Option<Kept>,
    found: Found,
}

/// Everything of a decision but its units.
struct Kept {
    id: Uuid,
    head: Head,
    policy: Arc<Policy>,
}

#[derive(Deserialize)]
struct Head {
    decision_id: Uuid,
    operation: Operation,
    patient: Option<PatientId>,
    state: PatientState,
    subject: Claims,
    limits: Limits,
    policy_hash: String,
    evaluated_at: Timestamp,
}

#[derive(Deserialize)]
struct Unit {
    unit: AccessUnit,
    #[serde(flatten)]
    recorded: Recorded,
}

impl Replay {
    /// Of what is wanted.
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, policies: HashMap::new(), current: None, found: Found::default() }
    }

    /// The next body of the log; each unit that was decided again is told, with why it is decided so.
    pub fn take(&mut self, body: &Value, tell: &mut dyn FnMut(Again, &dyn Fn() -> Explanation)) {
        let note = &body["note"];
        match note["event"].as_str() {
            Some("policy") => self.policy(&note["data"]),
            Some("decision") => self.decision(&note["data"], tell),
            _ => {}
        }
    }

    /// What came of all of them.
    pub fn finish(self) -> Found {
        self.found
    }

    fn policy(&mut self, data: &Value) {
        let hash = data["policy_hash"].as_str().unwrap_or_default();
        let policy = PolicyFiles::kept(&data["files"], hash).and_then(|files| files.policy().ok());
        if let Some(policy) = policy {
            self.policies.entry(hash.to_owned()).or_insert_with(|| Arc::new(policy));
        }
    }

    fn decision(&mut self, data: &Value, tell: &mut dyn FnMut(Again, &dyn Fn() -> Explanation)) {
        if data["part"] == 1 {
            self.current = None;
            if !self.is_wanted(data) {
                return;
            }
            match self.head(data) {
                Ok(kept) => self.current = Some(kept),
                Err(reason) => *self.found.not_replayable.entry(reason).or_default() += 1,
            }
            self.found.decisions += u64::from(self.current.is_some());
        }
        // Parts after the first follow it, and belong to it.
        let Some(kept) = self.current.as_ref().filter(|kept| json!(kept.id) == data["decision_id"]) else { return };
        for unit in data["units"].as_array().into_iter().flatten() {
            self.found.units += 1;
            let Ok(unit) = Unit::deserialize(unit) else {
                *self.found.not_replayable.entry("a unit of another form").or_default() += 1;
                continue;
            };
            let again = kept.again(&unit);
            self.found.differ += u64::from(!again.same);
            tell(again, &|| kept.explained(&unit.unit));
        }
    }

    fn is_wanted(&self, data: &Value) -> bool {
        let late_enough = |since| Timestamp::deserialize(&data["evaluated_at"]).is_ok_and(|at| at >= since);
        self.wanted.since.is_none_or(late_enough) && self.wanted.id.is_none_or(|id| json!(id) == data["decision_id"])
    }

    fn head(&self, data: &Value) -> Result<Kept, &'static str> {
        if data["limits"].is_null() {
            return Err("written by a version that kept no state");
        }
        if data["state"].is_null() {
            return Err("the state is larger than a record");
        }
        let head = Head::deserialize(data).map_err(|_| "a record of another form")?;
        let state = canonical(&data["state"]).map_err(|_| "a record of another form")?;
        if data["state_sha256"] != hex::encode(Sha256::digest(&state)) {
            return Err("the state is not that of its digest");
        }
        let policy = self.policies.get(&head.policy_hash).ok_or("its policy is not in the log")?;
        Ok(Kept { id: head.decision_id, policy: policy.clone(), head })
    }
}

impl Kept {
    fn case(&self, unit: &AccessUnit) -> Case {
        Case {
            id: unit.id.to_string(),
            subject: self.head.subject.clone(),
            limits: self.head.limits,
            operation: self.head.operation,
            patient: self.head.patient.clone(),
            unit: Some(unit.clone()),
            state: self.head.state.clone(),
            now: self.head.evaluated_at,
            policy: None,
            expect: None,
        }
    }

    fn again(&self, unit: &Unit) -> Again {
        let now = self.case(&unit.unit).decide_by(&self.policy);
        Again {
            decision_id: self.id,
            evaluated_at: self.head.evaluated_at,
            policy_hash: self.head.policy_hash.clone(),
            unit: now.id.clone(),
            same: unit.recorded.is(&now),
            recorded: unit.recorded.clone(),
            now,
        }
    }

    fn explained(&self, unit: &AccessUnit) -> Explanation {
        let request = Request { operation: self.head.operation, patient: self.head.patient.clone() };
        let Head { subject, limits, state, evaluated_at, policy_hash, .. } = &self.head;
        let mut explanation = explain(subject, *limits, &request, Some(unit), state, &self.policy, *evaluated_at);
        explanation.policy_hash = Some(format!("sha256:{policy_hash}"));
        explanation
    }
}

impl Recorded {
    /// What is shown in own use alone and is not own is omitted by E5, whatever permits its unit.
    fn is(&self, now: &Decided) -> bool {
        let own_only = (self.result, self.rule.as_str()) == (Outcome::Omit, "E5");
        if own_only {
            return now.decision == Outcome::Permit && !matches!(now.basis, Some("own" | "reconcile"));
        }
        self.result == now.decision && self.rule == now.rule && self.basis.as_deref() == now.basis
    }
}

//! From what was found to what may be told: [`Candidate`] → [`gate()`] → [`Disclosed`].
//!
//! A look-up gives [`Candidate`]s, which nobody can read, print or serialise. [`gate()`] decides each and gives the
//! permitted ones as [`Disclosed`], the only thing a response is made of; the others leave an [`OmissionRecord`] for the
//! audit and nothing for the answer. Counts, paging and limits are taken from [`Gated::disclosed`] (05 §8 rule 2).
//!
//! Sets, folders and associations have no access unit of their own: they are [`Dependent`]s, shown by what they hold.

use super::decide::{check_gates, decide};
use super::decision::{Basis, Decision, Gate, Permit, Request, Rule};
use super::policy::Policy;
use super::state::{AccessUnit, PatientState};
use super::subject::Subject;
use jiff::Timestamp;
use std::collections::HashMap;
use std::fmt;

/// Rounds in which dependents of dependents are found; ITI TF-3 §4.2 needs three (entry, folder, its membership's
/// association), what is deeper stays hidden.
const DEPENDENT_ROUNDS: usize = 8;

/// Something that was found and not yet decided. Its payload cannot be read.
pub struct Candidate<T> {
    unit: AccessUnit,
    payload: T,
    own_only: bool,
}

impl<T> Candidate<T> {
    /// What was found, with the access unit it belongs to.
    pub fn new(unit: AccessUnit, payload: T) -> Self {
        Self { unit, payload, own_only: false }
    }

    /// Shown only in own use: exports (05 §9), and a set or folder that holds nothing, with a unit of its controller and
    /// register.
    pub fn own_only(unit: AccessUnit, payload: T) -> Self {
        Self { unit, payload, own_only: true }
    }
}

/// Something that may be told, with the permit that says so. `Debug` shows the proof, not the payload.
pub struct Disclosed<T> {
    unit: AccessUnit,
    payload: T,
    permit: Permit,
}

impl<T> Disclosed<T> {
    /// What was found.
    pub fn payload(&self) -> &T {
        &self.payload
    }

    /// The proof.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Whose data it is: for the audit record.
    pub fn unit(&self) -> &AccessUnit {
        &self.unit
    }

    /// For the response that is written now.
    pub fn into_parts(self) -> (T, Permit) {
        (self.payload, self.permit)
    }

    /// Decides again, on the unit as it is now, before this is sent (see [`Permit::recheck`]).
    ///
    /// # Errors
    /// [`Withdrawn`]: no longer permitted; the payload is gone.
    pub fn recheck(
        self,
        subject: &Subject,
        request: &Request,
        unit_now: AccessUnit,
        state: &PatientState,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Self, Withdrawn> {
        match self.permit.recheck(subject, request, Some(&unit_now), state, policy, now) {
            Decision::Permit(permit) => Ok(Self { unit: unit_now, payload: self.payload, permit }),
            Decision::Omit(rule) => Err(Withdrawn::Omitted(Box::new(OmissionRecord { unit: unit_now, rule }))),
            Decision::Refuse(gate) => Err(Withdrawn::Refused(gate)),
        }
    }
}

impl<T> fmt::Debug for Disclosed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disclosed").field("permit", &self.permit).finish_non_exhaustive()
    }
}

/// A permit that no longer holds.
#[derive(Debug)]
pub enum Withdrawn {
    /// Now omitted: for the audit; the answer goes on without it.
    Omitted(Box<OmissionRecord>),
    /// Now refused: the operation took too long.
    Refused(Gate),
}

/// What was omitted and why: for the omission record (X) and nobody else (05 §10).
#[derive(Debug, Clone)]
pub struct OmissionRecord {
    unit: AccessUnit,
    rule: Rule,
}

impl OmissionRecord {
    /// The unit.
    pub fn unit(&self) -> &AccessUnit {
        &self.unit
    }

    /// The rule that omitted.
    pub fn rule(&self) -> Rule {
        self.rule
    }
}

/// Outcome of [`gate()`].
#[derive(Debug)]
pub struct Gated<T> {
    /// In the order of the candidates.
    pub disclosed: Vec<Disclosed<T>>,
    /// For the audit only.
    pub omitted: Vec<OmissionRecord>,
    /// Version of the declaration store that was decided at.
    pub store_version: u64,
}

/// Decides every candidate. `state` is that of the assertion's patient: units of others are omitted (E1).
///
/// # Errors
/// The gate that refused; it is the same whether or not anything was found.
pub fn gate<T>(
    subject: &Subject,
    request: &Request,
    candidates: Vec<Candidate<T>>,
    state: &PatientState,
    policy: &Policy,
    now: Timestamp,
) -> Result<Gated<T>, Gate> {
    check_gates(subject, request, state, policy, now)?;
    let mut gated = Gated { disclosed: Vec::new(), omitted: Vec::new(), store_version: state.store_version };
    for Candidate { unit, payload, own_only } in candidates {
        match decide(subject, request, Some(&unit), state, policy, now) {
            Decision::Permit(permit) if !own_only || matches!(permit.basis(), Basis::Own | Basis::Reconcile) => {
                gated.disclosed.push(Disclosed { unit, payload, permit });
            }
            Decision::Permit(_) => gated.omitted.push(OmissionRecord { unit, rule: Rule::E5 }),
            Decision::Omit(rule) => gated.omitted.push(OmissionRecord { unit, rule }),
            Decision::Refuse(gate) => return Err(gate),
        }
    }
    Ok(gated)
}

impl<T> Gated<T> {
    /// Candidates by a decision that refuses nobody: what would be refused is omitted.
    pub(super) fn of(candidates: Vec<Candidate<T>>, store_version: u64, decide: impl Fn(&AccessUnit) -> Decision) -> Self {
        let mut gated = Self { disclosed: Vec::new(), omitted: Vec::new(), store_version };
        for Candidate { unit, payload, own_only: _ } in candidates {
            match decide(&unit) {
                Decision::Permit(permit) => gated.disclosed.push(Disclosed { unit, payload, permit }),
                Decision::Omit(rule) => gated.omitted.push(OmissionRecord { unit, rule }),
                Decision::Refuse(_) => gated.omitted.push(OmissionRecord { unit, rule: Rule::E6 }),
            }
        }
        gated
    }

    /// Whether the decisions are still those of the store: ask again before the answer goes out, [`Gated::recheck`] if not.
    pub fn holds_at(&self, store_version: u64) -> bool {
        self.store_version == store_version
    }

    /// Decides the disclosed ones again on their units as they were found; what is no longer permitted moves to `omitted`.
    ///
    /// # Errors
    /// The gate that refuses now.
    pub fn recheck(
        self,
        subject: &Subject,
        request: &Request,
        state: &PatientState,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Self, Gate> {
        let mut gated = Self { disclosed: Vec::new(), omitted: self.omitted, store_version: state.store_version };
        for disclosed in self.disclosed {
            let unit = disclosed.unit.clone();
            match disclosed.recheck(subject, request, unit, state, policy, now) {
                Ok(disclosed) => gated.disclosed.push(disclosed),
                Err(Withdrawn::Omitted(record)) => gated.omitted.push(*record),
                Err(Withdrawn::Refused(gate)) => return Err(gate),
            }
        }
        Ok(gated)
    }

    /// The dependents that are shown beside what is disclosed, in their order, each under the permit of one thing that it
    /// holds. A hidden one leaves no record: what it held has one.
    pub fn dependents<U>(&self, dependents: Vec<Dependent<U>>) -> Vec<Disclosed<U>> {
        let mut shown: HashMap<String, (AccessUnit, Permit)> =
            self.disclosed.iter().map(|d| (d.unit.id.0.clone(), (d.unit.clone(), d.permit.clone()))).collect();
        let mut found: Vec<Option<(AccessUnit, Permit)>> = dependents.iter().map(|_| None).collect();
        for _ in 0..DEPENDENT_ROUNDS {
            let mut moved = false;
            for (dependent, place) in dependents.iter().zip(&mut found).filter(|(_, place)| place.is_none()) {
                if let Some(proof) = dependent.shown.proof(&shown) {
                    shown.insert(dependent.key.clone(), proof.clone());
                    *place = Some(proof);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        let disclose = |(dependent, proof): (Dependent<U>, Option<(AccessUnit, Permit)>)| {
            proof.map(|(unit, permit)| Disclosed { unit, payload: dependent.payload, permit })
        };
        dependents.into_iter().zip(found).filter_map(disclose).collect()
    }
}

/// Something without an access unit of its own: a submission set, a folder, an association (05 §9).
pub struct Dependent<T> {
    key: String,
    shown: Shown,
    payload: T,
}

impl<T> Dependent<T> {
    /// `key` is its name among the keys of [`Shown`]; the keys of entries are their units' ids.
    pub fn new(key: impl Into<String>, shown: Shown, payload: T) -> Self {
        Self { key: key.into(), shown, payload }
    }
}

/// When a dependent is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// At least one of these is: a set or folder by its members; none = never.
    Any(Vec<String>),
    /// All of these are: an association by its two ends; none = never.
    All(Vec<String>),
}

impl Shown {
    fn proof(&self, shown: &HashMap<String, (AccessUnit, Permit)>) -> Option<(AccessUnit, Permit)> {
        match self {
            Self::Any(keys) => keys.iter().find_map(|key| shown.get(key)).cloned(),
            Self::All(keys) => {
                let ends = keys.iter().map(|key| shown.get(key)).collect::<Option<Vec<_>>>()?;
                // The end whose permit asks for most records, the first of equal ones: what joins an own thing to one of another
                // register discloses that one.
                ends.into_iter().rev().max_by_key(|(_, permit)| permit.logs().len()).cloned()
            }
        }
    }
}

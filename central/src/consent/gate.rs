//! From candidates to what may be told, for every route that reads (profile 05 §4, §9).
//!
//! ```text
//! state(tx) ─ check(…) ─ look-up in the same tx ─ decide(…) ─▶ Decided ─ open(…) ─▶ records durable ─▶ the answer
//! ```
//! State and candidates come from one commit point, so a denial that was committed before the look-up counts.

use idr_ihe::metadata::PatientId;
use idr_profile::access::{Candidate, Disclosed, Freshness, Gate, Gated, PatientState, Request, check_gates, gate};
use idr_profile::xua::Refusal;
use jiff::Timestamp;

use crate::assertion::{self, Authenticated};
use crate::audit::Opening;
use crate::central::Central;
use crate::consent::log::{self, By, Mention};
use crate::store::{StoreError, Tx};

/// Why a read is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// A gate, the assertion, or the audit store; recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was decided of everything that was found.
#[derive(Debug)]
pub struct Decided<T> {
    /// What may be told, and what was omitted.
    pub gated: Gated<T>,
    /// Sets, folders and associations that are told beside it: the same records name them.
    pub dependents: Vec<Disclosed<T>>,
    /// The state that was decided on.
    pub state: PatientState,
    /// What was asked.
    pub request: Request,
    /// When.
    pub at: Timestamp,
}

/// The state of the assertion's patient, or what holds for everybody if it names none. This node holds the store, so it is as
/// fresh as the read.
///
/// # Errors
/// [`StoreError`].
pub async fn state(tx: &mut Tx, who: &Authenticated, now: Timestamp) -> Result<PatientState, StoreError> {
    let freshness = Freshness::Store { confirmed: now };
    match &who.claims().patient {
        Some(patient) => tx.patient_state(patient, freshness).await,
        None => tx.common_state(freshness).await,
    }
}

/// Gates G1–G5 before anything is looked up: a refusal does not depend on what is found (05 §8 rule 4).
///
/// # Errors
/// The gate.
pub fn check(central: &Central, who: &Authenticated, request: &Request, state: &PatientState, now: Timestamp) -> Result<(), Gate> {
    check_gates(&who.subject, request, state, &central.policy, now)
}

/// Decides every candidate.
///
/// # Errors
/// The gate that refused.
pub fn decide<T>(
    central: &Central,
    who: &Authenticated,
    request: Request,
    state: PatientState,
    candidates: Vec<Candidate<T>>,
    now: Timestamp,
) -> Result<Decided<T>, Gate> {
    let gated = gate(&who.subject, &request, candidates, &state, &central.policy, now)?;
    Ok(Decided { gated, dependents: Vec::new(), state, request, at: now })
}

/// Records a gate's refusal and gives what the caller is told.
pub async fn refused(central: &Central, who: &Authenticated, gate: Gate) -> Refusal {
    assertion::refused_as(central, &who.asked, Some(who.claims()), gate.id(), gate.into()).await
}

impl<T> Decided<T> {
    /// Keeps the opening records, the decision record and `query` (what was asked, for the decision log); returns when they
    /// are on stable storage. Nothing of the answer may leave before.
    ///
    /// # Errors
    /// IDR-X-32.
    pub async fn open(
        &self,
        central: &Central,
        who: &Authenticated,
        by: By,
        query: Option<&str>,
        mention: impl Fn(&T) -> Mention,
    ) -> Result<Opening, Refusal> {
        log::open(central, log::papers(central, who, self, by, query, mention)).await
    }

    /// Everything that may be told, in the order of the answer.
    pub fn told(&self) -> impl Iterator<Item = &Disclosed<T>> {
        self.gated.disclosed.iter().chain(&self.dependents)
    }

    /// The patient as known now.
    pub fn patient(&self) -> Option<&PatientId> {
        self.state.ids.first()
    }
}

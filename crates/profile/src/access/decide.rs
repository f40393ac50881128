//! The decision: gates, entry rules, store rules (profile 05 §4).
//!
//! The rules stand in the order of the profile's tables and read like them; each tells a [`Witness`] what it found, which
//! costs nothing in [`decide`] and makes the trace of [`super::explain()`].

use super::decision::{Basis, Decision, Gate, Permit, Request, Rule};
use super::denial::{self, Hits};
use super::explain::StepResult;
use super::outsourced::{self, Use};
use super::policy::{CareVerification, Operation, Policy};
use super::state::{AccessUnit, Consent, Freshness, Informed, PatientState, Status};
use super::subject::{Claims, Kind, Purpose, Subject, later};
use crate::identifier::organisation::{business_id_arc, service_event_organisation};
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};
use std::sync::LazyLock;

/// Sees each rule as it is judged.
pub(super) trait Witness {
    fn step(&mut self, rule: &'static str, result: StepResult, why: impl FnOnce() -> String);
}

/// Nobody looks: `why` is never made.
impl Witness for () {
    fn step(&mut self, _: &'static str, _: StepResult, _: impl FnOnce() -> String) {}
}

/// Until when the decision may be taken, and what its permit may last.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// From this instant on the answer is `G1`.
    closes: Timestamp,
    /// End of the operation that the permit belongs to.
    operation_ends: Timestamp,
    /// Bound of the permit.
    permit_until: Timestamp,
}

impl Window {
    /// A new operation: the assertion must still hold.
    pub(super) fn start(subject: &Subject, now: Timestamp) -> Self {
        let until = subject.usable_until();
        Self { closes: until, operation_ends: later(now, subject.limits().long_operation_max_seconds), permit_until: until }
    }

    /// An operation that started in time goes on for `long_operation_max_seconds` (04 §8).
    fn go_on(permit: &Permit) -> Self {
        Self { closes: permit.operation_ends, operation_ends: permit.operation_ends, permit_until: permit.operation_ends }
    }
}

/// Decides whether `subject` may do `request` with `unit` (05 §4).
///
/// `unit` is `None` for operations without one; `state` is that of the assertion's patient and says how fresh it is.
/// Dates are civil dates in Europe/Helsinki at `now`.
///
/// A permit lasts `min(now + permit.seconds, assertion.not_on_or_after + skew)`.
pub fn decide(
    subject: &Subject,
    request: &Request,
    unit: Option<&AccessUnit>,
    state: &PatientState,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    let facts = Facts { subject, request, state, policy, now, window: Window::start(subject, now) };
    facts.judge(unit, &mut ())
}

/// The gates alone, before any look-up: a refusal must not depend on whether something is found (05 §8 rule 4).
///
/// # Errors
/// The first gate that fails, in the order G1–G5.
pub fn check_gates(subject: &Subject, request: &Request, state: &PatientState, policy: &Policy, now: Timestamp) -> Result<(), Gate> {
    Facts { subject, request, state, policy, now, window: Window::start(subject, now) }.gates(&mut ())
}

impl Permit {
    /// Decides again, for the same operation, before the next instance of a running answer (05 §9).
    ///
    /// All gates and rules run on the facts of now, so that a denial, a withdrawal, an invalidation or a store version that
    /// moved takes effect; only the assertion may have expired meanwhile, for `long_operation_max_seconds` from the first
    /// decision (04 §8, else `Refuse(G1)`). Another subject, operation or unit is not what was permitted: `Omit(E1)`.
    pub fn recheck(
        &self,
        subject: &Subject,
        request: &Request,
        unit: Option<&AccessUnit>,
        state: &PatientState,
        policy: &Policy,
        now: Timestamp,
    ) -> Decision {
        let same = subject.claims().assertion_id == self.assertion_id
            && request.operation == self.operation
            && unit.map(|unit| &unit.id) == self.unit.as_ref();
        if !same {
            return Decision::Omit(Rule::E1);
        }
        Facts { subject, request, state, policy, now, window: Window::go_on(self) }.judge(unit, &mut ())
    }
}

/// Everything that a decision depends on, except the unit.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub subject: &'a Subject,
    pub request: &'a Request,
    pub state: &'a PatientState,
    pub policy: &'a Policy,
    pub now: Timestamp,
    pub window: Window,
}

impl Facts<'_> {
    pub(super) fn judge(&self, unit: Option<&AccessUnit>, witness: &mut impl Witness) -> Decision {
        if let Err(gate) = self.gates(witness) {
            return Decision::Refuse(gate);
        }
        let operation = self.request.operation;
        match unit {
            None if operation.needs_unit() => self.omit(Rule::E1, witness, || "no access unit".to_owned()),
            None => self.permit(Rule::G, Basis::Operation, None, witness),
            Some(_) if !operation.takes_unit() => self.omit(Rule::E1, witness, || format!("{operation} has no access unit")),
            Some(unit) if operation == Operation::Store => self.store(unit, witness),
            Some(unit) => self.entry(unit, witness),
        }
    }

    /// §4.1, in order.
    fn gates(&self, witness: &mut impl Witness) -> Result<(), Gate> {
        let claims = self.claims();
        let checks: [(Gate, Result<(), &'static str>); 5] = [
            (Gate::G1, if self.now < self.window.closes { Ok(()) } else { Err("the assertion has expired") }),
            (Gate::G2, self.operation_allowed()),
            (Gate::G3, self.patient_named_is_asserted()),
            (Gate::G4, register_named(claims, self.policy)),
            (Gate::G5, self.care_basis()),
        ];
        for (gate, result) in checks {
            match result {
                Ok(()) => witness.step(gate.id(), StepResult::Pass, String::new),
                Err(why) => {
                    witness.step(gate.id(), StepResult::Fired, || why.to_owned());
                    return Err(gate);
                }
            }
        }
        Ok(())
    }

    fn operation_allowed(&self) -> Result<(), &'static str> {
        let claims = self.claims();
        let allowed = self.policy.allows(claims.kind, claims.purpose, self.request.operation);
        if allowed { Ok(()) } else { Err("operation not allowed for this kind and purpose") }
    }

    fn patient_named_is_asserted(&self) -> Result<(), &'static str> {
        let Some(named) = &self.request.patient else { return Ok(()) };
        let same = self.claims().patient.as_ref().is_some_and(|asserted| self.state.same_patient(asserted, named));
        if same { Ok(()) } else { Err("the request names another patient than the assertion") }
    }

    fn care_basis(&self) -> Result<(), &'static str> {
        let claims = self.claims();
        if claims.kind != Kind::Professional || !self.request.operation.needs_care_basis() {
            return Ok(());
        }
        if claims.purpose == Purpose::Emergency {
            let length = claims.emergency_text.as_ref().map_or(0, |text| text.chars().count());
            let policy = &self.policy.emergency;
            let complete = claims.emergency_reason.is_some() && (policy.text_min..=policy.text_max).contains(&length);
            return if complete { Ok(()) } else { Err("emergency reason or text is missing") };
        }
        match &claims.service_event {
            Some(event) if self.is_care_evidence(event) => Ok(()),
            Some(_) => Err("the service event is not one of the requester's controller"),
            None if claims.care_reason.is_some() => Ok(()),
            None => Err("neither a service event nor a care reason"),
        }
    }

    /// `care.verify`: by form, and if asked, known for this patient and the requester's controller. Both are facts of the
    /// requester's own controller, so the refusal tells nothing of others' data.
    fn is_care_evidence(&self, event: &str) -> bool {
        let controller = self.claims().controller.as_deref().unwrap_or_default();
        let organisation = service_event_organisation(event);
        let by_form = organisation.is_some() && organisation == business_id_arc(controller);
        match self.policy.care.verify {
            CareVerification::Format => by_form,
            CareVerification::Known => by_form && self.state.service_events.get(event).is_some_and(|known| known.controller == controller),
        }
    }

    /// §4.2 Store: never depends on consents or denials.
    fn store(&self, unit: &AccessUnit, witness: &mut impl Witness) -> Decision {
        let claims = self.claims();
        // The submission's patient is what the request names (G3), also where it stands in the data only.
        if !claims.patient.as_ref().is_some_and(|asserted| self.state.same_patient(asserted, &unit.patient)) {
            witness.step(Gate::G3.id(), StepResult::Fired, || "the submission is of another patient than the assertion".to_owned());
            return Decision::Refuse(Gate::G3);
        }
        if is_own(claims, unit) {
            return self.permit(Rule::S1, Basis::Own, Some(unit), witness);
        }
        witness.step(Rule::S1.id(), StepResult::No, || not_own(claims, unit));
        if let Some(authorisation) = outsourced::covering(claims, unit, self.state, Use::Storage, self.today()) {
            return self.permit(Rule::S2, Basis::Outsourced(authorisation.id.clone()), Some(unit), witness);
        }
        witness.step(Rule::S2.id(), StepResult::No, || "no storage authorisation covers it".to_owned());
        witness.step(Gate::S3.id(), StepResult::Fired, || "another's register".to_owned());
        Decision::Refuse(Gate::S3)
    }

    /// §4.2: first that fires decides.
    fn entry(&self, unit: &AccessUnit, witness: &mut impl Witness) -> Decision {
        let (claims, state, policy) = (self.claims(), self.state, self.policy);
        let operation = self.request.operation;
        let today = self.today();

        let of_patient = match &claims.patient {
            Some(asserted) => state.same_patient(asserted, &unit.patient),
            None => operation == Operation::Reconcile,
        };
        if !of_patient {
            return self.omit(Rule::E1, witness, || "the unit is of another patient than the assertion".to_owned());
        }
        no(witness, Rule::E1);

        let own = is_own(claims, unit);
        if operation == Operation::Correct {
            return if own {
                self.permit(Rule::S1, Basis::Own, Some(unit), witness)
            } else {
                self.omit(Rule::S4, witness, || not_own(claims, unit))
            };
        }

        if matches!(unit.status, Status::Invalidated | Status::Rejected | Status::Erased) {
            return self.omit(Rule::E2, witness, || format!("status is {:?}", unit.status).to_lowercase());
        }
        no(witness, Rule::E2);

        if operation == Operation::Reconcile {
            return if own {
                self.permit(Rule::E3, Basis::Reconcile, Some(unit), witness)
            } else {
                self.omit(Rule::E3, witness, || not_own(claims, unit))
            };
        }

        if matches!(claims.kind, Kind::Citizen | Kind::Guardian) {
            return self.patient_view(unit, today, witness);
        }

        if own {
            return self.permit(Rule::E5, Basis::Own, Some(unit), witness);
        }
        witness.step(Rule::E5.id(), StepResult::No, || not_own(claims, unit));

        if let Some(why) = self.unreliable(unit) {
            return self.omit(Rule::E6, witness, || why.to_owned());
        }
        no(witness, Rule::E6);

        let hits = denial::hits(state, claims.controller.as_deref(), unit, policy, today);
        let authorisation = outsourced::covering(claims, unit, state, Use::Search, today);
        let outsourced = authorisation.map(|authorisation| Basis::Outsourced(authorisation.id.clone()));
        if let Some(basis) = &outsourced
            && !policy.outsourced.denial_bites
        {
            return self.permit(Rule::E7, basis.clone(), Some(unit), witness);
        }
        if outsourced.is_none() {
            no(witness, Rule::E7);
        }
        if let Some(decision) = self.denied(&hits, witness) {
            return decision;
        }
        if let Some(basis) = outsourced {
            return self.permit(Rule::E7, basis, Some(unit), witness);
        }
        self.disclosure(unit, &hits, witness)
    }

    /// E4: the patient's own and a guardian's view. Denials do not touch it.
    fn patient_view(&self, unit: &AccessUnit, today: Date, witness: &mut impl Witness) -> Decision {
        if let Some(release) = unit.release_date.filter(|release| *release > today) {
            return self.omit(Rule::E4a, witness, || format!("release to the patient is on {release}"));
        }
        if unit.unreadable {
            return self.omit(Rule::E4a, witness, || "an attribute of the unit cannot be read".to_owned());
        }
        no(witness, Rule::E4a);
        let age_reached = |years: u8| {
            let birth_date = self.state.birth_date.filter(|_| self.claims().patient.as_ref().is_some_and(|id| self.state.is_of(id)))?;
            Some(birth_date.checked_add(Span::new().years(years)).is_ok_and(|birthday| birthday <= today))
        };
        if self.claims().kind == Kind::Citizen {
            let min_age = self.policy.citizen.min_age;
            return if min_age == 0 || age_reached(min_age) == Some(true) {
                self.permit(Rule::E4c, Basis::SelfView, Some(unit), witness)
            } else {
                self.omit(Rule::E4c, witness, || format!("the patient is not known to be {min_age} years old"))
            };
        }
        let guardian = &self.policy.guardian;
        let why = if !self.representation_holds() {
            "no fresh representation"
        } else if age_reached(guardian.adult_age) != Some(false) {
            "the patient is not known to be a minor"
        } else if !unit.minor_code.as_ref().is_some_and(|code| guardian.minor_codes.contains(code)) {
            "the minor's code does not release it to guardians"
        } else {
            return self.permit(Rule::E4b, Basis::Guardian, Some(unit), witness);
        };
        self.omit(Rule::E4b, witness, || why.to_owned())
    }

    fn representation_holds(&self) -> bool {
        let limits = self.subject.limits();
        self.claims().representation.as_ref().is_some_and(|representation| {
            self.policy.guardian.representation_codes.contains(&representation.code)
                && representation.checked <= later(self.now, limits.clock_skew_seconds)
                && self.now <= later(representation.checked, limits.representation_max_age_seconds)
        })
    }

    /// E6 and what §4.2 puts beside it: nothing that cannot be relied on may open another's data.
    fn unreliable(&self, unit: &AccessUnit) -> Option<&'static str> {
        let (claims, state, policy) = (self.claims(), self.state, self.policy);
        if policy.unreadable {
            return Some("the access policy cannot be read");
        }
        if claims.kind != Kind::Professional {
            return Some("no rule opens another's register to this kind");
        }
        if !claims.patient.as_ref().is_some_and(|asserted| state.is_of(asserted)) {
            return Some("the declarations are not the asserted patient's");
        }
        if state.unreadable {
            return Some("a declaration cannot be read");
        }
        if unit.unreadable {
            return Some("an attribute of the unit cannot be read");
        }
        let spared = policy.offline.emergency_after_expiry
            && claims.purpose == Purpose::Emergency
            && matches!(state.freshness, Freshness::Snapshot { .. });
        state.freshness.stale(&policy.freshness, self.now).filter(|_| !spared)
    }

    /// E8a, E8b, E8c.
    fn denied(&self, hits: &Hits<'_>, witness: &mut impl Witness) -> Option<Decision> {
        if let Some(denial) = hits.absolute.first() {
            return Some(self.omit(Rule::E8a, witness, || format!("{} is absolute", self.state.told(denial))));
        }
        no(witness, Rule::E8a);
        let emergency = self.claims().purpose == Purpose::Emergency;
        match hits.emergency_allowed.first() {
            Some(denial) if !emergency => {
                Some(self.omit(Rule::E8b, witness, || format!("{} allows emergency use only", self.state.told(denial))))
            }
            Some(_) => {
                witness.step("E8c", StepResult::Noted, || format!("{} denials allow emergency use", hits.emergency_allowed.len()));
                None
            }
            None => {
                no(witness, Rule::E8b);
                None
            }
        }
    }

    /// E9–E12.
    fn disclosure(&self, unit: &AccessUnit, hits: &Hits<'_>, witness: &mut impl Witness) -> Decision {
        let emergency = self.claims().purpose == Purpose::Emergency;
        let policy = &self.policy.emergency;
        if !emergency {
            no(witness, Rule::E9);
        }
        if !emergency || policy.requires_informing {
            if self.state.informed == Informed::None {
                return self.omit(Rule::E10, witness, || "the patient is not informed".to_owned());
            }
            no(witness, Rule::E10);
        }
        if !emergency || policy.requires_consent {
            if !matches!(self.state.consent(unit.sector), Consent::Active { .. }) {
                return self.omit(Rule::E11, witness, || format!("no active consent for sector {:?}", unit.sector).to_lowercase());
            }
            no(witness, Rule::E11);
        }
        if !emergency {
            return self.permit(Rule::E12, Basis::Disclosure, Some(unit), witness);
        }
        let overridden_denials: Vec<String> = hits.emergency_allowed.iter().map(|denial| denial.id.clone()).collect();
        let rule = if overridden_denials.is_empty() { Rule::E9 } else { Rule::E9E8c };
        self.permit(rule, Basis::Emergency { overridden_denials }, Some(unit), witness)
    }

    fn permit(&self, rule: Rule, basis: Basis, unit: Option<&AccessUnit>, witness: &mut impl Witness) -> Decision {
        witness.step(rule.id(), StepResult::Fired, || basis.name().to_owned());
        let claims = self.claims();
        Decision::Permit(Permit {
            withholds_location: basis == Basis::Guardian && self.state.labels.contains(&self.policy.label.location_withheld),
            basis,
            rule,
            unit: unit.map(|unit| unit.id.clone()),
            operation: self.request.operation,
            kind: claims.kind,
            assertion_id: claims.assertion_id.clone(),
            store_version: self.state.store_version,
            expires: later(self.now, self.policy.permit.seconds).min(self.window.permit_until),
            operation_ends: self.window.operation_ends,
        })
    }

    fn omit(&self, rule: Rule, witness: &mut impl Witness, why: impl FnOnce() -> String) -> Decision {
        witness.step(rule.id(), StepResult::Fired, why);
        Decision::Omit(rule)
    }

    fn claims(&self) -> &Claims {
        self.subject.claims()
    }

    pub(super) fn today(&self) -> Date {
        helsinki_date(self.now)
    }
}

fn no(witness: &mut impl Witness, rule: Rule) {
    witness.step(rule.id(), StepResult::No, String::new);
}

/// G4: professionals and technical users say for which register they act.
fn register_named(claims: &Claims, policy: &Policy) -> Result<(), &'static str> {
    if !matches!(claims.kind, Kind::Professional | Kind::Technical) {
        return Ok(());
    }
    let named = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
    if !named(&claims.controller) || !named(&claims.register) {
        return Err("controller or register is missing");
    }
    let needs_specifier = claims.register.as_ref().is_some_and(|register| policy.register.specifier_required.contains(register));
    if needs_specifier && claims.specifier.is_none() { Err("register specifier is missing") } else { Ok(()) }
}

/// Own use (05 §1): the same controller, register and specifier.
fn is_own(claims: &Claims, unit: &AccessUnit) -> bool {
    claims.controller.as_ref() == Some(&unit.controller)
        && claims.register.as_ref() == Some(&unit.register)
        && claims.specifier == unit.specifier
        && !unit.controller.is_empty()
}

fn not_own(claims: &Claims, unit: &AccessUnit) -> String {
    if claims.controller.as_ref() != Some(&unit.controller) {
        format!("controller {} is not the requester's", unit.controller)
    } else if claims.register.as_ref() != Some(&unit.register) {
        format!("register {} is not the requester's", unit.register)
    } else {
        "the register specifier is not the requester's".to_owned()
    }
}

/// Civil date in Europe/Helsinki (05 §2), from the bundled database: no file is read.
fn helsinki_date(now: Timestamp) -> Date {
    static HELSINKI: LazyLock<TimeZone> =
        LazyLock::new(|| TimeZoneDatabase::bundled().get("Europe/Helsinki").expect("the bundled database has Europe/Helsinki"));
    HELSINKI.to_datetime(now).date()
}

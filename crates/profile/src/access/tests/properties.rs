//! What holds for any input.

use super::fixtures::*;
use crate::access::*;
use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const UNITS: &[&str] = &[
    "EA2", "EPA", "EA4X", "EB3", "EB4X", "EB4Y", "EC2", "EC2W", "EC2U", "EC2B", "EC2T", "EC2O", "EC2N", "EC2P", "EC2S", "EC2I", "EA2I",
    "EC2D", "EC2L", "EM1", "EM3", "ECS", "EX2",
];
const REQUESTERS: &[(&str, &str)] = &[
    ("RA2", "n"),
    ("RA2", "e"),
    ("RA4X", "n"),
    ("RB3", "e"),
    ("RB4X", "n"),
    ("RB4Y", "e"),
    ("RC2", "n"),
    ("RP3", "n"),
    ("RP3", "e"),
    ("TA", "a"),
    ("TP", "a"),
    ("CZ", "v"),
    ("GU", "v"),
    ("OP", "d"),
    ("PO", "d"),
    ("RG", "m"),
    ("RA2-care", "n"),
    ("RA2-other", "n"),
];
const DENIALS: &[&str] =
    &["D1", "D2", "D3", "D4", "D5", "D6", "D7", "D8", "D9", "D10", "D11", "D12", "D13", "D14", "D15", "D16", "D17", "D21"];
const AUTHORISATIONS: &[&str] = &["O1", "O2", "O3", "O4", "O5", "O6"];

prop_compose! {
    fn any_state()(
        patient in select(vec!["P0", "P1", "P2", "P3", "P4"]),
        denials in subsequence(DENIALS.to_vec(), 0..4),
        authorisations in subsequence(AUTHORISATIONS.to_vec(), 0..2),
        age in select(vec!["age8", "age18", ""]),
    ) -> PatientState {
        let mut state = state(patient);
        apply(&mut state, &[denials.join(" "), authorisations.join(" "), age.to_owned()].join(" "));
        state
    }
}

prop_compose! {
    fn any_case()(
        requester in select(REQUESTERS.to_vec()),
        unit_name in select(UNITS.to_vec()),
        operation in select(Operation::ALL.to_vec()),
        state in any_state(),
    ) -> (Subject, AccessUnit, Operation, PatientState) {
        (subject(requester.0, requester.1), unit(unit_name), operation, state)
    }
}

fn decided((subject, unit, operation, state): &(Subject, AccessUnit, Operation, PatientState), policy: &Policy) -> Decision {
    decide(subject, &request(*operation), Some(unit), state, policy, now())
}

/// Permits that rest on nothing but whose data it is, or who the patient is.
fn rests_on_no_declaration(permit: &Permit) -> bool {
    matches!(permit.rule(), Rule::E3 | Rule::E4b | Rule::E4c | Rule::E5 | Rule::S1 | Rule::S2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// 05 §4.2: unreadable, unknown, stale: never a permit but own use (the patient's view does not ask declarations).
    #[test]
    fn what_cannot_be_relied_on_opens_nothing_of_others(case in any_case(), fault in 0..7) {
        let (subject, mut unit, operation, mut state) = case;
        let mut policy = policy();
        match fault {
            0 => state.unreadable = true,
            1 => state.freshness = Freshness::Missing,
            2 => state.freshness = Freshness::Unverifiable,
            3 => state.freshness = Freshness::ClockUnsafe,
            4 => state.freshness = Freshness::Snapshot { expires: now() },
            5 => policy = Policy { unreadable: true, ..policy },
            _ => unit.unreadable = true,
        }
        if let Decision::Permit(permit) = decided(&(subject, unit, operation, state), &policy) {
            prop_assert!(rests_on_no_declaration(&permit), "{permit:?}");
            prop_assert!(fault != 6 || !matches!(permit.rule(), Rule::E4b | Rule::E4c), "{permit:?}");
        }
    }

    /// A permit never outlives 300 s, nor the assertion and its skew.
    #[test]
    fn a_permit_is_bounded(case in any_case(), left in 0_i64..1000) {
        let (subject, unit, operation, state) = case;
        let mut claims = subject.claims().clone();
        claims.not_on_or_after = now() + SignedDuration::from_secs(left);
        let until = claims.not_on_or_after + SignedDuration::from_secs(60);
        let subject = Subject::verified(claims, Limits::default());
        if let Decision::Permit(permit) = decided(&(subject, unit.clone(), operation, state.clone()), &policy()) {
            prop_assert_eq!(permit.expires(), until.min(now() + SignedDuration::from_secs(300)));
            prop_assert_eq!(permit.store_version(), state.store_version);
            prop_assert_eq!(permit.unit(), Some(&unit.id));
            prop_assert!(permit.opens(&unit.id, operation, now()));
        }
    }

    /// Another denial never opens anything.
    #[test]
    fn a_further_denial_only_takes_away(case in any_case(), denied in select(DENIALS.to_vec())) {
        let before = decided(&case, &policy());
        let (subject, unit, operation, mut state) = case;
        apply(&mut state, denied);
        let after = decided(&(subject, unit, operation, state), &policy());
        prop_assert!(matches!(before, Decision::Permit(_)) || !matches!(after, Decision::Permit(_)), "{before:?} {after:?}");
    }

    /// 05 §8 rule 4: a refusal to read is the same for every patient state.
    #[test]
    fn a_refusal_to_read_does_not_depend_on_declarations(case in any_case(), other in any_state(), other_unit in select(UNITS.to_vec())) {
        let (subject, unit_, operation, state) = case;
        prop_assume!(operation != Operation::Store);
        let first = decided(&(subject.clone(), unit_, operation, state), &policy());
        let second = decided(&(subject, unit(other_unit), operation, other), &policy());
        let gate = |decision: &Decision| match decision { Decision::Refuse(gate) => Some(*gate), _ => None };
        prop_assert_eq!(gate(&first), gate(&second));
    }

    /// Emergency opens neither other patients, dead units, absolute denials, nor other kinds.
    #[test]
    fn emergency_never_opens_what_is_closed_for_good(unit_name in select(UNITS.to_vec()), requester in select(vec!["RA2", "RB3", "RP3", "RC2"]), state in any_state()) {
        let case = (subject(requester, "e"), unit(unit_name), Operation::Retrieve, state);
        if let Decision::Permit(permit) = decided(&case, &policy()) {
            prop_assert_eq!(&case.1.patient, &patient(1));
            prop_assert!(!matches!(case.1.status, Status::Invalidated | Status::Rejected | Status::Erased));
            if let Basis::Emergency { overridden_denials } = permit.basis() {
                let allowing = |id: &String| case.3.denials.iter().any(|denial| denial.id == *id && denial.emergency_allowed);
                prop_assert!(overridden_denials.iter().all(allowing));
                prop_assert_eq!(permit.logs(), &[LogKind::U, LogKind::D, LogKind::S, LogKind::N]);
            }
        }
    }

    /// Storing never depends on consents or denials, nor on how fresh they are.
    #[test]
    fn storing_never_depends_on_the_patients_declarations(requester in select(vec!["TA", "TP"]), unit_name in select(UNITS.to_vec()), state in any_state()) {
        let mut bare = state.clone();
        bare.denials.clear();
        bare.consents.clear();
        bare.informed = Informed::None;
        bare.freshness = Freshness::Missing;
        let decide = |state| decided(&(subject(requester, "a"), unit(unit_name), Operation::Store, state), &policy());
        prop_assert_eq!(decide(state).rule_id(), decide(bare).rule_id());
    }
}

//! Edges that the golden cases do not reach.

use super::fixtures::*;
use crate::access::*;
use idr_ihe::metadata::PatientId;
use jiff::SignedDuration;
use jiff::civil::date;

fn rule(decision: &Decision) -> &'static str {
    decision.rule_id()
}

fn with(claims: Claims, state: &PatientState, unit: &AccessUnit, policy: &Policy, operation: Operation) -> Decision {
    decide(&Subject::verified(claims, Limits::default()), &request(operation), Some(unit), state, policy, now())
}

fn search(claims: Claims, state: &PatientState, unit: &AccessUnit) -> Decision {
    with(claims, state, unit, &policy(), Operation::Search)
}

#[test]
fn an_alias_is_the_same_patient() {
    let alias = PatientId { id: "tmp.1".to_owned(), authority: "1.2.246.10.90000011.22.2025".to_owned() };
    let mut state = state("P2");
    let named = Request { operation: Operation::Search, patient: Some(alias.clone()) };
    let decision = |state: &PatientState| decide(&subject("RA2", "n"), &named, Some(&unit("EC2")), state, &policy(), now());
    assert_eq!(rule(&decision(&state)), "G3");
    state.ids.push(alias.clone());
    assert_eq!(rule(&decision(&state)), "E12");
    let mut claims = claims("RA2", "n");
    claims.patient = Some(alias);
    assert_eq!(rule(&search(claims, &state, &unit("EC2"))), "E12");
}

#[test]
fn declarations_of_another_patient_open_nothing() {
    let mut state = state("P2");
    state.ids = vec![patient(9)];
    assert_eq!(rule(&search(claims("RA2", "n"), &state, &unit("EC2"))), "E6");
    assert_eq!(rule(&search(claims("RA2", "n"), &state, &unit("EA2"))), "E5");
    state.birth_date = Some(date(2017, 1, 1));
    assert_eq!(rule(&search(claims("GU", "v"), &state, &unit("EM1"))), "E4b");
    assert!(matches!(search(claims("GU", "v"), &state, &unit("EM1")), Decision::Omit(_)));
}

#[test]
fn a_patient_is_a_minor_until_the_birthday() {
    let guardian = |birth_date| {
        let mut state = state("P0");
        state.birth_date = birth_date;
        matches!(search(claims("GU", "v"), &state, &unit("EM1")), Decision::Permit(_))
    };
    assert!(guardian(Some(date(2007, 6, 16))));
    assert!(!guardian(Some(date(2007, 6, 15))));
    assert!(!guardian(None));
}

#[test]
fn the_patients_view_may_be_made_to_begin_at_an_age() {
    let mut policy = policy();
    policy.citizen.min_age = 15;
    let seen = |birth_date| {
        let mut state = state("P0");
        state.birth_date = birth_date;
        matches!(with(claims("CZ", "v"), &state, &unit("EC2"), &policy, Operation::Search), Decision::Permit(_))
    };
    assert!(seen(Some(date(2010, 6, 15))));
    assert!(!seen(Some(date(2010, 6, 16))));
    assert!(!seen(None));
}

#[test]
fn a_representation_is_a_guardians_and_fresh() {
    let mut state = state("P0");
    apply(&mut state, "age8");
    let with = |change: &dyn Fn(&mut Representation)| {
        let mut claims = claims("GU", "v");
        change(claims.representation.as_mut().expect("asserted"));
        matches!(search(claims, &state, &unit("EM1")), Decision::Permit(_))
    };
    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    assert!(with(&|r| r.checked = at(-3600)));
    assert!(!with(&|r| r.checked = at(-3601)));
    assert!(with(&|r| r.checked = at(60)));
    assert!(!with(&|r| r.checked = at(61)));
    assert!(!with(&|r| r.code = "MANDATE".to_owned()));
}

#[test]
fn a_guardian_of_a_protected_patient_is_not_told_where() {
    let mut state = state("P0");
    apply(&mut state, "age8");
    state.labels.push("TURVAKIELTO".to_owned());
    let withheld = |name, purpose, unit_name: &str| match search(claims(name, purpose), &state, &unit(unit_name)) {
        Decision::Permit(permit) => permit.withholds_location(),
        other => panic!("{other:?}"),
    };
    assert!(withheld("GU", "v", "EM1"));
    assert!(!withheld("CZ", "v", "EM1"));
    assert!(!withheld("RA2", "n", "EA2"));
}

#[test]
fn care_evidence_is_of_the_requesters_controller() {
    let decided = |event: Option<&str>, reason: bool, policy: &Policy| {
        let mut claims = claims("RA2", "n");
        claims.service_event = event.map(str::to_owned);
        claims.care_reason = reason.then(|| claims.role.clone());
        with(claims, &state("P2"), &unit("EC2"), policy, Operation::Search).rule_id()
    };
    let policy = policy();
    assert_eq!(decided(Some("1.2.246.10.90000011.14.2025.7"), false, &policy), "E12");
    assert_eq!(decided(Some("1.2.246.10.90000118.14.2025.7"), false, &policy), "G5");
    assert_eq!(decided(Some("1.2.246.10.90000118.14.2025.7"), true, &policy), "G5");
    assert_eq!(decided(Some("1.2.246.10.90000011.15.2025.7"), false, &policy), "G5");
    assert_eq!(decided(None, true, &policy), "E12");
    assert_eq!(decided(None, false, &policy), "G5");

    let known = Policy { care: CarePolicy { verify: CareVerification::Known }, ..policy };
    assert_eq!(decided(Some("1.2.246.10.90000011.14.2025.7"), false, &known), "G5");
    let mut state = state("P2");
    let event = KnownEvent { controller: A.to_owned(), start: None, end: None };
    state.service_events.insert("1.2.246.10.90000011.14.2025.100".to_owned(), event);
    assert_eq!(rule(&with(claims("RA2", "n"), &state, &unit("EC2"), &known, Operation::Search)), "E12");
}

#[test]
fn an_emergency_text_has_ten_to_five_hundred_characters() {
    for (length, expected) in [(9, "G5"), (10, "E9"), (500, "E9"), (501, "G5")] {
        let mut claims = claims("RA2", "e");
        claims.emergency_text = Some("ä".repeat(length));
        assert_eq!(rule(&search(claims, &state("P2"), &unit("EC2"))), expected, "{length}");
    }
}

#[test]
fn an_expired_assertion_starts_nothing() {
    let at = |seconds| {
        let mut claims = claims("RA2", "n");
        claims.not_on_or_after = now() - SignedDuration::from_secs(seconds);
        rule(&search(claims, &state("P2"), &unit("EA2")))
    };
    assert_eq!((at(59), at(60)), ("E5", "G1"));
}

#[test]
fn data_of_an_unknown_date_is_within_every_denials_period() {
    let unit = AccessUnit { date: None, ..unit("EC2") };
    let mut state = state("P2");
    apply(&mut state, "D17");
    assert_eq!(rule(&search(claims("RA2", "n"), &state, &unit)), "E8a");
}

#[test]
fn a_unit_that_names_no_event_is_hit_within_the_period_and_a_day() {
    let mut state = state("P2");
    apply(&mut state, "D11");
    let on = |day| rule(&search(claims("RA2", "n"), &state, &AccessUnit { date: Some(day), ..unit("EC2N") }));
    assert_eq!([on(date(2025, 1, 30)), on(date(2025, 1, 31))], ["E12", "E8a"]);
    assert_eq!([on(date(2025, 2, 2)), on(date(2025, 2, 3))], ["E8a", "E12"]);
}

#[test]
fn unknown_attributes_miss_if_the_policy_says_so() {
    let mut policy = policy();
    policy.denial.unknown_attribute = UnknownAttribute::Miss;
    for (denial, unit_name) in [("D7", "EC2U"), ("D21", "EC2N")] {
        let mut state = state("P2");
        apply(&mut state, denial);
        assert_eq!(rule(&with(claims("RA2", "n"), &state, &unit(unit_name), &policy, Operation::Search)), "E12");
    }
}

#[test]
fn a_denial_of_another_controllers_unit_leaves_units_without_one_alone() {
    let mut state = state("P2");
    apply(&mut state, "D7");
    let unit = AccessUnit { unit: None, ..unit("EB3") };
    assert_eq!(rule(&search(claims("RA2", "n"), &state, &unit)), "E12");
}

#[test]
fn an_emergency_may_be_made_to_need_informing_and_consent() {
    let mut policy = policy();
    policy.emergency.requires_informing = true;
    policy.emergency.requires_consent = true;
    for (patient, expected) in [("P0", "E10"), ("P1", "E11"), ("P2", "E9")] {
        assert_eq!(rule(&with(claims("RA2", "e"), &state(patient), &unit("EC2"), &policy, Operation::Search)), expected);
    }
}

#[test]
fn denials_may_be_made_to_bite_the_producer() {
    let mut policy = policy();
    policy.outsourced.denial_bites = true;
    let mut state = state("P2");
    apply(&mut state, "O1");
    assert_eq!(rule(&with(claims("RP3", "n"), &state, &unit("EA2"), &policy, Operation::Search)), "E7");
    apply(&mut state, "D14");
    assert_eq!(rule(&with(claims("RP3", "n"), &state, &unit("EA2"), &policy, Operation::Search)), "E8a");
}

#[test]
fn an_expired_snapshot_may_be_made_to_serve_emergencies_only() {
    let mut policy = policy();
    policy.offline.emergency_after_expiry = true;
    let mut state = state("P2");
    apply(&mut state, "snap-expired");
    assert_eq!(rule(&with(claims("RA2", "e"), &state, &unit("EC2"), &policy, Operation::Search)), "E9");
    assert_eq!(rule(&with(claims("RA2", "n"), &state, &unit("EC2"), &policy, Operation::Search)), "E6");
    state.freshness = Freshness::Unverifiable;
    assert_eq!(rule(&with(claims("RA2", "e"), &state, &unit("EC2"), &policy, Operation::Search)), "E6");
}

#[test]
fn a_node_that_lost_the_store_for_five_seconds_omits() {
    let at = |seconds: i64| {
        let mut state = state("P2");
        state.freshness = Freshness::Store { confirmed: now() + SignedDuration::from_secs(seconds) };
        rule(&search(claims("RA2", "n"), &state, &unit("EC2")))
    };
    assert_eq!([at(-5), at(-6), at(5), at(6)], ["E12", "E6", "E12", "E6"]);
}

#[test]
fn after_a_merge_an_authorisation_covers_what_stands_under_its_own_id() {
    let mut state = state("P0");
    state.ids.push(patient(9));
    apply(&mut state, "O1");
    let moved = AccessUnit { recorded_under: Some(patient(9)), ..unit("EA2") };
    assert_eq!(rule(&search(claims("RP3", "n"), &state, &unit("EA2"))), "E7");
    assert_eq!(rule(&search(claims("RP3", "n"), &state, &moved)), "E10");
}

#[test]
fn a_submission_of_another_patient_is_refused() {
    assert_eq!(decided("TA", "a", "P0", "", "EA2", Operation::Store).rule_id(), "S1");
    let unit = AccessUnit { patient: patient(9), ..unit("EA2") };
    assert_eq!(with(claims("TA", "a"), &state("P0"), &unit, &policy(), Operation::Store), Decision::Refuse(Gate::G3));
}

#[test]
fn a_storage_authorisation_with_the_same_entry_twice_says_nothing() {
    let mut state = state("P0");
    apply(&mut state, "O5");
    assert_eq!(rule(&with(claims("TP", "a"), &state, &unit("EPA"), &policy(), Operation::Store)), "S2");
    let twice = state.authorisations[0].storage[0].clone();
    state.authorisations[0].storage.push(twice);
    assert_eq!(with(claims("TP", "a"), &state, &unit("EPA"), &policy(), Operation::Store), Decision::Refuse(Gate::S3));
}

#[test]
fn a_submission_without_slots_is_of_the_assertion_or_of_its_authorisation() {
    let mut state = state("P0");
    apply(&mut state, "O5");
    let own = stored_under(&claims("TP", "a"), &state).expect("own");
    assert_eq!((own.controller.as_str(), own.register.as_str()), (P, "3"));

    let mut claims = claims("TP", "a");
    claims.outsourced_authorisation = Some("O5".to_owned());
    let organisers = stored_under(&claims, &state).expect("one entry");
    assert_eq!((organisers.controller.as_str(), organisers.register.as_str()), (A, "2"));

    state.authorisations[0].storage.push(RegisterEntry { register: "4".to_owned(), specifier: Some(specifier(X)) });
    assert_eq!(stored_under(&claims, &state), None, "two entries, none of the assertion's register");
    claims.register = Some("2".to_owned());
    assert_eq!(stored_under(&claims, &state).map(|s| s.register), Some("2".to_owned()));
    claims.outsourced_authorisation = Some("O9".to_owned());
    assert_eq!(stored_under(&claims, &state), None);
}

#[test]
fn reconciliation_of_many_patients_names_none() {
    let mut claims = claims("TA", "a");
    claims.patient = None;
    let subject = Subject::verified(claims, Limits::default());
    let state = PatientState::nobody(Freshness::Missing, 1);
    let decided = |patient, name: &str| {
        decide(&subject, &Request { operation: Operation::Reconcile, patient }, Some(&unit(name)), &state, &policy(), now()).rule_id()
    };
    assert_eq!(decided(None, "EA2"), "E3");
    assert!(matches!(
        decide(&subject, &Request { operation: Operation::Reconcile, patient: None }, Some(&unit("EC2")), &state, &policy(), now()),
        Decision::Omit(Rule::E3)
    ));
    assert_eq!(decided(Some(patient(1)), "EA2"), "G3");
}

#[test]
fn operations_with_and_without_units_are_not_mixed_up() {
    let without = decide(&subject("RA2", "n"), &request(Operation::Search), None, &state("P2"), &policy(), now());
    assert_eq!(without, Decision::Omit(Rule::E1));
    assert_eq!(decided("CZ", "v", "P2", "", "EA2", Operation::Explain), Decision::Omit(Rule::E1));
    assert_eq!(decided("RA2", "n", "P2", "", "EC2", Operation::Events).rule_id(), "E12");
}

#[test]
fn a_missing_or_empty_register_is_refused() {
    for change in [
        (|c: &mut Claims| c.controller = None) as fn(&mut Claims),
        |c| c.register = None,
        |c| c.controller = Some(String::new()),
        |c| c.register = Some(String::new()),
    ] {
        let mut claims = claims("TA", "a");
        change(&mut claims);
        assert_eq!(with(claims, &state("P0"), &unit("EA2"), &policy(), Operation::Store), Decision::Refuse(Gate::G4));
    }
}

#[test]
fn every_refusal_has_its_code() {
    let codes = [Gate::G1, Gate::G2, Gate::G3, Gate::G4, Gate::G5, Gate::S3].map(Gate::code);
    assert_eq!(codes, ["IDR-X-15", "IDR-X-25", "IDR-X-26", "IDR-X-22", "IDR-X-27", "IDR-X-24"]);
}

#[test]
fn claims_and_states_are_read_back_as_written() {
    let mut state = state("P2");
    apply(&mut state, "D1 D3 D6 D7 D9 D11 O1 O6");
    let text = serde_json::to_string(&state).expect("json");
    assert_eq!(serde_json::from_str::<PatientState>(&text).expect("read back"), state);
    let claims = claims("GU", "v");
    let text = serde_json::to_string(&claims).expect("json");
    assert_eq!(serde_json::from_str::<Claims>(&text).expect("read back"), claims);
    assert!(!format!("{claims:?}").contains("Testi"));
}

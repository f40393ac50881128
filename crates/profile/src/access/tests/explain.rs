//! The trace.

use super::fixtures::*;
use crate::access::*;

fn explained(requester: &str, purpose: &str, patient: &str, context: &str, unit_name: &str) -> Explanation {
    let mut state = state(patient);
    apply(&mut state, context);
    explain(&claims(requester, purpose), Limits::default(), &request(Operation::Search), Some(&unit(unit_name)), &state, &policy(), now())
}

fn fired(explanation: &Explanation) -> Vec<&str> {
    explanation.trace.iter().map(|step| step.rule).collect()
}

fn would(explanation: &Explanation) -> Vec<(&str, &str)> {
    explanation.would_change.iter().map(|change| (change.fact.as_str(), change.then.as_str())).collect()
}

#[test]
fn the_trace_lists_the_rules_in_order_up_to_the_one_that_fired() {
    let e = explained("RA2", "n", "P2", "D8", "EC2");
    assert_eq!(fired(&e), ["G1", "G2", "G3", "G4", "G5", "E1", "E2", "E5", "E6", "E7", "E8a", "E8b"]);
    assert_eq!((e.decision, e.rule, e.basis), (Outcome::Omit, "E8b", None));
    let last = e.trace.last().expect("a trace");
    assert_eq!((last.result, last.why.as_str()), (StepResult::Fired, "denial D8 of 2024-05-01 allows emergency use only"));
    assert_eq!(
        would(&e),
        [
            ("denial D8 ended", "permit E12"),
            ("purpose = emergency", "permit E9+E8c"),
            ("authorisation of the unit's controller", "permit E7"),
        ]
    );
}

#[test]
fn a_denial_of_a_linked_person_is_told_without_its_name_and_day() {
    let mut state = state("P2");
    apply(&mut state, "D8");
    state.linked_denials = state.denials.iter().map(|denial| denial.id.clone()).collect();
    let requester = claims("RA2", "n");
    let e = explain(&requester, Limits::default(), &request(Operation::Search), Some(&unit("EC2")), &state, &policy(), now());
    let last = e.trace.last().expect("a trace");
    assert_eq!((last.rule, last.why.as_str()), ("E8b", "a denial of the link set allows emergency use only"));
    assert_eq!(would(&e)[0], ("a denial of the link set ended", "permit E12"));
    assert!(!format!("{e:?}").contains("D8"), "{e:?}");
}

#[test]
fn a_permit_needs_nothing_changed() {
    let e = explained("RA2", "e", "P2", "D8", "EC2");
    assert_eq!((e.decision, e.rule, e.basis), (Outcome::Permit, "E9+E8c", Some("emergency")));
    assert!(e.trace.iter().any(|step| step.rule == "E8c" && step.result == StepResult::Noted));
    assert_eq!(would(&e), []);
}

#[test]
fn nothing_is_listed_that_is_not_enough_alone() {
    assert_eq!(
        would(&explained("RA2", "n", "P0", "", "EC2")),
        [("purpose = emergency", "permit E9"), ("authorisation of the unit's controller", "permit E7"),]
    );
    assert_eq!(would(&explained("RA2", "e", "P2", "D1 D3", "EC2")), [("authorisation of the unit's controller", "permit E7")]);
    assert_eq!(
        would(&explained("RB4Y", "n", "P1", "", "EB4X"))[..3],
        [("consent active", "permit E12"), ("purpose = emergency", "permit E9"), ("specifier = the unit's", "permit E5"),]
    );
    assert_eq!(would(&explained("CZ", "v", "P0", "", "EC2D")), [("no release date", "permit E4c")]);
    assert_eq!(would(&explained("GU", "v", "P0", "age8", "EM4")), [("minor code 1", "permit E4b"), ("minor code 2", "permit E4b")]);
    assert_eq!(would(&explained("CZ", "v", "P0", "", "EC2I")), [("status = active", "permit E4c")]);
    assert_eq!(would(&explained("RA2", "n", "P2", "", "EX2")), []);
}

#[test]
fn every_trace_ends_with_the_rule_of_the_decision() {
    for unit_name in ["EA2", "EA4X", "EB3", "EB4X", "EC2", "EC2W", "EC2U", "EC2I", "EC2D", "EM1", "ECS", "EX2"] {
        for (requester, purpose) in [("RA2", "n"), ("RA2", "e"), ("RA2-care", "n"), ("RP3", "n"), ("CZ", "v"), ("GU", "v"), ("OP", "d")] {
            for context in ["", "D1", "D2", "D4 D11", "O1", "snap-expired"] {
                let e = explained(requester, purpose, "P2", context, unit_name);
                let mut state = state("P2");
                apply(&mut state, context);
                let decision =
                    decide(&subject(requester, purpose), &request(Operation::Search), Some(&unit(unit_name)), &state, &policy(), now());
                assert_eq!(e.rule, decision.rule_id());
                let last = e.trace.last().expect("a trace");
                assert_eq!((last.rule, last.result), (e.rule, StepResult::Fired), "{requester} {unit_name} {context}");
            }
        }
    }
}

#[test]
fn text_and_json_name_no_person() {
    let e = explained("RA2", "n", "P2", "D8", "EC2");
    let json = serde_json::to_value(&e).expect("json");
    assert_eq!(json["decision"], "omit");
    assert_eq!(json["trace"][7]["why"], "controller 1.2.246.10.90000118.19.0 is not the requester's");
    assert!(json["basis"].is_null());
    let text = e.to_string();
    assert!(text.contains("E8b    fired denial D8 of 2024-05-01 allows emergency use only\n"), "{text}");
    assert!(!text.contains(&patient(1).id) && !json.to_string().contains(&patient(1).id));
}

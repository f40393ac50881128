//! Cases in JSON: the documented examples, and the golden cases written so.

use super::fixtures::*;
use super::golden::{CASES as GOLDEN, operation};
use crate::access::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SHIPPED: &str = include_str!("../../../../../configs/rules/base/access.toml");
const EXAMPLES: &str = include_str!("../../../../../docs/examples/consent-decide.json");
const DOCUMENT: &str = include_str!("../../../../../docs/consent-decide.md");
const RULES: [&str; 26] = [
    "G", "G1", "G2", "G3", "G4", "G5", "E1", "E2", "E3", "E4a", "E4b", "E4c", "E5", "E6", "E7", "E8a", "E8b", "E9", "E9+E8c", "E10", "E11",
    "E12", "S1", "S2", "S3", "S4",
];

fn examples() -> Vec<Case> {
    CaseFile::read(EXAMPLES).expect("the examples are readable").cases
}

#[test]
fn every_documented_example_is_decided_as_it_says() {
    for case in examples() {
        let decided = case.decide(&[SHIPPED]).expect("a policy");
        assert!(case.expect.as_ref().is_some_and(|expected| expected.rule.is_some()), "{} expects nothing", case.id);
        assert_eq!(decided.as_expected, Some(true), "{}: {} by {}", case.id, json!(decided.decision), decided.rule);
        assert_eq!(decided.trace.last().map(|step| step.rule), Some(decided.rule), "{}", case.id);
    }
}

#[test]
fn every_rule_has_a_documented_example() {
    let shown: BTreeSet<String> = examples().into_iter().filter_map(|case| case.expect?.rule).collect();
    assert_eq!(shown, RULES.iter().map(|rule| (*rule).to_owned()).collect());
    for rule in RULES {
        assert!(DOCUMENT.contains(&format!("| {rule} |")), "docs/consent-decide.md has no row of {rule}");
    }
}

#[test]
fn the_golden_cases_written_as_json_are_decided_as_in_the_program() {
    let mut cases = Vec::new();
    for row in GOLDEN.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let &[id, requester, purpose, patient_name, context, unit_name, operation_name, decision, rule, _] = columns.as_slice() else {
            panic!("{row}")
        };
        let mut state = state(patient_name);
        apply(&mut state, context);
        cases.push(json!({
            "id": id,
            "subject": claims(requester, purpose),
            "operation": operation(operation_name),
            "patient": (patient_name != "–").then(|| patient(1)),
            "unit": (unit_name != "–").then(|| unit(unit_name)),
            "state": state,
            "now": now(),
            "policy": { "controller": [{ "id": A, "county": true }, { "id": C, "county": true }] },
            "expect": { "decision": decision, "rule": rule },
        }));
    }
    let file = CaseFile::read(&json!({ "format": CASE_FORMAT, "cases": cases }).to_string()).expect("readable");
    assert_eq!(file.cases.len(), 146);
    for case in &file.cases {
        let decided = case.decide(&[SHIPPED]).expect("a policy");
        assert_eq!(decided.as_expected, Some(true), "{}: {} by {}", case.id, json!(decided.decision), decided.rule);
    }
}

fn read(change: impl FnOnce(&mut Value)) -> Result<CaseFile, CaseError> {
    let mut file: Value = serde_json::from_str(EXAMPLES).expect("JSON");
    change(&mut file);
    CaseFile::read(&file.to_string())
}

#[test]
fn what_is_wrong_with_a_file_is_said_by_case_and_member_and_without_values() {
    let hetu = "010190-900P";
    let told = |change: fn(&mut Value)| read(change).expect_err("refused").to_string();
    assert_eq!(told(|f| f["format"] = json!("idr-decide/2")), "no file of cases: format is not idr-decide/1");
    assert_eq!(told(|f| f["cases"][1]["unti"] = json!({})), "case 2 (G2): unti: is no member of a case");
    assert_eq!(told(|f| drop(f["base"].as_object_mut().expect("an object").remove("now"))), "case 1 (G1): now: is missing");
    assert!(told(|f| f["base"]["subject"]["controler"] = json!("x")).starts_with("case 1 (G1): subject: unknown field"));
    let message = told(|f| f["base"]["state"]["store_version"] = json!("010190-900P"));
    assert!(message.starts_with("case 1 (G1): state: invalid type: string …") && !message.contains(hetu), "{message}");
    assert!(CaseFile::read("{").expect_err("no JSON").to_string().starts_with("no file of cases: line 1"));
    let wrong = read(|f| f["cases"] = json!([{ "id": "p", "policy": { "permit": { "seconds": 301 } } }])).expect("readable");
    let error = wrong.cases[0].decide(&[SHIPPED]).expect_err("no policy").to_string();
    assert_eq!(error, "case p: policy: access.toml: permit.seconds is 301, allowed is 1–300");
}

#[test]
fn null_removes_what_the_base_says_and_an_expectation_may_fail() {
    let file = read(|f| f["cases"] = json!([{ "id": "x", "subject": { "service_event": null }, "expect": { "decision": "permit" } }]));
    let case = &file.expect("readable").cases[0];
    assert_eq!(case.subject.service_event, None);
    let decided = case.decide(&[SHIPPED]).expect("a policy");
    assert_eq!((decided.rule, decided.code, decided.as_expected), ("G5", Some("IDR-X-27"), Some(false)));
}

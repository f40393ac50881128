//! The golden cases C001–C146 (profile 05 §11).

use super::fixtures::*;
use crate::access::*;

pub(super) const CASES: &str = include_str!("../../../../../configs/rules/base/access-cases.tsv");

pub(super) fn operation(name: &str) -> Operation {
    Operation::ALL.into_iter().find(|operation| operation.name() == name).unwrap_or_else(|| panic!("no operation {name}"))
}

/// The last column: what the caller sees, and what is logged.
fn shown_and_logged(decision: &Decision) -> String {
    let shown = match decision {
        Decision::Permit(permit) => match permit.operation() {
            Operation::Store | Operation::Correct | Operation::DeclWrite | Operation::Identity => "accepted",
            Operation::Explain => "trace",
            Operation::Ops => "technical data",
            Operation::AuditRead => "log rows",
            Operation::State => "state",
            _ => "entry",
        },
        Decision::Omit(_) => "nothing",
        Decision::Refuse(_) => "refusal",
    };
    let logs: Vec<String> = decision.logs().iter().map(|kind| format!("{kind:?}")).collect();
    format!("{shown} · {}", logs.join(" "))
}

/// Decision, rule, shown · logged: columns 8–10.
fn run(columns: &[&str]) -> [String; 3] {
    let &[_, requester, purpose, patient_name, context, unit_name, operation_name, ..] = columns else { panic!("{columns:?}") };
    let mut state = state(patient_name);
    apply(&mut state, context);
    let request = Request { operation: operation(operation_name), patient: (patient_name != "–").then(|| patient(1)) };
    let unit = (unit_name != "–").then(|| unit(unit_name));
    let decision = decide(&subject(requester, purpose), &request, unit.as_ref(), &state, &policy(), now());
    let name = match &decision {
        Decision::Permit(_) => "permit",
        Decision::Omit(_) => "omit",
        Decision::Refuse(_) => "refuse",
    };
    [name.to_owned(), decision.rule_id().to_owned(), shown_and_logged(&decision)]
}

#[test]
fn every_golden_case_is_decided_as_the_profile_says() {
    let rows: Vec<Vec<&str>> = CASES.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 146);
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| run(row).iter().map(String::as_str).ne(row[7..].iter().copied()))
        .map(|row| format!("{row:?}: {:?}", run(row)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_golden_cases_are_those_of_the_profile() {
    if let Some(table) = crate::testing::profile_table("05_11_1.tsv") {
        assert_eq!(CASES, table);
    }
}

/// 05 §4.1: each gate has the profile's code; G1's is the code of expiry, the only thing left of it after verification.
#[test]
fn the_gates_have_the_codes_of_the_profile() {
    let Some(table) = crate::testing::profile_table("05_4.1_1.tsv") else { return };
    for row in table.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>()) {
        let gate = [Gate::G1, Gate::G2, Gate::G3, Gate::G4, Gate::G5].into_iter().find(|gate| gate.id() == row[0]);
        let code = gate.unwrap_or_else(|| panic!("no gate {}", row[0])).code();
        assert!(row[2] == code || row[0] == "G1", "{row:?} {code}");
    }
}

/// 05 §4.2: the table names no rule that does not exist here.
#[test]
fn the_rules_have_the_ids_of_the_profile() {
    use Rule::*;
    let Some(table) = crate::testing::profile_table("05_4.2_1.tsv") else { return };
    let known = [E1, E2, E3, E4a, E4b, E4c, E5, E6, E7, E8a, E8b, E9, E10, E11, E12].map(Rule::id);
    let named = table.lines().skip(1).filter_map(|line| line.split('\t').next()).filter(|id| !matches!(*id, "–" | "E8c"));
    assert_eq!(named.collect::<Vec<_>>(), known);
}

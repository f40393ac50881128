//! From candidates to what may be told.

use super::fixtures::*;
use crate::access::*;
use idr_ihe::metadata::PatientId;
use jiff::SignedDuration;

fn candidates(units: &[&str]) -> Vec<Candidate<String>> {
    units.iter().map(|name| Candidate::new(unit(name), (*name).to_owned())).collect()
}

fn names(gated: &Gated<String>) -> Vec<&str> {
    gated.disclosed.iter().map(|d| d.payload().as_str()).collect()
}

fn gated(requester: &str, patient: &str, context: &str, units: &[&str]) -> Gated<String> {
    let mut state = state(patient);
    apply(&mut state, context);
    gate(&subject(requester, "n"), &request(Operation::Search), candidates(units), &state, &policy(), now()).expect("no gate refuses")
}

#[test]
fn only_permitted_candidates_are_disclosed_and_the_rest_is_told_to_the_audit() {
    let gated = gated("RA2", "P2", "D7", &["EA2", "EC2", "EC2W", "EX2", "EC2I"]);
    assert_eq!(names(&gated), ["EA2", "EC2W"]);
    let omitted: Vec<(String, &str)> = gated.omitted.iter().map(|o| (o.unit().id.to_string(), o.rule().id())).collect();
    assert_eq!(omitted, [("urn:unit:EC2".to_owned(), "E8a"), ("urn:unit:EX2".to_owned(), "E1"), ("urn:unit:EC2I".to_owned(), "E2")]);
    assert!(gated.disclosed.iter().all(|d| d.permit().opens(&d.unit().id, Operation::Search, now())));
}

#[test]
fn a_gate_refuses_the_same_whether_or_not_anything_was_found() {
    for units in [&["EA2", "EC2"][..], &[]] {
        let refused = gate(&subject("RA2-care", "n"), &request(Operation::Search), candidates(units), &state("P2"), &policy(), now());
        assert_eq!(refused.map(|_| ()), Err(Gate::G5));
    }
}

#[test]
fn what_a_denial_takes_away_is_gone_at_the_recheck() {
    let before = gated("RA2", "P2", "", &["EA2", "EC2"]);
    assert_eq!(names(&before), ["EA2", "EC2"]);
    let mut denied = state("P2");
    apply(&mut denied, "D3");
    denied.store_version += 1;
    assert!(!before.holds_at(denied.store_version));
    let after = before.recheck(&subject("RA2", "n"), &request(Operation::Search), &denied, &policy(), now()).expect("no gate refuses");
    assert_eq!(names(&after), ["EA2"]);
    assert_eq!(after.omitted.iter().map(|o| o.rule()).collect::<Vec<_>>(), [Rule::E8a]);
    assert!(after.holds_at(denied.store_version));
}

#[test]
fn a_running_answer_outlives_the_assertion_but_not_its_longest_time() {
    let permitted = gated("RA2", "P2", "", &["EC2"]).disclosed.pop().expect("permitted");
    let subject = subject("RA2", "n");
    let request = request(Operation::Search);
    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    let fresh = |seconds| PatientState { freshness: Freshness::Store { confirmed: at(seconds) }, ..state("P2") };
    assert_eq!(decide(&subject, &request, Some(&unit("EC2")), &fresh(3000), &policy(), at(3000)), Decision::Refuse(Gate::G1));

    let later = permitted.recheck(&subject, &request, unit("EC2"), &fresh(3000), &policy(), at(3000)).expect("still running");
    assert_eq!(later.permit().expires(), at(3300));
    let last = later.recheck(&subject, &request, unit("EC2"), &fresh(3599), &policy(), at(3599)).expect("still running");
    assert_eq!(last.permit().expires(), at(3600), "bounded by the operation's end");
    assert!(matches!(last.recheck(&subject, &request, unit("EC2"), &fresh(3600), &policy(), at(3600)), Err(Withdrawn::Refused(Gate::G1))));
}

#[test]
fn a_unit_that_is_invalidated_meanwhile_is_withdrawn() {
    let permitted = gated("RA2", "P2", "", &["EC2"]).disclosed.pop().expect("permitted");
    let invalidated = AccessUnit { status: Status::Invalidated, ..unit("EC2") };
    let result = permitted.recheck(&subject("RA2", "n"), &request(Operation::Search), invalidated, &state("P2"), &policy(), now());
    assert!(matches!(result, Err(Withdrawn::Omitted(record)) if record.rule() == Rule::E2));
}

#[test]
fn a_permit_opens_nothing_else() {
    let Decision::Permit(permit) = decided("RA2", "n", "P2", "", "EC2", Operation::Search) else { panic!("permitted") };
    let id = unit("EC2").id;
    assert!(permit.opens(&id, Operation::Search, now()));
    assert!(!permit.opens(&id, Operation::Retrieve, now()));
    assert!(!permit.opens(&unit("EC2W").id, Operation::Search, now()));
    assert!(!permit.opens(&id, Operation::Search, permit.expires()));
    let again = |name: &str, operation, unit_name: &str| {
        permit.recheck(&subject(name, "n"), &request(operation), Some(&unit(unit_name)), &state("P2"), &policy(), now())
    };
    assert!(matches!(again("RA2", Operation::Search, "EC2"), Decision::Permit(_)));
    assert_eq!(again("RA2", Operation::Retrieve, "EC2"), Decision::Omit(Rule::E1));
    assert_eq!(again("RA2", Operation::Search, "EC2W"), Decision::Omit(Rule::E1));
    let mut other = claims("RA2", "n");
    other.assertion_id = "_another".to_owned();
    let other = Subject::verified(other, Limits::default());
    let decision = permit.recheck(&other, &request(Operation::Search), Some(&unit("EC2")), &state("P2"), &policy(), now());
    assert_eq!(decision, Decision::Omit(Rule::E1));
}

#[test]
fn own_only_candidates_are_shown_in_own_use_only() {
    let candidates = vec![Candidate::own_only(unit("EA2"), "EA2".to_owned()), Candidate::own_only(unit("EC2"), "EC2".to_owned())];
    let gated = gate(&subject("RA2", "n"), &request(Operation::Retrieve), candidates, &state("P2"), &policy(), now()).expect("no refusal");
    assert_eq!(names(&gated), ["EA2"]);
    assert_eq!(gated.omitted.len(), 1);
}

#[test]
fn sets_folders_and_associations_follow_what_they_hold() {
    let gated = gated("RA2", "P2", "D7", &["EA2", "EC2", "EC2W"]);
    let key = |name: &str| format!("urn:unit:{name}");
    let dependents = vec![
        Dependent::new("membership of folder", Shown::All(vec!["set".to_owned(), "folder".to_owned()]), "membership of folder"),
        Dependent::new("set", Shown::Any(vec![key("EC2"), key("EA2")]), "set"),
        Dependent::new("folder", Shown::Any(vec![key("EC2W")]), "folder"),
        Dependent::new("hidden folder", Shown::Any(vec![key("EC2")]), "hidden folder"),
        Dependent::new("replacement", Shown::All(vec![key("EC2W"), key("EC2")]), "replacement"),
        Dependent::new("relation", Shown::All(vec![key("EC2W"), key("EA2")]), "relation"),
        Dependent::new("nothing", Shown::All(vec![]), "nothing"),
        Dependent::new("empty", Shown::Any(vec![]), "empty"),
        Dependent::new("itself", Shown::Any(vec!["itself".to_owned()]), "itself"),
    ];
    let shown: Vec<&str> = gated.dependents(dependents).iter().map(|d| *d.payload()).collect();
    assert_eq!(shown, ["membership of folder", "set", "folder", "relation"]);
}

#[test]
fn what_joins_an_own_thing_to_a_disclosed_one_is_a_disclosure() {
    let gated = gated("RA2", "P2", "", &["EA2", "EC2"]);
    let (own, other) = ("urn:unit:EA2".to_owned(), "urn:unit:EC2".to_owned());
    let dependents = vec![
        Dependent::new("to", Shown::All(vec![own.clone(), other.clone()]), "to"),
        Dependent::new("from", Shown::All(vec![other, own.clone()]), "from"),
        Dependent::new("own", Shown::All(vec![own.clone(), own]), "own"),
    ];
    let shown = gated.dependents(dependents);
    let bases: Vec<&Basis> = shown.iter().map(|d| d.permit().basis()).collect();
    assert_eq!(bases, [&Basis::Disclosure, &Basis::Disclosure, &Basis::Own]);
}

#[test]
fn what_is_disclosed_is_not_printed() {
    let disclosed = gated("RA2", "P2", "", &["EC2"]).disclosed;
    let printed = format!("{disclosed:?} {:?}", state("P2"));
    let PatientId { id, .. } = patient(1);
    assert!(!printed.contains(&id) && !printed.contains("\"EC2\""), "{printed}");
}

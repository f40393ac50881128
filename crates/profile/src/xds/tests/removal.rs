//! Removals: the state that is left must hold together, and another's objects are unknown.

use std::collections::HashMap;

use super::super::*;
use super::support::{APND, HAS_MEMBER, Node, RPLC, rules};
use idr_ihe::ebxml::rim::ObjectRef;
use idr_ihe::transaction::iti_62::RemoveObjectsRequest;

const NONE: Vec<&str> = Vec::new();

fn request(ids: &[&str]) -> RemoveObjectsRequest {
    let references = ids.iter().map(|id| ObjectRef { id: Some((*id).to_owned()), home: None }).collect();
    RemoveObjectsRequest { references: Some(references), ..RemoveObjectsRequest::default() }
}

/// Set `s1` with entry `e1`; set `s2` with entry `e2`, which replaces `e1`; set `s3` with entry `e3`, appended to `e2`.
fn registry(change: impl FnOnce(&mut HashMap<String, Removable>)) -> RemovalView {
    let tie = |id: &str, kind: &str, source: &str, target: &str| Tie {
        id: id.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
    };
    let ties = vec![
        tie("m1", HAS_MEMBER, "s1", "e1"),
        tie("m2", HAS_MEMBER, "s2", "e2"),
        tie("m3", HAS_MEMBER, "s3", "e3"),
        tie("r", RPLC, "e2", "e1"),
        tie("a", APND, "e3", "e2"),
    ];
    let own = Removable { correctable: true, ..Removable::default() };
    let mut objects: HashMap<String, Removable> =
        ["e2", "e3", "m1", "m2", "m3", "r", "a"].into_iter().map(|id| (id.to_owned(), own)).collect();
    objects.insert("e1".to_owned(), Removable { deprecated: true, ..own });
    objects.extend(["s1", "s2", "s3"].map(|id| (id.to_owned(), Removable { is_set: true, ..own })));
    change(&mut objects);
    RemovalView::new(objects, ties)
}

fn judged(ids: &[&str]) -> Vec<String> {
    let node = Node::default();
    let request = request(ids);
    assert_eq!(rules(&node.rules.judge_removal_request(&node.errors, &request)), NONE);
    let findings = node.rules.judge_removal(&node.errors, &request, &registry(|_| {}));
    let mut found: Vec<String> = rules(&findings).into_iter().map(str::to_owned).collect();
    found.dedup();
    found
}

#[test]
fn a_request_names_each_object_once_and_nothing_else() {
    let node = Node::default();
    let found = |request: &RemoveObjectsRequest| {
        let findings = node.rules.judge_removal_request(&node.errors, request);
        rules(&findings).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found(&RemoveObjectsRequest { has_query: true, ..request(&["a"]) }), ["M-701"]);
    assert_eq!(found(&RemoveObjectsRequest { has_deletion_scope: true, ..request(&["a"]) }), ["M-701"]);
    assert_eq!(found(&RemoveObjectsRequest::default()), ["M-702"]);
    assert_eq!(found(&request(&[""])), ["M-702"]);
    assert_eq!(found(&request(&["a", "b", "a"])), ["M-707"]);
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(found(&request(&many)), ["M-048"]);
}

#[test]
fn what_stays_refers_to_nothing_that_goes_and_is_not_left_alone() {
    assert_eq!(judged(&["s3", "m3", "e3", "a"]), NONE, "the newest submission whole");
    assert_eq!(judged(&["s1", "m1", "e1", "r", "s2", "m2", "e2", "a", "s3", "m3", "e3"]), NONE, "all of it");
    assert_eq!(judged(&["s1", "m1", "e1"]), ["M-704"], "the replacement refers to it");
    assert_eq!(judged(&["s1", "m1", "e1", "r"]), NONE);
    assert_eq!(judged(&["s3"]), ["M-704"]);
    assert_eq!(judged(&["m3"]), ["M-705"], "an empty set and an entry without one");
    assert_eq!(judged(&["m3", "e3", "a"]), ["M-705"], "an empty set");
    assert_eq!(judged(&["s3", "m3"]), ["M-705"], "an entry without a set");
    assert_eq!(judged(&["r"]), NONE, "an association alone");
    assert_eq!(judged(&["r", "s2", "m2", "e2", "a", "s3", "m3", "e3"]), ["M-706"]);
}

#[test]
fn an_object_of_another_is_unknown_and_nothing_more_is_told_of_it() {
    assert_eq!(judged(&["x"]), ["M-703"]);
    let node = Node::default();
    let hidden = registry(|objects| objects.values_mut().for_each(|object| object.correctable = false));
    let findings = node.rules.judge_removal(&node.errors, &request(&["s3"]), &hidden);
    assert_eq!(rules(&findings), ["M-703"]);
    assert_eq!(findings.problems[0].code_context(), "IDR-M-703 UnresolvedReferenceException obj=s3 ref=s3: object is unknown");
}

#[test]
fn a_document_is_removed_if_it_is_the_callers_and_nobody_needs_it() {
    let node = Node::default();
    let document = |correctable, needed| RemovableDocument { unique_id: "1.2.3".to_owned(), correctable, needed };
    let found = |document: RemovableDocument| {
        let findings = node.rules.judge_documents_removal(&node.errors, &[document]);
        findings.problems.iter().map(|problem| format!("{} {}", problem.rule, problem.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(found(document(true, false)), Vec::<String>::new());
    assert_eq!(found(document(false, true)), ["M-710 XDSDocumentUniqueIdError"]);
    assert_eq!(found(document(true, true)), ["M-711 XDSRemoveDocumentsError"]);
}

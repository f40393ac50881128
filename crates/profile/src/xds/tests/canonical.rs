//! Canonical content: equal for what is the same submission, different for what is not.

use super::super::*;
use super::support::*;
use idr_ihe::metadata::{AvailabilityStatus, Submission};

fn digest(submission: &Submission) -> [u8; 32] {
    of(submission, SubmitTransaction::Iti41, &[report_document()])
}

fn of(submission: &Submission, transaction: SubmitTransaction, documents: &[Document]) -> [u8; 32] {
    let list = list(submission);
    canonical_digest(&Message::new(transaction, Some(&list)), documents)
}

/// Gives every object another id.
fn renamed(submission: &Submission) -> (Submission, Document) {
    let text = serde_json::to_string(submission).expect("metadata has a JSON form").replace("-8000-0000000000", "-8000-1111111111");
    let document = Document::of(Some(&ENTRY.replace("-8000-0000000000", "-8000-1111111111")), DOCUMENT, false);
    (serde_json::from_str(&text).expect("it is read back"), document)
}

#[test]
fn ids_order_and_what_the_registry_adds_do_not_count() {
    let original = digest(&report());
    let (submission, document) = renamed(&report());
    assert_eq!(of(&submission, SubmitTransaction::Iti41, &[document]), original);

    let mut shuffled = report();
    shuffled.associations.reverse();
    assert_eq!(digest(&shuffled), original);

    let mut added = report();
    let entry = &mut added.entries[0];
    entry.hash = None;
    entry.size = None;
    entry.repository_unique_id = Some("1.2.3".to_owned());
    entry.status = Some(AvailabilityStatus::Approved);
    entry.logical_id = Some(ENTRY.to_owned());
    assert_eq!(digest(&added), original);
}

#[test]
fn every_other_change_counts() {
    let original = digest(&report());
    let changes: [fn(&mut Submission); 8] = [
        |submission| submission.entries[0].title = None,
        |submission| submission.entries[0].class_code = None,
        |submission| submission.entries[0].extra.push(("urn:x-test:a".to_owned(), vec!["x".to_owned()])),
        |submission| submission.submission_sets[0].source_id = "1.2.3".to_owned(),
        |submission| submission.folders[0].title = Some("Other".to_owned()),
        |submission| drop(submission.associations.pop()),
        |submission| submission.associations[0].target = REGISTERED.to_owned(),
        |submission| submission.associations[0].slots[0].1[0] = "Reference".to_owned(),
    ];
    let mut seen = std::collections::BTreeSet::from([original]);
    for change in changes {
        let mut submission = report();
        change(&mut submission);
        assert!(seen.insert(digest(&submission)));
    }
    let other_document = Document::of(Some(ENTRY), b"another report", false);
    assert!(seen.insert(of(&report(), SubmitTransaction::Iti41, &[other_document])));
    assert!(seen.insert(of(&report(), SubmitTransaction::Iti42, &[])));
    let mut size = report();
    size.entries[0].size = Some(u64::MAX >> 1);
    assert!(seen.insert(of(&size, SubmitTransaction::Iti42, &[])));
}

#[test]
fn the_form_is_kept_for_ever() {
    // A stored digest must mean the same after an upgrade. If this fails, the form has changed: give it a new name.
    assert_eq!(hex::encode(digest(&report())), "21c9ba9d55df2fc208007b3e606a98bb8c32c734b0302037171d4e32af5f67aa");
}

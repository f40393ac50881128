//! codeContext: the grammar of 09 §2 holds whatever was sent, and what we write we can read.

use super::super::*;
use super::support::*;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = Key> {
    proptest::sample::select(Key::ALL.to_vec())
}

proptest! {
    #[test]
    fn any_value_keeps_the_grammar(keys in proptest::collection::vec((key(), ".{0,300}"), 0..15)) {
        let problem = RegistryProblem {
            rule: "M-140".to_owned(),
            error_code: "XDSUnknownPatientId".to_owned(),
            severity: idr_ihe::transaction::registry_response::Severity::Error,
            keys: keys.clone(),
            text: "patient is unknown".to_owned(),
            location: None,
        };
        let text = problem.code_context();
        prop_assert!(text.len() <= 512 && text.is_ascii());
        let read = CodeContext::parse(&text);
        prop_assert!(read.is_some(), "{text}");
        let read = read.expect("it was just seen");
        prop_assert_eq!((read.rule.as_str(), read.error_code.as_str(), read.text.as_str()), ("M-140", "XDSUnknownPatientId", "patient is unknown"));
        // Keys keep their order; short values come back as sent.
        let mut sent = keys.iter();
        for (key, value) in &read.keys {
            let matched = sent.any(|(sent_key, sent_value)| {
                sent_key == key && (sent_value == value || sent_value.starts_with(value.trim_end_matches('\u{fffd}').trim_end_matches(':')))
            });
            prop_assert!(matched, "{:?}", key);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,600}") {
        let _ = CodeContext::parse(&text);
    }
}

#[test]
fn contexts_of_other_systems_are_not_taken_for_ours() {
    for text in [
        "",
        "Patient not known",
        "IDR-M-140: x",
        "IDR-M-1 Code: x",
        "IDR-M-140 Code key=1: x",
        "IDR-M-140 Code val=a b: x",
        "IDR-M-140 Code val=%zz: x",
        "IDR-M-140 Code val=: x",
    ] {
        assert_eq!(CodeContext::parse(text), None, "{text}");
    }
}

#[test]
fn a_national_code_comes_first() {
    let table = include_str!("../../../../../configs/rules/base/errors.toml").replace("[national]\n", "[national]\n\"M-140\" = \"X17\"\n");
    let node = Node { errors: Errors::load(&table).expect("loads"), ..Node::default() };
    let mut view = view();
    view.patients.clear();
    let StateVerdict::Refuse(findings) = node.state(SubmitTransaction::Iti41, &list(&report()), &[report_document()], &view) else {
        panic!("an unknown patient is refused")
    };
    assert!(findings.problems[0].code_context().starts_with("IDR-M-140 XDSUnknownPatientId nat=X17 pid="));
}

#[test]
fn the_operator_reads_a_sentence_with_what_was_wrong() {
    let errors = Errors::shipped();
    let sentence = |text: &str| errors.operator_sentence(&CodeContext::parse(text).expect("ours"));
    assert_eq!(
        sentence("IDR-M-404 XDSRepositoryMetadataError obj=urn:uuid:1 attr=size: size does not match the document").as_deref(),
        Some("Document does not match its metadata: size.")
    );
    assert_eq!(
        sentence("IDR-M-106 XDSRegistryMetadataError obj=a slot=languageCode: required slot is missing").as_deref(),
        Some("Metadata refused: languageCode: required slot is missing. Correct the map or the affinity domain file, then release.")
    );
    assert_eq!(
        sentence("IDR-B-04 XDSRegistryError incident=0a1b2c3d: internal error").as_deref(),
        Some("Centre failed internally, incident 0a1b2c3d.")
    );
    assert_eq!(sentence("IDR-M-140 SomethingElse: x"), None);
}

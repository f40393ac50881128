//! ITI-18 that is asked on as ITI-38 (H-03 … H-07, H-11).

use std::time::Duration;

use idr_ihe::soap::HeaderName;
use idr_ihe::transaction::iti_18::{self, Definition, ReturnType};
use idr_ihe::transaction::iti_43;
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::action;

use super::{Beside, NEIGHBOUR, NOWHERE, ask, asking, errors, neighbour, one_of_two_answers, row};
use crate::audit::Stream;
use crate::testing::soap::{Answer, HOME, register};
use crate::testing::{Instance, PKI, World, patient};

const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";

pub fn find(home: Option<&str>, returned: ReturnType) -> String {
    let parameters = [("$XDSDocumentEntryPatientId", vec![patient().to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
    iti_18::encode(Definition::of_name("FindDocuments").expect("a query"), returned, home, &parameters)
}

fn by_id(home: Option<&str>, uid: &str) -> String {
    let parameters = [("$XDSDocumentEntryUniqueId", vec![uid.to_owned()])];
    iti_18::encode(Definition::of_name("GetDocuments").expect("a query"), ReturnType::LeafClass, home, &parameters)
}

/// `home` of each entry.
fn homes(answer: &Answer) -> Vec<String> {
    answer.objects().entries.into_iter().map(|entry| entry.home_community_id.unwrap_or_default()).collect()
}

/// Openings and notes of the use log.
pub fn used(world: &World) -> Vec<serde_json::Value> {
    let entries = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Use);
    let inside = |value: serde_json::Value| ["opening", "note"].iter().find_map(|kind| value.get(kind).cloned()).unwrap_or(value);
    entries.map(|(_, value)| inside(value)).collect()
}

/// Two centres with one study each; the asking one has the neighbour's row with `more`.
async fn two(more: &str) -> (World, World, Beside, [String; 2]) {
    let there = neighbour().await;
    let wire = Beside::new(&there);
    let here = asking(&row(NEIGHBOUR, more), &[], vec![(NEIGHBOUR, Box::new(wire.clone()))]).await;
    let near = here.registered(&[Instance::ct(1)]).await;
    let far = crate::testing::soap::Recipe::of(&[Instance::ct(2)]).sent_by("1.2.246.10.90000011.12.7").revision();
    let answer = there.soap(&PKI.hospital, register(&PKI.hospital, &PKI.hospital.site(&patient()), &far)).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    (here, there, wire, [near.document_uid, far.document_uid])
}

/// A query, and whose entries come, or the error.
type Case<'a> = (&'static str, String, Result<Vec<&'a str>, &'static str>);

/// H-03, H-04, H-06: who is asked, by what the query names and what the row says.
#[tokio::test]
async fn a_query_goes_to_the_community_it_names_and_by_patient_to_those_that_say_so() {
    let own = PKI.hospital.physician(&patient());
    for (more, without_home) in [("", vec![HOME]), ("query_by_patient = true", vec![HOME, NEIGHBOUR])] {
        let (here, _there, wire, [near, far]) = two(more).await;
        let cases: [Case<'_>; 7] = [
            ("by patient, none named", find(None, ReturnType::LeafClass), Ok(without_home.clone())),
            ("by patient, own", find(Some(HOME), ReturnType::LeafClass), Ok(vec![HOME])),
            ("by patient, the neighbour", find(Some(NEIGHBOUR), ReturnType::LeafClass), Ok(vec![NEIGHBOUR])),
            ("by patient, nobody", find(Some(NOWHERE), ReturnType::LeafClass), Err("IDR-Q-14 XDSUnknownCommunity")),
            ("by id, none named", by_id(None, &near), Err("IDR-Q-15 XDSMissingHomeCommunityId")),
            ("by id, own", by_id(Some(HOME), &near), Ok(vec![HOME])),
            ("by id, the neighbour", by_id(Some(NEIGHBOUR), &far), Ok(vec![NEIGHBOUR])),
        ];
        for (name, body, expected) in cases {
            let before = wire.asked();
            let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &body).await;
            assert_eq!(answer.soap().value(HeaderName::Action), Some(action::ITI_18_RESPONSE));
            let registry = answer.found().registry;
            match expected {
                Ok(expected) => {
                    assert_eq!((registry.status, errors(&registry)), (Status::Success, vec![]), "{name}, {more}");
                    assert_eq!(homes(&answer), expected, "{name}, {more}");
                    let asked = usize::from(expected.contains(&NEIGHBOUR));
                    assert_eq!(wire.asked() - before, asked, "{name}, {more}: who is not named learns nothing");
                }
                Err(expected) => {
                    assert_eq!(registry.status, Status::Failure, "{name}");
                    assert!(registry.errors[0].code_context.starts_with(expected), "{name}: {}", registry.errors[0].code_context);
                    assert_eq!(wire.asked(), before, "{name}");
                }
            }
        }
        let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::ObjectRef)).await;
        assert_eq!(answer.found().objects.objects.len(), 1, "H-02: {}", answer.envelope);
        assert!(answer.envelope.contains(&format!("home=\"{NEIGHBOUR}\"")));
    }
}

/// H-05, and 04 §2: nobody but a reader in care asks others.
#[tokio::test]
async fn what_another_gateway_or_a_technical_user_asks_is_never_asked_on() {
    let (here, _there, wire, [near, _]) = two("query_by_patient = true").await;
    let (person, technical) = (PKI.hospital.physician(&patient()), PKI.hospital.site(&patient()));
    for (claims, action, body, expected) in [
        (&person, action::ITI_38, find(Some(NEIGHBOUR), ReturnType::LeafClass), Err("XDSUnknownCommunity")),
        (&person, action::ITI_38, find(None, ReturnType::LeafClass), Ok(1)),
        (&technical, action::ITI_18, find(Some(NEIGHBOUR), ReturnType::LeafClass), Err("XDSUnknownCommunity")),
        (&technical, action::ITI_18, find(None, ReturnType::LeafClass), Ok(1)),
        // A site asks by uniqueId what became of its own manifest, and knows of no community.
        (&technical, action::ITI_18, by_id(None, &near), Ok(1)),
    ] {
        let answer = ask(&here, &PKI.hospital, claims, action, &body).await;
        let registry = answer.found().registry;
        match expected {
            Ok(entries) => assert_eq!((registry.errors.len(), answer.objects().entries.len()), (0, entries), "{body}"),
            Err(code) => assert_eq!(registry.errors[0].error_code, code, "{body}"),
        }
    }
    assert_eq!(wire.asked(), 0);
}

/// H-11: the own gates first; then what the other decided.
#[tokio::test]
async fn each_side_decides_for_itself() {
    let (here, there, wire, _) = two("query_by_patient = true").await;
    let other = PKI.other.physician(&patient());
    let body = find(None, ReturnType::LeafClass);
    // Another controller without consent: nothing here, nothing there, and no error tells why.
    let answer = ask(&here, &PKI.other, &other, action::ITI_18, &body).await;
    assert_eq!((answer.found().registry.status, homes(&answer).len()), (Status::Success, 0));
    assert_eq!(wire.asked(), 1);
    // With consent there alone, and then here too.
    there.consented().await;
    assert_eq!(homes(&ask(&here, &PKI.other, &other, action::ITI_18, &body).await), [NEIGHBOUR]);
    here.consented().await;
    assert_eq!(homes(&ask(&here, &PKI.other, &other, action::ITI_18, &body).await), [HOME, NEIGHBOUR]);
    // A gate of ours refuses: nobody is asked (G5).
    let before = wire.asked();
    let mut uncaring = PKI.hospital.physician(&patient());
    uncaring.care_reason = None;
    assert_eq!(
        ask(&here, &PKI.hospital, &uncaring, action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::LeafClass)).await.refusal(),
        "IDR-X-27"
    );
    assert_eq!(wire.asked(), before);
    // Theirs refuses: they let nobody speak for the issuer any more.
    there.central.trust.store(std::sync::Arc::new(
        idr_profile::xua::Trust::parse(&crate::testing::trust(), &mut |_| Err(std::io::Error::other("no files"))).expect("a valid file"),
    ));
    let own = PKI.hospital.physician(&patient());
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &body).await;
    let registry = answer.found().registry;
    assert_eq!((registry.status, errors(&registry)), (Status::PartialSuccess, vec![("XDSUnavailableCommunity", None)]));
    assert_eq!(registry.errors[0].code_context, format!("IDR-H-11 XDSUnavailableCommunity home={NEIGHBOUR}: community did not answer"));
    assert_eq!(homes(&answer), [HOME]);
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::LeafClass)).await;
    assert_eq!((answer.found().registry.status, homes(&answer).len()), (Status::Failure, 0));
}

/// H-07, 04 §8: a community for which the assertion is not made does not see it.
#[tokio::test]
async fn an_assertion_is_shown_to_those_alone_whom_it_lists() {
    let there = neighbour().await;
    let wire = Beside::new(&there);
    let rows = row(NEIGHBOUR, "query_by_patient = true").replace(super::AUDIENCE, "urn:x:another");
    let here = asking(&rows, &[], vec![(NEIGHBOUR, Box::new(wire.clone()))]).await;
    here.registered(&[Instance::ct(1)]).await;
    let own = PKI.hospital.physician(&patient());
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(None, ReturnType::LeafClass)).await;
    let registry = answer.found().registry;
    assert_eq!((registry.status, errors(&registry), homes(&answer)), (Status::Success, vec![], vec![HOME.to_owned()]), "left out");
    let registry = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::LeafClass)).await.found().registry;
    assert_eq!((registry.status, errors(&registry)), (Status::Failure, vec![("XDSUnavailableCommunity", None)]), "named");
    let document = iti_43::DocumentRequest {
        home_community_id: Some(NEIGHBOUR.to_owned()),
        repository_unique_id: Some("1.2.3".to_owned()),
        document_unique_id: Some("1.2.4".to_owned()),
    };
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_43, &iti_43::encode(&[document])).await;
    assert!(answer.envelope.contains("XDSUnavailableCommunity"), "{}", answer.envelope);
    assert_eq!(wire.asked(), 0, "the assertion went to nobody");
    assert!(used(&here).iter().all(|value| value["recipient"] != NEIGHBOUR), "and no record says so");
}

/// `federation.waiting_max`: whoever waits for others leaves places to what is answered here; and who leaves has its record closed.
#[tokio::test]
async fn waiting_for_others_has_places_of_its_own_and_ends_with_the_client() {
    let held = super::Held::default();
    let rows = row(NOWHERE, "query_by_patient = true\ntimeout_seconds = 300");
    let changes = [("waiting_max = 24", "waiting_max = 1"), ("query_seconds = 25", "query_seconds = 300")];
    let here = std::sync::Arc::new(asking(&rows, &changes, vec![(NOWHERE, Box::new(held.clone()))]).await);
    here.registered(&[Instance::ct(1)]).await;
    let asked = || held.0.load(std::sync::atomic::Ordering::SeqCst);
    let own = PKI.hospital.physician(&patient());
    let waiting = tokio::spawn({
        let (here, own) = (here.clone(), own.clone());
        async move { ask(&here, &PKI.hospital, &own, action::ITI_18, &find(None, ReturnType::LeafClass)).await.envelope }
    });
    eventually(|| asked() == 1).await;
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(None, ReturnType::LeafClass)).await;
    let registry = answer.found().registry;
    assert_eq!((registry.status, errors(&registry)), (Status::PartialSuccess, vec![("XDSUnavailableCommunity", None)]));
    assert_eq!((homes(&answer), asked()), (vec![HOME.to_owned()], 1), "the own part, at once");
    let closings = |status: &str| here.sink.entries().iter().filter(|(_, value)| value.to_string().contains(status)).count();
    assert_eq!(closings("Aborted"), 0);
    waiting.abort();
    eventually(|| closings("Aborted") == 1).await;
}

async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not happen within a minute");
}

/// 07 §4: both sides write, the asking one before the question leaves.
#[tokio::test]
async fn a_question_and_what_came_of_it_are_recorded_on_both_sides() {
    let (here, there, _, [_, far]) = two("").await;
    ask(&here, &PKI.hospital, &PKI.hospital.physician(&patient()), action::ITI_18, &find(Some(NEIGHBOUR), ReturnType::LeafClass)).await;
    let records = used(&here);
    let asked: Vec<_> = records.iter().filter(|value| value["transaction"] == "ITI-38").collect();
    let [question] = asked.as_slice() else { panic!("one record: {records:?}") };
    assert_eq!((&question["kind"], &question["recipient"]), (&"U".into(), &NEIGHBOUR.into()));
    assert!(question["patient"].is_object() && question["user"]["id"].is_string());
    let told: Vec<_> = records.iter().filter(|value| value["event"] == "told_by_another").collect();
    let [told] = told.as_slice() else { panic!("one note: {records:?}") };
    assert_eq!((&told["data"]["from"], &told["data"]["items"]), (&NEIGHBOUR.into(), &serde_json::json!([far])));
    assert!(records.iter().any(|value| value["transaction"] == "ITI-18"), "and the query itself");
    assert!(used(&there).iter().any(|value| value["transaction"] == "ITI-38" && value["object"]["documents"] == serde_json::json!([far])));
}

/// T08-43: a silent community costs its time and nothing else.
#[tokio::test]
async fn a_silent_community_is_named_and_the_others_are_told() {
    let (here, _there) = one_of_two_answers().await;
    let own = PKI.hospital.physician(&patient());
    for _ in 0..2 {
        let answer = ask(&here, &PKI.hospital, &own, action::ITI_18, &find(None, ReturnType::LeafClass)).await;
        let registry = answer.found().registry;
        assert_eq!((registry.status, homes(&answer)), (Status::PartialSuccess, vec![HOME.to_owned(), NEIGHBOUR.to_owned()]));
        assert!(registry.errors[0].code_context.contains(&format!("home={NOWHERE}")));
    }
    // Now it is left alone: with a time limit of 20 s nothing would wait that long.
    let silent = &here.central.federation.communities[0];
    assert!(silent.is_paused() && !here.central.federation.communities[1].is_paused());
    let body = find(Some(NOWHERE), ReturnType::LeafClass);
    let asked = tokio::time::timeout(Duration::from_secs(60), ask(&here, &PKI.hospital, &own, action::ITI_18, &body));
    let registry = asked.await.expect("an answer").found().registry;
    assert_eq!((registry.status, errors(&registry)), (Status::Failure, vec![("XDSUnavailableCommunity", None)]));
    assert_eq!((here.central.federation.answered.value(), here.central.federation.unavailable.value()), (2, 3));
}

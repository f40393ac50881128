//! Commands against a centre in memory.

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request as HttpRequest, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;
use crate::testing::{Instance, PKI, STUDY, World, patient};

async fn world_with_an_instance() -> World {
    let world = World::new().await;
    let body = [b"--b\r\nContent-Type: application/dicom\r\n\r\n".as_slice(), &Instance::ct(1).file(), b"\r\n--b--"].concat();
    let request = HttpRequest::post("/dicomweb/studies")
        .header(AUTHORIZATION, PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store"))
        .header(CONTENT_TYPE, "multipart/related; type=\"application/dicom\"; boundary=b")
        .body(Body::from(body))
        .expect("a request");
    assert_eq!(world.send(&PKI.hospital, request).await.status(), StatusCode::OK);
    world
}

#[tokio::test]
async fn an_operator_finds_counts_and_no_patient_and_the_look_up_is_recorded() {
    let world = world_with_an_instance().await;
    let before = world.sink.entries().len();
    let request = Request::RegistryFind { patient: Some(patient()), study: None };
    let answer = perform(request, &world.central, &Operator { uid: 1000 }).await.expect("done");
    let study = &answer["studies"][0];
    assert_eq!((&study["study_uid"], &study["instances"], &study["commits"]), (&json!(STUDY), &json!(1), &json!(1)));
    assert!(!answer.to_string().contains("010190"), "{answer}");
    let entries = world.sink.entries();
    let [(stream, entry)] = &entries[before..] else { panic!("one record") };
    let record = &entry["record"];
    assert_eq!((*stream, &record["operation"], &record["user"]["id"]), (Stream::Use, &json!("ops"), &json!("uid:1000")));
    assert_eq!(record["patient"]["id"], "010190-900P");
    let unknown = Request::RegistryFind { patient: None, study: Some("1.2.3".to_owned()) };
    assert_eq!(perform(unknown, &world.central, &Operator { uid: 1000 }).await.expect("done"), json!({"studies": []}));
}

#[tokio::test]
async fn nobody_reads_the_audit_log_without_a_reason_and_a_record() {
    let world = World::new().await;
    let read = |reason: &str| Request::AuditRead { stream: "use".to_owned(), patient: None, reason: reason.to_owned() };
    assert!(perform(read(" "), &world.central, &Operator { uid: 1000 }).await.is_err());
    assert!(world.sink.entries().is_empty());
    perform(read("request 17 of the privacy officer"), &world.central, &Operator { uid: 1000 }).await.expect("done");
    let entries = world.sink.entries();
    assert_eq!((entries[0].0, &entries[0].1["record"]["operation"]), (Stream::Security, &json!("audit_read")));
    world.sink.fail("disk gone");
    assert!(perform(read("again"), &world.central, &Operator { uid: 1000 }).await.is_err());
}

#[tokio::test]
async fn the_socket_answers_the_service_user_one_line_for_one_line() {
    let world = world_with_an_instance().await;
    let path = world.folder.path().join("control.sock");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(&path, world.central.clone(), None, stop.clone()).expect("bound"));
    for (line, held) in [("{\"command\":\"status\"}\n", Some(1)), ("{\"command\":\"shut-down\"}\n", None)] {
        let mut stream = UnixStream::connect(&path).await.expect("connected");
        stream.write_all(line.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["held"]["instances"].as_u64(), held, "{answer}");
        assert_eq!(answer["error"].is_string(), held.is_none(), "{answer}");
    }
    stop.cancel();
    serving.await.expect("ended");
    assert!(!path.exists());
}

/// Decisions of a query and of a retrieve, for the own register, by consent, and for nobody.
async fn world_with_decisions() -> World {
    use crate::testing::EXPLICIT;
    use crate::testing::soap::{imaging, query};
    use idr_ihe::transaction::iti_18::ReturnType;
    let world = World::new().await;
    let instance = Instance::ct(1);
    world.stored(std::slice::from_ref(&instance)).await;
    world.registered(std::slice::from_ref(&instance)).await;
    world.central.audit.append(vec![log::policy_note(&world.central)]).await.expect("kept");
    let both = [&PKI.hospital, &PKI.other];
    for party in both {
        let asked = vec![
            ("$XDSDocumentEntryPatientId", vec![patient().to_cx()]),
            ("$XDSDocumentEntryStatus", vec!["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved".to_owned()]),
        ];
        world.soap(party, query(party, &party.physician(&patient()), "FindDocuments", ReturnType::LeafClass, &asked)).await;
    }
    world.consented().await;
    for party in both {
        let uid = instance.sop_instance_uid.as_str();
        world.soap(party, imaging(party, &party.physician(&patient()), &[uid], &[EXPLICIT])).await;
    }
    world
}

fn replayed(entries: &[(Stream, Value)], wanted: Wanted) -> (crate::consent::replay::Found, Vec<(String, bool)>) {
    let mut replay = crate::consent::replay::Replay::new(wanted);
    let mut units = Vec::new();
    for (_, body) in entries.iter().filter(|(stream, _)| *stream == Stream::Decision) {
        replay.take(body, &mut |again, why| {
            assert_eq!(why().rule, again.now.rule, "the explanation is of the same decision");
            units.push((again.recorded.rule.clone(), again.same));
        });
    }
    (replay.finish(), units)
}

#[tokio::test]
async fn every_decision_of_the_log_is_decided_again_in_the_same_way() {
    let world = world_with_decisions().await;
    let (found, units) = replayed(&world.sink.entries(), Wanted::default());
    assert_eq!((found.differ, found.not_replayable.len()), (0, 0), "{found:?} {units:?}");
    let rules: Vec<&str> = units.iter().map(|(rule, _)| rule.as_str()).collect();
    assert_eq!(rules, ["E5", "E10", "E5", "E12"]);
    assert!(units.iter().all(|(_, same)| *same));
}

#[tokio::test]
async fn a_decision_that_comes_out_otherwise_is_found() {
    let world = world_with_decisions().await;
    let entries = world.sink.entries();
    let last = entries.iter().rposition(|(_, body)| body["note"]["event"] == "decision").expect("a decision");
    let id: uuid::Uuid = serde_json::from_value(entries[last].1["note"]["data"]["decision_id"].clone()).expect("an id");
    let only = Wanted { id: Some(id), since: None };
    let with = |change: fn(&mut Value)| {
        let mut entries = entries.clone();
        change(&mut entries[last].1["note"]["data"]);
        replayed(&entries, only).0
    };
    assert_eq!((with(|_| ()).decisions, with(|_| ()).differ), (1, 0));
    assert_eq!(with(|data| data["units"][0]["rule"] = json!("E9")).differ, 1);
    assert_eq!(with(|data| data["units"][0]["unit"]["status"] = json!("invalidated")).differ, 1);
    assert_eq!(with(|data| data["subject"]["register"] = json!("4")).differ, 1);
    // Nothing is decided by a state or a policy that is not the recorded one.
    let reasons = |found: crate::consent::replay::Found| found.not_replayable.into_keys().collect::<Vec<_>>();
    assert_eq!(reasons(with(|data| data["state"]["store_version"] = json!(1))), ["the state is not that of its digest"]);
    assert_eq!(reasons(with(|data| data["policy_hash"] = json!("00"))), ["its policy is not in the log"]);
    assert_eq!(
        reasons(with(|data| drop(data.as_object_mut().expect("an object").remove("limits")))),
        ["written by a version that kept no state"]
    );
    let later = Wanted { since: Some("2100-01-01T00:00:00Z".parse().expect("an instant")), id: None };
    assert_eq!(replayed(&entries, later).0.decisions, 0);
}

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
    let serving = tokio::spawn(serve(&path, world.central.clone(), stop.clone()).expect("bound"));
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

//! DICOMweb and receipts, through the router, with real tokens, a database in memory and objects on disk.

mod search;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::body::{Body, Bytes, to_bytes};
use futures::stream;
use http::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LINK, RETRY_AFTER, WARNING, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use idr_profile::digest::Digester;
use idr_profile::receipt::{Carried, Kind as ReceiptKind, ReceiptHash};
use idr_profile::scan::{Limits, Part10Reader};
use serde_json::{Value, json};

use super::{NOT_SERVED, ROUTES, Serves};
use crate::audit::Stream;
use crate::central::RECEIVING_MAX;
use crate::config::TRANSACTIONS;
use crate::peer::number;
use crate::testing::{CT, EXPLICIT, Instance, LISTED, PKI, Party, STUDY, World, listed, other_patient, patient};

const BOUNDARY: &str = "0123456789abcdef";

/// One part of a body.
struct Part {
    content_type: &'static str,
    receipt: Option<ReceiptHash>,
    content: Vec<u8>,
}

fn part(instance: &Instance) -> Part {
    Part { content_type: "application/dicom", receipt: None, content: instance.file() }
}

fn body(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for Part { content_type, receipt, content } in parts {
        body.extend(format!("\r\n--{BOUNDARY}\r\nContent-Type: {content_type}\r\n").bytes());
        if let Some(hash) = receipt {
            body.extend(format!("IDR-Receipt: sha256={hash}\r\n").bytes());
        }
        body.extend(b"\r\n");
        body.extend(content);
    }
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
    body
}

fn stow(authorization: &str, body: Body) -> Request<Body> {
    Request::post(format!("/dicomweb/studies/{STUDY}"))
        .header(AUTHORIZATION, authorization)
        .header(CONTENT_TYPE, format!("multipart/related; type=\"application/dicom\"; boundary=\"{BOUNDARY}\""))
        .body(body)
        .expect("a request")
}

/// Stores as the hospital's site does.
async fn store(world: &World, parts: &[Part]) -> (Response<()>, Value) {
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    read(world.send(&PKI.hospital, stow(&authorization, body(parts).into())).await).await
}

async fn read(response: Response<Body>) -> (Response<()>, Value) {
    let (head, bytes) = bytes(response).await;
    (head, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn bytes(response: Response<Body>) -> (Response<()>, Bytes) {
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, 1 << 26).await.expect("a whole body");
    (Response::from_parts(head, ()), bytes)
}

async fn get(world: &World, party: &Party, path: &str, authorization: &str) -> Response<Body> {
    world.send(party, Request::get(path).header(AUTHORIZATION, authorization).body(Body::empty()).expect("a request")).await
}

fn instance_path(instance: &Instance) -> String {
    format!("/dicomweb/studies/{STUDY}/series/{STUDY}.1/instances/{}", instance.sop_instance_uid)
}

async fn wado(world: &World, party: &Party, path: &str) -> Response<Body> {
    get(world, party, path, &party.bearer(&party.physician(&patient()), "idr.retrieve")).await
}

async fn receipts(world: &World) -> Vec<Carried> {
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    let (head, body) = read(get(world, &PKI.hospital, &format!("/dicomweb/studies/{STUDY}/receipts"), &authorization).await).await;
    assert_eq!((head.status(), &head.headers()[CONTENT_TYPE]), (StatusCode::OK, &"application/json".parse().expect("a value")));
    body.as_array().expect("an array").iter().map(|value| Carried::from_value(value).expect("a receipt")).collect()
}

fn header<'a>(head: &'a Response<()>, name: &http::HeaderName) -> Vec<&'a str> {
    head.headers().get_all(name).iter().map(|value| value.to_str().expect("ASCII")).collect()
}

/// Data set of a Part 10 file.
fn data_set(file: &[u8]) -> Vec<u8> {
    let mut reader = Part10Reader::new(Limits::default());
    let fed = reader.feed(file);
    [fed.carried, fed.rest.to_vec()].concat()
}

#[tokio::test]
async fn an_instance_comes_back_byte_for_byte_and_its_receipt_names_what_was_sent() {
    let world = World::new().await;
    // Odd order of bytes behind the pixels would be trailing padding: private elements are kept too.
    let sent = Instance::ct(1).with((0x0009, 0x0010), "LO", "IDR TEST").with((0x0009, 0x1001), "LO", "private");
    let acceptance = ReceiptHash::of(b"R1");
    let (head, answer) = store(&world, &[Part { receipt: Some(acceptance), ..part(&sent) }]).await;
    assert_eq!(head.status(), StatusCode::OK, "{answer}");
    let url = format!("https://central.idr.example{}", instance_path(&sent));
    let expected = json!({
        "00081190": { "vr": "UR" },
        "00081199": { "vr": "SQ", "Value": [{
            "00081150": { "vr": "UI", "Value": [CT] },
            "00081155": { "vr": "UI", "Value": [sent.sop_instance_uid] },
            "00081190": { "vr": "UR", "Value": [url] },
        }] },
    });
    assert_eq!(answer, expected);
    assert_eq!(header(&head, &CONTENT_TYPE), ["application/dicom+json"]);
    assert_eq!(header(&head, &LINK), [format!("</dicomweb/studies/{STUDY}/receipts>; rel=\"urn:x-idr:rel:receipts\"")]);
    assert_eq!(header(&head, &WARNING), [""; 0]);

    let receipts = receipts(&world).await;
    let [commit] = receipts.as_slice() else { panic!("{receipts:?}") };
    world.verifier.verify(commit).expect("signed by the centre");
    let object = commit.receipt().object().expect("of one object");
    assert_eq!((commit.receipt().kind(), commit.receipt().prev()), (ReceiptKind::Commit, Some(acceptance)));
    assert_eq!((object.digest, &object.transfer_syntax_uid), (sent.digest(), &EXPLICIT.to_owned()));

    let (head, body) = bytes(wado(&world, &PKI.hospital, &instance_path(&sent)).await).await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()[CONTENT_LENGTH], body.len().to_string());
    let text = header(&head, &CONTENT_TYPE)[0].to_owned();
    let boundary = text.split("boundary=\"").nth(1).and_then(|rest| rest.strip_suffix('"')).expect("a boundary").to_owned();
    let content =
        body.strip_prefix(format!("--{boundary}\r\nContent-Type: application/dicom; transfer-syntax={EXPLICIT}\r\n\r\n").as_bytes());
    let content = content.and_then(|content| content.strip_suffix(format!("\r\n--{boundary}--\r\n").as_bytes())).expect("one part");
    assert_eq!(data_set(content), sent.data_set());
}

#[tokio::test]
async fn the_use_log_has_the_store_before_its_commit_and_what_came_of_it() {
    let world = World::new().await;
    store(&world, &[part(&Instance::ct(1)), part(&Instance::ct(2))]).await;
    let used: Vec<Value> = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Use).map(|(_, entry)| entry).collect();
    let [opening, closing] = used.as_slice() else { panic!("one opening and one closing: {used:?}") };
    let record = &opening["opening"];
    assert_eq!((&record["transaction"], &record["operation"], &record["outcome"]), (&json!("STOW-RS"), &json!("store"), &json!("permit")));
    assert_eq!((&record["object"]["study"], &record["basis"], &record["rule"]), (&json!(STUDY), &json!("own"), &json!("S1")));
    assert_eq!(record["patient"]["id"], "010190-900P");
    assert_eq!((&closing["closing"]["closes"], &closing["closing"]["status"]), (&record["id"], &json!("200")));
}

#[tokio::test]
async fn the_same_bytes_again_are_a_success_and_kept_once() {
    let world = World::new().await;
    let sent = Instance::ct(1);
    store(&world, &[part(&sent)]).await;
    // Twice in one body, beside the copy that is held.
    let (head, answer) = store(&world, &[part(&sent), part(&sent)]).await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(answer["00081199"]["Value"].as_array().map(Vec::len), Some(2));
    assert_eq!((world.object_files(), receipts(&world).await.len()), (1, 1));
}

#[tokio::test]
async fn another_content_under_a_known_uid_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let first = Instance::ct(1);
    store(&world, &[part(&first)]).await;
    let (head, answer) = store(&world, &[part(&first.clone().pixels(&[8; 32]))]).await;
    assert_eq!(head.status(), StatusCode::CONFLICT);
    assert_eq!(answer["00081198"]["Value"][0]["00081197"]["Value"][0], 50_994);
    assert_eq!(header(&head, &WARNING), ["299 idr \"D732 Same SOP Instance UID with other content\""]);
    assert_eq!(header(&head, &LINK), [""; 0]);
    assert_eq!(world.object_files(), 1);
    assert_eq!(receipts(&world).await[0].receipt().object().map(|object| object.digest), Some(first.digest()));
}

#[tokio::test]
async fn an_instance_of_another_patient_fails_with_0124h_and_alone_with_403() {
    let world = World::new().await;
    let foreign = Instance::ct(2).of(&other_patient());
    let (head, answer) = store(&world, &[part(&Instance::ct(1)), part(&foreign)]).await;
    assert_eq!(head.status(), StatusCode::ACCEPTED, "{answer}");
    assert_eq!(answer["00081198"]["Value"][0]["00081197"]["Value"][0], 292);
    assert_eq!(answer["00081198"]["Value"][0]["00081155"]["Value"][0], foreign.sop_instance_uid.as_str());

    let (head, answer) = store(&world, &[part(&foreign)]).await;
    assert_eq!(head.status(), StatusCode::FORBIDDEN);
    assert_eq!((&answer["code"], &answer["refusal"]), (&json!("IDR-W-03"), &json!("IDR-X-26")));
    assert_eq!(world.object_files(), 1);
    let refused = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Security).count();
    assert_eq!(refused, 2, "one refusal record for each request");
}

#[tokio::test]
async fn a_study_is_of_one_patient() {
    let world = World::new().await;
    store(&world, &[part(&Instance::ct(1))]).await;
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&other_patient()), "idr.store");
    let body = body(&[part(&Instance::ct(2).of(&other_patient()))]);
    let (head, answer) = read(world.send(&PKI.hospital, stow(&authorization, body.into())).await).await;
    assert_eq!((head.status(), &answer["00081198"]["Value"][0]["00081197"]["Value"][0]), (StatusCode::CONFLICT, &json!(50_945)));
    assert_eq!(world.object_files(), 1);
}

#[tokio::test]
async fn an_authorisation_that_is_not_known_stores_nothing() {
    let world = World::new().await;
    let mut claims = PKI.hospital.site(&patient());
    claims.outsourced_authorisation = Some("1.2.246.10.90000038.16.1".to_owned());
    let authorization = PKI.hospital.bearer(&claims, "idr.store");
    let (head, answer) = read(world.send(&PKI.hospital, stow(&authorization, body(&[part(&Instance::ct(1))]).into())).await).await;
    assert_eq!((head.status(), &answer["refusal"]), (StatusCode::FORBIDDEN, &json!("IDR-X-24")), "{answer}");
    assert_eq!(world.object_files(), 0);
}

#[tokio::test]
async fn a_rule_refuses_with_its_number_and_its_text() {
    let world = World::new().await;
    let wrong_check = Instance::ct(1).with((0x0010, 0x0020), "LO", "010190-900R");
    let not_dicom = Part { content_type: "application/dicom", receipt: None, content: vec![0; 200] };
    let (head, answer) = store(&world, &[part(&wrong_check), not_dicom]).await;
    assert_eq!(head.status(), StatusCode::CONFLICT);
    let item = &answer["00081198"]["Value"][0];
    assert_eq!((&item["00081155"]["Value"][0], &item["00081197"]["Value"][0]), (&json!(wrong_check.sop_instance_uid), &json!(0xC307)));
    assert_eq!(answer["0008119A"], json!({ "vr": "SQ", "Value": [{ "00081197": { "vr": "US", "Value": [0xC102] } }] }));
    let rules = world.central.rules_in_force().expect("a set is in force");
    let comments = ["D307", "D102"].map(|rule| format!("299 idr \"{}\"", rules.rule(rule).expect("built").comment));
    assert_eq!(header(&head, &WARNING), comments);
    assert_eq!(world.object_files(), 0);
}

#[tokio::test]
async fn an_instance_of_another_study_than_the_url_is_refused() {
    let world = World::new().await;
    let elsewhere = Instance::ct(1).with((0x0020, 0x000D), "UI", "1.2.246.10.90000011.77.2");
    let (head, answer) = store(&world, &[part(&elsewhere)]).await;
    assert_eq!((head.status(), &answer["00081198"]["Value"][0]["00081197"]["Value"][0]), (StatusCode::CONFLICT, &json!(0xC125)));
}

#[tokio::test]
async fn a_warning_is_told_where_the_rule_set_says_so() {
    // Until the rule is raised it is journal only; raised to WARN with warn_status it is told.
    let world = World::with("[levels]\nD402 = \"WARN\"\n[parameters]\nwarn_status = \"B007\"\n", &[]).await;
    let (head, answer) = store(&world, &[part(&Instance::ct(1).with((0x0008, 0x1030), "LO", "thorax"))]).await;
    assert_eq!(head.status(), StatusCode::ACCEPTED, "{answer}");
    assert_eq!(answer["00081199"]["Value"][0]["00081196"]["Value"][0], 45_063);
}

#[tokio::test]
async fn many_parts_in_small_pieces_are_all_stored() {
    let world = World::new().await;
    let parts: Vec<Part> = (1..=60).map(|n| part(&Instance::ct(n))).collect();
    let pieces: Vec<Result<Bytes, std::io::Error>> = body(&parts).chunks(97).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    let request = stow(&authorization, Body::from_stream(stream::iter(pieces)));
    let (head, answer) = read(world.send(&PKI.hospital, request).await).await;
    assert_eq!(head.status(), StatusCode::OK);
    let told: Vec<_> = answer["00081199"]["Value"].as_array().expect("items").iter().map(|item| &item["00081155"]["Value"][0]).collect();
    let sent: Vec<Value> = (1..=60).map(|n| json!(Instance::ct(n).sop_instance_uid)).collect();
    assert_eq!(told, sent.iter().collect::<Vec<_>>(), "in the order of the parts");
    let receipts = receipts(&world).await;
    assert_eq!((receipts.len(), world.object_files()), (60, 60));
    assert!(receipts.iter().all(|receipt| world.verifier.verify(receipt).is_ok()));
}

#[tokio::test]
async fn what_is_cut_off_is_not_stored_and_what_was_whole_is() {
    let world = World::new().await;
    let whole = body(&[part(&Instance::ct(1)), part(&Instance::ct(2))]);
    let cut = whole[..whole.len() - 60].to_vec();
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    let (head, answer) = read(world.send(&PKI.hospital, stow(&authorization, cut.clone().into())).await).await;
    assert_eq!(head.status(), StatusCode::ACCEPTED, "{answer}");
    assert_eq!(answer["00081199"]["Value"][0]["00081155"]["Value"][0], Instance::ct(1).sop_instance_uid.as_str());
    assert_eq!(answer["00081198"]["Value"][0]["00081197"]["Value"][0], 272);
    assert_eq!((world.object_files(), receipts(&world).await.len()), (1, 1));

    // The connection breaks in the middle of the third.
    let more = body(&[part(&Instance::ct(3))]);
    let pieces = [Ok(Bytes::copy_from_slice(&more[..more.len() / 2])), Err(std::io::Error::other("gone"))];
    world.send(&PKI.hospital, stow(&authorization, Body::from_stream(stream::iter(pieces)))).await;
    assert_eq!((world.object_files(), receipts(&world).await.len()), (1, 1));

    let (head, answer) = read(world.send(&PKI.hospital, stow(&authorization, Body::from("no multipart at all"))).await).await;
    assert_eq!((head.status(), &answer["code"]), (StatusCode::BAD_REQUEST, &json!("IDR-W-01")));
}

#[tokio::test]
async fn nobody_is_read_who_has_not_said_who_asks() {
    let world = World::new().await;
    let polled = Arc::new(AtomicBool::new(false));
    let watched = || {
        let polled = polled.clone();
        Body::from_stream(stream::poll_fn(move |_| {
            polled.store(true, Ordering::SeqCst);
            std::task::Poll::Ready(None::<Result<Bytes, std::io::Error>>)
        }))
    };
    let good = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    let without = |mut request: Request<Body>| {
        request.headers_mut().remove(AUTHORIZATION);
        request
    };
    for (request, status, refusal, challenge) in [
        (without(stow(&good, watched())), StatusCode::UNAUTHORIZED, "IDR-X-01", Some("Bearer")),
        (
            stow("Bearer e30.e30.e30", watched()),
            StatusCode::UNAUTHORIZED,
            "IDR-X-28",
            Some("Bearer error=\"invalid_token\", error_description=\"IDR-X-28\""),
        ),
        (stow(&PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.query"), watched()), StatusCode::FORBIDDEN, "IDR-X-25", None),
    ] {
        let (head, answer) = read(world.send(&PKI.hospital, request).await).await;
        assert_eq!((head.status(), &answer["refusal"]), (status, &json!(refusal)), "{answer}");
        assert_eq!(header(&head, &WWW_AUTHENTICATE), challenge.into_iter().collect::<Vec<_>>());
        assert_eq!(header(&head, &http::header::CACHE_CONTROL), ["no-store"]);
    }
    let (head, answer) = read(world.send(&PKI.other, stow(&good, watched())).await).await;
    assert_eq!((head.status(), &answer["refusal"]), (StatusCode::UNAUTHORIZED, &json!("IDR-X-30")), "a token of another connection");
    assert!(!polled.load(Ordering::SeqCst), "a body was read");
}

#[tokio::test]
async fn bounds_and_media_types_are_those_of_the_profile() {
    let world = World::with(
        "",
        &[("stow_parts_max = 100000", "stow_parts_max = 2"), ("stow_body_bytes_max = 68719476736", "stow_body_bytes_max = 20000")],
    )
    .await;
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    let with = |name: http::HeaderName, value: &str, body: Vec<u8>| {
        let mut request = stow(&authorization, body.into());
        request.headers_mut().insert(name, value.parse().expect("a value"));
        request
    };
    let one = || body(&[part(&Instance::ct(1))]);
    let three: Vec<Part> = (1..=3).map(|n| part(&Instance::ct(n))).collect();
    let pdf = Part { content_type: "application/pdf", receipt: None, content: b"%PDF".to_vec() };
    for (request, status, code) in [
        (with(CONTENT_LENGTH, "20001", one()), 413, "IDR-W-10"),
        (stow(&authorization, vec![b'x'; 20_001].into()), 413, "IDR-W-10"),
        (stow(&authorization, body(&three).into()), 413, "IDR-W-10"),
        (with(CONTENT_TYPE, "application/dicom", one()), 415, "IDR-W-13"),
        (with(CONTENT_TYPE, "multipart/related; type=\"application/dicom+json\"; boundary=b", one()), 415, "IDR-W-13"),
        (with(http::header::CONTENT_ENCODING, "gzip", one()), 415, "IDR-W-13"),
        (stow(&authorization, body(&[pdf]).into()), 415, "IDR-W-13"),
        (with(CONTENT_TYPE, "multipart/related; type=\"application/dicom\"", one()), 400, "IDR-W-01"),
        (with(ACCEPT, "application/dicom+xml", one()), 406, "IDR-W-06"),
    ] {
        let (head, answer) = read(world.send(&PKI.hospital, request).await).await;
        assert_eq!((head.status().as_u16(), &answer["code"]), (status, &json!(code)), "{answer}");
        assert_eq!(header(&head, &CONTENT_TYPE), ["application/problem+json"]);
    }
}

#[tokio::test]
async fn nothing_is_stored_while_the_audit_store_refuses_or_room_is_short() {
    let world = World::new().await;
    let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
    world.sink.fail("disk gone");
    let (head, answer) = read(world.send(&PKI.hospital, stow(&authorization, body(&[part(&Instance::ct(1))]).into())).await).await;
    assert_eq!((head.status(), header(&head, &RETRY_AFTER)), (StatusCode::SERVICE_UNAVAILABLE, vec!["60"]), "{answer}");
    assert_eq!(world.object_files(), 0);
}

#[tokio::test]
async fn denied_is_answered_as_unknown() {
    let world = World::new().await;
    let sent = Instance::ct(1);
    store(&world, &[part(&sent)]).await;
    let blank = |bytes: &Bytes, head: &Response<()>| {
        let id = head.headers()["x-request-id"].to_str().expect("ASCII").to_owned();
        String::from_utf8(bytes.to_vec()).expect("text").replace(&id, "…")
    };
    let mut answers = Vec::new();
    for path in [
        instance_path(&sent),
        instance_path(&Instance::ct(9)),
        instance_path(&sent).replace("77.1/series", "77.8/series"),
        instance_path(&sent).replace(".1/instances", ".2/instances"),
    ] {
        let (head, body) = bytes(wado(&world, &PKI.other, &path).await).await;
        answers.push((head.status().as_u16(), blank(&body, &head), header(&head, &CONTENT_TYPE).join(",")));
    }
    assert_eq!(answers[0].0, 404);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn a_site_reads_its_own_receipts_and_nobody_elses() {
    let world = World::new().await;
    store(&world, &[part(&Instance::ct(1))]).await;
    let path = format!("/dicomweb/studies/{STUDY}/receipts");
    let site = PKI.other.bearer(&PKI.other.site(&patient()), "idr.store");
    let (head, answer) = read(get(&world, &PKI.other, &path, &site).await).await;
    assert_eq!((head.status(), &answer["code"]), (StatusCode::NOT_FOUND, &json!("IDR-W-04")));
    let physician = PKI.hospital.bearer(&PKI.hospital.physician(&patient()), "idr.store");
    let (head, answer) = read(get(&world, &PKI.hospital, &path, &physician).await).await;
    assert_eq!((head.status(), &answer["refusal"]), (StatusCode::FORBIDDEN, &json!("IDR-X-25")));
}

#[tokio::test]
async fn a_token_for_queries_retrieves_nothing_and_an_encoding_that_is_not_kept_is_not_made() {
    let world = World::new().await;
    let sent = Instance::ct(1);
    store(&world, &[part(&sent)]).await;
    let queries = PKI.hospital.bearer(&PKI.hospital.physician(&patient()), "idr.query");
    let (head, answer) = read(get(&world, &PKI.hospital, &instance_path(&sent), &queries).await).await;
    assert_eq!((head.status(), &answer["refusal"]), (StatusCode::FORBIDDEN, &json!("IDR-X-25")));
    let authorization = PKI.hospital.bearer(&PKI.hospital.physician(&patient()), "idr.retrieve");
    let request = Request::get(instance_path(&sent))
        .header(AUTHORIZATION, authorization)
        .header(ACCEPT, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.70");
    let (head, answer) = read(world.send(&PKI.hospital, request.body(Body::empty()).expect("a request")).await).await;
    assert_eq!((head.status(), &answer["code"]), (StatusCode::NOT_ACCEPTABLE, &json!("IDR-W-06")));
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let world = World::new().await;
    for (method, path, status) in [
        ("GET", format!("/dicomweb/studies/{STUDY}/rendered"), 501),
        ("GET", format!("/dicomweb/studies/{STUDY}/series/1.2/thumbnail"), 501),
        ("GET", format!("/dicomweb/studies/{STUDY}/series/1.2/instances/1.3/frames/1/rendered"), 501),
        ("GET", format!("/dicomweb/studies/{STUDY}/series/1.2/instances/1.3/rendered"), 501),
        ("GET", "/dicomweb/workitems".to_owned(), 501),
        ("POST", format!("/dicomweb/studies/{STUDY}/series"), 405),
        ("GET", "/custody/v1/reconcile".to_owned(), 405),
        ("GET", "/".to_owned(), 404),
        ("GET", format!("/{}", "x".repeat(9000)), 414),
        ("DELETE", "/dicomweb/studies".to_owned(), 405),
    ] {
        let request = Request::builder().method(method).uri(path.as_str()).body(Body::empty()).expect("a request");
        let (head, answer) = read(world.send(&PKI.hospital, request).await).await;
        assert_eq!((head.status().as_u16(), &answer["status"]), (status, &json!(status)), "{method} {path}");
        assert_eq!(answer["instance"].as_str(), head.headers()["x-request-id"].to_str().ok());
        assert_eq!(!header(&head, &ALLOW).is_empty(), status == 405, "{:?}", head.headers());
    }
}

/// A path of a pattern.
fn filled(pattern: &str) -> String {
    let values = [
        ("{study}", STUDY),
        ("{series}", "1.2"),
        ("{instance}", "1.3"),
        ("{resource}", "rendered"),
        ("{frames}", "1"),
        ("{*rest}", "rendered"),
    ];
    values.iter().fold(pattern.to_owned(), |path, (name, value)| path.replace(name, value))
}

#[tokio::test]
async fn what_the_tables_say_is_not_served_answers_501_to_everybody() {
    let world = World::new().await;
    store(&world, &[part(&Instance::ct(1))]).await;
    let unserved =
        NOT_SERVED.iter().flat_map(|path| [Method::GET, Method::POST, Method::PUT, Method::DELETE].map(|method| (method, *path)));
    let recorded = world.sink.entries().len();
    for (method, path) in unserved {
        for authorization in [None, Some(PKI.hospital.bearer(&PKI.hospital.physician(&patient()), "idr.retrieve"))] {
            let mut request = Request::builder().method(method.clone()).uri(filled(path));
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let (head, answer) = read(world.send(&PKI.hospital, request.body(Body::empty()).expect("a request")).await).await;
            let code = (head.status(), &answer["status"], &answer["code"]);
            assert_eq!(code, (StatusCode::NOT_IMPLEMENTED, &json!(501), &json!("IDR-W-18")), "{method} {path}");
        }
    }
    assert_eq!(world.sink.entries().len(), recorded, "nobody was asked who they are, and nothing was decided");
}

#[tokio::test]
async fn each_route_is_guarded_by_the_transaction_that_the_table_names() {
    for route in &ROUTES {
        let Serves::One(transaction) = route.serves else { continue };
        let own = number(transaction);
        let others: Vec<&str> = TRANSACTIONS.into_iter().filter(|name| *name != own).collect();
        // Its transaction alone leads as far as the missing token; all others together do not.
        for (names, status) in [(vec![own], StatusCode::UNAUTHORIZED), (others, StatusCode::FORBIDDEN)] {
            let world = World::with("", &[(LISTED.as_str(), &listed(&names))]).await;
            let path = filled(route.path);
            let request = Request::builder().method(route.method.clone()).uri(&path).body(Body::empty()).expect("a request");
            let answer = world.send(&PKI.hospital, request).await;
            assert_eq!(answer.status(), status, "{} {path} with {names:?}", route.method);
        }
    }
}

/// Anonymous memory of this process, bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_instances_stream_in_little_memory() {
    // As many as are staged at once, and some that wait for a place. An image of 2048 x 4096 pixels of 16 bit: 16 MiB.
    const SENDERS: u32 = RECEIVING_MAX as u32 + 8;
    const PIXEL_BYTES: usize = 16 << 20;
    const CHUNK: usize = 64 << 10;
    let world = World::new().await;
    store(&world, &[part(&Instance::ct(900))]).await;
    let (before, peak) = (resident(), Arc::new(AtomicU64::new(0)));
    let sending = (1..=SENDERS).map(|n| {
        let mut image = Instance::ct(n);
        image.put_number((0x0028, 0x0010), 2048);
        image.put_number((0x0028, 0x0011), 4096);
        let head = image.open_pixels(PIXEL_BYTES);
        let front = [format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n").into_bytes(), image.front(), head.clone()].concat();
        let peak = peak.clone();
        let chunks = std::iter::repeat_with(|| Bytes::from(vec![7; CHUNK])).take(PIXEL_BYTES / CHUNK);
        let back = Bytes::from(format!("\r\n--{BOUNDARY}--\r\n"));
        let pieces = std::iter::once(Bytes::from(front)).chain(chunks).chain([back]).enumerate().map(move |(at, piece)| {
            if at % 64 == 0 {
                peak.fetch_max(resident(), Ordering::Relaxed);
            }
            Ok::<_, std::io::Error>(piece)
        });
        let authorization = PKI.hospital.bearer(&PKI.hospital.site(&patient()), "idr.store");
        let request = stow(&authorization, Body::from_stream(stream::iter(pieces)));
        let world = &world;
        async move {
            let (answer, body) = read(world.send(&PKI.hospital, request).await).await;
            assert_eq!(answer.status(), StatusCode::OK, "{body}");
            let mut digester = Digester::new(EXPLICIT);
            digester.update(&head);
            digester.update(&vec![7; PIXEL_BYTES]);
            digester.finish()
        }
    });
    let answers = futures::future::join_all(sending);
    let mut digests = answers.await;
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before) >> 20;
    println!("{SENDERS} instances of 16 MiB at once: {grown} MiB above rest");
    assert!(grown <= 64, "{SENDERS} instances of 16 MiB at once: {grown} MiB more than at rest");
    let mut stored: Vec<_> = receipts(&world).await.iter().filter_map(|receipt| Some(receipt.receipt().object()?.digest)).collect();
    stored.retain(|digest| *digest != Instance::ct(900).digest());
    digests.sort();
    stored.sort();
    assert_eq!(stored, digests);
}

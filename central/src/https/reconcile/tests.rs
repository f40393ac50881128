//! Reconciliation, through the router.

use axum::body::{Body, to_bytes};
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use idr_profile::access::Claims;
use idr_profile::digest::Digest;
use idr_profile::receipt::reconcile::{Found, Listed, Question, SignedFindings, root};

use crate::testing::{Instance, PKI, Party, STUDY, World, patient};

/// Claims of the site about many patients.
fn claims(party: &Party) -> Claims {
    Claims { patient: None, ..party.site(&patient()) }
}

async fn ask(world: &World, party: &Party, claims: &Claims, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
    let request = Request::post("/custody/v1/reconcile").header(AUTHORIZATION, party.bearer(claims, "idr.store")).body(Body::from(body));
    let (head, body) = world.send(party, request.expect("a request")).await.into_parts();
    (head.status, to_bytes(body, 1 << 24).await.expect("a whole body").to_vec())
}

/// Stores instances of the study as the site of a party.
async fn store(world: &World, party: &Party, instances: impl Iterator<Item = u32>) {
    let mut body = Vec::new();
    for instance in instances {
        body.extend(b"\r\n--0123456789abcdef\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend(Instance::ct(instance).file());
    }
    body.extend(b"\r\n--0123456789abcdef--\r\n");
    let request = Request::post(format!("/dicomweb/studies/{STUDY}"))
        .header(AUTHORIZATION, party.bearer(&party.site(&patient()), "idr.store"))
        .header("content-type", "multipart/related; type=\"application/dicom\"; boundary=\"0123456789abcdef\"")
        .body(body.into())
        .expect("a request");
    assert_eq!(world.send(party, request).await.status(), StatusCode::OK);
}

fn listed(instances: impl Iterator<Item = u32>) -> Listed {
    let digests: Vec<Digest> = instances.map(|n| Instance::ct(n).digest()).collect();
    Listed { study_uid: STUDY.to_owned(), instances: digests.len() as u64, root: root(&digests), after: None }
}

/// Result and number of instances held of the one study, and of how many the UIDs came; the signature holds.
async fn found(world: &World, party: &Party, listed: Listed) -> (Found, u64, usize) {
    let question = serde_json::to_vec(&Question { studies: vec![listed] }).expect("JSON");
    let (status, body) = ask(world, party, &claims(party), question).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let signed = SignedFindings::read(&body, &world.verifier).expect("signed by the centre");
    let [compared] = &signed.result.studies[..] else { panic!("one study was asked for") };
    (compared.result, compared.instances, compared.held.len())
}

#[tokio::test]
async fn a_site_is_told_what_is_held_of_its_own_and_nothing_of_others() {
    let world = World::new().await;
    store(&world, &PKI.hospital, 1..=3).await;
    assert_eq!(found(&world, &PKI.hospital, listed(1..=3)).await, (Found::Equal, 3, 0));
    assert_eq!(found(&world, &PKI.hospital, listed(1..=4)).await, (Found::Missing, 3, 3));
    assert_eq!(found(&world, &PKI.hospital, listed(1..=2)).await, (Found::Extra, 3, 3));
    assert_eq!(found(&world, &PKI.hospital, listed(2..=4)).await, (Found::Different, 3, 3));
    // Another register is told the same as if the study did not exist.
    assert_eq!(found(&world, &PKI.other, listed(1..=3)).await, (Found::Missing, 0, 0));
    let unknown = Listed { study_uid: "1.2.3.4".to_owned(), ..listed(1..=3) };
    assert_eq!(found(&world, &PKI.other, unknown).await, (Found::Missing, 0, 0));
}

#[tokio::test]
async fn a_question_out_of_its_form_or_bounds_is_refused() {
    let world = World::new().await;
    let good = listed(1..=1);
    let many = |count: u32| {
        let studies = (0..count).map(|n| Listed { study_uid: format!("1.2.3.{n}"), ..good.clone() }).collect();
        serde_json::to_vec(&Question { studies }).expect("JSON")
    };
    let of = |listed: Listed| {
        serde_json::to_vec(&Question { studies: vec![listed.clone(), Listed { study_uid: "1.2".into(), ..listed }] }).expect("JSON")
    };
    for (what, body, expected) in [
        ("no study", many(0), StatusCode::BAD_REQUEST),
        ("the most", many(256), StatusCode::OK),
        ("one more", many(257), StatusCode::BAD_REQUEST),
        ("no JSON", b"{".to_vec(), StatusCode::BAD_REQUEST),
        ("an unknown member", br#"{"studies": [], "page": 1}"#.to_vec(), StatusCode::BAD_REQUEST),
        ("a member twice", br#"{"studies": [], "studies": []}"#.to_vec(), StatusCode::BAD_REQUEST),
        ("a study twice", of(Listed { study_uid: "1.2".into(), ..good.clone() }), StatusCode::BAD_REQUEST),
        ("no UID", of(Listed { study_uid: "../x".into(), ..good.clone() }), StatusCode::BAD_REQUEST),
        ("no root", of(Listed { root: "ff".into(), ..good.clone() }), StatusCode::BAD_REQUEST),
        ("no UID to go on from", of(Listed { after: Some("x".into()), ..good.clone() }), StatusCode::BAD_REQUEST),
        ("65 537 bytes", vec![b' '; 65_537], StatusCode::PAYLOAD_TOO_LARGE),
        ("65 536 bytes", [many(1), vec![b' '; 65_536 - many(1).len()]].concat(), StatusCode::OK),
    ] {
        assert_eq!(ask(&world, &PKI.hospital, &claims(&PKI.hospital), body).await.0, expected, "{what}");
    }
}

#[tokio::test]
async fn only_a_site_that_names_no_patient_may_ask() {
    let world = World::new().await;
    let question = serde_json::to_vec(&Question { studies: vec![listed(1..=1)] }).expect("JSON");
    let party = &PKI.hospital;
    for (who, claims, expected) in [
        ("a site about many patients", claims(party), StatusCode::OK),
        ("a site about one patient", party.site(&patient()), StatusCode::UNAUTHORIZED),
        ("a physician", party.physician(&patient()), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(ask(&world, party, &claims, question.clone()).await.0, expected, "{who}");
    }
}

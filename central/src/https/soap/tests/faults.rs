//! What is refused before a transaction has looked at it.

use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{Request, StatusCode};
use idr_ihe::transaction::iti_18::ReturnType;
use idr_ihe::transaction::table::action;
use jiff::SignedDuration;

use crate::audit::Stream;
use crate::testing::soap::{Answer, Recipe, envelope, message_id, mtom, plain, query, register, request};
use crate::testing::{LISTED, PKI, World, other_patient, patient, t0};

const FIND: &[(&str, &[&str])] = &[
    ("$XDSDocumentEntryPatientId", &["010190-900P^^^&1.2.246.21&ISO"]),
    ("$XDSDocumentEntryStatus", &["urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"]),
];

fn find() -> Vec<(&'static str, Vec<String>)> {
    FIND.iter().map(|(name, values)| (*name, values.iter().map(|value| (*value).to_owned()).collect())).collect()
}

#[tokio::test]
async fn the_frame_is_refused_with_its_status_or_fault() {
    let world = World::new().await;
    let security = || PKI.hospital.security(&PKI.hospital.physician(&patient()));
    let text = |action: &str, id: &str| envelope(&security(), action, id, "<a/>");
    let good = text(action::ITI_18, &message_id());
    let cases: Vec<(&str, Request<axum::body::Body>, u16, &str)> = vec![
        ("S-02", request("text/xml", good.clone().into()), 415, "IDR-W-13"),
        ("S-04", request("application/soap+xml; charset=latin1", good.clone().into()), 500, "IDR-S-04"),
        (
            "S-03",
            plain(good.replace("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/")),
            500,
            "IDR-S-03",
        ),
        ("S-06", plain(format!("<!DOCTYPE a>{good}")), 500, "IDR-S-06"),
        ("S-09", plain(good.replace("MessageID", "MessageNo")), 500, "IDR-S-09"),
        ("S-11", plain(text("urn:hl7-org:v3:PRPA_IN201309UV02", &message_id())), 500, "IDR-S-11"),
        ("S-19", plain(text(action::ITI_18, "no iri")), 500, "IDR-S-19"),
        ("S-12", plain(text(action::ITI_18, &message_id())), 500, "IDR-S-12"),
        ("X-01 before S-12", plain(envelope("", action::ITI_18, &message_id(), "<a/>")), 500, "IDR-X-01"),
        ("S-22", request("multipart/related; type=\"application/xop+xml\"; boundary=b", b"--b\r\n\r\nx".to_vec()), 500, "IDR-S-22"),
    ];
    for (name, request, status, code) in cases {
        let answer = world.soap(&PKI.hospital, request).await;
        assert_eq!(answer.status.as_u16(), status, "{name}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains(code), "{name}: {text}");
        assert!(answer.headers.contains_key("x-request-id"), "{name}");
    }
    let records = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::Security).count();
    assert_eq!(records, 10, "one refusal record each");
}

#[tokio::test]
async fn only_post_within_its_bounds_is_taken() {
    let world = World::new().await;
    let get = world.send(&PKI.hospital, Request::get("/ihe/gateway").body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!((get.status(), get.headers()[ALLOW].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let mut announced = plain("<a/>".to_owned());
    announced.headers_mut().insert(CONTENT_LENGTH, 8_388_609.into());
    assert_eq!(world.soap(&PKI.hospital, announced).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let sent = plain("x".repeat(8_388_609));
    assert_eq!(world.soap(&PKI.hospital, sent).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut coded = plain("<a/>".to_owned());
    coded.headers_mut().insert(CONTENT_ENCODING, "br".parse().unwrap());
    assert_eq!(world.soap(&PKI.hospital, coded).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn an_assertion_serves_one_request_of_its_own_patient_and_time() {
    let world = World::new().await;
    let claims = PKI.hospital.physician(&patient());
    let parameters = find();
    let definition = idr_ihe::transaction::iti_18::Definition::of_name("FindDocuments").unwrap();
    let body = idr_ihe::transaction::iti_18::encode(definition, ReturnType::LeafClass, None, &parameters);
    let security = PKI.hospital.security(&claims);
    let send = async |security: &str| world.soap(&PKI.hospital, plain(envelope(security, action::ITI_18, &message_id(), &body))).await;
    assert_eq!(send(&security).await.status, StatusCode::OK);
    assert_eq!(send(&security).await.refusal(), "IDR-X-21", "used before");
    let late = PKI.hospital.security_at(&claims, t0() - SignedDuration::from_mins(20));
    assert_eq!(send(&late).await.refusal(), "IDR-X-15");
    let other = PKI.hospital.security(&PKI.hospital.physician(&other_patient()));
    assert_eq!(send(&other).await.refusal(), "IDR-X-26");
    let tampered = PKI.hospital.security(&claims).replace("Testi Lääkäri", "Testi Laakari");
    assert_eq!(send(&tampered).await.refusal(), "IDR-X-11");
    // An assertion of the hospital on another organisation's connection.
    let borrowed = plain(envelope(&PKI.hospital.security(&claims), action::ITI_18, &message_id(), &body));
    assert_eq!(world.soap(&PKI.other, borrowed).await.refusal(), "IDR-X-20");
}

#[tokio::test]
async fn no_row_no_traffic() {
    let all = LISTED.as_str();
    let parameters = find();
    let query = || query(&PKI.hospital, &PKI.hospital.physician(&patient()), "FindDocuments", ReturnType::LeafClass, &parameters);
    let without = World::with("", &[(all, "transactions = [\"RAD-68\"]")]).await;
    assert_eq!(without.soap(&PKI.hospital, query()).await.refusal(), "IDR-S-11", "the row lists another transaction");
    let pinned = World::with("", &[(all, &format!("{all}\ncertificates = [\"{}\"]", "00".repeat(32)))]).await;
    assert_eq!(pinned.soap(&PKI.hospital, query()).await.refusal(), "IDR-X-20");
    let record = pinned.sink.entries().into_iter().find(|(stream, _)| *stream == Stream::Security).unwrap().1;
    assert_eq!(record["record"]["rule"], "IDR-T-13");
    let over = World::with("", &[(all, &format!("{all}\nvalid_to = 2026-01-19"))]).await;
    assert_eq!(over.soap(&PKI.hospital, query()).await.refusal(), "IDR-X-20", "the row is not in force any more");
    let last_day = World::with("", &[(all, &format!("{all}\nvalid_to = 2026-01-20"))]).await;
    assert_eq!(last_day.soap(&PKI.hospital, query()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_row_for_manifests_alone_takes_no_other_document() {
    let changes: Vec<(&str, &str)> = std::iter::repeat_n((LISTED.as_str(), "transactions = [\"RAD-68\"]"), 3).collect();
    let world = World::with("", &changes).await;
    let revision = Recipe::worked_example().revision();
    let manifest = world.soap(&PKI.district, register(&PKI.district, &PKI.district.worked_site(), &revision)).await;
    assert_eq!(manifest.contexts(), Vec::<String>::new());
    let mut submission = revision.submission.clone();
    submission.entries[0].mime_type = "application/pdf".to_owned();
    submission.entries[0].format_code.as_mut().unwrap().code = "urn:ihe:rad:PDF".to_owned();
    let security = PKI.district.security(&PKI.district.worked_site());
    let text = envelope(&security, action::ITI_41, &message_id(), &crate::testing::soap::registration(&submission));
    let answer: Answer = world.soap(&PKI.district, mtom(&text, &[b"%PDF"])).await;
    assert_eq!(answer.refusal(), "IDR-S-11");
}

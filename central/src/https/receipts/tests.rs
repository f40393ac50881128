//! Pages of receipts, through the router.

use axum::body::{Body, to_bytes};
use http::header::{AUTHORIZATION, LINK};
use http::{HeaderMap, Request, StatusCode, Uri};
use idr_profile::receipt::Carried;
use idr_profile::xua::Transaction;
use serde_json::Value;

use super::{decide, enter};
use crate::consent::gate::Unanswered;
use crate::store::StoreError;
use crate::testing::{Instance, PKI, Party, STUDY, World, patient};

/// Status, `Link` and receipts of an answer; a path that is none of a page is asked as it is.
async fn page(world: &World, party: &Party, path: &str) -> (StatusCode, Option<String>, Vec<Carried>, usize) {
    let authorization = party.bearer(&party.site(&patient()), "idr.store");
    let request = Request::get(path).header(AUTHORIZATION, authorization).body(Body::empty()).expect("a request");
    let (head, body) = world.send(party, request).await.into_parts();
    let body = to_bytes(body, 1 << 26).await.expect("a whole body");
    let values = serde_json::from_slice::<Value>(&body).expect("JSON");
    let receipts = values.as_array().into_iter().flatten().map(|value| Carried::from_value(value).expect("a receipt")).collect();
    let link = head.headers.get(LINK).map(|link| link.to_str().expect("ASCII").to_owned());
    (head.status, link, receipts, body.len())
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

/// All pages of a party: receipts of each.
async fn pages(world: &World, party: &Party) -> Vec<Vec<Carried>> {
    let own = format!("/dicomweb/studies/{STUDY}/receipts");
    let (mut path, mut pages) = (own.clone(), Vec::new());
    loop {
        let (status, link, receipts, bytes) = page(world, party, &path).await;
        assert_eq!(status, StatusCode::OK);
        // A site reads 16 MiB of an answer; an R3 is at most 1 KiB.
        assert!(bytes <= 100 * 1_024, "{bytes}");
        pages.push(receipts);
        let Some(link) = link else { return pages };
        path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link").to_owned();
        assert!(path.starts_with(&format!("{own}?after=")), "{path}");
    }
}

#[tokio::test]
async fn a_study_with_more_receipts_than_a_page_is_read_page_by_page() {
    let world = World::with("", &[("receipts_page_max = 1000", "receipts_page_max = 100")]).await;
    store(&world, &PKI.hospital, 1..=100).await;
    assert_eq!(pages(&world, &PKI.hospital).await.iter().map(Vec::len).collect::<Vec<_>>(), [100], "a full page is the last one");
    store(&world, &PKI.hospital, 101..=205).await;
    let pages = pages(&world, &PKI.hospital).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 5]);
    let ids: Vec<_> = pages.iter().flatten().map(|carried| carried.receipt().id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order");
    let path = format!("/dicomweb/studies/{STUDY}/receipts?after=");
    let (status, link, receipts, _) = page(&world, &PKI.hospital, &format!("{path}{}", ids[204])).await;
    assert_eq!((status, link, receipts.len()), (StatusCode::NOT_FOUND, None, 0));
    assert_eq!(page(&world, &PKI.hospital, &format!("{path}1")).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn receipts_of_others_make_no_page_and_no_link() {
    let world = World::with("", &[("receipts_page_max = 1000", "receipts_page_max = 100")]).await;
    store(&world, &PKI.hospital, 1..=150).await;
    store(&world, &PKI.other, 151..=155).await;
    store(&world, &PKI.hospital, 156..=300).await;
    assert_eq!(pages(&world, &PKI.other).await.iter().map(Vec::len).collect::<Vec<_>>(), [5]);
    assert_eq!(pages(&world, &PKI.hospital).await.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 95]);
    assert_eq!(page(&world, &PKI.district, &format!("/dicomweb/studies/{STUDY}/receipts")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn very_many_receipts_of_others_are_not_told_by_an_error() {
    let world = World::with("", &[("receipts_page_max = 1000", "receipts_page_max = 100")]).await;
    store(&world, &PKI.other, 1..=1).await;
    store(&world, &PKI.hospital, 2..=250).await;
    let look = async |party: &Party| {
        let token = party.bearer(&party.site(&patient()), "idr.store").parse().expect("a header");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, token)]);
        let target: Uri = format!("/dicomweb/studies/{STUDY}/receipts").parse().expect("a path");
        let who = enter(&world.central, &party.client(), &headers, &target, Transaction::Receipts).await.expect("a site");
        decide(&world.central, &who, STUDY, None, 150).await
    };
    let (decided, next) = look(&PKI.district).await.expect("nothing, as if there were none");
    assert_eq!((decided.gated.disclosed.len(), next), (0, None));
    let stopped = look(&PKI.other).await.expect_err("more than are looked at, and one of them is its own");
    assert!(matches!(stopped, Unanswered::Store(StoreError::TooMany { limit: 150 })), "{stopped:?}");
    let (decided, next) = look(&PKI.hospital).await.expect("a page");
    assert_eq!((decided.gated.disclosed.len(), next.is_some()), (100, true));
}

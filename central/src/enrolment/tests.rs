//! Profile 10 §6 by its rows: T10-26, T10-27, and §6.4 by code.

use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response, StatusCode};
use idr_ihe::assertion::{Certificate, Signer as _, SigningKey};
use idr_profile::enrolment::message::{Join, Joined, Offer, PublicKeys, Renew, Renewed};
use idr_profile::enrolment::{Binding, JoinCode, JoinString, Mode, method, over, token_sha256};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tower::ServiceExt as _;

use super::invites::{self, Turn};
use super::{join, renewal, rows};
use crate::audit::Stream;
use crate::control::Operator;
use crate::https::enrol::{Visitor, door};
use crate::https::server::Client;
use crate::peer;
use crate::store::enrolment::{EnrolledState, InviteState};
use crate::testing::{HOSPITAL, OTHER, PKI, World, t0};

const ISSUING: [(&str, &str); 4] = [
    ("# authority_certificate = ", "authority_certificate = "),
    ("# authority_key = ", "authority_key = "),
    ("two_person = true", "two_person = false"),
    ("listen = []                                    # TLS 1.3", "listen = [\"127.0.0.1:0\"] # TLS 1.3"),
];

fn issuing(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    ISSUING
        .iter()
        .chain(&[("refusal_milliseconds = 500", "refusal_milliseconds = 0"), ("requests_per_address = 10", "requests_per_address = 1000")])
        .chain(more)
        .copied()
        .collect()
}

async fn world() -> World {
    World::with("", &issuing(&[])).await
}

fn binding(mode: Mode) -> Binding {
    Binding {
        site: "site-9".to_owned(),
        organisation: HOSPITAL.to_owned(),
        controllers: vec![format!("{HOSPITAL}.19.0")],
        ae_titles: vec!["SITE9".to_owned()],
        names: vec!["site9.example".to_owned()],
        mode,
        rule_sets: Vec::new(),
        transactions: Vec::new(),
    }
}

/// The token of a new invite, and its id.
async fn invite(world: &World, mode: Mode) -> (String, String) {
    let made = invites::create(&world.central, &Operator::of_tests(), binding(mode), None, 86_400).await.expect("an invite");
    let join = JoinString::parse(made["join_string"].as_str().expect("a text")).expect("ours");
    (join.token, made["invite"]["id"].as_str().expect("an id").to_owned())
}

fn csr(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Offer {
    let mut params = CertificateParams::default();
    change(&mut params);
    Offer { csr: Some(params.serialize_request(key).expect("a request").pem().expect("PEM")), ..Offer::default() }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

/// Keys of a site.
struct Keys {
    tls: KeyPair,
    sign: KeyPair,
}

impl Keys {
    fn new() -> Self {
        Self { tls: key(), sign: key() }
    }

    fn join(&self, token: &str) -> Join {
        Join {
            token: token.to_owned(),
            site: "site-9".to_owned(),
            software: "idr-site 0.1".to_owned(),
            tls: csr(&self.tls, |params| params.subject_alt_names = vec![SanType::DnsName("site9.example".try_into().expect("a name"))]),
            sign: csr(&self.sign, |_| {}),
            k6: PublicKeys { audit: None, receipt: URL_SAFE_NO_PAD.encode([7; 32]) },
            nonce: None,
        }
    }

    fn renew(&self) -> Renew {
        Renew { tls: csr(&self.tls, |_| {}), sign: csr(&self.sign, |_| {}), nonce: None }
    }
}

async fn ask(
    world: &World,
    body: impl Into<Body>,
    change: impl FnOnce(http::request::Builder) -> http::request::Builder,
) -> Response<Body> {
    let request = change(Request::post("/enrol/v1/join")).body(body.into()).expect("a request");
    let mut request = request;
    request.extensions_mut().insert(Visitor { address: ([127, 0, 0, 1], 40_000).into() });
    door(world.central.clone()).oneshot(request).await.expect("the router always answers")
}

async fn value(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// Status and code of the answer.
async fn refused(world: &World, join: &Join) -> (u16, String) {
    let (status, body) = value(ask(world, serde_json::to_string(join).expect("JSON"), |request| request).await).await;
    (status, body["code"].as_str().unwrap_or("none").to_owned())
}

async fn joined(world: &World, join: &Join) -> Joined {
    let (status, body) = value(ask(world, serde_json::to_string(join).expect("JSON"), |request| request).await).await;
    assert_eq!(status, 201, "{body}");
    serde_json::from_value(body).expect("an answer")
}

fn client(pem: &str) -> Client {
    let certificate: CertificateDer<'static> = idr_profile::tls::certificates(pem.as_bytes(), "answer").expect("PEM").remove(0);
    Client { sha256: idr_profile::tls::fingerprint(&certificate).into(), certificate, address: ([127, 0, 0, 1], 40_000).into() }
}

async fn state(world: &World, token: &str) -> InviteState {
    let id = hex::encode(token_sha256(token));
    world.central.store.read().await.expect("memory").invite(&id).await.expect("read").expect("there").state
}

/// Kept rows, by state.
async fn rows_of(world: &World) -> Vec<EnrolledState> {
    world.central.store.read().await.expect("memory").enrolled().await.expect("read").into_iter().map(|site| site.state).collect()
}

#[tokio::test]
async fn a_site_joins_once_and_is_in_force_when_it_confirms() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let keys = Keys::new();
    let answer = joined(&world, &keys.join(&token)).await;
    let tls = client(answer.tls.as_deref().expect("issued"));
    let certificate = Certificate::from_der(&tls.certificate).expect("readable");
    assert_eq!(certificate.organization_identifier(), Some(HOSPITAL));
    assert_eq!(certificate.not_after().duration_since(certificate.not_before()), SignedDuration::from_hours(24 * 366), "K1");
    let sign = client(answer.sign.as_deref().expect("issued"));
    let signing = Certificate::from_der(&sign.certificate).expect("readable");
    signing.may_sign_assertions(t0(), false).expect("K2");
    assert_eq!(signing.not_after().duration_since(signing.not_before()), SignedDuration::from_hours(24 * 731), "K2");
    assert_eq!(answer.receipt_keys.len(), 1, "R3 and R4 can be verified");
    assert!(answer.trust.tls_anchors.iter().any(|pem| *pem == PKI.enrolment.0), "its own authority too");
    assert!(answer.pins.len() == 1 && !answer.issuer.is_empty());

    assert!(peer::admit(&world.central, &tls).is_err(), "not in force before it confirms");
    assert_eq!((rows_of(&world).await, state(&world, &token).await), (vec![EnrolledState::Pending], InviteState::Used));
    assert!(join::confirm(&world.central, &sign).await.is_err(), "the signing certificate is no TLS client");
    for _ in 0..2 {
        assert!(join::confirm(&world.central, &tls).await.expect("confirmed").active, "also when the answer was lost");
    }
    let admitted = peer::admit(&world.central, &tls).expect("in force");
    assert_eq!((admitted.row.name.as_str(), admitted.organisation.as_str()), ("site-9", HOSPITAL));
    let trust = world.central.trust.load();
    let issuer = trust.issuer(&answer.issuer).expect("known");
    assert!(issuer.signing_certificates.contains(&signing.sha256()), "its assertions are believed");
    assert!(trust.receipt_keys().iter().any(|key| key.holder == format!("{HOSPITAL}/site-9")), "and its receipts");

    let entries = world.sink.entries().into_iter().filter(|(stream, _)| *stream == Stream::System);
    let notes: Vec<String> = entries.filter_map(|(_, entry)| Some(entry["note"]["event"].as_str()?.to_owned())).collect();
    assert_eq!(notes, ["enrol-invite", "enrol-join", "enrol-confirm"], "each is recorded, once");
    let kept = format!("{:?}", world.central.store.read().await.expect("memory").enrolled().await.expect("read"));
    assert!(!kept.contains(&token), "the token is kept nowhere");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_and_other_keys_get_none() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let keys = Keys::new();
    let first = joined(&world, &keys.join(&token)).await;
    assert_eq!(joined(&world, &keys.join(&token)).await, first, "the same 201");
    assert_eq!(refused(&world, &Keys::new().join(&token)).await, (409, "IDR-J-03".to_owned()), "second use");
    assert_eq!(rows_of(&world).await.len(), 1);
}

/// T10-26 and 10 §6.4: what is asked for, and the refusal.
#[tokio::test]
async fn what_is_not_in_the_invite_or_the_profile_is_refused_by_its_code() {
    type Change = fn(&mut Join, &Keys);
    let cases: [(&str, Change, JoinCode); 12] = [
        ("another token", |join, _| join.token = "B".repeat(43).replacen('B', "A", 1), JoinCode::Token),
        ("no token at all", |join, _| join.token = "short".to_owned(), JoinCode::Token),
        ("another site", |join, _| join.site = "site-8".to_owned(), JoinCode::Binding),
        (
            "a name that was not invited",
            |join, keys| {
                join.tls = csr(&keys.tls, |p| p.subject_alt_names = vec![SanType::DnsName("other.example".try_into().expect("a name"))])
            },
            JoinCode::Binding,
        ),
        (
            "an address as a name",
            |join, keys| {
                join.tls = csr(&keys.tls, |p| p.subject_alt_names = vec![SanType::IpAddress(std::net::IpAddr::from([10, 0, 0, 1]))])
            },
            JoinCode::Binding,
        ),
        (
            "another organisation",
            |join, keys| join.sign = csr(&keys.sign, |p| p.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 97]), OTHER)),
            JoinCode::Binding,
        ),
        ("Ed25519", |join, _| join.tls = csr(&KeyPair::generate_for(&PKCS_ED25519).expect("a key"), |_| {}), JoinCode::Profile),
        ("one key for both", |join, _| join.sign = join.tls.clone(), JoinCode::Binding),
        (
            "one key for both, without names",
            |join, keys| (join.tls, join.sign) = (csr(&keys.tls, |_| {}), csr(&keys.tls, |_| {})),
            JoinCode::Profile,
        ),
        (
            "an authority",
            |join, keys| join.tls = csr(&keys.tls, |p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            JoinCode::Profile,
        ),
        ("no request", |join, _| join.tls = Offer::default(), JoinCode::Malformed),
        ("no receipt key", |join, _| join.k6.receipt = "AAAA".to_owned(), JoinCode::Malformed),
    ];
    for (what, change, code) in cases {
        let world = world().await;
        let (token, _) = invite(&world, Mode::Issue).await;
        let keys = Keys::new();
        let mut asked = keys.join(&token);
        change(&mut asked, &keys);
        // Of "one key for both" with the names of TLS, the names are seen first.
        let (status, found) = refused(&world, &asked).await;
        let expected = if what == "one key for both" { JoinCode::Profile } else { code };
        assert_eq!((status, found), (expected.status(), format!("IDR-{}", expected.id())), "{what}");
        assert_eq!((rows_of(&world).await, state(&world, &token).await), (Vec::new(), InviteState::Open), "{what}: nothing is kept");
        joined(&world, &keys.join(&token)).await;
    }
}

#[tokio::test]
async fn the_sixth_try_finds_a_burned_token() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let keys = Keys::new();
    let mut wrong = keys.join(&token);
    wrong.site = "site-8".to_owned();
    for attempt in 1..=5 {
        assert_eq!(refused(&world, &wrong).await.1, "IDR-J-02", "try {attempt}");
    }
    assert_eq!(refused(&world, &keys.join(&token)).await, (401, "IDR-J-01".to_owned()), "the right keys come too late");
    assert_eq!(state(&world, &token).await, InviteState::Burned);
}

#[tokio::test]
async fn an_invite_that_is_waiting_revoked_or_expired_is_not_told_from_an_unknown_one() {
    let two = World::with("", &issuing(&[]).into_iter().filter(|(from, _)| !from.contains("two_person")).collect::<Vec<_>>()).await;
    let (token, id) = invite(&two, Mode::Issue).await;
    let keys = Keys::new();
    let mut answers = vec![refused(&two, &keys.join(&token)).await];
    let own = invites::approve(&two.central, &Operator::of_tests(), &id).await.expect_err("a second person").to_string();
    assert!(own.contains("second operator"), "{own}");
    invites::approve(&two.central, &Operator::of_user(4242), &id).await.expect("another operator");
    assert_eq!(state(&two, &token).await, InviteState::Open);
    invites::revoke(&two.central, &Operator::of_tests(), &id).await.expect("revoked");
    answers.push(refused(&two, &keys.join(&token)).await);
    let mut tx = two.central.store.begin().await.expect("memory");
    let expired = "E".repeat(42) + "A";
    let mut old = tx.invite(&hex::encode(token_sha256(&token))).await.expect("read").expect("there");
    (old.token_sha256, old.state, old.expires_at) =
        (hex::encode(token_sha256(&expired)), InviteState::Open, t0() - SignedDuration::from_secs(1));
    tx.add_invite(&old).await.expect("added");
    tx.commit().await.expect("kept");
    answers.push(refused(&two, &keys.join(&expired)).await);
    answers.push(refused(&two, &keys.join(&"A".repeat(43))).await);
    assert_eq!(answers, vec![(401, "IDR-J-01".to_owned()); 4]);
}

#[tokio::test]
async fn bounds_of_body_rate_and_clock() {
    let world = World::with("", &issuing(&[("requests = 100  ", "requests = 8  ")])).await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let whole = serde_json::to_string(&Keys::new().join(&token)).expect("JSON");
    let long = format!("{whole}{}", " ".repeat(65_536));
    for (what, body) in [("long", long), ("no JSON", "{".to_owned()), ("unknown member", whole.replacen('{', "{\"x\":1,", 1))] {
        let (status, body) = value(ask(&world, body, |request| request).await).await;
        assert_eq!((status, body["code"].as_str()), (400, Some("IDR-J-08")), "{what}");
    }
    for (seconds, expected) in [(61, 412), (-61, 412), (60, 401), (-60, 401)] {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&(t0() + SignedDuration::from_secs(seconds)));
        let body = whole.replace(&token, &"A".repeat(43));
        let (status, _) = value(ask(&world, body, |request| request.header("date", date.expect("a date"))).await).await;
        assert_eq!(status, expected, "{seconds} s");
    }
    assert_eq!(ask(&world, "{", |request| request).await.status(), StatusCode::BAD_REQUEST, "the eighth in a minute");
    let response = ask(&world, whole, |request| request).await;
    assert_eq!(response.headers()["retry-after"], "60");
    assert_eq!(value(response).await.1["code"], "IDR-J-06");
    assert_eq!(state(&world, &token).await, InviteState::Open, "none of it is a try");
}

/// T10-27.
#[tokio::test]
async fn whatever_statement_fails_the_token_is_used_only_with_a_whole_row() {
    for statements in 0..8 {
        let world = world().await;
        let (token, _) = invite(&world, Mode::Issue).await;
        let id = hex::encode(token_sha256(&token));
        let keys = Keys::new();
        // The row as the join would keep it.
        joined(&world, &keys.join(&token)).await;
        let mut tx = world.central.store.begin().await.expect("memory");
        let site = tx.enrolled_by(&id).await.expect("read").expect("there");
        let mut invite = tx.invite(&id).await.expect("read").expect("there");
        invite.state = InviteState::Open;
        tx.change_invite(&invite).await.expect("as before");
        tx.forget_unconfirmed(Timestamp::MAX).await.expect("forgotten");
        tx.commit().await.expect("kept");

        let mut tx = world.central.store.begin().await.expect("memory");
        tx.fail_after(statements);
        let done = join::keep_in(tx, &invite, &site).await;
        let used = state(&world, &token).await == InviteState::Used;
        assert_eq!((done.is_ok(), used), (used, !rows_of(&world).await.is_empty()), "after {statements} statements");
        assert_eq!(used, statements >= 3, "{statements}: read, use, row");
        assert!(done.err().is_none_or(|refused| refused.code == JoinCode::Unavailable));
    }
}

#[tokio::test]
async fn a_join_without_a_confirmation_is_forgotten_after_an_hour() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let keys = Keys::new();
    joined(&world, &keys.join(&token)).await;
    let hour = SignedDuration::from_secs(3_600);
    for (after, left) in [(hour, 1), (hour + SignedDuration::from_secs(1), 0)] {
        let mut tx = world.central.store.begin().await.expect("memory");
        tx.forget_unconfirmed(t0() + after - hour).await.expect("forgotten");
        tx.commit().await.expect("kept");
        assert_eq!(rows_of(&world).await.len(), left);
    }
    assert_eq!(refused(&world, &keys.join(&token)).await.1, "IDR-J-01", "its invite is burned");
}

#[tokio::test]
async fn registered_certificates_are_proven_and_of_the_organisation() {
    let world = world().await;
    let pem = idr_profile::tls::to_pem;
    let hospital = &PKI.hospital;
    let nonce = || {
        let text = join::nonce(&world.central).expect("a nonce").nonce;
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(&text).expect("base64url").try_into().expect("32 bytes");
        (text, bytes)
    };
    let ask = |token: &str, (certificate, signs): (&[u8], &SigningKey), tls: (&[u8], &SigningKey), nonce: (String, [u8; 32])| {
        let text = over(&token_sha256(token), "site-9", &nonce.1);
        let proof = |key: &SigningKey| Some(URL_SAFE_NO_PAD.encode(key.sign(method(key.key_type()), &text).expect("signed")));
        let offer = |der: &[u8], key: &SigningKey| Offer { csr: None, certificate: Some(pem(der)), proof: proof(key) };
        Join { tls: offer(tls.0, tls.1), sign: offer(certificate, signs), nonce: Some(nonce.0), ..Keys::new().join(token) }
    };
    let own_tls = (&*hospital.tls, &hospital.tls_key);
    let own = (&*hospital.certificate, &hospital.key);
    let other = &PKI.other;
    let (token, _) = invite(&world, Mode::Register).await;
    for (what, join, expected) in [
        ("another's signing certificate", ask(&token, (&other.certificate, &other.key), own_tls, nonce()), "IDR-J-02"),
        ("another's key", ask(&token, (&hospital.certificate, &other.key), own_tls, nonce()), "IDR-J-05"),
        ("a nonce of nobody", ask(&token, own, own_tls, (URL_SAFE_NO_PAD.encode([1; 32]), [1; 32])), "IDR-J-05"),
        ("a request where a certificate belongs", Keys::new().join(&token), "IDR-J-02"),
    ] {
        assert_eq!(refused(&world, &join).await.1, expected, "{what}");
    }
    let answer = joined(&world, &ask(&token, own, own_tls, nonce())).await;
    assert!(answer.tls.is_none() && answer.sign.is_none(), "it has its certificates");
    join::confirm(&world.central, &hospital.client()).await.expect("confirmed");
    let sites = world.central.store.read().await.expect("memory").enrolled().await.expect("read");
    let (_, ended) = rows::trusted(&sites, t0());
    assert!(ended.is_empty());
}

#[tokio::test]
async fn renewed_certificates_count_beside_the_earlier_ones_for_the_overlap() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let answer = joined(&world, &Keys::new().join(&token)).await;
    let earlier = client(answer.tls.as_deref().expect("issued"));
    assert!(renewal::renew(&world.central, &earlier, &Keys::new().renew()).await.is_err(), "nothing is renewed before it is in force");
    join::confirm(&world.central, &earlier).await.expect("confirmed");

    let keys = Keys::new();
    let text = renewal::renew(&world.central, &earlier, &keys.renew()).await.expect("renewed");
    let renewed: Renewed = serde_json::from_str(&text).expect("an answer");
    assert_eq!(renewed.earlier_until, t0() + SignedDuration::from_hours(7 * 24));
    assert_eq!(renewal::renew(&world.central, &earlier, &keys.renew()).await.expect("again"), text, "a lost answer");
    let later = client(renewed.tls.as_deref().expect("issued"));
    for certificate in [&earlier, &later] {
        peer::admit(&world.central, certificate).expect("both count");
    }
    let sites = world.central.store.read().await.expect("memory").enrolled().await.expect("read");
    let after = renewed.earlier_until + SignedDuration::from_secs(1);
    assert_eq!(rows::peers(&sites, after)[0].certificates, [later.sha256.to_string()], "after the overlap the new one alone");
    assert_eq!(rows::trusted(&sites, after).1.len(), 2, "the earlier ones are nobody's");
    let same = renewal::renew(&world.central, &later, &Renew { tls: keys.renew().sign, sign: keys.renew().tls, nonce: None }).await;
    assert_eq!(same.expect_err("keys that it has").code, JoinCode::Profile);
}

#[tokio::test]
async fn a_site_that_is_disabled_is_out_of_force_at_once_and_a_revoked_one_for_good() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let answer = joined(&world, &Keys::new().join(&token)).await;
    let tls = client(answer.tls.as_deref().expect("issued"));
    join::confirm(&world.central, &tls).await.expect("confirmed");
    let operator = Operator::of_tests();
    let turn = async |turn| invites::turn(&world.central, &operator, "site-9", turn, "a test").await;
    turn(Turn::Disable).await.expect("disabled");
    assert!(peer::admit(&world.central, &tls).is_err());
    assert!(
        world.central.trust.load().issuer(&answer.issuer).is_some_and(|issuer| issuer.signing_certificates.len() == 1),
        "the file's own"
    );
    turn(Turn::Enable).await.expect("back");
    peer::admit(&world.central, &tls).expect("in force again");
    turn(Turn::Revoke).await.expect("revoked");
    assert!(peer::admit(&world.central, &tls).is_err());
    assert!(turn(Turn::Enable).await.is_err(), "for good");

    // A new invite for the same site, and only its certificates count.
    let (token, _) = invite(&world, Mode::Issue).await;
    let again = client(joined(&world, &Keys::new().join(&token)).await.tls.as_deref().expect("issued"));
    join::confirm(&world.central, &again).await.expect("confirmed");
    assert!(peer::admit(&world.central, &again).is_ok() && peer::admit(&world.central, &tls).is_err());
}

#[tokio::test]
async fn where_lists_are_required_the_centre_itself_knows_of_its_certificates() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let tls = client(joined(&world, &Keys::new().join(&token)).await.tls.as_deref().expect("issued"));
    join::confirm(&world.central, &tls).await.expect("confirmed");
    let required = ("revocation = \"off\"", "revocation = \"require\"");
    let config = crate::testing::config(std::path::Path::new("/no-such-folder/idr-central.toml"), &[required]);
    let revocations = crate::revocation::Revocations::load(&config, &world.central.trust.load()).expect("no list at all");
    let ask = |certificate: &[u8]| revocations.client(&Certificate::from_der(certificate).expect("readable"), t0());
    assert!(ask(&tls.certificate).is_ok(), "of the authority of enrolment");
    assert!(ask(&PKI.hospital.tls).is_err(), "of another one a list is needed");
}

#[tokio::test]
async fn a_renewal_that_is_lost_leaves_the_site_with_what_it_has() {
    let world = world().await;
    let (token, _) = invite(&world, Mode::Issue).await;
    let tls = client(joined(&world, &Keys::new().join(&token)).await.tls.as_deref().expect("issued"));
    join::confirm(&world.central, &tls).await.expect("confirmed");
    for lost in 0..3 {
        renewal::renew(&world.central, &tls, &Keys::new().renew()).await.expect("renewed, and the answer is lost");
        peer::admit(&world.central, &tls).unwrap_or_else(|error| panic!("after {lost} lost renewals: {error}"));
    }
}

//! The JWT and carriage vectors of profile 04 §14.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_ihe::assertion::{Certificate, SignatureMethod, Signer as _, sha256};
use serde_json::{Map, Value, json};

use super::vector::Vector;
use super::world::{Party, WORLD, Wanted, claims, pem, seconds, t0};
use crate::access::{Kind, Purpose};
use crate::xua::http::{Credentials, credentials, no_token_elsewhere};
use crate::xua::produce::{Production, TokenBinding, jwt};
use crate::xua::{Carriage, Refusal, Transaction, Verified, dimse};

/// A token vector: edits of header and payload before signing, and of the token after it.
pub(super) struct Token {
    pub(super) id: &'static str,
    pub(super) expected: Result<(), u8>,
    vector: Vector,
    party: Party,
    header: fn(&mut Map<String, Value>),
    payload: fn(&mut Map<String, Value>),
    duplicate: bool,
    carriage: Carriage,
    scope: &'static str,
}

impl Token {
    pub(super) fn new(id: &'static str, party: Party) -> Self {
        Self::of(id, party, Kind::Professional, Purpose::Normal, Transaction::QidoRs)
    }

    pub(super) fn of(id: &'static str, party: Party, kind: Kind, purpose: Purpose, transaction: Transaction) -> Self {
        let registered = format!("signing_certificates = [\"\"\"{}\"\"\"]", pem(&party.certificate));
        let vector = Vector::of(id, kind, purpose, transaction).trust(&registered);
        let class = transaction.class(purpose).expect("a class");
        let scope = transaction.scope(class);
        Self { id, expected: Ok(()), vector, party, header: |_| {}, payload: |_| {}, duplicate: false, carriage: Carriage::Http, scope }
    }

    fn header(self, header: fn(&mut Map<String, Value>), code: u8) -> Self {
        Self { header, expected: Err(code), ..self }
    }

    fn payload(self, payload: fn(&mut Map<String, Value>), code: u8) -> Self {
        Self { payload, expected: Err(code), ..self }
    }

    pub(super) fn token(&self) -> String {
        let now = t0();
        let rule = self.vector.rules.kind(self.vector.claims.kind).expect("a row");
        let production = Production {
            claims: &self.vector.claims,
            audience: self.vector.rules.audience(),
            authn_context: &rule.authn_contexts[0],
            authn_instant: now - seconds(600),
            now,
            random: [7; 16],
        };
        let binding =
            TokenBinding { signer_sha256: sha256(&self.party.certificate), tls_sha256: sha256(&self.vector.tls), scope: self.scope };
        let made = jwt(&production, &self.vector.rules, &binding, &self.party.key).expect("made");
        let object = |part: &str| -> Map<String, Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("an object")
        };
        let parts: Vec<&str> = made.split('.').collect();
        let (mut header, mut payload) = (object(parts[0]), object(parts[1]));
        (self.header)(&mut header);
        (self.payload)(&mut payload);
        let mut text = serde_json::to_string(&payload).expect("JSON");
        if self.duplicate {
            text.insert_str(1, "\"sub\":\"90000000002\",");
        }
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).expect("JSON")), URL_SAFE_NO_PAD.encode(text));
        let method = header.get("alg").and_then(Value::as_str).and_then(|name| SignatureMethod::from_jws_name(name, false));
        let value = method.and_then(|method| self.party.key.sign(method, signed.as_bytes()).ok()).unwrap_or_default();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(value))
    }

    pub(super) fn run(&self) -> Result<Verified, Refusal> {
        self.judge(&self.token())
    }

    pub(super) fn judge(&self, token: &str) -> Result<Verified, Refusal> {
        let vector = &self.vector;
        vector.with(|verifier, facts| verifier.verify_jwt(token, self.carriage, &vector.tls, facts, vector.now))
    }

    fn tls(mut self, der: &[u8], code: u8) -> Self {
        self.vector.tls = der.to_vec();
        // Made for the client of A, presented by another.
        self.payload = |p| p["cnf"]["x5t#S256"] = URL_SAFE_NO_PAD.encode(sha256(&WORLD.tls_a)).into();
        Self { expected: Err(code), ..self }
    }
}

fn rsa() -> Party {
    WORLD.rsa(Wanted::default())
}

fn own(payload: &mut Map<String, Value>) -> &mut Map<String, Value> {
    payload["extensions"]["idr"].as_object_mut().expect("extensions.idr")
}

/// Every token vector.
pub(super) fn tokens() -> Vec<Token> {
    let mut other_issuer = Token::new("N115", rsa());
    other_issuer.payload = |p| p["iss"] = format!("urn:oid:{}", super::world::B).into();
    other_issuer.vector =
        other_issuer.vector.trust(&format!("signing_certificates = [\"\"\"{}\"\"\"]", pem(&other_issuer.party.certificate)));
    vec![
        Token::new("P21", rsa()),
        Token::new("P22", WORLD.ec(&rcgen::PKCS_ECDSA_P256_SHA256)),
        Token { carriage: Carriage::Dimse, ..Token::of("P24", rsa(), Kind::Professional, Purpose::Normal, Transaction::CFind) },
        Token::new("P25", rsa()),
        Token::of("technical", rsa(), Kind::Technical, Purpose::Automatic, Transaction::StowRs),
        Token::of("citizen", rsa(), Kind::Citizen, Purpose::PatientView, Transaction::WadoRs),
        Token::of("emergency", WORLD.ec(&rcgen::PKCS_ECDSA_P384_SHA384), Kind::Professional, Purpose::Emergency, Transaction::WadoRs),
        Token::new("N108", rsa()).header(|h| h["alg"] = "none".into(), 28),
        Token::new("N109", rsa()).header(|h| h["alg"] = "HS256".into(), 28),
        Token::new("N110", rsa()).header(|h| drop(h.insert("jwk".to_owned(), json!({}))), 28),
        Token::new("N111", rsa()).header(|h| drop(h.insert("jku".to_owned(), "https://x.example/".into())), 28),
        Token::new("N112", rsa()).header(|h| h["typ"] = "JWT".into(), 28),
        Token::new("N113", rsa()).header(|h| drop(h.insert("crit".to_owned(), json!(["exp"]))), 28),
        Token { duplicate: true, expected: Err(28), ..Token::new("N114", rsa()) },
        Token { expected: Err(29), ..other_issuer },
        Token::new("kid unknown", rsa()).header(|h| h["kid"] = "AAAA".into(), 29),
        Token::new("N116", rsa()).payload(|p| drop(p.remove("cnf")), 30),
        Token::new("N117", rsa()).tls(&WORLD.tls_b, 30),
        Token::new("alg of another key", rsa()).header(|h| h["alg"] = "ES256".into(), 28),
        Token::new("expired", rsa()).payload(|p| p["exp"] = (t0().as_second() - 60).into(), 15),
        Token::new("no expiry", rsa()).payload(|p| drop(p.remove("exp")), 5),
        Token::new("fraction", rsa()).payload(|p| p["iat"] = 1.5.into(), 5),
        Token::new("short jti", rsa()).payload(|p| p["jti"] = "x".into(), 7),
        Token::new("audience", rsa()).payload(|p| p["aud"] = json!(["urn:x:a", "urn:x:b"]), 18),
        Token::new("scope", rsa()).payload(|p| p["scope"] = "idr.store idr.queryx".into(), 25),
        Token::new("client id", rsa()).payload(|p| p["client_id"] = "1.2.3".into(), 24),
        Token::new("two roles", rsa()).payload(
            |p| {
                let role = &mut p["extensions"]["ihe_iua"]["subject_role"];
                let one = role[0].clone();
                role.as_array_mut().expect("an array").push(one);
            },
            22,
        ),
        Token::new("no controller", rsa()).payload(|p| drop(own(p).remove("controller")), 22),
        Token::new("withdrawn", rsa()).payload(|p| drop(own(p).insert("urn:kanta:kvarkki:break-glass".to_owned(), true.into())), 33),
    ]
}

#[test]
fn every_token_vector_ends_as_the_profile_says() {
    for token in tokens() {
        let ended = token.run();
        let code = ended.as_ref().map(|_| ()).map_err(|refusal| refusal.code.number());
        assert_eq!(code, token.expected, "{}: {}", token.id, ended.err().map(|e| e.to_string()).unwrap_or_default());
    }
}

#[test]
fn p25_a_token_is_bound_to_the_tls_client_that_used_it_first() {
    let token = Token::new("P25", rsa());
    let text = token.token();
    let (first, second) = (token.judge(&text).expect("accepted"), token.judge(&text).expect("accepted"));
    assert_eq!(first.replay, second.replay);
    assert!(!first.replay.single_use);
    assert_eq!(first.replay.tls_sha256, sha256(&WORLD.tls_a));
    let soap = Vector::new("P01").run().expect("accepted");
    assert!(soap.replay.single_use);
    assert_eq!(soap.replay.keep_until, t0() + seconds(295 + 60));
    let key = sha256(format!("urn:oid:{}\0{}", super::world::A, super::vector::ID).as_bytes());
    assert_eq!(soap.replay.key, key);
}

#[test]
fn what_is_produced_is_what_is_verified() {
    for (kind, purpose, transaction) in [
        (Kind::Technical, Purpose::Automatic, Transaction::StowRs),
        (Kind::Professional, Purpose::Emergency, Transaction::WadoRs),
        (Kind::Guardian, Purpose::PatientView, Transaction::QidoRs),
        (Kind::Professional, Purpose::ConsentManagement, Transaction::DeclarationWrite),
    ] {
        let token = Token::of("round", rsa(), kind, purpose, transaction);
        let verified = token.run().unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        let read = verified.subject.claims();
        let expected = crate::access::Claims {
            assertion_id: read.assertion_id.clone(),
            issuer_organisation: super::world::A.to_owned(),
            assertion_sha256: hex::encode(sha256(&verified.evidence)),
            not_on_or_after: t0() + seconds(240),
            ..claims(kind, purpose)
        };
        assert!(*read == expected, "{kind:?}");
    }
}

#[test]
fn carriage_is_told_apart_by_the_scheme_alone() {
    let rules = &WORLD.rules;
    let token = Token::new("P21", rsa()).token();
    let assertion = Vector::new("P19").assertion();
    let bearer = |value: &str| format!("Bearer {value}");
    let code = |headers: &[&str]| credentials(headers.iter().map(|h| h.as_bytes()), rules).map(|_| ()).map_err(|e| e.code.number());
    assert_eq!(code(&[&bearer(&token)]), Ok(()));
    assert_eq!(code(&[]), Err(1), "missing token");
    assert_eq!(code(&[&bearer(&token), &bearer(&token)]), Err(31), "N119");
    assert_eq!(no_token_elsewhere(["study", "access_token"]).map_err(|e| e.code.number()), Err(31), "N120");
    assert_eq!(no_token_elsewhere(["PatientID", "limit"]), Ok(()));
    assert_eq!(code(&[&bearer(&assertion)]), Err(31), "N121 as text");
    assert_eq!(code(&[&bearer(&URL_SAFE_NO_PAD.encode(&assertion))]), Err(31), "N121 encoded");
    assert_eq!(code(&[&format!("IHE-SAML {token}")]), Err(31), "N122");
    assert_eq!(code(&["Basic dXNlcjpwYXNz"]), Err(31));
    assert_eq!(code(&["Bearer"]), Err(31));
    assert_eq!(code(&[&bearer(&"x".repeat(8193))]), Err(4));
    assert_eq!(code(&[&format!("IHE-SAML {}", "x".repeat(24_577))]), Err(4));
    let wrapped = format!("IHE-SAML {}\n{}", &URL_SAFE_NO_PAD.encode(&assertion)[..76], &URL_SAFE_NO_PAD.encode(&assertion)[76..]);
    assert_eq!(code(&[&wrapped]), Err(31), "line break");
    let strict = Vector::new("strict").rules("[http.saml]\naccept_base64 = false").rules;
    let padded = format!("IHE-SAML {}", base64::engine::general_purpose::STANDARD.encode(&assertion));
    assert_eq!(credentials([padded.as_bytes()], &strict).map(|_| ()).map_err(|e| e.code.number()), Err(31));
}

#[test]
fn an_association_is_rejected_for_any_other_identity() {
    let rules = &WORLD.rules;
    let code =
        |kind, primary: &'static [u8], secondary: &[u8]| dimse::identity(kind, primary, secondary, rules).map_err(|e| e.code.number());
    for kind in [0, 1, 2, 3, 6] {
        assert_eq!(code(kind, b"user", b""), Err(31), "N125 type {kind}");
    }
    assert_eq!(code(4, &[b'x'; 65_535], b""), Err(4), "N126");
    assert_eq!(code(4, &[b'x'; 16_384], b""), Ok(Credentials::Saml(vec![b'x'; 16_384])));
    assert_eq!(code(5, &[b'x'; 8193], b""), Err(4));
    assert_eq!(code(5, b"\xff", b""), Err(31));
    assert_eq!(code(4, b"x", b"y"), Err(31));
    let refused = dimse::identity(2, b"user", b"", rules).expect_err("refused");
    assert_eq!(dimse::rejection(&refused), (1, 2, 1));
    assert_eq!(dimse::rejection(&Refusal::unavailable("replay store")), (2, 3, 1));
    assert_eq!(dimse::error_comment(&refused), "IDR-X-31");
}

#[test]
fn a_registered_certificate_is_known_by_its_thumbprint() {
    let party = rsa();
    let certificate = Certificate::from_der(&party.certificate).expect("readable");
    let kid = crate::xua::jwt::thumbprint(&certificate.sha256());
    assert_eq!(kid.len(), 43);
    let head = Token::new("P21", party).token();
    let head = URL_SAFE_NO_PAD.decode(head.split('.').next().expect("a header")).expect("base64url");
    let head: Map<String, Value> = serde_json::from_slice(&head).expect("JSON");
    assert_eq!(head["kid"], kid.as_str());
    assert_eq!(head["alg"], "PS256");
}

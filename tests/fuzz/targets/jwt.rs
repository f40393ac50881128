//! Tokens: JWT as text and as parts, claims under a signature that holds, HTTP and DIMSE carriage; and custody receipts,
//! which are JWS too (profile 04 §10.2–§10.4, 11). First byte: which.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_fuzz::trusted::{WORLD, now};
use idr_fuzz::{seed, seeds, split};
use idr_ihe::assertion::{Signer as _, jws, sha256};
use idr_profile::receipt::Carried;
use idr_profile::xua::http::credentials;
use idr_profile::xua::{Carriage, dimse, produce};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    match split(data) {
        (0, rest) => drop(std::str::from_utf8(rest).map(verify)),
        (1, rest) => {
            // Header, line end, payload: what base64 would hide from the fuzzer.
            let (header, payload) = rest.split_at(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
            let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
            verify(&format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
        }
        (2, rest) => verify(&signed(rest)),
        (3, rest) => {
            if let Ok(text) = std::str::from_utf8(rest)
                && let Ok(carried) = Carried::parse(text)
            {
                let again = Carried::parse(&carried.to_json()).expect("what is written can be read");
                assert!(again.hash() == carried.hash() && again.jws() == carried.jws());
            }
        }
        (4, rest) => drop(credentials([rest], &WORLD.rules)),
        (kind, rest) => drop(dimse::identity(kind, rest, &[], &WORLD.rules)),
    }
});

fn verify(token: &str) {
    for carriage in [Carriage::Http, Carriage::Dimse] {
        let _ = WORLD.verifier().verify_jwt(token, carriage, &WORLD.tls, &WORLD.facts(), now());
    }
}

/// A token of the trusted signer over any payload.
fn signed(payload: &[u8]) -> String {
    let method = WORLD.key.jws_method().expect("P-256");
    let kid = URL_SAFE_NO_PAD.encode(sha256(&WORLD.certificate));
    let header = format!("{{\"typ\":\"{}\",\"alg\":\"{}\",\"kid\":\"{kid}\"}}", jws::TYPE, method.jws_name().expect("a name"));
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let value = WORLD.key.sign(method, text.as_bytes()).expect("signed");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(value))
}

fn all() -> Vec<Vec<u8>> {
    let claims = WORLD.claims();
    let binding = produce::TokenBinding { signer_sha256: sha256(&WORLD.certificate), tls_sha256: sha256(&WORLD.tls), scope: "idr.store" };
    let token = produce::jwt(&WORLD.production(&claims), &WORLD.rules, &binding, &WORLD.key).expect("signed");
    let verified = WORLD.verifier().verify_jwt(&token, Carriage::Http, &WORLD.tls, &WORLD.facts(), now());
    verified.expect("the seed passes every step");
    let part = |number: usize| URL_SAFE_NO_PAD.decode(token.split('.').nth(number).expect("three parts")).expect("base64url");
    let (header, payload) = (part(0), part(1));
    let receipt = idr_fuzz::trusted::receipt().to_json();
    vec![
        seed(&[0], &token),
        seed(&[1], [&header[..], b"\n", &payload].concat()),
        seed(&[2], &payload),
        seed(&[3], receipt),
        seed(&[4], format!("Bearer {token}")),
        seed(&[4], "IHE-SAML PGEvPg=="),
        seed(&[5], &token),
    ]
}

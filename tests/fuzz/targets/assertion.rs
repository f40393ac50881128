//! SAML: an assertion as presented, alone and in an envelope, up to its signature; and one that we sign over any texts, all
//! the way (profile 04 §11 V1–V17). First byte: which.
#![no_main]

use idr_fuzz::trusted::{WORLD, now};
use idr_fuzz::{Lines, seed, seeds, split};
use idr_ihe::assertion::{Bergshamra, Carriage, Certificate, EnvelopedSigner, Limits, NS_SOAP, NS_WSSE, Presented};
use idr_ihe::metadata::PatientId;
use idr_profile::xua::{self, produce};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    match split(data) {
        (0, rest) => presented(rest, Carriage::Alone),
        (1, rest) => presented(rest, Carriage::Envelope),
        (2, rest) => drop(Certificate::from_der(rest)),
        (_, rest) => signed(rest),
    }
});

fn presented(bytes: &[u8], carriage: Carriage) {
    let limits = Limits::default();
    let Ok(presented) = Presented::read(bytes, carriage, &limits, true) else { return };
    let Ok(certificate) = Certificate::from_der(presented.signing_certificate()) else { return };
    let Ok(key) = certificate.public_key() else { return };
    let _ = presented.fits(&certificate);
    if let Ok(signed) = presented.verify(key, &Bergshamra, &limits) {
        assert_eq!(signed.assertion.issuer, presented.issuer());
    }
}

/// What we sign verifies, whatever the texts; the profile may refuse what it says.
fn signed(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = Lines::of(text);
    let mut claims = WORLD.claims();
    claims.name = lines.text();
    claims.organisation = lines.option();
    claims.unit = lines.option();
    claims.service_event = lines.option();
    claims.patient = lines.option().map(|id| PatientId { id, authority: "1.2.246.21".to_owned() });
    claims.site = lines.option();
    claims.home_community = lines.option();
    claims.controller = lines.option();
    claims.emergency_text = lines.option();
    claims.outsourced_authorisation = lines.option();
    let signer = EnvelopedSigner { key: &WORLD.key, certificate: &WORLD.certificate };
    let Ok(assertion) = produce::saml(&WORLD.production(&claims), &WORLD.rules, &signer) else { return };
    for (message, carriage) in [(assertion.clone(), xua::Carriage::Http), (envelope(&assertion), xua::Carriage::Soap)] {
        let verified = WORLD.verifier().verify_saml(message.as_bytes(), carriage, &WORLD.tls, &WORLD.facts(), now());
        if let Err(refusal) = verified {
            // 8 … 12: the signature. Our own holds.
            assert!(!(8..=12).contains(&(refusal.code as u8)), "{refusal}");
        }
    }
}

fn envelope(assertion: &str) -> String {
    format!(
        "<e:Envelope xmlns:e=\"{NS_SOAP}\"><e:Header><w:Security xmlns:w=\"{NS_WSSE}\">{assertion}</w:Security></e:Header><e:Body><q/></e:Body></e:Envelope>"
    )
}

fn all() -> Vec<Vec<u8>> {
    let claims = WORLD.claims();
    let signer = EnvelopedSigner { key: &WORLD.key, certificate: &WORLD.certificate };
    let assertion = produce::saml(&WORLD.production(&claims), &WORLD.rules, &signer).expect("signed");
    let verified = WORLD.verifier().verify_saml(assertion.as_bytes(), xua::Carriage::Http, &WORLD.tls, &WORLD.facts(), now());
    verified.expect("the seed passes every step");
    let texts = "site-1\nTestisairaala & Oy\n1.2.246.10.90000011.10.1\n\n010190-900P\nsite-1\n\n1.2.246.10.90000011.19.0\n<\"'>\r\t\n";
    vec![seed(&[0], &assertion), seed(&[1], envelope(&assertion)), seed(&[2], &WORLD.certificate), seed(&[3], texts)]
}

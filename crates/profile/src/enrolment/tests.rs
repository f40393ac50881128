use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType,
};

use super::*;
use crate::xds::Errors;

fn join_string() -> JoinString {
    JoinString {
        url: "https://central.idr.example:8445/enrol/v1".to_owned(),
        pins: vec!["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()],
        token: "A".repeat(TOKEN_CHARS),
        expires: jiff::Timestamp::from_second(1_800_000_000).expect("an instant"),
    }
}

#[test]
fn a_join_string_is_read_back_and_shows_nothing() {
    let text = join_string().to_text().expect("short");
    assert!(text.starts_with("idrj1.") && text.len() <= 1024);
    assert_eq!(JoinString::parse(&format!(" {text}\n")), Ok(join_string()));
    assert!(!format!("{:?}", join_string()).contains('A'), "the token is a secret");
    let other = |change: fn(&mut JoinString)| {
        let mut changed = join_string();
        change(&mut changed);
        changed.to_text().expect("short")
    };
    for (wrong, expected) in [
        ("idrj2.AAAA".to_owned(), JoinStringError::Prefix),
        (format!("idrj1.{}", "A".repeat(1100)), JoinStringError::Length),
        (text[..text.len() - 4].to_owned(), JoinStringError::Content),
        (other(|s| s.url = "http://central.idr.example/enrol/v1".to_owned()), JoinStringError::Content),
        (other(|s| s.pins.clear()), JoinStringError::Content),
        (other(|s| s.token.truncate(42)), JoinStringError::Content),
    ] {
        assert_eq!(JoinString::parse(&wrong), Err(expected), "{wrong}");
    }
}

#[test]
fn every_refusal_has_its_status_and_its_texts() {
    let errors = Errors::shipped();
    for (at, code) in JoinCode::ALL.into_iter().enumerate() {
        assert_eq!(code.id(), format!("J-{:02}", at + 1));
        let row = errors.problem_json(code.id()).unwrap_or_else(|| panic!("errors.toml has a row {}", code.id()));
        assert_eq!(row.status, [code.status()], "{}", code.id());
        assert_eq!(JoinCode::of_problem_type(&format!("urn:x-idr:problem:IDR-{}", code.id())), Some(code));
    }
}

fn csr(algorithm: &'static rcgen::SignatureAlgorithm, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), "1.2.246.10.90000011");
    change(&mut params);
    let key = KeyPair::generate_for(algorithm).expect("a key");
    params.serialize_request(&key).expect("a request").pem().expect("PEM")
}

#[test]
fn a_request_gives_its_key_names_and_organisation() {
    let pem = csr(&PKCS_ECDSA_P256_SHA256, |params| {
        params.subject_alt_names = vec![SanType::DnsName("site.example".try_into().expect("a name"))];
    });
    let read = Csr::read(&pem, Use::Tls).expect("in order");
    assert_eq!((read.names, read.other_names), (vec!["site.example".to_owned()], false));
    assert_eq!(read.organisation.as_deref(), Some("1.2.246.10.90000011"));
    assert!(check_key(&read.spki, Use::Sign).is_ok());
    assert!(Csr::read(&csr(&PKCS_ECDSA_P384_SHA384, |_| {}), Use::Sign).is_ok());
    let address = csr(&PKCS_ECDSA_P256_SHA256, |params| {
        params.subject_alt_names = vec![SanType::IpAddress(std::net::IpAddr::from([10, 0, 0, 1]))];
    });
    assert!(Csr::read(&address, Use::Tls).expect("in order").other_names);
}

#[test]
fn a_request_outside_the_profile_is_refused() {
    let plain = csr(&PKCS_ECDSA_P256_SHA256, |_| {});
    let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(plain.as_bytes()).expect("PEM");
    let forged = {
        use base64::Engine as _;
        let mut bytes = der.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    };
    let authority = csr(&PKCS_ECDSA_P256_SHA256, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let signs = csr(&PKCS_ECDSA_P256_SHA256, |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    for (what, pem, expected) in [
        ("forged", forged, CsrError::Signature),
        ("Ed25519", csr(&PKCS_ED25519, |_| {}), CsrError::Key("Ed25519 is none of them")),
        ("authority", authority, CsrError::Extension("to be an authority")),
        ("signs certificates", signs, CsrError::Extension("to be an authority")),
        ("two", format!("{plain}{plain}"), CsrError::Unreadable),
        ("none", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned(), CsrError::Unreadable),
        ("long", format!("{plain}{}", "\n".repeat(8192)), CsrError::Length),
    ] {
        assert_eq!(Csr::read(&pem, Use::Tls), Err(expected), "{what}");
    }
}

#[test]
fn names_beyond_the_invite_are_seen() {
    let binding = Binding {
        site: "site-1".to_owned(),
        organisation: "1.2.3".to_owned(),
        controllers: Vec::new(),
        ae_titles: Vec::new(),
        names: vec!["site.example".to_owned()],
        mode: Mode::Issue,
        rule_sets: Vec::new(),
        transactions: Vec::new(),
    };
    assert!(binding.check_names("tls", &["SITE.example".to_owned()]).is_ok());
    assert!(binding.check_names("tls", &["site.example".to_owned(), "other.example".to_owned()]).is_err());
}

use rustls::pki_types::pem::PemObject as _;

//! The steps over assertions made here: what this module can tell without a trust file. The vectors of the profile are run where
//! all of V1–V17 is.

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn sample() -> Assertion {
    let coded = |name: &str, pairs: &[(&str, &str)]| {
        Value::Element(ValueElement {
            namespace: NS_HL7.to_owned(),
            name: name.to_owned(),
            attributes: pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            foreign_attributes: false,
        })
    };
    Assertion {
        id: "_6f1c0b5e9d7a4c32a8e1f00d5b7c9e11".to_owned(),
        issue_instant: at("2025-06-15T08:59:55Z"),
        issuer: "urn:oid:1.2.246.10.90000011".to_owned(),
        name_id: NameId {
            value: "90000000001".to_owned(),
            name_qualifier: Some("urn:oid:1.2.246.537.26".to_owned()),
            sp_provided_id: None,
        },
        confirmation: Confirmation { method: CONFIRMATION_BEARER.to_owned(), name_id: None, data: None },
        not_before: at("2025-06-15T08:59:55Z"),
        not_on_or_after: at("2025-06-15T09:04:55.5Z"),
        audiences: vec!["urn:x-idr:audience:central".to_owned()],
        one_time_use: true,
        authn_instant: at("2025-06-15T06:02:11Z"),
        session_index: Some("<&\"'\t>".to_owned()),
        session_not_on_or_after: None,
        authn_context: "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI".to_owned(),
        attributes: vec![
            Attribute { name: "urn:x:text".to_owned(), values: vec![Value::Text("a & <b> \u{e4}\"'\r\n".to_owned())] },
            Attribute {
                name: "urn:x:code".to_owned(),
                values: vec![coded("PurposeOfUse", &[("code", "TREAT"), ("codeSystem", "1.2.3"), ("displayName", "a \"b\"")])],
            },
            Attribute { name: "urn:x:two".to_owned(), values: vec![Value::Text(String::new()), coded("id", &[("root", "1.2.3")])] },
        ],
    }
}

struct Party {
    key: SigningKey,
    certificate: Vec<u8>,
    store: TrustStore,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

fn leaf(serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "Signer");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2026, 1, 1);
    params
}

fn party() -> Party {
    let root_key = KeyPair::generate().expect("a key");
    let root = authority("Root");
    let root_certificate = root.self_signed(&root_key).expect("signed");
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().expect("a key");
    let certificate = leaf(&[0x7f; 20]).signed_by(&key, &issuer).expect("signed").der().to_vec();
    Party {
        key: SigningKey::from_pkcs8(key.serialized_der()).expect("a P-256 key"),
        certificate,
        store: TrustStore::new(&[root_certificate.der().to_vec()], &[]).expect("a store"),
    }
}

fn signed(party: &Party, assertion: &Assertion) -> String {
    EnvelopedSigner { key: &party.key, certificate: &party.certificate }.sign(&build(assertion).expect("built")).expect("signed")
}

fn envelope(assertion: &str) -> String {
    format!(
        "<env:Envelope xmlns:env=\"{NS_SOAP}\"><env:Header><wsse:Security xmlns:wsse=\"{NS_WSSE}\">{assertion}</wsse:Security></env:Header><env:Body><q id=\"x\"/></env:Body></env:Envelope>"
    )
}

fn verified(text: &str, carriage: Carriage) -> Result<Signed, AssertionError> {
    let limits = Limits::default();
    let presented = Presented::read(text.as_bytes(), carriage, &limits, false)?;
    let certificate = Certificate::from_der(presented.signing_certificate())?;
    presented.fits(&certificate)?;
    presented.verify(certificate.public_key()?, &Bergshamra, &limits)
}

#[test]
fn an_assertion_is_read_back_as_it_was_written_alone_and_in_an_envelope() {
    let party = party();
    let holder = Assertion {
        confirmation: Confirmation {
            method: CONFIRMATION_HOLDER_OF_KEY.to_owned(),
            name_id: Some(NameId {
                value: "urn:oid:1.2.246.10.90000011.12.1".to_owned(),
                name_qualifier: Some("urn:x".to_owned()),
                sp_provided_id: Some("alias".to_owned()),
            }),
            data: Some(ConfirmationData {
                not_on_or_after: Some(at("2025-06-15T09:04:00Z")),
                recipient: Some("urn:x-idr:audience:central".to_owned()),
                certificate: Some(party.certificate.clone()),
            }),
        },
        ..sample()
    };
    for assertion in [sample(), holder] {
        let text = signed(&party, &assertion);
        for (text, carriage) in [(text.clone(), Carriage::Alone), (envelope(&text), Carriage::Envelope)] {
            let read = verified(&text, carriage).unwrap_or_else(|e| panic!("{carriage:?}: {e}"));
            assert!(read.assertion == assertion, "{carriage:?}");
            assert!(!String::from_utf8_lossy(&read.canonical).contains("Signature"));
        }
    }
}

#[test]
fn a_certificate_is_trusted_by_its_path_at_its_time() {
    let party = party();
    let certificate = Certificate::from_der(&party.certificate).expect("readable");
    let now = at("2025-06-15T09:00:00Z");
    assert_eq!(party.store.path(&certificate, now).map(|path| path.issuers().len()), Ok(1));
    assert!(certificate.may_sign_assertions(now, false).is_ok());
    for other in [at("2026-06-15T09:00:00Z"), at("2024-06-15T09:00:00Z")] {
        assert_eq!(party.store.path(&certificate, other).err().map(|e| e.defect), Some(Defect::Certificate));
    }
    let stranger = Certificate::from_der(&self::party().certificate).expect("readable");
    assert_eq!(party.store.path(&stranger, now).err().map(|e| e.defect), Some(Defect::Certificate));
}

/// Root, `intermediates` authorities below one another, and a certificate of the last.
fn chain(intermediates: usize) -> (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) {
    let root_key = KeyPair::generate().expect("a key");
    let root = authority("Root");
    let root_der = root.self_signed(&root_key).expect("signed").der().to_vec();
    let mut issuer = Issuer::new(root, root_key);
    let mut between = Vec::new();
    for n in 0..intermediates {
        let key = KeyPair::generate().expect("a key");
        let params = authority(&format!("Authority {n}"));
        between.push(params.signed_by(&key, &issuer).expect("signed").der().to_vec());
        issuer = Issuer::new(params, key);
    }
    let key = KeyPair::generate().expect("a key");
    (between, root_der, leaf(&[1]).signed_by(&key, &issuer).expect("signed").der().to_vec())
}

#[test]
fn a_path_has_at_most_three_intermediates_and_none_comes_from_the_message() {
    let now = at("2025-06-15T09:00:00Z");
    let (between, root, end) = chain(3);
    let end = Certificate::from_der(&end).expect("readable");
    assert_eq!(
        TrustStore::new(std::slice::from_ref(&root), &between).expect("a store").path(&end, now).map(|path| path.issuers().len()),
        Ok(4)
    );
    assert!(TrustStore::new(&[root], &between[1..]).expect("a store").path(&end, now).is_err());
    let (between, root, end) = chain(4);
    let end = Certificate::from_der(&end).expect("readable");
    assert!(TrustStore::new(&[root], &between).expect("a store").path(&end, now).is_err());
}

#[test]
fn serial_numbers_are_octets_of_any_accepted_length() {
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(authority("Root"), &key);
    let mut high = vec![0x80; 20];
    high[19] = 1;
    for (serial, expected) in [
        (vec![1], Some("01")),
        (vec![0x7f; 8], Some("7F7F7F7F7F7F7F7F")),
        (vec![0x7f; 9], Some("7F7F7F7F7F7F7F7F7F")),
        (vec![0x7f; 20], Some(&*"7F".repeat(20))),
        (vec![0x7f; 21], Some(&*"7F".repeat(21))),
        (vec![0x7f; 32], Some(&*"7F".repeat(32))),
        (vec![0x7f; 33], None),
        (high, Some(&*format!("{}01", "80".repeat(19)))),
    ] {
        let der = leaf(&serial).signed_by(&key, &issuer).expect("signed").der().to_vec();
        assert_eq!(Certificate::from_der(&der).ok().map(|c| c.serial_hex()).as_deref(), expected, "{} octets", serial.len());
    }
}

mod revocation {
    use super::*;
    use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams};

    const FETCHED: &str = "2025-06-15T08:00:00Z";

    fn list(issuer: &Issuer<'_, KeyPair>, revoked: &[&[u8]], until: (i32, u8, u8)) -> Vec<u8> {
        CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 6, 1),
            next_update: date_time_ymd(until.0, until.1, until.2),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial),
                    revocation_time: date_time_ymd(2025, 6, 1),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(issuer)
        .expect("signed")
        .der()
        .to_vec()
    }

    #[test]
    fn a_status_is_used_while_it_is_young_and_a_revocation_for_ever() {
        let key = KeyPair::generate().expect("a key");
        let params = authority("Root");
        let root = Certificate::from_der(params.self_signed(&key).expect("signed").der()).expect("readable");
        let issuer = Issuer::new(params, key);
        let end = |serial: &[u8]| {
            let key = KeyPair::generate().expect("a key");
            Certificate::from_der(leaf(serial).signed_by(&key, &issuer).expect("signed").der()).expect("readable")
        };
        let (good, bad) = (end(&[1]), end(&[0x7f; 20]));
        let path = TrustStore::new(&[root.der().to_vec()], &[]).expect("a store").path(&good, at(FETCHED)).expect("trusted");
        let fetched = at(FETCHED);
        let mut required = Revocation::new(RevocationMode::Require, 86_400);
        assert!(required.status(&good, &path, fetched).is_err());
        let mut elsewhere = required.clone();
        elsewhere.known_elsewhere(&root);
        assert_eq!(elsewhere.status(&good, &path, fetched), Ok(RevocationStatus::Good), "whoever asks knows of its certificates");
        required.add_list(&list(&issuer, &[&[0x7f; 20]], (2025, 7, 1)), &root, fetched).expect("taken");
        assert_eq!(required.status(&good, &path, fetched), Ok(RevocationStatus::Good));
        assert_eq!(required.status(&good, &path, fetched + SignedDuration::from_hours(24)), Ok(RevocationStatus::Good));
        assert!(required.status(&good, &path, fetched + SignedDuration::from_hours(25)).is_err());
        assert!(required.status(&bad, &path, fetched + SignedDuration::from_hours(25)).is_err());

        let mut preferred = Revocation::new(RevocationMode::Prefer, 86_400);
        assert_eq!(preferred.status(&good, &path, fetched), Ok(RevocationStatus::Unknown));
        preferred.add_answer(bad.sha256(), true, None, fetched);
        preferred.add_answer(good.sha256(), false, None, fetched);
        assert_eq!(preferred.status(&good, &path, fetched), Ok(RevocationStatus::Good));
        assert!(preferred.status(&bad, &path, fetched).is_err());
        assert_eq!(Revocation::new(RevocationMode::Off, 1).status(&bad, &path, fetched), Ok(RevocationStatus::Unknown));
    }

    #[test]
    fn a_list_counts_only_under_the_signature_of_its_issuer() {
        let key = KeyPair::generate().expect("a key");
        let params = authority("Root");
        let root = Certificate::from_der(params.self_signed(&key).expect("signed").der()).expect("readable");
        let issuer = Issuer::new(params, key);
        let other = KeyPair::generate().expect("a key");
        let impostor = Issuer::new(authority("Root"), other);
        let stranger = KeyPair::generate().expect("a key");
        let stranger = Issuer::new(authority("Else"), stranger);
        let mut snapshot = Revocation::new(RevocationMode::Require, 86_400);
        for (issuer, expected) in [(&issuer, Ok(())), (&impostor, Err(CrlError::Issuer)), (&stranger, Err(CrlError::Issuer))] {
            assert_eq!(snapshot.add_list(&list(issuer, &[], (2025, 7, 1)), &root, at(FETCHED)), expected);
        }
        assert_eq!(snapshot.add_list(b"x", &root, at(FETCHED)), Err(CrlError::Unreadable));
    }
}

/// xmlsec1 and xmllint as peers: they must agree with us both ways. CI has them.
mod peers {
    use super::*;
    use std::process::{Command, Output};

    fn installed(program: &str) -> bool {
        let found = Command::new(program).arg("--version").output().is_ok();
        assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{program} must be installed in CI");
        if !found {
            println!("skipped: {program} is not installed");
        }
        found
    }

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("idr-assertion-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        #[expect(clippy::disallowed_methods, reason = "a peer program reads files")]
        fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn run(program: &str, arguments: &[&str]) -> Output {
        Command::new(program).args(arguments).output().expect("started")
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use ::base64::Engine as _;
        let text = ::base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    fn rsa_party() -> (Party, Vec<u8>) {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
        let pkcs8: Vec<u8> = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("PKCS#8").as_ref().to_vec();
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.clone().into(), &rcgen::PKCS_RSA_SHA256).expect("a key");
        let certificate = leaf(&[1]).self_signed(&key).expect("signed").der().to_vec();
        let store = TrustStore::new(&[], &[]).expect("a store");
        (Party { key: SigningKey::from_pkcs8(&pkcs8).expect("a key"), certificate, store }, pkcs8)
    }

    #[test]
    fn xmlsec1_accepts_our_signature_and_refuses_a_changed_one() {
        if !installed("xmlsec1") {
            return;
        }
        let folder = Folder::new("verify");
        for (name, party) in [("ec", party()), ("rsa", rsa_party().0)] {
            let certificate = folder.write("cert.pem", pem("CERTIFICATE", &party.certificate));
            let text = signed(&party, &sample());
            for (text, accepted) in [(text.clone(), true), (envelope(&text), true), (text.replace("90000000001", "90000000002"), false)] {
                let file = folder.write("signed.xml", text);
                let id = format!("ID:{NS_SAML}:Assertion");
                let out = run(
                    "xmlsec1",
                    &[
                        "--verify",
                        "--id-attr:ID",
                        &id[3..],
                        "--pubkey-cert-pem",
                        certificate.to_str().expect("UTF-8"),
                        file.to_str().expect("UTF-8"),
                    ],
                );
                assert_eq!(out.status.success(), accepted, "{name}: {}", String::from_utf8_lossy(&out.stderr));
            }
        }
    }

    #[test]
    fn we_accept_what_xmlsec1_signs() {
        if !installed("xmlsec1") {
            return;
        }
        let folder = Folder::new("sign");
        let (party, pkcs8) = rsa_party();
        let template = build(&sample()).expect("built").with_signature(&format!(
            concat!(
                r#"<ds:Signature xmlns:ds="{ds}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{c}"/>"#,
                r#"<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>"#,
                r##"<ds:Reference URI="#{id}"><ds:Transforms><ds:Transform Algorithm="{e}"/><ds:Transform Algorithm="{c}"/></ds:Transforms>"##,
                r#"<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference></ds:SignedInfo>"#,
                "<ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate/></ds:X509Data></ds:KeyInfo></ds:Signature>",
            ),
            ds = NS_DS,
            c = signature::EXC_C14N,
            e = signature::ENVELOPED,
            id = sample().id,
        ));
        let input = folder.write("template.xml", template);
        let key = folder.write("key.pem", pem("PRIVATE KEY", &pkcs8));
        let certificate = folder.write("cert.pem", pem("CERTIFICATE", &party.certificate));
        let key = format!("{},{}", key.display(), certificate.display());
        let id = format!("{NS_SAML}:Assertion");
        let out = run("xmlsec1", &["--sign", "--id-attr:ID", &id, "--privkey-pem", &key, input.to_str().expect("UTF-8")]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        let read = verified(&text, Carriage::Alone).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(read.assertion == sample());
        let changed = text.replace("90000000001", "90000000002");
        assert_eq!(verified(&changed, Carriage::Alone).err().map(|e| e.defect), Some(Defect::Mismatch));
    }

    #[test]
    fn our_assertion_is_valid_by_the_schema() {
        let shared = std::env::var("IDR_SHARED").map(std::path::PathBuf::from);
        let shared = shared.unwrap_or_else(|_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
        let schema = shared.join("ihe/schemas/saml2");
        if !schema.is_dir() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{} must be there in CI", schema.display());
            println!("skipped: {} is not there", schema.display());
            return;
        }
        if !installed("xmllint") {
            return;
        }
        let xsd = std::fs::read_dir(&schema)
            .expect("a folder")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("assertion")))
            .expect("the assertion schema");
        let folder = Folder::new("schema");
        let file = folder.write("signed.xml", signed(&party(), &sample()));
        let out = run("xmllint", &["--nonet", "--noout", "--schema", xsd.to_str().expect("UTF-8"), file.to_str().expect("UTF-8")]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

//! The trust file.

use idr_ihe::assertion::Certificate;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::world::{A, B, WORLD, Wanted, pem};
use crate::xua::{Trust, TrustError};

fn parse(text: &str) -> Result<Trust, TrustError> {
    Trust::parse(text, &mut |_| Err(std::io::ErrorKind::NotFound.into()))
}

#[test]
fn the_shipped_example_believes_nobody() {
    let trust = parse(include_str!("../../../../../configs/trust.toml")).expect("readable");
    assert_eq!(trust.issuers().count(), 0);
    assert!(trust.tls_anchors().is_empty() && trust.modality_anchors().is_empty() && trust.receipt_keys().is_empty());
}

#[test]
fn the_commented_rows_of_the_example_are_readable() {
    let example = include_str!("../../../../../configs/trust.toml");
    let rows: String = example
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.starts_with("[[") || rest.contains(" = ")).unwrap_or(line))
        .filter(|line| !line.contains("kid =") && !line.contains("key =") && !line.contains("receipt_keys") && !line.contains("holder ="))
        .collect::<Vec<_>>()
        .join("\n");
    let trust = parse(&rows).unwrap_or_else(|e| panic!("{e}\n{rows}"));
    let issuer = trust.issuer(&format!("urn:oid:{A}")).expect("the example's issuer");
    assert_eq!(issuer.signing_organisations, [A]);
    assert!(issuer.is_valid_on(jiff::civil::date(2026, 1, 1)) && !issuer.is_valid_on(jiff::civil::date(2028, 1, 1)));
}

#[test]
fn an_organisation_is_known_by_digest_identifier_or_serial_number() {
    let certificate = |pairs: &[(&[u64], &str)]| {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        for (oid, value) in pairs {
            params.distinguished_name.push(DnType::CustomDnType(oid.to_vec()), *value);
        }
        let key = KeyPair::generate().expect("a key");
        Certificate::from_der(params.self_signed(&key).expect("signed").der()).expect("readable")
    };
    let (identifier, number): (&[u64], &[u64]) = (&[2, 5, 4, 97], &[2, 5, 4, 5]);
    let pinned = certificate(&[(identifier, "NTRFI-9000003-8")]);
    let text = format!(
        "[[organisation]]\noid = \"{A}\"\ncertificates = [\"{}\"]\nidentifiers = [\"LEI-1\"]\nserial_numbers = [\"S-1\"]\n[[organisation]]\noid = \"{B}\"\n",
        hex::encode(pinned.sha256())
    );
    let trust = parse(&text).expect("readable");
    let of = |certificate: &Certificate| trust.organisation_of(certificate).map(|o| o.oid.clone());
    assert_eq!(of(&pinned).as_deref(), Some(A), "the digest stands above the name");
    for (pairs, expected) in [
        (vec![(identifier, "LEI-1")], Some(A)),
        (vec![(identifier, A)], Some(A)),
        (vec![(identifier, "urn:oid:1.2.246.10.90000038")], Some(B)),
        (vec![(identifier, "VATFI-90000038")], Some(B)),
        (vec![(identifier, "NTRFI-9000003-8")], Some(B)),
        (vec![(identifier, "NTRFI-9000003-9")], None),
        (vec![(identifier, "VATFI-12345671")], None),
        (vec![(identifier, "VATSE-90000038")], None),
        (vec![(number, "S-1")], Some(A)),
        (vec![(number, "S-2")], None),
        (vec![(identifier, "LEI-2"), (number, "S-1")], None),
        (vec![], None),
    ] {
        assert_eq!(of(&certificate(&pairs)).as_deref(), expected, "{pairs:?}");
    }
}

#[test]
fn a_file_that_contradicts_itself_is_not_taken() {
    let issuer = |lines: &str| format!("[[issuer]]\nentity_id = \"urn:x\"\norganisation = \"{A}\"\nkinds = []\n{lines}\n");
    for (text, expected) in [
        ("revocation = \"off\"".to_owned(), "unknown field"),
        ("signing_anchors = [\"root.pem\"]".to_owned(), "signing_anchors: cannot read root.pem"),
        ("tls_anchors = [\"-----BEGIN CERTIFICATE-----\"]".to_owned(), "tls_anchors: PEM text holds no readable certificate"),
        ("[[organisation]]\noid = \"1.2.03\"".to_owned(), "organisation.oid: 1.2.03 is no OID"),
        (format!("[[organisation]]\noid = \"{A}\"\n[[organisation]]\noid = \"{A}\""), "stands twice"),
        (issuer("") + &issuer(""), "issuer urn:x stands twice"),
        (issuer("signing_certificates = [\"x.pem\"]"), "issuer.signing_certificates: cannot read x.pem"),
        (issuer("valid_from = 2026-01-01T00:00:00Z"), "valid_from and valid_to are dates"),
        (issuer("controllers = [\"x\"]"), "x is no OID"),
        ("[[receipt_keys]]\nholder = \"x\"\nkid = \"\"\nkey = \"\"".to_owned(), "receipt_keys"),
    ] {
        let error = parse(&text).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn certificates_are_read_from_files_in_pem_and_der() {
    let der = WORLD.tls_a.clone();
    let two = pem(&der) + &pem(&WORLD.tls_b);
    let mut read = |name: &str| match name {
        "one.der" => Ok(der.clone()),
        "two.pem" => Ok(two.clone().into_bytes()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let trust = Trust::parse("tls_anchors = [\"one.der\", \"two.pem\"]", &mut read).expect("readable");
    assert_eq!(trust.tls_anchors(), [der.clone(), der.clone(), WORLD.tls_b.clone()]);
}

#[test]
fn a_suspended_organisation_neither_signs_nor_connects() {
    let vector = super::vector::Vector::new("suspended");
    let message = vector.assertion();
    let message = super::vector::envelope(&message, "");
    let text = WORLD.trust("").replacen(&format!("oid = \"{A}\"\n"), &format!("oid = \"{A}\"\nsuspended = true\n"), 1);
    let trust = parse(&text).expect("readable");
    vector.with(|verifier, facts| {
        let verifier = crate::xua::Verifier { trust: &trust, ..*verifier };
        let refusal =
            verifier.verify_saml(message.as_bytes(), crate::xua::Carriage::Soap, &vector.tls, facts, vector.now).expect_err("refused");
        assert_eq!(refusal.code, crate::xua::Code::Issuer);
    });
}

#[test]
fn a_certificate_for_tls_does_not_sign_unless_the_file_says_so() {
    let shared = WORLD.rsa(Wanted { purpose: Some(rcgen::ExtendedKeyUsagePurpose::ClientAuth), ..Wanted::default() });
    let tls = shared.certificate.clone();
    let vector = super::vector::Vector::new("shared").party(shared).tls(&tls);
    assert_eq!(vector.run().err().map(|e| e.code.number()), Some(13));
    let message = super::vector::envelope(&vector.assertion(), "");
    let trust = parse(&format!("allow_shared_certificate = true\n{}", WORLD.trust(""))).expect("readable");
    vector.with(|verifier, facts| {
        let verifier = crate::xua::Verifier { trust: &trust, ..*verifier };
        verifier.verify_saml(message.as_bytes(), crate::xua::Carriage::Soap, &vector.tls, facts, vector.now).expect("accepted");
    });
}

//! The properties of profile 04 §14, and edges around the vectors.

use idr_ihe::assertion::{ConfirmationData, sha256};
use proptest::prelude::*;

use super::saml::{nested, odd_value, padded};
use super::vector::{Vector, envelope, with_header};
use super::world::{A, WORLD, Wanted, claims, hetu, seconds, t0};
use crate::access::{Kind, Purpose};
use crate::xua::produce::{Production, TechnicalUser, Upload, automatic_upload, saml};
use crate::xua::{Carriage, SubmittedEvent, Transaction, Warning, patient_binding};

fn code(vector: &Vector) -> Result<(), u8> {
    vector.run().map(|_| ()).map_err(|refusal| refusal.code.number())
}

#[test]
fn any_single_changed_bit_is_refused() {
    let vector = Vector::new("bits").alone(Carriage::Http);
    let message = vector.assertion().into_bytes();
    vector.with(|verifier, facts| {
        verifier.verify_saml(&message, Carriage::Http, &vector.tls, facts, vector.now).expect("accepted unchanged");
        for bit in 0..8 * message.len() {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let accepted = verifier.verify_saml(&changed, Carriage::Http, &vector.tls, facts, vector.now).is_ok();
            assert!(!accepted, "byte {}, bit {}", bit / 8, bit % 8);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_and_none_is_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..2048), cut in 0.0_f64..1.0, at in 0.0_f64..1.0) {
        let vector = Vector::new("random");
        prop_assert!(vector.judge(&bytes).is_err());
        let message = envelope(&vector.assertion(), "").into_bytes();
        let end = (message.len() as f64 * cut) as usize;
        prop_assert!(vector.judge(&message[..end]).is_err());
        let mut spliced = message.clone();
        let place = (message.len() as f64 * at) as usize;
        let piece = bytes.iter().take(16).copied();
        spliced.splice(place..place, piece.clone());
        // White space between header blocks and a body's text change nothing that is signed.
        let harmless = vector.judge(&spliced).is_ok();
        prop_assert!(!harmless || spliced == message || !message_assertion_changed(&message, &spliced));
    }
}

fn message_assertion_changed(original: &[u8], changed: &[u8]) -> bool {
    let assertion = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.find("<saml2:Assertion").and_then(|start| text.find("</saml2:Assertion>").map(|end| text[start..end].to_owned()))
    };
    assertion(original) != assertion(changed)
}

#[test]
fn every_accepted_value_stands_in_what_was_signed() {
    for vector in super::saml::positive() {
        let verified = vector.run().unwrap_or_else(|e| panic!("{}: {e}", vector.id));
        let text = String::from_utf8(verified.evidence.clone()).expect("UTF-8");
        let claims = verified.subject.claims();
        assert_eq!(claims.assertion_sha256, hex::encode(sha256(&verified.evidence)));
        let escaped = |value: &str| value.replace('&', "&amp;");
        let mut values = vec![
            claims.name_id.clone(),
            claims.name.clone(),
            claims.organisation_id.clone(),
            claims.role.code.clone(),
            claims.role.system.clone(),
            claims.purpose_code.code.clone(),
            claims.software.clone(),
            claims.assertion_id.clone(),
            claims.issuer.clone(),
            claims.not_on_or_after.to_string(),
        ];
        let optional =
            [&claims.organisation, &claims.unit, &claims.controller, &claims.register, &claims.provider_identifier, &claims.service_event];
        values.extend(optional.into_iter().flatten().cloned());
        values.extend([&claims.emergency_text, &claims.site, &claims.home_community].into_iter().flatten().cloned());
        values.extend(claims.patient.iter().map(|patient| patient.to_cx()));
        values.extend([&claims.care_reason, &claims.emergency_reason].into_iter().flatten().map(|reason| reason.code.clone()));
        values.extend(claims.representation.iter().flat_map(|r| [r.code.clone(), r.source.clone(), r.checked.to_string()]));
        for value in values {
            assert!(text.contains(&escaped(&value)), "{}: {value}", vector.id);
        }
    }
}

#[test]
fn hostile_messages_are_refused_at_once() {
    let attributes: String = (0..40_000).map(|n| format!("a{n}=\"\" ")).collect();
    let namespaces: String = (0..10_000).map(|n| format!("xmlns:n{n}=\"u\" ")).collect();
    let messages = [
        with_header(&format!("<x {attributes}/>"), ""),
        with_header("", &format!("<x {attributes}/>")),
        with_header(&format!("<x {namespaces}/>"), ""),
        with_header(&"<x>".repeat(60_000), ""),
        with_header(&"<x/>".repeat(50_000), ""),
        with_header(&"<!---->".repeat(30_000), ""),
        with_header("", &"<x>".repeat(60_000)),
        with_header(&format!("<x>{}</x>", "&#65;".repeat(40_000)), ""),
        "<".repeat(262_144),
        "<a b='".repeat(40_000),
        "<!--".repeat(60_000),
        "<![CDATA[".repeat(20_000),
    ];
    let vector = Vector::new("hostile");
    vector.with(|verifier, facts| {
        for (n, message) in messages.iter().enumerate() {
            #[expect(clippy::disallowed_methods, reason = "the bound is one of time")]
            let started = std::time::Instant::now();
            assert!(verifier.verify_saml(message.as_bytes(), Carriage::Soap, &vector.tls, facts, vector.now).is_err(), "{n}");
            // 50 ms is the profile's bound for a release build on an idle machine (10 §11 BD-28); quadratic work takes seconds.
            assert!(started.elapsed() < std::time::Duration::from_secs(1), "message {n} took {:?}", started.elapsed());
        }
    });
}

#[test]
fn bounds_are_inclusive() {
    let fits = padded("16384 bytes", 16_384);
    assert_eq!(fits.assertion().len(), 16_384);
    assert_eq!(fits.run().map(|_| ()), Ok(()));
    assert_eq!(code(&odd_value("depth 24", nested(17))), Ok(()));
    let attributes = |n: usize| format!("<x xmlns=\"urn:x\" {}/>", (0..n).map(|n| format!("a{n}=\"\" ")).collect::<String>());
    assert_eq!(code(&odd_value("16 attributes", attributes(16))), Ok(()));
    assert_eq!(code(&odd_value("4096 bytes", format!("<x xmlns=\"urn:x\">{}</x>", "x".repeat(4096)))), Ok(()));
    assert_eq!(code(&odd_value("4097 bytes", format!("<x xmlns=\"urn:x\">{}</x>", "x".repeat(4097)))), Err(4));
}

#[test]
fn clocks_may_differ_by_the_skew_and_no_more() {
    for (vector, expected) in [
        (Vector::new("now at the end of skew").at(t0() + seconds(354)), Ok(())),
        (Vector::new("not before at the skew").model(|a| (a.not_before, a.issue_instant) = (t0() + seconds(60), t0())), Ok(())),
        (Vector::new("lifetime 300").model(|a| a.not_on_or_after = a.not_before + seconds(300)), Ok(())),
        (Vector::new("issued 60 s ahead").model(|a| a.issue_instant = t0() + seconds(60)), Ok(())),
        (
            Vector::new("issued at the end").model(|a| (a.issue_instant, a.not_on_or_after) = (t0() + seconds(10), t0() + seconds(10))),
            Err(17),
        ),
        (Vector::new("authenticated 12 h ago").model(|a| a.authn_instant = a.issue_instant - seconds(43_200)), Ok(())),
        (Vector::new("valid for no time").model(|a| (a.not_before, a.not_on_or_after) = (t0(), t0())), Err(17)),
        (Vector::new("authenticated when issued").model(|a| a.authn_instant = a.issue_instant), Ok(())),
        (Vector::new("session for a second more").model(|a| a.session_not_on_or_after = Some(t0() + seconds(1))), Ok(())),
        (
            Vector::of("citizen authenticated an hour ago", Kind::Citizen, Purpose::PatientView, Transaction::Iti18)
                .model(|a| a.authn_instant = a.issue_instant - seconds(3600)),
            Ok(()),
        ),
        (
            Vector::new("confirmation as long as the assertion").model(|a| {
                let until = Some(a.not_on_or_after);
                a.confirmation.data = Some(ConfirmationData { not_on_or_after: until, ..ConfirmationData::default() });
            }),
            Ok(()),
        ),
        (
            Vector::new("confirmation within the skew").model(|a| {
                let until = Some(t0() - seconds(59));
                a.confirmation.data = Some(ConfirmationData { not_on_or_after: until, ..ConfirmationData::default() });
            }),
            Ok(()),
        ),
        (Vector::new("authenticated later").model(|a| a.authn_instant = a.issue_instant + seconds(1)), Err(17)),
        (
            Vector::of("citizen authenticated 61 min ago", Kind::Citizen, Purpose::PatientView, Transaction::Iti18)
                .model(|a| a.authn_instant = a.issue_instant - seconds(3660)),
            Err(17),
        ),
        (
            Vector::new("confirmation outlives").model(|a| {
                let until = Some(a.not_on_or_after + seconds(1));
                a.confirmation.data = Some(ConfirmationData { not_on_or_after: until, ..ConfirmationData::default() });
            }),
            Err(17),
        ),
        (
            Vector::new("confirmation over").model(|a| {
                let until = Some(t0() - seconds(60));
                a.confirmation.data = Some(ConfirmationData { not_on_or_after: until, ..ConfirmationData::default() });
            }),
            Err(15),
        ),
    ] {
        assert_eq!(code(&vector), expected, "{}", vector.id);
    }
}

#[test]
fn a_guardian_acts_as_a_guardian_and_for_another() {
    let guardian = |id: &str| Vector::of(id, Kind::Guardian, Purpose::PatientView, Transaction::Iti18);
    assert_eq!(code(&guardian("guardian")), Ok(()));
    let mandate = guardian("mandate").claims(|c| c.representation.as_mut().expect("asserted").code = "MANDATE".to_owned());
    assert_eq!(code(&mandate), Err(24));
    let own = guardian("for oneself").claims(|c| c.name_id = c.patient.as_ref().expect("a patient").id.clone());
    assert_eq!(code(&own), Err(24));
}

#[test]
fn the_service_event_of_a_store_is_that_of_the_submission() {
    let event = format!("{A}.14.2025.100");
    let store = |event: Option<String>, submitted: SubmittedEvent<'static>| {
        let mut vector = Vector::of("event", Kind::Technical, Purpose::Automatic, Transaction::Rad68).claims(|c| c.service_event = event);
        vector.service_event = submitted;
        code(&vector)
    };
    let same = SubmittedEvent::Oid("1.2.246.10.90000011.14.2025.100");
    assert_eq!(store(Some(event.clone()), same), Ok(()));
    assert_eq!(store(None, same), Err(22));
    assert_eq!(store(Some(event.clone()), SubmittedEvent::Oid("1.2.246.10.90000011.14.2025.101")), Err(24));
    assert_eq!(store(Some(event.clone()), SubmittedEvent::Absent), Err(22));
    assert_eq!(store(None, SubmittedEvent::Absent), Ok(()));
    assert_eq!(store(Some(event), SubmittedEvent::Unknown), Ok(()));
    assert_eq!(store(Some(format!("{A}.14.25.100")), SubmittedEvent::Unknown), Err(22), "form of D422");
    let required = Vector::of("required", Kind::Technical, Purpose::Automatic, Transaction::Rad68).rules("require_service_event = true");
    assert_eq!(code(&required), Err(22));
}

#[test]
fn a_patient_is_named_by_every_request_but_one_over_many() {
    let without = |transaction| Vector::of("patient", Kind::Technical, Purpose::Automatic, transaction).claims(|c| c.patient = None);
    assert_eq!(code(&without(Transaction::Reconcile)), Ok(()));
    assert_eq!(code(&without(Transaction::Iti51)), Ok(()));
    assert_eq!(code(&without(Transaction::Receipts)), Err(22));
    assert_eq!(code(&Vector::of("patient", Kind::Technical, Purpose::Automatic, Transaction::Reconcile)), Err(22));
    let declared = Vector::of("declaration", Kind::Registrar, Purpose::ConsentManagement, Transaction::DeclarationWrite);
    assert_eq!(code(&declared), Ok(()));
    assert_eq!(code(&declared.about("010190-900P")), Err(22), "C2");
}

#[test]
fn a_data_set_of_another_patient_is_told_by_itself() {
    let verified = Vector::of("stow", Kind::Technical, Purpose::Automatic, Transaction::StowRs).run().expect("accepted");
    assert!(patient_binding(&verified.subject, &hetu("010190-900P")).is_ok());
    assert_eq!(patient_binding(&verified.subject, &hetu("131052-930V")).map_err(|e| e.code.number()), Err(26));
}

#[test]
fn names_are_those_of_their_kind() {
    for (vector, expected) in [
        (Vector::new("hetu as NameID").claims(|c| c.name_id = "010190-900P".to_owned()), Err(22)),
        (Vector::new("hetu as NameID allowed").claims(|c| c.name_id = "010190-900P".to_owned()).rules("allow_hetu_nameid = true"), Ok(())),
        (Vector::new("qualifier").claims(|c| c.name_qualifier = "urn:x".to_owned()), Err(22)),
        (
            Vector::of("citizen", Kind::Citizen, Purpose::PatientView, Transaction::Iti18).claims(|c| c.name_id = "010190-900R".to_owned()),
            Err(22),
        ),
        (
            Vector::of("guardian", Kind::Guardian, Purpose::PatientView, Transaction::Iti18)
                .claims(|c| c.patient = Some(hetu("010190-900P"))),
            Err(24),
        ),
        (
            Vector::of("technical", Kind::Technical, Purpose::Automatic, Transaction::Rad68).claims(|c| c.name_id = "site-1".to_owned()),
            Err(22),
        ),
        (Vector::new("context").model(|a| a.authn_context = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified".to_owned()), Err(23)),
        (
            Vector::new("context of the issuer")
                .model(|a| a.authn_context = "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified".to_owned())
                .trust("authn_contexts = [\"urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified\"]"),
            Ok(()),
        ),
        (Vector::new("kind of the issuer").trust("valid_from = 2025-06-16"), Err(14)),
        (Vector::new("unit elsewhere").claims(|c| c.unit = Some("1.2.246.10.90000038.10.1".to_owned())), Err(24)),
        (
            Vector::new("unit of a producer")
                .claims(|c| c.unit = Some("1.2.246.10.90000038.10.1".to_owned()))
                .trust("producers = [\"1.2.246.10.90000038\"]"),
            Ok(()),
        ),
        (Vector::new("unknown attribute").model(|a| a.attributes[0].name = "urn:x:other".to_owned()), Err(22)),
    ] {
        assert_eq!(code(&vector), expected, "{}", vector.id);
    }
}

#[test]
fn a_technical_user_may_act_for_a_professional_in_an_upload_only() {
    let technical = |a: &mut idr_ihe::assertion::Assertion| {
        let user = a.name_id.clone();
        a.name_id.value = "90000000001".to_owned();
        a.name_id.name_qualifier = Some("urn:oid:1.2.246.537.26".to_owned());
        a.confirmation.name_id = Some(user);
    };
    let upload = Vector::of("upload", Kind::Technical, Purpose::Automatic, Transaction::Rad68).model(technical);
    let verified = upload.run().expect("accepted");
    assert_eq!(verified.technical_user, Some(format!("urn:oid:{A}.12.1")));
    assert_eq!(verified.subject.claims().name_id, "90000000001");
    assert_eq!(code(&Vector::new("query").model(technical)), Err(5));
}

#[test]
fn unknown_attributes_are_counted_or_refused_and_never_read() {
    let odd = || odd_value("odd", "<x xmlns=\"urn:x\">text<y/></x>".to_owned());
    let verified = odd().run().expect("accepted");
    assert!(verified.warnings.contains(&Warning::UnknownAttributes(1)), "{:?}", verified.warnings);
    assert_eq!(code(&odd().rules("unknown_attributes = \"refuse\"")), Err(22));
}

#[test]
fn an_odd_certificate_is_accepted_with_a_warning() {
    const LONG: &[u8] = &[0x11; 21];
    let party = WORLD.rsa(Wanted { serial: LONG, until: (2028, 1, 1), ..Wanted::default() });
    let verified = Vector::new("odd").party(party).run().expect("accepted");
    assert_eq!(verified.warnings, [Warning::LongLifetime, Warning::LongSerialNumber]);
}

#[test]
fn nothing_of_a_person_is_printed() {
    let verified = Vector::of("citizen", Kind::Citizen, Purpose::PatientView, Transaction::Iti18).run().expect("accepted");
    let printed = format!("{verified:?} {:?}", claims(Kind::Citizen, Purpose::PatientView));
    assert!(!printed.contains("010190") && !printed.contains("Lääkäri"), "{printed}");
}

#[test]
fn an_upload_of_the_site_is_accepted_by_the_centre() {
    let party = WORLD.ec(&rcgen::PKCS_ECDSA_P256_SHA256);
    let rules = &WORLD.rules;
    let user = TechnicalUser {
        issuer: format!("urn:oid:{A}"),
        oid: format!("{A}.13.7"),
        name: "idr-site site-1".to_owned(),
        organisation: "Esimerkki".to_owned(),
        organisation_id: A.to_owned(),
        software: format!("{A}.12.1"),
        site: "site-1".to_owned(),
        home_community: Some("1.2.246.10.12345671.12.1".to_owned()),
    };
    let upload = Upload {
        controller: format!("{A}.19.0"),
        register: "2".to_owned(),
        specifier: None,
        service_event: Some(format!("{A}.14.2025.100")),
        outsourced_authorisation: None,
        unit: None,
        patient: Some(hetu("010190-900P")),
    };
    let claims = automatic_upload(&user, &upload, rules).expect("codes");
    let now = t0() + jiff::SignedDuration::from_millis(750);
    let production = Production {
        claims: &claims,
        audience: rules.audience(),
        authn_context: "urn:oasis:names:tc:SAML:2.0:ac:classes:X509",
        authn_instant: now,
        now,
        random: [0xab; 16],
    };
    let signer = idr_ihe::assertion::EnvelopedSigner { key: &party.key, certificate: &party.certificate };
    let made = saml(&production, rules, &signer).expect("made");
    assert!(made.contains(&format!("ID=\"_{}\"", "ab".repeat(16))));
    let vector = Vector::of("site", Kind::Technical, Purpose::Automatic, Transaction::Rad68);
    let judged = |now| vector.with(|v, facts| v.verify_saml(envelope(&made, "").as_bytes(), Carriage::Soap, &vector.tls, facts, now));
    let verified = judged(now).expect("accepted");
    assert_eq!(verified.subject.claims().not_on_or_after, t0() + seconds(240));
    assert_eq!(verified.subject.claims().home_community, user.home_community);
    assert!(judged(t0() + seconds(300)).is_err());
}

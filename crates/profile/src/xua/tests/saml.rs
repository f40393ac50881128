//! The SAML vectors of profile 04 §14.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use idr_ihe::assertion::{
    Attribute, CONFIRMATION_HOLDER_OF_KEY, ConfirmationData, Curve, Hash, NS_SAML, NS_SAML1, NS_WSSE, SignatureMethod, Value,
};
use rcgen::ExtendedKeyUsagePurpose;

use super::vector::{EXC_C14N, ID, Vector, envelope, replaced, with_header};
use super::world::{B, LONG_SERIAL, RsaNumbers, V, WORLD, Wanted, hetu, seconds, t0};
use crate::access::{Kind, Purpose};
use crate::identifier::Specifier;
use crate::xua::http::{Credentials, credentials};
use crate::xua::{Carriage, Class, Key, Transaction};

const ASSERTION_END: &str = "</saml2:Assertion>";
const SIGNED_DIGEST: &str = "http://www.w3.org/2001/04/xmlenc#sha256";

fn specifier(root: &str, extension: Option<&str>) -> Option<Specifier> {
    Some(Specifier::from_ii(root, extension, jiff::civil::date(2025, 6, 15)).expect("a specifier"))
}

/// Accepted.
pub(super) fn positive() -> Vec<Vector> {
    let occupational = |id: &str, specifier: Option<Specifier>| {
        Vector::new(id).claims(move |c| {
            c.register = Some("4".to_owned());
            c.specifier = specifier;
        })
    };
    let emergency = |id: &str, code: &str| {
        let code = code.to_owned();
        Vector::of(id, Kind::Professional, Purpose::Emergency, Transaction::Iti18).claims(move |c| c.purpose_code.code = code)
    };
    let issuer_serial = format!(
        "<ds:X509IssuerSerial><ds:X509IssuerName>CN=Signing root</ds:X509IssuerName><ds:X509SerialNumber>{LONG_SERIAL}</ds:X509SerialNumber></ds:X509IssuerSerial><ds:X509SubjectName>CN=System signature, 2.5.4.97=1.2.246.10.90000011, O=Esimerkki\\, Oy</ds:X509SubjectName></ds:X509Data>"
    );
    const TWENTY: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        Vector::new("P01"),
        Vector::new("P02").party(WORLD.ec(&rcgen::PKCS_ECDSA_P256_SHA256)),
        Vector::new("P03").party(WORLD.ec(&rcgen::PKCS_ECDSA_P384_SHA384)).method(SignatureMethod::Ecdsa(Curve::P384), Hash::Sha384),
        Vector::new("P04").method(SignatureMethod::RsaPss(Hash::Sha256), Hash::Sha512),
        Vector::new("P05")
            .xml(" ID=", " xmlns:xs=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" ID=")
            .xml("<saml2:AttributeValue>Testi", "<saml2:AttributeValue xsi:type=\"xs:string\">Testi")
            .prefixes(&["xs", "xsi"]),
        Vector::new("P06").edit_xml(|text| {
            let spaced = text
                .replace("<saml2:AttributeValue>", "<saml2:AttributeValue>\n    ")
                .replace("</saml2:AttributeValue>", "\n  </saml2:AttributeValue>");
            spaced.replace("<saml2:NameID", "\n <saml2:NameID").replace(">90000000001</saml2:NameID>", ">\n\t90000000001 \n</saml2:NameID>")
        }),
        Vector::new("P07").edit_xml(|text| text.replace("xmlns:saml2=", "xmlns=").replace("saml2:", "")),
        Vector::new("P08").model(|a| {
            a.confirmation.method = CONFIRMATION_HOLDER_OF_KEY.to_owned();
            a.confirmation.data = Some(ConfirmationData {
                not_on_or_after: Some(a.not_on_or_after),
                recipient: Some("https://central.idr.example/xds".to_owned()),
                certificate: Some(WORLD.tls_a.clone()),
            });
        }),
        Vector::new("P09").party(WORLD.rsa(Wanted { serial: TWENTY, ..Wanted::default() })).template("</ds:X509Data>", &issuer_serial),
        occupational("P10", specifier("1.2.246.10", Some("90000038"))),
        occupational("P10 other notation", specifier("1.2.246.10", Some("90000038")))
            .xml("root=\"1.2.246.10\" extension=\"90000038\"", "root=\"1.2.246.10.90000038\""),
        occupational("P11", specifier("1.2.246.21", Some("131052-930V"))),
        occupational("P12", specifier("1.2.246.537.30", Some("4711"))),
        emergency("P13", "ETREAT"),
        emergency("P14", "BTG"),
        Vector::of("P15", Kind::Technical, Purpose::Automatic, Transaction::Rad68),
        Vector::of("P16", Kind::Citizen, Purpose::PatientView, Transaction::Iti18),
        Vector::of("P17", Kind::Guardian, Purpose::PatientView, Transaction::Iti18),
        Vector::new("P18").at(t0() + seconds(295 + 59)),
        http_saml("P19", |assertion| URL_SAFE_NO_PAD.encode(assertion)),
        http_saml("P20", |assertion| STANDARD.encode(assertion)),
        Vector::of("P23", Kind::Professional, Purpose::Normal, Transaction::CFind).alone(Carriage::Dimse).message(|assertion| {
            match crate::xua::dimse::identity(4, assertion.as_bytes(), &[], &WORLD.rules).expect("type 4") {
                Credentials::Saml(bytes) => bytes,
                Credentials::Jwt(_) => panic!("type 4 is SAML"),
            }
        }),
        Vector::new("P26").tls(&WORLD.tls_v).trust(&format!("tls_organisations = [\"{V}\"]")),
        Vector::new("P27")
            .party(WORLD.rsa(Wanted { organisation: V, ..Wanted::default() }))
            .trust(&format!("signing_organisations = [\"{V}\"]")),
    ]
}

fn http_saml(id: &str, encode: fn(&[u8]) -> String) -> Vector {
    Vector::of(id, Kind::Professional, Purpose::Normal, Transaction::QidoRs).alone(Carriage::Http).message(move |assertion| {
        let header = format!("IHE-SAML {}", encode(assertion.as_bytes()));
        match credentials([header.as_bytes()], &WORLD.rules).expect("one header") {
            Credentials::Saml(bytes) => bytes,
            Credentials::Jwt(_) => panic!("the scheme is IHE-SAML"),
        }
    })
}

/// Refused before the signature is looked at: carriage, syntax, bounds, shape.
pub(super) fn message() -> Vec<Vector> {
    let prolog = |id: &str, doctype: &'static str| {
        Vector::new(id)
            .text(move |assertion| envelope(assertion, "").replacen("<env:Envelope", &format!("{doctype}<env:Envelope"), 1))
            .refused(3)
    };
    let inside = |id: &str, from: &str, to: &str| Vector::new(id).changed(from, to).refused(3);
    vec![
        Vector::new("N01").text(|_| with_header("", "")).refused(1),
        Vector::new("N02")
            .text(|a| with_header(&format!("<wsse:Security xmlns:wsse=\"{NS_WSSE}\">{a}</wsse:Security><wsse:Security xmlns:wsse=\"{NS_WSSE}\"/>"), ""))
            .refused(2),
        Vector::new("N03").text(|a| envelope(&format!("{a}{}", a.replace(ID, "_another0another0another0")), "")).refused(2),
        Vector::new("N04").text(|a| envelope("", a)).refused(1),
        prolog("N05", "<!DOCTYPE x>"),
        prolog("N06", "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>"),
        prolog("N07", "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>"),
        prolog("N08", "<!DOCTYPE x [<!ENTITY % p SYSTEM \"http://x.example/\"> %p;]>"),
        Vector::new("N09")
            .text(|a| with_header(&format!("<wsse:Security xmlns:wsse=\"{NS_WSSE}\">{a}</wsse:Security><xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"x\"/>"), ""))
            .refused(3),
        inside("N10", ">90000000001<", ">900000<!---->00001<"),
        inside("N11", ">Testi", "><!-- x -->Testi"),
        inside("N12", ">90000000001<", "><![CDATA[90000000001]]><"),
        inside("N13", "<saml2:Subject>", "<?x y?><saml2:Subject>"),
        Vector::new("N14").message(|a| envelope(a, "").encode_utf16().flat_map(u16::to_le_bytes).collect()).refused(3),
        Vector::new("N15").message(|a| [envelope(a, "").as_bytes(), b"\xff"].concat()).refused(3),
        padded("N16", 16_385).refused(4),
        odd_value("N17", nested(18)).refused(4),
        odd_value("N18", format!("<x xmlns=\"urn:x\" {}/>", (0..17).map(|n| format!("a{n}=\"\" ")).collect::<String>())).refused(4),
        odd_value("N19", format!("<x {}/>", (0..65).map(|n| format!("xmlns:n{n}=\"urn:x\" ")).collect::<String>())).refused(4),
        Vector::new("N20").xml("</saml2:Conditions>", "<x:New xmlns:x=\"urn:x\"/></saml2:Conditions>").refused(5),
        Vector::new("N21").xml("</saml2:Conditions>", "</saml2:Conditions><saml2:Advice/>").refused(5),
        Vector::new("N22")
            .xml(
                ASSERTION_END,
                "<saml2:AuthzDecisionStatement Resource=\"urn:x\" Decision=\"Permit\"><saml2:Action Namespace=\"urn:x\">r</saml2:Action></saml2:AuthzDecisionStatement></saml2:Assertion>",
            )
            .refused(5),
        Vector::new("N23")
            .edit_xml(|text| {
                let (subject, conditions) = (part(&text, "Subject"), part(&text, "Conditions"));
                replaced(&text, &format!("{subject}{conditions}"), &format!("{conditions}{subject}"))
            })
            .refused(5),
        Vector::new("N24").text(|_| envelope(&format!("<s:EncryptedAssertion xmlns:s=\"{NS_SAML}\"/>"), "")).refused(6),
        Vector::new("N25").text(|_| envelope(&format!("<s:Assertion xmlns:s=\"{NS_SAML1}\" AssertionID=\"x\"/>"), "")).refused(6),
        Vector::new("N26").model(|a| a.id = "_short".to_owned()).refused(7),
        Vector::new("N27").text(|a| envelope(a, &format!("<q xmlns=\"urn:x\" Id=\"{ID}\"/>"))).refused(7),
        Vector::new("N28").signed(|text| replaced(&text, &part_of(&text, "ds:Signature"), "")).refused(8),
        Vector::new("N29")
            .signed(|text| {
                let signature = part_of(&text, "ds:Signature");
                replaced(&text, &signature, &format!("{signature}{signature}"))
            })
            .refused(8),
    ]
}

/// An envelope made of a signed assertion.
type Layout = Box<dyn Fn(&str) -> String>;

/// Signature wrapping: two assertions, one of them forged.
pub(super) fn wrapping() -> Vec<Vector> {
    let forged = |original: &str| replaced(&original.replace(ID, "_f0rged0000000000000"), ">90000000001<", ">90000000002<");
    let bare = |text: &str| replaced(text, &part_of(text, "ds:Signature"), "");
    let with = |forged: &str, signature: &str| replaced(forged, "</saml2:Issuer>", &format!("</saml2:Issuer>{signature}"));
    let layouts: [(&str, Layout); 8] = [
        (
            "N30",
            Box::new(move |o| {
                let signature = replaced(&part_of(o, "ds:Signature"), "</ds:Signature>", &format!("{}</ds:Signature>", bare(o)));
                envelope(&with(&bare(&forged(o)), &signature), "")
            }),
        ),
        ("N31", Box::new(move |o| envelope(&format!("{}{}{}", bare(o), part_of(o, "ds:Signature"), bare(&forged(o))), ""))),
        ("N32", Box::new(move |o| envelope(&format!("{}{o}", bare(&forged(o))), ""))),
        ("N33", Box::new(move |o| envelope(&replaced(&bare(&forged(o)), ASSERTION_END, &format!("{o}{ASSERTION_END}")), ""))),
        (
            "N34",
            Box::new(move |o| {
                let security = format!(
                    "<wsse:Security xmlns:wsse=\"{NS_WSSE}\">{}</wsse:Security>",
                    with(&bare(&forged(o)), &part_of(o, "ds:Signature"))
                );
                with_header(&format!("{security}{}", bare(o)), "")
            }),
        ),
        (
            "N35",
            Box::new(move |o| {
                let signature = replaced(&part_of(o, "ds:Signature"), "<ds:SignatureValue>", &format!("{}<ds:SignatureValue>", bare(o)));
                envelope(&with(&bare(&forged(o)), &signature), "")
            }),
        ),
        (
            "N36",
            Box::new(move |o| {
                let security = format!(
                    "<wsse:Security xmlns:wsse=\"{NS_WSSE}\">{}</wsse:Security>",
                    with(&bare(&forged(o)), &part_of(o, "ds:Signature"))
                );
                with_header(&format!("{security}<x:Extension xmlns:x=\"urn:x\">{}</x:Extension>", bare(o)), "")
            }),
        ),
        (
            "N37",
            Box::new(move |o| {
                let signature =
                    replaced(&part_of(o, "ds:Signature"), "</ds:Signature>", &format!("<ds:Object>{}</ds:Object></ds:Signature>", bare(o)));
                envelope(&with(&bare(&forged(o)), &signature), "")
            }),
        ),
    ];
    layouts.into_iter().map(|(id, layout)| Vector::new(id).text(layout).refused(2)).collect()
}

/// Signature, algorithms, key, certificate.
pub(super) fn signature() -> Vec<Vector> {
    let template = |id: &str, from: &str, to: &str, code: u8| Vector::new(id).template(from, to).refused(code);
    let reference = |id: &str, uri: &str| template(id, &format!("URI=\"#{ID}\""), uri, 9);
    let enveloped = "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>";
    let exclusive = format!("<ds:Transform Algorithm=\"{EXC_C14N}\"></ds:Transform>");
    let transforms = |id: &str, to: &str| template(id, &format!("{enveloped}{exclusive}"), to, 9);
    let method = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    let flip = |id: &str, element: &'static str| {
        Vector::new(id)
            .signed(move |text| {
                let value = part_of(&text, element);
                let at = value.find('>').expect("a tag") + 3;
                let other = if value.as_bytes()[at] == b'A' { "B" } else { "A" };
                replaced(&text, &value, &format!("{}{other}{}", &value[..at], &value[at + 1..]))
            })
            .refused(11)
    };
    let key_info =
        |id: &str, to: &'static str| Vector::new(id).signed(move |text| replaced(&text, &part_of(&text, "ds:KeyInfo"), to)).refused(12);
    vec![
        reference("N38", "URI=\"\""),
        reference("N39", "URI=\"#_another0another0another0\""),
        Vector::new("N40")
            .signed(|text| {
                let reference = part_of(&text, "ds:Reference");
                replaced(&text, &reference, &format!("{reference}{reference}"))
            })
            .refused(9),
        reference("N41", "URI=\"http://x.example/\""),
        transforms(
            "N42",
            &format!(
                "{enveloped}<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath>1</ds:XPath></ds:Transform>"
            ),
        ),
        transforms("N43", &format!("{enveloped}<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"/>")),
        transforms("N44", &format!("{exclusive}{enveloped}")),
        template(
            "N45",
            &format!("<ds:CanonicalizationMethod Algorithm=\"{EXC_C14N}\""),
            &format!("<ds:CanonicalizationMethod Algorithm=\"{EXC_C14N}WithComments\""),
            10,
        ),
        template(
            "N46",
            &format!("<ds:CanonicalizationMethod Algorithm=\"{EXC_C14N}\""),
            "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315\"",
            10,
        ),
        template("N47", method, "http://www.w3.org/2000/09/xmldsig#rsa-sha1", 10),
        template("N48", SIGNED_DIGEST, "http://www.w3.org/2000/09/xmldsig#sha1", 10),
        template("N49", method, "http://www.w3.org/2000/09/xmldsig#dsa-sha1", 10),
        template("N50", method, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", 10),
        flip("N51", "ds:DigestValue"),
        flip("N52", "ds:SignatureValue"),
        Vector::new("N53").changed(">90000000001<", ">90000000002<").refused(11),
        Vector::new("N54").party(WORLD.ec(&rcgen::PKCS_ECDSA_P256_SHA256)).der_value().refused(12),
        template("N55", method, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", 12),
        Vector::new("N56").party(WORLD.with_public_key(&RsaNumbers::new(128, &[1, 0, 1]))).refused(12),
        Vector::new("N57").party(WORLD.with_public_key(&RsaNumbers::new(256, &[3]))).refused(12),
        key_info("N58", "<ds:KeyInfo><ds:KeyValue><ds:RSAKeyValue/></ds:KeyValue></ds:KeyInfo>"),
        Vector::new("N59")
            .signed(|text| {
                let certificate = part_of(&text, "ds:X509Certificate");
                replaced(&text, &certificate, &format!("{certificate}{certificate}"))
            })
            .refused(12),
        key_info("N60", ""),
        key_info("N61", "<ds:KeyInfo><ds:RetrievalMethod URI=\"#x\"/></ds:KeyInfo>"),
        Vector::new("N62").party(WORLD.self_signed()).refused(13),
        Vector::new("N63").party(WORLD.rsa(Wanted { until: (2025, 6, 15), ..Wanted::default() })).refused(13),
        Vector::new("N64").party(WORLD.revoked()).refused(13),
        Vector::new("N65").party(WORLD.rsa(Wanted { authority: true, ..Wanted::default() })).refused(13),
        Vector::new("N66").party(WORLD.rsa(Wanted { purpose: Some(ExtendedKeyUsagePurpose::ServerAuth), ..Wanted::default() })).refused(13),
        stale("N67"),
        Vector::new("N68").claims(|c| c.issuer = "urn:oid:1.2.246.10.12345671".to_owned()).refused(14),
        Vector::new("N69").claims(|c| c.issuer = format!("urn:oid:{B}")).refused(14),
        Vector::new("N69 certificate").party(WORLD.rsa(Wanted { organisation: B, ..Wanted::default() })).refused(14),
        Vector::new("N69 pin").trust(&format!("signing_certificates = [\"{}\"]", "00".repeat(32))).refused(14),
    ]
}

fn stale(id: &str) -> Vector {
    let mut vector = Vector::new(id).refused(13);
    vector.revocation_hours = 25;
    vector
}

/// Time, audience, confirmation.
pub(super) fn conditions() -> Vec<Vector> {
    vec![
        Vector::new("N70").at(t0() + seconds(295 + 60)).refused(15),
        Vector::new("N71").model(|a| (a.not_before, a.not_on_or_after) = (t0() + seconds(61), t0() + seconds(300))).refused(16),
        Vector::new("N72").model(|a| a.not_on_or_after = a.not_before + seconds(301)).refused(17),
        Vector::new("N73").model(|a| (a.not_before, a.not_on_or_after) = (t0() + seconds(10), t0() + seconds(5))).refused(17),
        Vector::new("N74").model(|a| a.issue_instant = t0() + seconds(61)).refused(17),
        Vector::new("N75").model(|a| a.authn_instant = t0() - seconds(13 * 3600)).refused(17),
        Vector::new("N76").xml("IssueInstant=\"2025-06-15T08:59:55Z\"", "IssueInstant=\"2025-06-15T11:59:55+03:00\"").refused(5),
        Vector::new("N77").model(|a| a.audiences = vec!["urn:x:other".to_owned()]).refused(18),
        Vector::new("N78")
            .model(|a| {
                a.confirmation.data = Some(ConfirmationData { recipient: Some("urn:x:other".to_owned()), ..ConfirmationData::default() })
            })
            .refused(18),
        Vector::new("N79")
            .model(|a| {
                a.confirmation.method = CONFIRMATION_HOLDER_OF_KEY.to_owned();
                a.confirmation.data = Some(ConfirmationData { certificate: Some(WORLD.tls_b.clone()), ..ConfirmationData::default() });
            })
            .refused(19),
        Vector::new("N80").model(|a| a.confirmation.method = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches".to_owned()).refused(19),
        Vector::new("N81").trust("holder_of_key_required = true").refused(19),
        Vector::new("N82").tls(&WORLD.tls_b).refused(20),
        Vector::new("session over").model(|a| a.session_not_on_or_after = Some(t0())).refused(17),
        Vector::new("holder of key behind an intermediary")
            .tls(&WORLD.tls_v)
            .trust(&format!("tls_organisations = [\"{V}\"]"))
            .model(|a| {
                a.confirmation.method = CONFIRMATION_HOLDER_OF_KEY.to_owned();
                a.confirmation.data = Some(ConfirmationData { certificate: Some(WORLD.tls_v.clone()), ..ConfirmationData::default() });
            })
            .refused(19),
        Vector::new("issuer not in force").trust("valid_to = 2025-06-14").refused(14),
        Vector::new("expired security timestamp")
            .text(|a| {
                let wsu = idr_ihe::assertion::NS_WSU;
                envelope(&format!("<u:Timestamp xmlns:u=\"{wsu}\"><u:Expires>2025-06-15T08:58:59Z</u:Expires></u:Timestamp>{a}"), "")
            })
            .refused(15),
    ]
}

/// The vector whose request is of a class.
pub(super) fn of_class(id: String, class: Class) -> Vector {
    let (kind, purpose, transaction) = match class {
        Class::Store => (Kind::Professional, Purpose::Normal, Transaction::Iti41),
        Class::Automatic => (Kind::Technical, Purpose::Automatic, Transaction::StowRs),
        Class::Query => (Kind::Professional, Purpose::Normal, Transaction::CFind),
        Class::Retrieve => (Kind::Professional, Purpose::Normal, Transaction::Rad69),
        Class::Emergency => (Kind::Professional, Purpose::Emergency, Transaction::WadoRs),
        Class::PatientView => (Kind::Citizen, Purpose::PatientView, Transaction::Iti18),
        Class::Administration => (Kind::Registrar, Purpose::ConsentManagement, Transaction::DeclarationWrite),
    };
    let vector = Vector::of(id, kind, purpose, transaction);
    // care_reason is X in ST.
    if class == Class::Store { vector.claims(|c| c.care_reason = None) } else { vector }
}

/// Attributes, value sets, consistency, class, patient, care basis.
pub(super) fn attributes() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for class in Class::ALL {
        for key in Key::ALL {
            let rule = WORLD.rules.attribute(key);
            if rule.cardinality(class) != crate::xua::rules::Cardinality::R {
                continue;
            }
            let name = rule.name.clone();
            // Reason and text of an emergency are judged in V17 (§11 V13).
            let code = if matches!(key, Key::EmergencyReason | Key::EmergencyText) { 27 } else { 22 };
            let id = format!("N86 {} {}", class.name(), key.name());
            vectors.push(of_class(id, class).model(move |a| a.attributes.retain(|attribute| attribute.name != name)).refused(code));
        }
    }
    let repeat = |id: &str, key: Key, edit: fn(&mut Vec<Attribute>, usize)| {
        let name = WORLD.rules.attribute(key).name.clone();
        Vector::new(id)
            .model(move |a| {
                let at = a.attributes.iter().position(|attribute| attribute.name == name).expect("it is there");
                edit(&mut a.attributes, at);
            })
            .refused(22)
    };
    let coded = |id: &str, from: &str, to: &str, code: u8| {
        Vector::new(id).xml(&format!("code=\"{from}\""), &format!("code=\"{to}\"")).refused(code)
    };
    let occupational = |id: &str, code: u8| Vector::new(id).claims(|c| c.register = Some("4".to_owned())).refused(code);
    vectors.extend([
        repeat("N87", Key::Role, |attributes, at| attributes.push(attributes[at].clone())),
        repeat("N88", Key::Role, |attributes, at| {
            let value = attributes[at].values[0].clone();
            attributes[at].values.push(value);
        }),
        repeat("N89", Key::Role, |attributes, at| {
            let other = Attribute { name: "urn:x:role".to_owned(), ..attributes[at].clone() };
            attributes.push(other);
        })
        .rules("[attribute.role]\naliases = [\"urn:x:role\"]"),
        Vector::new("N90").claims(|c| c.name = "Testi\nLääkäri".to_owned()).refused(22),
        Vector::new("N91").claims(|c| c.name = "La\u{308}a\u{308}kari".to_owned()).refused(22),
        coded("N92", "TREAT", "MARKT", 23),
        coded("N93", "PHYS", "WIZARD", 23),
        Vector::new("N94").claims(|c| c.register = Some("13".to_owned())).refused(23),
        Vector::new("N95").claims(|c| c.controller = Some(format!("{B}.19.0"))).refused(24),
        occupational("N96", 22),
        Vector::new("N97").claims(|c| c.specifier = specifier("1.2.246.10", Some("90000038"))).refused(22),
        Vector::of("N98", Kind::Citizen, Purpose::PatientView, Transaction::Iti18)
            .claims(|c| c.patient = Some(hetu("131052-930V")))
            .refused(24),
        occupational("N99", 22)
            .claims(|c| c.specifier = specifier("1.2.246.10", Some("90000038")))
            .xml("extension=\"90000038\"", "extension=\"90000039\""),
        // All that class RT requires, so that the class itself is judged.
        Vector::of("N100", Kind::Technical, Purpose::Automatic, Transaction::Rad69)
            .claims(|c| c.provider_identifier = Some("90000000001".to_owned()))
            .refused(25),
        Vector::of("N101", Kind::Operator, Purpose::Administration, Transaction::Iti18).claims(with_care).refused(25),
        Vector::of("N102", Kind::Citizen, Purpose::PatientView, Transaction::Iti41).claims(with_care).refused(25),
        Vector::new("N103").about("131052-930V").refused(26),
        Vector::of("N104", Kind::Professional, Purpose::Emergency, Transaction::Iti18)
            .claims(|c| c.emergency_text = Some("123456789".to_owned()))
            .refused(22),
        Vector::new("N105").claims(|c| c.care_reason = None).refused(27),
        Vector::of("N129", Kind::Professional, Purpose::Emergency, Transaction::Iti18).claims(|c| c.emergency_reason = None).refused(27),
        Vector::new("N106")
            .model(|a| {
                a.attributes
                    .push(Attribute { name: "urn:kanta:kvarkki:break-glass".to_owned(), values: vec![Value::Text("true".to_owned())] })
            })
            .refused(33),
        coded("N107", "TREAT", "urn:kanta:kvarkki:break-glass", 33),
    ]);
    vectors
}

/// Completes the claims of a kind to those that a professional's class requires.
fn with_care(claims: &mut crate::access::Claims) {
    let full = super::world::claims(Kind::Professional, Purpose::Normal);
    claims.patient = claims.patient.take().or(full.patient);
    claims.provider_identifier = full.provider_identifier;
    claims.unit = full.unit;
    claims.controller = full.controller;
    claims.register = full.register;
}

/// An assertion of exactly so many bytes, by attributes that nobody knows.
pub(super) fn padded(id: &str, bytes: usize) -> Vector {
    let of = |lengths: Vec<usize>| {
        Vector::new(id).model(move |a| {
            let pad = |length: &usize| Attribute { name: "urn:x:pad".to_owned(), values: vec![Value::Text("x".repeat(*length))] };
            a.attributes.extend(lengths.iter().map(pad));
        })
    };
    let mut lengths = vec![0; 4];
    let missing = bytes.checked_sub(of(lengths.clone()).assertion().len()).expect("room for padding");
    for (n, length) in lengths.iter_mut().enumerate() {
        *length = missing / 4 + usize::from(n < missing % 4);
    }
    of(lengths)
}

/// An unknown attribute with a value of elements.
pub(super) fn odd_value(id: &str, value: String) -> Vector {
    let attribute = format!("<saml2:Attribute Name=\"urn:x:odd\"><saml2:AttributeValue>{value}</saml2:AttributeValue></saml2:Attribute>");
    Vector::new(id).xml("</saml2:AttributeStatement>", &format!("{attribute}</saml2:AttributeStatement>"))
}

/// `n` elements inside one another; the value itself stands at depth 7 of an envelope.
pub(super) fn nested(n: usize) -> String {
    let mut text = "<x xmlns=\"urn:x\">".to_owned();
    text.push_str(&"<x>".repeat(n - 1));
    text.push_str(&"</x>".repeat(n));
    text
}

fn part(text: &str, name: &str) -> String {
    part_of(text, &format!("saml2:{name}"))
}

/// The first element of a qualified name, tags included.
pub(super) fn part_of(text: &str, name: &str) -> String {
    let start =
        text.find(&format!("<{name}>")).or_else(|| text.find(&format!("<{name} "))).unwrap_or_else(|| panic!("no {name} in {text}"));
    let end = format!("</{name}>");
    let length = text[start..].find(&end).expect("an end tag") + end.len();
    text[start..start + length].to_owned()
}

//! The shipped rules against the tables of the profile.

use super::world::WORLD;
use crate::access::Purpose;
use crate::testing::profile_table;
use crate::xua::{Class, Code, Key, Refusal, Transaction, XuaRules, XuaRulesError};

fn cells(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table.lines().skip(1).map(|line| line.split('\t').collect())
}

#[test]
fn names_and_cardinalities_are_those_of_section_4() {
    let Some(table) = profile_table("04_4_1.tsv") else { return };
    let mut keys = 0;
    for row in cells(&table) {
        let key = Key::ALL.into_iter().find(|key| key.name() == row[0]).unwrap_or_else(|| panic!("{} has no key", row[0]));
        let rule = WORLD.rules.attribute(key);
        assert_eq!(rule.name, row[1]);
        for (class, expected) in Class::ALL.into_iter().zip(&row[3..]) {
            assert_eq!(format!("{:?}", rule.cardinality(class)), *expected, "{} {}", row[0], class.name());
        }
        keys += 1;
    }
    assert_eq!(keys, Key::ALL.len());
}

#[test]
fn answers_are_those_of_section_12() {
    let Some(table) = profile_table("04_12_1.tsv") else { return };
    let mut codes = 0;
    for row in cells(&table) {
        let number: u8 = row[0].rsplit('-').next().expect("a number").parse().expect("a number");
        let code = ALL_CODES.into_iter().find(|code| code.number() == number).unwrap_or_else(|| panic!("{number} has no code"));
        let answer = WORLD.rules.answer(&Refusal { code, what: "", store_rule: false });
        let expected = row[2].starts_with("wsse:").then(|| row[2].to_owned());
        assert_eq!(answer.subcode, expected, "{number}");
        let status = match number {
            31 => 400,
            25..=27 => 403,
            32 => 503,
            _ => 401,
        };
        assert_eq!((answer.http_status, answer.soap_http_status), (status, if number == 32 { 503 } else { 500 }), "{number}");
        assert_eq!(answer.receiver, row[2].contains("env:Receiver"), "{number}");
        codes += 1;
    }
    assert_eq!(codes, 33);
}

const ALL_CODES: [Code; 33] = [
    Code::Missing,
    Code::Location,
    Code::Syntax,
    Code::Bound,
    Code::Shape,
    Code::TokenType,
    Code::Identifier,
    Code::SignatureCount,
    Code::SignatureShape,
    Code::Algorithm,
    Code::Mismatch,
    Code::Key,
    Code::Certificate,
    Code::Issuer,
    Code::Expired,
    Code::NotYetValid,
    Code::Lifetime,
    Code::Audience,
    Code::Confirmation,
    Code::TlsClient,
    Code::Replay,
    Code::Attribute,
    Code::ValueSet,
    Code::Contradiction,
    Code::Class,
    Code::Patient,
    Code::CareBasis,
    Code::JwtHeader,
    Code::JwtKey,
    Code::JwtBinding,
    Code::Carriage,
    Code::Unavailable,
    Code::Withdrawn,
];

#[test]
fn challenges_say_the_code_and_nothing_of_the_message() {
    let answer = |refusal: &Refusal| WORLD.rules.answer(refusal);
    let refusal = |code| Refusal { code, what: "", store_rule: false };
    assert_eq!(answer(&refusal(Code::Missing)).challenge.as_deref(), Some("Bearer"));
    let expired = answer(&refusal(Code::Expired));
    assert_eq!(expired.challenge.as_deref(), Some(r#"Bearer error="invalid_token", error_description="IDR-X-15""#));
    assert_eq!(answer(&refusal(Code::Class)).challenge, None);
    assert_eq!(answer(&Refusal::store_rule()).http_status, 403);
    assert_eq!(answer(&refusal(Code::Contradiction)).http_status, 401);
    assert_eq!(answer(&Refusal::unavailable("x")).retry_after_seconds, Some(30));
    assert_eq!(answer(&Refusal::replayed()).code.to_string(), "IDR-X-21");
}

#[test]
fn roles_purposes_and_their_systems_are_those_of_section_5() {
    if let Some(table) = profile_table("04_5.1_1.tsv") {
        for row in cells(&table) {
            for code in row[1].split(' ').filter(|code| code.chars().all(|c| c.is_ascii_uppercase()) && !code.is_empty()) {
                let kind = WORLD.rules.kind_of_role(code, "2.25.92986732269339172263163926569331261487");
                assert!(kind.is_some(), "{code} of {}", row[0]);
            }
        }
    }
    let Some(table) = profile_table("04_5.2_1.tsv") else { return };
    let accepted = regex::Regex::new(r"([A-Z]{3,})(?: \([a-z]+\))?(?:, ([0-9.]+))?").expect("a pattern");
    for row in cells(&table) {
        let systems: Vec<_> = accepted.captures_iter(row[1]).filter_map(|c| c.get(2).map(|m| m.as_str())).collect();
        for found in accepted.captures_iter(row[1]) {
            let system = found.get(2).map_or(systems[0], |m| m.as_str());
            let row_of_code = WORLD.rules.purpose(&found[1], system, None).unwrap_or_else(|| panic!("{} {system}", &found[1]));
            assert_eq!(format!("{:?}", row_of_code.purpose).to_lowercase(), row[0].replace('_', ""));
        }
    }
    assert!(WORLD.rules.purpose("TREAT", "2.16.840.1.113883.1.11.20448", None).is_some(), "the value set's OID");
}

#[test]
fn a_class_comes_from_transaction_and_purpose() {
    let class = |transaction: Transaction, purpose| transaction.class(purpose).map(Class::name);
    for (transaction, purpose, expected) in [
        (Transaction::Iti18, Purpose::Normal, Some("QY")),
        (Transaction::Iti18, Purpose::Automatic, Some("AU")),
        (Transaction::CFind, Purpose::Automatic, Some("QY")),
        (Transaction::Iti51, Purpose::Normal, None),
        (Transaction::Iti51, Purpose::Automatic, Some("AU")),
        (Transaction::StorageCommitment, Purpose::Normal, None),
        (Transaction::Iti86, Purpose::Automatic, Some("ST")),
        (Transaction::Rad69, Purpose::Emergency, Some("EM")),
        (Transaction::LightState, Purpose::Emergency, Some("EM")),
        (Transaction::Iti41, Purpose::Emergency, Some("ST")),
        (Transaction::WadoUri, Purpose::PatientView, Some("PV")),
        (Transaction::Explain, Purpose::PatientView, Some("PV")),
        (Transaction::Explain, Purpose::Administration, Some("AD")),
    ] {
        assert_eq!(class(transaction, purpose), expected, "{transaction:?} {purpose:?}");
    }
}

#[test]
fn a_set_that_extends_replaces_key_by_key() {
    let shipped = include_str!("../../../../../configs/rules/base/xua.toml");
    let national = "[attribute.controller]\nname = \"urn:national:controller\"\n[max_lifetime_seconds]\ntechnical = 600\n";
    let rules = XuaRules::layered(&[shipped, national]).expect("readable");
    assert_eq!(rules.key("urn:national:controller"), Some(Key::Controller));
    assert_eq!(rules.key("urn:x-idr:xua:controller"), None);
    assert_eq!(rules.key("urn:x-idr:xua:unit"), Some(Key::Unit));
    for (text, expected) in [
        ("unknown_key = 1", "unknown field"),
        ("clock_skew_seconds = 121", "clock_skew_seconds = 121 is outside 0–120"),
        ("audiences = []", "audiences = 0 is outside 1–32"),
        ("[attribute.unit]\nname = \"urn:x-idr:xua:controller\"", "urn:x-idr:xua:controller stands twice"),
        ("refusal = []", "refusal 1 does not stand exactly once"),
    ] {
        let error = XuaRules::layered(&[shipped, text]).expect_err(text);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(XuaRules::parse("[attribute]"), Err(XuaRulesError::Parse(_))));
}

#[test]
fn times_are_those_of_section_8() {
    let Some(table) = profile_table("04_8_1.tsv") else { return };
    let shipped: toml::Table = include_str!("../../../../../configs/rules/base/xua.toml").parse().expect("TOML");
    let number = |text: &str| text.replace(' ', "").parse::<i64>().ok();
    let mut compared = 0;
    for row in cells(&table) {
        let name = row[0].split(' ').next().expect("a name");
        let Some(value) = shipped.get(name) else { panic!("{name} does not stand in xua.toml") };
        let given: Vec<i64> = match value {
            toml::Value::Integer(one) => vec![*one],
            toml::Value::Table(groups) => ["person", "technical", "citizen"].iter().filter_map(|g| groups.get(*g)?.as_integer()).collect(),
            _ => continue,
        };
        let expected: Vec<i64> = row[1].split('/').filter_map(|part| number(part.trim())).collect();
        assert_eq!(given, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 5);
}

//! Rows of profile 06, each by a message.

use super::*;
use crate::identifier::{Environment, IdentityRules, Response};
use crate::testing::{profile_table, shared_file};
use idr_ihe::hl7::{AckCode, Header, Limits};
use jiff::civil::date;

const SOURCES: &str = r#"
local_issuers = ["1.2.246.10.90000011.99"]
[[receiver]]
application = "IDR"
facility = "CENTRAL"
[[source]]
application = "HIS"
facility = "A-SAIRAALA"
organisation = "1.2.246.10.90000011"
roots = ["1.2.246.21", "1.2.246.10.90000011"]
may_merge = true
[[source]]
application = "OTHER"
facility = "B-SAIRAALA"
organisation = "1.2.246.10.90000038"
roots = ["1.2.246.10.90000038"]
events = ["A28"]
[namespace_map]
HETU = "1.2.246.21"
[location_map]
"RTG^A" = "1.2.246.10.90000011.10.1"
"#;

const HETU: &str = "010190-900P^^^&1.2.246.21&ISO";
const TEMPORARY: &str = "150625-9T01^^^&1.2.246.10.90000011.22.2025&ISO";

fn judged_by(rules: &IdentityRules, environment: Environment, frame: &[u8]) -> Result<Judged, Refusal> {
    let sources = Sources::parse(SOURCES).expect("valid");
    let now = "2025-06-17T12:00:00Z".parse().expect("an instant");
    let desk = Desk { rules, sources: &sources, environment, today: date(2025, 6, 17), now };
    let header = Header::read(frame).expect("a header");
    let source = desk.source(&header, None)?;
    desk.judge(frame, &header, source, &Limits::default())
}

fn judged(frame: impl AsRef<[u8]>) -> Result<Judged, Refusal> {
    judged_by(&IdentityRules::shipped(), Environment::Test, frame.as_ref())
}

/// MSH of an event, and the segments given after EVN.
fn message(event: &str, segments: &[&str]) -> String {
    let mut text =
        format!("MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250615120000||ADT^{event}|A1|T|2.5.1||||||UNICODE UTF-8\rEVN||20250615115958");
    segments.iter().for_each(|segment| text += &format!("\r{segment}"));
    text
}

fn pid(ids: &str) -> String {
    format!("PID|1||{ids}||TESTINEN^TAINA||19900101|F")
}

fn warnings(judged: &Judged) -> Vec<&'static str> {
    judged.warnings.iter().map(|warned| warned.warning.id()).collect()
}

#[test]
fn the_codes_are_those_of_the_table() {
    let Some(table) = profile_table("06_10_1.tsv") else { return };
    let rows: Vec<Vec<&str>> = table.lines().skip(2).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), Code::ALL.len());
    for (row, code) in rows.iter().zip(Code::ALL) {
        assert!(code.id().ends_with(&row[0][row[0].len() - 3..]), "{}", row[0]);
        assert_eq!((code.ack().name(), code.condition().code().to_string().as_str()), (row[1], row[2]), "{}", code.id());
        assert!(code.remedy().is_ascii(), "what an answer says is ASCII");
    }
    let ids: Vec<String> = (1..=16).map(|n| format!("W-{n:02}")).collect();
    assert_eq!(Warning::ALL.iter().map(|warning| warning.id()).collect::<Vec<_>>(), ids);
}

#[test]
fn the_events_are_those_of_the_table() {
    let Some(table) = profile_table("06_5_1.tsv") else { return };
    let rules = IdentityRules::shipped().feed;
    let is_event = |word: &&str| word.len() == 3 && word.starts_with('A') && word[1..].bytes().all(|b| b.is_ascii_digit());
    let mut described = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let events = cells[0].split([' ', ',']).filter(is_event);
        for (event, n) in events.zip(0..) {
            let row = rules.event.iter().find(|row| row.event == event);
            match cells[3] {
                meaning if meaning.starts_with("AA without") => assert!(rules.ignored_events.iter().any(|e| e == event), "{event}"),
                meaning if meaning.starts_with("AR 201") => assert!(row.is_none(), "{event}"),
                _ => {
                    let structures: Vec<&str> = cells[1].split(", ").collect();
                    let structure = structures.get(n).unwrap_or(&structures[0]);
                    assert_eq!(row.map(|row| row.structure.as_str()), Some(*structure), "{event}");
                    described += 1;
                }
            }
        }
    }
    assert_eq!((described, rules.event.len()), (11, 11));
    for event in ["A23", "A29", "A34", "A43", "A18", "A99", ""] {
        assert_eq!(judged(message(event, &[&pid(HETU)])).map_err(|r| r.code), Err(Code::Event), "{event}");
    }
}

#[test]
fn the_examples_of_the_profile_are_read() {
    let first = message(
        "A28^ADT_A05",
        &["PID|1||150625-9T01^^^&1.2.246.10.90000011.22.2025&ISO||TUNTEMATON^POTILAS||||||||||||||||||||||||||Y", "PV1|1|N"],
    );
    let judged_first = judged(first).expect("taken");
    let Act::Upsert { person, visit: None, creates: true } = judged_first.order.act else { panic!("an upsert") };
    assert_eq!(person.primary.id.to_cx(), TEMPORARY);
    assert_eq!(person.demographics.identity_unknown, Change::Set("Y".to_owned()));
    assert_eq!(judged_first.order.as_of, "2025-06-15T08:59:58Z".parse().expect("an instant"));
    assert!(judged_first.warnings.is_empty(), "{:?}", judged_first.warnings);

    let merge = message("A40^ADT_A39", &[&pid(HETU), &format!("MRG|{TEMPORARY}")]);
    let Act::Merge(pairs) = judged(merge).expect("taken").order.act else { panic!("a merge") };
    assert_eq!((pairs[0].survivor.primary.id.to_cx().as_str(), pairs[0].old[0].id.to_cx().as_str()), (HETU, TEMPORARY));

    let visit = "MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20250616080000||ADT^A04|A1-0003|T|2.3||||||8859/1\rEVN|A04|20250616075900\r\
        PID|1||010190-900P^^^&1.2.246.21&ISO||TESTINEN^TAINA||19900101|F\rPV1|1|O|RTG^^^A||||||||||||||||1.2.246.10.90000011.14.2025.100";
    let Act::Upsert { visit: Some(visit), .. } = judged(visit).expect("taken").order.act else { panic!("a visit") };
    assert_eq!(visit.service_event, "1.2.246.10.90000011.14.2025.100");
    assert_eq!((visit.controller.as_str(), visit.unit.as_deref()), ("1.2.246.10.90000011.19.0", Some("1.2.246.10.90000011.10.1")));

    let rename = message(
        "A47^ADT_A30",
        &["PID|1||150625-9T02^^^&1.2.246.10.90000011.22.2025&ISO||X^Y", "MRG|150625-9T99^^^&1.2.246.10.90000011.22.2025&ISO"],
    );
    assert!(matches!(judged(rename).expect("taken").order.act, Act::Rename(_)));
    let link = message("A24^ADT_A24", &["PID|1||150625-9T02^^^&1.2.246.10.90000011.22.2025&ISO", "PID|2||010190Y900P^^^&1.2.246.21&ISO"]);
    assert!(matches!(judged(link).expect("taken").order.act, Act::Link(_)));
}

#[test]
fn every_reason_to_refuse_has_its_code_and_place() {
    let good = message("A28", &[&pid(HETU)]);
    let two_hetus = pid(&format!("{HETU}~010190Y900P^^^&1.2.246.21&ISO"));
    let merge = |survivor: &str, old: &str| message("A40", &[&pid(survivor), &format!("MRG|{old}")]);
    let groups: Vec<String> = (0..51).flat_map(|_| [pid(HETU), format!("MRG|{TEMPORARY}")]).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    for (name, frame, code, place) in [
        ("type", good.replace("ADT^A28", "ORM^O01"), Code::MessageType, "MSH-9"),
        ("event", good.replace("A28", "A23"), Code::Event, "MSH-9"),
        ("production message in test", good.replace("|T|", "|P|"), Code::ProcessingId, "MSH-11"),
        ("version", good.replace("2.5.1", "2.6"), Code::Version, "MSH-12"),
        ("sender", good.replace("A-SAIRAALA", "C-SAIRAALA"), Code::NotAllowed, "MSH-3"),
        ("receiver", good.replace("|IDR|", "|XYZ|"), Code::NotAllowed, "MSH-5"),
        ("event of this source", good.replace("HIS|A-", "OTHER|B-").replace("A28", "A31"), Code::NotAllowed, "MSH-9"),
        ("root of this source", good.replace("HIS|A-", "OTHER|B-"), Code::NotAllowed, "PID-3"),
        ("character set", good.replace("UNICODE UTF-8", "ISO IR87"), Code::Coded, "MSH-18"),
        ("no control id", good.replace("|A1|", "||"), Code::Required, "MSH-10"),
        ("no EVN", good.replace("\rEVN||20250615115958", ""), Code::Segments, "EVN-0"),
        ("no EVN-2", good.replace("EVN||20250615115958", "EVN||"), Code::Required, "EVN-2"),
        ("no PID", message("A28", &[]), Code::Segments, "PID-0"),
        ("no PV1", message("A04", &[&pid(HETU)]), Code::Segments, "PV1-0"),
        ("no PV1-2", message("A04", &[&pid(HETU), "PV1|1|"]), Code::Required, "PV1-2"),
        ("PV1 before PID", message("A04", &["PV1|1|O", &pid(HETU)]), Code::Segments, "PID-0"),
        ("no MRG", message("A40", &[&pid(HETU)]), Code::Segments, "MRG-0"),
        ("one PID of a link", message("A24", &[&pid(HETU)]), Code::Segments, "PID-0"),
        ("51 groups", message("A40", &groups), Code::Bound, "-0"),
        ("no PID-3", message("A28", &[&pid("")]), Code::Required, "PID-3"),
        ("PID-3 deleted", message("A28", &[&pid("\"\"")]), Code::Required, "PID-3"),
        ("no name", message("A28", &["PID|1||010190-900P^^^&1.2.246.21&ISO"]), Code::Required, "PID-5"),
        ("name deleted", message("A28", &["PID|1||010190-900P^^^&1.2.246.21&ISO||\"\""]), Code::Required, "PID-5"),
        ("MRG-1 deleted", merge(HETU, "\"\""), Code::Required, "MRG-1"),
        ("hetu", message("A28", &[&pid("010190-900R^^^&1.2.246.21&ISO")]), Code::Value, "PID-3"),
        ("two hetus", message("A28", &[&two_hetus]), Code::Value, "PID-3"),
        ("nothing usable", message("A28", &[&pid("123^^^&1.2.840.99&ISO")]), Code::Value, "PID-3"),
        ("birth date", message("A28", &[&pid(HETU).replace("19900101", "19901301")]), Code::Value, "PID-7"),
        ("future", good.replace("EVN||20250615115958", "EVN||20250617150501"), Code::Value, "EVN-2"),
        ("no time", good.replace("EVN||20250615115958", "EVN||today"), Code::Value, "EVN-2"),
        ("same id", merge(HETU, HETU), Code::Value, "MRG-1"),
        ("hetu into temporary", merge(TEMPORARY, HETU), Code::Rule, "MRG-1"),
        ("hetu into another hetu", merge("010190Y900P^^^&1.2.246.21&ISO", HETU), Code::Rule, "MRG-1"),
        ("both of a link the same", message("A24", &[&pid(HETU), &pid(HETU)]), Code::Value, "PID-3"),
    ] {
        let refusal = judged(&frame).expect_err(name);
        let at = refusal.location.map(|at| (at.segment, at.field)).unwrap_or_default();
        assert_eq!((refusal.code, format!("{}-{}", at.0, at.1).as_str()), (code, place), "{name}: {}", refusal.what);
        let ack = String::from_utf8(refusal.ack().write(&Header::read(frame.as_bytes()).expect("a header"), "2025", "C")).expect("ASCII");
        for value in ["TESTINEN", "010190", "19900101", "150625"] {
            assert!(!ack.contains(value), "{name}: the answer repeats a value");
        }
    }
    assert!(judged(good.replace("EVN||20250615115958", "EVN||20250617150459")).is_ok(), "299 s ahead");
    let mut lone = good.clone().into_bytes();
    lone.extend(b"\rZZZ|\xe4");
    assert_eq!(judged(lone).map_err(|r| r.code), Err(Code::Value), "I17: a lone E4");
    let rules = IdentityRules::shipped();
    let in_production = good.replace("|T|", "|P|");
    assert_eq!(judged_by(&rules, Environment::Production, in_production.as_bytes()).map_err(|r| r.code), Err(Code::Value), "I28");
}

#[test]
fn every_warning_of_reading_has_its_message() {
    let of = |name: &str, frame: String, expected: &[&str]| {
        let judged = judged(&frame).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(warnings(&judged), expected, "{name}");
    };
    of("lower case", message("A28", &[&pid("290200a910n^^^&1.2.246.21&ISO").replace("19900101", "20000229")]), &["W-01"]);
    of("birth date", message("A28", &[&pid(HETU).replace("19900101", "19900102")]), &["W-02"]);
    of("sex", message("A28", &[&pid(HETU).replace("|F", "|M")]), &["W-03"]);
    of("no code of the table", message("A28", &[&pid(HETU).replace("|F", "|Q")]), &["W-03"]);
    of("PID-2 of 2.4", message("A28", &["PID|1|010190-900P^^^&1.2.246.21&ISO|||T^T"]).replace("2.5.1", "2.4"), &["W-04"]);
    of("type", message("A28", &[&pid(&format!("{TEMPORARY}^NNFIN")).replace("|19900101|F", "")]), &["W-05"]);
    of("escape", message("A28", &[&pid(HETU).replace("TAINA", "\\H\\TAINA")]), &["W-06"]);
    of("structure", message("A28^ADT_A01", &[&pid(HETU)]), &["W-07"]);
    of("EVN-1", message("A28", &[&pid(HETU)]).replace("EVN||", "EVN|A31|"), &["W-07"]);
    of("local time", message("A28", &[&pid(HETU)]).replace("EVN||20250615115958", "EVN||20241027033000"), &["W-08"]);
    of("identity unknown", message("A28", &[&format!("{}|||||||||||||||||||||||Y", pid(HETU))]), &["W-09"]);
    of("issuer", message("A28", &[&pid(&format!("{HETU}~77^^^&1.2.840.99&ISO~78^^^NOBODY"))]), &["W-13", "W-13"]);
    of("form", message("A28", &[&pid("T1^^^&1.2.246.10.90000011.22.2025&ISO")]), &["W-14"]);
    of("namespace", message("A28", &[&pid("010190-900P^^^HETU")]), &[]);
    of("old merge field", message("A40", &[&pid(HETU), &format!("MRG||||{TEMPORARY}")]).replace("2.5.1", "2.3"), &["W-04"]);
    let strict = IdentityRules { demographics_mismatch: Response::Refuse, ..IdentityRules::shipped() };
    let frame = message("A28", &[&pid(HETU).replace("|F", "|M")]);
    assert_eq!(judged_by(&strict, Environment::Test, frame.as_bytes()).map_err(|r| r.code), Err(Code::Value));
}

#[test]
fn empty_leaves_and_null_deletes() {
    let of = |fields: &str| {
        let Act::Upsert { person, .. } = judged(message("A31", &[&format!("PID|1||{HETU}||{fields}")])).expect("taken").order.act else {
            panic!("an upsert")
        };
        person.demographics
    };
    let name = |family: &str| Name { family: family.to_owned(), given: "TAINA".to_owned(), further: String::new() };
    let known = of("TESTINEN^TAINA||19900101|F").over(Known::default());
    assert_eq!((known.birth_date, known.sex.as_deref()), (Some(date(1990, 1, 1)), Some("F")));
    let known = of("UUSINIMI^TAINA~ENTINEN^TAINA^^^^^M").over(known);
    assert_eq!((known.name.clone(), known.sex.as_deref()), (Some(name("UUSINIMI")), Some("F")), "empty leaves");
    let known = of("ENTINEN^TAINA^^^^^M~UUSINIMI^TAINA^^^^^L||\"\"|\"\"").over(known);
    assert_eq!((known.name, known.birth_date, known.sex), (Some(name("UUSINIMI")), None, None), "null deletes");
}

#[test]
fn a_secondary_or_expired_id_is_never_the_first() {
    let expired = "131052-930V^^^&1.2.246.21&ISO^^^20100101^20200101";
    let frame = message("A28", &[&pid(&format!("{expired}~77^^^&1.2.246.10.90000011.99&ISO~{TEMPORARY}~{HETU}"))]);
    let Act::Upsert { person, .. } = judged(frame).expect("taken").order.act else { panic!("an upsert") };
    assert_eq!(person.primary.id.to_cx(), HETU);
    let others: Vec<&str> = person.others.iter().map(|id| id.id.as_str()).collect();
    assert_eq!(others, ["150625-9T01", "131052-930V", "77"]);
}

#[test]
fn a_message_is_known_again_whenever_it_is_sent() {
    let frame = message("A28", &[&pid(HETU)]);
    let of = |frame: &str| digest(frame.as_bytes(), &Header::read(frame.as_bytes()).expect("a header"));
    assert_eq!(of(&frame), of(&frame.replace("20250615120000", "20250615130000")), "MSH-7 is not part of it");
    for other in [frame.replace("TAINA", "TEINA"), frame.replace("A28", "A31"), frame.replace("|A1|", "|A2|")] {
        assert_ne!(of(&frame), of(&other));
    }
}

#[test]
fn foreign_samples_are_refused_for_what_they_are() {
    // Version 2.3 for production; an event that moves ids between patients; processing id 1.
    for (file, code) in [("A01.txt", Code::ProcessingId), ("A43.txt", Code::Event), ("patient-feed-A01-template.txt", Code::ProcessingId)] {
        let Some(sample) = shared_file(&format!("ihe/samples/nist-adt/{file}")) else { return };
        let sample = sample.trim_start_matches(['\u{b}', '\r', '\n']);
        let header = Header::read(sample.as_bytes()).expect("a header");
        let sources = Sources::parse(
            &SOURCES.replace("\"HIS\"", &format!("{:?}", header.component(3, 1))).replace("A-SAIRAALA", &header.component(4, 1)),
        )
        .expect("valid");
        let rules = IdentityRules::shipped();
        let desk = Desk {
            rules: &rules,
            sources: &sources,
            environment: Environment::Test,
            today: date(2025, 6, 17),
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let source = desk.source(&header, Some("1.2.246.10.90000011")).expect("listed");
        let refusal = desk.judge(sample.as_bytes(), &header, source, &Limits::default()).expect_err(file);
        assert_eq!(refusal.code, code, "{file}: {}", refusal.what);
        assert_ne!(refusal.ack().code, AckCode::Aa);
    }
}

#[test]
fn a_file_of_sources_is_refused_by_its_key() {
    for (from, to, key) in [
        ("organisation = \"1.2.246.10.90000011\"", "organisation = \"here\"", "source[0].organisation"),
        ("may_merge = true", "time_zone = \"Mars/Base\"", "source[0].time_zone"),
        ("may_merge = true", "default_charset = \"EBCDIC\"", "source[0].default_charset"),
        ("\"OTHER\"\nfacility = \"B-SAIRAALA\"", "\"HIS\"\nfacility = \"A-SAIRAALA\"", "source[1].application"),
        ("HETU = \"1.2.246.21\"", "HETU = \"hetu\"", "namespace_map"),
        ("may_merge = true", "may_merge_all = true", "may_merge_all"),
    ] {
        let error = Sources::parse(&SOURCES.replacen(from, to, 1)).expect_err(key);
        assert!(error.to_string().contains(key), "{error}");
    }
    assert!(Sources::parse("").is_ok(), "nobody may send");
}

#[test]
fn the_shipped_file_lets_nobody_send_and_its_examples_hold() {
    let shipped = include_str!("../../../../configs/hl7-sources.toml");
    let read = Sources::parse(shipped).expect("valid");
    assert!(read.source("HIS", "A-SAIRAALA").is_none() && read.local_issuers.is_empty());
    let is_example = |line: &str| line.starts_with("[[") || line.contains(" = ");
    let uncommented: Vec<&str> =
        shipped.lines().map(|line| line.strip_prefix("# ").filter(|line| is_example(line)).unwrap_or(line)).collect();
    let read = Sources::parse(&uncommented.join("\n")).expect("valid");
    let source = read.source("HIS", "A-SAIRAALA").expect("listed");
    assert!(!source.may_merge && !source.may_change_hetu && source.events.is_empty(), "the defaults");
    assert_eq!((read.authority("HETU"), read.unit("RTG", "A")), (Some("1.2.246.21"), Some("1.2.246.10.90000011.10.1")));
    assert!(read.receives("IDR", "CENTRAL"));
}

#[test]
fn an_id_that_has_ended_is_merged() {
    let merge = message("A40^ADT_A39", &[&pid(HETU), &format!("MRG|{TEMPORARY}^^^20250101^20250610")]);
    let Act::Merge(pairs) = judged(merge).expect("taken").order.act else { panic!("a merge") };
    assert_eq!(pairs[0].old[0].id.to_cx(), TEMPORARY);
}

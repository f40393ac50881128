//! The shipped files against the profile's tables, row by row.

use super::super::*;
use crate::testing::{profile_table, shared_file};
use idr_ihe::transaction::RuleText;
use std::collections::BTreeSet;

fn rows(table: &str) -> Vec<Vec<String>> {
    table.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Ids of a cell: `M-020, M-021`, `M-201 … M-206`, `M-421 … M-426, -431`, `IDR-B-01`. The family carries over.
pub fn ids(cell: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let (mut family, mut range) = (String::new(), false);
    for word in cell.split([' ', ',', ';', '(', ')', ':', '†']).filter(|word| !word.is_empty()) {
        if word == "…" {
            range = true;
            continue;
        }
        let word = word.strip_prefix("IDR-").unwrap_or(word);
        let Some((letter, number)) = word.split_once('-') else { continue };
        let is_number = number.len() >= 2 && number.bytes().all(|b| b.is_ascii_digit());
        if !is_number || letter.len() > 1 || (letter.is_empty() && family.is_empty()) {
            continue;
        }
        if !letter.is_empty() {
            letter.clone_into(&mut family);
        }
        if range && let Some((_, from)) = ids.last().and_then(|last| last.split_once('-')) {
            let from: u32 = from.parse().expect("digits");
            let to: u32 = number.parse().expect("digits");
            ids.extend((from + 1..to).map(|n| format!("{family}-{n:0width$}", width = number.len())));
        }
        ids.push(format!("{family}-{number}"));
        range = false;
    }
    ids
}

#[test]
fn the_shipped_files_load() {
    let rules = XdsRules::shipped();
    assert!(rules.rule_ids().count() > 120);
    assert_eq!(rules.lock_wait_seconds(), 10);
    assert_eq!(Errors::shipped().problem_json("W-04").map(|row| row.title.as_str()), Some("Not found"));
}

#[test]
fn every_metadata_rule_of_the_profile_is_asked_or_says_why_not() {
    let Some(table) = profile_table("08_9_1.tsv") else { return };
    let rules = XdsRules::shipped();
    let mut named = BTreeSet::new();
    for row in rows(&table) {
        // Rows of several ids have their texts in the same order; M-640 and the like name others inside the row.
        let inner: Vec<String> = ids(&row[0])
            .into_iter()
            .chain(ids(&row[2]).into_iter().filter(|_| row[0].starts_with("M-6") || row[0].starts_with("M-7")))
            .collect();
        let texts: Vec<&str> = row[4].split(" · ").collect();
        for (index, id) in inner.iter().enumerate() {
            named.insert(id.clone());
            match rules.rule(id) {
                None => assert!(
                    rules.not_built().contains_key(id) || row[2].contains(&format!("({id}")),
                    "{id} is neither built nor said not to be"
                ),
                Some((code, text)) => {
                    assert!(!rules.not_built().contains_key(id), "{id} is built");
                    let long =
                        |cell: &str| SHORT.iter().find(|(short, _)| *short == cell).map_or(cell.to_owned(), |(_, long)| (*long).to_owned());
                    let (main, restricted) = match row[3].split_once("; ITI-92: ") {
                        Some((main, restricted)) => (main, Some(long(restricted))),
                        None => (row[3].as_str(), None),
                    };
                    assert_eq!(code, own_code(id, &row[2]).unwrap_or_else(|| long(main)), "{id}");
                    assert_eq!(rules.restricted_code(id).map(str::to_owned), restricted, "{id}");
                    let own = texts.get(index).copied().unwrap_or(texts[texts.len() - 1]);
                    if inner.len() == 1 {
                        assert_eq!(text, own, "{id}");
                    } else if own.contains("<attribute>") {
                        assert!(text.ends_with("is missing"), "{id}: {text}");
                    } else {
                        // The pieces of a shared cell share a beginning or an end.
                        let shared = texts[0].split(' ').next().unwrap_or_default();
                        assert!(text.ends_with(own) || text.starts_with(own), "{id}: {text} / {own} ({shared})");
                    }
                }
            }
        }
    }
    let unnamed: Vec<&str> = rules.rule_ids().filter(|id| !named.contains(*id)).collect();
    assert_eq!(unnamed, ["M-336"], "rules that the profile does not have");
    let stale: Vec<&String> = rules.not_built().keys().filter(|id| !named.contains(*id)).collect();
    assert!(stale.is_empty(), "{stale:?}");
}

/// The code of a rule that stands inside another's row: `M-641 home unknown → XDSUnknownCommunity`.
fn own_code(id: &str, cell: &str) -> Option<String> {
    let inside = cell.split(" · ").find(|part| part.starts_with(id))?;
    Some(inside.split_once("→ ")?.1.to_owned())
}

#[test]
fn every_rule_of_documents_and_state_has_a_test() {
    let rules = XdsRules::shipped();
    for id in rules.rule_ids() {
        let check = rules.check_name(id).expect("it has a row");
        let tests = match check.split('(').next() {
            Some("Document") => include_str!("documents.rs"),
            Some("Registry") => include_str!("state.rs"),
            Some("Removal") => include_str!("removal.rs"),
            Some("Update" | "Updated") => include_str!("update.rs"),
            _ => continue,
        };
        assert!(tests.contains(&format!("\"{id}\"")) || tests.contains(&format!("\"{id} ")), "{id} {check}");
    }
}

const SHORT: [(&str, &str); 12] = [
    ("RM", "XDSRegistryMetadataError"),
    ("PM", "XDSRepositoryMetadataError"),
    ("UR", "UnresolvedReferenceException"),
    ("DD", "XDSRegistryDeprecatedDocumentError"),
    ("DU", "XDSDuplicateUniqueIdInRegistry"),
    ("PD", "XDSPatientIdDoesNotMatch"),
    ("IC", "InvalidDocumentContent"),
    ("UE", "XDSMetadataUpdateError"),
    ("UO", "XDSMetadataUpdateOperationError"),
    ("UV", "XDSMetadataVersionError"),
    ("PR", "XDSPatientIDReconciliationError"),
    ("UA", "UnmodifiableMetadataError"),
];

#[test]
fn query_and_retrieve_rules_have_the_codes_and_texts_of_the_profile() {
    let (Some(queries), Some(retrieves), Some(texts)) =
        (profile_table("08_10_1.tsv"), profile_table("08_11_1.tsv"), profile_table("09_2_1.tsv"))
    else {
        return;
    };
    for row in rows(&queries).into_iter().chain(rows(&retrieves)) {
        let codes: Vec<&str> =
            row[2].split([' ', ',', ';', '/', '(', ')']).filter(|word| word.starts_with("XDS") && !word.starts_with("XDSI")).collect();
        for (index, id) in ids(&row[0]).iter().enumerate() {
            let text = RuleText::of(id).unwrap_or_else(|| panic!("{id} has no text"));
            let expected = codes.get(index).or(codes.last()).copied().unwrap_or("XDSRepositoryMetadataError");
            let expected = if id == "R-05" || id == "Q-17" { codes[0] } else { expected };
            assert_eq!(text.error_code, expected, "{id}");
        }
    }
    for row in rows(&texts).into_iter().filter(|row| row[0].starts_with(['Q', 'R'])) {
        let own: Vec<&str> = row[1].split(" · ").collect();
        let range = ids(&row[0]);
        assert_eq!(range.len(), own.len(), "{}", row[0]);
        for (id, text) in range.iter().zip(own) {
            let rule = RuleText::of(id).expect("seen above");
            match text.split_once(" (") {
                // the imaging text first; R-11: in brackets.
                Some((imaging, _)) if imaging.starts_with("XDSI") => assert_eq!(rule.imaging_text, imaging, "{id}"),
                Some((plain, _)) => assert_eq!(rule.text, plain, "{id}"),
                None if text == "same" => assert_eq!(rule.text, "request is incomplete", "{id}"),
                None => assert_eq!(rule.text, text, "{id}"),
            }
        }
    }
}

#[test]
fn error_codes_are_those_of_the_profile() {
    let Some(table) = profile_table("09_3.1_1.tsv") else { return };
    let (rules, errors) = (XdsRules::shipped(), Errors::shipped());
    let table = rows(&table);
    assert_eq!(table.len(), errors.rows().len());
    for (row, ours) in table.iter().zip(errors.rows()) {
        let code = &row[0];
        assert_eq!(*code, ours.error_code);
        let expected: BTreeSet<String> = ids(&row[2]).into_iter().collect();
        let named: BTreeSet<String> = ours.rules.iter().filter(|rule| *rule != "M-336").cloned().collect();
        assert_eq!(named, expected, "{code}");
        assert_eq!(ours.severity() == idr_ihe::transaction::registry_response::Severity::Warning, row[3] == "W", "{code}");
        let keys: Vec<&str> = row[4]
            .split([' ', ','])
            .filter(|key| !matches!(*key, "" | "or" | "–"))
            .map(|key| key.split('=').next().unwrap_or(key))
            .collect();
        assert_eq!(ours.keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), keys, "{code}");
        assert_eq!((&ours.status, &ours.client), (&row[5], &row[6]), "{code}");
        // Two rows of the profile point to the row above them.
        if !row[7].starts_with("as ") && !row[7].starts_with("As ") {
            assert_eq!(ours.operator, row[7], "{code}");
        }
    }
    // Both files agree which rule gives which code.
    for id in rules.rule_ids() {
        let (code, _) = rules.rule(id).expect("it has a row");
        let row = errors.row(code, id).unwrap_or_else(|| panic!("{id}: {code} has no row"));
        assert!(row.rules.is_empty() || row.rules.iter().any(|rule| rule == id), "{id}");
    }
}

#[test]
fn codes_that_others_send_are_known_and_never_ours() {
    let (Some(foreign), Some(all)) = (profile_table("09_3.2_1.tsv"), shared_file("ihe/tables/error-codes.tsv")) else { return };
    let errors = Errors::shipped();
    let known: BTreeSet<&str> = errors.foreign().iter().map(|row| row.error_code.as_str()).collect();
    for row in rows(&foreign) {
        for code in row[0].split(", ") {
            let code = if code.starts_with(':') { format!("urn:dicom:wado{code}") } else { code.to_owned() };
            assert!(known.contains(code.as_str()), "{code}");
        }
    }
    let ours: BTreeSet<&str> = errors.rows().iter().map(|row| row.error_code.as_str()).collect();
    assert!(ours.is_disjoint(&known));
    for row in rows(&all) {
        assert!(ours.contains(row[0].as_str()) || known.contains(row[0].as_str()), "{}", row[0]);
    }
}

#[test]
fn faults_resources_and_problems_are_those_of_the_profile() {
    let (Some(faults), Some(resources), Some(problems), Some(texts)) =
        (profile_table("09_4_1.tsv"), profile_table("09_7_1.tsv"), profile_table("09_6.1_1.tsv"), profile_table("09_2_1.tsv"))
    else {
        return;
    };
    let errors = Errors::shipped();
    let table = rows(&faults);
    assert_eq!(table.len(), errors.faults().len());
    for (row, ours) in table.iter().zip(errors.faults()) {
        let last = row[0].rsplit(" / ").next().unwrap_or_default().split(" (").next().unwrap_or_default();
        assert!(ours.fault.ends_with(last), "{}", row[0]);
        let without_switch = row[2].split(" (").next().unwrap_or_default();
        assert_eq!(ours.rules, ids(without_switch), "{}", row[0]);
        assert_eq!((ours.http_status.to_string(), &ours.action, &ours.client), (row[3].clone(), &row[4], &row[5]), "{}", row[0]);
    }
    for row in rows(&resources) {
        let id = &ids(&row[0])[0];
        let text = rows(&texts).into_iter().find(|row| row[0].starts_with("B-01")).expect("the row of B rules");
        let number: usize = id[2..].parse().expect("digits");
        let expected = text[1].split(" · ").nth(number - 1).expect("a text per rule");
        for answerer in [Answerer::Registry, Answerer::Repository] {
            let ours = errors.resource(id, answerer, &[]).unwrap_or_else(|| panic!("{id}"));
            assert_eq!(ours.text, expected, "{id}");
            assert!(errors.row(&ours.error_code, id).is_some_and(|row| row.rules.contains(id)), "{id} {}", ours.error_code);
        }
    }
    for row in rows(&problems) {
        let codes: Vec<&str> = row[0].split(" / ").map(|code| code.trim_start_matches("IDR-W")).collect();
        let (titles, details): (Vec<&str>, Vec<&str>) = (row[1].split(" / ").collect(), row[2].split(" / ").collect());
        for (index, code) in codes.iter().enumerate() {
            let ours = errors.problem_json(&format!("W{code}")).unwrap_or_else(|| panic!("{code}"));
            assert_eq!((ours.title.as_str(), ours.detail.as_str()), (titles[index], details[index]), "{code}");
        }
    }
}

#[test]
fn limits_have_the_defaults_of_the_profile() {
    let Some(table) = profile_table("08_6_1.tsv") else { return };
    let rules = XdsRules::shipped();
    let (limits, query, timeout, concurrency) = (&rules.limits, &rules.query, &rules.timeout, &rules.concurrency);
    let ours: [(&str, Vec<u64>); 12] = [
        ("limits.submission_objects", vec![limits.submission_objects as u64]),
        ("limits.documents", vec![limits.documents as u64]),
        ("query.max_leafclass / query.max_objectref", vec![query.max_leafclass as u64, query.max_objectref as u64]),
        ("query.max_ids / query.max_values", vec![query.max_ids as u64, query.max_values as u64, query.max_slots as u64]),
        ("retrieve.max_documents", vec![rules.retrieve.max_documents as u64]),
        ("imaging.max_instances", vec![rules.imaging.max_instances as u64]),
        ("imaging.max_response_bytes", vec![rules.imaging.max_response_bytes]),
        ("timeout.query / .submit / .first_byte", vec![timeout.query.into(), timeout.submit.into(), timeout.first_byte.into()]),
        ("lock.wait", vec![rules.lock_wait_seconds().into()]),
        ("concurrency.submit / .query / .retrieve", vec![concurrency.submit as u64, concurrency.query as u64, concurrency.retrieve as u64]),
        ("", vec![]),
        ("", vec![]),
    ];
    for row in rows(&table) {
        let key = &row[0];
        let (_, values) = ours.iter().find(|(known, _)| known == key).unwrap_or_else(|| panic!("{key} is no key"));
        // "1 000 entries": digits of a thousands group belong together.
        let joined = row[1].replace(' ', "\u{0}").replace("\u{0}000", "000").replace('\u{0}', " ");
        let joined = joined.split(" objects").next().unwrap_or_default().to_owned();
        let numbers: Vec<u64> = joined.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
        for value in values {
            assert!(joined.replace(' ', "").contains(&value.to_string()) || numbers.contains(value), "{key}: {value} / {}", row[1]);
        }
    }
}

#[test]
fn bad_files_are_refused_and_say_where() {
    let refused = |text: &str| XdsRules::load(&[text]).expect_err("refused").to_string();
    assert!(refused("unknown = 1").contains("unknown"));
    assert!(refused("off = [\"M-999\"]").contains("M-999"));
    assert!(refused("idempotency.retention_seconds = 60").contains("86400-2592000"));
    assert!(
        refused("[metadata]\nrules = [{ id = \"M-900\", code = \"RM\", text = \"x\", check = \"no_such_check\" }]").contains("xds.toml")
    );
    let broken = "[metadata]\nrules = [{ id = \"M-113\", check = { slot_pattern = { slot = \"hash\", pattern = \"(\" } } }]";
    assert!(refused(broken).contains("xds.toml"));
    assert!(Errors::load("x = 1").is_err());
}

#[test]
fn a_set_that_extends_the_base_changes_what_it_names() {
    let extension =
        "off = [\"M-110\"]\nmanifest_rules = \"off\"\n[metadata]\nrules = [{ id = \"M-147\", check = { title_longer_than = 1 } }]";
    let rules = XdsRules::load(&[extension]).expect("loads");
    assert_eq!(rules.rule("M-147"), Some(("XDSRegistryMetadataError", "title is too long")));
    assert_eq!(rules.check_name("M-147").as_deref(), Some("Attribute(TitleLongerThan(1))"));
    assert_eq!(rules.rule_ids().count(), XdsRules::shipped().rule_ids().count());
}

//! The shipped sets against the tables of the profile, and the shared files with one defect each.

use super::{Case, How, found};
use crate::identifier::Environment;
use crate::rules::RuleSets;
use std::collections::BTreeSet;

fn rows(name: &str) -> Option<Vec<Vec<String>>> {
    let table = crate::testing::profile_table(name)?;
    Some(table.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

#[test]
fn every_row_of_the_profile_is_shipped_as_it_stands_or_named_as_not_built() {
    let sets = RuleSets::shipped(Environment::Test);
    let set = sets.set("fi-2.4.1").expect("shipped");
    let rules = set.rules_for(None);
    let (mut compared, mut seen) = (0, BTreeSet::new());
    for group in 0..10 {
        let Some(rows) = rows(&format!("01_D{group}_1.tsv")) else { return };
        for row in rows {
            let [id, name, place, level, _, status, tags, comment, stow, _, _, remedy, source] = row.as_slice() else {
                panic!("row of {} columns", row.len())
            };
            seen.insert(id.clone());
            let Some(rule) = rules.rule(id) else {
                assert!(set.not_built.contains(id), "{id} is neither built nor named as not built");
                continue;
            };
            assert!(!set.not_built.contains(id), "{id} is built and named as not built");
            let scope = serde_json::to_value(rule.scope).expect("a word").as_str().map(str::to_owned).expect("a word");
            let ours = [
                rule.name.clone(),
                format!("{scope}·{:?}", rule.stage),
                rule.levels.to_string(),
                rule.status_text().to_owned(),
                rule.tags_text().to_owned(),
                rule.comment.clone(),
                rule.stow().map_or("–".to_owned(), |stow| stow.to_string()),
                rule.remedy.clone(),
                rule.source.clone(),
            ];
            let theirs = [name, place, level, status, tags, comment, stow, remedy, source].map(String::clone);
            assert_eq!(ours, theirs, "{id}");
            compared += 1;
        }
    }
    assert_eq!(compared, rules.iter().count(), "a shipped rule is in no table");
    assert!(set.not_built.is_subset(&seen));
}

#[test]
fn the_accepted_classes_are_those_of_the_profile() {
    let Some(rows) = rows("01_9_1.tsv") else { return };
    let rules = Case::new().rules();
    let classes = rules.sop_classes();
    let mut listed = BTreeSet::new();
    for row in rows.iter().filter(|row| !row[0].starts_with("off")) {
        let own = row[1].split('(').next().unwrap_or_default();
        let expanded = match own.trim() {
            "11.1–11.12" => (1..=12).map(|number| format!("11.{number}")).collect(),
            list => list.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        };
        for class in expanded {
            let uid = format!("1.2.840.10008.5.1.4.1.1.{class}");
            let entry = classes.class(&uid).unwrap_or_else(|| panic!("{class} of {} is not accepted", row[0]));
            assert_eq!(entry.family, row[0], "{class}");
            let registrable = match row[3].split(';').collect::<Vec<_>>().as_slice() {
                [all] => all.starts_with("yes"),
                [rest, exceptions] => rest.starts_with("yes") != exceptions.split_whitespace().any(|other| other == class),
                _ => panic!("registrable of {}", row[0]),
            };
            assert_eq!(entry.registrable, registrable, "{class}");
            listed.insert(uid);
        }
    }
    assert_eq!(listed, classes.iter().map(|(uid, _)| uid.to_owned()).collect());
}

/// Rule that each kind of defect of the shared files shows, beside others. Defects of a study (stage T) are not here.
const DEFECTS: &[(&str, &str)] = &[
    ("missing-patient-id", "D301"),
    ("empty-patient-id", "D301"),
    ("bad-hetu-check", "D307"),
    ("hetu-bad-date", "D306"),
    ("birth-date-mismatch", "D315"),
    ("sex-mismatch", "D317"),
    ("missing-accession", "D411"),
    ("accession-too-long", "D412"),
    ("missing-study-uid", "D202"),
    ("missing-series-uid", "D203"),
    ("uid-too-long", "D204"),
    ("uid-bad-char", "D205"),
    ("uid-path", "D205"),
    ("uid-leading-zero", "D207"),
    ("missing-modality", "D903"),
    ("missing-study-date", "D801"),
    ("bad-date", "D802"),
    ("future-date", "D805"),
    ("odd-length", "D114"),
    ("out-of-order", "D110"),
    ("repeated-element", "D111"),
    ("unknown-vr", "D112"),
    ("wrong-vr", "D113"),
    ("truncated-pixels", "D611"),
    ("short-pixels", "D604"),
    ("no-pixels", "D601"),
    ("rows-zero", "D603"),
    ("bits-mismatch", "D606"),
    ("deep-nesting", "D115"),
    ("unsupported-ts", "D122"),
    // Explicit VR read as Implicit VR: the VR is taken for a length.
    ("ts-mismatch", "D108"),
    ("jpeg-label-raw-pixels", "D620"),
    ("class-mismatch", "D901"),
    ("instance-mismatch", "D106"),
    ("private-class", "D833"),
    ("charset-utf8-as-latin1", "D505"),
    ("charset-latin1-as-utf8", "D503"),
    ("charset-missing", "D501"),
    ("charset-unknown", "D502"),
    ("pn-control-chars", "D320"),
    ("pn-too-long", "D319"),
    ("no-preamble", "D102"),
    ("bad-meta-length", "D104"),
    ("garbage-tail", "D116"),
    ("empty-file", "D101"),
];

#[test]
fn each_shared_file_with_a_defect_shows_its_rule() {
    let Some(files) = crate::testing::shared_dicom_files() else { return };
    for (defect, rule) in DEFECTS {
        let own: Vec<_> = files.iter().filter(|(path, _)| path.to_string_lossy().contains(&format!("defects/{defect}/"))).collect();
        assert!(!own.is_empty(), "no file for {defect}");
        let verdicts: Vec<_> = own
            .iter()
            .map(|(_, file)| {
                Case::new().by(How::Stow).with(|case| (case.file, case.received) = (Some(file.clone()), "2026-11-24T12:00:00Z")).judge()
            })
            .collect();
        let shown: Vec<_> = verdicts.iter().map(found).collect();
        assert!(shown.iter().any(|rules| rules.contains(rule)), "{defect}: {rule} not in {shown:?}");
    }
}

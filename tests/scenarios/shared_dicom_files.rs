//! All files of the shared folder's `dicom`, sent under two settings. `base` is strict. `foreign` gives objects without an issuer
//! one of the test environment, takes further SOP classes, lets objects without an order through, and holds no study for a
//! quarantined object of it.
//!
//! What is expected of each file, and why, stands in `shared_dicom_expectations.tsv`; what came out is written to
//! `target/idr-tests/shared-dicom-<setting>.tsv`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use idr_profile::digest::Digest;
use idr_tests::harness::{Plan, World, edit};
use idr_tests::modality::{Answer, Outgoing, export};
use idr_tests::poll;
use idr_tests::shared::{folder, results};
use toml::{Table, Value};

use crate::story;

const EXPECTATIONS: &str = include_str!("shared_dicom_expectations.tsv");

/// Issuer that the inbound row gives to objects without one: the hospital's temporary identifiers of a year (profile 06 §2.1).
const TEST_ISSUER: &str = "1.2.246.10.90000011.22.2026";

#[test]
fn under_the_strict_setting_every_file_is_answered_as_expected() {
    let Some(shared) = folder() else { return };
    story(async move { check(&shared.join("dicom"), Setting::Base).await });
}

#[test]
fn under_the_foreign_setting_at_least_eighty_files_reach_the_centre_unchanged() {
    let Some(shared) = folder() else { return };
    story(async move { check(&shared.join("dicom"), Setting::Foreign).await });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    Base,
    Foreign,
}

impl Setting {
    fn name(self) -> &'static str {
        if self == Self::Base { "base" } else { "foreign" }
    }

    fn plan(self) -> Plan {
        // One folder per setting would do; a world is simplest.
        let plan = Plan::default();
        if self == Self::Base {
            return plan;
        }
        let site = Arc::new(|table: &mut Table| {
            let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
            edit(row, [("patient_id_issuer", TEST_ISSUER.into())]);
        });
        let site_rules = Arc::new(|table: &mut Table| {
            edit(table, [("levels.D411", "WARN".into())]);
            edit(table, [("parameters.accept_retired", true.into())]);
            // The files are no whole studies: copies with the UIDs of others are quarantined (D732), and hold no others back.
            edit(table, [("parameters.hold_study_on_quarantine", false.into())]);
            let class = |(uid, family): (&str, &str)| {
                let mut row = Table::new();
                edit(&mut row, [("uid", uid.into()), ("family", family.into()), ("registrable", true.into())]);
                Value::Table(row)
            };
            edit(table, [("extra_classes", Value::Array(EXTRA_CLASSES.into_iter().map(class).collect()))]);
        });
        Plan { site, site_rules, ..plan }
    }
}

/// Classes of the folder that the rule set does not list: RT, and a label map.
const EXTRA_CLASSES: [(&str, &str); 7] = [
    ("1.2.840.10008.5.1.4.1.1.481.1", "IMG"),
    ("1.2.840.10008.5.1.4.1.1.481.2", "MF"),
    ("1.2.840.10008.5.1.4.1.1.481.3", "DER"),
    ("1.2.840.10008.5.1.4.1.1.481.5", "DER"),
    ("1.2.840.10008.5.1.4.1.1.481.8", "DER"),
    ("1.2.840.10008.5.1.4.1.1.66.7", "EMF"),
    ("1.2.840.10008.5.1.4.39.1", "DER"),
];

/// With `IDR_RECORD=1` the tests only write what came out, as the start of new expectations.
fn recording() -> bool {
    std::env::var_os("IDR_RECORD").is_some()
}

/// One line of the expectations.
struct Expectation {
    base: String,
    foreign: String,
    /// In the setting `foreign`, whether the bytes are then at the centre.
    at_central: AtCentral,
}

/// Where an accepted file ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtCentral {
    Yes,
    No,
    /// One of the files with the same SOP Instance UID.
    One,
    /// Depends on the order of sending.
    Some,
}

fn expectations() -> BTreeMap<&'static str, Expectation> {
    let lines = EXPECTATIONS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).skip(1);
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [file, base, foreign, central, _why] = columns[..] else { panic!("five columns: {line}") };
            let at_central = match central {
                "yes" => AtCentral::Yes,
                "no" => AtCentral::No,
                "one" => AtCentral::One,
                "some" => AtCentral::Some,
                other => panic!("{file}: at central is {other}"),
            };
            (file, Expectation { base: base.to_owned(), foreign: foreign.to_owned(), at_central })
        })
        .collect()
}

async fn check(folder: &Path, setting: Setting) -> anyhow::Result<()> {
    let files = files(folder)?;
    let world = World::start(setting.plan()).await?;
    let modality = world.site().modality();
    let mut table = BTreeMap::new();
    let mut sent: BTreeMap<String, Outgoing> = BTreeMap::new();
    // One association each, as from as many devices: what one file does to its association is no other file's matter.
    for name in &files {
        let exported = export(&std::fs::read(folder.join(name))?);
        // The defects of the generator are told in file meta; real files announce themselves.
        let object = if name.starts_with("defects/") { exported.announced_by_meta() } else { exported.object };
        let transfer = modality.send(&[object.clone()].into(), 1, |_| {}).await;
        let answer = match &transfer.answers[0] {
            Answer::Status(outcome) if outcome.status.is_done() => {
                sent.insert(name.clone(), object);
                format!("{:04X}", outcome.status.0)
            }
            Answer::Status(outcome) => format!("{:04X} {}", outcome.status.0, outcome.error_comment.split(' ').next().unwrap_or_default()),
            Answer::NotNegotiated(result) => format!("{result:?}"),
            Answer::Unanswered => format!("no answer: {:?}", transfer.failures),
        };
        table.insert(name.clone(), answer);
    }
    let echo = modality.echo().await;
    ensure!(echo.is_ok(), "the site does not answer any more: {echo:?}");

    let expected = expectations();
    let at_central = at_central(&world, &sent, &expected, setting).await?;
    let lines: Vec<String> = table.iter().map(|(name, answer)| format!("{name}\t{answer}\t{}", at_central.contains_key(name))).collect();
    std::fs::write(
        results()?.join(format!("shared-dicom-{}.tsv", setting.name())),
        format!("file\tanswer\tat central\n{}\n", lines.join("\n")),
    )?;

    if recording() {
        return world.stop().await;
    }
    let mut differences = Vec::new();
    for (name, answer) in &table {
        let Some(expectation) = expected.get(name.as_str()) else {
            differences.push(format!("{name}: {answer}, not in the expectations"));
            continue;
        };
        let wanted = if setting == Setting::Base { &expectation.base } else { &expectation.foreign };
        if wanted != answer {
            differences.push(format!("{name}: expected {wanted}, got {answer}"));
        }
    }
    if setting == Setting::Foreign {
        differences.extend(misplaced(&sent, &at_central, &expected));
    }
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    if setting == Setting::Foreign {
        ensure!(at_central.len() >= 80, "{} files at the centre", at_central.len());
    }
    world.stop().await
}

/// The acknowledged files whose bytes the centre holds, with their digest. Waits for those that are expected.
async fn at_central(
    world: &World,
    sent: &BTreeMap<String, Outgoing>,
    expected: &BTreeMap<&str, Expectation>,
    setting: Setting,
) -> anyhow::Result<BTreeMap<String, Digest>> {
    let held = || async {
        let digests = world.stored_digests().await?;
        let own = sent.iter().filter(|(_, object)| digests.get(&object.sop_instance) == Some(&object.digest()));
        anyhow::Ok(own.map(|(name, object)| (name.clone(), object.digest())).collect::<BTreeMap<_, _>>())
    };
    if recording() {
        // Nothing says that the last has come when it is not known which will: wait as long as anything could take.
        tokio::time::sleep(std::time::Duration::from_secs(45)).await;
    }
    let complete = |found: &BTreeMap<String, Digest>| setting == Setting::Base || misplaced(sent, found, expected).is_empty();
    let waited = poll::until("the accepted files are at the centre", poll::DEADLINE, || async {
        match held().await {
            Ok(found) if !complete(&found) => None,
            answer => Some(answer),
        }
    });
    // What is missing is named by the comparison with the expectations.
    match waited.await {
        Ok(found) => found,
        Err(_) => held().await,
    }
}

/// What is at the centre and should not be, or the other way round.
fn misplaced(sent: &BTreeMap<String, Outgoing>, found: &BTreeMap<String, Digest>, expected: &BTreeMap<&str, Expectation>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, object) in sent {
        let held = found.contains_key(name);
        let twin_held = || sent.iter().any(|(twin, other)| other.sop_instance == object.sop_instance && found.contains_key(twin));
        match expected.get(name.as_str()).map(|expectation| expectation.at_central) {
            Some(AtCentral::Yes) if !held => problems.push(format!("{name}: is not at the centre")),
            Some(AtCentral::No) if held => problems.push(format!("{name}: is at the centre")),
            Some(AtCentral::One) if !twin_held() => problems.push(format!("{name}: none of its SOP Instance UID is at the centre")),
            _ => {}
        }
    }
    problems
}

/// Names of all files, relative, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_none_or(|extension| extension != "tsv" && extension != "md") {
                names.push(path.strip_prefix(folder)?.to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

//! What operators look with: a bundle for helpers without a word of a patient, the doctor, and receipts of which no bit can be turned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, binary, edit};
use idr_tests::poll;
use idr_tests::story::{outgoing, send_all, study_registered};
use serde_json::Value;

use crate::story;

/// Runs a command; its exit status and what it printed.
fn command(world: &World, words: &[&str]) -> anyhow::Result<(i32, String)> {
    let program = &world.site().program;
    let output = std::process::Command::new(binary("idr-site")?).args(words).arg("--config").arg(program.config()).output()?;
    Ok((output.status.code().context("an exit status")?, String::from_utf8(output.stdout)?))
}

#[test]
fn a_support_bundle_has_nothing_of_a_patient_whatever_holds_it() {
    story(async {
        let (person, quarantined) = (Person::numbered(161), Person::numbered(162));
        let studies = [Recipe::small(Kind::Ct, person.clone(), 3, 161).make(), Recipe::small(Kind::Ct, quarantined.clone(), 2, 162).make()];
        // Also where it should never be: in the configuration, in names of rows, in the file of the rules.
        let (name, hetu) = (person.name.clone(), person.hetu.clone());
        let site = Arc::new(move |table: &mut toml::Table| {
            edit(table, [("site.organisation_name", name.clone().into()), ("centre.name", hetu.clone().into())]);
            let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
            edit(row, [("refuse_to_quarantine", true.into()), ("name", hetu.clone().into())]);
        });
        let mut world = World::start(Plan { site, ..Plan::default() }).await?;
        send_all(&world.site().modality(), &outgoing(&studies), 1).await?;
        for study in &studies {
            study_registered(&world.viewer()?, study).await?;
        }
        // Something that is damaged, something that is late, something whose reload was refused, and words of an operator.
        world.central.program.stop().await?;
        let late = Recipe::small(Kind::Ct, person.clone(), 1, 163).make();
        send_all(&world.site().modality(), &outgoing([&late]), 1).await?;
        let rules = world.site().program.state().with_file_name("site-rules.toml");
        let whole = std::fs::read_to_string(&rules)?;
        std::fs::write(&rules, format!("\"{}\" = \"{}\"\n", person.name, person.hetu))?;
        anyhow::ensure!(world.site().program.command(&["reload"]).is_err(), "a reload that is refused");
        std::fs::write(&rules, whole)?;

        let file = world.folder().join("bundle.json");
        let (status, printed) = command(&world, &["support-bundle", file.to_str().context("a path")?])?;
        anyhow::ensure!(status == 0, "{printed}");
        let bundle = std::fs::read_to_string(&file)?;
        anyhow::ensure!(bundle.len() < 1 << 20, "{} bytes", bundle.len());
        let told: Value = serde_json::from_str(&bundle)?;
        anyhow::ensure!(told["status"]["states"].as_array().is_some_and(|rows| !rows.is_empty()), "{bundle}");
        anyhow::ensure!(told["state"]["objects"]["files"] == 6 && told["doctor"]["checks"]["configuration"].is_string(), "{bundle}");

        let mut seeds: BTreeSet<String> = BTreeSet::new();
        for study in studies.iter().chain([&late]) {
            seeds.extend([study.uid.clone(), study.accession.clone(), study.person.hetu.clone(), study.person.birth_date.clone()]);
            seeds.extend(study.person.name.split('^').map(str::to_owned));
            seeds.extend(study.instances.iter().map(|instance| instance.sop_instance.clone()));
        }
        let lower = bundle.to_lowercase();
        for seed in &seeds {
            anyhow::ensure!(!lower.contains(&seed.to_lowercase()), "the bundle has '{seed}':\n{bundle}");
        }
        anyhow::ensure!(command(&world, &["support-bundle", file.to_str().context("a path")?])?.0 == 1, "a file was written over");
        world.site_mut().program.stop().await
    });
}

#[test]
fn the_doctor_says_what_is_in_order_and_what_is_not_by_its_exit_status_too() {
    story(async {
        let mut world = World::start(Plan::default()).await?;
        let look = |world: &World| -> anyhow::Result<(i32, Value)> {
            let (status, printed) = command(world, &["doctor", "--json"])?;
            Ok((status, serde_json::from_str(&printed)?))
        };
        let level = |found: &Value, name: &str| {
            let checks = found["checks"].as_array().into_iter().flatten();
            checks.filter(|check| check["name"] == name).map(|check| check["level"].as_str().unwrap_or_default().to_owned()).next_back()
        };
        let (status, found) = look(&world)?;
        for name in ["configuration", "centre", "centre certificate", "clock", "appliance", "queue", "index and objects"] {
            anyhow::ensure!(level(&found, name).as_deref() == Some("ok"), "{name}: {found:#}");
        }
        anyhow::ensure!(level(&found, "backup").as_deref() == Some("degraded") && status == 3, "{status}: {found:#}");
        anyhow::ensure!(command(&world, &["echo", "centre"])?.0 == 0 && command(&world, &["echo", "nobody"])?.0 == 1);
        let backup = world.folder().join("backup");
        anyhow::ensure!(command(&world, &["backup", "create", backup.to_str().context("a path")?])?.0 == 0);
        let (_, found) = look(&world)?;
        anyhow::ensure!(level(&found, "backup").as_deref() == Some("ok"), "{found:#}");

        world.central.program.stop().await?;
        let (status, found) = look(&world)?;
        anyhow::ensure!(level(&found, "centre").as_deref() == Some("problem") && status == 1, "{status}: {found:#}");
        world.site_mut().program.stop().await?;
        let (_, found) = look(&world)?;
        anyhow::ensure!(level(&found, "appliance").as_deref() == Some("degraded"), "{found:#}");
        anyhow::ensure!(level(&found, "index and objects").as_deref() == Some("passed_over"), "{found:#}");
        Ok(())
    });
}

/// Turns a bit of a file, has it looked at, and turns it back.
fn turned(path: &Path, at: usize, look: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let whole = std::fs::read(path)?;
    let mut bytes = whole.clone();
    bytes[at] ^= 1 << (at % 8);
    std::fs::write(path, bytes)?;
    let found = look()?;
    std::fs::write(path, whole)?;
    anyhow::ensure!(found, "bit {} of byte {at} of {} was turned, and nobody says so", at % 8, path.display());
    Ok(())
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

#[test]
fn one_turned_bit_anywhere_of_the_receipt_log_or_of_an_object_is_found() {
    story(async {
        let mut world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(165), 2, 165).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        study_registered(&world.viewer()?, &study).await?;
        let all_here = || {
            let receipts = world.site().program.command(&["receipt", "show", &study.uid]);
            receipts.is_ok_and(|receipts| receipts.lines().count() == 7)
        };
        poll::holds("the R4 is here", poll::DEADLINE, all_here).await?;
        world.site_mut().program.stop().await?;

        let state = world.site().program.state().to_owned();
        let (mut logs, mut objects) = (Vec::new(), Vec::new());
        files(&state.join("receipts"), &mut logs)?;
        files(&state.join("objects"), &mut objects)?;
        let [log] = &logs[..] else { anyhow::bail!("one segment: {logs:?}") };
        let name = log.to_str().context("a path")?;
        anyhow::ensure!(command(&world, &["receipt", "verify", name])?.0 == 0 && command(&world, &["fsck", "--deep"])?.0 == 0);
        // Every place is too many for processes; these fall on every part of the lines, and the last bytes of the log.
        let length = std::fs::metadata(log)?.len() as usize;
        for at in (0..length - 1).step_by(97).chain([length - 2]) {
            turned(log, at, || Ok(command(&world, &["receipt", "verify", name])?.0 == 1))?;
        }
        let object = objects.first().context("an object")?;
        let length = std::fs::metadata(object)?.len() as usize;
        for at in (0..length).step_by(length / 24) {
            turned(object, at, || Ok(command(&world, &["fsck", "--deep"])?.0 == 1))?;
        }
        anyhow::ensure!(command(&world, &["fsck", "--deep"])?.0 == 0, "and all is as it was");
        Ok(())
    });
}

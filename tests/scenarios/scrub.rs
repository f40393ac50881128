//! A byte of an accepted image changes on the disk: the scrub finds it, says so everywhere, and removes nothing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, Program, World, edit};
use idr_tests::poll;
use idr_tests::story::{outgoing, send_all};
use serde_json::Value;

use crate::story;

#[test]
fn damage_at_rest_is_found_reported_over_a_restart_and_cleared_by_a_restored_file() {
    story(async {
        // By command alone, and nobody to take the objects away.
        let site = std::sync::Arc::new(|table: &mut toml::Table| {
            table.remove("centre");
            table.remove("assertion");
            edit(table, [("scrub.interval_days", 0.into())]);
        });
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(94), 4, 1).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        let state = pass(&world.site().program).await?;
        anyhow::ensure!((&state["objects"], &state["damaged_objects"]) == (&4.into(), &0.into()), "{state}");

        let files = object_files(&world.site().program.state().join("objects"))?;
        let victim = &files[2];
        let whole = std::fs::read(victim)?;
        let mut bytes = whole.clone();
        *bytes.last_mut().context("a file with bytes")? ^= 1;
        std::fs::write(victim, &bytes)?;
        let state = pass(&world.site().program).await?;
        let name = victim.file_stem().context("a name")?.to_string_lossy().into_owned();
        anyhow::ensure!(state["damaged_objects"] == 1 && state["damaged"][0]["object"] == *name, "{name}: {state}");
        anyhow::ensure!(state["objects"] == 4, "the others were read all the same: {state}");
        anyhow::ensure!(std::fs::read(victim)? == bytes, "the file stays as it is");
        anyhow::ensure!(world.site().program.printed().contains(&name), "an alarm in the log names it");
        anyhow::ensure!(status(&world.site().program)?["damaged_objects"] == 1, "status knows");

        world.site_mut().program.stop().await?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(show(&world.site().program)?["damaged"][0]["object"] == *name, "known over a restart");
        std::fs::write(victim, &whole)?;
        let state = pass(&world.site().program).await?;
        anyhow::ensure!(state["damaged_objects"] == 0, "a restored file is whole: {state}");
        world.site_mut().program.stop().await?;
        world.site().program.command(&["fsck", "--deep"]).map(drop)
    });
}

/// Asks for a pass and waits for its end.
async fn pass(program: &Program) -> anyhow::Result<Value> {
    ask(program, &["scrub", "--now", "--json"])?;
    poll::until("the pass ends", poll::DEADLINE, || {
        let state = show(program).ok().filter(|state| state["running"] == false);
        async move { state }
    })
    .await
}

fn show(program: &Program) -> anyhow::Result<Value> {
    ask(program, &["scrub", "--json"])
}

fn status(program: &Program) -> anyhow::Result<Value> {
    ask(program, &["status", "--json"])
}

/// The exit status is 1 as long as anything is damaged: the answer counts.
fn ask(program: &Program, words: &[&str]) -> anyhow::Result<Value> {
    let output =
        std::process::Command::new(idr_tests::harness::binary("idr-site")?).args(words).arg("--config").arg(program.config()).output()?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    if words[0] == "scrub" {
        anyhow::ensure!(output.status.success() == (answer["damaged_objects"] == 0), "the exit status says what was found");
    }
    Ok(answer)
}

fn object_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(object_files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

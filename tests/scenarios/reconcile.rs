//! An object is lost at the centre: reconciliation finds it and sends it again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::story;

/// What the site found, by its own file.
fn report(world: &World) -> anyhow::Result<Value> {
    let path = world.site().program.state().join("reconcile.json");
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

/// Asks the centre and waits for the end of the run.
async fn run(world: &World) -> anyhow::Result<Value> {
    let before = report(world).map_or(Value::Null, |report| report["begun"].clone());
    world.site().program.command(&["reconcile", "run"])?;
    let ended = |report: &Value| report["begun"] != before && report["running"] == false;
    poll::until("the end of the run", poll::DEADLINE, || async { report(world).ok().filter(ended) }).await
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// Removes an instance from the centre's index and its bytes from the disk, with the centre stopped.
async fn lose(world: &mut World, sop_instance: &str) -> anyhow::Result<()> {
    world.central.program.stop().await?;
    let options = SqliteConnectOptions::new().filename(world.central.program.state().join("central.db")).foreign_keys(false);
    let mut database = SqliteConnection::connect_with(&options).await?;
    let (key,): (String,) =
        sqlx::query_as("SELECT object_key FROM instances WHERE sop_instance_uid = ?").bind(sop_instance).fetch_one(&mut database).await?;
    sqlx::query("DELETE FROM instances WHERE sop_instance_uid = ?").bind(sop_instance).execute(&mut database).await?;
    database.close().await?;
    let mut objects = Vec::new();
    files(&world.central.program.state().join("objects"), &mut objects)?;
    let name = key.rsplit('/').next().context("a name")?;
    let lost = objects.iter().find(|path| path.to_string_lossy().contains(name)).with_context(|| format!("no file of {key}"))?;
    std::fs::remove_file(lost)?;
    world.central.program.start().await.map(drop)
}

fn study(seed: u32) -> Study {
    Recipe::small(Kind::Ct, Person::numbered(seed), 5, seed).make()
}

/// Objects of the site in a state.
fn in_state(world: &World, state: &str) -> anyhow::Result<u64> {
    let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
    let rows = status["states"].as_array().into_iter().flatten();
    Ok(rows.filter(|row| row["state"] == state).filter_map(|row| row["objects"].as_u64()).sum())
}

#[test]
fn an_object_that_the_centre_lost_is_found_and_sent_again() {
    story(async {
        let mut world = World::start(Plan::default()).await?;
        let (first, second) = (study(141), study(142));
        send_all(&world.site().modality(), &outgoing([&first, &second]), 2).await?;
        let viewer = world.viewer()?;
        for study in [&first, &second] {
            study_registered(&viewer, study).await?;
        }
        poll::holds("all are registered", poll::DEADLINE, || in_state(&world, "registered").is_ok_and(|objects| objects == 10)).await?;
        let whole = run(&world).await?;
        anyhow::ensure!(whole["failed"].is_null() && whole["found"]["studies"] == 2 && whole["found"]["equal"] == 2, "{whole}");
        anyhow::ensure!(whole["found"]["instances"] == 10 && whole["found"]["missing"] == 0, "{whole}");
        world.site().program.command(&["reconcile", "report", "--json"])?;

        let lost = &first.instances[2].sop_instance;
        lose(&mut world, lost).await?;
        anyhow::ensure!(!world.stored_digests().await?.contains_key(lost));
        let found = run(&world).await?;
        anyhow::ensure!(found["failed"].is_null() && found["found"]["equal"] == 1, "{found}");
        anyhow::ensure!(found["found"]["missing"] == 1 && found["found"]["queued"] == 1 && found["found"]["extra"] == 0, "{found}");
        let [difference] = &found["found"]["differences"].as_array().context("a list")?[..] else { anyhow::bail!("{found}") };
        anyhow::ensure!(difference["sop_instance_uid"] == lost.as_str() && difference["what"] == "missing", "{found}");

        poll::holds("it is registered again", poll::DEADLINE, || in_state(&world, "registered").is_ok_and(|objects| objects == 10)).await?;
        world.check_stored_once([&first, &second]).await?;
        let registered = study_registered(&viewer, &first).await?;
        fetch_and_compare(&viewer, &first, &registered).await?;
        let mended = run(&world).await?;
        anyhow::ensure!(mended["failed"].is_null() && mended["found"]["equal"] == 2 && mended["found"]["missing"] == 0, "{mended}");
        // Each run has kept what the centre signed.
        let mut kept = Vec::new();
        files(&world.site().program.state().join("reconcile"), &mut kept)?;
        anyhow::ensure!(!kept.is_empty() && kept.len() <= 3, "{kept:?}");
        world.stop_and_check().await
    });
}

#[test]
fn without_repair_a_lost_object_is_an_alarm_until_it_is_back() {
    story(async {
        let site = |table: &mut toml::Table| edit(table, [("reconcile.auto", false.into())]);
        let mut world = World::start(Plan { site: Arc::new(site), ..Plan::default() }).await?;
        let study = study(143);
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        study_registered(&world.viewer()?, &study).await?;
        poll::holds("all are registered", poll::DEADLINE, || in_state(&world, "registered").is_ok_and(|objects| objects == 5)).await?;
        lose(&mut world, &study.instances[0].sop_instance).await?;
        for _ in 0..2 {
            let found = run(&world).await?;
            anyhow::ensure!(found["found"]["missing"] == 1 && found["found"]["queued"] == 0, "{found}");
        }
        anyhow::ensure!(world.site().program.command(&["reconcile", "report"]).is_err(), "the exit status says that something is missing");
        let metrics = reqwest::get(format!("http://{}/metrics", world.site().program.health()?)).await?.text().await?;
        anyhow::ensure!(metrics.lines().any(|line| line == "idr_reconcile_missing_objects 1"), "{metrics}");

        world.site().program.command(&["reconcile", "acknowledge", &study.uid, "--reason", "the centre restores it"])?;
        world.site().program.command(&["reconcile", "report"]).context("what was looked into is no alarm")?;
        let metrics = reqwest::get(format!("http://{}/metrics", world.site().program.health()?)).await?.text().await?;
        anyhow::ensure!(metrics.lines().any(|line| line == "idr_reconcile_missing_objects 0"), "{metrics}");

        // A centre that is away: the run says so, and what was known stays.
        world.central.program.stop().await?;
        let failed = run(&world).await?;
        anyhow::ensure!(failed["failed"].is_string() && !failed["finished"].is_null() && failed["found"]["missing"] == 1, "{failed}");

        // What an operator has sent again is there, and the second time there is nothing to send.
        world.central.program.start().await?;
        let replayed = world.site().program.command(&["replay", "--study", &study.uid, "--json"])?;
        let replayed: Value = serde_json::from_str(&replayed)?;
        anyhow::ensure!(replayed["found"]["missing"] == 1 && replayed["found"]["queued"] == 1, "{replayed}");
        poll::holds("all are registered", poll::DEADLINE, || in_state(&world, "registered").is_ok_and(|objects| objects == 5)).await?;
        let again: Value = serde_json::from_str(&world.site().program.command(&["replay", "--since", "1d", "--json"])?)?;
        anyhow::ensure!(again["found"]["equal"] == 1 && again["found"]["queued"] == 0, "{again}");
        world.check_stored_once([&study]).await?;

        // Described anew: one Approved entry, another document than before.
        let viewer = world.viewer()?;
        let before = study_registered(&viewer, &study).await?;
        world.site().program.command(&["replay", "--study", &study.uid, "--republish"])?;
        poll::until("a new revision", poll::DEADLINE, || async {
            let now = study_registered(&viewer, &study).await.ok()?;
            (now.entry.unique_id != before.entry.unique_id).then_some(())
        })
        .await?;
        world.stop_and_check().await
    });
}

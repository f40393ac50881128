//! A site is backed up while it works, lost with all that came later, and restored: it goes on without a double or a lost object.

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World};
use idr_tests::poll;
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};
use serde_json::Value;

use crate::story;

fn study(seed: u32) -> Study {
    Recipe::small(Kind::Ct, Person::numbered(seed), 4, seed).make()
}

/// Objects of the site that are not registered.
fn on_their_way(world: &World) -> anyhow::Result<u64> {
    let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
    let rows = status["states"].as_array().into_iter().flatten();
    Ok(rows.filter(|row| row["state"] != "registered").filter_map(|row| row["objects"].as_u64()).sum())
}

async fn all_registered(world: &World, when: &str) -> anyhow::Result<()> {
    let waiting = poll::holds("all are registered", poll::DEADLINE, || on_their_way(world).is_ok_and(|objects| objects == 0)).await;
    waiting.with_context(|| {
        let said = |words: &[&str]| world.site().program.command(words).unwrap_or_else(|error| format!("{error:#}"));
        format!("{when}: {}{}", said(&["status"]), said(&["queue", "list"]))
    })
}

/// All objects of a study are registered, by the site's own state.
async fn registered_here(world: &World, study: &Study) -> anyhow::Result<()> {
    let shown = || {
        let shown = world.site().program.command(&["study", "show", &study.uid, "--json"]).ok()?;
        serde_json::from_str::<Value>(&shown).ok()
    };
    let all = || shown().is_some_and(|shown| shown["states"]["registered"]["objects"] == study.instances.len());
    poll::holds("a study is registered", poll::DEADLINE, all).await.with_context(|| format!("{:?}", shown()))
}

#[test]
fn a_site_restored_to_an_older_state_goes_on_with_the_centre_as_it_is_now() {
    story(async {
        let mut world = World::start(Plan::default()).await?;
        let (registered, queued, meanwhile, later) = (study(151), study(152), study(153), study(154));
        send_all(&world.site().modality(), &outgoing([&registered]), 1).await?;
        all_registered(&world, "before the backup").await?;
        world.central.program.stop().await?;
        send_all(&world.site().modality(), &outgoing([&queued]), 1).await?;

        // While objects come in.
        let (modality, objects) = (world.site().modality(), outgoing([&meanwhile]));
        let sending = tokio::spawn(async move { send_all(&modality, &objects, 2).await });
        let backup = world.folder().join("backup");
        let to = backup.to_str().context("a path")?;
        let made: Value = serde_json::from_str(&world.site().program.command(&["backup", "create", to, "--json"])?)?;
        sending.await??;
        world.site().program.command(&["backup", "verify", to])?;
        anyhow::ensure!(made["files"].as_u64().is_some_and(|files| files > 8), "{made}");
        anyhow::ensure!(
            !std::process::Command::new("grep").args(["-rlq", "PRIVATE KEY", to]).status()?.success(),
            "a key is in the backup"
        );
        anyhow::ensure!(!backup.join("state/keys").exists(), "the receipt key is in the backup");

        // The centre comes to hold more than the backup knows of; then the site is lost.
        world.central.program.start().await?;
        all_registered(&world, "when the centre is back").await?;
        send_all(&world.site().modality(), &outgoing([&later]), 1).await?;
        all_registered(&world, "before the site is lost").await?;
        let viewer = world.viewer()?;
        let before = study_registered(&viewer, &queued).await?;
        world.site_mut().program.kill().await?;
        anyhow::ensure!(world.site().program.command(&["backup", "restore", to]).is_err(), "over what is there");
        let state = world.site().program.state().to_owned();
        let lost = state.with_file_name("lost");
        std::fs::rename(&state, &lost)?;
        anyhow::ensure!(world.site().program.command(&["backup", "restore", to]).is_err(), "without its receipt key");
        std::fs::create_dir_all(&state)?;
        std::fs::rename(lost.join("keys"), state.join("keys"))?;
        let restored = world.site().program.command(&["backup", "restore", to])?;
        anyhow::ensure!(restored.trim_end().ends_with("0 faults"), "{restored}");

        // It sends what its state says, and the centre has each once, under the manifest that it has.
        world.site_mut().program.start().await?;
        for study in [&registered, &queued] {
            registered_here(&world, study).await?;
        }
        let after = study_registered(&viewer, &queued).await?;
        anyhow::ensure!(after.entry.unique_id == before.entry.unique_id, "the same manifest was made again");

        // What came behind the backup is at the centre. When it comes again the centre takes it as it is, and nothing takes the place of
        // its manifest; whatever part of the one that came in meanwhile is in the backup, no manifest of less takes the place of its.
        let new = study(155);
        send_all(&world.site().modality(), &outgoing([&later, &new]), 1).await?;
        registered_here(&world, &new).await?;
        world.check_stored_once([&registered, &queued, &meanwhile, &later, &new]).await?;
        for study in [&registered, &queued, &meanwhile, &later, &new] {
            let found = study_registered(&viewer, study).await?;
            fetch_and_compare(&viewer, study, &found).await?;
        }
        let log: Vec<String> = std::fs::read_dir(state.join("receipts"))?
            .map(|entry| Ok(entry?.path().to_string_lossy().into_owned()))
            .collect::<anyhow::Result<_>>()?;
        let mut words = vec!["receipt", "verify", "--log"];
        words.extend(log.iter().map(String::as_str));
        world.site().program.command(&words)?;
        world.stop_and_check().await
    });
}

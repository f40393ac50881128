//! The queue to the centre, and what an operator can do about it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, binary, edit};
use idr_tests::modality::Modality;
use idr_tests::poll;
use idr_tests::story::{outgoing, send_all, study_registered};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::story;

/// What a command prints as JSON.
fn json(world: &World, words: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&world.site().program.command(words)?)?)
}

/// Objects in these states.
fn objects(world: &World, states: &[&str]) -> anyhow::Result<u64> {
    let status = json(world, &["status", "--json"])?;
    let rows = status["states"].as_array().context("states")?.clone();
    let of = |row: &&Value| states.iter().any(|state| row["state"] == *state);
    Ok(rows.iter().filter(of).filter_map(|row| row["objects"].as_u64()).sum())
}

/// When the manifest of a study was registered.
fn published(world: &World, study: &Study) -> anyhow::Result<jiff::Timestamp> {
    let shown = json(world, &["study", "show", &study.uid, "--json"])?;
    let note = shown["notes"]["published"].as_str().context("a manifest")?.to_owned();
    Ok(note.split(' ').nth(2).context("an instant")?.parse()?)
}

#[test]
fn an_urgent_study_is_registered_before_all_that_waited_before_it() {
    story(async {
        let site = Arc::new(|table: &mut toml::Table| {
            let rows = table["inbound"].as_array_mut().expect("rows");
            let mut row = rows[0].as_table().expect("a row").clone();
            edit(&mut row, [("name", "trauma".into()), ("ae_title", "TRAUMA".into()), ("priority", "urgent".into())]);
            rows.push(row.into());
            // Requests one after the other: else normal ones are under way beside the first urgent ones.
            edit(table, [("centre.parallel_max", 1.into())]);
        });
        let mut world = World::prepare(Plan { site, ..Plan::default() })?;
        world.site_mut().program.start().await?;
        let normal: Vec<Study> = (0..20).map(|n| Recipe::small(Kind::Ct, Person::numbered(201 + n), 10, n + 1).make()).collect();
        send_all(&world.site().modality(), &outgoing(&normal), 2).await?;
        let queued = |world: &World, all: u64| objects(world, &["queued", "sending"]).is_ok_and(|objects| objects == all);
        poll::holds("all wait for the centre", poll::DEADLINE, || queued(&world, 200)).await?;
        let urgent = Recipe::small(Kind::Dx, Person::numbered(251), 3, 51).make();
        let trauma = Modality { calling: "TRAUMA".to_owned(), ..world.site().modality() };
        send_all(&trauma, &outgoing([&urgent]), 1).await?;
        poll::holds("the urgent study too", poll::DEADLINE, || queued(&world, 203)).await?;
        // And one of those that wait, because somebody asks for it.
        let asked_for = &normal[19];
        let words = ["queue", "priority", &asked_for.uid, "urgent", "--reason", "the ward asks for it", "--json"];
        anyhow::ensure!(json(&world, &words)?["objects"] == 10);
        let listed = json(&world, &["queue", "list", "--json"])?;
        let groups = listed["groups"].as_array().context("groups")?;
        anyhow::ensure!(groups.iter().filter_map(|row| row["urgent"].as_u64()).sum::<u64>() == 13, "{listed}");
        let refused = world.site().program.command(&["queue", "priority", "1.2.3", "urgent", "--reason", "x"]);
        anyhow::ensure!(refused.is_err(), "there is no such study");

        // None of it is forgotten by a kill, nor with the index.
        world.site_mut().program.kill().await?;
        std::fs::remove_dir_all(world.site().program.state().join("index"))?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let viewer = world.viewer()?;
        for study in normal.iter().chain([&urgent]) {
            study_registered(&viewer, study).await?;
        }
        poll::holds("the site knows it", poll::DEADLINE, || objects(&world, &["registered"]).is_ok_and(|all| all == 203)).await?;
        let last = [&urgent, asked_for].into_iter().map(|study| published(&world, study)).collect::<Result<Vec<_>, _>>()?;
        let last = last.into_iter().max().context("two")?;
        let others = normal[..19].iter().map(|study| published(&world, study)).collect::<Result<Vec<_>, _>>()?;
        let before = others.iter().filter(|at| **at < last).count();
        // One that was under way when the site was killed may come between.
        anyhow::ensure!(before <= 2, "{before} normal studies were registered before the urgent ones: {others:?}, {last}");
        world.check_stored_once(normal.iter().chain([&urgent])).await?;
        world.stop_and_check().await
    });
}

#[test]
fn a_study_is_held_until_it_is_released_and_one_that_is_cancelled_stays_here_whole() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.site_mut().program.start().await?;
        let studies: Vec<Study> = (0..3).map(|n| Recipe::small(Kind::Ct, Person::numbered(261 + n), 3, 61 + n).make()).collect();
        send_all(&world.site().modality(), &outgoing(&studies), 1).await?;
        let [held, cancelled, sent] = &studies[..] else { anyhow::bail!("three") };
        poll::holds("all wait for the centre", poll::DEADLINE, || objects(&world, &["queued", "sending"]).is_ok_and(|all| all == 9))
            .await?;
        let reason = ["--reason", "asked by the ward", "--json"];
        let hold = json(&world, &[&["queue", "hold", &held.uid], &reason[..]].concat())?;
        anyhow::ensure!(hold["decided"] == 3 && hold["refused"].as_object().is_some_and(serde_json::Map::is_empty), "{hold}");
        // An attempt may be under way, to a centre that is not there: the same again until it is not.
        poll::holds("all of it is cancelled", poll::DEADLINE, || {
            let words = [&["queue", "cancel", &cancelled.uid], &reason[..]].concat();
            world.site().program.command(&words).is_ok()
        })
        .await?;
        for (words, what) in [
            (["queue", "hold", "1.2.3", "--reason", "x"], "there is no such study"),
            (["queue", "cancel", &held.uid, "--reason", " "], "no reason"),
        ] {
            anyhow::ensure!(world.site().program.command(&words).is_err(), "{what}");
        }
        world.site_mut().program.kill().await?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let viewer = world.viewer()?;
        study_registered(&viewer, sent).await?;
        let shown = json(&world, &["queue", "show", &cancelled.uid, "--json"])?;
        let decision = &shown["objects"][0]["decision"];
        anyhow::ensure!(decision["verb"] == "cancel" && decision["reason"] == "asked by the ward" && decision["user"].is_u64(), "{shown}");
        anyhow::ensure!(objects(&world, &["held"])? == 3 && objects(&world, &["rejected"])? == 3);
        let text = world.site().program.command(&["queue", "show", &held.uid])?;
        anyhow::ensure!(text.contains("an operator holds it: ") && text.contains("asked by the ward"), "{text}");
        world.check_stored_once([sent]).await?;
        world.site().program.command(&["queue", "release", &held.uid])?;
        study_registered(&viewer, held).await?;
        // What the centre has is not cancelled any more, and the exit status says so.
        anyhow::ensure!(world.site().program.command(&["queue", "cancel", &sent.uid, "--reason", "too late"]).is_err());
        world.check_stored_once([sent, held]).await?;
        // Of what was cancelled too: every object with its digest.
        world.stop_and_check().await
    });
}

/// A command that goes on, and what it prints.
fn watching(world: &World, words: &[&str]) -> anyhow::Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut command = Command::new(binary("idr-site")?);
    command.args(words).arg("--config").arg(world.site().program.config()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let printed = BufReader::new(child.stdout.take().context("its output")?);
    Ok((child, printed))
}

#[test]
fn what_is_watched_is_shown_until_somebody_ends_it_and_that_is_no_fault() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.site_mut().program.start().await?;
        for (words, ended_by) in [
            (&["status", "--json", "--watch", "1"][..], Some(Signal::INT)),
            (&["queue", "list", "--watch=1", "--json"], Some(Signal::TERM)),
            // Its reader goes away.
            (&["status", "--watch", "1"], None),
        ] {
            let (mut child, mut printed) = watching(&world, words)?;
            for _ in 0..2 {
                let mut line = String::new();
                printed.read_line(&mut line)?;
                anyhow::ensure!(line.ends_with('\n'), "{words:?}: {line}");
                if words.contains(&"--json") {
                    let document: Value = serde_json::from_str(&line)?;
                    anyhow::ensure!(document["states"].is_array() || document["groups"].is_array(), "{words:?}: {line}");
                }
            }
            match ended_by {
                Some(signal) => kill_process(Pid::from_child(&child), signal)?,
                None => drop(printed),
            }
            let ended = poll::until("it ends", poll::DEADLINE, || {
                let ended = child.try_wait().ok().flatten();
                async move { ended }
            });
            let status = ended.await?;
            anyhow::ensure!(status.code() == Some(0), "{words:?}: {status}");
        }
        // An appliance that does not answer any more is a fault.
        let (mut child, mut printed) = watching(&world, &["status", "--json", "--watch", "1"])?;
        printed.read_line(&mut String::new())?;
        world.site_mut().program.stop().await?;
        let ended = poll::until("it ends", poll::DEADLINE, || {
            let ended = child.try_wait().ok().flatten();
            async move { ended }
        });
        let status = ended.await?;
        anyhow::ensure!(status.code() == Some(1), "{status}");
        Ok(())
    });
}

//! ADT messages over MLLP: images follow a merge, doors and bounds hold, and what was acknowledged is there after a kill.

use std::path::Path;

use anyhow::{Context as _, ensure};
use idr_ihe::hl7::mllp::frame;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, ORGANISATION, Recipe};
use idr_tests::harness::{Listening, Plan, World, edit};
use idr_tests::mllp::Sender;
use idr_tests::story::{fetch_and_compare, outgoing, patient_id, send_all, study_registered};
use serde_json::Value;
use toml::Table;

use crate::story;

const SOURCES: &str = r#"
[[receiver]]
application = "IDR"
facility = "CENTRAL"
[[source]]
application = "HIS"
facility = "A-SAIRAALA"
organisation = "1.2.246.10.90000011"
roots = ["1.2.246.21", "1.2.246.10.90000011"]
may_merge = true
may_change_hetu = true
"#;

/// A world whose centre takes ADT messages: over TLS from the hospital's PACS certificate, and plain on loopback.
pub fn world() -> anyhow::Result<World> {
    let central = Box::new(|table: &mut Table| {
        let any = || toml::Value::from(vec!["127.0.0.1:0".to_owned()]);
        edit(table, [("mllp.listen", any()), ("mllp.plain_listen", any())]);
        for row in table["peer"].as_array_mut().into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            if row["name"].as_str() == Some("hospital-pacs") {
                row["transactions"].as_array_mut().expect("a list").push("ADT".into());
            }
        }
    });
    let world = World::prepare(Plan { central, ..Plan::default() })?;
    let folder = world.central.program.config().parent().unwrap_or(Path::new(".")).to_owned();
    std::fs::write(folder.join("hl7-sources.toml"), SOURCES)?;
    Ok(world)
}

fn told(event: &str, id: &str, segments: &[String]) -> String {
    let head = format!("MSH|^~\\&|HIS|A-SAIRAALA|IDR|CENTRAL|20260120104000||ADT^{event}|{id}|T|2.5.1\rEVN||20260120103000");
    segments.iter().fold(head, |text, segment| format!("{text}\r{segment}"))
}

fn pid(cx: &str) -> String {
    format!("PID|1||{cx}||TESTINEN^TAINA")
}

fn temporary(n: usize) -> String {
    format!("150125-9{n:03}^^^&{ORGANISATION}.22.2025&ISO")
}

fn merge(id: &str, old: &str, survivor: &str) -> String {
    told("A40", id, &[pid(survivor), format!("MRG|{old}")])
}

fn shown(world: &World, patient: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&world.central.program.command(&["patient", "show", "--json", "--patient", patient])?)?)
}

/// Stops the centre, which ran alone, and has it check what it keeps.
async fn end(mut world: World) -> anyhow::Result<()> {
    world.central.program.stop().await?;
    for words in [&["fsck"][..], &["receipt", "verify", "--log"], &["audit", "verify", "--decisions"]] {
        world.central.program.command(words)?;
    }
    ensure!(!world.central.program.printed().contains("panicked at"), "{}", world.central.program.tail());
    Ok(())
}

async fn start(world: &mut World) -> anyhow::Result<Listening> {
    let listening = world.central.program.start().await?;
    for site in &mut world.sites {
        site.program.start().await?;
    }
    Ok(listening)
}

#[test]
fn images_follow_a_merge_and_go_back_when_it_is_taken_back() {
    story(async {
        let mut world = world()?;
        let listening = start(&mut world).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(241), 2, 1).make();
        let (old, new) = (patient_id(&study.person), patient_id(&Person::numbered(242)));
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let registered = study_registered(&world.viewer()?, &study).await?;
        let found = async |patient| anyhow::Ok(world.viewer()?.find_documents(patient).await?.entries.len());
        ensure!((found(&old).await?, found(&new).await?) == (1, 0));

        let mut feed = Sender::connect(listening.mllp[0], Some(world.tls(&world.pacs)?)).await?;
        ensure!(feed.tell(&told("A28", "1", &[pid(&new.to_cx())])).await? == "AA");
        let message = merge("2", &old.to_cx(), &new.to_cx());
        ensure!(feed.tell(&message).await? == "AA");
        ensure!(feed.tell(&message).await? == "AA", "the same message again");
        for id in [&old, &new] {
            ensure!(found(id).await? == 1, "found by both ids");
        }
        fetch_and_compare(&world.viewer()?, &study, &registered).await?;

        let state = shown(&world, &old.to_cx())?;
        ensure!(state["patient"] == new.to_cx() && state["merges"].as_array().is_some_and(|merges| merges.len() == 1), "{state}");
        ensure!(state["reviews"].as_array().is_some_and(|reviews| !reviews.is_empty()), "a hetu was replaced: {state}");
        // The rules ask for two persons; one of them cannot be both.
        let id = state["merges"][0]["id"].as_str().context("an id")?;
        let split = ["patient", "split", id, "--reason", "two persons"];
        ensure!(world.central.program.command(&split)?.contains("second person"));
        ensure!(world.central.program.command(&split).is_err(), "the same person again");
        world.stop_and_check().await
    });
}

#[test]
fn doors_and_bounds_hold() {
    story(async {
        let mut world = world()?;
        let listening = world.central.program.start().await?;
        let (tls, plain) = (listening.mllp[0], listening.mllp_plain[0]);
        let message = told("A28", "1", &[pid(&temporary(1))]);

        // Not in the list of the row, another organisation, no TLS at all: nothing is answered.
        for (who, identity) in [("a viewer", &world.hospital.viewer), ("another organisation", &world.other.viewer)] {
            let refused = async {
                let mut feed = Sender::connect(tls, Some(world.tls(identity)?)).await?;
                feed.tell(&message).await
            };
            ensure!(refused.await.is_err(), "{who} was answered");
        }
        ensure!(Sender::connect(tls, None).await?.tell(&message).await.is_err(), "plain at the TLS port");

        // On one connection, in order: a message in pieces, several at once, other ends of segments, one too large.
        let mut feed = Sender::connect(plain, None).await?;
        for byte in frame(message.as_bytes()) {
            feed.send(&[byte]).await?;
        }
        ensure!(feed.answer().await? == "AA 1");
        let many: Vec<u8> = (2..6).flat_map(|n| frame(told("A28", &n.to_string(), &[pid(&temporary(n))]).as_bytes())).collect();
        feed.send(&many).await?;
        for n in 2..6 {
            ensure!(feed.answer().await? == format!("AA {n}"), "in order");
        }
        ensure!(feed.tell(&told("A31", "6", &[pid(&temporary(1))]).replace('\r', "\n")).await? == "AA");
        let padded = |length: usize| {
            let head = told("A31", "7", &[pid(&temporary(1))]);
            let field = format!("\rZZZ|{}", "x".repeat(60_000));
            let mut text = head;
            while text.len() + field.len() < length {
                text += &field;
            }
            let rest = length - text.len() - 5;
            format!("{text}\rZZZ|{}", "x".repeat(rest))
        };
        ensure!(feed.tell(&padded(1_048_577)).await? == "AR IDR-H-16", "I20");
        ensure!(feed.tell(&padded(1_048_576)).await? == "AA", "at the bound, on the same connection");
        ensure!(feed.tell("MSH|nonsense").await.is_err(), "no header: MSA|AR| and the end");
        let mut feed = Sender::connect(plain, None).await?;
        feed.send(&[b'-'; 4096]).await?;
        ensure!(feed.tell(&message).await? == "AA", "4 096 bytes that belong to no message");
        feed.send(&[b'-'; 4097]).await?;
        ensure!(feed.answer().await.is_err(), "one more");
        end(world).await
    });
}

#[test]
fn what_was_acknowledged_is_there_after_kills_and_nothing_is_there_twice() {
    story(async {
        let mut world = world()?;
        let survivor = patient_id(&Person::numbered(243)).to_cx();
        let messages: Vec<String> = (0..120).map(|n| merge(&format!("m-{n}"), &temporary(n), &survivor)).collect();
        let mut done = 0;
        for kill_after in [1, 7, 30, 55, 90, usize::MAX] {
            let listening = world.central.program.start().await?;
            if done > 0 {
                let state = shown(&world, &survivor)?;
                let merges = state["merges"].as_array().map_or(0, Vec::len);
                ensure!((done..=done + 1).contains(&merges), "{done} acknowledged, {merges} done");
            }
            let mut feed = Sender::connect(listening.mllp_plain[0], None).await?;
            // The sender sends the last one again: it does not know whether it was done.
            while done < messages.len() {
                if done == kill_after {
                    // One more is on its way when the program dies.
                    feed.send(&frame(messages[done].as_bytes())).await?;
                    break;
                }
                let answer = feed.tell(&messages[done]).await?;
                ensure!(answer == "AA W-10" || answer == "AA", "{done}: {answer}");
                done += 1;
            }
            if done < messages.len() {
                world.central.program.kill().await?;
            }
        }
        let state = shown(&world, &temporary(17))?;
        ensure!(state["patient"] == survivor.as_str());
        ensure!(state["ids"].as_array().map(Vec::len) == Some(121) && state["merges"].as_array().map(Vec::len) == Some(120));
        end(world).await
    });
}

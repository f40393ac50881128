//! An object that waits for a decision: seen, decided about, and never altered.

use anyhow::Context as _;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Instance, Kind, Recipe, Study};
use idr_tests::harness::{Plan, Program, World, edit};
use idr_tests::story::{outgoing, send_all, study_registered};
use serde_json::Value;

use crate::story;

/// Quarantines at the site what rule D315 finds; the centre only warns of it.
fn stricter_site(world: &World) -> anyhow::Result<()> {
    let own = world.site().program.state().with_file_name("site-rules.toml");
    let mut rules: toml::Table = std::fs::read_to_string(&own)?.parse()?;
    edit(&mut rules, [("allow_stricter", true.into()), ("levels.D315", "REJECT".into())]);
    Ok(std::fs::write(own, toml::to_string(&rules)?)?)
}

fn held_back() -> Plan {
    let site = std::sync::Arc::new(|table: &mut toml::Table| {
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        edit(row, [("refuse_to_quarantine", true.into())]);
    });
    Plan { site, ..Plan::default() }
}

/// A CT study of one instance with somebody else's birth date (D315).
fn wrong_birth_date(person: &Person, seed: u32) -> Study {
    let recipe = Recipe::small(Kind::Ct, person.clone(), 1, seed);
    let mut object = recipe.first_object();
    object.put(DataElement::new(tags::PATIENT_BIRTH_DATE, VR::DA, PrimitiveValue::from("19010101")));
    let instance = Instance::encode(&object, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    Study { instances: vec![instance], ..recipe.make() }
}

fn answer(program: &Program, words: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&program.command(words)?)?)
}

#[test]
fn a_quarantined_object_is_listed_released_with_a_reason_and_arrives_with_its_override_named() {
    story(async {
        let mut world = World::prepare(held_back())?;
        stricter_site(&world)?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let study = wrong_birth_date(&Person::numbered(91), 1);
        let refused = wrong_birth_date(&Person::numbered(92), 2);
        send_all(&world.site().modality(), &outgoing([&study, &refused]), 1).await?;
        let program = &world.site().program;

        let listed = answer(program, &["quarantine", "list", "--study", &study.uid, "--json"])?;
        let object = &listed["objects"][0];
        anyhow::ensure!(object["state"] == "quarantined(D315)", "{listed}");
        let remedy = object["reasons"][0]["remedy"].as_str().unwrap_or_default();
        anyhow::ensure!(!remedy.is_empty() && program.command(&["quarantine", "list"])?.contains(remedy), "{listed}");
        anyhow::ensure!(!listed.to_string().contains(&study.person.hetu), "a list shows a patient");
        let id = object["object"].as_str().unwrap_or_default();

        // The operator sees the element at fault, and the log does not.
        let shown = program.command(&["quarantine", "show", id])?;
        anyhow::ensure!(shown.contains("19010101") && shown.contains("D315"), "{shown}");
        anyhow::ensure!(!program.printed().contains("19010101"), "the log shows a patient's birth date");

        anyhow::ensure!(program.command(&["quarantine", "release", id]).is_err(), "released without a reason");
        let reason = "Birth date asked from the ward";
        let released = answer(program, &["quarantine", "release", id, "--reason", reason, "--json"])?;
        anyhow::ensure!(released["decided"][0]["overrides"][0] == "D315", "{released}");
        anyhow::ensure!(!program.printed().contains(reason), "the log shows the operator's words");
        let again = answer(program, &["quarantine", "release", id, "--reason", reason, "--json"])?;
        anyhow::ensure!(again["decided"][0]["refused"].is_null(), "the same decision again: {again}");

        study_registered(&world.viewer()?, &study).await?;
        world.check_stored_once([&study]).await?;
        let receipts = program.command(&["receipt", "show", &study.uid])?;
        let hand_over = receipts
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|carried| !carried["receipt"]["override"].is_null());
        let hand_over = hand_over.with_context(|| format!("no receipt names an override: {receipts}"))?;
        anyhow::ensure!(hand_over["receipt"]["override"] == serde_json::json!(["D315"]), "{hand_over}");

        // The other study stays where it is, and is never sent once it is rejected.
        let listed = answer(program, &["quarantine", "list", "--json"])?;
        let other = listed["objects"][0]["object"].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(
            listed["objects"].as_array().map(Vec::len) == Some(1) && listed["objects"][0]["study_uid"] == refused.uid,
            "{listed}"
        );
        answer(program, &["quarantine", "reject", &other, "--reason", "Sent by mistake", "--json"])?;
        anyhow::ensure!(program.command(&["quarantine", "release", &other, "--reason", "no"]).is_err(), "a rejected object was released");

        // Who decided and why survives a kill; the bytes are all here.
        world.site_mut().program.kill().await?;
        world.site_mut().program.start().await?;
        let shown = answer(&world.site().program, &["quarantine", "show", &other, "--json"])?;
        let decision = &shown["decision"];
        anyhow::ensure!(shown["state"] == "rejected" && decision["reason"] == "Sent by mistake" && decision["user"].is_u64(), "{shown}");
        anyhow::ensure!(shown["digest"] == refused.instances[0].digest().to_string(), "{shown}");
        anyhow::ensure!(!world.stored_digests().await?.contains_key(&refused.instances[0].sop_instance), "a rejected object was sent");
        world.stop_and_check().await
    });
}

#[test]
fn two_copies_with_other_bytes_are_both_kept_and_their_difference_is_shown() {
    story(async {
        let mut world = World::prepare(held_back())?;
        stricter_site(&world)?;
        world.site_mut().program.start().await?;
        let person = Person::numbered(93);
        let (wrong, right) = (wrong_birth_date(&person, 3), Recipe::small(Kind::Ct, person.clone(), 1, 3).make());
        anyhow::ensure!(wrong.instances[0].sop_instance == right.instances[0].sop_instance, "the fixture makes other UIDs");
        send_all(&world.site().modality(), &outgoing([&wrong, &right]), 1).await?;
        let program = &world.site().program;
        let listed = answer(program, &["quarantine", "list", "--json"])?;
        let object = &listed["objects"][0];
        anyhow::ensure!(object["other_copies"].as_array().map(Vec::len) == Some(1), "{listed}");
        let shown = answer(program, &["quarantine", "show", object["object"].as_str().unwrap_or_default(), "--json"])?;
        let elements = shown["differences"][0]["elements"].as_array().cloned().unwrap_or_default();
        let paths: Vec<&str> = elements.iter().filter_map(|row| row["path"].as_str()).collect();
        anyhow::ensure!(paths == ["(0010,0030)"] && elements[0]["this"] == "19010101", "{elements:?}");
        world.site_mut().program.stop().await
    });
}

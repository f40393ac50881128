//! A study under the wrong patient: corrected here, at the centre under the right one, its originals kept and never sent.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Instance, Kind, Recipe, Study};
use idr_tests::harness::{Plan, Program, World, binary, edit};
use idr_tests::poll;
use idr_tests::story::{look, outgoing, patient_id, registered, send_all, study_registered};
use serde_json::Value;

use crate::story;

/// The identity code of another person stands in the images: D315 finds the birth date.
async fn held_back(study: &Study) -> anyhow::Result<World> {
    let site = std::sync::Arc::new(|table: &mut toml::Table| {
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        edit(row, [("refuse_to_quarantine", true.into())]);
    });
    let site_rules = std::sync::Arc::new(|table: &mut toml::Table| {
        edit(table, [("allow_stricter", true.into()), ("levels.D315", "REJECT".into())]);
    });
    let mut world = World::prepare(Plan { site, site_rules, ..Plan::default() })?;
    world.central.program.start().await?;
    world.site_mut().program.start().await?;
    send_all(&world.site().modality(), &outgoing([study]), 2).await?;
    Ok(world)
}

/// A study of `person` with somebody else's identity code.
fn misnamed(person: &Person, instances: usize, seed: u32) -> anyhow::Result<Study> {
    use dicom_transfer_syntax_registry::{TransferSyntaxIndex as _, TransferSyntaxRegistry};
    let mut study = Recipe::small(Kind::Ct, person.clone(), instances, seed).make();
    for instance in &mut study.instances {
        let syntax = TransferSyntaxRegistry.get(&instance.transfer_syntax).context("a syntax")?;
        let mut object = InMemDicomObject::read_dataset_with_ts(instance.data_set.as_slice(), syntax)?;
        let other = Person::numbered(500);
        object.put(DataElement::new(tags::PATIENT_ID, VR::LO, PrimitiveValue::from(other.hetu.as_str())));
        *instance = Instance::encode(&object, &instance.transfer_syntax);
    }
    Ok(study)
}

fn answer(program: &Program, words: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&program.command(words)?)?)
}

fn objects(program: &Program, study: &Study) -> anyhow::Result<Vec<Value>> {
    let shown = answer(program, &["study", "show", &study.uid, "--json"])?;
    Ok(shown["instances"].as_array().cloned().unwrap_or_default())
}

/// The originals are kept as they came, each with its successor; none of them is at the centre.
async fn originals_are_kept(world: &World, study: &Study, corrected: &Value) -> anyhow::Result<()> {
    let program = &world.site().program;
    let instances = corrected["instances"].as_array().context("instances")?;
    let stored = world.stored_digests().await?;
    let here = objects(program, study)?;
    anyhow::ensure!(here.len() == study.instances.len(), "{here:?}");
    for sent in &study.instances {
        let original = here.iter().find(|row| row["sop_instance_uid"] == sent.sop_instance).context("an original is gone")?;
        anyhow::ensure!(original["state"] == "superseded" && original["digest"] == sent.digest().to_string(), "{original}");
        let shown = answer(program, &["quarantine", "show", original["object"].as_str().unwrap_or_default(), "--json"])?;
        let new = instances.iter().find(|row| row["original"] == sent.sop_instance).context("no successor")?;
        anyhow::ensure!(shown["successor"]["sop_instance_uid"] == new["corrected"], "{}", shown["successor"]);
        anyhow::ensure!(shown["decision"]["verb"] == "correct" && shown["decision"]["user"].is_u64(), "{}", shown["decision"]);
        anyhow::ensure!(!stored.contains_key(&sent.sop_instance), "an original was sent");
    }
    Ok(())
}

/// What the correction made is registered for the right patient, and nothing else is.
async fn arrives(world: &World, study: &Study, corrected: &Value) -> anyhow::Result<()> {
    let rows = corrected["instances"].as_array().context("instances")?;
    let new: BTreeSet<&str> = rows.iter().filter_map(|row| row["corrected"].as_str()).collect();
    anyhow::ensure!(new.len() == study.instances.len(), "{corrected}");
    let uid = corrected["corrected_study_uid"].as_str().context("a study")?;
    anyhow::ensure!(uid != study.uid && uid.starts_with("2.25."), "the study of another patient keeps its UID: {uid}");
    registered(&world.viewer()?, &patient_id(&study.person), uid, &new).await?;
    let stored = world.stored_digests().await?;
    anyhow::ensure!(stored.len() == new.len(), "the centre has {} instances", stored.len());
    Ok(())
}

#[test]
fn a_study_under_the_wrong_patient_is_corrected_and_arrives_under_the_right_one() {
    story(async {
        let person = Person::numbered(96);
        let study = misnamed(&person, 3, 96)?;
        let world = held_back(&study).await?;
        let program = &world.site().program;
        let set = format!("(0010,0020)={}", person.hetu);
        let words = ["quarantine", "correct", &study.uid, "--set", &set, "--reason", "113038", "--note", "Wrong worklist entry", "--json"];

        // Refused by name, and nothing has changed.
        let refused =
            program.command(&["quarantine", "correct", &study.uid, "--set", "(0028,0010)=9", "--reason", "113038", "--note", "x"]);
        anyhow::ensure!(refused.is_err_and(|error| error.to_string().contains("(0028,0010)")), "an attribute of the image was taken");
        let wrong = format!("(0010,0020)={}", Person::numbered(501).hetu);
        let rejected = program.command(&["quarantine", "correct", &study.uid, "--set", &wrong, "--reason", "113038", "--note", "x"]);
        anyhow::ensure!(rejected.is_err_and(|error| error.to_string().contains("D315")), "a rule was not asked of the new instances");
        let dry: Vec<&str> = words.iter().copied().chain(["--dry-run"]).collect();
        let planned = answer(program, &dry)?;
        anyhow::ensure!(planned["instances"].as_array().map(Vec::len) == Some(3), "{planned}");
        let states = objects(program, &study)?;
        anyhow::ensure!(states.iter().all(|row| row["state"] == "quarantined(D315)"), "{states:?}");

        let corrected = answer(program, &words)?;
        arrives(&world, &study, &corrected).await?;
        originals_are_kept(&world, &study, &corrected).await?;
        anyhow::ensure!(answer(program, &words)? == corrected, "the same command again is the same correction");
        anyhow::ensure!(!program.printed().contains(&person.hetu), "the log shows an identity code");

        world.stop_and_check().await
    });
}

/// A study that the centre has and shows.
async fn shown_at_the_centre(study: &Study) -> anyhow::Result<World> {
    let mut world = World::prepare(Plan::default())?;
    world.central.program.start().await?;
    world.site_mut().program.start().await?;
    send_all(&world.site().modality(), &outgoing([study]), 2).await?;
    study_registered(&world.viewer()?, study).await?;
    Ok(world)
}

/// The note that the correction made is at the centre; it names every original, and the originals are kept as they came.
async fn is_rejected(world: &World, study: &Study, corrected: &Value) -> anyhow::Result<()> {
    let [note] = corrected["rejection_notes"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        anyhow::bail!("one note: {corrected}")
    };
    let named: BTreeSet<&str> = note["rejects"].as_array().context("instances")?.iter().filter_map(Value::as_str).collect();
    let sent: BTreeSet<&str> = study.instances.iter().map(|instance| instance.sop_instance.as_str()).collect();
    anyhow::ensure!(named == sent, "{note}");
    let uid = note["note"].as_str().context("a UID")?;
    poll::until("the rejection note is at the centre", poll::DEADLINE, || async {
        world.stored_digests().await.is_ok_and(|stored| stored.contains_key(uid)).then_some(())
    })
    .await?;
    let here = objects(&world.site().program, study)?;
    for sent in &study.instances {
        let original = here.iter().find(|row| row["sop_instance_uid"] == sent.sop_instance).context("an original is gone")?;
        anyhow::ensure!(original["state"] == "superseded" && original["digest"] == sent.digest().to_string(), "{original}");
    }
    Ok(())
}

#[test]
fn a_registered_study_is_corrected_within_itself_by_new_instances_a_note_and_one_manifest() {
    story(async {
        let study = Recipe::small(Kind::Ct, Person::numbered(98), 3, 98).make();
        let mut world = shown_at_the_centre(&study).await?;
        let words = [
            "quarantine",
            "correct",
            &study.uid,
            "--set",
            "(0010,0010)=Testinen^Maija",
            "--reason",
            "113001",
            "--modifier",
            "111207",
            "--note",
            "Name of before the marriage",
            "--json",
        ];
        let corrected = answer(&world.site().program, &words)?;
        // Killed between two steps, it goes on by itself.
        world.site_mut().program.kill().await?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(corrected["corrected_study_uid"] == study.uid, "another study: {corrected}");
        let rows = corrected["instances"].as_array().context("instances")?;
        let new: BTreeSet<&str> = rows.iter().filter_map(|row| row["corrected"].as_str()).collect();
        registered(&world.viewer()?, &patient_id(&study.person), &study.uid, &new).await?;
        is_rejected(&world, &study, &corrected).await?;
        let again = answer(&world.site().program, &words)?;
        anyhow::ensure!(again["instances"] == corrected["instances"] && again["waits_for"].is_null(), "{again}");
        world.stop_and_check().await
    });
}

#[test]
fn a_registered_study_of_the_wrong_patient_is_rejected_withdrawn_and_shown_to_the_right_one_in_this_order() {
    story(async {
        let (wrong, right) = (Person::numbered(99), Person::numbered(501));
        let study = Recipe::small(Kind::Ct, wrong.clone(), 3, 99).make();
        let world = shown_at_the_centre(&study).await?;
        let program = &world.site().program;
        let sets =
            [format!("(0010,0020)={}", right.hetu), format!("(0010,0010)={}", right.name), format!("(0010,0030)={}", right.birth_date)];
        let mut words = vec!["quarantine", "correct", &study.uid];
        sets.iter().for_each(|set| words.extend(["--set", set]));
        words.extend(["--reason", "113038", "--note", "Wrong worklist entry", "--json"]);
        let corrected = answer(program, &words)?;
        is_rejected(&world, &study, &corrected).await?;
        let rows = corrected["instances"].as_array().context("instances")?;
        let new: BTreeSet<&str> = rows.iter().filter_map(|row| row["corrected"].as_str()).collect();
        let uid = corrected["corrected_study_uid"].as_str().context("a study")?;

        registered(&world.viewer()?, &patient_id(&right), uid, &new).await?;
        anyhow::ensure!(
            look(&world.viewer()?, &patient_id(&wrong), &study.uid).await?.is_none(),
            "the study is still shown to the wrong patient"
        );
        anyhow::ensure!(!program.printed().contains(&right.hetu), "the log shows an identity code");
        world.stop_and_check().await
    });
}

#[test]
fn a_correction_that_a_kill_interrupts_ends_in_the_same_state_when_it_is_given_again() {
    story(async {
        let person = Person::numbered(97);
        let study = misnamed(&person, 40, 97)?;
        let mut world = held_back(&study).await?;
        let set = format!("(0010,0020)={}", person.hetu);
        let words = ["quarantine", "correct", &study.uid, "--set", &set, "--reason", "113038", "--note", "Wrong worklist entry", "--json"];
        let corrections = world.site().program.state().join("corrections");
        let mut command = Command::new(binary("idr-site")?);
        command.args(words).arg("--config").arg(world.site().program.config());
        let mut running = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The order is kept, and some of the new instances perhaps.
        poll::until("the correction has begun", poll::DEADLINE, || async {
            let begun = std::fs::read_dir(&corrections).is_ok_and(|mut files| {
                files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|extension| extension == "json")))
            });
            begun.then_some(())
        })
        .await?;
        world.site_mut().program.kill().await?;
        running.wait()?;
        anyhow::ensure!(world.stored_digests().await?.is_empty(), "something was sent before the correction was whole");
        world.site_mut().program.start().await?;

        let corrected = answer(&world.site().program, &words)?;
        arrives(&world, &study, &corrected).await?;
        originals_are_kept(&world, &study, &corrected).await?;
        anyhow::ensure!(answer(&world.site().program, &words)? == corrected, "the same command again is the same correction");
        world.stop_and_check().await
    });
}

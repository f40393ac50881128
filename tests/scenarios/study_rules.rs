//! Rules that ask a whole study: what they hold is seen, decided about, and goes on.

use anyhow::Context as _;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Instance, Kind, Recipe, Study};
use idr_tests::harness::{Plan, Program, World, edit};
use idr_tests::poll;
use idr_tests::story::{outgoing, send_all, study_registered};
use serde_json::Value;

use crate::story;

/// A CT study of three instances, of which the first is changed.
fn odd_one(person: &Person, seed: u32, change: impl FnOnce(&mut dicom_object::InMemDicomObject)) -> Study {
    let recipe = Recipe::small(Kind::Ct, person.clone(), 3, seed);
    let mut object = recipe.first_object();
    change(&mut object);
    let mut study = recipe.make();
    study.instances[0] = Instance::encode(&object, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    study
}

fn answer(program: &Program, words: &[&str]) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&program.command(words)?)?)
}

/// Objects of a study that are quarantined, once there are so many.
async fn quarantined(program: &Program, study: &Study, count: usize) -> anyhow::Result<Vec<Value>> {
    let words = ["quarantine", "list", "--study", &study.uid, "--json"];
    poll::until("objects of the study are quarantined", poll::DEADLINE, || async {
        let objects = answer(program, &words).ok()?["objects"].as_array().cloned()?;
        (objects.len() == count).then_some(objects)
    })
    .await
}

#[test]
fn a_study_of_two_patients_is_quarantined_whole_and_the_rest_goes_on_when_the_odd_one_is_rejected() {
    story(async {
        let mut world = World::start(Plan::default()).await?;
        let other = Person::numbered(42);
        let mut study = odd_one(&Person::numbered(41), 41, |object| {
            for (tag, vr, text) in [
                (tags::PATIENT_ID, VR::LO, other.hetu.as_str()),
                (tags::PATIENT_BIRTH_DATE, VR::DA, other.birth_date.as_str()),
                (tags::PATIENT_SEX, VR::CS, other.sex),
                (tags::PATIENT_NAME, VR::PN, other.name.as_str()),
            ] {
                object.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
            }
        });
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        let objects = quarantined(&world.site().program, &study, 3).await?;
        for object in &objects {
            anyhow::ensure!(object["state"] == "quarantined(D701)" && object["reasons"][0]["id"] == "D701", "{object}");
        }
        let shown = answer(&world.site().program, &["study", "show", &study.uid, "--json"])?;
        let noted = shown["notes"]["evaluated"].as_str().unwrap_or_default();
        anyhow::ensure!(noted.contains("D701") && noted.contains("D703"), "a warning is not noted: {shown}");
        anyhow::ensure!(!world.site().program.printed().contains(&other.hetu), "the log shows a patient");
        anyhow::ensure!(world.stored_digests().await?.is_empty(), "an object of a quarantined study was sent");

        // Nothing of it is forgotten, and time lets nothing go.
        world.site_mut().program.kill().await?;
        world.site_mut().program.start().await?;
        quarantined(&world.site().program, &study, 3).await?;

        let odd = study.instances.remove(0);
        let object =
            objects.iter().find(|object| object["sop_instance_uid"] == odd.sop_instance.as_str()).context("the odd one is listed")?;
        let id = object["object"].as_str().unwrap_or_default();
        answer(&world.site().program, &["quarantine", "reject", id, "--reason", "Of another patient", "--json"])?;
        study_registered(&world.viewer()?, &study).await?;
        anyhow::ensure!(!world.stored_digests().await?.contains_key(&odd.sop_instance), "a rejected object was sent");
        world.check_stored_once([&study]).await?;
        world.stop_and_check().await
    });
}

#[test]
fn a_study_that_an_operator_releases_arrives_with_its_override_named() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let own = world.site().program.state().with_file_name("site-rules.toml");
        let mut rules: toml::Table = std::fs::read_to_string(&own)?.parse()?;
        edit(&mut rules, [("levels.D703", "REJECT".into())]);
        std::fs::write(own, toml::to_string(&rules)?)?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let study = odd_one(&Person::numbered(43), 43, |object| {
            object.put(DataElement::new(tags::PATIENT_NAME, VR::PN, PrimitiveValue::from("Toinen^Testi")));
        });
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        let program = &world.site().program;
        quarantined(program, &study, 3).await?;
        let released = answer(program, &["quarantine", "release", &study.uid, "--reason", "New name after marriage", "--json"])?;
        anyhow::ensure!(released["decided"].as_array().map(Vec::len) == Some(3), "{released}");
        study_registered(&world.viewer()?, &study).await?;
        let receipts = program.command(&["receipt", "show", &study.uid])?;
        let named = receipts.lines().filter(|line| line.contains(r#""override":["D703"]"#)).count();
        anyhow::ensure!(named == 3, "{named} hand-overs name the override: {receipts}");
        world.check_stored_once([&study]).await?;
        world.stop_and_check().await
    });
}

#[test]
fn what_changed_rules_no_longer_reject_goes_on_by_itself() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let own = world.site().program.state().with_file_name("site-rules.toml");
        let usual = std::fs::read_to_string(&own)?;
        let mut rules: toml::Table = usual.parse()?;
        edit(&mut rules, [("levels.D703", "REJECT".into())]);
        std::fs::write(&own, toml::to_string(&rules)?)?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let study = odd_one(&Person::numbered(45), 45, |object| {
            object.put(DataElement::new(tags::PATIENT_NAME, VR::PN, PrimitiveValue::from("Toinen^Testi")));
        });
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        let objects = quarantined(&world.site().program, &study, 3).await?;
        // The difference is shown to the operator.
        let shown = answer(&world.site().program, &["quarantine", "show", objects[0]["object"].as_str().unwrap_or_default(), "--json"])?;
        let of_rule = shown["differences"].as_array().into_iter().flatten().find(|one| one["rule"] == "D703");
        let elements = of_rule.and_then(|one| one["elements"].as_array()).cloned().unwrap_or_default();
        anyhow::ensure!(elements.iter().any(|row| row["path"] == "(0010,0010)"), "{}", shown["differences"]);
        // Asked again by the same rules it stays.
        let words = ["quarantine", "release", &study.uid, "--re-evaluate", "--reason", "Asked again", "--json"];
        let decided = answer(&world.site().program, &words)?;
        anyhow::ensure!(decided["decided"].as_array().map(Vec::len) == Some(3), "{decided}");
        quarantined(&world.site().program, &study, 3).await?;

        std::fs::write(&own, usual)?;
        world.site_mut().program.stop().await?;
        world.site_mut().program.start().await?;
        study_registered(&world.viewer()?, &study).await?;
        let receipts = world.site().program.command(&["receipt", "show", &study.uid])?;
        anyhow::ensure!(!receipts.contains("override"), "nothing was overridden: {receipts}");
        world.check_stored_once([&study]).await?;
        world.stop_and_check().await
    });
}

#[test]
fn of_two_copies_the_second_is_kept_and_is_what_the_centre_has() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let first = odd_one(&Person::numbered(46), 46, |object| {
            object.put(DataElement::new(tags::STATION_NAME, VR::SH, PrimitiveValue::from("CT1")));
        });
        let second = odd_one(&Person::numbered(46), 46, |_| {});
        let objects: Vec<_> = outgoing([&first]).iter().cloned().chain(outgoing([&second]).iter().take(1).cloned()).collect();
        send_all(&world.site().modality(), &objects.into(), 1).await?;
        let program = &world.site().program;
        let listed = quarantined(program, &first, 1).await?;
        anyhow::ensure!(listed[0]["state"] == "quarantined(D732)", "{listed:?}");
        anyhow::ensure!(world.stored_digests().await?.is_empty(), "the study was not held for its copy");
        let id = listed[0]["object"].as_str().unwrap_or_default();
        answer(program, &["quarantine", "release", id, "--keep", "second", "--reason", "The first has a wrong label", "--json"])?;
        study_registered(&world.viewer()?, &second).await?;
        world.check_stored_once([&second]).await?;
        world.stop_and_check().await
    });
}

#[test]
fn a_study_without_a_row_of_the_controller_map_goes_on_when_the_map_has_it() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let own = world.site().program.state().with_file_name("controller-map.toml");
        let whole = std::fs::read_to_string(&own)?;
        let mut map: toml::Table = whole.parse()?;
        map.remove("row");
        std::fs::write(&own, toml::to_string(&map)?)?;
        world.central.program.start().await?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(44), 2, 44).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        let words = ["study", "show", &study.uid, "--json"];
        let program = &world.site().program;
        poll::holds("the study is held for its controller", poll::DEADLINE, || {
            let held = |instance: &Value| instance["state"] == "held(D437)";
            let shown = answer(program, &words).unwrap_or_default();
            shown["instances"].as_array().is_some_and(|all| all.len() == 2 && all.iter().all(held))
        })
        .await?;
        std::fs::write(&own, whole)?;
        world.site_mut().program.stop().await?;
        world.site_mut().program.start().await?;
        study_registered(&world.viewer()?, &study).await?;
        world.check_stored_once([&study]).await?;
        world.stop_and_check().await
    });
}

//! dicomweb-client and pydicom search and retrieve at the centre.

use std::process::Command;

use anyhow::{Context as _, ensure};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, binary};
use idr_tests::shared::run;
use idr_tests::story::{outgoing, patient_id, send_all, study_registered};
use serde_json::{Value, json};

use crate::{here, python, story};

#[test]
fn dicomweb_client_searches_and_retrieves_a_study() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(171), 3, 1).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        let files = world.folder().join("retrieved");
        std::fs::create_dir(&files)?;
        let mut command = Command::new(python);
        command.arg(here().join("dicomweb_viewer.py")).arg(format!("{}/dicomweb", viewer.base())).arg(world.folder());
        command.arg(binary("make-assertion")?).arg(patient_id(&study.person).to_cx()).arg(&study.uid).arg(&files);
        let answer = run(&mut command)?;
        // Libraries write lines of their own beside it.
        let line = answer.lines().find(|line| line.starts_with('{')).with_context(|| answer.clone())?;
        let answer: Value = serde_json::from_str(line)?;
        let mut instances: Vec<&String> = registered.series.iter().flat_map(|(_, instances)| instances).collect();
        instances.sort();
        ensure!(answer["studies"].as_array().is_some_and(|found| found.len() == 1), "{answer}");
        let told = &answer["studies"][0];
        ensure!((&told[0], &told[1], &told[2]) == (&json!(study.uid), &json!(1), &json!(3)) && told[3] == json!(["CT"]), "{told}");
        ensure!(answer["series"] == json!([registered.series[0].0]), "{answer}");
        for listed in ["instances", "pages", "retrieved", "described"] {
            ensure!(answer[listed] == json!(instances), "{listed}: {answer}");
        }
        world.stop().await
    });
}

//! pynetdicom says what it has made, by MPPS and IAN.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::story::{outgoing, send_all, study_registered};
use serde_json::{Value as Json, json};

use crate::{here, python, story};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// The status of each operation.
fn say(python: &Path, port: u16, operations: &[Json]) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new(python);
    command.arg(here().join("completeness.py")).args(["--port", &port.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        for operation in operations {
            writeln!(input, "{operation}")?;
        }
    }
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "pynetdicom ended with {}", output.status);
    let answer = |line: &str| {
        let line: Json = serde_json::from_str(line)?;
        Ok(line["status"].as_str().unwrap_or_default().to_owned())
    };
    String::from_utf8(output.stdout)?.lines().map(answer).collect()
}

fn listed(study: &Study) -> Vec<[String; 2]> {
    study.instances.iter().map(|instance| [instance.sop_class.clone(), instance.sop_instance.clone()]).collect()
}

#[test]
fn steps_and_notices_are_answered_as_the_standard_says() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let mut world = World::prepare(Plan::default())?;
        world.site_mut().program.start().await?;
        let many: Vec<[String; 2]> = (0..10_001).map(|n| [CT.to_owned(), format!("1.2.5.{n}")]).collect();
        let cases = [
            (json!({"begin": "1.2.9", "study": "1.2.3"}), "0000"),
            (json!({"begin": "1.2.9", "study": "1.2.3"}), "0111"),
            (json!({"begin": "1.2.8", "study": "1.2.3", "state": "COMPLETED"}), "0106"),
            (json!({"begin": "1.2.8", "study": ""}), "0120"),
            (json!({"end": "1.2.7", "state": "COMPLETED", "instances": []}), "0112"),
            (json!({"end": "1.2.9", "state": "FINISHED", "instances": []}), "0106"),
            (json!({"end": "1.2.9", "state": "COMPLETED", "instances": many}), "0213"),
            (json!({"end": "1.2.9", "state": "IN PROGRESS", "instances": []}), "0000"),
            (json!({"end": "1.2.9", "state": "DISCONTINUED", "instances": []}), "0000"),
            (json!({"end": "1.2.9", "state": "COMPLETED", "instances": []}), "0110"),
            (json!({"notify": "1.2.6", "study": "1.2.3", "instances": []}), "0120"),
            (json!({"notify": "1.2.6", "study": "1.2.3", "instances": [[CT, "1.2.5"]]}), "0000"),
            (json!({"notify": "1.2.6", "study": "1.2.3", "instances": [[CT, "1.2.5"]]}), "0111"),
        ];
        let operations: Vec<Json> = cases.iter().map(|(operation, _)| operation.clone()).collect();
        let answers = say(&python, world.site().dimse.port(), &operations)?;
        anyhow::ensure!(answers.len() == cases.len(), "{} answers", answers.len());
        for ((operation, status), answer) in cases.into_iter().zip(answers) {
            let text = operation.to_string();
            let text: String = text.chars().take(120).collect();
            anyhow::ensure!(answer == status, "{text}: {answer:?}");
        }
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_study_is_registered_when_what_pynetdicom_listed_is_here() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let site_rules = |table: &mut toml::Table| edit(table, [("parameters.listed_settle_s", 1.into())]);
        let plan = Plan { study_quiet_seconds: 3600, site_rules: std::sync::Arc::new(site_rules), ..Plan::default() };
        let world = World::start(plan).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(125), 3, 125).make();
        let said =
            [json!({"begin": "1.2.9", "study": study.uid}), json!({"end": "1.2.9", "state": "COMPLETED", "instances": listed(&study)})];
        let answers = say(&python, world.site().dimse.port(), &said)?;
        anyhow::ensure!(answers.iter().all(|status| status == "0000"), "{answers:?}");
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        study_registered(&world.viewer()?, &study).await?;
        world.stop().await
    });
}

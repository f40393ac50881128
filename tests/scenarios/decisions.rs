//! Decisions outside requests: cases of a file, and records that are decided again.

use anyhow::{Context as _, ensure};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::story::{fetch_and_compare, outgoing, patient_id, send_all, study_registered};
use serde_json::{Value, json};

use crate::story;

const EXAMPLES: &str = include_str!("../../docs/examples/consent-decide.json");

#[test]
fn cases_of_a_file_are_decided_without_a_running_centre() {
    story(async {
        let world = World::prepare(Plan::default())?;
        let file = world.folder().join("cases.json");
        let path = file.to_string_lossy().into_owned();
        let decide = |text: &str| -> anyhow::Result<Value> {
            std::fs::write(&file, text)?;
            Ok(serde_json::from_str(&world.central.program.command(&["consent", "decide", "--batch", &path])?)?)
        };
        let answer = decide(EXAMPLES)?;
        let decisions = answer["decisions"].as_array().context("decisions")?;
        ensure!(decisions.iter().all(|decision| decision["as_expected"] == true), "{answer:#}");
        let of = |id: &str| decisions.iter().find(|decision| decision["id"] == id).with_context(|| format!("no decision of {id}"));
        ensure!(of("E12")?["decision"] == "permit" && of("E12")?["logs"] == json!(["U", "D"]), "{:#}", of("E12")?);
        ensure!(of("G5")?["rule"] == "G5" && of("G5")?["code"] == "IDR-X-27", "{:#}", of("G5")?);
        ensure!(answer["policy_hash"].as_str().is_some_and(|hash| hash.len() == 71), "{answer:#}");

        // What another model would say is compared, and what cannot be read is said.
        let mut other: Value = serde_json::from_str(EXAMPLES)?;
        other["cases"] = json!([{ "id": "other", "expect": { "decision": "omit" } }]);
        let refused = decide(&other.to_string()).err().context("a case that is not as expected ends with status 1")?.to_string();
        ensure!(refused.contains("exit status: 1") && refused.contains("\"as_expected\": false"), "{refused}");
        other["cases"][0]["subject"] = json!({ "kind": "wizard" });
        let refused = decide(&other.to_string()).err().context("a kind that nobody knows ends with status 2")?.to_string();
        ensure!(refused.contains("exit status: 2") && refused.contains("case 1 (other): subject"), "{refused}");
        Ok(())
    });
}

#[test]
fn every_decision_of_a_story_comes_out_the_same_from_the_log_and_is_explained() {
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(24), 2, 1).make();
        let patient = patient_id(&study.person);
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let (own, other) = (world.viewer()?, world.other_viewer()?);
        study_registered(&own, &study).await?;
        // Not informed, then by consent, then under a denial.
        other.find_documents(&patient).await?;
        world.record_declaration(&patient, "informing")?;
        world.record_declaration(&patient, "consent")?;
        let seen = study_registered(&other, &study).await?;
        fetch_and_compare(&other, &study, &seen).await?;
        world.record_declaration(&patient, "denial")?;
        other.find_documents(&patient).await?;

        let program = &world.central.program;
        let printed = program.command(&["audit", "verify", "--decisions", "--json"])?;
        let last: Value = serde_json::from_str(printed.lines().last().context("a line")?)?;
        let found = &last["decisions"];
        ensure!(found["differ"] == 0 && found["not_replayable"] == json!({}), "{found}");
        ensure!(found["units"].as_u64().is_some_and(|units| units >= 6), "{found}");

        let tail = program.command(&["audit", "tail", "--stream", "decision", "-n", "100", "--reason", "question of the patient"])?;
        let records = tail.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        let data = |record: &Value| record["body"]["note"]["data"].clone();
        let denied = records.iter().map(data).rfind(|data| data["units"][0]["rule"] == "E8a").context("the last query was denied")?;
        let id = denied["decision_id"].as_str().context("an id")?;
        let explained = program.command(&["consent", "explain", "--decision", id, "--reason", "question of the patient", "--json"])?;
        let explained: Value = serde_json::from_str(explained.lines().next().context("one unit")?)?;
        let trace = explained["explanation"]["trace"].as_array().context("a trace")?;
        ensure!(explained["same"] == true && trace.last().is_some_and(|step| step["rule"] == "E8a"), "{explained:#}");
        let only = program.command(&["audit", "verify", "--decisions", "--id", id, "--json"])?;
        ensure!(only.contains("\"decisions\":1,"), "{only}");
        world.stop_and_check().await
    });
}

//! Decisions outside requests: cases of a file, and records that are decided again.

use anyhow::Context as _;
use idr_tests::harness::{Plan, World};
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
        anyhow::ensure!(decisions.iter().all(|decision| decision["as_expected"] == true), "{answer:#}");
        let of = |id: &str| decisions.iter().find(|decision| decision["id"] == id).with_context(|| format!("no decision of {id}"));
        anyhow::ensure!(of("E12")?["decision"] == "permit" && of("E12")?["logs"] == json!(["U", "D"]), "{:#}", of("E12")?);
        anyhow::ensure!(of("G5")?["rule"] == "G5" && of("G5")?["code"] == "IDR-X-27", "{:#}", of("G5")?);
        anyhow::ensure!(answer["policy_hash"].as_str().is_some_and(|hash| hash.len() == 71), "{answer:#}");

        // What another model would say is compared, and what cannot be read is said.
        let mut other: Value = serde_json::from_str(EXAMPLES)?;
        other["cases"] = json!([{ "id": "other", "expect": { "decision": "omit" } }]);
        let refused = decide(&other.to_string()).err().context("a case that is not as expected ends with status 1")?.to_string();
        anyhow::ensure!(refused.contains("exit status: 1") && refused.contains("\"as_expected\": false"), "{refused}");
        other["cases"][0]["subject"] = json!({ "kind": "wizard" });
        let refused = decide(&other.to_string()).err().context("a kind that nobody knows ends with status 2")?.to_string();
        anyhow::ensure!(refused.contains("exit status: 2") && refused.contains("case 1 (other): subject"), "{refused}");
        Ok(())
    });
}

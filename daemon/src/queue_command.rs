//! `queue list`, `show`, `hold`, `cancel`, `drain`: one study on its way, decisions about it, and the wait until nothing is on its way.

use std::process::ExitCode;
use std::time::Duration;

use idr_profile::outcome::Outcomes;
use serde_json::{Value, json};

use crate::config::Config;
use crate::control::{DecisionArguments, Request, ask};
use crate::spool::Verb;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// States of what the centre has not registered and is on its way there.
const ON_THEIR_WAY: [&str; 4] = ["queued", "sending", "sent", "committed"];

/// What `queue list` says to people.
pub fn list_lines(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let group = |row: &Value| {
        let urgent = row["urgent"].as_u64().filter(|urgent| *urgent > 0).map_or(String::new(), |urgent| format!(", {urgent} urgent"));
        let objects = row["objects"].to_string();
        format!("{:<24} {:<16} {objects:>8} since {}{urgent}", text(&row["state"]), text(&row["outcome"]), text(&row["oldest"]))
    };
    let manifest = |row: &Value| {
        let study = text(&row["study_uid"]);
        format!("manifest of study {study} is held: {}; `idr-site queue release {study}`", text(&row["outcome"]))
    };
    rows("groups").iter().map(group).chain(rows("manifests").iter().map(manifest)).collect()
}

/// What of a study is not registered, why, and since when.
///
/// # Errors
/// The appliance does not answer; there is no such study.
pub fn show(config: &Config, uid: String, json: bool) -> anyhow::Result<ExitCode> {
    let study = ask(config, &Request::StudyShow { uid })?;
    let outcomes = Outcomes::base();
    let explained = |row: &str| outcomes.explain(row).first().map(|row| row.effect.to_string());
    let waits = |row: &&Value| row["state"] != "registered" && row["state"] != "released";
    let rows: Vec<Value> = study["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(waits)
        .map(|row| {
            let effect = row["outcome"].as_str().and_then(explained);
            json!({
                "object": row["object"], "state": row["state"], "since": row["since"], "due": row["due"], "attempts": row["attempts"],
                "outcome": row["outcome"], "effect": effect, "urgent": row["urgent"],
                "decision": row["decision"],
            })
        })
        .collect();
    let hold = study["notes"]["hold"].as_str();
    if json {
        println!("{}", json!({"study_uid": study["study_uid"], "objects": rows, "manifest_held": hold}));
    } else {
        for row in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            println!(
                "{}  {:<20} since {}, due {}, {} attempts, {}",
                text("object"),
                text("state"),
                text("since"),
                text("due"),
                row["attempts"],
                text("outcome")
            );
            row["effect"].as_str().into_iter().for_each(|effect| println!("    {effect}"));
            let decision = &row["decision"];
            if decision.is_object() {
                let word = |key: &str| decision[key].as_str().unwrap_or_default().to_owned();
                println!("    {} by user {} at {}: {}", word("verb"), decision["user"], word("at"), word("reason"));
            }
        }
        if let Some(note) = hold {
            match note.strip_prefix("operator study ") {
                Some(by) => println!("an operator holds it: {by}"),
                None => {
                    let row = note.split(' ').next().unwrap_or(note);
                    println!("its manifest is held: {row}; {}", explained(row).unwrap_or_default());
                }
            }
        }
        println!("{} objects are not registered", rows.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// Holds or cancels; exit status 1 if that does not hold for all of it.
///
/// # Errors
/// The appliance does not answer; there is no such object or study; the reason cannot be kept.
pub fn decide(config: &Config, arguments: DecisionArguments, verb: Verb) -> anyhow::Result<ExitCode> {
    let DecisionArguments { target, reason, json } = arguments;
    let answer = ask(config, &Request::QueueDecide { target, verb, reason })?;
    let refused = answer["refused"].as_object().filter(|refused| !refused.is_empty());
    if json {
        println!("{answer}");
    } else {
        let target = answer["target"].as_str().unwrap_or_default();
        match verb {
            Verb::Hold => println!("{target} is held, {} objects wait; `idr-site queue release {target}` lets it go", answer["decided"]),
            _ => println!("{} objects are rejected, and kept", answer["decided"]),
        }
        for (why, objects) in refused.into_iter().flatten() {
            println!("not {objects} of them: {why}");
        }
    }
    Ok(if refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until nothing is on its way to the centre; exit status 1 if something still is.
///
/// # Errors
/// The appliance does not answer.
pub fn drain(config: &Config, seconds: u64) -> anyhow::Result<ExitCode> {
    let end = idr_host::now().saturating_add(Duration::from_secs(seconds))?;
    loop {
        let status = ask(config, &Request::Status)?;
        let on_its_way = |row: &&Value| ON_THEIR_WAY.iter().any(|state| row["state"] == *state);
        let left: u64 =
            status["states"].as_array().into_iter().flatten().filter(on_its_way).filter_map(|row| row["objects"].as_u64()).sum();
        if left == 0 || idr_host::now() >= end {
            println!("{left} objects are on their way");
            return Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_listed_by_state_and_outcome_with_what_is_urgent_and_held() {
        let answer = json!({
            "groups": [
                {"state": "queued", "outcome": "T-REFUSED", "objects": 200, "oldest": "2026-01-15T06:00:00Z", "urgent": 3},
                {"state": "held(operator)", "outcome": "", "objects": 1, "oldest": "2026-01-15T07:00:00Z", "urgent": 0},
            ],
            "manifests": [{"tenant": "default", "study_uid": "1.2.3", "outcome": "operator"}],
        });
        let lines = list_lines(&answer);
        assert_eq!(lines[0], "queued                   T-REFUSED             200 since 2026-01-15T06:00:00Z, 3 urgent");
        assert_eq!(lines[1], "held(operator)                                   1 since 2026-01-15T07:00:00Z");
        assert_eq!(lines[2..], ["manifest of study 1.2.3 is held: operator; `idr-site queue release 1.2.3`"]);
    }
}

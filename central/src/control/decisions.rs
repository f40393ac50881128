//! Decisions of the log, made again: `audit verify --decisions`, `consent explain --decision`.

use std::process::ExitCode;

use idr_profile::access::Explanation;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Request, ask, log_folder};
use crate::audit::{self, Stream};
use crate::config::Config;
use crate::consent::replay::{Again, Found, Replay, Wanted};
use crate::keys::Keys;

/// Walks the decision log.
fn again(config: &Config, wanted: Wanted, tell: &mut dyn FnMut(Again, &dyn Fn() -> Explanation)) -> anyhow::Result<Found> {
    let key = Keys::new(config.storage.path.join("keys")).body(false).ok();
    let mut replay = Replay::new(wanted);
    let mut closed = 0;
    audit::each(&log_folder(config, Stream::Decision), key.as_ref(), |record| match &record.body {
        Some(body) => replay.take(body, tell),
        None => closed += 1,
    })?;
    let mut found = replay.finish();
    if closed > 0 {
        found.not_replayable.insert("encrypted with another key", closed);
    }
    Ok(found)
}

/// Decides every unit of every kept decision again; whether all of them came out the same.
///
/// # Errors
/// The log cannot be read.
pub(super) fn verify(config: &Config, wanted: Wanted, as_json: bool) -> anyhow::Result<bool> {
    let found = again(config, wanted, &mut |again, _| {
        if again.same {
            return;
        }
        if as_json {
            println!("{}", json!({ "decision": again }));
            return;
        }
        println!("decision {} of {}, unit {}", again.decision_id, again.evaluated_at, again.unit);
        println!("  recorded: {} by {}", outcome(&json!(again.recorded.result)), again.recorded.rule);
        println!("  now:      {} by {}", outcome(&json!(again.now.decision)), again.now.rule);
        for step in &again.now.trace {
            println!("    {:<6} {} {}", step.rule, outcome(&json!(step.result)), step.why);
        }
    })?;
    if as_json {
        println!("{}", json!({ "decisions": found }));
    } else {
        println!("decisions: {} with {} units made again, {} differ", found.decisions, found.units, found.differ);
        for (reason, count) in &found.not_replayable {
            println!("decisions: {count} not made again: {reason}");
        }
    }
    Ok(found.differ == 0)
}

/// Why each unit of one kept decision was decided as it was. That the log is read is recorded first.
///
/// # Errors
/// The reading cannot be recorded, or the log not be read.
pub(super) fn explain(config: &Config, id: Uuid, reason: String, as_json: bool) -> anyhow::Result<ExitCode> {
    ask(config, Request::AuditRead { stream: Stream::Decision.name().to_owned(), patient: None, reason })?;
    let mut same = true;
    let found = again(config, Wanted { id: Some(id), since: None }, &mut |again, why| {
        same &= again.same;
        let explanation = why();
        if as_json {
            println!("{}", json!({ "recorded": again.recorded, "same": again.same, "explanation": explanation }));
        } else {
            println!("unit {} at {}\n{explanation}", again.unit, again.evaluated_at);
        }
    })?;
    if found.units == 0 {
        let reasons: Vec<&str> = found.not_replayable.keys().copied().collect();
        anyhow::bail!(
            "no unit of decision {id} can be explained: {}",
            if reasons.is_empty() { "it is not in the log, or had none".to_owned() } else { reasons.join("; ") }
        );
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcome(name: &Value) -> &str {
    name.as_str().unwrap_or_default()
}

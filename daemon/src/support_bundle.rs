//! `support-bundle`: one file for those who help from outside, with nothing of a patient in it.
//!
//! What goes in is named here, value by value: numbers, times, and words of our own (states, rows of the outcome table, names of checks).
//! No other text does: no UID, name, path, address, AE title, reason or message, whatever it may hold. Text that is left out stands as
//! its length. The log is not in it: `journalctl -u idr-site` names studies by UID.
//!
//! # Bounds
//! At most [`BYTES_MAX`]; parts that would make it longer are left out by name.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::control::{Request, ask};
use crate::doctor;

/// Largest bundle, bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// Keys whose text is a word or a time of ours.
const OURS: [&str; 14] =
    ["at", "begun", "environment", "finished", "found", "index", "level", "oldest", "outcome", "restart", "row", "since", "state", "tls"];
/// Folders of the state folder whose size is told.
const FOLDERS: [&str; 12] = [
    "objects",
    "journal",
    "manifests",
    "headers",
    "commitments",
    "listings",
    "corrections",
    "receipts",
    "torn",
    "reconcile",
    "index",
    "keys",
];
/// Files that are counted in a folder; more are not looked at.
const FILES_MAX: u64 = 2_000_000;

/// Writes the bundle into a new file.
///
/// # Errors
/// The file is there, or cannot be written.
pub fn execute(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let bundle = gather(config)?;
    let failed = || format!("{}: cannot be written; it must not be there yet", file.display());
    let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).with_context(failed)?;
    let text = bounded(bundle)?;
    to.write_all(text.as_bytes()).and_then(|()| to.sync_all()).with_context(failed)?;
    println!("{}: {} bytes, without patient data, names, addresses and paths; read it before you send it", file.display(), text.len());
    Ok(ExitCode::SUCCESS)
}

fn gather(config: &Config) -> anyhow::Result<Map<String, Value>> {
    let mut bundle = Map::new();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    bundle.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    bundle.insert("at".to_owned(), json!(idr_host::now()));
    bundle.insert(
        "machine".to_owned(),
        json!({
            "kernel": kernel.trim_end(), "architecture": std::env::consts::ARCH,
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
        }),
    );
    bundle.insert("configuration".to_owned(), told(&serde_json::to_value(&**config)?));
    for (name, request) in [
        ("status", Request::Status),
        ("queue", Request::QueueList),
        ("scrub", Request::Scrub { now: false }),
        ("reconcile", Request::Reconcile { now: false }),
    ] {
        // What does not answer is told by `doctor`.
        bundle.insert(name.to_owned(), ask(config, &request).map_or(Value::Null, |answer| told(&answer)));
    }
    let checks = doctor::look(config)?;
    let peers = checks.iter().filter(|check| !check.is_of_ours());
    let levels: Vec<_> = peers.map(|check| check.level).collect();
    let ours = checks.iter().filter(|check| check.is_of_ours());
    let ours: Map<String, Value> = ours.map(|check| (check.name.clone(), json!(check.level))).collect();
    bundle.insert("doctor".to_owned(), json!({"checks": ours, "peers": levels}));
    let folders = FOLDERS.iter().map(|name| {
        let (mut files, mut bytes) = (0, 0);
        size(&config.storage.path.join(name), &mut files, &mut bytes);
        ((*name).to_owned(), json!({"files": files, "bytes": bytes}))
    });
    bundle.insert("state".to_owned(), Value::Object(folders.collect()));
    Ok(bundle)
}

/// Numbers, and text of ours; of other text its length.
fn told(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), told_as(key, value))).collect()),
        other => told_as("", other),
    }
}

fn told_as(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if OURS.contains(&key) && is_ours(text) => value.clone(),
        Value::String(text) => json!(format!("<{} bytes of text>", text.len())),
        Value::Array(list) => list.iter().map(|one| told_as(key, one)).collect(),
        Value::Object(map) => told(&Value::Object(map.clone())),
        other => other.clone(),
    }
}

/// A time, or a word as states and rows are: no patient's name or id has the form of one under a key that the program writes.
fn is_ours(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "()-_.".contains(c);
    let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|run| run.len() >= 6);
    let is_word = text.len() <= 32 && text.chars().all(word) && text.matches('.').count() < 3 && !digits(text);
    is_word || text.parse::<jiff::Timestamp>().is_ok()
}

fn size(folder: &Path, files: &mut u64, bytes: &mut u64) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path(), files, bytes),
            Ok(found) if *files < FILES_MAX => (*files, *bytes) = (*files + 1, *bytes + found.len()),
            _ => {}
        }
    }
}

/// As text, without the longest parts if all of it is too long.
fn bounded(mut bundle: Map<String, Value>) -> anyhow::Result<String> {
    loop {
        let text = serde_json::to_string_pretty(&bundle)?;
        if text.len() <= BYTES_MAX {
            return Ok(text);
        }
        let longest = bundle.iter().max_by_key(|(_, value)| value.to_string().len()).map(|(name, _)| name.clone());
        bundle.insert(longest.context("nothing is left")?, json!("<left out: too long>"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_times_and_words_of_ours_are_told() {
        let seeds = ["Virtanen^Aino", "010190-999X", "1.2.826.0.1.3680043.8.498.1", "aino virtanen"];
        for seed in seeds {
            for key in OURS.iter().copied().chain(["tenant", "study_uid", "refusing", "path"]) {
                let told = told(&json!({"deep": [{key: seed, "list": [seed], "number": 7, "state": "held(incomplete)"}]})).to_string();
                assert!(!told.contains(seed), "{told}");
                assert!(told.contains("held(incomplete)") && told.contains('7'), "{told}");
            }
        }
        assert_eq!(
            told(&json!({"oldest": "2026-01-20T00:00:00Z", "outcome": "CS-A700"})),
            json!({"oldest": "2026-01-20T00:00:00Z", "outcome": "CS-A700"})
        );
    }

    #[test]
    fn a_bundle_that_would_be_too_long_names_what_it_leaves_out() {
        let long: Vec<u64> = (0..400_000).collect();
        let bundle = json!({"version": "1", "queue": long});
        let text = bounded(bundle.as_object().cloned().expect("an object")).expect("fits");
        assert!(text.len() < 100 && text.contains("left out"), "{text}");
    }
}

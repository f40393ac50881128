//! Backup of a site: `backup create`, `verify`, `restore`.
//!
//! A backup is a folder of files as they stand in the state folder, with a list of their digests, and the configuration without any
//! key. The appliance may run while it is made: nothing in the state folder is changed in place, so a copy is what a crash at some
//! instant would have left, if its parts are copied in the right order (`PARTS`); a start after a restore makes of it what it makes
//! of a crash. What came later is not in it: objects that the centre has are found there again (it takes what it holds as it is, and
//! manifests are made the same), what it has not must be sent again from its source.
//!
//! # On disk
//! `state/…`, `configuration/…`: the files. `files.jsonl`: path, bytes and SHA-256 of each, a line each. `backup.json`: what it is, and
//! the SHA-256 of `files.jsonl`; it is written last. All folders 0700, files 0600: they hold patients' images. While it is made the
//! folder is called `….partial`. In the state folder `backup.json` says when the last one was made, for `doctor`.
//!
//! Never in it: `keys/` and every file with a private key (profile 10 §7), the index (made again), locks and sockets.
//!
//! # Failure
//! A backup that was not finished has no `backup.json`, and is none for `verify` and `restore`. A restore puts nothing over anything: a
//! state folder with more than keys in it is refused.
//!
//! # Bounds
//! One file at a time, 256 KiB in memory, and some 150 bytes in memory and in `files.jsonl` for each.

mod copying;
mod restoring;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use idr_host::files;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Config;

pub use copying::create;
pub use restoring::{RESTORING, restore, verify};

/// Name of the list of files.
const FILES: &str = "files.jsonl";
/// Name of the file that says that a backup is whole; in the state folder, when the last one was made.
pub const ABOUT: &str = "backup.json";
/// Form of a backup; another number is refused.
const FORMAT: u32 = 1;

/// Parts of the state folder, in the order in which they are copied. Objects come first, so that none is missing of which the journal
/// does not say that it was given up; what the journal names is copied behind it, the receipts that it marks as logged too; and objects
/// that came meanwhile come last, so that no receipt is without its object.
const PARTS: [&str; 11] =
    ["objects", "journal", "manifests", "headers", "commitments", "listings", "corrections", "receipts", "objects", "torn", "reconcile"];
/// Single files of the state folder.
const SINGLE: [&str; 3] = ["reconcile.json", "scrub.json", "rules.json"];

/// Commands about backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Copy state and configuration, without keys, into a new folder; the appliance may run.
    Create {
        /// Folder to make. It will hold patients' images.
        folder: PathBuf,
        /// An earlier backup on the same file system: object files that are in it already are linked, not copied again.
        #[arg(long)]
        previous: Option<PathBuf>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Whether a backup is whole: every file is there, with its digest, and nothing else.
    Verify {
        /// The backup.
        folder: PathBuf,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Put the state of a backup into an empty state folder, and check it; the appliance must be stopped.
    Restore {
        /// The backup.
        folder: PathBuf,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// What a backup is; the form of `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The form; another one is refused.
    pub format: u32,
    /// Version of the program that made it.
    pub version: String,
    /// Organisation and `site.id`.
    pub site: String,
    /// Everything that was acknowledged before is in it.
    pub begun: Timestamp,
    /// When it was whole.
    pub finished: Timestamp,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of `files.jsonl`.
    pub list_sha256: String,
    /// Files of the configuration that were left out because they hold a private key.
    pub without: Vec<String>,
}

/// A line of `files.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    path: String,
    bytes: u64,
    sha256: String,
}

/// Who a state folder belongs to.
fn site(config: &Config) -> String {
    format!("{}/{}", config.site.organisation, config.site.id)
}

/// Reads what a backup says that it is.
fn about(folder: &Path) -> anyhow::Result<About> {
    let path = folder.join(ABOUT);
    let text = files::read_text_if_there(&path)?;
    let text = text.with_context(|| format!("{}: no finished backup is here", folder.display()))?;
    let about: About = serde_json::from_str(&text).with_context(|| format!("{}: cannot be read", path.display()))?;
    anyhow::ensure!(about.format == FORMAT, "{}: format {} is not known to this version", path.display(), about.format);
    Ok(about)
}

/// When the last backup was made; the form of `backup.json` in the state folder.
pub fn last(state: &Path) -> Option<Timestamp> {
    let text = files::read_text_if_there(&state.join(ABOUT)).ok()??;
    serde_json::from_str::<About>(&text).ok().map(|about| about.begun)
}

/// Does a command.
///
/// # Errors
/// What kept it from being done.
pub fn execute(config: &Config, command: BackupCommand) -> anyhow::Result<ExitCode> {
    match command {
        BackupCommand::Create { folder, previous, json } => {
            let about = create(config, &folder, previous.as_deref(), idr_host::now)?;
            if json {
                println!("{}", serde_json::to_string(&about)?);
            } else {
                println!("{}: {} files, {} bytes, as of {}", folder.display(), about.files, about.bytes, about.begun);
                println!("without private keys: {}", state_keys(config).display());
                about.without.iter().for_each(|path| println!("without private keys: {path}"));
                println!("keep copies of the keys elsewhere; check this one with `idr-site backup verify {}`", folder.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        BackupCommand::Verify { folder, json } => {
            let about = about(&folder)?;
            let faults = verify(&folder, &about)?;
            report(&folder, &about, &faults, json);
            Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        BackupCommand::Restore { folder, json } => {
            let about = about(&folder)?;
            let alarms = restore(config, &folder, &about)?;
            report(&config.storage.path, &about, &alarms, json);
            Ok(if alarms.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn state_keys(config: &Config) -> PathBuf {
    config.storage.path.join("keys")
}

fn report(folder: &Path, about: &About, faults: &[String], json: bool) {
    if json {
        println!("{}", json!({"backup": about, "faults": faults}));
    } else {
        faults.iter().for_each(|fault| println!("{fault}"));
        println!("{}: {} files, {} bytes, as of {}; {} faults", folder.display(), about.files, about.bytes, about.begun, faults.len());
    }
}

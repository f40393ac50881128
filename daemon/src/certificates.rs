//! `cert`: the certificates that this site shows and signs with, and how long they last; how they are come by is [`crate::enrol`].

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use idr_ihe::assertion::Certificate;
use idr_profile::tls;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::Config;
use crate::doctor::{self, Level};
use crate::enrol::join::{self, JoinArguments};
use crate::enrol::renewal::{self, RotateArguments};

/// Commands about certificates.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Join the centre: keys are made here, the centre certifies them; also `idr-site enrol`.
    Join(Box<JoinArguments>),
    /// New keys and certificates in place of those that this site joined with.
    Rotate(Box<RotateArguments>),
    /// What this site shows and signs with; exit status as that of `doctor`.
    List {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// Keys of the configuration that name a certificate of this site, with its file.
pub fn own(config: &Config) -> Vec<(&'static str, &Path)> {
    let listeners = [("dimse.certificate", &config.dimse.certificate), ("stow.certificate", &config.stow.certificate)];
    let mut named: Vec<(&str, &Path)> = listeners.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?))).collect();
    named.extend(config.centre.iter().map(|centre| ("centre.certificate", centre.certificate.as_path())));
    named.extend(config.assertion.iter().map(|assertion| ("assertion.certificate", assertion.certificate.as_path())));
    named
}

/// The first certificate of a PEM file; `None` if it cannot be read.
pub fn read(key: &'static str, path: &Path) -> Option<Certificate> {
    let chain = tls::certificates(&std::fs::read(path).ok()?, key).ok()?;
    Certificate::from_der(chain.first()?).ok()
}

/// Does a command.
///
/// # Errors
/// What kept it from being done.
pub fn execute(config: &Config, command: CertCommand) -> anyhow::Result<ExitCode> {
    match command {
        CertCommand::Join(arguments) => join::execute(config, *arguments),
        CertCommand::Rotate(arguments) => renewal::execute(config, *arguments),
        CertCommand::List { json } => Ok(list(config, json)),
    }
}

fn list(config: &Config, json: bool) -> ExitCode {
    let now = idr_host::now();
    let rows: Vec<(Level, Value)> = own(config).into_iter().map(|(key, path)| row(key, path, now)).collect();
    let worst = rows.iter().map(|(level, _)| *level).max().unwrap_or(Level::Ok);
    if json {
        println!("{}", rows.into_iter().map(|(_, row)| row).collect::<Value>());
    } else {
        for (_, row) in &rows {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            match row["days_left"].as_i64() {
                Some(days) => println!("{:<22} {days:>5} days left, until {}  sha256 {}", text("key"), text("not_after"), text("sha256")),
                None => println!("{:<22} {} cannot be read", text("key"), text("file")),
            }
        }
    }
    doctor::exit_code(worst)
}

fn row(key: &'static str, path: &Path, now: Timestamp) -> (Level, Value) {
    let Some(certificate) = read(key, path) else { return (Level::Problem, json!({"key": key, "file": path})) };
    let (left, level) = doctor::certificate(&certificate, now);
    let row = json!({
        "key": key, "file": path, "days_left": left, "not_before": certificate.not_before(), "not_after": certificate.not_after(),
        "serial": certificate.serial_hex(), "sha256": hex::encode(certificate.sha256()),
    });
    (level, row)
}

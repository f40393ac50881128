//! `test send --synthetic`: an invented study goes the way of every study, from C-STORE to the receipts of the centre.
//!
//! It is sent to this site's own plain DICOM listener as the device of an inbound row, so that everything is tried that an image meets. The
//! patient has an identity code of the test range, which is allowed in `environment = "test"` alone (profile 06 §2.2), so there is no
//! such study in production; `echo` and `doctor` try the ways there.
//!
//! # Bounds
//! At most 100 instances of some 9 KiB; every wait is bounded by `--seconds`.

pub(crate) mod study;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, Subcommand};
use idr_dimse::limits::Limits;
use idr_dimse::message::command_set::{CommandField, CommandSet, Priority};
use idr_dimse::service::storage::Outcome;
use idr_dimse::status::Status;
use serde_json::{Value, json};

use crate::config::{Config, Environment, Inbound, TlsDemand};
use crate::control::{Request, ask};
use crate::outbound::{self, Session, Target, Waits};
use study::{EXPLICIT_VR_LITTLE_ENDIAN, SOP_CLASS_UID, Synthetic};

/// Most instances of a synthetic study.
const INSTANCES_MAX: u32 = 100;
/// Whom the listener sees.
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Between two looks at what became of the study.
const LOOK: Duration = Duration::from_millis(500);
/// Every wait of the association.
const WAIT: Duration = Duration::from_secs(30);

/// Trying the whole way.
#[derive(Debug, Subcommand)]
pub enum TestCommand {
    /// Send an invented study, and wait until the centre has it.
    Send(Send),
}

/// What is sent, and as whom.
#[derive(Debug, Args)]
pub struct Send {
    /// The study is invented: there is nothing else to send.
    #[arg(long, required = true)]
    synthetic: bool,
    /// Inbound row that sends it; the first that may send from this machine without TLS if none is named.
    #[arg(long = "as")]
    row: Option<String>,
    /// Instances, 1–100.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(INSTANCES_MAX)))]
    instances: u32,
    /// Give the patient another birth date than the identity code has: rule D315 finds it.
    #[arg(long)]
    wrong_birth_date: bool,
    /// Longest wait for the centre, seconds; 0: do not wait.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Sends and waits.
///
/// # Errors
/// The environment, the row, the listener; an instance that was refused, with its status.
pub fn execute(config: &Config, TestCommand::Send(send): TestCommand) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        config.environment == Environment::Test,
        "environment is production, where persons of the test range are refused; use `idr-site echo centre` and `idr-site doctor`"
    );
    let row = row(config, send.row.as_deref())?;
    let address = listener(config)?;
    let zone = jiff::tz::TimeZone::get(&config.site.timezone)?;
    let synthetic = Synthetic::new(send.instances, send.wrong_birth_date, &zone.to_datetime(idr_host::now()), &mut rand::rng());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(store(config, row, address, &synthetic))?;
    let uid = synthetic.study_uid();
    if !send.json {
        println!("study {uid}: {} instances sent as {}, and accepted", send.instances, row.ae_title);
    }
    let (became, registered) = runtime.block_on(followed(config, uid, u64::from(send.instances), Duration::from_secs(send.seconds)))?;
    if send.json {
        println!(
            "{}",
            json!({"study_uid": uid, "instances": send.instances, "states": became["states"], "receipts": became["receipts"], "registered": registered})
        );
    } else {
        told(&became, registered).iter().for_each(|line| println!("{line}"));
    }
    let done = registered || send.seconds == 0;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The row that sends.
fn row<'a>(config: &'a Config, name: Option<&str>) -> anyhow::Result<&'a Inbound> {
    match name {
        Some(name) => config.inbound.iter().find(|row| row.name == name).with_context(|| format!("there is no inbound row '{name}'")),
        None => {
            let plain = |row: &&Inbound| row.tls == TlsDemand::Optional && row.addresses.iter().any(|network| network.contains(HERE));
            config.inbound.iter().find(plain).context("no inbound row takes plain DICOM from 127.0.0.1: name one by --as, or add one")
        }
    }
}

/// Where the running appliance listens.
fn listener(config: &Config) -> anyhow::Result<SocketAddr> {
    let path = config.storage.path.join("listening.json");
    let text = idr_host::files::read_text_if_there(&path)?.context("the appliance does not run")?;
    let bound: Value = serde_json::from_str(&text)?;
    let first = bound["dimse"].as_array().and_then(|list| list.first()?.as_str()?.parse().ok());
    first.context("dimse.listen is empty: nothing takes plain DICOM")
}

async fn store(config: &Config, row: &Inbound, address: SocketAddr, synthetic: &Synthetic) -> anyhow::Result<()> {
    let called = config.dimse.local_ae_titles.first().context("dimse.local_ae_titles is empty")?;
    let target = Target { address, ae_title: called.clone(), tls: None, certificates: Vec::new() };
    let mut request = outbound::request(&row.ae_title, called);
    request.propose(SOP_CLASS_UID, &[EXPLICIT_VR_LITTLE_ENDIAN]);
    let waits = Waits { connect: WAIT, handshake: WAIT, associate: WAIT, response: WAIT, progress: WAIT };
    let mut session = Session::open(&target, request, Limits::default(), waits).await.context("the site's own listener")?;
    let context = session.contexts().first().map(|context| context.id).context("the site's own listener takes no CT images")?;
    for number in 1..=synthetic.instances() {
        let id = session.next_message_id();
        let uid = synthetic.instance_uid(number);
        session.command(context, &CommandSet::c_store_rq(id, SOP_CLASS_UID, &uid, Priority::Medium)).await?;
        session.data(context, Bytes::from(synthetic.data_set(number)), true).await?;
        let answer = session.received().await?;
        anyhow::ensure!(
            answer.command_field() == CommandField::C_STORE_RSP && answer.message_id() == id,
            "the listener answered something else"
        );
        let outcome = Outcome::read(&answer).context("an answer without a status")?;
        anyhow::ensure!(outcome.status == Status::SUCCESS, "instance {number} was not accepted: {outcome:?}");
    }
    session.release().await;
    Ok(())
}

/// Looks until all instances have gone as far as they can without somebody, with their receipts; whether the centre has registered all.
async fn followed(config: &Config, uid: &str, instances: u64, most: Duration) -> anyhow::Result<(Value, bool)> {
    let end = idr_host::now().saturating_add(most)?;
    loop {
        let study = ask(config, &Request::StudyShow { uid: uid.to_owned() })?;
        let count = |state: &str| study["states"][state]["objects"].as_u64().unwrap_or_default();
        let registered = count("registered") == instances;
        let rests = count("quarantined") + count("registered") == instances;
        // Receipts follow behind the answers.
        let told = receipts(&study, "R1") == instances && (!registered || receipts(&study, "R4") > 0);
        if rests && told || idr_host::now() >= end {
            return Ok((study, registered));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn receipts(study: &Value, kind: &str) -> u64 {
    let receipts = study["receipts"].as_array().into_iter().flatten();
    receipts.filter(|carried| carried["receipt"]["type"] == kind).count() as u64
}

fn told(study: &Value, registered: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (state, amount) in study["states"].as_object().into_iter().flatten() {
        lines.push(format!("{:>5} {state}", amount["objects"].as_u64().unwrap_or_default()));
    }
    lines.extend(SAYS.map(|(kind, says)| format!("{:>5} receipts {kind}: {says}", receipts(study, kind))));
    lines.push(match registered {
        true => "the centre holds and has registered all of it".to_owned(),
        false => {
            "the centre has not registered all of it: `idr-site study show`, `idr-site queue list`, `idr-site quarantine list`".to_owned()
        }
    });
    lines
}

/// What each receipt says.
const SAYS: [(&str, &str); 4] = [
    ("R1", "the site has accepted an object"),
    ("R2", "the site has handed it over"),
    ("R3", "the centre holds it"),
    ("R4", "the centre has registered the study"),
];

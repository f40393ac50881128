//! What operators say and see: commands, and the Unix socket of the running centre that answers some of them.
//!
//! The socket is that of [`idr_host::control`]. A command that needs the centre's state asks the running centre; if none runs, it opens the state itself (only one process can). Commands that
//! only read files (`receipt verify`, `audit verify`, `audit tail`, `fsck`) need no running centre and disturb none.
//!
//! What an operator does with a patient's data is recorded like any other use: `registry find --patient` and everything about
//! declarations; reading the audit log too.
//!
//! # Bounds
//! Those of [`idr_host::control`]; lists are cut at [`LIST_MAX`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use futures::StreamExt as _;
use idr_host::control::Socket;
use idr_ihe::metadata::PatientId;
use idr_profile::receipt::{Carried, Holder, LogWalk, Verifier};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Entry, Kind, Outcome, Record, Stream, User};
use crate::central::Central;
use crate::config::{Config, Engine};
use crate::consent::log;
use crate::consent::replay::Wanted;
use crate::health;
use crate::keys::Keys;
use crate::objects::{ObjectError, Objects, Reader};
use crate::reload::Reload;
use crate::run::{self, Open};
use crate::store::overview::{HeldDocument, HeldObject};

mod consent;
mod decisions;
mod enrolment;
mod migrate;
mod patient;

pub use consent::ConsentCommand;
pub use enrolment::{PeerCommand, TokenCommand};
pub use patient::PatientCommand;

/// Studies in one answer.
pub const LIST_MAX: u32 = 1000;
/// Rows that `fsck` reads at once.
const PAGE: u32 = 500;

/// Commands of an operator.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is held here, and whether requests are taken.
    Status {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Read trust, revocation lists and certificates of the listeners again; 1: refused, nothing changed.
    Reload {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Declarations of patients: informing, consents, denials; and why something is or is not shown.
    #[command(subcommand)]
    Consent(ConsentCommand),
    /// Patients: who is whom, merges, links.
    #[command(subcommand)]
    Patient(PatientCommand),
    /// What is registered and stored; counts and states only, no patient data.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Custody receipts.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Audit logs.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Invites by which sites join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who may connect.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Check that every row of the index has its object, and that the object has its digest.
    Fsck {
        /// Look at existence and size only.
        #[arg(long)]
        quick: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Move the database to the other engine, all or nothing; no centre may run.
    Migrate {
        /// Where everything is.
        #[arg(long)]
        from: Engine,
        /// Where it goes; must be empty.
        #[arg(long)]
        to: Engine,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// Commands about the registry.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Studies of a patient, or one study.
    Find {
        /// Patient, as CX: `010190-900P^^^&1.2.246.21&ISO`.
        #[arg(long, required_unless_present = "study", conflicts_with = "study")]
        patient: Option<String>,
        /// Study Instance UID.
        #[arg(long)]
        study: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// Commands about receipts.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// The public key of this node's receipts, as a row of others' `trust.toml`. Made if nothing was signed yet; run it as the
    /// service user.
    Key {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Verify receipts offline with the public keys of `trust.toml` and the node's own; `--log` also their chain.
    Verify {
        /// Files with one receipt a line, or a JSON array; none: the centre's own log.
        files: Vec<PathBuf>,
        /// The files are whole logs: verify the chain of hashes of each holder too.
        #[arg(long)]
        log: bool,
    },
}

/// Commands about the audit logs.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify the chain and the signatures of every log.
    Verify {
        /// Also make every decision of the log again: the same inputs, the same decision, the same rule.
        #[arg(long)]
        decisions: bool,
        /// Only decisions from this instant on.
        #[arg(long, requires = "decisions")]
        since: Option<jiff::Timestamp>,
        /// Only this decision.
        #[arg(long, requires = "decisions")]
        id: Option<uuid::Uuid>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// The last records of a log. That you read them is recorded with your reason.
    Tail {
        /// `use`, `disclosure`, `security`, `decision`, `system`.
        #[arg(long, default_value = "use")]
        stream: String,
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        count: usize,
        /// Only records about this patient (CX), of the last `count`.
        #[arg(long)]
        patient: Option<String>,
        /// Why you read.
        #[arg(long)]
        reason: String,
    },
}

/// What goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    Status,
    Reload,
    RegistryFind { patient: Option<PatientId>, study: Option<String> },
    AuditRead { stream: String, patient: Option<PatientId>, reason: String },
    Consent { consent: consent::Consent },
    Patient { patient: patient::Identity },
    Enrol { enrol: enrolment::Enrol },
}

/// Who gives a command: the user of the operating system. Made by the commands and their socket only, so that no route can
/// read what asks for one: `compile_fail/` in the tests.
#[derive(Debug, Clone)]
pub struct Operator {
    uid: u32,
}

impl Operator {
    /// The user of this process.
    fn own() -> Self {
        Self { uid: rustix::process::getuid().as_raw() }
    }

    /// For tests of what operators see.
    #[cfg(test)]
    pub fn of_tests() -> Self {
        Self::own()
    }

    /// Another operator.
    #[cfg(test)]
    pub fn of_user(uid: u32) -> Self {
        Self { uid }
    }

    /// As records name it.
    pub fn name(&self) -> String {
        format!("uid:{}", self.uid)
    }

    /// A record of what the operator does, complete but for patient and object.
    pub fn record(&self, central: &Central, kind: Kind, operation: &str) -> Record {
        let id = central.new_id();
        let node = &central.config.central.node;
        let software = log::software();
        let request = format!("urn:uuid:{id}");
        let mut record = Record::new(id, central.now(), kind, node, &software, "CLI", operation, Outcome::Permit, &request);
        record.user = User { id: Some(self.name()), role: Some("operator".to_owned()), ..User::default() };
        record.organisation = Some(central.config.central.organisation.clone());
        record
    }
}

/// Binds the operators' socket, and serves it until stopped.
///
/// # Errors
/// The path.
pub fn serve(
    path: &Path,
    central: Arc<Central>,
    reload: Option<Arc<Reload>>,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let socket = Socket::bind(path)?;
    Ok(socket.serve(
        move |request, uid| {
            let (central, reload) = (central.clone(), reload.clone());
            async move {
                match (request, reload) {
                    (Request::Reload, Some(reload)) => reload.reload("command").await.map(|()| json!({"reloaded": true})),
                    (request, _) => perform(request, &central, &Operator { uid }).await,
                }
            }
        },
        stop,
    ))
}

async fn perform(request: Request, central: &Central, operator: &Operator) -> anyhow::Result<Value> {
    match request {
        Request::Status => {
            let totals = central.store.read().await?.totals().await?;
            let free = central.space.free_bytes();
            Ok(json!({"version": env!("CARGO_PKG_VERSION"), "held": totals, "free_bytes": free, "refusing": health::refusing(central)}))
        }
        Request::RegistryFind { patient, study } => find(central, operator, patient, study.as_deref()).await,
        Request::AuditRead { stream, patient, reason } => {
            anyhow::ensure!(!reason.trim().is_empty(), "--reason is empty");
            let mut record = operator.record(central, Kind::S, "audit_read");
            record.patient = patient.map(|patient| central.canonical(&patient));
            record.care_reason = Some(reason);
            record.object = Some(audit::Object { documents: vec![format!("log:{stream}")], ..audit::Object::default() });
            central.audit.append(vec![Entry::Record(Box::new(record))]).await?;
            Ok(json!({}))
        }
        Request::Reload => anyhow::bail!("no centre runs here: what it reads again it reads at its start"),
        Request::Consent { consent } => consent::perform(central, operator, consent).await,
        Request::Enrol { enrol } => enrolment::perform(central, operator, enrol).await,
        Request::Patient { patient } => patient::perform(central, operator, patient).await,
    }
}

/// A patient as an operator writes it. The error does not repeat the value.
fn patient(text: &str) -> anyhow::Result<PatientId> {
    PatientId::parse_cx(text).map_err(|_| anyhow::anyhow!("--patient is no CX such as 010190-900P^^^&1.2.246.21&ISO"))
}

async fn find(central: &Central, operator: &Operator, patient: Option<PatientId>, study: Option<&str>) -> anyhow::Result<Value> {
    let patient = patient.map(|patient| central.canonical(&patient));
    let mut record = operator.record(central, Kind::U, "ops");
    record.patient = patient.clone();
    record.object = Some(audit::Object { study: study.map(str::to_owned), ..audit::Object::default() });
    central.audit.append(vec![Entry::Record(Box::new(record))]).await?;
    let mut tx = central.store.read().await?;
    let uids = match (&patient, study) {
        (Some(patient), _) => tx.studies_of(operator, patient, LIST_MAX).await?,
        (None, Some(study)) => vec![study.to_owned()],
        (None, None) => anyhow::bail!("name a patient or a study"),
    };
    let mut studies = Vec::new();
    for uid in &uids {
        studies.extend(tx.study_overview(operator, uid).await?);
    }
    Ok(json!({"studies": studies}))
}

/// Does a command; exit status 0 in order, 1 a problem.
///
/// # Errors
/// What kept it from being done.
pub fn execute(config: &Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status { json } => {
            let answer = ask(config, Request::Status)?;
            if json {
                println!("{answer}");
            } else {
                let held = &answer["held"];
                println!(
                    "instances {}, {} bytes; entries {}, receipts {}",
                    held["instances"], held["bytes"], held["entries"], held["receipts"]
                );
                println!("free {} bytes", answer["free_bytes"]);
                if let Some(reason) = answer["refusing"].as_str() {
                    println!("refusing: {reason}");
                }
            }
            Ok(if answer["refusing"].is_null() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Reload { json } => {
            let answer = ask(config, Request::Reload)?;
            println!("{}", if json { answer.to_string() } else { "read again and in force".to_owned() });
            Ok(ExitCode::SUCCESS)
        }
        Command::Consent(ConsentCommand::Decide { batch, json: _ }) => Ok(consent::decide(config, &batch).unwrap_or_else(|error| {
            eprintln!("idr-central: {error:#}");
            ExitCode::from(2)
        })),
        Command::Consent(ConsentCommand::Explain { decision: Some(id), reason, json, case: _ }) => {
            decisions::explain(config, id, reason.unwrap_or_default(), json)
        }
        Command::Consent(command) => {
            let (consent, json) = command.into_request(config)?;
            let answer = ask(config, Request::Consent { consent })?;
            if json {
                println!("{answer}")
            } else {
                println!("{}", consent::show(&answer))
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Patient(command) => {
            let (patient, json) = command.into_request()?;
            let answer = ask(config, Request::Patient { patient })?;
            if json {
                println!("{answer}");
            } else {
                println!("{}", patient::text(&answer));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(TokenCommand::Authority { name }) => {
            let made = enrolment::make_authority(config, &name)?;
            println!(
                "{} and {} are made; now put the certificate into enrolment_authorities of trust.toml",
                made["certificate"], made["key"]
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(command) => enrol(config, command.into_request()?),
        Command::Peer(command) => enrol(config, command.into_request()),
        Command::Registry(RegistryCommand::Find { patient, study, json }) => {
            let patient = patient.as_deref().map(self::patient).transpose()?;
            let answer = ask(config, Request::RegistryFind { patient, study })?;
            let studies = answer["studies"].as_array().map(Vec::as_slice).unwrap_or_default();
            if json {
                println!("{answer}");
            } else {
                studies.iter().for_each(show_study);
            }
            Ok(if studies.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Command::Receipt(ReceiptCommand::Key { json }) => {
            let holder = Holder::new(&config.central.organisation, &config.central.node)?;
            let nothing_signed = run::never_ran(config);
            let row = Keys::new(config.storage.path.join("keys")).receipt(nothing_signed)?.to_receipt_key(&holder);
            if json {
                println!("{}", json!({"holder": row.holder, "kid": row.kid, "key": row.key}));
            } else {
                println!("[[receipt_keys]]\nholder = \"{}\"\nkid = \"{}\"\nkey = \"{}\"", row.holder, row.kid, row.key);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Receipt(ReceiptCommand::Verify { files, log }) => verify_receipts(config, &files, log),
        Command::Audit(AuditCommand::Verify { decisions, since, id, json }) => {
            let sound = verify_audit(config, json)?;
            let same = !decisions || decisions::verify(config, Wanted { since, id }, json)?;
            Ok(if sound && same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Audit(AuditCommand::Tail { stream, count, patient, reason }) => {
            let patient = patient.as_deref().map(self::patient).transpose()?;
            tail(config, stream, count, patient, reason)
        }
        Command::Migrate { from, to, json } => migrate::migrate(config, from, to, json),
        Command::Fsck { quick, json } => {
            let findings = runtime()?.block_on(fsck(config, quick))?;
            if json {
                println!("{}", json!({"findings": findings}));
            } else {
                findings.iter().for_each(|finding| println!("{finding}"));
                println!("{} findings", findings.len());
            }
            Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn enrol(config: &Config, (enrol, json): (enrolment::Enrol, bool)) -> anyhow::Result<ExitCode> {
    let answer = ask(config, Request::Enrol { enrol })?;
    println!("{}", if json { answer.to_string() } else { enrolment::text(&answer) });
    Ok(ExitCode::SUCCESS)
}

fn show_study(study: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    println!(
        "study {}: {} instances in {} series, {} rejected, {} bytes, stored {} to {}; R3 {}, R4 {}",
        text(&study["study_uid"]),
        study["instances"],
        study["series"],
        study["rejected"],
        study["bytes"],
        text(&study["first_stored"]),
        text(&study["last_stored"]),
        study["commits"],
        study["registrations"]
    );
    for manifest in study["manifests"].as_array().into_iter().flatten() {
        println!(
            "  manifest {} {} version {}, {} references, {} of them not stored, registered {}",
            text(&manifest["document_unique_id"]),
            text(&manifest["status"]),
            manifest["version"],
            manifest["references"],
            manifest["missing"],
            text(&manifest["registered_at"])
        );
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Asks the running centre, or opens its state when none runs.
fn ask(config: &Config, request: Request) -> anyhow::Result<Value> {
    if let Some(answer) = idr_host::control::ask(&config.control_socket(), &request)? {
        return Ok(answer);
    }
    runtime()?.block_on(async {
        let open = Open::open(Arc::new(config.clone()), idr_host::now).await.context("no centre runs, and its state cannot be opened")?;
        let answer = perform(request, &open.central, &Operator::own()).await;
        open.close().await;
        answer
    })
}

/// Every committed row has an object with its size and digest (11 §7; profile 08 §6.3). One line per finding.
///
/// # Errors
/// Database or objects cannot be opened.
pub async fn fsck(config: &Config, quick: bool) -> anyhow::Result<Vec<String>> {
    let store = run::open_store(config, false).await?;
    let objects = Objects::local(&config.storage.path.join("objects"))?;
    let operator = Operator::own();
    let bytes = objects.checked_by(&operator);
    let mut findings = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.read().await?.held_objects(&operator, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.sop_instance_uid.clone());
        for held in &page {
            if let Err(error) = check_object(bytes, held, quick).await {
                findings.push(format!("instance {}: {error}", held.sop_instance_uid));
            }
        }
    }
    after = None;
    loop {
        let page = store.read().await?.held_documents(&operator, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.unique_id.clone());
        for held in &page {
            if let Err(error) = check_document(bytes, held, quick).await {
                findings.push(format!("document {}: {error}", held.unique_id));
            }
        }
    }
    store.close().await;
    Ok(findings)
}

async fn check_object(objects: Reader<'_>, held: &HeldObject, quick: bool) -> anyhow::Result<()> {
    let (size, mut bytes) = objects.open_verified(&held.object_key, &held.transfer_syntax_uid, held.data_set_offset, held.digest).await?;
    anyhow::ensure!(size == held.object_size, "object {} has {size} bytes, the index says {}", held.object_key, held.object_size);
    while !quick && let Some(chunk) = bytes.next().await {
        chunk?;
    }
    Ok(())
}

async fn check_document(objects: Reader<'_>, held: &HeldDocument, quick: bool) -> anyhow::Result<()> {
    let (size, mut bytes) = objects.open(&held.object_key, None).await?;
    anyhow::ensure!(size == held.size, "object {} has {size} bytes, the index says {}", held.object_key, held.size);
    if quick {
        return Ok(());
    }
    let mut sha1 = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    while let Some(chunk) = bytes.next().await {
        sha1.update(&chunk?);
    }
    let same = hex::encode(sha1.finish()).eq_ignore_ascii_case(&held.sha1);
    if same { Ok(()) } else { Err(ObjectError::Altered { key: held.object_key.clone() }.into()) }
}

fn verify_receipts(config: &Config, files: &[PathBuf], log: bool) -> anyhow::Result<ExitCode> {
    let trust = idr_host::files::trust(&config.files.trust)?;
    let holder = Holder::new(&config.central.organisation, &config.central.node)?;
    let own = Keys::new(config.storage.path.join("keys")).receipt(false).ok();
    let mut keys = trust.receipt_keys().to_vec();
    keys.extend(own.map(|signer| signer.to_receipt_key(&holder)));
    let verifier = Verifier::new(&keys)?;
    let mut receipts: Vec<Carried> = Vec::new();
    for file in files {
        receipts.extend(idr_host::files::receipts(file)?);
    }
    if files.is_empty() {
        receipts = runtime()?.block_on(own_log(config, &holder))?;
    }
    let faults: Vec<String> = if log || files.is_empty() {
        let mut holders: Vec<&Holder> = receipts.iter().map(|carried| &carried.receipt().holder).collect();
        holders.sort();
        holders.dedup();
        let mut faults = Vec::new();
        for holder in holders {
            let mut walk = LogWalk::new(Verifier::new(&keys)?, None);
            receipts.iter().filter(|carried| carried.receipt().holder == *holder).for_each(|carried| walk.push(carried));
            faults.extend(walk.finish(None).iter().map(ToString::to_string));
        }
        faults
    } else {
        let fault = |(at, carried): (usize, &Carried)| verifier.verify(carried).err().map(|fault| format!("receipt {at}: {fault}"));
        receipts.iter().enumerate().filter_map(fault).collect()
    };
    faults.iter().for_each(|fault| println!("{fault}"));
    println!("{} receipts, {} faults", receipts.len(), faults.len());
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn own_log(config: &Config, holder: &Holder) -> anyhow::Result<Vec<Carried>> {
    let store = run::open_store(config, false).await?;
    let operator = Operator::own();
    let mut receipts: Vec<Carried> = Vec::new();
    loop {
        let after = receipts.last().map(|carried| carried.receipt().id);
        let page = store.read().await?.receipt_log(&operator, holder, after, PAGE).await?;
        if page.is_empty() {
            store.close().await;
            return Ok(receipts);
        }
        receipts.extend(page);
    }
}

fn log_folder(config: &Config, stream: Stream) -> PathBuf {
    config.storage.path.join("audit").join(format!("{}.{}", config.central.node, stream.name()))
}

/// Whether all of them hold.
fn verify_audit(config: &Config, json: bool) -> anyhow::Result<bool> {
    let keys = Keys::new(config.storage.path.join("keys"));
    let mut public = keys.earlier_checkpoints()?;
    public.push(keys.checkpoint(false)?.public_key());
    let mut sound = true;
    for stream in Stream::ALL {
        let verified = audit::verify(&log_folder(config, stream), &public);
        sound &= verified.is_ok();
        let log = format!("{}.{}", config.central.node, stream.name());
        match (&verified, json) {
            (Ok(found), false) => {
                println!("{log}: holds; {} records, signed up to {}, last hash {}", found.last_seq, found.signed_seq, found.last_hash)
            }
            (Ok(found), true) => println!(
                "{}",
                json!({"log": log, "holds": true, "records": found.last_seq, "signed": found.signed_seq, "checkpoints": found.checkpoints,
                       "last_hash": found.last_hash, "unfinished_bytes": found.unfinished_bytes})
            ),
            (Err(error), false) => println!("{log}: {error}"),
            (Err(error), true) => println!("{}", json!({"log": log, "holds": false, "fault": error.to_string()})),
        }
    }
    Ok(sound)
}

fn tail(config: &Config, name: String, count: usize, wanted: Option<PatientId>, reason: String) -> anyhow::Result<ExitCode> {
    let stream = Stream::ALL.into_iter().find(|stream| stream.name() == name).with_context(|| format!("there is no stream '{name}'"))?;
    // Recorded first: nothing is shown that is not recorded.
    ask(config, Request::AuditRead { stream: name, patient: wanted.clone(), reason })?;
    let key = Keys::new(config.storage.path.join("keys")).body(false).ok();
    for record in audit::tail(&log_folder(config, stream), count, key.as_ref())? {
        let Some(body) = record.body else {
            println!("{}", json!({"seq": record.seq, "time": record.time, "body": "encrypted with another key"}));
            continue;
        };
        if wanted.as_ref().is_none_or(|patient| is_about(&body, patient)) {
            println!("{}", json!({"seq": record.seq, "time": record.time, "body": body}));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn is_about(body: &Value, patient: &PatientId) -> bool {
    let same = |value: &Value| value["id"] == patient.id.as_str() && value["authority"] == patient.authority.as_str();
    body.as_object().is_some_and(|kinds| kinds.values().any(|record| same(&record["patient"]) || same(&record["patient_as_asked"])))
}

#[cfg(test)]
mod tests;

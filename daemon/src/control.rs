//! What operators say and see: a Unix socket of the running appliance, and the commands that use it.
//!
//! One JSON object a line each way. The socket has mode 0600, and the peer must be the same user or root: who may write
//! to it may release studies. Commands that work on the state folder itself (`fsck`, `rebuild`) need the appliance to be
//! stopped; the folder's lock sees to that.
//!
//! # Bounds
//! A request is at most [`REQUEST_BYTES_MAX`] and must come within 10 s; lists are pages of at most 1 000.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use clap::Subcommand;
use idr_host::control::Socket;
use idr_profile::receipt::Carried;
use idr_profile::rules::RuleSets;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backup::{self, BackupCommand};
use crate::certificates::{self, CertCommand};
use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::config::{Config, Priority};
use crate::doctor;
use crate::effective::{self, ConfigCommand};
use crate::enrol::join::{self, JoinArguments};
use crate::forward::Forward;
use crate::forward::priority::Said;
use crate::forward::reconcile::Which;
use crate::header_memory::HeaderMemory;
use crate::health::Counters;
use crate::quarantine::command::{self as quarantine_command, QuarantineCommand};
use crate::quarantine::correction::{Asked, Corrections};
use crate::quarantine::{Cursor, Quarantine};
use crate::queue_command;
use crate::reconcile::{self, Reconcile};
use crate::reload::Reload;
use crate::retention::Retention;
use crate::rule_updates::Preview;
use crate::rulebook::{self, RulesCommand};
use crate::scrub::Scrub;
use crate::spool::record::check_reason;
use crate::spool::{Decision, FileSpool, SpoolId, Tenant, Verb};
use crate::study::Studies;
use crate::support_bundle;
use crate::test_send::{self, TestCommand};
use crate::watch::{self, Shown};

/// Largest request line, bytes.
pub const REQUEST_BYTES_MAX: u64 = 65_536;

/// Commands of an operator.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is held here, by state, and how the centre is.
    Status(Shown),
    /// Studies.
    #[command(subcommand)]
    Study(StudyCommand),
    /// Items on their way.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Custody receipts.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Objects that wait for a decision.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Rules of the profile, and what others would do to the objects held here.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// What a row of the outcome table means: `explain CS-A700`.
    Explain {
        /// Row id.
        row: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Backups of state and configuration.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Look at everything that an operator would: exit status 0 in order, 3 something will become a problem, 1 something is one.
    Doctor {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Write one file for those who help from outside: numbers and states, nothing of a patient.
    SupportBundle {
        /// File to make, JSON.
        file: PathBuf,
    },
    /// Look at one peer: `echo centre`, or the name of a device that this site calls.
    Echo {
        /// Its name.
        peer: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Try the whole way with an invented study.
    #[command(subcommand)]
    Test(TestCommand),
    /// Join the centre by a join string; the same as `cert join`.
    Enrol(Box<JoinArguments>),
    /// Certificates of this site.
    #[command(subcommand)]
    Cert(CertCommand),
    /// What is configured.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Those whom this site calls, and who calls it.
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Check every file of the spool; the appliance must be stopped.
    Fsck {
        /// Also compute the digest of every object.
        #[arg(long)]
        deep: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Make the index again from the files; the appliance must be stopped.
    Rebuild,
    /// Read the configuration again: tables, rules, trust, certificates; nothing changes if any of it is wrong.
    Reload {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Whether the centre holds what was handed over to it.
    #[command(subcommand)]
    Reconcile(ReconcileCommand),
    /// Send again what the centre does not hold of some studies; exit status 1 if that cannot be said of all of them.
    Replay(ReplayArguments),
    /// How far the reading of every object again is, and what it found damaged; exit status 1 if anything is.
    Scrub {
        /// Begin a pass now, unless one goes on.
        #[arg(long)]
        now: bool,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// Commands about studies.
#[derive(Debug, Subcommand)]
pub enum StudyCommand {
    /// Its instances, states and receipts.
    Show {
        /// Study Instance UID.
        uid: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// End the wait for more instances of a study.
    Release {
        /// Study Instance UID.
        uid: String,
    },
}

/// Commands about the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Items by state and last outcome, and studies whose manifest is held.
    List(Shown),
    /// What of a study is not registered, and why.
    Show {
        /// Study Instance UID.
        uid: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Give a held object, or held items of a study, another try now; this also ends a hold of `queue hold`.
    Release {
        /// Object, or Study Instance UID.
        uid: String,
    },
    /// Keep an object or a study here until `queue release`; exit status 1 if that does not hold for all of it.
    Hold(DecisionArguments),
    /// Never send an object, or what of a study was not sent: it becomes `rejected`, for good, and its bytes are kept; exit status 1 if
    /// that does not hold for all of it.
    Cancel(DecisionArguments),
    /// Send items of a study that wait for their next try now; what is held stays held.
    Retry {
        /// Study Instance UID.
        uid: String,
    },
    /// Put a study before others, or not: it is sent and registered first, and `[wan]` does not hold it back.
    Priority {
        /// Study Instance UID.
        uid: String,
        /// Its lane.
        priority: Priority,
        /// Why, in one line and without patient data; it is kept in the journal.
        #[arg(long)]
        reason: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Wait until nothing is on its way to the centre; exit status 1 if something still is.
    Drain {
        /// Longest wait.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
}

/// What is decided about, and why.
#[derive(Debug, clap::Args)]
pub struct DecisionArguments {
    /// Object, or Study Instance UID.
    pub target: String,
    /// Why, in one line and without patient data; it is kept in the journal.
    #[arg(long)]
    pub reason: String,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// Commands about peers.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// The peers of the configuration.
    List {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// As `echo`.
    Test {
        /// Its name.
        peer: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// Commands about what the centre holds.
#[derive(Debug, Subcommand)]
pub enum ReconcileCommand {
    /// Ask now, unless a run goes on; `report` has what it found.
    Run {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// What the last run found; exit status 1 if it ended early, or the centre did not hold all of it.
    Report {
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// The differences of a study were looked into: they stay in the report, and are no alarm any more.
    Acknowledge {
        /// Study Instance UID.
        uid: String,
        /// Why, in one line and without patient data; it is kept in the journal.
        #[arg(long)]
        reason: String,
    },
}

/// Which studies are sent again.
#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    /// Studies of which an object came since: `30d`, `12h` or `2026-01-01`.
    #[arg(long, required_unless_present = "study", conflicts_with = "study")]
    since: Option<rulebook::Since>,
    /// This study: its Study Instance UID.
    #[arg(long)]
    study: Option<String>,
    /// Also describe it anew: a new revision of its manifest, by the maps and code lists in force now.
    #[arg(long, requires = "study")]
    republish: bool,
    /// Machine-readable.
    #[arg(long)]
    json: bool,
}

/// Commands about receipts.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Receipts of a study.
    Show {
        /// Study Instance UID.
        uid: String,
    },
    /// Verify receipts offline with the public keys of `trust.toml`; `--log` also their chain.
    Verify {
        /// Files with one receipt a line, or a JSON array.
        files: Vec<PathBuf>,
        /// The files are a whole log: verify the chain of hashes too.
        #[arg(long)]
        log: bool,
    },
}

/// What goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    Status,
    StudyShow { uid: String },
    StudyRelease { uid: String },
    QueueList,
    QueueRelease { uid: String },
    QueueRetry { uid: String },
    QueueDecide { target: String, verb: Verb, reason: String },
    QueuePriority { uid: String, priority: Priority, reason: String },
    QuarantineList { cursor: Option<Cursor> },
    QuarantineShow { object: SpoolId },
    QuarantineDecide { target: String, verb: Verb, reason: String },
    QuarantineCorrect { asked: Asked, dry_run: bool },
    Reload,
    Scrub { now: bool },
    Reconcile { now: bool },
    ReconcileAcknowledge { uid: String, reason: String },
    Replay { since: Option<Timestamp>, study: Option<String>, republish: bool },
    RulesPreviewed { rule_set: String, edition: String, reason: String, objects: u64, refused: u64, quarantined: u64 },
}

/// What the socket can reach.
#[derive(Clone)]
pub struct Operator {
    /// The spool.
    pub spool: FileSpool,
    /// What was counted since the start.
    pub counters: Arc<Counters>,
    /// When that was.
    pub started: Timestamp,
    /// The studies.
    pub studies: Arc<Studies>,
    /// The forwarder, if there is a centre.
    pub forward: Option<Arc<Forward>>,
    /// Requests for storage commitment.
    pub commitments: Arc<Commitments>,
    /// What devices said of their studies.
    pub completeness: Arc<Completeness>,
    /// Whose items.
    pub tenants: Vec<Tenant>,
    /// Corrections.
    pub corrections: Arc<Corrections>,
    /// Rule sets at hand.
    pub rules: Arc<ArcSwap<RuleSets>>,
    /// Reads the configuration again.
    pub reload: Arc<Reload>,
    /// Reading every object again.
    pub scrub: Arc<Scrub>,
    /// Memory of headers on their way.
    pub header_memory: HeaderMemory,
    /// The local cache, if there is a centre.
    pub retention: Option<Arc<Retention>>,
    /// What the centre holds; none without a centre.
    pub reconcile: Option<Arc<Reconcile>>,
}

/// Binds the operators' socket, and serves it until stopped.
///
/// # Errors
/// The path.
pub fn serve(path: &Path, operator: Operator, stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let socket = Socket::bind(path)?;
    Ok(socket.serve(
        move |request, user| {
            let operator = operator.clone();
            async move { perform(request, user, &operator).await }
        },
        stop,
    ))
}

async fn perform(request: Request, user: u32, operator: &Operator) -> anyhow::Result<Value> {
    match request {
        Request::Status => {
            let states: Vec<Value> = operator
                .spool
                .seam()
                .totals()
                .iter()
                .map(
                    |((tenant, state), amount)| json!({"tenant": tenant, "state": state, "objects": amount.objects, "bytes": amount.bytes}),
                )
                .collect();
            let refusing = operator.tenants.iter().find_map(|tenant| operator.spool.seam().refusing(tenant)).map(|r| r.to_string());
            let centre = match &operator.forward {
                Some(forward) => forward.status(),
                None => json!({"configured": false}),
            };
            let (stored, stored_bytes) = operator.counters.stored();
            let (waiting, held) = operator.commitments.totals();
            let commitments = json!({"waiting": waiting, "held": held});
            Ok(json!({
                "states": states, "refusing": refusing, "free_bytes": operator.spool.free_bytes(), "centre": centre, "commitments": commitments,
                "ingest": {"since": operator.started, "bytes": stored_bytes, "objects": stored},
                "reload": operator.reload.last(),
                "damaged_objects": operator.scrub.damaged(),
                "header_memory": operator.header_memory.usage(),
                "cache": operator.retention.as_ref().map(|retention| retention.show()),
            }))
        }
        Request::Reload => Ok(serde_json::to_value(operator.reload.reload("command").await?)?),
        Request::StudyShow { uid } => study(&uid, operator).await,
        Request::StudyRelease { uid } => {
            anyhow::ensure!(operator.studies.release(&uid).await?, "no study {uid} is here");
            Ok(json!({"released": uid}))
        }
        Request::QueueList => queue(operator).await,
        Request::Scrub { now } => {
            if now {
                operator.scrub.ask();
            }
            Ok(operator.scrub.show())
        }
        Request::Reconcile { now } => {
            let Some(reconcile) = &operator.reconcile else { anyhow::bail!("no centre is configured") };
            if now {
                reconcile.ask();
            }
            Ok(reconcile.show())
        }
        Request::ReconcileAcknowledge { uid, reason } => {
            let reconcile = operator.reconcile.as_ref().context("no centre is configured")?;
            Ok(json!({"acknowledged": reconcile.acknowledge(&uid, &reason, user).await?}))
        }
        Request::Replay { since, study, republish } => {
            let reconcile = operator.reconcile.clone().context("no centre is configured")?;
            // It goes on when the operator's connection ends.
            tokio::spawn(async move {
                let which = match (&study, since) {
                    (Some(study_uid), _) => Which::Study(study_uid),
                    (None, Some(since)) => Which::Since(since),
                    (None, None) => anyhow::bail!("neither a study nor an instant is named"),
                };
                Ok(serde_json::to_value(reconcile.replay(which, republish, user).await?)?)
            })
            .await?
        }
        Request::RulesPreviewed { rule_set, edition, reason, objects, refused, quarantined } => {
            check_reason(&reason)?;
            let preview = Preview { rule_set, edition, at: idr_host::now(), user, reason, objects, refused, quarantined };
            Ok(serde_json::to_value(operator.reload.previewed(preview).await?)?)
        }
        Request::QueueRelease { uid } => match &operator.forward {
            None => anyhow::bail!("no centre is configured"),
            Some(forward) => match uid.parse::<SpoolId>() {
                Err(_) => Ok(json!({"released": forward.release(&uid).await?})),
                Ok(id) => match forward.release_object(id).await?.with_context(|| format!("there is no object {id}"))? {
                    Ok(()) => Ok(json!({"released": 1})),
                    Err(why) => anyhow::bail!("object {id} is not released: {why}"),
                },
            },
        },
        Request::QueueRetry { uid } => match &operator.forward {
            None => anyhow::bail!("no centre is configured"),
            Some(forward) => Ok(json!({"due": forward.retry_now(&uid).await?})),
        },
        Request::QueueDecide { target, verb: verb @ (Verb::Hold | Verb::Cancel), reason } => {
            let forward = operator.forward.as_ref().context("no centre is configured")?;
            let decided = forward.decide(&target, &Decision { verb, at: idr_host::now(), user, reason }).await?;
            let decided = decided.with_context(|| format!("there is no object and no study {target}"))?;
            Ok(json!({"target": target, "verb": verb, "decided": decided.decided, "refused": decided.refused}))
        }
        Request::QueueDecide { .. } => anyhow::bail!("that is no decision about the queue"),
        Request::QueuePriority { uid, priority, reason } => {
            let forward = operator.forward.as_ref().context("no centre is configured")?;
            let said = Said { at: idr_host::now(), user, reason };
            let objects = forward.prioritise(&uid, priority == Priority::Urgent, &said).await?;
            let objects = objects.with_context(|| format!("no study {uid} is here"))?;
            Ok(json!({"study_uid": uid, "priority": priority, "objects": objects}))
        }
        Request::QuarantineCorrect { asked, dry_run } => {
            // It goes on when the operator's connection ends: the same command again waits for it and says what became of it.
            let corrections = operator.corrections.clone();
            tokio::spawn(async move { corrections.correct(asked, user, dry_run).await }).await?
        }
        Request::QuarantineList { .. } | Request::QuarantineShow { .. } | Request::QuarantineDecide { .. } => {
            quarantine(request, user, operator).await
        }
    }
}

async fn study(uid: &str, operator: &Operator) -> anyhow::Result<Value> {
    let spool = operator.spool.seam();
    for tenant in &operator.tenants {
        let Some(study) = spool.study(tenant, uid).await? else { continue };
        let mut instances = Vec::new();
        let mut after = None;
        while instances.len() < 100_000 {
            let page = spool.members(tenant, uid, after, 1000).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            // Neither patient nor accession: what an operator needs is where it is and why.
            instances.extend(page.iter().map(|entry| {
                json!({
                    "object": entry.id(), "sop_instance_uid": entry.record.announced.sop_instance_uid,
                    "digest": entry.record.digest, "bytes": entry.record.size_bytes, "state": entry.progress.state,
                    "since": entry.progress.since, "due": entry.progress.not_before, "attempts": entry.progress.attempts, "outcome": entry.progress.outcome,
                    "urgent": entry.progress.urgent, "decision": entry.progress.decision, "findings": entry.record.facts.findings,
                })
            }));
        }
        let (log, of) = (operator.spool.receipts().clone(), uid.to_owned());
        let receipts: Vec<Value> = tokio::task::spawn_blocking(move || log.of_study(&of))
            .await??
            .iter()
            .map(|carried| serde_json::from_str(&carried.to_json()).unwrap_or(Value::Null))
            .collect();
        // What a listing says that cannot be read is no reason not to show the study.
        let listed = operator.completeness.listed(tenant, uid).await.ok().flatten();
        let listed = listed.map(|listed| json!({"listed": listed.listed, "missing": listed.missing, "since": listed.since}));
        return Ok(json!({
            "tenant": tenant, "study_uid": uid, "listed": listed, "first_arrival": study.first_arrival, "last_arrival": study.last_arrival,
            "states": study.states, "notes": study.notes, "instances": instances, "receipts": receipts,
        }));
    }
    anyhow::bail!("no study {uid} is here")
}

async fn quarantine(request: Request, user: u32, operator: &Operator) -> anyhow::Result<Value> {
    let spool = operator.spool.seam();
    let rules = operator.rules.load_full();
    let quarantine = Quarantine { spool: &*spool, tenants: &operator.tenants, rules, now: idr_host::now() };
    match request {
        Request::QuarantineShow { object } => quarantine.show(object).await?.with_context(|| format!("there is no object {object}")),
        Request::QuarantineDecide { target, verb, reason } => {
            let decided = quarantine.decide(&target, verb, user, &reason).await?;
            let decided = decided.with_context(|| format!("there is no object and no study {target}"))?;
            // What waits for its study again is looked at now.
            for one in decided.iter().filter(|one| one.refused.is_none()) {
                if let Some(entry) = spool.entry(one.object).await? {
                    operator.studies.again(&entry.record.announced.tenant, &entry.record.facts.study_uid);
                }
            }
            Ok(json!({"decided": decided}))
        }
        Request::QuarantineList { cursor } => Ok(quarantine.list(cursor).await?),
        _ => anyhow::bail!("no request about quarantine"),
    }
}

async fn queue(operator: &Operator) -> anyhow::Result<Value> {
    let spool = operator.spool.seam();
    let mut groups: std::collections::BTreeMap<(String, String), (u64, Timestamp, u64)> = std::collections::BTreeMap::new();
    for tenant in &operator.tenants {
        for state in ["held", "queued", "sending", "sent", "committed", "quarantined"] {
            for entry in spool.in_state(tenant, state, None, 1000).await? {
                let key = (entry.progress.state.to_string(), entry.progress.outcome.clone().unwrap_or_default());
                let group = groups.entry(key).or_insert((0, entry.progress.since, 0));
                group.0 += 1;
                group.1 = group.1.min(entry.progress.since);
                group.2 += u64::from(entry.progress.urgent);
            }
        }
    }
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|((state, outcome), (objects, oldest, urgent))| {
            json!({"state": state, "outcome": outcome, "objects": objects, "oldest": oldest, "urgent": urgent})
        })
        .collect();
    let held = match &operator.forward {
        Some(forward) => forward.held_manifests().await?,
        None => Vec::new(),
    };
    let manifests: Vec<Value> =
        held.iter().map(|(study, row)| json!({"tenant": study.tenant, "study_uid": study.study_uid, "outcome": row})).collect();
    Ok(json!({"groups": groups, "manifests": manifests}))
}

/// Does a command; the exit status is that of OPERATIONS: 0 in order, 1 a problem.
///
/// # Errors
/// What kept it from being done.
pub fn execute(config: &Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status(shown) => watch::show(shown, || ask(config, &Request::Status), status_lines),
        Command::Study(StudyCommand::Show { uid, json }) => {
            let answer = ask(config, &Request::StudyShow { uid })?;
            show(&answer, json, |answer| {
                println!(
                    "study {}, first {}, last {}",
                    text(&answer["study_uid"]),
                    text(&answer["first_arrival"]),
                    text(&answer["last_arrival"])
                );
                for row in answer["instances"].as_array().into_iter().flatten() {
                    println!(
                        "{}  {:<16} {:>12} {}",
                        text(&row["object"]),
                        text(&row["state"]),
                        row["bytes"],
                        text(&row["sop_instance_uid"])
                    );
                }
                println!("receipts: {}", answer["receipts"].as_array().map_or(0, Vec::len));
            })
        }
        Command::Study(StudyCommand::Release { uid }) => {
            ask(config, &Request::StudyRelease { uid: uid.clone() })?;
            println!("study {uid}: the wait has ended");
            Ok(ExitCode::SUCCESS)
        }
        Command::Queue(QueueCommand::List(shown)) => watch::show(shown, || ask(config, &Request::QueueList), queue_command::list_lines),
        Command::Queue(QueueCommand::Show { uid, json }) => queue_command::show(config, uid, json),
        Command::Queue(QueueCommand::Hold(arguments)) => queue_command::decide(config, arguments, Verb::Hold),
        Command::Queue(QueueCommand::Cancel(arguments)) => queue_command::decide(config, arguments, Verb::Cancel),
        Command::Queue(QueueCommand::Priority { uid, priority, reason, json }) => {
            let answer = ask(config, &Request::QueuePriority { uid, priority, reason })?;
            show(&answer, json, |answer| {
                println!(
                    "study {} is {}: {} objects of it are on their way",
                    text(&answer["study_uid"]),
                    text(&answer["priority"]),
                    answer["objects"]
                );
            })
        }
        Command::Queue(QueueCommand::Drain { seconds }) => queue_command::drain(config, seconds),
        Command::Queue(QueueCommand::Retry { uid }) => {
            let answer = ask(config, &Request::QueueRetry { uid })?;
            println!("{} items are due now", answer["due"]);
            Ok(ExitCode::SUCCESS)
        }
        Command::Cert(command) => certificates::execute(config, command),
        Command::Enrol(arguments) => join::execute(config, *arguments),
        Command::Config(command) => effective::execute(config, command),
        Command::Queue(QueueCommand::Release { uid }) => {
            let answer = ask(config, &Request::QueueRelease { uid })?;
            println!("{} items are due now", answer["released"]);
            Ok(ExitCode::SUCCESS)
        }
        Command::Receipt(ReceiptCommand::Show { uid }) => {
            let answer = ask(config, &Request::StudyShow { uid })?;
            for carried in answer["receipts"].as_array().into_iter().flatten() {
                // The form in which it is carried, so that `verify` takes what is shown: members in this order, keys sorted.
                println!("{{\"receipt\":{},\"jws\":{}}}", carried["receipt"], carried["jws"]);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Receipt(ReceiptCommand::Verify { files, log }) => verify(config, &files, log),
        Command::SupportBundle { file } => support_bundle::execute(config, &file),
        Command::Test(command) => test_send::execute(config, command),
        Command::Doctor { json } => doctor::execute(config, json),
        Command::Echo { peer, json } | Command::Peer(PeerCommand::Test { peer, json }) => doctor::echo(config, &peer, json),
        Command::Peer(PeerCommand::List { json }) => Ok(doctor::list_peers(config, json)),
        Command::Backup(command) => backup::execute(config, command),
        Command::Quarantine(command) => quarantine_command::execute(config, command),
        Command::Rules(command) => rulebook::execute(config, command),
        Command::Explain { row, json } => {
            let outcomes = idr_profile::outcome::Outcomes::base();
            let explained = outcomes.explain(&row);
            anyhow::ensure!(!explained.is_empty(), "'{row}' is no row and no status of the outcome table");
            for row in explained {
                if json {
                    println!(
                        "{}",
                        json!({"row": &*row.row, "signal": row.signal, "outcome": row.outcome, "soap": row.soap, "breaker": row.breaker, "effect": row.effect})
                    );
                } else {
                    println!("{}  {}\n    outcome {}; {}", row.row, row.signal, row.outcome, row.effect);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Fsck { deep, json } => {
            let (spool, recovery) = crate::site::open_spool(config, false)?;
            let findings = spool.fsck(deep)?;
            let alarms = recovery.alarms();
            if json {
                let found: Vec<String> = findings.iter().map(|finding| format!("{finding:?}")).collect();
                println!("{}", json!({"findings": found, "alarms": alarms}));
            } else {
                alarms.iter().for_each(|alarm| println!("{alarm}"));
                findings.iter().for_each(|finding| println!("{finding:?}"));
                println!("{} findings", findings.len());
            }
            spool.close(idr_host::now())?;
            Ok(if findings.is_empty() && alarms.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Reload { json } => {
            let answer = ask(config, &Request::Reload)?;
            show(&answer, json, |answer| {
                println!("the configuration was read again and is in force");
                for key in answer["restart"].as_array().into_iter().flatten() {
                    println!("{} changed and waits for a restart", text(key));
                }
            })
        }
        Command::Rebuild => {
            let (spool, recovery) = crate::site::open_spool(config, true)?;
            recovery.alarms().iter().for_each(|alarm| println!("{alarm}"));
            println!("index made again: {} objects", recovery.added);
            spool.close(idr_host::now())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Replay(arguments) => replay(config, arguments),
        Command::Reconcile(ReconcileCommand::Acknowledge { uid, reason }) => {
            let answer = ask(config, &Request::ReconcileAcknowledge { uid: uid.clone(), reason })?;
            println!("study {uid}: {} differences acknowledged", answer["acknowledged"]);
            Ok(ExitCode::SUCCESS)
        }
        Command::Reconcile(ReconcileCommand::Run { json }) => {
            let answer = ask(config, &Request::Reconcile { now: true })?;
            show(&answer, json, |_| println!("the centre is asked; `idr-site reconcile report` has what it answers"))
        }
        Command::Reconcile(ReconcileCommand::Report { json }) => {
            let answer = ask(config, &Request::Reconcile { now: false })?;
            show(&answer, json, |answer| reconcile::lines(answer).iter().for_each(|line| println!("{line}")))?;
            let found = &answer["found"];
            let count = |key: &str| found[key].as_u64().unwrap_or_default();
            let holds = answer["failed"].is_null() && count("missing") + count("different") <= count("acknowledged");
            Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Scrub { now, json } => {
            let answer = ask(config, &Request::Scrub { now })?;
            show(&answer, json, |answer| scrub_lines(answer).iter().for_each(|line| println!("{line}")))?;
            Ok(if answer["damaged_objects"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn replay(config: &Config, arguments: ReplayArguments) -> anyhow::Result<ExitCode> {
    let ReplayArguments { since, study, republish, json } = arguments;
    let since = since.map(|since| since.instant(idr_host::now()));
    let answer = ask(config, &Request::Replay { since, study, republish })?;
    show(&answer, json, |answer| {
        let found = &answer["found"];
        println!(
            "{} studies with {} instances asked about: {} missing at the centre, {} different, {} queued again",
            found["studies"], found["instances"], found["missing"], found["different"], found["queued"]
        );
        if answer["republished"] == true {
            println!("a new revision of the manifest is on its way");
        }
    })?;
    let count = |key: &str| answer["found"][key].as_u64().unwrap_or_default();
    let all = count("undetermined") == 0 && count("queued") == count("missing") + count("different");
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `status` says to people.
fn status_lines(answer: &Value) -> Vec<String> {
    let mut lines = vec![format!("{:<12} {:<12} {:>10} {:>16}", "tenant", "state", "objects", "bytes")];
    for row in answer["states"].as_array().into_iter().flatten() {
        let (objects, bytes) = (row["objects"].to_string(), row["bytes"].to_string());
        lines.push(format!("{:<12} {:<12} {objects:>10} {bytes:>16}", text(&row["tenant"]), text(&row["state"])));
    }
    lines.push(format!("free {} bytes", answer["free_bytes"]));
    let commitments = &answer["commitments"];
    if commitments["waiting"].as_u64().unwrap_or_default() + commitments["held"].as_u64().unwrap_or_default() > 0 {
        lines.push(format!("storage commitment: {} requests wait for their report, {} held", commitments["waiting"], commitments["held"]));
    }
    let memory = &answer["header_memory"];
    if memory["waiting"].as_u64().is_some_and(|waiting| waiting > 0) {
        let (waiting, bytes, most) = (&memory["waiting"], &memory["bytes"], &memory["bytes_max"]);
        lines.push(format!("{waiting} objects wait to be read on: the headers on their way take {bytes} of {most} bytes of memory"));
    }
    let cache = &answer["cache"];
    if let (Some(bytes), Some(most)) = (cache["bytes"].as_u64(), cache["bytes_max"].as_u64())
        && bytes > most
    {
        let given_up = if cache["release"] == true { "are given up as soon as they may" } else { "stay: cache.release is false" };
        lines.push(format!("what the centre holds has {bytes} bytes here, more than cache.bytes_max, {most}: its local copies {given_up}"));
    }
    lines.push(format!("centre: {}", answer["centre"]));
    let reload = &answer["reload"];
    lines.extend(reload["refused"].as_str().map(|cause| {
        format!("configuration read again at {} and not accepted, the earlier one is in force: {cause}", text(&reload["at"]))
    }));
    let restart: Vec<&str> = reload["restart"].as_array().into_iter().flatten().map(text).collect();
    lines.extend((!restart.is_empty()).then(|| format!("waits for a restart: {}", restart.join(", "))));
    if answer["damaged_objects"].as_u64().is_some_and(|damaged| damaged > 0) {
        lines.push(format!("{} objects are damaged: `idr-site scrub` names them", answer["damaged_objects"]));
    }
    lines.extend(answer["refusing"].as_str().map(|refusal| format!("new objects are refused: {refusal}")));
    lines
}

/// What `scrub` says to people.
fn scrub_lines(answer: &Value) -> Vec<String> {
    let when = |key: &str| answer[key].as_str().unwrap_or("never").to_owned();
    let mut lines = vec![match answer["running"].as_bool() {
        Some(true) => format!(
            "a pass goes on since {}: {} of {} objects, {} bytes read, at most {} bytes per second",
            when("begun"),
            answer["objects"],
            answer["held_objects"],
            answer["bytes"],
            answer["bytes_per_second"]
        ),
        _ => format!(
            "no pass goes on; the last one began {} and read {} objects, {} bytes",
            when("begun"),
            answer["objects"],
            answer["bytes"]
        ),
    }];
    lines.push(format!("last complete pass: {}; a new one every {} days", when("finished"), answer["interval_days"]));
    for row in answer["damaged"].as_array().into_iter().flatten() {
        lines.push(format!("{}  damaged since {}: {}", text(&row["object"]), text(&row["found"]), text(&row["what"])));
    }
    lines.push(format!("{} objects damaged", answer["damaged_objects"]));
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn show(answer: &Value, json: bool, print: impl FnOnce(&Value)) -> anyhow::Result<ExitCode> {
    if json {
        println!("{answer}");
    } else {
        print(answer);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn ask(config: &Config, request: &Request) -> anyhow::Result<Value> {
    let path = config.control_socket();
    idr_host::control::ask(&path, request)?.with_context(|| format!("{}: the appliance does not answer; is it running?", path.display()))
}

fn verify(config: &Config, files: &[PathBuf], log: bool) -> anyhow::Result<ExitCode> {
    let trust = idr_host::files::trust(&config.files.trust)?;
    let own = crate::receipts::KeyFile::new(config.storage.path.join("keys")).load_or_create(false).ok();
    let holder = idr_profile::receipt::Holder::new(&config.site.organisation, &config.site.id)?;
    let mut keys = trust.receipt_keys().to_vec();
    keys.extend(own.iter().flatten().map(|signer| signer.to_receipt_key(&holder)));
    let verifier = idr_profile::receipt::Verifier::new(&keys)?;
    let mut receipts: Vec<Carried> = Vec::new();
    for file in files {
        receipts.extend(idr_host::files::receipts(file)?);
    }
    let faults: Vec<String> = if log {
        let mut walk = idr_profile::receipt::LogWalk::new(verifier, None);
        receipts.iter().filter(|carried| carried.receipt().holder == holder).for_each(|carried| walk.push(carried));
        walk.finish(None).iter().map(ToString::to_string).collect()
    } else {
        let fault = |(at, carried): (usize, &Carried)| verifier.verify(carried).err().map(|fault| format!("receipt {at}: {fault}"));
        receipts.iter().enumerate().filter_map(fault).collect()
    };
    faults.iter().for_each(|fault| println!("{fault}"));
    println!("{} receipts, {} faults", receipts.len(), faults.len());
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_shows_people_what_it_shows_machines() {
        let answer = json!({
            "states": [{"tenant": "default", "state": "queued", "objects": 12, "bytes": 3_400}],
            "free_bytes": 53_687_091_200_u64, "centre": {"configured": false}, "refusing": "the disk is full",
        });
        let lines = status_lines(&answer);
        assert_eq!(lines[1], "default      queued               12             3400");
        assert_eq!(lines[2..], ["free 53687091200 bytes", "centre: {\"configured\":false}", "new objects are refused: the disk is full"]);
    }
}

//! `consent …`: declarations as an operator records, lists and ends them, and why something is or is not shown.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use idr_ihe::metadata::PatientId;
use idr_profile::access::{CaseFile, DenialTarget, Sector};
use idr_profile::identifier::Specifier;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Operator;
use crate::central::Central;
use crate::config::Config;
use crate::consent::declarations::{self, Act, Case, Ending, Performer, Recording};
use crate::policy::{self, Reading};

/// Commands about declarations.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Record that a patient was informed, consents, withdraws a consent, or denies.
    Record {
        /// Patient, as CX: `010190-900P^^^&1.2.246.21&ISO`.
        #[arg(long)]
        patient: String,
        /// What is declared.
        #[arg(long)]
        kind: Kind,
        /// Day of the decision; absent: today.
        #[arg(long)]
        decided_on: Option<Date>,
        /// Consent and withdrawal: `health` or `social`.
        #[arg(long, default_value = "health")]
        sector: String,
        /// Denial: `all`, `provider:OID`, `register:OID/CODE[/SPECIFIER]`, `unit:OID`, `episode:OID`, `service-event:OID`.
        #[arg(long, default_value = "all")]
        target: String,
        /// Denial: the patient allows use in an emergency. Without this flag the denial holds in an emergency too.
        #[arg(long)]
        emergency_allowed: bool,
        /// Denial: only data from this day on.
        #[arg(long)]
        data_from: Option<Date>,
        /// Denial: only data up to this day.
        #[arg(long)]
        data_to: Option<Date>,
        /// Denial: first day of effect; absent: the day of the decision.
        #[arg(long)]
        valid_from: Option<Date>,
        /// Informing: `fi`, `sv`, `en`.
        #[arg(long, default_value = "fi")]
        language: String,
        /// Informing: version of the text that was given.
        #[arg(long, default_value = "unknown")]
        information_version: String,
        /// Legal representative who decided: id and name, `ID=NAME`; absent: the patient.
        #[arg(long)]
        representative: Option<String>,
        /// SHA-256 of the signed document.
        #[arg(long)]
        document_sha256: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Declarations of a patient.
    List {
        /// Patient, as CX.
        #[arg(long)]
        patient: String,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// End a denial.
    End {
        /// Id of the denial.
        id: String,
        /// It was never meant, instead of ended by the patient.
        #[arg(long)]
        entered_in_error: bool,
        /// Legal representative who decided, `ID=NAME`; absent: the patient.
        #[arg(long)]
        representative: Option<String>,
        /// Day of the decision; absent: today.
        #[arg(long)]
        decided_on: Option<Date>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
    /// Decide cases that stand in a file, without a centre: see docs/consent-decide.md. Exit status 1: not as a case expects.
    Decide {
        /// File of cases (`idr-decide/1`).
        #[arg(long)]
        batch: PathBuf,
        /// Machine-readable, which the answer is in any case.
        #[arg(long)]
        json: bool,
    },
    /// Which rule decides a case, and why: JSON with `patient`, `requester` (claims), `document`, `operation`, `at`; or why a
    /// decision of the log was decided so.
    Explain {
        /// File with the case.
        #[arg(required_unless_present = "decision", conflicts_with = "decision")]
        case: Option<PathBuf>,
        /// A `decision_id` of the log.
        #[arg(long, requires = "reason")]
        decision: Option<uuid::Uuid>,
        /// Why you read the log; recorded.
        #[arg(long)]
        reason: Option<String>,
        /// Machine-readable.
        #[arg(long)]
        json: bool,
    },
}

/// What a patient can declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Was informed.
    Informing,
    /// Consents to disclosure.
    Consent,
    /// Withdraws a consent.
    Withdrawal,
    /// Denies.
    Denial,
}

/// What goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Consent {
    Record(Recording),
    List { patient: PatientId },
    End { id: String, ending: Ending, performer: Performer, decided_on: Date },
    Explain(Box<Case>),
}

impl ConsentCommand {
    /// The request, and whether its answer is for machines.
    pub(super) fn into_request(self, config: &Config) -> anyhow::Result<(Consent, bool)> {
        let today =
            || -> anyhow::Result<Date> { Ok(jiff::tz::TimeZone::get(&config.central.timezone)?.to_datetime(idr_host::now()).date()) };
        Ok(match self {
            Self::Record {
                patient,
                kind,
                decided_on,
                sector,
                target,
                emergency_allowed,
                data_from,
                data_to,
                valid_from,
                language,
                information_version,
                representative,
                document_sha256,
                json,
            } => {
                let act = match kind {
                    Kind::Informing => Act::Informing { language, information_version },
                    Kind::Consent => Act::Consent { sector: sector_of(&sector)? },
                    Kind::Withdrawal => Act::Withdrawal { sector: sector_of(&sector)? },
                    Kind::Denial => {
                        let target = target_of(&target, today()?)?;
                        Act::Denial { target, emergency_allowed, data_from, data_to, valid_from }
                    }
                };
                let decided_on = decided_on.map_or_else(today, Ok)?;
                let (patient, performer) = (super::patient(&patient)?, performer(representative)?);
                (Consent::Record(Recording { patient, act, performer, decided_on, document_sha256 }), json)
            }
            Self::List { patient, json } => (Consent::List { patient: super::patient(&patient)? }, json),
            Self::End { id, entered_in_error, representative, decided_on, json } => {
                let ending = if entered_in_error { Ending::EnteredInError } else { Ending::Ended };
                let decided_on = decided_on.map_or_else(today, Ok)?;
                (Consent::End { id, ending, performer: performer(representative)?, decided_on }, json)
            }
            Self::Decide { .. } => anyhow::bail!("cases are decided without a centre"),
            Self::Explain { case, json, .. } => {
                let case = case.context("name a file with the case")?;
                let text = std::fs::read_to_string(&case).with_context(|| format!("{}: cannot be read", case.display()))?;
                // What serde says could repeat a value of the file; its place does not.
                let case: Case = serde_json::from_str(&text)
                    .map_err(|error| anyhow::anyhow!("{}: no case at line {} column {}", case.display(), error.line(), error.column()))?;
                (Consent::Explain(Box::new(case)), json)
            }
        })
    }
}

fn sector_of(text: &str) -> anyhow::Result<Sector> {
    match text {
        "health" => Ok(Sector::Health),
        "social" => Ok(Sector::Social),
        _ => anyhow::bail!("--sector is health or social"),
    }
}

fn performer(representative: Option<String>) -> anyhow::Result<Performer> {
    let Some(text) = representative else { return Ok(Performer::Patient) };
    let (id, name) = text.split_once('=').context("--representative is ID=NAME")?;
    Ok(Performer::LegalRepresentative { id: id.to_owned(), name: name.to_owned() })
}

fn target_of(text: &str, today: Date) -> anyhow::Result<DenialTarget> {
    let own = str::to_owned;
    Ok(match text.split_once(':') {
        None if text == "all" => DenialTarget::All,
        Some(("provider", oid)) => DenialTarget::Provider { controller: own(oid) },
        Some(("unit", oid)) => DenialTarget::Unit { unit: own(oid) },
        Some(("episode", oid)) => DenialTarget::Episode { episode: own(oid) },
        Some(("service-event", oid)) => DenialTarget::ServiceEvent { service_event: own(oid) },
        Some(("register", rest)) => {
            let mut parts = rest.splitn(3, '/');
            let (controller, register) = (parts.next().map(own), parts.next().map(own));
            let specifier = parts.next().map(|text| Specifier::from_slot(text, today)).transpose().context("--target: the specifier")?;
            let (Some(controller), Some(register)) = (controller, register) else { anyhow::bail!("--target is register:OID/CODE") };
            DenialTarget::Register { controller, register, specifier }
        }
        _ => anyhow::bail!("--target is all, provider:OID, register:OID/CODE[/SPECIFIER], unit:OID, episode:OID or service-event:OID"),
    })
}

/// Decides the cases of a file by the policy in force; nothing is opened, recorded or asked.
///
/// # Errors
/// File, case and member of the first thing that cannot be read.
pub(super) fn decide(config: &Config, file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let size = std::fs::metadata(file).with_context(|| format!("{}: cannot be read", file.display()))?.len();
    anyhow::ensure!(size <= BATCH_BYTES_MAX, "{}: {size} bytes, at most {BATCH_BYTES_MAX} are taken", file.display());
    let text = idr_host::files::read_text(file)?;
    let reading = Reading::read(config)?;
    let in_name = || file.display().to_string();
    let cases = CaseFile::read(&text).with_context(in_name)?.cases;
    let access = policy::texts(&reading.access);
    let mut decided = Vec::with_capacity(cases.len());
    for case in &cases {
        decided.push(match case.policy {
            None => case.decide_by(&reading.policy),
            Some(_) => case.decide(&access).with_context(in_name)?,
        });
    }
    let as_expected = decided.iter().all(|decided| decided.as_expected != Some(false));
    let answer = json!({
        "policy_hash": format!("sha256:{}", reading.files.hash()),
        "rule_set": config.central.rule_sets.first(),
        "decisions": decided,
    });
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does a command.
///
/// # Errors
/// What kept it from being done.
pub(super) async fn perform(central: &Central, operator: &Operator, request: Consent) -> anyhow::Result<Value> {
    let who = operator.name();
    Ok(match request {
        Consent::Record(recording) => json!(declarations::record(central, &who, &recording).await?),
        Consent::List { patient } => json!({ "declarations": declarations::list(central, &who, &patient).await? }),
        Consent::End { id, ending, performer, decided_on } => {
            json!(declarations::end(central, &who, &id, ending, &performer, decided_on).await?)
        }
        Consent::Explain(case) => json!(declarations::explain(central, &who, &case).await?),
    })
}

/// The answer as text.
pub(super) fn show(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(listed) = answer["declarations"].as_array() {
        let line = |item: &Value| format!("{}  {}  {}", text(&item["id"]), text(&item["recorded_at"]), item["declaration"]);
        let lines: Vec<String> = listed.iter().map(line).collect();
        return if lines.is_empty() { "no declarations".to_owned() } else { lines.join("\n") };
    }
    if answer["store_version"].is_u64() && answer["id"].is_string() {
        let done = if answer["repeated"] == true { "stands already" } else { "recorded" };
        return format!("{} {done}; every decision from store version {} on sees it", text(&answer["id"]), answer["store_version"]);
    }
    serde_json::to_string_pretty(answer).unwrap_or_default()
}

/// Bytes of a file of cases.
const BATCH_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_denial_names_exactly_one_target() {
        let today = date(2026, 1, 20);
        let oid = "1.2.246.10.90000011.19.0".to_owned();
        for (text, expected) in [
            ("all", DenialTarget::All),
            ("provider:1.2.246.10.90000011.19.0", DenialTarget::Provider { controller: oid.clone() }),
            (
                "register:1.2.246.10.90000011.19.0/2",
                DenialTarget::Register { controller: oid.clone(), register: "2".to_owned(), specifier: None },
            ),
            ("service-event:1.2.246.10.90000011.19.0", DenialTarget::ServiceEvent { service_event: oid }),
        ] {
            assert_eq!(target_of(text, today).expect(text), expected);
        }
        for text in ["", "everything", "register:1.2.3", "doctor:1.2.3"] {
            assert!(target_of(text, today).is_err(), "{text}");
        }
    }
}

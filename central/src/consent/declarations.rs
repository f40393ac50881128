//! Declarations as an operator records them: `idr-central consent record|list|explain|end` (profile 05 §2, §5, §12.1, §13).
//!
//! Only the patient, or a legal representative, decides; who recorded it is kept beside. Every write raises the store version in
//! its commit, and counts for every decision after it.
//!
//! # Order
//! Opening records (U, S) durable → commit → closing. Reading leaves a use record, explaining a security record.
//!
//! # Failure
//! [`DeclarationError`] names the rule (IDR-A-nn); nothing is written then.

use std::fmt;

use idr_ihe::metadata::PatientId;
use idr_profile::access::{
    Claims, Denial, DenialStatus, DenialTarget, Explanation, Freshness, Informed, Limits, Operation, Request, Sector, explain as explained,
};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::log;
use crate::audit::{AuditError, Entry, Kind, Outcome, Record, User};
use crate::central::Central;
use crate::store::StoreError;
use crate::store::declarations::{Declaration, Declared, NewDeclaration};

/// Who decided (N codes of 05 §12.1). `Debug` shows no person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Performer {
    /// 12: the patient.
    Patient,
    /// 5: a legal representative.
    LegalRepresentative {
        /// Id of the person.
        id: String,
        /// Name.
        name: String,
    },
}

impl fmt::Debug for Performer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patient => "Patient",
            Self::LegalRepresentative { .. } => "LegalRepresentative(<redacted>)",
        })
    }
}

/// What is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// The patient was informed.
    Informing {
        /// `fi`, `sv`, `en`.
        language: String,
        /// Version of the text given.
        information_version: String,
    },
    /// Disclosure consent; needs informing.
    Consent {
        /// Health or social care.
        sector: Sector,
    },
    /// Withdrawal of it; without effect if there is none.
    Withdrawal {
        /// Health or social care.
        sector: Sector,
    },
    /// A denial.
    Denial {
        /// What it is about.
        target: DenialTarget,
        /// Whether the patient allows emergency use. There is no default.
        emergency_allowed: bool,
        /// Only data from this day on.
        data_from: Option<Date>,
        /// Only data up to this day.
        data_to: Option<Date>,
        /// First day of effect; absent: the day of the decision.
        valid_from: Option<Date>,
    },
}

/// One declaration to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Whose it is.
    pub patient: PatientId,
    /// What is declared.
    pub act: Act,
    /// Who decided.
    pub performer: Performer,
    /// Day of the decision.
    pub decided_on: Date,
    /// SHA-256 of the signed document, if there is one.
    #[serde(default)]
    pub document_sha256: Option<String>,
}

/// How a denial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The patient ends it.
    Ended,
    /// It was never meant.
    EnteredInError,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Names the declaration.
    pub id: String,
    /// Version from which every decision sees it.
    pub store_version: u64,
    /// The same active denial stood there already: nothing was written.
    pub repeated: bool,
}

/// A declaration as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Names it.
    pub id: String,
    /// Version of the store that it was recorded at.
    pub store_version: u64,
    /// When.
    pub recorded_at: Timestamp,
    /// What is declared; `null`: it cannot be read, and closes everything but own use.
    pub declaration: Option<Declaration>,
    /// Who decided, who recorded, document.
    pub detail: Value,
}

/// Why something is not recorded or told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeclarationError {
    /// IDR-A-01.
    #[error("IDR-A-01: {0} is not well formed")]
    Form(&'static str),
    /// IDR-A-04.
    #[error("IDR-A-04: there is no such declaration, or document; check the id")]
    Unknown,
    /// IDR-A-09.
    #[error("IDR-A-09: the patient has not been informed; record the informing first")]
    NotInformed,
    /// IDR-A-10.
    #[error("IDR-A-10: {0} is no OID")]
    Target(&'static str),
    /// IDR-A-12.
    #[error("IDR-A-12: the date of the decision lies in the future, or more than {DECIDED_DAYS_MAX} days back without a document")]
    Decided,
    /// IDR-A-12.
    #[error("IDR-A-12: data_to lies before data_from")]
    Period,
    /// IDR-A-13.
    #[error("IDR-A-13: the audit store takes no records; nothing was written")]
    Audit(#[from] AuditError),
    /// IDR-A-13.
    #[error("IDR-A-13: the store does not answer; nothing was written")]
    Store(#[from] StoreError),
}

/// Records a declaration. `recorder`: the operator, as the operating system names the user.
///
/// # Errors
/// [`DeclarationError`].
pub async fn record(central: &Central, recorder: &str, recording: &Recording) -> Result<Recorded, DeclarationError> {
    let patient = known(central, &recording.patient)?;
    decided(central, recording.decided_on, recording.document_sha256.is_some())?;
    let id = central.random_id().to_string();
    let since = recording.decided_on;
    let declaration = match &recording.act {
        Act::Informing { language, .. } if !["fi", "sv", "en"].contains(&language.as_str()) => {
            return Err(DeclarationError::Form("language"));
        }
        Act::Informing { .. } => Declaration::Informing { since },
        Act::Consent { sector: Sector::Unknown } | Act::Withdrawal { sector: Sector::Unknown } => {
            return Err(DeclarationError::Form("sector"));
        }
        Act::Consent { sector } => Declaration::Consent { sector: *sector, since },
        Act::Withdrawal { sector } => Declaration::Withdrawal { sector: *sector, since },
        Act::Denial { target, emergency_allowed, data_from, data_to, valid_from } => {
            check_target(target)?;
            if data_from.zip(*data_to).is_some_and(|(from, to)| to < from) {
                return Err(DeclarationError::Period);
            }
            Declaration::Denial(Denial {
                id: id.clone(),
                target: target.clone(),
                emergency_allowed: *emergency_allowed,
                data_from: *data_from,
                data_to: *data_to,
                valid_from: valid_from.unwrap_or(since),
                set_on: since,
                status: DenialStatus::Active,
            })
        }
    };
    let detail = detail(recorder, recording);
    let now = central.now();
    let mut tx = central.store.read().await?;
    let state = tx.patient_state(&patient, Freshness::Store { confirmed: now }).await?;
    drop(tx);
    if matches!(declaration, Declaration::Consent { .. }) && state.informed == Informed::None {
        return Err(DeclarationError::NotInformed);
    }
    if let Declaration::Denial(new) = &declaration {
        // The state holds denials of linked patients too: those are not this patient's.
        let mut tx = central.store.read().await?;
        for same in state.denials.iter().filter(|denial| is_same(denial, new)) {
            let stands = tx.declaration(&same.id).await?.and_then(|declared| declared.recorded_under);
            if stands.is_some_and(|id| state.is_of(&id)) {
                return Ok(Recorded { id: same.id.clone(), store_version: state.store_version, repeated: true });
            }
        }
    }
    write(central, recorder, Some(&patient), &id, &declaration, &detail).await
}

/// Ends a denial, or says that it was never meant. Gives the same denial again if it has ended already.
///
/// # Errors
/// [`DeclarationError`].
pub async fn end(
    central: &Central,
    recorder: &str,
    id: &str,
    ending: Ending,
    performer: &Performer,
    decided_on: Date,
) -> Result<Recorded, DeclarationError> {
    decided(central, decided_on, false)?;
    let mut tx = central.store.read().await?;
    let found = tx.declaration(id).await?.ok_or(DeclarationError::Unknown)?;
    drop(tx);
    let Declared { declaration: Some(Declaration::Denial(denial)), recorded_under, store_version, .. } = found else {
        return Err(DeclarationError::Unknown);
    };
    if denial.status != DenialStatus::Active {
        return Ok(Recorded { id: id.to_owned(), store_version, repeated: true });
    }
    let status = match ending {
        Ending::Ended => DenialStatus::Ended,
        Ending::EnteredInError => DenialStatus::EnteredInError,
    };
    let detail = json!({ "performer": performer, "recorder": recorder, "decided_on": decided_on }).to_string();
    write(central, recorder, recorded_under.as_ref(), id, &Declaration::Denial(Denial { status, ..denial }), &detail).await
}

/// Declarations of a patient, and the authorisations of everybody.
///
/// # Errors
/// [`DeclarationError`].
pub async fn list(central: &Central, reader: &str, patient: &PatientId) -> Result<Vec<Listed>, DeclarationError> {
    let patient = known(central, patient)?;
    let mut record = operator_record(central, reader, Kind::U, Operation::DeclRead);
    record.patient = Some(patient.clone());
    central.audit.append(vec![Entry::Record(Box::new(record))]).await?;
    let mut tx = central.store.read().await?;
    let listed = |declared: Declared| Listed {
        id: declared.id,
        store_version: declared.store_version,
        recorded_at: declared.recorded_at,
        declaration: declared.declaration,
        detail: serde_json::from_str(&declared.detail).unwrap_or(Value::Null),
    };
    Ok(tx.declarations_of(&patient).await?.into_iter().map(listed).collect())
}

/// A case to be explained.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Whose data.
    pub patient: PatientId,
    /// The requester: the claims of an assertion, as in its decision record.
    pub requester: Claims,
    /// uniqueId of a document, or SOP Instance UID.
    pub document: String,
    /// `search` or `retrieve`.
    pub operation: Operation,
    /// Instant of the decision; absent: now. Declarations are those of now.
    pub at: Option<Timestamp>,
}

/// Why the case is decided as it is. Shows denials: for privacy officers and the patient (05 §13).
///
/// # Errors
/// [`DeclarationError`].
pub async fn explain(central: &Central, reader: &str, case: &Case) -> Result<Explanation, DeclarationError> {
    let patient = known(central, &case.patient)?;
    let mut record = operator_record(central, reader, Kind::S, Operation::Explain);
    record.patient = Some(patient.clone());
    central.audit.append(vec![Entry::Record(Box::new(record))]).await?;
    let at = case.at.unwrap_or_else(|| central.now());
    let mut tx = central.store.read().await?;
    let state = tx.patient_state(&patient, Freshness::Store { confirmed: at }).await?;
    let of_document = tx.objects_by_unique_id(std::slice::from_ref(&case.document)).await?.into_iter().find_map(|object| object.unit);
    let unit = match of_document {
        Some(unit) => unit,
        None => tx.unit_of(&case.document).await?.ok_or(DeclarationError::Unknown)?,
    };
    drop(tx);
    let request = Request { operation: case.operation, patient: Some(patient) };
    let mut explanation = explained(&case.requester, Limits::default(), &request, Some(&unit), &state, &central.policy, at);
    explanation.policy_hash = Some(format!("sha256:{}", central.policy_sha256));
    explanation.rule_set = central.config.central.rule_sets.first().cloned();
    Ok(explanation)
}

async fn write(
    central: &Central,
    recorder: &str,
    patient: Option<&PatientId>,
    id: &str,
    declaration: &Declaration,
    detail: &str,
) -> Result<Recorded, DeclarationError> {
    let records = [Kind::U, Kind::S].map(|kind| {
        let mut record = operator_record(central, recorder, kind, Operation::DeclWrite);
        record.patient = patient.cloned();
        record.basis_ref = Some(id.to_owned());
        record
    });
    let opening = central.audit.open(records.into()).await?;
    let written = async {
        let mut tx = central.store.begin().await?;
        let new = NewDeclaration { id, patient, declaration, detail, recorded_at: central.now() };
        let store_version = tx.record_declaration(&new).await?;
        tx.commit().await?;
        Ok::<_, StoreError>(store_version)
    };
    let written = written.await;
    let (outcome, status) = if written.is_ok() { (Outcome::Permit, "recorded") } else { (Outcome::Failed, "failed") };
    log::close(central, opening, outcome, None, status).await;
    Ok(Recorded { id: id.to_owned(), store_version: written?, repeated: false })
}

fn operator_record(central: &Central, operator: &str, kind: Kind, operation: Operation) -> Record {
    let request_id = format!("urn:uuid:{}", central.random_id());
    let software = log::software();
    let node = &central.config.central.node;
    let (id, transaction) = (central.new_id(), if operation == Operation::Explain { "EXPLAIN" } else { "DECLARATION" });
    let mut record = Record::new(id, central.now(), kind, node, &software, transaction, operation.name(), Outcome::Permit, &request_id);
    record.user = User { id: Some(operator.to_owned()), role: Some("operator".to_owned()), ..User::default() };
    record.organisation = Some(central.config.central.organisation.clone());
    record.policy_hash = Some(central.policy_sha256.clone());
    record.rule = Some("G".to_owned());
    record
}

/// The patient in canonical form.
fn known(central: &Central, patient: &PatientId) -> Result<PatientId, DeclarationError> {
    idr_profile::identifier::check(patient, &central.identity, central.config.environment, &[], central.today())
        .map(|checked| checked.id)
        .map_err(|_| DeclarationError::Form("the patient identifier"))
}

fn decided(central: &Central, on: Date, with_document: bool) -> Result<(), DeclarationError> {
    let today = central.today();
    let oldest = today.checked_sub(DECIDED_DAYS_MAX.days()).unwrap_or(Date::MIN);
    if on > today || on < oldest && !with_document { Err(DeclarationError::Decided) } else { Ok(()) }
}

fn check_target(target: &DenialTarget) -> Result<(), DeclarationError> {
    let (what, oid) = match target {
        DenialTarget::All => return Ok(()),
        DenialTarget::Provider { controller } | DenialTarget::Register { controller, .. } => ("controller", controller),
        DenialTarget::Unit { unit } => ("unit", unit),
        DenialTarget::Episode { episode } => ("episode", episode),
        DenialTarget::ServiceEvent { service_event } => ("service_event", service_event),
    };
    if idr_ihe::metadata::is_oid(oid) { Ok(()) } else { Err(DeclarationError::Target(what)) }
}

/// Whether an active denial says what a new one would say.
fn is_same(stands: &Denial, new: &Denial) -> bool {
    stands.status == DenialStatus::Active
        && stands.target == new.target
        && stands.emergency_allowed == new.emergency_allowed
        && (stands.data_from, stands.data_to) == (new.data_from, new.data_to)
        && stands.valid_from <= new.valid_from
}

fn detail(recorder: &str, recording: &Recording) -> String {
    let mut detail = json!({
        "performer": recording.performer,
        "recorder": recorder,
        "decided_on": recording.decided_on,
        "document_sha256": recording.document_sha256,
    });
    if let Act::Informing { language, information_version } = &recording.act {
        detail["language"] = json!(language);
        detail["information_version"] = json!(information_version);
    }
    detail.to_string()
}

/// Days that a decision may lie back without a document (05 §12.1 IDR-A-12).
const DECIDED_DAYS_MAX: i64 = 30;

//! Receiving: one request to store, its instances as they stream, and what became of each.
//!
//! [`Storing`] is one request of one sender, by STOW-RS or an association; [`Storing::open`] begins an instance, [`Incoming::feed`] takes its bytes in one
//! pass (front, walk, digest, staging), [`Incoming::finish`] judges, makes the bytes durable and commits.
//!
//! # Order
//! Stages S and I → patient binding V16 → store rules S1–S3 → bytes durable → opening record of the use log synced →
//! index row, access unit and R3 in one commit → outcome. A success before all of that does not exist.
//!
//! # Failure
//! What is refused, cut off or fails leaves neither row nor object; bytes of a commit that failed are discarded. A sender
//! that goes away mid-way loses only the instance that was on its way.
//!
//! What comes by C-STORE is written behind file meta of our own making; its digest is that of the bytes as received.
//!
//! # Bounds
//! An instance holds less than 1 MiB of staged bytes and what its walk keeps; over all requests
//! [`RECEIVING_MAX`](crate::central::RECEIVING_MAX) instances are on their way, the others wait in the network.
//!
//! # Standard
//! Profile 01 §2 (central decides D701, D702, D711, D713, D732, D734 before its answer), 04 §11 V16, 05 §4.2, 07 §6.4,
//! 11 §2 (R3). Not built: D714 and D736 (they need accession numbers and rejection notes in the index) and D733: an instance in
//! another transfer syntax is answered as D732.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use idr_dimse::Tag;
use idr_ihe::metadata::PatientId;
use idr_profile::access::{
    AccessUnit, Decision, Gate, PatientState, Permit, Request, Sector, Status, StoredUnder, UnitId, decide, stored_under,
};
use idr_profile::rules::{Context, Finding, InstanceIdentity, Occurrence, Reply, Rules, Verdict};
use idr_profile::scan::Scan;
use idr_profile::xua::{Refusal, patient_binding};
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::sync::Mutex;

use crate::assertion::{self, Authenticated};
use crate::audit::{self, Closing, Opening, Outcome as Audited};
use crate::central::Central;
use crate::consent::{gate, log};
use crate::objects::ObjectKey;
use crate::store::StoreError;
use crate::store::instances::{Arrival, Inconsistency};

mod incoming;

pub use incoming::{Announced, Incoming, Way};

/// Refused: Out of Resources (PS3.4 Table B.2-1).
pub const OUT_OF_RESOURCES: u16 = 0xA700;
/// Processing failure (PS3.7 Annex C).
pub const PROCESSING_FAILURE: u16 = 0x0110;
/// Refused: Not Authorized (PS3.7 Annex C): V16, S3.
pub const NOT_AUTHORIZED: u16 = 0x0124;
/// Error: Cannot Understand (PS3.4 Table B.2-1).
const CANNOT_UNDERSTAND: u16 = 0xC000;
/// Warning Reason of an instance with warnings (profile 01 §4.4).
const STORED_WITH_WARNINGS: u16 = 0xB007;

/// Why a request to store is refused as a whole, before any instance is read.
#[derive(Debug, thiserror::Error)]
pub enum StoreRefused {
    /// The assertion does not allow it.
    #[error(transparent)]
    Identity(#[from] Refusal),
    /// No listed rule set is in force today.
    #[error("no rule set of central.rule_sets is in its production interval; nothing can be judged, so nothing is stored")]
    NoRules,
    /// Less than the reserve is left (IDR-B-03).
    #[error("storage.reserve_bytes is reached: nothing is stored until there is room")]
    NoSpace,
    /// The audit store takes no records.
    #[error("the audit store takes no records")]
    NoAudit,
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Number of the part, from 0.
    pub part: usize,
    /// (0008,0016), if it could be read.
    pub sop_class_uid: Option<String>,
    /// (0008,0018), if it could be read.
    pub sop_instance_uid: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
}

impl Received {
    /// A part that is no `application/dicom`: it is read over.
    pub fn of_other_type(part: usize) -> Self {
        let outcome = Outcome::failed(CANNOT_UNDERSTAND, Cause::MediaType);
        Self { part, sop_class_uid: None, sop_instance_uid: None, outcome }
    }

    /// Whether the instance is held.
    pub fn is_stored(&self) -> bool {
        self.study_uid().is_some()
    }

    /// Study Instance UID of an instance that is held.
    pub fn study_uid(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Stored { study_uid, .. } => Some(study_uid),
            Outcome::Failed { .. } => None,
        }
    }
}

/// Outcome of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is held: stored now, or the same bytes were held before (01 D731).
    Stored {
        /// Study Instance UID.
        study_uid: String,
        /// Series Instance UID.
        series_uid: String,
        /// Warning Reason (0008,1196).
        warning: Option<u16>,
    },
    /// It is not.
    Failed {
        /// Failure Reason (0008,1197).
        reason: u16,
        /// Error Comment of the rule (profile 01 §4.3).
        comment: Option<String>,
        /// Offending Element (0000,0901), by C-STORE.
        offending: Vec<Tag>,
        /// What kind of reason.
        cause: Cause,
    },
}

/// Why an instance is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A validation rule.
    Rule,
    /// Patient binding V16, store rule S3, or an assertion that is over.
    Identity(Refusal),
    /// No room, or the audit store takes nothing (A700H).
    Resources,
    /// Anything else of ours (0110H).
    Fault,
    /// The part is no `application/dicom`.
    MediaType,
}

impl Outcome {
    fn failed(reason: u16, cause: Cause) -> Self {
        Self::Failed { reason, comment: None, offending: Vec::new(), cause }
    }
}

/// One request to store.
pub struct Storing {
    central: Arc<Central>,
    who: Authenticated,
    rules: Arc<Rules>,
    state: PatientState,
    under: StoredUnder,
    url_study: Option<String>,
    enforced: Vec<Inconsistency>,
    organisation_oids: Vec<String>,
    began: Timestamp,
    opened: Mutex<BTreeMap<String, Opened>>,
    /// Rules whose refusal of an instance has its record.
    refused: Mutex<BTreeSet<String>>,
}

/// The opening record of one study of the request.
struct Opened {
    opening: Opening,
    committed: bool,
}

impl Storing {
    /// Judges the request itself: gates, whose register it goes to, whether anything can be stored now. `url_study` is
    /// `{study}` of `/studies/{study}`.
    ///
    /// # Errors
    /// [`StoreRefused`]; a refusal is recorded.
    pub async fn begin(central: Arc<Central>, who: Authenticated, url_study: Option<String>) -> Result<Self, StoreRefused> {
        let began = central.now();
        let rules = central.rules_in_force().ok_or(StoreRefused::NoRules)?;
        if central.audit.refusing().is_some() {
            return Err(StoreRefused::NoAudit);
        }
        if central.space.is_short() {
            return Err(StoreRefused::NoSpace);
        }
        let mut tx = central.store.read().await?;
        let state = gate::state(&mut tx, &who, began).await?;
        drop(tx);
        if let Err(refused) = gate::check(&central, &who, &who.request(None), &state, began) {
            return Err(gate::refused(&central, &who, refused).await.into());
        }
        let Some(under) = stored_under(who.claims(), &state) else {
            return Err(gate::refused(&central, &who, Gate::S3).await.into());
        };
        let claims = who.claims();
        let organisation_oids = [Some(claims.organisation_id.clone()), claims.controller.clone()].into_iter().flatten().collect();
        let enforced = Inconsistency::ALL.into_iter().filter(|what| rejects(&rules, occurrence_of(*what), began)).collect();
        let (opened, refused) = (Mutex::default(), Mutex::default());
        Ok(Self { central, who, rules, state, under, url_study, enforced, organisation_oids, began, opened, refused })
    }

    /// Begins an instance; waits until there is a place for it.
    pub async fn open(self: &Arc<Self>, announced: Announced) -> Incoming {
        Incoming::begin(self.clone(), announced).await
    }

    /// Closes the records of the request: `status` is what was answered; `None`: nobody was there to hear it.
    pub async fn end(&self, status: Option<String>) {
        let opened = std::mem::take(&mut *self.opened.lock().await);
        if opened.is_empty() && self.refused.lock().await.is_empty() {
            // Nothing of it came to be stored: the attempt has its record too (07 §5).
            let mut record = self.who.record(&self.central, audit::Kind::U, Audited::Failed);
            record.patient = self.state.ids.first().cloned();
            record.status.clone_from(&status);
            if let Err(error) = self.central.audit.append(vec![audit::Entry::Record(Box::new(record))]).await {
                tracing::error!(cause = %error, "a store of nothing could not be recorded");
            }
        }
        for Opened { opening, committed } in opened.into_values() {
            let closing = Closing {
                time: self.central.now(),
                outcome: if committed { Audited::Permit } else { Audited::Failed },
                delivered: None,
                status: status.clone(),
            };
            if let Err(error) = self.central.audit.close(opening, closing).await {
                tracing::error!(cause = %error, "the closing record of a store could not be kept; the recovery will close it");
            }
        }
    }

    fn judge(&self, scan: &Scan, announced: &Announced, received: Timestamp) -> Verdict {
        let context = Context {
            received,
            source: announced.way.source(self.url_study.as_deref()),
            // What an inbound row is at the site, the sender's assertion is here: it says whose the number of an object without an
            // issuer is. V16 then holds the object to that patient.
            patient_id_issuer: self.who.subject.claims().patient.as_ref().map(|patient| patient.authority.as_str()),
            accession_issuer: None,
            refuse_to_quarantine: false,
            organisation_oids: &self.organisation_oids,
        };
        self.rules.judge_instance(scan, &context)
    }

    /// V16 and S1–S3 for one instance.
    fn admit(&self, identity: &InstanceIdentity, now: Timestamp) -> Result<Admitted, (&'static str, Refusal)> {
        let subject = &self.who.subject;
        // An instance without a patient is nobody's: the binding refuses it.
        let named = identity.patient_id.clone().unwrap_or(PatientId { id: String::new(), authority: String::new() });
        let patient = self.central.canonical(&named);
        // After alias resolution (06 §7): an older id of the assertion's patient is that patient.
        let resolved = match &subject.claims().patient {
            Some(own) if self.state.same_patient(own, &patient) => own,
            _ => &patient,
        };
        patient_binding(subject, resolved).map_err(|refusal| ("V16", refusal))?;
        let unit = AccessUnit {
            id: UnitId(REQUEST_UNIT.to_owned()),
            patient: self.state.ids.first().unwrap_or(&patient).clone(),
            recorded_under: None,
            controller: self.under.controller.clone(),
            register: self.under.register.clone(),
            specifier: self.under.specifier.clone(),
            unit: subject.claims().unit.clone(),
            episode: None,
            service_event: self.under.service_event.clone(),
            date: identity.study_date.as_deref().and_then(date),
            sector: Sector::Health,
            status: Status::Active,
            release_date: None,
            minor_code: None,
            labels: Vec::new(),
            unreadable: false,
        };
        let (request, policy) = (self.who.request(Some(patient.clone())), &self.central.policy);
        // The request began while the assertion held; it goes on for as long as a long operation may (04 §8).
        let decision = match decide(subject, &request, Some(&unit), &self.state, policy, self.began) {
            Decision::Permit(permit) => permit.recheck(subject, &request, Some(&unit), &self.state, policy, now),
            other => other,
        };
        match decision {
            Decision::Permit(permit) => Ok(Admitted { patient, unit, request, permit }),
            Decision::Refuse(gate) => Err((gate.id(), gate.into())),
            Decision::Omit(rule) => Err((rule.id(), Refusal::store_rule())),
        }
    }

    /// One refusal record per rule and request.
    async fn record_refusal(&self, rule: &'static str, refusal: Refusal) {
        if self.refused.lock().await.insert(rule.to_owned()) {
            assertion::refused_as(&self.central, &self.who.asked, Some(self.who.claims()), rule, refusal).await;
        }
    }

    /// The opening record of a study, once per request, on stable storage when this returns.
    async fn open_record(&self, study_uid: &str, admitted: &Admitted) -> Result<(), audit::AuditError> {
        let mut opened = self.opened.lock().await;
        if opened.contains_key(study_uid) {
            return Ok(());
        }
        let mut record = self.who.record(&self.central, audit::Kind::U, Audited::Permit);
        log::permitted(&mut record, &admitted.unit, &admitted.permit, &admitted.request);
        record.object = Some(audit::Object { study: Some(study_uid.to_owned()), ..audit::Object::default() });
        let opening = self.central.audit.open(vec![record]).await?;
        opened.insert(study_uid.to_owned(), Opened { opening, committed: false });
        Ok(())
    }

    async fn committed(&self, study_uid: &str) {
        if let Some(opened) = self.opened.lock().await.get_mut(study_uid) {
            opened.committed = true;
        }
    }
}

/// An instance that may be stored, and the proof.
struct Admitted {
    /// As the data set names it, canonical.
    patient: PatientId,
    unit: AccessUnit,
    request: Request,
    permit: Permit,
}

/// The access unit of a request in its decisions: the rows get names of their own.
const REQUEST_UNIT: &str = "store";

impl Storing {
    /// The outcome of a commit.
    async fn arrived(
        &self,
        arrival: Result<Arrival, StoreError>,
        size_bytes: u64,
        verdict: &Verdict,
        identity: &InstanceIdentity,
        now: Timestamp,
    ) -> Outcome {
        let counters = &self.central.counters;
        let occurred = |occurrence| self.rules.occurrence(occurrence, now);
        match arrival {
            Ok(Arrival::New { .. }) => {
                counters.instances_stored.add(1);
                counters.bytes_stored.add(size_bytes);
            }
            Ok(Arrival::Identical { .. }) => {
                counters.instances_duplicate.add(1);
                if let Some(finding) = occurred(Occurrence::DuplicateIdentical) {
                    journal(&finding, &self.rules.rule_set, false);
                }
            }
            Ok(Arrival::Conflict { .. }) => return refused_by(occurred(Occurrence::DuplicateOtherContent)),
            Ok(Arrival::Rejected { .. }) => return refused_by(occurred(Occurrence::RejectedReturns)),
            Ok(Arrival::Inconsistent(what)) => return refused_by(occurred(occurrence_of(what))),
            Err(error) => {
                tracing::error!(cause = %error, "whether an instance is committed is not known; its bytes stay until the sweep has asked the index");
                return match error {
                    StoreError::Full => Outcome::failed(OUT_OF_RESOURCES, Cause::Resources),
                    _ => Outcome::failed(PROCESSING_FAILURE, Cause::Fault),
                };
            }
        }
        self.committed(&identity.study_uid).await;
        Outcome::Stored {
            study_uid: identity.study_uid.clone(),
            series_uid: identity.series_uid.clone(),
            warning: (verdict.success_status == STORED_WITH_WARNINGS).then_some(STORED_WITH_WARNINGS),
        }
    }

    async fn discard(&self, key: &ObjectKey) {
        if let Err(error) = self.central.objects.discard(key).await {
            tracing::warn!(cause = %error, "staged bytes stay behind; the sweep for strays removes them");
        }
    }

    /// All findings go to the journal, by rule; no value of the object does.
    fn journal(&self, verdict: &Verdict, scan: &Scan) {
        let refused = verdict.refused().is_some();
        for Finding { rule, level, comment, remedy, tags, rule_set, .. } in &verdict.findings {
            if level.rejects() {
                tracing::warn!(rule, ?level, rule_set, ?tags, bytes = scan.data_set_bytes, refused, remedy, "{comment}");
            } else {
                tracing::debug!(rule, ?level, rule_set, ?tags, "{comment}");
            }
        }
    }
}

fn journal(finding: &Finding, rule_set: &str, refused: bool) {
    if refused {
        tracing::warn!(rule = finding.rule, rule_set, remedy = finding.remedy, "{}", finding.comment);
    } else {
        tracing::debug!(rule = finding.rule, rule_set, "{}", finding.comment);
    }
}

/// The answer of a rule that the index met. An instance that the index cannot hold fails also where the rule is OFF.
fn refused_by(finding: Option<Finding>) -> Outcome {
    match finding {
        Some(finding @ Finding { reply: Reply::Status(reason), .. }) => {
            journal(&finding, &finding.rule_set, true);
            Outcome::Failed { reason, comment: Some(finding.comment), offending: finding.tags, cause: Cause::Rule }
        }
        _ => Outcome::failed(PROCESSING_FAILURE, Cause::Fault),
    }
}

fn occurrence_of(what: Inconsistency) -> Occurrence {
    match what {
        Inconsistency::PatientId => Occurrence::PatientIdConflict,
        Inconsistency::Issuer => Occurrence::IssuerConflict,
        Inconsistency::SeriesElsewhere => Occurrence::SeriesInTwoStudies,
        Inconsistency::StudyOfAnother => Occurrence::StudyOfAnotherPatient,
    }
}

fn rejects(rules: &Rules, occurrence: Occurrence, at: Timestamp) -> bool {
    rules.occurrence(occurrence, at).is_some_and(|finding| finding.level.rejects())
}

/// `YYYYMMDD` (PS3.5 §6.2 DA).
fn date(text: &str) -> Option<Date> {
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Date::new(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?).ok()).flatten()
}

//! ITI-41, RAD-68 and ITI-57: a submission or update from its message to its one commit (profile 08 §4, §6.3, §7, §9).
//!
//! # Order
//! Gates and store rules S1–S3 → MessageID → rules on message and documents → opening record durable → patient lock, † rules,
//! registration, idempotency record and R4 in one commit → Success.
//!
//! # Failure
//! Whatever does not end in the commit leaves nothing: no metadata, no document, no key; a commit that fails leaves its bytes
//! to the sweep for strays. Work goes on when the client goes away: its next attempt gets the answer (08 S-34). A time-out
//! before the commit rolls back (IDR-B-02).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use idr_ihe::ebxml::lower_uuid;
use idr_ihe::manifest::Manifest;
use idr_ihe::metadata::{PatientId, Submission};
use idr_ihe::soap::xop::{self, Content};
use idr_ihe::soap::{Envelope, Refusal as SoapRefusal, fingerprint};
use idr_ihe::transaction::iti_41::ProvideAndRegisterRequest;
use idr_ihe::transaction::registry_response::{RegistryResponse, Severity, encode};
use idr_ihe::xml::Limits;
use idr_profile::access::{
    AccessUnit, Decision, Gate, PatientState, Permit, Request, Sector, Status, StoredUnder, UnitId, check_gates, decide,
};
use idr_profile::identifier::HETU_AUTHORITY;
use idr_profile::xds::{
    Answerer, Circumstances, Document, Key, Message, RegistryProblem, SenderDefaults, StateVerdict, SubmitTransaction, changes, needs,
};
use idr_profile::xua::{Refusal, SubmittedEvent, Transaction};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::once::{self, Answer, Turn};
use super::registration::Prepared;
use super::units::{self, Lacking, Reading};
use super::view::view;
use crate::assertion::Authenticated;
use crate::audit::{Entry, Kind, Object, Opening, Outcome, Record};
use crate::central::Central;
use crate::consent::{gate, log};
use crate::https::soap::receive::{Part, ReceiveError, Staged};
use crate::https::soap::{Place, resource_of, resource_problem, timed_out};
use crate::objects::ObjectKey;
use crate::peer::Admitted;
use crate::store::messages::{Lease, MessageKey};
use crate::store::{StoreError, Tx};

/// A submission as it was read; its documents follow with [`Received::complete`].
pub struct Received {
    request: ProvideAndRegisterRequest,
    kind: SubmitTransaction,
    defaults: SenderDefaults,
    transaction: Transaction,
    patient: Option<PatientId>,
    event: Event,
    message_id: String,
    fingerprint: String,
    documents: Vec<Document>,
    parts: Vec<Part>,
    staged: Option<Staged>,
}

enum Event {
    Unknown,
    Absent,
    Oid(String),
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The Body's child.
    pub response: String,
    /// R4 of each manifest, as carried.
    pub receipts: Vec<String>,
    /// Given again: nothing was done now.
    pub replayed: bool,
}

impl Submitted {
    /// A Failure.
    pub fn failed(response: RegistryResponse) -> Self {
        Self { response: encode(&response), receipts: Vec::new(), replayed: false }
    }
}

/// Why there is no RegistryResponse.
#[derive(Debug)]
pub enum Unsubmitted {
    /// A gate, S3, or the audit store; recorded.
    Identity(Refusal),
    /// S-20.
    Soap(SoapRefusal),
}

impl Received {
    /// What the message says, before its documents are there.
    pub fn new(central: &Central, kind: SubmitTransaction, request: ProvideAndRegisterRequest, admitted: &Admitted) -> Self {
        let message = Message::new(kind, request.objects.as_ref());
        let submission = message.submission();
        let transaction = match kind {
            SubmitTransaction::Iti41 if message.manifest_ids().next().is_some() => Transaction::Rad68,
            SubmitTransaction::Iti41 => Transaction::Iti41,
            SubmitTransaction::Iti42 => Transaction::Iti42,
            SubmitTransaction::Iti57 => Transaction::Iti57,
            SubmitTransaction::Iti61 => Transaction::Iti61,
            SubmitTransaction::Iti92 => Transaction::Iti92,
        };
        let patient = submission.submission_sets.first().map(|set| set.patient_id.clone());
        let event = event(submission, &central.slots.service_event_id);
        let defaults = SenderDefaults {
            controller_id: admitted.row.controller.clone(),
            register_code: admitted.row.register.clone(),
            register_specifier: None,
        };
        Self {
            request,
            kind,
            defaults,
            transaction,
            patient,
            event,
            message_id: String::new(),
            fingerprint: String::new(),
            documents: Vec::new(),
            parts: Vec::new(),
            staged: None,
        }
    }

    /// RAD-68 if a manifest is among the entries.
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// The patient that the message names (V16).
    pub fn patient(&self) -> Option<&PatientId> {
        self.patient.as_ref()
    }

    /// The service event of the submission (04 §4 C5).
    pub fn service_event(&self) -> SubmittedEvent<'_> {
        match &self.event {
            Event::Unknown => SubmittedEvent::Unknown,
            Event::Absent => SubmittedEvent::Absent,
            Event::Oid(oid) => SubmittedEvent::Oid(oid),
        }
    }

    /// Joins the documents to the message: in-line ones are staged too, manifests are read.
    ///
    /// # Errors
    /// S-24, and storage failures.
    pub async fn complete(&mut self, central: &Central, envelope: &Envelope<'_>, mut staged: Staged) -> Result<(), ReceiveError> {
        let ids: Vec<Option<String>> = staged.parts.iter().map(|part| part.content_id.clone()).collect();
        let positions = xop::resolve(self.request.part_ids(), &ids).map_err(SoapRefusal::from)?;
        let mut referenced =
            positions.into_iter().filter_map(|position| staged.parts.get(position).cloned()).collect::<Vec<_>>().into_iter();
        for document in &mut self.request.documents {
            let part = match &mut document.content {
                Content::Part(_) => referenced.next().ok_or(SoapRefusal::from(xop::XopError::NoPart))?,
                Content::Inline(bytes) => staged.add(ObjectKey::new(central.new_id()), std::mem::take(bytes).into()).await?,
            };
            self.parts.push(part);
        }
        let digests: Vec<[u8; 32]> = self.parts.iter().map(|part| part.sha256).collect();
        self.fingerprint = hex::encode(fingerprint(envelope, &digests, Limits::default())?);
        self.message_id = envelope.message_id().to_owned();
        let message = Message::new(self.kind, self.request.objects.as_ref());
        let manifests: HashSet<&str> = message.manifest_ids().collect();
        for (document, part) in self.request.documents.iter().zip(&self.parts) {
            let manifest = match document.id.as_deref().is_some_and(|id| manifests.contains(id)) {
                true => Some(Manifest::read(&central.objects.read_back(&part.written, MANIFEST_BYTES_MAX).await?)),
                false => None,
            };
            let manifest_patient = manifest.iter().flatten().find_map(|manifest| patient_of(central, manifest));
            self.documents.push(Document {
                id: document.id.clone(),
                sha1: part.sha1.clone(),
                sha256: part.sha256,
                size: part.written.size(),
                manifest,
                manifest_patient,
            });
        }
        self.staged = Some(staged);
        Ok(())
    }
}

/// Patient of a manifest with its issuer (01 §3.2): the one it names, an OID in (0010,0021), or the hetu's if it is one.
fn patient_of(central: &Central, manifest: &Manifest) -> Option<PatientId> {
    let id = manifest.patient_id.clone()?;
    let named = manifest.patient().ok();
    let issuer = manifest.issuer_of_patient_id.clone().filter(|issuer| idr_ihe::metadata::is_oid(issuer));
    let patient = named.or_else(|| Some(PatientId { id: id.clone(), authority: issuer? }));
    let assumed = || {
        let hetu = PatientId { id, authority: HETU_AUTHORITY.to_owned() };
        idr_profile::identifier::check(&hetu, &central.identity, central.config.environment, &[], central.today())
            .ok()
            .map(|checked| checked.id)
    };
    patient.map(|patient| central.canonical(&patient)).or_else(assumed)
}

fn event(submission: &Submission, slot: &str) -> Event {
    let mut events = submission.entries.iter().map(|entry| units::value(entry, slot));
    match events.next() {
        None => Event::Unknown,
        Some(first) => match events.find(|event| event.is_some()).flatten().or(first) {
            Some(oid) => Event::Oid(oid.to_owned()),
            None => Event::Absent,
        },
    }
}

/// Submits. The work is done even if the caller does not wait for it.
///
/// # Errors
/// [`Unsubmitted`].
pub async fn submit(central: Arc<Central>, who: Authenticated, received: Received, place: Place) -> Result<Submitted, Unsubmitted> {
    let answerer = answerer(received.kind);
    let work = Work { central: central.clone(), who, answerer };
    let worked = tokio::spawn(async move {
        let submitted = work.submit(received).await;
        drop(place);
        submitted
    });
    match worked.await {
        Ok(submitted) => submitted,
        Err(error) => {
            let incident = crate::https::problem::incident(&central, &error);
            let problem = resource_of(&central, "B-04", answerer, &[(Key::Incident, incident)]);
            Ok(Submitted::failed(RegistryResponse::failure(vec![problem.registry_error()])))
        }
    }
}

/// One message that changes the registry.
pub(super) struct Work {
    pub central: Arc<Central>,
    pub who: Authenticated,
    pub answerer: Answerer,
}

/// Who answers a transaction (09 §7).
pub fn answerer(kind: SubmitTransaction) -> Answerer {
    if kind == SubmitTransaction::Iti41 { Answerer::Repository } else { Answerer::Registry }
}

/// What the gates left.
struct Permitted {
    state: PatientState,
    units: Vec<AccessUnit>,
    permits: Vec<Permit>,
    stored_under: StoredUnder,
}

/// Why a submission ends with a Failure.
pub(super) enum Failed {
    Rules(RegistryResponse),
    Problem(RegistryProblem),
    Refused(Refusal),
}

impl From<RegistryProblem> for Failed {
    fn from(problem: RegistryProblem) -> Self {
        Self::Problem(problem)
    }
}

/// What is ready for the commit.
struct Ready {
    tx: Tx,
    answer: Answer,
    /// Documents that belong to somebody after the commit.
    owned: HashSet<ObjectKey>,
    replayed: bool,
}

impl Work {
    async fn submit(self, mut received: Received) -> Result<Submitted, Unsubmitted> {
        let mut staged = received.staged.take();
        let submitted = self.once(&received, &mut staged).await;
        if let Some(staged) = staged {
            // No commit took them.
            staged.release(&HashSet::new()).await;
        }
        submitted
    }

    async fn once(&self, received: &Received, staged: &mut Option<Staged>) -> Result<Submitted, Unsubmitted> {
        let central = &self.central;
        let message = Message::new(received.kind, received.request.objects.as_ref());
        let now = central.now();
        let permitted = match self.permitted(&message, received, now).await {
            Ok(permitted) => permitted,
            Err(Failed::Refused(refusal)) => return Err(Unsubmitted::Identity(refusal)),
            Err(failed) => return self.told(failed).await,
        };
        let key = MessageKey { organisation: self.who.claims().issuer_organisation.clone(), message_id: received.message_id.clone() };
        let lease = match once::turn(central, &key, &received.fingerprint).await {
            Ok(Turn::Mine(lease)) => lease,
            Ok(Turn::Done(answer)) => return self.replayed(answer, &permitted).await,
            Ok(Turn::OtherContent) => return Err(Unsubmitted::Soap(SoapRefusal::DuplicateMessageId)),
            Ok(Turn::Busy) => {
                let limit = central.xds.idempotency.wait_seconds.to_string();
                let busy = resource_of(central, "B-01", self.answerer, &[(Key::Limit, limit)]);
                return self.told(busy.into()).await;
            }
            Err(error) => return self.told(resource_problem(central, &error, self.answerer).into()).await,
        };
        let submitted = self.work(&message, received, &permitted, (&key, &lease), staged).await;
        if submitted.is_err() {
            once::give_up(central, &key, &lease).await;
        }
        match submitted {
            Ok(submitted) => Ok(submitted),
            Err(Failed::Refused(refusal)) => Err(Unsubmitted::Identity(refusal)),
            Err(failed) => self.told(failed).await,
        }
    }

    /// Gates G1–G5 and S1–S3, per entry.
    async fn permitted(&self, message: &Message<'_>, received: &Received, now: Timestamp) -> Result<Permitted, Failed> {
        let (central, who) = (&self.central, &self.who);
        let read = async {
            let mut tx = central.store.read().await?;
            gate::state(&mut tx, who, now).await
        };
        let state = read.await.map_err(|error| resource_problem(central, &error, self.answerer))?;
        let request = Request { operation: who.operation(), patient: received.patient.as_ref().map(|patient| central.canonical(patient)) };
        if let Err(refused) = check_gates(&who.subject, &request, &state, &central.policy, now) {
            return Err(Failed::Refused(gate::refused(central, who, refused).await));
        }
        let zone = zone(central);
        let reading = self.reading(received, &zone);
        let (mut units, mut permits, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &message.submission().entries {
            match reading.unit(entry, central.canonical(&entry.patient_id)) {
                Ok(unit) => units.push(unit),
                Err(slot) => lacking.push((entry.entry_uuid.clone(), slot)),
            }
        }
        if units.is_empty() && lacking.is_empty() {
            units.extend(self.unit_of_assertion(&state));
        }
        for unit in &units {
            // An entry of another patient than the set's is M-141, told by the rules.
            let of_set = AccessUnit { patient: request.patient.clone().unwrap_or_else(|| unit.patient.clone()), ..unit.clone() };
            match decide(&who.subject, &request, Some(&of_set), &state, &central.policy, now) {
                Decision::Permit(permit) => permits.push(permit),
                Decision::Refuse(refused) => return Err(Failed::Refused(gate::refused(central, who, refused).await)),
                Decision::Omit(_) => return Err(Failed::Refused(gate::refused(central, who, Gate::S3).await)),
            }
        }
        if !lacking.is_empty() {
            return Err(Failed::Rules(RegistryResponse::failure(lacking.iter().map(|lacking| self.lacks(lacking)).collect())));
        }
        let Some(first) = units.first() else { return Err(Failed::Refused(gate::refused(central, who, Gate::S3).await)) };
        let stored_under = StoredUnder {
            controller: first.controller.clone(),
            register: first.register.clone(),
            specifier: first.specifier.clone(),
            service_event: first.service_event.clone(),
        };
        if message.submission().entries.is_empty() {
            units.clear();
        }
        Ok(Permitted { state, units, permits, stored_under })
    }

    /// For a submission without entries: that of the assertion, as for STOW-RS (05 §4.2).
    fn unit_of_assertion(&self, state: &PatientState) -> Option<AccessUnit> {
        let under = idr_profile::access::stored_under(self.who.claims(), state)?;
        Some(AccessUnit {
            id: UnitId("submission".to_owned()),
            patient: self.who.claims().patient.clone()?,
            recorded_under: None,
            controller: under.controller,
            register: under.register,
            specifier: under.specifier,
            unit: None,
            episode: None,
            service_event: under.service_event,
            date: None,
            sector: Sector::Health,
            status: Status::Active,
            release_date: None,
            minor_code: None,
            labels: Vec::new(),
            unreadable: false,
        })
    }

    /// 02 §4.7: without slot and default the entry is refused, whatever kind of document it is.
    fn lacks(&self, (entry, slot): &(String, Lacking)) -> idr_ihe::transaction::registry_response::RegistryError {
        let (rule, slot) = match slot {
            Lacking::Controller => ("M-501", &self.central.slots.controller_id),
            Lacking::Register => ("M-502", &self.central.slots.register_code),
        };
        let (code, text) = self.central.xds.rule(rule).unwrap_or(("XDSRegistryMetadataError", "required slot is missing"));
        let keys = [(Key::Obj, entry.clone()), (Key::Slot, slot.clone())];
        self.central.errors.problem(rule, code, text, &keys, Some(entry.clone())).registry_error()
    }

    fn reading<'a>(&'a self, received: &'a Received, zone: &'a TimeZone) -> Reading<'a> {
        Reading { slots: &self.central.slots, defaults: &received.defaults, zone, today: self.central.today() }
    }

    async fn work(
        &self,
        message: &Message<'_>,
        received: &Received,
        permitted: &Permitted,
        claim: (&MessageKey, &Lease),
        staged: &mut Option<Staged>,
    ) -> Result<Submitted, Failed> {
        let central = &self.central;
        if central.space.is_short() {
            return Err(resource_of(central, "B-03", self.answerer, &[]).into());
        }
        let limit = central.xds.timeout.submit;
        let home = format!("urn:oid:{}", central.config.central.home_community);
        let circumstances = Circumstances {
            home_community_id: &home,
            slots: &central.slots,
            defaults: &received.defaults,
            now: central.now(),
            today: central.today(),
        };
        let judged = central.xds.judge_message(&central.errors, message, &circumstances);
        if judged.has_errors() {
            return Err(Failed::Rules(journal(judged.response())));
        }
        let judged = judged.and(central.xds.judge_documents(&central.errors, message, &received.documents, &circumstances));
        if judged.has_errors() {
            return Err(Failed::Rules(journal(judged.response())));
        }
        let mut prepared =
            Prepared::new(central, message, &received.documents, &received.parts, permitted.units.clone(), &received.defaults);
        let opening = self.open(permitted, &prepared).await.map_err(Failed::Refused)?;
        let warnings = judged;
        let ready = async {
            let mut tx = central.store.begin().await.map_err(|error| self.store_failed(&error))?;
            if let Some(patient) = permitted.state.ids.first() {
                let locked = async {
                    match tx.patient_key(patient).await? {
                        Some(key) => tx.lock_patient(&key).await,
                        None => Ok(()),
                    }
                };
                locked.await.map_err(|error| self.store_failed(&error))?;
            }
            let now = central.now();
            let wanted = needs(message, &received.documents);
            let view =
                view(central, &mut tx, &self.who, &permitted.state, &wanted, now).await.map_err(|error| self.store_failed(&error))?;
            let verdict = central.xds.judge_state(&central.errors, message, &received.documents, &circumstances, &view);
            let (answer, owned, replayed) = match verdict {
                StateVerdict::Refuse(findings) => return Err(Failed::Rules(journal(findings.response()))),
                StateVerdict::Repeated => {
                    let receipts = repeated(&mut tx, message).await.map_err(|error| self.store_failed(&error))?;
                    (Answer { response: encode(&RegistryResponse::SUCCESS), receipts }, HashSet::new(), true)
                }
                StateVerdict::Register(findings) => {
                    let changes = changes(message, &view);
                    prepared.follow(&changes);
                    let registered = prepared.register(central, &mut tx, &self.who, &permitted.stored_under, now).await;
                    let registered = registered.map_err(|error| self.store_failed(&error))?;
                    prepared
                        .change(&mut tx, &changes, central.xds.limits.submission_objects, now)
                        .await
                        .map_err(|error| self.store_failed(&error))?;
                    let response = warnings.and(findings).response();
                    let receipts = registered.receipts.iter().map(idr_profile::receipt::Carried::to_json).collect();
                    let mut owned: HashSet<ObjectKey> = received.parts.iter().map(|part| part.written.key().clone()).collect();
                    owned.retain(|key| !registered.unused_objects.contains(key));
                    (Answer { response: encode(&response), receipts }, owned, false)
                }
            };
            let kept = serde_json::to_string(&answer).unwrap_or_default();
            tx.finish_message(claim.0, claim.1, &kept, now).await.map_err(|error| self.store_failed(&error))?;
            Ok(Ready { tx, answer, owned, replayed })
        };
        let ready = match tokio::time::timeout(Duration::from_secs(u64::from(limit)), ready).await {
            Ok(ready) => ready,
            Err(_) => Err(timed_out(central, self.answerer, limit).into()),
        };
        // The commit itself is not cut off: whether it happened would not be known.
        let committed = match ready {
            Ok(Ready { tx, answer, owned, replayed }) => match tx.commit().await {
                Ok(()) => Ok((answer, owned, replayed)),
                Err(error) => {
                    // Whether it is on stable storage is not known: the bytes stay until the sweep has asked the index.
                    if let Some(staged) = staged.take() {
                        staged.leave();
                    }
                    Err(self.store_failed(&error))
                }
            },
            Err(failed) => Err(failed),
        };
        match committed {
            Ok((Answer { response, receipts }, owned, replayed)) => {
                if let Some(staged) = staged.take() {
                    staged.release(&owned).await;
                }
                log::close(central, opening, Outcome::Permit, None, if replayed { REPLAYED } else { "Success" }).await;
                Ok(Submitted { response, receipts, replayed })
            }
            Err(failed) => {
                log::close(central, opening, Outcome::Failed, None, &failed.status()).await;
                Err(failed)
            }
        }
    }

    /// The opening records of the change, one per access unit; the last of them names whatever else is changed too.
    async fn open(&self, permitted: &Permitted, prepared: &Prepared) -> Result<Opening, Refusal> {
        let named = prepared.named().map(|(document, study)| (Some(document), study));
        let targets = prepared.status_targets().map(|target| (Some(target), None));
        let records = self.records(permitted, named.chain(targets));
        match self.central.audit.open(records).await {
            Ok(opening) => Ok(opening),
            Err(error) => {
                tracing::error!(cause = %error, "nothing is registered without its record");
                Err(Refusal::unavailable("the audit store takes no records"))
            }
        }
    }

    fn records<'a>(&self, permitted: &Permitted, named: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Vec<Record> {
        let request = Request { operation: self.who.operation(), patient: None };
        let mut named = named.collect::<Vec<_>>().into_iter();
        let mut records: Vec<Record> = Vec::new();
        let units = permitted.units.iter().map(Some).chain(std::iter::repeat(None));
        for ((permit, unit), number) in permitted.permits.iter().zip(units).zip(1..) {
            let count = if number == permitted.permits.len() { usize::MAX } else { 1 };
            for object in objects(named.by_ref().take(count)) {
                let mut record = self.who.record(&self.central, Kind::U, Outcome::Permit);
                match unit {
                    Some(unit) => log::permitted(&mut record, unit, permit, &request),
                    None => record.patient.clone_from(&self.who.claims().patient),
                }
                // As known now: the survivor of merges.
                record.patient = permitted.state.ids.first().cloned().or(record.patient);
                record.object = Some(object);
                records.push(record);
            }
        }
        records
    }

    /// The kept answer again, recorded as a replay (08 §4.4).
    async fn replayed(&self, answer: Answer, permitted: &Permitted) -> Result<Submitted, Unsubmitted> {
        let mut records = self.records(permitted, std::iter::empty());
        records.truncate(1);
        for record in &mut records {
            record.status = Some(REPLAYED.to_owned());
        }
        self.append(records).await?;
        Ok(Submitted { response: answer.response, receipts: answer.receipts, replayed: true })
    }

    /// A Failure, recorded.
    pub(super) async fn told(&self, failed: Failed) -> Result<Submitted, Unsubmitted> {
        let status = failed.status();
        let response = match failed {
            Failed::Rules(response) => response,
            Failed::Problem(problem) => RegistryResponse::failure(vec![problem.registry_error()]),
            Failed::Refused(refusal) => return Err(Unsubmitted::Identity(refusal)),
        };
        let mut record = self.who.record(&self.central, Kind::U, Outcome::Failed);
        record.patient.clone_from(&self.who.claims().patient);
        record.status = Some(status);
        self.append(vec![record]).await?;
        Ok(Submitted::failed(response))
    }

    pub(super) async fn append(&self, records: Vec<Record>) -> Result<(), Unsubmitted> {
        let entries = records.into_iter().map(|record| Entry::Record(Box::new(record))).collect();
        self.central.audit.append(entries).await.map_err(|error| {
            tracing::error!(cause = %error, "a submission cannot be recorded");
            Unsubmitted::Identity(Refusal::unavailable("the audit store takes no records"))
        })
    }

    pub(super) fn store_failed(&self, error: &StoreError) -> Failed {
        let (rule, keys) = match error {
            StoreError::Taken { what } if what.contains("document") => ("M-136", Vec::new()),
            StoreError::Taken { what } if what.contains("SubmissionSet") => ("M-308", vec![(Key::Kind, "set".to_owned())]),
            StoreError::Taken { .. } => ("M-008", Vec::new()),
            // What its versions would repeat.
            StoreError::TooMany { limit } => ("M-048", vec![(Key::Limit, limit.to_string())]),
            error => return resource_problem(&self.central, error, self.answerer).into(),
        };
        let (code, text) = self.central.xds.rule(rule).unwrap_or(("XDSRegistryMetadataError", "entryUUID is already registered"));
        self.central.errors.problem(rule, code, text, &keys, None).into()
    }
}

impl Failed {
    /// What the records say.
    pub(super) fn status(&self) -> String {
        match self {
            Self::Rules(response) => {
                let first = response.errors.iter().find(|error| error.severity == Severity::Error);
                first.and_then(|error| error.code_context.split(' ').next()).unwrap_or("Failure").to_owned()
            }
            Self::Problem(problem) => problem.code(),
            Self::Refused(refusal) => refusal.code.to_string(),
        }
    }
}

/// What records say of the documents, by uniqueId or entryUUID, and their studies; at least one.
fn objects<'a>(named: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Vec<Object> {
    let mut objects = vec![Object::default()];
    for (document, study) in named {
        let full =
            objects.last().is_some_and(|object| object.documents.len() == DOCUMENTS_MAX || study.is_some() && object.study.is_some());
        if full {
            objects.push(Object::default());
        }
        let Some(object) = objects.last_mut() else { break };
        object.documents.extend(document.map(str::to_owned));
        if let Some(study) = study {
            object.study = Some(study.to_owned());
            object.manifest = document.map(str::to_owned);
        }
    }
    objects
}

/// R4 of a submission that was registered before.
async fn repeated(tx: &mut Tx, message: &Message<'_>) -> Result<Vec<String>, StoreError> {
    let mut receipts = Vec::new();
    let Some(set) = message.submission().submission_sets.first() else { return Ok(receipts) };
    let Some(stored) = tx.submission_set(&set.unique_id).await? else { return Ok(receipts) };
    for manifest in &stored.manifests {
        receipts.extend(tx.registration_receipt(&lower_uuid(manifest)).await?.map(|carried| carried.to_json()));
    }
    Ok(receipts)
}

/// Broken rules go to the journal by code: values of keys may be the sender's patient data.
pub(super) fn journal(response: RegistryResponse) -> RegistryResponse {
    for error in &response.errors {
        let code = error.code_context.split(' ').next().unwrap_or_default();
        tracing::warn!(code, error_code = error.error_code, "submission refused");
    }
    response
}

fn zone(central: &Central) -> TimeZone {
    // Checked on load.
    TimeZone::get(&central.config.central.timezone).unwrap_or(TimeZone::UTC)
}

/// Documents of one record (07 §2).
const DOCUMENTS_MAX: usize = 1000;
/// Status of a replay in the use log.
pub(super) const REPLAYED: &str = "replayed";
/// Bytes of a part (BD-14).
const MANIFEST_BYTES_MAX: u64 = 134_217_728;

#[cfg(test)]
mod tests {
    use super::{DOCUMENTS_MAX, objects};

    #[test]
    fn every_object_that_is_changed_stands_in_the_records() {
        let documents = |named: &[(Option<&'static str>, Option<&'static str>)]| -> Vec<Vec<String>> {
            objects(named.iter().copied()).into_iter().map(|object| object.documents).collect()
        };
        assert_eq!(documents(&[(Some("a"), None), (Some("b"), None)]), [["a", "b"]]);
        let with_version = [(Some("v"), Some("1.2.3")), (Some("a"), None)];
        let object = objects(with_version.into_iter()).remove(0);
        assert_eq!((object.documents.len(), object.study.as_deref(), object.manifest.as_deref()), (2, Some("1.2.3"), Some("v")));
        assert_eq!(documents(&[]), [Vec::<String>::new()], "a record all the same");
        let many = vec![(Some("a"), None); DOCUMENTS_MAX + 1];
        assert_eq!(documents(&many).iter().map(Vec::len).collect::<Vec<_>>(), [DOCUMENTS_MAX, 1]);
    }
}

//! ITI-62 Remove Metadata and ITI-86 Remove Documents (profile 08 §7.2): from the message to its one commit.
//!
//! # Order
//! Gates → MessageID → rules on the request → opening record durable → patient lock, rules on the state that would be left,
//! removal and idempotency record in one commit → Success.
//!
//! # Failure
//! All objects are removed or none. Nothing is taken from disk: what was removed is marked, and nothing that answers sees it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use idr_ihe::ebxml::lower_uuid;
use idr_ihe::soap::Refusal as SoapRefusal;
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::iti_62::RemoveObjectsRequest;
use idr_ihe::transaction::registry_response::{RegistryResponse, encode};
use idr_profile::access::{PatientState, Request, check_gates};
use idr_profile::xds::request::{RetrieveProblem, RetrieveService, request_problem};
use idr_profile::xds::{Answerer, Key, Removable, RemovableDocument, RemovalView};
use idr_profile::xua::Refusal;
use jiff::Timestamp;

use super::once::{self, Answer, Turn};
use super::submit::{Failed, REPLAYED, Submitted, Unsubmitted, Work, journal};
use super::view::Sight;
use crate::assertion::Authenticated;
use crate::audit::{Kind, Object, Opening, Outcome, Record};
use crate::central::Central;
use crate::consent::{gate, log};
use crate::https::soap::{Place, resource_of, timed_out};
use crate::store::messages::{Lease, MessageKey};
use crate::store::registry::Class;
use crate::store::{StoreError, Tx};
use idr_ihe::metadata::AvailabilityStatus;

/// What is to be removed.
#[derive(Debug)]
pub enum Removal {
    /// ITI-62.
    Metadata(RemoveObjectsRequest),
    /// ITI-86.
    Documents(Vec<DocumentRequest>),
}

/// A removal as it was read.
#[derive(Debug)]
pub struct Received {
    /// What.
    pub removal: Removal,
    /// `wsa:MessageID`.
    pub message_id: String,
    /// Of the message, hex (08 §4.2).
    pub fingerprint: String,
}

impl Removal {
    /// Who answers (09 §7).
    pub fn answerer(&self) -> Answerer {
        match self {
            Self::Metadata(_) => Answerer::Registry,
            Self::Documents(_) => Answerer::Repository,
        }
    }

    /// What is named, for the records.
    fn named(&self) -> Vec<String> {
        match self {
            Self::Metadata(request) => request.references.iter().flatten().filter_map(|reference| reference.id.clone()).collect(),
            Self::Documents(requests) => requests.iter().filter_map(|request| request.document_unique_id.clone()).collect(),
        }
    }
}

/// Removes. The work is done even if the caller does not wait for it.
///
/// # Errors
/// [`Unsubmitted`].
pub async fn remove(central: Arc<Central>, who: Authenticated, received: Received, place: Place) -> Result<Submitted, Unsubmitted> {
    let answerer = received.removal.answerer();
    let work = Work { central: central.clone(), who, answerer };
    let worked = tokio::spawn(async move {
        let removed = work.remove(&received).await;
        drop(place);
        removed
    });
    match worked.await {
        Ok(removed) => removed,
        Err(error) => {
            let incident = crate::https::problem::incident(&central, &error);
            let problem = resource_of(&central, "B-04", answerer, &[(Key::Incident, incident)]);
            Ok(Submitted::failed(RegistryResponse::failure(vec![problem.registry_error()])))
        }
    }
}

impl Work {
    async fn remove(&self, received: &Received) -> Result<Submitted, Unsubmitted> {
        let (central, who) = (&self.central, &self.who);
        let now = central.now();
        let read = async {
            let mut tx = central.store.read().await?;
            gate::state(&mut tx, who, now).await
        };
        let state = match read.await {
            Ok(state) => state,
            Err(error) => return self.told(self.store_failed(&error)).await,
        };
        let request = Request { operation: who.operation(), patient: None };
        if let Err(refused) = check_gates(&who.subject, &request, &state, &central.policy, now) {
            return Err(Unsubmitted::Identity(gate::refused(central, who, refused).await));
        }
        let key = MessageKey { organisation: who.claims().issuer_organisation.clone(), message_id: received.message_id.clone() };
        let lease = match once::turn(central, &key, &received.fingerprint).await {
            Ok(Turn::Mine(lease)) => lease,
            Ok(Turn::Done(answer)) => {
                let mut record = self.record_of(&received.removal, &state);
                record.status = Some(REPLAYED.to_owned());
                self.append(vec![record]).await?;
                return Ok(Submitted { response: answer.response, receipts: answer.receipts, replayed: true });
            }
            Ok(Turn::OtherContent) => return Err(Unsubmitted::Soap(SoapRefusal::DuplicateMessageId)),
            Ok(Turn::Busy) => {
                let limit = central.xds.idempotency.wait_seconds.to_string();
                return self.told(resource_of(central, "B-01", self.answerer, &[(Key::Limit, limit)]).into()).await;
            }
            Err(error) => return self.told(self.store_failed(&error)).await,
        };
        let removed = self.removed(received, &state, (&key, &lease)).await;
        if removed.is_err() {
            once::give_up(central, &key, &lease).await;
        }
        match removed {
            Ok(response) => Ok(Submitted { response, receipts: Vec::new(), replayed: false }),
            Err(Failed::Refused(refusal)) => Err(Unsubmitted::Identity(refusal)),
            Err(failed) => self.told(failed).await,
        }
    }

    async fn removed(&self, received: &Received, state: &PatientState, claim: (&MessageKey, &Lease)) -> Result<String, Failed> {
        let central = &self.central;
        if let Some(failed) = self.judge_request(&received.removal) {
            return Err(failed);
        }
        let opening = self.open_removal(&received.removal, state).await.map_err(Failed::Refused)?;
        let limit = central.xds.timeout.submit;
        let ready = async {
            let failed = |error: StoreError| self.store_failed(&error);
            let mut tx = central.store.begin().await.map_err(failed)?;
            if let Some(patient) = state.ids.first()
                && let Some(key) = tx.patient_key(patient).await.map_err(failed)?
            {
                tx.lock_patient(&key).await.map_err(failed)?;
            }
            let now = central.now();
            match &received.removal {
                Removal::Metadata(request) => self.remove_metadata(&mut tx, request, state, now).await?,
                Removal::Documents(requests) => self.remove_documents(&mut tx, requests, state, now).await?,
            }
            let answer = Answer { response: encode(&RegistryResponse::SUCCESS), receipts: Vec::new() };
            let kept = serde_json::to_string(&answer).unwrap_or_default();
            tx.finish_message(claim.0, claim.1, &kept, now).await.map_err(failed)?;
            Ok((tx, answer.response))
        };
        let ready = match tokio::time::timeout(Duration::from_secs(u64::from(limit)), ready).await {
            Ok(ready) => ready,
            Err(_) => Err(timed_out(central, self.answerer, limit).into()),
        };
        // The commit itself is not cut off: whether it happened would not be known.
        let committed = match ready {
            Ok((tx, response)) => tx.commit().await.map(|()| response).map_err(|error| self.store_failed(&error)),
            Err(failed) => Err(failed),
        };
        match &committed {
            Ok(_) => log::close(central, opening, Outcome::Permit, None, "Success").await,
            Err(failed) => log::close(central, opening, Outcome::Failed, None, &failed.status()).await,
        }
        committed
    }

    /// Rules on the request alone; `None`: they hold.
    fn judge_request(&self, removal: &Removal) -> Option<Failed> {
        let (rules, errors) = (&self.central.xds, &self.central.errors);
        match removal {
            Removal::Metadata(request) => {
                let findings = rules.judge_removal_request(errors, request);
                findings.has_errors().then(|| Failed::Rules(journal(findings.response())))
            }
            Removal::Documents(requests) => {
                if let Some(problem) = iti_43::problem(requests) {
                    return Some(request_problem(errors, &problem, RetrieveService::Documents).into());
                }
                let limit = rules.retrieve.max_documents;
                let problem = RetrieveProblem::Limit { limit: limit as u64 };
                (requests.len() > limit).then(|| problem.problem(errors, RetrieveService::Documents, None, None).into())
            }
        }
    }

    async fn remove_metadata(
        &self,
        tx: &mut Tx,
        request: &RemoveObjectsRequest,
        state: &PatientState,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let central = &self.central;
        let ids: Vec<String> = request.references.iter().flatten().filter_map(|of| of.id.as_deref().map(lower_uuid)).collect();
        let sight = Sight { central, who: &self.who, state, now };
        let view = removal_view(&sight, tx, &ids).await.map_err(|error| self.store_failed(&error))?;
        let findings = central.xds.judge_removal(&central.errors, request, &view);
        if findings.has_errors() {
            return Err(Failed::Rules(journal(findings.response())));
        }
        tx.remove_metadata(&ids, now).await.map_err(|error| self.store_failed(&error))
    }

    async fn remove_documents(
        &self,
        tx: &mut Tx,
        requests: &[DocumentRequest],
        state: &PatientState,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let central = &self.central;
        let failed = |error: StoreError| self.store_failed(&error);
        let sight = Sight { central, who: &self.who, state, now };
        let own = &central.config.central.repository_unique_id;
        let foreign = |request: &DocumentRequest| {
            let repository = request.repository_unique_id.as_deref().filter(|repository| repository != own)?;
            let document = request.document_unique_id.as_deref();
            let problem = RetrieveProblem::RepositoryUnknown { repository };
            Some(problem.problem(&central.errors, RetrieveService::Documents, document, None).registry_error())
        };
        let unknown: Vec<_> = requests.iter().filter_map(foreign).collect();
        if !unknown.is_empty() {
            return Err(Failed::Rules(journal(RegistryResponse::failure(unknown))));
        }
        let uids: BTreeSet<String> = requests.iter().filter_map(|request| request.document_unique_id.clone()).collect();
        let mut documents = Vec::new();
        for uid in &uids {
            let here = tx.has_document(uid).await.map_err(failed)?;
            let entries = tx.objects_by_unique_id(std::slice::from_ref(uid)).await.map_err(failed)?;
            let entries: Vec<_> = entries.into_iter().filter(|state| state.class == Class::Entry).collect();
            let correctable = |state: &crate::store::registry::ObjectState| sight.corrects_unit(state.unit.as_ref());
            let manifest = |state: &crate::store::registry::ObjectState| {
                state.status == AvailabilityStatus::Approved && state.entry.as_ref().is_some_and(|facts| facts.manifest.is_some())
            };
            documents.push(RemovableDocument {
                unique_id: uid.clone(),
                correctable: here && entries.iter().any(correctable),
                needed: entries.iter().any(|state| manifest(state) || !correctable(state)),
            });
        }
        let findings = central.xds.judge_documents_removal(&central.errors, &documents);
        if findings.has_errors() {
            return Err(Failed::Rules(journal(findings.response())));
        }
        for uid in &uids {
            tx.remove_document(uid, now).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn open_removal(&self, removal: &Removal, state: &PatientState) -> Result<Opening, Refusal> {
        self.central.audit.open(vec![self.record_of(removal, state)]).await.map_err(|error| {
            tracing::error!(cause = %error, "nothing is removed without its record");
            Refusal::unavailable("the audit store takes no records")
        })
    }

    fn record_of(&self, removal: &Removal, state: &PatientState) -> Record {
        let mut record = self.who.record(&self.central, Kind::U, Outcome::Permit);
        record.patient = state.ids.first().cloned().or_else(|| self.who.claims().patient.clone());
        record.object = Some(Object { documents: removal.named(), ..Object::default() });
        record
    }
}

/// What the rules may know around the objects of a removal. An association is the caller's to correct if its ends are.
async fn removal_view(sight: &Sight<'_>, tx: &mut Tx, ids: &[String]) -> Result<RemovalView, StoreError> {
    let mut states = HashMap::new();
    let mut wanted: Vec<String> = ids.to_vec();
    // A membership in a set may have the membership of an entry in a folder as its end.
    for _ in 0..ROUNDS {
        let found = tx.objects_by_id(&wanted).await?;
        let ends: BTreeSet<String> = found.iter().filter_map(|state| state.ends.clone()).flat_map(|(a, b)| [a, b]).collect();
        states.extend(found.into_iter().map(|state| (state.entry_uuid.clone(), state)));
        wanted = ends.into_iter().filter(|id| !states.contains_key(id)).collect();
        if wanted.is_empty() {
            break;
        }
    }
    let mut objects: HashMap<String, Removable> = HashMap::new();
    for _ in 0..ROUNDS {
        for (id, state) in &states {
            let correctable = match &state.ends {
                Some((source, target)) => [source, target].iter().all(|end| objects.get(*end).is_some_and(|end| end.correctable)),
                None => sight.corrects_unit(state.unit.as_ref()),
            };
            let is_set = state.class == Class::SubmissionSet;
            objects.insert(id.clone(), Removable { correctable, is_set, deprecated: state.status == AvailabilityStatus::Deprecated });
        }
    }
    let around: Vec<String> = states.into_keys().collect();
    Ok(RemovalView::new(objects, tx.ties(&around, TIES_MAX).await?))
}

/// Association → folder's association → entry.
const ROUNDS: usize = 4;
/// Associations around the objects of one removal.
const TIES_MAX: usize = 20_000;

//! Storage Commitment: a peer asks whether its objects are safe here, and is told (PS3.4 Annex J).
//!
//! [`Commitments::accept`] decides each instance by the identity of the association, keeps request and decision durably, and
//! then it is answered. The report goes on the association of the request if it is still open, else on one of ours to
//! `commitment_address` of the peer row ([`Commitments::run`]). Whoever reports has a [`Ticket`].
//!
//! An instance is committed if it stands under the caller's own register (05 §9: reconcile), of the patient of its identity, and
//! its bytes are there. What is not there, not its own or rejected is 0112H: the three look the same.
//!
//! # Failure
//! After a crash every request that was answered with success and not reported is reported: a report may come twice. Without
//! `commitment_address` it waits until the peer repeats its request with the same Transaction UID; it is decided anew then.
//!
//! # Bounds
//! `[commitment]` of the configuration; `REPORTS_MAX` reports at once, one for each peer. Times: profile 03 §2.1 class `net`,
//! §2.7, §4.7.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use idr_dimse::association::negotiation::Request;
use idr_dimse::service::storage_commitment::{ActionInformation, EventInformation, FailureReason, Reference, data_set_bytes_max};
use idr_dimse::status::Status;
use idr_host::outbound::{self, Target, Waits, report};
use idr_profile::outcome::{Class, Context, Outcome, Outcomes, Signal};
use idr_profile::xua::{Code, Transaction};
use rand::Rng as _;
use rustls::ClientConfig;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::implementation;
use crate::archive::retrieve::Stored as _;
use crate::assertion::{Asked, Authenticated};
use crate::audit::{Delivered, Extent, Outcome as Audited};
use crate::central::{Central, Work};
use crate::config::Config;
use crate::consent::gate;
use crate::consent::log::{self, By};
use crate::store::StoreError;
use crate::store::commitments::{Commitment, NotKept, Report};
use crate::store::instances::StoredInstance;

/// Reports on associations of our own at once.
const REPORTS_MAX: usize = 4;
/// Longest attempt to report on an association of our own.
const ATTEMPT_MAX: Duration = Duration::from_secs(600);
/// Pause of the worker after a fault of ours.
const AFTER_FAULT: Duration = Duration::from_secs(5);
/// Longest sleep of the worker.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Requests for storage commitment, from their answer to their report.
pub struct Commitments {
    central: Arc<Central>,
    /// By name of the peer row.
    targets: HashMap<String, Target>,
    outcomes: Outcomes,
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Default)]
struct Book {
    leases: u64,
    requests: BTreeMap<Uuid, Waiting>,
}

struct Waiting {
    peer: String,
    failures: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// With who has the ticket of this number.
    Leased(u64),
    /// For an association of our own, at this instant.
    Due(Instant),
    /// Until a start or a repeated request.
    Held,
}

/// The right to report a request. Dropped without an answer, the request goes to the worker.
pub struct Ticket {
    commitments: Arc<Commitments>,
    id: Uuid,
    lease: u64,
}

impl Ticket {
    /// Whether both are for one request.
    pub fn is_for_that_of(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.commitments.give_back(self);
    }
}

/// Who asks.
pub struct Asking<'a> {
    /// By the identity of its association.
    pub who: &'a Authenticated,
    /// Name of its peer row.
    pub peer: &'a str,
    /// Its AE title.
    pub calling_ae: &'a str,
    /// The AE title that it called.
    pub called_ae: &'a str,
}

impl Commitments {
    /// What is kept, due now where its peer has an address.
    ///
    /// # Errors
    /// The store; a row that cannot be reported to, by its key.
    pub async fn open(central: Arc<Central>, client: Option<Arc<ClientConfig>>) -> anyhow::Result<Arc<Self>> {
        let targets = targets(&central.config, client)?;
        let kept = central.store.read().await?.commitments().await?;
        let now = Instant::now();
        let waiting = |(id, peer): (Uuid, String)| {
            let place = if targets.contains_key(&peer) { Place::Due(now) } else { Place::Held };
            (id, Waiting { peer, failures: 0, place })
        };
        let requests: BTreeMap<Uuid, Waiting> = kept.into_iter().map(waiting).collect();
        if !requests.is_empty() {
            tracing::info!(requests = requests.len(), "requests for storage commitment wait for their report");
        }
        let book = Mutex::new(Book { leases: 0, requests });
        Ok(Arc::new(Self { central, targets, outcomes: Outcomes::base(), book, changed: Notify::new() }))
    }

    /// Most instances of one request.
    pub fn references_max(&self) -> usize {
        self.central.config.commitment.references_max
    }

    /// Most bytes of the data set of a request: two UIDs to a reference, and what peers put beside them.
    pub fn request_bytes_max(&self) -> usize {
        data_set_bytes_max(self.references_max())
    }

    /// Longest wait for the answer to a report on the association of the request.
    pub fn answer_wait(&self) -> Duration {
        Duration::from_secs(self.central.config.commitment.answer_seconds)
    }

    /// Whether a peer can be reported to on an association of our own.
    pub fn has_address(&self, peer: &str) -> bool {
        self.targets.contains_key(peer)
    }

    /// Decides and keeps a request; after it returned, success may be answered.
    ///
    /// # Errors
    /// The status of the N-ACTION-RSP: 0124H for an identity that may not ask, 0131H if the Transaction UID is in use for another
    /// list, 0213H if the peer has too many requests without a report, 0110H if it cannot be decided or kept.
    pub async fn accept(self: &Arc<Self>, asking: &Asking<'_>, information: ActionInformation) -> Result<Ticket, Status> {
        let fault = |error: StoreError| {
            tracing::error!(cause = %error, "a request for storage commitment cannot be decided or kept; the peer asks again");
            Status::PROCESSING_FAILURE
        };
        let Some(_place) = self.central.places.take(Work::Query).await else { return Err(Status::RESOURCE_LIMITATION) };
        let who = reconciling(asking.who);
        let listed = information.references.len();
        let report = self.decide(&who, &information.references).await?;
        let (committed, failed) = (report.committed.len(), report.failed.len());
        let new = Commitment {
            id: self.central.new_id(),
            peer: asking.peer.to_owned(),
            calling_ae: asking.calling_ae.to_owned(),
            called_ae: asking.called_ae.to_owned(),
            digest: digest(&information.references),
            transaction_uid: information.transaction_uid,
            received_at: self.central.now(),
            report,
        };
        let requests_max = self.central.config.commitment.requests_max;
        let mut tx = self.central.store.begin().await.map_err(fault)?;
        let mut kept = tx.keep_commitment(&new, requests_max).await.map_err(fault)?;
        let oldest = if kept == Err(NotKept::TooMany) { self.book().oldest_held(asking.peer) } else { None };
        if let Some(oldest) = oldest {
            tracing::warn!(peer = asking.peer, "the oldest request for storage commitment that nobody could be told of is given up");
            tx.forget_commitment(oldest).await.map_err(fault)?;
            kept = tx.keep_commitment(&new, requests_max).await.map_err(fault)?;
        }
        let id = match kept {
            Ok(id) => id,
            Err(NotKept::OtherList) => return Err(Status::DUPLICATE_TRANSACTION_UID),
            Err(NotKept::TooMany) => {
                tracing::warn!(peer = asking.peer, "too many requests for storage commitment without a report (commitment.requests_max)");
                return Err(Status::RESOURCE_LIMITATION);
            }
        };
        // The association of the first time may be dead without our knowing: who asks now is told now. The lease changes inside the
        // transaction: `close` forgets nothing that was asked for again.
        let ticket = self.lease(id, asking.peer);
        if let Err(error) = tx.commit().await {
            if id == new.id {
                self.book().requests.remove(&id);
            }
            return Err(fault(error));
        }
        tracing::info!(peer = asking.peer, instances = listed, committed, failed, "storage commitment asked for and decided");
        oldest.map(|oldest| self.book().requests.remove(&oldest));
        Ok(ticket)
    }

    fn lease(self: &Arc<Self>, id: Uuid, peer: &str) -> Ticket {
        let mut book = self.book();
        let lease = book.lease();
        book.requests.insert(id, Waiting { peer: peer.to_owned(), failures: 0, place: Place::Leased(lease) });
        Ticket { commitments: self.clone(), id, lease }
    }

    /// Each instance once: what may be told and is there is committed. Recorded before anything is told.
    async fn decide(&self, who: &Authenticated, references: &[Reference]) -> Result<Report, Status> {
        let central = &*self.central;
        let fault = |error: StoreError| {
            tracing::error!(cause = %error, "instances cannot be looked up for storage commitment");
            Status::PROCESSING_FAILURE
        };
        let now = central.now();
        let mut tx = central.store.read().await.map_err(fault)?;
        let state = gate::state(&mut tx, who, now).await.map_err(fault)?;
        let request = who.request(None);
        if let Err(refused) = gate::check(central, who, &request, &state, now) {
            drop(tx);
            gate::refused(central, who, refused).await;
            return Err(Status::NOT_AUTHORIZED);
        }
        let mut candidates = Vec::new();
        let uids: BTreeSet<&str> = references.iter().map(|reference| reference.sop_instance_uid.as_str()).collect();
        for uid in uids {
            candidates.extend(tx.instance(uid).await.map_err(fault)?);
        }
        drop(tx);
        let decided = match gate::decide(central, who, request, state, candidates, now) {
            Ok(decided) => decided,
            Err(refused) => {
                gate::refused(central, who, refused).await;
                return Err(Status::NOT_AUTHORIZED);
            }
        };
        let opening = decided.open(central, who, By::Unit, None, StoredInstance::mention).await;
        let opening =
            opening.map_err(|refusal| if refusal.code == Code::Unavailable { Status::OUT_OF_RESOURCES } else { Status::NOT_AUTHORIZED })?;
        let mut known = HashMap::new();
        for disclosed in &decided.gated.disclosed {
            let held = disclosed.payload();
            // The index is no proof: the object is, with its whole length.
            let there = held.check(central.objects.permitted(disclosed.permit())).await;
            if let Err(error) = &there {
                tracing::error!(object = %held.object_key, cause = %error, "an instance that was stored cannot be committed");
            }
            known.insert(held.sop_instance_uid.as_str(), (held.sop_class_uid.as_str(), there.is_ok()));
        }
        let (mut report, mut seen) = (Report::default(), BTreeSet::new());
        for Reference { sop_class_uid, sop_instance_uid } in references {
            if !seen.insert((sop_class_uid, sop_instance_uid)) {
                continue;
            }
            let failed = match known.get(sop_instance_uid.as_str()) {
                None => Some(FailureReason::NO_SUCH_OBJECT_INSTANCE),
                Some((class, _)) if class != sop_class_uid => Some(FailureReason::CLASS_INSTANCE_CONFLICT),
                Some((_, false)) => Some(FailureReason::PROCESSING_FAILURE),
                Some((_, true)) => None,
            };
            match failed {
                None => report.committed.push((sop_class_uid.clone(), sop_instance_uid.clone())),
                Some(FailureReason(reason)) => report.failed.push((sop_class_uid.clone(), sop_instance_uid.clone(), reason)),
            }
        }
        let delivered = Delivered { extent: Extent::Complete, instances: 0, bytes: 0 };
        log::close(central, opening, Audited::Permit, Some(delivered), &Status::SUCCESS.to_string()).await;
        Ok(report)
    }

    /// What a report says.
    ///
    /// # Errors
    /// The store; `None`: it was reported in the meantime.
    pub async fn report(&self, ticket: &Ticket) -> Result<Option<EventInformation>, StoreError> {
        Ok(self.kept(ticket.id).await?.map(|kept| information(&kept)))
    }

    async fn kept(&self, id: Uuid) -> Result<Option<Commitment>, StoreError> {
        self.central.store.read().await?.commitment(id).await
    }

    /// The peer has answered a report (profile 03 §4.7).
    pub async fn answered(&self, ticket: Ticket, status: Status) {
        let decided = self.outcomes.decide(Signal::NEventReport(status.0), &Context::default());
        match decided.outcome {
            Outcome::Done => self.close(&ticket).await,
            Outcome::Retry(class) => self.later(&ticket, class, &format!("status {status}, row {}", decided.row)),
            _ => {
                let effect = self.outcomes.explain(&decided.row).first().map_or("", |row| row.effect.as_ref());
                tracing::error!(%status, row = %decided.row, peer = self.peer(ticket.id), "the peer does not take its storage commitment report: {effect}");
                self.hold(&ticket);
            }
        }
    }

    /// The report was taken. Whoever has asked again in the meantime is told again.
    async fn close(&self, ticket: &Ticket) {
        let forgotten = async {
            let mut tx = self.central.store.begin().await?;
            // Asked inside the transaction: whoever asks again has another lease before its own commit.
            let Some(waiting) = self.book().take(ticket) else { return Ok(None) };
            tx.forget_commitment(ticket.id).await?;
            tx.commit().await.map(|()| Some(waiting.peer))
        };
        match forgotten.await {
            Ok(Some(peer)) => tracing::info!(peer, "storage commitment reported"),
            Ok(None) => {}
            Err(error) => {
                self.book().take(ticket);
                tracing::warn!(cause = %error, "a reported request stays; it is reported again at the next start");
            }
        }
    }

    /// Reports what could not be reported where it was asked for, until `stop` is cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut attempts: JoinSet<String> = JoinSet::new();
        let mut busy: Vec<String> = Vec::new();
        loop {
            while attempts.len() < REPORTS_MAX
                && let Some((ticket, peer)) = self.due(&busy)
            {
                busy.push(peer.clone());
                let commitments = self.clone();
                attempts.spawn(async move {
                    commitments.attempt(ticket, &peer).await;
                    peer
                });
            }
            let sleep = self.next_due(&busy).map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()).min(SLEEP_MAX));
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.changed.notified() => {}
                Some(ended) = attempts.join_next() => {
                    match ended {
                        Ok(peer) => busy.retain(|other| *other != peer),
                        // It may come again at once.
                        Err(error) => {
                            tracing::error!(cause = %error, "a storage commitment report ended in a fault");
                            tokio::time::sleep(AFTER_FAULT).await;
                        }
                    }
                    if attempts.is_empty() {
                        busy.clear();
                    }
                }
                () = tokio::time::sleep(sleep), if attempts.len() < REPORTS_MAX => {}
            }
        }
        attempts.shutdown().await;
    }

    async fn attempt(&self, ticket: Ticket, peer: &str) {
        let Some(target) = self.targets.get(peer) else { return self.hold(&ticket) };
        let kept = match self.kept(ticket.id).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return drop(self.book().take(&ticket)),
            Err(error) => return self.later(&ticket, Class::Net, &error.to_string()),
        };
        let age = self.central.now().duration_since(kept.received_at).as_secs();
        if u64::try_from(age).is_ok_and(|age| age > self.outcomes.device_report.give_up_s) {
            tracing::error!(
                peer,
                "a storage commitment report was not taken for too long; it waits for a start, or the peer's next request"
            );
            return self.hold(&ticket);
        }
        let ae_title = if target.ae_title.is_empty() { kept.calling_ae.clone() } else { target.ae_title.clone() };
        let target = Target { ae_title, ..target.clone() };
        let request = Request::new(&kept.called_ae, &target.ae_title, implementation());
        let limits = super::limits(&self.central.config);
        let information = information(&kept);
        let delivering = report::deliver(&target, request, &information, limits, Waits::from(&self.outcomes.limits));
        match tokio::time::timeout(ATTEMPT_MAX, delivering).await {
            Ok(Ok(status)) => self.answered(ticket, status).await,
            Ok(Err(error)) => self.later(&ticket, Class::Net, &error.to_string()),
            Err(_) => self.later(&ticket, Class::Net, "the attempt took too long"),
        }
    }

    /// Tries this request again after the delay of a class.
    fn later(&self, ticket: &Ticket, class: Class, cause: &str) {
        let uniform = rand::rng().random();
        let mut book = self.book();
        let Some(waiting) = book.of(ticket) else { return };
        let delay = self.outcomes.delay_capped(class, waiting.failures, uniform, self.outcomes.device_report.cap_s);
        waiting.failures += 1;
        tracing::warn!(peer = waiting.peer, failures = waiting.failures, cause, "a storage commitment report was not taken");
        waiting.place = if self.targets.contains_key(&waiting.peer) { Place::Due(Instant::now() + delay) } else { Place::Held };
        drop(book);
        self.changed.notify_one();
    }

    fn hold(&self, ticket: &Ticket) {
        if let Some(waiting) = self.book().of(ticket) {
            waiting.place = Place::Held;
        }
    }

    fn give_back(&self, ticket: &Ticket) {
        let mut book = self.book();
        let Some(waiting) = book.of(ticket) else { return };
        if self.targets.contains_key(&waiting.peer) {
            waiting.place = Place::Due(Instant::now());
            drop(book);
            self.changed.notify_one();
        } else {
            tracing::warn!(peer = waiting.peer, "a storage commitment report has nowhere to go: its row has no commitment_address");
            waiting.place = Place::Held;
        }
    }

    /// The oldest due request of a peer that is not busy, leased.
    fn due(self: &Arc<Self>, busy: &[String]) -> Option<(Ticket, String)> {
        let now = Instant::now();
        let mut book = self.book();
        let id = book.due(busy).filter(|(at, _)| *at <= now).min()?.1;
        let lease = book.lease();
        let waiting = book.requests.get_mut(&id)?;
        waiting.place = Place::Leased(lease);
        let peer = waiting.peer.clone();
        Some((Ticket { commitments: self.clone(), id, lease }, peer))
    }

    fn next_due(&self, busy: &[String]) -> Option<Instant> {
        self.book().due(busy).map(|(at, _)| at).min()
    }

    fn peer(&self, id: Uuid) -> String {
        self.book().requests.get(&id).map(|waiting| waiting.peer.clone()).unwrap_or_default()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn lease(&mut self) -> u64 {
        self.leases += 1;
        self.leases
    }

    /// The request of a ticket, unless somebody else has it by now.
    fn of(&mut self, ticket: &Ticket) -> Option<&mut Waiting> {
        self.requests.get_mut(&ticket.id).filter(|waiting| waiting.place == Place::Leased(ticket.lease))
    }

    fn take(&mut self, ticket: &Ticket) -> Option<Waiting> {
        self.of(ticket).is_some().then(|| self.requests.remove(&ticket.id)).flatten()
    }

    fn oldest_held(&self, peer: &str) -> Option<Uuid> {
        self.requests.iter().find(|(_, waiting)| waiting.place == Place::Held && waiting.peer == peer).map(|(id, _)| *id)
    }

    fn due<'a>(&'a self, busy: &'a [String]) -> impl Iterator<Item = (Instant, Uuid)> + 'a {
        self.requests.iter().filter_map(|(id, waiting)| match waiting.place {
            Place::Due(at) if !busy.contains(&waiting.peer) => Some((at, *id)),
            _ => None,
        })
    }
}

/// The same identity, asking for storage commitment.
fn reconciling(who: &Authenticated) -> Authenticated {
    let transaction = Transaction::StorageCommitment;
    let asked = Asked { transaction: Some(transaction), ..who.asked.clone() };
    Authenticated { transaction, asked, ..who.clone() }
}

fn information(kept: &Commitment) -> EventInformation {
    let reference = |class: &String, instance: &String| Reference { sop_class_uid: class.clone(), sop_instance_uid: instance.clone() };
    let failed = kept.report.failed.iter().map(|(class, instance, reason)| (reference(class, instance), FailureReason(*reason)));
    EventInformation {
        transaction_uid: kept.transaction_uid.clone(),
        committed: kept.report.committed.iter().map(|(class, instance)| reference(class, instance)).collect(),
        failed: failed.collect(),
    }
}

fn digest(references: &[Reference]) -> String {
    let mut hash = Sha256::new();
    for Reference { sop_class_uid, sop_instance_uid } in references {
        // No UID has a line feed.
        hash.update(format!("{sop_class_uid}\n{sop_instance_uid}\n"));
    }
    hex::encode(hash.finalize())
}

/// Where the peers are reported to, by name of their row. An empty AE title stands for the one that asks.
fn targets(config: &Config, client: Option<Arc<ClientConfig>>) -> anyhow::Result<HashMap<String, Target>> {
    let mut targets = HashMap::new();
    let Some(client) = client else { return Ok(targets) };
    for (at, row) in config.peer.iter().enumerate() {
        let Some(address) = row.commitment_address else { continue };
        let name = outbound::server_name(row.commitment_server_name.as_deref(), address);
        let name = name.with_context(|| format!("peer[{at}].commitment_server_name"))?;
        let ae_title = row.commitment_ae_title.clone().unwrap_or_default();
        let certificates = row.commitment_certificates.clone();
        targets.insert(row.name.clone(), Target { address, ae_title, tls: Some((client.clone(), name)), certificates });
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, t0};

    #[tokio::test]
    async fn what_is_asked_for_again_while_its_report_is_closed_is_kept() {
        let world = World::new().await;
        let commitments = Commitments::open(world.central.clone(), None).await.unwrap();
        let request = Commitment {
            id: Uuid::from_u128(1),
            peer: "a".into(),
            calling_ae: "PACS".into(),
            called_ae: "IDRCENTRAL".into(),
            transaction_uid: "1.2.3".into(),
            digest: "d".into(),
            received_at: t0(),
            report: Report::default(),
        };
        let mut tx = world.central.store.begin().await.unwrap();
        tx.keep_commitment(&request, 9).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let reported = commitments.lease(request.id, "a");
        // As `accept`, with the answer to the report of the first time in the middle.
        let mut tx = world.central.store.begin().await.unwrap();
        let closing = tokio::spawn({
            let commitments = commitments.clone();
            async move { commitments.close(&reported).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        tx.keep_commitment(&request, 9).await.unwrap().unwrap();
        let again = commitments.lease(request.id, "a");
        tx.commit().await.unwrap();
        closing.await.unwrap();
        assert!(commitments.report(&again).await.unwrap().is_some(), "the peer that asked again is not told");
        commitments.close(&again).await;
        assert!(commitments.kept(request.id).await.unwrap().is_none());
    }
}

//! Storage commitment of what was sent by C-STORE: from `sent` to `committed` (PS3.4 Annex J; profile 03 §4.5, §4.6).
//!
//! One request lists instances of one study and one patient. Its Transaction UID stands in the [`Commitment`] of each of them
//! before the request leaves, so that a report is known for what it is after any crash, on whatever association it comes: that of
//! the request, or one that the destination opens to the listener ([`Forward::report_came`]). Only an instance that a report
//! lists as committed has been taken over; where the destination gives receipts its R3 is asked for then, and decides (11 §3).
//!
//! # Failure
//! Without a report within `commitment_report_s` the instance is asked for again, with a new Transaction UID, by class `commit`.
//! Until then a report to the former one still counts: an archive that takes hours to answer gets there. A report that cannot be
//! kept is answered with 0110H, and comes again or is asked for again.
//!
//! # Bounds
//! `references_max` instances of a request and of a report; requests at once: the breaker's parallelism.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use idr_dimse::service::storage_commitment::{ActionInformation, EventInformation, Reference};
use idr_dimse::status::Status;
use idr_host::monitor::Counter;
use idr_host::outbound::commitment::{self, Unasked};
use idr_profile::outcome::{Context, Decided, Decider, Effect, Event, Outcome, Signal};
use jiff::SignedDuration;
use tokio::time::Instant;
use uuid::Builder;

use super::archive::{Archive, signal};
use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::store::{Way, ids};
use super::waits::Wait;
use super::{Forward, Link, unread};
use crate::outbound::Session;
use crate::spool::{Commitment, Entry, Move, Progress, Seen, SpoolError, SpoolId, State, Tenant};

/// Members of a study that are looked at in one piece.
const PAGE: usize = 500;
/// How often a report is applied to what changed while it was: the last time it is answered as not kept, and comes again.
const REPORT_TRIES: usize = 8;
/// Between two tries, while another caller moves one of its objects.
const BUSY: Duration = Duration::from_millis(20);

/// What came of storage commitment since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Instances that were asked for.
    pub asked: Counter,
    /// Instances that a report has committed.
    pub committed: Counter,
    /// Instances that a report has named as failed.
    pub failed: Counter,
    /// Instances of a report that its request did not list (EV-EXTRA).
    pub extra: Counter,
    /// Reports to no request of ours that is open (EV-UNKNOWN).
    pub unknown: Counter,
}

/// What a report says: its Event Type ID and its lists, or the status that answers what cannot be read.
pub type Said = Result<(u16, EventInformation), Status>;

/// One decision on each instance of a transaction.
type Judged = Vec<(Entry, Decided)>;

impl Forward {
    /// Asks for what was sent and is due. Says whether there was anything.
    pub(super) async fn ask_round(&self, tenant: &Tenant, link: &Link, archive: &Archive) -> Result<bool, SpoolError> {
        let Some(pass) = self.admitted(Channel::Dimse) else { return Ok(false) };
        if pass.is_probe() {
            // Of who sends.
            return Ok(false);
        }
        let open = self.claim_sent(tenant, |entry| !entry.is_taken()).await?;
        let claimed = ids(&open);
        let asked = self.ask_claimed(&pass, link, archive, tenant, open).await;
        if asked.is_err() {
            claimed.iter().for_each(|id| self.spool.give_back(*id));
        }
        asked.map(|()| !claimed.is_empty())
    }

    async fn ask_claimed(
        &self,
        pass: &Pass<'_>,
        link: &Link,
        archive: &Archive,
        tenant: &Tenant,
        open: Vec<Entry>,
    ) -> Result<(), SpoolError> {
        let (late, open): (Vec<Entry>, Vec<Entry>) = open.into_iter().partition(is_awaited);
        if !late.is_empty() {
            let decided = self.outcomes.decide(Signal::Event(Event::NoReport), &Context::default());
            tracing::warn!(objects = late.len(), row = %decided.row, "no report of storage commitment has come; it is asked for again");
            self.judged(archive.receipts, late.into_iter().map(|entry| (entry, decided.clone())).collect()).await?;
        }
        let mut groups: BTreeMap<(String, Bearing), Vec<Entry>> = BTreeMap::new();
        for entry in open {
            match self.bearing(tenant, &entry).await {
                Ok(Some(bearing)) => groups.entry((entry.record.facts.study_uid.clone(), bearing)).or_default().push(entry),
                Ok(None) => self.hold_undetermined(&[entry]).await?,
                Err(error) => {
                    tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object cannot be read; the others go on");
                    let decided = self.outcomes.decide(Signal::Event(unread(&error)), &Context::default());
                    self.judged(archive.receipts, vec![(entry, decided)]).await?;
                }
            }
        }
        let mut requests: Vec<(Bearing, Vec<Entry>)> = Vec::new();
        for ((_, bearing), entries) in groups {
            let mut uids = HashSet::new();
            let mut request = Vec::new();
            for entry in entries {
                // A report names instances by their UID: of two under one UID each has a request of its own.
                let again = !uids.insert(entry.record.announced.sop_instance_uid.clone());
                if again || request.len() == archive.references_max {
                    requests.push((bearing.clone(), std::mem::take(&mut request)));
                    uids = HashSet::from([entry.record.announced.sop_instance_uid.clone()]);
                }
                request.push(entry);
            }
            requests.push((bearing, request));
        }
        let asked = futures::stream::iter(requests).map(|(bearing, entries)| self.ask_one(pass, link, archive, bearing, entries));
        let results: Vec<Result<(), SpoolError>> = asked.buffer_unordered(pass.parallel as usize).collect().await;
        results.into_iter().collect()
    }

    /// One request, and its report if it comes on the same association.
    async fn ask_one(
        &self,
        pass: &Pass<'_>,
        link: &Link,
        archive: &Archive,
        bearing: Bearing,
        entries: Vec<Entry>,
    ) -> Result<(), SpoolError> {
        if !pass.holds() {
            ids(&entries).into_iter().for_each(|id| self.spool.give_back(id));
            return Ok(());
        }
        let item = entries.first().map_or(0, |entry| entry.id().0);
        let not = |signal: Signal<'_>, entries: Vec<Entry>| {
            let decided = self.outcomes.decide(signal, &Context::default());
            self.record(Channel::Dimse, item, &decided, None);
            self.judged(archive.receipts, entries.into_iter().map(|entry| (entry, decided.clone())).collect())
        };
        let identity = match archive.identity(&link.credentials, &bearing, self.clock.now(), self.random()) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                return not(Signal::Event(Event::Key), entries).await;
            }
        };
        let mut request = archive.request(identity);
        commitment::propose(&mut request);
        let mut session = match archive.open(request).await {
            Ok(session) => session,
            Err(signal) => return not(signal, entries).await,
        };
        // Known before it leaves: its report may come at once, and elsewhere.
        let (transaction_uid, entries) = self.begin_transaction(entries).await?;
        let references = entries.iter().map(reference).collect::<Vec<_>>();
        if references.is_empty() {
            session.release().await;
            return Ok(());
        }
        let count = references.len() as u64;
        let information = ActionInformation { transaction_uid: transaction_uid.clone(), references };
        let asked = match commitment::ask(&mut session, &information).await {
            Ok(status) => Signal::NAction(status.0),
            Err(Unasked::NotAccepted(result)) => Signal::PresentationContext(result as u8),
            Err(Unasked::Association(failure)) => signal(&failure),
            Err(Unasked::Encode(_)) => Signal::Event(Event::Unknown),
        };
        let decided = self.outcomes.decide(asked, &Context::default());
        self.record(Channel::Dimse, item, &decided, None);
        if decided.outcome != Outcome::Done {
            tracing::warn!(row = %decided.row, objects = count, "storage commitment was asked for and not granted");
            match asked {
                Signal::PresentationContext(_) => session.release().await,
                _ => session.abort().await,
            }
            return self.judged(archive.receipts, entries.into_iter().map(|entry| (entry, decided.clone())).collect()).await;
        }
        self.counters.asked.add(count);
        self.granted(&entries, &transaction_uid, &decided).await?;
        self.await_report(archive, session, &transaction_uid, &ids(&entries)).await;
        Ok(())
    }

    /// Notes the transaction in each instance; which it is, and those that are as they were.
    async fn begin_transaction(&self, entries: Vec<Entry>) -> Result<(String, Vec<Entry>), SpoolError> {
        let transaction = format!("2.25.{}", Builder::from_random_bytes(self.random()).into_uuid().as_u128());
        let now = self.clock.now();
        let wait = Duration::from_secs(self.outcomes.limits.commitment_report_s);
        let not_before = Self::not_before(now, wait);
        let (mut moves, mut listed) = (Vec::new(), Vec::new());
        for claimed in entries {
            let Some((entry, progress)) = self.as_it_is(claimed).await? else { continue };
            let before = entry.progress.commitment.clone().unwrap_or_default();
            let commitment = Commitment { transaction: Some(transaction.clone()), awaited: true, ..before };
            let to = Progress { not_before, commitment: Some(commitment), ..entry.progress.clone() };
            moves.push(Seen { progress, go: Move { id: entry.id(), to: to.clone() } });
            listed.push(Entry { progress: to, ..entry });
        }
        let changed: HashSet<SpoolId> = self.spool.advance_unchanged(moves).await?.into_iter().collect();
        changed.iter().for_each(|id| self.spool.give_back(*id));
        listed.retain(|entry| !changed.contains(&entry.id()));
        // A clock that is set makes no report late.
        let (monotonic, healthy) = (self.clock.monotonic(), self.healthy());
        for entry in &listed {
            self.waits().begin(entry.id(), Wait { due: monotonic + wait, not_before, healthy }, monotonic);
        }
        Ok((transaction, listed))
    }

    /// The destination has taken a request: the report is waited for. The count of failures stays, it ends with the report.
    async fn granted(&self, entries: &[Entry], transaction: &str, decided: &Decided) -> Result<(), SpoolError> {
        let mut moves = Vec::new();
        for entry in entries {
            let Some(entry) = self.spool.entry(entry.id()).await?.filter(|entry| is_open(entry, transaction)) else { continue };
            let to = Progress { outcome: Some(decided.row.to_string()), ..entry.progress.clone() };
            moves.push(Seen { go: Move { id: entry.id(), to }, progress: entry.progress });
        }
        // One that has changed, or is being moved in this moment, has its report.
        match self.spool.advance_unchanged(moves).await {
            Err(SpoolError::Busy(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Waits for the report on the association of the request, as long as it is not here; it may also come elsewhere, or later.
    async fn await_report(&self, archive: &Archive, mut session: Session, transaction: &str, listed: &[SpoolId]) {
        let until = Instant::now() + archive.report_wait;
        loop {
            let elsewhere = self.reported.notified();
            tokio::pin!(elsewhere);
            elsewhere.as_mut().enable();
            if !self.is_awaited(transaction, listed).await {
                break;
            }
            let stopped = async {
                match self.stop.get() {
                    Some(stop) => stop.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                report = commitment::report(&mut session, archive.references_max.max(listed.len())) => match report {
                    Ok(report) => {
                        let status = self.report_came(&report.said).await;
                        if commitment::answer(&mut session, &report, status).await.is_err() {
                            return;
                        }
                    }
                    Err(failure) => {
                        tracing::debug!(cause = %failure, "the association of a request for storage commitment ended before its report");
                        return;
                    }
                },
                () = &mut elsewhere => {}
                () = tokio::time::sleep_until(until) => break,
                () = stopped => break,
            }
        }
        session.release().await;
    }

    /// Whether the report to this transaction is still to come.
    async fn is_awaited(&self, transaction: &str, listed: &[SpoolId]) -> bool {
        for id in listed {
            if let Ok(Some(entry)) = self.spool.entry(*id).await
                && is_open(&entry, transaction)
                && is_awaited(&entry)
            {
                return true;
            }
        }
        false
    }

    /// A report of storage commitment has come, here or to the listener; the status that answers it. What it says is durable
    /// before that.
    pub async fn report_came(&self, said: &Said) -> Status {
        let answered = match said {
            Ok((event_type, information)) => self.take_report(*event_type, information).await,
            Err(status) => {
                let decided = self.outcomes.decide(Signal::Event(Event::ReportUnreadable), &Context::default());
                tracing::warn!(row = %decided.row, %status, "a report of storage commitment cannot be read; it is asked for again in time");
                return *status;
            }
        };
        self.reported.notify_waiters();
        answered.unwrap_or_else(|error| {
            tracing::error!(cause = %error, remedy = error.remedy(), "a report of storage commitment cannot be kept");
            Status::PROCESSING_FAILURE
        })
    }

    async fn take_report(&self, event_type: u16, information: &EventInformation) -> Result<Status, SpoolError> {
        let context = Context::default();
        let open = self.of_transaction(information).await?;
        if open.is_empty() {
            self.counters.unknown.add(1);
            let decided = self.outcomes.decide(Signal::Event(Event::TransactionUnknown), &context);
            tracing::info!(row = %decided.row, "a report of storage commitment answers no open request of ours");
            return Ok(Status(decided.answer.unwrap_or_default()));
        }
        let receipts = self.link().archive.as_ref().is_none_or(|archive| archive.receipts);
        if !matches!(event_type, 1 | 2) {
            let decided = self.outcomes.decide(Signal::Event(Event::EventTypeUnknown), &context);
            tracing::warn!(row = %decided.row, event_type, "a report of storage commitment is of no known event type");
            self.judged(receipts, open.into_iter().map(|entry| (entry, decided.clone())).collect()).await?;
            return Ok(Status(decided.answer.unwrap_or_default()));
        }
        let committed: HashMap<&str, &str> = pairs(&information.committed).collect();
        let failed: HashMap<&str, u16> =
            information.failed.iter().map(|(reference, reason)| (reference.sop_instance_uid.as_str(), reason.0)).collect();
        let known: HashSet<&str> = open.iter().map(|entry| entry.record.announced.sop_instance_uid.as_str()).collect();
        let extra = committed.keys().chain(failed.keys()).filter(|uid| !known.contains(*uid)).count() as u64;
        let judge = |entry: Entry| {
            let announced = &entry.record.announced;
            let uid = announced.sop_instance_uid.as_str();
            let signal = match (committed.get(uid), failed.get(uid)) {
                (Some(_), Some(_)) => Signal::Event(Event::CommittedAndFailed),
                (Some(class), None) if *class == announced.sop_class_uid => Signal::Event(Event::Committed),
                (Some(_), None) => Signal::Event(Event::CommittedOtherClass),
                (None, Some(reason)) => Signal::CommitmentFailure(*reason),
                (None, None) => Signal::Event(Event::NotInReport),
            };
            let mut decided = self.outcomes.decide(signal, &context);
            // What it said to have before, and does not confirm, is not what was sent (03 §1).
            let duplicate = entry.progress.commitment.as_ref().is_some_and(|commitment| commitment.duplicate);
            if duplicate && matches!(signal, Signal::CommitmentFailure(_)) && decided.outcome != Outcome::Quarantine {
                decided.outcome = Outcome::Hold(Decider::Study);
            }
            (entry, decided)
        };
        let judged: Judged = open.into_iter().map(judge).collect();
        let taken = judged.iter().filter(|(_, decided)| decided.outcome == Outcome::Done).count() as u64;
        let refused = judged.len() as u64 - taken;
        tracing::info!(committed = taken, others = refused, extra, "storage commitment reported");
        for (row, objects) in rows(&judged) {
            tracing::warn!(row, objects, "the destination has not committed what it was sent");
        }
        // An instance of which something else is noted in this moment (that its request was granted, say) is as it was then: the
        // report counts for it too.
        let (mut judged, mut tries) = (judged, 0);
        while !judged.is_empty() && tries < REPORT_TRIES {
            match self.judged(receipts, judged).await {
                Err(SpoolError::Busy(_)) => tokio::time::sleep(BUSY).await,
                other => other?,
            }
            let left = self.of_transaction(information).await?.into_iter().filter(is_awaited);
            judged = left.map(judge).collect();
            tries += 1;
        }
        if !judged.is_empty() {
            tracing::warn!(objects = judged.len(), "a report of storage commitment could not be kept: its objects change all the time");
            return Ok(Status::PROCESSING_FAILURE);
        }
        self.counters.committed.add(taken);
        self.counters.failed.add(refused);
        self.counters.extra.add(extra);
        Ok(Status::SUCCESS)
    }

    /// Instances whose last request has this transaction. They are of one study: that of the first one that is known.
    async fn of_transaction(&self, information: &EventInformation) -> Result<Vec<Entry>, SpoolError> {
        let transaction = information.transaction_uid.as_str();
        let named = information.committed.iter().chain(information.failed.iter().map(|(reference, _)| reference));
        for reference in named {
            for tenant in &self.tenants {
                let found = self.spool.instances(tenant, &reference.sop_instance_uid).await?;
                let Some(first) = found.into_iter().find(|entry| is_open(entry, transaction)) else { continue };
                let (mut open, mut after) = (Vec::new(), None);
                loop {
                    let page = self.spool.members(tenant, &first.record.facts.study_uid, after, PAGE).await?;
                    let Some(last) = page.last() else { return Ok(open) };
                    after = Some(last.id());
                    open.extend(page.into_iter().filter(|entry| is_open(entry, transaction)));
                }
            }
        }
        Ok(Vec::new())
    }

    /// Moves instances by what became of their request.
    async fn judged(&self, receipts: bool, judged: Judged) -> Result<(), SpoolError> {
        let now = self.clock.now();
        let old = SignedDuration::from_secs(i64::try_from(self.outcomes.ages.resend_after_s).unwrap_or(i64::MAX));
        let sent_again = |entry: &Entry, decided: &Decided| {
            let effects = &decided.effects;
            effects.contains(&Effect::Resend) || effects.contains(&Effect::ResendWhenOld) && now.duration_since(entry.progress.since) > old
        };
        let (again, asked): (Judged, Judged) = judged.into_iter().partition(|(entry, decided)| sent_again(entry, decided));
        // With receipts the R3 comes after it, and is the last word.
        let done = if receipts { State::Sent } else { State::Committed };
        let answered = |progress: &mut Progress, decided: &Decided| {
            let taken = decided.outcome == Outcome::Done;
            if let Some(commitment) = &mut progress.commitment {
                commitment.awaited = false;
                commitment.taken |= taken;
            }
            if matches!(progress.state, State::Queued) {
                progress.commitment = None;
            }
        };
        self.apply_as(again, Way { done: done.clone(), again: State::Queued, handed: false }, answered).await?;
        self.apply_as(asked, Way { done, again: State::Sent, handed: false }, answered).await
    }
}

/// Whether an instance waits for what becomes of this transaction.
fn is_open(entry: &Entry, transaction: &str) -> bool {
    let of_it = |commitment: &Commitment| !commitment.taken && commitment.transaction.as_deref() == Some(transaction);
    entry.progress.state == State::Sent && entry.progress.commitment.as_ref().is_some_and(of_it)
}

/// Whether the report to its last request is still to come.
fn is_awaited(entry: &Entry) -> bool {
    entry.progress.commitment.as_ref().is_some_and(|commitment| commitment.awaited)
}

fn reference(entry: &Entry) -> Reference {
    let announced = &entry.record.announced;
    Reference { sop_class_uid: announced.sop_class_uid.clone(), sop_instance_uid: announced.sop_instance_uid.clone() }
}

fn pairs(references: &[Reference]) -> impl Iterator<Item = (&str, &str)> {
    references.iter().map(|reference| (reference.sop_instance_uid.as_str(), reference.sop_class_uid.as_str()))
}

/// How many there are of each row that is not done.
fn rows(judged: &Judged) -> BTreeMap<&str, usize> {
    let mut rows = BTreeMap::new();
    for (_, decided) in judged.iter().filter(|(_, decided)| decided.outcome != Outcome::Done) {
        *rows.entry(&*decided.row).or_default() += 1;
    }
    rows
}

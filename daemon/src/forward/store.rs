//! Instances: from `queued` over STOW-RS to `sent`, and over the centre's receipts to `committed`. By C-STORE: [`super::associated`],
//! [`super::responsibility`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use idr_profile::outcome::{Context, Decided, Decider, Event, InstanceResult, Outcome, ReceiptAnswer, Signal, Stow, StowBody};
use idr_profile::receipt::{Carried, Object, Source as HandedBy, Statement, Verifier};

use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::lanes::LANES;
use super::pacing::{Pace, Paced};
use super::pages::Page;
use super::peer::{Batch, Failure, Heard, Source, StoreBody};
use super::register::{HOLD, Hold};
use super::storms::Results;
use super::waits::Memo;
use super::{Forward, Maps, Queue, cause_of, queued, unread};
use crate::receipts::ReceiptError;
use crate::spool::{Cause, Entry, Lane, Move, Progress, Seen, Spool, SpoolError, SpoolId, State, Stored, Study, Tenant};

/// How long instances are sent one by one after one of a request could not be read here: until that one is found.
const SINGLE_AFTER_FAULT: Duration = Duration::from_secs(60);

/// Items of a state that are claimed at once.
pub(super) const SENT_MAX: usize = 4096;

/// Where items go.
pub(super) struct Way {
    /// When it is done.
    pub(super) done: State,
    /// When it is tried again.
    pub(super) again: State,
    /// Done means that the object was handed over: R2.
    pub(super) handed: bool,
}

/// Requests of one study and one bearing each.
type Requests = VecDeque<(Bearing, Vec<Entry>)>;

/// Claimed for a round, and not begun.
#[derive(Default)]
struct Ready {
    urgent: Requests,
    normal: Requests,
    /// Lanes that were asked: the urgent one, the other.
    asked: [bool; 2],
    /// There was something in one of them.
    any: bool,
}

impl Ready {
    fn of(&mut self, lane: Lane) -> &mut Requests {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
        }
    }

    fn fill(&mut self, lane: Lane, found: Requests) {
        self.any |= !found.is_empty();
        self.asked[usize::from(lane == Lane::Normal)] = true;
        *self.of(lane) = found;
    }

    /// Whether a lane has been asked in this round, and had something.
    fn was_asked(&self, lane: Lane) -> bool {
        self.any && self.asked[usize::from(lane == Lane::Normal)]
    }
}

struct FromSpool(Arc<dyn Spool>, Arc<Pace>);

#[async_trait]
impl Source for FromSpool {
    async fn open(&self, entry: &Entry) -> Result<Box<dyn Stored>, SpoolError> {
        let stored = self.0.read(entry.id()).await?;
        // What is urgent is not held back (10 §12).
        Ok(if entry.progress.urgent { stored } else { Box::new(Paced::new(stored, self.1.clone())) })
    }
}

impl Forward {
    /// Sends what is due. Says whether there was anything.
    pub(super) async fn send_round(&self, tenant: &Tenant) -> Result<bool, SpoolError> {
        let link = self.link();
        let channel = link.channel();
        let Some(pass) = self.admitted(channel) else { return Ok(false) };
        if channel == Channel::Dimse && pass.is_probe() {
            // Outside its window nothing asks for a probe but what is urgent.
            if self.pace.allowed().open || self.has_urgent(tenant).await? {
                self.probe(&link).await;
            }
            return Ok(pass.has_answer() && !self.breakers().is_open(channel));
        }
        self.receipts_work().await?;
        let mut under_way = FuturesUnordered::new();
        let mut ready = Ready::default();
        let (mut normal_under_way, mut failed) = (0, None);
        loop {
            let parallel = pass.parallel_now() as usize;
            while under_way.len() < parallel && failed.is_none() {
                // Outside its window an item waits, and that is no failure (03 L-WINDOW). What a rate holds back would keep every
                // place for long, and is no faster with one place more: that one is left to what is urgent (10 §12).
                let allowed = self.pace.allowed();
                let places = if allowed.bytes_per_second > 0 && parallel > 1 { parallel - 1 } else { parallel };
                // A probe that fails makes its item wait: what is urgent is not risked, unless the other may take long.
                let risks_normal = pass.is_probe() && allowed.open && allowed.bytes_per_second == 0;
                let lanes = if risks_normal { [Lane::Normal, Lane::Urgent] } else { LANES };
                for lane in lanes {
                    let may = lane == Lane::Urgent || allowed.open && normal_under_way < places;
                    let again = if pass.is_probe() { !ready.any } else { !ready.was_asked(lane) || self.refills(&pass) };
                    if may && again && ready.of(lane).is_empty() && failed.is_none() {
                        match self.ready(&pass, tenant, lane).await {
                            Ok(found) => ready.fill(lane, found),
                            // What is under way ends first.
                            Err(error) => failed = Some(error),
                        }
                    }
                }
                let normal = allowed.open && normal_under_way < places && !ready.of(Lane::Normal).is_empty();
                let Some(lane) = self.turn(Queue::Instances, !ready.of(Lane::Urgent).is_empty(), normal) else { break };
                let Some((bearing, entries)) = ready.of(lane).pop_front() else { break };
                normal_under_way += usize::from(lane == Lane::Normal);
                let pass = &pass;
                under_way.push(async move {
                    let claimed = ids(&entries);
                    let sent = self.send(pass, tenant, bearing, entries).await;
                    if sent.is_err() {
                        self.give_back(&claimed);
                    }
                    (lane, sent)
                });
            }
            // One that takes long keeps its own place alone: the others are filled again.
            match under_way.next().await {
                Some((lane, sent)) => {
                    normal_under_way -= usize::from(lane == Lane::Normal);
                    failed = failed.or(sent.err());
                }
                None => break,
            }
        }
        LANES.into_iter().for_each(|lane| ready.of(lane).iter().for_each(|(_, entries)| self.give_back(&ids(entries))));
        failed.map_or(Ok(ready.any), Err)
    }

    /// Whether something urgent is to be sent, due or not.
    async fn has_urgent(&self, tenant: &Tenant) -> Result<bool, SpoolError> {
        let claimed = self.claim(tenant, "queued", Lane::Urgent, 1).await?;
        self.give_back(&ids(&claimed));
        Ok(!claimed.is_empty())
    }

    /// Whether a round goes on with what became due meanwhile. With several tenants it ends, so that each has its turn.
    fn refills(&self, pass: &Pass<'_>) -> bool {
        self.tenants.len() == 1 && pass.holds()
    }

    /// Requests of a lane that are due; empty if none is.
    async fn ready(&self, pass: &Pass<'_>, tenant: &Tenant, lane: Lane) -> Result<Requests, SpoolError> {
        loop {
            let limit = if pass.is_probe() { 1 } else { self.batch_instances_max.saturating_mul(pass.parallel as usize) };
            let entries = self.claim(tenant, "queued", lane, limit).await?;
            if entries.is_empty() {
                return Ok(VecDeque::new());
            }
            let claimed = ids(&entries);
            match self.batches(tenant, entries).await {
                Ok(batches) if batches.is_empty() && !pass.is_probe() => {}
                Ok(batches) => return Ok(batches.into()),
                Err(error) => {
                    self.give_back(&claimed);
                    return Err(error);
                }
            }
        }
    }

    /// What is sent needs its R2 at once: without a log that takes it the same instances would be sent again and again.
    async fn receipts_work(&self) -> Result<(), SpoolError> {
        let receipts = self.receipts.clone();
        self.hop.run(move || receipts.flush()).await??;
        match self.receipts.is_broken() {
            true => Err(ReceiptError::Unsettled.into()),
            false => Ok(()),
        }
    }

    /// Ends the leases of what was not moved.
    pub(super) fn give_back(&self, claimed: &[SpoolId]) {
        claimed.iter().for_each(|id| self.spool.give_back(*id));
    }

    /// The controller map has no row for them (any more): they wait for it (D437).
    pub(super) async fn hold_undetermined(&self, entries: &[Entry]) -> Result<(), SpoolError> {
        self.hold_for(entries, &Maps::undetermined()).await
    }

    async fn hold_for(&self, entries: &[Entry], cause: &Cause) -> Result<(), SpoolError> {
        let now = self.clock.now();
        let mut moves = Vec::with_capacity(entries.len());
        for claimed in entries {
            if let Some((entry, progress)) = self.as_it_is(claimed.clone()).await? {
                let held = Progress { state: State::Held(cause.clone()), since: now, not_before: now, ..entry.progress };
                moves.push(Seen { progress, go: Move { id: entry.record.id, to: held } });
            }
        }
        self.go(moves).await
    }

    /// Moves what is as it was seen. What is not, somebody has decided about: it is free to be claimed as it is now.
    pub(super) async fn go(&self, moves: Vec<Seen>) -> Result<(), SpoolError> {
        let changed = self.spool.advance_unchanged(moves).await?;
        self.give_back(&changed);
        Ok(())
    }

    /// What was claimed, with all that was noted of it meanwhile, and as it shows; `None` if it was moved: somebody has decided about it, and that
    /// stands.
    pub(super) async fn as_it_is(&self, claimed: Entry) -> Result<Option<(Entry, Progress)>, SpoolError> {
        let Some(now) = self.spool.entry(claimed.id()).await? else { return Ok(None) };
        let same =
            now.progress.state == claimed.progress.state || now.progress.state == State::Sending && claimed.progress.state == State::Queued;
        // A lease is no state of its own.
        let progress = Progress { state: claimed.progress.state, ..now.progress.clone() };
        Ok(same.then_some((Entry { progress, ..claimed }, now.progress)))
    }

    /// Requests of one study and one bearing, within the bounds of a request.
    async fn batches(&self, tenant: &Tenant, entries: Vec<Entry>) -> Result<Vec<(Bearing, Vec<Entry>)>, SpoolError> {
        let mut groups: BTreeMap<(String, Bearing), Vec<Entry>> = BTreeMap::new();
        let mut undetermined = Vec::new();
        for entry in entries {
            match self.bearing(tenant, &entry).await {
                Ok(Some(bearing)) => groups.entry((entry.record.facts.study_uid.clone(), bearing)).or_default().push(entry),
                Ok(None) => undetermined.push(entry),
                Err(error) => {
                    tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object cannot be read; the others go on");
                    let decided = self.outcomes.decide(Signal::Event(unread(&error)), &Context::default());
                    self.apply(vec![(entry, decided)], State::Sent, State::Queued).await?;
                }
            }
        }
        if !undetermined.is_empty() {
            self.hold_undetermined(&undetermined).await?;
        }
        let single = self.memory().split_until.is_some_and(|until| until > self.clock.monotonic());
        let instances_max = if single { 1 } else { self.batch_instances_max };
        let mut batches: Vec<(Bearing, Vec<Entry>)> = Vec::new();
        for ((_, bearing), entries) in groups {
            let mut batch: Vec<Entry> = Vec::new();
            let mut bytes = 0_u64;
            for entry in entries {
                let alone = Memo::read(entry.progress.memo.as_deref()).alone;
                if alone {
                    batches.push((bearing.clone(), vec![entry]));
                    continue;
                }
                let full = batch.len() >= instances_max || bytes.saturating_add(entry.record.size_bytes) > self.batch_bytes_max;
                // The answer names instances by their UID: two of one UID in a request could not be told apart (S-BOTH).
                let again = batch.iter().any(|other| other.record.announced.sop_instance_uid == entry.record.announced.sop_instance_uid);
                let alone = self.ended().goes_alone(entry.id()) || batch.iter().any(|other| self.ended().goes_alone(other.id()));
                if (full || again || alone) && !batch.is_empty() {
                    batches.push((bearing.clone(), std::mem::take(&mut batch)));
                    bytes = 0;
                }
                bytes = bytes.saturating_add(entry.record.size_bytes);
                batch.push(entry);
            }
            if !batch.is_empty() {
                batches.push((bearing, batch));
            }
        }
        Ok(batches)
    }

    async fn send(&self, pass: &Pass<'_>, tenant: &Tenant, bearing: Bearing, entries: Vec<Entry>) -> Result<(), SpoolError> {
        let urgent = entries.first().is_some_and(|entry| entry.progress.urgent);
        if !pass.holds() || !(urgent || self.pace.allowed().open) {
            // The breaker opened meanwhile, or the window closed: nothing is attempted, and no attempt counts (03 §2.4.5).
            self.give_back(&ids(&entries));
            return Ok(());
        }
        let _flying = self.fly(&entries);
        let entries = self.still_claimed(entries).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let study_uid = entries.first().map(|entry| entry.record.facts.study_uid.clone()).unwrap_or_default();
        let study = self.spool.study(tenant, &study_uid).await?;
        if let Some(study) = &study
            && self.settle_lane(study, &entries).await?
        {
            return Ok(());
        }
        if let Some(cause) = hold_of(study.as_ref()) {
            tracing::warn!(%tenant, study = %study_uid, row = %cause, objects = entries.len(), "the study is held: its objects wait with it");
            self.hold_for(&entries, &cause).await?;
            // A release that came between found them queued, and nothing to let go.
            if hold_of(self.spool.study(tenant, &study_uid).await?.as_ref()).is_none() {
                let now = self.clock.now();
                let mut moves = Vec::with_capacity(entries.len());
                for id in ids(&entries) {
                    let held = self.spool.entry(id).await?.filter(|entry| entry.progress.state == State::Held(cause.clone()));
                    moves.extend(held.map(|entry| Seen { go: queued(&entry, now), progress: entry.progress }));
                }
                return self.go(moves).await;
            }
            return Ok(());
        }
        let link = self.link();
        if let Some(archive) = link.archive.as_deref() {
            return self.send_associated(pass, &link, archive, &bearing, entries).await;
        }
        let now = self.clock.now();
        let context = Context::default();
        let first = entries.first().map_or(0, |entry| entry.id().0);
        let authorization = match link.credentials.authorization(&bearing, now, self.random()) {
            Ok(authorization) => authorization,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                let decided = self.outcomes.decide(Signal::Event(Event::Key), &context);
                self.record(Channel::Stow, first, &decided, None);
                return self.apply(all(entries, &decided), State::Sent, State::Queued).await;
            }
        };
        let batch = Batch { study_uid, entries, source: Arc::new(FromSpool(self.spool.clone(), self.pace.clone())), authorization };
        let heard = link.peer.store(&batch).await;
        let entries = batch.entries;
        let (mut results, mut rules): (Vec<InstanceResult>, Vec<u16>) = (Vec::new(), Vec::new());
        let mut single_for = Duration::from_secs(self.outcomes.limits.split_remembered_s);
        let (stow, retry_after) = match heard {
            // One of them is damaged here; which, shows when each goes alone. The others are not held for it.
            Heard::Nothing(failure @ Failure::Event(Event::SpoolRead | Event::DigestDiffers | Event::Unknown)) if entries.len() > 1 => {
                single_for = SINGLE_AFTER_FAULT;
                (Stow::Split(self.outcomes.decide(failure.signal(), &context)), None)
            }
            Heard::Nothing(failure) => (Stow::All(self.outcomes.decide(failure.signal(), &context)), None),
            Heard::Answer { status, retry_after, ahead, body } => {
                self.heard_clock(ahead);
                let body = match body {
                    StoreBody::Results(found) => {
                        results = found;
                        StowBody::Results(&results)
                    }
                    StoreBody::Reasoned(found, named) => {
                        (results, rules) = (found, named);
                        StowBody::Results(&results)
                    }
                    StoreBody::None => StowBody::None,
                    StoreBody::OtherType => StowBody::OtherType,
                };
                (self.outcomes.stow(status, body, entries.len(), &context), retry_after)
            }
        };
        let decided: Vec<(Entry, Decided)> = match stow {
            Stow::All(decided) => {
                self.record(Channel::Stow, first, &decided, retry_after.as_deref());
                if decided.class().is_some() {
                    self.waits().part(&entries);
                }
                all(entries, &decided)
            }
            Stow::Each { request, instances } => {
                let of = Results { entries, decided: instances, results: &results, rules: &rules, retry_after: retry_after.as_deref() };
                return self.apply_results(Channel::Stow, of, &request).await;
            }
            Stow::Split(decided) => {
                self.record(Channel::Stow, first, &decided, retry_after.as_deref());
                let until = self.clock.monotonic() + single_for;
                {
                    let mut memory = self.memory();
                    memory.split_until = Some(memory.split_until.map_or(until, |before| before.max(until)));
                }
                // Due again at once, one by one.
                self.give_back(&ids(&entries));
                return Ok(());
            }
        };
        self.apply(decided, State::Sent, State::Queued).await
    }

    /// Moves items by what was decided on each; what was handed over gets its R2 first.
    pub(super) async fn apply(&self, decided: Vec<(Entry, Decided)>, done: State, again: State) -> Result<(), SpoolError> {
        let handed = done == State::Sent;
        self.apply_as(decided, Way { done, again, handed }, |_, _| {}).await
    }

    /// The same; `beside` adds to each move what else is known by now.
    pub(super) async fn apply_as(
        &self,
        decided: Vec<(Entry, Decided)>,
        Way { done, again, handed: was_handed }: Way,
        beside: impl Fn(&mut Progress, &Decided) + Send,
    ) -> Result<(), SpoolError> {
        let now = self.clock.now();
        let mut moves = Vec::with_capacity(decided.len());
        let mut handed = Vec::new();
        let mut studies = BTreeMap::new();
        let mut left = Vec::new();
        for (claimed, decided) in decided {
            // What was given away is said, whatever was decided about it meanwhile.
            if was_handed && matches!(decided.outcome, Outcome::Done | Outcome::DoneDuplicate) {
                handed.push(hand_over(&claimed, now));
            }
            if decided.outcome == Outcome::Hold(Decider::Study) {
                let key = (claimed.record.announced.tenant.clone(), claimed.record.facts.study_uid.clone());
                studies.entry(key).or_insert_with(|| Hold::note(&decided, now));
            }
            self.probed(claimed.id(), &decided);
            if let Some((entry, progress)) = self.as_it_is(claimed).await? {
                left.push((entry, progress, decided));
            }
        }
        for (entry, progress, decided) in left {
            match self.next(&entry, &decided, done.clone(), again.clone(), now) {
                None => self.spool.give_back(entry.id()),
                Some(mut go) => {
                    beside(&mut go.to, &decided);
                    moves.push(Seen { progress, go });
                }
            }
        }
        // No step of these studies before an operator has decided (03 §1).
        for ((tenant, study_uid), note) in studies {
            self.note_hold(&tenant, &study_uid, note).await?;
        }
        if !handed.is_empty() {
            let receipts = self.receipts.clone();
            self.hop.run(move || receipts.say(handed, now)).await??;
        }
        if moves.is_empty() {
            return Ok(());
        }
        self.go(moves).await?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// Asks for the receipts of what was sent. Says whether there was anything.
    pub(super) async fn commit_round(&self, tenant: &Tenant) -> Result<bool, SpoolError> {
        let link = self.link();
        let asked = match link.archive.as_deref() {
            Some(archive) => self.ask_round(tenant, &link, archive).await?,
            None => false,
        };
        let Some(pass) = self.admitted(Channel::Stow) else { return Ok(asked) };
        let mut studies: BTreeMap<(Lane, String), Vec<Entry>> = BTreeMap::new();
        // Of what a destination by C-STORE was sent, that one is asked first.
        let of_archive = link.archive.is_some();
        for entry in self.claim_sent(tenant, |entry| !of_archive || entry.is_taken()).await? {
            let urgent = entry.progress.urgent;
            studies.entry((Lane::of(urgent), entry.record.facts.study_uid.clone())).or_default().push(entry);
        }
        let busy = !studies.is_empty() || asked;
        let mut failed = None;
        for ((_, study_uid), entries) in studies {
            let claimed = ids(&entries);
            let done = self.commit(&pass, tenant, &study_uid, entries).await;
            if done.is_err() {
                self.give_back(&claimed);
            }
            // The other studies go on.
            failed = failed.or(done.err());
        }
        let fetched = self.due_registrations(&pass, tenant).await;
        failed.map_or(fetched, Err).map(|fetched| fetched || busy)
    }

    /// What was sent and is due, and for which `mine` says yes: the urgent first, at most [`SENT_MAX`]. What is of others keeps none
    /// of it waiting, however much there is.
    pub(super) async fn claim_sent(&self, tenant: &Tenant, mine: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>, SpoolError> {
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for lane in LANES {
            while found.len() < SENT_MAX {
                // Leased until all are looked at: each look finds others.
                let claimed = match self.claim(tenant, "sent", lane, SENT_MAX - found.len()).await {
                    Ok(claimed) if claimed.is_empty() => break,
                    Ok(claimed) => claimed,
                    Err(error) => {
                        self.give_back(&ids(&found));
                        self.give_back(&others);
                        return Err(error);
                    }
                };
                let (own, foreign): (Vec<Entry>, Vec<Entry>) = claimed.into_iter().partition(&mine);
                others.extend(ids(&foreign));
                found.extend(own);
            }
        }
        self.give_back(&others);
        Ok(found)
    }

    async fn commit(&self, pass: &Pass<'_>, tenant: &Tenant, study_uid: &str, mut entries: Vec<Entry>) -> Result<(), SpoolError> {
        if !pass.holds() {
            self.give_back(&ids(&entries));
            return Ok(());
        }
        let context = Context::default();
        let Some(first) = entries.first() else { return Ok(()) };
        let bearing = match self.bearing(tenant, first).await {
            Ok(Some(bearing)) => bearing,
            Ok(None) => return self.hold_undetermined(&entries).await,
            Err(error) => {
                tracing::error!(object = %first.id(), cause = %error, remedy = error.remedy(), "an object cannot be read; the others of its study go on");
                let decided = self.outcomes.decide(Signal::Event(unread(&error)), &context);
                let unreadable = entries.remove(0);
                self.give_back(&ids(&entries));
                return self.apply(vec![(unreadable, decided)], State::Committed, State::Sent).await;
            }
        };
        let item = first.id().0;
        let mut waiting = Waiting::new(entries);
        let mut pages = self.pages(pass, study_uid, &bearing, item);
        while !waiting.is_empty() {
            match pages.next().await {
                Page::Some(found) => {
                    // What a page answers is done before the next is asked for.
                    let (answered, kept) = waiting.committed(&found, &self.link().centre_keys);
                    if kept.is_empty() {
                        continue;
                    }
                    self.keep(kept).await?;
                    let decided = self.outcomes.decide(Signal::Receipt(ReceiptAnswer::Commits), &context);
                    self.apply(all(answered, &decided), State::Committed, State::Sent).await?;
                }
                Page::End => {
                    let decided = |answer| self.outcomes.decide(Signal::Receipt(answer), &context);
                    let left = waiting.left().map(|(entry, answer)| (entry, decided(answer))).collect();
                    return self.apply(left, State::Committed, State::Sent).await;
                }
                Page::Not(decided) => {
                    let left: Vec<Entry> = waiting.left().map(|(entry, _)| entry).collect();
                    return self.apply(all(left, &decided), State::Committed, State::Sent).await;
                }
                Page::Stopped => {
                    self.give_back(&waiting.left().map(|(entry, _)| entry.id()).collect::<Vec<_>>());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What was sent of a study and has no receipt yet, while the pages of its receipts are read.
struct Waiting {
    /// By SOP Instance UID; several if different bytes were sent under one.
    entries: HashMap<String, Vec<(Entry, ReceiptAnswer)>>,
}

impl Waiting {
    fn new(sent: Vec<Entry>) -> Self {
        let mut entries: HashMap<String, Vec<(Entry, ReceiptAnswer)>> = HashMap::new();
        for entry in sent {
            entries.entry(entry.record.announced.sop_instance_uid.clone()).or_default().push((entry, ReceiptAnswer::Absent));
        }
        Self { entries }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes out what has its R3 on this page (03 EV-RECEIPT), with these receipts.
    fn committed(&mut self, found: &[Carried], keys: &Verifier) -> (Vec<Entry>, Vec<Carried>) {
        let (mut answered, mut kept) = (Vec::new(), Vec::new());
        for carried in found {
            let Statement::Commit { object, .. } = &carried.receipt().statement else { continue };
            let Some(entries) = self.entries.get_mut(&object.sop_instance_uid) else { continue };
            let valid = keys.verify(carried).is_ok();
            let commits = |(entry, _): &mut (Entry, ReceiptAnswer)| valid && entry.record.digest == object.digest;
            let before = answered.len();
            answered.extend(entries.extract_if(.., commits).map(|(entry, _)| entry));
            if answered.len() > before {
                kept.push(carried.clone());
            }
            // Unless another receipt commits them.
            entries.iter_mut().for_each(|(_, answer)| *answer = ReceiptAnswer::Contradicts);
            if entries.is_empty() {
                self.entries.remove(&object.sop_instance_uid);
            }
        }
        (answered, kept)
    }

    /// What no receipt commits, with what the receipts say of it.
    fn left(self) -> impl Iterator<Item = (Entry, ReceiptAnswer)> {
        self.entries.into_values().flatten()
    }
}

/// Why nothing of a study may be sent before an operator has decided about it (03 §1 hold(study)).
fn hold_of(study: Option<&Study>) -> Option<Cause> {
    let hold = Hold::read(study?.notes.get(HOLD)).filter(|hold| hold.of_study);
    hold.map(|hold| cause_of(&hold.row))
}

pub(super) fn ids(entries: &[Entry]) -> Vec<SpoolId> {
    entries.iter().map(Entry::id).collect()
}

fn all(entries: Vec<Entry>, decided: &Decided) -> Vec<(Entry, Decided)> {
    entries.into_iter().map(|entry| (entry, decided.clone())).collect()
}

fn hand_over(entry: &Entry, now: jiff::Timestamp) -> Statement {
    let announced = &entry.record.announced;
    let mut certificate = [0; 32];
    let known = announced.tls_peer_sha256.as_deref().is_some_and(|text| hex::decode_to_slice(text, &mut certificate).is_ok());
    Statement::HandOver {
        object: Object {
            sop_instance_uid: announced.sop_instance_uid.clone(),
            sop_class_uid: announced.sop_class_uid.clone(),
            study_uid: entry.record.facts.study_uid.clone(),
            transfer_syntax_uid: announced.transfer_syntax_uid.clone(),
            digest: entry.record.digest,
            size_bytes: entry.record.size_bytes,
        },
        source: HandedBy { calling_ae_title: Some(announced.calling_ae.clone()), certificate_sha256: known.then_some(certificate) },
        acceptance: entry.r1,
        attempt: format!("{}-{}-{}", entry.id(), entry.progress.attempts + 1, now.as_millisecond()),
        overrides: entry.progress.overrides.clone(),
        sent_digest: None,
    }
}

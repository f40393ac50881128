//! A centre in memory: stores, registers, signs; and fails as it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use idr_ihe::ebxml;
use idr_ihe::manifest::Manifest;
use idr_ihe::metadata::Submission;
use idr_ihe::soap::{self, Envelope};
use idr_ihe::transaction::table::action;
use idr_ihe::transaction::{iti_18, iti_41, iti_42};
use idr_ihe::xml::Limits;
use idr_profile::digest::{Digest, Digester};
use idr_profile::outcome::{InstanceResult, Severity};
use idr_profile::receipt::reconcile::{self, Compared, Question, SignedFindings};
use idr_profile::receipt::{Carried, Commits, Holder, Ids, Object, Receipt, ReceiptHash, Signer, Source, Statement, Verifier};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::rig::HandClock;
use crate::forward::clock::Clock as _;
use crate::forward::peer::{Batch, Failure, Heard, Peer, ReceiptsBody, Registered, Registration, SoapBody, StoreBody, Withdrawal};
use crate::forward::unread;

/// What is asked of the centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Store,
    Receipts,
    Register,
    Withdraw,
    Query,
    Clock,
    Reconcile,
}

/// What happens to one request instead of the usual.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It does not arrive, or is not dealt with.
    Lost(Failure),
    /// It is dealt with, and the answer does not arrive.
    Unheard(Failure),
    /// This status without a body, and `Retry-After`.
    Status(u16, Option<&'static str>),
    /// RAD-68, ITI-57: this error code.
    Code(&'static str),
    /// ITI-57: the transaction is not known.
    NotSupported,
    /// RAD-68: dealt with, no R4 in the answer.
    WithoutReceipt,
    /// RAD-68: the R4 names another set of R3.
    WrongReceipt,
    /// Query: what was registered is not to be seen yet.
    Unseen,
    /// Receipts: a page that says that the same one comes next.
    Endless,
    /// Store: so many of the instances are dealt with, and then the line is cut.
    Partly(usize, Failure),
    /// Store: each of the instances is answered with this Failure Reason.
    Refused(u16),
    /// Receipts: no more than so many.
    Only(usize),
}

/// A registered manifest.
#[derive(Clone)]
pub struct Entry {
    pub entry_uuid: String,
    pub unique_id: String,
    pub study_uid: String,
    pub hash: String,
    pub approved: bool,
    /// entryUUID that it replaced.
    pub replaces: Option<String>,
    /// SOP Instance UIDs.
    pub members: Vec<String>,
    set_uid: String,
}

#[derive(Default)]
struct State {
    stored: BTreeMap<String, (Digest, Carried)>,
    /// SOP Instance UIDs that were stored of a study.
    of_study: BTreeMap<String, Vec<String>>,
    /// What it holds, in the order in which it was stored: SOP Instance UID and SHA-256 of the data set as it came. Nothing is
    /// ever taken out.
    ledger: Vec<(String, [u8; 32])>,
    /// SOP Instance UIDs as they were stored.
    order: Vec<String>,
    entries: Vec<Entry>,
    registrations: Vec<Carried>,
    /// The last R4 of [`Fate::WrongReceipt`].
    wrong: Option<Carried>,
    refused: BTreeMap<String, u16>,
    /// Taken with a Warning Reason.
    warned: BTreeMap<String, u16>,
    names_rules: bool,
    /// A request with one of these is answered with a status as a whole.
    breaks: BTreeMap<String, u16>,
    /// A request with one of these is not answered before.
    stalls: BTreeMap<String, CancellationToken>,
    refuses_all: Option<u16>,
    lies: bool,
    down: Option<Failure>,
    fates: BTreeMap<Call, VecDeque<Fate>>,
    weather: Option<Weather>,
    calls: Vec<(Timestamp, Call)>,
    /// Requests of a kind wait, after they have come, until it is cancelled.
    paused: Option<(Call, CancellationToken)>,
    /// Receipts of a page; none: all.
    page: Option<usize>,
    arrivals: BTreeMap<String, u32>,
    ids: Ids,
    last: Option<ReceiptHash>,
}

/// What happens to a request for which nothing is scripted.
pub type Weather = Box<dyn FnMut(Call) -> Option<Fate> + Send>;

/// Drops whoever waits at the n-th step, for good.
pub struct Fuse {
    left: AtomicI64,
    burnt: AtomicBool,
    /// Says how often others have their turn at a step.
    pauses: Mutex<Option<StdRng>>,
    pub blown: Mutex<CancellationToken>,
}

impl Fuse {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            left: AtomicI64::new(i64::MAX),
            burnt: AtomicBool::new(false),
            pauses: Mutex::default(),
            blown: Mutex::new(CancellationToken::new()),
        })
    }

    /// Blows at the n-th step from now, n from 1.
    pub fn set(&self, steps: i64) {
        self.left.store(steps, Ordering::SeqCst);
        self.burnt.store(false, Ordering::SeqCst);
        *self.blown.lock().expect("no panic while held") = CancellationToken::new();
    }

    /// Whoever is at a step lets others go on, as often as follows from a seed.
    pub fn set_pauses(&self, seed: u64) {
        *self.pauses.lock().expect("no panic while held") = Some(StdRng::seed_from_u64(seed));
    }

    pub async fn step(&self) {
        let pauses = self.pauses.lock().expect("no panic while held").as_mut().map_or(0, |random| random.random_range(0..3_u8));
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.burnt.store(true, Ordering::SeqCst);
            self.blown.lock().expect("no panic while held").cancel();
        }
        if self.burnt.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

/// The centre.
pub struct Centre {
    state: Mutex<State>,
    clock: Arc<HandClock>,
    /// Its clock minus true time, seconds.
    pub skew: AtomicI64,
    pub fuse: Arc<Fuse>,
}

fn holder() -> Holder {
    Holder::new("1.2.246.10.2", "central-1").expect("valid")
}

fn signer() -> Signer {
    let mut pkcs8 = hex::decode("302e020100300506032b657004220420").expect("hex");
    pkcs8.extend([9; 32]);
    Signer::from_pkcs8(&pkcs8).expect("an Ed25519 key")
}

/// Study of an R3.
fn study_of(r3: &Carried) -> Option<&String> {
    match &r3.receipt().statement {
        Statement::Commit { object, .. } => Some(&object.study_uid),
        _ => None,
    }
}

/// Believes the centre's key.
pub fn keys() -> Verifier {
    Verifier::new([&signer().to_receipt_key(&holder())]).expect("a key")
}

impl State {
    fn sign(&mut self, at: Timestamp, statement: Statement) -> Carried {
        let id = self.ids.next(at, [self.arrivals.len() as u8; 10]);
        let carried = signer().sign(Receipt { id, at, holder: holder(), log_prev: self.last, statement });
        self.last = Some(carried.hash());
        carried
    }

    fn taken(&self, sop_instance_uid: &str) -> InstanceResult {
        self.warned.get(sop_instance_uid).map_or(InstanceResult::Stored, |reason| InstanceResult::Warned(*reason))
    }

    fn commits(&self, members: &[String]) -> Vec<ReceiptHash> {
        members.iter().filter_map(|member| self.stored.get(member).map(|(_, r3)| r3.hash())).collect()
    }

    /// As the registry and repository do it, in one transaction.
    fn submit(&mut self, now: Timestamp, submission: &Submission, document: &[u8]) -> Result<usize, &'static str> {
        let (entry, set) = (&submission.entries[0], &submission.submission_sets[0]);
        let hash = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, document));
        assert_eq!(entry.hash.as_deref(), Some(hash.as_str()), "the hash is that of the document");
        if let Some(at) = self.entries.iter().position(|known| known.unique_id == entry.unique_id) {
            let same = self.entries[at].set_uid == set.unique_id && self.entries[at].hash == hash;
            return if same { Ok(at) } else { Err("XDSDuplicateUniqueIdInRegistry") };
        }
        let replaces = submission.associations.iter().find(|association| association.association_type.ends_with(":RPLC"));
        let replaces = replaces.map(|association| association.target.clone());
        if let Some(target) = &replaces {
            match self.entries.iter_mut().find(|known| known.entry_uuid == *target) {
                None => return Err("UnresolvedReferenceException"),
                Some(known) if !known.approved => return Err("XDSRegistryDeprecatedDocumentError"),
                Some(known) => known.approved = false,
            }
        }
        let manifest = Manifest::read(document).expect("a manifest");
        let evidence = &manifest.evidence[0];
        let members: Vec<String> = evidence.series.iter().flat_map(|series| series.instances.iter().map(|(_, uid)| uid.clone())).collect();
        assert!(members.iter().all(|member| self.stored.contains_key(member)), "a manifest references what is committed");
        self.entries.push(Entry {
            entry_uuid: entry.entry_uuid.clone(),
            unique_id: entry.unique_id.clone(),
            study_uid: evidence.study_instance_uid.clone().expect("a study"),
            hash,
            approved: true,
            replaces,
            members: members.clone(),
            set_uid: set.unique_id.clone(),
        });
        let statement = Statement::Registration {
            study_uid: evidence.study_instance_uid.clone().expect("a study"),
            source: Source::default(),
            document_uid: entry.unique_id.clone(),
            commits: Commits::of(self.commits(&members)),
        };
        let r4 = self.sign(now, statement);
        self.registrations.push(r4);
        Ok(self.entries.len() - 1)
    }
}

impl Centre {
    pub fn new(clock: Arc<HandClock>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), clock, skew: AtomicI64::new(0), fuse: Fuse::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// What happens to requests for which nothing is scripted; none: the usual.
    pub fn set_weather(&self, weather: Option<Weather>) {
        self.state().weather = weather;
    }

    /// What it holds, in the order in which it was stored: SOP Instance UID and SHA-256 of the data set.
    pub fn ledger(&self) -> Vec<(String, [u8; 32])> {
        self.state().ledger.clone()
    }

    /// How many it holds.
    pub fn ledger_length(&self) -> usize {
        self.state().ledger.len()
    }

    /// The R3 of an instance.
    pub fn commit_of(&self, sop_instance_uid: &str) -> Option<Carried> {
        self.state().stored.get(sop_instance_uid).map(|(_, r3)| r3.clone())
    }

    /// Takes an instance with a Warning Reason.
    pub fn warn(&self, sop_instance_uid: &str, reason: u16) {
        self.state().warned.insert(sop_instance_uid.to_owned(), reason);
    }

    /// The next requests of a kind meet these fates.
    pub fn script(&self, call: Call, fates: impl IntoIterator<Item = Fate>) {
        self.state().fates.entry(call).or_default().extend(fates);
    }

    /// What was scripted for a kind and did not happen yet does not happen.
    pub fn unscript(&self, call: Call) {
        self.state().fates.remove(&call);
    }

    /// Requests of a kind that come from now on wait, before they are dealt with, until the token is cancelled.
    pub fn pause(&self, call: Call) -> CancellationToken {
        let until = CancellationToken::new();
        self.state().paused = Some((call, until.clone()));
        until
    }

    /// Gives receipts in pages of so many.
    pub fn set_page(&self, receipts: usize) {
        self.state().page = Some(receipts);
    }

    /// No request arrives, or all do again.
    pub fn set_down(&self, down: Option<Failure>) {
        self.state().down = down;
    }

    /// Refuses an instance with a Failure Reason.
    pub fn refuse(&self, sop_instance_uid: &str, reason: u16) {
        self.state().refused.insert(sop_instance_uid.to_owned(), reason);
    }

    /// Refuses every instance with a Failure Reason, or none any more.
    pub fn refuse_all(&self, reason: Option<u16>) {
        self.state().refuses_all = reason;
    }

    /// Takes an instance again.
    pub fn accept(&self, sop_instance_uid: &str) {
        self.state().refused.remove(sop_instance_uid);
    }

    /// Answers every request with this instance with a status and without a body.
    pub fn break_on(&self, sop_instance_uid: &str, status: u16) {
        self.state().breaks.insert(sop_instance_uid.to_owned(), status);
    }

    /// Answers no request with this instance before the token is cancelled.
    pub fn stall_on(&self, sop_instance_uid: &str) -> CancellationToken {
        let until = CancellationToken::new();
        self.state().stalls.insert(sop_instance_uid.to_owned(), until.clone());
        until
    }

    /// Says the rule of each refusal.
    pub fn name_rules(&self) {
        self.state().names_rules = true;
    }

    /// An instance came to it by another way than [`Peer::store`].
    pub fn receive_elsewhere(&self, entry: &crate::spool::Entry) {
        let announced = &entry.record.announced;
        let object = Object {
            sop_instance_uid: announced.sop_instance_uid.clone(),
            sop_class_uid: announced.sop_class_uid.clone(),
            study_uid: entry.record.facts.study_uid.clone(),
            transfer_syntax_uid: announced.transfer_syntax_uid.clone(),
            digest: entry.record.digest,
            size_bytes: entry.record.size_bytes,
        };
        let (mut state, now) = (self.state(), self.clock.now());
        let r3 = state.sign(now, Statement::Commit { object, source: Source::default(), acceptance: None });
        state.of_study.entry(entry.record.facts.study_uid.clone()).or_default().push(announced.sop_instance_uid.clone());
        state.stored.insert(announced.sop_instance_uid.clone(), (entry.record.digest, r3));
    }

    /// It has lost an instance that it answered for, and the R3 with it.
    pub fn lose(&self, sop_instance_uid: &str) {
        let mut state = self.state();
        state.stored.remove(sop_instance_uid);
        state.of_study.values_mut().for_each(|uids| uids.retain(|uid| uid != sop_instance_uid));
    }

    /// Its R3 name another digest.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// Puts an entry of somebody else into the registry.
    pub fn insert(&self, entry: Entry) {
        self.state().entries.push(entry);
    }

    pub fn foreign(study_uid: &str) -> Entry {
        Entry {
            entry_uuid: "urn:uuid:00000000-0000-5000-8000-000000000001".to_owned(),
            unique_id: "2.25.1".to_owned(),
            study_uid: study_uid.to_owned(),
            hash: "0".repeat(40),
            approved: true,
            replaces: None,
            members: Vec::new(),
            set_uid: "2.25.2".to_owned(),
        }
    }

    /// Somebody at the centre changes an entry.
    pub fn change(&self, unique_id: &str, change: impl FnOnce(&mut Entry)) {
        change(self.state().entries.iter_mut().find(|entry| entry.unique_id == unique_id).expect("registered"));
    }

    pub fn entries(&self, study_uid: &str) -> Vec<Entry> {
        self.state().entries.iter().filter(|entry| entry.study_uid == study_uid).cloned().collect()
    }

    pub fn current(&self, study_uid: &str) -> Vec<Entry> {
        self.entries(study_uid).into_iter().filter(|entry| entry.approved).collect()
    }

    /// The R4 of [`Fate::WrongReceipt`].
    pub fn wrong_receipt(&self) -> Carried {
        self.state().wrong.clone().expect("it was scripted")
    }

    /// How often the bytes of an instance have arrived.
    pub fn arrivals(&self, sop_instance_uid: &str) -> u32 {
        self.state().arrivals.get(sop_instance_uid).copied().unwrap_or(0)
    }

    /// SOP Instance UIDs, in the order in which they were stored.
    pub fn stored_in_order(&self) -> Vec<String> {
        self.state().order.clone()
    }

    /// Study Instance UIDs, in the order in which manifests were registered.
    pub fn registered_in_order(&self) -> Vec<String> {
        self.state().entries.iter().map(|entry| entry.study_uid.clone()).collect()
    }

    pub fn has(&self, sop_instance_uid: &str) -> bool {
        self.state().stored.contains_key(sop_instance_uid)
    }

    /// When requests of a kind came.
    pub fn calls(&self, kind: Call) -> Vec<Timestamp> {
        self.state().calls.iter().filter(|(_, call)| *call == kind).map(|(at, _)| *at).collect()
    }

    async fn fate(&self, call: Call) -> Option<Fate> {
        let paused = {
            let mut state = self.state();
            state.calls.push((self.clock.now(), call));
            state.paused.as_ref().filter(|(kind, _)| *kind == call).map(|(_, until)| until.clone())
        };
        if let Some(until) = paused {
            until.cancelled().await;
        }
        let mut state = self.state();
        if let Some(failure) = state.down {
            return Some(Fate::Lost(failure));
        }
        let scripted = state.fates.get_mut(&call).and_then(VecDeque::pop_front);
        scripted.or_else(|| state.weather.as_mut().and_then(|weather| weather(call)))
    }

    fn ahead(&self) -> Option<SignedDuration> {
        let centre = self.clock.truth() + SignedDuration::from_secs(self.skew.load(Ordering::SeqCst));
        Some(centre.duration_since(self.clock.now()))
    }

    fn answer<T>(&self, body: T) -> Heard<T> {
        self.status(200, None, body)
    }

    fn status<T>(&self, status: u16, retry_after: Option<&str>, body: T) -> Heard<T> {
        Heard::Answer { status, retry_after: retry_after.map(str::to_owned), ahead: self.ahead(), body }
    }

    fn response(&self, errors: &[&str], receipt: Option<Carried>, entries: Vec<Registered>) -> Heard<SoapBody> {
        let status = if errors.is_empty() { "Success" } else { "Failure" };
        self.answer(SoapBody::Response {
            status: format!("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:{status}"),
            errors: errors.iter().map(|code| ((*code).to_owned(), Severity::Error, String::new())).collect(),
            receipt: receipt.map(Box::new),
            entries,
        })
    }

    /// The first so many of a batch. What could be read before the site failed to read the next is stored.
    async fn take(&self, batch: &Batch, most: usize) -> Result<Vec<InstanceResult>, Failure> {
        let unread = |error| Failure::Event(unread(&error));
        let mut results = Vec::new();
        for entry in batch.entries.iter().take(most) {
            let mut stored = batch.source.open(entry).await.map_err(unread)?;
            let mut digester = Digester::new(&entry.record.announced.transfer_syntax_uid);
            let mut hasher = Sha256::new();
            while let Some(bytes) = stored.next().await.map_err(unread)? {
                digester.update(&bytes);
                hasher.update(&bytes);
            }
            let (uid, digest) = (entry.record.announced.sop_instance_uid.clone(), digester.finish());
            let mut state = self.state();
            *state.arrivals.entry(uid.clone()).or_default() += 1;
            if let Some(reason) = state.refuses_all.as_ref().or(state.refused.get(&uid)) {
                results.push(InstanceResult::Failed(*reason));
                continue;
            }
            if let Some((before, _)) = state.stored.get(&uid) {
                assert_eq!(*before, digest, "the same bytes come again");
                results.push(state.taken(&uid));
                continue;
            }
            let object = Object {
                sop_instance_uid: uid.clone(),
                sop_class_uid: entry.record.announced.sop_class_uid.clone(),
                study_uid: batch.study_uid.clone(),
                transfer_syntax_uid: entry.record.announced.transfer_syntax_uid.clone(),
                digest: if state.lies { Digester::new("1.2.840.10008.1.2.1").finish() } else { digest },
                size_bytes: entry.record.size_bytes,
            };
            let now = self.clock.truth();
            let r3 = state.sign(now, Statement::Commit { object, source: Source::default(), acceptance: Some(entry.r1) });
            results.push(state.taken(&uid));
            state.ledger.push((uid.clone(), hasher.finalize().into()));
            state.order.push(uid.clone());
            state.of_study.entry(batch.study_uid.clone()).or_default().push(uid.clone());
            state.stored.insert(uid, (digest, r3));
        }
        Ok(results)
    }
}

#[async_trait]
impl Peer for Centre {
    async fn store(&self, batch: &Batch) -> Heard<StoreBody> {
        self.fuse.step().await;
        let of = |entry: &crate::spool::Entry| entry.record.announced.sop_instance_uid.clone();
        let stalled = batch.entries.iter().find_map(|entry| self.state().stalls.get(&of(entry)).cloned());
        if let Some(until) = stalled {
            until.cancelled().await;
        }
        let broken = batch.entries.iter().find_map(|entry| self.state().breaks.get(&of(entry)).copied());
        let fate = self.fate(Call::Store).await;
        let heard = match broken.map(|status| Fate::Status(status, None)).or(fate) {
            Some(Fate::Lost(failure)) => Heard::Nothing(failure),
            Some(Fate::Status(status, retry_after)) => self.status(status, retry_after, StoreBody::None),
            Some(Fate::Unheard(failure)) => Heard::Nothing(self.take(batch, usize::MAX).await.err().unwrap_or(failure)),
            Some(Fate::Partly(most, failure)) => Heard::Nothing(self.take(batch, most).await.err().unwrap_or(failure)),
            Some(Fate::Refused(reason)) => self.answer(StoreBody::Results(vec![InstanceResult::Failed(reason); batch.entries.len()])),
            _ => {
                let results = match self.take(batch, usize::MAX).await {
                    Err(failure) => {
                        self.fuse.step().await;
                        return Heard::Nothing(failure);
                    }
                    Ok(results) => results,
                };
                let statuses = results.iter().filter_map(|result| match result {
                    InstanceResult::Failed(status) => Some(status & 0x0FFF),
                    _ => None,
                });
                let rules: Vec<u16> = statuses.collect();
                self.answer(match self.state().names_rules {
                    true => StoreBody::Reasoned(results, rules),
                    false => StoreBody::Results(results),
                })
            }
        };
        self.fuse.step().await;
        heard
    }

    async fn reconcile(&self, question: Vec<u8>, _: &str) -> Heard<Vec<u8>> {
        self.fuse.step().await;
        let fate = self.fate(Call::Reconcile).await;
        match fate {
            Some(Fate::Lost(failure) | Fate::Unheard(failure)) => return Heard::Nothing(failure),
            Some(Fate::Status(status, retry_after)) => return self.status(status, retry_after, Vec::new()),
            _ => {}
        }
        let question: Question = serde_json::from_slice(&question).expect("a question");
        let findings = {
            let state = self.state();
            let mut room = reconcile::HELD_MAX;
            let compare = |listed: &reconcile::Listed| {
                let of_study = state.stored.iter().filter(|(_, (_, r3))| study_of(r3) == Some(&listed.study_uid));
                Compared::new(listed, &of_study.map(|(uid, (digest, _))| (uid.clone(), *digest)).collect(), &mut room)
            };
            reconcile::Findings {
                v: 1,
                kind: "reconcile".to_owned(),
                id: Uuid::nil(),
                at: self.clock.now(),
                holder: holder().to_string(),
                studies: question.studies.iter().map(compare).collect(),
            }
        };
        let body = serde_json::to_vec(&SignedFindings::sign(findings, &signer())).expect("JSON");
        self.fuse.step().await;
        self.answer(body)
    }

    async fn receipts(&self, study_uid: &str, after: Option<Uuid>, _: &str) -> Heard<ReceiptsBody> {
        self.fuse.step().await;
        let fate = self.fate(Call::Receipts).await;
        match fate {
            Some(Fate::Lost(failure) | Fate::Unheard(failure)) => return Heard::Nothing(failure),
            Some(Fate::Status(status, retry_after)) => return self.status(status, retry_after, ReceiptsBody::None),
            _ => {}
        }
        let page_max = match fate {
            Some(Fate::Only(most)) => most,
            _ => self.state().page.unwrap_or(usize::MAX),
        };
        let mut found: Vec<Carried> = {
            let state = self.state();
            let of_study =
                |r4: &&Carried| matches!(&r4.receipt().statement, Statement::Registration { study_uid: study, .. } if study == study_uid);
            let uids = state.of_study.get(study_uid).into_iter().flatten();
            let commits = uids.filter_map(|uid| state.stored.get(uid)).map(|(_, r3)| r3);
            commits.chain(state.registrations.iter().filter(of_study)).cloned().collect()
        };
        let id = |carried: &Carried| carried.receipt().id;
        found.sort_by_key(id);
        found.retain(|carried| Some(id(carried)) > after);
        let more = found.len() > page_max;
        found.truncate(page_max);
        let next = match fate {
            Some(Fate::Endless) => after.or(found.last().map(id)),
            Some(Fate::Only(_)) => None,
            _ => found.last().filter(|_| more).map(id),
        };
        match found.is_empty() {
            true => self.status(404, None, ReceiptsBody::None),
            false => self.answer(ReceiptsBody::Some { receipts: found, next }),
        }
    }

    async fn register(&self, registration: &Registration) -> Heard<SoapBody> {
        self.fuse.step().await;
        let Registration { message_id, body, document, security } = registration;
        let request = soap::Request { action: action::ITI_41, message_id, to: "https://centre.example/ihe/gateway", security, body };
        let message = soap::write_request(&request);
        let envelope = Envelope::read(message.as_bytes(), Limits::default()).expect("an envelope");
        let objects = iti_41::read(&envelope).expect("RAD-68").objects.expect("objects");
        let submission = ebxml::decode(&objects).submission;
        let fate = self.fate(Call::Register).await;
        let heard = match fate {
            Some(Fate::Lost(failure)) => Heard::Nothing(failure),
            Some(Fate::Status(status, retry_after)) => self.status(status, retry_after, SoapBody::None { other_type: false }),
            Some(Fate::Code(code)) => self.response(&[code], None, Vec::new()),
            _ => {
                let done = {
                    let mut state = self.state();
                    let submitted = state.submit(self.clock.now(), &submission, document);
                    submitted.map(|at| {
                        let unique_id = state.entries[at].unique_id.clone();
                        let r4 = state.registrations.iter().find(|r4| {
                            matches!(&r4.receipt().statement, Statement::Registration { document_uid, .. } if *document_uid == unique_id)
                        });
                        r4.cloned()
                    })
                };
                match (fate, done) {
                    (Some(Fate::Unheard(failure)), _) => Heard::Nothing(failure),
                    (_, Err(code)) => self.response(&[code], None, Vec::new()),
                    (Some(Fate::WithoutReceipt), Ok(_)) => self.response(&[], None, Vec::new()),
                    (Some(Fate::WrongReceipt), Ok(_)) => {
                        let mut state = self.state();
                        let mut wrong = state.registrations.last().expect("registered").receipt().clone();
                        if let Statement::Registration { commits, .. } = &mut wrong.statement {
                            *commits = Commits::Root([3; 32]);
                        }
                        let wrong = state.sign(self.clock.now(), wrong.statement);
                        state.wrong = Some(wrong.clone());
                        drop(state);
                        self.response(&[], Some(wrong), Vec::new())
                    }
                    (_, Ok(receipt)) => self.response(&[], receipt, Vec::new()),
                }
            }
        };
        self.fuse.step().await;
        heard
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Heard<SoapBody> {
        self.fuse.step().await;
        let Withdrawal { message_id, body, security } = withdrawal;
        let request = soap::Request { action: action::ITI_57, message_id, to: "https://centre.example/ihe/gateway", security, body };
        let message = soap::write_request(&request);
        let envelope = Envelope::read(message.as_bytes(), Limits::default()).expect("an envelope");
        let submission = ebxml::decode(&iti_42::read(&envelope).expect("ITI-57").objects.expect("objects")).submission;
        assert_eq!((submission.submission_sets.len(), submission.entries.len(), submission.associations.len()), (1, 0, 1));
        let association = &submission.associations[0];
        assert_eq!(association.association_type, "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus");
        assert_eq!(association.source, submission.submission_sets[0].entry_uuid);
        let status = |name: &str| format!("urn:oasis:names:tc:ebxml-regrep:StatusType:{name}");
        let slot = |name: &str, value: &str| (name.to_owned(), vec![status(value)]);
        assert_eq!(association.slots, [slot("OriginalStatus", "Approved"), slot("NewStatus", "Deprecated")]);
        let heard = match self.fate(Call::Withdraw).await {
            Some(Fate::Lost(failure)) => Heard::Nothing(failure),
            Some(Fate::Status(status, retry_after)) => self.status(status, retry_after, SoapBody::None { other_type: false }),
            Some(Fate::Code(code)) => self.response(&[code], None, Vec::new()),
            Some(Fate::NotSupported) => {
                let subcodes = vec!["ActionNotSupported".to_owned()];
                self.status(500, None, SoapBody::Fault { code: Some("Sender".to_owned()), subcodes, refusal: None })
            }
            fate => {
                let error = match self.state().entries.iter_mut().find(|known| known.entry_uuid == association.target) {
                    None => Some("UnresolvedReferenceException"),
                    Some(known) if !known.approved => Some("XDSMetadataUpdateError"),
                    Some(known) => {
                        known.approved = false;
                        None
                    }
                };
                match fate {
                    Some(Fate::Unheard(failure)) => Heard::Nothing(failure),
                    _ => self.response(error.as_slice(), None, Vec::new()),
                }
            }
        };
        self.fuse.step().await;
        heard
    }

    async fn query(&self, message_id: &str, body: &str, security: &str) -> Heard<SoapBody> {
        self.fuse.step().await;
        match self.fate(Call::Query).await {
            Some(Fate::Lost(failure) | Fate::Unheard(failure)) => return Heard::Nothing(failure),
            Some(Fate::Status(status, retry_after)) => return self.status(status, retry_after, SoapBody::None { other_type: false }),
            Some(Fate::Code(code)) => return self.response(&[code], None, Vec::new()),
            Some(Fate::Unseen) => return self.response(&[], None, Vec::new()),
            _ => {}
        }
        let request = soap::Request { action: action::ITI_18, message_id, to: "https://centre.example/ihe/gateway", security, body };
        let message = soap::write_request(&request);
        let envelope = Envelope::read(message.as_bytes(), Limits::default()).expect("an envelope");
        let query = iti_18::read(&envelope).expect("ITI-18").query.expect("a query").object;
        let by_id = iti_18::Definition::of_name("GetDocuments").expect("known").id;
        let name = if query.id.as_deref() == Some(by_id) { "$XDSDocumentEntryUniqueId" } else { "$XDSDocumentEntryReferenceIdList" };
        let wanted = query.values(name).join(" ");
        let found = |entry: &&Entry| match name {
            "$XDSDocumentEntryUniqueId" => wanted.contains(&format!("'{}'", entry.unique_id)),
            _ => entry.approved && wanted.contains(&format!("'{}^", entry.study_uid)),
        };
        let answered = |entry: &Entry| Registered {
            entry_uuid: entry.entry_uuid.clone(),
            unique_id: entry.unique_id.clone(),
            approved: entry.approved,
            hash: Some(entry.hash.clone()),
            manifest: true,
        };
        let entries: Vec<Registered> = self.state().entries.iter().filter(found).map(answered).collect();
        self.response(&[], None, entries)
    }

    async fn clock(&self) -> Option<SignedDuration> {
        match self.fate(Call::Clock).await {
            Some(_) => None,
            None => self.ahead(),
        }
    }
}

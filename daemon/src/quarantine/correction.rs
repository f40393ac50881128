//! The decision `correct`: new instances in place of wrong ones (profile 01 §7.4, §8.2, §8.3).
//!
//! What is changed and how is [`idr_profile::correction`]'s; here is the order in which it happens. Every object of the unit
//! (the study, or the series) is corrected and judged before anything is kept. Then the order is kept, each
//! new instance goes the way of any accepted object (durable, with an R1 of its own) and waits as `quarantined(correction)`;
//! then the originals become `superseded`, with the decision and their successor; then the new instances go on.
//!
//! # On disk
//! `corrections/` ([`crate::ledger`]): the order, with its values. They are patient data, as the object files are.
//!
//! # Failure
//! Ended at any instant, the same command goes on: it finds its order, and the same order gives the same bytes under the same
//! UIDs, which the spool holds once. Until then neither original nor successor is forwarded. A rule that rejects a new instance
//! ends the correction before anything was kept.
//!
//! # Bounds
//! [`INSTANCES_MAX`] of one unit; one correction at a time.
//!
//! # Standard
//! Profile 01 §8.2; of §8.3 the first row: nothing of the unit was forwarded. What the centre has needs a rejection note, which
//! comes from the source.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use idr_profile::correction::{Attributes, Author, Given, Order, Plan, Scope, Survey, UidMap};
use idr_profile::receipt::Statement;
use idr_profile::rules::study::accession_name;
use idr_profile::rules::{Disposition, Verdict};
use jiff::Timestamp;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admission::{InForce, Ingress};
use crate::ledger::{self, Ledger};
use crate::receipts::Receipts;
use crate::rejudge;
use crate::spool::disk::Disk;
use crate::spool::{Announced, Cause, Decision, Entry, Facts, Move, Progress, Record, Spool, SpoolId, State, Tenant, Verb, fits};
use crate::study::Studies;

/// Instances that are corrected together.
pub const INSTANCES_MAX: usize = 20_000;
/// Objects that are moved at once.
const PAGE: usize = 500;
/// Why originals and successors wait while a correction is under way.
pub const CAUSE: &str = "correction";
/// (0008,0070) of the modifying equipment.
const MANUFACTURER: &str = "IDR";

/// What an operator orders. Its values are patient data: they go over the socket and into the ledger, into no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Object, or Study Instance UID.
    pub target: String,
    /// `(gggg,eeee)=value`, as given.
    pub sets: Vec<String>,
    /// Code value of the reason.
    pub reason: String,
    /// Code of CID 7011.
    pub modifier: Option<String>,
    /// Study Instance UID of the right order.
    pub study_uid: Option<String>,
    /// Why, in the operator's words.
    pub note: String,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({}, {})", self.target, self.reason)
    }
}

/// An order that was begun.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// [`ledger::Kept::FORMAT`].
    format: u32,
    /// Correction id: random, it names nobody.
    id: String,
    at: Timestamp,
    user: u32,
    tenant: Tenant,
    study_uid: String,
    /// None for the whole study.
    series_uid: Option<String>,
    asked: Asked,
    /// SOP Instance UID of each original and of its successor.
    instances: BTreeMap<String, String>,
    /// The originals are superseded and the successors on their way.
    done: bool,
}

impl ledger::Kept for Kept {
    const FOLDER: &'static str = "corrections";
    const FORMAT: u32 = 1;
    const UNREADABLE: &'static str = "a correction cannot be read; if it was under way its objects stay quarantined(correction)";

    fn format(&self) -> u32 {
        self.format
    }
}

impl Kept {
    /// The same command for the same unit.
    fn is(&self, tenant: &Tenant, study_uid: &str, asked: &Asked) -> bool {
        let same =
            |a: &Asked, b: &Asked| (&a.sets, &a.reason, &a.modifier, &a.study_uid) == (&b.sets, &b.reason, &b.modifier, &b.study_uid);
        self.tenant == *tenant && self.study_uid == study_uid && same(&self.asked, asked)
    }
}

/// What stands in [`Progress::memo`] of a superseded object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Successor {
    /// Correction id.
    correction: String,
    /// Code value of the reason.
    reason: String,
    /// The new object.
    object: SpoolId,
    /// Its SOP Instance UID.
    sop_instance_uid: String,
}

/// What stands in the place of an object; `None` if it is not superseded.
pub(crate) fn successor(entry: &Entry) -> Option<Successor> {
    let memo = (entry.progress.state == State::Superseded).then_some(entry.progress.memo.as_ref()).flatten()?;
    serde_json::from_str(memo).ok()
}

/// Corrects, one order after the other.
pub struct Corrections {
    ingress: Arc<Ingress>,
    receipts: Arc<Receipts>,
    studies: Arc<Studies>,
    tenants: Vec<Tenant>,
    ledger: Arc<Ledger<Kept>>,
    book: tokio::sync::Mutex<(BTreeMap<u64, Kept>, u64)>,
}

/// One unit with its order.
struct Work {
    in_force: Arc<InForce>,
    order: Order,
    uids: UidMap,
    now: Timestamp,
}

impl Corrections {
    /// Opens the folder on `disk`. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        ingress: Arc<Ingress>,
        receipts: Arc<Receipts>,
        studies: Arc<Studies>,
        tenants: Vec<Tenant>,
    ) -> io::Result<Self> {
        let (ledger, kept, next) = Ledger::open(disk)?;
        let kept: BTreeMap<u64, Kept> = kept.into_iter().collect();
        for one in kept.values().filter(|kept| !kept.done) {
            tracing::warn!(
                correction = one.id,
                "a correction was interrupted: give the same `quarantine correct` again; nothing of it is forwarded"
            );
        }
        Ok(Self { ingress, receipts, studies, tenants, ledger: Arc::new(ledger), book: tokio::sync::Mutex::new((kept, next)) })
    }

    /// Does what is asked, or with `dry_run` says what would be done.
    ///
    /// # Errors
    /// Why it cannot be done; nothing is superseded then.
    pub(crate) async fn correct(&self, asked: Asked, user: u32, dry_run: bool) -> anyhow::Result<Value> {
        let mut book = self.book.lock().await;
        let now = (self.ingress.clock)();
        let decision = Decision { verb: Verb::Correct, at: now, user, reason: asked.note.clone() };
        decision.check()?;
        let (tenant, study_uid, series) = self.target(&asked.target).await?;
        let known = book.0.iter().find(|(_, kept)| kept.is(&tenant, &study_uid, &asked)).map(|(id, kept)| (*id, kept.clone()));
        let pending = book.0.values().find(|kept| !kept.done && kept.tenant == tenant && kept.study_uid == study_uid);
        if let (None, Some(pending)) = (&known, pending) {
            anyhow::bail!("correction {} of this study is under way: give its command again first, then correct further", pending.id);
        }
        let in_force = self.ingress.in_force();
        let at = known.as_ref().map_or(now, |(_, kept)| kept.at);
        let order = order(&asked, at, &in_force)?;
        let series_uid = match (order.scope(), &known) {
            (_, Some((_, kept))) => kept.series_uid.clone(),
            (Scope::Series, None) => series,
            (Scope::Study, None) => None,
        };
        let mut kept = match &known {
            Some((_, kept)) => kept.clone(),
            None => Kept {
                format: <Kept as ledger::Kept>::FORMAT,
                id: random_id(),
                at,
                user,
                tenant: tenant.clone(),
                study_uid: study_uid.clone(),
                series_uid,
                asked,
                instances: BTreeMap::new(),
                done: false,
            },
        };
        let (todo, members) = self.unit(&kept).await?;
        let pairs = members.iter().map(|(instance, series)| (instance.as_str(), series.as_str()));
        let uids = UidMap::derive(&study_uid, pairs, order.study_uid(), &kept.id);
        let work = Work { in_force, order, uids, now };

        let mut refused = Vec::new();
        for entry in &todo {
            if let Some(why) = self.judged(entry, &work).await? {
                refused.push(json!({"object": entry.id(), "rules": why}));
            }
        }
        let new_study = work.uids.new_of(&study_uid).unwrap_or(&study_uid).to_owned();
        let answer = |done: &BTreeMap<String, String>, refused: Vec<Value>| {
            let instances: Vec<Value> = done.iter().map(|(old, new)| json!({"original": old, "corrected": new})).collect();
            json!({
                "correction": kept.id, "dry_run": dry_run, "study_uid": study_uid, "corrected_study_uid": new_study,
                "series_uid": kept.series_uid, "refused": refused, "instances": instances,
            })
        };
        if !refused.is_empty() {
            return Ok(answer(&BTreeMap::new(), refused));
        }
        let mut instances = kept.instances.clone();
        for entry in &todo {
            let old = &entry.record.announced.sop_instance_uid;
            instances.insert(old.clone(), work.uids.new_of(old).context("an object of the unit has no new UID")?.to_owned());
        }
        anyhow::ensure!(!instances.is_empty(), "nothing of {} waits in quarantine or is held", kept.asked.target);
        let answer = answer(&instances, Vec::new());
        if dry_run {
            return Ok(answer);
        }

        let number = known.as_ref().map_or(book.1, |(number, _)| *number);
        (kept.instances, kept.done) = (instances, false);
        self.keep(number, &kept).await?;
        book.1 = book.1.max(number + 1);
        book.0.insert(number, kept.clone());
        self.hold(&todo, now).await?;
        self.replace(&kept, &todo, &work, &decision).await?;
        self.let_go(&kept, now).await?;
        kept.done = true;
        self.keep(number, &kept).await?;
        tracing::info!(correction = kept.id, user, reason = kept.asked.reason, objects = todo.len(), "an operator corrected objects");
        self.studies.again(&tenant, &new_study);
        book.0.insert(number, kept);
        Ok(answer)
    }

    async fn keep(&self, number: u64, kept: &Kept) -> anyhow::Result<()> {
        let (ledger, kept) = (self.ledger.clone(), kept.clone());
        tokio::task::spawn_blocking(move || ledger.replace(number, &kept)).await?.context("the order of correction cannot be kept")
    }

    fn spool(&self) -> &dyn Spool {
        &*self.ingress.spool
    }

    /// Whose study, and of an object its series.
    async fn target(&self, target: &str) -> anyhow::Result<(Tenant, String, Option<String>)> {
        if let Ok(id) = target.parse::<SpoolId>() {
            let entry = self.spool().entry(id).await?.with_context(|| format!("there is no object {id}"))?;
            let (announced, facts) = (entry.record.announced, entry.record.facts);
            return Ok((announced.tenant, facts.study_uid, Some(facts.series_uid)));
        }
        let mut found = None;
        for tenant in &self.tenants {
            if self.spool().study(tenant, target).await?.is_some() {
                anyhow::ensure!(found.is_none(), "two organisations have a study {target} here: name an object");
                found = Some((tenant.clone(), target.to_owned(), None));
            }
        }
        found.with_context(|| format!("there is no object and no study {target}"))
    }

    /// What is to be corrected, and SOP and Series Instance UID of all that the correction is about.
    async fn unit(&self, kept: &Kept) -> anyhow::Result<(Vec<Entry>, BTreeMap<String, String>)> {
        let (mut todo, mut members) = (Vec::new(), BTreeMap::new());
        let mut forwarded = BTreeSet::new();
        let (receipts, study) = (self.receipts.clone(), kept.study_uid.clone());
        for carried in tokio::task::spawn_blocking(move || receipts.of_study(&study)).await?? {
            if let Statement::HandOver { object, .. } = &carried.receipt().statement {
                forwarded.insert(object.sop_instance_uid.clone());
            }
        }
        let made: BTreeSet<&String> = kept.instances.values().collect();
        let mut after = None;
        loop {
            let page = self.spool().members(&kept.tenant, &kept.study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for entry in page {
                let (uid, series) = (&entry.record.announced.sop_instance_uid, &entry.record.facts.series_uid);
                if made.contains(uid) || kept.series_uid.as_ref().is_some_and(|wanted| wanted != series) {
                    continue;
                }
                let (id, state) = (entry.id(), &entry.progress.state);
                match state {
                    State::Rejected => continue,
                    State::Superseded if successor(&entry).is_some_and(|by| by.correction == kept.id) => {
                        members.insert(uid.clone(), series.clone());
                        continue;
                    }
                    State::Superseded => continue,
                    State::Quarantined(_) | State::Held(_) if !forwarded.contains(uid) => {}
                    State::Queued | State::Sending | State::Receiving => anyhow::bail!(
                        "object {id} is {state}: it may be on its way to the centre. Nothing was changed; the source has to send a \
                         rejection note and new instances"
                    ),
                    _ => anyhow::bail!(
                        "object {id} of this unit was forwarded ({state}). Correcting what the centre has is not supported yet. Nothing \
                         was changed; send from the PACS a rejection note (KO 113038, 113037 or 113001) and new instances"
                    ),
                }
                anyhow::ensure!(
                    members.insert(uid.clone(), series.clone()).is_none(),
                    "two copies of instance {uid} are here: decide first which one stands, then correct"
                );
                todo.push(entry);
                anyhow::ensure!(todo.len() <= INSTANCES_MAX, "the unit has more than {INSTANCES_MAX} instances");
            }
        }
        Ok((todo, members))
    }

    /// The first pass over an object.
    async fn plan(&self, entry: &Entry, work: &Work) -> anyhow::Result<Plan> {
        let record = &entry.record;
        let rules = rules(work, record)?;
        let what = || format!("object {}", entry.id());
        let mut survey =
            Survey::new(&record.announced.transfer_syntax_uid, &work.order, &work.uids, rules.parameters().limits()).with_context(what)?;
        let mut stored = self.spool().read(entry.id()).await?;
        while let Some(bytes) = stored.next().await? {
            survey.feed(&bytes);
        }
        survey.finish().with_context(what)
    }

    /// The rules that reject what would be made of an object; `None` if they take it.
    async fn judged(&self, entry: &Entry, work: &Work) -> anyhow::Result<Option<Vec<Value>>> {
        let plan = self.plan(entry, work).await?;
        let record = corrected_record(&entry.record, work)?;
        let mut scanner = rejudge::scanner(&record, rules(work, &record)?);
        let mut rewrite = plan.rewrite();
        let mut stored = self.spool().read(entry.id()).await?;
        while let Some(bytes) = stored.next().await? {
            rewrite.feed(&bytes, &mut |bytes| scanner.feed(bytes));
        }
        rewrite.finish(&mut |bytes| scanner.feed(bytes))?;
        let verdict = verdict(&scanner.finish(), &record, work)?;
        if verdict.disposition == Disposition::Accept {
            return Ok(None);
        }
        let rejects = verdict.findings.iter().filter(|finding| finding.level.rejects());
        Ok(Some(rejects.map(|found| json!({"rule": found.rule, "words": found.comment, "remedy": found.remedy})).collect()))
    }

    /// What waits for its study waits for its correction: nothing moves it on meanwhile.
    async fn hold(&self, todo: &[Entry], now: Timestamp) -> anyhow::Result<()> {
        let waiting = || todo.iter().filter(|entry| matches!(entry.progress.state, State::Held(_)));
        let moves = waiting().map(|entry| Move { id: entry.id(), to: at_rest(entry, State::Quarantined(cause()), now) });
        for page in moves.collect::<Vec<_>>().chunks(PAGE) {
            self.spool().advance(page.to_vec()).await?;
        }
        for entry in todo {
            let state = self.spool().entry(entry.id()).await?.map(|entry| entry.progress.state);
            let state = state.with_context(|| format!("there is no object {}", entry.id()))?;
            anyhow::ensure!(matches!(state, State::Quarantined(_)), "object {} is {state} meanwhile: nothing was superseded", entry.id());
        }
        Ok(())
    }

    /// Keeps the new instances; when all of them are durable, supersedes the originals.
    async fn replace(&self, kept: &Kept, todo: &[Entry], work: &Work, decision: &Decision) -> anyhow::Result<()> {
        let mut moves = Vec::with_capacity(todo.len());
        for entry in todo {
            let (object, sop_instance_uid) = self.commit(entry, work).await?;
            let by = Successor { correction: kept.id.clone(), reason: kept.asked.reason.clone(), object, sop_instance_uid };
            let to = Progress {
                decision: Some(decision.clone()),
                memo: Some(serde_json::to_string(&by)?),
                ..at_rest(entry, State::Superseded, work.now)
            };
            moves.push(Move { id: entry.id(), to });
        }
        for page in moves.chunks(PAGE) {
            self.spool().advance(page.to_vec()).await?;
        }
        Ok(())
    }

    /// The ordinary commit: durable, with an R1 of its own. The same bytes again are the object that is here.
    async fn commit(&self, entry: &Entry, work: &Work) -> anyhow::Result<(SpoolId, String)> {
        let plan = self.plan(entry, work).await?;
        let record = corrected_record(&entry.record, work)?;
        let mut scanner = rejudge::scanner(&record, rules(work, &record)?);
        let mut writer = self.spool().open(record.announced.clone()).await?;
        let mut stored = self.spool().read(entry.id()).await?;
        let mut rewrite = plan.rewrite();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        while let Some(bytes) = stored.next().await? {
            rewrite.feed(&bytes, &mut |bytes| parts.push(bytes.to_vec()));
            for part in parts.drain(..) {
                scanner.feed(&part);
                writer.write(&part).await?;
            }
        }
        rewrite.finish(&mut |bytes| parts.push(bytes.to_vec()))?;
        for part in parts.drain(..) {
            scanner.feed(&part);
            writer.write(&part).await?;
        }
        let verdict = verdict(&scanner.finish(), &record, work)?;
        anyhow::ensure!(
            verdict.disposition == Disposition::Accept,
            "the rules changed while objects were corrected: give the command again"
        );
        let facts = facts(&verdict, work, &record).context("an accepted object has no UIDs")?;
        let committed = writer.commit(facts).await?;
        Ok((committed.id, record.announced.sop_instance_uid))
    }

    /// The successors go on as any accepted object does.
    async fn let_go(&self, kept: &Kept, now: Timestamp) -> anyhow::Result<()> {
        let config = self.ingress.in_force().config.clone();
        let mut moves = Vec::new();
        for uid in kept.instances.values() {
            for entry in self.spool().instances(&kept.tenant, uid).await? {
                if entry.progress.state == State::Quarantined(cause()) {
                    let early = config.inbound.iter().any(|row| row.name == entry.record.announced.inbound && row.forward_early);
                    let state = if early { State::Queued } else { State::Held(Cause::incomplete()) };
                    moves.push(Move { id: entry.id(), to: at_rest(&entry, state, now) });
                }
            }
        }
        for page in moves.chunks(PAGE) {
            self.spool().advance(page.to_vec()).await?;
        }
        Ok(())
    }
}

fn cause() -> Cause {
    CAUSE.parse().expect("a cause")
}

fn at_rest(entry: &Entry, state: State, now: Timestamp) -> Progress {
    Progress { state, since: now, not_before: now, attempts: 0, ..entry.progress.clone() }
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn order(asked: &Asked, at: Timestamp, in_force: &InForce) -> anyhow::Result<Order> {
    let site = &in_force.config.site;
    let author = Author {
        site_id: site.id.clone(),
        // LO has 64 characters.
        source_institution: site.organisation_name.chars().take(64).collect::<String>().trim().to_owned(),
        manufacturer: MANUFACTURER.to_owned(),
    };
    let given =
        Given { sets: &asked.sets, reason: &asked.reason, modifier: asked.modifier.as_deref(), study_uid: asked.study_uid.as_deref() };
    Ok(Order::new(&Attributes::shipped(), given, at, author)?)
}

fn rules<'a>(work: &'a Work, record: &Record) -> anyhow::Result<&'a idr_profile::rules::Rules> {
    let set = work.in_force.rules.in_force(&work.in_force.config.site.rule_sets, work.now);
    Ok(set.context("no set of site.rule_sets is in force today")?.rules_for(Some(&record.announced.calling_ae)))
}

fn verdict(scan: &idr_profile::scan::Scan, record: &Record, work: &Work) -> anyhow::Result<Verdict> {
    let in_force = &work.in_force;
    Ok(rejudge::verdict(scan, record, rules(work, record)?, &in_force.config, &in_force.organisation_oids))
}

/// As if the source had handed the corrected object over now. The bytes came from no peer.
fn corrected_record(original: &Record, work: &Work) -> anyhow::Result<Record> {
    let old = &original.announced.sop_instance_uid;
    let new = work.uids.new_of(old).context("an object of the unit has no new UID")?;
    let announced = Announced { sop_instance_uid: new.to_owned(), peer_address: None, tls_peer_sha256: None, ..original.announced.clone() };
    let facts = Facts { received: work.now, ..original.facts.clone() };
    Ok(Record { announced, facts, ..original.clone() })
}

fn facts(verdict: &Verdict, work: &Work, record: &Record) -> Option<Facts> {
    let identity = verdict.identity.as_ref()?;
    let findings: BTreeSet<String> = verdict.findings.iter().map(|finding| finding.rule.clone()).collect();
    Some(Facts {
        received: work.now,
        study_uid: identity.study_uid.clone(),
        series_uid: identity.series_uid.clone(),
        modality: identity.modality.clone().filter(|text| crate::reception::is_code_string(text)),
        patient_id: identity.patient_id.clone().filter(fits),
        accession_present: identity.accession_number.is_some(),
        accession: identity.accession_number.as_deref().map(|number| accession_name(number, identity.accession_issuer.as_deref())),
        rule_set: rules(work, record).ok()?.rule_set.clone(),
        findings: findings.into_iter().take(32).collect(),
        controller: None,
        register: None,
        service_event: None,
        state: State::Quarantined(cause()),
    })
}

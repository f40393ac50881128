//! The decision `correct`: new instances in place of wrong ones (profile 01 §7.4, §8.2, §8.3).
//!
//! What is changed and how is [`idr_profile::correction`]'s; here is the order in which it happens. Every object of the unit
//! (the study, or the series) is corrected and judged before anything is kept. Then the order is kept, each
//! new instance goes the way of any accepted object (durable, with an R1 of its own) and waits as `quarantined(correction)`, as
//! does the rejection note on those originals that the centre has (`note`); then the originals become `superseded`, with the
//! decision and their successor; then the new objects go on, in the order that the centre needs (`following`).
//!
//! # On disk
//! `corrections/` ([`crate::ledger`]): the order, with its values. They are patient data, as the object files are.
//!
//! # Failure
//! Ended at any instant, it goes on at the next start, and by the same command: it finds its order, and the same order gives the
//! same bytes under the same UIDs, which the spool holds once. Until then neither original nor successor is forwarded. A rule that
//! rejects a new object ends the correction before anything was kept.
//!
//! # Bounds
//! [`INSTANCES_MAX`] of one unit; one correction at a time.
//!
//! # Standard
//! Profile 01 §8.2, §8.3, 02 §7 rows 5, 7 and 8. What is queued or was sent without its R3 is not corrected: whether the centre
//! has it is not known.

mod following;
mod kept;
mod note;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use idr_profile::correction::{Attributes, Author, Given, Order, Plan, Scope, Survey, UidMap};
use idr_profile::receipt::Statement;
use idr_profile::rules::study::accession_name;
use idr_profile::rules::{Disposition, Verdict, row};
use jiff::Timestamp;
use rand::RngCore as _;
use serde_json::{Value, json};

use crate::admission::{InForce, Ingress};
use crate::forward::Forward;
use crate::ledger::{self, Ledger};
use crate::receipts::Receipts;
use crate::rejudge;
use crate::spool::disk::Disk;
use crate::spool::{Announced, Cause, Decision, Entry, Facts, Progress, Record, Seen, Spool, SpoolId, State, Tenant, Verb, fits};
use crate::study::Studies;

pub(crate) use kept::{Asked, successor};
use kept::{Kept, Phase, Successor, Waits};

/// Instances that are corrected together.
pub const INSTANCES_MAX: usize = 20_000;
/// Objects that are moved at once.
const PAGE: usize = 500;
/// Why originals and successors wait while a correction is under way.
pub const CAUSE: &str = "correction";
/// Why a rejection note waits for its turn. The manifest of its study waits with it.
pub const NOTE_CAUSE: &str = "rejection-note";
/// (0008,0070) of the modifying equipment.
const MANUFACTURER: &str = "IDR";

/// Corrects, one order after the other.
pub struct Corrections {
    ingress: Arc<Ingress>,
    receipts: Arc<Receipts>,
    studies: Arc<Studies>,
    tenants: Vec<Tenant>,
    /// None without a centre: nothing was ever forwarded.
    forward: Option<Arc<Forward>>,
    ledger: Arc<Ledger<Kept>>,
    book: tokio::sync::Mutex<(BTreeMap<u64, Kept>, u64)>,
}

/// The objects of one correction.
#[derive(Default)]
struct Unit {
    /// To be corrected.
    todo: Vec<Entry>,
    /// SOP and Series Instance UID of all that the correction is about.
    members: BTreeMap<String, String>,
    /// SOP Instance UIDs of those to be corrected that the centre has, or may have.
    forwarded: BTreeSet<String>,
}

impl Unit {
    /// What the centre has and no note of this correction names yet.
    fn unnamed(&self, kept: &Kept) -> BTreeSet<String> {
        self.forwarded.iter().filter(|uid| !kept.notes.values().any(|named| named.contains(*uid))).cloned().collect()
    }
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
        forward: Option<Arc<Forward>>,
    ) -> io::Result<Self> {
        let (ledger, kept, next) = Ledger::open(disk)?;
        let kept: BTreeMap<u64, Kept> = kept.into_iter().collect();
        Ok(Self { ingress, receipts, studies, tenants, forward, ledger: Arc::new(ledger), book: tokio::sync::Mutex::new((kept, next)) })
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
        let pending = book.0.values().find(|kept| kept.phase != Phase::Done && kept.tenant == tenant && kept.study_uid == study_uid);
        if let (None, Some(pending)) = (&known, pending) {
            anyhow::bail!(
                "correction {} of this study is under way: its command says what it waits for; correct further after it",
                pending.id
            );
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
                corrected_study_uid: study_uid.clone(),
                series_uid,
                asked,
                instances: BTreeMap::new(),
                notes: BTreeMap::new(),
                phase: Phase::Replacing,
            },
        };
        if dry_run {
            let unit = self.unit(&kept, book.0.values()).await?;
            let work = work(&mut kept, &unit, in_force, order, now);
            let refused = self.prepare(&mut kept, &unit, &work).await?;
            return Ok(answer(&kept, true, refused, None));
        }
        // What an order has held that was begun before waits until it is done.
        let begun = known.as_ref().is_some_and(|(_, kept)| kept.phase == Phase::Replacing);
        let prepared = async {
            let unit = self.hold(&kept, &book.0).await?;
            let work = work(&mut kept, &unit, in_force, order, now);
            let refused = self.prepare(&mut kept, &unit, &work).await?;
            anyhow::Ok((unit, work, refused))
        };
        let prepared = prepared.await;
        if !begun && prepared.as_ref().map_or(true, |(.., refused)| !refused.is_empty()) {
            self.let_go(&kept).await?;
        }
        let (unit, work, refused) = prepared?;
        if !refused.is_empty() {
            return Ok(answer(&kept, false, refused, None));
        }
        let number = known.as_ref().map_or(book.1, |(number, _)| *number);
        if !unit.todo.is_empty() || kept.phase == Phase::Replacing {
            kept.phase = Phase::Replacing;
            self.keep(number, &kept).await?;
            book.1 = book.1.max(number + 1);
            book.0.insert(number, kept.clone());
            self.replace(&kept, &book.0, &unit, &work, &decision).await?;
            kept.phase = Phase::Following;
            self.keep(number, &kept).await?;
            tracing::info!(
                correction = kept.id,
                user,
                reason = kept.asked.reason,
                objects = unit.todo.len(),
                notes = kept.notes.len(),
                "an operator corrected objects"
            );
        }
        let waits_for = match kept.phase {
            Phase::Done => None,
            _ => self.follow(number, &mut kept).await?,
        };
        self.studies.again(&tenant, &kept.corrected_study_uid);
        let answer = answer(&kept, false, Vec::new(), waits_for);
        book.0.insert(number, kept);
        Ok(answer)
    }

    /// What would be made stands in the order afterwards, if the rules reject none of it; else those that are rejected, and why.
    async fn prepare(&self, kept: &mut Kept, unit: &Unit, work: &Work) -> anyhow::Result<Vec<Value>> {
        let refused = self.refused(kept, unit, work).await?;
        if !refused.is_empty() {
            return Ok(refused);
        }
        for entry in &unit.todo {
            let old = &entry.record.announced.sop_instance_uid;
            let new = work.uids.new_of(old).context("an object of the unit has no new UID")?;
            kept.instances.insert(old.clone(), new.to_owned());
        }
        anyhow::ensure!(!kept.instances.is_empty(), "nothing of {} can be corrected: it has no object that stands", kept.asked.target);
        let unnamed = unit.unnamed(kept);
        if !unnamed.is_empty() {
            let note = self.note(kept, work, &unnamed, &unit.todo).await?;
            kept.notes.insert(note.uid, unnamed);
        }
        Ok(Vec::new())
    }

    /// What would be made, and the rules reject.
    async fn refused(&self, kept: &Kept, unit: &Unit, work: &Work) -> anyhow::Result<Vec<Value>> {
        let mut refused = Vec::new();
        for entry in &unit.todo {
            if let Some(why) = self.judged(entry, work).await? {
                refused.push(json!({"object": entry.id(), "rules": why}));
            }
        }
        let unnamed = unit.unnamed(kept);
        if !unnamed.is_empty() {
            let note = self.note(kept, work, &unnamed, &unit.todo).await?;
            if let Some(why) = self.note_judged(&note, work)? {
                refused.push(json!({"object": "rejection note", "rules": why}));
            }
        }
        Ok(refused)
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

    /// What is to be corrected, and what the correction is about.
    async fn unit(&self, kept: &Kept, all: impl Iterator<Item = &Kept>) -> anyhow::Result<Unit> {
        let mut unit = Unit::default();
        let mut handed_over = BTreeSet::new();
        let (receipts, study) = (self.receipts.clone(), kept.study_uid.clone());
        for carried in tokio::task::spawn_blocking(move || receipts.of_study(&study)).await?? {
            if let Statement::HandOver { object, .. } = &carried.receipt().statement {
                handed_over.insert((object.sop_instance_uid.clone(), object.digest));
            }
        }
        // Successors of this order, and notes of any, are nobody's originals.
        let made: BTreeSet<String> = kept.instances.values().cloned().chain(all.flat_map(|one| one.notes.keys().cloned())).collect();
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
                let handed = handed_over.contains(&(uid.clone(), entry.record.digest));
                match state {
                    State::Superseded if kept.superseded(&entry) => {
                        unit.members.insert(uid.clone(), series.clone());
                        continue;
                    }
                    State::Superseded | State::Rejected => continue,
                    // A note of its source has rejected it: it does not come back by a correction.
                    State::Committed | State::Registered if entry.progress.unlisted => continue,
                    State::Quarantined(cause) if is_rejected_by_note(cause) => continue,
                    State::Quarantined(_) | State::Held(_) => {}
                    State::Committed | State::Registered => {}
                    State::Released => anyhow::bail!(
                        "object {id} is {state}: its bytes are not here any more. Nothing was changed; the source has to send a \
                         rejection note and new instances"
                    ),
                    State::Queued | State::Sending | State::Sent | State::Receiving => anyhow::bail!(
                        "object {id} is {state}: it is on its way to the centre. Nothing was changed; give the command again when it is \
                         committed"
                    ),
                }
                if handed || matches!(state, State::Committed | State::Registered) {
                    unit.forwarded.insert(uid.clone());
                }
                anyhow::ensure!(
                    unit.members.insert(uid.clone(), series.clone()).is_none(),
                    "two copies of instance {uid} are here: decide first which one stands, then correct"
                );
                unit.todo.push(entry);
                anyhow::ensure!(unit.todo.len() <= INSTANCES_MAX, "the unit has more than {INSTANCES_MAX} instances");
            }
        }
        Ok(unit)
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

    /// The unit, of which everything that waits waits for this correction: no study, rule or operator moves it on meanwhile. It is
    /// read after that, with its receipts.
    async fn hold(&self, kept: &Kept, all: &BTreeMap<u64, Kept>) -> anyhow::Result<Unit> {
        loop {
            let unit = self.unit(kept, all.values()).await?;
            let moves = to_hold(&unit.todo, &kept.id)?;
            if moves.is_empty() {
                return Ok(unit);
            }
            for page in moves.chunks(PAGE) {
                self.spool().advance_seen(page.to_vec()).await?;
            }
        }
    }

    /// What a correction has held that was not begun is as it was.
    async fn let_go(&self, kept: &Kept) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = self.spool().members(&kept.tenant, &kept.study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id());
            self.spool().advance_unchanged(as_before(&page, |waits| waits.correction == kept.id)).await?;
        }
    }

    /// What was held by an order that was not kept any more, when the program ended, is as it was.
    async fn let_strays_go(&self) -> anyhow::Result<()> {
        let book = self.book.lock().await;
        // One that cannot be read may have begun.
        if book.0.len() as u64 != book.1 {
            return Ok(());
        }
        let begun: BTreeSet<&String> = book.0.values().filter(|kept| kept.phase == Phase::Replacing).map(|kept| &kept.id).collect();
        for tenant in &self.tenants {
            let mut after = None;
            loop {
                let page = self.spool().in_state(tenant, "quarantined", after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id());
                self.spool().advance_unchanged(as_before(&page, |waits| !begun.contains(&waits.correction))).await?;
            }
        }
        Ok(())
    }

    /// The originals as they are now, if all of them still stand and none was handed over that no note names.
    async fn still_stand(&self, kept: &Kept, all: &BTreeMap<u64, Kept>, unit: &Unit) -> anyhow::Result<Vec<Entry>> {
        let mut now = self.unit(kept, all.values()).await?;
        let ids: BTreeSet<SpoolId> = unit.todo.iter().map(Entry::id).collect();
        now.todo.retain(|entry| ids.contains(&entry.id()));
        let stands = now.todo.len() == ids.len() && to_hold(&now.todo, &kept.id)?.is_empty();
        anyhow::ensure!(stands, "an original was decided about meanwhile: nothing was superseded; give the command again");
        let unnamed = now.unnamed(kept);
        anyhow::ensure!(
            !now.todo.iter().any(|entry| unnamed.contains(&entry.record.announced.sop_instance_uid)),
            "an original was handed over to the centre meanwhile: nothing was superseded; give the command again"
        );
        Ok(now.todo)
    }

    /// Keeps the new instances; when all of them are durable, supersedes the originals.
    async fn replace(&self, kept: &Kept, all: &BTreeMap<u64, Kept>, unit: &Unit, work: &Work, decision: &Decision) -> anyhow::Result<()> {
        let mut successors = BTreeMap::new();
        for entry in &unit.todo {
            let (object, sop_instance_uid) = self.commit(entry, work).await?;
            let by = Successor { correction: kept.id.clone(), reason: kept.asked.reason.clone(), object, sop_instance_uid };
            successors.insert(entry.id(), serde_json::to_string(&by)?);
        }
        for (uid, named) in &kept.notes {
            if self.spool().instances(&kept.tenant, uid).await?.is_empty() {
                let note = self.note(kept, work, named, &unit.todo).await?;
                anyhow::ensure!(note.uid == *uid, "the rejection note is another one than the order has");
                self.commit_note(note, work).await?;
            }
        }
        let mut moves = Vec::with_capacity(unit.todo.len());
        for entry in self.still_stand(kept, all, unit).await? {
            let (decision, memo) = (Some(decision.clone()), successors.remove(&entry.id()));
            moves.push(Seen::new(&entry, Progress { decision, memo, ..at_rest(&entry, State::Superseded, work.now) }));
        }
        for page in moves.chunks(PAGE) {
            self.spool().advance_seen(page.to_vec()).await?;
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
        let facts = facts(&verdict, work, &record, CAUSE).context("an accepted object has no UIDs")?;
        let committed = writer.commit(facts).await?;
        Ok((committed.id, record.announced.sop_instance_uid))
    }
}

fn cause() -> Cause {
    cause_of(CAUSE)
}

fn cause_of(word: &str) -> Cause {
    word.parse().expect("a cause")
}

/// The reason of an instance that came, or came again, after a rejection note on it.
fn is_rejected_by_note(cause: &Cause) -> bool {
    row(cause.as_str()).is_some_and(|row| row.name == "rejected-returns")
}

/// Successors of a correction that wait for it, and for no other one that corrects them again.
async fn successors_waiting(spool: &dyn Spool, kept: &Kept) -> anyhow::Result<Vec<Entry>> {
    let mut waiting = Vec::new();
    for uid in kept.instances.values() {
        let entries = spool.instances(&kept.tenant, uid).await?;
        let waits = |entry: &Entry| entry.progress.state == State::Quarantined(cause()) && Waits::of(entry).is_none();
        waiting.extend(entries.into_iter().filter(waits));
    }
    Ok(waiting)
}

fn answer(kept: &Kept, dry_run: bool, refused: Vec<Value>, waits_for: Option<&str>) -> Value {
    let none = BTreeMap::new();
    let instances = if refused.is_empty() { &kept.instances } else { &none };
    let instances: Vec<Value> = instances.iter().map(|(old, new)| json!({"original": old, "corrected": new})).collect();
    let notes: Vec<Value> = kept.notes.iter().map(|(uid, named)| json!({"note": uid, "rejects": named})).collect();
    json!({
        "correction": kept.id, "dry_run": dry_run, "study_uid": kept.study_uid, "corrected_study_uid": kept.corrected_study_uid,
        "series_uid": kept.series_uid, "refused": refused, "instances": instances, "rejection_notes": notes, "waits_for": waits_for,
    })
}

/// The unit with its order.
fn work(kept: &mut Kept, unit: &Unit, in_force: Arc<InForce>, order: Order, now: Timestamp) -> Work {
    let pairs = unit.members.iter().map(|(instance, series)| (instance.as_str(), series.as_str()));
    let uids = UidMap::derive(&kept.study_uid, pairs, order.study_uid(), &kept.id);
    kept.corrected_study_uid = uids.new_of(&kept.study_uid).unwrap_or(&kept.study_uid).to_owned();
    Work { in_force, order, uids, now }
}

/// Moves by which those that wait for anything else wait for a correction; each remembers how it was.
fn to_hold(todo: &[Entry], correction: &str) -> serde_json::Result<Vec<Seen>> {
    let mut moves = Vec::new();
    for entry in todo.iter().filter(|entry| matches!(entry.progress.state, State::Held(_) | State::Quarantined(_))) {
        let was = match Waits::of(entry) {
            Some(waits) if waits.correction == correction => continue,
            Some(waits) => waits.was,
            None => entry.progress.state.clone(),
        };
        let memo = serde_json::to_string(&Waits { correction: correction.to_owned(), was })?;
        let to = Progress { state: State::Quarantined(cause()), memo: Some(memo), ..entry.progress.clone() };
        moves.push(Seen::new(entry, to));
    }
    Ok(moves)
}

/// Moves by which those that wait for some corrections are as they were before.
fn as_before(entries: &[Entry], of: impl Fn(&Waits) -> bool) -> Vec<Seen> {
    let waiting = entries.iter().filter_map(|entry| Some((entry, Waits::of(entry).filter(&of)?)));
    waiting.map(|(entry, waits)| Seen::new(entry, Progress { state: waits.was, memo: None, ..entry.progress.clone() })).collect()
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

fn facts(verdict: &Verdict, work: &Work, record: &Record, waits_for: &str) -> Option<Facts> {
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
        urgent: record.facts.urgent,
        state: State::Quarantined(cause_of(waits_for)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::Quarantine;
    use crate::spool::sample::{announced, at, data, facts, hand_over, memory_spool, tenant};
    use crate::spool::{Move, SpoolError};
    use idr_profile::identifier::Environment;
    use idr_profile::rules::RuleSets;

    /// A held object, and one that a rule quarantines and an operator may release.
    async fn waiting(spool: &dyn Spool) -> Vec<Entry> {
        let quarantined = Facts { state: State::Quarantined("D301".parse().expect("a cause")), ..facts(1) };
        let held = Facts { state: State::Held(Cause::incomplete()), ..facts(0) };
        let mut entries = Vec::new();
        for (n, facts) in (0..).zip([held, quarantined]) {
            let id = hand_over(spool, announced(n), facts, &data(n, 100)).await.expect("kept").id;
            entries.push(spool.entry(id).await.expect("works").expect("here"));
        }
        entries
    }

    async fn again(spool: &dyn Spool, entries: &[Entry]) -> Vec<Entry> {
        let mut now = Vec::new();
        for entry in entries {
            now.push(spool.entry(entry.id()).await.expect("works").expect("here"));
        }
        now
    }

    #[tokio::test]
    async fn what_waits_for_a_correction_is_let_go_by_nobody_else_and_is_as_it_was_when_the_correction_is_not_made() {
        let spool = memory_spool();
        let before = waiting(&spool).await;
        spool.advance_seen(to_hold(&before, "one").expect("written")).await.expect("held");
        let held = again(&spool, &before).await;
        assert!(held.iter().all(|entry| entry.progress.state == State::Quarantined(cause())), "{held:?}");
        assert!(to_hold(&held, "one").expect("written").is_empty(), "once is enough");

        let sets = Arc::new(RuleSets::load(&idr_profile::rules::shipped_files(), None, Environment::Test).expect("loaded"));
        let tenants = [tenant()];
        let quarantine = Quarantine { spool: &spool, tenants: &tenants, rules: sets, now: at(500) };
        for entry in &held {
            let decided = quarantine.decide(&entry.id().to_string(), Verb::Release, 1000, "why").await.expect("works").expect("here");
            assert!(decided[0].refused.is_some(), "{decided:?}");
        }
        assert_eq!(again(&spool, &held).await, held);

        // Another order that finds them remembers how they were in the beginning.
        spool.advance_seen(to_hold(&held, "two").expect("written")).await.expect("held");
        let held = again(&spool, &before).await;
        assert!(as_before(&held, |waits| waits.correction == "one").is_empty());
        spool.advance_seen(as_before(&held, |waits| waits.correction == "two")).await.expect("let go");
        assert_eq!(again(&spool, &before).await, before);
    }

    #[tokio::test]
    async fn what_is_on_its_way_since_it_was_read_is_not_pulled_back() {
        let spool = memory_spool();
        let before = waiting(&spool).await;
        let queued = Progress { state: State::Queued, ..before[0].progress.clone() };
        spool.advance(vec![Move { id: before[0].id(), to: queued }]).await.expect("moved");
        let refused = spool.advance_seen(to_hold(&before, "one").expect("written")).await;
        assert!(matches!(refused, Err(SpoolError::Changed(id)) if id == before[0].id()), "{refused:?}");
        let now = again(&spool, &before).await;
        assert_eq!((&now[0].progress.state, &now[1]), (&State::Queued, &before[1]));
    }
}

//! Quarantine: what an operator sees of it, and the decisions about it (profile 01 §7).
//!
//! An object is here because of one or more reasons: rules that reject it, or the row of an outcome. `release` marks the rules
//! as overridden, which R2 then says (profile 11 §2), and lets the unchanged object go on; `reject` ends its way. Neither
//! alters or removes a byte. `re-evaluate` asks the rules in force again ([`crate::study::stage_t`]); `keep` says which of two
//! copies with the same SOP Instance UID and other bytes goes on.
//!
//! [`command`] is the operator's side of it. The decision `correct` has a way of its own ([`correction`]).
//!
//! # Failure
//! A decision stands in the journal before it is answered, with its user and reason. The same decision again changes nothing.
//!
//! # Bounds
//! A list comes in pages of [`PAGE`]; a decision about a study takes its objects page by page.
//!
//! # Standard
//! Profile 01 §7. A rule at REJECT* is never released (§1).

pub mod command;
pub mod correction;

use std::collections::BTreeSet;
use std::sync::Arc;

use idr_profile::identifier::Environment;
use idr_profile::outcome::Outcomes;
use idr_profile::rules::{Level, Rule, RuleSets, Stage, row};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::spool::{Cause, Decision, Entry, Move, Progress, Seen, Spool, SpoolError, SpoolId, State, Tenant, Verb};
use crate::study::stage_t::earlier;

/// Objects of one page.
pub const PAGE: usize = 200;
/// Findings that a record holds; one that has so many may have more.
const FINDINGS_MAX: usize = 32;

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    tenant: Tenant,
    after: Option<SpoolId>,
}

/// Why an object is in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Rule id, or row of the outcome table.
    pub id: String,
    /// Level at which the rule failed; none for a row of the outcome table.
    pub level: Option<Level>,
    /// It may not be released unchanged.
    pub locked: bool,
    /// Error Comment of the rule, signal of the row.
    pub words: String,
    /// What to do.
    pub remedy: String,
}

/// What became of a decision about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// Which.
    pub object: SpoolId,
    /// Its state now.
    pub state: State,
    /// Rules that are overridden now.
    pub overrides: Vec<String>,
    /// Why the decision does not hold for it; none: it does.
    pub refused: Option<String>,
}

/// What the decisions need.
pub struct Quarantine<'a> {
    /// Where the objects are.
    pub spool: &'a dyn Spool,
    /// Whose.
    pub tenants: &'a [Tenant],
    /// Rule sets at hand.
    pub rules: Arc<RuleSets>,
    /// The instant of the decision.
    pub now: Timestamp,
}

impl Quarantine<'_> {
    /// A page of what is quarantined, oldest first: `objects`, and `next` if there may be more.
    ///
    /// # Errors
    /// The spool.
    pub async fn list(&self, cursor: Option<Cursor>) -> Result<Value, SpoolError> {
        let Some(first) = self.tenants.first() else { return Ok(json!({"objects": [], "next": null})) };
        let Cursor { tenant, after } = cursor.unwrap_or(Cursor { tenant: first.clone(), after: None });
        let page = self.spool.in_state(&tenant, "quarantined", after, PAGE).await?;
        let following = || self.tenants.iter().find(|other| **other > tenant).map(|other| Cursor { tenant: other.clone(), after: None });
        let next = match page.last() {
            Some(last) if page.len() == PAGE => Some(Cursor { tenant: tenant.clone(), after: Some(last.id()) }),
            _ => following(),
        };
        let mut objects = Vec::with_capacity(page.len());
        for entry in &page {
            objects.push(self.described(entry).await?);
        }
        Ok(json!({"objects": objects, "next": next}))
    }

    /// One object, in any state; `None` if it is not here.
    ///
    /// # Errors
    /// The spool.
    pub async fn show(&self, id: SpoolId) -> Result<Option<Value>, SpoolError> {
        match self.spool.entry(id).await? {
            Some(entry) => self.described(&entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// Neither patient nor accession: what an operator needs is where it is and why.
    async fn described(&self, entry: &Entry) -> Result<Value, SpoolError> {
        let (announced, facts) = (&entry.record.announced, &entry.record.facts);
        let copies = self.others(entry).await?;
        let copies: Vec<Value> = copies
            .iter()
            .map(|other| {
                json!({
                    "object": other.id(), "state": other.progress.state, "digest": other.record.digest,
                    "bytes": other.record.size_bytes, "received": other.record.facts.received,
                })
            })
            .collect();
        Ok(json!({
            "object": entry.id(), "tenant": announced.tenant, "study_uid": facts.study_uid, "series_uid": facts.series_uid,
            "sop_instance_uid": announced.sop_instance_uid, "sop_class_uid": announced.sop_class_uid,
            "modality": facts.modality, "inbound": announced.inbound, "calling_ae_title": announced.calling_ae,
            "received": facts.received, "bytes": entry.record.size_bytes, "digest": entry.record.digest,
            "rule_set": facts.rule_set, "state": entry.progress.state, "since": entry.progress.since,
            "reasons": reasons(entry, &self.rules), "findings": facts.findings, "overrides": entry.progress.overrides,
            "decision": entry.progress.decision, "successor": correction::successor(entry), "other_copies": copies,
            "study_reasons": self.study_reasons(entry).await?,
        }))
    }

    /// Reasons that ask the study: the elements that differ, and the object of another study where a rule is about one.
    async fn study_reasons(&self, entry: &Entry) -> Result<Vec<Value>, SpoolError> {
        let (tenant, facts) = (&entry.record.announced.tenant, &entry.record.facts);
        let mut told = Vec::new();
        for reason in reasons(entry, &self.rules) {
            let Some(row) = row(&reason.id).filter(|row| row.stage == Stage::T && !is_conflict(row.id)) else { continue };
            let elsewhere = match (row.name, &facts.accession) {
                ("series-in-two-studies", _) => self.spool.series(tenant, &facts.series_uid).await?,
                ("accession-two-patients" | "accession-two-studies", Some(name)) => self.spool.accession(tenant, name).await?,
                _ => Vec::new(),
            };
            let object = earlier(&elsewhere, &facts.study_uid).first().map(|one| one.object);
            told.push(json!({"rule": row.id, "tags": row.tags.split('\\').collect::<Vec<_>>(), "object": object}));
        }
        Ok(told)
    }

    /// Objects with the same SOP Instance UID and other bytes (profile 01 D732), of which the bytes are here.
    async fn others(&self, entry: &Entry) -> Result<Vec<Entry>, SpoolError> {
        let announced = &entry.record.announced;
        let mut others = self.spool.instances(&announced.tenant, &announced.sop_instance_uid).await?;
        others.retain(|other| other.record.digest != entry.record.digest && other.progress.state != State::Released);
        Ok(others)
    }

    /// Decides about one object, or all quarantined ones of a study. `None`: there is no such object or study here.
    ///
    /// # Errors
    /// The reason cannot be kept; the spool, then what was decided before it stands.
    pub async fn decide(&self, target: &str, verb: Verb, user: u32, reason: &str) -> Result<Option<Vec<Decided>>, SpoolError> {
        let decision = Decision { verb, at: self.now, user, reason: reason.to_owned() };
        decision.check()?;
        if let Ok(id) = target.parse::<SpoolId>() {
            return match self.spool.entry(id).await? {
                Some(entry) => self.apply(&[entry], &decision).await.map(Some),
                None => Ok(None),
            };
        }
        let mut decided = None;
        for tenant in self.tenants {
            if self.spool.study(tenant, target).await?.is_none() {
                continue;
            }
            let decided = decided.get_or_insert_with(Vec::new);
            let mut after = None;
            loop {
                let mut page = self.spool.members(tenant, target, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id());
                page.retain(|entry| matches!(entry.progress.state, State::Quarantined(_)));
                decided.extend(self.apply(&page, &decision).await?);
            }
        }
        Ok(decided)
    }

    /// Which of the copies with other bytes goes on (profile 01 §7.4); `entry` is the second. Gives its way and that of the others.
    async fn keep(&self, entry: &Entry, decision: &Decision) -> Result<Result<(Option<Progress>, Vec<Seen>), String>, SpoolError> {
        if entry.progress.decision.as_ref().is_some_and(|before| before.verb == decision.verb) {
            return Ok(Ok((None, Vec::new())));
        }
        let reasons = reasons(entry, &self.rules);
        let Some(conflict) = reasons.iter().find(|reason| is_conflict(&reason.id)) else {
            return Ok(Err("it is not quarantined for another copy with its SOP Instance UID".to_owned()));
        };
        let moved = |of: &Entry, state: State| Progress {
            state,
            since: decision.at,
            not_before: decision.at,
            attempts: 0,
            decision: Some(decision.clone()),
            reasons: Vec::new(),
            memo: None,
            ..of.progress.clone()
        };
        if decision.verb == Verb::KeepFirst {
            return Ok(Ok((Some(moved(entry, State::Rejected)), Vec::new())));
        }
        let others = self.others(entry).await?;
        if let Some(other) = others.iter().find(|other| is_forwarded(&other.progress.state)) {
            let state = &other.progress.state;
            return Ok(Err(format!("the first copy is {state}: let the source send this one under new UIDs, with a rejection note")));
        }
        if let Some(locked) = reasons.iter().find(|reason| reason.locked) {
            return Ok(Err(format!("{} is REJECT* and cannot be released unchanged: {}", locked.words, locked.remedy)));
        }
        let rejected = others.iter().filter(|other| !other.progress.state.is_set_aside());
        let rejected = rejected.map(|other| Seen::new(other, moved(other, State::Rejected))).collect();
        let mut overrides = entry.progress.overrides.clone();
        overrides.push(conflict.id.clone());
        let left: Vec<String> =
            reasons.iter().map(|reason| &reason.id).filter(|id| !overrides.contains(id) && row(id).is_some()).cloned().collect();
        let state = match left.first().and_then(|rule| rule.parse().ok()) {
            Some(rule) => State::Quarantined(rule),
            None => State::Held(Cause::incomplete()),
        };
        Ok(Ok((Some(Progress { overrides, reasons: left, ..moved(entry, state) }), rejected)))
    }

    async fn apply(&self, entries: &[Entry], decision: &Decision) -> Result<Vec<Decided>, SpoolError> {
        let (mut moves, mut decided) = (Vec::new(), Vec::new());
        for entry in entries {
            let next = match decision.verb {
                Verb::KeepFirst | Verb::KeepSecond => match self.keep(entry, decision).await? {
                    Ok((next, others)) => {
                        moves.extend(others);
                        Ok(next)
                    }
                    Err(why) => Err(why),
                },
                _ => decide(entry, decision, &self.rules),
            };
            let (progress, refused) = match &next {
                Ok(Some(progress)) => (progress, None),
                Ok(None) => (&entry.progress, None),
                Err(why) => (&entry.progress, Some(why.clone())),
            };
            decided.push(Decided { object: entry.id(), state: progress.state.clone(), overrides: progress.overrides.clone(), refused });
            moves.extend(next.ok().flatten().map(|to| Seen::new(entry, to)));
        }
        if moves.is_empty() {
            return Ok(decided);
        }
        self.spool.advance_seen(moves.clone()).await?;
        for Move { id, to } in moves.iter().map(|one| &one.go) {
            // The operator's own words stay in the journal: nobody can say what is in them.
            tracing::info!(object = %id, user = decision.user, verb = ?decision.verb, state = %to.state, overrides = ?to.overrides, "an operator decided about a quarantined object");
        }
        Ok(decided)
    }
}

/// The reason of an object of whose SOP Instance UID another copy was here before, with other bytes.
fn is_conflict(rule: &str) -> bool {
    row(rule).is_some_and(|row| row.name == "duplicate-other-content")
}

/// Whether it was given to the centre, or is on its way there.
fn is_forwarded(state: &State) -> bool {
    matches!(state, State::Sending | State::Sent | State::Committed | State::Registered | State::Released)
}

/// Why an object is in quarantine, the first reason first. Rules of stages S and I are asked at the level at which it was received.
pub fn reasons(entry: &Entry, sets: &RuleSets) -> Vec<Reason> {
    let State::Quarantined(cause) = &entry.progress.state else { return Vec::new() };
    let facts = &entry.record.facts;
    let set = facts.rule_set.split('/').next().and_then(|id| sets.set(id));
    let rules = set.map(|set| set.rules_for(Some(&entry.record.announced.calling_ae)));
    let day = TimeZone::UTC.to_datetime(facts.received).date();
    let rule = |id: &str| rules.and_then(|rules| Some((rules.rule(id)?, rules.environment)));
    let rejects = |id: &&String| rule(id).is_some_and(|(rule, environment)| rule.levels.at(day, environment).rejects());
    let mut ids = vec![cause.as_str()];
    ids.extend(entry.progress.reasons.iter().map(String::as_str));
    // What was found at reception counts until the object is judged again.
    if entry.progress.judged.is_none() {
        ids.extend(facts.findings.iter().filter(rejects).map(String::as_str));
    }
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    let of_rule = |id: &str, (rule, environment): (&Rule, Environment)| Reason {
        id: id.to_owned(),
        level: Some(rule.levels.at(day, environment)),
        locked: rule.levels.is_locked(),
        words: rule.comment.clone(),
        remedy: rule.remedy.clone(),
    };
    ids.into_iter().map(|id| rule(id).map_or_else(|| without_rule(id), |found| of_rule(id, found))).collect()
}

/// A rule whose set is not here any more, or a row of the outcome table.
fn without_rule(id: &str) -> Reason {
    if let Some(row) = row(id) {
        let locked = row.level.starts_with("REJECT*");
        return Reason { id: id.to_owned(), level: None, locked, words: row.comment.to_owned(), remedy: row.remedy.to_owned() };
    }
    if id == correction::CAUSE {
        let remedy =
            "The same `idr-site quarantine correct` again says what it waits for, and goes on where it was interrupted.".to_owned();
        return Reason { id: id.to_owned(), level: None, locked: true, words: "a correction is under way".to_owned(), remedy };
    }
    if id == correction::NOTE_CAUSE {
        let remedy = "None needed: it is sent when the corrected instances are at the centre.".to_owned();
        return Reason { id: id.to_owned(), level: None, locked: true, words: "a correction is under way".to_owned(), remedy };
    }
    let outcomes = Outcomes::base();
    let (words, remedy) = match outcomes.explain(id).first() {
        Some(row) => (row.signal.clone(), row.effect.clone()),
        None => ("a reason that this version does not know".to_owned(), "Look into the journal of its time.".to_owned()),
    };
    Reason { id: id.to_owned(), level: None, locked: false, words, remedy }
}

/// How an object goes on; `None` if the same was decided before.
fn decide(entry: &Entry, decision: &Decision, sets: &RuleSets) -> Result<Option<Progress>, String> {
    let state = &entry.progress.state;
    let State::Quarantined(cause) = state else {
        let before = entry.progress.decision.as_ref().map(|decision| decision.verb);
        return if before == Some(decision.verb) { Ok(None) } else { Err(format!("it is {state}, not quarantined")) };
    };
    let moved = Progress {
        since: decision.at,
        not_before: decision.at,
        attempts: 0,
        decision: Some(decision.clone()),
        memo: None,
        ..entry.progress.clone()
    };
    match decision.verb {
        Verb::Reject => Ok(Some(Progress { state: State::Rejected, reasons: Vec::new(), ..moved })),
        Verb::ReEvaluate if row(cause.as_str()).is_none() => Err(format!("{cause} is no rule: `quarantine release` tries it again")),
        // It stays where it is until it has been judged.
        Verb::ReEvaluate => Ok(Some(Progress { decision: Some(decision.clone()), judged: None, ..entry.progress.clone() })),
        Verb::KeepFirst | Verb::KeepSecond => Err("it takes the other copies too".to_owned()),
        Verb::Correct => Err("it is corrected by `idr-site quarantine correct`".to_owned()),
        Verb::Hold | Verb::Cancel => Err("that is decided by `idr-site queue`".to_owned()),
        Verb::Release => {
            let reasons = reasons(entry, sets);
            if let Some(locked) = reasons.iter().find(|reason| reason.locked) {
                return Err(format!("{} is REJECT* and cannot be released unchanged: {}", locked.words, locked.remedy));
            }
            if entry.record.facts.findings.len() >= FINDINGS_MAX {
                return Err(
                    "it has more findings than its record can name: one of them may be REJECT*. Correct it at its source.".to_owned()
                );
            }
            // Only rules are overridden; after the row of an outcome the same is tried again.
            let rules = reasons.iter().filter(|reason| row(&reason.id).is_some()).map(|reason| reason.id.clone());
            let mut overrides: Vec<String> = entry.progress.overrides.iter().cloned().chain(rules).collect();
            overrides.sort();
            overrides.dedup();
            let state = match row(cause.as_str()) {
                Some(_) => State::Held(Cause::incomplete()),
                None => State::Queued,
            };
            Ok(Some(Progress { state, overrides, reasons: Vec::new(), ..moved }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::MemoryDisk;
    use crate::spool::index::MemoryStore;
    use crate::spool::sample::{announced, at, data, facts, hand_over, open, read, study_uid, tenant};
    use crate::spool::{Announced, Facts, FileSpool};

    const USER: u32 = 1000;

    fn sets() -> Arc<RuleSets> {
        let site = "allow_stricter = true\n[levels]\nD315 = \"REJECT\"";
        let sets = RuleSets::load(&idr_profile::rules::shipped_files(), Some(site), Environment::Test).expect("loaded");
        Arc::new(sets)
    }

    fn quarantined(n: u64, cause: &str, findings: &[&str]) -> Facts {
        Facts {
            rule_set: "fi-2.4.1/1".to_owned(),
            findings: findings.iter().map(ToString::to_string).collect(),
            state: State::Quarantined(cause.parse().expect("a cause")),
            ..facts(n)
        }
    }

    async fn with(objects: &[(u64, &str, &[&str])]) -> (MemoryDisk, FileSpool, Vec<SpoolId>) {
        let disk = MemoryDisk::default();
        let (spool, _) = open(&disk, &MemoryStore::default(), false).expect("an empty disk");
        let mut ids = Vec::new();
        for (n, cause, findings) in objects {
            let seam = spool.seam();
            let done = hand_over(&*seam, announced(*n), quarantined(*n, cause, findings), &data(*n, 100)).await.expect("kept");
            ids.push(done.id);
        }
        (disk, spool, ids)
    }

    #[tokio::test]
    async fn a_decision_holds_for_what_the_profile_allows() {
        // cause, findings, verb → state, overrides, or why not
        type Case = (&'static str, &'static [&'static str], Verb, &'static str, &'static [&'static str], Option<&'static str>);
        let cases: &[Case] = &[
            ("D301", &["D301"], Verb::Release, "held(incomplete)", &["D301"], None),
            // D302 and D404 warn, D315 rejects here: only what rejected is overridden.
            ("D301", &["D301", "D302", "D315", "D404"], Verb::Release, "held(incomplete)", &["D301", "D315"], None),
            // One locked reason is enough, also as the second.
            ("D301", &["D101", "D301"], Verb::Release, "quarantined(D301)", &[], Some("REJECT*")),
            ("D101", &["D101"], Verb::Release, "quarantined(D101)", &[], Some("REJECT*")),
            ("D101", &["D101"], Verb::Reject, "rejected", &[], None),
            ("D301", &["D301"], Verb::Reject, "rejected", &[], None),
            // What the centre refused is tried again: there is no rule to override.
            ("CS-C000", &[], Verb::Release, "queued", &[], None),
        ];
        for (n, (cause, findings, verb, state, overrides, refused)) in (1..).zip(cases) {
            let (disk, spool, ids) = with(&[(n, cause, findings)]).await;
            let (seam, tenants) = (spool.seam(), [tenant()]);
            let quarantine = Quarantine { spool: &*seam, tenants: &tenants, rules: sets(), now: at(500) };
            let decided =
                quarantine.decide(&ids[0].to_string(), *verb, USER, "asked the ward").await.expect("a working disk").expect("here");
            let [one] = decided.as_slice() else { panic!("{decided:?}") };
            assert_eq!(
                (one.state.to_string().as_str(), one.overrides.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
                (*state, *overrides),
                "{cause}"
            );
            assert_eq!(one.refused.as_deref().map(|why| why.contains(refused.unwrap_or("-"))), refused.map(|_| true), "{one:?}");
            // It stands after a restart with a lost index, with who and why; not a byte is altered.
            drop(quarantine);
            drop((seam, spool));
            let (spool, _) = open(&disk.power_cut(n), &MemoryStore::default(), false).expect("readable");
            let entry = spool.seam().entry(ids[0]).await.expect("readable").expect("here");
            assert_eq!(entry.progress.state.to_string(), *state);
            let decision =
                refused.is_none().then(|| Decision { verb: *verb, at: at(500), user: USER, reason: "asked the ward".to_owned() });
            assert_eq!(entry.progress.decision, decision);
            assert_eq!(read(&*spool.seam(), ids[0]).await.expect("whole"), data(n, 100));
        }
    }

    #[tokio::test]
    async fn the_same_decision_again_changes_nothing_and_another_one_is_refused() {
        let (_, spool, ids) = with(&[(1, "D301", &["D301"])]).await;
        let (seam, tenants, id) = (spool.seam(), [tenant()], ids[0].to_string());
        let decide = async |verb, second| {
            let quarantine = Quarantine { spool: &*seam, tenants: &tenants, rules: sets(), now: at(second) };
            quarantine.decide(&id, verb, USER, "why").await.expect("a working disk").expect("here").remove(0)
        };
        let first = decide(Verb::Release, 500).await;
        assert_eq!(decide(Verb::Release, 600).await, first);
        assert_eq!(seam.entry(ids[0]).await.expect("readable").expect("here").progress.since, at(500));
        let refused = decide(Verb::Reject, 700).await.refused.expect("it has left quarantine");
        assert!(refused.contains("held(incomplete), not quarantined"), "{refused}");
    }

    #[tokio::test]
    async fn a_reason_must_be_given_and_can_be_kept() {
        let (_, spool, ids) = with(&[(1, "D301", &["D301"])]).await;
        let (seam, tenants) = (spool.seam(), [tenant()]);
        let quarantine = Quarantine { spool: &*seam, tenants: &tenants, rules: sets(), now: at(500) };
        for reason in ["", "  ", "two\nlines", &"x".repeat(201)] {
            let error = quarantine.decide(&ids[0].to_string(), Verb::Release, USER, reason).await.expect_err("no reason");
            assert!(error.to_string().starts_with("reason "), "{error}");
        }
        assert!(quarantine.decide("0000000000000099", Verb::Release, USER, "why").await.expect("readable").is_none());
        assert!(quarantine.decide("1.2.3", Verb::Release, USER, "why").await.expect("readable").is_none());
    }

    #[tokio::test]
    async fn a_study_is_decided_about_as_far_as_each_object_allows() {
        let (_, spool, ids) = with(&[(4, "D301", &["D301"]), (5, "D101", &["D101"]), (8, "D301", &["D301"])]).await;
        let (seam, tenants) = (spool.seam(), [tenant()]);
        let held = hand_over(&*seam, announced(6), facts(6), &data(6, 100)).await.expect("kept").id;
        let quarantine = Quarantine { spool: &*seam, tenants: &tenants, rules: sets(), now: at(500) };
        let decided = quarantine.decide(&study_uid(4), Verb::Release, USER, "why").await.expect("a working disk").expect("here");
        let told: Vec<_> = decided.iter().map(|one| (one.object, one.refused.is_some())).collect();
        assert_eq!(told, [(ids[0], false), (ids[1], true)], "the object of another study and the held one are not asked about");
        assert_eq!(seam.entry(held).await.expect("readable").expect("here").progress.decision, None);
        assert_eq!(seam.entry(ids[2]).await.expect("readable").expect("here").progress.state.to_string(), "quarantined(D301)");
    }

    #[tokio::test]
    async fn a_list_names_reason_and_remedy_and_the_copies_with_other_bytes_page_by_page() {
        let disk = MemoryDisk::default();
        let (spool, _) = open(&disk, &MemoryStore::default(), false).expect("an empty disk");
        let seam = spool.seam();
        let count = PAGE as u64 + 3;
        for n in 0..count {
            hand_over(&*seam, announced(n), quarantined(n, "D301", &["D301"]), &data(n, 10)).await.expect("kept");
        }
        let other: Announced = announced(count - 1);
        let copy = hand_over(&*seam, other, facts(count - 1), &data(9999, 10)).await.expect("kept").id;
        let other_tenant: Tenant = "t0".parse().expect("valid");
        let tenants = [other_tenant, tenant()];
        let quarantine = Quarantine { spool: &*seam, tenants: &tenants, rules: sets(), now: at(500) };
        let (mut objects, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = quarantine.list(cursor).await.expect("readable");
            objects.extend(page["objects"].as_array().cloned().expect("a list"));
            pages += 1;
            cursor = serde_json::from_value(page["next"].clone()).expect("a cursor");
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((objects.len() as u64, pages), (count, 3));
        let last = objects.last().expect("some");
        let reason = &last["reasons"][0];
        assert_eq!((&reason["id"], &reason["words"]), (&json!("D301"), &json!("D301 Patient ID missing")));
        assert_eq!(reason["remedy"], "Complete the identity in the RIS or device and send again.");
        assert_eq!(last["other_copies"][0]["object"], json!(copy));
        assert_eq!(objects[0]["other_copies"], json!([]));
        // Nothing of the patient.
        assert!(!json!(objects).to_string().contains("010190-900P"));
        assert_eq!(quarantine.show(copy).await.expect("readable").expect("here")["state"], "held(incomplete)");
        assert!(quarantine.show(SpoolId(99_999)).await.expect("readable").is_none());
    }

    #[test]
    fn a_reason_of_any_kind_has_words() {
        for (id, words, locked) in [
            ("D714", "D714 Accession Number used for two patients", false),
            ("D001", "D001 Calling AE title not allowed", true),
            ("CS-C000", "", false),
            ("X-WHAT", "does not know", false),
        ] {
            let reason = without_rule(id);
            assert!(reason.words.contains(words) && !reason.words.is_empty() && !reason.remedy.is_empty(), "{reason:?}");
            assert_eq!(reason.locked, locked, "{id}");
        }
    }
}

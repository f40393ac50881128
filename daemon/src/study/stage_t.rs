//! Stages T and R for one study: its instances are read, the rules asked, and each waiting instance moved (profile 01 §6).
//!
//! The study is passed over page by page: once to see what it is made of, once to read the headers, once to move. What is kept of
//! an instance meanwhile is what the rules ask for ([`Gathering`]).
//!
//! # Failure
//! The moves are durable before the note that says what was evaluated: a crash between repeats the evaluation, which is a function
//! of the set and changes nothing the second time. An object that cannot be read takes no part and is queued, so that the forwarder
//! meets the fault and deals with it by its row.
//!
//! # Bounds
//! Headers are read to their bulk data, one at a time. A whole object is read only to judge it again, or to compare two encodings.

use std::collections::{BTreeMap, BTreeSet};

use idr_profile::mapping::ControllerRow;
use idr_profile::rules::study::{Controlled, Copy, Effect, Gathering, Known, Patient, StudyFinding, StudyInstance, content_outside_pixels};
use idr_profile::rules::{RuleSet, RuleSets, Stage, row};
use idr_profile::scan::{Scan, Scanner};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

use super::{PAGE, Studies};
use crate::forward::{Described, Maps, priority};
use crate::rejudge;
use crate::spool::record::REASONS_MAX;
use crate::spool::{Cause, Entry, Note, Occurrence, Progress, SpoolError, SpoolId, State, Study};

/// Name of the note of the last evaluation.
pub const EVALUATED: &str = "evaluated";
/// Longest value of a note.
const NOTE_BYTES_MAX: usize = 256;

/// What the last evaluation was of and found: `<fingerprint> <instant> <rule set> <rule>…`, ` …` if there are more.
struct Evaluated {
    fingerprint: String,
    /// Instances stayed behind, for a reason that it knew.
    keeps: bool,
}

impl Evaluated {
    fn read(study: &Study) -> Option<Self> {
        let mut words = study.notes.get(EVALUATED)?.split(' ');
        Some(Self { fingerprint: words.next()?.to_owned(), keeps: words.next()? == "keeps" })
    }
}

/// What a study is made of, without its headers.
struct Outline {
    /// Of the ids that take part, what operators have overridden, and the rules and maps.
    fingerprint: String,
    /// The rule set that the study is judged by, and whether its instances are judged by it again (stage R).
    set: Arc<RuleSet>,
    again: bool,
    /// Its only calling AE title.
    calling_ae: Option<String>,
    /// An object waits to be judged again.
    stale: bool,
    /// How long something has been missing that was listed.
    missing_for: Option<SignedDuration>,
    /// It goes before others: an operator wants it, or something of it came by a row whose objects do.
    urgent: bool,
}

/// What the reading of the headers gave.
struct Seen {
    findings: Vec<StudyFinding>,
    gathering: Gathering,
    /// Rules of stages S and I that reject an object which was judged again.
    again: BTreeMap<SpoolId, Vec<String>>,
    /// Objects that could not be read.
    unreadable: BTreeSet<SpoolId>,
}

/// What an evaluation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Instances that were moved.
    pub(super) instances: usize,
    /// Instances stayed behind, for a reason that it knew.
    keeps: bool,
    /// An instance is being sent that is to be moved, or left out of the manifest, or was changed while its study was judged: its
    /// turn comes when that is over.
    pub(super) undone: bool,
}

/// It takes part in the evaluation.
fn takes_part(state: &State) -> bool {
    !state.is_set_aside() && *state != State::Released
}

/// It was given away.
fn is_forwarded(state: &State) -> bool {
    matches!(state, State::Sending | State::Sent | State::Committed | State::Registered | State::Released)
}

/// A cause that the evaluation gives and ends: completeness, or a rule of the profile. Other causes belong to an operator or the
/// forwarder.
pub fn is_ours(cause: &Cause) -> bool {
    *cause == Cause::incomplete() || row(cause.as_str()).is_some()
}

/// It may be moved by the evaluation.
fn waits(state: &State) -> bool {
    match state {
        State::Held(cause) | State::Quarantined(cause) => is_ours(cause),
        State::Queued => true,
        _ => false,
    }
}

fn is_stage_t(rule: &str) -> bool {
    row(rule).is_some_and(|row| row.stage == Stage::T)
}

/// Other studies in which something occurred before it did in this one: the later study is the one that is held.
pub fn earlier<'a>(occurrences: &'a [Occurrence], study_uid: &str) -> Vec<&'a Occurrence> {
    let place = |one: &Occurrence| (one.first_arrival, one.object);
    let own = occurrences.iter().find(|one| one.study_uid == study_uid).map(place);
    occurrences.iter().filter(|one| one.study_uid != study_uid && own.is_none_or(|own| place(one) < own)).collect()
}

/// Rules of its reception that a quarantined object waits for.
fn of_reception(entry: &Entry, sets: &RuleSets) -> Vec<String> {
    let reasons = crate::quarantine::reasons(entry, sets);
    reasons.into_iter().map(|reason| reason.id).filter(|id| row(id).is_some() && !is_stage_t(id)).collect()
}

impl Studies {
    /// Evaluates a complete study.
    pub(super) async fn evaluate_set(&self, study: &Study, now: Timestamp) -> Result<Moved, SpoolError> {
        let rules = self.rules.load_full();
        let Some(outline) = self.outline(study, &rules, now).await? else { return Ok(Moved::default()) };
        let last = Evaluated::read(study);
        if !outline.stale && last.is_some_and(|last| last.keeps && last.fingerprint == outline.fingerprint) {
            return Ok(Moved::default());
        }
        let seen = self.see(study, &outline, &rules).await?;
        for StudyFinding { finding, effect, .. } in &seen.findings {
            let (tenant, rule, rule_set) = (&study.tenant, &finding.rule, &finding.rule_set);
            match effect {
                Effect::Note if !finding.level.is_shown() => tracing::debug!(%tenant, rule, rule_set, "{}", finding.comment),
                _ => {
                    tracing::warn!(%tenant, study = %study.study_uid, rule, rule_set, ?effect, remedy = finding.remedy, "{}", finding.comment)
                }
            }
        }
        let hold = outline.set.rules_for(None).parameters().hold_study_on_quarantine && self.quarantines(study, &seen).await?;
        let moved = self.move_on(study, &outline, &seen, hold, &rules, now).await?;
        self.keep(study, &outline, &seen, moved.keeps && !moved.undone, now).await?;
        Ok(moved)
    }

    async fn outline(&self, study: &Study, rules: &RuleSets, now: Timestamp) -> Result<Option<Outline>, SpoolError> {
        let (config, maps) = (self.config.load(), self.maps.load());
        let Some(in_force) = rules.in_force(&config.site.rule_sets, now) else { return Ok(None) };
        let mut hasher = Sha256::new();
        let mut first: Option<(Timestamp, SpoolId, String)> = None;
        let mut titles = BTreeSet::new();
        let mut quarantined = Vec::new();
        let mut urgent = false;
        let mut after = None;
        loop {
            let page = self.spool.members(&study.tenant, &study.study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for entry in page.iter().filter(|entry| takes_part(&entry.progress.state)) {
                urgent |= entry.record.facts.urgent;
                hasher.update(entry.id().0.to_be_bytes());
                hasher.update(entry.progress.overrides.join(" "));
                hasher.update([0]);
                let (received, id) = (entry.record.facts.received, entry.id());
                if first.as_ref().is_none_or(|(at, other, _)| (received, id) < (*at, *other)) {
                    first = Some((received, id, entry.record.facts.rule_set.clone()));
                }
                if titles.len() < 2 {
                    titles.insert(entry.record.announced.calling_ae.clone());
                }
                if matches!(&entry.progress.state, State::Quarantined(cause) if is_ours(cause)) {
                    quarantined.push(entry.progress.judged.clone());
                }
            }
        }
        let Some((_, _, named)) = first else { return Ok(None) };
        let own = named.split('/').next().and_then(|id| rules.set(id));
        let date = maps.zone.to_datetime(now).date();
        let holds = |set: &&Arc<RuleSet>| set.is_in_production(date) && config.site.rule_sets.contains(&set.id);
        let (set, again) = match own.filter(holds) {
            Some(set) => (set, set.rules_for(None).rule_set != named),
            None => (in_force, true),
        };
        hasher.update(&set.edition);
        hasher.update(maps.edition());
        let missing_for = self.missing_for(study, now).await;
        let wait = SignedDuration::from_secs(i64::from(set.rules_for(None).parameters().count_wait_s));
        if missing_for.is_some_and(|missing_for| missing_for >= wait) {
            hasher.update(b"missing");
        }
        let stale = quarantined.iter().any(|judged| judged.as_ref() != Some(&set.edition));
        Ok(Some(Outline {
            fingerprint: hex::encode(&hasher.finalize()[..8]),
            set: set.clone(),
            again,
            calling_ae: if titles.len() == 1 { titles.pop_first() } else { None },
            stale,
            missing_for,
            urgent: priority::wanted(study).unwrap_or(urgent),
        }))
    }

    /// How long ago something was listed that is not here. What cannot be said is journalled, and found another time.
    async fn missing_for(&self, study: &Study, now: Timestamp) -> Option<SignedDuration> {
        match self.completeness.listed(&study.tenant, &study.study_uid).await {
            Ok(listed) => listed.filter(|listed| !listed.missing.is_empty()).map(|listed| now.duration_since(listed.since)),
            Err(error) => {
                tracing::warn!(tenant = %study.tenant, cause = %error, "what was listed of a study is not known (D721)");
                None
            }
        }
    }

    /// Reads the headers, asks the index, and judges.
    async fn see(&self, study: &Study, outline: &Outline, rules: &RuleSets) -> Result<Seen, SpoolError> {
        let mut gathering = Gathering::new(outline.set.rules_for(outline.calling_ae.as_deref()).clone());
        let mut known = Known::default();
        known.missing_for = outline.missing_for;
        let (mut again, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        let mut accessions = BTreeSet::new();
        let (config, organisation_oids) = (self.config.load_full(), self.maps.load().organisation_oids());
        let mut after = None;
        loop {
            let page = self.spool.members(&study.tenant, &study.study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for entry in &page {
                if is_forwarded(&entry.progress.state) {
                    known.patients.extend(entry.record.facts.patient_id.as_ref().map(|of| Patient::new(&of.id, &of.authority)));
                }
                if !takes_part(&entry.progress.state) {
                    known.saw(&entry.record.announced.sop_instance_uid);
                    continue;
                }
                let own = outline.set.rules_for(Some(&entry.record.announced.calling_ae));
                let judged_again = waits(&entry.progress.state)
                    && (outline.again
                        || matches!(entry.progress.state, State::Quarantined(_))
                            && entry.progress.judged.as_ref() != Some(&outline.set.edition));
                let scan = match self.scan(entry, outline, judged_again).await {
                    Ok(scan) => scan,
                    Err(error @ (SpoolError::Damaged { .. } | SpoolError::Disk { .. } | SpoolError::Unknown(_))) => {
                        tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object cannot be read; the others go on");
                        known.saw(&entry.record.announced.sop_instance_uid);
                        unreadable.insert(entry.id());
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if judged_again {
                    let verdict = rejudge::verdict(&scan, &entry.record, own, &config, &organisation_oids);
                    let rejecting = verdict.findings.iter().filter(|finding| finding.level.rejects());
                    again.insert(entry.id(), rejecting.map(|finding| finding.rule.clone()).collect());
                }
                let context = rejudge::context(&entry.record, &config, &organisation_oids);
                let Some(instance) = StudyInstance::of(&scan, &context, own) else {
                    unreadable.insert(entry.id());
                    continue;
                };
                gathering.add(entry.id().0, instance);
                accessions.extend(entry.record.facts.accession.clone());
                if waits(&entry.progress.state) {
                    known.controlled.extend(self.controlled(entry, &scan, rules));
                    let copies = self.copies(entry, outline).await?;
                    if !copies.is_empty() {
                        known.copies.insert(entry.id().0, copies);
                    }
                }
            }
        }
        for series in gathering.series() {
            if !earlier(&self.spool.series(&study.tenant, series).await?, &study.study_uid).is_empty() {
                known.series_elsewhere.insert(series.to_owned());
            }
        }
        for accession in &accessions {
            let used = self.spool.accession(&study.tenant, accession).await?;
            let patient = |other: &&Occurrence| other.patient_id.as_ref().map(|of| Patient::new(&of.id, &of.authority));
            known.accessions.extend(earlier(&used, &study.study_uid).iter().map(patient));
        }
        Ok(Seen { findings: gathering.judge(&known), gathering, again, unreadable })
    }

    /// The header of an object; all of it if it is to be judged.
    async fn scan(&self, entry: &Entry, outline: &Outline, whole: bool) -> Result<Scan, SpoolError> {
        let rules = outline.set.rules_for(Some(&entry.record.announced.calling_ae));
        let mut scanner = Scanner::new(&entry.record.announced.transfer_syntax_uid, rules.parameters().limits());
        let mut stored = self.spool.read(entry.id()).await?;
        while let Some(bytes) = stored.next().await? {
            scanner.feed(&bytes);
            if !whole && (scanner.has_bulk() || scanner.failed()) {
                break;
            }
        }
        Ok(scanner.finish())
    }

    /// Whose an instance is. One without patient says nothing: no request about it can be made, and it waits by itself.
    fn controlled(&self, entry: &Entry, scan: &Scan, rules: &RuleSets) -> Option<Controlled> {
        entry.record.facts.patient_id.as_ref()?;
        let described = Described::of(scan, entry, rules);
        let maps = self.maps.load();
        let specifier = |row: &ControllerRow| row.register != OCCUPATIONAL_HEALTH || row.specifier.is_some();
        Some(match maps.controlled(entry, &described) {
            None => Controlled::Unknown,
            Some(row) if !specifier(row) => Controlled::NoSpecifier,
            // A row with a producer stands for an outsourcing authorisation.
            Some(row) if row.producer.is_some() || maps.controllers.is_own(&row.controller) => Controlled::Own,
            Some(_) => Controlled::Foreign,
        })
    }

    /// Objects with the same SOP Instance UID that came before and are not set aside.
    async fn copies(&self, entry: &Entry, outline: &Outline) -> Result<Vec<Copy>, SpoolError> {
        let announced = &entry.record.announced;
        let place = |entry: &Entry| (entry.record.facts.received, entry.id());
        let mut copies = Vec::new();
        for other in self.spool.instances(&announced.tenant, &announced.sop_instance_uid).await? {
            if other.id() == entry.id() || other.progress.state.is_set_aside() || place(&other) > place(entry) {
                continue;
            }
            copies.push(if other.record.digest == entry.record.digest {
                Copy::Identical
            } else if other.record.announced.transfer_syntax_uid != announced.transfer_syntax_uid
                && self.are_equal_outside_pixels(entry, &other, outline).await?
            {
                Copy::OtherEncoding
            } else {
                Copy::OtherContent
            });
        }
        Ok(copies)
    }

    async fn are_equal_outside_pixels(&self, entry: &Entry, other: &Entry, outline: &Outline) -> Result<bool, SpoolError> {
        let mut contents = Vec::with_capacity(2);
        for one in [entry, other] {
            match self.scan(one, outline, true).await {
                Ok(scan) => contents.push(content_outside_pixels(&scan)),
                // A copy that cannot be compared is other content: that is what a person looks at.
                Err(SpoolError::Damaged { .. } | SpoolError::Disk { .. } | SpoolError::Unknown(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(contents[0].is_some() && contents[0] == contents[1])
    }

    /// A rule of stage T quarantines an instance that waits.
    async fn quarantines(&self, study: &Study, seen: &Seen) -> Result<bool, SpoolError> {
        if seen.findings.iter().all(|found| found.effect != Effect::Quarantine) {
            return Ok(false);
        }
        let mut after = None;
        loop {
            let page = self.spool.members(&study.tenant, &study.study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(false) };
            after = Some(last.id());
            if page.iter().any(|entry| waits(&entry.progress.state) && seen.rejecting(entry).next().is_some()) {
                return Ok(true);
            }
        }
    }

    /// Moves what waits.
    async fn move_on(
        &self,
        study: &Study,
        outline: &Outline,
        seen: &Seen,
        hold: bool,
        rules: &RuleSets,
        now: Timestamp,
    ) -> Result<Moved, SpoolError> {
        let mut moved = Moved::default();
        let mut after = None;
        loop {
            let page = self.spool.members(&study.tenant, &study.study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(moved) };
            after = Some(last.id());
            let mut moves = Vec::new();
            for entry in &page {
                let next = seen.next(entry, outline, hold, rules);
                let state = next.as_ref().map_or(&entry.progress.state, |next| &next.state);
                moved.undone |= entry.progress.state == State::Sending && seen.awaits(entry);
                moved.keeps |= matches!(state, State::Held(cause) | State::Quarantined(cause) if is_ours(cause));
                let Some(next) = next else { continue };
                let changes = next.state != entry.progress.state;
                moved.instances += usize::from(changes);
                let next = Progress { urgent: outline.urgent, ..next };
                let to = if changes { Progress { since: now, not_before: now, attempts: 0, ..next } } else { next };
                moves.push(crate::spool::Seen::new(entry, to));
            }
            moved.undone |= !self.spool.advance_unchanged(moves).await?.is_empty();
        }
    }

    async fn keep(&self, study: &Study, outline: &Outline, seen: &Seen, keeps: bool, now: Timestamp) -> Result<(), SpoolError> {
        let rule_set = &outline.set.rules_for(None).rule_set;
        let mut value = format!("{} {} {now:.0} {rule_set}", outline.fingerprint, if keeps { "keeps" } else { "passes" });
        for found in &seen.findings {
            if value.len() + found.finding.rule.len() + " …".len() >= NOTE_BYTES_MAX {
                value.push_str(" …");
                break;
            }
            value.push(' ');
            value.push_str(&found.finding.rule);
        }
        let (tenant, study_uid) = (study.tenant.clone(), study.study_uid.clone());
        self.spool.note(Note { tenant, study_uid, name: EVALUATED.to_owned(), value: Some(value) }).await
    }
}

/// Register of occupational health (1.2.246.537.5.40150).
const OCCUPATIONAL_HEALTH: &str = "4";

impl Seen {
    /// Rules of stage T that quarantine an instance, without those that an operator has overridden.
    fn rejecting<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a str> {
        self.naming(entry, Effect::Quarantine).filter(|rule| !entry.progress.overrides.iter().any(|other| other == rule))
    }

    fn naming<'a>(&'a self, entry: &'a Entry, effect: Effect) -> impl Iterator<Item = &'a str> {
        let about = move |found: &&StudyFinding| {
            found.effect == effect && self.gathering.contains(entry.id().0) && found.names(entry.id().0, &entry.record.facts.series_uid)
        };
        self.findings.iter().filter(about).map(|found| found.finding.rule.as_str())
    }

    /// Whether an instance that is being sent is to be quarantined or to be left out of the manifest.
    fn awaits(&self, entry: &Entry) -> bool {
        self.gathering.contains(entry.id().0)
            && (self.gathering.is_unlisted(entry.id().0) != entry.progress.unlisted || self.rejecting(entry).next().is_some())
    }

    /// How an instance goes on; `None` if it stays as it is, or came while the others were judged.
    fn next(&self, entry: &Entry, outline: &Outline, hold: bool, rules: &RuleSets) -> Option<Progress> {
        let progress = &entry.progress;
        let key = entry.id().0;
        if self.unreadable.contains(&entry.id()) {
            let waits_for_study = matches!(&progress.state, State::Held(cause) if *cause == Cause::incomplete());
            return waits_for_study.then(|| Progress { state: State::Queued, ..progress.clone() });
        }
        if !self.gathering.contains(key) {
            return None;
        }
        let second_encoding = self.naming(entry, Effect::Hold).any(|rule| self.is_of_instances(rule));
        let unlisted = self.gathering.is_unlisted(key) || second_encoding;
        if !waits(&progress.state) {
            let changes = unlisted != progress.unlisted && takes_part(&progress.state) && progress.state != State::Sending;
            return changes.then(|| Progress { unlisted, ..progress.clone() });
        }
        let quarantined = matches!(progress.state, State::Quarantined(_));
        let not_overridden = |rule: &String| !progress.overrides.contains(rule);
        let of_reception = match self.again.get(&entry.id()) {
            Some(again) => again.clone(),
            None if quarantined => of_reception(entry, rules),
            None => Vec::new(),
        };
        let mut reasons: Vec<String> = of_reception.into_iter().filter(not_overridden).collect();
        reasons.extend(self.rejecting(entry).map(str::to_owned));
        reasons.truncate(REASONS_MAX);
        let judged = match self.again.contains_key(&entry.id()) || (!quarantined && !reasons.is_empty()) {
            true => Some(outline.set.edition.clone()),
            false => progress.judged.clone(),
        };
        let state = match (reasons.first(), self.naming(entry, Effect::Hold).next()) {
            (Some(rule), _) => State::Quarantined(rule.parse().ok()?),
            (None, Some(rule)) => State::Held(rule.parse().ok()?),
            (None, None) if hold => State::Held(Cause::incomplete()),
            // No request about it can be made.
            (None, None) if entry.record.facts.patient_id.is_none() => State::Held(Maps::undetermined()),
            (None, None) => State::Queued,
        };
        let next = Progress { state, reasons, judged, unlisted, ..progress.clone() };
        (next != *progress).then_some(next)
    }

    fn is_of_instances(&self, rule: &str) -> bool {
        use idr_profile::rules::study::Concerns;
        self.findings.iter().any(|found| found.finding.rule == rule && matches!(found.concerns, Concerns::Instances(_)))
    }
}

//! Manifests: from `committed` to `registered` (profile 02 §2, §5, §7).
//!
//! Notes of the study in the spool's journal hold its life cycle: `pending` (content key of the revision that was kept
//! and perhaps sent, or the withdrawal of one, [`super::withdrawal`]), `published` (`<entryUUID> <content key> <instant>`), `hold` ([`Hold`]), `r4`
//! ([`super::registration`]). A pending revision is always answered before another is made: one that may have arrived is
//! looked for in the registry ([`super::lookup`]) before it is sent again.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context as _;
use idr_ihe::manifest::SOP_CLASS_UID as KEY_OBJECT;
use idr_profile::mapping::{self, ControllerRow, FolderUse, Member, Revision, Settings, Study as Described, value_type};
use idr_profile::outcome::{Class, Context, Decided, Decider, Effect, Event, Fault, Outcome, Response, Severity, Signal, Soap};
use idr_profile::receipt::Carried;
use idr_profile::rules::Rules;
use jiff::{SignedDuration, Timestamp};

use super::credentials::Bearing;
use super::gate::{Channel, Pass};
use super::lanes::LANES;
use super::peer::{Heard, Registered, Registration, SoapBody};
use super::replay::described_anew;
use super::revisions::Kept;
use super::withdrawal::withdraws;
use super::{AGED, Forward, Queue, describe, unread};
use crate::quarantine::correction;
use crate::spool::{Cause, Claim, Entry, Lane, Move, Progress, SpoolError, SpoolId, State, Study, Tenant};

/// Note: [`Hold`].
pub(super) const HOLD: &str = "hold";
pub(super) const PENDING: &str = "pending";
pub(super) const PUBLISHED: &str = "published";

/// What an operator has to decide about before the manifest of a study goes on: a row of the outcome table, and whether it is
/// about the study (hold(study)), so that nothing of it is sent, or about the manifest alone (hold(operator)).
pub(super) struct Hold {
    pub(super) row: String,
    pub(super) of_study: bool,
    /// Not in notes of earlier programs.
    pub(super) since: Option<Timestamp>,
}

impl Hold {
    /// The second word says that it is about the manifest alone.
    const MANIFEST: &str = "manifest";

    pub(super) fn read(note: Option<&String>) -> Option<Self> {
        let mut words = note?.split(' ');
        let (row, about) = (words.next().unwrap_or_default(), words.next());
        let since = words.next().and_then(|since| since.parse().ok());
        Some(Self { row: row.to_owned(), of_study: about != Some(Self::MANIFEST), since })
    }

    pub(super) fn note(decided: &Decided, now: Timestamp) -> String {
        match decided.outcome {
            Outcome::Hold(Decider::Study) => decided.row.to_string(),
            _ => Self::of_manifest(&decided.row, now),
        }
    }

    fn of_manifest(row: &str, now: Timestamp) -> String {
        format!("{row} {} {now}", Self::MANIFEST)
    }
}

/// What is published of a study.
pub(super) struct Published {
    pub(super) entry_uuid: String,
    pub(super) content_key: String,
    pub(super) at: Timestamp,
}

impl Published {
    pub(super) fn read(note: Option<&String>) -> Option<Self> {
        let mut words = note?.split(' ');
        let published =
            Self { entry_uuid: words.next()?.to_owned(), content_key: words.next()?.to_owned(), at: words.next()?.parse().ok()? };
        Some(published)
    }

    pub(super) fn note(&self) -> String {
        format!("{} {} {}", self.entry_uuid, self.content_key, self.at)
    }
}

/// What of a study its manifest is made of.
#[derive(Default)]
pub(super) struct Members {
    /// M (profile 02 §2.1).
    pub(super) listed: Vec<Entry>,
    /// Every instance of the study that was let go is in it, and every note at the centre.
    complete: bool,
    /// A rejection note of a correction waits for the successors of what it names: the study is published as it will be then.
    in_correction: bool,
    /// Key objects that stand in no manifest: rejection notes among them.
    pub(super) key_objects: Vec<Entry>,
    /// When an object of it was superseded last.
    pub(super) superseded: Option<Timestamp>,
}

/// What a revision comes after.
#[derive(Clone, Copy)]
struct After<'a> {
    /// entryUUID of the published entry.
    replaces: Option<&'a str>,
    /// The last note or correction.
    changed: Option<Timestamp>,
}

/// What became of one look at a study.
pub(super) enum Step {
    /// Nothing to do until something changes.
    Waits,
    /// Not all of it is at the centre.
    OnItsWay,
    /// Not before so long.
    After(Duration),
    /// An attempt failed: not before so long, of this class, so often in a row.
    Again(Duration, Class, u32),
    /// A step was made.
    Made,
}

/// When a study is looked at, and how its attempts went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Monotonic.
    pub(super) due: Duration,
    /// Class of its consecutive failures.
    class: Class,
    failures: u32,
    /// Of the first of them.
    pub(super) failing_since: Option<Timestamp>,
    /// Healthy time of the channel then ([`super::gate::Breakers::healthy`]).
    healthy_from: Option<Duration>,
}

impl Turn {
    pub(super) fn at(due: Duration) -> Self {
        Self { due, class: Class::Net, failures: 0, failing_since: None, healthy_from: None }
    }
}

/// An answer to a SOAP request, and what it means.
pub(super) struct Judged {
    pub(super) decided: Decided,
    pub(super) retry_after: Option<String>,
    /// The centre dealt with the request and said so: nothing of it is still under way.
    pub(super) answered: bool,
    receipt: Option<Carried>,
    /// Found by a query.
    pub(super) entries: Vec<Registered>,
}

/// Errors of an answer that the journal tells.
const TOLD_MAX: usize = 10;
/// Longest code that the journal tells.
const CODE_LENGTH_MAX: usize = 64;
/// When a study that waits for something that nobody tells of is found again.
const FOUND_AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// Objects of a lane by which studies are found at once.
const FOUND_AT_ONCE: usize = 2000;
const SECOND: Duration = Duration::from_secs(1);
/// When a study is looked at again after an error of ours, or while its controller is not known.
const AFTER_TROUBLE: Duration = Duration::from_secs(60);

/// Of copies with the same bytes, one that was given up and came again, the one that is here; in order.
fn once(members: Vec<Entry>) -> Vec<Entry> {
    let key = |entry: &Entry| (entry.record.announced.sop_instance_uid.clone(), entry.record.digest);
    let mut stays: HashMap<_, (bool, SpoolId)> = HashMap::new();
    for entry in &members {
        let here = entry.progress.state != State::Released;
        let best = stays.entry(key(entry)).or_insert((here, entry.id()));
        if here && !best.0 {
            *best = (true, entry.id());
        }
    }
    members.into_iter().filter(|entry| stays.get(&key(entry)).is_some_and(|(_, id)| *id == entry.id())).collect()
}

impl Forward {
    /// Looks at studies with committed instances. Says whether a step was made.
    pub(super) async fn register_round(&self, tenant: &Tenant) -> Result<bool, SpoolError> {
        let Some(pass) = self.admitted(Channel::Soap) else { return Ok(false) };
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        // The urgent last: what of it was committed before any of the others found is found too.
        for lane in LANES.into_iter().rev() {
            self.find_committed(tenant, lane).await?;
        }
        let mut due = self.due_studies(tenant, None);
        let (mut made, mut looked_at) = (false, HashSet::new());
        loop {
            let wants = |lane: Lane| due.iter().any(|(of, ..)| *of == lane);
            let Some(lane) = self.turn(Queue::Manifests, wants(Lane::Urgent), wants(Lane::Normal)) else { break };
            let Some(at) = due.iter().position(|(of, ..)| *of == lane) else { break };
            let (_, _, study_uid) = due.remove(at);
            if !pass.holds() {
                break;
            }
            looked_at.insert(study_uid.clone());
            let step = self.register(&pass, tenant, &study_uid).await;
            let key = (tenant.clone(), study_uid);
            let before = self.memory().agenda.get(&key).copied();
            let failing_since = before.and_then(|turn| turn.failing_since);
            let healthy = self.breakers().healthy(Channel::Soap, self.clock.monotonic());
            let healthy_from = before.and_then(|turn| turn.healthy_from);
            let next = match step {
                // What came while the revision was under way is looked for at once.
                Ok(Step::Made) => {
                    made = true;
                    Some(Turn::at(monotonic))
                }
                Ok(Step::Waits) => None,
                // An urgent one is looked at with every round, so that no other is registered between its last instance and it.
                Ok(Step::OnItsWay) if lane == Lane::Urgent => Some(Turn::at(monotonic)),
                Ok(Step::OnItsWay) => Some(Turn::at(monotonic + SECOND)),
                Ok(Step::After(wait)) => Some(Turn::at(monotonic + wait)),
                Ok(Step::Again(..)) if healthy_from.is_some_and(|from| self.is_too_old(healthy.saturating_sub(from))) => {
                    self.hold_aged(tenant, &key.1).await?;
                    None
                }
                Ok(Step::Again(wait, class, failures)) => Some(Turn {
                    due: monotonic + wait,
                    class,
                    failures,
                    failing_since: failing_since.or(Some(now)),
                    healthy_from: healthy_from.or(Some(healthy)),
                }),
                Err(error) => {
                    tracing::error!(cause = %error, remedy = error.remedy(), "a manifest could not be dealt with; the other studies go on");
                    Some(Turn { failing_since, healthy_from, ..Turn::at(monotonic + AFTER_TROUBLE) })
                }
            };
            {
                let mut memory = self.memory();
                if let Some(next) = next {
                    memory.agenda.insert(key, next);
                } else {
                    memory.urgent.remove(&key);
                    memory.agenda.remove(&key);
                }
            }
            // What is urgent and came meanwhile does not wait until all of this round have been looked at.
            if self.find_committed(tenant, Lane::Urgent).await? {
                due.extend(self.due_studies(tenant, Some(&looked_at)));
                due.sort_unstable();
                due.dedup();
            }
        }
        Ok(made)
    }

    /// Puts studies with committed instances on the agenda; whether there were any. A claim only finds studies; when each is
    /// looked at stands on the agenda. The items stay leased, so that those of studies that wait do not hide the others.
    async fn find_committed(&self, tenant: &Tenant, lane: Lane) -> Result<bool, SpoolError> {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let lead = self.waits().lead(now, monotonic);
        let claim =
            Claim { tenant: tenant.clone(), state: "committed", lane, now: lead, lease_until: lead + FOUND_AGAIN, limit: FOUND_AT_ONCE };
        let claimed = self.spool.claim(claim).await?;
        let found = !claimed.is_empty();
        let mut memory = self.memory();
        for entry in claimed {
            let key = (tenant.clone(), entry.record.facts.study_uid);
            if lane == Lane::Urgent {
                memory.urgent.insert(key.clone());
            }
            memory.agenda.entry(key).or_insert(Turn::at(monotonic));
        }
        Ok(found)
    }

    /// Studies that are due, the urgent first and the longest due first in each lane; without those of urgent ones alone that
    /// were looked at in this round.
    fn due_studies(&self, tenant: &Tenant, urgent_without: Option<&HashSet<String>>) -> Vec<(Lane, Duration, String)> {
        let monotonic = self.clock.monotonic();
        let memory = self.memory();
        let due = memory.agenda.iter().filter(|((whose, _), turn)| whose == tenant && turn.due <= monotonic);
        let lane = |key| Lane::of(memory.urgent.contains(key));
        let mut due: Vec<(Lane, Duration, String)> = due.map(|(key, turn)| (lane(key), turn.due, key.1.clone())).collect();
        if let Some(looked_at) = urgent_without {
            due.retain(|(lane, _, study_uid)| *lane == Lane::Urgent && !looked_at.contains(study_uid));
        }
        due.sort_unstable();
        due
    }

    /// A manifest has failed for too long while the centre was well (03 §2.2.3); the daily probe goes on trying it.
    async fn hold_aged(&self, tenant: &Tenant, study_uid: &str) -> Result<(), SpoolError> {
        tracing::error!(%tenant, study = %study_uid, row = AGED, "the manifest of a study has failed for three days while the centre was well; it is tried once a day now");
        self.note_hold(tenant, study_uid, Hold::of_manifest(AGED, self.clock.now())).await
    }

    async fn register(&self, pass: &Pass<'_>, tenant: &Tenant, study_uid: &str) -> Result<Step, SpoolError> {
        let Some(study) = self.spool.study(tenant, study_uid).await? else { return Ok(Step::Waits) };
        if study.notes.contains_key(HOLD) {
            return Ok(Step::Waits);
        }
        let key = (tenant.clone(), study_uid.to_owned());
        if let Some(content_key) = study.notes.get(PENDING) {
            if let Some(content_key) = withdraws(content_key) {
                return self.continue_withdrawal(pass, &study, content_key).await;
            }
            let kept = match self.kept(&study, content_key).await? {
                Ok(kept) => kept,
                Err(error) => {
                    // It may have been registered, and what is built now may differ: two Approved entries would stand.
                    tracing::error!(cause = %error, "a kept manifest cannot be read; the registry is asked what it has of the study");
                    let members = self.members(&study).await?.listed;
                    let Some(first) = members.first() else { return Ok(Step::Waits) };
                    let Some(bearing) = self.bearing(tenant, first).await? else { return Ok(self.undetermined(&study)) };
                    return self.derive_target(pass, &study, &bearing).await;
                }
            };
            let Some(entry) = self.first_of(&kept).await? else { return Ok(Step::Waits) };
            let Some(bearing) = self.bearing(tenant, &entry).await? else { return Ok(self.undetermined(&study)) };
            if self.memory().reconsider.contains(&key) {
                return self.reconsider(pass, &study, &kept, &bearing).await;
            }
            if self.memory().answered.contains(&key) {
                return self.submit(pass, &study, kept, &bearing).await;
            }
            // It may have arrived, in an attempt without an answer or before a restart (02 §5.3.4).
            return match self.standing(pass, &kept, &bearing).await {
                Err(decided) => self.unanswered(&study, &decided).await,
                Ok(standing) => match self.settle(pass, &study, &kept, standing, &bearing).await? {
                    Some(step) => Ok(step),
                    None => self.submit(pass, &study, kept, &bearing).await,
                },
            };
        }
        if !study.states.contains_key(State::Committed.name()) {
            return Ok(Step::Waits);
        }
        self.build(pass, &study).await
    }

    pub(super) fn undetermined(&self, study: &Study) -> Step {
        tracing::warn!(tenant = %study.tenant, study = %study.study_uid, "the controller map has no row for a study that is to be registered; add one");
        self.trouble()
    }

    /// Something of ours has to be put right first.
    pub(super) fn trouble(&self) -> Step {
        Step::After(AFTER_TROUBLE)
    }

    /// A revision as it was kept.
    pub(super) async fn kept(&self, study: &Study, content_key: &str) -> Result<std::io::Result<Kept>, SpoolError> {
        let (revisions, tenant, uid, key) = (self.revisions.clone(), study.tenant.clone(), study.study_uid.clone(), content_key.to_owned());
        self.hop.run(move || revisions.read(&tenant, &uid, &key)).await
    }

    /// An operator has released a revision that was refused: unless the registry has it all the same, it is made again, from
    /// the maps as they are now.
    async fn reconsider(&self, pass: &Pass<'_>, study: &Study, kept: &Kept, bearing: &Bearing) -> Result<Step, SpoolError> {
        let standing = match self.standing(pass, kept, bearing).await {
            Err(decided) => return self.unanswered(study, &decided).await,
            Ok(standing) => standing,
        };
        self.memory().reconsider.remove(&(study.tenant.clone(), study.study_uid.clone()));
        match self.settle(pass, study, kept, standing, bearing).await? {
            Some(step) => Ok(step),
            None => {
                self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
                Ok(Step::Made)
            }
        }
    }

    /// The object that says whose data a revision carries.
    pub(super) async fn first_of(&self, kept: &Kept) -> Result<Option<Entry>, SpoolError> {
        match kept.members.first() {
            Some(first) => self.spool.entry(*first).await,
            None => Ok(None),
        }
    }

    /// Makes the next revision and keeps it, if one is due.
    async fn build(&self, pass: &Pass<'_>, study: &Study) -> Result<Step, SpoolError> {
        let (tenant, study_uid, now) = (&study.tenant, &study.study_uid, self.clock.now());
        let published = Published::read(study.notes.get(PUBLISHED));
        let members = self.members(study).await?;
        if let (true, Some(published)) = (members.listed.is_empty(), &published) {
            // Rejected images do not wait for an interval between revisions.
            return match self.is_whole(&members) {
                true => self.begin_withdrawal(study, published, &members).await,
                false => Ok(Step::OnItsWay),
            };
        }
        if let Some(published) = &published
            && self.is_published(study, published, &members).await?
        {
            // What is committed and stands in no manifest, a note, brings nothing to be said of the study.
            return Ok(Step::Waits);
        }
        let interval = Duration::from_secs(self.config.load().manifest.min_interval_seconds);
        // By a clock that was put back it was published in time to come.
        let gone = |published: &Published| Duration::try_from(now.duration_since(published.at)).unwrap_or_default();
        if let Some(wait) = published.as_ref().map(|published| interval.saturating_sub(gone(published))).filter(|wait| !wait.is_zero()) {
            return Ok(Step::After(wait));
        }
        let rules = self.rules.load();
        if members.listed.is_empty() {
            return Ok(Step::Waits);
        }
        if !self.is_whole(&members) {
            // Asked before the headers are read: a study on its way is looked at often.
            return Ok(Step::OnItsWay);
        }
        let (waited, partial_after) = (self.waited(&members), self.partial_after());
        let (changed, complete) = (self.changed(&members).await?.max(described_anew(study)), members.complete);
        let members = members.listed;
        let first = &members[0];
        let set_id = first.record.facts.rule_set.split('/').next().unwrap_or_default();
        let Some(set) = rules.set(set_id) else {
            return self.hold(study, &self.not_built(), "the rule set that judged it is not here").await;
        };
        let site_rules = set.rules_for(None).clone();
        let mut described = Vec::with_capacity(members.len());
        let mut service_event = None;
        let mut row = None;
        let maps = self.maps.load_full();
        for entry in &members {
            if !pass.holds() {
                return Ok(Step::After(Duration::ZERO));
            }
            let of_entry = match describe(self.spool.as_ref(), entry, &rules).await {
                Ok(of_entry) => of_entry,
                Err(error) => {
                    tracing::error!(object = %entry.id(), cause = %error, remedy = error.remedy(), "an object of a manifest cannot be read");
                    let decided = self.outcomes.decide(Signal::Event(unread(&error)), &Context::default());
                    return match decided.outcome {
                        Outcome::Hold(_) | Outcome::Quarantine => self.hold(study, &decided, "an object of it cannot be read").await,
                        Outcome::Retry(class) => Ok(self.later(study, class)),
                        _ => Ok(self.trouble()),
                    };
                }
            };
            row = row.or_else(|| maps.controlled(entry, &of_entry));
            service_event = service_event.or(of_entry.service_event);
            described.push(member(entry, of_entry.attributes, &site_rules));
        }
        if !mapping::is_publishable(&described, &|modality| registrable(&site_rules, modality), complete, waited, partial_after) {
            // No instance with a registrable modality yet.
            return Ok(Step::After(AFTER_TROUBLE));
        }
        let Some(row) = row else {
            return self.hold(study, &self.not_built(), "the controller map has no row for it").await;
        };
        let replaces = published.as_ref().map(|published| published.entry_uuid.as_str());
        let revision = match self.map(first, &described, service_event.as_deref(), row, After { replaces, changed }, &site_rules) {
            Ok(revision) => revision,
            Err(error) => {
                tracing::error!(cause = %error, "a manifest cannot be built");
                return self.hold(study, &self.not_built(), "it cannot be described").await;
            }
        };
        if published.as_ref().is_some_and(|published| published.content_key == revision.content_key) {
            return self.registered_before(study, revision, members.iter().map(Entry::id).collect()).await;
        }
        let kept = Kept::new(revision, members.iter().map(Entry::id).collect(), published.map(|published| published.entry_uuid));
        if let Some(step) = self.keep_revision(study, &kept).await? {
            return Ok(step);
        }
        let Some(bearing) = self.bearing(tenant, first).await? else { return Ok(self.undetermined(study)) };
        self.memory().reconsider.remove(&(tenant.clone(), study_uid.clone()));
        self.note(tenant, study_uid, PENDING, Some(kept.content_key.clone())).await?;
        self.submit(pass, study, kept, &bearing).await
    }

    /// M is that of the published revision, and nothing of it waits to be registered (02 §7 row 9).
    async fn is_published(&self, study: &Study, published: &Published, members: &Members) -> Result<bool, SpoolError> {
        if members.listed.iter().any(|entry| entry.progress.state == State::Committed) {
            return Ok(false);
        }
        let Ok(mut kept) = self.kept(study, &published.content_key).await? else { return Ok(false) };
        let mut listed: Vec<SpoolId> = members.listed.iter().map(Entry::id).collect();
        listed.sort_unstable();
        kept.members.sort_unstable();
        Ok(listed == kept.members)
    }

    /// Keeps a revision. What it gives is the step to take if that does not work.
    async fn keep_revision(&self, study: &Study, kept: &Kept) -> Result<Option<Step>, SpoolError> {
        let (revisions, tenant, uid, kept) = (self.revisions.clone(), study.tenant.clone(), study.study_uid.clone(), kept.clone());
        let written = self.hop.run(move || revisions.keep(&tenant, &uid, &kept)).await?;
        Ok(written.err().map(|error| {
            tracing::error!(cause = %error, "a manifest cannot be kept; nothing is sent");
            Step::After(30 * SECOND)
        }))
    }

    /// What is committed again (an R3 that came twice), or was found in the registry, was registered before: its states are
    /// behind, and its R4 may never have come.
    async fn registered_before(&self, study: &Study, revision: Revision, members: Vec<SpoolId>) -> Result<Step, SpoolError> {
        let content_key = revision.content_key.clone();
        if !self.has_registration(study, &revision.document_uid).await? {
            match self.kept(study, &content_key).await?.map_err(|error| error.kind()) {
                // Without the revision its R4 cannot be verified; what is made from the same content names the same document. A
                // file that is no revision any more says nothing of what was sent.
                Err(ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                    let kept = Kept::new(revision, members.clone(), None);
                    if let Some(step) = self.keep_revision(study, &kept).await? {
                        return Ok(step);
                    }
                }
                Ok(_) => {}
                Err(kind) => {
                    tracing::error!(%kind, study = %study.study_uid, "a kept manifest cannot be read now; it is tried again");
                    return Ok(self.trouble());
                }
            }
            self.registration_is_due(study, &content_key).await?;
        }
        Ok(if self.registered(study, &members).await? { Step::Made } else { Step::Waits })
    }

    pub(super) fn not_built(&self) -> Decided {
        self.outcomes.decide(Signal::Event(Event::NotBuilt), &Context::default())
    }

    /// The revision of these members. `first` names patient, inbound row and rule set.
    fn map(
        &self,
        first: &Entry,
        members: &[Member],
        service_event: Option<&str>,
        controlled: &ControllerRow,
        after: After<'_>,
        rules: &Rules,
    ) -> anyhow::Result<Revision> {
        let facts = &first.record.facts;
        let patient = facts.patient_id.as_ref().context("the object has no patient id")?;
        let (config, maps) = (self.config.load_full(), self.maps.load_full());
        let inbound = config.inbound.iter().find(|inbound| inbound.name == first.record.announced.inbound);
        let input = Described {
            study_instance_uid: &facts.study_uid,
            source: &config.site.source_oid,
            members,
            changed: after.changed,
            source_patient: patient,
            patient,
            accession_issuer: inbound.and_then(|inbound| inbound.accession_issuer.as_deref()),
            language: inbound.and_then(|inbound| inbound.language.as_deref()),
            facility_type: None,
            service_event,
            controlled,
            map_revision: maps.controllers.revision,
            rule_set: &facts.rule_set,
            replaces: after.replaces,
            folder: FolderUse::None,
        };
        let settings = Settings {
            domain: &maps.domain,
            zone: &maps.zone,
            registrable: &|modality| registrable(rules, modality),
            study_codes: &|_| None,
            procedure_coding_schemes: &rules.parameters().procedure_coding_schemes,
        };
        Ok(Revision::map(&input, &settings)?)
    }

    /// How long what is committed has waited for the rest of its study; if it is notes alone, how long they have.
    fn waited(&self, members: &Members) -> Duration {
        let now = self.clock.now();
        let waiting = if members.listed.is_empty() { &members.key_objects } else { &members.listed };
        let since = waiting.iter().filter(|e| e.progress.state == State::Committed).map(|e| e.progress.since).min().unwrap_or(now);
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    }

    fn partial_after(&self) -> Duration {
        Duration::from_secs(self.config.load().manifest.partial_after_minutes.saturating_mul(60))
    }

    /// Whether a manifest may be made now, of all of the study or of a part of it (02 §2.2).
    fn is_whole(&self, members: &Members) -> bool {
        let partial_after = self.partial_after();
        !members.in_correction && (members.complete || !partial_after.is_zero() && self.waited(members) >= partial_after)
    }

    /// M (profile 02 §2.1), and what else of the study its manifest asks for.
    async fn members(&self, study: &Study) -> Result<Members, SpoolError> {
        let mut members = Members { complete: true, ..Members::default() };
        let mut after = None;
        loop {
            let page = self.spool.members(&study.tenant, &study.study_uid, after, 500).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            for entry in page {
                let unlisted = entry.progress.unlisted;
                match &entry.progress.state {
                    State::Committed | State::Registered | State::Released if !unlisted => members.listed.push(entry),
                    State::Committed | State::Registered if entry.record.announced.sop_class_uid == KEY_OBJECT => {
                        members.key_objects.push(entry);
                    }
                    // Also of a note: what it rejects is taken out when the centre knows of it.
                    State::Queued | State::Sending | State::Sent => members.complete = false,
                    State::Held(cause) if !unlisted => members.complete &= *cause == Cause::incomplete(),
                    State::Quarantined(cause) => members.in_correction |= cause.as_str() == correction::NOTE_CAUSE,
                    State::Superseded => members.superseded = members.superseded.max(Some(entry.progress.since)),
                    _ => {}
                }
            }
        }
        members.listed = once(members.listed);
        Ok(members)
    }

    /// Sends a kept revision and deals with the answer.
    async fn submit(&self, pass: &Pass<'_>, study: &Study, kept: Kept, bearing: &Bearing) -> Result<Step, SpoolError> {
        let now = self.clock.now();
        if !pass.holds() {
            // The step before may have told of a clock or a stop: the next round goes on from here.
            return Ok(Step::After(Duration::ZERO));
        }
        let key = (study.tenant.clone(), study.study_uid.clone());
        let context = Context { replace: kept.replaces.is_some(), ..Context::default() };
        let item = kept.members.first().map_or(0, |id| id.0);
        let link = self.link();
        let security = match link.credentials.security(bearing, now, self.random()) {
            Ok(security) => security,
            Err(error) => {
                tracing::error!(cause = %error, "no assertion can be signed");
                let decided = self.outcomes.decide(Signal::Event(Event::Key), &context);
                self.record(Channel::Soap, item, &decided, None);
                return self.decided(pass, study, &kept, decided, None, bearing).await;
            }
        };
        let registration =
            Registration { message_id: kept.message_id.clone(), body: kept.body.clone(), document: kept.document.clone().into(), security };
        self.memory().answered.remove(&key);
        let heard = link.peer.register(&registration).await;
        let judged = self.judge(heard, &context);
        self.record(Channel::Soap, item, &judged.decided, judged.retry_after.as_deref());
        if judged.answered {
            self.memory().answered.insert(key);
        }
        self.decided(pass, study, &kept, judged.decided, judged.receipt, bearing).await
    }

    /// What a SOAP answer means.
    pub(super) fn judge(&self, heard: Heard<SoapBody>, context: &Context<'_>) -> Judged {
        let (status, retry_after, body) = match heard {
            Heard::Nothing(failure) => {
                let decided = self.outcomes.decide(failure.signal(), context);
                return Judged { decided, retry_after: None, answered: false, receipt: None, entries: Vec::new() };
            }
            Heard::Answer { status, retry_after, ahead, body } => {
                self.heard_clock(ahead);
                (status, retry_after, body)
            }
        };
        let judged = |signal, answered| Judged {
            decided: self.outcomes.decide(signal, context),
            retry_after: retry_after.clone(),
            answered,
            receipt: None,
            entries: Vec::new(),
        };
        match body {
            SoapBody::Unusable(event) => judged(Signal::Event(event), false),
            SoapBody::None { other_type } => judged(Signal::Soap(Soap::Status { status, other_type }), false),
            SoapBody::Fault { code, subcodes, refusal } => {
                let subcodes: Vec<&str> = subcodes.iter().map(String::as_str).collect();
                let fault = Fault { code: code.as_deref(), subcodes: &subcodes, refusal: refusal.as_deref() };
                tracing::warn!(status, code, refusal = refusal.as_deref().map(code_word), "the centre answered a fault");
                judged(Signal::Soap(Soap::Fault { status, fault }), true)
            }
            SoapBody::Response { status: response, errors, receipt, entries } => {
                for (code, severity, rule) in told(&errors) {
                    tracing::warn!(code, ?severity, rule, "the centre's registry answered");
                }
                if errors.len() > TOLD_MAX {
                    tracing::warn!(errors = errors.len(), "the centre's registry answered more than is told here");
                }
                let codes: Vec<(&str, Severity)> = errors.iter().map(|(code, severity, _)| (code.as_str(), *severity)).collect();
                let response = Response { status: &response, errors: &codes };
                let judged = judged(Signal::Soap(Soap::Response { status, response }), true);
                Judged { receipt: receipt.map(|receipt| *receipt), entries, ..judged }
            }
        }
    }

    async fn decided(
        &self,
        pass: &Pass<'_>,
        study: &Study,
        kept: &Kept,
        decided: Decided,
        receipt: Option<Carried>,
        bearing: &Bearing,
    ) -> Result<Step, SpoolError> {
        if decided.effects.contains(&Effect::ReDerive) {
            return self.derive_target(pass, study, bearing).await;
        }
        match decided.outcome {
            Outcome::Done => self.published(study, kept, receipt).await,
            // An earlier attempt has arrived: what stands under our uniqueId decides (03 §4.11).
            Outcome::DoneDuplicate => match self.standing(pass, kept, bearing).await {
                Err(decided) => self.unanswered(study, &decided).await,
                Ok(standing) => match self.settle(pass, study, kept, standing, bearing).await? {
                    Some(step) => Ok(step),
                    // Not to be seen yet; it is looked for again, and sent if it is not there then.
                    None => Ok(self.later_unsure(study)),
                },
            },
            Outcome::Retry(class) => Ok(self.later(study, class)),
            Outcome::Hold(_) | Outcome::Quarantine => self.hold(study, &decided, "the registry refused it").await,
            Outcome::Queued => Ok(Step::After(Duration::ZERO)),
            Outcome::Continue | Outcome::Wait | Outcome::Ignored => Ok(self.later(study, Class::Slow)),
        }
    }

    pub(super) fn later(&self, study: &Study, class: Class) -> Step {
        let key = (study.tenant.clone(), study.study_uid.clone());
        let failures = self.memory().agenda.get(&key).filter(|turn| turn.class == class).map_or(0, |turn| turn.failures);
        Step::Again(self.outcomes.delay(class, failures, self.uniform()), class, failures + 1)
    }

    fn later_unsure(&self, study: &Study) -> Step {
        self.memory().answered.remove(&(study.tenant.clone(), study.study_uid.clone()));
        self.later(study, Class::Net)
    }

    pub(super) async fn hold(&self, study: &Study, decided: &Decided, why: &str) -> Result<Step, SpoolError> {
        let effect = self.outcomes.explain(&decided.row).first().map(|row| row.effect.clone());
        tracing::error!(
            row = %decided.row, why, effect, tenant = %study.tenant, study = %study.study_uid,
            "the manifest of a study waits for an operator: `idr-site queue release <study>`"
        );
        self.note_hold(&study.tenant, &study.study_uid, Hold::note(decided, self.clock.now())).await?;
        Ok(Step::Waits)
    }

    /// The registry has it: R4 is kept or due, the revision is the published one, the instances are registered. In this order
    /// a crash between leaves instances `committed`, by which the study is found again, and a content key that is published.
    pub(super) async fn published(&self, study: &Study, kept: &Kept, receipt: Option<Carried>) -> Result<Step, SpoolError> {
        let now = self.clock.now();
        self.keep_registration(study, kept, receipt).await?;
        let published = Published { entry_uuid: kept.entry_uuid.clone(), content_key: kept.content_key.clone(), at: now };
        self.note(&study.tenant, &study.study_uid, PUBLISHED, Some(published.note())).await?;
        self.note(&study.tenant, &study.study_uid, PENDING, None).await?;
        self.registered(study, &kept.members).await?;
        self.memory().answered.remove(&(study.tenant.clone(), study.study_uid.clone()));
        self.manifest_probed(&study.tenant, &study.study_uid);
        tracing::info!(
            tenant = %study.tenant, study = %study.study_uid, instances = kept.members.len(), replaces = kept.replaces.is_some(),
            "a study is registered"
        );
        Ok(Step::Made)
    }

    /// Says whether one of them was not yet.
    async fn registered(&self, study: &Study, members: &[SpoolId]) -> Result<bool, SpoolError> {
        let now = self.clock.now();
        let mut moved = false;
        for page in members.chunks(500) {
            let mut moves = Vec::new();
            for id in page {
                if let Some(entry) = self.spool.entry(*id).await?.filter(|entry| entry.progress.state == State::Committed) {
                    let to = Progress { state: State::Registered, since: now, not_before: now, attempts: 0, memo: None, ..entry.progress };
                    moves.push(Move { id: *id, to });
                }
            }
            if !moves.is_empty() {
                moved = true;
                self.spool.advance(moves).await?;
            }
        }
        tracing::debug!(tenant = %study.tenant, "instances registered");
        Ok(moved)
    }
}

fn registrable(rules: &Rules, modality: &str) -> bool {
    rules.parameters().modalities_registrable.iter().any(|known| known == modality)
}

/// What the journal says of the errors of an answer: code, severity, rule id. What follows the rule id may name a patient and
/// stays out of it (profile 09 §2).
fn told(errors: &[(String, Severity, String)]) -> impl Iterator<Item = (&str, Severity, &str)> {
    errors.iter().take(TOLD_MAX).map(|(code, severity, code_context)| {
        let rule = code_context.split(' ').next().filter(|word| is_rule_id(word)).unwrap_or_default();
        (code_word(code), *severity, rule)
    })
}

/// A code that a peer sent, for the journal, if it is no more than a code: any other text may name a patient.
fn code_word(code: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if (1..=CODE_LENGTH_MAX).contains(&code.len()) && code.bytes().all(plain) { code } else { "(no code)" }
}

/// `IDR-<letter>-<digits>`.
fn is_rule_id(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
    word.strip_prefix("IDR-").is_some_and(|rest| rest.len() <= 5 && rest.bytes().all(plain))
}

fn member(entry: &Entry, attributes: mapping::Attributes, rules: &Rules) -> Member {
    let class = &entry.record.announced.sop_class_uid;
    let family = rules.sop_classes().class(class).map_or("", |class| class.family.as_str());
    Member {
        sop_instance_uid: entry.record.announced.sop_instance_uid.clone(),
        sop_class_uid: class.clone(),
        series_instance_uid: entry.record.facts.series_uid.clone(),
        digest: entry.record.digest,
        received: entry.record.facts.received,
        value_type: value_type(family),
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_tells_codes_of_an_answer_and_nothing_that_is_none() {
        let error = |code: &str, context: &str| (code.to_owned(), Severity::Error, context.to_owned());
        let code = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error";
        let long = "A".repeat(65);
        let mut errors = vec![
            error(code, "IDR-M-421 is missing"),
            error("Testi Tiina 010190-900P", "Testi Tiina"),
            error("two\nlines", "IDR-M-421\nline"),
            error(&long, ""),
            error("", ""),
        ];
        let none = "(no code)";
        let expected = [(code, "IDR-M-421"), (none, ""), (none, ""), (none, ""), (none, "")];
        assert_eq!(told(&errors).map(|(code, _, rule)| (code, rule)).collect::<Vec<_>>(), expected);
        errors.extend((0..1_000).map(|_| error("XDSRegistryError", "")));
        assert_eq!(told(&errors).count(), 10, "however many there are");
    }
}

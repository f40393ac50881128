//! Probes of holds (profile 03 §2.6): of what waits for an operator because of the peer, one item per cause is tried every day,
//! and at once when the peer's configuration changed. When it works, all that waits for the same cause goes on.
//!
//! What is held about its study (hold(study)), for more of it or for the controller map is none of this. An item that is
//! probed goes the ordinary way from `queued`; what it was probed for is remembered in memory alone, so that after a restart
//! a probe under way tells of itself only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use idr_profile::outcome::{Decided, Outcome};
use jiff::Timestamp;

use super::register::{HOLD, Hold, PENDING, Turn};
use super::{Forward, cause_of};
use crate::spool::{Cause, Entry, Progress, Seen, SpoolError, SpoolId, State, Tenant};

/// Pause between two looks at what is held.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Entries of a page.
const PAGE: usize = 500;

/// What is remembered of probes.
#[derive(Default)]
pub(super) struct Probes {
    /// When a cause is tried next; monotonic.
    due: HashMap<Key, Duration>,
    looked: Option<Duration>,
    /// The peer's configuration changed.
    at_once: bool,
    /// Items under way.
    items: HashMap<SpoolId, Cause>,
    /// Manifests under way, with the row they were held for.
    manifests: HashMap<(Tenant, String), String>,
    /// What worked again.
    worked: BTreeSet<Key>,
}

/// A cause of objects, or of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Objects(String),
    Manifests(String),
}

/// What is held for one cause: the one that was tried longest ago, and when one was tried last.
struct Group<T> {
    next: T,
    tried_first: Timestamp,
    tried_last: Timestamp,
}

fn gather<T>(groups: &mut BTreeMap<String, Group<T>>, cause: &str, tried: Timestamp, item: T) {
    match groups.get_mut(cause) {
        None => drop(groups.insert(cause.to_owned(), Group { next: item, tried_first: tried, tried_last: tried })),
        Some(group) => {
            group.tried_last = group.tried_last.max(tried);
            if tried < group.tried_first {
                (group.next, group.tried_first) = (item, tried);
            }
        }
    }
}

impl Probes {
    /// Whether a cause is tried now, and if so when next. What was tried before this life counts by the wall clock, for no
    /// longer than one interval.
    fn is_due(&mut self, key: Key, tried_last: Timestamp, now: Timestamp, monotonic: Duration, every: Duration) -> bool {
        let ago = Duration::try_from(now.duration_since(tried_last)).unwrap_or_default();
        let due = *self.due.entry(key.clone()).or_insert(monotonic + every.saturating_sub(ago));
        let is_due = self.at_once || due <= monotonic;
        if is_due {
            self.due.insert(key, monotonic + every);
        }
        is_due
    }
}

impl Forward {
    /// The peer's configuration changed: what waits for an operator because of it is tried at the next look.
    pub(super) fn probe_at_once(&self) {
        self.probes().at_once = true;
    }

    /// An item was decided on.
    pub(super) fn probed(&self, id: SpoolId, decided: &Decided) {
        let mut probes = self.probes();
        match decided.outcome {
            Outcome::Done | Outcome::DoneDuplicate => {
                if let Some(cause) = probes.items.remove(&id) {
                    probes.worked.insert(Key::Objects(cause.as_str().to_owned()));
                }
            }
            Outcome::Hold(_) | Outcome::Quarantine => drop(probes.items.remove(&id)),
            _ => {}
        }
    }

    /// A manifest is registered or withdrawn.
    pub(super) fn manifest_probed(&self, tenant: &Tenant, study_uid: &str) {
        let mut probes = self.probes();
        if let Some(row) = probes.manifests.remove(&(tenant.clone(), study_uid.to_owned())) {
            probes.worked.insert(Key::Manifests(row));
        }
    }

    /// Lets go what waits for a cause that is gone, and tries what is due.
    ///
    /// # Errors
    /// The spool.
    pub(super) async fn probe_holds(&self) -> Result<(), SpoolError> {
        loop {
            let Some(key) = self.probes().worked.first().cloned() else { break };
            match &key {
                Key::Objects(cause) => self.release_cause(cause).await?,
                Key::Manifests(row) => self.release_manifests(row).await?,
            }
            self.probes().worked.remove(&key);
        }
        let monotonic = self.clock.monotonic();
        {
            let mut probes = self.probes();
            let late = probes.looked.is_none_or(|looked| monotonic.saturating_sub(looked) >= LOOK_EVERY);
            // A suspended peer has a probe of its own.
            if !(late || probes.at_once) || self.breakers().is_open(self.link().channel()) {
                return Ok(());
            }
            probes.looked = Some(monotonic);
        }
        let every = Duration::from_secs(self.outcomes.ages.probe_every_s);
        let mut objects = BTreeMap::new();
        for tenant in &self.tenants {
            self.held_objects(tenant, |entry| gather(&mut objects, &cause_text(&entry), entry.progress.since, entry)).await?;
        }
        let mut manifests = BTreeMap::new();
        for (study, held) in self.manifests_on_hold().await? {
            if !held.of_study {
                let key = (study.tenant, study.study_uid);
                gather(&mut manifests, &held.row, held.since.unwrap_or(Timestamp::MIN), key);
            }
        }
        let now = self.clock.now();
        for (cause, group) in objects {
            if self.probes().is_due(Key::Objects(cause.clone()), group.tried_last, now, monotonic, every) {
                tracing::info!(row = cause, object = %group.next.id(), "one of what waits for an operator is tried again");
                self.probes().items.insert(group.next.id(), cause_of(&cause));
                self.spool.advance_unchanged(vec![again(&group.next, now)]).await?;
            }
        }
        for (row, group) in manifests {
            if self.probes().is_due(Key::Manifests(row.clone()), group.tried_last, now, monotonic, every) {
                let (tenant, study_uid) = group.next;
                tracing::info!(row, %tenant, study = %study_uid, "one of the manifests that wait for an operator is tried again");
                self.probes().manifests.insert((tenant.clone(), study_uid.clone()), row);
                self.let_manifest_go(&tenant, &study_uid).await?;
            }
        }
        self.probes().at_once = false;
        self.wake.notify_waiters();
        Ok(())
    }

    /// Each object that waits for an operator because of the peer.
    async fn held_objects(&self, tenant: &Tenant, mut each: impl FnMut(Entry)) -> Result<(), SpoolError> {
        let mut of_study: HashMap<String, bool> = HashMap::new();
        let mut after = None;
        loop {
            let page = self.spool.in_state(tenant, "held", after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id());
            for entry in page {
                let State::Held(cause) = &entry.progress.state else { continue };
                // Words that are no rows are waits of another kind: for the rest of a study, for the controller map.
                if cause.as_str() != super::AGED && self.outcomes.explain(cause.as_str()).is_empty() {
                    continue;
                }
                let study_uid = entry.record.facts.study_uid.clone();
                let held = match of_study.get(&study_uid) {
                    Some(held) => *held,
                    None => {
                        let study = self.spool.study(tenant, &study_uid).await?;
                        let held = study.and_then(|study| Hold::read(study.notes.get(HOLD))).is_some_and(|hold| hold.of_study);
                        of_study.insert(study_uid, held);
                        held
                    }
                };
                if !held {
                    each(entry);
                }
            }
        }
    }

    async fn release_cause(&self, cause: &str) -> Result<(), SpoolError> {
        let now = self.clock.now();
        let mut released = 0;
        for tenant in &self.tenants {
            let mut found = Vec::new();
            self.held_objects(tenant, |entry| {
                if cause_text(&entry) == cause {
                    found.push(entry.id());
                }
            })
            .await?;
            for page in found.chunks(PAGE) {
                let mut moves = Vec::with_capacity(page.len());
                for id in page {
                    let entry = self.spool.entry(*id).await?.filter(|entry| cause_text(entry) == cause);
                    moves.extend(entry.map(|entry| Seen { go: super::queued(&entry, now), progress: entry.progress }));
                }
                released += moves.len();
                self.spool.advance_unchanged(moves).await?;
            }
        }
        if released > 0 {
            tracing::info!(row = cause, objects = released, "the cause of a hold is gone: what waited for it goes on");
            self.wake.notify_waiters();
        }
        Ok(())
    }

    async fn release_manifests(&self, row: &str) -> Result<(), SpoolError> {
        for (study, held) in self.manifests_on_hold().await? {
            if held.row == row && !held.of_study {
                self.let_manifest_go(&study.tenant, &study.study_uid).await?;
            }
        }
        self.wake.notify_waiters();
        Ok(())
    }

    /// Ends the hold of a manifest; what was refused is looked for and made again.
    async fn let_manifest_go(&self, tenant: &Tenant, study_uid: &str) -> Result<(), SpoolError> {
        let key = (tenant.clone(), study_uid.to_owned());
        self.note(tenant, study_uid, HOLD, None).await?;
        let pending = self.spool.study(tenant, study_uid).await?.is_some_and(|study| study.notes.contains_key(PENDING));
        let mut memory = self.memory();
        if pending {
            memory.reconsider.insert(key.clone());
        }
        memory.agenda.insert(key, Turn::at(self.clock.monotonic()));
        Ok(())
    }
}

/// The cause of a held object; empty for another state.
fn cause_text(entry: &Entry) -> String {
    match &entry.progress.state {
        State::Held(cause) => cause.as_str().to_owned(),
        _ => String::new(),
    }
}

/// As it is tried: its healthy age stays, so that what is `aged` is so again at once if it fails.
fn again(entry: &Entry, now: Timestamp) -> Seen {
    Seen::new(entry, Progress { state: State::Queued, since: now, not_before: now, attempts: 0, ..entry.progress.clone() })
}

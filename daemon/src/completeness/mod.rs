//! What devices say of the completeness of a study: performed procedure steps, notices of availability, requests for storage
//! commitment (profile 01 §6.1 b).
//!
//! [`Completeness::perform`] ([`operation`]) keeps what is said before it is answered with success.
//! [`Completeness::of`] tells [`crate::study`] that all listed instances of a study are here;
//! [`Completeness::listed`] tells the rules what was listed and is not (D721).
//!
//! Several listings of a study count together: all that any of them lists must be here. A step in progress lists nothing yet,
//! and holds nothing up. What is quarantined, passed on or given up with the centre's receipts is here all the same.
//!
//! # On disk
//! `listings/` ([`listing`], [`crate::ledger`]). In memory are the summaries; the instances are read when they are asked for.
//!
//! # Failure
//! What was answered with success is known after a crash. What cannot be kept is answered with a failure, and the study waits for
//! its quiet time, as it does without any of this: no listing keeps an instance from being forwarded.
//!
//! # Bounds
//! `[completeness]` of the configuration: instances of one listing, listings of one row, days that one is kept. Above the bound,
//! or after those days, the oldest is given up.
//!
//! # Standard
//! PS3.4 Annexes F and R as SCP; profile 01 §6.1 (b), D721.

pub mod listing;
pub mod operation;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::config::Config;
use crate::ledger::Ledger;
use crate::spool::disk::Disk;
use crate::spool::{Spool, SpoolError, Study, Tenant};
use listing::{Listing, Phase, Source};

pub use operation::Operation;

/// Listings that [`Completeness::overdue`] looks at.
const OVERDUE_MAX: usize = 100;
/// When one that could not be looked at is looked at again.
const OVERDUE_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// What devices have said.
pub struct Completeness {
    config: Arc<Config>,
    spool: Arc<dyn Spool>,
    ledger: Arc<Ledger<Listing>>,
    clock: fn() -> Timestamp,
    random: Mutex<StdRng>,
    book: Mutex<Book>,
    /// Held while something is said and kept: one after the other.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Book {
    next: u64,
    listings: BTreeMap<u64, Summary>,
    by_study: HashMap<(Tenant, String), Vec<u64>>,
    by_uid: HashMap<(String, Source, String), u64>,
}

/// A listing without its instances.
#[derive(Debug, Clone)]
struct Summary {
    tenant: Tenant,
    inbound: String,
    source: Source,
    uid: String,
    phase: Phase,
    at: Timestamp,
    study_uids: Vec<String>,
    count: usize,
    found: Found,
    /// It was asked for by [`Completeness::overdue`].
    asked: bool,
    /// It could not be asked for, and is not before this instant.
    rests_until: Timestamp,
}

/// How far its instances were found here, in the order listed. They do not go away again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// So many are here.
    count: usize,
    /// The last of them came then.
    latest: Option<Timestamp>,
    /// The next one, when it was looked for: SOP class and instance.
    missing: Option<(String, String)>,
}

/// What was listed of a study, for the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Instances that were listed, each once.
    pub listed: usize,
    /// SOP Instance UIDs of those that are not here, in order.
    pub missing: Vec<String>,
    /// When the oldest of the listings that miss something was made; of all if none does.
    pub since: Timestamp,
}

/// Why it cannot be said. Carries no patient data.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// A listing cannot be read.
    #[error("a listing cannot be read: {0}")]
    Ledger(#[from] io::Error),
    /// The spool cannot say what it has.
    #[error("the spool cannot be asked: {0}")]
    Spool(#[from] SpoolError),
}

impl Completeness {
    /// Opens the folder on `disk`. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn open(config: Arc<Config>, disk: Arc<dyn Disk>, spool: Arc<dyn Spool>, clock: fn() -> Timestamp) -> io::Result<Arc<Self>> {
        let mut book = Book::default();
        let (ledger, next) = Ledger::visit(disk, |id, listing| book.insert(id, &listing))?;
        book.next = next;
        if !book.listings.is_empty() {
            tracing::info!(listings = book.listings.len(), "what devices said of their studies is known");
        }
        Ok(Arc::new(Self {
            config,
            spool,
            ledger: Arc::new(ledger),
            clock,
            random: Mutex::new(StdRng::from_os_rng()),
            book: Mutex::new(book),
            writing: tokio::sync::Mutex::new(()),
        }))
    }

    /// Procedure steps in progress, and listings of all kinds beside them.
    pub fn totals(&self) -> (usize, usize) {
        let book = self.book();
        let in_progress = book.listings.values().filter(|summary| summary.phase == Phase::InProgress).count();
        (in_progress, book.listings.len() - in_progress)
    }

    /// Since when everything that was listed of a study is here: the last listing or the last listed instance, whichever came
    /// later. `None` if nothing was listed or something is missing.
    ///
    /// # Errors
    /// [`Unknown`].
    async fn complete_since(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Timestamp>, Unknown> {
        let mut since: Option<Timestamp> = None;
        for (id, summary) in self.of_study(tenant, study_uid) {
            let found = self.look(id, &summary).await?;
            if found.count < summary.count {
                return Ok(None);
            }
            since = since.max(Some(summary.at)).max(found.latest);
        }
        Ok(since)
    }

    /// Whether a study is complete by what was listed of it, `settle` later (profile 01 §6.1 b). Instances that came after that are
    /// not covered: they wait for the next listing or their quiet time. What cannot be said is journalled, and counts as no. `from`:
    /// from when a wait that began at an instant is measured, where the clock was set.
    pub async fn of(&self, study: &Study, settle: SignedDuration, now: Timestamp, from: impl Fn(Timestamp) -> Timestamp) -> bool {
        match self.complete_since(&study.tenant, &study.study_uid).await {
            Ok(Some(since)) => {
                let evaluated = since.checked_add(settle).unwrap_or(Timestamp::MAX);
                now.duration_since(from(since)) >= settle && study.last_arrival <= evaluated
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(tenant = %study.tenant, cause = %error, "what was listed of a study is not known; it waits for its quiet time");
                false
            }
        }
    }

    /// What was listed of a study, and what of it is not here (D721). `None` if nothing was listed.
    ///
    /// # Errors
    /// [`Unknown`].
    pub async fn listed(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Listed>, Unknown> {
        let mut listed: BTreeMap<String, bool> = BTreeMap::new();
        let (mut since, mut since_missing) = (None::<Timestamp>, None::<Timestamp>);
        for (id, summary) in self.of_study(tenant, study_uid) {
            let mut complete = true;
            for (class, instance) in self.instances(id).await? {
                let here = match listed.get(&instance) {
                    Some(here) => *here,
                    None => self.arrived(tenant, &class, &instance).await?.is_some(),
                };
                complete &= here;
                listed.insert(instance, here);
            }
            let oldest = |before: Option<Timestamp>| Some(before.map_or(summary.at, |before| before.min(summary.at)));
            since = oldest(since);
            if !complete {
                since_missing = oldest(since_missing);
            }
        }
        let Some(since) = since_missing.or(since) else { return Ok(None) };
        let count = listed.len();
        let missing = listed.into_iter().filter(|(_, here)| !here).map(|(uid, _)| uid).collect();
        Ok(Some(Listed { listed: count, missing, since }))
    }

    /// Studies of which something that was listed before `then` is not here; each listing is asked for once, and once more when
    /// it is said anew or after a restart. At most `OVERDUE_MAX` listings at once.
    ///
    /// # Failure
    /// A listing of which nothing can be said is told in the log, and asked for again `OVERDUE_AGAIN` later; the others are not
    /// held up.
    pub async fn overdue(&self, tenant: &Tenant, then: Timestamp) -> Vec<String> {
        let now = (self.clock)();
        let ripe: Vec<(u64, Summary)> = {
            let mut book = self.book();
            let ripe = |summary: &&mut Summary| {
                summary.tenant == *tenant
                    && !summary.asked
                    && summary.rests_until <= now
                    && summary.phase != Phase::InProgress
                    && summary.at <= then
            };
            let ripe = book.listings.iter_mut().map(|(id, summary)| (*id, summary)).filter(|(_, summary)| ripe(summary));
            ripe.take(OVERDUE_MAX)
                .map(|(id, summary)| {
                    summary.asked = true;
                    (id, summary.clone())
                })
                .collect()
        };
        let mut studies = Vec::new();
        for (id, summary) in ripe {
            match self.look(id, &summary).await {
                Ok(found) if found.count < summary.count => studies.extend(summary.study_uids),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%tenant, listing = id, cause = %error, "what a device listed cannot be compared with what came; it is tried again");
                    if let Some(kept) = self.book().listings.get_mut(&id) {
                        kept.asked &= kept.at != summary.at;
                        kept.rests_until = now.checked_add(OVERDUE_AGAIN).unwrap_or(now);
                    }
                }
            }
        }
        studies
    }

    /// Listings of a study that list something for good.
    fn of_study(&self, tenant: &Tenant, study_uid: &str) -> Vec<(u64, Summary)> {
        let book = self.book();
        let ids = book.by_study.get(&(tenant.clone(), study_uid.to_owned()));
        let summaries = ids.into_iter().flatten().filter_map(|id| Some((*id, book.listings.get(id)?)));
        summaries
            .filter(|(_, summary)| summary.phase != Phase::InProgress && summary.count > 0)
            .map(|(id, summary)| (id, summary.clone()))
            .collect()
    }

    /// Looks for what was missing of a listing, and goes on from there.
    async fn look(&self, id: u64, summary: &Summary) -> Result<Found, Unknown> {
        let mut found = summary.found.clone();
        if found.count >= summary.count {
            return Ok(found);
        }
        if let Some((class, instance)) = &found.missing
            && self.arrived(&summary.tenant, class, instance).await?.is_none()
        {
            return Ok(found);
        }
        let instances = self.instances(id).await?;
        while let Some((class, instance)) = instances.get(found.count) {
            match self.arrived(&summary.tenant, class, instance).await? {
                Some(at) => {
                    found.count += 1;
                    found.latest = found.latest.max(Some(at));
                }
                None => {
                    found.missing = Some((class.clone(), instance.clone()));
                    break;
                }
            }
        }
        if let Some(kept) = self.book().listings.get_mut(&id)
            && kept.at == summary.at
        {
            kept.found = found.clone();
        }
        Ok(found)
    }

    /// When an instance came, if it is here. One of another SOP class is not what was listed.
    async fn arrived(&self, tenant: &Tenant, sop_class_uid: &str, sop_instance_uid: &str) -> Result<Option<Timestamp>, SpoolError> {
        let entries = self.spool.instances(tenant, sop_instance_uid).await?;
        let listed = entries.iter().filter(|entry| entry.record.announced.sop_class_uid == sop_class_uid);
        Ok(listed.map(|entry| entry.record.facts.received).min())
    }

    async fn instances(&self, id: u64) -> io::Result<Vec<(String, String)>> {
        Ok(self.read(id).await?.instances)
    }

    async fn read(&self, id: u64) -> io::Result<Listing> {
        let ledger = self.ledger.clone();
        tokio::task::spawn_blocking(move || ledger.read(id)).await.map_err(io::Error::other)?
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn insert(&mut self, id: u64, listing: &Listing) {
        self.remove(id);
        for study_uid in &listing.study_uids {
            self.by_study.entry((listing.tenant.clone(), study_uid.clone())).or_default().push(id);
        }
        self.by_uid.insert((listing.inbound.clone(), listing.source, listing.uid.clone()), id);
        self.listings.insert(id, Summary::from(listing));
    }

    fn remove(&mut self, id: u64) {
        let Some(summary) = self.listings.remove(&id) else { return };
        for study_uid in summary.study_uids {
            let key = (summary.tenant.clone(), study_uid);
            if let Some(ids) = self.by_study.get_mut(&key) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_study.remove(&key);
                }
            }
        }
        self.by_uid.remove(&(summary.inbound, summary.source, summary.uid));
    }
}

impl From<&Listing> for Summary {
    fn from(listing: &Listing) -> Self {
        Self {
            tenant: listing.tenant.clone(),
            inbound: listing.inbound.clone(),
            source: listing.source,
            uid: listing.uid.clone(),
            phase: listing.phase,
            at: listing.at,
            study_uids: listing.study_uids.clone(),
            count: listing.instances.len(),
            found: Found::default(),
            asked: false,
            rests_until: Timestamp::MIN,
        }
    }
}

#[cfg(test)]
mod tests;

//! The local cache: what the centre is proven to hold stays here within a byte budget, and is given up beyond it (profile 03 §3.1,
//! 11 §2 R5).
//!
//! Registered objects are the cache. When they have more bytes than `cache.bytes_max`, whole studies are given up, the oldest first,
//! until they have not. A study goes only when every instance of it is registered with receipts R3 and R4 of the centre that are in
//! our log and verify now ([`proof`]), `retention_days` have passed, and a reconciliation with the centre has found all of it there since
//! it was registered, and no later one a difference ([`agreed`]). Nothing else is ever given up, however full the disk is.
//!
//! # Order
//! The elements outside bulk data are kept ([`crate::spool::Spool::keep_header`]), so that a later manifest can describe the instance;
//! then R5 is durable in the receipt log; then the journal says `released`; then the file goes. A crash between any two repeats
//! from the first, and finds the R5 that was said. What comes again later is held again, under its one R1.
//!
//! # Failure
//! A study that cannot be read, or that something else moves meanwhile, stays and is looked at in the next pass.
//!
//! # Bounds
//! `PAGE` objects are looked at in a round, one study at a time; rounds are `ROUND` apart.

pub mod proof;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idr_host::monitor::Counter;
use idr_profile::digest::Digest;
use idr_profile::receipt::{Carried, Ground, Object, Source, Statement};
use idr_profile::scan::{Header, Limits};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::forward::maps::read_header;
use crate::forward::reconcile::agreed;
use crate::receipts::Receipts;
use crate::spool::{Entry, Move, Progress, Spool, SpoolError, SpoolId, State, Tenant};
use proof::{Grounds, Stays};

/// Registered objects that one round looks at, per tenant.
const PAGE: usize = 500;
/// Objects that are given up at once.
const AT_ONCE: usize = 100;
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(60);

/// Whether a receipt is of the centre and holds.
pub type Verifies = Box<dyn Fn(&Carried) -> bool + Send + Sync>;

/// The clock.
pub type Now = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The cache of a spool.
pub struct Retention {
    settings: config::Cache,
    spool: Arc<dyn Spool>,
    receipts: Arc<Receipts>,
    verifies: Verifies,
    tenants: Vec<Tenant>,
    clock: Now,
    /// How far the pass of each tenant is.
    pass: Mutex<HashMap<Tenant, SpoolId>>,
    /// Objects given up since the start.
    pub released_objects: Counter,
    /// Their data set bytes.
    pub released_bytes: Counter,
}

impl Retention {
    /// Over a spool.
    pub fn new(
        settings: config::Cache,
        spool: Arc<dyn Spool>,
        receipts: Arc<Receipts>,
        verifies: Verifies,
        tenants: Vec<Tenant>,
        clock: Now,
    ) -> Self {
        let (released_objects, released_bytes) = (Counter::default(), Counter::default());
        let pass = Mutex::default();
        Self { settings, spool, receipts, verifies, tenants, clock, pass, released_objects, released_bytes }
    }

    /// Data set bytes of registered objects.
    pub fn bytes(&self) -> u64 {
        let registered = State::Registered.name();
        self.spool.totals().iter().filter(|((_, state), _)| *state == registered).map(|(_, amount)| amount.bytes).sum()
    }

    /// The budget.
    pub fn bytes_max(&self) -> u64 {
        self.settings.bytes_max
    }

    /// For operators.
    pub fn show(&self) -> Value {
        json!({"release": self.settings.release, "bytes": self.bytes(), "bytes_max": self.settings.bytes_max})
    }

    /// Rounds until stopped; none if nothing shall be given up.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if !self.settings.release {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
            for tenant in &self.tenants {
                if let Err(error) = self.round(tenant).await {
                    tracing::warn!(%tenant, cause = %error, remedy = error.remedy(), "the cache could not be looked at; next round in a minute");
                }
            }
        }
    }

    /// Gives up what is too much, as far as it may; the next page of the tenant's registered objects.
    ///
    /// # Errors
    /// The spool.
    pub async fn round(&self, tenant: &Tenant) -> Result<(), SpoolError> {
        if self.bytes() <= self.settings.bytes_max {
            return Ok(());
        }
        let after = self.pass.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied();
        let page = self.spool.in_state(tenant, State::Registered.name(), after, PAGE).await?;
        let mut looked = BTreeSet::new();
        for entry in &page {
            if self.bytes() <= self.settings.bytes_max {
                return Ok(());
            }
            let study_uid = &entry.record.facts.study_uid;
            if looked.insert(study_uid.clone()) {
                match self.release(tenant, study_uid).await {
                    Ok(Ok(objects)) => {
                        tracing::info!(%tenant, study = %study_uid, objects, "local copies were given up: the centre holds them")
                    }
                    Ok(Err(why)) => tracing::debug!(%tenant, study = %study_uid, %why, "a study stays in the cache"),
                    Err(error) => {
                        tracing::warn!(%tenant, study = %study_uid, cause = %error, remedy = error.remedy(), "a study could not be given up and stays");
                    }
                }
            }
        }
        let mut pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        match page.last().filter(|_| page.len() == PAGE) {
            Some(last) => drop(pass.insert(tenant.clone(), last.id())),
            // From the beginning again.
            None => drop(pass.remove(tenant)),
        }
        Ok(())
    }

    /// Gives up the copies of a study, if it may; says how many.
    ///
    /// # Errors
    /// The spool, the receipts, an object that cannot be read.
    pub async fn release(&self, tenant: &Tenant, study_uid: &str) -> Result<Result<usize, Stays>, SpoolError> {
        let now = (self.clock)();
        let Some(study) = self.spool.study(tenant, study_uid).await? else { return Ok(Err(Stays::Gone)) };
        let members = self.members(tenant, study_uid).await?;
        let (receipts, of) = (self.receipts.clone(), study_uid.to_owned());
        let known = tokio::task::spawn_blocking(move || receipts.of_study(&of)).await.map_err(|_| SpoolError::Stopped)??;
        let retention = SignedDuration::from_hours(24 * i64::from(self.settings.retention_days));
        let grounds = match proof::grounds(&members, &study.notes, &known, &self.verifies, retention, now) {
            Ok(grounds) => grounds,
            Err(why) => return Ok(Err(why)),
        };
        // Of what is here: a release that a crash interrupted goes on.
        let here = members.iter().filter(|entry| entry.progress.state == State::Registered);
        if self.settings.require_reconciliation && agreed::since(&study.notes) < here.map(|entry| entry.progress.since).max() {
            return Ok(Err(Stays::NotReconciled));
        }
        let leaving: Vec<&Entry> = members.iter().filter(|entry| grounds.contains_key(&entry.id())).collect();
        // Few at once: receipts of objects that come in wait for the same log.
        for some in leaving.chunks(AT_ONCE) {
            self.give_up(some, &members, &grounds, &known, now).await?;
        }
        Ok(Ok(leaving.len()))
    }

    /// In this order; each is durable before the next.
    async fn give_up(
        &self,
        some: &[&Entry],
        members: &[Entry],
        grounds: &Grounds,
        known: &[Carried],
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        for entry in some {
            let header = read_header(&*self.spool, entry).await?.header.to_explicit_le();
            if Header::read(&header, Limits::default()).is_none() {
                return Err(SpoolError::Damaged { id: entry.id(), what: "its elements cannot be kept without its bulk data" });
            }
            self.spool.keep_header(entry.id(), header.into()).await?;
        }
        let statements = statements(some, members, grounds, known);
        if !statements.is_empty() {
            let receipts = self.receipts.clone();
            tokio::task::spawn_blocking(move || receipts.say(statements, now)).await.map_err(|_| SpoolError::Stopped)??;
        }
        let released = |entry: &&Entry| {
            let to = Progress { state: State::Released, since: now, not_before: now, attempts: 0, memo: None, ..entry.progress.clone() };
            Move { id: entry.id(), to }
        };
        self.spool.advance(some.iter().map(released).collect()).await?;
        self.released_objects.add(some.len() as u64);
        self.released_bytes.add(some.iter().map(|entry| entry.record.size_bytes).sum());
        Ok(())
    }

    async fn members(&self, tenant: &Tenant, study_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        let (mut members, mut after) = (Vec::new(), None);
        loop {
            let page = self.spool.members(tenant, study_uid, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(members) };
            after = Some(last.id());
            members.extend(page);
        }
    }
}

/// R5 of each that goes, without those that a release before a crash said already: there are more of the same bytes than were given up.
fn statements(some: &[&Entry], members: &[Entry], grounds: &Grounds, known: &[Carried]) -> Vec<Statement> {
    let key = |uid: &str, digest: Digest| (uid.to_owned(), digest);
    let (mut said, mut gone) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
    for carried in known {
        if let Statement::Release { object, .. } = &carried.receipt().statement {
            *said.entry(key(&object.sop_instance_uid, object.digest)).or_default() += 1;
        }
    }
    let of = |entry: &Entry| key(&entry.record.announced.sop_instance_uid, entry.record.digest);
    members.iter().filter(|entry| entry.progress.state == State::Released).for_each(|entry| *gone.entry(of(entry)).or_default() += 1);
    let wanted = |entry: &&&Entry| said.get(&of(entry)) <= gone.get(&of(entry));
    some.iter().filter(wanted).filter_map(|entry| grounds.get(&entry.id()).map(|ground| release(entry, ground))).collect()
}

fn release(entry: &Entry, ground: &Ground) -> Statement {
    let announced = &entry.record.announced;
    let mut certificate = [0; 32];
    let tls = announced.tls_peer_sha256.as_deref().is_some_and(|text| hex::decode_to_slice(text, &mut certificate).is_ok());
    Statement::Release {
        object: Object {
            sop_instance_uid: announced.sop_instance_uid.clone(),
            sop_class_uid: announced.sop_class_uid.clone(),
            study_uid: entry.record.facts.study_uid.clone(),
            transfer_syntax_uid: announced.transfer_syntax_uid.clone(),
            digest: entry.record.digest,
            size_bytes: entry.record.size_bytes,
        },
        source: Source { calling_ae_title: Some(announced.calling_ae.clone()), certificate_sha256: tls.then_some(certificate) },
        ground: ground.clone(),
    }
}

//! What every route shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_host::monitor::{Counter, Durations};
use idr_ihe::hl7::AckCode;
use idr_ihe::metadata::PatientId;
use idr_profile::access::{Policy, PolicyFiles};
use idr_profile::adt::Sources;
use idr_profile::identifier::IdentityRules;
use idr_profile::mapping::Slots;
use idr_profile::rules::{RuleSets, Rules};
use idr_profile::xds::{Concurrency, Errors, XdsRules};
use idr_profile::xua::{Trust, XuaRules};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rand::RngCore as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::audit::AuditSink;
use crate::config::Config;
use crate::enrolment::Enrolment;
use crate::federation::Federation;
use crate::objects::Objects;
use crate::revocation::Revocations;
use crate::store::CentralStore;
use crate::store::committer::Committer;
use crate::store::receipts::Custody;

/// The centre, as its routes see it.
pub struct Central {
    /// Main configuration.
    pub config: Arc<Config>,
    /// Rule sets, swapped on reload.
    pub rules: ArcSwap<RuleSets>,
    /// Anchors, issuers, organisations, receipt keys; a request keeps the snapshot that it began with.
    pub trust: ArcSwap<Trust>,
    /// Revoked certificates, swapped on reload.
    pub revocation: ArcSwap<Revocations>,
    /// Assertion rules.
    pub xua: XuaRules,
    /// Access policy.
    pub policy: Policy,
    /// Hash of [`Self::policy_files`]: what a record's `policy_hash` says.
    pub policy_sha256: String,
    /// The files that decisions follow; the decision log keeps them under their hash.
    pub policy_files: PolicyFiles,
    /// Identity rules.
    pub identity: IdentityRules,
    /// Who may send ADT messages.
    pub sources: Sources,
    /// Rules and limits of submissions, queries and retrieves.
    pub xds: XdsRules,
    /// Codes and texts of their refusals.
    pub errors: Errors,
    /// Names of the national slots.
    pub slots: Slots,
    /// Places for SOAP requests that work at the same time.
    pub places: Places,
    /// Registry, index, identity, declarations, receipts.
    pub store: Arc<dyn CentralStore>,
    /// Gathers instances into common commits.
    pub committer: Committer,
    /// Who signs R3 and R4.
    pub custody: Custody,
    /// Bytes.
    pub objects: Objects,
    /// Opening records before every reply.
    pub audit: Arc<dyn AuditSink>,
    /// Whether there is room for more.
    pub space: Space,
    /// Instances that are staged at once, over all requests ([`RECEIVING_MAX`]).
    pub receiving: Arc<Semaphore>,
    /// Other communities that are asked.
    pub federation: Federation,
    /// How sites join, and which have.
    pub enrolment: Enrolment,
    /// What is counted since the start.
    pub counters: Counters,
    /// The clock of this program.
    pub clock: fn() -> Timestamp,
}

/// Instances staged at once, from all senders. Each holds at most 768 KiB of staged bytes and what the network gave last, so
/// that all of them stay within 64 MiB; many syncs in flight merge.
pub const RECEIVING_MAX: usize = 48;

/// SOAP messages received at once, from all senders: what is in memory of them is at most this times `soap_body_bytes_max`.
pub const MESSAGES_MAX: usize = 128;

impl Central {
    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// A fresh UUIDv7: audit records, object keys.
    pub fn new_id(&self) -> Uuid {
        let mut random = [0; 10];
        rand::rng().fill_bytes(&mut random);
        uuid_v7(self.now(), &random)
    }

    /// A fresh version 4 UUID: message ids, request ids, boundaries.
    pub fn random_id(&self) -> Uuid {
        let mut random = [0; 16];
        rand::rng().fill_bytes(&mut random);
        uuid::Builder::from_random_bytes(random).into_uuid()
    }

    /// Civil date where the centre is.
    pub fn today(&self) -> Date {
        // Checked on load.
        TimeZone::get(&self.config.central.timezone).unwrap_or(TimeZone::UTC).to_datetime(self.now()).date()
    }

    /// The form in which patients are compared (06 §2.1); an id that is none stays as it is.
    pub fn canonical(&self, patient: &PatientId) -> PatientId {
        match idr_profile::identifier::check(patient, &self.identity, self.config.environment, &[], self.today()) {
            Ok(checked) => checked.id,
            Err(_) => patient.clone(),
        }
    }

    /// The validation rules in force now; `None`: no listed set is in its production interval.
    pub fn rules_in_force(&self) -> Option<Arc<Rules>> {
        self.rules.load().in_force(&self.config.central.rule_sets, self.now()).map(|set| set.rules_for(None).clone())
    }
}

/// UUIDv7 of an instant and 80 random bits.
pub fn uuid_v7(at: Timestamp, random: &[u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(at.as_millisecond()).unwrap_or(0), random).into_uuid()
}

/// Requests of a kind that work at the same time on this node; the others wait (profile 08 §6 `concurrency`).
#[derive(Debug)]
pub struct Places {
    receive: Arc<Semaphore>,
    submit: Arc<Semaphore>,
    query: Arc<Semaphore>,
    retrieve: Arc<Semaphore>,
    wait: Duration,
}

/// Which places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// SOAP messages, from the first byte of the body on, with what follows.
    Receive,
    /// Submissions.
    Submit,
    /// Queries.
    Query,
    /// Retrieves; a place is held until the last byte has left.
    Retrieve,
}

impl Places {
    /// As many places as configured.
    pub fn new(concurrency: &Concurrency) -> Self {
        Self {
            receive: Arc::new(Semaphore::new(MESSAGES_MAX)),
            submit: Arc::new(Semaphore::new(concurrency.submit)),
            query: Arc::new(Semaphore::new(concurrency.query)),
            retrieve: Arc::new(Semaphore::new(concurrency.retrieve)),
            wait: Duration::from_secs(u64::from(concurrency.queue_seconds)),
        }
    }

    /// A place, freed when dropped; `None` after the queue time (IDR-B-01).
    pub async fn take(&self, work: Work) -> Option<OwnedSemaphorePermit> {
        let places = match work {
            Work::Receive => &self.receive,
            Work::Submit => &self.submit,
            Work::Query => &self.query,
            Work::Retrieve => &self.retrieve,
        };
        tokio::time::timeout(self.wait, places.clone().acquire_owned()).await.ok()?.ok()
    }
}

/// Room on the volume of `storage.path` (IDR-B-03).
#[derive(Debug, Clone)]
pub struct Space {
    path: PathBuf,
    reserve_bytes: u64,
}

impl Space {
    /// Watches the volume that holds `path`.
    pub fn new(path: PathBuf, reserve_bytes: u64) -> Self {
        Self { path, reserve_bytes }
    }

    /// Free bytes, as a service user sees them; `None` if the volume does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Less than the reserve is left, or nobody can say: stores are refused.
    pub fn is_short(&self) -> bool {
        self.free_bytes().is_none_or(|free| free < self.reserve_bytes)
    }
}

/// What is counted of ADT messages.
#[derive(Debug, Default)]
pub struct Feed {
    /// Answered with AA, AE, AR.
    answers: [Counter; 3],
    /// Messages that were done before.
    pub repeated: Counter,
    /// Bytes that belonged to no message.
    pub skipped_bytes: Counter,
}

impl Feed {
    /// One more answer.
    pub fn answered(&self, code: AckCode) {
        let [aa, ae, ar] = &self.answers;
        match code {
            AckCode::Aa => aa,
            AckCode::Ae => ae,
            AckCode::Ar => ar,
        }
        .add(1);
    }

    /// Answers so far, by MSA-1.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ["AA", "AE", "AR"].into_iter().zip(self.answers.iter().map(Counter::value))
    }
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Instances stored for the first time.
    pub instances_stored: Counter,
    /// Instances answered as stored that were held already.
    pub instances_duplicate: Counter,
    /// Instances refused: a rule, the patient binding, a store rule.
    pub instances_refused: Counter,
    /// Instances that could not be kept: A700H, 0110H.
    pub instances_failed: Counter,
    /// Data set bytes of instances stored.
    pub bytes_stored: Counter,
    /// Instances given out.
    pub instances_sent: Counter,
    /// ADT messages.
    pub feed: Feed,
    /// Requests that ended in a panic (IDR-B-04).
    pub panics: Counter,
    /// Associations accepted.
    pub associations_accepted: Counter,
    /// Associations rejected.
    pub associations_rejected: Counter,
    /// Reloads that were taken.
    pub reloads: Counter,
    /// Reloads that were refused.
    pub reloads_refused: Counter,
    /// From the head of an HTTP request to the head of its answer.
    pub requests: Durations,
    /// HTTP answers by hundreds: 1xx … 5xx.
    pub answers: [Counter; 5],
}

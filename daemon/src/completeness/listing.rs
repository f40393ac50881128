//! What a device has said of a study, as it is kept.

use idr_dimse::service::mpps::{State, Step};
use idr_dimse::service::storage_commitment::Reference;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::commitment::Device;
use crate::ledger::Kept;
use crate::spool::Tenant;

/// How it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Modality Performed Procedure Step.
    Mpps,
    /// Instance Availability Notification.
    Ian,
    /// A request for storage commitment.
    Commitment,
}

/// How far a performed procedure step has come; everything else is complete when it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// More is to come.
    InProgress,
    /// All was made that was to be made.
    Completed,
    /// The rest will not be made.
    Discontinued,
}

/// Instances that a device says there are. Holds UIDs alone: of what else a device says nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// [`Kept::FORMAT`].
    format: u32,
    /// Organisation of the inbound row.
    pub tenant: Tenant,
    /// Name of the row.
    pub inbound: String,
    /// How it was said.
    pub source: Source,
    /// SOP Instance UID; of a request for storage commitment its Transaction UID.
    pub uid: String,
    /// How far it has come.
    pub phase: Phase,
    /// When it was said first.
    pub received: Timestamp,
    /// When it was said last.
    pub at: Timestamp,
    /// Studies.
    pub study_uids: Vec<String>,
    /// SOP class and SOP instance of each, in the order listed.
    pub instances: Vec<(String, String)>,
}

impl Listing {
    /// What is said now.
    pub fn new(device: &Device, source: Source, uid: String, now: Timestamp) -> Self {
        Self {
            format: Self::FORMAT,
            tenant: device.tenant.clone(),
            inbound: device.inbound.clone(),
            source,
            uid,
            phase: Phase::Completed,
            received: now,
            at: now,
            study_uids: Vec::new(),
            instances: Vec::new(),
        }
    }

    /// With these instances of these studies.
    pub fn of(self, study_uids: Vec<String>, instances: impl IntoIterator<Item = Reference>) -> Self {
        Self { study_uids, instances: pairs(instances), ..self }
    }

    /// With what is known of a step.
    pub fn with_step(self, step: Step, now: Timestamp) -> Self {
        let phase = match step.state {
            State::InProgress => Phase::InProgress,
            State::Completed => Phase::Completed,
            State::Discontinued => Phase::Discontinued,
        };
        Self { phase, at: now, ..self.of(step.study_uids, step.instances) }
    }

    /// What is known of the step.
    pub fn step(&self) -> Step {
        let state = match self.phase {
            Phase::InProgress => State::InProgress,
            Phase::Completed => State::Completed,
            Phase::Discontinued => State::Discontinued,
        };
        let reference =
            |(class, instance): &(String, String)| Reference { sop_class_uid: class.clone(), sop_instance_uid: instance.clone() };
        Step { state, study_uids: self.study_uids.clone(), instances: self.instances.iter().map(reference).collect() }
    }
}

/// As they are kept.
fn pairs(references: impl IntoIterator<Item = Reference>) -> Vec<(String, String)> {
    references.into_iter().map(|one| (one.sop_class_uid, one.sop_instance_uid)).collect()
}

impl Kept for Listing {
    const FOLDER: &'static str = "listings";
    const FORMAT: u32 = 1;
    const UNREADABLE: &'static str = "what a device said of a study cannot be read; the study waits for its quiet time";

    fn format(&self) -> u32 {
        self.format
    }
}

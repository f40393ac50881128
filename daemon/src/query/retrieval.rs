//! A C-GET or C-MOVE under way: one instance after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dicom_dictionary_std::tags;
use idr_dimse::service::query_retrieve::matching::{Matching, matches};
use idr_dimse::service::query_retrieve::{Identifier, Model, SubOperations};
use idr_dimse::status::Status;
use idr_profile::access::{AccessUnit, Decision, Operation, decide_own};

use super::finding::text;
use super::look_up::{Instance, Part, is_here};
use super::{Asker, Place, Query};
use crate::spool::{Note, Stored};

/// Name of the note of a retrieval on a study; the journal keeps all of them.
const RETRIEVED: &str = "retrieved";

/// A C-GET or C-MOVE under way.
pub struct Retrieval {
    query: Arc<Query>,
    asker: Option<Asker>,
    left: VecDeque<(Instance, Arc<AccessUnit>)>,
    counts: SubOperations,
    failed: Vec<String>,
    _place: Place,
}

impl std::fmt::Debug for Retrieval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Retrieval({:?})", self.counts)
    }
}

/// The next sub-operation.
pub enum Next {
    /// Send this.
    Object(Object),
    /// It could not be read, or may not be sent any more: counted as failed.
    Failed,
    /// There is none.
    End,
}

/// An instance to be sent, exactly as it was received.
pub struct Object {
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// The transfer syntax that it is held in; no other is offered.
    pub transfer_syntax: String,
    /// Its bytes.
    pub stored: Box<dyn Stored>,
}

impl Retrieval {
    pub(super) async fn begin(
        query: Arc<Query>,
        place: Place,
        asker: Option<Asker>,
        (model, identifier): (Model, &Identifier),
        parts: Vec<Part>,
        to: &str,
    ) -> Result<Self, Status> {
        let unable = |error: crate::spool::SpoolError| {
            tracing::warn!(cause = %error, remedy = error.remedy(), "a retrieve cannot be begun");
            Status::UNABLE_TO_CALCULATE_MATCHES
        };
        let mut left = VecDeque::new();
        let mut studies: BTreeMap<String, usize> = BTreeMap::new();
        if let Some(asker) = &asker {
            let patient = String::from_utf8_lossy(identifier.value(tags::PATIENT_ID)).into_owned();
            // One part after the other: a header is no longer held than it is needed.
            for part in parts {
                for shown in query.disclosed(asker, Operation::Retrieve, vec![part]).await.map_err(unable)? {
                    if model == Model::PatientRoot && !matches(Matching::Text, &patient, &text(&shown.header, tags::PATIENT_ID)) {
                        continue;
                    }
                    let unit = Arc::new(shown.unit);
                    *studies.entry(shown.part.study).or_default() += shown.part.instances.len();
                    left.extend(shown.part.instances.into_iter().map(|instance| (instance, unit.clone())));
                }
            }
            // The use is on record before anything leaves.
            for (study_uid, instances) in studies {
                let value = Some(format!("{} row={} to={to} instances={instances}", (query.clock)(), asker.device.row));
                let note = Note { tenant: asker.tenant.clone(), study_uid, name: RETRIEVED.to_owned(), value };
                if let Err(error) = query.spool.note(note).await {
                    tracing::error!(cause = %error, remedy = error.remedy(), "a retrieve cannot be put on record: nothing is sent");
                    return Err(Status::UNABLE_TO_PERFORM_SUB_OPERATIONS);
                }
            }
            tracing::info!(inbound = asker.device.row, instances = left.len(), to, "a retrieve begins");
        }
        let counts = SubOperations { remaining: left.len(), ..SubOperations::default() };
        Ok(Self { query, asker, left, counts, failed: Vec::new(), _place: place })
    }

    /// The next sub-operation; decided again, and opened.
    pub async fn next(&mut self) -> Next {
        let (Some((instance, unit)), Some(asker)) = (self.left.pop_front(), &self.asker) else { return Next::End };
        self.counts.remaining = self.left.len();
        let query = &self.query;
        let decision = decide_own(&asker.device, Operation::Retrieve, &unit, &query.policy, (query.clock)());
        let opened = match query.spool.entry(instance.id).await {
            Ok(Some(entry)) if matches!(decision, Decision::Permit(_)) && is_here(&entry.progress.state) => {
                query.spool.read(instance.id).await.map(|stored| Some((stored, entry.record.announced.transfer_syntax_uid)))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match opened {
            Ok(Some((stored, transfer_syntax))) => {
                Next::Object(Object { sop_class: instance.sop_class, sop_instance: instance.sop_instance, transfer_syntax, stored })
            }
            Ok(None) => {
                self.ended(&instance.sop_instance, None);
                Next::Failed
            }
            Err(error) => {
                tracing::error!(object = %instance.id, cause = %error, remedy = error.remedy(), "an instance cannot be retrieved");
                self.ended(&instance.sop_instance, None);
                Next::Failed
            }
        }
    }

    /// A sub-operation ended with this status of the C-STORE-RSP, or without one.
    pub fn ended(&mut self, sop_instance: &str, status: Option<Status>) {
        match status {
            Some(Status::SUCCESS) => self.counts.completed += 1,
            Some(status) if status.is_done() => self.counts.warning += 1,
            _ => {
                self.counts.failed += 1;
                self.failed.push(sop_instance.to_owned());
            }
        }
    }

    /// SOP classes with the transfer syntaxes that their instances are held in, each once.
    pub fn kinds(&self) -> BTreeSet<(String, String)> {
        self.left.iter().map(|(instance, _)| (instance.sop_class.clone(), instance.transfer_syntax.clone())).collect()
    }

    /// Nothing more is begun; what is left counts as remaining.
    pub fn cancel(&mut self) {
        self.left.clear();
    }

    /// What is done and not.
    pub fn counts(&self) -> &SubOperations {
        &self.counts
    }

    /// SOP Instance UIDs of what failed.
    pub fn failed(&self) -> &[String] {
        &self.failed
    }

    /// It is over: the log has how it went.
    pub fn close(&self, status: Status) {
        if let Some(asker) = &self.asker {
            let SubOperations { completed, failed, warning, remaining } = self.counts;
            tracing::info!(inbound = asker.device.row, completed, failed, warning, remaining, %status, "a retrieve ended");
        }
    }
}

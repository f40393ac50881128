//! From an identifier to what is here of it, and to whom it belongs.

use std::collections::{BTreeMap, BTreeSet};

use idr_dimse::service::query_retrieve::{Identifier, Level};
use idr_dimse::status::Status;
use idr_profile::access::{AccessUnit, Candidate, Operation, Sector, Status as UnitStatus, UnitId, gate_own};
use idr_profile::identifier::Specifier;
use idr_profile::scan::Scan;

use super::{Asker, Query};
use crate::forward::{self, Described};
use crate::spool::{Entry, SpoolError, SpoolId, State, Tenant};

/// Entries of the index that are read at once.
const PAGE: usize = 500;
/// States whose objects are here for a query, by name.
const STATES: [&str; 5] = ["held", "queued", "sent", "committed", "registered"];

/// An instance that is here.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its name here.
    pub id: SpoolId,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// Transfer syntax that it is held in.
    pub transfer_syntax: String,
    /// Series Instance UID.
    pub series: String,
    /// Modality, if it is known.
    pub modality: Option<String>,
    /// Patient of its record.
    pub patient: String,
}

/// What of a study one AE title has sent of one patient: one access unit. A study that mixes patients, by mistake, is not decided for
/// one of them and shown of both.
#[derive(Debug, Clone)]
pub struct Part {
    /// Study Instance UID.
    pub study: String,
    /// Calling AE title.
    pub calling_ae: String,
    /// At least one.
    pub instances: Vec<Instance>,
}

/// Whether an object may be shown to a query: it waits for no decision, and its bytes are here.
pub fn is_here(state: &State) -> bool {
    matches!(state, State::Held(_) | State::Queued | State::Sending | State::Sent | State::Committed | State::Registered)
}

fn failed(error: &SpoolError) -> Status {
    tracing::warn!(cause = %error, remedy = error.remedy(), "a query cannot be answered");
    Status::CANNOT_UNDERSTAND
}

impl Query {
    /// What is here of an identifier, by its UIDs at and above its level; other keys are matched later.
    ///
    /// # Errors
    /// A700H above `query.objects_max`; C000H for a fault of the spool.
    pub(super) async fn look_up(&self, tenant: &Tenant, identifier: &Identifier) -> Result<Vec<Part>, Status> {
        let mut gathered = Gathered { identifier, left: self.config.query.objects_max, parts: BTreeMap::new() };
        let studies: BTreeSet<String> = identifier.uids(Level::Study.unique_key()).into_iter().collect();
        if studies.is_empty() {
            for state in STATES {
                let mut after = None;
                loop {
                    let page = self.spool.in_state(tenant, state, after, PAGE).await.map_err(|error| failed(&error))?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.id());
                    gathered.take(page)?;
                }
            }
        } else {
            for study in studies {
                let mut after = None;
                loop {
                    let page = self.spool.members(tenant, &study, after, PAGE).await.map_err(|error| failed(&error))?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.id());
                    gathered.take(page)?;
                }
            }
        }
        Ok(gathered.parts.into_values().collect())
    }

    /// The access unit of a part, and the header that says so; `None` if nobody can say whose it is.
    ///
    /// # Errors
    /// The spool.
    pub(super) async fn unit(&self, part: &Part) -> Result<Option<(AccessUnit, Scan)>, SpoolError> {
        let Some(first) = part.instances.first() else { return Ok(None) };
        let Some(entry) = self.spool.entry(first.id).await? else { return Ok(None) };
        let scan = forward::read_header(&*self.spool, &entry).await?;
        let described = Described::of(&scan, &entry, &self.rules.load());
        let maps = self.maps.load();
        let (Some(patient), Some(row)) = (&entry.record.facts.patient_id, maps.controlled(&entry, &described)) else {
            return Ok(None);
        };
        let today = maps.zone.to_datetime((self.clock)()).date();
        let specifier = match row.specifier.as_deref().map(|text| Specifier::from_slot(text, today)) {
            None => None,
            Some(Ok(specifier)) => Some(specifier),
            Some(Err(_)) => return Ok(None),
        };
        let unit = AccessUnit {
            id: UnitId(format!("{}/{}", part.study, part.calling_ae)),
            patient: patient.clone(),
            recorded_under: None,
            controller: row.controller.clone(),
            register: row.register.clone(),
            specifier,
            unit: row.service_unit.clone(),
            episode: None,
            service_event: described.service_event,
            date: None,
            sector: Sector::Unknown,
            status: UnitStatus::Active,
            release_date: None,
            minor_code: None,
            labels: Vec::new(),
            unreadable: false,
        };
        Ok(Some((unit, scan)))
    }

    /// What a device may see of some parts, each with the header of its first instance, in their order.
    ///
    /// # Errors
    /// The spool.
    pub(super) async fn disclosed(&self, asker: &Asker, operation: Operation, parts: Vec<Part>) -> Result<Vec<Shown>, SpoolError> {
        let mut candidates = Vec::new();
        for part in parts {
            match self.unit(&part).await {
                Ok(Some((unit, scan))) => candidates.push(Candidate::new(unit, (part, scan))),
                Ok(None) => {}
                // It says nothing of the others, and nothing of it can be shown.
                Err(error @ (SpoolError::Damaged { .. } | SpoolError::Unknown(_))) => {
                    tracing::error!(cause = %error, remedy = error.remedy(), "an object cannot be read; it is in no answer");
                }
                Err(error) => return Err(error),
            }
        }
        let gated = gate_own(&asker.device, operation, candidates, &self.policy, (self.clock)());
        if !gated.omitted.is_empty() {
            tracing::debug!(inbound = asker.device.row, units = gated.omitted.len(), "access units of other registers are omitted");
        }
        Ok(gated
            .disclosed
            .into_iter()
            .map(|disclosed| {
                let unit = disclosed.unit().clone();
                let ((part, header), _) = disclosed.into_parts();
                Shown { part, header, unit }
            })
            .collect())
    }
}

/// A part that may be shown.
pub struct Shown {
    /// What it is.
    pub part: Part,
    /// Header of its first instance.
    pub header: Scan,
    /// Its access unit, to be decided again.
    pub unit: AccessUnit,
}

struct Gathered<'a> {
    identifier: &'a Identifier,
    left: usize,
    /// By study, AE title and patient.
    parts: BTreeMap<(String, String, String), Part>,
}

impl Gathered<'_> {
    fn take(&mut self, page: Vec<Entry>) -> Result<(), Status> {
        if page.len() > self.left {
            tracing::warn!("a query would look at more objects than query.objects_max");
            return Err(Status::OUT_OF_RESOURCES);
        }
        self.left -= page.len();
        let level = self.identifier.level;
        let wanted = |of: Level| if level >= of { self.identifier.uids(of.unique_key()) } else { Vec::new() };
        let (series, instances) = (wanted(Level::Series), wanted(Level::Image));
        let fits = |wanted: &[String], uid: &String| wanted.is_empty() || wanted.contains(uid);
        for Entry { record, progress, .. } in page {
            let (announced, facts) = (record.announced, record.facts);
            if !is_here(&progress.state) || !fits(&series, &facts.series_uid) || !fits(&instances, &announced.sop_instance_uid) {
                continue;
            }
            let patient = facts.patient_id.map(|patient| patient.to_cx()).unwrap_or_default();
            let key = (facts.study_uid.clone(), announced.calling_ae.clone(), patient.clone());
            let part = self.parts.entry(key).or_insert_with(|| Part {
                study: facts.study_uid,
                calling_ae: announced.calling_ae,
                instances: Vec::new(),
            });
            part.instances.push(Instance {
                id: record.id,
                sop_class: announced.sop_class_uid,
                sop_instance: announced.sop_instance_uid,
                transfer_syntax: announced.transfer_syntax_uid,
                series: facts.series_uid,
                modality: facts.modality,
                patient,
            });
        }
        Ok(())
    }
}

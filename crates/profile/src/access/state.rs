//! What a decision is about: the access unit, and what is known of its patient (profile 05 §2).

use super::policy::FreshnessPolicy;
use super::subject::later;
use crate::identifier::Specifier;
use idr_ihe::metadata::PatientId;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Name of an access unit in our index: a document's entry UUID, or a manifest entry's key. No patient data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnitId(pub String);

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sector of a unit and of a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sector {
    /// Health care.
    Health,
    /// Social care.
    Social,
    /// Cannot be told: no consent covers it.
    Unknown,
}

/// Life of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In force.
    Active,
    /// Replaced by a later version.
    Superseded,
    /// Marked as not valid.
    Invalidated,
    /// Rejected by a rejection note.
    Rejected,
    /// Removed.
    Erased,
}

/// What a decision is about (05 §1): one document entry, or a study × controller × register × specifier × service event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessUnit {
    /// Name in our index.
    pub id: UnitId,
    /// Patient, survivor of merges.
    pub patient: PatientId,
    /// Id under which it was stored, where a merge made it another (06 §7.4); `None` = `patient`.
    pub recorded_under: Option<PatientId>,
    /// Controller, OID of node 19.
    pub controller: String,
    /// Register code.
    pub register: String,
    /// Register specifier.
    pub specifier: Option<Specifier>,
    /// Service unit, OID.
    pub unit: Option<String>,
    /// Ward episode, OID; `None` = outside every episode.
    pub episode: Option<String>,
    /// Service event, OID.
    pub service_event: Option<String>,
    /// Study or creation date; `None` = cannot be told.
    pub date: Option<Date>,
    /// Sector.
    pub sector: Sector,
    /// Life.
    pub status: Status,
    /// First day on which the patient sees it; `None` = not delayed.
    pub release_date: Option<Date>,
    /// Code of 1.2.246.537.5.40202.201901; `None` = no code.
    pub minor_code: Option<String>,
    /// Labels.
    pub labels: Vec<String>,
    /// A stored attribute could not be read: only own use opens it.
    pub unreadable: bool,
}

/// Whether the patient was informed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Informed {
    /// Not informed.
    #[default]
    None,
    /// Informed.
    Given {
        /// Date of informing.
        since: Date,
    },
}

/// Disclosure consent of one sector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Consent {
    /// Never given.
    #[default]
    None,
    /// In force.
    Active {
        /// Date of consent.
        since: Date,
    },
    /// Withdrawn.
    Withdrawn {
        /// Date of withdrawal.
        since: Date,
    },
}

/// What a denial is about (05 §5). Exactly the fields its kind compares.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum DenialTarget {
    /// Everything.
    All,
    /// One controller.
    Provider {
        /// OID.
        controller: String,
    },
    /// One register of a controller, or one specifier of it.
    Register {
        /// OID.
        controller: String,
        /// Register code.
        register: String,
        /// Only this specifier; `None` = the whole register.
        specifier: Option<Specifier>,
    },
    /// A service unit and everything below it.
    Unit {
        /// OID.
        unit: String,
    },
    /// One ward episode.
    Episode {
        /// OID.
        episode: String,
    },
    /// One service event.
    ServiceEvent {
        /// OID.
        service_event: String,
    },
}

/// Life of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialStatus {
    /// Bites from `valid_from` on.
    Active,
    /// Ended by the patient.
    Ended,
    /// Never meant.
    EnteredInError,
}

/// A denial (kielto). Who set and recorded it stays in the declaration store: the decision does not need it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// Declaration id.
    pub id: String,
    /// What it is about.
    pub target: DenialTarget,
    /// Whether the patient allows emergency use; `false` = absolute.
    pub emergency_allowed: bool,
    /// Only data from this day on.
    pub data_from: Option<Date>,
    /// Only data up to this day.
    pub data_to: Option<Date>,
    /// First day of effect.
    pub valid_from: Date,
    /// Day it was set.
    pub set_on: Date,
    /// Life.
    pub status: DenialStatus,
}

/// Patient-specific or for everybody (N: 1.2.246.537.6.12.2002.362).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum AuthorisationType {
    /// 1: one patient.
    Patient {
        /// Patient id under which it was recorded; it keeps covering units of that id after a merge (06 §9).
        recorded_under: PatientId,
    },
    /// 2: every patient.
    Population,
}

/// A register, with its specifier where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterEntry {
    /// Register code.
    pub register: String,
    /// Register specifier.
    pub specifier: Option<Specifier>,
}

/// Civil dates, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateRange {
    /// First day.
    pub from: Date,
    /// Last day.
    pub to: Date,
}

impl DateRange {
    /// Whether `date` lies within.
    pub fn contains(&self, date: Date) -> bool {
        (self.from..=self.to).contains(&date)
    }
}

/// Authorisation of an outsourced service (ostopalvelun valtuutus).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorisation {
    /// Declaration id, OID.
    pub id: String,
    /// Whom it is for.
    pub scope: AuthorisationType,
    /// Controller that produces the service.
    pub producer: String,
    /// Controller that organises it.
    pub organiser: String,
    /// Registers of the organiser that the producer may search.
    pub search: Vec<RegisterEntry>,
    /// Registers of the organiser into which the producer may store.
    pub storage: Vec<RegisterEntry>,
    /// Days on which it may be used.
    pub valid: DateRange,
    /// Covers documents of every date and service event.
    pub all_documents: bool,
    /// Covers documents of these days.
    pub dates: Option<DateRange>,
    /// Covers documents of these service events.
    pub service_events: Vec<String>,
}

/// A service event known from the patient administration (06 §6).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownEvent {
    /// Controller whose event it is.
    pub controller: String,
    /// First day; `None` = the period is unknown.
    pub start: Option<Date>,
    /// Last day; `None` = still open.
    pub end: Option<Date>,
}

/// How sure it is that the declarations are those of now (E6; 05 §14, §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "source")]
pub enum Freshness {
    /// Central's store: when this node last confirmed the store version. The node that holds the store gives `now`.
    Store {
        /// Instant of the last confirmation.
        confirmed: Timestamp,
    },
    /// A verified consent snapshot of `idr-site`.
    Snapshot {
        /// End of its use.
        expires: Timestamp,
    },
    /// No snapshot, or the patient is not in it.
    Missing,
    /// The snapshot, or the store, could not be read or verified.
    Unverifiable,
    /// The clock went back, or is beyond its limit.
    ClockUnsafe,
}

impl Freshness {
    /// Why the declarations cannot be relied on at `now`, if they cannot.
    pub fn stale(&self, policy: &FreshnessPolicy, now: Timestamp) -> Option<&'static str> {
        match *self {
            Self::Store { confirmed } if now > later(confirmed, policy.confirm_seconds) => Some("store version unconfirmed for too long"),
            Self::Store { confirmed } if confirmed > later(now, policy.confirm_seconds) => Some("store version confirmed in the future"),
            Self::Snapshot { expires } if now >= expires => Some("consent snapshot expired"),
            Self::Store { .. } | Self::Snapshot { .. } => None,
            Self::Missing => Some("patient not in a consent snapshot"),
            Self::Unverifiable => Some("declarations could not be read or verified"),
            Self::ClockUnsafe => Some("clock is not safe"),
        }
    }
}

/// What is known of one patient: declarations, identifiers, service events. `Debug` shows no person.
///
/// For linked patients (06 §6, A24) `denials` is the union of the set's; consents are the patient's own.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatientState {
    /// Every identifier of the patient, the primary one first; aliases of merges after it.
    pub ids: Vec<PatientId>,
    /// Informing.
    pub informed: Informed,
    /// Disclosure consent by sector; a sector that is absent has none.
    pub consents: BTreeMap<Sector, Consent>,
    /// Denials, whatever their life.
    pub denials: Vec<Denial>,
    /// Ids of the denials that are not the patient's own but of one that it is linked with: they bite, and are never told.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub linked_denials: BTreeSet<String>,
    /// Authorisations: the patient's and those for everybody.
    pub authorisations: Vec<Authorisation>,
    /// Service events by OID.
    pub service_events: BTreeMap<String, KnownEvent>,
    /// Birth date.
    pub birth_date: Option<Date>,
    /// Labels, e.g. `TURVAKIELTO`.
    pub labels: Vec<String>,
    /// A declaration did not parse, held an unknown code, or the store failed: only own use opens anything.
    pub unreadable: bool,
    /// How fresh all this is.
    pub freshness: Freshness,
    /// Version of the declaration store it was read at.
    pub store_version: u64,
}

impl PatientState {
    /// A patient of whom nothing is recorded.
    pub fn new(patient: PatientId, freshness: Freshness, store_version: u64) -> Self {
        Self { ids: vec![patient], ..Self::nobody(freshness, store_version) }
    }

    /// The state for a request that concerns no single patient.
    pub fn nobody(freshness: Freshness, store_version: u64) -> Self {
        Self {
            ids: Vec::new(),
            informed: Informed::None,
            consents: BTreeMap::new(),
            denials: Vec::new(),
            linked_denials: BTreeSet::new(),
            authorisations: Vec::new(),
            service_events: BTreeMap::new(),
            birth_date: None,
            labels: Vec::new(),
            unreadable: false,
            freshness,
            store_version,
        }
    }

    /// Whether `id` is one of this patient's identifiers.
    pub fn is_of(&self, id: &PatientId) -> bool {
        self.ids.contains(id)
    }

    /// Whether two identifiers name one person, aliases resolved (06 §7.1).
    pub fn same_patient(&self, a: &PatientId, b: &PatientId) -> bool {
        a == b || self.is_of(a) && self.is_of(b)
    }

    /// What a trace says of a denial: of another person's, that there is one.
    pub(super) fn told(&self, denial: &Denial) -> String {
        match self.linked_denials.contains(&denial.id) {
            true => "a denial of the link set".to_owned(),
            false => format!("denial {} of {}", denial.id, denial.set_on),
        }
    }

    /// Consent of a sector.
    pub fn consent(&self, sector: Sector) -> Consent {
        match sector {
            Sector::Unknown => Consent::None,
            sector => self.consents.get(&sector).copied().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for PatientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatientState")
            .field("denials", &self.denials.len())
            .field("authorisations", &self.authorisations.len())
            .field("unreadable", &self.unreadable)
            .field("freshness", &self.freshness)
            .field("store_version", &self.store_version)
            .finish_non_exhaustive()
    }
}

//! `access.toml`: what of access is data (profile 05).

use super::subject::{Kind, Purpose};
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The shipped base set.
const SHIPPED: &str = include_str!("../../../../configs/rules/base/access.toml");

/// What is asked for (05 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Find metadata.
    Search,
    /// Content or rendition.
    Retrieve,
    /// New objects, manifests, entries.
    Store,
    /// ITI-57, 62, 86, 92, RAD-66.
    Correct,
    /// Metadata and receipts of own access units.
    Reconcile,
    /// Light query: disclosure state.
    State,
    /// Light query: service events.
    Events,
    /// Read declarations.
    DeclRead,
    /// Write declarations.
    DeclWrite,
    /// Read logs.
    AuditRead,
    /// Trace of a decision.
    Explain,
    /// Queues, quarantine, status.
    Ops,
    /// Merge, link, split.
    Identity,
}

impl Operation {
    /// Every operation, in the order of 05 §3.
    pub const ALL: [Self; 13] = [
        Self::Search,
        Self::Retrieve,
        Self::Store,
        Self::Correct,
        Self::Reconcile,
        Self::State,
        Self::Events,
        Self::DeclRead,
        Self::DeclWrite,
        Self::AuditRead,
        Self::Explain,
        Self::Ops,
        Self::Identity,
    ];

    /// Name in the profile and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Retrieve => "retrieve",
            Self::Store => "store",
            Self::Correct => "correct",
            Self::Reconcile => "reconcile",
            Self::State => "state",
            Self::Events => "events",
            Self::DeclRead => "decl_read",
            Self::DeclWrite => "decl_write",
            Self::AuditRead => "audit_read",
            Self::Explain => "explain",
            Self::Ops => "ops",
            Self::Identity => "identity",
        }
    }

    /// Operations that exist only for an access unit.
    pub fn needs_unit(self) -> bool {
        matches!(self, Self::Search | Self::Retrieve | Self::Store | Self::Correct | Self::Reconcile)
    }

    /// Operations that may be decided for an access unit; light queries count units too (05 §12).
    pub fn takes_unit(self) -> bool {
        self.needs_unit() || matches!(self, Self::State | Self::Events)
    }

    /// Reads of a patient's data by a professional: they need a basis of care (G5).
    pub(super) fn needs_care_basis(self) -> bool {
        matches!(self, Self::Search | Self::Retrieve | Self::State | Self::Events)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Permits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitPolicy {
    /// Longest life of a permit, seconds, 1–300.
    pub seconds: u32,
}

/// How a claimed care relationship is checked (05 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CareVerification {
    /// The service event is an OID of the requester's controller.
    Format,
    /// It is also known for this patient and controller.
    Known,
}

/// Evidence of a care relationship.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarePolicy {
    /// How it is checked.
    pub verify: CareVerification,
}

/// Registers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterPolicy {
    /// Register codes whose requesters name a specifier (G4).
    pub specifier_required: BTreeSet<String>,
}

/// Break-glass (05 §7).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmergencyPolicy {
    /// E10 runs before E9.
    pub requires_informing: bool,
    /// E11 runs before E9.
    pub requires_consent: bool,
    /// Shortest text, characters.
    pub text_min: usize,
    /// Longest text, characters.
    pub text_max: usize,
    /// Due time of the privacy officers' follow-up task, hours.
    pub follow_up_hours: u32,
    /// More in 24 h by one user raise an alarm.
    pub alarm_per_user_per_day: u32,
}

/// What an unknown attribute of a unit means to a denial that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownAttribute {
    /// The denial hits (fail closed).
    Hit,
    /// It does not.
    Miss,
}

/// Denials (05 §5).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenialPolicy {
    /// Denials set before this day do not bite inside a county.
    pub legacy_cutoff: Date,
    /// Units without the attribute that a denial names.
    pub unknown_attribute: UnknownAttribute,
    /// Days before and after a service event's known period that still count to it.
    pub event_margin_days: u16,
}

/// Outsourced services (05 §6).
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsourcedPolicy {
    /// Denials bite the producer under an authorisation too.
    pub denial_bites: bool,
    /// Longest use of a light-query answer by a client, seconds.
    pub client_cache_seconds: u32,
}

/// The patient's own view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CitizenPolicy {
    /// Youngest age, full years; 0 = any.
    pub min_age: u8,
}

/// A guardian's view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardianPolicy {
    /// Age at which it ends, full years.
    pub adult_age: u8,
    /// Minor codes that are released.
    pub minor_codes: BTreeSet<String>,
    /// Representation codes that make a guardian.
    pub representation_codes: BTreeSet<String>,
}

/// Holders of an adult's mandate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepresentativePolicy {
    /// Must be `false`: the profile has no rule that permits them yet.
    pub enabled: bool,
}

/// Decisions of `idr-site` without central.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfflinePolicy {
    /// Emergency access may go on with an expired snapshot.
    pub emergency_after_expiry: bool,
}

/// Freshness at central.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshnessPolicy {
    /// Longest time without a confirmed store version, seconds.
    pub confirm_seconds: u32,
}

/// Labels with a meaning here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPolicy {
    /// Guardians and exports are not told where the patient was treated.
    pub location_withheld: String,
}

/// A controller of which something is known.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerRow {
    /// OID.
    pub id: String,
    /// Whether it is a county (hyvinvointialue).
    pub county: bool,
}

/// The access rules in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Kind → purpose → operations (05 §3); what is absent is refused.
    pub matrix: BTreeMap<Kind, BTreeMap<Purpose, BTreeSet<Operation>>>,
    /// Permits.
    pub permit: PermitPolicy,
    /// Evidence of care.
    pub care: CarePolicy,
    /// Registers.
    pub register: RegisterPolicy,
    /// Break-glass.
    pub emergency: EmergencyPolicy,
    /// Denials.
    pub denial: DenialPolicy,
    /// Outsourced services.
    pub outsourced: OutsourcedPolicy,
    /// The patient's view.
    pub citizen: CitizenPolicy,
    /// A guardian's view.
    pub guardian: GuardianPolicy,
    /// Adult mandates.
    pub representative: RepresentativePolicy,
    /// Decisions of the site.
    pub offline: OfflinePolicy,
    /// Freshness at central.
    pub freshness: FreshnessPolicy,
    /// Labels.
    pub label: LabelPolicy,
    /// Controllers of which something is known; none by default.
    #[serde(default)]
    pub controller: Vec<ControllerRow>,
    /// No file could be read: E6 omits everything but own use.
    #[serde(skip)]
    pub(super) unreadable: bool,
}

/// Why an `access.toml` is not taken; the running policy stays in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, a key unknown or missing, a value of another type.
    #[error("access.toml: {0}")]
    Toml(#[from] toml::de::Error),
    /// A number outside its range.
    #[error("access.toml: {key} is {value}, allowed is {allowed}")]
    Range {
        /// Key in the file.
        key: &'static str,
        /// Value in the file.
        value: u64,
        /// Range.
        allowed: &'static str,
    },
    /// The matrix gives a kind what the profile fixes it never has (05 §3).
    #[error("access.toml: matrix gives {kind:?} the operation {operation}, which no policy may give")]
    Fixed {
        /// Kind of the row.
        kind: Kind,
        /// Operation.
        operation: Operation,
    },
    /// Keys over the file are no table, or hold what TOML has no value for.
    #[error("access.toml: the keys over it are no table")]
    Patch,
    /// `representative.enabled = true`.
    #[error("access.toml: representative.enabled must be false: no rule permits an adult's representative yet")]
    Representative,
}

impl Policy {
    /// Reads a complete file.
    ///
    /// # Errors
    /// [`PolicyError`] names the key.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::layered(&[text])
    }

    /// Reads files of one inheritance chain, the base first (01 §11): a later table adds to and replaces keys of an
    /// earlier one, an array replaces.
    ///
    /// # Errors
    /// [`PolicyError`] names the key.
    pub fn layered(files: &[&str]) -> Result<Self, PolicyError> {
        Self::of(merged(files)?)
    }

    /// As [`Self::layered`], with the keys of `patch` over them all: the same keys, as JSON.
    ///
    /// # Errors
    /// [`PolicyError`] names the key.
    pub fn patched(files: &[&str], patch: &serde_json::Value) -> Result<Self, PolicyError> {
        let mut table = merged(files)?;
        merge(&mut table, serde_json::from_value(patch.clone()).map_err(|_| PolicyError::Patch)?);
        Self::of(table)
    }

    fn of(table: toml::Table) -> Result<Self, PolicyError> {
        let policy: Self = table.try_into()?;
        policy.checked()
    }

    /// The shipped base set.
    pub fn shipped() -> Self {
        Self::parse(SHIPPED).expect("the shipped access.toml is read by a test")
    }

    /// What stands in force where no file can be read: the shipped rules, and nothing but own use (05 §4.2).
    pub fn unreadable() -> Self {
        Self { unreadable: true, ..Self::shipped() }
    }

    /// Whether the matrix has the operation (G2).
    pub fn allows(&self, kind: Kind, purpose: Purpose, operation: Operation) -> bool {
        self.matrix.get(&kind).and_then(|row| row.get(&purpose)).is_some_and(|operations| operations.contains(&operation))
    }

    /// Whether the controller is listed as a county.
    pub fn is_county(&self, controller: &str) -> bool {
        self.controller.iter().any(|row| row.county && row.id == controller)
    }

    fn checked(self) -> Result<Self, PolicyError> {
        let range = |key, value: u64, allowed, holds: bool| if holds { Ok(()) } else { Err(PolicyError::Range { key, value, allowed }) };
        let seconds = u64::from(self.permit.seconds);
        range("permit.seconds", seconds, "1–300", (1..=300).contains(&seconds))?;
        let (min, max) = (self.emergency.text_min as u64, self.emergency.text_max as u64);
        range("emergency.text_min", min, "1–emergency.text_max", (1..=max).contains(&min))?;
        range("emergency.text_max", max, "≤ 500", max <= 500)?;
        let confirm = u64::from(self.freshness.confirm_seconds);
        range("freshness.confirm_seconds", confirm, "1–5", (1..=5).contains(&confirm))?;
        let cache = u64::from(self.outsourced.client_cache_seconds);
        range("outsourced.client_cache_seconds", cache, "≤ 600", cache <= 600)?;
        if self.representative.enabled {
            return Err(PolicyError::Representative);
        }
        for (kind, row) in &self.matrix {
            for operation in row.values().flatten() {
                if is_fixed_out(*kind, *operation) {
                    return Err(PolicyError::Fixed { kind: *kind, operation: *operation });
                }
            }
        }
        Ok(self)
    }
}

/// Administrators have no clinical content and no break-glass, a machine reads no content (05 §3: P, fixed).
fn is_fixed_out(kind: Kind, operation: Operation) -> bool {
    match kind {
        Kind::Registrar | Kind::PrivacyOfficer | Kind::Operator | Kind::MpiAdministrator => operation.takes_unit(),
        Kind::Technical => matches!(operation, Operation::Search | Operation::Retrieve | Operation::State | Operation::Events),
        Kind::Representative => true,
        Kind::Professional | Kind::Citizen | Kind::Guardian => false,
    }
}

/// Tables of one inheritance chain as one.
pub(super) fn merged(files: &[&str]) -> Result<toml::Table, PolicyError> {
    let mut merged = toml::Table::new();
    for file in files {
        merge(&mut merged, file.parse()?);
    }
    Ok(merged)
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

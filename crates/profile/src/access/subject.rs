//! Who asks: the claims of a verified assertion (profile 04 §4).

use crate::identifier::Specifier;
use idr_ihe::metadata::{Code, PatientId};
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// Subject kind (profile 04 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Health care professional.
    Professional,
    /// Technical user: `idr-site`, archives.
    Technical,
    /// The patient.
    Citizen,
    /// Guardian of a minor.
    Guardian,
    /// Holder of an adult's mandate; exists and is off (05 §3).
    Representative,
    /// Recorder of declarations.
    Registrar,
    /// Privacy officer.
    PrivacyOfficer,
    /// Operator of the service.
    Operator,
    /// Administrator of patient identities.
    MpiAdministrator,
}

/// Purpose of use (profile 04 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Treatment.
    Normal,
    /// Emergency treatment (break-glass).
    Emergency,
    /// Automatic transfer by a technical user.
    Automatic,
    /// The patient's or a guardian's own view.
    PatientView,
    /// Recording declarations.
    ConsentManagement,
    /// Administration without clinical content.
    Administration,
}

/// Asserted right to act for another person (04 §4 `representation*`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Representation {
    /// `GUARD` or `MANDATE`.
    pub code: String,
    /// Register that was asked.
    pub source: String,
    /// When it was asked.
    pub checked: Timestamp,
}

/// The claims of one assertion. OIDs stand without `urn:oid:`. `Debug` shows no person.
///
/// Absent attributes are `None`; the attributes a class requires (04 §4) are checked before a [`Subject`] is made, and
/// those the decision needs again by [`super::decide`].
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Kind of subject, from the role code.
    pub kind: Kind,
    /// Purpose of use, as the profile names it.
    pub purpose: Purpose,
    /// Purpose of use, as asserted.
    pub purpose_code: Code,
    /// `NameID` value: a Terhikki number, a hetu, the OID of a technical user, a staff id.
    pub name_id: String,
    /// `NameID/@NameQualifier`.
    pub name_qualifier: String,
    /// `subject_name`.
    pub name: String,
    /// `organisation`, display name.
    pub organisation: Option<String>,
    /// `organisation_id`, OID.
    pub organisation_id: String,
    /// `role`.
    pub role: Code,
    /// `unit`, OID.
    pub unit: Option<String>,
    /// `controller`, OID of node 19.
    pub controller: Option<String>,
    /// `register`, code of 1.2.246.537.5.40150.
    pub register: Option<String>,
    /// `register_specifier`.
    pub specifier: Option<Specifier>,
    /// `patient`, canonical.
    pub patient: Option<PatientId>,
    /// `provider_identifier`, extension.
    pub provider_identifier: Option<String>,
    /// `service_event`, OID.
    pub service_event: Option<String>,
    /// `care_reason`.
    pub care_reason: Option<Code>,
    /// `emergency_reason`.
    pub emergency_reason: Option<Code>,
    /// `emergency_text`.
    pub emergency_text: Option<String>,
    /// `outsourced_authorisation`, OID.
    pub outsourced_authorisation: Option<String>,
    /// `software`, OID of node 12.
    pub software: String,
    /// `site`.
    pub site: Option<String>,
    /// `representation`, `representation_source`, `representation_checked`.
    pub representation: Option<Representation>,
    /// `home_community`, OID.
    pub home_community: Option<String>,
    /// `Assertion/@ID` or `jti`.
    pub assertion_id: String,
    /// `Issuer` or `iss`.
    pub issuer: String,
    /// OID of the issuer's organisation, from the trust file.
    pub issuer_organisation: String,
    /// SHA-256 of the assertion as received, 64 lower-case hex digits.
    pub assertion_sha256: String,
    /// End of validity, without skew.
    pub not_on_or_after: Timestamp,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("kind", &self.kind)
            .field("purpose", &self.purpose)
            .field("organisation_id", &self.organisation_id)
            .field("controller", &self.controller)
            .field("register", &self.register)
            .field("assertion_id", &self.assertion_id)
            .finish_non_exhaustive()
    }
}

/// Times of `xua.toml` that the decision needs (04 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// `clock_skew_seconds`, 0–120.
    pub clock_skew_seconds: u32,
    /// `representation_max_age_seconds`, 60–86 400.
    pub representation_max_age_seconds: u32,
    /// `long_operation_max_seconds`, 60–14 400.
    pub long_operation_max_seconds: u32,
}

impl Default for Limits {
    /// The defaults of 04 §8: 60, 3600, 3600.
    fn default() -> Self {
        Self { clock_skew_seconds: 60, representation_max_age_seconds: 3600, long_operation_max_seconds: 3600 }
    }
}

/// Somebody whose assertion was verified. Made only inside this crate, after verification: that is gate G1 (05 §4.1).
#[derive(Debug, Clone)]
pub struct Subject {
    claims: Claims,
    limits: Limits,
}

impl Subject {
    /// Called by [`crate::xua`] once an assertion passed V1–V17, and by [`super::explain()`], which gives no permit away.
    pub(crate) fn verified(claims: Claims, limits: Limits) -> Self {
        Self { claims, limits }
    }

    /// What was asserted.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// First instant at which the assertion starts nothing any more: end of validity and skew.
    pub fn usable_until(&self) -> Timestamp {
        later(self.claims.not_on_or_after, self.limits.clock_skew_seconds)
    }

    /// Times that its decisions follow.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// `at` + `seconds`, at most the last representable instant.
pub(super) fn later(at: Timestamp, seconds: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}

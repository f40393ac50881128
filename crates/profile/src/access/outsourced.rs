//! Outsourced services: what an authorisation covers (profile 05 §6, §4.2 Store).

use super::state::{AccessUnit, Authorisation, AuthorisationType, PatientState, RegisterEntry};
use super::subject::Claims;
use crate::identifier::Specifier;
use jiff::civil::Date;

/// For which of its two lists an authorisation is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// `search`.
    Search,
    /// `storage`.
    Storage,
}

/// The authorisation that covers the unit for this requester; the one that the assertion names, if it does.
pub(super) fn covering<'a>(
    claims: &Claims,
    unit: &AccessUnit,
    state: &'a PatientState,
    usage: Use,
    today: Date,
) -> Option<&'a Authorisation> {
    state
        .authorisations
        .iter()
        .filter(|authorisation| covers(authorisation, claims, unit, state, usage, today))
        .min_by_key(|authorisation| claims.outsourced_authorisation.as_ref() != Some(&authorisation.id))
}

fn covers(authorisation: &Authorisation, claims: &Claims, unit: &AccessUnit, state: &PatientState, usage: Use, today: Date) -> bool {
    let is_units_register = |entry: &RegisterEntry| entry.register == unit.register && entry.specifier == unit.specifier;
    let register_fits = match usage {
        Use::Search => authorisation.search.iter().any(is_units_register),
        // One and only one entry says where it goes.
        Use::Storage => authorisation.storage.iter().filter(|entry| is_units_register(entry)).count() == 1,
    };
    let patient_fits = match (&authorisation.scope, usage) {
        (AuthorisationType::Population, _) => true,
        // After a merge it keeps covering only what stands under its own id (06 §9).
        (AuthorisationType::Patient { recorded_under }, Use::Search) => {
            unit.recorded_under.as_ref().unwrap_or(&unit.patient) == recorded_under
        }
        (AuthorisationType::Patient { recorded_under }, Use::Storage) => state.same_patient(recorded_under, &unit.patient),
    };
    let document_fits = authorisation.all_documents
        || authorisation.dates.is_some_and(|range| unit.date.is_some_and(|date| range.contains(date)))
        || unit.service_event.as_ref().is_some_and(|event| authorisation.service_events.contains(event));
    claims.controller.as_ref() == Some(&authorisation.producer)
        && unit.controller == authorisation.organiser
        && register_fits
        && patient_fits
        && document_fits
        && authorisation.valid.contains(today)
}

/// Whose register a submission without slots belongs to (STOW-RS, C-STORE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUnder {
    /// Controller, OID.
    pub controller: String,
    /// Register code.
    pub register: String,
    /// Register specifier.
    pub specifier: Option<Specifier>,
    /// Service event, OID.
    pub service_event: Option<String>,
}

/// Controller, register, specifier and service event of a submission that carries no slots (05 §4.2): those of the
/// assertion, or, if it names an authorisation, the organiser and its storage entry.
///
/// The storage entry is the one with the assertion's register and specifier, else the only one. `None`: the assertion has
/// no controller or register, the authorisation is unknown, or several entries might be meant; the store is refused (S3).
/// Whether the authorisation is in force and covers is [`super::decide`]'s to say.
pub fn stored_under(claims: &Claims, state: &PatientState) -> Option<StoredUnder> {
    let own = RegisterEntry { register: claims.register.clone()?, specifier: claims.specifier.clone() };
    let (controller, entry) = match &claims.outsourced_authorisation {
        None => (claims.controller.clone()?, own),
        Some(id) => {
            let authorisation = state.authorisations.iter().find(|authorisation| authorisation.id == *id)?;
            let entry = match authorisation.storage.as_slice() {
                [only] => only,
                several => several.iter().find(|entry| **entry == own)?,
            };
            (authorisation.organiser.clone(), entry.clone())
        }
    };
    Some(StoredUnder { controller, register: entry.register, specifier: entry.specifier, service_event: claims.service_event.clone() })
}

//! When a denial hits (profile 05 §5).

use super::policy::{DenialPolicy, Policy, UnknownAttribute};
use super::state::{AccessUnit, Denial, DenialStatus, DenialTarget, KnownEvent, PatientState};
use crate::identifier::{is_same_or_below, organisation::same_organisation};
use jiff::ToSpan;
use jiff::civil::Date;

/// Denials that hit one unit.
#[derive(Debug, Default)]
pub(super) struct Hits<'a> {
    /// Ids of those that allow no emergency.
    pub absolute: Vec<&'a Denial>,
    /// Ids of those that allow emergency.
    pub emergency_allowed: Vec<&'a Denial>,
}

/// Every denial that hits, whatever stands first: the strictest decides.
pub(super) fn hits<'a>(
    state: &'a PatientState,
    requester_controller: Option<&str>,
    unit: &AccessUnit,
    policy: &Policy,
    today: Date,
) -> Hits<'a> {
    let mut hits = Hits::default();
    for denial in &state.denials {
        if is_considered(denial, requester_controller, unit, policy, today) && is_hit(denial, state, unit, &policy.denial) {
            if denial.emergency_allowed { &mut hits.emergency_allowed } else { &mut hits.absolute }.push(denial);
        }
    }
    hits
}

fn is_considered(denial: &Denial, requester_controller: Option<&str>, unit: &AccessUnit, policy: &Policy, today: Date) -> bool {
    let in_data_period =
        unit.date.is_none_or(|date| denial.data_from.is_none_or(|from| from <= date) && denial.data_to.is_none_or(|to| date <= to));
    let legacy_inside_county = denial.set_on < policy.denial.legacy_cutoff
        && requester_controller == Some(unit.controller.as_str())
        && policy.is_county(&unit.controller);
    denial.status == DenialStatus::Active && denial.valid_from <= today && in_data_period && !legacy_inside_county
}

fn is_hit(denial: &Denial, state: &PatientState, unit: &AccessUnit, policy: &DenialPolicy) -> bool {
    // An OID that tells no organisation may be the controller's own.
    let of_units_controller = |oid: &str| same_organisation(oid, &unit.controller).unwrap_or(true);
    let unknown_hits = policy.unknown_attribute == UnknownAttribute::Hit;
    match &denial.target {
        DenialTarget::All => true,
        DenialTarget::Provider { controller } => *controller == unit.controller,
        DenialTarget::Register { controller, register, specifier } => {
            *controller == unit.controller && *register == unit.register && (specifier.is_none() || *specifier == unit.specifier)
        }
        DenialTarget::Unit { unit: target } => match &unit.unit {
            Some(service_unit) => is_same_or_below(service_unit, target),
            None => unknown_hits && of_units_controller(target),
        },
        DenialTarget::Episode { episode } => unit.episode.as_ref() == Some(episode),
        DenialTarget::ServiceEvent { service_event } => match &unit.service_event {
            Some(event) => event == service_event,
            None => {
                unknown_hits
                    && of_units_controller(service_event)
                    && may_be_within(unit.date, state.service_events.get(service_event), policy)
            }
        },
    }
}

/// Whether the date may lie in the event's period, give or take the margin. What is not known may be so.
fn may_be_within(date: Option<Date>, event: Option<&KnownEvent>, policy: &DenialPolicy) -> bool {
    let (Some(date), Some(KnownEvent { start: Some(start), end, .. })) = (date, event) else { return true };
    let margin = i64::from(policy.event_margin_days).days();
    let not_before = start.checked_sub(margin).is_ok_and(|first| date < first);
    let not_after = end.is_some_and(|end| end.checked_add(margin).is_ok_and(|last| date > last));
    !not_before && !not_after
}

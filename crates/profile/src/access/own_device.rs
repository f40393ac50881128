//! A device of the site's own, which asks its gateway without an assertion (profile 05 §9, local DIMSE of `idr-site`).
//!
//! It is known by its inbound row, not by a user: no gate can be passed for it, so no rule that opens anything but own use is
//! ever reached. What remains of §4.2 is E2 (what is not in force is omitted) and E5 (own use is permitted); everything else is
//! omitted. Whether such devices may ask at all is the operator's decision, row by row.

use super::decision::{Basis, Decision, Permit, Rule};
use super::gate::{Candidate, Gated};
use super::policy::{Operation, Policy};
use super::state::{AccessUnit, Status};
use super::subject::{Kind, later};
use crate::identifier::Specifier;
use jiff::Timestamp;

/// Whose register a device belongs to: the one in which its own objects stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDevice {
    /// Name of its inbound row: stands in the permit where an assertion's id would.
    pub row: String,
    /// Controller, OID of node 19.
    pub controller: String,
    /// Register code.
    pub register: String,
    /// Register specifier.
    pub specifier: Option<Specifier>,
}

/// Decides whether a device may `search` or `retrieve` a unit: E2, then E5, else [`Rule::E6`], as for whatever nothing can be
/// relied on for. Other operations are omitted: a device has none.
pub fn decide_own(device: &OwnDevice, operation: Operation, unit: &AccessUnit, policy: &Policy, now: Timestamp) -> Decision {
    if matches!(unit.status, Status::Invalidated | Status::Rejected | Status::Erased) {
        return Decision::Omit(Rule::E2);
    }
    let own = !device.controller.is_empty()
        && device.controller == unit.controller
        && device.register == unit.register
        && device.specifier == unit.specifier;
    if !own || !matches!(operation, Operation::Search | Operation::Retrieve) {
        return Decision::Omit(Rule::E6);
    }
    let expires = later(now, policy.permit.seconds);
    Decision::Permit(Permit {
        basis: Basis::Own,
        rule: Rule::E5,
        unit: Some(unit.id.clone()),
        operation,
        kind: Kind::Technical,
        assertion_id: device.row.clone(),
        store_version: 0,
        expires,
        operation_ends: expires,
        withholds_location: false,
    })
}

/// Decides every candidate for a device, as [`super::gate()`] does for a subject.
pub fn gate_own<T>(device: &OwnDevice, operation: Operation, candidates: Vec<Candidate<T>>, policy: &Policy, now: Timestamp) -> Gated<T> {
    Gated::of(candidates, 0, |unit| decide_own(device, operation, unit, policy, now))
}

#[cfg(test)]
mod tests {
    use super::super::state::{Sector, UnitId};
    use super::*;
    use idr_ihe::metadata::PatientId;

    fn device() -> OwnDevice {
        OwnDevice { row: "pacs".to_owned(), controller: "1.2.246.10.90000011.19.0".to_owned(), register: "2".to_owned(), specifier: None }
    }

    fn unit() -> AccessUnit {
        AccessUnit {
            id: UnitId("1.2.3/CT1".to_owned()),
            patient: PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() },
            recorded_under: None,
            controller: device().controller,
            register: "2".to_owned(),
            specifier: None,
            unit: None,
            episode: None,
            service_event: None,
            date: None,
            sector: Sector::Unknown,
            status: Status::Active,
            release_date: None,
            minor_code: None,
            labels: Vec::new(),
            unreadable: false,
        }
    }

    fn now() -> Timestamp {
        "2026-01-15T06:00:00Z".parse().expect("valid")
    }

    fn decided(device: &OwnDevice, operation: Operation, unit: &AccessUnit) -> &'static str {
        decide_own(device, operation, unit, &Policy::shipped(), now()).rule_id()
    }

    #[test]
    fn only_own_use_is_permitted() {
        assert_eq!(decided(&device(), Operation::Search, &unit()), "E5");
        assert_eq!(decided(&device(), Operation::Retrieve, &unit()), "E5");
        let specifier = Specifier::from_slot("1.2.246.10.12345671", jiff::civil::date(2026, 1, 15)).expect("valid");
        for other in [
            AccessUnit { controller: "1.2.246.10.12345671.19.0".to_owned(), ..unit() },
            AccessUnit { register: "3".to_owned(), ..unit() },
            AccessUnit { specifier: Some(specifier), ..unit() },
        ] {
            assert_eq!(decided(&device(), Operation::Retrieve, &other), "E6");
        }
        let nobody = OwnDevice { controller: String::new(), ..device() };
        assert_eq!(decided(&nobody, Operation::Search, &AccessUnit { controller: String::new(), ..unit() }), "E6");
    }

    #[test]
    fn what_is_not_in_force_is_omitted_and_a_device_has_no_other_operations() {
        for status in [Status::Invalidated, Status::Rejected, Status::Erased] {
            assert_eq!(decided(&device(), Operation::Search, &AccessUnit { status, ..unit() }), "E2");
        }
        for operation in Operation::ALL {
            let expected = if matches!(operation, Operation::Search | Operation::Retrieve) { "E5" } else { "E6" };
            assert_eq!(decided(&device(), operation, &unit()), expected, "{operation}");
        }
    }

    #[test]
    fn only_what_is_permitted_is_disclosed() {
        let other = AccessUnit { register: "3".to_owned(), ..unit() };
        let candidates = vec![Candidate::new(unit(), "own"), Candidate::new(other, "another's")];
        let gated = gate_own(&device(), Operation::Search, candidates, &Policy::shipped(), now());
        assert_eq!(gated.disclosed.iter().map(|disclosed| *disclosed.payload()).collect::<Vec<_>>(), ["own"]);
        assert_eq!(gated.omitted.len(), 1);
        let permit = gated.disclosed[0].permit();
        assert!(permit.opens(&unit().id, Operation::Search, now()) && !permit.opens(&unit().id, Operation::Retrieve, now()));
        assert_eq!(permit.assertion_id(), "pacs");
    }
}

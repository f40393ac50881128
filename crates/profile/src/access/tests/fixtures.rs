//! The fixtures of profile 05 §11, by the names that its table uses.

use crate::access::*;
use crate::identifier::Specifier;
use idr_ihe::metadata::{Code, PatientId};
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};

/// County.
pub const A: &str = "1.2.246.10.90000011.19.0";
/// Private.
pub const B: &str = "1.2.246.10.90000038.19.0";
/// County.
pub const C: &str = "1.2.246.10.90000118.19.0";
/// Producer.
pub const P: &str = "1.2.246.10.90000046.19.0";
/// Employers.
pub const X: &str = "1.2.246.10.90000054";
/// Employers.
pub const Y: &str = "1.2.246.10.90000062";
const C_UNIT_1: &str = "1.2.246.10.90000118.10.1";
const C_UNIT_2: &str = "1.2.246.10.90000118.10.2";
const C_EPISODE: &str = "1.2.246.10.90000118.16.2025.1";

/// Noon in Helsinki on the fixture date.
pub fn now() -> Timestamp {
    "2025-06-15T09:00:00Z".parse().expect("instant")
}

pub const TODAY: Date = date(2025, 6, 15);

/// The shipped policy with the fixture's counties.
pub fn policy() -> Policy {
    let counties = format!("[[controller]]\nid = \"{A}\"\ncounty = true\n[[controller]]\nid = \"{C}\"\ncounty = true\n");
    Policy::layered(&[include_str!("../../../../../configs/rules/base/access.toml"), &counties]).expect("policy")
}

pub fn patient(number: u16) -> PatientId {
    let id = if number == 1 { "010190-900P" } else { "131052-930V" };
    PatientId { id: id.to_owned(), authority: "1.2.246.21".to_owned() }
}

pub fn specifier(oid: &str) -> Specifier {
    Specifier::from_slot(oid, TODAY).expect("employer")
}

fn code(code: &str) -> Code {
    Code { code: code.to_owned(), system: "2.25.1".to_owned(), display: String::new() }
}

fn event_of(controller: &str, number: u32) -> String {
    format!("{}.14.2025.{number}", controller.trim_end_matches(".19.0"))
}

/// `RA2`, `RB4X`, `RA2-care`, `TA`, `CZ`, `GU-rel` … with purpose `n e a v m d`.
pub fn claims(name: &str, purpose: &str) -> Claims {
    let (base, suffix) = name.split_once('-').map_or((name, ""), |(base, suffix)| (base, suffix));
    let (kind, register) = match base {
        "RA2" => (Kind::Professional, Some((A, "2", None))),
        "RA4X" => (Kind::Professional, Some((A, "4", Some(X)))),
        "RB3" => (Kind::Professional, Some((B, "3", None))),
        "RB4X" => (Kind::Professional, Some((B, "4", Some(X)))),
        "RB4Y" => (Kind::Professional, Some((B, "4", Some(Y)))),
        "RB4" => (Kind::Professional, Some((B, "4", None))),
        "RC2" => (Kind::Professional, Some((C, "2", None))),
        "RP3" => (Kind::Professional, Some((P, "3", None))),
        "TA" => (Kind::Technical, Some((A, "2", None))),
        "TP" => (Kind::Technical, Some((P, "3", None))),
        "CZ" => (Kind::Citizen, None),
        "GU" => (Kind::Guardian, None),
        "OP" => (Kind::Operator, None),
        "PO" => (Kind::PrivacyOfficer, None),
        "RG" => (Kind::Registrar, None),
        other => panic!("no requester {other}"),
    };
    let purpose = match purpose {
        "n" => Purpose::Normal,
        "e" => Purpose::Emergency,
        "a" => Purpose::Automatic,
        "v" => Purpose::PatientView,
        "m" => Purpose::ConsentManagement,
        "d" => Purpose::Administration,
        other => panic!("no purpose {other}"),
    };
    let controller = register.map(|(controller, _, _)| controller);
    let emergency = purpose == Purpose::Emergency && suffix != "reason";
    Claims {
        kind,
        purpose,
        purpose_code: code("P"),
        name_id: "n".to_owned(),
        name_qualifier: "q".to_owned(),
        name: "Testi".to_owned(),
        organisation: None,
        organisation_id: "1.2.246.10.90000011".to_owned(),
        role: code("R"),
        unit: None,
        controller: controller.map(str::to_owned),
        register: register.map(|(_, register, _)| register.to_owned()),
        specifier: register.and_then(|(_, _, oid)| oid).map(specifier),
        patient: Some(patient(if suffix == "other" { 9 } else { 1 })),
        provider_identifier: None,
        service_event: controller.filter(|_| kind == Kind::Professional && suffix != "care").map(|controller| event_of(controller, 100)),
        care_reason: None,
        emergency_reason: emergency.then(|| code("LIFE")),
        emergency_text: emergency.then(|| "tajuton potilas".to_owned()),
        outsourced_authorisation: None,
        software: "1.2.246.10.90000011.12.1".to_owned(),
        site: None,
        representation: (base == "GU" && suffix != "rel").then(|| Representation {
            code: "GUARD".to_owned(),
            source: "test register".to_owned(),
            checked: now() - SignedDuration::from_mins(5),
        }),
        home_community: None,
        assertion_id: "_0123456789abcdef".to_owned(),
        issuer: "urn:test".to_owned(),
        issuer_organisation: "1.2.246.10.90000011".to_owned(),
        assertion_sha256: "0".repeat(64),
        not_on_or_after: now() + SignedDuration::from_mins(4),
    }
}

pub fn subject(name: &str, purpose: &str) -> Subject {
    Subject::verified(claims(name, purpose), Limits::default())
}

/// `EA2`, `EC2W`, `EM3` …
pub fn unit(name: &str) -> AccessUnit {
    let base = AccessUnit {
        id: UnitId(format!("urn:unit:{name}")),
        patient: patient(1),
        recorded_under: None,
        controller: C.to_owned(),
        register: "2".to_owned(),
        specifier: None,
        unit: Some(C_UNIT_1.to_owned()),
        episode: None,
        service_event: Some(event_of(C, 1)),
        date: Some(date(2025, 2, 1)),
        sector: Sector::Health,
        status: Status::Active,
        release_date: None,
        minor_code: None,
        labels: Vec::new(),
        unreadable: false,
    };
    let of = |controller: &str, register: &str, employer: Option<&str>| AccessUnit {
        controller: controller.to_owned(),
        register: register.to_owned(),
        specifier: employer.map(specifier),
        unit: Some(format!("{}.10.1", controller.trim_end_matches(".19.0"))),
        service_event: Some(event_of(controller, 1)),
        date: Some(date(2025, 3, 1)),
        ..base.clone()
    };
    match name {
        "EA2" => of(A, "2", None),
        "EPA" => AccessUnit { unit: Some("1.2.246.10.90000046.10.1".to_owned()), service_event: Some(event_of(A, 8)), ..of(A, "2", None) },
        "EA4X" => of(A, "4", Some(X)),
        "EB3" => of(B, "3", None),
        "EB4X" => of(B, "4", Some(X)),
        "EB4Y" => of(B, "4", Some(Y)),
        "EC2" => base,
        "EC2W" => {
            AccessUnit { unit: Some(C_UNIT_2.to_owned()), episode: Some(C_EPISODE.to_owned()), service_event: Some(event_of(C, 2)), ..base }
        }
        "EC2U" => AccessUnit { unit: None, ..base },
        "EC2B" => AccessUnit { unit: Some(format!("{C_UNIT_1}.5")), ..base },
        "EC2T" => AccessUnit { unit: Some(format!("{C_UNIT_1}0")), ..base },
        "EC2O" => AccessUnit { date: Some(date(2020, 6, 1)), ..base },
        "EC2N" => AccessUnit { service_event: None, ..base },
        "EC2P" => AccessUnit { service_event: None, date: Some(date(2025, 3, 20)), ..base },
        "EC2S" => AccessUnit { status: Status::Superseded, ..base },
        "EC2I" => AccessUnit { status: Status::Invalidated, ..base },
        "EA2I" => AccessUnit { status: Status::Invalidated, ..of(A, "2", None) },
        "EC2D" => AccessUnit { release_date: Some(date(2025, 7, 1)), ..base },
        "EC2L" => AccessUnit { release_date: Some(TODAY), ..base },
        "EM1" | "EM2" | "EM3" | "EM4" => AccessUnit { minor_code: Some(name[2..].to_owned()), ..base },
        "EM-" => base,
        "ECS" => AccessUnit { sector: Sector::Social, ..base },
        "EX2" => AccessUnit { patient: patient(9), ..base },
        other => panic!("no unit {other}"),
    }
}

/// `P0` … `P4`; `–` is a patient of whom nothing matters.
pub fn state(name: &str) -> PatientState {
    let since = date(2024, 2, 1);
    let (informed, consent) = match name {
        "P0" | "–" => (Informed::None, Consent::None),
        "P1" => (Informed::Given { since }, Consent::None),
        "P2" => (Informed::Given { since }, Consent::Active { since }),
        "P3" => (Informed::Given { since }, Consent::Withdrawn { since }),
        "P4" => (Informed::None, Consent::Active { since }),
        other => panic!("no patient {other}"),
    };
    let mut state = PatientState::new(patient(1), Freshness::Store { confirmed: now() }, 812);
    state.informed = informed;
    state.consents.insert(Sector::Health, consent);
    state.birth_date = Some(date(1985, 6, 15));
    let day = Some(date(2025, 2, 1));
    state.service_events.insert(event_of(C, 1), KnownEvent { controller: C.to_owned(), start: day, end: day });
    state
}

/// `D1` … `D21`.
pub fn denial(name: &str) -> Denial {
    let provider = |controller: &str| DenialTarget::Provider { controller: controller.to_owned() };
    let service_unit = |unit: &str| DenialTarget::Unit { unit: unit.to_owned() };
    let event = |number| DenialTarget::ServiceEvent { service_event: event_of(C, number) };
    let episode = || DenialTarget::Episode { episode: C_EPISODE.to_owned() };
    let register = |controller: &str, register: &str, employer: Option<&str>| DenialTarget::Register {
        controller: controller.to_owned(),
        register: register.to_owned(),
        specifier: employer.map(specifier),
    };
    let of = |target, emergency_allowed| Denial {
        id: name.to_owned(),
        target,
        emergency_allowed,
        data_from: None,
        data_to: None,
        valid_from: date(2024, 5, 1),
        set_on: date(2024, 5, 1),
        status: DenialStatus::Active,
    };
    let set_in_2022 = |denial| Denial { set_on: date(2022, 5, 1), valid_from: date(2022, 5, 1), ..denial };
    match name {
        "D1" => of(DenialTarget::All, false),
        "D2" => of(DenialTarget::All, true),
        "D3" => of(provider(C), false),
        "D4" => of(provider(C), true),
        "D5" => of(register(C, "2", None), false),
        "D6" => of(register(B, "4", Some(X)), true),
        "D7" => of(service_unit(C_UNIT_1), false),
        "D8" => of(service_unit(C_UNIT_1), true),
        "D9" => of(episode(), false),
        "D10" => of(episode(), true),
        "D11" => of(event(1), false),
        "D12" => of(event(1), true),
        "D13" => set_in_2022(of(provider(A), false)),
        "D14" => of(provider(A), false),
        "D15" => Denial { status: DenialStatus::Ended, ..of(provider(C), false) },
        "D16" => Denial { valid_from: date(2026, 1, 1), ..of(provider(C), false) },
        "D17" => Denial { data_from: Some(date(2020, 1, 1)), data_to: Some(date(2020, 12, 31)), ..of(provider(C), false) },
        "D18" => of(service_unit(C_UNIT_2), false),
        "D19" => set_in_2022(of(provider(B), false)),
        "D20" => Denial { status: DenialStatus::EnteredInError, ..of(DenialTarget::All, false) },
        "D21" => of(event(9), false),
        other => panic!("no denial {other}"),
    }
}

/// `O1` … `O6`, P for A.
pub fn authorisation(name: &str) -> Authorisation {
    let register_2 = || vec![RegisterEntry { register: "2".to_owned(), specifier: None }];
    let base = Authorisation {
        id: name.to_owned(),
        scope: AuthorisationType::Patient { recorded_under: patient(1) },
        producer: P.to_owned(),
        organiser: A.to_owned(),
        search: register_2(),
        storage: Vec::new(),
        valid: DateRange { from: date(2025, 1, 1), to: date(2025, 12, 31) },
        all_documents: false,
        dates: None,
        service_events: Vec::new(),
    };
    match name {
        "O1" => Authorisation { storage: register_2(), all_documents: true, ..base },
        "O2" => Authorisation {
            storage: register_2(),
            all_documents: true,
            valid: DateRange { from: date(2025, 1, 1), to: date(2025, 5, 31) },
            ..base
        },
        "O3" => Authorisation { dates: Some(DateRange { from: date(2024, 1, 1), to: date(2024, 12, 31) }), ..base },
        "O4" => Authorisation { service_events: vec![event_of(A, 1)], ..base },
        "O5" => Authorisation { search: Vec::new(), storage: register_2(), all_documents: true, ..base },
        "O6" => Authorisation { scope: AuthorisationType::Population, all_documents: true, ..base },
        other => panic!("no authorisation {other}"),
    }
}

/// Adds what the column "declarations, context" names: denials, authorisations, age, snapshot.
pub fn apply(state: &mut PatientState, context: &str) {
    for item in context.split(' ').filter(|item| !item.is_empty() && *item != "–") {
        match item {
            "snap-expired" => state.freshness = Freshness::Snapshot { expires: now() - SignedDuration::from_secs(1) },
            "snap-missing" => state.freshness = Freshness::Missing,
            item if item.starts_with("age") => {
                let age: i16 = item[3..].parse().expect("age");
                state.birth_date = Some(date(2025 - age, 6, 15));
            }
            item if item.starts_with('D') => state.denials.push(denial(item)),
            item if item.starts_with('O') => state.authorisations.push(authorisation(item)),
            other => panic!("no context {other}"),
        }
    }
}

pub fn request(operation: Operation) -> Request {
    Request { operation, patient: Some(patient(1)) }
}

pub fn decided(requester: &str, purpose: &str, patient: &str, context: &str, unit_name: &str, operation: Operation) -> Decision {
    let mut state = state(patient);
    apply(&mut state, context);
    decide(&subject(requester, purpose), &request(operation), Some(&unit(unit_name)), &state, &policy(), now())
}

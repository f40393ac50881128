//! `access.toml`.

use crate::access::*;

const SHIPPED: &str = include_str!("../../../../../configs/rules/base/access.toml");

#[test]
fn the_shipped_file_holds_the_profiles_defaults() {
    let policy = Policy::shipped();
    assert_eq!((policy.permit.seconds, policy.freshness.confirm_seconds), (300, 5));
    assert_eq!((policy.emergency.text_min, policy.emergency.text_max, policy.emergency.follow_up_hours), (10, 500, 72));
    assert!(!policy.emergency.requires_informing && !policy.emergency.requires_consent);
    assert!(!policy.outsourced.denial_bites && !policy.offline.emergency_after_expiry && policy.controller.is_empty());
    assert_eq!((policy.care.verify, policy.denial.unknown_attribute), (CareVerification::Format, UnknownAttribute::Hit));
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    for (place, key) in [("[permit]", "second"), ("[matrix.operator]", "afternoon"), ("[denial]", "legacy")] {
        let text = SHIPPED.replacen(place, &format!("{place}\n{key} = 1"), 1);
        let error = Policy::parse(&text).expect_err(key).to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn values_outside_their_range_are_refused_by_name() {
    for (from, to, key) in [
        ("seconds = 300", "seconds = 301", "permit.seconds"),
        ("seconds = 300", "seconds = 0", "permit.seconds"),
        ("text_min = 10", "text_min = 501", "emergency.text_min"),
        ("confirm_seconds = 5", "confirm_seconds = 6", "freshness.confirm_seconds"),
        ("client_cache_seconds = 600", "client_cache_seconds = 601", "outsourced.client_cache_seconds"),
        ("enabled = false", "enabled = true", "representative.enabled"),
    ] {
        let error = Policy::parse(&SHIPPED.replacen(from, to, 1)).expect_err(key).to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn no_policy_gives_administrators_or_machines_clinical_content() {
    for (row, purpose) in [
        ("operator", "administration"),
        ("mpi_administrator", "administration"),
        ("privacy_officer", "administration"),
        ("registrar", "consent_management"),
        ("technical", "automatic"),
        ("representative", "patient_view"),
    ] {
        for operation in ["search", "retrieve"] {
            let layer = format!("[matrix.{row}]\n{purpose} = [\"{operation}\"]");
            let result = Policy::layered(&[SHIPPED, &layer]);
            assert!(matches!(result, Err(PolicyError::Fixed { .. })), "{row} {operation}: {result:?}");
        }
    }
}

#[test]
fn a_later_file_adds_and_replaces_keys() {
    let policy = Policy::layered(&[SHIPPED, "[permit]\nseconds = 60\n[[controller]]\nid = \"1.2.3\"\ncounty = true"]).expect("policy");
    assert_eq!(policy.permit.seconds, 60);
    assert!(policy.is_county("1.2.3") && !policy.is_county("1.2.4"));
    assert!(policy.allows(Kind::Operator, Purpose::Administration, Operation::Ops));
}

/// 05 §3, cell by cell.
#[test]
fn the_matrix_is_that_of_the_profile() {
    let Some(table) = crate::testing::profile_table("05_3_1.tsv") else { return };
    let kinds = [
        ("professional", Kind::Professional),
        ("technical", Kind::Technical),
        ("citizen", Kind::Citizen),
        ("guardian", Kind::Guardian),
        ("registrar", Kind::Registrar),
        ("privacy officer", Kind::PrivacyOfficer),
        ("operator", Kind::Operator),
        ("MPI administrator", Kind::MpiAdministrator),
    ];
    let purposes = [
        Purpose::Normal,
        Purpose::Emergency,
        Purpose::Automatic,
        Purpose::PatientView,
        Purpose::ConsentManagement,
        Purpose::Administration,
    ];
    let policy = Policy::shipped();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), kinds.len());
    for (row, (name, kind)) in rows.iter().zip(kinds) {
        assert_eq!(row[0], name);
        for (cell, purpose) in row[1..].iter().zip(purposes) {
            let allowed: Vec<&str> = cell.split(", ").filter(|operation| *operation != "–").collect();
            for operation in Operation::ALL {
                assert_eq!(policy.allows(kind, purpose, operation), allowed.contains(&operation.name()), "{name} {purpose:?} {operation}");
            }
        }
    }
}

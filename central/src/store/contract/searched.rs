//! Queries.

use super::super::instances::Which;
use super::super::query::{DocumentFilter, Names, TimeRange, Versions};
use super::super::sql::sql;
use super::super::{CentralStore, StoreError};
use super::fixtures::*;
use idr_ihe::metadata::{Author, AvailabilityStatus, EntryType};
use std::sync::Arc;

fn range(from: Option<&str>, to: Option<&str>) -> TimeRange {
    TimeRange { from: from.map(str::to_owned), to: to.map(str::to_owned) }
}

pub async fn each_filter_finds_what_it_names_and_nothing_else(store: Arc<dyn CentralStore>) {
    Case::new(1).commit(&*store).await;
    let other = |n: u64| {
        Case::new(n).change(move |entry, unit| {
            entry.entry_type = EntryType::OnDemand;
            entry.class_code = Some(code("180", "another scheme"));
            entry.type_code = Some(code("other", "1.2.246.537.6.5.2007"));
            entry.practice_setting_code = None;
            entry.facility_type_code = Some(code("200", "facility"));
            entry.format_code = Some(code("urn:ihe:iti:xds-sd:pdf:2008", "formats"));
            entry.event_codes = vec![code("MR", "DCM"), code("12738006", "SCT")];
            entry.confidentiality_codes = vec![code("V", "conf")];
            entry.authors = vec![Author { person: Some("2^kuvaaja^Toinen*".into()), ..Author::default() }, Author::default()];
            entry.creation_time = Some("2026011510".into());
            entry.service_start_time = None;
            entry.service_stop_time = Some("202601".into());
            (unit.controller, unit.register) = ("1.2.246.10.90000118.19.0".into(), "3".into());
        })
    };
    other(2).commit(&*store).await;
    Case::new(3).change(|entry, _| entry.patient_id = other_patient()).commit(&*store).await;
    let mut tx = store.begin().await.unwrap();
    tx.set_status(&uuid(1, 2), AvailabilityStatus::Deprecated, idr_profile::access::Status::Superseded).await.unwrap();
    tx.commit().await.unwrap();

    let f = DocumentFilter::default;
    let cases = [
        ("nothing given", f(), vec![1, 2]),
        ("status", DocumentFilter { statuses: vec![AvailabilityStatus::Approved], ..f() }, vec![1]),
        (
            "both statuses",
            DocumentFilter { statuses: vec![AvailabilityStatus::Approved, AvailabilityStatus::Deprecated], ..f() },
            vec![1, 2],
        ),
        ("type", DocumentFilter { types: vec![EntryType::OnDemand], ..f() }, vec![2]),
        ("class of both schemes", DocumentFilter { class_codes: vec![code("180", "another scheme"), code("180", "none")], ..f() }, vec![2]),
        ("type code", DocumentFilter { type_codes: vec![code("JN3AA", "1.2.246.537.6.5.2007")], ..f() }, vec![1]),
        ("practice setting", DocumentFilter { practice_settings: vec![code("RAD", "practice")], ..f() }, vec![1]),
        ("facility", DocumentFilter { facility_types: vec![code("200", "facility")], ..f() }, vec![2]),
        ("format", DocumentFilter { format_codes: vec![code("urn:ihe:iti:xds-sd:pdf:2008", "formats")], ..f() }, vec![2]),
        ("event OR", DocumentFilter { event_codes: vec![vec![code("CT", "DCM"), code("MR", "DCM")]], ..f() }, vec![1, 2]),
        ("event AND", DocumentFilter { event_codes: vec![vec![code("MR", "DCM")], vec![code("12738006", "SCT")]], ..f() }, vec![2]),
        ("event of the other list", DocumentFilter { event_codes: vec![vec![code("V", "conf")]], ..f() }, vec![]),
        ("confidentiality", DocumentFilter { confidentiality_codes: vec![vec![code("V", "conf")]], ..f() }, vec![2]),
        (
            "reference ids AND",
            DocumentFilter { reference_ids: vec![vec![entry(1).reference_ids[0].clone()], vec![entry(2).reference_ids[1].clone()]], ..f() },
            vec![2],
        ),
        ("reference id of nobody", DocumentFilter { reference_ids: vec![vec!["x".into()]], ..f() }, vec![]),
        ("author, case-sensitive", DocumentFilter { author_persons: vec!["%Kuvaaja%".into()], ..f() }, vec![1]),
        ("author, one character", DocumentFilter { author_persons: vec!["2^_uvaaja^%".into()], ..f() }, vec![2]),
        ("author, a star is a star", DocumentFilter { author_persons: vec!["%Toinen*".into(), "%[1]%".into()], ..f() }, vec![2]),
        ("creation from", DocumentFilter { creation_time: range(Some("20260115090513"), None), ..f() }, vec![2]),
        ("creation from, inclusive", DocumentFilter { creation_time: range(Some("20260115090512"), None), ..f() }, vec![1, 2]),
        ("creation to, exclusive", DocumentFilter { creation_time: range(None, Some("2026011510")), ..f() }, vec![1]),
        ("creation in a coarse range", DocumentFilter { creation_time: range(Some("2026"), Some("2027")), ..f() }, vec![1, 2]),
        ("service start", DocumentFilter { service_start_time: range(Some("2026"), None), ..f() }, vec![1]),
        ("service stop", DocumentFilter { service_stop_time: range(Some("2026"), Some("20260102")), ..f() }, vec![2]),
        ("controller", DocumentFilter { controllers: vec![COUNTY.into()], ..f() }, vec![1]),
        ("register", DocumentFilter { registers: vec!["3".into(), "9".into()], ..f() }, vec![2]),
    ];
    for (name, filter, expected) in cases {
        let found = store.read().await.unwrap().documents_found(&patient(), &filter, 100).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|(_, entry)| entry.entry_uuid).collect();
        assert_eq!(found, expected.into_iter().map(|n| uuid(1, n)).collect::<Vec<_>>(), "{name}");
    }
    let unknown = idr_ihe::metadata::PatientId { id: "nobody".into(), ..patient() };
    assert!(store.read().await.unwrap().documents_found(&unknown, &f(), 100).await.unwrap().is_empty());
}

pub async fn documents_are_found_by_uuid_unique_id_and_logical_id(store: Arc<dyn CentralStore>) {
    Case::new(1).commit(&*store).await;
    Case::new(2).commit(&*store).await;
    let second_version = Case::new(3).change(|entry, _| {
        (entry.logical_id, entry.version, entry.unique_id) = (Some(uuid(1, 1)), Some(2), super::fixtures::entry(1).unique_id);
    });
    second_version.commit(&*store).await;
    let same_document = Case::new(4).change(|entry, _| entry.unique_id = super::fixtures::entry(1).unique_id);
    same_document.commit(&*store).await;
    let mut tx = store.read().await.unwrap();
    let uuids = [uuid(1, 2), uuid(1, 1), uuid(1, 1), uuid(1, 9)];
    let unique = [entry(1).unique_id, "2.25.9".into()];
    let logical = [uuid(1, 1), uuid(1, 2)];
    for (names, versions, expected) in [
        (Names::EntryUuids(&uuids), Versions::Latest, vec![1, 2]),
        (Names::UniqueIds(&unique), Versions::Latest, vec![3, 4]),
        (Names::UniqueIds(&unique), Versions::All, vec![1, 3, 4]),
        (Names::LogicalIds(&logical), Versions::Latest, vec![2, 3]),
        (Names::LogicalIds(&logical), Versions::All, vec![1, 2, 3]),
        (Names::LogicalIds(&[]), Versions::All, vec![]),
    ] {
        let found = tx.documents_named(names, versions, 100).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|(_, entry)| entry.entry_uuid).collect();
        assert_eq!(found, expected.into_iter().map(|n| uuid(1, n)).collect::<Vec<_>>(), "{names:?} {versions:?}");
    }
}

pub async fn related_documents_come_with_the_associations_that_reach_them(store: Arc<dyn CentralStore>) {
    Case::new(1).commit(&*store).await;
    Case::new(2).with(association(2, XFRM, &uuid(1, 2), &uuid(1, 1))).commit(&*store).await;
    Case::new(3).with(association(3, APND, &uuid(1, 3), &uuid(1, 1))).commit(&*store).await;
    Case::new(4).commit(&*store).await;
    let mut tx = store.read().await.unwrap();
    let related = tx.get_related_documents(&uuid(1, 1), &[XFRM.into(), RPLC.into()], 100).await.unwrap();
    assert_eq!((related.entries.len(), related.associations.len()), (2, 1));
    let related = tx.get_related_documents(&uuid(1, 2), &[XFRM.into()], 100).await.unwrap();
    assert_eq!((related.entries.len(), related.associations.len()), (2, 1), "in either direction");
    let none = tx.get_related_documents(&uuid(1, 4), &[XFRM.into(), APND.into()], 100).await.unwrap();
    assert_eq!((none.entries.len(), none.associations.len()), (0, 0));
    let rows = tx.association_rows(&[uuid(1, 1), uuid(1, 3)], &[], 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.entry_uuid.clone()).collect::<Vec<_>>(), [1001, 2, 3, 1003].map(|n| uuid(3, n)));
    assert!(rows.iter().all(|row| row.status == Some(AvailabilityStatus::Approved)));
}

pub async fn more_than_the_limit_is_an_error_and_never_a_part(store: Arc<dyn CentralStore>) {
    for n in 1..=3 {
        Case::new(n).commit(&*store).await;
    }
    store_instances(&*store, (1..=3).map(instance)).await;
    let mut tx = store.read().await.unwrap();
    assert!(matches!(tx.documents_found(&patient(), &DocumentFilter::default(), 2).await, Err(StoreError::TooMany { limit: 2 })));
    assert_eq!(tx.documents_found(&patient(), &DocumentFilter::default(), 3).await.unwrap().len(), 3);
    assert!(matches!(tx.instances_found(STUDY, Which::Study, 2).await, Err(StoreError::TooMany { limit: 2 })));
    let ids: Vec<_> = (1..=3).map(|n| uuid(1, n)).collect();
    assert!(matches!(tx.documents_named(Names::EntryUuids(&ids), Versions::All, 2).await, Err(StoreError::TooMany { limit: 2 })));
    let wide: Vec<_> = (1..=2000).map(|n| uuid(1, n)).collect();
    assert_eq!(tx.documents_named(Names::EntryUuids(&wide), Versions::All, 9).await.unwrap().len(), 3, "lists beyond one statement");
    assert_eq!(tx.rows(sql("SELECT 1 AS one")).await.unwrap().len(), 1, "the transaction goes on");
}

pub async fn instances_are_found_by_study_series_and_uid(store: Arc<dyn CentralStore>) {
    let mut elsewhere = instance(9);
    elsewhere.study_uid = "1.2.246.10.12345671.77.20260115.2".into();
    elsewhere.series_uid = format!("{}.2.1", elsewhere.study_uid);
    store_instances(&*store, (1..=4).map(instance).chain([elsewhere])).await;
    let mut tx = store.read().await.unwrap();
    let second_series = format!("{STUDY}.2.2");
    let uids: Vec<_> = [4, 1, 77, 9].map(uid).into();
    for (which, expected) in [
        (Which::Study, vec![2, 4, 1, 3]),
        (Which::Series(&second_series), vec![1, 3]),
        (Which::Instances(&uids), vec![4, 1]),
        (Which::Instances(&[]), vec![]),
    ] {
        let found = tx.instances_found(STUDY, which, 100).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|(_, found)| found.sop_instance_uid).collect();
        assert_eq!(found, expected.into_iter().map(uid).collect::<Vec<_>>(), "{which:?}");
    }
    assert!(tx.instance(&uid(9)).await.unwrap().is_some());
    assert!(tx.instance(&uid(77)).await.unwrap().is_none());
}

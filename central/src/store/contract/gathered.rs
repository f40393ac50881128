//! Instances as a search sees them.

use super::super::instances::NewInstance;
use super::super::search::{Gathered, Sought};
use super::super::{CentralStore, Found, StoreError, Tx};
use super::fixtures::*;
use idr_profile::access::Status;
use std::sync::Arc;

/// An instance in the series of the first.
fn of_first_series(n: u64) -> NewInstance {
    NewInstance { series_uid: instance(1).series_uid, ..instance(n) }
}

async fn found(tx: &mut Tx, sought: Sought<'_>, each: bool) -> Found<Gathered> {
    tx.gathered_found(sought, each, 100).await.unwrap()
}

/// First instance and number of each, rejected ones marked.
fn told(found: &Found<Gathered>) -> Vec<(String, u64, bool)> {
    found.iter().map(|(unit, of)| (of.first.sop_instance_uid.clone(), of.instances, unit.status == Status::Rejected)).collect()
}

pub async fn instances_are_gathered_by_series_class_unit_and_rejection(store: Arc<dyn CentralStore>) {
    let [mut class, mut foreign, rejected] = [3, 5, 6].map(of_first_series);
    class.sop_class_uid = "1.2.840.10008.5.1.4.1.1.7".into();
    let mut series = instance(4);
    series.series_uid = format!("{}.9", series.series_uid);
    foreign.stored_under.controller = "1.2.246.10.90000118.19.0".into();
    store_instances(&*store, [instance(1), of_first_series(2), class, series, foreign, rejected]).await;
    let mut tx = store.begin().await.unwrap();
    tx.reject_instances(STUDY, &[uid(6)], "113001").await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = store.read().await.unwrap();
    let (studies, patient) = ([STUDY.to_owned()], patient());
    let by_study = Sought { studies: &studies, ..Sought::default() };
    let mut gathered = told(&found(&mut tx, by_study, false).await);
    gathered.sort();
    let mut expected = vec![(uid(1), 2, false), (uid(3), 1, false), (uid(4), 1, false), (uid(5), 1, false), (uid(6), 1, true)];
    expected.sort();
    assert_eq!(gathered, expected);
    let by_patient = Sought { patient: Some(&patient), ..Sought::default() };
    let mut same = told(&found(&mut tx, by_patient, false).await);
    same.sort();
    assert_eq!(same, expected);
    assert_eq!(found(&mut tx, by_patient, true).await.len(), 6);
}

pub async fn a_search_finds_what_it_names_within_its_limit(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1), of_first_series(2)]).await;
    let mut tx = store.read().await.unwrap();
    let (own, other, nobody) = (patient(), other_patient(), Sought::default());
    let (studies, none, instances) = ([STUDY.to_owned()], ["1.2.3".to_owned()], [uid(2), uid(9)]);
    for (sought, number) in [
        (Sought { patient: Some(&own), ..nobody }, 2),
        (Sought { patient: Some(&other), ..nobody }, 0),
        (Sought { patient: Some(&own), studies: &studies, ..nobody }, 2),
        (Sought { patient: Some(&own), studies: &none, ..nobody }, 0),
        (Sought { patient: Some(&own), series: &none, ..nobody }, 0),
        (Sought { patient: Some(&own), instances: &instances, ..nobody }, 1),
        (Sought { studies: &studies, ..nobody }, 2),
        // Neither patient nor study: it would look at everybody's.
        (nobody, 0),
    ] {
        assert_eq!(found(&mut tx, sought, true).await.len(), number, "{sought:?}");
    }
    let by_study = Sought { studies: &studies, ..nobody };
    assert!(matches!(tx.gathered_found(by_study, true, 1).await, Err(StoreError::TooMany { limit: 1 })));
    assert_eq!(tx.gathered_found(by_study, false, 1).await.unwrap().len(), 1);
}

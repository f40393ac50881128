//! Registration and registry state.

use super::super::query::{DocumentFilter, Names, Versions};
use super::super::registry::{Class, EntryFacts, NewManifest};
use super::super::{CentralStore, StoreError};
use super::fixtures::*;
use crate::objects::ObjectKey;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry, EntryType, Folder};
use idr_profile::access::{AccessUnit, Status, UnitId};
use idr_profile::identifier::Specifier;
use jiff::civil::date;
use std::sync::Arc;

async fn find(store: &dyn CentralStore) -> Vec<(AccessUnit, DocumentEntry)> {
    store.read().await.unwrap().documents_found(&patient(), &DocumentFilter::default(), 100).await.unwrap()
}

async fn statuses(store: &dyn CentralStore) -> Vec<(String, AvailabilityStatus, Status)> {
    find(store).await.into_iter().map(|(unit, entry)| (entry.entry_uuid, entry.status.unwrap(), unit.status)).collect()
}

pub async fn an_entry_is_given_back_as_it_was_registered(store: Arc<dyn CentralStore>) {
    let specifier = Specifier::try_from("1.2.246.10.90000054".to_owned()).unwrap();
    let case = Case::new(1).change(|_, unit| {
        unit.specifier = Some(specifier.clone());
        unit.register = "4".into();
        unit.episode = Some("1.2.3.4".into());
        unit.release_date = Some(date(2026, 7, 1));
        unit.minor_code = Some("3".into());
        unit.labels = vec!["L".into()];
        unit.unreadable = true;
    });
    case.commit(&*store).await;
    let (unit, found) = find(&*store).await.remove(0);
    let mut expected = entry(1);
    expected.logical_id = Some(expected.entry_uuid.clone());
    (expected.version, expected.status) = (Some(1), Some(AvailabilityStatus::Approved));
    assert_eq!(found, expected);
    assert_eq!(unit, AccessUnit { id: UnitId(uuid(1, 1)), ..case.units[0].clone() });
}

pub async fn replacing_deprecates_the_entry_and_what_hangs_on_it(store: Arc<dyn CentralStore>) {
    Case::manifest(1, [1]).commit(&*store).await;
    Case::new(2).with(association(2, XFRM, &uuid(1, 2), &uuid(1, 1))).commit(&*store).await;
    Case::new(3).with(association(3, APND, &uuid(1, 3), &uuid(1, 2))).commit(&*store).await;
    Case::new(4).commit(&*store).await;
    let replaced = Case::manifest(5, [1]).with(association(5, RPLC, &uuid(1, 5), &uuid(1, 1))).commit(&*store).await;
    assert_eq!(replaced.deprecated, [uuid(1, 1), uuid(1, 2), uuid(1, 3)]);
    let deprecated = |n| (uuid(1, n), AvailabilityStatus::Deprecated, Status::Superseded);
    let approved = |n| (uuid(1, n), AvailabilityStatus::Approved, Status::Active);
    assert_eq!(statuses(&*store).await, [deprecated(1), deprecated(2), deprecated(3), approved(4), approved(5)]);

    let mut tx = store.begin().await.unwrap();
    assert!(tx.set_status(&uuid(1, 5), AvailabilityStatus::Deprecated, Status::Invalidated).await.unwrap());
    assert!(!tx.set_status(&uuid(1, 5), AvailabilityStatus::Deprecated, Status::Superseded).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(statuses(&*store).await[4].2, Status::Invalidated);
}

pub async fn an_id_that_is_used_already_is_taken(store: Arc<dyn CentralStore>) {
    Case::manifest(1, [1]).commit(&*store).await;
    let mut same_set = Case::new(2);
    same_set.submission.submission_sets[0].unique_id = set(1).unique_id;
    let same_entry = Case::new(2).change(|entry, _| entry.entry_uuid = uuid(1, 1));
    let mut same_association = Case::new(2);
    same_association.submission.associations[0].entry_uuid = uuid(3, 1001);
    let other_bytes = Case::new(2).change(|entry, _| entry.unique_id = super::fixtures::entry(1).unique_id).with_document();
    for (name, case) in [("set", same_set), ("entry", same_entry), ("association", same_association), ("document", other_bytes)] {
        let mut tx = store.begin().await.unwrap();
        assert!(matches!(case.register(&mut tx).await, Err(StoreError::Taken { .. })), "{name}");
        drop(tx);
        assert_eq!(find(&*store).await.len(), 1, "{name}");
    }
}

pub async fn the_rules_see_the_state_of_stored_objects(store: Arc<dyn CentralStore>) {
    let mut case = Case::manifest(1, [1]);
    case.submission.folders.push(Folder {
        entry_uuid: uuid(4, 1),
        logical_id: None,
        version: None,
        unique_id: "2.25.4001".into(),
        patient_id: patient(),
        codes: vec![code("f", "folders"), code("f", "folders")],
        title: Some("folder".into()),
        comments: None,
        last_update_time: None,
        home_community_id: None,
        status: None,
        extra: Vec::new(),
    });
    case.commit(&*store).await;
    let mut tx = store.begin().await.unwrap();
    tx.touch_folders(&[uuid(4, 1)], at(50)).await.unwrap();
    let ids = [uuid(1, 1), uuid(2, 1), uuid(4, 1), uuid(3, 1001), uuid(1, 9)];
    let mut states = tx.objects_by_id(&ids).await.unwrap();
    states.sort_by_key(|state| state.class);
    let classes: Vec<_> = states.iter().map(|state| (state.class, state.entry_uuid.clone())).collect();
    let expected = [(Class::Entry, 0), (Class::SubmissionSet, 1), (Class::Folder, 2), (Class::Association, 3)];
    assert_eq!(classes, expected.map(|(class, n)| (class, ids[n].clone())));
    let facts = EntryFacts {
        entry_type: EntryType::Stable,
        hash: entry(1).hash,
        size: entry(1).size,
        manifest: Some((STUDY.into(), REGISTRY_SOURCE.into())),
    };
    assert_eq!(states[0].entry, Some(facts));
    assert_eq!((states[0].version, states[2].version, states[1].version), (Some(1), Some(1), None));
    assert!(states[..3].iter().all(|state| state.unit.as_ref().is_some_and(|unit| unit.controller == COUNTY && unit.patient == patient())));

    let unique = tx.objects_by_unique_id(&[entry(1).unique_id, set(1).unique_id, "2.25.4001".into(), "2.25.9".into()]).await.unwrap();
    assert_eq!(unique.len(), 3);
    let manifests = tx.approved_manifests(STUDY, REGISTRY_SOURCE).await.unwrap();
    assert_eq!(manifests.iter().map(|state| state.entry_uuid.clone()).collect::<Vec<_>>(), [uuid(1, 1)]);
    assert!(tx.approved_manifests(STUDY, "1.2.3").await.unwrap().is_empty());
    let set = tx.submission_set(&set(1).unique_id).await.unwrap().unwrap();
    assert_eq!((set.stored_by.as_str(), set.content_sha256.as_str(), &set.manifests[..]), (SITE, "c0ffee", &[uuid(1, 1)][..]));
    assert_eq!(tx.submission_set("2.25.9").await.unwrap(), None);
    assert_eq!(tx.unusable_references(&[entry(1).unique_id, uid(1)]).await.unwrap(), [entry(1).unique_id], "a manifest");
}

pub async fn an_image_takes_its_units_attributes_from_its_manifest(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    let unit_of = async || store.read().await.unwrap().unit_of(&uid(1)).await.unwrap().unwrap();
    let before = unit_of().await;
    assert_eq!((before.status, before.date, before.unit.as_ref()), (Status::Active, Some(date(2026, 1, 15)), None), "not registered yet");
    let foreign = Case::manifest(9, [1]).change(|_, unit| (unit.register, unit.release_date) = ("3".into(), Some(date(2030, 1, 1))));
    foreign.commit(&*store).await;
    assert_eq!(unit_of().await, before, "a manifest of another register says nothing");

    let delayed = Case::manifest(1, [1]).change(|_, unit| {
        unit.release_date = Some(date(2026, 7, 1));
        unit.date = Some(date(2026, 1, 14));
        unit.minor_code = Some("3".into());
    });
    delayed.commit(&*store).await;
    let during = unit_of().await;
    assert_eq!((during.release_date, during.minor_code.as_deref()), (Some(date(2026, 7, 1)), Some("3")));
    assert_eq!((during.date, during.unit.as_deref()), (Some(date(2026, 1, 14)), Some("1.2.246.10.90000011.10.7")));
    assert_eq!(during.id, before.id, "the unit keeps its name");

    Case::manifest(2, [1]).with(association(2, RPLC, &uuid(1, 2), &uuid(1, 1))).commit(&*store).await;
    assert_eq!(unit_of().await.release_date, None, "the Approved manifest counts");
    let mut tx = store.begin().await.unwrap();
    tx.set_status(&uuid(1, 2), AvailabilityStatus::Deprecated, Status::Invalidated).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(unit_of().await.status, Status::Invalidated, "a manifest that became empty takes its images with it");
}

pub async fn a_delayed_release_holds_for_images_stored_without_a_service_event(store: Arc<dyn CentralStore>) {
    let mut new = instance(1);
    new.stored_under.service_event = None;
    store_instances(&*store, [new]).await;
    Case::manifest(1, [1]).change(|_, unit| unit.release_date = Some(date(2026, 7, 1))).commit(&*store).await;
    let unit = store.read().await.unwrap().unit_of(&uid(1)).await.unwrap().unwrap();
    assert_eq!((unit.release_date, unit.service_event), (Some(date(2026, 7, 1)), None));
}

pub async fn a_document_is_found_under_each_entry_that_has_it(store: Arc<dyn CentralStore>) {
    let first = Case::manifest(1, [1]);
    first.commit(&*store).await;
    Case::new(2)
        .change(|entry, unit| (entry.unique_id, unit.register) = (super::fixtures::entry(1).unique_id, "3".into()))
        .commit(&*store)
        .await;
    let mut tx = store.read().await.unwrap();
    let found = tx.document_found(REPOSITORY, &entry(1).unique_id).await.unwrap();
    assert_eq!(found.iter().map(|(unit, _)| unit.register.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    assert!(found.iter().all(|(_, document)| document.object_key() == Some(&first.documents[0].object_key) && document.size == 3001));
    assert!(tx.document_found(REPOSITORY, "2.25.9").await.unwrap().is_empty());
    let named = tx.documents_named(Names::UniqueIds(&[entry(1).unique_id]), Versions::Latest, 9).await.unwrap();
    assert_eq!(named.len(), 2);
}

pub async fn an_entry_of_another_repository_gives_no_document_of_ours(store: Arc<dyn CentralStore>) {
    Case::manifest(1, [1]).commit(&*store).await;
    let elsewhere = Case::new(2).change(|entry, unit| {
        (entry.unique_id, entry.repository_unique_id) = (super::fixtures::entry(1).unique_id, Some("1.2.3".into()));
        unit.register = "3".into();
    });
    elsewhere.commit(&*store).await;
    let found = store.read().await.unwrap().document_found(REPOSITORY, &entry(1).unique_id).await.unwrap();
    assert_eq!(found.iter().map(|(unit, _)| unit.register.as_str()).collect::<Vec<_>>(), ["2"]);
}

pub async fn a_manifest_of_another_repository_is_known_and_has_no_receipt(store: Arc<dyn CentralStore>) {
    let mut case = Case::new(1);
    case.manifests = vec![NewManifest { entry_uuid: uuid(1, 1), study_uid: STUDY.into(), references: Vec::new(), held: false }];
    assert!(case.commit(&*store).await.receipts.is_empty());
    let manifests = store.read().await.unwrap().approved_manifests(STUDY, REGISTRY_SOURCE).await.unwrap();
    assert_eq!(manifests.len(), 1);
}

pub async fn a_document_sent_twice_keeps_its_first_bytes(store: Arc<dyn CentralStore>) {
    let first = Case::new(1).with_document();
    assert!(first.commit(&*store).await.unused_objects.is_empty());
    let mut again =
        Case::new(2).change(|entry, _| *entry = DocumentEntry { entry_uuid: uuid(1, 2), ..super::fixtures::entry(1) }).with_document();
    again.documents[0].object_key = ObjectKey::new(uuid::Uuid::from_u128(77));
    assert_eq!(again.commit(&*store).await.unused_objects, [again.documents[0].object_key.clone()]);
    let found = store.read().await.unwrap().document_found(REPOSITORY, &entry(1).unique_id).await.unwrap();
    assert!(found.iter().all(|(_, document)| document.object_key() == Some(&first.documents[0].object_key)));
}

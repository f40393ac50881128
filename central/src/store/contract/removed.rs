//! Removal of metadata and documents.

use super::super::CentralStore;
use super::super::graph::Seeds;
use super::super::query::{DocumentFilter, Names, Versions};
use super::fixtures::*;
use idr_profile::access::Status;
use std::sync::Arc;

async fn remove(store: &dyn CentralStore, ids: &[String]) {
    let mut tx = store.begin().await.unwrap();
    tx.remove_metadata(ids, at(90)).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn what_is_removed_is_seen_by_nothing_and_its_rows_stay(store: Arc<dyn CentralStore>) {
    let case = Case::manifest(1, [1]);
    case.commit(&*store).await;
    Case::new(2).with(association(12, APND, &uuid(1, 2), &uuid(1, 1))).commit(&*store).await;
    let ids = [uuid(1, 1), uuid(2, 1), uuid(3, 1001), uuid(3, 12)];
    let mut tx = store.read().await.unwrap();
    let ties = tx.ties(&[uuid(1, 1)], 9).await.unwrap();
    assert_eq!(ties.iter().map(|tie| tie.id.clone()).collect::<Vec<_>>(), [uuid(3, 1001), uuid(3, 12)]);
    drop(tx);
    remove(&*store, &ids).await;
    let mut tx = store.read().await.unwrap();
    assert!(tx.objects_by_id(&ids).await.unwrap().is_empty());
    assert!(tx.objects_by_unique_id(&[entry(1).unique_id, set(1).unique_id]).await.unwrap().is_empty());
    assert!(tx.submission_set(&set(1).unique_id).await.unwrap().is_none());
    assert!(tx.approved_manifests(STUDY, REGISTRY_SOURCE).await.unwrap().is_empty());
    assert!(tx.latest_versions(&[uuid(1, 1)]).await.unwrap().is_empty());
    assert!(tx.missing_references(None, 9).await.unwrap().is_empty());
    assert!(tx.ties(&[uuid(1, 1), uuid(1, 2)], 9).await.unwrap().iter().all(|tie| tie.target == uuid(1, 2)));
    for names in [Names::EntryUuids(&ids[..1]), Names::UniqueIds(&[entry(1).unique_id]), Names::LogicalIds(&ids[..1])] {
        assert!(tx.documents_named(names, Versions::All, 9).await.unwrap().is_empty());
    }
    assert_eq!(tx.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
    assert!(tx.document_found(REPOSITORY, &entry(1).unique_id).await.unwrap().is_empty());
    let graph = tx.graph(Seeds::AllOf(&patient()), 9).await.unwrap();
    assert_eq!(graph.wanted, [uuid(1, 2), uuid(2, 2), uuid(3, 1002)].into());
    drop(tx);
    // Its ids stay taken, so the rows are there.
    let mut tx = store.begin().await.unwrap();
    assert!(case.register(&mut tx).await.is_err());
}

pub async fn images_of_a_removed_manifest_are_erased_until_another_comes(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    Case::manifest(1, [1]).commit(&*store).await;
    remove(&*store, &[uuid(1, 1), uuid(2, 1), uuid(3, 1001)]).await;
    let status = async || store.read().await.unwrap().unit_of(&uid(1)).await.unwrap().unwrap().status;
    assert_eq!(status().await, Status::Erased);
    Case::manifest(2, [1]).commit(&*store).await;
    assert_eq!(status().await, Status::Active);
}

pub async fn a_removed_document_is_not_given_until_it_is_provided_again(store: Arc<dyn CentralStore>) {
    let case = Case::new(1).with_document();
    case.commit(&*store).await;
    let uid = entry(1).unique_id;
    let mut tx = store.begin().await.unwrap();
    assert!(tx.has_document(&uid).await.unwrap());
    assert!(tx.remove_document(&uid, at(90)).await.unwrap());
    assert!(!tx.remove_document(&uid, at(91)).await.unwrap());
    assert!(!tx.has_document(&uid).await.unwrap());
    tx.commit().await.unwrap();
    let found = async || store.read().await.unwrap().document_found(REPOSITORY, &entry(1).unique_id).await.unwrap().len();
    assert_eq!(found().await, 0);
    let keys = [case.documents[0].object_key.clone()];
    let strays = store.read().await.unwrap().unreferenced(&keys).await.unwrap();
    assert!(strays.is_empty(), "its bytes belong to a row and are not swept away");
    let again = Case::new(2).change(|entry, _| {
        let uuid = entry.entry_uuid.clone();
        *entry = super::fixtures::entry(1);
        entry.entry_uuid = uuid;
    });
    again.with_document().commit(&*store).await;
    assert_eq!(found().await, 2);
}

//! New versions and changes of status.

use super::super::query::{DocumentFilter, Names, Versions};
use super::super::versions::{Content, Succession};
use super::super::{CentralStore, StoreError};
use super::fixtures::*;
use idr_ihe::metadata::{AvailabilityStatus, Folder};
use idr_profile::access::Status;
use std::sync::Arc;

const HAS_MEMBER: &str = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";

/// The second version of entry 1, in set `n`.
fn second(n: u64) -> Case {
    Case::new(n).change(|entry, _| {
        let (uuid, first) = (entry.entry_uuid.clone(), super::fixtures::entry(1));
        *entry = first;
        (entry.logical_id, entry.version, entry.entry_uuid) = (Some(super::fixtures::uuid(1, 1)), Some(2), uuid);
        entry.title = Some("second".into());
    })
}

fn folder(n: u64) -> Folder {
    Folder {
        entry_uuid: uuid(4, n),
        logical_id: None,
        version: None,
        unique_id: format!("2.25.{}", 4000 + n),
        patient_id: patient(),
        codes: vec![code("f", "folders")],
        title: Some("folder".into()),
        comments: None,
        last_update_time: None,
        home_community_id: None,
        status: None,
        extra: Vec::new(),
    }
}

fn succession(previous: String, new: String, propagate: bool) -> Succession {
    Succession { previous, new, propagate }
}

async fn commit(store: &dyn CentralStore, case: &Case, successions: &[Succession]) {
    let mut tx = store.begin().await.unwrap();
    case.register(&mut tx).await.unwrap();
    tx.succeed(successions, &case.submission.submission_sets[0].entry_uuid, 9, case.now).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn a_new_version_takes_the_place_of_the_one_before_and_keeps_its_manifest(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    Case::manifest(1, [1]).commit(&*store).await;
    commit(&*store, &second(2), &[succession(uuid(1, 1), uuid(1, 2), true)]).await;
    let mut tx = store.read().await.unwrap();
    let logical = [uuid(1, 1), uuid(1, 9)];
    let latest = tx.latest_versions(&logical).await.unwrap().remove(0);
    assert_eq!((latest.state.entry_uuid, latest.state.version), (uuid(1, 2), Some(2)));
    let Content::Entry(entry) = latest.content else { panic!("an entry") };
    assert_eq!((entry.title.as_deref(), entry.status), (Some("second"), Some(AvailabilityStatus::Approved)));
    let versions = tx.documents_named(Names::LogicalIds(&[uuid(1, 1)]), Versions::All, 9).await.unwrap();
    assert_eq!(versions.len(), 2, "the first is kept");
    let manifests = tx.approved_manifests(STUDY, REGISTRY_SOURCE).await.unwrap();
    assert_eq!(manifests.iter().map(|state| state.entry_uuid.clone()).collect::<Vec<_>>(), [uuid(1, 2)]);
    assert_eq!(tx.unit_of(&uid(1)).await.unwrap().unwrap().status, Status::Active);
    assert!(tx.missing_references(Some(STUDY), 9).await.unwrap().is_empty());
}

pub async fn associations_are_repeated_once_with_the_new_versions_as_ends(store: Arc<dyn CentralStore>) {
    let mut case = Case::new(1);
    case.submission.folders.push(folder(1));
    case.with(association(11, HAS_MEMBER, &uuid(4, 1), &uuid(1, 1)))
        .with(association(12, APND, &uuid(1, 1), &uuid(1, 5)))
        .commit(&*store)
        .await;
    let mut both = second(2);
    both.submission.folders.push(Folder { logical_id: Some(uuid(4, 1)), version: Some(2), entry_uuid: uuid(4, 2), ..folder(1) });
    let successions = [succession(uuid(1, 1), uuid(1, 2), true), succession(uuid(4, 1), uuid(4, 2), true)];
    commit(&*store, &both, &successions).await;
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.folders_holding(&uuid(1, 2)).await.unwrap(), [uuid(4, 2)], "new folder to new entry, once");
    assert!(tx.folders_holding(&uuid(1, 1)).await.unwrap().is_empty(), "the folder before is deprecated");
    assert_eq!(tx.latest_versions(&[uuid(4, 1)]).await.unwrap()[0].state.entry_uuid, uuid(4, 2));
    drop(tx);
    // Without propagation nothing is repeated.
    let mut third = second(3).change(|entry, _| entry.version = Some(3));
    third.submission.associations[0].target = uuid(1, 3);
    commit(&*store, &third, &[succession(uuid(1, 2), uuid(1, 3), false)]).await;
    assert!(store.read().await.unwrap().folders_holding(&uuid(1, 3)).await.unwrap().is_empty());
}

pub async fn a_status_is_changed_of_entries_folders_and_associations(store: Arc<dyn CentralStore>) {
    let mut case = Case::manifest(1, [1]);
    case.submission.folders.push(folder(1));
    case.commit(&*store).await;
    Case::new(2).commit(&*store).await;
    let ids = [uuid(1, 1), uuid(1, 2), uuid(4, 1), uuid(3, 1001)];
    for status in [AvailabilityStatus::Deprecated, AvailabilityStatus::Approved] {
        let mut tx = store.begin().await.unwrap();
        for id in &ids {
            assert!(tx.change_status(id, status).await.unwrap(), "{id}");
            assert!(!tx.change_status(id, status).await.unwrap(), "{id}");
        }
        assert!(!tx.change_status(&uuid(1, 9), status).await.unwrap());
        let states = tx.objects_by_id(&ids).await.unwrap();
        assert!(states.len() == 4 && states.iter().all(|state| state.status == status));
        let access = |id: &str| states.iter().find(|state| state.entry_uuid == id).unwrap().unit.as_ref().unwrap().status;
        let expected = match status {
            AvailabilityStatus::Deprecated => (Status::Invalidated, Status::Superseded),
            AvailabilityStatus::Approved => (Status::Active, Status::Active),
        };
        assert_eq!((access(&uuid(1, 1)), access(&uuid(1, 2))), expected, "a manifest that was withdrawn, and another document");
        tx.commit().await.unwrap();
    }
}

pub async fn two_versions_of_one_number_are_not_registered(store: Arc<dyn CentralStore>) {
    Case::new(1).commit(&*store).await;
    commit(&*store, &second(2), &[succession(uuid(1, 1), uuid(1, 2), true)]).await;
    let mut tx = store.begin().await.unwrap();
    assert!(matches!(second(3).register(&mut tx).await, Err(StoreError::Taken { .. })));
}

async fn change(store: &dyn CentralStore, id: &str, status: AvailabilityStatus) {
    let mut tx = store.begin().await.unwrap();
    assert!(tx.change_status(id, status).await.unwrap());
    tx.commit().await.unwrap();
}

async fn access(store: &dyn CentralStore, ids: &[String]) -> Vec<Status> {
    let states = store.read().await.unwrap().objects_by_id(ids).await.unwrap();
    let of = |id: &String| states.iter().find(|state| state.entry_uuid == *id).unwrap().unit.as_ref().unwrap().status;
    ids.iter().map(of).collect()
}

pub async fn a_withdrawn_manifest_takes_those_that_it_followed_with_it(store: Arc<dyn CentralStore>) {
    // Withdrawn by itself, before the others came.
    Case::manifest(9, [1]).commit(&*store).await;
    change(&*store, &uuid(1, 9), AvailabilityStatus::Deprecated).await;
    // M0, replaced after a late image, then corrected.
    Case::manifest(1, [1]).commit(&*store).await;
    Case::manifest(2, [1, 2]).with(association(12, RPLC, &uuid(1, 2), &uuid(1, 1))).commit(&*store).await;
    let third = second(3).change(|entry, _| {
        let uuid = entry.entry_uuid.clone();
        *entry = super::fixtures::entry(2);
        (entry.logical_id, entry.version, entry.entry_uuid) = (Some(super::fixtures::uuid(1, 2)), Some(2), uuid);
    });
    commit(&*store, &third, &[succession(uuid(1, 2), uuid(1, 3), false)]).await;
    let ids = [uuid(1, 1), uuid(1, 2), uuid(1, 3), uuid(1, 9)];
    let before = [Status::Superseded, Status::Superseded, Status::Active, Status::Invalidated];
    assert_eq!(access(&*store, &ids).await, before);
    change(&*store, &uuid(1, 3), AvailabilityStatus::Deprecated).await;
    assert_eq!(access(&*store, &ids).await, [Status::Invalidated; 4], "the replaced one and the first version are withdrawn too");
    change(&*store, &uuid(1, 3), AvailabilityStatus::Approved).await;
    assert_eq!(access(&*store, &ids).await, before, "and are as before; what was withdrawn by itself stays so");
}

pub async fn an_older_version_shows_nothing_that_the_newest_hides(store: Arc<dyn CentralStore>) {
    Case::new(1).commit(&*store).await;
    let hiding = second(2).change(|_, unit| {
        unit.release_date = Some(jiff::civil::date(2031, 1, 1));
        (unit.minor_code, unit.labels, unit.unreadable) = (Some("2".into()), vec!["LABEL".into()], true);
    });
    commit(&*store, &hiding, &[succession(uuid(1, 1), uuid(1, 2), true)]).await;
    let mut tx = store.read().await.unwrap();
    let found = tx.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap();
    let named = tx.documents_named(Names::EntryUuids(&[uuid(1, 1)]), Versions::All, 9).await.unwrap();
    assert_eq!((found.len(), named.len()), (2, 1));
    for (unit, entry) in found.into_iter().chain(named) {
        let hidden = (unit.release_date, unit.minor_code.as_deref(), unit.labels.len(), unit.unreadable);
        assert_eq!(hidden, (Some(jiff::civil::date(2031, 1, 1)), Some("2"), 1, true), "version {:?}", entry.version);
    }
    let state = tx.objects_by_id(&[uuid(1, 1)]).await.unwrap().remove(0);
    assert_eq!((state.unit.unwrap().unreadable, state.version), (true, Some(1)));
}

pub async fn images_follow_a_version_that_names_another_service_event(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    Case::manifest(1, [1]).commit(&*store).await;
    let moved = second(2).change(|_, unit| {
        (unit.service_event, unit.release_date) = (Some(event(2)), Some(jiff::civil::date(2031, 1, 1)));
    });
    commit(&*store, &moved, &[succession(uuid(1, 1), uuid(1, 2), true)]).await;
    let unit = store.read().await.unwrap().unit_of(&uid(1)).await.unwrap().unwrap();
    assert_eq!((unit.status, unit.release_date), (Status::Active, Some(jiff::civil::date(2031, 1, 1))));
    change(&*store, &uuid(1, 2), AvailabilityStatus::Deprecated).await;
    let unit = store.read().await.unwrap().unit_of(&uid(1)).await.unwrap().unwrap();
    assert_eq!(unit.status, Status::Invalidated, "withdrawn with its manifest");
}

pub async fn associations_are_repeated_up_to_a_limit_and_never_to_what_is_deprecated(store: Arc<dyn CentralStore>) {
    Case::new(5).commit(&*store).await;
    let mut case = Case::new(1);
    for n in 5..8 {
        case = case.with(association(10 + n, APND, &uuid(1, 1), &uuid(1, n)));
    }
    case.commit(&*store).await;
    change(&*store, &uuid(1, 5), AvailabilityStatus::Deprecated).await;
    let case = second(2);
    let (set, successions) = (case.submission.submission_sets[0].entry_uuid.clone(), [succession(uuid(1, 1), uuid(1, 2), true)]);
    let mut tx = store.begin().await.unwrap();
    case.register(&mut tx).await.unwrap();
    assert!(matches!(tx.succeed(&successions, &set, 1, case.now).await, Err(StoreError::TooMany { limit: 1 })));
    drop(tx);
    commit(&*store, &case, &successions).await;
    let repeated = store.read().await.unwrap().association_rows(&[uuid(1, 2)], &[APND.to_owned()], 9).await.unwrap();
    let mut targets: Vec<String> = repeated.into_iter().map(|of| of.target).collect();
    targets.sort_unstable();
    assert_eq!(targets, [uuid(1, 6), uuid(1, 7)]);
}

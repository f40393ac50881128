//! Instances and receipts.

use super::super::CentralStore;
use super::super::instances::{Arrival, Commit, Inconsistency, Which};
use super::fixtures::*;
use crate::control::Operator;
use idr_profile::access::Status;
use idr_profile::receipt::{Carried, Commits, Kind, LogWalk, ReceiptHash, Statement};
use std::sync::Arc;

fn r3(commit: &Commit) -> &Carried {
    match &commit.arrivals[0] {
        Arrival::New { receipt } => receipt,
        other => panic!("{other:?}"),
    }
}

fn named(receipt: &Carried) -> &Commits {
    match &receipt.receipt().statement {
        Statement::Registration { commits, .. } => commits,
        other => panic!("{other:?}"),
    }
}

pub async fn an_instance_is_stored_once_and_its_r3_is_given_again(store: Arc<dyn CentralStore>) {
    let mut first = instance(1);
    first.acceptance = Some(ReceiptHash::of(b"R1"));
    let first = store_instances(&*store, [first]).await;
    let receipt = r3(&first[0]);
    verifier().verify(receipt).unwrap();
    assert_eq!(receipt.receipt().prev(), Some(ReceiptHash::of(b"R1")));
    assert_eq!(receipt.receipt().object().unwrap().digest, instance(1).digest);

    let mut again = instance(1);
    again.object_key = key(99);
    let again = store_instances(&*store, [again]).await;
    assert_eq!(again[0].arrivals, [Arrival::Identical { same_unit: true, receipt: Some(Box::new(receipt.clone())) }]);
    let mut foreign = instance(1);
    foreign.stored_under.controller = "1.2.246.10.90000118.19.0".into();
    let foreign = store_instances(&*store, [foreign]).await;
    assert_eq!(foreign[0].arrivals, [Arrival::Identical { same_unit: false, receipt: None }], "success, but nothing of the other's");

    let mut tx = store.read().await.unwrap();
    let found = tx.instances_found(STUDY, Which::Study, 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.object_key, key(1), "the first arrival's bytes");
    assert_eq!(tx.receipt_log(&Operator::of_tests(), &holder(), None, 10).await.unwrap(), std::slice::from_ref(receipt));
}

pub async fn another_digest_is_a_conflict_and_changes_nothing(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    let mut other = instance(1);
    (other.digest, other.object_key) = (digest("other"), key(50));
    let commits = store_instances(&*store, [other]).await;
    let Arrival::Conflict { held } = &commits[0].arrivals[0] else { panic!("{:?}", commits[0]) };
    assert_eq!((held.digest, &held.object_key), (instance(1).digest, &key(1)));
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.instances_found(STUDY, Which::Study, 10).await.unwrap()[0].1.digest, instance(1).digest);
    assert_eq!(tx.receipt_log(&Operator::of_tests(), &holder(), None, 10).await.unwrap().len(), 1);
}

pub async fn an_instance_that_contradicts_its_study_or_series_is_not_stored(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    let other_id = || {
        let mut new = instance(2);
        new.patient.id = "010190-901R".into();
        new
    };
    let mut other_issuer = instance(2);
    other_issuer.patient.authority = "1.2.246.10.90000011.22.2026".into();
    let mut other_study = instance(3);
    other_study.study_uid = format!("{STUDY}9");
    let only_patient = |mut new: super::super::instances::NewInstance| {
        new.enforced = vec![Inconsistency::StudyOfAnother];
        new
    };
    for (new, expected) in [
        (other_id(), Inconsistency::PatientId),
        (other_issuer, Inconsistency::Issuer),
        (other_study, Inconsistency::SeriesElsewhere),
        (only_patient(other_id()), Inconsistency::StudyOfAnother),
    ] {
        let commits = store_instances(&*store, [new]).await;
        assert_eq!(commits[0].arrivals, [Arrival::Inconsistent(expected)]);
    }
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.receipt_log(&Operator::of_tests(), &holder(), None, 10).await.unwrap().len(), 1, "nothing was stored");
    drop(tx);
    let mut unenforced = other_id();
    unenforced.enforced.clear();
    assert!(matches!(store_instances(&*store, [unenforced]).await[0].arrivals[..], [Arrival::New { .. }]));
}

pub async fn a_rejected_instance_does_not_come_back_and_its_unit_says_so(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1), instance(2)]).await;
    let mut tx = store.begin().await.unwrap();
    let unknown = tx.reject_instances(STUDY, &[uid(1), uid(9)], "113001").await.unwrap();
    assert_eq!(unknown, [uid(9)]);
    tx.commit().await.unwrap();
    let again = store_instances(&*store, [instance(1)]).await;
    assert_eq!(again[0].arrivals, [Arrival::Rejected { title: "113001".into() }]);
    let mut tx = store.read().await.unwrap();
    let found = tx.instances_found(STUDY, Which::Study, 10).await.unwrap();
    let statuses: Vec<_> = found.iter().map(|(unit, found)| (found.sop_instance_uid.clone(), unit.status)).collect();
    assert_eq!(statuses, [(uid(2), Status::Active), (uid(1), Status::Rejected)]);
    assert_eq!(tx.unit_of(&uid(1)).await.unwrap().unwrap().status, Status::Rejected);
    assert_eq!(tx.unusable_references(&[uid(1), uid(2)]).await.unwrap(), [uid(1)]);
}

pub async fn a_registration_names_every_r3_and_again_when_one_comes_late(store: Arc<dyn CentralStore>) {
    let stored = store_instances(&*store, [instance(1), instance(2)]).await;
    let early: Vec<_> = stored.iter().map(|commit| r3(commit).hash()).collect();
    let registered = Case::manifest(1, 1..=70).commit(&*store).await;
    assert_eq!(registered.receipts.len(), 1);
    assert!(named(&registered.receipts[0]).are(&early));

    let late = store_instances(&*store, [instance(3)]).await;
    assert_eq!(late[0].registrations.len(), 1);
    let all = [early[0], early[1], r3(&late[0]).hash()];
    assert!(named(&late[0].registrations[0]).are(&all));

    let mut tx = store.begin().await.unwrap();
    let batch: Vec<_> = (4..=70).map(instance).chain([instance(1)]).collect();
    let batch = tx.commit_instances(&batch, &custody(), at(100)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(batch.registrations.len(), 1, "one R4 for the batch");
    assert!(matches!(named(&batch.registrations[0]), Commits::Root(_)), "70 of them");

    let outside = store_instances(&*store, [instance(71)]).await;
    assert!(outside[0].registrations.is_empty(), "not in the manifest");
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.registration_receipt(&uuid(1, 1)).await.unwrap().as_ref(), batch.registrations.first());
}

pub async fn an_instance_of_another_register_is_in_no_r4_of_the_manifest(store: Arc<dyn CentralStore>) {
    let mut private = instance(1);
    private.stored_under.register = "3".into();
    let mut else_where = instance(2);
    else_where.patient = other_patient();
    store_instances(&*store, [private, else_where]).await;
    let registered = Case::manifest(1, 1..=4).commit(&*store).await;
    assert!(named(&registered.receipts[0]).are(&[]));
    let mut late = instance(3);
    late.stored_under.register = "3".into();
    assert!(store_instances(&*store, [late]).await[0].registrations.is_empty());
}

pub async fn the_receipts_are_one_verifiable_chain_with_rising_ids(store: Arc<dyn CentralStore>) {
    store_instances(&*store, (1..=5).map(instance)).await;
    Case::manifest(1, 1..=9).commit(&*store).await;
    // A clock that went back does not break the order.
    let mut tx = store.begin().await.unwrap();
    tx.commit_instances(&[instance(6)], &custody(), at(-5000)).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.read().await.unwrap();
    let log = tx.receipt_log(&Operator::of_tests(), &holder(), None, 100).await.unwrap();
    assert_eq!(log.iter().map(|receipt| receipt.receipt().kind()).filter(|kind| *kind == Kind::Registration).count(), 2);
    assert!(log.windows(2).all(|pair| pair[0].receipt().id < pair[1].receipt().id));
    let mut walk = LogWalk::new(verifier(), None);
    log.iter().for_each(|receipt| walk.push(receipt));
    assert_eq!(walk.finish(log.last().map(Carried::hash)), []);
    let rest = tx.receipt_log(&Operator::of_tests(), &holder(), Some(log[3].receipt().id), 2).await.unwrap();
    assert_eq!(rest, log[4..6]);
}

pub async fn receipts_of_a_study_stand_under_their_units(store: Arc<dyn CentralStore>) {
    let mut private = instance(2);
    private.stored_under.register = "3".into();
    store_instances(&*store, [instance(1), private]).await;
    Case::manifest(1, [1]).commit(&*store).await;
    let mut tx = store.begin().await.unwrap();
    tx.issue(&custody(), at(9), Statement::Key { new_key: [9; 32] }).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.read().await.unwrap();
    let (found, more) = tx.receipts_found(STUDY, None, 10).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|(unit, receipt)| (unit.register.as_str(), receipt.receipt().kind())).collect();
    assert_eq!((kinds, more), (vec![("2", Kind::Commit), ("3", Kind::Commit), ("2", Kind::Registration)], None));
    assert!(tx.receipts_found("1.2.3", None, 10).await.unwrap().0.is_empty());
    let keys = tx.key_records(&holder()).await.unwrap();
    assert_eq!(keys.iter().map(|receipt| receipt.receipt().kind()).collect::<Vec<_>>(), [Kind::Key]);
}

pub async fn the_pages_of_a_study_s_receipts_are_all_of_them_once_and_in_order(store: Arc<dyn CentralStore>) {
    store_instances(&*store, (1..=5).map(instance)).await;
    Case::manifest(1, 1..=5).commit(&*store).await;
    store_instances(&*store, [instance(6)]).await;
    let mut tx = store.read().await.unwrap();
    let (all, _) = tx.receipts_found(STUDY, None, 100).await.unwrap();
    assert!(all.len() == 7 && all.windows(2).all(|pair| pair[0].1.receipt().id < pair[1].1.receipt().id));
    for limit in 1..=8 {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = tx.receipts_found(STUDY, after, limit).await.unwrap();
            assert!((1..=limit).contains(&page.len()), "{limit}");
            assert_eq!(more.is_some(), pages.len() + page.len() < all.len(), "{limit}");
            pages.extend(page.into_iter().map(|(_, receipt)| receipt));
            after = more;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, all.iter().map(|(_, receipt)| receipt.clone()).collect::<Vec<_>>(), "{limit}");
    }
}

pub async fn references_without_instance_are_found(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    Case::manifest(1, 1..=3).commit(&*store).await;
    let mut tx = store.read().await.unwrap();
    for study in [None, Some(STUDY)] {
        let missing = tx.missing_references(study, 10).await.unwrap();
        assert_eq!(missing.iter().map(|missing| missing.sop_instance_uid.clone()).collect::<Vec<_>>(), [uid(2), uid(3)]);
        assert_eq!(missing[0].document_unique_id, entry(1).unique_id);
    }
    assert!(tx.missing_references(Some("1.2.3"), 10).await.unwrap().is_empty());
    drop(tx);
    let replacement = Case::manifest(2, [1]).with(association(2, RPLC, &uuid(1, 2), &uuid(1, 1)));
    replacement.commit(&*store).await;
    let mut tx = store.read().await.unwrap();
    assert!(tx.missing_references(None, 10).await.unwrap().is_empty(), "a replaced manifest asks for nothing");
}

pub async fn bytes_that_no_row_names_are_found(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    let registered = Case::manifest(1, [1]);
    registered.commit(&*store).await;
    let document = registered.documents[0].object_key.clone();
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.unreferenced(&[key(77), key(1), document, key(78)]).await.unwrap(), [key(77), key(78)]);
}

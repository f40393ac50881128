//! What must count once.

use super::super::committer::Committer;
use super::super::instances::Arrival;
use super::super::messages::{Claim, Lease, MessageKey, Presentation, Presented};
use super::super::query::DocumentFilter;
use super::super::{CentralStore, StoreError};
use super::fixtures::*;
use crate::control::Operator;
use idr_profile::receipt::{Carried, LogWalk};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

const RETENTION: SignedDuration = SignedDuration::from_secs(86_400);

fn presentation(n: u64, certificate: &str, keep_until: Timestamp) -> Presentation {
    Presentation { key: format!("{n:064x}"), certificate_sha256: certificate.into(), keep_until }
}

async fn present(store: &dyn CentralStore, presentation: &Presentation, capacity: u64) -> Result<Presented, StoreError> {
    let mut tx = store.begin().await.unwrap();
    let presented = tx.present_assertion(presentation, capacity).await?;
    tx.commit().await.unwrap();
    Ok(presented)
}

fn message(n: u64) -> MessageKey {
    MessageKey { organisation: SITE.into(), message_id: uuid(9, n) }
}

fn lease(n: u128, until: Timestamp) -> Lease {
    Lease { token: Uuid::from_u128(n), until }
}

async fn claim(store: &dyn CentralStore, n: u64, fingerprint: &str, lease: &Lease, now: Timestamp) -> Claim {
    let mut tx = store.begin().await.unwrap();
    let claim = tx.claim_message(&message(n), fingerprint, lease, RETENTION, now).await.unwrap();
    tx.commit().await.unwrap();
    claim
}

async fn finish(store: &dyn CentralStore, n: u64, lease: &Lease, now: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.begin().await.unwrap();
    tx.finish_message(&message(n), lease, "answer", now).await?;
    tx.commit().await
}

pub async fn of_64_presentations_of_an_assertion_one_is_first(store: Arc<dyn CentralStore>) {
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { present(&*store, &presentation(1, "a", at(300)), 1000).await.unwrap() });
    }
    let seen = tasks.join_all().await;
    assert_eq!(seen.iter().filter(|seen| **seen == Presented::First).count(), 1);
    assert_eq!(seen.iter().filter(|seen| **seen == Presented::Again { same_certificate: true }).count(), 63);
}

pub async fn of_64_equal_submissions_one_registers(store: Arc<dyn CentralStore>) {
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let lease = lease(n, at(600));
            loop {
                match claim(&*store, 1, "f", &lease, at(0)).await {
                    Claim::Mine => break,
                    Claim::Done { same_content, answer } => return (same_content, answer),
                    Claim::Running => tokio::task::yield_now().await,
                }
            }
            let mut tx = store.begin().await.unwrap();
            Case::manifest(1, 1..=3).register(&mut tx).await.unwrap();
            tx.finish_message(&message(1), &lease, "answer", at(0)).await.unwrap();
            tx.commit().await.unwrap();
            (true, "mine".to_owned())
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|(_, answer)| answer == "mine").count(), 1);
    assert_eq!(answers.iter().filter(|(same, answer)| *same && answer == "answer").count(), 63);
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.documents_found(&patient(), &DocumentFilter::default(), 100).await.unwrap().len(), 1);
}

pub async fn of_64_equal_instances_one_is_new(store: Arc<dyn CentralStore>) {
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut new = instance(1);
            new.object_key = key(n);
            store_instances(&*store, [new]).await.remove(0).arrivals.remove(0)
        });
    }
    let arrivals = tasks.join_all().await;
    assert_eq!(arrivals.iter().filter(|arrival| matches!(arrival, Arrival::New { .. })).count(), 1);
    assert_eq!(arrivals.iter().filter(|arrival| matches!(arrival, Arrival::Identical { same_unit: true, receipt: Some(_) })).count(), 63);
    assert_eq!(store.read().await.unwrap().receipt_log(&Operator::of_tests(), &holder(), None, 100).await.unwrap().len(), 1);
}

pub async fn instances_of_many_senders_share_commits_and_keep_their_own_outcomes(store: Arc<dyn CentralStore>) {
    let committer = Committer::start(Arc::clone(&store), custody(), Arc::new(|| at(0)));
    let mut tasks = JoinSet::new();
    for n in 0..100 {
        let committer = committer.clone();
        // 50 instances, each sent twice; the last one names an object that another row has.
        let mut new = instance(n / 2);
        new.object_key = if n == 99 { key(0) } else { key(u128::from(n)) };
        tasks.spawn(async move { (n, committer.commit(new).await) });
    }
    let outcomes = tasks.join_all().await;
    let new = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Ok(Arrival::New { .. }))).count();
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(n, _)| *n).collect();
    assert_eq!(new, 50, "each once");
    assert!(failed.is_empty() || failed == [99], "nobody fails for another: {failed:?}");
    let mut tx = store.read().await.unwrap();
    let log = tx.receipt_log(&Operator::of_tests(), &holder(), None, 1000).await.unwrap();
    assert_eq!(log.len(), 50);
    let mut walk = LogWalk::new(verifier(), None);
    log.iter().for_each(|receipt| walk.push(receipt));
    assert_eq!(walk.finish(log.last().map(Carried::hash)), []);
}

pub async fn an_instance_that_cannot_be_committed_fails_alone(store: Arc<dyn CentralStore>) {
    let committer = Committer::start(Arc::clone(&store), custody(), Arc::new(|| at(0)));
    let mut same_object = instance(2);
    same_object.object_key = key(1);
    let (first, second, third) = tokio::join!(committer.commit(instance(1)), committer.commit(same_object), committer.commit(instance(3)));
    assert!(matches!((first, second, third), (Ok(Arrival::New { .. }), Err(_), Ok(Arrival::New { .. }))));
    assert_eq!(store.read().await.unwrap().receipt_log(&Operator::of_tests(), &holder(), None, 9).await.unwrap().len(), 2);
}

pub async fn an_assertion_is_bound_to_the_certificate_of_its_first_use(store: Arc<dyn CentralStore>) {
    assert_eq!(present(&*store, &presentation(1, "a", at(300)), 9).await.unwrap(), Presented::First);
    assert_eq!(present(&*store, &presentation(1, "a", at(300)), 9).await.unwrap(), Presented::Again { same_certificate: true });
    assert_eq!(present(&*store, &presentation(1, "b", at(300)), 9).await.unwrap(), Presented::Again { same_certificate: false });
    assert_eq!(present(&*store, &presentation(2, "b", at(300)), 9).await.unwrap(), Presented::First);
}

pub async fn a_full_replay_store_takes_nothing_new_and_still_knows_the_old(store: Arc<dyn CentralStore>) {
    for n in 0..3 {
        assert_eq!(present(&*store, &presentation(n, "a", at(n as i64)), 3).await.unwrap(), Presented::First);
    }
    for _ in 0..2 {
        assert!(matches!(present(&*store, &presentation(3, "a", at(9)), 3).await, Err(StoreError::ReplayStoreFull { capacity: 3 })));
    }
    assert_eq!(present(&*store, &presentation(1, "a", at(1)), 3).await.unwrap(), Presented::Again { same_certificate: true });
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.purge_messages(RETENTION, 100, at(1)).await.unwrap(), 1, "one is over");
    tx.commit().await.unwrap();
    assert_eq!(present(&*store, &presentation(3, "a", at(9)), 3).await.unwrap(), Presented::First);
    assert!(matches!(present(&*store, &presentation(4, "a", at(9)), 3).await, Err(StoreError::ReplayStoreFull { .. })));
}

pub async fn a_message_is_done_once_and_its_answer_is_kept_for_its_time(store: Arc<dyn CentralStore>) {
    let first = lease(1, at(600));
    assert_eq!(claim(&*store, 1, "f", &first, at(0)).await, Claim::Mine);
    assert_eq!(claim(&*store, 1, "f", &lease(2, at(700)), at(100)).await, Claim::Running);
    finish(&*store, 1, &first, at(200)).await.unwrap();
    let done = |same_content| Claim::Done { same_content, answer: "answer".into() };
    for now in [at(201), at(200 + 86_399), at(200 + 86_400)] {
        assert_eq!(claim(&*store, 1, "f", &lease(3, at(999_999)), now).await, done(true));
        assert_eq!(claim(&*store, 1, "other", &lease(3, at(999_999)), now).await, done(false));
    }
    assert_eq!(claim(&*store, 1, "other", &lease(4, at(999_999)), at(200 + 86_401)).await, Claim::Mine, "forgotten");
    let foreign = MessageKey { organisation: "1.2.246.10.90000118".into(), ..message(1) };
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.claim_message(&foreign, "x", &lease(5, at(9)), RETENTION, at(0)).await.unwrap(), Claim::Mine, "another sender's key");
}

pub async fn a_message_that_a_dead_process_held_can_be_sent_again_at_once(store: Arc<dyn CentralStore>) {
    let dead = lease(1, at(600));
    assert_eq!(claim(&*store, 1, "f", &dead, at(0)).await, Claim::Mine);
    assert_eq!(claim(&*store, 2, "f", &lease(2, at(600)), at(0)).await, Claim::Mine);
    finish(&*store, 2, &lease(2, at(600)), at(1)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.forget_running_messages().await.unwrap(), 1, "what is done stays");
    tx.commit().await.unwrap();
    assert_eq!(claim(&*store, 1, "f", &lease(3, at(700)), at(2)).await, Claim::Mine);
    assert_eq!(claim(&*store, 2, "f", &lease(4, at(700)), at(2)).await, Claim::Done { same_content: true, answer: "answer".into() });
}

pub async fn a_failed_message_can_be_sent_again(store: Arc<dyn CentralStore>) {
    let first = lease(1, at(600));
    assert_eq!(claim(&*store, 1, "f", &first, at(0)).await, Claim::Mine);
    let mut tx = store.begin().await.unwrap();
    tx.release_message(&message(1), &lease(2, at(600))).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claim(&*store, 1, "f", &lease(3, at(600)), at(1)).await, Claim::Running, "only its owner releases it");
    let mut tx = store.begin().await.unwrap();
    tx.release_message(&message(1), &first).await.unwrap();
    tx.commit().await.unwrap();
    let second = lease(4, at(600));
    assert_eq!(claim(&*store, 1, "other content", &second, at(1)).await, Claim::Mine, "judged afresh");
    finish(&*store, 1, &second, at(2)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.release_message(&message(1), &second).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(claim(&*store, 1, "f", &lease(5, at(600)), at(3)).await, Claim::Done { .. }), "a success stays");
}

pub async fn a_lease_that_is_over_is_taken_over_and_its_first_owner_cannot_finish(store: Arc<dyn CentralStore>) {
    let (slow, fast) = (lease(1, at(600)), lease(2, at(1300)));
    assert_eq!(claim(&*store, 1, "f", &slow, at(0)).await, Claim::Mine);
    assert_eq!(claim(&*store, 1, "f", &fast, at(599)).await, Claim::Running);
    assert_eq!(claim(&*store, 1, "f", &fast, at(600)).await, Claim::Mine);
    let mut tx = store.begin().await.unwrap();
    Case::new(1).register(&mut tx).await.unwrap();
    assert!(matches!(tx.finish_message(&message(1), &slow, "answer", at(601)).await, Err(StoreError::LeaseLost)));
    drop(tx);
    finish(&*store, 1, &fast, at(602)).await.unwrap();
    assert!(matches!(finish(&*store, 1, &fast, at(603)).await, Err(StoreError::LeaseLost)), "done is done");
    let mut tx = store.read().await.unwrap();
    assert!(tx.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().is_empty(), "the slow one's work is gone");
}

pub async fn purging_takes_what_is_over_and_no_patient_data(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    Case::manifest(1, [1]).commit(&*store).await;
    let owner = lease(1, at(600));
    assert_eq!(claim(&*store, 1, "f", &owner, at(0)).await, Claim::Mine);
    finish(&*store, 1, &owner, at(0)).await.unwrap();
    assert_eq!(claim(&*store, 2, "f", &owner, at(0)).await, Claim::Mine);
    present(&*store, &presentation(1, "a", at(300)), 9).await.unwrap();
    let purge = async |now| {
        let mut tx = store.begin().await.unwrap();
        let purged = tx.purge_messages(RETENTION, 100, now).await.unwrap();
        tx.commit().await.unwrap();
        purged
    };
    assert_eq!(purge(at(300)).await, 0);
    assert_eq!(purge(at(301)).await, 1, "the assertion");
    assert_eq!(purge(at(86_401)).await, 1, "the answer");
    assert_eq!(purge(at(10_000_000)).await, 1, "a lease that nobody ended");
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
    assert!(tx.instance(&uid(1)).await.unwrap().is_some());
    assert_eq!(tx.receipt_log(&Operator::of_tests(), &holder(), None, 9).await.unwrap().len(), 2);
}

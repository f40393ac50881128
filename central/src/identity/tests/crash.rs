//! All or nothing, and many at once.

use std::sync::Arc;

use super::super::merging::{self, Told};
use super::*;
use crate::testing::Instance;
use futures::future::join_all;

/// What is known of a patient: head, ids, denials and consent, and whether the image is under it.
async fn picture(world: &World, ids: &[PatientId]) -> Vec<String> {
    let mut lines = Vec::new();
    for id in ids {
        let state = world.state(id).await;
        lines.push(format!("{} {} {}", world.head(id).await, health(&state), state.denials.len()));
    }
    lines
}

/// I14: the n-th statement of a merge fails, for every n. (Kills of the program: scenario `adt`.)
#[tokio::test]
async fn i14_a_merge_that_ends_anywhere_leaves_nothing() {
    let world = World::new().await;
    let (t, h) = (temporary(1), hetu(H1));
    world.stored_under(&t, &[Instance::ct(1).of(&t)]).await;
    world.consent(&t).await;
    world.done(&[person("A28", "1", &h)]).await;
    let before = picture(&world, &[t.clone(), h.clone()]).await;
    for statements in 0..200 {
        let mut tx = world.central.store.begin().await.expect("a store");
        tx.fail_after(statements);
        let told = Told { kind: "A40", by: "HIS|A", message: Some("2"), source: None };
        let done = merging::merge(&world.central, &mut tx, told, &t, &h).await;
        if done.is_ok() {
            assert!(statements > 20, "a merge has more than {statements} statements");
            tx.commit().await.expect("committed");
            assert_eq!(picture(&world, &[t, h]).await, [format!("{H1} active 0"), format!("{H1} active 0")]);
            return;
        }
        drop(tx);
        assert_eq!(picture(&world, &[t.clone(), h.clone()]).await, before, "after {statements} statements");
    }
    panic!("the merge never ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i29_crossing_merges_of_many_senders_end_in_a_serial_order() {
    let world = Arc::new(World::new().await);
    let ids: Vec<PatientId> = (0..8).map(temporary).collect();
    for (n, id) in ids.iter().enumerate() {
        world.done(&[person("A28", &format!("first-{n}"), id)]).await;
    }
    let senders = (0..64_usize).map(|n| {
        let (world, a, b) = (world.clone(), ids[n % 8].clone(), ids[(n * 3 + 1) % 8].clone());
        tokio::spawn(async move { if a == b { "AA".to_owned() } else { world.tell(merge(&format!("m-{n}"), &a, &b)).await } })
    });
    let answers: Vec<String> = join_all(senders).await.into_iter().map(|answer| answer.expect("no panic")).collect();
    for answer in &answers {
        assert!(matches!(answer.as_str(), "AA" | "AE IDR-H-15"), "{answer}");
    }
    // Whatever the order: every merge of the journal made two patients one, and every id names one that is its own head.
    let (mut heads, mut merges) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    let mut tx = world.central.store.read().await.expect("a store");
    for id in &ids {
        let patient = tx.patient(id).await.expect("readable").expect("known");
        assert_eq!(tx.patient_key(&patient.ids[0]).await.expect("readable").as_ref(), Some(&patient.key));
        heads.insert(patient.key.clone());
        merges.extend(tx.merges_of(&patient.key, 100).await.expect("readable").into_iter().map(|merge| merge.id));
    }
    // Merges among those that went on later are journalled under them.
    assert!(heads.len() < ids.len() && merges.len() <= ids.len() - heads.len(), "{} heads, {} merges", heads.len(), merges.len());
}

//! Local copies are given up when the centre is proven to hold them, and not before; what comes later finds them described.

use std::time::Duration;

use idr_profile::receipt::{Carried, Commits, Ground, ReferenceFault, Statement, check_references};
use jiff::{SignedDuration, Timestamp};

use super::centre;
use super::rig::{Rig, sop, study};
use crate::config;
use crate::forward::clock::Clock as _;
use crate::forward::reconcile::agreed::AGREED;
use crate::retention::Retention;
use crate::retention::proof::{Stays, grounds};
use crate::spool::sample::tenant;
use crate::spool::{Entry, Spool as _, SpoolError, State};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const RETENTION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Everything that may go goes.
const NOTHING_STAYS: config::Cache = config::Cache { release: true, bytes_max: 0, retention_days: 30, require_reconciliation: false };

pub(super) fn retention_with(rig: &Rig, settings: config::Cache) -> Retention {
    let (keys, clock) = (centre::keys(), rig.clock.clone());
    let verifies = Box::new(move |carried: &Carried| keys.verify(carried).is_ok());
    let now = Box::new(move || clock.now());
    Retention::new(settings, rig.fused(), rig.receipts.clone(), verifies, vec![tenant()], now)
}

fn retention(rig: &Rig) -> Retention {
    retention_with(rig, NOTHING_STAYS)
}

/// Three instances of a study and two of another, registered.
async fn registered() -> Rig {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..3).await;
    rig.run(&forward, MINUTE, SECOND).await;
    rig.receive(2, 0..2).await;
    rig.run(&forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 5)]), "{:?}", rig.spool_totals());
    rig
}

async fn members(rig: &Rig, of_study: u64) -> Vec<Entry> {
    rig.spool.members(&tenant(), &study(of_study), None, 100).await.expect("readable")
}

fn releases(rig: &Rig, of_study: u64) -> Vec<Carried> {
    let all = rig.receipts.of_study(&study(of_study)).expect("readable");
    all.into_iter().filter(|carried| matches!(carried.receipt().statement, Statement::Release { .. })).collect()
}

#[tokio::test]
async fn what_is_too_much_goes_after_its_time_the_oldest_study_first_with_one_r5_each() {
    let rig = registered().await;
    let two = members(&rig, 2).await.iter().map(|entry| entry.record.size_bytes).sum();
    let retention = retention_with(&rig, config::Cache { bytes_max: two, ..NOTHING_STAYS });
    retention.round(&tenant()).await.expect("works");
    assert!(rig.counts(&[("registered", 5)]), "their time has not passed");
    rig.clock.advance(31 * DAY);
    retention.round(&tenant()).await.expect("works");
    assert!(rig.counts(&[("released", 3), ("registered", 2)]), "{:?}", rig.spool_totals());
    assert_eq!((retention.bytes(), retention.released_objects.value()), (two, 3));
    for entry in members(&rig, 1).await {
        assert!(matches!(rig.spool.read(entry.id()).await.err(), Some(SpoolError::Unknown(_))), "its bytes are gone");
        assert!(rig.spool.kept_header(entry.id()).await.expect("readable").is_some(), "what describes it is not");
    }
    let all = rig.receipts.of_study(&study(1)).expect("readable");
    assert_eq!((releases(&rig, 1).len(), releases(&rig, 2).len()), (3, 0));
    assert_eq!(check_references(&all), [], "each names an R3 and an R4 that are here and speak of it");
    retention.round(&tenant()).await.expect("works");
    assert_eq!(releases(&rig, 1).len(), 3);
}

#[tokio::test]
async fn a_late_image_of_a_released_study_is_registered_with_all_that_was_released() {
    let rig = registered().await;
    rig.clock.advance(31 * DAY);
    assert_eq!(retention(&rig).release(&tenant(), &study(1)).await.expect("works"), Ok(3));
    let before = rig.centre.current(&study(1)).remove(0);
    rig.receive(1, [3]).await;
    let forward = rig.forward();
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    assert!(rig.counts(&[("released", 3), ("registered", 3)]), "{:?}", rig.spool_totals());
    let current = rig.centre.current(&study(1));
    assert_eq!(current.len(), 1);
    assert_eq!((current[0].members.len(), current[0].replaces.as_ref()), (4, Some(&before.entry_uuid)), "one manifest of all four");
    assert!(rig.registered_documents(1).contains(&current[0].unique_id), "with its R4");
    // The image itself goes after its own time, and the others do not go twice.
    assert_eq!(retention(&rig).release(&tenant(), &study(1)).await.expect("works"), Err(Stays::Recent));
    rig.clock.advance(31 * DAY);
    assert_eq!(retention(&rig).release(&tenant(), &study(1)).await.expect("works"), Ok(1));
    assert_eq!((releases(&rig, 1).len(), retention(&rig).release(&tenant(), &study(1)).await.expect("works")), (4, Err(Stays::Gone)));
}

#[tokio::test]
async fn what_comes_again_after_its_release_is_held_sent_and_released_again_with_an_r5_of_its_own() {
    let rig = registered().await;
    rig.clock.advance(31 * DAY);
    assert_eq!(retention(&rig).release(&tenant(), &study(2)).await.expect("works"), Ok(2));
    rig.receive(2, [0]).await;
    let forward = rig.forward();
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    assert!(rig.counts(&[("released", 2), ("registered", 4)]), "{:?}", rig.spool_totals());
    rig.clock.advance(31 * DAY);
    assert_eq!(retention(&rig).release(&tenant(), &study(2)).await.expect("works"), Ok(1));
    assert_eq!((releases(&rig, 2).len(), rig.receipts_of(2)[0]), (3, 2), "three copies went, of two hand-overs with an R1");
}

#[tokio::test]
async fn a_study_stays_for_anything_that_is_missing_of_its_proof() {
    let rig = registered().await;
    rig.clock.advance(31 * DAY);
    let (members, now) = (members(&rig, 1).await, rig.clock.now());
    let notes = rig.spool.study(&tenant(), &study(1)).await.expect("readable").expect("here").notes;
    let known = rig.receipts.of_study(&study(1)).expect("readable");
    let keys = centre::keys();
    let judge = |members: &[Entry], known: &[Carried], now: Timestamp| {
        grounds(members, &notes, known, |carried| keys.verify(carried).is_ok(), RETENTION, now).map(|grounds| grounds.len())
    };
    assert_eq!(judge(&members, &known, now), Ok(3));
    let registered = members.iter().map(|entry| entry.progress.since).max().expect("some");
    assert_eq!(judge(&members, &known, registered + RETENTION), Ok(3), "its last second");
    assert_eq!(judge(&members, &known, registered + RETENTION - SignedDuration::from_millis(1)), Err(Stays::Recent));
    assert_eq!(judge(&members, &known, registered - SignedDuration::from_hours(24)), Err(Stays::Recent), "a clock that was set back");

    // Each receipt of the centre, one by one.
    for (at, carried) in known.iter().enumerate() {
        let without: Vec<Carried> =
            known.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, carried)| carried.clone()).collect();
        match carried.receipt().statement {
            Statement::Commit { .. } => assert!(matches!(judge(&members, &without, now), Err(Stays::NoCommit(_)))),
            Statement::Registration { .. } => assert!(matches!(judge(&members, &without, now), Err(Stays::NoRegistration(_)))),
            _ => assert_eq!(judge(&members, &without, now), Ok(3), "R1 and R2 are our own word"),
        }
    }
    let others = rig.receipts.of_study(&study(2)).expect("readable");
    assert!(matches!(judge(&members, &others, now), Err(Stays::NoCommit(_))), "of another study");
    let not_signed = grounds(&members, &notes, &known, |_| false, RETENTION, now);
    assert!(matches!(not_signed, Err(Stays::NoCommit(_))), "by a key that is not the centre's");

    // An R3 of other bytes, and an instance in any other state.
    let mut other_bytes = members.clone();
    other_bytes[1].record.digest = members[0].record.digest;
    assert_eq!(judge(&other_bytes, &known, now), Err(Stays::NoCommit(members[1].id())));
    other_bytes[1] = members[1].clone();
    other_bytes[1].record.size_bytes += 1;
    assert_eq!(judge(&other_bytes, &known, now), Err(Stays::NoCommit(members[1].id())));
    for state in ["queued", "sent", "committed", "held(incomplete)", "quarantined(D701)", "rejected", "superseded"] {
        let mut changed = members.clone();
        changed[2].progress.state = state.parse().expect("a state");
        assert_eq!(judge(&changed, &known, now), Err(Stays::NotRegistered(members[2].id())), "{state}");
    }
    for note in crate::retention::proof::OPEN_NOTES {
        rig.set_note(1, note, Some("something".to_owned())).await;
        let stays = retention(&rig).release(&tenant(), &study(1)).await.expect("works");
        assert_eq!(stays, Err(Stays::Open(note.to_owned())));
        rig.set_note(1, note, None).await;
    }
    assert!(rig.counts(&[("registered", 5)]) && releases(&rig, 1).is_empty());
}

#[tokio::test]
async fn an_r4_by_root_must_be_over_all_r3_of_the_manifest() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..70).await;
    rig.run(&forward, MINUTE, SECOND).await;
    rig.clock.advance(31 * DAY);
    let known = rig.receipts.of_study(&study(1)).expect("readable");
    let root = |carried: &&Carried| matches!(&carried.receipt().statement, Statement::Registration { commits: Commits::Root(_), .. });
    assert_eq!(known.iter().filter(root).count(), 1);
    let members = members(&rig, 1).await;
    let (keys, notes) = (centre::keys(), std::collections::BTreeMap::new());
    let judge = |members: &[Entry]| grounds(members, &notes, &known, |carried| keys.verify(carried).is_ok(), RETENTION, rig.clock.now());
    assert!(matches!(judge(&members[1..]), Err(Stays::NoRegistration(_))), "it speaks of more than these");
    let grounds = judge(&members).expect("proven");
    assert!(grounds.len() == 70 && grounds.values().all(|ground| matches!(ground, Ground::Receipts { .. })));
    assert_eq!(retention(&rig).release(&tenant(), &study(1)).await.expect("works"), Ok(70));
    let faults = check_references(&rig.receipts.of_study(&study(1)).expect("readable"));
    assert!(!faults.iter().any(ReferenceFault::is_proof), "{faults:?}");
}

#[tokio::test]
async fn as_shipped_only_what_was_reconciled_after_its_registration_goes() {
    let rig = registered().await;
    let registered = members(&rig, 1).await.iter().map(|entry| entry.progress.since).max().expect("some");
    rig.clock.advance(31 * DAY);
    let shipped = config::Cache { release: true, bytes_max: 0, ..config::Cache::default() };
    let retention = retention_with(&rig, shipped);
    let stays = Err(Stays::NotReconciled);
    assert_eq!(retention.release(&tenant(), &study(1)).await.expect("works"), stays);
    for (note, goes) in [
        ("yesterday".to_owned(), stays.clone()),
        ((registered - SignedDuration::from_millis(1)).to_string(), stays),
        (registered.to_string(), Ok(3)),
    ] {
        rig.set_note(1, AGREED, Some(note.clone())).await;
        assert_eq!(retention.release(&tenant(), &study(1)).await.expect("works"), goes, "agreed since {note}");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_release_loses_nothing_and_says_each_r5_once() {
    for step in 1.. {
        let rig = registered().await;
        rig.clock.advance(31 * DAY);
        rig.centre.fuse.set(step);
        let blown = rig.centre.fuse.blown.lock().expect("no panic while held").clone();
        let (first, whose, of_study) = (retention(&rig), tenant(), study(1));
        let crashed = tokio::select! {
            biased;
            () = blown.cancelled() => true,
            released = first.release(&whose, &of_study) => {
                assert_eq!(released.expect("works"), Ok(3));
                false
            }
        };
        rig.centre.fuse.set(i64::MAX);
        // What is not released has its bytes; what is, its R5 and its header.
        for entry in members(&rig, 1).await {
            match entry.progress.state {
                State::Released => assert!(
                    releases(&rig, 1).len() == 3 && rig.spool.kept_header(entry.id()).await.expect("readable").is_some(),
                    "step {step}"
                ),
                _ => assert!(rig.spool.read(entry.id()).await.is_ok(), "step {step}"),
            }
        }
        let again = retention(&rig).release(&tenant(), &study(1)).await.expect("works");
        assert!(matches!(again, Ok(3) | Err(Stays::Gone)), "step {step}: {again:?}");
        assert_eq!(releases(&rig, 1).len(), 3, "step {step}");
        assert!(rig.counts(&[("released", 3), ("registered", 2)]), "step {step}");
        assert!((0..3).all(|instance| rig.centre.has(&sop(1, instance))));
        if !crashed {
            assert!(step > 7, "{step} steps");
            return;
        }
    }
}

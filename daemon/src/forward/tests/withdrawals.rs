//! Withdrawals: of a study that was rejected or superseded as a whole no entry stays Approved, and what comes later is shown again.

use std::time::Duration;

use idr_profile::outcome::Event;

use super::centre::{Call, Fate};
use super::rig::{Rig, sop, study};
use crate::forward::Forward;
use crate::forward::peer::Failure;
use crate::spool::sample::tenant;
use crate::spool::{Move, Progress, Spool as _, State};

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

async fn published(instances: u64) -> (Rig, Forward) {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..instances).await;
    rig.settle(&forward).await;
    assert_eq!(rig.centre.current(&study(1)).len(), 1);
    (rig, forward)
}

async fn supersede(rig: &Rig, instances: impl IntoIterator<Item = u64>) {
    for instance in instances {
        let entry = rig.entry(1, instance).await;
        let to = Progress { state: State::Superseded, ..entry.progress.clone() };
        rig.spool.advance(vec![Move { id: entry.id(), to }]).await.expect("moved");
    }
}

#[tokio::test]
async fn a_study_rejected_as_a_whole_is_withdrawn_at_once_and_once_its_note_is_at_the_centre() {
    let (rig, forward) = published(2).await;
    rig.centre.script(Call::Store, [Fate::Status(503, Some("30"))]);
    rig.reject(1, 9, &[0, 1]).await;
    rig.run(&forward, 20 * SECOND, SECOND).await;
    assert_eq!((rig.centre.has(&sop(1, 9)), rig.centre.calls(Call::Withdraw).len()), (false, 0), "not before the note");
    rig.run(&forward, HOUR, SECOND).await;
    assert!(rig.centre.has(&sop(1, 9)), "the note is forwarded");
    assert_eq!((rig.centre.current(&study(1)).len(), rig.centre.calls(Call::Withdraw).len()), (0, 1));
    assert_eq!((rig.note(1, "published").await, rig.note(1, "pending").await), (None, None));
    // Nothing more, also after a restart.
    let forward = rig.forward();
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert_eq!((rig.centre.calls(Call::Withdraw).len(), rig.centre.calls(Call::Register).len()), (1, 1));
}

#[tokio::test]
async fn what_comes_after_a_withdrawal_is_a_first_manifest_again() {
    let (rig, forward) = published(2).await;
    rig.reject(1, 9, &[0, 1]).await;
    rig.run(&forward, HOUR, SECOND).await;
    rig.receive(1, [2]).await;
    rig.run(&forward, HOUR, SECOND).await;
    let current = rig.centre.current(&study(1));
    assert_eq!(
        current.iter().map(|entry| (entry.replaces.as_deref(), entry.members.clone())).collect::<Vec<_>>(),
        [(None, vec![sop(1, 2)])]
    );
}

#[tokio::test]
async fn a_note_on_some_instances_replaces_the_manifest() {
    let (rig, forward) = published(3).await;
    let first = rig.centre.current(&study(1)).remove(0);
    rig.reject(1, 9, &[1]).await;
    rig.run(&forward, HOUR, SECOND).await;
    let current = rig.centre.current(&study(1));
    assert_eq!(current.len(), 1);
    assert_eq!(current[0].replaces.as_deref(), Some(first.entry_uuid.as_str()));
    assert_eq!(current[0].members, [sop(1, 0), sop(1, 2)], "neither what was rejected nor the note");
    assert!(rig.centre.calls(Call::Withdraw).is_empty());
}

#[tokio::test]
async fn a_withdrawal_whose_answer_was_lost_is_looked_for_and_one_that_did_not_arrive_is_sent_again() {
    let lost = Failure::Event(Event::HttpTimeout);
    let conflict = Fate::Code("XDSMetadataVersionError");
    for (fate, calls) in [(Fate::Unheard(lost), 1), (Fate::Lost(lost), 2), (Fate::Status(503, Some("5")), 2), (conflict, 2)] {
        let (rig, forward) = published(2).await;
        rig.centre.script(Call::Withdraw, [fate]);
        rig.reject(1, 9, &[0, 1]).await;
        rig.run(&forward, HOUR, SECOND).await;
        assert_eq!((rig.centre.current(&study(1)).len(), rig.centre.calls(Call::Withdraw).len()), (0, calls), "{fate:?}");
        assert_eq!((rig.note(1, "published").await, rig.note(1, "pending").await), (None, None), "{fate:?}");
    }
}

#[tokio::test]
async fn a_centre_without_the_transaction_holds_the_withdrawal_alone_until_an_operator_releases_it() {
    let (rig, forward) = published(2).await;
    rig.centre.script(Call::Withdraw, [Fate::NotSupported]);
    rig.reject(1, 9, &[0, 1]).await;
    rig.settle(&forward).await;
    // The breaker is not told: another study is registered in the same moment.
    rig.receive(2, 0..2).await;
    rig.settle(&forward).await;
    assert_eq!(rig.centre.current(&study(2)).len(), 1);
    let held = forward.held_manifests().await.expect("readable");
    assert_eq!(held.iter().map(|(study, row)| (study.study_uid.clone(), row.as_str())).collect::<Vec<_>>(), [(study(1), "F-WSA-ACT")]);
    let forward = rig.forward();
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert_eq!(rig.centre.calls(Call::Withdraw).len(), 1, "it waits");
    assert!(forward.release(&study(1)).await.expect("released") > 0);
    rig.settle(&forward).await;
    assert_eq!((rig.centre.calls(Call::Withdraw).len(), rig.centre.current(&study(1)).len()), (2, 0));
}

#[tokio::test]
async fn an_entry_that_somebody_withdrew_at_the_centre_is_withdrawn() {
    let (rig, forward) = published(2).await;
    let entry = rig.centre.current(&study(1)).remove(0);
    rig.centre.change(&entry.unique_id, |entry| entry.approved = false);
    rig.reject(1, 9, &[0, 1]).await;
    rig.run(&forward, HOUR, SECOND).await;
    assert_eq!((rig.note(1, "published").await, rig.note(1, "pending").await, rig.note(1, "hold").await.as_deref()), (None, None, None));
}

#[tokio::test]
async fn what_only_waits_again_is_not_withdrawn() {
    let (rig, forward) = published(2).await;
    for instance in 0..2 {
        let entry = rig.entry(1, instance).await;
        let to = Progress { state: "held(EV-RECEIPT)".parse().expect("a state"), ..entry.progress.clone() };
        rig.spool.advance(vec![Move { id: entry.id(), to }]).await.expect("moved");
    }
    rig.receive(1, [2]).await;
    let late = rig.entry(1, 2).await;
    let to = Progress { unlisted: true, ..late.progress.clone() };
    rig.spool.advance(vec![Move { id: late.id(), to }]).await.expect("moved");
    rig.run(&forward, 2 * HOUR, Duration::from_secs(10)).await;
    assert!(rig.centre.calls(Call::Withdraw).is_empty());
    assert_eq!(rig.centre.current(&study(1)).len(), 1);
}

#[tokio::test]
async fn nothing_of_a_study_in_correction_is_published_or_withdrawn_before_the_correction_is_whole() {
    let (rig, forward) = published(2).await;
    rig.receive(1, [2]).await;
    rig.reject(1, 9, &[0, 1]).await;
    let note_becomes = async |state: &str| {
        let note = rig.entry(1, 9).await;
        let to = Progress { state: state.parse().expect("a state"), ..note.progress.clone() };
        rig.spool.advance(vec![Move { id: note.id(), to }]).await.expect("moved");
    };
    note_becomes("quarantined(rejection-note)").await;
    supersede(&rig, 0..2).await;
    rig.run(&forward, 3 * HOUR, Duration::from_secs(10)).await;
    assert!(rig.centre.has(&sop(1, 2)), "the successor is at the centre");
    assert_eq!((rig.centre.calls(Call::Withdraw).len(), rig.centre.calls(Call::Register).len()), (0, 1));
    note_becomes("queued").await;
    rig.run(&forward, HOUR, SECOND).await;
    assert_eq!(rig.centre.current(&study(1)).iter().map(|entry| entry.members.clone()).collect::<Vec<_>>(), [[sop(1, 2)]]);
    assert_eq!(rig.centre.calls(Call::Register).len(), 2, "one revision");
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_withdrawal_ends_withdrawn() {
    let mut step = 1;
    loop {
        let (rig, forward) = published(2).await;
        rig.reject(1, 9, &[0, 1]).await;
        rig.centre.fuse.set(step);
        let blown = rig.centre.fuse.blown.lock().expect("no panic while held").clone();
        let crashed = tokio::select! {
            biased;
            () = blown.cancelled() => true,
            () = rig.settle(&forward) => false,
        };
        drop(forward);
        rig.centre.fuse.set(i64::MAX);
        let forward = rig.forward();
        rig.run(&forward, HOUR / 2, Duration::from_secs(10)).await;
        assert_eq!((rig.centre.entries(&study(1)).len(), rig.centre.current(&study(1)).len()), (1, 0), "step {step}");
        assert_eq!((rig.note(1, "published").await, rig.note(1, "pending").await), (None, None), "step {step}");
        assert_eq!(rig.spool.study(&tenant(), &study(1)).await.expect("readable").expect("here").states["registered"].objects, 2);
        if !crashed {
            break;
        }
        step += 1;
    }
    assert!(step > 10, "{step} steps: the story has become short");
}

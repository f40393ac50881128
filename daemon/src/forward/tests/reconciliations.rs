//! What a reconciliation finds of each study is kept, and decides about its local copies.

use std::time::Duration;

use idr_profile::receipt::reconcile::Found;
use jiff::{SignedDuration, Timestamp};

use super::centre::{Call, Fate};
use super::releases::retention_with;
use super::rig::{Rig, sop, study};
use crate::config;
use crate::forward::Forward;
use crate::forward::clock::Clock as _;
use crate::forward::reconcile::agreed::AGREED;
use crate::forward::reconcile::{Findings, Which};
use crate::retention::proof::Stays;
use crate::spool::sample::tenant;
use idr_profile::outcome::Event;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// As shipped, but that everything that may go goes, after so many days.
async fn release_after(rig: &Rig, retention_days: u32, of_study: u64) -> Result<usize, Stays> {
    let settings = config::Cache { release: true, bytes_max: 0, retention_days, ..config::Cache::default() };
    retention_with(rig, settings).release(&tenant(), &study(of_study)).await.expect("works")
}

async fn release(rig: &Rig, of_study: u64) -> Result<usize, Stays> {
    release_after(rig, 30, of_study).await
}

/// Asks about what came in the last seven days.
async fn reconcile(rig: &Rig, forward: &Forward, repair: bool) -> anyhow::Result<Findings> {
    let since = rig.clock.now() - SignedDuration::from_hours(7 * 24);
    let mut found = Findings::default();
    forward.reconcile(Which::Open(since), repair, &rig.folder().join("reconcile"), &mut found).await.map(|()| found)
}

/// Studies of three and of two instances, registered.
async fn registered(rig: &Rig, forward: &Forward) {
    rig.receive(1, 0..3).await;
    rig.receive(2, 0..2).await;
    rig.run(forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 5)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn what_is_found_whole_goes_after_its_time_and_what_the_centre_lost_stays() {
    let rig = Rig::new();
    let forward = rig.forward();
    registered(&rig, &forward).await;
    let found = reconcile(&rig, &forward, true).await.expect("answered");
    assert_eq!((found.studies, found.equal, found.to_repair()), (2, 2, 0));
    let first = rig.note(1, AGREED).await.expect("noted");
    rig.clock.advance(DAY);
    reconcile(&rig, &forward, true).await.expect("answered");
    assert_eq!(rig.note(1, AGREED).await, Some(first), "what stands there is not written again");

    rig.centre.lose(&sop(1, 1));
    let found = reconcile(&rig, &forward, false).await.expect("answered");
    assert_eq!((found.equal, found.missing, found.queued), (1, 1, 0));
    assert_eq!((&found.differences[0].sop_instance_uid, found.differences[0].what), (&sop(1, 1), Found::Missing));
    assert_eq!(rig.note(1, AGREED).await, None, "it is taken back");
    rig.clock.advance(31 * DAY);
    assert_eq!(release(&rig, 1).await, Err(Stays::NotReconciled));
    assert_eq!(release(&rig, 2).await, Ok(2));

    // It came long ago, and is asked about until it is whole.
    let found = reconcile(&rig, &forward, true).await.expect("answered");
    assert_eq!((found.studies, found.missing, found.queued), (1, 1, 1));
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    assert!(rig.counts(&[("registered", 3), ("released", 2)]) && rig.centre.has(&sop(1, 1)), "{:?}", rig.spool_totals());
    assert_eq!(release(&rig, 1).await, Err(Stays::Recent), "the one that was sent again");
    rig.clock.advance(31 * DAY);
    assert_eq!(release(&rig, 1).await, Err(Stays::NotReconciled));
    assert_eq!(reconcile(&rig, &forward, true).await.expect("answered").equal, 1);
    assert_eq!(release(&rig, 1).await, Ok(3));
}

#[tokio::test]
async fn an_answer_that_is_none_says_nothing_about_any_study() {
    let rig = Rig::new();
    let forward = rig.forward();
    registered(&rig, &forward).await;
    for fate in [Fate::Lost(Event::ConnectTimeout.into()), Fate::Status(503, None), Fate::Status(200, None)] {
        rig.centre.script(Call::Reconcile, [fate]);
        reconcile(&rig, &forward, true).await.expect_err("no answer");
        assert_eq!((rig.note(1, AGREED).await, rig.note(2, AGREED).await), (None, None), "{fate:?}");
    }
    assert!(rig.counts(&[("registered", 5)]), "and nothing is sent for it");
}

#[tokio::test]
async fn a_late_image_is_compared_before_its_study_goes() {
    let rig = Rig::new();
    let forward = rig.forward();
    registered(&rig, &forward).await;
    reconcile(&rig, &forward, true).await.expect("answered");
    let before: Timestamp = rig.note(1, AGREED).await.expect("noted").parse().expect("an instant");
    rig.clock.advance(8 * DAY);
    rig.receive(1, [3]).await;
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    rig.clock.advance(31 * DAY);
    assert_eq!(release(&rig, 1).await, Err(Stays::NotReconciled), "its note is of before the image");
    assert_eq!(reconcile(&rig, &forward, true).await.expect("answered").studies, 1, "only this one is open");
    assert!(rig.note(1, AGREED).await.expect("noted").parse::<Timestamp>().expect("an instant") > before);
    assert_eq!(release(&rig, 1).await, Ok(4));
}

/// Wherever it is cut, a study whose loss a run has come to know of is not given up, and what is given up the centre holds.
#[tokio::test]
async fn a_crash_at_any_step_of_a_run_gives_nothing_up_that_the_centre_does_not_hold() {
    for step in 1.. {
        let rig = Rig::new();
        let forward = rig.forward();
        registered(&rig, &forward).await;
        reconcile(&rig, &forward, true).await.expect("answered");
        rig.clock.advance(5 * DAY);
        rig.centre.lose(&sop(1, 0));
        rig.receive(3, 0..2).await;
        rig.run(&forward, MINUTE, SECOND).await;
        rig.centre.fuse.set(step);
        let blown = rig.centre.fuse.blown.lock().expect("no panic while held").clone();
        let crashed = tokio::select! {
            biased;
            () = blown.cancelled() => true,
            found = reconcile(&rig, &forward, true) => {
                assert_eq!(found.expect("answered").queued, 1);
                false
            }
        };
        drop(forward);
        rig.centre.fuse.set(i64::MAX);
        let forward = rig.forward();
        rig.clock.advance(DAY);
        // Before what the run was told is in the journal nobody knows of the loss; from then on the study stays.
        if step > 3 {
            let stays = release_after(&rig, 1, 1).await;
            assert!(matches!(stays, Err(Stays::NotReconciled | Stays::NotRegistered(_))), "step {step}: {stays:?}");
        }
        let noted = rig.note(3, AGREED).await.is_some();
        assert_eq!(release_after(&rig, 1, 3).await, if noted { Ok(2) } else { Err(Stays::NotReconciled) }, "step {step}");
        // The next day's run.
        reconcile(&rig, &forward, true).await.expect("answered");
        rig.run(&forward, 20 * MINUTE, MINUTE).await;
        assert!((0..3).all(|instance| rig.centre.has(&sop(1, instance))), "step {step}");
        reconcile(&rig, &forward, true).await.expect("answered");
        rig.clock.advance(DAY);
        assert_eq!(release_after(&rig, 1, 1).await, Ok(3), "step {step}");
        if !crashed {
            assert!(step > 6, "{step} steps");
            return;
        }
    }
}

#[tokio::test]
async fn what_was_looked_into_is_no_alarm_until_it_is_another_difference() {
    let rig = Rig::new();
    let forward = rig.forward();
    registered(&rig, &forward).await;
    rig.centre.lose(&sop(1, 1));
    let mut found = reconcile(&rig, &forward, false).await.expect("answered");
    assert_eq!((found.to_repair(), found.open()), (1, 1));
    for (study_uid, reason) in [(study(1), ""), (study(1), "two\nlines"), (study(1), &"x".repeat(161)), (study(2), "nothing to say of it")]
    {
        forward.acknowledge(&mut found, &study_uid, reason, 7).await.expect_err("refused");
    }
    assert_eq!(forward.acknowledge(&mut found, &study(1), &"ä".repeat(80), 7).await.expect("kept"), 1);
    assert_eq!((found.to_repair(), found.open(), found.differences[0].acknowledged), (1, 0, true));
    forward.acknowledge(&mut found, &study(1), "again", 7).await.expect_err("nothing is open");
    let found = reconcile(&rig, &rig.forward(), false).await.expect("answered");
    assert_eq!((found.to_repair(), found.open()), (1, 0), "also after a restart");
    rig.centre.lose(&sop(1, 2));
    assert_eq!(reconcile(&rig, &forward, false).await.expect("answered").open(), 2, "one more");
    assert_eq!(release(&rig, 1).await, Err(Stays::Recent), "and it proves nothing");
}

#[tokio::test]
async fn replay_sends_what_the_centre_lacks_and_no_more_however_often_it_is_given() {
    let rig = Rig::new();
    let forward = rig.forward();
    registered(&rig, &forward).await;
    rig.clock.advance(20 * DAY);
    rig.centre.lose(&sop(1, 1));
    let uid = study(1);
    let (folder, now) = (rig.folder().join("reconcile"), rig.clock.now());
    let found = forward.replay(Which::Since(now), false, 7, &folder).await.expect("answered").found;
    assert_eq!((found.studies, found.queued), (0, 0), "nothing came since");
    let found = forward.replay(Which::Study(&uid), false, 7, &folder).await.expect("answered").found;
    assert_eq!((found.instances, found.missing, found.queued), (3, 1, 1));
    let found = forward.replay(Which::Study(&uid), false, 7, &folder).await.expect("answered").found;
    assert_eq!((found.missing, found.queued), (0, 0), "it is on its way");
    assert!(rig.note(1, "replayed").await.is_some_and(|note| note.ends_with("by user 7")));
    forward.replay(Which::Study("1.2.3"), false, 7, &folder).await.expect_err("no such study");
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    assert!(rig.counts(&[("registered", 5)]) && rig.centre.has(&sop(1, 1)), "{:?}", rig.spool_totals());
    assert_eq!((0..3).map(|instance| rig.centre.arrivals(&sop(1, instance))).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(rig.centre.entries(&uid).len(), 1, "its manifest is as it was");
}

#[tokio::test]
async fn a_study_is_described_anew_once_for_each_time_it_is_asked_for_also_over_a_restart() {
    let rig = Rig::new();
    let forward = rig.forward();
    registered(&rig, &forward).await;
    let (uid, folder) = (study(1), rig.folder().join("reconcile"));
    let before = rig.centre.current(&uid).remove(0);
    rig.clock.advance(DAY);
    assert!(forward.replay(Which::Study(&uid), true, 7, &folder).await.expect("answered").republished);
    let forward = rig.forward();
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    let current = rig.centre.current(&uid);
    assert_eq!((current.len(), current[0].members.len(), current[0].replaces.as_ref()), (1, 3, Some(&before.entry_uuid)));
    assert!(rig.counts(&[("registered", 5)]), "{:?}", rig.spool_totals());
    let forward = rig.forward();
    rig.run(&forward, 20 * MINUTE, MINUTE).await;
    assert_eq!(rig.centre.entries(&uid).len(), 2, "and not again by itself");
    rig.receive(4, 0..1).await;
    forward.replay(Which::Study(&study(4)), true, 7, &folder).await.expect_err("it has no manifest");
}

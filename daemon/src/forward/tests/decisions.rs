//! Holds and cancellations of an operator (profile 03 §6).

use std::time::Duration;

use super::centre::Call;
use super::rig::{Rig, sop, study};
use crate::forward::decisions::Outcome;
use crate::forward::{Forward, Queue};
use crate::spool::sample::{at, read, tenant};
use crate::spool::{Cause, Decision, Move, Progress, Spool as _, State, Verb};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn decision(verb: Verb) -> Decision {
    Decision { verb, at: at(50), user: 1000, reason: "wrong patient?".to_owned() }
}

async fn decide(forward: &Forward, target: &str, verb: Verb) -> Outcome {
    forward.decide(target, &decision(verb)).await.expect("kept").expect("it is here")
}

fn refused(outcome: &Outcome) -> Vec<(&str, u64)> {
    outcome.refused.iter().map(|(why, objects)| (why.as_str(), *objects)).collect()
}

#[tokio::test]
async fn a_held_study_takes_no_step_until_it_is_released_whatever_else_happens() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..3).await;
    rig.receive(2, 0..1).await;
    let held = decide(&forward, &study(1), Verb::Hold).await;
    assert_eq!((held.decided, refused(&held)), (3, vec![]));
    assert_eq!(decide(&forward, &study(1), Verb::Hold).await.decided, 3, "the same again");
    let entry = rig.entry(1, 0).await;
    assert_eq!((entry.progress.state.to_string(), entry.progress.decision), ("held(operator)".to_owned(), Some(decision(Verb::Hold))));
    // What comes later is held too, and no daily probe lets anything of it go; also after a restart.
    rig.receive(1, 3..4).await;
    rig.run(&forward, 3 * DAY, HOUR).await;
    let forward = rig.forward();
    rig.run(&forward, 2 * DAY, HOUR).await;
    assert!(rig.counts(&[("held", 4), ("registered", 1)]), "{:?}", rig.spool_totals());
    assert!((0..4).all(|instance| rig.centre.arrivals(&sop(1, instance)) == 0), "nothing of it was sent");
    assert_eq!(rig.note(1, "hold").await, Some(format!("operator study {:.0} 1000 wrong patient?", at(50))));
    let of_study = forward.release_object(rig.entry(1, 0).await.id()).await.expect("works").expect("here");
    assert!(of_study.is_err_and(|why| why.contains("its study is held")));
    assert_eq!(forward.release(&study(1)).await.expect("works"), 5, "four objects and the study");
    rig.run(&forward, 10 * MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 5)]), "{:?}", rig.spool_totals());
    assert_eq!(rig.entry(1, 0).await.progress.decision, None, "a hold that has ended says nothing more");
}

#[tokio::test]
async fn what_the_centre_has_had_is_not_cancelled_though_it_is_to_be_sent_again() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..1).await;
    rig.run(&forward, 10 * MINUTE, SECOND).await;
    let entry = rig.entry(1, 0).await;
    assert_eq!(entry.progress.state, State::Registered);
    let to = Progress { state: State::Queued, ..entry.progress.clone() };
    rig.spool.advance(vec![Move { id: entry.id(), to }]).await.expect("queued again, as a replay does");
    let outcome = decide(&forward, &study(1), Verb::Cancel).await;
    assert!(outcome.decided == 0 && refused(&outcome)[0].0.contains("the centre has had it"), "{:?}", outcome.refused);
    assert_ne!(rig.entry(1, 0).await.progress.state, State::Rejected, "it would leave the next manifest");
}

#[tokio::test]
async fn a_study_that_is_held_after_it_was_sent_gets_its_receipts_and_no_manifest() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    forward.round(Queue::Instances, &tenant()).await.expect("a round");
    assert!(rig.counts(&[("sent", 2)]), "{:?}", rig.spool_totals());
    decide(&forward, &study(1), Verb::Hold).await;
    rig.run(&forward, 2 * DAY, HOUR).await;
    assert!(rig.counts(&[("committed", 2)]), "{:?}", rig.spool_totals());
    assert!(rig.centre.calls(Call::Register).is_empty());
    forward.release(&study(1)).await.expect("works");
    rig.run(&forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 2)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn what_is_cancelled_is_never_sent_and_kept_and_what_the_centre_has_is_not_cancelled() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    rig.receive(1, 2..4).await;
    let cancelled = decide(&forward, &study(1), Verb::Cancel).await;
    assert_eq!((cancelled.decided, cancelled.refused.values().sum::<u64>()), (2, 2));
    assert!(cancelled.refused.keys().all(|why| why.contains("the centre has it")), "{cancelled:?}");
    assert_eq!(decide(&forward, &study(1), Verb::Cancel).await, cancelled, "the same again");
    let forward = rig.forward();
    assert_eq!(forward.release(&study(1)).await.expect("works"), 0, "it is for good");
    rig.run(&forward, 2 * DAY, HOUR).await;
    assert!(rig.counts(&[("registered", 2), ("rejected", 2)]), "{:?}", rig.spool_totals());
    let entry = rig.entry(1, 2).await;
    assert_eq!((rig.centre.arrivals(&sop(1, 2)), entry.progress.decision.clone()), (0, Some(decision(Verb::Cancel))));
    assert_eq!(read(&rig.spool, entry.id()).await.expect("whole"), rig.bytes_of(1, 2), "not a byte of it is gone");
    // It comes again: it is what was cancelled.
    rig.receive(1, 2..3).await;
    rig.run(&forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 2), ("rejected", 2)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn one_object_is_held_and_released_by_itself() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..3).await;
    let id = rig.entry(1, 1).await.id();
    assert_eq!(decide(&forward, &id.to_string(), Verb::Hold).await.decided, 1);
    // So long a manifest of a part is not made.
    rig.run(&forward, 10 * MINUTE, MINUTE).await;
    assert!(rig.counts(&[("committed", 2), ("held", 1)]), "no manifest of a part: {:?}", rig.spool_totals());
    assert_eq!(forward.release_object(id).await.expect("works"), Some(Ok(())));
    rig.run(&forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 3)]), "{:?}", rig.spool_totals());
    assert!(forward.release_object(id).await.expect("works").expect("here").is_err());
    let none = forward.decide("00000000000000ff", &decision(Verb::Hold)).await.expect("works");
    assert!(none.is_none() && forward.decide("1.2.3", &decision(Verb::Cancel)).await.expect("works").is_none());
    let long = Decision { reason: "x".repeat(201), ..decision(Verb::Hold) };
    assert!(forward.decide(&id.to_string(), &long).await.is_err());
}

#[tokio::test]
async fn what_waits_for_rules_is_held_with_its_study_and_passes_none_of_them_by() {
    let rig = Rig::new();
    let forward = rig.forward();
    for (instance, state, word) in [
        (0, State::Held(Cause::incomplete()), "hold the study"),
        (1, State::Held("D437".parse().expect("a cause")), "hold the study"),
        (2, State::Quarantined("D301".parse().expect("a cause")), "quarantine"),
        (3, State::Rejected, "rejected"),
    ] {
        rig.receive(1, instance..=instance).await;
        let entry = rig.entry(1, instance).await;
        let id = entry.id();
        rig.spool.advance(vec![Move { id, to: Progress { state, ..entry.progress } }]).await.expect("moved");
        let held = decide(&forward, &id.to_string(), Verb::Hold).await;
        assert!(held.decided == 0 && held.refused.keys().all(|why| why.contains(word)), "{instance}: {held:?}");
    }
    decide(&forward, &study(1), Verb::Hold).await;
    assert_eq!(forward.release(&study(1)).await.expect("works"), 1, "the study, and nothing that waits for something else");
    assert_eq!((rig.state(1, 0).await, rig.state(1, 1).await), ("held(incomplete)".to_owned(), "held(D437)".to_owned()));
}

#[tokio::test]
async fn what_waits_for_its_request_is_not_sent_any_more_and_what_is_in_one_is_not_cancelled() {
    let rig = Rig::new();
    let forward = rig.forward();
    let mut stalls = Vec::new();
    for number in 1..=16 {
        rig.receive(number, 0..1).await;
        stalls.push(rig.centre.stall_on(&sop(number, 0)));
    }
    let operator = async {
        // Four of them in requests, the others claimed for the same round.
        while rig.state(1, 0).await != "sending" {
            tokio::task::yield_now().await;
        }
        let under_way = decide(&forward, &study(1), Verb::Cancel).await;
        assert!(under_way.decided == 0 && under_way.refused.keys().all(|why| why.contains("under way")), "{under_way:?}");
        assert_eq!(rig.state(16, 0).await, "sending", "it is claimed for this round");
        assert_eq!(decide(&forward, &study(16), Verb::Cancel).await.decided, 1);
        assert_eq!(decide(&forward, &study(15), Verb::Hold).await.decided, 1);
        // Held while it is sent: whatever the centre answers, it goes no further.
        assert_eq!(decide(&forward, &study(2), Verb::Hold).await.decided, 1);
        stalls.iter().for_each(tokio_util::sync::CancellationToken::cancel);
    };
    let round = async { forward.round(Queue::Instances, &tenant()).await.expect("a round ends well") };
    let both = tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(round, operator) }).await;
    assert!(both.is_ok(), "the round ends");
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 13), ("held", 2), ("rejected", 1)]), "{:?}", rig.spool_totals());
    assert_eq!([15, 16].map(|number| rig.centre.arrivals(&sop(number, 0))), [0, 0]);
    assert_eq!(rig.state(2, 0).await, "held(operator)");
    for number in [2, 15] {
        forward.release(&study(number)).await.expect("works");
    }
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 15), ("rejected", 1)]), "{:?}", rig.spool_totals());
}

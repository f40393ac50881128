//! When what is tried: storms, age, probes of holds, clocks that are set (profile 03 §2.2 to §2.6).

use std::sync::atomic::Ordering;
use std::time::Duration;

use idr_profile::outcome::{Context, Event, Signal};
use jiff::SignedDuration;

use super::centre::{Call, Fate};
use super::rig::{Rig, sop};
use crate::forward::Forward;
use crate::forward::peer::Failure;
use crate::spool::{Move, Progress, Spool as _, State};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn in_state(rig: &Rig, state: &str) -> u64 {
    rig.spool_totals().iter().filter(|((_, name), _)| *name == state).map(|(_, amount)| amount.objects).sum()
}

#[tokio::test]
async fn a_centre_that_refuses_everything_quarantines_nothing() {
    for concurrent in [1, 4] {
        let rig = Rig::new();
        let forward = rig.forward();
        for number in 1..=4 * concurrent {
            rig.receive(number, 0..6).await;
        }
        let all = 24 * concurrent;
        rig.centre.refuse_all(Some(0xC000));
        let stormy = async |forward: &Forward| forward.status()["suspended"]["stow"] == true;
        assert!(rig.run_until(&forward, MINUTE, SECOND, stormy).await, "it is suspended");
        assert_eq!(in_state(&rig, "quarantined"), 0, "what it refused before is taken back");
        rig.run(&forward, 3 * HOUR, MINUTE).await;
        assert_eq!((in_state(&rig, "queued"), in_state(&rig, "quarantined")), (all, 0));
        rig.centre.refuse_all(None);
        let drained = rig.run_until(&forward, 3 * HOUR, MINUTE, async |_| rig.counts(&[("registered", all)])).await;
        assert!(drained, "{:?}", rig.spool_totals());
    }
}

#[tokio::test]
async fn refusals_that_name_their_rule_and_those_that_a_person_saw_are_no_storm() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.name_rules();
    rig.centre.refuse_all(Some(0xC307));
    for number in 1..=4 {
        rig.receive(number, 0..6).await;
    }
    rig.settle(&forward).await;
    assert_eq!((in_state(&rig, "quarantined"), forward.status()["suspended"]["stow"] == true), (24, false));

    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..9).await;
    rig.centre.refuse_all(Some(0xC000));
    rig.settle(&forward).await;
    assert_eq!(in_state(&rig, "quarantined"), 9, "one study is none");
    let decided = rig.entry(1, 0).await;
    rig.spool.advance(vec![Move { id: decided.id(), to: Progress { state: State::Rejected, ..decided.progress } }]).await.expect("moved");
    rig.receive(2, 0..1).await;
    rig.settle(&forward).await;
    assert_eq!((in_state(&rig, "rejected"), in_state(&rig, "quarantined"), in_state(&rig, "queued")), (1, 0, 9));
}

#[tokio::test]
async fn what_fails_for_three_days_at_a_centre_that_works_is_held_and_tried_every_day() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.refuse(&sop(1, 1), 0x0110);
    rig.run(&forward, 71 * HOUR, 10 * MINUTE).await;
    assert_eq!((rig.state(1, 0).await, rig.state(1, 1).await), ("registered".to_owned(), "queued".to_owned()));
    rig.run(&forward, 3 * HOUR, 10 * MINUTE).await;
    assert_eq!(rig.state(1, 1).await, "held(aged)");
    assert_eq!(rig.entry(1, 1).await.progress.outcome.as_deref(), Some("S-F-0110"), "its last answer stays to be read");
    let tried = rig.centre.arrivals(&sop(1, 1));
    rig.run(&forward, 2 * DAY + 2 * HOUR, 10 * MINUTE).await;
    assert_eq!((rig.centre.arrivals(&sop(1, 1)) - tried, rig.state(1, 1).await), (2, "held(aged)".to_owned()));
    rig.centre.accept(&sop(1, 1));
    assert!(rig.run_until(&forward, DAY + HOUR, 10 * MINUTE, async |_| rig.counts(&[("registered", 2)])).await);
}

#[tokio::test]
async fn an_outage_of_any_length_makes_nothing_old_and_a_restart_forgets_no_age() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.set_down(Some(Failure::Event(Event::Unreachable)));
    for number in 1..=6 {
        rig.receive(number, 0..2).await;
    }
    rig.run(&forward, 10 * DAY, HOUR).await;
    assert!(rig.counts(&[("queued", 12)]));

    let rig = Rig::new();
    rig.receive(1, 0..1).await;
    rig.centre.refuse(&sop(1, 0), 0x0110);
    let mut lives = 0;
    while rig.state(1, 0).await == "queued" {
        lives += 1;
        rig.run(&rig.forward(), 12 * HOUR, 10 * MINUTE).await;
    }
    assert_eq!(rig.state(1, 0).await, "held(aged)");
    assert!((6..=9).contains(&lives), "{lives} lives of 12 h");
}

#[tokio::test]
async fn one_of_what_is_held_is_tried_every_day_and_lets_the_others_go_when_it_works() {
    for reloaded in [false, true] {
        let rig = Rig::new();
        let forward = rig.forward();
        for number in 1..=3 {
            rig.receive(number, 0..1).await;
        }
        rig.centre.script(Call::Store, std::iter::repeat_n(Fate::Status(413, None), 4));
        rig.run(&forward, 23 * HOUR, HOUR).await;
        assert!(rig.counts(&[("held", 3)]), "{:?}", rig.spool_totals());
        assert_eq!(rig.centre.calls(Call::Store).len(), 3, "nothing is tried before a day is over");
        rig.run(&forward, 2 * HOUR, HOUR).await;
        assert_eq!((rig.centre.calls(Call::Store).len(), rig.counts(&[("held", 3)])), (4, true), "one is tried, and held again");
        let wait = if reloaded {
            forward.probe_at_once();
            2 * MINUTE
        } else {
            25 * HOUR
        };
        let gone = rig.run_until(&forward, wait, MINUTE, async |_| rig.counts(&[("registered", 3)])).await;
        assert!(gone, "{reloaded}: {:?}", rig.spool_totals());
    }
}

#[tokio::test]
async fn a_held_manifest_is_tried_every_day_and_what_is_held_about_its_study_is_not() {
    let rig = Rig::new();
    let forward = rig.forward();
    for number in 1..=3 {
        rig.receive(number, 0..1).await;
    }
    let codes = [Fate::Code("XDSUnknownRepositoryId"), Fate::Code("XDSUnknownRepositoryId"), Fate::Code("XDSRegistryMetadataError")];
    rig.centre.script(Call::Register, codes);
    rig.run(&forward, 20 * HOUR, HOUR).await;
    assert!(rig.counts(&[("committed", 3)]));
    assert_eq!(forward.held_manifests().await.expect("readable").len(), 3);
    rig.run(&forward, 6 * HOUR, 10 * MINUTE).await;
    assert!(rig.counts(&[("registered", 2), ("committed", 1)]), "{:?}", rig.spool_totals());
    rig.run(&forward, 3 * DAY, HOUR).await;
    let held = forward.held_manifests().await.expect("readable");
    assert_eq!(held.iter().map(|(_, row)| row.as_str()).collect::<Vec<_>>(), ["E-META"]);
}

#[tokio::test]
async fn a_manifest_that_fails_for_three_days_is_held_and_goes_on_when_the_registry_works() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, std::iter::repeat_n(Fate::Code("XDSRegistryError"), 1_000));
    rig.run(&forward, 74 * HOUR, 10 * MINUTE).await;
    assert_eq!(rig.note(1, "hold").await.map(|note| note.starts_with("aged manifest")), Some(true));
    rig.centre.unscript(Call::Register);
    assert!(rig.run_until(&forward, 26 * HOUR, 10 * MINUTE, async |_| rig.counts(&[("registered", 2)])).await);
}

#[tokio::test]
async fn a_clock_that_is_set_sends_nothing_early_and_keeps_nothing_for_longer() {
    for step in [86_400, -86_400] {
        let rig = Rig::new();
        let forward = rig.forward();
        for number in 1..=2 {
            rig.receive(number, 0..1).await;
        }
        // Busy: each waits for at least 10 s, and at most 30 s.
        rig.centre.script(Call::Store, [Fate::Status(503, None), Fate::Status(503, None)]);
        rig.settle(&forward).await;
        assert_eq!(rig.centre.calls(Call::Store).len(), 2);
        // Both clocks are set, so that the rule of their difference lets it pass.
        rig.clock.set_wrong(SignedDuration::from_secs(step));
        rig.centre.skew.store(step, Ordering::SeqCst);
        forward.heard_clock(Some(SignedDuration::ZERO));
        rig.run(&forward, 9 * SECOND, SECOND).await;
        assert_eq!(rig.centre.calls(Call::Store).len(), 2, "{step}: nothing is sent before its wait is over");
        rig.receive(3, 0..1).await;
        rig.settle(&forward).await;
        assert_eq!(rig.state(3, 0).await, "registered", "{step}: what comes now does not wait for a clock");
        rig.clock.set_wrong(SignedDuration::ZERO);
        rig.centre.skew.store(0, Ordering::SeqCst);
        forward.heard_clock(Some(SignedDuration::ZERO));
        let gone = rig.run_until(&forward, 22 * SECOND, SECOND, async |_| rig.counts(&[("registered", 3)])).await;
        assert!(gone, "{step}: {:?}", rig.spool_totals());
    }
}

#[tokio::test]
async fn a_due_time_of_a_wrong_clock_is_put_right_at_the_next_start() {
    let rig = Rig::new();
    rig.clock.set_wrong(SignedDuration::from_hours(24));
    rig.centre.skew.store(86_400, Ordering::SeqCst);
    let forward = rig.forward();
    rig.receive(1, 0..1).await;
    rig.receive(2, 0..1).await;
    rig.centre.script(Call::Store, [Fate::Status(503, None)]);
    rig.settle(&forward).await;
    assert_eq!((rig.state(1, 0).await, rig.state(2, 0).await), ("queued".to_owned(), "registered".to_owned()));
    rig.clock.set_wrong(SignedDuration::ZERO);
    rig.centre.skew.store(0, Ordering::SeqCst);
    rig.receive(3, 0..1).await;
    let forward = rig.forward();
    forward.reclamp().await.expect("readable");
    // The longest wait of its class.
    let gone = rig.run_until(&forward, Duration::from_secs(901), SECOND, async |_| rig.counts(&[("registered", 3)])).await;
    assert!(gone, "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn what_its_report_says_failed_is_sent_again_when_it_is_old() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..1).await;
    let decided = forward.outcomes.decide(Signal::CommitmentFailure(0x0110), &Context::default());
    for (healthy_s, state) in [(0, State::Sent), (21_600, State::Sent), (21_601, State::Queued)] {
        let entry = rig.entry(1, 0).await;
        let progress = Progress { state: State::Sent, memo: Some(format!("slow {healthy_s}")), ..entry.progress.clone() };
        let sent = crate::spool::Entry { progress, ..entry };
        let go = forward.next(&sent, &decided, State::Committed, State::Sent, rig.clock.truth()).expect("moves");
        assert_eq!(go.to.state, state, "{healthy_s}");
    }
}

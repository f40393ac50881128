//! The urgent lane (profile 10 §12): what goes first, what the others keep, and what survives a restart.

use std::sync::Arc;
use std::time::Duration;

use idr_profile::outcome::Event;
use jiff::tz::TimeZone;

use super::rig::{Rig, sop, study};
use crate::config::Wan;
use crate::forward::pacing::Plan;
use crate::forward::peer::Failure;
use crate::forward::priority::Said;
use crate::forward::{Forward, Queue};
use crate::spool::sample::{at, tenant};
use crate::spool::{Claim, Lane, Spool as _};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn said() -> Said {
    Said { at: at(0), user: 1000, reason: "trauma".to_owned() }
}

async fn urgent(forward: &Forward, number: u64, urgent: bool) -> Option<u64> {
    forward.prioritise(&study(number), urgent, &said()).await.expect("noted")
}

/// Which of these studies the centre got an instance of, in order of their first arrival.
fn order(rig: &Rig, studies: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let stored = rig.centre.stored_in_order();
    let mut order: Vec<(usize, u64)> = studies
        .into_iter()
        .filter_map(|number| {
            let first = stored.iter().position(|uid| uid.starts_with(&format!("{}.", sop(number, 0).rsplit_once('.').expect("dots").0)));
            Some((first?, number))
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}

#[tokio::test]
async fn an_urgent_study_overtakes_what_waited_before_it_and_is_registered_first() {
    let rig = Rig::new();
    rig.centre.set_down(Some(Failure::Event(Event::Unreachable)));
    for number in 1..=20 {
        rig.receive(number, 0..10).await;
    }
    rig.receive(99, 0..3).await;
    let forward = rig.forward();
    assert_eq!(urgent(&forward, 99, true).await, Some(3));
    assert_eq!(urgent(&forward, 98, true).await, None, "there is no such study");
    rig.run(&forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("queued", 203)]));
    // The one that is restarted knows of it, from the journal alone.
    let forward = rig.forward();
    rig.centre.set_down(None);
    let registered = rig.run_until(&forward, 30 * MINUTE, SECOND, async |_| rig.state(99, 0).await == "registered").await;
    assert!(registered, "{:?}", rig.spool_totals());
    assert_eq!(order(&rig, (1..=20).chain([99]))[0], 99, "it is the first that the centre gets");
    assert_eq!(rig.centre.registered_in_order().first().map(String::as_str), Some(study(99).as_str()), "and the first manifest");
    assert!(rig.run_until(&forward, 60 * MINUTE, SECOND, async |_| rig.counts(&[("registered", 203)])).await, "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn an_urgent_stream_without_end_leaves_the_others_their_share() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..8).await;
    // Before each round there is more that is urgent than a round takes: the batches have four instances.
    for number in 100..160 {
        rig.receive(number, 0..4).await;
        urgent(&forward, number, true).await;
    }
    forward.round(Queue::Instances, &tenant()).await.expect("a round");
    let stored = rig.centre.stored_in_order();
    let normal: Vec<usize> = (0..8).filter_map(|instance| stored.iter().position(|uid| *uid == sop(1, instance))).collect();
    assert_eq!(normal.len(), 8, "both requests of it went in this round");
    // The last of its two requests comes after no more than eight urgent ones, give or take those at once.
    assert!(normal.iter().all(|at| *at < 4 * (10 + 4)), "{normal:?} of {}", stored.len());
    assert!(normal.iter().all(|at| *at >= 4), "and an urgent one goes before it: {normal:?}");
}

#[tokio::test]
async fn windows_and_rates_hold_nothing_urgent_back() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.receive(2, 0..2).await;
    urgent(&forward, 2, true).await;
    // 2026-01-15T06:00Z is none of its times; and a byte a second in it.
    let wan: Wan = toml::from_str("bytes_per_second = 1\nwindows = [{ from = \"20:00:00\", until = \"21:00:00\" }]").expect("a section");
    forward.pace.reload(Plan::new(wan, TimeZone::get("Europe/Helsinki").expect("bundled")));
    rig.settle(&forward).await;
    assert_eq!((rig.state(1, 0).await, rig.state(2, 1).await), ("queued".to_owned(), "registered".to_owned()));
    // No time went by for the bytes: no test clock moves by itself, and a wait would be a real one.
    assert_eq!(urgent(&forward, 1, true).await, Some(2));
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 4)]));
}

#[tokio::test]
async fn what_an_operator_says_holds_for_what_comes_later_and_can_be_taken_back() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.set_down(Some(Failure::Event(Event::Unreachable)));
    rig.receive(1, 0..2).await;
    urgent(&forward, 1, true).await;
    // Queued before its study is evaluated, it is in the lane of its row until it is to be sent.
    rig.receive(1, 2..4).await;
    assert!(!rig.entry(1, 2).await.progress.urgent);
    rig.centre.set_down(None);
    rig.run(&forward, 10 * MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 4)]), "{:?}", rig.spool_totals());
    assert!(rig.entry(1, 3).await.progress.urgent);
    let note = rig.note(1, "priority").await.expect("kept");
    assert_eq!(note, format!("urgent {:.0} 1000 trauma", at(0)));

    rig.receive(2, 0..2).await;
    urgent(&forward, 2, true).await;
    let claimed = rig.spool.claim(Claim {
        tenant: tenant(),
        state: "queued",
        lane: Lane::Urgent,
        now: rig.clock.truth(),
        lease_until: rig.clock.truth() + MINUTE,
        limit: 1,
    });
    assert_eq!(claimed.await.expect("works").len(), 1);
    // Also of what is claimed: the lease ends, so that nobody sends it by the lane of before.
    urgent(&forward, 2, false).await;
    for instance in 0..2 {
        let progress = rig.entry(2, instance).await.progress;
        assert_eq!((progress.urgent, progress.state.name()), (false, "queued"));
    }
    let long = Said { reason: "x".repeat(201), ..said() };
    assert!(forward.prioritise(&study(2), true, &long).await.is_err());
    assert!(rig.note(2, "priority").await.is_some_and(|note| note.starts_with("normal ")));
    drop(Arc::new(forward));
}

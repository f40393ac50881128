//! One instance that fails again and again delays no other (profile 03 §3.5, §7.7).

use std::time::Duration;

use super::centre::Call;
use super::rig::{Rig, sop};
use crate::forward::Queue;
use crate::spool::sample::tenant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const PER_STUDY: u64 = 100;

/// Instances of a queue; `make bench-poison` has 10 000.
fn instances() -> u64 {
    std::env::var("IDR_INSTANCES").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[tokio::test]
async fn a_poisoned_instance_delays_no_other_beyond_one_attempt() {
    // Answered for itself, and as a reason for which the whole request fails.
    for whole in [false, true] {
        let (rig, all) = (Rig::new(), instances());
        let forward = rig.forward();
        for number in 0..all / PER_STUDY {
            rig.receive(number, 0..PER_STUDY).await;
        }
        let poison = sop(1, 50);
        match whole {
            true => rig.centre.break_on(&poison, 500),
            false => rig.centre.refuse(&poison, 0x0110),
        }
        let others = async |_: &crate::forward::Forward| {
            let moved = |state: &str| rig.spool_totals().get(&(tenant(), state_name(state))).map_or(0, |amount| amount.objects);
            moved("committed") + moved("registered") == all - 1
        };
        let start = rig.clock.truth();
        assert!(rig.run_until(&forward, 2 * MINUTE, SECOND, others).await, "{whole}: {:?}", rig.spool_totals());
        let took = rig.clock.truth().duration_since(start);
        // Its neighbours in the one request that failed wait once, for at most 60 s (class slow); all others not at all.
        println!("{all} instances, one poisoned, whole request {whole}: the others are at the centre after {took:#}");
        assert!(took.as_secs() <= if whole { 61 } else { 0 }, "{whole}: {took:#}");
        assert_eq!(rig.state(1, 50).await, "queued");
        assert_eq!(rig.centre.calls(Call::Store).len() as u64 / (all / 4), 1, "nothing is sent again and again");
    }
}

fn state_name(state: &str) -> &'static str {
    state.parse::<crate::spool::State>().expect("a state").name()
}

#[tokio::test]
async fn a_request_that_is_never_answered_keeps_one_place_and_no_more() {
    let rig = Rig::new();
    let forward = rig.forward();
    for number in 0..4 {
        rig.receive(number, 0..PER_STUDY).await;
    }
    let answer = rig.centre.stall_on(&sop(1, 0));
    let others = async {
        let there = || {
            (0..4)
                .flat_map(|study| (0..PER_STUDY).map(move |instance| (study, instance)))
                .filter(|(study, instance)| rig.centre.has(&sop(*study, *instance)))
                .count()
        };
        // Four go in a request.
        while there() < 396 {
            tokio::task::yield_now().await;
        }
        answer.cancel();
    };
    let round = async { forward.round(Queue::Instances, &tenant()).await.expect("a round ends well") };
    let both = tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(round, others) }).await;
    assert!(both.is_ok(), "all others are sent while one is not answered");
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 400)]));
}

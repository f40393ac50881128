//! The forwarder is dropped before and after every request and every durable step, and begins again on what is there.

use std::time::Duration;

use super::rig::{Rig, sop, study};
use crate::forward::Forward;

const MINUTE: Duration = Duration::from_secs(60);

/// Two studies, and a late image of the first.
async fn story(rig: &Rig, forward: &Forward) {
    rig.settle(forward).await;
    rig.clock.advance(10 * MINUTE);
    if rig.spool_totals().values().map(|amount| amount.objects).sum::<u64>() == 5 {
        rig.receive(1, [3]).await;
    }
    rig.settle(forward).await;
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_one_current_manifest_and_every_instance_stored() {
    let mut step = 1;
    loop {
        let rig = Rig::new();
        rig.receive(1, 0..3).await;
        rig.receive(2, 0..2).await;
        rig.centre.fuse.set(step);
        let blown = rig.centre.fuse.blown.lock().expect("no panic while held").clone();
        let forward = rig.forward();
        let crashed = tokio::select! {
            biased;
            () = blown.cancelled() => true,
            () = story(&rig, &forward) => false,
        };
        drop(forward);
        rig.centre.fuse.set(i64::MAX);
        let forward = rig.forward();
        story(&rig, &forward).await;
        rig.run(&forward, 30 * MINUTE, MINUTE / 6).await;
        assert!(rig.counts(&[("registered", 6)]), "step {step}: {:?}", rig.spool_totals());
        for (number, instances) in [(1, 4), (2, 2)] {
            let current = rig.centre.current(&study(number));
            assert_eq!(current.iter().map(|entry| entry.members.len()).collect::<Vec<_>>(), [instances], "step {step}");
            assert!((0..instances as u64).all(|instance| rig.centre.has(&sop(number, instance))), "step {step}");
            assert!((0..instances as u64).all(|instance| rig.centre.arrivals(&sop(number, instance)) <= 2), "step {step}");
            let [r1, r2, r3, _] = rig.receipts_of(number);
            assert_eq!((r1, r3), (instances, instances), "step {step}");
            assert!((instances..=2 * instances).contains(&r2), "step {step}: at most the step in flight is repeated");
            assert!(rig.registered_documents(number).contains(&current[0].unique_id), "step {step}");
            assert_eq!((rig.note(number, "pending").await, rig.note(number, "r4").await), (None, None), "step {step}");
        }
        if !crashed {
            break;
        }
        step += 1;
    }
    assert!(step > 40, "{step} steps: the story has become short");
}

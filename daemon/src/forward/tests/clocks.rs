//! Clock offset (L-CLOCK) and age alarms.

use std::sync::atomic::Ordering;
use std::time::Duration;

use idr_profile::outcome::{AgeAlarm, Event};
use jiff::SignedDuration;

use super::centre::{Call, Fate};
use super::rig::Rig;
use crate::forward::peer::Failure;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_clock_that_is_off_by_more_than_a_minute_stops_sending_until_it_is_put_right() {
    for wrong in [61, -61, 86_400] {
        let rig = Rig::new();
        let forward = rig.forward();
        rig.clock.set_wrong(SignedDuration::from_secs(wrong));
        rig.receive(1, 0..2).await;
        rig.run(&forward, HOUR, MINUTE).await;
        assert_eq!(rig.centre.calls(Call::Store).len(), 0, "{wrong}");
        assert!(rig.counts(&[("queued", 2)]), "the queue is kept");
        let status = forward.status();
        assert_eq!((&status["suspended"]["clock"], &status["last_answer"]["row"]), (&true.into(), &"L-CLOCK".into()));
        rig.clock.set_wrong(SignedDuration::ZERO);
        let due = rig.run_until(&forward, 10 * MINUTE, SECOND, async |_| rig.counts(&[("registered", 2)])).await;
        assert!(due, "{wrong}: it goes on by itself");
    }
}

#[tokio::test]
async fn a_centre_whose_clock_is_put_right_is_measured_again_and_served() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.skew.store(61, Ordering::SeqCst);
    rig.receive(1, 0..2).await;
    rig.run(&forward, HOUR, MINUTE).await;
    assert!(rig.counts(&[("queued", 2)]));
    rig.centre.skew.store(0, Ordering::SeqCst);
    assert!(rig.run_until(&forward, 6 * MINUTE, SECOND, async |_| rig.counts(&[("registered", 2)])).await);
    assert!(rig.centre.calls(Call::Clock).len() <= 16, "it is asked every 300 s and not more often");
}

#[tokio::test]
async fn a_clock_that_is_put_right_while_the_centre_is_suspended_is_measured_again() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.set_down(Some(Failure::Event(Event::Unreachable)));
    for number in 1..=6 {
        rig.receive(number, 0..2).await;
    }
    rig.run(&forward, HOUR, MINUTE).await;
    assert_eq!(forward.status()["suspended"]["stow"], true);
    // The probe hears a clock that is off, and that the centre is still busy.
    rig.centre.skew.store(61, Ordering::SeqCst);
    rig.centre.script(Call::Store, [Fate::Status(503, None)]);
    rig.centre.set_down(None);
    let stopped = async |forward: &crate::forward::Forward| forward.status()["suspended"]["clock"] == true;
    assert!(rig.run_until(&forward, HOUR, MINUTE, stopped).await);
    assert_eq!(forward.status()["suspended"]["stow"], true);
    rig.centre.skew.store(0, Ordering::SeqCst);
    let drained = rig.run_until(&forward, HOUR, MINUTE, async |_| rig.counts(&[("registered", 12)])).await;
    assert!(drained, "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn an_offset_below_the_limit_is_shown_and_stops_nothing() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.skew.store(-59, Ordering::SeqCst);
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 2)]));
    assert_eq!(forward.status()["clock_offset_seconds"], -59.0);
}

#[tokio::test]
async fn what_waits_for_an_hour_is_a_warning_and_for_a_day_a_page() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.set_down(Some(Failure::Event(Event::Unreachable)));
    rig.receive(1, 0..2).await;
    rig.run(&forward, HOUR, MINUTE).await;
    assert_eq!(forward.age_alarm(), None);
    rig.run(&forward, 2 * MINUTE, MINUTE).await;
    assert_eq!(forward.age_alarm(), Some(AgeAlarm::Warn));
    rig.run(&forward, 24 * HOUR, 5 * MINUTE).await;
    assert_eq!(forward.age_alarm(), Some(AgeAlarm::Page));
    rig.centre.set_down(None);
    rig.run(&forward, 10 * MINUTE, SECOND).await;
    assert_eq!(forward.age_alarm(), None);
}

#[tokio::test]
async fn a_manifest_whose_attempts_fail_for_an_hour_is_a_warning() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, std::iter::repeat_n(Fate::Code("XDSRegistryError"), 100));
    rig.run(&forward, HOUR + 10 * MINUTE, MINUTE).await;
    assert!(rig.counts(&[("committed", 2)]));
    assert_eq!(forward.age_alarm(), Some(AgeAlarm::Warn));
}

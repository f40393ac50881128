//! Back-off, breaker and storm guard.

use super::*;
use jiff::Timestamp;
use std::time::Duration;

/// Uniform numbers from a seed (SplitMix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn a_device_that_gets_a_report_is_tried_up_to_an_hour_apart() {
    let outcomes = base();
    let cap_s = outcomes.device_report.cap_s;
    assert_eq!(cap_s, 3_600);
    assert_eq!(outcomes.delay_capped(Class::Net, 0, 1.0, cap_s), Duration::from_secs(2));
    assert_eq!(outcomes.delay_capped(Class::Net, 20, 1.0, cap_s), Duration::from_secs(3_600));
    assert_eq!(outcomes.delay_capped(Class::Net, 20, 0.0, cap_s), Duration::from_secs(1));
}

#[test]
fn delays_stay_between_floor_and_cap_and_spread_evenly() {
    let mut draws = Draws(1);
    for (class, limits) in &base().classes {
        let (cap, floor) = (limits.cap_s as f64, limits.floor_s as f64);
        for n in [0, 1, 3, 12, 20, 21, u32::MAX] {
            let delays: Vec<f64> = (0..10_000).map(|_| base().delay(*class, n, draws.next()).as_secs_f64()).collect();
            assert!(delays.iter().all(|delay| (floor..=cap).contains(delay)), "{class} {n}");
            if n >= 12 {
                // Mean of max(floor, U(0, cap)).
                let expected = (floor * floor + cap * cap) / (2.0 * cap);
                let mean = delays.iter().sum::<f64>() / 10_000.0;
                assert!((mean - expected).abs() < 0.05 * expected, "{class} {n}: {mean} against {expected}");
                let differ = delays.chunks(2).filter(|pair| pair[0] != pair[1]).count();
                assert!(differ >= 4_500, "{class} {n}: {differ} of 5000 pairs differ");
            }
        }
    }
}

#[test]
fn retry_after_is_honoured_within_its_bounds() {
    let now: Timestamp = "2026-01-15T08:00:00Z".parse().expect("valid");
    let http = |value| base().retry_after.http(value, now).map(|wait| wait.as_secs());
    assert_eq!(http("120"), Some(120));
    assert_eq!(http("Thu, 15 Jan 2026 08:02:00 GMT"), Some(120));
    assert_eq!(http("Thursday, 15-Jan-26 08:02:00 GMT"), Some(120));
    assert_eq!(http("Thu Jan 15 08:02:00 2026"), Some(120));
    assert_eq!(http("Thu, 15 Jan 2026 07:00:00 GMT"), Some(1));
    assert_eq!(http("1000000000"), Some(21_600));
    assert_eq!(http("100000000000000000000000000"), Some(21_600));
    assert_eq!([http("soon"), http(""), http("-5"), http("1.5")], [None; 4]);
    assert_eq!(base().retry_after.wsa("90000"), Some(Duration::from_secs(90)));
    assert_eq!(base().retry_after.wsa("x"), None);
    let gate = |uniform| base().retry_after.gate(Duration::from_secs(120), uniform);
    assert_eq!((gate(0.0), gate(1.0)), (Duration::from_secs(120), Duration::from_secs(132)));
}

#[test]
fn age_holds_an_item_only_when_it_is_healthy_age() {
    let mut decided = decide(Signal::CStore(0x0110));
    assert!(!base().age_out(&mut decided, Duration::from_secs(259_200)));
    assert!(base().age_out(&mut decided, Duration::from_secs(259_201)));
    assert_eq!(decided.outcome, Outcome::Hold(Decider::Operator));
    let mut done = decide(Signal::CStore(0));
    assert!(!base().age_out(&mut done, Duration::MAX));
    assert_eq!(base().ages.alarm(Duration::from_secs(3_600)), None);
    assert_eq!(base().ages.alarm(Duration::from_secs(3_601)), Some(AgeAlarm::Warn));
    assert_eq!(base().ages.alarm(Duration::from_secs(86_401)), Some(AgeAlarm::Page));
}

#[test]
fn a_due_time_from_disk_is_at_most_one_cap_away() {
    let now: Timestamp = "2026-01-15T08:00:00Z".parse().expect("valid");
    let far: Timestamp = "2036-01-15T08:00:00Z".parse().expect("valid");
    assert_eq!(reclamp(far, now, base().cap(Class::Net)), "2026-01-15T08:05:00Z".parse().expect("valid"));
    assert_eq!(reclamp(now, far, base().cap(Class::Net)), now);
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn record(breaker: &mut Breaker, item: u64, decided: &Decided, at: u64) -> Option<BreakerChange> {
    breaker.record(item, decided, seconds(at), 1.0, base())
}

#[test]
fn one_failing_item_opens_nothing_and_three_open_after_five_failures() {
    let failure = decide(Signal::CStore(0x0110));
    let mut breaker = Breaker::new(&base().breaker);
    assert!((0..15).all(|at| record(&mut breaker, 1, &failure, at).is_none()));
    let mut breaker = Breaker::new(&base().breaker);
    for (at, item) in [1, 2, 3, 1].into_iter().enumerate() {
        assert_eq!(record(&mut breaker, item, &failure, at as u64), None);
    }
    let opened = record(&mut breaker, 2, &failure, 10);
    assert_eq!(opened, Some(BreakerChange::Opened { row: "CS-0110".into(), until: seconds(70), openings: 1 }));
    assert_eq!(breaker.admit(seconds(69)), Admission::Wait { until: seconds(70) });
    assert_eq!(breaker.admit(seconds(70)), Admission::Probe);
    assert!(matches!(breaker.admit(seconds(70)), Admission::Wait { .. }), "one probe at a time");
}

#[test]
fn a_success_between_ends_the_run_and_uncounted_rows_do_not_count() {
    let (failure, success, uncounted) = (decide(Signal::CStore(0x0110)), decide(Signal::CStore(0)), decide(Signal::CStore(0x0105)));
    let mut breaker = Breaker::new(&base().breaker);
    for round in 0..3 {
        for item in 0..4 {
            assert_eq!(record(&mut breaker, item, &failure, round * 100), None);
            assert_eq!(record(&mut breaker, item, &uncounted, round * 100), None);
        }
        assert_eq!(record(&mut breaker, 9, &success, round * 100), None);
    }
}

#[test]
fn failures_of_the_link_count_for_any_item_and_double_mark_opens_at_once() {
    let refused = decide(Signal::Event(Event::ConnectionRefused));
    let mut breaker = Breaker::new(&base().breaker);
    assert!((0..4).all(|at| record(&mut breaker, 1, &refused, at).is_none()));
    assert!(record(&mut breaker, 1, &refused, 5).is_some());
    let mut breaker = Breaker::new(&base().breaker);
    assert!(record(&mut breaker, 1, &decide(Signal::Event(Event::CertificatePin)), 0).is_some());
}

#[test]
fn half_of_twenty_attempts_within_a_minute_open() {
    let (failure, success) = (decide(Signal::CStore(0x0110)), decide(Signal::CStore(0)));
    let mut breaker = Breaker::new(&base().breaker);
    let alternate = |n: u64| if n.is_multiple_of(2) { &success } else { &failure };
    assert!((0..19).all(|n| record(&mut breaker, n, alternate(n), n).is_none()));
    assert!(record(&mut breaker, 19, &failure, 19).is_some());
    // The same attempts spread over more than a minute: nothing.
    let mut breaker = Breaker::new(&base().breaker);
    assert!((0..40).all(|n| record(&mut breaker, n, alternate(n), n * 7).is_none()));
}

#[test]
fn openings_in_a_row_wait_longer_and_closing_starts_small() {
    let down = decide(Signal::Event(Event::ConnectionRefused));
    let mut breaker = Breaker::new(&base().breaker);
    let mut at = 0;
    let mut waits = Vec::new();
    for item in 0..5 {
        record(&mut breaker, item, &down, at);
    }
    for _ in 0..10 {
        let Admission::Wait { until } = breaker.admit(seconds(at)) else { panic!("open") };
        waits.push(until.as_secs() - at);
        at = until.as_secs();
        assert_eq!(breaker.admit(seconds(at)), Admission::Probe);
        assert!(matches!(record(&mut breaker, 1, &down, at), Some(BreakerChange::Opened { .. })));
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let Admission::Wait { until } = breaker.admit(seconds(at)) else { panic!("open") };
    at = until.as_secs();
    assert_eq!(breaker.admit(seconds(at)), Admission::Probe);
    let success = decide(Signal::CStore(0));
    assert_eq!(record(&mut breaker, 1, &success, at), Some(BreakerChange::Closed));
    let mut parallel = Vec::new();
    for _ in 0..30 {
        let Admission::Go { parallel: now } = breaker.admit(seconds(at)) else { panic!("closed") };
        parallel.push(now);
        record(&mut breaker, 1, &success, at);
    }
    assert_eq!((parallel[0], parallel[9], parallel[10], parallel[20], parallel[29]), (1, 1, 2, 4, 4));
    breaker.halve(seconds(at), &base().breaker);
    assert_eq!(breaker.admit(seconds(at + 899)), Admission::Go { parallel: 2 });
    assert_eq!(breaker.admit(seconds(at + 900)), Admission::Go { parallel: 4 });
}

#[test]
fn an_outage_of_a_week_opens_once_and_is_over_within_a_cap() {
    let down = decide(Signal::Event(Event::ConnectTimeout));
    let mut breaker = Breaker::new(&base().breaker);
    let mut draws = Draws(7);
    let (mut now, mut closed_to_open, back) = (Duration::ZERO, 0, seconds(7 * 86_400));
    let closed_at = loop {
        match breaker.admit(now) {
            Admission::Wait { until } => now = until,
            Admission::Go { .. } | Admission::Probe => {
                let decided = if now < back { down.clone() } else { decide(Signal::CStore(0)) };
                match breaker.record(1, &decided, now, draws.next(), base()) {
                    Some(BreakerChange::Opened { openings: 1, .. }) => closed_to_open += 1,
                    Some(BreakerChange::Closed) => break now,
                    _ => {}
                }
            }
        }
    };
    assert_eq!(closed_to_open, 1);
    assert!(closed_at - back <= base().cap(Class::Net), "{closed_at:?}");
}

#[test]
fn a_gate_holds_back_the_whole_channel() {
    let mut breaker = Breaker::new(&base().breaker);
    breaker.close_gate(seconds(120));
    breaker.close_gate(seconds(60));
    assert_eq!(breaker.admit(seconds(119)), Admission::Wait { until: seconds(120) });
    assert_eq!(breaker.admit(seconds(120)), Admission::Go { parallel: 4 });
}

#[test]
fn a_peer_that_refuses_everything_is_a_storm_and_its_items_return() {
    let refused = decide(Signal::CStore(0xC000));
    let rules = &base().storm;
    let mut storm = Storm::default();
    assert!(
        (0..9).all(|n| storm
            .record(Answered { item: n, study: n % 2, status: 0xC000, reasoned: false }, &refused, seconds(n), rules)
            .is_none())
    );
    assert_eq!(
        storm.record(Answered { item: 9, study: 1, status: 0xC000, reasoned: false }, &refused, seconds(9), rules),
        Some(Blow { begins: true, items: (0..10).collect() })
    );
    // What was under way, and a probe later, belong to it; another answer ends it, and the next run counts anew.
    let after = Answered { item: 10, study: 1, status: 0xC000, reasoned: false };
    assert_eq!(storm.record(after, &refused, seconds(9_000), rules), Some(Blow { begins: false, items: vec![10] }));
    assert_eq!(storm.record(after, &decide(Signal::CStore(0)), seconds(9_001), rules), None);
    assert_eq!(storm.record(after, &refused, seconds(9_002), rules), None);
    // One study, a rule id, another status between, a success between, or too slow: no storm.
    let mut one_study = Storm::default();
    assert!(
        (0..50).all(|n| one_study
            .record(Answered { item: n, study: 1, status: 0xC000, reasoned: false }, &refused, seconds(n), rules)
            .is_none())
    );
    let mut reasoned = Storm::default();
    assert!(
        (0..50).all(|n| reasoned
            .record(Answered { item: n, study: n, status: 0xC000, reasoned: true }, &refused, seconds(n), rules)
            .is_none())
    );
    let mut mixed = Storm::default();
    assert!((0..50).all(|n| {
        mixed
            .record(Answered { item: n, study: n, status: 0xC000 + (n % 2) as u16, reasoned: false }, &refused, seconds(n), rules)
            .is_none()
    }));
    let (mut between, success) = (Storm::default(), decide(Signal::CStore(0)));
    assert!((0..50).all(|n| {
        between
            .record(
                Answered { item: n, study: n, status: 0xC000, reasoned: false },
                if n % 9 == 8 { &success } else { &refused },
                seconds(n),
                rules,
            )
            .is_none()
    }));
    let mut slow = Storm::default();
    assert!(
        (0..50).all(|n| slow
            .record(Answered { item: n, study: n, status: 0xC000, reasoned: false }, &refused, seconds(n * 40), rules)
            .is_none())
    );
}

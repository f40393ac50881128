//! Instances: from `queued` to `committed`, whatever the centre answers.

use std::sync::Arc;
use std::time::Duration;

use idr_profile::outcome::{Context, Event, Outcome, Stow, StowBody};
use tokio_util::sync::CancellationToken;

use super::centre::{Call, Fate};
use super::rig::{Rig, sop, study};
use crate::forward::peer::Failure;
use crate::spool::index::IndexError;
use crate::spool::{Move, Progress, Spool as _, SpoolError, SpoolId};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const REFUSED: Failure = Failure::Event(Event::ConnectionRefused);

#[tokio::test]
async fn instances_go_the_whole_way_and_every_receipt_is_kept() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..10).await;
    rig.receive(2, 0..3).await;
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 13)]));
    assert_eq!((rig.receipts_of(1), rig.receipts_of(2)), ([10, 10, 10, 1], [3, 3, 3, 1]));
    for (number, instances) in [(1, 10), (2, 3)] {
        let current = rig.centre.current(&study(number));
        assert_eq!(current.iter().map(|entry| entry.members.len()).collect::<Vec<_>>(), [instances]);
        assert_eq!(rig.registered_documents(number), [current[0].unique_id.clone()]);
        assert_eq!((rig.note(number, "r4").await, rig.note(number, "pending").await), (None, None));
    }
}

#[tokio::test]
async fn one_poisoned_instance_is_quarantined_alone_and_delays_no_other() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..8).await;
    rig.receive(2, 0..4).await;
    rig.centre.refuse(&sop(1, 3), 0xC000);
    // No time goes by: the others are registered as if it were not there.
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 11), ("quarantined", 1)]));
    assert_eq!(rig.state(1, 3).await, "quarantined(CS-C000)");
    assert!((0..8).all(|instance| rig.centre.arrivals(&sop(1, instance)) == 1));
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert_eq!(rig.centre.arrivals(&sop(1, 3)), 1, "it is not sent again");
}

#[tokio::test]
async fn while_the_centre_is_down_all_stays_queued_and_it_is_drained_when_it_is_back() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.set_down(Some(REFUSED));
    for number in 0..6 {
        rig.receive(number, 0..2).await;
    }
    let (mut openings, mut before) = (0, false);
    let down = async |forward: &crate::forward::Forward| {
        let open = forward.status()["suspended"]["stow"] == true;
        openings += u32::from(open && !before);
        before = open;
        false
    };
    rig.run_until(&forward, 3 * HOUR, SECOND, down).await;
    assert_eq!(openings, 1, "it is suspended once");
    assert!(rig.counts(&[("queued", 12)]));
    // Of 3 h with probes of at most 300 s, half of that in the mean.
    let attempts = rig.centre.calls(Call::Store).len();
    assert!((36..200).contains(&attempts), "{attempts}");
    let mut counted = 0;
    for number in 0..6 {
        counted += (rig.entry(number, 0).await.progress.attempts + rig.entry(number, 1).await.progress.attempts) as usize;
    }
    // A request carries one or two of them.
    assert!((attempts..=2 * attempts).contains(&counted), "{counted}: an attempt counts for what was sent, and for nothing else");
    rig.centre.set_down(None);
    let drained = rig.run_until(&forward, Duration::from_secs(600), SECOND, async |_| rig.counts(&[("registered", 12)])).await;
    assert!(drained, "{:?}", rig.spool_totals());
    assert_eq!(forward.status()["suspended"]["stow"], false);
    assert!((0..6).all(|number| rig.centre.current(&study(number)).len() == 1));
}

#[tokio::test]
async fn each_answer_to_a_store_leads_where_its_row_says() {
    let event = |event| Fate::Lost(Failure::Event(event));
    let rows = [
        (Fate::Status(409, None), "held(H-409)", "H-409"),
        (Fate::Status(413, None), "held(H-413)", "H-413"),
        (Fate::Status(503, Some("120")), "queued", "H-503"),
        (Fate::Status(500, None), "queued", "H-500"),
        (event(Event::HttpCut), "queued", "H-CUT"),
        (event(Event::HttpTimeout), "queued", "H-TIMEOUT"),
        (event(Event::ConnectionReset), "queued", "T-RESET"),
        (Fate::Unheard(Failure::Event(Event::HttpCut)), "queued", "H-CUT"),
        (Fate::Lost(Failure::TlsAlert(48)), "queued", "TLS-A-48"),
        (Fate::Lost(Failure::TlsAlert(80)), "queued", "TLS-A-80"),
    ];
    for (fate, state, row) in rows {
        let rig = Rig::new();
        let forward = rig.forward();
        rig.receive(1, [0]).await;
        rig.receive(2, [0]).await;
        rig.centre.script(Call::Store, [fate]);
        rig.settle(&forward).await;
        let first = rig.entry(1, 0).await;
        assert_eq!(first.progress.state.to_string(), state, "{row}");
        assert_eq!(first.progress.outcome.as_deref(), Some(row));
        // Nothing of an answer that did not come is done; the other study goes on, but where the row suspends the peer.
        let suspended = forward.status()["suspended"]["stow"] == true || row == "H-503";
        assert_eq!(rig.state(2, 0).await == "registered", !suspended, "{row}");
        rig.run(&forward, 5 * HOUR, Duration::from_secs(10)).await;
        match state {
            "queued" => assert!(rig.counts(&[("registered", 2)]), "{row}: it is sent again by itself"),
            _ => {
                assert_eq!(rig.state(1, 0).await, state, "{row}: it waits for an operator");
                forward.release(&study(1)).await.expect("released");
                rig.settle(&forward).await;
                assert!(rig.counts(&[("registered", 2)]), "{row}");
            }
        }
    }
}

#[tokio::test]
async fn an_object_that_is_quarantined_while_it_is_sent_stays_there_and_keeps_nobody_else_back() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..3).await;
    let go_on = rig.centre.pause(Call::Store);
    let decide = async {
        while rig.centre.calls(Call::Store).is_empty() {
            tokio::task::yield_now().await;
        }
        let entry = rig.entry(1, 1).await;
        assert_eq!(entry.progress.state.to_string(), "sending");
        let to = Progress { state: "quarantined(D734)".parse().expect("a state"), ..entry.progress.clone() };
        rig.spool.advance(vec![Move { id: entry.id(), to }]).await.expect("moved");
        go_on.cancel();
    };
    tokio::join!(rig.settle(&forward), decide);
    rig.run(&forward, Duration::from_secs(600), SECOND).await;
    assert_eq!(rig.state(1, 1).await, "quarantined(D734)", "the decision stands");
    assert!(rig.counts(&[("registered", 2), ("quarantined", 1)]), "{:?}", rig.spool_totals());
    assert_eq!((rig.centre.arrivals(&sop(1, 0)), rig.centre.arrivals(&sop(1, 1))), (1, 1), "nothing is sent twice");
    // That the centre has it is known here: R2 says so.
    assert_eq!(rig.receipts_of(1), [3, 3, 2, 1]);
    let current = rig.centre.current(&study(1));
    assert_eq!(current.iter().map(|entry| entry.members.clone()).collect::<Vec<_>>(), [[sop(1, 0), sop(1, 2)]]);
    // Released by an operator it is handed over again, which the centre answers with success.
    let entry = rig.entry(1, 1).await;
    let to = Progress { state: "queued".parse().expect("a state"), ..entry.progress.clone() };
    rig.spool.advance(vec![Move { id: entry.id(), to }]).await.expect("moved");
    rig.run(&forward, Duration::from_secs(3600), SECOND).await;
    assert!(rig.counts(&[("registered", 3)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn a_request_that_is_refused_as_a_whole_is_repeated_one_by_one() {
    for status in [409, 413] {
        let rig = Rig::new();
        let forward = rig.forward();
        rig.receive(1, 0..4).await;
        // The whole, and then one of the four.
        rig.centre.script(Call::Store, [Fate::Status(status, None), Fate::Status(status, None)]);
        rig.settle(&forward).await;
        let held = format!("held(H-{status})");
        assert_eq!(rig.state(1, 0).await, held);
        // A conflict is about the study, which waits as a whole (hold(study)); a size is about the one.
        assert_eq!(rig.centre.calls(Call::Store).len(), if status == 409 { 2 } else { 5 }, "{status}");
        for instance in 1..4 {
            let state = rig.state(1, instance).await;
            assert!(if status == 409 { state == held } else { ["committed", "registered"].contains(&state.as_str()) }, "{status}: {state}");
        }
        forward.release(&study(1)).await.expect("released");
        rig.run(&forward, HOUR, Duration::from_secs(60)).await;
        assert!(rig.counts(&[("registered", 4)]), "{status}");
        let more = if status == 409 { 4 } else { 1 };
        let sent: u32 = (0..4).map(|instance| rig.centre.arrivals(&sop(1, instance))).sum();
        assert_eq!((sent, rig.centre.calls(Call::Store).len()), (4, if status == 409 { 2 } else { 5 } + more), "{status}");
    }
}

#[tokio::test]
async fn retry_after_keeps_every_request_away_until_then() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, [0]).await;
    rig.centre.script(Call::Store, [Fate::Status(503, Some("120"))]);
    rig.settle(&forward).await;
    let refused = rig.clock.truth();
    rig.receive(2, [0]).await;
    rig.run(&forward, Duration::from_secs(200), SECOND).await;
    let next = rig.centre.calls(Call::Store)[1].duration_since(refused).as_secs();
    assert!((120..=133).contains(&next), "{next}");
}

#[tokio::test]
async fn a_receipt_over_other_bytes_holds_the_study_and_nothing_is_registered() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.lie();
    rig.receive(1, 0..2).await;
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert_eq!((rig.state(1, 0).await, rig.state(1, 1).await), ("held(EV-RECEIPT)".to_owned(), "held(EV-RECEIPT)".to_owned()));
    assert_eq!(rig.centre.calls(Call::Register).len(), 0);
    assert_eq!(rig.receipts_of(1), [2, 2, 0, 0]);
    let held: Vec<(String, String)> =
        forward.held_manifests().await.expect("readable").into_iter().map(|(study, row)| (study.study_uid, row)).collect();
    assert_eq!(held, [(study(1), "EV-RECEIPT".to_owned())]);
}

#[tokio::test]
async fn a_receipt_that_has_not_come_is_asked_for_again() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, [0]).await;
    rig.centre.script(Call::Receipts, [Fate::Status(404, None), Fate::Lost(Failure::Event(Event::HttpTimeout))]);
    rig.settle(&forward).await;
    assert_eq!(rig.state(1, 0).await, "sent");
    rig.run(&forward, HOUR, Duration::from_secs(10)).await;
    assert!(rig.counts(&[("registered", 1)]));
    assert_eq!(rig.centre.arrivals(&sop(1, 0)), 1);
}

#[tokio::test]
async fn a_study_with_more_receipts_than_an_answer_holds_is_committed_and_registered() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.centre.set_page(3);
    rig.receive(1, 0..10).await;
    rig.receive(2, 0..3).await;
    // R4 comes by the receipts too, behind all R3.
    rig.centre.script(Call::Register, [Fate::WithoutReceipt, Fate::WithoutReceipt]);
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert!(rig.counts(&[("registered", 13)]), "{:?}", rig.spool_totals());
    assert_eq!((rig.receipts_of(1), rig.receipts_of(2)), ([10, 10, 10, 1], [3, 3, 3, 1]));
}

#[tokio::test]
async fn what_a_page_commits_stays_committed_when_the_next_does_not_come() {
    for fate in [Fate::Status(503, None), Fate::Lost(Failure::Event(Event::HttpTimeout)), Fate::Endless] {
        let rig = Rig::new();
        let forward = rig.forward();
        rig.centre.set_page(3);
        rig.receive(1, 0..10).await;
        rig.centre.script(Call::Receipts, [Fate::WithoutReceipt, fate]);
        rig.settle(&forward).await;
        assert!(rig.counts(&[("committed", 3), ("sent", 7)]), "{fate:?}: {:?}", rig.spool_totals());
        rig.run(&forward, HOUR, Duration::from_secs(60)).await;
        assert!(rig.counts(&[("registered", 10)]), "{fate:?}");
        assert_eq!(rig.receipts_of(1), [10, 10, 10, 1], "{fate:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_held_study_is_sent_before_an_operator_has_decided() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, [Fate::Code("XDSRegistryMetadataError")]);
    rig.settle(&forward).await;
    rig.receive(1, [2]).await;
    rig.receive(2, [0]).await;
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert_eq!((rig.state(1, 2).await, rig.centre.arrivals(&sop(1, 2))), ("held(E-META)".to_owned(), 0));
    assert_eq!(rig.state(2, 0).await, "registered", "the other study goes on");
    // Also after a restart.
    let forward = rig.forward();
    rig.receive(1, [3]).await;
    rig.settle(&forward).await;
    assert_eq!(rig.centre.arrivals(&sop(1, 3)), 0);
    forward.release(&study(1)).await.expect("released");
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert!(rig.counts(&[("registered", 5)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn a_manifest_that_waits_for_an_operator_keeps_no_object_back() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, [Fate::Code("XDSUnknownRepositoryId")]);
    rig.settle(&forward).await;
    let held: Vec<String> = forward.held_manifests().await.expect("readable").into_iter().map(|(_, row)| row).collect();
    assert_eq!(held, ["E-COMM"]);
    rig.receive(1, [2]).await;
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert!(rig.counts(&[("committed", 3)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn an_object_is_held_for_its_disk_and_for_nothing_that_passes() {
    let disk = |number| SpoolError::Disk { doing: "reading", source: Arc::new(std::io::Error::from_raw_os_error(number)) };
    for (error, state, row) in [
        (disk(5), "held(L-READ)", "L-READ"),
        (disk(2), "held(L-READ)", "L-READ"),
        (SpoolError::Damaged { id: SpoolId(0), what: "its file is gone" }, "held(L-READ)", "L-READ"),
        (disk(24), "queued", "L-FD"),
        (disk(117), "queued", "X-UNKNOWN"), // EUCLEAN
        (IndexError("busy".to_owned()).into(), "queued", "X-UNKNOWN"),
        (SpoolError::Full, "queued", "L-FULL"),
        (SpoolError::Stopped, "queued", "L-STOP"),
    ] {
        let rig = Rig::new();
        let forward = rig.forward();
        rig.receive(1, [0]).await;
        rig.fail_readings([error]);
        rig.settle(&forward).await;
        let entry = rig.entry(1, 0).await;
        assert_eq!((entry.progress.state.to_string().as_str(), entry.progress.outcome.as_deref()), (state, Some(row)));
        rig.run(&forward, HOUR, Duration::from_secs(60)).await;
        assert_eq!(rig.state(1, 0).await, if state == "queued" { "registered" } else { state }, "{row}");
    }
}

#[tokio::test]
async fn a_stop_lets_the_requests_under_way_end_and_no_other_begin() {
    let rig = Rig::new();
    let forward = Arc::new(rig.forward());
    for number in 0..12 {
        rig.receive(number, [0]).await;
    }
    let under_way = rig.centre.pause(Call::Store);
    let stop = CancellationToken::new();
    let running = tokio::spawn(forward.run(stop.clone()));
    while rig.centre.calls(Call::Store).len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    under_way.cancel();
    running.await.expect("it ends by itself");
    assert_eq!(rig.centre.calls(Call::Store).len(), 4);
    assert!(rig.counts(&[("sent", 4), ("queued", 8)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn what_was_answered_stored_and_never_got_its_receipt_is_sent_again_when_released() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Receipts, [Fate::Status(404, None)]);
    rig.settle(&forward).await;
    rig.centre.lose(&sop(1, 0));
    rig.run(&forward, 48 * HOUR, Duration::from_secs(600)).await;
    assert_eq!((rig.state(1, 0).await, rig.centre.arrivals(&sop(1, 0))), ("sent".to_owned(), 1));
    assert_eq!(forward.release(&study(1)).await.expect("released"), 1);
    rig.settle(&forward).await;
    assert_eq!((rig.centre.arrivals(&sop(1, 0)), rig.centre.arrivals(&sop(1, 1))), (2, 1));
    rig.run(&forward, HOUR, Duration::from_secs(10)).await;
    assert!(rig.counts(&[("registered", 2)]), "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn every_status_without_a_body_leads_where_its_row_says_and_none_is_taken_for_success() {
    let rig = Rig::new();
    for status in 100..=999_u16 {
        let number = u64::from(status);
        rig.receive(number, [0]).await;
        // A breaker of its own.
        let forward = rig.forward();
        rig.centre.script(Call::Store, [Fate::Status(status, None)]);
        rig.settle(&forward).await;
        let Stow::All(decided) = forward.outcomes.stow(status, StowBody::None, 1, &Context::default()) else {
            panic!("{status}: one instance without a body is decided on as a whole")
        };
        let progress = rig.entry(number, 0).await.progress;
        assert_eq!(progress.outcome.as_deref(), Some(&*decided.row), "{status}");
        let expected = match decided.outcome {
            Outcome::Hold(_) => format!("held({})", decided.row),
            Outcome::Retry(_) | Outcome::Wait => "queued".to_owned(),
            other => panic!("{status}: {other} without an answer about the instance"),
        };
        assert_eq!(progress.state.to_string(), expected, "{status}");
        assert!(expected != "queued" || progress.not_before > rig.clock.truth(), "{status}: it waits");
    }
    assert_eq!(rig.centre.calls(Call::Store).len(), 900, "each is asked once");
}

#[tokio::test]
async fn an_operator_has_what_waits_for_its_next_try_sent_now_and_what_is_held_stays_held() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.set_down(Some(Event::ConnectionRefused.into()));
    rig.settle(&forward).await;
    rig.centre.set_down(None);
    let due = rig.entry(1, 0).await.progress.not_before;
    assert!(due > rig.clock.truth(), "it waits");
    assert_eq!(forward.retry_now(&study(2)).await.expect("works"), 0, "of another study");
    assert_eq!(forward.retry_now(&study(1)).await.expect("works"), 2);
    rig.settle(&forward).await;
    assert!((0..2).all(|instance| rig.centre.has(&sop(1, instance))), "sent without a wait");

    rig.receive(3, [0]).await;
    let held = rig.entry(3, 0).await;
    let to = Progress { state: "held(L-KEY)".parse().expect("a state"), ..held.progress.clone() };
    rig.fused().advance(vec![Move { id: held.id(), to }]).await.expect("moved");
    assert_eq!(forward.retry_now(&study(3)).await.expect("works"), 0);
    assert_eq!(rig.state(3, 0).await, "held(L-KEY)");
}

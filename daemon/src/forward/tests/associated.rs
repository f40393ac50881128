//! Instances by C-STORE and storage commitment, whatever the destination answers.

use std::time::Duration;

use idr_dimse::association::negotiation::ContextResult;
use idr_dimse::service::storage_commitment::EventInformation;
use idr_dimse::status::Status;
use idr_profile::outcome::{Context, Outcome, Outcomes, Signal};

use super::archive::{OnAsk, OnAssociate, OnStore, Said, Scripted, report_of};
use super::rig::{Rig, sop, study};
use crate::forward::Queue;
use crate::spool::sample::tenant;
use crate::spool::{Commitment, Entry, Move, Progress, Spool as _, State};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Long beyond all that a test waits for.
const PATIENT: Duration = Duration::from_secs(120);

async fn world(receipts: bool, response: Duration) -> (Rig, Scripted) {
    let peer = Scripted::start().await;
    let mut rig = Rig::new();
    rig.archive = Some(peer.archive(receipts, response));
    (rig, peer)
}

#[tokio::test]
async fn instances_are_sent_as_they_are_held_and_committed_by_their_report_alone() {
    let (rig, peer) = world(false, PATIENT).await;
    let forward = rig.forward();
    rig.receive(1, 0..5).await;
    rig.on_commit_only();
    rig.settle(&forward).await;
    for instance in 0..5 {
        assert_eq!(peer.bytes_of(&sop(1, instance)), [rig.bytes_of(1, instance)], "bit by bit");
        assert_eq!(rig.state(1, instance).await, "committed");
    }
    let asked = peer.requests();
    assert_eq!(asked.iter().map(|request| request.references.len()).sum::<usize>(), 5);
    assert!(asked.iter().all(|request| request.references.len() <= 3), "references_max");
    assert!(peer.answers().iter().all(|status| *status == Status::SUCCESS) && peer.answers().len() == asked.len());
    assert_eq!(rig.receipts_of(1), [5, 5, 0, 0], "handed over once each; it gives no receipts");
    let storing = &peer.associations()[0];
    assert_eq!(storing.contexts.len(), 1, "one class in one transfer syntax");
    assert_eq!(storing.contexts[0].transfer_syntaxes, ["1.2.840.10008.1.2.1"], "and in no other");
    assert_eq!(forward.status()["custody"], "commitment-only");
}

#[tokio::test]
async fn with_receipts_the_commitment_alone_commits_nothing() {
    let (rig, peer) = world(true, PATIENT).await;
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    assert_eq!((rig.state(1, 0).await, peer.requests().len()), ("sent".to_owned(), 1), "no R3 is there");
    assert!(rig.entry(1, 0).await.is_taken());
    for instance in 0..2 {
        rig.centre.receive_elsewhere(&rig.entry(1, instance).await);
    }
    rig.run(&forward, 2 * HOUR, MINUTE).await;
    assert!(rig.counts(&[("registered", 2)]), "{:?}", rig.spool_totals());
    assert_eq!((peer.requests().len(), rig.receipts_of(1)), (1, [2, 2, 2, 1]), "and it is not asked again");
}

#[tokio::test]
async fn each_answer_to_a_c_store_leads_where_its_row_says() {
    use OnStore::{Abort, Answer, CloseInPdu};
    let rows = [
        (Answer(0xA700), "queued", "CS-A700"),
        (Answer(0xA7FF), "queued", "CS-A700"),
        (Answer(0x0110), "queued", "CS-0110"),
        (Answer(0x0122), "held(CS-0122)", "CS-0122"),
        (Answer(0x0124), "held(CS-0124)", "CS-0124"),
        (Answer(0x0213), "queued", "CS-0213"),
        (Answer(0x0210), "queued", "CS-0210"),
        (Answer(0xA900), "quarantined(CS-A900)", "CS-A900"),
        (Answer(0xC000), "quarantined(CS-C000)", "CS-C000"),
        (Answer(0xB006), "held(CS-B006)", "CS-B006"),
        (Answer(0xFE00), "queued", "CS-FE00"),
        (Answer(0xFF00), "queued", "CS-FF00"),
        (Answer(0x9999), "queued", "CS-0214"),
        (Abort, "queued", "A-AB-0"),
        (CloseInPdu, "queued", "T-RESET"),
    ];
    for (fate, state, row) in rows {
        let (rig, peer) = world(false, PATIENT).await;
        rig.on_commit_only();
        let forward = rig.forward();
        rig.receive(1, [0]).await;
        rig.receive(2, [0]).await;
        peer.on_store([fate]);
        rig.settle(&forward).await;
        let first = rig.entry(1, 0).await;
        assert_eq!((first.progress.state.to_string().as_str(), first.progress.outcome.as_deref()), (state, Some(row)), "{fate:?}");
        assert_eq!(rig.state(2, 0).await, "committed", "{fate:?}: the other one goes on");
        rig.run(&forward, 3 * HOUR, MINUTE).await;
        match state {
            "queued" => assert_eq!(rig.state(1, 0).await, "committed", "{fate:?}: it is sent again by itself"),
            _ => assert_eq!(rig.state(1, 0).await, state, "{fate:?}: it waits for somebody"),
        }
    }
}

#[tokio::test]
async fn warnings_of_success_are_stored_and_only_the_report_commits() {
    for status in [0xB000, 0xB007, 0x0107, 0xB001] {
        let (rig, peer) = world(false, PATIENT).await;
        rig.on_commit_only();
        let forward = rig.forward();
        rig.receive(1, [0]).await;
        peer.on_store([OnStore::Answer(status)]);
        peer.on_ask([OnAsk::Later]);
        rig.settle(&forward).await;
        assert_eq!(rig.state(1, 0).await, "sent", "{status:04X}");
        rig.run(&forward, 3 * HOUR, MINUTE).await;
        assert_eq!(rig.state(1, 0).await, "committed", "{status:04X}");
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_ends_the_association_and_nothing_is_done() {
    for at_association in [true, false] {
        let (rig, peer) = world(false, Duration::from_secs(3)).await;
        rig.on_commit_only();
        let forward = rig.forward();
        rig.receive(1, 0..2).await;
        match at_association {
            true => peer.on_associate([OnAssociate::Silence]),
            false => peer.on_store([OnStore::Silence]),
        }
        rig.once(&forward).await;
        let first = rig.entry(1, 0).await;
        assert_eq!((first.progress.state.to_string().as_str(), first.progress.outcome.as_deref()), ("queued", Some("A-TIMEOUT")));
        let second = rig.entry(1, 1).await.progress;
        match at_association {
            true => assert_eq!((second.state.to_string().as_str(), second.attempts), ("queued", 1), "both wait"),
            // It was not attempted there, and goes at once on an association of its own.
            false => assert_ne!(second.state.to_string(), "queued"),
        }
        assert_eq!(rig.receipts_of(1)[1], usize::from(!at_association), "no hand-over is claimed of what was not answered");
    }
}

#[tokio::test]
async fn rejects_and_refused_contexts_have_their_rows() {
    use OnAssociate::{Refuse, Reject};
    for (fate, state, row) in [
        (Reject(1, 1, 3), "queued", "A-RJ-113"),
        (Reject(1, 1, 7), "queued", "A-RJ-117"),
        (Reject(2, 3, 1), "queued", "A-RJ-131"),
        (Reject(2, 3, 2), "queued", "A-RJ-132"),
        (Reject(1, 2, 1), "queued", "A-RJ-121"),
        (Refuse(ContextResult::UserRejection), "held(PC-1)", "PC-1"),
        (Refuse(ContextResult::NoReason), "queued", "PC-2"),
        (Refuse(ContextResult::AbstractSyntaxNotSupported), "held(PC-3)", "PC-3"),
        (Refuse(ContextResult::TransferSyntaxesNotSupported), "held(PC-4)", "PC-4"),
    ] {
        let (rig, peer) = world(false, PATIENT).await;
        rig.on_commit_only();
        let forward = rig.forward();
        rig.receive(1, [0]).await;
        peer.on_associate([fate]);
        rig.once(&forward).await;
        let first = rig.entry(1, 0).await;
        assert_eq!((first.progress.state.to_string().as_str(), first.progress.outcome.as_deref()), (state, Some(row)), "{fate:?}");
        assert!(peer.bytes_of(&sop(1, 0)).is_empty(), "{fate:?}");
        // What is held is tried once a day (03 §2.6).
        rig.run(&forward, 20 * HOUR, 5 * MINUTE).await;
        assert_eq!(rig.state(1, 0).await, if state == "queued" { "committed" } else { state }, "{fate:?}");
        rig.run(&forward, 6 * HOUR, 5 * MINUTE).await;
        assert_eq!(rig.state(1, 0).await, "committed", "{fate:?}");
    }
}

#[tokio::test]
async fn what_ends_an_association_delays_its_own_instance_alone() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    rig.receive(1, 0..4).await;
    peer.on_store([OnStore::Answer(0), OnStore::Abort]);
    rig.settle(&forward).await;
    assert!(rig.counts(&[("committed", 3), ("queued", 1)]), "{:?}", rig.spool_totals());
    assert!((0..4).all(|instance| peer.bytes_of(&sop(1, instance)).len() <= 1), "nothing is sent twice");
}

#[tokio::test]
async fn each_answer_to_a_request_and_each_word_of_a_report_leads_where_its_row_says() {
    use OnAsk::{Answer, Later, Report};
    let report = |said| Report(vec![said], None);
    let rows = [
        (Answer(0x0112), "held(NA-0112)", "NA-0112"),
        (Answer(0x0110), "sent", "NA-0110"),
        (Answer(0x0131), "sent", "NA-0131"),
        (Answer(0xA700), "sent", "NA-A700"),
        (Later, "sent", "NA-0000"),
        (report(Said::OtherClass), "quarantined(EV-CLASS)", "EV-CLASS"),
        (report(Said::Both), "sent", "EV-BOTH"),
        (report(Said::Failed(0x0110)), "sent", "FR-0110"),
        (report(Said::Failed(0x0112)), "queued", "FR-0112"),
        (report(Said::Failed(0x0119)), "quarantined(FR-0119)", "FR-0119"),
        (report(Said::Failed(0x0122)), "held(FR-0122)", "FR-0122"),
        (report(Said::Failed(0x0213)), "sent", "FR-0213"),
        (report(Said::Failed(0xC000)), "quarantined(FR-C000)", "FR-C000"),
        (Report(vec![Said::Committed], Some(7)), "sent", "EV-TYPE"),
        // Whatever the event type says, the lists decide.
        (Report(vec![Said::Committed], Some(2)), "committed", "EV-OK"),
    ];
    for (fate, state, row) in rows {
        let (rig, peer) = world(false, PATIENT).await;
        rig.on_commit_only();
        let forward = rig.forward();
        rig.receive(1, [0]).await;
        peer.on_ask([fate]);
        rig.settle(&forward).await;
        let first = rig.entry(1, 0).await;
        assert_eq!((first.progress.state.to_string().as_str(), first.progress.outcome.as_deref()), (state, Some(row)));
        rig.run(&forward, 6 * HOUR, MINUTE).await;
        let in_the_end = if ["sent", "queued"].contains(&state) { "committed" } else { state };
        assert_eq!(rig.state(1, 0).await, in_the_end, "{row}");
        let uids: Vec<String> = peer.requests().into_iter().map(|request| request.transaction_uid).collect();
        assert!(uids.iter().enumerate().all(|(at, uid)| !uids[..at].contains(uid)), "{row}: each request has its own Transaction UID");
        assert_eq!(peer.bytes_of(&sop(1, 0)).len(), if row == "FR-0112" { 2 } else { 1 }, "{row}: sent again where the row says so");
    }
}

#[tokio::test]
async fn an_instance_that_a_report_leaves_out_is_asked_for_again() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    peer.on_ask([OnAsk::Report(vec![Said::Committed, Said::Nothing], None)]);
    rig.settle(&forward).await;
    assert!(rig.counts(&[("committed", 1), ("sent", 1)]));
    rig.run(&forward, 3 * HOUR, MINUTE).await;
    assert!(rig.counts(&[("committed", 2)]));
    assert_eq!(peer.requests()[1].references.len(), 1, "the other one is not asked for again");
}

#[tokio::test]
async fn a_duplicate_that_is_not_confirmed_holds_the_study() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    rig.receive(1, [0]).await;
    rig.receive(2, [0]).await;
    peer.on_store([OnStore::Answer(0x0111), OnStore::Answer(0x0111)]);
    peer.on_ask([OnAsk::Report(vec![Said::Failed(0x0112)], None)]);
    rig.settle(&forward).await;
    let mut states = [rig.state(1, 0).await, rig.state(2, 0).await];
    states.sort();
    assert_eq!(states, ["committed", "held(FR-0112)"]);
}

#[tokio::test]
async fn a_report_is_taken_on_another_association_also_after_a_restart_and_counts_once() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    peer.on_ask([OnAsk::Later]);
    rig.settle(&forward).await;
    assert!(rig.counts(&[("sent", 2)]));
    drop(forward);
    let forward = rig.forward();
    rig.settle(&forward).await;
    assert_eq!(peer.requests().len(), 1, "its time has not come");
    let asked = &peer.requests()[0];
    let unknown = EventInformation { transaction_uid: "2.25.1".to_owned(), ..report_of(asked, &[Said::Committed; 2]) };
    assert_eq!(forward.report_came(&Ok((1, unknown))).await, Status::SUCCESS);
    assert!(rig.counts(&[("sent", 2)]), "a report to no request of ours changes nothing");
    assert_eq!(forward.report_came(&Err(Status::PROCESSING_FAILURE)).await, Status::PROCESSING_FAILURE);
    assert_eq!(forward.report_came(&Ok((1, report_of(asked, &[Said::Committed; 2])))).await, Status::SUCCESS);
    assert!(rig.counts(&[("committed", 2)]));
    assert_eq!(forward.report_came(&Ok((2, report_of(asked, &[Said::Failed(0x0112); 2])))).await, Status::SUCCESS);
    assert!(rig.counts(&[("committed", 2)]), "a late word about a closed transaction changes nothing");
}

#[tokio::test]
async fn without_a_report_it_is_asked_for_again_and_a_report_to_the_last_request_still_counts() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    rig.receive(1, [0]).await;
    peer.on_ask([OnAsk::Later]);
    rig.settle(&forward).await;
    rig.clock.advance(15 * MINUTE);
    rig.once(&forward).await;
    assert_eq!((rig.state(1, 0).await.as_str(), rig.entry(1, 0).await.progress.outcome.as_deref()), ("sent", Some("EV-NONE")));
    assert_eq!(forward.report_came(&Ok((1, report_of(&peer.requests()[0], &[Said::Committed])))).await, Status::SUCCESS);
    assert_eq!(rig.state(1, 0).await, "committed");
}

#[tokio::test]
async fn a_destination_that_is_away_is_suspended_and_probed_by_echo() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    // One of these opens the breaker at once; the probe after it is rejected too.
    peer.on_associate([OnAssociate::Reject(1, 1, 3), OnAssociate::Reject(1, 1, 3)]);
    rig.settle(&forward).await;
    assert_eq!(forward.status()["suspended"]["dimse"], true);
    rig.run(&forward, 24 * HOUR, 5 * MINUTE).await;
    assert!(rig.counts(&[("committed", 2)]), "{:?}", rig.spool_totals());
    assert_eq!(forward.status()["suspended"]["dimse"], false);
    let echoed = |request: &&idr_dimse::association::negotiation::Request| request.contexts[0].abstract_syntax == "1.2.840.10008.1.1";
    assert_eq!(peer.associations().iter().filter(echoed).count(), 2, "probed twice");
}

#[tokio::test]
async fn no_status_of_a_c_store_and_no_reason_of_a_report_commits_anything_but_a_commitment() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, [0]).await;
    let entry = rig.entry(1, 0).await;
    let outcomes = Outcomes::base();
    let (mut covered, now) = (0_u32, rig.clock.truth());
    for status in 0..=u16::MAX {
        let stored = outcomes.decide(Signal::CStore(status), &Context::default());
        let to = forward.next(&entry, &stored, State::Sent, State::Queued, now).expect("every status moves it").to;
        let sent = matches!(stored.outcome, Outcome::Done | Outcome::DoneDuplicate);
        assert_eq!(to.state == State::Sent, sent, "{status:04X}H");
        assert!(sent || matches!(to.state, State::Queued | State::Held(_) | State::Quarantined(_)), "{status:04X}H: {}", to.state);
        let failed = outcomes.decide(Signal::CommitmentFailure(status), &Context::default());
        assert!(!matches!(failed.outcome, Outcome::Done | Outcome::DoneDuplicate), "{status:04X}H: a failure is never done");
        let to = forward.next(&entry, &failed, State::Committed, State::Sent, now).expect("every reason moves it").to;
        assert_ne!(to.state, State::Committed, "{status:04X}H");
        covered += 1;
    }
    assert_eq!((covered, study(1)), (65_536, entry.record.facts.study_uid));
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_every_instance_committed_and_repeats_at_most_the_step_in_flight() {
    let mut step = 1;
    loop {
        let (rig, peer) = world(false, PATIENT).await;
        rig.on_commit_only();
        rig.receive(1, 0..3).await;
        rig.receive(2, 0..2).await;
        rig.centre.fuse.set(step);
        let blown = rig.centre.fuse.blown.lock().expect("no panic while held").clone();
        let forward = rig.forward();
        let crashed = tokio::select! {
            biased;
            () = blown.cancelled() => true,
            () = rig.settle(&forward) => false,
        };
        drop(forward);
        rig.centre.fuse.set(i64::MAX);
        let forward = rig.forward();
        // What was asked for when it died has its 900 s, and a delay of class `commit`.
        let done = rig.run_until(&forward, 3 * HOUR, MINUTE, async |_| rig.counts(&[("committed", 5)])).await;
        assert!(done, "step {step}: {:?}", rig.spool_totals());
        for (number, instances) in [(1, 3), (2, 2)] {
            assert!((0..instances as u64).all(|instance| (1..=2).contains(&peer.bytes_of(&sop(number, instance)).len())), "step {step}");
            let [r1, r2, ..] = rig.receipts_of(number);
            assert_eq!(r1, instances, "step {step}");
            assert!((instances..=2 * instances).contains(&r2), "step {step}: {r2}");
        }
        if !crashed {
            break;
        }
        step += 1;
    }
    assert!(step > 10, "{step} steps: the story has become short");
}

/// Profile 03 §2.5, §7.8: as `scheduling::a_centre_that_refuses_everything_quarantines_nothing`, by C-STORE.
#[tokio::test]
async fn an_archive_that_refuses_everything_quarantines_nothing_and_is_asked_little_until_it_takes_one() {
    let (rig, peer) = world(false, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    for number in 1..=8 {
        rig.receive(number, 0..6).await;
    }
    let objects =
        |state: &str| rig.spool_totals().iter().filter(|((_, of), _)| *of == state).map(|(_, amount)| amount.objects).sum::<u64>();
    peer.refuse_all(Some((0xC000, "out of order")));
    let stormy = async |forward: &crate::forward::Forward| forward.status()["suspended"]["dimse"] == true;
    assert!(rig.run_until(&forward, MINUTE, MINUTE / 60, stormy).await, "it is suspended");
    assert_eq!((objects("quarantined"), objects("queued")), (0, 48), "what it refused before is taken back");
    let tried =
        |peer: &Scripted| (1..=8).flat_map(|n| (0..6).map(move |i| (n, i))).map(|(n, i)| peer.bytes_of(&sop(n, i)).len()).sum::<usize>();
    let before = tried(&peer);
    rig.run(&forward, 3 * HOUR, MINUTE).await;
    assert_eq!((objects("quarantined"), objects("queued")), (0, 48));
    // Three hours: the breaker is closed by each C-ECHO and opened again by the first answer.
    let (associations, sent) = (peer.associations().len(), tried(&peer) - before);
    assert!(sent <= associations, "{sent} objects on {associations} associations: each ends with its first answer");
    peer.refuse_all(None);
    let drained = rig.run_until(&forward, 3 * HOUR, MINUTE, async |_| objects("committed") == 48).await;
    assert!(drained, "{:?}", rig.spool_totals());
}

#[tokio::test]
async fn refusals_by_c_store_of_one_study_or_with_their_rule_are_no_storm() {
    for (receipts, comment, studies, quarantined) in [
        (true, "D307 a rule of the centre", 4, 24),
        // What stands in a comment of anybody else is no rule of ours.
        (false, "D307 of nobody", 4, 0),
        (true, "no rule", 4, 0),
        (true, "D000 is none", 4, 0),
        (false, "", 1, 24),
    ] {
        let (rig, peer) = world(receipts, PATIENT).await;
        let forward = rig.forward();
        for number in 1..=studies {
            rig.receive(number, 0..24 / studies).await;
        }
        peer.refuse_all(Some((0xC307, comment)));
        rig.run(&forward, 2 * MINUTE, MINUTE / 60).await;
        let of = |state: &str| rig.spool_totals().iter().filter(|((_, of), _)| *of == state).map(|(_, amount)| amount.objects).sum::<u64>();
        assert_eq!((of("quarantined"), of("queued")), (quarantined, 24 - quarantined), "{comment:?}, {studies} studies, {receipts}");
    }
}

#[tokio::test]
async fn however_many_wait_for_their_receipt_what_is_to_be_committed_is_asked_for() {
    let (rig, peer) = world(true, PATIENT).await;
    rig.on_commit_only();
    let forward = rig.forward();
    // As many as are claimed at once, all due before the one that came last.
    let many = 4096;
    for number in 1..=2 {
        rig.receive(number, 0..many / 2).await;
        let members = rig.spool.members(&tenant(), &study(number), None, 5000).await.expect("readable");
        let taken = |entry: &Entry| {
            let commitment = Some(Commitment { taken: true, ..Commitment::default() });
            Move { id: entry.id(), to: Progress { state: State::Sent, commitment, ..entry.progress.clone() } }
        };
        rig.spool.advance(members.iter().map(taken).collect()).await.expect("moved");
    }
    rig.clock.advance(MINUTE);
    rig.receive(3, [0]).await;
    forward.round(Queue::Instances, &tenant()).await.expect("a round");
    assert_eq!(rig.state(3, 0).await, "sent");
    forward.round(Queue::Commitments, &tenant()).await.expect("a round");
    assert_eq!(peer.requests().iter().map(|request| request.references.len()).sum::<usize>(), 1, "it is asked for");
}

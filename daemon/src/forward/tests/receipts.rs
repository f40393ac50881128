//! R4: verified over the R3 of the manifest's members, and asked for until it is here.

use std::time::Duration;

use idr_profile::outcome::Event;

use super::centre::{Call, Fate};
use super::rig::{Rig, sop, study};
use crate::forward::Queue;
use crate::forward::peer::Failure;
use crate::spool::disk::Fault;
use crate::spool::sample::tenant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_r4_with_a_merkle_root_is_kept_when_it_is_over_the_r3_of_the_members() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..70).await;
    rig.run(&forward, MINUTE, SECOND).await;
    assert!(rig.counts(&[("registered", 70)]));
    assert_eq!((rig.receipts_of(1), rig.note(1, "r4").await), ([70, 70, 70, 1], None));
}

#[tokio::test]
async fn an_r4_over_other_r3_is_not_kept_and_the_right_one_is_fetched() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..70).await;
    rig.centre.script(Call::Register, [Fate::WrongReceipt]);
    let registered = async |_: &crate::forward::Forward| !rig.centre.calls(Call::Register).is_empty();
    assert!(rig.run_until(&forward, MINUTE, SECOND, registered).await);
    let current = rig.centre.current(&study(1)).remove(0);
    assert!(rig.counts(&[("registered", 70)]), "it undoes nothing");
    rig.run(&forward, HOUR, MINUTE).await;
    assert_eq!((rig.registered_documents(1), rig.note(1, "r4").await), (vec![current.unique_id], None));
    let kept = rig.receipts.of_study(&study(1)).expect("readable");
    assert!(!kept.iter().any(|carried| *carried == rig.centre.wrong_receipt()), "the wrong one is not kept");
}

#[tokio::test]
async fn a_missing_r4_is_noted_survives_a_restart_and_is_warned_of_after_a_day() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.receive(2, 0..2).await;
    rig.centre.script(Call::Register, [Fate::WithoutReceipt, Fate::WithoutReceipt]);
    // R3 come; for R4 the centre says for two days that there is nothing.
    rig.centre.script(Call::Receipts, [Fate::WithoutReceipt, Fate::WithoutReceipt]);
    rig.centre.script(Call::Receipts, std::iter::repeat_n(Fate::Status(404, None), 1000));
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 4)]));
    assert!(rig.note(1, "r4").await.is_some() && rig.note(2, "r4").await.is_some());
    let forward = rig.forward();
    rig.run(&forward, 20 * HOUR, 10 * MINUTE).await;
    assert_eq!((forward.status()["receipts_missing"].as_u64(), forward.missing_warned()), (Some(2), 0));
    rig.run(&forward, 16 * HOUR, 10 * MINUTE).await;
    assert_eq!(forward.missing_warned(), 2);
    let asked = rig.centre.calls(Call::Receipts).len();
    assert!((20..200).contains(&asked), "{asked}: as often as the class of commitments says");
    rig.centre.unscript(Call::Receipts);
    rig.run(&forward, 7 * HOUR, 10 * MINUTE).await;
    assert_eq!((rig.note(1, "r4").await, rig.note(2, "r4").await), (None, None));
    assert_eq!((rig.receipts_of(1), rig.receipts_of(2)), ([2, 2, 2, 1], [2, 2, 2, 1]));
    assert_eq!(forward.status()["receipts_missing"], 0);
}

#[tokio::test]
async fn an_r4_that_comes_late_ends_no_wait_for_that_of_a_later_revision() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, [Fate::WithoutReceipt, Fate::WithoutReceipt]);
    // R3 come; for R4 there is nothing yet.
    rig.centre.script(Call::Receipts, [Fate::WithoutReceipt, Fate::Status(404, None)]);
    rig.settle(&forward).await;
    rig.clock.advance(20 * SECOND);
    rig.receive(1, [2]).await;
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 2), ("committed", 1)]) && rig.note(1, "r4").await.is_some());
    // The answer about the first is under way when the second is registered.
    rig.clock.advance(20 * MINUTE);
    let under_way = rig.centre.pause(Call::Receipts);
    let tenant = tenant();
    let (asked, made) = tokio::join!(forward.round(Queue::Commitments, &tenant), async {
        while rig.centre.calls(Call::Receipts).len() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let made = forward.round(Queue::Manifests, &tenant).await;
        under_way.cancel();
        made
    });
    assert!(asked.expect("ends well") && made.expect("ends well"));
    assert_eq!(rig.centre.entries(&study(1)).len(), 2);
    rig.run(&forward, 8 * HOUR, MINUTE).await;
    let mut registered: Vec<String> = rig.centre.entries(&study(1)).into_iter().map(|entry| entry.unique_id).collect();
    let mut documents = rig.registered_documents(1);
    registered.sort();
    documents.sort();
    assert_eq!((documents, rig.note(1, "r4").await), (registered, None));
}

#[tokio::test]
async fn the_r4_of_a_manifest_that_was_found_in_the_registry_is_asked_for() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, [Fate::Unheard(Failure::Event(Event::HttpCut))]);
    rig.settle(&forward).await;
    // Whether it has arrived is not known, and what was sent cannot be read: the registry says what is there.
    rig.damage_manifest();
    rig.run(&forward, 8 * HOUR, MINUTE).await;
    assert!(rig.counts(&[("registered", 2)]));
    assert_eq!((rig.receipts_of(1), rig.note(1, "r4").await), ([2, 2, 2, 1], None));
}

#[tokio::test]
async fn nothing_is_sent_while_the_receipt_log_cannot_be_written() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.receipts.flush().expect("a working disk");
    let steps = rig.disk.steps();
    (1..=60).for_each(|step| rig.disk.fail(steps + step, Fault::Eio));
    let mut failed = 0;
    while forward.round(Queue::Instances, &tenant()).await.is_err() {
        failed += 1;
        rig.clock.advance(5 * SECOND);
        assert!(rig.centre.arrivals(&sop(1, 0)) <= 1, "after {failed} rounds");
    }
    assert!(failed > 5, "{failed}");
    rig.run(&forward, HOUR, MINUTE).await;
    assert!(rig.counts(&[("registered", 2)]));
    // The one of the attempt whose receipt did not reach the log at once, and the one of the next.
    assert_eq!((rig.centre.arrivals(&sop(1, 0)), rig.receipts_of(1)), (2, [2, 4, 2, 1]));
}

#[tokio::test]
async fn a_receipt_of_an_earlier_revision_that_a_crash_left_due_is_asked_for_when_a_later_one_has_its_own() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    // As a crash leaves it between the note and the registration of its objects: no walk over registered objects finds it.
    let published = rig.note(1, "published").await.expect("published");
    let content_key = published.split(' ').nth(1).expect("a content key");
    rig.set_note(1, "r4", Some(format!("{content_key} {}", rig.clock.truth()))).await;
    rig.clock.advance(HOUR);
    rig.receive(1, [2]).await;
    rig.run(&forward, 8 * HOUR, MINUTE).await;
    assert!(rig.counts(&[("registered", 3)]));
    assert_eq!(rig.note(1, "r4").await, None, "nothing is due any more");
}

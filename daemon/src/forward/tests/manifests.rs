//! Manifests: one current entry of each study and this source, whatever happens.

use std::time::Duration;

use idr_profile::outcome::Event;

use super::centre::{Call, Centre, Fate};
use super::rig::{Rig, study};
use crate::forward::peer::Failure;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_submission_whose_answer_was_lost_is_looked_for_and_not_sent_again() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..3).await;
    rig.centre.script(Call::Register, [Fate::Unheard(Failure::Event(Event::HttpTimeout))]);
    rig.run(&forward, HOUR, SECOND).await;
    assert!(rig.counts(&[("registered", 3)]));
    assert_eq!((rig.centre.calls(Call::Register).len(), rig.centre.calls(Call::Query).len()), (1, 1));
    assert_eq!(rig.centre.entries(&study(1)).len(), 1);
    assert_eq!(rig.receipts_of(1), [3, 3, 3, 1], "R4 is fetched");
}

#[tokio::test]
async fn a_submission_that_did_not_arrive_is_sent_again_as_it_was() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..3).await;
    let lost = Fate::Lost(Failure::Event(Event::ConnectionReset));
    rig.centre.script(Call::Register, [lost, Fate::Status(503, Some("5")), Fate::Code("XDSRegistryBusy")]);
    rig.run(&forward, HOUR, SECOND).await;
    assert!(rig.counts(&[("registered", 3)]));
    assert_eq!(rig.centre.calls(Call::Register).len(), 4);
    assert_eq!(rig.centre.calls(Call::Query).len(), 2, "after an answer of the registry there is nothing to look for");
    assert_eq!(rig.centre.entries(&study(1)).len(), 1);
}

#[tokio::test]
async fn a_late_image_replaces_the_manifest_and_not_before_the_interval_is_over() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    let first = rig.centre.current(&study(1)).remove(0);
    let published = rig.clock.truth();
    rig.clock.advance(Duration::from_secs(20));
    rig.receive(1, [2]).await;
    rig.clock.advance(Duration::from_secs(20));
    rig.receive(1, [3]).await;
    rig.run(&forward, HOUR, SECOND).await;
    let registered = rig.centre.calls(Call::Register);
    assert_eq!(registered.len(), 2, "both late images are one revision");
    assert_eq!(registered[1].duration_since(published).as_secs(), 300);
    let current = rig.centre.current(&study(1));
    assert_eq!(current.len(), 1);
    assert_eq!((current[0].replaces.as_deref(), current[0].members.len()), (Some(first.entry_uuid.as_str()), 4));
    assert!(rig.counts(&[("registered", 4)]));
    assert_eq!(rig.receipts_of(1), [4, 4, 4, 2]);
}

#[tokio::test]
async fn a_refused_manifest_is_held_and_listed_until_an_operator_releases_it() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.receive(2, 0..2).await;
    rig.centre.script(Call::Register, [Fate::Code("XDSRegistryMetadataError")]);
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert!(rig.counts(&[("committed", 2), ("registered", 2)]), "the other study goes on");
    let held = forward.held_manifests().await.expect("readable");
    assert_eq!(held.len(), 1);
    let (held, row) = &held[0];
    assert_eq!((row.as_str(), rig.centre.current(&held.study_uid).len()), ("E-META", 0));
    // Also after a restart.
    let forward = rig.forward();
    rig.run(&forward, HOUR, Duration::from_secs(60)).await;
    assert_eq!(rig.centre.calls(Call::Register).len(), 2);
    assert!(forward.release(&held.study_uid).await.expect("released") > 0);
    rig.settle(&forward).await;
    assert!(rig.counts(&[("registered", 4)]));
    assert_eq!(rig.centre.current(&held.study_uid).len(), 1);
    assert!(forward.held_manifests().await.expect("readable").is_empty());
}

#[tokio::test]
async fn another_document_under_our_id_holds_the_study() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, [Fate::Unheard(Failure::Event(Event::HttpCut))]);
    rig.settle(&forward).await;
    let unique_id = rig.centre.current(&study(1)).remove(0).unique_id;
    rig.centre.change(&unique_id, |entry| entry.hash = "0".repeat(40));
    rig.run(&forward, HOUR, Duration::from_secs(10)).await;
    assert_eq!(rig.note(1, "hold").await.as_deref(), Some("E-HASH"));
    assert!(rig.counts(&[("committed", 2)]));
}

#[tokio::test]
async fn the_manifest_of_another_source_is_never_replaced() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    let first = rig.centre.current(&study(1)).remove(0);
    // Somebody at the centre withdraws ours; a manifest of another site stands.
    rig.centre.change(&first.unique_id, |entry| entry.approved = false);
    rig.centre.insert(Centre::foreign(&study(1)));
    rig.clock.advance(HOUR);
    rig.receive(1, [2]).await;
    rig.run(&forward, HOUR, SECOND).await;
    assert!(rig.counts(&[("registered", 3)]));
    let current = rig.centre.current(&study(1));
    assert!(current.iter().any(|entry| entry.unique_id == "2.25.1"), "the other one stands");
    let ours: Vec<_> = current.iter().filter(|entry| entry.unique_id != "2.25.1").collect();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].replaces.as_deref(), ours[0].members.len()), (None, 3));
}

#[tokio::test]
async fn our_own_current_manifest_is_found_again_and_replaced() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.settle(&forward).await;
    let forgotten = rig.note(1, "published").await;
    rig.clock.advance(HOUR);
    rig.receive(1, [2]).await;
    rig.run(&forward, HOUR, SECOND).await;
    let second = rig.centre.current(&study(1)).remove(0);
    rig.centre.insert(Centre::foreign(&study(1)));
    // The journal was restored from a backup that does not know of the second.
    rig.set_note(1, "published", forgotten).await;
    let forward = rig.forward();
    rig.receive(1, [3]).await;
    rig.run(&forward, HOUR, SECOND).await;
    assert!(rig.counts(&[("registered", 4)]));
    let ours: Vec<_> = rig.centre.current(&study(1)).into_iter().filter(|entry| entry.unique_id != "2.25.1").collect();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].replaces.as_deref(), ours[0].members.len()), (Some(second.entry_uuid.as_str()), 4));
}

#[tokio::test]
async fn a_kept_manifest_that_cannot_be_read_makes_no_second_one() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.centre.script(Call::Register, [Fate::Unheard(Failure::Event(Event::HttpCut))]);
    rig.settle(&forward).await;
    rig.damage_manifest();
    rig.run(&forward, HOUR, SECOND).await;
    assert_eq!(rig.centre.entries(&study(1)).len(), 1);
    assert!(rig.counts(&[("registered", 2)]));
}

#[tokio::test]
async fn a_release_of_a_study_without_a_revision_under_way_drops_no_later_revision() {
    let rig = Rig::new();
    let forward = rig.forward();
    rig.receive(1, 0..2).await;
    rig.set_note(1, "hold", Some("EV-RECEIPT".to_owned())).await;
    rig.settle(&forward).await;
    assert_eq!(rig.centre.calls(Call::Register).len(), 0);
    rig.centre.script(Call::Register, [Fate::Unheard(Failure::Event(Event::HttpTimeout))]);
    rig.centre.script(Call::Query, [Fate::Unseen]);
    forward.release(&study(1)).await.expect("released");
    rig.settle(&forward).await;
    rig.receive(1, [2]).await;
    rig.run(&forward, HOUR, SECOND).await;
    assert!(rig.counts(&[("registered", 3)]));
    assert_eq!(rig.centre.current(&study(1)).iter().map(|entry| entry.members.len()).collect::<Vec<_>>(), [3]);
}

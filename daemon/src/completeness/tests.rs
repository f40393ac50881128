use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use idr_dimse::service::instance_availability::{Availability, Notice};
use idr_dimse::service::mpps::{Creation, Modification, State};
use idr_dimse::service::normalized::Refused;
use idr_dimse::service::storage_commitment::{ActionInformation, Reference};
use idr_dimse::status::Status;

use super::*;
use crate::commitment::Device;
use crate::spool::disk::{Fault, MemoryDisk};
use crate::spool::sample::{self, announced, at, data, facts, hand_over, study_uid, tenant};
use crate::spool::{MemorySpool, State as SpoolState};

const SETTLE: SignedDuration = SignedDuration::from_secs(10);

thread_local! {
    /// Seconds after the morning of the tests; each test has a thread of its own.
    static NOW: AtomicI64 = const { AtomicI64::new(0) };
}

fn clock() -> Timestamp {
    at(NOW.with(|now| now.load(Ordering::Relaxed)))
}

fn set_clock(seconds: i64) {
    NOW.with(|now| now.store(seconds, Ordering::Relaxed));
}

/// Three listings to a row.
fn open(disk: &MemoryDisk, spool: &Arc<MemorySpool>) -> Arc<Completeness> {
    let text = include_str!("../../../configs/idr-site.toml").replace("listings_max = 5000 ", "listings_max = 3 ");
    let text = format!("environment = \"test\"\n{text}");
    let config = Arc::new(Config::parse(&text, Path::new("/etc/idr-site/idr-site.toml")).expect("valid"));
    Completeness::open(config, Arc::new(disk.clone()), spool.clone(), clock).expect("a working disk")
}

fn device(inbound: &str) -> Device {
    Device { tenant: tenant(), inbound: inbound.to_owned(), calling_ae: "CT1".to_owned(), called_ae: "IDRSITE".to_owned() }
}

fn references(objects: &[u64]) -> Vec<Reference> {
    let reference = |n: &u64| {
        let announced = announced(*n);
        Reference { sop_class_uid: announced.sop_class_uid, sop_instance_uid: announced.sop_instance_uid }
    };
    objects.iter().map(reference).collect()
}

fn creation() -> Creation {
    Creation { study_uids: vec![study_uid(0)], instances: Vec::new() }
}

fn ending(objects: &[u64]) -> Modification {
    Modification { state: Some(State::Completed), study_uids: Vec::new(), instances: Some(references(objects)) }
}

fn notice(objects: &[u64]) -> Notice {
    let instances = references(objects).into_iter().map(|reference| (reference, Availability::Kept)).collect();
    Notice { study_uid: study_uid(0), instances }
}

/// Objects 0 to 3 are of one study; object `n` comes `n` seconds after the morning.
async fn arrive(spool: &MemorySpool, objects: &[u64]) {
    for n in objects {
        hand_over(spool, announced(*n), facts(*n), &data(*n, 100)).await.expect("committed");
    }
}

/// Whether the study is complete at an instant.
async fn complete(completeness: &Completeness, spool: &MemorySpool, seconds: i64) -> bool {
    let study = spool.study(&tenant(), &study_uid(0)).await.expect("a working index").expect("here");
    completeness.of(&study, SETTLE, at(seconds), |since| since).await
}

/// A step that begins and ends in the second 5.
async fn say(completeness: &Completeness, uid: &str, objects: &[u64]) {
    set_clock(5);
    completeness.create_step(&device("ct-1"), Some(uid.to_owned()), creation()).await.expect("kept");
    completeness.set_step(&device("ct-1"), uid.to_owned(), ending(objects)).await.expect("kept");
}

fn status(done: Result<String, Refused>) -> Status {
    done.expect_err("refused").status
}

#[tokio::test]
async fn a_study_is_complete_ten_seconds_after_all_that_was_listed_is_here() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    arrive(&spool, &[0, 1]).await;
    assert!(!complete(&completeness, &spool, 1000).await, "nothing was listed");
    say(&completeness, "1.9", &[0, 1, 2]).await;
    assert!(!complete(&completeness, &spool, 1000).await, "one is missing");
    arrive(&spool, &[2]).await;
    // The step ended after the last instance came.
    assert!(!complete(&completeness, &spool, 14).await);
    assert!(complete(&completeness, &spool, 15).await);
}

#[tokio::test]
async fn a_restart_at_any_time_changes_nothing() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    arrive(&spool, &[0]).await;
    set_clock(5);
    open(&disk, &spool).create_step(&device("ct-1"), Some("1.9".to_owned()), creation()).await.expect("kept");
    let disk = disk.power_cut(1);
    open(&disk, &spool).set_step(&device("ct-1"), "1.9".to_owned(), ending(&[0, 1])).await.expect("kept");
    let disk = disk.power_cut(2);
    let completeness = open(&disk, &spool);
    assert!(!complete(&completeness, &spool, 1000).await);
    assert_eq!(status(completeness.create_step(&device("ct-1"), Some("1.9".to_owned()), creation()).await), Status(0x0111));
    arrive(&spool, &[1]).await;
    let completeness = open(&disk.power_cut(3), &spool);
    assert!(!complete(&completeness, &spool, 14).await && complete(&completeness, &spool, 15).await);
    assert_eq!(completeness.totals(), (0, 1));
}

#[tokio::test]
async fn what_comes_after_the_evaluation_is_not_covered() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    arrive(&spool, &[0, 1]).await;
    say(&completeness, "1.9", &[0, 1]).await;
    assert!(complete(&completeness, &spool, 15).await);
    let late = crate::spool::Facts { received: at(16), ..facts(2) };
    hand_over(&*spool, announced(2), late, &data(2, 100)).await.expect("committed");
    assert!(!complete(&completeness, &spool, 1000).await, "the late instance waits for the quiet time");
    set_clock(20);
    completeness.create_notice(&device("pacs"), None, notice(&[2])).await.expect("kept");
    assert!(!complete(&completeness, &spool, 29).await && complete(&completeness, &spool, 30).await, "or for the next listing");
}

#[tokio::test]
async fn a_step_in_progress_lists_nothing_and_holds_nothing_up() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    arrive(&spool, &[0]).await;
    set_clock(5);
    completeness.create_step(&device("ct-1"), Some("1.9".to_owned()), creation()).await.expect("kept");
    let going_on = Modification { state: None, ..ending(&[0]) };
    completeness.set_step(&device("ct-1"), "1.9".to_owned(), going_on).await.expect("kept");
    assert!(!complete(&completeness, &spool, 1000).await);
    assert_eq!(completeness.totals(), (1, 0));
    completeness.create_notice(&device("pacs"), None, notice(&[0])).await.expect("kept");
    assert!(complete(&completeness, &spool, 15).await, "another listing counts all the same");
    let ended = Modification { state: Some(State::Discontinued), study_uids: Vec::new(), instances: None };
    completeness.set_step(&device("ct-1"), "1.9".to_owned(), ended).await.expect("kept");
    assert_eq!(completeness.totals(), (0, 2));
}

#[tokio::test]
async fn all_listings_of_a_study_count_together() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    arrive(&spool, &[0, 1]).await;
    say(&completeness, "1.9", &[0, 1]).await;
    completeness.create_notice(&device("pacs"), Some("1.8".to_owned()), notice(&[1, 3])).await.expect("kept");
    assert!(!complete(&completeness, &spool, 1000).await);
    let listed = completeness.listed(&tenant(), &study_uid(0)).await.expect("known").expect("listed");
    assert_eq!(listed, Listed { listed: 3, missing: vec![announced(3).sop_instance_uid], since: at(5) });
    arrive(&spool, &[3]).await;
    assert!(complete(&completeness, &spool, 15).await);
    let listed = completeness.listed(&tenant(), &study_uid(0)).await.expect("known").expect("listed");
    assert_eq!(listed.missing, Vec::<String>::new());
    assert_eq!(completeness.listed(&tenant(), &study_uid(4)).await.expect("known"), None);
}

#[tokio::test]
async fn what_is_quarantined_is_here_and_what_is_of_another_class_is_not() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    let quarantined = crate::spool::Facts { state: SpoolState::Quarantined("D701".parse().expect("valid")), ..facts(0) };
    hand_over(&*spool, announced(0), quarantined, &data(0, 100)).await.expect("committed");
    let mr = crate::spool::Announced { sop_class_uid: "1.2.840.10008.5.1.4.1.1.4".to_owned(), ..announced(1) };
    hand_over(&*spool, mr, facts(1), &data(1, 100)).await.expect("committed");
    say(&completeness, "1.9", &[0]).await;
    assert!(complete(&completeness, &spool, 15).await);
    say(&completeness, "1.8", &[1]).await;
    assert!(!complete(&completeness, &spool, 15).await);
}

#[tokio::test]
async fn a_request_for_storage_commitment_lists_for_the_studies_of_what_is_here() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    arrive(&spool, &[0, 1]).await;
    set_clock(5);
    let asked = |uid: &str, objects: &[u64]| ActionInformation { transaction_uid: uid.to_owned(), references: references(objects) };
    completeness.requested(&device("ct-1"), &asked("1.7.1", &[3])).await;
    assert_eq!(completeness.totals(), (0, 0), "of which study it speaks is not known");
    for _ in 0..2 {
        completeness.requested(&device("ct-1"), &asked("1.7.2", &[0, 1, 2])).await;
    }
    assert_eq!(completeness.totals(), (0, 1), "a repeated request says nothing new");
    assert!(!complete(&completeness, &spool, 1000).await);
    arrive(&spool, &[2]).await;
    assert!(complete(&completeness, &spool, 15).await);
}

#[tokio::test]
async fn a_step_belongs_to_the_row_that_began_it_and_ends_once() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    let set = |inbound: &str, uid: &str| {
        let (completeness, device, uid) = (completeness.clone(), device(inbound), uid.to_owned());
        async move { completeness.set_step(&device, uid, ending(&[0])).await }
    };
    assert_eq!(status(set("ct-1", "1.9").await), Status(0x0112));
    let given = completeness.create_step(&device("ct-1"), None, creation()).await.expect("kept");
    assert!(given.starts_with("2.25.") && given.len() <= 44, "{given}");
    assert_eq!(status(completeness.create_step(&device("ct-1"), Some(given.clone()), creation()).await), Status(0x0111));
    assert_eq!(status(set("pacs", &given).await), Status(0x0112), "it is nobody else's");
    set("ct-1", &given).await.expect("kept");
    let refused = set("ct-1", &given).await.expect_err("it has ended");
    assert_eq!((refused.status, refused.error_id), (Status(0x0110), Some(0xA710)));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_answered_with_success_and_can_be_said_again() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    let ct = device("ct-1");
    let create = || completeness.create_step(&ct, Some("1.9".to_owned()), creation());
    let set = || completeness.set_step(&ct, "1.9".to_owned(), ending(&[0]));
    disk.fail(disk.steps() + 1, Fault::Enospc);
    assert_eq!(status(create().await), Status(0x0110));
    create().await.expect("kept");
    disk.fail(disk.steps() + 1, Fault::Enospc);
    assert_eq!(status(set().await), Status(0x0110));
    set().await.expect("kept");
    let (_, kept, _) = Ledger::<Listing>::open(Arc::new(disk.power_cut(1))).expect("a working disk");
    assert_eq!(kept.iter().map(|(_, listing)| listing.phase).collect::<Vec<_>>(), [Phase::Completed]);
}

#[tokio::test]
async fn the_oldest_of_a_row_gives_way_and_what_is_old_goes() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    let notify = |uid: &str| {
        let (completeness, uid) = (completeness.clone(), uid.to_owned());
        async move { completeness.create_notice(&device("pacs"), Some(uid), notice(&[0])).await }
    };
    set_clock(0);
    say(&completeness, "1.9", &[0]).await;
    for uid in ["1.1", "1.2", "1.3"] {
        notify(uid).await.expect("kept");
    }
    assert_eq!(completeness.totals(), (0, 4), "each row has its own bound");
    disk.fail(disk.steps() + 1, Fault::Enospc);
    assert_eq!(status(notify("1.4").await), Status(0x0110));
    assert_eq!(completeness.totals(), (0, 4), "nothing gives way to what could not be kept");
    let (_, kept, _) = Ledger::<Listing>::open(Arc::new(disk.clone())).expect("a working disk");
    assert_eq!(kept.len(), 4);
    notify("1.4").await.expect("kept");
    assert_eq!(completeness.totals(), (0, 4));
    assert_eq!(status(notify("1.2").await), Status(0x0111));
    set_clock(8 * 86_400);
    notify("1.5").await.expect("kept");
    assert_eq!(completeness.totals(), (0, 2), "those of the row that are older than keep_days are gone");
    let (_, kept, _) = Ledger::<Listing>::open(Arc::new(disk)).expect("a working disk");
    assert_eq!(kept.len(), 2);
}

#[tokio::test]
async fn a_listing_that_cannot_be_read_silences_no_other_and_is_asked_for_again() {
    let (disk, spool) = (MemoryDisk::default(), Arc::new(sample::memory_spool()));
    let completeness = open(&disk, &spool);
    arrive(&spool, &[0]).await;
    say(&completeness, "1.8", &[0, 1]).await;
    let other = Notice { study_uid: "1.2.7".to_owned(), ..notice(&[0, 2]) };
    completeness.create_notice(&device("pacs"), Some("1.9".to_owned()), other).await.expect("kept");
    let (ledger, kept, _) = Ledger::<Listing>::open(Arc::new(disk.clone())).expect("a working disk");
    let (first, listing) = &kept[0];
    ledger.remove(*first).expect("removed");
    set_clock(100);
    assert_eq!(completeness.overdue(&tenant(), at(50)).await, ["1.2.7"], "the one after it");
    ledger.write(*first, listing).expect("written");
    assert!(completeness.overdue(&tenant(), at(50)).await.is_empty(), "it rests");
    set_clock(160);
    assert_eq!(completeness.overdue(&tenant(), at(50)).await, [study_uid(0)]);
    assert!(completeness.overdue(&tenant(), at(50)).await.is_empty(), "each is asked for once");
}

//! What time does to a study: waits that pass, and a clock that is set forward or back.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use idr_dimse::service::storage_commitment::{ActionInformation, Reference};

use super::*;
use crate::commitment::Device;

thread_local! {
    /// Seconds after the morning of the tests; each test has a thread of its own.
    static NOW: AtomicI64 = const { AtomicI64::new(0) };
    static GONE: AtomicI64 = const { AtomicI64::new(0) };
}

fn clock() -> Timestamp {
    at(NOW.with(|now| now.load(Ordering::Relaxed)))
}

/// Time goes by: both clocks go.
fn set_clock(seconds: i64) {
    let before = NOW.with(|now| now.swap(seconds, Ordering::Relaxed));
    GONE.with(|gone| gone.fetch_add(seconds - before, Ordering::Relaxed));
}

/// Somebody sets the wall clock.
fn put_clock(seconds: i64) {
    NOW.with(|now| now.store(seconds, Ordering::Relaxed));
}

fn monotonic() -> Duration {
    Duration::from_secs(GONE.with(|gone| gone.load(Ordering::Relaxed)).try_into().expect("it goes forward"))
}

/// Over a disk with what devices said.
fn studies_now(spool: &Arc<dyn Spool>, said: Arc<MemoryDisk>, site: &str, map: &str) -> Studies {
    studies_over(spool, said, site, map, clock).with_monotonic(monotonic)
}

/// A device asks for the commitment of these instances.
async fn ask(studies: &Studies, instances: &[u64]) {
    let device = Device { tenant: tenant(), inbound: "ct-1".to_owned(), calling_ae: "CT1".to_owned(), called_ae: "IDRSITE".to_owned() };
    let reference = |instance: &u64| Reference { sop_class_uid: CT.to_owned(), sop_instance_uid: instance_uid(*instance) };
    let references = instances.iter().map(reference).collect();
    studies.completeness.requested(&device, &ActionInformation { transaction_uid: "1.2.3".to_owned(), references }).await;
}

async fn arrive(spool: &Arc<dyn Spool>, object: &Object) {
    hand_over(&**spool, object.announced(), object.facts(), &object.data()).await.expect("kept");
}

/// The rules that the last evaluation found.
async fn found(spool: &Arc<dyn Spool>) -> Option<String> {
    let study = spool.study(&tenant(), &study_uid(1)).await.expect("readable").expect("here");
    let note = study.notes.get(EVALUATED)?.clone();
    Some(note.split(' ').skip(4).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn what_was_listed_and_does_not_come_is_found_when_its_time_has_passed_and_gone_when_it_comes() {
    let (_, spool) = memory();
    let said = Arc::new(MemoryDisk::default());
    let studies = studies_now(&spool, said.clone(), "", MAP);
    arrive(&spool, &object(1)).await;
    arrive(&spool, &object(2)).await;
    set_clock(10);
    ask(&studies, &[1, 2, 3]).await;
    for (seconds, rules) in [(2_000, Some("")), (10 + 3_599, Some("")), (10 + 3_600, Some("D721")), (10_000, Some("D721"))] {
        set_clock(seconds);
        studies.round(&tenant()).await.expect("a working disk");
        assert_eq!(found(&spool).await.as_deref(), rules, "{seconds}");
    }
    assert_eq!(states(&spool).await, ["1 queued", "2 queued"], "a warning holds nothing");
    let again = studies_now(&spool, Arc::new(said.power_cut(1)), "", MAP);
    again.round(&tenant()).await.expect("a working disk");
    assert_eq!(found(&spool).await.as_deref(), Some("D721"), "after a restart it is asked for again");
    arrive(&spool, &Object { instance: 3, ..object(10_001) }).await;
    set_clock(10_301);
    again.round(&tenant()).await.expect("a working disk");
    assert_eq!((found(&spool).await.as_deref(), states(&spool).await.len()), (Some(""), 3), "all of it is here");
}

#[tokio::test]
async fn a_stricter_site_keeps_a_study_that_waits_for_something_else_when_its_count_is_wrong() {
    let (_, spool) = memory();
    let studies = studies_now(&spool, Arc::default(), "levels = { D721 = \"REJECT\" }", "revision = 1");
    arrive(&spool, &object(1)).await;
    set_clock(10);
    ask(&studies, &[1, 2]).await;
    set_clock(2_000);
    studies.round(&tenant()).await.expect("a working disk");
    assert_eq!(states(&spool).await, ["1 held(D437)"]);
    set_clock(4_000);
    studies.round(&tenant()).await.expect("a working disk");
    assert_eq!(states(&spool).await, ["1 quarantined(D721)"]);
    arrive(&spool, &Object { instance: 2, ..object(4_001) }).await;
    set_clock(4_400);
    studies.round(&tenant()).await.expect("a working disk");
    assert!(!states(&spool).await.iter().any(|state| state.contains("D721")), "{:?}", states(&spool).await);
}

const DAY: i64 = 86_400;

/// Rounds, one a second, until the study is evaluated; how many seconds that took.
async fn seconds_to_evaluation(studies: &Studies, spool: &Arc<dyn Spool>, most: i64) -> Option<i64> {
    for second in 0..=most {
        studies.round(&tenant()).await.expect("a working disk");
        if !states(spool).await.iter().any(|state| state.ends_with("held(incomplete)")) {
            return Some(second);
        }
        set_clock(NOW.with(|now| now.load(Ordering::Relaxed)) + 1);
    }
    None
}

#[tokio::test]
async fn a_clock_that_is_set_while_a_study_comes_neither_cuts_it_nor_keeps_it_for_a_day() {
    for (what, step, latest) in [("forward", DAY, 300), ("back", -DAY, 300), ("as it was", 0, 200)] {
        let (_, spool) = memory();
        let studies = studies_now(&spool, Arc::default(), "", MAP);
        set_clock(DAY);
        arrive(&spool, &object(DAY.unsigned_abs())).await;
        studies.round(&tenant()).await.expect("a working disk");
        // A hundred seconds of its quiet time go by, and then the clock is set.
        for second in 1..=100 {
            set_clock(DAY + second);
            studies.round(&tenant()).await.expect("a working disk");
        }
        put_clock(DAY + 100 + step);
        let seconds = seconds_to_evaluation(&studies, &spool, 400).await;
        assert_eq!(seconds, Some(latest), "{what}: the wait begins anew, and once");
    }
}

#[tokio::test]
async fn an_image_that_came_by_a_clock_ahead_waits_its_quiet_time_after_a_restart() {
    let (_, spool) = memory();
    set_clock(2 * DAY);
    arrive(&spool, &object(2 * DAY.unsigned_abs())).await;
    put_clock(DAY);
    let studies = studies_now(&spool, Arc::default(), "", MAP);
    assert_eq!(seconds_to_evaluation(&studies, &spool, 400).await, Some(300));
}

#[tokio::test]
async fn what_was_listed_is_complete_ten_seconds_after_a_clock_was_set_back() {
    let (_, spool) = memory();
    let studies = studies_now(&spool, Arc::default(), "", MAP);
    set_clock(DAY);
    arrive(&spool, &object(DAY.unsigned_abs())).await;
    ask(&studies, &[DAY.unsigned_abs()]).await;
    studies.round(&tenant()).await.expect("a working disk");
    put_clock(5);
    assert_eq!(seconds_to_evaluation(&studies, &spool, 400).await, Some(10));
}

#[tokio::test]
async fn an_operator_ends_the_wait_of_what_came_by_a_clock_ahead() {
    let (_, spool) = memory();
    let studies = studies_now(&spool, Arc::default(), "", MAP);
    set_clock(DAY);
    arrive(&spool, &object(DAY.unsigned_abs())).await;
    put_clock(0);
    assert!(studies.release(&study_uid(1)).await.expect("a working disk"));
    assert_eq!(seconds_to_evaluation(&studies, &spool, 5).await, Some(0));
}

#[tokio::test]
async fn a_study_that_rests_is_looked_at_again_after_a_clock_was_set_back() {
    let (_, spool) = memory();
    let studies = studies_now(&spool, Arc::default(), "", "revision = 1");
    arrive(&spool, &object(1)).await;
    set_clock(DAY);
    studies.round(&tenant()).await.expect("a working disk");
    assert_eq!(states(&spool).await, ["1 held(D437)"], "no controller: it rests");
    studies.round(&tenant()).await.expect("a working disk");
    put_clock(10);
    studies.maps.store(Arc::new(maps(MAP)));
    set_clock(11);
    studies.round(&tenant()).await.expect("a working disk");
    set_clock(11 + 300);
    studies.round(&tenant()).await.expect("a working disk");
    assert_eq!(states(&spool).await, ["1 queued"]);
}

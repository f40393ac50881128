//! What time does to a study: waits that pass, and a clock that is set forward or back.

use std::sync::atomic::{AtomicI64, Ordering};

use idr_dimse::service::storage_commitment::{ActionInformation, Reference};

use super::*;
use crate::commitment::Device;

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
    let studies = studies_over(&spool, said.clone(), "", MAP, clock);
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
    let again = studies_over(&spool, Arc::new(said.power_cut(1)), "", MAP, clock);
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
    let studies = studies_over(&spool, Arc::default(), "levels = { D721 = \"REJECT\" }", "revision = 1", clock);
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

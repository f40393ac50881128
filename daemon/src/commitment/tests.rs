use std::path::Path;

use super::*;
use crate::spool::contract::to;
use crate::spool::disk::{Fault, MemoryDisk};
use crate::spool::index::MemoryStore;
use crate::spool::sample::{self, announced, at, data, facts, hand_over, tenant};
use crate::spool::{Announced, Move};

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// Rows `ct-1`, which listens, and `pacs`, which does not; at most two requests of each without a report.
fn config() -> Arc<Config> {
    let text = include_str!("../../../configs/idr-site.toml").replace("requests_max = 1000 ", "requests_max = 2 ");
    let row =
        |name: &str, more: &str| format!("\n[[inbound]]\nname = \"{name}\"\nae_title = \"{name}\"\naddresses = [\"10.1.2.3\"]\n{more}\n");
    let rows = [row("ct-1", "commitment_address = \"10.1.2.3:104\""), row("pacs", "")].concat();
    let text = format!("environment = \"test\"\n{text}{rows}");
    Arc::new(Config::parse(&text, Path::new("/etc/idr-site/idr-site.toml")).expect("valid"))
}

fn trust() -> Trust {
    Trust::parse(include_str!("../../../configs/trust.toml"), &mut |_| unreachable!("no file is named")).expect("valid")
}

fn open(disk: &MemoryDisk, spool: Arc<dyn Spool>, clock: fn() -> Timestamp) -> Arc<Commitments> {
    Commitments::open(config(), &trust(), Arc::new(disk.clone()), spool, clock).expect("a working disk")
}

fn morning() -> Timestamp {
    at(0)
}

fn eight_days_later() -> Timestamp {
    at(8 * 86_400)
}

fn device(inbound: &str) -> Device {
    Device { tenant: tenant(), inbound: inbound.to_owned(), calling_ae: "CT1".to_owned(), called_ae: "IDRSITE".to_owned() }
}

fn reference(n: u64, class: &str) -> Reference {
    Reference { sop_class_uid: class.to_owned(), sop_instance_uid: announced(n).sop_instance_uid }
}

fn asking(transaction: &str, objects: &[u64]) -> ActionInformation {
    ActionInformation { transaction_uid: transaction.to_owned(), references: objects.iter().map(|n| reference(*n, CT)).collect() }
}

fn place(commitments: &Commitments, transaction: &str) -> Option<Place> {
    commitments.book().requests.values().find(|waiting| waiting.transaction_uid == transaction).map(|waiting| waiting.place)
}

/// As many files as requests are open.
fn files(disk: &MemoryDisk) -> usize {
    Ledger::open(Arc::new(disk.clone())).expect("a working disk").1.len()
}

#[tokio::test]
async fn what_this_row_handed_over_is_committed_in_every_state_and_nothing_else_is() {
    let spool = Arc::new(sample::memory_spool());
    let quarantined = State::Quarantined("D732".parse().expect("valid"));
    let ways: [&[State]; 9] = [
        &[],
        std::slice::from_ref(&quarantined),
        &[State::Queued],
        &[State::Queued, State::Sent],
        &[State::Queued, State::Sent, State::Committed],
        &[State::Queued, State::Sent, State::Committed, State::Registered],
        &[State::Queued, State::Sent, State::Committed, State::Registered, State::Released],
        &[quarantined.clone(), State::Rejected],
        &[quarantined.clone(), State::Superseded],
    ];
    for (n, way) in (0..).zip(ways) {
        let id = hand_over(&*spool, announced(n), facts(n), &data(n, 100)).await.expect("committed").id;
        for state in way {
            spool.advance(vec![Move { id, to: to(state.clone(), 20) }]).await.expect("moved");
        }
    }
    hand_over(&*spool, Announced { inbound: "pacs".to_owned(), ..announced(50) }, facts(50), &data(50, 100)).await.expect("committed");
    let elsewhere = Announced { tenant: "t2".parse().expect("valid"), ..announced(51) };
    hand_over(&*spool, elsewhere, facts(51), &data(51, 100)).await.expect("committed");

    let commitments = open(&MemoryDisk::default(), spool, morning);
    let mut asked = asking("1.9.1", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 50, 51, 52, 0]);
    asked.references.push(reference(0, "1.2.840.10008.5.1.4.1.1.4"));
    let ticket = commitments.accept(device("ct-1"), asked).await.expect("taken");
    let report = commitments.report(&ticket).await.expect("decided");
    assert_eq!(report.transaction_uid, "1.9.1");
    assert_eq!(report.committed, (0..9).map(|n| reference(n, CT)).collect::<Vec<_>>(), "each once");
    let mut failed: Vec<_> = (50..53).map(|n| (reference(n, CT), FailureReason::NO_SUCH_OBJECT_INSTANCE)).collect();
    failed.push((reference(0, "1.2.840.10008.5.1.4.1.1.4"), FailureReason::CLASS_INSTANCE_CONFLICT));
    assert_eq!(report.failed, failed);
}

#[tokio::test]
async fn an_object_whose_file_does_not_hold_is_not_committed_though_the_index_has_it() {
    let disk = MemoryDisk::default();
    let (spool, _) = sample::open(&disk, &MemoryStore::default(), false).expect("an empty disk");
    let spool = spool.seam();
    let announced = announced(1);
    let id = hand_over(&*spool, announced.clone(), facts(1), &data(1, 100)).await.expect("committed").id;
    let commitments = open(&disk, spool, morning);
    let ticket = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
    assert_eq!(commitments.report(&ticket).await.expect("decided").failed, []);
    disk.remove(&crate::spool::object_file::path(&announced, id)).expect("there");
    let report = commitments.report(&ticket).await.expect("decided");
    assert_eq!(report.failed, [(reference(1, CT), FailureReason::PROCESSING_FAILURE)]);
    assert_eq!(report.event_type(), 2);
}

#[tokio::test]
async fn of_objects_with_one_uid_every_one_must_be_here_with_its_whole_length() {
    let disk = MemoryDisk::default();
    let (spool, _) = sample::open(&disk, &MemoryStore::default(), false).expect("an empty disk");
    let spool = spool.seam();
    hand_over(&*spool, announced(1), facts(1), &data(1, 100)).await.expect("committed");
    let second = hand_over(&*spool, announced(1), facts(1), &data(2, 100)).await.expect("committed").id;
    let commitments = open(&disk, spool, morning);
    let ticket = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
    assert_eq!(commitments.report(&ticket).await.expect("decided").failed, []);
    let file = disk.open(&crate::spool::object_file::path(&announced(1), second)).expect("there");
    file.set_length(file.length().expect("known") - 1).expect("cut");
    let report = commitments.report(&ticket).await.expect("decided");
    assert_eq!(report.failed, [(reference(1, CT), FailureReason::PROCESSING_FAILURE)]);
}

#[tokio::test]
async fn a_transaction_uid_stands_for_one_list() {
    let disk = MemoryDisk::default();
    let commitments = open(&disk, Arc::new(sample::memory_spool()), morning);
    let first = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
    let status = commitments.accept(device("ct-1"), asking("1.9.1", &[1, 2])).await.err();
    assert_eq!(status, Some(Status::DUPLICATE_TRANSACTION_UID));
    // The same again: whoever asks now is told, the ticket of the first time is worth nothing.
    let again = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
    drop(first);
    assert_eq!((place(&commitments, "1.9.1"), files(&disk)), (Some(Place::Leased(again.lease)), 1));
    let other = commitments.accept(device("pacs"), asking("1.9.1", &[1, 2])).await.expect("another row has its own");
    assert_eq!(files(&disk), 2);
    commitments.answered(again, Status::SUCCESS).await;
    commitments.answered(other, Status(0x0107)).await;
    assert_eq!((commitments.totals(), files(&disk)), ((0, 0), 0), "success and warning");
}

#[tokio::test]
async fn a_request_that_cannot_be_kept_is_not_taken() {
    for step in 0..4 {
        let disk = MemoryDisk::default();
        let commitments = open(&disk, Arc::new(sample::memory_spool()), morning);
        disk.fail(disk.steps() + 1 + step, Fault::Eio);
        let status = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.err();
        assert_eq!(status, Some(Status::PROCESSING_FAILURE), "step {step}");
        assert_eq!((commitments.totals(), files(&disk)), ((0, 0), 0));
        assert!(commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.is_ok(), "asked again");
    }
}

#[tokio::test]
async fn the_requests_of_a_row_without_a_report_are_bounded_and_held_ones_are_given_up_by_age() {
    let disk = MemoryDisk::default();
    let commitments = open(&disk, Arc::new(sample::memory_spool()), morning);
    let mut tickets = Vec::new();
    for transaction in ["1.9.1", "1.9.2"] {
        tickets.push(commitments.accept(device("pacs"), asking(transaction, &[1])).await.expect("taken"));
    }
    let status = commitments.accept(device("pacs"), asking("1.9.3", &[1])).await.err();
    assert_eq!(status, Some(Status::RESOURCE_LIMITATION));
    assert!(commitments.accept(device("ct-1"), asking("1.9.3", &[1])).await.is_ok(), "another row has its own");
    // The association ends, and the row has no address.
    tickets.clear();
    assert_eq!(place(&commitments, "1.9.1"), Some(Place::Held(NO_ADDRESS)));
    for transaction in ["1.9.4", "1.9.5"] {
        drop(commitments.accept(device("pacs"), asking(transaction, &[1])).await.expect("held ones take no place"));
    }
    let held: Vec<_> = ["1.9.1", "1.9.2", "1.9.4", "1.9.5"].map(|uid| place(&commitments, uid).is_some()).to_vec();
    assert_eq!((held, files(&disk)), (vec![false, false, true, true], 3));
}

#[tokio::test]
async fn the_answer_of_the_device_decides_as_the_table_says() {
    let disk = MemoryDisk::default();
    let commitments = open(&disk, Arc::new(sample::memory_spool()), morning);
    let now = Instant::now();
    for (status, shortest, longest) in [(0x0110, 30, 60), (0x0213, 10, 30), (0x0210, 1, 2)] {
        let ticket = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
        commitments.answered(ticket, Status(status)).await;
        let Some(Place::Due(due)) = place(&commitments, "1.9.1") else { panic!("{status:04X}: tried again") };
        let delay = due - now;
        assert!(delay >= Duration::from_secs(shortest), "{status:04X}: {delay:?}");
        // The failures before this one have doubled it at most twice.
        assert!(delay <= Duration::from_secs(longest * 4 + 5), "{status:04X}: {delay:?}");
    }
    let ticket = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
    commitments.answered(ticket, Status(0x0112)).await;
    assert!(matches!(place(&commitments, "1.9.1"), Some(Place::Held(_))));
    assert_eq!((commitments.totals(), files(&disk)), ((0, 1), 1));
}

#[tokio::test]
async fn after_a_restart_all_are_tried_and_after_a_week_without_an_answer_they_are_held() {
    let disk = MemoryDisk::default();
    let spool: Arc<dyn Spool> = Arc::new(sample::memory_spool());
    let commitments = open(&disk, spool.clone(), morning);
    let kept = commitments.accept(device("ct-1"), asking("1.9.1", &[1])).await.expect("taken");
    let disk = disk.power_cut(7);
    drop(kept);
    let commitments = open(&disk, spool.clone(), morning);
    let (ticket, inbound) = commitments.due(&[]).expect("due at once");
    assert_eq!(inbound, "ct-1");
    assert!(commitments.due(&[]).is_none(), "leased");
    commitments.again(&ticket, Class::Net, "no connection");
    assert!(matches!(place(&commitments, "1.9.1"), Some(Place::Due(_))));

    let commitments = open(&disk, spool, eight_days_later);
    let (ticket, _) = commitments.due(&[]).expect("a start tries it again");
    commitments.again(&ticket, Class::Net, "no connection");
    assert_eq!(place(&commitments, "1.9.1"), Some(Place::Held(NO_CONNECTION)));
    assert_eq!(files(&disk), 1, "and it stays");
}

#[tokio::test]
async fn one_report_of_a_row_is_on_its_way_at_a_time() {
    let commitments = open(&MemoryDisk::default(), Arc::new(sample::memory_spool()), morning);
    for transaction in ["1.9.1", "1.9.2"] {
        drop(commitments.accept(device("ct-1"), asking(transaction, &[1])).await.expect("taken"));
    }
    assert!(commitments.due(&["ct-1".to_owned()]).is_none());
    assert_eq!(commitments.next_due(&["ct-1".to_owned()]), None);
    let (ticket, _) = commitments.due(&[]).expect("due");
    commitments.answered(ticket, Status::SUCCESS).await;
    assert_eq!(place(&commitments, "1.9.1"), None, "the oldest first");
    assert!(place(&commitments, "1.9.2").is_some());
}

#[tokio::test]
async fn a_device_that_cannot_be_reached_is_tried_less_and_less_whatever_waits_for_it() {
    let commitments = open(&MemoryDisk::default(), Arc::new(sample::memory_spool()), morning);
    for transaction in ["1.9.1", "1.9.2"] {
        drop(commitments.accept(device("ct-1"), asking(transaction, &[1])).await.expect("taken"));
    }
    let mut tried = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let (ticket, _) = commitments.due(&[]).expect("due");
        tried.push(ticket.id);
        commitments.unreached(&ticket, "no connection");
        assert!(commitments.due(&[]).is_none(), "nor is the other one tried");
        let wait = commitments.next_due(&[]).expect("two wait").saturating_duration_since(Instant::now());
        assert!(wait <= Duration::from_secs(3600), "{wait:?}");
        longest = longest.max(wait);
        // As if the time had passed.
        commitments.book().unreached.values_mut().for_each(|(_, until)| *until = Instant::now());
    }
    assert_eq!(tried[..6], [0, 1, 0, 1, 0, 1], "one does not stand in the way of another");
    assert!(longest > Duration::from_secs(300), "{longest:?}");
    let (ticket, _) = commitments.due(&[]).expect("due");
    commitments.unreached(&ticket, "no connection");
    commitments.book().unreached.values_mut().for_each(|(_, until)| *until = Instant::now());
    let (ticket, _) = commitments.due(&[]).expect("due");
    commitments.answered(ticket, Status::SUCCESS).await;
    assert!(commitments.due(&[]).is_some(), "it is there again: the other one at once");
}

use super::log::{FOLDER, read_log};
use super::*;
use crate::spool::disk::{Disk as _, Fault, MemoryDisk, read_from};
use crate::spool::index::{Change, MemoryStore, Row};
use crate::spool::sample::{at, digest, holder, signer};
use idr_profile::receipt::{LogFault, LogWalk, Object, Source, Verifier};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn parts(disk: &MemoryDisk, signers: Vec<Signer>, noted: Option<ReceiptHash>) -> Parts {
    Parts {
        disk: Arc::new(disk.clone()),
        index: Arc::new(MemoryStore::default()),
        holder: holder(),
        signers,
        random: Box::new(StdRng::seed_from_u64(5)),
        noted,
    }
}

fn open(disk: &MemoryDisk, noted: Option<ReceiptHash>, files: Vec<Carried>) -> (Receipts, LogFindings, TakenOver) {
    let opened = Receipts::open(parts(disk, vec![signer()], noted), |_| {}).expect("a working disk");
    let findings = opened.findings.clone();
    let (receipts, taken) = opened.take_over(files, at(9)).expect("a working disk");
    (receipts, findings, taken)
}

fn object(n: u8) -> Object {
    Object {
        sop_instance_uid: format!("1.2.246.10.1.7.{n}"),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
        study_uid: "1.2.246.10.1.5.1".to_owned(),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".to_owned(),
        digest: digest(&[n]),
        size_bytes: 1,
    }
}

fn acceptance(n: u8) -> Statement {
    Statement::Acceptance { object: object(n), source: Source::default() }
}

fn hand_over(n: u8, r1: ReceiptHash) -> Statement {
    Statement::HandOver {
        object: object(n),
        source: Source::default(),
        acceptance: r1,
        attempt: "1".to_owned(),
        overrides: Vec::new(),
        sent_digest: None,
    }
}

/// R3 of the centre.
fn commit(n: u8, r1: ReceiptHash) -> Carried {
    signer().sign(Receipt {
        id: Ids::default().next(at(3), [n; 10]),
        at: at(3),
        holder: Holder::new("1.2.246.10.2", "central-1").expect("valid"),
        log_prev: Some(r1),
        statement: Statement::Commit { object: object(n), source: Source::default(), acceptance: Some(r1) },
    })
}

/// Issues and settles, and leaves it to the next flush.
fn accept(receipts: &Receipts, n: u8) -> Carried {
    let r1 = receipts.issue(acceptance(n), at(n.into())).expect("in order");
    receipts.settle(&r1.hash(), true);
    r1
}

fn kinds_and_faults(disk: &MemoryDisk) -> (Vec<String>, Vec<LogFault>) {
    let (receipts, broken) = read_log(Arc::new(disk.clone())).expect("readable");
    assert_eq!(broken, 0);
    let mut walk = LogWalk::new(Verifier::new([&signer().to_receipt_key(&holder())]).expect("a key"), None);
    receipts.iter().for_each(|carried| walk.push(carried));
    (receipts.iter().map(|carried| carried.receipt().kind().to_string()).collect(), walk.finish(None))
}

fn segment() -> PathBuf {
    Path::new(FOLDER).join(format!("{:020}.jsonl", 1))
}

/// Replaces the log by some of its lines.
fn keep_lines(disk: &MemoryDisk, keep: impl Fn(usize) -> bool) {
    let file = disk.open(&segment()).expect("there");
    let text = read_from(&*file, 0).expect("readable");
    let kept: Vec<u8> =
        text.split_inclusive(|byte| *byte == b'\n').enumerate().filter(|(at, _)| keep(*at)).flat_map(|(_, line)| line.to_vec()).collect();
    file.set_length(0).and_then(|()| file.write_at(0, &kept)).expect("writable");
}

#[test]
fn the_log_has_the_order_of_the_chain_whatever_the_order_of_durability() {
    let disk = MemoryDisk::default();
    let (receipts, ..) = open(&disk, None, Vec::new());
    let all: Vec<_> = (1..=3).map(|n| receipts.issue(acceptance(n), at(n.into())).expect("in order")).collect();
    receipts.settle(&all[2].hash(), true);
    receipts.settle(&all[1].hash(), true);
    receipts.flush().expect("a working disk");
    assert!(all.iter().all(|carried| receipts.owes(&carried.hash())), "nothing is logged before the first is settled");
    receipts.settle(&all[0].hash(), true);
    receipts.flush().expect("a working disk");
    assert!(!all.iter().any(|carried| receipts.owes(&carried.hash())));
    assert_eq!(receipts.of_study(&object(1).study_uid).expect("readable"), all);
    assert_eq!(receipts.by_hash(&all[1].hash()).expect("readable"), Some(all[1].clone()));
    assert_eq!(kinds_and_faults(&disk), (vec!["R1".to_owned(); 3], Vec::new()));
    assert_eq!(receipts.logged_head(), Some(all[2].hash()));
}

#[test]
fn a_receipt_that_failed_is_named_by_one_recovery_record_if_a_later_one_lives() {
    let disk = MemoryDisk::default();
    let (receipts, ..) = open(&disk, None, Vec::new());
    let all: Vec<_> = (1..=3).map(|n| receipts.issue(acceptance(n), at(n.into())).expect("in order")).collect();
    receipts.settle(&all[0].hash(), true);
    receipts.settle(&all[1].hash(), false);
    assert!(matches!(receipts.issue(acceptance(4), at(4)), Err(ReceiptError::Unsettled)), "nothing is built on a broken chain");
    receipts.repair(at(5)).expect("waits for the third");
    assert!(receipts.is_broken());
    receipts.settle(&all[2].hash(), true);
    receipts.repair(at(5)).expect("a working disk");
    accept(&receipts, 4);
    receipts.flush().expect("a working disk");
    assert_eq!(kinds_and_faults(&disk), (["R1", "R1", "recovery", "R1"].map(str::to_owned).to_vec(), Vec::new()));
    let (log, _) = read_log(Arc::new(disk)).expect("readable");
    assert_eq!(log[2].receipt().statement, Statement::Recovery { missing: vec![all[1].hash()] });
}

#[test]
fn the_place_of_a_failed_receipt_is_given_again_if_no_later_one_lives() {
    let disk = MemoryDisk::default();
    let (receipts, ..) = open(&disk, None, Vec::new());
    accept(&receipts, 1);
    let failed = receipts.issue(acceptance(2), at(2)).expect("in order");
    receipts.settle(&failed.hash(), false);
    receipts.repair(at(3)).expect("a working disk");
    accept(&receipts, 3);
    receipts.flush().expect("a working disk");
    assert_eq!(kinds_and_faults(&disk), (vec!["R1".to_owned(); 2], Vec::new()));
}

#[test]
fn receipts_of_the_log_alone_are_durable_when_said_and_foreign_ones_are_kept_once() {
    let disk = MemoryDisk::default();
    let (receipts, ..) = open(&disk, None, Vec::new());
    let r1 = accept(&receipts, 1);
    receipts.say(vec![hand_over(1, r1.hash())], at(2)).expect("a working disk");
    let r3 = commit(1, r1.hash());
    for _ in 0..2 {
        receipts.keep(vec![r3.clone()]).expect("a working disk");
    }
    let disk = disk.power_cut(0);
    let (receipts, findings, taken) = open(&disk, receipts.logged_head(), vec![r1]);
    assert_eq!((findings.read, taken), (3, TakenOver::default()));
    let kinds: Vec<_> =
        receipts.of_study(&object(1).study_uid).expect("readable").iter().map(|carried| carried.receipt().kind().to_string()).collect();
    assert_eq!(kinds, ["R1", "R2", "R3"]);
}

#[test]
fn a_failing_log_keeps_what_it_owes_and_catches_up() {
    for step in 1..=4 {
        let disk = MemoryDisk::default();
        let (receipts, ..) = open(&disk, None, Vec::new());
        let r1 = accept(&receipts, 1);
        disk.fail(disk.steps() + step, Fault::Eio);
        let failed = receipts.flush().is_err();
        assert_eq!(receipts.owes(&r1.hash()), failed, "step {step}");
        accept(&receipts, 2);
        receipts.flush().expect("works again");
        let disk = disk.power_cut(step);
        assert_eq!(kinds_and_faults(&disk), (vec!["R1".to_owned(); 2], Vec::new()), "step {step}");
    }
}

#[test]
fn foreign_receipts_that_a_failing_log_did_not_take_are_written_once_when_it_works_again() {
    for step in 1..=4 {
        let disk = MemoryDisk::default();
        let (receipts, ..) = open(&disk, None, Vec::new());
        let r1 = accept(&receipts, 1);
        let foreign = [commit(1, r1.hash()), commit(2, r1.hash())];
        disk.fail(disk.steps() + step, Fault::Eio);
        let _ = receipts.keep(foreign.to_vec());
        disk.fail(disk.steps() + step, Fault::Eio);
        let _ = receipts.keep(foreign.to_vec());
        receipts.keep(foreign.to_vec()).expect("works again");
        // A fault that was not met is not met by the reader.
        let (kinds, _) = kinds_and_faults(&disk.power_cut(step));
        assert_eq!(kinds, ["R1", "R3", "R3"], "step {step}");
    }
}

#[test]
fn after_a_rotation_the_next_key_signs_and_the_first_key_still_verifies_all() {
    let disk = MemoryDisk::default();
    let (receipts, ..) = open(&disk, None, Vec::new());
    accept(&receipts, 1);
    let next = || {
        let mut pkcs8 = hex::decode("302e020100300506032b657004220420").expect("hex");
        pkcs8.extend([8; 32]);
        Signer::from_pkcs8(&pkcs8).expect("a key")
    };
    receipts.rotate(next(), at(2)).expect("a working disk");
    accept(&receipts, 3);
    receipts.flush().expect("a working disk");
    drop(receipts);
    let opened = Receipts::open(parts(&disk, vec![signer(), next()], None), |_| {}).expect("the next key is there");
    let (receipts, _) = opened.take_over(Vec::new(), at(4)).expect("a working disk");
    accept(&receipts, 5);
    receipts.flush().expect("a working disk");
    assert_eq!(receipts.public_key().kid, next().kid());
    assert_eq!(kinds_and_faults(&disk), (["R1", "key", "R1", "R1"].map(str::to_owned).to_vec(), Vec::new()));
    let lost = Receipts::open(parts(&disk, vec![signer()], None), |_| {}).err();
    assert!(matches!(lost, Some(ReceiptError::Key { kid }) if kid == next().kid()));
}

#[test]
fn receipts_that_were_logged_and_are_gone_are_reported_and_never_signed_away() {
    for (what, keep) in [("from the middle", [true, false, true, true]), ("from the end", [true, true, false, false])] {
        let disk = MemoryDisk::default();
        let (receipts, ..) = open(&disk, None, Vec::new());
        (1..=4).for_each(|n| drop(accept(&receipts, n)));
        receipts.flush().expect("a working disk");
        let noted = receipts.logged_head();
        drop(receipts);
        keep_lines(&disk, |line| keep[line]);
        let (receipts, findings, taken) = open(&disk, noted, Vec::new());
        assert!(taken.cut_short || !findings.gone.is_empty(), "{what}");
        assert_eq!(taken.missing, [], "{what}");
        accept(&receipts, 5);
        receipts.flush().expect("a working disk");
        let (kinds, faults) = kinds_and_faults(&disk);
        assert!(!kinds.contains(&"recovery".to_owned()), "{what}");
        assert!(matches!(faults.as_slice(), [LogFault::Break { .. }]), "{what}: {faults:?}");
    }
}

#[test]
fn an_end_that_was_torn_in_its_middle_is_cut_and_what_is_readable_is_logged_again_in_order() {
    let disk = MemoryDisk::default();
    let (receipts, ..) = open(&disk, None, Vec::new());
    accept(&receipts, 1);
    receipts.flush().expect("a working disk");
    let noted = receipts.logged_head();
    let r1s: Vec<_> = (2..=4).map(|n| accept(&receipts, n)).collect();
    receipts.flush().expect("a working disk");
    drop(receipts);
    // The writing of three lines reached the disk but for a sector of its first.
    let text = read_from(&*disk.open(&segment()).expect("there"), 0).expect("readable");
    let second = text.iter().position(|byte| *byte == b'\n').expect("lines") + 100;
    assert!(disk.rot(&segment(), second as u64));
    // The object files hold the first two of them.
    let (_, findings, taken) = open(&disk, noted, r1s[..2].to_vec());
    assert!(findings.cut_bytes > 0 && findings.broken_lines == 0);
    assert_eq!(taken, TakenOver { receipts: 3, ..TakenOver::default() });
    assert_eq!(kinds_and_faults(&disk), (vec!["R1".to_owned(); 4], Vec::new()));
    let (_, _, taken) = open(&disk, noted, r1s);
    assert_eq!(taken, TakenOver::default(), "nothing is logged twice");
}

/// An index whose next change fails.
#[derive(Clone, Default)]
struct Failing {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
}

impl Index for Failing {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.store.read(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        self.store.scan(from, to, limit)
    }
    fn apply(&self, changes: Vec<Change>) -> Result<(), IndexError> {
        match self.fails.swap(false, Ordering::SeqCst) {
            true => Err(IndexError("fails on purpose".to_owned())),
            false => self.store.apply(changes),
        }
    }
    fn persist(&self) -> Result<(), IndexError> {
        self.store.persist()
    }
}

/// Receipts over such an index, and what lets it fail once.
fn open_failing(disk: &MemoryDisk) -> (Receipts, Arc<AtomicBool>) {
    let index = Failing::default();
    let opened = Receipts::open(Parts { index: Arc::new(index.clone()), ..parts(disk, vec![signer()], None) }, |_| {});
    let (receipts, _) = opened.and_then(|opened| opened.take_over(Vec::new(), at(0))).expect("a working disk");
    (receipts, index.fails)
}

#[test]
fn a_record_that_stands_in_the_log_is_followed_on_also_when_the_index_failed_behind_it() {
    let disk = MemoryDisk::default();
    let (receipts, fails) = open_failing(&disk);
    let all: Vec<_> = (1..=3).map(|n| receipts.issue(acceptance(n), at(n.into())).expect("in order")).collect();
    all.iter().zip([true, false, true]).for_each(|(carried, durable)| receipts.settle(&carried.hash(), durable));
    receipts.flush().expect("a working disk");
    fails.store(true, Ordering::SeqCst);
    let _ = receipts.repair(at(4));
    receipts.repair(at(5)).expect("the index works again");
    accept(&receipts, 4);
    receipts.flush().expect("a working disk");
    assert_eq!(kinds_and_faults(&disk), (["R1", "R1", "recovery", "R1"].map(str::to_owned).to_vec(), Vec::new()));
}

#[test]
fn rows_that_the_index_did_not_take_are_given_to_it_with_the_next_flush() {
    let disk = MemoryDisk::default();
    let (receipts, fails) = open_failing(&disk);
    let r1 = accept(&receipts, 1);
    fails.store(true, Ordering::SeqCst);
    assert!(matches!(receipts.flush(), Err(ReceiptError::Index(_))));
    assert!(!receipts.owes(&r1.hash()), "it stands in the log");
    receipts.flush().expect("nothing else is to be written");
    assert_eq!(receipts.by_hash(&r1.hash()).expect("readable"), Some(r1.clone()));
    // A receipt of the centre that came with the failure is not logged again.
    let r3 = commit(1, r1.hash());
    fails.store(true, Ordering::SeqCst);
    assert!(receipts.keep(vec![r3.clone()]).is_err());
    receipts.keep(vec![r3.clone()]).expect("works again");
    assert_eq!(receipts.of_study(&object(1).study_uid).expect("readable"), [r1, r3]);
    assert_eq!(kinds_and_faults(&disk).0, ["R1", "R3"]);
}

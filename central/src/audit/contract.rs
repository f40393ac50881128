//! The promise of [`AuditSink`], run over every implementation, and what the file sink promises beyond it: after a
//! crash whatever was answered is there, and nothing can be changed unseen.

use super::*;
use crate::audit::log::SyncFile;
use aws_lc_rs::signature::Ed25519KeyPair;
use idr_ihe::metadata::PatientId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

static PKCS8: LazyLock<Vec<u8>> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec());

/// A clock moved by hand.
#[derive(Clone)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_768_467_912_000)))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }

    fn advance(&self, by: SignedDuration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

fn config(root: &Path, hand: &Hand, encrypted: bool) -> FileConfig {
    let hand = hand.clone();
    FileConfig {
        root: root.to_owned(),
        node: "n1".to_owned(),
        body_key: encrypted.then(|| BodyKey::new(&[9; 32])),
        checkpoint_key: CheckpointKey::from_pkcs8(&PKCS8).unwrap(),
        earlier_keys: Vec::new(),
        clock: Arc::new(move || hand.now()),
    }
}

fn public() -> [[u8; 32]; 1] {
    [CheckpointKey::from_pkcs8(&PKCS8).unwrap().public_key()]
}

fn folder(root: &Path, stream: Stream) -> PathBuf {
    root.join(format!("n1.{}", stream.name()))
}

fn only_segment(root: &Path, stream: Stream) -> PathBuf {
    let mut segments = segment::list(&folder(root, stream)).unwrap();
    assert_eq!(segments.len(), 1);
    segments.remove(0).1
}

fn record(n: u64, kind: Kind) -> Record {
    let time = Timestamp::from_millisecond(1_768_467_912_000).unwrap();
    let mut record = Record::new(
        Uuid::from_u128(u128::from(n)),
        time,
        kind,
        "n1",
        "1.2.3/0.1",
        "ITI-43",
        "retrieve",
        Outcome::Permit,
        &format!("urn:uuid:{n}"),
    );
    record.patient = Some(PatientId { id: "010190-900P".into(), authority: "1.2.246.21".into() });
    record
}

fn done(instances: u64) -> Closing {
    let time = Timestamp::from_millisecond(1_768_467_913_000).unwrap();
    let delivered = Delivered { extent: Extent::Complete, instances, bytes: 7 };
    Closing { time, outcome: Outcome::Permit, delivered: Some(delivered), status: Some("200".into()) }
}

type Read<'a> = &'a dyn Fn() -> Vec<(Stream, Value)>;

fn of(entries: &[(Stream, Value)], stream: Stream) -> Vec<Value> {
    entries.iter().filter(|(of, _)| *of == stream).map(|(_, value)| value.clone()).collect()
}

async fn each_kind_goes_to_its_stream(sink: &dyn AuditSink, read: Read<'_>) {
    let kinds = [Kind::U, Kind::C, Kind::X, Kind::D, Kind::S, Kind::R, Kind::N];
    let entries = kinds.iter().zip(100..).map(|(kind, n)| Entry::Record(Box::new(record(n, *kind)))).collect();
    sink.append(entries).await.unwrap();
    let kept = read();
    let kinds =
        |stream| of(&kept, stream).iter().filter_map(|value| Some(value["record"]["kind"].as_str()?.to_owned())).collect::<Vec<_>>();
    assert_eq!(kinds(Stream::Use), ["U", "C", "X"]);
    assert_eq!(kinds(Stream::Disclosure), ["D"]);
    assert_eq!(kinds(Stream::Security), ["S", "R", "N"]);
}

async fn an_opening_is_there_when_open_returns_and_is_closed_by_its_id(sink: &dyn AuditSink, read: Read<'_>) {
    let opening = sink.open(vec![record(1, Kind::U), record(2, Kind::D)]).await.unwrap();
    let opened = read();
    assert_eq!(of(&opened, Stream::Use).last().unwrap()["opening"]["id"], json!(Uuid::from_u128(1)));
    assert_eq!(of(&opened, Stream::Disclosure).last().unwrap()["opening"]["id"], json!(Uuid::from_u128(2)));
    sink.close(opening, done(3)).await.unwrap();
    let closed = read();
    for (stream, id) in [(Stream::Use, 1), (Stream::Disclosure, 2)] {
        let closing = &of(&closed, stream).pop().unwrap()["closing"];
        assert_eq!(closing["closes"], json!(Uuid::from_u128(id)));
        assert_eq!((&closing["delivered"]["extent"], &closing["delivered"]["instances"]), (&json!("complete"), &json!(3)));
    }
}

async fn a_record_above_its_bounds_leaves_nothing(sink: &dyn AuditSink, read: Read<'_>) {
    let before = read().len();
    let mut wide = record(5, Kind::U);
    wide.object = Some(Object { documents: vec!["1.2".into(); 1001], ..Object::default() });
    assert!(matches!(sink.open(vec![record(4, Kind::U), wide]).await, Err(AuditError::TooLarge { .. })));
    assert_eq!(read().len(), before);
}

async fn parallel_records_are_all_kept_once(sink: Arc<dyn AuditSink>, read: Read<'_>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let sink = Arc::clone(&sink);
        tasks.spawn(async move {
            let opening = sink.open(vec![record(1000 + n, Kind::C)]).await.unwrap();
            sink.close(opening, done(n)).await.unwrap();
        });
    }
    tasks.join_all().await;
    let kept = of(&read(), Stream::Use);
    for n in 0..300 {
        let id = json!(Uuid::from_u128(1000 + n));
        let place = |key: &str, member: &str| {
            let mut places = kept.iter().enumerate().filter(|(_, value)| value[key][member] == id).map(|(place, _)| place);
            let place = places.next().unwrap();
            assert_eq!(places.next(), None);
            place
        };
        assert!(place("opening", "id") < place("closing", "closes"), "record {n}");
    }
}

async fn everything(sink: Arc<dyn AuditSink>, read: Read<'_>) {
    each_kind_goes_to_its_stream(&*sink, read).await;
    an_opening_is_there_when_open_returns_and_is_closed_by_its_id(&*sink, read).await;
    a_record_above_its_bounds_leaves_nothing(&*sink, read).await;
    parallel_records_are_all_kept_once(Arc::clone(&sink), read).await;
    assert_eq!(sink.refusing(), None);
}

#[tokio::test]
async fn memory_keeps_the_promise() {
    let sink = Arc::new(MemorySink::new());
    let read = Arc::clone(&sink);
    everything(sink.clone(), &move || read.entries()).await;
    sink.fail("the disk is full");
    assert!(matches!(sink.open(vec![record(9, Kind::U)]).await, Err(AuditError::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_keep_the_promise_and_verify() {
    for encrypted in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (sink, orphans) = FileSink::start(config(root.path(), &Hand::new(), encrypted)).await.unwrap();
        assert!(orphans.is_empty());
        let sink = Arc::new(sink);
        let path = root.path().to_owned();
        let key = encrypted.then(|| BodyKey::new(&[9; 32]));
        let read = || {
            let streams = Stream::ALL.iter();
            let tailed =
                streams.flat_map(|stream| tail(&folder(&path, *stream), 10_000, key.as_ref()).unwrap().into_iter().map(|t| (*stream, t)));
            tailed.map(|(stream, tailed)| (stream, tailed.body.expect("readable with the key"))).collect()
        };
        everything(sink.clone(), &read).await;
        sink.shutdown().await;
        for stream in Stream::ALL {
            let verified = verify(&folder(root.path(), stream), &public()).unwrap();
            assert_eq!(verified.unfinished_bytes, 0);
            assert!(verified.last_seq == 0 || verified.last_seq == verified.signed_seq + 1, "a clean end is signed: {verified:?}");
        }
        let text = std::fs::read(only_segment(root.path(), Stream::Use)).unwrap();
        assert_eq!(text.windows(11).any(|window| window == b"010190-900P"), !encrypted);
        assert!(sink.open(vec![record(9, Kind::U)]).await.is_err(), "a closed store takes nothing");
    }
}

/// What a crash leaves: the folder as it is, without the end of a run.
fn crash(root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for stream in Stream::ALL {
        std::fs::create_dir(folder(copy.path(), stream)).unwrap();
        for (_, path) in segment::list(&folder(root, stream)).unwrap() {
            std::fs::copy(&path, folder(copy.path(), stream).join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn an_opening_that_a_crash_left_is_given_back_and_closed() {
    for encrypted in [false, true] {
        let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
        let (sink, _) = FileSink::start(config(root.path(), &hand, encrypted)).await.unwrap();
        let closed = sink.open(vec![record(1, Kind::U)]).await.unwrap();
        let lost = sink.open(vec![record(2, Kind::U), record(3, Kind::D)]).await.unwrap();
        sink.close(closed, done(1)).await.unwrap();
        let crashed = crash(root.path());
        drop((sink, lost));

        let (sink, orphans) = FileSink::start(config(crashed.path(), &hand, encrypted)).await.unwrap();
        let ids: Vec<_> = orphans.iter().map(|orphan| orphan.record.id.as_u128()).collect();
        assert_eq!(ids, [2, 3]);
        assert_eq!(orphans[0].record.patient, record(2, Kind::U).patient, "as it was written");
        sink.close_orphans(orphans).await.unwrap();
        sink.shutdown().await;
        let key = BodyKey::new(&[9; 32]);
        let last = tail(&folder(crashed.path(), Stream::Disclosure), 1, Some(&key)).unwrap().remove(0).body.unwrap();
        assert_eq!(last["closing"]["delivered"]["extent"], "unknown");
        let (sink, orphans) = FileSink::start(config(crashed.path(), &hand, encrypted)).await.unwrap();
        assert!(orphans.is_empty(), "closed once for all");
        sink.shutdown().await;
    }
}

#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_every_whole_record() {
    let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let (sink, _) = FileSink::start(config(root.path(), &hand, true)).await.unwrap();
    for n in 1..=3 {
        sink.append(vec![Entry::Record(Box::new(record(n, Kind::S)))]).await.unwrap();
    }
    let crashed = crash(root.path());
    drop(sink);
    let path = only_segment(crashed.path(), Stream::Security);
    let whole = std::fs::read(&path).unwrap();
    let (_, header) = format::Header::decode(&whole).unwrap();
    let mut ends = vec![header];
    while let Some((_, length)) = format::Frame::decode(&whole[*ends.last().unwrap()..]) {
        ends.push(ends.last().unwrap() + length);
    }
    assert_eq!(ends.len(), 4);
    for length in (0..whole.len()).step_by(13).chain(ends.clone()) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let system = only_segment(crashed.path(), Stream::System);
        let before = std::fs::metadata(&system).unwrap().len();
        let kept = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        let (sink, _) = FileSink::start(config(crashed.path(), &hand, true)).await.unwrap();
        sink.append(vec![Entry::Record(Box::new(record(9, Kind::S)))]).await.unwrap();
        sink.shutdown().await;
        let key = BodyKey::new(&[9; 32]);
        let ids = tail(&folder(crashed.path(), Stream::Security), 10, Some(&key)).unwrap();
        let ids: Vec<_> = ids.iter().map(|tailed| tailed.body.as_ref().unwrap()["record"]["id"].clone()).collect();
        let expected: Vec<_> = (1..=kept as u128).chain([9]).map(|n| json!(Uuid::from_u128(n))).collect();
        assert_eq!(ids, expected, "cut at byte {length}");
        verify(&folder(crashed.path(), Stream::Security), &public()).unwrap();
        let torn = length > header && !ends.contains(&length);
        assert_eq!(std::fs::metadata(&system).unwrap().len() > before, torn, "a cut is told, byte {length}");
    }
}

#[tokio::test]
async fn no_byte_of_a_signed_log_can_change_unseen() {
    let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let (sink, _) = FileSink::start(config(root.path(), &hand, true)).await.unwrap();
    for n in 1..=3 {
        sink.append(vec![Entry::Record(Box::new(record(n, Kind::S)))]).await.unwrap();
    }
    sink.shutdown().await;
    let path = only_segment(root.path(), Stream::Security);
    let whole = std::fs::read(&path).unwrap();
    verify(&folder(root.path(), Stream::Security), &public()).unwrap();
    let signed = whole.len() - whole.windows(14).rev().position(|window| window == br#"{"checkpoint":"#).unwrap() - 14;
    for at in (0..whole.len()).step_by(7) {
        let mut other = whole.clone();
        other[at] ^= 0x20;
        std::fs::write(&path, &other).unwrap();
        let verified = verify(&folder(root.path(), Stream::Security), &public());
        // A header's `created` and `kid` are not chained; the checkpoint's own bytes can be a torn write.
        let header = other[..whole.iter().position(|b| *b == b'\n').unwrap()] != whole[..whole.iter().position(|b| *b == b'\n').unwrap()];
        match verified {
            Ok(verified) => assert!(header || at >= signed - 100 && verified.signed_seq == 0, "byte {at}: {verified:?}"),
            Err(VerifyError::Broken { .. }) => {}
            Err(error) => panic!("byte {at}: {error}"),
        }
        let started = FileSink::start(config(root.path(), &hand, true)).await;
        if at < signed - 100 && !header {
            assert!(matches!(started, Err(AuditError::Broken { .. })), "byte {at}: a start must not cut signed records");
        }
        if let Ok((sink, _)) = started {
            sink.shutdown().await;
        }
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(verify(&folder(root.path(), Stream::Security), &[]).is_err(), "without the key a checkpoint vouches for nothing");
}

#[tokio::test]
async fn removing_or_swapping_records_is_seen() {
    let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let (sink, _) = FileSink::start(config(root.path(), &hand, false)).await.unwrap();
    for n in 1..=3 {
        sink.append(vec![Entry::Record(Box::new(record(n, Kind::S)))]).await.unwrap();
    }
    sink.shutdown().await;
    let path = only_segment(root.path(), Stream::Security);
    let whole = std::fs::read(&path).unwrap();
    let (_, mut at) = format::Header::decode(&whole).unwrap();
    let mut frames = vec![&whole[..at]];
    while let Some((_, length)) = format::Frame::decode(&whole[at..]) {
        frames.push(&whole[at..at + length]);
        at += length;
    }
    for order in [vec![0, 2, 3, 4], vec![0, 1, 3, 4], vec![0, 2, 1, 3, 4], vec![0, 1, 2, 4], vec![0, 1, 1, 2, 3, 4]] {
        std::fs::write(&path, order.iter().flat_map(|n| frames[*n]).copied().collect::<Vec<u8>>()).unwrap();
        assert!(matches!(verify(&folder(root.path(), Stream::Security), &public()), Err(VerifyError::Broken { .. })), "{order:?}");
    }
}

#[tokio::test]
async fn segments_end_after_a_day_and_stay_one_chain() {
    let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let (sink, _) = FileSink::start(config(root.path(), &hand, true)).await.unwrap();
    let mut waiting = Vec::new();
    for n in 1..=4 {
        waiting.push(sink.open(vec![record(n, Kind::U)]).await.unwrap());
        hand.advance(SignedDuration::from_hours(13));
    }
    sink.close(waiting.pop().unwrap(), done(4)).await.unwrap();
    sink.shutdown().await;
    let segments = segment::list(&folder(root.path(), Stream::Use)).unwrap();
    assert_eq!(segments.len(), 3);
    let verified = verify(&folder(root.path(), Stream::Use), &public()).unwrap();
    assert_eq!(verified.last_seq, verified.signed_seq + 1);
    let key = BodyKey::new(&[9; 32]);
    let tailed = tail(&folder(root.path(), Stream::Use), 1000, Some(&key)).unwrap();
    let stale: Vec<_> = tailed.iter().filter(|t| t.body.as_ref().unwrap()["closing"]["delivered"]["extent"] == "unknown").collect();
    assert_eq!(stale.len(), 3, "openings of more than a day are closed as unknown");
    std::fs::remove_file(&segments[1].1).unwrap();
    assert!(matches!(verify(&folder(root.path(), Stream::Use), &public()), Err(VerifyError::Broken { .. })));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_until_a_restart() {
    let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let counted = Arc::clone(&left);
    let sync: SyncFile =
        Arc::new(move |file: &File| match counted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => file.sync_data(),
            Err(_) => Err(std::io::Error::other("EIO")),
        });
    let (sink, _) = FileSink::start_with(config(root.path(), &hand, true), sync).await.unwrap();
    let first = sink.open(vec![record(1, Kind::U)]).await.unwrap();
    left.store(0, Ordering::SeqCst);
    assert!(matches!(sink.open(vec![record(2, Kind::U)]).await, Err(AuditError::Unavailable { .. })));
    left.store(u64::MAX, Ordering::SeqCst);
    assert!(sink.refusing().is_some_and(|reason| reason.contains("n1.use")));
    assert!(matches!(sink.append(vec![Entry::Record(Box::new(record(3, Kind::S)))]).await, Err(AuditError::Unavailable { .. })));
    assert!(sink.close(first, done(0)).await.is_err());
    drop(sink);
    let crashed = crash(root.path());
    let (sink, orphans) = FileSink::start(config(crashed.path(), &hand, true)).await.unwrap();
    assert!(orphans.iter().any(|orphan| orphan.record.id == Uuid::from_u128(1)));
    sink.shutdown().await;
}

#[tokio::test]
async fn two_processes_cannot_write_one_log() {
    let (root, hand) = (tempfile::tempdir().unwrap(), Hand::new());
    let (sink, _) = FileSink::start(config(root.path(), &hand, true)).await.unwrap();
    assert!(matches!(FileSink::start(config(root.path(), &hand, true)).await, Err(AuditError::Storage { .. })));
    sink.shutdown().await;
    FileSink::start(config(root.path(), &hand, true)).await.unwrap().0.shutdown().await;
}

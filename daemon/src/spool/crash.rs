//! The real spool over a simulated disk: power cuts at every step, kills, failing calls, a full disk, lost indexes.
//!
//! One workload of all that a spool does runs against an oracle that remembers what was acknowledged. After every
//! disturbance the spool is opened again and must keep the promises of [`World::check`].

use super::contract::to;
use super::disk::{Disk, Fault, MemoryDisk};
use super::files::{FileSpool, Hop, IndexFate, OpenError, Recovery};
use super::index::{MemoryStore, Remembers, WAITING_BYTES};
use super::object_file;
use super::record::{Cause, Facts, Move, Note, SpoolId, State};
use super::sample::{announced, at, data, facts, hand_over, holder, open, open_with, parts, read, signer, study_uid, tenant};
use super::{Committed, Spool, SpoolError};
use crate::receipts::log::read_log;
use futures::executor::block_on;
use idr_profile::digest::Digest;
use idr_profile::receipt::{Carried, LogWalk, Statement, Verifier, check_references};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What was acknowledged.
#[derive(Default, Clone)]
pub(super) struct Oracle {
    /// By object number and byte variant.
    pub(super) accepted: BTreeMap<(u64, u64), Committed>,
    /// Handed over without an answer of success.
    pub(super) tried: BTreeSet<(u64, u64)>,
    /// Last acknowledged state, by id; absent while a move without an answer may or may not stand.
    states: BTreeMap<SpoolId, State>,
    /// Whose release had no answer: their files may be gone.
    perhaps_released: BTreeSet<SpoolId>,
    note: Option<String>,
    note_unsure: bool,
}

const SIZES: [usize; 4] = [1, 700, 3_000, 20_000];
/// Written in two chunks.
const LARGE: (u64, usize) = (5, 600_000);

fn bytes(n: u64, variant: u64) -> Vec<u8> {
    let size = if n == LARGE.0 { LARGE.1 } else { SIZES[usize::try_from(n % 4).expect("small")] };
    data(n * 100 + variant, size)
}

/// What is kept of an object that is released.
fn header((n, variant): (u64, u64)) -> Vec<u8> {
    data(n * 100 + variant, 300)
}

fn queued(n: u64) -> Facts {
    Facts { state: if n.is_multiple_of(3) { State::Queued } else { State::Held(Cause::incomplete()) }, ..facts(n) }
}

impl Oracle {
    pub(super) async fn hand_over(&mut self, spool: &FileSpool, n: u64, variant: u64) {
        self.tried.insert((n, variant));
        if let Ok(committed) = hand_over(spool, announced(n), queued(n), &bytes(n, variant)).await {
            let before = self.accepted.get(&(n, variant));
            if let Some(before) = before {
                assert_eq!(before.r1, committed.r1, "one R1 for the same bytes");
            }
            // One that was released is held again under an id of its own.
            if before.is_none_or(|before| before.id != committed.id) {
                self.states.insert(committed.id, queued(n).state);
            }
            self.accepted.insert((n, variant), committed);
        }
    }

    async fn advance(&mut self, spool: &FileSpool, n: u64, state: State) {
        self.advance_variant(spool, (n, 0), state).await;
    }

    pub(super) async fn advance_variant(&mut self, spool: &FileSpool, of: (u64, u64), state: State) {
        let Some(committed) = self.accepted.get(&of) else { return };
        let moves = vec![Move { id: committed.id, to: to(state.clone(), 100) }];
        if state == State::Released {
            // As the eviction does: without it nothing is released.
            match spool.keep_header(committed.id, header(of).into()).await {
                Ok(()) => {}
                Err(_) => return,
            }
        }
        match spool.advance(moves).await {
            Ok(()) => drop(self.states.insert(committed.id, state)),
            Err(SpoolError::Transition { .. } | SpoolError::Unknown(_)) => {}
            Err(_) => {
                if state == State::Released {
                    self.perhaps_released.insert(committed.id);
                }
                self.states.remove(&committed.id);
            }
        }
    }

    pub(super) async fn note(&mut self, spool: &FileSpool, value: &str) {
        let note = Note { tenant: tenant(), study_uid: study_uid(1), name: "n".to_owned(), value: Some(value.to_owned()) };
        match spool.note(note).await {
            Ok(()) => (self.note, self.note_unsure) = (Some(value.to_owned()), false),
            Err(SpoolError::UnknownStudy) => {}
            Err(_) => self.note_unsure = true,
        }
    }

    /// All that a spool does, once.
    async fn work(&mut self, spool: &FileSpool) {
        let tend = |checkpoint: bool| {
            let _ = spool.tend(at(2000));
            if checkpoint {
                let _ = spool.checkpoint();
            }
        };
        self.hand_over(spool, 1, 0).await;
        self.hand_over(spool, 2, 0).await;
        tend(true);
        if let Ok(mut writer) = spool.open(announced(9)).await {
            // Given up half way, as by a modality that aborts.
            let _ = writer.write(&data(9, 600_000)).await;
            writer.discard().await;
        }
        self.hand_over(spool, 3, 0).await;
        self.hand_over(spool, 2, 0).await;
        self.hand_over(spool, 3, 1).await;
        self.note(spool, "one").await;
        tend(false);
        for state in [State::Sent, State::Committed, State::Registered] {
            self.advance(spool, 3, state).await;
        }
        // Two at once, whatever became of them.
        self.hand_over(spool, 7, 0).await;
        let ids: Vec<_> = [(2, 0), (7, 0)].iter().filter_map(|key| self.accepted.get(key)).map(|committed| committed.id).collect();
        let moves = ids.iter().map(|id| Move { id: *id, to: to(State::Queued, 100) }).collect();
        let moved = spool.advance(moves).await;
        for id in ids {
            if moved.is_ok() {
                self.states.insert(id, State::Queued)
            } else {
                self.states.remove(&id)
            };
        }
        self.advance(spool, 1, State::Quarantined("D701".parse().expect("valid"))).await;
        self.hand_over(spool, 4, 0).await;
        tend(true);
        self.advance(spool, 3, State::Released).await;
        self.note(spool, "two").await;
        self.hand_over(spool, 5, 0).await;
        tend(false);
        self.hand_over(spool, 3, 0).await;
        self.hand_over(spool, 6, 0).await;
    }
}

/// A node: disk and index live on, the spool is opened again and again.
pub(super) struct World {
    pub(super) disk: MemoryDisk,
    index: MemoryStore,
    /// How much of the index waits in memory, bytes.
    pub(super) index_waits_bytes: usize,
}

impl World {
    fn new() -> Self {
        Self { disk: MemoryDisk::default(), index: MemoryStore::default(), index_waits_bytes: WAITING_BYTES }
    }

    /// By seed the index has all that was done, all but the last few objects of it, or nothing since the last checkpoint.
    pub(super) fn seeded(seed: u64) -> Self {
        let waits = [0, 6_000, WAITING_BYTES][usize::try_from(seed % 3).expect("small")];
        Self { index_waits_bytes: waits, ..Self::new() }
    }

    pub(super) fn open(&self) -> Result<(FileSpool, Recovery), OpenError> {
        open_with(&self.disk, &self.index, self.index_waits_bytes, false)
    }

    /// Opens the spool and checks every promise.
    pub(super) fn check(&self, oracle: &Oracle, what: &str) -> (FileSpool, Recovery) {
        let (spool, recovery) = self.open().unwrap_or_else(|error| panic!("{what}: {error:?}"));
        self.check_open(&spool, &recovery, oracle, what);
        (spool, recovery)
    }

    fn check_open(&self, spool: &FileSpool, recovery: &Recovery, oracle: &Oracle, what: &str) {
        let alarms: Vec<_> = recovery.alarms().into_iter().filter(|alarm| !alarm.ends_with("Nothing to do.")).collect();
        assert_eq!(alarms, Vec::<String>::new(), "{what}");
        // What was acknowledged is there, with its bytes and its one R1.
        for ((n, variant), committed) in &oracle.accepted {
            let instances = block_on(spool.instances(&tenant(), &announced(*n).sop_instance_uid)).expect("works");
            let same: Vec<_> = instances.iter().filter(|entry| entry.record.digest == committed.digest).collect();
            assert!(!same.is_empty(), "{what}: object {n}/{variant} is gone");
            assert!(same.iter().all(|entry| entry.r1 == committed.r1), "{what}: object {n}/{variant} has another R1");
            let live: Vec<_> = same.iter().filter(|entry| entry.progress.state != State::Released).collect();
            match live.as_slice() {
                [] => {
                    let released = oracle.states.get(&committed.id) == Some(&State::Released);
                    assert!(released || oracle.perhaps_released.contains(&committed.id), "{what}: {n}/{variant} is gone");
                    let kept = block_on(spool.kept_header(committed.id)).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(kept.is_some_and(|kept| *kept == *header((*n, *variant))), "{what}: {n}/{variant} has no header any more");
                }
                [one] => {
                    let found = block_on(read(spool, one.id())).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(found == bytes(*n, *variant), "{what}: object {n}/{variant} has other bytes");
                }
                many => panic!("{what}: {n}/{variant} is held {} times", many.len()),
            }
        }
        for (id, state) in &oracle.states {
            let entry = block_on(spool.entry(*id)).expect("works").unwrap_or_else(|| panic!("{what}: {id} is gone"));
            assert_eq!(&entry.progress.state, state, "{what}: {id}");
        }
        if !oracle.note_unsure {
            let study = block_on(spool.study(&tenant(), &study_uid(1))).expect("works");
            let note = study.and_then(|study| study.notes.get("n").cloned());
            assert_eq!(note, oracle.note, "{what}");
        }
        // Nothing is there that nobody handed over.
        let tried: BTreeSet<_> = oracle.tried.iter().map(|(n, variant)| super::sample::digest(&bytes(*n, *variant))).collect();
        for n in 0..10 {
            for entry in block_on(spool.instances(&tenant(), &announced(n).sop_instance_uid)).expect("works") {
                assert!(tried.contains(&entry.record.digest), "{what}: nobody handed {} over", entry.id());
            }
        }
        assert_eq!(spool.fsck(true).expect("works"), [], "{what}");
        self.check_receipts(what);
    }

    pub(super) fn check_receipts(&self, what: &str) -> Vec<Carried> {
        check_log(Arc::new(self.disk.clone()), what)
    }

    /// The rows, without the marks of how far they come.
    fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.index.rows().into_iter().filter(|(key, _)| key[0] != b'!').collect()
    }

    pub(super) fn power_cut(&mut self, seed: u64) {
        let remembers = [Remembers::Everything, Remembers::Persisted, Remembers::Older, Remembers::Nothing, Remembers::Broken];
        self.disk = self.disk.power_cut(seed);
        self.index = self.index.stopped(remembers[usize::try_from(seed % 5).expect("small")]);
    }

    pub(super) fn kill(&mut self, seed: u64) {
        self.disk = self.disk.killed();
        self.index =
            self.index.stopped([Remembers::Everything, Remembers::Persisted, Remembers::Older][usize::try_from(seed % 3).expect("small")]);
    }
}

/// The log of the site verifies as a whole, and every reference in it.
pub(crate) fn check_log(disk: Arc<dyn Disk>, what: &str) -> Vec<Carried> {
    let (receipts, broken) = read_log(disk).expect("readable");
    assert_eq!(broken, 0, "{what}");
    let mut walk = LogWalk::new(Verifier::new([&signer().to_receipt_key(&holder())]).expect("a key"), None);
    // Those of the centre stand in a chain of their own.
    let own = || receipts.iter().filter(|carried| carried.receipt().holder == holder());
    own().for_each(|carried| walk.push(carried));
    let head = own().next_back().map(Carried::hash);
    assert_eq!(walk.finish(head), [], "{what}");
    let faults: Vec<_> = check_references(&receipts).into_iter().filter(idr_profile::receipt::ReferenceFault::is_proof).collect();
    assert_eq!(faults, [], "{what}");
    receipts
}

pub(crate) fn acceptances(receipts: &[Carried]) -> BTreeMap<(String, Digest), usize> {
    let mut counted = BTreeMap::new();
    for carried in receipts {
        if let Statement::Acceptance { object, .. } = &carried.receipt().statement {
            *counted.entry((object.sop_instance_uid.clone(), object.digest)).or_default() += 1;
        }
    }
    counted
}

/// Steps of the undisturbed workload; every one of them is disturbed below.
fn steps() -> u64 {
    let world = World::new();
    let mut oracle = Oracle::default();
    let (spool, _) = world.open().expect("an empty disk");
    block_on(oracle.work(&spool));
    world.disk.steps()
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_step() {
    let steps = steps();
    assert!(steps > 100, "the workload has {steps} steps");
    for cut in 1..=steps + 1 {
        for round in 0..2 {
            let seed = cut * 7 + round * 3;
            let what = format!("cut at {cut}, seed {seed}");
            let mut world = World::seeded(cut + round);
            let mut oracle = Oracle::default();
            world.disk.cut_power_at(cut);
            if let Ok((spool, _)) = world.open() {
                block_on(oracle.work(&spool));
            }
            world.power_cut(seed);
            let (spool, _) = world.check(&oracle, &what);
            // The modality sends again what it got no success for, and the spool goes on as if nothing had happened.
            for (n, variant) in oracle.tried.clone() {
                block_on(oracle.hand_over(&spool, n, variant));
                assert!(oracle.accepted.contains_key(&(n, variant)), "{what}: {n}/{variant} is not taken");
            }
            spool.close(at(3000)).expect("a working disk");
            assert!(acceptances(&world.check_receipts(&what)).values().all(|count| *count == 1), "{what}");
            drop(spool);
            world.power_cut(seed + 1);
            world.check(&oracle, &format!("{what}, second cut"));
        }
    }
}

#[test]
fn what_a_killed_process_had_acknowledged_survives_a_power_cut_after_the_next_start() {
    for kill in 1..=steps() {
        let what = format!("killed at {kill}");
        let mut world = World::new();
        let mut oracle = Oracle::default();
        world.disk.cut_power_at(kill);
        if let Ok((spool, _)) = world.open() {
            block_on(oracle.work(&spool));
        }
        world.kill(kill);
        let (spool, _) = world.check(&oracle, &what);
        // What this start found counts as accepted: a repeated hand-over is answered by it.
        for (n, variant) in oracle.tried.clone() {
            block_on(oracle.hand_over(&spool, n, variant));
        }
        world.power_cut(kill);
        world.check(&oracle, &format!("{what}, then cut"));
    }
}

#[test]
fn a_start_may_itself_be_cut_at_every_step() {
    let steps = steps();
    for first in (1..=steps).step_by(5) {
        let mut oracle = Oracle::default();
        let mut world = World::new();
        world.disk.cut_power_at(first);
        if let Ok((spool, _)) = world.open() {
            block_on(oracle.work(&spool));
        }
        // Kill and power cut alternate: after a kill more of the files are whole and not yet durable.
        if first % 2 == 0 {
            world.power_cut(first)
        } else {
            world.kill(first)
        }
        for second in (1..).step_by(3) {
            world.disk.cut_power_at(second);
            let opened = world.open().is_ok();
            world.power_cut(first * 1000 + second);
            world.check(&oracle, &format!("cut at {first}, start cut at {second}"));
            if opened {
                break;
            }
        }
    }
}

#[test]
fn after_a_failing_call_at_every_step_nothing_acknowledged_is_lost_and_the_spool_goes_on() {
    for fail in 1..=steps() {
        for fault in [Fault::Eio, Fault::Enospc] {
            let what = format!("{fault:?} at {fail}");
            let mut world = World::new();
            let mut oracle = Oracle::default();
            world.disk.fail(fail, fault);
            let opened = world.open().or_else(|_| world.open());
            let (spool, _) = opened.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            block_on(oracle.work(&spool));
            spool.tend(at(3000)).or_else(|_| spool.tend(at(3001))).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(spool.refusing(&tenant()), None, "{what}: the disk works again");
            for (n, variant) in oracle.tried.clone() {
                block_on(oracle.hand_over(&spool, n, variant));
                assert!(oracle.accepted.contains_key(&(n, variant)), "{what}: {n}/{variant} is not taken");
            }
            spool.close(at(3002)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(acceptances(&world.check_receipts(&what)).values().all(|count| *count == 1), "{what}");
            drop(spool);
            world.power_cut(fail);
            world.check(&oracle, &what);
        }
    }
}

#[test]
fn what_a_start_finds_after_a_failing_call_and_a_kill_survives_a_power_cut() {
    for fail in 1..=steps() {
        let what = format!("EIO at {fail}, killed");
        let mut world = World::new();
        let mut oracle = Oracle::default();
        world.disk.fail(fail, Fault::Eio);
        if let Ok((spool, _)) = world.open() {
            block_on(oracle.work(&spool));
        }
        // The cache shows bytes of the failed sync that will never be written by themselves.
        world.kill(fail);
        let (spool, _) = world.check(&oracle, &what);
        for (n, variant) in oracle.tried.clone() {
            block_on(oracle.hand_over(&spool, n, variant));
        }
        drop(spool);
        world.power_cut(fail);
        world.check(&oracle, &format!("{what}, then cut"));
    }
}

#[test]
fn an_index_that_is_lost_old_or_broken_is_made_again_row_by_row() {
    let mut world = World::new();
    let mut oracle = Oracle::default();
    let (spool, _) = world.open().expect("an empty disk");
    block_on(oracle.work(&spool));
    spool.close(at(3000)).expect("a working disk");
    drop(spool);
    let grown = world.rows();
    assert!(grown.len() > 40);
    for remembers in [Remembers::Everything, Remembers::Persisted, Remembers::Older, Remembers::Nothing, Remembers::Broken] {
        world.index = world.index.stopped(remembers);
        world.disk = world.disk.killed();
        let (spool, recovery) = world.check(&oracle, &format!("{remembers:?}"));
        let rebuilt = recovery.index != IndexFate::Kept;
        assert_eq!(rebuilt, matches!(remembers, Remembers::Nothing | Remembers::Broken), "{remembers:?}");
        assert_eq!(recovery.verified, 0, "{remembers:?}: the journal's mark says that all were synced");
        drop(spool);
        assert!(world.rows() == grown, "{remembers:?}: rows differ");
    }
    let (spool, recovery) = open(&world.disk.killed(), &world.index, true).expect("asked for");
    assert_eq!(recovery.index, IndexFate::Rebuilt("as asked for".to_owned()));
    drop(spool);
    assert!(world.rows() == grown);
}

#[test]
fn rows_that_vanish_from_an_index_that_opens_are_noticed() {
    let mut world = World::new();
    let mut oracle = Oracle::default();
    let (spool, _) = world.open().expect("an empty disk");
    block_on(oracle.work(&spool));
    spool.close(at(3000)).expect("a working disk");
    drop(spool);
    let id = oracle.accepted[&(2, 0)].id;
    // A study that lost a member in its count, as an index would look that was rolled back in part.
    let key = [&b"o"[..], &id.0.to_be_bytes()[..]].concat();
    let study = [&b"s"[..], b"t1\0", study_uid(2).as_bytes()].concat();
    world.index.disturb(&key, None);
    world.index.disturb(&study, None);
    world.disk = world.disk.killed();
    let (spool, _) = world.open().expect("opens");
    assert_eq!(block_on(read(&spool, id)).expect("found again"), bytes(2, 0));
}

#[test]
fn what_rots_on_the_disk_is_reported_and_never_given_out() {
    let mut world = World::new();
    let mut oracle = Oracle::default();
    let (spool, _) = world.open().expect("an empty disk");
    block_on(oracle.work(&spool));
    let data_rot = oracle.accepted[&(2, 0)].id;
    let seal_rot = oracle.accepted[&(4, 0)].id;
    let path = |id, n| object_file::path(&announced(n), id);
    let head = object_file::head(&announced(2));
    assert!(world.disk.rot(&path(data_rot, 2), head.data_at() + 2000) && world.disk.rot(&path(seal_rot, 4), head.area_at + 60));
    let findings = spool.fsck(true).expect("works");
    assert_eq!(findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), [data_rot, seal_rot]);
    for id in [data_rot, seal_rot] {
        assert!(matches!(block_on(read(&spool, id)), Err(SpoolError::Damaged { .. })), "{id}");
    }
    spool.close(at(3000)).expect("a working disk");
    drop(spool);
    // A start that makes the index again meets them: the broken seal at once, the data when it is read.
    world.disk = world.disk.killed();
    let (spool, recovery) = open(&world.disk, &world.index, true).expect("opens");
    assert_eq!(recovery.torn.iter().map(|torn| (torn.id, torn.acknowledged)).collect::<Vec<_>>(), [(seal_rot, true)]);
    assert_eq!(recovery.acceptances_without_object, [oracle.accepted[&(4, 0)].r1]);
    assert_eq!(recovery.alarms().len(), 2);
    assert!(world.disk.paths().contains(&path(seal_rot, 4)), "the file stays where it can be mended");
    assert!(matches!(block_on(read(&spool, data_rot)), Err(SpoolError::Damaged { .. })));
    drop(spool);
    let gone = path(data_rot, 2);
    use super::disk::Disk as _;
    let disk = world.disk.killed();
    disk.remove(&gone).expect("there");
    let (_, recovery) = open(&disk, &world.index, false).expect("opens");
    assert_eq!(recovery.lost, [data_rot]);
}

#[test]
fn a_full_disk_refuses_and_a_quota_refuses_only_its_tenant() {
    let world = World::new();
    let (spool, _) = world.open().expect("an empty disk");
    let other = "t2".parse().expect("valid");
    let quotas = [(tenant(), super::files::Quota { bytes: None, objects: Some(1) })].into();
    spool.set_settings(super::files::Settings { reserve_bytes: 1 << 20, quotas });
    block_on(hand_over(&spool, announced(1), facts(1), &data(1, 100))).expect("room");
    assert!(matches!(spool.refusing(&tenant()), Some(super::Refusal::Quota { limit: "objects", .. })));
    assert_eq!(spool.refusing(&other), None);
    world.disk.set_capacity(1 << 20);
    spool.tend(at(0)).expect("a working disk");
    assert!(matches!(spool.refusing(&other), Some(super::Refusal::Space { .. })));
    assert!(matches!(block_on(spool.open(announced(2))).err(), Some(error) if error.is_out_of_resources()));
    // An object on its way when the disk fills up is refused, not half kept.
    spool.set_settings(super::files::Settings::default());
    let full = block_on(hand_over(&spool, announced(2), facts(2), &data(2, 2 << 20))).expect_err("no room");
    assert!(full.is_out_of_resources(), "{full}");
    world.disk.set_capacity(1 << 30);
    spool.tend(at(1)).expect("a working disk");
    block_on(hand_over(&spool, announced(2), facts(2), &data(2, 2 << 20))).expect("room again");
}

#[test]
fn an_unfinished_or_torn_file_is_not_taken_for_an_accepted_one() {
    let world = World::new();
    let (spool, _) = world.open().expect("an empty disk");
    let kept = block_on(hand_over(&spool, announced(1), facts(1), &data(1, 100))).expect("room");
    let mut writer = block_on(spool.open(announced(2))).expect("room");
    block_on(writer.write(&data(2, 600_000))).expect("written");
    let torn = block_on(hand_over(&spool, announced(3), facts(3), &data(3, 5000))).expect("room");
    // The process dies; of the last object only the disk's cache held a part.
    let disk = world.disk.killed();
    let index = world.index.stopped(Remembers::Nothing);
    let path = object_file::path(&announced(3), torn.id);
    assert!(disk.rot(&path, object_file::head(&announced(3)).data_at() + 100));
    let (spool, recovery) = open(&disk, &index, false).expect("opens");
    assert_eq!((recovery.unfinished, recovery.verified), (1, 2));
    let [only] = recovery.torn.as_slice() else { panic!("{:?}", recovery.torn) };
    assert_eq!((only.id, only.acknowledged, &only.path), (torn.id, false, &PathBuf::from(format!("torn/{}.dcm", torn.id))));
    assert!(disk.paths().contains(&only.path));
    assert_eq!(block_on(spool.entry(torn.id)).expect("works"), None);
    assert!(block_on(spool.entry(kept.id)).expect("works").is_some());
    drop(writer);
}

#[test]
fn a_gap_that_a_crash_left_in_the_chain_is_closed_by_one_recovery_record() {
    use super::disk::Disk as _;
    let world = World::new();
    let (spool, _) = world.open().expect("an empty disk");
    let [_, lost, last] = [1, 2, 3].map(|n| block_on(hand_over(&spool, announced(n), facts(n), &data(n, 100))).expect("room"));
    // The third became durable and the second did not, as when two are synced at once and the power goes.
    let disk = world.disk.killed();
    disk.remove(&object_file::path(&announced(2), lost.id)).expect("there");
    let (spool, recovery) = open(&disk, &world.index.stopped(Remembers::Nothing), false).expect("opens");
    assert_eq!((recovery.taken.receipts, recovery.taken.missing), (2, vec![lost.r1]));
    block_on(hand_over(&spool, announced(4), facts(4), &data(4, 100))).expect("room");
    spool.close(at(3000)).expect("a working disk");
    let receipts = World { disk, ..world }.check_receipts("gap");
    let kinds: Vec<_> = receipts.iter().map(|carried| carried.receipt().kind().to_string()).collect();
    assert_eq!(kinds, ["R1", "R1", "recovery", "R1"]);
    assert_eq!(receipts[2].receipt().log_prev, Some(last.r1));
}

/// Many writers at once on real threads: the cut falls anywhere between their steps, commits become durable out of order.
#[test]
fn parallel_commits_survive_cuts_and_failures() {
    for seed in 0..120_u64 {
        let mut world = World::seeded(seed / 5);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
        let index = Arc::new(world.index.clone());
        let (spool, _) = FileSpool::open(parts(&world.disk, index, Hop::Blocking, false), at(0)).expect("an empty disk");
        let step = world.disk.steps() + 10 + seed * 2 % 90;
        let cut = seed % 2 == 0;
        if cut {
            world.disk.cut_power_at(step)
        } else {
            world.disk.fail(step, Fault::Eio)
        }
        let mut oracle = Oracle::default();
        let results = runtime.block_on(async {
            let all = (0..8_u64).map(|n| {
                let spool = spool.clone();
                tokio::spawn(async move { (n, hand_over(&spool, announced(n), queued(n), &bytes(n, 0)).await) })
            });
            futures::future::join_all(all).await
        });
        for (n, result) in results.into_iter().map(|joined| joined.expect("no panic")) {
            oracle.tried.insert((n, 0));
            oracle.accepted.extend(result.ok().map(|committed| ((n, 0), committed)));
        }
        let what = format!("seed {seed}");
        if !cut {
            runtime.block_on(async {
                let spool = spool.clone();
                // The failure may fall into the first of them.
                tokio::task::spawn_blocking(move || spool.tend(at(3)).or_else(|_| spool.tend(at(4))))
                    .await
                    .expect("no panic")
                    .expect("works again");
            });
            assert_eq!(spool.refusing(&tenant()), None, "{what}");
        }
        drop(runtime);
        drop(spool);
        world.power_cut(seed);
        world.check(&oracle, &what);
    }
}

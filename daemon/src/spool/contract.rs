//! What every [`Spool`] promises, as functions over `&dyn Spool`, run against each.

use super::disk::{FileSystem, MemoryDisk};
use super::files::{FileSpool, Hop};
use super::index::{IndexStore, MemoryStore, RedbStore, SledStore};
use super::record::{Announced, Cause, Move, Note, Progress, SpoolId, State};
use super::sample::{announced, at, data, digest, facts, hand_over, memory_spool, open, parts, read, study_uid, tenant};
use super::{Claim, Lane, Seen, Spool, SpoolError};
use std::path::Path;
use std::sync::Arc;

/// A move that says nothing but the state.
pub fn to(state: State, seconds: i64) -> Progress {
    Progress {
        state,
        since: at(seconds),
        not_before: at(seconds),
        attempts: 0,
        outcome: None,
        overrides: Vec::new(),
        reasons: Vec::new(),
        judged: None,
        unlisted: false,
        decision: None,
        memo: None,
        commitment: None,
        urgent: false,
    }
}

fn claim(state: &'static str, now: i64, limit: usize) -> Claim {
    Claim { tenant: tenant(), state, lane: Lane::Normal, now: at(now), lease_until: at(now + 60), limit }
}

async fn nothing_is_visible_before_the_commit(spool: &dyn Spool) {
    let mut writer = spool.open(announced(1)).await.expect("open");
    writer.write(&data(1, 5000)).await.expect("written");
    assert_eq!(writer.size_bytes(), 5000);
    assert_eq!(spool.totals()[&(tenant(), "receiving")].objects, 1);
    assert_eq!(spool.instances(&tenant(), &announced(1).sop_instance_uid).await.expect("works"), []);
    writer.discard().await;
    assert_eq!(spool.totals(), Default::default());
    drop(spool.open(announced(1)).await.expect("open"));
    assert_eq!(spool.study(&tenant(), &study_uid(1)).await.expect("works"), None);
}

async fn what_was_committed_is_found_with_its_digest_and_bytes(spool: &dyn Spool) {
    // Several chunks, and an odd end.
    let bytes = data(1, 1_300_001);
    let committed = hand_over(spool, announced(1), facts(1), &bytes).await.expect("committed");
    assert_eq!((committed.digest, committed.repeated), (digest(&bytes), false));
    let entry = spool.entry(committed.id).await.expect("works").expect("there");
    assert_eq!((&entry.record.announced, &entry.record.facts), (&announced(1), &facts(1)));
    assert_eq!((entry.record.size_bytes, entry.record.digest, entry.r1), (1_300_001, committed.digest, committed.r1));
    assert_eq!(entry.progress, to(State::Held(Cause::incomplete()), 1));
    assert_eq!(spool.instances(&tenant(), &announced(1).sop_instance_uid).await.expect("works"), [entry]);
    assert_eq!(read(spool, committed.id).await.expect("readable"), bytes);
    let stored = spool.read(committed.id).await.expect("readable");
    let r1 = stored.r1().expect("its own");
    assert_eq!(r1.hash(), committed.r1);
    let object = r1.receipt().object().expect("an acceptance").clone();
    assert_eq!((object.digest, object.size_bytes, object.study_uid), (committed.digest, 1_300_001, study_uid(1)));
    assert_eq!(&stored.head()[128..132], b"DICM");
}

async fn the_same_bytes_again_give_the_same_object_and_receipt(spool: &dyn Spool) {
    let bytes = data(1, 3000);
    let first = hand_over(spool, announced(1), facts(1), &bytes).await.expect("committed");
    let again = hand_over(spool, announced(1), facts(9), &bytes).await.expect("committed");
    assert_eq!((again.id, again.r1, again.repeated), (first.id, first.r1, true));
    let other = hand_over(spool, announced(1), facts(1), &data(2, 3000)).await.expect("other bytes are another object");
    assert!(!other.repeated && other.r1 != first.r1);
    assert_eq!(spool.instances(&tenant(), &announced(1).sop_instance_uid).await.expect("works").len(), 2);
    let mut elsewhere = announced(1);
    elsewhere.tenant = "t2".parse().expect("valid");
    let elsewhere = hand_over(spool, elsewhere, facts(1), &bytes).await.expect("another tenant has its own");
    assert!(!elsewhere.repeated && elsewhere.r1 != first.r1);
}

async fn who_handed_the_same_bytes_over_again_is_known(spool: &dyn Spool) {
    let bytes = data(1, 3000);
    let uid = announced(1).sop_instance_uid;
    let first = hand_over(spool, announced(1), facts(1), &bytes).await.expect("committed");
    let from = |inbound: &str| Announced { inbound: inbound.to_owned(), ..announced(1) };
    let tenant = tenant();
    let ids = async |inbound: &str| -> Vec<SpoolId> {
        let found = spool.handed_over(&tenant, inbound, &uid).await.expect("works");
        found.iter().map(super::Entry::id).collect()
    };
    assert_eq!((ids("ct-1").await, ids("pacs").await), (vec![first.id], vec![]));
    let again = hand_over(spool, from("pacs"), facts(2), &bytes).await.expect("committed");
    assert!(again.repeated);
    let other = hand_over(spool, from("ws-1"), facts(3), &data(2, 3000)).await.expect("other bytes are another object");
    assert_eq!((ids("ct-1").await, ids("pacs").await, ids("ws-1").await), (vec![first.id], vec![first.id], vec![other.id]));
    assert_eq!(ids("ct").await, vec![], "not by a part of the name");
    let elsewhere = "t2".parse().expect("valid");
    assert_eq!(spool.handed_over(&elsewhere, "ct-1", &uid).await.expect("works"), []);
    // Given up, and handed over by another: both rows have handed over what is here or was passed on.
    for state in [State::Queued, State::Sent, State::Committed, State::Registered, State::Released] {
        spool.advance(vec![Move { id: first.id, to: to(state, 20) }]).await.expect("moved");
    }
    let later = hand_over(spool, from("mr-1"), facts(4), &bytes).await.expect("committed");
    assert_ne!(later.id, first.id);
    assert_eq!((ids("ct-1").await, ids("pacs").await, ids("mr-1").await), (vec![first.id], vec![first.id], vec![later.id]));
}

async fn of_two_equal_hand_overs_at_once_one_is_first(spool: &dyn Spool) {
    let bytes = data(1, 700_000);
    let (a, b, c) = tokio::join!(
        hand_over(spool, announced(1), facts(1), &bytes),
        hand_over(spool, announced(1), facts(2), &bytes),
        hand_over(spool, announced(1), facts(3), &bytes),
    );
    let all = [a.expect("committed"), b.expect("committed"), c.expect("committed")];
    assert_eq!(all.iter().filter(|committed| !committed.repeated).count(), 1);
    assert!(all.iter().all(|committed| (committed.id, committed.r1) == (all[0].id, all[0].r1)));
}

async fn a_lease_keeps_others_away_until_it_ends(spool: &dyn Spool) {
    for n in 1..=3 {
        let mut facts = facts(n);
        facts.state = State::Queued;
        hand_over(spool, announced(n), facts, &data(n, 100)).await.expect("committed");
    }
    assert_eq!(spool.claim(claim("queued", 0, 9)).await.expect("works"), [], "none is due yet");
    let first = spool.claim(claim("queued", 10, 2)).await.expect("works");
    assert_eq!(first.iter().map(|entry| entry.record.facts.received).collect::<Vec<_>>(), [at(1), at(2)], "longest due first");
    assert_eq!(spool.entry(first[0].id()).await.expect("works").expect("there").progress.state, State::Sending);
    assert_eq!(spool.totals()[&(tenant(), "sending")].objects, 2);
    let second = spool.claim(claim("queued", 10, 9)).await.expect("works");
    assert_eq!(second.len(), 1, "the others are leased");
    spool.give_back(second[0].id());
    assert_eq!(spool.claim(claim("queued", 10, 9)).await.expect("works"), second, "given back");
    // The first was sent, the second is tried again later.
    let later = Progress { not_before: at(500), attempts: 1, outcome: Some("CS-A700".to_owned()), ..to(State::Queued, 11) };
    let moves = vec![Move { id: first[0].id(), to: to(State::Sent, 11) }, Move { id: first[1].id(), to: later.clone() }];
    spool.advance(moves).await.expect("moved");
    assert_eq!(spool.claim(claim("queued", 100, 9)).await.expect("works"), second, "its lease has ended, the other is not due");
    let due = spool.claim(claim("queued", 501, 9)).await.expect("works");
    assert_eq!(due.iter().map(|entry| &entry.progress).collect::<Vec<_>>(), [&to(State::Queued, 3), &later]);
    assert_eq!(spool.claim(claim("sent", 501, 9)).await.expect("works")[0].id(), first[0].id());
}

async fn the_urgent_lane_is_claimed_apart_and_each_lane_the_longest_due_first(spool: &dyn Spool) {
    let mut ids = Vec::new();
    for n in 1..=6 {
        let facts = super::Facts { urgent: n % 3 == 0, state: State::Queued, ..facts(n) };
        ids.push(hand_over(spool, announced(n), facts, &data(n, 100)).await.expect("committed").id);
    }
    let claimed = async |lane: Lane, limit: usize| -> Vec<SpoolId> {
        let found = spool.claim(Claim { lane, ..claim("queued", 100, limit) }).await.expect("works");
        assert!(found.iter().all(|entry| entry.progress.urgent == (lane == Lane::Urgent)));
        found.iter().map(super::Entry::id).collect()
    };
    assert_eq!(claimed(Lane::Urgent, 1).await, [ids[2]], "by its record");
    assert_eq!(claimed(Lane::Normal, 9).await, [ids[0], ids[1], ids[3], ids[4]]);
    assert_eq!((claimed(Lane::Urgent, 9).await, claimed(Lane::Normal, 9).await), (vec![ids[5]], vec![]));
    // What is put into the other lane is found there alone, in whatever state, and its lease ends.
    let of = |id: SpoolId, urgent: bool, state: State, seconds: i64| Move { id, to: Progress { urgent, ..to(state, seconds) } };
    spool.advance(vec![of(ids[0], true, State::Queued, 50), of(ids[2], false, State::Queued, 40)]).await.expect("moved");
    assert_eq!((claimed(Lane::Urgent, 9).await, claimed(Lane::Normal, 9).await), (vec![ids[0]], vec![ids[2]]));
    spool.advance(vec![of(ids[0], true, State::Sent, 60)]).await.expect("moved");
    let sent = |lane| spool.claim(Claim { lane, ..claim("sent", 100, 9) });
    assert_eq!((sent(Lane::Normal).await.expect("works").len(), sent(Lane::Urgent).await.expect("works").len()), (0, 1));
}

async fn a_step_the_states_do_not_have_moves_nothing(spool: &dyn Spool) {
    let a = hand_over(spool, announced(1), facts(1), &data(1, 100)).await.expect("committed").id;
    let b = hand_over(spool, announced(2), facts(2), &data(2, 100)).await.expect("committed").id;
    let moves = |state: State| vec![Move { id: a, to: to(State::Queued, 5) }, Move { id: b, to: to(state, 5) }];
    for state in [State::Sent, State::Committed, State::Registered, State::Released, State::Sending, State::Receiving] {
        assert!(matches!(spool.advance(moves(state)).await, Err(SpoolError::Transition { id, .. }) if id == b));
    }
    let unknown = vec![Move { id: super::SpoolId(999), to: to(State::Queued, 5) }];
    assert!(matches!(spool.advance(unknown).await, Err(SpoolError::Unknown(_))));
    assert_eq!(spool.in_state(&tenant(), "held", None, 9).await.expect("works").len(), 2);
}

async fn a_move_decided_on_what_has_changed_since_moves_nothing(spool: &dyn Spool) {
    let a = hand_over(spool, announced(1), facts(1), &data(1, 100)).await.expect("committed").id;
    let b = hand_over(spool, announced(2), facts(2), &data(2, 100)).await.expect("committed").id;
    let entry = async |id| spool.entry(id).await.expect("works").expect("here");
    let (saw_a, saw_b) = (entry(a).await, entry(b).await);
    spool.advance(vec![Move { id: b, to: to(State::Queued, 5) }]).await.expect("moved");
    let both = || vec![Seen::new(&saw_a, to(State::Rejected, 9)), Seen::new(&saw_b, to(State::Rejected, 9))];
    assert!(matches!(spool.advance_seen(both()).await, Err(SpoolError::Changed(id)) if id == b));
    assert_eq!((entry(a).await, entry(b).await.progress.state), (saw_a.clone(), State::Queued));
    // Who saw it queued did not see it leased.
    let saw_b = entry(b).await;
    assert_eq!(spool.claim(claim("queued", 10, 9)).await.expect("works").len(), 1);
    let quarantined = || to(State::Quarantined("D301".parse().expect("a cause")), 11);
    assert!(matches!(spool.advance_seen(vec![Seen::new(&saw_b, quarantined())]).await, Err(SpoolError::Changed(id)) if id == b));
    assert_eq!(entry(b).await.progress.state, State::Sending);
    // The others of a page need not wait for it.
    let page = vec![Seen::new(&saw_b, quarantined()), Seen::new(&saw_a, quarantined())];
    assert_eq!(spool.advance_unchanged(page).await.expect("works"), [b]);
    assert_eq!((entry(a).await.progress, entry(b).await.progress.state), (quarantined(), State::Sending));
    // Who holds the lease saw it.
    spool.advance_seen(vec![Seen::new(&entry(b).await, to(State::Sent, 12))]).await.expect("moved");
    assert_eq!(entry(b).await.progress.state, State::Sent);
}

async fn a_study_knows_its_arrivals_states_and_notes(spool: &dyn Spool) {
    for n in [6, 4, 5] {
        hand_over(spool, announced(n), facts(n), &data(n, 100)).await.expect("committed");
    }
    hand_over(spool, announced(40), facts(40), &data(40, 100)).await.expect("another study");
    let study = spool.study(&tenant(), &study_uid(4)).await.expect("works").expect("there");
    assert_eq!((study.first_arrival, study.last_arrival, study.states["held"].objects), (at(4), at(6), 3));
    let whose = tenant();
    let waiting = |before| spool.waiting(&whose, before, 9);
    assert_eq!(waiting(at(6)).await.expect("works"), []);
    assert_eq!(waiting(at(7)).await.expect("works"), std::slice::from_ref(&study));
    assert_eq!(waiting(at(90)).await.expect("works").len(), 2);
    let note = |value: Option<&str>| Note {
        tenant: tenant(),
        study_uid: study_uid(4),
        name: "released".to_owned(),
        value: value.map(str::to_owned),
    };
    spool.note(note(Some("by an operator"))).await.expect("noted");
    let members = spool.members(&tenant(), &study_uid(4), None, 2).await.expect("works");
    let rest = spool.members(&tenant(), &study_uid(4), Some(members[1].id()), 9).await.expect("works");
    assert_eq!((members.len(), rest.len()), (2, 1));
    let queued = members.iter().chain(&rest).map(|entry| Move { id: entry.id(), to: to(State::Queued, 20) }).collect();
    spool.advance(queued).await.expect("moved");
    let study = spool.study(&tenant(), &study_uid(4)).await.expect("works").expect("there");
    assert_eq!(
        (study.states.keys().map(String::as_str).collect::<Vec<_>>(), study.notes["released"].as_str()),
        (vec!["queued"], "by an operator")
    );
    assert_eq!(waiting(at(90)).await.expect("works").len(), 1, "nothing of it is held any more");
    spool.note(note(None)).await.expect("taken back");
    assert!(spool.study(&tenant(), &study_uid(4)).await.expect("works").expect("there").notes.is_empty());
    let nowhere = Note { study_uid: "1.2.3".to_owned(), ..note(Some("x")) };
    assert!(matches!(spool.note(nowhere).await, Err(SpoolError::UnknownStudy)));
}

async fn a_released_object_is_known_without_bytes_and_held_again_under_its_one_receipt(spool: &dyn Spool) {
    let bytes = data(1, 100);
    let first = hand_over(spool, announced(1), facts(1), &bytes).await.expect("committed");
    assert_eq!(spool.kept_header(first.id).await.expect("works"), None);
    for header in [&b"one of a release that came to nothing"[..], b"header"] {
        spool.keep_header(first.id, header.into()).await.expect("kept");
    }
    for (second, state) in [State::Queued, State::Sent, State::Committed, State::Registered, State::Released].into_iter().enumerate() {
        let second = i64::try_from(second).expect("small") + 10;
        spool.advance(vec![Move { id: first.id, to: to(state, second) }]).await.expect("moved");
    }
    assert!(matches!(spool.read(first.id).await.err(), Some(SpoolError::Unknown(_))));
    assert_eq!(spool.entry(first.id).await.expect("works").expect("known").progress.state, State::Released);
    assert_eq!(spool.kept_header(first.id).await.expect("works").as_deref(), Some(&b"header"[..]), "what describes it stays");
    let refused = spool.keep_header(first.id, b"other"[..].into()).await.err();
    assert!(matches!(refused, Some(SpoolError::Unknown(_))), "and stays as it is");
    let again = hand_over(spool, announced(1), facts(60), &bytes).await.expect("committed");
    assert_eq!((again.r1, again.repeated), (first.r1, true));
    assert_ne!(again.id, first.id);
    assert_eq!(read(spool, again.id).await.expect("held again"), bytes);
    let third = hand_over(spool, announced(1), facts(61), &bytes).await.expect("committed");
    assert_eq!((third.id, third.repeated), (again.id, true));
}

async fn what_cannot_be_kept_is_refused(spool: &dyn Spool) {
    let mut long = announced(1);
    long.sop_instance_uid = "1".repeat(65);
    assert!(matches!(spool.open(long).await.err(), Some(SpoolError::Unusable(_))));
    let mut sent = facts(1);
    sent.state = State::Sent;
    assert!(matches!(hand_over(spool, announced(1), sent, &data(1, 10)).await, Err(SpoolError::Unusable(_))));
    let mut many = facts(1);
    many.findings = vec!["D123".to_owned(); 33];
    assert!(matches!(hand_over(spool, announced(1), many, &data(1, 10)).await, Err(SpoolError::Unusable(_))));
    assert_eq!(spool.instances(&tenant(), &announced(1).sop_instance_uid).await.expect("works"), []);
    hand_over(spool, announced(1), facts(1), &data(1, 10)).await.expect("nothing is in the way");
}

/// A spool on real files in a temporary folder.
fn on_files(folder: &Path, index: Arc<dyn IndexStore>) -> FileSpool {
    let disk = Arc::new(FileSystem::open(&folder.join("spool"), true).expect("a folder"));
    let mut parts = parts(&MemoryDisk::default(), index, Hop::Blocking, false);
    parts.state_disk = Arc::new(FileSystem::open(&folder.join("state"), true).expect("a folder"));
    parts.disk = disk;
    FileSpool::open(parts, at(0)).expect("an empty folder").0
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(&super::memory_spool()).await; })*
        }
        mod files_in_memory {
            $(#[tokio::test] async fn $name() {
                super::$name(&super::open(&super::MemoryDisk::default(), &super::MemoryStore::default(), false).expect("empty").0).await;
            })*
        }
        mod files_with_sled {
            $(#[tokio::test] async fn $name() {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let index = super::SledStore::new(folder.path().join("index"));
                super::$name(&super::on_files(folder.path(), std::sync::Arc::new(index))).await;
            })*
        }
        mod files_with_redb {
            $(#[tokio::test] async fn $name() {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let index = super::RedbStore::new(folder.path().join("index.redb"));
                super::$name(&super::on_files(folder.path(), std::sync::Arc::new(index))).await;
            })*
        }
    };
}

promises!(
    nothing_is_visible_before_the_commit,
    what_was_committed_is_found_with_its_digest_and_bytes,
    the_same_bytes_again_give_the_same_object_and_receipt,
    who_handed_the_same_bytes_over_again_is_known,
    of_two_equal_hand_overs_at_once_one_is_first,
    a_lease_keeps_others_away_until_it_ends,
    the_urgent_lane_is_claimed_apart_and_each_lane_the_longest_due_first,
    a_step_the_states_do_not_have_moves_nothing,
    a_move_decided_on_what_has_changed_since_moves_nothing,
    a_study_knows_its_arrivals_states_and_notes,
    a_released_object_is_known_without_bytes_and_held_again_under_its_one_receipt,
    what_cannot_be_kept_is_refused,
);

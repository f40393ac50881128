//! Merges and their reversal (profile 06 §7.4, §7.5).

use super::super::declarations::{Declaration, NewDeclaration};
use super::super::merges::NewMerge;
use super::super::patients::Origin;
use super::super::sql::{Value, sql};
use super::super::versions::Succession;
use super::super::{CentralStore, Tx};
use super::fixtures::*;
use idr_ihe::metadata::{Folder, PatientId};
use idr_profile::access::{Freshness, PatientState};
use idr_profile::identifier::NoneAndActive;
use jiff::civil::date;
use std::sync::Arc;

fn old() -> PatientId {
    PatientId { id: "150126-9T01".into(), authority: "1.2.246.10.90000011.22.2026".into() }
}

/// Submission `n` under an id.
fn submitted(n: u64, id: &PatientId) -> Case {
    let mut case = Case::manifest(n, [n]);
    case.submission.submission_sets[0].patient_id = id.clone();
    case.submission.entries[0].patient_id = id.clone();
    case.units[0].patient = id.clone();
    case.manifests[0].study_uid = format!("{STUDY}.{n}");
    case
}

/// An instance of a study of its own under an id.
fn imaged(n: u64, id: &PatientId) -> super::super::instances::NewInstance {
    let study_uid = format!("{STUDY}.{n}");
    let series_uid = format!("{study_uid}.1");
    super::super::instances::NewInstance { patient: id.clone(), study_uid, series_uid, ..instance(n) }
}

async fn fill(store: &dyn CentralStore, from: u64) {
    for (n, id) in (from..).zip([patient(), old(), old()]) {
        store_instances(store, [imaged(n, &id)]).await;
        submitted(n, &id).commit(store).await;
        let mut tx = store.begin().await.unwrap();
        let declaration = Declaration::Informing { since: date(2026, 1, 1) };
        let new = NewDeclaration { id: &format!("i-{n}"), patient: Some(&id), declaration: &declaration, detail: "{}", recorded_at: at(0) };
        tx.record_declaration(&new).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// Whose everything is, and who is who.
async fn whose(store: &dyn CentralStore) -> Vec<String> {
    let mut tx = store.read().await.unwrap();
    let mut lines = Vec::new();
    for (table, id) in [
        ("entries", "entry_uuid"),
        ("submission_sets", "entry_uuid"),
        ("folders", "entry_uuid"),
        ("imaging_units", "unit_id"),
        ("patient_aliases", "id"),
        ("patients", "patient_key || ' ' || authority || ' ' || id || ' ' || labels || ' ' || COALESCE(merged_by, '-')"),
        ("declarations", "declaration_id"),
    ] {
        let only = if table == "declarations" { "WHERE kind <> 'combination'" } else { "" };
        let select = format!("SELECT {id} AS name, patient_key FROM {table} {only} ORDER BY 1, 2");
        for row in tx.rows(sql(&select)).await.unwrap() {
            lines.push(format!("{table} {} {}", row.text("name").unwrap(), row.text("patient_key").unwrap()));
        }
    }
    lines
}

async fn state(store: &dyn CentralStore, id: &PatientId) -> PatientState {
    let mut state = store.read().await.unwrap().patient_state(id, Freshness::Store { confirmed: at(0) }).await.unwrap();
    state.store_version = 0;
    state
}

async fn merge(tx: &mut Tx, id: &str) -> bool {
    let (survivor, old) = (tx.patient(&patient()).await.unwrap().unwrap(), tx.patient(&old()).await.unwrap().unwrap());
    let new = NewMerge {
        id,
        kind: "A40",
        survivor: &survivor,
        old: &old,
        primary: None,
        told_by: "HIS|A",
        message: Some("1"),
        rule: NoneAndActive::Active,
        now: at(100),
    };
    tx.merge(&new).await.unwrap()
}

async fn split(store: &dyn CentralStore, id: &str) {
    let mut tx = store.begin().await.unwrap();
    let merge = tx.merge_by_id(id).await.unwrap().unwrap();
    tx.split(&merge, "clerk", "two persons", at(200), &mut || unreachable!("nothing was declared since")).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn a_merge_that_is_taken_back_leaves_everything_as_it_was(store: Arc<dyn CentralStore>) {
    fill(&*store, 1).await;
    let mut tx = store.begin().await.unwrap();
    let key = tx.patient_key(&old()).await.unwrap().unwrap();
    tx.describe_patient(&key, Some(date(1990, 1, 1)), &["TURVAKIELTO".into()]).await.unwrap();
    tx.commit().await.unwrap();
    let before = (whose(&*store).await, state(&*store, &patient()).await, state(&*store, &old()).await);
    for round in 0..2 {
        let id = format!("m-{round}");
        let mut tx = store.begin().await.unwrap();
        merge(&mut tx, &id).await;
        tx.commit().await.unwrap();
        let merged = state(&*store, &old()).await;
        assert_eq!((merged.ids[0].clone(), merged.labels.len()), (patient(), 1), "one patient, with the label of the old one");
        let mut tx = store.read().await.unwrap();
        assert!(!tx.has_data(&key).await.unwrap(), "everything has moved");
        drop(tx);
        split(&*store, &id).await;
        let after = (whose(&*store).await, state(&*store, &patient()).await, state(&*store, &old()).await);
        assert_eq!(after, before);
    }
}

pub async fn what_came_late_under_the_old_id_goes_back_with_it(store: Arc<dyn CentralStore>) {
    fill(&*store, 1).await;
    let mut tx = store.begin().await.unwrap();
    merge(&mut tx, "m").await;
    tx.commit().await.unwrap();
    fill(&*store, 11).await;
    let survivor = store.read().await.unwrap().patient_key(&old()).await.unwrap().unwrap();
    let all = whose(&*store).await;
    let of_patients = |line: &&String| !line.starts_with("patients");
    assert!(all.iter().filter(of_patients).all(|line| line.ends_with(&survivor.0)), "{all:#?}");
    split(&*store, "m").await;
    // As if there had been no merge: two of three of each kind are the old patient's.
    let all = whose(&*store).await;
    let old_key = store.read().await.unwrap().patient_key(&old()).await.unwrap().unwrap();
    for (table, theirs) in [("entries", 4), ("submission_sets", 4), ("imaging_units", 4), ("declarations", 4), ("patient_aliases", 1)] {
        let of = |line: &&String| line.starts_with(table) && line.ends_with(&old_key.0);
        assert_eq!(all.iter().filter(of).count(), theirs, "{table}: {all:#?}");
    }
}

pub async fn a_version_goes_with_the_one_before_when_a_merge_is_taken_back(store: Arc<dyn CentralStore>) {
    let folder = |n: u64, version: u32| Folder {
        entry_uuid: uuid(4, n),
        logical_id: Some(uuid(4, 2)),
        version: Some(version),
        unique_id: "2.25.4002".into(),
        patient_id: if version == 1 { old() } else { patient() },
        codes: Vec::new(),
        title: None,
        comments: None,
        last_update_time: None,
        home_community_id: None,
        status: None,
        extra: Vec::new(),
    };
    submitted(1, &patient()).commit(&*store).await;
    let mut first = submitted(2, &old());
    first.submission.folders.push(folder(2, 1));
    first.commit(&*store).await;
    let mut tx = store.begin().await.unwrap();
    merge(&mut tx, "m").await;
    tx.commit().await.unwrap();
    // The update names the survivor.
    let mut second = Case::new(3);
    second.submission.folders.push(folder(3, 2));
    let second = second.change(|entry, _| (entry.logical_id, entry.version) = (Some(uuid(1, 2)), Some(2)));
    let mut tx = store.begin().await.unwrap();
    second.register(&mut tx).await.unwrap();
    let of = |previous, new| Succession { previous, new, propagate: true };
    let successions = [of(uuid(1, 2), uuid(1, 3)), of(uuid(4, 2), uuid(4, 3))];
    tx.succeed(&successions, &second.submission.submission_sets[0].entry_uuid, 9, second.now).await.unwrap();
    tx.commit().await.unwrap();
    split(&*store, "m").await;
    let key = store.read().await.unwrap().patient_key(&old()).await.unwrap().unwrap();
    let all = whose(&*store).await;
    for (table, kind) in [("entries", 1), ("folders", 4)] {
        for n in [2, 3] {
            let line = format!("{table} {} {}", uuid(kind, n), key.0);
            assert!(all.contains(&line), "a version of the old patient's object stays with the other: {all:#?}");
        }
    }
}

pub async fn ten_thousand_units_move_with_one_merge(store: Arc<dyn CentralStore>) {
    let mut tx = store.begin().await.unwrap();
    tx.ensure_patient(&patient(), Origin::Feed, at(0)).await.unwrap();
    let key = tx.ensure_patient(&old(), Origin::Feed, at(0)).await.unwrap();
    for chunk in 0..400 {
        let mut insert = sql(
            "INSERT INTO imaging_units (unit_id, study_uid, patient_key, recorded_authority, recorded_id, controller, register, specifier, \
             service_event)",
        );
        let row = |n: u32| -> Vec<Value> {
            let text = |text: &str| Value::from(text);
            let (unit, study) = (format!("unit-{n}"), format!("{STUDY}.{n}"));
            let (authority, id) = (old().authority, old().id);
            vec![text(&unit), text(&study), text(&key.0), text(&authority), text(&id), text(COUNTY), text("2"), text(""), text("")]
        };
        insert.push_rows((0..25).map(|n| row(chunk * 25 + n)));
        tx.execute(insert).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    merge(&mut tx, "m").await;
    tx.commit().await.unwrap();
    let count = async |id: &PatientId| {
        let mut tx = store.read().await.unwrap();
        let key = tx.patient_key(id).await.unwrap().unwrap();
        let select = sql("SELECT COUNT(*) AS n FROM imaging_units WHERE patient_key = $1").bind(&key.0);
        tx.row(select).await.unwrap().unwrap().integer("n").unwrap()
    };
    assert_eq!(count(&patient()).await, 10_000);
    split(&*store, "m").await;
    assert_eq!((count(&patient()).await, count(&old()).await), (0, 10_000));
}

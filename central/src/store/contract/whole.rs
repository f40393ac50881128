//! All or nothing.

use super::super::declarations::{Declaration, NewDeclaration};
use super::super::instances::{Arrival, Which};
use super::super::query::DocumentFilter;
use super::super::sql::sql;
use super::super::{CentralStore, SqliteOptions, SqliteStore};
use super::fixtures::*;
use crate::control::Operator;
use idr_profile::receipt::{Carried, LogWalk};
use jiff::civil::date;
use std::path::Path;
use std::sync::Arc;

const TABLES: [&str; 21] = [
    "patients",
    "patient_aliases",
    "service_events",
    "entries",
    "entry_codes",
    "entry_references",
    "object_authors",
    "submission_sets",
    "folders",
    "folder_codes",
    "associations",
    "documents",
    "manifests",
    "manifest_references",
    "imaging_units",
    "instances",
    "receipts",
    "declarations",
    "idempotency",
    "used_assertions",
    "counters",
];

async fn count(store: &dyn CentralStore) -> Vec<i64> {
    let mut tx = store.read().await.unwrap();
    let mut counts = Vec::new();
    for table in TABLES {
        let select = sql(&format!("SELECT COUNT(*) AS n FROM {table}"));
        counts.push(tx.row(select).await.unwrap().unwrap().integer("n").unwrap());
    }
    counts.push(i64::try_from(tx.store_version().await.unwrap()).unwrap());
    counts
}

pub async fn a_transaction_that_is_dropped_leaves_nothing(store: Arc<dyn CentralStore>) {
    store_instances(&*store, [instance(1)]).await;
    let before = count(&*store).await;
    for explicit in [false, true] {
        let mut tx = store.begin().await.unwrap();
        tx.commit_instances(&[instance(2)], &custody(), at(1)).await.unwrap();
        Case::manifest(1, [1, 2]).register(&mut tx).await.unwrap();
        let declaration = Declaration::Informing { since: date(2026, 1, 1) };
        let new = NewDeclaration { id: "d", patient: Some(&other_patient()), declaration: &declaration, detail: "{}", recorded_at: at(1) };
        tx.record_declaration(&new).await.unwrap();
        match explicit {
            true => tx.rollback().await.unwrap(),
            false => drop(tx),
        }
        assert_eq!(count(&*store).await, before);
    }
    // The chain goes on where the last commit left it.
    store_instances(&*store, [instance(2)]).await;
    let log = store.read().await.unwrap().receipt_log(&Operator::of_tests(), &holder(), None, 9).await.unwrap();
    let mut walk = LogWalk::new(verifier(), None);
    log.iter().for_each(|receipt| walk.push(receipt));
    assert_eq!(walk.finish(log.last().map(Carried::hash)), []);
}

pub async fn a_registration_that_fails_leaves_nothing(store: Arc<dyn CentralStore>) {
    Case::new(1).commit(&*store).await;
    let before = count(&*store).await;
    // The last thing that is inserted fails.
    let mut case = Case::manifest(2, 1..=300);
    case.manifests[0].entry_uuid = uuid(1, 9);
    let mut tx = store.begin().await.unwrap();
    assert!(case.register(&mut tx).await.is_err());
    drop(tx);
    assert_eq!(count(&*store).await, before);
}

pub async fn a_reader_sees_what_was_committed_before_it_began(store: Arc<dyn CentralStore>) {
    for n in 1..=5 {
        Case::new(n).commit(&*store).await;
        let found = store.read().await.unwrap().documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap();
        assert_eq!(found.len() as u64, n, "a query that starts after a success sees its effect (08 §6.4)");
    }
}

/// The files as a power cut leaves them: no connection was closed, the write-ahead log was not taken in.
fn cut(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["central.db", "central.db-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_was_committed_outlives_the_process_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = super::file_store(folder.path()).await;
    Case::manifest(1, [1, 2]).commit(&*store).await;
    store_instances(&*store, [instance(1)]).await;
    let before = count(&*store).await;
    let mut unfinished = store.begin().await.unwrap();
    let arrivals = unfinished.commit_instances(&[instance(2)], &custody(), at(1)).await.unwrap().arrivals;
    assert!(matches!(arrivals[0], Arrival::New { .. }));
    let image = cut(folder.path());
    drop(unfinished);

    let store = super::file_store(image.path()).await;
    assert_eq!(count(&*store).await, before);
    assert_eq!(store.read().await.unwrap().instances_found(STUDY, Which::Study, 9).await.unwrap().len(), 1);
    store_instances(&*store, [instance(2)]).await;
    assert_eq!(store.read().await.unwrap().instances_found(STUDY, Which::Study, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_reader_keeps_its_commit_point_while_a_writer_commits() {
    let folder = tempfile::tempdir().unwrap();
    let store = super::file_store(folder.path()).await;
    Case::new(1).commit(&*store).await;
    let mut reader = store.read().await.unwrap();
    assert_eq!(reader.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
    Case::new(2).commit(&*store).await;
    assert_eq!(reader.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
    assert!(reader.execute(sql("DELETE FROM entries")).await.is_err(), "a reader cannot write");
}

#[tokio::test]
async fn a_writer_that_waits_too_long_is_told_that_the_store_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { lock_wait: std::time::Duration::from_millis(50), ..SqliteOptions::default() };
    let store = SqliteStore::open(&folder.path().join("central.db"), options).await.unwrap();
    let held = store.begin().await.unwrap();
    assert!(matches!(store.begin().await, Err(super::StoreError::Busy)));
    drop(held);
    store.begin().await.unwrap();
}

#[tokio::test]
async fn a_database_without_space_says_so_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = super::file_store(folder.path()).await;
    Case::new(1).commit(&*store).await;
    let mut tx = store.begin().await.unwrap();
    let pages = tx.row(sql("PRAGMA page_count")).await.unwrap().unwrap().integer("page_count").unwrap();
    tx.rows(sql(&format!("PRAGMA max_page_count = {}", pages + 2))).await.unwrap();
    let full = Case::manifest(2, 1..=5000).register(&mut tx).await;
    assert!(matches!(full, Err(super::StoreError::Full)), "{full:?}");
    drop(tx);
    assert_eq!(store.read().await.unwrap().documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_file_is_the_owners_alone_and_every_commit_is_synced() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let store = super::file_store(folder.path()).await;
    let mode = std::fs::metadata(folder.path().join("central.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut tx = store.begin().await.unwrap();
    for (pragma, expected) in [("synchronous", 2), ("foreign_keys", 1)] {
        let row = tx.row(sql(&format!("PRAGMA {pragma}"))).await.unwrap().unwrap();
        assert_eq!(row.integer(pragma).unwrap(), expected, "{pragma}");
    }
    let row = tx.row(sql("PRAGMA journal_mode")).await.unwrap().unwrap();
    assert_eq!(row.text("journal_mode").unwrap(), "wal");
}

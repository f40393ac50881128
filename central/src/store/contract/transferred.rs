//! Moving between databases.

use super::super::declarations::{Declaration, NewDeclaration};
use super::super::sql::sql;
use super::super::transfer::{TransferError, transfer};
use super::super::{CentralStore, SqliteOptions, SqliteStore};
use super::fixtures::*;
use super::{file_store, postgres_store};
use crate::testing::postgres::shared;
use jiff::civil::date;

/// Something in as many tables as the other tests reach, with what the two databases could write differently.
async fn filled(store: &dyn CentralStore) {
    let odd = |entry: &mut idr_ihe::metadata::DocumentEntry| entry.title = Some("Äkäslompolo ☃ 'x' \\ \"y\" %_".into());
    Case::manifest(1, 1..=1200).change(|entry, _| odd(entry)).commit(store).await;
    store_instances(store, (1..=20).map(instance)).await;
    Case::new(2).with(association(7, XFRM, &uuid(1, 2), &uuid(1, 1))).commit(store).await;
    let declaration = Declaration::Informing { since: date(2026, 1, 1) };
    let new = NewDeclaration { id: "d", patient: Some(&other_patient()), declaration: &declaration, detail: "{}", recorded_at: at(1) };
    let mut tx = store.begin().await.unwrap();
    tx.record_declaration(&new).await.unwrap();
    tx.link(&patient(), &other_patient(), at(2)).await.unwrap();
    tx.record_feed_message("a|b", "1", "00", at(3)).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_to_the_server_and_back_and_is_the_same() {
    let Some(database) = shared().unwrap() else { return };
    let (here, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, server, second) = (file_store(here.path()).await, postgres_store(&database).await, file_store(back.path()).await);
    filled(&*first).await;
    let there = transfer(&*first, &*server).await.unwrap();
    let rows = |table| there.iter().find(|content| content.table == table).unwrap().rows;
    assert_eq!((rows("entries"), rows("manifest_references"), rows("instances"), rows("patient_links")), (2, 1200, 20, 1));
    let again = transfer(&*server, &*second).await.unwrap();
    assert_eq!(there, again, "rows and SHA-256 of each table");
    // The chain of receipts goes on where it was.
    store_instances(&*second, [instance(21)]).await;

    // What was moved away is not worked on, and not moved twice.
    for (store, moved) in [(&first, true), (&server, true), (&second, false)] {
        assert_eq!(store.read().await.unwrap().was_moved().await.unwrap(), moved);
    }
    assert!(matches!(transfer(&*first, &*second).await, Err(TransferError::MovedBefore)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_interrupted_before_its_mark_is_finished_by_the_next() {
    let Some(database) = shared().unwrap() else { return };
    let here = tempfile::tempdir().unwrap();
    let (first, server) = (file_store(here.path()).await, postgres_store(&database).await);
    filled(&*first).await;
    let there = transfer(&*first, &*server).await.unwrap();
    let mut tx = first.begin().await.unwrap();
    tx.execute(sql("DELETE FROM counters WHERE name = 'moved'")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(transfer(&*first, &*server).await.unwrap(), there);
    assert!(first.read().await.unwrap().was_moved().await.unwrap());
    // At once back: both are equal, and now the first one is in use.
    transfer(&*server, &*first).await.unwrap();
    assert!(!first.read().await.unwrap().was_moved().await.unwrap());
    assert!(server.read().await.unwrap().was_moved().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_with_other_content_is_left_as_it_is() {
    let Some(database) = shared().unwrap() else { return };
    let (first, server) = (SqliteStore::memory().await.unwrap(), postgres_store(&database).await);
    Case::new(1).commit(&first).await;
    Case::new(2).commit(&*server).await;
    assert!(matches!(transfer(&first, &*server).await, Err(TransferError::NotEmpty { .. })));
    assert!(!first.read().await.unwrap().was_moved().await.unwrap(), "nothing was moved");
    assert_eq!(server.read().await.unwrap().patient(&patient()).await.unwrap().unwrap().ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_fails_leaves_nothing() {
    let Some(database) = shared().unwrap() else { return };
    let here = tempfile::tempdir().unwrap();
    let first = SqliteStore::open(&here.path().join("central.db"), SqliteOptions::default()).await.unwrap();
    let server = postgres_store(&database).await;
    filled(&first).await;
    // A server's text has no NUL; SQLite's has.
    let mut tx = first.begin().await.unwrap();
    tx.execute(sql("INSERT INTO feed_messages (source, control_id, digest, received_at) VALUES ('a' || char(0), '2', '00', 1)"))
        .await
        .unwrap();
    tx.execute(sql("INSERT INTO used_assertions (assertion_key, certificate_sha256, keep_until) VALUES ('a' || char(0), '', 1)"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let failed = transfer(&first, &*server).await.expect_err("refused");
    assert!(failed.to_string().contains("feed_messages"), "{failed}");
    assert_eq!(server.read().await.unwrap().patient_key(&patient()).await.unwrap(), None);
    assert!(!first.read().await.unwrap().was_moved().await.unwrap());
}

//! What only a server can do: go away, be set up wrongly, be shared.

use super::super::messages::{Claim, Lease, MessageKey, Presentation, Presented};
use super::super::query::DocumentFilter;
use super::super::sql::sql;
use super::super::{CentralStore, Durability, PostgresOptions, PostgresStore, StoreError, Tls};
use super::fixtures::*;
use super::{postgres_options, postgres_store};
use crate::testing::postgres::{Cluster, Database, shared};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use uuid::Uuid;

fn options(database: &Database) -> PostgresOptions {
    postgres_options(&database.host, &database.name)
}

fn why(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn entries(store: &dyn CentralStore) -> usize {
    store.read().await.unwrap().documents_found(&patient(), &DocumentFilter::default(), 99).await.unwrap().len()
}

#[tokio::test]
async fn a_server_that_loses_commits_in_a_power_cut_is_refused() {
    // The tests' own server has fsync off.
    let Some(database) = shared().unwrap() else { return };
    let required = PostgresOptions { durability: Durability::Required, ..options(&database) };
    let refused = PostgresStore::open(required).await.expect_err("refused");
    assert!(why(&refused).contains("fsync = off"), "{}", why(&refused));
    let Some(cluster) = Cluster::start(&["synchronous_commit=off"]).unwrap() else { return };
    cluster.create("central").unwrap();
    let required = PostgresOptions { durability: Durability::Required, ..postgres_options(cluster.host(), "central") };
    let refused = PostgresStore::open(required.clone()).await.expect_err("refused");
    assert!(why(&refused).contains("synchronous_commit = off"), "{}", why(&refused));
    cluster.sql("central", "ALTER DATABASE central SET synchronous_commit = on").unwrap();
    PostgresStore::open(required).await.expect("what is acknowledged is flushed");
}

#[tokio::test]
async fn a_database_that_orders_text_by_a_language_is_refused() {
    let Some(database) = shared().unwrap() else { return };
    let store = postgres_store(&database).await;
    let mut tx = store.begin().await.unwrap();
    let row = tx.row(sql("SELECT CASE WHEN 'B' < 'a' THEN 1::bigint ELSE 0::bigint END AS bytewise")).await.unwrap().unwrap();
    assert_eq!(row.integer("bytewise").unwrap(), 1);
    drop(tx);
    store.close().await;
    let Some(cluster) = Cluster::start(&[]).unwrap() else { return };
    cluster.sql("postgres", "CREATE DATABASE other TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'").unwrap();
    let refused = PostgresStore::open(postgres_options(cluster.host(), "other")).await.expect_err("refused");
    assert!(why(&refused).contains("LOCALE 'C'"), "{}", why(&refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_until_the_first_has_ended() {
    let Some(database) = shared().unwrap() else { return };
    let first = PostgresStore::open(options(&database)).await.unwrap();
    let reading =
        PostgresStore::open(PostgresOptions { alone: false, ..options(&database) }).await.expect("who only reads is not kept off");
    let second = tokio::spawn(PostgresStore::open(options(&database)));
    Case::new(1).commit(&first).await;
    assert_eq!(entries(&reading).await, 1);
    assert!(!second.is_finished(), "two processes have the database");
    first.close().await;
    // It waits a while for what a killed process leaves; here it has its turn.
    let second = second.await.unwrap().expect("the first has ended");
    Case::new(2).commit(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_keeps_what_was_committed_and_is_found_again() {
    let Some(mut cluster) = Cluster::start(&[]).unwrap() else { return };
    cluster.create("central").unwrap();
    let options = PostgresOptions {
        durability: Durability::Required,
        lock_wait: Duration::from_secs(10),
        ..postgres_options(cluster.host(), "central")
    };
    let store = PostgresStore::open(options).await.unwrap();
    for n in 1..=5 {
        Case::new(n).commit(&store).await;
    }
    let mut open = store.begin().await.unwrap();
    Case::new(6).register(&mut open).await.unwrap();
    cluster.kill().unwrap();
    assert!(matches!(open.commit().await, Err(StoreError::Away(_))), "a commit that nobody confirmed counts as none");
    assert!(store.begin().await.is_err(), "nobody is there");
    assert!(store.read().await.is_err() && store.refusing().is_some(), "monitors are told");
    assert!(matches!(store.begin().await, Err(StoreError::Away(_))), "it is tried again later");
    cluster.go_on().unwrap();
    let give_up = tokio::time::Instant::now() + Duration::from_secs(120);
    while store.refusing().is_some() {
        assert!(tokio::time::Instant::now() < give_up, "the store does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(entries(&store).await, 5, "what was committed, and nothing of what was not");
    Case::new(6).commit(&store).await;
    assert_eq!(entries(&store).await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_given_up() {
    let Some(database) = shared().unwrap() else { return };
    // The session stands still as if the network had swallowed it: the server's own limit is taken away.
    let store = PostgresStore::open(PostgresOptions { statement: Duration::from_secs(3), ..options(&database) }).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.execute(sql("SET LOCAL statement_timeout = 0")).await.unwrap();
    let asked = tx.row(sql("SELECT pg_sleep(600)::text AS slept")).await;
    assert!(matches!(asked, Err(StoreError::Away(_))), "{:?}", asked.err());
    assert!(matches!(tx.commit().await, Err(StoreError::Broken)));
    // And a statement that the server ends is tried again later.
    let mut tx = store.read().await.unwrap();
    let ended = tx.row(sql("SELECT pg_sleep(600)::text AS slept")).await;
    assert!(matches!(ended, Err(StoreError::Busy)), "{:?}", ended.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_of_work_with_a_failure_inside_commits_nothing() {
    let Some(database) = shared().unwrap() else { return };
    let store = PostgresStore::open(options(&database)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    Case::new(1).register(&mut tx).await.unwrap();
    assert!(tx.execute(sql("INSERT INTO no_such_table (a) VALUES (1)")).await.is_err());
    assert!(matches!(tx.commit().await, Err(StoreError::Broken)), "PostgreSQL would have called its rollback a success");
    assert_eq!(entries(&store).await, 0);
    // One that is abandoned in the middle of a statement holds nobody up.
    let mut tx = store.begin().await.unwrap();
    Case::new(2).register(&mut tx).await.unwrap();
    let abandoned = tokio::time::timeout(Duration::from_millis(200), tx.row(sql("SELECT pg_sleep(2)::text AS slept"))).await;
    assert!(abandoned.is_err());
    drop(tx);
    Case::new(3).commit(&store).await;
    assert_eq!(entries(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_waits_for_another_and_not_for_ever() {
    let Some(database) = shared().unwrap() else { return };
    let store = PostgresStore::open(PostgresOptions { lock_wait: Duration::from_secs(5), ..options(&database) }).await.unwrap();
    let held = store.begin().await.unwrap();
    assert!(matches!(store.begin().await, Err(StoreError::Busy)));
    // A reader waits for no writer.
    assert_eq!(entries(&store).await, 0);
    drop(held);
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    while store.begin().await.is_err() {
        assert!(tokio::time::Instant::now() < give_up, "the lock of an abandoned unit of work stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_keeps_its_commit_point_while_a_writer_commits() {
    let Some(database) = shared().unwrap() else { return };
    let store = PostgresStore::open(options(&database)).await.unwrap();
    Case::new(1).commit(&store).await;
    let mut reader = store.read().await.unwrap();
    assert_eq!(reader.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
    Case::new(2).commit(&store).await;
    assert_eq!(reader.documents_found(&patient(), &DocumentFilter::default(), 9).await.unwrap().len(), 1);
    assert!(reader.execute(sql("DELETE FROM entries")).await.is_err(), "a reader cannot write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_two_processes_an_assertion_counts_once_and_a_message_is_done_once() {
    let Some(database) = shared().unwrap() else { return };
    // Only the store is shared here: processes with a state of their own keep each other off.
    PostgresStore::open(options(&database)).await.unwrap().close().await;
    let node = || async { Arc::new(PostgresStore::open(PostgresOptions { alone: false, ..options(&database) }).await.unwrap()) };
    let nodes = [node().await, node().await];
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let store = Arc::clone(&nodes[n % 2]);
        tasks.spawn(async move {
            let mut tx = store.begin().await.unwrap();
            let presentation = Presentation { key: "a".repeat(64), certificate_sha256: "b".repeat(64), keep_until: at(300) };
            let seen = tx.present_assertion(&presentation, 1000).await.unwrap();
            tx.commit().await.unwrap();
            let key = MessageKey { organisation: SITE.into(), message_id: "urn:uuid:1".into() };
            let lease = Lease { token: Uuid::from_u128(n as u128), until: at(600) };
            let mut tx = store.begin().await.unwrap();
            let claim = tx.claim_message(&key, "f", &lease, SignedDuration::from_secs(86_400), at(0)).await.unwrap();
            tx.commit().await.unwrap();
            (seen == Presented::First, claim == Claim::Mine)
        });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|(first, _)| *first).count(), 1);
    assert_eq!(outcomes.iter().filter(|(_, mine)| *mine).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_elsewhere_is_known_by_its_certificate() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Some(mut cluster) = Cluster::start(&[]).unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, certificate.pem()).unwrap();
        (rcgen::Issuer::new(params, key), path)
    };
    let ((issuer, right), (_, wrong)) = (authority("right.pem"), authority("wrong.pem"));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let port = cluster.listen(&certificate.pem(), &key.serialize_pem()).unwrap();
    cluster.create("central").unwrap();
    let over_tls = |host: &str, authorities: &std::path::Path| PostgresOptions {
        host: host.to_owned(),
        port,
        tls: Tls::Verified { authorities: authorities.to_owned(), identity: None },
        ..postgres_options(cluster.host(), "central")
    };
    for (host, authorities) in [("localhost", &wrong), ("127.0.0.1", &right)] {
        let refused = PostgresStore::open(over_tls(host, authorities)).await.expect_err("refused");
        assert!(why(&refused).contains("certificate"), "{}", why(&refused));
    }
    let store = PostgresStore::open(over_tls("localhost", &right)).await.unwrap();
    Case::new(1).commit(&store).await;
    let mut tx = store.read().await.unwrap();
    let row = tx.row(sql("SELECT version AS protocol FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).await.unwrap().unwrap();
    assert_eq!(row.text("protocol").unwrap(), "TLSv1.3");
}

//! No look-up of a request goes through a whole table: at 10⁸ entries that would be minutes.
//!
//! Every statement that the look-ups make is explained by the database itself. SQLite plans by its rules. PostgreSQL is told to avoid
//! whole tables, so that what it reads whole nevertheless is what no index serves, however large the table becomes.

use super::super::instances::Which;
use super::super::messages::{Lease, MessageKey, Presentation};
use super::super::query::{DocumentFilter, Names, TimeRange, Versions};
use super::super::registry::Class;
use super::super::sql::{Statement, sql};
use super::super::{CentralStore, SqliteStore, StoreError, Tx};
use super::fixtures::*;
use super::postgres_store;
use crate::control::Operator;
use crate::store::graph::Seeds;
use crate::testing::postgres::shared;
use idr_ihe::metadata::AvailabilityStatus;
use idr_profile::access::Freshness;
use jiff::SignedDuration;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Tables that stay small, or whose rows a statement wants all of.
const SMALL: [&str; 1] = ["counters"];

fn filter() -> DocumentFilter {
    let code = || vec![code("180", "1.2.246.537.5.40150.2009")];
    let range = || TimeRange { from: Some("2026".into()), to: Some("2027".into()) };
    DocumentFilter {
        statuses: vec![AvailabilityStatus::Approved],
        class_codes: code(),
        type_codes: code(),
        practice_settings: code(),
        facility_types: code(),
        format_codes: code(),
        event_codes: vec![code()],
        confidentiality_codes: vec![code()],
        reference_ids: vec![vec!["a".into()]],
        author_persons: vec!["%Kuvaaja%".into()],
        creation_time: range(),
        service_start_time: range(),
        service_stop_time: range(),
        controllers: vec![COUNTY.into()],
        registers: vec!["2".into()],
        ..DocumentFilter::default()
    }
}

/// What requests ask of the store: stored queries (08 §8), the rules' state (08 §9), stores, retrieves, decisions, messages.
async fn ask(tx: &mut Tx) -> Result<(), StoreError> {
    let (entries, sets, folders) = ([uuid(1, 1)], [uuid(2, 1)], [uuid(4, 1)]);
    let (documents, kinds) = (["2.25.1001".to_owned()], [XFRM.to_owned()]);
    for filter in [DocumentFilter::default(), filter()] {
        tx.documents_found(&patient(), &filter, 9).await?;
    }
    for names in [Names::EntryUuids(&entries), Names::UniqueIds(&documents), Names::LogicalIds(&entries)] {
        for versions in [Versions::Latest, Versions::All] {
            tx.documents_named(names, versions, 9).await?;
            tx.graph(Seeds::Entries(names, versions), 99).await?;
            tx.graph(Seeds::Folders(names, versions), 99).await?;
        }
        tx.graph(Seeds::Related(names, &kinds), 99).await?;
        tx.graph(Seeds::FoldersWith(names), 99).await?;
        tx.graph(Seeds::EntriesWithAssociations(names), 99).await?;
        tx.graph(Seeds::FolderAndContents(names), 99).await?;
    }
    for names in [Names::EntryUuids(&sets), Names::UniqueIds(&documents)] {
        tx.graph(Seeds::SetAndContents(names), 99).await?;
    }
    for seeds in [
        Seeds::SetsOf(&patient()),
        Seeds::FoldersOf(&patient()),
        Seeds::AllOf(&patient()),
        Seeds::SetsWith(&entries),
        Seeds::AssociationsOf(&entries),
    ] {
        tx.graph(seeds, 99).await?;
    }
    tx.get_related_documents(&entries[0], &kinds, 9).await?;
    tx.document_found(REPOSITORY, &documents[0]).await?;
    // The rules' state.
    assert!(tx.objects_by_id(&entries).await?.iter().any(|object| object.class == Class::Entry), "there is something to find");
    tx.objects_by_unique_id(&documents).await?;
    tx.latest_versions(&entries).await?;
    tx.approved_manifests(STUDY, REGISTRY_SOURCE).await?;
    tx.submission_set("2.25.2001").await?;
    tx.registration_receipt(&entries[0]).await?;
    tx.folders_holding(&entries[0]).await?;
    tx.ties(&entries, 99).await?;
    tx.unusable_references(&[uid(1)]).await?;
    tx.patient_keys(&[patient()]).await?;
    // Instances and documents.
    for which in
        [Which::Study, Which::Series("1.2"), Which::Instances(&[uid(1)]), Which::Instance { series_uid: "1.2", sop_instance_uid: &uid(1) }]
    {
        tx.instances_found(STUDY, which, 9).await?;
    }
    tx.instance(&uid(1)).await?;
    tx.unit_of(&uid(1)).await?;
    tx.missing_references(Some(STUDY), 9).await?;
    tx.unreferenced(&[key(1)]).await?;
    tx.stored_since(STUDY, at(0)).await?;
    tx.receipts_of_study(STUDY, None, 9).await?;
    tx.key_records(&holder()).await?;
    tx.receipt_log(&Operator::of_tests(), &holder(), None, 9).await?;
    // Decisions and identity.
    tx.patient_state(&patient(), Freshness::Store { confirmed: at(0) }).await?;
    tx.declarations_of(&patient()).await?;
    tx.declaration("d").await?;
    let key = tx.patient_key(&patient()).await?.ok_or(StoreError::Broken)?;
    tx.linked_with(&key).await?;
    tx.told(&key).await?;
    tx.merges_of(&key, 9).await?;
    tx.has_data(&key).await?;
    tx.reviews(Some(&key), 9).await?;
    tx.feed_message("a|b", "1").await?;
    tx.study_overview(&Operator::of_tests(), STUDY).await?;
    tx.studies_of(&Operator::of_tests(), &patient(), 9).await?;
    tx.held_objects(&Operator::of_tests(), Some("1"), 9).await?;
    tx.held_documents(&Operator::of_tests(), Some("1"), 9).await?;
    // What writes looks first.
    tx.commit_instances(&[instance(1), instance(50)], &custody(), at(9)).await?;
    Case::manifest(9, [50]).with(association(99, RPLC, &uuid(1, 9), &uuid(1, 1))).register(tx).await?;
    tx.change_status(&uuid(1, 9), AvailabilityStatus::Deprecated).await?;
    tx.change_status(&uuid(1, 9), AvailabilityStatus::Approved).await?;
    tx.touch_folders(&folders, at(9)).await?;
    let presentation = Presentation { key: "a".repeat(64), certificate_sha256: "b".repeat(64), keep_until: at(300) };
    tx.present_assertion(&presentation, 1000).await?;
    tx.present_assertion(&presentation, 1000).await?;
    let message = MessageKey { organisation: SITE.into(), message_id: "urn:uuid:1".into() };
    let lease = Lease { token: Uuid::from_u128(1), until: at(600) };
    for _ in 0..2 {
        tx.claim_message(&message, "f", &lease, SignedDuration::from_secs(60), at(0)).await?;
    }
    tx.finish_message(&message, &lease, "answer", at(1)).await?;
    tx.release_message(&message, &lease).await?;
    tx.remove_metadata(&entries, at(9)).await
}

/// Every statement that [`ask`] makes, once; inserted values apart, which look at nothing.
async fn asked(store: &dyn CentralStore) -> Vec<Statement> {
    Case::manifest(1, 1..=3).with(association(7, XFRM, &uuid(1, 1), &uuid(1, 1))).commit(store).await;
    store_instances(store, (1..=3).map(instance)).await;
    let mut tx = store.begin().await.unwrap();
    tx.asked = Some(Vec::new());
    ask(&mut tx).await.unwrap();
    let mut seen = BTreeSet::new();
    let asked = tx.asked.take().unwrap().into_iter().filter(|statement| seen.insert(statement.text().to_owned())).collect::<Vec<_>>();
    tx.rollback().await.unwrap();
    assert!(asked.len() > 60, "only {} statements were seen", asked.len());
    asked
}

/// What SQLite would read whole.
async fn whole_on_sqlite(tx: &mut Tx, statements: Vec<Statement>) -> Vec<String> {
    let mut whole = Vec::new();
    for statement in statements {
        let text = statement.text().to_owned();
        for step in tx.rows(statement.after("EXPLAIN QUERY PLAN ")).await.unwrap() {
            let step = step.text("detail").unwrap();
            let Some(scanned) = step.strip_prefix("SCAN ") else { continue };
            // Rows that a statement brings along, and those of a part of it, are no table.
            let brought = scanned.contains("CONSTANT ROW") || scanned.contains("VALUES CLAUSE") || scanned.starts_with('(');
            if !brought && !SMALL.iter().any(|table| scanned.split(' ').next() == Some(table)) {
                whole.push(format!("{step}: {text}"));
            }
        }
    }
    whole
}

/// What PostgreSQL could not but read whole.
async fn whole_on_postgresql(tx: &mut Tx, statements: Vec<Statement>) -> Vec<String> {
    tx.execute(sql("SET LOCAL enable_seqscan = off")).await.unwrap();
    let mut whole = Vec::new();
    for statement in statements {
        let text = statement.text().to_owned();
        let plan = tx.rows(statement.after("EXPLAIN (COSTS off) ")).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.text("QUERY PLAN").unwrap()).collect();
        for (at, step) in plan.iter().enumerate() {
            let table = step.split_once("Seq Scan on ").and_then(|(_, rest)| rest.split(' ').next());
            let read_whole = table.is_some_and(|table| !SMALL.contains(&table));
            // An index without a condition is the whole table in another order.
            let has_condition = || plan[at + 1..].iter().take_while(|line| !line.contains("->")).any(|line| line.contains("Index Cond:"));
            let through_index = step.contains("Index Scan ") || step.contains("Index Only Scan ");
            if read_whole || through_index && !has_condition() {
                whole.push(format!("{}: {text}", step.trim()));
            }
        }
    }
    whole
}

fn none_is_read_whole(whole: &[String]) {
    assert!(whole.is_empty(), "{} plans read a whole table:\n{}", whole.len(), whole.join("\n"));
}

/// Statements of which each reads a whole table: the check itself must be able to fail.
fn bad() -> Vec<Statement> {
    let whole =
        ["SELECT entry_uuid FROM entries WHERE mime_type = $1", "SELECT unit_id FROM imaging_units WHERE $1 <> '' ORDER BY unit_id"];
    whole.map(|text| sql(text).bind("x")).into()
}

#[tokio::test]
async fn no_look_up_of_a_request_reads_a_whole_table_of_sqlite() {
    let store = SqliteStore::memory().await.unwrap();
    let asked = asked(&store).await;
    let mut tx = store.begin().await.unwrap();
    none_is_read_whole(&whole_on_sqlite(&mut tx, asked).await);
    assert_eq!(whole_on_sqlite(&mut tx, bad()).await.len(), 2, "the check sees what reads whole tables");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_look_up_of_a_request_reads_a_whole_table_of_postgresql() {
    let Some(database) = shared().unwrap() else { return };
    let store = postgres_store(&database).await;
    let asked = asked(&*store).await;
    let mut tx = store.begin().await.unwrap();
    none_is_read_whole(&whole_on_postgresql(&mut tx, asked).await);
    assert_eq!(whole_on_postgresql(&mut tx, bad()).await.len(), 2, "the check sees what reads whole tables");
}

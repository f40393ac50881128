//! Moves everything from one store to another, for a change of database: all or nothing, verified by count and SHA-256 of each table.
//!
//! What is copied becomes visible in one commit, after it was read back there and compared. The source then says that its content
//! was moved, so that no centre goes on with it by mistake; its rows stay. A move that was interrupted before that mark finds both
//! sides equal when it is given again, and sets it.
//!
//! # Bounds
//! 500 rows in memory; one unit of work on each side, however long it takes.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::sql::{Row, Value, sql};
use super::{CentralStore, StoreError, Tx};

/// Rows read at once.
const PAGE: u64 = 500;

/// Every table, what it refers to first, with its primary key.
const TABLES: [(&str, &[&str]); 29] = [
    ("counters", &["name"]),
    ("patients", &["patient_key"]),
    ("patient_aliases", &["authority", "id"]),
    ("patient_links", &["a_authority", "a_id", "b_authority", "b_id"]),
    ("demographics", &["patient_key", "source"]),
    ("merges", &["merge_id"]),
    ("identity_reviews", &["review_id"]),
    ("feed_messages", &["source", "control_id"]),
    ("service_events", &["oid"]),
    ("declarations", &["store_version"]),
    ("submission_sets", &["entry_uuid"]),
    ("folders", &["entry_uuid"]),
    ("folder_codes", &["entry_uuid", "code"]),
    ("entries", &["entry_uuid"]),
    ("entry_codes", &["entry_uuid", "list", "code"]),
    ("entry_references", &["entry_uuid", "value"]),
    ("object_authors", &["object_uuid", "person"]),
    ("associations", &["entry_uuid"]),
    ("documents", &["unique_id"]),
    ("manifests", &["entry_uuid"]),
    ("manifest_references", &["entry_uuid", "sop_instance_uid"]),
    ("imaging_units", &["unit_id"]),
    ("instances", &["sop_instance_uid"]),
    ("receipts", &["id"]),
    ("commitments", &["id"]),
    ("idempotency", &["organisation", "message_id"]),
    ("used_assertions", &["assertion_key"]),
    ("enrolment_invites", &["token_sha256"]),
    ("enrolled_sites", &["token_sha256"]),
];

/// The counter that says that the content was moved.
const MOVED: &str = "moved";

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableContent {
    /// Name.
    pub table: &'static str,
    /// Rows.
    pub rows: u64,
    /// Over all rows in the order of the primary key, hex.
    pub sha256: String,
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// One of the stores failed.
    #[error("{what}")]
    Store {
        /// At what.
        what: String,
        /// How.
        #[source]
        source: StoreError,
    },
    /// The target has rows, and they are not those of the source.
    #[error("the target is not empty: table {table} has {found} rows; give an empty database, or move the file central.db away")]
    NotEmpty {
        /// First such table.
        table: &'static str,
        /// Rows there.
        found: u64,
    },
    /// What was read back is not what was written.
    #[error("table {table} reads back differently: {wrote} rows written, {read} read; nothing was kept")]
    Differs {
        /// Which.
        table: &'static str,
        /// Rows of the source.
        wrote: u64,
        /// Rows of the target.
        read: u64,
    },
    /// A table that this program does not know, or one that is missing.
    #[error("the schemas differ from what this program moves: {found:?}")]
    Schema {
        /// Tables or columns that were found.
        found: Vec<String>,
    },
    /// The source was moved before.
    #[error("the source says that its content was moved away")]
    MovedBefore,
}

/// A column: is it text? Else it holds integers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    is_text: bool,
}

/// Moves everything; gives what each table holds now, on both sides.
///
/// # Errors
/// [`TransferError`]: the target is as it was.
pub async fn transfer(source: &dyn CentralStore, target: &dyn CentralStore) -> Result<Vec<TableContent>, TransferError> {
    let mut from = source.read().await.map_err(at("the source cannot be read"))?;
    let mut to = target.begin().await.map_err(at("the target cannot be written"))?;
    if from.was_moved().await.map_err(at("the source cannot be read"))? {
        return Err(TransferError::MovedBefore);
    }
    for tx in [&mut from, &mut to] {
        tx.check_tables().await?;
    }
    let mut contents = Vec::new();
    match to.first_rows().await? {
        None => {
            to.execute(sql("DELETE FROM counters")).await.map_err(at("the target cannot be written"))?;
            for (table, key) in TABLES {
                contents.push(copy(&mut from, &mut to, table, key).await?);
            }
            to.commit().await.map_err(at("the target did not confirm the commit; give the command again to see what it holds"))?;
        }
        // Perhaps an earlier move that was interrupted after its commit.
        Some((first, found)) => {
            for (table, key) in TABLES {
                let content = from.content(table, key).await?;
                if to.content(table, key).await? != content {
                    return Err(TransferError::NotEmpty { table: first, found });
                }
                contents.push(content);
            }
            // Content that went to and fro is in use here again.
            to.execute(sql("DELETE FROM counters WHERE name = $1").bind(MOVED)).await.map_err(at("the target cannot be written"))?;
            to.commit().await.map_err(at("the target did not confirm the commit; give the command again"))?;
        }
    }
    drop(from);
    let marked = async {
        let mut tx = source.begin().await?;
        tx.execute(sql("INSERT INTO counters (name, value) VALUES ($1, 1) ON CONFLICT DO NOTHING").bind(MOVED)).await?;
        tx.commit().await
    };
    marked.await.map_err(at("everything is in the target; that the source is not used any more could not be noted there"))?;
    Ok(contents)
}

async fn copy(from: &mut Tx, to: &mut Tx, table: &'static str, key: &[&str]) -> Result<TableContent, TransferError> {
    let columns = from.columns(table).await?;
    let there = to.columns(table).await?;
    if columns != there {
        return Err(TransferError::Schema { found: there.into_iter().map(|column| format!("{table}.{}", column.name)).collect() });
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let into = format!("INSERT INTO {table} ({})", names.join(", "));
    let mut hash = ContentHash::default();
    let mut after = None;
    loop {
        let page = from.page(table, key, &columns, after.as_deref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(key_of(last, key, &columns));
        page.iter().for_each(|row| hash.add(row));
        to.insert_all(&into, page).await.map_err(at(&format!("table {table} cannot be written; nothing was kept")))?;
    }
    let wrote = hash.finish(table);
    let read = to.content(table, key).await?;
    match wrote == read {
        true => Ok(read),
        false => Err(TransferError::Differs { table, wrote: wrote.rows, read: read.rows }),
    }
}

impl Tx {
    /// Whether the content was moved to another database: no centre may work on it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn was_moved(&mut self) -> Result<bool, StoreError> {
        Ok(self.row(sql("SELECT value FROM counters WHERE name = $1").bind(MOVED)).await?.is_some())
    }

    /// The tables of the schema are those that are moved.
    async fn check_tables(&mut self) -> Result<(), TransferError> {
        let rows = self.rows(sql(self.connection.tables())).await.map_err(at("the schema cannot be read"))?;
        let found = rows.iter().map(|row| row.text("name")).collect::<Result<Vec<_>, _>>().map_err(at("the schema cannot be read"))?;
        let mut known: Vec<&str> = TABLES.iter().map(|(table, _)| *table).collect();
        known.sort_unstable();
        if found == known { Ok(()) } else { Err(TransferError::Schema { found }) }
    }

    /// The first table that has rows, counters that are zero apart.
    async fn first_rows(&mut self) -> Result<Option<(&'static str, u64)>, TransferError> {
        for (table, _) in TABLES {
            let condition = if table == "counters" { " WHERE value <> 0" } else { "" };
            let select = sql(&format!("SELECT COUNT(*) AS n FROM {table}{condition}"));
            let row = self.row(select).await.map_err(at("the target cannot be read"))?;
            let found = row.map_or(Ok(0), |row| row.unsigned("n")).map_err(at("the target cannot be read"))?;
            if found > 0 {
                return Ok(Some((table, found)));
            }
        }
        Ok(None)
    }

    async fn columns(&mut self, table: &str) -> Result<Vec<Column>, TransferError> {
        let select = sql(self.connection.columns()).bind(table);
        let rows = self.rows(select).await.map_err(at("the schema cannot be read"))?;
        let column = |row: &Row| Ok(Column { name: row.text("name")?, is_text: row.text("type")?.eq_ignore_ascii_case("text") });
        rows.iter().map(column).collect::<Result<_, StoreError>>().map_err(at("the schema cannot be read"))
    }

    /// What a table holds.
    async fn content(&mut self, table: &'static str, key: &[&str]) -> Result<TableContent, TransferError> {
        let columns = self.columns(table).await?;
        let (mut hash, mut after) = (ContentHash::default(), None);
        loop {
            let page = self.page(table, key, &columns, after.as_deref()).await?;
            let Some(last) = page.last() else { return Ok(hash.finish(table)) };
            after = Some(key_of(last, key, &columns));
            page.iter().for_each(|row| hash.add(row));
        }
    }

    /// Rows after a key, in the order of keys. That a source was moved is not part of its content.
    async fn page(
        &mut self,
        table: &str,
        key: &[&str],
        columns: &[Column],
        after: Option<&[Value]>,
    ) -> Result<Vec<Vec<Value>>, TransferError> {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let key = key.join(", ");
        let mut select = sql(&format!("SELECT {} FROM {table}", names.join(", ")));
        if let Some(after) = after {
            select.push(&format!(" WHERE ({key}) > ")).push_list(after.iter().cloned());
        }
        select.push(&format!(" ORDER BY {key} LIMIT ")).push_bind(PAGE);
        let failed = || at(&format!("table {table} cannot be read"));
        let rows = self.rows(select).await.map_err(failed())?;
        let value = |row: &Row, column: &Column| -> Result<Value, StoreError> {
            Ok(match column.is_text {
                true => row.optional_text(&column.name)?.into(),
                false => Value::Integer(row.optional_integer(&column.name)?),
            })
        };
        let read = |row: &Row| columns.iter().map(|column| value(row, column)).collect::<Result<Vec<_>, _>>();
        let page = rows.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(failed())?;
        let is_mark = |row: &Vec<Value>| matches!(row.first(), Some(Value::Text(Some(name))) if table == "counters" && name == MOVED);
        Ok(page.into_iter().filter(|row| !is_mark(row)).collect())
    }
}

fn key_of(row: &[Value], key: &[&str], columns: &[Column]) -> Vec<Value> {
    let value = |name: &&str| columns.iter().zip(row).find(|(column, _)| column.name == **name).map(|(_, value)| value.clone());
    key.iter().filter_map(value).collect()
}

/// SHA-256 over rows: each value with its kind and length, so that no two contents look alike.
#[derive(Default)]
struct ContentHash {
    rows: u64,
    sha256: Sha256,
}

impl ContentHash {
    fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            match value {
                Value::Text(None) | Value::Integer(None) => self.sha256.update([0]),
                Value::Text(Some(text)) => {
                    self.sha256.update([1]);
                    self.sha256.update((text.len() as u64).to_be_bytes());
                    self.sha256.update(text.as_bytes());
                }
                Value::Integer(Some(integer)) => {
                    self.sha256.update([2]);
                    self.sha256.update(integer.to_be_bytes());
                }
            }
        }
    }

    fn finish(self, table: &'static str) -> TableContent {
        TableContent { table, rows: self.rows, sha256: hex::encode(self.sha256.finalize()) }
    }
}

fn at(what: &str) -> impl FnOnce(StoreError) -> TransferError + use<> {
    let what = what.to_owned();
    move |source| TransferError::Store { what, source }
}

//! Statements, values and rows: the one place that knows which database is behind a [`Tx`].
//!
//! Statements are written once, with `$1 …` and what SQLite and PostgreSQL share (`ON CONFLICT DO NOTHING` included).
//! What differs is a method of [`Connection`].

use super::StoreError;
use super::postgres::PostgresUnit;
use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite, Transaction};
use std::fmt::Write as _;

/// A transaction on one of the databases.
pub(super) enum Connection {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(PostgresUnit),
}

impl Connection {
    /// Appended to a `SELECT` whose rows must not change until the end of the transaction.
    pub(super) fn for_update(&self) -> &'static str {
        match self {
            // A writer is alone from BEGIN IMMEDIATE on.
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " FOR UPDATE",
        }
    }

    /// The names of our tables, in their order.
    pub(super) fn tables(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name <> '_sqlx_migrations' ORDER BY name"
            }
            Self::Postgres(_) => {
                "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = 'public' \
                 AND table_name <> '_sqlx_migrations' ORDER BY table_name::text COLLATE \"C\""
            }
        }
    }

    /// Names and types of the columns of table `$1`, in their order.
    pub(super) fn columns(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SELECT name, type FROM pragma_table_info($1) ORDER BY cid",
            Self::Postgres(_) => {
                "SELECT column_name::text AS name, data_type::text AS type FROM information_schema.columns \
                 WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position"
            }
        }
    }

    /// `column` matches a case-sensitive LIKE pattern.
    pub(super) fn like(&self, statement: &mut Statement, column: &str, pattern: &str) {
        match self {
            // LIKE of SQLite does not tell a from A; GLOB does.
            Self::Sqlite(_) => {
                let glob: String = pattern
                    .chars()
                    .map(|c| match c {
                        '%' => "*".to_owned(),
                        '_' => "?".to_owned(),
                        '*' | '?' | '[' => format!("[{c}]"),
                        c => c.to_string(),
                    })
                    .collect();
                statement.push(column).push(" GLOB ").push_bind(glob);
            }
            // The standard's LIKE knows no escape (ITI TF-2 §3.18.4.1.2.3.5).
            Self::Postgres(_) => {
                statement.push(column).push(" LIKE ").push_bind(pattern).push(" ESCAPE ''");
            }
        }
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(tx) => Ok(sqlite(statement).execute(&mut **tx).await?.rows_affected()),
            Self::Postgres(unit) => unit.execute(postgres(statement)).await,
        }
    }

    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(tx) => Ok(sqlite(statement).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()),
            Self::Postgres(unit) => Ok(unit.rows(postgres(statement)).await?.into_iter().map(Row::Postgres).collect()),
        }
    }

    pub(super) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(tx) => Ok(sqlite(statement).fetch_optional(&mut **tx).await?.map(Row::Sqlite)),
            Self::Postgres(unit) => Ok(unit.row(postgres(statement)).await?.map(Row::Postgres)),
        }
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => Ok(tx.commit().await?),
            Self::Postgres(unit) => unit.commit().await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => Ok(tx.rollback().await?),
            Self::Postgres(unit) => unit.rollback().await,
        }
    }
}

// Only text of this module's callers becomes SQL; whatever came from outside is bound.
fn sqlite(statement: Statement) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    statement.values.into_iter().fold(sqlx::query(AssertSqlSafe(statement.sql)), |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Integer(integer) => query.bind(integer),
    })
}

fn postgres(statement: Statement) -> sqlx::query::Query<'static, Postgres, PgArguments> {
    statement.values.into_iter().fold(sqlx::query(AssertSqlSafe(statement.sql)), |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Integer(integer) => query.bind(integer),
    })
}

/// A bound value. Typed also when absent, as PostgreSQL wants it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
}

macro_rules! value {
    ($($type:ty: $value:ident => $made:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $made
            }
        })+
    };
}

value! {
    &str: text => Value::Text(Some(text.to_owned()));
    &String: text => Value::Text(Some(text.clone()));
    String: text => Value::Text(Some(text));
    Option<&str>: text => Value::Text(text.map(str::to_owned));
    Option<String>: text => Value::Text(text);
    Date: date => Value::Text(Some(date.to_string()));
    Option<Date>: date => Value::Text(date.map(|date| date.to_string()));
    i64: integer => Value::Integer(Some(integer));
    u32: integer => Value::Integer(Some(integer.into()));
    // Sizes are below 2^63 (08 M-115); nothing else is so large.
    u64: integer => Value::Integer(Some(i64::try_from(integer).unwrap_or(i64::MAX)));
    Option<u64>: integer => Value::Integer(integer.map(|integer| i64::try_from(integer).unwrap_or(i64::MAX)));
    bool: truth => Value::Integer(Some(truth.into()));
    Timestamp: time => Value::Integer(Some(time.as_millisecond()));
}

/// SQL with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    sql: String,
    values: Vec<Value>,
}

/// A statement whose `$1 …` are bound in order.
pub(super) fn sql(text: &str) -> Statement {
    Statement { sql: text.to_owned(), values: Vec::new() }
}

impl Statement {
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The text, with another before it.
    #[cfg(test)]
    pub(super) fn after(mut self, head: &str) -> Self {
        self.sql.insert_str(0, head);
        self
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.sql
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.sql.push_str(text);
        self
    }

    pub(super) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        write!(self.sql, "${}", self.values.len()).expect("a string can be written to");
        self
    }

    /// ` AND column IN (…)`. Nothing for an empty list: the caller means "any".
    pub(super) fn and_in<V: Into<Value>>(&mut self, column: &str, values: impl IntoIterator<Item = V>) -> &mut Self {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.push(" AND ").push(column).push(" IN ").push_list(values);
        }
        self
    }

    /// `(…)`; a list that may not be empty.
    pub(super) fn push_list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (n, value) in values.into_iter().enumerate() {
            self.push(if n == 0 { "(" } else { ", " }).push_bind(value);
        }
        self.push(")")
    }

    /// `VALUES (…), (…)`.
    pub(super) fn push_rows(&mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> &mut Self {
        self.push(" VALUES ");
        for (n, row) in rows.into_iter().enumerate() {
            self.push(if n == 0 { "" } else { ", " }).push_list(row);
        }
        self
    }
}

/// A result row, read by column name.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(super) fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        match self {
            Self::Sqlite(row) => Ok(row.try_get(column)?),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.optional_text(column)?.ok_or(StoreError::Unreadable { column })
    }

    /// A key column, in which absent is ''.
    pub(super) fn text_or_none(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(Some(self.text(column)?).filter(|text| !text.is_empty()))
    }

    pub(super) fn optional_integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Sqlite(row) => Ok(row.try_get(column)?),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(super) fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.optional_integer(column)?.ok_or(StoreError::Unreadable { column })
    }

    pub(super) fn unsigned(&self, column: &'static str) -> Result<u64, StoreError> {
        self.integer(column)?.try_into().map_err(|_| StoreError::Unreadable { column })
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.integer(column)?).map_err(|_| StoreError::Unreadable { column })
    }

    /// A value that `parse` reads from text.
    pub(super) fn parsed<T>(&self, column: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(&self.text(column)?).ok_or(StoreError::Unreadable { column })
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        self.parsed(column, |text| serde_json::from_str(text).ok())
    }
}

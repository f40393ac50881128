//! One unit of work on a connection of its own. Nothing waits for a server for ever, and nothing that failed is committed.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Error, Postgres};

use super::run;
use crate::store::StoreError;

/// Begins a writer: alone from here on, over all processes. The level is said, whatever the database's default.
pub const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(1229214210)";
/// Begins a reader of one commit point.
pub const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How long the end of an abandoned unit of work is waited for, before its connection is closed.
const ROLLBACK: Duration = Duration::from_secs(5);

/// A transaction. Dropped, it is rolled back in the background.
pub struct PostgresUnit {
    /// `None`: it has ended.
    connection: Option<PoolConnection<Postgres>>,
    /// A statement failed or was not waited for. PostgreSQL would answer a COMMIT then as if it were one.
    broken: bool,
    answer: Duration,
}

type Statement = Query<'static, Postgres, PgArguments>;

impl PostgresUnit {
    /// `begin`: [`WRITE`] or [`READ`]; `answer`: how long any answer is waited for.
    pub async fn begin(connection: PoolConnection<Postgres>, begin: &'static str, answer: Duration) -> Result<Self, StoreError> {
        let mut unit = Self { connection: Some(connection), broken: false, answer };
        unit.say(begin).await?;
        Ok(unit)
    }

    pub async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        let (connection, answer) = self.open()?;
        let done = tokio::time::timeout(answer, statement.execute(&mut **connection)).await;
        self.ended(done).map(|done| done.rows_affected())
    }

    pub async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>, StoreError> {
        let (connection, answer) = self.open()?;
        let rows = tokio::time::timeout(answer, statement.fetch_all(&mut **connection)).await;
        self.ended(rows)
    }

    pub async fn row(&mut self, statement: Statement) -> Result<Option<PgRow>, StoreError> {
        let (connection, answer) = self.open()?;
        let row = tokio::time::timeout(answer, statement.fetch_optional(&mut **connection)).await;
        self.ended(row)
    }

    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.say("COMMIT").await?;
        self.connection = None;
        Ok(())
    }

    pub async fn rollback(mut self) -> Result<(), StoreError> {
        if !self.broken {
            self.say("ROLLBACK").await?;
            self.connection = None;
        }
        Ok(())
    }

    async fn say(&mut self, text: &'static str) -> Result<(), StoreError> {
        let (connection, answer) = self.open()?;
        let said = tokio::time::timeout(answer, run(connection, text)).await;
        self.ended(said)
    }

    /// The connection, for one statement. Until [`ended`](Self::ended) says otherwise it counts as failed: the caller may go away.
    fn open(&mut self) -> Result<(&mut PoolConnection<Postgres>, Duration), StoreError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(StoreError::Broken);
        }
        Ok((self.connection.as_mut().ok_or(StoreError::Broken)?, self.answer))
    }

    fn ended<T>(&mut self, ended: Result<Result<T, Error>, tokio::time::error::Elapsed>) -> Result<T, StoreError> {
        match ended {
            Ok(Ok(done)) => {
                self.broken = false;
                Ok(done)
            }
            Ok(Err(error @ Error::Database(_))) => Err(error.into()),
            Ok(Err(error)) => {
                self.close();
                Err(error.into())
            }
            Err(_) => {
                self.close();
                Err(StoreError::Away(Error::Io(std::io::ErrorKind::TimedOut.into())))
            }
        }
    }

    /// Nobody uses the connection again.
    fn close(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}

impl Drop for PostgresUnit {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // The process ends: the server rolls back what a closed connection leaves.
            drop(connection.leak());
            return;
        };
        runtime.spawn(async move {
            let rolled_back = tokio::time::timeout(ROLLBACK, run(&mut connection, "ROLLBACK")).await;
            if !matches!(rolled_back, Ok(Ok(()))) {
                connection.close_on_drop();
            }
        });
    }
}

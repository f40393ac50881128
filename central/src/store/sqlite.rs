//! SQLite: one writing connection, several readers, write-ahead log, every commit synced.

use super::sql::Connection;
use super::{CentralStore, StoreError, Tx};
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// How a database file is used.
#[derive(Debug, Clone, Copy)]
pub struct SqliteOptions {
    /// Connections that read side by side, 1–64.
    pub readers: u32,
    /// How long a writer waits for another one (08 §6 `lock.wait`: 10 s), and a reader for a connection.
    pub lock_wait: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 8, lock_wait: Duration::from_secs(10) }
    }
}

/// The default store.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens or makes the database file (mode 0600) and brings its schema up to date. One process at a time.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        made.map_err(|error| StoreError::Open(error.into()))?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(options.lock_wait);
        let writer = pool(1, options.lock_wait).connect_with(connect.clone()).await.map_err(|error| StoreError::Open(error.into()))?;
        migrate(&writer).await?;
        // SQLite syncs the folder for its journals; the database file itself was made here.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| StoreError::Open(error.into()))?;
        }
        let read_only = connect.read_only(true);
        let readers = pool(options.readers.clamp(1, 64), options.lock_wait).connect_with(read_only).await;
        Ok(Self { writer, readers: readers.map_err(|error| StoreError::Open(error.into()))? })
    }

    /// A database in memory, for unit tests: one connection, so a reader waits for a writer and one task must not hold
    /// two units of work.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub async fn memory() -> Result<Self, StoreError> {
        let connect = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
        let writer = pool(1, Duration::from_secs(10)).connect_with(connect).await.map_err(|error| StoreError::Open(error.into()))?;
        migrate(&writer).await?;
        Ok(Self { readers: writer.clone(), writer })
    }
}

fn pool(connections: u32, wait: Duration) -> SqlitePoolOptions {
    // A connection lives as long as the store: nothing is gained by closing one, and a memory database would be lost.
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .acquire_timeout(wait)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    super::MIGRATIONS.run(pool).await.map_err(|error| StoreError::Open(error.into()))
}

#[async_trait]
impl CentralStore for SqliteStore {
    async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx::new(Connection::Sqlite(self.writer.begin_with("BEGIN IMMEDIATE").await?)))
    }

    async fn read(&self) -> Result<Tx, StoreError> {
        Ok(Tx::new(Connection::Sqlite(self.readers.begin().await?)))
    }

    /// The write-ahead log is taken into the database file.
    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn migrations_are_numbered_from_one_without_gap_or_repetition() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
        let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut numbers: Vec<usize> = names.map(|name| name.split('_').next().unwrap().parse().expect("NNNN_name.sql")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "two migrations of one number, or one is missing");
    }
}

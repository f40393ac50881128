//! The centre's one transactional store: registry, instance index, identity, declarations, idempotency, used
//! assertions, receipts.
//!
//! [`CentralStore`] is the seam, [`SqliteStore`] the default and, in memory, the one of unit tests; [`PostgresStore`] is the other,
//! with the same schema, the same statements and the same contract tests. Everything is done on
//! a [`Tx`]: what one `Tx` does appears whole or not at all, because profile 08 §6.3, 06 §7 and 05 §2 each need several of
//! these tables in one commit. The operations stand by subject: [`instances`], [`registry`], [`versions`], [`removal`], [`query`], [`graph`], [`search`] (instances, gathered),
//! [`patients`], [`declarations`], [`feed`] (what patient administration tells), [`merges`], [`links`], [`messages`], [`receipts`], [`enrolment`];
//! [`committer`] gathers instances into common commits; [`transfer`] moves everything to the other database. The schema, with its comments, is `migrations/`.
//!
//! What belongs to a patient is given as [`Candidate`]: it can be read only after the
//! access decision.
//!
//! # Failure
//! A `Tx` that is dropped, or whose process dies, leaves nothing. `commit` returns after the commit is on stable storage; when it
//! fails, nothing was kept or, if the database went away meanwhile, nobody knows: success is told of neither.
//! [`StoreError::Busy`] and [`StoreError::Away`] are the errors that trying again may cure.
//!
//! # Bounds
//! Lists of ids are cut into statements of at most 500 values; result sizes are the caller's `limit`.
//!
//! # Isolation
//! Writers run one after the other altogether, for one patient and for all (08 §6.4): SQLite knows no other way, and on PostgreSQL
//! every writer takes one lock (`docs/decisions/0004-postgresql.md`). A reader sees one commit point.

pub mod commitments;
pub mod committer;
pub mod declarations;
pub mod enrolment;
pub mod feed;
pub mod graph;
pub mod instances;
pub mod links;
pub mod merges;
pub mod messages;
pub mod overview;
pub mod patients;
mod postgres;
pub mod query;
pub mod receipts;
pub mod registry;
pub mod removal;
pub mod search;
mod sql;
mod sqlite;
pub mod transfer;
mod units;
pub mod versions;

#[cfg(test)]
mod contract;

pub use postgres::{Durability, PostgresOptions, PostgresStore, Tls};
pub use sqlite::{SqliteOptions, SqliteStore};

use async_trait::async_trait;
use idr_profile::access::{AccessUnit, Candidate};
use sql::{Connection, Row, Statement};

/// Opens units of work.
#[async_trait]
pub trait CentralStore: Send + Sync {
    /// A unit of work that may write. Waits for other writers, at most the configured `lock.wait`.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Database`].
    async fn begin(&self) -> Result<Tx, StoreError>;

    /// A unit of work that only reads, and sees the state of one commit point.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    async fn read(&self) -> Result<Tx, StoreError>;

    /// Why no unit of work can begin now, if it is known.
    fn refusing(&self) -> Option<&'static str> {
        None
    }

    /// Ends all connections.
    async fn close(&self);
}

/// One unit of work. Dropped without [`commit`](Self::commit) it leaves nothing.
pub struct Tx {
    connection: Connection,
    /// Statements after which every one fails.
    #[cfg(test)]
    left: Option<usize>,
    /// What was asked, if a test wants to know.
    #[cfg(test)]
    asked: Option<Vec<Statement>>,
}

impl Tx {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            #[cfg(test)]
            left: None,
            #[cfg(test)]
            asked: None,
        }
    }

    /// From the n-th statement on nothing works, as when the database ends there.
    #[cfg(test)]
    pub fn fail_after(&mut self, statements: usize) {
        self.left = Some(statements);
    }

    #[cfg(test)]
    fn step(&mut self, statement: &Statement) -> Result<(), StoreError> {
        if let Some(asked) = &mut self.asked {
            asked.push(statement.clone());
        }
        match &mut self.left {
            Some(0) => Err(StoreError::Full),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns after everything done here is on stable storage.
    ///
    /// # Errors
    /// [`StoreError`]: nothing was kept; [`StoreError::Away`], [`StoreError::Database`]: or it is not known.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.connection.commit().await
    }

    /// Forgets everything done here. Dropping does the same, a little later.
    ///
    /// # Errors
    /// [`StoreError::Database`]: nothing was kept either.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.connection.rollback().await
    }

    async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        #[cfg(test)]
        self.step(&statement)?;
        self.connection.execute(statement).await
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        #[cfg(test)]
        self.step(&statement)?;
        self.connection.rows(statement).await
    }

    async fn row(&mut self, statement: Statement) -> Result<Option<Row>, StoreError> {
        #[cfg(test)]
        self.step(&statement)?;
        self.connection.row(statement).await
    }
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another writer holds what is needed: try again later (IDR-B-01).
    #[error("the store is busy with other writers")]
    Busy,
    /// A look-up found more than the caller takes.
    #[error("more than {limit} objects match")]
    TooMany {
        /// What the caller takes.
        limit: usize,
    },
    /// The lease of a message was lost to another node; whatever it did must not be committed (08 §4.4).
    #[error("the lease of the message was taken over by another worker")]
    LeaseLost,
    /// The replay store holds as many keys as it may: the request is refused (IDR-X-32).
    #[error("the replay store is full with {capacity} keys")]
    ReplayStoreFull {
        /// Keys allowed.
        capacity: u64,
    },
    /// The database cannot be reached, or does not answer: try again later (IDR-B-01). Connections are made again by themselves.
    #[error("the database cannot be reached")]
    Away(#[source] sqlx::Error),
    /// A statement of this unit of work failed before; nothing of it is kept.
    #[error("an earlier statement of the unit of work failed")]
    Broken,
    /// No space is left where the database is: nothing is stored until there is (IDR-B-03).
    #[error("the database has no space left")]
    Full,
    /// A row does not hold what was written: the database was changed by something else.
    #[error("a stored row has an unreadable {column}; restore the database from a backup")]
    Unreadable {
        /// Column, without its value.
        column: &'static str,
    },
    /// An id is already used by an object that the caller's rules did not count, because it is not visible to the sender
    /// (08 §9 *Visibility*).
    #[error("{what} is already used by another object")]
    Taken {
        /// Which id, without its value.
        what: &'static str,
    },
    /// An argument contradicts the submission it belongs to: a mistake of the caller.
    #[error("registration: {what}")]
    Contradiction {
        /// What does not fit.
        what: &'static str,
    },
    /// The committer has ended: the program is stopping.
    #[error("the store is closing")]
    Ended,
    /// The database could not be opened, or its schema could not be brought up to date.
    #[error("cannot open the database")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        // SQLite: the low byte of the extended code is SQLITE_BUSY 5, SQLITE_LOCKED 6, SQLITE_FULL 13.
        let primary = code.parse::<u16>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff);
        match primary {
            Some(5 | 6) => return Self::Busy,
            Some(13) => return Self::Full,
            _ => {}
        }
        // PostgreSQL has codes of five characters (its documentation, Appendix A).
        match code.as_str() {
            // serialization failure, deadlock, lock not available, statement timeout
            "40001" | "40P01" | "55P03" | "57014" => Self::Busy,
            // disk full
            "53100" => Self::Full,
            // too many connections, shut down, crashed, starting up; the session ended while the unit of work stood still
            "53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Self::Away(error),
            // connection exceptions
            code if code.starts_with("08") => Self::Away(error),
            _ if matches!(error, sqlx::Error::PoolTimedOut) => Self::Busy,
            _ if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed) => Self::Away(error),
            _ => Self::Database(error),
        }
    }
}

/// What a look-up found, before it is handed out as candidates. Stays inside the store.
type Found<T> = Vec<(AccessUnit, T)>;

fn candidates<T>(found: Found<T>) -> Vec<Candidate<T>> {
    found.into_iter().map(|(unit, payload)| Candidate::new(unit, payload)).collect()
}

/// The schema, the same for both databases: each file is applied once, in order, and its text may not change afterwards.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("src/store/migrations");

/// Values in one statement's list.
const CHUNK: usize = 500;

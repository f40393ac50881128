//! PostgreSQL: the same schema and statements as SQLite, on a server that is asked whether it keeps what it has committed.
//!
//! # Isolation
//! Every writer takes one advisory lock of the database for as long as its unit of work lasts, so that writers run one after the
//! other over all processes, as they do on SQLite; every rule that is judged inside a unit of work holds until its commit. It reads
//! at READ COMMITTED, after the lock: what it sees is what the writer before it has left. A reader is REPEATABLE READ, READ ONLY:
//! one commit point. Why not SERIALIZABLE: `docs/decisions/0004-postgresql.md`.
//!
//! # Durability
//! Each connection is refused whose server runs with `fsync` or `full_page_writes` off, or that would answer a commit before it is
//! flushed (`synchronous_commit`): [`session`].
//!
//! # One process
//! The bytes of objects are in the state folder of one process, so that a second one on the same database would register what the
//! first cannot find, and forget its messages. Each connection marks its process by a shared advisory lock, and is refused while
//! another process has one: also after the database was away.
//!
//! # Failure
//! A server that is away, restarts or does not answer makes every unit of work fail within the bounds of [`PostgresOptions`]; no
//! commit is reported that was not confirmed. Connections are made again with the next unit of work.

mod session;
mod unit;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{Connection as _, Executor as _};

use super::sql::Connection;
use super::{CentralStore, MIGRATIONS, StoreError, Tx};
pub(super) use unit::PostgresUnit;

/// Where the database is and how it is used. Not `Debug`: it holds a password.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Name or address, or the folder of the server's Unix socket (absolute path).
    pub host: String,
    /// TCP port; of a Unix socket the number in its name.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Its password; `None`: the server knows the peer by its operating system user or certificate.
    pub password: Option<String>,
    /// Protection of the connection.
    pub tls: Tls,
    /// Connections that read side by side.
    pub readers: u32,
    /// Connections of writers: one works, the others wait for it.
    pub writers: u32,
    /// How long a writer waits for another one (08 §6 `lock.wait`: 10 s), and anybody for a connection.
    pub lock_wait: Duration,
    /// Longest single statement, at the server; here it is given 5 s more.
    pub statement: Duration,
    /// Longest pause between two statements of one unit of work, after which the server ends it and frees its lock.
    pub idle: Duration,
    /// What is asked of the server.
    pub durability: Durability,
    /// Whether other processes are kept off; `false` for commands that only read beside a running centre.
    pub alone: bool,
}

/// Protection of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// None: a Unix socket, or loopback.
    Off,
    /// TLS; the certificate of the server leads to one of these authorities (PEM) and has the name of the host.
    Verified {
        /// Certificates of authorities.
        authorities: PathBuf,
        /// Own certificate and key (PEM), if the server asks for them.
        identity: Option<(PathBuf, PathBuf)>,
    },
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What is committed outlives a power cut; else the connection is refused.
    Required,
    /// Nothing: a database of tests, thrown away afterwards. Warned about.
    NotAsked,
}

/// Beyond the server's own limit of a statement: after it the connection counts as dead and is closed.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// How long the start waits for another process to end: of one that was killed, the server keeps the session for a while.
const OTHERS_WAIT: Duration = Duration::from_secs(30);
/// Between two looks for a server that is away.
const LOOK: Duration = Duration::from_secs(1);
const OTHERS_PAUSE: Duration = Duration::from_millis(250);

/// The store on a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    writers: PgPool,
    readers: PgPool,
    answer: Duration,
    /// No connection was to be had; somebody looks for one.
    away: Arc<AtomicBool>,
}

impl PostgresStore {
    /// Connects, checks the server, and brings the schema up to date. One process at a time, if so asked.
    ///
    /// # Errors
    /// [`StoreError::Open`]: the server cannot be reached, does not keep what it commits, is a standby, has another encoding or
    /// collation, or is used by another process.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let process = session::Process::new(options.alone);
        let connect = connect_options(&options);
        // Alone, so that the reason of a refusal is told: a pool tells only that none was to be had.
        let first = first(&connect, options.durability, process, options.lock_wait).await?;
        let pool = |connections: u32| {
            let durability = options.durability;
            // A connection lives as long as the server lets it: with the last one the mark of this process would go.
            PgPoolOptions::new()
                .min_connections(1)
                .max_connections(connections.max(1))
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(options.lock_wait)
                .after_connect(move |connection, _| Box::pin(async move { session::check(connection, durability, process).await }))
        };
        let writers = pool(options.writers).connect_with(connect.clone()).await.map_err(|error| StoreError::Open(error.into()))?;
        if options.alone {
            // An index over a large table takes its time.
            let unhurried = pool(1).connect_with(connect.clone().options([("statement_timeout", "0")])).await;
            let unhurried = unhurried.map_err(|error| StoreError::Open(error.into()))?;
            MIGRATIONS.run(&unhurried).await.map_err(|error| StoreError::Open(error.into()))?;
            unhurried.close().await;
        }
        let readers = pool(options.readers).connect_with(connect).await.map_err(|error| StoreError::Open(error.into()))?;
        // Only now: the mark of this process never goes away in between.
        let _ = first.close().await;
        Ok(Self { writers, readers, answer: options.statement + ANSWER_MARGIN, away: Arc::default() })
    }

    async fn unit(&self, pool: &PgPool, begin: &'static str) -> Result<Tx, StoreError> {
        // Somebody looks for the server already: the others are answered at once, and do not wait with all their places.
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Away(sqlx::Error::PoolTimedOut));
        }
        let begun = match pool.acquire().await {
            Ok(connection) => PostgresUnit::begin(connection, begin, self.answer).await,
            // With readers it is the server; with writers it may be that they wait for each other.
            Err(sqlx::Error::PoolTimedOut) if begin == unit::WRITE && self.writers.size() > 0 => Err(StoreError::Busy),
            Err(error) => Err(StoreError::Away(error)),
        };
        if let Err(StoreError::Away(cause)) = &begun {
            self.look_for_it(cause);
        }
        Ok(Tx::new(Connection::Postgres(begun?)))
    }

    /// Says that the server is away, until it is not.
    fn look_for_it(&self, cause: &sqlx::Error) {
        if self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(%cause, "the database cannot be reached; nothing is stored or shown until it can");
        let (readers, away) = (self.readers.clone(), self.away.clone());
        tokio::spawn(async move {
            while !readers.is_closed() && readers.acquire().await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
            away.store(false, Ordering::Relaxed);
            tracing::info!("the database is there again");
        });
    }
}

/// A first connection, checked; waits for what a killed process has left at the server.
async fn first(
    connect: &PgConnectOptions,
    durability: Durability,
    process: session::Process,
    wait: Duration,
) -> Result<PgConnection, StoreError> {
    let give_up = tokio::time::Instant::now() + OTHERS_WAIT;
    loop {
        let connected = tokio::time::timeout(wait, async {
            let mut connection = PgConnection::connect_with(connect).await?;
            session::check(&mut connection, durability, process).await?;
            Ok(connection)
        });
        match connected.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if session::is_others(&error) && tokio::time::Instant::now() < give_up => {
                tokio::time::sleep(OTHERS_PAUSE).await;
            }
            Ok(Err(error)) => return Err(StoreError::Open(error.into())),
            Err(_) => return Err(StoreError::Open("the database server does not answer".into())),
        }
    }
}

fn connect_options(options: &PostgresOptions) -> PgConnectOptions {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let connect = PgConnectOptions::new_without_pgpass()
        .host(&options.host)
        .port(options.port)
        .database(&options.database)
        .username(&options.user)
        .application_name("idr-central")
        // The server's own bounds hold also when this process cannot be heard any more.
        .options([
            ("lock_timeout", milliseconds(options.lock_wait)),
            ("statement_timeout", milliseconds(options.statement)),
            ("idle_in_transaction_session_timeout", milliseconds(options.idle)),
            ("client_connection_check_interval", "1000".to_owned()),
            ("tcp_keepalives_idle", "15".to_owned()),
            ("tcp_keepalives_interval", "5".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("search_path", "public".to_owned()),
        ]);
    let connect = match &options.password {
        Some(password) => connect.password(password),
        None => connect,
    };
    match &options.tls {
        Tls::Off => connect.ssl_mode(PgSslMode::Disable),
        Tls::Verified { authorities, identity } => {
            let connect = connect.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(authorities);
            match identity {
                Some((certificate, key)) => connect.ssl_client_cert(certificate).ssl_client_key(key),
                None => connect,
            }
        }
    }
}

#[async_trait]
impl CentralStore for PostgresStore {
    async fn begin(&self) -> Result<Tx, StoreError> {
        self.unit(&self.writers, unit::WRITE).await
    }

    async fn read(&self) -> Result<Tx, StoreError> {
        self.unit(&self.readers, unit::READ).await
    }

    fn refusing(&self) -> Option<&'static str> {
        self.away.load(Ordering::Relaxed).then_some("the database cannot be reached")
    }

    async fn close(&self) {
        tokio::join!(self.readers.close(), self.writers.close());
    }
}

/// Runs a text of this module's on a connection.
async fn run(connection: &mut PgConnection, text: &'static str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(text)).await.map(|_| ())
}

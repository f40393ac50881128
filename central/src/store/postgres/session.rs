//! What is asked of a server, on each new connection: it may be another server than before, or have other settings.

use std::fmt;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row as _};

use super::Durability;

/// Advisory locks have a class and a number of ours; they are those of one database.
const PROCESSES: i32 = 0x4944_5201;

/// This process among those that use a database.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    number: i32,
    alone: bool,
}

impl Process {
    /// A number that no other process has.
    pub fn new(alone: bool) -> Self {
        Self { number: rand::random_range(1..i32::MAX), alone }
    }
}

/// Why a server, or a connection, is not used.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Another process uses the database.
#[derive(Debug)]
struct Others;

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another process uses the database (another centre, or a command that works on its state); stop it first")
    }
}

impl std::error::Error for Others {}

/// Whether a connection was refused because of another process.
pub fn is_others(error: &Error) -> bool {
    matches!(error, Error::Configuration(cause) if cause.is::<Others>())
}

fn refused(text: impl Into<String>) -> Error {
    Error::Configuration(Box::new(Refused(text.into())))
}

/// Settings that decide whether a commit is kept, with what each must not be.
const DURABLE: [(&str, &str); 3] = [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")];
/// PostgreSQL 14 has every setting that is used; 15 is tested.
const OLDEST: i64 = 140_000;

const ABOUT: &str = "SELECT current_setting('server_version_num')::bigint AS version, current_setting('fsync') AS fsync, \
    current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit, \
    pg_encoding_to_char(encoding)::text AS encoding, datcollate::text AS collation, datctype::text AS ctype, \
    COALESCE(to_jsonb(pg_database) ->> 'datlocprovider', 'c') AS provider, pg_is_in_recovery() AS standby FROM pg_database WHERE datname = current_database()";

/// Refuses a server that does not keep what it commits or would order or compare text otherwise than SQLite does, and a database
/// that another process uses; marks the connection as one of this process.
///
/// # Errors
/// [`Error::Configuration`] says what is wrong; whatever the statements give.
pub async fn check(connection: &mut PgConnection, durability: Durability, process: Process) -> Result<(), Error> {
    let about = sqlx::query(ABOUT).fetch_one(&mut *connection).await?;
    let text = |column: &str| about.try_get::<String, _>(column);
    if about.try_get::<i64, _>("version")? < OLDEST {
        return Err(refused("the server is older than PostgreSQL 14"));
    }
    if about.try_get::<bool, _>("standby")? {
        return Err(refused("the server is a standby; the centre writes, so give it the primary"));
    }
    if text("encoding")? != "UTF8" {
        return Err(refused(format!("the database has the encoding {}; make it with ENCODING 'UTF8'", text("encoding")?)));
    }
    for column in ["collation", "ctype"] {
        let found = text(column)?;
        if !matches!(found.as_str(), "C" | "POSIX") {
            return Err(refused(format!("the database has the locale {found}; make it with LOCALE 'C' TEMPLATE template0")));
        }
    }
    // ICU would order by the rules of a language.
    if text("provider")? == "i" {
        return Err(refused("the database has an ICU locale; make it with LOCALE_PROVIDER 'libc' LOCALE 'C' TEMPLATE template0"));
    }
    for (setting, off) in DURABLE {
        if text(setting)? != off {
            continue;
        }
        match durability {
            Durability::Required => {
                return Err(refused(format!(
                    "the server has {setting} = {off}: what the centre has acknowledged would not outlive a power cut; turn it on"
                )));
            }
            Durability::NotAsked => tracing::warn!(setting, "the database keeps nothing through a power cut: for tests only"),
        }
    }
    match process.alone {
        true => mark(connection, process.number).await,
        false => Ok(()),
    }
}

/// Marks first and looks then: of two processes that come at once, at least one sees the other.
async fn mark(connection: &mut PgConnection, number: i32) -> Result<(), Error> {
    let flag = |row: &PgRow| row.try_get::<bool, _>(0);
    let marked = sqlx::query("SELECT pg_try_advisory_lock_shared($1, $2)").bind(PROCESSES).bind(number).fetch_one(&mut *connection).await?;
    let others = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 \
                  AND objid::bigint <> $2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let others = sqlx::query(others).bind(i64::from(PROCESSES)).bind(i64::from(number)).fetch_one(&mut *connection).await?;
    if !flag(&marked)? || flag(&others)? {
        return Err(Error::Configuration(Box::new(Others)));
    }
    Ok(())
}

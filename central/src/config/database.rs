//! `[database]`: which database holds registry, index, identity and receipts.

use std::path::PathBuf;
use std::time::Duration;

use idr_host::config::Fault;
use idr_profile::identifier::Environment;
use serde::Deserialize;

use crate::store::{Durability, PostgresOptions, Tls};

/// The database and, for PostgreSQL, how it is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Which.
    pub engine: Engine,
    /// Name or address of the server, or the folder of its Unix socket.
    pub host: String,
    /// TCP port; of a Unix socket the number in its name.
    pub port: u16,
    /// Database.
    pub name: String,
    /// Role.
    pub user: String,
    /// File with the role's password, mode 0600 or 0400; absent: none is sent.
    pub password_file: Option<PathBuf>,
    /// TLS to the server; `false` for a Unix socket or a loopback address only.
    pub tls: bool,
    /// Certificates of the authorities of the server's certificate, PEM.
    pub tls_authorities: PathBuf,
    /// Own certificate, PEM, if the server asks for one.
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM, mode 0600 or 0400.
    pub tls_key: Option<PathBuf>,
    /// Connections that read side by side.
    pub readers_max: u32,
    /// Connections of writers.
    pub writers_max: u32,
    /// How long a writer waits for another one, and anybody for a connection, seconds (08 §6 `lock.wait`).
    pub lock_wait_seconds: u64,
    /// Longest single statement, seconds.
    pub statement_seconds: u64,
    /// Longest pause between two statements of one unit of work, seconds.
    pub idle_seconds: u64,
    /// In `environment = "test"` only: take a server that loses commits in a power cut.
    pub without_durability: bool,
}

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `central.db` in the state folder.
    Sqlite,
    /// A server.
    Postgresql,
}

impl Engine {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgresql => "postgresql",
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            engine: Engine::Sqlite,
            host: "/var/run/postgresql".to_owned(),
            port: 5432,
            name: "idr_central".to_owned(),
            user: "idr-central".to_owned(),
            password_file: None,
            tls: true,
            tls_authorities: PathBuf::from("tls/database-ca.pem"),
            tls_certificate: None,
            tls_key: None,
            readers_max: 12,
            writers_max: 4,
            lock_wait_seconds: 10,
            statement_seconds: 60,
            idle_seconds: 60,
            without_durability: false,
        }
    }
}

const PLAIN: &str = "patients' data may not cross a network in plain: only to a loopback address";

impl Database {
    pub(super) fn check(&self, environment: Environment) -> Result<(), Fault> {
        let fault = |key: &str, problem: &str| Err((format!("database.{key}"), problem.to_owned()));
        for (key, value) in [("host", &self.host), ("name", &self.name), ("user", &self.user)] {
            if value.is_empty() || value.contains('\0') {
                return fault(key, "is empty or has a NUL");
            }
        }
        for (key, value) in [("readers_max", self.readers_max), ("writers_max", self.writers_max)] {
            if !(1..=256).contains(&value) {
                return fault(key, "is outside 1–256");
            }
        }
        for (key, value) in [
            ("lock_wait_seconds", self.lock_wait_seconds),
            ("statement_seconds", self.statement_seconds),
            ("idle_seconds", self.idle_seconds),
        ] {
            if !(1..=3600).contains(&value) {
                return fault(key, "is outside 1–3600");
            }
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return fault("tls_key", "a certificate needs its key, and a key its certificate");
        }
        if !self.tls && !self.is_on_this_host() && self.engine == Engine::Postgresql {
            return fault("tls", PLAIN);
        }
        if self.without_durability && environment == Environment::Production {
            return fault("without_durability", "is for environment = \"test\" only: what is acknowledged must outlive a power cut");
        }
        Ok(())
    }

    /// A Unix socket, or an address that does not leave the host. A name could.
    fn is_on_this_host(&self) -> bool {
        self.is_socket() || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let optional = [&mut self.password_file, &mut self.tls_certificate, &mut self.tls_key];
        optional.into_iter().flatten().chain([&mut self.tls_authorities])
    }

    /// How the server is used; `alone`: other processes are kept off.
    ///
    /// # Errors
    /// The password or key cannot be read, or others may read it too.
    pub fn postgres(&self, alone: bool) -> anyhow::Result<PostgresOptions> {
        // Also of a server that is not in use yet.
        anyhow::ensure!(self.tls || self.is_on_this_host(), "database.tls: {PLAIN}");
        let password = match &self.password_file {
            None => None,
            Some(path) => Some(String::from_utf8(idr_host::files::read_private(path)?)?.trim_end_matches(['\r', '\n']).to_owned()),
        };
        let identity = self.tls_certificate.clone().zip(self.tls_key.clone());
        if let Some((_, key)) = &identity {
            idr_host::files::read_private(key)?;
        }
        // A Unix socket has no TLS: it does not leave the host, and its folder says who may use it.
        let tls = match self.tls && !self.is_socket() {
            true => Tls::Verified { authorities: self.tls_authorities.clone(), identity },
            false => Tls::Off,
        };
        Ok(PostgresOptions {
            host: self.host.clone(),
            port: self.port,
            database: self.name.clone(),
            user: self.user.clone(),
            password,
            tls,
            readers: self.readers_max,
            writers: self.writers_max,
            lock_wait: Duration::from_secs(self.lock_wait_seconds),
            statement: Duration::from_secs(self.statement_seconds),
            idle: Duration::from_secs(self.idle_seconds),
            durability: if self.without_durability { Durability::NotAsked } else { Durability::Required },
            alone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Database {
        Database { engine: Engine::Postgresql, host: "database.idr.example".to_owned(), ..Database::default() }
    }

    #[test]
    fn a_database_elsewhere_is_reached_by_tls_alone() {
        assert!(remote().check(Environment::Production).is_ok());
        for host in ["database.idr.example", "10.1.2.3", "localhost"] {
            let plain = Database { tls: false, host: host.to_owned(), ..remote() };
            assert_eq!(plain.check(Environment::Test).expect_err("refused").0, "database.tls", "{host}");
        }
        for host in ["127.0.0.1", "::1", "/run/postgresql"] {
            assert!(Database { tls: false, host: host.to_owned(), ..remote() }.check(Environment::Production).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_server_that_loses_commits_is_for_tests() {
        let losing = Database { without_durability: true, ..remote() };
        assert!(losing.check(Environment::Test).is_ok());
        assert_eq!(losing.check(Environment::Production).expect_err("refused").0, "database.without_durability");
    }

    #[test]
    fn bounds_and_pairs_are_checked() {
        for (key, wrong) in [
            ("database.readers_max", Database { readers_max: 0, ..remote() }),
            ("database.writers_max", Database { writers_max: 257, ..remote() }),
            ("database.statement_seconds", Database { statement_seconds: 0, ..remote() }),
            ("database.name", Database { name: String::new(), ..remote() }),
            ("database.tls_key", Database { tls_certificate: Some("a.pem".into()), ..remote() }),
        ] {
            assert_eq!(wrong.check(Environment::Test).expect_err("refused").0, key);
        }
    }

    #[test]
    fn a_password_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "secret\n").expect("written");
        let with = Database { password_file: Some(path.clone()), ..remote() };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
        assert!(with.postgres(true).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        assert_eq!(with.postgres(true).expect("read").password.as_deref(), Some("secret"));
    }
}

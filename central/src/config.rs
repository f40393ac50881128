//! Main configuration of the centre: the file as written ([`ConfigFile`]) and, after all checks, as used ([`Config`]).
//!
//! Every key with its default stands in `configs/idr-central.toml`. Unknown keys are refused; the program ends with
//! exit status 78 and names file, key, value and what is allowed.
//!
//! # Standard
//! Profile 00 §2 (which file holds what), 10 §2 (no row, no traffic), 10 §11 (bounds), 08 §6 (limits).

mod database;
mod enrolment;
mod federation;
mod mllp;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use idr_host::config::{self, check_base_url, check_fingerprints, check_loopback, check_name};
use serde::Deserialize;

mod dimse;

pub use database::{Database, Engine};
pub use dimse::{Commitment, Dimse};
pub use enrolment::Enrolment;
pub use federation::{COMMUNITY_TRANSACTIONS, Community, Federation};
pub use idr_host::config::ConfigError;
pub use idr_profile::identifier::Environment;
pub use mllp::Mllp;

/// Identity of the centre.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Central {
    /// `^[a-z0-9][a-z0-9\-]{1,31}$`: node of logs and receipts.
    pub node: String,
    /// OID of the organisation that runs the centre; holder of R3 and R4.
    pub organisation: String,
    /// repositoryUniqueId of documents and imaging, OID.
    pub repository_unique_id: String,
    /// Own homeCommunityId, OID without `urn:oid:`.
    pub home_community: String,
    /// Zone of civil dates.
    #[serde(default = "default_timezone")]
    pub timezone: String,
    /// Rule sets in use; of those in force the first listed.
    pub rule_sets: Vec<String>,
}

fn default_timezone() -> String {
    "Europe/Helsinki".to_owned()
}

/// Where the other files are. Relative paths are taken from the folder of the main file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Folder with one folder per rule set.
    pub rules: PathBuf,
    /// `site-rules.toml` of the centre: levels and parameters.
    pub site_rules: PathBuf,
    /// `trust.toml`.
    pub trust: PathBuf,
    /// `affinity-domain.toml`: names of the national slots; absent: those of the profile.
    pub affinity_domain: PathBuf,
    /// Folder of revocation lists of signing certificates and TLS clients (`*.crl`, DER or PEM); absent: none.
    pub revocation_lists: PathBuf,
    /// `hl7-sources.toml`: who may send ADT messages; absent: nobody.
    pub hl7_sources: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            rules: "rules".into(),
            site_rules: "site-rules.toml".into(),
            trust: "trust.toml".into(),
            affinity_domain: "affinity-domain.toml".into(),
            revocation_lists: "crl".into(),
            hl7_sources: "hl7-sources.toml".into(),
        }
    }
}

/// Where data is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// State folder, on a local file system: database, objects, audit, keys.
    pub path: PathBuf,
    /// Bytes that stay free: below it stores are refused (IDR-B-03, 503).
    #[serde(default = "default_reserve_bytes")]
    pub reserve_bytes: u64,
}

fn default_reserve_bytes() -> u64 {
    10 << 30
}

/// HTTPS listener and bounds (profile 10 §11).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Https {
    /// Listeners; loopback until configured.
    #[serde(default = "default_https_listen")]
    pub listen: Vec<SocketAddr>,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, mode 0600 or 0400.
    pub key: PathBuf,
    /// Public base URL, also an audience of assertions: `https://central.idr.example`.
    pub public_url: String,
    /// TCP connections at once (BD-01).
    #[serde(default = "default_connections")]
    pub connections_max: usize,
    /// TCP connections at once of one address (BD-01).
    #[serde(default = "default_connections_per_address")]
    pub connections_per_address_max: usize,
    /// TLS handshakes in progress (BD-02).
    #[serde(default = "default_handshakes")]
    pub handshakes_max: usize,
    /// Longest TLS handshake, seconds (BD-02).
    #[serde(default = "default_handshake")]
    pub handshake_seconds: u64,
    /// Plain SOAP body, bytes (BD-13).
    #[serde(default = "default_soap_body")]
    pub soap_body_bytes_max: u64,
    /// MTOM message, bytes (BD-14).
    #[serde(default = "default_mtom")]
    pub mtom_bytes_max: u64,
    /// STOW-RS body, bytes (BD-17, 413).
    #[serde(default = "default_stow")]
    pub stow_body_bytes_max: u64,
    /// Parts of one STOW-RS body (BD-17).
    #[serde(default = "default_stow_parts")]
    pub stow_parts_max: usize,
    /// Receipts of a study in one answer, 100–1 000 (profile 11 §3): with an R4 of 6 KiB each at most 6 MiB.
    #[serde(default = "default_receipts_page")]
    pub receipts_page_max: usize,
}

fn default_https_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 8443))]
}
fn default_connections() -> usize {
    1024
}
fn default_connections_per_address() -> usize {
    64
}
fn default_handshakes() -> usize {
    256
}
fn default_handshake() -> u64 {
    10
}
fn default_soap_body() -> u64 {
    8 << 20
}
fn default_mtom() -> u64 {
    256 << 20
}
fn default_stow() -> u64 {
    64 << 30
}
fn default_stow_parts() -> usize {
    100_000
}
fn default_receipts_page() -> usize {
    1_000
}

/// What a peer row may list.
pub const TRANSACTIONS: [&str; 23] = [
    "ITI-18", "ITI-38", "ITI-39", "ITI-41", "ITI-42", "ITI-43", "ITI-51", "ITI-57", "ITI-61", "ITI-62", "ITI-86", "ITI-92", "RAD-68",
    "RAD-69", "RAD-75", "STOW-RS", "WADO-RS", "WADO-URI", "QIDO-RS", "CUSTODY", "C-STORE", "N-ACTION", "ADT",
];

/// How a peer is connected (profile 10 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Model {
    /// Own gateway.
    C1,
    /// Shared gateway.
    C2,
    /// Intermediary.
    C3,
    /// Direct PACS or consumer; needs `direct.enabled`.
    C4,
}

/// One peer row: no row, no traffic (profile 10 §2).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Name in journal and metrics.
    pub name: String,
    /// OID of the organisation of its TLS certificate.
    pub organisation: String,
    /// Connection model.
    pub model: Model,
    /// SHA-256 of its TLS certificates, 64 hex digits; empty: any certificate of `tls_anchors` of that organisation.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// AE titles that it calls with, over DIMSE (profile 10 §8).
    #[serde(default)]
    pub ae_titles: Vec<String>,
    /// Where it listens for storage commitment, DICOM over TLS (profile 10 F07); absent: it is told on its own association alone.
    pub commitment_address: Option<SocketAddr>,
    /// Its AE title there; absent: the one that asked.
    pub commitment_ae_title: Option<String>,
    /// Name in its certificate there; absent: its address.
    pub commitment_server_name: Option<String>,
    /// SHA-256 of its certificates there; empty: any of `tls_anchors`.
    #[serde(default)]
    pub commitment_certificates: Vec<String>,
    /// Transactions it may use, of [`TRANSACTIONS`]; empty: none.
    #[serde(default)]
    pub transactions: Vec<String>,
    /// Controller slot for a plain XDS-I.b source that sends none (profile 02 §4.7).
    pub controller: Option<String>,
    /// Register code for such a source.
    pub register: Option<String>,
    /// First day of the row, civil date.
    #[serde(default, deserialize_with = "date")]
    pub valid_from: Option<jiff::civil::Date>,
    /// Last day of the row.
    #[serde(default, deserialize_with = "date")]
    pub valid_to: Option<jiff::civil::Date>,
}

/// A TOML date, `2026-01-01`, or the same as text.
fn date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<jiff::civil::Date>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Date(toml::value::Datetime),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Date(date) => date.to_string(),
        Written::Text(text) => text,
    };
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("'{text}' is no date; write 2026-01-31")))
}

/// Another repository of the community, whose documents its organisation registers by ITI-42 (profile 08 H-13).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// repositoryUniqueId, OID.
    pub unique_id: String,
    /// OID of the organisation that may register for it.
    pub organisation: String,
    /// Where it answers ITI-43, `https://host[:port]/path`; absent: its documents are not given here.
    pub endpoint: Option<String>,
    /// `sha256/<base64 of the SHA-256 of the SPKI>` of its certificate or an authority above it; with an endpoint at least one.
    #[serde(default)]
    pub pins: Vec<String>,
    /// Its name in the AudienceRestriction of assertions; with an endpoint it is needed. It is asked for those alone whose assertion
    /// lists it.
    pub audience: Option<String>,
    /// Longest wait for the head of its answer, seconds.
    #[serde(default = "federation::default_timeout")]
    pub timeout_seconds: u64,
}

/// Model C4.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Direct {
    /// Whether PACS and consumers may connect themselves.
    pub enabled: bool,
}

/// Where the revocation status of certificates comes from (profile 10 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revocation {
    /// No usable status: refuse.
    Require,
    /// No status: accept and warn.
    Prefer,
    /// Only in `environment = "test"`.
    Off,
}

/// Audit store (profile 07 §6).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Encrypt record bodies with the key below `storage.path`/keys.
    pub encrypt: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { encrypt: true }
    }
}

/// Reading trust, revocation lists and certificates again (profile 10 §5.5).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Also by itself, when one of the files has changed.
    pub watch: bool,
    /// Seconds between two looks, 1–60.
    pub poll_seconds: u64,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true, poll_seconds: 10 }
    }
}

/// The file as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// `test` or `production`; required.
    pub environment: Environment,
    /// Identity of the centre.
    pub central: Central,
    /// Places of the other files.
    #[serde(default)]
    pub files: Files,
    /// Where data is kept.
    pub storage: Storage,
    /// Which database.
    #[serde(default)]
    pub database: Database,
    /// HTTPS listener.
    pub https: Https,
    /// DICOM over TLS.
    #[serde(default)]
    pub dimse: Dimse,
    /// Storage commitment.
    #[serde(default)]
    pub commitment: Commitment,
    /// Listeners of ADT messages.
    #[serde(default)]
    pub mllp: Mllp,
    /// How sites join.
    #[serde(default)]
    pub enrol: Enrolment,
    /// Model C4.
    #[serde(default)]
    pub direct: Direct,
    /// Who may connect.
    #[serde(default)]
    pub peer: Vec<Peer>,
    /// Repositories besides our own.
    #[serde(default)]
    pub repository: Vec<Repository>,
    /// Bounds of what others are asked.
    #[serde(default)]
    pub federation: Federation,
    /// Other communities.
    #[serde(default)]
    pub community: Vec<Community>,
    /// Revocation mode.
    #[serde(default = "default_revocation")]
    pub revocation: Revocation,
    /// Audit store.
    #[serde(default)]
    pub audit: Audit,
    /// Reading files again.
    #[serde(default)]
    pub reload: Reload,
    /// Health and metrics, loopback.
    #[serde(default = "default_health")]
    pub health_listen: Option<SocketAddr>,
    /// Unix socket of operators' commands, mode 0600. Default: `control.sock` in the state folder.
    #[serde(default)]
    pub control_socket: Option<PathBuf>,
}

fn default_revocation() -> Revocation {
    Revocation::Require
}
fn default_health() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 9465)))
}

impl ConfigFile {
    fn check(&self) -> Result<(), config::Fault> {
        let file = self;
        let fault = |key: &str, problem: String| Err((key.to_owned(), problem));
        check_name("central.node", &file.central.node)?;
        for (key, oid) in [
            ("central.organisation", &file.central.organisation),
            ("central.repository_unique_id", &file.central.repository_unique_id),
            ("central.home_community", &file.central.home_community),
        ] {
            if !idr_ihe::metadata::is_oid(oid) {
                return fault(key, format!("'{oid}' is no OID"));
            }
        }
        if file.central.rule_sets.is_empty() {
            return fault("central.rule_sets", "name at least one rule set, for example [\"fi-2.4.1\"]".to_owned());
        }
        if jiff::tz::TimeZone::get(&file.central.timezone).is_err() {
            return fault("central.timezone", format!("'{}' is not in the time zone database", file.central.timezone));
        }
        check_base_url("https.public_url", &file.https.public_url)?;
        for (key, value) in [
            ("https.connections_max", file.https.connections_max),
            ("https.connections_per_address_max", file.https.connections_per_address_max),
            ("https.handshakes_max", file.https.handshakes_max),
        ] {
            if !(1..=65_536).contains(&value) {
                return fault(key, format!("{value} is outside 1–65536"));
            }
        }
        if !(100..=1_000).contains(&file.https.receipts_page_max) {
            return fault("https.receipts_page_max", format!("{} is outside 100–1000", file.https.receipts_page_max));
        }
        if file.revocation == Revocation::Off && file.environment == Environment::Production {
            return fault("revocation", "\"off\" is for environment = \"test\" only".to_owned());
        }
        file.database.check(file.environment)?;
        file.dimse.check()?;
        file.commitment.check()?;
        file.enrol.check()?;
        check_loopback("health_listen", file.health_listen)?;
        for (at, row) in file.repository.iter().enumerate() {
            for (name, oid) in [("unique_id", &row.unique_id), ("organisation", &row.organisation)] {
                if !idr_ihe::metadata::is_oid(oid) {
                    return fault(&format!("repository[{at}].{name}"), format!("'{oid}' is no OID"));
                }
            }
            if let Some(endpoint) = &row.endpoint {
                let key = |name: &str| format!("repository[{at}].{name}");
                federation::check_endpoint(&key, endpoint, &row.pins, row.timeout_seconds)?;
                federation::check_audience(&key, row.audience.as_deref().unwrap_or_default())?;
            }
            // What is registered for our own was provided here, with its bytes.
            if row.unique_id == file.central.repository_unique_id
                || file.repository[..at].iter().any(|other| other.unique_id == row.unique_id)
            {
                return fault(&format!("repository[{at}].unique_id"), format!("'{}' is used already", row.unique_id));
            }
        }
        file.federation.check()?;
        for (at, row) in file.community.iter().enumerate() {
            row.check(at, &file.central.home_community, &file.community[..at])?;
        }
        file.mllp.check()?;
        if !(1..=60).contains(&file.reload.poll_seconds) {
            return fault("reload.poll_seconds", format!("{} is outside 1–60", file.reload.poll_seconds));
        }
        for (at, row) in file.peer.iter().enumerate() {
            let key = |name: &str| format!("peer[{at}].{name}");
            if !idr_ihe::metadata::is_oid(&row.organisation) {
                return fault(&key("organisation"), format!("'{}' is no OID", row.organisation));
            }
            if row.model == Model::C4 && !file.direct.enabled {
                return fault(&key("model"), "C4 needs direct.enabled = true".to_owned());
            }
            if matches!(row.model, Model::C2 | Model::C3) {
                return fault(&key("model"), "C2 and C3 are not supported yet; allowed: C1, C4".to_owned());
            }
            check_fingerprints(&key("certificates"), &row.certificates)?;
            if let Some(unknown) = row.transactions.iter().find(|t| !TRANSACTIONS.contains(&t.as_str())) {
                return fault(&key("transactions"), format!("'{unknown}' is unknown; allowed: {}", TRANSACTIONS.join(", ")));
            }
            dimse::check_peer(at, row)?;
            if file.peer[..at].iter().any(|other| other.name == row.name) {
                return fault(&key("name"), format!("'{}' is used twice", row.name));
            }
        }
        Ok(())
    }
}

/// A configuration that passed every check.
#[derive(Debug, Clone)]
pub struct Config {
    file: ConfigFile,
}

impl std::ops::Deref for Config {
    type Target = ConfigFile;
    fn deref(&self) -> &ConfigFile {
        &self.file
    }
}

impl Config {
    /// Reads and checks the main file.
    ///
    /// # Errors
    /// [`ConfigError`], the first problem found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&config::read(path)?, path)
    }

    /// Checks the text of a main file; `path` is used in messages and as the base of relative paths.
    ///
    /// # Errors
    /// [`ConfigError`], the first problem found.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config = Self { file: config::parse(text, path, ConfigFile::check)? };
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// Where operators' commands go.
    pub fn control_socket(&self) -> PathBuf {
        self.file.control_socket.clone().unwrap_or_else(|| self.file.storage.path.join("control.sock"))
    }

    fn resolve(&mut self, base: &Path) {
        let file = &mut self.file;
        for path in [
            &mut file.files.rules,
            &mut file.files.site_rules,
            &mut file.files.trust,
            &mut file.files.affinity_domain,
            &mut file.files.revocation_lists,
            &mut file.files.hl7_sources,
            &mut file.storage.path,
            &mut file.https.certificate,
            &mut file.https.key,
        ] {
            *path = base.join(&*path);
        }
        let federation = [&mut file.federation.certificate, &mut file.federation.key];
        for path in [&mut file.control_socket, &mut file.dimse.certificate, &mut file.dimse.key].into_iter().chain(federation).flatten() {
            *path = base.join(&*path);
        }
        for path in file.enrol.paths() {
            *path = base.join(&*path);
        }
        for path in file.database.paths() {
            *path = base.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../configs/idr-central.toml");

    fn with(head: &str, tail: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{head}\n{SHIPPED}\n{tail}"), Path::new("/etc/idr-central/idr-central.toml"))
    }

    #[test]
    fn the_shipped_file_lacks_only_the_environment() {
        let config = with("environment = \"test\"", "").expect("shipped file loads");
        assert!(config.peer.is_empty(), "nobody may connect by default");
        assert!(config.https.listen.iter().all(|a| a.ip().is_loopback()));
        assert!(!config.direct.enabled);
        assert!(config.dimse.listen.is_empty(), "no DICOM listener by default");
        assert_eq!(config.database.engine, Engine::Sqlite, "no server is needed by default");
        let default = Database { tls_authorities: "/etc/idr-central/tls/database-ca.pem".into(), ..Database::default() };
        assert_eq!(format!("{:?}", config.database), format!("{default:?}"), "the file says the defaults");
        assert_eq!(format!("{:?}", config.enrol), format!("{:?}", Enrolment::default()), "the file says the defaults");
        assert!(config.enrol.listen.is_empty() && config.enrol.two_person, "nobody can join by default");
        assert!(with("", "").expect_err("no default").to_string().contains("environment"));
    }

    #[test]
    fn a_direct_peer_needs_the_switch_and_known_transactions() {
        let row = "[[peer]]\nname = \"viewer\"\norganisation = \"1.2.246.10.90000011\"\nmodel = \"C4\"\n";
        assert!(with("environment = \"test\"", row).expect_err("off").to_string().contains("direct.enabled"));
        let row = row.replace("C4", "C1") + "transactions = [\"ITI-99\"]\n";
        assert!(with("environment = \"test\"", &row).expect_err("unknown").to_string().contains("ITI-99"));
    }

    #[test]
    fn a_dicom_listener_and_a_dicom_peer_need_ae_titles() {
        let listening = SHIPPED.replace("[dimse]\nlisten = []", "[dimse]\nlisten = [\"127.0.0.1:2762\"]");
        let load = |text: &str| Config::parse(&format!("environment = \"test\"\n{text}"), Path::new("c.toml"));
        assert!(load(&listening).expect_err("nobody to call").to_string().contains("dimse.local_ae_titles"));
        let titled = listening.replace("local_ae_titles = []", "local_ae_titles = [\"IDRCENTRAL\"]");
        assert_eq!(load(&titled).expect("loads").dimse.local_ae_titles, ["IDRCENTRAL"]);
        let row = "[[peer]]\nname = \"a\"\norganisation = \"1.2.3\"\nmodel = \"C1\"\ntransactions = [\"C-STORE\"]\n";
        assert!(load(&format!("{titled}{row}")).expect_err("nobody who calls").to_string().contains("peer[0].ae_titles"));
        assert!(load(&format!("{titled}{row}ae_titles = [\"PACS\\\\1\"]\n")).is_err(), "no AE title");
        assert!(load(&format!("{titled}{row}ae_titles = [\"PACS\"]\n")).is_ok());
    }

    #[test]
    fn a_repository_is_another_one_and_stands_once() {
        let row = |id: &str| format!("[[repository]]\nunique_id = \"{id}\"\norganisation = \"1.2.246.10.90000011\"\n");
        assert_eq!(with("environment = \"test\"", &row("1.2.3")).expect("loads").repository.len(), 1);
        for rows in [row("1.2.246.10.12345671.12.100"), row("x"), row("1.2.3") + &row("1.2.3")] {
            assert!(with("environment = \"test\"", &rows).expect_err("refused").to_string().contains("repository["), "{rows}");
        }
    }

    #[test]
    fn another_community_is_bound_to_its_key_and_stands_once() {
        let pin = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let row = |change: (&str, &str)| {
            let row = format!(
                "[[community]]\nhome = \"1.2.246.10.90000099.12.1\"\nendpoint = \"https://gateway.example/ihe\"\npins = [\"{pin}\"]\n\
                 audience = \"urn:x:theirs\"\ntransactions = [\"ITI-38\"]\nquery_by_patient = true\ntimeout_seconds = 20\n"
            );
            assert!(row.contains(change.0), "{}", change.0);
            row.replace(change.0, change.1)
        };
        let load = |tail: &str| with("environment = \"test\"", tail);
        let shipped = load("").expect("shipped file loads");
        assert!(shipped.community.is_empty(), "nobody is asked by default");
        assert_eq!(format!("{:?}", shipped.federation), format!("{:?}", Federation::default()), "the file says the defaults");
        assert_eq!(load(&row(("home", "home"))).expect("loads").community[0].timeout_seconds, 20);
        for (change, key) in [
            (("1.2.246.10.90000099.12.1", "urn:oid:1.2.3"), "home"),
            (("1.2.246.10.90000099.12.1", "1.2.246.10.12345671.12.1"), "home"),
            (("https://", "http://"), "endpoint"),
            (("gateway.example", ""), "endpoint"),
            (("gateway.example", "gateway.example:99999"), "endpoint"),
            (("gateway.example", "[::1"), "endpoint"),
            (("gateway.example", "user@gateway.example"), "endpoint"),
            ((pin, "sha256/AAAA"), "pins"),
            (("pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]", "pins = []"), "pins"),
            (("\"ITI-38\"", "\"ITI-18\""), "transactions"),
            (("\"ITI-38\"", "\"ITI-39\""), "query_by_patient"),
            (("seconds = 20", "seconds = 0"), "timeout_seconds"),
            (("urn:x:theirs", ""), "audience"),
            (("urn:x:theirs", "two words"), "audience"),
        ] {
            let told = load(&row(change)).expect_err("refused").to_string();
            assert!(told.contains(&format!("community[0].{key}")), "{change:?}: {told}");
        }
        let twice = row(("home", "home")) + &row(("home", "home"));
        assert!(load(&twice).expect_err("refused").to_string().contains("community[1].home"));
        let repository = "[[repository]]\nunique_id = \"1.2.3\"\norganisation = \"1.2.4\"\nendpoint = \"https://a.example/\"\n";
        assert!(load(repository).expect_err("refused").to_string().contains("repository[0].pins"));
        let repository = format!("{repository}pins = [\"{pin}\"]\n");
        assert!(load(&repository).expect_err("refused").to_string().contains("repository[0].audience"));
        assert!(load(&format!("{repository}audience = \"urn:x:theirs\"\n")).is_ok());
    }

    #[test]
    fn messages_in_plain_are_taken_from_this_host_only() {
        let plain = |address: &str| {
            let text = SHIPPED.replace("plain_listen = []", &format!("plain_listen = [\"{address}\"]"));
            Config::parse(&format!("environment = \"test\"\n{text}"), Path::new("c.toml"))
        };
        assert!(plain("127.0.0.1:2575").is_ok());
        assert!(plain("0.0.0.0:2575").expect_err("refused").to_string().contains("mllp.plain_listen"));
        let shipped = with("environment = \"test\"", "").expect("shipped file loads");
        assert_eq!(format!("{:?}", shipped.mllp), format!("{:?}", Mllp::default()), "the file says the defaults");
    }

    #[test]
    fn the_days_of_a_row_are_toml_dates() {
        let row = |day: &str| {
            let row = format!("[[peer]]\nname = \"a\"\norganisation = \"1.2.3\"\nmodel = \"C1\"\nvalid_to = {day}\n");
            with("environment = \"test\"", &row).map(|config| config.peer[0].valid_to)
        };
        let expected = Some(jiff::civil::date(2026, 1, 31));
        assert_eq!((row("2026-01-31").expect("loads"), row("\"2026-01-31\"").expect("loads")), (expected, expected));
        assert!(row("\"January\"").expect_err("refused").to_string().contains("2026-01-31"));
    }

    #[test]
    fn a_page_of_receipts_is_bounded_on_both_sides() {
        for (receipts, allowed) in [("99", false), ("100", true), ("1000", true), ("1001", false)] {
            let text = SHIPPED.replace("receipts_page_max = 1000", &format!("receipts_page_max = {receipts}"));
            let loaded = Config::parse(&format!("environment = \"test\"\n{text}"), Path::new("c.toml"));
            assert_eq!(loaded.is_ok(), allowed, "{receipts}");
        }
    }

    #[test]
    fn revocation_cannot_be_off_in_production() {
        let text = SHIPPED.replace("revocation = \"require\"", "revocation = \"off\"");
        let error = Config::parse(&format!("environment = \"production\"\n{text}"), Path::new("c.toml")).expect_err("refused");
        assert!(error.to_string().contains("revocation"));
    }
}

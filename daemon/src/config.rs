//! Main configuration of the site: the file as written ([`ConfigFile`]) and, after all checks, as used ([`Config`]).
//!
//! Every key with its default stands in `configs/idr-site.toml`. Unknown keys are refused. An error names file, key,
//! value and what is allowed; the program then ends with exit status 78.
//!
//! # Standard
//! Profile 00 §2 (which file holds what), 10 §3 (nothing listens outside loopback until configured), 10 §15.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use idr_host::config::{self, check_base_url, check_fingerprints, check_loopback, check_name};
use serde::{Deserialize, Serialize};

pub use archive::Archive;
pub use idr_host::config::ConfigError;
pub use idr_profile::identifier::Environment;
pub use reloaded::Reloaded;
pub use wan::{Day, SendWindow, Wan};

pub mod archive;
mod reloaded;
mod wan;

pub use crate::spool::index::IndexKind;

/// What `tls` of an inbound row asks of the connection (profile 01 D007, 10 F01–F02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsDemand {
    /// Plain or TLS; the row is then bound to its addresses.
    Optional,
    /// TLS; the client certificate is not asked for.
    Required,
    /// TLS with a client certificate from `modality_anchors`.
    Mutual,
}

/// One row of the inbound table: who may send (profile 01 D001). An empty table matches nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// Name of the row in journal and metrics.
    pub name: String,
    /// Organisation behind the gateway that this row belongs to (profile 10 C2).
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Calling AE title, compared exactly after removal of padding.
    pub ae_title: String,
    /// Addresses or networks (`10.1.2.0/24`, `::1`). Needed unless `tls = "mutual"`; a row with neither has a drop folder
    /// alone.
    #[serde(default)]
    pub addresses: Vec<Network>,
    /// Demand on the connection.
    #[serde(default = "default_tls")]
    pub tls: TlsDemand,
    /// SHA-256 of accepted client certificates, 64 hex digits; empty: any certificate of the anchors.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Issuer of Patient ID when the object has none (profile 01 §3.2 step 4), OID.
    pub patient_id_issuer: Option<String>,
    /// Issuer of Accession Number when the object has none, OID.
    pub accession_issuer: Option<String>,
    /// Where storage commitment is reported when the association of the request has ended: address and port of the device
    /// (profile 10 F16), over TLS unless `tls = "optional"`. Absent: on that association alone.
    pub commitment_address: Option<SocketAddr>,
    /// AE title that is called then; absent: the calling AE title of the request.
    pub commitment_ae_title: Option<String>,
    /// Name that the device's certificate must have; absent: its address.
    pub commitment_server_name: Option<String>,
    /// `languageCode` of the manifest, instead of the affinity domain's.
    pub language: Option<String>,
    /// Queue instances before the study is evaluated (profile 01 §6.5).
    #[serde(default)]
    pub forward_early: bool,
    /// Its studies go before others, and are not held back by `wan` (profile 10 §12).
    #[serde(default)]
    pub priority: Priority,
    /// Hold what an unlocked stage-I rule refuses, instead of refusing it (profile 01 §1.3).
    #[serde(default)]
    pub refuse_to_quarantine: bool,
    /// Takes STOW-RS requests too. They name no AE title: the row is chosen by address and certificate alone.
    #[serde(default)]
    pub stow: bool,
    /// Folder whose files are taken in as this row's.
    pub drop_folder: Option<PathBuf>,
    /// May query and retrieve what stands here in its own register. In production with `tls = "mutual"` alone.
    #[serde(default)]
    pub query: bool,
}

impl Inbound {
    /// Whether it takes associations. An AE title alone is no proof.
    pub fn receives(&self) -> bool {
        !self.addresses.is_empty() || self.tls == TlsDemand::Mutual
    }
}

/// Which lane of the queue studies go in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The longest due first.
    #[default]
    Normal,
    /// Before those, as far as `centre.urgent_in_a_row_max` lets them.
    Urgent,
}

/// Organisation of the rows that name none.
pub const DEFAULT_TENANT: &str = "default";

fn default_tenant() -> String {
    DEFAULT_TENANT.to_owned()
}

fn default_tls() -> TlsDemand {
    TlsDemand::Optional
}

/// An address or a network in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.1.2.3`, `10.1.2.0/24`, `fe80::/10`.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no address or network; allowed: 10.1.2.3, 10.1.2.0/24, 2001:db8::/32");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), |p| p.parse::<u8>().map_err(|_| wrong()))?;
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }

    /// Whether an address may lie in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// Whether `peer` lies in this network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, peer: IpAddr) -> bool {
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(peer)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(own) & mask == u32::from(peer) & mask
            }
            (IpAddr::V6(own), IpAddr::V6(peer)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(own) & mask == u128::from(peer) & mask
            }
            _ => false,
        }
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.address, self.prefix))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Identity of this site.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// `^[a-z0-9][a-z0-9\-]{1,31}$`: attribute `site` of the assertion, node of the receipts' holder.
    pub id: String,
    /// OID of the organisation.
    pub organisation: String,
    /// Name of the organisation, 1–200 characters.
    pub organisation_name: String,
    /// OID of this software instance below node 12: SubmissionSet.sourceId.
    pub source_oid: String,
    /// Zone of device times.
    #[serde(default = "default_timezone")]
    pub timezone: String,
    /// Rule sets to use; of those in force on the receive date the first listed (profile 01 §11.1).
    pub rule_sets: Vec<String>,
}

fn default_timezone() -> String {
    "Europe/Helsinki".to_owned()
}

/// Where the other files are. Relative paths are taken from the folder of the main file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Folder with one folder per rule set.
    pub rules: PathBuf,
    /// `site-rules.toml`.
    pub site_rules: PathBuf,
    /// `affinity-domain.toml`.
    pub affinity_domain: PathBuf,
    /// `controller-map.toml`.
    pub controller_map: PathBuf,
    /// `trust.toml`.
    pub trust: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            rules: "rules".into(),
            site_rules: "site-rules.toml".into(),
            affinity_domain: "affinity-domain.toml".into(),
            controller_map: "controller-map.toml".into(),
            trust: "trust.toml".into(),
        }
    }
}

/// The spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// State folder, on a local file system.
    pub path: PathBuf,
    /// Bytes that stay free: below it new objects are refused (D006, A700H).
    #[serde(default = "default_reserve_bytes")]
    pub reserve_bytes: u64,
    /// The index of the spool; after a change it is made again from the files.
    #[serde(default)]
    pub index: IndexKind,
}

fn default_reserve_bytes() -> u64 {
    50 << 30
}

/// Reading every held object again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// From the beginning of one pass to that of the next, days; 0: by command alone (profile 10 B6-T1).
    pub interval_days: u32,
    /// Most that is read, bytes per second.
    pub bytes_per_second: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { interval_days: 30, bytes_per_second: 20 << 20 }
    }
}

/// The local cache of what the centre holds, and when it is given up ([`crate::retention`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Whether local copies are given up at all (profile 03 §3.1).
    pub release: bool,
    /// Data set bytes of registered objects that stay, all tenants together.
    pub bytes_max: u64,
    /// Least time from registration, days.
    pub retention_days: u32,
    /// Only what the last reconciliation with the centre found equal (profile 11 §5).
    pub require_reconciliation: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { release: false, bytes_max: 1 << 40, retention_days: 30, require_reconciliation: true }
    }
}

/// Instances on their way in, by whatever way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reception {
    /// Memory of their data set headers, all together, bytes; beyond it senders wait ([`crate::header_memory`]).
    pub header_memory_bytes: usize,
}

impl Default for Reception {
    fn default() -> Self {
        Self { header_memory_bytes: 256 << 20 }
    }
}

/// Asking the centre whether it holds what was handed over (profile 11 §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reconcile {
    /// Time of day in `site.timezone`; up to 30 min later.
    pub at: jiff::civil::Time,
    /// Studies with an object that came in so many days.
    pub days: u32,
    /// What the centre does not hold as it was handed over is queued again.
    pub auto: bool,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self { at: jiff::civil::time(2, 30, 0, 0), days: 7, auto: true }
    }
}

/// DIMSE listeners and bounds (profile 10 §11 BD-01 … BD-09).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dimse {
    /// Plain listeners.
    pub listen: Vec<SocketAddr>,
    /// TLS listeners.
    pub listen_tls: Vec<SocketAddr>,
    /// AE titles that may be called (D002).
    pub local_ae_titles: Vec<String>,
    /// TCP connections at once, all listeners together (BD-01).
    pub connections_max: usize,
    /// TCP connections at once of one address (BD-01).
    pub connections_per_address_max: usize,
    /// TLS handshakes in progress (BD-02).
    pub handshakes_max: usize,
    /// Longest TLS handshake, seconds (BD-02).
    pub handshake_seconds: u64,
    /// ARTIM timer, seconds (BD-03).
    pub artim_seconds: u64,
    /// Silence between messages of an open association, seconds (BD-09).
    pub idle_seconds: u64,
    /// Whole life of an association, seconds (BD-09).
    pub association_seconds: u64,
    /// Least pace of a message that is under way, bytes per second; 0: none.
    pub pace_bytes_per_second: u64,
    /// It is averaged over so much waiting for the peer, seconds.
    pub pace_seconds: u64,
    /// Maximum PDU length announced, bytes (BD-04).
    pub pdu_length_max: u32,
    /// Certificate chain of the TLS listener, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, mode 0600 or 0400.
    pub key: Option<PathBuf>,
}

impl Default for Dimse {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 11112))],
            listen_tls: Vec::new(),
            local_ae_titles: Vec::new(),
            connections_max: 1024,
            connections_per_address_max: 64,
            handshakes_max: 256,
            handshake_seconds: 10,
            artim_seconds: 30,
            idle_seconds: 900,
            association_seconds: 86_400,
            pace_bytes_per_second: 256,
            pace_seconds: 60,
            pdu_length_max: 131_072,
            certificate: None,
            key: None,
        }
    }
}

/// STOW-RS listeners and bounds (profile 10 F03, §11 BD-01, BD-02, BD-10, BD-17).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stow {
    /// Plain listeners, on loopback.
    pub listen: Vec<SocketAddr>,
    /// TLS listeners; a client certificate of `modality_anchors` is needed.
    pub listen_tls: Vec<SocketAddr>,
    /// Certificate chain of the TLS listener, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, mode 0600 or 0400.
    pub key: Option<PathBuf>,
    /// TCP connections at once.
    pub connections_max: usize,
    /// TCP connections at once of one address.
    pub connections_per_address_max: usize,
    /// TLS handshakes in progress.
    pub handshakes_max: usize,
    /// Requests at once; more: 503.
    pub requests_max: usize,
    /// Requests at once of one address.
    pub requests_per_address_max: usize,
    /// Longest wait for a request head, and between two requests, seconds.
    pub head_seconds: u64,
    /// Bytes of a request body.
    pub body_bytes_max: u64,
    /// Parts of a request.
    pub parts_max: usize,
}

impl Default for Stow {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            listen_tls: Vec::new(),
            certificate: None,
            key: None,
            connections_max: 256,
            connections_per_address_max: 64,
            handshakes_max: 64,
            requests_max: 64,
            requests_per_address_max: 16,
            head_seconds: 30,
            body_bytes_max: 64 << 30,
            parts_max: 100_000,
        }
    }
}

/// Storage commitment, asked by devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commitment {
    /// Instances in one request; more: 0213H.
    pub references_max: usize,
    /// Requests of one row without a report; more: 0213H. Of those that are held as many are kept.
    pub requests_max: usize,
    /// Longest wait for the answer to a report on the association of the request, seconds; then it goes on one of our own.
    pub answer_seconds: u64,
}

impl Default for Commitment {
    fn default() -> Self {
        Self { references_max: 10_000, requests_max: 1_000, answer_seconds: 30 }
    }
}

/// What devices say of the completeness of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Completeness {
    /// Instances in one procedure step or notice of availability; more: 0213H.
    pub instances_max: usize,
    /// Procedure steps, notices and requests for storage commitment of one row that are remembered; then the oldest is given up.
    pub listings_max: usize,
    /// So long each is remembered after its last change, days.
    pub keep_days: u32,
}

impl Default for Completeness {
    fn default() -> Self {
        Self { instances_max: 10_000, listings_max: 5_000, keep_days: 7 }
    }
}

/// Where objects may be sent by C-MOVE (profile 10 §2.3).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Move Destination, and the AE title that is called.
    pub ae_title: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Organisation: only rows of the same may send there.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// TLS; without it in `environment = "test"` only.
    #[serde(default = "default_true")]
    pub tls: bool,
    /// Name that its certificate must have; absent: its address.
    pub server_name: Option<String>,
    /// SHA-256 of its certificate, one of these; empty: any of the anchors.
    #[serde(default)]
    pub certificates: Vec<String>,
}

fn default_true() -> bool {
    true
}

/// Query and retrieve.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Objects that one query or retrieve looks at; more: A700H.
    pub objects_max: usize,
    /// Answers to one query; more: A700H (BD-08).
    pub results_max: usize,
    /// Queries and retrieves at once; more: A700H.
    pub at_once: usize,
    /// Longest identifier, bytes; longer: A900H (BD-08).
    pub identifier_bytes_max: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self { objects_max: 50_000, results_max: 10_000, at_once: 4, identifier_bytes_max: 262_144 }
    }
}

/// Bounds of the drop folders.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DropFolders {
    /// Files of one folder that are read at once.
    pub files_at_once: usize,
    /// Largest file, bytes.
    pub file_bytes_max: u64,
    /// A file counts as complete when size and time of change stayed the same for so long, seconds.
    pub quiet_seconds: u64,
    /// Longest time between two looks at a folder, seconds: events may be lost, and network file systems have none.
    pub rescan_seconds: u64,
    /// Longest time before a file that could not be taken by a fault of ours is tried again, seconds.
    pub retry_max_seconds: u64,
    /// Entries that one look reads.
    pub entries_max: usize,
    /// Levels of sub-folders that are looked into.
    pub depth_max: usize,
}

impl Default for DropFolders {
    fn default() -> Self {
        Self {
            files_at_once: 2,
            file_bytes_max: 16 << 30,
            quiet_seconds: 10,
            rescan_seconds: 30,
            retry_max_seconds: 3_600,
            entries_max: 100_000,
            depth_max: 8,
        }
    }
}

/// The centre: one peer (profile 10 F05).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Centre {
    /// Name of the peer in queue, journal and metrics.
    #[serde(default = "default_centre_name")]
    pub name: String,
    /// Base URL: `https://central.example:8443`.
    pub url: String,
    /// Path of the DICOMweb root below `url`.
    #[serde(default = "default_dicomweb")]
    pub dicomweb: String,
    /// Path of the SOAP gateway below `url`.
    #[serde(default = "default_gateway")]
    pub gateway: String,
    /// TLS client certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// `sha256/<base64 of the SPKI digest>` (profile 10 §5.4). May be empty in `environment = "test"` only.
    #[serde(default)]
    pub pins: Vec<String>,
    /// Requests at once.
    #[serde(default = "default_parallel")]
    pub parallel_max: usize,
    /// Requests, or manifests, of urgent studies that go one after the other while normal ones wait; then one of those goes.
    #[serde(default = "default_urgent_in_a_row")]
    pub urgent_in_a_row_max: u32,
    /// Instances in one STOW-RS request.
    #[serde(default = "default_batch_instances")]
    pub batch_instances_max: usize,
    /// Bytes in one STOW-RS request, unless one instance alone is larger.
    #[serde(default = "default_batch_bytes")]
    pub batch_bytes_max: u64,
    /// Longest wait for the head of an answer, seconds (profile 03 §2.7).
    #[serde(default = "default_response_seconds")]
    pub response_seconds: u64,
    /// Instances go by C-STORE and storage commitment in place of STOW-RS.
    pub dimse: Option<Archive>,
}

fn default_centre_name() -> String {
    "centre".to_owned()
}
fn default_dicomweb() -> String {
    "/dicomweb".to_owned()
}
fn default_gateway() -> String {
    "/ihe/gateway".to_owned()
}
fn default_parallel() -> usize {
    4
}
fn default_urgent_in_a_row() -> u32 {
    4
}
fn default_batch_instances() -> usize {
    32
}
fn default_batch_bytes() -> u64 {
    64 << 20
}
fn default_response_seconds() -> u64 {
    300
}

/// Who signs for this site (profile 04 §13).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// `Issuer`, as registered at the centre.
    pub issuer: String,
    /// OID of the technical user, below node 12 or 13 of the organisation.
    pub technical_user: String,
    /// System signature certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PKCS#8 PEM.
    pub key: PathBuf,
    /// Audience of the centre.
    #[serde(default = "default_audience")]
    pub audience: String,
}

fn default_audience() -> String {
    "urn:x-idr:audience:central".to_owned()
}

/// Manifest timing (profile 02 §2).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// At most one new revision of a study per this time, seconds.
    pub min_interval_seconds: u64,
    /// A partial manifest this long after the first commitment, minutes; 0 = never.
    pub partial_after_minutes: u64,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { min_interval_seconds: 300, partial_after_minutes: 60 }
    }
}

/// The operator's socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Unix socket, mode 0600. Default: `control.sock` in the state folder.
    pub socket: Option<PathBuf>,
}

#[expect(clippy::derivable_impls, reason = "the default stands beside the doc comment of its key")]
impl Default for Control {
    fn default() -> Self {
        Self { socket: None }
    }
}

/// When the files of the configuration are read again (profile 10 §5.5).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// By themselves, when one has changed and then stayed as it is from one look to the next.
    pub watch: bool,
    /// Time between two looks, seconds.
    pub poll_seconds: u64,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true, poll_seconds: 10 }
    }
}

/// Health and metrics on a port of their own (profile 10 F14).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Loopback address, or none.
    pub listen: Option<SocketAddr>,
}

impl Default for Health {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))) }
    }
}

/// The file as written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// `test` or `production`; required.
    pub environment: Environment,
    /// Identity of this site.
    pub site: Site,
    /// Places of the other files.
    #[serde(default)]
    pub files: Files,
    /// The spool.
    pub storage: Storage,
    /// Reading every held object again.
    #[serde(default)]
    pub scrub: Scrub,
    /// The local cache.
    #[serde(default)]
    pub cache: Cache,
    /// Instances on their way in.
    #[serde(default)]
    pub reception: Reception,
    /// Asking the centre what it holds.
    #[serde(default)]
    pub reconcile: Reconcile,
    /// When and how fast objects leave.
    #[serde(default)]
    pub wan: Wan,
    /// DIMSE listeners.
    #[serde(default)]
    pub dimse: Dimse,
    /// STOW-RS.
    #[serde(default)]
    pub stow: Stow,
    /// Who may send.
    #[serde(default)]
    pub inbound: Vec<Inbound>,
    /// Storage commitment.
    #[serde(default)]
    pub commitment: Commitment,
    /// What devices say of the completeness of a study.
    #[serde(default)]
    pub completeness: Completeness,
    /// Query and retrieve.
    #[serde(default)]
    pub query: Query,
    /// Where objects may be sent by C-MOVE.
    #[serde(default)]
    pub destination: Vec<Destination>,
    /// Bounds of the drop folders.
    #[serde(default)]
    pub drop_folders: DropFolders,
    /// Where to forward; absent: objects are held.
    pub centre: Option<Centre>,
    /// Who signs; needed with `centre`.
    pub assertion: Option<Assertion>,
    /// Manifest timing.
    #[serde(default)]
    pub manifest: Manifest,
    /// The operator's socket.
    #[serde(default)]
    pub control: Control,
    /// Health port.
    #[serde(default)]
    pub health: Health,
    /// Reading it again.
    #[serde(default)]
    pub reload: Reload,
}

impl ConfigFile {
    fn check(&self) -> Result<(), config::Fault> {
        let file = self;
        let fault = |key: &str, problem: String| Err((key.to_owned(), problem));
        check_name("site.id", &file.site.id)?;
        for (key, oid) in [("site.organisation", &file.site.organisation), ("site.source_oid", &file.site.source_oid)] {
            if !idr_ihe::metadata::is_oid(oid) {
                return fault(key, format!("'{oid}' is no OID"));
            }
        }
        if file.site.rule_sets.is_empty() {
            return fault("site.rule_sets", "name at least one rule set, for example [\"fi-2.4.1\"]".to_owned());
        }
        if jiff::tz::TimeZone::get(&file.site.timezone).is_err() {
            return fault("site.timezone", format!("'{}' is not in the time zone database", file.site.timezone));
        }
        if file.dimse.local_ae_titles.is_empty() && !(file.dimse.listen.is_empty() && file.dimse.listen_tls.is_empty()) {
            return fault("dimse.local_ae_titles", "name at least one AE title that devices call".to_owned());
        }
        for title in &file.dimse.local_ae_titles {
            check_ae_title("dimse.local_ae_titles", title)?;
        }
        for (key, value, range) in [
            ("dimse.artim_seconds", file.dimse.artim_seconds, 1..=300),
            ("dimse.handshake_seconds", file.dimse.handshake_seconds, 1..=60),
            ("dimse.idle_seconds", file.dimse.idle_seconds, 1..=86_400),
            ("dimse.association_seconds", file.dimse.association_seconds, 1..=86_400),
            ("dimse.pace_bytes_per_second", file.dimse.pace_bytes_per_second, 0..=65_536),
            ("dimse.pace_seconds", file.dimse.pace_seconds, 1..=3_600),
            ("dimse.pdu_length_max", u64::from(file.dimse.pdu_length_max), 4_096..=1_048_576),
            ("dimse.connections_max", file.dimse.connections_max as u64, 1..=65_536),
            ("dimse.connections_per_address_max", file.dimse.connections_per_address_max as u64, 1..=65_536),
            ("dimse.handshakes_max", file.dimse.handshakes_max as u64, 1..=65_536),
            ("cache.bytes_max", file.cache.bytes_max, 0..=u64::MAX),
            ("cache.retention_days", u64::from(file.cache.retention_days), 1..=3_650),
            ("reception.header_memory_bytes", file.reception.header_memory_bytes as u64, 1 << 20..=1 << 40),
            ("scrub.interval_days", u64::from(file.scrub.interval_days), 0..=366),
            ("reconcile.days", u64::from(file.reconcile.days), 1..=366),
            ("scrub.bytes_per_second", file.scrub.bytes_per_second, 1 << 16..=1 << 40),
            ("stow.connections_max", file.stow.connections_max as u64, 1..=65_536),
            ("stow.connections_per_address_max", file.stow.connections_per_address_max as u64, 1..=65_536),
            ("stow.handshakes_max", file.stow.handshakes_max as u64, 1..=65_536),
            ("stow.requests_max", file.stow.requests_max as u64, 1..=1_024),
            ("stow.requests_per_address_max", file.stow.requests_per_address_max as u64, 1..=1_024),
            ("stow.head_seconds", file.stow.head_seconds, 1..=300),
            ("stow.body_bytes_max", file.stow.body_bytes_max, 1_024..=1 << 40),
            ("stow.parts_max", file.stow.parts_max as u64, 1..=1_000_000),
            ("commitment.references_max", file.commitment.references_max as u64, 1..=100_000),
            ("commitment.requests_max", file.commitment.requests_max as u64, 1..=100_000),
            ("commitment.answer_seconds", file.commitment.answer_seconds, 1..=600),
            ("completeness.instances_max", file.completeness.instances_max as u64, 1..=100_000),
            ("completeness.listings_max", file.completeness.listings_max as u64, 1..=100_000),
            ("completeness.keep_days", u64::from(file.completeness.keep_days), 1..=3_650),
            ("query.objects_max", file.query.objects_max as u64, 1..=1_000_000),
            ("query.results_max", file.query.results_max as u64, 1..=100_000),
            ("query.at_once", file.query.at_once as u64, 1..=64),
            ("query.identifier_bytes_max", file.query.identifier_bytes_max as u64, 1_024..=1_048_576),
            ("drop_folders.files_at_once", file.drop_folders.files_at_once as u64, 1..=64),
            ("drop_folders.file_bytes_max", file.drop_folders.file_bytes_max, 1..=1 << 40),
            ("drop_folders.quiet_seconds", file.drop_folders.quiet_seconds, 1..=86_400),
            ("drop_folders.rescan_seconds", file.drop_folders.rescan_seconds, 1..=86_400),
            ("drop_folders.retry_max_seconds", file.drop_folders.retry_max_seconds, 1..=86_400),
            ("drop_folders.entries_max", file.drop_folders.entries_max as u64, 1..=1_000_000),
            ("reload.poll_seconds", file.reload.poll_seconds, 1..=3_600),
            ("drop_folders.depth_max", file.drop_folders.depth_max as u64, 0..=64),
        ] {
            if !range.contains(&value) {
                return fault(key, format!("{value} is outside {}–{}", range.start(), range.end()));
            }
        }
        if !file.dimse.listen_tls.is_empty() && (file.dimse.certificate.is_none() || file.dimse.key.is_none()) {
            return fault("dimse.certificate", "dimse.certificate and dimse.key are needed with dimse.listen_tls".to_owned());
        }
        if !file.stow.listen_tls.is_empty() && (file.stow.certificate.is_none() || file.stow.key.is_none()) {
            return fault("stow.certificate", "stow.certificate and stow.key are needed with stow.listen_tls".to_owned());
        }
        for address in &file.stow.listen {
            check_loopback("stow.listen", Some(*address))?;
        }
        for (at, row) in file.inbound.iter().enumerate() {
            let key = |name: &str| format!("inbound[{at}].{name}");
            if !(1..=64).contains(&row.name.len()) || !row.name.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                return fault(&key("name"), format!("'{}' is not allowed; 1–64 printable ASCII characters", row.name));
            }
            check_ae_title(&key("ae_title"), &row.ae_title)?;
            check_name(&key("tenant"), &row.tenant)?;
            if !row.receives() && row.drop_folder.is_none() {
                return fault(&key("addresses"), "an AE title is no proof: name its addresses, or set tls = \"mutual\"".to_owned());
            }
            check_fingerprints(&key("certificates"), &row.certificates)?;
            if row.query && row.tls != TlsDemand::Mutual && file.environment == Environment::Production {
                return fault(&key("query"), "who may read needs a certificate in production: set tls = \"mutual\"".to_owned());
            }
            if let Some(title) = &row.commitment_ae_title {
                check_ae_title(&key("commitment_ae_title"), title)?;
            }
            if row.commitment_address.is_some_and(|address| address.port() == 0 || address.ip().is_unspecified()) {
                return fault(&key("commitment_address"), "name the address and the port that the device listens on".to_owned());
            }
            for (name, oid) in [("patient_id_issuer", &row.patient_id_issuer), ("accession_issuer", &row.accession_issuer)] {
                if let Some(oid) = oid
                    && !idr_ihe::metadata::is_oid(oid)
                {
                    return fault(&key(name), format!("'{oid}' is no OID"));
                }
            }
            if file.inbound[..at].iter().any(|other| other.name == row.name) {
                return fault(&key("name"), format!("'{}' is used twice", row.name));
            }
        }
        self.check_drop_folders()?;
        self.check_destinations()?;
        self.check_stow_rows()?;
        file.wan.check().or_else(|(key, problem)| fault(key, problem))?;
        if let Some(centre) = &file.centre {
            check_base_url("centre.url", &centre.url)?;
            if centre.pins.len() < 2 && file.environment == Environment::Production {
                return fault("centre.pins", "at least two pins are needed in production (profile 10 §5.4)".to_owned());
            }
            for (key, value, range) in [
                ("centre.parallel_max", centre.parallel_max as u64, 1..=64),
                ("centre.urgent_in_a_row_max", u64::from(centre.urgent_in_a_row_max), 1..=1_000),
                ("centre.batch_instances_max", centre.batch_instances_max as u64, 1..=10_000),
                ("centre.response_seconds", centre.response_seconds, 1..=3_600),
            ] {
                if !range.contains(&value) {
                    return fault(key, format!("{value} is outside {}–{}", range.start(), range.end()));
                }
            }
            if let Some(archive) = &centre.dimse {
                archive.check(file.environment, &file.inbound, &idr_profile::outcome::Outcomes::base().dialects())?;
            }
            if file.assertion.is_none() {
                return fault("assertion", "the centre needs signed assertions: add [assertion]".to_owned());
            }
        }
        check_loopback("health.listen", file.health.listen)
    }

    fn check_destinations(&self) -> Result<(), config::Fault> {
        for (at, destination) in self.destination.iter().enumerate() {
            let key = |name: &str| format!("destination[{at}].{name}");
            check_ae_title(&key("ae_title"), &destination.ae_title)?;
            check_name(&key("tenant"), &destination.tenant)?;
            check_fingerprints(&key("certificates"), &destination.certificates)?;
            if destination.address.port() == 0 || destination.address.ip().is_unspecified() {
                return Err((key("address"), "name the address and the port that the device listens on".to_owned()));
            }
            if !destination.tls && self.environment == Environment::Production {
                return Err((key("tls"), "images leave in production over TLS alone".to_owned()));
            }
            let same = |other: &Destination| other.ae_title == destination.ae_title && other.tenant == destination.tenant;
            if self.destination[..at].iter().any(same) {
                return Err((key("ae_title"), format!("'{}' is used twice", destination.ae_title)));
            }
        }
        Ok(())
    }

    /// A STOW-RS request names no AE title, so no two rows of a tenant may fit one connection (profile 10 §2.1).
    fn check_stow_rows(&self) -> Result<(), config::Fault> {
        let rows: Vec<(usize, &Inbound)> = self.inbound.iter().enumerate().filter(|(_, row)| row.stow).collect();
        for (place, (at, row)) in rows.iter().enumerate() {
            if !row.receives() {
                return Err((format!("inbound[{at}].stow"), "name its addresses, or set tls = \"mutual\"".to_owned()));
            }
            let apart = |other: &Inbound| {
                let networks = |one: &Network| other.addresses.iter().any(|another| one.overlaps(another));
                let certificates = |one: &String| other.certificates.iter().any(|another| one.eq_ignore_ascii_case(another));
                row.tenant != other.tenant
                    || !row.addresses.is_empty() && !other.addresses.is_empty() && !row.addresses.iter().any(networks)
                    || !row.certificates.is_empty() && !other.certificates.is_empty() && !row.certificates.iter().any(certificates)
            };
            if let Some((_, other)) = rows[..place].iter().find(|(_, other)| !apart(other)) {
                let problem = format!(
                    "rows '{}' and '{}' may fit one connection, and STOW-RS has no AE title to tell them apart: give them other addresses or certificates",
                    other.name, row.name
                );
                return Err((format!("inbound[{at}].stow"), problem));
            }
        }
        Ok(())
    }

    /// No folder lies in another or in the state folder: whose a file is would depend on who looks first.
    fn check_drop_folders(&self) -> Result<(), config::Fault> {
        let folders: Vec<_> = self.inbound.iter().enumerate().filter_map(|(at, row)| Some((at, row.drop_folder.as_ref()?))).collect();
        for (place, (at, folder)) in folders.iter().enumerate() {
            let others = folders[..place].iter().map(|(_, other)| *other).chain([&self.storage.path]);
            if let Some(other) = others.into_iter().find(|other| folder.starts_with(other) || other.starts_with(folder)) {
                let problem = format!("{} and {} overlap: each needs a folder of its own", folder.display(), other.display());
                return Err((format!("inbound[{at}].drop_folder"), problem));
            }
        }
        Ok(())
    }
}

/// A configuration that passed every check. Paths are absolute or relative to the working folder.
#[derive(Debug, Clone)]
pub struct Config {
    file: ConfigFile,
    /// The main file.
    path: PathBuf,
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
        let mut config = Self { file: config::parse(text, path, ConfigFile::check)?, path: path.to_owned() };
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// The main file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state folder's socket unless another is named.
    pub fn control_socket(&self) -> PathBuf {
        self.file.control.socket.clone().unwrap_or_else(|| self.file.storage.path.join("control.sock"))
    }

    /// Longest life of an association.
    pub fn association_max(&self) -> Duration {
        Duration::from_secs(self.file.dimse.association_seconds)
    }

    fn resolve(&mut self, base: &Path) {
        let files = &mut self.file.files;
        let mut paths: Vec<&mut PathBuf> = vec![
            &mut files.rules,
            &mut files.site_rules,
            &mut files.affinity_domain,
            &mut files.controller_map,
            &mut files.trust,
            &mut self.file.storage.path,
        ];
        paths.extend(self.file.dimse.certificate.as_mut());
        paths.extend(self.file.dimse.key.as_mut());
        paths.extend(self.file.stow.certificate.as_mut());
        paths.extend(self.file.stow.key.as_mut());
        paths.extend(self.file.control.socket.as_mut());
        paths.extend(self.file.inbound.iter_mut().filter_map(|row| row.drop_folder.as_mut()));
        if let Some(centre) = &mut self.file.centre {
            paths.extend([&mut centre.certificate, &mut centre.key]);
        }
        if let Some(assertion) = &mut self.file.assertion {
            paths.extend([&mut assertion.certificate, &mut assertion.key]);
        }
        for path in paths {
            *path = base.join(&*path);
        }
    }
}

/// 1–16 characters of ISO 646 without `\`, control characters and spaces at the ends (profile 10 §8).
fn check_ae_title(key: &str, title: &str) -> Result<(), config::Fault> {
    let valid = (1..=16).contains(&title.len()) && title.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\') && title.trim() == title;
    if valid { Ok(()) } else { Err((key.to_owned(), format!("'{title}' is no AE title: 1–16 printable ASCII characters without '\\'"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../configs/idr-site.toml");

    fn refused(change: impl FnOnce(String) -> String) -> String {
        Config::parse(&change(SHIPPED.to_owned()), Path::new("/etc/idr-site/idr-site.toml")).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_shipped_file_lacks_only_what_a_site_must_decide() {
        let text = SHIPPED.replace("# environment = \"production\"", "environment = \"test\"");
        let config = Config::parse(&text, Path::new("/etc/idr-site/idr-site.toml")).expect("shipped file loads");
        assert_eq!(config.files.trust, Path::new("/etc/idr-site/trust.toml"));
        assert_eq!(config.storage.path, Path::new("/var/lib/idr-site"));
        assert!(config.inbound.is_empty(), "nobody may send by default");
        assert!(config.dimse.listen.iter().all(|a| a.ip().is_loopback()));
    }

    #[test]
    fn environment_has_no_default() {
        assert!(refused(|text| text).contains("environment"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        assert!(refused(|text| format!("enviroment = 1\n{text}")).contains("enviroment"));
    }

    #[test]
    fn a_plain_row_without_addresses_is_refused() {
        let row = "environment = \"test\"\n";
        let error = refused(|text| format!("{row}{text}\n[[inbound]]\nname = \"ct\"\nae_title = \"CT01\"\n"));
        assert!(error.contains("inbound[0].addresses"), "{error}");
    }

    #[test]
    fn who_may_query_in_production_has_a_certificate() {
        let row = "[[inbound]]\nname = \"pacs\"\nae_title = \"PACS\"\naddresses = [\"10.1.2.3\"]\nquery = true\n";
        let error = refused(|text| format!("environment = \"production\"\n{text}\n{row}"));
        assert!(error.contains("inbound[0].query"), "{error}");
        let text = format!("environment = \"production\"\n{SHIPPED}\n{row}tls = \"mutual\"\n");
        assert!(Config::parse(&text, Path::new("/etc/idr-site/idr-site.toml")).expect("allowed").inbound[0].query);
    }

    #[test]
    fn a_row_with_a_drop_folder_alone_needs_no_addresses_and_takes_no_associations() {
        let row = "[[inbound]]\nname = \"cd\"\nae_title = \"CD\"\ndrop_folder = \"drop\"\n";
        let text = SHIPPED.replace("# environment = \"production\"", "environment = \"test\"");
        let config = Config::parse(&format!("{text}\n{row}"), Path::new("/etc/idr-site/idr-site.toml")).expect("allowed");
        assert!(!config.inbound[0].receives());
        assert_eq!(config.inbound[0].drop_folder.as_deref(), Some(Path::new("/etc/idr-site/drop")));
    }

    #[test]
    fn drop_folders_that_overlap_are_refused() {
        let row = |name: &str, folder: &str| format!("[[inbound]]\nname = \"{name}\"\nae_title = \"CD\"\ndrop_folder = \"{folder}\"\n");
        for (first, second) in
            [("/srv/drop", "/srv/drop"), ("/srv/drop", "/srv/drop/b"), ("/srv/a", "/var/lib/idr-site/b"), ("/srv/a", "/")]
        {
            let error = refused(|text| format!("environment = \"test\"\n{text}\n{}{}", row("a", first), row("b", second)));
            assert!(error.contains("inbound[1].drop_folder"), "{error}");
        }
    }

    #[test]
    fn stow_rows_are_told_apart_by_address_certificate_or_tenant() {
        let row = |name: &str, more: &str| format!("[[inbound]]\nname = \"{name}\"\nae_title = \"{name}\"\nstow = true\n{more}\n");
        let certificate = |digit: &str| format!("tls = \"mutual\"\ncertificates = [\"{}\"]", digit.repeat(64));
        let text = SHIPPED.replace("# environment = \"production\"", "environment = \"test\"");
        for (first, second, apart) in [
            ("addresses = [\"10.0.0.0/24\"]", "addresses = [\"10.0.1.0/24\"]", true),
            ("addresses = [\"10.0.0.0/16\"]", "addresses = [\"10.0.1.7\"]", false),
            (&*certificate("a"), &*certificate("b"), true),
            (&*certificate("a"), &*certificate("A"), false),
            ("tls = \"mutual\"", &*certificate("a"), false),
            ("tls = \"mutual\"", "tls = \"mutual\"\ntenant = \"t2\"", true),
            ("addresses = [\"10.0.0.1\"]", "tls = \"mutual\"", false),
        ] {
            let text = format!("{text}\n{}{}", row("A", first), row("B", second));
            let parsed = Config::parse(&text, Path::new("/etc/idr-site/idr-site.toml"));
            assert_eq!(parsed.is_ok(), apart, "{first} | {second}: {:?}", parsed.err().map(|error| error.to_string()));
        }
    }

    #[test]
    fn plain_stow_stays_on_loopback_and_tls_has_a_certificate() {
        let error = refused(|text| format!("environment = \"test\"\n{}", text.replacen("listen = []", "listen = [\"0.0.0.0:8042\"]", 1)));
        assert!(error.contains("stow.listen"), "{error}");
        let tls = |text: String| {
            text.replace(
                "listen_tls = []                                # for example [\"0.0.0.0:8443\"]",
                "listen_tls = [\"0.0.0.0:8443\"] #",
            )
        };
        let error = refused(|text| format!("environment = \"test\"\n{}", tls(text)));
        assert!(error.contains("stow.certificate"), "{error}");
    }

    #[test]
    fn networks_match_by_prefix() {
        for (network, peer, expected) in [
            ("10.1.2.0/24", "10.1.2.3", true),
            ("10.1.2.0/24", "10.1.3.3", false),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("2001:db8::/32", "2001:db8::1", true),
            ("2001:db8::/32", "10.1.2.3", false),
        ] {
            let network = Network::parse(network).expect("valid");
            assert_eq!(network.contains(peer.parse().expect("valid")), expected, "{network:?} {peer}");
        }
        assert!(Network::parse("10.0.0.0/33").is_err());
    }
}

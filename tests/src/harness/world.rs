//! The centre, its sites and everybody's keys in one folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use idr_dimse::association::negotiation::{UserIdentity, UserIdentityType};
use idr_ihe::metadata::PatientId;
use idr_profile::digest::Digest;
use idr_profile::receipt::{Holder, Signer};
use rustls::ClientConfig;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;
use toml::{Table, Value};

use super::files::{Party, copy_rules, edit, list, path, shipped, trust, write};
use super::ports;
use super::program::Program;
use crate::consumer::{Consumer, Requester};
use crate::fixtures::pki::{Identity, Pki, Usage, write_private};
use crate::fixtures::study::{ORGANISATION, Study};
use crate::modality::Modality;

pub(super) const ORGANISATION_CENTRE: &str = "1.2.246.10.12345671";
/// AE title of every site.
const CALLED: &str = "IDRSITE";
/// AE title of the centre.
const CALLED_CENTRE: &str = "IDRCENTRAL";
/// AE title of the hospital's PACS, which stores at the centre itself.
const PACS: &str = "PACS";

type Change = Box<dyn FnOnce(&mut Table) + Send>;

/// What is different from the usual world. The changes see the finished tables and have the last word.
pub struct Plan {
    /// Folder to use, which stays; `None`: a temporary one, removed at the end.
    pub folder: Option<PathBuf>,
    /// Number of sites, at least 1.
    pub sites: usize,
    /// Seconds without a new instance after which a study is complete.
    pub study_quiet_seconds: i64,
    /// Last change of the centre's main file.
    pub central: Change,
    /// Last change of each site's main file.
    pub site: Arc<dyn Fn(&mut Table) + Send + Sync>,
    /// Last change of each site's and the centre's `site-rules.toml`.
    pub site_rules: Arc<dyn Fn(&mut Table) + Send + Sync>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            folder: None,
            sites: 1,
            study_quiet_seconds: 1,
            central: Box::new(|_| {}),
            site: Arc::new(|_| {}),
            site_rules: Arc::new(|_| {}),
        }
    }
}

/// The centre.
pub struct Central {
    /// The process.
    pub program: Program,
    /// Its HTTPS address, which it keeps.
    pub address: SocketAddr,
    /// DICOM over TLS, which it keeps.
    pub dimse: SocketAddr,
}

/// A site.
pub struct Site {
    /// `site.id`.
    pub id: String,
    /// The process.
    pub program: Program,
    /// Plain DICOM address, which it keeps.
    pub dimse: SocketAddr,
    /// DICOM over TLS, which it keeps.
    pub dimse_tls: SocketAddr,
    modality: Arc<ClientConfig>,
}

impl Site {
    /// A modality that sends in plain.
    pub fn modality(&self) -> Modality {
        Modality { address: self.dimse, tls: None, calling: "MODALITY".to_owned(), called: CALLED.to_owned(), identity: None }
    }

    /// A modality that sends over mutual TLS.
    pub fn modality_tls(&self) -> Modality {
        Modality { address: self.dimse_tls, tls: Some(self.modality.clone()), ..self.modality() }
    }
}

/// Everything.
pub struct World {
    folder: PathBuf,
    /// The authorities.
    pub pki: Pki,
    /// The hospital whose sites send.
    pub hospital: Party,
    /// An organisation with another register.
    pub other: Party,
    /// TLS client certificate of the hospital's modalities.
    pub modality: Identity,
    /// TLS client certificate of a PACS that registers documents itself (ITI-41).
    pub pacs: Identity,
    /// The centre.
    pub central: Central,
    /// The sites.
    pub sites: Vec<Site>,
    /// Removed after the programs have ended: fields are dropped in order.
    _temporary: Option<TempDir>,
}

impl World {
    /// Writes keys and configuration; starts nothing.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn prepare(plan: Plan) -> anyhow::Result<Self> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let temporary = if plan.folder.is_some() { None } else { Some(TempDir::with_prefix("idr-")?) };
        let folder = plan.folder.clone().or_else(|| temporary.as_ref().map(|t| t.path().to_owned())).context("a folder")?;
        std::fs::create_dir_all(&folder)?;
        let folder = folder.canonicalize()?;
        let pki = Pki::create(&folder.join("keys"))?;
        let hospital = Party::issue_hospital(&pki)?;
        let other = Party::issue_other(&pki)?;
        let modality = pki.issue("modality", ORGANISATION, Usage::Client)?;
        let pacs = pki.issue("pacs", ORGANISATION, Usage::Client)?;
        let (address, central_dimse) = (ports::free()?, ports::free()?);
        let ids: Vec<String> = (1..=plan.sites).map(|number| format!("site-{number}")).collect();
        let gateways =
            ids.iter().map(|id| pki.issue(&format!("{id}-client"), ORGANISATION, Usage::Client)).collect::<anyhow::Result<Vec<_>>>()?;

        // In the field each side tells the other its public receipt key; here both are made before the first start.
        let mut receipt_keys = vec![receipt_key(&folder.join("central"), ORGANISATION_CENTRE, "central-1")?];
        for id in &ids {
            receipt_keys.push(receipt_key(&folder.join(id), ORGANISATION, id)?);
        }
        let trusted = trust(&pki, &[&hospital, &other], ORGANISATION_CENTRE, &receipt_keys)?;
        let mut rules = shipped("site-rules.toml")?;
        edit(&mut rules, [("parameters.study_quiet_s", plan.study_quiet_seconds.into())]);
        (plan.site_rules)(&mut rules);

        let server = pki.issue("central", ORGANISATION_CENTRE, Usage::Server)?;
        let mut table = shipped("idr-central.toml")?;
        central_table(&mut table, &server, (address, central_dimse));
        let sites_and_viewers = gateways
            .iter()
            .zip(&ids)
            .map(|(gateway, id)| peer(id, &hospital, "C1", gateway, &["STOW-RS", "RAD-68", "ITI-18", "ITI-57", "CUSTODY"]))
            .chain([
                peer(
                    "hospital-viewer",
                    &hospital,
                    "C4",
                    &hospital.viewer,
                    &["ITI-18", "ITI-43", "RAD-69", "WADO-RS", "QIDO-RS", "WADO-URI", "ITI-38", "ITI-39", "RAD-75"],
                ),
                peer(
                    "other-viewer",
                    &other,
                    "C4",
                    &other.viewer,
                    &["ITI-18", "ITI-43", "RAD-69", "WADO-RS", "QIDO-RS", "WADO-URI", "ITI-38", "ITI-39", "RAD-75"],
                ),
                peer("hospital-pacs", &hospital, "C4", &pacs, &["ITI-18", "ITI-41", "ITI-43", "C-STORE", "N-ACTION"]),
            ]);
        edit(&mut table, [("peer", Value::Array(sites_and_viewers.collect()))]);
        (plan.central)(&mut table);
        let central = Central {
            program: prepare_program(&folder, "central", "idr-central", &table, &trusted, &rules)?,
            address,
            dimse: central_dimse,
        };

        let mut sites = Vec::new();
        for (id, gateway) in ids.into_iter().zip(gateways) {
            let (dimse, dimse_tls) = (ports::free()?, ports::free()?);
            let listener = pki.issue(&format!("{id}-dimse"), ORGANISATION, Usage::Server)?;
            let mut table = shipped("idr-site.toml")?;
            site_table(&mut table, &id, (dimse, dimse_tls), &listener, &gateway, &hospital, address);
            (plan.site)(&mut table);
            let program = prepare_program(&folder, &id, "idr-site", &table, &trusted, &rules)?;
            let own = folder.join(&id);
            write(&own.join("affinity-domain.toml"), &shipped("affinity-domain.toml")?)?;
            write(&own.join("controller-map.toml"), &controller_map(&hospital)?)?;
            let modality = Arc::new(tls_client(&modality, &pki.tls_anchor(), &[])?);
            sites.push(Site { id, program, dimse, dimse_tls, modality });
        }
        Ok(Self { folder, pki, hospital, other, modality, pacs, central, sites, _temporary: temporary })
    }

    /// Prepares and starts everything.
    ///
    /// # Errors
    /// As [`World::prepare`]; a program does not become ready.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let mut world = Self::prepare(plan)?;
        world.central.program.start().await?;
        for site in &mut world.sites {
            site.program.start().await?;
        }
        Ok(world)
    }

    /// Stops everything in good order.
    ///
    /// # Errors
    /// A program did not end with status 0, or a part of it panicked.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for site in &mut self.sites {
            site.program.stop().await?;
        }
        self.central.program.stop().await?;
        self.check_logs()
    }

    /// Stops everything, and has the programs check what they keep: every object with its digest, receipts and their chain, audit
    /// logs.
    ///
    /// # Errors
    /// A check found something, and what it printed is in the error; or a part of a program panicked.
    pub async fn stop_and_check(mut self) -> anyhow::Result<()> {
        for site in &mut self.sites {
            site.program.stop().await?;
            site.program.command(&["fsck", "--deep"])?;
        }
        self.stop_centre_and_check().await
    }

    /// The same of the centre alone, where the sites have not been started or have ended.
    ///
    /// # Errors
    /// As [`World::stop_and_check`].
    pub async fn stop_centre_and_check(mut self) -> anyhow::Result<()> {
        self.central.program.stop().await?;
        for words in [&["fsck"][..], &["receipt", "verify", "--log"], &["audit", "verify", "--decisions"]] {
            self.central.program.command(words)?;
        }
        self.check_logs()
    }

    /// A task that panics ends alone, and the program goes on: only its log tells. sled may panic over a torn index, which is made
    /// anew.
    fn check_logs(&self) -> anyhow::Result<()> {
        for program in self.sites.iter().map(|site| &site.program).chain([&self.central.program]) {
            let printed = program.printed();
            let panicked = printed.lines().find(|line| line.contains("panicked at") && !line.contains("/sled-"));
            anyhow::ensure!(panicked.is_none(), "{}: {}", program.config().display(), panicked.unwrap_or_default());
        }
        Ok(())
    }

    /// The hospital's PACS, which sends objects of a patient to the centre with this identity.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn pacs_modality(&self, identity: Option<UserIdentity>) -> anyhow::Result<Modality> {
        let tls = Some(Arc::new(tls_client(&self.pacs, &self.pki.tls_anchor(), &[])?));
        let (calling, called) = (PACS.to_owned(), CALLED_CENTRE.to_owned());
        Ok(Modality { address: self.central.dimse, tls, calling, called, identity })
    }

    /// The user identity of the hospital's technical user for a patient: a token bound to the certificate of the PACS.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn pacs_identity(&self, patient: &PatientId) -> anyhow::Result<UserIdentity> {
        let token = Requester::technical(&self.hospital)?.jwt(Some(patient), &self.pacs.der)?;
        Ok(identity(UserIdentityType::Jwt, token))
    }

    /// A modality that sends to the first site over TLS with this certificate.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn modality_with(&self, own: &Identity) -> anyhow::Result<Modality> {
        let tls = Some(Arc::new(tls_client(own, &self.pki.tls_anchor(), &[])?));
        Ok(Modality { tls, ..self.site().modality_tls() })
    }

    /// TLS that shows this certificate, and believes the world's authority.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn tls(&self, own: &Identity) -> anyhow::Result<Arc<ClientConfig>> {
        Ok(Arc::new(tls_client(own, &self.pki.tls_anchor(), &[])?))
    }

    /// An HTTP client that shows this certificate, and believes the world's authority.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn http_client(&self, own: &Identity) -> anyhow::Result<reqwest::Client> {
        let config = tls_client(own, &self.pki.tls_anchor(), &[b"http/1.1"])?;
        Ok(reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build()?)
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The first site.
    pub fn site(&self) -> &Site {
        &self.sites[0]
    }

    /// The first site.
    pub fn site_mut(&mut self) -> &mut Site {
        &mut self.sites[0]
    }

    /// A physician of the hospital, whose register the studies are in.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn viewer(&self) -> anyhow::Result<Consumer> {
        self.consumer(Requester::professional(&self.hospital)?, &self.hospital.viewer)
    }

    /// A physician of the other organisation.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn other_viewer(&self) -> anyhow::Result<Consumer> {
        self.consumer(Requester::professional(&self.other)?, &self.other.viewer)
    }

    /// Records an act of a patient at the centre: `informing`, `consent` or `denial`.
    ///
    /// # Errors
    /// The command refuses.
    pub fn record_declaration(&self, patient: &PatientId, kind: &str) -> anyhow::Result<String> {
        self.central.program.command(&["consent", "record", "--patient", &patient.to_cx(), "--kind", kind])
    }

    /// Digests of all instances in the centre's index, by SOP Instance UID.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn stored_digests(&self) -> anyhow::Result<BTreeMap<String, Digest>> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT sop_instance_uid, digest FROM instances").fetch_all(&mut self.index().await?).await?;
        rows.into_iter().map(|(uid, digest)| Ok((uid, Digest::parse(&digest).context("a digest of 64 hex digits")?))).collect()
    }

    /// Number of instances in the centre's index.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn stored(&self) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM instances").fetch_one(&mut self.index().await?).await?;
        Ok(u64::try_from(count)?)
    }

    async fn index(&self) -> anyhow::Result<SqliteConnection> {
        let options = SqliteConnectOptions::new().filename(self.central.program.state().join("central.db")).read_only(true);
        Ok(SqliteConnection::connect_with(&options).await?)
    }

    /// Reads the centre's index, read-only: each instance has one row, and the digest is that of what was sent.
    ///
    /// # Errors
    /// The database cannot be read; a row is missing or has another digest.
    pub async fn check_stored_once<'a>(&self, studies: impl IntoIterator<Item = &'a Study>) -> anyhow::Result<()> {
        let mut database = self.index().await?;
        for study in studies {
            let rows: Vec<(String, String)> = sqlx::query_as("SELECT sop_instance_uid, digest FROM instances WHERE study_uid = ?")
                .bind(&study.uid)
                .fetch_all(&mut database)
                .await?;
            let stored: BTreeMap<String, String> = rows.iter().cloned().collect();
            let sent: BTreeMap<String, String> =
                study.instances.iter().map(|instance| (instance.sop_instance.clone(), instance.digest().to_string())).collect();
            anyhow::ensure!(rows.len() == stored.len() && stored == sent, "study {}: sent {sent:?}, in the index {rows:?}", study.uid);
        }
        Ok(())
    }

    /// Somebody who connects with this TLS certificate.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn consumer(&self, requester: Requester, tls: &Identity) -> anyhow::Result<Consumer> {
        let config = tls_client(tls, &self.pki.tls_anchor(), &[b"h2", b"http/1.1"])?;
        Consumer::new(self.central.address, config, requester, tls)
    }
}

/// A user identity that asks for no response.
pub fn identity(identity_type: UserIdentityType, primary: String) -> UserIdentity {
    UserIdentity { identity_type, positive_response_requested: false, primary: primary.into_bytes(), secondary: Vec::new() }
}

/// A TLS client with a certificate of the world.
pub(crate) fn tls_client(own: &Identity, anchor: &Path, alpn: &[&[u8]]) -> anyhow::Result<ClientConfig> {
    let (chain, key) = (std::fs::read(&own.certificate)?, std::fs::read(&own.key)?);
    let anchors = idr_profile::tls::certificates(&std::fs::read(anchor)?, "anchor")?;
    Ok(idr_profile::tls::client(&chain, &key, &anchors, &[], alpn)?)
}

/// Makes the receipt key of a program as it would itself, and gives the row of `trust.toml` for it.
fn receipt_key(own: &Path, organisation: &str, node: &str) -> anyhow::Result<Table> {
    use std::os::unix::fs::DirBuilderExt as _;
    let keys = own.join("state/keys");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys)?;
    let der = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_der();
    write_private(&keys.join("receipt.ed25519.pk8"), &der)?;
    let row = Signer::from_pkcs8(&der)?.to_receipt_key(&Holder::new(organisation, node)?);
    Ok(Table::try_from(row)?)
}

/// Writes the folder of one program.
pub(super) fn prepare_program(
    folder: &Path,
    id: &str,
    binary: &'static str,
    main: &Table,
    trust: &Table,
    rules: &Table,
) -> anyhow::Result<Program> {
    let own = folder.join(id);
    std::fs::create_dir_all(own.join("state"))?;
    let config = own.join(format!("{binary}.toml"));
    write(&config, main)?;
    write(&own.join("trust.toml"), trust)?;
    write(&own.join("site-rules.toml"), rules)?;
    copy_rules(&own.join("rules"))?;
    Ok(Program::new(binary, config, own.join("state"), folder.join(format!("{id}.log"))))
}

pub(super) fn central_table(table: &mut Table, server: &Identity, (address, dimse): (SocketAddr, SocketAddr)) {
    edit(
        table,
        [
            ("environment", "test".into()),
            ("revocation", "off".into()),
            ("health_listen", "127.0.0.1:0".into()),
            ("storage.path", "state".into()),
            ("storage.reserve_bytes", RESERVE_BYTES.into()),
            ("https.listen", list([address])),
            ("https.certificate", path(&server.certificate)),
            ("https.key", path(&server.key)),
            ("dimse.listen", list([dimse])),
            ("dimse.local_ae_titles", list([CALLED_CENTRE])),
            ("direct.enabled", true.into()),
        ],
    );
}

pub(super) fn peer(name: &str, party: &Party, model: &str, tls: &Identity, transactions: &[&str]) -> Value {
    let mut row = Table::new();
    edit(
        &mut row,
        [
            ("name", name.into()),
            ("organisation", party.organisation.into()),
            ("model", model.into()),
            ("certificates", list([&tls.sha256])),
            ("transactions", list(transactions)),
            ("ae_titles", list(if transactions.contains(&"C-STORE") { &[PACS][..] } else { &[] })),
        ],
    );
    Value::Table(row)
}

fn site_table(
    table: &mut Table,
    id: &str,
    (dimse, dimse_tls): (SocketAddr, SocketAddr),
    listener: &Identity,
    gateway: &Identity,
    hospital: &Party,
    central: SocketAddr,
) {
    let mut inbound = Table::new();
    edit(
        &mut inbound,
        [
            ("name", "modality".into()),
            ("ae_title", "MODALITY".into()),
            ("addresses", list(["127.0.0.1"])),
            ("tls", "optional".into()),
            ("accession_issuer", format!("{}.12.5", hospital.organisation).into()),
        ],
    );
    edit(
        table,
        [
            ("environment", "test".into()),
            ("site.id", id.into()),
            ("storage.path", "state".into()),
            ("storage.reserve_bytes", RESERVE_BYTES.into()),
            ("dimse.listen", list([dimse])),
            ("dimse.listen_tls", list([dimse_tls])),
            ("dimse.local_ae_titles", list([CALLED])),
            ("dimse.certificate", path(&listener.certificate)),
            ("dimse.key", path(&listener.key)),
            ("manifest.min_interval_seconds", 1.into()),
            ("health.listen", "127.0.0.1:0".into()),
            ("inbound", Value::Array(vec![Value::Table(inbound)])),
            ("centre.url", format!("https://localhost:{}", central.port()).into()),
            ("centre.certificate", path(&gateway.certificate)),
            ("centre.key", path(&gateway.key)),
            ("assertion.issuer", hospital.entity_id().into()),
            ("assertion.technical_user", hospital.software().into()),
            ("assertion.certificate", path(&hospital.signature.certificate)),
            ("assertion.key", path(&hospital.signature.key)),
        ],
    );
}

fn controller_map(hospital: &Party) -> anyhow::Result<Table> {
    let mut table = shipped("controller-map.toml")?;
    let mut row = Table::new();
    edit(
        &mut row,
        [
            ("controller", hospital.controller.into()),
            ("controller_type", "1".into()),
            ("register", hospital.register.into()),
            ("service_unit", hospital.unit().into()),
            ("service_unit_name", "Testisairaala".into()),
        ],
    );
    edit(
        &mut table,
        [
            ("organisation_oids", list([hospital.organisation])),
            ("controllers_own", list([hospital.controller])),
            ("row", Value::Array(vec![Value::Table(row)])),
        ],
    );
    Ok(table)
}

/// Enough for a test machine.
const RESERVE_BYTES: i64 = 64 << 20;

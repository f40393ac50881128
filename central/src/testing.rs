//! Test support: a centre in memory, organisations with their keys, and instances made element by element.

#[path = "../../tests/src/postgres.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "the tests of both programs share it; each uses a part")]
pub mod postgres;
pub mod soap;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use aws_lc_rs::signature::Ed25519KeyPair;
use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use idr_ihe::assertion::{SigningKey, sha256};
use idr_ihe::metadata::{Code, PatientId};
use idr_profile::access::{Claims, Kind, Policy, PolicyFiles, Purpose};
use idr_profile::adt::Sources;
use idr_profile::digest::{Digest, Digester};
use idr_profile::identifier::{Environment, IdentityRules};
use idr_profile::mapping::Slots;
use idr_profile::receipt::{Holder, Signer, Verifier};
use idr_profile::rules::{RuleSets, shipped_files};
use idr_profile::xds::{Errors, XdsRules};
use idr_profile::xua::produce::{self, Production, TechnicalUser, TokenBinding, Upload};
use idr_profile::xua::{Trust, XuaRules};
use jiff::Timestamp;
use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::audit::MemorySink;
use crate::central::{Central, Counters, Places, RECEIVING_MAX, Space};
use crate::config::Config;
use crate::enrolment::Enrolment;
use crate::federation::{self, Federation};
use crate::https;
use crate::https::server::Client;
use crate::objects::Objects;
use crate::revocation::Revocations;
use crate::store::committer::Committer;
use crate::store::receipts::Custody;
use crate::store::{CentralStore, SqliteStore};

/// Organisation whose site stores.
pub const HOSPITAL: &str = "1.2.246.10.90000011";
/// Organisation with another register.
pub const OTHER: &str = "1.2.246.10.90000038";
/// Organisation of the worked example (profile 02 §9).
pub const DISTRICT: &str = "1.2.246.10.12345671";
/// Explicit VR Little Endian.
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
/// CT Image Storage.
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
/// Study of [`Instance::ct`].
pub const STUDY: &str = "1.2.246.10.90000011.77.1";

/// `hl7-sources.toml` of the tests.
const SOURCES: &str = r#"
[[receiver]]
application = "IDR"
facility = "CENTRAL"
[[source]]
application = "HIS"
facility = "A-SAIRAALA"
organisation = "1.2.246.10.90000011"
roots = ["1.2.246.21", "1.2.246.10.90000011"]
may_merge = true
[[source]]
application = "MPI"
facility = "A-SAIRAALA"
organisation = "1.2.246.10.90000011"
roots = ["1.2.246.21", "1.2.246.10.90000011"]
may_merge = true
may_change_hetu = true
priority = 10
[[source]]
application = "RIS"
facility = "A-SAIRAALA"
organisation = "1.2.246.10.90000011"
roots = ["1.2.246.21", "1.2.246.10.90000011"]
"#;

const CONFIG: &str = include_str!("../../configs/idr-central.toml");

/// The hour of every test.
pub fn t0() -> Timestamp {
    "2026-01-20T09:00:00Z".parse().expect("an instant")
}

/// Test patient.
pub fn patient() -> PatientId {
    PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() }
}

/// Another test patient.
pub fn other_patient() -> PatientId {
    PatientId { id: "131052-930V".to_owned(), authority: "1.2.246.21".to_owned() }
}

/// Keys and certificates of one organisation.
pub struct Party {
    pub organisation: &'static str,
    pub key: SigningKey,
    pub certificate: Vec<u8>,
    pub tls: Vec<u8>,
    pub tls_key: SigningKey,
}

/// Keys of a process: made once.
pub struct Pki {
    pub root: Vec<u8>,
    /// Certificate and key of the authority of enrolment, PEM.
    pub enrolment: (String, String),
    pub hospital: Party,
    pub other: Party,
    pub district: Party,
}

impl Pki {
    /// All parties.
    pub fn parties(&self) -> [&Party; 3] {
        [&self.hospital, &self.other, &self.district]
    }
}

pub static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = params("Test root", "1.2.246.10.12345671");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key).expect("signed").der().to_vec();
    let issuer = Issuer::new(params, key);
    let party = |organisation: &'static str| {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = self::params("System signature", organisation).signed_by(&pair, &issuer).expect("signed").der().to_vec();
        let tls_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut tls = self::params("Gateway", organisation);
        tls.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let tls = tls.signed_by(&tls_key, &issuer).expect("signed").der().to_vec();
        let key = |pair: &KeyPair| SigningKey::from_pkcs8(pair.serialized_der()).expect("a supported key");
        Party { organisation, key: key(&pair), certificate, tls, tls_key: key(&tls_key) }
    };
    let enrolment = crate::enrolment::authority::make("Test enrolment", t0()).expect("made");
    Pki { hospital: party(HOSPITAL), other: party(OTHER), district: party(DISTRICT), root, enrolment }
});

fn params(name: &str, organisation: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), organisation);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(2025, 6, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

impl Party {
    /// The connection of this party, as the listener describes it.
    pub fn client(&self) -> Client {
        let certificate = CertificateDer::from(self.tls.clone());
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
        Client { sha256: idr_profile::tls::fingerprint(&certificate).into(), certificate, address }
    }

    /// Controller of the party.
    pub fn controller(&self) -> String {
        format!("{}.19.0", self.organisation)
    }

    /// Claims of the site for a patient.
    pub fn site(&self, patient: &PatientId) -> Claims {
        let user = TechnicalUser {
            issuer: format!("urn:oid:{}", self.organisation),
            oid: format!("{}.12.1", self.organisation),
            name: "site-1".to_owned(),
            organisation: "Testisairaala".to_owned(),
            organisation_id: self.organisation.to_owned(),
            software: format!("{}.12.1", self.organisation),
            site: "site-1".to_owned(),
            home_community: None,
        };
        let upload = Upload {
            controller: self.controller(),
            register: "2".to_owned(),
            specifier: None,
            service_event: None,
            outsourced_authorisation: None,
            unit: None,
            patient: Some(patient.clone()),
        };
        produce::automatic_upload(&user, &upload, &XuaRules::shipped()).expect("codes are shipped")
    }

    /// Claims of a physician in care of a patient.
    pub fn physician(&self, patient: &PatientId) -> Claims {
        let rules = XuaRules::shipped();
        let coded = |(code, system): (&str, &str)| Code { code: code.to_owned(), system: system.to_owned(), display: String::new() };
        let purpose = Purpose::Normal;
        let reason =
            Code { code: "REFERRAL".to_owned(), system: "2.25.90606782813441076564387547608149857321".to_owned(), display: String::new() };
        Claims {
            kind: Kind::Professional,
            purpose,
            purpose_code: coded(rules.purpose_code(purpose, Kind::Professional).expect("shipped")),
            name_id: "90000000001".to_owned(),
            name_qualifier: "urn:oid:1.2.246.537.26".to_owned(),
            name: "Testi Lääkäri".to_owned(),
            role: coded(rules.role_of_kind(Kind::Professional).expect("shipped")),
            unit: Some(format!("{}.10.1", self.organisation)),
            provider_identifier: Some("90000000001".to_owned()),
            care_reason: Some(reason),
            site: None,
            ..self.site(patient)
        }
    }

    /// Claims of the same physician in an emergency.
    pub fn emergency(&self, patient: &PatientId) -> Claims {
        let (rules, purpose) = (XuaRules::shipped(), Purpose::Emergency);
        let (code, system) = rules.purpose_code(purpose, Kind::Professional).expect("shipped");
        let reason = "2.25.82333036399073485655575102941018358447".to_owned();
        Claims {
            purpose,
            purpose_code: Code { code: code.to_owned(), system: system.to_owned(), display: String::new() },
            care_reason: None,
            emergency_reason: Some(Code { code: "LIFE".to_owned(), system: reason, display: String::new() }),
            emergency_text: Some("tajuton tien vieressä".to_owned()),
            ..self.physician(patient)
        }
    }

    /// `Authorization` of a request with these claims.
    pub fn bearer(&self, claims: &Claims, scope: &str) -> String {
        let rules = XuaRules::shipped();
        let mut random = [0; 16];
        rand::rng().fill_bytes(&mut random);
        let context = match claims.kind {
            Kind::Technical => "urn:oasis:names:tc:SAML:2.0:ac:classes:X509",
            _ => "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI",
        };
        let production = Production { claims, audience: rules.audience(), authn_context: context, authn_instant: t0(), now: t0(), random };
        let binding = TokenBinding { signer_sha256: sha256(&self.certificate), tls_sha256: sha256(&self.tls), scope };
        format!("Bearer {}", produce::jwt(&production, &rules, &binding, &self.key).expect("signed"))
    }
}

/// A centre in memory with a temporary object folder.
pub struct World {
    pub central: Arc<Central>,
    pub sink: Arc<MemorySink>,
    pub router: Router,
    pub verifier: Verifier,
    pub folder: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with("", &[]).await
    }

    /// `site_rules`: text of `site-rules.toml`; `changes`: replacements in the main file.
    pub async fn with(site_rules: &str, changes: &[(&str, &str)]) -> Self {
        Self::under(XdsRules::shipped(), site_rules, changes).await
    }

    /// The same under other rules for submissions and queries.
    pub async fn under(xds: XdsRules, site_rules: &str, changes: &[(&str, &str)]) -> Self {
        Self::asking(xds, site_rules, changes, &mut |endpoint, _| anyhow::bail!("nothing is at {endpoint}")).await
    }

    /// The same with the way to other communities.
    pub async fn asking(xds: XdsRules, site_rules: &str, changes: &[(&str, &str)], connect: federation::Connect<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("objects")).expect("a new folder");
        let objects = Objects::local(&folder.path().join("objects")).expect("an empty folder");
        let config = config(&folder.path().join("idr-central.toml"), changes);
        let federation = Federation::over(&config, connect).expect("every community is connected");
        enrolment_files(folder.path());
        let sink = Arc::new(MemorySink::new());
        let store: Arc<dyn CentralStore> = Arc::new(SqliteStore::memory().await.expect("memory"));
        let holder = Holder::new(&config.central.organisation, &config.central.node).expect("valid");
        let key = Ed25519KeyPair::generate().expect("a key").to_pkcs8v1().expect("PKCS#8");
        let signer = Arc::new(Signer::from_pkcs8(key.as_ref()).expect("a key"));
        let verifier = Verifier::new(&[signer.to_receipt_key(&holder)]).expect("a key");
        let random = || {
            let mut bytes = [0; 10];
            rand::rng().fill_bytes(&mut bytes);
            bytes
        };
        let custody = Custody::new(holder, signer, Arc::new(random));
        let policy_files = policy_files();
        let site_rules = Some(site_rules).filter(|text| !text.is_empty());
        let trust = Trust::parse(&trust(), &mut |_| Err(std::io::Error::other("no files"))).expect("a valid file");
        let enrolment = Enrolment::open(&config, &trust).expect("an authority, or none");
        let central = Arc::new(Central {
            rules: ArcSwap::from_pointee(RuleSets::load(&shipped_files(), site_rules, Environment::Test).expect("valid rules")),
            trust: ArcSwap::from_pointee(trust),
            revocation: ArcSwap::from_pointee(Revocations::off()),
            xua: XuaRules::shipped(),
            policy: Policy::shipped(),
            policy_sha256: policy_files.hash().to_owned(),
            policy_files,
            identity: IdentityRules::shipped(),
            sources: Sources::parse(SOURCES).expect("a valid file"),
            places: Places::new(&xds.concurrency),
            xds,
            errors: Errors::shipped(),
            slots: Slots::default(),
            committer: Committer::start(store.clone(), custody.clone(), Arc::new(t0)),
            store,
            enrolment,
            custody,
            objects,
            audit: sink.clone(),
            space: Space::new(folder.path().to_owned(), 0),
            receiving: Arc::new(tokio::sync::Semaphore::new(RECEIVING_MAX)),
            federation,
            counters: Counters::default(),
            config: Arc::new(config),
            clock: t0,
        });
        Self { router: https::router(central.clone()), central, sink, verifier, folder }
    }

    /// Sends a request as `party` and gives the answer.
    pub async fn send(&self, party: &Party, request: Request<Body>) -> Response<Body> {
        let mut request = request;
        request.extensions_mut().insert(party.client());
        self.router.clone().oneshot(request).await.expect("the router always answers")
    }

    /// Files below the object folder.
    pub fn object_files(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            std::fs::read_dir(folder)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .map(|path| if path.is_dir() { count(&path) } else { 1 })
                .sum()
        }
        count(&self.folder.path().join("objects"))
    }
}

/// The shipped main file as one at `path`, for the test environment, with both parties as peers and some replacements.
pub fn config(path: &std::path::Path, changes: &[(&str, &str)]) -> Config {
    let peers: String = PKI.parties().iter().map(|party| peer(party)).collect();
    let mut text = format!("environment = \"test\"\n{CONFIG}\n{peers}");
    for (from, to) in [("enabled = false", "enabled = true"), ("\"require\"", "\"off\"")].iter().chain(changes) {
        assert!(text.contains(from), "the main file has no {from}");
        text = text.replacen(from, to, 1);
    }
    Config::parse(&text, path).expect("a valid file")
}

/// The files of `[enrol]` and the certificate of the listener.
fn enrolment_files(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let tls = folder.join("tls");
    std::fs::create_dir(&tls).expect("a new folder");
    let (certificate, key) = &PKI.enrolment;
    for (name, text) in [("enrolment.pem", certificate), ("enrolment.key", key), ("server.pem", &pem(&PKI.district.tls))] {
        std::fs::write(tls.join(name), text).expect("written");
        std::fs::set_permissions(tls.join(name), std::fs::Permissions::from_mode(0o600)).expect("ours");
    }
}

/// What the row of each party lists: everything.
pub static LISTED: LazyLock<String> = LazyLock::new(|| listed(&crate::config::TRANSACTIONS));

/// The line of a peer row that lists these.
pub fn listed(names: &[&str]) -> String {
    format!("transactions = [{}]", names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "))
}

fn peer(party: &Party) -> String {
    format!("[[peer]]\nname = \"{0}\"\norganisation = \"{0}\"\nmodel = \"C4\"\nae_titles = [\"PACS\"]\n{1}\n", party.organisation, *LISTED)
}

/// `trust.toml` that believes both parties.
pub fn trust() -> String {
    let mut text = format!(
        "signing_anchors = [\"\"\"{0}\"\"\"]\ntls_anchors = [\"\"\"{0}\"\"\"]\nenrolment_authorities = [\"\"\"{1}\"\"\"]\n",
        pem(&PKI.root),
        PKI.enrolment.0
    );
    for party in PKI.parties() {
        let organisation = party.organisation;
        let certificate = pem(&party.certificate);
        text += &format!(
            "[[organisation]]\noid = \"{organisation}\"\n[[issuer]]\nentity_id = \"urn:oid:{organisation}\"\n\
             organisation = \"{organisation}\"\ncontrollers = [\"{organisation}.19.0\"]\n\
             kinds = [\"professional\", \"technical\"]\nsigning_certificates = [\"\"\"{certificate}\"\"\"]\n"
        );
    }
    text
}

/// An instance: elements of the top level, Explicit VR Little Endian.
#[derive(Clone)]
pub struct Instance {
    elements: std::collections::BTreeMap<(u16, u16), Vec<u8>>,
    pub sop_instance_uid: String,
}

impl Instance {
    /// A CT image of 4 × 4 pixels that no rule finds fault with, number `n` of its series.
    pub fn ct(n: u32) -> Self {
        let uid = format!("{STUDY}.1.{n}");
        let mut made = Self { elements: std::collections::BTreeMap::new(), sop_instance_uid: uid.clone() };
        for (tag, vr, value) in [
            ((0x0008, 0x0005), "CS", "ISO_IR 192"),
            ((0x0008, 0x0008), "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            ((0x0008, 0x0016), "UI", CT),
            ((0x0008, 0x0018), "UI", &uid),
            ((0x0008, 0x0020), "DA", "20260115"),
            ((0x0008, 0x0021), "DA", "20260115"),
            ((0x0008, 0x0023), "DA", "20260115"),
            ((0x0008, 0x0030), "TM", "101530"),
            ((0x0008, 0x0033), "TM", "101530"),
            ((0x0008, 0x0050), "SH", "T042059118706"),
            ((0x0008, 0x0060), "CS", "CT"),
            ((0x0008, 0x0080), "LO", "Testisairaala"),
            ((0x0008, 0x0090), "PN", "Lähettäjä^Testi"),
            ((0x0008, 0x1030), "LO", "AA1AD Pään TT"),
            ((0x0010, 0x0010), "PN", "Öhman^Sanni"),
            ((0x0010, 0x0020), "LO", "010190-900P"),
            ((0x0010, 0x0021), "LO", "1.2.246.21"),
            ((0x0010, 0x0030), "DA", "19900101"),
            ((0x0010, 0x0040), "CS", "F"),
            ((0x0020, 0x000D), "UI", STUDY),
            ((0x0020, 0x000E), "UI", "1.2.246.10.90000011.77.1.1"),
            ((0x0020, 0x0013), "IS", &n.to_string()),
            ((0x0020, 0x0032), "DS", "0\\0\\0"),
            ((0x0020, 0x0037), "DS", "1\\0\\0\\0\\1\\0"),
            ((0x0020, 0x0052), "UI", "1.2.246.10.90000011.77.1.9"),
            ((0x0028, 0x0004), "CS", "MONOCHROME2"),
            ((0x0028, 0x0030), "DS", "0.5\\0.5"),
            ((0x0028, 0x1052), "DS", "-1024"),
            ((0x0028, 0x1053), "DS", "1"),
        ] {
            made.put(tag, vr, value);
        }
        for (tag, value) in [
            ((0x0028, 0x0002), 1),
            ((0x0028, 0x0010), 4),
            ((0x0028, 0x0011), 4),
            ((0x0028, 0x0100), 16),
            ((0x0028, 0x0101), 12),
            ((0x0028, 0x0102), 11),
            ((0x0028, 0x0103), 0_u16),
        ] {
            made.put_number(tag, value);
        }
        made.pixels(&[7; 32])
    }

    /// Sets an element of VR US.
    pub fn put_number(&mut self, tag: (u16, u16), value: u16) {
        self.elements.insert(tag, element(tag, "US", &value.to_le_bytes()));
    }

    /// The data set up to the value of its pixel data, which has `length` bytes and follows.
    pub fn open_pixels(&self, length: usize) -> Vec<u8> {
        let tag = (0x7FE0, 0x0010);
        let mut head: Vec<u8> = self.elements.iter().filter(|(other, _)| **other < tag).flat_map(|(_, bytes)| bytes.clone()).collect();
        head.extend([tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat());
        head.extend(b"OW\0\0");
        head.extend(u32::try_from(length).expect("below 4 GiB").to_le_bytes());
        head
    }

    /// Sets a text element.
    pub fn put(&mut self, tag: (u16, u16), vr: &str, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if vr == "UI" { 0 } else { b' ' });
        }
        self.elements.insert(tag, element(tag, vr, &bytes));
    }

    /// The same with another text element.
    pub fn with(mut self, tag: (u16, u16), vr: &str, value: &str) -> Self {
        self.put(tag, vr, value);
        self
    }

    /// The same of another patient.
    pub fn of(self, patient: &PatientId) -> Self {
        let birth = match patient.id.as_str() {
            "131052-930V" => "19521013",
            _ => "19900101",
        };
        self.with((0x0010, 0x0020), "LO", &patient.id).with((0x0010, 0x0021), "LO", &patient.authority).with((0x0010, 0x0030), "DA", birth)
    }

    /// The same with other pixels.
    pub fn pixels(mut self, pixels: &[u8]) -> Self {
        let tag = (0x7FE0, 0x0010);
        self.elements.insert(tag, element(tag, "OW", pixels));
        self
    }

    /// The data set.
    pub fn data_set(&self) -> Vec<u8> {
        self.elements.values().flatten().copied().collect()
    }

    /// Preamble and file meta.
    pub fn front(&self) -> Vec<u8> {
        let mut meta = Vec::new();
        for (tag, value) in [((2, 2), CT), ((2, 3), &self.sop_instance_uid), ((2, 0x10), EXPLICIT)] {
            let mut bytes = value.as_bytes().to_vec();
            if bytes.len() % 2 == 1 {
                bytes.push(0);
            }
            meta.extend(element(tag, "UI", &bytes));
        }
        let mut front = vec![0; 128];
        front.extend(b"DICM");
        front.extend(element((2, 0), "UL", &u32::try_from(meta.len()).expect("short").to_le_bytes()));
        front.extend(meta);
        front
    }

    /// The Part 10 file.
    pub fn file(&self) -> Vec<u8> {
        [self.front(), self.data_set()].concat()
    }

    /// Digest of profile 01 §3.1.
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::new(EXPLICIT);
        digester.update(&self.data_set());
        digester.finish()
    }
}

/// An element of Explicit VR Little Endian.
pub fn element(tag: (u16, u16), vr: &str, value: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend(vr.as_bytes());
    if matches!(vr, "OW" | "OB" | "SQ" | "UN") {
        out.extend([0, 0]);
        out.extend(u32::try_from(value.len()).expect("below 4 GiB").to_le_bytes());
    } else {
        out.extend(u16::try_from(value.len()).expect("a short value").to_le_bytes());
    }
    out.extend(value);
    out
}

fn policy_files() -> PolicyFiles {
    let (access, xua) = (include_str!("../../configs/rules/base/access.toml"), include_str!("../../configs/rules/base/xua.toml"));
    PolicyFiles::of(&[access], &[xua], &[include_str!("../../configs/rules/base/identity.toml")]).expect("readable")
}

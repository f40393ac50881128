//! Spool, centre, clocks and configuration of one test.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use idr_ihe::assertion::SigningKey;
use idr_profile::identifier::Environment;
use idr_profile::mapping::AffinityDomain;
use idr_profile::outcome::Event;
use idr_profile::receipt::Statement;
use idr_profile::rules::RuleSets;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::centre::{self, Centre, Fuse};
use crate::config::Config;
use crate::forward::clock::Clock;
use crate::forward::credentials::Credentials;
use crate::forward::peer::Failure;
use crate::forward::{Archive, Forward, Link, Maps, Parts, Queue};
use crate::receipts::{self, Receipts};
use crate::spool::catalog::Totals;
use crate::spool::disk::{Disk as _, MemoryDisk};
use crate::spool::files::Hop;
use crate::spool::index::MemoryStore;
use crate::spool::sample::{announced, at, facts, hand_over, holder, signer, tenant};
use crate::spool::{
    Announced, Claim, Entry, MemorySpool, Move, Note, Occurrence, Progress, Refusal, Seen, Spool, SpoolError, SpoolId, State, Stored,
    Study, Tenant, Writer,
};

/// Clocks that are moved by hand. Truth and monotonic time go together; the wall clock may be wrong.
pub struct HandClock {
    gone: Mutex<Duration>,
    wrong: Mutex<SignedDuration>,
}

impl HandClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { gone: Mutex::default(), wrong: Mutex::new(SignedDuration::ZERO) })
    }

    pub fn advance(&self, by: Duration) {
        *self.gone.lock().expect("no panic while held") += by;
    }

    /// The wall clock minus the truth.
    pub fn set_wrong(&self, wrong: SignedDuration) {
        *self.wrong.lock().expect("no panic while held") = wrong;
    }

    pub fn truth(&self) -> Timestamp {
        at(100) + self.monotonic()
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        self.truth() + *self.wrong.lock().expect("no panic while held")
    }

    fn monotonic(&self) -> Duration {
        *self.gone.lock().expect("no panic while held")
    }
}

/// A spool that stops its caller when the fuse blows, before or after the change, and cannot read as often as it is told.
pub struct Fused(pub Arc<dyn Spool>, pub Arc<Fuse>, pub Arc<Mutex<VecDeque<SpoolError>>>);

#[async_trait]
impl Spool for Fused {
    async fn open(&self, announced: Announced) -> Result<Box<dyn Writer>, SpoolError> {
        self.0.open(announced).await
    }
    fn refusing(&self, tenant: &Tenant) -> Option<Refusal> {
        self.0.refusing(tenant)
    }
    async fn claim(&self, claim: Claim) -> Result<Vec<Entry>, SpoolError> {
        self.0.claim(claim).await
    }
    fn give_back(&self, id: SpoolId) {
        self.0.give_back(id);
    }
    async fn advance(&self, moves: Vec<Move>) -> Result<(), SpoolError> {
        self.1.step().await;
        self.0.advance(moves).await?;
        self.1.step().await;
        Ok(())
    }
    async fn advance_seen(&self, moves: Vec<Seen>) -> Result<(), SpoolError> {
        self.1.step().await;
        self.0.advance_seen(moves).await?;
        self.1.step().await;
        Ok(())
    }
    async fn note(&self, note: Note) -> Result<(), SpoolError> {
        self.1.step().await;
        self.0.note(note).await?;
        self.1.step().await;
        Ok(())
    }
    async fn read(&self, id: SpoolId) -> Result<Box<dyn Stored>, SpoolError> {
        if let Some(error) = self.2.lock().expect("no panic while held").pop_front() {
            return Err(error);
        }
        self.0.read(id).await
    }
    async fn keep_header(&self, id: SpoolId, header: bytes::Bytes) -> Result<(), SpoolError> {
        self.1.step().await;
        self.0.keep_header(id, header).await?;
        self.1.step().await;
        Ok(())
    }
    async fn kept_header(&self, id: SpoolId) -> Result<Option<bytes::Bytes>, SpoolError> {
        self.0.kept_header(id).await
    }
    async fn entry(&self, id: SpoolId) -> Result<Option<Entry>, SpoolError> {
        self.0.entry(id).await
    }
    async fn instances(&self, tenant: &Tenant, sop_instance_uid: &str) -> Result<Vec<Entry>, SpoolError> {
        self.0.instances(tenant, sop_instance_uid).await
    }
    async fn handed_over(&self, tenant: &Tenant, inbound: &str, uid: &str) -> Result<Vec<Entry>, SpoolError> {
        self.0.handed_over(tenant, inbound, uid).await
    }
    async fn study(&self, tenant: &Tenant, study_uid: &str) -> Result<Option<Study>, SpoolError> {
        self.0.study(tenant, study_uid).await
    }
    async fn series(&self, tenant: &Tenant, series_uid: &str) -> Result<Vec<Occurrence>, SpoolError> {
        self.0.series(tenant, series_uid).await
    }
    async fn accession(&self, tenant: &Tenant, name: &str) -> Result<Vec<Occurrence>, SpoolError> {
        self.0.accession(tenant, name).await
    }
    async fn members(&self, tenant: &Tenant, study_uid: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        self.0.members(tenant, study_uid, after, limit).await
    }
    async fn in_state(&self, tenant: &Tenant, state: &str, after: Option<SpoolId>, limit: usize) -> Result<Vec<Entry>, SpoolError> {
        self.0.in_state(tenant, state, after, limit).await
    }
    async fn waiting(&self, tenant: &Tenant, last_arrival_before: Timestamp, limit: usize) -> Result<Vec<Study>, SpoolError> {
        self.0.waiting(tenant, last_arrival_before, limit).await
    }
    fn totals(&self) -> Totals {
        self.0.totals()
    }
}

/// One test's world.
pub struct Rig {
    folder: TempDir,
    config: Arc<Config>,
    maps: Arc<Maps>,
    pub spool: MemorySpool,
    /// Of the receipt log and the manifests.
    pub disk: MemoryDisk,
    pub receipts: Arc<Receipts>,
    /// What reading an object meets next.
    unreadable: Arc<Mutex<VecDeque<SpoolError>>>,
    pub centre: Arc<Centre>,
    /// Where instances go by C-STORE.
    pub archive: Option<Arc<Archive>>,
    pub clock: Arc<HandClock>,
}

static RULES: LazyLock<Arc<ArcSwap<RuleSets>>> = LazyLock::new(|| Arc::new(ArcSwap::from_pointee(RuleSets::shipped(Environment::Test))));
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    document.as_ref().to_vec()
});

/// Signs assertions.
pub fn credentials() -> Credentials {
    Credentials::for_tests(SigningKey::from_pkcs8(&KEY).expect("a P-256 key"))
}

/// SOP Instance UID of an instance of a study.
pub fn sop(study: u64, instance: u64) -> String {
    format!("1.2.246.10.12345671.7.{study}.{instance}")
}

/// Study Instance UID.
pub fn study(study: u64) -> String {
    format!("1.2.246.10.12345671.5.{study}")
}

/// A CT header of a test person, explicit little endian, without pixels.
fn data_set(study_uid: &str, sop_instance_uid: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |group: u16, element: u16, vr: &str, value: &str| {
        let mut value = value.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(vr.as_bytes());
        bytes.extend(u16::try_from(value.len()).expect("short").to_le_bytes());
        bytes.extend(value);
    };
    put(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.2");
    put(0x0008, 0x0018, "UI", sop_instance_uid);
    put(0x0008, 0x0020, "DA", "20260115");
    put(0x0008, 0x0030, "TM", "080000");
    put(0x0008, 0x0050, "SH", "T042059118706");
    put(0x0008, 0x0060, "CS", "CT");
    put(0x0008, 0x0080, "LO", "Testisairaala");
    put(0x0010, 0x0010, "PN", "Testi^Tiina");
    put(0x0010, 0x0020, "LO", "010190-900P");
    put(0x0010, 0x0021, "LO", "1.2.246.21");
    put(0x0020, 0x000D, "UI", study_uid);
    put(0x0020, 0x000E, "UI", &format!("{study_uid}.1"));
    bytes
}

/// A sequence of one item, explicit little endian.
fn sequence(group: u16, element: u16, items: &[Vec<u8>]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let items: Vec<u8> = items.iter().flat_map(|item| [&b"\xFE\xFF\x00\xE0"[..], &length(item.len()), item].concat()).collect();
    [&group.to_le_bytes()[..], &element.to_le_bytes(), b"SQ\0\0", &length(items.len()), &items].concat()
}

/// A rejection note (113037), as far as it is read here.
fn note(study_uid: &str, sop_instance_uid: &str, rejects: &[String]) -> Vec<u8> {
    let element = |group: u16, element: u16, vr: &str, value: &str| {
        let odd = if vr == "UI" { "\0" } else { " " };
        let value = [value, if value.len() % 2 == 1 { odd } else { "" }].concat();
        let length = u16::try_from(value.len()).expect("short").to_le_bytes();
        [&group.to_le_bytes()[..], &element.to_le_bytes(), vr.as_bytes(), &length, value.as_bytes()].concat()
    };
    let code = [element(0x0008, 0x0100, "SH", "113037"), element(0x0008, 0x0102, "SH", "DCM")].concat();
    let sops: Vec<Vec<u8>> = rejects.iter().map(|uid| element(0x0008, 0x1155, "UI", uid)).collect();
    let series = sequence(0x0008, 0x1115, &[sequence(0x0008, 0x1199, &sops)]);
    let evidence = [series, element(0x0020, 0x000D, "UI", study_uid)].concat();
    let mut bytes = data_set(study_uid, sop_instance_uid);
    bytes.extend(sequence(0x0040, 0xA043, &[code]));
    bytes.extend(sequence(0x0040, 0xA375, &[evidence]));
    bytes
}

fn receipts_on(disk: &MemoryDisk) -> Arc<Receipts> {
    let parts = receipts::Parts {
        disk: Arc::new(disk.clone()),
        index: Arc::new(MemoryStore::default()),
        holder: holder(),
        signers: vec![signer()],
        random: Box::new(StdRng::seed_from_u64(11)),
        noted: None,
    };
    let (receipts, _) = Receipts::open(parts, |_| {}).and_then(|opened| opened.take_over(Vec::new(), at(0))).expect("an empty disk");
    Arc::new(receipts)
}

impl Rig {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = MemoryDisk::default();
        let receipts = receipts_on(&disk);
        let clock = HandClock::new();
        let map = "revision = 1\n[[row]]\ncontroller = \"1.2.246.10.12345671.19.0\"\ncontroller_type = \"1\"\nregister = \"2\"\n\
                   service_unit = \"1.2.246.10.12345671.10.1\"\n";
        Self {
            config: Arc::new(config(folder.path())),
            maps: {
                let zone = TimeZone::get("Europe/Helsinki").expect("bundled");
                Arc::new(Maps::new(AffinityDomain::shipped(), map, zone, jiff::civil::date(2026, 1, 15)).expect("loads"))
            },
            spool: MemorySpool::new(receipts.clone()),
            centre: Centre::new(clock.clone()),
            archive: None,
            disk,
            receipts,
            unreadable: Arc::default(),
            clock,
            folder,
        }
    }

    /// The spool, as what the fuse stops meets it.
    pub fn fused(&self) -> Arc<dyn Spool> {
        Arc::new(Fused(Arc::new(self.spool.clone()), self.centre.fuse.clone(), self.unreadable.clone()))
    }

    /// A forwarder as it is after a start: it remembers nothing.
    pub fn forward(&self) -> Forward {
        self.spool.restart();
        Forward::new(Parts {
            config: self.config.clone(),
            centre: self.config.centre.clone().expect("configured"),
            rules: RULES.clone(),
            spool: self.fused(),
            receipts: self.receipts.clone(),
            maps: self.maps.clone(),
            tenants: vec![tenant()],
            link: Link {
                peer: self.centre.clone(),
                archive: self.archive.clone(),
                credentials: credentials(),
                centre_keys: centre::keys(),
            },
            clock: self.clock.clone(),
            random: Box::new(StdRng::seed_from_u64(3)),
            disk: Arc::new(self.disk.clone()),
            hop: Hop::Blocking,
        })
    }

    /// The next readings of objects end so.
    pub fn fail_readings(&self, errors: impl IntoIterator<Item = SpoolError>) {
        self.unreadable.lock().expect("no panic while held").extend(errors);
    }

    /// The one manifest that is kept does not hold any more.
    pub fn damage_manifest(&self) {
        let paths = self.disk.paths();
        let mut kept = paths.iter().filter(|path| path.starts_with("manifests"));
        let file = self.disk.open(kept.next().expect("one")).expect("readable");
        assert!(kept.next().is_none(), "one");
        file.set_length(1).expect("ours");
    }

    /// The state folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Hands instances of a study over; they are queued.
    pub async fn receive(&self, of_study: u64, instances: impl IntoIterator<Item = u64>) {
        for instance in instances {
            let (study_uid, sop_instance_uid) = (study(of_study), sop(of_study, instance));
            let announced = Announced { sop_instance_uid: sop_instance_uid.clone(), ..announced(0) };
            let facts = crate::spool::Facts {
                received: self.clock.now(),
                study_uid: study_uid.clone(),
                series_uid: format!("{study_uid}.1"),
                state: State::Queued,
                ..facts(0)
            };
            hand_over(&self.spool, announced, facts, &data_set(&study_uid, &sop_instance_uid)).await.expect("taken");
        }
    }

    /// A rejection note comes and is judged by stage T: it is queued, and what it names stands in no manifest.
    pub async fn reject(&self, of_study: u64, number: u64, rejects: &[u64]) {
        let (study_uid, sop_instance_uid) = (study(of_study), sop(of_study, number));
        let uids: Vec<String> = rejects.iter().map(|instance| sop(of_study, *instance)).collect();
        let data = note(&study_uid, &sop_instance_uid, &uids);
        let announced = Announced {
            sop_instance_uid: sop_instance_uid.clone(),
            sop_class_uid: idr_ihe::manifest::SOP_CLASS_UID.to_owned(),
            ..announced(0)
        };
        let facts = crate::spool::Facts {
            received: self.clock.now(),
            series_uid: format!("{study_uid}.9"),
            study_uid,
            modality: Some("KO".to_owned()),
            state: State::Queued,
            ..facts(0)
        };
        hand_over(&self.spool, announced, facts, &data).await.expect("taken");
        for uid in uids.iter().chain([&sop_instance_uid]) {
            let entry = self.spool.instances(&tenant(), uid).await.expect("readable").remove(0);
            let to = Progress { unlisted: true, ..entry.progress.clone() };
            self.spool.advance(vec![Move { id: entry.id(), to }]).await.expect("moved");
        }
    }

    /// The data set of an instance as it was handed over.
    pub fn bytes_of(&self, of_study: u64, instance: u64) -> Vec<u8> {
        data_set(&study(of_study), &sop(of_study, instance))
    }

    /// Nothing comes to the registry: what is committed stays so.
    pub fn on_commit_only(&self) {
        self.centre.set_down(Some(Failure::Event(Event::ConnectionRefused)));
    }

    /// Every queue once.
    pub async fn once(&self, forward: &Forward) {
        for queue in [Queue::Instances, Queue::Commitments, Queue::Manifests] {
            forward.round(queue, &tenant()).await.expect("a round ends well");
        }
    }

    /// Every queue once, until there is nothing to do at this instant.
    pub async fn settle(&self, forward: &Forward) {
        for _ in 0..200 {
            let mut busy = false;
            for queue in [Queue::Instances, Queue::Commitments, Queue::Manifests] {
                busy |= forward.round(queue, &tenant()).await.expect("a round ends well");
            }
            if !busy {
                return;
            }
        }
        panic!("the forwarder does not come to rest");
    }

    /// Lets time go by, `step` by `step`; at each what is due is done. Ends early when `done` says so.
    pub async fn run_until(&self, forward: &Forward, most: Duration, step: Duration, mut done: impl AsyncFnMut(&Forward) -> bool) -> bool {
        let end = self.clock.monotonic() + most;
        loop {
            forward.watch_round().await;
            self.settle(forward).await;
            if done(forward).await {
                return true;
            }
            if self.clock.monotonic() >= end {
                return false;
            }
            self.clock.advance(step);
        }
    }

    pub async fn run(&self, forward: &Forward, most: Duration, step: Duration) {
        self.run_until(forward, most, step, async |_| false).await;
    }

    pub async fn entry(&self, of_study: u64, instance: u64) -> Entry {
        let found = self.spool.instances(&tenant(), &sop(of_study, instance)).await.expect("readable");
        found.into_iter().next().expect("received")
    }

    pub async fn state(&self, of_study: u64, instance: u64) -> String {
        self.entry(of_study, instance).await.progress.state.to_string()
    }

    pub async fn note(&self, of_study: u64, name: &str) -> Option<String> {
        let found = self.spool.study(&tenant(), &study(of_study)).await.expect("readable").expect("received");
        found.notes.get(name).cloned()
    }

    pub async fn set_note(&self, of_study: u64, name: &str, value: Option<String>) {
        let note = Note { tenant: tenant(), study_uid: study(of_study), name: name.to_owned(), value };
        self.spool.note(note).await.expect("noted");
    }

    /// Whether all objects are in these states, by count.
    pub fn counts(&self, expected: &[(&str, u64)]) -> bool {
        let totals = self.spool.totals();
        let total: u64 = totals.values().map(|amount| amount.objects).sum();
        let of = |state: &str| totals.iter().filter(|((_, name), _)| *name == state).map(|(_, amount)| amount.objects).sum::<u64>();
        expected.iter().all(|(state, objects)| of(state) == *objects) && total == expected.iter().map(|(_, objects)| objects).sum::<u64>()
    }

    pub fn spool_totals(&self) -> Totals {
        self.spool.totals()
    }

    /// Receipts of a study in the log by type: how often R1 … R4.
    pub fn receipts_of(&self, of_study: u64) -> [usize; 4] {
        let all = self.receipts.of_study(&study(of_study)).expect("readable");
        let count = |kind: &str| all.iter().filter(|carried| carried.receipt().kind().to_string() == kind).count();
        ["R1", "R2", "R3", "R4"].map(count)
    }

    /// Document uniqueIds of the R4 in the log.
    pub fn registered_documents(&self, of_study: u64) -> Vec<String> {
        let all = self.receipts.of_study(&study(of_study)).expect("readable");
        let document = |carried: &idr_profile::receipt::Carried| match &carried.receipt().statement {
            Statement::Registration { document_uid, .. } => Some(document_uid.clone()),
            _ => None,
        };
        all.iter().filter_map(document).collect()
    }
}

fn config(folder: &Path) -> Config {
    let text = format!(
        "environment = \"test\"\n\
         [site]\nid = \"site-1\"\norganisation = \"1.2.246.10.12345671\"\norganisation_name = \"Testisairaala\"\n\
         source_oid = \"1.2.246.10.12345671.12.9\"\nrule_sets = [\"base\"]\n\
         [storage]\npath = \"{}\"\n\
         [dimse]\nlocal_ae_titles = [\"IDRSITE\"]\n\
         [centre]\nurl = \"https://centre.example\"\ncertificate = \"client.pem\"\nkey = \"client.key\"\nbatch_instances_max = 4\n\
         [assertion]\nissuer = \"urn:oid:1.2.246.10.12345671\"\ntechnical_user = \"1.2.246.10.12345671.12.9\"\n\
         certificate = \"system.pem\"\nkey = \"system.key\"\n",
        folder.display()
    );
    Config::parse(&text, &folder.join("idr-site.toml")).expect("a configuration")
}

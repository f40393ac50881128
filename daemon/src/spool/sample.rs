//! Objects, keys and spools for tests.

use super::disk::MemoryDisk;
use super::files::{FileSpool, Hop, OpenError, Parts, Recovery, Settings, object, source};
use super::index::{IndexStore, MemoryStore, WAITING_BYTES};
use super::record::{Announced, Cause, Facts, Record, SpoolId, State, Tenant};
use super::{Committed, MemorySpool, Spool, SpoolError};
use crate::receipts::{self, Receipts};
use idr_ihe::metadata::PatientId;
use idr_profile::digest::{Digest, Digester};
use idr_profile::receipt::{Carried, Holder, Ids, Receipt, Signer, Statement};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use std::sync::Arc;

const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";

pub fn tenant() -> Tenant {
    "t1".parse().expect("valid")
}

/// `seconds` after the morning of the tests.
pub fn at(seconds: i64) -> Timestamp {
    let morning: Timestamp = "2026-01-15T06:00:00Z".parse().expect("valid");
    morning + SignedDuration::from_secs(seconds)
}

pub fn announced(n: u64) -> Announced {
    Announced {
        tenant: tenant(),
        inbound: "ct-1".to_owned(),
        calling_ae: "CT1".to_owned(),
        called_ae: "IDRSITE".to_owned(),
        peer_address: Some("10.1.2.3".parse().expect("valid")),
        tls_peer_sha256: Some("ab".repeat(32)),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
        sop_instance_uid: format!("1.2.246.10.12345671.7.{n}"),
        transfer_syntax_uid: EXPLICIT_LE.to_owned(),
    }
}

/// Four objects to a study.
pub fn study_uid(n: u64) -> String {
    format!("1.2.246.10.12345671.5.{}", n / 4)
}

pub fn facts(n: u64) -> Facts {
    Facts {
        received: at(i64::try_from(n).expect("small")),
        study_uid: study_uid(n),
        series_uid: format!("1.2.246.10.12345671.6.{n}"),
        modality: Some("CT".to_owned()),
        patient_id: Some(PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() }),
        accession_present: true,
        accession: None,
        rule_set: "base/1".to_owned(),
        findings: vec!["D404".to_owned()],
        controller: None,
        register: None,
        service_event: None,
        urgent: false,
        state: State::Held(Cause::incomplete()),
    }
}

/// A data set that only object `n` has: its bytes, not a valid one.
pub fn data(n: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    StdRng::seed_from_u64(n).fill_bytes(&mut data);
    data
}

pub fn digest(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new(EXPLICIT_LE);
    digester.update(bytes);
    digester.finish()
}

pub fn holder() -> Holder {
    Holder::new("1.2.246.10.12345671.10.0", "site-1").expect("valid")
}

/// Always the same key (RFC 8410 PKCS#8 of a fixed seed).
pub fn signer() -> Signer {
    let mut pkcs8 = hex::decode("302e020100300506032b657004220420").expect("hex");
    pkcs8.extend([7; 32]);
    Signer::from_pkcs8(&pkcs8).expect("an Ed25519 key")
}

pub fn sealed(n: u64) -> (Record, Carried) {
    let bytes = data(n, 100);
    let record =
        Record { id: SpoolId(n), size_bytes: 100, digest: digest(&bytes), first_r1: None, announced: announced(n), facts: facts(n) };
    let statement = Statement::Acceptance { object: object(&record), source: source(&record.announced) };
    let id = Ids::default().next(at(0), [1; 10]);
    let receipt = Receipt { id, at: at(0), holder: holder(), log_prev: None, statement };
    (record, signer().sign(receipt))
}

/// Opens a spool whose spool and state folders are one disk in memory, all steps in order.
pub fn open(disk: &MemoryDisk, index: &MemoryStore, rebuild: bool) -> Result<(FileSpool, Recovery), OpenError> {
    open_with(disk, index, WAITING_BYTES, rebuild)
}

/// [`open`], with so much of the index waiting in memory.
pub fn open_with(
    disk: &MemoryDisk,
    index: &MemoryStore,
    index_waits_bytes: usize,
    rebuild: bool,
) -> Result<(FileSpool, Recovery), OpenError> {
    let parts = Parts { index_waits_bytes, ..parts(disk, Arc::new(index.clone()), Hop::Inline, rebuild) };
    FileSpool::open(parts, at(1000))
}

pub fn parts(disk: &MemoryDisk, index: Arc<dyn IndexStore>, hop: Hop, rebuild: bool) -> Parts {
    Parts {
        disk: Arc::new(disk.clone()),
        state_disk: Arc::new(disk.clone()),
        index,
        holder: holder(),
        signers: vec![signer()],
        random: Box::new(StdRng::seed_from_u64(11)),
        settings: Settings::default(),
        index_waits_bytes: WAITING_BYTES,
        hop,
        rebuild,
    }
}

pub fn memory_spool() -> MemorySpool {
    MemorySpool::new(memory_receipts())
}

/// Receipts of [`holder`], in an empty log in memory.
pub fn memory_receipts() -> Arc<Receipts> {
    let parts = receipts::Parts {
        disk: Arc::new(MemoryDisk::default()),
        index: Arc::new(MemoryStore::default()),
        holder: holder(),
        signers: vec![signer()],
        random: Box::new(StdRng::seed_from_u64(11)),
        noted: None,
    };
    let (receipts, _) = Receipts::open(parts, |_| {}).and_then(|opened| opened.take_over(Vec::new(), at(0))).expect("an empty disk");
    Arc::new(receipts)
}

/// Hands an object over: writes it in pieces and commits.
pub async fn hand_over(spool: &dyn Spool, announced: Announced, facts: Facts, bytes: &[u8]) -> Result<Committed, SpoolError> {
    let mut writer = spool.open(announced).await?;
    for piece in bytes.chunks(1000) {
        writer.write(piece).await?;
    }
    writer.commit(facts).await
}

/// All bytes of an object.
pub async fn read(spool: &dyn Spool, id: SpoolId) -> Result<Vec<u8>, SpoolError> {
    let mut stored = spool.read(id).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stored.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

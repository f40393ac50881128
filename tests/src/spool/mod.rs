//! The site's spool, used as a library: for programs that ask how it behaves with very many records.
//!
//! [`fill`] makes a spool with any number of records in little time: through the spool's own commit, receipts and all, over
//! a disk that does not sync ([`unsynced`]). [`open`] opens it as the site does.

pub mod unsynced;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use idr_ihe::metadata::PatientId;
use idr_profile::receipt::Holder;
use idr_site::receipts::KeyFile;
use idr_site::spool::disk::{Disk, FileSystem};
use idr_site::spool::files::{Hop, Parts, Settings};
use idr_site::spool::index::{IndexKind, WAITING_BYTES};
use idr_site::spool::{Announced, Committed, Facts, FileSpool, Recovery, Spool, State};
use jiff::Timestamp;
use rand::{RngCore as _, SeedableRng as _};
use unsynced::{Objects, Unsynced};

use crate::fixtures::study::ORGANISATION;

/// Name of the site that the records belong to: the first of a [`crate::harness::World`].
pub const SITE: &str = "site-1";
/// Instances of a study.
const STUDY_INSTANCES: u64 = 250;
/// Commits between two rounds of chores while filling: the receipts that wait for the log are bounded.
const CHORES_EVERY: u64 = 2_000;

/// Opens the spool of a state folder as the site does.
///
/// # Errors
/// As the site.
pub fn open(state: &Path, kind: IndexKind, rebuild: bool) -> anyhow::Result<(FileSpool, Recovery)> {
    open_on(state, kind, Arc::new(FileSystem::open(state, true)?), Hop::Blocking, rebuild)
}

fn open_on(state: &Path, kind: IndexKind, disk: Arc<dyn Disk>, hop: Hop, rebuild: bool) -> anyhow::Result<(FileSpool, Recovery)> {
    let parts = Parts {
        state_disk: Arc::clone(&disk),
        disk,
        index: kind.store(state)?,
        holder: Holder::new(ORGANISATION, SITE)?,
        signers: KeyFile::new(state.join("keys")).load_or_create(true)?,
        random: Box::new(rand::rngs::StdRng::from_os_rng()),
        settings: Settings::default(),
        index_waits_bytes: WAITING_BYTES,
        hop,
        rebuild,
    };
    Ok(FileSpool::open(parts, Timestamp::now())?)
}

/// Makes `records` records, numbered from 0, of queued CT images. Objects are as small as they can be, and with
/// [`Objects::Hollow`] no more than names. Nothing is synced before the end. Blocks.
///
/// # Errors
/// The disk, the index.
pub fn fill(state: &Path, kind: IndexKind, records: u64, objects: Objects, threads: usize) -> anyhow::Result<()> {
    let disk = Arc::new(Unsynced::new(FileSystem::open(state, true)?, objects));
    let (spool, _) = open_on(state, kind, disk, Hop::Inline, false)?;
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1))
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= records {
                            return anyhow::Ok(());
                        }
                        futures::executor::block_on(commit(&spool, number, &number.to_be_bytes()))?;
                        if number % CHORES_EVERY == CHORES_EVERY - 1 {
                            spool.tend(Timestamp::now())?;
                        }
                        if number.is_multiple_of(100 * CHORES_EVERY) {
                            spool.checkpoint()?;
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a filling thread panicked"))?)
    })?;
    spool.close(Timestamp::now()).context("the last checkpoint")
}

/// Commits record `number` with a data set of these bytes.
///
/// # Errors
/// The spool.
pub async fn commit(spool: &dyn Spool, number: u64, bytes: &[u8]) -> anyhow::Result<Committed> {
    let mut writer = spool.open(announced(number)).await?;
    writer.write(bytes).await?;
    Ok(writer.commit(facts(number)).await?)
}

/// As an association of a CT announces it, over TLS: all texts as long as they usually are.
fn announced(number: u64) -> Announced {
    Announced {
        tenant: "default".parse().expect("a tenant"),
        inbound: "modality".to_owned(),
        calling_ae: "CT_RADIOLOGY_2".to_owned(),
        called_ae: "IDRSITE".to_owned(),
        peer_address: Some("10.1.2.3".parse().expect("an address")),
        tls_peer_sha256: Some("ab".repeat(32)),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".to_owned(),
        sop_instance_uid: format!("1.2.246.10.12345671.7.20260115.060000.{number:012}"),
        transfer_syntax_uid: "1.2.840.10008.1.2.1".to_owned(),
    }
}

fn facts(number: u64) -> Facts {
    let study = number / STUDY_INSTANCES;
    Facts {
        received: Timestamp::now(),
        study_uid: format!("1.2.246.10.12345671.5.20260115.060000.{study:08}"),
        series_uid: format!("1.2.246.10.12345671.6.20260115.060000.{study:08}"),
        modality: Some("CT".to_owned()),
        patient_id: Some(PatientId { id: "010190-900P".to_owned(), authority: "1.2.246.21".to_owned() }),
        accession_present: true,
        accession: None,
        rule_set: "fi-2.4.1/1".to_owned(),
        findings: vec!["D404".to_owned()],
        controller: Some(ORGANISATION.to_owned()),
        register: Some("2".to_owned()),
        service_event: None,
        urgent: false,
        state: State::Queued,
    }
}

/// Bytes that no two numbers share and that no disk can compress.
pub fn data(number: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    rand::rngs::StdRng::seed_from_u64(number).fill_bytes(&mut data);
    data
}

//! Kills at random moments of a transfer, and what must be true afterwards.
//!
//! One *batch* is one world: [`MOMENTS_PER_BATCH`] times a study is sent while the site or the centre gets SIGKILL at a moment
//! drawn from the batch's seed; then everything is left to drain. Of every instance that was acknowledged the centre must hold
//! exactly the bytes that were sent, named once by the one Approved manifest of its study.
//!
//! The seed decides victims, waits and studies. When a kill strikes within the programs depends on the machine too: a seed that
//! fails once may need several tries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fixtures::person::Person;
use crate::fixtures::study::{Kind, Recipe, Study};
use crate::harness::{PeakMeter, Plan, World, pss_bytes};
use crate::modality::{Large, Outgoing};
use crate::story::{fetch_and_compare, outgoing, patient_id, registered, send_until_answered, study_registered};

/// Moments in one world.
pub const MOMENTS_PER_BATCH: usize = 10;

/// Longest wait before a kill, milliseconds: about as long as one study takes.
const WAIT_MAX_MS: u64 = 700;

/// Figures of one batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch {
    /// Kills of the site.
    pub site_kills: usize,
    /// Kills of the centre.
    pub central_kills: usize,
    /// Instances acknowledged, found and compared.
    pub instances: usize,
    /// Studies, each with one manifest.
    pub studies: usize,
    /// Transfers that were needed beyond one per study.
    pub repeats: usize,
}

/// Runs one batch.
///
/// # Errors
/// An invariant is broken, or the programs do not recover; the message names the moment.
pub async fn batch(seed: u64, moments: usize) -> anyhow::Result<Batch> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start(Plan::default()).await?;
    let mut figures = Batch::default();
    let mut studies: BTreeMap<u32, Study> = BTreeMap::new();
    for moment in 0..moments {
        let number = 1 + moment as u32;
        let kind = [Kind::Ct, Kind::Dx, Kind::Ecg][random.random_range(0..3)];
        let study =
            Recipe { kind, person: Person::numbered(number), instances: random.random_range(4..16), seed: number, matrix: 128 }.make();
        let mut objects: Vec<Outgoing> = outgoing([&study]).to_vec();
        // Part of an earlier study again, as a device does that lost its own notes: nothing may change by it.
        if let Some(earlier) = studies.values().nth(random.random_range(0..studies.len().max(1))) {
            objects.extend(outgoing([earlier]).iter().take(2).cloned());
        }
        let objects: Arc<[Outgoing]> = objects.into();
        let victim_is_site = random.random_bool(0.5);
        let wait = Duration::from_millis(random.random_range(0..WAIT_MAX_MS));
        let associations = random.random_range(1..4);
        let modality = world.site().modality_tls();
        let sending = tokio::spawn({
            let objects = objects.clone();
            async move { send_until_answered(&modality, &objects, associations, Duration::from_secs(120), |_| {}).await }
        });
        tokio::time::sleep(wait).await;
        let program = if victim_is_site { &mut world.sites[0].program } else { &mut world.central.program };
        let what = || format!("moment {moment}: {} killed after {} ms", if victim_is_site { "site" } else { "centre" }, wait.as_millis());
        program.kill().await.with_context(what)?;
        program.start().await.with_context(what)?;
        let (answers, rounds) = sending.await?.with_context(what)?;
        if victim_is_site {
            figures.site_kills += 1
        } else {
            figures.central_kills += 1
        }
        figures.repeats += rounds - 1;
        for (object, answer) in objects.iter().zip(&answers) {
            ensure!(answer.is_acknowledged(), "{}: {} was refused: {answer:?}", what(), object.sop_instance);
        }
        studies.insert(number, study);
    }
    check(&world, &studies, &mut figures).await?;
    world.stop().await?;
    Ok(figures)
}

async fn check(world: &World, studies: &BTreeMap<u32, Study>, figures: &mut Batch) -> anyhow::Result<()> {
    let viewer = world.viewer()?;
    for study in studies.values() {
        // Exactly one Approved entry, whose manifest names exactly what was sent; then every byte.
        let registered = study_registered(&viewer, study).await?;
        let named: usize = registered.series.iter().map(|(_, instances)| instances.len()).sum();
        let distinct: BTreeSet<&str> = registered.instances();
        ensure!(named == distinct.len(), "the manifest of {} names an instance twice", study.uid);
        fetch_and_compare(&viewer, study, &registered).await?;
        figures.instances += study.instances.len();
        figures.studies += 1;
    }
    world.check_stored_once(studies.values()).await
}

/// Highest proportional set size above the idle one, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Peaks {
    /// Of the site at rest.
    pub site_idle: u64,
    /// Of the site, above that.
    pub site_above_idle: u64,
    /// Of the centre at rest.
    pub central_idle: u64,
    /// Of the centre, above that.
    pub central_above_idle: u64,
}

/// Sends one object of `mebibytes` on each of `associations` at once and follows the memory of both programs until everything
/// is registered.
///
/// # Errors
/// An object is not acknowledged, or does not come back as sent.
pub async fn memory(associations: usize, mebibytes: u32) -> anyhow::Result<Peaks> {
    let world = World::start(Plan::default()).await?;
    let (modality, viewer) = (world.site().modality_tls(), world.viewer()?);
    // At rest means after the first object: caches, pools and the manifest's code are then in memory.
    let warm = Recipe::small(Kind::Ct, Person::numbered(1), 1, 1).make();
    crate::story::send_all(&modality, &outgoing([&warm]), 1).await?;
    study_registered(&viewer, &warm).await?;
    let (site, central) = (world.site().program.pid(), world.central.program.pid());
    let (site_idle, central_idle) = (pss_bytes(site)?, pss_bytes(central)?);
    let (site_meter, central_meter) = (PeakMeter::start(site), PeakMeter::start(central));
    let recipe = |number: usize| Recipe::small(Kind::UsMultiFrame, Person::numbered(number as u32), 1, 100 + number as u32);
    let large: Vec<Outgoing> = (1..=associations).map(|number| Large { recipe: recipe(number), frames: mebibytes }.make()).collect();
    let objects: Arc<[Outgoing]> = large.into();
    crate::story::send_all(&modality, &objects, associations).await?;
    for (number, object) in (1..).zip(objects.iter()) {
        let recipe = recipe(number);
        let patient = patient_id(&recipe.person);
        let registered = registered(&viewer, &patient, &recipe.study_uid(), &BTreeSet::from([object.sop_instance.as_str()])).await?;
        let (series, _) = registered.series.first().context("a series")?;
        let got = viewer.wado_instance(&patient, &recipe.study_uid(), series, &object.sop_instance).await?;
        ensure!(got.digest == Some(object.digest()), "the large object came back changed");
    }
    let peaks = Peaks {
        site_idle,
        site_above_idle: site_meter.finish().saturating_sub(site_idle),
        central_idle,
        central_above_idle: central_meter.finish().saturating_sub(central_idle),
    };
    world.stop().await?;
    Ok(peaks)
}

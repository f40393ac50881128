//! Kills at random moments of a transfer, and what must be true afterwards; and how much memory large objects take.
//!
//! One *batch* is one world: [`MOMENTS_PER_BATCH`] times a study is sent while the site, the centre or both get SIGKILL; then
//! everything is left to drain. Of every instance that was acknowledged the centre must hold exactly the bytes that were sent,
//! named once by the one Approved manifest of its study; and both programs find nothing wrong with what they keep.
//!
//! A kill strikes either while the modality sends, after a number of answers, or up to [`AFTERWARDS_MS`] later, while the site
//! forwards and the centre registers; in half of the batches the site forwards each instance at once. The seed decides victims,
//! moments and studies. Where within the programs a kill strikes depends on the machine too: a seed that fails once may need
//! several tries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use toml::Table;

use crate::fixtures::person::Person;
use crate::fixtures::study::{Kind, Recipe, Study};
use crate::harness::{PeakMeter, Plan, World, edit, pss_bytes};
use crate::modality::{Large, Outgoing};
use crate::poll;
use crate::story::{fetch_and_compare, outgoing, patient_id, registered, send_all, send_until_answered, study_registered};

/// Moments in one world.
pub const MOMENTS_PER_BATCH: usize = 10;

/// Latest kill after the last answer, milliseconds: the quiet period of a study, and time to register it.
pub const AFTERWARDS_MS: u64 = 1_600;

/// Figures of one batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Batch {
    /// Kills of the site.
    pub site_kills: usize,
    /// Kills of the centre.
    pub central_kills: usize,
    /// Kills that left something without an answer, or not yet registered: those that prove something.
    pub struck: usize,
    /// Instances acknowledged, found and compared.
    pub instances: usize,
    /// Studies, each with one manifest.
    pub studies: usize,
}

impl std::ops::AddAssign for Batch {
    fn add_assign(&mut self, other: Self) {
        self.site_kills += other.site_kills;
        self.central_kills += other.central_kills;
        self.struck += other.struck;
        self.instances += other.instances;
        self.studies += other.studies;
    }
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Site,
    Central,
    Both,
}

/// When.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After so many answers.
    Answers(usize),
    /// So long after the last answer.
    Afterwards(Duration),
}

/// Runs one batch.
///
/// # Errors
/// An invariant is broken, or the programs do not recover; the message names the moment.
pub async fn batch(seed: u64, moments: usize) -> anyhow::Result<Batch> {
    let mut random = StdRng::seed_from_u64(seed);
    let early = random.random_bool(0.5);
    let site = Arc::new(move |table: &mut Table| {
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        edit(row, [("forward_early", early.into())]);
    });
    let mut world = World::start(Plan { site, ..Plan::default() }).await?;
    let mut figures = Batch::default();
    let mut studies: BTreeMap<u32, Study> = BTreeMap::new();
    for number in 1..=moments as u32 {
        let kind = [Kind::Ct, Kind::Dx, Kind::Ecg][random.random_range(0..3)];
        let instances = random.random_range(10..40);
        let study = Recipe { kind, person: Person::numbered(number), instances, seed: number, matrix: 256 }.make();
        let mut objects: Vec<Outgoing> = outgoing([&study]).to_vec();
        // Part of an earlier study again, as a device does that lost its own notes: nothing may change by it.
        if let Some(earlier) = studies.values().nth(random.random_range(0..studies.len().max(1))) {
            objects.extend(outgoing([earlier]).iter().take(2).cloned());
        }
        let victim = [Victim::Site, Victim::Site, Victim::Central, Victim::Central, Victim::Both][random.random_range(0..5)];
        let moment = match random.random_bool(0.6) {
            true => Moment::Answers(random.random_range(0..objects.len())),
            false => Moment::Afterwards(Duration::from_millis(random.random_range(0..AFTERWARDS_MS))),
        };
        let associations = random.random_range(1..4);
        strike(&mut world, &objects.into(), associations, victim, moment, &mut figures)
            .await
            .with_context(|| format!("study {number}: {victim:?} killed at {moment:?}"))?;
        studies.insert(number, study);
    }
    check(&world, &studies, &mut figures).await?;
    world.stop_and_check().await?;
    Ok(figures)
}

/// Sends, kills, starts again, and sends what has no answer.
async fn strike(
    world: &mut World,
    objects: &Arc<[Outgoing]>,
    associations: usize,
    victim: Victim,
    moment: Moment,
    figures: &mut Batch,
) -> anyhow::Result<()> {
    let answered = Arc::new(AtomicUsize::new(0));
    let modality = world.site().modality_tls();
    let sending = tokio::spawn({
        let (objects, answered) = (objects.clone(), answered.clone());
        let report = move |_| _ = answered.fetch_add(1, Ordering::Relaxed);
        async move { send_until_answered(&modality, &objects, associations, Duration::from_secs(120), report).await }
    });
    let count = match moment {
        Moment::Answers(count) => count,
        Moment::Afterwards(_) => objects.len(),
    };
    while answered.load(Ordering::Relaxed) < count && !sending.is_finished() {
        tokio::task::yield_now().await;
    }
    if let Moment::Afterwards(wait) = moment {
        tokio::time::sleep(wait).await;
    }
    // What the kill meets: images without an answer, or images that the site still has to bring to the centre.
    let mut struck = answered.load(Ordering::Relaxed) < objects.len();
    if victim != Victim::Site {
        world.central.program.kill().await?;
        struck = struck || unregistered(world)? > 0;
        figures.central_kills += 1;
    }
    if victim != Victim::Central {
        struck = struck || unregistered(world)? > 0;
        world.site_mut().program.kill().await?;
        figures.site_kills += 1;
        world.site_mut().program.start().await?;
    }
    if victim != Victim::Site {
        world.central.program.start().await?;
    }
    figures.struck += usize::from(struck);
    let (answers, _) = sending.await??;
    for (object, answer) in objects.iter().zip(&answers) {
        ensure!(answer.is_acknowledged(), "{} was refused: {answer:?}", object.sop_instance);
    }
    Ok(())
}

/// Objects at the site that are not registered yet.
fn unregistered(world: &World) -> anyhow::Result<u64> {
    let status: serde_json::Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
    let states = status["states"].as_array().context("status names states")?;
    Ok(states.iter().filter(|row| row["state"] != "registered").filter_map(|row| row["objects"].as_u64()).sum())
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
    world.check_stored_once(studies.values()).await?;
    // Nothing is left half done at the site.
    poll::holds("everything at the site is registered", poll::DEADLINE, || unregistered(world).is_ok_and(|left| left == 0)).await
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
    send_all(&modality, &outgoing([&warm]), 1).await?;
    study_registered(&viewer, &warm).await?;
    let (site, central) = (world.site().program.pid(), world.central.program.pid());
    let (site_idle, central_idle) = (pss_bytes(site)?, pss_bytes(central)?);
    let (site_meter, central_meter) = (PeakMeter::start(site), PeakMeter::start(central));
    let recipe = |number: usize| Recipe::small(Kind::UsMultiFrame, Person::numbered(number as u32), 1, 100 + number as u32);
    let large: Vec<Outgoing> = (1..=associations).map(|number| Large { recipe: recipe(number), frames: mebibytes }.make()).collect();
    let objects: Arc<[Outgoing]> = large.into();
    send_all(&modality, &objects, associations).await?;
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

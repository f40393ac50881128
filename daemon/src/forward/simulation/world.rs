//! A node, its centre and its modality: lives one after the other, then everything is healed and drains.

use std::cell::RefCell;
use std::fmt;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use idr_profile::identifier::Environment;
use idr_profile::mapping::AffinityDomain;
use idr_profile::rules::RuleSets;
use idr_profile::xua::Trust;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Wrong;
use super::faults::{Careless, Hasty};
use super::modality::{AE_TITLE, INBOUND, LOCAL_AE_TITLE, Modality, hand_over};
use super::weather::weather;
use crate::admission::{InForce, Ingress};
use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::config::Config;
use crate::forward::clock::Clock as _;
use crate::forward::tests::centre::{self, Centre};
use crate::forward::tests::rig::{Fused, HandClock, credentials};
use crate::forward::{Forward, Link, Maps, Parts, Queue};
use crate::health::Counters;
use crate::query::Query;
use crate::spool::disk::{Disk, Fault, MemoryDisk};
use crate::spool::files::{Hop, Recovery};
use crate::spool::index::{MemoryStore, Remembers, WAITING_BYTES};
use crate::spool::sample::{self, at, tenant};
use crate::spool::{FileSpool, Spool};
use crate::study::Studies;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Looks at the queues at one instant, at most.
const LOOKS_MAX: usize = 400;
/// How long what was healed may take: the daily probe of a hold, and a manifest that was published by a clock a day ahead.
const DRAIN_MAX: Duration = Duration::from_secs(6 * 86_400);

thread_local! {
    /// For what takes its clock as a function; each world has a thread for itself while it lives.
    static CLOCK: RefCell<Option<Arc<HandClock>>> = const { RefCell::new(None) };
}

/// The wall clock of this thread's world.
pub fn wall() -> Timestamp {
    CLOCK.with_borrow(|clock| clock.as_ref().map_or(at(0), |clock| clock.now()))
}

fn monotonic() -> Duration {
    CLOCK.with_borrow(|clock| clock.as_ref().map_or(Duration::ZERO, |clock| clock.monotonic()))
}

static RULES: LazyLock<Arc<RuleSets>> = LazyLock::new(|| Arc::new(RuleSets::shipped(Environment::Test)));
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    Trust::parse(include_str!("../../../../configs/trust.toml"), &mut |_| unreachable!("no file is named")).expect("valid")
});
static MAPS: LazyLock<Arc<Maps>> = LazyLock::new(|| {
    let map = "revision = 1\ncontrollers_own = [\"1.2.246.10.12345671.19.0\"]\n[[row]]\ncontroller = \"1.2.246.10.12345671.19.0\"\ncontroller_type = \"1\"\nregister = \"2\"\n\
               service_unit = \"1.2.246.10.12345671.10.1\"\n";
    let zone = TimeZone::get("Europe/Helsinki").expect("bundled");
    Arc::new(Maps::new(AffinityDomain::shipped(), map, zone, jiff::civil::date(2026, 1, 15)).expect("loads"))
});
static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| config("batch_instances_max = 4"));

/// The configuration of a site, with these keys for its centre.
pub fn config(of_centre: &str) -> Arc<Config> {
    let text = format!(
        "environment = \"test\"\n\
         [site]\nid = \"site-1\"\norganisation = \"1.2.246.10.12345671\"\norganisation_name = \"Testisairaala\"\n\
         source_oid = \"1.2.246.10.12345671.12.9\"\nrule_sets = [\"fi-2.4.1\"]\n\
         [storage]\npath = \"state\"\n\
         [dimse]\nlocal_ae_titles = [\"{LOCAL_AE_TITLE}\"]\n\
         [[inbound]]\nname = \"{INBOUND}\"\ntenant = \"{}\"\nae_title = \"{AE_TITLE}\"\naddresses = [\"127.0.0.1/32\"]\n\
         patient_id_issuer = \"1.2.246.21\"\naccession_issuer = \"1.2.246.10.12345671.12.5\"\n\
         [centre]\nurl = \"https://centre.example\"\ncertificate = \"client.pem\"\nkey = \"client.key\"\n{of_centre}\n\
         [assertion]\nissuer = \"urn:oid:1.2.246.10.12345671\"\ntechnical_user = \"1.2.246.10.12345671.12.9\"\n\
         certificate = \"system.pem\"\nkey = \"system.key\"\n",
        tenant()
    );
    Arc::new(Config::parse(&text, Path::new("/idr-site.toml")).expect("a configuration"))
}

/// Gives this thread a world of its own.
pub fn begin_clock() -> Arc<HandClock> {
    let clock = HandClock::new();
    CLOCK.with_borrow_mut(|of_thread| *of_thread = Some(clock.clone()));
    clock
}

/// How a life ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The power goes at a step of the disk.
    PowerCut(u64),
    /// The process goes at a step of the disk; what the system had not written is written later, or lost with the next power cut.
    Kill(u64),
    /// The process goes between two steps of disk or network.
    KillBetween(i64),
    /// A call of the disk fails; the work goes on, and then the power goes.
    Failing(u64, Fault),
    /// It is stopped in order.
    Stop,
}

/// What an instance must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// At the centre, registered.
    Registered,
    /// Quarantined: the centre refuses it for good.
    Quarantined,
    /// Held: the centre refuses it for good, for a reason of its own.
    Held,
    /// Held with its study.
    HeldWithStudy,
}

/// What happened in worlds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub lives: u64,
    pub power_cuts: u64,
    pub kills: u64,
    pub failing_disks: u64,
    pub clock_steps: u64,
    pub requests: u64,
    pub instances: u64,
    pub set_aside: u64,
    pub manifests: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.failing_disks += other.failing_disks;
        self.clock_steps += other.clock_steps;
        self.requests += other.requests;
        self.instances += other.instances;
        self.set_aside += other.set_aside;
        self.manifests += other.manifests;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives, {} power cuts, {} kills, {} failing disks, {} clock steps; {} requests; {} instances acknowledged, of them {} held or \
             quarantined as the centre refuses them, all others once at the centre in {} manifests",
            self.lives,
            self.power_cuts,
            self.kills,
            self.failing_disks,
            self.clock_steps,
            self.requests,
            self.instances,
            self.set_aside,
            self.manifests
        )
    }
}

/// All of it.
pub struct World {
    pub wrong: Wrong,
    pub random: StdRng,
    pub clock: Arc<HandClock>,
    pub disk: MemoryDisk,
    pub index: MemoryStore,
    pub centre: Arc<Centre>,
    pub modality: RefCell<Modality>,
    /// Of instances that the centre refuses for good.
    pub refused: Vec<(String, Fate)>,
    pub figures: Figures,
}

/// The programs of one life.
pub struct Site {
    pub spool: FileSpool,
    pub ingress: Arc<Ingress>,
    pub studies: Studies,
    pub forward: Forward,
}

impl World {
    pub fn new(seed: u64, wrong: Wrong) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = begin_clock();
        let centre = Centre::new(clock.clone());
        let span = Duration::from_secs(random.random_range(600..30_000));
        let mut modality = Modality::new(&mut random, span);
        modality.hopes = wrong == Wrong::EarlySuccess;
        let mut world = Self {
            wrong,
            clock,
            disk: MemoryDisk::default(),
            index: MemoryStore::default(),
            centre,
            modality: RefCell::new(modality),
            refused: Vec::new(),
            figures: Figures::default(),
            random,
        };
        world.refuse();
        world
    }

    /// In one world of four the centre has something against an instance.
    fn refuse(&mut self) {
        if !self.random.random_bool(0.25) {
            return;
        }
        let uid = {
            let modality = self.modality.borrow();
            modality.images.choose(&mut self.random).expect("some").sop_instance_uid.clone()
        };
        let fate = match self.random.random_range(0..3) {
            0 => {
                self.centre.refuse(&uid, 0xC000);
                Fate::Quarantined
            }
            1 => {
                self.centre.refuse(&uid, 0x0122);
                Fate::Held
            }
            _ => {
                self.centre.warn(&uid, 0xB006);
                Fate::HeldWithStudy
            }
        };
        self.refused.push((uid, fate));
    }

    /// Disk as the programs see it.
    fn seen_disk(&self) -> Arc<dyn Disk> {
        match self.wrong {
            Wrong::FolderSync | Wrong::ReceiptSync => Arc::new(Careless::new(self.disk.clone(), self.wrong)),
            _ => Arc::new(self.disk.clone()),
        }
    }

    /// Opens the spool.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open_spool(&mut self) -> Result<(FileSpool, Recovery), String> {
        let disk = self.seen_disk();
        let parts = crate::spool::files::Parts {
            disk: disk.clone(),
            state_disk: disk,
            random: Box::new(StdRng::seed_from_u64(self.random.random())),
            index_waits_bytes: *[0, 3_000, 20_000, WAITING_BYTES].choose(&mut self.random).expect("some"),
            ..sample::parts(&self.disk, Arc::new(self.index.clone()), Hop::Inline, false)
        };
        FileSpool::open(parts, wall()).map_err(|error| format!("{error:?}"))
    }

    /// Starts the programs.
    ///
    /// # Errors
    /// The disk failed.
    fn open(&mut self) -> Result<(Site, Recovery), String> {
        let (spool, recovery) = self.open_spool()?;
        let fused = Fused(spool.seam(), self.centre.fuse.clone(), Arc::default());
        let seam: Arc<dyn Spool> = match self.wrong {
            Wrong::Hasty => Arc::new(Hasty(Arc::new(fused))),
            _ => Arc::new(fused),
        };
        let of = (&self.centre, &self.clock);
        Ok((Site::over(spool, seam, of, &CONFIG, self.random.random())?, recovery))
    }

    /// From the first life to the drained queue.
    ///
    /// # Errors
    /// The promise that broke.
    pub async fn run(mut self) -> Result<Figures, String> {
        let (seed, worst) = (self.random.random(), *[0.3, 0.7, 1.0].choose(&mut self.random).expect("some"));
        self.centre.set_weather(Some(weather(seed, worst, self.clock.clone())));
        self.centre.fuse.set_pauses(self.random.random());
        for life in 0..self.random.random_range(1..6) {
            self.life().await.map_err(|promise| format!("life {life}: {promise}"))?;
        }
        self.heal().await.map_err(|promise| format!("after everything was healed: {promise}"))?;
        Ok(self.figures)
    }

    async fn life(&mut self) -> Result<(), String> {
        self.figures.lives += 1;
        if self.random.random_bool(0.25) {
            self.step_clock();
        }
        self.centre.fuse.set(i64::MAX);
        let end = self.end();
        let from = self.disk.steps();
        match end {
            End::PowerCut(step) | End::Kill(step) => self.disk.cut_power_at(from + step),
            End::Failing(step, fault) => self.disk.fail(from + step, fault),
            End::KillBetween(step) => self.centre.fuse.set(step),
            End::Stop => {}
        }
        if std::env::var_os("IDR_TELL").is_some() {
            eprintln!("{:?} a life that ends so: {end:?}", self.clock.monotonic());
        }
        let blown = self.centre.fuse.blown.lock().expect("no panic while held").clone();
        let length = Duration::from_secs(self.random.random_range(60..20_000));
        let until = self.clock.monotonic() + length;
        let step = Duration::from_secs(*[1, 10, 60, 600].choose(&mut self.random).expect("some")).max(length / 100);
        let clock_steps = self.random.random_bool(0.15).then(|| self.clock.monotonic() + length.mul_f64(self.random.random()));
        if let Ok((site, _)) = self.open() {
            let tend_seed = self.random.random();
            tokio::select! {
                biased;
                () = blown.cancelled() => {}
                () = self.work(&site, (until, step), clock_steps, tend_seed) => {}
            }
            if matches!(end, End::Stop) {
                site.spool.close(wall()).map_err(|error| format!("a stop in order: {error}"))?;
            }
        }
        self.stop(end);
        self.look_between()?;
        let again = self.clock.monotonic() + Duration::from_secs(self.random.random_range(0..600));
        self.modality.borrow_mut().repeat(again);
        Ok(())
    }

    fn end(&mut self) -> End {
        let random = &mut self.random;
        let most: u64 = *[60, 300, 1_000].choose(random).expect("some");
        let step = random.random_range(1..most);
        match random.random_range(0..9) {
            0 | 1 => End::PowerCut(step),
            2 | 3 => End::Kill(step),
            4 | 5 => End::KillBetween(step.try_into().expect("small")),
            6 => End::Failing(step, Fault::Eio),
            7 => End::Failing(step, Fault::Enospc),
            _ => End::Stop,
        }
    }

    fn stop(&mut self, end: End) {
        let (how, which): (u64, usize) = (self.random.random(), self.random.random_range(0..5));
        let remembers = [Remembers::Everything, Remembers::Persisted, Remembers::Older, Remembers::Nothing, Remembers::Broken];
        match end {
            End::Kill(_) | End::KillBetween(_) => {
                self.figures.kills += 1;
                self.disk = self.disk.killed();
                self.index = self.index.stopped(remembers[which % 3]);
            }
            _ => {
                self.figures.failing_disks += u64::from(matches!(end, End::Failing(..)));
                self.figures.power_cuts += 1;
                self.disk = self.disk.power_cut(how);
                self.index = self.index.stopped(remembers[which]);
            }
        }
    }

    /// Somebody sets the wall clock.
    fn step_clock(&mut self) {
        self.figures.clock_steps += 1;
        let wrong = *[-86_400, -3_700, -61, 0, 0, 61, 3_700, 86_400].choose(&mut self.random).expect("some");
        self.clock.set_wrong(SignedDuration::from_secs(wrong));
    }

    /// Time goes by, step by step; at each what is due is done.
    async fn work(&self, site: &Site, (until, step): (Duration, Duration), clock_steps: Option<Duration>, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let _ = site.forward.reclamp().await;
        let mut clock_steps = clock_steps;
        while self.clock.monotonic() < until && !self.disk.is_dead() {
            if clock_steps.is_some_and(|at| at <= self.clock.monotonic()) {
                clock_steps = None;
                let wrong = *[-86_400, 0, 86_400].choose(&mut random).expect("some");
                self.clock.set_wrong(SignedDuration::from_secs(wrong));
            }
            let _ = self.moment(site).await;
            if random.random_bool(0.7) {
                let _ = site.spool.tend(wall());
            }
            if random.random_bool(0.1) {
                let _ = site.spool.checkpoint();
            }
            self.clock.advance(step);
        }
    }

    /// Everything that is due at this instant, all beside each other, until nothing is.
    ///
    /// # Errors
    /// The last error of a round.
    async fn moment(&self, site: &Site) -> Result<(), String> {
        let mut failed = Ok(());
        for look in 0..LOOKS_MAX {
            if self.disk.is_dead() {
                break;
            }
            let arrivals = async {
                let due = self.modality.borrow_mut().due(self.clock.monotonic());
                futures::future::join_all(due.iter().map(|(at, bytes)| async {
                    let uid = self.modality.borrow().images[*at].sop_instance_uid.clone();
                    let (success, said) = hand_over(&site.ingress, &self.centre.fuse, &uid, bytes).await;
                    let image = &mut self.modality.borrow_mut().images[*at];
                    image.acknowledged |= success;
                    image.said = said;
                }))
                .await
                .len()
            };
            let busy = site.look(look == 0, arrivals).await;
            let busy = busy.unwrap_or_else(|error| {
                failed = Err(error);
                false
            });
            if !busy || failed.is_err() {
                break;
            }
        }
        failed
    }

    /// Nothing is wrong any more: all is handed over, goes to the centre, and nobody does anything about it.
    async fn heal(&mut self) -> Result<(), String> {
        self.centre.set_weather(None);
        self.clock.set_wrong(SignedDuration::ZERO);
        self.centre.fuse.set(i64::MAX);
        let now = self.clock.monotonic();
        for image in self.modality.borrow_mut().images.iter_mut().filter(|image| !image.acknowledged && image.due.is_empty()) {
            image.due.push(now);
        }
        let (site, recovery) = self.open()?;
        self.no_alarm(&recovery)?;
        site.forward.reclamp().await.map_err(|error| error.to_string())?;
        let begin = self.clock.monotonic();
        let mut left;
        loop {
            self.moment(&site).await.map_err(|error| format!("a round on a disk that works: {error}"))?;
            site.spool.tend(wall()).map_err(|error| format!("chores on a disk that works: {error}"))?;
            let gone = self.clock.monotonic() - begin;
            self.modality.borrow_mut().repeat(self.clock.monotonic());
            left = self.left(&site).await?;
            if left.is_none() || gone >= DRAIN_MAX {
                break;
            }
            self.clock.advance(match gone {
                gone if gone < 10 * MINUTE => 10 * SECOND,
                gone if gone < 6 * HOUR => 2 * MINUTE,
                gone if gone < 2 * DAY => 10 * MINUTE,
                _ => HOUR,
            });
        }
        if let Some(left) = left {
            return Err(format!("11 §7.2: it does not drain by itself within {} days: {left}", DRAIN_MAX.as_secs() / 86_400));
        }
        if self.wrong == Wrong::Loses {
            let uid = self.modality.borrow().images[0].sop_instance_uid.clone();
            self.centre.lose(&uid);
        }
        self.drained(&site).await?;
        site.spool.close(wall()).map_err(|error| format!("a stop in order: {error}"))?;
        self.check_log()
    }
}

impl Site {
    /// The programs over an open spool.
    ///
    /// # Errors
    /// The disk failed.
    pub fn over(
        spool: FileSpool,
        seam: Arc<dyn Spool>,
        (centre, clock): (&Arc<Centre>, &Arc<HandClock>),
        config: &Arc<Config>,
        random: u64,
    ) -> Result<Self, String> {
        let (disk, config) = (spool.disk(), config.clone());
        let sets = Arc::new(ArcSwap::new(RULES.clone()));
        let completeness = Completeness::open(config.clone(), disk.clone(), seam.clone(), wall).map_err(|error| error.to_string())?;
        let commitments = Commitments::open(config.clone(), &TRUST, disk.clone(), seam.clone(), wall).map_err(|error| error.to_string())?;
        let query =
            Query::new(config.clone(), &TRUST, sets.clone(), seam.clone(), MAPS.clone(), wall).map_err(|error| error.to_string())?;
        let in_force = InForce { config: config.clone(), rules: RULES.clone(), organisation_oids: MAPS.organisation_oids() };
        let ways_in = (commitments, completeness.clone(), query);
        let ingress = Arc::new(Ingress::new(in_force, seam.clone(), ways_in, Arc::new(Counters::default()), wall));
        let studies = Studies::new(config.clone(), sets.clone(), seam.clone(), vec![tenant()], MAPS.clone(), completeness, wall)
            .with_monotonic(monotonic);
        let forward = Forward::new(Parts {
            centre: config.centre.clone().expect("configured"),
            config,
            rules: sets,
            spool: seam,
            receipts: spool.receipts().clone(),
            maps: MAPS.clone(),
            tenants: vec![tenant()],
            link: Link { peer: centre.clone(), archive: None, credentials: credentials(), centre_keys: centre::keys() },
            clock: clock.clone(),
            random: Box::new(StdRng::seed_from_u64(random)),
            disk,
            hop: Hop::Inline,
        });
        Ok(Self { spool, ingress, studies, forward })
    }

    /// One look at every queue, beside what arrives. Says whether there was anything to do.
    ///
    /// # Errors
    /// The last error of a round.
    pub async fn look(&self, watch: bool, arrivals: impl Future<Output = usize>) -> Result<bool, String> {
        let whose = tenant();
        let round = |queue| self.forward.round(queue, &whose);
        let watch = async {
            if watch {
                self.forward.watch_round().await;
            }
        };
        let (arrived, judged, sent, committed, registered, ()) = futures::join!(
            arrivals,
            self.studies.round(&whose),
            round(Queue::Instances),
            round(Queue::Commitments),
            round(Queue::Manifests),
            watch
        );
        let mut busy = arrived > 0;
        for done in [sent, committed, registered, judged.map(|()| false)] {
            busy |= done.map_err(|error| error.to_string())?;
        }
        Ok(busy)
    }
}

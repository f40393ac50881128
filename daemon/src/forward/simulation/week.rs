//! Seven days without the centre: everything waits, and when it is back everything goes, by itself and in order.
//!
//! The programs are those of [`super::world`], the disk is a folder of the machine with the index that is shipped, the clock is moved by
//! hand. `make soak-week` has 20 000 instances a day, the test suite some.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use idr_profile::outcome::Event;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::modality::hand_over;
use super::world::{Site, begin_clock, config, wall};
use crate::config::Config;
use crate::forward::clock::Clock as _;
use crate::forward::peer::Failure;
use crate::forward::tests::centre::{Call, Centre};
use crate::forward::tests::rig::{Fused, HandClock};
use crate::spool::disk::FileSystem;
use crate::spool::files::Hop;
use crate::spool::index::{IndexKind, MemoryStore};
use crate::spool::{FileSpool, Spool as _, crash, sample};
use crate::test_send::study::Synthetic;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 7;
/// How long the centre takes for an answer.
const ANSWER: Duration = Duration::from_millis(50);
/// The process is killed after so many days.
const KILLED_AFTER: u32 = 4;

/// What comes in the week.
struct Plan {
    studies: Vec<Synthetic>,
    /// When, of which study, which instance; in order.
    due: Vec<(Duration, usize, u32)>,
}

impl Plan {
    fn new(per_day: u32, random: &mut StdRng) -> Self {
        let (mut studies, mut due) = (Vec::new(), Vec::new());
        let date = jiff::civil::date(2026, 1, 15).at(8, 0, 0, 0);
        for day in 0..DAYS {
            let mut left = per_day;
            while left > 0 {
                let instances = random.random_range(1..=(per_day / 100).clamp(4, 200)).min(left);
                left -= instances;
                let mut study = Synthetic::new(instances, false, &date, random);
                study.matrix = 8;
                let begin = DAY * day + Duration::from_secs(random.random_range(0..84_000));
                due.extend((1..=instances).map(|number| (begin + 2 * SECOND * number, studies.len(), number)));
                studies.push(study);
            }
        }
        due.sort_unstable();
        Self { studies, due }
    }
}

/// The node and its centre.
struct Week {
    folder: tempfile::TempDir,
    config: Arc<Config>,
    clock: Arc<HandClock>,
    centre: Arc<Centre>,
}

impl Week {
    fn open(&self, life: u64) -> Site {
        let disk = Arc::new(FileSystem::open(self.folder.path(), true).expect("a folder of ours"));
        let index = IndexKind::default().store(self.folder.path()).expect("a folder of ours");
        let parts = crate::spool::files::Parts {
            disk: disk.clone(),
            state_disk: disk,
            index,
            random: Box::new(StdRng::seed_from_u64(life)),
            ..sample::parts(&crate::spool::disk::MemoryDisk::default(), Arc::new(MemoryStore::default()), Hop::Inline, false)
        };
        let (spool, recovery) = FileSpool::open(parts, wall()).expect("opens");
        let alarms: Vec<_> = recovery.alarms().into_iter().filter(|alarm| !alarm.ends_with("Nothing to do.")).collect();
        assert_eq!(alarms, Vec::<String>::new(), "a start finds nothing that a person must look at");
        let seam = Arc::new(Fused(spool.seam(), self.centre.fuse.clone(), Arc::default()));
        Site::over(spool, seam, (&self.centre, &self.clock), &self.config, life).expect("starts")
    }
}

/// Objects by state, all of one tenant.
fn states(site: &Site) -> BTreeMap<&'static str, u64> {
    site.spool.totals().into_iter().map(|((_, state), amount)| (state, amount.objects)).collect()
}

/// `IDR_PER_DAY`: instances a day, 100.
#[test]
fn a_week_without_the_centre_is_kept_and_drains_by_itself_in_order() {
    let per_day = std::env::var("IDR_PER_DAY").map_or(100, |text| text.parse().expect("IDR_PER_DAY is a number"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
    runtime.block_on(week(per_day));
}

async fn week(per_day: u32) {
    let began = Instant::now();
    let plan = Plan::new(per_day, &mut StdRng::seed_from_u64(7));
    let total = u64::from(per_day) * u64::from(DAYS);
    let clock = begin_clock();
    let week = Week { folder: tempfile::tempdir().expect("a folder"), config: config(""), centre: Centre::new(clock.clone()), clock };
    week.centre.set_down(Some(Failure::Event(Event::ConnectionRefused)));
    let mut site = week.open(1);
    let mut handed: BTreeMap<String, [u8; 32]> = BTreeMap::new();
    let mut next = 0;
    // A few a day need no look every minute.
    let step = if per_day < 1_000 { 10 } else { 1 };
    for minute in (0..DAYS * 24 * 60).step_by(step) {
        let arrivals = async {
            let before = next;
            while let Some((_, study, number)) = plan.due.get(next).filter(|(due, ..)| *due <= week.clock.monotonic()) {
                let (study, uid) = (&plan.studies[*study], plan.studies[*study].instance_uid(*number));
                let bytes = study.data_set(*number);
                let (success, said) = hand_over(&site.ingress, &week.centre.fuse, &uid, &bytes).await;
                assert!(success, "an instance is not taken: {said}");
                handed.insert(uid, Sha256::digest(&bytes).into());
                next += 1;
            }
            next - before
        };
        site.look(true, arrivals).await.expect("a round on a disk that works");
        site.spool.tend(wall()).expect("chores on a disk that works");
        if minute.is_multiple_of(10) {
            site.spool.checkpoint().expect("a checkpoint on a disk that works");
        }
        week.clock.advance(MINUTE * step as u32);
        let gone = minute + step as u32;
        let day = gone / (24 * 60);
        if gone.is_multiple_of(24 * 60) {
            let states = states(&site);
            println!("day {day}: {} handed over, {states:?}; {:.0} s", handed.len(), began.elapsed().as_secs_f64());
            let waits = |state: &&'static str| ["queued", "sending", "held"].contains(state);
            assert!(states.keys().all(waits), "nothing fails and nothing is given up while the centre is away: {states:?}");
            assert_eq!(states.values().sum::<u64>(), handed.len() as u64, "all that was acknowledged is held");
            if day == KILLED_AFTER {
                // Without a stop in order.
                drop(site);
                let opens = Instant::now();
                site = week.open(2);
                site.forward.reclamp().await.expect("a working disk");
                println!("killed, and started again in {:.1} s", opens.elapsed().as_secs_f64());
            }
        }
    }
    assert_eq!(handed.len() as u64, total);
    let probes = week.centre.calls(Call::Store).len();
    println!("away for {DAYS} days: {probes} attempts; {:.0} s", began.elapsed().as_secs_f64());
    assert!(probes < 7 * 24 * 60 * 2, "one probe at a time, never more often than its class allows: {probes}");

    let (back, of_requests) = (week.clock.monotonic(), week.clock.clone());
    week.centre.set_down(None);
    week.centre.fuse.set_pauses(7);
    week.centre.set_weather(Some(Box::new(move |_| {
        of_requests.advance(ANSWER);
        None
    })));
    let (mut first, mut told) = (None, 0);
    loop {
        let busy = site.look(true, async { 0 }).await.expect("a round on a disk that works");
        site.spool.tend(wall()).expect("chores on a disk that works");
        let stored = week.centre.ledger_length();
        if stored > 0 && first.is_none() {
            first = Some(week.clock.monotonic() - back);
        }
        if stored / 10_000 > told {
            told = stored / 10_000;
            println!("{stored} at the centre; {:?}; {:.0} s", states(&site), began.elapsed().as_secs_f64());
        }
        let states = states(&site);
        if states.get("registered") == Some(&total) {
            break;
        }
        let fine = |state: &&'static str| ["queued", "sending", "held", "sent", "committed", "registered"].contains(state);
        assert!(states.keys().all(fine), "nothing fails on its way: {states:?}");
        assert!(week.clock.monotonic() - back < 2 * DAY, "it does not drain by itself: {states:?}");
        if !busy {
            week.clock.advance(SECOND);
        }
    }
    let drained = week.clock.monotonic() - back;
    let first = first.expect("something was stored");
    assert!(first <= 300 * SECOND + MINUTE, "the first success comes within the cap of class net after the return (03 §7.4): {first:?}");

    let ledger = week.centre.ledger();
    assert_eq!(ledger.len() as u64, total, "each once");
    for (uid, sha256) in &ledger {
        assert_eq!(handed.remove(uid).as_ref(), Some(sha256), "bit-identical, and once: {uid}");
        assert_eq!(week.centre.arrivals(uid), 1, "sent once: {uid}");
    }
    assert!(handed.is_empty(), "nothing is lost");
    let mut listed = 0;
    for study in &plan.studies {
        let current = week.centre.current(study.study_uid());
        assert_eq!(current.len(), 1, "one approved manifest of each study");
        assert_eq!(current[0].members.len() as u32, study.instances(), "with all of its instances");
        listed += current[0].members.len() as u64;
        let notes = site.spool.study(&sample::tenant(), study.study_uid()).await.expect("readable").expect("held").notes;
        assert!(["hold", "pending", "r4"].iter().all(|name| !notes.contains_key(*name)), "nothing waits for anybody: {notes:?}");
    }
    assert_eq!(listed, total);
    println!(
        "drained: {total} instances of {} studies in {} h {} min of its time, the first after {} s; 0 failed, 0 lost, 0 duplicates, every manifest after its instances; {:.0} s",
        plan.studies.len(),
        drained.as_secs() / 3600,
        drained.as_secs() / 60 % 60,
        first.as_secs(),
        began.elapsed().as_secs_f64()
    );
    site.spool.close(wall()).expect("a stop in order");
    let receipts = crash::check_log(site.spool.disk(), "the log of receipts");
    assert!(
        crash::acceptances(&receipts).values().all(|count| *count == 1) && crash::acceptances(&receipts).len() as u64 == total,
        "one R1 each"
    );
    println!("{} receipts verify; {:.0} s", receipts.len(), began.elapsed().as_secs_f64());
}

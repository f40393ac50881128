//! Lives of a spool that follow from a seed: work in any order, each life ended by a power cut, a kill or a failing disk, and
//! everything acknowledged so far checked at the beginning of the next.
//!
//! [`crash`](super::crash) ends one story at each of its steps; here the stories differ. `make soak-powerloss` goes through
//! many seeds, the test suite through a few; a seed that fails is named with the command that repeats it.

use super::FileSpool;
use super::crash::{Oracle, World, acceptances};
use super::disk::Fault;
use super::index::WAITING_BYTES;
use super::record::{Cause, State};
use super::sample::at;
use futures::executor::block_on;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Objects of a story, and different bytes that come under one SOP Instance UID.
const OBJECTS: u64 = 9;
const VARIANTS: u64 = 2;

/// How a life ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The power goes at a step of the disk.
    PowerCut(u64),
    /// The process goes at a step; what the system had not written is written later, or lost with the next power cut.
    Kill(u64),
    /// A call fails at a step; the work goes on, and then the power goes.
    Failing(u64, Fault),
    /// It is stopped in order, and the power goes.
    Stop,
}

fn end(random: &mut StdRng) -> End {
    let step = random.random_range(1..150);
    match random.random_range(0..8) {
        0..=2 => End::PowerCut(step),
        3 | 4 => End::Kill(step),
        5 => End::Failing(step, Fault::Eio),
        6 => End::Failing(step, Fault::Enospc),
        _ => End::Stop,
    }
}

async fn work(random: &mut StdRng, oracle: &mut Oracle, spool: &FileSpool) {
    let quarantined = State::Quarantined("D701".parse().expect("valid"));
    let held = State::Held(Cause::incomplete());
    let states = [State::Queued, State::Sent, State::Committed, State::Registered, State::Released, quarantined, held];
    for _ in 0..random.random_range(1..25) {
        let of = (random.random_range(0..OBJECTS), random.random_range(0..VARIANTS));
        match random.random_range(0..12) {
            0..=4 => oracle.hand_over(spool, of.0, of.1).await,
            5..=8 => oracle.advance_variant(spool, of, states.choose(random).expect("some").clone()).await,
            9 => oracle.note(spool, if random.random() { "one" } else { "two" }).await,
            10 => drop(spool.tend(at(2000))),
            _ => drop(spool.checkpoint()),
        }
    }
}

fn live(seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut world = World::seeded(seed);
    let mut oracle = Oracle::default();
    let lives = random.random_range(2..6);
    for life in 0..lives {
        world.index_waits_bytes = *[0, 3_000, 20_000, WAITING_BYTES].choose(random).expect("some");
        let what = format!("seed {seed}, life {life}: SEED={seed} N=1 make soak-powerloss");
        let end = end(random);
        let from = world.disk.steps();
        match end {
            End::PowerCut(step) | End::Kill(step) => world.disk.cut_power_at(from + step),
            End::Failing(step, fault) => world.disk.fail(from + step, fault),
            End::Stop => {}
        }
        if let Ok((spool, _)) = world.open() {
            block_on(work(random, &mut oracle, &spool));
            if matches!(end, End::Stop) {
                spool.close(at(2500)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
        }
        let how = random.random();
        match end {
            End::Kill(_) => world.kill(how),
            _ => world.power_cut(how),
        }
        let (spool, _) = world.check(&oracle, &what);
        spool.close(at(3000)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    // The modality sends again what it got no success for.
    let what = format!("seed {seed}, at the end: SEED={seed} N=1 make soak-powerloss");
    let (spool, _) = world.check(&oracle, &what);
    for (n, variant) in oracle.tried.clone() {
        block_on(oracle.hand_over(&spool, n, variant));
        assert!(oracle.accepted.contains_key(&(n, variant)), "{what}: {n}/{variant} is not taken");
    }
    spool.close(at(4000)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    drop(spool);
    assert!(acceptances(&world.check_receipts(&what)).values().all(|count| *count == 1), "{what}: one R1 for the same bytes");
}

/// `IDR_SEED`: the first, 1; `IDR_SEEDS`: how many, 100.
#[test]
fn what_was_acknowledged_survives_every_life_of_a_seed() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    };
    let (first, count) = (number("IDR_SEED", 1), number("IDR_SEEDS", 100));
    for done in 0..count {
        live(first + done);
        if done % 500 == 499 {
            eprintln!("{} of {count} seeds", done + 1);
        }
    }
}

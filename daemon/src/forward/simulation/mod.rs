//! The whole path of the site in a world that follows from a seed: reception, rules, spool, study rules, forwarder and receipts
//! are the product's; disk, network, centre, clocks and the modality are simulated (docs/simulation.md says it part by part).
//!
//! [`world`] is a node with its lives: each is ended by a power cut, a kill, a failing disk or a stop. [`modality`] hands over
//! and remembers what it was told, [`weather`] is what happens to requests, [`checks`] are the promises of profile 11 §7. After the
//! last life everything is healed and has to drain by itself.
//!
//! A seed decides everything: all runs on one thread, blocking work inline, clocks are moved by hand. `make soak-sim` goes through
//! many seeds, the test suite through a few; [`faults`] shows that a world with a fault is found.

mod checks;
mod faults;
mod modality;
mod weather;
mod week;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Figures, World};

/// What is wrong in a world, to show that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Syncs of folders do nothing.
    FolderSync,
    /// Syncs of the files of the receipt log do nothing.
    ReceiptSync,
    /// What is claimed to be sent is `committed` at once: marked before the answer, and in the manifest before it is there.
    Hasty,
    /// The modality is told of success before the commit.
    EarlySuccess,
    /// The centre loses an instance after its R3.
    Loses,
}

/// One world from its beginning to its end.
///
/// # Errors
/// The promise that broke.
fn run(seed: u64, wrong: Wrong) -> Result<Figures, String> {
    let live = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
        runtime.block_on(async { World::new(seed, wrong).run().await })
    };
    catch_unwind(AssertUnwindSafe(live)).unwrap_or_else(|fault| {
        let text = fault.downcast_ref::<String>().cloned().or_else(|| fault.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a fault: {}", text.unwrap_or_default()))
    })
}

/// `IDR_SEED`: the first, 1; `IDR_SEEDS`: how many, 25.
#[test]
fn every_promise_of_custody_holds_in_every_world() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    };
    let (first, count) = (number("IDR_SEED", 1), number("IDR_SEEDS", 25));
    let (mut sum, mut failed) = (Figures::default(), Vec::new());
    for done in 0..count {
        let seed = first + done;
        match run(seed, Wrong::Nothing) {
            Ok(figures) => sum += figures,
            Err(promise) => {
                eprintln!("seed {seed}: {promise}\n  again: SEED={seed} N=1 make soak-sim");
                failed.push(seed);
            }
        }
        if done % 100 == 99 {
            eprintln!("{} of {count} seeds, {} failed: {sum}", done + 1, failed.len());
        }
    }
    println!("{count} seeds from {first}: {sum}");
    if count >= 25 && failed.is_empty() {
        let happened = [sum.power_cuts, sum.kills, sum.failing_disks, sum.clock_steps, sum.set_aside, sum.manifests];
        assert!(happened.iter().all(|times| *times > 0), "the worlds have become quiet: {sum}");
    }
    assert!(
        failed.is_empty(),
        "promises broke in {} of {count} worlds: seeds {failed:?}; again: SEED=<seed> N=1 make soak-sim",
        failed.len()
    );
}

#[test]
fn a_seed_gives_the_same_world_twice() {
    for seed in 1..4 {
        assert_eq!(
            run(seed, Wrong::Nothing).map(|figures| figures.to_string()),
            run(seed, Wrong::Nothing).map(|figures| figures.to_string())
        );
    }
}

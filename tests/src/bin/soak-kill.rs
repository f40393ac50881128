//! `make soak-kill`: SIGKILL of site and centre at seeded random moments of transfers (see `idr_tests::soak`).
//!
//! Batches of ten moments, each in its own world; batch n has the seed `SEED + n`. A batch that fails prints the command that
//! repeats it, and the run goes on; the exit status is then 1.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use idr_tests::soak::{Batch, MOMENTS_PER_BATCH, batch};

#[derive(Parser)]
struct Arguments {
    /// Kills in all.
    #[arg(long, default_value_t = 200)]
    moments: usize,
    /// Seed of the first batch.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let (mut sum, mut failed, mut left, mut seed) = (Batch::default(), 0, arguments.moments, arguments.seed);
    while left > 0 {
        let moments = left.min(MOMENTS_PER_BATCH);
        let started = Instant::now();
        match batch(seed, moments).await {
            Ok(figures) => {
                println!(
                    "seed {seed}: {} kills of the site, {} of the centre, {} struck work; {} instances of {} studies held once, digests equal, one manifest each ({:.0} s)",
                    figures.site_kills,
                    figures.central_kills,
                    figures.struck,
                    figures.instances,
                    figures.studies,
                    started.elapsed().as_secs_f64()
                );
                sum += figures;
            }
            Err(error) => {
                failed += 1;
                println!("seed {seed}: FAILED: {error:#}\n  again: target/release/soak-kill --moments {moments} --seed {seed}");
            }
        }
        left -= moments;
        seed += 1;
    }
    println!(
        "{} moments, {} of them with images on their way: {} kills of the site, {} of the centre; {} instances of {} studies; {failed} batches failed ({:.0} s)",
        arguments.moments,
        sum.struck,
        sum.site_kills,
        sum.central_kills,
        sum.instances,
        sum.studies,
        begin.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

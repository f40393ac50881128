//! `make soak-memory`: one object of 1 GiB on each of four associations at once; the peaks of both programs.

use std::process::ExitCode;

use clap::Parser;
use idr_tests::soak::memory;

#[derive(Parser)]
struct Arguments {
    /// Associations, one object each.
    #[arg(long, default_value_t = 4)]
    associations: usize,
    /// Size of each object, MiB, at most 4095.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u32,
    /// Highest growth that is in order, MiB.
    #[arg(long, default_value_t = 64)]
    limit: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let begin = std::time::Instant::now();
    let peaks = memory(arguments.associations, arguments.mebibytes).await?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{} objects of {} MiB at once, {:.0} s: site {:.1} MiB at rest, {:.1} MiB above it at the peak; centre {:.1} MiB, {:.1} MiB above it",
        arguments.associations,
        arguments.mebibytes,
        begin.elapsed().as_secs_f64(),
        mib(peaks.site_idle),
        mib(peaks.site_above_idle),
        mib(peaks.central_idle),
        mib(peaks.central_above_idle)
    );
    let good = peaks.site_above_idle.max(peaks.central_above_idle) <= arguments.limit << 20;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

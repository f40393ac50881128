//! `make bench-index`: what a spool with 10⁶ records costs beside one with 10³, for each kind of index.
//!
//! Both spools are filled through their own code over a disk that does not sync (`idr_tests::spool`); the large one has
//! object files without content. Then each is opened by a process of its own on the real, syncing disk, and commits the same
//! objects in turn with the other and with a plain sink, which writes and syncs (fdatasync) the same bytes and nothing else.
//! The order changes with each round; ratios are of pairs of one round. Then the real program starts on the large spool, and
//! a third spool, with whole objects, has its index made again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use idr_site::spool::files::IndexFate;
use idr_site::spool::index::IndexKind;
use idr_tests::harness::{Plan, World, edit, pss_bytes};
use idr_tests::shared::results;
use idr_tests::spool::unsynced::Objects;
use idr_tests::spool::{commit, data, fill, open};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Records of the large spool.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Records of the small spool.
    #[arg(long, default_value_t = 1_000)]
    few: u64,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: u64,
    /// Commits of one spool in a round.
    #[arg(long, default_value_t = 1_000)]
    commits: u64,
    /// Commits at once.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Size of a data set, bytes.
    #[arg(long, default_value_t = 65_536)]
    bytes: usize,
    /// Objects of the spool whose index is made again.
    #[arg(long, default_value_t = 100_000)]
    rebuild: u64,
    /// Kinds of index.
    #[arg(long, value_delimiter = ',', default_value = "sled,redb")]
    index: Vec<String>,
    /// Where the spools are made, some 5 GB for 10⁶ records; absent: `target/idr-tests`.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Keep the folders.
    #[arg(long)]
    keep: bool,
}

/// Parts of the program that run as processes of their own, so that each has its own memory.
#[derive(Subcommand)]
enum Part {
    /// Fills a spool.
    Fill {
        state: PathBuf,
        index: String,
        records: u64,
        #[arg(long)]
        whole: bool,
    },
    /// Opens a spool and commits on command.
    Serve {
        state: PathBuf,
        index: String,
        #[arg(long)]
        rebuild: bool,
    },
}

/// What a serving process says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Opened { seconds: f64, objects: u64, kept: bool },
    Committed(Measured),
    Pss(u64),
}

/// One round of one spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Measured {
    seconds: f64,
    /// Of each commit, milliseconds.
    latencies: Vec<f64>,
}

/// What it is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Asked {
    Commit { first: u64, commits: u64, writers: usize, bytes: usize },
    Pss,
}

fn kind(name: &str) -> anyhow::Result<IndexKind> {
    match name {
        "sled" => Ok(IndexKind::Sled),
        "redb" => Ok(IndexKind::Redb),
        other => anyhow::bail!("no index is called {other}: sled, redb"),
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.part {
        Some(Part::Fill { state, index, records, whole }) => {
            fill(state, kind(index)?, *records, if *whole { Objects::Whole } else { Objects::Hollow }, 2)
        }
        Some(Part::Serve { state, index, rebuild }) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(serve(state, kind(index)?, *rebuild)),
        None => tokio::runtime::Runtime::new()?.block_on(compare(&arguments)),
    }
}

async fn serve(state: &Path, kind: IndexKind, rebuild: bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    let state = state.to_owned();
    let (spool, recovery) = tokio::task::spawn_blocking(move || open(&state, kind, rebuild)).await??;
    let seconds = begin.elapsed().as_secs_f64();
    let objects = spool.seam().totals().values().map(|amount| amount.objects).sum();
    say(&Said::Opened { seconds, objects, kept: recovery.index == IndexFate::Kept })?;
    let stop = tokio_util::sync::CancellationToken::new();
    let chores = tokio::spawn(spool.clone().run(jiff::Timestamp::now, stop.clone()));
    loop {
        let mut line = String::new();
        let line = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line).map(|_| line)).await??;
        if line.is_empty() {
            break;
        }
        match serde_json::from_str(&line)? {
            Asked::Commit { first, commits, writers, bytes } => {
                say(&Said::Committed(commit_many(&spool.seam(), first, commits, writers, bytes).await?))?;
            }
            Asked::Pss => say(&Said::Pss(pss_bytes(std::process::id())?))?,
        }
    }
    stop.cancel();
    Ok(chores.await?)
}

async fn commit_many(
    spool: &Arc<dyn idr_site::spool::Spool>,
    first: u64,
    commits: u64,
    writers: usize,
    bytes: usize,
) -> anyhow::Result<Measured> {
    let objects: Vec<(u64, Vec<u8>)> = (first..first + commits).map(|number| (number, data(number, bytes))).collect();
    let objects = Arc::new(objects);
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (spool, objects, next) = (spool.clone(), objects.clone(), next.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while let Some((number, bytes)) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    commit(&*spool, *number, bytes).await?;
                    latencies.push(begin.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Measured { seconds: begin.elapsed().as_secs_f64(), latencies })
}

/// Writes and syncs the same bytes, one file an object, and nothing else.
fn sink(folder: &Path, first: u64, commits: u64, writers: usize, bytes: usize) -> anyhow::Result<Measured> {
    let objects: Vec<(u64, Vec<u8>)> = (first..first + commits).map(|number| (number, data(number, bytes))).collect();
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(|| {
                    let mut latencies = Vec::new();
                    while let Some((number, bytes)) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let begin = Instant::now();
                        let mut file = std::fs::File::create_new(folder.join(number.to_string()))?;
                        file.write_all(bytes)?;
                        file.sync_data()?;
                        latencies.push(begin.elapsed().as_secs_f64() * 1e3);
                    }
                    anyhow::Ok(latencies)
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.extend(worker.join().map_err(|_| anyhow::anyhow!("a sink thread panicked"))??);
        }
        anyhow::Ok(latencies)
    })?;
    Ok(Measured { seconds: begin.elapsed().as_secs_f64(), latencies })
}

fn say(said: &Said) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(said)?)?;
    Ok(out.flush()?)
}

/// A serving process.
struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
    start_seconds: f64,
    objects: u64,
    kept: bool,
}

impl Server {
    fn start(state: &Path, index: &str, rebuild: bool) -> anyhow::Result<Self> {
        let mut child = part("serve", state, index, &rebuild.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("piped")?);
        match hear(&mut said)? {
            Said::Opened { seconds, objects, kept } => Ok(Self { child, said, start_seconds: seconds, objects, kept }),
            other => anyhow::bail!("{other:?} before the spool was open"),
        }
    }

    fn ask(&mut self, asked: &Asked) -> anyhow::Result<Said> {
        writeln!(self.child.stdin.as_mut().context("piped")?, "{}", serde_json::to_string(asked)?)?;
        hear(&mut self.said)
    }

    fn commit(&mut self, first: u64, arguments: &Arguments) -> anyhow::Result<Measured> {
        let asked = Asked::Commit { first, commits: arguments.commits, writers: arguments.writers, bytes: arguments.bytes };
        match self.ask(&asked)? {
            Said::Committed(measured) => Ok(measured),
            other => anyhow::bail!("{other:?} instead of a measurement"),
        }
    }

    fn pss(&mut self) -> anyhow::Result<f64> {
        match self.ask(&Asked::Pss)? {
            Said::Pss(bytes) => Ok(mib(bytes)),
            other => anyhow::bail!("{other:?} instead of a size"),
        }
    }

    fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        anyhow::ensure!(self.child.wait()?.success(), "the serving process failed");
        Ok(())
    }
}

fn part(name: &str, state: &Path, index: &str, last: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(name).arg(state).arg(index);
    match name {
        // A flag for clap: `whole` and `rebuild` are switches.
        "serve" if last == "false" => {}
        "serve" => drop(command.arg("--rebuild")),
        _ => drop(command.arg(last)),
    }
    command
}

fn hear(said: &mut BufReader<ChildStdout>) -> anyhow::Result<Said> {
    let mut line = String::new();
    said.read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("a serving process ended: {line}"))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// Rate, p50 and p99 of a round.
fn figures(round: &Measured) -> [f64; 3] {
    [round.latencies.len() as f64 / round.seconds, quantile(&round.latencies, 0.5), quantile(&round.latencies, 0.99)]
}

fn medians(rounds: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|at| quantile(&rounds.iter().map(|round| round[at]).collect::<Vec<_>>(), 0.5))
}

fn fill_as_process(state: &Path, index: &str, records: u64, whole: bool) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut command = part("fill", state, index, &records.to_string());
    if whole {
        command.arg("--whole");
    }
    anyhow::ensure!(command.status()?.success(), "filling failed");
    Ok(begin.elapsed())
}

async fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    println!(
        "{} records against {}: {} commits of {} bytes a round, {} at once, {} rounds, in turn; medians, ratios of pairs",
        arguments.records, arguments.few, arguments.commits, arguments.bytes, arguments.writers, arguments.rounds
    );
    for index in &arguments.index {
        kind(index)?;
        let root = tempfile::TempDir::new_in(arguments.folder.clone().map_or_else(results, Ok)?)?;
        let root = if arguments.keep { root.keep() } else { root.path().to_owned() };
        one_kind(arguments, index, &root).await?;
        if !arguments.keep {
            std::fs::remove_dir_all(&root)?;
        }
    }
    Ok(())
}

async fn one_kind(arguments: &Arguments, index: &str, root: &Path) -> anyhow::Result<()> {
    // The configuration of the real program comes first: its receipt key is the spool's.
    let chosen = index.to_owned();
    let site = Arc::new(move |table: &mut toml::Table| edit(table, [("storage.index", chosen.clone().into())]));
    let mut world = World::prepare(Plan { folder: Some(root.join("large")), site, ..Plan::default() })?;
    let large = world.site().program.state().to_owned();
    let (few, whole, plain) = (root.join("few"), root.join("whole"), root.join("sink"));
    for folder in [&few, &whole, &plain] {
        std::fs::create_dir_all(folder)?;
    }
    fill_as_process(&few, index, arguments.few, false)?;
    let filled = fill_as_process(&large, index, arguments.records, false)?;
    println!("\n## {index}\n{} records made in {:.0} s", arguments.records, filled.as_secs_f64());

    let (mut small, mut big) = (Server::start(&few, index, false)?, Server::start(&large, index, false)?);
    anyhow::ensure!(small.kept && big.kept, "a start after a clean stop keeps the index");
    println!("start: {:.2} s with {} records, {:.2} s with {}", small.start_seconds, small.objects, big.start_seconds, big.objects);
    println!("PSS after the start: {:.0} and {:.0} MiB", small.pss()?, big.pss()?);
    let mut rounds: [Vec<[f64; 3]>; 3] = Default::default();
    for round in 0..arguments.rounds {
        // Numbers that no record has.
        let first = arguments.records + round * arguments.commits;
        for turn in 0..3 {
            let target = ((round + turn) % 3) as usize;
            let measured = match target {
                0 => small.commit(first, arguments)?,
                1 => big.commit(first, arguments)?,
                _ => sink(&plain, first, arguments.commits, arguments.writers, arguments.bytes)?,
            };
            rounds[target].push(figures(&measured));
        }
    }
    println!("| | commits/s | p50 ms | p99 ms |\n|---|---|---|---|");
    for (name, rounds) in [("few", &rounds[0]), ("many", &rounds[1]), ("sink", &rounds[2])] {
        let [rate, p50, p99] = medians(rounds);
        println!("| {name} | {rate:.0} | {p50:.2} | {p99:.2} |");
    }
    let ratio = |of: &[[f64; 3]], to: &[[f64; 3]]| {
        let pairs: Vec<_> = of.iter().zip(to).map(|(of, to)| [of[0] / to[0], of[1] / to[1], of[2] / to[2]]).collect();
        medians(&pairs)
    };
    let [rate, p50, p99] = ratio(&rounds[1], &rounds[0]);
    println!("| many : few | {rate:.2} | {p50:.2} | {p99:.2} |");
    let [rate, p50, p99] = ratio(&rounds[1], &rounds[2]);
    println!("| many : sink | {rate:.2} | {p50:.2} | {p99:.2} |");
    println!("PSS after the rounds: {:.0} and {:.0} MiB", small.pss()?, big.pss()?);
    small.stop()?;
    big.stop()?;

    let begin = Instant::now();
    world.site_mut().program.start().await?;
    let listening = begin.elapsed().as_secs_f64();
    let mut peak = 0;
    for _ in 0..100 {
        peak = peak.max(pss_bytes(world.site().program.pid())?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "idr-site with {} queued objects and no centre: listens after {listening:.2} s, PSS at most {:.0} MiB in 10 s",
        arguments.records,
        mib(peak)
    );
    world.site_mut().program.stop().await?;

    if arguments.rebuild > 0 {
        fill_as_process(&whole, index, arguments.rebuild, true)?;
        let mut again = Server::start(&whole, index, true)?;
        anyhow::ensure!(!again.kept && again.objects == arguments.rebuild, "every object is found again");
        let (seconds, objects, pss) = (again.start_seconds, again.objects, again.pss()?);
        println!("rebuild of {objects} objects: {seconds:.1} s, {:.0} objects/s, PSS {pss:.0} MiB", objects as f64 / seconds);
        again.stop()?;
    }
    Ok(())
}

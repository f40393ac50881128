//! `make bench`: how fast the site takes images, beside Debian's `storescp` and Orthanc, with the same sender in turn.
//!
//! Every target gets a fresh folder in the same file system, and the same objects, over plain loopback TCP; targets alternate
//! within each round. The site is as shipped but for its ports and its inbound row; it has no centre, so that only taking is
//! measured. `storescp` does not sync at all, and Orthanc syncs the file but not its directory entry: what they owe when they
//! have answered is not in their figures. Sender and target share the machine: compare ratios of one run only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, free_port};
use idr_tests::modality::{Modality, Outgoing};
use idr_tests::orthanc::Orthanc;
use idr_tests::poll;
use idr_tests::shared::{has_tool, results};
use idr_tests::story::outgoing;

#[derive(Parser)]
struct Arguments {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// CT images of 0.5 MB in a round.
    #[arg(long, default_value_t = 500)]
    images: usize,
    /// Numbers of associations.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    associations: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Site,
    Storescp,
    Orthanc,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Site => "idr-site",
            Self::Storescp => "storescp",
            Self::Orthanc => "Orthanc",
        }
    }
}

/// A running target.
enum Running {
    Site(Box<World>),
    Storescp(Child, SocketAddr, #[expect(dead_code, reason = "keeps the folder until the end")] tempfile::TempDir),
    Orthanc(Orthanc, #[expect(dead_code, reason = "keeps the folder until the end")] tempfile::TempDir),
}

impl Running {
    async fn start(target: Target, folder: &Path) -> anyhow::Result<Self> {
        if target == Target::Site {
            let site = Arc::new(|table: &mut toml::Table| {
                table.remove("centre");
                table.remove("assertion");
            });
            let mut world = World::prepare(Plan { site, folder: Some(unique(folder)?), ..Plan::default() })?;
            world.site_mut().program.start().await?;
            return Ok(Self::Site(Box::new(world)));
        }
        let home = tempfile::TempDir::new_in(folder)?;
        if target == Target::Orthanc {
            let settings = serde_json::json!({
                "SyncStorageArea": true, "StoreMD5ForAttachments": false, "MaximumPduLength": 131072, "DicomThreadsCount": 16,
            });
            return Ok(Self::Orthanc(Orthanc::start(home.path(), settings).await?, home));
        }
        let address = free_port()?;
        let mut command = Command::new("storescp");
        command.args(["--fork", "+B", "-pm", "+xa", "-pdu", "131072", "-od"]).arg(home.path()).arg(address.port().to_string());
        command.env("TCP_NODELAY", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self::Storescp(command.spawn()?, address, home);
        let modality = running.modality();
        poll::until(target.name(), poll::DEADLINE, || async { modality.echo().await.ok() }).await?;
        Ok(running)
    }

    fn modality(&self) -> Modality {
        match self {
            Self::Site(world) => world.site().modality(),
            Self::Orthanc(orthanc, _) => orthanc.modality(),
            Self::Storescp(_, address, _) => {
                Modality { address: *address, tls: None, calling: "MODALITY".to_owned(), called: "IDRSITE".to_owned(), identity: None }
            }
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Site(mut world) => {
                world.site_mut().program.stop().await?;
                std::fs::remove_dir_all(world.folder())?;
            }
            Self::Orthanc(..) => {}
            Self::Storescp(mut child, ..) => {
                child.kill()?;
                child.wait()?;
            }
        }
        Ok(())
    }
}

fn unique(folder: &Path) -> anyhow::Result<PathBuf> {
    Ok(tempfile::TempDir::new_in(folder)?.keep())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = results()?.join("bench");
    std::fs::create_dir_all(&folder)?;
    let mut targets = vec![Target::Site];
    targets.extend([Target::Storescp, Target::Orthanc].into_iter().filter(|target| has_tool(target.name())));
    println!("{} CT images of 0.5 MB a round, {} rounds, targets in turn; medians", arguments.images, arguments.rounds);
    println!("| associations | target | images/s | MB/s | of Orthanc | of storescp |\n|---|---|---|---|---|---|");
    for &associations in &arguments.associations {
        let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); targets.len()];
        let mut megabytes = 0.0;
        for round in 0..arguments.rounds {
            let seed = (1_000 * associations + round) as u32;
            let study = Recipe { matrix: 512, ..Recipe::small(Kind::Ct, Person::numbered(seed), arguments.images, seed) }.make();
            let objects = outgoing([&study]);
            megabytes = objects.iter().map(Outgoing::size_bytes).sum::<u64>() as f64 / 1e6;
            for (target, seconds) in targets.iter().zip(&mut seconds) {
                let running = Running::start(*target, &folder).await?;
                seconds.push(measure(&running.modality(), &objects, associations).await?.as_secs_f64());
                running.stop().await?;
            }
        }
        let medians: Vec<f64> = seconds.into_iter().map(median).collect();
        let of = |target: Target| targets.iter().position(|t| *t == target).map(|index| medians[index]);
        for (target, median) in targets.iter().zip(&medians) {
            let ratio = |other: Option<f64>| other.map_or("–".to_owned(), |other| format!("{:.2}", other / median));
            println!(
                "| {associations} | {} | {:.0} | {:.0} | {} | {} |",
                target.name(),
                arguments.images as f64 / median,
                megabytes / median,
                ratio(of(Target::Orthanc)),
                ratio(of(Target::Storescp))
            );
        }
    }
    println!("idr-site answers after file and directory entry are synced; Orthanc after the file is; storescp syncs nothing.");
    Ok(())
}

async fn measure(modality: &Modality, objects: &Arc<[Outgoing]>, associations: usize) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let transfer = modality.send(objects, associations, |_| {}).await;
    let took = begin.elapsed();
    ensure!(transfer.answers.iter().all(|answer| answer.is_acknowledged()), "{:?}", transfer.failures);
    Ok(took)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

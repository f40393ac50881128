//! `make bench-forward`: how long images take from the sender's first C-STORE until the last is durable at the far end: idr-site →
//! idr-central, beside two Orthancs with each of the means they have, in turn.
//!
//! Images go in by plain C-STORE on loopback; between the two ends everything goes over mutual TLS, and both ends keep what they
//! answer: idr as shipped but for ports, rows, keys and `forward_early` (the manifest, which Orthanc has not, is reported apart),
//! Orthanc with `SyncStorageArea`, and threads, PDU length and batches raised. Orthanc routes each instance when it is stored (a
//! C-STORE each), or a study when it is stable for its least time of 1 s: by C-STORE, to a peer by its REST interface, or by
//! STOW-RS. Sender, both ends and everything else share the machine: compare ratios of one run only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::{Identity, Pki, Usage, write_private};
use idr_tests::fixtures::study::{Kind, ORGANISATION, Recipe};
use idr_tests::harness::{PeakMeter, Plan, World, edit};
use idr_tests::modality::{Modality, Outgoing};
use idr_tests::orthanc::Orthanc;
use idr_tests::poll;
use idr_tests::shared::{has_tool, results};
use idr_tests::story::{outgoing, send_all};
use serde_json::{Value, json};

/// Longest wait for the last object.
const DEADLINE: Duration = Duration::from_secs(300);

/// Unit of processor times in `/proc` on Linux.
const USER_HZ: f64 = 100.0;

#[derive(Parser)]
struct Arguments {
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What is sent.
    #[arg(long, value_delimiter = ',', default_value = "ct,dx,small")]
    workloads: Vec<Workload>,
    /// Who forwards. `peer` and `stow` were not seen to start here: the far Orthanc does not answer over TLS with client certificates.
    #[arg(long, value_delimiter = ',', default_value = "idr,route,study")]
    targets: Vec<Target>,
    /// Associations of the sender.
    #[arg(long, default_value_t = 4)]
    associations: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Workload {
    Ct,
    Dx,
    Small,
}

impl Workload {
    /// Four studies, as four patients make them.
    fn objects(self, round: usize) -> Arc<[Outgoing]> {
        let (kind, matrix, instances) = match self {
            Self::Ct => (Kind::Ct, 512, 125),
            Self::Dx => (Kind::Dx, 2744, 8),
            Self::Small => (Kind::Ct, 100, 750),
        };
        let studies: Vec<_> = (1..=4)
            .map(|number| {
                let seed = (100 * round + number) as u32;
                Recipe { matrix, ..Recipe::small(kind, Person::numbered(seed), instances, seed) }.make()
            })
            .collect();
        outgoing(&studies)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Target {
    /// idr-site → idr-central.
    Idr,
    /// Orthanc: each instance by C-STORE when it is stored.
    Route,
    /// Orthanc: a stable study by C-STORE.
    Study,
    /// Orthanc: a stable study to a peer.
    Peer,
    /// Orthanc: a stable study by STOW-RS.
    Stow,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Idr => "idr-site → idr-central",
            Self::Route => "Orthanc, C-STORE, each instance",
            Self::Study => "Orthanc, C-STORE, stable study",
            Self::Peer => "Orthanc, peer, stable study",
            Self::Stow => "Orthanc, STOW-RS, stable study",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Idr => "",
            Self::Route => r#"function OnStoredInstance(id, tags, meta, origin) SendToModality(id, "sink") end"#,
            Self::Study => {
                r#"function OnStableStudy(id, tags, meta) RestApiPost("/modalities/sink/store", '{"Synchronous":false,"Resources":["' .. id .. '"]}') end"#
            }
            Self::Peer => {
                r#"function OnStableStudy(id, tags, meta) RestApiPost("/peers/sink/store", '{"Synchronous":false,"Resources":["' .. id .. '"]}') end"#
            }
            Self::Stow => {
                r#"function OnStableStudy(id, tags, meta) RestApiPost("/dicom-web/servers/sink/stow", '{"Synchronous":false,"Resources":["' .. id .. '"]}') end"#
            }
        }
    }
}

/// Two ends that run: near, far.
enum Pair {
    Idr(Box<World>),
    Orthanc(Box<[Orthanc; 2]>),
}

impl Pair {
    async fn start(target: Target, folder: &Path) -> anyhow::Result<Self> {
        if target == Target::Idr {
            let site = Arc::new(|table: &mut toml::Table| {
                let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
                edit(row, [("forward_early", true.into())]);
            });
            return Ok(Self::Idr(Box::new(World::start(Plan { site, folder: Some(folder.join("idr")), ..Plan::default() }).await?)));
        }
        let pki = Pki::create(&folder.join("keys"))?;
        let (server, client) = (pki.issue("far", ORGANISATION, Usage::Server)?, pki.issue("near", ORGANISATION, Usage::Client)?);
        let far = Self::far(target, &folder.join("far"), &pki, &server, &client).await?;
        let near = Self::near(target, &folder.join("near"), &pki, &client, &far).await?;
        Ok(Self::Orthanc(Box::new([near, far])))
    }

    async fn far(target: Target, folder: &Path, pki: &Pki, own: &Identity, asks: &Identity) -> anyhow::Result<Orthanc> {
        std::fs::create_dir_all(folder)?;
        let mut settings = tuned();
        if matches!(target, Target::Route | Target::Study) {
            put(&mut settings, dicom_tls(pki, own));
            put(&mut settings, json!({"DicomTlsEnabled": true, "DicomTlsRemoteCertificateRequired": true}));
            return Orthanc::start(folder, settings).await;
        }
        let both = folder.join("far.pem");
        write_private(&both, &[std::fs::read(&own.certificate)?, std::fs::read(&own.key)?].concat())?;
        put(
            &mut settings,
            json!({
                "SslEnabled": true, "SslCertificate": both, "SslVerifyPeers": true, "SslTrustedClientCertificates": pki.tls_anchor(),
            }),
        );
        let anchors = idr_profile::tls::certificates(&std::fs::read(pki.tls_anchor())?, "anchor")?;
        let (chain, key) = (std::fs::read(&asks.certificate)?, std::fs::read(&asks.key)?);
        let tls = idr_profile::tls::client(&chain, &key, &anchors, &[], &[b"http/1.1"])?;
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?;
        Orthanc::start_with(folder, settings, client).await
    }

    async fn near(target: Target, folder: &Path, pki: &Pki, own: &Identity, far: &Orthanc) -> anyhow::Result<Orthanc> {
        std::fs::create_dir_all(folder)?;
        let script = folder.join("route.lua");
        std::fs::write(&script, target.script())?;
        let mut settings = tuned();
        put(&mut settings, dicom_tls(pki, own));
        let sink =
            |path: &str| json!({"Url": format!("{}{path}", far.base()), "CertificateFile": own.certificate, "CertificateKeyFile": own.key});
        put(
            &mut settings,
            json!({
                "LuaScripts": [script], "StableAge": 1, "ConcurrentJobs": 4, "SaveJobs": false,
                "DicomModalities": {"sink": {"AET": far.ae_title, "Host": "127.0.0.1", "Port": far.dicom.port(), "UseDicomTls": true}},
                "HttpsVerifyPeers": true, "HttpsCACertificates": pki.tls_anchor(), "OrthancPeers": {"sink": sink("/")},
            }),
        );
        settings["DicomWeb"]["Servers"] = json!({"sink": sink("/dicom-web/")});
        Orthanc::start(folder, settings).await
    }

    fn modality(&self) -> Modality {
        match self {
            Self::Idr(world) => world.site().modality(),
            Self::Orthanc(ends) => ends[0].modality(),
        }
    }

    /// Objects that the far end has answered for.
    async fn arrived(&self) -> anyhow::Result<u64> {
        match self {
            Self::Idr(world) => world.stored().await,
            Self::Orthanc(ends) => ends[1].instances().await,
        }
    }

    fn pids(&self) -> [u32; 2] {
        match self {
            Self::Idr(world) => [world.site().program.pid(), world.central.program.pid()],
            Self::Orthanc(ends) => [ends[0].pid(), ends[1].pid()],
        }
    }
}

fn tuned() -> Value {
    json!({
        "SyncStorageArea": true, "StoreMD5ForAttachments": false, "MaximumPduLength": 131072, "DicomThreadsCount": 16,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": true, "Root": "/dicom-web/", "StowMaxInstances": 32, "StowMaxSize": 64},
    })
}

fn dicom_tls(pki: &Pki, own: &Identity) -> Value {
    json!({"DicomTlsCertificate": own.certificate, "DicomTlsPrivateKey": own.key, "DicomTlsTrustedCertificates": pki.tls_anchor()})
}

fn put(settings: &mut Value, more: Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        settings[name] = value.clone();
    }
}

/// Figures of one run.
#[derive(Clone, Copy, Default)]
struct Run {
    taken_s: f64,
    arrived_s: f64,
    registered_s: f64,
    cpu_s: f64,
    near_bytes: f64,
    far_bytes: f64,
}

async fn run(target: Target, folder: &Path, objects: &Arc<[Outgoing]>, associations: usize) -> anyhow::Result<Run> {
    let pair = Pair::start(target, folder).await?;
    let pids = pair.pids();
    let meters = pids.map(PeakMeter::start);
    let cpu = cpu_seconds(pids)?;
    let begin = Instant::now();
    send_all(&pair.modality(), objects, associations).await?;
    let taken_s = begin.elapsed().as_secs_f64();
    let expected = objects.len() as u64;
    poll::until("the last object is at the far end", DEADLINE, || async { pair.arrived().await.ok().filter(|count| *count == expected) })
        .await?;
    let arrived_s = begin.elapsed().as_secs_f64();
    let cpu_s = cpu_seconds(pids)? - cpu;
    let [near, far] = meters.map(PeakMeter::finish);
    let mut figures = Run { taken_s, arrived_s, registered_s: f64::NAN, cpu_s, near_bytes: near as f64, far_bytes: far as f64 };
    if let Pair::Idr(world) = pair {
        poll::holds("every study is registered", DEADLINE, || registered(&world).unwrap_or(false)).await?;
        figures.registered_s = begin.elapsed().as_secs_f64();
        world.stop_and_check().await?;
    }
    Ok(figures)
}

fn registered(world: &World) -> anyhow::Result<bool> {
    let status: Value = serde_json::from_str(&world.site().program.command(&["status", "--json"])?)?;
    let states = status["states"].as_array().context("status names states")?;
    Ok(states.iter().all(|row| row["state"] == "registered" || row["objects"] == 0))
}

/// Processor time of both processes so far.
fn cpu_seconds(pids: [u32; 2]) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which is in brackets: state, and from there the fields of proc(5); utime and stime are the 12th and 13th.
        let fields: Vec<&str> = text.rsplit(") ").next().context("a line of /proc/PID/stat")?.split(' ').collect();
        sum += fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    }
    Ok(sum / USER_HZ)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = results()?.join("bench");
    std::fs::create_dir_all(&folder)?;
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let orthanc = has_tool("Orthanc");
    let targets: Vec<Target> = arguments.targets.into_iter().filter(|target| *target == Target::Idr || orthanc).collect();
    println!("{} associations, {} rounds, targets in turn; medians\n", arguments.associations, arguments.rounds);
    println!(
        "| workload | target | taken s | at the far end s | MB/s | of the best Orthanc | registered s | CPU s/GB, both | peak MB, near, far |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for workload in arguments.workloads {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); targets.len()];
        let mut bytes = 0;
        for round in 0..arguments.rounds {
            let objects = workload.objects(round);
            bytes = objects.iter().map(Outgoing::size_bytes).sum();
            let mut turn: Vec<usize> = (0..targets.len()).collect();
            if round % 2 == 1 {
                turn.reverse();
            }
            for index in turn {
                let home = unique(&folder)?;
                let figures = run(targets[index], &home, &objects, arguments.associations).await;
                std::fs::remove_dir_all(&home)?;
                let figures = figures.with_context(|| targets[index].name())?;
                eprintln!("{workload:?}, round {round}, {}: {:.2} s", targets[index].name(), figures.arrived_s);
                runs[index].push(figures);
            }
        }
        report(workload, &targets, &runs, bytes as f64)?;
    }
    Ok(())
}

fn report(workload: Workload, targets: &[Target], runs: &[Vec<Run>], bytes: f64) -> anyhow::Result<()> {
    let of = |index: usize, figure: fn(&Run) -> f64| median(runs[index].iter().map(figure).collect());
    let arrived = |index: usize| of(index, |run| run.arrived_s);
    let best = (0..targets.len()).filter(|index| targets[*index] != Target::Idr).map(arrived).min_by(f64::total_cmp);
    ensure!(bytes > 0.0, "nothing was sent");
    for (index, target) in targets.iter().enumerate() {
        let idr = *target == Target::Idr;
        println!(
            "| {workload:?} | {} | {:.2} | {:.2} | {:.0} | {} | {} | {:.1} | {:.0}, {:.0} |",
            target.name(),
            of(index, |run| run.taken_s),
            arrived(index),
            bytes / 1e6 / arrived(index),
            best.filter(|_| idr).map_or("–".to_owned(), |best| format!("{:.2}", best / arrived(index))),
            if idr { format!("{:.1}", of(index, |run| run.registered_s)) } else { "–".to_owned() },
            of(index, |run| run.cpu_s) / (bytes / 1e9),
            of(index, |run| run.near_bytes) / 1e6,
            of(index, |run| run.far_bytes) / 1e6,
        );
    }
    Ok(())
}

fn unique(folder: &Path) -> anyhow::Result<PathBuf> {
    Ok(tempfile::TempDir::new_in(folder)?.keep())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

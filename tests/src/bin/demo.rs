//! `make demo`: one image's whole life with real parts, to look at.
//!
//! Makes a throw-away public key infrastructure, starts both programs, sends studies of test persons by DICOM over TLS, kills the
//! site once mid-way, waits until everything is registered, asks as three requesters, compares every digest and prints a table.
//! Ends with 1 if anything was lost, changed, or shown to somebody who may not see it. `KEEP=1` leaves the programs running.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use idr_ihe::metadata::PatientId;
use idr_tests::consumer::Consumer;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World};
use idr_tests::modality::{Answer, Outgoing, Report};
use idr_tests::poll;
use idr_tests::shared::workspace;
use idr_tests::story::{fetch, look, outgoing, patient_id, send_until_answered};

/// Kind, studies, instances each, matrix.
const STUDIES: [(Kind, u32, usize, u16); 5] =
    [(Kind::Ct, 4, 40, 512), (Kind::Dx, 3, 4, 1024), (Kind::UsMultiFrame, 3, 4, 256), (Kind::Ecg, 4, 3, 64), (Kind::Pdf, 4, 3, 64)];
/// Test persons who share the studies.
const PERSONS: u32 = 6;
const ASSOCIATIONS: usize = 4;

#[tokio::main]
async fn main() -> ExitCode {
    let begin = Instant::now();
    match demo().await {
        Ok(true) => {
            println!("\nTotal time {:.1} s.", begin.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("\nNot as promised: see the table. Total time {:.1} s.", begin.elapsed().as_secs_f64());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("\nThe demo did not come to its end: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> anyhow::Result<bool> {
    println!("idr: one image's whole life, with real parts. Everybody in it is invented.\n");
    let folder = workspace().join("target/demo");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }

    let step = Step::begin(1, "Keys, certificates and configuration, made for this run");
    let mut world = World::prepare(Plan { folder: Some(folder.clone()), study_quiet_seconds: 2, ..Plan::default() })?;
    step.end(&format!("{}", folder.display()));

    let step = Step::begin(2, "The centre and the site start");
    world.central.program.start().await?;
    world.site_mut().program.start().await?;
    step.end(&format!(
        "idr-central https://localhost:{}, idr-site DICOM over TLS {}",
        world.central.address.port(),
        world.site().dimse_tls
    ));

    let step = Step::begin(3, "Studies of test persons");
    let studies = make_studies();
    let objects = outgoing(&studies);
    let megabytes = objects.iter().map(Outgoing::size_bytes).sum::<u64>() as f64 / 1e6;
    step.end(&format!("{} studies of {PERSONS} persons, {} instances, {megabytes:.0} MB", studies.len(), objects.len()));

    let step = Step::begin(4, "A modality sends them by DICOM over TLS; the site is killed mid-way");
    let answers = send(&mut world, &objects).await?;
    let acknowledged = answers.iter().filter(|answer| answer.is_acknowledged()).count();
    step.end(&format!("{acknowledged} of {} acknowledged", objects.len()));
    for (object, answer) in objects.iter().zip(&answers).filter(|(_, answer)| !answer.is_acknowledged()) {
        println!("   not acknowledged: {} {answer:?}", object.sop_instance);
    }

    let step = Step::begin(5, "The site forwards; the centre registers");
    let viewer = world.viewer()?;
    wait_for_registration(&viewer, &studies).await?;
    step.end(&format!("{} manifests, each naming every instance of its study", studies.len()));

    let mut table = Table::new(&studies);
    table.count_answers(&studies, &answers);

    let step = Step::begin(6, "A physician of the own register: ITI-18, ITI-43, RAD-69, WADO-RS");
    let equal = table.look_as_own(&viewer, &studies).await?;
    step.end(&format!("{equal} instances came back with the digest that was sent, each by two ways"));

    let step = Step::begin(7, "A physician of another controller, without consent");
    let other = world.other_viewer()?;
    let seen = table.look_as_other(&other, &studies).await?;
    step.end(&format!("sees {seen} of {} studies", studies.len()));

    let step = Step::begin(8, "One patient is informed and gives consent");
    let patient = &studies[0].person;
    let of_patient = studies.iter().filter(|study| study.person.hetu == patient.hetu).count();
    world.record_declaration(&patient_id(patient), "informing")?;
    world.record_declaration(&patient_id(patient), "consent")?;
    let seen_after = poll::until("the other physician sees the studies of the patient", poll::DEADLINE, || async {
        match other.find_documents(&patient_id(patient)).await {
            Ok(found) if found.entries.len() == of_patient => Some(Ok(found.entries.len())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    })
    .await??;
    let still_hidden = find_all(&other, &studies, |study| study.person.hetu != patient.hetu).await?;
    step.end(&format!(
        "the other physician now sees {seen_after} studies of {}, and {still_hidden} of anybody else",
        patient.name.replace('^', " ")
    ));

    let good = table.print() && still_hidden == 0;
    let keep = std::env::var("KEEP").is_ok_and(|value| !value.is_empty() && value != "0");
    where_to_look(&world, keep);
    if keep {
        let World { central, sites, .. } = world;
        central.program.detach();
        sites.into_iter().for_each(|site| site.program.detach());
    } else {
        world.stop().await.context("stopping the programs")?;
    }
    Ok(good)
}

fn make_studies() -> Vec<Study> {
    let mut studies = Vec::new();
    for (kind, count, instances, matrix) in STUDIES {
        for _ in 0..count {
            let number = studies.len() as u32;
            let person = Person::numbered(1_000 + number % PERSONS);
            studies.push(Recipe { kind, person, instances, seed: 1 + number, matrix }.make());
        }
    }
    studies
}

/// Sends everything; at half of the answers the site gets SIGKILL and is started again. What has no answer is sent again.
async fn send(world: &mut World, objects: &Arc<[Outgoing]>) -> anyhow::Result<Vec<Answer>> {
    let modality = world.site().modality_tls();
    let progress = Arc::new(Progress::new(objects.len()));
    let half = objects.len() / 2;
    let sending = {
        let (objects, progress) = (objects.clone(), progress.clone());
        tokio::spawn(async move {
            let report = {
                let progress = progress.clone();
                move |report: Report| progress.answered(&report)
            };
            send_until_answered(&modality, &objects, ASSOCIATIONS, Duration::from_secs(300), report).await
        })
    };
    poll::holds("half of the instances are answered", poll::DEADLINE, || progress.count() >= half || sending.is_finished()).await?;
    let program = &mut world.site_mut().program;
    program.kill().await?;
    progress.say(&format!("✗ the site is killed (SIGKILL) after {} answers, {ASSOCIATIONS} transfers in flight", progress.count()));
    let begin = Instant::now();
    program.start().await?;
    progress.say(&format!("✓ the site runs again after {:.1} s; what was not answered is sent again", begin.elapsed().as_secs_f64()));
    let (answers, rounds) = sending.await??;
    progress.finish();
    ensure!(rounds > 1, "the kill came after the last answer");
    Ok(answers)
}

async fn wait_for_registration(viewer: &Consumer, studies: &[Study]) -> anyhow::Result<()> {
    let progress = Progress::new(studies.len());
    let mut open: Vec<&Study> = studies.iter().collect();
    let end = Instant::now() + Duration::from_secs(300);
    while !open.is_empty() {
        let mut left = Vec::new();
        for study in open {
            let expected: BTreeSet<&str> = study.instances.iter().map(|instance| instance.sop_instance.as_str()).collect();
            match look(viewer, &patient_id(&study.person), &study.uid).await? {
                Some(registered) if registered.instances() == expected => progress.step(),
                _ => left.push(study),
            }
        }
        ensure!(left.is_empty() || Instant::now() < end, "{} studies are not registered after 300 s", left.len());
        open = left;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    progress.finish();
    Ok(())
}

/// Number of entries that a requester finds, over the patients of these studies.
async fn find_all(consumer: &Consumer, studies: &[Study], of: impl Fn(&Study) -> bool) -> anyhow::Result<usize> {
    let patients: BTreeSet<PatientId> = studies.iter().filter(|study| of(study)).map(|study| patient_id(&study.person)).collect();
    let mut count = 0;
    for patient in patients {
        count += consumer.find_documents(&patient).await?.entries.len();
    }
    Ok(count)
}

#[derive(Default)]
struct Row {
    studies: usize,
    sent: usize,
    acknowledged: usize,
    at_central: usize,
    equal: usize,
    registered: usize,
    own: usize,
    other: usize,
}

struct Table {
    rows: BTreeMap<&'static str, Row>,
}

impl Table {
    fn new(studies: &[Study]) -> Self {
        let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
        for study in studies {
            let row = rows.entry(name(study.kind)).or_default();
            row.studies += 1;
            row.sent += study.instances.len();
        }
        Self { rows }
    }

    fn row(&mut self, kind: Kind) -> &mut Row {
        self.rows.entry(name(kind)).or_default()
    }

    fn count_answers(&mut self, studies: &[Study], answers: &[Answer]) {
        let kinds = studies.iter().flat_map(|study| study.instances.iter().map(|_| study.kind));
        for (kind, _) in kinds.zip(answers).filter(|(_, answer)| answer.is_acknowledged()) {
            self.row(kind).acknowledged += 1;
        }
    }

    /// Finds by patient, retrieves by both ways and compares; gives the number of equal instances.
    async fn look_as_own(&mut self, viewer: &Consumer, studies: &[Study]) -> anyhow::Result<usize> {
        let progress = Progress::new(studies.len());
        let mut equal = 0;
        for study in studies {
            let patient = patient_id(&study.person);
            let reference = format!("{}^^^^urn:ihe:iti:xds:2016:studyInstanceUID", study.uid);
            let found = viewer.find_documents(&patient).await?;
            let row = self.row(study.kind);
            row.own += found.entries.iter().filter(|entry| entry.reference_ids.contains(&reference)).count();
            if let Some(registered) = look(viewer, &patient, &study.uid).await? {
                row.registered += 1;
                let digests = fetch(viewer, &patient, &study.uid, &registered).await?;
                row.at_central += digests.len();
                let same = |digests: &BTreeMap<String, _>| {
                    study.instances.iter().filter(|sent| digests.get(&sent.sop_instance) == Some(&(sent.digest(), sent.digest()))).count()
                };
                row.equal += same(&digests);
                equal += same(&digests);
            }
            progress.step();
        }
        progress.finish();
        Ok(equal)
    }

    /// What somebody without consent finds, and can retrieve by asking for what he cannot find.
    async fn look_as_other(&mut self, other: &Consumer, studies: &[Study]) -> anyhow::Result<usize> {
        let mut seen = 0;
        for study in studies {
            let patient = patient_id(&study.person);
            let found = other.find_study(&patient, &study.uid).await?.entries.len();
            let first = &study.instances[0].sop_instance;
            let series = format!("{}.1", study.uid);
            let got = other.wado_instance(&patient, &study.uid, &series, first).await.is_ok();
            self.row(study.kind).other += found.max(usize::from(got));
            seen += found;
        }
        Ok(seen)
    }

    /// Prints; whether everything is as it must be.
    fn print(&self) -> bool {
        println!();
        println!("  kind   studies │  sent  acknowledged  at central  digests equal │ registered  own sees  other sees, no consent");
        println!("  ───────────────┼────────────────────────────────────────────────┼─────────────────────────────────────────────");
        let mut good = true;
        let mut sum = Row::default();
        let line = |name: &str, row: &Row| {
            println!(
                "  {name:<6} {:>7} │ {:>5}  {:>12}  {:>10}  {:>13} │ {:>10}  {:>8}  {:>10}",
                row.studies, row.sent, row.acknowledged, row.at_central, row.equal, row.registered, row.own, row.other
            );
        };
        for (name, row) in &self.rows {
            line(name, row);
            good &= [row.acknowledged, row.at_central, row.equal].iter().all(|count| *count == row.sent);
            good &= row.registered == row.studies && row.own == row.studies && row.other == 0;
            sum.studies += row.studies;
            sum.sent += row.sent;
            sum.acknowledged += row.acknowledged;
            sum.at_central += row.at_central;
            sum.equal += row.equal;
            sum.registered += row.registered;
            sum.own += row.own;
            sum.other += row.other;
        }
        println!("  ───────────────┼────────────────────────────────────────────────┼─────────────────────────────────────────────");
        line("all", &sum);
        println!("\n  {} lost, {} changed.", sum.sent - sum.at_central, sum.at_central - sum.equal);
        good && sum.sent >= 200
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ct => "CT",
        Kind::Dx => "DX",
        Kind::UsMultiFrame => "US",
        Kind::Ecg => "ECG",
        Kind::Pdf => "PDF",
    }
}

fn where_to_look(world: &World, keep: bool) {
    let folder = world.folder();
    let site = world.site().program.config();
    println!("\nWhere to look next");
    println!("  {}/*.log          what the programs said", folder.display());
    println!("  {}/site-1/        configuration and state of the site; central/ beside it", folder.display());
    println!("  README.md, docs/ARCHITECTURE.md      what this is, and the way through the code");
    println!("  tests/src/bin/demo.rs                what you just saw");
    if keep {
        let keys = folder.join("keys");
        let keys = keys.display();
        println!("\nBoth programs run on (KEEP=1):");
        println!("  idr-central  https://localhost:{}  pid {}", world.central.address.port(), world.central.program.pid());
        println!(
            "  idr-site     DICOM {}  DICOM over TLS {}  pid {}",
            world.site().dimse,
            world.site().dimse_tls,
            world.site().program.pid()
        );
        println!(
            "  send:    echoscu -aet MODALITY -aec IDRSITE +tls {keys}/modality.key {keys}/modality.pem +cf {keys}/tls-ca.pem localhost {}",
            world.site().dimse_tls.port()
        );
        println!("  status:  target/release/idr-site status --config {}", site.display());
        println!("  stop:    kill {} {}", world.site().program.pid(), world.central.program.pid());
    } else {
        println!("  KEEP=1 make demo                     leaves both programs running");
    }
}

/// A numbered step with its time.
struct Step {
    begin: Instant,
}

impl Step {
    fn begin(number: usize, text: &str) -> Self {
        println!("{number}  {text}");
        Self { begin: Instant::now() }
    }

    fn end(self, text: &str) {
        println!("   {text}  ({:.1} s)", self.begin.elapsed().as_secs_f64());
    }
}

/// A bar that moves in a terminal, and a line at each quarter elsewhere.
struct Progress {
    total: usize,
    done: AtomicUsize,
    begin: Instant,
    terminal: bool,
    /// Held while printing, so that lines do not mix.
    printing: Mutex<()>,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self {
            total,
            done: AtomicUsize::new(0),
            begin: Instant::now(),
            terminal: std::io::stdout().is_terminal(),
            printing: Mutex::new(()),
        }
    }

    fn count(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn answered(&self, report: &Report) {
        if report.answer != Answer::Unanswered {
            self.step();
        }
    }

    fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let quarter = |count: usize| count * 4 / self.total.max(1);
        if self.terminal || quarter(done) != quarter(done - 1) {
            let guard = self.printing.lock();
            self.draw(done);
            drop(guard);
        }
    }

    fn draw(&self, done: usize) {
        const WIDTH: usize = 40;
        let filled = done * WIDTH / self.total.max(1);
        let rate = done as f64 / self.begin.elapsed().as_secs_f64().max(0.001);
        let line = format!("   {}{} {done:>4}/{}  {rate:>5.0}/s", "█".repeat(filled), "░".repeat(WIDTH - filled), self.total);
        if self.terminal {
            print!("\r{line}");
            std::io::stdout().flush().ok();
        } else {
            println!("{line}");
        }
    }

    /// A line of its own between the bars.
    fn say(&self, text: &str) {
        let guard = self.printing.lock();
        if self.terminal {
            print!("\r\x1b[K");
        }
        println!("   {text}");
        drop(guard);
    }

    fn finish(&self) {
        if self.terminal {
            println!();
        }
    }
}

//! `make bench-access`: what a decision costs, and whether time tells what is omitted from what is absent.
//!
//! *Decisions* (profile 05 §14): 500 access units under 20 denials of which the last alone hits, each decided with its trace, as
//! `consent decide` does; `access::decide` itself does the same without a trace.
//!
//! *Omission* (05 §8 rule 3): a centre and a site, one study; a caller without consent asks for what is there and for what is not,
//! in turn, by GetDocuments (ITI-18) and WADO-RS. Medians of the pairs, and whether every answer had the same length.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use idr_profile::access::{CaseFile, Outcome, Policy};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::story::{outgoing, patient_id, send_all, study_registered};
use serde_json::{Value, json};

const EXAMPLES: &str = include_str!("../../../docs/examples/consent-decide.json");
const UNITS: usize = 500;
const DENIALS: usize = 20;

#[derive(Parser)]
struct Arguments {
    /// Rounds over all units.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Pairs of requests of a kind; 0: decisions alone.
    #[arg(long, default_value_t = 1_000)]
    pairs: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    decisions(arguments.rounds)?;
    if arguments.pairs == 0 {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(omission(arguments.pairs))
}

fn decisions(rounds: usize) -> anyhow::Result<()> {
    let mut file: Value = serde_json::from_str(EXAMPLES)?;
    let denial = |at: usize| {
        let unit = if at + 1 == DENIALS { "1.2.246.10.90000118.10.1".to_owned() } else { format!("1.2.246.10.90000118.20.{at}") };
        json!({ "id": at.to_string(), "target": { "kind": "unit", "unit": unit }, "emergency_allowed": true, "valid_from": "2024-05-01",
                "set_on": "2024-05-01", "status": "active" })
    };
    file["base"]["state"]["denials"] = (0..DENIALS).map(denial).collect();
    file["cases"] = (0..UNITS).map(|at| json!({ "id": at.to_string(), "unit": { "id": format!("urn:unit:{at}") } })).collect();
    let cases = CaseFile::read(&file.to_string())?.cases;
    let policy = Policy::shipped();
    let (mut each, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        for case in &cases {
            let begin = Instant::now();
            let decided = case.decide_by(&policy);
            each.push(begin.elapsed());
            ensure!(decided.decision == Outcome::Omit && decided.rule == "E8b", "{} is decided by {}", case.id, decided.rule);
        }
        whole.push(begin.elapsed());
    }
    println!("decisions: {UNITS} units, {DENIALS} denials, {rounds} rounds, each with its trace");
    println!("  one decision: p50 {:?}, p99 {:?}", quantile(&mut each, 50), quantile(&mut each, 99));
    println!("  all {UNITS}: p50 {:?}, p99 {:?}", quantile(&mut whole, 50), quantile(&mut whole, 99));
    Ok(())
}

async fn omission(pairs: usize) -> anyhow::Result<()> {
    let world = World::start(Plan::default()).await?;
    let study = Recipe::small(Kind::Ct, Person::numbered(41), 1, 1).make();
    let patient = patient_id(&study.person);
    send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
    let registered = study_registered(&world.viewer()?, &study).await?;
    let other = world.other_viewer()?;
    // Of equal length, so that the answers can be.
    let changed = |uid: &str| -> anyhow::Result<String> {
        let (head, last) = uid.split_at(uid.len() - 1);
        Ok(format!("{head}{}", (last.parse::<u8>()? % 9) + 1))
    };
    let document = registered.entry.unique_id.clone();
    let (series, instances) = registered.series.first().context("a series")?;
    let instance = instances.first().context("an instance")?.clone();
    let (no_document, no_instance) = (changed(&document)?, changed(&instance)?);

    let mut times: [(Vec<Duration>, Vec<Duration>); 2] = Default::default();
    let mut lengths_differ = 0_usize;
    for pair in 0..pairs {
        let mut lengths: [usize; 2] = [0; 2];
        // Which of the two comes first changes from pair to pair.
        for at in [pair % 2, (pair + 1) % 2] {
            let begin = Instant::now();
            let found = other.get_documents(&patient, &[if at == 0 { &document } else { &no_document }]).await?;
            let taken = begin.elapsed();
            ensure!(found.entries.is_empty(), "something was shown");
            lengths[at] = found.envelope.len();
            if at == 0 { &mut times[0].0 } else { &mut times[0].1 }.push(taken);
            let begin = Instant::now();
            let answer = other.wado_instance(&patient, &study.uid, series, if at == 0 { &instance } else { &no_instance }).await;
            let taken = begin.elapsed();
            ensure!(answer.err().and_then(|error| error.http_status()) == Some(404), "something was given");
            if at == 0 { &mut times[1].0 } else { &mut times[1].1 }.push(taken);
        }
        lengths_differ += usize::from(lengths[0] != lengths[1]);
    }
    println!("omission: {pairs} pairs of a kind, omitted and absent in turn");
    for (name, (omitted, absent)) in ["ITI-18 GetDocuments", "WADO-RS"].iter().zip(&mut times) {
        let (omitted, absent) = (quantile(omitted, 50), quantile(absent, 50));
        println!("  {name}: medians {omitted:?} and {absent:?}, {:?} apart", omitted.abs_diff(absent));
    }
    println!("  pairs of ITI-18 answers of different length: {lengths_differ}");
    world.stop().await
}

fn quantile(values: &mut [Duration], hundredth: usize) -> Duration {
    values.sort();
    values.get((values.len() * hundredth / 100).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

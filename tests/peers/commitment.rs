//! pynetdicom asks for storage commitment and is told, on the association of the request and on one of ours.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Usage;
use idr_tests::fixtures::study::{Kind, ORGANISATION, Recipe, Study};
use idr_tests::harness::{Plan, World, edit, free_port};
use idr_tests::poll;
use serde::Deserialize;
use toml::{Table, Value};

use crate::{here, python, story, write_files};

pub(super) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(super) const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

/// A report as `commitment.py` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Report {
    pub event_type: u16,
    pub transaction: String,
    pub committed: Vec<String>,
    pub failed: BTreeMap<String, String>,
    pub calling: String,
    pub called: String,
}

/// A world without a centre: what is held here is committed. `row` changes the inbound row.
fn prepare(row: impl Fn(&mut Table) + Send + Sync + 'static) -> anyhow::Result<World> {
    let site = move |table: &mut Table| {
        if let Some(Value::Table(inbound)) = table.get_mut("inbound").and_then(|rows| rows.get_mut(0)) {
            row(inbound);
        }
    };
    World::prepare(Plan { site: Arc::new(site), ..Plan::default() })
}

fn study(person: u32, images: usize) -> Study {
    Recipe::small(Kind::Ct, Person::numbered(person), images, 1).make()
}

pub(super) fn uids(study: &Study) -> Vec<String> {
    study.instances.iter().map(|instance| instance.sop_instance.clone()).collect()
}

pub(super) fn ask(python: &Path, port: u16, transaction: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(here().join("commitment.py")).arg("ask").args(["--port", &port.to_string(), "--transaction", transaction]);
    command
}

pub(super) fn with_files(command: &mut Command, option: &str, files: &[PathBuf]) {
    for file in files {
        command.arg(option).arg(file);
    }
}

/// Runs `ask` to its end: status of the N-ACTION-RSP, and the report if it stayed.
pub(super) fn asked(mut command: Command) -> anyhow::Result<(String, Option<Report>)> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (mut action, mut report) = (None, None);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        match value.get("action").and_then(|status| status.as_str()) {
            Some(status) => action = Some(status.to_owned()),
            None => report = Some(serde_json::from_value(value)?),
        }
    }
    Ok((action.context("an answer")?, report))
}

/// A device that listens; its reports when it has taken as many as it should.
pub(super) struct Listener(std::process::Child);

impl Listener {
    pub fn start(python: &Path, port: u16, reports: usize, options: &[&Path]) -> anyhow::Result<Self> {
        let mut command = Command::new(python);
        command.arg(here().join("commitment.py")).arg("listen");
        command.args(["--port", &port.to_string(), "--reports", &reports.to_string()]);
        if !options.is_empty() {
            command.arg("--tls").args(options);
        }
        Ok(Self(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?))
    }

    pub async fn reports(self) -> anyhow::Result<Vec<Report>> {
        let output = tokio::task::spawn_blocking(move || self.0.wait_with_output()).await??;
        anyhow::ensure!(output.status.success(), "the listener ended with {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        text.lines().filter(|line| !line.contains("listening")).map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

fn report(transaction: &str, committed: Vec<String>) -> Report {
    let (calling, called) = ("IDRSITE".to_owned(), "MODALITY".to_owned());
    Report { event_type: 1, transaction: transaction.to_owned(), committed, failed: BTreeMap::new(), calling, called }
}

/// Files of requests that are not reported.
fn open_requests(world: &World) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(world.site().program.state().join("commitments"))?.count())
}

#[test]
fn the_report_comes_on_the_association_of_the_request() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let mut world = prepare(|_| {})?;
        world.site_mut().program.start().await?;
        let study = study(121, 5);
        let files = write_files(&study, &world.folder().join("files"))?;
        let port = world.site().dimse.port();
        let mut all = ask(&python, port, "1.2.3.1");
        with_files(all.arg("--stay"), "--store", &files);
        let (calling, called) = ("MODALITY".to_owned(), "IDRSITE".to_owned());
        let expected = Report { calling, called, ..report("1.2.3.1", uids(&study)) };
        anyhow::ensure!(asked(all)? == ("0000".to_owned(), Some(expected.clone())));

        // What never came, and what came as something else.
        let mut some = ask(&python, port, "1.2.3.2");
        some.arg("--stay").args(["--listed", CT, "1.2.3.999", "--listed", MR, &study.instances[0].sop_instance]);
        with_files(&mut some, "--list", &files[1..]);
        let failed = [("1.2.3.999".to_owned(), "0112".to_owned()), (study.instances[0].sop_instance.clone(), "0119".to_owned())];
        let expected = Report {
            event_type: 2,
            transaction: "1.2.3.2".to_owned(),
            committed: uids(&study)[1..].to_vec(),
            failed: BTreeMap::from(failed),
            ..expected
        };
        anyhow::ensure!(asked(some)? == ("0000".to_owned(), Some(expected)));
        poll::holds("no request is left", poll::DEADLINE, || open_requests(&world).is_ok_and(|left| left == 0)).await?;
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_request_that_is_empty_or_too_long_is_refused_and_nothing_is_kept() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let site = |table: &mut Table| edit(table, [("commitment.references_max", 2.into())]);
        let mut world = World::prepare(Plan { site: Arc::new(site), ..Plan::default() })?;
        world.site_mut().program.start().await?;
        for (listed, status) in [(0, "0115"), (2, "0000"), (3, "0213")] {
            let mut request = ask(&python, world.site().dimse.port(), &format!("1.2.3.{listed}"));
            request.arg("--stay");
            for number in 0..listed {
                request.args(["--listed", CT, &format!("1.2.4.{number}")]);
            }
            let (answer, report) = asked(request)?;
            anyhow::ensure!(answer == status, "{listed} instances: {answer}");
            anyhow::ensure!(report.is_some() == (status == "0000"), "{listed} instances: {report:?}");
        }
        poll::holds("no request is left", poll::DEADLINE, || open_requests(&world).is_ok_and(|left| left == 0)).await?;
        world.site_mut().program.stop().await
    });
}

#[test]
fn what_another_row_handed_over_is_not_committed_until_this_one_has() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let world = World::prepare(Plan {
            site: Arc::new(|table| {
                let Some(Value::Array(rows)) = table.get_mut("inbound") else { return };
                let mut other = rows[0].clone();
                if let Value::Table(other) = &mut other {
                    other.insert("name".to_owned(), "pacs".into());
                    other.insert("ae_title".to_owned(), "PACS".into());
                }
                rows.push(other);
            }),
            ..Plan::default()
        });
        let mut world = world?;
        world.site_mut().program.start().await?;
        let study = study(122, 2);
        let files = write_files(&study, &world.folder().join("files"))?;
        let port = world.site().dimse.port();
        let request = |option: &str, calling: &str, transaction: &str| {
            let mut command = ask(&python, port, transaction);
            command.args(["--stay", "--calling", calling]);
            with_files(&mut command, option, &files);
            asked(command)
        };
        let committed = |answer: (String, Option<Report>)| answer.1.map_or(0, |report| report.committed.len());
        anyhow::ensure!(committed(request("--store", "MODALITY", "1.2.3.1")?) == 2);
        let (status, refused) = request("--list", "PACS", "1.2.3.2")?;
        let refused = refused.context("a report")?;
        anyhow::ensure!(status == "0000" && refused.event_type == 2 && refused.committed.is_empty());
        anyhow::ensure!(refused.failed.values().all(|reason| reason == "0112") && refused.failed.len() == 2, "{refused:?}");
        anyhow::ensure!(committed(request("--store", "PACS", "1.2.3.3")?) == 2, "the same bytes, handed over again");
        anyhow::ensure!(committed(request("--list", "MODALITY", "1.2.3.4")?) == 2);
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_device_that_is_gone_is_told_on_an_association_of_ours_also_after_a_kill() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let device = free_port()?;
        let mut world = prepare(move |row| {
            row.insert("commitment_address".to_owned(), device.to_string().into());
        })?;
        world.site_mut().program.start().await?;
        let study = study(123, 3);
        let files = write_files(&study, &world.folder().join("files"))?;
        let port = world.site().dimse.port();
        let listener = Listener::start(&python, device.port(), 1, &[])?;
        let mut request = ask(&python, port, "1.2.3.1");
        with_files(&mut request, "--store", &files);
        anyhow::ensure!(asked(request)?.0 == "0000");
        anyhow::ensure!(listener.reports().await? == [report("1.2.3.1", uids(&study))]);

        // Nobody listens, and the site dies with what it has promised to report.
        let mut request = ask(&python, port, "1.2.3.2");
        with_files(&mut request, "--list", &files);
        anyhow::ensure!(asked(request)?.0 == "0000");
        world.site_mut().program.kill().await?;
        anyhow::ensure!(open_requests(&world)? == 1);
        world.site_mut().program.start().await?;
        poll::holds("a first attempt", poll::DEADLINE, || world.site().program.printed().contains("was not taken")).await?;
        let listener = Listener::start(&python, device.port(), 1, &[])?;
        anyhow::ensure!(listener.reports().await? == [report("1.2.3.2", uids(&study))]);
        poll::holds("no request is left", poll::DEADLINE, || open_requests(&world).is_ok_and(|left| left == 0)).await?;
        world.site_mut().program.stop().await
    });
}

#[test]
fn a_device_behind_tls_is_told_over_tls_and_only_with_the_name_of_its_row() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let device: SocketAddr = free_port()?;
        let mut world = prepare(move |row| {
            row.insert("tls".to_owned(), "required".into());
            row.insert("commitment_address".to_owned(), device.to_string().into());
            row.insert("commitment_server_name".to_owned(), "other.example".into());
        })?;
        let own = world.pki.issue("device", ORGANISATION, Usage::Server)?;
        world.site_mut().program.start().await?;
        let study = study(124, 1);
        let files = write_files(&study, &world.folder().join("files"))?;
        let listener = Listener::start(&python, device.port(), 1, &[&own.certificate, &own.key])?;
        let mut request = ask(&python, world.site().dimse_tls.port(), "1.2.3.1");
        with_files(request.arg("--tls").arg(world.pki.tls_anchor()), "--store", &files);
        anyhow::ensure!(asked(request)?.0 == "0000");
        poll::holds("a refused name", poll::DEADLINE, || world.site().program.printed().contains("was not taken")).await?;
        world.site_mut().program.stop().await?;
        anyhow::ensure!(open_requests(&world)? == 1, "it stays");
        world.site().program.configure(|table| {
            if let Some(Value::Table(row)) = table.get_mut("inbound").and_then(|rows| rows.get_mut(0)) {
                row.insert("commitment_server_name".to_owned(), "localhost".into());
            }
        })?;
        world.site_mut().program.start().await?;
        anyhow::ensure!(listener.reports().await? == [report("1.2.3.1", uids(&study))]);
        world.site_mut().program.stop().await
    });
}

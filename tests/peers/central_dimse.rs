//! DCMTK and pynetdicom as a PACS that stores at the centre and asks for storage commitment there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use idr_ihe::metadata::PatientId;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Usage;
use idr_tests::fixtures::study::{Kind, ORGANISATION, Recipe, Study};
use idr_tests::harness::{Plan, World, free_port};
use idr_tests::poll;
use idr_tests::shared::{has_tool, run};
use idr_tests::story::{outgoing, patient_id, send_all};
use toml::Value;

use crate::commitment::{CT, Listener, MR, Report, ask, asked, uids, with_files};
use crate::{python, story, write_files};

/// A running centre; reports go to `listener`, if it is given.
async fn centre(listener: Option<SocketAddr>) -> anyhow::Result<World> {
    let central = move |table: &mut toml::Table| {
        let rows = table["peer"].as_array_mut().into_iter().flatten().filter_map(Value::as_table_mut);
        for row in rows.filter(|row| row["name"].as_str() == Some("hospital-pacs")) {
            if let Some(address) = listener {
                row.insert("commitment_address".to_owned(), address.to_string().into());
                row.insert("commitment_server_name".to_owned(), "localhost".into());
            }
        }
    };
    let mut world = World::prepare(Plan { central: Box::new(central), ..Plan::default() })?;
    world.central.program.start().await?;
    Ok(world)
}

fn study(person: u32, images: usize) -> Study {
    // Without sequences: DCMTK writes a data set anew, and could only change the lengths of sequences.
    Recipe::small(Kind::Ct, Person::numbered(person), images, person).make()
}

/// A file with a token of the PACS for a patient.
fn token(world: &World, patient: &PatientId) -> anyhow::Result<PathBuf> {
    let path = world.folder().join(format!("{}.jwt", patient.id));
    std::fs::write(&path, world.pacs_identity(patient)?.primary)?;
    Ok(path)
}

/// pynetdicom as the PACS of the hospital.
fn pacs(python: &Path, world: &World, patient: &PatientId, transaction: &str) -> anyhow::Result<Command> {
    let mut command = ask(python, world.central.dimse.port(), transaction);
    command.args(["--calling", "PACS", "--called", "IDRCENTRAL"]).arg("--tls").arg(world.pki.tls_anchor());
    command.arg("--own").args([&world.pacs.certificate, &world.pacs.key]).arg("--jwt").arg(token(world, patient)?);
    Ok(command)
}

/// The report on an association of the centre's own; `called` is how the listener names itself.
fn report(transaction: &str, study: &Study) -> Report {
    let (calling, called) = ("IDRCENTRAL".to_owned(), "MODALITY".to_owned());
    Report { event_type: 1, transaction: transaction.to_owned(), committed: uids(study), failed: BTreeMap::new(), calling, called }
}

#[test]
fn storescu_and_echoscu_work_at_the_centre_with_a_token() {
    if !has_tool("storescu") || !has_tool("echoscu") {
        return;
    }
    story(async {
        let world = centre(None).await?;
        let study = study(131, 4);
        let files = write_files(&study, &world.folder().join("files"))?;
        let scu = |program: &str, token: Option<&Path>| {
            let mut command = Command::new(program);
            command.env("TCP_NODELAY", "1").args(["-aet", "PACS", "-aec", "IDRCENTRAL"]);
            command.arg("+tls").args([&world.pacs.key, &world.pacs.certificate]).arg("+cf").arg(world.pki.tls_anchor());
            if let Some(token) = token {
                command.arg("--jwt").arg(token);
            }
            command.args(["localhost", &world.central.dimse.port().to_string()]);
            command
        };
        run(&mut scu("echoscu", None))?;
        let refused = scu("storescu", None).args(&files).output()?;
        anyhow::ensure!(!refused.status.success(), "storescu stored without an identity");
        run(scu("storescu", Some(&token(&world, &patient_id(&study.person))?)).args(&files))?;
        world.check_stored_once([&study]).await?;
        world.stop_centre_and_check().await
    });
}

#[test]
fn pynetdicom_stores_and_is_told_on_its_association_what_is_safe() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let world = centre(None).await?;
        let (own, other) = (study(132, 3), study(133, 2));
        let (patient, files) = (patient_id(&own.person), write_files(&own, &world.folder().join("own"))?);
        send_all(&world.pacs_modality(Some(world.pacs_identity(&patient_id(&other.person))?))?, &outgoing([&other]), 1).await?;
        let mut all = pacs(&python, &world, &patient, "1.2.3.1")?;
        with_files(all.arg("--stay"), "--store", &files);
        let expected = Report { calling: "PACS".to_owned(), called: "IDRCENTRAL".to_owned(), ..report("1.2.3.1", &own) };
        let told = asked(all)?;
        anyhow::ensure!(told == ("0000".to_owned(), Some(expected.clone())), "{told:?}");

        // What never came, what came as something else, and what is held of another patient than the identity's.
        let mut some = pacs(&python, &world, &patient, "1.2.3.2")?;
        let (changed, foreign) = (&own.instances[0].sop_instance, &other.instances[0].sop_instance);
        some.arg("--stay").args(["--listed", CT, "1.2.3.999", "--listed", MR, changed, "--listed", CT, foreign]);
        with_files(&mut some, "--list", &files[1..]);
        let failed = [("1.2.3.999", "0112"), (changed, "0119"), (foreign, "0112")];
        let expected = Report {
            event_type: 2,
            transaction: "1.2.3.2".to_owned(),
            committed: uids(&own)[1..].to_vec(),
            failed: failed.into_iter().map(|(uid, reason)| (uid.to_owned(), reason.to_owned())).collect(),
            ..expected
        };
        let told = asked(some)?;
        anyhow::ensure!(told == ("0000".to_owned(), Some(expected)), "{told:?}");
        world.check_stored_once([&own, &other]).await?;
        world.stop_centre_and_check().await
    });
}

#[test]
fn a_pacs_that_is_gone_is_told_over_tls_on_an_association_of_the_centre_s_also_after_a_kill() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let listening = free_port()?;
        let mut world = centre(Some(listening)).await?;
        let device = world.pki.issue("pacs-listener", ORGANISATION, Usage::Server)?;
        let study = study(134, 3);
        let (patient, files) = (patient_id(&study.person), write_files(&study, &world.folder().join("files"))?);
        let listen = || Listener::start(&python, listening.port(), 1, &[&device.certificate, &device.key]);
        let listener = listen()?;
        let mut request = pacs(&python, &world, &patient, "1.2.3.1")?;
        with_files(&mut request, "--store", &files);
        anyhow::ensure!(asked(request)?.0 == "0000");
        let told = listener.reports().await?;
        anyhow::ensure!(told == [report("1.2.3.1", &study)], "{told:?}");

        // Nobody listens, and the centre dies with what it has promised to report.
        let mut request = pacs(&python, &world, &patient, "1.2.3.2")?;
        with_files(&mut request, "--list", &files);
        anyhow::ensure!(asked(request)?.0 == "0000");
        world.central.program.kill().await?;
        world.central.program.start().await?;
        poll::holds("a first attempt", poll::DEADLINE, || world.central.program.printed().contains("was not taken")).await?;
        let told = listen()?.reports().await?;
        anyhow::ensure!(told == [report("1.2.3.2", &study)], "{told:?}");
        poll::holds("it is done", poll::DEADLINE, || world.central.program.printed().matches("storage commitment reported").count() == 2)
            .await
            .context(world.central.program.tail())?;
        world.stop_centre_and_check().await
    });
}

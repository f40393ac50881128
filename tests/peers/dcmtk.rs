//! DCMTK as the modality: `echoscu`, `storescu`, plain and over TLS.

use std::process::Command;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, Site, World, free_port};
use idr_tests::modality::{Modality, export};
use idr_tests::poll;
use idr_tests::shared::{has_tool, run};
use idr_tests::story::{fetch_and_compare, outgoing, send_all, study_registered};

use crate::{story, write_files};

/// The titles, and host and port at the end.
fn scu(program: &str, world: &World, tls: bool) -> Command {
    let mut command = Command::new(program);
    command.env("TCP_NODELAY", "1").args(["-aet", "MODALITY", "-aec", "IDRSITE"]);
    if tls {
        let keys = world.folder().join("keys");
        command.arg("+tls").arg(keys.join("modality.key")).arg(keys.join("modality.pem")).arg("+cf").arg(keys.join("tls-ca.pem"));
    }
    command
}

fn port(site: &Site, tls: bool) -> String {
    if tls { site.dimse_tls.port().to_string() } else { site.dimse.port().to_string() }
}

async fn echo_and_store(tls: bool) -> anyhow::Result<()> {
    let world = World::start(Plan::default()).await?;
    let (site, folder) = (world.site(), world.folder().join("files"));
    run(scu("echoscu", &world, tls).args(["localhost", &port(site, tls)]))?;
    // Kinds without sequences: DCMTK writes a data set anew, and could only change the lengths of sequences.
    let studies = [Kind::Ct, Kind::Dx, Kind::UsMultiFrame, Kind::Pdf].into_iter().zip(1..);
    let studies: Vec<_> = studies.map(|(kind, seed)| Recipe::small(kind, Person::numbered(100 + seed), 3, seed).make()).collect();
    for study in &studies {
        let files = write_files(study, &folder.join(&study.uid))?;
        run(scu("storescu", &world, tls).args(["-R", "localhost", &port(site, tls)]).args(files))?;
    }
    let viewer = world.viewer()?;
    for study in &studies {
        let registered = study_registered(&viewer, study).await?;
        fetch_and_compare(&viewer, study, &registered).await?;
    }
    world.stop().await
}

#[test]
fn storescu_and_echoscu_work_in_plain() {
    if has_tool("storescu") && has_tool("echoscu") {
        story(echo_and_store(false));
    }
}

#[test]
fn storescu_and_echoscu_work_over_tls() {
    if has_tool("storescu") && has_tool("echoscu") {
        story(echo_and_store(true));
    }
}

/// The sender of the scenarios against the reference receiver: if this fails, the scenarios prove nothing.
#[test]
fn our_sender_is_understood_by_storescp() {
    if !has_tool("storescp") {
        return;
    }
    story(async {
        let folder = tempfile::TempDir::with_prefix("idr-")?;
        let address = free_port()?;
        let mut command = Command::new("storescp");
        command.env("TCP_NODELAY", "1").args(["+B", "+xa", "-od"]).arg(folder.path()).arg(address.port().to_string());
        let mut receiver = command.spawn()?;
        let modality = Modality { address, tls: None, calling: "MODALITY".to_owned(), called: "ANY".to_owned(), identity: None };
        let study = Recipe::small(Kind::UsMultiFrame, Person::numbered(171), 3, 1).make();
        let sent = async {
            poll::until("storescp answers", poll::DEADLINE, || async { modality.echo().await.ok() }).await?;
            send_all(&modality, &outgoing([&study]), 1).await?;
            for instance in &study.instances {
                // +B keeps the data set as received.
                let name = std::fs::read_dir(folder.path())?
                    .filter_map(Result::ok)
                    .find(|f| f.file_name().to_string_lossy().ends_with(&instance.sop_instance));
                let kept = std::fs::read(name.map(|file| file.path()).unwrap_or_default())?;
                anyhow::ensure!(export(&kept).object.digest() == instance.digest(), "{} arrived changed", instance.sop_instance);
            }
            anyhow::Ok(())
        };
        let sent = sent.await;
        receiver.kill()?;
        receiver.wait()?;
        sent
    });
}

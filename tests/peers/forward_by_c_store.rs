//! Foreign archives as the destination: the site forwards to them by C-STORE, and asks for storage commitment.

use std::net::SocketAddr;
use std::process::{Child, Command};

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, World, edit, free_port};
use idr_tests::modality::{Modality, export};
use idr_tests::orthanc::Orthanc;
use idr_tests::poll;
use idr_tests::shared::has_tool;
use idr_tests::story::{outgoing, send_all};
use serde_json::{Value, json};

use crate::story;

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A site that forwards to this archive in plain, without an identity and without receipts; the archive reports by a row of its own.
fn site(archive: SocketAddr, ae_title: &'static str) -> anyhow::Result<World> {
    let site = move |table: &mut toml::Table| {
        let mut row = toml::Table::new();
        edit(&mut row, [("name", "archive".into()), ("ae_title", ae_title.into()), ("tls", "optional".into())]);
        row.insert("addresses".to_owned(), toml::Value::Array(vec!["127.0.0.1".into()]));
        table["inbound"].as_array_mut().into_iter().for_each(|rows| rows.push(toml::Value::Table(row.clone())));
        edit(
            table,
            [
                ("centre.dimse.address", archive.to_string().into()),
                ("centre.dimse.ae_title", ae_title.into()),
                ("centre.dimse.tls", false.into()),
                ("centre.dimse.identity", "none".into()),
                ("centre.dimse.receipts", false.into()),
                ("centre.dimse.report_seconds", 5.into()),
                ("centre.dimse.report_row", "archive".into()),
            ],
        );
    };
    World::prepare(Plan { site: std::sync::Arc::new(site), ..Plan::default() })
}

fn states(world: &World, study: &Study) -> anyhow::Result<Vec<String>> {
    let shown: Value = serde_json::from_str(&world.site().program.command(&["study", "show", &study.uid, "--json"])?)?;
    Ok(shown["instances"].as_array().into_iter().flatten().filter_map(|row| row["state"].as_str().map(str::to_owned)).collect())
}

async fn all_are(world: &World, study: &Study, state: &str) -> anyhow::Result<()> {
    let waited = poll::holds(state, poll::DEADLINE, || {
        states(world, study).is_ok_and(|states| states.len() == study.instances.len() && states.iter().all(|one| one == state))
    });
    waited.await.map_err(|error| {
        let shown = world.site().program.command(&["study", "show", &study.uid, "--json"]);
        anyhow::anyhow!("{error}: {}; {}", shown.unwrap_or_default(), world.site().program.tail())
    })
}

#[test]
fn orthanc_stores_as_sent_and_its_commitment_comes_to_the_listener() {
    if !has_tool("Orthanc") {
        return;
    }
    story(async {
        let dicom = free_port()?;
        let mut world = site(dicom, "ORTHANC")?;
        let settings = json!({
            "DicomPort": dicom.port(), "DicomModalities": {"site": ["IDRSITE", "127.0.0.1", world.site().dimse.port()]},
        });
        let orthanc = Orthanc::start(&world.folder().join("orthanc"), settings).await?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(231), 4, 231).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        all_are(&world, &study, "committed").await?;
        let ids: Vec<String> = serde_json::from_slice(&orthanc.get("/instances").await?)?;
        anyhow::ensure!(ids.len() == study.instances.len(), "{} instances", ids.len());
        let mut arrived = std::collections::BTreeMap::new();
        for id in ids {
            let kept = orthanc.get(&format!("/instances/{id}/file")).await?;
            let object = export(&kept).object;
            arrived.insert(object.sop_instance.clone(), object.digest());
        }
        for instance in &study.instances {
            anyhow::ensure!(arrived.get(&instance.sop_instance) == Some(&instance.digest()), "{} arrived changed", instance.sop_instance);
        }
        world.site_mut().program.stop().await
    });
}

/// storescp stores and commits nothing: what it has is `sent`, and held with the row that says so. (dcmqrscp has no storage commitment
/// either.)
#[test]
fn storescp_stores_as_sent_and_without_commitment_nothing_is_committed() {
    if !has_tool("storescp") {
        return;
    }
    story(async {
        let archive = free_port()?;
        let mut world = site(archive, "STORESCP")?;
        let folder = world.folder().join("storescp");
        std::fs::create_dir_all(&folder)?;
        let mut command = Command::new("storescp");
        command.env("TCP_NODELAY", "1").args(["+B", "+xa", "-od"]).arg(&folder).arg(archive.port().to_string());
        let _receiver = Running(command.spawn()?);
        let probe = Modality { address: archive, tls: None, calling: "MODALITY".to_owned(), called: "ANY".to_owned(), identity: None };
        poll::until("storescp answers", poll::DEADLINE, || async { probe.echo().await.ok() }).await?;
        world.site_mut().program.start().await?;
        let study = Recipe::small(Kind::UsMultiFrame, Person::numbered(232), 3, 232).make();
        send_all(&world.site().modality(), &outgoing([&study]), 1).await?;
        all_are(&world, &study, "held(PC-3)").await?;
        for instance in &study.instances {
            let kept = std::fs::read_dir(&folder)?
                .filter_map(Result::ok)
                .find(|file| file.file_name().to_string_lossy().ends_with(&instance.sop_instance));
            let kept = std::fs::read(kept.map(|file| file.path()).unwrap_or_default())?;
            anyhow::ensure!(export(&kept).object.digest() == instance.digest(), "{} arrived changed", instance.sop_instance);
        }
        world.site_mut().program.stop().await
    });
}

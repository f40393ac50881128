//! Orthanc as the sender: files go in by its REST interface, and it stores them at the site.

use std::process::{Child, Command, Stdio};

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::poll;
use idr_tests::shared::has_tool;
use idr_tests::story::{fetch_and_compare, study_registered};
use serde_json::{Value, json};

use crate::story;

/// Ended when dropped.
struct Orthanc(Child);

impl Drop for Orthanc {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn orthanc_echoes_and_stores() {
    if !has_tool("Orthanc") {
        return;
    }
    story(async {
        let world = World::start(Plan::default()).await?;
        let (http, dicom) = (idr_tests::harness::free_port()?.port(), idr_tests::harness::free_port()?.port());
        let folder = world.folder().join("orthanc");
        std::fs::create_dir_all(&folder)?;
        let configuration = json!({
            "Name": "peer", "DicomAet": "MODALITY", "DicomPort": dicom, "HttpPort": http, "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false, "StorageDirectory": folder, "IndexDirectory": folder, "Plugins": [],
            "DicomModalities": {"site": ["IDRSITE", "127.0.0.1", world.site().dimse.port()]},
        });
        std::fs::write(folder.join("orthanc.json"), configuration.to_string())?;
        let log = std::fs::File::create(folder.join("log"))?;
        let program = if std::path::Path::new("/usr/sbin/Orthanc").exists() { "/usr/sbin/Orthanc" } else { "Orthanc" };
        let mut command = Command::new(program);
        command.arg(folder.join("orthanc.json")).env("TCP_NODELAY", "1").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let _orthanc = Orthanc(command.spawn()?);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let base = format!("http://127.0.0.1:{http}");
        poll::until("Orthanc answers", poll::DEADLINE, || async { client.get(format!("{base}/system")).send().await.ok() }).await?;

        client.post(format!("{base}/modalities/site/echo")).body("{}").send().await?.error_for_status()?;
        let study = Recipe::small(Kind::Ct, Person::numbered(121), 4, 1).make();
        let mut ids = Vec::new();
        for instance in &study.instances {
            let answer: Value = serde_json::from_slice(
                &client.post(format!("{base}/instances")).body(instance.part10()).send().await?.error_for_status()?.bytes().await?,
            )?;
            ids.push(answer["ID"].clone());
        }
        client.post(format!("{base}/modalities/site/store")).body(Value::from(ids).to_string()).send().await?.error_for_status()?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.stop().await
    });
}

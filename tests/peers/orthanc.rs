//! Orthanc as the sender: files go in by its REST interface, and it stores them at the site.

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::orthanc::Orthanc;
use idr_tests::shared::has_tool;
use idr_tests::story::{fetch_and_compare, study_registered};
use serde_json::{Value, json};

use crate::story;

#[test]
fn orthanc_echoes_and_stores() {
    if !has_tool("Orthanc") {
        return;
    }
    story(async {
        let world = World::start(Plan::default()).await?;
        let port = world.site().dimse.port();
        let settings = json!({"DicomAet": "MODALITY", "DicomModalities": {"site": ["IDRSITE", "127.0.0.1", port]}});
        let orthanc = Orthanc::start(&world.folder().join("orthanc"), settings).await?;

        orthanc.post("/modalities/site/echo", b"{}".to_vec()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(121), 4, 1).make();
        let mut ids = Vec::new();
        for instance in &study.instances {
            ids.push(orthanc.post("/instances", instance.part10()).await?["ID"].clone());
        }
        orthanc.post("/modalities/site/store", Value::from(ids).to_string().into_bytes()).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.stop().await
    });
}

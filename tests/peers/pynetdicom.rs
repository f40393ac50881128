//! pynetdicom as the modality.

use std::process::Command;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::shared::run;
use idr_tests::story::{fetch_and_compare, study_registered};

use crate::{here, python, story, write_files};

#[test]
fn pynetdicom_echoes_and_stores() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(111), 4, 1).make();
        let files = write_files(&study, &world.folder().join("files"))?;
        let port = world.site().dimse.port().to_string();
        run(Command::new(python).arg(here().join("store.py")).args(["localhost", &port, "MODALITY", "IDRSITE"]).args(files))?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        fetch_and_compare(&viewer, &study, &registered).await?;
        world.stop().await
    });
}

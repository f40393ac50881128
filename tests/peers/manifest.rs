//! The manifest under foreign eyes: DCMTK's `dsrdump` reads it, `dciodvfy` finds no error in it.

use std::process::Command;

use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World};
use idr_tests::shared::{has_tool, run};
use idr_tests::story::{outgoing, send_all, study_registered};

use crate::story;

#[test]
fn the_registered_manifest_is_a_valid_key_object_selection() {
    let (dsrdump, dciodvfy) = (has_tool("dsrdump"), has_tool("dciodvfy"));
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(131), 5, 1).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let registered = study_registered(&world.viewer()?, &study).await?;
        let file = world.folder().join("manifest.dcm");
        std::fs::write(&file, &registered.manifest)?;
        if dsrdump {
            let text = run(Command::new("dsrdump").arg(&file))?;
            anyhow::ensure!(text.contains("Manifest"), "dsrdump:\n{text}");
        }
        if dciodvfy {
            // Its exit status does not tell; an error is a line.
            let output = Command::new("dciodvfy").arg(&file).output()?;
            let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("Error")).collect();
            anyhow::ensure!(errors.is_empty(), "dciodvfy:\n{}", errors.join("\n"));
        }
        world.stop().await
    });
}

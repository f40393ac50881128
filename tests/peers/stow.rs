//! dicomweb-client (Python) and curl store at the site.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::pki::Usage;
use idr_tests::fixtures::study::{Kind, ORGANISATION, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::shared::{has_tool, run};
use idr_tests::story::{fetch_and_compare, study_registered};
use toml::Table;

use crate::{here, python, story, write_files};

/// A site that takes STOW-RS over mutual TLS and on loopback in plain, with its centre.
async fn world() -> anyhow::Result<(World, u16, u16)> {
    let site = Arc::new(|table: &mut Table| {
        let (certificate, key) = (table["dimse"]["certificate"].clone(), table["dimse"]["key"].clone());
        let any = || toml::Value::from(vec!["127.0.0.1:0".to_owned()]);
        let keys = [("stow.listen", any()), ("stow.listen_tls", any()), ("stow.certificate", certificate), ("stow.key", key)];
        edit(table, keys);
        let row = table["inbound"].as_array_mut().and_then(|rows| rows[0].as_table_mut()).expect("one row");
        edit(row, [("stow", true.into())]);
    });
    let mut world = World::prepare(Plan { site, ..Plan::default() })?;
    world.central.program.start().await?;
    let listening = world.site_mut().program.start().await?;
    Ok((world, listening.stow[0].port(), listening.stow_tls[0].port()))
}

#[test]
fn dicomweb_client_stores_and_is_told() {
    story(async {
        let Some(python) = python()? else { return Ok(()) };
        let (world, _, tls) = world().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(115), 4, 1).make();
        let files = write_files(&study, &world.folder().join("files"))?;
        let pacs = world.pki.issue("stow-pacs", ORGANISATION, Usage::Client)?;
        let store = |of: &str| {
            let mut command = Command::new(&python);
            command.arg(here().join("stow.py")).arg(format!("https://localhost:{tls}"));
            command.arg(world.pki.tls_anchor()).arg(&pacs.certificate).arg(&pacs.key).arg(of).args(&files);
            run(&mut command)
        };
        let told = store(&study.uid)?;
        ensure!(told.trim() == "4", "{told}");
        let registered = study_registered(&world.viewer()?, &study).await?;
        fetch_and_compare(&world.viewer()?, &study, &registered).await?;
        world.stop().await
    });
}

#[test]
fn curl_stores_a_body_that_it_makes() {
    if !has_tool("curl") {
        return;
    }
    story(async {
        let (world, plain, _) = world().await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(116), 2, 1).make();
        let mut body = Vec::new();
        for instance in &study.instances {
            body.extend_from_slice(b"--b\r\nContent-Type: application/dicom\r\n\r\n");
            body.extend_from_slice(&instance.part10());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b--");
        let file = world.folder().join("body");
        std::fs::write(&file, body)?;
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--noproxy",
            "*",
            "-w",
            "\n%{http_code}",
            "-H",
            "Content-Type: multipart/related; type=\"application/dicom\"; boundary=b",
        ]);
        // More than 1 MiB would be sent after `Expect: 100-continue`; here it is asked for.
        command
            .args(["-H", "Expect: 100-continue", "-H", "Accept: application/dicom+json", "--data-binary"])
            .arg(format!("@{}", file.display()));
        let told = run(command.arg(format!("http://127.0.0.1:{plain}/studies")))?;
        let (answer, status) = told.rsplit_once('\n').context("a status")?;
        ensure!(status == "200" && study.instances.iter().all(|instance| answer.contains(&instance.sop_instance)), "{told}");
        study_registered(&world.viewer()?, &study).await?;
        world.stop().await
    });
}

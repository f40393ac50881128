//! Foreign SOAP stacks against the centre: zeep asks and retrieves, node-soap registers a document by MTOM.

use std::path::PathBuf;
use std::process::Command;

use idr_ihe::ebxml::{self, Placement};
use idr_ihe::transaction::iti_42;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::report::submission;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, binary};
use idr_tests::shared::{folder, run};
use idr_tests::story::{outgoing, patient_id, send_all, study_registered};
use serde_json::Value;

use crate::{here, node, python, story};

fn wsdl() -> Option<PathBuf> {
    folder().map(|shared| shared.join("ihe/schemas/ipf-wsdl"))
}

#[test]
fn zeep_finds_a_study_and_retrieves_manifest_and_images() {
    story(async {
        let (Some(wsdl), Some(python)) = (wsdl(), python()?) else { return Ok(()) };
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(161), 3, 1).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        let mut command = Command::new(python);
        command.arg(here().join("zeep_consumer.py")).arg(wsdl).arg(viewer.gateway()).arg(world.folder()).arg(binary("make-assertion")?);
        let answer: Value = serde_json::from_str(&run(command.arg(patient_id(&study.person).to_cx()).arg(&study.uid))?)?;
        anyhow::ensure!(answer["unique_id"] == registered.entry.unique_id.as_str(), "{answer}");
        // Byte for byte what our own viewer gets.
        let patient = patient_id(&study.person);
        let manifest = viewer.iti_43(&patient, registered.repository(), &[&registered.entry.unique_id]).await?;
        anyhow::ensure!(answer["manifest_sha256"] == manifest.documents[0].sha256.as_str(), "the manifest differs: {answer}");
        let images = viewer.rad_69(&patient, registered.repository(), &study.uid, &registered.series).await?;
        anyhow::ensure!(images.documents.len() == study.instances.len(), "RAD-69 gave {} documents", images.documents.len());
        for image in &images.documents {
            anyhow::ensure!(answer["instances"][&image.unique_id] == image.sha256.as_str(), "{} differs: {answer}", image.unique_id);
        }
        world.stop().await
    });
}

#[test]
fn node_soap_registers_a_document_by_mtom() {
    story(async {
        let (Some(wsdl), Some(node)) = (wsdl(), node()?) else { return Ok(()) };
        let world = World::start(Plan::default()).await?;
        let patient = patient_id(&Person::numbered(162));
        // 300 kB, with bytes that look like a boundary.
        let mut document = b"%PDF-1.4\n\r\n--".to_vec();
        document.resize(300_000, b'x');
        document.extend_from_slice(b"\n%%EOF\n");
        let submission = submission(&world.hospital, &patient);
        let unique_id = submission.entries[0].unique_id.clone();
        let (objects, file) = (world.folder().join("objects.xml"), world.folder().join("document.pdf"));
        std::fs::write(&objects, iti_42::encode(&ebxml::encode(&submission, Placement::Nested)))?;
        std::fs::write(&file, &document)?;
        let viewer = world.viewer()?;
        let mut command = Command::new("node");
        command.env("IDR_PEERS_NODE", node).arg(here().join("soap_source.mjs")).arg(wsdl.join("iti41.wsdl")).arg(viewer.gateway());
        command.arg(world.folder()).arg(binary("make-assertion")?).arg(patient.to_cx()).arg(objects).arg(file);
        let answer = run(&mut command)?;
        let answer: Value = serde_json::from_str(answer.lines().last().unwrap_or_default())?;
        anyhow::ensure!(answer["status"].as_str().is_some_and(|status| status.ends_with(":Success")), "{answer}");
        let found = viewer.get_documents(&patient, &[&unique_id]).await?;
        let repository = found.entries.first().and_then(|entry| entry.repository_unique_id.clone()).unwrap_or_default();
        let retrieved = viewer.iti_43(&patient, &repository, &[&unique_id]).await?;
        anyhow::ensure!(retrieved.documents.first().is_some_and(|got| got.content == document), "the document came back changed");
        world.stop().await
    });
}

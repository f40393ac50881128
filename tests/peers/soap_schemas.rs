//! Every SOAP body that the programs emit is valid by the schemas of the shared folder, with XOP inlined: the site's requests,
//! taken on their way, and the centre's answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use idr_tests::consumer::Consumer;
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Plan, Relay, World, edit};
use idr_tests::shared::{folder, has_tool, run};
use idr_tests::story::{outgoing, patient_id, send_all, study_registered};

use crate::story;

#[test]
fn every_request_of_the_site_is_valid_by_its_schema() {
    let Some(schemas) = folder().map(|shared| shared.join("ihe/schemas/nist-v3")) else { return };
    if !has_tool("xmllint") {
        return;
    }
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.central.program.start().await?;
        let relay = Relay::start(&world).await?;
        let url = format!("https://localhost:{}", relay.address.port());
        world.site().program.configure(|table| edit(table, [("centre.url", url.into())]))?;
        world.site_mut().program.start().await?;
        // A study of each kind, then a late image, so that there is a replacement.
        let modality = world.site().modality_tls();
        let viewer = world.viewer()?;
        let kinds = [Kind::Ct, Kind::Dx, Kind::UsMultiFrame, Kind::Ecg, Kind::Pdf].into_iter().zip(1..);
        let studies: Vec<Study> = kinds.map(|(kind, seed)| Recipe::small(kind, Person::numbered(152), 2, seed).make()).collect();
        let first = Study { instances: studies[0].instances[..1].to_vec(), ..studies[0].clone() };
        send_all(&modality, &outgoing([&first]), 1).await?;
        study_registered(&viewer, &first).await?;
        send_all(&modality, &outgoing(&studies), 1).await?;
        for study in &studies {
            study_registered(&viewer, study).await?;
        }
        let check = Check { schemas, folder: world.folder().to_owned() };
        let envelopes = relay.envelopes();
        anyhow::ensure!(envelopes.len() > studies.len(), "{} requests were seen", envelopes.len());
        let mut replacements = 0;
        for envelope in &envelopes {
            replacements += usize::from(String::from_utf8_lossy(envelope).contains("AssociationType:RPLC"));
            check.request(envelope)?;
        }
        anyhow::ensure!(replacements >= 1, "no request replaces a manifest");
        world.stop().await
    });
}

#[test]
fn every_answer_of_the_centre_is_valid_by_its_schema() {
    let Some(schemas) = folder().map(|shared| shared.join("ihe/schemas/nist-v3")) else { return };
    if !has_tool("xmllint") {
        return;
    }
    story(async {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(151), 2, 1).make();
        let patient = patient_id(&study.person);
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let (viewer, other) = (world.viewer()?, world.other_viewer()?);
        let registered = study_registered(&viewer, &study).await?;
        let check = Check { schemas, folder: world.folder().to_owned() };
        let repository = registered.repository();
        for (who, consumer) in [("own", &viewer), ("other", &other)] {
            check.query(who, &consumer.find_documents(&patient).await?.envelope)?;
            check.query(who, &consumer.get_documents(&patient, &[&registered.entry.unique_id]).await?.envelope)?;
            check.query(who, &all_objects(consumer, &registered.entry.entry_uuid, &patient).await?)?;
            check.retrieve(who, &consumer.iti_43(&patient, repository, &[&registered.entry.unique_id]).await?.envelope)?;
            check.retrieve(who, &consumer.rad_69(&patient, repository, &study.uid, &registered.series).await?.envelope)?;
        }
        // A failure has its own shape.
        let wrong = viewer.query(&patient, "FindDocuments", &[("$XDSDocumentEntryPatientId", vec![patient.to_cx()])]).await?;
        check.query("failure", &wrong.envelope)?;
        world.stop().await
    });
}

async fn all_objects(consumer: &Consumer, entry: &str, patient: &idr_ihe::metadata::PatientId) -> anyhow::Result<Vec<u8>> {
    let types = ["urn:ihe:iti:2007:AssociationType:RPLC".to_owned(), "urn:ihe:iti:2007:AssociationType:APND".to_owned()].to_vec();
    let parameters = [("$XDSDocumentEntryEntryUUID", vec![entry.to_owned()]), ("$AssociationTypes", types)];
    Ok(consumer.query(patient, "GetRelatedDocuments", &parameters).await?.envelope)
}

struct Check {
    schemas: PathBuf,
    folder: PathBuf,
}

impl Check {
    /// A request of the site, by the element that it holds.
    fn request(&self, envelope: &[u8]) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(envelope);
        let (element, schema) = if text.contains("AdhocQueryRequest") {
            ("AdhocQueryRequest", "query.xsd")
        } else {
            ("ProvideAndRegisterDocumentSetRequest", "XDS.b_DocumentRepository.xsd")
        };
        self.body("site", envelope, element, &self.schemas.join(schema))
    }

    fn query(&self, what: &str, envelope: &[u8]) -> anyhow::Result<()> {
        self.body(what, envelope, "AdhocQueryResponse", &self.schemas.join("query.xsd"))
    }

    fn retrieve(&self, what: &str, envelope: &[u8]) -> anyhow::Result<()> {
        self.body(what, envelope, "RetrieveDocumentSetResponse", &self.schemas.join("XDS.b_DocumentRepository.xsd"))
    }

    /// Cuts the Body's child out, replaces each `xop:Include` by empty base64, and validates.
    fn body(&self, what: &str, envelope: &[u8], element: &str, schema: &Path) -> anyhow::Result<()> {
        let read = idr_ihe::soap::Envelope::read(envelope, Default::default()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        anyhow::ensure!(read.body_name().1 == element, "{what}: {} instead of {element}", read.body_name().1);
        let mut body = String::from_utf8(read.body_document())?;
        while let Some(from) = body.find("<xop:Include") {
            let to = from + body[from..].find("/>").ok_or_else(|| anyhow::anyhow!("an xop:Include with content"))? + 2;
            body.replace_range(from..to, "");
        }
        let file = self.folder.join("body.xml");
        std::fs::write(&file, &body)?;
        run(Command::new("xmllint").args(["--nonet", "--noout", "--schema"]).arg(schema).arg(&file))
            .map_err(|error| error.context(body))?;
        Ok(())
    }
}

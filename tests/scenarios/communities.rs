//! Two centres, each a community of its own, over mutual TLS: the first asks the second for its clients, and each decides for itself
//! (profile 08 §5, H-03, H-07, H-11).

use anyhow::{Context as _, ensure};
use idr_ihe::ebxml::{self, Placement, decode};
use idr_ihe::metadata::{DocumentEntry, PatientId};
use idr_ihe::transaction::iti_18::{self, Definition, ReturnType};
use idr_ihe::transaction::iti_42;
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::{RegistryResponse, Status};
use idr_ihe::transaction::table::action;
use idr_tests::consumer::{APPROVED, Consumer, Raw, Requester, TRANSFER_SYNTAXES};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::report::submission_with_folder;
use idr_tests::fixtures::study::{self, Recipe, Study};
use idr_tests::harness::{Central, NEIGHBOUR, NEIGHBOUR_AUDIENCE, NEIGHBOUR_REPOSITORY, Plan, World};
use idr_tests::story::{outgoing, patient_id, send_all};

use crate::story;

const HOME: &str = "urn:oid:1.2.246.10.12345671.12.1";
const CONTENT: [&[u8]; 2] = [b"a report of the other community", b"its addendum"];

fn find(patient: &PatientId, home: Option<&str>) -> String {
    let definition = Definition::of_name("FindDocuments").expect("a stored query");
    let parameters = [("$XDSDocumentEntryPatientId", vec![patient.to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])];
    iti_18::encode(definition, ReturnType::LeafClass, home, &parameters)
}

fn document(uid: &str) -> DocumentRequest {
    DocumentRequest {
        home_community_id: Some(format!("urn:oid:{NEIGHBOUR}")),
        repository_unique_id: Some(NEIGHBOUR_REPOSITORY.to_owned()),
        document_unique_id: Some(uid.to_owned()),
    }
}

fn images(study: &Study) -> String {
    // A small study is one series (`fixtures::study`).
    let documents = study.instances.iter().map(|instance| document(&instance.sop_instance)).collect();
    let series = SeriesRequest { series_instance_uid: Some(format!("{}.1", study.uid)), documents };
    rad_69::encode(&RetrieveImagingRequest {
        studies: vec![StudyRequest { study_instance_uid: Some(study.uid.clone()), series: vec![series] }],
        transfer_syntaxes: Some(TRANSFER_SYNTAXES.iter().map(|uid| Some((*uid).to_owned())).collect()),
    })
}

/// A reader whose assertions are made for both centres (04 §8).
fn of_both(mut reader: Consumer) -> Consumer {
    reader.requester.audiences.push(NEIGHBOUR_AUDIENCE.to_owned());
    reader
}

/// HTTP requests that a centre has answered.
async fn answered(centre: &Central) -> anyhow::Result<u64> {
    let page = reqwest::get(format!("http://{}/metrics", centre.program.health()?)).await?.error_for_status()?.text().await?;
    let counts = page.lines().filter(|line| line.starts_with("idr_central_answers_total{"));
    counts.map(|line| Ok(line.rsplit(' ').next().context("a value")?.parse::<u64>()?)).sum()
}

async fn ask(viewer: &Consumer, patient: &PatientId, action: &str, body: &str) -> anyhow::Result<Raw> {
    Ok(viewer.soap(action, body, &viewer.requester.security(Some(patient))?).await?)
}

async fn found(viewer: &Consumer, patient: &PatientId, home: Option<&str>) -> anyhow::Result<(RegistryResponse, Vec<DocumentEntry>)> {
    let response = ask(viewer, patient, action::ITI_18, &find(patient, home)).await?.soap(iti_18::read_response)?;
    Ok((response.registry, decode(&response.objects).submission.entries))
}

fn codes(registry: &RegistryResponse) -> Vec<&str> {
    registry.errors.iter().map(|error| error.error_code.as_str()).collect()
}

async fn register(world: &World, centre: &Central, patient: &PatientId) -> anyhow::Result<Vec<DocumentEntry>> {
    let reports = submission_with_folder(&world.hospital, patient);
    let documents: Vec<(&str, &[u8])> = reports.entries.iter().map(|entry| entry.entry_uuid.as_str()).zip(CONTENT).collect();
    let source = world.consumer_of(centre, Requester::storing(&world.hospital)?, &world.pacs)?;
    let objects = iti_42::encode(&ebxml::encode(&reports, Placement::Nested));
    let answer = source.iti_41(&objects, &documents, &source.requester.security(Some(patient))?).await?.registry_response()?;
    ensure!(answer.status == Status::Success, "ITI-41: {:?}", answer.errors);
    Ok(reports.entries)
}

#[test]
fn what_another_community_holds_is_found_and_retrieved_as_it_decides() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let mut there = world.neighbour(|row| drop(row.insert("query_by_patient".to_owned(), true.into())))?;
        world.central.program.start().await?;
        there.program.start().await?;
        let person = Person::numbered(411);
        let patient = patient_id(&person);
        let home = format!("urn:oid:{NEIGHBOUR}");

        let far = register(&world, &there, &patient).await?;
        let study = Recipe::small(study::Kind::Ct, person, 1, 2).make();
        send_all(&world.pacs_of(&there, &patient)?, &outgoing([&study]), 1).await?;
        let near = register(&world, &world.central, &patient).await?;

        // Permit: the register whose data it is.
        let viewer = of_both(world.viewer()?);
        let (registry, entries) = found(&viewer, &patient, Some(&home)).await?;
        ensure!(registry.status == Status::Success && entries.len() == far.len(), "{registry:?}: {} entries", entries.len());
        for entry in &entries {
            ensure!(entry.home_community_id.as_deref() == Some(&home), "H-02: {:?}", entry.home_community_id);
            ensure!(far.iter().any(|known| known.unique_id == entry.unique_id), "an entry of the other community");
        }
        let (registry, entries) = found(&viewer, &patient, None).await?;
        ensure!(registry.status == Status::Success && entries.len() == far.len() + near.len(), "by patient, both (H-03): {registry:?}");
        let (_, own) = found(&viewer, &patient, Some(HOME)).await?;
        ensure!(own.len() == near.len(), "the own one alone");

        let wanted: Vec<DocumentRequest> = far.iter().map(|entry| document(&entry.unique_id)).collect();
        let documents = iti_43::encode(&wanted);
        let answer = ask(&viewer, &patient, action::ITI_43, &documents).await?;
        let retrieved = answer.soap(iti_43::read_response)?;
        ensure!(retrieved.registry.status == Status::Success, "ITI-43: {:?}", retrieved.registry);
        let files = answer.files()?;
        let contents: Vec<&[u8]> = files.iter().map(|file| file.content.as_slice()).collect();
        ensure!(contents == CONTENT, "the documents as they were provided");
        let answer = ask(&viewer, &patient, action::RAD_69, &images(&study)).await?;
        let retrieved = answer.soap(iti_43::read_response)?;
        ensure!(retrieved.registry.status == Status::Success, "RAD-69: {:?}", retrieved.registry);
        for (file, instance) in answer.files()?.iter().zip(&study.instances) {
            ensure!(file.digest == Some(instance.digest()), "{} changed on its way", instance.sop_instance);
        }

        // Omit: another controller without consent, as if nothing were there.
        let other = of_both(world.other_viewer()?);
        let (registry, entries) = found(&other, &patient, Some(&home)).await?;
        ensure!(registry.status == Status::Success && registry.errors.is_empty() && entries.is_empty(), "{registry:?}");
        for (action, body, wanted) in [(action::ITI_43, &documents, 2), (action::RAD_69, &images(&study), study.instances.len())] {
            let answer = ask(&other, &patient, action, body).await?;
            let retrieved = answer.soap(iti_43::read_response)?;
            let expected = vec!["XDSDocumentUniqueIdError"; wanted];
            ensure!(retrieved.registry.status == Status::Failure && codes(&retrieved.registry) == expected, "{:?}", retrieved.registry);
            ensure!(answer.files()?.is_empty(), "a part without a document");
        }
        // The patient consents there, and the same caller sees it.
        for kind in ["informing", "consent"] {
            there.program.command(&["consent", "record", "--patient", &patient.to_cx(), "--kind", kind])?;
        }
        ensure!(found(&other, &patient, Some(&home)).await?.1.len() == far.len(), "with consent");

        // Refuse: a gate of ours, before anybody is asked.
        let before = answered(&there).await?;
        ensure!(before > 0, "it counts what it answers");
        let mut uncaring = of_both(world.viewer()?);
        uncaring.requester.attributes.retain(|(key, _)| *key != "care_reason");
        let answer = ask(&uncaring, &patient, action::ITI_18, &find(&patient, Some(&home))).await?;
        let refusal = answer.fault().context("a fault")?.refusal;
        ensure!(refusal.as_deref() == Some("IDR-X-27"), "{refusal:?}");
        // An assertion that is not made for them is not shown to them: left out by patient, unavailable when named.
        let ours = world.viewer()?;
        let (registry, entries) = found(&ours, &patient, None).await?;
        ensure!(registry.status == Status::Success && entries.len() == near.len(), "{registry:?}");
        let (registry, entries) = found(&ours, &patient, Some(&home)).await?;
        ensure!(codes(&registry) == ["XDSUnavailableCommunity"] && entries.is_empty(), "{registry:?}");
        for (action, body) in [(action::ITI_43, &documents), (action::RAD_69, &images(&study))] {
            let answer = ask(&ours, &patient, action, body).await?;
            let registry = answer.soap(iti_43::read_response)?.registry;
            ensure!(registry.errors.iter().all(|error| error.error_code == "XDSUnavailableCommunity"), "{registry:?}");
            ensure!(registry.status == Status::Failure && answer.files()?.is_empty(), "{registry:?}");
        }
        ensure!(answered(&there).await? == before, "a request reached the neighbour");

        // Away: the own part stays.
        there.program.kill().await?;
        let (registry, entries) = found(&viewer, &patient, None).await?;
        ensure!(registry.status == Status::PartialSuccess && entries.len() == near.len(), "{registry:?}");
        ensure!(codes(&registry) == ["XDSUnavailableCommunity"], "{registry:?}");
        there.program.start().await?;
        ensure!(found(&viewer, &patient, Some(&home)).await?.1.len() == far.len(), "there again");
        there.program.stop().await?;
        for words in [&["fsck"][..], &["audit", "verify", "--decisions"]] {
            there.program.command(words)?;
        }
        world.stop_centre_and_check().await
    });
}

/// 10 B9-S1: a server of the same authority with another key is not the community.
#[test]
fn a_gateway_with_another_key_is_not_asked() {
    story(async {
        let mut world = World::prepare(Plan::default())?;
        let pins = vec!["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()];
        let mut there = world.neighbour(|row| drop(row.insert("pins".to_owned(), toml::Value::Array(pins))))?;
        world.central.program.start().await?;
        there.program.start().await?;
        let patient = patient_id(&Person::numbered(412));
        let (registry, _) = found(&of_both(world.viewer()?), &patient, Some(&format!("urn:oid:{NEIGHBOUR}"))).await?;
        ensure!(registry.status == Status::Failure && codes(&registry) == ["XDSUnavailableCommunity"], "{registry:?}");
        there.program.stop().await?;
        world.stop_centre_and_check().await
    });
}

//! Every SOAP body that the programs emit is valid by the schemas of the shared folder, with XOP inlined: the site's requests,
//! taken on their way, and the centre's answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use idr_ihe::ebxml::{self, Placement};
use idr_ihe::metadata::PatientId;
use idr_ihe::soap::{Envelope, Framing, mtom, multipart};
use idr_ihe::transaction::iti_18::{self, Definition, ReturnType};
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::table::action;
use idr_ihe::transaction::{iti_42, registry_response::Status};
use idr_tests::consumer::{APPROVED, Raw, Requester, TRANSFER_SYNTAXES};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::report::{APND, new_uid, submission_with_folder};
use idr_tests::fixtures::study::{Kind, Recipe, Study};
use idr_tests::harness::{Exchange, Message, Plan, Relay, World};
use idr_tests::poll;
use idr_tests::shared::{folder, has_tool, run, workspace};
use idr_tests::story::{outgoing, patient_id, send_all, study_registered};

use crate::story;

#[test]
fn every_request_of_the_site_and_its_answer_are_valid_by_their_schemas() {
    let Some(schemas) = schemas() else { return };
    story(async {
        let mut world = World::prepare(Plan::default())?;
        world.central.program.start().await?;
        let relay = Relay::start(&world).await?;
        // The site then does not know what became of its first manifest, and asks.
        relay.lose_answer_to("ProvideAndRegisterDocumentSetRequest");
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
        let exchanges = poll::until("every answer has come, but the one that is lost", poll::DEADLINE, || async {
            Some(relay.exchanges()).filter(|seen| seen.iter().filter(|exchange| exchange.answered.is_none()).count() == 1)
        })
        .await?;

        let check = Check { schemas, folder: world.folder().to_owned() };
        let (mut seen, mut lost, mut replacements) = (BTreeMap::<_, usize>::new(), 0, 0);
        for Exchange { asked, answered } in exchanges {
            let Some(body) = body(&asked.content_type, &asked.body)? else { continue };
            replacements += usize::from(body.contains("AssociationType:RPLC"));
            *seen.entry(check.valid(&body)?).or_default() += 1;
            match answered {
                Some(answered) => *seen.entry(check.message(&answered)?).or_default() += 1,
                None => lost += 1,
            }
        }
        let seen_of = |element: &str| seen.get(element).copied().unwrap_or_default();
        let submitted = seen_of("ProvideAndRegisterDocumentSetRequest");
        ensure!(submitted > studies.len() && seen_of("RegistryResponse") == submitted - lost, "{seen:?}");
        ensure!(seen_of("AdhocQueryRequest") >= 1 && seen_of("AdhocQueryResponse") >= 1, "{seen:?}");
        ensure!(lost == 1 && replacements >= 1, "{lost} answers were lost, {replacements} requests replace a manifest");
        world.stop().await
    });
}

#[test]
fn every_answer_of_the_centre_is_valid_by_its_schema() {
    let Some(schemas) = schemas() else { return };
    story(async {
        let world = World::start(Plan::default()).await?;
        let check = Check { schemas, folder: world.folder().to_owned() };
        let study = Recipe::small(Kind::Ct, Person::numbered(151), 2, 1).make();
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let (viewer, other) = (world.viewer()?, world.other_viewer()?);
        let registered = study_registered(&viewer, &study).await?;

        // ITI-41: what succeeds, and without its documents fails.
        let patient = patient_id(&Person::numbered(153));
        let reports = submission_with_folder(&world.hospital, &patient);
        let objects = iti_42::encode(&ebxml::encode(&reports, Placement::Nested));
        let source = world.consumer(Requester::storing(&world.hospital)?, &world.pacs)?;
        let content: [&[u8]; 2] = [b"the report", b"its addendum"];
        let documents: Vec<(&str, &[u8])> = reports.entries.iter().map(|entry| entry.entry_uuid.as_str()).zip(content).collect();
        for (documents, expected) in [(&[][..], Status::Failure), (&documents, Status::Success)] {
            let answer = source.iti_41(&objects, documents, &source.requester.security(Some(&patient))?).await?;
            let status = answer.registry_response()?.status;
            ensure!(status == expected, "ITI-41: {status:?}");
            check.answer(&answer, "RegistryResponse")?;
        }

        // ITI-18: objects of every type and references to them, nothing, and a failure.
        let entry = &reports.entries[0];
        let all = vec![
            ("$patientId", vec![patient.to_cx()]),
            ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()]),
            ("$XDSSubmissionSetStatus", vec![APPROVED.to_owned()]),
            ("$XDSFolderStatus", vec![APPROVED.to_owned()]),
        ];
        let related = vec![("$XDSDocumentEntryUniqueId", vec![entry.unique_id.clone()]), ("$AssociationTypes", vec![APND.to_owned()])];
        let queries = [
            ("GetAll", all),
            ("GetSubmissionSetAndContents", vec![("$XDSSubmissionSetEntryUUID", vec![reports.submission_sets[0].entry_uuid.clone()])]),
            ("GetFolderAndContents", vec![("$XDSFolderEntryUUID", vec![reports.folders[0].entry_uuid.clone()])]),
            ("GetRelatedDocuments", related),
            ("FindDocuments", vec![("$XDSDocumentEntryPatientId", vec![patient.to_cx()])]),
        ];
        let mut told = String::new();
        for (name, parameters) in &queries {
            for returned in [ReturnType::LeafClass, ReturnType::ObjectRef] {
                for consumer in [&viewer, &other] {
                    let body = iti_18::encode(Definition::of_name(name).context("a stored query")?, returned, None, parameters);
                    let answer = consumer.soap(action::ITI_18, &body, &consumer.requester.security(Some(&patient))?).await?;
                    told += &check.answer(&answer, "AdhocQueryResponse")?;
                    // By the gateway of another community: with and without the community in it.
                    for home in [None, Some(HOME)] {
                        let body = iti_18::encode(Definition::of_name(name).context("a stored query")?, returned, home, parameters);
                        let answer = consumer.soap(action::ITI_38, &body, &consumer.requester.security(Some(&patient))?).await?;
                        check.answer(&answer, "AdhocQueryResponse")?;
                    }
                }
            }
        }
        for element in ["ExtrinsicObject", "RegistryPackage", "Association", "ObjectRef", "RegistryError"] {
            ensure!(told.contains(&format!("<rim:{element} ")) || told.contains(&format!("<rs:{element} ")), "no {element} was told");
        }

        // ITI-43 and RAD-69: all, a part, nothing.
        let (series, instances) = &registered.series[0];
        let request = |uid: &str, between: bool| DocumentRequest {
            home_community_id: between.then(|| HOME.to_owned()),
            repository_unique_id: Some(registered.repository().to_owned()),
            document_unique_id: Some(uid.to_owned()),
        };
        let images = |documents: Vec<DocumentRequest>| {
            let series = vec![SeriesRequest { series_instance_uid: Some(series.clone()), documents }];
            rad_69::encode(&RetrieveImagingRequest {
                studies: vec![StudyRequest { study_instance_uid: Some(study.uid.clone()), series }],
                transfer_syntaxes: Some(TRANSFER_SYNTAXES.iter().map(|uid| Some((*uid).to_owned())).collect()),
            })
        };
        let imaged = patient_id(&study.person);
        for (ids, expected) in [(1, Status::Success), (2, Status::PartialSuccess)] {
            let two = |first: &str, between| [request(first, between), request(&new_uid(), between)][..ids].to_vec();
            let asked: [(&str, String, &PatientId); 5] = [
                (action::ITI_43, iti_43::encode(&two(&registered.entry.unique_id, false)), &imaged),
                (action::ITI_43, iti_43::encode(&two(&entry.unique_id, false)), &patient),
                (action::RAD_69, images(two(&instances[0], false)), &imaged),
                (action::ITI_39, iti_43::encode(&two(&entry.unique_id, true)), &patient),
                (action::RAD_75, images(two(&instances[0], true)), &imaged),
            ];
            for (action, body, patient) in asked {
                for (consumer, expected) in [(&viewer, expected), (&other, Status::Failure)] {
                    let answer = consumer.soap(action, &body, &consumer.requester.security(Some(patient))?).await?;
                    let status = answer.soap(iti_43::read_response)?.registry.status;
                    ensure!(status == expected, "{action}: {status:?} instead of {expected:?}");
                    check.answer(&answer, "RetrieveDocumentSetResponse")?;
                }
            }
        }
        world.stop().await
    });
}

#[test]
fn every_example_is_valid_by_its_schema() {
    let Some(schemas) = schemas() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let check = Check { schemas, folder: folder.path().to_owned() };
    let mut seen = 0;
    for entry in std::fs::read_dir(workspace().join("docs/examples")).expect("the folder of the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        let body = match Envelope::read(text.as_bytes(), Default::default()) {
            Ok(envelope) => String::from_utf8(envelope.body_document()).expect("UTF-8"),
            Err(_) => text,
        };
        // The part is not in the example.
        let body = match (body.find("<xop:Include"), body.rfind("/>\n</xdsb:Document>")) {
            (Some(from), Some(to)) => format!("{}AA=={}", &body[..from], &body[to + 3..]),
            _ => body,
        };
        check.valid(&body).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
        seen += 1;
    }
    assert!(seen >= 14, "{seen} examples");
}

/// homeCommunityId of the centre.
const HOME: &str = "urn:oid:1.2.246.10.12345671.12.1";

fn schemas() -> Option<PathBuf> {
    folder().filter(|_| has_tool("xmllint")).map(|shared| shared.join("ihe/schemas/nist-v3"))
}

struct Check {
    schemas: PathBuf,
    folder: PathBuf,
}

impl Check {
    /// Validates an answer that holds this element; gives its body.
    fn answer(&self, answer: &Raw, element: &str) -> anyhow::Result<String> {
        let body = body(answer.header("content-type"), &answer.body)?.context("an answer without envelope")?;
        let found = self.valid(&body)?;
        ensure!(found == element, "{found} instead of {element}: {body}");
        Ok(body)
    }

    fn message(&self, message: &Message) -> anyhow::Result<&'static str> {
        self.valid(&body(&message.content_type, &message.body)?.context("an answer without envelope")?)
    }

    /// Validates a body by the schema of its element; gives the element.
    fn valid(&self, body: &str) -> anyhow::Result<&'static str> {
        let name = body.trim_start_matches('<').split([' ', '>', '/']).next().unwrap_or_default();
        let name = name.rsplit(':').next().unwrap_or_default();
        let Some((element, schema)) = SCHEMAS.into_iter().find(|(element, _)| *element == name) else { bail!("no schema for {body}") };
        let file = self.folder.join("body.xml");
        std::fs::write(&file, body)?;
        run(Command::new("xmllint").args(["--nonet", "--noout", "--huge", "--schema"]).arg(self.schemas.join(schema)).arg(&file))
            .map_err(|error| error.context(body.chars().take(20_000).collect::<String>()))?;
        Ok(element)
    }
}

const SCHEMAS: [(&str, &str); 9] = [
    ("RemoveObjectsRequest", "lcm.xsd"),
    ("RetrieveImagingDocumentSetRequest", "XDSI.b_ImagingDocumentSource.xsd"),
    ("RetrieveDocumentSetRequest", "XDS.b_DocumentRepository.xsd"),
    ("SubmitObjectsRequest", "lcm.xsd"),
    ("ProvideAndRegisterDocumentSetRequest", "XDS.b_DocumentRepository.xsd"),
    ("RetrieveDocumentSetResponse", "XDS.b_DocumentRepository.xsd"),
    ("AdhocQueryRequest", "query.xsd"),
    ("AdhocQueryResponse", "query.xsd"),
    ("RegistryResponse", "rs.xsd"),
];

/// The Body's child of a SOAP message, with the content of each part in the place of its `xop:Include`; `None` if the message is
/// another one.
fn body(content_type: &str, message: &[u8]) -> anyhow::Result<Option<String>> {
    let Ok(framing) = Framing::of(Some(content_type)) else { return Ok(None) };
    let (mut root, mut parts) = (Vec::new(), BTreeMap::<String, Vec<u8>>::new());
    match framing {
        Framing::Plain => root = message.to_vec(),
        Framing::Mtom { boundary, start } => {
            let mut reader = mtom::Reader::new(&boundary, start, multipart::Limits::MTOM)?;
            reader.feed(message)?;
            let mut id = String::new();
            while let Some(event) = reader.poll().map_err(|error| anyhow::anyhow!("{error:?}"))? {
                match event {
                    mtom::Event::Root(envelope) => root = envelope,
                    mtom::Event::Part(head) => id = head.content_id().context("a part without Content-ID")?,
                    mtom::Event::Data(data) => parts.entry(id.clone()).or_default().extend_from_slice(&data),
                    mtom::Event::PartEnd | mtom::Event::End => {}
                }
            }
            reader.finish()?;
        }
    }
    let read = Envelope::read(&root, Default::default()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut body = String::from_utf8(read.body_document())?;
    while let Some(from) = body.find("<xop:Include") {
        let to = from + body[from..].find("/>").context("an xop:Include with content")? + 2;
        let id = body[from..to].split_once("href=\"cid:").and_then(|(_, rest)| rest.split('"').next()).context("an href of a part")?;
        let content = parts.remove(id).with_context(|| format!("no part {id}"))?;
        body.replace_range(from..to, &STANDARD.encode(content));
    }
    ensure!(parts.is_empty(), "a part that nothing refers to: {:?}", parts.keys());
    Ok(Some(body))
}

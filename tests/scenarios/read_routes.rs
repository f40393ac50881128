//! Every route that reads × permit, omit, refuse, over the wire (profile 05 §8, §9; 09 §8).
//!
//! Which routes there are is not a list of this file: HTTP routes are those of the centre's [`ROUTES`], SOAP transactions those of
//! its [`soap::TRANSACTIONS`], stored queries those of the table of ITI-18. A route that reads and has no row here fails the test.
//!
//! The columns, for each row:
//! * permit: the register whose data it is gets what it asked for, and no more;
//! * omit: another controller, without consent, gets what it would get for something that does not exist, byte for byte up to
//!   ids, time and echoes, and so does the register itself for something that does not exist;
//! * refuse: a request that a gate refuses gets the gate's code, whether what it asks for exists or not.

mod web;

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, stream};
use idr_central::https::{ROUTES, Serves, soap};
use idr_ihe::ebxml::{self, Placement, decode, rim::Object};
use idr_ihe::metadata::{PatientId, Submission};
use idr_ihe::transaction::iti_18::{self, QueryResponse, ReturnType, definitions};
use idr_ihe::transaction::iti_42;
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::action;
use idr_profile::access::Operation;
use idr_profile::receipt::reconcile::{Found, Listed, Question, SignedFindings, root};
use idr_profile::receipt::{Carried, Kind};
use idr_profile::xua::{Class, Transaction};
use idr_tests::consumer::{APPROVED, AskError, Claim, Consumer, Raw, Requester, TRANSFER_SYNTAXES};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::report::{APND, REFERENCE, new_uuid, submission_with_folder};
use idr_tests::fixtures::study::{self, Recipe, Study};
use idr_tests::harness::{Plan, World};
use idr_tests::story::{Registered, outgoing, patient_id, send_all, study_registered};
use toml::{Table, Value};

use crate::story;

/// homeCommunityId of the centre.
const HOME: &str = "urn:oid:1.2.246.10.12345671.12.1";
/// Rows that are asked side by side.
const AT_ONCE: usize = 6;

#[test]
fn every_route_that_reads_permits_omits_and_refuses_as_the_profile_says() {
    story(async {
        let world = World::start(Plan { central: Box::new(viewers_may_ask_for_receipts), ..Plan::default() }).await?;
        let stored = store(&world).await?;
        let rows = rows(&stored);
        let asked: BTreeSet<Name> = rows.iter().map(Row::name).collect();
        ensure!(asked == reading_routes(), "routes of the centre that read: {:?}\nrows of this test: {asked:?}", reading_routes());

        let (professionals, technical) = (Callers::professional(&world)?, Callers::technical(&world)?);
        let checks = rows.iter().map(|row| {
            let callers = if row.by == By::Professional { &professionals } else { &technical };
            async move { row.check(callers).await.with_context(|| row.title()) }
        });
        let wrong: Vec<String> = stream::iter(checks)
            .buffered(AT_ONCE)
            .filter_map(|checked| async { checked.err().map(|error| format!("{error:#}")) })
            .collect()
            .await;
        ensure!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n\n"));

        // Nothing but the patient's consent was missing: with it the same request of the same caller is answered.
        for patient in [patient_id(&stored.study.person), stored.reports.entries[0].patient_id.clone()] {
            world.record_declaration(&patient, "informing")?;
            world.record_declaration(&patient, "consent")?;
        }
        for row in rows.iter().filter(|row| row.by == By::Professional) {
            let disclosed = row.stored.of(&professionals.other).await?;
            (row.holds)(&disclosed)
                .with_context(|| format!("{} with consent: {}", row.title(), String::from_utf8_lossy(&disclosed.body)))?;
        }
        eprintln!("{} rows, {} cells", rows.len(), rows.len() * 3);
        world.stop_and_check().await
    });
}

/// A route: transaction, and the stored query or the pattern of the path.
type Name = (String, Option<&'static str>);

/// What the centre serves and can tell something of a patient.
fn reading_routes() -> BTreeSet<Name> {
    let served = ROUTES.iter().flat_map(|route| match route.serves {
        Serves::Enrolment => Vec::new(),
        Serves::Soap => soap::TRANSACTIONS.iter().map(|transaction| (*transaction, None)).collect(),
        Serves::One(transaction) => vec![(transaction, Some(route.path))],
    });
    let by_query = |(transaction, path): (Transaction, Option<&'static str>)| -> Vec<Name> {
        let name = format!("{transaction:?}");
        match transaction {
            Transaction::Iti18 | Transaction::Iti38 => {
                definitions().iter().filter(|q| !q.multi_patient).map(|q| (name.clone(), Some(q.name))).collect()
            }
            _ => vec![(name, path)],
        }
    };
    // ITI-51 is off as shipped; the tests of the centre ask it.
    served.filter(|(transaction, _)| reads(*transaction) && *transaction != Transaction::Iti51).flat_map(by_query).collect()
}

fn reads(transaction: Transaction) -> bool {
    let operation = transaction.operation(Class::Query);
    !matches!(operation, Operation::Store | Operation::Correct | Operation::DeclWrite | Operation::Identity)
}

fn viewers_may_ask_for_receipts(table: &mut Table) {
    for row in table["peer"].as_array_mut().into_iter().flatten() {
        if row["name"].as_str().is_some_and(|name| name.ends_with("-viewer")) {
            row["transactions"].as_array_mut().expect("a list").push(Value::String("CUSTODY".to_owned()));
        }
    }
}

/// What is at the centre: a study, and reports of another person with a folder and a relationship.
struct Stored {
    study: Study,
    registered: Registered,
    reports: Submission,
    content: [&'static [u8]; 2],
    /// Somebody of whom the centre knows nothing.
    nobody: PatientId,
}

async fn store(world: &World) -> anyhow::Result<Stored> {
    let study = Recipe::small(study::Kind::Ct, Person::numbered(401), 1, 1).make();
    send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
    let registered = study_registered(&world.viewer()?, &study).await?;
    let patient = patient_id(&Person::numbered(402));
    let reports = submission_with_folder(&world.hospital, &patient);
    let content: [&'static [u8]; 2] = [b"the report", b"its addendum"];
    let documents: Vec<(&str, &[u8])> = reports.entries.iter().map(|entry| entry.entry_uuid.as_str()).zip(content).collect();
    let source = world.consumer(Requester::storing(&world.hospital)?, &world.pacs)?;
    let objects = iti_42::encode(&ebxml::encode(&reports, Placement::Nested));
    let answer = source.iti_41(&objects, &documents, &source.requester.security(Some(&patient))?).await?.registry_response()?;
    ensure!(answer.status == Status::Success, "ITI-41: {:?}", answer.errors);
    Ok(Stored { study, registered, reports, content, nobody: patient_id(&Person::numbered(403)) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Professional,
    Technical,
}

/// One request.
struct Ask {
    patient: PatientId,
    how: How,
    /// Values of the request that its answer may give back.
    echoes: Vec<String>,
}

enum How {
    Soap {
        action: &'static str,
        body: String,
    },
    Get {
        path: String,
    },
    /// About many patients: the token names none.
    Reconcile {
        question: String,
    },
}

impl Ask {
    async fn of(&self, caller: &Consumer) -> Result<Raw, AskError> {
        match &self.how {
            How::Soap { action, body } => {
                let security = caller.requester.security(Some(&self.patient)).map_err(AskError::Request)?;
                caller.soap(action, body, &security).await
            }
            How::Get { path } => {
                let token = caller.requester.jwt(Some(&self.patient), caller.tls_certificate()).map_err(AskError::Request)?;
                caller.get(path, &token).await
            }
            How::Reconcile { question } => {
                let token = caller.requester.jwt(None, caller.tls_certificate()).map_err(AskError::Request)?;
                caller.post_json("/custody/v1/reconcile", &token, question.clone()).await
            }
        }
    }

    fn comparable(&self, answer: &Raw) -> String {
        let mut echoes: Vec<String> = self.echoes.clone();
        if let (How::Reconcile { .. }, Ok(signed)) = (&self.how, serde_json::from_slice::<serde_json::Value>(&answer.body)) {
            // What is signed is told by its id and instant, and so the signature tells nothing.
            let own = [&signed["result"]["id"], &signed["result"]["at"], &signed["jws"]];
            echoes.extend(own.iter().filter_map(|value| value.as_str()).map(str::to_owned));
        }
        answer.comparable(&echoes.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

type Holds<'a> = Box<dyn Fn(&Raw) -> anyhow::Result<()> + Sync + 'a>;

/// A row of the table.
struct Row<'a> {
    transaction: Transaction,
    query: Option<&'static str>,
    /// Who may use it, and in what form the answer is.
    by: By,
    form: &'static str,
    /// For what is there.
    stored: Ask,
    /// For what is not: each way in which it may be absent.
    unknown: Vec<Ask>,
    /// Whether the answer holds all that was asked for.
    holds: Holds<'a>,
    /// Code of the refused request.
    refusal: &'static str,
}

impl Row<'_> {
    fn name(&self) -> Name {
        (format!("{:?}", self.transaction), self.query)
    }

    fn title(&self) -> String {
        format!("{:?} {} {} by {:?}", self.transaction, self.query.unwrap_or_default(), self.form, self.by)
    }

    async fn check(&self, callers: &Callers) -> anyhow::Result<()> {
        let permitted = self.stored.of(&callers.own).await?;
        (self.holds)(&permitted).with_context(|| format!("permit: {}", String::from_utf8_lossy(&permitted.body)))?;

        let omitted = self.stored.of(&callers.other).await?;
        self.is_absent(&omitted).with_context(|| format!("omit: {}", String::from_utf8_lossy(&omitted.body)))?;
        let refused = self.stored.of(callers.refused(self)).await?;
        let code = refusal(&refused);
        ensure!(code.as_deref() == Some(self.refusal), "refuse: {code:?} instead of {}", self.refusal);

        let (omitted, refused) = (self.stored.comparable(&omitted), self.stored.comparable(&refused));
        for unknown in &self.unknown {
            for (who, caller) in [("the denied", &callers.other), ("the permitted", &callers.own)] {
                let absent = unknown.comparable(&unknown.of(caller).await?);
                ensure!(omitted == absent, "denied is told from unknown, asked by {who} caller:\n{omitted}\n\n{absent}");
            }
            let absent = unknown.comparable(&unknown.of(callers.refused(self)).await?);
            ensure!(refused == absent, "a refusal depends on what is stored:\n{refused}\n\n{absent}");
        }
        Ok(())
    }

    /// What 05 §9 says of an answer of which everything is omitted.
    fn is_absent(&self, answer: &Raw) -> anyhow::Result<()> {
        match self.stored.how {
            How::Get { .. } if self.transaction == Transaction::QidoRs => {
                ensure!(answer.status == 204 && answer.body.is_empty(), "HTTP {}", answer.status);
            }
            How::Get { .. } => ensure!(answer.status == 404, "HTTP {}", answer.status),
            How::Reconcile { .. } => {
                let signed: SignedFindings = serde_json::from_slice(&answer.body)?;
                let [compared] = &signed.result.studies[..] else { anyhow::bail!("{:?}", signed.result) };
                ensure!((compared.result, compared.instances) == (Found::Missing, 0) && compared.held.is_empty(), "{compared:?}");
            }
            How::Soap { action: action::ITI_18 | action::ITI_38, .. } => {
                let found = answer.soap(iti_18::read_response)?;
                ensure!(found.registry.status == Status::Success && found.registry.errors.is_empty(), "{:?}", found.registry);
                ensure!(found.objects.objects.is_empty(), "objects are told");
            }
            How::Soap { .. } => {
                let retrieved = answer.soap(iti_43::read_response)?;
                let [error] = retrieved.registry.errors.as_slice() else { anyhow::bail!("{:?}", retrieved.registry) };
                ensure!(retrieved.registry.status == Status::Failure && retrieved.documents.is_empty(), "{:?}", retrieved.registry);
                ensure!(error.error_code == "XDSDocumentUniqueIdError" && error.code_context.starts_with("IDR-R-07 "), "{error:?}");
                ensure!(answer.files()?.is_empty(), "a part without a document");
            }
        }
        Ok(())
    }
}

/// Code of an open refusal: of a fault with HTTP 500, or of a problem with HTTP 401 or 403.
fn refusal(answer: &Raw) -> Option<String> {
    match answer.status {
        500 => answer.fault()?.refusal,
        401 | 403 => serde_json::from_slice::<serde_json::Value>(&answer.body).ok()?["refusal"].as_str().map(str::to_owned),
        _ => None,
    }
}

/// Who asks.
struct Callers {
    own: Consumer,
    other: Consumer,
    refused: Consumer,
    /// For what a person may not use at all.
    person: Consumer,
}

impl Callers {
    /// Physicians; the refused one has no care basis (G5).
    fn professional(world: &World) -> anyhow::Result<Self> {
        let mut refused = world.viewer()?;
        refused.requester.attributes.retain(|(key, _)| *key != "care_reason");
        Ok(Self { own: world.viewer()?, other: world.other_viewer()?, refused, person: world.viewer()? })
    }

    /// Technical users, who see metadata and receipts of their own register; the refused one asks as if it treated a patient
    /// (04 §11, V14).
    fn technical(world: &World) -> anyhow::Result<Self> {
        let technical = |party| Requester::technical(party);
        let person = Requester::professional(&world.hospital)?;
        let mut treating = technical(&world.hospital)?;
        // Its token may be used for queries: what it says of itself may not.
        treating.scope.push_str(" idr.query");
        treating.attributes.retain(|(key, _)| *key != "purpose");
        let wanted = |(key, _): &&(&str, Claim)| matches!(*key, "purpose" | "provider_identifier" | "care_reason");
        treating.attributes.extend(person.attributes.iter().filter(wanted).cloned());
        Ok(Self {
            own: world.consumer(technical(&world.hospital)?, &world.hospital.viewer)?,
            other: world.consumer(technical(&world.other)?, &world.other.viewer)?,
            refused: world.consumer(treating, &world.hospital.viewer)?,
            person: world.viewer()?,
        })
    }

    fn refused(&self, row: &Row<'_>) -> &Consumer {
        if matches!(row.transaction, Transaction::Receipts | Transaction::Reconcile) { &self.person } else { &self.refused }
    }
}

fn rows(stored: &Stored) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for definition in definitions().iter().filter(|definition| !definition.multi_patient) {
        for (returned, form) in [(ReturnType::LeafClass, "LeafClass"), (ReturnType::ObjectRef, "ObjectRef")] {
            for (transaction, by, refusal) in [
                (Transaction::Iti18, By::Professional, "IDR-X-27"),
                (Transaction::Iti18, By::Technical, "IDR-X-24"),
                (Transaction::Iti38, By::Professional, "IDR-X-27"),
            ] {
                let between = transaction == Transaction::Iti38;
                let (action, home) = if between { (action::ITI_38, Some(HOME)) } else { (action::ITI_18, None) };
                let Some(query) = Query::of(definition.name, stored) else { continue };
                let ask = |(patient, parameters): (PatientId, Vec<(&str, Vec<String>)>)| {
                    let body = iti_18::encode(definition, returned, home, &parameters);
                    Ask { patient, how: How::Soap { action, body }, echoes: Vec::new() }
                };
                let expected = query.expected;
                rows.push(Row {
                    transaction,
                    query: Some(definition.name),
                    by,
                    form,
                    stored: ask(query.stored),
                    unknown: vec![ask(query.unknown)],
                    holds: Box::new(move |answer| found(&answer.soap(iti_18::read_response)?, returned, &expected)),
                    refusal,
                });
            }
        }
    }
    for (own, between) in [(Transaction::Iti43, false), (Transaction::Iti39, true)] {
        rows.push(documents(stored, own, between));
    }
    for (own, between) in [(Transaction::Rad69, false), (Transaction::Rad75, true)] {
        rows.push(imaging(stored, own, between));
    }
    rows.extend([receipts(stored), reconcile(stored)]);
    rows.extend(web::rows(stored));
    rows
}

/// A stored query: parameters for what is there and for what is not, and the ids of what it is to find.
struct Query {
    stored: (PatientId, Vec<(&'static str, Vec<String>)>),
    unknown: (PatientId, Vec<(&'static str, Vec<String>)>),
    expected: BTreeSet<String>,
}

impl Query {
    /// `None` for a query that this test does not know; its row is then missing.
    fn of(name: &str, stored: &Stored) -> Option<Self> {
        let reports = &stored.reports;
        let (report, addendum) = (&reports.entries[0], &reports.entries[1]);
        let (set, folder) = (&reports.submission_sets[0], &reports.folders[0]);
        let ids: Vec<&String> = reports.associations.iter().map(|association| &association.entry_uuid).collect();
        let [set_report, set_addendum, set_folder, folder_report, set_membership, appended] = ids[..] else {
            unreachable!("the fixture has six associations")
        };
        let (entry_a, entry_b) = (&report.entry_uuid, &addendum.entry_uuid);
        let approved = |key: &'static str| (key, vec![APPROVED.to_owned()]);
        let patient = &report.patient_id;
        // By patient: unknown is somebody without anything. By id: another id of the same patient.
        let by_patient = |key: &'static str, rest: &[(&'static str, Vec<String>)], expected: &[&String]| {
            let of = |patient: &PatientId| (patient.clone(), [&[(key, vec![patient.to_cx()])], rest].concat());
            Self { stored: of(patient), unknown: of(&stored.nobody), expected: expected.iter().map(|id| (*id).clone()).collect() }
        };
        let by_id = |key: &'static str, id: &str, rest: &[(&'static str, Vec<String>)], expected: &[&String]| {
            let of = |id: &str| (patient.clone(), [&[(key, vec![id.to_owned()])], rest].concat());
            let unknown = if id.starts_with("urn:uuid:") { new_uuid() } else { same_length_uid(id) };
            Self { stored: of(id), unknown: of(&unknown), expected: expected.iter().map(|id| (*id).clone()).collect() }
        };
        let (entry_patient, entry_status) = ("$XDSDocumentEntryPatientId", approved("$XDSDocumentEntryStatus"));
        Some(match name {
            "FindDocuments" => by_patient(entry_patient, &[entry_status], &[entry_a, entry_b]),
            "FindDocumentsByReferenceId" => {
                by_patient(entry_patient, &[entry_status, ("$XDSDocumentEntryReferenceIdList", vec![REFERENCE.to_owned()])], &[entry_a])
            }
            "FindDocumentsExclude" => {
                let excluded = "11502-2^^2.16.840.1.113883.6.1".to_owned();
                by_patient(entry_patient, &[entry_status, ("$XDSDocumentEntryTypeCodeExclude", vec![excluded])], &[entry_a])
            }
            "FindSubmissionSets" => by_patient("$XDSSubmissionSetPatientId", &[approved("$XDSSubmissionSetStatus")], &[&set.entry_uuid]),
            "FindFolders" => by_patient("$XDSFolderPatientId", &[approved("$XDSFolderStatus")], &[&folder.entry_uuid]),
            "GetAll" => {
                let statuses = [entry_status, approved("$XDSSubmissionSetStatus"), approved("$XDSFolderStatus")];
                let objects = [entry_a, entry_b, &set.entry_uuid, &folder.entry_uuid];
                // Associations with both ends among these objects (08 §8): not the set's with the membership in the folder.
                let among = [set_report, set_addendum, set_folder, folder_report, appended];
                by_patient("$patientId", &statuses, &[&objects[..], &among[..]].concat())
            }
            "GetDocuments" => by_id("$XDSDocumentEntryUniqueId", &report.unique_id, &[], &[entry_a]),
            "GetFolders" => by_id("$XDSFolderUniqueId", &folder.unique_id, &[], &[&folder.entry_uuid]),
            "GetAssociations" => by_id("$uuid", entry_a, &[], &[set_report, folder_report, appended]),
            "GetDocumentsAndAssociations" => {
                by_id("$XDSDocumentEntryEntryUUID", entry_a, &[], &[entry_a, set_report, folder_report, appended])
            }
            "GetSubmissionSets" => by_id("$uuid", entry_a, &[], &[&set.entry_uuid, set_report]),
            "GetSubmissionSetAndContents" => {
                let objects = [&set.entry_uuid, entry_a, entry_b, &folder.entry_uuid];
                let members = [set_report, set_addendum, set_folder, folder_report, set_membership];
                by_id("$XDSSubmissionSetEntryUUID", &set.entry_uuid, &[], &[&objects[..], &members[..]].concat())
            }
            "GetFolderAndContents" => by_id("$XDSFolderEntryUUID", &folder.entry_uuid, &[], &[&folder.entry_uuid, entry_a, folder_report]),
            "GetFoldersForDocument" => by_id("$XDSDocumentEntryUniqueId", &report.unique_id, &[], &[&folder.entry_uuid]),
            "GetRelatedDocuments" => {
                let types = [("$AssociationTypes", vec![APND.to_owned()])];
                by_id("$XDSDocumentEntryUniqueId", &report.unique_id, &types, &[entry_a, entry_b, appended])
            }
            _ => return None,
        })
    }
}

/// The answer names these objects and no others.
fn found(response: &QueryResponse, returned: ReturnType, expected: &BTreeSet<String>) -> anyhow::Result<()> {
    ensure!(response.registry.status == Status::Success && response.registry.errors.is_empty(), "{:?}", response.registry);
    let told: Vec<String> = match returned {
        ReturnType::ObjectRef => {
            let id = |object: &Object| match object {
                Object::ObjectRef(reference) => reference.id.clone().context("an ObjectRef without id"),
                _ => anyhow::bail!("an object in an answer of ObjectRef"),
            };
            response.objects.objects.iter().map(id).collect::<Result<_, _>>()?
        }
        ReturnType::LeafClass => {
            let decoded = decode(&response.objects);
            ensure!(decoded.problems.is_empty(), "{:?}", decoded.problems);
            let told = decoded.submission;
            ensure!(told.entries.iter().all(|entry| entry.hash.is_some() && entry.repository_unique_id.is_some()), "an entry is not whole");
            let packages =
                told.submission_sets.iter().map(|set| &set.entry_uuid).chain(told.folders.iter().map(|folder| &folder.entry_uuid));
            let associations = told.associations.iter().map(|association| &association.entry_uuid);
            told.entries.iter().map(|entry| &entry.entry_uuid).chain(packages).chain(associations).cloned().collect()
        }
    };
    let set: BTreeSet<String> = told.iter().cloned().collect();
    ensure!(set == *expected && set.len() == told.len(), "told {told:?}\nexpected {expected:?}");
    Ok(())
}

/// `between`: asked by the gateway of another community, which names ours.
fn documents(stored: &Stored, transaction: Transaction, between: bool) -> Row<'_> {
    let report = &stored.reports.entries[0];
    let ask = |uid: String| {
        let body = iti_43::encode(&[document(stored, &uid, between)]);
        let action = if between { action::ITI_39 } else { action::ITI_43 };
        Ask { patient: report.patient_id.clone(), how: How::Soap { action, body }, echoes: vec![uid] }
    };
    Row {
        transaction,
        query: None,
        by: By::Professional,
        form: "",
        stored: ask(report.unique_id.clone()),
        unknown: vec![ask(same_length_uid(&report.unique_id))],
        holds: Box::new(|answer| {
            let retrieved = answer.soap(iti_43::read_response)?;
            ensure!(retrieved.registry.status == Status::Success, "{:?}", retrieved.registry);
            let files = answer.files()?;
            ensure!(files.len() == 1 && files[0].content == stored.content[0], "the document came back changed");
            Ok(())
        }),
        refusal: "IDR-X-27",
    }
}

fn imaging(stored: &Stored, transaction: Transaction, between: bool) -> Row<'_> {
    let (series, instances) = &stored.registered.series[0];
    let ask = |study: &str, series: &str, instance: &str| {
        let documents = vec![document(stored, instance, between)];
        let action = if between { action::RAD_75 } else { action::RAD_69 };
        let series_requests = vec![SeriesRequest { series_instance_uid: Some(series.to_owned()), documents }];
        let request = RetrieveImagingRequest {
            studies: vec![StudyRequest { study_instance_uid: Some(study.to_owned()), series: series_requests }],
            transfer_syntaxes: Some(TRANSFER_SYNTAXES.iter().map(|uid| Some((*uid).to_owned())).collect()),
        };
        Ask {
            patient: patient_id(&stored.study.person),
            how: How::Soap { action, body: rad_69::encode(&request) },
            echoes: vec![instance.to_owned()],
        }
    };
    Row {
        transaction,
        query: None,
        by: By::Professional,
        form: "",
        stored: ask(&stored.study.uid, series, &instances[0]),
        unknown: absent_instances(&stored.study.uid, series, &instances[0], ask),
        holds: Box::new(|answer| {
            let retrieved = answer.soap(iti_43::read_response)?;
            ensure!(retrieved.registry.status == Status::Success, "{:?}", retrieved.registry);
            is_as_sent(stored, answer)
        }),
        refusal: "IDR-X-27",
    }
}

/// Nothing there; there in another series, of another study: each is as unknown as the other.
fn absent_instances(study: &str, series: &str, instance: &str, ask: impl Fn(&str, &str, &str) -> Ask) -> Vec<Ask> {
    let other = same_length_uid;
    vec![ask(study, series, &other(instance)), ask(study, &other(series), instance), ask(&other(study), series, instance)]
}

fn is_as_sent(stored: &Stored, answer: &Raw) -> anyhow::Result<()> {
    let files = answer.files()?;
    let sent = stored.study.instances[0].digest();
    ensure!(files.len() == 1 && files[0].digest == Some(sent), "the instance came back changed");
    Ok(())
}

fn receipts(stored: &Stored) -> Row<'_> {
    let ask = |study: &str| Ask {
        patient: patient_id(&stored.study.person),
        how: How::Get { path: format!("/dicomweb/studies/{study}/receipts") },
        echoes: Vec::new(),
    };
    Row {
        transaction: Transaction::Receipts,
        query: Some("/dicomweb/studies/{study}/receipts"),
        by: By::Technical,
        form: "",
        stored: ask(&stored.study.uid),
        unknown: vec![ask(&same_length_uid(&stored.study.uid))],
        holds: Box::new(|answer| {
            ensure!(answer.status == 200, "HTTP {}", answer.status);
            let values: Vec<serde_json::Value> = serde_json::from_slice(&answer.body)?;
            let carried = values.iter().map(Carried::from_value).collect::<Result<Vec<_>, _>>()?;
            let sent = stored.study.instances[0].digest();
            let has = |kind: Kind| carried.iter().any(|carried| carried.receipt().kind() == kind);
            let committed = carried.iter().any(|carried| carried.receipt().object().is_some_and(|object| object.digest == sent));
            ensure!(committed && has(Kind::Commit) && has(Kind::Registration), "R3 of what was sent, or R4, is missing");
            Ok(())
        }),
        refusal: "IDR-X-25",
    }
}

fn reconcile(stored: &Stored) -> Row<'_> {
    let sent = stored.study.instances[0].digest();
    let ask = |study: &str| {
        let listed = Listed { study_uid: study.to_owned(), instances: 2, root: root([&sent, &sent]), after: None };
        let question = serde_json::to_string(&Question { studies: vec![listed] }).expect("JSON");
        Ask { patient: patient_id(&stored.study.person), how: How::Reconcile { question }, echoes: vec![study.to_owned()] }
    };
    Row {
        transaction: Transaction::Reconcile,
        query: Some("/custody/v1/reconcile"),
        by: By::Technical,
        form: "",
        stored: ask(&stored.study.uid),
        unknown: vec![ask(&same_length_uid(&stored.study.uid))],
        holds: Box::new(move |answer| {
            let signed: SignedFindings = serde_json::from_slice(&answer.body)?;
            let [compared] = &signed.result.studies[..] else { anyhow::bail!("{:?}", signed.result) };
            let held: Vec<_> = compared.held.iter().map(|held| held.digest).collect();
            ensure!(compared.result == Found::Missing && held == [sent], "{compared:?}");
            Ok(())
        }),
        refusal: "IDR-X-25",
    }
}

fn document(stored: &Stored, uid: &str, between: bool) -> DocumentRequest {
    DocumentRequest {
        home_community_id: between.then(|| HOME.to_owned()),
        repository_unique_id: Some(stored.registered.repository().to_owned()),
        document_unique_id: Some(uid.to_owned()),
    }
}

/// A UID that names nothing, as long as this one: its last digit is another.
fn same_length_uid(uid: &str) -> String {
    let (rest, last) = uid.split_at(uid.len() - 1);
    let digit: u32 = last.parse().expect("a UID ends with a digit");
    // Not 0, which could follow a dot only alone.
    format!("{rest}{}", digit % 9 + 1)
}

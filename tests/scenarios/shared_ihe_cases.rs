//! Messages of the shared folder's `ihe` that must fail, over the wire: submissions, queries and RAD-69 requests.
//!
//! What is expected of each stands in the tables beside them; what differs, and why, stands here ([`OF_ITI_41`],
//! [`REGISTRY_ISSUE`]), and these lists are exact. A case is adapted only where it names what a centre has its own of: patients,
//! document bytes, repository. That this is not what makes it fail is shown by the same message without its fault.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use idr_ihe::metadata::PatientId;
use idr_ihe::transaction::iti_18::{Definition, ReturnType};
use idr_ihe::transaction::registry_response::RegistryResponse;
use idr_ihe::transaction::table::action;
use idr_ihe::transaction::{iti_18, iti_43};
use idr_tests::consumer::{APPROVED, AskError, Consumer, Raw, Requester};
use idr_tests::fixtures::person::Person;
use idr_tests::fixtures::study::{Kind, Recipe};
use idr_tests::harness::{Plan, World, edit};
use idr_tests::shared::folder;
use idr_tests::story::{outgoing, patient_id, send_all, study_registered};

use crate::story;

/// Cases whose code is another in ITI-41, by the profile.
const OF_ITI_41: [(&str, &str, &str); 1] = [(
    "uniqueid-used-twice-in-message.xml",
    "XDSRepositoryDuplicateUniqueIdInMessage",
    "08 §9, M-135: what ITI-42 answers; in ITI-41 it is M-406",
)];

/// Cases of ITI-42 alone, sent by it: in ITI-41 the repository adds what is missing (08 §9, M-112, M-114).
const REGISTRY_ISSUE: [&str; 2] = ["register-missing-hash.xml", "register-missing-size.xml"];

/// 36 bytes, as the cases say of their document, which is not among them.
const DOCUMENT: &[u8] = b"Annual physical of a test person, ok";
const DOCUMENT_SHA1: &str = "18d87fbb15cfecf3c3b6bcd7c66234756badbd85";
/// What the cases say of theirs.
const CASE_SHA1: &str = "fbe2351a6a8ceba1a04ba3f832a12a53befeb04c";

/// A SATU with its check character: an identifier of the profile, but of nobody whom a registration would create (06 §2.1, §6).
const NOBODY: (&str, &str) = ("12345678N", "1.2.246.22");
const CASE_AUTHORITY: &str = "^^^&amp;1.3.6.1.4.1.21367.2005.13.20.1000&amp;ISO";

#[test]
fn a_submission_that_must_fail_does_and_leaves_nothing() {
    let Some(shared) = folder() else { return };
    story(async move {
        let mut world = World::prepare(Plan { central: Box::new(name_the_register_of_the_pacs), ..Plan::default() })?;
        world.central.program.start().await?;
        let (source, viewer) = (world.consumer(Requester::storing(&world.hospital)?, &world.pacs)?, world.viewer()?);
        let baseline = read(&shared, "register-negative/00-baseline-good.xml")?;
        let rules = rules(&shared)?;
        let cases = table(&shared, "register-negative-cases.tsv")?;
        ensure!(cases.len() >= 37, "{} cases", cases.len());

        let mut wrong = Vec::new();
        let mut others = BTreeMap::new();
        for (number, [file, status, code]) in (0..).zip(&cases) {
            let text = read(&shared, &format!("register-negative/{file}"))?;
            let persons = Persons::numbered(number);
            let answer = persons.submit(&source, &text).await?;
            let told = Told::of(answer.registry_response());
            let expected = OF_ITI_41.iter().find(|(of, ..)| of == file).map_or(code.as_str(), |(_, code, _)| code);
            if !told.is(status, code) {
                others.insert(file.as_str(), told.clone());
            }
            if REGISTRY_ISSUE.contains(&file.as_str()) {
                continue;
            }
            if !told.is(status, expected) {
                wrong.push(format!("{file}: expected {status} {expected}, got {told:?}"));
                continue;
            }
            if status == "Success" {
                continue;
            }
            let named = rules.iter().filter(|(of, _)| of == file).flat_map(|(_, ids)| ids).collect::<Vec<_>>();
            if expected == code && !named.iter().any(|id| told.contexts.iter().any(|context| context.starts_with(&format!("IDR-{id} ")))) {
                wrong.push(format!("{file}: none of the rules {named:?} that the profile names for it: {told:?}"));
            }
            if let Some(left) = persons.left(&viewer).await? {
                wrong.push(format!("{file}: refused, but something is there: {left}"));
            }
            // The same message without its fault: same identifiers, same adaptation.
            let mended = baseline.replace("10.1999.0.", &format!("10.1999.{}.", case_number(&text)?));
            let told = Told::of(persons.submit(&source, &mended).await?.registry_response());
            if !told.is("Success", "") {
                wrong.push(format!("{file}: the adapted baseline does not succeed either: {told:?}"));
            }
        }
        let listed: Vec<&str> = OF_ITI_41.iter().map(|(file, ..)| *file).chain(REGISTRY_ISSUE).collect();
        ensure!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
        ensure!(
            others.len() == listed.len() && listed.iter().all(|file| others.contains_key(file)),
            "listed {listed:?}, come out otherwise: {others:?}"
        );

        // In ITI-41 they are no faults.
        for file in REGISTRY_ISSUE {
            ensure!(others[file].is("Success", ""), "{file} in ITI-41: {:?}", others[file]);
            let persons = Persons::numbered(900);
            let text = persons.adapt(&read(&shared, &format!("register-negative/{file}"))?);
            let answer = source.soap(action::ITI_42, &text, &source.requester.security(Some(&persons.patient))?).await?;
            let told = Told::of(answer.registry_response());
            let [_, status, code] = cases.iter().find(|[of, ..]| of == file).context("it is in the table")?;
            ensure!(told.is(status, code), "{file} in ITI-42: expected {status} {code}, got {told:?}");
        }
        eprintln!("{} cases: {} as listed there, {OF_ITI_41:?}, of ITI-42: {REGISTRY_ISSUE:?}", cases.len(), cases.len() - listed.len());
        world.central.program.stop().await
    });
}

#[test]
fn queries_and_imaging_requests_that_must_fail_do_and_without_their_fault_they_succeed() {
    let Some(shared) = folder() else { return };
    story(async move {
        let world = World::start(Plan::default()).await?;
        let study = Recipe::small(Kind::Ct, Person::numbered(501), 1, 1).make();
        let patient = patient_id(&study.person);
        send_all(&world.site().modality_tls(), &outgoing([&study]), 1).await?;
        let viewer = world.viewer()?;
        let registered = study_registered(&viewer, &study).await?;
        let ask = async |action: &str, body: &str| -> anyhow::Result<Raw> {
            Ok(viewer.soap(action, body, &viewer.requester.security(Some(&patient))?).await?)
        };

        let (mut wrong, mut tried) = (Vec::new(), 0);
        let persons = Persons { patient: patient.clone(), other: patient.clone() };
        for [file, status, code] in table(&shared, "query-negative-cases.tsv")? {
            let text = persons.adapt(&read(&shared, &format!("query-negative/{file}"))?);
            let told = queried(&ask(action::ITI_18, &text).await?);
            if !told.is(&status, &code) {
                wrong.push(format!("{file}: expected {status} {code}, got {told:?}"));
            }
            let mended = mended(&QUERIES, &file, &text, |value| value.replace("PATIENT", &patient.to_cx().replace('&', "&amp;")))?;
            let told = queried(&ask(action::ITI_18, &mended).await?);
            if !told.is("Success", "") {
                wrong.push(format!("{file}: without its fault it does not succeed either: {told:?}"));
            }
            tried += 1;
        }
        ensure!(tried == QUERIES.len(), "{tried} queries, {} are known here", QUERIES.len());

        let (series, instances) = &registered.series[0];
        let ours = |text: &str| {
            // The longest first: each is the start of the next.
            text.replace("1.2.826.0.1.3680043.10.1999.5.1.1.1", &instances[0])
                .replace("1.2.826.0.1.3680043.10.1999.5.1.1", series)
                .replace("1.2.826.0.1.3680043.10.1999.5.1", &study.uid)
                .replace("1.2.826.0.1.3680043.10.1999.99", registered.repository())
        };
        let (mut code, mut tried) = (String::new(), 0);
        for [file, expected, _] in table(&shared, "rad69-negative-cases.tsv")? {
            if expected != "as above" {
                // The profile takes the first of two ways that the table leaves open (08 §11, R-02, R-03).
                code = expected.split(' ').next().unwrap_or_default().to_owned();
            }
            let text = ours(&read(&shared, &format!("rad69-negative/{file}"))?);
            let answer = ask(action::RAD_69, &text).await?;
            let told = retrieved(&answer);
            if !told.is("Failure", &code) || !answer.files()?.is_empty() {
                wrong.push(format!("{file}: expected Failure {code}, got {told:?}"));
            }
            let fill = |value: &str| {
                value.replace("REPOSITORY", registered.repository()).replace("STUDY", &study.uid).replace("INSTANCE", &instances[0])
            };
            let answer = ask(action::RAD_69, &mended(&IMAGING, &file, &text, fill)?).await?;
            let files = answer.files().context("an answer with files")?;
            if files.len() != 1 || files[0].digest != Some(study.instances[0].digest()) {
                let told = retrieved(&answer);
                wrong.push(format!("{file}: without its fault it does not give the instance: {told:?}"));
            }
            tried += 1;
        }
        ensure!(tried == IMAGING.len(), "{tried} RAD-69 requests, {} are known here", IMAGING.len());
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        world.stop().await
    });
}

/// What takes the fault out of a message: what stands there, and what then stands there.
type Mend = (&'static str, &'static str, &'static str);

const QUERIES: [Mend; 10] = [
    (
        "finddocuments-no-patientid.xml",
        QUERY_SLOTS,
        r#"<rim:Slot name="$XDSDocumentEntryPatientId"><rim:ValueList><rim:Value>'PATIENT'</rim:Value></rim:ValueList></rim:Slot>"#,
    ),
    ("finddocuments-classcode-slot-twice.xml", r#""$XDSDocumentEntryClassCode""#, r#""$XDSDocumentEntryTypeCode""#),
    ("finddocuments-time-not-digits.xml", ">lol<", ">20260101<"),
    ("getdocuments-both-ids.xml", r#""$XDSDocumentEntryUniqueId""#, r#""$another""#),
    ("getdocuments-home-bad.xml", r#"home="1.2.3""#, r#"home="urn:oid:1.2.246.10.12345671.12.1""#),
    (
        "getsubmissionsets-no-uuid.xml",
        r#"-b1980040715a"/>"#,
        r#"-b1980040715a"><rim:Slot name="$uuid"><rim:ValueList><rim:Value>('urn:uuid:00000000-0000-4000-8000-000000000001')</rim:Value></rim:ValueList></rim:Slot></rim:AdhocQuery>"#,
    ),
    (
        "findsubmissionsets-no-status.xml",
        QUERY_SLOTS,
        r#"<rim:Slot name="$XDSSubmissionSetStatus"><rim:ValueList><rim:Value>('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')</rim:Value></rim:ValueList></rim:Slot>"#,
    ),
    (
        "findfolders-no-patientid.xml",
        QUERY_SLOTS,
        r#"<rim:Slot name="$XDSFolderPatientId"><rim:ValueList><rim:Value>'PATIENT'</rim:Value></rim:ValueList></rim:Slot>"#,
    ),
    (
        "getall-no-patientid.xml",
        QUERY_SLOTS,
        r#"<rim:Slot name="$patientId"><rim:ValueList><rim:Value>'PATIENT'</rim:Value></rim:ValueList></rim:Slot>"#,
    ),
    ("finddocsexclude-base-and-exclude.xml", r#""$XDSDocumentEntryClassCode""#, r#""$XDSDocumentEntryTypeCode""#),
];
/// A Slot is put before the end of the query.
const QUERY_SLOTS: &str = "</rim:AdhocQuery>";

const IMAGING: [Mend; 3] = [
    ("no-study-uid.xml", "<iherad:StudyRequest>", r#"<iherad:StudyRequest studyInstanceUID="STUDY">"#),
    (
        "no-repository-id.xml",
        "<xdsb:DocumentUniqueId>",
        "<xdsb:RepositoryUniqueId>REPOSITORY</xdsb:RepositoryUniqueId><xdsb:DocumentUniqueId>",
    ),
    ("unknown-document.xml", "1.2.3.4.5.999", "INSTANCE"),
];

fn mended(mends: &[Mend], file: &str, text: &str, fill: impl Fn(&str) -> String) -> anyhow::Result<String> {
    let (_, from, to) = mends.iter().find(|(of, ..)| *of == file).with_context(|| format!("no way to mend {file} is known"))?;
    ensure!(text.contains(from), "{file} has no {from}");
    let rest = if *from == QUERY_SLOTS { QUERY_SLOTS } else { "" };
    Ok(text.replacen(from, &(fill(to) + rest), 1))
}

/// The cases are of a plain XDS source, which sends no controller and no register: they are its peer row's (02 §4.7).
fn name_the_register_of_the_pacs(table: &mut toml::Table) {
    for row in table["peer"].as_array_mut().into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        if row["name"].as_str() == Some("hospital-pacs") {
            edit(row, [("controller", "1.2.246.10.90000011.19.0".into()), ("register", "2".into())]);
            edit(row, [("transactions", vec!["ITI-18", "ITI-41", "ITI-42", "ITI-43"].into())]);
        }
    }
}

/// In place of NOSUCH-1.
fn nobody() -> PatientId {
    PatientId { id: NOBODY.0.to_owned(), authority: NOBODY.1.to_owned() }
}

/// In place of P-1000 and P-2000.
struct Persons {
    patient: PatientId,
    other: PatientId,
}

impl Persons {
    fn numbered(number: u32) -> Self {
        let person = |number| patient_id(&Person::numbered(number));
        Self { patient: person(1000 + 2 * number), other: person(1001 + 2 * number) }
    }

    fn adapt(&self, text: &str) -> String {
        let cx = |id: &PatientId| id.to_cx().replace('&', "&amp;");
        text.replace(&format!("P-1000{CASE_AUTHORITY}"), &cx(&self.patient))
            .replace(&format!("P-2000{CASE_AUTHORITY}"), &cx(&self.other))
            .replace(&format!("NOSUCH-1{CASE_AUTHORITY}"), &cx(&nobody()))
            .replace(r#"value="P-1000""#, &format!(r#"value="{}""#, self.patient.id))
            .replace(CASE_SHA1, DOCUMENT_SHA1)
    }

    /// ITI-41 with an assertion of the patient whom the message is about.
    async fn submit(&self, source: &Consumer, text: &str) -> anyhow::Result<Raw> {
        let nobody = nobody();
        let patient = if text.contains("NOSUCH-1") { &nobody } else { &self.patient };
        let security = source.requester.security(Some(patient))?;
        Ok(source.iti_41(&self.adapt(text), &[("Document01", DOCUMENT)], &security).await?)
    }

    /// What the centre has of either person, or of nobody; `None`: nothing.
    async fn left(&self, viewer: &Consumer) -> anyhow::Result<Option<String>> {
        for patient in [&self.patient, &self.other, &nobody()] {
            let approved = |key: &'static str| (key, vec![APPROVED.to_owned()]);
            let statuses = [approved("$XDSDocumentEntryStatus"), approved("$XDSSubmissionSetStatus"), approved("$XDSFolderStatus")];
            let parameters = [&[("$patientId", vec![patient.to_cx()])], &statuses[..]].concat();
            let definition = Definition::of_name("GetAll").context("a stored query of the table")?;
            let body = iti_18::encode(definition, ReturnType::ObjectRef, None, &parameters);
            let answer = viewer.soap(action::ITI_18, &body, &viewer.requester.security(Some(patient))?).await?;
            if !answer.soap(iti_18::read_response)?.objects.objects.is_empty() {
                return Ok(Some(String::from_utf8_lossy(&answer.body).into_owned()));
            }
        }
        Ok(None)
    }
}

/// What an answer says.
#[derive(Debug, Clone)]
struct Told {
    status: String,
    codes: Vec<String>,
    contexts: Vec<String>,
}

impl Told {
    fn of(answer: Result<RegistryResponse, AskError>) -> Self {
        match answer {
            Ok(RegistryResponse { status, errors }) => {
                let (codes, contexts) = errors.into_iter().map(|error| (error.error_code, error.code_context)).unzip();
                Self { status: format!("{status:?}"), codes, contexts }
            }
            Err(error) => Self { status: "Fault".to_owned(), codes: error.code().into_iter().collect(), contexts: vec![error.to_string()] },
        }
    }

    /// This status, and this code among the errors; with an empty one: no error.
    fn is(&self, status: &str, code: &str) -> bool {
        let fits = if code.is_empty() { self.codes.is_empty() } else { self.codes.iter().any(|told| told == code) };
        self.status == status && fits
    }
}

fn queried(answer: &Raw) -> Told {
    Told::of(answer.soap(iti_18::read_response).map(|response| response.registry))
}

fn retrieved(answer: &Raw) -> Told {
    Told::of(answer.soap(iti_43::read_response).map(|response| response.registry))
}

/// A message without its XML declaration.
fn read(shared: &Path, file: &str) -> anyhow::Result<String> {
    let path = shared.join("ihe").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let start = if text.starts_with("<?") { text.find("?>").map_or(0, |at| at + 2) } else { 0 };
    Ok(text[start..].trim().to_owned())
}

/// The first three columns of a table of cases.
fn table(shared: &Path, file: &str) -> anyhow::Result<Vec<[String; 3]>> {
    let path = shared.join("ihe").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let row = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut next = || columns.next().with_context(|| format!("{file}: three columns: {line}"));
        Ok([next()?, next()?, next()?])
    };
    text.lines().skip(1).map(row).collect()
}

/// Cases and the rules that 08 §9 names for them, `M-nnn`.
fn rules(shared: &Path) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let text = std::fs::read_to_string(shared.join("profile/tables/08_9_1.tsv"))?;
    let of_row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let ids: Vec<String> = match cells[0].split_once(" … ") {
            Some((first, last)) => {
                let number = |id: &str| id.trim_start_matches("M-").trim_end_matches('†').parse::<u16>().unwrap_or_default();
                (number(first)..=number(last)).map(|number| format!("M-{number:03}")).collect()
            }
            None => cells[0].split(", ").map(|id| id.trim_end_matches('†').to_owned()).collect(),
        };
        let files = cells.last().into_iter().flat_map(|cell| cell.split([' ', ';', ','])).filter(|word| word.ends_with(".xml"));
        files.map(|file| (file.to_owned(), ids.clone())).collect::<Vec<_>>()
    };
    Ok(text.lines().skip(1).flat_map(of_row).collect())
}

/// The number in a case's UIDs.
fn case_number(text: &str) -> anyhow::Result<&str> {
    let numbers = text.split("1.2.826.0.1.3680043.10.1999.").skip(1);
    numbers
        .filter_map(|rest| rest.split_once('.'))
        .map(|(number, _)| number)
        .find(|number| number.bytes().all(|b| b.is_ascii_digit()))
        .context("a UID with the case's number")
}

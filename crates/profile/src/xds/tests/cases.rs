//! Public cases: registration, query and RAD-69 messages of which the expected code is known.

use super::super::*;
use super::support::*;
use crate::testing::shared_file;
use idr_ihe::metadata::PatientId;
use idr_ihe::soap::Envelope;
use idr_ihe::transaction::{iti_18, rad_69};
use idr_ihe::xml::Limits;

/// A registry of the cases: their patient is known, the repository belongs to the submitter, nothing is registered.
fn registry() -> RegistryView {
    let patient = PatientId { id: "P-1000".to_owned(), authority: "1.3.6.1.4.1.21367.2005.13.20.1000".to_owned() };
    RegistryView {
        patients: [(patient.clone(), patient)].into(),
        submitter: Submitter { repositories: vec!["1.19.6.24.109.42.1".to_owned()], ..Submitter::default() },
        ..RegistryView::default()
    }
}

fn judged(node: &Node, list: &idr_ihe::ebxml::rim::RegistryObjectList) -> Findings {
    let findings = node.message(SubmitTransaction::Iti42, list);
    if findings.has_errors() {
        return findings;
    }
    match node.state(SubmitTransaction::Iti42, list, &[], &registry()) {
        StateVerdict::Register(findings) | StateVerdict::Refuse(findings) => findings,
        StateVerdict::Repeated => panic!("nothing is registered"),
    }
}

#[test]
fn public_registrations_get_the_code_that_is_expected_of_them() {
    let Some(cases) = shared_file("ihe/register-negative-cases.tsv") else { return };
    let node = Node::default();
    let rows: Vec<Vec<&str>> = cases.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert!(rows.len() >= 38, "{} cases", rows.len());
    for row in rows {
        let (file, status, code) = (row[0], row[1], row[2]);
        let list = read_list(&shared_file(&format!("ihe/register-negative/{file}")).expect("listed cases are there"));
        let findings = judged(&node, &list);
        let answer = findings.response();
        assert_eq!(format!("{:?}", answer.status), status, "{file}: {:?}", findings.problems);
        if !code.is_empty() {
            assert!(answer.errors.iter().any(|error| error.error_code == code), "{file}: {:?}", findings.problems);
        }
    }
}

#[test]
fn the_rule_that_the_profile_names_for_a_case_is_the_one_that_fires() {
    let Some(table) = crate::testing::profile_table("08_9_1.tsv") else { return };
    let node = Node::default();
    let mut tried = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let ids = super::tables::ids(cells[0]);
        for file in cells[5].split([' ', ';', ',']).filter(|word| word.ends_with(".xml")) {
            let list = read_list(&shared_file(&format!("ihe/register-negative/{file}")).expect("named cases are there"));
            let findings = judged(&node, &list);
            assert!(findings.problems.iter().any(|problem| ids.contains(&problem.rule)), "{file}: {:?}", findings.problems);
            tried += 1;
        }
    }
    assert!(tried >= 37, "{tried} cases are named");
}

#[test]
fn messages_of_other_systems_break_only_what_they_really_lack() {
    // A plain XDS-I.b source, whose controller and register are its peer row's; creationTime is of June 2026.
    let Some(body) = shared_file("ihe/samples/derived-dcm4chee-xdsi/pnr-metadata.xml") else { return };
    let defaults = SenderDefaults {
        controller_id: Some("1.2.246.10.12345671.19.0".to_owned()),
        register_code: Some("2".to_owned()),
        register_specifier: None,
    };
    let node = Node { now: "2026-07-01T00:00:00Z".parse().expect("an instant"), defaults, ..Node::default() };
    let list = read_list(&body);
    assert_eq!(rules(&node.message(SubmitTransaction::Iti41, &list)), Vec::<&str>::new());

    let (_, mut content) = manifest();
    content.sop_instance_uid = "1.2.826.0.1.3680043.10.1999.7.99".to_owned();
    content.study_instance_uid = "1.2.826.0.1.3680043.10.1999.7.1".to_owned();
    content.accession_number = "ACC-1".to_owned();
    let bytes = content.to_part10().expect("a manifest");
    let mut document = Document::of(Some("Document01"), &bytes, true);
    assert_eq!(rules(&node.documents(&list, std::slice::from_ref(&document))), Vec::<&str>::new());

    // The department's id of the KOS is an alias of the patient.
    let mut view = registry();
    let local = PatientId { id: "PAT-1".to_owned(), authority: "1.3.6.1.4.1.21367.2005.13.20.2000".to_owned() };
    let head = PatientId { id: "P-1000".to_owned(), authority: "1.3.6.1.4.1.21367.2005.13.20.1000".to_owned() };
    view.patients.insert(local.clone(), head);
    document.manifest_patient = Some(local);
    assert!(matches!(node.state(SubmitTransaction::Iti41, &list, &[document], &view), StateVerdict::Register(_)));
}

#[test]
fn the_worked_example_of_the_profile_breaks_no_rule() {
    let Some(text) = shared_file("profile/02-metadata-model.md") else { return };
    let start = text.find("<ExtrinsicObject id=").expect("the example is there");
    let end = start + text[start..].find("```").expect("the example ends");
    let body = format!(
        r#"<l:SubmitObjectsRequest xmlns:l="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"><RegistryObjectList xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">{}</RegistryObjectList></l:SubmitObjectsRequest>"#,
        &text[start..end]
    );
    let list = read_list(&body);
    assert_eq!(Message::new(SubmitTransaction::Iti41, Some(&list)).manifest_ids().count(), 1);
    assert_eq!(rules(&Node::default().message(SubmitTransaction::Iti41, &list)), Vec::<&str>::new());
}

#[test]
fn public_queries_get_the_code_that_is_expected_of_them() {
    let Some(cases) = shared_file("ihe/query-negative-cases.tsv") else { return };
    let node = Node::default();
    for line in cases.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let (file, code) = (cells[0], cells[2]);
        let text = envelope(&shared_file(&format!("ihe/query-negative/{file}")).expect("listed cases are there"));
        let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("an envelope");
        let request = iti_18::read(&envelope).expect("a query");
        let errors = iti_18::interpret(&request, &request::query_options(&node.rules, false, &[])).expect_err("the query is broken");
        let problem = request::query_problem(&node.errors, &errors[0], None, None);
        assert_eq!(problem.error_code, code, "{file}: {problem:?}");
    }
}

#[test]
fn public_imaging_requests_get_the_code_that_is_expected_of_them() {
    let Some(cases) = shared_file("ihe/rad69-negative-cases.tsv") else { return };
    let node = Node::default();
    let mut expected = "";
    for line in cases.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        if cells[1] != "as above" {
            expected = cells[1].split(' ').next().unwrap_or_default();
        }
        let text = envelope(&shared_file(&format!("ihe/rad69-negative/{}", cells[0])).expect("listed cases are there"));
        let envelope = Envelope::read(text.as_bytes(), Limits::default()).expect("an envelope");
        let request = rad_69::read(&envelope).expect("a request");
        let problem = match request.problem() {
            Some(problem) => request::request_problem(&node.errors, &problem, request::RetrieveService::Imaging),
            // What is asked for is well-formed; the archive has none of it.
            None => {
                let uid = request.studies[0].series[0].documents[0].document_unique_id.clone().expect("it names one");
                request::RetrieveProblem::NotAvailable.problem(&node.errors, request::RetrieveService::Imaging, Some(&uid), None)
            }
        };
        assert_eq!(problem.error_code, expected, "{}: {problem:?}", cells[0]);
    }
}

//! Retrieves, removals and registry answers are read back as written.

use idr_ihe::ebxml::rim::ObjectRef;
use idr_ihe::soap::xop::Content;
use idr_ihe::soap::{Envelope, Refusal};
use idr_ihe::transaction::iti_43::{DocumentRequest, DocumentResponse, RetrieveResponse};
use idr_ihe::transaction::rad_69::{RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::{RegistryError, RegistryResponse, Severity, Status};
use idr_ihe::transaction::{iti_42, iti_43, iti_62, iti_86, rad_69, registry_response};
use idr_ihe::xml::Limits;

use crate::shared::{envelope, shared, without_declaration};

/// Reads a body by `read`.
pub fn read<T>(body: &str, read: impl FnOnce(&Envelope<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
    let text = envelope("urn:x", body);
    let envelope = Envelope::read(text.as_bytes(), Limits::default()).map_err(|rejected| rejected.refusal)?;
    read(&envelope)
}

pub fn document_request(unique_id: &str) -> DocumentRequest {
    DocumentRequest {
        home_community_id: Some("urn:oid:1.2.246.10.12345671.12.1".to_owned()),
        repository_unique_id: Some("1.2.246.10.12345671.12.100".to_owned()),
        document_unique_id: Some(unique_id.to_owned()),
    }
}

pub fn imaging_request() -> RetrieveImagingRequest {
    let series = SeriesRequest { series_instance_uid: Some("1.2.3.2".to_owned()), documents: vec![document_request("1.2.3.3")] };
    RetrieveImagingRequest {
        studies: vec![StudyRequest { study_instance_uid: Some("1.2.3".to_owned()), series: vec![series] }],
        transfer_syntaxes: Some(vec![Some("1.2.840.10008.1.2.1".to_owned())]),
    }
}

pub fn partial_success() -> RegistryResponse {
    let error = |severity, location: Option<&str>| RegistryError {
        error_code: "XDSDocumentUniqueIdError".to_owned(),
        code_context: "IDR-R-07 XDSDocumentUniqueIdError uid=1.2: document is not available".to_owned(),
        severity,
        location: location.map(str::to_owned),
    };
    RegistryResponse { status: Status::PartialSuccess, errors: vec![error(Severity::Warning, None), error(Severity::Error, Some("1.2"))] }
}

pub fn retrieve_response(content: Content) -> RetrieveResponse {
    let document = DocumentResponse {
        home_community_id: None,
        repository_unique_id: "1.2.246.10.12345671.12.100".to_owned(),
        document_unique_id: "1.2.3.3".to_owned(),
        new_repository_unique_id: None,
        new_document_unique_id: Some("1.2.3.4".to_owned()),
        mime_type: "application/dicom".to_owned(),
        content,
    };
    RetrieveResponse { registry: partial_success(), documents: vec![document] }
}

#[test]
fn retrieves_are_read_back() {
    let requests = [document_request("1.2"), document_request("1.3")];
    assert_eq!(read(&iti_43::encode(&requests), iti_43::read).as_deref(), Ok(&requests[..]));
    assert_eq!(read(&iti_86::encode(&requests[..1]), iti_86::read).as_deref(), Ok(&requests[..1]));
    assert_eq!(read(&rad_69::encode(&imaging_request()), rad_69::read), Ok(imaging_request()));
    for content in [Content::Part("1@idr".to_owned()), Content::Inline(b"DICM".to_vec())] {
        let response = retrieve_response(content);
        assert_eq!(read(&iti_43::encode_response(&response), iti_43::read_response), Ok(response));
    }
}

#[test]
fn registry_answers_and_removals_are_read_back() {
    for response in [RegistryResponse::SUCCESS, partial_success()] {
        assert!(response.is_consistent());
        assert_eq!(read(&registry_response::encode(&response), registry_response::read), Ok(response));
    }
    assert!(!RegistryResponse::failure(Vec::new()).is_consistent());
    let reference = ObjectRef { id: Some("urn:uuid:7116d7e6-4dc1-5fe4-af18-16da12b7071c".to_owned()), home: None };
    let request = read(&iti_62::encode(std::slice::from_ref(&reference)), iti_62::read).expect("readable");
    assert_eq!(request.references, Some(vec![reference]));
}

#[test]
fn what_a_retrieve_lacks_is_named_by_its_rule() {
    let imaging = |change: &dyn Fn(&mut RetrieveImagingRequest)| {
        let mut request = imaging_request();
        change(&mut request);
        request.problem().map(|problem| (problem.text.rule, problem.parameter))
    };
    assert_eq!(imaging(&|_| {}), None);
    assert_eq!(imaging(&|r| r.studies.clear()), Some(("R-01", "StudyRequest")));
    assert_eq!(imaging(&|r| r.studies[0].series.clear()), Some(("R-01", "SeriesRequest")));
    assert_eq!(imaging(&|r| r.studies[0].series[0].documents.clear()), Some(("R-01", "DocumentRequest")));
    assert_eq!(imaging(&|r| r.studies[0].study_instance_uid = None), Some(("R-02", "studyInstanceUID")));
    assert_eq!(imaging(&|r| r.studies[0].series[0].series_instance_uid = None), Some(("R-02", "seriesInstanceUID")));
    assert_eq!(imaging(&|r| r.studies[0].series[0].documents[0].repository_unique_id = None), Some(("R-03", "RepositoryUniqueId")));
    assert_eq!(imaging(&|r| r.studies[0].series[0].documents[0].document_unique_id = None), Some(("R-03", "DocumentUniqueId")));
    assert_eq!(imaging(&|r| r.transfer_syntaxes = None), Some(("R-04", "TransferSyntaxUIDList")));
    assert_eq!(imaging(&|r| r.transfer_syntaxes = Some(vec![None])), Some(("R-04", "TransferSyntaxUIDList")));
    let context = imaging_problem_text();
    assert!(context.starts_with("XDSIRequestError"), "{context}");
}

fn imaging_problem_text() -> &'static str {
    RetrieveImagingRequest::default().problem().expect("empty").text.imaging_text
}

#[test]
fn third_party_imaging_requests_are_judged_as_their_table_says() {
    let Some(folder) = shared("ihe/rad69-negative") else { return };
    for (file, rule) in [("no-study-uid.xml", Some("R-02")), ("no-repository-id.xml", Some("R-03")), ("unknown-document.xml", None)] {
        let text = std::fs::read_to_string(folder.join(file)).expect("readable");
        let request = read(without_declaration(&text), rad_69::read).expect(file);
        assert_eq!(request.problem().map(|problem| problem.text.rule), rule, "{file}");
    }
}

#[test]
fn unknown_elements_of_closed_namespaces_are_refused_and_foreign_ones_passed_over() {
    let with = |child: &str| {
        let body = format!(
            "<l:SubmitObjectsRequest xmlns:l='urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0' xmlns:r='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0' \
             xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='urn:x x.xsd'><r:RegistryObjectList>{child}</r:RegistryObjectList></l:SubmitObjectsRequest>"
        );
        read(&body, iti_42::read).map(|request| request.objects.map_or(0, |list| list.objects.len())).map_err(|refusal| refusal.rule())
    };
    assert_eq!(with("<r:Association unknown='1'/>"), Ok(1));
    assert_eq!(with("<x:y xmlns:x='urn:x'><z/></x:y>"), Ok(0));
    assert_eq!(with("<r:Organization id='o'><r:Name/></r:Organization>"), Ok(1));
    assert_eq!(with("<r:Unknown/>"), Err("S-32"));
    assert_eq!(with("<r:Association><r:Unknown/></r:Association>"), Err("S-32"));
    assert_eq!(with("<r:Slot/>"), Err("S-32"));
    assert_eq!(with("<l:SubmitObjectsRequest/>"), Err("S-32"));
}

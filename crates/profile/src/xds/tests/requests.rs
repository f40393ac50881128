//! Query, retrieve and resource problems on the wire.

use super::super::request::{RetrieveProblem, RetrieveService, query_problem};
use super::super::*;
use idr_ihe::transaction::iti_18::QueryError;

#[test]
fn query_problems_carry_parameter_limit_or_id() {
    let errors = Errors::shipped();
    let text = |error: &QueryError, id| query_problem(&errors, error, id, None).code_context();
    assert_eq!(
        text(&QueryError::new("Q-02", Some("$XDSDocumentEntryPatientId")), None),
        "IDR-Q-02 XDSStoredQueryMissingParam param=%24XDSDocumentEntryPatientId: required parameter is missing"
    );
    assert_eq!(text(&QueryError::too_many_results(1_000), None), "IDR-Q-17 XDSTooManyResults limit=1000: limit is exceeded");
    assert_eq!(
        text(&QueryError::new("Q-01", Some("id")), Some("urn:uuid:1")),
        "IDR-Q-01 XDSUnknownStoredQuery val=urn:uuid:1: query id is unknown"
    );
    assert_eq!(text(&QueryError::new("Q-16", None), None), "IDR-Q-16 XDSResultNotSinglePatient: result covers several patients");
}

#[test]
fn retrieve_problems_name_the_document_and_nothing_that_is_stored() {
    let errors = Errors::shipped();
    let uid = "1.2.246.10.12345671.77.20260115.1.3.9";
    let told = |problem: RetrieveProblem<'_>, service| problem.problem(&errors, service, Some(uid), None);
    let gone = told(RetrieveProblem::NotAvailable, RetrieveService::Imaging);
    assert_eq!(gone.code_context(), format!("IDR-R-07 XDSDocumentUniqueIdError uid={uid}: document is not available"));
    assert_eq!(gone.location.as_deref(), Some(uid));
    let missing = told(RetrieveProblem::CommunityMissing, RetrieveService::Documents);
    assert_eq!((missing.rule.as_str(), missing.error_code.as_str()), ("R-05", "XDSMissingHomeCommunityId"));
    let unknown = told(RetrieveProblem::CommunityUnknown { home: "urn:oid:1.2" }, RetrieveService::Documents);
    assert_eq!(unknown.code_context(), "IDR-R-05 XDSUnknownCommunity home=urn:oid:1.2: homeCommunityId is missing or unknown");
    let away = told(RetrieveProblem::SourceAway, RetrieveService::Imaging);
    assert!(away.text.starts_with("XDSIUnknownIdsUid"), "{}", away.text);
    let limit = RetrieveProblem::Limit { limit: 2_000 }.problem(&errors, RetrieveService::Imaging, None, None);
    assert_eq!(limit.code_context(), "IDR-R-10 XDSRepositoryError limit=2000: limit is exceeded");
}

#[test]
fn busy_and_failing_services_answer_by_who_they_are() {
    let errors = Errors::shipped();
    let told = |rule, answerer| errors.resource(rule, answerer, &[(Key::Incident, "0a1b2c3d".to_owned())]).expect("the rule is known");
    assert_eq!(told("B-01", Answerer::Registry).error_code, "XDSRegistryBusy");
    assert_eq!(told("B-01", Answerer::Repository).error_code, "XDSRepositoryBusy");
    assert_eq!(told("B-04", Answerer::Registry).code_context(), "IDR-B-04 XDSRegistryError incident=0a1b2c3d: internal error");
    assert_eq!(told("B-04", Answerer::Repository).code_context(), "IDR-B-04 XDSRepositoryError incident=0a1b2c3d: internal error");
    assert_eq!(errors.resource("B-99", Answerer::Registry, &[]), None);
}

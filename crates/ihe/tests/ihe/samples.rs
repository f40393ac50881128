//! Messages of other systems are read.

use idr_ihe::ebxml::{self, rim::Object};
use idr_ihe::soap::Envelope;
use idr_ihe::transaction::{iti_18, iti_41, iti_42, iti_43, registry_response};
use idr_ihe::xml::Limits;

use crate::shared::{envelope, files, shared, without_declaration};

/// Reads a document as whatever message it is. `None`: none of ours.
fn objects(text: &str) -> Option<Vec<Object>> {
    let text = without_declaration(text);
    let wrapped = envelope("urn:x", text);
    let read = |bytes: &[u8]| {
        let envelope = Envelope::read(bytes, Limits::default()).ok()?;
        let list = match envelope.body_name().1 {
            "SubmitObjectsRequest" => iti_42::read(&envelope).ok()?.objects,
            "ProvideAndRegisterDocumentSetRequest" => iti_41::read(&envelope).ok()?.objects,
            "AdhocQueryRequest" => iti_18::read(&envelope).ok().map(|_| ebxml::rim::RegistryObjectList::default()),
            "AdhocQueryResponse" => Some(iti_18::read_response(&envelope).ok()?.objects),
            "RetrieveDocumentSetRequest" => iti_43::read(&envelope).ok().map(|_| ebxml::rim::RegistryObjectList::default()),
            "RegistryResponse" => registry_response::read(&envelope).ok().map(|_| ebxml::rim::RegistryObjectList::default()),
            _ => None,
        }?;
        let _ = ebxml::decode(&list);
        Some(list.objects)
    };
    read(text.as_bytes()).or_else(|| read(wrapped.as_bytes()))
}

#[test]
fn every_file_of_the_public_data_is_read_or_refused_without_a_panic() {
    for folder in ["ihe/samples", "ihe/register-negative", "ihe/nist-testkit", "ihe/query-negative", "ihe/rad69-negative"] {
        let Some(folder) = shared(folder) else { return };
        for file in files(&folder, &[".xml"]) {
            if let Ok(text) = std::fs::read_to_string(&file) {
                let _ = objects(&text);
            }
        }
    }
}

#[test]
fn submissions_of_other_systems_become_metadata() {
    let Some(folder) = shared("ihe") else { return };
    let mut files_seen = 0;
    // Left out: those of IPF have empty identifiers, that of xds-registry-to-fhir an Association without id (M-005).
    let list = ["samples/derived-dcm4chee-xdsi/pnr-metadata.xml", "register-negative/00-baseline-good.xml"];
    let rad_68 = files(&folder.join("samples/nist-rad68"), &["-metadata.v3.xml"]);
    for file in list.iter().map(|file| folder.join(file)).chain(rad_68) {
        let text = std::fs::read_to_string(&file).expect("readable");
        let objects = objects(&text).unwrap_or_else(|| panic!("not read: {}", file.display()));
        let decoded = ebxml::decode(&ebxml::rim::RegistryObjectList { objects });
        let lost: Vec<_> = decoded.problems.iter().filter(|problem| problem.omitted).collect();
        assert!(lost.is_empty(), "{}: {lost:?}", file.display());
        assert_eq!((decoded.submission.submission_sets.len(), decoded.submission.entries.is_empty()), (1, false), "{}", file.display());
        files_seen += 1;
    }
    assert_eq!(files_seen, 8);
}

#[test]
fn every_negative_submission_can_be_judged_by_rules() {
    let Some(folder) = shared("ihe/register-negative") else { return };
    for file in files(&folder, &[".xml"]) {
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(objects(&text).is_some(), "a fault instead of a finding: {}", file.display());
    }
}

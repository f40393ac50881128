//! Stage 2: documents against their entries, manifests against what is written of them.

use super::super::*;
use super::support::*;
use idr_ihe::manifest::Content;
use idr_ihe::metadata::Submission;

fn judged(submission: &Submission, documents: &[Document]) -> Vec<String> {
    rules(&Node::default().documents(&list(submission), documents)).into_iter().map(str::to_owned).collect()
}

/// A manifest changed by the test, as a document whose hash and size fit.
fn of_manifest(change: impl FnOnce(&mut Submission, &mut Content)) -> Vec<String> {
    let (mut submission, mut content) = manifest();
    change(&mut submission, &mut content);
    let document = manifest_document(&mut submission, &content);
    judged(&submission, &[document])
}

const NONE: Vec<String> = Vec::new();

#[test]
fn a_report_and_a_manifest_fit_their_entries() {
    assert_eq!(judged(&report(), &[report_document()]), NONE);
    assert_eq!(of_manifest(|_, _| {}), NONE);
}

#[test]
fn every_entry_has_its_document_and_every_document_its_entry() {
    assert_eq!(judged(&report(), &[]), ["M-401"]);
    let stray = Document::of(Some("other"), DOCUMENT, false);
    assert_eq!(judged(&report(), &[report_document(), stray]), ["M-402"]);
    let nameless = Document::of(None, DOCUMENT, false);
    assert_eq!(judged(&report(), &[report_document(), nameless]), ["M-402"]);
    assert_eq!(judged(&report(), &[report_document(), report_document()]), ["M-405"]);
}

#[test]
fn hash_and_size_are_checked_if_they_were_sent() {
    let mut submission = report();
    submission.entries[0].hash = Some("0".repeat(40));
    submission.entries[0].size = Some(1);
    assert_eq!(judged(&submission, &[report_document()]), ["M-403", "M-404"]);
    let findings = Node::default().documents(&list(&submission), &[report_document()]);
    assert_eq!(
        findings.problems[1].code_context(),
        format!("IDR-M-404 XDSRepositoryMetadataError obj={ENTRY} attr=size: size does not match the document")
    );
    assert_eq!(findings.problems[1].location.as_deref(), Some(ENTRY));
    submission.entries[0].hash = None;
    submission.entries[0].size = None;
    assert_eq!(judged(&submission, &[report_document()]), NONE);
}

#[test]
fn an_empty_document_must_be_announced() {
    let empty = || Document::of(Some(ENTRY), b"", false);
    let mut submission = report();
    submission.entries[0].hash = Some(empty().sha1);
    submission.entries[0].size = Some(0);
    assert_eq!(judged(&submission, &[empty()]), NONE);
    submission.entries[0].hash = None;
    submission.entries[0].size = None;
    assert_eq!(judged(&submission, &[empty()]), ["M-405"]);
}

#[test]
fn a_unique_id_twice_and_too_many_documents_are_the_repositorys_to_refuse() {
    let mut submission = report();
    submission.folders[0].unique_id = submission.entries[0].unique_id.clone();
    assert_eq!(judged(&submission, &[report_document()]), ["M-406"]);
    let many: Vec<Document> = (0..101).map(|_| report_document()).collect();
    assert_eq!(judged(&report(), &many), ["M-412"]);
}

#[test]
fn a_dicom_document_is_a_manifest_and_says_so() {
    let (submission, _) = manifest();
    let text = Document::of(Some(ENTRY), DOCUMENT, true);
    let mut plain = submission.clone();
    plain.entries[0].hash = Some(text.sha1.clone());
    plain.entries[0].size = Some(text.size);
    assert_eq!(judged(&plain, &[text]), ["M-421"]);
    // The format of a report under the media type of a manifest.
    let other_format = |submission: &mut Submission, _: &mut Content| {
        submission.entries[0].format_code = Some(code("urn:ihe:rad:TEXT", "1.3.6.1.4.1.19376.1.2.3"));
    };
    assert_eq!(of_manifest(other_format), ["M-421"]);
    let mut other_class = manifest_bytes();
    let class = b"1.2.840.10008.5.1.4.1.1.88.59";
    let places: Vec<usize> = other_class.windows(class.len()).enumerate().filter(|(_, window)| window == class).map(|(at, _)| at).collect();
    for at in places {
        other_class[at + class.len() - 1] = b'8';
    }
    let document = Document::of(Some(ENTRY), &other_class, true);
    let mut submission = submission;
    submission.entries[0].hash = None;
    submission.entries[0].size = None;
    assert_eq!(judged(&submission, &[document]), ["M-421"]);
    let off = Node { rules: XdsRules::load(&["manifest_rules = \"off\""]).expect("loads"), ..Node::default() };
    assert!(off.documents(&list(&plain), &[Document::of(Some(ENTRY), DOCUMENT, true)]).is_empty());
}

fn manifest_bytes() -> Vec<u8> {
    manifest().1.to_part10().expect("a manifest")
}

#[test]
fn a_manifest_agrees_with_its_entry() {
    assert_eq!(of_manifest(|submission, _| submission.entries[0].unique_id = "1.2.3".to_owned()), ["M-422"]);
    assert_eq!(of_manifest(|_, content| content.study_instance_uid = "1.2.3".to_owned()), ["M-427"]);
    assert_eq!(of_manifest(|submission, _| submission.entries[0].reference_ids.clear()), ["M-427", "M-429"]);
    let second_study = |submission: &mut Submission, _: &mut Content| {
        submission.entries[0].reference_ids.push("1.2.3^^^^urn:ihe:iti:xds:2016:studyInstanceUID".to_owned());
    };
    assert_eq!(of_manifest(second_study), ["M-427"]);
    assert_eq!(of_manifest(|_, content| content.accession_number = "T1".to_owned()), ["M-429"]);
    assert_eq!(of_manifest(|submission, _| submission.entries[0].event_codes.clear()), ["M-430"]);
    assert_eq!(of_manifest(|submission, _| submission.entries[0].event_codes[0].system = "1.2.3".to_owned()), ["M-430"]);
}

/// Judges a manifest whose content no writer of ours would make.
fn of_read(change: impl FnOnce(&mut idr_ihe::manifest::Manifest)) -> Vec<String> {
    let (mut submission, content) = manifest();
    let mut document = manifest_document(&mut submission, &content);
    let mut read = document.manifest().expect("a manifest").clone();
    change(&mut read);
    document.manifest = Some(Ok(read));
    judged(&submission, &[document])
}

#[test]
fn title_evidence_and_location_of_a_manifest_are_what_they_must_be() {
    assert_eq!(of_read(|manifest| manifest.title = None), ["M-423"]);
    assert_eq!(of_read(|manifest| manifest.evidence.clear()), ["M-424"]);
    assert_eq!(of_read(|manifest| manifest.evidence.push(manifest.evidence[0].clone())), ["M-424"]);
    assert_eq!(of_read(|manifest| manifest.evidence[0].series[0].instances.clear()), ["M-424"]);
    let twice = |manifest: &mut idr_ihe::manifest::Manifest| {
        let instance = manifest.evidence[0].series[0].instances[0].clone();
        manifest.evidence[0].series[0].instances.push(instance);
    };
    assert_eq!(of_read(twice), ["M-424"]);
    let nowhere = |manifest: &mut idr_ihe::manifest::Manifest| {
        manifest.evidence[0].series[0].retrieve_ae_title = None;
        manifest.evidence[0].series[0].retrieve_location_uid = None;
    };
    assert_eq!(of_read(nowhere), ["M-425"]);
}

#[test]
fn an_unacceptable_manifest_is_told_once() {
    let findings = of_read(|manifest| {
        manifest.title = None;
        manifest.evidence.clear();
    });
    assert_eq!(findings, ["M-423"]);
}

#[test]
fn a_manifest_beyond_the_limit_is_refused_as_too_large() {
    let (mut submission, content) = manifest();
    let mut document = manifest_document(&mut submission, &content);
    document.manifest = Some(Err(idr_ihe::manifest::ManifestReadError::TooManyReferences));
    assert_eq!(judged(&submission, &[document.clone()]), ["M-432"]);
    let strict = Node { rules: XdsRules::load(&["limits.manifest_references = 1"]).expect("loads"), ..Node::default() };
    let mut content = content;
    let mut second = content.series[0].instances[0].clone();
    second.sop_instance_uid = "1.2.3".to_owned();
    content.series[0].instances.push(second);
    let document = manifest_document(&mut submission, &content);
    assert_eq!(rules(&strict.documents(&list(&submission), &[document])), ["M-432"]);
}

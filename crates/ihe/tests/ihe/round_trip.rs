//! Metadata → XML → metadata.

use idr_ihe::ebxml::{self, Placement};
use idr_ihe::metadata::{
    Association, Author, AvailabilityStatus, Code, DocumentEntry, EntryType, Folder, PatientId, Slots, Submission, SubmissionSet,
};
use idr_ihe::transaction::iti_42;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::transactions::read;

fn text() -> impl Strategy<Value = String> {
    "[ -~äÖ€\t\n\r\u{10400}]{0,20}"
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.^&'\"<>-]{1,20}"
}

fn patient() -> impl Strategy<Value = PatientId> {
    ("[A-Z0-9-]{1,12}", "1\\.2(\\.[1-9][0-9]{0,4}){1,4}").prop_map(|(id, authority)| PatientId { id, authority })
}

fn code() -> impl Strategy<Value = Code> {
    (name(), text(), text()).prop_map(|(code, system, display)| Code { code, system, display })
}

fn author() -> impl Strategy<Value = Author> {
    (option::of(text()), vec(text(), 0..3), vec(text(), 0..2), vec(text(), 0..2), vec(text(), 0..2)).prop_map(
        |(person, institutions, roles, specialties, telecommunications)| Author {
            person,
            institutions,
            roles,
            specialties,
            telecommunications,
        },
    )
}

fn slots() -> impl Strategy<Value = Slots> {
    vec(("urn:x-[a-z]{1,6}", vec(text(), 0..3)), 0..3)
}

fn status() -> impl Strategy<Value = Option<AvailabilityStatus>> {
    option::of(prop_oneof![Just(AvailabilityStatus::Approved), Just(AvailabilityStatus::Deprecated)])
}

prop_compose! {
    fn entry()(
        (entry_uuid, logical_id, version, status, stable) in (name(), option::of(name()), option::of(any::<u32>()), status(), any::<bool>()),
        (mime_type, unique_id, patient_id, source_patient_id) in (name(), name(), patient(), option::of(patient())),
        (source_patient_info, creation_time, service_start_time, service_stop_time, language_code) in
            (vec(text(), 0..3), option::of(text()), option::of(text()), option::of(text()), option::of("[a-z]{2}-[A-Z]{2}")),
        (hash, size, repository_unique_id, home_community_id, title, comments) in
            (option::of("[0-9a-f]{40}"), option::of(any::<u64>()), option::of(text()), option::of(text()), option::of(text()), option::of(text())),
        (authors, class_code, type_code, format_code, confidentiality_codes, event_codes) in
            (vec(author(), 0..3), option::of(code()), option::of(code()), option::of(code()), vec(code(), 0..3), vec(code(), 0..3)),
        (facility_type_code, practice_setting_code, reference_ids, legal_authenticator, uri, document_availability, extra) in
            (option::of(code()), option::of(code()), vec(text(), 0..3), option::of(text()), option::of(text()), option::of(text()), slots()),
    ) -> DocumentEntry {
        DocumentEntry {
            entry_uuid, logical_id, version, status, entry_type: if stable { EntryType::Stable } else { EntryType::OnDemand },
            mime_type, unique_id, patient_id, source_patient_id, source_patient_info, creation_time, service_start_time, service_stop_time,
            language_code, hash, size, repository_unique_id, home_community_id, title, comments, authors, class_code, type_code, format_code,
            confidentiality_codes, event_codes, facility_type_code, practice_setting_code, reference_ids, legal_authenticator, uri,
            document_availability, extra,
        }
    }
}

prop_compose! {
    fn submission_set()(
        (unique_id, source_id, patient_id, submission_time, content_type_code, authors) in
            (name(), name(), patient(), option::of(text()), option::of(code()), vec(author(), 0..2)),
        (title, comments, intended_recipients, home_community_id, status, extra) in
            (option::of(text()), option::of(text()), vec(text(), 0..3), option::of(text()), status(), slots()),
    ) -> SubmissionSet {
        SubmissionSet {
            entry_uuid: "set".to_owned(), unique_id, source_id, patient_id, submission_time, content_type_code, authors, title, comments,
            intended_recipients, home_community_id, status, extra,
        }
    }
}

prop_compose! {
    fn folder()(
        (logical_id, version, unique_id, patient_id, codes, title) in
            (option::of(name()), option::of(any::<u32>()), name(), patient(), vec(code(), 0..3), option::of(text())),
        (comments, last_update_time, home_community_id, status, extra) in
            (option::of(text()), option::of(text()), option::of(text()), status(), slots()),
    ) -> Folder {
        Folder {
            entry_uuid: "folder".to_owned(), logical_id, version, unique_id, patient_id, codes, title, comments, last_update_time,
            home_community_id, status, extra,
        }
    }
}

prop_compose! {
    fn association()(
        (entry_uuid, association_type, source, target, status, slots, documentation) in
            (name(), name(), name(), name(), status(), slots(), option::of(code())),
    ) -> Association {
        Association { entry_uuid, association_type, source, target, status, slots, documentation }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn metadata_survives_its_xml(
        entries in vec(entry(), 0..3), set in submission_set(), folders in vec(folder(), 0..2), associations in vec(association(), 0..3),
        nested in any::<bool>(),
    ) {
        let submission = Submission { submission_sets: vec![set], entries, folders, associations };
        let placement = if nested { Placement::Nested } else { Placement::Beside };
        let objects = ebxml::encode(&submission, placement);
        let request = read(&iti_42::encode(&objects), iti_42::read).expect("readable");
        prop_assert!(request.objects.as_ref() == Some(&objects));
        let decoded = ebxml::decode(&objects);
        prop_assert_eq!(decoded.problems, vec![]);
        prop_assert_eq!(decoded.submission, submission);
    }
}

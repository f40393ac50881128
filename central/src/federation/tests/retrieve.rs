//! ITI-43 and RAD-69 that are asked on as ITI-39 and RAD-75 (H-07, H-09, H-11).

use idr_ihe::soap::HeaderName;
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::Status;
use idr_ihe::transaction::table::action;

use super::query::used;
use super::{Beside, NEIGHBOUR, NOWHERE, Silent, ask, asking, errors, neighbour, row};
use crate::testing::soap::{Answer, HOME, REPOSITORY};
use crate::testing::{EXPLICIT, Instance, PKI, STUDY, World, patient};

const ALL: &str = "";

fn document(home: Option<&str>, uid: &str) -> DocumentRequest {
    let [home, repository, unique] = [home, Some(REPOSITORY), Some(uid)].map(|value| value.map(str::to_owned));
    DocumentRequest { home_community_id: home, repository_unique_id: repository, document_unique_id: unique }
}

fn images(documents: Vec<DocumentRequest>) -> String {
    let series = SeriesRequest { series_instance_uid: Some(format!("{STUDY}.1")), documents };
    let studies = vec![StudyRequest { study_instance_uid: Some(STUDY.to_owned()), series: vec![series] }];
    rad_69::encode(&RetrieveImagingRequest { studies, transfer_syntaxes: Some(vec![Some(EXPLICIT.to_owned())]) })
}

/// What is held at one of two centres: its manifest and its instance.
struct Held {
    manifest: (String, Vec<u8>),
    instance: Instance,
}

async fn hold(world: &World, n: u32) -> Held {
    let instance = Instance::ct(n).pixels(&[n as u8; 4096]);
    world.stored(std::slice::from_ref(&instance)).await;
    let revision = world.registered(std::slice::from_ref(&instance)).await;
    Held { manifest: (revision.document_uid.clone(), revision.kos), instance }
}

async fn two(changes: &[(&str, &str)], wire: impl FnOnce(&World) -> Beside) -> (World, World, Beside, [Held; 2]) {
    let there = neighbour().await;
    let wire = wire(&there);
    let here = asking(&row(NEIGHBOUR, ALL), changes, vec![(NEIGHBOUR, Box::new(wire.clone()))]).await;
    let held = [hold(&here, 1).await, hold(&there, 2).await];
    (here, there, wire, held)
}

fn homes(answer: &Answer) -> Vec<String> {
    answer.retrieved().documents.into_iter().map(|document| document.home_community_id.unwrap_or_default()).collect()
}

#[tokio::test]
async fn documents_of_two_communities_come_in_one_answer_in_the_order_of_the_request() {
    let (here, _there, wire, [near, far]) = two(&[], Beside::new).await;
    let own = PKI.hospital.physician(&patient());
    let ((near_uid, near_bytes), (far_uid, far_bytes)) = (&near.manifest, &far.manifest);
    let wanted = [document(Some(NEIGHBOUR), far_uid), document(Some(HOME), near_uid), document(Some(NEIGHBOUR), far_uid)];
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_43, &iti_43::encode(&wanted)).await;
    assert_eq!(answer.soap().value(HeaderName::Action), Some(action::ITI_43_RESPONSE));
    assert_eq!(answer.retrieved().registry.status, Status::Success, "{}", answer.envelope);
    assert_eq!(homes(&answer), [NEIGHBOUR, HOME, NEIGHBOUR], "H-09");
    assert_eq!(answer.parts, [far_bytes.clone(), near_bytes.clone(), far_bytes.clone()]);
    assert_eq!(answer.headers["content-length"].to_str().unwrap(), answer.body.len().to_string());
    assert_eq!(wire.asked(), 1, "one assertion, one question");

    let [near, far] = [&near.instance, &far.instance];
    let wanted = [(NEIGHBOUR, far), (HOME, near)].map(|(home, instance)| document(Some(home), &instance.sop_instance_uid));
    let answer = ask(&here, &PKI.hospital, &own, action::RAD_69, &images(wanted.to_vec())).await;
    assert_eq!(answer.retrieved().registry.status, Status::Success, "{}", answer.envelope);
    assert_eq!(homes(&answer), [NEIGHBOUR, HOME]);
    for (part, instance) in answer.parts.iter().zip([far, near]) {
        assert!(part.ends_with(&instance.data_set()), "byte for byte");
    }
    let records = used(&here);
    for number in ["ITI-39", "RAD-75"] {
        let record = records.iter().find(|value| value["transaction"] == number && value["recipient"] == NEIGHBOUR);
        assert!(record.is_some_and(|record| record["patient"].is_object()), "{number}");
    }
    let told: Vec<_> = records.iter().filter(|value| value["event"] == "told_by_another").collect();
    assert_eq!(told.len(), 2);
    for _ in 0..1200 {
        if here.object_files() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(here.object_files(), 2, "what was staged is gone when the answer has left: a manifest and an instance of our own stay");
}

/// Community and uniqueId of a document, code and location of its error, and how often the neighbour is asked.
type Case<'a> = (&'static str, Option<&'a str>, &'a str, &'static str, Option<&'a str>, usize);

/// H-04, H-06, H-07, H-10: one row, one document beside an own one.
#[tokio::test]
async fn a_document_that_nobody_gives_is_told_by_who_should() {
    let (here, _there, wire, [near, far]) = two(&[], Beside::new).await;
    let own = PKI.hospital.physician(&patient());
    let cases: [Case<'_>; 5] = [
        ("absent, when there are others", None, &near.manifest.0, "XDSMissingHomeCommunityId", Some(&near.manifest.0), 0),
        ("no community", Some(NOWHERE), &near.manifest.0, "XDSUnknownCommunity", Some(&near.manifest.0), 0),
        ("malformed", Some("1.2.3"), &near.manifest.0, "XDSUnknownCommunity", Some(&near.manifest.0), 0),
        // The neighbour's own words, with its location (S).
        ("unknown there", Some(NEIGHBOUR), "2.25.1", "XDSDocumentUniqueIdError", Some(NEIGHBOUR), 1),
        ("held there, asked for here", Some(HOME), &far.manifest.0, "XDSDocumentUniqueIdError", Some(&far.manifest.0), 0),
    ];
    for (name, home, uid, code, location, asked) in cases {
        let before = wire.asked();
        let wanted = [document(Some(HOME), &near.manifest.0), document(home, uid)];
        let answer = ask(&here, &PKI.hospital, &own, action::ITI_43, &iti_43::encode(&wanted)).await;
        let registry = answer.retrieved().registry;
        assert_eq!((registry.status, errors(&registry)), (Status::PartialSuccess, vec![(code, location)]), "{name}");
        assert_eq!((answer.parts.len(), wire.asked() - before), (1, asked), "{name}");
    }
    // Asked by another gateway: not asked on (H-05).
    let body = iti_43::encode(&[document(Some(NEIGHBOUR), &far.manifest.0)]);
    let answer = ask(&here, &PKI.hospital, &own, action::ITI_39, &body).await;
    assert_eq!(errors(&answer.retrieved().registry), [("XDSUnknownCommunity", Some(HOME))]);
    // A gate of ours: nobody is asked.
    let mut uncaring = PKI.hospital.physician(&patient());
    uncaring.care_reason = None;
    let before = wire.asked();
    assert_eq!(ask(&here, &PKI.hospital, &uncaring, action::ITI_43, &body).await.refusal(), "IDR-X-27");
    assert_eq!(ask(&here, &PKI.hospital, &PKI.hospital.site(&patient()), action::ITI_43, &body).await.refusal(), "IDR-X-22");
    assert_eq!(wire.asked(), before);
}

#[tokio::test]
async fn the_other_community_decides_what_it_gives() {
    let (here, there, _, [_, far]) = two(&[], Beside::new).await;
    let other = PKI.other.physician(&patient());
    let documents = (action::ITI_43, iti_43::encode(&[document(Some(NEIGHBOUR), &far.manifest.0)]));
    let instances = (action::RAD_69, images(vec![document(Some(NEIGHBOUR), &far.instance.sop_instance_uid)]));
    for (action, body) in [&documents, &instances] {
        let answer = ask(&here, &PKI.other, &other, action, body).await;
        let registry = answer.retrieved().registry;
        let expected = (Status::Failure, vec![("XDSDocumentUniqueIdError", Some(NEIGHBOUR))]);
        assert_eq!((registry.status, errors(&registry)), expected, "no consent there: as if it were not there");
    }
    here.consented().await;
    assert!(ask(&here, &PKI.other, &other, documents.0, &documents.1).await.parts.is_empty(), "ours is no consent of theirs");
    there.consented().await;
    for (action, body) in [&documents, &instances] {
        assert_eq!(ask(&here, &PKI.other, &other, action, body).await.parts.len(), 1);
    }
}

#[tokio::test]
async fn a_silent_community_takes_only_its_own_documents_with_it() {
    let wires: Vec<(&str, Box<dyn super::Wire>)> = vec![(NOWHERE, Box::new(Silent))];
    let here = asking(&row(NOWHERE, "timeout_seconds = 1"), &[], wires).await;
    let near = hold(&here, 1).await;
    let wanted = [document(Some(NOWHERE), "2.25.7"), document(Some(HOME), &near.manifest.0), document(Some(NOWHERE), "2.25.8")];
    let answer = ask(&here, &PKI.hospital, &PKI.hospital.physician(&patient()), action::ITI_43, &iti_43::encode(&wanted)).await;
    let registry = answer.retrieved().registry;
    let away = |uid| ("XDSUnavailableCommunity", Some(uid));
    assert_eq!(
        (registry.status, errors(&registry)),
        (Status::PartialSuccess, vec![away("2.25.7"), away("2.25.8")]),
        "one for each (09 §1.5)"
    );
    assert_eq!(answer.parts, [near.manifest.1]);
}

type Said = Box<dyn Fn(String) -> String + Send + Sync>;

fn replaced(from: impl Into<String>, to: impl Into<String>) -> Said {
    let (from, to) = (from.into(), to.into());
    Box::new(move |text| {
        assert!(text.contains(&from), "{from} is not in the answer");
        text.replacen(&from, &to, 1)
    })
}

/// The neighbour's answer in other words: refused as a whole, beside an own document that comes.
#[tokio::test]
async fn an_answer_to_a_retrieve_is_taken_as_a_whole_or_not_at_all() {
    let response = "<xdsb:DocumentResponse>";
    let end = "</xdsb:DocumentResponse>";
    let cases: Vec<(&str, Said)> = vec![
        ("of another community", replaced(format!("HomeCommunityId>{NEIGHBOUR}"), format!("HomeCommunityId>{HOME}"))),
        ("of no community", replaced(format!("<xdsb:HomeCommunityId>{NEIGHBOUR}</xdsb:HomeCommunityId>"), "")),
        ("of another repository", replaced(format!("RepositoryUniqueId>{REPOSITORY}"), "RepositoryUniqueId>1.2.3")),
        ("another document", replaced("DocumentUniqueId>", "DocumentUniqueId>9")),
        (
            "one more document",
            Box::new(move |text| {
                let (from, to) = (text.find(response).expect("one"), text.find(end).expect("one") + end.len());
                let again = text[from..to].replace("cid:1@idr", "cid:2@idr");
                format!("{}{again}{}", &text[..to], &text[to..])
            }),
        ),
        ("a part that is not there", replaced("cid:1@idr", "cid:9@idr")),
        ("the envelope as a document", replaced("cid:1@idr", "cid:0@idr")),
        ("a file of this host", replaced("cid:1@idr", "file:///etc/passwd")),
        ("an address", replaced("cid:1@idr", "https://central.idr.example/")),
        (
            "in line",
            Box::new(|text| {
                let (from, to) = (
                    text.find("<xop:Include").or_else(|| text.find("<xdsb:Document>")).expect("one"),
                    text.find("</xdsb:Document>").expect("one"),
                );
                let from = text[from..to].find("<xop").map_or(from, |at| from + at);
                format!("{}AAAA{}", &text[..from], &text[to..])
            }),
        ),
        ("another media type field", replaced("application/dicom</xdsb:mimeType>", "text/plain&#13;&#10;X: y</xdsb:mimeType>")),
        ("no media type", replaced("<xdsb:mimeType>application/dicom</xdsb:mimeType>", "")),
        ("a Failure with documents", replaced("ResponseStatusType:Success", "ResponseStatusType:Failure")),
        ("to another message", replaced("RelatesTo>urn:uuid:", "RelatesTo>urn:uuid:0")),
        ("without its end", Box::new(|text| text[..text.len() - 40].to_owned())),
        (
            "two parts of one name",
            Box::new(|text| {
                let at = text.find("Content-ID: <1@idr>").expect("a part");
                let part = text[..at].rfind("\r\n--").expect("a delimiter");
                let end = text.rfind("\r\n--").expect("the closing");
                format!("{}{}{}", &text[..end], &text[part..end], &text[end..])
            }),
        ),
        (
            "too much",
            Box::new(|text| {
                let at = text.find("DICM").expect("a file");
                format!("{}{}{}", &text[..at], "x".repeat(70_000), &text[at..])
            }),
        ),
    ];
    let own = PKI.hospital.physician(&patient());
    for (name, said) in cases {
        let change = [("retrieve_bytes_max = 1073741824", "retrieve_bytes_max = 65536")];
        let (here, _there, wire, [near, far]) = two(&change, |there| Beside::new(there).that_says(said)).await;
        let wanted = [document(Some(NEIGHBOUR), &far.manifest.0), document(Some(HOME), &near.manifest.0)];
        let answer = ask(&here, &PKI.hospital, &own, action::ITI_43, &iti_43::encode(&wanted)).await;
        let registry = answer.retrieved().registry;
        let expected = (Status::PartialSuccess, vec![("XDSUnavailableCommunity", Some(far.manifest.0.as_str()))]);
        assert_eq!((registry.status, errors(&registry)), expected, "{name}");
        assert_eq!((answer.parts.as_slice(), wire.asked()), (&[near.manifest.1][..], 1), "{name}: the own document comes");
    }
}

/// What is an instance is a DICOM file; and a neighbour that leaves something out without a word does not make it a success.
#[tokio::test]
async fn what_is_left_out_without_a_word_is_missed() {
    let own = PKI.hospital.physician(&patient());
    let nothing: Said = Box::new(|text| {
        let (from, to) = (text.find("<xdsb:DocumentResponse>").expect("one"), text.rfind("</xdsb:DocumentResponse>").expect("one"));
        format!("{}{}", &text[..from], &text[to + "</xdsb:DocumentResponse>".len()..])
    });
    // Another instance of the same length, in a file that is well.
    let uid = Instance::ct(2).sop_instance_uid;
    let another: Said = Box::new(move |text| {
        let at = text.rfind(uid.as_str()).expect("the data set");
        format!("{}{}{}", &text[..at], uid.replace(STUDY, &STUDY.replace("77", "78")), &text[at + uid.len()..])
    });
    let series: Said = Box::new(|text| {
        let at = text.rfind(&format!("{STUDY}.1")).expect("the series");
        format!("{}9{}", &text[..at], &text[at + 1..])
    });
    for said in [nothing, another, series, replaced("application/dicom</xdsb:mimeType>", "text/plain</xdsb:mimeType>")] {
        let (here, _there, _, [_, far]) = two(&[], |there| Beside::new(there).that_says(said)).await;
        let uid = &far.instance.sop_instance_uid;
        let answer = ask(&here, &PKI.hospital, &own, action::RAD_69, &images(vec![document(Some(NEIGHBOUR), uid)])).await;
        let registry = answer.retrieved().registry;
        assert_eq!((registry.status, errors(&registry)), (Status::Failure, vec![("XDSUnavailableCommunity", Some(uid.as_str()))]));
    }
}

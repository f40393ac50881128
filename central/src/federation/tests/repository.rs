//! ITI-43 for documents of another repository of the own community (H-13, R-06, R-09, R-11; 09 §8 D-16).

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use idr_ihe::metadata::Submission;
use idr_ihe::soap::xop::Content;
use idr_ihe::soap::{self, Envelope, Framing, mtom, multipart};
use idr_ihe::transaction::iti_43::{self, DocumentRequest, DocumentResponse, RetrieveResponse};
use idr_ihe::transaction::registry_response::{RegistryError, RegistryResponse, Severity, Status};
use idr_ihe::transaction::table::action;
use idr_ihe::xml::Limits;

use super::super::Cause;
use super::super::wire::Wire;
use super::query::used;
use super::{ask, asking, errors};
use crate::testing::soap::{HOME, Recipe, message_id, objects};
use crate::testing::{DISTRICT, PKI, World, patient};

const THEIRS: &str = "1.2.246.10.12345671.12.200";

/// What a repository says of the documents that it is asked for.
type Says = Arc<dyn Fn(&DocumentRequest) -> Option<(DocumentResponse, Vec<u8>)> + Send + Sync>;

/// A repository that answers ITI-43; remembers what it was asked for.
#[derive(Clone)]
struct Shelf {
    says: Says,
    asked: Arc<Mutex<Vec<Vec<DocumentRequest>>>>,
}

impl Shelf {
    fn new(says: impl Fn(&DocumentRequest) -> Option<(DocumentResponse, Vec<u8>)> + Send + Sync + 'static) -> Self {
        Self { says: Arc::new(says), asked: Arc::default() }
    }

    fn asked(&self) -> Vec<Vec<DocumentRequest>> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn given(request: &DocumentRequest, mime_type: &str, bytes: &[u8]) -> Option<(DocumentResponse, Vec<u8>)> {
    let response = DocumentResponse {
        home_community_id: request.home_community_id.clone(),
        repository_unique_id: request.repository_unique_id.clone()?,
        document_unique_id: request.document_unique_id.clone()?,
        new_repository_unique_id: None,
        new_document_unique_id: None,
        mime_type: mime_type.to_owned(),
        content: Content::Part(String::new()),
    };
    Some((response, bytes.to_vec()))
}

#[async_trait]
impl Wire for Shelf {
    async fn post(&self, content_type: &str, message: Bytes) -> Result<Response<Body>, Cause> {
        let Ok(Framing::Mtom { boundary, start }) = Framing::of(Some(content_type)) else { panic!("ITI-43 is MTOM") };
        let mut reader = mtom::Reader::new(&boundary, start, multipart::Limits::MTOM).expect("a boundary");
        reader.feed(&message).expect("within bounds");
        let Ok(Some(mtom::Event::Root(root))) = reader.poll() else { panic!("the root part first") };
        let envelope = Envelope::read(&root, Limits::default()).expect("an envelope");
        assert_eq!(envelope.action(), action::ITI_43);
        assert!(envelope.security().next().is_some_and(|security| security.windows(9).any(|text| text == b"Assertion")));
        let requests = iti_43::read(&envelope).expect("a request");
        self.asked.lock().expect("not poisoned").push(requests.clone());
        let found: Vec<(DocumentResponse, Vec<u8>)> = requests.iter().filter_map(|request| (self.says)(request)).collect();
        let numbered = found
            .iter()
            .enumerate()
            .map(|(n, (response, _))| DocumentResponse { content: Content::Part(mtom::content_id(n + 1)), ..response.clone() });
        let documents: Vec<DocumentResponse> = numbered.collect();
        let error = RegistryError {
            error_code: "XDSDocumentUniqueIdError".to_owned(),
            code_context: "not on this shelf".to_owned(),
            severity: Severity::Error,
            location: None,
        };
        let registry = match (documents.len() == requests.len(), documents.is_empty()) {
            (true, _) => RegistryResponse::SUCCESS,
            (false, true) => RegistryResponse::failure(vec![error]),
            (false, false) => RegistryResponse { status: Status::PartialSuccess, errors: vec![error] },
        };
        let body = iti_43::encode_response(&RetrieveResponse { registry, documents });
        let relates_to = Some(envelope.message_id());
        let action = action::ITI_43_RESPONSE;
        let id = message_id();
        let answer = soap::write_answer(&soap::Answer { action, message_id: &id, relates_to, headers: "", body: &body });
        let writer = mtom::Writer::new("shelf".to_owned()).expect("a boundary");
        let mut message = writer.root(&answer).into_bytes();
        for (n, (response, bytes)) in found.iter().enumerate() {
            message.extend(writer.document(n + 1, &response.mime_type).into_bytes());
            message.extend(bytes);
        }
        message.extend(writer.closing().into_bytes());
        Ok(Response::builder().header(CONTENT_TYPE, writer.content_type()).body(Body::from(message)).expect("a response"))
    }
}

/// A centre with the worked example registered by its repository, and the manifest that this holds.
async fn world(shelf: impl FnOnce(Vec<u8>) -> Shelf) -> (World, Shelf, String) {
    let revision = Recipe::worked_example().revision();
    let mut submission: Submission = revision.submission;
    submission.entries[0].repository_unique_id = Some(THEIRS.to_owned());
    let shelf = shelf(revision.kos);
    let row = format!(
        "[[repository]]\nunique_id = \"{THEIRS}\"\norganisation = \"{DISTRICT}\"\nendpoint = \"https://shelf.example/ihe\"\naudience = \"urn:x-idr:audience:central\"\n\
         pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]\n"
    );
    let here = asking(&row, &[], vec![("shelf.example/ihe", Box::new(shelf.clone()))]).await;
    let claims = PKI.district.worked_site();
    let answer = here.soap(&PKI.district, objects(&PKI.district, &claims, action::ITI_42, &submission, &message_id())).await;
    assert_eq!(answer.contexts(), Vec::<String>::new(), "{}", answer.envelope);
    (here, shelf, submission.entries[0].unique_id.clone())
}

fn document(home: Option<&str>, repository: &str, uid: &str) -> DocumentRequest {
    let [home, repository, unique] = [home, Some(repository), Some(uid)].map(|value| value.map(str::to_owned));
    DocumentRequest { home_community_id: home, repository_unique_id: repository, document_unique_id: unique }
}

#[tokio::test]
async fn a_permitted_document_comes_from_the_repository_that_registered_it() {
    let (here, shelf, uid) = world(|kos| Shelf::new(move |request| given(request, "application/dicom", &kos))).await;
    let own = PKI.district.physician(&patient());
    let kos = Recipe::worked_example().revision().kos;
    for home in [None, Some(HOME)] {
        let wanted = [document(home, THEIRS, &uid), document(home, THEIRS, "2.25.1"), document(home, THEIRS, &uid)];
        let answer = ask(&here, &PKI.district, &own, action::ITI_43, &iti_43::encode(&wanted)).await;
        let registry = answer.retrieved().registry;
        assert_eq!((registry.status, errors(&registry)), (Status::PartialSuccess, vec![("XDSDocumentUniqueIdError", Some("2.25.1"))]));
        assert_eq!(answer.parts, [kos.clone(), kos.clone()], "once for each time it was asked for");
        assert_eq!(answer.retrieved().documents[0].home_community_id.as_deref(), home, "H-09");
    }
    let asked = shelf.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked.iter().all(|asked| asked.len() == 1 && asked[0].document_unique_id.as_deref() == Some(uid.as_str())),
        "what is registered, once"
    );
    let records = used(&here);
    assert!(records.iter().any(|value| value["transaction"] == "ITI-43" && value["recipient"] == THEIRS));
    for _ in 0..1200 {
        if here.object_files() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(here.object_files(), 0, "nothing of another repository stays");
}

/// D-16: denied is unknown, and nobody is asked.
#[tokio::test]
async fn nothing_is_asked_of_a_repository_before_the_document_is_permitted() {
    let (here, shelf, uid) = world(|kos| Shelf::new(move |request| given(request, "application/dicom", &kos))).await;
    let other = PKI.other.physician(&patient());
    let body = |uid: &str| iti_43::encode(&[document(None, THEIRS, uid)]);
    let denied = ask(&here, &PKI.other, &other, action::ITI_43, &body(&uid)).await;
    let unknown = ask(&here, &PKI.other, &other, action::ITI_43, &body("2.25.1")).await;
    assert_eq!(denied.normal(&[&uid]), unknown.normal(&["2.25.1"]));
    assert_eq!(errors(&denied.retrieved().registry), [("XDSDocumentUniqueIdError", Some(uid.as_str()))]);
    assert!(shelf.asked().is_empty());
    here.consented().await;
    assert_eq!(ask(&here, &PKI.other, &other, action::ITI_43, &body(&uid)).await.parts.len(), 1);
    // Not by another gateway, and no repository that has no row.
    let own = PKI.district.physician(&patient());
    for (action, repository) in [(action::ITI_39, THEIRS), (action::ITI_43, "1.2.3")] {
        let body = iti_43::encode(&[document(Some(HOME), repository, &uid)]);
        let answer = ask(&here, &PKI.district, &own, action, &body).await.retrieved();
        assert_eq!(answer.registry.errors[0].error_code, "XDSUnknownRepositoryId", "{repository}");
    }
    assert_eq!(shelf.asked().len(), 1);
}

/// what a repository says instead.
#[tokio::test]
async fn what_is_not_the_registered_document_is_not_given() {
    type Case = (&'static str, fn(&DocumentRequest, &[u8]) -> Option<(DocumentResponse, Vec<u8>)>, &'static str);
    let cases: [Case; 8] = [
        ("other bytes", |of, kos| given(of, "application/dicom", &[&kos[..kos.len() - 1], &[b'x'][..]].concat()), "IDR-R-09"),
        ("one byte more", |of, kos| given(of, "application/dicom", &[kos, &[0][..]].concat()), "IDR-R-09"),
        ("nothing in it", |of, _| given(of, "application/dicom", &[]), "IDR-R-09"),
        ("another media type", |of, kos| given(of, "text/html", kos), "IDR-R-09"),
        ("not there", |_, _| None, "IDR-R-07"),
        (
            "of another community",
            |of, kos| {
                let (response, bytes) = given(of, "application/dicom", kos)?;
                Some((DocumentResponse { home_community_id: Some("urn:oid:1.2.3".to_owned()), ..response }, bytes))
            },
            "IDR-R-11",
        ),
        (
            "of another repository",
            |of, kos| {
                let (response, bytes) = given(of, "application/dicom", kos)?;
                Some((DocumentResponse { repository_unique_id: "1.2.3".to_owned(), ..response }, bytes))
            },
            "IDR-R-11",
        ),
        (
            "another document",
            |of, kos| {
                let (response, bytes) = given(of, "application/dicom", kos)?;
                Some((DocumentResponse { document_unique_id: "1.2.3".to_owned(), ..response }, bytes))
            },
            "IDR-R-11",
        ),
    ];
    let own = PKI.district.physician(&patient());
    for (name, says, code) in cases {
        let (here, shelf, uid) = world(|kos| Shelf::new(move |request| says(request, &kos))).await;
        let answer = ask(&here, &PKI.district, &own, action::ITI_43, &iti_43::encode(&[document(None, THEIRS, &uid)])).await;
        let registry = answer.retrieved().registry;
        assert_eq!((registry.status, registry.errors.len()), (Status::Failure, 1), "{name}");
        assert!(registry.errors[0].code_context.starts_with(code), "{name}: {}", registry.errors[0].code_context);
        assert_eq!(registry.errors[0].location.as_deref(), Some(uid.as_str()), "{name}");
        assert!(answer.parts.is_empty() && shelf.asked().len() == 1, "{name}");
    }
}

//! The streamed answer of ITI-43 and RAD-69, and of ITI-39 and RAD-75: root part first, then each document as it is read.
//!
//! # Order
//! What is in the answer is decided before the first byte: sizes are known from the index, or from what is staged of other
//! communities, so the answer has a Content-Length. Each document is decided again before its bytes; if that, or a read, fails, the connection ends without
//! the closing delimiter and the client sees an incomplete message (profile 08 §7.3.5).
//!
//! # Bounds
//! `IN_FLIGHT` chunks between the storage and the network.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use idr_ihe::metadata::is_oid;
use idr_ihe::soap::mtom;
use idr_ihe::soap::xop::Content;
use idr_ihe::transaction::iti_43::{DocumentRequest, DocumentResponse, RetrieveResponse, encode_response};
use idr_ihe::transaction::registry_response::{RegistryResponse, Severity, Status};
use idr_ihe::transaction::table::{self, Frame, action};
use idr_profile::xds::request::{RetrieveProblem, RetrieveService};
use idr_profile::xds::{Answerer, RegistryProblem, RequireHome};
use idr_profile::xua::{Refusal, Transaction};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{self, Envelope};
use super::community;
use crate::archive::retrieve::{Retrieval, Stopped, Stored};
use crate::assertion::Authenticated;
use crate::audit::{Entry, Kind, Outcome};
use crate::central::Central;
use crate::federation::retrieve::{self, Fetched};
use crate::objects::{ObjectError, Objects};
use crate::peer;
use crate::store::StoreError;

/// A request that is being answered.
pub struct Exchange {
    /// Its MessageID.
    pub message_id: String,
    /// Which of the four retrieves it is.
    pub transaction: Transaction,
    /// Its place among the retrieves; freed after the last byte.
    pub place: OwnedSemaphorePermit,
}

/// Which texts the errors of a retrieve have.
pub fn service(transaction: Transaction) -> RetrieveService {
    match transaction {
        Transaction::Rad69 | Transaction::Rad75 => RetrieveService::Imaging,
        _ => RetrieveService::Documents,
    }
}

/// Where the bytes of a document are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// Number in the retrieval.
    Own(usize),
    /// Place in the request, by which it was fetched from another community.
    Other(usize),
}

/// One document of the request: where it is, or what is wrong.
pub struct Item {
    request: DocumentRequest,
    outcome: Result<Given, RegistryProblem>,
}

impl Item {
    /// The document at `place` of the request, which another community was asked for. `None`: that community says why it is missing.
    pub fn fetched(place: usize, request: &DocumentRequest, fetched: &Fetched) -> Option<Self> {
        let outcome = match fetched.problems.get(&place) {
            Some(problem) => Err(problem.clone()),
            None => Ok(fetched.documents.get(&place).map(|_| Given::Other(place))?),
        };
        Some(Self { request: request.clone(), outcome })
    }

    /// A document of another repository that did not come.
    pub fn missing(request: &DocumentRequest, problem: RegistryProblem) -> Self {
        Self { request: request.clone(), outcome: Err(problem) }
    }
}

/// One item: community (R-05, H-07, H-08) and repository are judged here, the rest by `find`.
pub fn item<'a>(
    central: &Central,
    transaction: Transaction,
    request: &DocumentRequest,
    find: impl FnOnce() -> Result<usize, RetrieveProblem<'a>>,
) -> Item {
    let own = &central.config.central;
    let home = request.home_community_id.as_deref();
    let repository = request.repository_unique_id.as_deref().unwrap_or_default();
    let problem = |problem: RetrieveProblem<'_>| {
        let told = problem.problem(&central.errors, service(transaction), request.document_unique_id.as_deref(), None);
        community::located(central, transaction, told)
    };
    let is_own = |home: &str| home.strip_prefix("urn:oid:").is_some_and(|oid| is_oid(oid) && oid == own.home_community);
    let outcome = match home {
        Some(home) if !is_own(home) => Err(problem(RetrieveProblem::CommunityUnknown { home })),
        None if is_required(central, transaction) => Err(problem(RetrieveProblem::CommunityMissing)),
        _ if repository != own.repository_unique_id && retrieve::repository_of(central, transaction, request).is_none() => {
            Err(problem(RetrieveProblem::RepositoryUnknown { repository }))
        }
        _ => find().map(Given::Own).map_err(problem),
    };
    Item { request: request.clone(), outcome }
}

/// Whether each document names its community (H-04, H-07, H-08).
pub fn is_required(central: &Central, transaction: Transaction) -> bool {
    let federated = !central.federation.communities.is_empty();
    community::is_cross_gateway(transaction) || federated || central.xds.require_home == RequireHome::Always
}

impl Exchange {
    /// An answer without documents: the whole request fails. Recorded as a use that delivered nothing.
    ///
    /// # Errors
    /// IDR-X-32.
    pub async fn failed(self, central: &Central, who: &Authenticated, problems: Vec<RegistryProblem>) -> Result<Response, Refusal> {
        let mut record = who.record(central, Kind::U, Outcome::Failed);
        record.status = problems.first().map(RegistryProblem::code);
        if let Err(error) = central.audit.append(vec![Entry::Record(Box::new(record))]).await {
            tracing::error!(cause = %error, "a failed retrieve cannot be recorded");
            return Err(Refusal::unavailable("the audit store takes no records"));
        }
        let located = problems.into_iter().map(|problem| community::located(central, self.transaction, problem).registry_error());
        let registry = RegistryResponse::failure(located.collect());
        Ok(self.respond(central, &RetrieveResponse { registry, documents: Vec::new() }))
    }

    /// The answer to a store that does not answer.
    ///
    /// # Errors
    /// IDR-X-32.
    pub async fn store_failed(self, central: &Central, who: &Authenticated, error: &StoreError) -> Result<Response, Refusal> {
        let problem = super::resource_problem(central, error, Answerer::Repository);
        self.failed(central, who, vec![problem]).await
    }

    /// `wsa:Action` of the answer.
    fn action(&self) -> &'static str {
        table::of_number(peer::number(self.transaction)).map_or(action::ITI_43_RESPONSE, |transaction| transaction.response_action)
    }

    fn respond(&self, central: &Central, response: &RetrieveResponse) -> Response {
        let body = encode_response(response);
        let envelope = Envelope { action: self.action(), relates_to: &self.message_id, headers: String::new(), body: &body };
        answer::ok(central, &envelope, Frame::Mtom, false)
    }

    /// Answers with the documents of `items` in their order, and one error for each of the others. `fetched`: what came of other
    /// communities.
    ///
    /// # Errors
    /// None now; the records are open already.
    pub async fn stream<T: Stored>(
        self,
        central: &Arc<Central>,
        mut retrieval: Retrieval<T>,
        mut items: Vec<Item>,
        fetched: Fetched,
        bytes_max: Option<u64>,
    ) -> Result<Response, Refusal> {
        self.check(central, &retrieval, &mut items).await;
        let own: Vec<(String, u64)> = retrieval.items().map(|item| (item.media_type().to_owned(), item.length())).collect();
        let given = items
            .iter()
            .filter_map(|item| item.outcome.as_ref().ok())
            .filter_map(|given| Some((*given, described(*given, &own, &fetched)?)));
        let given: Vec<(Given, (String, u64))> = given.collect();
        let total: u64 = given.iter().map(|(_, (_, length))| length).sum();
        let own_given = given.iter().filter(|(given, _)| matches!(given, Given::Own(_))).count() as u64;
        if let Some(limit) = bytes_max.filter(|limit| total > *limit) {
            let problem = RetrieveProblem::Limit { limit }.problem(&central.errors, service(self.transaction), None, None);
            let problem = community::located(central, self.transaction, problem);
            let registry = RegistryResponse::failure(vec![problem.registry_error()]);
            retrieval.expect(own_given);
            retrieval.close(&problem.code()).await;
            return Ok(self.respond(central, &RetrieveResponse { registry, documents: Vec::new() }));
        }
        let response = respond(&items, &own, &fetched);
        let status = status_word(response.registry.status);
        retrieval.expect(own_given);
        if given.is_empty() {
            retrieval.close(status).await;
            return Ok(self.respond(central, &response));
        }
        let writer = answer::writer(central);
        let body = encode_response(&response);
        let envelope = Envelope { action: self.action(), relates_to: &self.message_id, headers: String::new(), body: &body }.write(central);
        let parts = given.iter().map(|(_, (media_type, length))| (media_type.as_str(), *length));
        let length = writer.content_length(&envelope, parts);
        let (out, chunks) = mpsc::channel(IN_FLIGHT);
        let mut http = answer::with_type(http::StatusCode::OK, &writer.content_type(), Body::from_stream(ReceiverStream::new(chunks)));
        http.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        let sender = Sender { out, place: self.place, objects: central.objects.clone(), fetched };
        tokio::spawn(async move {
            let ended = sender.send(&writer, envelope, &mut retrieval, &given).await;
            match ended {
                Ok(()) => retrieval.close(status).await,
                // Dropped: closed as what has left.
                Err(Ended::Gone) => tracing::info!("a client went away while its answer was written"),
                Err(Ended::Stopped(cause)) => tracing::error!(cause = %cause, "an answer ends without its closing delimiter"),
            }
        });
        Ok(http)
    }

    /// Bytes that cannot be read are told before any are promised.
    async fn check<T: Stored>(&self, central: &Central, retrieval: &Retrieval<T>, items: &mut [Item]) {
        let checks: Vec<BoxFuture<'_, bool>> = (0..retrieval.items().len()).map(|index| readable(retrieval, index).boxed()).collect();
        let checked: Vec<bool> = stream::iter(checks).buffered(CHECKS_IN_FLIGHT).collect().await;
        for item in items {
            if let Ok(Given::Own(index)) = &item.outcome
                && !checked.get(*index).copied().unwrap_or(false)
            {
                let document = item.request.document_unique_id.as_deref();
                let problem = RetrieveProblem::Unreadable.problem(&central.errors, service(self.transaction), document, None);
                item.outcome = Err(community::located(central, self.transaction, problem));
            }
        }
    }
}

async fn readable<T: Stored>(retrieval: &Retrieval<T>, index: usize) -> bool {
    let checked = retrieval.check(index).await;
    // What did not come of another repository is told already.
    if let Err(error) = &checked
        && !matches!(error, Stopped::Object(ObjectError::NotFetched))
    {
        tracing::error!(code = "IDR-R-09", cause = %error, "stored bytes cannot be read");
    }
    checked.is_ok()
}

/// Media type and length of a document.
fn described(given: Given, own: &[(String, u64)], fetched: &Fetched) -> Option<(String, u64)> {
    match given {
        Given::Own(index) => own.get(index).cloned(),
        Given::Other(place) => {
            let document = fetched.documents.get(&place)?;
            Some((document.response.mime_type.clone(), document.part.written.size()))
        }
    }
}

fn respond(items: &[Item], own: &[(String, u64)], fetched: &Fetched) -> RetrieveResponse {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for item in items {
        match &item.outcome {
            Ok(given) => {
                let content = Content::Part(mtom::content_id(documents.len() + 1));
                let (mime_type, _) = described(*given, own, fetched).unwrap_or_default();
                // What another community made on demand keeps the names that it gave.
                let other = match given {
                    Given::Own(_) => None,
                    Given::Other(place) => fetched.documents.get(place).map(|document| &document.response),
                };
                documents.push(DocumentResponse {
                    home_community_id: item.request.home_community_id.clone(),
                    repository_unique_id: item.request.repository_unique_id.clone().unwrap_or_default(),
                    document_unique_id: item.request.document_unique_id.clone().unwrap_or_default(),
                    new_repository_unique_id: other.and_then(|response| response.new_repository_unique_id.clone()),
                    new_document_unique_id: other.and_then(|response| response.new_document_unique_id.clone()),
                    mime_type,
                    content,
                });
            }
            Err(problem) => errors.push(problem.registry_error()),
        }
    }
    errors.extend(fetched.errors.iter().cloned());
    let failed = errors.iter().any(|error| error.severity == Severity::Error);
    let status = match (documents.is_empty(), !failed) {
        (_, true) => Status::Success,
        (false, false) => Status::PartialSuccess,
        (true, false) => Status::Failure,
    };
    RetrieveResponse { registry: RegistryResponse { status, errors }, documents }
}

/// The status as records have it.
pub fn status_word(status: Status) -> &'static str {
    match status {
        Status::Success => "Success",
        Status::PartialSuccess => "PartialSuccess",
        Status::Failure => "Failure",
    }
}

/// Why an answer is not written to its end.
enum Ended {
    Gone,
    Stopped(Stopped),
}

impl From<Stopped> for Ended {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

struct Sender {
    out: mpsc::Sender<Result<Bytes, std::io::Error>>,
    #[expect(dead_code, reason = "held until the last byte has left")]
    place: OwnedSemaphorePermit,
    objects: Objects,
    /// Staged until the last byte has left.
    fetched: Fetched,
}

impl Sender {
    async fn send<T: Stored>(
        self,
        writer: &mtom::Writer,
        envelope: String,
        retrieval: &mut Retrieval<T>,
        given: &[(Given, (String, u64))],
    ) -> Result<(), Ended> {
        let ended = self.documents(writer, envelope, retrieval, given).await;
        if let Err(Ended::Stopped(_)) = &ended {
            // An error in the body ends the connection, or resets the stream: never a normal end.
            let _ = self.out.send(Err(std::io::Error::other("the answer is ended"))).await;
        }
        ended
    }

    async fn documents<T: Stored>(
        &self,
        writer: &mtom::Writer,
        envelope: String,
        retrieval: &mut Retrieval<T>,
        given: &[(Given, (String, u64))],
    ) -> Result<(), Ended> {
        self.put(retrieval, writer.root(&envelope).into()).await?;
        for (number, (given, (media_type, _))) in given.iter().enumerate() {
            match given {
                Given::Own(index) => {
                    // Decided before anything of it leaves, its head included.
                    let mut bytes = retrieval.open(*index).await?;
                    self.put(retrieval, writer.document(number + 1, media_type).into()).await?;
                    while let Some(chunk) = bytes.next().await {
                        let chunk = chunk.map_err(Stopped::Object)?;
                        self.put(retrieval, chunk).await?;
                    }
                    retrieval.count_item();
                }
                Given::Other(place) => {
                    let Some(document) = self.fetched.documents.get(place) else { continue };
                    let mut bytes = self.objects.stream_back(&document.part.written).await.map_err(Stopped::Object)?;
                    self.out.send(Ok(writer.document(number + 1, media_type).into())).await.map_err(|_| Ended::Gone)?;
                    while let Some(chunk) = bytes.next().await {
                        let chunk = chunk.map_err(Stopped::Object)?;
                        self.out.send(Ok(chunk)).await.map_err(|_| Ended::Gone)?;
                    }
                }
            }
        }
        self.put(retrieval, writer.closing().into()).await
    }

    async fn put<T: Stored>(&self, retrieval: &mut Retrieval<T>, bytes: Bytes) -> Result<(), Ended> {
        let length = bytes.len() as u64;
        self.out.send(Ok(bytes)).await.map_err(|_| Ended::Gone)?;
        retrieval.count(length);
        Ok(())
    }
}

/// Chunks between storage and network.
const IN_FLIGHT: usize = 4;
/// Objects looked at side by side before an answer.
const CHECKS_IN_FLIGHT: usize = 16;

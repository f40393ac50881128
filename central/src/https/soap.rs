//! `POST /ihe/gateway`: one address for every SOAP transaction (profile 08 §2, §3; 09 §4, §5).
//!
//! # Order
//! HTTP → peer row → frame, envelope and addressing rules (S-02 … S-19; an action that the peer's row does not list is not
//! served to it) → assertion (IDR-X) → body of the action (S-12) → the rest of the message (S-22 … S-28) → the transaction.
//! Documents are staged while they stream; before the assertion has been verified only those that stand before the root part.
//!
//! # Failure
//! A fault or an HTTP error means that nothing has happened. Whatever is refused before a transaction has looked at it leaves
//! one refusal record. Errors of a transaction are RegistryErrors in an HTTP 200.
//!
//! # Bounds
//! BD-12 … BD-15, BD-20; places and times by profile 08 §6.

pub mod answer;
pub mod body;
pub mod community;
pub mod documents;
pub mod receive;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use idr_ihe::soap::{Envelope, Framing, HeaderName, Refusal as SoapRefusal, Rejected, fingerprint};
use idr_ihe::transaction::iti_41::ProvideAndRegisterRequest;
use idr_ihe::transaction::registry_response::RegistryResponse;
use idr_ihe::transaction::table::{self, Frame};
use idr_ihe::transaction::{iti_41, iti_42, iti_43, iti_62, iti_86, rad_69};
use idr_ihe::xml::Limits;
use idr_profile::xds::{Answerer, Key, RegistryProblem, SubmitTransaction};
use idr_profile::xua::{Refusal, RequestFacts, Transaction};
use tokio::sync::OwnedSemaphorePermit;

use self::documents::Exchange;
use self::receive::{Incoming, ReceiveError};
use super::problem::{self, Problem};
use super::server::Client;
use crate::archive::retrieve;
use crate::assertion::{self, Asked, Authenticated};
use crate::central::{Central, Work};
use crate::peer::{self, Admitted};
use crate::registry::remove::{self, Removal};
use crate::registry::submit::{Received, Submitted, Unsubmitted};
use crate::registry::{query, submit};
use crate::repository;
use crate::store::StoreError;

/// Path of the endpoint.
pub const GATEWAY: &str = "/ihe/gateway";

/// Answers one message.
pub async fn gateway(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, request: Request) -> Response {
    let request_id = problem::request_id(request.headers()).unwrap_or_else(|| format!("urn:uuid:{}", central.random_id()));
    if request.method() != Method::POST {
        return Problem::method_not_allowed("POST").response(&central, &request_id);
    }
    let peer = client.address.ip();
    let asked = Asked { transaction: None, request_id: request_id.clone(), client };
    let gateway = Gateway { asked, central, request_id: request_id.clone(), relates_to: None };
    let response = gateway.answer(request).await.unwrap_or_else(|response| *response);
    tracing::info!(%peer, request_id, status = response.status().as_u16(), "SOAP message answered");
    response
}

/// `Retry-After` when too many messages are received at once, seconds.
const BUSY_RETRY_SECONDS: u32 = 120;

/// One exchange.
struct Gateway {
    central: Arc<Central>,
    asked: Asked,
    /// `X-Request-Id`.
    request_id: String,
    /// The request's MessageID, once it was read.
    relates_to: Option<String>,
}

type Ended<T> = Result<T, Box<Response>>;

impl Gateway {
    async fn answer(mut self, request: Request) -> Ended<Response> {
        let admitted = peer::admitted(&self.central, &self.asked).await.map_err(|refusal| self.refused(&refusal))?;
        let (head, body) = request.into_parts();
        // A message is held in memory or staged before anybody knows who sends it: only so many at once.
        let Some(_receiving) = self.central.places.take(Work::Receive).await else {
            return Err(Box::new(Problem::unavailable(BUSY_RETRY_SECONDS).response(&self.central, &self.request_id)));
        };
        let framing = self.soap(Framing::of(content_type(&head.headers)).map_err(Rejected::from)).await?;
        let incoming = Incoming::new(&self.central, &head.headers, body, &framing);
        let mut incoming = self.received(incoming).await?;
        let root = incoming.root().await;
        let root = self.received(root).await?;
        let envelope = self.soap(Envelope::read(&root, Limits::default())).await?;
        let checked = envelope.check(|action| served(&self.central, action).is_some_and(|transaction| admitted.may_use(transaction)));
        self.soap(checked).await?;
        let destination = self.destination(&envelope);
        self.soap(destination.map_err(|refusal| envelope.rejected(refusal))).await?;
        self.asked.transaction = served(&self.central, envelope.action());
        self.asked.request_id = envelope.message_id().to_owned();
        self.relates_to = Some(envelope.message_id().to_owned());
        match served(&self.central, envelope.action()) {
            Some(own @ (Transaction::Iti18 | Transaction::Iti38 | Transaction::Iti51)) => self.query(incoming, &envelope, own).await,
            Some(own @ (Transaction::Iti43 | Transaction::Iti39)) => self.documents(incoming, &envelope, own).await,
            Some(own @ (Transaction::Rad69 | Transaction::Rad75)) => self.imaging(incoming, &envelope, own).await,
            Some(transaction @ (Transaction::Iti62 | Transaction::Iti86)) => self.removal(incoming, &envelope, transaction).await,
            _ => self.submission(incoming, &envelope, &admitted).await,
        }
    }

    async fn query(self, mut incoming: Incoming, envelope: &Envelope<'_>, own: Transaction) -> Ended<Response> {
        incoming.drop_documents();
        let read = query::Received::read(&self.central, envelope, own);
        let named = read.as_ref().ok().and_then(query::Received::patient);
        let who = self.authenticate(envelope, facts(own, named.as_ref())).await?;
        let received = self.soap(read.map_err(|refusal| envelope.rejected(refusal))).await?;
        let rest = incoming.rest().await;
        self.received(rest).await?;
        let text = String::from_utf8(envelope.body_document()).unwrap_or_default();
        let security = security_of(envelope);
        let central = self.central.clone();
        let answered = async {
            let Some(_place) = central.places.take(Work::Query).await else {
                return Ok(query::failed(&central, own, resource_of(&central, "B-01", Answerer::Registry, &[])));
            };
            let limit = central.xds.timeout.query;
            // Other communities have their own time: what is answered here does not wait for them longer than that.
            let others = if central.federation.communities.is_empty() { 0 } else { central.config.federation.query_seconds };
            let within = seconds(limit) + Duration::from_secs(others);
            match tokio::time::timeout(within, query::answer(&central, &who, received, &text, &security)).await {
                Ok(answered) => answered,
                Err(_) => Ok(query::failed(&central, own, timed_out(&central, Answerer::Registry, limit))),
            }
        };
        let body = answered.await.map_err(|refusal| self.refused(&refusal))?;
        Ok(self.ok(peer::number(own), String::new(), &body, false))
    }

    async fn documents(self, mut incoming: Incoming, envelope: &Envelope<'_>, own: Transaction) -> Ended<Response> {
        incoming.drop_documents();
        let read = iti_43::read(envelope);
        let who = self.authenticate(envelope, facts(own, None)).await?;
        let requests = self.soap(read.map_err(|refusal| envelope.rejected(refusal))).await?;
        let rest = incoming.rest().await;
        self.received(rest).await?;
        let exchange = self.exchange(own).await?;
        self.in_time(own, repository::answer(&self.central, who, exchange, requests, &security_of(envelope))).await
    }

    async fn imaging(self, mut incoming: Incoming, envelope: &Envelope<'_>, own: Transaction) -> Ended<Response> {
        incoming.drop_documents();
        let read = rad_69::read(envelope);
        let who = self.authenticate(envelope, facts(own, None)).await?;
        let request = self.soap(read.map_err(|refusal| envelope.rejected(refusal))).await?;
        let rest = incoming.rest().await;
        self.received(rest).await?;
        let exchange = self.exchange(own).await?;
        self.in_time(own, retrieve::rad_69::answer(&self.central, who, exchange, request, &security_of(envelope))).await
    }

    async fn submission(mut self, incoming: Incoming, envelope: &Envelope<'_>, admitted: &Admitted) -> Ended<Response> {
        let own = served(&self.central, envelope.action()).unwrap_or(Transaction::Iti41);
        let kind = submitted_by(own);
        let objects = |request: iti_42::SubmitObjectsRequest| ProvideAndRegisterRequest { objects: request.objects, documents: Vec::new() };
        let read = match kind {
            SubmitTransaction::Iti41 => iti_41::read(envelope),
            _ => iti_42::read(envelope).map(objects),
        };
        let read = read.map(|request| Received::new(&self.central, kind, request, admitted));
        let (transaction, patient) = match &read {
            Ok(received) => (received.transaction(), received.patient().cloned()),
            Err(_) => (own, None),
        };
        self.asked.transaction = Some(transaction);
        let facts = RequestFacts {
            service_event: read.as_ref().map_or(Default::default(), Received::service_event),
            ..facts(transaction, patient.as_ref())
        };
        let who = self.authenticate(envelope, facts).await?;
        let mut received = self.soap(read.map_err(|refusal| envelope.rejected(refusal))).await?;
        if !admitted.lists(transaction) {
            // The row lists ITI-41 alone, or RAD-68 alone.
            let refusal = SoapRefusal::ActionNotSupported { action: envelope.action().to_owned() };
            self.soap(Err(envelope.rejected(refusal))).await?;
        }
        let rest = incoming.rest().await;
        let staged = self.received(rest).await?;
        let submitted = match self.central.places.take(Work::Submit).await {
            // Manifests are read whole: only with a place.
            Some(place) => {
                let completed = received.complete(&self.central, envelope, staged).await;
                self.received(completed).await?;
                submit::submit(self.central.clone(), who, received, place).await
            }
            None => {
                let busy = resource_of(&self.central, "B-01", submit::answerer(kind), &[]);
                Ok(Submitted::failed(RegistryResponse::failure(vec![busy.registry_error()])))
            }
        };
        match submitted {
            Ok(Submitted { response, receipts, replayed }) => {
                Ok(self.ok(peer::number(own), answer::receipts(&receipts), &response, replayed))
            }
            Err(Unsubmitted::Identity(refusal)) => Err(self.refused(&refusal)),
            Err(Unsubmitted::Soap(refusal)) => self.soap(Err(envelope.rejected(refusal))).await,
        }
    }

    async fn removal(self, mut incoming: Incoming, envelope: &Envelope<'_>, own: Transaction) -> Ended<Response> {
        incoming.drop_documents();
        let read = match own {
            Transaction::Iti62 => iti_62::read(envelope).map(Removal::Metadata),
            _ => iti_86::read(envelope).map(Removal::Documents),
        };
        let who = self.authenticate(envelope, facts(own, None)).await?;
        let removal = self.soap(read.map_err(|refusal| envelope.rejected(refusal))).await?;
        let rest = incoming.rest().await;
        self.received(rest).await?;
        let digest = fingerprint(envelope, &[], Limits::default());
        let fingerprint = hex::encode(self.soap(digest.map_err(|refusal| envelope.rejected(refusal))).await?);
        let answerer = removal.answerer();
        let received = remove::Received { removal, message_id: envelope.message_id().to_owned(), fingerprint };
        let removed = match self.central.places.take(Work::Submit).await {
            Some(place) => remove::remove(self.central.clone(), who, received, place).await,
            None => {
                let busy = resource_of(&self.central, "B-01", answerer, &[]);
                Ok(Submitted::failed(RegistryResponse::failure(vec![busy.registry_error()])))
            }
        };
        match removed {
            Ok(Submitted { response, replayed, .. }) => Ok(self.ok(peer::number(own), String::new(), &response, replayed)),
            Err(Unsubmitted::Identity(refusal)) => Err(self.refused(&refusal)),
            Err(Unsubmitted::Soap(refusal)) => self.soap(Err(envelope.rejected(refusal))).await,
        }
    }

    async fn authenticate(&self, envelope: &Envelope<'_>, facts: RequestFacts<'_>) -> Ended<Authenticated> {
        let authenticated = assertion::authenticate_soap(&self.central, self.asked.clone(), envelope, facts).await;
        authenticated.map_err(|refusal| self.refused(&refusal))
    }

    /// A place among the retrieves.
    async fn exchange(&self, transaction: Transaction) -> Ended<Exchange> {
        let message_id = self.relates_to.clone().unwrap_or_default();
        match self.central.places.take(Work::Retrieve).await {
            Some(place) => Ok(Exchange { message_id, transaction, place }),
            None => Err(Box::new(self.retrieve_failed(transaction, resource_of(&self.central, "B-01", Answerer::Repository, &[])))),
        }
    }

    /// The first byte of a retrieve's answer comes in time or not at all.
    async fn in_time(&self, own: Transaction, answer: impl Future<Output = Result<Response, Refusal>>) -> Ended<Response> {
        let limit = self.central.xds.timeout.first_byte;
        // What other communities give is there before the first byte; they have their own time.
        let others = if self.central.federation.retrieves() { self.central.config.federation.retrieve_seconds } else { 0 };
        match tokio::time::timeout(seconds(limit) + Duration::from_secs(others), answer).await {
            Ok(answered) => answered.map_err(|refusal| self.refused(&refusal)),
            Err(_) => Ok(self.retrieve_failed(own, timed_out(&self.central, Answerer::Repository, limit))),
        }
    }

    fn retrieve_failed(&self, own: Transaction, problem: RegistryProblem) -> Response {
        let registry = RegistryResponse::failure(vec![community::located(&self.central, own, problem).registry_error()]);
        let body = iti_43::encode_response(&iti_43::RetrieveResponse { registry, documents: Vec::new() });
        self.ok(peer::number(own), String::new(), &body, false)
    }

    /// S-18, if it is asked.
    fn destination(&self, envelope: &Envelope<'_>) -> Result<(), SoapRefusal> {
        let to = envelope.value(HeaderName::To).unwrap_or_default();
        let own = format!("{}{GATEWAY}", self.central.config.https.public_url);
        if self.central.xds.check_to && to != own || to.chars().count() > 2048 {
            return Err(SoapRefusal::Destination { iri: to.chars().take(2048).collect() });
        }
        Ok(())
    }

    fn ok(&self, number: &str, headers: String, body: &str, replayed: bool) -> Response {
        let transaction = table::of_number(number);
        let (action, frame) = transaction.map_or(("", Frame::Plain), |transaction| (transaction.response_action, transaction.frame));
        let relates_to = self.relates_to.as_deref().unwrap_or_default();
        answer::ok(&self.central, &answer::Envelope { action, relates_to, headers, body }, frame, replayed)
    }

    fn refused(&self, refusal: &Refusal) -> Box<Response> {
        Box::new(answer::refused(&self.central, refusal, self.relates_to.as_deref()))
    }

    /// A broken rule of 08 §3 is recorded and ends the exchange.
    async fn soap<T>(&self, result: Result<T, Rejected>) -> Ended<T> {
        match result {
            Ok(value) => Ok(value),
            Err(rejected) => {
                self.record(&rejected.refusal).await?;
                Err(Box::new(answer::rejected(&self.central, &rejected, &self.request_id)))
            }
        }
    }

    async fn received<T>(&self, result: Result<T, ReceiveError>) -> Ended<T> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                if let ReceiveError::Soap(refusal) = &error {
                    self.record(refusal).await?;
                }
                tracing::info!(cause = %error, "message not received");
                Err(Box::new(answer::unreceived(&self.central, error, self.relates_to.as_deref(), &self.request_id)))
            }
        }
    }

    async fn record(&self, refusal: &SoapRefusal) -> Ended<()> {
        let kept = assertion::refused_as(&self.central, &self.asked, None, &refusal.code(), Refusal::stranger()).await;
        match kept == Refusal::stranger() {
            true => Ok(()),
            false => Err(self.refused(&kept)),
        }
    }
}

/// The transactions of the endpoint, by their own actions; RAD-68 has that of ITI-41 (profile 08 §7).
pub const TRANSACTIONS: [Transaction; 14] = [
    Transaction::Iti18,
    Transaction::Iti38,
    Transaction::Iti39,
    Transaction::Iti41,
    Transaction::Iti42,
    Transaction::Iti43,
    Transaction::Iti51,
    Transaction::Iti57,
    Transaction::Iti61,
    Transaction::Iti62,
    Transaction::Iti86,
    Transaction::Iti92,
    Transaction::Rad69,
    Transaction::Rad75,
];

/// The transaction of an action, if it is served and not switched off.
fn served(central: &Central, action: &str) -> Option<Transaction> {
    let number = table::of_action(action)?.number;
    let on = |transaction: &Transaction| match transaction {
        Transaction::Iti61 => central.xds.iti61.enabled,
        Transaction::Iti51 => central.xds.mpq.enabled,
        _ => true,
    };
    TRANSACTIONS.into_iter().find(|transaction| peer::number(*transaction) == number).filter(on)
}

/// By whose rules the objects of a transaction are judged.
fn submitted_by(transaction: Transaction) -> SubmitTransaction {
    match transaction {
        Transaction::Iti42 => SubmitTransaction::Iti42,
        Transaction::Iti57 => SubmitTransaction::Iti57,
        Transaction::Iti61 => SubmitTransaction::Iti61,
        Transaction::Iti92 => SubmitTransaction::Iti92,
        _ => SubmitTransaction::Iti41,
    }
}

fn facts<'a>(transaction: Transaction, patient: Option<&'a idr_ihe::metadata::PatientId>) -> RequestFacts<'a> {
    RequestFacts { patient, ..RequestFacts::of(transaction) }
}

/// The client's `wsse:Security`, to be put into another envelope as it is.
fn security_of(envelope: &Envelope<'_>) -> String {
    envelope.security_documents().next().and_then(|security| String::from_utf8(security).ok()).unwrap_or_default()
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

/// A problem of 09 §7.
pub fn resource_of(central: &Central, rule: &str, answerer: Answerer, keys: &[(Key, String)]) -> RegistryProblem {
    central
        .errors
        .resource(rule, answerer, keys)
        .unwrap_or_else(|| central.errors.problem(rule, "XDSRegistryError", "internal error", keys, None))
}

/// IDR-B-02.
pub fn timed_out(central: &Central, answerer: Answerer, seconds: u32) -> RegistryProblem {
    resource_of(central, "B-02", answerer, &[(Key::Limit, seconds.to_string())])
}

/// What a store error is told as: busy, out of resources, or an incident.
pub fn resource_problem(central: &Central, error: &StoreError, answerer: Answerer) -> RegistryProblem {
    match error {
        StoreError::Busy | StoreError::LeaseLost | StoreError::Away(_) => {
            if let StoreError::Away(cause) = error {
                tracing::error!(%cause, "the database cannot be reached; the request is answered as busy");
            }
            resource_of(central, "B-01", answerer, &[(Key::Limit, central.xds.lock_wait_seconds().to_string())])
        }
        StoreError::Full => resource_of(central, "B-03", answerer, &[]),
        error => resource_of(central, "B-04", answerer, &[(Key::Incident, problem::incident(central, error))]),
    }
}

/// A place of a request; freed when dropped.
pub type Place = OwnedSemaphorePermit;

#[cfg(test)]
mod tests;

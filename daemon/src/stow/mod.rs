//! STOW-RS: `POST /studies` and `POST /studies/{uid}` (PS3.18 §10.5), for a tenant other than the default one below
//! `/t/{tenant}`.
//!
//! Who asks is settled before the first byte of the body is read: the inbound row by tenant, address and certificate. Then the
//! body streams part by part through [`crate::reception`], as files of a drop folder do: an instance that the answer names as stored
//! is durable, with its R1.
//!
//! # Failure
//! A body that ends early or whose frame breaks stores nothing of the part that was on its way; what was complete before is stored
//! and told. A client that goes away ends the body and nothing else. While the spool refuses: 503 before the body, A700H for
//! the remaining instances within it. A row that is removed meanwhile: 0124H for them.
//!
//! # Bounds
//! `[stow]` of the configuration: connections, handshakes, request heads, requests, bytes, parts. A body and the taking of an
//! answer have a least pace (BD-12). The answer holds one item a part. One instance of a request is on its way at a time.
//!
//! # Standard
//! PS3.18 §10.5, §8.7, Annex I; profile 01 §4 (4, 5), 10 §2.1, F03.

mod answer;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt as _;
use http::header::{ACCEPT, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use idr_dimse::status::Status;
use idr_host::pace::{Chunk, Pace};
use idr_host::places::{Place, Places};
use idr_ihe::soap::MediaType;
use idr_ihe::soap::multipart::{self, Event, Limits, MultipartError, PartHead};
use tokio_util::task::TaskTracker;

use crate::admission::{Ingress, Peer};
use crate::config::DEFAULT_TENANT;
use crate::reception::{Carried, Fate, Origin, Reception, is_uid};
use answer::{Form, Part};

/// Bytes of a request head, and of its target (BD-10).
const HEAD_BYTES_MAX: usize = 65_536;
const TARGET_BYTES_MAX: usize = 8_192;
/// `Retry-After` while the spool refuses (01 §4.5), and when too many requests are on their way.
const SPOOL_RETRY_SECONDS: u32 = 120;
const BUSY_RETRY_SECONDS: u32 = 5;
/// What is read of a body whose answer is known already.
const DRAINED_BYTES_MAX: usize = 4 << 20;
const DRAINED_MAX: Duration = Duration::from_secs(2);
/// Failure Reason of a part that is no `application/dicom`: Cannot Understand (PS3.4 Table B.2-1).
const CANNOT_UNDERSTAND: u16 = 0xC000;

/// Answers STOW-RS requests.
pub struct Stow {
    ingress: Arc<Ingress>,
    requests: Places,
    /// Requests on their way; they end by themselves.
    tasks: TaskTracker,
}

/// A request that can be read.
struct Admitted {
    origin: Origin,
    peer: Peer,
    url_study: Option<String>,
    form: Form,
    reader: multipart::Reader,
    _place: Place,
}

/// What is answered instead of results.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    detail: &'static str,
    retry_after: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail, retry_after: None }
    }

    fn later(seconds: u32, detail: &'static str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, detail, retry_after: Some(seconds) }
    }

    /// `application/problem+json` (RFC 9457).
    fn response(self) -> Response<Body> {
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = serde_json::json!({"type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// How a body ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    Broken(MultipartError),
    TooSlow,
    Gone,
}

impl Stow {
    /// Over these ways in; requests run in `tasks`.
    pub fn new(ingress: Arc<Ingress>, tasks: TaskTracker) -> Self {
        Self { ingress, requests: Places::default(), tasks }
    }

    /// Answers one request. `admitted` is called when its row is known, before the body is read; `false` ends it.
    pub async fn answer(self: &Arc<Self>, peer: Peer, request: Request<Body>, admitted: impl FnOnce() -> bool) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (address, waits) = (peer.address, head.headers.contains_key(EXPECT));
        match self.admit(peer, &head) {
            Ok(reading) if admitted() => {
                let (ingress, body) = (self.ingress.clone(), body.into_data_stream());
                let task = self.tasks.spawn(async move { store(ingress, reading, body).await });
                task.await.unwrap_or_else(|error| {
                    tracing::error!(peer = %address, %error, "a STOW-RS request ended by a fault");
                    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "A fault of the receiver; send it again.").response()
                })
            }
            // The place of its connection went to another.
            Ok(_) => Refusal::later(BUSY_RETRY_SECONDS, "Too many connections.").response(),
            Err(refusal) => {
                tracing::info!(peer = %address, status = refusal.status.as_u16(), "STOW-RS request refused: {}", refusal.detail);
                if !waits {
                    drain(&mut body.into_data_stream()).await;
                }
                refusal.response()
            }
        }
    }

    /// Everything that is decided by the head.
    fn admit(&self, peer: Peer, head: &http::request::Parts) -> Result<Admitted, Refusal> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        // As they were sent: the HTTP library stops reading only some buffers after its own bound.
        let line = head.method.as_str().len() + target + "  HTTP/1.1\r\n".len();
        let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
        if target <= TARGET_BYTES_MAX && line + fields + "\r\n".len() > HEAD_BYTES_MAX {
            return Err(Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head is too long."));
        }
        if target > TARGET_BYTES_MAX {
            return Err(Refusal::new(StatusCode::URI_TOO_LONG, "The request target is too long."));
        }
        let Some((tenant, url_study)) = route(head.uri.path()) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "Only /studies and /studies/{uid} are here."));
        };
        if head.method != Method::POST {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Only POST is served."));
        }
        let Some(row) = self.ingress.stow_row(tenant, &peer) else {
            tracing::warn!(
                code = "IDR-T-12", peer = %peer.address, certificate = peer.certificate_sha256,
                remedy = "add a row with stow = true that fits its address and certificate", "STOW-RS request of no inbound row"
            );
            return Err(Refusal::new(StatusCode::FORBIDDEN, "The sender is not registered here."));
        };
        if url_study.is_some_and(|uid| !is_uid(uid)) {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "The study in the request target is no UID."));
        }
        let bounds = &self.ingress.config().stow;
        let limits =
            Limits { parts: bounds.parts_max, part_bytes: bounds.body_bytes_max, total_bytes: bounds.body_bytes_max, ..Limits::STOW };
        let reader = readable(&head.headers, limits)?;
        let Some(form) = answer::form(&head.headers) else {
            let detail = "The answer can be application/dicom+json or application/dicom+xml.";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, detail));
        };
        let busy = |_| Refusal::later(BUSY_RETRY_SECONDS, "Too many requests at once.");
        let place = self.requests.take(peer.address, bounds.requests_max, bounds.requests_per_address_max).map_err(busy)?;
        let origin = self.ingress.origin(&row).map_err(|not_now| {
            tracing::error!(inbound = row.name, "a STOW-RS request is refused: {not_now}");
            Refusal::later(SPOOL_RETRY_SECONDS, "Nothing can be stored now.")
        })?;
        Ok(Admitted { origin, peer, url_study: url_study.map(str::to_owned), form, reader, _place: place })
    }
}

/// Reads a little of what is still on its way: a connection that is closed before it has come is reset, and the client may never see
/// the answer (RFC 9112 §9.6).
async fn drain(body: &mut BodyDataStream) {
    let mut bytes = 0;
    let read = async {
        while let Some(Ok(chunk)) = body.next().await {
            bytes += chunk.len();
            if bytes >= DRAINED_BYTES_MAX {
                break;
            }
        }
    };
    tokio::time::timeout(DRAINED_MAX, read).await.ok();
}

/// Tenant and study of a path.
fn route(path: &str) -> Option<(&str, Option<&str>)> {
    let (tenant, rest) = match path.strip_prefix("/t/") {
        Some(rest) => rest.split_once('/')?,
        None => (DEFAULT_TENANT, path.strip_prefix('/')?),
    };
    match rest.strip_prefix("studies")? {
        "" => Some((tenant, None)),
        study => Some((tenant, Some(study.strip_prefix('/').filter(|study| !study.is_empty() && !study.contains('/'))?))),
    }
}

/// What the head says of the body.
fn readable(headers: &HeaderMap, limits: Limits) -> Result<multipart::Reader, Refusal> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let unsupported = || Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be multipart/related of application/dicom.");
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "No Content-Encoding is understood."));
    }
    let media_type = text(CONTENT_TYPE).and_then(|value| MediaType::parse(value).ok()).ok_or_else(unsupported)?;
    let of_dicom = media_type.parameter("type").is_none_or(|of| of.eq_ignore_ascii_case("application/dicom"));
    if media_type.essence != "multipart/related" || !of_dicom {
        return Err(unsupported());
    }
    if text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limits.total_bytes) {
        return Err(too_large());
    }
    let boundary = media_type.parameter("boundary").unwrap_or_default();
    multipart::Reader::new(boundary, limits).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "The boundary is missing or malformed."))
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger, or has more parts, than the receiver takes.")
}

async fn store(ingress: Arc<Ingress>, admitted: Admitted, body: BodyDataStream) -> Response<Body> {
    let Admitted { origin, peer, url_study, form, reader, _place } = admitted;
    let receiving = Receiving { ingress, origin, peer, url_study };
    let (parts, ended) = receiving.receive(reader, body).await;
    let stored = parts.iter().filter(|part| part.stored).count();
    tracing::info!(inbound = receiving.origin.row.name, parts = parts.len(), stored, ?ended, "STOW-RS request");
    match ended {
        // What was stored is safe, and stored again when it comes again.
        Ended::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "The body came too slowly.").response(),
        Ended::Broken(MultipartError::TooLarge { .. } | MultipartError::TooManyParts { .. } | MultipartError::PartTooLarge { .. }) => {
            too_large().response()
        }
        Ended::Broken(error) if stored == 0 => {
            tracing::info!(cause = %error, "a STOW-RS body cannot be read");
            Refusal::new(StatusCode::BAD_REQUEST, "The body is no multipart message, or is not whole.").response()
        }
        Ended::Whole | Ended::Broken(_) | Ended::Gone => told(&parts, form),
    }
}

/// The answer to a body that was read (01 §4.5).
fn told(parts: &[Part], form: Form) -> Response<Body> {
    let all = |reason: Status| !parts.is_empty() && parts.iter().all(|part| !part.stored && part.status == reason);
    if parts.is_empty() {
        return Refusal::new(StatusCode::BAD_REQUEST, "The body has no part.").response();
    }
    if parts.iter().all(|part| part.other_type) {
        return Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The parts must be application/dicom.").response();
    }
    if all(Status::OUT_OF_RESOURCES) {
        return Refusal::later(SPOOL_RETRY_SECONDS, "Nothing can be stored now.").response();
    }
    if all(Status::NOT_AUTHORIZED) {
        return Refusal::new(StatusCode::FORBIDDEN, "The sender is not registered here.").response();
    }
    answer::response(parts, form)
}

/// A request while its body comes.
struct Receiving {
    ingress: Arc<Ingress>,
    origin: Origin,
    peer: Peer,
    url_study: Option<String>,
}

impl Receiving {
    async fn receive(&self, mut reader: multipart::Reader, mut body: BodyDataStream) -> (Vec<Part>, Ended) {
        let mut parts: Vec<Part> = Vec::new();
        let mut current: Option<Box<Reception>> = None;
        let mut pace = Pace::default();
        let ended = 'body: loop {
            loop {
                match reader.poll() {
                    Ok(None) => break,
                    Ok(Some(Event::Part(head))) => match self.begin(&head) {
                        Ok(reception) => current = Some(Box::new(reception)),
                        Err(part) => parts.push(part),
                    },
                    Ok(Some(Event::Data(bytes))) => {
                        if let Some(reception) = &mut current {
                            reception.feed(&bytes).await;
                        }
                    }
                    Ok(Some(Event::PartEnd)) => {
                        if let Some(reception) = current.take() {
                            parts.push(reception.conclude().await.into());
                        }
                    }
                    Ok(Some(Event::End)) => {}
                    Err(error) => break 'body Ended::Broken(error),
                }
            }
            match pace.next(&mut body).await {
                Chunk::Bytes(bytes) => {
                    if let Err(error) = reader.feed(&bytes) {
                        break Ended::Broken(error);
                    }
                }
                Chunk::End => break reader.finish().map_or_else(Ended::Broken, |()| Ended::Whole),
                Chunk::TooSlow => break Ended::TooSlow,
                Chunk::Gone => break Ended::Gone,
            }
        };
        if matches!(ended, Ended::Broken(_)) {
            drain(&mut body).await;
        }
        if let Some(cut) = current.take() {
            cut.abort().await;
            parts.push(Part::failed(Status::PROCESSING_FAILURE));
        }
        (parts, ended)
    }

    /// Begins the instance of a part, if it is one and its sender still may.
    fn begin(&self, head: &PartHead) -> Result<Reception, Part> {
        let mut part_transfer_syntax = None;
        if let Some(value) = head.field("content-type") {
            let media_type = MediaType::parse(value).ok().filter(|media_type| media_type.essence == "application/dicom");
            let Some(media_type) = media_type else {
                return Err(Part { other_type: true, ..Part::failed(Status(CANNOT_UNDERSTAND)) });
            };
            part_transfer_syntax = media_type.parameter("transfer-syntax").map(str::to_owned);
        }
        if !self.ingress.still_admits(&self.origin.row, &self.origin.in_force, &self.peer) {
            return Err(Part::failed(Status::NOT_AUTHORIZED));
        }
        let carried = Carried::Stow { peer: self.peer.clone(), url_study: self.url_study.clone(), part_transfer_syntax };
        Ok(Reception::begin_part10(self.ingress.clone(), &self.origin, carried))
    }
}

impl From<crate::reception::Received> for Part {
    fn from(received: crate::reception::Received) -> Self {
        let stored = matches!(received.fate, Fate::Kept { .. });
        Self {
            stored,
            status: received.outcome.status,
            comment: Some(received.outcome.error_comment).filter(|comment| !comment.is_empty()),
            sop_class_uid: received.sop_class_uid,
            sop_instance_uid: received.sop_instance_uid,
            other_type: false,
        }
    }
}

/// Ranges of `Accept`, with their weight; none: everything.
fn accepted(headers: &HeaderMap) -> Vec<(String, f32)> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let range = |text: &str| {
        let mut fields = text.split(';').map(str::trim);
        let essence = fields.next().filter(|essence| !essence.is_empty())?.to_ascii_lowercase();
        let weight = fields.filter_map(|field| field.strip_prefix("q=")?.parse().ok()).next();
        Some((essence, weight.unwrap_or(1.0)))
    };
    values.take(64).filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_tenant_and_study() {
        for (path, expected) in [
            ("/studies", Some(("default", None))),
            ("/studies/1.2.3", Some(("default", Some("1.2.3")))),
            ("/t/t2/studies", Some(("t2", None))),
            ("/t/t2/studies/1.2", Some(("t2", Some("1.2")))),
            ("/studies/", None),
            ("/studies/1.2/series", None),
            ("/studiesx", None),
            ("/t/studies", None),
            ("/dicomweb/studies", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn the_form_of_the_answer_is_what_the_client_prefers() {
        for (accept, expected) in [
            (None, Some(Form::Json)),
            (Some("*/*"), Some(Form::Json)),
            (Some("application/dicom+xml"), Some(Form::Xml)),
            (Some("application/dicom+json;q=0.4, application/dicom+xml;q=0.5"), Some(Form::Xml)),
            (Some("application/dicom+xml;q=0.5, */*"), Some(Form::Json)),
            (Some("application/dicom+json;q=0, */*"), Some(Form::Xml)),
            (Some("text/html"), None),
            (Some("text/html, application/*;q=0.1"), Some(Form::Json)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(answer::form(&headers), expected, "{accept:?}");
        }
    }
}

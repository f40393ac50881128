//! STOW-RS: `POST /dicomweb/studies` and `POST /dicomweb/studies/{study}` (PS3.18 §10.5).
//!
//! Who asks is settled before the first byte of the body is read. Then the body streams part by part through
//! [`crate::archive::receive`]; while one instance arrives, earlier ones are made durable and committed. The whole runs as a task
//! of its own: a client that goes away ends the body, not the work on what came before.
//!
//! # Failure
//! A body that ends early or whose frame breaks stores nothing of the part that was on its way; what was complete before is
//! stored and, if it is anything, told. Nothing stored and nothing readable: 400.
//!
//! # Bounds
//! BD-17 (body, parts, part heads), BD-12 (pace of the body), places for instances on their way. The answer holds one line per
//! part.
//!
//! # Standard
//! PS3.18 §10.5, §I; profile 01 §4 (4, 5), 09 §6, 08 §2 (receipts), 11 §3.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LINK, WARNING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use idr_ihe::soap::MediaType;
use idr_ihe::soap::multipart::{self, Event, Limits, MultipartError, PartHead};
use idr_profile::receipt::ReceiptHash;
use idr_profile::xua::{Code, Transaction};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::enter;
use super::pace::{Chunk, Pace};
use super::problem::{self, Problem};
use super::server::Client;
use crate::archive::receive::{Announced, Cause, Incoming, Outcome, Received, StoreRefused, Storing, Way};
use crate::central::Central;

/// Receipt header of a part, and relation of the receipts (11 §3).
const IDR_RECEIPT: &str = "idr-receipt";
/// Most Warning headers (01 §4.4), and most studies with a Link header (08 §2).
const WARNINGS_MAX: usize = 10;
const LINKS_MAX: usize = 10;
/// `Retry-After` when there is no room (01 §4.5), and when the audit store refuses (07 §8).
const SPACE_RETRY_SECONDS: u32 = 120;
const AUDIT_RETRY_SECONDS: u32 = 60;

/// `POST /dicomweb/studies`.
pub async fn store(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, request: Request) -> Response {
    answer(central, client, request, None).await
}

/// `POST /dicomweb/studies/{study}`.
pub async fn store_in_study(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path(study): Path<String>,
    request: Request,
) -> Response {
    answer(central, client, request, Some(study)).await
}

async fn answer(central: Arc<Central>, client: Client, request: Request, study: Option<String>) -> Response {
    let (head, body) = request.into_parts();
    let request_id = problem::request_id(&head.headers).unwrap_or_default();
    let who = match enter(&central, &client, &head.headers, &head.uri, Transaction::StowRs).await {
        Ok(who) => who,
        Err(response) => return *response,
    };
    let limits = Limits {
        parts: central.config.https.stow_parts_max,
        part_bytes: central.config.https.stow_body_bytes_max,
        total_bytes: central.config.https.stow_body_bytes_max,
        ..Limits::STOW
    };
    let reader = match readable(&head.headers, study.as_deref(), limits) {
        Ok(reader) => reader,
        Err(problem) => return problem.response(&central, &request_id),
    };
    let storing = match Storing::begin(central.clone(), who, study).await {
        Ok(storing) => Arc::new(storing),
        Err(refused) => return refused_as_a_whole(&central, &refused).response(&central, &request_id),
    };
    let task = tokio::spawn(store_all(central.clone(), storing, body, reader, request_id.clone()));
    task.await.unwrap_or_else(|error| {
        central.counters.panics.add(1);
        Problem::internal(&problem::incident(&central, &error)).response(&central, &request_id)
    })
}

/// What the head says of the body, before any of it is read.
fn readable(headers: &HeaderMap, study: Option<&str>, limits: Limits) -> Result<multipart::Reader, Problem> {
    if study.is_some_and(|study| !is_uid(study)) {
        return Err(Problem::bad_request());
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if !accepts_json(headers) {
        return Err(Problem::new("W-06", StatusCode::NOT_ACCEPTABLE));
    }
    let unsupported = || Problem::new("W-13", StatusCode::UNSUPPORTED_MEDIA_TYPE);
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported());
    }
    let media_type = text(CONTENT_TYPE).and_then(|value| MediaType::parse(value).ok()).ok_or_else(unsupported)?;
    let of_dicom = media_type.parameter("type").is_none_or(|of| of.eq_ignore_ascii_case("application/dicom"));
    if media_type.essence != "multipart/related" || !of_dicom {
        return Err(unsupported());
    }
    if text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limits.total_bytes) {
        return Err(too_large(limits));
    }
    let boundary = media_type.parameter("boundary").unwrap_or_default();
    multipart::Reader::new(boundary, limits).map_err(|_| Problem::bad_request().with("field", "content-type"))
}

fn too_large(limits: Limits) -> Problem {
    Problem::new("W-10", StatusCode::PAYLOAD_TOO_LARGE).with("limit", &limits.total_bytes.to_string())
}

/// No `Accept`, or one that `application/dicom+json` fits.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).peekable();
    ranges.peek().is_none()
        || ranges.any(|range| {
            let essence = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            matches!(essence.as_str(), "application/dicom+json" | "application/json" | "application/*" | "*/*")
        })
}

/// Digits and dots, at most 64.
pub(crate) fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn refused_as_a_whole(central: &Central, refused: &StoreRefused) -> Problem {
    match refused {
        StoreRefused::Identity(refusal) => Problem::refused(central, refusal),
        StoreRefused::NoSpace | StoreRefused::NoRules => {
            tracing::error!("{refused}");
            Problem::unavailable(SPACE_RETRY_SECONDS)
        }
        StoreRefused::NoAudit => Problem::unavailable(AUDIT_RETRY_SECONDS),
        StoreRefused::Store(error) => {
            tracing::error!(cause = %error, "the store does not answer");
            Problem::unavailable(SPACE_RETRY_SECONDS)
        }
    }
}

/// How the body ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// With its closing delimiter.
    Whole,
    /// The frame broke, or the body ended early.
    Broken(MultipartError),
    /// The client was too slow (BD-12).
    TooSlow,
    /// The client is gone.
    Gone,
}

async fn store_all(central: Arc<Central>, storing: Arc<Storing>, body: Body, reader: multipart::Reader, request_id: String) -> Response {
    let (mut received, ended) = receive(&storing, body.into_data_stream(), reader).await;
    received.sort_by_key(|received| received.part);
    let response = match &ended {
        Ended::TooSlow => Problem::new("W-07", StatusCode::REQUEST_TIMEOUT).response(&central, &request_id),
        Ended::Broken(MultipartError::TooLarge { .. } | MultipartError::TooManyParts { .. } | MultipartError::PartTooLarge { .. }) => {
            Problem::new("W-10", StatusCode::PAYLOAD_TOO_LARGE).response(&central, &request_id)
        }
        Ended::Broken(error) if !received.iter().any(Received::is_stored) => {
            tracing::info!(cause = %error, "STOW-RS body cannot be read");
            Problem::bad_request().response(&central, &request_id)
        }
        Ended::Whole | Ended::Broken(_) | Ended::Gone => told(&central, &received, &request_id),
    };
    storing.end((ended != Ended::Gone).then(|| response.status().as_u16().to_string())).await;
    response
}

async fn receive(storing: &Arc<Storing>, mut body: BodyDataStream, mut reader: multipart::Reader) -> (Vec<Received>, Ended) {
    let mut received: Vec<Received> = Vec::new();
    let mut finishing: JoinSet<Received> = JoinSet::new();
    let mut current: Option<Incoming> = None;
    let mut pace = Pace::default();
    let ended = 'body: loop {
        loop {
            match reader.poll() {
                Ok(None) => break,
                Ok(Some(Event::Part(head))) => match announced(&head) {
                    Some(announced) => current = Some(storing.open(announced).await),
                    None => received.push(Received::of_other_type(head.number)),
                },
                Ok(Some(Event::Data(bytes))) => {
                    if let Some(incoming) = &mut current {
                        incoming.feed(bytes).await;
                    }
                }
                Ok(Some(Event::PartEnd)) => {
                    if let Some(incoming) = current.take() {
                        finishing.spawn(incoming.finish());
                    }
                }
                Ok(Some(Event::End)) => {}
                Err(error) => break 'body Ended::Broken(error),
            }
            while let Some(finished) = finishing.try_join_next() {
                received.extend(finished.ok());
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
    if let Some(cut) = current.take() {
        received.push(cut.abort().await);
    }
    while let Some(finished) = finishing.join_next().await {
        match finished {
            Ok(finished) => received.push(finished),
            Err(error) => {
                tracing::error!(code = "IDR-B-04", cause = %error, "an instance was lost to a fault; its sender will send it again")
            }
        }
    }
    (received, ended)
}

/// What a part says of its instance; `None`: it is no `application/dicom`.
fn announced(head: &PartHead) -> Option<Announced> {
    let mut transfer_syntax = None;
    if let Some(value) = head.field("content-type") {
        let media_type = MediaType::parse(value).ok().filter(|media_type| media_type.essence == "application/dicom")?;
        transfer_syntax = media_type.parameter("transfer-syntax").map(str::to_owned);
    }
    let acceptance = head.field(IDR_RECEIPT).map(|value| value.strip_prefix("sha256=").and_then(ReceiptHash::parse));
    if acceptance == Some(None) {
        tracing::warn!(part = head.number, "IDR-Receipt is not sha256=<64 hex digits>; the R3 will name no R1");
    }
    Some(Announced { part: head.number, way: Way::Stow { transfer_syntax }, acceptance: acceptance.flatten() })
}

/// The answer to a body that was read (01 §4.5).
fn told(central: &Central, received: &[Received], request_id: &str) -> Response {
    let stored = received.iter().filter(|received| received.is_stored()).count();
    let all = |fits: fn(&Cause) -> bool| {
        !received.is_empty() && received.iter().all(|received| matches!(&received.outcome, Outcome::Failed { cause, .. } if fits(cause)))
    };
    if received.is_empty() {
        return Problem::bad_request().response(central, request_id);
    }
    if all(|cause| *cause == Cause::MediaType) {
        return Problem::new("W-13", StatusCode::UNSUPPORTED_MEDIA_TYPE).response(central, request_id);
    }
    if all(|cause| *cause == Cause::Resources) {
        let seconds = if central.audit.refusing().is_some() { AUDIT_RETRY_SECONDS } else { SPACE_RETRY_SECONDS };
        return Problem::unavailable(seconds).response(central, request_id);
    }
    if all(|cause| matches!(cause, Cause::Identity(_))) {
        // V16 before S3: the lowest step of 04 §11 that refused one of them.
        let refusals = received.iter().filter_map(|received| match &received.outcome {
            Outcome::Failed { cause: Cause::Identity(refusal), .. } => Some(*refusal),
            _ => None,
        });
        let refusal = refusals.min_by_key(|refusal| (refusal.code != Code::Patient, refusal.code));
        if let Some(refusal) = refusal {
            return Problem::refused(central, &refusal).response(central, request_id);
        }
    }
    let warned = received.iter().any(|received| matches!(received.outcome, Outcome::Stored { warning: Some(_), .. }));
    let status = match stored {
        0 => StatusCode::CONFLICT,
        n if n == received.len() && !warned => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    let mut response = Response::new(Body::from(data_set(central, received).to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/dicom+json"));
    for comment in comments(received) {
        if let Ok(value) = HeaderValue::from_str(&format!("299 idr \"{comment}\"")) {
            headers.append(WARNING, value);
        }
    }
    let studies: BTreeSet<&str> = received.iter().filter_map(Received::study_uid).collect();
    if studies.len() <= LINKS_MAX {
        for study in studies {
            let link = format!("</dicomweb/studies/{study}/receipts>; rel=\"urn:x-idr:rel:receipts\"");
            if let Ok(value) = HeaderValue::from_str(&link) {
                headers.append(LINK, value);
            }
        }
    }
    response
}

/// One comment per rule, in the order of the parts.
fn comments(received: &[Received]) -> Vec<&str> {
    let mut comments: Vec<&str> = Vec::new();
    for received in received {
        if let Outcome::Failed { comment: Some(comment), .. } = &received.outcome
            && !comments.contains(&comment.as_str())
        {
            comments.push(comment);
            if comments.len() == WARNINGS_MAX {
                break;
            }
        }
    }
    comments
}

/// Store Instances Response Module (PS3.18 Table I.1-1) in the DICOM JSON model (PS3.18 Annex F).
fn data_set(central: &Central, received: &[Received]) -> Value {
    let (mut stored, mut failed, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for Received { sop_class_uid, sop_instance_uid, outcome, .. } in received {
        let mut item = serde_json::Map::new();
        let mut put = |tag: &str, vr: &str, value: Value| item.insert(tag.to_owned(), json!({ "vr": vr, "Value": [value] }));
        if let Some(class) = sop_class_uid {
            put("00081150", "UI", json!(class));
        }
        if let Some(instance) = sop_instance_uid {
            put("00081155", "UI", json!(instance));
        }
        match (outcome, sop_instance_uid) {
            (Outcome::Stored { study_uid, series_uid, warning }, instance) => {
                let base = &central.config.https.public_url;
                let instance = instance.as_deref().unwrap_or_default();
                put("00081190", "UR", json!(format!("{base}/dicomweb/studies/{study_uid}/series/{series_uid}/instances/{instance}")));
                if let Some(reason) = warning {
                    put("00081196", "US", json!(reason));
                }
                stored.push(Value::Object(item));
            }
            (Outcome::Failed { reason, .. }, Some(_)) => {
                put("00081197", "US", json!(reason));
                failed.push(Value::Object(item));
            }
            (Outcome::Failed { reason, .. }, None) => {
                other.push(json!({ "00081197": { "vr": "US", "Value": [reason] } }));
            }
        }
    }
    // (0008,1190) of the study is of type 2: studies cannot be retrieved as a whole here, so it has no value.
    let mut data_set = json!({ "00081190": { "vr": "UR" } });
    for (tag, items) in [("00081198", failed), ("00081199", stored), ("0008119A", other)] {
        if !items.is_empty() {
            data_set[tag] = json!({ "vr": "SQ", "Value": items });
        }
    }
    data_set
}

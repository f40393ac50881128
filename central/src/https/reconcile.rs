//! `POST /custody/v1/reconcile`: what a site says that it has handed over, compared with what is held (profile 11 §5).
//!
//! Class AU, many patients; own units only, by the same gate as every other read: of a study that is another's, nothing is held.
//! The answer is signed, and the journal of the system keeps it: which studies were not equal, and the signature.
//!
//! # Bounds
//! BD-18 (the question); `LOOKED_AT_MAX` instances looked at for one answer, of which [`HELD_MAX`] are listed. Of what is over
//! that the site asks again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use idr_profile::digest::Digest;
use idr_profile::receipt::reconcile::{Compared, Findings, Found, HELD_MAX, QUESTION_BYTES_MAX, Question, STUDIES_MAX, SignedFindings};
use idr_profile::xua::Transaction;
use jiff::Timestamp;
use serde_json::json;

use super::enter;
use super::problem::{self, Problem};
use super::server::Client;
use super::stow::is_uid;
use crate::assertion::Authenticated;
use crate::audit::{Delivered, Entry, Extent, Note, Outcome, Stream};
use crate::central::{Central, Work};
use crate::consent::gate::{self, Decided, Unanswered};
use crate::consent::log::{self, By, Mention};
use crate::store::instances::{StoredInstance, Which};

/// Instances looked at for one answer; the first study always is.
const LOOKED_AT_MAX: usize = 20_000;
/// Instances of one study: more is beyond any, and a fault of ours.
const STUDY_MAX: usize = 100_000;
/// Longest wait for the question.
const QUESTION_WAIT: Duration = Duration::from_secs(60);
/// `Retry-After` when the store does not answer, seconds.
const STORE_RETRY_SECONDS: u32 = 120;

/// The route.
pub async fn compare(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let request_id = problem::request_id(&head.headers).unwrap_or_default();
    let who = match enter(&central, &client, &head.headers, &head.uri, Transaction::Reconcile).await {
        Ok(who) => who,
        Err(response) => return *response,
    };
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let question = match read(body, length).await {
        Ok(question) => question,
        Err(problem) => return problem.response(&central, &request_id),
    };
    let Some(_place) = central.places.take(Work::Query).await else {
        return Problem::unavailable(STORE_RETRY_SECONDS).response(&central, &request_id);
    };
    let (decided, answered) = match decide(&central, &who, &question).await {
        Ok(decided) => decided,
        Err(Unanswered::Refused(refusal)) => return Problem::refused(&central, &refusal).response(&central, &request_id),
        Err(Unanswered::Store(error)) => {
            tracing::error!(cause = %error, "what is held cannot be read for a reconciliation");
            return Problem::unavailable(STORE_RETRY_SECONDS).response(&central, &request_id);
        }
    };
    let mention = |held: &StoredInstance| Mention { study: Some(held.study_uid.clone()), ..Mention::default() };
    let opening = match decided.open(&central, &who, By::Source, None, mention).await {
        Ok(opening) => opening,
        Err(refusal) => return Problem::refused(&central, &refusal).response(&central, &request_id),
    };
    let mut held: HashMap<&str, BTreeMap<String, Digest>> = HashMap::new();
    for instance in decided.gated.disclosed.iter().map(|disclosed| disclosed.payload()) {
        held.entry(&instance.study_uid).or_default().insert(instance.sop_instance_uid.clone(), instance.digest);
    }
    let (mut room, nothing) = (HELD_MAX, BTreeMap::new());
    let compared = question.studies[..answered].iter();
    let studies =
        compared.map(|listed| Compared::new(listed, held.get(listed.study_uid.as_str()).unwrap_or(&nothing), &mut room)).collect();
    let signed = SignedFindings::sign(
        Findings {
            v: 1,
            kind: "reconcile".to_owned(),
            id: central.new_id(),
            // As it is written: what is read again has the same canonical form.
            at: Timestamp::from_millisecond(central.now().as_millisecond()).unwrap_or_default(),
            holder: central.custody.holder().to_string(),
            studies,
        },
        central.custody.signer(),
    );
    let extent = if answered < question.studies.len() { Extent::Partial } else { Extent::Complete };
    if let Err(error) = note(&central, &who, &signed).await {
        tracing::error!(cause = %error, "the result of a reconciliation cannot be kept");
        log::close(&central, opening, Outcome::Failed, Some(delivered(Extent::None, 0)), "503").await;
        return Problem::unavailable(STORE_RETRY_SECONDS).response(&central, &request_id);
    }
    let body = serde_json::to_string(&signed).expect("texts and whole numbers have a JSON form");
    log::close(&central, opening, Outcome::Permit, Some(delivered(extent, body.len())), "200").await;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads a question within its bounds.
async fn read(body: Body, length: Option<usize>) -> Result<Question, Problem> {
    let too_large = || Problem::new("W-10", StatusCode::PAYLOAD_TOO_LARGE).with("limit", &QUESTION_BYTES_MAX.to_string());
    if length.is_some_and(|length| length > QUESTION_BYTES_MAX) {
        return Err(too_large());
    }
    let body = match tokio::time::timeout(QUESTION_WAIT, to_bytes(body, QUESTION_BYTES_MAX)).await {
        Err(_) => return Err(Problem::new("W-07", StatusCode::REQUEST_TIMEOUT)),
        Ok(Err(_)) => return Err(too_large()),
        Ok(Ok(body)) => body,
    };
    // Members that are unknown or stand twice are refused, and so nothing is deeper than the form.
    let question: Question = serde_json::from_slice(&body).map_err(|_| Problem::bad_request())?;
    let uids: BTreeSet<&str> = question.studies.iter().map(|listed| listed.study_uid.as_str()).collect();
    let distinct = uids.len() == question.studies.len() && uids.iter().all(|uid| is_uid(uid));
    let of_form = question.studies.iter().all(|listed| {
        listed.root.len() == 64
            && listed.root.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            && listed.after.as_ref().is_none_or(|after| after.is_empty() || is_uid(after))
    });
    if (1..=STUDIES_MAX).contains(&question.studies.len()) && distinct && of_form {
        Ok(question)
    } else {
        Err(Problem::bad_request().with("field", "studies"))
    }
}

/// What may be told of the first studies of a question, and how many that are.
async fn decide(central: &Central, who: &Authenticated, question: &Question) -> Result<(Decided<StoredInstance>, usize), Unanswered> {
    let now = central.now();
    let mut tx = central.store.read().await?;
    let state = gate::state(&mut tx, who, now).await?;
    let request = who.request(None);
    if let Err(refused) = gate::check(central, who, &request, &state, now) {
        drop(tx);
        return Err(gate::refused(central, who, refused).await.into());
    }
    let (mut candidates, mut answered) = (Vec::new(), 0);
    for listed in &question.studies {
        if candidates.len() > LOOKED_AT_MAX {
            break;
        }
        candidates.extend(tx.instances(&listed.study_uid, Which::Study, STUDY_MAX).await?);
        answered += 1;
    }
    drop(tx);
    match gate::decide(central, who, request, state, candidates, now) {
        Ok(decided) => Ok((decided, answered)),
        Err(refused) => Err(gate::refused(central, who, refused).await.into()),
    }
}

/// Keeps what was said, before it is said: the studies that are not equal, and the signature over all.
async fn note(central: &Central, who: &Authenticated, signed: &SignedFindings) -> Result<(), crate::audit::AuditError> {
    let unequal: Vec<_> = signed.result.studies.iter().filter(|compared| compared.result != Found::Equal).collect();
    let studies: Vec<_> = unequal
        .iter()
        .map(|compared| json!({"study_uid": compared.study_uid, "result": compared.result, "instances": compared.instances, "root": compared.root}))
        .collect();
    if !studies.is_empty() {
        tracing::warn!(
            organisation = who.tls_organisation,
            studies = studies.len(),
            "a site has handed over other instances than are held"
        );
    }
    let data = json!({
        "id": signed.result.id, "organisation": who.claims().issuer_organisation, "controller": who.claims().controller,
        "register": who.claims().register, "studies": signed.result.studies.len(), "unequal": studies, "jws": signed.jws,
    });
    let note = Note { id: Some(central.new_id()), time: central.now(), event: "reconcile".to_owned(), data };
    central.audit.append(vec![Entry::Note(Stream::System, note)]).await
}

fn delivered(extent: Extent, bytes: usize) -> Delivered {
    Delivered { extent, instances: 0, bytes: bytes as u64 }
}

#[cfg(test)]
mod tests;

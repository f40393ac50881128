//! `GET /dicomweb/studies/{study}/receipts`: R3 and R4 of a study, for the site that stored it (profile 11 §3).
//!
//! Class AU; own units only, by the same gate as every other read; nothing to show, or nothing known, is 404. Key records that
//! the receipts need stand first; they hold no patient data.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Uri};
use idr_profile::receipt::Carried;
use idr_profile::xua::Transaction;

use super::enter;
use super::problem::{self, Problem};
use super::server::Client;
use super::stow::is_uid;
use crate::assertion::Authenticated;
use crate::audit::{Delivered, Extent, Outcome};
use crate::central::{Central, Work};
use crate::consent::gate::{self, Decided, Unanswered};
use crate::consent::log::{self, By, Mention};

/// Receipts of one answer: an R3 and an R4 for each of 100 000 instances is beyond any study; more is a fault of ours.
const RECEIPTS_MAX: usize = 250_000;
/// `Retry-After` when the store does not answer, seconds.
const STORE_RETRY_SECONDS: u32 = 120;

/// The route.
pub async fn list(
    State(central): State<Arc<Central>>,
    Extension(client): Extension<Client>,
    Path(study): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let request_id = problem::request_id(&headers).unwrap_or_default();
    let who = match enter(&central, &client, &headers, &uri, Transaction::Receipts).await {
        Ok(who) => who,
        Err(response) => return *response,
    };
    if !is_uid(&study) {
        return Problem::bad_request().response(&central, &request_id);
    }
    let Some(_place) = central.places.take(Work::Query).await else {
        return Problem::unavailable(STORE_RETRY_SECONDS).response(&central, &request_id);
    };
    let decided = match decide(&central, &who, &study).await {
        Ok(decided) => decided,
        Err(Unanswered::Refused(refusal)) => return Problem::refused(&central, &refusal).response(&central, &request_id),
        Err(Unanswered::Store(error)) => {
            tracing::error!(cause = %error, "receipts cannot be read");
            return Problem::unavailable(STORE_RETRY_SECONDS).response(&central, &request_id);
        }
    };
    let mention = |_: &Carried| Mention { study: Some(study.clone()), ..Mention::default() };
    let opening = match decided.open(&central, &who, By::Unit, None, mention).await {
        Ok(opening) => opening,
        Err(refusal) => return Problem::refused(&central, &refusal).response(&central, &request_id),
    };
    let receipts: Vec<Carried> = decided.gated.disclosed.into_iter().map(|disclosed| disclosed.into_parts().0).collect();
    if receipts.is_empty() {
        log::close(&central, opening, Outcome::Permit, Some(delivered(0, 0)), "404").await;
        return Problem::not_found().response(&central, &request_id);
    }
    let keys = match keys_for(&central, &receipts).await {
        Ok(keys) => keys,
        Err(error) => {
            tracing::error!(cause = %error, "key records cannot be read");
            log::close(&central, opening, Outcome::Failed, Some(delivered(0, 0)), "503").await;
            return Problem::unavailable(STORE_RETRY_SECONDS).response(&central, &request_id);
        }
    };
    let body = keys.iter().chain(&receipts).map(Carried::to_json).collect::<Vec<_>>().join(",");
    let body = format!("[{body}]");
    log::close(&central, opening, Outcome::Permit, Some(delivered(receipts.len(), body.len())), "200").await;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn decide(central: &Central, who: &Authenticated, study: &str) -> Result<Decided<Carried>, Unanswered> {
    let now = central.now();
    let mut tx = central.store.read().await?;
    let state = gate::state(&mut tx, who, now).await?;
    let request = who.request(None);
    if let Err(refused) = gate::check(central, who, &request, &state, now) {
        drop(tx);
        return Err(gate::refused(central, who, refused).await.into());
    }
    let candidates = tx.receipts_of_study(study, RECEIPTS_MAX).await?;
    drop(tx);
    match gate::decide(central, who, request, state, candidates, now) {
        Ok(decided) => Ok(decided),
        Err(refused) => Err(gate::refused(central, who, refused).await.into()),
    }
}

/// The key records of our holder before the youngest receipt (11 §2): a reader that has the first key can follow them.
async fn keys_for(central: &Central, receipts: &[Carried]) -> Result<Vec<Carried>, crate::store::StoreError> {
    let youngest = receipts.iter().map(|carried| carried.receipt().id).max();
    let records = central.store.read().await?.key_records(central.custody.holder()).await?;
    Ok(records.into_iter().filter(|carried| Some(carried.receipt().id) < youngest).collect())
}

fn delivered(receipts: usize, bytes: usize) -> Delivered {
    let extent = if receipts == 0 { Extent::None } else { Extent::Complete };
    Delivered { extent, instances: 0, bytes: bytes as u64 }
}

//! `GET /dicomweb/studies/{study}/receipts`: R3 and R4 of a study, for the site that stored it (profile 11 §3).
//!
//! Class AU; own units only, by the same gate as every other read; nothing to show, or nothing known, is 404. Key records that
//! the receipts need stand first; they hold no patient data.
//!
//! At most `https.receipts_page_max` receipts are in an answer, in the order of their ids. If there are more to show, its header
//! `Link: <…?after=ID>; rel="next"` (RFC 8288) says where they are; what is not shown makes no page and no link.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, HeaderValue, Uri};
use idr_profile::receipt::Carried;
use idr_profile::xua::Transaction;
use uuid::Uuid;

use super::enter;
use super::problem::{self, Problem};
use super::server::Client;
use super::stow::is_uid;
use crate::assertion::Authenticated;
use crate::audit::{Delivered, Extent, Outcome};
use crate::central::{Central, Work};
use crate::consent::gate::{self, Decided, Unanswered};
use crate::consent::log::{self, By, Mention};
use crate::store::StoreError;

/// Receipts that are looked at for one answer: an R3 and an R4 for each of 100 000 instances is beyond any study; more is a
/// fault of ours.
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
    let Ok(after) = after(&uri) else {
        return Problem::bad_request().response(&central, &request_id);
    };
    let (decided, next) = match decide(&central, &who, &study, after, RECEIPTS_MAX).await {
        Ok(page) => page,
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
    if let Some(next) = next {
        let link = format!("<{}?after={next}>; rel=\"next\"", uri.path());
        response.headers_mut().insert(LINK, HeaderValue::from_str(&link).expect("a path and a UUID are ASCII"));
    }
    response
}

/// The receipt behind which the page begins.
fn after(uri: &Uri) -> Result<Option<Uuid>, uuid::Error> {
    let value = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("after="));
    value.map(Uuid::try_parse).transpose()
}

/// A page of what may be told, and the receipt after which there is more of it. Stops after `looked_at_max` receipts: who could
/// be shown none of so many is told of none, as if there were none (05 §8 rule 2); the journal says that some were left out.
async fn decide(
    central: &Central,
    who: &Authenticated,
    study: &str,
    after: Option<Uuid>,
    looked_at_max: usize,
) -> Result<(Decided<Carried>, Option<Uuid>), Unanswered> {
    let now = central.now();
    let mut tx = central.store.read().await?;
    let state = gate::state(&mut tx, who, now).await?;
    let request = who.request(None);
    if let Err(refused) = gate::check(central, who, &request, &state, now) {
        drop(tx);
        return Err(gate::refused(central, who, refused).await.into());
    }
    let page = central.config.https.receipts_page_max;
    let (mut from, mut looked_at) = (after, 0);
    let mut shown: Option<Decided<Carried>> = None;
    // One more than the page, so that a link never tells of what is not shown.
    loop {
        let (candidates, more) = tx.receipts_of_study(study, from, page + 1).await?;
        looked_at += candidates.len();
        let decided = match gate::decide(central, who, request.clone(), state.clone(), candidates, now) {
            Ok(decided) => decided,
            Err(refused) => {
                drop(tx);
                return Err(gate::refused(central, who, refused).await.into());
            }
        };
        let shown = match &mut shown {
            None => shown.insert(decided),
            Some(shown) => {
                shown.gated.disclosed.extend(decided.gated.disclosed);
                shown.gated.omitted.extend(decided.gated.omitted);
                shown
            }
        };
        if shown.gated.disclosed.len() > page || more.is_none() {
            break;
        }
        if looked_at > looked_at_max {
            if !shown.gated.disclosed.is_empty() {
                return Err(StoreError::TooMany { limit: looked_at_max }.into());
            }
            tracing::error!(limit = looked_at_max, study, "a study has more receipts than are looked at; the others were left out");
            break;
        }
        from = more;
    }
    drop(tx);
    let mut shown = shown.expect("one page was decided");
    let disclosed = &mut shown.gated.disclosed;
    let more = disclosed.len() > page;
    disclosed.truncate(page);
    let next = disclosed.last().filter(|_| more).map(|last| last.payload().receipt().id);
    Ok((shown, next))
}

/// The key records of our holder before the youngest receipt (11 §2): a reader that has the first key can follow them.
async fn keys_for(central: &Central, receipts: &[Carried]) -> Result<Vec<Carried>, StoreError> {
    let youngest = receipts.iter().map(|carried| carried.receipt().id).max();
    let records = central.store.read().await?.key_records(central.custody.holder()).await?;
    Ok(records.into_iter().filter(|carried| Some(carried.receipt().id) < youngest).collect())
}

fn delivered(receipts: usize, bytes: usize) -> Delivered {
    let extent = if receipts == 0 { Extent::None } else { Extent::Complete };
    Delivered { extent, instances: 0, bytes: bytes as u64 }
}

#[cfg(test)]
mod tests;

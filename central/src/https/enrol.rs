//! `/enrol/v1` (profile 10 §6.2, §6.3): `nonce` and `join` at a door of their own, which asks for no certificate; `confirm`, `renew`
//! and `nonce` over mutual TLS with everything else.
//!
//! # Bounds
//! BODY_BYTES_MAX of a body, which must come within 30 s; requests by address and altogether before anything is read; each refusal
//! is answered after a fixed time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use http::header::{CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use idr_profile::enrolment::JoinCode;
use idr_profile::enrolment::message::{BODY_BYTES_MAX, Join, Renew};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::problem::{self, Problem};
use super::server::Client;
use super::{guarded, method_not_allowed, not_found};
use crate::central::Central;
use crate::enrolment::{self, Refused};

/// Longest wait for a body.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Largest difference of clocks, seconds.
const CLOCK_SECONDS: i64 = 60;

/// Who is at the other end of a connection without a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// Network address.
    pub address: SocketAddr,
}

/// The routes of the door without certificates, and nothing else.
pub fn door(central: Arc<Central>) -> Router {
    Router::new()
        .route("/enrol/v1/nonce", get(nonce_for_visitor))
        .route("/enrol/v1/join", post(join))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(central.clone(), guarded))
        .layer(middleware::from_fn_with_state(central.clone(), problem::identified))
        .with_state(central)
}

async fn nonce_for_visitor(State(central): State<Arc<Central>>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let given = async {
        enrolment::join::admit(&central, visitor.address.ip())?;
        enrolment::join::nonce(&central)
    };
    let given = given.await.map(|nonce| json!(nonce).to_string());
    answer(&central, &headers, StatusCode::OK, given, &visitor.address).await
}

async fn join(State(central): State<Arc<Central>>, Extension(visitor): Extension<Visitor>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let joined = async {
        enrolment::join::admit(&central, visitor.address.ip())?;
        check_clock(&head.headers, central.now())?;
        let asked: Join = read(body).await?;
        enrolment::join::join(&central, &asked).await
    };
    answer(&central, &head.headers, StatusCode::CREATED, joined.await, &visitor.address).await
}

/// Over mutual TLS.
pub async fn nonce(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, headers: HeaderMap) -> Response {
    let given = async {
        enrolment::join::admit(&central, client.address.ip())?;
        enrolment::join::nonce(&central)
    };
    let given = given.await.map(|nonce| json!(nonce).to_string());
    answer(&central, &headers, StatusCode::OK, given, &client.address).await
}

/// Over mutual TLS, with the certificate that was joined with.
pub async fn confirm(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, headers: HeaderMap) -> Response {
    let confirmed = async {
        enrolment::join::admit(&central, client.address.ip())?;
        let confirmed = enrolment::join::confirm(&central, &client).await?;
        Ok(json!(confirmed).to_string())
    };
    answer(&central, &headers, StatusCode::OK, confirmed.await, &client.address).await
}

/// Over mutual TLS, with a certificate that is in force.
pub async fn renew(State(central): State<Arc<Central>>, Extension(client): Extension<Client>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let renewed = async {
        enrolment::join::admit(&central, client.address.ip())?;
        check_clock(&head.headers, central.now())?;
        let asked: Renew = read(body).await?;
        enrolment::renewal::renew(&central, &client, &asked).await
    };
    answer(&central, &head.headers, StatusCode::OK, renewed.await, &client.address).await
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refused> {
    let malformed = |why: &str| Refused::new(JoinCode::Malformed, why);
    match tokio::time::timeout(BODY_WAIT, to_bytes(body, BODY_BYTES_MAX)).await {
        Err(_) => Err(malformed("the body did not come within 30 s")),
        Ok(Err(_)) => Err(malformed("the body is longer than 65536 bytes, or broke off")),
        // The fault is not repeated: it may quote the token.
        Ok(Ok(body)) => serde_json::from_slice(&body).map_err(|error| malformed(&format!("not its JSON ({:?})", error.classify()))),
    }
}

/// A site says in `Date` what it takes for now. One that does not is not asked.
fn check_clock(headers: &HeaderMap, now: Timestamp) -> Result<(), Refused> {
    let Some(date) = headers.get(DATE) else { return Ok(()) };
    let said = date.to_str().ok().and_then(|text| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok());
    let said = said.ok_or_else(|| Refused::new(JoinCode::Malformed, "Date is no date of RFC 9110"))?;
    let off = (now.as_second() - said.as_second()).abs();
    if off > CLOCK_SECONDS { Err(Refused::new(JoinCode::Clock, format!("its clock differs by {off} s"))) } else { Ok(()) }
}

async fn answer(
    central: &Central,
    headers: &HeaderMap,
    status: StatusCode,
    answer: Result<String, Refused>,
    address: &SocketAddr,
) -> Response {
    match answer {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(refused) => {
            let code = refused.code;
            tracing::warn!(code = format!("IDR-{}", code.id()), peer = %address.ip(), "enrolment refused: {}", refused.why);
            tokio::time::sleep(Duration::from_millis(central.config.enrol.refusal_milliseconds)).await;
            let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let problem = Problem::new(code.id(), status);
            let problem = code.retry_after_seconds().map_or_else(|| problem.clone(), |seconds| problem.clone().retry_after(seconds));
            problem.response(central, &problem::request_id(headers).unwrap_or_default())
        }
    }
}

//! `application/problem+json` (RFC 9457; profile 09 §6.1), and what every answer carries.
//!
//! Title and detail are fixed per code; a body holds no UID, person, host or product name. [`identified`] gives each request
//! its id and each answer `X-Request-Id` and `Cache-Control: no-store`; no answer has a `Server` header.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use idr_profile::xua::Refusal;
use serde_json::json;

use crate::assertion;
use crate::central::Central;

/// Id of a request, in request and answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id; whatever the client sent under that name is overwritten.
pub async fn identified(State(central): State<Arc<Central>>, mut request: Request, next: Next) -> Response {
    let id = HeaderValue::from_str(&format!("urn:uuid:{}", central.random_id())).expect("a UUID is ASCII");
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The id that [`identified`] gave.
pub fn request_id(headers: &HeaderMap) -> Option<String> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned)
}

/// A problem of profile 09 §6.1.
#[derive(Debug, Clone)]
pub struct Problem {
    code: &'static str,
    status: StatusCode,
    retry_after: Option<u32>,
    challenge: Option<String>,
    allow: Option<&'static str>,
    members: Vec<(&'static str, String)>,
}

impl Problem {
    /// `code` is `W-04` …; [`idr_profile::xds::Errors`] has its texts.
    pub fn new(code: &'static str, status: StatusCode) -> Self {
        Self { code, status, retry_after: None, challenge: None, allow: None, members: Vec::new() }
    }

    /// IDR-W-01, 400.
    pub fn bad_request() -> Self {
        Self::new("W-01", StatusCode::BAD_REQUEST)
    }

    /// IDR-W-04, 404: unknown, denied, or no such route.
    pub fn not_found() -> Self {
        Self::new("W-04", StatusCode::NOT_FOUND)
    }

    /// IDR-W-05, 405.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new("W-05", StatusCode::METHOD_NOT_ALLOWED) }
    }

    /// IDR-W-19, 503.
    pub fn unavailable(retry_after_seconds: u32) -> Self {
        Self::new("W-19", StatusCode::SERVICE_UNAVAILABLE).retry_after(retry_after_seconds)
    }

    /// IDR-W-17, 500: the journal has the incident with its cause.
    pub fn internal(incident: &str) -> Self {
        Self::new("W-17", StatusCode::INTERNAL_SERVER_ERROR).with("incident", incident)
    }

    /// The answer of an HTTP route to a refused assertion or gate (04 §12): 400, 401, 403 or 503.
    pub fn refused(central: &Central, refusal: &Refusal) -> Self {
        let answer = assertion::answer(central, refusal);
        let status = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::FORBIDDEN);
        let code = match status.as_u16() {
            400 => "W-01",
            401 => "W-02",
            503 => "W-19",
            _ => "W-03",
        };
        let problem = Self { challenge: answer.challenge, retry_after: answer.retry_after_seconds, ..Self::new(code, status) };
        problem.with("refusal", &answer.code.to_string())
    }

    /// The answer of an HTTP route to a peer without a row, or whose row does not list the transaction: 403.
    pub fn not_admitted() -> Self {
        Self::new("W-03", StatusCode::FORBIDDEN)
    }

    /// Adds `Retry-After`, seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a member: `field`, `limit`, `incident`, `refusal`.
    #[must_use]
    pub fn with(mut self, member: &'static str, value: &str) -> Self {
        self.members.push((member, value.to_owned()));
        self
    }

    /// The answer.
    pub fn response(&self, central: &Central, request_id: &str) -> Response {
        let row = central.errors.problem_json(self.code);
        let code = format!("IDR-{}", self.code);
        let mut body = json!({
            "type": format!("urn:x-idr:problem:{code}"),
            "title": row.map_or("Error", |row| row.title.as_str()),
            "status": self.status.as_u16(),
            "detail": row.map_or("The request cannot be answered.", |row| row.detail.as_str()),
            "instance": request_id,
            "code": code,
        });
        for (member, value) in &self.members {
            body[*member] = json!(value);
        }
        if let Some(seconds) = self.retry_after {
            body["retry_after"] = json!(seconds);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut set = |name, value: Option<String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        };
        set(RETRY_AFTER, self.retry_after.map(|seconds| seconds.to_string()));
        set(WWW_AUTHENTICATE, self.challenge.clone());
        set(ALLOW, self.allow.map(str::to_owned));
        response
    }
}

/// An incident id (09 §7, IDR-B-04): 8 hex digits, in the journal with its cause.
pub fn incident(central: &Central, cause: &dyn std::error::Error) -> String {
    let incident = hex::encode(&central.random_id().into_bytes()[..4]);
    let mut chain = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        chain.push_str(": ");
        chain.push_str(&cause.to_string());
        next = cause.source();
    }
    tracing::error!(code = "IDR-B-04", incident, cause = chain, "internal error");
    incident
}

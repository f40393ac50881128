//! Answers of the SOAP endpoint: envelopes in their frame, faults with their HTTP status (profile 08 §3, 09 §4, §5).

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use idr_ihe::soap::{self, Answer, Fault, FaultCode, Rejected, mtom, write_answer, write_fault};
use idr_ihe::transaction::table::Frame;
use idr_ihe::xml::{Ns, Writer};
use idr_profile::xua::Refusal;

use super::body::BodyError;
use super::receive::ReceiveError;
use crate::assertion;
use crate::central::Central;
use crate::https::problem::Problem;

/// `Retry-After` when there is no room, seconds.
const NO_ROOM_RETRY_SECONDS: u32 = 120;
/// Said of an answer that was given before (08 §4.4).
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What an answer envelope needs.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// `wsa:Action` of the answer.
    pub action: &'a str,
    /// MessageID of the request.
    pub relates_to: &'a str,
    /// Further header blocks.
    pub headers: String,
    /// The Body's child.
    pub body: &'a str,
}

impl Envelope<'_> {
    /// The envelope's text with a MessageID of its own.
    pub fn write(&self, central: &Central) -> String {
        let message_id = format!("urn:uuid:{}", central.random_id());
        let relates_to = Some(self.relates_to);
        write_answer(&Answer { action: self.action, message_id: &message_id, relates_to, headers: &self.headers, body: self.body })
    }
}

/// An answer without documents in the frame of its transaction.
pub fn ok(central: &Central, envelope: &Envelope<'_>, frame: Frame, replayed: bool) -> Response {
    let text = envelope.write(central);
    let mut response = match frame {
        Frame::Plain => plain(StatusCode::OK, text),
        Frame::Mtom => {
            let writer = writer(central);
            let body = writer.root(&text) + &writer.closing();
            with_type(StatusCode::OK, &writer.content_type(), Body::from(body))
        }
    };
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// An MTOM writer with a boundary of 32 random hex digits.
pub fn writer(central: &Central) -> mtom::Writer {
    mtom::Writer::new(central.random_id().simple().to_string()).expect("hex digits are a boundary")
}

/// A response with a Content-Type.
pub fn with_type(status: StatusCode, content_type: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

fn plain(status: StatusCode, text: String) -> Response {
    with_type(status, "application/soap+xml; charset=UTF-8", Body::from(text))
}

/// One `idr:Receipt` header block per receipt (11 §3).
pub fn receipts(carried: &[String]) -> String {
    use base64::Engine as _;
    carried
        .iter()
        .map(|carried| {
            let mut writer = Writer::new();
            let text = base64::engine::general_purpose::STANDARD.encode(carried);
            writer.start(Ns::Custody, "Receipt").declare(Ns::Custody).text(&text).end();
            writer.finish()
        })
        .collect()
}

fn fault(central: &Central, fault: &Fault, relates_to: Option<&str>, detail: bool, status: u16, retry_after: Option<u32>) -> Response {
    let message_id = format!("urn:uuid:{}", central.random_id());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(status, write_fault(fault, &message_id, relates_to, detail));
    if let Some(value) = retry_after.and_then(|seconds| HeaderValue::from_str(&seconds.to_string()).ok()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// The fault of a refused assertion or gate (04 §12).
pub fn refused(central: &Central, refusal: &Refusal, relates_to: Option<&str>) -> Response {
    let answer = assertion::answer(central, refusal);
    let mut told = Fault::new(if answer.receiver { FaultCode::Receiver } else { FaultCode::Sender }, idr_profile::xua::Answer::REASON);
    if let Some(subcode) = &answer.subcode {
        told = told.subcode(Ns::Security, subcode.strip_prefix("wsse:").unwrap_or(subcode));
    }
    let told = told.refusal(answer.code.to_string());
    fault(central, &told, relates_to, answer.detail, answer.soap_http_status, answer.retry_after_seconds)
}

/// The answer to a message that breaks a rule of 08 §3: a fault, or an HTTP status where that says all.
pub fn rejected(central: &Central, rejected: &Rejected, request_id: &str) -> Response {
    let refusal = &rejected.refusal;
    let Some(told) = refusal.fault() else {
        let problem = match refusal.http_status() {
            415 => Problem::new("W-13", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            _ => Problem::new("W-10", StatusCode::PAYLOAD_TOO_LARGE),
        };
        return problem.response(central, request_id);
    };
    // Whether the detail is told is one switch for all faults (04 §12).
    let detail = central.xua.answer(&Refusal::stranger()).detail;
    let retry_after = matches!(refusal, soap::Refusal::Unavailable).then_some(120);
    fault(central, &told, rejected.relates_to.as_deref(), detail, refusal.http_status(), retry_after)
}

/// The answer to a body that could not be read, or whose documents could not be staged.
pub fn unreceived(central: &Central, error: ReceiveError, relates_to: Option<&str>, request_id: &str) -> Response {
    let problem = match error {
        ReceiveError::Soap(refusal) => {
            return rejected(central, &Rejected { refusal, relates_to: relates_to.map(str::to_owned) }, request_id);
        }
        ReceiveError::Body(BodyError::TooLarge { .. }) => Problem::new("W-10", StatusCode::PAYLOAD_TOO_LARGE),
        ReceiveError::Body(BodyError::TooSlow) => Problem::new("W-07", StatusCode::REQUEST_TIMEOUT),
        ReceiveError::Body(BodyError::Coding) => Problem::new("W-13", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ReceiveError::Body(BodyError::Damaged | BodyError::Broken) => Problem::bad_request(),
        ReceiveError::NoRoom => Problem::unavailable(NO_ROOM_RETRY_SECONDS),
        ReceiveError::Objects(error) => {
            let incident = crate::https::problem::incident(central, &error);
            let refusal = soap::Refusal::Internal { incident };
            return rejected(central, &Rejected { refusal, relates_to: relates_to.map(str::to_owned) }, request_id);
        }
    };
    problem.response(central, request_id)
}

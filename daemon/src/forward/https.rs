//! The centre over HTTPS: STOW-RS, receipts, RAD-68 and ITI-18 by reqwest over our TLS profile.
//!
//! Redirects are never followed. A body streams from the spool; if its source fails, the request ends without its last
//! boundary, so that the centre stores nothing of what is incomplete.
//!
//! # Bounds
//! Those of `[limits]` of the outcome table: bytes of an answer, connect and handshake together, progress of a body either way; head of the
//! answer `response_seconds`, and its body as long again (profile 03 §2.7): with STOW-RS from the last byte of the request on,
//! and how long that takes is not bounded, since a large object on a slow line arrives too; with SOAP from the beginning.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use futures::StreamExt as _;
use idr_ihe::ebxml;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry};
use idr_ihe::soap::{self, Envelope, FaultCode, Framing, HeaderName, mtom, multipart};
use idr_ihe::transaction::table::action;
use idr_ihe::transaction::{iti_18, registry_response};
use idr_ihe::xml::Limits;
use idr_profile::outcome::{Event, InstanceResult, Limits as OutcomeLimits, Severity};
use idr_profile::receipt::Carried;
use jiff::{SignedDuration, Timestamp};
use rand::RngCore as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, LINK, RETRY_AFTER, WARNING};
use reqwest::{Body, Client, Response};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::peer::{Batch, Failure, Heard, Peer, ReceiptsBody, Registered, Registration, SoapBody, StoreBody, Withdrawal};
use super::unread;
use crate::config::Centre;
use crate::spool::SpoolError;

/// Chunks of a request body that wait for the network.
const CHUNKS_AHEAD: usize = 4;

/// The centre over HTTPS.
pub struct HttpsPeer {
    client: Client,
    dicomweb: String,
    gateway: String,
    custody: String,
    response: Duration,
    bounds: Bounds,
    now: fn() -> Timestamp,
}

/// Waits and sizes of profile 03 §2.7.
#[derive(Clone, Copy)]
struct Bounds {
    /// TCP connect and TLS handshake: the client counts them together.
    connect: Duration,
    /// No progress of a body.
    progress: Duration,
    /// Largest answer, bytes (03 H-CUT).
    answer_bytes: usize,
}

impl From<&OutcomeLimits> for Bounds {
    fn from(limits: &OutcomeLimits) -> Self {
        Self {
            connect: Duration::from_secs(limits.connect_s.saturating_add(limits.tls_handshake_s)),
            progress: Duration::from_secs(limits.no_progress_s),
            answer_bytes: usize::try_from(limits.response_body_bytes).unwrap_or(usize::MAX),
        }
    }
}

/// Head of an answer, as far as it is used.
struct Head {
    status: u16,
    retry_after: Option<String>,
    content_type: Option<String>,
    ahead: Option<SignedDuration>,
}

impl HttpsPeer {
    /// A client with its own certificate and the centre's anchors. `now` is what `Date` is compared with.
    ///
    /// # Errors
    /// What keeps the client from being built.
    pub fn new(centre: &Centre, tls: rustls::ClientConfig, now: fn() -> Timestamp, limits: &OutcomeLimits) -> anyhow::Result<Self> {
        let bounds = Bounds::from(limits);
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(bounds.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            client,
            dicomweb: format!("{}{}", centre.url, centre.dicomweb),
            custody: format!("{}/custody/v1/reconcile", centre.url),
            gateway: format!("{}{}", centre.url, centre.gateway),
            response: Duration::from_secs(centre.response_seconds),
            bounds,
            now,
        })
    }

    fn head_of(&self, response: &Response) -> Head {
        let text = |headers: &HeaderMap, name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let headers = response.headers();
        Head {
            status: response.status().as_u16(),
            retry_after: text(headers, RETRY_AFTER),
            content_type: text(headers, CONTENT_TYPE),
            ahead: text(headers, DATE).and_then(|date| ahead(&date, (self.now)())),
        }
    }

    /// Address of the gateway, `wsa:To`.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    async fn soap(&self, action: &'static str, message_id: &str, body: &str, security: &str, document: Option<&Bytes>) -> Heard<SoapBody> {
        let envelope = soap::write_request(&soap::Request { action, message_id, to: &self.gateway, security, body });
        let request = match document {
            None => self.client.post(&self.gateway).header(CONTENT_TYPE, "application/soap+xml; charset=utf-8").body(envelope),
            Some(document) => {
                let Ok(writer) = mtom::Writer::new(boundary()) else { return Heard::Nothing(Event::Unknown.into()) };
                let mut message = writer.root(&envelope).into_bytes();
                message.extend_from_slice(writer.document(1, "application/dicom").as_bytes());
                message.extend_from_slice(document);
                message.extend_from_slice(writer.closing().as_bytes());
                self.client.post(&self.gateway).header(CONTENT_TYPE, writer.content_type()).body(message)
            }
        };
        let response = match tokio::time::timeout(self.response, request.send()).await {
            Err(_) => return Heard::Nothing(Event::HttpTimeout.into()),
            Ok(Err(error)) => return Heard::Nothing(failure_of(&error)),
            Ok(Ok(response)) => response,
        };
        let Head { status, retry_after, content_type, ahead } = self.head_of(&response);
        let body = match read_body(response, self.response, self.bounds).await {
            Err(event) => return Heard::Nothing(event.into()),
            Ok(body) => {
                let expected = if action == action::ITI_18 { Expected::Query } else { Expected::Registry };
                soap_body(content_type.as_deref(), &body, message_id, expected)
            }
        };
        Heard::Answer { status, retry_after, ahead, body }
    }
}

#[async_trait]
impl Peer for HttpsPeer {
    async fn store(&self, batch: &Batch) -> Heard<StoreBody> {
        let boundary = boundary();
        let Ok(parts) = multipart::Writer::new(boundary.clone()) else { return Heard::Nothing(Event::Unknown.into()) };
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
        let mut feeding = tokio::spawn(feed(batch.clone(), parts, sender, self.bounds.progress));
        let request = self
            .client
            .post(format!("{}/studies/{}", self.dicomweb, batch.study_uid))
            .header(AUTHORIZATION, &batch.authorization)
            .header(ACCEPT, "application/dicom+json")
            .header(CONTENT_TYPE, format!("multipart/related; type=\"application/dicom\"; boundary=\"{boundary}\""))
            .body(Body::wrap_stream(ReceiverStream::new(receiver)));
        let sending = request.send();
        tokio::pin!(sending);
        // A body that did not go out to its end is no request, whatever the peer then says.
        let sent = tokio::select! {
            sent = &mut sending => {
                if sent.is_ok() {
                    // An answer before the last byte: nobody reads on.
                    feeding.abort();
                }
                if let Some(event) = unfinished(feeding.await) {
                    return Heard::Nothing(event.into());
                }
                sent
            }
            fed = &mut feeding => {
                if let Some(event) = unfinished(fed) {
                    return Heard::Nothing(event.into());
                }
                match tokio::time::timeout(self.response, &mut sending).await {
                    Ok(sent) => sent,
                    Err(_) => return Heard::Nothing(Event::HttpTimeout.into()),
                }
            }
        };
        let response = match sent {
            Err(error) => return Heard::Nothing(failure_of(&error)),
            Ok(response) => response,
        };
        let Head { status, retry_after, content_type, ahead } = self.head_of(&response);
        let rules = rules_named(response.headers());
        let body = match read_body(response, self.response, self.bounds).await {
            Err(event) => return Heard::Nothing(event.into()),
            Ok(body) => body,
        };
        let essence = content_type.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = match essence.as_str() {
            "application/dicom+json" => results(&body, batch).map_or(StoreBody::None, |results| StoreBody::Reasoned(results, rules)),
            "" => StoreBody::None,
            _ => StoreBody::OtherType,
        };
        Heard::Answer { status, retry_after, ahead, body }
    }

    async fn receipts(&self, study_uid: &str, after: Option<Uuid>, authorization: &str) -> Heard<ReceiptsBody> {
        let page = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let request = self.client.get(format!("{}/studies/{study_uid}/receipts{page}", self.dicomweb)).header(AUTHORIZATION, authorization);
        let response = match tokio::time::timeout(self.response, request.header(ACCEPT, "application/json").send()).await {
            Err(_) => return Heard::Nothing(Event::HttpTimeout.into()),
            Ok(Err(error)) => return Heard::Nothing(failure_of(&error)),
            Ok(Ok(response)) => response,
        };
        let Head { status, retry_after, ahead, .. } = self.head_of(&response);
        let next = next_page(response.headers());
        let body = match read_body(response, self.response, self.bounds).await {
            Err(event) => return Heard::Nothing(event.into()),
            Ok(body) => body,
        };
        let receipts = serde_json::from_slice::<Vec<Value>>(&body)
            .ok()
            .and_then(|values| values.iter().map(|value| Carried::from_value(value).ok()).collect::<Option<Vec<_>>>());
        let body = receipts.zip(next).map_or(ReceiptsBody::None, |(receipts, next)| ReceiptsBody::Some { receipts, next });
        Heard::Answer { status, retry_after, ahead, body }
    }

    async fn register(&self, registration: &Registration) -> Heard<SoapBody> {
        let Registration { message_id, body, document, security } = registration;
        self.soap(action::ITI_41, message_id, body, security, Some(document)).await
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Heard<SoapBody> {
        let Withdrawal { message_id, body, security } = withdrawal;
        self.soap(action::ITI_57, message_id, body, security, None).await
    }

    async fn query(&self, message_id: &str, body: &str, security: &str) -> Heard<SoapBody> {
        self.soap(action::ITI_18, message_id, body, security, None).await
    }

    async fn reconcile(&self, question: Vec<u8>, authorization: &str) -> Heard<Vec<u8>> {
        let request = self.client.post(&self.custody).header(AUTHORIZATION, authorization).header(CONTENT_TYPE, "application/json");
        let response = match tokio::time::timeout(self.response, request.header(ACCEPT, "application/json").body(question).send()).await {
            Err(_) => return Heard::Nothing(Event::HttpTimeout.into()),
            Ok(Err(error)) => return Heard::Nothing(failure_of(&error)),
            Ok(Ok(response)) => response,
        };
        let Head { status, retry_after, ahead, .. } = self.head_of(&response);
        match read_body(response, self.response, self.bounds).await {
            Err(event) => Heard::Nothing(event.into()),
            Ok(body) => Heard::Answer { status, retry_after, ahead, body },
        }
    }

    async fn clock(&self) -> Option<SignedDuration> {
        // Any answer has a date, also the one that there is nothing here.
        let asking = self.client.head(format!("{}/", self.dicomweb)).send();
        let response = tokio::time::timeout(self.bounds.connect + self.bounds.progress, asking).await.ok()?.ok()?;
        self.head_of(&response).ahead
    }
}

/// Where the next page begins: `Link: <…?after=ID>; rel="next"` (RFC 8288). Outer `None`: there is one and it cannot be read, so
/// that this page would be taken for the last. Only the id is used; we do not go where an answer sends us.
fn next_page(headers: &HeaderMap) -> Option<Option<Uuid>> {
    let mut next = None;
    for link in headers.get_all(LINK) {
        for link in link.to_str().ok()?.split(',') {
            match link.trim().strip_prefix('<').and_then(|link| link.split_once('>')) {
                Some((target, parameters)) if parameters.split(';').any(is_next) => {
                    let (_, after) = target.split_once("?after=")?;
                    next = Some(Uuid::try_parse(after).ok()?);
                }
                None if link.split(';').any(is_next) => return None,
                _ => {}
            }
        }
    }
    Some(next)
}

/// `rel=next`, whatever the case and however it is quoted, alone or among other relations.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// Why a body did not go out to its end, if the reason is not that the peer took no more of it.
fn unfinished(fed: Result<Result<(), Event>, JoinError>) -> Option<Event> {
    match fed {
        Ok(Ok(()) | Err(Event::ConnectionReset)) => None,
        Ok(Err(event)) => Some(event),
        Err(ended) => (!ended.is_cancelled()).then_some(Event::TaskFault),
    }
}

/// Writes the multipart body of a batch, part by part, as fast as the network takes it.
async fn feed(batch: Batch, parts: multipart::Writer, sender: mpsc::Sender<io::Result<Bytes>>, progress: Duration) -> Result<(), Event> {
    let push = async |bytes: Bytes| match tokio::time::timeout(progress, sender.send(Ok(bytes))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Event::ConnectionReset),
        Err(_) => Err(Event::HttpTimeout),
    };
    let fail = async |event: Event| {
        // The receiver sees an error, not an end: the body stays without its closing boundary.
        let _ = sender.send(Err(io::Error::other("the instance could not be read"))).await;
        Err(event)
    };
    for (at, entry) in batch.entries.iter().enumerate() {
        let mut stored = match batch.source.open(entry).await {
            Ok(stored) => stored,
            Err(error) => return fail(unread(&error)).await,
        };
        let receipt = format!("sha256={}", entry.r1);
        let transfer_syntax = format!("application/dicom; transfer-syntax={}", entry.record.announced.transfer_syntax_uid);
        let head = parts.head(at == 0, &[("Content-Type", &transfer_syntax), ("IDR-Receipt", &receipt)]);
        push(Bytes::from(head)).await?;
        push(stored.head()).await?;
        loop {
            match stored.next().await {
                Ok(Some(bytes)) => push(bytes).await?,
                Ok(None) => break,
                Err(SpoolError::Damaged { .. }) => return fail(Event::DigestDiffers).await,
                Err(error) => return fail(unread(&error)).await,
            }
        }
    }
    push(Bytes::from(parts.closing())).await
}

fn boundary() -> String {
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    hex::encode(random)
}

/// How far the clock behind a `Date` (RFC 9110 §6.6.1) is ahead. It has whole seconds, cut: half a second is the fair guess.
fn ahead(date: &str, now: Timestamp) -> Option<SignedDuration> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok()?;
    Some(date.duration_since(now).saturating_add(SignedDuration::from_millis(500)))
}

/// The body of an answer, which comes `within` this, all in all.
async fn read_body(response: Response, within: Duration, bounds: Bounds) -> Result<Vec<u8>, Event> {
    tokio::time::timeout(within, read_chunks(response, bounds)).await.map_err(|_| Event::HttpTimeout)?
}

async fn read_chunks(response: Response, bounds: Bounds) -> Result<Vec<u8>, Event> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = tokio::time::timeout(bounds.progress, stream.next()).await.map_err(|_| Event::HttpTimeout)? {
        let chunk = chunk.map_err(|error| if error.is_timeout() { Event::HttpTimeout } else { Event::HttpCut })?;
        if body.len() + chunk.len() > bounds.answer_bytes {
            return Err(Event::HttpCut);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The row of what went wrong before there was an answer.
fn failure_of(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_failure(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>()
            && (is_tls(io) || io.raw_os_error().is_some() || io.kind() != io::ErrorKind::Other)
        {
            return failure_of_connection(io);
        }
        let text = error.to_string();
        if text.contains("dns error") || text.contains("failed to lookup address") {
            return if text.contains("Name or service not known") { Event::NameUnknown.into() } else { Event::NameFailure.into() };
        }
        cause = error.source();
    }
    match error {
        error if error.is_timeout() && error.is_connect() => Event::ConnectTimeout,
        error if error.is_timeout() => Event::HttpTimeout,
        error if error.is_connect() => Event::SocketError,
        _ => Event::ConnectionReset,
    }
    .into()
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The row of a connection that failed, with TLS in it or without.
pub(super) fn failure_of_connection(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => tls_failure(tls),
        None => Event::from_socket_error(error.kind(), error.raw_os_error()).into(),
    }
}

fn tls_failure(error: &rustls::Error) -> Failure {
    use rustls::{CertificateError as C, Error as E};
    let event = match error {
        E::AlertReceived(alert) => return Failure::TlsAlert(u8::from(*alert)),
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }) => {
            Event::CertificateExpired
        }
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => Event::CertificateName,
        E::InvalidCertificate(C::Revoked) => Event::CertificateRevoked,
        // The one fault of its own that our verifier adds (`idr_profile::tls::client`).
        E::InvalidCertificate(C::ApplicationVerificationFailure) => Event::CertificatePin,
        E::InvalidCertificate(C::UnknownRevocationStatus | C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. }) => {
            Event::RevocationUnknown
        }
        E::InvalidCertificate(_) => Event::CertificateChain,
        _ => Event::ConnectionReset,
    };
    event.into()
}

/// `env:Code/env:Value` as the table of faults names it; `None` for a code that is none of SOAP 1.2.
fn code_text(code: FaultCode) -> Option<String> {
    let text = match code {
        FaultCode::VersionMismatch => "VersionMismatch",
        FaultCode::MustUnderstand => "MustUnderstand",
        FaultCode::Sender => "Sender",
        FaultCode::Receiver => "Receiver",
        FaultCode::Unknown => return None,
    };
    Some(text.to_owned())
}

/// What a STOW-RS answer says about each instance that was sent (PS3.18 §10.5.3, I.2). `None`: it cannot be read, or says two
/// things of one instance in the same sequence.
fn results(body: &[u8], batch: &Batch) -> Option<Vec<InstanceResult>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let data_sets: Vec<&Value> = match &value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![&value],
        _ => return None,
    };
    let mut stored: HashMap<&str, (&str, Option<u16>)> = HashMap::new();
    let mut failed: HashMap<&str, Option<u16>> = HashMap::new();
    for data_set in data_sets {
        for item in data_set["00081199"]["Value"].as_array().into_iter().flatten() {
            if let Some(instance) = item["00081155"]["Value"][0].as_str() {
                let class = item["00081150"]["Value"][0].as_str().unwrap_or_default();
                if stored.insert(instance, (class, reason(item, "00081196")?)).is_some() {
                    return None;
                }
            }
        }
        for item in data_set["00081198"]["Value"].as_array().into_iter().flatten() {
            if let Some(instance) = item["00081155"]["Value"][0].as_str()
                && failed.insert(instance, reason(item, "00081197")?).is_some()
            {
                return None;
            }
        }
    }
    let result = |class: &str, instance: &str| match (stored.get(instance), failed.get(instance)) {
        (Some(_), Some(_)) => InstanceResult::Both,
        (Some((other, _)), None) if *other != class => InstanceResult::OtherIdentity,
        (Some((_, None)), None) => InstanceResult::Stored,
        (Some((_, Some(reason))), None) => InstanceResult::Warned(*reason),
        (None, Some(Some(reason))) => InstanceResult::Failed(*reason),
        (None, Some(None)) => InstanceResult::FailedWithoutReason,
        (None, None) => InstanceResult::Missing,
    };
    Some(batch.entries.iter().map(|e| result(&e.record.announced.sop_class_uid, &e.record.announced.sop_instance_uid)).collect())
}

/// Rules that the centre names, `Warning: 299 idr "D307 …"` (profile 08 §2), as the last three digits of their statuses.
fn rules_named(headers: &HeaderMap) -> Vec<u16> {
    let of = |text: &str| {
        let digits = text.split_once("\"D")?.1.get(..3)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| u16::from_str_radix(digits, 16).ok())?
    };
    headers.get_all(WARNING).iter().filter_map(|value| value.to_str().ok().and_then(of)).collect()
}

/// Warning or Failure Reason of an item: `Some(None)` without one; `None`: there is one, and it is no status.
fn reason(item: &Value, tag: &str) -> Option<Option<u16>> {
    match &item[tag]["Value"] {
        Value::Null => Some(None),
        Value::Array(values) if values.is_empty() => Some(None),
        Value::Array(values) => values[0].as_u64().and_then(|reason| reason.try_into().ok()).map(Some),
        _ => None,
    }
}

/// What the Body of an answer holds that is no fault. Another one is no answer to the request.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// RegistryResponse.
    Registry,
    /// AdhocQueryResponse.
    Query,
}

fn soap_body(content_type: Option<&str>, body: &[u8], message_id: &str, expected: Expected) -> SoapBody {
    let root = match Framing::of(content_type) {
        Err(_) => return SoapBody::None { other_type: content_type.is_some() && !body.is_empty() },
        Ok(Framing::Plain) => body.to_vec(),
        Ok(Framing::Mtom { boundary, start }) => match root_of(&boundary, start, body) {
            Some(root) => root,
            None => return SoapBody::Unusable(Event::PartsMissing),
        },
    };
    let Ok(envelope) = Envelope::read(&root, Limits::default()) else { return SoapBody::Unusable(Event::NotParsable) };
    let fault = match envelope.fault() {
        Err(_) => return SoapBody::Unusable(Event::NotParsable),
        Ok(fault) => fault,
    };
    if let Some(fault) = fault {
        return SoapBody::Fault {
            code: code_text(fault.code),
            subcodes: fault.subcodes.iter().map(|(_, local)| local.clone()).collect(),
            refusal: fault.refusal,
        };
    }
    if envelope.value(HeaderName::RelatesTo).map(str::trim) != Some(message_id) {
        return SoapBody::Unusable(Event::AnswerOfAnother);
    }
    let read = match expected {
        Expected::Registry => registry_response::read(&envelope).ok().map(|response| (response, Vec::new())),
        Expected::Query => {
            iti_18::read_response(&envelope).ok().and_then(|response| Some((response.registry, registered(&response.objects)?)))
        }
    };
    let Some((registry, entries)) = read else { return SoapBody::Unusable(Event::NotParsable) };
    let errors = registry.errors.iter().map(|error| {
        let severity = match error.severity {
            registry_response::Severity::Warning => Severity::Warning,
            registry_response::Severity::Error => Severity::Error,
        };
        (error.error_code.clone(), severity, error.code_context.clone())
    });
    SoapBody::Response {
        status: registry.status.urn().to_owned(),
        errors: errors.collect(),
        receipt: receipt(&envelope).map(Box::new),
        entries,
    }
}

fn root_of(boundary: &str, start: Option<String>, body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = mtom::Reader::new(boundary, start, multipart::Limits::MTOM).ok()?;
    reader.feed(body).ok()?;
    let mut root = None;
    while let Some(event) = reader.poll().ok()? {
        match event {
            mtom::Event::Root(bytes) => root = Some(bytes),
            mtom::Event::End => return root,
            _ => {}
        }
    }
    None
}

/// Header block `idr:Receipt`: base64 of the carried JSON (profile 11 §3).
fn receipt(envelope: &Envelope<'_>) -> Option<Carried> {
    let json = base64::engine::general_purpose::STANDARD.decode(envelope.value(HeaderName::Receipt)?).ok()?;
    Carried::parse(std::str::from_utf8(&json).ok()?).ok()
}

/// The entries of an answer; `None` if one of them, or what it is, cannot be read: it may be the one that is looked for.
fn registered(objects: &ebxml::rim::RegistryObjectList) -> Option<Vec<Registered>> {
    let decoded = ebxml::decode(objects);
    let entries = decoded.submission.entries;
    let lost = decoded.problems.iter().any(|problem| problem.omitted) || entries.is_empty() && !objects.objects.is_empty();
    let registered = |entry: &DocumentEntry| {
        Some(Registered {
            entry_uuid: entry.entry_uuid.clone(),
            unique_id: entry.unique_id.clone(),
            approved: entry.status? == AvailabilityStatus::Approved,
            hash: entry.hash.clone(),
            manifest: entry.format_code.as_ref()?.code == idr_ihe::manifest::SOP_CLASS_UID,
        })
    };
    if lost { None } else { entries.iter().map(registered).collect() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::forward::peer::Source;
    use crate::spool::index::IndexError;
    use crate::spool::{Entry, Spool as _, SpoolId, Stored, sample};

    fn now() -> Timestamp {
        "2026-01-15T06:00:00Z".parse().expect("valid")
    }

    /// A peer of a server that reads one request and says this; `None`: it says nothing and keeps the connection.
    async fn peer(answer: Option<&'static str>) -> HttpsPeer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = [0; 65_536];
            let _ = stream.read(&mut head).await;
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.expect("written"),
                None => std::future::pending().await,
            }
        });
        peer_at(&url)
    }

    fn peer_at(url: &str) -> HttpsPeer {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("known");
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        HttpsPeer {
            client: Client::builder().tls_backend_preconfigured(tls).no_proxy().build().expect("a client"),
            dicomweb: format!("{url}/dicomweb"),
            custody: format!("{url}/custody/v1/reconcile"),
            gateway: format!("{url}/ihe/gateway"),
            response: Duration::from_millis(300),
            bounds: Bounds::from(&idr_profile::outcome::Outcomes::base().limits),
            now,
        }
    }

    fn nothing<T>(heard: Heard<T>) -> Option<Failure> {
        match heard {
            Heard::Nothing(failure) => Some(failure),
            Heard::Answer { .. } => None,
        }
    }

    #[tokio::test]
    async fn the_date_of_an_answer_says_how_far_the_clock_is_ahead() {
        let head = "HTTP/1.1 404 Not Found\r\nDate: Thu, 15 Jan 2026 06:01:01 GMT\r\nContent-Length: 0\r\n\r\n";
        let ahead = peer(Some(head)).await.clock().await;
        assert_eq!(ahead, Some(SignedDuration::from_millis(61_500)));
        for head in ["HTTP/1.1 404 Not Found\r\nDate: soon\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
            assert_eq!(peer(Some(head)).await.clock().await, None);
        }
    }

    #[tokio::test]
    async fn an_answer_that_ends_in_its_body_or_never_comes_is_no_answer() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[{";
        assert_eq!(nothing(peer(Some(cut)).await.receipts("1.2", None, "Bearer x").await), Some(Event::HttpCut.into()));
        let cut = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 100\r\n\r\n<env";
        assert_eq!(nothing(peer(Some(cut)).await.query("urn:uuid:1", "<a/>", "").await), Some(Event::HttpCut.into()));
        assert_eq!(nothing(peer(None).await.receipts("1.2", None, "Bearer x").await), Some(Event::HttpTimeout.into()));
        assert_eq!(nothing(peer(None).await.query("urn:uuid:1", "<a/>", "").await), Some(Event::HttpTimeout.into()));
    }

    #[tokio::test]
    async fn a_status_comes_with_its_retry_after() {
        let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n";
        let heard = peer(Some(busy)).await.receipts("1.2", None, "Bearer x").await;
        assert!(matches!(heard, Heard::Answer { status: 503, retry_after: Some(wait), .. } if wait == "120"));
    }

    #[tokio::test]
    async fn an_answer_that_comes_drop_by_drop_is_not_waited_for_without_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 65_536]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let asking = peer_at(&url);
        let heard = tokio::time::timeout(Duration::from_secs(20), asking.receipts("1.2", None, "Bearer x")).await.expect("it ends");
        assert_eq!(nothing(heard), Some(Event::HttpTimeout.into()));
    }

    #[tokio::test]
    async fn a_page_of_receipts_says_where_the_next_begins() {
        let id = "01990000-0000-7000-8000-000000000001";
        let next = async |link: String| {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{link}Content-Length: 2\r\n\r\n[]");
            match peer(Some(answer.leak())).await.receipts("1.2", None, "Bearer x").await {
                Heard::Answer { body: ReceiptsBody::Some { next, .. }, .. } => Some(next),
                _ => None,
            }
        };
        assert_eq!(next(String::new()).await, Some(None));
        let other = "Link: </dicomweb/studies/1.2>; rel=\"up\"\r\n";
        assert_eq!(next(other.to_owned()).await, Some(None));
        let link = format!("{other}Link: </dicomweb/studies/1.2/receipts?after={id}>; rel=\"next\"\r\n");
        assert_eq!(next(link).await, Some(Some(Uuid::try_parse(id).expect("valid"))));
        for relation in ["rel=next", "title=\"x\";REL=\"last Next\"", " rel = \"next\""] {
            let link = format!("Link: </>; rel=up, </receipts?after={id}>;{relation}\r\n");
            assert_eq!(next(link).await, Some(Some(Uuid::try_parse(id).expect("valid"))), "{relation}");
        }
        for unreadable in ["</receipts>", "</receipts?after=1>", "receipts?after="] {
            assert_eq!(next(format!("Link: {unreadable}; rel=\"next\"\r\n")).await, None, "{unreadable}: not taken for the last page");
        }
    }

    /// A batch with an object of a spool in memory, and what opens it.
    async fn batch(source: Arc<dyn Source>) -> Batch {
        let spool = sample::memory_spool();
        let committed = sample::hand_over(&spool, sample::announced(1), sample::facts(1), &sample::data(1, 100)).await.expect("taken");
        let entry = spool.entry(committed.id).await.expect("readable").expect("taken");
        Batch { study_uid: "1.2".to_owned(), entries: vec![entry], source, authorization: "Bearer x".to_owned() }
    }

    /// Nothing can be opened, for this reason.
    struct Closed(SpoolError);

    #[async_trait]
    impl Source for Closed {
        async fn open(&self, _: &Entry) -> Result<Box<dyn Stored>, SpoolError> {
            Err(self.0.clone())
        }
    }

    #[tokio::test]
    async fn only_an_object_that_cannot_be_read_is_told_as_one() {
        let disk = |number| SpoolError::Disk { doing: "reading", source: Arc::new(io::Error::from_raw_os_error(number)) };
        for (error, event) in [
            (disk(5), Event::SpoolRead),
            (disk(2), Event::SpoolRead),
            (SpoolError::Damaged { id: SpoolId(1), what: "its file is gone" }, Event::SpoolRead),
            (disk(24), Event::LocalLimit),
            (disk(117), Event::Unknown), // EUCLEAN
            (IndexError("busy".to_owned()).into(), Event::Unknown),
            (SpoolError::Stopped, Event::Stopping),
        ] {
            let batch = batch(Arc::new(Closed(error.clone()))).await;
            assert_eq!(nothing(peer(None).await.store(&batch).await), Some(event.into()), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_store_answer_that_says_two_things_of_one_instance_or_no_status_is_not_read() {
        let batch = batch(Arc::new(Closed(SpoolError::Stopped))).await;
        let announced = &batch.entries[0].record.announced;
        let item = |more: &str| {
            let (class, instance) = (&announced.sop_class_uid, &announced.sop_instance_uid);
            format!(
                "{{\"00081150\":{{\"vr\":\"UI\",\"Value\":[\"{class}\"]}},\"00081155\":{{\"vr\":\"UI\",\"Value\":[\"{instance}\"]}}{more}}}"
            )
        };
        let answer = |sequence: &str, items: &[String]| format!("{{\"{sequence}\":{{\"vr\":\"SQ\",\"Value\":[{}]}}}}", items.join(","));
        let read = |answer: String| results(answer.as_bytes(), &batch);
        let warned = |value: &str| item(&format!(",\"00081196\":{{\"vr\":\"US\",\"Value\":[{value}]}}"));
        let failed = |value: &str| item(&format!(",\"00081197\":{{\"vr\":\"US\",\"Value\":[{value}]}}"));
        assert_eq!(read(answer("00081199", &[item("")])), Some(vec![InstanceResult::Stored]));
        assert_eq!(read(answer("00081199", &[warned("")])), Some(vec![InstanceResult::Stored]));
        assert_eq!(read(answer("00081199", &[warned("45062")])), Some(vec![InstanceResult::Warned(0xB006)]));
        assert_eq!(read(answer("00081198", &[failed("43264")])), Some(vec![InstanceResult::Failed(0xA900)]));
        assert_eq!(read(answer("00081198", &[item("")])), Some(vec![InstanceResult::FailedWithoutReason]));
        for unreadable in ["\"B006\"", "\"45062\"", "70000", "-1", "null", "{}"] {
            assert_eq!(read(answer("00081199", &[warned(unreadable)])), None, "{unreadable}: elements may have been discarded");
            assert_eq!(read(answer("00081198", &[failed(unreadable)])), None, "{unreadable}");
        }
        assert_eq!(read(answer("00081199", &[warned("45062"), item("")])), None, "stored with a warning and without");
        assert_eq!(read(answer("00081198", &[failed("43264"), failed("49152")])), None);
        assert_eq!(read(format!("[{},{}]", answer("00081199", &[warned("45062")]), answer("00081199", &[item("")]))), None);
    }

    #[test]
    fn an_alert_keeps_its_number() {
        use rustls::{AlertDescription as A, Error};
        for (alert, number) in [(A::UnknownCA, 48), (A::CertificateExpired, 45), (A::HandshakeFailure, 40), (A::Unknown(200), 200)] {
            assert_eq!(tls_failure(&Error::AlertReceived(alert)), Failure::TlsAlert(number));
        }
    }

    #[test]
    fn a_fault_is_read_with_the_code_of_the_standard() {
        for (code, expected) in [(FaultCode::Sender, "Sender"), (FaultCode::MustUnderstand, "MustUnderstand")] {
            let fault = soap::write_fault(&soap::Fault::new(code, "no"), "urn:uuid:2", Some("urn:uuid:1"), true);
            let body = soap_body(Some("application/soap+xml; charset=utf-8"), fault.as_bytes(), "urn:uuid:1", Expected::Query);
            assert!(matches!(body, SoapBody::Fault { code: Some(code), .. } if code == expected));
        }
    }

    fn body_of(body: &str, expected: Expected) -> SoapBody {
        let answer = soap::Answer { action: action::ITI_18, message_id: "urn:uuid:2", relates_to: Some("urn:uuid:1"), headers: "", body };
        let envelope = soap::write_answer(&answer);
        soap_body(Some("application/soap+xml; charset=utf-8"), envelope.as_bytes(), "urn:uuid:1", expected)
    }

    #[test]
    fn an_answer_of_another_kind_is_no_answer() {
        let success = registry_response::RegistryResponse::SUCCESS;
        let query = iti_18::encode_response(&success, iti_18::Results::None);
        let registry = registry_response::encode(&success);
        assert!(matches!(body_of(&query, Expected::Query), SoapBody::Response { entries, .. } if entries.is_empty()));
        assert!(matches!(body_of(&registry, Expected::Registry), SoapBody::Response { .. }));
        for (body, expected) in [(&query, Expected::Registry), (&registry, Expected::Query)] {
            assert!(matches!(body_of(body, expected), SoapBody::Unusable(Event::NotParsable)), "{expected:?}");
        }
    }

    #[test]
    fn an_answer_with_an_entry_that_cannot_be_read_is_not_an_answer_that_there_is_none() {
        let nothing = iti_18::encode_response(&registry_response::RegistryResponse::SUCCESS, iti_18::Results::None);
        let status = "status=\"urn:oasis:names:tc:ebxml-regrep:StatusType:Approved\"";
        let identified = |scheme: &str, value: &str| {
            format!("<rim:ExternalIdentifier id=\"urn:uuid:3\" identificationScheme=\"{scheme}\" value=\"{value}\"/>")
        };
        let unique_id = identified("urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", "2.25.1");
        let patient_id = identified("urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "010190-900P^^^&amp;1.2.246.21&amp;ISO");
        let format_code = "<rim:Classification id=\"urn:uuid:4\" classificationScheme=\"urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d\" \
             nodeRepresentation=\"1.2.840.10008.5.1.4.1.1.88.59\"><rim:Slot name=\"codingScheme\"><rim:ValueList>\
             <rim:Value>1.2.840.10008.2.6.1</rim:Value></rim:ValueList></rim:Slot></rim:Classification>";
        let entry = |status: &str, inside: &[&str]| {
            let inside = inside.concat();
            format!(
                "<rim:ExtrinsicObject id=\"urn:uuid:00000000-0000-5000-8000-000000000001\" mimeType=\"application/dicom\" \
                 objectType=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\" {status}>{inside}</rim:ExtrinsicObject>"
            )
        };
        let answer = |objects: &str| {
            let list = format!("<rim:RegistryObjectList>{objects}</rim:RegistryObjectList>");
            assert!(nothing.contains("<rim:RegistryObjectList/>"), "{nothing}");
            body_of(&nothing.replace("<rim:RegistryObjectList/>", &list), Expected::Query)
        };
        let good = entry(status, &[format_code, &patient_id, &unique_id]);
        let SoapBody::Response { entries, .. } = answer(&good) else { panic!("an answer") };
        assert_eq!((entries.len(), entries[0].approved, entries[0].manifest), (1, true, true));
        let bad = [
            entry(status, &[format_code, &patient_id]),
            entry(status, &[format_code, &unique_id]),
            entry(status, &[&patient_id, &unique_id]),
            entry("", &[format_code, &patient_id, &unique_id]),
            entry("status=\"approved\"", &[format_code, &patient_id, &unique_id]),
            "<rim:ObjectRef id=\"urn:uuid:00000000-0000-5000-8000-000000000001\"/>".to_owned(),
        ];
        for bad in bad {
            assert!(matches!(answer(&bad), SoapBody::Unusable(Event::NotParsable)), "{bad}");
            if bad.contains("Extrinsic") {
                assert!(matches!(answer(&format!("{good}{bad}")), SoapBody::Unusable(Event::NotParsable)), "{bad}");
            }
        }
    }
}

//! Answers as they came: for comparing two of them byte for byte (profile 09 §8), and for sending messages made elsewhere.

use http::HeaderMap;
use idr_ihe::soap::{Envelope, Fault, Framing, HeaderName, MediaType, Request, mtom, multipart, write_request};
use idr_ihe::transaction::registry_response::{self, RegistryResponse};
use idr_ihe::transaction::table::action;
use idr_ihe::xml::Limits;
use uuid::Uuid;

use super::{AskError, Consumer, Received, Receiving, unreadable, unreadable_debug};

/// An answer.
#[derive(Debug, Clone)]
pub struct Raw {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// `wsa:MessageID` of the request.
    request_id: Option<String>,
}

impl Consumer {
    /// Sends a plain SOAP message with a body made elsewhere.
    ///
    /// # Errors
    /// No answer, or one that ends early.
    pub async fn soap(&self, action: &str, body: &str, security: &str) -> Result<Raw, AskError> {
        let message_id = format!("urn:uuid:{}", Uuid::new_v4());
        let envelope = write_request(&Request { action, message_id: &message_id, to: &self.gateway(), security, body });
        let request = self.http().post(self.gateway()).header("content-type", "application/soap+xml; charset=utf-8").body(envelope);
        Raw::read(request.send().await?, Some(message_id)).await
    }

    /// ITI-41 by MTOM: an `lcm:SubmitObjectsRequest` made elsewhere, and documents by the id of their entry.
    ///
    /// # Errors
    /// No answer, or one that ends early.
    pub async fn iti_41(&self, submit_objects: &str, documents: &[(&str, &[u8])], security: &str) -> Result<Raw, AskError> {
        let writer = mtom::Writer::new(Uuid::new_v4().simple().to_string()).map_err(unreadable)?;
        let message_id = format!("urn:uuid:{}", Uuid::new_v4());
        let (mut named, mut parts) = (String::new(), Vec::new());
        for (number, (id, bytes)) in (1..).zip(documents) {
            let href = format!("cid:{}", mtom::content_id(number));
            named += &format!(r#"<x:Document id="{id}"><xop:Include xmlns:xop="{NS_XOP}" href="{href}"/></x:Document>"#);
            parts.extend_from_slice(writer.document(number, "application/octet-stream").as_bytes());
            parts.extend_from_slice(bytes);
        }
        let body = format!(
            r#"<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{NS_XDSB}">{submit_objects}{named}</x:ProvideAndRegisterDocumentSetRequest>"#
        );
        let request = Request { action: action::ITI_41, message_id: &message_id, to: &self.gateway(), security, body: &body };
        let mut message = writer.root(&write_request(&request)).into_bytes();
        message.extend(parts);
        message.extend_from_slice(writer.closing().as_bytes());
        let request = self.http().post(self.gateway()).header("content-type", writer.content_type()).body(message);
        Raw::read(request.send().await?, Some(message_id)).await
    }

    /// `GET` of a path with a token.
    ///
    /// # Errors
    /// No answer, or one that ends early.
    pub async fn get(&self, path: &str, token: &str) -> Result<Raw, AskError> {
        let request = self.http().get(format!("{}{path}", self.base())).bearer_auth(token);
        Raw::read(request.send().await?, None).await
    }

    /// POST of JSON, with a token.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn post_json(&self, path: &str, token: &str, body: String) -> Result<Raw, AskError> {
        let request = self.http().post(format!("{}{path}", self.base())).bearer_auth(token).header("content-type", "application/json");
        Raw::read(request.body(body).send().await?, None).await
    }
}

impl Raw {
    async fn read(response: reqwest::Response, request_id: Option<String>) -> Result<Self, AskError> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.bytes().await?.to_vec(), request_id })
    }

    /// A header; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The SOAP envelope.
    ///
    /// # Errors
    /// There is none.
    pub fn envelope(&self) -> Result<Vec<u8>, AskError> {
        match Framing::of(Some(self.header("content-type"))) {
            Ok(Framing::Plain) => Ok(self.body.clone()),
            Ok(Framing::Mtom { .. }) => Ok(self.parts()?.0),
            Err(_) => Err(self.unexpected()),
        }
    }

    /// The answer that `read` makes of the envelope.
    ///
    /// # Errors
    /// There is none, a fault, or another body.
    pub fn soap<T>(&self, read: impl FnOnce(&Envelope<'_>) -> Result<T, idr_ihe::soap::Refusal>) -> Result<T, AskError> {
        let bytes = self.envelope()?;
        let envelope = Envelope::read(&bytes, Limits::default()).map_err(unreadable_debug)?;
        match envelope.fault().map_err(unreadable)? {
            Some(fault) => Err(AskError::Fault { http_status: self.status, fault: Box::new(fault) }),
            None => read(&envelope).map_err(unreadable_debug),
        }
    }

    /// The RegistryResponse of a submission.
    ///
    /// # Errors
    /// As [`Raw::soap`].
    pub fn registry_response(&self) -> Result<RegistryResponse, AskError> {
        self.soap(registry_response::read)
    }

    /// The fault, if it is one.
    pub fn fault(&self) -> Option<Fault> {
        let bytes = self.envelope().ok()?;
        Envelope::read(&bytes, Limits::default()).ok()?.fault().ok()?
    }

    /// Files of the answer: parts of MTOM beside the root, or of `multipart/related`.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn files(&self) -> Result<Vec<Received>, AskError> {
        if matches!(Framing::of(Some(self.header("content-type"))), Ok(Framing::Mtom { .. })) {
            return Ok(self.parts()?.1);
        }
        let media_type = MediaType::parse(self.header("content-type")).map_err(unreadable)?;
        let boundary = media_type.parameter("boundary").ok_or_else(|| self.unexpected())?;
        let mut reader = multipart::Reader::new(boundary, multipart::Limits::STOW).map_err(unreadable)?;
        reader.feed(&self.body).map_err(unreadable)?;
        let (mut receiving, mut files) = (None, Vec::new());
        while let Some(event) = reader.poll().map_err(unreadable)? {
            match event {
                multipart::Event::Part(_) => receiving = Some(Receiving::new(true)),
                multipart::Event::Data(data) => receiving.iter_mut().for_each(|part| part.feed(&data)),
                multipart::Event::PartEnd => files.extend(receiving.take().map(Receiving::finish_by_meta)),
                multipart::Event::End => {}
            }
        }
        reader.finish().map_err(unreadable)?;
        Ok(files)
    }

    fn parts(&self) -> Result<(Vec<u8>, Vec<Received>), AskError> {
        let Ok(Framing::Mtom { boundary, start }) = Framing::of(Some(self.header("content-type"))) else { return Err(self.unexpected()) };
        let mut reader = mtom::Reader::new(&boundary, start, multipart::Limits::MTOM).map_err(unreadable)?;
        reader.feed(&self.body).map_err(unreadable)?;
        let (mut root, mut receiving, mut files) = (Vec::new(), None, Vec::new());
        while let Some(event) = reader.poll().map_err(unreadable_debug)? {
            match event {
                mtom::Event::Root(envelope) => root = envelope,
                mtom::Event::Part(_) => receiving = Some(Receiving::new(true)),
                mtom::Event::Data(data) => receiving.iter_mut().for_each(|part: &mut Receiving| part.feed(&data)),
                mtom::Event::PartEnd => files.extend(receiving.take().map(Receiving::finish_by_meta)),
                mtom::Event::End => {}
            }
        }
        reader.finish().map_err(unreadable)?;
        Ok((root, files))
    }

    fn unexpected(&self) -> AskError {
        AskError::Status { http_status: self.status, challenge: String::from_utf8_lossy(&self.body).chars().take(400).collect() }
    }

    /// Status, headers and body, with what differs between any two answers replaced by placeholders (profile 09 §8): MessageID,
    /// RelatesTo, date, request id, boundary, and `echoes` of values of the request. Two answers are equal if these are.
    pub fn comparable(&self, echoes: &[&str]) -> String {
        let mut lines: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| {
                format!("{name}: {}", if name == "date" { "DATE".into() } else { String::from_utf8_lossy(value.as_bytes()) })
            })
            .collect();
        lines.sort();
        let mut text = format!("{}\n{}\n\n{}", self.status, lines.join("\n"), String::from_utf8_lossy(&self.body));
        let own_id = self.envelope().ok().and_then(|bytes| {
            let envelope = Envelope::read(&bytes, Limits::default()).ok()?;
            envelope.value(HeaderName::MessageId).map(str::to_owned)
        });
        let boundary = MediaType::parse(self.header("content-type")).ok().and_then(|media| media.parameter("boundary").map(str::to_owned));
        let replaced = [
            (own_id.as_deref(), "MESSAGE-ID"),
            (self.request_id.as_deref(), "RELATES-TO"),
            (boundary.as_deref(), "BOUNDARY"),
            (Some(self.header("x-request-id")), "REQUEST-ID"),
        ];
        for (value, placeholder) in replaced {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                text = text.replace(value, placeholder);
            }
        }
        for (number, echo) in echoes.iter().enumerate() {
            text = text.replace(echo, &format!("ECHO-{number}"));
        }
        text
    }
}

const NS_XDSB: &str = "urn:ihe:iti:xds-b:2007";
const NS_XOP: &str = "http://www.w3.org/2004/08/xop/include";

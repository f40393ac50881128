//! A viewer: asks the centre as a professional's system would, with a fresh assertion for each request.

mod raw;
mod received;
mod requester;

use std::net::SocketAddr;

use futures::StreamExt as _;
use idr_ihe::ebxml::decode;
use idr_ihe::metadata::{DocumentEntry, PatientId};
use idr_ihe::soap::{Envelope, Fault, Framing, MediaType, Request, mtom, multipart, write_request, xop};
use idr_ihe::transaction::iti_18::{self, Definition, ReturnType};
use idr_ihe::transaction::iti_43::{self, DocumentRequest};
use idr_ihe::transaction::rad_69::{self, RetrieveImagingRequest, SeriesRequest, StudyRequest};
use idr_ihe::transaction::registry_response::{RegistryError, Status};
use idr_ihe::transaction::table::action;
use idr_ihe::xml::Limits;
use rustls::ClientConfig;
use uuid::Uuid;

pub use raw::Raw;
pub use received::{Received, Receiving};
pub use requester::{Claim, Requester, security};

use crate::fixtures::pki::Identity;

/// Transfer syntaxes that a viewer takes: all that the fixtures and the shared files use.
pub const TRANSFER_SYNTAXES: [&str; 16] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.111",
];

/// Why there is no answer of the transaction.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection, or it broke.
    #[error("connection: {0:?}")]
    Connection(#[from] reqwest::Error),
    /// A SOAP fault.
    #[error("fault {} (HTTP {http_status}): {}", fault.refusal.as_deref().unwrap_or("without code"), fault.reason)]
    Fault {
        /// HTTP status.
        http_status: u16,
        /// The fault.
        fault: Box<Fault>,
    },
    /// An HTTP status that is no answer of the transaction.
    #[error("HTTP {http_status} {challenge}")]
    Status {
        /// HTTP status.
        http_status: u16,
        /// `WWW-Authenticate`, or the first bytes of the body.
        challenge: String,
    },
    /// An answer that cannot be read.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
    /// The request could not be made.
    #[error("request: {0}")]
    Request(#[source] anyhow::Error),
}

impl AskError {
    /// `IDR-…` code of a fault, or of a challenge.
    pub fn code(&self) -> Option<String> {
        match self {
            Self::Fault { fault, .. } => fault.refusal.clone(),
            Self::Status { challenge, .. } => challenge.find("IDR-").map(|at| challenge[at..].chars().take_while(|c| *c != '"').collect()),
            _ => None,
        }
    }

    /// HTTP status.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::Fault { http_status, .. } | Self::Status { http_status, .. } => Some(*http_status),
            _ => None,
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> AskError {
    AskError::Unreadable(error.to_string())
}

/// Answer of ITI-18.
#[derive(Debug, Clone)]
pub struct Found {
    /// Status.
    pub status: Status,
    /// Errors.
    pub errors: Vec<RegistryError>,
    /// Document entries.
    pub entries: Vec<DocumentEntry>,
    /// The whole envelope as received.
    pub envelope: Vec<u8>,
}

/// Answer of ITI-43 and RAD-69.
#[derive(Debug, Clone)]
pub struct Retrieved {
    /// Status.
    pub status: Status,
    /// Errors.
    pub errors: Vec<RegistryError>,
    /// Documents in the order of the answer.
    pub documents: Vec<Received>,
    /// The root part as received.
    pub envelope: Vec<u8>,
}

/// A connection with a certificate, and somebody who asks.
pub struct Consumer {
    http: reqwest::Client,
    base: String,
    tls_certificate: Vec<u8>,
    /// Who asks.
    pub requester: Requester,
}

impl Consumer {
    /// `tls` is the certificate in `config`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(address: SocketAddr, config: ClientConfig, requester: Requester, tls: &Identity) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build()?;
        Ok(Self { http, base: format!("https://localhost:{}", address.port()), tls_certificate: tls.der.clone(), requester })
    }

    /// The HTTP client, for requests of another kind.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// `https://localhost:<port>`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// DER of the TLS client certificate.
    pub fn tls_certificate(&self) -> &[u8] {
        &self.tls_certificate
    }

    /// ITI-18 FindDocuments: all Approved entries of a patient.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn find_documents(&self, patient: &PatientId) -> Result<Found, AskError> {
        self.query(
            patient,
            "FindDocuments",
            &[("$XDSDocumentEntryPatientId", vec![patient.to_cx()]), ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()])],
        )
        .await
    }

    /// ITI-18 FindDocumentsByReferenceId: the Approved entries of a study.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn find_study(&self, patient: &PatientId, study: &str) -> Result<Found, AskError> {
        self.query(
            patient,
            "FindDocumentsByReferenceId",
            &[
                ("$XDSDocumentEntryPatientId", vec![patient.to_cx()]),
                ("$XDSDocumentEntryStatus", vec![APPROVED.to_owned()]),
                ("$XDSDocumentEntryReferenceIdList", vec![format!("{study}^^^^urn:ihe:iti:xds:2016:studyInstanceUID")]),
            ],
        )
        .await
    }

    /// ITI-18 GetDocuments by uniqueId.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn get_documents(&self, patient: &PatientId, unique_ids: &[&str]) -> Result<Found, AskError> {
        let ids = unique_ids.iter().map(|id| (*id).to_owned()).collect();
        self.query(patient, "GetDocuments", &[("$XDSDocumentEntryUniqueId", ids)]).await
    }

    /// ITI-18: any stored query, by name, for whole objects.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn query(&self, patient: &PatientId, name: &str, parameters: &[(&str, Vec<String>)]) -> Result<Found, AskError> {
        let definition = Definition::of_name(name).ok_or_else(|| AskError::Request(anyhow::anyhow!("no stored query {name}")))?;
        let body = iti_18::encode(definition, ReturnType::LeafClass, None, parameters);
        let security = self.requester.security(Some(patient)).map_err(AskError::Request)?;
        let envelope = self.plain(action::ITI_18, &body, &security).await?;
        let read = Envelope::read(&envelope, Limits::default()).map_err(unreadable_debug)?;
        let response = iti_18::read_response(&read).map_err(unreadable_debug)?;
        let decoded = decode(&response.objects);
        if let Some(problem) = decoded.problems.first() {
            return Err(unreadable(problem));
        }
        Ok(Found { status: response.registry.status, errors: response.registry.errors, entries: decoded.submission.entries, envelope })
    }

    /// ITI-43: documents by uniqueId, kept.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn iti_43(&self, patient: &PatientId, repository: &str, unique_ids: &[&str]) -> Result<Retrieved, AskError> {
        let requests: Vec<DocumentRequest> = unique_ids.iter().map(|id| document(repository, id)).collect();
        self.retrieve(patient, action::ITI_43, &iti_43::encode(&requests), true).await
    }

    /// RAD-69: instances of one study, given by series; digested, not kept.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn rad_69(
        &self,
        patient: &PatientId,
        repository: &str,
        study: &str,
        series: &[(String, Vec<String>)],
    ) -> Result<Retrieved, AskError> {
        let request = RetrieveImagingRequest {
            studies: vec![StudyRequest {
                study_instance_uid: Some(study.to_owned()),
                series: series
                    .iter()
                    .map(|(uid, instances)| SeriesRequest {
                        series_instance_uid: Some(uid.clone()),
                        documents: instances.iter().map(|id| document(repository, id)).collect(),
                    })
                    .collect(),
            }],
            transfer_syntaxes: Some(TRANSFER_SYNTAXES.iter().map(|uid| Some((*uid).to_owned())).collect()),
        };
        self.retrieve(patient, action::RAD_69, &rad_69::encode(&request), false).await
    }

    /// WADO-RS: one instance, as stored.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn wado_instance(&self, patient: &PatientId, study: &str, series: &str, instance: &str) -> Result<Received, AskError> {
        let url = format!("{}/dicomweb/studies/{study}/series/{series}/instances/{instance}", self.base);
        let token = self.requester.jwt(Some(patient), &self.tls_certificate).map_err(AskError::Request)?;
        let request =
            self.http.get(url).bearer_auth(token).header("accept", "multipart/related; type=\"application/dicom\"; transfer-syntax=*");
        let response = request.send().await?;
        if response.status() != 200 {
            return Err(status(response).await);
        }
        let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = MediaType::parse(media_type).map_err(unreadable)?;
        let boundary = media_type.parameter("boundary").ok_or_else(|| unreadable("no boundary"))?;
        let mut reader = multipart::Reader::new(boundary, multipart::Limits::STOW).map_err(unreadable)?;
        let (mut receiving, mut received) = (None, None);
        let mut body = response.bytes_stream();
        while let Some(bytes) = body.next().await {
            reader.feed(&bytes?).map_err(unreadable)?;
            while let Some(event) = reader.poll().map_err(unreadable)? {
                match event {
                    multipart::Event::Part(_) => receiving = Some(Receiving::new(false)),
                    multipart::Event::Data(data) => receiving.iter_mut().for_each(|part| part.feed(&data)),
                    multipart::Event::PartEnd => received = receiving.take().map(Receiving::finish_by_meta),
                    multipart::Event::End => {}
                }
            }
        }
        reader.finish().map_err(unreadable)?;
        received.ok_or_else(|| unreadable("no part"))
    }

    /// Sends a plain SOAP request; the answer's envelope, unless it is a fault.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn plain(&self, action: &str, body: &str, security: &str) -> Result<Vec<u8>, AskError> {
        let envelope = self.envelope(action, body, security);
        let request = self.http.post(self.gateway()).header("content-type", "application/soap+xml; charset=utf-8").body(envelope);
        let response = request.send().await?;
        let http_status = response.status().as_u16();
        let framing = framing(&response);
        let (envelope, _) = match framing {
            Ok(Framing::Plain) => (response.bytes().await?.to_vec(), ()),
            _ => return Err(status(response).await),
        };
        check_fault(&envelope, http_status)?;
        Ok(envelope)
    }

    /// Address of the SOAP gateway.
    pub fn gateway(&self) -> String {
        format!("{}/ihe/gateway", self.base)
    }

    /// A request envelope with a fresh MessageID.
    pub fn envelope(&self, action: &str, body: &str, security: &str) -> String {
        let message_id = format!("urn:uuid:{}", Uuid::new_v4());
        write_request(&Request { action, message_id: &message_id, to: &self.gateway(), security, body })
    }

    async fn retrieve(&self, patient: &PatientId, action: &str, body: &str, keep: bool) -> Result<Retrieved, AskError> {
        let security = self.requester.security(Some(patient)).map_err(AskError::Request)?;
        let writer = mtom::Writer::new(Uuid::new_v4().simple().to_string()).map_err(unreadable)?;
        let message = writer.root(&self.envelope(action, body, &security)) + &writer.closing();
        let request = self.http.post(self.gateway()).header("content-type", writer.content_type()).body(message);
        let response = request.send().await?;
        let http_status = response.status().as_u16();
        let (boundary, start) = match framing(&response) {
            Ok(Framing::Mtom { boundary, start }) => (boundary, start),
            Ok(Framing::Plain) => {
                let envelope = response.bytes().await?;
                check_fault(&envelope, http_status)?;
                return Err(unreadable("a plain answer to a retrieve request"));
            }
            Err(_) => return Err(status(response).await),
        };
        // Our own bound is above the profile's for requests: an answer may hold 4 GiB.
        let limits = multipart::Limits { part_bytes: 1 << 34, total_bytes: 1 << 34, parts: 4_000, ..multipart::Limits::MTOM };
        let mut reader = mtom::Reader::new(&boundary, start, limits).map_err(unreadable)?;
        let mut root = None;
        let mut parts: Vec<(String, Received)> = Vec::new();
        let mut receiving: Option<(String, Receiving)> = None;
        let mut stream = response.bytes_stream();
        while let Some(bytes) = stream.next().await {
            reader.feed(&bytes?).map_err(unreadable)?;
            while let Some(event) = reader.poll().map_err(unreadable_debug)? {
                match event {
                    mtom::Event::Root(envelope) => root = Some(envelope),
                    mtom::Event::Part(head) => receiving = Some((head.content_id().unwrap_or_default(), Receiving::new(keep))),
                    mtom::Event::Data(data) => receiving.iter_mut().for_each(|(_, part)| part.feed(&data)),
                    mtom::Event::PartEnd => parts.extend(receiving.take().map(|(id, part)| (id, part.finish("")))),
                    mtom::Event::End => {}
                }
            }
        }
        reader.finish().map_err(unreadable)?;
        let envelope = root.ok_or_else(|| unreadable("no root part"))?;
        check_fault(&envelope, http_status)?;
        let read = Envelope::read(&envelope, Limits::default()).map_err(unreadable_debug)?;
        let response = iti_43::read_response(&read).map_err(unreadable_debug)?;
        let mut documents = Vec::new();
        for document in &response.documents {
            let xop::Content::Part(id) = &document.content else { return Err(unreadable("a document in line")) };
            let (_, part) = parts.iter().find(|(known, _)| known == id).ok_or_else(|| unreadable("a document without its part"))?;
            documents.push(Received { unique_id: document.document_unique_id.clone(), ..part.clone() });
        }
        Ok(Retrieved { status: response.registry.status, errors: response.registry.errors, documents, envelope })
    }
}

/// `urn:…:Approved`.
pub const APPROVED: &str = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved";

fn document(repository: &str, unique_id: &str) -> DocumentRequest {
    DocumentRequest {
        home_community_id: None,
        repository_unique_id: Some(repository.to_owned()),
        document_unique_id: Some(unique_id.to_owned()),
    }
}

fn framing(response: &reqwest::Response) -> Result<Framing, idr_ihe::soap::Refusal> {
    Framing::of(response.headers().get("content-type").and_then(|value| value.to_str().ok()))
}

fn unreadable_debug(error: impl std::fmt::Debug) -> AskError {
    AskError::Unreadable(format!("{error:?}"))
}

fn check_fault(envelope: &[u8], http_status: u16) -> Result<(), AskError> {
    let read = Envelope::read(envelope, Limits::default()).map_err(unreadable_debug)?;
    match read.fault().map_err(unreadable)? {
        Some(fault) => Err(AskError::Fault { http_status, fault: Box::new(fault) }),
        None => Ok(()),
    }
}

async fn status(response: reqwest::Response) -> AskError {
    let http_status = response.status().as_u16();
    let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let challenge = match challenge {
        Some(challenge) => challenge,
        None => response.text().await.unwrap_or_default().chars().take(200).collect(),
    };
    AskError::Status { http_status, challenge }
}

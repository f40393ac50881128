//! ITI-43 Retrieve Document Set; its answer is also that of RAD-69.
//!
//! The answer's root part names the documents; their bytes are MTOM parts that the caller streams after it.

use super::registry_response::{self, RegistryResponse};
use super::rules::RuleText;
use crate::soap::xop::{self, Content};
use crate::soap::{Envelope, Refusal};
use crate::xml::{Ns, Reader, Writer, XmlError};

/// `xdsb:DocumentRequest`; empty elements count as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentRequest {
    /// `HomeCommunityId`.
    pub home_community_id: Option<String>,
    /// `RepositoryUniqueId`.
    pub repository_unique_id: Option<String>,
    /// `DocumentUniqueId`.
    pub document_unique_id: Option<String>,
}

/// `xdsb:DocumentResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentResponse {
    /// As requested; present if and only if the request had it.
    pub home_community_id: Option<String>,
    /// As requested.
    pub repository_unique_id: String,
    /// As requested.
    pub document_unique_id: String,
    /// Where an On-Demand document was stored.
    pub new_repository_unique_id: Option<String>,
    /// UniqueId of the document made on demand.
    pub new_document_unique_id: Option<String>,
    /// Media type of the document.
    pub mime_type: String,
    /// Bytes, or where they are.
    pub content: Content,
}

/// `xdsb:RetrieveDocumentSetResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrieveResponse {
    /// Status and errors.
    pub registry: RegistryResponse,
    /// Documents in the order of the request.
    pub documents: Vec<DocumentResponse>,
}

/// A broken rule R-01 … R-04 of profile 08 §11: the whole request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {} ({parameter})", text.rule, text.text)]
pub struct RequestProblem {
    /// Code and sentence.
    pub text: RuleText,
    /// Element or attribute that is missing.
    pub parameter: &'static str,
}

impl RequestProblem {
    pub(super) fn new(rule: &str, parameter: &'static str) -> Self {
        Self { text: RuleText::of(rule).expect("the shipped table has every rule named here"), parameter }
    }
}

impl DocumentRequest {
    /// What is missing.
    pub fn problem(&self) -> Option<RequestProblem> {
        if self.repository_unique_id.is_none() {
            return Some(RequestProblem::new("R-03", "RepositoryUniqueId"));
        }
        self.document_unique_id.is_none().then(|| RequestProblem::new("R-03", "DocumentUniqueId"))
    }
}

/// The first broken rule of a request.
pub fn problem(requests: &[DocumentRequest]) -> Option<RequestProblem> {
    if requests.is_empty() {
        return Some(RequestProblem::new("R-01", "DocumentRequest"));
    }
    requests.iter().find_map(DocumentRequest::problem)
}

/// Reads the request.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`].
pub fn read(envelope: &Envelope<'_>) -> Result<Vec<DocumentRequest>, Refusal> {
    let (mut reader, _) = envelope.body(Ns::Xdsb, "RetrieveDocumentSetRequest")?;
    Ok(read_document_requests(&mut reader)?)
}

pub(super) fn read_document_requests(reader: &mut Reader<'_>) -> Result<Vec<DocumentRequest>, XmlError> {
    let mut requests = Vec::new();
    while let Some(child) = reader.child()? {
        if child.is(Ns::Xdsb, "DocumentRequest") { requests.push(read_document_request(reader)?) } else { reader.unknown(&child)? }
    }
    Ok(requests)
}

pub(super) fn read_document_request(reader: &mut Reader<'_>) -> Result<DocumentRequest, XmlError> {
    let mut request = DocumentRequest::default();
    while let Some(child) = reader.child()? {
        let field = match (child.ns, child.local()) {
            (Ns::Xdsb, "HomeCommunityId") => &mut request.home_community_id,
            (Ns::Xdsb, "RepositoryUniqueId") => &mut request.repository_unique_id,
            (Ns::Xdsb, "DocumentUniqueId") => &mut request.document_unique_id,
            _ => {
                reader.unknown(&child)?;
                continue;
            }
        };
        *field = non_empty(reader.text()?);
    }
    Ok(request)
}

/// Writes the Body's child of a request.
pub fn encode(requests: &[DocumentRequest]) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Xdsb, "RetrieveDocumentSetRequest").declare(Ns::Xdsb);
    write_document_requests(&mut writer, requests);
    writer.finish()
}

pub(super) fn write_document_requests(writer: &mut Writer, requests: &[DocumentRequest]) {
    for request in requests {
        writer.start(Ns::Xdsb, "DocumentRequest");
        for (local, value) in [
            ("HomeCommunityId", &request.home_community_id),
            ("RepositoryUniqueId", &request.repository_unique_id),
            ("DocumentUniqueId", &request.document_unique_id),
        ] {
            if let Some(value) = value {
                writer.leaf(Ns::Xdsb, local, value);
            }
        }
        writer.end();
    }
}

/// Writes the Body's child of an answer.
pub fn encode_response(response: &RetrieveResponse) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Xdsb, "RetrieveDocumentSetResponse").declare(Ns::Xdsb).declare(Ns::Rs);
    writer.start(Ns::Rs, "RegistryResponse");
    registry_response::write_inside(&mut writer, &response.registry);
    writer.end();
    for document in &response.documents {
        writer.start(Ns::Xdsb, "DocumentResponse");
        for (local, value) in [
            ("HomeCommunityId", document.home_community_id.as_deref()),
            ("RepositoryUniqueId", Some(document.repository_unique_id.as_str())),
            ("DocumentUniqueId", Some(document.document_unique_id.as_str())),
            ("NewRepositoryUniqueId", document.new_repository_unique_id.as_deref()),
            ("NewDocumentUniqueId", document.new_document_unique_id.as_deref()),
            ("mimeType", Some(document.mime_type.as_str())),
        ] {
            if let Some(value) = value {
                writer.leaf(Ns::Xdsb, local, value);
            }
        }
        writer.start(Ns::Xdsb, "Document");
        xop::write_content(&mut writer, &document.content);
        writer.end().end();
    }
    writer.finish()
}

/// Reads an answer.
///
/// # Errors
/// [`Refusal::Body`] if the Body holds something else (look for a fault first), [`Refusal::Xml`], [`Refusal::Xop`];
/// a response without RegistryResponse, ids or Document is [`XmlError::Malformed`].
pub fn read_response(envelope: &Envelope<'_>) -> Result<RetrieveResponse, Refusal> {
    let (mut reader, element) = envelope.body(Ns::Xdsb, "RetrieveDocumentSetResponse")?;
    let (mut registry, mut documents) = (None, Vec::new());
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Rs, "RegistryResponse") if registry.is_none() => {
                registry = Some(registry_response::read_inside(&mut reader, &child, |reader, inner| reader.unknown(inner))?);
            }
            (Ns::Xdsb, "DocumentResponse") => documents.push(read_document_response(&mut reader, child.position)?),
            _ => reader.unknown(&child)?,
        }
    }
    let registry = registry.ok_or(XmlError::Malformed { position: element.position })?;
    Ok(RetrieveResponse { registry, documents })
}

fn read_document_response(reader: &mut Reader<'_>, position: usize) -> Result<DocumentResponse, Refusal> {
    let (mut request, mut new_repository_unique_id, mut new_document_unique_id) = (DocumentRequest::default(), None, None);
    let (mut mime_type, mut content) = (None, None);
    while let Some(child) = reader.child()? {
        let field = match (child.ns, child.local()) {
            (Ns::Xdsb, "HomeCommunityId") => &mut request.home_community_id,
            (Ns::Xdsb, "RepositoryUniqueId") => &mut request.repository_unique_id,
            (Ns::Xdsb, "DocumentUniqueId") => &mut request.document_unique_id,
            (Ns::Xdsb, "NewRepositoryUniqueId") => &mut new_repository_unique_id,
            (Ns::Xdsb, "NewDocumentUniqueId") => &mut new_document_unique_id,
            (Ns::Xdsb, "mimeType") => &mut mime_type,
            (Ns::Xdsb, "Document") if content.is_none() => {
                content = Some(xop::read_content(reader)?);
                continue;
            }
            _ => {
                reader.unknown(&child)?;
                continue;
            }
        };
        *field = non_empty(reader.text()?);
    }
    let missing = XmlError::Malformed { position };
    Ok(DocumentResponse {
        home_community_id: request.home_community_id,
        repository_unique_id: request.repository_unique_id.ok_or_else(|| missing.clone())?,
        document_unique_id: request.document_unique_id.ok_or_else(|| missing.clone())?,
        new_repository_unique_id,
        new_document_unique_id,
        mime_type: mime_type.unwrap_or_default(),
        content: content.ok_or(missing)?,
    })
}

pub(super) fn non_empty(text: String) -> Option<String> {
    let text = text.trim();
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

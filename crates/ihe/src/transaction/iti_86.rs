//! ITI-86 Remove Documents.

use super::iti_43::{DocumentRequest, read_document_requests, write_document_requests};
use crate::soap::{Envelope, Refusal};
use crate::xml::{Ns, Writer};

/// Reads the request: the documents to remove.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`].
pub fn read(envelope: &Envelope<'_>) -> Result<Vec<DocumentRequest>, Refusal> {
    let (mut reader, _) = envelope.body(Ns::Rmd, "RemoveDocumentsRequest")?;
    Ok(read_document_requests(&mut reader)?)
}

/// Writes the Body's child.
pub fn encode(requests: &[DocumentRequest]) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Rmd, "RemoveDocumentsRequest").declare(Ns::Rmd).declare(Ns::Xdsb);
    write_document_requests(&mut writer, requests);
    writer.finish()
}

//! ITI-41 Provide and Register Document Set-b, and RAD-68 (RAD TF-3 §4.68), which is ITI-41 with a manifest.
//!
//! Documents stand in line or are named parts: [`crate::soap::xop::resolve`] finds the part of each.

use super::iti_42;
use crate::ebxml::rim::RegistryObjectList;
use crate::ebxml::write_registry_object_list;
use crate::soap::xop::{self, Content};
use crate::soap::{Envelope, Refusal};
use crate::xml::{Ns, Writer};

/// `xdsb:ProvideAndRegisterDocumentSetRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvideAndRegisterRequest {
    /// The objects; `None` if the request or its list is absent.
    pub objects: Option<RegistryObjectList>,
    /// Documents in message order.
    pub documents: Vec<Document>,
}

/// `xdsb:Document`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `@id`: the entryUUID of its DocumentEntry as sent.
    pub id: Option<String>,
    /// Its bytes, or where they are.
    pub content: Content,
}

impl ProvideAndRegisterRequest {
    /// Content-IDs of the documents that are parts, in message order.
    pub fn part_ids(&self) -> impl Iterator<Item = &str> {
        self.documents.iter().filter_map(|document| match &document.content {
            Content::Part(id) => Some(id.as_str()),
            Content::Inline(_) => None,
        })
    }
}

/// Reads the request.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`], [`Refusal::Xop`].
pub fn read(envelope: &Envelope<'_>) -> Result<ProvideAndRegisterRequest, Refusal> {
    let (mut reader, _) = envelope.body(Ns::Xdsb, "ProvideAndRegisterDocumentSetRequest")?;
    let mut request = ProvideAndRegisterRequest::default();
    let mut submit_seen = false;
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Lcm, "SubmitObjectsRequest") if !submit_seen => {
                submit_seen = true;
                request.objects = iti_42::read_inside(&mut reader)?.objects;
            }
            (Ns::Xdsb, "Document") => {
                let id = child.attribute("id");
                request.documents.push(Document { id, content: xop::read_content(&mut reader)? });
            }
            _ => reader.unknown(&child)?,
        }
    }
    Ok(request)
}

/// Writes the Body's child.
pub fn encode(objects: &RegistryObjectList, documents: &[Document]) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Xdsb, "ProvideAndRegisterDocumentSetRequest").declare(Ns::Xdsb).declare(Ns::Lcm).declare(Ns::Rim);
    writer.start(Ns::Lcm, "SubmitObjectsRequest");
    write_registry_object_list(&mut writer, objects);
    writer.end();
    for document in documents {
        writer.start(Ns::Xdsb, "Document").attribute_if("id", document.id.as_deref());
        xop::write_content(&mut writer, &document.content);
        writer.end();
    }
    writer.finish()
}

//! ITI-62 Remove Metadata.

use crate::ebxml::rim::ObjectRef;
use crate::ebxml::write_object_ref;
use crate::soap::{Envelope, Refusal};
use crate::xml::{Ns, Writer};

/// `lcm:RemoveObjectsRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveObjectsRequest {
    /// Objects to remove; `None` if the list is absent.
    pub references: Option<Vec<ObjectRef>>,
    /// An AdhocQuery was given, which is not allowed.
    pub has_query: bool,
    /// `@deletionScope` was given, which is not allowed.
    pub has_deletion_scope: bool,
}

/// Reads the request.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`].
pub fn read(envelope: &Envelope<'_>) -> Result<RemoveObjectsRequest, Refusal> {
    let (mut reader, element) = envelope.body(Ns::Lcm, "RemoveObjectsRequest")?;
    let has_deletion_scope = element.attribute("deletionScope").is_some();
    let mut request = RemoveObjectsRequest { has_deletion_scope, ..RemoveObjectsRequest::default() };
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Rs, "RequestSlotList") => reader.skip()?,
            (Ns::Rim, "AdhocQuery") => {
                request.has_query = true;
                reader.skip()?;
            }
            (Ns::Rim, "ObjectRefList") => {
                let list = request.references.get_or_insert_with(Vec::new);
                while let Some(inner) = reader.child()? {
                    if inner.is(Ns::Rim, "ObjectRef") {
                        list.push(ObjectRef { id: inner.attribute("id"), home: inner.attribute("home") });
                        reader.skip()?;
                    } else {
                        reader.unknown(&inner)?;
                    }
                }
            }
            _ => reader.unknown(&child)?,
        }
    }
    Ok(request)
}

/// Writes the Body's child.
pub fn encode(references: &[ObjectRef]) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Lcm, "RemoveObjectsRequest").declare(Ns::Lcm).declare(Ns::Rim).start(Ns::Rim, "ObjectRefList");
    for reference in references {
        write_object_ref(&mut writer, reference);
    }
    writer.finish()
}

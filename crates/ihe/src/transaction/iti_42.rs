//! ITI-42 Register Document Set-b; its body is also that of ITI-57, ITI-61 and ITI-92.

use crate::ebxml::rim::{RegistryObjectList, Slot};
use crate::ebxml::{read_registry_object_list, read_slot_list, write_registry_object_list};
use crate::soap::{Envelope, Refusal};
use crate::xml::{Ns, Reader, Writer, XmlError};

/// `lcm:SubmitObjectsRequest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubmitObjectsRequest {
    /// `rs:RequestSlotList`, for example `homeCommunityId`.
    pub slots: Vec<Slot>,
    /// The objects; `None` if the list is absent.
    pub objects: Option<RegistryObjectList>,
}

/// Reads the request.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`].
pub fn read(envelope: &Envelope<'_>) -> Result<SubmitObjectsRequest, Refusal> {
    let (mut reader, _) = envelope.body(Ns::Lcm, "SubmitObjectsRequest")?;
    Ok(read_inside(&mut reader)?)
}

/// Reads the content of the `lcm:SubmitObjectsRequest` that the reader has just entered.
///
/// # Errors
/// [`XmlError`]; a second object list is refused.
pub fn read_inside(reader: &mut Reader<'_>) -> Result<SubmitObjectsRequest, XmlError> {
    let mut request = SubmitObjectsRequest::default();
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Rs, "RequestSlotList") => request.slots.append(&mut read_slot_list(reader)?),
            (Ns::Rim, "RegistryObjectList") if request.objects.is_none() => {
                request.objects = Some(read_registry_object_list(reader)?);
            }
            _ => reader.unknown(&child)?,
        }
    }
    Ok(request)
}

/// Writes the Body's child.
pub fn encode(objects: &RegistryObjectList) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Lcm, "SubmitObjectsRequest").declare(Ns::Lcm).declare(Ns::Rim);
    write_registry_object_list(&mut writer, objects);
    writer.finish()
}

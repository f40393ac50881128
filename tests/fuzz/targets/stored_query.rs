//! Parameters of a stored query, without the XML around them: which query by the first byte, then a line for each value, name and
//! value separated by a space (ITI TF-2 §3.18.4.1.2.3).
#![no_main]

use idr_fuzz::{seed, seeds, split};
use idr_ihe::ebxml::rim::{AdhocQuery, RegistryObject, Slot};
use idr_ihe::transaction::iti_18::{AdhocQueryRequest, Options, definitions, interpret};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (which, rest) = split(data);
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let definition = &definitions()[usize::from(which >> 1) % definitions().len()];
    let mut slots: Vec<Slot> = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        match slots.last_mut() {
            Some(slot) if slot.name.as_deref() == Some(name) => slot.values.push(value.to_owned()),
            _ => slots.push(Slot { name: Some(name.to_owned()), values: vec![value.to_owned()] }),
        }
    }
    let object = RegistryObject { id: Some(definition.id.to_owned()), slots, ..RegistryObject::default() };
    let query = AdhocQuery { object, ..AdhocQuery::default() };
    let return_type = if which & 1 == 0 { "LeafClass" } else { "ObjectRef" };
    let request = AdhocQueryRequest { return_type: Some(return_type.to_owned()), query: Some(query) };
    let options = Options { multi_patient: definition.multi_patient, ..Options::default() };
    match interpret(&request, &options) {
        Ok(query) => {
            assert_eq!(query.definition.name, definition.name);
            drop(query.selection());
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            errors.iter().for_each(|error| drop(error.registry_error()));
        }
    }
});

fn all() -> Vec<Vec<u8>> {
    const APPROVED: &str = "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')";
    let by_patient = format!(
        "$XDSDocumentEntryPatientId '010190-900P^^^&1.2.246.21&ISO'\n$XDSDocumentEntryStatus {APPROVED}\n\
         $XDSDocumentEntryClassCode ('IMAGES^^1.3.6.1.4.1.19376.1.2.6.1','b^^1.2')\n$XDSDocumentEntryEventCodeList ('CT^^1.2.840.10008.2.16.4')\n\
         $XDSDocumentEntryCreationTimeFrom 2026\n$XDSDocumentEntryAuthorPerson ('%^Lää_äri%')\n$XDSDocumentEntryType ('urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1')"
    );
    let by_id = "$XDSDocumentEntryUniqueId ('1.2.3','1.2.4')\n$MetadataLevel 2\n$uuid ('urn:uuid:00000000-0000-4000-8000-000000000001')";
    let numbers = 0..u8::try_from(definitions().len()).unwrap_or(u8::MAX);
    numbers.flat_map(|number| [seed(&[number << 1], &by_patient), seed(&[number << 1 | 1], by_id)]).collect()
}

//! [`rim`](super::rim) objects → ebRIM XML, elements in the order of the schema.

use super::rim::{
    AdhocQuery, Classification, ExternalIdentifier, LocalizedString, Object, ObjectRef, RegistryObject, RegistryObjectList, Slot,
};
use crate::xml::{Ns, Writer};

/// Writes `rim:RegistryObjectList`. [`Object::Other`] is left out. The prefix `rim` must be declared.
pub fn write_registry_object_list(writer: &mut Writer, list: &RegistryObjectList) {
    writer.start(Ns::Rim, "RegistryObjectList");
    for object in &list.objects {
        match object {
            Object::ExtrinsicObject(entry) => {
                writer.start(Ns::Rim, "ExtrinsicObject");
                identity(writer, &entry.object);
                writer.attribute_if("mimeType", entry.mime_type.as_deref());
                content(writer, &entry.object);
                writer.end();
            }
            Object::RegistryPackage(package) => {
                writer.start(Ns::Rim, "RegistryPackage");
                identity(writer, &package.object);
                content(writer, &package.object);
                writer.end();
            }
            Object::Association(association) => {
                writer.start(Ns::Rim, "Association");
                identity(writer, &association.object);
                writer
                    .attribute_if("associationType", association.association_type.as_deref())
                    .attribute_if("sourceObject", association.source_object.as_deref())
                    .attribute_if("targetObject", association.target_object.as_deref());
                content(writer, &association.object);
                writer.end();
            }
            Object::Classification(item) => classification(writer, item),
            Object::ObjectRef(reference) => write_object_ref(writer, reference),
            Object::Other(_) => {}
        }
    }
    writer.end();
}

/// Writes `rim:ObjectRef`.
pub fn write_object_ref(writer: &mut Writer, reference: &ObjectRef) {
    writer.start(Ns::Rim, "ObjectRef").attribute_if("id", reference.id.as_deref()).attribute_if("home", reference.home.as_deref()).end();
}

/// Writes `rim:Slot`.
pub fn write_slot(writer: &mut Writer, slot: &Slot) {
    writer.start(Ns::Rim, "Slot").attribute_if("name", slot.name.as_deref()).start(Ns::Rim, "ValueList");
    for value in &slot.values {
        writer.leaf(Ns::Rim, "Value", value);
    }
    writer.end().end();
}

/// Writes `rim:AdhocQuery` without QueryExpression.
pub(crate) fn write_adhoc_query(writer: &mut Writer, query: &AdhocQuery) {
    writer.start(Ns::Rim, "AdhocQuery");
    identity(writer, &query.object);
    content(writer, &query.object);
    writer.end();
}

fn identity(writer: &mut Writer, object: &RegistryObject) {
    writer
        .attribute_if("id", object.id.as_deref())
        .attribute_if("lid", object.lid.as_deref())
        .attribute_if("home", object.home.as_deref())
        .attribute_if("status", object.status.as_deref())
        .attribute_if("objectType", object.object_type.as_deref());
}

fn content(writer: &mut Writer, object: &RegistryObject) {
    for slot in &object.slots {
        write_slot(writer, slot);
    }
    international_string(writer, "Name", object.name.as_deref());
    international_string(writer, "Description", object.description.as_deref());
    if let Some(version) = &object.version_name {
        writer.start(Ns::Rim, "VersionInfo").attribute("versionName", version).end();
    }
    for item in &object.classifications {
        classification(writer, item);
    }
    for item in &object.external_identifiers {
        external_identifier(writer, item);
    }
}

fn classification(writer: &mut Writer, item: &Classification) {
    writer.start(Ns::Rim, "Classification");
    identity(writer, &item.object);
    writer
        .attribute_if("classifiedObject", item.classified_object.as_deref())
        .attribute_if("classificationScheme", item.classification_scheme.as_deref())
        .attribute_if("classificationNode", item.classification_node.as_deref())
        .attribute_if("nodeRepresentation", item.node_representation.as_deref());
    content(writer, &item.object);
    writer.end();
}

fn external_identifier(writer: &mut Writer, item: &ExternalIdentifier) {
    writer.start(Ns::Rim, "ExternalIdentifier");
    identity(writer, &item.object);
    writer
        .attribute_if("registryObject", item.registry_object.as_deref())
        .attribute_if("identificationScheme", item.identification_scheme.as_deref())
        .attribute_if("value", item.value.as_deref());
    content(writer, &item.object);
    writer.end();
}

fn international_string(writer: &mut Writer, element: &'static str, strings: Option<&[LocalizedString]>) {
    let Some(strings) = strings else { return };
    writer.start(Ns::Rim, element);
    for text in strings {
        writer
            .start(Ns::Rim, "LocalizedString")
            .attribute_if("xml:lang", text.lang.as_deref())
            .attribute_if("charset", text.charset.as_deref())
            .attribute_if("value", text.value.as_deref())
            .end();
    }
    writer.end();
}

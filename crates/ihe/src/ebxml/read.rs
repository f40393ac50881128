//! ebRIM XML → [`rim`](super::rim) objects.

use super::rim::{
    AdhocQuery, Association, Classification, ExternalIdentifier, ExtrinsicObject, LocalizedString, Object, ObjectRef, RegistryObject,
    RegistryObjectList, RegistryPackage, Slot,
};
use crate::xml::{Element, Ns, Reader, XmlError};

/// Elements of ebRIM 3.0 that can be children of a RegistryObjectList besides those of [`Object`].
const OTHER_IDENTIFIABLE: [&str; 17] = [
    "Identifiable",
    "RegistryObject",
    "AuditableEvent",
    "ClassificationNode",
    "ClassificationScheme",
    "ExternalIdentifier",
    "ExternalLink",
    "Organization",
    "Service",
    "ServiceBinding",
    "SpecificationLink",
    "Person",
    "User",
    "Registry",
    "Federation",
    "AdhocQuery",
    "Subscription",
];

/// Reads the content of the `rim:RegistryObjectList` that the reader has just entered.
///
/// # Errors
/// [`XmlError`]; an element unknown to ebRIM is [`XmlError::UnknownElement`].
pub fn read_registry_object_list(reader: &mut Reader<'_>) -> Result<RegistryObjectList, XmlError> {
    let mut list = RegistryObjectList::default();
    while let Some(element) = reader.child()? {
        if element.ns != Ns::Rim {
            reader.unknown(&element)?;
            continue;
        }
        let object = match element.local() {
            "ExtrinsicObject" => Object::ExtrinsicObject(extrinsic_object(reader, &element)?),
            "RegistryPackage" => {
                let object = registry_object(reader, &element, &mut |reader, child| match child.local() {
                    // Membership is expressed by associations; a nested list is passed over.
                    "RegistryObjectList" => reader.skip(),
                    _ => reader.unknown(child),
                })?;
                Object::RegistryPackage(RegistryPackage { object })
            }
            "Association" => {
                let (association_type, source_object, target_object) =
                    (element.attribute("associationType"), element.attribute("sourceObject"), element.attribute("targetObject"));
                let object = registry_object(reader, &element, &mut |reader, child| reader.unknown(child))?;
                Object::Association(Association { object, association_type, source_object, target_object })
            }
            "Classification" => Object::Classification(classification(reader, &element)?),
            "ObjectRef" => {
                let reference = ObjectRef { id: element.attribute("id"), home: element.attribute("home") };
                while let Some(child) = reader.child()? {
                    if child.is(Ns::Rim, "Slot") { drop(slot(reader, &child)?) } else { reader.unknown(&child)? }
                }
                Object::ObjectRef(reference)
            }
            other if OTHER_IDENTIFIABLE.contains(&other) => {
                let name = other.to_owned();
                reader.skip()?;
                Object::Other(name)
            }
            _ => return Err(XmlError::UnknownElement { namespace: Ns::Rim.uri(), position: element.position }),
        };
        list.objects.push(object);
    }
    Ok(list)
}

/// Reads `element`, a `rim:AdhocQuery`.
///
/// # Errors
/// [`XmlError`].
pub fn read_adhoc_query(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<AdhocQuery, XmlError> {
    let mut has_expression = false;
    let object = registry_object(reader, element, &mut |reader, child| {
        if child.local() != "QueryExpression" {
            return reader.unknown(child);
        }
        has_expression = true;
        reader.skip()
    })?;
    Ok(AdhocQuery { object, has_expression })
}

/// Reads the slots of a SlotList that the reader has just entered (`rs:RequestSlotList`, `rs:ResponseSlotList`).
///
/// # Errors
/// [`XmlError`].
pub fn read_slot_list(reader: &mut Reader<'_>) -> Result<Vec<Slot>, XmlError> {
    let mut slots = Vec::new();
    while let Some(child) = reader.child()? {
        if child.is(Ns::Rim, "Slot") { slots.push(slot(reader, &child)?) } else { reader.unknown(&child)? }
    }
    Ok(slots)
}

fn extrinsic_object(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<ExtrinsicObject, XmlError> {
    let mime_type = element.attribute("mimeType");
    let mut holds_document = false;
    let object = registry_object(reader, element, &mut |reader, child| match (child.ns, child.local()) {
        (Ns::Rim, "ContentVersionInfo") => reader.skip(),
        (Ns::Xdsb, "Document") => {
            holds_document = true;
            reader.skip()
        }
        _ => reader.unknown(child),
    })?;
    Ok(ExtrinsicObject { object, mime_type, holds_document })
}

fn classification(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<Classification, XmlError> {
    Ok(Classification {
        classification_scheme: element.attribute("classificationScheme"),
        classified_object: element.attribute("classifiedObject"),
        classification_node: element.attribute("classificationNode"),
        node_representation: element.attribute("nodeRepresentation"),
        object: registry_object(reader, element, &mut |reader, child| reader.unknown(child))?,
    })
}

/// Consumes a child that only one class of objects has.
type Own<'f, 'a> = &'f mut dyn FnMut(&mut Reader<'a>, &Element<'a>) -> Result<(), XmlError>;

/// The common part of a registry object. `own` consumes the children that only this class has.
fn registry_object<'a>(reader: &mut Reader<'a>, element: &Element<'_>, own: Own<'_, 'a>) -> Result<RegistryObject, XmlError> {
    let mut object = RegistryObject {
        id: element.attribute("id"),
        lid: element.attribute("lid"),
        home: element.attribute("home"),
        status: element.attribute("status"),
        object_type: element.attribute("objectType"),
        ..RegistryObject::default()
    };
    while let Some(child) = reader.child()? {
        if child.ns != Ns::Rim {
            own(reader, &child)?;
            continue;
        }
        match child.local() {
            "Slot" => object.slots.push(slot(reader, &child)?),
            "Name" => international_string(reader, object.name.get_or_insert_with(Vec::new))?,
            "Description" => international_string(reader, object.description.get_or_insert_with(Vec::new))?,
            "VersionInfo" => {
                object.version_name = Some(child.attribute("versionName").unwrap_or_default());
                reader.skip()?;
            }
            "Classification" => object.classifications.push(classification(reader, &child)?),
            "ExternalIdentifier" => object.external_identifiers.push(ExternalIdentifier {
                registry_object: child.attribute("registryObject"),
                identification_scheme: child.attribute("identificationScheme"),
                value: child.attribute("value"),
                object: registry_object(reader, &child, &mut |reader, inner| reader.unknown(inner))?,
            }),
            _ => own(reader, &child)?,
        }
    }
    Ok(object)
}

fn slot(reader: &mut Reader<'_>, element: &Element<'_>) -> Result<Slot, XmlError> {
    let mut slot = Slot { name: element.attribute("name"), values: Vec::new() };
    while let Some(list) = reader.child()? {
        if !list.is(Ns::Rim, "ValueList") {
            reader.unknown(&list)?;
            continue;
        }
        while let Some(value) = reader.child()? {
            if value.is(Ns::Rim, "Value") { slot.values.push(reader.text()?) } else { reader.unknown(&value)? }
        }
    }
    Ok(slot)
}

fn international_string(reader: &mut Reader<'_>, strings: &mut Vec<LocalizedString>) -> Result<(), XmlError> {
    while let Some(child) = reader.child()? {
        if child.is(Ns::Rim, "LocalizedString") {
            strings.push(LocalizedString { lang: child.xml_lang(), charset: child.attribute("charset"), value: child.attribute("value") });
            reader.skip()?;
        } else {
            reader.unknown(&child)?;
        }
    }
    Ok(())
}

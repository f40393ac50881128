//! `query:AdhocQueryRequest` and `query:AdhocQueryResponse`.

use super::definition::{Cardinality, Definition, Kind};
use super::interpret::ReturnType;
use crate::ebxml::rim::{AdhocQuery, ObjectRef, RegistryObject, RegistryObjectList, Slot};
use crate::ebxml::{
    Placement, read_adhoc_query, read_registry_object_list, write_adhoc_query, write_object_ref, write_registry_object_list,
};
use crate::metadata::Submission;
use crate::soap::{Envelope, Refusal};
use crate::transaction::registry_response::{self, RegistryResponse};
use crate::xml::{Ns, Writer, XmlError};

/// The request as it stands. Paging and `returnComposedObjects` are passed over (profile 08 §6.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdhocQueryRequest {
    /// `ResponseOption/@returnType`.
    pub return_type: Option<String>,
    /// `rim:AdhocQuery`.
    pub query: Option<AdhocQuery>,
}

/// Reads the request.
///
/// # Errors
/// [`Refusal::Body`], [`Refusal::Xml`]; a second AdhocQuery is refused.
pub fn read(envelope: &Envelope<'_>) -> Result<AdhocQueryRequest, Refusal> {
    let (mut reader, _) = envelope.body(Ns::Query, "AdhocQueryRequest")?;
    let mut request = AdhocQueryRequest::default();
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Rs, "RequestSlotList") => reader.skip()?,
            (Ns::Query, "ResponseOption") => {
                request.return_type = child.attribute("returnType");
                reader.skip()?;
            }
            (Ns::Rim, "AdhocQuery") if request.query.is_none() => request.query = Some(read_adhoc_query(&mut reader, &child)?),
            _ => reader.unknown(&child)?,
        }
    }
    Ok(request)
}

/// Parameters of a query to be sent: name and values as plain text.
pub type Parameters<'a> = &'a [(&'a str, Vec<String>)];

/// Writes the Body's child of a request: values quoted and listed as the definition says, one `rim:Value` per value.
/// Parameters that the definition does not know are sent as lists of text.
pub fn encode(definition: &Definition, return_type: ReturnType, home: Option<&str>, parameters: Parameters<'_>) -> String {
    let slots = parameters.iter().map(|(name, values)| {
        let known = definition.parameter(name).map_or((Cardinality::Many, Kind::Text), |p| (p.cardinality, p.kind));
        let quoted = |value: &String| match known {
            (_, Kind::Dtm | Kind::Level) => value.clone(),
            (Cardinality::One, _) => format!("'{}'", value.replace('\'', "''")),
            _ => format!("('{}')", value.replace('\'', "''")),
        };
        Slot { name: Some((*name).to_owned()), values: values.iter().map(quoted).collect() }
    });
    let query = AdhocQuery {
        object: RegistryObject {
            id: Some(definition.id.to_owned()),
            home: home.map(str::to_owned),
            slots: slots.collect(),
            ..RegistryObject::default()
        },
        has_expression: false,
    };
    let mut writer = Writer::new();
    writer.start(Ns::Query, "AdhocQueryRequest").declare(Ns::Query).declare(Ns::Rim);
    writer
        .start(Ns::Query, "ResponseOption")
        .attribute("returnComposedObjects", "true")
        .attribute("returnType", return_type.as_str())
        .end();
    write_adhoc_query(&mut writer, &query);
    writer.finish()
}

/// What a query found.
#[derive(Debug, Clone, Copy)]
pub enum Results<'a> {
    /// Whole objects: entries, sets, folders, associations.
    Objects(&'a Submission),
    /// References.
    References(&'a [ObjectRef]),
    /// Objects as they stand, of whatever registry.
    List(&'a RegistryObjectList),
    /// Nothing: no hit, or Failure.
    None,
}

/// Writes the Body's child of an answer. The object list is there even when it is empty (profile 09 §1.4).
pub fn encode_response(response: &RegistryResponse, results: Results<'_>) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Query, "AdhocQueryResponse").declare(Ns::Query).declare(Ns::Rs).declare(Ns::Rim);
    registry_response::write_inside(&mut writer, response);
    match results {
        Results::Objects(objects) => write_registry_object_list(&mut writer, &crate::ebxml::encode(objects, Placement::Nested)),
        Results::References(references) => {
            writer.start(Ns::Rim, "RegistryObjectList");
            for reference in references {
                write_object_ref(&mut writer, reference);
            }
            writer.end();
        }
        Results::List(list) => write_registry_object_list(&mut writer, list),
        Results::None => write_registry_object_list(&mut writer, &RegistryObjectList::default()),
    }
    writer.finish()
}

/// The answer as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryResponse {
    /// Status and errors.
    pub registry: RegistryResponse,
    /// Objects or references; [`crate::ebxml::decode`] makes metadata of them.
    pub objects: RegistryObjectList,
}

/// Reads an answer.
///
/// # Errors
/// [`Refusal::Body`] if the Body holds something else (look for a fault first), [`Refusal::Xml`].
pub fn read_response(envelope: &Envelope<'_>) -> Result<QueryResponse, Refusal> {
    let (mut reader, element) = envelope.body(Ns::Query, "AdhocQueryResponse")?;
    let mut objects = None;
    let registry = registry_response::read_inside(&mut reader, &element, |reader, child| {
        if child.is(Ns::Rim, "RegistryObjectList") && objects.is_none() {
            objects = Some(read_registry_object_list(reader)?);
            Ok::<(), XmlError>(())
        } else {
            reader.unknown(child)
        }
    })?;
    Ok(QueryResponse { registry, objects: objects.unwrap_or_default() })
}

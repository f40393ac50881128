//! ebRIM 3.0 objects as they stand in a message: nothing required, nothing defaulted, order kept.
//!
//! `Debug` of these types prints no values: messages hold patient identifiers.

use std::fmt;

/// `rim:RegistryObjectList`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryObjectList {
    /// Objects in message order.
    pub objects: Vec<Object>,
}

/// A child of `rim:RegistryObjectList`.
#[derive(Clone, PartialEq, Eq)]
pub enum Object {
    /// DocumentEntry.
    ExtrinsicObject(ExtrinsicObject),
    /// SubmissionSet or Folder.
    RegistryPackage(RegistryPackage),
    /// Association.
    Association(Association),
    /// Classification beside the object that it classifies.
    Classification(Classification),
    /// Reference to a registered object.
    ObjectRef(ObjectRef),
    /// Another ebRIM element; its local name. Its content is passed over.
    Other(String),
}

/// What all registry objects have.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryObject {
    /// `@id`.
    pub id: Option<String>,
    /// `@lid`.
    pub lid: Option<String>,
    /// `@home`.
    pub home: Option<String>,
    /// `@status`.
    pub status: Option<String>,
    /// `@objectType`.
    pub object_type: Option<String>,
    /// `rim:Slot`, repeated names kept.
    pub slots: Vec<Slot>,
    /// `rim:Name`; the strings of a second Name are appended.
    pub name: Option<Vec<LocalizedString>>,
    /// `rim:Description`.
    pub description: Option<Vec<LocalizedString>>,
    /// `rim:VersionInfo/@versionName`; empty if the attribute is absent.
    pub version_name: Option<String>,
    /// Nested `rim:Classification`.
    pub classifications: Vec<Classification>,
    /// Nested `rim:ExternalIdentifier`.
    pub external_identifiers: Vec<ExternalIdentifier>,
}

/// `rim:ExtrinsicObject`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExtrinsicObject {
    /// Common part.
    pub object: RegistryObject,
    /// `@mimeType`.
    pub mime_type: Option<String>,
    /// A document stands inside the entry, where it is not allowed (profile 08 M-146).
    pub holds_document: bool,
}

/// `rim:RegistryPackage`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryPackage {
    /// Common part.
    pub object: RegistryObject,
}

/// `rim:Association`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Association {
    /// Common part.
    pub object: RegistryObject,
    /// `@associationType`.
    pub association_type: Option<String>,
    /// `@sourceObject`.
    pub source_object: Option<String>,
    /// `@targetObject`.
    pub target_object: Option<String>,
}

/// `rim:Classification`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Classification {
    /// Common part.
    pub object: RegistryObject,
    /// `@classificationScheme`.
    pub classification_scheme: Option<String>,
    /// `@classifiedObject`.
    pub classified_object: Option<String>,
    /// `@classificationNode`.
    pub classification_node: Option<String>,
    /// `@nodeRepresentation`.
    pub node_representation: Option<String>,
}

/// `rim:ExternalIdentifier`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExternalIdentifier {
    /// Common part.
    pub object: RegistryObject,
    /// `@registryObject`.
    pub registry_object: Option<String>,
    /// `@identificationScheme`.
    pub identification_scheme: Option<String>,
    /// `@value`.
    pub value: Option<String>,
}

/// `rim:ObjectRef`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectRef {
    /// `@id`.
    pub id: Option<String>,
    /// `@home`.
    pub home: Option<String>,
}

/// `rim:Slot`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// `@name`.
    pub name: Option<String>,
    /// `rim:Value` texts, empty ones kept.
    pub values: Vec<String>,
}

/// `rim:LocalizedString`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LocalizedString {
    /// `@xml:lang`.
    pub lang: Option<String>,
    /// `@charset`.
    pub charset: Option<String>,
    /// `@value`.
    pub value: Option<String>,
}

/// `rim:AdhocQuery`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AdhocQuery {
    /// Common part; the slots are the query parameters.
    pub object: RegistryObject,
    /// A `rim:QueryExpression` (SQL text or filter query) was given.
    pub has_expression: bool,
}

impl RegistryObject {
    /// Slots named `name`.
    pub fn slots_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Slot> {
        self.slots.iter().filter(move |slot| slot.name.as_deref() == Some(name))
    }

    /// Values of the first slot named `name`; empty if absent.
    pub fn values(&self, name: &str) -> &[String] {
        self.slots.iter().find(|slot| slot.name.as_deref() == Some(name)).map_or(&[], |slot| &slot.values)
    }

    /// Value of the first LocalizedString of the Name.
    pub fn name_value(&self) -> Option<&str> {
        self.name.iter().flatten().find_map(|text| text.value.as_deref())
    }

    /// Value of the first LocalizedString of the Description.
    pub fn description_value(&self) -> Option<&str> {
        self.description.iter().flatten().find_map(|text| text.value.as_deref())
    }

    /// Nested classifications of a scheme.
    pub fn classified<'a>(&'a self, scheme: &'a str) -> impl Iterator<Item = &'a Classification> {
        self.classifications.iter().filter(move |c| c.classification_scheme.as_deref() == Some(scheme))
    }

    /// External identifiers of a scheme.
    pub fn identified<'a>(&'a self, scheme: &'a str) -> impl Iterator<Item = &'a ExternalIdentifier> {
        self.external_identifiers.iter().filter(move |x| x.identification_scheme.as_deref() == Some(scheme))
    }
}

impl Object {
    /// The common part; `None` for `ObjectRef` and `Other`.
    pub fn object(&self) -> Option<&RegistryObject> {
        match self {
            Self::ExtrinsicObject(x) => Some(&x.object),
            Self::RegistryPackage(x) => Some(&x.object),
            Self::Association(x) => Some(&x.object),
            Self::Classification(x) => Some(&x.object),
            Self::ObjectRef(_) | Self::Other(_) => None,
        }
    }

    /// `@id` as sent.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::ObjectRef(reference) => reference.id.as_deref(),
            other => other.object().and_then(|object| object.id.as_deref()),
        }
    }
}

/// Debug without values.
macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(<redacted>)"))
            }
        }
    )*};
}
redacted!(
    RegistryObjectList,
    Object,
    RegistryObject,
    ExtrinsicObject,
    RegistryPackage,
    Association,
    Classification,
    ExternalIdentifier,
    Slot,
    LocalizedString,
    AdhocQuery
);

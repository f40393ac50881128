//! Checks of classifications: codes and authors.

use super::super::datatype::{OrganisationDefect, PersonDefect, is_telecom};
use super::super::message::{Class, Coded, Subject, author_scheme, codes_of};
use super::super::problem::Key;
use super::{Emit, Scope};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::rim::Classification;
use idr_ihe::ebxml::scheme::{self, slot};

/// Once per classification, nested or beside its object.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum CodedCheck {
    /// A code without value.
    CodeValueMissing,
    /// A scheme or node that the object does not have.
    SchemeUnknown,
    /// `classifiedObject` absent or not the parent; beside: no object of the message.
    ClassifiedObject,
    /// A code without exactly one coding scheme.
    CodingSchemeMissing,
    /// A code without display name.
    DisplayNameMissing,
    /// An author with a code value.
    AuthorCoded,
    /// An author without person, institution and telecommunication.
    AuthorIncomplete,
    /// An author with several persons.
    AuthorPersons,
    /// authorPerson with this defect; reported for each value.
    Person(PersonDefect),
    /// authorInstitution with this defect; reported for each value.
    Organisation(OrganisationDefect),
    /// authorTelecommunication of another form; reported for each value.
    Telecom,
}

/// What a classification is on its object.
enum Kind {
    Code(&'static Coded),
    Author,
    Node,
    Unknown,
}

impl CodedCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        if let idr_ihe::ebxml::rim::Object::Classification(beside) = subject.raw {
            self.beside(beside, scope, emit);
            return;
        }
        // Which schemes a package has depends on what it is.
        if subject.class == Class::Package {
            return;
        }
        let Some(object) = subject.object() else { return };
        for classification in &object.classifications {
            let kind = kind(subject.class, classification);
            let attribute = match kind {
                Kind::Code(code) => code.name,
                Kind::Author => "author",
                Kind::Node => "classificationNode",
                Kind::Unknown => "classificationScheme",
            };
            match (self, kind) {
                (Self::SchemeUnknown, Kind::Unknown) => {
                    let scheme = classification.classification_scheme.as_deref().or(classification.classification_node.as_deref());
                    emit(&[(Key::Attr, attribute), (Key::Val, scheme.unwrap_or_default())]);
                }
                (Self::ClassifiedObject, Kind::Code(_) | Kind::Author | Kind::Node) => {
                    let named = classification.classified_object.as_deref().map(lower_uuid);
                    if named.is_none() || subject.id().is_some_and(|id| named != Some(lower_uuid(id))) {
                        emit(&[(Key::Attr, attribute)]);
                    }
                }
                (_, Kind::Code(_)) => self.code(classification, attribute, emit),
                (_, Kind::Author) => self.author(classification, emit),
                _ => {}
            }
        }
    }

    /// Beside an object only the nodes of sets, folders and limited metadata can stand (ITI TF-3 §4.2.1).
    fn beside(&self, classification: &Classification, scope: &Scope<'_>, emit: Emit<'_>) {
        let node = classification.classification_node.as_deref();
        match self {
            Self::SchemeUnknown if !node.is_some_and(is_known_node) => {
                let value = classification.classification_scheme.as_deref().or(node);
                emit(&[(Key::Attr, "classificationNode"), (Key::Val, value.unwrap_or_default())]);
            }
            Self::ClassifiedObject => {
                let named = classification.classified_object.as_deref().unwrap_or_default();
                if scope.message.subject(&lower_uuid(named)).is_none() {
                    emit(&[(Key::Attr, "classifiedObject"), (Key::Ref, named)]);
                }
            }
            _ => {}
        }
    }

    fn code(&self, classification: &Classification, attribute: &str, emit: Emit<'_>) {
        let broken = match self {
            Self::CodeValueMissing => classification.node_representation.as_deref().unwrap_or_default().is_empty(),
            Self::CodingSchemeMissing => !matches!(classification.object.values(slot::CODING_SCHEME), [scheme] if !scheme.is_empty()),
            Self::DisplayNameMissing => classification.object.name_value().unwrap_or_default().is_empty(),
            _ => false,
        };
        if broken {
            emit(&[(Key::Attr, attribute)]);
        }
    }

    fn author(&self, classification: &Classification, emit: Emit<'_>) {
        let values = |name: &'static str| classification.object.values(name).iter().filter(|value| !value.is_empty());
        match self {
            Self::AuthorCoded if !classification.node_representation.as_deref().unwrap_or_default().is_empty() => {
                emit(&[(Key::Attr, "author")]);
            }
            Self::AuthorIncomplete => {
                let names = [slot::AUTHOR_PERSON, slot::AUTHOR_INSTITUTION, slot::AUTHOR_TELECOMMUNICATION];
                if names.into_iter().all(|name| values(name).next().is_none()) {
                    emit(&[(Key::Attr, "author")]);
                }
            }
            Self::AuthorPersons if values(slot::AUTHOR_PERSON).nth(1).is_some() => {
                emit(&[(Key::Slot, slot::AUTHOR_PERSON)]);
            }
            Self::Person(defect) => {
                for _ in values(slot::AUTHOR_PERSON).filter(|value| defect.is_in(value)) {
                    emit(&[(Key::Slot, slot::AUTHOR_PERSON)]);
                }
            }
            Self::Organisation(defect) => {
                for _ in values(slot::AUTHOR_INSTITUTION).filter(|value| defect.is_in(value)) {
                    emit(&[(Key::Slot, slot::AUTHOR_INSTITUTION)]);
                }
            }
            Self::Telecom => {
                for _ in values(slot::AUTHOR_TELECOMMUNICATION).filter(|value| !is_telecom(value)) {
                    emit(&[(Key::Slot, slot::AUTHOR_TELECOMMUNICATION)]);
                }
            }
            _ => {}
        }
    }
}

fn kind(class: Class, classification: &Classification) -> Kind {
    match classification.classification_scheme.as_deref() {
        Some(scheme) => match codes_of(class).iter().find(|code| code.scheme == scheme) {
            Some(code) => Kind::Code(code),
            None if author_scheme(class) == Some(scheme) => Kind::Author,
            None => Kind::Unknown,
        },
        None if classification.classification_node.as_deref().is_some_and(is_known_node) => Kind::Node,
        None => Kind::Unknown,
    }
}

fn is_known_node(node: &str) -> bool {
    [scheme::SUBMISSION_SET_NODE, scheme::FOLDER_NODE].contains(&node) || scheme::LIMITED_METADATA_NODES.contains(&node)
}

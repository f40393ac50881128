//! Checks of ids, packages and associations.

use super::super::datatype::{has_uuid_prefix, is_uuid_urn};
use super::super::message::{Class, Membership, Subject};
use super::super::problem::Key;
use super::{Emit, Scope};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::rim::{Association, Object, RegistryObject};
use idr_ihe::ebxml::scheme::{self, slot};

/// Once per object.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum StructureCheck {
    /// Another ebRIM class.
    OtherObject,
    /// Neither SubmissionSet nor Folder, or both.
    PackageUnclassified,
    /// `id` absent or empty, nested classifications and identifiers included.
    IdMissing,
    /// An earlier entry, set, folder, package or association has the id.
    IdRepeated,
    /// An id that begins as a UUID and is none.
    UuidMalformed,
    /// `home` is not ours.
    HomeForeign,
    /// No HasMember from the SubmissionSet.
    NotInSet,
    /// An earlier HasMember has the same ends.
    MembershipRepeated,
    /// Type not among these; some are of updates alone.
    AssociationTypes { in_all: Vec<String>, in_updates: Vec<String> },
    /// An end is absent or empty.
    EndMissing,
    /// Both ends are one object, or an end is the association.
    RefersToItself,
    /// The target is a SubmissionSet.
    TargetIsSet,
    /// HasMember joins what it may not.
    MembershipEnds,
    /// HasMember of a folder is no member of the SubmissionSet.
    FolderMembershipNotInSet,
    /// Membership of an entry without SubmissionSetStatus.
    SetStatusMissing,
    /// SubmissionSetStatus not among these.
    SetStatusIn(Vec<String>),
    /// SubmissionSetStatus with several values.
    SetStatusSeveral,
    /// Original, and the target is not here.
    OriginalOutside,
    /// Reference, and the target is here.
    ReferenceInside,
    /// HasMember with a documentation code.
    DocumentationOnMembership,
    /// Source of a relationship is no entry of the message.
    SourceOutside,
    /// Target of a relationship is an object of the message, but no entry.
    TargetNotEntry,
    /// An earlier replacement has the same target.
    ReplacedTwice,
    /// Several documentation codes, or one without code or scheme.
    DocumentationIncomplete,
}

impl StructureCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        match self {
            Self::OtherObject => {
                if let Object::Other(name) = subject.raw {
                    emit(&[(Key::Val, name)]);
                }
            }
            Self::PackageUnclassified => {
                if subject.class == Class::Package {
                    emit(&[(Key::Attr, "classificationNode")]);
                }
            }
            Self::IdMissing | Self::IdRepeated | Self::UuidMalformed => self.ids(subject, scope, emit),
            Self::HomeForeign => {
                let home = subject.object().and_then(|object| object.home.as_deref());
                let in_scope = matches!(subject.class, Class::Entry | Class::Set | Class::Folder);
                if let Some(home) = home.filter(|home| in_scope && *home != scope.circumstances.home_community_id) {
                    emit(&[(Key::Attr, "home"), (Key::Val, home)]);
                }
            }
            Self::NotInSet => {
                // Without an id the object has been reported already.
                if subject.id().is_some_and(|id| !scope.message.is_member_of_set(&lower_uuid(id))) {
                    emit(&[]);
                }
            }
            _ => {
                if let Some(association) = subject.association() {
                    self.association(subject, association, scope, emit);
                }
            }
        }
    }

    fn ids(&self, subject: &Subject<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        match self {
            Self::IdMissing => {
                if subject.object().is_some_and(|object| object.id.as_deref().unwrap_or_default().is_empty()) {
                    emit(&[(Key::Attr, "id")]);
                }
                for (element, object) in nested(subject) {
                    if object.id.as_deref().unwrap_or_default().is_empty() {
                        emit(&[(Key::Attr, element)]);
                    }
                }
            }
            Self::IdRepeated => {
                let first = subject.id().and_then(|id| scope.message.subject(&lower_uuid(id)));
                let named = !matches!(subject.class, Class::Classification | Class::Reference | Class::Other);
                if named && first.is_some_and(|first| first.index != subject.index) {
                    emit(&[(Key::Attr, "id")]);
                }
            }
            _ => {
                let own = subject.id().map(|id| ("id", id));
                let inner = nested(subject).filter_map(|(element, object)| Some((element, object.id.as_deref()?)));
                for (element, id) in own.into_iter().chain(inner) {
                    if has_uuid_prefix(id) && !is_uuid_urn(id) {
                        emit(&[(Key::Attr, element), (Key::Val, id)]);
                    }
                }
            }
        }
    }

    fn association(&self, subject: &Subject<'_>, association: &Association, scope: &Scope<'_>, emit: Emit<'_>) {
        let message = scope.message;
        match self {
            Self::AssociationTypes { in_all, in_updates } => {
                let kind = association.association_type.as_deref().unwrap_or_default();
                let of_updates = in_updates.iter().filter(|_| message.transaction.is_update());
                if !in_all.iter().chain(of_updates).any(|known| known == kind) {
                    emit(&[(Key::Attr, "associationType"), (Key::Val, kind)]);
                }
                return;
            }
            Self::EndMissing => {
                for (attribute, end) in [("sourceObject", &association.source_object), ("targetObject", &association.target_object)] {
                    if end.as_deref().unwrap_or_default().is_empty() {
                        emit(&[(Key::Attr, attribute)]);
                    }
                }
                return;
            }
            Self::DocumentationIncomplete => {
                let codes: Vec<_> = association.object.classified(scheme::ASSOCIATION_DOCUMENTATION).collect();
                let incomplete = codes.iter().any(|code| {
                    code.node_representation.as_deref().unwrap_or_default().is_empty()
                        || code.object.values(slot::CODING_SCHEME).first().is_none_or(String::is_empty)
                });
                if codes.len() > 1 || incomplete {
                    emit(&[(Key::Attr, "associationDocumentation")]);
                }
                return;
            }
            _ => {}
        }
        let Some(ends) = subject.ends() else { return };
        let membership = message.membership(subject);
        let target = message.class_of(&ends.target);
        let status = || association.object.values(slot::SUBMISSION_SET_STATUS);
        let of_entry = membership == Some(Membership::SetToEntry);
        let broken = match self {
            Self::RefersToItself => {
                let own = subject.id().map(lower_uuid);
                ends.source == ends.target || own.as_ref() == Some(&ends.source) || own.as_ref() == Some(&ends.target)
            }
            Self::TargetIsSet => target == Some(Class::Set),
            Self::MembershipRepeated => subject.is_membership() && message.first_membership(&ends) != Some(subject.index),
            Self::MembershipEnds => membership == Some(Membership::Wrong),
            Self::FolderMembershipNotInSet => {
                membership == Some(Membership::FolderToEntry) && !subject.id().is_some_and(|id| message.is_member_of_set(&lower_uuid(id)))
            }
            Self::SetStatusMissing => of_entry && association.object.slots_named(slot::SUBMISSION_SET_STATUS).next().is_none(),
            Self::SetStatusIn(allowed) => of_entry && status().first().is_some_and(|value| !allowed.contains(value)),
            Self::SetStatusSeveral => of_entry && status().len() > 1,
            Self::OriginalOutside => of_entry && status().first().is_some_and(|value| value == "Original") && target.is_none(),
            Self::ReferenceInside => of_entry && status().first().is_some_and(|value| value == "Reference") && target.is_some(),
            Self::DocumentationOnMembership => {
                subject.is_membership() && association.object.classified(scheme::ASSOCIATION_DOCUMENTATION).next().is_some()
            }
            Self::SourceOutside => subject.is_relationship() && message.class_of(&ends.source) != Some(Class::Entry),
            Self::TargetNotEntry => subject.is_relationship() && target.is_some_and(|class| class != Class::Entry),
            Self::ReplacedTwice => subject.is_replacement() && message.first_replacement(&ends.target) != Some(subject.index),
            _ => false,
        };
        if broken {
            let source_is_wrong = matches!(self, Self::SourceOutside);
            let reference = if source_is_wrong { &association.source_object } else { &association.target_object };
            let of_status = matches!(self, Self::SetStatusMissing | Self::SetStatusIn(_) | Self::SetStatusSeveral);
            let part = match self {
                _ if of_status => (Key::Slot, slot::SUBMISSION_SET_STATUS),
                Self::DocumentationOnMembership => (Key::Attr, "associationDocumentation"),
                Self::SourceOutside => (Key::Attr, "sourceObject"),
                _ => (Key::Attr, "targetObject"),
            };
            let value = if of_status { status().first() } else { None };
            let reference = reference.as_deref().unwrap_or_default();
            emit(&[part, (Key::Ref, reference), (Key::Val, value.map_or("", String::as_str))]);
        }
    }
}

/// Nested classifications and external identifiers.
fn nested<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (&'static str, &'a RegistryObject)> {
    let object = subject.object();
    let classifications = object.into_iter().flat_map(|object| &object.classifications).map(|x| ("Classification", &x.object));
    let identifiers = object.into_iter().flat_map(|object| &object.external_identifiers).map(|x| ("ExternalIdentifier", &x.object));
    classifications.chain(identifiers)
}

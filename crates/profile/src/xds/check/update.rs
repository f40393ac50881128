//! Checks of what an update asks for (ITI-57, ITI-92; profile 08 §7.1), on the message alone.

use super::super::datatype::is_uuid_urn;
use super::super::message::{Class, Operation, Subject};
use super::super::problem::Key;
use super::{Emit, Scope};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::rim::RegistryObject;
use idr_ihe::ebxml::scheme::slot::{ASSOCIATION_PROPAGATION, NEW_STATUS, ORIGINAL_STATUS, PREVIOUS_VERSION, SUBMISSION_SET_STATUS};
use idr_ihe::metadata::AvailabilityStatus;

/// Once per object of an update.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum UpdateCheck {
    /// No operation in the message, reported at the set; or an association that belongs to none.
    OperationUnknown,
    /// `lid` absent, or the object's own id.
    InitialVersion,
    /// `lid` is no UUID.
    LogicalIdMalformed,
    /// An earlier object has the `lid`.
    UpdatedTwice,
    /// The set's HasMember has no PreviousVersion.
    PreviousVersionMissing,
    /// PreviousVersion or AssociationPropagation malformed, a Slot of another operation, or no HasMember of the set.
    AnnotationWrong,
    /// OriginalStatus or NewStatus absent, no status or equal; or the target is the set.
    StatusChangeMalformed,
    /// No `home`.
    HomeMissing,
    /// `home` is no community that is known here.
    HomeUnknown,
    /// A folder.
    FolderUpdated,
    /// AssociationPropagation is `no`.
    PropagationOff,
}

impl UpdateCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        let message = scope.message;
        let versioned = matches!(subject.class, Class::Entry | Class::Folder);
        match self {
            Self::OperationUnknown => {
                let nothing =
                    || !message.subjects().any(|other| message.operation(&other).is_some_and(|asked| asked != Operation::Submitted));
                let broken = match subject.class {
                    Class::Set => nothing(),
                    // One without its ends has been reported.
                    Class::Association => subject.ends().is_some() && message.operation(subject).is_none(),
                    _ => false,
                };
                if broken {
                    emit(&[]);
                }
            }
            Self::InitialVersion => {
                let own = subject.id().map(lower_uuid);
                if versioned && (subject.logical_id().is_none() || subject.logical_id() == own) {
                    emit(&[(Key::Attr, "lid")]);
                }
            }
            Self::LogicalIdMalformed => {
                if versioned && subject.logical_id().is_some_and(|lid| !is_uuid_urn(&lid)) {
                    emit(&[]);
                }
            }
            Self::UpdatedTwice => {
                let first = subject.logical_id().and_then(|lid| message.first_logical_id(&lid));
                if versioned && first.is_some_and(|first| first != subject.index) {
                    emit(&[]);
                }
            }
            Self::PreviousVersionMissing => {
                let of_version = message.operation(subject) == Some(Operation::Version);
                if of_version && subject.object().is_some_and(|object| object.values(PREVIOUS_VERSION).is_empty()) {
                    emit(&[(Key::Slot, PREVIOUS_VERSION)]);
                }
            }
            Self::AnnotationWrong => {
                if versioned && subject.id().is_some_and(|id| message.link_of(&lower_uuid(id)).is_none()) {
                    emit(&[]);
                }
                let Some(object) = subject.object() else { return };
                match message.operation(subject) {
                    Some(Operation::Version) => {
                        let malformed = |name: &'static str, fits: fn(&str) -> bool| {
                            let values = object.values(name);
                            let wrong = object.slots_named(name).count() > 1 || values.len() > 1 || values.iter().any(|value| !fits(value));
                            wrong.then_some(name)
                        };
                        let wrong = malformed(PREVIOUS_VERSION, |value| version(value).is_some())
                            .or_else(|| malformed(ASSOCIATION_PROPAGATION, |value| matches!(value, "yes" | "no")))
                            .or_else(|| foreign(object, &[ORIGINAL_STATUS, NEW_STATUS]));
                        wrong.into_iter().for_each(|slot| emit(&[(Key::Slot, slot)]));
                    }
                    Some(Operation::Status) => {
                        let wrong = foreign(object, &[PREVIOUS_VERSION, ASSOCIATION_PROPAGATION, SUBMISSION_SET_STATUS]);
                        wrong.into_iter().for_each(|slot| emit(&[(Key::Slot, slot)]));
                    }
                    Some(Operation::Submit) => {
                        let all = [PREVIOUS_VERSION, ASSOCIATION_PROPAGATION, SUBMISSION_SET_STATUS, ORIGINAL_STATUS, NEW_STATUS];
                        foreign(object, &all).into_iter().for_each(|slot| emit(&[(Key::Slot, slot)]));
                    }
                    Some(Operation::Submitted) | None => {}
                }
            }
            Self::HomeMissing | Self::HomeUnknown => {
                let home = subject.object().and_then(|object| object.home.as_deref()).filter(|home| !home.is_empty());
                let broken = match self {
                    Self::HomeMissing => home.is_none(),
                    _ => home.is_some_and(|home| home != scope.circumstances.home_community_id),
                };
                if broken {
                    emit(&[(Key::Attr, "home"), (Key::Home, home.unwrap_or_default())]);
                }
            }
            Self::FolderUpdated => emit(&[]),
            Self::PropagationOff => {
                if subject.object().is_some_and(|object| object.values(ASSOCIATION_PROPAGATION) == ["no"]) {
                    emit(&[]);
                }
            }
            Self::StatusChangeMalformed => {
                if message.operation(subject) != Some(Operation::Status) {
                    return;
                }
                let (Some(object), Some(ends)) = (subject.object(), subject.ends()) else { return };
                let broken = match (status(object, ORIGINAL_STATUS), status(object, NEW_STATUS)) {
                    (None, _) => Some(ORIGINAL_STATUS),
                    (_, None) => Some(NEW_STATUS),
                    (Some(original), Some(new)) if original == new => Some(NEW_STATUS),
                    _ => None,
                };
                if let Some(slot) = broken {
                    emit(&[(Key::Slot, slot)]);
                } else if message.class_of(&ends.target) == Some(Class::Set) {
                    emit(&[]);
                }
            }
        }
    }
}

/// A Slot that belongs to another operation.
fn foreign(object: &RegistryObject, names: &[&'static str]) -> Option<&'static str> {
    names.iter().find(|name| object.slots_named(name).next().is_some()).copied()
}

/// The one status of a Slot.
pub(in crate::xds) fn status(object: &RegistryObject, name: &str) -> Option<AvailabilityStatus> {
    match object.values(name) {
        [urn] => AvailabilityStatus::from_urn(urn),
        _ => None,
    }
}

/// A version: an integer ≥ 1 in decimal digits.
pub(in crate::xds) fn version(value: &str) -> Option<u32> {
    let digits = value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
    value.parse().ok().filter(|version| digits && *version >= 1)
}

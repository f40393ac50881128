//! Checks of slots and external identifiers.

use super::super::message::{CLASSIFICATION_SLOTS, Class, Subject, identifiers_of, known_slots};
use super::super::problem::Key;
use super::Emit;
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::rim::Slot;
use std::collections::HashSet;

/// Once per slot, of the object and of what it holds, or once per external identifier.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum PartCheck {
    /// A scheme that the object does not have.
    IdentificationSchemeUnknown,
    /// A scheme twice.
    IdentifierRepeated,
    /// Name absent or not the fixed one.
    IdentifierName,
    /// registryObject absent or not the parent, value absent or empty.
    IdentifierIncomplete,
    /// A slot without name.
    SlotNameMissing,
    /// A name twice in one object.
    SlotRepeated,
    /// No value, or an empty one.
    SlotValueEmpty,
    /// A value with more characters.
    SlotValueLongerThan(usize),
    /// A name below this prefix that has no meaning here.
    SlotUnknownBelow(String),
    /// A name outside of this prefix that has no meaning here.
    SlotUnknownOutside(String),
}

impl PartCheck {
    pub fn judge(&self, subject: &Subject<'_>, emit: Emit<'_>) {
        // Which identifiers and slots a package has depends on what it is.
        let Some(object) = subject.object().filter(|_| subject.class != Class::Package) else { return };
        match self {
            Self::IdentificationSchemeUnknown | Self::IdentifierRepeated | Self::IdentifierName | Self::IdentifierIncomplete => {
                self.identifiers(subject, emit);
            }
            _ => {
                self.slots(&object.slots, known_slots(subject.class), emit);
                for classification in &object.classifications {
                    self.slots(&classification.object.slots, &CLASSIFICATION_SLOTS, emit);
                }
                for identifier in &object.external_identifiers {
                    self.slots(&identifier.object.slots, &[], emit);
                }
            }
        }
    }

    fn identifiers(&self, subject: &Subject<'_>, emit: Emit<'_>) {
        let known = identifiers_of(subject.class);
        let mut seen = HashSet::new();
        for identifier in subject.object().into_iter().flat_map(|object| &object.external_identifiers) {
            let scheme = identifier.identification_scheme.as_deref().unwrap_or_default();
            let row = known.iter().find(|(_, known, _)| *known == scheme);
            let attribute = row.map_or("identificationScheme", |(name, ..)| name);
            let (broken, value) = match self {
                Self::IdentificationSchemeUnknown => (row.is_none(), scheme),
                Self::IdentifierRepeated => (!seen.insert(scheme), ""),
                Self::IdentifierName => (row.is_some_and(|(.., name)| identifier.object.name_value() != Some(name)), ""),
                _ => {
                    let parent = identifier.registry_object.as_deref().map(lower_uuid);
                    let differs = parent.is_none() || subject.id().is_some_and(|id| parent != Some(lower_uuid(id)));
                    (differs || identifier.value.as_deref().unwrap_or_default().is_empty(), "")
                }
            };
            if broken {
                emit(&[(Key::Attr, attribute), (Key::Val, value)]);
            }
        }
    }

    fn slots(&self, slots: &[Slot], known: &[&str], emit: Emit<'_>) {
        let mut seen = HashSet::new();
        for slot in slots {
            let name = slot.name.as_deref().unwrap_or_default();
            let unknown = || !name.is_empty() && !known.contains(&name);
            let broken = match self {
                Self::SlotNameMissing => name.is_empty(),
                Self::SlotRepeated => !name.is_empty() && !seen.insert(name),
                Self::SlotValueEmpty => slot.values.is_empty() || slot.values.iter().any(String::is_empty),
                Self::SlotValueLongerThan(max) => slot.values.iter().any(|value| value.chars().count() > *max),
                Self::SlotUnknownBelow(prefix) => unknown() && name.starts_with(prefix.as_str()),
                Self::SlotUnknownOutside(prefix) => unknown() && !name.starts_with(prefix.as_str()),
                _ => false,
            };
            if broken {
                emit(&[(Key::Slot, if name.is_empty() { "-" } else { name })]);
            }
        }
    }
}

//! What an update changes (ITI-57, ITI-92; profile 08 §7.1), once every rule holds.

use super::check::{STUDY_INSTANCE_UID, status, version};
use super::datatype::Components;
use super::message::{Class, Message, Operation, Subject};
use super::state::{LatestVersion, RegistryView, Versioned};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::scheme::slot;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry};

/// A new version of an entry or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// Its id in the message, an UUID in lower case or symbolic.
    pub id: String,
    /// `lid`.
    pub logical_id: String,
    /// entryUUID of the version before.
    pub previous: String,
    /// Its version.
    pub version: u32,
    /// Are the Approved associations of the version before repeated for it?
    pub propagate: bool,
}

/// A change of availabilityStatus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    /// entryUUID of the object, or the id of a new version in the message.
    pub target: String,
    /// The new status.
    pub status: AvailabilityStatus,
}

/// All that an update changes besides adding its objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New versions, in message order.
    pub versions: Vec<NewVersion>,
    /// Changes of status, in message order; of an object that gets a new version too: of that one.
    pub statuses: Vec<StatusChange>,
}

/// What a message that passed all three stages changes. Nothing, if it is no update.
pub fn changes(message: &Message<'_>, view: &RegistryView) -> Changes {
    let mut changes = Changes::default();
    if !message.transaction.is_update() {
        return changes;
    }
    for subject in message.subjects().filter(|subject| matches!(subject.class, Class::Entry | Class::Folder)) {
        let (Some(id), Some(logical_id), Some(latest)) = (subject.id(), subject.logical_id(), latest(&subject, view)) else { continue };
        let propagation = message.link_of(&lower_uuid(id)).and_then(|link| link.object()?.values(slot::ASSOCIATION_PROPAGATION).first());
        changes.versions.push(NewVersion {
            id: lower_uuid(id),
            logical_id,
            previous: latest.entry_uuid.clone(),
            version: latest.version.saturating_add(1),
            propagate: propagation.is_none_or(|value| value != "no"),
        });
    }
    for subject in message.subjects().filter(|subject| message.operation(subject) == Some(Operation::Status)) {
        let (Some(ends), Some(object)) = (subject.ends(), subject.object()) else { continue };
        let Some(status) = status(object, slot::NEW_STATUS) else { continue };
        let follower = changes.versions.iter().find(|new| new.previous == ends.target);
        let target = follower.map_or(ends.target, |new| new.id.clone());
        changes.statuses.push(StatusChange { target, status });
    }
    changes
}

/// Study Instance UID that an entry's referenceIdList names.
pub fn study_of(entry: &DocumentEntry) -> Option<String> {
    let mut ids = entry.reference_ids.iter().map(|value| Components::of(value));
    ids.find(|id| id.get(5) == STUDY_INSTANCE_UID).map(|id| id.get(1).to_owned())
}

/// The current version that an entry or folder of the message follows, if the caller may correct it.
pub(super) fn latest<'v>(subject: &Subject<'_>, view: &'v RegistryView) -> Option<&'v LatestVersion> {
    let latest = view.latest.get(&subject.logical_id()?).filter(|latest| latest.correctable)?;
    matches!((subject.class, &latest.content), (Class::Entry, Versioned::Entry(_)) | (Class::Folder, Versioned::Folder(_)))
        .then_some(latest)
}

/// PreviousVersion of an entry or folder, if it can be read.
pub(super) fn previous_version(subject: &Subject<'_>, message: &Message<'_>) -> Option<u32> {
    let link = message.link_of(&lower_uuid(subject.id()?))?;
    version(link.object()?.values(slot::PREVIOUS_VERSION).first()?)
}

/// Status of an object whose status is to change: registered and the caller's to correct, or a new version in the message.
pub(super) fn current_status(id: &str, message: &Message<'_>, view: &RegistryView) -> Option<AvailabilityStatus> {
    match message.class_of(id) {
        Some(Class::Entry | Class::Folder) => Some(AvailabilityStatus::Approved),
        Some(_) => None,
        None => {
            let object = view.objects.get(id).filter(|object| object.correctable)?;
            (object.kind != super::StoredKind::SubmissionSet).then_some(object.status)
        }
    }
}

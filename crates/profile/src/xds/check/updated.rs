//! Checks of an update against what is registered (profile 08 §7.1). All of them run inside the patient's lock.

use super::super::datatype::Components;
use super::super::message::{Class, Ends, Operation, Subject};
use super::super::problem::Key;
use super::super::state::{LatestVersion, RegistryView, StoredKind, Versioned};
use super::super::update;
use super::{Emit, Scope};
use idr_ihe::ebxml::scheme::slot;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry};

/// Stage 3, once per object of an update.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum UpdatedCheck {
    /// No object of this class with the `lid` that the caller may correct.
    UpdateUnknown,
    /// PreviousVersion is another than the current one.
    VersionNotCurrent,
    /// One of these attributes differs from the current version's; reported for each.
    AttributesChanged(Vec<String>),
    /// One of these attributes of a manifest's entry differs; reported for each.
    ManifestAttributesChanged(Vec<String>),
    /// The patient is not that of the current version and of the set.
    PatientChanged,
    /// OriginalStatus is another than the current one.
    StatusNotCurrent,
    /// The object of a status change, or an end of a submitted association, is unknown or not the caller's to correct.
    OperandUnknown,
    /// An end of a submitted association is deprecated.
    SubmittedEndDeprecated,
    /// The ends of a submitted association are of two patients.
    SubmittedEndsOfPatients,
}

impl UpdatedCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, view: &RegistryView, emit: Emit<'_>) {
        if matches!(subject.class, Class::Entry | Class::Folder) {
            self.version(subject, scope, view, emit);
        } else if let Some(ends) = subject.ends() {
            match scope.message.operation(subject) {
                Some(Operation::Status) => self.status_change(subject, &ends, scope, view, emit),
                Some(Operation::Submitted) => self.submitted(subject, &ends, scope, view, emit),
                _ => {}
            }
        }
    }

    fn version(&self, subject: &Subject<'_>, scope: &Scope<'_>, view: &RegistryView, emit: Emit<'_>) {
        let latest = update::latest(subject, view);
        if matches!(self, Self::UpdateUnknown) {
            if latest.is_none() {
                emit(&[(Key::Conflict, "version")]);
            }
            return;
        }
        let Some(latest) = latest else { return };
        match self {
            Self::VersionNotCurrent => {
                let previous = update::previous_version(subject, scope.message);
                if previous.is_some_and(|previous| previous != latest.version) {
                    emit(&[(Key::Conflict, "version")]);
                }
            }
            Self::AttributesChanged(names) => {
                let changed = changed(subject, scope, latest);
                names.iter().filter(|name| changed.contains(&name.as_str())).for_each(|name| emit(&[(Key::Attr, name)]));
            }
            Self::ManifestAttributesChanged(names) if latest.manifest.is_some() => {
                let changed = changed(subject, scope, latest);
                names.iter().filter(|name| changed.contains(&name.as_str())).for_each(|name| emit(&[(Key::Attr, name)]));
            }
            Self::PatientChanged => {
                let sent = subject.identifier("patientId").unwrap_or_default();
                let of = |subject: &Subject<'_>| idr_ihe::metadata::PatientId::parse_cx(subject.identifier("patientId")?).ok();
                let of_set = scope.message.set().and_then(|set| of(&set));
                let own = of(subject);
                let same = |other: Option<&idr_ihe::metadata::PatientId>| match (&own, other) {
                    (Some(own), Some(other)) => view.head(own) == view.head(other),
                    _ => false,
                };
                if !same(Some(&latest.patient)) || !same(of_set.as_ref()) {
                    emit(&[(Key::Attr, "patientId"), (Key::Pid, sent)]);
                }
            }
            _ => {}
        }
    }

    fn status_change(&self, subject: &Subject<'_>, ends: &Ends, scope: &Scope<'_>, view: &RegistryView, emit: Emit<'_>) {
        let association = subject.association();
        let sent = association.and_then(|association| association.target_object.as_deref()).unwrap_or_default();
        let current = update::current_status(&ends.target, scope.message, view);
        match (self, current) {
            (Self::OperandUnknown, None) => emit(&[(Key::Ref, sent)]),
            (Self::StatusNotCurrent, Some(current)) => {
                let original = subject.object().and_then(|object| super::update::status(object, slot::ORIGINAL_STATUS));
                if original.is_some_and(|original| original != current) {
                    emit(&[(Key::Attr, "availabilityStatus")]);
                }
            }
            _ => {}
        }
    }

    fn submitted(&self, subject: &Subject<'_>, ends: &Ends, scope: &Scope<'_>, view: &RegistryView, emit: Emit<'_>) {
        let known = |id: &str| view.visible(id).filter(|object| matches!(object.kind, StoredKind::Entry { .. } | StoredKind::Folder));
        let (source, target) = (known(&ends.source), known(&ends.target));
        let association = subject.association();
        let sent = |end: &'static str| {
            let id =
                association.and_then(|of| if end == "sourceObject" { of.source_object.as_deref() } else { of.target_object.as_deref() });
            id.unwrap_or_default().to_owned()
        };
        let here = |id: &str| scope.message.class_of(id).is_some();
        let patients = source.zip(target).map(|(source, target)| (view.head(&source.patient), view.head(&target.patient)));
        match self {
            Self::OperandUnknown => {
                for (name, id, object) in [("sourceObject", &ends.source, source), ("targetObject", &ends.target, target)] {
                    // Objects of two patients are told as such; two of another patient than the caller's are unknown.
                    let hidden = object.is_some_and(|object| !object.correctable) && patients.is_none_or(|(a, b)| a == b);
                    if object.is_none() && !here(id) || hidden {
                        emit(&[(Key::Ref, &sent(name))]);
                    }
                }
            }
            Self::SubmittedEndDeprecated => {
                for (name, object) in [("sourceObject", source), ("targetObject", target)] {
                    if object.is_some_and(|object| object.status == AvailabilityStatus::Deprecated) {
                        emit(&[(Key::Attr, name)]);
                    }
                }
            }
            Self::SubmittedEndsOfPatients if patients.is_some_and(|(source, target)| source != target) => {
                let set = scope.message.set();
                emit(&[(Key::Pid, set.and_then(|set| set.identifier("patientId")).unwrap_or_default())]);
            }
            _ => {}
        }
    }
}

/// Names of the attributes in which an update differs from the current version.
fn changed(subject: &Subject<'_>, scope: &Scope<'_>, latest: &LatestVersion) -> Vec<&'static str> {
    let submission = scope.message.submission();
    let id = subject.id().map(idr_ihe::ebxml::lower_uuid).unwrap_or_default();
    match &latest.content {
        Versioned::Entry(old) => {
            submission.entries.iter().find(|entry| entry.entry_uuid == id).map_or(Vec::new(), |new| changed_attributes(old, new))
        }
        Versioned::Folder(old) => {
            let new = submission.folders.iter().find(|folder| folder.entry_uuid == id);
            if new.is_some_and(|new| new.unique_id != old.unique_id) { vec!["uniqueId"] } else { Vec::new() }
        }
    }
}

/// Attributes that rules name. Codes are compared without their display.
fn changed_attributes(old: &DocumentEntry, new: &DocumentEntry) -> Vec<&'static str> {
    let code = |entry: &DocumentEntry| entry.format_code.as_ref().map(|code| (code.code.clone(), code.system.clone()));
    let pairs = [
        ("objectType", old.entry_type != new.entry_type),
        ("repositoryUniqueId", old.repository_unique_id != new.repository_unique_id),
        ("uniqueId", old.unique_id != new.unique_id),
        ("mimeType", old.mime_type != new.mime_type),
        ("formatCode", code(old) != code(new)),
        ("studyInstanceUID", manifest_study(old) != manifest_study(new)),
        ("hash", old.hash != new.hash),
        ("size", old.size != new.size),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// Study that an entry's referenceIdList names.
fn manifest_study(entry: &DocumentEntry) -> Option<String> {
    let mut ids = entry.reference_ids.iter().map(|value| Components::of(value));
    ids.find(|id| id.get(5) == super::STUDY_INSTANCE_UID).map(|id| id.get(1).to_owned())
}

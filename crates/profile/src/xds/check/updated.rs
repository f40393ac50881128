//! Checks of an update against what is registered (profile 08 §7.1). All of them run inside the patient's lock.

use super::super::judge::fill_sender_defaults;
use super::super::message::{Class, Ends, Operation, Subject};
use super::super::problem::Key;
use super::super::state::{LatestVersion, RegistryView, StoredKind, Versioned};
use super::super::update::{self, study_of};
use super::{Emit, Scope};
use idr_ihe::ebxml::scheme::slot;
use idr_ihe::metadata::{AvailabilityStatus, DocumentEntry};

/// Stage 3, once per object of an update.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum UpdatedCheck {
    /// No object of this class with the `lid` that the caller may correct.
    UpdateUnknown,
    /// PreviousVersion is another than the current one, or the current one is Deprecated: a correction of metadata does not
    /// make it Approved.
    VersionNotCurrent,
    /// One of these attributes differs from the current version's; reported for each.
    AttributesChanged(Vec<String>),
    /// One of these attributes of a manifest's entry differs; reported for each.
    ManifestAttributesChanged(Vec<String>),
    /// An attribute besides these that the set in force does not let change (`rmu.attributes`) differs; reported for each.
    OtherAttributesChanged(Vec<String>),
    /// The patient is not that of the current version and of the set.
    PatientChanged,
    /// OriginalStatus is another than the current one, or the object is an older version.
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
                let deprecated = latest.status == AvailabilityStatus::Deprecated;
                if deprecated || previous.is_some_and(|previous| previous != latest.version) {
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
            Self::OtherAttributesChanged(named) => {
                let allowed = &scope.rules.rmu.attributes;
                for name in changed(subject, scope, latest).iter().filter(|name| **name != "studyInstanceUID") {
                    if !allowed.contains(*name) && !named.iter().any(|named| named == name) {
                        emit(&[(Key::Attr, name)]);
                    }
                }
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
                // An older version has no status of its own to change: that of the newest is current.
                let older = view.objects.get(&ends.target).is_some_and(|object| !object.newest);
                if older || original.is_some_and(|original| original != current) {
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
            let new = submission.entries.iter().find(|entry| entry.entry_uuid == id).cloned();
            new.map_or(Vec::new(), |new| {
                // As it would be registered.
                let mut filled = idr_ihe::metadata::Submission { entries: vec![new], ..Default::default() };
                let circumstances = scope.circumstances;
                fill_sender_defaults(&mut filled, circumstances.defaults, circumstances.slots);
                changed_attributes(old, &filled.entries[0])
            })
        }
        Versioned::Folder(old) => {
            let new = submission.folders.iter().find(|folder| folder.entry_uuid == id);
            if new.is_some_and(|new| new.unique_id != old.unique_id) { vec!["uniqueId"] } else { Vec::new() }
        }
    }
}

/// Attributes of an entry that differ, by their names in ITI TF-3 §4.2.3.2; extra metadata as one, `slots`. Fixed codes are
/// compared without their display. patientId is not among them: merges decide there.
fn changed_attributes(old: &DocumentEntry, new: &DocumentEntry) -> Vec<&'static str> {
    let code = |code: &Option<idr_ihe::metadata::Code>| code.as_ref().map(|code| (code.code.clone(), code.system.clone()));
    let pairs = [
        ("objectType", old.entry_type != new.entry_type),
        ("repositoryUniqueId", old.repository_unique_id != new.repository_unique_id),
        ("uniqueId", old.unique_id != new.unique_id),
        ("mimeType", old.mime_type != new.mime_type),
        ("formatCode", code(&old.format_code) != code(&new.format_code)),
        ("studyInstanceUID", study_of(old) != study_of(new)),
        ("hash", old.hash != new.hash),
        ("size", old.size != new.size),
        ("sourcePatientId", old.source_patient_id != new.source_patient_id),
        ("documentAvailability", old.document_availability != new.document_availability),
        ("sourcePatientInfo", old.source_patient_info != new.source_patient_info),
        ("creationTime", old.creation_time != new.creation_time),
        ("serviceStartTime", old.service_start_time != new.service_start_time),
        ("serviceStopTime", old.service_stop_time != new.service_stop_time),
        ("languageCode", old.language_code != new.language_code),
        ("title", old.title != new.title),
        ("comments", old.comments != new.comments),
        ("author", old.authors != new.authors),
        ("classCode", old.class_code != new.class_code),
        ("typeCode", old.type_code != new.type_code),
        ("confidentialityCode", old.confidentiality_codes != new.confidentiality_codes),
        ("eventCodeList", old.event_codes != new.event_codes),
        ("healthcareFacilityTypeCode", old.facility_type_code != new.facility_type_code),
        ("practiceSettingCode", old.practice_setting_code != new.practice_setting_code),
        ("referenceIdList", old.reference_ids != new.reference_ids),
        ("legalAuthenticator", old.legal_authenticator != new.legal_authenticator),
        ("URI", old.uri != new.uri),
        ("slots", sorted(&old.extra) != sorted(&new.extra)),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn sorted(slots: &idr_ihe::metadata::Slots) -> Vec<&(String, Vec<String>)> {
    let mut slots: Vec<_> = slots.iter().collect();
    slots.sort_unstable();
    slots
}

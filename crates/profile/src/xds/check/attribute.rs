//! Checks of the attributes of entries, sets and folders.

use super::super::datatype::{
    Components, dtm_instant, dtm_start, is_complete_authority, is_document_unique_id, is_oid_form, is_person, is_recipient, is_uri,
};
use super::super::message::{Class, Subject, codes_of, extra_slot_names, identifiers_of};
use super::super::problem::Key;
use super::{Emit, Pattern, Scope};
use idr_ihe::ebxml::lower_uuid;
use idr_ihe::ebxml::rim::{LocalizedString, RegistryObject};
use idr_ihe::ebxml::scheme::{self, slot};
use idr_ihe::metadata::{PatientId, PatientIdError};

/// Once per object of the classes that the rule names.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum AttributeCheck {
    /// objectType not among these.
    ObjectTypeIn(Vec<String>),
    /// objectType among these.
    ObjectTypeNotIn(Vec<String>),
    /// mimeType absent or empty.
    MimeTypeMissing,
    /// mimeType of another form.
    MimeTypePattern(Pattern),
    /// mimeType not in `mime_types`.
    MimeTypeNotListed,
    /// `status` given and not Approved.
    StatusNotApproved,
    /// One of these slots is absent; reported for each.
    SlotsMissing(Vec<String>),
    /// One of these slots of an entry is absent; some are of Stable entries alone. Reported for each.
    EntrySlotsMissing { all: Vec<String>, stable: Vec<String> },
    /// One of these slots is there; reported for each.
    SlotsProhibited(Vec<String>),
    /// One of these slots has no value or several; reported for each.
    SlotsNotSingle(Vec<String>),
    /// A value of these slots is no DTM; reported for each.
    Times(Vec<String>),
    /// The first slot is later than the second, at common precision.
    TimesReversed(String, String),
    /// The slot is later than now and `future_tolerance_s`.
    TimeInFuture(String),
    /// A value of the slot is of another form.
    SlotPattern { slot: String, pattern: Pattern },
    /// The slot is no decimal number up to `max`.
    SlotNumber { slot: String, max: u64 },
    /// The slot is no OID.
    SlotOid(String),
    /// The slot is no patient id.
    SlotPatientId(String),
    /// size 0 without this hash, or the reverse.
    EmptyDocument(String),
    /// sourcePatientInfo value not `PID-n|…`.
    PatientInfoForm,
    /// sourcePatientInfo field that may not be sent.
    PatientInfoFields { prohibited: Vec<u32>, max: u32 },
    /// External identifier absent.
    IdentifierMissing(String),
    /// External identifier that is no OID.
    IdentifierOid(String),
    /// External identifier absent or no OID.
    IdentifierOidMissing(String),
    /// patientId with this defect.
    PatientId(PatientIdDefect),
    /// uniqueId with more characters.
    UniqueIdLongerThan(usize),
    /// An OID with more characters.
    OidLongerThan(usize),
    /// uniqueId of a document of no known form.
    UniqueIdForm,
    /// An earlier object has the uniqueId.
    UniqueIdRepeated,
    /// Another patient than the SubmissionSet's.
    PatientDiffersFromSet,
    /// `lid` given and not the id.
    LogicalId,
    /// Document content inside the entry.
    DocumentInside,
    /// Title with more characters.
    TitleLongerThan(usize),
    /// No title.
    TitleMissing,
    /// Title or comments in another charset or with control characters.
    TextEncoding,
    /// URI of another form.
    UriMalformed,
    /// legalAuthenticator is no person.
    LegalAuthenticator,
    /// referenceIdList value with this defect; reported for each.
    ReferenceId(ReferenceIdDefect),
    /// Code absent.
    CodeMissing(String),
    /// A single-valued code twice; reported for each attribute.
    CodeRepeated,
    /// Limited metadata.
    LimitedMetadata,
    /// intendedRecipient value of another form; reported for each.
    RecipientMalformed,
    /// Extra slots beyond `extra_slots_max`; reported for each.
    SlotsBeyondLimit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum PatientIdDefect {
    /// Empty id, or more components than the first and the fourth.
    Form,
    /// Namespace id in the authority.
    Namespace,
    /// Authority absent or no ISO OID.
    Authority,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::xds) enum ReferenceIdDefect {
    /// Empty id, or more than six components.
    Form,
    /// Authority without OID or type ISO.
    Authority,
    /// No type.
    Type,
}

impl AttributeCheck {
    pub fn judge(&self, subject: &Subject<'_>, scope: &Scope<'_>, emit: Emit<'_>) {
        let Some(object) = subject.object() else { return };
        match self {
            Self::ObjectTypeIn(_)
            | Self::ObjectTypeNotIn(_)
            | Self::MimeTypeMissing
            | Self::MimeTypePattern(_)
            | Self::MimeTypeNotListed => {
                self.kind(subject, object, scope, emit);
            }
            Self::SlotsMissing(_)
            | Self::EntrySlotsMissing { .. }
            | Self::SlotsProhibited(_)
            | Self::SlotsNotSingle(_)
            | Self::Times(_)
            | Self::TimesReversed(..)
            | Self::TimeInFuture(_)
            | Self::SlotPattern { .. }
            | Self::SlotNumber { .. }
            | Self::SlotOid(_)
            | Self::SlotPatientId(_)
            | Self::EmptyDocument(_) => self.slots(object, scope, emit),
            Self::PatientInfoForm
            | Self::PatientInfoFields { .. }
            | Self::ReferenceId(_)
            | Self::RecipientMalformed
            | Self::UriMalformed
            | Self::LegalAuthenticator => {
                self.values(object, emit);
            }
            Self::IdentifierMissing(_)
            | Self::IdentifierOid(_)
            | Self::IdentifierOidMissing(_)
            | Self::PatientId(_)
            | Self::UniqueIdLongerThan(_)
            | Self::OidLongerThan(_)
            | Self::UniqueIdForm
            | Self::UniqueIdRepeated
            | Self::PatientDiffersFromSet => self.identifiers(subject, object, scope, emit),
            Self::StatusNotApproved => {
                if let Some(status) = object.status.as_deref().filter(|status| *status != scheme::APPROVED) {
                    emit(&[(Key::Attr, "availabilityStatus"), (Key::Val, status)]);
                }
            }
            Self::LogicalId => {
                let differs = |lid: &&str| object.id.as_deref().map(lower_uuid) != Some(lower_uuid(lid));
                if let Some(lid) = object.lid.as_deref().filter(differs) {
                    emit(&[(Key::Attr, "logicalID"), (Key::Val, lid)]);
                }
            }
            Self::DocumentInside => {
                if subject.entry().is_some_and(|entry| entry.holds_document) {
                    emit(&[(Key::Attr, "Document")]);
                }
            }
            Self::TitleLongerThan(max) => {
                if object.name_value().is_some_and(|title| title.chars().count() > *max) {
                    emit(&[(Key::Attr, "title")]);
                }
            }
            Self::TitleMissing => {
                if object.name_value().unwrap_or_default().is_empty() {
                    emit(&[(Key::Attr, "title")]);
                }
            }
            Self::TextEncoding => {
                for (attribute, texts) in [("title", &object.name), ("comments", &object.description)] {
                    if texts.iter().flatten().any(is_badly_encoded) {
                        emit(&[(Key::Attr, attribute)]);
                    }
                }
            }
            Self::CodeMissing(name) => {
                let scheme = codes_of(subject.class).iter().find(|code| code.name == name).map(|code| code.scheme);
                if scheme.is_some_and(|scheme| object.classified(scheme).next().is_none()) {
                    emit(&[(Key::Attr, name)]);
                }
            }
            Self::CodeRepeated => {
                for code in codes_of(subject.class).iter().filter(|code| code.single) {
                    if object.classified(code.scheme).nth(1).is_some() {
                        emit(&[(Key::Attr, code.name)]);
                    }
                }
            }
            Self::LimitedMetadata => {
                let is_limited = |node: Option<&str>| node.is_some_and(|node| scheme::LIMITED_METADATA_NODES.contains(&node));
                let nested = object.classifications.iter().any(|x| is_limited(x.classification_node.as_deref()));
                let beside = subject.id().is_some_and(|id| scope.message.is_limited(id));
                if nested || beside {
                    emit(&[(Key::Attr, "limitedMetadata")]);
                }
            }
            Self::SlotsBeyondLimit => {
                let names = extra_slot_names(object, subject.class, scope.circumstances.slots);
                for name in names.iter().skip(scope.rules.extra_slots_max) {
                    emit(&[(Key::Slot, name)]);
                }
            }
        }
    }

    fn kind(&self, subject: &Subject<'_>, object: &RegistryObject, scope: &Scope<'_>, emit: Emit<'_>) {
        let object_type = object.object_type.as_deref().map(lower_uuid).unwrap_or_default();
        let mime_type = subject.entry().and_then(|entry| entry.mime_type.as_deref()).unwrap_or_default();
        let (attribute, value, broken) = match self {
            Self::ObjectTypeIn(known) => ("objectType", object_type.as_str(), !known.contains(&object_type)),
            Self::ObjectTypeNotIn(known) => ("objectType", object_type.as_str(), known.contains(&object_type)),
            Self::MimeTypeMissing => ("mimeType", "", subject.class == Class::Entry && mime_type.is_empty()),
            Self::MimeTypePattern(pattern) => ("mimeType", mime_type, !mime_type.is_empty() && !pattern.is_match(mime_type)),
            _ => {
                let listed = scope.rules.mime_types.is_empty() || scope.rules.mime_types.iter().any(|known| known == mime_type);
                ("mimeType", mime_type, !mime_type.is_empty() && !listed)
            }
        };
        if broken {
            emit(&[(Key::Attr, attribute), (Key::Val, value)]);
        }
    }

    fn slots(&self, object: &RegistryObject, scope: &Scope<'_>, emit: Emit<'_>) {
        let values = |name: &str| object.values(name).iter().map(String::as_str).filter(|value| !value.is_empty());
        match self {
            Self::SlotsMissing(names) => {
                for name in names.iter().filter(|name| object.slots_named(name).next().is_none()) {
                    emit(&[(Key::Slot, name)]);
                }
            }
            Self::EntrySlotsMissing { all, stable } => {
                let on_demand =
                    object.object_type.as_deref().map(idr_ihe::ebxml::lower_uuid).as_deref() == Some(idr_ihe::ebxml::scheme::ON_DEMAND);
                // In the order of their names.
                let mut names: Vec<&String> = stable.iter().filter(|_| !on_demand).chain(all).collect();
                names.sort_unstable();
                for name in names.into_iter().filter(|name| object.slots_named(name).next().is_none()) {
                    emit(&[(Key::Slot, name)]);
                }
            }
            Self::SlotsProhibited(names) => {
                for name in names.iter().filter(|name| object.slots_named(name).next().is_some()) {
                    emit(&[(Key::Slot, name)]);
                }
            }
            Self::SlotsNotSingle(names) => {
                for name in names.iter().filter(|name| object.slots_named(name).next().is_some_and(|slot| slot.values.len() != 1)) {
                    emit(&[(Key::Slot, name)]);
                }
            }
            Self::Times(names) => {
                for (name, value) in names.iter().flat_map(|name| values(name).map(move |value| (name, value))) {
                    if dtm_start(value).is_none() {
                        emit(&[(Key::Slot, name), (Key::Val, value)]);
                    }
                }
            }
            Self::TimesReversed(start, stop) => {
                let (Some(first), Some(last)) = (values(start).next(), values(stop).next()) else { return };
                let precision = first.len().min(last.len());
                if dtm_start(first).is_some() && dtm_start(last).is_some() && first[..precision] > last[..precision] {
                    emit(&[(Key::Slot, stop), (Key::Val, last)]);
                }
            }
            Self::TimeInFuture(name) => {
                let Some(value) = values(name).next() else { return };
                let tolerance = scope.rules.future_tolerance_s;
                let latest = scope.circumstances.now.as_second().saturating_add(i64::from(tolerance));
                if tolerance > 0 && dtm_instant(value).is_some_and(|instant| instant.as_second() > latest) {
                    emit(&[(Key::Slot, name), (Key::Val, value)]);
                }
            }
            Self::SlotPattern { slot, pattern } => {
                for value in values(slot).filter(|value| !pattern.is_match(value)) {
                    emit(&[(Key::Slot, slot), (Key::Val, value)]);
                }
            }
            Self::SlotNumber { slot, max } => {
                let is_number = |value: &str| value.bytes().all(|b| b.is_ascii_digit()) && value.parse::<u64>().is_ok_and(|n| n <= *max);
                for value in values(slot).filter(|value| !is_number(value)) {
                    emit(&[(Key::Slot, slot), (Key::Val, value)]);
                }
            }
            Self::SlotOid(name) => {
                for value in values(name).filter(|value| !is_oid_form(value)) {
                    emit(&[(Key::Slot, name), (Key::Val, value)]);
                }
            }
            Self::SlotPatientId(name) => {
                for _ in values(name).filter(|value| PatientId::parse_cx(value).is_err()) {
                    emit(&[(Key::Slot, name)]);
                }
            }
            Self::EmptyDocument(hash_of_nothing) => {
                let has_size_0 = values(slot::SIZE).next().is_some_and(|size| size.bytes().all(|b| b == b'0'));
                let has_hash = values(slot::HASH).next().is_some_and(|hash| hash.eq_ignore_ascii_case(hash_of_nothing));
                if has_size_0 != has_hash {
                    emit(&[(Key::Slot, slot::SIZE)]);
                }
            }
            _ => {}
        }
    }

    fn values(&self, object: &RegistryObject, emit: Emit<'_>) {
        let values = |name: &'static str| object.values(name).iter().map(String::as_str).filter(|value| !value.is_empty());
        match self {
            Self::PatientInfoForm => {
                for _ in values(slot::SOURCE_PATIENT_INFO).filter(|value| patient_info_field(value).is_none()) {
                    emit(&[(Key::Slot, slot::SOURCE_PATIENT_INFO)]);
                }
            }
            Self::PatientInfoFields { prohibited, max } => {
                for field in values(slot::SOURCE_PATIENT_INFO).filter_map(patient_info_field) {
                    if prohibited.contains(&field) || field > *max || field == 0 {
                        emit(&[(Key::Slot, slot::SOURCE_PATIENT_INFO), (Key::Val, &format!("PID-{field}"))]);
                    }
                }
            }
            Self::ReferenceId(defect) => {
                for _ in values(slot::REFERENCE_ID_LIST).filter(|value| defect.is_in(value)) {
                    emit(&[(Key::Slot, slot::REFERENCE_ID_LIST)]);
                }
            }
            Self::RecipientMalformed => {
                for _ in values(slot::INTENDED_RECIPIENT).filter(|value| !is_recipient(value)) {
                    emit(&[(Key::Slot, slot::INTENDED_RECIPIENT)]);
                }
            }
            Self::UriMalformed => {
                // A long URI may come in parts, each with its number and a bar in front.
                let unnumbered = |part: &String| match part.split_once('|') {
                    Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest.to_owned(),
                    _ => part.clone(),
                };
                for slot in object.slots_named(slot::URI) {
                    if !is_uri(&slot.values.iter().map(unnumbered).collect::<String>()) {
                        emit(&[(Key::Slot, slot::URI)]);
                    }
                }
            }
            Self::LegalAuthenticator => {
                let persons = object.values(slot::LEGAL_AUTHENTICATOR);
                if !persons.is_empty() && !matches!(persons, [person] if is_person(person)) {
                    emit(&[(Key::Slot, slot::LEGAL_AUTHENTICATOR)]);
                }
            }
            _ => {}
        }
    }

    fn identifiers(&self, subject: &Subject<'_>, object: &RegistryObject, scope: &Scope<'_>, emit: Emit<'_>) {
        match self {
            Self::IdentifierMissing(name) => {
                let scheme = identifiers_of(subject.class).iter().find(|(known, ..)| known == name);
                if scheme.is_some_and(|(_, scheme, _)| object.identified(scheme).next().is_none()) {
                    emit(&[(Key::Attr, name)]);
                }
            }
            Self::IdentifierOid(name) => {
                if let Some(value) = subject.identifier(name).filter(|value| !is_oid_form(value)) {
                    emit(&[(Key::Attr, name), (Key::Val, value)]);
                }
            }
            Self::IdentifierOidMissing(name) => {
                let value = subject.identifier(name);
                if !value.is_some_and(is_oid_form) {
                    emit(&[(Key::Attr, name), (Key::Val, value.unwrap_or_default())]);
                }
            }
            Self::PatientId(defect) => {
                let error = subject.identifier("patientId").and_then(|cx| PatientId::parse_cx(cx).err());
                if error.is_some_and(|error| defect.is(error)) {
                    emit(&[(Key::Attr, "patientId")]);
                }
            }
            Self::UniqueIdLongerThan(max) if subject.identifier("uniqueId").is_some_and(|id| id.chars().count() > *max) => {
                emit(&[(Key::Attr, "uniqueId")]);
            }
            Self::OidLongerThan(max) => {
                for (attribute, oid) in oids(subject, object) {
                    if oid.len() > *max && is_oid_form(oid) {
                        emit(&[(Key::Attr, attribute), (Key::Val, oid)]);
                    }
                }
            }
            Self::UniqueIdForm => {
                if let Some(id) = subject.identifier("uniqueId").filter(|id| !is_document_unique_id(id)) {
                    emit(&[(Key::Attr, "uniqueId"), (Key::Val, id)]);
                }
            }
            Self::UniqueIdRepeated => {
                if let Some(id) = subject.identifier("uniqueId").filter(|id| scope.message.first_unique_id(id) != Some(subject.index)) {
                    emit(&[(Key::Attr, "uniqueId"), (Key::Uid, id)]);
                }
            }
            Self::PatientDiffersFromSet => {
                let of_set = scope.message.set().and_then(|set| set.identifier("patientId"));
                let own = subject.identifier("patientId");
                if let (Some(own), Some(of_set)) = (own, of_set)
                    && own != of_set
                {
                    emit(&[(Key::Attr, "patientId"), (Key::Pid, own), (Key::Conflict, "set")]);
                }
            }
            _ => {}
        }
    }
}

impl PatientIdDefect {
    fn is(self, error: PatientIdError) -> bool {
        matches!(
            (self, error),
            (Self::Form, PatientIdError::Form)
                | (Self::Namespace, PatientIdError::Namespace)
                | (Self::Authority, PatientIdError::Authority)
        )
    }
}

impl ReferenceIdDefect {
    fn is_in(self, cxi: &str) -> bool {
        let id = Components::of(cxi);
        match self {
            Self::Form => id.get(1).is_empty() || cxi.split('^').count() > 6,
            Self::Authority => !id.get(4).is_empty() && !is_complete_authority(id.get(4)),
            Self::Type => id.get(5).is_empty(),
        }
    }
}

/// `n` of `PID-n|…`.
fn patient_info_field(value: &str) -> Option<u32> {
    let (field, _) = value.strip_prefix("PID-")?.split_once('|')?;
    if field.is_empty() || !field.bytes().all(|b| b.is_ascii_digit()) { None } else { Some(field.parse().unwrap_or(u32::MAX)) }
}

fn is_badly_encoded(text: &LocalizedString) -> bool {
    text.charset.as_deref().is_some_and(|charset| !charset.eq_ignore_ascii_case("UTF-8"))
        || text.value.as_deref().is_some_and(|value| value.chars().any(char::is_control))
}

/// Places of an object where an OID can stand.
fn oids<'a>(subject: &Subject<'a>, object: &'a RegistryObject) -> Vec<(&'static str, &'a str)> {
    let mut oids = Vec::new();
    for attribute in ["uniqueId", "sourceId"] {
        if let Some(value) = subject.identifier(attribute) {
            oids.push((attribute, value.strip_prefix("urn:oid:").unwrap_or(value)));
        }
    }
    if let Some(authority) = subject.identifier("patientId").and_then(authority_oid) {
        oids.push(("patientId", authority));
    }
    for value in object.values(slot::SOURCE_PATIENT_ID) {
        oids.extend(authority_oid(value).map(|oid| (slot::SOURCE_PATIENT_ID, oid)));
    }
    oids.extend(object.values(slot::REPOSITORY_UNIQUE_ID).iter().map(|oid| (slot::REPOSITORY_UNIQUE_ID, oid.as_str())));
    for classification in &object.classifications {
        oids.extend(classification.object.values(slot::CODING_SCHEME).iter().map(|oid| (slot::CODING_SCHEME, oid.as_str())));
    }
    oids
}

fn authority_oid(cx: &str) -> Option<&str> {
    cx.split('^').nth(3)?.split('&').nth(1)
}

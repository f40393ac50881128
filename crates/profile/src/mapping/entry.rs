//! DocumentEntry, SubmissionSet, folder and associations of one revision (profile 02 §4).

use super::attributes::{Attributes, PersonName};
use super::{FolderUse, HAS_MEMBER, MappingError, Member, REPLACES, Settings, Study, accessions, ids, time};
use idr_ihe::metadata::{Association, Author, Code, DocumentEntry, EntryType, Folder, Slots, Submission, SubmissionSet, is_oid};
use std::collections::BTreeMap;

/// What one submission is made of.
pub(super) struct Parts<'a> {
    pub study: &'a Study<'a>,
    pub settings: &'a Settings<'a>,
    pub reference: &'a Member,
    pub document_uid: &'a str,
    pub entry_uuid: &'a str,
    pub set_uid: &'a str,
    /// `YYYYMMDDhhmmss`, UTC.
    pub as_of: &'a str,
    pub kos: &'a [u8],
}

/// SNOMED CT; also the OID of SRT (PS3.16 §8.1).
const SNOMED: &str = "2.16.840.1.113883.6.96";
/// Longest slot value, characters (ITI TF-3 §4.2.3.1).
const SLOT_VALUE_MAX: usize = 256;
/// Longest title, characters (02 §4.1).
const TITLE_MAX: usize = 128;

pub(super) fn submission(parts: &Parts<'_>) -> Result<Submission, MappingError> {
    let Parts { study, settings, reference, set_uid, as_of, .. } = parts;
    let entry = document_entry(parts)?;
    let set = submission_set(study, settings, &reference.attributes, set_uid, as_of)?;
    let mut associations = vec![member(&set.entry_uuid, &entry.entry_uuid)];
    associations.extend(study.replaces.map(|target| association(REPLACES, &entry.entry_uuid, target)));
    let mut folders = Vec::new();
    let folder_uuid = match (study.folder, study.service_event) {
        (FolderUse::Create, Some(event)) => {
            let folder = folder(study, settings, event);
            // ITI TF-3 §4.2.1.3: a folder that a submission makes is a member of its submission set.
            associations.push(member(&set.entry_uuid, &folder.entry_uuid));
            let uuid = folder.entry_uuid.clone();
            folders.push(folder);
            Some(uuid)
        }
        (FolderUse::Existing(uuid), _) => Some(uuid.to_owned()),
        (FolderUse::None, _) | (FolderUse::Create, None) => None,
    };
    if let Some(folder_uuid) = folder_uuid {
        let joins = association(HAS_MEMBER, &folder_uuid, &entry.entry_uuid);
        associations.push(member(&set.entry_uuid, &joins.entry_uuid));
        associations.push(joins);
    }
    Ok(Submission { submission_sets: vec![set], entries: vec![entry], folders, associations })
}

/// §4.2.
pub(super) fn submission_set(
    study: &Study<'_>,
    settings: &Settings<'_>,
    reference: &Attributes,
    set_uid: &str,
    as_of: &str,
) -> Result<SubmissionSet, MappingError> {
    Ok(SubmissionSet {
        entry_uuid: ids::set_uuid(set_uid),
        unique_id: set_uid.to_owned(),
        source_id: study.source.to_owned(),
        patient_id: study.patient.clone(),
        submission_time: Some(as_of.to_owned()),
        content_type_code: Some(settings.domain.codes.content_type.clone()),
        authors: vec![Author { institutions: vec![institution(study, reference)?], ..Author::default() }],
        title: None,
        comments: None,
        intended_recipients: Vec::new(),
        home_community_id: None,
        status: None,
        extra: Slots::new(),
    })
}

/// §4.3.
fn folder(study: &Study<'_>, settings: &Settings<'_>, service_event: &str) -> Folder {
    let (entry_uuid, unique_id) = ids::folder_ids(service_event);
    Folder {
        entry_uuid,
        logical_id: None,
        version: None,
        unique_id,
        patient_id: study.patient.clone(),
        codes: settings.domain.codes.folder.iter().cloned().collect(),
        title: Some(service_event.to_owned()),
        comments: None,
        last_update_time: None,
        home_community_id: None,
        status: None,
        extra: Slots::new(),
    }
}

/// §4.4.
pub(super) fn association(association_type: &str, source: &str, target: &str) -> Association {
    Association {
        entry_uuid: ids::association_uuid(association_type, source, target),
        association_type: association_type.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        status: None,
        slots: Slots::new(),
        documentation: None,
    }
}

fn member(set: &str, target: &str) -> Association {
    let slots = vec![("SubmissionSetStatus".to_owned(), vec!["Original".to_owned()])];
    Association { slots, ..association(HAS_MEMBER, set, target) }
}

/// §4.1.
fn document_entry(parts: &Parts<'_>) -> Result<DocumentEntry, MappingError> {
    let Parts { study, settings, reference, document_uid, entry_uuid, as_of, kos, .. } = parts;
    let from = &reference.attributes;
    let domain = settings.domain;
    let codes = &domain.codes;
    let study_code = study_code(from).and_then(|code| (settings.study_codes)(&code));
    let entry = DocumentEntry {
        entry_uuid: (*entry_uuid).to_owned(),
        logical_id: None,
        version: None,
        status: None,
        entry_type: EntryType::Stable,
        mime_type: "application/dicom".to_owned(),
        unique_id: (*document_uid).to_owned(),
        patient_id: study.patient.clone(),
        source_patient_id: Some(study.source_patient.clone()),
        source_patient_info: source_patient_info(study, from),
        creation_time: Some((*as_of).to_owned()),
        service_start_time: service_start_time(study, settings),
        service_stop_time: None,
        language_code: Some(study.language.unwrap_or(&domain.language).to_owned()),
        hash: Some(sha1(kos)),
        size: Some(kos.len() as u64),
        repository_unique_id: None,
        home_community_id: None,
        title: title(from, study_code.as_ref()),
        comments: None,
        authors: vec![author(study, settings, from)?],
        class_code: Some(codes.class.clone()),
        type_code: Some(study_code.or_else(|| procedure(from, settings)).unwrap_or_else(|| codes.type_default.clone())),
        format_code: Some(super::format_code()),
        confidentiality_codes: vec![codes.confidentiality.clone()],
        event_codes: event_codes(study, settings),
        facility_type_code: Some(study.facility_type.unwrap_or(&codes.facility_type).clone()),
        practice_setting_code: Some(domain.practice_setting(&from.modality).clone()),
        reference_ids: reference_ids(study),
        legal_authenticator: None,
        uri: None,
        document_availability: None,
        extra: extra(study, settings),
    };
    check_lengths(&entry)?;
    Ok(entry)
}

fn sha1(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes))
}

fn source_patient_info(study: &Study<'_>, from: &Attributes) -> Vec<String> {
    let mut info = vec![format!("PID-3|{}", study.source_patient.to_cx())];
    let name = hl7_name(&from.patient_name);
    if !name.is_empty() {
        info.push(format!("PID-5|{name}"));
    }
    if let Some(date) = time::da(&from.patient_birth_date) {
        info.push(format!("PID-7|{}", date.strftime("%Y%m%d")));
    }
    if matches!(from.patient_sex.as_str(), "M" | "F" | "O") {
        info.push(format!("PID-8|{}", from.patient_sex));
    }
    info
}

/// Minimum over the registrable instances (§6). A time of less precision comes before the times it contains.
fn service_start_time(study: &Study<'_>, settings: &Settings<'_>) -> Option<String> {
    let registrable = study.members.iter().filter(|member| (settings.registrable)(&member.attributes.modality));
    registrable.filter_map(|member| time::start(&member.attributes.dates(), settings.zone)).map(|start| start.dtm).min()
}

/// First five characters of Study Description, leading SPACE removed, in upper case (01 D402).
fn study_code(from: &Attributes) -> Option<String> {
    let description = from.study_description.as_deref()?.trim_start_matches(' ').to_uppercase();
    let code: String = description.chars().take(5).collect();
    (code.chars().count() == 5).then_some(code)
}

fn title(from: &Attributes, study_code: Option<&Code>) -> Option<String> {
    let title = match study_code {
        Some(code) => format!("{} {}", code.code, code.display),
        None => from.study_description.clone()?,
    };
    let cut: String = title.chars().take(TITLE_MAX).collect();
    Some(cut.trim_end().to_owned()).filter(|title| !title.is_empty())
}

/// The first item of Procedure Code Sequence with a scheme that is configured.
fn procedure(from: &Attributes, settings: &Settings<'_>) -> Option<Code> {
    from.procedure_code.iter().flatten().find_map(|coded| {
        let scheme = coded.scheme.as_ref().filter(|scheme| settings.procedure_coding_schemes.contains(scheme))?;
        let code = coded.item.code_value.clone().filter(|code| !code.is_empty())?;
        let display = coded.item.code_meaning.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| code.clone());
        Some(Code { code, system: scheme.clone(), display })
    })
}

/// Each distinct registrable modality, then each distinct anatomic region of M, both sorted by code.
fn event_codes(study: &Study<'_>, settings: &Settings<'_>) -> Vec<Code> {
    let mut modalities = BTreeMap::new();
    let mut regions = BTreeMap::new();
    for from in study.members.iter().map(|member| &member.attributes) {
        if (settings.registrable)(&from.modality) {
            modalities.entry(from.modality.clone()).or_insert_with(|| settings.domain.modality(&from.modality));
        }
        let coded = from.anatomic_region.iter().filter_map(|coded| {
            let known = matches!(coded.item.coding_scheme_designator.as_deref(), Some("SCT" | "SRT"));
            let code = coded.item.code_value.clone().filter(|code| known && !code.is_empty())?;
            let display = coded.item.code_meaning.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| code.clone());
            Some(Code { code, system: SNOMED.to_owned(), display })
        });
        let mut found: Vec<Code> = coded.collect();
        if found.is_empty() {
            found.extend(settings.domain.regions.get(&from.body_part_examined).cloned());
        }
        for code in found {
            regions.entry((code.code.clone(), code.system.clone())).or_insert(code);
        }
    }
    modalities.into_values().chain(regions.into_values()).collect()
}

/// §4.5.
fn author(study: &Study<'_>, settings: &Settings<'_>, from: &Attributes) -> Result<Author, MappingError> {
    let config = &settings.domain.author;
    let coded = |code: &Option<Code>| code.iter().map(|code| format!("{}^^^&{}&ISO", escape(&code.code), code.system)).collect();
    let default = config.person_default.as_ref().map(|person| PersonName {
        name: format!("{}^{}", person.family, person.given),
        id: person.id.clone(),
        scheme: person.system.clone(),
    });
    let persons = [Some(&from.performing_physician), Some(&from.operator), default.as_ref()];
    Ok(Author {
        person: persons.into_iter().flatten().find_map(xcn),
        institutions: vec![institution(study, from)?],
        roles: coded(&config.role),
        specialties: coded(&config.specialty),
        telecommunications: Vec::new(),
    })
}

/// `id^family^given^middle^suffix^prefix^^^&oid&ISO`. `None`: neither an id with its OID nor a family name.
fn xcn(person: &PersonName) -> Option<String> {
    let name = hl7_name(&person.name);
    let family = name.split('^').next().unwrap_or_default();
    match (&person.id, &person.scheme) {
        (Some(id), Some(oid)) if is_oid(oid) => {
            let missing = 4_usize.saturating_sub(name.matches('^').count());
            Some(format!("{}^{name}{}^^^&{oid}&ISO", escape(id), "^".repeat(missing)))
        }
        _ if family.is_empty() => None,
        _ => Some(format!("^{name}")),
    }
}

/// `name^^^^^^^^^oid`, or the name alone.
fn institution(study: &Study<'_>, from: &Attributes) -> Result<String, MappingError> {
    let own = from.institution_name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let name = own.or(study.controlled.service_unit_name.as_deref()).map(escape);
    let oid = from.institution_oid().or(study.controlled.service_unit.as_deref());
    match (name, oid) {
        (None, None) => Err(MappingError::Institution),
        (name, None) => Ok(name.unwrap_or_default()),
        (name, Some(oid)) => Ok(format!("{}^^^^^^^^^{oid}", name.unwrap_or_default())),
    }
}

/// A DICOM name (family^given^middle^prefix^suffix, alphabetic group) as family^given^middle^suffix^prefix, without
/// trailing `^`.
fn hl7_name(name: &str) -> String {
    let alphabetic = name.split('=').next().unwrap_or_default();
    let part = |index| escape(alphabetic.split('^').nth(index).unwrap_or_default().trim());
    let parts = [part(0), part(1), part(2), part(4), part(3)];
    parts.join("^").trim_end_matches('^').to_owned()
}

/// HL7 v2 §2.7.1.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\E\\"),
            '|' => out.push_str("\\F\\"),
            '^' => out.push_str("\\S\\"),
            '&' => out.push_str("\\T\\"),
            '~' => out.push_str("\\R\\"),
            c => out.push(c),
        }
    }
    out
}

/// §4.6.
fn reference_ids(study: &Study<'_>) -> Vec<String> {
    let mut ids = vec![format!("{}^^^^urn:ihe:iti:xds:2016:studyInstanceUID", study.study_instance_uid)];
    for (number, issuer) in accessions(study) {
        let issuer = issuer.map(|oid| format!("&{oid}&ISO")).unwrap_or_default();
        ids.push(format!("{}^^^{issuer}^urn:ihe:iti:xds:2013:accession", escape(number)));
    }
    let requests = study.members.iter().flat_map(|member| &member.attributes.requests);
    let mut orders: Vec<String> = requests
        .filter(|request| !request.placer_order_number.is_empty())
        .filter_map(|request| Some((&request.placer_order_number, request.placer_issuer.as_ref()?)))
        .map(|(number, oid)| format!("{}^^^&{oid}&ISO^urn:ihe:iti:xds:2013:order", escape(number)))
        .collect();
    orders.sort_unstable();
    orders.dedup();
    ids.extend(orders);
    ids.extend(study.service_event.map(|event| format!("{event}^^^^urn:ihe:iti:xds:2015:encounterId")));
    ids
}

/// §4.7, in the order of its table.
fn extra(study: &Study<'_>, settings: &Settings<'_>) -> Slots {
    let names = &settings.domain.slots;
    let row = study.controlled;
    [
        (&names.controller_id, Some(row.controller.as_str())),
        (&names.controller_type, row.controller_type.as_deref()),
        (&names.register_code, Some(row.register.as_str())),
        (&names.register_specifier, row.specifier.as_deref()),
        (&names.service_event_id, study.service_event),
        (&names.service_unit_id, row.service_unit.as_deref()),
        (&names.producer_id, row.producer.as_deref()),
        (&names.rule_set, Some(study.rule_set)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.clone(), vec![value?.to_owned()])))
    .collect()
}

fn check_lengths(entry: &DocumentEntry) -> Result<(), MappingError> {
    let too_long = |value: &String| value.chars().count() > SLOT_VALUE_MAX;
    let author = &entry.authors;
    let own = [
        ("sourcePatientInfo", entry.source_patient_info.iter().any(too_long)),
        ("referenceIdList", entry.reference_ids.iter().any(too_long)),
        ("authorPerson", author.iter().filter_map(|author| author.person.as_ref()).any(too_long)),
        ("authorInstitution", author.iter().flat_map(|author| &author.institutions).any(too_long)),
    ];
    let extra = entry.extra.iter().map(|(name, values)| (name.as_str(), values.iter().any(too_long)));
    match own.into_iter().chain(extra).find(|(_, long)| *long) {
        Some((attribute, _)) => Err(MappingError::TooLong { attribute: attribute.to_owned() }),
        None => Ok(()),
    }
}

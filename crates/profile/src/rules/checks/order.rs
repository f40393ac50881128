//! Study code, accession, service event, organisation (group D4).

use super::super::check::{CarrierFault, InstitutionFault, StudyCodeFault};
use super::super::facts::{Facts, iso_oid};
use super::super::time::date;
use super::{Found, any, fails};
use crate::identifier::YTunnus;
use crate::identifier::organisation::{business_id_arc, is_same_or_below};
use crate::scan::{DataSet, tags};
use dicom_core::Tag;
use idr_ihe::metadata::is_oid;

/// The first five characters of Study Description, leading SPACE removed, upper-cased.
pub(in super::super) fn study_code_of(description: &str) -> String {
    description.trim_start_matches(' ').chars().take(5).collect::<String>().to_uppercase()
}

pub(super) fn study_code(facts: &Facts<'_>, fault: StudyCodeFault) -> Found {
    let code = study_code_of(&facts.text(tags::STUDY_DESCRIPTION)?);
    let rows = facts.codes.rows(&code);
    if facts.codes.is_empty() {
        return fails(fault == StudyCodeFault::Shape && !facts.parameters.study_code_shape.is_match(&code));
    }
    fails(match fault {
        StudyCodeFault::Shape => false,
        StudyCodeFault::Unknown => rows.is_empty(),
        StudyCodeFault::NotInForce => {
            let day = facts.text(tags::STUDY_DATE).and_then(|text| date(&text))?;
            !rows.is_empty() && !rows.iter().any(|row| row.is_in_force(day))
        }
        StudyCodeFault::Differs => {
            let known = |item: DataSet<'_>| scheme_oid(item).is_some_and(|oid| facts.parameters.procedure_coding_schemes.contains(&oid));
            let mut items = facts.top.items(tags::PROCEDURE_CODE_SEQUENCE).filter(|item| known(*item));
            !rows.is_empty() && !items.any(|item| item.text(tags::CODE_VALUE).as_ref() == Some(&code))
        }
        StudyCodeFault::Modality => {
            let modality = facts.text(tags::MODALITY).filter(|modality| facts.parameters.modalities_registrable.contains(modality))?;
            let mut stated = rows.iter().filter(|row| !row.modalities.is_empty()).peekable();
            stated.peek().is_some() && !stated.any(|row| row.modalities.contains(&modality))
        }
    })
}

pub(super) fn coding_scheme(facts: &Facts<'_>, sequence: Tag) -> Found {
    let known = |scheme: String| facts.parameters.procedure_coding_schemes.contains(&scheme);
    fails(!facts.top.items(sequence).filter_map(scheme_oid).any(known))
}

/// OID of the coding scheme of a code item: (0008,010C), else (0008,0110), else (0008,0102) if it is an OID.
fn scheme_oid(item: DataSet<'_>) -> Option<String> {
    const CODING_SCHEME_IDENTIFICATION: Tag = Tag(0x0008, 0x0110);
    let uid = item.uid(tags::CODING_SCHEME_UID).map(str::to_owned);
    uid.or_else(|| item.first_text(CODING_SCHEME_IDENTIFICATION))
        .or_else(|| item.first_text(tags::CODING_SCHEME_DESIGNATOR).filter(|text| is_oid(text)))
}

pub(super) fn accession_issuer(facts: &Facts<'_>) -> Found {
    let own = iso_oid(facts.top, tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE);
    fails(own.is_none() && facts.context.accession_issuer.is_none())
}

pub(super) fn item_differs(facts: &Facts<'_>, sequence: Tag, tag: Tag) -> Found {
    let own = facts.text(tag);
    fails(facts.top.items(sequence).filter_map(|item| item.text(tag)).any(|text| own.as_ref() != Some(&text)))
}

fn carriers<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (Tag, String)> + 'a {
    facts.parameters.service_event_carriers.iter().filter_map(|carrier| Some((carrier.value, facts.text(carrier.value)?)))
}

pub(super) fn carrier(facts: &Facts<'_>, fault: CarrierFault) -> Found {
    let form = &facts.parameters.service_event_pattern;
    match fault {
        CarrierFault::Missing => fails(carriers(facts).next().is_none()),
        CarrierFault::Form => any(carriers(facts).filter(|(_, id)| !form.is_match(id)).map(|(tag, _)| tag)),
        CarrierFault::Foreign => any(carriers(facts).filter(|(_, id)| form.is_match(id) && !is_own(facts, id)).map(|(tag, _)| tag)),
    }
}

/// The organisation arc of the OID is one of `organisation_oids`.
fn is_own(facts: &Facts<'_>, oid: &str) -> bool {
    let arc = business_id_arc(oid);
    arc.is_some() && facts.context.organisation_oids.iter().any(|own| business_id_arc(own) == arc)
}

/// OIDs of an item of Institution Code Sequence.
fn institution_oids(item: DataSet<'_>) -> impl Iterator<Item = String> {
    [tags::URN_CODE_VALUE, tags::LONG_CODE_VALUE, tags::CODE_VALUE].into_iter().filter_map(move |tag| {
        let text = item.text(tag)?;
        let oid = text.strip_prefix("urn:oid:").unwrap_or(&text);
        (oid.starts_with("1.2.246.10.") && is_oid(oid)).then(|| oid.to_owned())
    })
}

pub(super) fn institution(facts: &Facts<'_>, fault: InstitutionFault) -> Found {
    let own = |oid: &String| facts.context.organisation_oids.iter().any(|own| is_same_or_below(oid, own));
    fails(facts.top.items(tags::INSTITUTION_CODE_SEQUENCE).any(|item| match fault {
        InstitutionFault::Form => institution_oids(item).next().is_none(),
        InstitutionFault::Foreign => institution_oids(item).next().is_some() && !institution_oids(item).any(|oid| own(&oid)),
    }))
}

/// D435: the OIDs that D310, D422 and D433 use.
pub(super) fn organisation_number(facts: &Facts<'_>) -> Found {
    let invalid = |oid: &str| business_id_arc(oid).is_some_and(|arc| YTunnus::parse(arc.trim_start_matches('0')).is_none());
    let issuer_tag = match facts.issuer.as_ref().map(|issuer| issuer.step) {
        Some(1) => Some(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE),
        Some(2 | 3) => Some(tags::ISSUER_OF_PATIENT_ID),
        _ => None,
    };
    let issuer = facts.temporary_issuer().filter(|oid| invalid(oid)).and(issuer_tag);
    let carriers = carriers(facts).filter(|(_, id)| invalid(id)).map(|(tag, _)| tag);
    let institution = facts.top.items(tags::INSTITUTION_CODE_SEQUENCE).flat_map(institution_oids).any(|oid| invalid(&oid));
    any(issuer.into_iter().chain(carriers).chain(institution.then_some(tags::INSTITUTION_CODE_SEQUENCE)))
}

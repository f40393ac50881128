//! Patient identity (group D3).

use super::super::check::{HetuFault, IssuerFault, NameFault, TemporaryFault};
use super::super::facts::{Facts, hetu_holds, iso_oid, issuer_of};
use super::super::time;
use super::{Found, fails};
use crate::identifier::hetu::Parts;
use crate::scan::tags;
use idr_ihe::metadata::is_oid;

pub(super) fn issuer(facts: &Facts<'_>, fault: IssuerFault) -> Found {
    let issuer = facts.issuer.as_ref();
    fails(match fault {
        IssuerFault::NotInObject => issuer.is_none_or(|issuer| issuer.step > 3),
        IssuerFault::NotAccepted => match issuer {
            None => true,
            Some(issuer) => !facts.parameters.patient_id_issuers.contains(&issuer.oid) && facts.temporary_issuer().is_none(),
        },
        IssuerFault::Contradiction => {
            let text = facts.text(tags::ISSUER_OF_PATIENT_ID).filter(|text| is_oid(text));
            let item = iso_oid(facts.top, tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE);
            text.zip(item).is_some_and(|(text, item)| text != item)
        }
    })
}

pub(super) fn hetu(facts: &Facts<'_>, fault: HetuFault) -> Found {
    if !facts.is_hetu || facts.patient_id.is_none() {
        return None;
    }
    let Some(parts) = facts.hetu else { return fails(fault == HetuFault::Syntax) };
    fails(match fault {
        HetuFault::Syntax => false,
        HetuFault::Date => parts.birth_date().is_none_or(|birth| birth > facts.today),
        HetuFault::CheckCharacter => !parts.check_holds(),
        HetuFault::Number => parts.number() < 2,
        HetuFault::TestRange => parts.is_test_range(),
        HetuFault::BirthDate => {
            let birth = facts.text(tags::PATIENT_BIRTH_DATE).and_then(|text| time::date(&text));
            birth.zip(parts.birth_date()).is_some_and(|(stated, encoded)| stated != encoded)
        }
        HetuFault::Sex => match facts.text(tags::PATIENT_SEX).as_deref() {
            Some("M") => !parts.is_male(),
            Some("F") => parts.is_male(),
            _ => false,
        },
    })
}

pub(super) fn temporary(facts: &Facts<'_>, fault: TemporaryFault) -> Found {
    let oid = facts.temporary_issuer()?;
    let id = facts.patient_id.as_deref();
    fails(match fault {
        TemporaryFault::Year => {
            let year: Option<i16> = oid.rsplit('.').next().and_then(|year| year.parse().ok());
            year.is_none_or(|year| !(2000..=facts.today.year()).contains(&year))
        }
        TemporaryFault::Form => id.is_some_and(|id| !facts.parameters.temp_id_pattern.is_match(id)),
        TemporaryFault::Hetu => id.and_then(Parts::read).is_some_and(|parts| hetu_holds(&parts, facts.today) && !parts.is_test_range()),
    })
}

pub(super) fn name(facts: &Facts<'_>, fault: NameFault) -> Found {
    let name = facts.text(tags::PATIENT_NAME).unwrap_or_default();
    fails(match fault {
        NameFault::Missing => name.chars().all(|c| matches!(c, '^' | '=' | ' ')),
        NameFault::Structure => {
            let mut groups = name.split('=');
            let group_fault = |group: &str| group.split('^').count() > 5 || group.chars().count() > 64;
            name.split('=').count() > 3 || groups.any(group_fault)
        }
        // An escape sequence of a declared ISO 2022 set is gone after decoding.
        NameFault::Control => name.chars().any(|c| c < ' ' || c == '\u{7F}' || c == '\\'),
    })
}

pub(super) fn other_hetu(facts: &Facts<'_>) -> Found {
    let own = facts.patient_id.as_deref().filter(|_| facts.is_hetu)?;
    fails(facts.top.items(tags::OTHER_PATIENT_I_DS_SEQUENCE).any(|item| {
        let is_hetu = issuer_of(item, facts.parameters).is_some_and(|issuer| issuer.oid == facts.parameters.hetu_issuer);
        is_hetu && item.text(tags::PATIENT_ID).is_some_and(|id| id != own)
    }))
}

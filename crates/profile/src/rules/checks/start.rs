//! Study date and time (D805–D813).

use super::super::check::StartFault;
use super::super::facts::{Facts, hetu_holds};
use super::super::time::{Start, date};
use super::{Found, fails};
use crate::scan::tags;
use jiff::civil::Date;
use jiff::tz::AmbiguousOffset;

pub(super) fn start(facts: &Facts<'_>, fault: StartFault) -> Found {
    let parameters = facts.parameters;
    let study_date = facts.text(tags::STUDY_DATE).and_then(|text| date(&text))?;
    let start = Start::of(facts)?;
    let site_offset = || start.time.map(|_| start.site_offset(facts));
    fails(match fault {
        StartFault::Future => {
            start.epoch_seconds(facts)? > facts.context.received.as_second().saturating_add(parameters.future_tolerance_s)
        }
        StartFault::BeforeBirth => {
            let hetu = facts.hetu.filter(|parts| hetu_holds(parts, facts.today)).and_then(|parts| parts.birth_date());
            let birth = hetu.or_else(|| facts.text(tags::PATIENT_BIRTH_DATE).and_then(|text| date(&text)))?;
            study_date < birth
        }
        StartFault::Implausible => study_date < parameters.study_date_min,
        StartFault::OffsetDiffers => match (start.offset, site_offset()?) {
            (Some(own), AmbiguousOffset::Unambiguous { offset }) => own != offset,
            (Some(own), AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after }) => own != before && own != after,
            (None, _) => false,
        },
        StartFault::Gap => start.offset.is_none() && matches!(site_offset()?, AmbiguousOffset::Gap { .. }),
        StartFault::Twice => start.offset.is_none() && matches!(site_offset()?, AmbiguousOffset::Fold { .. }),
        StartFault::Late => days_between(study_date, facts.today) > parameters.late_days,
        StartFault::Spread => {
            let acquired = facts.text(tags::ACQUISITION_DATE).and_then(|text| date(&text))?;
            days_between(study_date, acquired).abs() > parameters.dates_spread_days
        }
    })
}

fn days_between(from: Date, to: Date) -> i64 {
    to.duration_since(from).as_hours() / 24
}

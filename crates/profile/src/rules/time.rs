//! Dates and times of a data set (PS3.5 §6.2 DA, TM, DT), and the start of a study (profile 02 §6).

use super::facts::Facts;
use crate::scan::tags;
use dicom_core::Tag;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset};

/// `YYYYMMDD`.
pub(super) fn date(text: &str) -> Option<Date> {
    let digits = text.as_bytes();
    (digits.len() == 8 && digits.iter().all(u8::is_ascii_digit)).then_some(())?;
    Date::new(text.get(..4)?.parse().ok()?, text.get(4..6)?.parse().ok()?, text.get(6..)?.parse().ok()?).ok()
}

/// `HH[MM[SS[.F…]]]`, second 60 is read as 59; colons only if `colons`.
pub(super) fn time(text: &str, colons: bool) -> Option<Time> {
    let plain = if colons { text.replace(':', "") } else { text.to_owned() };
    let (whole, fraction) = plain.split_once('.').map_or((plain.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Some(fraction) = fraction
        && (whole.len() != 6 || !(1..=6).contains(&fraction.len()) || !fraction.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let part = |at: usize| whole.get(at..at + 2).map_or(Some(0), |part| part.parse::<i8>().ok());
    matches!(whole.len(), 2 | 4 | 6).then_some(())?;
    Time::new(part(0)?, part(2)?, part(4)?.min(if part(4)? == 60 { 59 } else { i8::MAX }), 0).ok()
}

/// Date and time of a DT value: `YYYY[MM[DD[HH[MM[SS[.F…]]]]]][&ZZXX]`.
pub(super) fn date_time(text: &str) -> Option<(Date, Option<Time>, Option<Offset>)> {
    let (stamp, zone) = match text.rfind(['+', '-']) {
        Some(at) => (&text[..at], Some(offset(&text[at..])?)),
        None => (text, None),
    };
    let digits = stamp.split('.').next()?;
    let day = match digits.len() {
        4 => format!("{digits}0101"),
        6 => format!("{digits}01"),
        _ => digits.get(..8)?.to_owned(),
    };
    let rest = stamp.get(8..).filter(|rest| !rest.is_empty());
    if digits.len() < 8 && stamp.len() != digits.len() {
        return None;
    }
    let time = rest.map(|rest| self::time(rest, false).ok_or(())).transpose().ok()?;
    Some((date(&day)?, time, zone))
}

/// `&ZZXX`, `^[-+](0[0-9]|1[0-4])[0-5][0-9]$`.
pub(super) fn offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, text.get(1..)?),
        b'-' => (-1, text.get(1..)?),
        _ => return None,
    };
    (rest.len() == 4 && rest.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    let (hours, minutes): (i32, i32) = (rest.get(..2)?.parse().ok()?, rest.get(2..)?.parse().ok()?);
    (hours <= 14 && minutes <= 59).then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()).flatten()
}

/// When the study began, as far as the instance says.
pub(super) struct Start {
    pub date: Date,
    pub time: Option<Time>,
    /// (0008,0201), or the suffix of (0008,002A).
    pub offset: Option<Offset>,
}

impl Start {
    /// The first date of the chain of profile 02 §6 no. 1, with the time of the same pair.
    pub fn of(facts: &Facts<'_>) -> Option<Self> {
        const PAIRS: [(Tag, Tag); 4] = [
            (tags::STUDY_DATE, tags::STUDY_TIME),
            (tags::SERIES_DATE, tags::SERIES_TIME),
            (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
            (tags::CONTENT_DATE, tags::CONTENT_TIME),
        ];
        let offset = facts.text(tags::TIMEZONE_OFFSET_FROM_UTC).and_then(|text| self::offset(&text));
        let pair = |(day, clock): (Tag, Tag)| {
            let date = date(&facts.text(day)?)?;
            Some(Self { date, time: facts.text(clock).and_then(|text| time(&text, true)), offset })
        };
        let acquisition = || {
            let (date, time, own) = date_time(&facts.text(tags::ACQUISITION_DATE_TIME)?)?;
            Some(Self { date, time, offset: own.or(offset) })
        };
        PAIRS[..3].iter().find_map(|pair_tags| pair(*pair_tags)).or_else(acquisition).or_else(|| pair(PAIRS[3]))
    }

    /// The instant, in seconds since 1970; a date without time counts as its first moment in the zone of the site.
    /// `jiff`'s reading of gap and overlap is that of the profile: the offset before the change.
    pub fn epoch_seconds(&self, facts: &Facts<'_>) -> Option<i64> {
        let local = self.local();
        let instant = match (self.time, self.offset) {
            (Some(_), Some(offset)) => offset.to_timestamp(local).ok()?,
            _ => facts.parameters.timezone.to_ambiguous_timestamp(local).compatible().ok()?,
        };
        Some(instant.as_second())
    }

    /// Offset of the zone of the site at this local time.
    pub fn site_offset(&self, facts: &Facts<'_>) -> AmbiguousOffset {
        facts.parameters.timezone.to_ambiguous_timestamp(self.local()).offset()
    }

    fn local(&self) -> DateTime {
        self.date.to_datetime(self.time.unwrap_or(Time::midnight()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn da_and_tm_are_read_as_the_standard_writes_them() {
        assert_eq!(date("20260115"), Some(jiff::civil::date(2026, 1, 15)));
        for text in ["20261340", "20260229", "2026.01.15", "2026011", ""] {
            assert_eq!(date(text), None, "{text}");
        }
        for text in ["10", "1015", "101530", "101530.987", "235960"] {
            assert!(time(text, false).is_some(), "{text}");
        }
        for text in ["25:99", "10:15:30", "1", "2460", "101530.", "1015.5"] {
            assert_eq!(time(text, false), None, "{text}");
        }
        assert!(time("10:15:30", true).is_some());
    }

    #[test]
    fn dt_is_read_with_its_offset() {
        assert!(date_time("20260115101530.5+0200").is_some_and(|(_, time, zone)| time.is_some() && zone.is_some()));
        assert!(date_time("2026").is_some());
        assert!(date_time("202601").is_some());
        for text in ["20260115250000", "2026.5", "20261340", "EET", "20260115+9900"] {
            assert!(date_time(text).is_none(), "{text}");
        }
    }
}

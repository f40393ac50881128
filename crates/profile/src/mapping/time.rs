//! Time rule (profile 02 §6): dates and times of an object, in its own or the site's offset, as registry times in UTC.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// Dates and times of one instance as they stand in it; empty and absent are the same here.
#[derive(Clone, Copy, Default)]
pub struct Dates<'a> {
    /// (0008,0020), (0008,0030)
    pub study: (&'a str, &'a str),
    /// (0008,0021), (0008,0031)
    pub series: (&'a str, &'a str),
    /// (0008,0022), (0008,0032)
    pub acquisition: (&'a str, &'a str),
    /// (0008,002A)
    pub acquisition_date_time: &'a str,
    /// (0008,0023), (0008,0033)
    pub content: (&'a str, &'a str),
    /// (0008,0201)
    pub offset: &'a str,
}

/// A local time that the zone does not have, or has twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Irregular {
    /// It does not exist (D810).
    Gap,
    /// It occurs twice (D811).
    Overlap,
}

/// Start of a study by one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Registry time: `YYYYMMDD`, or UTC with the precision of the object.
    pub dtm: String,
    /// The instant, unless only the date is known. Of a time without minutes or seconds, their zero.
    pub instant: Option<Timestamp>,
    /// The local date that was used.
    pub date: Date,
    /// Set if the site's zone was used and has no or two such times.
    pub irregular: Option<Irregular>,
}

/// Precision of a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Hour,
    Minute,
    Second,
}

/// Date, time of day if it is known, and an offset of its own.
type Moment = (Date, Option<(Time, Precision)>, Option<Offset>);

/// Start of the study by one instance: the first date of the chain that is valid. `None`: there is none, the slot is left out.
pub fn start(dates: &Dates<'_>, zone: &TimeZone) -> Option<Start> {
    let pair = |(date, time): (&str, &str)| -> Option<Moment> { Some((da(date)?, tm(time), None)) };
    let own = [pair(dates.study), pair(dates.series), pair(dates.acquisition), dt(dates.acquisition_date_time), pair(dates.content)];
    let (date, time, suffix) = own.into_iter().flatten().next()?;
    let offset = suffix.or_else(|| offset(dates.offset));
    Some(in_utc(date, time, offset, zone))
}

fn in_utc(date: Date, time: Option<(Time, Precision)>, own: Option<Offset>, zone: &TimeZone) -> Start {
    let date_only = |irregular| Start { dtm: date.strftime("%Y%m%d").to_string(), instant: None, date, irregular };
    let Some((time, precision)) = time else { return date_only(None) };
    let local = DateTime::from_parts(date, time);
    let (offset, irregular) = match own {
        Some(offset) => (offset, None),
        None => in_force(local, zone),
    };
    if offset.seconds() % 60 != 0 {
        return date_only(irregular);
    }
    let Ok(instant) = offset.to_timestamp(local) else { return date_only(irregular) };
    let whole_hours = offset.seconds() % 3600 == 0;
    let form = match precision {
        Precision::Hour if whole_hours => "%Y%m%d%H",
        Precision::Hour | Precision::Minute => "%Y%m%d%H%M",
        Precision::Second => "%Y%m%d%H%M%S",
    };
    Start { dtm: instant.strftime(form).to_string(), instant: Some(instant), date, irregular }
}

/// Offset of the zone at a local time: in a gap and in an overlap the one before the change.
fn in_force(local: DateTime, zone: &TimeZone) -> (Offset, Option<Irregular>) {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => (offset, None),
        AmbiguousOffset::Gap { before, .. } => (before, Some(Irregular::Gap)),
        AmbiguousOffset::Fold { before, .. } => (before, Some(Irregular::Overlap)),
    }
}

/// Offset that the manifest of a study is written in (§3, (0008,0201)): that of the reference instance if valid, else that of
/// the zone at the start of the study (date only: at 12:00), without a start that at `as_of`; whole minutes.
pub fn manifest_offset(dates: &Dates<'_>, zone: &TimeZone, as_of: Timestamp) -> Offset {
    if let Some(offset) = offset(dates.offset) {
        return offset;
    }
    let found = match start(dates, zone) {
        Some(Start { instant: Some(instant), .. }) => zone.to_offset(instant),
        Some(Start { date, .. }) => in_force(date.at(12, 0, 0, 0), zone).0,
        None => zone.to_offset(as_of),
    };
    Offset::from_seconds(found.seconds() / 60 * 60).expect("a smaller offset is in range")
}

/// `+HHMM`.
pub fn write_offset(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

/// An instant as a registry time: `YYYYMMDDhhmmss`, UTC.
pub fn dtm(at: Timestamp) -> String {
    at.strftime("%Y%m%d%H%M%S").to_string()
}

/// (0008,0201): `^[-+](0[0-9]|1[0-4])[0-5][0-9]$` (D808).
pub fn offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let digits = std::str::from_utf8(digits).ok()?;
    let (hours, minutes) = (number(digits.get(..2)?)?, number(digits.get(2..)?)?);
    (digits.len() == 4 && hours <= 14 && minutes <= 59).then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())?
}

/// DA: `YYYYMMDD` (PS3.5 §6.2).
pub fn da(text: &str) -> Option<Date> {
    let text = text.trim_matches(' ');
    if text.len() != 8 {
        return None;
    }
    let year = i16::try_from(number(text.get(..4)?)?).ok()?;
    let part = |range| i8::try_from(number(text.get(range)?)?).ok();
    Date::new(year, part(4..6)?, part(6..8)?).ok()
}

/// TM: `HH[MM[SS[.F{1,6}]]]`, also with colons (D804). Second 60 becomes 59; fractions are cut.
fn tm(text: &str) -> Option<(Time, Precision)> {
    let text = text.trim_matches(' ').replace(':', "");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, fraction)| (whole, Some(fraction)));
    let precision = match whole.len() {
        2 => Precision::Hour,
        4 => Precision::Minute,
        6 => Precision::Second,
        _ => return None,
    };
    let fraction_ok = fraction.is_none_or(|f| precision == Precision::Second && (1..=6).contains(&f.len()) && number(f).is_some());
    let part = |range: std::ops::Range<usize>| whole.get(range).map_or(Some(0), |digits| number(digits).and_then(|n| i8::try_from(n).ok()));
    let (hour, minute, second) = (part(0..2)?, part(2..4)?, part(4..6)?);
    let second = if second == 60 { 59 } else { second };
    let time = Time::new(hour, minute, second, 0).ok()?;
    fraction_ok.then_some((time, precision))
}

/// DT: `YYYYMMDD[HH[MM[SS[.F{1,6}]]]][&ZZXX]`; a shorter one has no date to use.
fn dt(text: &str) -> Option<Moment> {
    let text = text.trim_matches(' ');
    let (local, suffix) = match text.find(['+', '-']) {
        Some(at) => (text.get(..at)?, Some(offset(text.get(at..)?)?)),
        None => (text, None),
    };
    Some((da(local.get(..8)?)?, tm(local.get(8..)?), suffix))
}

/// Digits only.
fn number(digits: &str) -> Option<i32> {
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helsinki() -> TimeZone {
        TimeZone::get("Europe/Helsinki").expect("the bundled database has it")
    }

    fn study<'a>(date: &'a str, time: &'a str, offset: &'a str) -> Dates<'a> {
        Dates { study: (date, time), offset, ..Dates::default() }
    }

    fn dtm_of(dates: &Dates<'_>) -> Option<String> {
        start(dates, &helsinki()).map(|start| start.dtm)
    }

    /// Profile 02 §6, row by row.
    #[test]
    fn the_table_of_the_profile() {
        for (date, time, offset, expected) in [
            ("20260115", "101530", "", "20260115081530"),
            ("20260715", "101530", "", "20260715071530"),
            ("20260115", "101530.987", "", "20260115081530"),
            ("20260115", "101530", "+0000", "20260115101530"),
            ("20260115", "1015", "", "202601150815"),
            ("20260115", "10", "", "2026011508"),
            ("20260115", "10", "+0530", "202601150430"),
            ("20260115", "", "", "20260115"),
            ("20260115", "235960", "", "20260115215959"),
            ("20260115", "10:15:30", "", "20260115081530"),
            ("20260329", "025959", "", "20260329005959"),
            ("20260329", "033000", "", "20260329013000"),
            ("20260329", "040000", "", "20260329010000"),
            ("20261025", "023000", "", "20261024233000"),
            ("20261025", "033000", "", "20261025003000"),
            ("20261025", "033000", "+0200", "20261025013000"),
            ("20261025", "040000", "", "20261025020000"),
            ("20260101", "003000", "", "20251231223000"),
            ("19420701", "120000", "", "19420701090000"),
            ("19200101", "120000", "", "19200101"),
        ] {
            assert_eq!(dtm_of(&study(date, time, offset)).as_deref(), Some(expected), "{date} {time} {offset}");
        }
        assert_eq!(dtm_of(&Dates { series: ("20260116", "0800"), ..Dates::default() }).as_deref(), Some("202601160600"));
        assert_eq!(dtm_of(&Dates::default()), None);
    }

    #[test]
    fn the_table_in_the_profile_has_no_other_rows() {
        let Some(text) = crate::testing::profile_table("02_6_1.tsv") else { return };
        let mut seen = 0;
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split('\t').collect();
            for (input, expected) in [(cells[0], cells[1]), (cells[3], cells[4])] {
                let input = input.split(" (").next().unwrap_or_default();
                let parts: Vec<&str> = input.split(", ").map(|part| if part == "–" { "" } else { part }).collect();
                let dates = match parts.as_slice() {
                    ["no date at all"] => Dates::default(),
                    ["", series, time, ""] => {
                        let date = series.strip_prefix("– ; series ").expect("the form of that row");
                        Dates { series: (date, time), ..Dates::default() }
                    }
                    [date, time, offset] => study(date, time, offset),
                    other => panic!("unknown form {other:?}"),
                };
                assert_eq!(dtm_of(&dates).as_deref().unwrap_or("slot absent"), expected, "{input}");
                seen += 1;
            }
        }
        assert_eq!(seen, 22);
    }

    #[test]
    fn gap_and_overlap_are_told() {
        let irregular = |date, time, offset| start(&study(date, time, offset), &helsinki()).and_then(|start| start.irregular);
        assert_eq!(irregular("20260329", "033000", ""), Some(Irregular::Gap));
        assert_eq!(irregular("20261025", "033000", ""), Some(Irregular::Overlap));
        assert_eq!(irregular("20261025", "033000", "+0200"), None);
        assert_eq!(irregular("20260329", "040000", ""), None);
    }

    #[test]
    fn the_first_valid_date_of_the_chain_brings_its_own_time() {
        let dates = Dates {
            study: ("20261340", "101530"),
            series: ("", "111111"),
            acquisition_date_time: "20260115101530.5+0100",
            content: ("20260116", "12"),
            ..Dates::default()
        };
        assert_eq!(dtm_of(&dates).as_deref(), Some("20260115091530"));
        let dates = Dates { offset: "+0300", ..dates };
        assert_eq!(dtm_of(&dates).as_deref(), Some("20260115091530"), "the suffix wins");
        for time in ["25", "101", "10153", "1015.5", "10a5", "101561"] {
            assert_eq!(dtm_of(&study("20260115", time, "")).as_deref(), Some("20260115"), "{time}");
        }
        for offset in ["EET", "+1500", "+0260", "0200", "+02:00"] {
            assert_eq!(dtm_of(&study("20260115", "101530", offset)).as_deref(), Some("20260115081530"), "{offset}");
        }
    }

    #[test]
    fn to_utc_of_local_time_is_the_instant_outside_gap_and_overlap() {
        let zone = helsinki();
        let mut seed = 1_u64;
        let mut checked = 0;
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // 1950 to 2090.
            let second = i64::try_from(seed >> 33).expect("31 bits") * 2 - 631_152_000;
            let at = Timestamp::from_second(second).expect("in range");
            let local = zone.to_datetime(at);
            let (date, time) = (local.strftime("%Y%m%d").to_string(), local.strftime("%H%M%S").to_string());
            let found = start(&study(&date, &time, ""), &zone).expect("a date");
            if found.irregular.is_none() {
                assert_eq!((found.instant, found.dtm), (Some(at), dtm(at)));
                checked += 1;
            }
        }
        assert!(checked > 9_900, "{checked}");
    }

    #[test]
    fn the_manifest_is_written_in_the_offset_of_the_study() {
        let as_of: Timestamp = "2026-07-15T08:27:41Z".parse().expect("valid");
        let offset = |dates: Dates<'_>| write_offset(manifest_offset(&dates, &helsinki(), as_of));
        assert_eq!(offset(study("20260115", "101530", "")), "+0200");
        assert_eq!(offset(study("20260115", "", "")), "+0200");
        assert_eq!(offset(study("20260715", "101530", "-0330")), "-0330");
        assert_eq!(offset(Dates::default()), "+0300");
        assert_eq!(offset(study("19200101", "120000", "")), "+0139");
    }
}

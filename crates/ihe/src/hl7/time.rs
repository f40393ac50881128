//! Time stamps (TS): `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][±ZZZZ]`.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// An instant, and how it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// The instant.
    pub at: Timestamp,
    /// The local time exists twice (the first is meant) or not at all (moved one hour forward): W-08.
    pub adjusted: bool,
}

/// The text is no time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time stamp YYYY[MM[DD[HH[MM[SS[.S…]]]]]][±ZZZZ]")]
pub struct NotATime;

/// Reads an instant. What is not given is the lowest; without an offset the time is local in `zone`.
///
/// # Errors
/// [`NotATime`].
pub fn instant(text: &str, zone: &TimeZone) -> Result<Instant, NotATime> {
    let (local, offset) = read(text)?;
    let zone = offset.map_or_else(|| zone.clone(), TimeZone::fixed);
    let found = zone.into_ambiguous_zoned_datetime(local);
    let adjusted = !matches!(found.offset(), AmbiguousOffset::Unambiguous { .. });
    Ok(Instant { at: found.compatible().map_err(|_| NotATime)?.timestamp(), adjusted })
}

/// Reads the civil date of a time stamp that has at least year, month and day.
///
/// # Errors
/// [`NotATime`].
pub fn date(text: &str) -> Result<Date, NotATime> {
    if text.len() < 8 || !text.is_char_boundary(8) || !text.bytes().take(8).all(|byte| byte.is_ascii_digit()) {
        return Err(NotATime);
    }
    Ok(read(text)?.0.date())
}

/// A local time and its offset, if it has one.
fn read(text: &str) -> Result<(DateTime, Option<Offset>), NotATime> {
    let (local, offset) = match text.find(['+', '-']) {
        Some(at) => (&text[..at], Some(read_offset(&text[at..]).ok_or(NotATime)?)),
        None => (text, None),
    };
    let (whole, fraction) = local.split_once('.').map_or((local, ""), |(whole, fraction)| (whole, fraction));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let fraction_fits = fraction.is_empty() && !local.contains('.') || (1..=4).contains(&fraction.len()) && whole.len() == 14;
    if !matches!(whole.len(), 4 | 6 | 8 | 10 | 12 | 14) || !digits(whole) || !digits(fraction) || !fraction_fits {
        return Err(NotATime);
    }
    let part = |from: usize, length: usize, absent: i8| match whole.get(from..from + length) {
        Some(text) => text.parse::<i8>().map_err(|_| NotATime),
        None => Ok(absent),
    };
    let year = whole[..4].parse::<i16>().map_err(|_| NotATime)?;
    let nanosecond = format!("{fraction:0<9}").parse::<i32>().map_err(|_| NotATime)?;
    let date = Date::new(year, part(4, 2, 1)?, part(6, 2, 1)?).map_err(|_| NotATime)?;
    let time = Time::new(part(8, 2, 0)?, part(10, 2, 0)?, part(12, 2, 0)?, nanosecond).map_err(|_| NotATime)?;
    Ok((DateTime::from_parts(date, time), offset))
}

fn read_offset(text: &str) -> Option<Offset> {
    let (sign, digits) = text.split_at_checked(1)?;
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = (digits[..2].parse::<i32>().ok()?, digits[2..].parse::<i32>().ok()?);
    let seconds = (hours * 60 + minutes) * 60;
    (minutes < 60).then(|| Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok())?
}

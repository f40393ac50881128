//! xs:dateTime in UTC.

use jiff::Timestamp;

/// Reads `YYYY-MM-DDThh:mm:ss[.f…]Z` with 0–9 fraction digits and nothing else: no offset, no leap second, no blanks (profile 04 §3).
pub fn parse_instant(text: &str) -> Option<Timestamp> {
    let body = text.strip_suffix('Z')?;
    let (seconds, fraction) = match body.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (body, None),
    };
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let fits = seconds.len() == shape.len()
        && seconds.bytes().zip(shape).all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == *form })
        && !seconds.ends_with(":60")
        && fraction.is_none_or(|f| (1..=9).contains(&f.len()) && f.bytes().all(|b| b.is_ascii_digit()));
    fits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utc_of_one_form_is_an_instant() {
        assert_eq!(parse_instant("2025-06-15T09:00:00Z").map(Timestamp::as_second), Some(1_749_978_000));
        assert_eq!(parse_instant("2025-06-15T09:00:00.123456789Z").map(|t| t.subsec_nanosecond()), Some(123_456_789));
        for bad in [
            "2025-06-15T09:00:00",
            "2025-06-15T09:00:00+03:00",
            "2025-06-15T09:00:00.Z",
            "2025-06-15T09:00:00.1234567890Z",
            "2025-06-15 09:00:00Z",
            "2025-06-15T09:00Z",
            "2025-02-29T09:00:00Z",
            "2025-06-15T24:00:00Z",
            "2025-06-15T23:59:60Z",
            " 2025-06-15T09:00:00Z",
            "2025-06-15t09:00:00Z",
        ] {
            assert_eq!(parse_instant(bad), None, "{bad}");
        }
    }
}

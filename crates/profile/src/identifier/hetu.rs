//! The Finnish personal identity code, hetu (profile 06 §2.2).
//!
//! [`Hetu::parse`] takes the exact form, as DICOM carries it (rules D305–D309); [`Hetu::read`] also cuts blanks and
//! raises letters, as HL7 and queries may carry it. [`Parts`] gives the single checks to rules that report each alone.

use jiff::civil::Date;
use std::fmt;

/// Characters of the check, by remainder modulo 31: digits and letters without G, I, O, Q, Z.
const CHECK: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";

/// A valid personal identity code in canonical form.
///
/// The separator is part of it: two codes that differ only there are two persons (step 7). `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hetu {
    text: String,
    birth_date: Date,
    number: u16,
}

/// Why a text is not a personal identity code. Carries no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HetuError {
    /// Length, separator or a character outside the alphabet (step 1).
    #[error("personal identity code is not well formed")]
    Shape,
    /// Day, month, year and century make no date (steps 2, 3).
    #[error("personal identity code has no calendar date")]
    Date,
    /// Born after today (step 3).
    #[error("personal identity code has a birth date in the future")]
    Future,
    /// Individual number 000 or 001 (step 4).
    #[error("personal identity code has an individual number that is not in use")]
    Number,
    /// The check character is another one (step 5).
    #[error("personal identity code has a wrong check character")]
    Check,
}

/// A code read leniently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The canonical code.
    pub hetu: Hetu,
    /// Whether letters were raised (warning W-01).
    pub raised: bool,
}

/// A text of the right shape (step 1), the rest not yet judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    day: i8,
    month: i8,
    year: i16,
    number: u16,
    nine_digits: u32,
    check: u8,
}

impl Parts {
    /// Splits an exact `DDMMYYsNNNc` (`^[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]$`).
    pub fn read(text: &str) -> Option<Self> {
        let bytes: &[u8; 11] = text.as_bytes().try_into().ok()?;
        let number = |range: &[u8]| range.iter().try_fold(0_u32, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u32::from(b - b'0')));
        let [d1, d2, m1, m2, y1, y2, separator, n1, n2, n3, check] = *bytes;
        let century = match separator {
            b'+' => 1800,
            b'-' | b'U'..=b'Y' => 1900,
            b'A'..=b'F' => 2000,
            _ => return None,
        };
        let nine_digits = number(&[d1, d2, m1, m2, y1, y2, n1, n2, n3])?;
        CHECK.contains(&check).then_some(())?;
        Some(Self {
            day: i8::try_from(number(&[d1, d2])?).ok()?,
            month: i8::try_from(number(&[m1, m2])?).ok()?,
            year: century + i16::try_from(number(&[y1, y2])?).ok()?,
            number: u16::try_from(number(&[n1, n2, n3])?).ok()?,
            nine_digits,
            check,
        })
    }

    /// The date of the century that the separator names, if there is such a day (proleptic Gregorian).
    pub fn birth_date(&self) -> Option<Date> {
        Date::new(self.year, self.month, self.day).ok()
    }

    /// Individual number, 0–999.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether the check character is that of the nine digits (step 5).
    pub fn check_holds(&self) -> bool {
        check_character(self.nine_digits) == self.check
    }

    /// 900–999: test and temporary numbers (step 4).
    pub fn is_test_range(&self) -> bool {
        self.number >= 900
    }

    /// An odd individual number is a man's (step 8).
    pub fn is_male(&self) -> bool {
        self.number % 2 == 1
    }
}

impl Hetu {
    /// Reads the exact form. `today` is the civil date in Europe/Helsinki.
    ///
    /// # Errors
    /// The first step that fails, in the order of profile 06 §2.2.
    pub fn parse(text: &str, today: Date) -> Result<Self, HetuError> {
        let parts = Parts::read(text).ok_or(HetuError::Shape)?;
        let birth_date = parts.birth_date().ok_or(HetuError::Date)?;
        if birth_date > today {
            return Err(HetuError::Future);
        }
        if parts.number < 2 {
            return Err(HetuError::Number);
        }
        if !parts.check_holds() {
            return Err(HetuError::Check);
        }
        Ok(Self { text: text.to_owned(), birth_date, number: parts.number })
    }

    /// Reads the form of messages and queries: leading and trailing SPACE is cut, lower-case letters are raised (W-01).
    ///
    /// # Errors
    /// As [`Hetu::parse`].
    pub fn read(text: &str, today: Date) -> Result<Read, HetuError> {
        let cut = text.trim_matches(' ');
        if cut.len() != 11 {
            return Err(HetuError::Shape);
        }
        let raised = cut.to_ascii_uppercase();
        Ok(Read { raised: raised != cut, hetu: Self::parse(&raised, today)? })
    }

    /// Canonical text, 11 ASCII characters. Patient data: never log it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The encoded birth date.
    pub fn birth_date(&self) -> Date {
        self.birth_date
    }

    /// Individual number, 2–999.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// An odd individual number is a man's (step 8).
    pub fn is_male(&self) -> bool {
        self.number % 2 == 1
    }

    /// 900–999: test and temporary numbers (steps 4, 6).
    pub fn is_test_range(&self) -> bool {
        self.number >= 900
    }
}

impl fmt::Debug for Hetu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Check character of a number: hetu (nine digits) and SATU (eight digits) use the same rule.
pub(crate) fn check_character(number: u32) -> u8 {
    CHECK[(number % 31) as usize]
}

/// Makes a code with the right check character.
#[cfg(test)]
pub(crate) fn made(ddmmyy: &str, separator: char, number: u16) -> String {
    let digits: u32 = format!("{ddmmyy}{number:03}").parse().expect("digits");
    format!("{ddmmyy}{separator}{number:03}{}", char::from(check_character(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2025, 6, 15);

    /// The vectors of profile 06 §2.2, one row per code.
    const VALID: &[(&str, Date)] = &[
        ("010190-900P", date(1990, 1, 1)),
        ("131052-930V", date(1952, 10, 13)),
        ("311299-999E", date(1999, 12, 31)),
        ("010199+920N", date(1899, 1, 1)),
        ("010190Y900P", date(1990, 1, 1)),
        ("010190X900P", date(1990, 1, 1)),
        ("010190W901R", date(1990, 1, 1)),
        ("010190V902S", date(1990, 1, 1)),
        ("010190U903T", date(1990, 1, 1)),
        ("150635-9517", date(1935, 6, 15)),
        ("150635V9517", date(1935, 6, 15)),
        ("150635U9517", date(1935, 6, 15)),
        ("290200A910N", date(2000, 2, 29)),
        ("290204B911R", date(2004, 2, 29)),
        ("290212C912U", date(2012, 2, 29)),
        ("010105D9136", date(2005, 1, 1)),
        ("010120E9143", date(2020, 1, 1)),
        ("240623F915S", date(2023, 6, 24)),
        ("150610A952T", date(2010, 6, 15)),
        ("150610C952T", date(2010, 6, 15)),
        ("150610F952T", date(2010, 6, 15)),
    ];

    const REFUSED: &[(&str, HetuError)] = &[
        ("010190-900R", HetuError::Check),
        ("310299-9006", HetuError::Date),
        ("000190-9002", HetuError::Date),
        ("011390-900C", HetuError::Date),
        ("290201A907U", HetuError::Date),
        ("290225A903W", HetuError::Date),
        ("290200+905H", HetuError::Date),
        ("010190A900P", HetuError::Future),
        ("010190*900P", HetuError::Shape),
        ("010190G900P", HetuError::Shape),
        ("010190Z900P", HetuError::Shape),
        ("010190900P", HetuError::Shape),
        ("0101901-900P", HetuError::Shape),
        ("010190-900", HetuError::Shape),
        ("", HetuError::Shape),
        ("010190-900O", HetuError::Shape),
        ("010190-900Q", HetuError::Shape),
        ("010190-900I", HetuError::Shape),
        ("010190-900G", HetuError::Shape),
        ("010190-900Z", HetuError::Shape),
        ("０10190-900P", HetuError::Shape),
        ("０0190-900P", HetuError::Shape),
    ];

    #[test]
    fn every_valid_vector_is_read_with_its_birth_date() {
        for (text, birth_date) in VALID {
            assert_eq!(Hetu::parse(text, TODAY).map(|h| h.birth_date()), Ok(*birth_date), "{text}");
        }
    }

    #[test]
    fn every_refused_vector_fails_at_its_step() {
        for (text, error) in REFUSED {
            assert_eq!(Hetu::parse(text, TODAY), Err(*error), "{text}");
            assert_eq!(Hetu::read(text, TODAY).map(|r| r.hetu), Err(*error), "{text}");
        }
    }

    #[test]
    fn the_separator_makes_another_person() {
        for (a, b) in [("010190-900P", "010190Y900P"), ("150635V9517", "150635U9517"), ("150610A952T", "150610F952T")] {
            assert_ne!(Hetu::parse(a, TODAY).expect(a), Hetu::parse(b, TODAY).expect(b));
        }
    }

    #[test]
    fn blanks_and_lower_case_are_read_only_leniently() {
        let read = Hetu::read(" 290200a910n ", TODAY).expect("valid");
        assert_eq!((read.hetu.as_str(), read.raised), ("290200A910N", true));
        assert_eq!(Hetu::read(" 290200A910N", TODAY).map(|r| r.raised), Ok(false));
        assert_eq!(Hetu::parse(" 290200A910N", TODAY), Err(HetuError::Shape));
        assert_eq!(Hetu::parse("290200a910n", TODAY), Err(HetuError::Shape));
    }

    #[test]
    fn a_person_born_today_is_valid_and_tomorrow_is_not() {
        assert!(Hetu::parse(&made("150625", 'A', 900), TODAY).is_ok());
        assert_eq!(Hetu::parse(&made("160625", 'A', 900), TODAY), Err(HetuError::Future));
    }

    #[test]
    fn individual_numbers_000_and_001_are_not_in_use() {
        for number in [0, 1] {
            assert_eq!(Hetu::parse(&made("010100", '+', number), TODAY), Err(HetuError::Number));
        }
        assert!(Hetu::parse(&made("010100", '+', 2), TODAY).is_ok());
    }

    #[test]
    fn parity_and_test_range_follow_the_individual_number() {
        let of = |number| Hetu::parse(&made("010100", '+', number), TODAY).expect("valid");
        assert_eq!((of(900).is_male(), of(901).is_male()), (false, true));
        assert_eq!((of(899).is_test_range(), of(900).is_test_range(), of(999).is_test_range()), (false, true, true));
    }

    #[test]
    fn a_code_is_never_printed() {
        let hetu = Hetu::parse("010190-900P", TODAY).expect("valid");
        assert_eq!(format!("{hetu:?} {:?}", Parts::read("010190-900P")), "<redacted> Some(<redacted>)");
    }

    /// The table of the profile, row by row, against the lists above: nothing of it may be missing here.
    #[test]
    fn the_vectors_are_those_of_the_profile() {
        let Some(table) = crate::testing::profile_table("06_2.2_1.tsv") else { return };
        for row in table.lines().skip(1) {
            let (codes, expected) = row.rsplit_once('\t').expect("two columns");
            if expected.starts_with("refused") {
                continue; // made at run time, and the production rule: `super::super::tests`
            }
            if codes.starts_with(' ') {
                assert_eq!(codes, " 290200a910n ");
                continue;
            }
            for code in codes.split(' ').filter(|c| !c.is_empty() && !c.starts_with('(') && !c.ends_with(')') && *c != "digit") {
                let known = if expected.starts_with("valid") {
                    VALID.iter().any(|(c, _)| *c == code)
                } else {
                    REFUSED.iter().any(|(c, _)| *c == code)
                };
                assert!(known, "{code} ({expected}) is not in the list");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,14}") {
            let _ = Hetu::read(&text, TODAY);
        }

        /// One wrong digit is always seen: 31 is prime and larger than ten.
        #[test]
        fn one_changed_digit_breaks_the_check(number in 900_u16..1000, place in 0_usize..3, digit in 0_u8..10) {
            let good = made("010190", '-', number);
            let mut bytes = good.clone().into_bytes();
            bytes[7 + place] = b'0' + digit;
            let changed = String::from_utf8(bytes).expect("ASCII");
            if changed != good {
                prop_assert!(Hetu::parse(&changed, TODAY).is_err());
            }
        }
    }
}

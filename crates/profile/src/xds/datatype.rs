//! Forms of attribute values (ITI TF-3 §4.2.3.1.7; HL7 v2.5 data types with `^` and `&`).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Components of an HL7 value; missing ones are empty.
pub(super) struct Components<'a>(Vec<&'a str>);

impl<'a> Components<'a> {
    pub fn of(text: &'a str) -> Self {
        Self(text.split('^').collect())
    }

    /// Component by its HL7 number, from 1.
    pub fn get(&self, number: usize) -> &'a str {
        number.checked_sub(1).and_then(|index| self.0.get(index)).copied().unwrap_or_default()
    }

    /// Is a component filled whose number is not among these?
    pub fn others_filled(&self, numbers: &[usize]) -> bool {
        self.0.iter().enumerate().any(|(index, value)| !value.is_empty() && !numbers.contains(&(index + 1)))
    }
}

/// Does an HD name an ISO OID, whatever its namespace id?
pub(super) fn is_complete_authority(authority: &str) -> bool {
    let mut parts = authority.split('&');
    let (_, oid, kind) = (parts.next(), parts.next(), parts.next());
    oid.is_some_and(is_oid_form) && kind == Some("ISO")
}

/// Digits and single dots as an OID has them, of any length.
pub(super) fn is_oid_form(text: &str) -> bool {
    let mut arcs = 0;
    text.split('.').all(|arc| {
        arcs += 1;
        !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
    }) && arcs >= 2
        && matches!(text.as_bytes(), [b'0'..=b'2', b'.', ..])
}

/// `urn:uuid:` and 8-4-4-4-12 hex digits, any case.
pub(super) fn is_uuid_urn(text: &str) -> bool {
    has_uuid_prefix(text) && {
        let groups: Vec<&str> = text[9..].split('-').collect();
        groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
            && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// Begins with `urn:uuid:`, any case.
pub(super) fn has_uuid_prefix(text: &str) -> bool {
    text.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("urn:uuid:"))
}

/// The first instant of a DTM of 4, 6, 8, 10, 12 or 14 digits, UTC; `None` if it is no such time.
pub(super) fn dtm_start(text: &str) -> Option<DateTime> {
    if !matches!(text.len(), 4 | 6 | 8 | 10 | 12 | 14) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize, absent: i8| text.get(from..to).map_or(Some(absent), |digits| digits.parse().ok());
    let year = text.get(..4)?.parse().ok()?;
    DateTime::new(year, part(4, 6, 1)?, part(6, 8, 1)?, part(8, 10, 0)?, part(10, 12, 0)?, part(12, 14, 0)?, 0).ok()
}

/// As an instant.
pub(super) fn dtm_instant(text: &str) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(dtm_start(text)?).ok()
}

/// RFC 3986: allowed characters, whole percent escapes, and a well-formed scheme if there is one.
pub(super) fn is_uri(text: &str) -> bool {
    !text.is_empty() && has_uri_characters(text) && scheme_of(text).is_none_or(is_scheme)
}

/// A URI with a scheme and something after it.
pub(super) fn is_absolute_uri(text: &str) -> bool {
    has_uri_characters(text) && scheme_of(text).is_some_and(|scheme| is_scheme(scheme) && text.len() > scheme.len() + 1)
}

/// What stands before the first colon of the first segment.
fn scheme_of(text: &str) -> Option<&str> {
    let segment = text.split(['/', '?', '#']).next().unwrap_or_default();
    segment.split_once(':').map(|(scheme, _)| scheme)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn has_uri_characters(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
    })
}

/// uniqueId of a document: OID, `OID^` and 1–16 characters, or an absolute URI such as `urn:oid:`, `urn:uuid:`.
pub(super) fn is_document_unique_id(text: &str) -> bool {
    if let Some(oid) = text.strip_prefix("urn:oid:") {
        return is_oid_form(oid);
    }
    if has_uuid_prefix(text) {
        return is_uuid_urn(text);
    }
    match text.split_once('^') {
        Some((oid, extension)) => is_oid_form(oid) && (1..=16).contains(&extension.chars().count()),
        None => is_oid_form(text) || is_absolute_uri(text),
    }
}

/// What is wrong with an XCN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PersonDefect {
    /// Neither id nor name.
    Nameless,
    /// An authority without id, or one that is no ISO OID.
    Authority,
}

impl PersonDefect {
    pub fn is_in(self, xcn: &str) -> bool {
        let person = Components::of(xcn);
        match self {
            Self::Nameless => (1..=4).all(|number| person.get(number).trim().is_empty()),
            Self::Authority => !person.get(9).is_empty() && (person.get(1).is_empty() || !is_complete_authority(person.get(9))),
        }
    }
}

/// What is wrong with an XON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrganisationDefect {
    /// No name.
    Nameless,
    /// A component other than name, authority and id is filled.
    Extra,
    /// The id is no OID and has no ISO authority.
    Authority,
}

impl OrganisationDefect {
    pub fn is_in(self, xon: &str) -> bool {
        let organisation = Components::of(xon);
        match self {
            Self::Nameless => organisation.get(1).trim().is_empty(),
            Self::Extra => organisation.others_filled(&[1, 6, 10]),
            Self::Authority => {
                let id = organisation.get(10);
                !id.is_empty() && !is_oid_form(id) && !is_complete_authority(organisation.get(6))
            }
        }
    }
}

/// An XTN whose use, type and value fit: mail over the internet, or a telephone number (HL7 v2.5 tables 0201, 0202).
pub(super) fn is_telecom(xtn: &str) -> bool {
    let telecom = Components::of(xtn);
    let (usage, equipment, mail) = (telecom.get(2), telecom.get(3), telecom.get(4));
    let number = [1, 6, 7, 12].iter().any(|component| !telecom.get(*component).is_empty());
    if mail.is_empty() {
        number
            && ["", "PRN", "ORN", "WPN", "VHN", "ASN", "EMR", "BPN", "PRS"].contains(&usage)
            && ["", "PH", "FX", "MD", "CP", "SAT", "BP", "TDD", "TTY"].contains(&equipment)
    } else {
        !number && ["", "NET"].contains(&usage) && ["Internet", "X.400"].contains(&equipment)
    }
}

/// `XON|XCN|XTN`, each optional, one at least.
pub(super) fn is_recipient(text: &str) -> bool {
    use OrganisationDefect as O;
    let parts: Vec<&str> = text.split('|').collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    let (organisation, person, telecom) = (part(0), part(1), part(2));
    parts.len() <= 3
        && parts.iter().any(|part| !part.is_empty())
        && (organisation.is_empty() || ![O::Nameless, O::Extra, O::Authority].iter().any(|defect| defect.is_in(organisation)))
        && (person.is_empty() || is_person(person))
        && (telecom.is_empty() || is_telecom(telecom))
}

/// An XCN without defect.
pub(super) fn is_person(xcn: &str) -> bool {
    ![PersonDefect::Nameless, PersonDefect::Authority].iter().any(|defect| defect.is_in(xcn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_real_moment_of_even_precision_without_zone() {
        for good in ["2026", "202602", "20240229", "2026011510", "202601151030", "20260115103059"] {
            assert!(dtm_start(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "20260229",
            "20261301",
            "202601152",
            "2026011524",
            "202601151060",
            "20260115103060",
            "2026-01-15",
            "20260115103059.1",
            "20260115103059+0200",
            "٢٠٢٦",
        ] {
            assert!(dtm_start(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn unique_ids_have_one_of_five_forms() {
        for good in [
            "1.2.3",
            "1.2.3^abc",
            "urn:oid:1.2.3",
            "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1",
            "https://example.org/d/1",
            "2.25.174944059483789521284782653158387731653",
        ] {
            assert!(is_document_unique_id(good), "{good}");
        }
        for bad in
            ["", "abc", "1.2.3^", "1.2.3^12345678901234567", "urn:oid:x", "urn:uuid:7edca82f", "1", "1..2", "1.02", "http:", "http://a b"]
        {
            assert!(!is_document_unique_id(bad), "{bad}");
        }
    }

    #[test]
    fn persons_organisations_and_telecoms_are_read_by_component() {
        assert!(is_person("12345678901^Testaaja^Tiina^^^^^^&1.2.246.537.26&ISO"));
        assert!(is_person("^Testaaja^Tiina"));
        assert!(is_person("Tiina Testaaja"));
        assert!(PersonDefect::Nameless.is_in("^^^^^Dr"));
        assert!(PersonDefect::Authority.is_in("^Testaaja^^^^^^^&1.2.3&ISO"));
        assert!(PersonDefect::Authority.is_in("1^Testaaja^^^^^^^&1.2.3&DNS"));
        for (xon, defect) in [
            ("^^^^^^^^^1.2.3", OrganisationDefect::Nameless),
            ("A^lol", OrganisationDefect::Extra),
            ("A^^^^^^^^^45", OrganisationDefect::Authority),
            ("A^^^^^&1.2&DNS^^^^45", OrganisationDefect::Authority),
        ] {
            assert!(defect.is_in(xon), "{xon}");
        }
        for good in ["A", "A^^^^^^^^^1.2.3", "A^^^^^&1.2.3&ISO^^^^45"] {
            let defects = [OrganisationDefect::Nameless, OrganisationDefect::Extra, OrganisationDefect::Authority];
            assert!(!defects.iter().any(|defect| defect.is_in(good)), "{good}");
        }
        for (xtn, fits) in [
            ("^^Internet^tiina@example.fi", true),
            ("^NET^Internet^tiina@example.fi", true),
            ("^PRN^PH^^358^40^1234567", true),
            ("+358401234567", true),
            ("^PRN^Internet^tiina@example.fi", false),
            ("^PRN^PH^tiina@example.fi", false),
            ("^NET^PH^^^^123", false),
            ("^^Internet^", false),
            ("^PRN^PH^^358", false),
        ] {
            assert_eq!(is_telecom(xtn), fits, "{xtn}");
        }
        for (recipient, fits) in [
            ("A^^^^^^^^^1.2.3|1^Testaaja^^^^^^^&1.2.3&ISO|^^Internet^t@example.fi", true),
            ("|^Testaaja", true),
            ("||", false),
            ("A|B|^^Internet^t@example.fi|C", false),
            ("|^^^^^Dr", false),
        ] {
            assert_eq!(is_recipient(recipient), fits, "{recipient}");
        }
    }

    #[test]
    fn a_uri_has_legal_characters_and_a_legal_scheme() {
        for good in ["http://129.6.58.92:9080/Repository/1.txt", "relative/path", "urn:oid:1.2", "a%20b", "mailto:a@b"] {
            assert!(is_uri(good), "{good}");
        }
        for bad in ["", ":lol:", "1http://x", "a b", "a%2", "a%zz", "ä"] {
            assert!(!is_uri(bad), "{bad}");
        }
    }
}

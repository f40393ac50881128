//! OIDs of organisations below `1.2.246.10` (profile 04 §5.4, 06 §2.1; 01 D422, D435).
//!
//! `1.2.246.10.<Y>` is an organisation by its business id (Y-tunnus); the next arc is the node: 12 software,
//! 14 service event, 19 controller, 22 temporary identifiers, 10 units.

use std::fmt;

/// Root of organisation OIDs.
pub const ORGANISATION_ROOT: &str = "1.2.246.10";
/// Node of controllers.
pub const CONTROLLER_NODE: &str = "19";

/// A business id (Y-tunnus) without dash and leading zeros, check digit verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct YTunnus(String);

impl YTunnus {
    /// Reads 1–8 digits without dash and leading zeros, as an OID arc carries them.
    ///
    /// Check digit: weights 7 9 10 5 8 4 2 over the first seven of eight digits, sum modulo 11: 0 → 0, 1 → invalid,
    /// else 11 − remainder.
    pub fn parse(digits: &str) -> Option<Self> {
        if !(1..=8).contains(&digits.len()) || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let padded = format!("{digits:0>8}");
        let mut value = padded.bytes().map(|b| u32::from(b - b'0'));
        let sum: u32 = [7, 9, 10, 5, 8, 4, 2].into_iter().zip(value.by_ref()).map(|(weight, digit)| weight * digit).sum();
        let expected = match sum % 11 {
            0 => 0,
            1 => return None,
            remainder => 11 - remainder,
        };
        (value.next() == Some(expected)).then(|| Self(digits.to_owned()))
    }

    /// Digits as in an OID.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `1.2.246.10.<Y>`.
    pub fn to_oid(&self) -> String {
        format!("{ORGANISATION_ROOT}.{}", self.0)
    }
}

impl fmt::Display for YTunnus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `oid` is `ancestor` or below it, compared by whole arcs: `…10.10` is not below `…10.1`.
pub fn is_same_or_below(oid: &str, ancestor: &str) -> bool {
    oid.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) && !ancestor.is_empty()
}

/// The arc after `1.2.246.10`, 1–8 digits, check digit not judged: the `<Y>` of an organisation's OID.
pub fn business_id_arc(oid: &str) -> Option<&str> {
    let arc = oid.strip_prefix(ORGANISATION_ROOT)?.strip_prefix('.')?.split('.').next()?;
    ((1..=8).contains(&arc.len()) && arc.bytes().all(|b| b.is_ascii_digit())).then_some(arc)
}

/// Whether two OIDs stand below the same organisation; `None` if one of them stands below none.
pub fn same_organisation(a: &str, b: &str) -> Option<bool> {
    Some(business_id_arc(a)? == business_id_arc(b)?)
}

/// Whether `oid` is a controller's: below `1.2.246.10.<Y>.19`.
pub fn is_controller(oid: &str) -> bool {
    arcs_after_organisation(oid).is_some_and(|mut arcs| arcs.next() == Some(CONTROLLER_NODE) && arcs.next().is_some())
}

/// The `<Y>` of a service event, `^1\.2\.246\.10\.<Y>\.14[0-9]*\.[0-9]{4}\.[0-9]+$` (05 §4.1, 01 D422).
pub fn service_event_organisation(oid: &str) -> Option<&str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut arcs = arcs_after_organisation(oid)?;
    let (node, year, number) = (arcs.next()?, arcs.next()?, arcs.next()?);
    let holds = node.starts_with("14") && digits(node) && year.len() == 4 && digits(year) && digits(number) && arcs.next().is_none();
    holds.then(|| business_id_arc(oid)).flatten()
}

fn arcs_after_organisation(oid: &str) -> Option<std::str::Split<'_, char>> {
    let organisation = business_id_arc(oid)?;
    Some(oid.get(ORGANISATION_ROOT.len() + 1 + organisation.len()..)?.strip_prefix('.')?.split('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_business_id_has_its_check_digit() {
        for good in ["90000011", "90000038", "90000118", "90000046", "90000054", "90000062", "12345671"] {
            assert_eq!(YTunnus::parse(good).map(|y| y.to_oid()), Some(format!("1.2.246.10.{good}")));
        }
        for bad in ["90000012", "90000030", "", "0", "012345671", "123456719", "1234567-1", "1234567١"] {
            assert_eq!(YTunnus::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_short_business_id_is_padded_for_the_check_only() {
        // 0100000: 9 × 1 = 9, check digit 11 − 9 = 2.
        assert_eq!(YTunnus::parse("1000002").map(|y| y.as_str().to_owned()), Some("1000002".to_owned()));
        assert_eq!(YTunnus::parse("01000002"), None);
    }

    #[test]
    fn remainder_one_has_no_check_digit() {
        let sum_one = (1..2000_u32)
            .map(|n| format!("{n:07}"))
            .find(|seven| seven.bytes().zip([7, 9, 10, 5, 8, 4, 2]).map(|(b, w)| u32::from(b - b'0') * w).sum::<u32>() % 11 == 1);
        let seven = sum_one.expect("some number has remainder 1");
        for check in 0..10 {
            assert_eq!(YTunnus::parse(format!("{seven}{check}").trim_start_matches('0')), None);
        }
    }

    #[test]
    fn descendants_are_found_by_whole_arcs() {
        assert!(is_same_or_below("1.2.246.10.90000118.10.1", "1.2.246.10.90000118.10.1"));
        assert!(is_same_or_below("1.2.246.10.90000118.10.1.5", "1.2.246.10.90000118.10.1"));
        assert!(!is_same_or_below("1.2.246.10.90000118.10.10", "1.2.246.10.90000118.10.1"));
        assert!(!is_same_or_below("1.2.246.10.90000118.10", "1.2.246.10.90000118.10.1"));
        assert!(!is_same_or_below("1.2", ""));
    }

    #[test]
    fn service_events_and_controllers_have_their_nodes() {
        assert_eq!(service_event_organisation("1.2.246.10.90000011.14.2025.100"), Some("90000011"));
        assert_eq!(service_event_organisation("1.2.246.10.90000011.142.2025.100"), Some("90000011"));
        for bad in [
            "1.2.246.10.90000011.15.2025.100",
            "1.2.246.10.90000011.14.25.100",
            "1.2.246.10.90000011.14.2025",
            "1.2.246.10.90000011.14.2025.1.2",
            "1.2.246.10.14.2025.100",
            "1.2.246.100.90000011.14.2025.100",
            "",
        ] {
            assert_eq!(service_event_organisation(bad), None, "{bad}");
        }
        assert!(is_controller("1.2.246.10.90000011.19.0"));
        assert!(!is_controller("1.2.246.10.90000011.19"));
        assert!(!is_controller("1.2.246.10.90000011.190.0"));
        assert_eq!(same_organisation("1.2.246.10.90000011.19.0", "1.2.246.10.90000011.10.1"), Some(true));
        assert_eq!(same_organisation("1.2.246.10.90000011.19.0", "1.2.246.10.90000038.10.1"), Some(false));
        assert_eq!(same_organisation("1.2.246.10.90000011.19.0", "1.2.3"), None);
    }

    proptest! {
        #[test]
        fn below_means_the_same_arcs_and_more(a in proptest::collection::vec(0_u32..12, 1..6), b in proptest::collection::vec(0_u32..12, 1..6)) {
            let text = |arcs: &[u32]| arcs.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            prop_assert_eq!(is_same_or_below(&text(&a), &text(&b)), a.starts_with(&b));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in "(1\\.2\\.246\\.10\\.)?\\PC{0,20}") {
            let _ = (business_id_arc(&text), service_event_organisation(&text), is_controller(&text), YTunnus::parse(&text));
        }
    }
}

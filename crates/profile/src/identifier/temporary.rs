//! Roots of temporary patient identifiers (profile 06 §2.1, 01 §3.3 `temp_issuer_pattern`).

use super::YTunnus;
use super::organisation::{ORGANISATION_ROOT, business_id_arc};

/// `1.2.246.10.<Y>.22.<year>` or `1.2.246.10.<Y>.10.<n>.22.<year>`, by shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root<'a> {
    /// The `<Y>` arc, 1–8 digits; see [`Root::holds`] for its check digit.
    pub business_id: &'a str,
    /// Four digits.
    pub year: i16,
}

impl<'a> Root<'a> {
    /// Reads an issuer OID; `None` if it is not of the shape of a temporary root.
    pub fn parse(oid: &'a str) -> Option<Self> {
        let business_id = business_id_arc(oid)?;
        let rest = oid.get(ORGANISATION_ROOT.len() + 1 + business_id.len()..)?.strip_prefix('.')?;
        let arcs: Vec<&str> = rest.splitn(5, '.').collect();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let year = match arcs.as_slice() {
            ["22", year] => year,
            ["10", unit, "22", year] if is_number(unit) => year,
            _ => return None,
        };
        (year.len() == 4 && is_number(year)).then_some(())?;
        Some(Self { business_id, year: year.parse().ok()? })
    }

    /// Whether the business id is valid and the year lies in 2000 … `current_year`.
    pub fn holds(&self, current_year: i16) -> bool {
        self.year_holds(current_year) && YTunnus::parse(self.business_id).is_some()
    }

    /// Whether the year lies in 2000 … `current_year` (01 D310).
    pub fn year_holds(&self, current_year: i16) -> bool {
        (2000..=current_year).contains(&self.year)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        for oid in ["1.2.246.10.90000011.22.2025", "1.2.246.10.90000011.10.7.22.2025"] {
            assert_eq!(Root::parse(oid), Some(Root { business_id: "90000011", year: 2025 }), "{oid}");
        }
    }

    #[test]
    fn year_and_business_id_are_judged() {
        let holds = |oid: &str| Root::parse(oid).is_some_and(|root| root.holds(2025));
        assert!(holds("1.2.246.10.90000011.22.2000"));
        assert!(holds("1.2.246.10.90000011.22.2025"));
        assert!(!holds("1.2.246.10.90000011.22.1999"));
        assert!(!holds("1.2.246.10.90000011.22.2026"));
        assert!(!holds("1.2.246.10.90000012.22.2025"));
    }

    proptest! {
        /// The shape is that of `temp_issuer_pattern` (01 §3.3).
        #[test]
        fn the_shape_is_the_profiles_pattern(oid in "1\\.2\\.246\\.10\\.[0-9]{0,9}(\\.10)?(\\.[0-9]{0,2})?\\.2[12]\\.[0-9]{3,5}(\\.1)?") {
            let pattern = regex::Regex::new(r"^1\.2\.246\.10\.[0-9]{1,8}(\.10\.[0-9]+)?\.22\.[0-9]{4}$").expect("pattern");
            prop_assert_eq!(Root::parse(&oid).is_some(), pattern.is_match(&oid));
        }
    }
}

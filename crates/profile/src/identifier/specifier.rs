//! Register specifier: for register 4 (occupational health) the employer, person or no-id customer (profile 04 §5.4).

use super::organisation::ORGANISATION_ROOT;
use super::{HETU_AUTHORITY, Hetu, HetuError, NO_ID_CUSTOMER_ROOT, YTunnus};
use idr_ihe::metadata::PatientId;
use jiff::civil::Date;
use std::fmt;

/// A register specifier in its one canonical form, so that equality is equality of the customer.
///
/// Text form (profile 02 §4.7, slot `registerSpecifier`): `1.2.246.10.<Y>`, `<hetu>^^^&1.2.246.21&ISO`, an OID below
/// `1.2.246.537.30`, or `<id>^^^&1.2.246.537.30&ISO` where the local id is no OID tail. `Debug` shows organisations only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Specifier(String);

/// Why a value is no register specifier. Carries no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecifierError {
    /// The root is none of the three.
    #[error("register specifier: root is not 1.2.246.10, 1.2.246.21 or 1.2.246.537.30")]
    Root,
    /// The business id or its check digit is wrong, or given twice.
    #[error("register specifier: business id is not valid")]
    BusinessId,
    /// The person's hetu does not hold.
    #[error("register specifier: {0}")]
    Person(#[from] HetuError),
    /// The no-id customer's value is empty, longer than 64 or has a forbidden character.
    #[error("register specifier: customer id is not 1–64 printable characters without ^ & | ~ \\")]
    Customer,
}

impl Specifier {
    /// From an HL7 II: `root` an OID, `extension` the id below it (04 §5.4). `today` bounds a person's birth date.
    ///
    /// # Errors
    /// [`SpecifierError`] by part.
    pub fn from_ii(root: &str, extension: Option<&str>, today: Date) -> Result<Self, SpecifierError> {
        match (root, extension.filter(|text| !text.is_empty())) {
            (ORGANISATION_ROOT, Some(digits)) => organisation(digits),
            (HETU_AUTHORITY, Some(hetu)) => Ok(Self(person(&Hetu::read(hetu, today)?.hetu))),
            (NO_ID_CUSTOMER_ROOT, Some(id)) => customer(id),
            (_, None) => match root.strip_prefix(ORGANISATION_ROOT).and_then(|rest| rest.strip_prefix('.')) {
                Some(digits) => organisation(digits),
                None => Err(SpecifierError::Root),
            },
            _ => Err(SpecifierError::Root),
        }
    }

    /// From the text form of a slot (02 §4.7).
    ///
    /// # Errors
    /// [`SpecifierError`] by part.
    pub fn from_slot(text: &str, today: Date) -> Result<Self, SpecifierError> {
        if let Some(id) = text.strip_prefix(NO_ID_CUSTOMER_ROOT).and_then(|rest| rest.strip_prefix('.')) {
            return if is_oid_tail(id) { customer(id) } else { Err(SpecifierError::Customer) };
        }
        match PatientId::parse_cx(text) {
            Ok(cx) => Self::from_ii(&cx.authority, Some(&cx.id), today),
            Err(_) => Self::from_ii(text, None, today),
        }
    }

    /// The canonical text. For a person it holds a hetu: patient data, never log it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn organisation(digits: &str) -> Result<Specifier, SpecifierError> {
    YTunnus::parse(digits).map(|id| Specifier(id.to_oid())).ok_or(SpecifierError::BusinessId)
}

fn person(hetu: &Hetu) -> String {
    PatientId { id: hetu.as_str().to_owned(), authority: HETU_AUTHORITY.to_owned() }.to_cx()
}

fn customer(id: &str) -> Result<Specifier, SpecifierError> {
    let oid = format!("{NO_ID_CUSTOMER_ROOT}.{id}");
    if is_oid_tail(id) && oid.len() <= 64 {
        return Ok(Specifier(oid));
    }
    if !(1..=64).contains(&id.chars().count()) || id.chars().any(|c| c.is_control() || "^&|~\\".contains(c)) {
        return Err(SpecifierError::Customer);
    }
    Ok(Specifier(PatientId { id: id.to_owned(), authority: NO_ID_CUSTOMER_ROOT.to_owned() }.to_cx()))
}

fn is_oid_tail(text: &str) -> bool {
    text.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0')))
}

impl From<Specifier> for String {
    fn from(specifier: Specifier) -> Self {
        specifier.0
    }
}

/// Reads back what was stored; a person's birth date was judged when it was first taken in.
impl TryFrom<String> for Specifier {
    type Error = SpecifierError;
    fn try_from(text: String) -> Result<Self, SpecifierError> {
        Self::from_slot(&text, Date::MAX)
    }
}

impl fmt::Debug for Specifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_organisation = self.0.starts_with(ORGANISATION_ROOT) && !self.0.contains('^');
        f.write_str(if is_organisation { &self.0 } else { "<redacted>" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const TODAY: Date = date(2025, 6, 15);

    #[test]
    fn all_forms_of_one_customer_are_equal() {
        let employer = Specifier::from_ii("1.2.246.10", Some("90000054"), TODAY).expect("valid");
        assert_eq!(Specifier::from_ii("1.2.246.10.90000054", None, TODAY), Ok(employer.clone()));
        assert_eq!(Specifier::from_ii("1.2.246.10.90000054", Some(""), TODAY), Ok(employer.clone()));
        assert_eq!(Specifier::from_slot("1.2.246.10.90000054", TODAY), Ok(employer));
        let person = Specifier::from_ii("1.2.246.21", Some("010190-900p"), TODAY).expect("valid");
        assert_eq!(Specifier::from_slot("010190-900P^^^&1.2.246.21&ISO", TODAY), Ok(person));
        let customer = Specifier::from_ii("1.2.246.537.30", Some("5.7"), TODAY).expect("valid");
        assert_eq!(Specifier::from_slot("1.2.246.537.30.5.7", TODAY), Ok(customer.clone()));
        assert_eq!(customer.as_str(), "1.2.246.537.30.5.7");
        let local = Specifier::from_ii("1.2.246.537.30", Some("A-7"), TODAY).expect("valid");
        assert_eq!(Specifier::from_slot(local.as_str(), TODAY), Ok(local));
    }

    #[test]
    fn what_names_no_customer_is_refused() {
        for (root, extension, error) in [
            ("1.2.246.10", Some("90000055"), SpecifierError::BusinessId),
            ("1.2.246.10.90000054", Some("90000054"), SpecifierError::Root),
            ("1.2.246.10.90000054.1", None, SpecifierError::BusinessId),
            ("1.2.246.100.90000054", None, SpecifierError::Root),
            ("1.2.246.10", None, SpecifierError::Root),
            ("1.2.246.21", None, SpecifierError::Root),
            ("1.2.246.21", Some("010190-900R"), SpecifierError::Person(HetuError::Check)),
            ("1.2.246.537.30", Some("a^b"), SpecifierError::Customer),
            ("1.2.3", Some("x"), SpecifierError::Root),
        ] {
            assert_eq!(Specifier::from_ii(root, extension, TODAY), Err(error), "{root}");
        }
    }

    #[test]
    fn a_persons_specifier_is_not_printed_and_is_stored_as_text() {
        let person = Specifier::from_ii("1.2.246.21", Some("010190-900P"), TODAY).expect("valid");
        assert_eq!(format!("{person:?}"), "<redacted>");
        let stored = serde_json::to_string(&person).expect("text");
        assert_eq!(serde_json::from_str::<Specifier>(&stored).expect("read back"), person);
        assert!(serde_json::from_str::<Specifier>("\"1.2.3\"").is_err());
    }
}

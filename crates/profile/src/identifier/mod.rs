//! Identifiers: persons and organisations (profile 06 §2, 04 §5.4).
//!
//! [`check`] judges a patient identifier by its assigning authority, never by its shape, and gives its canonical form.
//! [`Hetu`] is the national personal identity code, [`temporary`] the roots of temporary identifiers,
//! [`organisation`] the OIDs below `1.2.246.10`, [`Specifier`] the third part of a register's name.
//!
//! # Standard
//! Profile 06 §2. Values that are data stand in `configs/rules/<set>/identity.toml` ([`IdentityRules`]); the form of a
//! hetu, of an organisation OID and their check digits are facts of those identifiers and stand here.

pub mod hetu;
pub mod organisation;
mod rules;
mod specifier;
pub mod temporary;

pub use hetu::{Hetu, HetuError};
pub use organisation::{YTunnus, is_same_or_below};
pub use rules::{Environment, IdentityRules, IdentityRulesError, MergedIdAnswer, NoneAndActive, Response};
pub use specifier::{Specifier, SpecifierError};

use idr_ihe::metadata::PatientId;
use jiff::civil::Date;

/// Root of the personal identity code.
pub const HETU_AUTHORITY: &str = "1.2.246.21";
/// Root of the electronic client identifier (SATU).
pub const SATU_AUTHORITY: &str = "1.2.246.22";
/// Root of customers without an identifier: only a register specifier, never a patient id.
pub const NO_ID_CUSTOMER_ROOT: &str = "1.2.246.537.30";

/// What an assigning authority names (profile 06 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentifierKind {
    /// Personal identity code under `1.2.246.21`.
    Hetu,
    /// Temporary identifier under `1.2.246.10.<Y>[.10.<n>].22.<year>`.
    Temporary,
    /// Electronic client identifier under `1.2.246.22`; secondary only.
    Satu,
    /// An authority listed as local; secondary only.
    Local,
}

/// A warning of the identifier check (profile 06 W-01 … W-16). Accepted, but somebody should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Warning {
    /// W-01: lower-case letters were raised.
    Raised,
    /// W-14: a temporary identifier has not the expected form.
    TemporaryForm,
    /// W-15: the value under a temporary root is a valid hetu with an individual number of at most 899.
    HetuUnderTemporaryRoot,
    /// W-16: a hetu outside the test range in a test environment.
    RealHetuInTest,
}

impl Warning {
    /// The profile's id, `W-01`.
    pub fn id(self) -> &'static str {
        match self {
            Self::Raised => "W-01",
            Self::TemporaryForm => "W-14",
            Self::HetuUnderTemporaryRoot => "W-15",
            Self::RealHetuInTest => "W-16",
        }
    }
}

/// A patient identifier that holds: canonical value, kind, warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Canonical form: a hetu in upper case without blanks, anything else as sent.
    pub id: PatientId,
    /// What the authority names.
    pub kind: IdentifierKind,
    /// In the order of the rules; empty when nothing is odd.
    pub warnings: Vec<Warning>,
}

impl Checked {
    /// Whether it may be a patient's primary identifier: a hetu or a temporary one (profile 06 §2.1).
    pub fn may_be_primary(&self) -> bool {
        matches!(self.kind, IdentifierKind::Hetu | IdentifierKind::Temporary)
    }
}

/// Why a patient identifier does not hold. Carries no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Not a hetu.
    #[error("patient id under {HETU_AUTHORITY}: {0}")]
    Hetu(#[from] HetuError),
    /// The authority is none of the profile's and not listed as local.
    #[error("patient id: the assigning authority is not accepted; map it or correct the identity at the source")]
    Authority,
    /// Authority of a temporary identifier with a wrong business id or a year outside 2000 … this year.
    #[error("patient id: the temporary root is not well formed (business id or year)")]
    TemporaryRoot,
    /// The value has characters or a length that its kind does not allow.
    #[error("patient id: the value is not of the form of its kind")]
    Value,
    /// A test number in production (profile 06 §2.2 step 6).
    #[error("patient id: individual number 900–999 under {HETU_AUTHORITY} is not accepted in production")]
    TestNumber,
    /// A real number in test, where `real_hetu_in_test = "refuse"`.
    #[error("patient id: a real personal identity code is not accepted in a test environment")]
    RealNumber,
}

/// Judges a patient identifier by its authority (profile 06 §2).
///
/// `today` is the civil date in Europe/Helsinki; `local_issuers` the deployment's list of secondary authorities.
///
/// # Errors
/// [`IdentifierError`] says which part does not hold, never its value.
pub fn check(
    id: &PatientId,
    rules: &IdentityRules,
    environment: Environment,
    local_issuers: &[String],
    today: Date,
) -> Result<Checked, IdentifierError> {
    let checked =
        |kind, value: &str, warnings| Checked { id: PatientId { id: value.to_owned(), authority: id.authority.clone() }, kind, warnings };
    match id.authority.as_str() {
        HETU_AUTHORITY => {
            let read = Hetu::read(&id.id, today)?;
            let mut warnings = Vec::new();
            if read.raised {
                warnings.push(Warning::Raised);
            }
            match (environment, read.hetu.is_test_range()) {
                (Environment::Production, true) => return Err(IdentifierError::TestNumber),
                (Environment::Test, false) if rules.real_hetu_in_test == Response::Refuse => return Err(IdentifierError::RealNumber),
                (Environment::Test, false) => warnings.push(Warning::RealHetuInTest),
                _ => {}
            }
            Ok(checked(IdentifierKind::Hetu, read.hetu.as_str(), warnings))
        }
        SATU_AUTHORITY if is_satu(&id.id) => Ok(checked(IdentifierKind::Satu, &id.id, Vec::new())),
        SATU_AUTHORITY => Err(IdentifierError::Value),
        authority => match temporary::Root::parse(authority) {
            Some(root) => {
                if !root.holds(today.year()) {
                    return Err(IdentifierError::TemporaryRoot);
                }
                if !rules.temporary_value.is_match(&id.id) {
                    return Err(IdentifierError::Value);
                }
                let mut warnings = Vec::new();
                if !rules.temporary_form.is_match(&id.id) {
                    warnings.push(Warning::TemporaryForm);
                }
                if Hetu::parse(&id.id, today).is_ok_and(|hetu| !hetu.is_test_range()) {
                    warnings.push(Warning::HetuUnderTemporaryRoot);
                }
                Ok(checked(IdentifierKind::Temporary, &id.id, warnings))
            }
            None if !local_issuers.iter().any(|issuer| issuer == authority) => Err(IdentifierError::Authority),
            None if (1..=64).contains(&id.id.chars().count()) && !id.id.chars().any(char::is_control) => {
                Ok(checked(IdentifierKind::Local, &id.id, Vec::new()))
            }
            None => Err(IdentifierError::Value),
        },
    }
}

/// Eight digits and the check character of the hetu over them.
fn is_satu(text: &str) -> bool {
    text.len() == 9
        && text.bytes().take(8).all(|b| b.is_ascii_digit())
        && text.get(..8).and_then(|digits| digits.parse().ok()).is_some_and(|number| hetu::check_character(number) == text.as_bytes()[8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const TODAY: Date = date(2025, 6, 15);

    fn judged(value: &str, authority: &str, environment: Environment) -> Result<Checked, IdentifierError> {
        let id = PatientId { id: value.to_owned(), authority: authority.to_owned() };
        check(&id, &IdentityRules::shipped(), environment, &["1.2.246.10.90000011.99".to_owned()], TODAY)
    }

    #[test]
    fn the_authority_decides_the_kind() {
        for (value, authority, kind) in [
            ("010190-900P", HETU_AUTHORITY, IdentifierKind::Hetu),
            ("010190-900P", "1.2.246.10.90000011.22.2025", IdentifierKind::Temporary),
            ("010190-900P", "1.2.246.10.90000011.10.4.22.2025", IdentifierKind::Temporary),
            ("010190-900P", "1.2.246.10.90000011.99", IdentifierKind::Local),
            ("12345678N", SATU_AUTHORITY, IdentifierKind::Satu),
        ] {
            let checked = judged(value, authority, Environment::Test).unwrap_or_else(|e| panic!("{authority}: {e}"));
            assert_eq!((checked.kind, checked.warnings), (kind, vec![]), "{authority}");
        }
        assert_eq!(judged("010190-900P", NO_ID_CUSTOMER_ROOT, Environment::Test), Err(IdentifierError::Authority));
        assert_eq!(judged("010190-900P", "1.2.840.99.1", Environment::Test), Err(IdentifierError::Authority));
    }

    #[test]
    fn a_test_number_is_refused_in_production_and_a_real_one_is_seen_in_test() {
        assert_eq!(judged("010190-900P", HETU_AUTHORITY, Environment::Production), Err(IdentifierError::TestNumber));
        let real = hetu::made("010100", '+', 899);
        assert_eq!(judged(&real, HETU_AUTHORITY, Environment::Test).map(|c| c.warnings), Ok(vec![Warning::RealHetuInTest]));
        assert_eq!(judged(&real, HETU_AUTHORITY, Environment::Production).map(|c| c.warnings), Ok(vec![]));
        let strict = IdentityRules { real_hetu_in_test: Response::Refuse, ..IdentityRules::shipped() };
        let id = PatientId { id: real, authority: HETU_AUTHORITY.to_owned() };
        assert_eq!(check(&id, &strict, Environment::Test, &[], TODAY), Err(IdentifierError::RealNumber));
    }

    #[test]
    fn temporary_identifiers_are_kept_as_sent_and_odd_ones_are_told() {
        let root = "1.2.246.10.90000011.22.2025";
        let warnings = |value: &str| judged(value, root, Environment::Test).map(|c| (c.id.id, c.warnings));
        assert_eq!(warnings("tmp.1"), Ok(("tmp.1".to_owned(), vec![Warning::TemporaryForm])));
        let real = hetu::made("010100", '+', 899);
        assert_eq!(warnings(&real), Ok((real.clone(), vec![Warning::HetuUnderTemporaryRoot])));
        assert_eq!(judged("010190 900P", root, Environment::Test), Err(IdentifierError::Value));
        assert_eq!(judged("", root, Environment::Test), Err(IdentifierError::Value));
        for bad in ["1.2.246.10.90000012.22.2025", "1.2.246.10.90000011.22.1999", "1.2.246.10.90000011.22.2026"] {
            assert_eq!(judged("010190-900P", bad, Environment::Test), Err(IdentifierError::TemporaryRoot), "{bad}");
        }
    }

    #[test]
    fn lower_case_is_raised_with_a_warning() {
        let checked = judged(" 290200a910n ", HETU_AUTHORITY, Environment::Test).expect("valid");
        assert_eq!((checked.id.id.as_str(), checked.warnings), ("290200A910N", vec![Warning::Raised]));
    }

    #[test]
    fn a_wrong_satu_is_refused() {
        for bad in ["12345678C", "1234567N", "1234567äN", ""] {
            assert_eq!(judged(bad, SATU_AUTHORITY, Environment::Test), Err(IdentifierError::Value), "{bad}");
        }
    }
}

//! Syntax of parameter values (ITI TF-2 §3.18.4.1.2.3.5; profile 08 §8).

use super::definition::Kind;
use super::error::QueryError;
use crate::ebxml::{lower_uuid, scheme};
use crate::metadata::{AvailabilityStatus, EntryType, PatientId};

/// One value as written: a quoted string without its quotes, or a number.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// `'…'` or `"…"`.
    Text(String),
    /// Digits.
    Number(String),
}

/// A value by its kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// `$XDS…PatientId`.
    Patient(PatientId),
    /// Code.
    Code(CodeValue),
    /// DTM, padded to 14 digits.
    Time(String),
    /// Pattern.
    Like(LikePattern),
    /// Availability status.
    Status(AvailabilityStatus),
    /// objectType.
    EntryType(EntryType),
    /// Level 1 or 2.
    Level(u8),
    /// Lower-case `urn:uuid:`, uniqueId, CXi, association type, any text.
    Text(String),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(<redacted>)")
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(<redacted>)")
    }
}

/// A code to be found: display names do not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CodeValue {
    /// Code.
    pub code: String,
    /// Coding scheme.
    pub system: String,
}

/// Splits the text of one `rim:Value` into its tokens: `'a'`, `("b",'c')`, `20260101`. `''` inside single quotes is one
/// quote, `""` inside double quotes one double quote. `None`: malformed.
pub fn tokens(text: &str) -> Option<Vec<Token>> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('(') {
        let mut found = Vec::new();
        let mut rest = inner;
        loop {
            let (token, after) = token(rest.trim_start())?;
            found.push(token);
            let after = after.trim_start();
            if let Some(more) = after.strip_prefix(',') {
                rest = more;
            } else {
                return (after.strip_prefix(')')?.is_empty()).then_some(found);
            }
        }
    }
    let (token, rest) = token(text)?;
    rest.trim_start().is_empty().then(|| vec![token])
}

fn token(text: &str) -> Option<(Token, &str)> {
    let quote = text.chars().next()?;
    if quote != '\'' && quote != '"' {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        return (end > 0).then(|| (Token::Number(text[..end].to_owned()), &text[end..]));
    }
    let mut value = String::new();
    let mut rest = &text[1..];
    loop {
        let end = rest.find(quote)?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if !rest.starts_with(quote) {
            return Some((Token::Text(value), rest));
        }
        value.push(quote);
        rest = &rest[1..];
    }
}

/// Reads a token as a value of `kind`.
pub(super) fn value(token: Token, kind: Kind, parameter: &str) -> Result<Value, QueryError> {
    let refuse = |rule| QueryError::new(rule, Some(parameter));
    let text = match (token, kind) {
        (Token::Text(text), _) => text,
        (Token::Number(digits), Kind::Dtm | Kind::Level) => digits,
        (Token::Number(_), _) => return Err(refuse("Q-06")),
    };
    Ok(match kind {
        Kind::Cx => Value::Patient(PatientId::parse_cx(&text).map_err(|_| refuse("Q-09"))?),
        Kind::Code => {
            let mut parts = text.split('^');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(code), Some(""), Some(system), None) if !code.is_empty() && !system.is_empty() => {
                    Value::Code(CodeValue { code: code.to_owned(), system: system.to_owned() })
                }
                _ => return Err(refuse("Q-07")),
            }
        }
        Kind::Dtm => Value::Time(pad_dtm(&text).ok_or_else(|| refuse("Q-08"))?),
        Kind::Like => Value::Like(LikePattern::new(text).ok_or_else(|| refuse("Q-18"))?),
        Kind::Status => Value::Status(AvailabilityStatus::from_urn(&text).ok_or_else(|| refuse("Q-10"))?),
        Kind::EntryType => match lower_uuid(&text).as_str() {
            scheme::STABLE => Value::EntryType(EntryType::Stable),
            scheme::ON_DEMAND => Value::EntryType(EntryType::OnDemand),
            _ => return Err(refuse("Q-10")),
        },
        Kind::Uuid => {
            let id = lower_uuid(&text);
            if !is_uuid_urn(&id) {
                return Err(refuse("Q-09"));
            }
            Value::Text(id)
        }
        Kind::UniqueId => {
            if text.is_empty() || text.chars().count() > 128 {
                return Err(refuse("Q-09"));
            }
            Value::Text(text)
        }
        Kind::Cxi => {
            if !is_cxi(&text) {
                return Err(refuse("Q-09"));
            }
            Value::Text(text)
        }
        Kind::AssociationType => {
            const KNOWN: [&str; 7] = [
                scheme::association::HAS_MEMBER,
                scheme::association::RPLC,
                scheme::association::XFRM,
                scheme::association::APND,
                scheme::association::XFRM_RPLC,
                scheme::association::SIGNS,
                scheme::association::IS_SNAPSHOT_OF,
            ];
            if !KNOWN.contains(&text.as_str()) {
                return Err(refuse("Q-10"));
            }
            Value::Text(text)
        }
        Kind::Level => match text.as_str() {
            "1" => Value::Level(1),
            "2" => Value::Level(2),
            _ => return Err(refuse("Q-10")),
        },
        Kind::Text => Value::Text(text),
    })
}

fn is_uuid_urn(id: &str) -> bool {
    id.strip_prefix("urn:uuid:").is_some_and(|uuid| {
        uuid.len() == 36
            && uuid.bytes().enumerate().all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
    })
}

/// `id^^^&oid&ISO^type…`: an id, at most six components, an assigning authority whole or absent.
fn is_cxi(text: &str) -> bool {
    let parts: Vec<&str> = text.split('^').collect();
    let authority_ok = match parts.get(3).copied().unwrap_or_default() {
        "" => true,
        authority => {
            let sub: Vec<&str> = authority.split('&').collect();
            matches!(sub[..], [_, oid, "ISO"] if crate::metadata::is_oid(oid))
        }
    };
    parts.len() <= 6 && !parts[0].is_empty() && authority_ok
}

/// A DTM of 4, 6, 8, 10, 12 or 14 digits that names a real date, padded with the lowest digits to 14. `None` otherwise.
pub fn pad_dtm(text: &str) -> Option<String> {
    if !matches!(text.len(), 4 | 6 | 8 | 10 | 12 | 14) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{text}{}", &"00000101000000"[text.len()..]);
    let number = |from: usize, to: usize| padded[from..to].parse::<i16>().ok();
    let small = |from: usize, to: usize| padded[from..to].parse::<i8>().ok();
    jiff::civil::DateTime::new(number(0, 4)?, small(4, 6)?, small(6, 8)?, small(8, 10)?, small(10, 12)?, small(12, 14)?, 0).ok()?;
    Some(padded)
}

/// A pattern: `%` any text, `_` any character, all else itself; case counts.
#[derive(Clone, PartialEq, Eq)]
pub struct LikePattern(String);

impl std::fmt::Debug for LikePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LikePattern(<redacted>)")
    }
}

impl LikePattern {
    /// A pattern with at most four `%` and at least two literal characters; `None` otherwise.
    pub fn new(pattern: String) -> Option<Self> {
        let percents = pattern.chars().filter(|c| *c == '%').count();
        let literals = pattern.chars().filter(|c| !matches!(c, '%' | '_')).count();
        (percents <= 4 && literals >= 2).then_some(Self(pattern))
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does the whole text match? At most pattern × text steps.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (self.0.chars().collect(), text.chars().collect());
        let (mut p, mut t, mut retry) = (0, 0, None);
        while t < text.len() {
            match pattern.get(p) {
                Some('%') => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(c) if *c == '_' || *c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((after, from)) = retry else { return false };
                    retry = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '%')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_numbers_and_lists_are_split() {
        let text = |values: &[&str]| Some(values.iter().map(|v| Token::Text((*v).to_owned())).collect::<Vec<_>>());
        for (written, expected) in [
            ("'a'", text(&["a"])),
            (" ( 'a' , \"b\",'c' ) ", text(&["a", "b", "c"])),
            ("'it''s'", text(&["it's"])),
            ("\"a\"\"b'\"", text(&["a\"b'"])),
            ("''", text(&[""])),
            ("('(a,b)')", text(&["(a,b)"])),
            ("20260101", Some(vec![Token::Number("20260101".to_owned())])),
            ("(1,2)", Some(vec![Token::Number("1".to_owned()), Token::Number("2".to_owned())])),
        ] {
            assert!(tokens(written) == expected, "{written}");
        }
        for malformed in ["", "a", "'a", "a'", "'a' 'b'", "('a'", "'a')", "()", "('a',)", "('a')x", "(('a'))", "-1", "'a'b"] {
            assert!(tokens(malformed).is_none(), "{malformed}");
        }
    }

    #[test]
    fn each_kind_refuses_what_is_not_its_form_with_its_rule() {
        let read = |kind, written: &str| value(tokens(written).expect(written).remove(0), kind, "$p").map_err(|e| e.rule);
        for (kind, good, bad, rule) in [
            (Kind::Cx, "'A^^^&1.2.246.21&ISO'", "'A^^^&1.2&X'", "Q-09"),
            (Kind::Code, "'a^^s'", "'a'", "Q-07"),
            (Kind::Code, "'a^^s'", "'a^b^s'", "Q-07"),
            (Kind::Code, "'a^^1.2'", "'a^^'", "Q-07"),
            (Kind::Dtm, "2026", "20261", "Q-08"),
            (Kind::Dtm, "'20260115'", "'2026-01-15'", "Q-08"),
            (Kind::Dtm, "20240229", "20250229", "Q-08"),
            (Kind::Like, "'%Te%'", "'%T%'", "Q-18"),
            (Kind::Like, "'%a%b%c%'", "'%a%b%c%d%'", "Q-18"),
            (Kind::Status, "'urn:oasis:names:tc:ebxml-regrep:StatusType:Approved'", "'Approved'", "Q-10"),
            (Kind::EntryType, "'urn:uuid:7EDCA82F-054d-47f2-a032-9b2a5b5186c1'", "'Stable'", "Q-10"),
            (Kind::AssociationType, "'urn:ihe:iti:2007:AssociationType:RPLC'", "'RPLC'", "Q-10"),
            (Kind::Uuid, "'urn:uuid:7EDCA82F-054d-47f2-a032-9b2a5b5186c1'", "'7edca82f'", "Q-09"),
            (Kind::Cxi, "'1^^^^urn:x'", "'^^^^urn:x'", "Q-09"),
            (Kind::Cxi, "'1^^^&1.2&ISO^urn:x'", "'1^^^&1.2^urn:x'", "Q-09"),
            (Kind::Level, "2", "3", "Q-10"),
            (Kind::UniqueId, "'1.2'", "''", "Q-09"),
            (Kind::Text, "'x'", "1", "Q-06"),
        ] {
            assert!(read(kind, good).is_ok(), "{good}");
            assert_eq!(read(kind, bad).err(), Some(rule), "{bad}");
        }
    }

    #[test]
    fn times_are_padded_with_the_lowest_digits() {
        for (written, padded) in [
            ("2026", "20260101000000"),
            ("202602", "20260201000000"),
            ("2026021509", "20260215090000"),
            ("20260215093001", "20260215093001"),
        ] {
            assert_eq!(pad_dtm(written).as_deref(), Some(padded));
        }
        for malformed in ["", "202", "2026020", "20261301", "2026021524", "20260215093060", "+2026021"] {
            assert_eq!(pad_dtm(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn patterns_match_as_sql_like_does() {
        for (pattern, text, matches) in [
            ("%Testaaja%", "1^Testaaja^T", true),
            ("Test_aja^%", "Testaaja^Tiina", true),
            ("Testaaja", "Testaaja^Tiina", false),
            ("testaaja%", "Testaaja", false),
            ("%ab%ab", "abxabyab", true),
            ("%ab%ab", "abxabya", false),
            ("äö%", "äö", true),
        ] {
            let like = LikePattern::new(pattern.to_owned()).expect(pattern);
            assert_eq!(like.matches(text), matches, "{pattern} {text}");
        }
    }
}

//! Whether a value matches a key (PS3.4 §C.2.2.2), on decoded text.
//!
//! An empty key matches everything (universal matching). An empty value matches an empty key, and `*`.

/// How the values of an attribute are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// A UID, or a list of them (§C.2.2.2.2).
    Uid,
    /// Single value or wildcard (§C.2.2.2.4), case-sensitive.
    Text,
    /// As text, without regard to case: names (§C.2.2.2.1 allows it).
    Name,
    /// Single value or range of dates (§C.2.2.2.5), `YYYYMMDD`.
    Date,
    /// Single value or range of times, `HHMMSS.FFFFFF`, cut from the right.
    Time,
    /// A whole number, whatever its leading zeros.
    Number,
    /// It is returned and not matched.
    No,
}

/// Characters of a key of text; a longer one matches nothing: no text that has a VR of a key is longer, and the cost of a wildcard
/// rises with both lengths.
pub const TEXT_KEY_MAX: usize = 1_024;

/// Whether one of the values (separated by `\` where the attribute has several) matches the key.
pub fn matches(matching: Matching, key: &str, value: &str) -> bool {
    let key = key.trim_matches(' ');
    if key.is_empty() {
        return true;
    }
    if matches!(matching, Matching::Text | Matching::Name) && key.len() > TEXT_KEY_MAX {
        return false;
    }
    let mut values = value.split('\\').map(|value| value.trim_matches([' ', '\0']));
    match matching {
        Matching::No => true,
        Matching::Uid => values.any(|value| key.split('\\').any(|one| one.trim_matches([' ', '\0']) == value && !value.is_empty())),
        Matching::Text => values.any(|value| wildcard(key, value)),
        Matching::Name => {
            let (key, value) = (name(key), name(value));
            wildcard(&key, &value)
        }
        Matching::Date => values.any(|value| ranged(key, value, date)),
        Matching::Time => values.any(|value| ranged(key, value, time)),
        Matching::Number => values.any(|value| match (key.parse::<i64>(), value.parse::<i64>()) {
            (Ok(key), Ok(value)) => key == value,
            _ => key == value,
        }),
    }
}

/// In lower case, without empty components at the end: `ÖHMAN^SANNI^^^` is `öhman^sanni`.
fn name(text: &str) -> String {
    text.trim_end_matches(['^', ' ', '=']).to_lowercase()
}

/// `*` stands for any characters, `?` for one. Linear in the value for each `*`: it goes back to the last one only.
fn wildcard(pattern: &str, value: &str) -> bool {
    let (pattern, value): (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
    let (mut p, mut v) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while v < value.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, v));
                p += 1;
            }
            Some(expected) if *expected == '?' || *expected == value[v] => {
                p += 1;
                v += 1;
            }
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, v) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

/// `a`, `a-b`, `a-`, `-b`, ends included. `bounds` gives the first and the last instant of a value; one that has none matches
/// no range and only itself.
fn ranged<T: Ord>(key: &str, value: &str, bounds: impl Fn(&str) -> Option<(T, T)>) -> bool {
    let Some((from, to)) = key.split_once('-') else {
        return match (bounds(key), bounds(value)) {
            (Some((first, last)), Some((from, to))) => first <= from && to <= last,
            _ => key == value,
        };
    };
    let (from, to) = (from.trim_matches(' '), to.trim_matches(' '));
    let Some((first, last)) = bounds(value) else { return false };
    let after = from.is_empty() || bounds(from).is_some_and(|(bound, _)| first >= bound);
    let before = to.is_empty() || bounds(to).is_some_and(|(_, bound)| last <= bound);
    after && before && !(from.is_empty() && to.is_empty())
}

fn date(text: &str) -> Option<(u32, u32)> {
    // ACR-NEMA wrote dots.
    let digits: String = text.chars().filter(|character| *character != '.').collect();
    let number = (digits.len() == 8).then(|| digits.parse().ok()).flatten()?;
    Some((number, number))
}

fn time(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: String = whole.chars().filter(|character| *character != ':').collect();
    if !matches!(whole.len(), 2 | 4 | 6) || fraction.len() > 6 || (!fraction.is_empty() && whole.len() != 6) {
        return None;
    }
    let digits = whole + fraction;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let filled = |with: char| digits.chars().chain(std::iter::repeat(with)).take(12).collect::<String>().parse().ok();
    Some((filled('0')?, filled('9')?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_match_as_the_standard_says() {
        use Matching::{Date, Name, Number, Text, Time, Uid};
        for (matching, key, value, expected) in [
            (Text, "", "anything", true),
            (Text, "T04", "T04", true),
            (Text, "T04", "t04", false),
            (Text, "T*9", "T04-9", true),
            (Text, "T?4", "T04", true),
            (Text, "T?4", "T4", false),
            (Text, "*", "", true),
            (Text, "a*b*c", "axbxbxc", true),
            (Text, "a*b*c", "axbxbx", false),
            (Text, "CT", "PT\\CT", true),
            (Name, "öhman*", "ÖHMAN^SANNI", true),
            (Name, "ÖHMAN^SANNI", "Öhman^Sanni^^^", true),
            (Name, "ohman*", "ÖHMAN^SANNI", false),
            (Uid, "1.2.3", "1.2.3", true),
            (Uid, "1.2.4\\1.2.3", "1.2.3", true),
            (Uid, "1.2.*", "1.2.3", false),
            (Date, "20260115", "20260115", true),
            (Date, "20260101-20260131", "20260115", true),
            (Date, "20260101-20260131", "20260131", true),
            (Date, "20260101-20260131", "20260201", false),
            (Date, "20260116-", "20260115", false),
            (Date, "-20260115", "20260115", true),
            (Date, "-", "20260115", false),
            (Date, "20260101-20260131", "", false),
            (Time, "10", "101530", true),
            (Time, "1015", "101530.5", true),
            (Time, "1016", "101530", false),
            (Time, "1000-1015", "101530", true),
            (Time, "1000-101529", "101530", false),
            (Time, "101530.5-", "101530", false),
            (Number, "1", "01", true),
            (Number, "1", "10", false),
        ] {
            assert_eq!(matches(matching, key, value), expected, "{matching:?} {key} {value}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_they_should() {
        assert!(!matches(Matching::Text, &"*a".repeat(500), &"a".repeat(499)));
        assert!(!matches(Matching::Text, &"*".repeat(TEXT_KEY_MAX + 1), "a"));
    }

    proptest! {
        #[test]
        fn any_texts_are_compared_without_a_panic(key: String, value: String, which in 0usize..7) {
            use Matching::{Date, Name, No, Number, Text, Time, Uid};
            let _ = matches([Uid, Text, Name, Date, Time, Number, No][which], &key, &value);
        }

        #[test]
        fn a_value_without_wildcards_matches_itself(value in "[A-Za-zäö0-9^]{1,20}") {
            prop_assert!(matches(Matching::Text, &value, &value) && matches(Matching::Name, &value, &value));
        }
    }
}

//! JSON canonicalisation (RFC 8785), for values whose numbers are integers.

use serde_json::Value;

/// Why a value has no canonical form here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// Fractions, exponents and integers beyond 2^53 − 1 occur in nothing that we sign.
    #[error("a number is not an integer of at most 2^53 - 1")]
    Number,
}

/// Largest integer that every JSON reader keeps exactly (RFC 8785 §3.2.2.3, RFC 7493 §2.2).
pub(super) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Canonical text of a value: members sorted by UTF-16 code units, no whitespace, shortest escapes.
///
/// # Errors
/// [`NotCanonical::Number`]; strings and structure always have a form.
pub fn canonical(value: &Value) -> Result<String, NotCanonical> {
    let mut out = String::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let small = number.as_i64().is_some_and(|n| n.unsigned_abs() <= INTEGER_MAX);
            if !small {
                return Err(NotCanonical::Number);
            }
            out.push_str(&number.to_string());
        }
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                string(name, out);
                out.push(':');
                write(member, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// serde_json escapes exactly what RFC 8785 §3.2.2.2 asks for: `"`, `\`, the five short forms, other controls as `\u00xx`.
fn string(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_sorted_by_utf16_code_units() {
        // RFC 8785 §3.2.3: U+1F600 (D83D DE00) sorts before U+FB33, although its code point and its UTF-8 are greater.
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let text = canonical(&value).expect("integers only");
        assert_eq!(text, "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}");
    }

    #[test]
    fn strings_have_the_shortest_escapes() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\u{8}\t\u{c}\r/\u{7f}\u{2028}");
        assert_eq!(canonical(&value).expect("a string"), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\b\\t\\f\\r/\u{7f}\u{2028}\"");
    }

    #[test]
    fn a_number_that_not_every_reader_keeps_is_refused() {
        assert_eq!(canonical(&json!([1.5])), Err(NotCanonical::Number));
        assert_eq!(canonical(&json!(9_007_199_254_740_992_u64)), Err(NotCanonical::Number));
        assert_eq!(canonical(&json!(-9_007_199_254_740_991_i64)).as_deref(), Ok("-9007199254740991"));
    }
}

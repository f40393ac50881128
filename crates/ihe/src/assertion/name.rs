//! Distinguished names and serial numbers as KeyInfo writes them (RFC 4514, XML Signature §4.5.4).

/// A name in certificate order: relative names of (type as dotted OID, value).
pub(super) type Name = Vec<Vec<(String, String)>>;

/// Short names of RFC 4514 §3 and those in common use (RFC 4519, RFC 2985).
const TYPES: [(&str, &str); 18] = [
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("S", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("T", "2.5.4.12"),
    ("TITLE", "2.5.4.12"),
    ("G", "2.5.4.42"),
    ("GIVENNAME", "2.5.4.42"),
    ("ORGANIZATIONIDENTIFIER", "2.5.4.97"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];
const NAME_BYTES: usize = 2048;

/// Whether an RFC 4514 text is this name: same types and values in order, ignoring case and doubled blanks.
pub(super) fn names_equal(text: &str, name: &Name) -> bool {
    let Some(mut read) = parse(text) else { return false };
    read.reverse();
    let normal = |rdn: &[(String, String)]| {
        let mut pairs: Vec<(String, String)> = rdn.iter().map(|(oid, value)| (oid.clone(), fold(value))).collect();
        pairs.sort();
        pairs
    };
    read.len() == name.len() && read.iter().zip(name).all(|(a, b)| normal(a) == normal(b))
}

/// Whether a decimal text of at most 78 digits is the unsigned big-endian integer `bytes`.
pub(super) fn decimal_equals(text: &str, bytes: &[u8]) -> bool {
    if !(1..=78).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    // Schoolbook: 78 digits are 33 bytes, so the number never needs a machine type.
    let mut value = [0_u8; 33];
    for digit in text.bytes() {
        let mut carry = u16::from(digit - b'0');
        for byte in value.iter_mut().rev() {
            carry += u16::from(*byte) * 10;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
    }
    without_zeros(&value) == without_zeros(bytes)
}

pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|b| *b != 0).map_or(&[], |first| &bytes[first..])
}

fn fold(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// RFC 4514 §3, with blanks around separators and RFC 2253's quoted values. Text order: most specific first.
fn parse(text: &str) -> Option<Name> {
    if text.len() > NAME_BYTES {
        return None;
    }
    let mut name: Name = vec![Vec::new()];
    let mut rest = text.trim();
    loop {
        let (kind, after) = rest.split_once('=')?;
        let kind = kind.trim();
        let oid = match TYPES.iter().find(|(short, _)| short.eq_ignore_ascii_case(kind)) {
            Some((_, oid)) => (*oid).to_owned(),
            None => {
                let dotted = kind.strip_prefix("OID.").unwrap_or(kind);
                (dotted.contains('.') && dotted.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then(|| dotted.to_owned())?
            }
        };
        let (value, separator, after) = value(after.trim_start())?;
        name.last_mut()?.push((oid, value));
        match separator {
            None => return Some(name),
            Some('+') => {}
            Some(_) => name.push(Vec::new()),
        }
        rest = after;
    }
}

/// One value, the separator after it, and what follows.
fn value(text: &str) -> Option<(String, Option<char>, &str)> {
    let mut bytes = Vec::new();
    let mut quoted = false;
    let mut chars = text.char_indices();
    let mut kept = 0;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if !quoted && bytes.is_empty() => quoted = true,
            '"' if quoted => quoted = false,
            '\\' => {
                let escaped = chars.as_str();
                match escaped.get(..2).and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                    Some(byte) => {
                        chars.next();
                        chars.next();
                        bytes.push(byte);
                    }
                    None => {
                        let (_, literal) = chars.next()?;
                        bytes.extend_from_slice(literal.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                kept = bytes.len();
            }
            ',' | ';' | '+' if !quoted => {
                return Some((finish(bytes, kept)?, Some(c), &text[at + c.len_utf8()..]));
            }
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    (!quoted).then(|| finish(bytes, kept).map(|value| (value, None, "")))?
}

/// Cuts blanks behind the last escape, and reads `#hex` as the text inside a DER string.
fn finish(mut bytes: Vec<u8>, kept: usize) -> Option<String> {
    while bytes.len() > kept && bytes.last() == Some(&b' ') {
        bytes.pop();
    }
    let text = String::from_utf8(bytes).ok()?;
    match text.strip_prefix('#').and_then(|digits| hex::decode(digits).ok()) {
        Some(der) => match der.split_first_chunk::<2>() {
            Some(([_, length], content)) if usize::from(*length) == content.len() => String::from_utf8(content.to_vec()).ok(),
            _ => None,
        },
        None => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        let one = |oid: &str, value: &str| vec![(oid.to_owned(), value.to_owned())];
        vec![
            one("2.5.4.6", "FI"),
            one("2.5.4.10", "Esimerkki, Oy"),
            one("2.5.4.97", "1.2.246.10.90000011"),
            one("2.5.4.3", "Allekirjoitus ä"),
        ]
    }

    #[test]
    fn a_name_is_found_in_each_of_its_usual_spellings() {
        for text in [
            "CN=Allekirjoitus ä,2.5.4.97=1.2.246.10.90000011,O=Esimerkki\\, Oy,C=FI",
            "cn=allekirjoitus  \\C3\\A4, organizationIdentifier = 1.2.246.10.90000011, O=\"Esimerkki, Oy\" ; C=fi",
            "CN=Allekirjoitus ä,OID.2.5.4.97=#0c13312e322e3234362e31302e3930303030303131,O=Esimerkki\\2C Oy,C=FI",
        ] {
            assert!(names_equal(text, &name()), "{text}");
        }
        for text in [
            "",
            "CN=x",
            "C=FI,O=Esimerkki\\, Oy,2.5.4.97=1.2.246.10.90000011,CN=Allekirjoitus ä",
            "CN=Allekirjoitus ä,O=\"",
            "X=1",
            "CN=a\\",
        ] {
            assert!(!names_equal(text, &name()), "{text}");
        }
    }

    #[test]
    fn a_serial_number_of_any_length_is_compared_by_value() {
        assert!(decimal_equals("256", &[1, 0]));
        assert!(decimal_equals("0256", &[0, 1, 0]));
        assert!(decimal_equals("1461501637330902918203684832716283019655932542975", &[0xff; 20]));
        assert!(!decimal_equals("1461501637330902918203684832716283019655932542974", &[0xff; 20]));
        assert!(!decimal_equals("", &[]));
        assert!(!decimal_equals("-1", &[1]));
        assert!(!decimal_equals(&"9".repeat(79), &[0xff; 33]));
    }
}

//! Character sets and form of strings (group D5).

use super::super::check::{CharsetFault, FormFault, TextFault};
use super::super::facts::Facts;
use super::{Found, any};
use crate::scan::{CharacterSet, Declared, Element, Vr, tags};
use dicom_core::Tag;

const ESC: u8 = 0x1B;

pub(super) fn charset(facts: &Facts<'_>, fault: CharsetFault) -> Found {
    let found = match fault {
        CharsetFault::Missing => facts.elements_where(&[], |element| {
            is_text(element) && element.characters().declared() == Declared::Absent && !element.bytes().is_ascii()
        }),
        CharsetFault::Unknown => terms_where(facts, |_, defined| !defined),
        CharsetFault::Unexpected => terms_where(facts, |term, _| !facts.parameters.charsets_expected.iter().any(|known| known == term)),
    };
    found.map(|_| vec![tags::SPECIFIC_CHARACTER_SET])
}

fn terms_where(facts: &Facts<'_>, holds: impl Fn(&str, bool) -> bool) -> Found {
    facts.elements_where(&[], |element| {
        element.tag() == tags::SPECIFIC_CHARACTER_SET
            && element.text().is_some_and(|text| CharacterSet::terms(&text).any(|(term, defined)| holds(term, defined)))
    })
}

/// Text whose whole value is at hand; the end of a cut value can be the middle of a character.
fn is_text(element: Element<'_>) -> bool {
    element.value_vr().is_text() && element.is_whole() && !element.is_sequence()
}

pub(super) fn text(facts: &Facts<'_>, fault: TextFault, only: &[Tag], except: &[Tag]) -> Found {
    let holds = |element: Element<'_>| {
        let (bytes, characters) = (element.bytes(), element.characters());
        is_text(element)
            && match fault {
                TextFault::Undecodable => !bytes.is_ascii() && element.decoded().is_some_and(|decoded| !decoded.valid),
                TextFault::ProbablyUtf8 => {
                    let single = characters.declared() == Declared::Known && characters.is_single_byte();
                    single && !bytes.is_ascii() && std::str::from_utf8(bytes).is_ok()
                }
                TextFault::UndeclaredEscape => bytes.contains(&ESC) && !characters.has_code_extensions(),
            }
    };
    if only.is_empty() {
        return facts.elements_where(except, holds);
    }
    any(only.iter().copied().filter(|tag| facts.top.element(*tag).is_some_and(holds)))
}

pub(super) fn form(facts: &Facts<'_>, fault: FormFault, except: &[Tag]) -> Found {
    facts.elements_where(except, |element| !element.is_sequence() && has_fault(element, fault))
}

fn has_fault(element: Element<'_>, fault: FormFault) -> bool {
    let vr = element.value_vr();
    match fault {
        FormFault::Control => {
            let checked = matches!(&vr.0, b"AE" | b"AS" | b"CS" | b"DA" | b"DS" | b"DT" | b"IS" | b"LO" | b"SH" | b"TM" | b"UI" | b"UR");
            let allowed = |byte: u8| byte == ESC && vr.is_text() && element.characters().has_code_extensions();
            checked && element.unpadded().iter().any(|byte| (*byte < b' ' || *byte == 0x7F) && !allowed(*byte))
        }
        FormFault::TooLong => match longest(vr) {
            Some(most) => values(element).iter().any(|value| value.chars().count() > most),
            None => false,
        },
        FormFault::CodeString => vr == Vr::CS && values(element).iter().any(|value| !value.bytes().all(is_code_character)),
        FormFault::NumberString => match vr {
            Vr::IS => values(element).iter().any(|value| !is_integer_string(value.trim_matches(' '))),
            Vr::DS => values(element).iter().any(|value| !is_decimal_string(value.trim_matches(' '))),
            _ => false,
        },
    }
}

/// Values without trailing SPACE, as far as kept.
fn values(element: Element<'_>) -> Vec<String> {
    let Some(text) = element.text() else { return Vec::new() };
    if element.value_vr().is_multi_valued() {
        text.split('\\').map(|value| value.trim_end_matches(' ').to_owned()).collect()
    } else {
        vec![text]
    }
}

/// Longest value in characters (PS3.5 Table 6.2-1, D507).
fn longest(vr: Vr) -> Option<usize> {
    Some(match &vr.0 {
        b"AS" => 4,
        b"IS" => 12,
        b"TM" => 14,
        b"AE" | b"CS" | b"DS" | b"SH" => 16,
        b"DT" => 26,
        b"LO" => 64,
        b"ST" => 1024,
        b"LT" => 10_240,
        _ => return None,
    })
}

fn is_code_character(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_')
}

fn is_integer_string(text: &str) -> bool {
    text.is_empty() || text.len() <= 12 && text.parse::<i64>().is_ok_and(|number| i32::try_from(number).is_ok())
}

fn is_decimal_string(text: &str) -> bool {
    // `f64` would also take "inf", "nan" and "infinity".
    text.is_empty()
        || text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')) && text.parse::<f64>().is_ok()
}

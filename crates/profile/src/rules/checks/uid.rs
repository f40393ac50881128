//! Form of UIDs (PS3.5 §9.1; D204–D216).

use super::super::check::UidFault;
use crate::scan::{Element, Vr};

/// D204–D208 and D211 find nothing, and it is not empty.
pub(in super::super) fn is_well_formed(text: &str) -> bool {
    !text.is_empty() && !FORM.iter().any(|fault| has_fault(text.as_bytes(), *fault)) && !text.contains('\\')
}

/// Faults that a reference is checked for (D216) as well.
const FORM: [UidFault; 5] = [UidFault::Length, UidFault::Character, UidFault::Root, UidFault::LeadingZero, UidFault::EmptyComponent];

/// Raw value of one element. An empty value has no fault.
pub(super) fn has_fault(bytes: &[u8], fault: UidFault) -> bool {
    let trimmed = trim(bytes);
    if trimmed.is_empty() {
        return false;
    }
    match fault {
        UidFault::Length => return trimmed.len() > 64,
        UidFault::Character => return !trimmed.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'\\')),
        UidFault::Several => return trimmed.contains(&b'\\'),
        UidFault::Padding => {
            let nuls = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            return nuls > 1 || bytes.first() == Some(&b' ') || bytes[..bytes.len() - nuls].last() == Some(&b' ');
        }
        _ => {}
    }
    let Ok(text) = std::str::from_utf8(trimmed) else { return false };
    let components: Vec<&str> = text.split('.').collect();
    match fault {
        UidFault::Root => match (components[0], components.get(1)) {
            ("0" | "1", Some(second)) => !second.is_empty() && second.parse::<u64>().is_ok_and(|second| second > 39),
            ("2" | "0" | "1" | "", _) => false,
            _ => true,
        },
        UidFault::LeadingZero => components.iter().any(|component| component.len() >= 2 && component.starts_with('0')),
        UidFault::EmptyComponent => components.iter().any(|component| component.is_empty()),
        UidFault::TooFewComponents => components.len() < 3,
        UidFault::UuidRange => match components.as_slice() {
            ["2", "25", number] => number.parse::<u128>().is_err(),
            ["2", "25", ..] => true,
            _ => false,
        },
        UidFault::ReservedRoot => text.starts_with("1.2.840.10008."),
        UidFault::Length | UidFault::Character | UidFault::Several | UidFault::Padding => false,
    }
}

/// A UI element of which a value has one of the faults of form (D216).
pub(super) fn is_malformed_reference(element: Element<'_>) -> bool {
    element.value_vr() == Vr::UI
        && trim(element.bytes()).split(|byte| *byte == b'\\').any(|value| FORM.iter().any(|fault| has_fault(value, *fault)))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [0 | b' ', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., 0 | b' '] = bytes {
        bytes = rest;
    }
    bytes
}

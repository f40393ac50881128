//! Elements as bytes, Implicit or Explicit VR Little Endian (PS3.5 §7.1).

use super::Fault;
use crate::scan::{Vr, implicit_vr, tags};
use dicom_core::Tag;

/// Undefined length (PS3.5 §7.1).
pub(super) const UNDEFINED: u32 = 0xFFFF_FFFF;

/// One element with its value, padded to even length.
pub(super) fn element(tag: Tag, vr: Vr, value: &[u8], implicit: bool) -> Result<Vec<u8>, Fault> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr.is_string() && vr != Vr::UI { b' ' } else { 0 });
    }
    let mut out = tag_bytes(tag).to_vec();
    let length = u32::try_from(value.len()).ok().filter(|length| *length < UNDEFINED).ok_or(Fault::TooLong(tag))?;
    if implicit {
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.extend_from_slice(&vr.0);
        if vr.has_long_length() || !vr.is_known() {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&length.to_le_bytes());
        } else {
            out.extend_from_slice(&u16::try_from(length).map_err(|_| Fault::TooLong(tag))?.to_le_bytes());
        }
    }
    out.extend_from_slice(&value);
    Ok(out)
}

/// One element with the VR of the dictionary.
pub(super) fn of_dictionary(tag: Tag, value: &[u8], implicit: bool) -> Result<Vec<u8>, Fault> {
    element(tag, implicit_vr(tag), value, implicit)
}

/// An item of these elements.
pub(super) fn item(elements: &[Vec<u8>]) -> Result<Vec<u8>, Fault> {
    let content = elements.concat();
    let length = u32::try_from(content.len()).ok().filter(|length| *length < UNDEFINED).ok_or(Fault::TooMuch)?;
    Ok([&tag_bytes(tags::ITEM)[..], &length.to_le_bytes(), &content].concat())
}

fn tag_bytes(tag: Tag) -> [u8; 4] {
    let ([a, b], [c, d]) = (tag.0.to_le_bytes(), tag.1.to_le_bytes());
    [a, b, c, d]
}

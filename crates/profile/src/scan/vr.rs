//! Value representations (PS3.5 §6.2) and the VR that the data dictionary gives an element (PS3.6 §6).

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_dictionary_std::StandardDataDictionary;
use std::fmt;

/// A value representation as two letters; also one that the standard does not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vr(pub [u8; 2]);

impl Vr {
    /// Sequence of items.
    pub const SQ: Self = Self(*b"SQ");
    /// Unknown.
    pub const UN: Self = Self(*b"UN");
    /// Unique identifier.
    pub const UI: Self = Self(*b"UI");
    /// Other byte.
    pub const OB: Self = Self(*b"OB");
    /// Other word.
    pub const OW: Self = Self(*b"OW");
    /// Person name.
    pub const PN: Self = Self(*b"PN");
    /// Code string.
    pub const CS: Self = Self(*b"CS");
    /// Integer string.
    pub const IS: Self = Self(*b"IS");
    /// Decimal string.
    pub const DS: Self = Self(*b"DS");
    /// Item and delimiters, which have no VR.
    pub(super) const NONE: Self = Self(*b"--");

    /// One of PS3.5 Table 6.2-1.
    pub fn is_known(self) -> bool {
        self.has_long_length() || self.is_string() || matches!(&self.0, b"AT" | b"FD" | b"FL" | b"SL" | b"SS" | b"UL" | b"US")
    }

    /// Explicit form has two reserved bytes and a 32-bit length (PS3.5 §7.1.2). A VR that is not known has it too.
    pub fn has_long_length(self) -> bool {
        matches!(&self.0, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV")
    }

    /// Text that (0008,0005) applies to (PS3.5 §6.1.2.2).
    pub fn is_text(self) -> bool {
        matches!(&self.0, b"LO" | b"LT" | b"PN" | b"SH" | b"ST" | b"UC" | b"UT")
    }

    /// Character string of any repertoire.
    pub fn is_string(self) -> bool {
        self.is_text() || matches!(&self.0, b"AE" | b"AS" | b"CS" | b"DA" | b"DS" | b"DT" | b"IS" | b"TM" | b"UI" | b"UR")
    }

    /// `\` separates values (not in LT, ST, UR, UT).
    pub fn is_multi_valued(self) -> bool {
        self.is_string() && !matches!(&self.0, b"LT" | b"ST" | b"UR" | b"UT")
    }

    /// The value without padding: trailing SPACE of text, one trailing NUL of UI and OB (profile 01 §3.1).
    pub fn unpadded(self, bytes: &[u8]) -> &[u8] {
        match &self.0 {
            b"UI" | b"OB" => bytes.strip_suffix(&[0]).unwrap_or(bytes),
            _ if self.is_string() => trim_end_spaces(bytes),
            _ => bytes,
        }
    }
}

fn trim_end_spaces(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &bytes[..end]
}

impl fmt::Display for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0[0].escape_ascii(), self.0[1].escape_ascii())
    }
}

impl fmt::Debug for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keyword that the data dictionary gives an element.
pub(super) fn keyword(tag: Tag) -> Option<&'static str> {
    StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::alias)
}

/// VR of the dictionary; `None` for private elements and unknown tags.
pub(crate) fn dictionary_vr(tag: Tag) -> Option<VirtualVr> {
    (tag.0 & 1 == 0).then(|| StandardDataDictionary.by_tag(tag).map(|entry| entry.vr())).flatten()
}

/// VR of an element in Implicit VR: the dictionary's, LO for a private creator, else UN (PS3.5 §6.2.2).
pub(crate) fn implicit_vr(tag: Tag) -> Vr {
    match dictionary_vr(tag) {
        Some(VirtualVr::Exact(vr)) => Vr(vr.to_bytes()),
        Some(VirtualVr::Xs) => Vr(*b"US"),
        Some(_) => Vr::OW,
        None if tag.0 & 1 == 1 && (0x10..=0xFF).contains(&tag.1) => Vr(*b"LO"),
        None if tag.1 == 0 => Vr(*b"UL"),
        None => Vr::UN,
    }
}

/// The explicit VR is one that the dictionary allows, or nothing is known about the tag.
pub(super) fn fits_dictionary(tag: Tag, vr: Vr) -> bool {
    if vr == Vr::UN {
        return true;
    }
    match dictionary_vr(tag) {
        None => true,
        Some(VirtualVr::Exact(expected)) => expected.to_bytes() == vr.0,
        Some(VirtualVr::Xs) => matches!(&vr.0, b"US" | b"SS"),
        Some(VirtualVr::Ox | VirtualVr::Px) => matches!(&vr.0, b"OB" | b"OW"),
        // LUT Descriptor and LUT Data: PS3.6 lists US, SS and OW in varying pairs.
        Some(_) => matches!(&vr.0, b"US" | b"SS" | b"OW"),
    }
}

//! Test support: data sets made element by element, so that a test can state what matters and leave out the rest.

use super::{Vr, tags};
use dicom_core::Tag;
use std::collections::BTreeMap;

pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// One level of a data set, in tag order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set(BTreeMap<Tag, Content>);

#[derive(Clone, Debug)]
enum Content {
    Value(Vr, Vec<u8>),
    Items(Vec<Set>),
    /// Offset table and fragments, with delimiter.
    Fragments(Vec<Vec<u8>>),
    /// These bytes in place of the element.
    Raw(Vec<u8>),
}

impl Set {
    /// A string or other value; padded to even length by its VR.
    pub fn put(&mut self, tag: Tag, vr: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let vr = Vr(vr.as_bytes().try_into().expect("two letters"));
        let mut bytes = value.as_ref().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(if vr.is_string() && vr != Vr::UI { b' ' } else { 0 });
        }
        self.0.insert(tag, Content::Value(vr, bytes));
        self
    }

    /// A value of the VR that the dictionary has.
    pub fn set(&mut self, tag: Tag, value: impl AsRef<[u8]>) -> &mut Self {
        let vr = super::vr::implicit_vr(tag).to_string();
        self.put(tag, &vr, value)
    }

    pub fn us(&mut self, tag: Tag, value: u16) -> &mut Self {
        self.put(tag, "US", value.to_le_bytes())
    }

    pub fn ul(&mut self, tag: Tag, value: u32) -> &mut Self {
        self.put(tag, "UL", value.to_le_bytes())
    }

    pub fn items(&mut self, tag: Tag, items: Vec<Set>) -> &mut Self {
        self.0.insert(tag, Content::Items(items));
        self
    }

    pub fn fragments(&mut self, fragments: &[&[u8]]) -> &mut Self {
        self.0.insert(tags::PIXEL_DATA, Content::Fragments(fragments.iter().map(|bytes| bytes.to_vec()).collect()));
        self
    }

    /// `bytes` stand where `tag` would stand.
    pub fn raw(&mut self, tag: Tag, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.insert(tag, Content::Raw(bytes.as_ref().to_vec()));
        self
    }

    /// Takes over the elements of another set.
    pub fn merge(&mut self, other: &Set) {
        self.0.extend(other.0.clone());
    }

    pub fn remove(&mut self, tag: Tag) -> &mut Self {
        self.0.remove(&tag);
        self
    }

    pub fn item(build: impl FnOnce(&mut Set)) -> Set {
        let mut item = Set::default();
        build(&mut item);
        item
    }

    pub fn explicit(&self) -> Vec<u8> {
        self.encode(false)
    }

    pub fn implicit(&self) -> Vec<u8> {
        self.encode(true)
    }

    /// As the transfer syntax says.
    pub fn encoded(&self, transfer_syntax: &str) -> Vec<u8> {
        match transfer_syntax {
            IMPLICIT => self.implicit(),
            DEFLATED => deflate(&self.explicit()),
            _ => self.explicit(),
        }
    }

    fn encode(&self, implicit: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, content) in &self.0 {
            match content {
                Content::Raw(bytes) => out.extend_from_slice(bytes),
                Content::Value(vr, bytes) => {
                    head(*tag, *vr, bytes.len() as u32, implicit, &mut out);
                    out.extend_from_slice(bytes);
                }
                Content::Items(items) => {
                    // Defined lengths where the number of items is even, undefined else: both forms occur in every test.
                    let defined = items.len() % 2 == 0;
                    let inner: Vec<u8> = items.iter().flat_map(|item| item.as_item(implicit, defined)).collect();
                    head(*tag, Vr::SQ, if defined { inner.len() as u32 } else { u32::MAX }, implicit, &mut out);
                    out.extend_from_slice(&inner);
                    if !defined {
                        out.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
                    }
                }
                Content::Fragments(fragments) => {
                    head(*tag, Vr::OB, u32::MAX, implicit, &mut out);
                    for fragment in fragments {
                        out.extend_from_slice(b"\xFE\xFF\x00\xE0");
                        out.extend_from_slice(&(fragment.len() as u32).to_le_bytes());
                        out.extend_from_slice(fragment);
                    }
                    out.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
                }
            }
        }
        out
    }

    fn as_item(&self, implicit: bool, defined: bool) -> Vec<u8> {
        let inner = self.encode(implicit);
        let mut out = b"\xFE\xFF\x00\xE0".to_vec();
        out.extend_from_slice(&if defined { inner.len() as u32 } else { u32::MAX }.to_le_bytes());
        out.extend_from_slice(&inner);
        if !defined {
            out.extend_from_slice(b"\xFE\xFF\x0D\xE0\0\0\0\0");
        }
        out
    }
}

fn head(tag: Tag, vr: Vr, length: u32, implicit: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&tag.0.to_le_bytes());
    out.extend_from_slice(&tag.1.to_le_bytes());
    if implicit {
        return out.extend_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(&vr.0);
    if vr.has_long_length() || !vr.is_known() {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.extend_from_slice(&(length as u16).to_le_bytes());
    }
}

/// One element of Explicit VR Little Endian, with any length.
pub(crate) fn element(tag: Tag, vr: &str, length: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    head(tag, Vr(vr.as_bytes().try_into().expect("two letters")), length, false, &mut out);
    out.extend_from_slice(value);
    out
}

/// The dictionary has it as SQ.
pub(crate) fn is_sequence(tag: Tag) -> bool {
    super::vr::implicit_vr(tag) == Vr::SQ
}

/// Raw deflate.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

/// Preamble, file meta and data set.
pub(crate) fn part10(meta: &Set, data_set: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 128];
    out.extend_from_slice(b"DICM");
    out.extend_from_slice(&meta.explicit());
    out.extend_from_slice(data_set);
    out
}

/// File meta with group length, as PS3.10 §7.1 wants it.
pub(crate) fn file_meta(class: &str, instance: &str, transfer_syntax: &str) -> Set {
    let mut meta = Set::default();
    meta.set(tags::MEDIA_STORAGE_SOP_CLASS_UID, class);
    meta.set(tags::MEDIA_STORAGE_SOP_INSTANCE_UID, instance);
    meta.set(tags::TRANSFER_SYNTAX_UID, transfer_syntax);
    let length = meta.explicit().len() as u32;
    meta.ul(tags::FILE_META_INFORMATION_GROUP_LENGTH, length);
    meta
}

/// A CT image of 4 × 4 pixels that no rule of the shipped set finds fault with in a test environment on 2026-01-15.
pub(crate) fn ct() -> Set {
    let mut set = Set::default();
    set.set(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192");
    set.set(Tag(0x0008, 0x0008), "ORIGINAL\\PRIMARY\\AXIAL");
    set.set(tags::SOP_CLASS_UID, CT_IMAGE);
    set.set(tags::SOP_INSTANCE_UID, "1.2.246.10.90000011.77.1.1.1");
    for (day, clock) in [
        (tags::STUDY_DATE, tags::STUDY_TIME),
        (tags::SERIES_DATE, tags::SERIES_TIME),
        (tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
        (tags::CONTENT_DATE, tags::CONTENT_TIME),
    ] {
        set.set(day, "20260115").set(clock, "101530");
    }
    set.set(tags::ACCESSION_NUMBER, "T042059118706");
    set.items(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, vec![issuer("1.2.246.10.90000011.12.5")]);
    set.set(tags::MODALITY, "CT");
    set.set(tags::INSTITUTION_NAME, "Testisairaala");
    set.items(
        tags::INSTITUTION_CODE_SEQUENCE,
        vec![Set::item(|item| {
            item.set(tags::URN_CODE_VALUE, "urn:oid:1.2.246.10.90000011.10.0").set(Tag(0x0008, 0x0104), "Testisairaala");
        })],
    );
    set.set(Tag(0x0008, 0x0070), "Testilaite");
    set.set(Tag(0x0008, 0x0090), "Lähettäjä^Testi");
    set.set(tags::STUDY_DESCRIPTION, "AA1AD Pään TT");
    set.items(
        tags::PROCEDURE_CODE_SEQUENCE,
        vec![Set::item(|item| {
            item.set(tags::CODE_VALUE, "AA1AD").set(tags::CODING_SCHEME_DESIGNATOR, "1.2.246.537.6.2");
            item.set(Tag(0x0008, 0x0104), "TT");
        })],
    );
    set.set(tags::PATIENT_NAME, "Öhman^Sanni");
    set.set(tags::PATIENT_ID, "010190-900P");
    set.items(tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, vec![issuer("1.2.246.21")]);
    set.set(tags::PATIENT_BIRTH_DATE, "19900101");
    set.set(tags::PATIENT_SEX, "F");
    set.set(tags::STUDY_INSTANCE_UID, "1.2.246.10.90000011.77.1");
    set.set(tags::SERIES_INSTANCE_UID, "1.2.246.10.90000011.77.1.1");
    set.set(Tag(0x0018, 0x0050), "1").set(Tag(0x0018, 0x0060), "120");
    set.set(Tag(0x0020, 0x0010), "1").set(Tag(0x0020, 0x0011), "1").set(Tag(0x0020, 0x0012), "1");
    set.set(tags::INSTANCE_NUMBER, "1");
    set.set(Tag(0x0020, 0x1040), "").set(Tag(0x0020, 0x0032), "0\\0\\0");
    set.set(Tag(0x0020, 0x0037), "1\\0\\0\\0\\1\\0");
    set.set(Tag(0x0020, 0x0052), "1.2.246.10.90000011.77.1.9");
    set.us(tags::SAMPLES_PER_PIXEL, 1);
    set.set(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2");
    set.us(tags::ROWS, 4).us(tags::COLUMNS, 4);
    set.set(Tag(0x0028, 0x0030), "0.5\\0.5");
    set.us(tags::BITS_ALLOCATED, 16).us(tags::BITS_STORED, 12).us(tags::HIGH_BIT, 11);
    set.us(Tag(0x0028, 0x0103), 0);
    set.set(Tag(0x0028, 0x1052), "-1024").set(Tag(0x0028, 0x1053), "1");
    set.set(Tag(0x0038, 0x0010), "1.2.246.10.90000011.14.2026.1001");
    set.put(tags::PIXEL_DATA, "OW", [7; 32]);
    set
}

/// Item of an issuer sequence.
pub(crate) fn issuer(oid: &str) -> Set {
    Set::item(|item| {
        item.set(tags::UNIVERSAL_ENTITY_ID, oid).set(tags::UNIVERSAL_ENTITY_ID_TYPE, "ISO");
    })
}

//! Files of any origin as objects to send: what an exporting device would announce for them, be they right or wrong.

use bytes::Bytes;
use dicom_dictionary_std::uids;

use super::object::{DataSet, Outgoing};

/// Announced for a file that names no SOP class: a device must announce something.
const FALLBACK_CLASS: &str = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
/// Retired, and still met.
const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// Announced for a file that names no instance.
const FALLBACK_INSTANCE: &str = "1.2.246.10.90000011.99.1";

/// A file as it would be sent.
pub struct Exported {
    /// The object, announced by its data set where that names itself, as DCMTK's `storescu` does.
    pub object: Outgoing,
    /// SOP class and instance of file meta, which differ from the announced ones in some damaged files.
    pub meta: Option<(String, String)>,
    /// Transfer syntax of file meta; where absent it was told from the first bytes.
    pub declared_syntax: Option<String>,
}

impl Exported {
    /// The object announced by file meta, as a device does that does not look into the data set.
    pub fn announced_by_meta(&self) -> Outgoing {
        let mut object = self.object.clone();
        if let Some((class, instance)) = &self.meta {
            object.sop_class.clone_from(class);
            object.sop_instance.clone_from(instance);
        }
        object
    }
}

/// Reads a file. What is missing is replaced, never refused: the acceptor is under test, not the file.
pub fn export(file: &[u8]) -> Exported {
    let (meta, data_set) = match file.get(128..132) {
        Some(b"DICM") => split_meta(file),
        _ => (Meta::default(), file),
    };
    let syntax = meta.transfer_syntax.clone().unwrap_or_else(|| guess(data_set).to_owned());
    let (class, instance) = own_uids(data_set, &syntax);
    let object = Outgoing {
        sop_class: class.or_else(|| meta.class.clone()).unwrap_or_else(|| FALLBACK_CLASS.to_owned()),
        sop_instance: instance.or_else(|| meta.instance.clone()).unwrap_or_else(|| FALLBACK_INSTANCE.to_owned()),
        transfer_syntax: syntax,
        data_set: DataSet::Whole(Bytes::copy_from_slice(data_set)),
    };
    Exported { object, meta: meta.class.zip(meta.instance), declared_syntax: meta.transfer_syntax }
}

#[derive(Default)]
struct Meta {
    class: Option<String>,
    instance: Option<String>,
    transfer_syntax: Option<String>,
}

/// File meta ends where the group does; its length element is often wrong.
fn split_meta(file: &[u8]) -> (Meta, &[u8]) {
    let mut meta = Meta::default();
    let mut rest = &file[132..];
    while let Some((element, after)) = Element::read(rest, Encoding::EXPLICIT_LITTLE).filter(|(element, _)| element.group == 2) {
        match element.element {
            0x0002 => meta.class = element.uid(),
            0x0003 => meta.instance = element.uid(),
            0x0010 => meta.transfer_syntax = element.uid(),
            _ => {}
        }
        rest = after;
    }
    (meta, rest)
}

/// SOP class and instance, if they can be reached from the start.
fn own_uids(data_set: &[u8], syntax: &str) -> (Option<String>, Option<String>) {
    let encoding = match syntax {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => Encoding { explicit: false, big: false },
        EXPLICIT_VR_BIG_ENDIAN => Encoding { explicit: true, big: true },
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => return (None, None),
        _ => Encoding::EXPLICIT_LITTLE,
    };
    let (mut class, mut instance, mut rest) = (None, None, data_set);
    while let Some((element, after)) = Element::read(rest, encoding).filter(|(element, _)| element.group <= 8) {
        match (element.group, element.element) {
            (8, 0x0016) => class = element.uid(),
            (8, 0x0018) => instance = element.uid(),
            _ => {}
        }
        rest = after;
    }
    (class, instance)
}

fn guess(data_set: &[u8]) -> &'static str {
    match data_set {
        [0, group, ..] if *group != 0 => EXPLICIT_VR_BIG_ENDIAN,
        [_, _, _, _, a, b, ..] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        _ => uids::IMPLICIT_VR_LITTLE_ENDIAN,
    }
}

#[derive(Clone, Copy)]
struct Encoding {
    explicit: bool,
    big: bool,
}

impl Encoding {
    const EXPLICIT_LITTLE: Self = Self { explicit: true, big: false };

    fn u16(self, bytes: &[u8]) -> Option<u16> {
        let bytes: [u8; 2] = bytes.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(self, bytes: &[u8]) -> Option<usize> {
        let bytes: [u8; 4] = bytes.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) } as usize)
    }
}

struct Element<'a> {
    group: u16,
    element: u16,
    value: &'a [u8],
}

impl<'a> Element<'a> {
    /// An element of defined length, and what follows it.
    fn read(bytes: &'a [u8], encoding: Encoding) -> Option<(Self, &'a [u8])> {
        let (group, element) = (encoding.u16(bytes.get(..2)?)?, encoding.u16(bytes.get(2..4)?)?);
        let long = [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];
        let (head, length): (usize, usize) = if !encoding.explicit {
            (8, encoding.u32(bytes.get(4..8)?)?)
        } else if long.iter().any(|vr| bytes.get(4..6) == Some(&vr[..])) {
            (12, encoding.u32(bytes.get(8..12)?)?)
        } else {
            (8, usize::from(encoding.u16(bytes.get(6..8)?)?))
        };
        let end = head.checked_add(length)?;
        Some((Self { group, element, value: bytes.get(head..end)? }, &bytes[end..]))
    }

    fn uid(&self) -> Option<String> {
        let text = std::str::from_utf8(self.value).ok()?.trim_end_matches(['\0', ' ']);
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::person::Person;
    use crate::fixtures::study::{Kind, Recipe};

    #[test]
    fn an_exported_file_gives_back_the_object_that_was_written() {
        let study = Recipe::small(Kind::Pdf, Person::numbered(1), 1, 1).make();
        let instance = &study.instances[0];
        let exported = export(&instance.part10());
        assert_eq!((&exported.object.sop_class, &exported.object.sop_instance), (&instance.sop_class, &instance.sop_instance));
        assert_eq!(exported.object.digest(), instance.digest());
        assert_eq!(exported.meta, Some((instance.sop_class.clone(), instance.sop_instance.clone())));
    }
}

//! Data sets of the services: a cursor and a writer over Implicit and Explicit VR Little Endian, for the few elements that a
//! service needs (PS3.5 §7).
//!
//! # Bounds
//! Whatever else stands in a data set is skipped, down to [`DEPTH_MAX`] levels. Nothing is copied but values that are asked for.

use dicom_core::Tag;
use dicom_dictionary_std::uids::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

use crate::status::Status;

/// Transfer syntaxes of the data sets of these services.
pub const TRANSFER_SYNTAXES: [&str; 2] = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN];
/// Levels of sequences that are skipped.
pub const DEPTH_MAX: usize = 16;

pub(super) const REFERENCED_SOP_CLASS_UID: Tag = Tag(0x0008, 0x1150);
pub(super) const REFERENCED_SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x1155);
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_DELIMITATION: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_DELIMITATION: Tag = Tag(0xFFFE, 0xE0DD);

/// One instance: an item of a sequence that refers to SOP instances (PS3.3 Table 10-11).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Referenced SOP Class UID (0008,1150).
    pub sop_class_uid: String,
    /// Referenced SOP Instance UID (0008,1155).
    pub sop_instance_uid: String,
}

/// Why a data set is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Neither of [`TRANSFER_SYNTAXES`].
    #[error("the transfer syntax is none of this service")]
    TransferSyntax,
    /// The bytes are no data set.
    #[error("the data set cannot be decoded at byte {0}")]
    Malformed(usize),
    /// An attribute of Type 1 is absent or empty.
    #[error("{0} is missing")]
    Missing(Tag),
    /// A value that its value representation does not allow.
    #[error("{0} has a value that is not allowed")]
    Invalid(Tag),
    /// More items than the bound.
    #[error("more than {0} instances are listed")]
    TooMany(usize),
}

impl ReadError {
    /// The status that tells the peer (PS3.7 §10.1.4.1.10).
    pub fn status(self) -> Status {
        match self {
            ReadError::TransferSyntax | ReadError::Malformed(_) => Status::PROCESSING_FAILURE,
            ReadError::Missing(_) | ReadError::Invalid(_) => Status::INVALID_ARGUMENT_VALUE,
            ReadError::TooMany(_) => Status::RESOURCE_LIMITATION,
        }
    }
}

fn is_explicit(transfer_syntax: &str) -> Result<bool, ReadError> {
    match transfer_syntax {
        IMPLICIT_VR_LITTLE_ENDIAN => Ok(false),
        EXPLICIT_VR_LITTLE_ENDIAN => Ok(true),
        _ => Err(ReadError::TransferSyntax),
    }
}

pub(super) struct Header {
    pub tag: Tag,
    /// `None` for items and in Implicit VR.
    pub vr: Option<[u8; 2]>,
    /// `None` for undefined length.
    pub length: Option<usize>,
}

/// A cursor over a data set of one of the two transfer syntaxes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    explicit: bool,
}

impl<'a> Reader<'a> {
    pub fn new(transfer_syntax: &str, bytes: &'a [u8]) -> Result<Self, ReadError> {
        Ok(Reader { bytes, at: 0, explicit: is_explicit(transfer_syntax)? })
    }

    /// The next element of the data set; `None` at its end.
    pub fn next(&mut self) -> Result<Option<Header>, ReadError> {
        if self.at >= self.bytes.len() { Ok(None) } else { self.header().map(Some) }
    }

    /// Calls `item` with the end of each item, `None` for one of undefined length; it reads the item to its end.
    pub fn items(
        &mut self,
        sequence: &Header,
        mut item: impl FnMut(&mut Self, Option<usize>) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if sequence.vr.is_some_and(|vr| vr != *b"SQ" && vr != *b"UN") {
            return Err(self.malformed());
        }
        // A sequence under the VR UN is in Implicit VR (PS3.5 §6.2.2).
        let explicit = self.explicit;
        self.explicit = explicit && sequence.vr == Some(*b"SQ");
        let end = self.end(sequence.length)?;
        loop {
            if end.is_some_and(|end| self.at >= end) {
                break;
            }
            let header = self.header()?;
            match header.tag {
                ITEM => {
                    let item_end = self.end(header.length)?;
                    item(self, item_end)?;
                }
                SEQUENCE_DELIMITATION if end.is_none() => break,
                _ => return Err(self.malformed()),
            }
        }
        self.explicit = explicit;
        // An item that is longer than its sequence.
        if end.is_some_and(|end| self.at != end) { Err(self.malformed()) } else { Ok(()) }
    }

    /// The next element of an item; `None` at its end.
    pub fn next_of_item(&mut self, end: Option<usize>) -> Result<Option<Header>, ReadError> {
        match end {
            Some(end) if self.at == end => Ok(None),
            Some(end) if self.at > end => Err(self.malformed()),
            _ => {
                let header = self.header()?;
                match header.tag {
                    ITEM_DELIMITATION if end.is_none() => Ok(None),
                    Tag(0xFFFE, _) => Err(self.malformed()),
                    _ => Ok(Some(header)),
                }
            }
        }
    }

    pub fn skip(&mut self, header: &Header, depth: usize) -> Result<(), ReadError> {
        if header.length.is_some() {
            return self.value(header).map(drop);
        }
        if depth >= DEPTH_MAX {
            return Err(self.malformed());
        }
        self.items(header, |reader, end| {
            if let Some(end) = end {
                reader.at = end;
                return Ok(());
            }
            while let Some(header) = reader.next_of_item(None)? {
                reader.skip(&header, depth + 1)?;
            }
            Ok(())
        })
    }

    fn header(&mut self) -> Result<Header, ReadError> {
        let start = self.at;
        let [g0, g1, e0, e1] = self.take::<4>()?;
        let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
        let (vr, length) = if tag.0 == 0xFFFE || !self.explicit {
            (None, u32::from_le_bytes(self.take()?))
        } else {
            let vr = self.take::<2>()?;
            let length = match &vr {
                b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV" => {
                    self.take::<2>()?;
                    u32::from_le_bytes(self.take()?)
                }
                [b'A'..=b'Z', b'A'..=b'Z'] => u32::from(u16::from_le_bytes(self.take()?)),
                _ => return Err(ReadError::Malformed(start)),
            };
            (Some(vr), length)
        };
        let length = if length == u32::MAX { None } else { Some(length as usize) };
        Ok(Header { tag, vr, length })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let bytes = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<N>).ok_or(ReadError::Malformed(self.at))?;
        self.at += N;
        Ok(*bytes)
    }

    fn end(&self, length: Option<usize>) -> Result<Option<usize>, ReadError> {
        let Some(length) = length else { return Ok(None) };
        match self.at.checked_add(length) {
            Some(end) if end <= self.bytes.len() => Ok(Some(end)),
            _ => Err(self.malformed()),
        }
    }

    pub fn value(&mut self, header: &Header) -> Result<&'a [u8], ReadError> {
        let end = self.end(header.length)?.ok_or(ReadError::Malformed(self.at))?;
        let value = &self.bytes[self.at..end];
        self.at = end;
        Ok(value)
    }

    /// A UID without its padding (PS3.5 §9.1); a space in place of NUL is taken.
    pub fn uid(&mut self, header: &Header) -> Result<String, ReadError> {
        let value = self.value(header)?.trim_ascii_end();
        let value = value.strip_suffix(&[0]).unwrap_or(value);
        let allowed = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        match std::str::from_utf8(value) {
            Ok(uid) if uid.len() <= 64 && value.iter().all(allowed) => Ok(uid.to_owned()),
            _ => Err(ReadError::Invalid(header.tag)),
        }
    }

    fn malformed(&self) -> ReadError {
        ReadError::Malformed(self.at)
    }
}

/// Writes elements with defined lengths.
pub(super) struct Writer {
    explicit: bool,
}

impl Writer {
    pub fn new(transfer_syntax: &str) -> Result<Self, ReadError> {
        Ok(Writer { explicit: is_explicit(transfer_syntax)? })
    }

    pub fn element(&self, tag: Tag, vr: [u8; 2], value: &[u8]) -> Vec<u8> {
        let mut bytes = tag_bytes(tag);
        match (self.explicit, &vr) {
            (true, b"SQ") => {
                bytes.extend(vr);
                bytes.extend([0, 0]);
                bytes.extend((value.len() as u32).to_le_bytes());
            }
            (true, _) => {
                bytes.extend(vr);
                bytes.extend((value.len() as u16).to_le_bytes());
            }
            (false, _) => bytes.extend((value.len() as u32).to_le_bytes()),
        }
        bytes.extend(value);
        bytes
    }

    pub fn uid(&self, tag: Tag, uid: &str) -> Vec<u8> {
        let mut value = uid.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(0);
        }
        self.element(tag, *b"UI", &value)
    }

    /// A sequence of these items, each its encoded elements.
    pub fn sequence(&self, tag: Tag, items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut value = Vec::new();
        for item in items {
            value.extend(tag_bytes(ITEM));
            value.extend((item.len() as u32).to_le_bytes());
            value.extend(item);
        }
        self.element(tag, *b"SQ", &value)
    }
}

fn tag_bytes(tag: Tag) -> Vec<u8> {
    [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat()
}

//! The elements that a walk kept, as a tree.
//!
//! Stored flat (24 bytes per element, values in one buffer), so that a hostile data set of a million elements stays
//! within the memory of one association; read through [`DataSet`] and [`Element`].

use super::text::{CharacterSet, Decoded};
use super::vr::{Vr, dictionary_vr};
use super::{Limits, tags, walk};
use dicom_core::Tag;
use std::fmt;

/// Undefined length (PS3.5 §7.1).
pub(super) const UNDEFINED: u32 = 0xFFFF_FFFF;

/// All elements of a data set in order of arrival, values outside bulk data.
///
/// `Debug` prints counts only: values are patient data.
#[derive(Clone, Default, PartialEq)]
pub struct Header {
    pub(super) nodes: Vec<Node>,
    pub(super) bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) struct Node {
    pub tag: Tag,
    pub vr: Vr,
    pub kind: Kind,
    /// Index after the last node inside this one.
    pub end: u32,
    /// Start and length of the kept bytes.
    pub at: u32,
    pub kept: u32,
    /// Length as declared.
    pub length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    Bulk,
    Sequence,
    Item,
}

impl Header {
    /// The top level.
    pub fn data_set(&self) -> DataSet<'_> {
        DataSet { header: self, first: 0, end: self.nodes.len(), characters: CharacterSet::ABSENT }.with_own_characters()
    }

    /// Elements and items at all levels.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// No element was kept.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.bytes.capacity()
    }

    /// Calls `each` for every element at every level, in order, and for no item. Recursion is bounded by the nesting limit
    /// of the walk.
    pub fn for_each<'a>(&'a self, each: &mut dyn FnMut(Element<'a>)) {
        self.data_set().for_each(each);
    }

    /// The elements that have their whole value here, as an Explicit VR Little Endian data set with sequences and items of
    /// undefined length. Bulk data and values beyond the kept bytes are left out. The form for storage and for DICOM
    /// libraries; [`Header::read`] reads it back.
    pub fn to_explicit_le(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 12 * self.nodes.len());
        write(self.data_set(), &mut out);
        out
    }

    /// Reads what [`Header::to_explicit_le`] wrote: any complete Explicit VR Little Endian data set or part of one.
    /// `None` if it does not read to its end within `limits`.
    pub fn read(bytes: &[u8], limits: Limits) -> Option<Self> {
        walk::read_part(bytes, limits)
    }
}

fn write(level: DataSet<'_>, out: &mut Vec<u8>) {
    for element in level.elements() {
        if element.node.kind == Kind::Bulk || !element.is_whole() {
            continue;
        }
        let short = element.vr().is_known() && !element.vr().has_long_length();
        let vr = match u16::try_from(element.bytes().len()) {
            _ if element.is_sequence() => Vr::SQ,
            Err(_) if short => Vr::UN,
            _ if element.vr().is_known() => element.vr(),
            _ => Vr::UN,
        };
        write_tag(element.tag(), out);
        out.extend_from_slice(&vr.0);
        let length = u32::try_from(element.bytes().len()).unwrap_or(0);
        if vr.has_long_length() {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&if element.is_sequence() { UNDEFINED } else { length }.to_le_bytes());
        } else {
            out.extend_from_slice(&length.to_le_bytes()[..2]);
        }
        if element.is_sequence() {
            for item in element.items() {
                write_tag(tags::ITEM, out);
                out.extend_from_slice(&UNDEFINED.to_le_bytes());
                write(item, out);
                out.extend_from_slice(b"\xFE\xFF\x0D\xE0\0\0\0\0");
            }
            out.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        } else {
            out.extend_from_slice(element.bytes());
        }
    }
}

fn write_tag(tag: Tag, out: &mut Vec<u8>) {
    out.extend_from_slice(&tag.0.to_le_bytes());
    out.extend_from_slice(&tag.1.to_le_bytes());
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({} elements and items, {} bytes kept)", self.nodes.len(), self.bytes.len())
    }
}

/// One level of a data set: the top level or an item.
#[derive(Clone, Copy)]
pub struct DataSet<'a> {
    header: &'a Header,
    first: usize,
    end: usize,
    characters: CharacterSet,
}

impl<'a> DataSet<'a> {
    fn with_own_characters(self) -> Self {
        match self.element(tags::SPECIFIC_CHARACTER_SET) {
            Some(element) => Self { characters: CharacterSet::of(element.bytes()), ..self },
            None => self,
        }
    }

    /// Character set of this level: its own (0008,0005), else that of the level around it (PS3.5 §7.5.3).
    pub fn characters(self) -> CharacterSet {
        self.characters
    }

    /// Elements of this level, in order.
    pub fn elements(self) -> impl Iterator<Item = Element<'a>> {
        self.nodes().filter(|(_, node)| node.kind != Kind::Item).map(move |(index, node)| Element {
            header: self.header,
            node,
            index,
            characters: self.characters,
        })
    }

    fn nodes(self) -> impl Iterator<Item = (usize, &'a Node)> {
        let mut at = self.first;
        std::iter::from_fn(move || {
            let node = (at < self.end).then(|| self.header.nodes.get(at)).flatten()?;
            let index = at;
            at = (node.end as usize).max(at + 1);
            Some((index, node))
        })
    }

    /// Calls `each` for every element of this level and below, in order, and for no item.
    pub fn for_each(self, each: &mut dyn FnMut(Element<'a>)) {
        for element in self.elements() {
            each(element);
            for item in element.items() {
                item.for_each(each);
            }
        }
    }

    /// The first element with this tag.
    pub fn element(self, tag: Tag) -> Option<Element<'a>> {
        self.elements().find(|element| element.node.tag == tag)
    }

    /// The element is there and not empty (profile 01 §3.1); a sequence has at least one item.
    pub fn has(self, tag: Tag) -> bool {
        self.element(tag).is_some_and(|element| !element.is_empty())
    }

    /// Decoded value without padding, all values of it; `None` if absent or empty.
    pub fn text(self, tag: Tag) -> Option<String> {
        self.element(tag)?.text()
    }

    /// The first of the values that `\` separates, SPACE at both ends removed; `None` if absent or empty.
    pub fn first_text(self, tag: Tag) -> Option<String> {
        let text = self.text(tag)?;
        let first = text.split('\\').next()?.trim_matches(' ');
        (!first.is_empty()).then(|| first.to_owned())
    }

    /// A UID, NUL and SPACE at both ends removed; `None` if absent or empty. It is not checked.
    pub fn uid(self, tag: Tag) -> Option<&'a str> {
        let text = std::str::from_utf8(self.element(tag)?.bytes()).ok()?.trim_matches(['\0', ' ']);
        (!text.is_empty()).then_some(text)
    }

    /// A whole number: US or UL, or the first value of IS.
    pub fn unsigned(self, tag: Tag) -> Option<u64> {
        self.element(tag)?.unsigned()
    }

    /// A number: DS, IS, FD or FL, first value.
    pub fn decimal(self, tag: Tag) -> Option<f64> {
        self.element(tag)?.decimal()
    }

    /// Items of a sequence; none if it is absent.
    pub fn items(self, tag: Tag) -> impl Iterator<Item = DataSet<'a>> {
        self.element(tag).into_iter().flat_map(Element::items)
    }
}

/// One element.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    header: &'a Header,
    node: &'a Node,
    index: usize,
    characters: CharacterSet,
}

impl<'a> Element<'a> {
    /// Its tag.
    pub fn tag(self) -> Tag {
        self.node.tag
    }

    /// Keyword of the data dictionary (PS3.6 §6): `PatientID`.
    pub fn keyword(self) -> Option<&'static str> {
        super::vr::keyword(self.node.tag)
    }

    /// VR as encoded; in Implicit VR that of the dictionary.
    pub fn vr(self) -> Vr {
        self.node.vr
    }

    /// VR to read the value with: the dictionary's where the element came as UN.
    pub fn value_vr(self) -> Vr {
        match (self.node.vr, dictionary_vr(self.node.tag).and_then(dicom_core::dictionary::VirtualVr::exact)) {
            (Vr::UN, Some(vr)) => Vr(vr.to_bytes()),
            (vr, _) => vr,
        }
    }

    /// Declared length in bytes; `None` for undefined length.
    pub fn length(self) -> Option<u32> {
        (self.node.length != UNDEFINED).then_some(self.node.length)
    }

    /// A sequence of items, also one that came as UN of undefined length.
    pub fn is_sequence(self) -> bool {
        self.node.kind == Kind::Sequence
    }

    /// The whole value is here: no bulk data, and not cut at the kept bytes.
    pub fn is_whole(self) -> bool {
        match self.node.kind {
            Kind::Sequence | Kind::Item => true,
            Kind::Value => self.node.kept == self.node.length,
            Kind::Bulk => false,
        }
    }

    /// Bytes of the value as they came, as far as kept; empty for a sequence and for bulk data.
    pub fn bytes(self) -> &'a [u8] {
        let at = self.node.at as usize;
        self.header.bytes.get(at..at + self.node.kept as usize).unwrap_or_default()
    }

    /// Bytes without padding (profile 01 §3.1).
    pub fn unpadded(self) -> &'a [u8] {
        self.value_vr().unpadded(self.bytes())
    }

    /// Length 0 after removal of padding; a sequence without items.
    pub fn is_empty(self) -> bool {
        match self.node.kind {
            Kind::Sequence => self.node.end as usize <= self.index + 1,
            Kind::Value if self.is_whole() => self.unpadded().is_empty(),
            _ => self.node.length == 0,
        }
    }

    /// Decoded value without padding; text by its character set, other strings as Latin-1. `None` if empty or no string.
    pub fn text(self) -> Option<String> {
        let decoded = self.decoded()?;
        (!decoded.text.is_empty()).then_some(decoded.text)
    }

    /// As [`Element::text`], with whether all bytes are valid in the character set; also for an empty value.
    pub fn decoded(self) -> Option<Decoded> {
        let vr = self.value_vr();
        if vr.is_text() {
            Some(self.characters.decode(self.unpadded()))
        } else if vr.is_string() {
            Some(CharacterSet::ABSENT.decode(self.unpadded()))
        } else {
            None
        }
    }

    /// Character set that the value is read with.
    pub fn characters(self) -> CharacterSet {
        self.characters
    }

    /// A whole number: US, UL, UV, SS ≥ 0, SL ≥ 0, or the first value of IS.
    pub fn unsigned(self) -> Option<u64> {
        let bytes = self.bytes();
        match &self.value_vr().0 {
            b"US" | b"OW" => Some(u16::from_le_bytes(*bytes.first_chunk()?).into()),
            b"UL" => Some(u32::from_le_bytes(*bytes.first_chunk()?).into()),
            b"UV" => Some(u64::from_le_bytes(*bytes.first_chunk()?)),
            b"SS" => i16::from_le_bytes(*bytes.first_chunk()?).try_into().ok(),
            b"SL" => i32::from_le_bytes(*bytes.first_chunk()?).try_into().ok(),
            b"UN" => match bytes.len() {
                2 => Some(u16::from_le_bytes(*bytes.first_chunk()?).into()),
                4 => Some(u32::from_le_bytes(*bytes.first_chunk()?).into()),
                _ => None,
            },
            b"IS" => first_value(bytes)?.parse().ok(),
            _ => None,
        }
    }

    /// A whole number, also one below zero of SS or SL; otherwise as [`Element::unsigned`].
    pub fn integer(self) -> Option<i64> {
        let bytes = self.bytes();
        match &self.value_vr().0 {
            b"SS" => Some(i16::from_le_bytes(*bytes.first_chunk()?).into()),
            b"SL" => Some(i32::from_le_bytes(*bytes.first_chunk()?).into()),
            _ => self.unsigned()?.try_into().ok(),
        }
    }

    /// A number: first value of DS or IS, or FD, FL, or a whole number.
    pub fn decimal(self) -> Option<f64> {
        let bytes = self.bytes();
        match &self.value_vr().0 {
            b"FD" => Some(f64::from_le_bytes(*bytes.first_chunk()?)),
            b"FL" => Some(f32::from_le_bytes(*bytes.first_chunk()?).into()),
            b"DS" | b"IS" => first_value(bytes)?.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => self.unsigned().map(|number| number as f64),
        }
    }

    /// Items of a sequence, in order; none for another element.
    pub fn items(self) -> impl Iterator<Item = DataSet<'a>> {
        let end = if self.is_sequence() { self.node.end as usize } else { 0 };
        let level = DataSet { header: self.header, first: self.index + 1, end, characters: self.characters };
        level.nodes().filter(|(_, node)| node.kind == Kind::Item).map(move |(index, node)| {
            DataSet { header: self.header, first: index + 1, end: node.end as usize, characters: self.characters }.with_own_characters()
        })
    }
}

impl fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.tag(), self.vr(), self.length())
    }
}

fn first_value(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.split('\\').next().map(|value| value.trim_matches([' ', '\0']))
}

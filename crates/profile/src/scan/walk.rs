//! The walk itself: a state machine over chunks, with one frame per open sequence or item.
//!
//! States: `Head` (the 8 or 12 bytes of the next element or item header) → `Value`, `Bulk` or, for encapsulated pixel data,
//! `FragmentHead` ⇄ `Fragment` → `Head`. `Ended(…)` ignores all further bytes.

mod memory;

pub(super) use memory::memory_bytes_of_new;

use super::bulk::{Bulk, NOTES_MAX};
use super::defect::{DefectKind, Defects};
use super::header::{Header, Kind, Node, UNDEFINED};
use super::syntax::Encoding;
use super::vr::{Vr, fits_dictionary, implicit_vr};
use super::{Limits, Passed, tags};
use dicom_core::Tag;

/// Kept bytes of one value: text and numbers, and everything else.
const STRING_BYTES_MAX: u32 = 1 << 20;
const BINARY_BYTES_MAX: u32 = 64 << 10;
/// Kept bytes of an extended offset table or its lengths: 2 000 000 entries, as many as a data set can have items.
const TABLE_BYTES_MAX: u32 = 16_000_000;
/// Kept bytes of basic offset tables, all of a data set together: as many entries.
const BASIC_TABLES_BYTES_MAX: usize = 8_000_000;

const SEQUENCE_DELIMITER: u16 = 0xE0DD;
const ITEM_DELIMITER: u16 = 0xE00D;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// `left` bytes of the value, of which `keep` are kept.
    Value {
        left: u32,
        keep: u32,
    },
    /// `note`: index of the bulk note, if one is made; `edges`: its first and last bytes are wanted.
    Bulk {
        left: u32,
        note: Option<usize>,
        edges: bool,
    },
    FragmentHead {
        note: Option<usize>,
    },
    Fragment {
        left: u32,
        note: Option<usize>,
        table: bool,
    },
    Ended(End),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A defect of a locked rule.
    Stopped,
    /// Bytes after the last element.
    Trailing,
    /// Encapsulated pixel data is damaged: where the next element begins is not known.
    Lost,
    /// An encoding that is not read.
    Unread,
}

/// An open level: the data set, a sequence or an item.
#[derive(Debug, Clone, Copy)]
struct Frame {
    is_sequence: bool,
    /// Where its own defined length ends.
    end: Option<u64>,
    /// Where the nearest defined length around the content ends.
    bound: Option<u64>,
    /// Implicit VR inside.
    implicit: bool,
    /// Of the sequence, or of the one around the item.
    tag: Tag,
    node: u32,
    last: Option<Tag>,
    unordered: bool,
    /// Private blocks reserved in the group that was seen last.
    private_group: u16,
    private_blocks: [u64; 4],
}

impl Frame {
    fn data_set(implicit: bool) -> Self {
        Self {
            is_sequence: false,
            end: None,
            bound: None,
            implicit,
            tag: Tag(0, 0),
            node: u32::MAX,
            last: None,
            unordered: false,
            private_group: 0,
            private_blocks: [0; 4],
        }
    }

    /// A level inside this one.
    fn inner(&self, is_sequence: bool, end: Option<u64>, tag: Tag, node: u32) -> Self {
        Self { is_sequence, end, bound: end.or(self.bound), tag, node, ..Self::data_set(self.implicit) }
    }

    /// Takes note of a private creator, or tells whether the block of a private element was reserved.
    fn has_creator(&mut self, tag: Tag) -> bool {
        if self.private_group != tag.0 {
            (self.private_group, self.private_blocks) = (tag.0, [0; 4]);
        }
        let block = if tag.1 <= 0xFF { tag.1 } else { tag.1 >> 8 };
        let (word, bit) = ((block >> 6) as usize & 3, 1_u64 << (block & 63));
        if (0x10..=0xFF).contains(&tag.1) {
            self.private_blocks[word] |= bit;
        }
        tag.1 < 0x1000 || self.private_blocks[word] & bit != 0
    }
}

pub(super) struct Walk {
    limits: Limits,
    state: State,
    /// The first is the data set.
    frames: Vec<Frame>,
    pending: [u8; 12],
    pending_len: usize,
    at: u64,
    header: Header,
    bulk: Vec<Bulk>,
    /// Of [`BASIC_TABLES_BYTES_MAX`].
    tables_room: usize,
    header_bytes: u64,
    elements: u64,
    /// Last element that is whole.
    whole: Option<Tag>,
    /// Element under way.
    current: Tag,
    /// A whole data set, not a part of one: the first group is checked.
    whole_data_set: bool,
}

impl Walk {
    pub(super) fn new(encoding: Encoding, limits: Limits) -> Self {
        let unread = encoding == Encoding::BigEndian;
        Self {
            limits,
            state: if unread { State::Ended(End::Unread) } else { State::Head },
            frames: vec![Frame::data_set(encoding == Encoding::Implicit)],
            pending: [0; 12],
            pending_len: 0,
            at: 0,
            header: Header::default(),
            bulk: Vec::new(),
            tables_room: BASIC_TABLES_BYTES_MAX,
            header_bytes: 0,
            elements: 0,
            whole: None,
            current: Tag(0, 0),
            whole_data_set: true,
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.state == State::Ended(End::Stopped)
    }

    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    pub(super) fn has_pixel_data(&self) -> bool {
        self.bulk.iter().any(|bulk| bulk.tag >= tags::FLOAT_PIXEL_DATA)
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Ended(End::Stopped);
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], defects: &mut Defects) {
        while !bytes.is_empty() {
            let used = match self.state {
                State::Head => self.head(bytes, defects),
                State::Value { left, keep } => self.value(bytes, left, keep, defects),
                State::Bulk { left, note, edges } => self.bulk(bytes, left, note, edges, defects),
                State::FragmentHead { note } => self.fragment_head(bytes, note, defects),
                State::Fragment { left, note, table } => self.fragment(bytes, left, note, table),
                State::Ended(_) => bytes.len(),
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    fn frame(&mut self) -> &mut Frame {
        let top = self.frames.len() - 1;
        &mut self.frames[top]
    }

    fn at_top_level(&self) -> bool {
        self.frames.len() == 1
    }

    fn fail(&mut self, kind: DefectKind, tag: Option<Tag>, defects: &mut Defects) {
        defects.note(kind, tag);
        self.stop();
    }

    /// Moves bytes into `pending` until it holds `needed`; returns how many were used.
    fn fill(&mut self, bytes: &[u8], needed: usize) -> usize {
        let used = needed.saturating_sub(self.pending_len).min(bytes.len());
        self.pending[self.pending_len..self.pending_len + used].copy_from_slice(&bytes[..used]);
        self.pending_len += used;
        self.at += used as u64;
        used
    }

    fn head(&mut self, bytes: &[u8], defects: &mut Defects) -> usize {
        if self.pending_len == 0
            && let Some(bound) = self.frame().bound
            && bound.saturating_sub(self.at) < 8
        {
            self.fail(DefectKind::Encoding, self.whole, defects);
            return bytes.len();
        }
        let mut used = self.fill(bytes, 8);
        if self.pending_len < 8 {
            return used;
        }
        let tag = self.pending_tag();
        let (is_sequence, implicit) = (self.frame().is_sequence, self.frame().implicit);
        if is_sequence || tag.0 == tags::ITEM.0 {
            self.pending_len = 0;
            self.note_header_bytes(8, defects);
            if is_sequence {
                self.item(tag, defects)
            } else {
                self.delimiter(tag, defects)
            }
            return used;
        }
        if self.frame().last.is_none() && self.at_top_level() && self.whole_data_set && tag.0 > 0x0008 {
            self.fail(DefectKind::Encoding, self.whole, defects);
            return used;
        }
        let after_pixels = self.at_top_level() && self.frame().last.is_some_and(|last| last >= tags::PIXEL_DATA);
        let vr = if implicit { implicit_vr(tag) } else { Vr([self.pending[4], self.pending[5]]) };
        let letters = vr.0.iter().all(u8::is_ascii_uppercase);
        // Behind the pixel data two letters that are no VR are taken for garbage, not for an element.
        let decodes = implicit || vr.is_known();
        if after_pixels && (!decodes || self.frame().last.is_some_and(|last| tag < last)) {
            defects.note(DefectKind::TrailingBytes, Some(tags::TRAILING_PADDING));
            self.pending_len = 0;
            self.state = State::Ended(End::Trailing);
            return used;
        }
        if !letters {
            self.fail(DefectKind::Encoding, self.whole, defects);
            return used;
        }
        let long = !implicit && (vr.has_long_length() || !vr.is_known());
        if long {
            used += self.fill(bytes.get(used..).unwrap_or_default(), 12);
            if self.pending_len < 12 {
                return used;
            }
        }
        let length = match (implicit, long) {
            (true, _) => le32(&self.pending, 4),
            (false, true) => le32(&self.pending, 8),
            (false, false) => u32::from(u16::from_le_bytes([self.pending[6], self.pending[7]])),
        };
        self.note_header_bytes(self.pending_len as u64, defects);
        self.pending_len = 0;
        self.element(tag, vr, length, implicit, defects);
        used
    }

    fn pending_tag(&self) -> Tag {
        Tag(u16::from_le_bytes([self.pending[0], self.pending[1]]), u16::from_le_bytes([self.pending[2], self.pending[3]]))
    }

    fn note_header_bytes(&mut self, bytes: u64, defects: &mut Defects) {
        self.header_bytes += bytes;
        if self.header_bytes > self.limits.header_bytes_max {
            self.fail(DefectKind::HeaderTooLarge, None, defects);
        }
    }

    fn count(&mut self, defects: &mut Defects) {
        self.elements += 1;
        if self.elements > self.limits.elements_max {
            self.fail(DefectKind::ElementsTooMany, None, defects);
        }
    }

    fn push(&mut self, tag: Tag, vr: Vr, kind: Kind, length: u32) -> u32 {
        let index = self.header.nodes.len() as u32;
        let at = self.header.bytes.len() as u32;
        self.header.nodes.push(Node { tag, vr, kind, end: index + 1, at, kept: 0, length });
        index
    }

    /// An element header is complete.
    fn element(&mut self, tag: Tag, vr: Vr, length: u32, implicit: bool, defects: &mut Defects) {
        self.count(defects);
        if self.stopped() {
            return;
        }
        self.note_element(tag, vr, length, implicit, defects);
        self.current = tag;
        if length == UNDEFINED {
            match vr {
                _ if tag == tags::PIXEL_DATA => {
                    self.push(tag, vr, Kind::Bulk, length);
                    let note = self.note_bulk(tag, vr, None);
                    self.state = State::FragmentHead { note };
                }
                Vr::SQ => self.open_sequence(tag, vr, length, implicit, defects),
                // UN of undefined length holds Implicit VR Little Endian items (PS3.5 §6.2.2).
                Vr::UN => self.open_sequence(tag, vr, length, true, defects),
                _ => self.fail(DefectKind::UndefinedLength, Some(tag), defects),
            }
            return;
        }
        let at = self.at;
        if self.frame().bound.is_some_and(|bound| at + u64::from(length) > bound) {
            let kind = if tag == tags::PIXEL_DATA { DefectKind::PixelTruncated } else { DefectKind::LengthPastEnd };
            self.fail(kind, Some(tag), defects);
        } else if vr == Vr::SQ && length > 0 {
            self.open_sequence(tag, vr, length, implicit, defects);
        } else if vr == Vr::SQ {
            self.push(tag, vr, Kind::Sequence, length);
            self.complete(tag, defects);
        } else if tags::is_bulk(tag) {
            self.push(tag, vr, Kind::Bulk, length);
            let note = self.note_bulk(tag, vr, Some(length));
            self.state = State::Bulk { left: length, note, edges: tag == tags::ENCAPSULATED_DOCUMENT };
            if length == 0 {
                self.complete(tag, defects);
            }
        } else {
            self.push(tag, vr, Kind::Value, length);
            let most = match tag {
                tags::EXTENDED_OFFSET_TABLE | tags::EXTENDED_OFFSET_TABLE_LENGTHS if self.at_top_level() => TABLE_BYTES_MAX,
                _ if vr.is_string() => STRING_BYTES_MAX,
                _ => BINARY_BYTES_MAX,
            };
            let room = self.limits.kept_bytes_max.saturating_sub(self.header.bytes.len());
            let keep = length.min(most).min(u32::try_from(room).unwrap_or(u32::MAX));
            self.state = State::Value { left: length, keep };
            if length == 0 {
                self.complete(tag, defects);
            }
        }
    }

    /// Defects that show in the header of an element alone.
    fn note_element(&mut self, tag: Tag, vr: Vr, length: u32, implicit: bool, defects: &mut Defects) {
        let frame = self.frame();
        match frame.last {
            Some(last) if tag == last => defects.note(DefectKind::TagRepeated, Some(tag)),
            Some(last) if tag < last => {
                defects.note(DefectKind::TagOrder, Some(tag));
                frame.unordered = true;
            }
            _ => {}
        }
        frame.last = Some(tag);
        if tag.0 & 1 == 1 && !frame.has_creator(tag) {
            defects.note(DefectKind::PrivateNoCreator, Some(tag));
        }
        if tag.0 < 0x0008 || tag.0 == 0xFFFF {
            defects.note(DefectKind::ForbiddenGroup, Some(tag));
        } else if tag.1 == 0 {
            defects.note(DefectKind::GroupLength, Some(tag));
        }
        if !implicit && !vr.is_known() {
            defects.note(DefectKind::VrUnknown, Some(tag));
        }
        if !implicit && !fits_dictionary(tag, vr) {
            defects.note(DefectKind::VrDiffers, Some(tag));
        }
        if length != UNDEFINED && length & 1 == 1 {
            defects.note(DefectKind::OddLength, Some(tag));
        }
    }

    fn note_bulk(&mut self, tag: Tag, vr: Vr, length: Option<u32>) -> Option<usize> {
        let noted = self.at_top_level() && self.bulk.len() < NOTES_MAX;
        noted.then(|| {
            self.bulk.push(Bulk::new(tag, vr, length, self.at));
            self.bulk.len() - 1
        })
    }

    fn open_sequence(&mut self, tag: Tag, vr: Vr, length: u32, implicit: bool, defects: &mut Defects) {
        let depth = self.frames.iter().filter(|frame| frame.is_sequence).count();
        if depth >= self.limits.nesting_depth_max {
            let outermost = self.frames.get(1).map_or(tag, |frame| frame.tag);
            return self.fail(DefectKind::NestingTooDeep, Some(outermost), defects);
        }
        let node = self.push(tag, vr, Kind::Sequence, length);
        let end = (length != UNDEFINED).then(|| self.at + u64::from(length));
        let inner = Frame { implicit, ..self.frame().inner(true, end, tag, node) };
        self.frames.push(inner);
        self.state = State::Head;
    }

    /// What stands between the items of a sequence.
    fn item(&mut self, tag: Tag, defects: &mut Defects) {
        let length = le32(&self.pending, 4);
        let sequence = *self.frame();
        match tag {
            _ if self.stopped() => {}
            tags::ITEM => {
                self.count(defects);
                if self.stopped() {
                    return;
                }
                let end = (length != UNDEFINED).then(|| self.at + u64::from(length));
                if end.zip(sequence.bound).is_some_and(|(item, bound)| item > bound) {
                    return self.fail(DefectKind::LengthPastEnd, Some(sequence.tag), defects);
                }
                let node = self.push(tag, Vr::NONE, Kind::Item, length);
                self.frames.push(sequence.inner(false, end, sequence.tag, node));
                self.close_ended(defects);
            }
            Tag(0xFFFE, SEQUENCE_DELIMITER) if sequence.end.is_none() => {
                self.close(defects);
                self.close_ended(defects);
            }
            // A delimiter that a defined length did not need.
            Tag(0xFFFE, SEQUENCE_DELIMITER) => self.close_ended(defects),
            _ => self.fail(DefectKind::SequenceContent, Some(sequence.tag), defects),
        }
    }

    /// An item tag among elements.
    fn delimiter(&mut self, tag: Tag, defects: &mut Defects) {
        let in_item = !self.at_top_level();
        match tag {
            _ if self.stopped() => {}
            Tag(_, ITEM_DELIMITER) if in_item => {
                if self.frame().end.is_none() {
                    self.close(defects);
                }
                self.close_ended(defects);
            }
            _ => self.fail(DefectKind::Encoding, self.whole, defects),
        }
    }

    /// Leaves the innermost level.
    fn close(&mut self, defects: &mut Defects) {
        if self.at_top_level() {
            return;
        }
        if let Some(frame) = self.frames.pop() {
            self.end_level(frame, defects);
            if frame.is_sequence {
                self.whole = Some(frame.tag);
            }
        }
        self.state = State::Head;
    }

    /// Leaves every level whose defined length ends here.
    fn close_ended(&mut self, defects: &mut Defects) {
        let at = self.at;
        while !self.at_top_level() && self.frame().end == Some(at) {
            self.close(defects);
        }
    }

    fn end_level(&mut self, frame: Frame, defects: &mut Defects) {
        let end = self.header.nodes.len();
        let mut first = 0;
        if let Some(node) = self.header.nodes.get_mut(frame.node as usize) {
            node.end = end as u32;
            first = frame.node as usize + 1;
        }
        if frame.unordered {
            let mut level = Vec::new();
            while let Some(node) = self.header.nodes.get(first) {
                level.push(node.tag);
                first = (node.end as usize).max(first + 1);
            }
            level.sort_unstable();
            for pair in level.windows(2).filter(|pair| pair[0] == pair[1]) {
                defects.note(DefectKind::TagRepeated, Some(pair[0]));
            }
        }
    }

    /// An element is whole.
    fn complete(&mut self, tag: Tag, defects: &mut Defects) {
        self.whole = Some(tag);
        if !self.stopped() {
            self.state = State::Head;
            self.close_ended(defects);
        }
    }

    fn value(&mut self, bytes: &[u8], left: u32, keep: u32, defects: &mut Defects) -> usize {
        let used = (left as usize).min(bytes.len());
        let kept = (keep as usize).min(used);
        self.header.bytes.extend_from_slice(&bytes[..kept]);
        if let Some(node) = self.header.nodes.last_mut() {
            node.kept += kept as u32;
        }
        self.at += used as u64;
        self.state = State::Value { left: left - used as u32, keep: keep - kept as u32 };
        self.note_header_bytes(used as u64, defects);
        if left as usize == used && !self.stopped() {
            self.complete(self.current, defects);
        }
        used
    }

    fn bulk(&mut self, bytes: &[u8], left: u32, note: Option<usize>, edges: bool, defects: &mut Defects) -> usize {
        let used = (left as usize).min(bytes.len());
        self.at += used as u64;
        if let (true, Some(note)) = (edges, note.and_then(|index| self.bulk.get_mut(index))) {
            note.pass(&bytes[..used]);
        }
        let left = left - used as u32;
        self.state = State::Bulk { left, note, edges };
        if left == 0 {
            self.complete(self.current, defects);
        }
        used
    }

    fn fragment_head(&mut self, bytes: &[u8], note: Option<usize>, defects: &mut Defects) -> usize {
        let used = self.fill(bytes, 8);
        if self.pending_len < 8 {
            return used;
        }
        self.pending_len = 0;
        let (tag, length) = (self.pending_tag(), le32(&self.pending, 4));
        let at = self.at;
        let left_in_item = self.frame().bound.map(|bound| bound.saturating_sub(at));
        match tag {
            tags::ITEM if length != UNDEFINED => {
                self.count(defects);
                if self.stopped() {
                    return used;
                }
                if left_in_item.is_some_and(|left| u64::from(length) > left) {
                    self.fail(DefectKind::PixelTruncated, Some(tags::PIXEL_DATA), defects);
                    return used;
                }
                if length & 1 == 1 {
                    defects.note(DefectKind::FragmentStructure, Some(tags::PIXEL_DATA));
                }
                let table = note.and_then(|index| self.bulk.get_mut(index)).is_some_and(|note| note.begin_fragment(length));
                self.state = if length == 0 { State::FragmentHead { note } } else { State::Fragment { left: length, note, table } };
            }
            Tag(0xFFFE, SEQUENCE_DELIMITER) => {
                let without_table = note.and_then(|index| self.bulk.get(index)).is_some_and(|note| note.lacks_table());
                if without_table {
                    defects.note(DefectKind::FragmentStructure, Some(tags::PIXEL_DATA));
                }
                self.complete(tags::PIXEL_DATA, defects);
            }
            _ => {
                defects.note(DefectKind::FragmentStructure, Some(tags::PIXEL_DATA));
                self.state = State::Ended(End::Lost);
            }
        }
        used
    }

    fn fragment(&mut self, bytes: &[u8], left: u32, note: Option<usize>, table: bool) -> usize {
        let used = (left as usize).min(bytes.len());
        self.at += used as u64;
        match (table, note.and_then(|index| self.bulk.get_mut(index))) {
            (true, Some(note)) => {
                let kept = used.min(self.tables_room);
                self.tables_room -= kept;
                note.pass_table(&bytes[..kept]);
            }
            (false, Some(note)) => note.pass_fragment(&bytes[..used]),
            (_, None) => {}
        }
        let left = left - used as u32;
        self.state = if left == 0 { State::FragmentHead { note } } else { State::Fragment { left, note, table } };
        used
    }

    /// The last byte has been fed.
    pub(super) fn finish(mut self, defects: &mut Defects) -> (Header, Vec<Bulk>, Passed) {
        match self.state {
            State::Head => self.finish_head(defects),
            State::Value { .. } | State::Bulk { .. } => {
                let pixels = self.current == tags::PIXEL_DATA;
                defects.note(if pixels { DefectKind::PixelTruncated } else { DefectKind::LengthPastEnd }, Some(self.current));
                self.finish_levels(defects);
            }
            State::Fragment { .. } => defects.note(DefectKind::PixelTruncated, Some(tags::PIXEL_DATA)),
            State::FragmentHead { .. } if self.pending_len > 0 => defects.note(DefectKind::Truncated, self.whole),
            State::FragmentHead { .. } => defects.note(DefectKind::FragmentStructure, Some(tags::PIXEL_DATA)),
            State::Ended(_) => {}
        }
        let whole = matches!(self.state, State::Head) && self.at_top_level();
        let passed = match (self.state, self.frames[0].last) {
            (State::Ended(End::Trailing), _) => Passed::All,
            _ if whole => Passed::All,
            (State::Ended(End::Unread), _) | (_, None) => Passed::Nothing,
            (_, Some(last)) => Passed::Below(last),
        };
        while let Some(frame) = self.frames.pop() {
            self.end_level(frame, defects);
        }
        for note in &mut self.bulk {
            note.trim_tail();
        }
        (self.header, self.bulk, passed)
    }

    fn finish_head(&mut self, defects: &mut Defects) {
        if self.pending_len > 0 {
            let after_pixels = self.at_top_level() && self.frame().last.is_some_and(|last| last >= tags::PIXEL_DATA);
            if after_pixels {
                defects.note(DefectKind::TrailingBytes, Some(tags::TRAILING_PADDING));
            } else {
                defects.note(DefectKind::Truncated, self.whole);
            }
        }
        self.finish_levels(defects);
    }

    /// Levels that are still open at the end of the data set.
    fn finish_levels(&mut self, defects: &mut Defects) {
        for frame in &self.frames[1..] {
            match frame.end {
                Some(_) => defects.note(DefectKind::LengthPastEnd, Some(frame.tag)),
                None => defects.note(DefectKind::Truncated, self.whole),
            }
        }
    }
}

/// Reads a whole Explicit VR Little Endian data set or a part of one.
pub(super) fn read_part(bytes: &[u8], limits: Limits) -> Option<Header> {
    let mut walk = Walk::new(Encoding::Explicit, limits);
    walk.whole_data_set = false;
    let mut defects = Defects::default();
    walk.feed(bytes, &mut defects);
    let whole = walk.state == State::Head && walk.pending_len == 0 && walk.at_top_level();
    whole.then(|| walk.finish(&mut defects).0)
}

fn le32(bytes: &[u8; 12], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

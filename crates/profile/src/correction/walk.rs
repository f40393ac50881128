//! A strict walk that knows where in the data set each element stands.
//!
//! The scanner names every defect and reads on; here an element whose place is not certain ends the walk, since bytes would
//! be replaced at a wrong place.

use super::Fault;
use super::encode::UNDEFINED;
use crate::scan::{Limits, Vr, implicit_vr, tags};
use dicom_core::Tag;

const SEQUENCE_DELIMITER: Tag = Tag(0xFFFE, 0xE0DD);
const ITEM_DELIMITER: Tag = Tag(0xFFFE, 0xE00D);

/// The head of an element, or of an item (VR `--`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub tag: Tag,
    pub vr: Vr,
    /// Implicit VR.
    pub implicit: bool,
    /// Offset of its first byte.
    pub at: u64,
    /// Bytes of tag, VR and length: 8 or 12.
    pub bytes: u32,
    /// As declared.
    pub length: u32,
}

impl Head {
    /// Offset of the length field of 4 bytes; none for a short VR.
    pub fn length_at(&self) -> u64 {
        self.at + u64::from(self.bytes) - 4
    }

    /// Offset of the value.
    pub fn value_at(&self) -> u64 {
        self.at + u64::from(self.bytes)
    }
}

/// What the walk tells. `depth`: 0 at the top level.
pub(super) trait Visit {
    /// An element begins. Returns whether its whole value is wanted, at most 1 MiB.
    fn element(&mut self, head: &Head, depth: usize) -> Result<bool, Fault>;
    /// The whole value, if it was wanted.
    fn value(&mut self, head: &Head, value: &[u8], depth: usize) -> Result<(), Fault>;
    /// A sequence or an item begins behind its head.
    fn level_begin(&mut self, head: &Head) -> Result<(), Fault>;
    /// Its content ends at `end`, before a delimiter.
    fn level_end(&mut self, head: &Head, end: u64) -> Result<(), Fault>;
    /// An element of the top level is whole, delimiter included.
    fn complete(&mut self, head: &Head) -> Result<(), Fault>;
    /// Every byte but those of bulk data, in order; that of a head before the head is told, of a delimiter before its level ends.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Fault>;
    /// Bulk data begins inside this element.
    fn bulk(&mut self) -> Result<(), Fault>;
}

/// Longest value that is handed over whole.
pub(super) const VALUE_BYTES_MAX: u32 = 1 << 20;

#[derive(Clone, Copy)]
enum State {
    Head,
    Value {
        head: Head,
        left: u32,
        wanted: bool,
    },
    FragmentHead {
        head: Head,
    },
    Fragment {
        head: Head,
        left: u32,
    },
    /// Behind the last element.
    Trailing,
}

struct Frame {
    head: Head,
    is_sequence: bool,
    implicit: bool,
    end: Option<u64>,
}

pub(super) struct Walk {
    limits: Limits,
    implicit: bool,
    state: State,
    frames: Vec<Frame>,
    pending: Vec<u8>,
    value: Vec<u8>,
    at: u64,
    last: Tag,
    elements: u64,
}

impl Walk {
    pub(super) fn new(implicit: bool, limits: Limits) -> Self {
        let nowhere = Tag(0, 0);
        Self {
            limits,
            implicit,
            state: State::Head,
            frames: Vec::new(),
            pending: Vec::with_capacity(12),
            value: Vec::new(),
            at: 0,
            last: nowhere,
            elements: 0,
        }
    }

    /// Bytes so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    fn fault(&self) -> Fault {
        Fault::Encoding { at: self.at, tag: self.last }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], visit: &mut dyn Visit) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let used = match self.state {
                State::Head => self.head(bytes, visit)?,
                State::Value { head, left, wanted } => self.value(bytes, head, left, wanted, visit)?,
                State::FragmentHead { head } => self.fragment_head(bytes, head, visit)?,
                State::Fragment { head, left } => {
                    let used = (left as usize).min(bytes.len());
                    self.at += used as u64;
                    let left = left - used as u32;
                    self.state = if left == 0 { State::FragmentHead { head } } else { State::Fragment { head, left } };
                    used
                }
                State::Trailing => {
                    self.at += bytes.len() as u64;
                    bytes.len()
                }
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// The last byte has been fed.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        match self.state {
            State::Trailing => Ok(()),
            // Some bytes behind the pixel data that are no element.
            State::Head if self.frames.is_empty() && (self.pending.is_empty() || self.last >= tags::PIXEL_DATA) => Ok(()),
            _ => Err(self.fault()),
        }
    }

    fn fill(&mut self, bytes: &[u8], needed: usize) -> usize {
        let used = needed.saturating_sub(self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(&bytes[..used]);
        self.at += used as u64;
        used
    }

    fn head(&mut self, bytes: &[u8], visit: &mut dyn Visit) -> Result<usize, Fault> {
        let mut used = self.fill(bytes, 8);
        if self.pending.len() < 8 {
            return Ok(used);
        }
        let pair = |at: usize| u16::from_le_bytes([self.pending[at], self.pending[at + 1]]);
        let tag = Tag(pair(0), pair(2));
        let (is_sequence, implicit) = self.frames.last().map_or((false, self.implicit), |frame| (frame.is_sequence, frame.implicit));
        if is_sequence || tag.0 == tags::ITEM.0 {
            self.between(tag, visit)?;
            return Ok(used);
        }
        let vr = if implicit { implicit_vr(tag) } else { Vr([self.pending[4], self.pending[5]]) };
        let behind_pixels = self.frames.is_empty() && self.last >= tags::PIXEL_DATA;
        if behind_pixels && (!(implicit || vr.is_known()) || tag < self.last) {
            self.pending.clear();
            self.state = State::Trailing;
            return Ok(used);
        }
        if !implicit && !vr.0.iter().all(u8::is_ascii_uppercase) {
            return Err(self.fault());
        }
        let long = !implicit && (vr.has_long_length() || !vr.is_known());
        if long {
            used += self.fill(&bytes[used..], 12);
            if self.pending.len() < 12 {
                return Ok(used);
            }
        }
        let length = match (implicit, long) {
            (false, false) => u32::from(u16::from_le_bytes([self.pending[6], self.pending[7]])),
            _ => self.pending_length(),
        };
        let bytes = self.pending.len() as u32;
        let head = Head { tag, vr, implicit, at: self.at - u64::from(bytes), bytes, length };
        if self.frames.is_empty() {
            self.last = tag;
        }
        self.element(head, visit)?;
        Ok(used)
    }

    /// The last 4 bytes of a head.
    fn pending_length(&self) -> u32 {
        self.pending.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.elements += 1;
        if self.elements > self.limits.elements_max { Err(self.fault()) } else { Ok(()) }
    }

    fn element(&mut self, head: Head, visit: &mut dyn Visit) -> Result<(), Fault> {
        self.count()?;
        let bound = self.frames.iter().rev().find_map(|frame| frame.end);
        let too_long = head.length != UNDEFINED && bound.is_some_and(|bound| self.at + u64::from(head.length) > bound);
        if too_long || bound.is_some_and(|bound| self.at > bound) {
            return Err(self.fault());
        }
        let wanted = visit.element(&head, self.frames.len())?;
        visit.pass(&self.pending)?;
        self.pending.clear();
        match (head.length, head.vr) {
            (UNDEFINED, _) if head.tag == tags::PIXEL_DATA => {
                visit.bulk()?;
                self.state = State::FragmentHead { head };
                Ok(())
            }
            (UNDEFINED, Vr::UN) => self.open(head, true, true, visit),
            (_, Vr::SQ) => self.open(head, true, head.implicit, visit),
            (UNDEFINED, _) => Err(self.fault()),
            (length, _) => {
                if tags::is_bulk(head.tag) {
                    visit.bulk()?;
                }
                self.value.clear();
                self.state = State::Value { head, left: length, wanted: wanted && length <= VALUE_BYTES_MAX };
                if length == 0 { self.value(&[], head, 0, wanted, visit).map(drop) } else { Ok(()) }
            }
        }
    }

    fn open(&mut self, head: Head, is_sequence: bool, implicit: bool, visit: &mut dyn Visit) -> Result<(), Fault> {
        if self.frames.len() >= 2 * self.limits.nesting_depth_max {
            return Err(self.fault());
        }
        visit.level_begin(&head)?;
        let end = (head.length != UNDEFINED).then(|| self.at + u64::from(head.length));
        self.frames.push(Frame { head, is_sequence, implicit, end });
        self.state = State::Head;
        self.close_ended(visit)
    }

    /// An item tag: in a sequence what stands between items, in an item its delimiter.
    fn between(&mut self, tag: Tag, visit: &mut dyn Visit) -> Result<(), Fault> {
        let length = self.pending_length();
        let Some(frame) = self.frames.last() else { return Err(self.fault()) };
        let (is_sequence, implicit, defined) = (frame.is_sequence, frame.implicit, frame.end.is_some());
        let bound = self.frames.iter().rev().find_map(|frame| frame.end);
        let end = if length == UNDEFINED || tag != tags::ITEM { self.at } else { self.at + u64::from(length) };
        if bound.is_some_and(|bound| end > bound) {
            return Err(self.fault());
        }
        visit.pass(&self.pending)?;
        self.pending.clear();
        match tag {
            tags::ITEM if is_sequence => {
                self.count()?;
                let head = Head { tag, vr: Vr(*b"--"), implicit, at: self.at - 8, bytes: 8, length };
                self.open(head, false, implicit, visit)
            }
            SEQUENCE_DELIMITER if is_sequence => self.delimited(defined, visit),
            ITEM_DELIMITER if !is_sequence => self.delimited(defined, visit),
            _ => Err(self.fault()),
        }
    }

    /// A delimiter; a level of defined length does not need it and ends where its length says.
    fn delimited(&mut self, defined: bool, visit: &mut dyn Visit) -> Result<(), Fault> {
        if !defined {
            self.close(self.at - 8, visit)?;
        }
        self.close_ended(visit)
    }

    fn close(&mut self, end: u64, visit: &mut dyn Visit) -> Result<(), Fault> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        visit.level_end(&frame.head, end)?;
        if self.frames.is_empty() { visit.complete(&frame.head) } else { Ok(()) }
    }

    fn close_ended(&mut self, visit: &mut dyn Visit) -> Result<(), Fault> {
        while let Some(end) = self.frames.last().and_then(|frame| frame.end).filter(|end| *end == self.at) {
            self.close(end, visit)?;
        }
        Ok(())
    }

    fn whole(&mut self, head: &Head, visit: &mut dyn Visit) -> Result<(), Fault> {
        self.state = State::Head;
        if self.frames.is_empty() {
            visit.complete(head)?;
        }
        self.close_ended(visit)
    }

    fn value(&mut self, bytes: &[u8], head: Head, left: u32, wanted: bool, visit: &mut dyn Visit) -> Result<usize, Fault> {
        let used = (left as usize).min(bytes.len());
        if !tags::is_bulk(head.tag) {
            visit.pass(&bytes[..used])?;
        }
        if wanted {
            self.value.extend_from_slice(&bytes[..used]);
        }
        self.at += used as u64;
        let left = left - used as u32;
        self.state = State::Value { head, left, wanted };
        if left == 0 {
            if wanted {
                visit.value(&head, &self.value, self.frames.len())?;
                self.value.clear();
            }
            self.whole(&head, visit)?;
        }
        Ok(used)
    }

    fn fragment_head(&mut self, bytes: &[u8], head: Head, visit: &mut dyn Visit) -> Result<usize, Fault> {
        let used = self.fill(bytes, 8);
        if self.pending.len() < 8 {
            return Ok(used);
        }
        let tag = Tag(u16::from_le_bytes([self.pending[0], self.pending[1]]), u16::from_le_bytes([self.pending[2], self.pending[3]]));
        let length = self.pending_length();
        self.pending.clear();
        match (tag, length) {
            (tags::ITEM, 0) => {}
            (tags::ITEM, length) if length != UNDEFINED => self.state = State::Fragment { head, left: length },
            (SEQUENCE_DELIMITER, _) => self.whole(&head, visit)?,
            _ => return Err(self.fault()),
        }
        Ok(used)
    }
}

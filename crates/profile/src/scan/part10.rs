//! Front of a DICOM file or STOW part: preamble, prefix and file meta (PS3.10 §7.1), then the data set.

use super::defect::{DefectKind, Defects};
use super::header::Header;
use super::{Limits, Scan, Scanner, tags, walk};

/// Longest group 0002 that is read, in bytes.
const META_BYTES_MAX: usize = 1 << 20;

/// Bytes of the front that are well fed at once: what of them is the front of a deflated data set stays small.
const META_STEP_BYTES: usize = 8;
/// What is taken at least for the front.
const META_SPACE_BYTES: usize = 1 << 10;

enum Stage {
    Preamble,
    Meta,
    DataSet(Box<Scanner>),
    Failed,
}

/// Reads a Part 10 stream in chunks of any size and hands out the bytes of its data set.
pub struct Part10Reader {
    limits: Limits,
    stage: Stage,
    /// Preamble, or the file meta elements read so far.
    buffer: Vec<u8>,
    /// Start of the next element in `buffer`.
    at: usize,
    received: u64,
    meta: Option<Header>,
    defects: Defects,
}

/// The part of one chunk that belongs to the data set: first `carried`, then `rest`.
#[derive(Debug, PartialEq, Eq)]
pub struct Fed<'a> {
    /// Bytes of earlier chunks that turned out to belong to the data set, ≤ 2; mostly empty.
    pub carried: Vec<u8>,
    /// Bytes of this chunk.
    pub rest: &'a [u8],
}

impl Part10Reader {
    /// Starts before the first byte of the preamble.
    pub fn new(limits: Limits) -> Self {
        Self { limits, stage: Stage::Preamble, buffer: Vec::new(), at: 0, received: 0, meta: None, defects: Defects::default() }
    }

    /// The next bytes of the stream; returns what of them is data set, for digest and storage. The data set is walked here.
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Fed<'a> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        match &mut self.stage {
            Stage::DataSet(scanner) => {
                scanner.feed(bytes);
                Fed { carried: Vec::new(), rest: bytes }
            }
            Stage::Failed => Fed { carried: Vec::new(), rest: &[] },
            Stage::Preamble | Stage::Meta => self.feed_front(bytes),
        }
    }

    fn feed_front<'a>(&mut self, mut bytes: &'a [u8]) -> Fed<'a> {
        let nothing = Fed { carried: Vec::new(), rest: &[] };
        if matches!(self.stage, Stage::Preamble) {
            let used = (132 - self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..used]);
            bytes = &bytes[used..];
            if self.buffer.len() < 132 {
                return nothing;
            }
            if !self.buffer.ends_with(b"DICM") {
                self.defects.note(DefectKind::NoPreamble, None);
                self.stage = Stage::Failed;
                return nothing;
            }
            self.buffer.clear();
            self.stage = Stage::Meta;
        }
        let before = self.buffer.len();
        self.buffer.extend_from_slice(&bytes[..bytes.len().min(META_BYTES_MAX + 12 - before)]);
        match self.meta_end() {
            MetaEnd::NotYet if self.buffer.len() < META_BYTES_MAX => nothing,
            MetaEnd::NotYet | MetaEnd::Damaged => {
                self.fail_meta();
                nothing
            }
            MetaEnd::At(end) => {
                let carried = self.buffer.get(end..before).unwrap_or_default().to_vec();
                let rest = &bytes[end.saturating_sub(before)..];
                self.begin_data_set(end);
                if let Stage::DataSet(scanner) = &mut self.stage {
                    scanner.feed(&carried);
                    scanner.feed(rest);
                    return Fed { carried, rest };
                }
                nothing
            }
        }
    }

    /// Walks the element headers in `buffer` from `at`.
    fn meta_end(&mut self) -> MetaEnd {
        loop {
            let Some(head) = self.buffer.get(self.at..) else { return MetaEnd::NotYet };
            // The group tells where file meta ends. A deflated data set can begin with the same two bytes, so that
            // a group length that fits goes first.
            if self.at > 0 && Some(self.at) == self.declared_end() && self.names_deflate() {
                return MetaEnd::At(self.at);
            }
            let Some(group) = head.first_chunk::<2>() else { return MetaEnd::NotYet };
            if *group != [2, 0] {
                return MetaEnd::At(self.at);
            }
            let Some(&[_, _, _, _, a, b, c, d]) = head.first_chunk::<8>() else { return MetaEnd::NotYet };
            let vr = super::Vr([a, b]);
            if !vr.0.iter().all(u8::is_ascii_uppercase) {
                return MetaEnd::Damaged;
            }
            let (head_bytes, length) = if vr.has_long_length() || !vr.is_known() {
                let Some(&[_, _, _, _, _, _, _, _, e, f, g, h]) = head.first_chunk::<12>() else { return MetaEnd::NotYet };
                (12, u32::from_le_bytes([e, f, g, h]) as usize)
            } else {
                (8, usize::from(u16::from_le_bytes([c, d])))
            };
            if length > META_BYTES_MAX {
                return MetaEnd::Damaged;
            }
            let next = self.at + head_bytes + length;
            if next > self.buffer.len() {
                return MetaEnd::NotYet;
            }
            self.at = next;
        }
    }

    /// Where (0002,0000) says that the group ends.
    fn declared_end(&self) -> Option<usize> {
        let length = self.buffer.strip_prefix(b"\x02\0\0\0UL\x04\0")?.first_chunk::<4>()?;
        12_usize.checked_add(u32::from_le_bytes(*length) as usize)
    }

    fn names_deflate(&self) -> bool {
        let meta = walk::read_part(&self.buffer[..self.at], self.limits);
        meta.and_then(|meta| meta.data_set().uid(tags::TRANSFER_SYNTAX_UID).map(super::encoding_of))
            == Some(super::Encoding::DeflatedExplicit)
    }

    fn fail_meta(&mut self) {
        self.defects.note(DefectKind::FileMetaEncoding, Some(tags::FILE_META_INFORMATION_GROUP_LENGTH));
        self.stage = Stage::Failed;
    }

    /// File meta is complete in `buffer[..end]`.
    fn begin_data_set(&mut self, end: usize) {
        let Some(meta) = walk::read_part(&self.buffer[..end], self.limits) else {
            return self.fail_meta();
        };
        for tag in [tags::MEDIA_STORAGE_SOP_CLASS_UID, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, tags::TRANSFER_SYNTAX_UID] {
            if meta.data_set().uid(tag).is_none() {
                self.defects.note(DefectKind::FileMetaIncomplete, Some(tag));
            }
        }
        let length = meta.data_set().element(tags::FILE_META_INFORMATION_GROUP_LENGTH);
        if length.is_some() && self.declared_end() != Some(end) {
            self.defects.note(DefectKind::FileMetaLength, Some(tags::FILE_META_INFORMATION_GROUP_LENGTH));
        }
        match meta.data_set().uid(tags::TRANSFER_SYNTAX_UID) {
            Some(syntax) => self.stage = Stage::DataSet(Box::new(Scanner::new(syntax, self.limits))),
            None => self.stage = Stage::Failed,
        }
        self.meta = Some(meta);
        self.buffer = Vec::new();
    }

    /// File meta, as soon as it is complete.
    pub fn file_meta(&self) -> Option<&Header> {
        self.meta.as_ref()
    }

    /// The front, or the data set, cannot be read on: see [`Scanner::failed`].
    pub fn failed(&self) -> bool {
        match &self.stage {
            Stage::Failed => true,
            Stage::DataSet(scanner) => scanner.failed(),
            Stage::Preamble | Stage::Meta => false,
        }
    }

    /// As [`Scanner::memory_bytes`], with preamble and file meta while they are read.
    pub fn memory_bytes(&self) -> usize {
        let data_set = match &self.stage {
            Stage::DataSet(scanner) => scanner.memory_bytes(),
            Stage::Preamble | Stage::Meta | Stage::Failed => 0,
        };
        self.buffer.capacity() + self.meta.as_ref().map_or(0, Header::memory_bytes) + data_set
    }

    /// As [`Scanner::memory_bytes_after`].
    pub fn memory_bytes_after(&self, more: usize) -> usize {
        match &self.stage {
            Stage::DataSet(scanner) => self.memory_bytes() - scanner.memory_bytes() + scanner.memory_bytes_after(more),
            Stage::Failed => self.memory_bytes(),
            // File meta may end in these bytes: it becomes elements, and the rest is the front of a data set, perhaps a deflated one.
            Stage::Preamble | Stage::Meta => {
                let front = (self.buffer.len() + more).max(2 * self.buffer.capacity()).max(META_SPACE_BYTES);
                let elements = walk::memory_bytes_of_new(self.limits, self.buffer.len() + more);
                self.memory_bytes() + front + elements + walk::memory_bytes_of_new(self.limits, super::inflated_max(more))
            }
        }
    }

    /// As [`Scanner::step_bytes`].
    pub fn step_bytes(&self) -> usize {
        match &self.stage {
            Stage::DataSet(scanner) => scanner.step_bytes(),
            Stage::Failed => usize::MAX,
            Stage::Preamble | Stage::Meta => META_STEP_BYTES,
        }
    }

    /// The last byte has been fed.
    pub fn finish(mut self) -> Scan {
        if self.received < 132 {
            self.defects.note(DefectKind::Empty, None);
        } else if matches!(self.stage, Stage::Meta) {
            // The stream ended inside file meta, or right behind it.
            match self.buffer.len() {
                end if end > 0 && self.at == end => self.begin_data_set(end),
                0 => {
                    for tag in [tags::MEDIA_STORAGE_SOP_CLASS_UID, tags::MEDIA_STORAGE_SOP_INSTANCE_UID, tags::TRANSFER_SYNTAX_UID] {
                        self.defects.note(DefectKind::FileMetaIncomplete, Some(tag));
                    }
                }
                _ => self.fail_meta(),
            }
        }
        let mut scan = match self.stage {
            Stage::DataSet(scanner) => scanner.finish(),
            Stage::Preamble | Stage::Meta | Stage::Failed => Scan::unread(),
        };
        scan.file_meta = self.meta;
        for defect in &scan.defects {
            self.defects.note(defect.kind, None);
            defect.tags.iter().for_each(|tag| self.defects.note(defect.kind, Some(*tag)));
        }
        scan.defects = self.defects.into_vec();
        scan
    }
}

enum MetaEnd {
    NotYet,
    At(usize),
    Damaged,
}

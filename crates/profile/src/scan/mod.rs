//! A bounded walk over a data set while its bytes arrive.
//!
//! - What it does: walks tag, VR, length and depth of a data set in arbitrary chunks. Bulk data passes by, other values are
//!   kept up to a bound, every defect of the encoding is named.
//! - What it does not: judge (a [`Defect`] becomes a finding only through a rule, [`crate::rules`]); change a byte; decode pixels.
//! - State: [`Scanner`] for a bare data set, [`Part10Reader`] for a file or STOW part; both end in a [`Scan`].
//! - Bounds: [`Limits`]. Nothing is allocated from a declared length.
//! - Standard: PS3.5 §6, §7, Annex A; PS3.10 §7.1; profile 01 §2 (stage S), §3.1.
//!
//! ```
//! use idr_profile::scan::{Limits, Scanner, tags};
//!
//! let mut scanner = Scanner::new("1.2.840.10008.1.2.1", Limits::default());
//! scanner.feed(b"\x08\x00\x60\x00CS\x02");
//! scanner.feed(b"\x00CT");
//! let scan = scanner.finish();
//! assert_eq!(scan.data_set().text(tags::MODALITY).as_deref(), Some("CT"));
//! assert!(scan.defects.is_empty());
//! ```

mod bulk;
mod codestream;
mod defect;
mod header;
pub mod json;
mod part10;
mod pdf;
mod syntax;
pub mod tags;
mod text;
mod vr;
mod walk;

pub use bulk::{Bulk, Fragments};
pub use codestream::Geometry;
pub use defect::{Defect, DefectKind, TAGS_MAX};
pub use header::{DataSet, Element, Header};
pub use part10::{Fed, Part10Reader};
pub use syntax::{Encoding, encoding_of, is_encapsulated, is_native};
pub use text::{CharacterSet, Declared, Decoded};
pub use vr::Vr;
pub(crate) use vr::implicit_vr;

use defect::Defects;
pub use dicom_core::Tag;
use flate2::{Decompress, FlushDecompress, Status};
use walk::Walk;

/// Bounds of one walk. Defaults are those of profile 01 (D115, D120, D821, D824, D825); all sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Data set as received, 16 GiB.
    pub instance_bytes_max: u64,
    /// Everything outside (7FE0,0008–0010), (5400,1010), (0042,0011) and (60xx,3000), 64 MiB.
    pub header_bytes_max: u64,
    /// Elements and items at all levels, 1 000 000.
    pub elements_max: u64,
    /// Levels of sequences, 64.
    pub nesting_depth_max: usize,
    /// Output of a deflated data set, 4 GiB.
    pub inflate_bytes_max: u64,
    /// Values kept of one data set, 32 MiB; later values are noted without bytes. Refuses nothing; with `elements_max` and 8 MB of
    /// offset tables it bounds what a data set takes in memory.
    pub kept_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instance_bytes_max: 16 << 30,
            header_bytes_max: 64 << 20,
            elements_max: 1_000_000,
            nesting_depth_max: 64,
            inflate_bytes_max: 4 << 30,
            kept_bytes_max: 32 << 20,
        }
    }
}

/// Walks one data set. Feed it every byte of the data set, in order, in chunks of any size.
pub struct Scanner {
    limits: Limits,
    transfer_syntax: String,
    inflate: Option<Box<Inflate>>,
    walk: Walk,
    defects: Defects,
    received: u64,
}

impl Scanner {
    /// Starts a walk. `transfer_syntax` is the UID without padding; one that this walk cannot read (big endian) is only counted.
    pub fn new(transfer_syntax: &str, limits: Limits) -> Self {
        let encoding = encoding_of(transfer_syntax);
        Self {
            limits,
            transfer_syntax: transfer_syntax.to_owned(),
            inflate: (encoding == Encoding::DeflatedExplicit).then(|| Box::new(Inflate::new(limits.inflate_bytes_max))),
            walk: Walk::new(encoding, limits),
            defects: Defects::default(),
            received: 0,
        }
    }

    /// The next bytes of the data set. Bulk data costs no work per byte, an encapsulated document a look at each.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.limits.instance_bytes_max {
            self.defects.note(DefectKind::InstanceTooLarge, None);
        }
        match &mut self.inflate {
            None => self.walk.feed(bytes, &mut self.defects),
            Some(inflate) => inflate.feed(bytes, &mut self.walk, &mut self.defects),
        }
    }

    /// Bytes of the data set so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The walk met a defect after which the data set cannot be read on. Every such defect belongs to a locked rule
    /// (REJECT*), so that the caller may drop the bytes that it has written; later bytes are counted only.
    pub fn failed(&self) -> bool {
        self.walk.stopped()
    }

    /// Bulk data of the top level has begun: every element with a lower tag has passed. For readers that want the header only.
    pub fn has_bulk(&self) -> bool {
        self.walk.has_bulk()
    }

    /// Pixel data of the top level has begun: what an image has for its metadata has passed.
    pub fn has_pixel_data(&self) -> bool {
        self.walk.has_pixel_data()
    }

    /// Bytes that the walk keeps of what it was fed. A fixed part of some tens of KiB is not counted.
    pub fn memory_bytes(&self) -> usize {
        self.walk.memory_bytes()
    }

    /// Most that [`Scanner::memory_bytes`] will be after `more` bytes. Feed at most [`Scanner::step_bytes`] at once, if it shall not
    /// be far above what comes of it.
    pub fn memory_bytes_after(&self, more: usize) -> usize {
        match &self.inflate {
            None => self.walk.memory_bytes_after(more),
            Some(_) => self.walk.memory_bytes_after(inflated_max(more)),
        }
    }

    /// Bytes that are well fed at once: all bulk data that comes next, little of a header.
    pub fn step_bytes(&self) -> usize {
        let passing = self.walk.passing_bytes();
        match &self.inflate {
            None => passing.max(STEP_BYTES),
            Some(_) => (passing / INFLATED_MAX).max(DEFLATED_STEP_BYTES),
        }
    }

    /// The last byte has been fed.
    pub fn finish(mut self) -> Scan {
        if self.received == 0 {
            self.defects.note(DefectKind::Empty, None);
        }
        if let Some(inflate) = &self.inflate {
            inflate.finish(&mut self.walk, &mut self.defects, self.received);
        }
        let (header, bulk, passed) = self.walk.finish(&mut self.defects);
        Scan {
            transfer_syntax: self.transfer_syntax,
            data_set_bytes: self.received,
            header,
            bulk,
            defects: self.defects.into_vec(),
            file_meta: None,
            passed,
        }
    }
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// UID of the transfer syntax that the data set was read with; empty if a file named none.
    pub transfer_syntax: String,
    /// Bytes of the data set as received, file meta excluded.
    pub data_set_bytes: u64,
    /// All elements in order; values outside bulk data.
    pub header: Header,
    /// Bulk elements of the top level, at most 64.
    pub bulk: Vec<Bulk>,
    /// One entry per kind, in the order of [`DefectKind`].
    pub defects: Vec<Defect>,
    /// Group 0002 of a file or STOW part.
    pub file_meta: Option<Header>,
    passed: Passed,
}

/// How far the top level was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// To the end.
    All,
    /// Elements below this tag.
    Below(Tag),
    /// Nothing can be said.
    Nothing,
}

impl Scan {
    /// A stream whose data set was not reached.
    fn unread() -> Self {
        Self {
            transfer_syntax: String::new(),
            data_set_bytes: 0,
            header: Header::default(),
            bulk: Vec::new(),
            defects: Vec::new(),
            file_meta: None,
            passed: Passed::Nothing,
        }
    }

    /// The top level of the data set.
    pub fn data_set(&self) -> DataSet<'_> {
        self.header.data_set()
    }

    /// The defect of this kind, if the walk met it.
    pub fn defect(&self, kind: DefectKind) -> Option<&Defect> {
        self.defects.iter().find(|defect| defect.kind == kind)
    }

    /// The walk came past `tag` at the top level: if the element is not in the header, the data set does not have it.
    pub fn passed(&self, tag: Tag) -> bool {
        match self.passed {
            Passed::All => true,
            Passed::Below(last) => tag < last,
            Passed::Nothing => false,
        }
    }

    /// Bulk element of the top level.
    pub fn bulk(&self, tag: Tag) -> Option<&Bulk> {
        self.bulk.iter().find(|bulk| bulk.tag == tag)
    }
}

/// Bytes of a header that are well fed at once: they take at most some 150 KiB of memory.
const STEP_BYTES: usize = 8 << 10;
/// As many of a deflated one: they inflate to 264 KiB at most.
const DEFLATED_STEP_BYTES: usize = 256;
/// Most bytes that come of one of a deflate stream: 258 of two bits (RFC 1951 §3.2.5).
const INFLATED_MAX: usize = 1_032;
/// Bytes of a deflate stream that the inflater holds back.
const UNDER_WAY_BYTES: usize = 8;

fn inflated_max(deflated: usize) -> usize {
    deflated.saturating_add(UNDER_WAY_BYTES).saturating_mul(INFLATED_MAX)
}

/// Inflates a raw deflate stream (PS3.5 §A.5) in pieces and feeds the walk.
struct Inflate {
    stream: Decompress,
    buffer: Vec<u8>,
    limit: u64,
    ended: bool,
    failed: bool,
}

impl Inflate {
    fn new(limit: u64) -> Self {
        Self { stream: Decompress::new(false), buffer: vec![0; 64 << 10], limit, ended: false, failed: false }
    }

    fn feed(&mut self, mut bytes: &[u8], walk: &mut Walk, defects: &mut Defects) {
        while !self.ended && !self.failed && !walk.stopped() {
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(bytes, &mut self.buffer, FlushDecompress::None);
            let read = usize::try_from(self.stream.total_in() - read).unwrap_or(bytes.len()).min(bytes.len());
            let written = usize::try_from(self.stream.total_out() - written).unwrap_or(0).min(self.buffer.len());
            bytes = &bytes[read..];
            self.failed = status.is_err() || self.stream.total_out() > self.limit;
            self.ended = matches!(status, Ok(Status::StreamEnd));
            // What came out before the damage is walked first, so that the defect does not depend on how the bytes were cut.
            let over = usize::try_from(self.stream.total_out().saturating_sub(self.limit)).unwrap_or(written).min(written);
            walk.feed(&self.buffer[..written - over], defects);
            if self.failed && !walk.stopped() {
                defects.note(DefectKind::Deflate, Some(tags::TRANSFER_SYNTAX_UID));
                walk.stop();
            }
            if bytes.is_empty() && written < self.buffer.len() || read == 0 && written == 0 {
                return;
            }
        }
    }

    /// A stream that ends early is one defect: that the data set inside it ends early as well is none of its own.
    fn finish(&self, walk: &mut Walk, defects: &mut Defects, received: u64) {
        if !self.ended && !self.failed && !walk.stopped() && received > 0 {
            defects.note(DefectKind::Deflate, Some(tags::TRANSFER_SYNTAX_UID));
            walk.stop();
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

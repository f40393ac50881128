//! What is noted of a bulk element while it passes by.

use super::Vr;
use super::codestream::{Codestream, Geometry};
use super::pdf::Pdf;
use dicom_core::Tag;

/// Bytes noted at the start of an encapsulated document and of the first fragment, and at the end of both.
const EDGE_BYTES: usize = 1024;
/// Fragments whose first bytes are noted.
pub(super) const HEADS_MAX: usize = 65_536;
/// Bulk elements noted of one data set.
pub(super) const NOTES_MAX: usize = 64;

/// A bulk element: (7FE0,0008–0010), (5400,1010), (0042,0011) or (60xx,3000).
#[derive(Clone, PartialEq)]
pub struct Bulk {
    /// Its tag.
    pub tag: Tag,
    /// VR as encoded, or of the dictionary in Implicit VR.
    pub vr: Vr,
    /// Declared length in bytes; `None` for undefined length.
    pub length: Option<u32>,
    /// Where its value begins in the data set (inflated, if it is deflated): of encapsulated pixel data, the item of the offset table.
    pub at: u64,
    /// First bytes of the value, ≤ 1 024 (encapsulated: of the first fragment after the offset table).
    pub head: Vec<u8>,
    /// Last bytes of the value, ≤ 1 024 (encapsulated: of the last fragment).
    pub tail: Vec<u8>,
    /// Encapsulated form.
    pub fragments: Option<Fragments>,
    /// An encapsulated document, read as a PDF.
    pdf: Option<Pdf>,
}

/// Items of encapsulated pixel data (PS3.5 §A.4).
#[derive(Clone, PartialEq, Default)]
pub struct Fragments {
    /// The first item, the basic offset table, was there.
    pub table: bool,
    /// Length of the basic offset table in bytes.
    pub table_bytes: u32,
    /// The basic offset table as it came, as far as it is kept: 8 000 000 bytes of all those of a data set.
    pub offsets: Vec<u8>,
    /// Length of each fragment after the offset table. Items count as elements, so that `elements_max` bounds this.
    pub lengths: Vec<u32>,
    /// Fragments after the offset table.
    pub count: u64,
    /// Fragments of 0 bytes.
    pub empty: u64,
    /// Sum of the lengths of the fragments.
    pub bytes: u64,
    /// First 8 bytes of the first 65 536 fragments; a shorter fragment is filled with NUL.
    pub heads: Vec<[u8; 8]>,
    /// Bytes of the head under way.
    seen: u8,
    codestream: Codestream,
}

impl Fragments {
    /// Size of the image in the first frame, as far as its stream says it.
    pub fn geometry(&self) -> Option<Geometry> {
        self.codestream.geometry()
    }
}

impl Bulk {
    pub(super) fn new(tag: Tag, vr: Vr, length: Option<u32>, at: u64) -> Self {
        let pdf = (tag == super::tags::ENCAPSULATED_DOCUMENT).then(Pdf::default);
        Self { tag, vr, length, at, head: Vec::new(), tail: Vec::new(), fragments: length.is_none().then(Fragments::default), pdf }
    }

    /// The encapsulated document is a PDF whose trailer says that it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.pdf.as_ref().is_some_and(Pdf::is_encrypted)
    }

    /// Length is 0, or no fragment holds a byte.
    pub fn is_empty(&self) -> bool {
        match &self.fragments {
            Some(fragments) => fragments.bytes == 0,
            None => self.length == Some(0),
        }
    }

    /// Takes note of bytes of a document or fragment. Costs at most 2 × 1 024 copied bytes per call, and a look at each byte
    /// of a document.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if let Some(pdf) = &mut self.pdf {
            pdf.feed(bytes);
        }
        let room = EDGE_BYTES.saturating_sub(self.head.len());
        if room > 0 && self.fragments.as_ref().is_none_or(|fragments| fragments.count <= 1) {
            self.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
        }
        let last = &bytes[bytes.len().saturating_sub(EDGE_BYTES)..];
        self.tail.extend_from_slice(last);
        if self.tail.len() > 2 * EDGE_BYTES {
            self.trim_tail();
        }
    }

    /// A fragment or the offset table begins; true for the table.
    pub(super) fn begin_fragment(&mut self, length: u32) -> bool {
        let fragments = self.fragments.get_or_insert_with(Fragments::default);
        if !fragments.table {
            (fragments.table, fragments.table_bytes) = (true, length);
            return true;
        }
        fragments.count += 1;
        fragments.lengths.push(length);
        fragments.bytes += u64::from(length);
        if length == 0 {
            fragments.empty += 1;
        }
        if fragments.heads.len() < HEADS_MAX {
            fragments.heads.push([0; 8]);
        }
        fragments.seen = 0;
        self.tail.clear();
        false
    }

    pub(super) fn lacks_table(&self) -> bool {
        self.fragments.as_ref().is_some_and(|fragments| !fragments.table)
    }

    /// Keeps bytes of the offset table.
    pub(super) fn pass_table(&mut self, bytes: &[u8]) {
        if let Some(fragments) = &mut self.fragments {
            fragments.offsets.extend_from_slice(bytes);
        }
    }

    pub(super) fn pass_fragment(&mut self, bytes: &[u8]) {
        if let Some(fragments) = &mut self.fragments {
            fragments.codestream.feed(bytes);
            let index = usize::try_from(fragments.count).unwrap_or(usize::MAX).wrapping_sub(1);
            if fragments.seen < 8
                && let Some(head) = fragments.heads.get_mut(index)
            {
                let seen = usize::from(fragments.seen);
                let taken = (8 - seen).min(bytes.len());
                head[seen..seen + taken].copy_from_slice(&bytes[..taken]);
                fragments.seen += taken as u8;
            }
        }
        self.pass(bytes);
    }

    pub(super) fn trim_tail(&mut self) {
        self.tail.drain(..self.tail.len().saturating_sub(EDGE_BYTES));
    }
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bulk {} {} {:?}, {:?} fragments", self.tag, self.vr, self.length, self.fragments.as_ref().map(|it| it.count))
    }
}

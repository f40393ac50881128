//! Protocol data units as bytes (PS3.8 §9.3).
//!
//! [`PduDecoder`] turns received bytes into [`Pdu`]s, [`encode`] does the opposite. A P-DATA-TF is not copied in either
//! direction: decoded fragments are slices of the received buffer, and [`data_header`] gives the twelve bytes that go
//! before a fragment which the caller writes from where it is. The association PDUs are read and written by `dicom-ul`,
//! after their counts and lengths have been checked here.
//!
//! # Bounds
//! The header of a PDU is compared with [`Limits`] before the rest is waited for: an unknown type or a length above the
//! maximum ends the stream at once. Between two reads the decoder holds less than one PDU and [`READ_AHEAD`] bytes.
//!
//! # Failure
//! After an error there is no way to find the next PDU: the decoder drops what still comes and yields nothing.

mod associate;

use bytes::{Buf, Bytes, BytesMut};
use dicom_ul::pdu::write_pdu;

use crate::limits::Limits;
use crate::pdu::{Abort, Fragment, Pdu, PduType, Pdv, Rejection};

/// Bytes of PDU type, reserved byte and PDU-length.
pub const HEADER_LENGTH: usize = 6;
/// Bytes of PDV item length, presentation context and message control header.
pub const PDV_HEADER_LENGTH: usize = 6;
/// Room that [`PduDecoder::buffer`] offers beyond the PDU under way.
pub const READ_AHEAD: usize = 65_536;
/// Bytes that are made room for before the first PDU is complete; then as many as have come. A peer that only connects, or sends
/// its A-ASSOCIATE-RQ byte by byte, costs no more than that, whatever length it announces.
pub const FIRST_READ: usize = 4_096;

/// Why bytes are not an acceptable PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The PDU type is not one of 01H to 07H.
    #[error("PDU type {pdu_type:02X}H is not known; the peer does not speak DICOM or lost its place")]
    UnknownType {
        /// The type that was received.
        pdu_type: u8,
    },
    /// The PDU-length field exceeds the maximum of this type (BD-03, BD-04).
    #[error("{pdu_type} of {length} bytes is longer than the {maximum} bytes allowed")]
    TooLong {
        /// Type of the PDU.
        pdu_type: PduType,
        /// Its length field.
        length: u32,
        /// What we accept.
        maximum: u32,
    },
    /// A count or a length inside the PDU exceeds its bound.
    #[error("{pdu_type} exceeds bound {bound}: {what}")]
    Bound {
        /// Type of the PDU.
        pdu_type: PduType,
        /// Identifier of the bound in the profile.
        bound: &'static str,
        /// What there is too much of.
        what: &'static str,
    },
    /// The PDU contradicts its own lengths, or lacks or repeats something.
    #[error("{pdu_type} is malformed: {what}")]
    Malformed {
        /// Type of the PDU.
        pdu_type: PduType,
        /// What is wrong.
        what: &'static str,
    },
}

impl DecodeError {
    /// The A-ABORT that tells the peer (PS3.8 §9.3.8; profile rule D013).
    pub fn abort(self) -> Abort {
        match self {
            DecodeError::UnknownType { .. } => Abort::UNRECOGNIZED_PDU,
            DecodeError::TooLong { .. } | DecodeError::Bound { .. } | DecodeError::Malformed { .. } => Abort::INVALID_PARAMETER,
        }
    }

    /// Identifier of the input bound that was exceeded, for the counter of breaches.
    pub fn bound(self) -> Option<&'static str> {
        match self {
            DecodeError::Bound { bound, .. } => Some(bound),
            DecodeError::TooLong { pdu_type: PduType::AssociateRq | PduType::AssociateAc, .. } => Some("BD-03"),
            DecodeError::TooLong { .. } => Some("BD-04"),
            DecodeError::UnknownType { .. } | DecodeError::Malformed { .. } => None,
        }
    }
}

/// Received bytes in, PDUs out.
///
/// ```
/// use idr_dimse::{codec::PduDecoder, limits::Limits, pdu::Pdu};
/// let mut decoder = PduDecoder::new(Limits::default());
/// decoder.feed(&[5, 0, 0, 0, 0, 4, 0, 0]);
/// assert_eq!(decoder.decode(), Ok(None));
/// decoder.feed(&[0, 0]);
/// assert_eq!(decoder.decode(), Ok(Some(Pdu::ReleaseRq)));
/// ```
#[derive(Debug)]
pub struct PduDecoder {
    limits: Limits,
    buffer: BytesMut,
    empty_pdvs: usize,
    /// A PDU came whole.
    begun: bool,
    failed: bool,
}

impl PduDecoder {
    /// A decoder for one transport connection.
    pub fn new(limits: Limits) -> Self {
        PduDecoder { limits, buffer: BytesMut::new(), empty_pdvs: 0, begun: false, failed: false }
    }

    /// Where the next read from the transport goes, with room for it: the rest of the PDU under way and [`READ_AHEAD`]; of the
    /// first PDU [`FIRST_READ`], and no more than came already.
    /// Call [`decode`](Self::decode) until it gives `None` before the next read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.failed {
            self.buffer.clear();
        }
        let wanted = match self.header() {
            Some(Ok((_, length))) => (HEADER_LENGTH + length).saturating_sub(self.buffer.len()),
            _ => 0,
        };
        if !self.begun {
            self.buffer.reserve(self.buffer.len().max(FIRST_READ).min(wanted.max(FIRST_READ)));
            return &mut self.buffer;
        }
        // Less room than this would mean a system call for a handful of bytes.
        if self.buffer.capacity() - self.buffer.len() < wanted.max(READ_AHEAD / 4) {
            self.buffer.reserve(wanted + READ_AHEAD);
        }
        &mut self.buffer
    }

    /// Takes bytes that the caller has already; they are copied. Otherwise like reading into [`buffer`](Self::buffer).
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Bytes that are held at this moment.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete PDU, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The PDU cannot be accepted. The error is given once; from then on everything is dropped.
    pub fn decode(&mut self) -> Result<Option<Pdu>, DecodeError> {
        if self.failed {
            self.buffer.clear();
            return Ok(None);
        }
        let result = self.next_pdu();
        if result.is_err() {
            self.failed = true;
            self.buffer = BytesMut::new();
        }
        result
    }

    fn next_pdu(&mut self) -> Result<Option<Pdu>, DecodeError> {
        let Some(header) = self.header() else { return Ok(None) };
        let (pdu_type, length) = header?;
        if self.buffer.len() < HEADER_LENGTH + length {
            return Ok(None);
        }
        self.begun = true;
        let pdu = self.buffer.split_to(HEADER_LENGTH + length).freeze();
        let body = pdu.slice(HEADER_LENGTH..);
        Ok(Some(match (pdu_type, &body[..]) {
            (PduType::AssociateRq, _) => Pdu::AssociateRq(Box::new(associate::request(&body, &self.limits)?)),
            (PduType::AssociateAc, _) => Pdu::AssociateAc(Box::new(associate::accept(&body, &self.limits)?)),
            (PduType::Data, _) => Pdu::Data(self.pdvs(body)?),
            (PduType::AssociateRj, &[_, result, source, reason]) => Pdu::AssociateRj(Rejection::new(result, source, reason)),
            (PduType::ReleaseRq, _) => Pdu::ReleaseRq,
            (PduType::ReleaseRp, _) => Pdu::ReleaseRp,
            (PduType::Abort, &[_, _, source, reason]) => Pdu::Abort(Abort { source, reason }),
            (PduType::AssociateRj | PduType::Abort, _) => return Err(malformed(pdu_type, FOUR_BYTES)),
        }))
    }

    /// Type and length of the PDU under way, once its header is there.
    fn header(&self) -> Option<Result<(PduType, usize), DecodeError>> {
        let &[pdu_type, _, a, b, c, d, ..] = &self.buffer[..] else { return None };
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some(pdu_type) = PduType::new(pdu_type) else { return Some(Err(DecodeError::UnknownType { pdu_type })) };
        let maximum = match pdu_type {
            PduType::AssociateRq | PduType::AssociateAc => self.limits.associate_length_max,
            PduType::Data => self.limits.pdu_length_max,
            PduType::AssociateRj | PduType::ReleaseRq | PduType::ReleaseRp | PduType::Abort => 4,
        };
        if length > maximum {
            return Some(Err(DecodeError::TooLong { pdu_type, length, maximum }));
        }
        if maximum == 4 && length != 4 {
            return Some(Err(malformed(pdu_type, FOUR_BYTES)));
        }
        Some(Ok((pdu_type, length as usize)))
    }

    fn pdvs(&mut self, mut body: Bytes) -> Result<Vec<Pdv>, DecodeError> {
        let mut pdvs = Vec::with_capacity(1);
        while !body.is_empty() {
            let &[a, b, c, d, context_id, control, ..] = &body[..] else {
                return Err(malformed(PduType::Data, "the header of a presentation data value is cut off"));
            };
            let length = (u32::from_be_bytes([a, b, c, d]) as usize).checked_sub(2).filter(|length| *length <= body.len() - 6);
            let Some(length) = length else {
                return Err(malformed(PduType::Data, "the length of a presentation data value does not fit the PDU"));
            };
            if pdvs.len() == self.limits.pdvs_max {
                return Err(bound(PduType::Data, "BD-05", "presentation data values in one PDU"));
            }
            self.empty_pdvs = if length == 0 { self.empty_pdvs + 1 } else { 0 };
            if self.empty_pdvs > self.limits.empty_pdvs_max {
                return Err(bound(PduType::Data, "BD-05", "empty presentation data values in a row"));
            }
            body.advance(PDV_HEADER_LENGTH);
            let kind = if control & 1 == 1 { Fragment::Command } else { Fragment::Data };
            pdvs.push(Pdv { context_id, kind, last: control & 2 == 2, data: body.split_to(length) });
        }
        if pdvs.is_empty() {
            return Err(malformed(PduType::Data, "there is no presentation data value"));
        }
        Ok(pdvs)
    }
}

/// A value of ours that does not fit a PDU.
#[derive(Debug, thiserror::Error)]
#[error("{pdu_type} cannot be written; check the AE titles and the lengths of what is proposed")]
pub struct EncodeError {
    /// Type of the PDU.
    pub pdu_type: PduType,
    /// What `dicom-ul` says.
    #[source]
    source: Option<dicom_ul::pdu::WriteError>,
}

/// Appends the bytes of `pdu` to `out`. For a P-DATA-TF this copies the fragments; see [`data_header`].
///
/// # Errors
/// Only for the association PDUs: an AE title is not 1 to 16 characters of ISO 646, a UID has other characters, or the user
/// information is longer than 65 535 bytes.
pub fn encode(pdu: &Pdu, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match pdu {
        Pdu::AssociateRq(rq) => write_association(&dicom_ul::Pdu::AssociationRQ(rq.as_ref().clone()), pdu.pdu_type(), out)?,
        Pdu::AssociateAc(ac) => write_association(&dicom_ul::Pdu::AssociationAC(ac.as_ref().clone()), pdu.pdu_type(), out)?,
        Pdu::AssociateRj(rj) => write_short(out, PduType::AssociateRj, [0, rj.result, rj.source, rj.reason]),
        Pdu::ReleaseRq => write_short(out, PduType::ReleaseRq, [0; 4]),
        Pdu::ReleaseRp => write_short(out, PduType::ReleaseRp, [0; 4]),
        Pdu::Abort(abort) => write_short(out, PduType::Abort, [0, 0, abort.source, abort.reason]),
        Pdu::Data(pdvs) => {
            let length: usize = pdvs.iter().map(|pdv| PDV_HEADER_LENGTH + pdv.data.len()).sum();
            out.extend_from_slice(&[PduType::Data as u8, 0]);
            out.extend_from_slice(&(length as u32).to_be_bytes());
            for pdv in pdvs {
                out.extend_from_slice(&pdv_header(pdv));
                out.extend_from_slice(&pdv.data);
            }
        }
    }
    Ok(())
}

/// The twelve bytes of a P-DATA-TF that holds only `pdv`; its data follows them on the wire. The machines of
/// [`association`](crate::association) send no other kind of P-DATA-TF.
pub fn data_header(pdv: &Pdv) -> [u8; HEADER_LENGTH + PDV_HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH + PDV_HEADER_LENGTH];
    header[0] = PduType::Data as u8;
    header[2..6].copy_from_slice(&((PDV_HEADER_LENGTH + pdv.data.len()) as u32).to_be_bytes());
    header[6..].copy_from_slice(&pdv_header(pdv));
    header
}

fn pdv_header(pdv: &Pdv) -> [u8; PDV_HEADER_LENGTH] {
    let [a, b, c, d] = (2 + pdv.data.len() as u32).to_be_bytes();
    [a, b, c, d, pdv.context_id, u8::from(pdv.kind == Fragment::Command) | u8::from(pdv.last) << 1]
}

fn write_short(out: &mut Vec<u8>, pdu_type: PduType, body: [u8; 4]) {
    out.extend_from_slice(&[pdu_type as u8, 0, 0, 0, 0, 4]);
    out.extend_from_slice(&body);
}

fn write_association(pdu: &dicom_ul::Pdu, pdu_type: PduType, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    write_pdu(out, pdu).map_err(|source| EncodeError { pdu_type, source: Some(source) })?;
    // dicom-ul cuts an item length to 16 bits without a word: what would be read otherwise than it was meant is not sent.
    let written = &out[start + HEADER_LENGTH..];
    let limits = Limits { user_items_max: usize::MAX, ..Limits::default() };
    let same = match pdu {
        dicom_ul::Pdu::AssociationRQ(rq) => associate::request(written, &limits).is_ok_and(|read| read == *rq),
        dicom_ul::Pdu::AssociationAC(ac) => associate::accept(written, &limits).is_ok_and(|read| read == *ac),
        _ => false,
    };
    if same { Ok(()) } else { Err(EncodeError { pdu_type, source: None }) }
}

fn malformed(pdu_type: PduType, what: &'static str) -> DecodeError {
    DecodeError::Malformed { pdu_type, what }
}

fn bound(pdu_type: PduType, bound: &'static str, what: &'static str) -> DecodeError {
    DecodeError::Bound { pdu_type, bound, what }
}

const FOUR_BYTES: &str = "its length is not 4";

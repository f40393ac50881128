//! A-ASSOCIATE-RQ and -AC: counts and lengths, before `dicom-ul` decodes them (PS3.8 §9.3.2, §9.3.3; PS3.7 Annex D).
//!
//! The items are walked once against the bounds and written out again in a normal form, because the decoder is stricter
//! than the standard in some places and laxer in others:
//! * items of unrecognized types are left out ("shall be ignored and skipped", PS3.8 §9.3);
//! * a result other than acceptance gets a transfer syntax when it has none (it "shall not be significant", §9.3.3.2);
//! * padding after a UID, and NUL after an AE title, is removed;
//! * lengths inside the sub-items have to agree; identifiers of presentation contexts are odd and different; what the
//!   standard allows once occurs at most once.

use dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN;
use dicom_ul::pdu::{AssociationAC, AssociationRQ, MAXIMUM_PDU_SIZE, read_pdu};

use super::{DecodeError, HEADER_LENGTH, bound, malformed};
use crate::limits::Limits;
use crate::pdu::PduType;

/// Protocol version, reserved bytes and AE titles, before the items.
const FIXED_LENGTH: usize = 68;
/// Where the two AE titles stand in the fixed part.
const AE_TITLES: std::ops::Range<usize> = 4..36;

/// Decodes the body of an A-ASSOCIATE-RQ.
pub(super) fn request(body: &[u8], limits: &Limits) -> Result<AssociationRQ, DecodeError> {
    let pdu_type = PduType::AssociateRq;
    let pdu = Walk { pdu_type, limits }.normalise(body)?;
    match read_pdu(&pdu[..], MAXIMUM_PDU_SIZE, true) {
        Ok(Some(dicom_ul::Pdu::AssociationRQ(rq))) => Ok(rq),
        _ => Err(malformed(pdu_type, "a text is not of the default character repertoire")),
    }
}

/// Decodes the body of an A-ASSOCIATE-AC.
pub(super) fn accept(body: &[u8], limits: &Limits) -> Result<AssociationAC, DecodeError> {
    let pdu_type = PduType::AssociateAc;
    let pdu = Walk { pdu_type, limits }.normalise(body)?;
    match read_pdu(&pdu[..], MAXIMUM_PDU_SIZE, true) {
        Ok(Some(dicom_ul::Pdu::AssociationAC(ac))) => Ok(ac),
        _ => Err(malformed(pdu_type, "a text is not of the default character repertoire")),
    }
}

struct Walk<'a> {
    pdu_type: PduType,
    limits: &'a Limits,
}

impl Walk<'_> {
    fn normalise(&self, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let Some((fixed, items)) = body.split_at_checked(FIXED_LENGTH) else {
            return self.malformed("the fixed fields are cut off");
        };
        // "Shall only test that bit 0 is set" (Table 9-17). A request without it is not invalid but rejected (AE-6).
        if self.pdu_type == PduType::AssociateAc && fixed[1] & 1 == 0 {
            return self.malformed("its protocol version is not 1");
        }
        let mut out = Vec::with_capacity(HEADER_LENGTH + body.len());
        out.extend_from_slice(&[self.pdu_type as u8, 0, 0, 0, 0, 0]);
        out.extend_from_slice(fixed);
        for byte in &mut out[HEADER_LENGTH..][AE_TITLES] {
            if *byte == 0 {
                *byte = b' ';
            }
        }

        let context_type = if self.pdu_type == PduType::AssociateRq { 0x20 } else { 0x21 };
        let (mut application_context, mut user_information, mut contexts) = (false, false, [false; 256]);
        let mut rest = items;
        while let Some((item_type, value)) = self.item(&mut rest)? {
            match item_type {
                0x10 => {
                    self.once(&mut application_context, "it has two application contexts")?;
                    write_item(&mut out, item_type, self.uid(value)?);
                }
                0x50 => {
                    self.once(&mut user_information, "it has two user information items")?;
                    let value = self.user_information(value)?;
                    write_item(&mut out, item_type, &value);
                }
                _ if item_type == context_type => {
                    let (id, value) = self.context(value)?;
                    self.once(&mut contexts[usize::from(id)], "two presentation contexts have the same identifier")?;
                    if contexts.iter().filter(|seen| **seen).count() > self.limits.presentation_contexts_max {
                        return self.bound("presentation contexts");
                    }
                    write_item(&mut out, item_type, &value);
                }
                _ => {}
            }
        }
        if !application_context {
            return self.malformed("the application context is missing");
        }
        if !contexts.contains(&true) {
            return self.malformed("there is no presentation context");
        }
        let length = (out.len() - HEADER_LENGTH) as u32;
        out[2..HEADER_LENGTH].copy_from_slice(&length.to_be_bytes());
        Ok(out)
    }

    /// A presentation context, proposed or answered, and its identifier.
    fn context(&self, value: &[u8]) -> Result<(u8, Vec<u8>), DecodeError> {
        let Some((&[id, _, result, _], mut rest)) = value.split_first_chunk::<4>() else {
            return self.malformed("a presentation context is cut off");
        };
        if id % 2 == 0 {
            return self.malformed("the identifier of a presentation context is even");
        }
        let mut out = vec![id, 0, result, 0];
        let (mut abstract_syntax, mut transfer_syntaxes) = (false, 0);
        let answer = self.pdu_type == PduType::AssociateAc;
        while let Some((item_type, value)) = self.item(&mut rest)? {
            match item_type {
                0x30 if !answer => {
                    self.once(&mut abstract_syntax, "a presentation context has two abstract syntaxes")?;
                    write_item(&mut out, item_type, self.uid(value)?);
                }
                0x40 if answer && result != 0 => {}
                0x40 => {
                    transfer_syntaxes += 1;
                    if transfer_syntaxes > self.limits.transfer_syntaxes_max {
                        return self.bound("transfer syntaxes of a presentation context");
                    }
                    write_item(&mut out, item_type, self.uid(value)?);
                }
                _ => {}
            }
        }
        match (answer, result) {
            (false, _) if !abstract_syntax => return self.malformed("a presentation context has no abstract syntax"),
            (true, 0) if transfer_syntaxes != 1 => return self.malformed("an accepted presentation context has not one transfer syntax"),
            (true, 1..=4) => write_item(&mut out, 0x40, IMPLICIT_VR_LITTLE_ENDIAN.as_bytes()),
            (true, 5..) => return self.malformed("the result of a presentation context is not 0 to 4"),
            _ => {}
        }
        Ok((id, out))
    }

    fn user_information(&self, value: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::with_capacity(value.len());
        let (mut maximum_length, mut user_identity, mut items) = (false, false, 0);
        let mut rest = value;
        while let Some((item_type, value)) = self.item(&mut rest)? {
            items += 1;
            if items > self.limits.user_items_max {
                return self.bound("user information sub-items");
            }
            match item_type {
                0x51 => {
                    self.once(&mut maximum_length, "it has two maximum lengths")?;
                    if value.len() != 4 {
                        return self.malformed("the maximum length has not four bytes");
                    }
                    write_item(&mut out, item_type, value);
                }
                0x52 => write_item(&mut out, item_type, self.uid(value)?),
                // Role selection: a UID and two bytes. Extended negotiation: a UID and what the service class defines.
                0x54 | 0x56 => {
                    let (uid, information) = self.prefixed(value)?;
                    if item_type == 0x54 && information.len() != 2 {
                        return self.malformed("a role selection has not two roles");
                    }
                    let uid = self.uid(uid)?;
                    let mut value = (uid.len() as u16).to_be_bytes().to_vec();
                    value.extend_from_slice(uid);
                    value.extend_from_slice(information);
                    write_item(&mut out, item_type, &value);
                }
                0x58 if self.pdu_type == PduType::AssociateRq => {
                    self.once(&mut user_identity, "it has two user identities")?;
                    let Some((_, fields)) = value.split_first_chunk::<2>() else {
                        return self.malformed("the user identity is cut off");
                    };
                    let (_primary, rest) = self.prefixed(fields)?;
                    let (_secondary, rest) = self.prefixed(rest)?;
                    if !rest.is_empty() {
                        return self.malformed("the user identity has bytes after its fields");
                    }
                    write_item(&mut out, item_type, value);
                }
                // Only a requestor identifies its user.
                0x58 => {}
                _ => write_item(&mut out, item_type, value),
            }
        }
        Ok(out)
    }

    /// The next item: type, reserved byte, length in 16 bits, value.
    fn item<'b>(&self, rest: &mut &'b [u8]) -> Result<Option<(u8, &'b [u8])>, DecodeError> {
        if rest.is_empty() {
            return Ok(None);
        }
        let Some((&[item_type, _], fields)) = rest.split_first_chunk::<2>() else {
            return self.malformed("the header of an item is cut off");
        };
        let (value, after) = self.prefixed(fields)?;
        *rest = after;
        Ok(Some((item_type, value)))
    }

    /// A value behind its length in 16 bits, and what follows it.
    fn prefixed<'b>(&self, bytes: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), DecodeError> {
        let split =
            bytes.split_first_chunk::<2>().and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        split.ok_or(malformed(self.pdu_type, "the length of an item does not fit what contains it"))
    }

    fn uid<'b>(&self, value: &'b [u8]) -> Result<&'b [u8], DecodeError> {
        let end = value.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
        if end > self.limits.uid_length_max { self.bound("bytes of a UID") } else { Ok(&value[..end]) }
    }

    fn once(&self, seen: &mut bool, what: &'static str) -> Result<(), DecodeError> {
        if std::mem::replace(seen, true) { self.malformed(what) } else { Ok(()) }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, DecodeError> {
        Err(malformed(self.pdu_type, what))
    }

    fn bound<T>(&self, what: &'static str) -> Result<T, DecodeError> {
        Err(bound(self.pdu_type, "BD-03", what))
    }
}

fn write_item(out: &mut Vec<u8>, item_type: u8, value: &[u8]) {
    out.extend_from_slice(&[item_type, 0]);
    // Never longer than what was read, which stood behind a length of 16 bits; the transfer syntax added to a rejected
    // context is 17 bytes in an item that had none of that length.
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

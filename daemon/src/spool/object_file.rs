//! One object as a file: Part 10 form with a reserved place for record and R1.
//!
//! # On disk
//! `objects/<tenant>/<hh>/<id>.dcm`, `hh` = bits 8–15 of the id, so that neighbours share a folder and its sync.
//! 128 zero bytes, `DICM`, file meta information in Explicit VR Little Endian (PS3.10 §7.1):
//! (0002,0000) (0002,0001) (0002,0002) (0002,0003) (0002,0010) (0002,0012) (0002,0013) (0002,0016) as profile 01 §8.1 says,
//! then Private Information Creator UID (0002,0100) = [`CREATOR_UID`] and Private Information (0002,0102) of
//! [`AREA_BYTES`] zero bytes, then the data set as received. Any DICOM reader opens the file.
//!
//! The commit writes the private information once, before the one sync: 8 bytes magic, length (u32 little endian) and
//! SHA-256 of `{"record":{…},"r1":{…}}`, that JSON, zeros. Without it the file is an unfinished hand-over.
//!
//! # Standard
//! What is sent or exported is [`plain_head`] and the data set: file meta without the two private elements.

use super::record::{Announced, RECORD_BYTES_MAX, Record, SpoolId, Tenant, Unusable};
use idr_profile::receipt::Carried;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Size of the value of (0002,0102), bytes.
pub const AREA_BYTES: usize = 4096;
/// Enough of a file to hold its whole head, bytes: the texts in it are bounded by [`Announced::check`].
pub const HEAD_BYTES_MAX: usize = 8192;
/// Private Information Creator UID of the area.
pub const CREATOR_UID: &str = "2.25.95517917156240497706390191227013025413";
/// (0002,0012) of files that this program writes (profile 01 §8.1).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.43041129811698765480295093093450571436";
/// (0002,0013) of files that this program writes.
pub const IMPLEMENTATION_VERSION_NAME: &str = "IDR_SITE";

const MAGIC: &[u8; 8] = b"IDRSPOL1";
const FRAME_BYTES: usize = MAGIC.len() + 4 + 32;

/// The bytes before the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Preamble, prefix and file meta information, the area zero.
    pub bytes: Vec<u8>,
    /// Where the area begins.
    pub area_at: u64,
}

impl Head {
    /// Where the data set begins.
    pub fn data_at(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The head of a new object file. `announced` is checked.
pub fn head(announced: &Announced) -> Head {
    let mut private = ui(0x0100, CREATOR_UID);
    private.extend(other(0x0102, &[0; AREA_BYTES]));
    let bytes = part10(announced, &private);
    Head { area_at: (bytes.len() - AREA_BYTES) as u64, bytes }
}

/// The head of the same object as it is sent or exported (profile 01 §8.1).
pub fn plain_head(announced: &Announced) -> Vec<u8> {
    part10(announced, &[])
}

fn part10(announced: &Announced, private: &[u8]) -> Vec<u8> {
    let mut meta = other(0x0001, &[0, 1]);
    meta.extend(ui(0x0002, &announced.sop_class_uid));
    meta.extend(ui(0x0003, &announced.sop_instance_uid));
    meta.extend(ui(0x0010, &announced.transfer_syntax_uid));
    meta.extend(ui(0x0012, IMPLEMENTATION_CLASS_UID));
    meta.extend(text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b' '));
    meta.extend(text(0x0016, b"AE", &announced.calling_ae, b' '));
    meta.extend_from_slice(private);
    let mut bytes = vec![0; 128];
    bytes.extend_from_slice(b"DICM");
    bytes.extend_from_slice(&[0x02, 0, 0, 0, b'U', b'L', 4, 0]);
    bytes.extend_from_slice(&u32::try_from(meta.len()).expect("checked texts and a fixed area are short").to_le_bytes());
    bytes.append(&mut meta);
    bytes
}

fn ui(element: u16, value: &str) -> Vec<u8> {
    text(element, b"UI", value, 0)
}

fn text(element: u16, vr: &[u8; 2], value: &str, padding: u8) -> Vec<u8> {
    let length = value.len().next_multiple_of(2);
    let mut bytes = vec![0x02, 0];
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(vr);
    bytes.extend_from_slice(&u16::try_from(length).expect("checked texts are short").to_le_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes.resize(8 + length, padding);
    bytes
}

fn other(element: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x02, 0];
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(b"OB\0\0");
    bytes.extend_from_slice(&u32::try_from(value.len()).expect("the area is short").to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// What the commit writes: the record, and the R1 unless the record names the first one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What was accepted.
    pub record: Record,
    /// Its acceptance receipt; `None` for a repeated hand-over.
    pub r1: Option<Carried>,
}

/// The area's bytes, [`AREA_BYTES`] of them.
///
/// # Errors
/// [`Unusable`] when the record is larger than [`RECORD_BYTES_MAX`] or both do not fit.
pub fn seal(record: &Record, r1: Option<&Carried>) -> Result<Vec<u8>, Unusable> {
    let record = serde_json::to_string(record).map_err(|_| Unusable { field: "record", why: "has no JSON form" })?;
    if record.len() > RECORD_BYTES_MAX {
        return Err(Unusable { field: "record", why: "is larger than 2560 bytes" });
    }
    let r1 = r1.map_or_else(|| "null".to_owned(), Carried::to_json);
    let json = format!("{{\"record\":{record},\"r1\":{r1}}}");
    if FRAME_BYTES + json.len() > AREA_BYTES {
        return Err(Unusable { field: "record with receipt", why: "is larger than the reserved area" });
    }
    let mut area = Vec::with_capacity(AREA_BYTES);
    area.extend_from_slice(MAGIC);
    area.extend_from_slice(&u32::try_from(json.len()).expect("fits the area").to_le_bytes());
    area.extend_from_slice(&Sha256::digest(&json));
    area.extend_from_slice(json.as_bytes());
    area.resize(AREA_BYTES, 0);
    Ok(area)
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The head or its area was never completely written: an unfinished hand-over, never acknowledged.
    Unfinished,
    /// Something was written that does not hold; the text says what.
    Damaged(&'static str),
    /// An accepted object, and where its data set begins.
    Sealed(Box<Sealed>, u64),
}

/// Reads the first [`HEAD_BYTES_MAX`] bytes (or fewer, if the file is shorter) of the file of that name.
pub fn read_head(id: SpoolId, bytes: &[u8]) -> Content {
    if bytes.iter().all(|byte| *byte == 0) {
        return Content::Unfinished;
    }
    let Some(area_at) = find_area(bytes) else {
        // The area stands behind the meta elements: when those did not reach the disk whole, it may have.
        return if holds_magic(bytes) { Content::Damaged("file meta information is broken") } else { Content::Unfinished };
    };
    let area = bytes.get(area_at..).unwrap_or_default();
    let area = area.get(..AREA_BYTES).unwrap_or(area);
    if area.iter().all(|byte| *byte == 0) {
        return Content::Unfinished;
    }
    let Some(json) = unframe(area) else { return Content::Damaged("record and receipt do not match their checksum") };
    let Some(sealed) = parse(json) else { return Content::Damaged("record or receipt cannot be read") };
    if sealed.record.id != id {
        return Content::Damaged("the record belongs to another file");
    }
    if sealed.r1.is_some() == sealed.record.first_r1.is_some() {
        return Content::Damaged("there must be either a receipt or the name of the first one");
    }
    let head = head(&sealed.record.announced);
    let before = usize::try_from(head.area_at).ok().and_then(|end| bytes.get(..end));
    if head.area_at != area_at as u64 || before != head.bytes.get(..area_at) {
        return Content::Damaged("file meta information does not agree with the record");
    }
    Content::Sealed(Box::new(sealed), head.data_at())
}

/// Whether nothing stands behind record and receipt in the area of a sealed file. What stands there belongs to no object and keeps none from
/// being read; but nobody wrote it.
pub fn rest_is_zero(bytes: &[u8]) -> bool {
    let area = find_area(bytes).and_then(|at| bytes.get(at..at + AREA_BYTES));
    let rest = area.and_then(|area| area.get(FRAME_BYTES + unframe(area)?.len()..));
    rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

fn holds_magic(bytes: &[u8]) -> bool {
    bytes.windows(MAGIC.len()).any(|window| window == MAGIC)
}

/// Walks the file meta elements to the value of (0002,0102).
fn find_area(bytes: &[u8]) -> Option<usize> {
    if bytes.get(128..132)? != b"DICM" {
        return None;
    }
    let mut at = 132;
    loop {
        let element = bytes.get(at..at + 8)?;
        if element[..2] != [0x02, 0] {
            return None;
        }
        let number = u16::from_le_bytes([element[2], element[3]]);
        if &element[4..6] == b"OB" {
            let length = bytes.get(at + 8..at + 12)?;
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if number == 0x0102 {
                return (length == AREA_BYTES).then_some(at + 12);
            }
            at = at.checked_add(12)?.checked_add(length)?;
        } else {
            at += 8 + usize::from(u16::from_le_bytes([element[6], element[7]]));
        }
    }
}

fn unframe(area: &[u8]) -> Option<&[u8]> {
    let rest = area.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<32>()?;
    let json = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (Sha256::digest(json)[..] == sum[..]).then_some(json)
}

fn parse(json: &[u8]) -> Option<Sealed> {
    #[derive(serde::Deserialize)]
    struct Area {
        record: Record,
        r1: Option<serde_json::Value>,
    }
    let area: Area = serde_json::from_slice(json).ok()?;
    let r1 = area.r1.map(|value| Carried::from_value(&value)).transpose().ok()?;
    Some(Sealed { record: area.record, r1 })
}

/// `objects/<tenant>/<hh>`.
pub fn folder(announced: &Announced, id: SpoolId) -> PathBuf {
    Path::new("objects").join(announced.tenant.as_str()).join(part(id))
}

/// `<hh>`.
pub fn part(id: SpoolId) -> String {
    format!("{:02x}", id.0 >> 8 & 0xFF)
}

/// `<id>.dcm`.
pub fn name(id: SpoolId) -> String {
    format!("{id}.dcm")
}

/// The file of an object, below the spool folder.
pub fn path_of(tenant: &Tenant, id: SpoolId) -> PathBuf {
    Path::new("objects").join(tenant.as_str()).join(part(id)).join(name(id))
}

/// `objects/<tenant>/<hh>/<id>.dcm`.
pub fn path(announced: &Announced, id: SpoolId) -> PathBuf {
    folder(announced, id).join(name(id))
}

/// The id in a file name of ours.
pub fn id_of(name: &str) -> Option<SpoolId> {
    name.strip_suffix(".dcm")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::files::{object, source};
    use super::super::sample;
    use super::*;
    use idr_profile::receipt::{Holder, Receipt, Statement};

    #[test]
    fn what_is_sealed_is_read_back_and_any_changed_byte_is_found() {
        let (record, r1) = sample::sealed(7);
        let mut file = head(&record.announced);
        let area = seal(&record, Some(&r1)).expect("fits");
        let at = usize::try_from(file.area_at).expect("small");
        file.bytes[at..].copy_from_slice(&area);
        let Content::Sealed(sealed, data_at) = read_head(record.id, &file.bytes) else { panic!("a sealed file") };
        assert_eq!((*sealed, data_at), (Sealed { record: record.clone(), r1: Some(r1) }, file.data_at()));
        let used = area.iter().rposition(|byte| *byte != 0).expect("not empty");
        for changed in 0..=at + used {
            let mut bytes = file.bytes.clone();
            bytes[changed] ^= 0x01;
            let content = read_head(record.id, &bytes);
            assert!(matches!(content, Content::Damaged(_)), "byte {changed}: {content:?}");
        }
        assert!(matches!(read_head(SpoolId(8), &file.bytes), Content::Damaged(_)));
    }

    #[test]
    fn a_file_without_its_area_is_unfinished_at_every_length() {
        let announced = sample::announced(1);
        let head = head(&announced).bytes;
        for length in 0..=head.len() {
            assert_eq!(read_head(SpoolId(1), &head[..length]), Content::Unfinished, "{length}");
        }
    }

    #[test]
    fn the_largest_head_and_record_fit() {
        let mut announced = sample::announced(1);
        announced.sop_class_uid = "1".repeat(64);
        announced.sop_instance_uid = "1".repeat(64);
        announced.transfer_syntax_uid = "1".repeat(64);
        announced.calling_ae = "A".repeat(16);
        assert!(head(&announced).bytes.len() <= HEAD_BYTES_MAX);
        announced.inbound = "i".repeat(64);
        announced.called_ae = "A".repeat(16);
        announced.tenant = "t".repeat(32).parse().expect("valid");
        announced.peer_address = Some("2001:db8:1234:5678:9abc:def0:1234:5678".parse().expect("valid"));
        announced.check().expect("within bounds");
        let mut facts = sample::facts(1);
        facts.study_uid = "1".repeat(64);
        facts.series_uid = "1".repeat(64);
        facts.modality = Some("M".repeat(16));
        facts.patient_id = Some(idr_ihe::metadata::PatientId { id: "Å".repeat(64), authority: "1".repeat(64) });
        facts.rule_set = "r".repeat(64);
        facts.findings = vec!["D9999999".to_owned(); 32];
        (facts.controller, facts.register, facts.service_event) = (Some("1".repeat(64)), Some("1".repeat(64)), Some("1".repeat(64)));
        facts.state = super::super::record::State::Quarantined("c".repeat(48).parse().expect("valid"));
        facts.check().expect("within bounds");
        let (sealed, r1) = sample::sealed(1);
        let record = Record { id: SpoolId(u64::MAX), size_bytes: u64::MAX, announced, facts, ..sealed };
        let longest = Statement::Acceptance { object: object(&record), source: source(&record.announced) };
        let receipt = Receipt {
            holder: Holder::new(&format!("2.{}", "2".repeat(62)), &"n".repeat(32)).expect("valid"),
            log_prev: Some(r1.hash()),
            statement: longest,
            ..r1.receipt().clone()
        };
        let r1 = sample::signer().sign(Receipt { ..receipt });
        assert!(r1.canonical().len() <= 1280, "{}", r1.canonical().len());
        seal(&record, Some(&r1)).expect("fits");
        let named = Record { first_r1: Some(r1.hash()), ..record };
        seal(&named, None).expect("fits");
    }

    #[test]
    fn an_exported_head_has_no_private_information() {
        let announced = sample::announced(1);
        let plain = plain_head(&announced);
        assert!(find_area(&plain).is_none());
        let length = u32::from_le_bytes([plain[140], plain[141], plain[142], plain[143]]) as usize;
        assert_eq!(length, plain.len() - 144, "(0002,0000) counts its own file meta");
    }
}

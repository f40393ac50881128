//! Data sets for seeds, element by element.

/// Implicit VR Little Endian.
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
/// Deflated Explicit VR Little Endian.
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR Big Endian, which is not read.
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// JPEG Baseline: encapsulated.
pub const JPEG: &str = "1.2.840.10008.1.2.4.50";
/// CT Image Storage.
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// An element with an explicit VR; the value is padded.
pub fn explicit(tag: (u16, u16), vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == b"UI" || vr == b"OB" { 0 } else { b' ' });
    }
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend(vr);
    if [b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"].contains(&vr) {
        out.extend([0, 0]);
        out.extend((value.len() as u32).to_le_bytes());
    } else {
        out.extend((value.len() as u16).to_le_bytes());
    }
    out.extend(value);
    out
}

/// An element without VR.
pub fn implicit(tag: (u16, u16), value: &[u8]) -> Vec<u8> {
    let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value);
    out
}

/// Header elements of a small CT image of a test person, explicit VR; pixel data is the caller's.
pub fn header() -> Vec<u8> {
    let issuer = [explicit((0x0040, 0x0032), b"UT", b"1.2.246.21"), explicit((0x0040, 0x0033), b"CS", b"ISO")].concat();
    let mut sequence = b"\x10\0\x24\0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".to_vec();
    sequence.extend(issuer);
    sequence.extend(b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0");
    [
        explicit((0x0008, 0x0005), b"CS", b"ISO_IR 192"),
        explicit((0x0008, 0x0016), b"UI", CT.as_bytes()),
        explicit((0x0008, 0x0018), b"UI", b"1.2.246.10.90000011.77.1.3.1"),
        explicit((0x0008, 0x0020), b"DA", b"20260115"),
        explicit((0x0008, 0x0030), b"TM", b"101530"),
        explicit((0x0008, 0x0050), b"SH", b"T042059118706"),
        explicit((0x0008, 0x0060), b"CS", b"CT"),
        explicit((0x0010, 0x0010), b"PN", "Öhman^Sanni".as_bytes()),
        explicit((0x0010, 0x0020), b"LO", b"010190-900P"),
        explicit((0x0010, 0x0021), b"LO", b"1.2.246.21"),
        sequence,
        explicit((0x0010, 0x0030), b"DA", b"19900101"),
        explicit((0x0010, 0x0040), b"CS", b"F"),
        explicit((0x0020, 0x000d), b"UI", b"1.2.246.10.90000011.77.1"),
        explicit((0x0020, 0x000e), b"UI", b"1.2.246.10.90000011.77.1.2.1"),
        explicit((0x0020, 0x0013), b"IS", b"1"),
        explicit((0x0028, 0x0002), b"US", &1u16.to_le_bytes()),
        explicit((0x0028, 0x0004), b"CS", b"MONOCHROME2"),
        explicit((0x0028, 0x0010), b"US", &2u16.to_le_bytes()),
        explicit((0x0028, 0x0011), b"US", &2u16.to_le_bytes()),
        explicit((0x0028, 0x0100), b"US", &16u16.to_le_bytes()),
        explicit((0x0028, 0x0101), b"US", &12u16.to_le_bytes()),
        explicit((0x0028, 0x0102), b"US", &11u16.to_le_bytes()),
        explicit((0x0028, 0x0103), b"US", &0u16.to_le_bytes()),
    ]
    .concat()
}

/// A whole native image, explicit VR.
pub fn image() -> Vec<u8> {
    [header(), explicit((0x7fe0, 0x0010), b"OW", &[7; 8])].concat()
}

/// A whole encapsulated image: an empty offset table and one fragment.
pub fn encapsulated() -> Vec<u8> {
    let pixels =
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0\xff\xd8\xff\xd9\xfe\xff\xdd\xe0\0\0\0\0";
    [header(), pixels.to_vec()].concat()
}

/// A few elements of such an image, implicit VR.
pub fn implicit_image() -> Vec<u8> {
    [
        implicit((0x0008, 0x0016), format!("{CT}\0").as_bytes()),
        implicit((0x0008, 0x0018), b"1.2.246.10.90000011.77.1.3.1"),
        implicit((0x0010, 0x0020), b"010190-900P "),
        implicit((0x0010, 0x0024), b"\xfe\xff\x00\xe0\x12\0\0\0\x40\0\x32\0\x0a\0\0\x001.2.246.21"),
        implicit((0x7fe0, 0x0010), &[7; 8]),
    ]
    .concat()
}

/// Preamble, file meta and the data set.
pub fn part10(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let rest = [
        explicit((0x0002, 0x0001), b"OB", &[0, 1]),
        explicit((0x0002, 0x0002), b"UI", CT.as_bytes()),
        explicit((0x0002, 0x0003), b"UI", b"1.2.246.10.90000011.77.1.3.1"),
        explicit((0x0002, 0x0010), b"UI", transfer_syntax.as_bytes()),
        explicit((0x0002, 0x0012), b"UI", b"1.2.246.10.1.1"),
    ]
    .concat();
    let length = explicit((0x0002, 0x0000), b"UL", &(rest.len() as u32).to_le_bytes());
    [vec![0; 128], b"DICM".to_vec(), length, rest, data_set.to_vec()].concat()
}

/// A raw deflate stream of `bytes`.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes all");
    encoder.finish().expect("a Vec takes all")
}

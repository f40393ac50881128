//! Character sets of MSH-18 (HL7 table 0211).

/// How the bytes of a message are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charset {
    /// `ASCII`.
    Ascii,
    /// `8859/1`.
    Latin1,
    /// `8859/15`.
    Latin9,
    /// `UNICODE UTF-8`.
    Utf8,
}

/// Where ISO 8859-15 differs from 8859-1.
const LATIN9: [(u8, char); 8] = [(0xa4, '€'), (0xa6, 'Š'), (0xa8, 'š'), (0xb4, 'Ž'), (0xb8, 'ž'), (0xbc, 'Œ'), (0xbd, 'œ'), (0xbe, 'Ÿ')];

impl Charset {
    /// By the name in MSH-18; `None`: not read here.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "ASCII" => Self::Ascii,
            "8859/1" => Self::Latin1,
            "8859/15" => Self::Latin9,
            "UNICODE UTF-8" => Self::Utf8,
            _ => return None,
        })
    }

    /// Characters of bytes; `None`: a byte that the set does not have.
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Ascii => bytes.is_ascii().then(|| bytes.iter().map(|byte| char::from(*byte)).collect()),
            // Not windows-1252: bytes 80–9F are the control characters that the standard says.
            Self::Latin1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Self::Latin9 => Some(bytes.iter().map(|byte| latin9(*byte)).collect()),
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
        }
    }

    /// Bytes of a text; what the set does not have becomes `?`.
    pub fn encode(self, text: &str) -> Vec<u8> {
        let single = |c: char| -> u8 {
            let byte = u8::try_from(c).ok();
            let held = match self {
                Self::Latin9 => LATIN9.iter().find(|(_, of)| *of == c).map(|(byte, _)| *byte).or(byte.filter(|byte| latin9(*byte) == c)),
                Self::Ascii => byte.filter(u8::is_ascii),
                Self::Latin1 | Self::Utf8 => byte,
            };
            held.unwrap_or(b'?')
        };
        if self == Self::Utf8 { text.as_bytes().to_vec() } else { text.chars().map(single).collect() }
    }
}

fn latin9(byte: u8) -> char {
    LATIN9.iter().find(|(of, _)| *of == byte).map_or(char::from(byte), |(_, c)| *c)
}

//! Specific Character Set (0008,0005): bytes of text elements to Unicode (PS3.5 §6.1, PS3.3 §C.12.1.1.2).

use encoding_rs as rs;
use std::borrow::Cow;

const ESC: u8 = 0x1B;

/// How (0008,0005) was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// Absent or empty: read as ISO_IR 100 (profile 01 D501).
    Absent,
    /// Every value is a defined term.
    Known,
    /// A value is no defined term: read as ISO_IR 100 (profile 01 D502).
    Unknown,
}

/// The character set of one level of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CharacterSet {
    initial: Codec,
    /// Second half of the code table when no escape sequence chose one: the first multi-byte set that was declared.
    fallback: Option<Codec>,
    code_extensions: bool,
    declared: Declared,
}

/// A decoded text.
#[derive(Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text; U+FFFD stands where bytes are not valid.
    pub text: String,
    /// All bytes are valid in the declared character set.
    pub valid: bool,
}

/// One coded character set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Ascii,
    Latin1,
    /// JIS X 0201: half-width katakana in the second half.
    JisX0201,
    /// JIS X 0208 and JIS X 0212 after an escape sequence: two 7-bit bytes per character.
    JisX0208,
    JisX0212,
    Other(Other),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Latin2,
    Latin3,
    Latin4,
    Cyrillic,
    Arabic,
    Greek,
    Hebrew,
    Latin5,
    Latin9,
    Thai,
    Korean,
    Gb2312,
    Gb18030,
    Gbk,
    Utf8,
}

impl Other {
    fn encoding(self) -> &'static rs::Encoding {
        match self {
            Self::Latin2 => rs::ISO_8859_2,
            Self::Latin3 => rs::ISO_8859_3,
            Self::Latin4 => rs::ISO_8859_4,
            Self::Cyrillic => rs::ISO_8859_5,
            Self::Arabic => rs::ISO_8859_6,
            Self::Greek => rs::ISO_8859_7,
            Self::Hebrew => rs::ISO_8859_8,
            // The WHATWG name for ISO 8859-9 with printable characters in 80–9F.
            Self::Latin5 => rs::WINDOWS_1254,
            Self::Latin9 => rs::ISO_8859_15,
            Self::Thai => rs::WINDOWS_874,
            Self::Korean => rs::EUC_KR,
            Self::Gb2312 | Self::Gbk => rs::GBK,
            Self::Gb18030 => rs::GB18030,
            Self::Utf8 => rs::UTF_8,
        }
    }
}

/// Defined terms (PS3.3 Tables C.12-2 to C.12-5): code, and whether the term allows code extensions.
fn term(text: &str) -> Option<(Codec, bool)> {
    use Codec::{Ascii, JisX0201, JisX0208, JisX0212, Latin1};
    let extended = text.starts_with("ISO 2022 IR ");
    let codec = match text {
        "" => return Some((Ascii, false)),
        "GB18030" => return Some((Codec::Other(Other::Gb18030), false)),
        "GBK" => return Some((Codec::Other(Other::Gbk), false)),
        "ISO_IR 192" => return Some((Codec::Other(Other::Utf8), false)),
        "ISO 2022 IR 87" => JisX0208,
        "ISO 2022 IR 159" => JisX0212,
        "ISO 2022 IR 149" => Codec::Other(Other::Korean),
        "ISO 2022 IR 58" => Codec::Other(Other::Gb2312),
        _ => match text.strip_prefix("ISO_IR ").or_else(|| text.strip_prefix("ISO 2022 IR "))? {
            "6" => Ascii,
            "13" => JisX0201,
            "100" => Latin1,
            "101" => Codec::Other(Other::Latin2),
            "109" => Codec::Other(Other::Latin3),
            "110" => Codec::Other(Other::Latin4),
            "126" => Codec::Other(Other::Greek),
            "127" => Codec::Other(Other::Arabic),
            "138" => Codec::Other(Other::Hebrew),
            "144" => Codec::Other(Other::Cyrillic),
            "148" => Codec::Other(Other::Latin5),
            "166" => Codec::Other(Other::Thai),
            "203" => Codec::Other(Other::Latin9),
            _ => return None,
        },
    };
    Some((codec, extended))
}

/// Escape sequences (PS3.3 Tables C.12-3, C.12-4), without ESC.
const ESCAPES: &[(&[u8], Codec)] = &[
    (b"(B", Codec::Ascii),
    (b"(J", Codec::JisX0201),
    (b")I", Codec::JisX0201),
    (b"-A", Codec::Latin1),
    (b"-B", Codec::Other(Other::Latin2)),
    (b"-C", Codec::Other(Other::Latin3)),
    (b"-D", Codec::Other(Other::Latin4)),
    (b"-F", Codec::Other(Other::Greek)),
    (b"-G", Codec::Other(Other::Arabic)),
    (b"-H", Codec::Other(Other::Hebrew)),
    (b"-L", Codec::Other(Other::Cyrillic)),
    (b"-M", Codec::Other(Other::Latin5)),
    (b"-T", Codec::Other(Other::Thai)),
    (b"-b", Codec::Other(Other::Latin9)),
    (b"$B", Codec::JisX0208),
    (b"$(D", Codec::JisX0212),
    (b"$)C", Codec::Other(Other::Korean)),
    (b"$)A", Codec::Other(Other::Gb2312)),
];

impl CharacterSet {
    /// No (0008,0005): ISO_IR 100 is assumed.
    pub const ABSENT: Self = Self { initial: Codec::Latin1, fallback: None, code_extensions: false, declared: Declared::Absent };

    /// Reads the value of (0008,0005), values separated by `\`.
    pub fn of(value: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(value) else {
            return Self { declared: Declared::Unknown, ..Self::ABSENT };
        };
        let mut terms = text.split('\\').map(|value| term(value.trim_matches(' '))).peekable();
        if text.trim_matches(['\\', ' ']).is_empty() {
            return Self::ABSENT;
        }
        let mut set = Self { declared: Declared::Known, ..Self::ABSENT };
        let several = text.contains('\\');
        let mut first = true;
        for term in terms.by_ref() {
            match term {
                None => return Self { declared: Declared::Unknown, ..Self::ABSENT },
                Some((codec, extended)) => {
                    set.code_extensions |= extended;
                    if first {
                        // A set that needs an escape sequence leaves ASCII in force until it comes.
                        set.initial = if several && matches!(codec, Codec::JisX0208 | Codec::JisX0212) { Codec::Ascii } else { codec };
                    }
                    if set.fallback.is_none() && matches!(codec, Codec::Other(Other::Korean | Other::Gb2312)) {
                        set.fallback = Some(codec);
                    }
                }
            }
            first = false;
        }
        if matches!(set.initial, Codec::JisX0208 | Codec::JisX0212 | Codec::Other(Other::Korean | Other::Gb2312)) {
            set.initial = Codec::Ascii;
        }
        set
    }

    /// Each defined or undefined term of a value of (0008,0005), with whether the standard defines it.
    pub fn terms(value: &str) -> impl Iterator<Item = (&str, bool)> {
        value.split('\\').map(|text| text.trim_matches(' ')).map(|text| (text, term(text).is_some()))
    }

    /// How it was given.
    pub fn declared(self) -> Declared {
        self.declared
    }

    /// An `ISO 2022` term is declared: ESC may occur in text.
    pub fn has_code_extensions(self) -> bool {
        self.code_extensions
    }

    /// One byte is one character.
    pub fn is_single_byte(self) -> bool {
        use Other::{Gb2312, Gb18030, Gbk, Korean, Utf8};
        !self.code_extensions && !matches!(self.initial, Codec::Other(Utf8 | Gb18030 | Gbk | Korean | Gb2312))
    }

    /// Encodes a text without escape sequences; `None` if the set cannot hold it that way. With no declared set that is ASCII
    /// alone (PS3.5 §6.1.2.1), whatever bytes are read as.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        if text.contains(char::from(ESC)) {
            return None;
        }
        if text.is_ascii() {
            return Some(text.as_bytes().to_vec());
        }
        let bytes = match (self.declared, self.initial) {
            (Declared::Absent | Declared::Unknown, _) | (_, Codec::Ascii | Codec::JisX0201 | Codec::JisX0208 | Codec::JisX0212) => None,
            (_, Codec::Latin1) => text.chars().map(|c| u8::try_from(c).ok()).collect(),
            (_, Codec::Other(other)) => {
                let (bytes, _, unmappable) = other.encoding().encode(text);
                (!unmappable).then(|| bytes.into_owned())
            }
        }?;
        let decoded = self.decode(&bytes);
        // Control characters of the second half, which some codecs of the web fill with letters.
        let printable = !self.is_single_byte() || !bytes.iter().any(|byte| (0x80..0xA0).contains(byte));
        (printable && decoded.valid && decoded.text == text).then_some(bytes)
    }

    /// Decodes the bytes of a text value.
    pub fn decode(self, bytes: &[u8]) -> Decoded {
        if bytes.is_ascii() && !bytes.contains(&ESC) {
            return Decoded { text: String::from_utf8_lossy(bytes).into_owned(), valid: true };
        }
        let mut decoded = Decoded { text: String::with_capacity(bytes.len() + 8), valid: true };
        if self.code_extensions {
            self.decode_extended(bytes, &mut decoded);
        } else {
            self.initial.append(bytes, &mut decoded);
        }
        decoded
    }

    /// ISO 2022: escape sequences choose the set; delimiters bring the first one back (PS3.5 §6.1.2.5.3).
    fn decode_extended(self, bytes: &[u8], decoded: &mut Decoded) {
        let (mut active, mut start, mut at) = (self.initial, 0, 0);
        while at < bytes.len() {
            if bytes[at] == ESC {
                self.append(active, &bytes[start..at], decoded);
                let after = &bytes[at + 1..];
                match ESCAPES.iter().find(|(sequence, _)| after.starts_with(sequence)) {
                    Some((sequence, codec)) => {
                        active = *codec;
                        at += 1 + sequence.len();
                    }
                    None => {
                        decoded.valid = false;
                        at += 1;
                    }
                }
                start = at;
            } else {
                let two_bytes = matches!(active, Codec::JisX0208 | Codec::JisX0212);
                if !two_bytes && matches!(bytes[at], b'\\' | b'^' | b'=' | b'\r' | b'\n' | b'\t' | 0x0C) {
                    self.append(active, &bytes[start..at], decoded);
                    active = self.initial;
                    start = at;
                }
                at += if two_bytes { 2 } else { 1 };
            }
        }
        self.append(active, bytes.get(start..).unwrap_or_default(), decoded);
    }

    fn append(self, active: Codec, bytes: &[u8], decoded: &mut Decoded) {
        let codec = match (active, self.fallback) {
            (Codec::Ascii, Some(fallback)) if !bytes.is_ascii() => fallback,
            _ => active,
        };
        codec.append(bytes, decoded);
    }
}

impl Codec {
    fn append(self, bytes: &[u8], decoded: &mut Decoded) {
        let (text, malformed): (Cow<'_, str>, bool) = match self {
            Self::Latin1 => (bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(), false),
            Self::Ascii => {
                let text = bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER });
                (text.collect::<String>().into(), !bytes.is_ascii())
            }
            Self::JisX0201 => {
                // Shift_JIS holds the katakana at the same bytes; its lead bytes are not part of JIS X 0201.
                let foreign = bytes.iter().any(|byte| matches!(byte, 0x80..=0xA0 | 0xE0..=0xFF));
                let (text, malformed) = rs::SHIFT_JIS.decode_without_bom_handling(bytes);
                (text, foreign || malformed)
            }
            Self::JisX0208 => euc_jp(bytes, &[]),
            Self::JisX0212 => euc_jp(bytes, &[0x8F]),
            Self::Other(other) => other.encoding().decode_without_bom_handling(bytes),
        };
        decoded.text.push_str(&text);
        decoded.valid &= !malformed;
    }
}

/// Two 7-bit bytes per character as EUC-JP, which holds JIS X 0208 as is and JIS X 0212 after 8FH.
fn euc_jp<'a>(bytes: &[u8], prefix: &[u8]) -> (Cow<'a, str>, bool) {
    let mut euc = Vec::with_capacity(bytes.len() * 2);
    for pair in bytes.chunks(2) {
        euc.extend_from_slice(prefix);
        euc.extend(pair.iter().map(|byte| byte | 0x80));
    }
    let (text, malformed) = rs::EUC_JP.decode_without_bom_handling(&euc);
    (text.into_owned().into(), malformed)
}

impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoded(<redacted>, valid: {})", self.valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_by_its_declared_set() {
        // Vectors: PS3.5 Annexes H, I, J and K.
        let cases: &[(&[u8], &[u8], &str)] = &[
            (b"ISO_IR 100", b"\xD6hman^Sanni", "Öhman^Sanni"),
            (b"", b"\xD6hman", "Öhman"),
            (b"ISO_IR 192", "Öhman^Aino".as_bytes(), "Öhman^Aino"),
            (b"ISO_IR 144", b"\xBB\xEE\xDA\x63\x65\xDC\xD1\x79\x70\xD3", "Люкceмбypг"),
            (b"ISO_IR 126", b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2", "Διονυσιος"),
            (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
            (b"ISO 2022 IR 13\\ISO 2022 IR 87", b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
            (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
            (b"GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB", "Wang^XiaoDong=王^小东"),
        ];
        for (set, bytes, text) in cases {
            let decoded = CharacterSet::of(set).decode(bytes);
            assert_eq!((decoded.text.as_str(), decoded.valid), (*text, true), "{}", set.escape_ascii());
        }
    }

    #[test]
    fn text_is_encoded_if_the_declared_set_can_hold_it() {
        type Case = (&'static [u8], &'static str, Option<&'static [u8]>);
        let cases: &[Case] = &[
            (b"ISO_IR 100", "Öhman", Some(b"\xD6hman")),
            (b"ISO_IR 100", "Šefčíková", None),
            (b"ISO_IR 101", "Öhman", Some(b"\xD6hman")),
            (b"ISO_IR 192", "Šefčíková", Some("Šefčíková".as_bytes())),
            (b"ISO_IR 148", "100 €", None),
            (b"ISO_IR 203", "100 €", Some(b"100 \xA4")),
            (b"\\ISO 2022 IR 87", "山田", None),
            (b"\\ISO 2022 IR 87", "Yamada", Some(b"Yamada")),
            // Read as ISO_IR 100, but not written: no set is declared.
            (b"", "Öhman", None),
            (b"UTF-8", "Öhman", None),
            (b"", "Ohman", Some(b"Ohman")),
        ];
        for (set, text, bytes) in cases {
            assert_eq!(CharacterSet::of(set).encode(text).as_deref(), *bytes, "{} {text}", set.escape_ascii());
        }
    }

    #[test]
    fn bytes_outside_the_declared_set_are_not_valid() {
        for (set, bytes) in [
            (&b"ISO_IR 192"[..], &b"\xD6hman"[..]),
            (b"ISO_IR 6", b"\xD6hman"),
            (b"ISO 2022 IR 6\\ISO 2022 IR 100", b"\x1b$Zx"),
            (b"ISO_IR 13", b"\xE0\xE1"),
        ] {
            assert!(!CharacterSet::of(set).decode(bytes).valid, "{}", set.escape_ascii());
        }
    }

    #[test]
    fn a_term_that_the_standard_does_not_define_is_unknown() {
        assert_eq!(CharacterSet::of(b"UTF-8").declared(), Declared::Unknown);
        assert_eq!(CharacterSet::of(b"ISO_IR 192").declared(), Declared::Known);
        assert_eq!(CharacterSet::of(b"  ").declared(), Declared::Absent);
    }
}

//! Part 10 file of any source → [`Manifest`].
//!
//! The walker is our own: dicom-object sizes buffers by declared lengths and nests without bound. It slices the input and
//! keeps nothing of the content tree (0040,A730), which repeats the evidence.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

use super::REFERENCES_MAX;
use crate::metadata::{Code, PatientId, PatientIdError};

const DEPTH_MAX: usize = 64;
const ELEMENTS_MAX: usize = 2_000_000;
const UNDEFINED: u32 = u32::MAX;

/// What a manifest says, as it says it: absent or empty texts are `None`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// (0008,0016).
    pub sop_class_uid: Option<String>,
    /// (0008,0018).
    pub sop_instance_uid: Option<String>,
    /// (0020,000D).
    pub study_instance_uid: Option<String>,
    /// (0020,000E).
    pub series_instance_uid: Option<String>,
    /// (0040,A043), first item: code value, coding scheme designator, meaning.
    pub title: Option<Code>,
    /// (0010,0020).
    pub patient_id: Option<String>,
    /// (0010,0021).
    pub issuer_of_patient_id: Option<String>,
    /// (0040,0032) of the first item of (0010,0024), if (0040,0033) is ISO.
    pub patient_id_issuer: Option<String>,
    /// Accession numbers with the OID of their issuer, if it is ISO: top level, then (0040,A370); no pair twice.
    pub accessions: Vec<(String, Option<String>)>,
    /// (0040,A375), one per item, in order.
    pub evidence: Vec<StudyReference>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest({:?}, {} studies)", self.sop_instance_uid, self.evidence.len())
    }
}

/// Item of (0040,A375).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyReference {
    /// (0020,000D).
    pub study_instance_uid: Option<String>,
    /// (0008,1115).
    pub series: Vec<SeriesReference>,
}

/// Item of (0008,1115).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesReference {
    /// (0020,000E).
    pub series_instance_uid: Option<String>,
    /// (0008,0054).
    pub retrieve_ae_title: Option<String>,
    /// (0008,1190).
    pub retrieve_url: Option<String>,
    /// (0040,E011).
    pub retrieve_location_uid: Option<String>,
    /// (0008,1199): SOP Class UID and SOP Instance UID; empty texts if absent.
    pub instances: Vec<(String, String)>,
}

/// Why a file cannot be read as a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestReadError {
    /// No Part 10 file: preamble, `DICM` or file meta.
    #[error("not a Part 10 file")]
    NotPart10,
    /// A transfer syntax other than Explicit or Implicit VR Little Endian.
    #[error("transfer syntax of the manifest is not supported: send Explicit VR Little Endian")]
    TransferSyntax,
    /// A length points outside of the file, or an element stands where it may not.
    #[error("data set is malformed at byte {position}")]
    Malformed {
        /// Byte offset in the file.
        position: usize,
    },
    /// Nested too deep, too many elements.
    #[error("data set is nested deeper than {DEPTH_MAX} or has more than {ELEMENTS_MAX} elements")]
    TooComplex,
    /// Too many references (M-432).
    #[error("more than {REFERENCES_MAX} references")]
    TooManyReferences,
    /// A text is not in the declared character set, or that is not supported.
    #[error("text of ({group:04X},{element:04X}) cannot be decoded")]
    Text {
        /// Group number.
        group: u16,
        /// Element number.
        element: u16,
    },
}

impl Manifest {
    /// Reads a Part 10 file.
    ///
    /// # Errors
    /// [`ManifestReadError`].
    pub fn read(file: &[u8]) -> Result<Self, ManifestReadError> {
        let rest = file.get(132..).filter(|_| &file[128..132] == b"DICM").ok_or(ManifestReadError::NotPart10)?;
        let mut meta = Walker { file: rest, base: 132, position: 0, explicit: true, elements: 0 };
        let mut transfer_syntax = String::new();
        while meta.peek_group() == Some(0x0002) {
            let element = meta.element(0, true)?.ok_or(ManifestReadError::NotPart10)?;
            if element.tag == (0x0002, 0x0010) {
                transfer_syntax = uid(element.bytes());
            }
        }
        let explicit = match transfer_syntax.as_str() {
            "1.2.840.10008.1.2.1" => true,
            "1.2.840.10008.1.2" => false,
            "" => return Err(ManifestReadError::NotPart10),
            _ => return Err(ManifestReadError::TransferSyntax),
        };
        let mut walker = Walker { explicit, elements: 0, ..meta };
        let root = walker.data_set(None, 0, true)?;
        Self::of(&root)
    }

    /// The patient with the assigning authority of (0010,0024).
    ///
    /// # Errors
    /// [`PatientIdError`] if id or issuer is absent or no OID.
    pub fn patient(&self) -> Result<PatientId, PatientIdError> {
        let id = self.patient_id.as_deref().unwrap_or_default();
        PatientId::parse_cx(&format!("{id}^^^&{}&ISO", self.patient_id_issuer.as_deref().unwrap_or_default()))
    }

    /// Number of instances in the evidence.
    pub fn reference_count(&self) -> usize {
        self.evidence.iter().flat_map(|study| &study.series).map(|series| series.instances.len()).sum()
    }

    fn of(root: &DataSet<'_>) -> Result<Self, ManifestReadError> {
        let charset = root.get((0x0008, 0x0005)).map(|element| uid(element.bytes())).unwrap_or_default();
        let charset = charset.split('\\').next().unwrap_or_default().trim();
        let charset = if charset.is_empty() { Some(SpecificCharacterSet::default()) } else { SpecificCharacterSet::from_code(charset) };
        let text = |set: &DataSet<'_>, tag: Tag| -> Result<Option<String>, ManifestReadError> {
            let Some(element) = set.get(tag) else { return Ok(None) };
            let bytes = element.bytes();
            let decoded = if bytes.is_ascii() {
                String::from_utf8(bytes.to_vec()).ok()
            } else {
                charset.as_ref().and_then(|charset| charset.decode(bytes).ok())
            };
            let decoded = decoded.ok_or(ManifestReadError::Text { group: tag.0, element: tag.1 })?;
            let trimmed = decoded.trim_matches([' ', '\0']);
            Ok(if trimmed.is_empty() { None } else { Some(trimmed.to_owned()) })
        };
        let uid_of = |set: &DataSet<'_>, tag: Tag| set.get(tag).map(|element| uid(element.bytes())).filter(|uid| !uid.is_empty());
        // The OID of an issuer sequence, if its type is ISO.
        let issuer = |set: &DataSet<'_>, tag: Tag| -> Result<Option<String>, ManifestReadError> {
            let Some(item) = set.items(tag).first() else { return Ok(None) };
            let is_iso = text(item, (0x0040, 0x0033))?.as_deref() == Some("ISO");
            Ok(text(item, (0x0040, 0x0032))?.filter(|_| is_iso))
        };

        let mut accessions = Vec::new();
        for set in std::iter::once(root).chain(root.items((0x0040, 0xA370))) {
            if let Some(accession) = text(set, (0x0008, 0x0050))? {
                let pair = (accession, issuer(set, (0x0008, 0x0051))?);
                if !accessions.contains(&pair) {
                    accessions.push(pair);
                }
            }
            if accessions.len() > 1_000 {
                return Err(ManifestReadError::TooComplex);
            }
        }
        let title = match root.items((0x0040, 0xA043)).first() {
            None => None,
            Some(item) => Some(Code {
                code: text(item, (0x0008, 0x0100))?.unwrap_or_default(),
                system: text(item, (0x0008, 0x0102))?.unwrap_or_default(),
                display: text(item, (0x0008, 0x0104))?.unwrap_or_default(),
            }),
        };
        let mut references = 0;
        let mut evidence = Vec::new();
        for item in root.items((0x0040, 0xA375)) {
            let mut study = StudyReference { study_instance_uid: uid_of(item, (0x0020, 0x000D)), series: Vec::new() };
            for series in item.items((0x0008, 0x1115)) {
                let instances = series.items((0x0008, 0x1199));
                references += instances.len();
                if references > REFERENCES_MAX {
                    return Err(ManifestReadError::TooManyReferences);
                }
                let instance = |set| (uid_of(set, (0x0008, 0x1150)).unwrap_or_default(), uid_of(set, (0x0008, 0x1155)).unwrap_or_default());
                study.series.push(SeriesReference {
                    series_instance_uid: uid_of(series, (0x0020, 0x000E)),
                    retrieve_ae_title: text(series, (0x0008, 0x0054))?,
                    retrieve_url: text(series, (0x0008, 0x1190))?,
                    retrieve_location_uid: uid_of(series, (0x0040, 0xE011)),
                    instances: instances.iter().map(instance).collect(),
                });
            }
            evidence.push(study);
        }
        Ok(Self {
            sop_class_uid: uid_of(root, (0x0008, 0x0016)),
            sop_instance_uid: uid_of(root, (0x0008, 0x0018)),
            study_instance_uid: uid_of(root, (0x0020, 0x000D)),
            series_instance_uid: uid_of(root, (0x0020, 0x000E)),
            title,
            patient_id: text(root, (0x0010, 0x0020))?,
            issuer_of_patient_id: text(root, (0x0010, 0x0021))?,
            patient_id_issuer: issuer(root, (0x0010, 0x0024))?,
            accessions,
            evidence,
        })
    }
}

/// A UID or other text of the default repertoire, padding removed.
fn uid(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_matches([' ', '\0']).to_owned()
}

type Tag = (u16, u16);

#[derive(Default)]
struct DataSet<'a>(Vec<Element<'a>>);

struct Element<'a> {
    tag: Tag,
    value: Value<'a>,
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<DataSet<'a>>),
}

impl<'a> Element<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self.value {
            Value::Bytes(bytes) => bytes,
            Value::Items(_) => &[],
        }
    }
}

impl<'a> DataSet<'a> {
    fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.0.iter().find(|element| element.tag == tag)
    }

    fn items(&self, tag: Tag) -> &[DataSet<'a>] {
        match self.get(tag) {
            Some(Element { value: Value::Items(items), .. }) => items,
            _ => &[],
        }
    }
}

/// Sequences that [`Manifest`] needs: in Implicit VR nothing else says that they are sequences.
const SEQUENCES: [Tag; 9] = [
    (0x0008, 0x0051),
    (0x0008, 0x1115),
    (0x0008, 0x1199),
    (0x0010, 0x0024),
    (0x0040, 0xA043),
    (0x0040, 0xA370),
    (0x0040, 0xA375),
    (0x0040, 0xA504),
    (0x0040, 0xA730),
];

/// The only elements that are kept.
fn is_kept(tag: Tag) -> bool {
    (tag != (0x0040, 0xA730) && tag != (0x0040, 0xA504) && SEQUENCES.contains(&tag))
        || matches!(
            tag,
            (0x0002, 0x0010)
                | (0x0008, 0x0005 | 0x0016 | 0x0018 | 0x0050 | 0x0054 | 0x0100 | 0x0102 | 0x0104 | 0x1150 | 0x1155 | 0x1190)
                | (0x0010, 0x0020 | 0x0021)
                | (0x0020, 0x000D | 0x000E)
                | (0x0040, 0x0032 | 0x0033 | 0xE011)
        )
}

struct Walker<'a> {
    file: &'a [u8],
    /// Offset of `file` in the whole file, for messages.
    base: usize,
    position: usize,
    explicit: bool,
    elements: usize,
}

impl<'a> Walker<'a> {
    fn malformed(&self) -> ManifestReadError {
        ManifestReadError::Malformed { position: self.base + self.position }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ManifestReadError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.file.len()).ok_or_else(|| self.malformed())?;
        let bytes = &self.file[self.position..end];
        self.position = end;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, ManifestReadError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, ManifestReadError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn peek_group(&self) -> Option<u16> {
        let bytes = self.file.get(self.position..self.position + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn count(&mut self, depth: usize) -> Result<(), ManifestReadError> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX || depth > DEPTH_MAX { Err(ManifestReadError::TooComplex) } else { Ok(()) }
    }

    /// Elements up to `end`, or — undefined length — to the item delimiter; the top level ends with the file.
    fn data_set(&mut self, end: Option<usize>, depth: usize, keep: bool) -> Result<DataSet<'a>, ManifestReadError> {
        let mut set = DataSet::default();
        let end = if depth == 0 { Some(self.file.len()) } else { end };
        loop {
            if end == Some(self.position) {
                return Ok(set);
            }
            if end.is_some_and(|end| self.position > end) {
                return Err(self.malformed());
            }
            match self.element(depth, keep)? {
                Some(element) => {
                    if keep && is_kept(element.tag) {
                        set.0.push(element);
                    }
                }
                None if end.is_none() => return Ok(set),
                None => return Err(self.malformed()),
            }
        }
    }

    /// The next element; `None` for an item delimiter.
    fn element(&mut self, depth: usize, keep: bool) -> Result<Option<Element<'a>>, ManifestReadError> {
        self.count(depth)?;
        let tag = (self.u16()?, self.u16()?);
        if tag.0 == 0xFFFE {
            let length = self.u32()?;
            return if tag.1 == 0xE00D && length == 0 { Ok(None) } else { Err(self.malformed()) };
        }
        let (vr, length) = if self.explicit {
            let vr = self.take(2)?;
            let long = matches!(vr, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV");
            if long {
                self.take(2)?;
                (vr, self.u32()?)
            } else {
                (vr, u32::from(self.u16()?))
            }
        } else {
            (&b"--"[..], self.u32()?)
        };
        let is_sequence =
            vr == b"SQ" || (vr != b"OB" && vr != b"OW" && length == UNDEFINED) || (!self.explicit && SEQUENCES.contains(&tag));
        if !is_sequence {
            // Encapsulated pixel data has no place in a manifest.
            let length = usize::try_from(length).ok().filter(|_| length != UNDEFINED).ok_or_else(|| self.malformed())?;
            return Ok(Some(Element { tag, value: Value::Bytes(self.take(length)?) }));
        }
        // UN of undefined length holds Implicit VR Little Endian (PS3.5 §6.2.2 note 4).
        let explicit = self.explicit;
        self.explicit &= vr != b"UN";
        let items = self.items(length, depth + 1, keep && is_kept(tag));
        self.explicit = explicit;
        Ok(Some(Element { tag, value: Value::Items(items?) }))
    }

    fn items(&mut self, length: u32, depth: usize, keep: bool) -> Result<Vec<DataSet<'a>>, ManifestReadError> {
        let end = self.end(length)?;
        let mut items = Vec::new();
        while end != Some(self.position) {
            self.count(depth)?;
            if end.is_some_and(|end| self.position > end) {
                return Err(self.malformed());
            }
            let tag = (self.u16()?, self.u16()?);
            let length = self.u32()?;
            match tag {
                (0xFFFE, 0xE000) => {
                    let item_end = self.end(length)?;
                    let item = self.data_set(item_end, depth, keep)?;
                    if keep {
                        items.push(item);
                    }
                }
                (0xFFFE, 0xE0DD) if length == 0 && end.is_none() => break,
                _ => return Err(self.malformed()),
            }
        }
        Ok(items)
    }

    fn end(&self, length: u32) -> Result<Option<usize>, ManifestReadError> {
        if length == UNDEFINED {
            return Ok(None);
        }
        let end = usize::try_from(length).ok().and_then(|length| self.position.checked_add(length));
        end.filter(|end| *end <= self.file.len()).map(Some).ok_or_else(|| self.malformed())
    }
}

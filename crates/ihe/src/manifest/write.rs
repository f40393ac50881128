//! Manifest → Part 10 file; rejection note → data set.
//!
//! Explicit VR Little Endian, ascending tags, no group lengths; sequences and items of undefined length with
//! delimiters, an empty sequence with length 0. The encoder is our own because dicom-object chooses lengths itself.

use super::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOP_CLASS_UID};

/// A manifest with all values resolved (profile 02 §3). `None` leaves a type 3 attribute out; an empty text is written
/// empty. Texts are UTF-8; dates, times, UIDs and codes are written as given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// (0008,0018), also in file meta.
    pub sop_instance_uid: String,
    /// (0020,000E) of the manifest.
    pub series_instance_uid: String,
    /// (0020,000D).
    pub study_instance_uid: String,
    /// (0008,0020), empty if unknown.
    pub study_date: String,
    /// (0008,0030), empty if unknown.
    pub study_time: String,
    /// (0008,0023), `YYYYMMDD`.
    pub content_date: String,
    /// (0008,0033), `HHMMSS`.
    pub content_time: String,
    /// (0008,0201), `+HHMM`.
    pub timezone_offset: Option<String>,
    /// (0008,0050), empty if unknown.
    pub accession_number: String,
    /// OID for (0008,0051).
    pub accession_issuer: Option<String>,
    /// (0008,0080).
    pub institution_name: Option<String>,
    /// (0008,0082); `None`: absent.
    pub institution_code: Option<Vec<CodeItem>>,
    /// (0008,0090), empty if unknown.
    pub referring_physician_name: String,
    /// (0008,1030).
    pub study_description: Option<String>,
    /// (0008,1032); `None`: absent.
    pub procedure_code: Option<Vec<CodeItem>>,
    /// (0010,0010), empty if unknown.
    pub patient_name: String,
    /// (0010,0020).
    pub patient_id: String,
    /// (0010,0021).
    pub issuer_of_patient_id: Option<String>,
    /// OID of the resolved issuer for (0010,0024).
    pub patient_id_issuer: String,
    /// (0010,0030), empty if unknown.
    pub patient_birth_date: String,
    /// (0010,0040), empty if unknown.
    pub patient_sex: String,
    /// (0020,0010), empty if unknown.
    pub study_id: String,
    /// (0020,0011).
    pub series_number: u32,
    /// (0040,A370), sorted by the caller; empty: absent.
    pub requests: Vec<ReferencedRequest>,
    /// (0040,A375), in any order.
    pub series: Vec<ReferencedSeries>,
    /// Key Object Description (113012, DCM); `None`: no such item.
    pub description: Option<String>,
    /// What the document says of the instances.
    pub title: Title,
}

/// Document title (0040,A043) of a Key Object Selection document that is written here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Title {
    /// (113030, DCM, "Manifest").
    #[default]
    Manifest,
    /// A title of PS3.16 CID 7010: the instances are rejected (RAD TF-2 §4.66.4.1.2).
    Rejection {
        /// The title.
        code: Box<CodeItem>,
        /// Document Title Modifier (113011, DCM): the reason.
        modifier: Option<Box<CodeItem>>,
    },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} series)", self.series.len())
    }
}

/// Item of a code sequence (PS3.3 Table 8.8-1); `None` is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeItem {
    /// (0008,0100).
    pub code_value: Option<String>,
    /// (0008,0102).
    pub coding_scheme_designator: Option<String>,
    /// (0008,0103).
    pub coding_scheme_version: Option<String>,
    /// (0008,0104).
    pub code_meaning: Option<String>,
    /// (0008,010C).
    pub coding_scheme_uid: Option<String>,
    /// (0008,0119).
    pub long_code_value: Option<String>,
    /// (0008,0120).
    pub urn_code_value: Option<String>,
}

/// Item of (0040,A370); texts are empty if unknown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReferencedRequest {
    /// (0008,0050).
    pub accession_number: String,
    /// OID for (0008,0051).
    pub accession_issuer: Option<String>,
    /// (0032,1060).
    pub requested_procedure_description: String,
    /// (0032,1064).
    pub requested_procedure_code: Vec<CodeItem>,
    /// (0040,1001).
    pub requested_procedure_id: String,
    /// (0040,2016).
    pub placer_order_number: String,
    /// (0040,2017).
    pub filler_order_number: String,
}

/// Item of (0008,1115).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferencedSeries {
    /// (0020,000E).
    pub series_instance_uid: String,
    /// (0008,0054).
    pub retrieve_ae_title: String,
    /// (0008,1190).
    pub retrieve_url: Option<String>,
    /// (0040,E011).
    pub retrieve_location_uid: String,
    /// (0008,1199), in any order.
    pub instances: Vec<ReferencedInstance>,
}

/// One instance, in the evidence and in the content tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencedInstance {
    /// (0008,1150).
    pub sop_class_uid: String,
    /// (0008,1155).
    pub sop_instance_uid: String,
    /// (0040,A040) of its content item.
    pub value_type: ValueType,
}

/// Value type of a content item that refers to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// IMAGE
    Image,
    /// WAVEFORM
    Waveform,
    /// COMPOSITE
    Composite,
}

/// Content that no manifest can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestWriteError {
    /// No instance, or a series without one.
    #[error("the manifest or one of its series refers to no instance")]
    Empty,
    /// An instance occurs twice.
    #[error("the manifest refers to an instance twice")]
    InstanceTwice,
    /// A value does not fit into the length field of its element.
    #[error("value of ({group:04X},{element:04X}) is longer than its length field allows")]
    ValueTooLong {
        /// Group number.
        group: u16,
        /// Element number.
        element: u16,
    },
}

impl Content {
    /// Writes the Part 10 file. Series and instances are sorted by UID.
    ///
    /// # Errors
    /// [`ManifestWriteError`].
    pub fn to_part10(&self) -> Result<Vec<u8>, ManifestWriteError> {
        let series = self.sorted()?;
        let mut meta = Encoder::default();
        meta.bytes((0x0002, 0x0001), b"OB", &[0, 1]);
        meta.text((0x0002, 0x0002), b"UI", SOP_CLASS_UID);
        meta.text((0x0002, 0x0003), b"UI", &self.sop_instance_uid);
        meta.text((0x0002, 0x0010), b"UI", EXPLICIT_VR_LITTLE_ENDIAN);
        meta.text((0x0002, 0x0012), b"UI", IMPLEMENTATION_CLASS_UID);
        meta.text((0x0002, 0x0013), b"SH", IMPLEMENTATION_VERSION_NAME);
        let meta = meta.finish()?;

        let mut file = Encoder { out: vec![0; 128], error: None };
        file.out.extend_from_slice(b"DICM");
        let meta_length = u32::try_from(meta.len()).unwrap_or(u32::MAX);
        file.bytes((0x0002, 0x0000), b"UL", &meta_length.to_le_bytes());
        file.out.extend_from_slice(&meta);
        self.data_set(&mut file, &series);
        file.finish()
    }

    /// Writes the data set alone, in [`EXPLICIT_VR_LITTLE_ENDIAN`]. Series and instances are sorted by UID.
    ///
    /// # Errors
    /// [`ManifestWriteError`].
    pub fn to_data_set(&self) -> Result<Vec<u8>, ManifestWriteError> {
        let series = self.sorted()?;
        let mut encoder = Encoder::default();
        self.data_set(&mut encoder, &series);
        encoder.finish()
    }

    fn sorted(&self) -> Result<Vec<ReferencedSeries>, ManifestWriteError> {
        let mut series: Vec<ReferencedSeries> = self.series.clone();
        series.sort_by(|a, b| a.series_instance_uid.cmp(&b.series_instance_uid));
        let mut seen = std::collections::HashSet::new();
        for item in &mut series {
            item.instances.sort_by(|a, b| a.sop_instance_uid.cmp(&b.sop_instance_uid));
            if item.instances.is_empty() {
                return Err(ManifestWriteError::Empty);
            }
        }
        if series.is_empty() {
            return Err(ManifestWriteError::Empty);
        }
        if !self.series.iter().flat_map(|item| &item.instances).all(|instance| seen.insert(&instance.sop_instance_uid)) {
            return Err(ManifestWriteError::InstanceTwice);
        }
        Ok(series)
    }

    fn data_set(&self, e: &mut Encoder, series: &[ReferencedSeries]) {
        e.text((0x0008, 0x0005), b"CS", "ISO_IR 192");
        e.text((0x0008, 0x0016), b"UI", SOP_CLASS_UID);
        e.text((0x0008, 0x0018), b"UI", &self.sop_instance_uid);
        e.text((0x0008, 0x0020), b"DA", &self.study_date);
        e.text((0x0008, 0x0023), b"DA", &self.content_date);
        e.text((0x0008, 0x0030), b"TM", &self.study_time);
        e.text((0x0008, 0x0033), b"TM", &self.content_time);
        e.text((0x0008, 0x0050), b"SH", &self.accession_number);
        issuer(e, (0x0008, 0x0051), self.accession_issuer.as_deref());
        e.text((0x0008, 0x0060), b"CS", "KO");
        e.text((0x0008, 0x0070), b"LO", "IDR-SITE");
        e.text_if((0x0008, 0x0080), b"LO", self.institution_name.as_deref());
        codes(e, (0x0008, 0x0082), self.institution_code.as_deref());
        e.text((0x0008, 0x0090), b"PN", &self.referring_physician_name);
        e.text_if((0x0008, 0x0201), b"SH", self.timezone_offset.as_deref());
        e.text_if((0x0008, 0x1030), b"LO", self.study_description.as_deref());
        codes(e, (0x0008, 0x1032), self.procedure_code.as_deref());
        e.empty_sequence((0x0008, 0x1111));
        e.text((0x0010, 0x0010), b"PN", &self.patient_name);
        e.text((0x0010, 0x0020), b"LO", &self.patient_id);
        e.text_if((0x0010, 0x0021), b"LO", self.issuer_of_patient_id.as_deref());
        issuer(e, (0x0010, 0x0024), Some(&self.patient_id_issuer));
        e.text((0x0010, 0x0030), b"DA", &self.patient_birth_date);
        e.text((0x0010, 0x0040), b"CS", &self.patient_sex);
        e.text((0x0020, 0x000D), b"UI", &self.study_instance_uid);
        e.text((0x0020, 0x000E), b"UI", &self.series_instance_uid);
        e.text((0x0020, 0x0010), b"SH", &self.study_id);
        e.text((0x0020, 0x0011), b"IS", &self.series_number.to_string());
        e.text((0x0020, 0x0013), b"IS", "1");
        e.text((0x0040, 0xA040), b"CS", "CONTAINER");
        let manifest = [dcm("113030", "Manifest")];
        let (title, modifier) = match &self.title {
            Title::Manifest => (&manifest[..], None),
            Title::Rejection { code, modifier } => (std::slice::from_ref(&**code), modifier.as_deref()),
        };
        codes(e, (0x0040, 0xA043), Some(title));
        e.text((0x0040, 0xA050), b"CS", "SEPARATE");
        if !self.requests.is_empty() {
            e.sequence((0x0040, 0xA370), &self.requests, |e, request| self.request(e, request));
        }
        e.sequence((0x0040, 0xA375), &[()], |e, ()| {
            e.sequence((0x0008, 0x1115), series, |e, series| evidence_series(e, series, &self.title));
            e.text((0x0020, 0x000D), b"UI", &self.study_instance_uid);
        });
        e.sequence((0x0040, 0xA504), &[()], |e, ()| {
            e.text((0x0008, 0x0105), b"CS", "DCMR");
            e.text((0x0040, 0xDB00), b"CS", "2010");
        });
        e.begin((0x0040, 0xA730));
        if let Some(modifier) = modifier {
            e.item(|e| {
                e.text((0x0040, 0xA010), b"CS", "HAS CONCEPT MOD");
                e.text((0x0040, 0xA040), b"CS", "CODE");
                codes(e, (0x0040, 0xA043), Some(&[dcm("113011", "Document Title Modifier")]));
                codes(e, (0x0040, 0xA168), Some(std::slice::from_ref(modifier)));
            });
        }
        if let Some(description) = &self.description {
            e.item(|e| {
                e.text((0x0040, 0xA010), b"CS", "CONTAINS");
                e.text((0x0040, 0xA040), b"CS", "TEXT");
                codes(e, (0x0040, 0xA043), Some(&[dcm("113012", "Key Object Description")]));
                e.text((0x0040, 0xA160), b"UT", description);
            });
        }
        for instance in series.iter().flat_map(|item| &item.instances) {
            e.item(|e| {
                e.sequence((0x0008, 0x1199), std::slice::from_ref(instance), reference);
                e.text((0x0040, 0xA010), b"CS", "CONTAINS");
                e.text(
                    (0x0040, 0xA040),
                    b"CS",
                    match instance.value_type {
                        ValueType::Image => "IMAGE",
                        ValueType::Waveform => "WAVEFORM",
                        ValueType::Composite => "COMPOSITE",
                    },
                );
            });
        }
        e.end();
    }

    fn request(&self, e: &mut Encoder, request: &ReferencedRequest) {
        e.text((0x0008, 0x0050), b"SH", &request.accession_number);
        issuer(e, (0x0008, 0x0051), request.accession_issuer.as_deref());
        e.empty_sequence((0x0008, 0x1110));
        e.text((0x0020, 0x000D), b"UI", &self.study_instance_uid);
        e.text((0x0032, 0x1060), b"LO", &request.requested_procedure_description);
        codes(e, (0x0032, 0x1064), Some(&request.requested_procedure_code));
        e.text((0x0040, 0x1001), b"SH", &request.requested_procedure_id);
        e.text((0x0040, 0x2016), b"LO", &request.placer_order_number);
        e.text((0x0040, 0x2017), b"LO", &request.filler_order_number);
    }
}

/// Where the instances of a series are is said by a manifest alone.
fn evidence_series(e: &mut Encoder, series: &ReferencedSeries, title: &Title) {
    let manifest = *title == Title::Manifest;
    e.text_if((0x0008, 0x0054), b"AE", manifest.then_some(series.retrieve_ae_title.as_str()));
    e.text_if((0x0008, 0x1190), b"UR", series.retrieve_url.as_deref());
    e.sequence((0x0008, 0x1199), &series.instances, reference);
    e.text((0x0020, 0x000E), b"UI", &series.series_instance_uid);
    e.text_if((0x0040, 0xE011), b"UI", manifest.then_some(series.retrieve_location_uid.as_str()));
}

fn reference(e: &mut Encoder, instance: &ReferencedInstance) {
    e.text((0x0008, 0x1150), b"UI", &instance.sop_class_uid);
    e.text((0x0008, 0x1155), b"UI", &instance.sop_instance_uid);
}

fn issuer(e: &mut Encoder, tag: Tag, oid: Option<&str>) {
    if let Some(oid) = oid {
        e.sequence(tag, &[()], |e, ()| {
            e.text((0x0040, 0x0032), b"UT", oid);
            e.text((0x0040, 0x0033), b"CS", "ISO");
        });
    }
}

fn codes(e: &mut Encoder, tag: Tag, codes: Option<&[CodeItem]>) {
    if let Some(codes) = codes {
        e.sequence(tag, codes, |e, code| {
            e.text_if((0x0008, 0x0100), b"SH", code.code_value.as_deref());
            e.text_if((0x0008, 0x0102), b"SH", code.coding_scheme_designator.as_deref());
            e.text_if((0x0008, 0x0103), b"SH", code.coding_scheme_version.as_deref());
            e.text_if((0x0008, 0x0104), b"LO", code.code_meaning.as_deref());
            e.text_if((0x0008, 0x010C), b"UI", code.coding_scheme_uid.as_deref());
            e.text_if((0x0008, 0x0119), b"UC", code.long_code_value.as_deref());
            e.text_if((0x0008, 0x0120), b"UR", code.urn_code_value.as_deref());
        });
    }
}

/// A code of scheme DCM (PS3.16 Annex D).
pub fn dcm(value: &str, meaning: &str) -> CodeItem {
    CodeItem {
        code_value: Some(value.to_owned()),
        coding_scheme_designator: Some("DCM".to_owned()),
        code_meaning: Some(meaning.to_owned()),
        ..CodeItem::default()
    }
}

type Tag = (u16, u16);

const UNDEFINED: [u8; 4] = [0xFF; 4];

/// Element writer; the first value that does not fit is kept as the error.
#[derive(Default)]
struct Encoder {
    out: Vec<u8>,
    error: Option<ManifestWriteError>,
}

impl Encoder {
    fn finish(self) -> Result<Vec<u8>, ManifestWriteError> {
        match self.error {
            None => Ok(self.out),
            Some(error) => Err(error),
        }
    }

    fn tag(&mut self, (group, element): Tag) {
        self.out.extend_from_slice(&group.to_le_bytes());
        self.out.extend_from_slice(&element.to_le_bytes());
    }

    /// An element whose value has even length.
    fn bytes(&mut self, tag: Tag, vr: &[u8; 2], value: &[u8]) {
        self.tag(tag);
        self.out.extend_from_slice(vr);
        let length = u32::try_from(value.len());
        if matches!(vr, b"OB" | b"UT" | b"UC" | b"UR") {
            self.out.extend_from_slice(&[0, 0]);
            self.out.extend_from_slice(&length.unwrap_or(0).to_le_bytes());
        } else {
            let short = length.ok().and_then(|length| u16::try_from(length).ok());
            if short.is_none() {
                self.error.get_or_insert(ManifestWriteError::ValueTooLong { group: tag.0, element: tag.1 });
            }
            self.out.extend_from_slice(&short.unwrap_or(0).to_le_bytes());
        }
        if length.is_err() {
            self.error.get_or_insert(ManifestWriteError::ValueTooLong { group: tag.0, element: tag.1 });
        }
        self.out.extend_from_slice(value);
    }

    fn text(&mut self, tag: Tag, vr: &[u8; 2], value: &str) {
        let mut padded = value.as_bytes().to_vec();
        if padded.len() % 2 == 1 {
            padded.push(if vr == b"UI" { 0 } else { b' ' });
        }
        self.bytes(tag, vr, &padded);
    }

    fn text_if(&mut self, tag: Tag, vr: &[u8; 2], value: Option<&str>) {
        if let Some(value) = value {
            self.text(tag, vr, value);
        }
    }

    fn empty_sequence(&mut self, tag: Tag) {
        self.tag(tag);
        self.out.extend_from_slice(b"SQ\0\0\0\0\0\0");
    }

    fn sequence<T>(&mut self, tag: Tag, items: &[T], mut content: impl FnMut(&mut Self, &T)) {
        if items.is_empty() {
            return self.empty_sequence(tag);
        }
        self.begin(tag);
        for item in items {
            self.item(|e| content(e, item));
        }
        self.end();
    }

    fn begin(&mut self, tag: Tag) {
        self.tag(tag);
        self.out.extend_from_slice(b"SQ\0\0");
        self.out.extend_from_slice(&UNDEFINED);
    }

    fn end(&mut self) {
        self.tag((0xFFFE, 0xE0DD));
        self.out.extend_from_slice(&[0; 4]);
    }

    fn item(&mut self, content: impl FnOnce(&mut Self)) {
        self.tag((0xFFFE, 0xE000));
        self.out.extend_from_slice(&UNDEFINED);
        content(self);
        self.tag((0xFFFE, 0xE00D));
        self.out.extend_from_slice(&[0; 4]);
    }
}

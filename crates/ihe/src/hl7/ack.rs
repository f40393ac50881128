//! The answer: MSH, MSA, ERR (HL7 §2.9, original mode).

use super::header::Header;

/// MSA-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckCode {
    /// Done.
    Aa,
    /// Not done: the content.
    Ae,
    /// Not done: the message, or its receiver.
    Ar,
}

impl AckCode {
    /// As in MSA-1.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aa => "AA",
            Self::Ae => "AE",
            Self::Ar => "AR",
        }
    }
}

/// ERR-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// `E`.
    Error,
    /// `W`.
    Warning,
}

/// HL7 table 0357.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the table")]
pub enum Condition {
    MessageAccepted,
    SegmentSequenceError,
    RequiredFieldMissing,
    DataTypeError,
    TableValueNotFound,
    UnsupportedMessageType,
    UnsupportedEventCode,
    UnsupportedProcessingId,
    UnsupportedVersionId,
    UnknownKeyIdentifier,
    DuplicateKeyIdentifier,
    ApplicationRecordLocked,
    ApplicationInternalError,
}

impl Condition {
    /// Code of the table.
    pub fn code(self) -> u16 {
        self.row().0
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            Self::MessageAccepted => (0, "Message accepted"),
            Self::SegmentSequenceError => (100, "Segment sequence error"),
            Self::RequiredFieldMissing => (101, "Required field missing"),
            Self::DataTypeError => (102, "Data type error"),
            Self::TableValueNotFound => (103, "Table value not found"),
            Self::UnsupportedMessageType => (200, "Unsupported message type"),
            Self::UnsupportedEventCode => (201, "Unsupported event code"),
            Self::UnsupportedProcessingId => (202, "Unsupported processing id"),
            Self::UnsupportedVersionId => (203, "Unsupported version id"),
            Self::UnknownKeyIdentifier => (204, "Unknown key identifier"),
            Self::DuplicateKeyIdentifier => (205, "Duplicate key identifier"),
            Self::ApplicationRecordLocked => (206, "Application record locked"),
            Self::ApplicationInternalError => (207, "Application internal error"),
        }
    }
}

/// Where in the message: segment, its number from 1, field, repetition from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Name of the segment.
    pub segment: &'static str,
    /// Which one of that name.
    pub number: usize,
    /// Field; 0: the segment.
    pub field: usize,
    /// Repetition; 0: the field.
    pub repetition: usize,
}

impl Location {
    /// A segment.
    pub const fn segment(segment: &'static str, number: usize) -> Self {
        Self { segment, number, field: 0, repetition: 0 }
    }

    /// A field of a segment.
    pub const fn field(segment: &'static str, number: usize, field: usize) -> Self {
        Self { segment, number, field, repetition: 1 }
    }
}

/// One ERR segment. No text repeats a value of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckError {
    /// Where.
    pub location: Option<Location>,
    /// Table 0357.
    pub condition: Condition,
    /// How grave.
    pub severity: Severity,
    /// Code of our own, ERR-5.1.
    pub code: String,
    /// What is wrong, ERR-5.2.
    pub text: String,
    /// What to do, ERR-8; empty: nothing.
    pub remedy: String,
}

/// An answer to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// MSA-1.
    pub code: AckCode,
    /// ERR segments.
    pub errors: Vec<AckError>,
}

impl Ack {
    /// The answer as bytes, in the separators and character set of the message: sender and receiver change places, version,
    /// processing id and character set are those of the message. `time`: MSH-7; `control_id`: MSH-10, unique at this receiver.
    pub fn write(&self, to: &Header, time: &str, control_id: &str) -> Vec<u8> {
        let separators = to.separators();
        let version = to.component(12, 1);
        let (old, event) = (is_before_2_5(&version), to.component(9, 2));
        let kind = match version.as_str() {
            // 2.3 knows no structure, and no event in an acknowledgement.
            "2.3" => vec!["ACK".to_owned()],
            _ if event.is_empty() => vec!["ACK".to_owned()],
            "2.3.1" | "2.4" if to.component(9, 3).is_empty() => vec!["ACK".to_owned(), event],
            _ => vec!["ACK".to_owned(), event, "ACK".to_owned()],
        };
        let component = |parts: &[String]| join(parts.iter().map(|part| escape(part, to)).collect(), separators.component);
        let mut msh = vec![b"MSH".to_vec(), vec![separators.component, separators.repetition, separators.escape, separators.subcomponent]];
        msh.extend([5, 6, 3, 4].map(|n| to.field(n).to_vec()));
        msh.extend([time.as_bytes().to_vec(), Vec::new(), component(&kind), control_id.as_bytes().to_vec()]);
        msh.extend([11, 12].map(|n| to.field(n).to_vec()));
        if !to.field(18).is_empty() {
            msh.extend([13, 14, 15, 16, 17].map(|_| Vec::new()));
            msh.push(to.field(18).to_vec());
        }
        let mut msa = vec![b"MSA".to_vec(), self.code.name().as_bytes().to_vec(), to.field(10).to_vec()];
        let first = self.errors.iter().find(|error| error.severity == Severity::Error);
        if let Some(error) = first.filter(|_| old) {
            let text: String = format!("{} {}", error.code, error.text).chars().take(80).collect();
            msa.push(escape(&text, to));
        }
        let mut lines = vec![join(msh, separators.field), join(msa, separators.field)];
        for error in &self.errors {
            let (code, name) = error.condition.row();
            let location = error.location.map(|at| at.parts()).unwrap_or_default();
            let fields = if old {
                let mut parts = location;
                parts.resize(3, String::new());
                let identity = [code.to_string(), name.to_owned(), "HL70357".to_owned()].map(|part| escape(&part, to));
                let mut parts: Vec<Vec<u8>> = parts.iter().map(|part| escape(part, to)).collect();
                parts.push(join(identity.to_vec(), separators.subcomponent));
                vec![b"ERR".to_vec(), join(parts, separators.component)]
            } else {
                let severity = if error.severity == Severity::Error { "E" } else { "W" };
                let mut fields = vec![b"ERR".to_vec(), Vec::new(), component(&location)];
                fields.push(component(&[code.to_string(), name.to_owned(), "HL70357".to_owned()]));
                fields.push(severity.into());
                fields.push(component(&[error.code.clone(), error.text.clone(), "L".to_owned()]));
                if !error.remedy.is_empty() {
                    fields.extend([Vec::new(), Vec::new(), escape(&error.remedy, to)]);
                }
                fields
            };
            lines.push(join(fields, separators.field));
        }
        let mut bytes = join(lines, b'\r');
        bytes.push(b'\r');
        bytes
    }

    /// The answer to something that has no header (`MSA|AR|`).
    pub fn without_header(time: &str, control_id: &str) -> Vec<u8> {
        format!(
            "MSH|^~\\&|||||{time}||ACK|{control_id}|P|2.5.1\rMSA|AR|\r\
             ERR||MSH^1|100^Segment sequence error^HL70357|E|IDR-H-06^The MSH segment cannot be read^L\r"
        )
        .into_bytes()
    }
}

impl Location {
    fn parts(self) -> Vec<String> {
        let mut parts = vec![self.segment.to_owned(), self.number.to_string()];
        parts.extend([self.field, self.repetition].into_iter().take_while(|n| *n > 0).map(|n| n.to_string()));
        parts
    }
}

fn is_before_2_5(version: &str) -> bool {
    matches!(version, "2.1" | "2.2" | "2.3" | "2.3.1" | "2.4")
}

fn join(parts: Vec<Vec<u8>>, separator: u8) -> Vec<u8> {
    parts.join(&separator)
}

/// Text of ours, which is ASCII, with the message's separators escaped.
fn escape(text: &str, of: &Header) -> Vec<u8> {
    let separators = of.separators();
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        let name = match byte {
            b if b == separators.field => b'F',
            b if b == separators.component => b'S',
            b if b == separators.subcomponent => b'T',
            b if b == separators.repetition => b'R',
            b if b == separators.escape => b'E',
            b'\r' | b'\n' => {
                bytes.push(b' ');
                continue;
            }
            b => {
                bytes.push(if b.is_ascii() { b } else { b'?' });
                continue;
            }
        };
        bytes.extend([separators.escape, name, separators.escape]);
    }
    bytes
}

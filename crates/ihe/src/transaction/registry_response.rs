//! `rs:RegistryResponse` (ebRS 3.0 §2.1; ITI TF-3 §4.2.4): the answer of submissions, and part of all other answers.

use crate::soap::{Envelope, Refusal};
use crate::xml::{Element, Ns, Reader, Writer, XmlError};

/// `@status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All done.
    Success,
    /// Some of several items done.
    PartialSuccess,
    /// Nothing done.
    Failure,
}

/// `@severity` of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The item was done all the same.
    Warning,
    /// The item was not done.
    Error,
}

/// `rs:RegistryError`.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// `errorCode`, e.g. `XDSRegistryMetadataError`.
    pub error_code: String,
    /// `codeContext`; see [`code_context`] for ours.
    pub code_context: String,
    /// `severity`.
    pub severity: Severity,
    /// `location`.
    pub location: Option<String>,
}

impl std::fmt::Debug for RegistryError {
    // codeContext may hold the patient id that the sender sent (profile 09 §2.3).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryError({:?}, {})", self.severity, self.error_code)
    }
}

/// A registry's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryResponse {
    /// Status.
    pub status: Status,
    /// Errors and warnings in order.
    pub errors: Vec<RegistryError>,
}

const STATUS: [(Status, &str); 3] = [
    (Status::Success, "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"),
    (Status::PartialSuccess, "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"),
    (Status::Failure, "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"),
];
const SEVERITY: &str = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:";

impl Status {
    /// The status URN.
    pub fn urn(self) -> &'static str {
        STATUS.iter().find(|(status, _)| *status == self).map_or("", |(_, urn)| urn)
    }

    /// The status of a URN.
    pub fn from_urn(urn: &str) -> Option<Self> {
        STATUS.iter().find(|(_, known)| *known == urn.trim()).map(|(status, _)| *status)
    }
}

impl Severity {
    /// The severity URN.
    pub fn urn(self) -> String {
        format!("{SEVERITY}{}", if self == Self::Error { "Error" } else { "Warning" })
    }
}

impl RegistryResponse {
    /// Success without warnings.
    pub const SUCCESS: Self = Self { status: Status::Success, errors: Vec::new() };

    /// Failure.
    pub fn failure(errors: Vec<RegistryError>) -> Self {
        Self { status: Status::Failure, errors }
    }

    /// Has the peer kept the form of ITI TF-3 §4.2.4.1: Success without errors, the other two with at least one?
    pub fn is_consistent(&self) -> bool {
        self.errors.iter().any(|error| error.severity == Severity::Error) != (self.status == Status::Success)
    }
}

/// Writes the Body's child of a submission's answer.
pub fn encode(response: &RegistryResponse) -> String {
    let mut writer = Writer::new();
    writer.start(Ns::Rs, "RegistryResponse").declare(Ns::Rs);
    write_inside(&mut writer, response);
    writer.finish()
}

/// Writes status and error list into the element just begun, whose type is RegistryResponseType. The prefix `rs` must be
/// declared.
pub(crate) fn write_inside(writer: &mut Writer, response: &RegistryResponse) {
    writer.attribute("status", response.status.urn());
    let Some(highest) = response.errors.iter().map(|error| error.severity).max() else { return };
    writer.start(Ns::Rs, "RegistryErrorList").attribute("highestSeverity", &highest.urn());
    for error in &response.errors {
        writer
            .start(Ns::Rs, "RegistryError")
            .attribute("errorCode", &error.error_code)
            .attribute("codeContext", &error.code_context)
            .attribute("severity", &error.severity.urn())
            .attribute_if("location", error.location.as_deref())
            .end();
    }
    writer.end();
}

/// Reads the answer of a submission.
///
/// # Errors
/// [`Refusal::Body`] if the Body holds something else (look for a fault first), [`Refusal::Xml`].
pub fn read(envelope: &Envelope<'_>) -> Result<RegistryResponse, Refusal> {
    let (mut reader, element) = envelope.body(Ns::Rs, "RegistryResponse")?;
    Ok(read_inside(&mut reader, &element, |reader, child| reader.unknown(child))?)
}

/// Reads `element`, whose type is RegistryResponseType or extends it; `own` consumes what the extension adds.
pub(crate) fn read_inside<'a>(
    reader: &mut Reader<'a>,
    element: &Element<'_>,
    mut own: impl FnMut(&mut Reader<'a>, &Element<'a>) -> Result<(), XmlError>,
) -> Result<RegistryResponse, XmlError> {
    let status = element.attribute("status").and_then(|urn| Status::from_urn(&urn));
    let status = status.ok_or(XmlError::Malformed { position: element.position })?;
    let mut errors = Vec::new();
    while let Some(child) = reader.child()? {
        match (child.ns, child.local()) {
            (Ns::Rs, "ResponseSlotList") => reader.skip()?,
            (Ns::Rs, "RegistryErrorList") => {
                while let Some(error) = reader.child()? {
                    if !error.is(Ns::Rs, "RegistryError") {
                        reader.unknown(&error)?;
                        continue;
                    }
                    errors.push(RegistryError {
                        error_code: error.attribute("errorCode").unwrap_or_default(),
                        code_context: error.attribute("codeContext").unwrap_or_default(),
                        // The schema's default is Error; whatever is no Warning counts as one.
                        severity: match error.attribute("severity") {
                            Some(urn) if urn.trim().ends_with(":Warning") => Severity::Warning,
                            _ => Severity::Error,
                        },
                        location: error.attribute("location"),
                    });
                    reader.skip()?;
                }
            }
            _ => own(reader, &child)?,
        }
    }
    Ok(RegistryResponse { status, errors })
}

/// `codeContext` of our errors (profile 09 §2): `<code> <errorCode> [key=value …]: <text>`, at most 512 ASCII characters.
/// Bytes of a value outside of the grammar become `%XX`; a value is cut at 128 characters, and keys that do not fit are
/// left out.
pub fn code_context(code: &str, error_code: &str, keys: &[(&str, &str)], text: &str) -> String {
    let mut context = format!("{code} {error_code}");
    for (key, value) in keys {
        let mut encoded = String::new();
        let bytes = value.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            // A value never ends with `:`, which would end the keys.
            let plain = (byte.is_ascii_alphanumeric() || b"-._~:^&/+".contains(byte)) && !(*byte == b':' && at + 1 == bytes.len());
            let piece = if plain { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
            if encoded.len() + piece.len() > 128 {
                break;
            }
            encoded.push_str(&piece);
        }
        let encoded = encoded.trim_end_matches(':');
        if !encoded.is_empty() && context.len() + key.len() + encoded.len() + text.len() + 4 <= 512 {
            context.push_str(&format!(" {key}={encoded}"));
        }
    }
    context.push_str(": ");
    context.push_str(text);
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_context_keeps_the_grammar_whatever_was_sent() {
        assert_eq!(
            code_context("IDR-M-140", "XDSUnknownPatientId", &[("pid", "T-17^^^&1.2&ISO"), ("conflict", "set")], "patient is unknown"),
            "IDR-M-140 XDSUnknownPatientId pid=T-17^^^&1.2&ISO conflict=set: patient is unknown"
        );
        assert_eq!(code_context("IDR-Q-06", "E", &[("val", "ä b:")], "t"), "IDR-Q-06 E val=%C3%A4%20b%3A: t");
        let long = "x".repeat(300);
        let context = code_context("IDR-Q-06", "E", &[("val", &long), ("a", &long), ("b", &long), ("c", &long)], "t");
        assert!(context.len() <= 512 && context.ends_with(": t"), "{context}");
        assert!(code_context("IDR-Q-06", "E", &[("val", &format!("{}:y", "x".repeat(127)))], "t").ends_with("x: t"));
    }
}

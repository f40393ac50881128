//! Content-Type: media type, parameters, and what they say about the frame of a message.

use super::multipart;
use super::refusal::Refusal;

/// A media type with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// `type/subtype` in lower case.
    pub essence: String,
    /// Parameters in order, names in lower case, values unquoted.
    pub parameters: Vec<(String, String)>,
}

/// A Content-Type that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Content-Type is malformed")]
pub struct ContentTypeError;

impl MediaType {
    /// Reads a field value: parameters quoted or not, folded lines, any case; at most 8 192 bytes.
    ///
    /// # Errors
    /// [`ContentTypeError`], also when a parameter occurs twice.
    pub fn parse(value: &str) -> Result<Self, ContentTypeError> {
        if value.len() > 8_192 {
            return Err(ContentTypeError);
        }
        let mut rest = value.trim();
        let end = rest.find(';').unwrap_or(rest.len());
        let essence = rest[..end].trim().to_ascii_lowercase();
        match essence.split_once('/') {
            Some((kind, subtype)) if is_token(kind) && is_token(subtype) => {}
            _ => return Err(ContentTypeError),
        }
        rest = &rest[end..];
        let mut parameters: Vec<(String, String)> = Vec::new();
        while let Some(next) = rest.strip_prefix(';') {
            rest = next.trim_start();
            if rest.is_empty() {
                break;
            }
            let (name, after) = rest.split_once('=').ok_or(ContentTypeError)?;
            let name = name.trim().to_ascii_lowercase();
            if !is_token(&name) || parameters.iter().any(|(known, _)| *known == name) {
                return Err(ContentTypeError);
            }
            let (value, after) = parameter_value(after.trim_start())?;
            parameters.push((name, value));
            rest = after.trim_start();
        }
        if rest.is_empty() { Ok(Self { essence, parameters }) } else { Err(ContentTypeError) }
    }

    /// A parameter by its lower-case name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Is the charset absent or UTF-8?
    pub fn is_utf8(&self) -> bool {
        self.parameter("charset").is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
    }
}

fn parameter_value(text: &str) -> Result<(String, &str), ContentTypeError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ';' || c.is_ascii_whitespace()).unwrap_or(text.len());
        // More than a token: many writers leave boundary, start and type unquoted although they hold `/`, `@`, `<` or `:`.
        return if end > 0 && !text[..end].contains(['"', '\\']) {
            Ok((text[..end].to_owned(), &text[end..]))
        } else {
            Err(ContentTypeError)
        };
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next().ok_or(ContentTypeError)?.1),
            // The line break of a fold is no part of the value.
            '\r' | '\n' => {}
            c => value.push(c),
        }
    }
    Err(ContentTypeError)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

/// How a SOAP message is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// `application/soap+xml`.
    Plain,
    /// MTOM: `multipart/related; type="application/xop+xml"`.
    Mtom {
        /// 1–70 characters.
        boundary: String,
        /// Content-ID of the root part without angle brackets; absent: the first part.
        start: Option<String>,
    },
}

impl Framing {
    /// Reads the Content-Type of a message.
    ///
    /// # Errors
    /// S-02 (other media type or malformed), S-04 (charset), S-22 (boundary absent or malformed).
    pub fn of(content_type: Option<&str>) -> Result<Self, Refusal> {
        let media_type = content_type.and_then(|value| MediaType::parse(value).ok()).ok_or(Refusal::MediaType)?;
        match media_type.essence.as_str() {
            "application/soap+xml" => {
                if media_type.is_utf8() {
                    Ok(Self::Plain)
                } else {
                    Err(Refusal::Charset)
                }
            }
            "multipart/related" if media_type.parameter("type").is_some_and(|kind| kind.eq_ignore_ascii_case("application/xop+xml")) => {
                let boundary = media_type.parameter("boundary").filter(|boundary| multipart::is_boundary(boundary));
                let boundary = boundary.ok_or(Refusal::Multipart(multipart::MultipartError::Boundary))?.to_owned();
                Ok(Self::Mtom { boundary, start: media_type.parameter("start").map(multipart::bare_content_id) })
            }
            _ => Err(Refusal::MediaType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_quoted_unquoted_and_folded() {
        let mtom = Framing::Mtom { boundary: "b:1".to_owned(), start: Some("0@idr".to_owned()) };
        for value in [
            "multipart/related; type=\"application/xop+xml\"; start=\"<0@idr>\"; start-info=\"application/soap+xml\"; boundary=\"b:1\"",
            "Multipart/Related;boundary=b:1;type=application/xop+xml;start=<0@idr>;start-info=\"application/soap+xml; action=\\\"x\\\"\"",
            "multipart/related;\r\n boundary=\"b:1\";\r\n\ttype=\"application/xop+xml\" ; START=\"<0@idr>\";",
        ] {
            assert_eq!(Framing::of(Some(value)).as_ref(), Ok(&mtom), "{value}");
        }
        assert_eq!(Framing::of(Some("application/soap+xml; charset=utf-8; action=\"urn:x\"")), Ok(Framing::Plain));
    }

    #[test]
    fn other_media_types_are_refused_with_their_rule() {
        for (value, rule) in [
            (None, "S-02"),
            (Some("text/xml"), "S-02"),
            (Some("multipart/form-data; boundary=b"), "S-02"),
            (Some("multipart/related; boundary=b"), "S-02"),
            (Some("multipart/related; boundary=b; boundary=c; type=\"application/xop+xml\""), "S-02"),
            (Some("application/soap+xml; charset=\"utf-16\""), "S-04"),
            (Some("multipart/related; type=\"application/xop+xml\""), "S-22"),
            (Some("multipart/related; type=\"application/xop+xml\"; boundary=\"\""), "S-22"),
        ] {
            assert_eq!(Framing::of(value).expect_err("refused").rule(), rule, "{value:?}");
        }
    }
}

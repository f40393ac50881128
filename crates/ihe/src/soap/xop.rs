//! Document content: base64 in line, or `xop:Include` of a part (XOP 1.0).

use super::base64_stream::{Base64Stream, NotBase64};
use super::refusal::Refusal;
use crate::xml::{Item, Ns, Reader, Writer};

/// Why document content cannot be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XopError {
    /// `xop:Include` without `href`, or `href` is not `cid:` and a percent-encoded id.
    #[error("xop:Include has no usable href")]
    Href,
    /// Two Includes, or an Include beside other content.
    #[error("xop:Include is not the only content of its element")]
    Mixed,
    /// An Include names no part.
    #[error("xop:Include names a part that is not in the message")]
    NoPart,
    /// Two Includes name one part.
    #[error("two xop:Include name one part")]
    PartTwice,
    /// The in-line content is not base64.
    #[error("in-line document content is not base64")]
    NotBase64,
}

impl XopError {
    /// The rule of profile 08 §3.
    pub fn rule(&self) -> &'static str {
        if *self == Self::NotBase64 { "S-28" } else { "S-24" }
    }
}

/// Content of a Document element.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Bytes that stood in line; may be empty.
    Inline(Vec<u8>),
    /// Content-ID of the part that holds the bytes, without `cid:` and brackets.
    Part(String),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::Part(id) => write!(f, "Part({id:?})"),
        }
    }
}

/// Reads the content of the `xdsb:Document` that the reader has just entered, up to its end.
///
/// # Errors
/// S-06, S-24, S-28, S-32.
pub fn read_content(reader: &mut Reader<'_>) -> Result<Content, Refusal> {
    let (mut inline, mut stream, mut text_seen) = (Vec::new(), Base64Stream::default(), false);
    let mut part = None;
    loop {
        match reader.item()? {
            Item::Element(element) if element.is(Ns::Xop, "Include") => {
                if part.is_some() || text_seen {
                    return Err(XopError::Mixed.into());
                }
                part = Some(content_id(&element.attribute("href").ok_or(XopError::Href)?)?);
                reader.skip()?;
            }
            Item::Element(element) if element.ns.is_closed() => reader.unknown(&element)?,
            Item::Element(_) => return Err(XopError::Mixed.into()),
            Item::Text(text) => {
                if text.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
                    continue;
                }
                text_seen = true;
                if part.is_some() {
                    return Err(XopError::Mixed.into());
                }
                stream.push(text.as_bytes(), &mut inline).map_err(|NotBase64| XopError::NotBase64)?;
            }
            Item::End | Item::Eof => break,
        }
    }
    stream.finish().map_err(|NotBase64| XopError::NotBase64)?;
    Ok(part.map_or(Content::Inline(inline), Content::Part))
}

/// Writes the content of the element just begun. In-line bytes become base64.
pub fn write_content(writer: &mut Writer, content: &Content) {
    match content {
        Content::Inline(bytes) => {
            use base64::Engine;
            writer.text(&base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        Content::Part(id) => {
            writer.start(Ns::Xop, "Include").declare(Ns::Xop).attribute("href", &href(id)).end();
        }
    }
}

/// The Content-ID that a `cid:` URL names (RFC 2392).
///
/// # Errors
/// [`XopError::Href`].
pub fn content_id(href: &str) -> Result<String, XopError> {
    let href = href.trim();
    let encoded = href.get(..4).filter(|scheme| scheme.eq_ignore_ascii_case("cid:")).map(|_| &href[4..]).ok_or(XopError::Href)?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok()).ok_or(XopError::Href);
        bytes.push(digit(rest.next())? * 16 + digit(rest.next())?);
    }
    let id = String::from_utf8(bytes).map_err(|_| XopError::Href)?;
    if id.is_empty() { Err(XopError::Href) } else { Ok(id) }
}

/// The `cid:` URL of a Content-ID.
pub fn href(content_id: &str) -> String {
    let mut url = "cid:".to_owned();
    for byte in content_id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@!$&'()*+,;=:".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// For each referenced Content-ID the position of its part in `parts` (the Content-IDs of all parts but the root).
/// Parts that nobody references are left over (S-26).
///
/// # Errors
/// [`XopError::NoPart`], [`XopError::PartTwice`].
pub fn resolve<'a>(references: impl IntoIterator<Item = &'a str>, parts: &[Option<String>]) -> Result<Vec<usize>, XopError> {
    let positions: std::collections::HashMap<&str, usize> =
        parts.iter().enumerate().filter_map(|(position, id)| id.as_deref().map(|id| (id, position))).collect();
    let mut taken = std::collections::HashSet::new();
    references
        .into_iter()
        .map(|reference| {
            let position = *positions.get(reference).ok_or(XopError::NoPart)?;
            if taken.insert(position) { Ok(position) } else { Err(XopError::PartTwice) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Limits;

    fn read(content: &str) -> Result<Content, &'static str> {
        let text = format!("<Document xmlns='urn:ihe:iti:xds-b:2007' xmlns:x='http://www.w3.org/2004/08/xop/include'>{content}</Document>");
        let mut reader = Reader::new(text.as_bytes(), Limits::default()).map_err(|e| e.rule())?;
        reader.root().map_err(|e| e.rule())?;
        read_content(&mut reader).map_err(|e| e.rule())
    }

    #[test]
    fn content_is_in_line_or_one_include() {
        assert_eq!(read(" aGVs\n bG8= "), Ok(Content::Inline(b"hello".to_vec())));
        assert_eq!(read(""), Ok(Content::Inline(Vec::new())));
        assert_eq!(read("\n <x:Include href='cid:a%40b%20c'/> \n"), Ok(Content::Part("a@b c".to_owned())));
        for (content, rule) in [
            ("<x:Include/>", "S-24"),
            ("<x:Include href='http://x'/>", "S-24"),
            ("<x:Include href='cid:%4'/>", "S-24"),
            ("<x:Include href='cid:'/>", "S-24"),
            ("<x:Include href='cid:a'/><x:Include href='cid:b'/>", "S-24"),
            ("aGVs<x:Include href='cid:a'/>", "S-24"),
            ("<x:Include href='cid:a'/>aGVs", "S-24"),
            ("a-b_", "S-28"),
            ("<Document/>", "S-32"),
        ] {
            assert_eq!(read(content), Err(rule), "{content}");
        }
    }

    #[test]
    fn each_reference_takes_its_own_part() {
        let parts = [Some("a".to_owned()), None, Some("b".to_owned())];
        assert_eq!(resolve(["b", "a"], &parts), Ok(vec![2, 0]));
        assert_eq!(resolve(["c"], &parts), Err(XopError::NoPart));
        assert_eq!(resolve(["a", "a"], &parts), Err(XopError::PartTwice));
        assert_eq!(content_id(&href("1 %@idr")).as_deref(), Ok("1 %@idr"));
    }
}

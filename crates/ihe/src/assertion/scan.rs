//! One pass over the bytes that keeps nothing: bounds, forbidden constructs, where the assertion is (profile 04 §11 V1–V3).

use uppsala::pull::{PullEvent, PullParser};
use uppsala::{Document, Parser};

use super::{AssertionError, Defect, NS_SAML, NS_SOAP, NS_WSSE, NS_WSU};

const NS_XML: &str = "http://www.w3.org/XML/1998/namespace";
const NS_XINCLUDE: &str = "http://www.w3.org/2001/XInclude";
/// Deeper than any accepted message, so that depth is told as a bound and not as bad syntax (10 §11 BD-15).
const PARSER_DEPTH: u32 = 65;
/// Attributes of one element of the body (10 §11 BD-15); counted before a parser compares them with each other.
const BODY_ATTRIBUTES: usize = 64;

/// How an assertion arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// In `wsse:Security` of a SOAP 1.2 envelope.
    Envelope,
    /// Alone, as the document element.
    Alone,
}

/// Bounds of profile 04 §11 V1, §6 and §11 V8; all inclusive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Envelope up to the end of its header, in bytes.
    pub header_bytes: usize,
    /// Assertion element, in bytes.
    pub assertion_bytes: usize,
    /// Depth of elements in the header part; the document element has depth 1.
    pub depth: u32,
    /// Elements in the header part.
    pub elements: usize,
    /// Attributes of one element, without namespace declarations.
    pub attributes: usize,
    /// Namespace declarations in the header part.
    pub namespaces: usize,
    /// One text or attribute value, in bytes.
    pub value_bytes: usize,
    /// Prefixes of one `InclusiveNamespaces/@PrefixList`.
    pub prefixes: usize,
    /// Canonical bytes of the assertion.
    pub canonical_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 262_144,
            assertion_bytes: 16_384,
            depth: 24,
            elements: 400,
            attributes: 16,
            namespaces: 64,
            value_bytes: 4096,
            prefixes: 8,
            canonical_bytes: 65_536,
        }
    }
}

/// The header part as a tree, and what was counted in the whole message.
pub(super) struct Scanned {
    /// The envelope without its body, or the lone assertion.
    pub document: Document<'static>,
    /// `saml2:Assertion` elements in the whole message.
    pub assertions: usize,
    /// `wsse:Security` elements in the whole message.
    pub security_headers: usize,
    /// Values of ID-like attributes: all of the header part, and of the body those that equal one of the header part's assertions.
    pub ids: Vec<String>,
    /// Bytes of the last assertion of the header part, as received.
    pub received: Vec<u8>,
}

/// Runs V1 and V2 over a message.
///
/// # Errors
/// [`Defect::Bound`], [`Defect::Syntax`], and [`Defect::Missing`] if an envelope has no header.
pub(super) fn scan(bytes: &[u8], carriage: Carriage, limits: &Limits) -> Result<Scanned, AssertionError> {
    if carriage == Carriage::Alone && bytes.len() > limits.assertion_bytes {
        return Err(Defect::Bound.because("the assertion is longer than its bound"));
    }
    attributes_bounded(bytes, BODY_ATTRIBUTES)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Defect::Syntax.because("not UTF-8"))?;
    let mut pass = Pass::new(carriage, limits);
    let mut parser = PullParser::new(text).with_forbid_dtd(true).with_forbid_entities(true).with_max_depth(PARSER_DEPTH);
    loop {
        match parser.next_event() {
            Ok(Some(event)) => pass.event(&event)?,
            Ok(None) => break,
            Err(_) => return Err(Defect::Syntax.because("not well-formed XML, or a DTD or entity")),
        }
    }
    let part = match (carriage, pass.header_end) {
        (Carriage::Alone, _) => text.to_owned(),
        (Carriage::Envelope, Some(end)) => format!("{}</{}>", text.get(..end).unwrap_or_default(), pass.envelope),
        (Carriage::Envelope, None) => return Err(Defect::Missing.because("no SOAP 1.2 envelope with a header")),
    };
    let document = Parser::new()
        .with_forbid_dtd(true)
        .with_forbid_entities(true)
        .with_max_depth(PARSER_DEPTH)
        .parse(&part)
        .map_err(|_| Defect::Syntax.because("not well-formed XML"))?
        .into_static();
    let received = bytes.get(pass.received).unwrap_or_default().to_vec();
    Ok(Scanned { document, assertions: pass.assertions, security_headers: pass.security_headers, ids: pass.ids, received })
}

struct Pass<'l> {
    limits: &'l Limits,
    carriage: Carriage,
    /// Qualified name of the envelope, to close the header part with.
    envelope: String,
    /// Still in the part that becomes a tree.
    in_part: bool,
    header_end: Option<usize>,
    elements: usize,
    namespaces: usize,
    assertions: usize,
    security_headers: usize,
    /// Depth and offset of the outermost open assertion.
    open_assertion: Option<(u32, usize)>,
    assertion_ids: Vec<String>,
    ids: Vec<String>,
    received: std::ops::Range<usize>,
}

impl<'l> Pass<'l> {
    fn new(carriage: Carriage, limits: &'l Limits) -> Self {
        Self {
            limits,
            carriage,
            envelope: String::new(),
            in_part: true,
            header_end: None,
            elements: 0,
            namespaces: 0,
            assertions: 0,
            security_headers: 0,
            open_assertion: None,
            assertion_ids: Vec::new(),
            ids: Vec::new(),
            received: 0..0,
        }
    }

    fn event(&mut self, event: &PullEvent<'_>) -> Result<(), AssertionError> {
        match event {
            PullEvent::XmlDeclaration(declaration) => {
                let utf_8 = declaration.encoding.as_deref().is_none_or(|e| e.eq_ignore_ascii_case("UTF-8"));
                if !utf_8 || declaration.version != "1.0" {
                    return Err(Defect::Syntax.because("declared as something else than UTF-8 XML 1.0"));
                }
            }
            PullEvent::Doctype(_) => return Err(Defect::Syntax.because("a document type declaration")),
            PullEvent::ProcessingInstruction { .. } => return Err(Defect::Syntax.because("a processing instruction")),
            PullEvent::Comment { .. } | PullEvent::CData { .. } if self.open_assertion.is_some() => {
                return Err(Defect::Syntax.because("a comment or CDATA section inside the assertion"));
            }
            PullEvent::Text { content, .. } | PullEvent::CData { content, .. } if self.in_part => self.bounded(content.len())?,
            PullEvent::StartElement { name, attributes, namespace_declarations, byte_start, depth, .. } => {
                self.start(name, attributes, namespace_declarations, *byte_start, *depth)?;
            }
            PullEvent::EndElement { name, byte_end, depth, .. } => self.end(name, *byte_end, *depth)?,
            _ => {}
        }
        Ok(())
    }

    fn bounded(&self, bytes: usize) -> Result<(), AssertionError> {
        if bytes <= self.limits.value_bytes {
            Ok(())
        } else {
            Err(Defect::Bound.because("a text or attribute value is longer than its bound"))
        }
    }

    fn start(
        &mut self,
        name: &uppsala::QName<'_>,
        attributes: &[uppsala::Attribute<'_>],
        declarations: &[(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)],
        offset: usize,
        depth: u32,
    ) -> Result<(), AssertionError> {
        if depth == 0 {
            if self.carriage == Carriage::Envelope && !name.matches(Some(NS_SOAP), "Envelope") {
                return Err(Defect::Missing.because("the message is no SOAP 1.2 envelope"));
            }
            self.envelope = name.prefixed_name().into_owned();
        }
        if self.carriage == Carriage::Envelope && depth == 1 && self.header_end.is_none() && !name.matches(Some(NS_SOAP), "Header") {
            return Err(Defect::Missing.because("the envelope has no header before its body"));
        }
        if name.matches(Some(NS_WSSE), "Security") {
            self.security_headers += 1;
        }
        let assertion = name.matches(Some(NS_SAML), "Assertion");
        if assertion {
            self.assertions += 1;
        }
        self.identifiers(attributes, assertion);
        if !self.in_part {
            return Ok(());
        }
        self.elements += 1;
        self.namespaces += declarations.len();
        let exceeded = self.elements > self.limits.elements
            || self.namespaces > self.limits.namespaces
            || attributes.len() > self.limits.attributes
            || depth >= self.limits.depth
            || self.carriage == Carriage::Envelope && offset > self.limits.header_bytes;
        if exceeded {
            return Err(Defect::Bound.because("more bytes, depth, elements, attributes or namespaces than the bounds of the header part"));
        }
        for attribute in attributes {
            self.bounded(attribute.value.len())?;
            if attribute.name.matches(Some(NS_XML), "base") {
                return Err(Defect::Syntax.because("xml:base"));
            }
        }
        for (prefix, uri) in declarations {
            self.bounded(uri.len())?;
            if !prefix.is_empty() && uri.is_empty() {
                return Err(Defect::Syntax.because("a prefix bound to no namespace"));
            }
        }
        if name.namespace_uri.as_deref() == Some(NS_XINCLUDE) {
            return Err(Defect::Syntax.because("XInclude"));
        }
        if assertion && self.open_assertion.is_none() {
            self.open_assertion = Some((depth, offset));
        }
        Ok(())
    }

    /// `ID`, `Id`, `id`, `wsu:Id`, `xml:id`: kept in the header part; later only if they repeat an assertion's.
    fn identifiers(&mut self, attributes: &[uppsala::Attribute<'_>], assertion: bool) {
        for attribute in attributes {
            let like = match attribute.name.namespace_uri.as_deref() {
                None => matches!(&*attribute.name.local_name, "ID" | "Id" | "id"),
                Some(NS_WSU) => attribute.name.local_name == "Id",
                Some(NS_XML) => attribute.name.local_name == "id",
                Some(_) => false,
            };
            if !like {
                continue;
            }
            if assertion && self.in_part {
                self.assertion_ids.push(attribute.value.to_string());
            }
            if self.in_part || self.assertion_ids.iter().any(|id| *id == attribute.value) {
                self.ids.push(attribute.value.to_string());
            }
        }
    }

    fn end(&mut self, name: &uppsala::QName<'_>, offset: usize, depth: u32) -> Result<(), AssertionError> {
        if let Some((opened, start)) = self.open_assertion
            && depth == opened
        {
            if offset - start > self.limits.assertion_bytes {
                return Err(Defect::Bound.because("the assertion is longer than its bound"));
            }
            self.open_assertion = None;
            self.received = start..offset;
        }
        if self.carriage == Carriage::Envelope && depth == 1 && self.header_end.is_none() && name.matches(Some(NS_SOAP), "Header") {
            if offset > self.limits.header_bytes {
                return Err(Defect::Bound.because("the header part of the envelope is longer than its bound"));
            }
            self.header_end = Some(offset);
            self.in_part = false;
        }
        Ok(())
    }
}

/// Refuses a start tag with more than `most` attributes, without reading them: a parser that looks for duplicates compares each
/// with each. Anything that is no start tag is passed over; a malformed document is left to the parser.
fn attributes_bounded(bytes: &[u8], most: usize) -> Result<(), AssertionError> {
    let mut rest = bytes;
    while let Some(open) = rest.iter().position(|b| *b == b'<') {
        rest = &rest[open + 1..];
        let skip_past: Option<&[u8]> = match rest {
            [b'!', b'-', b'-', ..] => Some(b"-->"),
            [b'!', b'[', ..] => Some(b"]]>"),
            [b'?', ..] => Some(b"?>"),
            _ => None,
        };
        if let Some(end) = skip_past {
            match rest.windows(end.len()).position(|window| window == end) {
                Some(at) => rest = &rest[at + end.len()..],
                None => return Ok(()),
            }
            continue;
        }
        let mut values = 0;
        loop {
            // Without a further delimiter no start tag can have a value.
            let Some(at) = rest.iter().position(|b| matches!(b, b'>' | b'"' | b'\'')) else { return Ok(()) };
            let found = rest[at];
            rest = &rest[at + 1..];
            if found == b'>' {
                break;
            }
            values += 1;
            if values > most {
                return Err(Defect::Bound.because("an element with more attributes than its bound"));
            }
            match rest.iter().position(|b| *b == found) {
                Some(end) => rest = &rest[end + 1..],
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_counted_before_they_are_compared() {
        let many = |n: usize| format!("<a {}/>", (0..n).map(|i| format!("x{i}='<\">' ")).collect::<String>());
        assert!(attributes_bounded(many(64).as_bytes(), 64).is_ok());
        assert!(attributes_bounded(many(65).as_bytes(), 64).is_err());
        let inside = format!("<!-- {} --><?x {}?><![CDATA[{}]]><a/>", many(65), many(65), many(65));
        assert!(attributes_bounded(inside.as_bytes(), 64).is_ok());
        assert!(attributes_bounded(b"<a b='", 64).is_ok());
    }

    #[test]
    fn a_body_is_passed_over_and_does_not_count() {
        let body: String = (0..500).map(|i| format!("<b id='i{i}'>{}</b>", "x".repeat(5000))).collect();
        let text = format!("<e:Envelope xmlns:e='{NS_SOAP}'><e:Header><h id='one'/></e:Header><e:Body>{body}</e:Body></e:Envelope>");
        let scanned = scan(text.as_bytes(), Carriage::Envelope, &Limits::default()).expect("accepted");
        assert_eq!(scanned.ids, ["one"]);
        assert!(scanned.document.input_text().is_empty());
    }

    #[test]
    fn an_envelope_without_a_header_has_no_assertion() {
        for text in [
            format!("<e:Envelope xmlns:e='{NS_SOAP}'><e:Body/></e:Envelope>"),
            format!("<e:Envelope xmlns:e='{NS_SOAP}'/>"),
            "<Envelope/>".to_owned(),
        ] {
            let error = scan(text.as_bytes(), Carriage::Envelope, &Limits::default()).err().expect("refused");
            assert_eq!(error.defect, Defect::Missing, "{text}");
        }
    }
}

//! Pull reader with bounds.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{NamespaceError, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

use super::{Ns, is_xml_char};

/// Bounds of one document (profile 10 BD-15). `Default` gives the profile's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nested elements.
    pub depth: usize,
    /// Elements in the document.
    pub elements: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Namespace declarations in scope at one place.
    pub namespaces: usize,
    /// Bytes of one qualified name.
    pub name_bytes: usize,
    /// Bytes of one text or attribute value; the base64 content of `xdsb:Document` is exempt.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 64, elements: 2_000_000, attributes: 64, namespaces: 64, name_bytes: 256, text_bytes: 1_048_576 }
    }
}

/// Why a document cannot be read. Carries byte positions, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Bytes are not UTF-8, or hold U+0000.
    #[error("the XML is not UTF-8 text: send UTF-8 without U+0000")]
    NotUtf8,
    /// The XML declaration names another encoding.
    #[error("the XML declaration names an encoding other than UTF-8")]
    Encoding,
    /// Not well-formed.
    #[error("the XML is not well-formed at byte {position}")]
    Malformed {
        /// Byte offset of the construct.
        position: usize,
    },
    /// A document type declaration.
    #[error("document type declaration at byte {position}: not accepted")]
    DocumentType {
        /// Byte offset.
        position: usize,
    },
    /// A processing instruction.
    #[error("processing instruction at byte {position}: not accepted")]
    ProcessingInstruction {
        /// Byte offset.
        position: usize,
    },
    /// A reference to an entity other than the five predefined ones.
    #[error("entity reference at byte {position}: not accepted")]
    Entity {
        /// Byte offset.
        position: usize,
    },
    /// An XInclude element.
    #[error("XInclude at byte {position}: not accepted")]
    XInclude {
        /// Byte offset.
        position: usize,
    },
    /// A bound of [`Limits`] is passed.
    #[error("more than {limit} {what} at byte {position}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// Byte offset.
        position: usize,
    },
    /// An element of a closed namespace that does not belong where it stands (profile 08 S-32).
    #[error("element at byte {position} in namespace {namespace} does not belong there")]
    UnknownElement {
        /// URI of the namespace.
        namespace: &'static str,
        /// Byte offset.
        position: usize,
    },
    /// `xop:Include` outside of `xdsb:Document` (profile 08 S-25).
    #[error("xop:Include at byte {position} outside of xdsb:Document")]
    Include {
        /// Byte offset.
        position: usize,
    },
}

impl XmlError {
    /// The rule of profile 08 §3 that is broken.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotUtf8 | Self::Encoding => "S-04",
            Self::UnknownElement { .. } => "S-32",
            Self::Include { .. } => "S-25",
            _ => "S-06",
        }
    }
}

/// What comes next in the current element.
#[derive(Debug)]
pub enum Item<'a> {
    /// A child element begins; the reader is inside it.
    Element(Element<'a>),
    /// Text, references resolved; one run of text may come in several pieces.
    Text(Cow<'a, str>),
    /// The current element ends; the reader is in its parent.
    End,
    /// The document ends.
    Eof,
}

/// The start tag of an element.
#[derive(Debug)]
pub struct Element<'a> {
    /// Its namespace.
    pub ns: Ns,
    /// Byte offset of `<`.
    pub position: usize,
    tag: BytesStart<'a>,
}

impl Element<'_> {
    /// Local name.
    pub fn local(&self) -> &str {
        self.tag.local_name().into_inner()
    }

    /// Is this element `ns:local`?
    pub fn is(&self, ns: Ns, local: &str) -> bool {
        self.ns == ns && self.local() == local
    }

    /// Value of the attribute `local` without namespace, normalised.
    pub fn attribute(&self, local: &str) -> Option<String> {
        self.raw(local)
    }

    /// Value of `xml:lang`.
    pub fn xml_lang(&self) -> Option<String> {
        self.raw("xml:lang")
    }

    /// Prefixes that this element declares; empty for the default namespace.
    pub(crate) fn declared_prefixes(&self) -> Vec<String> {
        self.tag
            .attributes()
            .with_checks(false)
            .flatten()
            .filter_map(|attribute| match attribute.key.as_namespace_binding()? {
                quick_xml::name::PrefixDeclaration::Default => Some(String::new()),
                quick_xml::name::PrefixDeclaration::Named(prefix) => Some(prefix.to_owned()),
            })
            .collect()
    }

    fn raw(&self, key: &str) -> Option<String> {
        let found = self.tag.attributes().with_checks(false).flatten().find(|attribute| attribute.key.0 == key)?;
        // The reader has checked every value before it handed out the element.
        found.normalized_value(XmlVersion::Implicit1_0).ok().map(Cow::into_owned)
    }
}

/// Reads a document from front to back. After [`Reader::child`] has given an element, the caller must consume it to its
/// end by `child` until `None`, [`Reader::text`] or [`Reader::skip`].
pub struct Reader<'a> {
    inner: NsReader<&'a [u8]>,
    limits: Limits,
    depth: usize,
    elements: usize,
    root_seen: bool,
    offset: usize,
    /// Depth of the `xdsb:Document` that the reader is in: its text is base64 and not bounded.
    unbounded_at: Option<usize>,
    includes_anywhere: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`. A byte order mark is skipped.
    ///
    /// # Errors
    /// [`XmlError::NotUtf8`]; [`XmlError::Malformed`] for a character that XML forbids.
    pub fn new(bytes: &'a [u8], limits: Limits) -> Result<Self, XmlError> {
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
        if let Some(position) = bytes.iter().position(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) {
            return Err(if bytes[position] == 0 { XmlError::NotUtf8 } else { XmlError::Malformed { position } });
        }
        if let Some(position) = text.find(['\u{FFFE}', '\u{FFFF}']) {
            return Err(XmlError::Malformed { position });
        }
        let body = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let mut inner = NsReader::from_str(body);
        inner.config_mut().expand_empty_elements = true;
        inner.config_mut().check_comments = true;
        inner.resolver_mut().set_max_namespace_bindings(limits.namespaces);
        let offset = text.len() - body.len();
        Ok(Self { inner, limits, depth: 0, elements: 0, root_seen: false, offset, unbounded_at: None, includes_anywhere: false })
    }

    /// Byte offset after the last item.
    pub fn position(&self) -> usize {
        self.offset + usize::try_from(self.inner.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The root element.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn root(&mut self) -> Result<Element<'a>, XmlError> {
        match self.item()? {
            Item::Element(element) => Ok(element),
            _ => Err(XmlError::Malformed { position: self.position() }),
        }
    }

    /// The next child element of the current element; `None` when the current element ends. Text between is passed over.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn child(&mut self) -> Result<Option<Element<'a>>, XmlError> {
        loop {
            match self.item()? {
                Item::Element(element) => return Ok(Some(element)),
                Item::Text(_) => {}
                Item::End | Item::Eof => return Ok(None),
            }
        }
    }

    /// The text of the current element up to its end. Elements of closed namespaces inside it are refused, others skipped.
    ///
    /// # Errors
    /// [`XmlError`], also when the pieces together pass the bound of text.
    pub fn text(&mut self) -> Result<String, XmlError> {
        let mut text = String::new();
        loop {
            match self.item()? {
                Item::Element(element) => self.unknown(&element)?,
                Item::Text(piece) => {
                    if text.len() + piece.len() > self.limits.text_bytes {
                        return Err(self.limit("bytes of text", self.limits.text_bytes));
                    }
                    text.push_str(&piece);
                }
                Item::End | Item::Eof => return Ok(text),
            }
        }
    }

    /// Passes over the rest of the current element.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn skip(&mut self) -> Result<(), XmlError> {
        let parent = self.depth.saturating_sub(1);
        while self.depth > parent {
            self.item()?;
        }
        Ok(())
    }

    /// An element that the caller does not know: refused in a closed namespace (S-32), else skipped.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn unknown(&mut self, element: &Element<'_>) -> Result<(), XmlError> {
        if element.ns.is_closed() {
            return Err(XmlError::UnknownElement { namespace: element.ns.uri(), position: element.position });
        }
        self.skip()
    }

    /// Whether `xop:Include` may stand outside of `xdsb:Document`: in the SOAP header, whose content the verifier of the
    /// assertion judges.
    pub(crate) fn allow_includes(&mut self, anywhere: bool) {
        self.includes_anywhere = anywhere;
    }

    /// The text of the current element read as a qualified name: namespace and local name.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn qualified_text(&mut self) -> Result<(Ns, String), XmlError> {
        let text = self.text()?;
        let name = quick_xml::name::QName(text.trim());
        // The scope of the element lasts until the next read.
        let ns = match self.inner.resolver().resolve_attribute(name).0 {
            ResolveResult::Bound(uri) => Ns::of(uri.0),
            ResolveResult::Unbound | ResolveResult::Unknown(_) => Ns::Unbound,
        };
        Ok((ns, name.local_name().into_inner().to_owned()))
    }

    /// Value of the attribute `ns:local` of the element that was read last.
    pub fn attribute(&self, element: &Element<'_>, ns: Ns, local: &str) -> Option<String> {
        let attributes = element.tag.attributes();
        let found = attributes.into_iter().with_checks(false).flatten().find(|attribute| {
            attribute.key.local_name().into_inner() == local
                && matches!(self.inner.resolver().resolve_attribute(attribute.key).0, ResolveResult::Bound(uri) if uri.0 == ns.uri())
        })?;
        found.normalized_value(XmlVersion::Implicit1_0).ok().map(Cow::into_owned)
    }

    /// Namespace URI of the element that was read last; empty if unbound.
    pub fn namespace(&self, element: &Element<'_>) -> String {
        match self.inner.resolver().resolve_element(element.tag.name()).0 {
            ResolveResult::Bound(uri) => uri.0.to_owned(),
            _ => String::new(),
        }
    }

    /// Declarations in scope inside the element that was read last, as `(prefix, URI)`; empty prefix: default.
    /// An inner declaration of a prefix hides the outer one; `xml` is left out.
    pub fn declarations(&self) -> Vec<(String, String)> {
        use quick_xml::name::PrefixDeclaration;
        self.inner
            .resolver()
            .bindings()
            .map(|(prefix, uri)| {
                let prefix = match prefix {
                    PrefixDeclaration::Default => "",
                    PrefixDeclaration::Named(name) => name,
                };
                (prefix.to_owned(), uri.0.to_owned())
            })
            .filter(|(prefix, _)| prefix != "xml" && prefix != "xmlns")
            .collect()
    }

    /// Reads to the end of the document; only white space and comments may follow.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn finish(&mut self) -> Result<(), XmlError> {
        loop {
            if matches!(self.item()?, Item::Eof) {
                return Ok(());
            }
        }
    }

    /// The next item.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn item(&mut self) -> Result<Item<'a>, XmlError> {
        loop {
            let position = self.position();
            let malformed = XmlError::Malformed { position };
            let event = match self.inner.read_event() {
                Ok(event) => event,
                Err(quick_xml::Error::Namespace(NamespaceError::TooManyBindings(limit))) => {
                    return Err(XmlError::Limit { what: "namespace declarations in scope", limit, position });
                }
                Err(_) => return Err(malformed),
            };
            match event {
                Event::Decl(declaration) => {
                    if position != self.offset {
                        return Err(malformed);
                    }
                    match declaration.encoding() {
                        None => {}
                        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("utf-8") => {}
                        Some(Ok(_)) => return Err(XmlError::Encoding),
                        Some(Err(_)) => return Err(malformed),
                    }
                }
                Event::DocType(_) => return Err(XmlError::DocumentType { position }),
                Event::PI(_) => return Err(XmlError::ProcessingInstruction { position }),
                Event::Comment(_) => {}
                Event::Start(tag) => return self.start(tag, position).map(Item::Element),
                Event::End(_) => {
                    if self.unbounded_at == Some(self.depth) {
                        self.unbounded_at = None;
                    }
                    self.depth = self.depth.checked_sub(1).ok_or(malformed)?;
                    return Ok(Item::End);
                }
                Event::Text(text) => {
                    if self.depth == 0 {
                        if text.bytes().all(|b| b.is_ascii_whitespace()) {
                            continue;
                        }
                        return Err(malformed);
                    }
                    return self.piece(text.xml10_content());
                }
                Event::CData(text) if self.depth > 0 => return self.piece(text.xml10_content()),
                Event::GeneralRef(reference) if self.depth > 0 => {
                    let resolved = if reference.is_char_ref() {
                        reference.resolve_char_ref().ok().flatten().filter(|c| is_xml_char(*c)).ok_or(malformed)?
                    } else {
                        match &*reference {
                            "lt" => '<',
                            "gt" => '>',
                            "amp" => '&',
                            "apos" => '\'',
                            "quot" => '"',
                            _ => return Err(XmlError::Entity { position }),
                        }
                    };
                    return Ok(Item::Text(Cow::Owned(resolved.to_string())));
                }
                Event::Eof => {
                    return if self.depth == 0 && self.root_seen { Ok(Item::Eof) } else { Err(malformed) };
                }
                Event::CData(_) | Event::GeneralRef(_) | Event::Empty(_) => return Err(malformed),
            }
        }
    }

    fn piece(&self, text: Cow<'a, str>) -> Result<Item<'a>, XmlError> {
        if text.len() > self.limits.text_bytes && self.unbounded_at != Some(self.depth) {
            return Err(self.limit("bytes of text", self.limits.text_bytes));
        }
        Ok(Item::Text(text))
    }

    fn start(&mut self, tag: BytesStart<'a>, position: usize) -> Result<Element<'a>, XmlError> {
        let malformed = || XmlError::Malformed { position };
        if self.depth == 0 {
            if self.root_seen {
                return Err(malformed());
            }
            self.root_seen = true;
        }
        self.depth += 1;
        self.elements += 1;
        if self.depth > self.limits.depth {
            return Err(self.limit("nested elements", self.limits.depth));
        }
        if self.elements > self.limits.elements {
            return Err(self.limit("elements", self.limits.elements));
        }
        self.check_name(tag.name().0, position)?;
        for (count, attribute) in tag.attributes().enumerate() {
            if count >= self.limits.attributes {
                return Err(self.limit("attributes", self.limits.attributes));
            }
            let attribute = attribute.map_err(|_| malformed())?;
            self.check_name(attribute.key.0, position)?;
            if attribute.value.len() > self.limits.text_bytes {
                return Err(self.limit("bytes of an attribute value", self.limits.text_bytes));
            }
            if attribute.value.contains('<') {
                return Err(malformed());
            }
            if attribute.value.contains('&') {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| XmlError::Entity { position })?;
                if !value.chars().all(is_xml_char) {
                    return Err(malformed());
                }
            }
            if attribute.key.as_namespace_binding().is_none()
                && attribute.key.prefix().is_some()
                && matches!(self.inner.resolver().resolve_attribute(attribute.key).0, ResolveResult::Unknown(_))
            {
                return Err(malformed());
            }
        }
        let ns = match self.inner.resolver().resolve_element(tag.name()).0 {
            ResolveResult::Unbound => Ns::Unbound,
            ResolveResult::Bound(uri) => Ns::of(uri.0),
            ResolveResult::Unknown(_) => return Err(malformed()),
        };
        if ns == Ns::XInclude {
            return Err(XmlError::XInclude { position });
        }
        let element = Element { ns, position, tag };
        let in_document = self.unbounded_at.is_some_and(|depth| depth + 1 == self.depth);
        if element.is(Ns::Xop, "Include") && !in_document && !self.includes_anywhere {
            return Err(XmlError::Include { position });
        }
        if self.unbounded_at.is_none() && element.is(Ns::Xdsb, "Document") {
            self.unbounded_at = Some(self.depth);
        }
        Ok(element)
    }

    fn check_name(&self, name: &str, position: usize) -> Result<(), XmlError> {
        if name.len() > self.limits.name_bytes {
            return Err(XmlError::Limit { what: "bytes of a name", limit: self.limits.name_bytes, position });
        }
        let plain = |part: &str| {
            let mut chars = part.chars();
            chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii())
                && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') || !c.is_ascii())
        };
        let well_formed = match name.split_once(':') {
            Some((prefix, local)) => plain(prefix) && plain(local),
            None => plain(name),
        };
        if well_formed { Ok(()) } else { Err(XmlError::Malformed { position }) }
    }

    fn limit(&self, what: &'static str, limit: usize) -> XmlError {
        XmlError::Limit { what, limit, position: self.position() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<usize, XmlError> {
        let mut reader = Reader::new(bytes, Limits::default())?;
        reader.root()?;
        reader.finish()?;
        Ok(reader.elements)
    }

    #[test]
    fn documents_that_a_soap_message_may_not_be_are_refused_with_their_rule() {
        for (text, rule) in [
            (&b"<a>\xff</a>"[..], "S-04"),
            (b"<a>\0</a>", "S-04"),
            (b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>", "S-04"),
            (b"<!DOCTYPE a><a/>", "S-06"),
            (b"<a><?x y?></a>", "S-06"),
            (b"<a>&x;</a>", "S-06"),
            (b"<a b='&x;'/>", "S-06"),
            (b"<a>&#1;</a>", "S-06"),
            (b"<a b='&#1;'/>", "S-06"),
            (b"<a>\x01</a>", "S-06"),
            (b"<a/><b/>", "S-06"),
            (b"<a/>text", "S-06"),
            (b"<a>", "S-06"),
            (b"<a></b>", "S-06"),
            (b"<a b='1' b='2'/>", "S-06"),
            (b"<p:a/>", "S-06"),
            (b"<a p:b='1'/>", "S-06"),
            (b"<1a/>", "S-06"),
            (b"", "S-06"),
            (b"<xi:include xmlns:xi='http://www.w3.org/2001/XInclude'/>", "S-06"),
        ] {
            let error = walk(text).expect_err(std::str::from_utf8(text).unwrap_or("bytes"));
            assert_eq!(error.rule(), rule, "{error}");
        }
    }

    #[test]
    fn every_bound_holds_at_its_value_and_breaks_one_above() {
        let nested = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        let attributes = |n: usize| format!("<a {}/>", (0..n).map(|i| format!("b{i}='' ")).collect::<String>());
        let declared = |n: usize| format!("<a {}/>", (0..n).map(|i| format!("xmlns:b{i}='urn:x' ")).collect::<String>());
        let scoped = |n: usize| {
            let inner: String = (0..n - 32).map(|i| format!("xmlns:c{i}='urn:x' ")).collect();
            format!("<a {}><b {inner}/></a>", (0..32).map(|i| format!("xmlns:b{i}='urn:x' ")).collect::<String>())
        };
        let named = |n: usize| format!("<{}/>", "a".repeat(n));
        let text = |n: usize| format!("<a>{}</a>", "x".repeat(n));
        let cases: [(&dyn Fn(usize) -> String, usize); 6] =
            [(&nested, 64), (&attributes, 64), (&declared, 64), (&scoped, 64), (&named, 256), (&text, 1_048_576)];
        for (make, limit) in cases {
            assert!(walk(make(limit).as_bytes()).is_ok(), "{limit}");
            assert!(matches!(walk(make(limit + 1).as_bytes()), Err(XmlError::Limit { .. })), "{limit} + 1");
        }
    }

    #[test]
    fn document_content_is_exempt_from_the_text_bound() {
        let text = format!("<Document xmlns='urn:ihe:iti:xds-b:2007'>{}</Document>", "A".repeat(1_048_577));
        assert_eq!(walk(text.as_bytes()), Ok(1));
    }

    #[test]
    fn references_and_cdata_are_joined_to_one_text() {
        let mut reader = Reader::new(
            b"\xEF\xBB\xBF<?xml version='1.0' encoding='utf-8'?> <a b='&lt;&#x20AC;\n'>x&amp;<![CDATA[<y>]]>&#10;</a> <!-- end -->",
            Limits::default(),
        )
        .expect("valid");
        let root = reader.root().expect("root");
        assert_eq!(root.attribute("b").as_deref(), Some("<€ "));
        assert_eq!(reader.text().as_deref(), Ok("x&<y>\n"));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn any_prefix_or_the_default_namespace_names_the_same_element() {
        for text in [
            "<Slot xmlns='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0'/>",
            "<q:Slot xmlns:q='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0'/>",
        ] {
            let mut reader = Reader::new(text.as_bytes(), Limits::default()).expect("valid");
            assert!(reader.root().expect("root").is(Ns::Rim, "Slot"));
        }
    }
}

//! Reading of an envelope: one pass over all of it, nothing kept but the header blocks that matter.

use std::ops::Range;

use super::ANONYMOUS;
use super::fault::{Fault, read_fault};
use super::refusal::{Refusal, Rejected};
use crate::xml::{Element, Item, Limits, Ns, Reader, XmlError};

/// Header blocks accepted at most.
const HEADER_BLOCKS_MAX: usize = 64;

/// A header block that has a meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderName {
    /// `wsa:Action`
    Action,
    /// `wsa:MessageID`
    MessageId,
    /// `wsa:To`
    To,
    /// `wsa:ReplyTo`, value = its Address.
    ReplyTo,
    /// `wsa:FaultTo`, value = its Address.
    FaultTo,
    /// `wsa:From`, value = its Address.
    From,
    /// `wsa:RelatesTo`
    RelatesTo,
    /// Any other block of WS-Addressing.
    OtherAddressing,
    /// `wsse:Security`; the value is empty, see [`Header::span`].
    Security,
    /// `idr:Receipt`, value = its text.
    Receipt,
    /// Anything else.
    Other,
}

/// One header block.
#[derive(Clone)]
pub struct Header {
    /// Which.
    pub name: HeaderName,
    /// Text or address, trimmed; empty for `Security` and `Other`.
    pub value: String,
    /// `env:mustUnderstand` is true.
    pub must_understand: bool,
    /// Addressed to us: no `env:role`, `next` or `ultimateReceiver`.
    pub for_us: bool,
    /// Bytes of the element in the envelope.
    pub span: Range<usize>,
    /// Namespace URI, for `Other`; and local name.
    qualified: (String, String),
    /// Declarations of prefixes in scope that the element does not make itself, for `Security`.
    outer_declarations: Vec<(String, String)>,
}

/// An envelope that has been read once: well-formed, within bounds, SOAP 1.2, one Body with one child.
#[derive(Clone)]
pub struct Envelope<'a> {
    bytes: &'a [u8],
    limits: Limits,
    headers: Vec<Header>,
    body: Range<usize>,
    body_name: (Ns, String),
    /// Declarations of prefixes in scope at the Body's child that it does not make itself: `(prefix, raw URI)`.
    outer_declarations: Vec<(String, String)>,
}

impl<'a> Envelope<'a> {
    /// Reads the bytes of a plain message or of the root part (S-03, S-04, S-06, S-07).
    ///
    /// # Errors
    /// [`Rejected`] with the MessageID if it came before the fault.
    pub fn read(bytes: &'a [u8], limits: Limits) -> Result<Self, Rejected> {
        let mut headers = Vec::new();
        Self::pass(bytes, limits, &mut headers).map_err(|refusal| {
            let relates_to = headers.iter().find(|h: &&Header| h.name == HeaderName::MessageId).map(|h| h.value.clone());
            Rejected { refusal, relates_to: relates_to.filter(|id| is_message_id(id)) }
        })
    }

    fn pass(bytes: &'a [u8], limits: Limits, headers: &mut Vec<Header>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes, limits)?;
        let root = reader.root()?;
        if root.ns != Ns::Envelope {
            return Err(Refusal::Version);
        }
        if root.local() != "Envelope" {
            return Err(Refusal::Shape);
        }
        let mut header_seen = false;
        let mut body = None;
        while let Some(child) = only_elements(&mut reader)? {
            match (child.ns, child.local()) {
                (Ns::Envelope, "Header") if !header_seen && body.is_none() => {
                    header_seen = true;
                    reader.allow_includes(true);
                    read_headers(&mut reader, headers)?;
                    reader.allow_includes(false);
                }
                (Ns::Envelope, "Body") if body.is_none() => {
                    let element = only_elements(&mut reader)?.ok_or(Refusal::Shape)?;
                    let outer_declarations = inherited(&reader, &element);
                    let name = (element.ns, element.local().to_owned());
                    reader.skip()?;
                    body = Some((element.position..reader.position(), name, outer_declarations));
                    if only_elements(&mut reader)?.is_some() {
                        return Err(Refusal::Shape);
                    }
                }
                _ => return Err(Refusal::Shape),
            }
        }
        reader.finish()?;
        let (body, body_name, outer_declarations) = body.ok_or(Refusal::Shape)?;
        Ok(Self { bytes, limits, headers: std::mem::take(headers), body, body_name, outer_declarations })
    }

    /// The rules that follow the structure, in the order of profile 09 §4: S-17, S-08 … S-11, S-15, S-19.
    /// `served` says which actions this path serves. An absent or empty `ReplyTo` counts as anonymous (S-14).
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn check(&self, served: impl FnOnce(&str) -> bool) -> Result<(), Rejected> {
        self.checked(served).map_err(|refusal| self.rejected(refusal))
    }

    fn checked(&self, served: impl FnOnce(&str) -> bool) -> Result<(), Refusal> {
        let blocks: Vec<(String, String)> = self
            .headers
            .iter()
            .filter(|h| h.for_us && h.must_understand && matches!(h.name, HeaderName::Other | HeaderName::Receipt))
            .map(|h| h.qualified.clone())
            .collect();
        if !blocks.is_empty() {
            return Err(Refusal::NotUnderstood { blocks });
        }
        for (name, header) in [(HeaderName::Action, "Action"), (HeaderName::MessageId, "MessageID")] {
            if self.value(name).is_none_or(str::is_empty) {
                return Err(Refusal::HeaderMissing { header });
            }
        }
        for (name, header) in [
            (HeaderName::Action, "Action"),
            (HeaderName::MessageId, "MessageID"),
            (HeaderName::To, "To"),
            (HeaderName::ReplyTo, "ReplyTo"),
            (HeaderName::FaultTo, "FaultTo"),
            (HeaderName::From, "From"),
        ] {
            if self.named(name).nth(1).is_some() {
                return Err(Refusal::HeaderTwice { header });
            }
        }
        let action = self.action();
        if !served(action) {
            return Err(Refusal::ActionNotSupported { action: action.to_owned() });
        }
        for (name, header) in [(HeaderName::ReplyTo, "ReplyTo"), (HeaderName::FaultTo, "FaultTo")] {
            if self.value(name).is_some_and(|address| !address.is_empty() && address != ANONYMOUS) {
                return Err(Refusal::NotAnonymous { header });
            }
        }
        if !is_message_id(self.message_id()) {
            return Err(Refusal::MessageId);
        }
        Ok(())
    }

    /// A refusal that relates to this message.
    pub fn rejected(&self, refusal: Refusal) -> Rejected {
        Rejected { refusal, relates_to: Some(self.message_id().to_owned()).filter(|id| is_message_id(id)) }
    }

    /// All header blocks in order.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Header blocks of one name.
    pub fn named(&self, name: HeaderName) -> impl Iterator<Item = &Header> {
        self.headers.iter().filter(move |header| header.name == name)
    }

    /// Value of the first header block of a name.
    pub fn value(&self, name: HeaderName) -> Option<&str> {
        self.named(name).next().map(|header| header.value.as_str())
    }

    /// `wsa:Action`; empty if absent.
    pub fn action(&self) -> &str {
        self.value(HeaderName::Action).unwrap_or_default()
    }

    /// `wsa:MessageID`, trimmed; empty if absent.
    pub fn message_id(&self) -> &str {
        self.value(HeaderName::MessageId).unwrap_or_default()
    }

    /// The whole envelope, for the verifier of the assertion.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of each `wsse:Security` element, in order. Prefixes may be declared outside of them.
    pub fn security(&self) -> impl Iterator<Item = &'a [u8]> {
        self.named(HeaderName::Security).filter_map(|header| self.bytes.get(header.span.clone()))
    }

    /// Each `wsse:Security` element as a document of its own, to be put into another envelope: every byte as it was signed, and the
    /// declarations that it inherits written into its start tag. Exclusive canonicalization of what is inside stays the same.
    pub fn security_documents(&self) -> impl Iterator<Item = Vec<u8>> {
        self.named(HeaderName::Security)
            .filter_map(|header| Some(standing_alone(self.bytes.get(header.span.clone())?, &header.outer_declarations)))
    }

    /// Namespace and local name of the Body's child.
    pub fn body_name(&self) -> (Ns, &str) {
        (self.body_name.0, &self.body_name.1)
    }

    /// A reader inside the Body's child, which must be `ns:local` (S-12).
    ///
    /// # Errors
    /// [`Refusal::Body`].
    pub fn body(&self, ns: Ns, local: &str) -> Result<(Reader<'a>, Element<'a>), Refusal> {
        if self.body_name() != (ns, local) {
            return Err(Refusal::Body);
        }
        Ok(self.enter_body()?)
    }

    /// The fault, if the Body holds one.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn fault(&self) -> Result<Option<Fault>, XmlError> {
        if self.body_name() != (Ns::Envelope, "Fault") {
            return Ok(None);
        }
        read_fault(&mut self.enter_body()?.0).map(Some)
    }

    /// The Body's child as a document of its own: the declarations it inherits are written into its start tag.
    pub fn body_document(&self) -> Vec<u8> {
        standing_alone(self.bytes.get(self.body.clone()).unwrap_or_default(), &self.outer_declarations)
    }

    fn enter_body(&self) -> Result<(Reader<'a>, Element<'a>), XmlError> {
        let mut reader = Reader::new(self.bytes, self.limits)?;
        reader.root()?;
        while let Some(child) = reader.child()? {
            if child.is(Ns::Envelope, "Body")
                && let Some(element) = reader.child()?
            {
                return Ok((reader, element));
            }
            reader.allow_includes(true);
            reader.skip()?;
            reader.allow_includes(false);
        }
        Err(XmlError::Malformed { position: 0 })
    }
}

/// An element with the declarations that it inherits in its start tag.
fn standing_alone(element: &[u8], declarations: &[(String, String)]) -> Vec<u8> {
    let name_end = element.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'>')).unwrap_or(element.len());
    let mut document = element[..name_end].to_vec();
    for (prefix, uri) in declarations {
        let name = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
        document.extend_from_slice(format!(" {name}=\"{}\"", uri.replace('"', "&quot;")).as_bytes());
    }
    document.extend_from_slice(&element[name_end..]);
    document
}

/// The declarations in scope at an element that it does not make itself.
fn inherited(reader: &Reader<'_>, element: &Element<'_>) -> Vec<(String, String)> {
    let own = element.declared_prefixes();
    reader.declarations().into_iter().filter(|(prefix, _)| !own.contains(prefix)).collect()
}

/// The next child; text other than white space is refused.
fn only_elements<'a>(reader: &mut Reader<'a>) -> Result<Option<Element<'a>>, Refusal> {
    loop {
        match reader.item()? {
            Item::Element(element) => return Ok(Some(element)),
            Item::Text(text) if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() => {}
            Item::Text(_) => return Err(Refusal::Shape),
            Item::End | Item::Eof => return Ok(None),
        }
    }
}

fn read_headers(reader: &mut Reader<'_>, headers: &mut Vec<Header>) -> Result<(), Refusal> {
    while let Some(block) = only_elements(reader)? {
        if headers.len() >= HEADER_BLOCKS_MAX {
            return Err(XmlError::Limit { what: "header blocks", limit: HEADER_BLOCKS_MAX, position: block.position }.into());
        }
        let must_understand = reader.attribute(&block, Ns::Envelope, "mustUnderstand").is_some_and(|v| matches!(v.trim(), "1" | "true"));
        let for_us = reader.attribute(&block, Ns::Envelope, "role").is_none_or(|role| {
            let role = role.trim();
            role.is_empty()
                || role
                    .strip_prefix("http://www.w3.org/2003/05/soap-envelope/role/")
                    .is_some_and(|r| r == "next" || r == "ultimateReceiver")
        });
        let name = match (block.ns, block.local()) {
            (Ns::Addressing, "Action") => HeaderName::Action,
            (Ns::Addressing, "MessageID") => HeaderName::MessageId,
            (Ns::Addressing, "To") => HeaderName::To,
            (Ns::Addressing, "ReplyTo") => HeaderName::ReplyTo,
            (Ns::Addressing, "FaultTo") => HeaderName::FaultTo,
            (Ns::Addressing, "From") => HeaderName::From,
            (Ns::Addressing, "RelatesTo") => HeaderName::RelatesTo,
            (Ns::Addressing, _) => HeaderName::OtherAddressing,
            (Ns::Security, "Security") => HeaderName::Security,
            (Ns::Custody, "Receipt") => HeaderName::Receipt,
            _ => HeaderName::Other,
        };
        let outer_declarations = if name == HeaderName::Security { inherited(reader, &block) } else { Vec::new() };
        let qualified = match name {
            HeaderName::Other | HeaderName::Receipt => (reader.namespace(&block), block.local().to_owned()),
            _ => (String::new(), block.local().to_owned()),
        };
        let value = match name {
            HeaderName::Action | HeaderName::MessageId | HeaderName::To | HeaderName::RelatesTo | HeaderName::Receipt => reader.text()?,
            HeaderName::ReplyTo | HeaderName::FaultTo | HeaderName::From => {
                let mut address = String::new();
                while let Some(child) = reader.child()? {
                    if child.is(Ns::Addressing, "Address") {
                        address = reader.text()?;
                    } else {
                        reader.skip()?;
                    }
                }
                address
            }
            HeaderName::OtherAddressing | HeaderName::Security | HeaderName::Other => {
                reader.skip()?;
                String::new()
            }
        };
        let span = block.position..reader.position();
        headers.push(Header { name, value: value.trim().to_owned(), must_understand, for_us, span, qualified, outer_declarations });
    }
    Ok(())
}

/// An absolute IRI of 1–256 characters (S-19).
fn is_message_id(id: &str) -> bool {
    let scheme = id.split_once(':').filter(|(_, rest)| !rest.is_empty()).map(|(scheme, _)| scheme);
    id.chars().count() <= 256
        && scheme.is_some_and(|s| {
            s.starts_with(|c: char| c.is_ascii_alphabetic()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        })
        && !id.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '{' | '}' | '|' | '\\' | '^' | '`'))
}

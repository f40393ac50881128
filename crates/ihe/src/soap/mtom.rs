//! MTOM: the root part that holds the envelope, and the documents beside it (SOAP MTOM, XOP 1.0; profile 08 S-21 … S-28).
//!
//! [`Reader`] gives the root part whole and the other parts as they stream, in the order in which they come: the root
//! need not be the first. [`Writer`] puts the root first and names document n `<n@idr>`.

use std::collections::HashSet;

use bytes::Bytes;

use super::ENVELOPE_MAX_BYTES;
use super::content_type::MediaType;
use super::multipart::{self, MultipartError, PartHead};
use super::refusal::Refusal;

/// What a [`Reader`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The root part, complete: the envelope.
    Root(Vec<u8>),
    /// Another part begins.
    Part(PartHead),
    /// Content of that part.
    Data(Bytes),
    /// That part is complete.
    PartEnd,
    /// The message is whole, and its root part has come.
    End,
}

/// Reads an MTOM message in pieces, as [`multipart::Reader`] does.
pub struct Reader {
    parts: multipart::Reader,
    start: Option<String>,
    ids: HashSet<String>,
    /// Number and content of the root part while it is read.
    root: Option<(usize, Vec<u8>)>,
    root_done: bool,
}

impl Reader {
    /// A reader for a message with this boundary and `start` parameter ([`super::Framing::Mtom`]).
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub fn new(boundary: &str, start: Option<String>, limits: multipart::Limits) -> Result<Self, MultipartError> {
        Ok(Self { parts: multipart::Reader::new(boundary, limits)?, start, ids: HashSet::new(), root: None, root_done: false })
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`MultipartError::TooLarge`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), MultipartError> {
        self.parts.feed(bytes)
    }

    /// The next event; `None`: more bytes are needed.
    ///
    /// # Errors
    /// S-04, S-05, S-22, S-23, S-27, S-28.
    pub fn poll(&mut self) -> Result<Option<Event>, Refusal> {
        while let Some(event) = self.parts.poll()? {
            match event {
                multipart::Event::Part(head) => {
                    if let Some(id) = head.content_id()
                        && !self.ids.insert(id)
                    {
                        return Err(MultipartError::ContentIdTwice { part: head.number }.into());
                    }
                    let is_root = match &self.start {
                        None => head.number == 0,
                        Some(start) => head.content_id().as_ref() == Some(start),
                    };
                    if !is_root {
                        return Ok(Some(Event::Part(head)));
                    }
                    let media_type = head.field("content-type").and_then(|value| MediaType::parse(value).ok());
                    let media_type = media_type.filter(|m| m.essence == "application/xop+xml").ok_or(MultipartError::Root)?;
                    if !media_type.is_utf8() {
                        return Err(Refusal::Charset);
                    }
                    self.root = Some((head.number, Vec::new()));
                }
                multipart::Event::Data(data) => match &mut self.root {
                    Some((part, root)) => {
                        if root.len() + data.len() > ENVELOPE_MAX_BYTES {
                            return Err(MultipartError::PartTooLarge { part: *part, limit: ENVELOPE_MAX_BYTES as u64 }.into());
                        }
                        root.extend_from_slice(&data);
                    }
                    None => return Ok(Some(Event::Data(data))),
                },
                multipart::Event::PartEnd => match self.root.take() {
                    Some((_, root)) => {
                        self.root_done = true;
                        return Ok(Some(Event::Root(root)));
                    }
                    None => return Ok(Some(Event::PartEnd)),
                },
                multipart::Event::End => {
                    return if self.root_done { Ok(Some(Event::End)) } else { Err(MultipartError::Root.into()) };
                }
            }
        }
        Ok(None)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`MultipartError::Truncated`], [`MultipartError::NoParts`].
    pub fn finish(&self) -> Result<(), MultipartError> {
        self.parts.finish()
    }
}

/// Writes an MTOM message: [`Writer::root`], then for each document [`Writer::document`] and its bytes, then
/// [`Writer::closing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    parts: multipart::Writer,
}

impl Writer {
    /// A writer with a boundary, 32 random hex digits by profile 08 §3.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub fn new(boundary: String) -> Result<Self, MultipartError> {
        Ok(Self { parts: multipart::Writer::new(boundary)? })
    }

    /// Content-Type of the message.
    pub fn content_type(&self) -> String {
        format!(
            "multipart/related; type=\"application/xop+xml\"; start=\"<{}>\"; start-info=\"application/soap+xml\"; boundary=\"{}\"",
            content_id(0),
            self.parts.boundary()
        )
    }

    /// Delimiter and head of the root part, and the envelope.
    pub fn root(&self, envelope: &str) -> String {
        let fields = [
            ("Content-Type", "application/xop+xml; charset=UTF-8; type=\"application/soap+xml\""),
            ("Content-Transfer-Encoding", "binary"),
            ("Content-ID", &format!("<{}>", content_id(0))),
        ];
        self.parts.head(true, &fields) + envelope
    }

    /// Delimiter and head of document `number` (from 1); the bytes follow.
    pub fn document(&self, number: usize, content_type: &str) -> String {
        let id = format!("<{}>", content_id(number));
        self.parts.head(false, &[("Content-Type", content_type), ("Content-Transfer-Encoding", "binary"), ("Content-ID", &id)])
    }

    /// The closing delimiter.
    pub fn closing(&self) -> String {
        self.parts.closing()
    }

    /// Length of the whole message for documents of known Content-Type and size.
    pub fn content_length<'a>(&self, envelope: &str, documents: impl IntoIterator<Item = (&'a str, u64)>) -> u64 {
        let documents: u64 = documents
            .into_iter()
            .zip(1..)
            .map(|((content_type, size), number)| self.document(number, content_type).len() as u64 + size)
            .sum();
        (self.root(envelope).len() + self.closing().len()) as u64 + documents
    }
}

/// Content-ID of part `number`: 0 the root, from 1 the documents.
pub fn content_id(number: usize) -> String {
    format!("{number}@idr")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(start: Option<&str>, body: &str) -> Result<Vec<Event>, &'static str> {
        let mut reader = Reader::new("b", start.map(str::to_owned), multipart::Limits::MTOM).map_err(|e| e.rule())?;
        reader.feed(body.as_bytes()).map_err(|e| e.rule())?;
        let mut events = Vec::new();
        while let Some(event) = reader.poll().map_err(|e| e.rule())? {
            events.push(event);
        }
        reader.finish().map_err(|e| e.rule())?;
        Ok(events)
    }

    #[test]
    fn the_written_message_has_the_stated_length_and_is_read_back() {
        let writer = Writer::new("b".to_owned()).expect("boundary");
        let body =
            writer.root("<e/>") + &writer.document(1, "application/dicom") + "DICM" + &writer.document(2, "text/plain") + &writer.closing();
        assert_eq!(body.len() as u64, writer.content_length("<e/>", [("application/dicom", 4), ("text/plain", 0)]));
        let events = read(Some("0@idr"), &body).expect("valid");
        assert_eq!(events[0], Event::Root(b"<e/>".to_vec()));
        assert!(matches!(&events[1], Event::Part(head) if head.content_id().as_deref() == Some("1@idr")));
        assert_eq!(events[2], Event::Data(Bytes::from_static(b"DICM")));
        assert_eq!(events.last(), Some(&Event::End));
    }

    #[test]
    fn the_root_is_the_first_part_or_the_one_that_start_names() {
        let document = "--b\r\nContent-Type: a/b\r\nContent-ID: <d>\r\n\r\nx\r\n";
        let root = "--b\r\nContent-Type: application/xop+xml\r\nContent-ID: <r>\r\n\r\n<e/>\r\n";
        let has_root = |start, body: String| read(start, &body).map(|events| events.contains(&Event::Root(b"<e/>".to_vec())));
        assert_eq!(has_root(None, format!("{root}{document}--b--")), Ok(true));
        assert_eq!(has_root(Some("r"), format!("{document}{root}--b--")), Ok(true));
        assert_eq!(has_root(None, format!("{document}{root}--b--")), Err("S-22"));
        assert_eq!(has_root(Some("x"), format!("{root}{document}--b--")), Err("S-22"));
        assert_eq!(has_root(None, format!("{root}{document}{document}--b--")), Err("S-22"));
        assert_eq!(has_root(None, format!("{}--b--", root.replace("xop+xml", "xop+xml; charset=latin1"))), Err("S-04"));
    }
}

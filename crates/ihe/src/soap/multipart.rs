//! `multipart/related` in pieces, both ways (RFC 2046 §5.1, RFC 2387): MTOM, STOW-RS, WADO-RS, RAD-69.
//!
//! [`Reader`] takes bytes as they come and gives part heads, part content and the end; it holds no more than one part head
//! or one delimiter back. [`Writer`] gives the heads and the closing delimiter; the caller puts the content between.
//! A message is whole only when [`Event::End`] has come: the closing delimiter is its integrity check.
//!
//! # Bounds
//! [`Limits`]: preamble and epilogue, part count, part head, part and message size (profile 10 BD-14, BD-17).

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::base64_stream::{Base64Stream, NotBase64};

/// Bounds of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes before the first delimiter, and after the closing one.
    pub preamble_bytes: usize,
    /// Parts.
    pub parts: usize,
    /// Bytes of one part head.
    pub head_bytes: usize,
    /// Fields of one part head.
    pub head_fields: usize,
    /// Bytes of one part as transferred.
    pub part_bytes: u64,
    /// Bytes of the message.
    pub total_bytes: u64,
}

impl Limits {
    /// MTOM (profile 10 BD-14).
    pub const MTOM: Self =
        Self { preamble_bytes: 4_096, parts: 200, head_bytes: 8_192, head_fields: 32, part_bytes: 134_217_728, total_bytes: 268_435_456 };
    /// STOW-RS (profile 10 BD-17); a part is bounded by the message.
    pub const STOW: Self = Self {
        preamble_bytes: 4_096,
        parts: 100_000,
        head_bytes: 8_192,
        head_fields: 32,
        part_bytes: 68_719_476_736,
        total_bytes: 68_719_476_736,
    };
}

/// Why a multipart message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// The boundary parameter is absent, longer than 70 characters or holds forbidden characters.
    #[error("boundary parameter is missing or malformed")]
    Boundary,
    /// The message holds no part.
    #[error("message has no parts")]
    NoParts,
    /// The message ends before its closing delimiter.
    #[error("message ends before its closing delimiter")]
    Truncated,
    /// A delimiter is followed by something else than a line end or `--`.
    #[error("delimiter of part {part} is malformed")]
    Delimiter {
        /// Part number, from 0.
        part: usize,
    },
    /// A part head has a line that is no field, or bytes that are not UTF-8.
    #[error("head of part {part} is malformed")]
    Head {
        /// Part number, from 0.
        part: usize,
    },
    /// Two parts have one Content-ID.
    #[error("part {part} repeats a Content-ID")]
    ContentIdTwice {
        /// Part number, from 0.
        part: usize,
    },
    /// No part is the root part that `start` names, or its Content-Type is not `application/xop+xml`.
    #[error("root part is missing or not application/xop+xml")]
    Root,
    /// The preamble or epilogue is too long.
    #[error("more than {limit} bytes outside of the parts")]
    Outside {
        /// Bytes.
        limit: usize,
    },
    /// Too many parts.
    #[error("more than {limit} parts")]
    TooManyParts {
        /// Parts.
        limit: usize,
    },
    /// A part head is too large or has too many fields.
    #[error("head of part {part} is too large")]
    HeadTooLarge {
        /// Part number, from 0.
        part: usize,
    },
    /// A part is too large.
    #[error("part {part} is larger than {limit} bytes")]
    PartTooLarge {
        /// Part number, from 0.
        part: usize,
        /// Bytes.
        limit: u64,
    },
    /// The message is too large.
    #[error("message is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// Content-Transfer-Encoding other than binary, 8bit, 7bit, base64.
    #[error("Content-Transfer-Encoding of part {part} is not accepted")]
    TransferEncoding {
        /// Part number, from 0.
        part: usize,
    },
    /// A base64 part is malformed.
    #[error("part {part} is not base64")]
    NotBase64 {
        /// Part number, from 0.
        part: usize,
    },
}

impl MultipartError {
    /// The rule of profile 08 §3.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "S-05",
            Self::TooManyParts { .. } | Self::HeadTooLarge { .. } | Self::PartTooLarge { .. } => "S-23",
            Self::TransferEncoding { .. } => "S-27",
            Self::NotBase64 { .. } => "S-28",
            _ => "S-22",
        }
    }
}

/// The head of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHead {
    /// Part number, from 0.
    pub number: usize,
    /// Fields in order, names in lower case, values unfolded and trimmed.
    pub fields: Vec<(String, String)>,
}

impl PartHead {
    /// Value of the first field of a lower-case name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Content-ID without angle brackets.
    pub fn content_id(&self) -> Option<String> {
        self.field("content-id").map(bare_content_id)
    }
}

/// A Content-ID without surrounding white space and angle brackets.
pub fn bare_content_id(value: &str) -> String {
    let value = value.trim();
    value.strip_prefix('<').and_then(|v| v.strip_suffix('>')).unwrap_or(value).to_owned()
}

/// 1–70 characters of RFC 2046 `bchars`, the last one no space.
pub fn is_boundary(text: &str) -> bool {
    (1..=70).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b))
        && !text.ends_with(' ')
}

/// What a [`Reader`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(PartHead),
    /// Content of the part, transfer encoding undone.
    Data(Bytes),
    /// The part is complete.
    PartEnd,
    /// The closing delimiter: the message is whole.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    AfterDelimiter,
    Head,
    ContentStart,
    Content,
    Epilogue,
}

/// Reads a message in pieces: [`Reader::feed`], then [`Reader::poll`] until it gives `None`; at the end of the
/// bytes [`Reader::finish`].
pub struct Reader {
    limits: Limits,
    /// CR LF `--` boundary.
    delimiter: memmem::Finder<'static>,
    buffer: BytesMut,
    state: State,
    /// Parts begun.
    parts: usize,
    part_bytes: u64,
    total_bytes: u64,
    outside_bytes: usize,
    decoder: Option<Base64Stream>,
    failed: Option<MultipartError>,
}

impl Reader {
    /// A reader before the first byte of a body whose Content-Type names `boundary`.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub fn new(boundary: &str, limits: Limits) -> Result<Self, MultipartError> {
        if !is_boundary(boundary) {
            return Err(MultipartError::Boundary);
        }
        Ok(Self {
            limits,
            delimiter: memmem::Finder::new(&format!("\r\n--{boundary}")).into_owned(),
            // The first delimiter may stand at the very start: as if a line had ended before it.
            buffer: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
            parts: 0,
            part_bytes: 0,
            total_bytes: 0,
            outside_bytes: 0,
            decoder: None,
            failed: None,
        })
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// [`MultipartError::TooLarge`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), MultipartError> {
        self.total_bytes += bytes.len() as u64;
        if self.total_bytes > self.limits.total_bytes {
            return Err(MultipartError::TooLarge { limit: self.limits.total_bytes });
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next event in the bytes fed so far; `None`: more bytes are needed. After an error the reader gives only that error.
    ///
    /// # Errors
    /// [`MultipartError`].
    pub fn poll(&mut self) -> Result<Option<Event>, MultipartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let event = self.step();
        if let Err(error) = event {
            self.failed = Some(error);
            self.buffer = BytesMut::new();
        }
        event
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`MultipartError::Truncated`] or [`MultipartError::NoParts`] if the closing delimiter has not come.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Epilogue => Ok(()),
            State::Preamble => Err(MultipartError::NoParts),
            _ => Err(MultipartError::Truncated),
        }
    }

    fn step(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Preamble => {
                    let found = self.delimiter.find(&self.buffer);
                    // Up to the tail that may be the begin of a delimiter.
                    let passed = found.unwrap_or((self.buffer.len() + 1).saturating_sub(self.delimiter.needle().len()));
                    self.outside(passed)?;
                    if found.is_none() {
                        return Ok(None);
                    }
                    self.buffer.advance(self.delimiter.needle().len());
                    self.state = State::AfterDelimiter;
                }
                State::AfterDelimiter => match self.after_delimiter()? {
                    Some(event) => return Ok(event),
                    None => continue,
                },
                State::Head => {
                    // The buffer begins with the line end of the delimiter line, so an empty head is CR LF CR LF too.
                    let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") else {
                        // Not found in n bytes: it begins at n - 3 or later. A head of `head_bytes` has its end at 2 + `head_bytes`.
                        if self.buffer.len() > self.limits.head_bytes + 5 {
                            return Err(MultipartError::HeadTooLarge { part: self.parts });
                        }
                        return Ok(None);
                    };
                    let head = self.head(end)?;
                    // The last line end stays: it begins the delimiter if the part is empty.
                    self.buffer.advance(end + 2);
                    self.decoder = match head.field("content-transfer-encoding").map(str::to_ascii_lowercase).as_deref() {
                        None | Some("binary" | "8bit" | "7bit") => None,
                        Some("base64") => Some(Base64Stream::default()),
                        Some(_) => return Err(MultipartError::TransferEncoding { part: self.parts }),
                    };
                    self.parts += 1;
                    self.part_bytes = 0;
                    self.state = State::ContentStart;
                    return Ok(Some(Event::Part(head)));
                }
                State::ContentStart => {
                    let delimiter = self.delimiter.needle();
                    let known = self.buffer.len().min(delimiter.len());
                    if self.buffer[..known] == delimiter[..known] {
                        if known < delimiter.len() {
                            return Ok(None);
                        }
                    } else {
                        self.buffer.advance(2);
                    }
                    self.state = State::Content;
                }
                State::Content => {
                    let found = self.delimiter.find(&self.buffer);
                    if found == Some(0) {
                        self.buffer.advance(self.delimiter.needle().len());
                        self.state = State::AfterDelimiter;
                        if self.decoder.take().is_some_and(|decoder| decoder.finish().is_err()) {
                            return Err(MultipartError::NotBase64 { part: self.parts - 1 });
                        }
                        return Ok(Some(Event::PartEnd));
                    }
                    let ready = found.unwrap_or((self.buffer.len() + 1).saturating_sub(self.delimiter.needle().len()));
                    if ready == 0 {
                        return Ok(None);
                    }
                    let data = self.buffer.split_to(ready).freeze();
                    if let Some(data) = self.content(data)? {
                        return Ok(Some(Event::Data(data)));
                    }
                }
                State::Epilogue => {
                    let length = self.buffer.len();
                    self.outside(length)?;
                    return Ok(None);
                }
            }
        }
    }

    /// `Some(event)`: return it; `None`: go on in the new state.
    fn after_delimiter(&mut self) -> Result<Option<Option<Event>>, MultipartError> {
        let malformed = MultipartError::Delimiter { part: self.parts };
        if self.buffer.starts_with(b"--") {
            if self.parts == 0 {
                return Err(MultipartError::NoParts);
            }
            self.buffer.advance(2);
            self.outside_bytes = 0;
            self.state = State::Epilogue;
            return Ok(Some(Some(Event::End)));
        }
        let padding = self.buffer.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if padding > 64 {
            return Err(malformed);
        }
        match self.buffer.get(padding..).unwrap_or_default() {
            [] | [b'\r'] => Ok(Some(None)),
            [b'-'] if padding == 0 => Ok(Some(None)),
            [b'\r', b'\n', ..] => {
                self.buffer.advance(padding);
                if self.parts >= self.limits.parts {
                    return Err(MultipartError::TooManyParts { limit: self.limits.parts });
                }
                self.state = State::Head;
                Ok(None)
            }
            _ => Err(malformed),
        }
    }

    fn head(&self, end: usize) -> Result<PartHead, MultipartError> {
        let malformed = MultipartError::Head { part: self.parts };
        if end > self.limits.head_bytes + 2 {
            return Err(MultipartError::HeadTooLarge { part: self.parts });
        }
        let text = self.buffer.get(2..end).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| malformed)?;
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            if line.contains(['\r', '\n', '\0']) {
                return Err(malformed);
            }
            if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut().ok_or(malformed)?;
                value.push(' ');
                value.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(malformed)?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(malformed);
            }
            if fields.len() >= self.limits.head_fields {
                return Err(MultipartError::HeadTooLarge { part: self.parts });
            }
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(PartHead { number: self.parts, fields })
    }

    fn content(&mut self, data: Bytes) -> Result<Option<Bytes>, MultipartError> {
        let part = self.parts - 1;
        self.part_bytes += data.len() as u64;
        if self.part_bytes > self.limits.part_bytes {
            return Err(MultipartError::PartTooLarge { part, limit: self.limits.part_bytes });
        }
        let Some(decoder) = &mut self.decoder else { return Ok(Some(data)) };
        let mut decoded = Vec::with_capacity(data.len() / 4 * 3 + 3);
        decoder.push(&data, &mut decoded).map_err(|NotBase64| MultipartError::NotBase64 { part })?;
        Ok(if decoded.is_empty() { None } else { Some(decoded.into()) })
    }

    fn outside(&mut self, length: usize) -> Result<(), MultipartError> {
        self.outside_bytes += length;
        self.buffer.advance(length);
        // Two more before the first part: the line end that was put before the body.
        if self.outside_bytes > self.limits.preamble_bytes + 2 {
            return Err(MultipartError::Outside { limit: self.limits.preamble_bytes });
        }
        Ok(())
    }
}

/// Writes delimiters and part heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    boundary: String,
}

impl Writer {
    /// A writer with a boundary, 32 random hex digits by profile 08 §3.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub fn new(boundary: String) -> Result<Self, MultipartError> {
        if is_boundary(&boundary) { Ok(Self { boundary }) } else { Err(MultipartError::Boundary) }
    }

    /// The boundary.
    pub fn boundary(&self) -> &str {
        &self.boundary
    }

    /// Delimiter and head of a part; its content follows directly. Line ends in values become spaces.
    pub fn head(&self, first: bool, fields: &[(&str, &str)]) -> String {
        let mut head = format!("{}--{}\r\n", if first { "" } else { "\r\n" }, self.boundary);
        for (name, value) in fields {
            head.push_str(name);
            head.push_str(": ");
            head.extend(value.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }));
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head
    }

    /// The closing delimiter.
    pub fn closing(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Number, fields and content of each part; whether the end came.
    type Parts = (Vec<(PartHead, Vec<u8>)>, bool);

    fn read(boundary: &str, pieces: &[&[u8]], limits: Limits) -> Result<Parts, MultipartError> {
        let mut reader = Reader::new(boundary, limits)?;
        let (mut parts, mut ended) = (Vec::new(), false);
        for piece in pieces {
            reader.feed(piece)?;
            while let Some(event) = reader.poll()? {
                match event {
                    Event::Part(head) => parts.push((head, Vec::new())),
                    Event::Data(data) => parts.last_mut().expect("part first").1.extend_from_slice(&data),
                    Event::PartEnd => {}
                    Event::End => ended = true,
                }
            }
        }
        reader.finish()?;
        Ok((parts, ended))
    }

    fn whole(body: &str) -> Result<Parts, MultipartError> {
        read("b", &[body.as_bytes()], Limits::MTOM)
    }

    fn contents(body: &str) -> Vec<String> {
        let parts = whole(body).expect(body).0;
        parts.into_iter().map(|(_, content)| String::from_utf8(content).expect("text")).collect()
    }

    /// Found by the fuzz target `mtom`.
    #[test]
    fn a_part_head_at_its_bound_is_judged_alike_however_it_is_cut() {
        let limits = Limits { head_bytes: 64, ..Limits::MTOM };
        for (length, accepted) in [(63, true), (64, true), (65, false), (66, false), (67, false)] {
            let body = format!("--b\r\nA: {}\r\n\r\nx\r\n--b--", "y".repeat(length - 3));
            let whole = read("b", &[body.as_bytes()], limits);
            assert_eq!(whole.is_ok(), accepted, "{length}: {whole:?}");
            assert_eq!(read("b", &body.as_bytes().chunks(1).collect::<Vec<_>>(), limits), whole, "{length}");
        }
    }

    #[test]
    fn preamble_epilogue_padding_folding_and_empty_parts_are_accepted() {
        assert_eq!(contents("--b\r\nA: 1\r\n\r\nx\r\n--b--"), ["x"]);
        assert_eq!(contents("pre\r\n--b \t\r\nA: 1\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\nepilogue"), ["x", "y"]);
        assert_eq!(contents("--b\r\nA: 1\r\n\r\n--b\r\n\r\n\r\n--b--"), ["", ""]);
        let head = whole("--b\r\nContent-ID:\r\n <1@x>\r\ncontent-type: a/b;\r\n\tc=d\r\n\r\n\r\n--b--").expect("folded").0.remove(0).0;
        assert_eq!((head.content_id().as_deref(), head.field("content-type")), (Some("1@x"), Some("a/b; c=d")));
    }

    #[test]
    fn base64_parts_are_decoded_and_other_encodings_refused() {
        let part = |encoding: &str, content: &str| format!("--b\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{content}\r\n--b--");
        assert_eq!(contents(&part("BASE64", "aGVs\r\nbG8=")), ["hello"]);
        assert_eq!(contents(&part("8bit", "aGVs")), ["aGVs"]);
        assert_eq!(whole(&part("quoted-printable", "x")).expect_err("refused").rule(), "S-27");
        assert_eq!(whole(&part("base64", "aGVsbG8")).expect_err("refused").rule(), "S-28");
    }

    #[test]
    fn broken_frames_are_refused() {
        for (body, error) in [
            ("", MultipartError::NoParts),
            ("--b--", MultipartError::NoParts),
            ("no delimiter", MultipartError::NoParts),
            ("--b\r\nA: 1\r\n\r\nx", MultipartError::Truncated),
            ("--b\r\nA: 1\r\n\r\nx\r\n--b", MultipartError::Truncated),
            ("--b\r\nA: 1\r\n\r\nx\r\n--b-", MultipartError::Truncated),
            ("--bc\r\n\r\n", MultipartError::Delimiter { part: 0 }),
            ("--b\r\nA: 1\r\n\r\nx\r\n--b\n", MultipartError::Delimiter { part: 1 }),
            ("--b\r\nno field\r\n\r\nx\r\n--b--", MultipartError::Head { part: 0 }),
            ("--b\r\n folded\r\n\r\nx\r\n--b--", MultipartError::Head { part: 0 }),
        ] {
            assert_eq!(whole(body), Err(error), "{body}");
        }
    }

    #[test]
    fn every_bound_holds_at_its_value_and_breaks_one_above() {
        let limits = Limits { preamble_bytes: 4, parts: 2, head_bytes: 10, head_fields: 2, part_bytes: 3, total_bytes: 80 };
        let good = |body: &str| read("b", &[body.as_bytes()], limits).map(|(parts, _)| parts.len());
        assert_eq!(good("1234\r\n--b\r\nABCDE:1234\r\n\r\nxyz\r\n--b\r\nA:\r\nB:\r\n\r\n\r\n--b--1234"), Ok(2));
        for (body, error) in [
            ("12345\r\n--b\r\n\r\n\r\n--b--".to_owned(), MultipartError::Outside { limit: 4 }),
            ("--b\r\n\r\n\r\n--b--1234567".to_owned(), MultipartError::Outside { limit: 4 }),
            ("--b\r\n\r\n\r\n--b\r\n\r\n\r\n--b\r\n\r\n\r\n--b--".to_owned(), MultipartError::TooManyParts { limit: 2 }),
            ("--b\r\nABCDE:12345\r\n\r\n\r\n--b--".to_owned(), MultipartError::HeadTooLarge { part: 0 }),
            ("--b\r\nA:\r\nB:\r\nC:\r\n\r\n\r\n--b--".to_owned(), MultipartError::HeadTooLarge { part: 0 }),
            ("--b\r\n\r\nwxyz\r\n--b--".to_owned(), MultipartError::PartTooLarge { part: 0, limit: 3 }),
            ("x".repeat(81), MultipartError::TooLarge { limit: 80 }),
        ] {
            assert_eq!(good(&body), Err(error), "{body}");
        }
    }

    #[test]
    fn a_head_that_never_ends_is_refused_before_it_is_kept() {
        let mut reader = Reader::new("b", Limits::MTOM).expect("boundary");
        reader.feed(b"--b\r\n").expect("fits");
        let mut refused = None;
        for _ in 0..20 {
            reader.feed(&[b'a'; 1_000]).expect("fits");
            if let Err(error) = reader.poll() {
                refused = Some(error);
                break;
            }
        }
        assert_eq!(refused, Some(MultipartError::HeadTooLarge { part: 0 }));
    }

    proptest! {
        #[test]
        fn any_cut_of_the_bytes_gives_the_same_parts(
            contents in prop::collection::vec(prop_oneof![prop::collection::vec(any::<u8>(), 0..40), Just(b"\r\n--bound\r\n-".to_vec())], 1..5),
            cuts in prop::collection::vec(1_usize..9, 0..200),
        ) {
            let writer = Writer::new("bound4ry".to_owned()).expect("boundary");
            let mut body = Vec::new();
            for (n, content) in contents.iter().enumerate() {
                body.extend_from_slice(writer.head(n == 0, &[("Content-ID", &format!("<{n}@x>"))]).as_bytes());
                body.extend_from_slice(content);
            }
            body.extend_from_slice(writer.closing().as_bytes());
            let (mut pieces, mut rest) = (Vec::new(), &body[..]);
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let (parts, ended) = read("bound4ry", &pieces, Limits::MTOM).expect("well formed");
            prop_assert!(ended);
            prop_assert_eq!(parts.into_iter().map(|(_, content)| content).collect::<Vec<_>>(), contents);
        }

        #[test]
        fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(
            prop_oneof![prop::collection::vec(any::<u8>(), 0..20), Just(b"\r\n--b".to_vec()), Just(b"\r\n\r\n".to_vec()), Just(b"--".to_vec())], 0..30,
        )) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let joined = pieces.concat();
            prop_assert_eq!(read("b", &pieces, Limits::MTOM), read("b", &[&joined], Limits::MTOM));
        }
    }
}

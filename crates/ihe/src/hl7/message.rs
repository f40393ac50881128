//! The text of a message: segments, and their fields down to subcomponents.

use unicode_normalization::UnicodeNormalization as _;

use super::charset::Charset;
use super::header::{Header, Separators};

/// Bounds of one message (profile 06 §1).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Segments.
    pub segments_max: usize,
    /// Bytes of one field.
    pub field_bytes_max: usize,
    /// Repetitions of one field.
    pub repetitions_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segments_max: 500, field_bytes_max: 65_536, repetitions_max: 200 }
    }
}

/// Why the text of a message cannot be read; its header could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A byte that the character set does not have.
    #[error("a byte is no character of the message's character set")]
    Text,
    /// More segments, repetitions, or a longer field than the limits allow.
    #[error("the message has more {what} than the {limit} allowed")]
    Bound {
        /// `segments`, `bytes in a field`, `repetitions of a field`.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A segment's name is not three letters or digits.
    #[error("segment {number} has no name of three letters or digits")]
    Segment {
        /// From 1.
        number: usize,
    },
}

/// A message. `Debug` shows names of segments only.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    separators: Separators,
    charset: Charset,
    segments: Vec<String>,
}

impl Message {
    /// Reads a frame whose header is `header`. Segments end with CR, CR LF or LF.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn read(frame: &[u8], header: &Header, charset: Charset, limits: &Limits) -> Result<Self, MessageError> {
        let separators = *header.separators();
        let mut segments = Vec::new();
        for bytes in frame.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|bytes| !bytes.is_empty()) {
            let number = segments.len() + 1;
            if number > limits.segments_max {
                return Err(MessageError::Bound { what: "segments", limit: limits.segments_max });
            }
            let name = bytes.split(|byte| *byte == separators.field).next().unwrap_or_default();
            if bytes.get(..3).is_none_or(|name| !name.iter().all(u8::is_ascii_alphanumeric)) || number > 1 && name.len() != 3 {
                return Err(MessageError::Segment { number });
            }
            for field in bytes.split(|byte| *byte == separators.field) {
                if field.len() > limits.field_bytes_max {
                    return Err(MessageError::Bound { what: "bytes in a field", limit: limits.field_bytes_max });
                }
                if field.iter().filter(|byte| **byte == separators.repetition).count() >= limits.repetitions_max {
                    return Err(MessageError::Bound { what: "repetitions of a field", limit: limits.repetitions_max });
                }
            }
            segments.push(charset.decode(bytes).ok_or(MessageError::Text)?);
        }
        Ok(Self { separators, charset, segments })
    }

    /// Every segment, in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.segments.iter().map(|text| Segment { of: self, text })
    }

    /// The message as bytes: what was read, each segment ended by CR.
    pub fn write(&self) -> Vec<u8> {
        self.segments.iter().flat_map(|segment| [self.charset.encode(segment), vec![b'\r']]).flatten().collect()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.segments().map(|segment| segment.name())).finish()
    }
}

/// One segment.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    of: &'a Message,
    text: &'a str,
}

impl<'a> Segment<'a> {
    /// Its three characters.
    pub fn name(&self) -> &'a str {
        self.text.get(..3).unwrap_or_default()
    }

    /// Field `n`, from 1, with its repetitions; empty if it is absent. Not for MSH, whose first field is the separator:
    /// [`Header`].
    pub fn field(&self, n: usize) -> Part<'a> {
        self.part(self.text.split(char::from(self.of.separators.field)).nth(n).unwrap_or_default())
    }

    fn part(&self, text: &'a str) -> Part<'a> {
        Part { of: self.of, text }
    }
}

impl std::fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A field, repetition, component or subcomponent. `Debug` shows nothing of it.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    of: &'a Message,
    text: &'a str,
}

/// A value without escapes, in Unicode NFC.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// The value.
    pub value: String,
    /// An escape was not understood and is kept as it was (W-06).
    pub odd_escape: bool,
}

impl<'a> Part<'a> {
    /// Nothing was sent: what is known stays.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// `""`: what is known is deleted.
    pub fn is_null(&self) -> bool {
        self.text == "\"\""
    }

    /// The repetitions of a field; none of an empty one.
    pub fn repetitions(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let Part { of, text } = *self;
        text.split(char::from(of.separators.repetition)).filter(|text| !text.is_empty()).map(move |text| Part { of, text })
    }

    /// The first repetition.
    pub fn first(&self) -> Part<'a> {
        self.repetitions().next().unwrap_or(Part { of: self.of, text: "" })
    }

    /// Component `n` of a repetition, from 1.
    pub fn component(&self, n: usize) -> Part<'a> {
        self.cut(self.of.separators.component, n)
    }

    /// Subcomponent `n` of a component, from 1.
    pub fn subcomponent(&self, n: usize) -> Part<'a> {
        self.cut(self.of.separators.subcomponent, n)
    }

    fn cut(&self, separator: u8, n: usize) -> Part<'a> {
        let text = n.checked_sub(1).and_then(|at| self.text.split(char::from(separator)).nth(at)).unwrap_or_default();
        Part { of: self.of, text }
    }

    /// Without escapes: `\F\ \S\ \T\ \R\ \E\ \Xhh…\` are their characters, `\.br\` is a blank, any other stays.
    pub fn text(&self) -> Text {
        let separators = &self.of.separators;
        let escape = char::from(separators.escape);
        let (mut value, mut odd_escape) = (String::with_capacity(self.text.len()), false);
        let mut rest = self.text;
        while let Some((before, after)) = rest.split_once(escape) {
            value.push_str(before);
            let ended = after.split_once(escape);
            let meant = ended.and_then(|(name, _)| match name {
                "F" => Some(char::from(separators.field).to_string()),
                "S" => Some(char::from(separators.component).to_string()),
                "T" => Some(char::from(separators.subcomponent).to_string()),
                "R" => Some(char::from(separators.repetition).to_string()),
                "E" => Some(escape.to_string()),
                ".br" => Some(" ".to_owned()),
                name => hex::decode(name.strip_prefix('X')?).ok().and_then(|bytes| self.of.charset.decode(&bytes)),
            });
            match (meant, ended) {
                (Some(meant), Some((_, after))) => {
                    value.push_str(&meant);
                    rest = after;
                }
                _ => {
                    // The sign alone is passed over: what follows may begin an escape that is understood.
                    value.push(escape);
                    odd_escape = true;
                    rest = after;
                }
            }
        }
        value.push_str(rest);
        Text { value: value.nfc().collect(), odd_escape }
    }

    /// [`Part::text`] where an odd escape is of no interest.
    pub fn value(&self) -> String {
        self.text().value
    }
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

//! Whether a PDF says that it is encrypted, read while its bytes pass by (ISO 32000-1 §7.5.5, §7.5.8, §7.6).
//!
//! `/Encrypt` counts where it is a key of a trailer or of the dictionary of a cross-reference stream, wherever in the file
//! that stands; the same word in a text or in the content of a stream does not. Only the token under way is kept.

/// Tokens of a PDF, as far as they matter here.
#[derive(Clone, PartialEq, Default)]
pub(super) struct Pdf {
    state: State,
    word: Word,
    /// Open dictionaries.
    depth: u32,
    owner: Owner,
    /// The outermost open dictionary has `/Encrypt`, and `/XRef`.
    encrypt: bool,
    cross_reference: bool,
    found: bool,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum State {
    #[default]
    Between,
    Comment,
    Name,
    Keyword,
    /// `nested` open parentheses.
    Text {
        nested: u32,
        escaped: bool,
    },
    /// After `<`, after `>`, and a hexadecimal string.
    Less,
    Greater,
    Hexadecimal,
    /// Content of a stream, with so many bytes of [`END_OF_STREAM`].
    Stream {
        matched: usize,
    },
}

/// Whose dictionary comes next.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Owner {
    #[default]
    Nobody,
    Trailer,
    Object,
}

const END_OF_STREAM: &[u8] = b"endstream";

/// A token of at most 12 bytes; a longer one is none that matters.
#[derive(Clone, Copy, PartialEq, Default)]
struct Word {
    bytes: [u8; 12],
    length: usize,
}

impl Word {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = (self.length + 1).min(self.bytes.len() + 1);
    }

    fn is(&self, text: &str) -> bool {
        self.bytes.get(..self.length) == Some(text.as_bytes())
    }
}

impl Pdf {
    /// So far a trailer says that the document is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.found
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let (false, Some(byte)) = (self.found, bytes.get(at)) {
            at += match self.state {
                State::Stream { matched: 0 } => bytes[at..].iter().position(|byte| *byte == END_OF_STREAM[0]).unwrap_or(bytes.len() - at),
                _ => 0,
            };
            let byte = bytes.get(at).unwrap_or(byte);
            if at < bytes.len() {
                self.take(*byte);
            }
            at += 1;
        }
    }

    fn take(&mut self, byte: u8) {
        let regular =
            !matches!(byte, 0 | b'\t' | b'\n' | 0x0C | b'\r' | b' ' | b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%');
        match self.state {
            State::Between => self.begin(byte, regular),
            State::Comment if matches!(byte, b'\r' | b'\n') => self.state = State::Between,
            State::Name | State::Keyword if regular => self.word.push(byte),
            State::Name => {
                self.end_name();
                self.begin(byte, regular);
            }
            State::Keyword => {
                self.state = State::Between;
                self.end_keyword();
                if self.state == State::Between {
                    self.begin(byte, regular);
                }
            }
            State::Text { nested, escaped: true } => self.state = State::Text { nested, escaped: false },
            State::Text { nested, .. } => {
                self.state = match byte {
                    b'\\' => State::Text { nested, escaped: true },
                    b'(' => State::Text { nested: nested.saturating_add(1), escaped: false },
                    b')' if nested <= 1 => State::Between,
                    b')' => State::Text { nested: nested - 1, escaped: false },
                    _ => State::Text { nested, escaped: false },
                };
            }
            State::Less if byte == b'<' => {
                self.state = State::Between;
                self.depth = self.depth.saturating_add(1);
            }
            State::Less | State::Hexadecimal => self.state = if byte == b'>' { State::Between } else { State::Hexadecimal },
            State::Greater => {
                self.state = State::Between;
                if byte == b'>' {
                    self.close();
                } else {
                    self.begin(byte, regular);
                }
            }
            State::Stream { matched } => {
                // The only part of the word that is its beginning again is the second `e`.
                let matched = match byte {
                    _ if END_OF_STREAM.get(matched) == Some(&byte) => matched + 1,
                    b'n' if matched == 7 => 2,
                    b'e' => 1,
                    _ => 0,
                };
                self.state = if matched == END_OF_STREAM.len() { State::Between } else { State::Stream { matched } };
            }
            State::Comment => {}
        }
    }

    fn begin(&mut self, byte: u8, regular: bool) {
        self.word = Word::default();
        self.state = match byte {
            b'%' => State::Comment,
            b'(' => State::Text { nested: 1, escaped: false },
            b'<' => State::Less,
            b'>' => State::Greater,
            b'/' => State::Name,
            _ if regular => {
                self.word.push(byte);
                State::Keyword
            }
            _ => State::Between,
        };
    }

    fn end_name(&mut self) {
        if self.depth == 1 {
            self.encrypt |= self.word.is("Encrypt");
            self.cross_reference |= self.word.is("XRef");
        }
    }

    fn end_keyword(&mut self) {
        if self.word.is("trailer") {
            self.expect(Owner::Trailer);
        } else if self.word.is("obj") {
            self.expect(Owner::Object);
        } else if self.word.is("endobj") {
            self.expect(Owner::Nobody);
        } else if self.word.is("stream") && self.depth == 0 && self.owner == Owner::Object {
            self.state = State::Stream { matched: 0 };
        }
    }

    fn expect(&mut self, owner: Owner) {
        (self.owner, self.depth, self.encrypt, self.cross_reference) = (owner, 0, false, false);
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.found |= self.encrypt && (self.owner == Owner::Trailer || self.owner == Owner::Object && self.cross_reference);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypted(bytes: &[u8]) -> bool {
        let of = |step: usize| {
            let mut pdf = Pdf::default();
            bytes.chunks(step).for_each(|chunk| pdf.feed(chunk));
            pdf.is_encrypted()
        };
        let answer = of(1);
        assert!([2, 3, 7, 1000].into_iter().all(|step| of(step) == answer), "depends on how the bytes are cut");
        answer
    }

    #[test]
    fn encrypt_counts_in_a_trailer_and_in_a_cross_reference_stream() {
        assert!(encrypted(b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\ntrailer\n<< /Size 6 /Root 1 0 R /Encrypt 5 0 R >>\n%%EOF"));
        assert!(encrypted(b"%PDF-1.7\n9 0 obj <</Encrypt 5 0 R/DecodeParms<</Columns 5>>/Type/XRef>>stream\nxxx\nendstream endobj"));
        assert!(encrypted(
            b"%PDF-1.7\n3 0 obj<</Length 20>>stream\nendsten(endstreendstream\nendobj trailer<</ID[<0A>(\\)(x))]/Encrypt<</V 1>>>>"
        ));
    }

    #[test]
    fn the_word_elsewhere_does_not() {
        for text in [
            &b"%PDF-1.7\ntrailer << /Size 6 /Root 1 0 R >>\nstartxref\n%%EOF"[..],
            b"%PDF-1.7\n1 0 obj <</EncryptMetadata false/Encrypt 5 0 R>> endobj trailer <</EncryptMetadata true>>",
            b"%PDF-1.7\ntrailer <</Info (<</Encrypt 5 0 R>>) /A <</Encrypt 1>> >>",
            b"%PDF-1.7\n3 0 obj <</Length 40>> stream\ntrailer <</Encrypt 5 0 R>>\nendstream endobj trailer <</Size 1>>",
            b"% trailer <</Encrypt 5 0 R>>\n",
            b"trailer <</Encrypt 5 0 R",
        ] {
            assert!(!encrypted(text), "{}", String::from_utf8_lossy(text));
        }
    }
}

//! Base64 decoding in pieces.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Wrong alphabet, padding or length (profile 08 S-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content is not base64: alphabet, padding or length is wrong")]
pub struct NotBase64;

/// Decodes base64 that arrives in pieces cut anywhere; XML white space is passed over.
#[derive(Debug, Default)]
pub struct Base64Stream {
    /// Characters that do not make a group of four yet.
    pending: Vec<u8>,
    /// Padding was seen: only white space may follow.
    ended: bool,
}

impl Base64Stream {
    /// Decodes a piece and appends its bytes to `out`.
    ///
    /// # Errors
    /// [`NotBase64`].
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        self.pending.extend(piece.iter().filter(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')));
        let whole = self.pending.len() / 4 * 4;
        if self.ended && !self.pending.is_empty() {
            return Err(NotBase64);
        }
        if whole > 0 {
            STANDARD.decode_vec(&self.pending[..whole], out).map_err(|_| NotBase64)?;
            self.ended = self.pending[whole - 1] == b'=';
            self.pending.drain(..whole);
            if self.ended && !self.pending.is_empty() {
                return Err(NotBase64);
            }
        }
        Ok(())
    }

    /// The content ends.
    ///
    /// # Errors
    /// [`NotBase64`] when the last group is incomplete.
    pub fn finish(&self) -> Result<(), NotBase64> {
        if self.pending.is_empty() { Ok(()) } else { Err(NotBase64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&str]) -> Result<Vec<u8>, NotBase64> {
        let (mut stream, mut out) = (Base64Stream::default(), Vec::new());
        for piece in pieces {
            stream.push(piece.as_bytes(), &mut out)?;
        }
        stream.finish().map(|()| out)
    }

    #[test]
    fn pieces_cut_anywhere_give_the_same_bytes() {
        for pieces in [&["aGVsbG8="][..], &["a", "GV", "sbG", "8", "="], &[" aGVs\r\n", "\tbG8=\n"]] {
            assert_eq!(decode(pieces).as_deref(), Ok(&b"hello"[..]));
        }
        assert_eq!(decode(&[" \n"]).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn wrong_alphabet_padding_or_length_is_refused() {
        for pieces in [&["aGVsbG8"][..], &["aGVs_G8="], &["aA==", "aA=="], &["aA==aA=="], &["a==="], &["=AAA"], &["aB=="]] {
            assert_eq!(decode(pieces), Err(NotBase64), "{pieces:?}");
        }
    }
}

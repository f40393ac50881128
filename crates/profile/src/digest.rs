//! Digest of an instance (profile 01 §3.1, 11 §1): which content is meant, at site and centre.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// SHA-256 over the transfer syntax UID, one byte 00H and the data set bytes as received. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hex digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("digest is not 64 lower-case hex digits"))
    }
}

/// Computes a [`Digest`] while the bytes stream.
#[derive(Clone)]
pub struct Digester(Sha256);

impl Digester {
    /// `transfer_syntax_uid` without padding.
    pub fn new(transfer_syntax_uid: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(transfer_syntax_uid.as_bytes());
        hash.update([0]);
        Self(hash)
    }

    /// The next data set bytes, in order.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_profile() {
        let mut digester = Digester::new("1.2.840.10008.1.2.1");
        digester.update(&[0x08, 0x00, 0x05, 0x00, 0x43, 0x53, 0x0A, 0x00]);
        digester.update(b"ISO_IR 192");
        assert_eq!(digester.finish().to_string(), "22d0dcf6d5f7d7cd37183bc650aec166cb988772e078cfcf9b69d132643c42e5");
    }
}

//! Bytes of a log (profile 07 §6.1–§6.3): segment header, record framing, hash chain, body encryption, checkpoints.
//! No IO here.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idr_profile::receipt::canonical;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt;

/// SHA-256 value of the chain.
pub(super) type Hash = [u8; 32];

/// First line of a segment. `prev_hash` is the hash of the record before `first_seq`; `kid` names the body key and is
/// absent when bodies are not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: String,
    pub log_id: String,
    pub first_seq: u64,
    pub prev_hash: String,
    pub created: Timestamp,
    #[serde(default)]
    pub kid: Option<String>,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut line = canonical_bytes(self);
        line.push(b'\n');
        line
    }

    /// The header and the bytes it takes. `None`: no whole, readable header line is there.
    pub(super) fn decode(segment: &[u8]) -> Option<(Self, usize)> {
        let end = segment.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n')?;
        let header: Self = serde_json::from_slice(&segment[..end]).ok()?;
        (header.format == FORMAT).then_some((header, end + 1))
    }

    pub(super) fn prev(&self) -> Option<Hash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.prev_hash, &mut hash).ok().map(|()| hash)
    }
}

/// One framed record. `body` is as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub seq: u64,
    pub time_ns: i64,
    pub prev: Hash,
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Appends `len ‖ crc32c ‖ seq ‖ time_ns ‖ prev ‖ body`. The CRC covers what follows it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.body.len()).expect("bodies are bounded by RECORD_BYTES_MAX");
        out.extend_from_slice(&len.to_le_bytes());
        let crc_at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.time_ns.to_be_bytes());
        out.extend_from_slice(&self.prev);
        out.extend_from_slice(self.body);
        let crc = CRC32C.checksum(&out[crc_at + 4..]);
        out[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// The frame at the start of `bytes` and its length there. `None`: cut short, above the bound, or a wrong CRC.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let crc = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
        if len > BODY_BYTES_MAX {
            return None;
        }
        let covered = bytes.get(8..FRAME_BYTES + len)?;
        if CRC32C.checksum(covered) != crc {
            return None;
        }
        let (seq, rest) = covered.split_first_chunk()?;
        let (time_ns, rest) = rest.split_first_chunk()?;
        let (prev, body) = rest.split_first_chunk()?;
        let frame = Self { seq: u64::from_be_bytes(*seq), time_ns: i64::from_be_bytes(*time_ns), prev: *prev, body };
        Some((frame, FRAME_BYTES + len))
    }

    /// `SHA-256("idral/1" ‖ 0x00 ‖ seq ‖ time_ns ‖ prev ‖ SHA-256(body))`.
    pub(super) fn hash(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(FORMAT);
        hash.update([0]);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.time_ns.to_be_bytes());
        hash.update(self.prev);
        hash.update(Sha256::digest(self.body));
        hash.finalize().into()
    }
}

/// `prev` of record 1: `SHA-256("idral/1" ‖ 0x00 ‖ log_id)`.
pub(super) fn genesis(log_id: &str) -> Hash {
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    hash.update([0]);
    hash.update(log_id.as_bytes());
    hash.finalize().into()
}

/// AES-256-GCM key for record bodies. A stored body that begins with `{` is plain JSON; one that begins with 01H is
/// 01H ‖ nonce (12, random) ‖ ciphertext ‖ tag (16), with the log id, `seq` and `time_ns` as additional data.
pub struct BodyKey {
    key: RandomizedNonceKey,
    kid: String,
}

impl BodyKey {
    /// From 32 secret bytes of the node's credentials.
    pub fn new(secret: &[u8; 32]) -> Self {
        let key = RandomizedNonceKey::new(&AES_256_GCM, secret).expect("32 bytes are an AES-256 key");
        let mut kid = Sha256::new();
        kid.update(b"idral/1-body");
        kid.update(secret);
        Self { key, kid: hex::encode(&kid.finalize()[..8]) }
    }

    /// Names the key in segment headers: 16 hex digits.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn seal(&self, log_id: &str, seq: u64, time_ns: i64, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(additional(log_id, seq, time_ns), &mut sealed).ok()?;
        let mut body = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        body.push(ENCRYPTED);
        body.extend_from_slice(nonce.as_ref());
        body.extend_from_slice(&sealed);
        Some(body)
    }

    /// The JSON of a stored body; `None` if it was sealed with another key, or changed.
    pub(super) fn unseal(&self, log_id: &str, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let sealed = frame.body.strip_prefix(&[ENCRYPTED])?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut plain = sealed.to_vec();
        let aad = additional(log_id, frame.seq, frame.time_ns);
        let length = self.key.open_in_place(Nonce::from(nonce), aad, &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for BodyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn additional(log_id: &str, seq: u64, time_ns: i64) -> Aad<Vec<u8>> {
    let mut aad = log_id.as_bytes().to_vec();
    aad.push(0);
    aad.extend_from_slice(&seq.to_be_bytes());
    aad.extend_from_slice(&time_ns.to_be_bytes());
    Aad::from(aad)
}

/// The JSON of a stored body, opened with `key` if it is encrypted.
pub(super) fn plain_body(log_id: &str, frame: &Frame<'_>, key: Option<&BodyKey>) -> Option<Vec<u8>> {
    match frame.body.first() {
        Some(&b'{') => Some(frame.body.to_vec()),
        _ => key?.unseal(log_id, frame),
    }
}

/// Ed25519 key that signs checkpoints.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    kid: String,
}

impl CheckpointKey {
    /// From PKCS#8 bytes. `None` if they hold no Ed25519 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        let kid = hex::encode(Sha256::digest(pair.public_key().as_ref()));
        Some(Self { pair, kid })
    }

    /// SHA-256 of the public key, hex.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The 32 bytes that [`super::verify`] needs.
    pub fn public_key(&self) -> [u8; 32] {
        self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Checkpoint record: who holds the key vouches for the chain up to `seq`. Stored as a plain body, so that a log
/// verifies without the body key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub seq: u64,
    pub hash: String,
    pub time: Timestamp,
    pub kid: String,
    pub sig: String,
}

#[derive(Serialize, Deserialize)]
struct CheckpointBody {
    checkpoint: Checkpoint,
}

impl Checkpoint {
    pub(super) fn sign(key: &CheckpointKey, log_id: &str, seq: u64, hash: &Hash, time_ns: i64) -> Self {
        let sig = key.pair.sign(&checkpoint_bytes(log_id, seq, hash, time_ns));
        Self { seq, hash: hex::encode(hash), time: timestamp(time_ns), kid: key.kid.clone(), sig: URL_SAFE_NO_PAD.encode(sig.as_ref()) }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        canonical_bytes(&CheckpointBody { checkpoint: self })
    }

    /// Reads a body that is a checkpoint; `None` for any other body.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        if !body.starts_with(br#"{"checkpoint":"#) {
            return None;
        }
        serde_json::from_slice::<CheckpointBody>(body).ok().map(|body| body.checkpoint)
    }

    /// Whether it vouches, by one of `keys` (kid → public key), for `hash` at `seq`.
    pub(super) fn holds(&self, log_id: &str, seq: u64, hash: &Hash, keys: &HashMap<String, [u8; 32]>) -> bool {
        let signed = || {
            let signature = URL_SAFE_NO_PAD.decode(&self.sig).ok()?;
            let time_ns = i64::try_from(self.time.as_nanosecond()).ok()?;
            let key = UnparsedPublicKey::new(&ED25519, keys.get(&self.kid)?);
            key.verify(&checkpoint_bytes(log_id, self.seq, hash, time_ns), &signature).ok()
        };
        self.seq == seq && self.hash == hex::encode(hash) && signed().is_some()
    }
}

fn checkpoint_bytes(log_id: &str, seq: u64, hash: &Hash, time_ns: i64) -> Vec<u8> {
    let mut bytes = b"idral/1-cp\0".to_vec();
    bytes.extend_from_slice(log_id.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(hash);
    bytes.extend_from_slice(&time_ns.to_be_bytes());
    bytes
}

fn canonical_bytes(value: &impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("headers and checkpoints have string keys");
    canonical(&value).expect("sequence numbers stay below 2^53").into_bytes()
}

/// Nanoseconds since 1970, as framed. Saturates in the year 2262.
pub(super) fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// The instant of framed nanoseconds.
pub(super) fn timestamp(time_ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time_ns)).expect("64-bit nanoseconds lie within the years 1677–2262")
}

pub(super) const FORMAT: &str = "idral/1";
const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
/// Bytes before the body.
pub(super) const FRAME_BYTES: usize = 4 + 4 + 8 + 8 + 32;
/// A record, sealed.
const BODY_BYTES_MAX: usize = super::record::RECORD_BYTES_MAX + 1 + NONCE_BYTES + 16;
pub(super) const HEADER_BYTES_MAX: usize = 4096;
const NONCE_BYTES: usize = 12;
const ENCRYPTED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back_and_no_single_bit_can_change() {
        let frame = Frame { seq: 7, time_ns: 1_768_467_912_345_678_901, prev: genesis("n1.use"), body: br#"{"a":1}"# };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(Frame::decode(&bytes), Some((frame, bytes.len())));
        for bit in 32..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::decode(&other), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn the_crc_is_crc32c() {
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_body_opens_only_at_its_place_with_its_key() {
        let key = BodyKey::new(&[7; 32]);
        let body = key.seal("n1.use", 3, 5, br#"{"a":1}"#).unwrap();
        let frame = Frame { seq: 3, time_ns: 5, prev: [0; 32], body: &body };
        assert_eq!(key.unseal("n1.use", &frame).unwrap(), br#"{"a":1}"#);
        assert_eq!(key.unseal("n2.use", &frame), None);
        assert_eq!(key.unseal("n1.use", &Frame { seq: 4, ..frame }), None);
        assert_eq!(BodyKey::new(&[8; 32]).unseal("n1.use", &frame), None);
        assert_ne!(body, key.seal("n1.use", 3, 5, br#"{"a":1}"#).unwrap(), "nonces are not repeated");
    }

    #[test]
    fn a_checkpoint_vouches_for_one_log_place_and_hash() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = CheckpointKey::from_pkcs8(pair.to_pkcs8v1().unwrap().as_ref()).unwrap();
        let keys = HashMap::from([(key.kid().to_owned(), key.public_key())]);
        let hash = genesis("n1.use");
        let signed = Checkpoint::sign(&key, "n1.use", 9, &hash, 1_768_467_912_345_678_901);
        let read = Checkpoint::decode(&signed.encode()).unwrap();
        assert!(read.holds("n1.use", 9, &hash, &keys));
        assert!(!read.holds("n1.security", 9, &hash, &keys));
        assert!(!read.holds("n1.use", 8, &hash, &keys));
        assert!(!read.holds("n1.use", 9, &genesis("n2.use"), &keys));
        assert!(!read.holds("n1.use", 9, &hash, &HashMap::new()), "an unknown key vouches for nothing");
        assert_eq!(Checkpoint::decode(br#"{"closing":{}}"#), None);
    }
}

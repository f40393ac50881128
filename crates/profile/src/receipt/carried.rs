//! Signing and verifying: detached JWS (RFC 7515 Appendix F) with Ed25519 over the canonical form.

use super::wire::{self, ALGORITHM, FormFault, Wire};
use super::{Holder, Receipt, ReceiptHash, Statement};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Bound of one carried receipt when reading. Only a recovery record after a very bad crash comes near.
pub const CARRIED_BYTES_MAX: usize = 65_536;

/// A signed receipt: `{"receipt":{…},"jws":"header..signature"}` (11 §2).
///
/// Being `Carried` says that it is well formed, not that the signature holds: that is [`Verifier::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    receipt: Receipt,
    kid: String,
    canonical: String,
    jws: String,
    hash: ReceiptHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CarriedWire<'a> {
    #[serde(borrow)]
    receipt: Wire<'a>,
    #[serde(borrow)]
    jws: Cow<'a, str>,
}

impl Carried {
    /// Reads one carried receipt exactly as [`Carried::to_json`] writes it; surrounding white space is allowed.
    ///
    /// # Errors
    /// [`FormFault`]; any other spelling of the same receipt is [`FormFault::NotCanonical`].
    pub fn parse(text: &str) -> Result<Self, FormFault> {
        let text = text.trim();
        if text.len() > CARRIED_BYTES_MAX {
            return Err(FormFault::TooLong { max: CARRIED_BYTES_MAX });
        }
        let carried = Self::read(serde_json::from_str(text).map_err(|error| FormFault::Json { column: error.column() })?)?;
        if carried.to_json() == text { Ok(carried) } else { Err(FormFault::NotCanonical) }
    }

    /// Reads one element of a JSON array of receipts, whose spelling the carrier may have changed (11 §3).
    ///
    /// # Errors
    /// [`FormFault`].
    pub fn from_value(value: &serde_json::Value) -> Result<Self, FormFault> {
        Self::read(CarriedWire::deserialize(value).map_err(|error| FormFault::Json { column: error.column() })?)
    }

    fn read(wire: CarriedWire<'_>) -> Result<Self, FormFault> {
        let (receipt, kid) = wire::read(&wire.receipt)?;
        let canonical = wire::write(&receipt, &kid);
        if canonical.len() + wire.jws.len() > CARRIED_BYTES_MAX {
            return Err(FormFault::TooLong { max: CARRIED_BYTES_MAX });
        }
        let jws = wire.jws.into_owned();
        let (named, _, _) = read_jws(&jws)?;
        if named != kid {
            return Err(FormFault::Jws);
        }
        Ok(Self { hash: ReceiptHash::of(canonical.as_bytes()), receipt, kid, canonical, jws })
    }

    /// The receipt.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Key that signed it: SHA-256 of the public key, hex.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// RFC 8785 text of the receipt: what is hashed and signed.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// `header..signature`.
    pub fn jws(&self) -> &str {
        &self.jws
    }

    /// The name under which others refer to it (`prev`, `log_prev`, `r3`).
    pub fn hash(&self) -> ReceiptHash {
        self.hash
    }

    /// `{"receipt":{…},"jws":"…"}`, one line, no white space.
    pub fn to_json(&self) -> String {
        format!("{{\"receipt\":{},\"jws\":\"{}\"}}", self.canonical, self.jws)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
}

/// Kid, encoded header and signature of a detached compact JWS.
fn read_jws(jws: &str) -> Result<(String, &str, [u8; 64]), FormFault> {
    let (encoded, signature) = jws.split_once("..").ok_or(FormFault::Jws)?;
    let header = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| FormFault::Jws)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| FormFault::Jws)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(FormFault::Jws)?;
    if header.alg != ALGORITHM {
        return Err(FormFault::Jws);
    }
    Ok((header.kid, encoded, signature))
}

fn signing_input(header: &str, payload: &[u8]) -> String {
    let mut input = String::with_capacity(header.len() + 1 + payload.len().div_ceil(3) * 4);
    input.push_str(header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input
}

/// Why key bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PKCS#8 with an Ed25519 key.
    #[error("receipt key is not an Ed25519 key in PKCS#8; make a new one with a key record signed by the old one")]
    Pkcs8,
    /// `key` is not base64url of 32 bytes.
    #[error("receipt key: `key` is not base64url of 32 bytes")]
    Key,
    /// `kid` is not the SHA-256 of `key`.
    #[error("receipt key: `kid` is not the SHA-256 of `key`")]
    Kid,
    /// `holder` is not `<oid>/<node>`.
    #[error("receipt key: `holder` is not `<organisation OID>/<node id>`")]
    Holder,
}

/// The receipt key of this node (kind K6 of 10 §5.2). One signature takes some 20 µs.
pub struct Signer {
    key: Ed25519KeyPair,
    public: [u8; 32],
    kid: String,
    header: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

impl Signer {
    /// Takes the key from PKCS#8 (RFC 5958), as `Ed25519KeyPair::generate_pkcs8` of aws-lc-rs makes it.
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let key = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Pkcs8)?;
        let public: [u8; 32] = key.public_key().as_ref().try_into().map_err(|_| KeyError::Pkcs8)?;
        let kid = wire::key_id(&public);
        let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{ALGORITHM}\",\"kid\":\"{kid}\"}}"));
        Ok(Self { key, public, kid, header })
    }

    /// SHA-256 of the public key, hex.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.public
    }

    /// The row of `trust.toml` that makes others believe this key.
    pub fn to_receipt_key(&self, holder: &Holder) -> ReceiptKey {
        ReceiptKey { holder: holder.to_string(), kid: self.kid.clone(), key: URL_SAFE_NO_PAD.encode(self.public) }
    }

    /// Signs a receipt. Its `at` is cut to milliseconds.
    pub fn sign(&self, mut receipt: Receipt) -> Carried {
        receipt.at = wire::cut(receipt.at);
        let canonical = wire::write(&receipt, &self.kid);
        let jws = self.sign_detached(canonical.as_bytes());
        Carried { hash: ReceiptHash::of(canonical.as_bytes()), receipt, kid: self.kid.clone(), canonical, jws }
    }

    /// Detached JWS over any bytes, for what else a node signs (result of a reconciliation, 11 §5).
    pub fn sign_detached(&self, payload: &[u8]) -> String {
        let signature = self.key.sign(signing_input(&self.header, payload).as_bytes());
        format!("{}..{}", self.header, URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `[[receipt_keys]]` of `trust.toml` (11 §2).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptKey {
    /// `<organisation OID>/<node id>`.
    pub holder: String,
    /// SHA-256 of the key, 64 lower-case hex digits.
    pub kid: String,
    /// base64url of the 32 bytes.
    pub key: String,
}

/// A key that is believed, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Only this holder may sign with it.
    pub holder: Holder,
    /// Ed25519.
    pub key: [u8; 32],
}

/// Why a signature says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// No key of that id is believed.
    #[error("receipt is signed with key {kid}, which is not in receipt_keys and in no key record before it")]
    UnknownKey {
        /// Its id.
        kid: String,
    },
    /// The key belongs to another holder.
    #[error("receipt of {named} is signed with a key of {owner}")]
    Holder {
        /// The holder that the receipt names.
        named: Holder,
        /// Whose the key is.
        owner: Holder,
    },
    /// Receipt or signature was changed.
    #[error("signature does not hold: receipt or signature was changed")]
    Signature,
    /// Not a detached JWS.
    #[error(transparent)]
    Form(#[from] FormFault),
}

/// Public keys by id. Works offline.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    keys: BTreeMap<String, PublicKey>,
}

impl Verifier {
    /// Believes the keys of `trust.toml`, old ones included.
    ///
    /// # Errors
    /// [`KeyError`] of the first row that does not hold together.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a ReceiptKey>) -> Result<Self, KeyError> {
        let mut keys = BTreeMap::new();
        for row in rows {
            let key = wire::public_key(&row.key).ok_or(KeyError::Key)?;
            if wire::key_id(&key) != row.kid {
                return Err(KeyError::Kid);
            }
            let holder = Holder::parse(&row.holder).map_err(|_| KeyError::Holder)?;
            keys.insert(row.kid.clone(), PublicKey { holder, key });
        }
        Ok(Self { keys })
    }

    /// The key of an id.
    pub fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.get(kid)
    }

    /// Whether the holder that the receipt names signed exactly this receipt.
    ///
    /// # Errors
    /// [`SignatureFault`].
    pub fn verify(&self, carried: &Carried) -> Result<(), SignatureFault> {
        let owner = self.verify_detached(carried.canonical.as_bytes(), &carried.jws)?;
        if owner.holder != carried.receipt.holder {
            return Err(SignatureFault::Holder { named: carried.receipt.holder.clone(), owner: owner.holder.clone() });
        }
        Ok(())
    }

    /// Verifies a detached JWS over any bytes and tells whose key it was.
    ///
    /// # Errors
    /// [`SignatureFault`], never [`SignatureFault::Holder`].
    pub fn verify_detached(&self, payload: &[u8], jws: &str) -> Result<&PublicKey, SignatureFault> {
        let (kid, header, signature) = read_jws(jws)?;
        let owner = self.keys.get(&kid).ok_or(SignatureFault::UnknownKey { kid })?;
        UnparsedPublicKey::new(&ED25519, owner.key)
            .verify(signing_input(header, payload).as_bytes(), &signature)
            .map_err(|_| SignatureFault::Signature)?;
        Ok(owner)
    }

    /// Verifies, and if it is a key record believes the new key from now on.
    ///
    /// # Errors
    /// As [`Verifier::verify`]; then nothing was learnt.
    pub fn learn(&mut self, carried: &Carried) -> Result<(), SignatureFault> {
        self.verify(carried)?;
        if let Statement::Key { new_key } = carried.receipt.statement {
            // A record cannot make a key of another holder its own.
            let holder = carried.receipt.holder.clone();
            self.keys.entry(wire::key_id(&new_key)).or_insert(PublicKey { holder, key: new_key });
        }
        Ok(())
    }
}

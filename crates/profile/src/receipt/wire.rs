//! Receipt ⇄ JSON. The fields of [`Wire`] stand in the order of RFC 8785, so that writing it is its canonical form.

use super::canonical::INTEGER_MAX;
use super::{COMMITS_LISTED_MAX, Commits, Ground, Holder, Kind, Object, Receipt, ReceiptHash, Source, Statement};
use crate::digest::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

pub(super) const ALGORITHM: &str = "EdDSA";

/// Why a JSON value is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormFault {
    /// Longer than [`super::CARRIED_BYTES_MAX`].
    #[error("carried receipt is longer than {max} bytes")]
    TooLong {
        /// The limit, bytes.
        max: usize,
    },
    /// Not JSON, a field of another type, or a field that no receipt has.
    #[error("receipt is not the JSON of 11 §2 at column {column}")]
    Json {
        /// Where reading stopped.
        column: usize,
    },
    /// A field is missing, has another form, or does not belong to this type.
    #[error("receipt field `{0}` is missing, malformed or not of this type")]
    Field(&'static str),
    /// The same receipt, but not byte for byte as it was signed.
    #[error("carried receipt is not in its canonical form")]
    NotCanonical,
    /// `jws` is no detached compact JWS with `EdDSA` and the `kid` of the receipt.
    #[error("receipt signature is not a detached JWS with EdDSA and the kid of the receipt")]
    Jws,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSource<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    calling_ae_title: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    certificate_sha256: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireCommits {
    One(ReceiptHash),
    Many(Vec<ReceiptHash>),
}

/// `Some(None)` is the JSON null, `None` an absent field.
#[expect(clippy::option_option, reason = "null and absent differ in the canonical form")]
fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<ReceiptHash>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    attempt: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    commitment: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    document_uid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    holder: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    kid: Cow<'a, str>,
    log_prev: Option<ReceiptHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<Cow<'a, [ReceiptHash]>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    new_key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    new_kid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#override: Option<Cow<'a, [String]>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    prev: Option<Option<ReceiptHash>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r3: Option<WireCommits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sop_class_uid: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sop_instance_uid: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    source: Option<WireSource<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    study_uid: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    transfer_syntax_uid: Option<Cow<'a, str>>,
    r#type: Kind,
    v: u8,
}

/// Canonical text of a receipt, signed with the key `kid`.
pub(super) fn write(receipt: &Receipt, kid: &str) -> String {
    let mut wire = Wire {
        alg: ALGORITHM.into(),
        at: instant(receipt.at).into(),
        attempt: None,
        commitment: None,
        digest: None,
        document_uid: None,
        holder: receipt.holder.to_string().into(),
        id: receipt.id.as_hyphenated().to_string().into(),
        kid: kid.into(),
        log_prev: receipt.log_prev,
        missing: None,
        new_key: None,
        new_kid: None,
        r#override: None,
        prev: None,
        r3: None,
        sent_digest: None,
        size_bytes: None,
        sop_class_uid: None,
        sop_instance_uid: None,
        source: None,
        study_uid: None,
        transfer_syntax_uid: None,
        r#type: receipt.kind(),
        v: 1,
    };
    if let Some(object) = receipt.object() {
        wire.sop_instance_uid = Some((&object.sop_instance_uid).into());
        wire.sop_class_uid = Some((&object.sop_class_uid).into());
        wire.study_uid = Some((&object.study_uid).into());
        wire.transfer_syntax_uid = Some((&object.transfer_syntax_uid).into());
        wire.digest = Some(object.digest);
        wire.size_bytes = Some(object.size_bytes);
    }
    let source = match &receipt.statement {
        Statement::Acceptance { source, .. } | Statement::Commit { source, .. } => source,
        Statement::HandOver { source, attempt, overrides, sent_digest, .. } => {
            wire.attempt = Some(attempt.into());
            wire.r#override = (!overrides.is_empty()).then(|| overrides.into());
            wire.sent_digest = *sent_digest;
            source
        }
        Statement::Registration { study_uid, source, document_uid, commits } => {
            wire.study_uid = Some(study_uid.into());
            wire.document_uid = Some(document_uid.into());
            wire.r3 = Some(match commits {
                Commits::Listed(hashes) => WireCommits::Many(hashes.clone()),
                Commits::Root(root) => WireCommits::One(ReceiptHash(*root)),
            });
            source
        }
        Statement::Release { source, ground, .. } => {
            match ground {
                Ground::Receipts { commit, .. } => wire.r3 = Some(WireCommits::One(*commit)),
                Ground::Commitment(transaction_uid) => wire.commitment = Some(transaction_uid.into()),
            }
            source
        }
        Statement::Recovery { missing } => {
            wire.missing = Some(missing.into());
            return text(&wire);
        }
        Statement::Key { new_key } => {
            wire.new_kid = Some(key_id(new_key).into());
            wire.new_key = Some(URL_SAFE_NO_PAD.encode(new_key).into());
            return text(&wire);
        }
    };
    wire.prev = Some(receipt.prev());
    wire.source = Some(WireSource {
        calling_ae_title: source.calling_ae_title.as_deref().map(Into::into),
        certificate_sha256: source.certificate_sha256.map(|sha256| hex::encode(sha256).into()),
    });
    text(&wire)
}

fn text(wire: &Wire<'_>) -> String {
    serde_json::to_string(wire).expect("strings, integers and lists only")
}

/// Reads a receipt and the `kid` that it names. Everything that is read is written again by [`write`].
pub(super) fn read(wire: &Wire<'_>) -> Result<(Receipt, String), FormFault> {
    let required = |present: bool, field| if present { Ok(()) } else { Err(FormFault::Field(field)) };
    required(wire.v == 1, "v")?;
    required(wire.alg == ALGORITHM, "alg")?;
    required(hex32(&wire.kid).is_some(), "kid")?;
    let id = Uuid::try_parse(&wire.id).map_err(|_| FormFault::Field("id"))?;
    required(id.get_version_num() == 7 && wire.id == id.as_hyphenated().to_string(), "id")?;
    let at: Timestamp = wire.at.parse().map_err(|_| FormFault::Field("at"))?;
    required(wire.at == instant(at), "at")?;
    let holder = Holder::parse(&wire.holder).map_err(|_| FormFault::Field("holder"))?;
    let receipt = Receipt { id, at, holder, log_prev: wire.log_prev, statement: statement(wire)? };
    // What belongs to another type was not read above: it would be missing from what we write.
    fields_of(receipt.kind(), wire)?;
    Ok((receipt, wire.kid.clone().into_owned()))
}

fn statement(wire: &Wire<'_>) -> Result<Statement, FormFault> {
    let object = || {
        Ok(Object {
            sop_instance_uid: uid(&wire.sop_instance_uid, "sop_instance_uid")?,
            sop_class_uid: uid(&wire.sop_class_uid, "sop_class_uid")?,
            study_uid: uid(&wire.study_uid, "study_uid")?,
            transfer_syntax_uid: uid(&wire.transfer_syntax_uid, "transfer_syntax_uid")?,
            digest: wire.digest.ok_or(FormFault::Field("digest"))?,
            size_bytes: wire.size_bytes.filter(|size| *size <= INTEGER_MAX).ok_or(FormFault::Field("size_bytes"))?,
        })
    };
    let source = || {
        let source = wire.source.as_ref().ok_or(FormFault::Field("source"))?;
        let calling_ae_title = source.calling_ae_title.as_deref().map(str::to_owned);
        let title_ok = calling_ae_title.as_ref().is_none_or(|title| !title.is_empty() && title.chars().count() <= 16);
        let certificate_sha256 = match source.certificate_sha256.as_deref() {
            None => None,
            Some(text) => Some(hex32(text).ok_or(FormFault::Field("source"))?),
        };
        title_ok.then_some(Source { calling_ae_title, certificate_sha256 }).ok_or(FormFault::Field("source"))
    };
    let prev = wire.prev.ok_or(FormFault::Field("prev"));
    Ok(match wire.r#type {
        Kind::Acceptance => {
            if prev?.is_some() {
                return Err(FormFault::Field("prev"));
            }
            Statement::Acceptance { object: object()?, source: source()? }
        }
        Kind::HandOver => Statement::HandOver {
            object: object()?,
            source: source()?,
            acceptance: prev?.ok_or(FormFault::Field("prev"))?,
            attempt: wire.attempt.as_deref().filter(|id| (1..=64).contains(&id.len())).ok_or(FormFault::Field("attempt"))?.to_owned(),
            overrides: match wire.r#override.as_deref() {
                None => Vec::new(),
                Some(rules) if (1..=64).contains(&rules.len()) && rules.iter().all(|rule| (1..=16).contains(&rule.len())) => rules.to_vec(),
                Some(_) => return Err(FormFault::Field("override")),
            },
            sent_digest: wire.sent_digest,
        },
        Kind::Commit => Statement::Commit { object: object()?, source: source()?, acceptance: prev? },
        Kind::Registration => {
            if prev?.is_some() {
                return Err(FormFault::Field("prev"));
            }
            Statement::Registration {
                study_uid: uid(&wire.study_uid, "study_uid")?,
                source: source()?,
                document_uid: uid(&wire.document_uid, "document_uid")?,
                commits: match &wire.r3 {
                    Some(WireCommits::Many(hashes)) if hashes.len() <= COMMITS_LISTED_MAX && hashes.is_sorted() => {
                        Commits::Listed(hashes.clone())
                    }
                    Some(WireCommits::One(root)) => Commits::Root(root.0),
                    _ => return Err(FormFault::Field("r3")),
                },
            }
        }
        Kind::Release => Statement::Release {
            object: object()?,
            source: source()?,
            ground: match (&wire.r3, prev?, &wire.commitment) {
                (Some(WireCommits::One(commit)), Some(registration), None) => Ground::Receipts { commit: *commit, registration },
                (None, None, Some(_)) => Ground::Commitment(uid(&wire.commitment, "commitment")?),
                _ => return Err(FormFault::Field("r3")),
            },
        },
        Kind::Recovery => {
            let missing = wire.missing.as_deref().filter(|missing| !missing.is_empty()).ok_or(FormFault::Field("missing"))?;
            Statement::Recovery { missing: missing.to_vec() }
        }
        Kind::Key => {
            let new_key = wire.new_key.as_deref().and_then(public_key).ok_or(FormFault::Field("new_key"))?;
            if wire.new_kid.as_deref() != Some(key_id(&new_key).as_str()) {
                return Err(FormFault::Field("new_kid"));
            }
            Statement::Key { new_key }
        }
    })
}

/// Refuses a field that this type does not have.
fn fields_of(kind: Kind, wire: &Wire<'_>) -> Result<(), FormFault> {
    use Kind::{Acceptance, Commit, HandOver, Key, Recovery, Registration, Release};
    let object: &[Kind] = &[Acceptance, HandOver, Commit, Release];
    let rows: [(&'static str, bool, &[Kind]); 17] = [
        ("attempt", wire.attempt.is_some(), &[HandOver]),
        ("commitment", wire.commitment.is_some(), &[Release]),
        ("digest", wire.digest.is_some(), object),
        ("document_uid", wire.document_uid.is_some(), &[Registration]),
        ("missing", wire.missing.is_some(), &[Recovery]),
        ("new_key", wire.new_key.is_some(), &[Key]),
        ("new_kid", wire.new_kid.is_some(), &[Key]),
        ("override", wire.r#override.is_some(), &[HandOver]),
        ("prev", wire.prev.is_some(), &[Acceptance, HandOver, Commit, Registration, Release]),
        ("r3", wire.r3.is_some(), &[Registration, Release]),
        ("sent_digest", wire.sent_digest.is_some(), &[HandOver]),
        ("size_bytes", wire.size_bytes.is_some(), object),
        ("sop_class_uid", wire.sop_class_uid.is_some(), object),
        ("sop_instance_uid", wire.sop_instance_uid.is_some(), object),
        ("source", wire.source.is_some(), &[Acceptance, HandOver, Commit, Registration, Release]),
        ("study_uid", wire.study_uid.is_some(), &[Acceptance, HandOver, Commit, Registration, Release]),
        ("transfer_syntax_uid", wire.transfer_syntax_uid.is_some(), object),
    ];
    match rows.iter().find(|(_, present, kinds)| *present && !kinds.contains(&kind)) {
        Some((field, _, _)) => Err(FormFault::Field(field)),
        None => Ok(()),
    }
}

/// A UID as the object has it: a receipt also speaks of one that breaks the finer rules of PS3.5 §9.1.
fn uid(text: &Option<Cow<'_, str>>, field: &'static str) -> Result<String, FormFault> {
    let form = |text: &&str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.as_deref().filter(form).map(str::to_owned).ok_or(FormFault::Field(field))
}

/// RFC 3339 in UTC with milliseconds.
fn instant(at: Timestamp) -> String {
    format!("{:.3}", cut(at))
}

/// The instant without what is finer than a millisecond.
pub(super) fn cut(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("an instant in range stays in range")
}

/// `kid`: SHA-256 of the 32 bytes of the public key, in hex.
pub(super) fn key_id(key: &[u8; 32]) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(Sha256::digest(key))
}

/// base64url of 32 bytes.
pub(super) fn public_key(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// 64 lower-case hex digits.
pub(super) fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

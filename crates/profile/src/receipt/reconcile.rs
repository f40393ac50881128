//! Reconciliation (profile 11 §5): what a site says that it has handed over, and what the centre holds of it.
//!
//! A [`Question`] lists studies by the number of their instances and the Merkle root of their digests. The centre answers
//! [`Compared`] for the first so many of them, in a [`Findings`] that it signs ([`SignedFindings`]). A root says that something
//! differs and not what: so the centre lists what it holds of every study that is not equal, page by page, and
//! [`Differences::between`] gives the UIDs.
//!
//! # Bounds
//! [`STUDIES_MAX`] studies of a question, which fits [`QUESTION_BYTES_MAX`] (10 §11 BD-18); [`HELD_MAX`] instances listed in an answer.

use super::{Signer, Verifier, canonical, merkle_root};
use crate::digest::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most studies of a question.
pub const STUDIES_MAX: usize = 256;
/// Most bytes of a question.
pub const QUESTION_BYTES_MAX: usize = 65_536;
/// Most instances that an answer lists.
pub const HELD_MAX: usize = 10_000;

/// Body of `POST /custody/v1/reconcile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// 1–[`STUDIES_MAX`].
    pub studies: Vec<Listed>,
}

/// What a site has handed over of a study, under one controller and register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Study Instance UID.
    pub study_uid: String,
    /// Instances.
    pub instances: u64,
    /// Merkle root of their digests, 64 lower-case hex digits ([`root`]).
    pub root: String,
    /// What is held is listed from behind this SOP Instance UID on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What the centre found of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// The same instances.
    Equal,
    /// Fewer than the site has handed over.
    Missing,
    /// More.
    Extra,
    /// As many, and not the same.
    Different,
}

/// One study of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// Study Instance UID.
    pub study_uid: String,
    /// What was found.
    pub result: Found,
    /// Instances held.
    pub instances: u64,
    /// Merkle root of their digests.
    pub root: String,
    /// Unless they are equal: what is held, in the order of the SOP Instance UIDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// There is more, behind this SOP Instance UID; empty: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An instance that the centre holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Its digest (01 §3.1).
    pub digest: Digest,
}

/// What the centre signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// 1.
    pub v: u8,
    /// `reconcile`.
    #[serde(rename = "type")]
    pub kind: String,
    /// UUIDv7.
    pub id: Uuid,
    /// When, in milliseconds, all three digits.
    #[serde(serialize_with = "milliseconds")]
    pub at: Timestamp,
    /// Who says it: `<organisation OID>/<node id>`.
    pub holder: String,
    /// The first studies of the question, in its order; at least one. The others are asked for again.
    pub studies: Vec<Compared>,
}

/// Findings as they are carried and stored: `{"result": {…}, "jws": "header..signature"}`, the signature over the canonical form
/// of `result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedFindings {
    /// What is said.
    pub result: Findings,
    /// Detached JWS.
    pub jws: String,
}

/// Why findings are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// They are none of this form.
    #[error("it is no result of a reconciliation")]
    Form,
    /// The signature does not hold, or its key is not in the trust file.
    #[error("its signature does not hold, or its key is unknown")]
    Signature,
    /// Another holder's key has signed them.
    #[error("it is signed by the key of another holder")]
    Holder,
}

impl SignedFindings {
    /// Signs findings.
    pub fn sign(result: Findings, signer: &Signer) -> Self {
        let jws = signer.sign_detached(text(&result).as_bytes());
        Self { result, jws }
    }

    /// Reads and verifies an answer.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn read(body: &[u8], keys: &Verifier) -> Result<Self, NotBelieved> {
        let signed: Self = serde_json::from_slice(body).map_err(|_| NotBelieved::Form)?;
        if signed.result.v != 1 || signed.result.kind != "reconcile" {
            return Err(NotBelieved::Form);
        }
        let key = keys.verify_detached(text(&signed.result).as_bytes(), &signed.jws).map_err(|_| NotBelieved::Signature)?;
        if key.holder.to_string() == signed.result.holder { Ok(signed) } else { Err(NotBelieved::Holder) }
    }
}

fn milliseconds<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

fn text(result: &Findings) -> String {
    let value = serde_json::to_value(result).expect("texts and whole numbers have a JSON form");
    canonical(&value).expect("texts and whole numbers have a canonical form")
}

/// Merkle root of the digests of a study.
pub fn root<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> String {
    hex::encode(merkle_root(digests.into_iter().map(|digest| *digest.as_bytes())))
}

impl Compared {
    /// Compares what is listed with what is held, by SOP Instance UID; `room` is how many instances may still be listed.
    pub fn new(listed: &Listed, held: &BTreeMap<String, Digest>, room: &mut usize) -> Self {
        let (instances, root) = (held.len() as u64, root(held.values()));
        let result = match instances.cmp(&listed.instances) {
            std::cmp::Ordering::Equal if root == listed.root => Found::Equal,
            std::cmp::Ordering::Equal => Found::Different,
            std::cmp::Ordering::Less => Found::Missing,
            std::cmp::Ordering::Greater => Found::Extra,
        };
        let mut compared = Self { study_uid: listed.study_uid.clone(), result, instances, root, held: Vec::new(), next: None };
        if result == Found::Equal {
            return compared;
        }
        let behind = |uid: &&String| listed.after.as_ref().is_none_or(|after| *uid > after);
        let mut left = held.iter().filter(|(uid, _)| behind(uid));
        let listing = left.by_ref().take(*room).map(|(uid, digest)| Held { sop_instance_uid: uid.clone(), digest: *digest });
        compared.held = listing.collect();
        *room -= compared.held.len();
        if left.next().is_some() {
            let last = compared.held.last().map(|held| &held.sop_instance_uid).or(listed.after.as_ref());
            compared.next = Some(last.cloned().unwrap_or_default());
        }
        compared
    }
}

/// What differs of a study, by SOP Instance UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The site has handed it over, the centre does not hold it.
    pub missing: Vec<String>,
    /// The centre holds other bytes under it.
    pub different: Vec<String>,
    /// The centre holds it, and the site has not handed it over; another site of the same register may have.
    pub extra: Vec<String>,
}

impl Differences {
    /// Between what a site has handed over and all that the centre holds.
    pub fn between(handed: &BTreeMap<String, Digest>, held: &BTreeMap<String, Digest>) -> Self {
        let mut differences = Self::default();
        for (uid, digest) in handed {
            match held.get(uid) {
                None => differences.missing.push(uid.clone()),
                Some(other) if other != digest => differences.different.push(uid.clone()),
                Some(_) => {}
            }
        }
        differences.extra = held.keys().filter(|uid| !handed.contains_key(*uid)).cloned().collect();
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::Holder;
    use aws_lc_rs::signature::Ed25519KeyPair;

    fn digest(n: u8) -> Digest {
        Digest::parse(&format!("{n:02x}").repeat(32)).unwrap()
    }

    fn instances(digests: &[(&str, u8)]) -> BTreeMap<String, Digest> {
        digests.iter().map(|(uid, n)| ((*uid).to_owned(), digest(*n))).collect()
    }

    fn listed(handed: &BTreeMap<String, Digest>) -> Listed {
        Listed { study_uid: "1.2.3".into(), instances: handed.len() as u64, root: root(handed.values()), after: None }
    }

    #[test]
    fn each_way_to_differ_has_its_name_and_its_uids() {
        let handed = instances(&[("1.1", 1), ("1.2", 2), ("1.3", 3)]);
        for (held, found, [missing, different, extra]) in [
            (vec![("1.1", 1), ("1.2", 2), ("1.3", 3)], Found::Equal, [vec![], vec![], vec![]]),
            (vec![("1.1", 1), ("1.3", 3)], Found::Missing, [vec!["1.2"], vec![], vec![]]),
            (vec![], Found::Missing, [vec!["1.1", "1.2", "1.3"], vec![], vec![]]),
            (vec![("1.1", 1), ("1.2", 9), ("1.3", 3)], Found::Different, [vec![], vec!["1.2"], vec![]]),
            (vec![("1.1", 1), ("1.2", 2), ("1.4", 3)], Found::Equal, [vec![], vec![], vec![]]),
            (vec![("1.1", 1), ("1.2", 2), ("1.3", 3), ("1.4", 4)], Found::Extra, [vec![], vec![], vec!["1.4"]]),
        ] {
            let held = instances(&held);
            let compared = Compared::new(&listed(&handed), &held, &mut 100);
            assert_eq!(compared.result, found, "{held:?}");
            if found != Found::Equal {
                let told = compared.held.into_iter().map(|held| (held.sop_instance_uid, held.digest)).collect();
                assert_eq!(told, held, "all that is held is listed");
                let differences = Differences::between(&handed, &told);
                assert_eq!(
                    (differences.missing, differences.different, differences.extra),
                    (owned(missing), owned(different), owned(extra))
                );
            }
        }
    }

    fn owned(uids: Vec<&str>) -> Vec<String> {
        uids.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_held_is_listed_page_by_page_and_nothing_twice() {
        let held = instances(&[("1.1", 1), ("1.2", 2), ("1.3", 3), ("1.4", 4), ("1.5", 5)]);
        let mut ask = listed(&instances(&[]));
        let mut told = Vec::new();
        for (room, next) in [(0, Some("")), (2, Some("1.2")), (2, Some("1.4")), (2, None)] {
            let mut left = room;
            let compared = Compared::new(&ask, &held, &mut left);
            assert_eq!((compared.result, compared.next.as_deref(), compared.held.len() + left), (Found::Extra, next, room));
            told.extend(compared.held.into_iter().map(|held| held.sop_instance_uid));
            ask.after = compared.next;
        }
        assert_eq!(told, held.into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn findings_are_believed_as_signed_and_not_otherwise() {
        let signer = |_| Signer::from_pkcs8(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref()).unwrap();
        let (ours, other) = (signer(1), signer(2));
        let holder = |node: &str| Holder::new("1.2.246.10.12345671", node).unwrap();
        let keys = Verifier::new(&[ours.to_receipt_key(&holder("central-1")), other.to_receipt_key(&holder("site-1"))]).unwrap();
        let findings = Findings {
            v: 1,
            kind: "reconcile".into(),
            id: Uuid::from_u128(1),
            at: "2026-01-20T09:00:00Z".parse().unwrap(),
            holder: holder("central-1").to_string(),
            studies: vec![Compared::new(&listed(&instances(&[])), &instances(&[("1.1", 1)]), &mut 10)],
        };
        let text = |signed: &SignedFindings| serde_json::to_vec(signed).unwrap();
        let signed = SignedFindings::sign(findings.clone(), &ours);
        assert_eq!(SignedFindings::read(&text(&signed), &keys), Ok(signed.clone()));
        let mut changed = signed.clone();
        changed.result.studies[0].instances = 2;
        assert_eq!(SignedFindings::read(&text(&changed), &keys), Err(NotBelieved::Signature));
        assert_eq!(SignedFindings::read(&text(&SignedFindings::sign(findings, &other)), &keys), Err(NotBelieved::Holder));
        assert_eq!(SignedFindings::read(b"{}", &keys), Err(NotBelieved::Form));
    }

    #[test]
    fn a_full_question_fits_its_bound() {
        let uid = format!("1.2.246.10.{}", "9".repeat(53));
        assert_eq!(uid.len(), 64);
        let listed = Listed { study_uid: uid, instances: 100_000, root: digest(1).to_string(), after: None };
        let question = Question { studies: vec![listed; STUDIES_MAX] };
        assert!(serde_json::to_vec(&question).unwrap().len() <= QUESTION_BYTES_MAX);
    }
}

//! What is known of revoked certificates: a snapshot that was fetched before the request (profile 04 §7, 10 §5.3).

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, ParsedExtension};

use super::algorithm::sha256;
use super::certificate::{Certificate, covers_everything};
use super::name::without_zeros;
use super::trust_store::{IssuerPath, SIGNATURES};
use super::{AssertionError, Defect};

/// What the lack of usable status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationMode {
    /// No usable status: refuse.
    Require,
    /// No usable status: accept with a warning.
    Prefer,
    /// Not asked; test environments only.
    Off,
}

/// Status of a certificate and its issuers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationStatus {
    /// Every certificate of the path is covered by usable data and none is revoked.
    Good,
    /// At least one has no usable data; the mode accepts that.
    Unknown,
}

/// Why a revocation list is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Not the DER of one CRL.
    #[error("revocation list: not readable as one DER CRL")]
    Unreadable,
    /// Longer than 64 MiB.
    #[error("revocation list: longer than 67108864 bytes")]
    Size,
    /// The issuer's name, usage or signature does not fit.
    #[error("revocation list: not signed by this issuer, or the issuer may not sign lists")]
    Issuer,
    /// A delta list, or one that covers only some certificates or reasons.
    #[error("revocation list: a delta or partial list, which cannot say that a certificate is good")]
    Partial,
}

/// Lists and answers by issuer and certificate. Built in the background, then only read.
#[derive(Debug, Clone)]
pub struct Revocation {
    mode: RevocationMode,
    max_age: SignedDuration,
    lists: HashMap<[u8; 32], List>,
    answers: HashMap<[u8; 32], Answer>,
    elsewhere: HashSet<[u8; 32]>,
}

#[derive(Debug, Clone)]
struct List {
    revoked: HashSet<Vec<u8>>,
    usable_until: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    revoked: bool,
    usable_until: Timestamp,
}

const CRL_BYTES: usize = 64 * 1024 * 1024;

impl Revocation {
    /// An empty snapshot. `max_age_seconds`: how long after its fetch a status may be used, 86 400 by default.
    pub fn new(mode: RevocationMode, max_age_seconds: u32) -> Self {
        Self {
            mode,
            max_age: SignedDuration::from_secs(i64::from(max_age_seconds)),
            lists: HashMap::new(),
            answers: HashMap::new(),
            elsewhere: HashSet::new(),
        }
    }

    /// The mode it was made with.
    pub fn mode(&self) -> RevocationMode {
        self.mode
    }

    /// Takes a complete CRL of `issuer`, fetched at `fetched`. A later list of the same issuer takes its place.
    ///
    /// # Errors
    /// [`CrlError`]; the snapshot is unchanged then.
    pub fn add_list(&mut self, der: &[u8], issuer: &Certificate, fetched: Timestamp) -> Result<(), CrlError> {
        if der.len() > CRL_BYTES {
            return Err(CrlError::Size);
        }
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| CrlError::Unreadable)?;
        if !rest.is_empty() {
            return Err(CrlError::Unreadable);
        }
        if list.issuer().as_raw() != issuer.subject_der() || !issuer.may_sign_lists() {
            return Err(CrlError::Issuer);
        }
        let issuer_der = CertificateDer::from(issuer.der());
        let end = EndEntityCert::try_from(&issuer_der).map_err(|_| CrlError::Issuer)?;
        let (signed, value) = (list.tbs_cert_list.as_ref(), list.signature_value.data.as_ref());
        if !SIGNATURES.iter().any(|algorithm| end.verify_signature(*algorithm, signed, value).is_ok()) {
            return Err(CrlError::Issuer);
        }
        for extension in list.extensions() {
            let parsed = extension.parsed_extension();
            let known = matches!(
                parsed,
                ParsedExtension::IssuingDistributionPoint(_) | ParsedExtension::CRLNumber(_) | ParsedExtension::AuthorityKeyIdentifier(_)
            );
            if !covers_everything(parsed) || extension.critical && !known {
                return Err(CrlError::Partial);
            }
        }
        let next = list.next_update().and_then(|next| Timestamp::from_second(next.timestamp()).ok());
        let usable_until = self.usable_until(fetched, next);
        let revoked = list.iter_revoked_certificates().map(|entry| without_zeros(entry.raw_serial()).to_vec()).collect();
        self.lists.insert(issuer_key(issuer), List { revoked, usable_until });
        Ok(())
    }

    /// Takes the answer of a responder (OCSP) about one certificate by the SHA-256 of its DER; the caller has verified it.
    pub fn add_answer(&mut self, certificate: [u8; 32], revoked: bool, next_update: Option<Timestamp>, fetched: Timestamp) {
        let usable_until = self.usable_until(fetched, next_update);
        self.answers.insert(certificate, Answer { revoked, usable_until });
    }

    /// The caller itself knows which certificates of `issuer` are in force, and asks for no others: no list is needed.
    pub fn known_elsewhere(&mut self, issuer: &Certificate) {
        self.elsewhere.insert(issuer_key(issuer));
    }

    fn usable_until(&self, fetched: Timestamp, next_update: Option<Timestamp>) -> Timestamp {
        let by_age = fetched.checked_add(self.max_age).unwrap_or(Timestamp::MAX);
        next_update.map_or(by_age, |next| next.min(by_age))
    }

    /// Whether `certificate`, or an issuer of its path but the anchor, is known to be revoked, however old that is.
    pub fn is_revoked(&self, certificate: &Certificate, path: &IssuerPath) -> bool {
        std::iter::once(certificate).chain(path.issuers()).zip(path.issuers()).any(|(subject, issuer)| {
            let listed = self.lists.get(&issuer_key(issuer)).is_some_and(|list| list.revoked.contains(subject.serial()));
            listed || self.answers.get(&subject.sha256()).is_some_and(|answer| answer.revoked)
        })
    }

    /// Status of `certificate` and of every issuer of its path but the anchor. A revocation that is known counts whatever its age.
    ///
    /// # Errors
    /// [`Defect::Certificate`] if one is revoked, or has no usable status in mode `require`.
    pub fn status(&self, certificate: &Certificate, path: &IssuerPath, now: Timestamp) -> Result<RevocationStatus, AssertionError> {
        if self.mode == RevocationMode::Off {
            return Ok(RevocationStatus::Unknown);
        }
        if self.is_revoked(certificate, path) {
            return Err(Defect::Certificate.because("the signing certificate or one of its issuers is revoked"));
        }
        let mut status = RevocationStatus::Good;
        for (subject, issuer) in std::iter::once(certificate).chain(path.issuers()).zip(path.issuers()) {
            let list = self.lists.get(&issuer_key(issuer));
            let answer = self.answers.get(&subject.sha256());
            let usable = list.is_some_and(|list| now <= list.usable_until)
                || answer.is_some_and(|answer| now <= answer.usable_until)
                || self.elsewhere.contains(&issuer_key(issuer));
            match (usable, self.mode) {
                (true, _) => {}
                (false, RevocationMode::Require) => {
                    return Err(Defect::Certificate.because("no usable revocation status of the signing certificate or one of its issuers"));
                }
                (false, _) => status = RevocationStatus::Unknown,
            }
        }
        Ok(status)
    }
}

/// An issuer is its name and its key.
fn issuer_key(issuer: &Certificate) -> [u8; 32] {
    sha256(&[issuer.subject_der(), issuer.spki_der()].concat())
}

//! Paths from a certificate to an anchor (RFC 5280 §6; profile 04 §7).

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::aws_lc_rs as algorithms;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};

use super::certificate::Certificate;
use super::{AssertionError, Defect};

/// Longest accepted chain: intermediates between the certificate and its anchor.
const INTERMEDIATES: usize = 3;

/// Signature algorithms of certificates and revocation lists: SHA-256 or stronger, RSA of 2048–8192 bits, NIST curves.
pub(super) static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P256_SHA512,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P384_SHA512,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
];

/// Why no trust store can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustStoreError {
    /// An entry is no certificate.
    #[error("trust store: entry {index} is not one readable X.509 certificate")]
    Certificate {
        /// Position in its list, from 0.
        index: usize,
    },
    /// An anchor or intermediate may not sign certificates.
    #[error("trust store: entry {index} has a keyUsage without keyCertSign")]
    Usage {
        /// Position in its list, from 0.
        index: usize,
    },
}

/// Anchors and intermediates of one purpose. Nothing from a message is ever added.
#[derive(Clone)]
pub struct TrustStore {
    anchors: Vec<(TrustAnchor<'static>, Certificate)>,
    intermediates: Vec<CertificateDer<'static>>,
    intermediate_facts: Vec<Certificate>,
}

/// The issuers of a certificate up to its anchor: its own issuer first, the anchor last.
#[derive(Debug, Clone)]
pub struct IssuerPath(pub(super) Vec<Certificate>);

impl IssuerPath {
    /// Issuers in order; never empty.
    pub fn issuers(&self) -> &[Certificate] {
        &self.0
    }
}

impl std::fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustStore").field("anchors", &self.anchors.len()).field("intermediates", &self.intermediates.len()).finish()
    }
}

/// What a certificate is for is judged on the certificate itself; authorities are not narrowed by extended key usage (RFC 5280 §4.2.1.12).
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

impl TrustStore {
    /// Makes a store of DER certificates.
    ///
    /// # Errors
    /// [`TrustStoreError`] with the position of the entry.
    pub fn new(anchors: &[Vec<u8>], intermediates: &[Vec<u8>]) -> Result<Self, TrustStoreError> {
        let read = |(index, der): (usize, &Vec<u8>)| {
            let facts = Certificate::from_der(der).map_err(|_| TrustStoreError::Certificate { index })?;
            if facts.may_sign_certificates() { Ok((index, facts)) } else { Err(TrustStoreError::Usage { index }) }
        };
        let anchors = anchors
            .iter()
            .enumerate()
            .map(|entry| {
                let (index, facts) = read(entry)?;
                let der = CertificateDer::from(facts.der());
                let anchor = anchor_from_trusted_cert(&der).map_err(|_| TrustStoreError::Certificate { index })?.to_owned();
                Ok((anchor, facts))
            })
            .collect::<Result<_, _>>()?;
        let intermediate_facts: Vec<Certificate> =
            intermediates.iter().enumerate().map(|entry| read(entry).map(|(_, facts)| facts)).collect::<Result<_, _>>()?;
        let intermediates = intermediate_facts.iter().map(|facts| CertificateDer::from(facts.der().to_vec())).collect();
        Ok(Self { anchors, intermediates, intermediate_facts })
    }

    /// The anchors.
    pub fn anchors(&self) -> impl Iterator<Item = &Certificate> {
        self.anchors.iter().map(|(_, facts)| facts)
    }

    /// Every anchor and intermediate: who may sign revocation lists.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.anchors.iter().map(|(_, facts)| facts).chain(&self.intermediate_facts)
    }

    /// The path of a certificate to an anchor at `now`, with at most 3 intermediates: signatures, validity of every certificate
    /// (the anchor's too), basic and name constraints, key usage and critical extensions hold.
    ///
    /// # Errors
    /// [`Defect::Certificate`].
    pub fn path(&self, certificate: &Certificate, now: Timestamp) -> Result<IssuerPath, AssertionError> {
        let refused = Defect::Certificate.because("the certificate leads to no trusted anchor by a valid path");
        let der = CertificateDer::from(certificate.der());
        let end = EndEntityCert::try_from(&der).map_err(|_| refused)?;
        let anchors: Vec<TrustAnchor<'static>> =
            self.anchors.iter().filter(|(_, facts)| facts.is_valid_at(now)).map(|(anchor, _)| anchor.clone()).collect();
        let seconds = u64::try_from(now.as_second()).map_err(|_| refused)?;
        let short = |path: &webpki::VerifiedPath<'_>| {
            if path.intermediate_certificates().count() <= INTERMEDIATES { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let path = end
            .verify_for_usage(
                SIGNATURES,
                &anchors,
                &self.intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                AnyPurpose,
                None,
                Some(&short),
            )
            .map_err(|_| refused)?;
        let mut issuers = Vec::new();
        for intermediate in path.intermediate_certificates() {
            let der = intermediate.der();
            issuers.extend(self.intermediate_facts.iter().find(|facts| facts.der() == &*der).cloned());
        }
        issuers
            .extend(self.anchors.iter().find(|(anchor, facts)| anchor == path.anchor() && facts.is_valid_at(now)).map(|(_, f)| f.clone()));
        if issuers.is_empty() { Err(refused) } else { Ok(IssuerPath(issuers)) }
    }
}

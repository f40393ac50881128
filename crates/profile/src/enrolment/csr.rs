//! Certification requests (PKCS#10, RFC 2986) and keys, by the rules of profile 10 §5.2.

use idr_ihe::assertion::{KeyType, PublicKey};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// Longest request, bytes of PEM (10 §6.2).
const PEM_BYTES_MAX: usize = 8_192;
/// organizationIdentifier.
const ORGANIZATION_IDENTIFIER: &str = "2.5.4.97";
/// Signatures of requests: SHA-256 or stronger.
const SIGNATURES: [&str; 6] = [
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
];

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// K1: TLS client.
    Tls,
    /// K2: system signature.
    Sign,
}

impl Use {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Sign => "sign",
        }
    }
}

/// Why a request is not taken: IDR-J-04.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than 8 192 bytes.
    #[error("longer than 8192 bytes")]
    Length,
    /// Not one PEM of a request.
    #[error("no PEM with one BEGIN CERTIFICATE REQUEST")]
    Unreadable,
    /// The signature is not of the key, or made with a weak hash.
    #[error("not signed by its own key with SHA-256 or stronger")]
    Signature,
    /// A key outside the profile.
    #[error("the key is outside the profile: {0}")]
    Key(&'static str),
    /// An extension that no site may have.
    #[error("it asks for an extension that a site does not get: {0}")]
    Extension(&'static str),
}

/// A request that is signed by its own key, which is one of the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// DNS names of subjectAltName.
    pub names: Vec<String>,
    /// Whether it asks for a name of another kind.
    pub other_names: bool,
    /// organizationIdentifier of the subject. Nothing else of the subject is used.
    pub organisation: Option<String>,
}

impl Csr {
    /// Reads a request and checks its signature and key.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn read(pem: &str, use_: Use) -> Result<Self, CsrError> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(CsrError::Length);
        }
        let mut found = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes());
        let (Some(Ok(der)), None) = (found.next(), found.next()) else { return Err(CsrError::Unreadable) };
        let Ok((rest, request)) = X509CertificationRequest::from_der(&der) else { return Err(CsrError::Unreadable) };
        if !rest.is_empty() {
            return Err(CsrError::Unreadable);
        }
        let info = &request.certification_request_info;
        // The key comes first: a signature is asked of no key that is not of the profile.
        check_key(info.subject_pki.raw, use_)?;
        let strong = SIGNATURES.contains(&request.signature_algorithm.algorithm.to_id_string().as_str());
        if !strong || request.verify_signature().is_err() {
            return Err(CsrError::Signature);
        }
        let mut csr = Self { spki: info.subject_pki.raw.to_vec(), names: Vec::new(), other_names: false, organisation: None };
        let attributes = info.iter_attributes().filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(requested),
            _ => None,
        });
        for extension in attributes.flat_map(|requested| &requested.extensions) {
            csr.take(extension.parsed_extension())?;
        }
        let mut named = info.subject.iter_attributes().filter(|part| part.attr_type().to_id_string() == ORGANIZATION_IDENTIFIER);
        csr.organisation = named.next().and_then(|part| part.as_str().ok().map(str::to_owned));
        Ok(csr)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>) -> Result<(), CsrError> {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => self.names.push((*name).to_owned()),
                        _ => self.other_names = true,
                    }
                }
                Ok(())
            }
            // What the certificate may be used for, the centre says.
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() && !usage.crl_sign() => Ok(()),
            ParsedExtension::ExtendedKeyUsage(_) | ParsedExtension::SubjectKeyIdentifier(_) => Ok(()),
            ParsedExtension::BasicConstraints(basic) if !basic.ca => Ok(()),
            ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_) => Err(CsrError::Extension("to be an authority")),
            _ => Err(CsrError::Extension("one that is neither names nor usage")),
        }
    }
}

/// Whether a key may be used so: K1 is EC P-256, P-384 or RSA of 2048 to 4096 bits; K2 as 04 §6 for a JWS, which has no P-521.
///
/// # Errors
/// [`CsrError::Key`].
pub fn check_key(spki: &[u8], use_: Use) -> Result<PublicKey, CsrError> {
    use idr_ihe::assertion::Curve;
    let key = PublicKey::from_spki(spki).map_err(|_| CsrError::Key("RSA of 2048 to 4096 bits, EC P-256 or P-384"))?;
    match (&key, use_) {
        (PublicKey::Rsa { bits, .. }, Use::Tls) if *bits > 4096 => Err(CsrError::Key("an RSA key for TLS has at most 4096 bits")),
        _ => match key.key_type() {
            KeyType::Rsa | KeyType::Ec(Curve::P256 | Curve::P384) => Ok(key),
            KeyType::Ec(Curve::P521) => Err(CsrError::Key("P-521 has no signature of a token")),
            KeyType::Ed25519 => Err(CsrError::Key("Ed25519 is none of them")),
        },
    }
}

/// DNS names of subjectAltName of a certificate, DER, and whether it has a name of another kind; `None` if it cannot be read.
pub fn names_of_certificate(der: &[u8]) -> Option<(Vec<String>, bool)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let (mut names, mut others) = (Vec::new(), false);
    for name in certificate.subject_alternative_name().ok()?.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            _ => others = true,
        }
    }
    Some((names, others))
}

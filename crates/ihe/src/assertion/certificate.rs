//! Facts of an X.509 certificate (profile 04 §7, 10 §5.2; RFC 5280).

use jiff::Timestamp;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate, X509Version};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::algorithm::{Curve, PublicKey, sha256};
use super::name::{Name, without_zeros};
use super::{AssertionError, Defect};

const MAX_BYTES: usize = 16_384;
const OID_ORGANIZATION_IDENTIFIER: &str = "2.5.4.97";
const OID_SERIAL_NUMBER: &str = "2.5.4.5";
/// id-kp-documentSigning (RFC 9336).
const OID_DOCUMENT_SIGNING: &str = "1.3.6.1.5.5.7.3.36";

/// A certificate that was read: facts only, no trust.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    sha256: [u8; 32],
    version_3: bool,
    serial: Vec<u8>,
    subject: Name,
    issuer: Name,
    subject_der: Vec<u8>,
    spki_der: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    authority: bool,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<Vec<String>>,
    key: Result<PublicKey, AssertionError>,
}

#[derive(Clone, Copy)]
struct KeyUsage {
    signs: bool,
    signs_certificates: bool,
    signs_lists: bool,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("sha256", &hex::encode(self.sha256)).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads DER of at most 16 384 bytes.
    ///
    /// # Errors
    /// [`Defect::Key`] if it is no certificate, [`Defect::Certificate`] if its serial number is longer than 32 octets or its
    /// extensions contradict each other.
    pub fn from_der(der: &[u8]) -> Result<Self, AssertionError> {
        let unreadable = Defect::Key.because("not the DER of one X.509 certificate");
        if der.len() > MAX_BYTES {
            return Err(unreadable);
        }
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        let serial = without_zeros(read.raw_serial()).to_vec();
        if !(1..=32).contains(&serial.len()) {
            return Err(Defect::Certificate.because("the serial number has not 1 to 32 octets"));
        }
        let twice = |_| Defect::Certificate.because("an extension stands twice or cannot be read");
        let key_usage = read.key_usage().map_err(twice)?.map(|usage| KeyUsage {
            signs: usage.value.digital_signature() || usage.value.non_repudiation(),
            signs_certificates: usage.value.key_cert_sign(),
            signs_lists: usage.value.crl_sign(),
        });
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| unreadable);
        let extended_key_usage = read.extended_key_usage().map_err(twice)?.map(|usage| purposes(usage.value));
        Ok(Self {
            sha256: sha256(der),
            version_3: read.version() == X509Version::V3,
            serial,
            subject: name(read.subject()),
            issuer: name(read.issuer()),
            subject_der: read.subject().as_raw().to_vec(),
            spki_der: read.public_key().raw.to_vec(),
            not_before: instant(read.validity().not_before.timestamp())?,
            not_after: instant(read.validity().not_after.timestamp())?,
            authority: read.basic_constraints().map_err(twice)?.is_some_and(|basic| basic.value.ca),
            key_usage,
            extended_key_usage,
            key: public_key(read.public_key()),
            der: der.to_vec(),
        })
    }

    /// The bytes it was read from.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Serial number as octets without leading zeros, 1–32. More than 20 is against RFC 5280 and worth a warning.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Serial number as upper-case hex without separators.
    pub fn serial_hex(&self) -> String {
        hex::encode_upper(&self.serial)
    }

    /// First instant of validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last instant of validity, inclusive (RFC 5280 §4.1.2.5).
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` lies within its validity.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// `organizationIdentifier` (2.5.4.97) of the subject, if there is exactly one.
    pub fn organization_identifier(&self) -> Option<&str> {
        self.only(OID_ORGANIZATION_IDENTIFIER)
    }

    /// `serialNumber` (2.5.4.5) of the subject, if there is exactly one.
    pub fn subject_serial_number(&self) -> Option<&str> {
        self.only(OID_SERIAL_NUMBER)
    }

    fn only(&self, oid: &str) -> Option<&str> {
        let mut found = self.subject.iter().flatten().filter(|(kind, _)| kind == oid);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
    }

    /// The public key.
    ///
    /// # Errors
    /// [`Defect::Key`] if its kind, length, exponent or curve is outside profile 04 §6.
    pub fn public_key(&self) -> Result<&PublicKey, AssertionError> {
        self.key.as_ref().map_err(|error| *error)
    }

    /// Whether it may sign assertions (10 §5.2, kind K2): version 3, valid at `now`, no authority, `keyUsage` digitalSignature or
    /// nonRepudiation, and no extended key usage but document signing, unless a certificate may serve for TLS too.
    ///
    /// # Errors
    /// [`Defect::Certificate`].
    pub fn may_sign_assertions(&self, now: Timestamp, allow_shared: bool) -> Result<(), AssertionError> {
        let refuse = |what| Err(Defect::Certificate.because(what));
        if !self.version_3 {
            return refuse("the signing certificate is not of version 3");
        }
        if !self.is_valid_at(now) {
            return refuse("the signing certificate is expired or not yet valid");
        }
        if self.authority {
            return refuse("the signing certificate is that of a certificate authority");
        }
        if !self.key_usage.is_some_and(|usage| usage.signs) {
            return refuse("keyUsage of the signing certificate has neither digitalSignature nor nonRepudiation");
        }
        match &self.extended_key_usage {
            Some(purposes) if !allow_shared && purposes.iter().any(|purpose| purpose != OID_DOCUMENT_SIGNING) => {
                refuse("the signing certificate is made for another purpose, such as TLS")
            }
            _ => Ok(()),
        }
    }

    /// Whether it names `authority` as its issuer. Nothing is proven by that: it may only narrow what is accepted.
    pub fn claims_issuer(&self, authority: &Self) -> bool {
        self.issuer == authority.subject
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki_der
    }

    /// An authority whose `keyUsage`, if it has one, lets it sign certificates.
    pub(super) fn may_sign_certificates(&self) -> bool {
        self.key_usage.is_none_or(|usage| usage.signs_certificates)
    }

    /// As [`Self::may_sign_certificates`], for revocation lists.
    pub(super) fn may_sign_lists(&self) -> bool {
        self.key_usage.is_none_or(|usage| usage.signs_lists)
    }

    pub(super) fn subject(&self) -> &Name {
        &self.subject
    }

    pub(super) fn issuer(&self) -> &Name {
        &self.issuer
    }

    pub(super) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    pub(super) fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }
}

fn purposes(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<String> {
    let named = [
        (usage.any, "2.5.29.37.0"),
        (usage.server_auth, "1.3.6.1.5.5.7.3.1"),
        (usage.client_auth, "1.3.6.1.5.5.7.3.2"),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let named = named.into_iter().filter(|(set, _)| *set).map(|(_, oid)| oid.to_owned());
    named.chain(usage.other.iter().map(Oid::to_id_string)).collect()
}

fn name(read: &X509Name<'_>) -> Name {
    let value = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| match attribute.as_str() {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(attribute.as_slice()).into_owned(),
    };
    read.iter().map(|rdn| rdn.iter().map(|a| (a.attr_type().to_id_string(), value(a))).collect()).collect()
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo, DER, such as that of a certification request.
    ///
    /// # Errors
    /// [`Defect::Key`] if it is none, or if kind, length, exponent or curve are outside profile 04 §6.
    pub fn from_spki(der: &[u8]) -> Result<Self, AssertionError> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], info)) => public_key(&info),
            _ => Err(Defect::Key.because("not the DER of one SubjectPublicKeyInfo")),
        }
    }
}

/// Profile 04 §6, row keys.
fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, AssertionError> {
    let refuse = |what| Err(Defect::Key.because(what));
    let bytes = info.subject_public_key.data.as_ref();
    match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => {
            let Ok((rest, key)) = RSAPublicKey::from_der(bytes) else { return refuse("the RSA key cannot be read") };
            let modulus = without_zeros(key.modulus);
            let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
            let exponent = key.try_exponent().unwrap_or(0);
            if !rest.is_empty() || !(2048..=8192).contains(&bits) {
                return refuse("the RSA key has not 2048 to 8192 bits");
            }
            if exponent % 2 == 0 || !(65_537..1 << 32).contains(&exponent) {
                return refuse("the RSA exponent is not odd, at least 65537 and below 2^32");
            }
            Ok(PublicKey::Rsa { der: bytes.to_vec(), bits })
        }
        "1.2.840.10045.2.1" => {
            let curve = info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
            let curve = match curve.as_deref() {
                Some("1.2.840.10045.3.1.7") => Curve::P256,
                Some("1.3.132.0.34") => Curve::P384,
                Some("1.3.132.0.35") => Curve::P521,
                _ => return refuse("the EC key is on none of P-256, P-384, P-521"),
            };
            if bytes.first() != Some(&4) || bytes.len() != 1 + 2 * curve.coordinate_len() {
                return refuse("the EC point is not uncompressed");
            }
            Ok(PublicKey::Ec { curve, point: bytes.to_vec() })
        }
        "1.3.101.112" => match bytes.try_into() {
            Ok(key) => Ok(PublicKey::Ed25519(key)),
            Err(_) => refuse("the Ed25519 key has not 32 bytes"),
        },
        _ => refuse("the key is neither RSA, EC nor Ed25519"),
    }
}

/// `true` if a parsed extension is one that a revocation list may carry and still cover every certificate of its issuer.
pub(super) fn covers_everything(extension: &ParsedExtension<'_>) -> bool {
    match extension {
        ParsedExtension::IssuingDistributionPoint(point) => {
            !(point.only_contains_user_certs
                || point.only_contains_ca_certs
                || point.only_contains_attribute_certs
                || point.indirect_crl
                || point.only_some_reasons.is_some())
        }
        _ => true,
    }
}

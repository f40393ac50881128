//! Signature methods, digests and keys (profile 04 §6; RFC 9231; RFC 7518).

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, ED25519, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};

use super::{AssertionError, Defect};

/// SHA-2 of a signature or digest method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// 256 bits.
    Sha256,
    /// 384 bits.
    Sha384,
    /// 512 bits.
    Sha512,
}

impl Hash {
    const URIS: [(Self, &str); 3] = [
        (Self::Sha256, "http://www.w3.org/2001/04/xmlenc#sha256"),
        (Self::Sha384, "http://www.w3.org/2001/04/xmldsig-more#sha384"),
        (Self::Sha512, "http://www.w3.org/2001/04/xmlenc#sha512"),
    ];

    /// `DigestMethod` URI.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Sha256 => Self::URIS[0].1,
            Self::Sha384 => Self::URIS[1].1,
            Self::Sha512 => Self::URIS[2].1,
        }
    }

    /// The digest of a `DigestMethod` URI of the profile.
    pub fn from_uri(uri: &str) -> Option<Self> {
        Self::URIS.into_iter().find(|(_, known)| *known == uri).map(|(hash, _)| hash)
    }

    /// Output length in bytes.
    pub fn output_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Digest of `data`.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }
}

/// SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(data).into()
}

/// A named curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// Length of one coordinate in bytes: 32, 48, 66.
    pub fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// Kind of a key, which must be the kind of the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA.
    Rsa,
    /// Elliptic curve.
    Ec(Curve),
    /// Ed25519.
    Ed25519,
}

/// A signature method of profile 04 §6 and §10.3. There is no value for anything forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureMethod {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 of the same hash and a salt as long as the digest.
    RsaPss(Hash),
    /// ECDSA with the hash that belongs to the curve; the value is r‖s of fixed length.
    Ecdsa(Curve),
    /// Ed25519; off unless the deployment turns it on.
    Ed25519,
}

/// (method, `SignatureMethod` URI, JWS `alg` where the profile has one).
const METHODS: [(SignatureMethod, &str, Option<&str>); 10] = [
    (SignatureMethod::RsaPkcs1(Hash::Sha256), "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", Some("RS256")),
    (SignatureMethod::RsaPkcs1(Hash::Sha384), "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384", None),
    (SignatureMethod::RsaPkcs1(Hash::Sha512), "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", None),
    (SignatureMethod::RsaPss(Hash::Sha256), "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1", Some("PS256")),
    (SignatureMethod::RsaPss(Hash::Sha384), "http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1", Some("PS384")),
    (SignatureMethod::RsaPss(Hash::Sha512), "http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1", None),
    (SignatureMethod::Ecdsa(Curve::P256), "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", Some("ES256")),
    (SignatureMethod::Ecdsa(Curve::P384), "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", Some("ES384")),
    (SignatureMethod::Ecdsa(Curve::P521), "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512", None),
    (SignatureMethod::Ed25519, "http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519", Some("EdDSA")),
];

impl SignatureMethod {
    fn row(self) -> &'static (Self, &'static str, Option<&'static str>) {
        METHODS.iter().find(|row| row.0 == self).expect("METHODS has a row for every method")
    }

    /// `ds:SignatureMethod/@Algorithm`.
    pub fn uri(self) -> &'static str {
        self.row().1
    }

    /// JWS `alg`, where the profile has one.
    pub fn jws_name(self) -> Option<&'static str> {
        self.row().2
    }

    /// The method of a URI; Ed25519 only if `allow_ed25519`.
    pub fn from_uri(uri: &str, allow_ed25519: bool) -> Option<Self> {
        Self::found(METHODS.iter().find(|row| row.1 == uri), allow_ed25519)
    }

    /// The method of a JWS `alg`; EdDSA only if `allow_ed25519`.
    pub fn from_jws_name(name: &str, allow_ed25519: bool) -> Option<Self> {
        Self::found(METHODS.iter().find(|row| row.2 == Some(name)), allow_ed25519)
    }

    fn found(row: Option<&(Self, &'static str, Option<&'static str>)>, allow_ed25519: bool) -> Option<Self> {
        row.map(|row| row.0).filter(|method| allow_ed25519 || *method != Self::Ed25519)
    }

    /// The kind of key it takes.
    pub fn key_type(self) -> KeyType {
        match self {
            Self::RsaPkcs1(_) | Self::RsaPss(_) => KeyType::Rsa,
            Self::Ecdsa(curve) => KeyType::Ec(curve),
            Self::Ed25519 => KeyType::Ed25519,
        }
    }

    /// Length of a value in bytes, where it does not depend on the key.
    pub fn value_len(self) -> Option<usize> {
        match self {
            Self::RsaPkcs1(_) | Self::RsaPss(_) => None,
            Self::Ecdsa(curve) => Some(2 * curve.coordinate_len()),
            Self::Ed25519 => Some(64),
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::RsaPkcs1(Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1(Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::RsaPkcs1(Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::RsaPss(Hash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
            Self::RsaPss(Hash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
            Self::RsaPss(Hash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Ecdsa(Curve::P256) => &ECDSA_P256_SHA256_FIXED,
            Self::Ecdsa(Curve::P384) => &ECDSA_P384_SHA384_FIXED,
            Self::Ecdsa(Curve::P521) => &ECDSA_P521_SHA512_FIXED,
            Self::Ed25519 => &ED25519,
        }
    }
}

/// A public key within the bounds of profile 04 §6.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA 2048–8192 bits, exponent odd, 65 537 … 2³²−1.
    Rsa {
        /// `RSAPublicKey` in DER.
        der: Vec<u8>,
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// A point on a named curve, uncompressed.
    Ec {
        /// The curve.
        curve: Curve,
        /// `04 ‖ x ‖ y`.
        point: Vec<u8>,
    },
    /// Ed25519.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Its kind.
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::Rsa { .. } => KeyType::Rsa,
            Self::Ec { curve, .. } => KeyType::Ec(*curve),
            Self::Ed25519(_) => KeyType::Ed25519,
        }
    }

    /// Whether key and value fit the method (profile 04 §6).
    ///
    /// # Errors
    /// [`Defect::Key`].
    pub fn fits(&self, method: SignatureMethod, value: &[u8]) -> Result<(), AssertionError> {
        if self.key_type() != method.key_type() {
            return Err(Defect::Key.because("the key is not of the kind that the signature method takes"));
        }
        let length = match self {
            Self::Rsa { bits, .. } => bits.div_ceil(8),
            _ => method.value_len().unwrap_or_default(),
        };
        if value.len() == length {
            Ok(())
        } else {
            Err(Defect::Key.because("the signature value has not the length of its method and key"))
        }
    }

    /// Verifies a signature value over `data`.
    ///
    /// # Errors
    /// [`Defect::Key`] if the key is of another kind, [`Defect::Mismatch`] if the value is wrong.
    pub fn verify(&self, method: SignatureMethod, data: &[u8], value: &[u8]) -> Result<(), AssertionError> {
        self.fits(method, value)?;
        let bytes: &[u8] = match self {
            Self::Rsa { der, .. } => der,
            Self::Ec { point, .. } => point,
            Self::Ed25519(bytes) => bytes,
        };
        UnparsedPublicKey::new(method.verification(), bytes)
            .verify(data, value)
            .map_err(|_| Defect::Mismatch.because("the signature value is wrong"))
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The bytes are no PKCS#8 key of a supported kind.
    #[error("signing key: not a PKCS#8 RSA key of 2048–8192 bits or EC key on P-256, P-384 or P-521")]
    Key,
    /// The key cannot make this kind of signature.
    #[error("signing key: of another kind than the signature method")]
    Method,
    /// The library or token refused.
    #[error("the signature could not be made")]
    Failed,
    /// The values cannot be an assertion: an empty list, or a character that XML does not have.
    #[error("the assertion cannot be written as XML: {0}")]
    Content(&'static str),
}

/// A private key that signs, in memory or in a token. The key never leaves it.
pub trait Signer: Send + Sync {
    /// Kind of the key.
    fn key_type(&self) -> KeyType;
    /// Signature value over `data`: ECDSA as r‖s.
    ///
    /// # Errors
    /// [`SignError::Method`] if the method takes another kind of key, [`SignError::Failed`] if it cannot be made.
    fn sign(&self, method: SignatureMethod, data: &[u8]) -> Result<Vec<u8>, SignError>;

    /// Method of an XML signature with this key: RSA-SHA256, or ECDSA with the curve's hash (profile 04 §6, producer default).
    fn xml_method(&self) -> SignatureMethod {
        match self.key_type() {
            KeyType::Rsa => SignatureMethod::RsaPkcs1(Hash::Sha256),
            KeyType::Ec(curve) => SignatureMethod::Ecdsa(curve),
            KeyType::Ed25519 => SignatureMethod::Ed25519,
        }
    }

    /// Method of a JWS with this key: PS256, ES256 or ES384; there is none for P-521 (profile 04 §10.3).
    fn jws_method(&self) -> Option<SignatureMethod> {
        match self.key_type() {
            KeyType::Rsa => Some(SignatureMethod::RsaPss(Hash::Sha256)),
            KeyType::Ec(curve) => Some(SignatureMethod::Ecdsa(curve)).filter(|method| method.jws_name().is_some()),
            KeyType::Ed25519 => Some(SignatureMethod::Ed25519),
        }
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
}

/// A signing key in memory.
pub struct SigningKey(Pair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?}, <redacted>)", self.key_type())
    }
}

impl SigningKey {
    /// Reads a PKCS#8 document: RSA of 2048–8192 bits, or EC on P-256, P-384 or P-521.
    ///
    /// # Errors
    /// [`SignError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SignError> {
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            return if (256..=1024).contains(&pair.public_modulus_len()) { Ok(Self(Pair::Rsa(pair))) } else { Err(SignError::Key) };
        }
        for (curve, algorithm) in [
            (Curve::P256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (Curve::P384, &ECDSA_P384_SHA384_FIXED_SIGNING),
            (Curve::P521, &ECDSA_P521_SHA512_FIXED_SIGNING),
        ] {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, der) {
                return Ok(Self(Pair::Ec(curve, pair)));
            }
        }
        Err(SignError::Key)
    }
}

impl Signer for SigningKey {
    fn key_type(&self) -> KeyType {
        match &self.0 {
            Pair::Rsa(_) => KeyType::Rsa,
            Pair::Ec(curve, _) => KeyType::Ec(*curve),
        }
    }

    fn sign(&self, method: SignatureMethod, data: &[u8]) -> Result<Vec<u8>, SignError> {
        // The blinding and nonce randomness of RSA and ECDSA is the library's own; the argument is not used by it.
        let random = SystemRandom::new();
        match (&self.0, method) {
            (Pair::Rsa(pair), SignatureMethod::RsaPkcs1(_) | SignatureMethod::RsaPss(_)) => {
                let encoding: &'static dyn signature::RsaEncoding = match method {
                    SignatureMethod::RsaPkcs1(Hash::Sha256) => &signature::RSA_PKCS1_SHA256,
                    SignatureMethod::RsaPkcs1(Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
                    SignatureMethod::RsaPkcs1(Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
                    SignatureMethod::RsaPss(Hash::Sha256) => &signature::RSA_PSS_SHA256,
                    SignatureMethod::RsaPss(Hash::Sha384) => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut value = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, data, &mut value).map_err(|_| SignError::Failed)?;
                Ok(value)
            }
            (Pair::Ec(curve, pair), SignatureMethod::Ecdsa(wanted)) if *curve == wanted => {
                Ok(pair.sign(&random, data).map_err(|_| SignError::Failed)?.as_ref().to_vec())
            }
            _ => Err(SignError::Method),
        }
    }
}

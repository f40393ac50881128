//! Proof that a site has the private key of a certificate that it registers (profile 10 §6.2 step 3).

use idr_ihe::assertion::{Hash, KeyType, SignatureMethod};

/// What is signed: `idr-join/1`, 0x00, SHA-256 of the token, the site, the 32 bytes of the nonce.
pub fn over(token_sha256: &[u8; 32], site: &str, nonce: &[u8; 32]) -> Vec<u8> {
    [b"idr-join/1\0", token_sha256.as_slice(), site.as_bytes(), nonce].concat()
}

/// The method of a key: RSASSA-PSS with SHA-256, or ECDSA with the hash of the curve as r‖s, as in a JWS (04 §10.3).
pub fn method(key: KeyType) -> SignatureMethod {
    match key {
        KeyType::Rsa => SignatureMethod::RsaPss(Hash::Sha256),
        KeyType::Ec(curve) => SignatureMethod::Ecdsa(curve),
        KeyType::Ed25519 => SignatureMethod::Ed25519,
    }
}

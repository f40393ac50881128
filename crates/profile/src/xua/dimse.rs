//! DIMSE carriage: the user identity of an association (profile 04 §10.4; PS3.7 §D.3.3.7).

use super::http::Credentials;
use super::refusal::{Code, Refusal};
use super::rules::XuaRules;

/// Status of a response whose assertion does not hold any more, or for another patient: 0124H, Refused: Not Authorized.
pub const STATUS_NOT_AUTHORIZED: u16 = 0x0124;

/// Reads a user identity sub-item (58H): type 4 is SAML as UTF-8 XML, type 5 a compact JWT.
///
/// # Errors
/// [`Code::Carriage`] for types 1–3, a secondary field, or a token that is no ASCII; [`Code::Bound`] for a field that is too long.
pub fn identity<'p>(kind: u8, primary: &'p [u8], secondary: &[u8], rules: &XuaRules) -> Result<Credentials<'p>, Refusal> {
    if !secondary.is_empty() {
        return Err(Code::Carriage.because("the user identity has a secondary field"));
    }
    let longest = match kind {
        4 => rules.limits().assertion_bytes,
        5 => rules.jwt_bytes(),
        _ => return Err(Code::Carriage.because("the user identity is neither SAML nor JWT")),
    };
    if primary.len() > longest {
        return Err(Code::Bound.because("the user identity is longer than its bound"));
    }
    match kind {
        4 => Ok(Credentials::Saml(primary.to_vec())),
        _ => std::str::from_utf8(primary).map(Credentials::Jwt).map_err(|_| Code::Carriage.because("the token is not ASCII")),
    }
}

/// An association without a user identity that proposes more than Verification alone could be (04 §10.4).
pub fn missing() -> Refusal {
    Code::Missing.because("the association carries no user identity, and does not propose Verification")
}

/// Result, source and reason of the A-ASSOCIATE-RJ for a refusal (PS3.8 §9.3.4): permanent, service provider (ACSE), no reason; a
/// verifier that is unavailable: transient, service provider (presentation), temporary congestion.
pub fn rejection(refusal: &Refusal) -> (u8, u8, u8) {
    if refusal.code == Code::Unavailable { (2, 3, 1) } else { (1, 2, 1) }
}

/// Error Comment (0000,0902) of a response with [`STATUS_NOT_AUTHORIZED`].
pub fn error_comment(refusal: &Refusal) -> String {
    refusal.code.to_string()
}

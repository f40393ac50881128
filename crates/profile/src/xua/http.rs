//! HTTP carriage: the `Authorization` header (profile 04 §10.2).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::refusal::{Code, Refusal};
use super::rules::XuaRules;

/// What a header or association carries, still unverified. The scheme alone selected the kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials<'h> {
    /// A compact JWT, for [`super::Verifier::verify_jwt`].
    Jwt(&'h str),
    /// A SAML assertion, for [`super::Verifier::verify_saml`].
    Saml(Vec<u8>),
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jwt(_) => "Jwt(<redacted>)",
            Self::Saml(_) => "Saml(<redacted>)",
        })
    }
}

/// Names under which a token is sent where it must not be (RFC 6750 §2.2, §2.3).
const TOKEN_NAMES: [&str; 6] = ["access_token", "authorization", "bearer", "id_token", "saml", "samlresponse"];

/// Reads the values of every `Authorization` header of a request.
///
/// # Errors
/// [`Code::Missing`] without a header; [`Code::Carriage`] for two, another scheme, or an encoding that does not hold;
/// [`Code::Bound`] for a value that is too long.
pub fn credentials<'h>(authorization: impl IntoIterator<Item = &'h [u8]>, rules: &XuaRules) -> Result<Credentials<'h>, Refusal> {
    let carriage = |what| Code::Carriage.because(what);
    let mut values = authorization.into_iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Code::Missing.because("no Authorization header")),
        (Some(value), None) => value,
        _ => return Err(carriage("two Authorization headers")),
    };
    let value = std::str::from_utf8(value).map_err(|_| carriage("the Authorization header is not ASCII"))?;
    let (scheme, token) = value.split_once(' ').ok_or(carriage("the Authorization header has no token"))?;
    let token = token.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("Bearer") {
        if token.len() > rules.jwt_bytes() {
            return Err(Code::Bound.because("the token is longer than its bound"));
        }
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) || !token.contains('.') {
            return Err(carriage("Bearer carries something else than a JWT"));
        }
        return Ok(Credentials::Jwt(token));
    }
    if !scheme.eq_ignore_ascii_case("IHE-SAML") {
        return Err(carriage("the scheme is neither Bearer nor IHE-SAML"));
    }
    let (longest, standard) = rules.http_saml();
    if token.len() > longest {
        return Err(Code::Bound.because("the assertion is longer than its bound"));
    }
    let decoded = match URL_SAFE_NO_PAD.decode(token) {
        Err(_) if standard => STANDARD.decode(token),
        decoded => decoded,
    };
    decoded.map(Credentials::Saml).map_err(|_| carriage("the assertion is not base64url without padding"))
}

/// Refuses a token in the query string, a form or a cookie: `names` are the parameter names of all three.
///
/// # Errors
/// [`Code::Carriage`].
pub fn no_token_elsewhere<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), Refusal> {
    match names.into_iter().any(|name| TOKEN_NAMES.iter().any(|token| token.eq_ignore_ascii_case(name))) {
        true => Err(Code::Carriage.because("a token in a query string, form field or cookie")),
        false => Ok(()),
    }
}

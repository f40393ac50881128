//! The join string (profile 10 §6.1): `idrj1.` and base64url of JSON with address, pins, token and expiry.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// How it begins.
const PREFIX: &str = "idrj1.";
/// Longest, bytes.
const BYTES_MAX: usize = 1024;
/// Characters of a token: base64url of 256 bits.
pub const TOKEN_CHARS: usize = 43;
/// Pins in one.
const PINS_MAX: usize = 8;

/// What an operator of the centre hands over. A secret: it shows as `<redacted>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinString {
    /// `https://…/enrol/v1`.
    pub url: String,
    /// `sha256/<base64 of the SHA-256 of an SPKI>`; one of them stands in the path of the centre's certificate.
    pub pins: Vec<String>,
    /// 43 characters of base64url.
    pub token: String,
    /// Last second of its use.
    pub expires: Timestamp,
}

/// Why a text is no join string. Nothing of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinStringError {
    /// Another beginning.
    #[error("a join string begins with 'idrj1.'")]
    Prefix,
    /// Too long.
    #[error("a join string has at most 1024 bytes")]
    Length,
    /// Not what it should hold.
    #[error("the join string is damaged: copy it again, whole")]
    Content,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    u: String,
    p: Vec<String>,
    t: String,
    x: i64,
}

impl std::fmt::Debug for JoinString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinString(<redacted>)")
    }
}

impl JoinString {
    /// Reads one; blanks around it are left out.
    ///
    /// # Errors
    /// [`JoinStringError`].
    pub fn parse(text: &str) -> Result<Self, JoinStringError> {
        let text = text.trim();
        if text.len() > BYTES_MAX {
            return Err(JoinStringError::Length);
        }
        let json = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX).ok_or(JoinStringError::Prefix)?);
        let written: Written = json.ok().and_then(|json| serde_json::from_slice(&json).ok()).ok_or(JoinStringError::Content)?;
        let of_form = written.u.starts_with("https://")
            && written.u.ends_with("/enrol/v1")
            && (1..=PINS_MAX).contains(&written.p.len())
            && written.p.iter().all(|pin| pin.starts_with("sha256/"))
            && is_token(&written.t);
        let expires = Timestamp::from_second(written.x).ok().filter(|_| of_form).ok_or(JoinStringError::Content)?;
        Ok(Self { url: written.u, pins: written.p, token: written.t, expires })
    }

    /// Its text.
    ///
    /// # Errors
    /// [`JoinStringError::Length`].
    pub fn to_text(&self) -> Result<String, JoinStringError> {
        let written = Written { u: self.url.clone(), p: self.pins.clone(), t: self.token.clone(), x: self.expires.as_second() };
        let json = serde_json::to_vec(&written).map_err(|_| JoinStringError::Content)?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json));
        if text.len() <= BYTES_MAX { Ok(text) } else { Err(JoinStringError::Length) }
    }
}

/// Whether a text has the form of a token.
pub fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// SHA-256 over the 43 characters of a token: all that the centre keeps of it.
pub fn token_sha256(token: &str) -> [u8; 32] {
    sha2::Sha256::digest(token.as_bytes()).into()
}

//! JWS compact serialization, strict (RFC 7515 §7.1, RFC 8725; profile 04 §10.3).
//!
//! [`Token::read`] splits and reads the header, [`Token::verify`] checks the signature over the received bytes and then reads the
//! payload once. The key comes from the caller, who finds it by [`Token::kid`]; nothing in the header can bring a key along.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::algorithm::{PublicKey, SignError, SignatureMethod, Signer};
use super::{AssertionError, Defect};

/// `typ` of the profile's tokens (RFC 9068).
pub const TYPE: &str = "at+jwt";
/// Members of a JOSE header that are refused: they would bring a key, change the payload, or demand what is not understood.
const REFUSED: [&str; 7] = ["jwk", "jku", "x5u", "x5c", "crit", "zip", "b64"];
const JSON_DEPTH: usize = 32;

/// A token whose header holds. Nothing is verified yet.
pub struct Token<'t> {
    signed: &'t [u8],
    payload: Vec<u8>,
    value: Vec<u8>,
    method: SignatureMethod,
    kid: String,
}

impl<'t> Token<'t> {
    /// Splits a compact JWS of at most `limit` bytes and reads its header.
    ///
    /// # Errors
    /// [`Defect::Bound`]; [`Defect::Encoding`] if it has not three parts of base64url; [`Defect::Header`] for a JWE, the header's
    /// JSON, `typ`, `alg`, `kid` or a member that is refused.
    pub fn read(token: &'t str, limit: usize, allow_ed25519: bool) -> Result<Self, AssertionError> {
        if token.len() > limit {
            return Err(Defect::Bound.because("the token is longer than its bound"));
        }
        let parts: Vec<&str> = token.splitn(6, '.').collect();
        let [header, payload, value] = parts[..] else {
            let (defect, what) = match parts.len() {
                5 => (Defect::Header, "an encrypted token (JWE)"),
                _ => (Defect::Encoding, "the token has not three parts"),
            };
            return Err(defect.because(what));
        };
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Defect::Encoding.because("a part is not base64url without padding"));
        let (head, payload, value) = (decode(header)?, decode(payload)?, decode(value)?);
        let head = object(&head).ok_or(Defect::Header.because("the header is no JSON object, or a member stands twice"))?;
        if REFUSED.iter().any(|name| head.contains_key(*name)) {
            return Err(Defect::Header.because("the header has jwk, jku, x5u, x5c, crit, zip or b64"));
        }
        let text = |name: &str| head.get(name).and_then(Value::as_str);
        if text("typ") != Some(TYPE) {
            return Err(Defect::Header.because("typ is not at+jwt"));
        }
        let method = text("alg")
            .and_then(|name| SignatureMethod::from_jws_name(name, allow_ed25519))
            .ok_or(Defect::Header.because("alg is missing or not allowed"))?;
        let kid = text("kid").ok_or(Defect::Header.because("kid is missing"))?.to_owned();
        let signed = token.as_bytes().get(..header.len() + 1 + parts[1].len()).unwrap_or_default();
        Ok(Self { signed, payload, value, method, kid })
    }

    /// `kid`: the profile's is base64url of the SHA-256 of the signing certificate.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signature method of `alg`.
    pub fn method(&self) -> SignatureMethod {
        self.method
    }

    /// Verifies with `key` over the received bytes, then reads the payload.
    ///
    /// # Errors
    /// [`Defect::Header`] if `alg` does not fit the key, or the payload is no JSON object or names a member twice;
    /// [`Defect::Mismatch`] if the signature is wrong.
    pub fn verify(&self, key: &PublicKey) -> Result<Map<String, Value>, AssertionError> {
        key.verify(self.method, self.signed, &self.value).map_err(|error| match error.defect {
            Defect::Key => Defect::Header.because("alg does not fit the registered key"),
            _ => error,
        })?;
        object(&self.payload).ok_or(Defect::Header.because("the payload is no JSON object, or a member stands twice"))
    }
}

/// A signed compact JWS with header `typ`, `alg`, `kid`.
///
/// # Errors
/// [`SignError`]; [`SignError::Method`] if no JWS algorithm of the profile takes this key.
pub fn sign(payload: &Map<String, Value>, kid: &str, key: &dyn Signer) -> Result<String, SignError> {
    let method = key.jws_method().ok_or(SignError::Method)?;
    let mut header = Map::new();
    header.insert("typ".to_owned(), TYPE.into());
    header.insert("alg".to_owned(), method.jws_name().ok_or(SignError::Method)?.into());
    header.insert("kid".to_owned(), kid.into());
    let encode = |map: &Map<String, Value>| {
        let bytes = serde_json::to_vec(map).map_err(|_| SignError::Content("not JSON"))?;
        Ok::<_, SignError>(URL_SAFE_NO_PAD.encode(bytes))
    };
    let signed = format!("{}.{}", encode(&header)?, encode(payload)?);
    let value = key.sign(method, signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(value)))
}

/// A JSON object in which no member name stands twice at any level.
pub fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < JSON_DEPTH { Ok(Self { depth: self.depth + 1 }) } else { Err(E::custom("too deep")) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_member_at_any_level_is_no_object() {
        assert!(object(br#"{"a":1,"b":[{"c":null,"d":-1.5e2}]}"#).is_some());
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"b":[{"c":1,"c":2}]}"#,
            br#"{"a":1,"\u0061":2}"#,
            br#"{"a":1} x"#,
            b"[]",
            b"",
            b"{\"a\":\"\xff\"}",
        ] {
            assert!(object(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
        let deep = |n: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(object(deep(JSON_DEPTH - 1).as_bytes()).is_some());
        assert!(object(deep(JSON_DEPTH).as_bytes()).is_none());
    }

    #[test]
    fn the_header_decides_before_any_key_is_sought() {
        let token = |header: &str, rest: &str| format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        for (token, defect) in [
            (token(r#"{"typ":"at+jwt","alg":"none","kid":"k"}"#, "e30."), Defect::Header),
            (token(r#"{"typ":"at+jwt","alg":"HS256","kid":"k"}"#, "e30.AA"), Defect::Header),
            (token(r#"{"typ":"at+jwt","alg":"EdDSA","kid":"k"}"#, "e30.AA"), Defect::Header),
            (token(r#"{"typ":"JWT","alg":"PS256","kid":"k"}"#, "e30.AA"), Defect::Header),
            (token(r#"{"alg":"PS256","kid":"k"}"#, "e30.AA"), Defect::Header),
            (token(r#"{"typ":"at+jwt","alg":"PS256"}"#, "e30.AA"), Defect::Header),
            (token(r#"{"typ":"at+jwt","alg":"PS256","kid":"k","alg":"PS256"}"#, "e30.AA"), Defect::Header),
            (token(r#"{"typ":"at+jwt","alg":"PS256","kid":"k","b64":true}"#, "e30.AA"), Defect::Header),
            ("a.b.c.d.e".to_owned(), Defect::Header),
            ("a.b".to_owned(), Defect::Encoding),
            ("a.b.c.d.e.f".to_owned(), Defect::Encoding),
            (token(r#"{"typ":"at+jwt","alg":"PS256","kid":"k"}"#, "e30=.AA"), Defect::Encoding),
            (token(r#"{"typ":"at+jwt","alg":"PS256","kid":"k"}"#, "e31.AA"), Defect::Encoding),
            ("x".repeat(8193), Defect::Bound),
        ] {
            assert_eq!(Token::read(&token, 8192, false).err().map(|e| e.defect), Some(defect), "{token}");
        }
        assert!(Token::read(&token(r#"{"typ":"at+jwt","alg":"PS256","kid":"k"}"#, "e30.AA"), 8192, false).is_ok());
    }
}

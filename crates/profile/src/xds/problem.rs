//! One broken rule as a RegistryError, and the form of its codeContext (profile 09 §1, §2).

use idr_ihe::transaction::registry_response::{RegistryError, Severity, code_context};
use std::fmt;

/// Keys of codeContext (09 §2), in no order of their own: each error code has its order in `errors.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// National code of the rule; always the first.
    Nat,
    /// `id` of the object as sent.
    Obj,
    /// Metadata or XML attribute.
    Attr,
    /// Slot name.
    Slot,
    /// Value as sent.
    Val,
    /// uniqueId as sent.
    Uid,
    /// Kind of object: `set`, `folder`.
    Kind,
    /// Reference to another object as sent.
    Ref,
    /// Patient id as sent.
    Pid,
    /// Other side of a contradiction: `set`, `folder`, `member`, `target`, `kos`, `version`.
    Conflict,
    /// homeCommunityId.
    Home,
    /// repositoryUniqueId.
    Repo,
    /// Query parameter, or element of a request.
    Param,
    /// Limit that was passed.
    Limit,
    /// Incident id of the journal.
    Incident,
}

impl Key {
    /// All keys.
    pub const ALL: [Self; 15] = [
        Self::Nat,
        Self::Obj,
        Self::Attr,
        Self::Slot,
        Self::Val,
        Self::Uid,
        Self::Kind,
        Self::Ref,
        Self::Pid,
        Self::Conflict,
        Self::Home,
        Self::Repo,
        Self::Param,
        Self::Limit,
        Self::Incident,
    ];

    /// The key as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Obj => "obj",
            Self::Attr => "attr",
            Self::Slot => "slot",
            Self::Val => "val",
            Self::Uid => "uid",
            Self::Kind => "kind",
            Self::Ref => "ref",
            Self::Pid => "pid",
            Self::Conflict => "conflict",
            Self::Home => "home",
            Self::Repo => "repo",
            Self::Param => "param",
            Self::Limit => "limit",
            Self::Incident => "incident",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == text)
    }
}

/// A broken rule. Values of keys are what the sender sent, limits and configuration values, never stored data.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryProblem {
    /// `M-140`, `Q-02` …; the code on the wire is `IDR-` and this.
    pub rule: String,
    /// `errorCode`.
    pub error_code: String,
    /// Error or warning.
    pub severity: Severity,
    /// Keys of codeContext in order.
    pub keys: Vec<(Key, String)>,
    /// The fixed sentence.
    pub text: String,
    /// `location` (08 H-10).
    pub location: Option<String>,
}

impl fmt::Debug for RegistryProblem {
    // Keys may hold the patient id that was sent (09 §2.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.error_code)
    }
}

impl RegistryProblem {
    /// `IDR-M-140`.
    pub fn code(&self) -> String {
        format!("IDR-{}", self.rule)
    }

    /// `codeContext`, at most 512 ASCII characters (09 §2).
    pub fn code_context(&self) -> String {
        let keys: Vec<(&str, &str)> = self.keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        code_context(&self.code(), &self.error_code, &keys, &self.text)
    }

    /// The value of a key.
    pub fn key(&self, key: Key) -> Option<&str> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// As it goes on the wire.
    pub fn registry_error(&self) -> RegistryError {
        RegistryError {
            error_code: self.error_code.to_string(),
            code_context: self.code_context(),
            severity: self.severity,
            location: self.location.clone(),
        }
    }
}

/// A codeContext of ours, read back (09 §2.1: clients read the first two tokens and the keys).
#[derive(Clone, PartialEq, Eq)]
pub struct CodeContext {
    /// `M-140`, without `IDR-`.
    pub rule: String,
    /// `errorCode`.
    pub error_code: String,
    /// Keys in order, values decoded.
    pub keys: Vec<(Key, String)>,
    /// The sentence.
    pub text: String,
}

impl fmt::Debug for CodeContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IDR-{} {}", self.rule, self.error_code)
    }
}

impl CodeContext {
    /// Reads a codeContext; `None` if it is not of our grammar, as those of other systems are.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 512 || !text.is_ascii() {
            return None;
        }
        let (head, sentence) = text.split_once(": ")?;
        let mut tokens = head.split(' ');
        let rule = tokens.next()?.strip_prefix("IDR-")?;
        let (family, number) = rule.split_once('-')?;
        let is_rule =
            matches!(family.as_bytes(), [b'A'..=b'Z']) && matches!(number.len(), 2 | 3) && number.bytes().all(|b| b.is_ascii_digit());
        let error_code = tokens.next().filter(|code| is_rule && !code.is_empty() && !code.contains('='))?;
        let keys: Option<Vec<_>> = tokens
            .map(|token| {
                let (key, value) = token.split_once('=')?;
                Some((Key::parse(key)?, decode(value)?))
            })
            .collect();
        Some(Self { rule: rule.to_owned(), error_code: error_code.to_owned(), keys: keys?, text: sentence.to_owned() })
    }

    /// The value of a key.
    pub fn key(&self, key: Key) -> Option<&str> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }
}

/// A value of 1–128 characters: plain ones and `%XX`. Bytes that are no UTF-8 after a cut become U+FFFD.
fn decode(value: &str) -> Option<String> {
    if value.is_empty() || value.len() > 128 || value.ends_with(':') {
        return None;
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.filter(|b| !b.is_ascii_lowercase()).and_then(|b| char::from(b).to_digit(16));
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            plain if plain.is_ascii_alphanumeric() || b"-._~:^&/+".contains(&plain) => plain,
            _ => return None,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

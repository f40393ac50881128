//! Reading a main configuration file: unknown keys are refused, and every error names file, key, value and what is allowed.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration is refused. `Display` is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// Path as given.
        file: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is no TOML, or has an unknown or mistyped key.
    #[error("{file}: {message}")]
    Parse {
        /// Path as given.
        file: PathBuf,
        /// Line, column and cause, from the TOML reader.
        message: String,
    },
    /// A value is outside its range, or keys contradict each other.
    #[error("{file}: {key}: {problem}")]
    Value {
        /// Path as given.
        file: PathBuf,
        /// Dotted key.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

/// What a check finds: a dotted key, and what is wrong and allowed.
pub type Fault = (String, String);

/// The text of a main file.
///
/// # Errors
/// [`ConfigError::Read`].
pub fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { file: path.to_owned(), source })
}

/// Reads and checks the text of a main file; `path` is used in messages.
///
/// # Errors
/// [`ConfigError::Parse`], or [`ConfigError::Value`] with the first fault that `check` finds.
pub fn parse<F: DeserializeOwned>(text: &str, path: &Path, check: impl FnOnce(&F) -> Result<(), Fault>) -> Result<F, ConfigError> {
    let file: F = toml::from_str(text).map_err(|error| ConfigError::Parse { file: path.to_owned(), message: error.to_string() })?;
    check(&file).map_err(|(key, problem)| ConfigError::Value { file: path.to_owned(), key, problem })?;
    Ok(file)
}

/// Name of a node, site or tenant: `^[a-z0-9][a-z0-9\-]{1,31}$`.
///
/// # Errors
/// The key, and what is allowed.
pub fn check_name(key: &str, name: &str) -> Result<(), Fault> {
    let valid = (2..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-');
    if valid { Ok(()) } else { Err((key.to_owned(), format!("'{name}' is not allowed; 2–32 of a–z, 0–9 and '-', not first"))) }
}

/// SHA-256 of certificates.
///
/// # Errors
/// The key, and what is allowed.
pub fn check_fingerprints(key: &str, fingerprints: &[String]) -> Result<(), Fault> {
    let valid = fingerprints.iter().all(|text| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if valid { Ok(()) } else { Err((key.to_owned(), "each is the SHA-256 of a certificate, 64 hex digits".to_owned())) }
}

/// A base URL: `https://host[:port]`.
///
/// # Errors
/// The key, and what is allowed.
pub fn check_base_url(key: &str, url: &str) -> Result<(), Fault> {
    let valid = url.starts_with("https://") && !url.ends_with('/');
    if valid { Ok(()) } else { Err((key.to_owned(), format!("'{url}' is not allowed; https://host[:port] without a path"))) }
}

/// An address that nothing but this machine reaches (profile 10 F14).
///
/// # Errors
/// The key, and what is allowed.
pub fn check_loopback(key: &str, address: Option<std::net::SocketAddr>) -> Result<(), Fault> {
    match address {
        Some(address) if !address.ip().is_loopback() => Err((key.to_owned(), format!("{address} is not on loopback"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        name: String,
    }

    #[test]
    fn an_error_names_the_file_and_the_key() {
        let read = |text: &str| parse(text, Path::new("a.toml"), |file: &File| check_name("site.id", &file.name));
        assert_eq!(read("name = \"north\"").expect("allowed").name, "north");
        for (text, key) in [("nome = \"north\"", "nome"), ("name = 1", "name"), ("name = \"-a\"", "site.id"), ("", "name")] {
            let error = read(text).expect_err("refused").to_string();
            assert!(error.starts_with("a.toml: ") && error.contains(key), "{error}");
        }
    }
}

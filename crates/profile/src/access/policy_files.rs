//! The data files that decisions follow, and the hash that names them (profile 05 §13).
//!
//! A decision record names its policy by this hash, and the log keeps the files once under it, so that a decision can be made
//! again after the files have changed. The site computes the same hash of the same files.

use super::policy::{Policy, PolicyError, merged};
use crate::receipt::{NotCanonical, canonical};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `access.toml`, `xua.toml` and `identity.toml` as they are in force: each the base with the files of the set over it.
///
/// 05 §13 counts `audit.toml` too; there is none yet, and its member is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFiles {
    json: String,
    hash: String,
}

/// Why files have no hash.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFilesError {
    /// No TOML.
    #[error(transparent)]
    Toml(#[from] PolicyError),
    /// A number that has no canonical form (RFC 8785): the files hold whole numbers only.
    #[error("access.toml, xua.toml, identity.toml: {0}")]
    Canonical(#[from] NotCanonical),
}

impl PolicyFiles {
    /// From the texts of each, the base first.
    ///
    /// # Errors
    /// [`PolicyFilesError`].
    pub fn of(access: &[&str], xua: &[&str], identity: &[&str]) -> Result<Self, PolicyFilesError> {
        let json = json!({ "access": merged(access)?, "xua": merged(xua)?, "identity": merged(identity)? });
        let json = canonical(&json)?;
        let hash = hex::encode(Sha256::digest(&json));
        Ok(Self { json, hash })
    }

    /// What [`Self::to_json`] gave, if `hash` is its hash: nothing else is decided by.
    pub fn kept(files: &Value, hash: &str) -> Option<Self> {
        let json = canonical(files).ok()?;
        let found = hex::encode(Sha256::digest(&json));
        (found == hash).then_some(Self { json, hash: found })
    }

    /// SHA-256 over the RFC 8785 form of all of them, 64 lower-case hex digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// All of them, for the log.
    pub fn to_json(&self) -> Value {
        serde_json::from_str(&self.json).expect("canonical JSON is JSON")
    }

    /// The access policy among them.
    ///
    /// # Errors
    /// [`PolicyError`]: this version of the program does not read it.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::patched(&[], &self.to_json()["access"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: &str = include_str!("../../../../configs/rules/base/access.toml");
    const XUA: &str = include_str!("../../../../configs/rules/base/xua.toml");
    const IDENTITY: &str = include_str!("../../../../configs/rules/base/identity.toml");

    #[test]
    fn the_hash_names_what_the_files_say_and_not_how_it_is_written() {
        let files = PolicyFiles::of(&[ACCESS], &[XUA], &[IDENTITY]).expect("readable");
        let commented = format!("# a comment\n{ACCESS}");
        assert_eq!(PolicyFiles::of(&[&commented], &[XUA], &[IDENTITY]).expect("readable"), files);
        let same = PolicyFiles::of(&[ACCESS, "[permit]\nseconds = 300\n"], &[XUA], &[IDENTITY]).expect("readable");
        assert_eq!(same.hash(), files.hash());
        for (access, xua, identity) in
            [("[permit]\nseconds = 299\n", "", ""), ("", "clock_skew_seconds = 59\n", ""), ("", "", "[feed]\nrepeat_days = 29\n")]
        {
            let other = PolicyFiles::of(&[ACCESS, access], &[XUA, xua], &[IDENTITY, identity]).expect("readable");
            assert_ne!(other.hash(), files.hash());
        }
        assert!(matches!(PolicyFiles::of(&["x = 1.5"], &[], &[]), Err(PolicyFilesError::Canonical(_))));
    }

    #[test]
    fn what_is_kept_gives_the_same_policy_and_only_under_its_hash() {
        let files = PolicyFiles::of(&[ACCESS], &[XUA], &[IDENTITY]).expect("readable");
        let kept = files.to_json();
        assert_eq!(PolicyFiles::kept(&kept, files.hash()).expect("kept").policy().expect("a policy"), Policy::shipped());
        let mut other = kept.clone();
        other["access"]["outsourced"]["denial_bites"] = json!(true);
        assert_eq!(PolicyFiles::kept(&other, files.hash()), None);
    }
}

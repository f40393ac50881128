//! Keys that a node makes for itself at its first start (profile 10 §5.2, §7): receipts (K6), audit checkpoints, audit bodies.
//!
//! # On disk
//! `<state>/keys/`, mode 0700: `receipt.ed25519.pk8`, `audit-checkpoint.ed25519.pk8` (PKCS#8 DER), `audit-body.key` (32 bytes),
//! each mode 0600, written aside, synced and renamed. Public halves of earlier checkpoint keys stand in
//! `audit-checkpoint.earlier`, one of 64 hex digits a line.
//!
//! How they are made, and when not: [`idr_host::key_files`].

use std::fs;
use std::io;
use std::path::PathBuf;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::Ed25519KeyPair;
pub use idr_host::key_files::KeyFileError;
use idr_host::key_files::KeyFolder;
use idr_profile::receipt::Signer;

use crate::audit::{BodyKey, CheckpointKey};

const RECEIPT: &str = "receipt.ed25519.pk8";
const CHECKPOINT: &str = "audit-checkpoint.ed25519.pk8";
const CHECKPOINTS_EARLIER: &str = "audit-checkpoint.earlier";
const BODY: &str = "audit-body.key";

/// Folder of the keys.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: KeyFolder,
}

impl Keys {
    /// `<state>/keys`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: KeyFolder::new(folder) }
    }

    /// Key of receipts; made if nothing was signed yet.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn receipt(&self, nothing_signed: bool) -> Result<Signer, KeyFileError> {
        let der = self.folder.load_or_make(RECEIPT, nothing_signed, ed25519)?;
        Signer::from_pkcs8(&der).map_err(|_| self.wrong(RECEIPT))
    }

    /// Key of audit checkpoints; made if there is no log yet.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn checkpoint(&self, no_log: bool) -> Result<CheckpointKey, KeyFileError> {
        let der = self.folder.load_or_make(CHECKPOINT, no_log, ed25519)?;
        CheckpointKey::from_pkcs8(&der).ok_or_else(|| self.wrong(CHECKPOINT))
    }

    /// Public keys of earlier checkpoint keys.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn earlier_checkpoints(&self) -> Result<Vec<[u8; 32]>, KeyFileError> {
        let path = self.folder.path(CHECKPOINTS_EARLIER);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| KeyFileError::Io { path: path.clone(), source })?,
        };
        let key = |line: &str| hex::decode(line.trim()).ok().and_then(|key| key.try_into().ok());
        let keys = text.lines().filter(|line| !line.trim().is_empty()).map(key);
        keys.collect::<Option<Vec<_>>>().ok_or(KeyFileError::Content { path })
    }

    /// Key of audit bodies; made if there is no log yet.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn body(&self, no_log: bool) -> Result<BodyKey, KeyFileError> {
        let secret = self.folder.load_or_make(BODY, no_log, || {
            let mut secret = [0; 32];
            SystemRandom::new().fill(&mut secret).ok()?;
            Some(secret.to_vec())
        })?;
        let secret: [u8; 32] = secret.try_into().map_err(|_| self.wrong(BODY))?;
        Ok(BodyKey::new(&secret))
    }

    fn wrong(&self, name: &str) -> KeyFileError {
        KeyFileError::Content { path: self.folder.path(name) }
    }
}

fn ed25519() -> Option<Vec<u8>> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().map(|der| der.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_lost_one_is_not_replaced_by_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = Keys::new(folder.path().join("keys"));
        assert!(matches!(keys.receipt(false), Err(KeyFileError::Gone { .. })));
        let made = (keys.receipt(true).expect("made"), keys.checkpoint(true).expect("made"), keys.body(true).expect("made"));
        let again = (keys.receipt(false).expect("there"), keys.checkpoint(false).expect("there"), keys.body(false).expect("there"));
        assert_eq!((made.0.kid(), made.1.kid(), made.2.kid()), (again.0.kid(), again.1.kid(), again.2.kid()));
    }
}

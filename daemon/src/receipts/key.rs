//! The receipt key of this node (kind K6, profile 10 §5.2 and §7).
//!
//! # On disk
//! `receipt.ed25519.pk8`, PKCS#8 DER, mode 0600 in a folder of mode 0700, made at first start. During a rotation
//! `receipt.ed25519.pk8.next` stands beside it; the key record in the log decides at a restart which of them is current
//! ([`super::Receipts::open`]). A key that is lost is not replaced by itself: [`KeyFile::load_or_create`] makes one only
//! for a log that is empty.

use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
pub use idr_host::key_files::KeyFileError;
use idr_host::key_files::KeyFolder;
use idr_profile::receipt::Signer;

const NAME: &str = "receipt.ed25519.pk8";
const NEXT: &str = "receipt.ed25519.pk8.next";

/// Folder of the key.
#[derive(Debug, Clone)]
pub struct KeyFile {
    folder: KeyFolder,
}

impl KeyFile {
    /// `<state>/keys`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder: KeyFolder::new(folder) }
    }

    /// The current key and, if a rotation was begun, the next; makes the first key when the log is empty.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load_or_create(&self, log_is_empty: bool) -> Result<Vec<Signer>, KeyFileError> {
        let current = self.folder.load_or_make(NAME, log_is_empty, make)?;
        let mut signers = vec![self.signer(NAME, &current)?];
        signers.extend(self.load(NEXT)?);
        Ok(signers)
    }

    /// Makes the next key, durable beside the current one; one that was made before is used again.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn prepare(&self) -> Result<Signer, KeyFileError> {
        let der = self.folder.load_or_make(NEXT, true, make)?;
        self.signer(NEXT, &der)
    }

    /// Makes the key of that kid the current one, when it stands beside it as the next.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn settle(&self, kid: &str) -> Result<(), KeyFileError> {
        if self.load(NEXT)?.is_some_and(|signer| signer.kid() == kid) {
            self.folder.replace(NAME, NEXT)?;
        }
        Ok(())
    }

    fn load(&self, name: &str) -> Result<Option<Signer>, KeyFileError> {
        self.folder.load(name)?.map(|der| self.signer(name, &der)).transpose()
    }

    fn signer(&self, name: &str, der: &[u8]) -> Result<Signer, KeyFileError> {
        Signer::from_pkcs8(der).map_err(|_| KeyFileError::Content { path: self.folder.path(name) })
    }
}

fn make() -> Option<Vec<u8>> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().map(|der| der.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_lost_one_is_not_replaced_by_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = KeyFile::new(folder.path().join("keys"));
        assert!(matches!(keys.load_or_create(false), Err(KeyFileError::Gone { .. })));
        let first = keys.load_or_create(true).expect("made")[0].kid().to_owned();
        assert_eq!(keys.load_or_create(false).expect("there")[0].kid(), first);
        let next = keys.prepare().expect("made").kid().to_owned();
        keys.settle(&first).expect("nothing to do");
        assert_eq!(keys.load_or_create(false).expect("both").iter().map(Signer::kid).collect::<Vec<_>>(), [&first, &next]);
        keys.settle(&next).expect("renamed");
        assert_eq!(keys.load_or_create(false).expect("one").iter().map(Signer::kid).collect::<Vec<_>>(), [&next]);
    }
}

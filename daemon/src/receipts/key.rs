//! The receipt key of this node (kind K6, profile 10 §5.2 and §7).
//!
//! # On disk
//! `receipt.ed25519.pk8`, PKCS#8 DER, mode 0600 in a folder of mode 0700, made at first start. During a rotation
//! `receipt.ed25519.pk8.next` stands beside it; the key record in the log decides at a restart which of them is current
//! ([`super::Receipts::open`]). A key that is lost is not replaced by itself: [`KeyFile::load_or_create`] makes one only
//! for a log that is empty.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use idr_profile::receipt::{KeyError as Unreadable, Signer};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const NAME: &str = "receipt.ed25519.pk8";
const NEXT: &str = "receipt.ed25519.pk8.next";
/// A PKCS#8 file of an Ed25519 key has 48 to 83 bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("receipt key {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Others may read it (profile 10 §7).
    #[error("receipt key {} has mode {mode:o}; set it to 600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no key.
    #[error("receipt key {}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Unreadable,
    },
    /// The log has receipts and the key is gone.
    #[error("receipt key {} is gone but the log has receipts; restore it or join again", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes for a receipt key")]
    Random,
}

/// Folder of the key.
#[derive(Debug, Clone)]
pub struct KeyFile {
    folder: PathBuf,
}

impl KeyFile {
    /// `<state>/keys`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The current key and, if a rotation was begun, the next; makes the first key when the log is empty.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load_or_create(&self, log_is_empty: bool) -> Result<Vec<Signer>, KeyFileError> {
        let current = self.folder.join(NAME);
        let mut signers: Vec<Signer> = self.load(&current)?.into_iter().collect();
        if signers.is_empty() && !log_is_empty {
            return Err(KeyFileError::Gone { path: current });
        }
        if signers.is_empty() {
            signers.push(self.create(NAME)?);
        }
        signers.extend(self.load(&self.folder.join(NEXT))?);
        Ok(signers)
    }

    /// Makes the next key, durable beside the current one; one that was made before is used again.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn prepare(&self) -> Result<Signer, KeyFileError> {
        match self.load(&self.folder.join(NEXT))? {
            Some(signer) => Ok(signer),
            None => self.create(NEXT),
        }
    }

    /// Makes the key of that kid the current one, when it stands beside it as the next.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn settle(&self, kid: &str) -> Result<(), KeyFileError> {
        let next = self.folder.join(NEXT);
        if self.load(&next)?.is_some_and(|signer| signer.kid() == kid) {
            fs::rename(&next, self.folder.join(NAME)).and_then(|()| File::open(&self.folder)?.sync_all()).map_err(io_error(&next))?;
        }
        Ok(())
    }

    fn load(&self, path: &Path) -> Result<Option<Signer>, KeyFileError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error(path))?,
        };
        let mode = file.metadata().map_err(io_error(path))?.permissions().mode() & 0o777;
        if mode & 0o177 != 0 {
            return Err(KeyFileError::Mode { path: path.to_owned(), mode });
        }
        let mut der = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut der).map_err(io_error(path))?;
        Signer::from_pkcs8(&der).map(Some).map_err(|source| KeyFileError::Content { path: path.to_owned(), source })
    }

    /// Written under another name first, so that a crash leaves no half key.
    fn create(&self, name: &str) -> Result<Signer, KeyFileError> {
        let path = self.folder.join(name);
        let new = self.folder.join(format!("{name}.new"));
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyFileError::Random)?;
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(pkcs8.as_ref())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(io_error(&path))?;
        Signer::from_pkcs8(pkcs8.as_ref()).map_err(|source| KeyFileError::Content { path, source })
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Io { path: path.clone(), source }
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

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = KeyFile::new(folder.path().to_owned());
        keys.load_or_create(true).expect("made");
        let path = folder.path().join(NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(matches!(keys.load_or_create(false), Err(KeyFileError::Mode { mode: 0o640, .. })));
    }
}

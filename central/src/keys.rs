//! Keys that a node makes for itself at its first start (profile 10 §5.2, §7): receipts (K6), audit checkpoints, audit bodies.
//!
//! # On disk
//! `<state>/keys/`, mode 0700: `receipt.ed25519.pk8`, `audit-checkpoint.ed25519.pk8` (PKCS#8 DER), `audit-body.key` (32 bytes),
//! each mode 0600, written aside, synced and renamed. Public halves of earlier checkpoint keys stand in
//! `audit-checkpoint.earlier`, one of 64 hex digits a line.
//!
//! # Failure
//! A key that others may read is refused. A lost key is not replaced by itself: one is made only while nothing has been written
//! with it, because a silent new key would hide that the old records can no longer be read or vouched for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::Ed25519KeyPair;
use idr_profile::receipt::Signer;

use crate::audit::{BodyKey, CheckpointKey};

const RECEIPT: &str = "receipt.ed25519.pk8";
const CHECKPOINT: &str = "audit-checkpoint.ed25519.pk8";
const CHECKPOINTS_EARLIER: &str = "audit-checkpoint.earlier";
const BODY: &str = "audit-body.key";
/// No key file is larger.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("key {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("key {} has mode {mode:o}; set it to 600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds no key.
    #[error("key {} holds no key of its kind; restore it from a backup", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// Something was written with it, and it is gone.
    #[error("key {} is gone, but records made with it are there; restore it from a backup", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes for a key")]
    Random,
}

/// Folder of the keys.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// `<state>/keys`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Key of receipts; made if nothing was signed yet.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn receipt(&self, nothing_signed: bool) -> Result<Signer, KeyFileError> {
        let (path, der) = self.load_or_make(RECEIPT, nothing_signed, ed25519)?;
        Signer::from_pkcs8(&der).map_err(|_| KeyFileError::Content { path })
    }

    /// Key of audit checkpoints; made if there is no log yet.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn checkpoint(&self, no_log: bool) -> Result<CheckpointKey, KeyFileError> {
        let (path, der) = self.load_or_make(CHECKPOINT, no_log, ed25519)?;
        CheckpointKey::from_pkcs8(&der).ok_or(KeyFileError::Content { path })
    }

    /// Public keys of earlier checkpoint keys.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn earlier_checkpoints(&self) -> Result<Vec<[u8; 32]>, KeyFileError> {
        let path = self.folder.join(CHECKPOINTS_EARLIER);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error(&path))?,
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
        let (path, secret) = self.load_or_make(BODY, no_log, || {
            let mut secret = [0; 32];
            SystemRandom::new().fill(&mut secret).ok()?;
            Some(secret.to_vec())
        })?;
        let secret: [u8; 32] = secret.try_into().map_err(|_| KeyFileError::Content { path })?;
        Ok(BodyKey::new(&secret))
    }

    fn load_or_make(&self, name: &str, may_make: bool, make: impl FnOnce() -> Option<Vec<u8>>) -> Result<(PathBuf, Vec<u8>), KeyFileError> {
        let path = self.folder.join(name);
        if let Some(bytes) = load(&path)? {
            return Ok((path, bytes));
        }
        if !may_make {
            return Err(KeyFileError::Gone { path });
        }
        let bytes = make().ok_or(KeyFileError::Random)?;
        self.write(&path, &bytes).map_err(io_error(&path))?;
        Ok((path, bytes))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let aside = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn ed25519() -> Option<Vec<u8>> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().map(|der| der.as_ref().to_vec())
}

fn load(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error(path))?,
    };
    let mode = file.metadata().map_err(io_error(path))?.permissions().mode() & 0o777;
    if mode & 0o177 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error(path))?;
    Ok(Some(bytes))
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
        let keys = Keys::new(folder.path().join("keys"));
        assert!(matches!(keys.receipt(false), Err(KeyFileError::Gone { .. })));
        let made = (keys.receipt(true).expect("made"), keys.checkpoint(true).expect("made"), keys.body(true).expect("made"));
        let again = (keys.receipt(false).expect("there"), keys.checkpoint(false).expect("there"), keys.body(false).expect("there"));
        assert_eq!((made.0.kid(), made.1.kid(), made.2.kid()), (again.0.kid(), again.1.kid(), again.2.kid()));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = Keys::new(folder.path().to_owned());
        keys.body(true).expect("made");
        fs::set_permissions(folder.path().join(BODY), fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(matches!(keys.body(false), Err(KeyFileError::Mode { mode: 0o640, .. })));
    }
}

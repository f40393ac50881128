//! Keys that a program makes for itself at its first start (profile 10 §7): files of mode 0600 in a folder of mode 0700.
//!
//! # Failure
//! A key that others may read is refused. A lost key is not replaced by itself: one is made only while nothing has been written
//! with it, because a silent new key would hide that the old records can no longer be read or vouched for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

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

/// Folder of the keys, `<state>/keys`.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    path: PathBuf,
}

impl KeyFolder {
    /// The folder need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Path of a key.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a key, if it is there.
    ///
    /// # Errors
    /// [`KeyFileError::Io`], [`KeyFileError::Mode`], and [`KeyFileError::Content`] for a file larger than any key.
    pub fn load(&self, name: &str) -> Result<Option<Vec<u8>>, KeyFileError> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error(&path))?,
        };
        let mode = file.metadata().map_err(io_error(&path))?.permissions().mode() & 0o777;
        if mode & 0o177 != 0 {
            return Err(KeyFileError::Mode { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_error(&path))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(KeyFileError::Content { path });
        }
        Ok(Some(bytes))
    }

    /// Reads a key, or makes it if that is allowed.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load_or_make(&self, name: &str, may_make: bool, make: impl FnOnce() -> Option<Vec<u8>>) -> Result<Vec<u8>, KeyFileError> {
        if let Some(bytes) = self.load(name)? {
            return Ok(bytes);
        }
        if !may_make {
            return Err(KeyFileError::Gone { path: self.path(name) });
        }
        let bytes = make().ok_or(KeyFileError::Random)?;
        self.write(name, &bytes)?;
        Ok(bytes)
    }

    /// Writes a key, durable with its folder, under another name first so that a crash leaves no half key.
    ///
    /// # Errors
    /// [`KeyFileError::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeyFileError> {
        let (path, aside) = (self.path(name), self.path(&format!("{name}.new")));
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            sync_folder(&self.path)?;
            // The folder may be new.
            self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_folder)
        };
        write().map_err(io_error(&path))
    }

    /// Puts one key in the place of another, durably.
    ///
    /// # Errors
    /// [`KeyFileError::Io`].
    pub fn replace(&self, name: &str, with: &str) -> Result<(), KeyFileError> {
        let path = self.path(with);
        fs::rename(&path, self.path(name)).and_then(|()| sync_folder(&self.path)).map_err(io_error(&path))
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
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
        let keys = KeyFolder::new(folder.path().join("keys"));
        let made = |byte: u8| move || Some(vec![byte; 8]);
        assert!(matches!(keys.load_or_make("a", false, made(1)), Err(KeyFileError::Gone { .. })));
        assert_eq!(keys.load_or_make("a", true, made(1)).expect("made"), [1; 8]);
        assert_eq!(keys.load_or_make("a", true, made(2)).expect("there"), [1; 8]);
        assert_eq!(fs::metadata(keys.path("a")).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path().join("keys")).expect("there").permissions().mode() & 0o777, 0o700);
        keys.write("b", &[3; 8]).and_then(|()| keys.replace("a", "b")).expect("replaced");
        assert_eq!((keys.load("a").expect("read"), keys.load("b").expect("read")), (Some(vec![3; 8]), None));
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = KeyFolder::new(folder.path().to_owned());
        keys.write("a", &[1; 8]).expect("made");
        fs::set_permissions(keys.path("a"), fs::Permissions::from_mode(0o640)).expect("ours");
        assert!(matches!(keys.load("a"), Err(KeyFileError::Mode { mode: 0o640, .. })));
        keys.write("b", &[1; 4097]).expect("made");
        assert!(matches!(keys.load("b"), Err(KeyFileError::Content { .. })));
    }
}

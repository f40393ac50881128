//! Where the keys of an enrolled site lie.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use idr_host::files;
use idr_host::key_files::KeyFolder;
use idr_ihe::assertion::Certificate;
use idr_profile::enrolment::Mode;
use idr_profile::tls;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::config::Config;

/// Link to the folder in use, below `<state>/keys`.
pub const CURRENT: &str = "current";
/// Folder of the folders.
const ENROLLED: &str = "enrolled";

/// `<state>/keys`.
#[derive(Debug, Clone)]
pub struct Ring {
    root: PathBuf,
}

/// Keys of one join or renewal.
pub struct Set {
    /// Its folder.
    pub folder: PathBuf,
    /// TLS key.
    pub tls: KeyPair,
    /// Signing key.
    pub sign: KeyPair,
}

/// Keys and certificates that a site brings (mode register).
#[derive(Debug, Clone)]
pub struct Brought {
    /// Chain, then key, of TLS.
    pub tls: (PathBuf, PathBuf),
    /// Chain, then key, of signatures.
    pub sign: (PathBuf, PathBuf),
}

impl Brought {
    /// How a site with these joins, or without.
    pub fn mode(brought: Option<&Self>) -> Mode {
        if brought.is_some() { Mode::Register } else { Mode::Issue }
    }
}

impl Ring {
    /// Of a configuration.
    pub fn of(config: &Config) -> Self {
        Self { root: config.storage.path.join("keys") }
    }

    /// The link to the folder in use.
    pub fn current(&self) -> PathBuf {
        self.root.join(CURRENT)
    }

    /// A folder by its name.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(ENROLLED).join(name)
    }

    /// Keys in a folder: those that are there, those that are brought, or new ones, which are durable when this returns.
    ///
    /// # Errors
    /// File and cause.
    pub fn keys(&self, name: &str, brought: Option<&Brought>) -> anyhow::Result<Set> {
        let folder = self.folder(name);
        let keys = KeyFolder::new(folder.clone());
        let key = |name: &str, brought: Option<&Path>| -> anyhow::Result<KeyPair> {
            let given = brought.map(files::read_private).transpose()?;
            let pem = match given {
                Some(pem) => {
                    keys.write(name, &pem)?;
                    pem
                }
                None => keys
                    .load_or_make(name, true, || Some(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).ok()?.serialize_pem().into_bytes()))?,
            };
            let pem = String::from_utf8(pem).with_context(|| format!("{}: no PEM", keys.path(name).display()))?;
            KeyPair::from_pem(&pem).map_err(|_| anyhow::anyhow!("{}: no PKCS#8 private key in PEM", keys.path(name).display()))
        };
        let tls = key("tls.key", brought.map(|brought| brought.tls.1.as_path()))?;
        let sign = key("sign.key", brought.map(|brought| brought.sign.1.as_path()))?;
        Ok(Set { folder, tls, sign })
    }

    /// Puts a file into a folder, durably.
    ///
    /// # Errors
    /// File and cause.
    pub fn put(&self, set: &Set, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(KeyFolder::new(set.folder.clone()).write(name, text.as_bytes())?)
    }

    /// Makes a folder the one in use: one rename.
    ///
    /// # Errors
    /// The folder `keys` cannot be written.
    pub fn use_folder(&self, name: &str) -> anyhow::Result<()> {
        let (current, aside) = (self.current(), self.root.join("current.new"));
        let swap = || -> io::Result<()> {
            match std::fs::remove_file(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            symlink(Path::new(ENROLLED).join(name), &aside)?;
            std::fs::rename(&aside, &current)?;
            File::open(&self.root)?.sync_all()
        };
        swap().with_context(|| format!("{}: cannot be set", current.display()))
    }

    /// Gives a folder its name for good.
    ///
    /// # Errors
    /// The folder of the folders cannot be written.
    pub fn name_folder(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let (from, to) = (self.folder(from), self.folder(to));
        let rename = || -> io::Result<()> {
            std::fs::rename(&from, &to)?;
            File::open(self.root.join(ENROLLED))?.sync_all()
        };
        rename().with_context(|| format!("{}: cannot be made", to.display()))
    }

    /// Gives everything to the owner of the state folder: commands are often given as root, and the service is another user.
    ///
    /// # Errors
    /// A file that cannot be given away.
    pub fn give_to_owner(&self) -> anyhow::Result<()> {
        let Some(state) = self.root.parent() else { return Ok(()) };
        let owner = std::fs::metadata(state).with_context(|| format!("{}: cannot be read", state.display()))?;
        if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
            return Ok(());
        }
        let give = |path: &Path| lchown(path, Some(owner.uid()), Some(owner.gid()));
        let give_all = || -> io::Result<()> {
            chown(&self.root, Some(owner.uid()), Some(owner.gid()))?;
            let mut open = vec![self.root.clone()];
            while let Some(folder) = open.pop() {
                for entry in std::fs::read_dir(folder)? {
                    let entry = entry?;
                    give(&entry.path())?;
                    if entry.file_type()?.is_dir() {
                        open.push(entry.path());
                    }
                }
            }
            Ok(())
        };
        give_all().with_context(|| format!("{}: cannot be given to the service user", self.root.display()))
    }
}

/// The first certificate of a PEM file.
///
/// # Errors
/// File and cause.
pub fn certificate(path: &Path) -> anyhow::Result<Certificate> {
    let pem = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let chain = tls::certificates(&pem, "certificate").with_context(|| path.display().to_string())?;
    Ok(Certificate::from_der(&chain[0])?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_private_and_taken_into_use_by_one_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = Ring { root: folder.path().join("keys") };
        let first = ring.keys("a", None).expect("made");
        let again = ring.keys("a", None).expect("there");
        assert_eq!(first.tls.serialize_pem(), again.tls.serialize_pem(), "a repeated command has the same keys");
        assert_ne!(first.tls.serialize_pem(), first.sign.serialize_pem());
        for (name, mode) in [("", 0o700), ("tls.key", 0o600), ("sign.key", 0o600)] {
            let found = std::fs::metadata(first.folder.join(name)).expect("there").permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}");
        }
        for name in ["a", "b"] {
            ring.keys(name, None).expect("made");
            ring.use_folder(name).expect("in use");
            assert_eq!(ring.current().canonicalize().expect("a folder"), ring.folder(name).canonicalize().expect("a folder"));
        }
    }
}

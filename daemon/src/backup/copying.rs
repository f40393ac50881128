//! Making a backup.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use idr_host::files;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{ABOUT, About, FILES, FORMAT, Line, PARTS, SINGLE};
use crate::config::Config;

/// Read and written at once, bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// What a file with a private key has in it, whatever the kind of key.
const PRIVATE: &[u8] = b"PRIVATE KEY";
/// Endings of files that are keys without saying so.
const KEY_NAMES: [&str; 5] = ["key", "pk8", "p8", "p12", "pfx"];
/// Longest file of the configuration, bytes; a longer one is none.
const CONFIGURATION_BYTES_MAX: u64 = 64 << 20;

/// Copies the state and the configuration into a new folder.
///
/// # Errors
/// The folder is there, or inside the state folder; a file that cannot be read or written. What was copied by then stays in
/// `<folder>.partial`, which may be deleted.
pub fn create(config: &Config, folder: &Path, previous: Option<&Path>, clock: fn() -> Timestamp) -> anyhow::Result<About> {
    anyhow::ensure!(!folder.exists(), "{}: is there already; a backup is never written over", folder.display());
    let name = folder.file_name().with_context(|| format!("{}: is no name for a folder", folder.display()))?;
    let partial = folder.with_file_name(format!("{}.partial", name.to_string_lossy()));
    let state = config.storage.path.canonicalize().with_context(|| format!("{}: cannot be read", config.storage.path.display()))?;
    new_folder(&partial).with_context(|| format!("{}: cannot be made; remove what an earlier backup left", partial.display()))?;
    if partial.canonicalize()?.starts_with(&state) {
        std::fs::remove_dir(&partial)?;
        anyhow::bail!("{}: lies in the state folder; a backup belongs on another disk", folder.display());
    }
    let previous = previous.map(Previous::open).transpose()?;
    let begun = clock();
    let list = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial.join(FILES))?;
    let partial = partial.canonicalize()?;
    let mut copy = Copy { to: partial.clone(), previous, list: io::BufWriter::new(list), known: HashMap::new(), again: HashMap::new() };
    for part in PARTS {
        copy.tree(&state.join(part), &Path::new("state").join(part), part == "objects")?;
    }
    for name in SINGLE {
        copy.file(&state.join(name), &Path::new("state").join(name), false)?;
    }
    let without = copy.configuration(config, &state)?;
    let (files, bytes, list) = copy.end()?;
    // One sync for all files; what follows says that they are there.
    rustix::fs::syncfs(&list)?;
    let about = About {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        site: super::site(config),
        begun,
        finished: clock(),
        files,
        bytes,
        list_sha256: sha256(&partial.join(FILES))?,
        without,
    };
    files::replace_json(&partial.join(ABOUT), &about)?;
    std::fs::rename(&partial, folder)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    // The backup is whole without it: it only tells `doctor`.
    files::replace_json(&state.join(ABOUT), &about).context("the backup is whole, and its time cannot be noted in the state folder")?;
    Ok(about)
}

fn new_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// SHA-256 of a file in hex.
pub(super) fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// An earlier backup.
struct Previous {
    folder: PathBuf,
    begun: Timestamp,
    files: HashMap<String, Line>,
}

impl Previous {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let about = super::about(folder)?;
        anyhow::ensure!(sha256(&folder.join(FILES))? == about.list_sha256, "{}: its list of files was changed", folder.display());
        let lines = io::BufReader::new(File::open(folder.join(FILES))?).lines();
        let lines = lines.map(|line| Ok(serde_json::from_str::<Line>(&line?)?)).collect::<anyhow::Result<Vec<_>>>()?;
        let objects = lines.into_iter().filter(|line| line.path.starts_with("state/objects/"));
        Ok(Self { folder: folder.to_owned(), begun: about.begun, files: objects.map(|line| (line.path.clone(), line)).collect() })
    }

    /// An object file that was written before it was copied, and is as long as its copy, is the same: it is never changed.
    fn has(&self, path: &str, source: &std::fs::Metadata) -> Option<&Line> {
        let line = self.files.get(path)?;
        (line.bytes == source.len() && source.mtime() + 1 < self.begun.as_second()).then_some(line)
    }
}

/// Length and last change of a file, by which it is seen that it was written on: an object that was still coming in when it was copied.
type Stamp = (u64, i64, i64);

/// A backup that is being made.
struct Copy {
    to: PathBuf,
    previous: Option<Previous>,
    list: io::BufWriter<File>,
    /// What was copied, as it was then.
    known: HashMap<PathBuf, Stamp>,
    /// What was copied a second time, and has a line that does not hold any more.
    again: HashMap<String, Line>,
}

impl Copy {
    /// Files, their bytes, and the finished list.
    fn end(mut self) -> anyhow::Result<(u64, u64, File)> {
        self.list.flush()?;
        let (path, next) = (self.to.join(FILES), self.to.join("files.next"));
        let written = io::BufReader::new(File::open(&path)?).lines();
        let mut list = io::BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?);
        let (mut files, mut bytes) = (0, 0);
        for line in written {
            let line: Line = serde_json::from_str(&line?)?;
            let line = self.again.remove(&line.path).unwrap_or(line);
            (files, bytes) = (files + 1, bytes + line.bytes);
            writeln!(list, "{}", serde_json::to_string(&line)?)?;
        }
        let list = list.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(&next, &path)?;
        list.sync_all()?;
        Ok((files, bytes, list))
    }

    /// A folder with all in it, if there is one, by name. What goes meanwhile was given up, or replaced, and is not missed.
    fn tree(&mut self, from: &Path, to: &Path, objects: bool) -> anyhow::Result<()> {
        let entries = match std::fs::read_dir(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| format!("{}: cannot be read", from.display()))?,
        };
        let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        for name in names {
            let (from, to) = (from.join(&name), to.join(&name));
            match std::fs::symlink_metadata(&from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("{}: cannot be read", from.display())),
                Ok(found) if found.is_dir() => self.tree(&from, &to, objects)?,
                Ok(found) if found.is_file() => self.file(&from, &to, objects)?,
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// One file as it is now; nothing if it is not there, or was copied and is as it was.
    fn file(&mut self, from: &Path, to: &Path, objects: bool) -> anyhow::Result<()> {
        let mut source = match File::open(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            source => source.with_context(|| format!("{}: cannot be read", from.display()))?,
        };
        let found = source.metadata()?;
        let stamp = (found.len(), found.mtime(), found.mtime_nsec());
        let before = self.known.insert(to.to_owned(), stamp);
        if before == Some(stamp) {
            return Ok(());
        }
        let path = to.to_str().with_context(|| format!("{}: is no name of ours", from.display()))?.to_owned();
        let target = self.to.join(to);
        if let Some(parent) = target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        if let Some(previous) = self.previous.as_ref().filter(|_| objects && before.is_none())
            && let Some(line) = previous.has(&path, &found)
            && std::fs::hard_link(previous.folder.join(&path), &target).is_ok()
        {
            return Ok(writeln!(self.list, "{}", serde_json::to_string(line)?)?);
        }
        if before.is_some() {
            std::fs::remove_file(&target)?;
        }
        let failed = || format!("{} cannot be copied to {}", from.display(), target.display());
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).with_context(failed)?;
        let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
        loop {
            let read = source.read(&mut buffer).with_context(failed)?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
            hash.update(chunk);
            copy.write_all(chunk).with_context(failed)?;
            bytes += read as u64;
        }
        let line = Line { path, bytes, sha256: hex::encode(hash.finalize()) };
        match before {
            None => writeln!(self.list, "{}", serde_json::to_string(&line)?)?,
            Some(_) => drop(self.again.insert(line.path.clone(), line)),
        }
        Ok(())
    }

    /// The folder of the configuration and what it names elsewhere; gives the files that are left out because they are keys.
    fn configuration(&mut self, config: &Config, state: &Path) -> anyhow::Result<Vec<String>> {
        let folder = config.path().parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let files = &config.files;
        let mut named = vec![folder, &files.rules, &files.site_rules, &files.affinity_domain, &files.controller_map, &files.trust];
        named.extend(config.dimse.certificate.iter().chain(&config.stow.certificate).map(PathBuf::as_path));
        named.extend(config.centre.iter().map(|centre| centre.certificate.as_path()));
        named.extend(config.assertion.iter().map(|assertion| assertion.certificate.as_path()));
        let mut without = Vec::new();
        for from in named {
            // What is not there, `check-config` says.
            let Ok(from) = from.canonicalize() else { continue };
            let to = Path::new("configuration").join(from.strip_prefix("/").unwrap_or(&from));
            self.kept(&from, &to, state, &mut without)?;
        }
        without.sort();
        without.dedup();
        Ok(without)
    }

    fn kept(&mut self, from: &Path, to: &Path, state: &Path, without: &mut Vec<String>) -> anyhow::Result<()> {
        if from.starts_with(state) || from == self.to {
            return Ok(());
        }
        let Ok(found) = std::fs::symlink_metadata(from) else { return Ok(()) };
        if found.is_dir() {
            let mut names = std::fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            return names.iter().try_for_each(|name| self.kept(&from.join(name), &to.join(name), state, without));
        }
        if !found.is_file() || found.len() > CONFIGURATION_BYTES_MAX {
            return Ok(());
        }
        let bytes = std::fs::read(from).with_context(|| format!("{}: cannot be read", from.display()))?;
        if is_key(from, &bytes) {
            without.push(from.display().to_string());
            return Ok(());
        }
        self.file(from, to, false)
    }
}

/// A private key in PEM, or in a file that is named for one.
fn is_key(path: &Path, bytes: &[u8]) -> bool {
    let named = path.extension().is_some_and(|extension| KEY_NAMES.iter().any(|name| extension.eq_ignore_ascii_case(name)));
    named || bytes.windows(PRIVATE.len()).any(|window| window == PRIVATE)
}

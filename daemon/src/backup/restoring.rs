//! Checking a backup, and putting it back.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use anyhow::Context as _;

use super::copying::sha256;
use super::{ABOUT, About, FILES, Line};
use crate::config::Config;

/// Faults that are named.
const NAMED_MAX: usize = 1_000;

/// What does not hold of a backup: files that are gone, changed, or not of it.
///
/// # Errors
/// It cannot be read.
pub fn verify(folder: &Path, about: &About) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    if sha256(&folder.join(FILES))? != about.list_sha256 {
        return Ok(vec![format!("{FILES}: the list of files was changed; nothing can be said of them")]);
    }
    let mut known = BTreeSet::new();
    let (mut files, mut bytes) = (0, 0);
    for line in lines(folder)? {
        let line = line?;
        (files, bytes) = (files + 1, bytes + line.bytes);
        match sha256(&folder.join(&line.path)) {
            Err(_) => faults.push(format!("{}: is gone, or cannot be read", line.path)),
            Ok(found) if found != line.sha256 => faults.push(format!("{}: was changed", line.path)),
            Ok(_) => {}
        }
        known.insert(line.path);
        if faults.len() >= NAMED_MAX {
            faults.push("and no more are named".to_owned());
            return Ok(faults);
        }
    }
    if (files, bytes) != (about.files, about.bytes) {
        faults.push(format!("{FILES}: names {files} files with {bytes} bytes, and {ABOUT} {} with {}", about.files, about.bytes));
    }
    strangers(folder, Path::new(""), &known, &mut faults)?;
    Ok(faults)
}

fn lines(folder: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>>> {
    let list = io::BufReader::new(File::open(folder.join(FILES))?);
    Ok(list.lines().map(|line| {
        let line: Line = serde_json::from_str(&line?).with_context(|| format!("{FILES}: a line cannot be read"))?;
        let inside = Path::new(&line.path).components().all(|part| matches!(part, Component::Normal(_)));
        anyhow::ensure!(inside, "{FILES}: '{}' leads out of the backup", line.path);
        Ok(line)
    }))
}

fn strangers(folder: &Path, below: &Path, known: &BTreeSet<String>, faults: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            strangers(folder, &path, known, faults)?;
        } else if faults.len() < NAMED_MAX
            && !known.contains(&*path.to_string_lossy())
            && path != Path::new(FILES)
            && path != Path::new(ABOUT)
        {
            faults.push(format!("{}: is not of this backup", path.display()));
        }
    }
    Ok(())
}

/// Stands in a state folder while a backup is put into it; no appliance starts on such a folder.
pub const RESTORING: &str = "restoring";

/// Puts the state of a backup into an empty state folder, and has the start of the appliance and its check look at it; gives what they
/// find.
///
/// # Errors
/// The backup is of another site, or does not hold; the state folder has more than keys in it; a file cannot be written; the receipt
/// key is not here.
pub fn restore(config: &Config, folder: &Path, about: &About) -> anyhow::Result<Vec<String>> {
    let state = &config.storage.path;
    let site = super::site(config);
    anyhow::ensure!(about.site == site, "this is a backup of {}, and the configuration is of {site}", about.site);
    DirBuilder::new().recursive(true).mode(0o700).create(state).with_context(|| format!("{}: cannot be made", state.display()))?;
    for entry in std::fs::read_dir(state)? {
        let name = entry?.file_name();
        anyhow::ensure!(
            name != RESTORING,
            "{}: a restore broke off here; move everything but keys/ away and give the command again",
            state.display()
        );
        anyhow::ensure!(
            name == "keys" || name == "lock",
            "{}: has '{}' in it; a backup is put into an empty state folder (keys/ may be there), and over nothing",
            state.display(),
            name.to_string_lossy()
        );
    }
    let keys = state.join("keys");
    let key = keys.join("receipt.ed25519.pk8");
    anyhow::ensure!(key.is_file(), "{}: put the receipt key back from its own copy first; a backup has no keys", key.display());
    let faults = verify(folder, about)?;
    if let Some(first) = faults.first() {
        anyhow::bail!("the backup does not hold, and nothing was restored: {first} ({} faults; `idr-site backup verify`)", faults.len());
    }
    // Until everything is here nobody starts on it: objects without their journal would be taken as new ones.
    File::create_new(state.join(RESTORING)).and_then(|marker| marker.sync_all()).context("the state folder cannot be marked")?;
    File::open(state)?.sync_all()?;
    for line in lines(folder)? {
        let line = line?;
        let Some(inside) = line.path.strip_prefix("state/") else { continue };
        let target = state.join(inside);
        if let Some(parent) = target.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let failed = || format!("{} cannot be restored to {}", line.path, target.display());
        let mut from = File::open(folder.join(&line.path)).with_context(failed)?;
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).with_context(failed)?;
        io::copy(&mut from, &mut to).with_context(failed)?;
    }
    rustix::fs::syncfs(File::open(state)?)?;
    std::fs::remove_file(state.join(RESTORING))?;
    File::open(state)?.sync_all()?;
    let (spool, recovery) = crate::site::open_spool(config, true)?;
    let mut alarms = recovery.alarms();
    alarms.extend(spool.fsck(true)?.iter().map(|finding| format!("{finding:?}")));
    spool.close(idr_host::now())?;
    Ok(alarms)
}

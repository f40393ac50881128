//! Files beside the main configuration: private keys, rule sets, trust, receipts; and files that are replaced whole.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use idr_profile::identifier::Environment;
use idr_profile::receipt::Carried;
use idr_profile::rules::RuleSets;
use idr_profile::xua::Trust;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

/// Deepest folder below a rule set: `codes/`.
const RULE_FOLDERS_MAX: usize = 3;

/// Reads a text file.
///
/// # Errors
/// Names the file.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// Reads a text file that need not be there.
///
/// # Errors
/// Names the file, which is there and cannot be read.
pub fn read_text_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some).with_context(|| format!("{}: cannot be read", path.display())),
    }
}

/// Reads a private key file, refusing one that others may read (profile 10 §7).
///
/// # Errors
/// Names the file and its mode.
pub fn read_private(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).with_context(|| format!("{}: cannot be read", path.display()))?.permissions().mode() & 0o777;
    anyhow::ensure!(mode & 0o077 == 0, "{}: mode is {mode:o}; a private key needs 0400 or 0600", path.display());
    std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))
}

/// Reads the rule sets below `folder` and, over them, the levels and parameters of `site_rules` if there is such a file. Every set
/// of `in_use`, the key `key` of the main file, must be among them.
///
/// # Errors
/// File, key and rule of the first problem.
pub fn rule_sets(folder: &Path, site_rules: &Path, environment: Environment, key: &str, in_use: &[String]) -> anyhow::Result<RuleSets> {
    let files = rule_texts(folder)?;
    let sets = RuleSets::load(&files, read_text_if_there(site_rules)?.as_deref(), environment)?;
    for name in in_use {
        anyhow::ensure!(sets.set(name).is_some(), "{key}: there is no rule set '{name}' in {}", folder.display());
    }
    Ok(sets)
}

/// Text files below the rules folder by their path in it, as [`RuleSets::load`] takes them.
///
/// # Errors
/// Names the folder.
pub fn rule_texts(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    rule_files(folder, "", &mut files).with_context(|| format!("{}: rule sets cannot be read", folder.display()))?;
    Ok(files)
}

fn rule_files(folder: &Path, inside: &str, files: &mut BTreeMap<String, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{inside}{name}")) else { continue };
        if entry.file_type()?.is_dir() && name.matches('/').count() < RULE_FOLDERS_MAX {
            rule_files(&entry.path(), &format!("{name}/"), files)?;
        } else if [".toml", ".tsv"].iter().any(|ending| name.ends_with(ending)) {
            files.insert(name, std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}

/// Reads `trust.toml`; files that it names are taken from its folder.
///
/// # Errors
/// File and row of the first problem.
pub fn trust(path: &Path) -> anyhow::Result<Trust> {
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    Trust::parse(&read_text(path)?, &mut |name| std::fs::read(folder.join(name))).with_context(|| path.display().to_string())
}

/// Certificates of a trust list as rustls takes them.
pub fn anchors(list: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    list.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

/// Reads a file of receipts: one JSON array, or one receipt a line.
///
/// # Errors
/// File and place of the first that is none.
pub fn receipts(path: &Path) -> anyhow::Result<Vec<Carried>> {
    let content = read_text(path)?;
    match serde_json::from_str::<Vec<Value>>(&content) {
        Ok(array) => array
            .iter()
            .enumerate()
            .map(|(at, value)| Carried::from_value(value).with_context(|| format!("{}: item {at}", path.display())))
            .collect(),
        Err(_) => content
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| Carried::parse(line).with_context(|| format!("{}: line {}", path.display(), at + 1)))
            .collect(),
    }
}

/// Writes a file aside and renames it, so that a reader never sees half of it. It need not survive a power cut.
///
/// # Errors
/// Those of the file system.
pub fn replace_json(path: &Path, content: &impl serde::Serialize) -> anyhow::Result<()> {
    let aside = path.with_extension("json.new");
    std::fs::write(&aside, serde_json::to_vec_pretty(content)?)?;
    std::fs::rename(&aside, path)?;
    Ok(())
}

/// As [`replace_json`], and returns when it would survive a power cut: either the old content is there after one or the new.
///
/// # Errors
/// Those of the file system.
pub fn keep_json(path: &Path, content: &impl serde::Serialize) -> anyhow::Result<()> {
    let aside = path.with_extension("json.new");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(&serde_json::to_vec_pretty(content)?)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key.pem");
        std::fs::write(&path, "key").expect("written");
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(read_private(&path).is_ok(), accepted, "{mode:o}");
        }
    }

    #[test]
    fn a_rule_set_in_use_that_is_not_there_is_named() {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/rules");
        let load = |name: &str| rule_sets(&rules, Path::new("none.toml"), Environment::Test, "site.rule_sets", &[name.to_owned()]);
        assert!(load("fi-2.4.1").is_ok());
        let error = load("fi-9").expect_err("refused").to_string();
        assert!(error.contains("site.rule_sets") && error.contains("fi-9"), "{error}");
    }
}

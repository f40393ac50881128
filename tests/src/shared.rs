//! The folder with third-party data and peers' tools: tests that need them are skipped when they are not there, and fail in CI.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is inside the workspace").to_owned()
}

/// Folder for what tests write and keep: `target/idr-tests`.
pub fn results() -> std::io::Result<PathBuf> {
    let folder = workspace().join("target/idr-tests");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The shared folder: `IDR_SHARED`, else `../shared` beside the workspace.
///
/// `None` after a line that says so; the test then returns. In CI its absence is a failure.
///
/// # Panics
/// The folder is not there and `CI` is `true`.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("IDR_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    if folder.join("README.md").is_file() {
        return Some(folder);
    }
    missing(&format!("shared folder {}", folder.display()));
    None
}

/// Whether a program can be found; otherwise a line that says so, and in CI a failure.
///
/// # Panics
/// It is not there and `CI` is `true`.
pub fn has_tool(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).any(|dir| dir.join(name).is_file()));
    if !found {
        missing(&format!("{name} (make setup)"));
    }
    found
}

/// Says that something is missing, and fails in CI.
///
/// # Panics
/// `CI` is `true`.
pub fn missing(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing in CI: {what}");
    eprintln!("skipped: {what} is not there");
}

/// Runs a command to its end; its output as text, both streams.
///
/// # Errors
/// It cannot be started, or ends with another exit code than 0; the error holds what it printed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().map_err(|error| anyhow::anyhow!("{:?} cannot be started: {error}", command.get_program()))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    Ok(text)
}

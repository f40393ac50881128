//! Test support: the tables of the profile, where they are at hand.

use std::path::PathBuf;

/// A table of the profile (`profile/tables/<name>`), from `IDR_SHARED` or beside the workspace.
///
/// `None`, with a printed line, where the tables are not; under `CI=true` that fails the test.
pub(crate) fn profile_table(name: &str) -> Option<String> {
    let shared =
        std::env::var_os("IDR_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("profile/tables").join(name);
    match std::fs::read_to_string(&path) {
        Ok(table) => Some(table),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{}: {error}", path.display());
            println!("skipped: no profile table {name} here (set IDR_SHARED)");
            None
        }
    }
}

/// All DICOM files of the shared material, with their bytes; `None` as for [`profile_table`].
#[expect(clippy::disallowed_methods, reason = "test support reads the shared files")]
pub(crate) fn shared_dicom_files() -> Option<Vec<(PathBuf, Vec<u8>)>> {
    let shared =
        std::env::var_os("IDR_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let mut folders = vec![shared.join("dicom")];
    if !folders[0].is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", folders[0].display());
        println!("skipped: no DICOM files here (set IDR_SHARED)");
        return None;
    }
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "tsv") {
                let bytes = std::fs::read(&path).expect("a readable file");
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    Some(files)
}

/// A file of the shared material by its path; `None` as for [`profile_table`].
pub(crate) fn shared_file(path: &str) -> Option<String> {
    let shared =
        std::env::var_os("IDR_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{}: {error}", path.display());
            println!("skipped: no {} here (set IDR_SHARED)", path.display());
            None
        }
    }
}

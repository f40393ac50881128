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

//! Access to the public test data.

use std::path::{Path, PathBuf};

/// A folder or file of the public test data; `None` with a printed line where there is none.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IDR_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "public test data is missing: {}", found.display());
    println!("skipped: no public test data at {}", found.display());
    None
}

/// All files below a folder whose name ends with one of the endings.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// An envelope around a Body's child.
pub fn envelope(action: &str, body: &str) -> String {
    let security = "<wsse:Security xmlns:wsse=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\"/>";
    idr_ihe::soap::write_request(&idr_ihe::soap::Request {
        action,
        message_id: "urn:uuid:6da25a5b-8fd6-5273-8e0e-38fa353d75b5",
        to: "https://central.idr.example/ihe/gateway",
        security,
        body,
    })
}

/// The text of a document without its XML declaration.
pub fn without_declaration(text: &str) -> &str {
    let text = text.trim_start_matches('\u{FEFF}').trim_start();
    if text.starts_with("<?xml") { text.split_once("?>").map_or("", |(_, rest)| rest.trim_start()) } else { text }
}

//! Changes of the main file and of `trust.toml`: comments and order stay, and a file is replaced whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::Context as _;
use idr_profile::enrolment::message::Joined;
use idr_profile::tls;
use idr_profile::xua::Trust;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

/// The main file of a site that has joined: `[centre]` and `[assertion]` by the answer, the rest as it is.
///
/// # Errors
/// The file is not TOML, or a key in it is of another kind.
pub fn joined_main_file(text: &str, answer: &Joined, technical_user: &str) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let state =
        document.get("storage").and_then(|storage| storage.get("path")).and_then(Item::as_str).context("storage.path is missing")?;
    let current = format!("{state}/keys/{}", super::ring::CURRENT);
    let centre = table(&mut document, "centre")?;
    centre["url"] = value(&answer.endpoints.url);
    for (key, path, default) in
        [("dicomweb", &answer.endpoints.dicomweb, "/dicomweb"), ("gateway", &answer.endpoints.gateway, "/ihe/gateway")]
    {
        if path != default || centre.contains_key(key) {
            centre[key] = value(path);
        }
    }
    centre["certificate"] = value(format!("{current}/tls.pem"));
    centre["key"] = value(format!("{current}/tls.key"));
    centre["pins"] = value(answer.pins.iter().collect::<Array>());
    let assertion = table(&mut document, "assertion")?;
    assertion["issuer"] = value(&answer.issuer);
    if !assertion.contains_key("technical_user") {
        assertion["technical_user"] = value(technical_user);
    }
    assertion["certificate"] = value(format!("{current}/sign.pem"));
    assertion["key"] = value(format!("{current}/sign.key"));
    Ok(document.to_string())
}

fn table<'a>(document: &'a mut DocumentMut, key: &str) -> anyhow::Result<&'a mut Table> {
    let item = document.entry(key).or_insert(Item::Table(Table::new()));
    item.as_table_mut().with_context(|| format!("{key} is no table"))
}

/// `trust.toml` of a site that has joined: anchors and receipt keys of the answer beside what it has.
///
/// # Errors
/// The file is not TOML, or a key in it is of another kind.
pub fn joined_trust_file(text: &str, known: &Trust, answer: &Joined) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let signing: Vec<Vec<u8>> = known.signing().certificates().map(|anchor| anchor.der().to_vec()).collect();
    for (key, pems, has) in [
        ("tls_anchors", &answer.trust.tls_anchors, known.tls_anchors()),
        ("tls_intermediates", &answer.trust.tls_intermediates, known.tls_intermediates()),
        ("signing_anchors", &answer.trust.signing_anchors, &signing),
    ] {
        let list = document.entry(key).or_insert(value(Array::new()));
        let list = list.as_array_mut().with_context(|| format!("{key} is no list"))?;
        for pem in pems {
            let der = tls::certificates(pem.as_bytes(), "an anchor of the centre")?;
            if der.iter().any(|der| has.iter().all(|known| known.as_slice() != der.as_ref())) {
                list.push(pem);
            }
        }
    }
    let rows = document.entry("receipt_keys").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let rows = rows.as_array_of_tables_mut().context("receipt_keys is no list of tables")?;
    for key in answer.receipt_keys.iter().filter(|key| known.receipt_keys().iter().all(|known| known.kid != key.kid)) {
        let mut row = Table::new();
        for (name, text) in [("holder", &key.holder), ("kid", &key.kid), ("key", &key.key)] {
            row[name] = value(text);
        }
        rows.push(row);
    }
    Ok(document.to_string())
}

/// Replaces a file: written aside, synced, renamed, the folder synced. Mode and owner stay.
///
/// # Errors
/// The file.
pub fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    // Behind a symbolic link the file is replaced, and the link stays.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let write = || -> std::io::Result<()> {
        let before = std::fs::metadata(&path).ok();
        let mut aside = path.clone().into_os_string();
        aside.push(".new");
        let mode = before.as_ref().map_or(0o644, |before| before.permissions().mode() & 0o777);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        if let Some(before) = before.filter(|_| rustix::process::geteuid().is_root()) {
            chown(&aside, Some(before.uid()), Some(before.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("{}: cannot be replaced", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Joined {
        serde_json::from_value(serde_json::json!({
            "site": "site-1", "organisation": "1.2.246.10.90000011", "mode": "issue", "issuer": "urn:oid:1.2.246.10.90000011",
            "controllers": [], "ae_titles": [], "trust": {"tls_anchors": [], "tls_intermediates": [], "signing_anchors": []},
            "pins": ["sha256/AAAA"], "endpoints": {"url": "https://central.idr.example", "dicomweb": "/dicomweb", "gateway": "/ihe/gateway", "enrol": "/enrol/v1"},
            "rule_sets": ["fi-2.4.1"], "receipt_keys": [{"holder": "1.2/central-1", "kid": "00", "key": "AA"}], "audit_keys": [],
            "confirm_by": "2026-01-20T10:00:00Z",
        }))
        .expect("an answer")
    }

    const SHIPPED: &str = include_str!("../../../configs/idr-site.toml");

    #[test]
    fn the_main_file_keeps_its_comments_and_gets_centre_and_assertion() {
        let text = format!("environment = \"test\"\n{SHIPPED}");
        let once = joined_main_file(&text, &answer(), "1.2.246.10.90000011.12.9").expect("edited");
        let comments = |text: &str| text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(comments(&text), comments(&once), "no comment is lost");
        let config = crate::config::Config::parse(&once, Path::new("/etc/idr-site/idr-site.toml")).expect("valid");
        let (centre, assertion) = (config.centre.as_ref().expect("a centre"), config.assertion.as_ref().expect("a signer"));
        assert_eq!(centre.certificate, Path::new("/var/lib/idr-site/keys/current/tls.pem"));
        assert_eq!(assertion.key, Path::new("/var/lib/idr-site/keys/current/sign.key"));
        assert_eq!(joined_main_file(&once, &answer(), "other").expect("again"), once, "given again, nothing changes");
    }

    #[test]
    fn the_trust_file_gets_what_it_lacks_once() {
        let shipped = include_str!("../../../configs/trust.toml");
        let parse = |text: &str| Trust::parse(text, &mut |_| Err(std::io::Error::other("no files")));
        let mut answer = answer();
        let key = aws_lc_rs::signature::Ed25519KeyPair::generate().expect("a key").to_pkcs8v1().expect("PKCS#8");
        let signer = idr_profile::receipt::Signer::from_pkcs8(key.as_ref()).expect("a key");
        answer.receipt_keys =
            vec![signer.to_receipt_key(&idr_profile::receipt::Holder::new("1.2.246.10.12345671", "central-1").expect("valid"))];
        let once = joined_trust_file(shipped, &parse(shipped).expect("valid"), &answer).expect("edited");
        let known = parse(&once).expect("valid");
        assert_eq!(known.receipt_keys(), answer.receipt_keys);
        assert_eq!(joined_trust_file(&once, &known, &answer).expect("again"), once);
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_behind_its_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("a.toml"), folder.path().join("link.toml"));
        std::fs::write(&file, "a").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        replace(&link, "b").expect("replaced");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "b");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left aside");
    }
}

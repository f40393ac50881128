use std::path::{Path, PathBuf};

use super::{ABOUT, FILES, RESTORING, about, create, last, restore, verify};
use crate::config::Config;

fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

/// A site's folder with a configuration and some state.
fn site(root: &Path) -> Config {
    let text = "environment = \"test\"\n\
         [site]\nid = \"site-1\"\norganisation = \"1.2.246.10.12345671\"\norganisation_name = \"Testisairaala\"\n\
         source_oid = \"1.2.246.10.12345671.12.9\"\nrule_sets = [\"base\"]\n\
         [storage]\npath = \"state\"\n[dimse]\nlocal_ae_titles = [\"IDRSITE\"]\n";
    let config = Config::parse(text, &root.join("idr-site.toml")).expect("a configuration");
    for (name, bytes) in [
        ("idr-site.toml", text.as_bytes()),
        ("trust.toml", b"revision = 1\n"),
        ("tls/client.pem", b"-----BEGIN CERTIFICATE-----\n"),
        ("tls/client.key", b"anything"),
        ("tls/both.pem", b"-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n"),
        ("state/objects/default/00/1.dcm", b"an image"),
        ("state/objects/default/00/2.dcm", b"another"),
        ("state/journal/1.log", b"what happened"),
        ("state/receipts/1.jsonl", b"who said it"),
        ("state/keys/receipt.ed25519.pk8", b"secret"),
        ("state/index/db", b"made again"),
        ("state/listening.json", b"{}"),
        ("state/scrub.json", b"{}"),
    ] {
        put(root, name, bytes);
    }
    config
}

fn paths(folder: &Path) -> Vec<String> {
    let list = std::fs::read_to_string(folder.join(FILES)).expect("a list");
    let path = |line: &str| serde_json::from_str::<super::Line>(line).expect("a line").path;
    list.lines().map(path).collect()
}

#[test]
fn state_and_configuration_are_copied_without_keys_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("there").join("site");
    let (config, to) = (site(&root), folder.path().join("backup"));
    assert_eq!(last(&config.storage.path), None);
    let made = create(&config, &to, None, idr_host::now).expect("made");
    let copied = paths(&to);
    let of = |part: &str| copied.iter().filter(|path| path.starts_with(part)).count();
    assert_eq!((of("state/"), of("configuration/"), made.files), (5, 3, 8), "{copied:?}");
    assert!(!copied.iter().any(|path| path.contains("keys") || path.contains("index") || path.contains("listening")), "{copied:?}");
    let without = ["both.pem", "client.key"].map(|name| root.join("tls").join(name).display().to_string());
    assert_eq!(made.without, without);
    assert_eq!((about(&to).expect("whole"), verify(&to, &made).expect("readable")), (made.clone(), vec![]));
    assert_eq!(last(&config.storage.path), Some(made.begun), "the state folder knows when");
    create(&config, &to, None, idr_host::now).expect_err("it is there");
    create(&config, &root.join("state/backup"), None, idr_host::now).expect_err("in the state folder");
    assert!(!root.join("state/backup.partial").exists());
    restore(&config, &to, &made).expect_err("the state folder is not empty");
}

#[test]
fn whatever_is_changed_of_a_backup_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, to) = (site(&folder.path().join("site")), folder.path().join("backup"));
    let made = create(&config, &to, None, idr_host::now).expect("made");
    let files: Vec<PathBuf> = paths(&to).iter().map(PathBuf::from).chain([FILES.into()]).collect();
    for path in files {
        let (path, whole) = (to.join(&path), std::fs::read(to.join(&path)).expect("there"));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(verify(&to, &made).expect("readable").len(), 1, "{} at {at}", path.display());
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("written");
        assert_eq!(verify(&to, &made).expect("readable").len(), 1, "{} cut", path.display());
        std::fs::write(&path, whole).expect("written");
    }
    put(&to, "state/objects/default/00/3.dcm", b"of somebody else");
    assert_eq!(verify(&to, &made).expect("readable").len(), 1);
    std::fs::remove_file(to.join("state/objects/default/00/3.dcm")).expect("removed");
    std::fs::remove_file(to.join("state/journal/1.log")).expect("removed");
    assert_eq!(verify(&to, &made).expect("readable").len(), 1);
    std::fs::remove_file(to.join(ABOUT)).expect("removed");
    about(&to).expect_err("no finished backup");
}

#[test]
fn a_restore_needs_the_same_site_a_key_and_an_empty_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, to) = (site(&folder.path().join("site")), folder.path().join("backup"));
    let made = create(&config, &to, None, idr_host::now).expect("made");
    let text = std::fs::read_to_string(config.path()).expect("there");
    let at = |text: &str| Config::parse(text, &folder.path().join("new/idr-site.toml")).expect("a configuration");
    let other = at(&text.replace("site-1", "site-2"));
    assert!(restore(&other, &to, &made).expect_err("another site").to_string().contains("site-2"));
    let new = at(&text);
    assert!(restore(&new, &to, &made).expect_err("no key").to_string().contains("receipt key"));
    assert!(!new.storage.path.join("objects").exists(), "nothing was put there");
}

#[test]
fn what_an_earlier_backup_has_is_linked() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let (config, first, second) = (site(&folder.path().join("site")), folder.path().join("first"), folder.path().join("second"));
    let hour = std::time::Duration::from_secs(3_600);
    let old = std::fs::metadata(config.path()).expect("there").modified().expect("a time") - hour;
    let object = config.storage.path.join("objects/default/00/1.dcm");
    std::fs::File::options().write(true).open(&object).expect("there").set_modified(old).expect("set");
    create(&config, &first, None, idr_host::now).expect("made");
    put(&config.storage.path, "objects/default/00/4.dcm", b"a late image");
    let made = create(&config, &second, Some(&first), idr_host::now).expect("made");
    assert_eq!((made.files, verify(&second, &made).expect("readable")), (9, vec![]));
    let links = |name: &str| std::fs::metadata(second.join("state").join(name)).expect("there").nlink();
    assert_eq!((links("objects/default/00/1.dcm"), links("objects/default/00/4.dcm"), links("journal/1.log")), (2, 1, 1));
}

#[test]
fn nobody_starts_on_a_state_folder_whose_restore_broke_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, to) = (site(&folder.path().join("site")), folder.path().join("backup"));
    let made = create(&config, &to, None, idr_host::now).expect("made");
    let text = std::fs::read_to_string(config.path()).expect("there");
    let new = Config::parse(&text, &folder.path().join("new/idr-site.toml")).expect("a configuration");
    put(&new.storage.path, RESTORING, b"");
    let refused = crate::site::open_spool(&new, false).err().expect("it does not start").to_string();
    assert!(refused.contains("restore again"), "{refused}");
    let refused = restore(&new, &to, &made).expect_err("it is not gone on with").to_string();
    assert!(refused.contains("broke off"), "{refused}");
    assert!(!new.storage.path.join("objects").exists(), "nothing was made beside it");
}

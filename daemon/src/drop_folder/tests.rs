//! Over real folders. What the rules say of each defect is tested with the rules; here an object is readable or it is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use arc_swap::ArcSwap;
use idr_profile::xua::Trust;
use tempfile::TempDir;

use super::*;
use crate::admission::InForce;
use crate::commitment::Commitments;
use crate::completeness::Completeness;
use crate::config::{Config, DropFolders};
use crate::health::Counters;
use crate::query::Query;
use crate::spool::disk::MemoryDisk;
use crate::spool::sample;
use crate::spool::{MemorySpool, Spool as _};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// A CT image of four UIDs: readable, and refused by rules that demand more.
fn part10(n: u64) -> Vec<u8> {
    let element = |tag: [u8; 4], vr: &[u8; 2], value: &str| {
        let value = format!("{value}{}", if value.len() % 2 == 1 { "\0" } else { "" });
        [&tag[..], vr, &(value.len() as u16).to_le_bytes(), value.as_bytes()].concat()
    };
    let (class, instance) = ("1.2.840.10008.5.1.4.1.1.2", format!("1.2.246.10.90000011.9.1.{n}"));
    let meta = [
        element([2, 0, 2, 0], b"UI", class),
        element([2, 0, 3, 0], b"UI", &instance),
        element([2, 0, 0x10, 0], b"UI", "1.2.840.10008.1.2.1"),
    ]
    .concat();
    let data_set = [
        element([8, 0, 0x16, 0], b"UI", class),
        element([8, 0, 0x18, 0], b"UI", &instance),
        element([0x20, 0, 0x0D, 0], b"UI", "1.2.246.10.90000011.9.2.1"),
        element([0x20, 0, 0x0E, 0], b"UI", "1.2.246.10.90000011.9.3.1"),
    ]
    .concat();
    let length = [&[2, 0, 0, 0, b'U', b'L', 4, 0][..], &(meta.len() as u32).to_le_bytes()].concat();
    [&[0; 128][..], b"DICM", &length, &meta, &data_set].concat()
}

struct Drop {
    folder: TempDir,
    state: TempDir,
    spool: Arc<MemorySpool>,
    bounds: DropFolders,
}

impl Drop {
    fn new() -> Self {
        let (folder, state) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        let bounds = DropFolders { quiet_seconds: 1, rescan_seconds: 1, ..DropFolders::default() };
        Self { folder, state, spool: Arc::new(sample::memory_spool()), bounds }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().expect("a folder")).expect("made");
        fs::write(self.path(name), bytes).expect("written");
    }

    /// A file as a crash leaves it between claim and removal.
    fn put_claimed(&self, bytes: &[u8]) {
        drop(self.places());
        self.put(&format!("{}/{ID}", folder::CLAIMED), bytes);
        self.put(&format!("{}/{ID}.name", folder::CLAIMED), b"a/b.dcm");
    }

    fn places(&self) -> Places {
        Places::open(self.folder.path(), self.state.path()).expect("opened")
    }

    fn entries(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(folder))
            .map(|entries| entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    fn held(&self) -> u64 {
        self.spool.totals().iter().filter(|((_, state), _)| *state != "receiving").map(|(_, amount)| amount.objects).sum()
    }

    /// Runs until `done`, and stops in order.
    async fn run_until(&self, done: impl Fn() -> bool) {
        let row = format!(
            "[[inbound]]\nname = \"cd\"\nae_title = \"CD\"\ndrop_folder = \"{}\"\npatient_id_issuer = \"1.2.246.21\"\n",
            self.folder.path().display()
        );
        let text = include_str!("../../../configs/idr-site.toml")
            .replace("# environment = \"production\"", "environment = \"test\"")
            .replace("/var/lib/idr-site", &self.state.path().display().to_string())
            .replace("quiet_seconds = 10 ", "quiet_seconds = 1 ")
            .replace("rescan_seconds = 30 ", "rescan_seconds = 1 ")
            .replace("file_bytes_max = 17179869184", &format!("file_bytes_max = {}", self.bounds.file_bytes_max));
        let main = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/idr-site.toml");
        let config = Arc::new(Config::parse(&format!("{text}\n{row}"), Path::new(main)).expect("valid"));
        let rules = Arc::new(crate::site::load_rules(&config, jiff::Timestamp::UNIX_EPOCH).expect("shipped rules load").sets);
        let in_force = InForce { config: config.clone(), rules, organisation_oids: Vec::new() };
        let counters = Arc::new(Counters::default());
        let (trust, disk) = (include_str!("../../../configs/trust.toml"), Arc::new(MemoryDisk::default()));
        let trust = Trust::parse(trust, &mut |_| unreachable!("no file is named")).expect("valid");
        let now = || sample::at(0);
        let completeness = Completeness::open(config.clone(), disk.clone(), self.spool.clone(), now).expect("a working disk");
        let commitments = Commitments::open(config.clone(), &trust, disk, self.spool.clone(), now).expect("a working disk");
        let maps = crate::forward::load_maps(&config).expect("shipped maps load");
        let sets = Arc::new(ArcSwap::new(in_force.rules.clone()));
        let query = Query::new(config.clone(), &trust, sets, self.spool.clone(), maps, now).expect("no destination");
        let ingress = Arc::new(Ingress::new(in_force, self.spool.clone(), (commitments, completeness, query), counters, now));
        let (stop, row) = (CancellationToken::new(), Arc::new(config.inbound[0].clone()));
        let root = row.drop_folder.clone().expect("a folder");
        let running = tokio::spawn(run(ingress, row, root, stop.clone()));
        for _ in 0..200 {
            if done() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(done(), "not in time; claimed {:?}, refused {:?}", self.entries(folder::CLAIMED), self.entries(folder::REFUSED));
        stop.cancel();
        running.await.expect("ended in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_sub_folders_are_taken_and_removed() {
    let drop = Drop::new();
    drop.put("a.dcm", &part10(1));
    drop.put("deep/er/b", &part10(2));
    drop.run_until(|| drop.held() == 2 && drop.entries(folder::CLAIMED).is_empty()).await;
    assert!(!drop.path("a.dcm").exists() && !drop.path("deep/er/b").exists());
    assert!(drop.path("deep/er").exists(), "folders are other people's");
    assert!(drop.entries(folder::REFUSED).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_it_runs_is_taken() {
    let drop = Drop::new();
    let (late, at) = (std::sync::atomic::AtomicBool::new(false), drop.path("new/c.dcm"));
    drop.run_until(|| {
        if !late.swap(true, std::sync::atomic::Ordering::Relaxed) {
            drop.put("new/c.dcm", &part10(3));
        }
        drop.held() == 1 && !at.exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_with_rule_elements_and_remedy() {
    let drop = Drop::new();
    let cut = &part10(4)[..part10(4).len() - 3];
    drop.put("scan/cut.dcm", cut);
    drop.put("photo.jpg", &[0xFF; 500]);
    drop.run_until(|| drop.entries(folder::REFUSED).len() == 4 && drop.entries(folder::CLAIMED).is_empty()).await;
    assert_eq!(drop.held(), 0);
    let texts: Vec<String> = drop
        .entries(folder::REFUSED)
        .iter()
        .filter_map(|name| name.strip_suffix(".txt"))
        .map(|id| {
            let text = fs::read_to_string(drop.path(&format!("refused/{id}.txt"))).expect("a note");
            let bytes = fs::read(drop.path(&format!("refused/{id}"))).expect("the file");
            assert!(text.contains(id) && (bytes == cut || bytes.len() == 500), "unchanged");
            text
        })
        .collect();
    let of = |name: &str| texts.iter().find(|text| text.contains(name)).unwrap_or_else(|| panic!("{texts:?}"));
    assert!(of("scan/cut.dcm").contains("Rule: D108") && of("scan/cut.dcm").contains("(0020,000E)"), "{texts:?}");
    assert!(of("photo.jpg").contains("Rule: D102") && of("photo.jpg").contains("What to do: Export the object again"), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_too_large_is_refused_unread() {
    let mut drop = Drop::new();
    drop.bounds.file_bytes_max = 100;
    drop.put("large.dcm", &part10(5));
    drop.run_until(|| drop.entries(folder::REFUSED).len() == 2).await;
    assert_eq!(drop.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_claim_and_commit_loses_nothing() {
    let drop = Drop::new();
    drop.put_claimed(&part10(6));
    drop.run_until(|| drop.held() == 1 && drop.entries(folder::CLAIMED).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_commit_and_removal_duplicates_nothing() {
    let drop = Drop::new();
    drop.put("a.dcm", &part10(7));
    drop.run_until(|| drop.held() == 1 && drop.entries(folder::CLAIMED).is_empty()).await;
    drop.put_claimed(&part10(7));
    drop.run_until(|| drop.entries(folder::CLAIMED).is_empty()).await;
    assert_eq!(drop.held(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_note_and_rename_is_made_good() {
    let drop = Drop::new();
    drop.put_claimed(&[0xFF; 500]);
    drop.put(&format!("{}/{ID}.txt", folder::REFUSED), b"half a no");
    drop.run_until(|| drop.entries(folder::REFUSED).len() == 2 && drop.entries(folder::CLAIMED).is_empty()).await;
    let text = fs::read_to_string(drop.path(&format!("refused/{ID}.txt"))).expect("a note");
    assert!(text.contains("File: a/b.dcm") && text.contains("D102"), "{text}");
}

/// An archive of these entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("begun");
        std::io::Write::write_all(&mut writer, bytes).expect("written");
    }
    writer.finish().expect("ended").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_objects_of_media_are_taken_its_directory_and_its_other_files_are_not() {
    let drop = Drop::new();
    let mut directory = part10(9);
    let text = String::from_utf8_lossy(&directory).replace("1.2.840.10008.5.1.4.1.1.2\0", "1.2.840.10008.1.3.10\0\0\0\0\0\0");
    directory.splice(.., text.into_bytes());
    drop.put("disc/DICOMDIR", &directory);
    drop.put("disc/IM1", &part10(1));
    drop.put("disc.zip", &zip(&[("DICOMDIR", &directory), ("../../etc/IM2", &part10(2)), ("/IM3", &part10(3)), ("viewer.exe", b"MZ")]));
    drop.run_until(|| drop.held() == 3 && drop.entries(folder::CLAIMED).is_empty()).await;
    assert!(drop.entries(folder::REFUSED).is_empty());
    assert!(drop.entries("disc").is_empty() && !drop.path("disc.zip").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_with_something_wrong_gives_what_is_good_and_stays_with_the_reasons() {
    let drop = Drop::new();
    let mut bomb = part10(6);
    // Zeros without end in an element that may have them.
    bomb.extend_from_slice(&[0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0]);
    bomb.extend_from_slice(&(20_u32 << 20).to_le_bytes());
    bomb.resize(bomb.len() + (20 << 20), 0);
    let inner = zip(&[("IM5", &part10(5))]);
    let cut = &part10(4)[..part10(4).len() - 3];
    let bare = &part10(7)[132..];
    let entries: [(&str, &[u8]); 6] =
        [("good", &part10(1)), ("cut", cut), ("inner.zip", &inner), ("bomb", &bomb), ("bare", bare), ("last", &part10(2))];
    let mut archive = zip(&entries);
    drop.put("a.zip", &archive);
    drop.run_until(|| drop.entries(folder::REFUSED).len() == 2 && drop.entries(folder::CLAIMED).is_empty()).await;
    assert_eq!(drop.held(), 2);
    let note = drop.entries(folder::REFUSED).into_iter().find(|name| name.ends_with(".txt")).expect("a note");
    let note = fs::read_to_string(drop.path("refused").join(note)).expect("a note");
    for part in [
        "2 objects of it are held, 4 were refused",
        "cut\nRule: D108",
        "inner.zip\nReason: it is an archive in an archive",
        "bomb\nReason: it unpacks to more",
        "bare\nReason: it begins as a DICOM data set",
    ] {
        assert!(note.contains(part), "no {part} in {note}");
    }
    // No archive at all.
    archive.truncate(archive.len() / 2);
    drop.put("b.zip", &archive);
    drop.run_until(|| drop.entries(folder::REFUSED).len() == 4).await;
    // Of two files with one name only the second can be read.
    let twice = zip(&[("IM8", &part10(8)), ("IM9", &part10(9))]);
    drop.put("c.zip", &renamed(twice, b"IM9", b"IM8"));
    drop.run_until(|| drop.entries(folder::REFUSED).len() == 6).await;
    assert_eq!(drop.held(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_with_a_patient_id_that_no_record_can_have_is_held_and_stops_no_other() {
    let drop = Drop::new();
    let object = part10(1);
    let series = object.windows(4).position(|tag| tag == [0x20, 0, 0x0D, 0]).expect("a study");
    let id = [&[0x10, 0, 0x20, 0, b'L', b'O', 70, 0][..], &[b'9'; 70]].concat();
    let object = [&object[..series], &id, &object[series..]].concat();
    drop.put("a.zip", &zip(&[("long", &object), ("last", &part10(2))]));
    drop.run_until(|| drop.held() == 2 && drop.entries(folder::CLAIMED).is_empty()).await;
}

/// The same bytes with another name in them.
fn renamed(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn a_claimed_file_that_was_written_to_after_it_was_read_is_not_removed() {
    let drop = Drop::new();
    let (places, mut watch) = (drop.places(), Watch::new(DropFolders { quiet_seconds: 1, ..DropFolders::default() }));
    drop.put("a", b"1");
    let start = Instant::now();
    watch.look(&places, start, 9).expect("looked");
    let claim = watch.look(&places, start + Duration::from_secs(9), 9).expect("looked").claims.remove(0);
    let read = || folder::mark(&places.read(&claim).expect("readable").expect("a file")).expect("a mark");
    let mark = read();
    fs::write(drop.path(folder::CLAIMED).join(&claim.id), b"12").expect("written");
    places.remove(&claim, mark).expect_err("the rest of it would be lost");
    places.remove(&claim, read()).expect("as it was read");
    assert!(drop.entries(folder::CLAIMED).is_empty());
}

#[test]
fn a_file_is_claimed_when_it_was_quiet_and_not_before() {
    let drop = Drop::new();
    let (places, mut watch) = (drop.places(), Watch::new(DropFolders { quiet_seconds: 10, ..DropFolders::default() }));
    let start = Instant::now();
    let mut look = |seconds, room| watch.look(&places, start + Duration::from_secs(seconds), room).expect("looked");
    drop.put("a", b"1");
    assert!(look(0, 9).growing);
    drop.put("a", b"12");
    assert!(look(10, 9).claims.is_empty(), "it grew");
    assert!(look(19, 9).claims.is_empty());
    assert!(look(20, 0).more, "no room");
    assert_eq!(look(20, 9).claims.len(), 1);
}

#[test]
fn links_special_files_and_names_of_files_in_the_making_are_left_alone() {
    let drop = Drop::new();
    let elsewhere = TempDir::new().expect("a folder");
    fs::write(elsewhere.path().join("secret"), part10(8)).expect("written");
    symlink(elsewhere.path(), drop.path("folder")).expect("a link");
    symlink(elsewhere.path().join("secret"), drop.path("file")).expect("a link");
    rustix::fs::mkfifoat(rustix::fs::CWD, drop.path("pipe"), rustix::fs::Mode::RWXU).expect("a pipe");
    drop.put(".hidden", b"1");
    drop.put("copying.tmp", b"1");
    drop.put("1/2/3/file", b"1");
    let places = drop.places();
    let mut watch = Watch::new(DropFolders { depth_max: 2, ..DropFolders::default() });
    let start = Instant::now();
    watch.look(&places, start, 9).expect("looked");
    let looked = watch.look(&places, start + Duration::from_secs(60), 9).expect("looked");
    assert!(looked.claims.is_empty() && !looked.more && !looked.growing, "{looked:?}");
    assert_eq!(looked.passed, Passed { special: 3, deep: 1, ..Passed::default() });
    assert!(elsewhere.path().join("secret").exists());
    // Nor by a claim that became a link.
    let claim = Claim { id: ID.to_owned(), found: "x".to_owned() };
    symlink(elsewhere.path().join("secret"), drop.path(&format!("{}/{ID}", folder::CLAIMED))).expect("a link");
    assert!(places.read(&claim).expect("looked at").is_none());
}

#[test]
fn a_look_is_bounded() {
    let drop = Drop::new();
    (0..20).for_each(|n| drop.put(&format!("{n}"), b"1"));
    let places = drop.places();
    let looked = Watch::new(DropFolders { entries_max: 10, ..DropFolders::default() }).look(&places, Instant::now(), 99);
    assert!(looked.expect("looked").passed.cut);
}

#[test]
fn the_state_folder_is_no_drop_folder() {
    let drop = Drop::new();
    let inner = drop.state.path().join("objects");
    fs::create_dir(&inner).expect("made");
    symlink(drop.state.path(), drop.path("link")).expect("a link");
    for root in [drop.state.path(), &inner, &drop.path("link"), Path::new("/")] {
        assert!(matches!(Places::open(root, drop.state.path()), Err(FolderError::Overlap)), "{}", root.display());
    }
    assert!(matches!(Places::open(&drop.path("none"), drop.state.path()), Err(FolderError::Unusable(_))));
}

#[test]
fn the_folder_of_claims_is_closed_to_others() {
    let drop = Drop::new();
    drop.places();
    let mode = fs::metadata(drop.path(folder::CLAIMED)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // Made by somebody as a link to where they want our files.
    fs::remove_dir(drop.path(folder::CLAIMED)).expect("empty");
    symlink("/tmp", drop.path(folder::CLAIMED)).expect("a link");
    assert!(matches!(Places::open(drop.folder.path(), drop.state.path()), Err(FolderError::Unusable(_))));
}

#[test]
fn an_archive_with_too_many_entries_is_not_read() {
    let names: Vec<String> = (0..50_000).map(|n| format!("{}{n}", "n".repeat(150))).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let never = || -> Entry { unreachable!("no entry is read") };
    assert!(archive::take(std::io::Cursor::new(zip(&entries)), never, 1, || false).is_err());
}

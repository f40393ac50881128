//! A disk in memory that behaves as badly as disks may.
//!
//! # Power loss
//! Written bytes and changed names stand in a cache until they are synced. [`MemoryDisk::power_cut`] decides for every
//! 512-byte sector and every changed name that was not synced, by a seed, whether it reached the disk: independently of
//! each other, in the order in which they were made. A file whose folder was never synced is gone whatever its bytes.
//!
//! # Faults
//! Every call that changes or syncs something is a step, numbered from 1. [`MemoryDisk::fail`] makes one step fail;
//! [`MemoryDisk::cut_power_at`] makes a step and all calls after it fail, as seen by a process that is about to die.
//! A failed sync behaves as Linux does: the bytes stay readable, are never written, and the next sync succeeds.

use super::{Disk, DiskFile, Listed, Space};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Input/output error.
    Eio,
    /// No space left on the disk.
    Enospc,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<Medium>>,
    /// Handles of a process that has died do nothing any more.
    life: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

/// A changed name: path and what it names from then on.
type Rename = Vec<(PathBuf, Option<Node>)>;

struct Medium {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    pending_names: Vec<Rename>,
    steps: u64,
    faults: BTreeMap<u64, Fault>,
    cut_at: Option<u64>,
    dead: bool,
    life: u64,
    capacity: u64,
}

const SECTOR: u64 = 512;

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new(1 << 30)
    }
}

impl MemoryDisk {
    /// An empty disk of that many bytes.
    pub fn new(capacity: u64) -> Self {
        let medium = Medium {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            steps: 0,
            faults: BTreeMap::new(),
            cut_at: None,
            dead: false,
            life: 0,
            capacity,
        };
        Self { state: Arc::new(Mutex::new(medium)), life: 0 }
    }

    fn medium(&self) -> MutexGuard<'_, Medium> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.medium().steps
    }

    /// Changes the size of the disk, bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.medium().capacity = bytes;
    }

    /// The step of that number fails; the steps before and after do not.
    pub fn fail(&self, step: u64, fault: Fault) {
        self.medium().faults.insert(step, fault);
    }

    /// From the step of that number on nothing succeeds.
    pub fn cut_power_at(&self, step: u64) {
        self.medium().cut_at = Some(step);
    }

    /// Whether the power went.
    pub fn is_dead(&self) -> bool {
        self.medium().dead
    }

    /// The disk as the next process finds it when the machine lived on: nothing is lost, nothing more is durable.
    pub fn killed(&self) -> Self {
        let mut medium = self.medium();
        medium.reset();
        Self { state: Arc::clone(&self.state), life: medium.life }
    }

    /// The disk as the next process finds it after a power cut.
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Everything lost, everything kept, and any mixture are equally likely.
        let kept = [0.0, 1.0, rng.random::<f64>()][rng.random_range(0..3)];
        let mut medium = self.medium();
        for change in std::mem::take(&mut medium.pending_names) {
            if rng.random_bool(kept) {
                medium.make_durable(change);
            }
        }
        let reachable = |names: &BTreeMap<PathBuf, Node>, path: &Path| {
            path.ancestors().skip(1).filter(|above| *above != Path::new("")).all(|above| names.get(above) == Some(&Node::Folder))
        };
        let names: BTreeMap<_, _> = medium
            .durable_names
            .iter()
            .filter(|(path, _)| reachable(&medium.durable_names, path))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        medium.durable_names.clone_from(&names);
        medium.names = names;
        for inode in &mut medium.inodes {
            for write in std::mem::take(&mut inode.pending) {
                match write {
                    Write::Length(bytes) if rng.random_bool(kept) => resize(&mut inode.durable, bytes),
                    Write::Length(_) => {}
                    Write::Bytes(offset, bytes) => {
                        let mut at = offset;
                        let end = offset + bytes.len() as u64;
                        while at < end {
                            let next = end.min((at / SECTOR + 1) * SECTOR);
                            if rng.random_bool(kept) {
                                put(&mut inode.durable, at, &bytes[index(at - offset)..index(next - offset)]);
                            }
                            at = next;
                        }
                    }
                }
            }
            inode.current.clone_from(&inode.durable);
        }
        medium.reset();
        Self { state: Arc::clone(&self.state), life: medium.life }
    }

    /// Changes one byte of a file on the disk itself, as a failing medium does. False when there is no such byte.
    pub fn rot(&self, path: &Path, offset: u64) -> bool {
        let mut medium = self.medium();
        let Some(Node::File(number)) = medium.names.get(path).copied() else { return false };
        let inode = &mut medium.inodes[number];
        let at = index(offset);
        for bytes in [&mut inode.current, &mut inode.durable] {
            match bytes.get_mut(at) {
                Some(byte) => *byte ^= 0xFF,
                None => return false,
            }
        }
        true
    }

    /// Paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.medium().names.iter().filter(|(_, node)| **node != Node::Folder).map(|(path, _)| path.clone()).collect()
    }

    /// Begins a step of a living process.
    fn step(&self) -> io::Result<MutexGuard<'_, Medium>> {
        let mut medium = self.alive()?;
        medium.steps += 1;
        let step = medium.steps;
        if medium.cut_at.is_some_and(|cut| step >= cut) {
            medium.dead = true;
        }
        Ok(medium)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Medium>> {
        let medium = self.medium();
        if medium.dead || medium.life != self.life { Err(power_lost()) } else { Ok(medium) }
    }
}

fn power_lost() -> io::Error {
    io::Error::other("power lost")
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is shorter than the address space")
}

fn resize(bytes: &mut Vec<u8>, length: u64) {
    bytes.resize(index(length), 0);
}

fn put(to: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, end) = (index(offset), index(offset) + bytes.len());
    if to.len() < end {
        to.resize(end, 0);
    }
    to[from..end].copy_from_slice(bytes);
}

impl Medium {
    fn reset(&mut self) {
        self.life += 1;
        self.dead = false;
        self.cut_at = None;
        self.faults.clear();
        self.steps = 0;
    }

    /// How this step ends: `Err` after its effect was left out or half done by the caller.
    fn verdict(&self) -> io::Result<()> {
        if self.dead {
            return Err(power_lost());
        }
        match self.faults.get(&self.steps) {
            Some(Fault::Eio) => Err(io::Error::from_raw_os_error(5)),
            Some(Fault::Enospc) => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Rename) -> io::Result<()> {
        let verdict = self.verdict();
        // A change in flight when the power goes may have reached the disk; one that failed has not.
        if verdict.is_ok() || self.dead {
            for (path, node) in &change {
                apply(&mut self.names, path, *node);
            }
            self.pending_names.push(change);
        }
        verdict
    }

    fn make_durable(&mut self, change: Rename) {
        for (path, node) in change {
            apply(&mut self.durable_names, &path, node);
        }
    }

    fn used(&self) -> u64 {
        let files = self.names.values().filter_map(|node| if let Node::File(number) = node { self.inodes.get(*number) } else { None });
        files.map(|inode| inode.current.len() as u64).sum()
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        let found = path == Path::new("") || self.names.get(path) == Some(&Node::Folder);
        found.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, path: &Path, node: Option<Node>) {
    match node {
        Some(node) => names.insert(path.to_owned(), node),
        None => names.remove(path),
    };
}

struct MemoryFile {
    disk: MemoryDisk,
    number: usize,
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut medium = self.step()?;
        medium.folder(path.parent().unwrap_or(Path::new("")))?;
        if medium.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = medium.inodes.len();
        medium.inodes.push(Inode::default());
        medium.change(vec![(path.to_owned(), Some(Node::File(number)))])?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.alive()?.names.get(path) {
            Some(Node::File(number)) => Ok(Arc::new(MemoryFile { disk: self.clone(), number: *number })),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.step()?;
        medium.folder(path.parent().unwrap_or(Path::new("")))?;
        match medium.names.get(path) {
            Some(_) => medium.verdict(),
            None => medium.change(vec![(path.to_owned(), Some(Node::Folder))]),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.step()?;
        medium.folder(path)?;
        medium.verdict()?;
        // A rename between two folders is one change; syncing either makes all of it durable, as a journal does.
        let (now, later) = std::mem::take(&mut medium.pending_names)
            .into_iter()
            .partition::<Vec<_>, _>(|change| change.iter().any(|(name, _)| name.parent() == Some(path)));
        medium.pending_names = later;
        now.into_iter().for_each(|change| medium.make_durable(change));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut medium = self.step()?;
        medium.folder(to.parent().unwrap_or(Path::new("")))?;
        let node = *medium.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        medium.change(vec![(from.to_owned(), None), (to.to_owned(), Some(node))])
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.step()?;
        if !medium.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        medium.change(vec![(path.to_owned(), None)])
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let medium = self.alive()?;
        medium.folder(path)?;
        let inside = medium.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(inside.map(|(path, node)| Listed { name: name(path), folder: *node == Node::Folder }).collect())
    }

    fn space(&self) -> io::Result<Space> {
        let medium = self.alive()?;
        Ok(Space { free: medium.capacity.saturating_sub(medium.used()), total: medium.capacity })
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut medium = self.disk.step()?;
        let full = medium.used() + bytes.len() as u64 > medium.capacity;
        let verdict = if full { Err(io::ErrorKind::StorageFull.into()) } else { medium.verdict() };
        // A write that fails has written a part: a sector-aligned half, here.
        let written = if verdict.is_ok() || medium.dead { bytes.len() } else { bytes.len() / 2 };
        let bytes = &bytes[..written];
        let inode = &mut medium.inodes[self.number];
        put(&mut inode.current, offset, bytes);
        inode.pending.push(Write::Bytes(offset, bytes.to_vec()));
        verdict
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let medium = self.disk.alive()?;
        let bytes = medium.inodes[self.number].current.get(index(offset)..).unwrap_or_default();
        let read = bytes.len().min(buffer.len());
        buffer[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.inodes[self.number].current.len() as u64)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let mut medium = self.disk.step()?;
        let verdict = medium.verdict();
        if verdict.is_ok() || medium.dead {
            let inode = &mut medium.inodes[self.number];
            resize(&mut inode.current, bytes);
            inode.pending.push(Write::Length(bytes));
        }
        verdict
    }

    fn sync_data(&self) -> io::Result<()> {
        // A sync takes its time: others go on meanwhile.
        std::thread::yield_now();
        let mut medium = self.disk.step()?;
        let verdict = medium.verdict();
        let dead = medium.dead;
        let inode = &mut medium.inodes[self.number];
        match verdict {
            Ok(()) => {
                for write in std::mem::take(&mut inode.pending) {
                    match write {
                        Write::Bytes(offset, bytes) => put(&mut inode.durable, offset, &bytes),
                        Write::Length(bytes) => resize(&mut inode.durable, bytes),
                    }
                }
            }
            // The dirty pages were marked clean: readable, never written.
            Err(_) if !dead => inode.pending.clear(),
            Err(_) => {}
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.create(Path::new(name)).expect("a new name");
        file.write_at(0, bytes).expect("room");
        file
    }

    fn read(disk: &MemoryDisk, name: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(name)).ok()?;
        Some(super::super::read_from(&*file, 0).expect("readable"))
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_what_was_not_may_be_lost_or_torn() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let disk = MemoryDisk::default();
            write(&disk, "kept", &[7; 2000]).sync_data().expect("synced");
            disk.sync_folder(Path::new("")).expect("synced");
            write(&disk, "unsynced", &[9; 2000]);
            disk.sync_folder(Path::new("")).expect("synced");
            write(&disk, "unnamed", &[1; 10]).sync_data().expect("synced");
            let disk = disk.power_cut(seed);
            assert_eq!(read(&disk, "kept"), Some(vec![7; 2000]));
            let unsynced = read(&disk, "unsynced").expect("its name was synced");
            outcomes.insert(match unsynced.iter().filter(|b| **b == 9).count() {
                0 => "lost",
                2000 => "whole",
                _ => "torn",
            });
            outcomes.insert(if read(&disk, "unnamed").is_some() { "named" } else { "nameless" });
        }
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["lost", "named", "nameless", "torn", "whole"]);
    }

    #[test]
    fn bytes_of_a_failed_sync_stay_readable_and_never_become_durable() {
        let disk = MemoryDisk::default();
        let file = write(&disk, "a", b"lost");
        disk.sync_folder(Path::new("")).expect("synced");
        disk.fail(disk.steps() + 1, Fault::Eio);
        assert!(file.sync_data().is_err());
        file.sync_data().expect("the next one succeeds, as on Linux");
        assert_eq!(read(&disk, "a").as_deref(), Some(&b"lost"[..]));
        assert_ne!(read(&disk.power_cut(1), "a").as_deref(), Some(&b"lost"[..]));
    }

    #[test]
    fn handles_of_a_dead_process_do_nothing() {
        let disk = MemoryDisk::default();
        let file = write(&disk, "a", b"one");
        let next = disk.killed();
        assert!(file.write_at(0, b"two").is_err() && disk.create(Path::new("b")).is_err());
        assert_eq!(read(&next, "a").as_deref(), Some(&b"one"[..]));
    }
}

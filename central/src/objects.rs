//! Objects: bytes by an opaque key of ours, behind the `object_store` crate.
//!
//! [`Objects`] is the whole interface; which database row owns an object is the store's business. The seam towards
//! other kinds of storage is `object_store`'s own trait: local directory (default), memory (unit tests), S3.
//!
//! Whoever has [`Objects`] can write. Bytes are given by a [`Reader`] only, and that asks for a [`Permit`] or an [`Operator`].
//!
//! # On disk
//! [`ObjectKey`] is `aaaa/bb/cc/<uuid>`: a UUIDv7 under folders named by its first 32 bits, so one folder holds the
//! objects of 65.5 s and the newest folders are the only ones that change. Nobody else's string ever becomes a name.
//! An object is written under a staging name beside its place, synced, renamed, and its folder is synced. An object is
//! never overwritten, and never removed except by [`Objects::discard`] for bytes that no commit came to own.
//!
//! # Failure
//! [`ObjectWriter::finish`] returns after bytes and directory entries are durable. A writer that fails or is dropped
//! leaves no object; what a crash leaves behind is found by [`Objects::strays`] and [`Objects::remove_unfinished`].
//!
//! # Bounds
//! A writer holds at most [`PART_BYTES`] × ([`PARTS_IN_FLIGHT`] + 1) bytes; a reader one chunk. [`Reader::read`] takes
//! a limit.

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use idr_profile::access::Permit;
use idr_profile::digest::{Digest, Digester};
use jiff::Timestamp;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::control::Operator;

/// Bytes of an object as they are read.
pub type ByteStream = BoxStream<'static, Result<Bytes, ObjectError>>;

/// Where one object's bytes are. Opaque: made from an id of ours and kept in the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Uuid);

impl ObjectKey {
    /// Key for a new object. `id` is a UUIDv7 that was never used before.
    pub fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (folders, name) = text.rsplit_once('/')?;
        let key = Self(Uuid::try_parse(name).ok()?);
        (key.folder() == folders && key.to_string() == text).then_some(key)
    }

    fn folder(&self) -> String {
        folder_name(&self.0.simple().to_string())
    }

    fn path(&self) -> StorePath {
        StorePath::from(self.to_string())
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.folder(), self.0.hyphenated())
    }
}

/// Why bytes could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No object has this key: the index and the objects disagree.
    #[error("object {key} is missing; restore it from a backup or from the site's copy")]
    Missing {
        /// The key looked for.
        key: ObjectKey,
    },
    /// The stored bytes are not the ones that were committed.
    #[error("object {key} does not have its digest; restore it from a backup or from the site's copy")]
    Altered {
        /// The key read.
        key: ObjectKey,
    },
    /// A document of another repository that did not come, or not as it was registered.
    #[error("the document was not fetched")]
    NotFetched,
    /// The object is longer than the caller's limit.
    #[error("object {key} has {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The key read.
        key: ObjectKey,
        /// Bytes stored.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The storage failed.
    #[error("object storage failed while {doing}")]
    Storage {
        /// What was being done.
        doing: &'static str,
        /// The storage's error.
        #[source]
        source: object_store::Error,
    },
    /// A folder for new objects could not be made durable.
    #[error("cannot make the object folder durable")]
    Folder(#[source] std::io::Error),
}

/// What [`ObjectWriter::finish`] made durable, and nothing else can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    key: ObjectKey,
    size: u64,
}

impl Written {
    /// Key to commit with the index row.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Bytes stored.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// The object storage of one node or one shared bucket.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    folders: Option<Arc<Folders>>,
}

impl Objects {
    /// A local directory, which exists. Every object and every folder on its path is synced before `finish` returns.
    ///
    /// # Errors
    /// [`ObjectError::Storage`] if `root` cannot be opened.
    pub fn local(root: &Path) -> Result<Self, ObjectError> {
        let store = LocalFileSystem::new_with_prefix(root).map_err(failed("opening the object directory"))?.with_fsync(true);
        Ok(Self { store: Arc::new(store), folders: Some(Arc::new(Folders { root: root.to_owned(), durable: Mutex::default() })) })
    }

    /// Memory, for unit tests.
    pub fn memory() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    /// Any other `object_store` implementation whose completed upload is durable.
    pub fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folders: None }
    }

    /// Opens a place for one object. Nothing is visible under `key` until [`ObjectWriter::finish`].
    ///
    /// # Errors
    /// [`ObjectError::Folder`].
    pub async fn create(&self, key: ObjectKey) -> Result<ObjectWriter, ObjectError> {
        if let Some(folders) = &self.folders {
            folders.prepare(key.folder()).await?;
        }
        let writer = BufWriter::with_capacity(Arc::clone(&self.store), key.path(), PART_BYTES).with_max_concurrency(PARTS_IN_FLIGHT);
        Ok(ObjectWriter { writer: Some(writer), key, size: 0 })
    }

    /// Keeps `bytes` as one object: [`create`](Self::create), write, finish.
    ///
    /// # Errors
    /// As `create` and [`ObjectWriter`].
    pub async fn put(&self, key: ObjectKey, bytes: Bytes) -> Result<Written, ObjectError> {
        let mut writer = self.create(key).await?;
        match writer.write(bytes).await {
            Ok(()) => writer.finish().await,
            Err(error) => {
                writer.discard().await;
                Err(error)
            }
        }
    }

    /// Reads what a permit was given for: the key comes with the thing that was disclosed under it.
    pub fn permitted(&self, _: &Permit) -> Reader<'_> {
        Reader { objects: self }
    }

    /// Reads for an operator, who checks what is held.
    pub fn checked_by(&self, _: &Operator) -> Reader<'_> {
        Reader { objects: self }
    }

    /// Reads back what was just written and nobody owns yet, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn read_back(&self, written: &Written, limit: u64) -> Result<Bytes, ObjectError> {
        self.read(&written.key, limit).await
    }

    /// Streams back what was just written and nobody owns.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub async fn stream_back(&self, written: &Written) -> Result<ByteStream, ObjectError> {
        Ok(self.open(&written.key, None).await?.1)
    }

    async fn open(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<(u64, ByteStream), ObjectError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let found = self.store.get_opts(&key.path(), options).await.map_err(|source| match source {
            object_store::Error::NotFound { .. } => ObjectError::Missing { key: key.clone() },
            source => ObjectError::Storage { doing: "opening an object", source },
        })?;
        let size = found.meta.size;
        Ok((size, found.into_stream().map_err(failed("reading an object")).boxed()))
    }

    async fn open_verified(
        &self,
        key: &ObjectKey,
        transfer_syntax_uid: &str,
        data_set_offset: u64,
        digest: Digest,
    ) -> Result<(u64, ByteStream), ObjectError> {
        let (size, bytes) = self.open(key, None).await?;
        let state = Verifying {
            bytes,
            digester: Digester::new(transfer_syntax_uid),
            skip: data_set_offset,
            held: None,
            expected: digest,
            key: key.clone(),
            over: false,
        };
        Ok((size, futures::stream::unfold(state, Verifying::next).fuse().boxed()))
    }

    async fn read(&self, key: &ObjectKey, limit: u64) -> Result<Bytes, ObjectError> {
        let (size, mut stream) = self.open(key, None).await?;
        if size > limit {
            return Err(ObjectError::TooLarge { key: key.clone(), size, limit });
        }
        let mut all = BytesMut::new();
        while let Some(chunk) = stream.try_next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Removes staged bytes whose commit failed. A key that is not there is no error. The caller knows that no
    /// committed row names `key`: patient data is removed by no other way and never automatically.
    ///
    /// # Errors
    /// [`ObjectError::Storage`].
    pub async fn discard(&self, key: &ObjectKey) -> Result<(), ObjectError> {
        match self.store.delete(&key.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(ObjectError::Storage { doing: "removing staged bytes", source }),
        }
    }

    /// Keys made within `made` of objects that nobody has written since `untouched_since`, at most `limit`: those that no
    /// index row names are bytes of a failed commit (profile 08 §6.3: they go within 3 600 s). Looks at the folders of that
    /// time only, one per 65.5 s.
    ///
    /// # Errors
    /// [`ObjectError::Storage`].
    pub async fn strays(&self, made: Range<Timestamp>, untouched_since: Timestamp, limit: usize) -> Result<Vec<ObjectKey>, ObjectError> {
        let mut keys = Vec::new();
        for folder in folders_of(&made) {
            let mut listing = self.store.list(Some(&StorePath::from(folder)));
            while let Some(meta) = listing.try_next().await.map_err(failed("listing objects"))? {
                if keys.len() == limit {
                    return Ok(keys);
                }
                if meta.last_modified.timestamp_millis() < untouched_since.as_millisecond() {
                    keys.extend(ObjectKey::parse(meta.location.as_ref()));
                }
            }
        }
        Ok(keys)
    }

    /// Removes what a crash left of uploads that were never finished: staged files in the folders of keys made within
    /// `made` that nobody has written since `untouched_since`. Gives how many. Nothing for other storages: a bucket's
    /// life-cycle rule ends its incomplete uploads.
    ///
    /// # Errors
    /// [`ObjectError::Folder`].
    pub async fn remove_unfinished(&self, made: Range<Timestamp>, untouched_since: Timestamp) -> Result<usize, ObjectError> {
        let Some(folders) = self.folders.clone() else { return Ok(0) };
        let remove =
            move || folders_of(&made).map(|folder| folders.remove_unfinished(&folder, untouched_since)).sum::<std::io::Result<usize>>();
        tokio::task::spawn_blocking(remove).await.map_err(|join| ObjectError::Folder(join.into()))?.map_err(ObjectError::Folder)
    }
}

/// Bytes of objects, for who may have them: made for a [`Permit`] or an [`Operator`], and nothing else gives any.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    objects: &'a Objects,
}

impl Reader<'_> {
    /// Streams an object, or the part of it in `range` (bytes; an end beyond the object is cut). Gives its whole size too.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Storage`]; the stream gives `Storage` for a failure after its start.
    pub async fn open(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<(u64, ByteStream), ObjectError> {
        self.objects.open(key, range).await
    }

    /// Streams a Part 10 object and checks it on the way: the data set begins at `data_set_offset`, and its digest
    /// (profile 01 §3.1) must be `digest`. The last chunk is given only after the digest held, so a receiver never
    /// gets a whole object that was altered.
    ///
    /// # Errors
    /// As [`open`](Self::open); the stream ends with [`ObjectError::Altered`] if the digest differs.
    pub async fn open_verified(
        &self,
        key: &ObjectKey,
        transfer_syntax_uid: &str,
        data_set_offset: u64,
        digest: Digest,
    ) -> Result<(u64, ByteStream), ObjectError> {
        self.objects.open_verified(key, transfer_syntax_uid, data_set_offset, digest).await
    }

    /// Reads a whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`ObjectError::TooLarge`] before any byte is read.
    pub async fn read(&self, key: &ObjectKey, limit: u64) -> Result<Bytes, ObjectError> {
        self.objects.read(key, limit).await
    }
}

/// Folders of keys made within `made`.
fn folders_of(made: &Range<Timestamp>) -> impl Iterator<Item = String> + use<> {
    let part = |time: Timestamp| u32::try_from(time.as_millisecond() >> 16).unwrap_or(if time.as_millisecond() < 0 { 0 } else { u32::MAX });
    (part(made.start)..=part(made.end)).map(|part| folder_name(&format!("{part:08x}")))
}

fn folder_name(hex: &str) -> String {
    format!("{}/{}/{}", &hex[..4], &hex[4..6], &hex[6..8])
}

/// One object while it is written. Dropping it is the same as [`discard`](Self::discard).
pub struct ObjectWriter {
    writer: Option<BufWriter>,
    key: ObjectKey,
    size: u64,
}

impl ObjectWriter {
    /// Takes the next bytes; waits while the storage is behind. After an error the writer can only be discarded.
    ///
    /// # Errors
    /// [`ObjectError::Storage`].
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ObjectError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.size += bytes.len() as u64;
        self.open_writer().put(bytes).await.map_err(failed("writing an object"))
    }

    /// Returns after the bytes and the directory entries that lead to them are durable; never before.
    ///
    /// # Errors
    /// [`ObjectError::Storage`]: nothing is left under the key.
    pub async fn finish(mut self) -> Result<Written, ObjectError> {
        match self.open_writer().shutdown().await {
            Ok(()) => Ok(Written { key: self.key, size: self.size }),
            // The writer gives up its upload when shutdown fails, and an upload that is dropped removes its staged bytes.
            Err(error) => Err(ObjectError::Storage { doing: "finishing an object", source: unwrap_io(error) }),
        }
    }

    /// Forgets the bytes. A failure here leaves a stray only.
    pub async fn discard(mut self) {
        if let Some(mut writer) = self.writer.take() {
            let _ = writer.abort().await;
        }
    }

    fn open_writer(&mut self) -> &mut BufWriter {
        self.writer.as_mut().expect("only discard, which consumes the writer, takes it out")
    }
}

struct Verifying {
    bytes: ByteStream,
    digester: Digester,
    skip: u64,
    held: Option<Bytes>,
    expected: Digest,
    key: ObjectKey,
    over: bool,
}

impl Verifying {
    async fn next(mut self) -> Option<(Result<Bytes, ObjectError>, Self)> {
        while !self.over {
            match self.bytes.next().await {
                Some(Ok(chunk)) => {
                    let head = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
                    self.skip -= head as u64;
                    self.digester.update(&chunk[head..]);
                    if let Some(earlier) = self.held.replace(chunk) {
                        return Some((Ok(earlier), self));
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    return Some((Err(error), self));
                }
                None => {
                    self.over = true;
                    let held = self.held.take();
                    if self.digester.clone().finish() != self.expected {
                        let key = self.key.clone();
                        return Some((Err(ObjectError::Altered { key }), self));
                    }
                    return held.map(|chunk| (Ok(chunk), self));
                }
            }
        }
        None
    }
}

/// The folders of a local directory whose entries are known to be durable.
///
/// `LocalFileSystem` syncs the folders it creates, but a second upload that finds a folder just made by a first one
/// would return before the first has synced its parent. So folders are made here, one at a time, before the upload.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    durable: Mutex<VecDeque<String>>,
}

impl Folders {
    async fn prepare(self: &Arc<Self>, folder: String) -> Result<(), ObjectError> {
        let folders = Arc::clone(self);
        if folders.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&folder) {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || folders.make_durable(folder)).await.map_err(|join| ObjectError::Folder(join.into()))?
    }

    fn make_durable(&self, folder: String) -> Result<(), ObjectError> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(&folder) {
            return Ok(());
        }
        let path = self.root.join(&folder);
        std::fs::create_dir_all(&path).map_err(ObjectError::Folder)?;
        for made in path.ancestors().take_while(|made| made.starts_with(&self.root)) {
            std::fs::File::open(made).and_then(|made| made.sync_all()).map_err(ObjectError::Folder)?;
        }
        if durable.len() == FOLDERS_REMEMBERED {
            durable.pop_front();
        }
        durable.push_back(folder);
        Ok(())
    }

    /// `object_store` stages an upload as `<name>#<number>` beside its place.
    fn remove_unfinished(&self, folder: &str, untouched_since: Timestamp) -> std::io::Result<usize> {
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let staged = name.to_str().and_then(|name| name.rsplit_once('#')).is_some_and(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
            let old = Timestamp::try_from(entry.metadata()?.modified()?).is_ok_and(|modified| modified < untouched_since);
            if staged && old {
                std::fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn failed(doing: &'static str) -> impl Fn(object_store::Error) -> ObjectError {
    move |source| ObjectError::Storage { doing, source }
}

fn unwrap_io(error: std::io::Error) -> object_store::Error {
    match error.downcast::<object_store::Error>() {
        Ok(source) => source,
        Err(error) => object_store::Error::Generic { store: "objects", source: Box::new(error) },
    }
}

/// Bytes of one part of an upload; also the size up to which an object is one plain put.
pub const PART_BYTES: usize = 256 * 1024;
/// Parts that may be on their way to the storage at once, per object.
pub const PARTS_IN_FLIGHT: usize = 2;
/// A folder serves 65.5 s of new keys; slow uploads keep older ones in use.
const FOLDERS_REMEMBERED: usize = 64;

#[cfg(test)]
mod contract;

//! From the first byte to the answer.
//!
//! The order of a commit (profile 01 §2): bytes written → digest known → is it a repeated hand-over? → R1 signed in its
//! place in the chain → record and R1 into the reserved area → fdatasync → folder synced → receipt settled, row in the
//! index → `Ok`. All blocking parts run off the async threads; what has begun is finished even if the caller is gone.

use super::super::disk::DiskFile;
use super::super::journal::Event;
use super::super::object_file::{self, Head};
use super::super::record::{Announced, Entry, Facts, Progress, Record, SpoolId, State};
use super::super::{Committed, SpoolError, Writer, disk_error};
use super::folders::Folder;
use super::hop::Started;
use super::{Bytes3, Shared, Unsettled, lock};
use async_trait::async_trait;
use idr_profile::digest::{Digest, Digester};
use idr_profile::receipt::{Carried, Object, ReceiptHash, Source, Statement};
use jiff::{Timestamp, Unit};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Bytes gathered before they are written; a writer has at most one buffer filling and one on its way to the disk. An image of
/// 512 × 512 × 16 bits with its header is one.
pub const CHUNK_BYTES: usize = 576 << 10;
/// An object that is longer has its file made, and the name synced, while its bytes come; one that is not is written in one
/// go at its commit, because changing threads costs more than the waiting that it saves.
const EARLY_BYTES: usize = 96 << 10;

/// Writes one object.
pub struct FileWriter {
    shared: Arc<Shared>,
    /// None while a write that failed to come back took it along.
    work: Option<Started<Work>>,
    /// The file is made, or on its way.
    begun: bool,
    buffer: Vec<u8>,
    digester: Digester,
    size_bytes: u64,
}

/// What moves between the writer and the blocking threads.
struct Work {
    place: Place,
    head: Head,
    file: Option<Arc<dyn DiskFile>>,
    size_bytes: u64,
    failed: Option<SpoolError>,
}

/// The name of an object that is not accepted yet. Dropped, its file has to go.
struct Place {
    shared: Arc<Shared>,
    id: SpoolId,
    announced: Announced,
    /// Its folder and number there, once the file is made.
    named: Option<(Arc<Folder>, u64)>,
    kept: bool,
}

impl FileWriter {
    pub(super) fn new(shared: Arc<Shared>, announced: Announced) -> Self {
        let id = shared.name(&announced.tenant);
        let digester = Digester::new(&announced.transfer_syntax_uid);
        let work = Work {
            head: object_file::head(&announced),
            place: Place { shared: Arc::clone(&shared), id, announced, named: None, kept: false },
            file: None,
            size_bytes: 0,
            failed: None,
        };
        let buffer = shared.buffers.take();
        Self { shared, work: Some(Started::Done(work)), begun: false, buffer, digester, size_bytes: 0 }
    }

    /// Has the file made while more bytes come.
    fn begin(&mut self) {
        self.begun = true;
        if let Some(Started::Done(work)) = self.work.take() {
            self.work = Some(self.shared.hop.start(move || work.begin()));
        }
    }

    async fn flush(&mut self) -> Result<(), SpoolError> {
        let work = self.work.take().ok_or(SpoolError::Stopped)?.wait().await?;
        if let Some(error) = &work.failed {
            let error = error.clone();
            self.work = Some(Started::Done(work));
            return Err(error);
        }
        let mut next = self.shared.buffers.take();
        next.reserve_exact(CHUNK_BYTES);
        let bytes = std::mem::replace(&mut self.buffer, next);
        self.work = Some(self.shared.hop.start(move || work.write(bytes, true)));
        Ok(())
    }
}

#[async_trait]
impl Writer for FileWriter {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), SpoolError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.buffer.len()));
            // Here and not with the writing: the bytes are at hand, and when the last has come only the disk is waited for.
            self.digester.update(now);
            self.buffer.extend_from_slice(now);
            self.size_bytes += now.len() as u64;
            bytes = later;
            if !self.begun && self.buffer.len() > EARLY_BYTES {
                self.begin();
                self.buffer.reserve_exact(CHUNK_BYTES - self.buffer.len());
            }
            if self.buffer.len() == CHUNK_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn commit(mut self: Box<Self>, facts: Facts) -> Result<Committed, SpoolError> {
        facts.check()?;
        let work = self.work.take().ok_or(SpoolError::Stopped)?.wait().await?;
        let (rest, digest) = (std::mem::take(&mut self.buffer), self.digester.finish());
        let mut step = self.shared.hop.run(move || work.finish(rest, digest, facts)?.commit()).await??;
        loop {
            match step {
                Step::Done(committed) => return Ok(committed),
                Step::Wait(finished, mut first) => {
                    // The first of two equal hand-overs is on its way: it ends, whichever way, by dropping its sender.
                    let _ = first.changed().await;
                    step = self.shared.hop.run(move || finished.commit()).await??;
                }
            }
        }
    }

    async fn discard(mut self: Box<Self>) {
        self.shared.buffers.give(std::mem::take(&mut self.buffer));
        if let Some(work) = self.work.take() {
            // The place goes back when the work is dropped, here or on its thread.
            drop(work.wait().await);
        }
    }
}

impl Work {
    /// Makes the file, and has its name synced while the bytes come.
    fn begin(mut self) -> Self {
        self.make();
        if let Some((folder, number)) = self.place.named.clone() {
            let disk = Arc::clone(&self.place.shared.disk);
            // Its outcome is asked for at the commit.
            drop(self.place.shared.hop.start(move || folder.sync(&*disk, number)));
        }
        self
    }

    fn make(&mut self) {
        self.failed = self.try_make().err().map(|error| self.place.shared.disk_failed(error));
    }

    fn try_make(&mut self) -> Result<(), SpoolError> {
        let shared = Arc::clone(&self.place.shared);
        let doing = disk_error("making an object file");
        let folder = object_file::folder(&self.place.announced, self.place.id);
        let folder = shared.folders.folder(&*shared.disk, &folder).map_err(&doing)?;
        let file = shared.disk.create(&self.place.path()).map_err(&doing)?;
        let number = folder.made();
        self.place.named = Some((Arc::clone(&folder), number));
        file.write_at(0, &self.head.bytes).map_err(&doing)?;
        self.file = Some(file);
        Ok(())
    }

    /// `more`: other bytes will come, and the disk may have these meanwhile.
    fn write(mut self, bytes: Vec<u8>, more: bool) -> Self {
        if self.failed.is_none() {
            let at = self.head.data_at() + self.size_bytes;
            let written = self.file.as_ref().map_or(Ok(()), |file| {
                file.write_at(at, &bytes)?;
                if more {
                    file.write_back(at, bytes.len() as u64);
                }
                Ok(())
            });
            self.size_bytes += bytes.len() as u64;
            let shared = &self.place.shared;
            shared.health.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if let Some(Unsettled::Receiving { bytes: so_far, .. }) = lock(&shared.flight).unsettled.get_mut(&self.place.id) {
                *so_far = self.size_bytes;
            }
            self.failed = written.err().map(|error| shared.disk_failed(disk_error("writing an object file")(error)));
        }
        self.place.shared.buffers.give(bytes);
        self
    }

    fn finish(mut self, rest: Vec<u8>, digest: Digest, facts: Facts) -> Result<Finished, SpoolError> {
        if self.file.is_none() && self.failed.is_none() {
            self.make();
        }
        let work = if rest.is_empty() { self } else { self.write(rest, false) };
        if let Some(error) = work.failed {
            return Err(error);
        }
        let file = work.file.ok_or(SpoolError::Stopped)?;
        Ok(Finished { place: work.place, area_at: work.head.area_at, file, digest, size_bytes: work.size_bytes, facts })
    }
}

/// All bytes are written, nothing is synced.
struct Finished {
    place: Place,
    area_at: u64,
    file: Arc<dyn DiskFile>,
    digest: Digest,
    size_bytes: u64,
    facts: Facts,
}

enum Step {
    Done(Committed),
    /// Another hand-over of the same bytes is being committed.
    Wait(Box<Finished>, watch::Receiver<()>),
}

impl Finished {
    fn commit(self) -> Result<Step, SpoolError> {
        let shared = Arc::clone(&self.place.shared);
        if let Some(refusal) = shared.refusing_all() {
            return Err(SpoolError::Refused(refusal));
        }
        let announced = &self.place.announced;
        let key = (announced.tenant.clone(), announced.sop_instance_uid.clone(), self.digest);
        let _committing = match Committing::begin(&shared, key) {
            Ok(committing) => committing,
            Err(first) => return Ok(Step::Wait(Box::new(self), first)),
        };
        let held = shared.catalog.holder(&announced.tenant, &announced.sop_instance_uid, &self.digest);
        let committed = match held.inspect_err(|error| shared.index_failed(error))? {
            Some(first) => self.commit_repeated(&first)?,
            None => self.commit_first()?,
        };
        Ok(Step::Done(committed))
    }

    fn record(&self, first_r1: Option<ReceiptHash>) -> Record {
        Record {
            id: self.place.id,
            size_bytes: self.size_bytes,
            digest: self.digest,
            first_r1,
            announced: self.place.announced.clone(),
            facts: Facts { received: millisecond(self.facts.received), ..self.facts.clone() },
        }
    }

    fn commit_first(mut self) -> Result<Committed, SpoolError> {
        let shared = Arc::clone(&self.place.shared);
        let record = self.record(None);
        // Asked before a receipt is made: one that fails afterwards would break the chain.
        object_file::seal(&record, None)?;
        let statement = Statement::Acceptance { object: object(&record), source: source(&record.announced) };
        let r1 = shared.receipts.issue(statement, record.facts.received)?;
        let mut issued = Issued { finished: &mut self, hash: r1.hash(), durable: false };
        issued.finished.make_durable(&record, Some(&r1))?;
        issued.durable = true;
        drop(issued);
        self.accept(record, r1.hash(), Unsettled::Owes(r1.hash()));
        Ok(Committed { id: self.place.id, digest: self.digest, r1: r1.hash(), repeated: false })
    }

    /// The same bytes were handed over before: the file names the first one's R1 and has none of its own.
    fn commit_repeated(mut self, first: &Entry) -> Result<Committed, SpoolError> {
        let record = self.record(Some(first.r1));
        if let Err(error) = self.make_durable(&record, None) {
            self.place.fail();
            return Err(error);
        }
        let (id, digest, r1) = (self.place.id, self.digest, first.r1);
        if first.progress.state == State::Released {
            // The first file is given up: there is nothing to collapse into, and these bytes are held again.
            self.accept(record, r1, Unsettled::Owes(r1));
            return Ok(Committed { id, digest, r1, repeated: true });
        }
        let line =
            Event::Repeated { id, first: first.id(), r1, announced: Box::new(record.announced.clone()), received: record.facts.received };
        let path = self.place.path();
        self.place.kept = true;
        self.place.shared.unsettled(id, Unsettled::Repeat(Box::new(line), path));
        Ok(Committed { id: first.id(), digest, r1, repeated: true })
    }

    fn make_durable(&self, record: &Record, r1: Option<&Carried>) -> Result<(), SpoolError> {
        let shared = &self.place.shared;
        let area = object_file::seal(record, r1)?;
        let (folder, number) = self.place.named.as_ref().ok_or(SpoolError::Stopped)?;
        let synced =
            self.file.write_at(self.area_at, &area).and_then(|()| self.file.sync_data()).and_then(|()| folder.sync(&*shared.disk, *number));
        synced.map_err(|error| shared.disk_failed(disk_error("syncing an object file")(error)))
    }

    fn accept(&mut self, record: Record, r1: ReceiptHash, then: Unsettled) {
        let shared = Arc::clone(&self.place.shared);
        let progress = Progress::begin(&record);
        let id = record.id;
        if let Err(error) = shared.catalog.add(&Entry { record, r1, progress }) {
            // The object is durable with its receipt, and the answer is success; the rows are made again from the files.
            shared.index_failed(&error);
        }
        self.place.kept = true;
        shared.unsettled(id, then);
    }
}

fn millisecond(at: Timestamp) -> Timestamp {
    at.round(jiff::TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor)).unwrap_or(at)
}

/// The object of a receipt.
pub(in super::super) fn object(record: &Record) -> Object {
    Object {
        sop_instance_uid: record.announced.sop_instance_uid.clone(),
        sop_class_uid: record.announced.sop_class_uid.clone(),
        study_uid: record.facts.study_uid.clone(),
        transfer_syntax_uid: record.announced.transfer_syntax_uid.clone(),
        digest: record.digest,
        size_bytes: record.size_bytes,
    }
}

/// The source of a receipt.
pub(in super::super) fn source(announced: &Announced) -> Source {
    let certificate = announced.tls_peer_sha256.as_ref().and_then(|text| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).is_ok().then_some(bytes)
    });
    Source { calling_ae_title: Some(announced.calling_ae.clone()), certificate_sha256: certificate }
}

/// An issued R1 whose object is not durable yet; whatever happens, the chain is told.
struct Issued<'a> {
    finished: &'a mut Finished,
    hash: ReceiptHash,
    durable: bool,
}

impl Drop for Issued<'_> {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.finished.place.shared);
        if !self.durable {
            // The file may hold a valid record and receipt: it must be gone before the chain goes on, and nothing is
            // accepted until then.
            shared.health.disk_failed.store(true, Ordering::SeqCst);
            self.finished.place.fail();
        }
        shared.receipts.settle(&self.hash, self.durable);
    }
}

/// The right to commit these bytes as the first; dropping it tells those who wait.
struct Committing<'a> {
    shared: &'a Shared,
    key: Bytes3,
    _end: watch::Sender<()>,
}

impl<'a> Committing<'a> {
    fn begin(shared: &'a Shared, key: Bytes3) -> Result<Self, watch::Receiver<()>> {
        let mut committing = lock(&shared.committing);
        if let Some(first) = committing.get(&key) {
            return Err(first.clone());
        }
        let (end, first) = watch::channel(());
        committing.insert(key.clone(), first);
        drop(committing);
        Ok(Self { shared, key, _end: end })
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        lock(&self.shared.committing).remove(&self.key);
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        object_file::path(&self.announced, self.id)
    }

    /// The file has to go, at the next chores.
    fn fail(&mut self) {
        self.kept = true;
        self.shared.unsettled(self.id, Unsettled::Leftover(self.path()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.fail();
        }
    }
}

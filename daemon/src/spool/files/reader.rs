//! The bytes of an object on their way out.

use super::super::disk::DiskFile;
use super::super::object_file::{self, Content, HEAD_BYTES_MAX, Sealed};
use super::super::record::{Record, SpoolId, State};
use super::super::{SpoolError, Stored, disk_error};
use super::{Hop, Shared};
use async_trait::async_trait;
use bytes::Bytes;
use idr_profile::digest::Digester;
use idr_profile::receipt::Carried;
use std::sync::Arc;

/// What is altered where nothing stands.
pub(super) const BEHIND_RECORD: &str = "what stands behind its record was altered";
/// Bytes given at once.
const READ_BYTES: usize = 256 << 10;

pub struct FileStored {
    sealed: Sealed,
    hop: Hop,
    /// None after an error.
    rest: Option<Rest>,
}

struct Rest {
    id: SpoolId,
    file: Arc<dyn DiskFile>,
    at: u64,
    left: u64,
    digester: Digester,
}

impl FileStored {
    pub(super) fn open(shared: &Shared, id: SpoolId) -> Result<Self, SpoolError> {
        let entry = shared.catalog.entry(id)?.filter(|entry| entry.progress.state != State::Released).ok_or(SpoolError::Unknown(id))?;
        let doing = disk_error("reading an object file");
        let file = match shared.disk.open(&object_file::path(&entry.record.announced, id)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(SpoolError::Damaged { id, what: "its file is gone" }),
            other => other.map_err(&doing)?,
        };
        let mut head = vec![0; HEAD_BYTES_MAX];
        let read = file.read_at(0, &mut head).map_err(&doing)?;
        let (sealed, data_at) = match object_file::read_head(id, &head[..read]) {
            Content::Sealed(sealed, data_at) if sealed.record == entry.record => (*sealed, data_at),
            Content::Sealed(..) => return Err(SpoolError::Damaged { id, what: "its record is not the one that was accepted" }),
            Content::Damaged(what) => return Err(SpoolError::Damaged { id, what }),
            Content::Unfinished => return Err(SpoolError::Damaged { id, what: "its record is gone" }),
        };
        if let Some(what) = verify_length(&*file, &sealed.record, data_at).map_err(&doing)? {
            return Err(SpoolError::Damaged { id, what });
        }
        let digester = Digester::new(&sealed.record.announced.transfer_syntax_uid);
        let rest = Rest { id, file, at: data_at, left: sealed.record.size_bytes, digester };
        Ok(Self { sealed, hop: shared.hop, rest: Some(rest) })
    }

    /// As [`Self::open`], and the data set comes from the medium; nothing that nobody wrote stands in the file.
    pub(super) fn open_from_medium(shared: &Shared, id: SpoolId) -> Result<Self, SpoolError> {
        let stored = Self::open(shared, id)?;
        if let Some(rest) = &stored.rest {
            rest.file.forget_cached();
            let mut head = vec![0; HEAD_BYTES_MAX];
            let read = rest.file.read_at(0, &mut head).map_err(disk_error("reading an object file"))?;
            if !object_file::rest_is_zero(&head[..read]) {
                return Err(SpoolError::Damaged { id, what: BEHIND_RECORD });
            }
        }
        Ok(stored)
    }
}

#[async_trait]
impl Stored for FileStored {
    fn record(&self) -> &Record {
        &self.sealed.record
    }

    fn r1(&self) -> Option<&Carried> {
        self.sealed.r1.as_ref()
    }

    fn head(&self) -> Bytes {
        object_file::plain_head(&self.sealed.record.announced).into()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        let Some(rest) = self.rest.take() else { return Ok(None) };
        let digest = self.sealed.record.digest;
        let (rest, bytes) = self.hop.run(move || rest.read(digest)).await??;
        self.rest = rest;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Rest {
    /// The next bytes, and what is left after them; the last ones only if the whole has its digest.
    fn read(mut self, digest: idr_profile::digest::Digest) -> Result<(Option<Self>, Bytes), SpoolError> {
        let want = usize::try_from(self.left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut bytes = vec![0; want];
        let read = self.file.read_at(self.at, &mut bytes).map_err(disk_error("reading an object file"))?;
        if read < want {
            return Err(SpoolError::Damaged { id: self.id, what: "its file is shorter than its record says" });
        }
        self.digester.update(&bytes);
        self.at += want as u64;
        self.left -= want as u64;
        if self.left > 0 {
            return Ok((Some(self), bytes.into()));
        }
        match self.digester.finish() == digest {
            true => Ok((None, bytes.into())),
            false => Err(SpoolError::Damaged { id: self.id, what: "its data set does not have its digest" }),
        }
    }
}

/// Whether the data set of a file has the length and digest of its record; says what does not hold.
pub(super) fn verify(file: &dyn DiskFile, record: &Record, data_at: u64) -> Result<Option<&'static str>, std::io::Error> {
    if let Some(what) = verify_length(file, record, data_at)? {
        return Ok(Some(what));
    }
    let mut digester = Digester::new(&record.announced.transfer_syntax_uid);
    let mut buffer = vec![0; READ_BYTES];
    let (mut at, end) = (data_at, data_at + record.size_bytes);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        let read = file.read_at(at, &mut buffer[..want])?;
        if read == 0 {
            return Ok(Some("its file is shorter than its record says"));
        }
        digester.update(&buffer[..read]);
        at += read as u64;
    }
    Ok((digester.finish() != record.digest).then_some("its data set does not have its digest"))
}

/// Whether a file is as long as its record says.
pub(super) fn verify_length(file: &dyn DiskFile, record: &Record, data_at: u64) -> Result<Option<&'static str>, std::io::Error> {
    Ok((file.length()? != data_at + record.size_bytes).then_some("its file does not have the length that its record says"))
}

//! Is everything as it should be? Looks only, changes nothing.

use super::super::SpoolError;
use super::super::disk_error;
use super::super::object_file::{self, Content, HEAD_BYTES_MAX};
use super::super::record::{Entry, SpoolId, State};
use super::headers;
use super::listing::Listing;
use super::reader::{BEHIND_RECORD, verify, verify_length};
use super::{FileSpool, Shared, lock};
use idr_profile::receipt::ReceiptHash;
use std::collections::HashMap;

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The object has no file.
    Gone,
    /// It was released and its elements were not kept: a later manifest of its study cannot describe it.
    HeaderGone,
    /// Its file does not hold; the text says what.
    Damaged(&'static str),
    /// The index shows another record or receipt than the file.
    Index,
    /// Its file is there and the index does not know it.
    Unindexed,
    /// Its R1 does not stand in the receipt log.
    Unlogged,
    /// Another object has the same R1: this one must be the later of two that name it.
    SharedReceipt(SpoolId),
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which object.
    pub id: SpoolId,
    /// What does not hold.
    pub fault: Fault,
}

impl FileSpool {
    /// Compares every object with its file and its R1 with the log; `deep` also reads all bytes and computes digests.
    /// Runs beside normal work; objects that move meanwhile may be missed but give no finding. Blocks.
    ///
    /// # Errors
    /// [`SpoolError`] when looking itself fails.
    pub fn fsck(&self, deep: bool) -> Result<Vec<Finding>, SpoolError> {
        let shared = &*self.shared;
        let mut findings = Vec::new();
        let mut seen: HashMap<ReceiptHash, SpoolId> = HashMap::new();
        let mut from = SpoolId(0);
        loop {
            let page = shared.catalog.all(from, 500)?;
            let Some(last) = page.last() else { break };
            from = SpoolId(last.id().0 + 1);
            for entry in page {
                if entry.progress.state == State::Released {
                    let fault = match headers::read(&*shared.disk, entry.id()) {
                        Ok(Some(_)) => None,
                        Ok(None) => Some(Fault::HeaderGone),
                        Err(SpoolError::Damaged { what, .. }) => Some(Fault::Damaged(what)),
                        Err(error) => return Err(error),
                    };
                    findings.extend(fault.map(|fault| Finding { id: entry.id(), fault }));
                    continue;
                }
                let mut faults: Vec<_> = shared.check(&entry, deep)?.into_iter().collect();
                faults.extend(seen.insert(entry.r1, entry.id()).map(Fault::SharedReceipt));
                if shared.receipts.by_hash(&entry.r1)?.is_none() && !shared.receipts.owes(&entry.r1) {
                    faults.push(Fault::Unlogged);
                }
                findings.extend(faults.into_iter().map(|fault| Finding { id: entry.id(), fault }));
            }
        }
        let files = Listing::read(&*shared.disk).map_err(disk_error("listing object files"))?;
        for (id, path) in files.from(SpoolId(0)) {
            if shared.catalog.entry(id)?.is_none() && !lock(&shared.flight).unsettled.contains_key(&id) && shared.disk.open(&path).is_ok() {
                findings.push(Finding { id, fault: Fault::Unindexed });
            }
        }
        Ok(findings)
    }
}

impl Shared {
    fn check(&self, entry: &Entry, deep: bool) -> Result<Option<Fault>, SpoolError> {
        let id = entry.id();
        let doing = disk_error("reading an object file");
        let file = match self.disk.open(&object_file::path(&entry.record.announced, id)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Released since the page was read?
                let now = self.catalog.entry(id)?;
                let gone = now.is_some_and(|now| now.progress.state != State::Released) && !lock(&self.flight).unsettled.contains_key(&id);
                return Ok(gone.then_some(Fault::Gone));
            }
            other => other.map_err(&doing)?,
        };
        let mut head = vec![0; HEAD_BYTES_MAX];
        let read = file.read_at(0, &mut head).map_err(&doing)?;
        let (sealed, data_at) = match object_file::read_head(id, &head[..read]) {
            Content::Sealed(sealed, data_at) => (*sealed, data_at),
            Content::Damaged(what) => return Ok(Some(Fault::Damaged(what))),
            Content::Unfinished => return Ok(Some(Fault::Damaged("its record is gone"))),
        };
        let r1 = sealed.r1.as_ref().map(idr_profile::receipt::Carried::hash).or(sealed.record.first_r1);
        if sealed.record != entry.record || r1 != Some(entry.r1) {
            return Ok(Some(Fault::Index));
        }
        if deep && !object_file::rest_is_zero(&head[..read]) {
            return Ok(Some(Fault::Damaged(BEHIND_RECORD)));
        }
        let fault = if deep { verify(&*file, &sealed.record, data_at) } else { verify_length(&*file, &sealed.record, data_at) };
        Ok(fault.map_err(&doing)?.map(Fault::Damaged))
    }
}

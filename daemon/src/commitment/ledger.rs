//! Requests that were taken and are not reported: one file each, below the state folder.
//!
//! # On disk
//! `commitments/<16 hex digits>.json`, named by a counter of ours; made whole under another name, synced, renamed. A file
//! goes when its report was taken. One that comes back after a power cut is reported once more, which changes nothing for
//! the device.
//!
//! # Failure
//! As [`crate::ledger`] says. A file that cannot be read at a start is told and left where
//! it is: its device gets no report and keeps its copy.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ledger::Kept;
use crate::spool::Tenant;

/// The folder of the requests.
pub type Ledger = crate::ledger::Ledger<Request>;

/// Format of the files; a number we do not know is not read.
const FORMAT: u32 = 1;

impl Kept for Request {
    const FOLDER: &'static str = "commitments";
    const FORMAT: u32 = FORMAT;
    const UNREADABLE: &'static str = "a request for storage commitment cannot be read; its device gets no report";

    fn format(&self) -> u32 {
        self.format
    }
}

/// What a device asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`FORMAT`].
    format: u32,
    /// Organisation of the inbound row.
    pub tenant: Tenant,
    /// Name of the inbound row that asked.
    pub inbound: String,
    /// Its AE title.
    pub calling_ae: String,
    /// The AE title that it called: we report under it.
    pub called_ae: String,
    /// When it asked.
    pub received: Timestamp,
    /// Transaction UID (0008,1195).
    pub transaction_uid: String,
    /// SOP class and SOP instance of each reference, in the order listed.
    pub references: Vec<(String, String)>,
}

impl Request {
    /// A request in the present format.
    pub fn new(
        tenant: Tenant,
        inbound: String,
        (calling_ae, called_ae): (String, String),
        received: Timestamp,
        transaction_uid: String,
        references: Vec<(String, String)>,
    ) -> Self {
        Self { format: FORMAT, tenant, inbound, calling_ae, called_ae, received, transaction_uid, references }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use super::*;
    use crate::spool::disk::{Disk as _, MemoryDisk};
    use crate::spool::sample::{at, tenant};

    fn path(id: u64) -> PathBuf {
        Path::new(Request::FOLDER).join(format!("{id:016x}.json"))
    }

    fn request(n: usize) -> Request {
        let references = vec![("1.2.840.10008.5.1.4.1.1.2".to_owned(), format!("1.2.{n}")); 100];
        Request::new(tenant(), "ct-1".to_owned(), ("CT1".to_owned(), "IDRSITE".to_owned()), at(1), format!("1.9.{n}"), references)
    }

    #[test]
    fn what_write_returned_ok_for_is_read_after_a_power_cut_at_every_step() {
        for cut in 1.. {
            let disk = MemoryDisk::default();
            disk.cut_power_at(cut);
            let mut kept = Vec::new();
            if let Ok((ledger, ..)) = Ledger::open(Arc::new(disk.clone())) {
                for n in 0..3 {
                    if ledger.write(n, &request(n as usize)).is_ok() {
                        kept.push((n, request(n as usize)));
                    }
                }
            }
            let done = !disk.is_dead();
            let (_, found, _) = Ledger::open(Arc::new(disk.power_cut(cut))).expect("a working disk");
            assert!(found.starts_with(&kept), "cut at {cut}: {} of {}", found.len(), kept.len());
            if done {
                return;
            }
        }
    }

    #[test]
    fn what_is_removed_is_gone_and_what_cannot_be_read_is_passed_over() {
        let disk = MemoryDisk::default();
        let (ledger, found, _) = Ledger::open(Arc::new(disk.clone())).expect("a working disk");
        assert_eq!(found, []);
        for n in 0..3 {
            ledger.write(n, &request(n as usize)).expect("a working disk");
        }
        ledger.remove(0).expect("there");
        assert!(disk.rot(&path(1), 0));
        let (_, found, next) = Ledger::open(Arc::new(disk.clone())).expect("a working disk");
        assert_eq!((found, next), (vec![(2, request(2))], 3));
        disk.remove(&path(2)).expect("there");
        let (_, found, next) = Ledger::open(Arc::new(disk)).expect("a working disk");
        assert_eq!((found, next), (Vec::new(), 2), "what cannot be read is not written over");
    }
}

//! An object that is held here, under rules that it was not received under: what they would have said.
//!
//! It is judged as it came: the same source, the same receive time, the inbound row of its name as it is configured now.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use idr_profile::rules::{Context, Rules, Source, Verdict};
use idr_profile::scan::{Scan, Scanner};

use crate::config::{Config, Inbound};
use crate::spool::object_file::{Content, HEAD_BYTES_MAX, Sealed, read_head};
use crate::spool::{Record, SpoolId};

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// A walk over the data set of an object; feed it every byte.
pub fn scanner(record: &Record, rules: &Rules) -> Scanner {
    Scanner::new(&record.announced.transfer_syntax_uid, rules.parameters().limits())
}

/// What the rules say of an object.
pub fn verdict(scan: &Scan, record: &Record, rules: &Rules, config: &Config, organisation_oids: &[String]) -> Verdict {
    rules.judge_instance(scan, &context(record, config, organisation_oids))
}

/// How an object came. A row that is configured no more adds nothing of its own.
pub fn context<'a>(record: &'a Record, config: &'a Config, organisation_oids: &'a [String]) -> Context<'a> {
    let announced = &record.announced;
    let row: Option<&Inbound> = config.inbound.iter().find(|row| row.name == announced.inbound);
    let source = match announced.peer_address {
        None => Source::DropFolder,
        Some(_) => Source::Dimse {
            affected_class: &announced.sop_class_uid,
            affected_instance: &announced.sop_instance_uid,
            abstract_syntax: &announced.sop_class_uid,
        },
    };
    Context {
        received: record.facts.received,
        source,
        patient_id_issuer: row.and_then(|row| row.patient_id_issuer.as_deref()),
        accession_issuer: row.and_then(|row| row.accession_issuer.as_deref()),
        refuse_to_quarantine: row.is_some_and(|row| row.refuse_to_quarantine),
        organisation_oids,
    }
}

/// An accepted object, its file at the beginning of the data set; `None` if it is unfinished or gone meanwhile.
///
/// # Errors
/// The disk; a file that does not hold what was accepted.
pub fn open(path: &Path, id: SpoolId) -> anyhow::Result<Option<(Sealed, File)>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    file.by_ref().take(HEAD_BYTES_MAX as u64).read_to_end(&mut head)?;
    match read_head(id, &head) {
        Content::Unfinished => Ok(None),
        Content::Damaged(what) => anyhow::bail!("{what}; run `idr-site fsck`"),
        Content::Sealed(sealed, data_at) => {
            file.seek(SeekFrom::Start(data_at))?;
            Ok(Some((*sealed, file)))
        }
    }
}

/// Every byte of a data set, in pieces.
///
/// # Errors
/// The disk; a file that is shorter than its record says.
pub fn feed(mut data: File, size_bytes: u64, each: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut left = size_bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        data.read_exact(&mut buffer[..want])?;
        each(&buffer[..want]);
        left -= want as u64;
    }
    Ok(())
}

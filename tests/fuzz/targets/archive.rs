//! A ZIP archive of a drop folder, read by the site's own reader into part 10 readers (10 BD-22).
#![no_main]

// The site's file itself: the whole site built with the fuzzer's flags takes minutes.
#[path = "../../../daemon/src/drop_folder/archive.rs"]
mod archive;

use std::cell::Cell;
use std::io::{Cursor, Write as _};
use std::rc::Rc;

use archive::{Object, REFUSED_MAX, Unpacked, Why};
use idr_fuzz::dicom::{DEFLATED, EXPLICIT, deflate, explicit, image, part10};
use idr_fuzz::seeds;
use idr_profile::rules::Finding;
use idr_profile::scan::{Limits, Part10Reader};
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const DICOMDIR: &str = "1.2.840.10008.1.3.10";
/// Of one entry; an input of 16 KiB unpacks to more.
const ENTRY_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let _ = archive::is_zip(data);
    let whole = Seen::default();
    let read = take(data, &whole, u64::MAX);
    assert_eq!(whole.open.get(), 0, "an object was neither concluded nor given back");
    assert!(whole.most.get() <= ENTRY_BYTES_MAX, "an entry gave more than it may");
    let Ok(read) = read else { return };
    assert_eq!(read.kept, whole.concluded.get());
    assert!(read.reasons.len() <= REFUSED_MAX && read.reasons.len() as u64 <= read.refused && !read.unfinished);
    for refused in &read.reasons {
        if let Why::Rules(findings) = &refused.why {
            panic!("no rule was asked for {:?}: {findings:?}", refused.name);
        }
    }

    // Stopped in the middle it says that it did not end, and has kept no more.
    let half = Seen::default();
    let stopped = take(data, &half, 2).expect("it could be read");
    assert!(stopped.kept <= read.kept && half.open.get() == 0);
});

/// What was seen of all objects.
#[derive(Default)]
struct Seen {
    open: Rc<Cell<i64>>,
    concluded: Rc<Cell<u64>>,
    most: Rc<Cell<u64>>,
}

/// A part 10 reader in the place of a reception.
struct Reading {
    reader: Part10Reader,
    bytes: u64,
    open: Rc<Cell<i64>>,
    concluded: Rc<Cell<u64>>,
    most: Rc<Cell<u64>>,
}

impl Object for Reading {
    fn feed(&mut self, bytes: &[u8]) -> bool {
        self.bytes += bytes.len() as u64;
        self.most.set(self.most.get().max(self.bytes));
        let _ = self.reader.feed(bytes);
        self.reader.file_meta().is_some_and(|meta| meta.data_set().uid(idr_profile::scan::tags::MEDIA_STORAGE_SOP_CLASS_UID) == Some(DICOMDIR))
    }

    fn give_back(self) {
        self.open.set(self.open.get() - 1);
    }

    fn conclude(self) -> Result<bool, Vec<Finding>> {
        self.open.set(self.open.get() - 1);
        self.concluded.set(self.concluded.get() + 1);
        let _ = self.reader.finish();
        Ok(true)
    }
}

fn take(data: &[u8], seen: &Seen, looks: u64) -> Result<Unpacked, &'static str> {
    let left = Cell::new(looks);
    let begin = || {
        seen.open.set(seen.open.get() + 1);
        let (open, concluded, most) = (seen.open.clone(), seen.concluded.clone(), seen.most.clone());
        Reading { reader: Part10Reader::new(Limits::default()), bytes: 0, open, concluded, most }
    };
    archive::take(Cursor::new(data), begin, ENTRY_BYTES_MAX, || left.replace(left.get().saturating_sub(1)) == 0)
}

fn all() -> Vec<Vec<u8>> {
    let plain = part10(EXPLICIT, &image());
    let meta = [
        explicit((0x0002, 0x0002), b"UI", format!("{DICOMDIR}\0").as_bytes()),
        explicit((0x0002, 0x0010), b"UI", EXPLICIT.as_bytes()),
    ];
    let directory = [&[0; 128][..], b"DICM", &meta.concat(), &image()].concat();
    let packed = zip(CompressionMethod::Deflated, &[("IMAGES/IM1", &plain), ("DICOMDIR", &directory), ("README", b"text")]);
    let bomb = zip(CompressionMethod::Deflated, &[("A", &[&plain[..], &vec![0; 4 << 20]].concat())]);
    vec![
        zip(CompressionMethod::Stored, &[("IM1", &plain), ("IM2", &part10(DEFLATED, &deflate(&image())))]),
        zip(CompressionMethod::Stored, &[("BARE", &image()), ("INNER.ZIP", &packed)]),
        zip(CompressionMethod::Stored, &[]),
        [b"in front of it".to_vec(), packed.clone()].concat(),
        packed[..packed.len() / 2].to_vec(),
        packed,
        bomb,
    ]
}

fn zip(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).expect("an entry can be begun");
        writer.write_all(bytes).expect("an entry can be written");
    }
    writer.finish().expect("an archive can be ended").into_inner()
}

//! A DICOM file or STOW part: preamble, file meta, data set (PS3.10 §7.1). First byte: length of the pieces.
#![no_main]

use idr_fuzz::dicom::{CT, DEFLATED, EXPLICIT, IMPLICIT, JPEG, deflate, encapsulated, explicit, image, implicit_image, part10};
use idr_fuzz::{pieces, seed, seeds, split};
use idr_profile::scan::{Limits, Part10Reader, Scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(all), |data: &[u8]| {
    let (length, data) = split(data);
    let whole = read([data].into_iter());
    let cut = read(pieces(data, length));
    assert!(cut.0 == whole.0, "the cut changes which bytes are the data set");
    assert!(cut.1 == whole.1, "the cut changes the scan");
    assert_eq!(whole.1.data_set_bytes, whole.0.len() as u64);

    // The same file without its preamble's 128 bytes, which a fuzzer would have to keep alive.
    let front = [&[0; 128][..], b"DICM", data].concat();
    let _ = read(pieces(&front, length));
});

/// Bytes of the data set as handed out, and the scan.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Scan) {
    let mut reader = Part10Reader::new(Limits::default());
    let mut data_set = Vec::new();
    for piece in pieces {
        let fed = reader.feed(piece);
        data_set.extend(fed.carried);
        data_set.extend(fed.rest);
    }
    (data_set, reader.finish())
}

fn all() -> Vec<Vec<u8>> {
    let plain = part10(EXPLICIT, &image());
    let no_length = [
        &[0; 132][..128],
        b"DICM",
        &explicit((0x0002, 0x0002), b"UI", CT.as_bytes()),
        &explicit((0x0002, 0x0010), b"UI", EXPLICIT.as_bytes()),
        &image(),
    ]
    .concat();
    vec![
        seed(&[0], &plain),
        seed(&[5], &plain),
        // As the second half of the harness sees it.
        seed(&[1], &plain[132..]),
        seed(&[9], part10(IMPLICIT, &implicit_image())),
        seed(&[64], part10(JPEG, &encapsulated())),
        seed(&[3], part10(DEFLATED, &deflate(&image()))),
        seed(&[3], no_length),
    ]
}
